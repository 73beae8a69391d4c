//! Network namespaces for tests: threads of their own, each with a fresh namespace and a runtime
//! in it. Everything disappears with the threads.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::{Builder, Runtime};

/// Longest time a test in namespaces takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Says why a test did not run.
pub fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
}

fn enter() -> Result<Runtime, String> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("cannot make a network namespace: {error}"))?;
    Ok(Builder::new_current_thread().enable_all().build().unwrap())
}

/// Runs `test` in a fresh network namespace with a tokio runtime on one thread, or says that it
/// cannot.
pub fn in_namespace<T, F>(test: T)
where
    T: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()>,
{
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root, to make network namespaces");
    }
    let thread = std::thread::spawn(move || match enter() {
        Ok(runtime) => runtime.block_on(async {
            tokio::time::timeout(LIMIT, test()).await.expect("the test ends in time");
        }),
        Err(reason) => skip(&reason),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

type Job = Box<dyn FnOnce(&Runtime) + Send>;

/// Another network namespace: a thread that runs what it is given.
pub struct Peer {
    thread: u32,
    jobs: mpsc::Sender<Job>,
}

impl Peer {
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, thread) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = enter().unwrap();
            ready.send(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
            while let Ok(job) = queue.recv() {
                job(&runtime);
            }
        });
        Self { thread: thread.recv_timeout(LIMIT).unwrap(), jobs }
    }

    /// Runs a future in the peer's namespace, blocking the caller.
    pub fn run<T, F>(&self, future: T) -> F::Output
    where
        T: FnOnce() -> F + Send + 'static,
        F: Future<Output: Send + 'static>,
    {
        let (done, result) = mpsc::channel();
        self.jobs
            .send(Box::new(move |runtime| done.send(runtime.block_on(future())).unwrap()))
            .unwrap();
        result.recv_timeout(LIMIT).unwrap()
    }

    /// Moves a link of the caller's namespace into the peer's and brings it up there.
    pub async fn adopt(&self, handle: &Handle, link: u32) {
        let change = LinkUnspec::new_with_index(link).setns_by_pid(self.thread).build();
        handle.link().set(change).execute().await.unwrap();
        self.run(move || async move { up(&connect(), link).await });
    }
}

/// Plain rtnetlink, for the test's own changes.
pub fn connect() -> Handle {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

/// A veth pair in this namespace, both ends up; the indexes of both.
pub async fn veth(handle: &Handle, left: &str, right: &str) -> (u32, u32) {
    handle.link().add(LinkVeth::new(left, right).build()).execute().await.unwrap();
    let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
    let (left, right) = (index(left), index(right));
    up(handle, left).await;
    up(handle, right).await;
    (left, right)
}

/// Brings a link up.
pub async fn up(handle: &Handle, link: u32) {
    let change = LinkUnspec::new_with_index(link).up().build();
    handle.link().set(change).execute().await.unwrap();
}

/// Takes a link down.
pub async fn down(handle: &Handle, link: u32) {
    let change = LinkUnspec::new_with_index(link).down().build();
    handle.link().set(change).execute().await.unwrap();
}

/// Adds an address to a link.
pub async fn address(handle: &Handle, link: u32, address: &str, length: u8) {
    let address: IpAddr = address.parse().unwrap();
    handle.address().add(link, address, length).execute().await.unwrap();
}

/// An IPv4 route, to be added or removed.
pub fn route_v4(network: &str, length: u8) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network.parse().unwrap(), length)
}
