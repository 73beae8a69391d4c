//! A large forwarding table of which one snapshot after another has a copy: sorted entries in chunks
//! that are shared until they change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nvgate_model::Prefix;

/// Entries of a chunk at most. A change copies one chunk, and the list of all.
const CHUNK: usize = 128;

/// A forwarding table from prefixes to `T`, cheap to clone. A lookup is a few binary searches; it
/// happens once a flow, never once a packet.
#[derive(Clone, Debug)]
pub struct SharedFib<T> {
    ipv4: Table<u32, T>,
    ipv6: Table<u128, T>,
}

impl<T> Default for SharedFib<T> {
    fn default() -> Self {
        Self { ipv4: Table::default(), ipv6: Table::default() }
    }
}

impl<T: Clone> SharedFib<T> {
    /// Puts values at prefixes, or takes away what is there; of the same prefix the last change holds.
    /// `released` is told each value that no entry has any more because of it.
    pub fn apply(
        &mut self,
        changes: impl IntoIterator<Item = (Prefix, Option<T>)>,
        mut released: impl FnMut(&T),
    ) {
        let changes = changes.into_iter();
        let (mut ipv4, mut ipv6) = (Vec::with_capacity(changes.size_hint().0), Vec::new());
        for (prefix, value) in changes {
            match prefix.network() {
                IpAddr::V4(v4) => ipv4.push(((v4.to_bits(), prefix.length()), value)),
                IpAddr::V6(v6) => ipv6.push(((v6.to_bits(), prefix.length()), value)),
            }
        }
        self.ipv4.apply(ipv4, &mut released);
        self.ipv6.apply(ipv6, &mut released);
    }
}

impl<T> SharedFib<T> {
    /// What the longest prefix that contains `address` leads to.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<(Prefix, &T)> {
        let (network, length, value) = match address {
            IpAddr::V4(v4) => {
                let entry = self.ipv4.lookup(v4.to_bits())?;
                (Ipv4Addr::from_bits(entry.network).into(), entry.length, &entry.value)
            }
            IpAddr::V6(v6) => {
                let entry = self.ipv6.lookup(v6.to_bits())?;
                (Ipv6Addr::from_bits(entry.network).into(), entry.length, &entry.value)
            }
        };
        Some((Prefix::containing(network, length).ok()?, value))
    }

    /// What stands at exactly this prefix.
    #[must_use]
    pub fn exact(&self, prefix: Prefix) -> Option<&T> {
        match prefix.network() {
            IpAddr::V4(v4) => self.ipv4.exact((v4.to_bits(), prefix.length())),
            IpAddr::V6(v6) => self.ipv6.exact((v6.to_bits(), prefix.length())),
        }
    }

    /// How many prefixes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ipv4.len + self.ipv6.len
    }

    /// Whether there is no prefix.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An address of a family as a number.
trait Address: Copy + Ord {
    const LENGTH: u8;

    fn masked(self, length: u8) -> Self;

    /// How many leading bits both have alike.
    fn common(self, other: Self) -> u8;
}

macro_rules! address {
    ($bits:ty) => {
        impl Address for $bits {
            const LENGTH: u8 = <$bits>::BITS as u8;

            fn masked(self, length: u8) -> Self {
                self & Self::MAX.checked_shl(u32::from(Self::LENGTH - length)).unwrap_or(0)
            }

            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
        }
    };
}

address!(u32);
address!(u128);

/// A prefix: whoever contains it comes before it.
type Key<A> = (A, u8);

#[derive(Clone, Debug)]
struct Entry<A, T> {
    network: A,
    length: u8,
    value: T,
}

impl<A: Address, T> Entry<A, T> {
    const fn key(&self) -> Key<A> {
        (self.network, self.length)
    }
}

/// Entries in ascending order; there is at least one.
#[derive(Debug)]
struct Chunk<A, T> {
    first: Key<A>,
    entries: Arc<[Entry<A, T>]>,
}

impl<A: Copy, T> Clone for Chunk<A, T> {
    fn clone(&self) -> Self {
        Self { first: self.first, entries: Arc::clone(&self.entries) }
    }
}

