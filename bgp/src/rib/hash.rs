//! A hash that peers cannot aim at: multiplication folded to 64 bits, with a secret seed.

use std::hash::{Hash, Hasher};

/// The secret of one table.
#[derive(Clone, Copy)]
pub(super) struct Seed {
    start: u64,
    key: u64,
}

/// Hashes a value piece by piece.
struct Folded {
    state: u64,
    key: u64,
}

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        // Splitmix64: seeds that differ in one bit are to have nothing in common.
        let mixed = |step: u64| {
            let mut word = seed.wrapping_add(step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^ (word >> 31)
        };
        Self { start: mixed(1), key: mixed(2) | 1 }
    }

    pub(super) fn hash(self, value: &impl Hash) -> u64 {
        let mut hasher = Folded { state: self.start, key: self.key };
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// The hash of two words.
    pub(super) fn mix(self, first: u64, second: u64) -> u64 {
        let state = folded(first ^ self.start, second ^ self.key);
        folded(state ^ self.start, self.key)
    }
}

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.state = folded(self.state ^ value, self.key);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        folded(self.state ^ self.key, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_hashes_and_seeds_change_all_of_them() {
        let hashes = |seed: u64| {
            let seed = Seed::new(seed);
            let mut hashes: Vec<u64> = (0_u64..4096).map(|word| seed.mix(word << 8, 24)).collect();
            hashes.extend((0_u32..4096).map(|word| seed.hash(&(word, "text"))));
            hashes
        };
        let (one, other) = (hashes(1), hashes(2));
        assert_eq!(one, hashes(1));
        assert!(one.iter().zip(&other).all(|(a, b)| a != b));
        let mut distinct = one;
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 8192);
    }

    #[test]
    fn low_and_high_bits_spread_neighbouring_prefixes() {
        let seed = Seed::new(3);
        for shift in [0, 57] {
            let mut counts = [0_u32; 128];
            for word in 0_u64..128 * 64 {
                counts[(seed.mix(word << 8, 24) >> shift & 127) as usize] += 1;
            }
            assert!(counts.iter().all(|count| (24..=112).contains(count)), "{counts:?}");
        }
    }
}
