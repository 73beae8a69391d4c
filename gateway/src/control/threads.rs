//! The workers' threads: ports opened on the host's links, one loop a worker, woken by frames, by
//! other workers and by control.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as Clock};

use caps::errors::CapsError;
use nix::sys::prctl::set_timerslack;
use nvgate_deploy::plan::GatewayPlan;
use nvgate_model::Instant;
use tokio::sync::mpsc;

use super::moderation::Moderation;
use super::privileges::{Keeper, give_up};
use crate::counters::WorkerCounters;
use crate::dispatch::{DispatcherConfig, ResolveRequest};
use crate::io::packet::{self, Admit, OpenError, PortOptions, RxCounters, TxCounters, Waker};
use crate::io::{PortRole, Rx, Tx};
use crate::worker::endpoint_ring::{EndpointEnd, pair};
use crate::worker::handoff::mesh;
use crate::worker::{Port, Published, Worker, WorkerSetup};

/// How long an idle worker waits before it looks after its sessions and shows that it lives.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// Turns without a packet before a worker waits in the kernel.
const IDLE_TURNS: u32 = 2;
/// How late the kernel may end a pause, in nanoseconds; by default it is as long as the pause.
const TIMER_SLACK: u64 = 1_000;
/// NAT sessions of one routing domain on one worker, whatever the tenant's budget says.
pub const MAX_SESSIONS: usize = 1 << 20;

/// The clock of a running gateway; starts at zero.
#[derive(Clone, Copy, Debug)]
pub struct GatewayClock(Clock);

impl GatewayClock {
    /// A clock that starts now. It begins one nanosecond in, so that a heartbeat of zero means
    /// that there was none.
    #[must_use]
    pub fn start() -> Self {
        Self(Clock::now())
    }

    /// The time on it.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
    }
}

