//! From an update group to a member's messages: slices of the journal, or of a walk, put in order so
//! that each set of attributes is encoded once.

use super::attributes::AttributesId;
use super::family_table::{FamilyTable, Shared};
use super::group::Group;
use super::journal::{Absent, Position};
use super::member::{Member, Walk};
use super::peers::PeerSlot;
use super::prefixes::{Network, PrefixIndex, Prefixes};
use super::slab::Index;
use crate::attributes::Attributes;
use crate::family::Family;
use crate::nlri::{Nlri, PathId};

/// The most slots told in one slice. Few in tests, where other things are to come between.
pub const SLICE_MAX: usize = if cfg!(test) { 3 } else { 1024 };

/// The most entries or slots looked at for one slice.
const SCAN_MAX: usize = 8 * SLICE_MAX;

/// Where a member's routes go: an encoder with as much room as the member's buffer.
pub trait UpdateSink {
    /// Announces routes that share their attributes, from the front as many as there is room for.
    fn announce(&mut self, attributes: &Attributes, routes: &[Nlri]) -> Taken;

    /// Withdraws routes, from the front as many as there is room for, and says how many.
    fn withdraw(&mut self, family: Family, routes: &[Nlri]) -> usize;

    /// Says that the initial routes are complete (RFC 4724 section 2); false without room.
    fn end_of_rib(&mut self, family: Family) -> bool;
}

/// What an encoder took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// So many routes, from the front.
    Routes(usize),
    /// The attributes fit no message of the session: the routes are withdrawn instead.
    TooLong,
}

/// What a turn of draining came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// Whether there is more.
    pub progress: Progress,
    /// Routes announced.
    pub announced: usize,
    /// Routes withdrawn.
    pub withdrawn: usize,
    /// Routes withdrawn because their attributes fit no message.
    pub too_long: usize,
    /// A walk that came to its end.
    pub walked: Option<Walk>,
}

/// Whether a member has more to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Progress {
    /// Nothing now.
    #[default]
    Idle,
    /// More, at once.
    More,
    /// More, once the sink has room.
    Full,
    /// The group is not filled yet: sweep first.
    Building,
}

/// Slots to be told next.
#[derive(Default)]
struct Slice {
    /// Attributes, slot.
    announce: Vec<(AttributesId, u32)>,
    withdraw: Vec<u32>,
    /// Members to whom some of it means something else.
    special: Vec<PeerSlot>,
    /// Where the member stands after it.
    end: Position,
    walk: Option<(u32, Walk)>,
}

impl Group {
    fn source<N: Network>(&self, prefixes: &Prefixes<N>, slot: u32) -> PeerSlot {
        match &self.paths {
            Some(paths) => paths.path(slot).source,
            None => prefixes[prefix_of::<N>(slot as usize)].source,
        }
    }

    fn nlri<N: Network>(&self, prefixes: &Prefixes<N>, slot: u32) -> Nlri {
        match self.paths.as_ref().map(|paths| paths.path(slot)) {
            Some(path) => Nlri {
                prefix: prefixes[prefix_of::<N>(path.prefix as usize)].prefix(),
                path_id: Some(PathId(path.path_id)),
            },
            None => Nlri::from(prefixes[prefix_of::<N>(slot as usize)].prefix()),
        }
    }

    /// What the member is to be told next.
    fn slice<N: Network>(&self, prefixes: &Prefixes<N>, member: &Member) -> Slice {
        let mut slice = Slice { end: member.slice_end, walk: member.walk, ..Slice::default() };
        if !member.rest.is_empty() {
            self.slice_of_rest(prefixes, member, &mut slice);
        } else if let Some((next, walk)) = member.walk {
            slice.walk = Some((self.slice_of_walk(prefixes, member.peer, next, &mut slice), walk));
        } else {
            self.slice_of_journal(prefixes, member, &mut slice);
        }
        slice
    }

    fn slice_of_rest<N: Network>(
        &self,
        prefixes: &Prefixes<N>,
        member: &Member,
        slice: &mut Slice,
    ) {
        for slot in &member.rest {
            let out = self.out(*slot);
            let pending = self.journal.pending(*slot, out.changed);
            if pending.is_some_and(|position| position >= member.slice_end) {
                continue;
            }
            match out.attributes {
                Some(id) if self.source(prefixes, *slot) != member.peer => {
                    slice.announce.push((id, *slot));
                }
                Some(_) | None => slice.withdraw.push(*slot),
            }
        }
    }

