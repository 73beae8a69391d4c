//! Values that keep their number as long as they live.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;

use super::chunked::Chunked;

/// The number of a value in a [`Slab`] of `T`; an option of it takes four bytes too.
pub(super) struct Index<T> {
    /// One more than the place.
    number: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

/// Places of which some were given back. What a free place holds is the owner's.
pub(super) struct Slab<T> {
    values: Chunked<T>,
    free: Chunked<Index<T>>,
}

/// Below this nothing is given back to the allocator.
const KEPT: usize = 64;

impl<T> Index<T> {
    /// The index of the place, which must be below 2^32 - 1.
    pub(super) fn new(place: usize) -> Self {
        let number = u32::try_from(place + 1).ok().and_then(NonZeroU32::new);
        Self { number: number.expect("bounds keep slabs below 2^32 values"), of: PhantomData }
    }

    pub(super) const fn place(self) -> usize {
        self.number.get() as usize - 1
    }
}

impl<T> Clone for Index<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Index<T> {}

impl<T> PartialEq for Index<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Index<T> {}

impl<T> fmt::Debug for Index<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place().fmt(formatter)
    }
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { values: Chunked::new(), free: Chunked::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> Index<T> {
        if let Some(index) = self.free.pop() {
            self.values[index.place()] = value;
            return index;
        }
        self.values.push(value);
        Index::new(self.values.len() - 1)
    }

    /// Gives the place back with `blank` in it. When all are given back, so is the memory.
    pub(super) fn remove(&mut self, index: Index<T>, blank: T) -> T {
        let value = std::mem::replace(&mut self.values[index.place()], blank);
        self.free.push(index);
        if self.free.len() == self.values.len() && self.values.len() > KEPT {
            *self = Self::new();
        }
        value
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    /// One more than the greatest place, free places among them.
    pub(super) fn places(&self) -> usize {
        self.values.len()
    }

    /// Every place with its index, free places among them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Index<T>, &T)> {
        self.values.iter().enumerate().map(|(place, value)| (Index::new(place), value))
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.values.heap_bytes() + self.free.heap_bytes()
    }
}

impl<T> std::ops::Index<Index<T>> for Slab<T> {
    type Output = T;

    fn index(&self, index: Index<T>) -> &T {
        &self.values[index.place()]
    }
}

impl<T> std::ops::IndexMut<Index<T>> for Slab<T> {
    fn index_mut(&mut self, index: Index<T>) -> &mut T {
        &mut self.values[index.place()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_the_last_one_out_frees_the_memory() {
        let mut slab = Slab::new();
        let indices: Vec<_> = (0..100_u32).map(|value| slab.insert(value)).collect();
        assert_eq!((slab.len(), slab.places(), slab[indices[7]]), (100, 100, 7));
        assert_eq!(slab.remove(indices[7], 0), 7);
        assert_eq!(slab.insert(8), indices[7]);
        assert!(slab.heap_bytes() <= 125 * 4 + 4 * 4 + 2 * 4 * 24);
        for index in indices {
            slab.remove(index, 0);
        }
        assert_eq!((slab.len(), slab.places(), slab.heap_bytes()), (0, 0, 0));
        assert_eq!(size_of::<Option<Index<String>>>(), 4);
    }
}
