//! The prefixes behind a tunnel: what may come out of it, and what may go into it.
//!
//! WireGuard calls them allowed IPs (whitepaper section 2). With one peer a tunnel the longest
//! match decides nothing but membership, so prefixes are merged into ranges.

use std::net::IpAddr;

use nvgate_model::Prefix;

/// A set of addresses as disjoint ranges, in ascending order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowedPrefixes {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl AllowedPrefixes {
    /// The addresses of all these prefixes, which may overlap.
    #[must_use]
    pub fn new(prefixes: &[Prefix]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            let length = u32::from(prefix.length());
            match prefix.network() {
                IpAddr::V4(network) => {
                    let first = network.to_bits();
                    v4.push((first, first | u32::MAX.checked_shr(length).unwrap_or(0)));
                }
                IpAddr::V6(network) => {
                    let first = network.to_bits();
                    v6.push((first, first | u128::MAX.checked_shr(length).unwrap_or(0)));
                }
            }
        }
        Self { v4: merge(v4), v6: merge(v6) }
    }

    /// Whether `address` lies in one of the prefixes.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }
}

/// Prefixes overlap only by one covering the other, so dropping the covered ones is enough.
fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable_by_key(|&(first, last)| (first, std::cmp::Reverse(last)));
    ranges.dedup_by(|later, earlier| later.1 <= earlier.1);
    ranges.into_boxed_slice()
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= address);
    after.checked_sub(1).is_some_and(|index| address <= ranges[index].1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_edges_of_prefixes_are_in_and_their_neighbours_out() {
        let allowed = AllowedPrefixes::new(&prefixes(&["10.1.0.0/16", "10.1.2.0/24", "fd00::/8"]));
        for (address, is_in) in [
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("10.0.255.255", false),
            ("10.2.0.0", false),
            ("fd00::", true),
            ("fdff:ffff::1", true),
            ("fe00::", false),
            ("::ffff:10.1.0.0", false),
        ] {
            assert_eq!(allowed.contains(address.parse().unwrap()), is_in, "{address}");
        }
    }

    #[test]
    fn the_default_prefix_is_the_whole_family_and_nothing_is_nothing() {
        let allowed = AllowedPrefixes::new(&prefixes(&["0.0.0.0/0"]));
        assert!(allowed.contains("255.255.255.255".parse().unwrap()));
        assert!(!allowed.contains("::".parse().unwrap()));
        assert!(!AllowedPrefixes::default().contains("0.0.0.0".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn the_set_holds_what_one_of_its_prefixes_contains(
            // Few bits, so that prefixes overlap and addresses hit.
            networks in proptest::collection::vec((0_u32..64, 24_u8..=32), 0..12),
            address in 0_u32..64,
        ) {
            let address_of = |bits: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(bits << 3));
            let prefixes: Vec<Prefix> = networks
                .iter()
                .map(|&(bits, length)| Prefix::containing(address_of(bits), length).unwrap())
                .collect();
            let naive = prefixes.iter().any(|prefix| prefix.contains(address_of(address)));
            prop_assert_eq!(AllowedPrefixes::new(&prefixes).contains(address_of(address)), naive);
        }
    }
}
