//! The prefixes of one family: where each one's routes begin, and what is pending for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashTable;
use nvgate_model::Prefix;

use super::attributes::grown;
use super::hash::Seed;
use super::peers::PeerSlot;
use super::routes::RouteIndex;
use super::slab::{Index, Slab};
use crate::family::Family;

pub(super) type PrefixIndex<N> = Index<PrefixEntry<N>>;

/// The network part of a family's prefixes in as few bytes as it needs, aligned so that an entry
/// wastes none.
pub(super) trait Network: Copy + Eq {
    const FAMILY: Family;

    /// The network of a prefix of this family.
    fn of(prefix: Prefix) -> Option<Self>;

    fn address(self) -> IpAddr;

    fn hash(self, length: u8, seed: Seed) -> u64;
}

/// A prefix that has routes, or is still to be said something about. 16 bytes for IPv4.
pub(super) struct PrefixEntry<N> {
    network: N,
    /// The chain of routes; the first is the best if any is.
    pub(super) first: Option<RouteIndex>,
    /// Who taught the best route when it was last decided: what groups have announced is its.
    pub(super) source: PeerSlot,
    /// The groups that announce it or have to withdraw it.
    pub(super) holders: u16,
    length: u8,
    flags: u8,
}

/// A note about a prefix.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Flag {
    /// The place is in use.
    Live = 1,
    /// Waits to be decided.
    Dirty = 2,
    /// Waits to be told as a change.
    Changed = 4,
    /// The best route is not what it was when it was last decided.
    NewBest = 8,
    /// The next hop of a used route is not what it was, or the route is gone.
    NewNextHops = 16,
}

/// The prefixes of one family.
pub(super) struct Prefixes<N> {
    entries: Slab<PrefixEntry<N>>,
    index: HashTable<PrefixIndex<N>>,
    seed: Seed,
}

impl Network for u32 {
    const FAMILY: Family = Family::Ipv4Unicast;

