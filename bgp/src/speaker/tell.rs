//! From the table to peers: update groups of peers that are told the same, and how much of it finds
//! room in their sessions.

use std::collections::BTreeSet;

use nvgate_model::Instant;

use super::peer::{Peer, Refresh, Telling, Waits};
use super::policies::GroupKey;
use super::router::Router;
use super::turn::TURN_QUANTUM;
use crate::attributes::Attributes;
use crate::family::Family;
use crate::nlri::Nlri;
use crate::rib::{Drained, GroupFacts, GroupIndex, PeerSlot, Progress, Taken, UpdateSink, Walk};
use crate::session::WRITE_BUFFER;
use crate::wire::{AttributeBlock, Codec, RefreshKind, UpdatePacker};

/// A peer is told something only with so much room: the longest message fits, and the bytes of a
/// slice share their attributes.
const ROOM_MIN: usize = WRITE_BUFFER / 2;
/// The most slices that a peer is told of a family before others have their turn.
const SLICES_MAX: usize = 4;
/// Routes that a place tells its peers in a turn, and then no more but what is begun.
const TOLD_MAX: usize = 16 * TURN_QUANTUM;
/// The most members that get a copy of the bytes of another one at once.
const COMPANIONS_MAX: usize = 64;

const _: () = assert!(ROOM_MIN >= crate::wire::MessageLimit::Extended as usize);

/// Peers that are told the same.
#[derive(Debug)]
pub(super) struct UpdateGroup {
    pub(super) key: GroupKey,
    pub(super) members: Vec<u64>,
    /// How many changes the members know of.
    changes: u64,
}

/// UPDATEs into a session's buffer.
struct Encoder<'a> {
    codec: &'a Codec,
    out: &'a mut Vec<u8>,
    end: usize,
}

impl Encoder<'_> {
    fn packer(&mut self) -> UpdatePacker<'_> {
        let room = self.end.saturating_sub(self.out.len());
        UpdatePacker::within(self.out, self.codec, room)
    }
}

impl UpdateSink for Encoder<'_> {
    fn announce(&mut self, attributes: &Attributes, routes: &[Nlri]) -> Taken {
        let Some(first) = routes.first() else { return Taken::Routes(0) };
        match AttributeBlock::new(attributes, first.family(), self.codec) {
            Ok(block) => Taken::Routes(self.packer().announce(&block, routes.iter().copied())),
            Err(_) => Taken::TooLong,
        }
    }

    fn withdraw(&mut self, family: Family, routes: &[Nlri]) -> usize {
        self.packer().withdraw(family, routes.iter().copied())
    }

    fn end_of_rib(&mut self, family: Family) -> bool {
        self.packer().end_of_rib(family)
    }
}

impl Router {
    /// The peer's session is established: it becomes a member of the groups of its families.
    pub(super) fn join_groups(&mut self, number: u64) {
        let Some(peer) = self.peers.get(&number) else { return };
        let (Some(slot), Some(terms)) = (peer.slot, peer.terms(self.draining)) else { return };
        let keys = Family::ALL.map(|family| terms.group_key(family));
        for key in keys.into_iter().flatten() {
            let family = key.family;
            let Some(group) = self.group_of(key) else { continue };
            self.table.join(group, slot);
            if let Some(of) = self.groups.get_mut(&group) {
                of.members.push(number);
            }
            if let Some(peer) = self.peers.get_mut(&number) {
                peer.telling[family.index()] = Some(Telling::new(group));
            }
        }
        self.post(number);
    }

    /// The group with this key, a new one if there is none.
    fn group_of(&mut self, key: GroupKey) -> Option<GroupIndex> {
        let known = self.groups.iter().find(|(_, group)| group.key == key);
        if let Some((group, _)) = known {
            return Some(*group);
        }
        let GroupKey { family, kind, paths, .. } = key;
        let group = self.table.open_group(GroupFacts { family, kind, paths }).ok()?;
        self.add_group(group, key);
        Some(group)
    }

    pub(super) fn add_group(&mut self, group: GroupIndex, key: GroupKey) {
        self.policies.exports.insert(group, key.export.clone());
        self.groups.insert(group, UpdateGroup { key, members: Vec::new(), changes: 0 });
        self.stir();
    }

    pub(super) fn leave_groups(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let slot = peer.slot;
        for telling in std::mem::take(&mut peer.telling).into_iter().flatten() {
            slot.into_iter().for_each(|slot| self.table.leave(telling.group, slot));
            let Some(group) = self.groups.get_mut(&telling.group) else { continue };
            group.members.retain(|member| *member != number);
            if group.members.is_empty() {
                self.groups.remove(&telling.group);
                self.policies.exports.remove(&telling.group);
                self.table.close_group(telling.group);
            }
        }
    }

