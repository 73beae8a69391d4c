//! Test bench: a client's and a server's network namespace with a gateway's between them, and a
//! forwarder over two ports that only rewrites MAC addresses.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arrayvec::ArrayVec;
use futures_util::TryStreamExt;
use netlink_packet_route::link::LinkFlags;
use nix::sched::{CloneFlags, unshare};
use nvgate_packet::buf::{Checksum, Offload, PacketBuf};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};
use tokio::runtime::{Builder, Runtime};

use super::{Admit, PortOptions, Rx, RxCounters, Tx, TxCounters, Waker, open, wait};

/// Longest time one step takes.
pub const LIMIT: Duration = Duration::from_secs(30);

pub const CLIENT: &str = "10.0.0.1";
pub const SERVER: &str = "10.0.0.2";

type Job = Box<dyn FnOnce(&Runtime) + Send>;

/// A network namespace: a thread that runs what it is given. It disappears with the value.
pub struct Namespace {
    thread: u32,
    jobs: mpsc::Sender<Job>,
}

impl Namespace {
    fn new() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, thread) = mpsc::channel();
        std::thread::spawn(move || {
            let entered = unshare(CloneFlags::CLONE_NEWNET)
                .map(|()| nix::unistd::gettid().as_raw().cast_unsigned());
            // Links would announce themselves in the middle of a test.
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            ready.send(entered).unwrap();
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            while let Ok(job) = queue.recv() {
                job(&runtime);
            }
        });
        let thread = thread.recv_timeout(LIMIT).unwrap()?;
        Ok(Self { thread, jobs })
    }

    /// Runs `job` in the namespace and waits for its result.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(job).recv_timeout(LIMIT).unwrap()
    }

    /// Starts `job` on the namespace's thread; the result arrives in the channel.
    pub fn start<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (done, result) = mpsc::channel();
        self.jobs
            .send(Box::new(move |_| {
                let _ = done.send(job());
            }))
            .unwrap();
        result
    }

    fn configure<F>(&self, job: impl FnOnce(Handle) -> F + Send + 'static) -> F::Output
    where
        F: Future<Output: Send + 'static>,
    {
        let (done, result) = mpsc::channel();
        self.jobs
            .send(Box::new(move |runtime| {
                let outcome = runtime.block_on(async {
                    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                    tokio::spawn(connection);
                    job(handle).await
                });
                done.send(outcome).unwrap();
            }))
            .unwrap();
        result.recv_timeout(LIMIT).unwrap()
    }
}

/// Three namespaces in a row: `c` (10.0.0.1) -- `gc` [gateway] `gs` -- `s` (10.0.0.2).
pub struct Lab {
    pub client: Namespace,
    pub gateway: Namespace,
    pub server: Namespace,
}

pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const TOWARDS_CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const TOWARDS_SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];

impl Lab {
    /// Makes the bench, or says why it cannot.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: needs root, to make network namespaces");
            return None;
        }
        let make =
            || Some((Namespace::new().ok()?, Namespace::new().ok()?, Namespace::new().ok()?));
        let Some((client, gateway, server)) = make() else {
            println!("SKIPPED: cannot make network namespaces");
            return None;
        };
        let (client_thread, server_thread) = (client.thread, server.thread);
        gateway.configure(move |handle| async move {
            pair(&handle, "gc", TOWARDS_CLIENT_MAC, "c", client_thread).await;
            pair(&handle, "gs", TOWARDS_SERVER_MAC, "s", server_thread).await;
        });
        client.configure(|handle| {
            station(handle, "c", CLIENT_MAC, CLIENT, SERVER, TOWARDS_CLIENT_MAC)
        });
        server.configure(|handle| {
            station(handle, "s", SERVER_MAC, SERVER, CLIENT, TOWARDS_SERVER_MAC)
        });
        let lab = Self { client, gateway, server };
        lab.until_running();
        Some(lab)
    }

    /// Brings the client's link, or the gateway's towards it, up or down.
    pub fn set_link(&self, name: &'static str, up: bool) {
        let namespace = if name == "c" { &self.client } else { &self.gateway };
        namespace.configure(move |handle| async move {
            let change = LinkUnspec::new_with_name(name);
            let change = if up { change.up() } else { change.down() };
            handle.link().set(change.build()).execute().await.unwrap();
        });
        if up {
            self.until_running();
        }
    }

    fn until_running(&self) {
        self.client.configure(|handle| running(handle, &["c"]));
        self.server.configure(|handle| running(handle, &["s"]));
        self.gateway.configure(|handle| running(handle, &["gc", "gs"]));
    }

    /// The ends of a port in the gateway's namespace.
    pub fn port(&self, link: &'static str, workers: usize) -> Vec<(Rx, Tx)> {
        self.gateway.run(move || open_port(link, workers, PortOptions::RING_SLOTS))
    }

    /// Starts forwarding between the two links with this many workers.
    pub fn forward(&self, workers: usize) -> Forwarder {
        let to_client = self.port("gc", workers);
        let to_server = self.port("gs", workers);
        let stop = Arc::new(AtomicBool::new(false));
        let threads = to_client
            .into_iter()
            .zip(to_server)
            .map(|(client, server)| {
                let waker = Waker::new().unwrap();
                let (stop, own) = (stop.clone(), waker.clone());
                let thread = std::thread::spawn(move || forward(client, server, &own, &stop));
                (waker, thread)
            })
            .collect();
        Forwarder { stop, threads }
    }
}

