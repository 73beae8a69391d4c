//! IP prefixes whose host bits are zero by construction.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 prefix: an address with its host bits zero, and a length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    network: IpAddr,
    length: u8,
}

/// A text or pair that is not a prefix.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidPrefix {
    /// The length is more than the address family has bits.
    #[error("prefix length {length} is more than {bits}, the bits of the address")]
    Length {
        /// The length given.
        length: u8,
        /// 32 for IPv4, 128 for IPv6.
        bits: u8,
    },
    /// Bits behind the length are set.
    #[error("{address}/{length} has host bits set; the prefix is {network}/{length}")]
    HostBits {
        /// The address given.
        address: IpAddr,
        /// The address with its host bits cleared.
        network: IpAddr,
        /// The length given.
        length: u8,
    },
    /// The text is not `address/length`.
    #[error("`{0}` is not a prefix: an IP address, `/` and a length")]
    Text(String),
}

impl Prefix {
    /// `0.0.0.0/0`.
    pub const DEFAULT_V4: Self = Self { network: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 };
    /// `::/0`.
    pub const DEFAULT_V6: Self = Self { network: IpAddr::V6(Ipv6Addr::UNSPECIFIED), length: 0 };

    /// The prefix `network/length`; refuses set host bits and a length beyond the family.
    pub fn new(network: IpAddr, length: u8) -> Result<Self, InvalidPrefix> {
        let prefix = Self::containing(network, length)?;
        if prefix.network == network {
            Ok(prefix)
        } else {
            Err(InvalidPrefix::HostBits { address: network, network: prefix.network, length })
        }
    }

    /// The prefix of this length that `address` lies in.
    pub fn containing(address: IpAddr, length: u8) -> Result<Self, InvalidPrefix> {
        let bits = family_bits(address);
        if length > bits {
            return Err(InvalidPrefix::Length { length, bits });
        }
        let network = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(u32::from(bits - length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(u32::from(bits - length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Ok(Self { network, length })
    }

    /// The prefix of full length that holds only `address`.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self { network: address, length: family_bits(address) }
    }

    /// The address with its host bits zero.
    #[must_use]
    pub const fn network(self) -> IpAddr {
        self.network
    }

    /// The number of leading bits that count, 0 to 32 or 128.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether this is an IPv4 prefix.
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.network.is_ipv4()
    }

    /// Whether `address` lies in this prefix; an address of the other family never does.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4()
            && Self::containing(address, self.length).is_ok_and(|prefix| prefix == self)
    }

    /// Whether every address of `other` lies in this prefix.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(other.network)
    }

    /// Whether the two prefixes share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The lowest host address: the network address plus one, or the only address of a
    /// full-length prefix. For a virtual subnet this is its default gateway.
    #[must_use]
    pub fn lowest_host(self) -> IpAddr {
        if self.length == family_bits(self.network) {
            return self.network;
        }
        match self.network {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() + 1)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() + 1)),
        }
    }

    /// What is left of this prefix without the addresses of `hole`, as few prefixes.
    #[must_use]
    pub fn without(self, hole: Self) -> Vec<Self> {
        if hole.covers(self) {
            return Vec::new();
        }
        if !self.covers(hole) {
            return vec![self];
        }
        // Each longer prefix of the hole's network leaves its other half.
        let beside = |length: u8| {
            let bits = family_bits(self.network) - length;
            let network = match Self::containing(hole.network, length).ok()?.network {
                IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ 1 << bits)),
                IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ 1 << bits)),
            };
            Some(Self { network, length })
        };
        let mut left: Vec<Self> = (self.length + 1..=hole.length).filter_map(beside).collect();
        left.sort_unstable();
        left
    }

    /// The directed broadcast address of an IPv4 prefix of at most 30 bits (RFC 919); IPv6 and
    /// point-to-point prefixes (RFC 3021) have none.
    #[must_use]
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        match self.network {
            IpAddr::V4(v4) if self.length <= 30 => {
                let host_mask = u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
                Some(Ipv4Addr::from_bits(v4.to_bits() | host_mask))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// How many addresses the prefix holds, saturating at `u128::MAX` for `::/0`.
    #[must_use]
    pub fn size(self) -> u128 {
        1_u128.checked_shl(u32::from(family_bits(self.network) - self.length)).unwrap_or(u128::MAX)
    }
}

const fn family_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let refuse = || InvalidPrefix::Text(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(refuse)?;
        if length.is_empty() || !length.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(refuse());
        }
        Self::new(address.parse().map_err(|_| refuse())?, length.parse().map_err(|_| refuse())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_refused_with_the_prefix_that_was_meant() {
        let error = "10.0.0.1/24".parse::<Prefix>().unwrap_err();
        assert_eq!(error.to_string(), "10.0.0.1/24 has host bits set; the prefix is 10.0.0.0/24");
    }

    #[test]
    fn the_default_prefixes_contain_their_family_only() {
        assert!(Prefix::DEFAULT_V4.contains("203.0.113.7".parse().unwrap()));
        assert!(!Prefix::DEFAULT_V4.contains("2001:db8::1".parse().unwrap()));
        assert!(Prefix::DEFAULT_V6.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn the_lowest_host_is_the_default_gateway() {
        assert_eq!(prefix("10.254.254.0/29").lowest_host().to_string(), "10.254.254.1");
        assert_eq!(prefix("fd00:1::/64").lowest_host().to_string(), "fd00:1::1");
        assert_eq!(prefix("10.0.0.9/32").lowest_host().to_string(), "10.0.0.9");
    }

    #[test]
    fn broadcast_size_and_overlap() {
        assert_eq!(prefix("10.0.0.0/24").broadcast(), Some("10.0.0.255".parse().unwrap()));
        assert_eq!(prefix("0.0.0.0/0").broadcast(), Some("255.255.255.255".parse().unwrap()));
        assert_eq!(prefix("10.0.0.0/31").broadcast(), None);
        assert_eq!(prefix("10.0.0.0/24").size(), 256);
        assert!(prefix("10.0.0.0/8").overlaps(prefix("10.1.0.0/16")));
        assert!(!prefix("10.0.0.0/16").overlaps(prefix("10.1.0.0/16")));
    }

    #[test]
    fn a_hole_leaves_everything_around_it() {
        let left = prefix("203.0.113.0/29").without(prefix("203.0.113.2/32"));
        let expected = ["203.0.113.0/31", "203.0.113.3/32", "203.0.113.4/30"].map(prefix);
        assert_eq!(left, expected);
        assert_eq!(prefix("10.0.0.0/8").without(prefix("10.0.0.0/8")), []);
        assert_eq!(prefix("10.0.0.0/8").without(prefix("11.0.0.0/8")), [prefix("10.0.0.0/8")]);
        assert_eq!(prefix("::/0").without(prefix("8000::/1")), [prefix("::/1")]);
    }

    #[test]
    fn text_that_is_no_prefix_is_refused() {
        for text in
            ["10.0.0.0", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/256"]
        {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
