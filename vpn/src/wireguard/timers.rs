//! Deadlines as a small table, whose least is the next timeout.

use nvgate_model::Instant;

/// What a tunnel waits for (whitepaper section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    /// The next initiation, or the end of trying.
    Retransmit,
    /// Data was sent and nothing came back.
    Silence,
    /// Data was received and nothing sent.
    Keepalive,
    /// Nothing at all passed either way.
    Persistent,
    /// The session in use ends.
    Expiry,
    /// Keys are overwritten.
    Forget,
}

const COUNT: usize = Timer::Forget as usize + 1;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timers([Option<Instant>; COUNT]);

impl Timers {
    pub(crate) const fn arm(&mut self, timer: Timer, deadline: Instant) {
        self.0[timer as usize] = Some(deadline);
    }

    /// Leaves a timer that is armed already.
    pub(crate) const fn arm_if_idle(&mut self, timer: Timer, deadline: Instant) {
        if self.0[timer as usize].is_none() {
            self.arm(timer, deadline);
        }
    }

    pub(crate) const fn disarm(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.0[timer as usize].is_some_and(|deadline| deadline <= now)
    }

    /// Disarms a timer that is due.
    pub(crate) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.is_due(timer, now);
        if due {
            self.disarm(timer);
        }
        due
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}
