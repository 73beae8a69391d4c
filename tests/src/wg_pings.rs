//! Echo requests that go on while things happen, and how long nobody answered.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nvgate::demo::lab::Namespace;

use crate::run_lab_traffic::echo_request;

/// Time between two requests.
const INTERVAL: Duration = Duration::from_millis(20);
/// The longest that a reply is waited for: how much longer than it was a silence may seem, with the
/// interval.
const TIMEOUT: Duration = Duration::from_millis(80);

/// The same for who wants to know of a loss and not of a delay.
pub const PATIENT: Duration = Duration::from_secs(1);

/// A stream of echo requests.
pub struct Pings {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Instant>>,
    began: Instant,
}

impl Pings {
    /// Begins to ask `target` from `namespace`.
    ///
    /// # Errors
    ///
    /// When no thread can be had.
    pub fn start(namespace: &Namespace, target: Ipv4Addr) -> Result<Self> {
        Self::start_waiting(namespace, target, TIMEOUT)
    }

    /// The same, but each reply is waited for so long that a silence shorter than [`PATIENT`] means
    /// that none was lost.
    ///
    /// # Errors
    ///
    /// When no thread can be had.
    pub fn start_patient(namespace: &Namespace, target: Ipv4Addr) -> Result<Self> {
        Self::start_waiting(namespace, target, PATIENT)
    }

    fn start_waiting(namespace: &Namespace, target: Ipv4Addr, timeout: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let began = Instant::now();
        let thread = namespace.spawn("pings", move || {
            let mut answered = Vec::new();
            let mut identifier = 0x4000_u16;
            while !ended.load(Ordering::Relaxed) {
                // One that is late must not be taken for the answer to the next.
                identifier = identifier.wrapping_add(1);
                if echo_request(target, identifier, timeout).is_ok() {
                    answered.push(Instant::now());
                }
                thread::sleep(INTERVAL);
            }
            answered
        })?;
        Ok(Self { stop, thread, began })
    }

    /// Ends; returns the longest time without an answer, and how many were answered.
    ///
    /// # Errors
    ///
    /// When the thread panicked.
    pub fn end(self) -> Result<(Duration, usize)> {
        let now = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        let answered = self.thread.join().ok().context("the pings panicked")?;
        let mut times = vec![self.began];
        times.extend(&answered);
        times.push(now.max(*times.last().unwrap_or(&now)));
        let silences = times.windows(2).map(|pair| pair[1] - pair[0]);
        Ok((silences.max().unwrap_or_default(), answered.len()))
    }
}
