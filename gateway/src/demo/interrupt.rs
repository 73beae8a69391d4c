//! Ctrl-C and its relatives, turned from sudden death into a question that can be asked.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Whether SIGINT, SIGTERM or SIGHUP has come.
///
/// The signals are handled and not blocked: child processes would inherit a block.
#[derive(Debug)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    noticed: Mutex<bool>,
    bell: Condvar,
}

impl Interrupt {
    /// Takes the signals from now on, for the rest of the process.
    pub fn install() -> io::Result<Self> {
        let state = Arc::new(State::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        drop(guard);
        let watched = Arc::clone(&state);
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
            });
            *watched.noticed.lock().unwrap_or_else(PoisonError::into_inner) = true;
            watched.bell.notify_all();
        })?;
        Ok(Self(state))
    }

    /// Whether one of the signals has come.
    #[must_use]
    pub fn pending(&self) -> bool {
        *self.0.noticed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one of the signals, at most for `timeout`. Returns whether one has come.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let noticed = self.0.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.bell.wait_timeout_while(noticed, timeout, |noticed| !*noticed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