    fn of(prefix: Prefix) -> Option<Self> {
        match prefix.network() {
            IpAddr::V4(network) => Some(network.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    fn address(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }

    fn hash(self, length: u8, seed: Seed) -> u64 {
        seed.mix(u64::from(self), length.into())
    }
}

impl Network for [u32; 4] {
    const FAMILY: Family = Family::Ipv6Unicast;

    fn of(prefix: Prefix) -> Option<Self> {
        match prefix.network() {
            IpAddr::V4(_) => None,
            IpAddr::V6(network) => {
                let bits = network.to_bits();
                Some([96, 64, 32, 0].map(|shift| (bits >> shift) as u32))
            }
        }
    }

    fn address(self) -> IpAddr {
        let bits = self.into_iter().fold(0, |bits, part| bits << 32 | u128::from(part));
        Ipv6Addr::from_bits(bits).into()
    }

    fn hash(self, length: u8, seed: Seed) -> u64 {
        let [a, b, c, d] = self.map(u64::from);
        seed.mix(seed.mix(a << 32 | b, length.into()), c << 32 | d)
    }
}

impl<N: Network> PrefixEntry<N> {
    pub(super) fn prefix(&self) -> Prefix {
        Prefix::new(self.network.address(), self.length).expect("it was made from a prefix")
    }

    pub(super) const fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }

    /// Sets the flag; true if it was not set.
    pub(super) const fn set(&mut self, flag: Flag) -> bool {
        let new = !self.has(flag);
        self.flags |= flag as u8;
        new
    }

    /// Clears the flag; true if it was set.
    pub(super) const fn clear(&mut self, flag: Flag) -> bool {
        let was = self.has(flag);
        self.flags &= !(flag as u8);
        was
    }

    /// Whether nothing holds the prefix: no route, nothing announced, nothing to be told.
    const fn is_idle(&self) -> bool {
        self.first.is_none() && self.holders == 0 && self.flags == Flag::Live as u8
    }
}

impl<N: Network> Prefixes<N> {
    pub(super) const fn new(seed: Seed) -> Self {
        Self { entries: Slab::new(), index: HashTable::new(), seed }
    }

    pub(super) fn find(&self, prefix: Prefix) -> Option<PrefixIndex<N>> {
        let network = N::of(prefix)?;
        let same = |index: &PrefixIndex<N>| {
            let entry = &self.entries[*index];
            entry.network == network && entry.length == prefix.length()
        };
        self.index.find(network.hash(prefix.length(), self.seed), same).copied()
    }

    /// Adds a prefix that [`find`](Self::find) did not find. None if it is of the other family.
    pub(super) fn insert(&mut self, prefix: Prefix) -> Option<PrefixIndex<N>> {
        let network = N::of(prefix)?;
        let entry = PrefixEntry {
            network,
            first: None,
            source: PeerSlot::LOCAL,
            holders: 0,
            length: prefix.length(),
            flags: Flag::Live as u8,
        };
        if self.index.len() == self.index.capacity() {
            let hash = |entry: &PrefixEntry<N>| entry.network.hash(entry.length, self.seed);
            let live = self.live().map(|index| (hash(&self.entries[index]), index));
            self.index = grown(&self.index, live);
        }
        let index = self.entries.insert(entry);
        self.index.insert_unique(network.hash(prefix.length(), self.seed), index, |other| {
            let entry = &self.entries[*other];
            entry.network.hash(entry.length, self.seed)
        });
        Some(index)
    }

    /// Has the processor fetch what [`remove_idle`](Self::remove_idle) reads of these prefixes.
    pub(super) fn warm(&self, soon: impl Iterator<Item = PrefixIndex<N>> + Clone) {
        let idle = soon.clone().filter(|index| self.entries[*index].first.is_none()).count();
        if idle == 0 {
            return;
        }
        let found = soon.filter(|index| {
            let entry = &self.entries[*index];
            let hash = entry.network.hash(entry.length, self.seed);
            self.index.find(hash, |other| other == index).is_some()
        });
        std::hint::black_box(found.count());
    }

    /// Removes the prefix if nothing holds it.
    pub(super) fn remove_idle(&mut self, index: PrefixIndex<N>) {
        let entry = &self.entries[index];
        if !entry.is_idle() {
            return;
        }
        let (network, length) = (entry.network, entry.length);
        if let Ok(found) = self.index.find_entry(network.hash(length, self.seed), |i| *i == index) {
            found.remove();
        }
        let blank = PrefixEntry {
            network,
            first: None,
            source: PeerSlot::LOCAL,
            holders: 0,
            length,
            flags: 0,
        };
        self.entries.remove(index, blank);
        if self.entries.places() == 0 {
            self.index = HashTable::new();
        }
    }

    /// How many prefixes there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// One more than the greatest place.
    pub(super) fn places(&self) -> usize {
        self.entries.places()
    }

    /// The prefix at this place, if one is there.
    pub(super) fn at(&self, place: usize) -> Option<PrefixIndex<N>> {
        let index = Index::new(place);
        (place < self.places() && self.entries[index].has(Flag::Live)).then_some(index)
    }

    /// Every prefix in the order of places.
    pub(super) fn live(&self) -> impl Iterator<Item = PrefixIndex<N>> {
        let entries = self.entries.iter();
        entries.filter(|(_, entry)| entry.has(Flag::Live)).map(|(index, _)| index)
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.heap_bytes() + self.index.allocation_size()
    }
}

impl<N> std::ops::Index<PrefixIndex<N>> for Prefixes<N> {
    type Output = PrefixEntry<N>;

    fn index(&self, index: PrefixIndex<N>) -> &PrefixEntry<N> {
        &self.entries[index]
    }
}

impl<N> std::ops::IndexMut<PrefixIndex<N>> for Prefixes<N> {
    fn index_mut(&mut self, index: PrefixIndex<N>) -> &mut PrefixEntry<N> {
        &mut self.entries[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_ipv4_takes_16_bytes_and_of_ipv6_28() {
        assert_eq!((size_of::<PrefixEntry<u32>>(), size_of::<PrefixEntry<[u32; 4]>>()), (16, 28));
    }

    #[test]
    fn prefixes_are_found_by_network_and_length_until_they_are_removed() {
        let mut prefixes = Prefixes::<u32>::new(Seed::new(1));
        let prefix = |number: u32, length| {
            Prefix::containing(Ipv4Addr::from_bits(number << 12).into(), length).unwrap()
        };
        let made: Vec<_> = (0..3000).map(|n| prefixes.insert(prefix(n, 20)).unwrap()).collect();
        let short = prefixes.insert(prefix(0, 19)).unwrap();
        assert_eq!(prefixes.insert("::/0".parse().unwrap()), None);
        for number in (0..3000).step_by(2) {
            prefixes.remove_idle(made[number as usize]);
        }
        for number in 0..3000 {
            let expected = (number % 2 == 1).then_some(made[number as usize]);
            assert_eq!(prefixes.find(prefix(number, 20)), expected);
        }
        assert_eq!((prefixes.find(prefix(0, 19)), prefixes.len()), (Some(short), 1501));
        assert_eq!(prefixes[short].prefix(), prefix(0, 19));
    }

    #[test]
    fn an_ipv6_prefix_is_itself_again() {
        let mut prefixes = Prefixes::<[u32; 4]>::new(Seed::new(1));
        let prefix: Prefix = "2001:db8:1:2:3:4:5:0/112".parse().unwrap();
        let index = prefixes.insert(prefix).unwrap();
        assert_eq!((prefixes.find(prefix), prefixes[index].prefix()), (Some(index), prefix));
        assert_eq!(prefixes.find("2001:db8:1:2:3:4::/112".parse().unwrap()), None);
    }

    #[test]
    fn whatever_holds_a_prefix_keeps_it() {
        let mut prefixes = Prefixes::<u32>::new(Seed::new(1));
        let index = prefixes.insert(Prefix::DEFAULT_V4).unwrap();
        prefixes[index].holders = 1;
        prefixes.remove_idle(index);
        prefixes[index].holders = 0;
        assert!(prefixes[index].set(Flag::Changed) && !prefixes[index].set(Flag::Changed));
        prefixes.remove_idle(index);
        assert_eq!(prefixes.len(), 1);
        assert!(prefixes[index].clear(Flag::Changed) && !prefixes[index].clear(Flag::Changed));
        prefixes.remove_idle(index);
        assert_eq!((prefixes.len(), prefixes.find(Prefix::DEFAULT_V4)), (0, None));
    }
}
