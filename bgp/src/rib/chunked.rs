//! A vector in pieces: it grows without moving what it has, so that a million routes neither pay
//! for room that they do not use nor leave holes of all the sizes that they once had.

use std::ops::{Index, IndexMut};

/// Values of a piece, as a power of two.
const PIECE_BITS: u32 = 10;
/// Values of a piece.
const PIECE: usize = 1 << PIECE_BITS;

/// Values by their places from 0.
#[derive(Clone)]
pub(super) struct Chunked<T> {
    /// All but the last are full.
    pieces: Vec<Vec<T>>,
}

impl<T> Chunked<T> {
    pub(super) const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    pub(super) fn push(&mut self, value: T) {
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => {
                // A quarter at a time, as the first piece is all that most tables have.
                if last.len() == last.capacity() {
                    last.reserve_exact((last.len() / 4).clamp(4, PIECE - last.len()));
                }
                last.push(value);
            }
            last => {
                let mut piece = Vec::with_capacity(if last.is_some() { PIECE } else { 4 });
                piece.push(value);
                self.pieces.push(piece);
            }
        }
    }

    /// Takes the last value, and gives its piece back with its first one.
    pub(super) fn pop(&mut self) -> Option<T> {
        let value = self.pieces.last_mut()?.pop();
        self.pieces.pop_if(|last| last.is_empty());
        value
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.pieces.get(place >> PIECE_BITS)?.get(place % PIECE)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// The values from this place on.
    pub(super) fn iter_from(&self, place: usize) -> impl Iterator<Item = &T> {
        let pieces = self.pieces.get(place >> PIECE_BITS..).unwrap_or_default();
        pieces.iter().flatten().skip(place % PIECE)
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        let values: usize = self.pieces.iter().map(Vec::capacity).sum();
        values * size_of::<T>() + self.pieces.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        &self.pieces[place >> PIECE_BITS][place % PIECE]
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.pieces[place >> PIECE_BITS][place % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_at_their_places_over_all_pieces_and_little_room_is_unused() {
        let mut values = Chunked::new();
        for number in 0..5000_u32 {
            assert_eq!((values.len(), values.get(number as usize)), (number as usize, None));
            values.push(number);
            assert!(values.heap_bytes() <= 4 * (number as usize * 5 / 4 + 4 + PIECE) + 24 * 8);
        }
        values[4096] = 7;
        assert_eq!((values[4096], values[4095], values.get(4999)), (7, 4095, Some(&4999)));
        for from in [0, 1, 1023, 1024, 4097, 4999, 5000, 9000] {
            let expected: Vec<u32> = (from..5000).map(|n| if n == 4096 { 7 } else { n }).collect();
            assert!(values.iter_from(from as usize).copied().eq(expected), "{from}");
        }
        assert_eq!(values.iter().count(), 5000);
        assert!((0..5000).rev().all(|n| values.pop() == Some(if n == 4096 { 7 } else { n })));
        assert_eq!((values.pop(), values.len()), (None, 0));
    }
}