    fn slice_of_walk<N: Network>(
        &self,
        prefixes: &Prefixes<N>,
        peer: PeerSlot,
        next: u32,
        slice: &mut Slice,
    ) -> u32 {
        let mut walked = next;
        for (out, slot) in self.outs.iter_from(next as usize).zip(next..).take(SCAN_MAX) {
            if slice.announce.len() == SLICE_MAX {
                break;
            }
            walked = slot + 1;
            let Some(id) = out.attributes else { continue };
            let source = self.source(prefixes, slot);
            slice.note_special(source);
            if source != peer {
                slice.announce.push((id, slot));
            }
        }
        walked
    }

    fn slice_of_journal<N: Network>(
        &self,
        prefixes: &Prefixes<N>,
        member: &Member,
        slice: &mut Slice,
    ) {
        let limit = self.journal.end().min(member.position + SCAN_MAX as u64);
        while slice.end < limit && slice.announce.len() + slice.withdraw.len() < SLICE_MAX {
            let position = slice.end;
            let Some(entry) = self.journal.entry(position) else { break };
            slice.end += 1;
            let out = self.out(entry.slot);
            if out.changed != position as u32 {
                continue;
            }
            let source = self.source(prefixes, entry.slot);
            if let Absent::Peer(peer) = entry.absent {
                slice.note_special(peer);
            }
            match out.attributes {
                Some(id) if source != member.peer => {
                    slice.note_special(source);
                    slice.announce.push((id, entry.slot));
                }
                Some(_) | None => {
                    if out.attributes.is_some() {
                        slice.note_special(source);
                    }
                    let knows =
                        entry.absent == Absent::All || entry.absent == Absent::Peer(member.peer);
                    if !knows {
                        slice.withdraw.push(entry.slot);
                    }
                }
            }
        }
    }
}

impl Slice {
    /// Consecutive routes mostly have one source.
    fn note_special(&mut self, peer: PeerSlot) {
        if self.special.last() != Some(&peer) && peer != PeerSlot::LOCAL {
            self.special.push(peer);
        }
    }
}

impl<N: Network> FamilyTable<N> {
    /// Tells a member of a group what it is to be told next, at most a slice of it. Those of
    /// `companions` that were to be told exactly the same have been, by the same bytes; the others
    /// are taken out.
    pub(super) fn drain(
        &mut self,
        shared: &Shared,
        number: u16,
        peer: PeerSlot,
        companions: &mut Vec<PeerSlot>,
        sink: &mut impl UpdateSink,
    ) -> Drained {
        let group = self.groups.get_mut(usize::from(number)).and_then(Option::as_mut);
        let Some(group) = group else {
            companions.clear();
            return Drained::default();
        };
        let Ok(place) = group.member_place(peer) else {
            companions.clear();
            return Drained::default();
        };
        if group.members[place].walk.is_some() && group.building.is_some() {
            companions.clear();
            return Drained { progress: Progress::Building, ..Drained::default() };
        }
        if group.members[place].is_at_end_of_walk(group.outs.len()) {
            companions.clear();
            return group.end_walk(place, sink);
        }
        let was_last = group.members[place].position == group.journal.start();
        let slice = group.slice(&self.prefixes, &group.members[place]);
        group.choose_companions(place, &slice, companions);
        let mut told = Telling {
            group,
            prefixes: &self.prefixes,
            shared,
            drained: Drained::default(),
            routes: Vec::new(),
        };
        let rest = told.tell(&slice, sink);
        let mut drained = told.drained;
        group.advance(place, &slice, &rest);
        for companion in companions.iter() {
            if let Ok(place) = group.member_place(*companion) {
                group.advance(place, &slice, &rest);
            }
        }
        drained.progress = group.progress(place, !rest.is_empty());
        if was_last {
            self.trim(usize::from(number));
        }
        drained
    }

    /// Drops what all members of a group passed, and prefixes that nothing else holds.
    pub(super) fn trim(&mut self, number: usize) {
        let Some(Some(group)) = self.groups.get_mut(number) else { return };
        let mut ended = Vec::new();
        group.trim(|slot| ended.push(slot));
        for slot in ended {
            let place = match &mut group.paths {
                Some(paths) => {
                    let prefix = paths.remove(slot);
                    if paths.holds(prefix) {
                        continue;
                    }
                    prefix
                }
                None => slot as usize,
            };
            let prefix = prefix_of::<N>(place);
            self.prefixes[prefix].holders -= 1;
            self.prefixes.remove_idle(prefix);
        }
    }
}