/// The table of one family.
#[derive(Debug)]
struct Table<A, T> {
    /// In ascending order; two neighbours have more than half of [`CHUNK`] together.
    chunks: Arc<[Chunk<A, T>]>,
    len: usize,
}

impl<A, T> Default for Table<A, T> {
    fn default() -> Self {
        Self { chunks: Arc::new([]), len: 0 }
    }
}

impl<A, T> Clone for Table<A, T> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), len: self.len }
    }
}

impl<A: Address, T> Table<A, T> {
    /// The last entry that does not come after `key`.
    fn at_most(&self, key: Key<A>) -> Option<&Entry<A, T>> {
        let after = self.chunks.partition_point(|chunk| chunk.first <= key);
        let entries = &self.chunks.get(after.checked_sub(1)?)?.entries;
        let after = entries.partition_point(|entry| entry.key() <= key);
        entries.get(after.checked_sub(1)?)
    }

    fn exact(&self, key: Key<A>) -> Option<&T> {
        self.at_most(key).filter(|entry| entry.key() == key).map(|entry| &entry.value)
    }

    fn lookup(&self, address: A) -> Option<&Entry<A, T>> {
        let mut key = (address, A::LENGTH);
        loop {
            let entry = self.at_most(key)?;
            let common = entry.network.common(address);
            if common >= entry.length {
                return Some(entry);
            }
            // Who contains the address and comes before this entry contains that one's network too, and
            // so is no longer than what both have in common: fewer bits with each turn.
            key = (address.masked(common), common);
        }
    }
}

impl<A: Address, T: Clone> Table<A, T> {
    fn apply(&mut self, changes: Vec<(Key<A>, Option<T>)>, released: &mut impl FnMut(&T)) {
        if changes.is_empty() {
            return;
        }
        let changes = ordered(changes, released);
        let mut rest = &changes[..];
        let mut chunks = Vec::with_capacity(self.chunks.len() + changes.len() / CHUNK + 1);
        self.len = 0;
        for (chunk, next) in self.chunks.iter().zip(1..) {
            let count = match self.chunks.get(next) {
                Some(next) => rest.partition_point(|(key, _)| *key < next.first),
                None => rest.len(),
            };
            let (own, later) = rest.split_at(count);
            rest = later;
            if own.is_empty() {
                self.len += chunk.entries.len();
                place(&mut chunks, chunk.clone());
            } else {
                let merged = merge(&chunk.entries, own, released);
                self.len += merged.len();
                split(&mut chunks, merged);
            }
        }
        // Those of a table without chunks.
        let fresh = merge(&[], rest, released);
        self.len += fresh.len();
        split(&mut chunks, fresh);
        self.chunks = chunks.into();
    }
}

/// The changes in ascending order, the last one of each prefix.
fn ordered<A: Address, T>(
    mut changes: Vec<(Key<A>, Option<T>)>,
    released: &mut impl FnMut(&T),
) -> Vec<(Key<A>, Option<T>)> {
    changes.sort_by_key(|(key, _)| *key);
    // It keeps the first of two alike, and hands over the later one first.
    changes.dedup_by(|later, kept| {
        let alike = later.0 == kept.0;
        if alike {
            std::mem::swap(later, kept);
            later.1.iter().for_each(&mut *released);
        }
        alike
    });
    changes
}

fn merge<A: Address, T: Clone>(
    entries: &[Entry<A, T>],
    changes: &[(Key<A>, Option<T>)],
    released: &mut impl FnMut(&T),
) -> Vec<Entry<A, T>> {
    let mut merged = Vec::with_capacity(entries.len() + changes.len());
    let mut rest = entries;
    for ((network, length), value) in changes {
        let key = (*network, *length);
        let (before, later) = rest.split_at(rest.partition_point(|entry| entry.key() < key));
        merged.extend_from_slice(before);
        rest = later;
        if let Some((entry, later)) = rest.split_first()
            && entry.key() == key
        {
            released(&entry.value);
            rest = later;
        }
        let fresh = value.clone();
        merged.extend(fresh.map(|value| Entry { network: *network, length: *length, value }));
    }
    merged.extend_from_slice(rest);
    merged
}

