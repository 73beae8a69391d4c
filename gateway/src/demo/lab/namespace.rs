//! One network namespace, held by a thread of this process that lives inside it.

use std::fs::File;
use std::io;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::gettid;

/// Something the lab could not do, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} in namespace `{namespace}`: {source}")]
pub struct LabError {
    /// What was tried.
    pub action: String,
    /// The namespace's name.
    pub namespace: String,
    /// Why it failed.
    pub source: io::Error,
}

/// How long the kernel may take to answer one netlink conversation.
const NETLINK_TIMEOUT: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace of its own.
///
/// Its keeper thread is born into it and outlives every child process started through
/// [`command`](Self::command). Dropping the `Namespace` ends the keeper; the kernel removes the
/// namespace once nothing else uses it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    thread_id: i32,
    jobs: Option<mpsc::Sender<Job>>,
    keeper: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Makes an empty namespace with its loopback up. `name` is for messages only; the kernel
    /// never sees it. Needs `CAP_SYS_ADMIN` in the current user namespace.
    pub fn new(name: &str) -> Result<Self, LabError> {
        let fail = |source| LabError {
            action: "make a network namespace".into(),
            namespace: name.into(),
            source,
        };
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (born, birth) = mpsc::sync_channel(1);
        let keeper = thread::Builder::new()
            .name(format!("ns-{name}"))
            .spawn(move || {
                let made = unshare(CloneFlags::CLONE_NEWNET)
                    .map_err(io::Error::from)
                    .and_then(|()| File::open("/proc/thread-self/ns/net"));
                let alive = made.is_ok();
                if born.send(made.map(|file| (file, gettid().as_raw()))).is_ok() && alive {
                    inbox.iter().for_each(|job| job());
                }
            })
            .map_err(fail)?;
        let (file, thread_id) = birth
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread ended")))
            .map_err(fail)?;
        let namespace =
            Self { name: name.into(), file, thread_id, jobs: Some(jobs), keeper: Some(keeper) };
        namespace.bring_up("lo")?;
        Ok(namespace)
    }

    /// The name given to [`new`](Self::new).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of a thread inside the namespace: `nsenter -t ID -n` enters it.
    #[must_use]
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// The namespace's file, for netlink attributes that name a namespace.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Runs `work` on a fresh thread inside the namespace and waits for it. Sockets made by it stay
    /// in this namespace wherever they are used. A panic of `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .map_err(|source| self.fail("enter it", source))
    }

    /// Starts a thread inside the namespace; its own threads and children start there too.
    pub fn spawn<T: Send + 'static>(
        &self,
        thread_name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, LabError> {
        let builder = thread::Builder::new().name(thread_name.into());
        self.on_keeper(move || builder.spawn(work))
            .map_err(|source| self.fail("start a thread", source))
    }

    /// Starts a child process inside the namespace.
    pub fn command(&self, mut command: Command) -> Result<Child, LabError> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.on_keeper(move || command.spawn())
            .map_err(|source| self.fail(&format!("start {program}"), source))
    }

    /// Writes a setting of the namespace, such as `ipv4/ip_forward`, below `/proc/sys/net`. Fails
    /// where that tree is mounted read-only, as in many containers; nothing in this module needs it.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        self.run(|| std::fs::write(format!("/proc/sys/net/{key}"), value))?
            .map_err(|source| self.fail(&format!("set net/{key} to {value}"), source))
    }

    /// Holds one conversation with the namespace's rtnetlink; `action` says in the error what it
    /// was for.
    pub(super) fn netlink<T: Send>(
        &self,
        action: &str,
        talk: impl AsyncFnOnce(&rtnetlink::Handle) -> Result<T, rtnetlink::Error> + Send,
    ) -> Result<T, LabError> {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                tokio::spawn(connection);
                match tokio::time::timeout(NETLINK_TIMEOUT, talk(&handle)).await {
                    Ok(answer) => answer.map_err(into_io),
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            })
        })?
        .map_err(|source| self.fail(action, source))
    }

    pub(in crate::demo) fn fail(&self, action: &str, source: io::Error) -> LabError {
        LabError { action: action.into(), namespace: self.name.clone(), source }
    }

    fn on_keeper<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the namespace's thread ended");
        let (answer, result) = mpsc::sync_channel(1);
        let job = Box::new(move || drop(answer.send(work())));
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(keeper) = self.keeper.take() {
            // The keeper runs nothing but short jobs; one that panicked has already said so.
            drop(keeper.join());
        }
    }
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = &error {
        return message.to_io();
    }
    io::Error::other(error)
}
