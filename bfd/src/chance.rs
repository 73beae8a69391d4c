//! Chance from a seed: jitter, which may be guessed, and identifiers, which should not be.

use std::hash::Hasher;
#[expect(deprecated, reason = "std's one keyed hash whose algorithm is fixed, SipHash 2-4")]
use std::hash::SipHasher;

/// A stream of numbers for jitter (SplitMix64).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number of `low..=high`, near enough evenly: the ranges here are far below 2^32.
    pub(crate) const fn between(&mut self, low: u32, high: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let span = high.saturating_sub(low) as u64 + 1;
        low + (((mixed >> 32) * span) >> 32) as u32
    }
}

/// Numbers that who sees some of them cannot foretell without the seed.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    seed: u64,
    drawn: u64,
}

impl Secrets {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    #[expect(deprecated, reason = "std's one keyed hash whose algorithm is fixed, SipHash 2-4")]
    pub(crate) fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        let mut hasher = SipHasher::new_with_keys(self.seed, !self.seed);
        hasher.write_u64(self.drawn);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn both_ends_of_a_range_are_drawn_and_nothing_beyond() {
        let mut chance = Chance::new(7);
        let drawn: BTreeSet<u32> = (0..10_000).map(|_| chance.between(750, 1000)).collect();
        assert_eq!((drawn.first(), drawn.last(), drawn.len()), (Some(&750), Some(&1000), 251));
    }

    #[test]
    fn secrets_repeat_with_their_seed_and_not_otherwise() {
        let draw = |seed| {
            let mut secrets = Secrets::new(seed);
            (0..100).map(|_| secrets.draw()).collect::<BTreeSet<u64>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_eq!(draw(1).len(), 100);
        assert!(draw(1).is_disjoint(&draw(2)));
    }
}
