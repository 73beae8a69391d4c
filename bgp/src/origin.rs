//! The ORIGIN attribute.

use std::fmt;
use std::str::FromStr;

/// How a route came into BGP (RFC 4271 section 5.1.1). Lower is preferred (section 9.1.2.2 b).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Origin {
    /// Interior to the originating AS.
    Igp = 0,
    /// Learned by the protocol of RFC 904.
    Egp = 1,
    /// By some other means.
    Incomplete = 2,
}

/// A text that names no origin.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is none of igp, egp and incomplete")]
pub struct InvalidOrigin(pub String);

impl Origin {
    const ALL: [Self; 3] = [Self::Igp, Self::Egp, Self::Incomplete];

    /// The origin with this number on the wire; there are three.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    /// The name in configuration and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Igp => "igp",
            Self::Egp => "egp",
            Self::Incomplete => "incomplete",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        Self::ALL
            .into_iter()
            .find(|origin| origin.name() == text)
            .ok_or_else(|| InvalidOrigin(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_preference_and_of_the_wire() {
        assert!(Origin::Igp < Origin::Egp && Origin::Egp < Origin::Incomplete);
        for origin in Origin::ALL {
            assert_eq!(Origin::from_wire(origin.to_wire()), Some(origin));
            assert_eq!(origin.to_string().parse(), Ok(origin));
        }
        assert_eq!(Origin::from_wire(3), None);
    }
}
