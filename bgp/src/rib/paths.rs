//! With ADD-PATH: which prefix and path identifier a slot of an Adj-RIB-Out stands for.

use super::peers::PeerSlot;

/// A path that is announced, or to be withdrawn.
#[derive(Clone, Copy)]
pub(super) struct Path {
    /// The place of its prefix.
    pub(super) prefix: u32,
    /// The identifier it is announced with (RFC 7911 section 3): the number of the route.
    pub(super) path_id: u32,
    /// The next slot of the prefix, or of the free ones.
    next: Option<u32>,
    /// Who taught what is announced.
    pub(super) source: PeerSlot,
}

/// The paths of a group by slot, chained at their prefixes.
#[derive(Clone, Default)]
pub(super) struct Paths {
    slots: Vec<Path>,
    heads: Vec<Option<u32>>,
    free: Option<u32>,
}

impl Paths {
    pub(super) fn path(&self, slot: u32) -> Path {
        self.slots[slot as usize]
    }

    /// The slots of a prefix.
    pub(super) fn of(&self, prefix: usize) -> impl Iterator<Item = u32> {
        let head = self.heads.get(prefix).copied().flatten();
        std::iter::successors(head, |slot| self.slots[*slot as usize].next)
    }

    pub(super) fn set_source(&mut self, slot: u32, source: PeerSlot) {
        self.slots[slot as usize].source = source;
    }

    /// Whether the prefix has a slot.
    pub(super) fn holds(&self, prefix: usize) -> bool {
        self.of(prefix).next().is_some()
    }

    /// The places of the prefixes that have slots.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = usize> {
        let heads = self.heads.iter().enumerate();
        heads.filter(|(_, head)| head.is_some()).map(|(prefix, _)| prefix)
    }

    /// A slot for a path that has none.
    pub(super) fn insert(&mut self, prefix: usize, path_id: u32, source: PeerSlot) -> u32 {
        if self.heads.len() <= prefix {
            self.heads.resize(prefix + 1, None);
        }
        let path = Path { prefix: prefix as u32, path_id, next: self.heads[prefix], source };
        let slot = match self.free {
            Some(slot) => {
                self.free = self.slots[slot as usize].next;
                self.slots[slot as usize] = path;
                slot
            }
            None => {
                self.slots.push(path);
                self.slots.len() as u32 - 1
            }
        };
        self.heads[prefix] = Some(slot);
        slot
    }

    /// Gives the slot back and returns its prefix.
    pub(super) fn remove(&mut self, slot: u32) -> usize {
        let path = self.path(slot);
        let prefix = path.prefix as usize;
        let before = self.of(prefix).find(|other| self.slots[*other as usize].next == Some(slot));
        match before {
            Some(before) => self.slots[before as usize].next = path.next,
            None => self.heads[prefix] = path.next,
        }
        self.slots[slot as usize].next = self.free;
        self.free = Some(slot);
        prefix
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Path>() + self.heads.capacity() * size_of::<Option<u32>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_prefix_keep_their_slots_until_they_are_removed() {
        let mut paths = Paths::default();
        let source = PeerSlot(1);
        let slots = [1, 2, 3].map(|id| paths.insert(4, id, source));
        let other = paths.insert(0, 1, source);
        assert!(paths.holds(4) && !paths.holds(9));
        assert_eq!(paths.remove(slots[1]), 4);
        assert_eq!(paths.of(4).collect::<Vec<_>>(), [slots[2], slots[0]]);
        assert_eq!(paths.insert(9, 9, source), slots[1]);
        assert_eq!((paths.remove(other), paths.of(0).count()), (0, 0));
    }
}
