//! The update groups of one family: opened, split, closed, joined and left.

use super::attributes::Arena;
use super::family_table::FamilyTable;
use super::group::{GROUPS_MAX, Group, GroupIndex, TooManyGroups};
use super::peers::PeerSlot;
use super::prefixes::Network;
use super::slab::Index;
use super::sweep::Lap;

impl<N: Network> FamilyTable<N> {
    pub(super) fn group(&self, group: GroupIndex) -> Option<&Group> {
        self.groups.get(usize::from(group.number))?.as_ref()
    }

    pub(super) fn group_mut(&mut self, group: GroupIndex) -> Option<&mut Group> {
        self.groups.get_mut(usize::from(group.number))?.as_mut()
    }

    pub(super) fn add_group(&mut self, group: Group) -> Result<GroupIndex, TooManyGroups> {
        let free = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
        if free >= GROUPS_MAX {
            return Err(TooManyGroups);
        }
        if free == self.groups.len() {
            self.groups.push(None);
        }
        self.groups[free] = Some(group);
        Ok(GroupIndex { family: N::FAMILY, number: free as u16 })
    }

    pub(super) fn split_group(
        &mut self,
        number: u16,
        peers: &[PeerSlot],
        arena: &mut Arena,
    ) -> Result<GroupIndex, TooManyGroups> {
        if self.groups.iter().flatten().count() >= GROUPS_MAX {
            return Err(TooManyGroups);
        }
        let group = self.groups.get_mut(usize::from(number)).and_then(Option::as_mut);
        let split = group.ok_or(TooManyGroups)?.split(peers, arena);
        for place in split.held_prefixes() {
            self.prefixes[Index::new(place)].holders += 1;
        }
        let index = self.add_group(split)?;
        // What only the one or the other half still had to be told is not held by both.
        self.trim(usize::from(number));
        self.trim(usize::from(index.number));
        Ok(index)
    }

    pub(super) fn close_group(&mut self, number: u16, arena: &mut Arena) {
        let Some(slot) = self.groups.get_mut(usize::from(number)) else { return };
        let Some(group) = slot.take() else { return };
        for place in group.held_prefixes() {
            let prefix = Index::new(place);
            self.prefixes[prefix].holders -= 1;
            self.prefixes.remove_idle(prefix);
        }
        group.outs.iter().filter_map(|out| out.attributes).for_each(|id| arena.release(id));
    }

    pub(super) fn leave(&mut self, number: u16, peer: PeerSlot) {
        let Some(Some(group)) = self.groups.get_mut(usize::from(number)) else { return };
        if let Ok(place) = group.member_place(peer) {
            group.members.remove(place);
            self.trim(usize::from(number));
        }
    }

    pub(super) fn leave_all(&mut self, peer: PeerSlot) {
        for number in 0..self.groups.len() {
            self.leave(number as u16, peer);
        }
    }

    pub(super) fn settle(&mut self, lap: Lap) {
        for group in self.groups.iter_mut().flatten() {
            group.settle(lap);
        }
    }
}

impl Group {
    /// The places of prefixes that it announces or has to withdraw, each once.
    fn held_prefixes(&self) -> Vec<usize> {
        match &self.paths {
            Some(paths) => paths.prefixes().collect(),
            None => {
                let slots = self.outs.iter().zip(0..);
                let held = slots.filter(|(out, slot)| {
                    out.attributes.is_some() || self.journal.pending(*slot, out.changed).is_some()
                });
                held.map(|(_, slot)| slot as usize).collect()
            }
        }
    }
}
