//! How many routes a second a place takes from its peers.

use std::num::NonZeroU32;
use std::time::Duration;

use nvgate_model::Instant;

/// A token bucket that holds what a second brings. What is spent may be more than there is: then
/// nothing is taken until that is made up for.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: NonZeroU32,
    tokens: i64,
    /// Until when tokens were counted.
    filled: Instant,
}

const NANOS: u128 = 1_000_000_000;

impl Bucket {
    pub(super) fn new(rate: NonZeroU32, now: Instant) -> Self {
        Self { rate, tokens: i64::from(rate.get()), filled: now }
    }

    /// Another rate from now on.
    pub(super) fn set_rate(&mut self, rate: NonZeroU32, now: Instant) {
        self.fill(now);
        self.rate = rate;
        self.tokens = self.tokens.min(i64::from(rate.get()));
    }

    /// The tokens there are; none if not positive.
    pub(super) fn fill(&mut self, now: Instant) -> i64 {
        let rate = u128::from(self.rate.get());
        let came = now.since(self.filled).as_nanos() * rate / NANOS;
        let room = i64::from(self.rate.get()) - self.tokens;
        if came >= u128::try_from(room).unwrap_or(0) {
            self.tokens = i64::from(self.rate.get());
            self.filled = now;
        } else {
            // Less than the room, which fits. What is less than a token is left for later.
            self.tokens += came as i64;
            let counted = (came * NANOS).div_ceil(rate);
            self.filled = self.filled + Duration::from_nanos(counted as u64);
        }
        self.tokens
    }

    pub(super) fn spend(&mut self, tokens: i64) {
        self.tokens -= tokens;
    }

    /// When there is a token, if there is none now.
    pub(super) fn next(&self) -> Option<Instant> {
        let missing = u128::try_from(1 - self.tokens).ok().filter(|missing| *missing > 0)?;
        let nanos = (missing * NANOS).div_ceil(u128::from(self.rate.get()));
        Some(self.filled + Duration::from_nanos(nanos as u64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_spent_over_time_is_the_rate_and_a_second_of_it_at_most(
            rate in 1_u32..20_000,
            steps in proptest::collection::vec((0_u64..2_000_000_000, 1_i64..2000), 1..50),
        ) {
            let mut now = Instant::default();
            let mut bucket = Bucket::new(NonZeroU32::new(rate).unwrap(), now);
            let (mut spent, mut last) = (0, 0);
            for (nanos, tokens) in steps {
                now = now + Duration::from_nanos(nanos);
                if bucket.fill(now) > 0 {
                    prop_assert_eq!(bucket.next(), None);
                    bucket.spend(tokens);
                    (spent, last) = (spent + tokens, tokens);
                }
                let bound = i128::from(rate) + i128::from(rate) * i128::from(now.0) / 1_000_000_000;
                prop_assert!(i128::from(spent - last) <= bound);
                if let Some(next) = bucket.next() {
                    let before = Instant(next.0.saturating_sub(1));
                    prop_assert!(bucket.clone().fill(next) > 0);
                    prop_assert!(before < now || bucket.clone().fill(before) <= 0);
                }
            }
        }
    }
}
