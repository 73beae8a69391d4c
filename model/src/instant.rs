//! Time as sans-IO code sees it: a number handed in by whoever owns the clock.

use std::ops::Add;
use std::time::Duration;

/// Nanoseconds of a monotonic clock since the gateway started; virtual in the simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to this instant, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The tick this instant falls into.
    #[must_use]
    pub const fn tick(self) -> Tick {
        // 2^32 ticks of 100 ms are 13.6 years.
        Tick((self.0 / Tick::NANOS) as u32)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A coarse instant for idle timeouts: 100 ms steps since the gateway started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// Nanoseconds in a tick.
    pub const NANOS: u64 = 100_000_000;

    /// Ticks in a second.
    pub const PER_SECOND: u32 = 10;

    /// Whole ticks from `earlier` to this tick, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// The tick `seconds` later.
    #[must_use]
    pub const fn plus_secs(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(Self::PER_SECOND)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_a_tenth_of_a_second() {
        let instant = Instant::default() + Duration::from_millis(1_250);
        assert_eq!(instant.tick(), Tick(12));
        assert_eq!(Tick(12).plus_secs(2), Tick(32));
        assert_eq!(Tick(3).since(Tick(12)), 0);
    }
}
