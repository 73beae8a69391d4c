//! Addresses of the three networks a gateway joins, and MAC addresses.
//!
//! The three address types wrap the same [`IpAddr`] and never convert into one another: which
//! network an address belongs to is part of its type.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

macro_rules! network_address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub IpAddr);

        impl $name {
            /// The bare address, for arithmetic and for the wire.
            #[must_use]
            pub const fn ip(self) -> IpAddr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

network_address! {
    /// An address a tenant chose (CA, RFC 7637 section 1.1). It means nothing outside its routing
    /// domain: two tenants may use the same one.
    CustomerAddress
}
network_address! {
    /// An address of the underlay (PA, RFC 7637 section 1.1), between which NVGRE travels.
    ProviderAddress
}
network_address! {
    /// A public address of the front end, leased to one tenant.
    FrontEndAddress
}

/// An IEEE 802 MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set: broadcast or multicast (IEEE 802 section 8.2).
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether this can be a station's own address: not a group address and not all zero.
    #[must_use]
    pub fn is_station(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A text that is not a MAC address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a MAC address: six two-digit hexadecimal bytes joined by `:` or `-`")]
pub struct InvalidMacAddress(pub String);

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    /// Reads `02:00:00:00:00:01` or `02-00-00-00-00-01` (as Windows prints it).
    fn from_str(text: &str) -> Result<Self, InvalidMacAddress> {
        let refuse = || InvalidMacAddress(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refuse)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_reads_both_spellings_and_prints_one() {
        let colon: MacAddress = "02:00:5E:10:00:fe".parse().unwrap();
        let dash: MacAddress = "02-00-5e-10-00-FE".parse().unwrap();
        assert_eq!(colon, dash);
        assert_eq!(colon.to_string(), "02:00:5e:10:00:fe");
    }

    #[test]
    fn a_mac_address_refuses_what_is_not_six_bytes() {
        for text in [
            "",
            "02:00",
            "02:00:00:00:00:0",
            "02:00:00:00:00:00:00",
            "+2:00:00:00:00:00",
            "02:00-00:00:00:00",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
