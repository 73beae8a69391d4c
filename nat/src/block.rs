//! A block of 256 public ports of one address and protocol: which are lent to mappings and which
//! belong to inbound rules.

use crate::bits::Bits;

/// Ports in a block.
pub(crate) const BLOCK_PORTS: u16 = 256;

/// The block a port lies in.
pub(crate) const fn block_of(port: u16) -> u8 {
    (port / BLOCK_PORTS) as u8
}

/// A leased block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    number: u8,
    taken: Bits,
    claimed: Bits,
}

impl Block {
    /// The block `number`, of whose ports inbound rules claim `claimed`.
    pub(crate) const fn new(number: u8, claimed: Bits) -> Self {
        Self { number, taken: Bits::EMPTY, claimed }
    }

    /// Lends a free port chosen by `chance` (RFC 6056 section 3.3.1); `None` when all are lent or
    /// claimed.
    pub(crate) fn take(&mut self, chance: u64) -> Option<u16> {
        let offset = self.taken.neither(&self.claimed).choose(chance)?;
        self.taken.insert(offset);
        Some(u16::from(self.number) * BLOCK_PORTS + u16::from(offset))
    }

    /// Takes `port` back.
    pub(crate) fn give_back(&mut self, port: u16) {
        let offset = (port % BLOCK_PORTS) as u8;
        debug_assert!(self.taken.contains(offset), "port {port} was not lent");
        self.taken.remove(offset);
    }

    /// Replaces the ports that inbound rules claim; none of them is lent.
    pub(crate) fn set_claimed(&mut self, claimed: Bits) {
        self.claimed = claimed;
    }

    /// Whether a port can be lent.
    pub(crate) fn has_free(&self) -> bool {
        !self.taken.neither(&self.claimed).is_empty()
    }

    /// Whether no port is lent.
    pub(crate) fn is_unused(&self) -> bool {
        self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_block_lends_every_unclaimed_port_once() {
        let mut claimed = Bits::EMPTY;
        claimed.insert(0);
        claimed.insert(80);
        let mut block = Block::new(8, claimed);
        let mut lent = BTreeSet::new();
        let mut chance = 1_u64;
        while let Some(port) = block.take(chance) {
            assert!(lent.insert(port));
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        assert_eq!(lent.len(), 254);
        assert!(lent.iter().all(|&port| block_of(port) == 8));
        assert!(!lent.contains(&2048) && !lent.contains(&2128));
        block.give_back(2049);
        assert!(block.has_free());
        assert_eq!(block.take(chance), Some(2049));
    }
}
