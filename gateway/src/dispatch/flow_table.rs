//! The flow table: exact match from a flow's key to what was decided for it.
//!
//! A cache of decisions, never the truth: NAT sessions live in `nat`, routes in the snapshot. It
//! has a fixed size. A key has two buckets of [`WAYS`] entries and stands in the emptier one; short
//! tags beside the entries say where to look, so that a lookup reads one entry. When both buckets
//! are full, what is stale gives way, and then what was idle longest.

use std::hint::black_box;

use nvgate_model::{DomainSlot, Tick};
use nvgate_packet::flow_key::FlowKey;
use nvgate_packet::rewrite::RewriteV4;

use crate::io::memory::table;

/// Entries of a bucket.
pub const WAYS: usize = 8;

/// Marks the absence of a session, an endpoint or a next hop in a compiled entry.
pub const NONE: u32 = u32::MAX;

/// Where a compiled entry sends its packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Egress {
    /// To the endpoint with this index in the entry's domain, by NVGRE.
    Overlay,
    /// To the next hop with this index on the front end.
    FrontEnd,
    /// Back in at the front end: the destination is a leased address.
    Hairpin,
    /// To the worker with this index, which owns the flow's socket.
    Handoff,
    /// Into a tunnel of the site with this index in the entry's domain.
    Site,
}

/// What was decided for a flow in one direction: 48 bytes of plain data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Compiled {
    /// New addresses and ports, when [`translate`](Self::translate) is set.
    pub rewrite: RewriteV4,
    /// The configuration this was proven under; see `Snapshot::proof`.
    pub proof: u32,
    /// The slot of the routing domain.
    pub domain: u32,
    /// The NAT session, or [`NONE`].
    pub session: u32,
    /// The endpoint that may speak for the source, or [`NONE`] from the front end.
    pub source: u32,
    /// The endpoint or front-end next hop it goes to.
    pub target: u32,
    /// When the entry last forwarded a packet.
    pub tick: Tick,
    /// The provider address it goes to, for the overlay.
    pub host: u16,
    /// The longest IP packet the path carries, in bytes.
    pub mtu: u16,
    /// The FlowID on the overlay.
    pub flow_id: u8,
    /// Which port it leaves by.
    pub egress: Egress,
    /// Whether addresses and ports change.
    pub translate: bool,
    /// Padding to 48 bytes.
    pub reserved: u8,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Entry<K> {
    key: K,
    compiled: Option<Compiled>,
}

impl Compiled {
    /// An entry of a domain that does nothing yet: no session, no source, no target, no change.
    #[must_use]
    pub const fn vacant(proof: u32, domain: DomainSlot, tick: Tick) -> Self {
        Self {
            rewrite: RewriteV4::NOTHING,
            proof,
            domain: domain.0,
            session: NONE,
            source: NONE,
            target: NONE,
            tick,
            host: 0,
            mtu: 0,
            flow_id: 0,
            egress: Egress::FrontEnd,
            translate: false,
            reserved: 0,
        }
    }
}

/// The tags of one bucket; 0 marks a vacant entry.
type Tags = [u16; WAYS];

/// A table of compiled entries for one address family.
#[derive(Debug)]
pub struct FlowTable<K> {
    tags: Vec<Tags>,
    entries: Vec<Entry<K>>,
    mask: usize,
}

/// The two buckets of a hash and its tag, taken from bits of their own.
#[derive(Clone, Copy)]
struct Place {
    buckets: [usize; 2],
    tag: u16,
}

