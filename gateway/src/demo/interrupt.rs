//! Ctrl-C and its relatives, turned from sudden death into a question that can be asked.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT, SIGTERM and SIGHUP, blocked in every thread and waiting to be noticed.
#[derive(Debug)]
pub struct Interrupt {
    signals: SignalFd,
    noticed: AtomicBool,
}

impl Interrupt {
    /// Blocks the signals. Call it while the process has one thread: later threads inherit it,
    /// and child processes start with nothing blocked.
    pub fn install() -> nix::Result<Self> {
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block()?;
        let signals =
            SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals, noticed: AtomicBool::new(false) })
    }

    /// Whether one of the signals has come.
    pub fn pending(&self) -> bool {
        if matches!(self.signals.read_signal(), Ok(Some(_))) {
            self.noticed.store(true, Ordering::Relaxed);
        }
        self.noticed.load(Ordering::Relaxed)
    }

    /// Waits for one of the signals, at most for `timeout` (whole milliseconds, up to 65 s).
    /// Returns whether one has come.
    pub fn wait(&self, timeout: Duration) -> bool {
        if self.pending() {
            return true;
        }
        let timeout = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        let mut polled = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // An interrupted or failed poll is a shorter wait.
        let _ = poll(&mut polled, PollTimeout::from(timeout));
        self.pending()
    }
}
