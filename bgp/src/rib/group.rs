//! Update groups: peers that get the same routes, one Adj-RIB-Out for all of them.
//!
//! A group has a slot for everything it can announce: without ADD-PATH a prefix is its own slot,
//! with ADD-PATH a slot is a prefix and a path identifier. Slots say what holds now; the journal
//! says which changed; a member is a position in the journal. Nothing is queued for a member, and
//! what a member misses it misses once. A group belongs to one family.

use super::attributes::{Arena, AttributesId};
use super::chunked::Chunked;
use super::journal::{Absent, COMPACTION_MIN, Entry, Journal, Position};
use super::member::Member;
use super::paths::Paths;
use super::peers::{PeerKind, PeerSlot};
use super::sweep::Lap;
use crate::family::Family;

/// The number of an update group in its table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupIndex {
    pub(super) family: Family,
    pub(super) number: u16,
}

impl GroupIndex {
    /// The family of the group's routes.
    #[must_use]
    pub const fn family(self) -> Family {
        self.family
    }
}

/// What a table must know of an update group. That its members have the same policy, rewriting and
/// encoding is the speaker's to see to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GroupFacts {
    /// The family of its routes.
    pub family: Family,
    /// What all members are to us.
    pub kind: PeerKind,
    /// Which of a prefix's routes are announced.
    pub paths: PathsOut,
}

/// Which of a prefix's routes are announced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PathsOut {
    /// The best one, without path identifiers.
    Best,
    /// By ADD-PATH the best ones by repeated decision, at most so many (RFC 7911).
    Several(u8),
    /// By ADD-PATH every eligible one.
    All,
}

/// A table has no group left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the table has {GROUPS_MAX} update groups of the family, the most it can")]
pub struct TooManyGroups;

/// The most update groups of one family in a table: a prefix counts those that hold it.
pub const GROUPS_MAX: usize = u16::MAX as usize;

/// What is announced now, and when that changed. 8 bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Out {
    pub(super) attributes: Option<AttributesId>,
    /// The lower half of the number of the last change's entry.
    pub(super) changed: u32,
}

/// What is to be announced in a slot.
#[derive(Clone, Copy)]
pub(super) struct Update {
    /// Who taught what was announced until now.
    pub(super) old_source: PeerSlot,
    /// Who taught what is announced from now on.
    pub(super) new_source: PeerSlot,
    /// Its attributes with a reference that becomes the slot's.
    pub(super) attributes: Option<AttributesId>,
}

/// Whether a slot still has something to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    /// As before.
    Same,
    /// It is announced or to be withdrawn, and was neither before.
    Begins,
    /// It is neither any more.
    Ends,
}

/// One update group.
pub(super) struct Group {
    pub(super) facts: GroupFacts,
    pub(super) outs: Chunked<Out>,
    /// With ADD-PATH: what each slot stands for.
    pub(super) paths: Option<Paths>,
    pub(super) journal: Journal,
    /// By ascending peer.
    pub(super) members: Vec<Member>,
    /// Slots that are held.
    pub(super) held: usize,
    /// Slots that are announced.
    pub(super) announced: usize,
    /// How many changes members were to be told of so far.
    pub(super) changes: u64,
    /// No member was told anything at or behind this.
    pub(super) reached: Position,
    /// The end of the journal when a member last walked: it may hold what entries before say it
    /// does not.
    pub(super) walk_fence: Position,
    /// The slots are filled first at the end of this lap; no member walks before.
    pub(super) building: Option<Lap>,
    /// Export anew until the end of this lap.
    pub(super) reexport: Option<Lap>,
}

impl Group {
    pub(super) fn new(facts: GroupFacts, building: Lap) -> Self {
        Self {
            facts,
            outs: Chunked::new(),
            paths: (facts.paths != PathsOut::Best).then(Paths::default),
            journal: Journal::new(),
            members: Vec::new(),
            held: 0,
            announced: 0,
            changes: 0,
            reached: 0,
            walk_fence: 0,
            building: Some(building),
            reexport: None,
        }
    }

    /// A group of the same state with these of its members, for whom something changes from now on.
    pub(super) fn split(&mut self, peers: &[PeerSlot], arena: &mut Arena) -> Self {
        for out in self.outs.iter() {
            out.attributes.map(|id| arena.retain(id));
        }
        let mut peers = peers.to_vec();
        peers.sort_unstable();
        let (moved, kept) = std::mem::take(&mut self.members)
            .into_iter()
            .partition(|member: &Member| peers.binary_search(&member.peer).is_ok());
        self.members = kept;
        Self {
            facts: self.facts,
            outs: self.outs.clone(),
            paths: self.paths.clone(),
            journal: self.journal.clone(),
            members: moved,
            held: self.held,
            announced: self.announced,
            changes: self.changes,
            reached: self.reached,
            walk_fence: self.walk_fence,
            building: self.building,
            reexport: self.reexport,
        }
    }

    /// Whether the next sweep is to export every prefix.
    pub(super) const fn has_cause(&self) -> bool {
        self.building.is_some() || self.reexport.is_some()
    }

    /// Ends what laps up to `lap` served; true if something is left.
    pub(super) fn settle(&mut self, lap: Lap) -> bool {
        self.building = self.building.filter(|until| *until > lap);
        self.reexport = self.reexport.filter(|until| *until > lap);
        self.has_cause()
    }

