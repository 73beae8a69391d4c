//! NLRI fields: prefixes, with path identifiers where agreed (RFC 4271 section 4.3, RFC 7911
//! section 3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::Prefix;

use crate::family::Family;
use crate::nlri::{Nlri, PathId};

/// The routes of one field of an UPDATE, in its order. They borrow from the message, and were
/// checked whole: the iterator cannot fail. A copy begins where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nlris<'a> {
    family: Family,
    path_ids: bool,
    bytes: &'a [u8],
}

/// The most bytes that one takes: a path identifier, a length, an IPv6 address.
pub(super) const NLRI_MAX: usize = 4 + 1 + 16;

impl<'a> Nlris<'a> {
    /// The routes in `bytes`. None if a length is beyond the family's or one ends behind the field
    /// (RFC 7606 section 5.3).
    pub(super) fn checked(family: Family, path_ids: bool, bytes: &'a [u8]) -> Option<Self> {
        let all = Self { family, path_ids, bytes };
        let mut left = all;
        while !left.is_empty() {
            left.take_first()?;
        }
        Some(all)
    }

    /// No routes.
    pub(super) const fn empty(family: Family) -> Self {
        Self { family, path_ids: false, bytes: &[] }
    }

    /// The family of all of them.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Whether there is none left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes off the first: its path identifier, its length in bits, and the octets of its address.
    fn take_first(&mut self) -> Option<(Option<PathId>, u8, &'a [u8])> {
        let mut path_id = None;
        if self.path_ids {
            let (octets, rest) = self.bytes.split_first_chunk()?;
            path_id = Some(PathId(u32::from_be_bytes(*octets)));
            self.bytes = rest;
        }
        let (&length, rest) = self.bytes.split_first()?;
        if length > self.family.bits() {
            return None;
        }
        let (octets, rest) = rest.split_at_checked(usize::from(length).div_ceil(8))?;
        self.bytes = rest;
        Some((path_id, length, octets))
    }
}

/// Host bits that are set are cleared (RFC 4271 section 4.3).
impl Iterator for Nlris<'_> {
    type Item = Nlri;

    fn next(&mut self) -> Option<Nlri> {
        let (path_id, length, octets) = self.take_first()?;
        let address = match self.family {
            Family::Ipv4Unicast => IpAddr::V4(Ipv4Addr::from(padded(octets))),
            Family::Ipv6Unicast => IpAddr::V6(Ipv6Addr::from(padded(octets))),
        };
        let prefix = Prefix::containing(address, length).ok()?;
        Some(Nlri { prefix, path_id })
    }
}

/// The leading octets of an address of `N` octets; the others are zero.
fn padded<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut address = [0; N];
    address[..octets.len()].copy_from_slice(octets);
    address
}

/// Appends a route, with a path identifier if `path_ids`: 0 if the route has none.
pub(super) fn put(nlri: Nlri, path_ids: bool, out: &mut Vec<u8>) {
    if path_ids {
        let PathId(path_id) = nlri.path_id.unwrap_or(PathId(0));
        out.extend_from_slice(&path_id.to_be_bytes());
    }
    let length = nlri.prefix.length();
    out.push(length);
    let octets = usize::from(length).div_ceil(8);
    match nlri.prefix.network() {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()[..octets]),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()[..octets]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::arbitrary;

    fn read(family: Family, path_ids: bool, bytes: &[u8]) -> Option<Vec<String>> {
        Nlris::checked(family, path_ids, bytes)
            .map(|routes| routes.map(|nlri| nlri.to_string()).collect())
    }

    #[test]
    fn a_field_has_the_octets_that_each_length_needs() {
        use Family::{Ipv4Unicast, Ipv6Unicast};
        let ipv4 = [0, 8, 10, 9, 172, 0x80, 24, 192, 0, 2, 32, 192, 0, 2, 1];
        let expected = ["0.0.0.0/0", "10.0.0.0/8", "172.128.0.0/9", "192.0.2.0/24", "192.0.2.1/32"];
        assert_eq!(read(Ipv4Unicast, false, &ipv4).unwrap(), expected);
        let ipv6 = [0, 32, 0x20, 1, 0xD, 0xB8, 33, 0x20, 1, 0xD, 0xB8, 0x80];
        let expected = ["::/0", "2001:db8::/32", "2001:db8:8000::/33"];
        assert_eq!(read(Ipv6Unicast, false, &ipv6).unwrap(), expected);
        let paths = [0, 0, 0, 7, 8, 10, 0xFF, 0xFF, 0xFF, 0xFF, 0];
        let expected = ["10.0.0.0/8 path 7", "0.0.0.0/0 path 4294967295"];
        assert_eq!(read(Ipv4Unicast, true, &paths).unwrap(), expected);
        assert_eq!(read(Ipv6Unicast, true, &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(read(Family::Ipv4Unicast, false, &[9, 10, 0xFF]).unwrap(), ["10.128.0.0/9"]);
        assert_eq!(read(Family::Ipv6Unicast, false, &[3, 0xFF]).unwrap(), ["e000::/3"]);
    }

    #[test]
    fn lengths_beyond_the_family_or_the_field_are_incorrect() {
        for (family, path_ids, bytes) in [
            (Family::Ipv4Unicast, false, &[33, 1, 2, 3, 4, 5][..]),
            (Family::Ipv4Unicast, false, &[24, 1, 2]),
            (Family::Ipv4Unicast, false, &[8, 10, 8]),
            (Family::Ipv6Unicast, false, &[129; 18]),
            (Family::Ipv6Unicast, false, &[128; 16]),
            (Family::Ipv4Unicast, true, &[0, 0, 0]),
            (Family::Ipv4Unicast, true, &[0, 0, 0, 1]),
            (Family::Ipv4Unicast, true, &[0, 0, 0, 1, 8]),
        ] {
            assert_eq!(read(family, path_ids, bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(
            routes in proptest::collection::vec(arbitrary::nlri(Family::Ipv6Unicast, true), 0..9),
            ipv4 in proptest::collection::vec(arbitrary::nlri(Family::Ipv4Unicast, false), 0..9),
        ) {
            for (family, path_ids, routes) in
                [(Family::Ipv6Unicast, true, routes), (Family::Ipv4Unicast, false, ipv4)]
            {
                let mut bytes = Vec::new();
                for nlri in &routes {
                    let before = bytes.len();
                    put(*nlri, path_ids, &mut bytes);
                    prop_assert_eq!(bytes.len() - before, nlri.wire_length());
                    prop_assert!(nlri.wire_length() <= NLRI_MAX);
                }
                let read: Vec<Nlri> = Nlris::checked(family, path_ids, &bytes).unwrap().collect();
                prop_assert_eq!(read, routes);
            }
        }

        #[test]
        fn all_that_is_checked_is_read(bytes: Vec<u8>, path_ids: bool) {
            for family in Family::ALL {
                let Some(routes) = Nlris::checked(family, path_ids, &bytes) else { continue };
                let mut length = 0;
                for nlri in routes {
                    length += nlri.wire_length();
                }
                prop_assert_eq!(length, bytes.len());
            }
        }
    }
}
