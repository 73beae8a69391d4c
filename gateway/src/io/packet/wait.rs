//! Waiting until a port has frames or another thread wants the worker's attention.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::{Rx, sys};

/// Ports one wait can watch.
pub const MAX_WAIT_PORTS: usize = 8;

/// Wakes one worker from its wait. Clones wake the same worker, from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    event: Arc<OwnedFd>,
}

impl Waker {
    /// A waker for one worker.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: Arc::new(sys::event()?) })
    }

    /// Ends the worker's wait, or the next one when it is not waiting. One system call: a caller
    /// with several things to say wakes once, after the last.
    pub fn wake(&self) {
        sys::signal(&*self.event);
    }
}

/// Waits until one of `ports` (at most [`MAX_WAIT_PORTS`]; further ones are not watched) has
/// frames, the waker was used, or the time is over. A signal ends the wait early, so the caller
/// looks at everything afterwards. Slots of the last batches are handed back first, because a slot
/// that is held makes its port look as if it had frames.
pub fn wait(ports: &mut [&mut Rx], waker: &Waker, timeout: Duration) -> io::Result<()> {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut entries = ArrayVec::<_, { MAX_WAIT_PORTS + 1 }>::new();
    entries.push(entry(waker.event.as_raw_fd()));
    for port in ports.iter_mut().take(MAX_WAIT_PORTS) {
        port.release();
        entries.push(entry(port.as_fd().as_raw_fd()));
    }
    sys::poll(&mut entries, timeout)?;
    if entries[0].revents != 0 {
        sys::drain(&*waker.event);
    }
    for (port, entry) in ports.iter().zip(&entries[1..]) {
        // A link that went down leaves an error that would end every wait at once.
        if entry.revents & libc::POLLERR != 0 {
            sys::clear_error(*port)?;
        }
    }
    Ok(())
}

/// Waits until `watched` is readable, the waker was used, or the time is over. A signal ends the wait
/// early.
pub fn wait_beside(
    watched: Option<BorrowedFd<'_>>,
    waker: &Waker,
    timeout: Duration,
) -> io::Result<()> {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut entries = ArrayVec::<_, 2>::new();
    entries.push(entry(waker.event.as_raw_fd()));
    entries.extend(watched.map(|watched| entry(watched.as_raw_fd())));
    sys::poll(&mut entries, timeout)?;
    if entries[0].revents != 0 {
        sys::drain(&*waker.event);
    }
    Ok(())
}
