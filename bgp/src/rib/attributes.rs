//! Attributes, each distinct set of them once: an arena with counted references.
//!
//! Routes received, imported and announced hold a number of four bytes; that two have the same
//! attributes is that the numbers are equal. What the sets take is known to the byte, for budgets.

use std::ops::Index as Indexed;

use hashbrown::HashTable;

use super::hash::Seed;
use super::next_hops::{NextHopIndex, NextHops};
use super::slab::{Index, Slab};
use crate::attributes::Attributes;

/// The number of a set of attributes in a table.
pub(super) type AttributesId = Index<Slot>;

/// A set of attributes and who holds it.
pub(super) struct Slot {
    /// None in a free place.
    attributes: Option<Attributes>,
    hash: u32,
    /// The places that hold the number.
    references: u32,
    /// How many of them are imported routes.
    imports: u32,
    /// The next hop, while there are imported routes.
    next_hop: Option<NextHopIndex>,
}

/// The attributes of one table.
pub(super) struct Arena {
    slots: Slab<Slot>,
    index: HashTable<AttributesId>,
    seed: Seed,
    /// What the values take, without the index.
    bytes: usize,
}

impl Arena {
    pub(super) const fn new(seed: Seed) -> Self {
        Self { slots: Slab::new(), index: HashTable::new(), seed, bytes: 0 }
    }

    /// The number of these attributes, one reference more.
    pub(super) fn intern(&mut self, attributes: Attributes) -> AttributesId {
        let hash = self.hash(&attributes);
        match self.find(hash, &attributes) {
            Some(id) => self.retain(id),
            None => self.insert(hash, attributes),
        }
    }

    /// As [`intern`](Self::intern), but what is new must leave the sets within `limit` bytes.
    pub(super) fn intern_within(
        &mut self,
        attributes: &Attributes,
        limit: usize,
    ) -> Option<AttributesId> {
        let hash = self.hash(attributes);
        if let Some(id) = self.find(hash, attributes) {
            return Some(self.retain(id));
        }
        let fits = self.bytes + slot_bytes(attributes) <= limit;
        fits.then(|| self.insert(hash, attributes.clone()))
    }

    /// One reference more.
    pub(super) fn retain(&mut self, id: AttributesId) -> AttributesId {
        self.slots[id].references += 1;
        id
    }

    /// One reference less; the last one frees.
    pub(super) fn release(&mut self, id: AttributesId) {
        let slot = &mut self.slots[id];
        slot.references -= 1;
        if slot.references > 0 {
            return;
        }
        let hash = widened(slot.hash);
        let blank = Slot { attributes: None, hash: 0, references: 0, imports: 0, next_hop: None };
        let slot = self.slots.remove(id, blank);
        self.bytes -= slot.attributes.as_ref().map_or(0, slot_bytes);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        if self.slots.places() == 0 {
            self.index = HashTable::new();
        }
    }

    /// One reference more, of an imported route, whose next hop is wanted.
    pub(super) fn retain_import(&mut self, id: AttributesId, next_hops: &mut NextHops) {
        let slot = &mut self.slots[id];
        slot.references += 1;
        slot.imports += 1;
        if let (None, Some(attributes)) = (slot.next_hop, &slot.attributes) {
            slot.next_hop = Some(next_hops.acquire(attributes.next_hop));
        }
    }

    /// One reference of an imported route less.
    pub(super) fn release_import(&mut self, id: AttributesId, next_hops: &mut NextHops) {
        let slot = &mut self.slots[id];
        slot.imports -= 1;
        if slot.imports == 0
            && let Some(next_hop) = slot.next_hop.take()
        {
            next_hops.release(next_hop);
        }
        self.release(id);
    }

    /// The next hop of imported routes with these attributes.
    pub(super) fn next_hop(&self, id: AttributesId) -> Option<NextHopIndex> {
        self.slots[id].next_hop
    }

    /// What the sets take: values, what they own, and the arena's own notes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many distinct sets there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The bytes allocated, with those of the sets' own.
    pub(super) fn heap_bytes(&self) -> usize {
        let owned = self.bytes - self.slots.len() * size_of::<Slot>();
        self.slots.heap_bytes() + self.index.allocation_size() + owned
    }

