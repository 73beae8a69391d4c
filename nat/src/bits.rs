//! A set of 256 numbers as four words: the ports of a block, or the blocks of an address.

/// A set of numbers from 0 to 255.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bits([u64; 4]);

impl Bits {
    pub(crate) const EMPTY: Self = Self([0; 4]);

    pub(crate) fn contains(&self, number: u8) -> bool {
        self.0[usize::from(number >> 6)] >> (number & 63) & 1 == 1
    }

    pub(crate) fn insert(&mut self, number: u8) {
        self.0[usize::from(number >> 6)] |= 1 << (number & 63);
    }

    pub(crate) fn remove(&mut self, number: u8) {
        self.0[usize::from(number >> 6)] &= !(1 << (number & 63));
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The numbers in neither set.
    pub(crate) fn neither(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| !(self.0[word] | other.0[word])))
    }

    /// A member chosen by `chance`, each as likely as another; `None` of an empty set.
    pub(crate) fn choose(&self, chance: u64) -> Option<u8> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // The high half of the product maps 32 random bits onto 0..count without division.
        let mut rank = (((chance >> 32) * u64::from(count)) >> 32) as u32;
        for (base, mut word) in (0_u8..).step_by(64).zip(self.0) {
            if rank >= word.count_ones() {
                rank -= word.count_ones();
                continue;
            }
            for _ in 0..rank {
                word &= word - 1;
            }
            return Some(base + word.trailing_zeros() as u8);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_can_be_chosen_and_no_other_number() {
        let mut set = Bits::EMPTY;
        assert_eq!(set.choose(u64::MAX), None);
        let members = [0_u8, 63, 64, 127, 128, 200, 255];
        for member in members {
            set.insert(member);
        }
        assert_eq!(set.count(), 7);
        let mut chosen = Bits::EMPTY;
        for step in 0..=255_u64 {
            chosen.insert(set.choose(step << 56 | 0xff_ffff).unwrap());
        }
        assert_eq!(chosen, set);
        set.remove(200);
        assert!(!set.contains(200) && set.contains(255));
        assert_eq!(set.neither(&Bits::EMPTY).count(), 250);
    }
}
