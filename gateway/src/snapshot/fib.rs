//! Longest-prefix match over both address families.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nvgate_model::Prefix;

/// A forwarding table from prefixes to `T`. Lookups cost one probe a prefix length in use; they
/// happen once a flow, never once a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fib<T> {
    entries: BTreeMap<Prefix, T>,
    /// Prefix lengths in use, longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl<T> Default for Fib<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), lengths_v4: Vec::new(), lengths_v6: Vec::new() }
    }
}

impl<T> Fib<T> {
    /// Puts `value` at `prefix` and returns what was there.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        let lengths = if prefix.is_ipv4() { &mut self.lengths_v4 } else { &mut self.lengths_v6 };
        if let Err(at) = lengths.binary_search_by(|length| prefix.length().cmp(length)) {
            lengths.insert(at, prefix.length());
        }
        self.entries.insert(prefix, value)
    }

    /// What the longest prefix that contains `address` leads to.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<(Prefix, &T)> {
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().find_map(|&length| {
            let prefix = Prefix::containing(address, length).ok()?;
            self.entries.get(&prefix).map(|value| (prefix, value))
        })
    }

    /// What stands at exactly this prefix.
    #[must_use]
    pub fn exact(&self, prefix: Prefix) -> Option<&T> {
        self.entries.get(&prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let mut fib = Fib::default();
        for (prefix, value) in
            [("0.0.0.0/0", 0), ("10.0.0.0/8", 8), ("10.1.0.0/16", 16), ("::/0", 6)]
        {
            fib.insert(prefix.parse().unwrap(), value);
        }
        let lookup = |address: &str| fib.lookup(address.parse().unwrap()).map(|(_, &value)| value);
        assert_eq!(lookup("10.1.2.3"), Some(16));
        assert_eq!(lookup("10.2.2.3"), Some(8));
        assert_eq!(lookup("192.0.2.1"), Some(0));
        assert_eq!(lookup("2001:db8::1"), Some(6));
    }

    proptest! {
        #[test]
        fn a_lookup_is_the_naive_search(
            prefixes in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..40),
            address in any::<u32>(),
        ) {
            let prefixes: Vec<Prefix> = prefixes
                .into_iter()
                .map(|(bits, length)| Prefix::containing(std::net::Ipv4Addr::from_bits(bits & 0xc000_00ff).into(), length).unwrap())
                .collect();
            let mut fib = Fib::default();
            for &prefix in &prefixes {
                fib.insert(prefix, prefix);
            }
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(address & 0xc000_00ff));
            let naive = prefixes.iter().filter(|prefix| prefix.contains(address)).max_by_key(|prefix| prefix.length());
            prop_assert_eq!(fib.lookup(address).map(|(_, value)| value), naive);
        }
    }
}
