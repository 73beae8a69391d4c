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
