//! The real gateway as a child process inside a namespace: started, awaited, asked, stopped.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;

use super::lab::Namespace;
use super::lab::probe::http_get;

/// How long the gateway may take until it is ready, and how long to stop.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer of the health endpoint.
const HTTP_LIMIT: u64 = 8 * 1024 * 1024;
/// Lines of the gateway's log that an error shows.
const LOG_TAIL: usize = 10;

/// The environment variable that tells a child which process it belongs to.
const OWNER: &str = "NVGATE_OWNER_PID";

/// Makes this process end with the one that started it as a [`GatewayProcess`], even if that is
/// killed; does nothing in any other process. For `nvgate run` to call first.
pub fn end_with_owner() -> nix::Result<()> {
    let Some(owner) = std::env::var_os(OWNER) else { return Ok(()) };
    set_pdeathsig(Signal::SIGTERM)?;
    // It may have died before the line above.
    if owner.to_str().and_then(|owner| owner.parse().ok()) != Some(Pid::parent().as_raw()) {
        raise(Signal::SIGTERM)?;
    }
    Ok(())
}

/// `nvgate run` in a namespace. Stopped when dropped, which must be before the namespace is.
#[derive(Debug)]
pub struct GatewayProcess {
    child: Child,
    log: PathBuf,
    admin: SocketAddr,
}

impl GatewayProcess {
    /// Starts `program run --config config` inside `namespace`; its output goes to `log`. `admin`
    /// is where that configuration makes it listen.
    pub fn start(
        namespace: &Namespace,
        program: &Path,
        config: &Path,
        (log, filter): (&Path, Option<&str>),
        admin: SocketAddr,
    ) -> anyhow::Result<Self> {
        let output =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(["run", "--config"])
            .arg(config)
            .args(filter.iter().flat_map(|filter| ["--log", filter]))
            .env(OWNER, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C is for the demo, which then stops the gateway in good order.
            .process_group(0);
        let child = namespace.command(command)?;
        Ok(Self { child, log: log.into(), admin })
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the gateway says that it is ready. Returns early, without an error, when
    /// `stop` says so.
    pub fn wait_ready(
        &mut self,
        namespace: &Namespace,
        stop: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.exited()? {
                bail!("the gateway ended at its start ({status}):\n{}", self.log_tail());
            }
            let readiness = self.ask(namespace, "/readyz");
            if stop() || matches!(readiness, Ok((200, _))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why = match readiness {
                    Ok((status, body)) => format!("/readyz answers {status}: {}", body.trim()),
                    Err(error) => format!("/readyz: {error:#}"),
                };
                bail!(
                    "the gateway was not ready after {} s; {why}\n{}",
                    START_TIMEOUT.as_secs(),
                    self.log_tail()
                );
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Asks the health endpoint for `path`: the HTTP status and the body.
    pub fn ask(&self, namespace: &Namespace, path: &str) -> anyhow::Result<(u16, String)> {
        Ok(namespace.run(|| http_get(self.admin, path, HTTP_TIMEOUT, HTTP_LIMIT))??)
    }

    /// How the process ended, if it has.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot watch the gateway")
    }

    /// The last lines of its output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        let Ok(id) = i32::try_from(self.child.id()) else { return };
        // It may have ended by itself; then there is nothing left to stop.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
