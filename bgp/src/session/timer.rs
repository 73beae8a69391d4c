//! The timers of a session in one small table, whose least entry is the next timeout; the jitter
//! that RFC 4271 section 10 asks for; and how long a peer that fails again and again is left alone.

use std::time::Duration;

use nvgate_model::Instant;

use super::Connection;

/// What runs out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Idle after a failure; the session starts again (RFC 4271 section 8.1.1).
    IdleHold,
    /// A connection is attempted or awaited; it is attempted anew.
    ConnectRetry,
    /// Nothing came from the peer.
    Hold(Connection),
    /// Nothing went to the peer.
    Keepalive(Connection),
    /// The peer takes nothing (RFC 9687).
    SendHold(Connection),
    /// A last NOTIFICATION waits to be taken.
    Linger(Connection),
}

/// The instants at which timers are due.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers([Option<Instant>; Timer::COUNT]);

/// A reproducible source of chance: SplitMix64 over the session's seed.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

/// How often in a row a session failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Timer {
    const COUNT: usize = 10;

    const ALL: [Self; Self::COUNT] = [
        Self::IdleHold,
        Self::ConnectRetry,
        Self::Hold(Connection::First),
        Self::Keepalive(Connection::First),
        Self::SendHold(Connection::First),
        Self::Linger(Connection::First),
        Self::Hold(Connection::Second),
        Self::Keepalive(Connection::Second),
        Self::SendHold(Connection::Second),
        Self::Linger(Connection::Second),
    ];

    const fn index(self) -> usize {
        match self {
            Self::IdleHold => 0,
            Self::ConnectRetry => 1,
            Self::Hold(connection) => 2 + 4 * connection.index(),
            Self::Keepalive(connection) => 3 + 4 * connection.index(),
            Self::SendHold(connection) => 4 + 4 * connection.index(),
            Self::Linger(connection) => 5 + 4 * connection.index(),
        }
    }
}

impl Timers {
    pub(super) fn arm(&mut self, timer: Timer, due: Instant) {
        self.0[timer.index()] = Some(due);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer.index()] = None;
    }

    pub(super) fn stop_connection(&mut self, connection: Connection) {
        for timer in [Timer::Hold, Timer::Keepalive, Timer::SendHold, Timer::Linger] {
            self.stop(timer(connection));
        }
    }

    pub(super) fn is_armed(&self, timer: Timer) -> bool {
        self.0[timer.index()].is_some()
    }

    /// When the timer is due.
    #[cfg(test)]
    pub(super) fn due(&self, timer: Timer) -> Option<Instant> {
        self.0[timer.index()]
    }

    /// The timer that is due first.
    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        Timer::ALL.into_iter().filter_map(|timer| Some((self.0[timer.index()]?, timer))).min()
    }

    /// Takes a timer that is due, the earliest first.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        let (due, timer) = self.next().filter(|(due, _)| *due <= now)?;
        self.stop(timer);
        Some((due, timer))
    }
}

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between three quarters and all of `duration` (RFC 4271 section 10).
    pub(super) fn spread(&mut self, duration: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let part = ((mixed ^ (mixed >> 31)) >> 48) as u32;
        let quarter = duration / 4;
        duration - quarter + quarter / (1 << 16) * part
    }
}

impl Backoff {
    /// The shortest and the longest time that a peer is left alone.
    pub(super) const SHORTEST: Duration = Duration::from_secs(1);
    pub(super) const LONGEST: Duration = Duration::from_secs(120);
    /// A session that stood so long has made up for the failures before it.
    pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

    /// Counts a failure of a session that stood for so long; how long the peer is left alone.
    pub(super) fn fail(&mut self, stood: Duration) -> Duration {
        if stood >= Self::FORGOTTEN_AFTER {
            self.failures = 0;
        }
        let hold = Self::SHORTEST.saturating_mul(1 << self.failures.min(7)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        hold
    }

    /// Whether there was one failure only.
    pub(super) const fn is_first(&self) -> bool {
        self.failures == 1
    }

    pub(super) const fn forget(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timer_has_a_place_of_its_own() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer.index(), index, "{timer:?}");
        }
    }

    #[test]
    fn the_earliest_timer_is_next_and_each_is_taken_once() {
        let mut timers = Timers::default();
        let at = |seconds: u64| Instant::default() + Duration::from_secs(seconds);
        timers.arm(Timer::Hold(Connection::Second), at(3));
        timers.arm(Timer::ConnectRetry, at(1));
        timers.arm(Timer::IdleHold, at(9));
        assert_eq!(timers.next(), Some((at(1), Timer::ConnectRetry)));
        assert_eq!(timers.take_due(at(0)), None);
        assert_eq!(timers.take_due(at(5)), Some((at(1), Timer::ConnectRetry)));
        assert_eq!(timers.take_due(at(5)), Some((at(3), Timer::Hold(Connection::Second))));
        assert_eq!(timers.take_due(at(5)), None);
        assert_eq!(timers.next(), Some((at(9), Timer::IdleHold)));
    }

    #[test]
    fn the_timers_of_a_connection_stop_together_and_alone() {
        let mut timers = Timers::default();
        for timer in Timer::ALL {
            timers.arm(timer, Instant(7));
        }
        timers.stop_connection(Connection::First);
        let armed: Vec<Timer> =
            Timer::ALL.into_iter().filter(|timer| timers.is_armed(*timer)).collect();
        let second = [Timer::Hold, Timer::Keepalive, Timer::SendHold, Timer::Linger]
            .map(|timer| timer(Connection::Second));
        assert_eq!(armed, [&[Timer::IdleHold, Timer::ConnectRetry][..], &second].concat());
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_spreads() {
        let mut jitter = Jitter::new(7);
        let whole = Duration::from_secs(40);
        let spread: Vec<Duration> = (0..1000).map(|_| jitter.spread(whole)).collect();
        assert!(spread.iter().all(|time| (whole * 3 / 4..=whole).contains(time)));
        let least = spread.iter().min().unwrap();
        let greatest = spread.iter().max().unwrap();
        assert!(*greatest - *least > Duration::from_secs(9), "{least:?} to {greatest:?}");
    }

    #[test]
    fn a_peer_that_fails_is_left_alone_for_longer_each_time() {
        let mut backoff = Backoff::default();
        let holds: Vec<u64> = (0..9).map(|_| backoff.fail(Duration::ZERO).as_secs()).collect();
        assert_eq!(holds, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert!(!backoff.is_first());
        assert_eq!(backoff.fail(Backoff::FORGOTTEN_AFTER), Backoff::SHORTEST);
        assert!(backoff.is_first());
    }
}