    #[cfg(test)]
    pub(super) fn references(&self) -> Vec<(AttributesId, u32, u32)> {
        let held = self.slots.iter().filter(|(_, slot)| slot.attributes.is_some());
        held.map(|(id, slot)| (id, slot.references, slot.imports)).collect()
    }

    /// Half a hash: all that a slot keeps, so that a growing index need not read the attributes.
    fn hash(&self, attributes: &Attributes) -> u32 {
        self.seed.hash(attributes) as u32
    }

    fn find(&self, hash: u32, attributes: &Attributes) -> Option<AttributesId> {
        let same = |id: &AttributesId| {
            let slot = &self.slots[*id];
            slot.hash == hash && slot.attributes.as_ref() == Some(attributes)
        };
        self.index.find(widened(hash), same).copied()
    }

    fn insert(&mut self, hash: u32, attributes: Attributes) -> AttributesId {
        self.bytes += slot_bytes(&attributes);
        let slot =
            Slot { attributes: Some(attributes), hash, references: 1, imports: 0, next_hop: None };
        if self.index.len() == self.index.capacity() {
            let held = self.slots.iter().filter(|(_, slot)| slot.references > 0);
            self.index = grown(&self.index, held.map(|(id, slot)| (widened(slot.hash), id)));
        }
        let id = self.slots.insert(slot);
        self.index.insert_unique(widened(hash), id, |other| widened(self.slots[*other].hash));
        id
    }
}

impl Indexed<AttributesId> for Arena {
    type Output = Attributes;

    fn index(&self, id: AttributesId) -> &Attributes {
        self.slots[id].attributes.as_ref().expect("who holds a number holds a reference")
    }
}

/// A greater index of the same entries, filled in their order in memory: `HashTable` on its own
/// would read them in the order of their hashes.
pub(super) fn grown<T>(
    index: &HashTable<Index<T>>,
    entries: impl Iterator<Item = (u64, Index<T>)>,
) -> HashTable<Index<T>> {
    let mut grown = HashTable::with_capacity((index.len() + index.len() / 4).max(14));
    for (hash, entry) in entries {
        grown.insert_unique(hash, entry, |_| hash);
    }
    grown
}

fn slot_bytes(attributes: &Attributes) -> usize {
    size_of::<Slot>() - size_of::<Attributes>() + attributes.footprint()
}

/// Both halves of a hash, of which the table uses the upper bits too.
const fn widened(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::origin::Origin;

    fn attributes(number: u32) -> Attributes {
        let next_hop = Ipv4Addr::new(192, 0, 2, 1).into();
        let mut attributes = Attributes::originated(next_hop, Origin::Igp);
        attributes.med = Some(number);
        attributes
    }

    #[test]
    fn equal_sets_share_a_number_until_the_last_reference_goes() {
        let mut arena = Arena::new(Seed::new(1));
        let first = arena.intern(attributes(1));
        let second = arena.intern(attributes(2));
        assert_ne!(first, second);
        assert_eq!(arena.intern(attributes(1)), first);
        assert_eq!((arena.len(), arena[second].med), (2, Some(2)));
        assert_eq!(arena.bytes(), 2 * size_of::<Slot>());
        arena.release(first);
        assert_eq!(arena.references(), [(first, 1, 0), (second, 1, 0)]);
        arena.release(first);
        assert_eq!(arena.intern(attributes(3)), first);
        arena.release(first);
        arena.release(second);
        assert_eq!((arena.len(), arena.bytes()), (0, 0));
    }

    #[test]
    fn only_what_is_new_meets_the_limit() {
        let mut arena = Arena::new(Seed::new(1));
        let limit = size_of::<Slot>();
        let first = arena.intern_within(&attributes(1), limit).expect("the first fits");
        assert_eq!(arena.intern_within(&attributes(2), limit), None);
        assert_eq!(arena.intern_within(&attributes(1), limit), Some(first));
    }

    #[test]
    fn a_growing_index_finds_everything() {
        let mut arena = Arena::new(Seed::new(1));
        let ids: Vec<_> = (0..5000).map(|number| arena.intern(attributes(number))).collect();
        for number in (0..5000).step_by(3) {
            arena.release(ids[number as usize]);
        }
        for number in (0..5000).filter(|number| number % 3 != 0) {
            assert_eq!(arena.intern(attributes(number)), ids[number as usize]);
        }
        assert_eq!(size_of::<Slot>(), 104);
    }
}
