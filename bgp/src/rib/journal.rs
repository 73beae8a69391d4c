//! The journal of an update group: which slots of its Adj-RIB-Out changed, in order.
//!
//! An entry says only that a slot changed; what holds is in the slot, with the number of its last
//! change. So a reader skips every entry but a slot's last, and however often a slot changes behind
//! a slow reader, it is told once. Entries that every reader passed are dropped from the front;
//! superseded ones when the journal is longer than twice what it can still say.

use std::collections::VecDeque;

use super::peers::PeerSlot;

/// The number of a journal's entry; numbers are not used again but by [`Journal::compact`].
pub(super) type Position = u64;

/// A changed slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// The slot of the Adj-RIB-Out.
    pub(super) slot: u32,
    /// Who need not be told that the slot is empty now.
    pub(super) absent: Absent,
}

/// Which members certainly hold nothing of a slot at the time of an entry: they need no withdrawal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Absent {
    /// Any may hold something.
    Nobody,
    /// This one, who taught the route.
    Peer(PeerSlot),
    /// All: the slot was empty before and everyone knew.
    All,
}

/// Entries with their numbers.
#[derive(Clone)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    start: Position,
}

/// The journal may have this many entries before it is looked at for superseded ones. Few in tests,
/// which are to meet that.
pub(super) const COMPACTION_MIN: usize = if cfg!(test) { 4 } else { 1024 };

impl Journal {
    pub(super) const fn new() -> Self {
        Self { entries: VecDeque::new(), start: 0 }
    }

    /// The number of the first entry. All members stand there or behind it.
    pub(super) const fn start(&self) -> Position {
        self.start
    }

    /// The number that the next entry will have.
    pub(super) fn end(&self) -> Position {
        self.start + self.entries.len() as u64
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry with this number, if it was not dropped.
    pub(super) fn entry(&self, position: Position) -> Option<Entry> {
        let place = usize::try_from(position.checked_sub(self.start)?).ok()?;
        self.entries.get(place).copied()
    }

    /// Appends an entry and returns the lower half of its number, for the slot to note.
    pub(super) fn append(&mut self, entry: Entry) -> u32 {
        let number = self.end() as u32;
        self.entries.push_back(entry);
        number
    }

    /// The whole number of the slot's last change, if the journal still has it.
    pub(super) fn pending(&self, slot: u32, changed: u32) -> Option<Position> {
        let place = changed.wrapping_sub(self.start as u32);
        let entry = self.entries.get(place as usize)?;
        (entry.slot == slot).then_some(self.start + u64::from(place))
    }

    /// Drops the first entry, if it is before `passed`.
    pub(super) fn drop_before(&mut self, passed: Position) -> Option<(Position, Entry)> {
        if self.start >= passed {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.start += 1;
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
        Some((self.start - 1, entry))
    }

    /// Drops every entry that is not its slot's last. `keep` is asked with the slot, the lower half
    /// of the entry's number and that of the number it would get; if it keeps the entry, the slot
    /// takes the new number. `marks` are positions, ascending; each becomes that of the first entry
    /// kept at or behind it.
    pub(super) fn compact(
        &mut self,
        marks: &mut [Position],
        mut keep: impl FnMut(u32, u32, u32) -> bool,
    ) {
        let mut marks = marks.iter_mut().filter(|mark| **mark >= self.start).peekable();
        let (mut position, mut next) = (self.start, self.start);
        self.entries.retain(|entry| {
            while let Some(mark) = marks.next_if(|mark| **mark <= position) {
                *mark = next;
            }
            let kept = keep(entry.slot, position as u32, next as u32);
            position += 1;
            next += u64::from(kept);
            kept
        });
        marks.for_each(|mark| *mark = next);
        self.entries.shrink_to(self.entries.len() + COMPACTION_MIN);
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slot: u32) -> Entry {
        Entry { slot, absent: Absent::Nobody }
    }

    #[test]
    fn an_entry_takes_eight_bytes() {
        assert_eq!(size_of::<Entry>(), 8);
    }

    #[test]
    fn only_the_last_entry_of_a_slot_is_pending() {
        let mut journal = Journal::new();
        let first = journal.append(entry(7));
        let second = journal.append(entry(7));
        assert_eq!((journal.pending(7, second), journal.pending(8, first)), (Some(1), None));
        assert_eq!(journal.drop_before(1), Some((0, entry(7))));
        assert_eq!((journal.drop_before(1), journal.pending(7, first)), (None, None));
        assert_eq!((journal.start, journal.end(), journal.entry(0)), (1, 2, None));
        assert_eq!(journal.entry(1), Some(entry(7)));
    }

    #[test]
    fn compaction_keeps_the_order_and_where_readers_stand() {
        let mut journal = Journal::new();
        let mut changed = [0; 3];
        for slot in [0, 1, 0, 2, 1, 0] {
            changed[slot as usize] = journal.append(entry(slot));
        }
        let mut marks = [0, 3, 4, 5, 6];
        journal.compact(&mut marks, |slot, number, new_number| {
            let changed = &mut changed[slot as usize];
            let kept = *changed == number;
            *changed = if kept { new_number } else { *changed };
            kept
        });
        assert_eq!(marks, [0, 0, 1, 2, 3]);
        assert_eq!((0..3).map(|n| journal.entry(n).unwrap().slot).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(changed, [2, 1, 0]);
    }
}
