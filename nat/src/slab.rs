//! Values with stable small indexes, in chunks: growing never moves or copies what is there, so
//! that no packet waits for a million sessions to be copied.

use std::ops::{Index, IndexMut};

const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;
/// The index of nothing.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Slot<T> {
    Live(T),
    Free { next: u32 },
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    length: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE, length: 0 }
    }

    /// How many values there are.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// One more than the highest index ever used.
    pub(crate) fn end(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        (full + self.chunks.last().map_or(0, Vec::len)) as u32
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.length += 1;
        if self.free != NONE {
            let index = self.free;
            let slot = self.slot_mut(index);
            if let Slot::Free { next } = *slot {
                *slot = Slot::Live(value);
                self.free = next;
            }
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let index = self.end();
        let chunk = self.chunks.last_mut().expect("a chunk with room was pushed");
        chunk.push(Slot::Live(value));
        index
    }

    pub(crate) fn remove(&mut self, index: u32) -> T {
        let next = self.free;
        let Slot::Live(value) = std::mem::replace(self.slot_mut(index), Slot::Free { next }) else {
            panic!("indexes in tables and lists are live");
        };
        self.free = index;
        self.length -= 1;
        value
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        index < self.end() && matches!(self.slot(index), Slot::Live(_))
    }

    fn slot(&self, index: u32) -> &Slot<T> {
        &self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK]
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot<T> {
        &mut self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK]
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        match self.slot(index) {
            Slot::Live(value) => value,
            Slot::Free { .. } => panic!("indexes in tables and lists are live"),
        }
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        match self.slot_mut(index) {
            Slot::Live(value) => value,
            Slot::Free { .. } => panic!("indexes in tables and lists are live"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_stable_and_reused_after_removal() {
        let mut slab = Slab::new();
        for value in 0..3000_u32 {
            assert_eq!(slab.insert(value), value);
        }
        assert_eq!((slab.len(), slab.end()), (3000, 3000));
        assert_eq!(slab.remove(1024), 1024);
        assert_eq!(slab.remove(7), 7);
        assert!(!slab.contains(7) && slab.contains(8) && !slab.contains(3000));
        assert_eq!(slab.insert(70), 7);
        assert_eq!(slab.insert(71), 1024);
        assert_eq!(slab.insert(72), 3000);
        assert_eq!((slab[7], slab[1024], slab[2999]), (70, 71, 2999));
    }
}
