//! A token bucket in integers. What flows in during a time is a product without remainder, so the
//! rate holds exactly however often it is asked.

use nvgate_model::Instant;

/// Credit that grows by `rate` a nanosecond up to `capacity`; what a credit is worth is the
/// owner's choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: u64,
    capacity: u64,
    level: u64,
    updated: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) const fn new(rate: u64, capacity: u64, now: Instant) -> Self {
        Self { rate, capacity, level: capacity, updated: now }
    }

    /// A full bucket of `per_second` units a second and at most `burst` at once, of which
    /// [`take_one`](Self::take_one) takes one.
    pub(crate) const fn of_units(per_second: u32, burst: u32, now: Instant) -> Self {
        Self::new(per_second as u64, burst as u64 * UNIT, now)
    }

    /// Takes `cost`, if there is as much.
    pub(crate) fn take(&mut self, now: Instant, cost: u64) -> bool {
        // 584 years of nanoseconds in u64; the product saturates into the capacity.
        let elapsed = now.0.saturating_sub(self.updated.0);
        self.level =
            self.level.saturating_add(elapsed.saturating_mul(self.rate)).min(self.capacity);
        self.updated = self.updated.max(now);
        match self.level.checked_sub(cost) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }

    /// Takes one unit of [`of_units`](Self::of_units).
    pub(crate) fn take_one(&mut self, now: Instant) -> bool {
        self.take(now, UNIT)
    }
}

/// Credit of one unit: a rate of one a second adds one a nanosecond.
const UNIT: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::of_units(20, 5, Instant(7));
        let mut now = Instant(7);
        assert_eq!((0..9).filter(|_| bucket.take_one(now)).count(), 5);
        now = now + Duration::from_millis(49);
        assert!(!bucket.take_one(now));
        now = now + Duration::from_millis(1);
        assert!(bucket.take_one(now));
        assert!(!bucket.take_one(now));
    }

    proptest! {
        #[test]
        fn asking_often_neither_loses_nor_makes_credit(
            rate in 1_u64..10_000_000,
            steps in proptest::collection::vec(0_u64..1_000_000, 1..60),
        ) {
            let capacity = u64::MAX;
            let mut often = Bucket { rate, capacity, level: 0, updated: Instant(0) };
            let mut once = often;
            let mut now = 0;
            for step in steps {
                now += step;
                often.take(Instant(now), 0);
            }
            once.take(Instant(now), 0);
            prop_assert_eq!(often.level, once.level);
        }

        #[test]
        fn no_clock_overflows_or_turns_credit_back(instants in any::<[u64; 8]>()) {
            let mut bucket = Bucket::new(u64::MAX, u64::MAX, Instant(instants[0]));
            for instant in instants {
                let before = bucket.level;
                bucket.take(Instant(instant), 0);
                prop_assert!(bucket.level >= before);
            }
        }
    }
}