/// Adds entries as chunks of one size.
fn split<A: Address, T: Clone>(chunks: &mut Vec<Chunk<A, T>>, entries: Vec<Entry<A, T>>) {
    let size = entries.len().div_ceil(entries.len().div_ceil(CHUNK).max(1));
    for piece in entries.chunks(size.max(1)) {
        place(chunks, Chunk { first: piece[0].key(), entries: piece.into() });
    }
}

/// Adds a chunk, to the last one if both are small.
fn place<A: Address, T: Clone>(chunks: &mut Vec<Chunk<A, T>>, chunk: Chunk<A, T>) {
    match chunks.last_mut() {
        Some(last) if last.entries.len() + chunk.entries.len() <= CHUNK / 2 => {
            last.entries = last.entries.iter().chain(&*chunk.entries).cloned().collect();
        }
        Some(_) | None => chunks.push(chunk),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::Fib;

    /// Few bits that differ, high or low ones, of either family: prefixes contain each other.
    fn prefix() -> impl Strategy<Value = Prefix> {
        let ipv4 = (0_u32..1024, 0_u8..=32)
            .prop_map(|(bits, length)| (Ipv4Addr::from_bits(bits << 22 | bits & 7).into(), length));
        let ipv6 = (0_u128..64, 0_u8..=128).prop_map(|(bits, length)| {
            (Ipv6Addr::from_bits(bits << 122 | bits & 7).into(), length)
        });
        prop_oneof![4 => ipv4, 1 => ipv6]
            .prop_map(|(address, length)| Prefix::containing(address, length).unwrap())
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let near = prefix().prop_map(Prefix::lowest_host);
        prop_oneof![near, any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into())]
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_it_is_the_plain_table_and_copies_stay_as_they_were(
            steps in proptest::collection::vec(
                proptest::collection::vec((prefix(), proptest::option::weighted(0.7, 0_u32..9)), 0..300),
                0..12,
            ),
            addresses in proptest::collection::vec(address(), 24),
        ) {
            let mut shared = SharedFib::default();
            let mut kept = BTreeMap::new();
            let mut copies = Vec::new();
            for step in steps {
                let mut released = [0_usize; 9];
                let before = uses(&kept);
                let mut given = [0_usize; 9];
                for &(prefix, value) in &step {
                    match value {
                        Some(value) => {
                            given[value as usize] += 1;
                            kept.insert(prefix, value);
                        }
                        None => drop(kept.remove(&prefix)),
                    }
                }
                shared.apply(step, |&value| released[value as usize] += 1);
                let after = uses(&kept);
                for value in 0..9 {
                    prop_assert_eq!(before[value] + given[value] - released[value], after[value]);
                }
                prop_assert_eq!(shared.len(), kept.len());
                copies.push((shared.clone(), kept.clone()));
            }
            for (shared, kept) in copies {
                let mut plain = Fib::default();
                for (&prefix, &number) in &kept {
                    prop_assert_eq!(shared.exact(prefix), Some(&number));
                    plain.insert(prefix, number);
                }
                for &address in &addresses {
                    prop_assert_eq!(shared.lookup(address), plain.lookup(address));
                    let host = Prefix::host(address);
                    prop_assert_eq!(shared.exact(host), kept.get(&host));
                }
                dense(&shared.ipv4)?;
                dense(&shared.ipv6)?;
            }
        }
    }

    /// How many prefixes have each value.
    fn uses(kept: &BTreeMap<Prefix, u32>) -> [usize; 9] {
        let mut uses = [0; 9];
        kept.values().for_each(|&value| uses[value as usize] += 1);
        uses
    }

    fn dense<A: Address>(table: &Table<A, u32>) -> Result<(), TestCaseError> {
        let sizes: Vec<usize> = table.chunks.iter().map(|chunk| chunk.entries.len()).collect();
        prop_assert!(sizes.iter().all(|size| (1..=CHUNK).contains(size)), "{sizes:?}");
        prop_assert!(sizes.windows(2).all(|two| two[0] + two[1] > CHUNK / 2), "{sizes:?}");
        Ok(())
    }

    #[test]
    fn an_entry_of_ipv4_takes_12_bytes_with_a_small_value() {
        assert_eq!(size_of::<Entry<u32, u32>>(), 12);
    }
}
