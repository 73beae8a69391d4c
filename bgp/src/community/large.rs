//! Communities of twelve bytes (RFC 8092).

use std::fmt;
use std::str::FromStr;

use nvgate_model::Asn;

use super::decimal;

/// A large community: an AS and two numbers of its own (RFC 8092 section 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// The global administrator: the AS that gives the rest its meaning.
    pub global: Asn,
    /// The first local data part.
    pub local_1: u32,
    /// The second local data part.
    pub local_2: u32,
}

/// A text that is not a large community.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a large community such as 64496:100:1")]
pub struct InvalidLargeCommunity(pub String);

impl LargeCommunity {
    /// The community in these twelve bytes of the attribute.
    #[must_use]
    pub fn from_wire(bytes: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            global: Asn(u32::from_be_bytes([a, b, c, d])),
            local_1: u32::from_be_bytes([e, f, g, h]),
            local_2: u32::from_be_bytes([i, j, k, l]),
        }
    }

    /// The twelve bytes in the attribute.
    #[must_use]
    pub fn to_wire(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.global.0.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.local_1.to_be_bytes());
        bytes[8..].copy_from_slice(&self.local_2.to_be_bytes());
        bytes
    }
}

/// Three decimal numbers (RFC 8092 section 5).
impl fmt::Display for LargeCommunity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.global, self.local_1, self.local_2)
    }
}

impl fmt::Debug for LargeCommunity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for LargeCommunity {
    type Err = InvalidLargeCommunity;

    fn from_str(text: &str) -> Result<Self, InvalidLargeCommunity> {
        let mut parts = text.splitn(3, ':');
        let mut next = || decimal(parts.next()?);
        let mut read = || Some(Self { global: Asn(next()?), local_1: next()?, local_2: next()? });
        read().ok_or_else(|| InvalidLargeCommunity(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_text_are_read_again() {
        let community =
            LargeCommunity { global: Asn(4_200_000_000), local_1: 1, local_2: u32::MAX };
        assert_eq!(LargeCommunity::from_wire(community.to_wire()), community);
        assert_eq!(community.to_wire(), [0xFA, 0x56, 0xEA, 0, 0, 0, 0, 1, 255, 255, 255, 255]);
        assert_eq!(community.to_string(), "4200000000:1:4294967295");
        assert_eq!(community.to_string().parse(), Ok(community));
    }

    #[test]
    fn text_that_is_no_large_community_is_refused() {
        for text in ["", "1:2", "1:2:", "1:2:3:4", "1:2:4294967296", "1:-2:3"] {
            assert!(text.parse::<LargeCommunity>().is_err(), "{text}");
        }
    }
}
