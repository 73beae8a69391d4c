//! The next hops that imported routes use, counted, and what the gateway says of them.

use std::net::IpAddr;

use hashbrown::HashTable;

use super::attributes::grown;
use super::hash::Seed;
use super::queue::Queue;
use super::slab::{Index, Slab};
use super::sweep::Lap;

pub(super) type NextHopIndex = Index<NextHop>;

/// What is known of a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Resolution {
    /// Nothing yet; its routes are not eligible.
    #[default]
    Unknown,
    /// No route leads to it (RFC 4271 section 9.1.2.1).
    Unreachable,
    /// A route leads to it.
    Reachable {
        /// The interior cost (RFC 4271 section 9.1.2.2 e), lower is nearer.
        metric: u32,
        /// Whether it lies in a connected subnet.
        connected: bool,
    },
}

/// What the gateway is to follow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NextHopChange {
    /// Imported routes use it: resolve it and say what changes.
    Wanted(IpAddr),
    /// None does any more.
    Unwanted(IpAddr),
}

/// An address and its users.
pub(super) struct NextHop {
    address: IpAddr,
    /// Sets of attributes that imported routes have.
    uses: u32,
    resolution: Resolution,
    /// The gateway was told that it is wanted.
    told: bool,
    queued: bool,
    /// Routes that use it are decided anew until the end of this lap.
    changed: Option<Lap>,
}

/// The next hops of one table.
pub(super) struct NextHops {
    entries: Slab<NextHop>,
    index: HashTable<NextHopIndex>,
    seed: Seed,
    news: Queue<NextHopIndex>,
}

impl NextHops {
    pub(super) const fn new(seed: Seed) -> Self {
        Self { entries: Slab::new(), index: HashTable::new(), seed, news: Queue::new() }
    }

    pub(super) fn acquire(&mut self, address: IpAddr) -> NextHopIndex {
        let index = self.find(address).unwrap_or_else(|| self.insert(address));
        self.entries[index].uses += 1;
        self.note(index);
        index
    }

    pub(super) fn release(&mut self, index: NextHopIndex) {
        self.entries[index].uses -= 1;
        self.note(index);
    }

    pub(super) fn resolution(&self, index: NextHopIndex) -> Resolution {
        self.entries[index].resolution
    }

    /// Whether its routes are to be decided anew.
    pub(super) fn has_changed(&self, index: NextHopIndex) -> bool {
        self.entries[index].changed.is_some()
    }

    /// Notes what is known of the address. True if routes may be decided otherwise now, which is to
    /// be done by the end of `until`.
    pub(super) fn resolve(&mut self, address: IpAddr, resolution: Resolution, until: Lap) -> bool {
        let Some(index) = self.find(address) else { return false };
        let entry = &mut self.entries[index];
        if entry.resolution == resolution {
            return false;
        }
        entry.resolution = resolution;
        entry.changed = Some(until);
        true
    }

    /// Forgets changes that laps up to `lap` served; true if some are left.
    pub(super) fn settle(&mut self, lap: Lap) -> bool {
        let mut left = false;
        for place in 0..self.entries.places() {
            let entry = &mut self.entries[Index::new(place)];
            entry.changed = entry.changed.filter(|until| *until > lap);
            left |= entry.changed.is_some();
        }
        left
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The next address that became wanted or unwanted; what is both by now is neither.
    pub(super) fn poll(&mut self) -> Option<NextHopChange> {
        while let Some(index) = self.news.pop() {
            let entry = &mut self.entries[index];
            entry.queued = false;
            let (address, wanted, told) = (entry.address, entry.uses > 0, entry.told);
            entry.told = wanted;
            if !wanted {
                self.remove(index);
            }
            match (wanted, told) {
                (true, false) => return Some(NextHopChange::Wanted(address)),
                (false, true) => return Some(NextHopChange::Unwanted(address)),
                (true, true) | (false, false) => {}
            }
        }
        None
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.heap_bytes() + self.index.allocation_size() + self.news.heap_bytes()
    }

    #[cfg(test)]
    pub(super) fn uses(&self) -> Vec<(IpAddr, u32)> {
        self.index.iter().map(|i| (self.entries[*i].address, self.entries[*i].uses)).collect()
    }

    fn note(&mut self, index: NextHopIndex) {
        let entry = &mut self.entries[index];
        if !entry.queued && entry.told != (entry.uses > 0) {
            entry.queued = true;
            self.news.push(index);
        }
    }

    fn find(&self, address: IpAddr) -> Option<NextHopIndex> {
        let same = |index: &NextHopIndex| self.entries[*index].address == address;
        self.index.find(self.seed.hash(&address), same).copied()
    }

    fn insert(&mut self, address: IpAddr) -> NextHopIndex {
        if self.index.len() == self.index.capacity() {
            let held: Vec<NextHopIndex> = self.index.iter().copied().collect();
            let hash = |index: NextHopIndex| self.seed.hash(&self.entries[index].address);
            self.index = grown(&self.index, held.into_iter().map(|index| (hash(index), index)));
        }
        let index = self.entries.insert(NextHop {
            address,
            uses: 0,
            resolution: Resolution::Unknown,
            told: false,
            queued: false,
            changed: None,
        });
        let hash = |other: &NextHopIndex| self.seed.hash(&self.entries[*other].address);
        self.index.insert_unique(self.seed.hash(&address), index, hash);
        index
    }

    fn remove(&mut self, index: NextHopIndex) {
        let hash = self.seed.hash(&self.entries[index].address);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        let blank = NextHop {
            address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            uses: 0,
            resolution: Resolution::Unknown,
            told: false,
            queued: false,
            changed: None,
        };
        self.entries.remove(index, blank);
    }
}