    pub(super) fn member_place(&self, peer: PeerSlot) -> Result<usize, usize> {
        self.members.binary_search_by_key(&peer, |member| member.peer)
    }

    pub(super) fn out(&self, slot: u32) -> Out {
        self.outs.get(slot as usize).copied().unwrap_or_default()
    }

    /// Puts what holds now into the slot. The old attributes lose their reference. A change that
    /// members must be told of goes into the journal.
    pub(super) fn update(&mut self, slot: u32, update: Update, arena: &mut Arena) -> Held {
        let old = self.out(slot);
        if let Some(id) = old.attributes {
            arena.release(id);
        }
        if old.attributes == update.attributes && !self.moves(old, update) {
            return Held::Same;
        }
        let pending = self.journal.pending(slot, old.changed);
        let held = old.attributes.is_some() || pending.is_some();
        let mut out = Out { attributes: update.attributes, changed: old.changed };
        // Members of a group that is not filled yet have not begun to walk.
        let told = !self.members.is_empty() && self.building.is_none();
        if told {
            let absent = self.absent(pending, old, update.old_source);
            out.changed = self.journal.append(Entry { slot, absent });
            self.changes += 1;
        }
        self.put(slot, out);
        self.announced += usize::from(out.attributes.is_some());
        self.announced -= usize::from(old.attributes.is_some());
        let holds = out.attributes.is_some() || told;
        self.held = self.held + usize::from(holds) - usize::from(held);
        self.compact_if_long();
        match (held, holds) {
            (false, true) => Held::Begins,
            (true, false) => Held::Ends,
            (true, true) | (false, false) => Held::Same,
        }
    }

    /// Whether the same attributes come from another peer, and one of the two is a member: members
    /// are not told what they taught, so the one has to hear of it and the other to forget it.
    fn moves(&self, old: Out, update: Update) -> bool {
        let member = |peer| self.member_place(peer).is_ok();
        old.attributes.is_some()
            && update.old_source != update.new_source
            && (member(update.old_source) || member(update.new_source))
    }

    fn put(&mut self, slot: u32, out: Out) {
        let place = slot as usize;
        while self.outs.len() <= place {
            self.outs.push(Out::default());
        }
        self.outs[place] = out;
    }

    /// Who certainly holds nothing of a slot that holds `old`, taught by `source`, until now. If
    /// members have not all passed the slot's last entry, that is `pending`.
    fn absent(&self, pending: Option<Position>, old: Out, source: PeerSlot) -> Absent {
        let Some(position) = pending else {
            return if old.attributes.is_some() { Absent::Peer(source) } else { Absent::All };
        };
        let before = self.journal.entry(position).map_or(Absent::Nobody, |entry| entry.absent);
        let walked = position < self.walk_fence;
        if before == Absent::All && !walked && self.reached <= position {
            return Absent::All;
        }
        let source = old.attributes.and(self.member_place(source).ok()).map(|at| &self.members[at]);
        if let Some(source) = source
            && (source.has_passed(position)
                || [Absent::All, Absent::Peer(source.peer)].contains(&before))
        {
            return Absent::Peer(source.peer);
        }
        let unaware = |peer| {
            let place = self.member_place(peer);
            place.is_ok_and(|place| !self.members[place].may_have_passed(position))
        };
        match before {
            Absent::Peer(peer) if !walked && unaware(peer) => before,
            Absent::Peer(_) | Absent::All | Absent::Nobody => Absent::Nobody,
        }
    }

    fn compact_if_long(&mut self) {
        if self.journal.len() <= 2 * self.held + COMPACTION_MIN {
            return;
        }
        let mut marks: Vec<Position> = self
            .members
            .iter()
            .flat_map(Member::marks)
            .chain([self.reached, self.walk_fence])
            .collect();
        marks.sort_unstable();
        marks.dedup();
        let mut moved = marks.clone();
        let outs = &mut self.outs;
        self.journal.compact(&mut moved, |slot, number, new_number| {
            let out = &mut outs[slot as usize];
            let last = out.changed == number;
            out.changed = if last { new_number } else { out.changed };
            last
        });
        let moved = |mark: Position| marks.binary_search(&mark).map_or(mark, |at| moved[at]);
        self.reached = moved(self.reached);
        self.walk_fence = moved(self.walk_fence);
        for member in &mut self.members {
            member.renumber(moved);
        }
    }

    /// Drops what all members passed and calls `ended` for each slot that has nothing more to say.
    pub(super) fn trim(&mut self, mut ended: impl FnMut(u32)) {
        let end = self.journal.end();
        let passed = self.members.iter().map(|member| member.position).min().unwrap_or(end);
        while let Some((position, entry)) = self.journal.drop_before(passed) {
            let out = self.outs[entry.slot as usize];
            if out.changed == position as u32 && out.attributes.is_none() {
                self.held -= 1;
                ended(entry.slot);
            }
        }
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.outs.heap_bytes()
            + self.paths.as_ref().map_or(0, Paths::heap_bytes)
            + self.journal.heap_bytes()
            + self.members.capacity() * size_of::<Member>()
            + self.members.iter().map(Member::heap_bytes).sum::<usize>()
    }
}
