//! The flow table: exact match from a flow's key to what was decided for it.
//!
//! A cache of decisions, never the truth: NAT sessions live in `nat`, routes in the snapshot. It
//! has a fixed size; a key may stand in one of [`WINDOW`] neighbouring entries, and when all are
//! taken the one that was idle longest gives way.

use std::hint::black_box;

use nvgate_model::{DomainSlot, Tick};
use nvgate_packet::flow_key::FlowKey;
use nvgate_packet::rewrite::RewriteV4;

/// Entries a key may stand in.
pub const WINDOW: usize = 8;

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

/// A table of compiled entries for one address family.
#[derive(Debug)]
pub struct FlowTable<K> {
    entries: Vec<Entry<K>>,
    mask: usize,
}

/// What an insertion pushed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Evicted {
    /// The entry that gave way.
    pub compiled: Compiled,
}

impl<K: FlowKey> FlowTable<K> {
    /// A table of `entries` entries, rounded up to a power of two of at least [`WINDOW`].
    #[must_use]
    pub fn new(entries: usize) -> Self {
        let size = entries.max(WINDOW).next_power_of_two();
        let empty = Entry { key: K::default(), compiled: None };
        // Room behind the last entry spares the window a wrap.
        Self { entries: vec![empty; size + WINDOW - 1], mask: size - 1 }
    }

    /// Touches the memory of this hash, so that a later lookup finds it in the cache.
    #[inline]
    pub fn warm(&self, hash: u64) {
        let at = hash as usize & self.mask;
        black_box(self.entries[at].compiled.is_some());
    }

    /// The position of the entry with this key.
    #[inline]
    #[must_use]
    pub fn find(&self, key: &K, hash: u64) -> Option<usize> {
        let start = hash as usize & self.mask;
        let window = &self.entries[start..start + WINDOW];
        let at = window.iter().position(|entry| entry.key == *key && entry.compiled.is_some())?;
        Some(start + at)
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
    ) -> (usize, Option<Evicted>) {
        let start = hash as usize & self.mask;
        let mut choice = start;
        let mut choice_age = 0;
        let mut same = false;
        for (offset, entry) in self.entries[start..start + WINDOW].iter().enumerate() {
            let age = match &entry.compiled {
                Some(_) if entry.key == key => {
                    (choice, same) = (start + offset, true);
                    break;
                }
                None => u64::MAX,
                Some(taken) if stale(taken) => u64::MAX - 1,
                Some(taken) => u64::from(compiled.tick.since(taken.tick)) + 1,
            };
            if age > choice_age {
                (choice, choice_age) = (start + offset, age);
            }
        }
        let entry = &mut self.entries[choice];
        let previous = entry.compiled.replace(compiled);
        entry.key = key;
        let evicted = if same { None } else { previous.map(|compiled| Evicted { compiled }) };
        (choice, evicted)
    }

    /// Empties the entry at `position` when it belongs to this domain and session.
    pub fn remove(&mut self, position: usize, domain: u32, session: u32) {
        if let Some(entry) = self.entries.get_mut(position)
            && entry
                .compiled
                .is_some_and(|compiled| compiled.domain == domain && compiled.session == session)
        {
            entry.compiled = None;
        }
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
    fn the_entry_idle_longest_gives_way_when_a_window_is_full() {
        let mut table = FlowTable::new(WINDOW);
        for port in 0..WINDOW as u16 {
            let (_, evicted) =
                table.insert(key(port), 0, compiled(port.into(), 100 + u32::from(port)), |_| false);
            assert_eq!(evicted, None);
        }
        let (_, evicted) = table.insert(key(99), 0, compiled(99, 200), |_| false);
        assert_eq!(evicted.map(|evicted| evicted.compiled.session), Some(0));
        assert!(table.find(&key(0), 0).is_none());
        assert!(table.find(&key(99), 0).is_some());
    }

    #[test]
    fn a_stale_entry_gives_way_first_and_the_same_key_is_replaced() {
        let mut table = FlowTable::new(WINDOW);
        for port in 0..WINDOW as u16 {
            table.insert(key(port), 0, compiled(port.into(), 100), |_| false);
        }
        let (_, evicted) = table.insert(key(99), 0, compiled(99, 100), |entry| entry.session == 5);
        assert_eq!(evicted.map(|evicted| evicted.compiled.session), Some(5));
        let (position, evicted) = table.insert(key(99), 0, compiled(7, 101), |_| false);
        assert_eq!(evicted, None);
        assert_eq!(table.at(position).map(|entry| entry.session), Some(7));
    }

    #[test]
    fn removal_asks_for_the_owner() {
        let mut table = FlowTable::new(WINDOW);
        let (position, _) = table.insert(key(1), 0, compiled(1, 0), |_| false);
        table.remove(position, 0, 2);
        table.remove(position, 1, 1);
        assert!(table.at(position).is_some());
        table.remove(position, 0, 1);
        assert!(table.find(&key(1), 0).is_none());
    }
}
