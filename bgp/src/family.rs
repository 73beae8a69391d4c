//! Address families: what a session may carry routes of.

use std::fmt;
use std::str::FromStr;

use nvgate_model::Prefix;

/// An address family that this speaker implements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// AFI 1, SAFI 1 (RFC 4760).
    Ipv4Unicast,
    /// AFI 2, SAFI 1 (RFC 2545).
    Ipv6Unicast,
}

/// An AFI and a SAFI as they stand in a message, implemented or not (RFC 4760 section 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AfiSafi {
    /// The address family identifier.
    pub afi: u16,
    /// The subsequent address family identifier.
    pub safi: u8,
}

/// A text that names no family.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is neither ipv4-unicast nor ipv6-unicast")]
pub struct InvalidFamily(pub String);

impl Family {
    /// Every family, in the order of [`index`](Self::index).
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// The place of the family in tables with one entry a family.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Ipv4Unicast => 0,
            Self::Ipv6Unicast => 1,
        }
    }

    /// The family of a prefix.
    #[must_use]
    pub const fn of(prefix: Prefix) -> Self {
        if prefix.is_ipv4() { Self::Ipv4Unicast } else { Self::Ipv6Unicast }
    }

    /// The greatest prefix length, 32 or 128.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Ipv4Unicast => 32,
            Self::Ipv6Unicast => 128,
        }
    }

    /// How the family stands in a message.
    #[must_use]
    pub const fn afi_safi(self) -> AfiSafi {
        match self {
            Self::Ipv4Unicast => AfiSafi { afi: 1, safi: 1 },
            Self::Ipv6Unicast => AfiSafi { afi: 2, safi: 1 },
        }
    }

    /// The name in configuration and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
        }
    }
}

impl AfiSafi {
    /// The family this is, if it is implemented.
    #[must_use]
    pub fn family(self) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.afi_safi() == self)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The family's name, or the two numbers of one that is not implemented.
impl fmt::Display for AfiSafi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family() {
            Some(family) => family.fmt(formatter),
            None => write!(formatter, "AFI {} SAFI {}", self.afi, self.safi),
        }
    }
}

impl FromStr for Family {
    type Err = InvalidFamily;

    fn from_str(text: &str) -> Result<Self, InvalidFamily> {
        Self::ALL
            .into_iter()
            .find(|family| family.name() == text)
            .ok_or_else(|| InvalidFamily(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_found_by_its_name_numbers_and_index() {
        for (index, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family.index(), index);
            assert_eq!(family.afi_safi().family(), Some(family));
            assert_eq!(family.to_string().parse(), Ok(family));
        }
    }

    #[test]
    fn a_foreign_family_shows_its_numbers() {
        let evpn = AfiSafi { afi: 25, safi: 70 };
        assert_eq!((evpn.family(), evpn.to_string()), (None, "AFI 25 SAFI 70".to_owned()));
    }

    #[test]
    fn a_prefix_has_one_family() {
        assert_eq!(Family::of(Prefix::DEFAULT_V4), Family::Ipv4Unicast);
        assert_eq!(Family::of(Prefix::DEFAULT_V6), Family::Ipv6Unicast);
        assert_eq!(Family::of(Prefix::host("::1".parse().unwrap())).bits(), 128);
    }
}