impl Group {
    /// Leaves those companions that the slice is for too.
    fn choose_companions(&self, leader: usize, slice: &Slice, companions: &mut Vec<PeerSlot>) {
        let leader = &self.members[leader];
        if slice.special.contains(&leader.peer) {
            companions.clear();
            return;
        }
        let mut special = slice.special.clone();
        special.sort_unstable();
        companions.retain(|peer| {
            let member = self.member_place(*peer).map(|place| &self.members[place]);
            *peer != leader.peer
                && member.is_ok_and(|member| member.stands_with(leader))
                && special.binary_search(peer).is_err()
        });
    }

    fn advance(&mut self, place: usize, slice: &Slice, rest: &[u32]) {
        let end = self.journal.end();
        let member = &mut self.members[place];
        if member.walk.is_some() {
            self.walk_fence = end;
        }
        member.walk = slice.walk;
        member.slice_end = slice.end;
        member.rest = rest.to_vec();
        if rest.is_empty() {
            member.position = slice.end;
        }
        self.reached = self.reached.max(slice.end);
    }

    fn progress(&self, place: usize, full: bool) -> Progress {
        let member = &self.members[place];
        if full {
            Progress::Full
        } else if member.walk.is_some() || member.position < self.journal.end() {
            Progress::More
        } else {
            Progress::Idle
        }
    }

    fn end_walk(&mut self, place: usize, sink: &mut impl UpdateSink) -> Drained {
        let walk = self.members[place].walk.map(|(_, walk)| walk);
        if walk == Some(Walk::Initial) && !sink.end_of_rib(self.facts.family) {
            return Drained { progress: Progress::Full, ..Drained::default() };
        }
        self.members[place].walk = None;
        Drained { progress: self.progress(place, false), walked: walk, ..Drained::default() }
    }
}

/// A slice on its way into a sink.
struct Telling<'a, N> {
    group: &'a Group,
    prefixes: &'a Prefixes<N>,
    shared: &'a Shared,
    drained: Drained,
    /// The routes of one call, in memory that the next one uses again.
    routes: Vec<Nlri>,
}

impl<N: Network> Telling<'_, N> {
    /// Gives the slice to the sink; returns the slots that it had no room for.
    fn tell(&mut self, slice: &Slice, sink: &mut impl UpdateSink) -> Vec<u32> {
        let mut rest = Vec::new();
        self.withdraw(&slice.withdraw, &mut rest, sink);
        let mut announce = slice.announce.clone();
        announce.sort_unstable_by_key(|(id, slot)| (id.place(), *slot));
        let slots: Vec<u32> = announce.iter().map(|(_, slot)| *slot).collect();
        let mut told = 0;
        for alike in announce.chunk_by(|a, b| a.0 == b.0) {
            let slots = &slots[told..told + alike.len()];
            told += alike.len();
            if rest.is_empty() {
                self.announce(alike[0].0, slots, &mut rest, sink);
            } else {
                rest.extend(slots);
            }
        }
        rest
    }

    fn withdraw(
        &mut self,
        slots: &[u32],
        rest: &mut Vec<u32>,
        sink: &mut impl UpdateSink,
    ) -> usize {
        if slots.is_empty() {
            return 0;
        }
        self.collect(slots);
        let taken = sink.withdraw(N::FAMILY, &self.routes).min(slots.len());
        self.drained.withdrawn += taken;
        rest.extend(&slots[taken..]);
        taken
    }

    fn announce(
        &mut self,
        id: AttributesId,
        slots: &[u32],
        rest: &mut Vec<u32>,
        sink: &mut impl UpdateSink,
    ) {
        self.collect(slots);
        match sink.announce(&self.shared.arena[id], &self.routes) {
            Taken::Routes(taken) => {
                let taken = taken.min(slots.len());
                self.drained.announced += taken;
                rest.extend(&slots[taken..]);
            }
            Taken::TooLong => self.drained.too_long += self.withdraw(slots, rest, sink),
        }
    }

    fn collect(&mut self, slots: &[u32]) {
        self.routes.clear();
        self.routes.extend(slots.iter().map(|slot| self.group.nlri(self.prefixes, *slot)));
    }
}

fn prefix_of<N>(place: usize) -> PrefixIndex<N> {
    Index::new(place)
}