impl<K: FlowKey> FlowTable<K> {
    /// A table of `entries` entries, rounded up to a power of two of at least two buckets and at
    /// most 2^24 of them.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        let buckets = (entries / WAYS).next_power_of_two().clamp(2, 1 << 24);
        let vacant = Entry { key: K::default(), compiled: None };
        Self {
            tags: table(buckets, [0; WAYS]),
            entries: table(buckets * WAYS, vacant),
            mask: buckets - 1,
        }
    }

    #[inline]
    const fn place(&self, hash: u64) -> Place {
        let first = hash as usize & self.mask;
        let second = (hash >> 24) as usize & self.mask;
        // Two buckets even when the bits agree.
        let second = if second == first { second ^ 1 } else { second };
        let tag = (hash >> 48) as u16;
        Place { buckets: [first, second], tag: if tag == 0 { 1 } else { tag } }
    }

    /// Where entries with this hash's tag stand.
    #[inline]
    fn candidates(&self, place: Place) -> impl Iterator<Item = usize> + '_ {
        place.buckets.into_iter().flat_map(move |bucket| {
            let matching = self.tags[bucket]
                .iter()
                .enumerate()
                .fold(0_u32, |matching, (way, &tag)| matching | u32::from(tag == place.tag) << way);
            Ways(matching).map(move |way| bucket * WAYS + way)
        })
    }

    /// Touches the tags of this hash, so that [`warm_entry`](Self::warm_entry) finds them in the
    /// cache.
    #[inline]
    pub fn warm_tags(&self, hash: u64) {
        let [first, second] = self.place(hash).buckets;
        black_box(self.tags[first][0] ^ self.tags[second][0]);
    }

    /// Touches the entry of this hash, so that a later lookup finds it in the cache.
    #[inline]
    pub fn warm_entry(&self, hash: u64) {
        if let Some(position) = self.candidates(self.place(hash)).next() {
            black_box(self.entries[position].compiled.is_some());
        }
    }

    /// The position of the entry with this key.
    #[inline]
    #[must_use]
    pub fn find(&self, key: &K, hash: u64) -> Option<usize> {
        self.candidates(self.place(hash)).find(|&position| self.entries[position].key == *key)
    }

    /// The entry at `position`, if it is taken.
    #[inline]
    #[must_use]
    pub fn at(&self, position: usize) -> Option<&Compiled> {
        self.entries.get(position)?.compiled.as_ref()
    }

    /// The entry at `position`, to refresh its tick.
    #[inline]
    pub fn at_mut(&mut self, position: usize) -> Option<&mut Compiled> {
        self.entries.get_mut(position)?.compiled.as_mut()
    }

    /// Stores `compiled` under `key`, replacing an entry of the same key; returns its position
    /// and the entry of another key that had to give way.
    pub fn insert(
        &mut self,
        key: K,
        hash: u64,
        compiled: Compiled,
        stale: impl Fn(&Compiled) -> bool,
    ) -> (usize, Option<Compiled>) {
        let place = self.place(hash);
        let position = match self.find(&key, hash).or_else(|| self.vacancy(place)) {
            Some(position) => position,
            None => self.idlest(place, compiled.tick, stale),
        };
        let entry = &mut self.entries[position];
        let same = entry.key == key;
        let previous = entry.compiled.replace(compiled);
        entry.key = key;
        self.tags[position / WAYS][position % WAYS] = place.tag;
        (position, previous.filter(|_| !same))
    }

    /// Stores `compiled` under `key`, replacing an entry of the same key or one that `spare` names;
    /// does nothing when there is none and no vacancy.
    pub fn insert_spare(
        &mut self,
        key: K,
        hash: u64,
        compiled: Compiled,
        spare: impl Fn(&Compiled) -> bool,
    ) {
        let place = self.place(hash);
        let position = self.find(&key, hash).or_else(|| self.vacancy(place)).or_else(|| {
            let position = self.idlest(place, compiled.tick, &spare);
            self.at(position).is_none_or(&spare).then_some(position)
        });
        let Some(position) = position else { return };
        self.entries[position] = Entry { key, compiled: Some(compiled) };
        self.tags[position / WAYS][position % WAYS] = place.tag;
    }

    /// A vacant entry in the emptier bucket.
    fn vacancy(&self, place: Place) -> Option<usize> {
        let vacant = |bucket: &usize| self.tags[*bucket].iter().filter(|&&tag| tag == 0).count();
        let [first, second] = place.buckets;
        let bucket = if vacant(&second) > vacant(&first) { second } else { first };
        let way = self.tags[bucket].iter().position(|&tag| tag == 0)?;
        Some(bucket * WAYS + way)
    }

    /// The entry of both buckets that can best be spared.
    fn idlest(&self, place: Place, now: Tick, stale: impl Fn(&Compiled) -> bool) -> usize {
        let ways = place.buckets.into_iter().flat_map(|bucket| bucket * WAYS..(bucket + 1) * WAYS);
        let idle = |position: &usize| match &self.entries[*position].compiled {
            None => u64::MAX,
            Some(taken) if stale(taken) => u64::MAX - 1,
            Some(taken) => u64::from(now.since(taken.tick)),
        };
        // Of equally idle ones the first: the choice is a function of the table alone.
        ways.rev().max_by_key(idle).unwrap_or(place.buckets[0] * WAYS)
    }

    /// Empties the entry at `position` when it belongs to this domain and session.
    pub fn remove(&mut self, position: usize, domain: u32, session: u32) {
        if let Some(entry) = self.entries.get_mut(position)
            && entry
                .compiled
                .is_some_and(|compiled| compiled.domain == domain && compiled.session == session)
        {
            // The key goes too: a vacant entry must not be found by it.
            *entry = Entry { key: K::default(), compiled: None };
            self.tags[position / WAYS][position % WAYS] = 0;
        }
    }
}

