//! A member of an update group: where it stands.

use super::journal::Position;
use super::peers::PeerSlot;

/// A peer's place in its group's journal, and its walk through the table before that.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) peer: PeerSlot,
    /// What is before this was told.
    pub(super) position: Position,
    /// The end of the slice under way; `position` if there is none.
    pub(super) slice_end: Position,
    /// Slots of the slice under way that are still to be told.
    pub(super) rest: Vec<u32>,
    /// The slot to go on at with a walk, and what the walk is for.
    pub(super) walk: Option<(u32, Walk)>,
}

/// Why a member is told everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walk {
    /// It joined: End-of-RIB follows (RFC 4724 section 2).
    Initial,
    /// It asked for a refresh (RFC 2918).
    Refresh,
}

impl Member {
    /// A member that knows nothing, at the end of a journal.
    pub(super) const fn new(peer: PeerSlot, end: Position) -> Self {
        Self {
            peer,
            position: end,
            slice_end: end,
            rest: Vec::new(),
            walk: Some((0, Walk::Initial)),
        }
    }

    /// Whether its walk has told everything, of a table with so many slots.
    pub(super) fn is_at_end_of_walk(&self, slots: usize) -> bool {
        self.rest.is_empty() && self.walk.is_some_and(|(next, _)| next as usize >= slots)
    }

    /// Whether it was told what the entry says, for certain.
    pub(super) const fn has_passed(&self, entry: Position) -> bool {
        self.position > entry
    }

    /// Whether it may have been told.
    pub(super) const fn may_have_passed(&self, entry: Position) -> bool {
        self.slice_end > entry
    }

    /// Whether what is told next to the one is to be told to the other too, their own routes aside.
    pub(super) fn stands_with(&self, other: &Self) -> bool {
        self.position == other.position
            && self.walk == other.walk
            && self.rest.is_empty()
            && other.rest.is_empty()
    }

    pub(super) fn marks(&self) -> [Position; 2] {
        [self.position, self.slice_end]
    }

    pub(super) fn renumber(&mut self, moved: impl Fn(Position) -> Position) {
        self.position = moved(self.position);
        self.slice_end = moved(self.slice_end);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.rest.capacity() * size_of::<u32>()
    }
}