    /// What the peer is told may have changed: draining, a reload, a role as a client. Members that
    /// change alike stay together, and are told only what differs from what they were told before.
    pub(super) fn regroup(&mut self, numbers: &BTreeSet<u64>) {
        let groups: Vec<GroupIndex> = self.groups.keys().copied().collect();
        for group in groups {
            while let Some((key, moving)) = self.leavers(group, numbers)
                && self.move_members(group, key, &moving)
            {}
        }
        self.stir();
    }

    /// Members among `numbers` that another key than the group's holds for, and the key: the first
    /// such one, with those that change alike.
    fn leavers(&self, group: GroupIndex, numbers: &BTreeSet<u64>) -> Option<(GroupKey, Vec<u64>)> {
        let of = self.groups.get(&group)?;
        let key = |number: &u64| {
            let peer = self.peers.get(number).filter(|_| numbers.contains(number))?;
            peer.terms(self.draining)?.group_key(of.key.family).filter(|key| *key != of.key)
        };
        let first = of.members.iter().find_map(key)?;
        let alike = of.members.iter().filter(|number| key(number).as_ref() == Some(&first));
        Some((first.clone(), alike.copied().collect()))
    }

    /// False if the table has no group left, so that everything stays as it is.
    fn move_members(&mut self, group: GroupIndex, key: GroupKey, moving: &[u64]) -> bool {
        let Some(of) = self.groups.get_mut(&group) else { return false };
        let target = if moving.len() == of.members.len() {
            of.key = key.clone();
            self.policies.exports.insert(group, key.export.clone());
            group
        } else {
            let slots: Vec<PeerSlot> =
                moving.iter().filter_map(|number| self.peers.get(number)?.slot).collect();
            let Ok(split) = self.table.split_group(group, &slots) else { return false };
            // Both are in the order of the group.
            let mut left = moving.iter().peekable();
            of.members.retain(|member| left.next_if_eq(&member).is_none());
            self.add_group(split, key.clone());
            if let Some(split) = self.groups.get_mut(&split) {
                split.members = moving.to_vec();
            }
            for number in moving {
                let telling = self.peers.get_mut(number).and_then(|p| p.telling_mut(key.family));
                telling.into_iter().for_each(|telling| telling.group = split);
            }
            split
        };
        self.table.change_group(target, key.kind, key.paths);
        true
    }

    /// Puts the peer where those stand that can be told something.
    pub(super) fn post(&mut self, number: u64) {
        if let Some(peer) = self.peers.get_mut(&number)
            && peer.is_telling()
            && !std::mem::replace(&mut peer.queued.outbox, true)
        {
            self.outbox.push_back(number);
        }
    }

    /// Members of groups with changes have something to tell.
    pub(super) fn note_changes(&mut self) {
        let mut news = Vec::new();
        for (index, group) in &mut self.groups {
            let changes = self.table.change_count(*index);
            if std::mem::replace(&mut group.changes, changes) != changes {
                news.extend(group.members.iter().map(|number| (*number, index.family())));
            }
        }
        for (number, family) in news {
            let telling = self.peers.get_mut(&number).and_then(|peer| peer.telling_mut(family));
            telling.into_iter().for_each(|telling| telling.pending = true);
            self.post(number);
        }
    }

    /// Groups are filled, or routes may be told now: who waited for that goes on.
    pub(super) fn wake_tellings(&mut self) {
        let waiting: Vec<u64> = self
            .peers
            .iter_mut()
            .filter_map(|(number, peer)| peer.stop_waiting(Waits::Sweep).then_some(*number))
            .collect();
        waiting.into_iter().for_each(|number| self.post(number));
    }

    /// TCP took bytes of the peer's, or something else made room.
    pub(super) fn note_room(&mut self, number: u64) {
        if let Some(peer) = self.peers.get_mut(&number)
            && peer.session.write_room() >= ROOM_MIN
            && peer.stop_waiting(Waits::Room)
        {
            self.post(number);
        }
    }

    /// Tells each peer that can be told something at most so many slices, until the place's share is
    /// used up.
    pub(super) fn tell(&mut self, now: Instant) {
        let mut told = 0;
        for _ in 0..self.outbox.len() {
            if told >= TOLD_MAX {
                break;
            }
            let Some(number) = self.outbox.pop_front() else { break };
            if let Some(peer) = self.peers.get_mut(&number) {
                peer.queued.outbox = false;
                for family in Family::ALL {
                    told += self.tell_family(now, number, family);
                }
                self.touch(number);
                self.post(number);
            }
        }
    }