/// The positions of the set bits, lowest first.
struct Ways(u32);

impl Iterator for Ways {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let way = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(way)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nvgate_packet::flow_key::{FRONT_END, FlowKeyV4};

    use super::*;

    fn key(port: u16) -> FlowKeyV4 {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        FlowKeyV4::new(FRONT_END, 6, address, address, (port, 80))
    }

    fn compiled(session: u32, tick: u32) -> Compiled {
        Compiled { session, ..Compiled::vacant(1, DomainSlot(0), Tick(tick)) }
    }

    #[test]
    fn an_ipv4_entry_is_one_cache_line() {
        assert_eq!(size_of::<Entry<FlowKeyV4>>(), 64);
    }

    #[test]
    fn the_entry_idle_longest_gives_way_when_both_buckets_are_full() {
        let mut table = FlowTable::new(0);
        let slots = 2 * WAYS as u16;
        for port in 0..slots {
            let entry = compiled(port.into(), 100 + u32::from(port));
            assert_eq!(table.insert(key(port), 0, entry, |_| false).1, None);
        }
        let (_, evicted) = table.insert(key(99), 0, compiled(99, 200), |_| false);
        assert_eq!(evicted.map(|evicted| evicted.session), Some(0));
        assert!(table.find(&key(0), 0).is_none());
        assert!((1..slots).chain([99]).all(|port| table.find(&key(port), 0).is_some()));
    }

    #[test]
    fn a_stale_entry_gives_way_first_and_the_same_key_is_replaced() {
        let mut table = FlowTable::new(0);
        for port in 0..2 * WAYS as u16 {
            table.insert(key(port), 0, compiled(port.into(), 100), |_| false);
        }
        let (_, evicted) = table.insert(key(99), 0, compiled(99, 100), |entry| entry.session == 5);
        assert_eq!(evicted.map(|evicted| evicted.session), Some(5));
        let (position, evicted) = table.insert(key(99), 0, compiled(7, 101), |_| false);
        assert_eq!(evicted, None);
        assert_eq!(table.at(position).map(|entry| entry.session), Some(7));
    }

    #[test]
    fn removal_asks_for_the_owner() {
        let mut table = FlowTable::new(0);
        let (position, _) = table.insert(key(1), 0, compiled(1, 0), |_| false);
        table.remove(position, 0, 2);
        table.remove(position, 1, 1);
        assert!(table.at(position).is_some());
        table.remove(position, 0, 1);
        assert!(table.find(&key(1), 0).is_none());
    }

    #[test]
    fn what_takes_only_spare_entries_pushes_nothing_else_out() {
        let mut table = FlowTable::new(0);
        for port in 0..2 * WAYS as u16 {
            table.insert(key(port), 0, compiled(port.into(), 100), |_| false);
        }
        table.insert_spare(key(99), 0, compiled(99, 900), |_| false);
        assert!(table.find(&key(99), 0).is_none());
        table.insert_spare(key(99), 0, compiled(99, 900), |entry| entry.session == 5);
        assert!(table.find(&key(99), 0).is_some() && table.find(&key(5), 0).is_none());
        assert!(
            (0..2 * WAYS as u16)
                .filter(|&port| port != 5)
                .all(|port| table.find(&key(port), 0).is_some())
        );
    }

    #[test]
    fn a_table_half_full_pushes_nothing_out() {
        let mut table = FlowTable::new(1 << 14);
        let keys = || (0..1 << 13).map(key);
        for key in keys() {
            let (_, evicted) = table.insert(key, key.hash(3), compiled(0, 0), |_| false);
            assert_eq!(evicted, None);
        }
        assert!(keys().all(|key| table.find(&key, key.hash(3)).is_some()));
    }
}
