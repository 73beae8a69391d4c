//! A queue whose memory goes when it is empty: tables at rest are to cost what they hold.

use std::collections::VecDeque;

/// First in, first out. That nothing is in it twice is the owner's to see to.
pub(super) struct Queue<T>(VecDeque<T>);

/// Below this nothing is given back to the allocator.
const KEPT: usize = 64;

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn push(&mut self, value: T) {
        self.0.push_back(value);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let value = self.0.pop_front();
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0 = VecDeque::new();
        }
        value
    }

    /// What comes next, in order.
    pub(super) fn next(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<T>()
    }
}