    /// How many routes the peer was told.
    fn tell_family(&mut self, now: Instant, number: u64, family: Family) -> usize {
        let mut told = 0;
        for _ in 0..SLICES_MAX {
            let Some(peer) = self.peers.get_mut(&number) else { break };
            peer.mark_refresh(now, family);
            let room = peer.session.write_room();
            let Some(telling) = peer.telling_mut(family).filter(|telling| telling.is_ready())
            else {
                break;
            };
            if room < ROOM_MIN || telling.refresh == Refresh::BeginOwed {
                telling.waits = Waits::Room;
                break;
            }
            let group = telling.group;
            let drained = self.drain(now, number, group, room);
            told += drained.announced + drained.withdrawn;
            self.note_drained(now, number, family, drained);
        }
        told
    }

    /// Tells the peer, and those that were to be told the same, one slice.
    fn drain(&mut self, now: Instant, number: u64, group: GroupIndex, room: usize) -> Drained {
        let mut companions = self.companions(number, group, room);
        let shared = !companions.is_empty();
        let Some(peer) = self.peers.get_mut(&number) else { return Drained::default() };
        let Some(slot) = peer.slot else { return Drained::default() };
        let (table, mut drained, mut copy) = (&mut self.table, Drained::default(), Vec::new());
        peer.session.send_updates(now, |codec, out, room| {
            let (start, end) = (out.len(), out.len() + room);
            let mut encoder = Encoder { codec, out, end };
            drained = table.drain_shared(group, slot, &mut companions, &mut encoder);
            if shared {
                copy.extend_from_slice(&out[start..]);
            }
        });
        for slot in companions {
            let number = self.slots.get(&slot).copied();
            if let Some(peer) = number.and_then(|number| self.peers.get_mut(&number)) {
                peer.session.send_updates(now, |_, out, _| out.extend_from_slice(&copy));
                number.into_iter().for_each(|number| self.touch(number));
            }
        }
        drained
    }

    /// Members that may be told the same by the same bytes.
    fn companions(&self, number: u64, group: GroupIndex, room: usize) -> Vec<PeerSlot> {
        let Some(of) = self.groups.get(&group).filter(|of| of.members.len() > 1) else {
            return Vec::new();
        };
        let fits = |member: &u64| {
            let peer = self.peers.get(member).filter(|_| *member != number)?;
            let telling = peer.telling[group.family().index()].filter(Telling::is_ready)?;
            (telling.refresh == Refresh::None && peer.session.write_room() >= room)
                .then_some(peer.slot?)
        };
        of.members.iter().filter_map(fits).take(COMPANIONS_MAX).collect()
    }

    fn note_drained(&mut self, now: Instant, number: u64, family: Family, drained: Drained) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.unsendable += drained.too_long as u64;
        let Some(telling) = peer.telling_mut(family) else { return };
        match drained.progress {
            Progress::Idle => telling.pending = false,
            Progress::More => {}
            Progress::Full => telling.waits = Waits::Room,
            Progress::Building => telling.waits = Waits::Sweep,
        }
        if matches!(drained.walked, Some(Walk::Initial | Walk::Refresh))
            && telling.refresh == Refresh::Running
        {
            telling.refresh = Refresh::EndOwed;
        }
        peer.mark_refresh(now, family);
        if drained.progress == Progress::Building {
            self.sweeping = true;
        }
    }

    /// The peer asks for all routes of a family again.
    pub(super) fn tell_again(&mut self, now: Instant, number: u64, family: Family) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let enhanced = peer.up.as_ref().is_some_and(|negotiated| negotiated.enhanced_refresh);
        let slot = peer.slot;
        let Some(telling) = peer.telling_mut(family) else { return };
        telling.pending = true;
        if enhanced && matches!(telling.refresh, Refresh::None | Refresh::EndOwed) {
            telling.refresh = Refresh::BeginOwed;
        }
        if let Some(slot) = slot {
            self.table.refresh(telling.group, slot);
        }
        peer.mark_refresh(now, family);
        self.post(number);
    }
}

impl Peer {
    /// Sends the mark of a refresh that is owed, if it finds room.
    fn mark_refresh(&mut self, now: Instant, family: Family) {
        let Some(telling) = &mut self.telling[family.index()] else { return };
        match telling.refresh {
            Refresh::BeginOwed => {
                if self.session.send_refresh(now, family, RefreshKind::Begin) {
                    telling.refresh = Refresh::Running;
                }
            }
            Refresh::EndOwed => {
                if self.session.send_refresh(now, family, RefreshKind::End) {
                    telling.refresh = Refresh::None;
                } else {
                    (telling.pending, telling.waits) = (true, Waits::Room);
                }
            }
            Refresh::None | Refresh::Running => {}
        }
    }

    /// Ends a wait; whether there was one.
    fn stop_waiting(&mut self, what: Waits) -> bool {
        let mut waited = false;
        for telling in self.telling.iter_mut().flatten().filter(|telling| telling.waits == what) {
            telling.waits = Waits::Nothing;
            waited = true;
        }
        waited
    }
}
