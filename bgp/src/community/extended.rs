//! Communities of eight bytes with a type (RFC 4360, RFC 5668), named where their type is known.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use nvgate_model::Asn;

use super::decimal;

/// An extended community: one or two bytes of type, then a value (RFC 4360 section 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// A text that is not an extended community.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is not an extended community such as rt:64496:100, soo:192.0.2.1:100 or \
     0x0002fbf000000064"
)]
pub struct InvalidExtendedCommunity(pub String);

/// The sub-types that have a name in front of all three forms of administrator.
const NAMES: [(u8, &str); 2] = [(0x02, "rt"), (0x03, "soo")];

const TWO_OCTET_AS: u8 = 0x00;
const IPV4_ADDRESS: u8 = 0x01;
const FOUR_OCTET_AS: u8 = 0x02;

impl ExtendedCommunity {
    /// The sub-type of a route target (RFC 4360 section 4).
    pub const ROUTE_TARGET: u8 = 0x02;
    /// The sub-type of a route origin, also called site of origin (RFC 4360 section 5).
    pub const ROUTE_ORIGIN: u8 = 0x03;

    /// A transitive community of an AS that fits two octets (RFC 4360 section 3.1).
    #[must_use]
    pub const fn of_two_octet_as(sub_type: u8, asn: u16, number: u32) -> Self {
        let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), number.to_be_bytes());
        Self([TWO_OCTET_AS, sub_type, a, b, c, d, e, f])
    }

    /// A transitive community of an IPv4 address (RFC 4360 section 3.2).
    #[must_use]
    pub const fn of_ipv4(sub_type: u8, address: Ipv4Addr, number: u16) -> Self {
        let ([a, b, c, d], [e, f]) = (address.octets(), number.to_be_bytes());
        Self([IPV4_ADDRESS, sub_type, a, b, c, d, e, f])
    }

    /// A transitive community of an AS in four octets (RFC 5668 section 2).
    #[must_use]
    pub const fn of_four_octet_as(sub_type: u8, asn: Asn, number: u16) -> Self {
        let ([a, b, c, d], [e, f]) = (asn.0.to_be_bytes(), number.to_be_bytes());
        Self([FOUR_OCTET_AS, sub_type, a, b, c, d, e, f])
    }

    /// Whether the community may leave the AS (RFC 4360 section 2).
    #[must_use]
    pub const fn is_transitive(self) -> bool {
        self.0[0] & 0x40 == 0
    }
}

/// `rt:` or `soo:` with administrator and number; a four-octet AS that would fit two octets has an
/// `L` behind it. Everything else in hexadecimal.
impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, sub_type, a, b, c, d, e, f] = self.0;
        let name = NAMES.iter().find(|(known, _)| *known == sub_type).map(|(_, name)| *name);
        let low = u16::from_be_bytes([e, f]);
        match (name, kind) {
            (Some(name), TWO_OCTET_AS) => {
                let (asn, number) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
                write!(formatter, "{name}:{asn}:{number}")
            }
            (Some(name), IPV4_ADDRESS) => {
                write!(formatter, "{name}:{}:{low}", Ipv4Addr::new(a, b, c, d))
            }
            (Some(name), FOUR_OCTET_AS) => {
                let asn = u32::from_be_bytes([a, b, c, d]);
                let mark = if asn <= u32::from(u16::MAX) { "L" } else { "" };
                write!(formatter, "{name}:{asn}{mark}:{low}")
            }
            (Some(_) | None, _) => write!(formatter, "{:#018x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl fmt::Debug for ExtendedCommunity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for ExtendedCommunity {
    type Err = InvalidExtendedCommunity;

    fn from_str(text: &str) -> Result<Self, InvalidExtendedCommunity> {
        let read = || match text.strip_prefix("0x") {
            Some(digits) => hexadecimal(digits),
            None => named(text),
        };
        read().ok_or_else(|| InvalidExtendedCommunity(text.to_owned()))
    }
}

fn hexadecimal(digits: &str) -> Option<ExtendedCommunity> {
    let whole = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let value = whole.then(|| u64::from_str_radix(digits, 16).ok())??;
    Some(ExtendedCommunity(value.to_be_bytes()))
}

fn named(text: &str) -> Option<ExtendedCommunity> {
    let (name, rest) = text.split_once(':')?;
    let (administrator, number) = rest.split_once(':')?;
    let (sub_type, _) = *NAMES.iter().find(|(_, known)| *known == name)?;
    let four_octets =
        |asn: u32| Some(ExtendedCommunity::of_four_octet_as(sub_type, Asn(asn), decimal(number)?));
    if let Ok(address) = administrator.parse() {
        return Some(ExtendedCommunity::of_ipv4(sub_type, address, decimal(number)?));
    }
    if let Some(long) = administrator.strip_suffix('L') {
        return four_octets(decimal(long)?);
    }
    let asn: u32 = decimal(administrator)?;
    match u16::try_from(asn) {
        Ok(asn) => Some(ExtendedCommunity::of_two_octet_as(sub_type, asn, decimal(number)?)),
        Err(_) => four_octets(asn),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_has_its_text_and_bytes() {
        for (text, bytes) in [
            ("rt:64496:100", [0x00, 0x02, 0xFB, 0xF0, 0, 0, 0, 100]),
            ("soo:192.0.2.1:7", [0x01, 0x03, 192, 0, 2, 1, 0, 7]),
            ("rt:4200000000:7", [0x02, 0x02, 0xFA, 0x56, 0xEA, 0, 0, 7]),
            ("rt:64496L:7", [0x02, 0x02, 0, 0, 0xFB, 0xF0, 0, 7]),
            ("0x030c000000000009", [0x03, 0x0C, 0, 0, 0, 0, 0, 9]),
        ] {
            let community = ExtendedCommunity(bytes);
            assert_eq!((text.parse(), community.to_string()), (Ok(community), text.to_owned()));
        }
    }

    #[test]
    fn the_second_bit_keeps_a_community_in_its_as() {
        assert!(ExtendedCommunity([0x03; 8]).is_transitive());
        assert!(!ExtendedCommunity([0x43; 8]).is_transitive());
    }

    #[test]
    fn text_that_is_no_extended_community_is_refused() {
        for text in
            ["", "rt:1", "xx:1:2", "rt:1:2:3", "rt:4200000000:65536", "0x1", "0x+30c000000000009"]
        {
            assert!(text.parse::<ExtendedCommunity>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_their_text_is_read_again(bytes: [u8; 8], kind in 0_u8..5) {
            for bytes in [bytes, [kind, 2, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]] {
                let community = ExtendedCommunity(bytes);
                prop_assert_eq!(community.to_string().parse(), Ok(community));
            }
        }
    }
}
