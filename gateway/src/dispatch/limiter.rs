//! A token bucket in virtual time.

use nvgate_model::Instant;

/// Lets `per_second` events pass a second, with bursts of up to a second's worth.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    per_second: u64,
    /// Nano-tokens: one token is 10^9 of them.
    tokens: u64,
    updated: Instant,
}

const TOKEN: u64 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(per_second: u32, now: Instant) -> Self {
        let per_second = per_second as u64;
        Self { per_second, tokens: per_second * TOKEN, updated: now }
    }

    /// Changes the rate; what is in the bucket stays, up to the new burst.
    pub fn set_rate(&mut self, per_second: u32) {
        self.per_second = u64::from(per_second);
        self.tokens = self.tokens.min(self.per_second * TOKEN);
    }

    /// Takes a token; `false` when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Takes `count` tokens; `false`, and none are taken, when there are fewer.
    pub fn take_many(&mut self, now: Instant, count: u64) -> bool {
        let elapsed = now.0.saturating_sub(self.updated.0).min(TOKEN);
        self.updated = now;
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second * TOKEN);
        let cost = count.saturating_mul(TOKEN);
        let Some(left) = self.tokens.checked_sub(cost) else { return false };
        self.tokens = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_of_burst_then_the_rate() {
        let start = Instant(5);
        let mut bucket = TokenBucket::new(10, start);
        assert_eq!((0..20).filter(|_| bucket.take(start)).count(), 10);
        let later = start + Duration::from_millis(300);
        assert_eq!((0..20).filter(|_| bucket.take(later)).count(), 3);
        let much_later = start + Duration::from_secs(100);
        assert_eq!((0..20).filter(|_| bucket.take(much_later)).count(), 10);
    }

    #[test]
    fn what_costs_more_than_is_there_takes_nothing() {
        let start = Instant(5);
        let mut bucket = TokenBucket::new(10, start);
        assert!(!bucket.take_many(start, 11));
        assert!(!bucket.take_many(start, u64::MAX));
        assert!(bucket.take_many(start, 7));
        assert_eq!((0..20).filter(|_| bucket.take(start)).count(), 3);
    }
}
