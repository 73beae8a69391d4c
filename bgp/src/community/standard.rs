//! Communities of four bytes (RFC 1997), with the well-known ones that a speaker acts on.

use std::fmt;
use std::str::FromStr;

use super::decimal;

/// A community: by convention an AS number above and that AS's own number below (RFC 1997).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

/// A text that is not a community.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is neither a community such as 64496:100 nor the name of a well-known one")]
pub struct InvalidCommunity(pub String);

impl Community {
    /// Traffic may still come while the session is about to go: least preferred (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xFFFF_0000);
    /// A route with the local AS in its path is wanted back (RFC 7611).
    pub const ACCEPT_OWN: Self = Self(0xFFFF_0001);
    /// Kept beyond graceful restart, least preferred (RFC 9494).
    pub const LLGR_STALE: Self = Self(0xFFFF_0006);
    /// Not to be kept beyond graceful restart (RFC 9494).
    pub const NO_LLGR: Self = Self(0xFFFF_0007);
    /// Traffic is to be dropped (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xFFFF_029A);
    /// Not to leave the AS or confederation (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xFFFF_FF01);
    /// Not to be told anyone (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xFFFF_FF02);
    /// Not to leave the AS, nor the member of a confederation (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xFFFF_FF03);
    /// Not to go over bilateral peerings (RFC 3765).
    pub const NO_PEER: Self = Self(0xFFFF_FF04);

    const NAMES: [(Self, &'static str); 9] = [
        (Self::GRACEFUL_SHUTDOWN, "graceful-shutdown"),
        (Self::ACCEPT_OWN, "accept-own"),
        (Self::LLGR_STALE, "llgr-stale"),
        (Self::NO_LLGR, "no-llgr"),
        (Self::BLACKHOLE, "blackhole"),
        (Self::NO_EXPORT, "no-export"),
        (Self::NO_ADVERTISE, "no-advertise"),
        (Self::NO_EXPORT_SUBCONFED, "no-export-subconfed"),
        (Self::NO_PEER, "no-peer"),
    ];

    /// The community of a two-octet AS and a number of its own.
    #[must_use]
    pub const fn new(asn: u16, number: u16) -> Self {
        Self((asn as u32) << 16 | number as u32)
    }

    /// The upper half: the two-octet AS.
    #[must_use]
    pub const fn asn(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The lower half: the AS's own number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0 as u16
    }

    /// The name of a well-known community.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(community, _)| *community == self).map(|(_, name)| *name)
    }
}

/// The name of a well-known one, else two decimal numbers.
impl fmt::Display for Community {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}:{}", self.asn(), self.number()),
        }
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A well-known community may also be written as two numbers.
impl FromStr for Community {
    type Err = InvalidCommunity;

    fn from_str(text: &str) -> Result<Self, InvalidCommunity> {
        let named = Self::NAMES.iter().find(|(_, name)| *name == text);
        named
            .map(|(community, _)| *community)
            .or_else(|| {
                let (asn, number) = text.split_once(':')?;
                Some(Self::new(decimal(asn)?, decimal(number)?))
            })
            .ok_or_else(|| InvalidCommunity(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_that_is_shown_is_read_again() {
        for (community, name) in Community::NAMES {
            assert_eq!((name.parse(), community.to_string()), (Ok(community), name.to_owned()));
        }
        let own = Community::new(64_496, 100);
        assert_eq!((own.to_string().as_str(), own.0), ("64496:100", 0xFBF0_0064));
        assert_eq!("64496:100".parse(), Ok(own));
        assert_eq!("65535:666".parse(), Ok(Community::BLACKHOLE));
    }

    #[test]
    fn text_that_is_no_community_is_refused() {
        for text in ["", "1", "1:", ":1", "65536:1", "1:65536", "1:2:3", "+1:2", "No-Export"] {
            assert!(text.parse::<Community>().is_err(), "{text}");
        }
    }
}
