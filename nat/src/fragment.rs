//! Datagrams in fragments: what the first fragment was told is kept for the later ones, which carry
//! no ports.
//!
//! The table is bounded and forgets after [`LIFETIME_SECS`]: 16-bit identifications come round
//! quickly, and an old entry would send a new datagram's fragments the wrong way (RFC 4963). It is
//! meant to be one a tenant and direction, so that no tenant fills another's.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use nvgate_model::{DropReason, Tick};

use crate::table::Seeded;

/// How long a datagram's later fragments may follow its first, in seconds.
pub const LIFETIME_SECS: u32 = 15;
/// Old entries that one insertion may clear away.
const RECLAIM: usize = 4;

/// What the fragments of one datagram share (RFC 791 section 3.2), with the place they came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FragmentKey {
    /// Where the datagram entered: a VSID, or 0 for the front end.
    pub place: u32,
    /// The sender.
    pub source: Ipv4Addr,
    /// The receiver.
    pub destination: Ipv4Addr,
    /// The identification; 16 bits for IPv4.
    pub identification: u32,
    /// The IANA protocol number.
    pub protocol: u8,
}

impl FragmentKey {
    const fn words(self) -> Words {
        (
            (self.source.to_bits() as u64) << 32 | self.destination.to_bits() as u64,
            (self.place as u64) << 32 | self.identification as u64,
            self.protocol as u64,
        )
    }
}

type Words = (u64, u64, u64);

#[derive(Clone, Copy, Debug)]
struct Kept<V> {
    value: V,
    until: Tick,
}

/// A bounded table from datagrams to what their first fragment was told.
#[derive(Debug)]
pub struct FragmentTable<V> {
    capacity: usize,
    kept: HashMap<Words, Kept<V>, Seeded>,
    /// The keys of `kept`, each once, with a time before which it cannot have run out.
    order: VecDeque<(Tick, Words)>,
}

impl<V: Copy> FragmentTable<V> {
    /// An empty table for `capacity` datagrams; it takes memory as it fills.
    #[must_use]
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self { capacity, kept: HashMap::with_hasher(Seeded(seed)), order: VecDeque::new() }
    }

    /// Keeps `value` for the later fragments of the datagram `key`. A datagram that reuses the
    /// identification replaces the older one.
    ///
    /// # Errors
    ///
    /// `FragmentTableFull` when all entries are still alive.
    pub fn insert(&mut self, now: Tick, key: FragmentKey, value: V) -> Result<(), DropReason> {
        self.reclaim(now);
        let length = self.kept.len();
        let kept = Kept { value, until: now.plus_secs(LIFETIME_SECS) };
        match self.kept.entry(key.words()) {
            Entry::Occupied(mut entry) => *entry.get_mut() = kept,
            Entry::Vacant(_) if length >= self.capacity => {
                return Err(DropReason::FragmentTableFull);
            }
            Entry::Vacant(entry) => {
                self.order.push_back((kept.until, *entry.key()));
                entry.insert(kept);
            }
        }
        Ok(())
    }

    /// What the first fragment of the datagram `key` was told.
    ///
    /// # Errors
    ///
    /// `FragmentOrphan` when the first fragment was not seen, or too long ago.
    pub fn lookup(&self, now: Tick, key: FragmentKey) -> Result<V, DropReason> {
        match self.kept.get(&key.words()) {
            Some(kept) if now < kept.until => Ok(kept.value),
            Some(_) | None => Err(DropReason::FragmentOrphan),
        }
    }

    /// How many datagrams are kept, with those that ran out and were not cleared away yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn reclaim(&mut self, now: Tick) {
        for _ in 0..RECLAIM {
            let Some(&(until, key)) = self.order.front() else { return };
            if now < until {
                return;
            }
            self.order.pop_front();
            match self.kept.entry(key) {
                // Replaced since it was queued.
                Entry::Occupied(entry) if now < entry.get().until => {
                    self.order.push_back((entry.get().until, key));
                }
                Entry::Occupied(entry) => {
                    entry.remove();
                }
                Entry::Vacant(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(identification: u32) -> FragmentKey {
        FragmentKey {
            place: 5001,
            source: Ipv4Addr::new(10, 0, 0, 5),
            destination: Ipv4Addr::new(198, 51, 100, 1),
            identification,
            protocol: 17,
        }
    }

    const ORPHAN: Result<u32, DropReason> = Err(DropReason::FragmentOrphan);

    #[test]
    fn later_fragments_find_what_the_first_was_told_for_15_seconds() {
        let mut table = FragmentTable::new(10, 1);
        assert_eq!(table.lookup(Tick(0), key(7)), ORPHAN);
        table.insert(Tick(0), key(7), 70).unwrap();
        assert_eq!(table.lookup(Tick(149), key(7)), Ok(70));
        assert_eq!(table.lookup(Tick(150), key(7)), ORPHAN);
    }

    #[test]
    fn every_part_of_the_key_tells_datagrams_apart() {
        let mut table = FragmentTable::new(10, 1);
        table.insert(Tick(0), key(7), 70).unwrap();
        let other = Ipv4Addr::new(10, 0, 0, 6);
        for different in [
            FragmentKey { place: 5002, ..key(7) },
            FragmentKey { source: other, ..key(7) },
            FragmentKey { destination: other, ..key(7) },
            FragmentKey { protocol: 6, ..key(7) },
            key(8),
        ] {
            assert_eq!(table.lookup(Tick(0), different), ORPHAN, "{different:?}");
        }
    }

    #[test]
    fn a_full_table_refuses_until_an_entry_runs_out() {
        let mut table = FragmentTable::new(3, 1);
        for number in 0..3 {
            table.insert(Tick(number), key(number), number).unwrap();
        }
        assert_eq!(table.insert(Tick(149), key(3), 3), Err(DropReason::FragmentTableFull));
        table.insert(Tick(150), key(3), 3).unwrap();
        assert_eq!(table.len(), 3);
        assert_eq!(table.lookup(Tick(150), key(0)), ORPHAN);
        assert_eq!(table.lookup(Tick(150), key(1)), Ok(1));
        assert_eq!(table.lookup(Tick(150), key(3)), Ok(3));
    }

    #[test]
    fn a_reused_identification_replaces_and_lives_its_own_time() {
        let mut table = FragmentTable::new(2, 1);
        table.insert(Tick(0), key(0), 1).unwrap();
        table.insert(Tick(100), key(0), 2).unwrap();
        table.insert(Tick(100), key(1), 3).unwrap();
        assert_eq!(table.insert(Tick(200), key(2), 4), Err(DropReason::FragmentTableFull));
        assert_eq!(table.lookup(Tick(249), key(0)), Ok(2));
        for number in 2..4 {
            table.insert(Tick(250), key(number), number).unwrap();
        }
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_table_of_expired_entries_empties_as_it_is_used() {
        let mut table = FragmentTable::new(100, 1);
        for number in 0..100 {
            table.insert(Tick(0), key(number), number).unwrap();
        }
        for number in 100..140 {
            table.insert(Tick(1000), key(number), number).unwrap();
        }
        assert_eq!((table.len(), table.order.len()), (40, 40));
    }
}
