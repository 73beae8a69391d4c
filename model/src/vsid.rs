//! Virtual subnet identifiers and FlowIDs, the two halves of the NVGRE key.

use std::fmt;

/// A virtual subnet identifier that may be used for a tenant: 0x001000 to 0xFFFFFE (RFC 7637
/// section 3.2 reserves 0 to 0xFFF and 0xFFFFFF).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vsid(u32);

/// A number that is no tenant's VSID.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("VSID {0} is not between 4096 (0x001000) and 16777214 (0xFFFFFE)")]
pub struct InvalidVsid(pub u32);

impl Vsid {
    /// The lowest VSID a tenant may use.
    pub const MIN: u32 = 0x00_1000;
    /// The highest VSID a tenant may use.
    pub const MAX: u32 = 0xFF_FFFE;

    /// The VSID with this number; refuses reserved ones.
    pub const fn new(number: u32) -> Result<Self, InvalidVsid> {
        if number < Self::MIN || number > Self::MAX {
            Err(InvalidVsid(number))
        } else {
            Ok(Self(number))
        }
    }

    /// The number, 24 bits.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The 32-bit GRE key: VSID in the upper 24 bits, FlowID below (RFC 7637 section 3.2).
    #[must_use]
    pub const fn key(self, flow: FlowId) -> u32 {
        self.0 << 8 | flow.0 as u32
    }
}

impl fmt::Display for Vsid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for Vsid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Vsid({:#08x})", self.0)
    }
}

/// The 8-bit FlowID: entropy for the underlay, zero when unused (RFC 7637 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FlowId(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_vsids_have_no_value() {
        for number in [0, 0xFFF, 0xFF_FFFF, 0x100_0000, u32::MAX] {
            assert_eq!(Vsid::new(number), Err(InvalidVsid(number)));
        }
        for number in [0x1000, 5001, 0xFF_FFFE] {
            assert_eq!(Vsid::new(number).unwrap().number(), number);
        }
    }

    #[test]
    fn the_key_holds_the_vsid_above_the_flow() {
        assert_eq!(Vsid::new(5001).unwrap().key(FlowId(7)), 5001 << 8 | 7);
    }
}
