//! The thread of the gateway's own endpoints: waits for packets of workers, for time and for control,
//! and turns the [`Driver`].
//!
//! It runs beside the workers. As long as no domain registers, nothing is punted and it sleeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::privileges::{Keeper, give_up};
use super::threads::GatewayClock;
use crate::counters::Gauge;
use crate::endpoint::{Application, Driver};
use crate::io::packet::{self, Waker};
use crate::worker::Published;
use crate::worker::endpoint_ring::EndpointEnd;

/// The longest wait, so that a stop is seen even if its wake-up was lost.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// How long last words may take to leave.
const GOODBYE: Duration = Duration::from_millis(300);
/// Turns without a packet after which last words have left.
const QUIET_TURNS: u32 = 10;
/// Turns in which nothing moved before the thread waits in the kernel.
const IDLE_TURNS: u32 = 8;

/// The running thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Speaker {
    thread: Option<JoinHandle<()>>,
    waker: Waker,
    stop: Arc<AtomicBool>,
    heartbeat: Arc<Gauge>,
}

impl Speaker {
    /// Starts the thread. `rings` and `workers` are in the order of the workers; `waker` is what
    /// those, and control after a new snapshot, wake it by.
    ///
    /// # Errors
    ///
    /// The kernel refused a thread.
    pub fn start<A: Application + Send + 'static>(
        application: A,
        published: Published,
        rings: Vec<EndpointEnd>,
        workers: Vec<Waker>,
        (clock, seed): (GatewayClock, u64),
        waker: Waker,
    ) -> io::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let heartbeat = Arc::<Gauge>::default();
        let mut running = Running {
            driver: Driver::new(application, published, rings, seed, clock.now()),
            clock,
            waker: waker.clone(),
            workers,
            stop: Arc::clone(&stop),
            heartbeat: Arc::clone(&heartbeat),
        };
        let name = "nvgate-speaker".to_owned();
        let thread = thread::Builder::new().name(name).spawn(move || running.run())?;
        Ok(Self { thread: Some(thread), waker, stop, heartbeat })
    }

    /// When the thread turned last; 0 before the first time.
    #[must_use]
    pub fn heartbeat(&self) -> u64 {
        self.heartbeat.read()
    }

    /// Whether the thread has ended, which it does only when it panicked or was stopped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread and waits for it.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the speaker panicked");
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread owns.
struct Running<A> {
    driver: Driver<A>,
    clock: GatewayClock,
    waker: Waker,
    workers: Vec<Waker>,
    stop: Arc<AtomicBool>,
    heartbeat: Arc<Gauge>,
}

impl<A: Application> Running<A> {
    fn run(&mut self) {
        if let Err(error) = give_up(Keeper::Speaker) {
            tracing::error!(%error, "the speaker may do more than it should, and ends");
            return;
        }
        self.serve();
        self.driver.stop(self.clock.now());
        let end = self.clock.now() + GOODBYE;
        // Workers stop after this, and must have sent what they were given.
        let mut quiet = 0;
        while self.driver.has_last_words() && quiet < QUIET_TURNS && self.clock.now() < end {
            quiet = if self.turn() == 0 { quiet + 1 } else { 0 };
            thread::sleep(GOODBYE / 100);
        }
    }

    fn turn(&mut self) -> usize {
        let now = self.clock.now();
        self.heartbeat.set(now.0);
        let moved = self.driver.turn(now);
        let workers = &self.workers;
        self.driver.wake_touched(|worker| {
            if let Some(waker) = workers.get(worker) {
                waker.wake();
            }
        });
        moved
    }

    fn serve(&mut self) {
        let mut idle = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let moved = self.turn();
            idle = if moved == 0 { idle + 1 } else { 0 };
            if idle >= IDLE_TURNS && !self.driver.has_punts() {
                self.wait();
            }
        }
    }

    fn wait(&self) {
        let now = self.clock.now();
        let due = self.driver.poll_timeout(now);
        let timeout = due.map_or(IDLE_WAIT, |due| due.since(now).min(IDLE_WAIT));
        if timeout.is_zero() {
            return;
        }
        if let Err(error) = packet::wait_beside(self.driver.watched(), &self.waker, timeout) {
            tracing::error!(%error, "waiting for packets failed");
            thread::sleep(timeout);
        }
    }
}