/// Why the workers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port could not be opened.
    #[error(transparent)]
    Port(#[from] OpenError),
    /// The kernel refused a thread or an event.
    #[error("cannot start a worker: {0}")]
    Thread(#[from] io::Error),
    /// Privileges that are needed no longer could not be given up.
    #[error("cannot give up capabilities: {0}")]
    Privileges(#[from] CapsError),
}

/// The workers of a gateway: at first counters and nothing that runs, because the ports of a link
/// that is down cannot be opened yet.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    wakers: Vec<Waker>,
    stop: Arc<AtomicBool>,
    /// Each worker's counters.
    pub counters: Vec<Arc<WorkerCounters>>,
}

impl Workers {
    /// Workers that do not run yet.
    ///
    /// # Errors
    ///
    /// The kernel refused an event.
    pub fn new(count: NonZeroUsize) -> io::Result<Self> {
        Ok(Self {
            threads: Vec::new(),
            wakers: (0..count.get()).map(|_| Waker::new()).collect::<io::Result<_>>()?,
            stop: Arc::default(),
            counters: (0..count.get()).map(|_| Arc::default()).collect(),
        })
    }

    /// Whether the workers run.
    #[must_use]
    pub const fn running(&self) -> bool {
        !self.threads.is_empty()
    }

    /// What each worker is woken by.
    #[must_use]
    pub fn wakers(&self) -> &[Waker] {
        &self.wakers
    }

    /// Opens the ports and starts one thread a worker. Returned are the ends of the rings to the
    /// thread of the gateway's own endpoints, a worker each; `speaker` is what that is woken by.
    ///
    /// # Errors
    ///
    /// One sentence on the port or thread that could not be had; nothing runs then.
    pub fn start(
        &mut self,
        plan: &GatewayPlan,
        published: &Published,
        clock: GatewayClock,
        seed: u64,
        resolve: &mpsc::Sender<ResolveRequest>,
        speaker: &Waker,
    ) -> Result<Vec<EndpointEnd>, StartError> {
        let workers = NonZeroUsize::new(self.counters.len()).unwrap_or(plan.workers);
        let open = |link: &str, admit: Admit| {
            packet::open(&PortOptions { link, admit, workers, ring_slots: PortOptions::RING_SLOTS })
        };
        let fabric = open(&plan.fabric.link, Admit::Gre)?;
        let front_end = open(&plan.front_end.link, Admit::Ip)?;
        let count = workers.get();
        let ends = mesh(count as u16).into_iter().zip(fabric.into_iter().zip(front_end));
        let mut endpoint_ends = Vec::with_capacity(count);
        for (index, ((outbox, inbox), (fabric, front_end))) in ends.enumerate() {
            let (worker_end, endpoint_end) = pair();
            endpoint_ends.push(endpoint_end);
            let worker = Worker::new(WorkerSetup {
                dispatcher: DispatcherConfig {
                    worker: index as u16,
                    workers: count as u16,
                    flow_entries: plan.flow_entries,
                    max_sessions: MAX_SESSIONS,
                    seed,
                    counters: Arc::clone(&self.counters[index]),
                },
                published: Arc::clone(published),
                fabric: port(fabric),
                front_end: port(front_end),
                outbox,
                inbox,
                endpoints: Some(worker_end),
            });
            let mut running = Running {
                worker,
                clock,
                waker: self.wakers[index].clone(),
                others: self.wakers.clone(),
                speaker: speaker.clone(),
                stop: Arc::clone(&self.stop),
                resolve: resolve.clone(),
            };
            let name = format!("nvgate-worker-{index}");
            let thread = thread::Builder::new().name(name).spawn(move || running.run());
            match thread {
                Ok(thread) => self.threads.push(thread),
                Err(error) => {
                    self.stop();
                    return Err(error.into());
                }
            }
        }
        Ok(endpoint_ends)
    }

    /// Makes every worker look at once whether there is something new.
    pub fn wake(&self) {
        for waker in &self.wakers {
            waker.wake();
        }
    }

    /// Whether a worker's thread has ended, which it does only when it panicked or was stopped.
    #[must_use]
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends the threads and waits for them.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

fn port((rx, tx): (packet::Rx, packet::Tx)) -> Port {
    Port { rx: Rx::Packet(rx, RxCounters::default()), tx: Tx::Packet(tx, TxCounters::default()) }
}

/// What a worker's thread owns.
struct Running {
    worker: Worker,
    clock: GatewayClock,
    waker: Waker,
    others: Vec<Waker>,
    speaker: Waker,
    stop: Arc<AtomicBool>,
    resolve: mpsc::Sender<ResolveRequest>,
}

impl Running {
    fn run(&mut self) {
        if let Err(error) = give_up(Keeper::Worker) {
            tracing::error!(%error, "a worker may do more than it should, and ends");
            return;
        }
        if let Err(error) = set_timerslack(TIMER_SLACK) {
            tracing::warn!(%error, "the worker's pauses may be too long");
        }
        let mut moderation = Moderation::default();
        let mut idle = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let processed = self.worker.turn(now);
            for request in self.worker.drain_resolve_requests() {
                // A full channel loses nothing: the next packet asks again.
                let _ = self.resolve.try_send(request);
            }
            let touched = self.worker.take_touched();
            if touched != 0 {
                let woken = |index: &usize| touched & 1 << (index % 64) != 0;
                for index in (0..self.others.len()).filter(woken) {
                    self.others[index].wake();
                }
            }
            if self.worker.take_punted() {
                self.speaker.wake();
            }
            if let Some(pause) = moderation.after_turn(now, processed) {
                thread::sleep(pause);
            }
            idle = if processed == 0 { idle + 1 } else { 0 };
            if idle >= IDLE_TURNS && !self.worker.has_handoffs() {
                self.wait();
            }
        }
    }

    fn wait(&mut self) {
        let (fabric, front_end) = self.worker.ports();
        let mut rings: Vec<&mut packet::Rx> = Vec::with_capacity(2);
        for port in [fabric, front_end] {
            match &mut port.rx {
                Rx::Packet(rx, _) => rings.push(rx),
                Rx::Sim(_) => {}
            }
        }
        if let Err(error) = packet::wait(&mut rings, &self.waker, IDLE_WAIT) {
            tracing::error!(%error, "waiting for frames failed");
            thread::sleep(IDLE_WAIT);
        }
    }
}

/// Which link a role is on.
#[must_use]
pub fn link_of(plan: &GatewayPlan, role: PortRole) -> &str {
    match role {
        PortRole::Fabric => &plan.fabric.link,
        PortRole::FrontEnd => &plan.front_end.link,
    }
}
