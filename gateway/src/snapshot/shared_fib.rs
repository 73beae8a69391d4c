//! A large forwarding table of which one snapshot after another has a copy, and each change costs a
//! small part of it: shards that are shared until they change.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_model::Prefix;

/// Parts of the table. A change copies one of them.
const SHARDS: usize = 1024;
/// Prefix lengths of IPv4, then of IPv6.
const LENGTHS: [usize; 2] = [33, 129];

/// A forwarding table from prefixes to `T`, cheap to clone. A lookup costs one probe a prefix
/// length in use; it happens once a flow, never once a packet.
#[derive(Clone, Debug)]
pub struct SharedFib<T> {
    /// Unallocated while the table is empty.
    shards: Vec<Option<Arc<BTreeMap<Prefix, T>>>>,
    /// Prefixes of each length.
    lengths: [Vec<u32>; 2],
    hasher: RandomState,
}

impl<T> Default for SharedFib<T> {
    fn default() -> Self {
        Self {
            shards: Vec::new(),
            lengths: LENGTHS.map(|count| vec![0; count]),
            hasher: RandomState::new(),
        }
    }
}

impl<T: Clone> SharedFib<T> {
    /// Puts `value` at `prefix` and returns what was there.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, || None);
        }
        let shard = self.shard(prefix);
        let shard = self.shards.get_mut(shard)?.get_or_insert_default();
        let before = Arc::make_mut(shard).insert(prefix, value);
        if before.is_none() {
            self.count(prefix, 1);
        }
        before
    }

    /// Takes away what is at `prefix`.
    pub fn remove(&mut self, prefix: Prefix) -> Option<T> {
        let shard = self.shard(prefix);
        let place = self.shards.get_mut(shard)?;
        let shard = place.as_mut().filter(|shard| shard.contains_key(&prefix))?;
        let shard = Arc::make_mut(shard);
        let before = shard.remove(&prefix)?;
        if shard.is_empty() {
            *place = None;
        }
        self.count(prefix, -1);
        Some(before)
    }

    fn count(&mut self, prefix: Prefix, change: i32) {
        let length = usize::from(prefix.length());
        if let Some(count) = self.lengths[usize::from(!prefix.is_ipv4())].get_mut(length) {
            *count = count.saturating_add_signed(change);
        }
    }
}

impl<T> SharedFib<T> {
    fn shard(&self, prefix: Prefix) -> usize {
        (self.hasher.hash_one(prefix) % SHARDS as u64) as usize
    }

    /// What the longest prefix that contains `address` leads to.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<(Prefix, &T)> {
        if self.shards.is_empty() {
            return None;
        }
        let lengths = self.lengths[usize::from(address.is_ipv6())].iter().enumerate().rev();
        lengths.filter(|(_, count)| **count > 0).find_map(|(length, _)| {
            let prefix = Prefix::containing(address, length as u8).ok()?;
            self.exact(prefix).map(|value| (prefix, value))
        })
    }

    /// What stands at exactly this prefix.
    #[must_use]
    pub fn exact(&self, prefix: Prefix) -> Option<&T> {
        if self.shards.is_empty() {
            return None;
        }
        self.shards.get(self.shard(prefix))?.as_ref()?.get(&prefix)
    }

    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.iter().flatten().map(|&count| count as usize).sum()
    }

    /// Whether there is no prefix.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::Fib;

    fn prefix(bits: u32, length: u8) -> Prefix {
        Prefix::containing(std::net::Ipv4Addr::from_bits(bits).into(), length).unwrap()
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_it_is_the_plain_table_and_copies_stay_as_they_were(
            steps in proptest::collection::vec((0_u32..16, 0_u8..=32, any::<bool>()), 0..60),
            addresses in proptest::collection::vec(any::<u32>(), 8),
        ) {
            let mut shared = SharedFib::default();
            let mut kept = BTreeMap::new();
            let mut copies = Vec::new();
            for (number, (high, length, put)) in steps.into_iter().enumerate() {
                let prefix = prefix(high << 28, length);
                if put {
                    prop_assert_eq!(shared.insert(prefix, number), kept.insert(prefix, number));
                } else {
                    prop_assert_eq!(shared.remove(prefix), kept.remove(&prefix));
                }
                prop_assert_eq!(shared.len(), kept.len());
                copies.push((shared.clone(), kept.clone()));
            }
            for (shared, kept) in copies {
                let mut plain = Fib::default();
                for (prefix, number) in kept {
                    plain.insert(prefix, number);
                }
                for &address in &addresses {
                    let address = std::net::Ipv4Addr::from_bits(address).into();
                    prop_assert_eq!(shared.lookup(address), plain.lookup(address));
                }
            }
        }
    }
}
