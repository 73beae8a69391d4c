//! What an address or prefix cannot be used for, and which prefixes overlap.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use nvgate_model::Prefix;

use crate::schema::Place;

/// Prefixes that no unicast address of a network is in (RFC 6890, RFC 4291), and what they are.
static SPECIAL: LazyLock<Vec<(Prefix, &'static str)>> = LazyLock::new(|| {
    let mapped = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
    [
        (IpAddr::from([0, 0, 0, 0]), 8, "\"this network\" (0.0.0.0/8)"),
        (IpAddr::from([127, 0, 0, 0]), 8, "loopback (127.0.0.0/8)"),
        (IpAddr::from([169, 254, 0, 0]), 16, "link-local (169.254.0.0/16)"),
        (IpAddr::from([224, 0, 0, 0]), 4, "multicast (224.0.0.0/4)"),
        (IpAddr::from([240, 0, 0, 0]), 4, "reserved (240.0.0.0/4)"),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, "the unspecified address (::)"),
        (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, "loopback (::1)"),
        (IpAddr::V6(mapped), 96, "IPv4-mapped (::ffff:0:0/96)"),
        (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10, "link-local (fe80::/10)"),
        (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8, "multicast (ff00::/8)"),
    ]
    .into_iter()
    .filter_map(|(network, length, what)| Some((Prefix::new(network, length).ok()?, what)))
    .collect()
});

/// What makes `address` no unicast address that can be routed.
pub(super) fn special_address(address: IpAddr) -> Option<&'static str> {
    SPECIAL.iter().find(|(prefix, _)| prefix.contains(address)).map(|&(_, what)| what)
}

/// What of `prefix` is no unicast address that can be routed.
pub(super) fn special_part(prefix: Prefix) -> Option<&'static str> {
    SPECIAL.iter().find(|(special, _)| special.overlaps(prefix)).map(|&(_, what)| what)
}

/// What makes all of `prefix` no unicast addresses that can be routed.
pub(super) fn special_whole(prefix: Prefix) -> Option<&'static str> {
    SPECIAL.iter().find(|(special, _)| special.covers(prefix)).map(|&(_, what)| what)
}

/// What `address` is in a subnet's prefix that contains it, if no endpoint can have it.
pub(super) fn reserved_role(prefix: Prefix, address: IpAddr) -> Option<&'static str> {
    if address == prefix.lowest_host() {
        Some("the default gateway")
    } else if address == prefix.network() {
        Some("the network address")
    } else if prefix.broadcast().map(IpAddr::V4) == Some(address) {
        Some("the broadcast address")
    } else {
        None
    }
}

/// Pairs of overlapping claims, as indices: each claim with the narrowest that covers it, the one
/// that is written later first. Two prefixes overlap only if one covers the other, so a sweep in
/// address order that remembers the covering ones finds them all.
pub(super) fn overlaps(claims: &[(Prefix, Place)]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    let key = |&index: &usize| {
        let (prefix, place) = claims[index];
        (prefix.network(), prefix.length(), place)
    };
    order.sort_by_key(key);
    let mut covering: Vec<usize> = Vec::new();
    let mut pairs = Vec::new();
    for index in order {
        while covering.last().is_some_and(|&top| !claims[top].0.covers(claims[index].0)) {
            covering.pop();
        }
        if let Some(&top) = covering.last() {
            let later_first = claims[index].1 > claims[top].1;
            pairs.push(if later_first { (index, top) } else { (top, index) });
        }
        covering.push(index);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn special_addresses_are_named() {
        let what = |text: &str| special_address(text.parse().unwrap());
        assert_eq!(what("224.0.0.5"), Some("multicast (224.0.0.0/4)"));
        assert_eq!(what("255.255.255.255"), Some("reserved (240.0.0.0/4)"));
        assert_eq!(what("fe80::1"), Some("link-local (fe80::/10)"));
        assert_eq!(what("::ffff:10.0.0.1"), Some("IPv4-mapped (::ffff:0:0/96)"));
        assert_eq!(what("10.0.0.1"), None);
        assert_eq!(what("fd00::1"), None);
        assert_eq!(special_whole(Prefix::DEFAULT_V4), None);
        assert!(special_part(Prefix::DEFAULT_V4).is_some());
        assert_eq!(SPECIAL.len(), 10);
    }

    proptest! {
        #[test]
        fn the_sweep_finds_an_overlap_for_every_prefix_that_another_covers(
            prefixes in prop::collection::vec((0_u8..8, 26_u8..=32), 0..20),
        ) {
            let claims: Vec<(Prefix, Place)> = (1..)
                .zip(prefixes)
                .map(|(line, (host, length))| {
                    let prefix =
                        Prefix::containing(IpAddr::from([10, 0, 0, host * 17]), length).unwrap();
                    (prefix, Place { file: 0, line, column: 1 })
                })
                .collect();
            let pairs = overlaps(&claims);
            for &(later, earlier) in &pairs {
                prop_assert!(claims[later].0.overlaps(claims[earlier].0));
                prop_assert!(claims[later].1 > claims[earlier].1);
            }
            let roots = (0..claims.len())
                .filter(|&one| {
                    !(0..claims.len()).any(|other| {
                        claims[other].0.covers(claims[one].0)
                            && (claims[other].0 != claims[one].0 || other < one)
                            && other != one
                    })
                })
                .count();
            prop_assert_eq!(pairs.len(), claims.len() - roots);
        }
    }
}