pub fn open_port(link: &str, workers: usize, ring_slots: usize) -> Vec<(Rx, Tx)> {
    let workers = NonZeroUsize::new(workers).unwrap();
    open(&PortOptions { link, admit: Admit::Ip, workers, ring_slots }).unwrap()
}

async fn pair(handle: &Handle, near: &str, mac: [u8; 6], far: &str, namespace: u32) {
    handle.link().add(LinkVeth::new(near, far).build()).execute().await.unwrap();
    let index = |name| nix::net::if_::if_nametoindex(name).unwrap();
    let change = LinkUnspec::new_with_index(index(far)).setns_by_pid(namespace).build();
    handle.link().set(change).execute().await.unwrap();
    let change = LinkUnspec::new_with_index(index(near)).address(mac.to_vec()).up().build();
    handle.link().set(change).execute().await.unwrap();
}

/// Waits until links carry traffic, which is some time after they are up at both ends.
async fn running(handle: Handle, links: &[&str]) {
    for name in links {
        let is_running = || async {
            let mut answers = handle.link().get().match_name((*name).to_owned()).execute();
            let link = answers.try_next().await.unwrap().unwrap();
            link.header.flags.contains(LinkFlags::Running)
        };
        for _ in 0..500 {
            if is_running().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn station(
    handle: Handle,
    link: &'static str,
    mac: [u8; 6],
    own: &'static str,
    other: &'static str,
    gateway: [u8; 6],
) {
    let index = nix::net::if_::if_nametoindex(link).unwrap();
    let change = LinkUnspec::new_with_index(index).address(mac.to_vec()).up().build();
    handle.link().set(change).execute().await.unwrap();
    handle.address().add(index, own.parse().unwrap(), 24).execute().await.unwrap();
    let neighbours = handle.neighbours();
    let neighbour = neighbours.add(index, other.parse().unwrap()).link_layer_address(&gateway);
    neighbour.execute().await.unwrap();
}

/// What a forwarder saw.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub packets: u64,
    pub super_packets: u64,
    pub partial: u64,
    pub longest: usize,
    pub least_headroom: usize,
    pub rx: [RxCounters; 2],
    pub tx: [TxCounters; 2],
}

/// Running forwarder threads.
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    threads: Vec<(Waker, JoinHandle<Report>)>,
}

impl Forwarder {
    /// Stops and returns what each worker saw.
    pub fn stop(self) -> Vec<Report> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|(waker, thread)| {
                waker.wake();
                thread.join().unwrap()
            })
            .collect()
    }
}

fn forward(mut client: (Rx, Tx), mut server: (Rx, Tx), waker: &Waker, stop: &AtomicBool) -> Report {
    let mut report = Report {
        packets: 0,
        super_packets: 0,
        partial: 0,
        longest: 0,
        least_headroom: usize::MAX,
        rx: [RxCounters::default(); 2],
        tx: [TxCounters::default(); 2],
    };
    while !stop.load(Ordering::Relaxed) {
        let to_server = (SERVER_MAC, TOWARDS_SERVER_MAC);
        let to_client = (CLIENT_MAC, TOWARDS_CLIENT_MAC);
        let taken = pass(&mut client.0, &mut server.1, to_server, &mut report)
            + pass(&mut server.0, &mut client.1, to_client, &mut report);
        if taken == 0 {
            wait(&mut [&mut client.0, &mut server.0], waker, LIMIT).unwrap();
        }
    }
    report.rx = [client.0.counters(), server.0.counters()];
    report.tx = [client.1.counters(), server.1.counters()];
    report
}

fn pass(
    from: &mut Rx,
    to: &mut Tx,
    (destination, source): ([u8; 6], [u8; 6]),
    report: &mut Report,
) -> usize {
    let mut batch = ArrayVec::<PacketBuf<'_>, { super::BATCH }>::new();
    let taken = from.receive(&mut batch);
    for mut packet in batch {
        let Offload { checksum, gso } = packet.offload();
        report.packets += 1;
        report.super_packets += u64::from(gso.is_some());
        report.partial += u64::from(checksum != Checksum::Complete);
        report.longest = report.longest.max(packet.len());
        report.least_headroom = report.least_headroom.min(packet.headroom());
        packet.bytes_mut()[..6].copy_from_slice(&destination);
        packet.bytes_mut()[6..12].copy_from_slice(&source);
        let (head, tail) = packet.bytes().split_at(packet.len().min(60));
        to.send(head, tail, packet.offload()).unwrap();
    }
    to.flush();
    taken
}
