//! Autonomous system numbers.

use std::fmt;
use std::str::FromStr;

/// A four-octet autonomous system number (RFC 6793). Any value is possible, because any may stand
/// in a message; [`is_reserved`](Self::is_reserved) says which nobody may use as its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(pub u32);

/// A text that is not an autonomous system number.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not an AS number, 0 to 4294967295 in decimal digits")]
pub struct InvalidAsn(pub String);

impl Asn {
    /// AS 0, which must not stand in a route (RFC 7607).
    pub const ZERO: Self = Self(0);
    /// AS_TRANS, which stands for numbers beyond 65535 where there is room for two octets only
    /// (RFC 6793 section 9).
    pub const TRANS: Self = Self(23_456);

    /// Whether nobody's AS may have this number: 0 (RFC 7607), 23456 (RFC 6793), 65535 and
    /// 4294967295 (RFC 7300).
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        matches!(self, Self::ZERO | Self::TRANS | Self(65_535 | u32::MAX))
    }

    /// Whether the number is for private use: 64512 to 65534, 4200000000 to 4294967294
    /// (RFC 6996 section 5).
    #[must_use]
    pub const fn is_private(self) -> bool {
        matches!(self.0, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
    }

    /// Whether the number is for documentation: 64496 to 64511, 65536 to 65551 (RFC 5398
    /// section 4).
    #[must_use]
    pub const fn is_documentation(self) -> bool {
        matches!(self.0, 64_496..=64_511 | 65_536..=65_551)
    }

    /// The number in two octets: itself, or AS_TRANS if it is beyond 65535 (RFC 6793 section 4.2.2).
    #[must_use]
    pub const fn in_two_octets(self) -> u16 {
        if self.0 <= u16::MAX as u32 { self.0 as u16 } else { Self::TRANS.0 as u16 }
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for Asn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AS{}", self.0)
    }
}

/// The plain decimal notation of RFC 5396, without a sign.
impl FromStr for Asn {
    type Err = InvalidAsn;

    fn from_str(text: &str) -> Result<Self, InvalidAsn> {
        let refuse = || InvalidAsn(text.to_owned());
        if !text.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(refuse());
        }
        text.parse().map(Self).map_err(|_| refuse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_ranges_end_before_the_reserved_numbers() {
        for (number, private, reserved) in [
            (0, false, true),
            (23_456, false, true),
            (64_511, false, false),
            (64_512, true, false),
            (65_534, true, false),
            (65_535, false, true),
            (4_199_999_999, false, false),
            (4_200_000_000, true, false),
            (4_294_967_294, true, false),
            (4_294_967_295, false, true),
        ] {
            let asn = Asn(number);
            assert_eq!((asn.is_private(), asn.is_reserved()), (private, reserved), "{asn}");
        }
    }

    #[test]
    fn documentation_numbers_are_neither_private_nor_reserved() {
        for number in [64_496, 64_511, 65_536, 65_551] {
            let asn = Asn(number);
            assert!(asn.is_documentation() && !asn.is_private() && !asn.is_reserved(), "{asn}");
        }
        assert!(!Asn(64_495).is_documentation() && !Asn(65_552).is_documentation());
    }

    #[test]
    fn what_two_octets_cannot_hold_is_as_trans() {
        assert_eq!(Asn(65_535).in_two_octets(), 65_535);
        assert_eq!(Asn(65_536).in_two_octets(), 23_456);
    }

    #[test]
    fn only_plain_decimal_digits_are_a_number() {
        assert_eq!("4200000000".parse(), Ok(Asn(4_200_000_000)));
        for text in ["", "+1", "-1", "1.10", "AS1", "4294967296", " 1"] {
            assert!(text.parse::<Asn>().is_err(), "{text}");
        }
    }
}
