//! One routing table of a place, as its speaker uses it.

use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::{Instant, Prefix};

use super::attributes::Arena;
use super::change::RouteChange;
use super::drain::{Drained, UpdateSink};
use super::family_table::{FamilyTable, Shared, in_batches};
use super::group::{Group, GroupFacts, GroupIndex, PathsOut, TooManyGroups};
use super::hash::Seed;
use super::import::ImportMemo;
use super::member::{Member, Walk};
use super::next_hops::{NextHopChange, NextHops, Resolution};
use super::peers::{PeerFacts, PeerKind, PeerSlot, Peers, TooManyPeers};
use super::policies::{Origination, Policies};
use super::routes::{Import, Offer};
use super::sweep::Sweep;
use super::view::{Explanation, RouteFilter, RouteView};
use crate::attributes::Attributes;
use crate::decision::Options;
use crate::family::Family;
use crate::nlri::Nlri;

/// What a place may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableLimits {
    /// The most prefixes of both families that have routes.
    pub prefixes: u32,
    /// The bytes of attributes beyond which no new ones are received.
    pub attribute_bytes: usize,
}

/// What a table must know of its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableConfig {
    /// What the place may take.
    pub limits: TableLimits,
    /// Our BGP identifier there.
    pub router_id: Ipv4Addr,
    /// The cluster that we reflect for (RFC 4456 section 7); mostly the router's identifier.
    pub cluster_id: Ipv4Addr,
    /// What the operator chose about the decision.
    pub options: Options,
}

/// Why a route was not taken. What the peer announced before for the same prefix is gone then, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Refused {
    /// The peer has as many routes as it may: Cease / Maximum Number of Prefixes Reached.
    #[error("the peer has as many routes as it may")]
    PeerPrefixes,
    /// The peer announces as many paths for the prefix as it may.
    #[error("the peer announces as many paths for the prefix as it may")]
    Paths,
    /// The place has as many prefixes as it may.
    #[error("the place has as many prefixes as it may")]
    TablePrefixes,
    /// The place's attributes take as many bytes as they may.
    #[error("the place's attributes take as many bytes as they may")]
    TableBytes,
}

/// What became of an UPDATE's announcements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Announced {
    /// Routes stored, whether import let them in or not.
    pub stored: usize,
    /// Routes that were not.
    pub refused: usize,
    /// Why the first of them was not.
    pub cause: Option<Refused>,
}

/// The routes of one place: received, chosen and announced.
pub struct Table {
    pub(super) shared: Shared,
    pub(super) ipv4: FamilyTable<u32>,
    pub(super) ipv6: FamilyTable<[u32; 4]>,
    sweep: Sweep,
    next_hops_changed: bool,
}

/// The same for the table of a family, whichever it is.
macro_rules! for_family {
    ($self:ident, $family:expr, |$table:ident| $body:expr) => {
        match $family {
            Family::Ipv4Unicast => {
                let $table = &mut $self.ipv4;
                $body
            }
            Family::Ipv6Unicast => {
                let $table = &mut $self.ipv6;
                $body
            }
        }
    };
}

/// As [`for_family`], without changes.
macro_rules! view_family {
    ($self:ident, $family:expr, |$table:ident| $body:expr) => {
        match $family {
            Family::Ipv4Unicast => {
                let $table = &$self.ipv4;
                $body
            }
            Family::Ipv6Unicast => {
                let $table = &$self.ipv6;
                $body
            }
        }
    };
}

impl Table {
    /// An empty table. `seed` is the secret of its hashes.
    #[must_use]
    pub fn new(config: TableConfig, seed: u64) -> Self {
        let seed = Seed::new(seed);
        let shared = Shared {
            config,
            arena: Arena::new(seed),
            next_hops: NextHops::new(seed),
            peers: Peers::default(),
            populated: 0,
            swept: None,
        };
        Self {
            shared,
            ipv4: FamilyTable::new(seed),
            ipv6: FamilyTable::new(seed),
            sweep: Sweep::new(),
            next_hops_changed: false,
        }
    }

    /// Adds a peer whose session is established.
    ///
    /// # Errors
    ///
    /// The table has [`PEERS_MAX`](super::PEERS_MAX) peers.
    pub fn add_peer(&mut self, facts: PeerFacts) -> Result<PeerSlot, TooManyPeers> {
        self.shared.peers.insert(facts)
    }

    /// What is known of a peer.
    #[must_use]
    pub fn peer(&self, peer: PeerSlot) -> Option<&PeerFacts> {
        self.shared.peers.peer(peer).map(|peer| &peer.facts)
    }

    /// Lets the place have another configuration from now on. Routes beyond new limits stay; what
    /// else changes is judged and decided anew by the next sweep.
    pub fn reconfigure(&mut self, config: TableConfig) {
        let old = std::mem::replace(&mut self.shared.config, config);
        if (TableConfig { limits: config.limits, ..old }) != config {
            let until = self.sweep.until();
            self.shared.peers.judge_anew(until);
        }
    }

    /// What the place may take.
    #[must_use]
    pub const fn limits(&self) -> TableLimits {
        self.shared.config.limits
    }

    /// How many of the peer's routes of the family import let in.
    #[must_use]
    pub fn accepted_count(&self, peer: PeerSlot, family: Family) -> u32 {
        self.shared.peers.peer(peer).map_or(0, |peer| peer.accepted[family.index()])
    }

    /// How many routes the group's members are told, those that one taught itself included.
    #[must_use]
    pub fn announced_count(&self, group: GroupIndex) -> usize {
        view_family!(self, group.family, |table| {
            table.group(group).map_or(0, |group| group.announced)
        })
    }

    /// How many changes a group's members were to be told of so far: when this grows, there is
    /// something to drain.
    #[must_use]
    pub fn change_count(&self, group: GroupIndex) -> u64 {
        view_family!(self, group.family, |table| {
            table.group(group).map_or(0, |group| group.changes)
        })
    }

    /// Whether [`poll_next_hop`](Self::poll_next_hop) may have something to say.
    #[must_use]
    pub fn has_next_hop_changes(&self) -> bool {
        self.shared.next_hops.has_news()
    }

    /// Whether [`poll_change`](Self::poll_change) has something to say.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !(self.ipv4.changes.is_empty() && self.ipv6.changes.is_empty())
    }

    /// How many routes of the family the peer has.
    #[must_use]
    pub fn route_count(&self, peer: PeerSlot, family: Family) -> u32 {
        self.shared.peers.peer(peer).map_or(0, |peer| peer.routes[family.index()])
    }

    /// Replaces what is known of a peer, whose routes are decided anew by the next sweep.
    pub fn change_peer(&mut self, peer: PeerSlot, facts: PeerFacts) {
        let Some(peer) = self.shared.peers.peer_mut(peer) else { return };
        if peer.facts != facts {
            peer.facts = facts;
            peer.redecide = Some(self.sweep.until());
        }
    }

    /// The peer's session ended and its routes do not stay: it leaves its groups, its routes are not
    /// eligible from now on, and the next sweep removes them and frees the slot.
    pub fn remove_peer(&mut self, peer: PeerSlot) {
        for family in Family::ALL {
            for_family!(self, family, |table| table.leave_all(peer));
        }
        if let Some(peer) = self.shared.peers.peer_mut(peer)
            && peer.gone.is_none()
        {
            peer.gone = Some(self.sweep.until());
        }
    }

    /// Stores what one UPDATE of the peer announces, whose attributes are `attributes` for all of
    /// it, in place of what the peer announced before for the same prefixes and paths. A route that
    /// is refused takes its predecessor with it.
    pub fn announce(
        &mut self,
        peer: PeerSlot,
        attributes: &Attributes,
        routes: impl IntoIterator<Item = Nlri>,
        now: Instant,
        policies: &impl Policies,
    ) -> Announced {
        let mut announced = Announced::default();
        if self.shared.peers.peer(peer).is_none_or(|peer| peer.gone.is_some()) {
            return announced;
        }
        let limit = self.shared.config.limits.attribute_bytes;
        let received = self.shared.arena.intern_within(attributes, limit);
        let mut memo = ImportMemo::default();
        let now_secs = seconds(now);
        let shared = &mut self.shared;
        in_batches(routes, |batch| {
            for_family!(self, batch[0].family(), |table| {
                for nlri in batch.iter().copied().zip(table.find_all(batch)) {
                    let stored = received.ok_or(Refused::TableBytes).and_then(|received| {
                        let import = memo.import(shared, policies, peer, nlri.0.prefix, received);
                        table.store(shared, peer, nlri, Offer { received, import }, now_secs)
                    });
                    match stored {
                        Ok(()) => announced.stored += 1,
                        Err(refused) => {
                            table.withdraw(shared, peer, nlri);
                            announced.refused += 1;
                            announced.cause.get_or_insert(refused);
                        }
                    }
                }
            });
        });
        memo.forget(&mut self.shared);
        received.into_iter().for_each(|id| self.shared.arena.release(id));
        announced
    }

    /// Removes a route of the peer; true if there was one (RFC 4271 section 3.1, RFC 7911 section 5:
    /// what is not known is ignored).
    pub fn withdraw(&mut self, peer: PeerSlot, nlri: Nlri) -> bool {
        for_family!(self, nlri.family(), |table| {
            table.withdraw(&mut self.shared, peer, (nlri, None))
        })
    }

    /// Removes these routes of the peer, as [`withdraw`](Self::withdraw) does, and says how many were
    /// named.
    pub fn withdraw_all(
        &mut self,
        peer: PeerSlot,
        routes: impl IntoIterator<Item = Nlri>,
    ) -> usize {
        let mut named = 0;
        in_batches(routes, |batch| {
            named += batch.len();
            for_family!(self, batch[0].family(), |table| {
                for nlri in batch.iter().copied().zip(table.find_all(batch)) {
                    table.withdraw(&mut self.shared, peer, nlri);
                }
            });
        });
        named
    }

    /// Originates a route, or replaces it. Export is told `origination`.
    ///
    /// # Errors
    ///
    /// The place has as many prefixes, or as many bytes of attributes, as it may.
    pub fn originate(
        &mut self,
        prefix: Prefix,
        attributes: &Attributes,
        origination: Origination,
        now: Instant,
    ) -> Result<(), Refused> {
        let limit = self.shared.config.limits.attribute_bytes;
        let received =
            self.shared.arena.intern_within(attributes, limit).ok_or(Refused::TableBytes)?;
        let import =
            Import { imported: Ok(received), rule: None, weight: 0, discard: false, origination };
        let offer = Offer { received, import };
        let nlri = Nlri::from(prefix);
        let stored = for_family!(self, nlri.family(), |table| {
            table.store(&mut self.shared, PeerSlot::LOCAL, (nlri, None), offer, seconds(now))
        });
        self.shared.arena.release(received);
        stored
    }

    /// Ends the origination of a route; true if there was one.
    pub fn retract(&mut self, prefix: Prefix) -> bool {
        self.withdraw(PeerSlot::LOCAL, prefix.into())
    }

    /// Marks the peer's routes of a family as stale: they stay as they are until they are announced
    /// again or removed (RFC 4724 section 4.2; RFC 7313 section 4, at BoRR). Costs nothing a route.
    pub fn mark_stale(&mut self, peer: PeerSlot, family: Family) {
        if let Some(peer) = self.shared.peers.peer_mut(peer) {
            let epoch = &mut peer.epochs[family.index()];
            *epoch = epoch.wrapping_add(1);
        }
    }

    /// Removes, by the next sweep, what of the peer's routes of a family is stale now.
    pub fn remove_stale(&mut self, peer: PeerSlot, family: Family) {
        if let Some(peer) = self.shared.peers.peer_mut(peer) {
            let epoch = peer.epochs[family.index()];
            peer.unstale[family.index()] = Some((epoch, self.sweep.until()));
        }
    }

    /// Asks import anew about the peer's routes, by the next sweep: its policy changed.
    pub fn reimport(&mut self, peer: PeerSlot) {
        if let Some(peer) = self.shared.peers.peer_mut(peer) {
            peer.reimport = Some(self.sweep.until());
        }
    }

    /// Notes what the gateway knows of a next hop; what that changes is decided after the next sweep.
    pub fn handle_next_hop(&mut self, address: IpAddr, resolution: Resolution) {
        let until = self.sweep.next_whole_lap();
        if self.shared.next_hops.resolve(address, resolution, until) {
            self.sweep.until();
            self.next_hops_changed = true;
        }
    }

    /// The next address to follow, or to follow no more.
    pub fn poll_next_hop(&mut self) -> Option<NextHopChange> {
        self.shared.next_hops.poll()
    }

    /// Decides at most so many changed prefixes. True: there are more.
    pub fn decide(&mut self, prefixes: usize, policies: &impl Policies) -> bool {
        let mut budget = prefixes;
        self.ipv4.decide(&mut self.shared, policies, &mut budget);
        self.ipv6.decide(&mut self.shared, policies, &mut budget);
        !(self.ipv4.dirty.is_empty() && self.ipv6.dirty.is_empty())
    }

    /// Looks at the next [`SWEEP_BATCH`](super::SWEEP_BATCH) places, if anything asks for it. True:
    /// there is more. What it finds waits for [`decide`](Self::decide).
    pub fn sweep(&mut self, policies: &impl Policies) -> bool {
        if self.sweep.is_idle() {
            return false;
        }
        let next_hops = self.next_hops_changed;
        let ended = for_family!(self, self.sweep.family(), |table| {
            let (places, ended) = self.sweep.advance(table.prefixes.places());
            table.sweep(&mut self.shared, policies, places, next_hops);
            ended
        });
        if let Some(lap) = ended {
            self.shared.peers.settle(lap);
            self.next_hops_changed = self.shared.next_hops.settle(lap);
            for family in Family::ALL {
                for_family!(self, family, |table| table.settle(lap));
            }
        }
        !self.sweep.is_idle()
    }

    /// The next prefix whose used routes changed, each once however often it changed.
    pub fn poll_change(&mut self) -> Option<RouteChange> {
        let ipv4 = self.ipv4.poll_change(&self.shared);
        ipv4.or_else(|| self.ipv6.poll_change(&self.shared))
    }

    /// Opens an update group. The next sweep fills it; members walk after that.
    ///
    /// # Errors
    ///
    /// The family has [`GROUPS_MAX`](super::GROUPS_MAX) groups.
    pub fn open_group(&mut self, facts: GroupFacts) -> Result<GroupIndex, TooManyGroups> {
        let group = Group::new(facts, self.sweep.until());
        for_family!(self, facts.family, |table| table.add_group(group))
    }

    /// Gives some of a group's members a group of their own that has announced the same, with their
    /// places in the journal. Follow it with [`reexport`](Self::reexport): what the new group
    /// announces otherwise is told as a change. Time is that of all prefixes.
    ///
    /// # Errors
    ///
    /// The family has [`GROUPS_MAX`](super::GROUPS_MAX) groups, or there is no such group.
    pub fn split_group(
        &mut self,
        group: GroupIndex,
        peers: &[PeerSlot],
    ) -> Result<GroupIndex, TooManyGroups> {
        for_family!(self, group.family, |table| {
            table.split_group(group.number, peers, &mut self.shared.arena)
        })
    }

    /// Asks export anew about everything a group may announce, by the next sweep: its policy
    /// changed.
    pub fn reexport(&mut self, group: GroupIndex) {
        for_family!(self, group.family, |table| {
            if let Some(group) = table.group_mut(group) {
                group.reexport = Some(self.sweep.until());
            }
        });
    }

    /// What a group's members are to us, and which paths they get, from now on; that there are
    /// several cannot change. Everything it announces is exported anew by the next sweep.
    pub fn change_group(&mut self, group: GroupIndex, kind: PeerKind, paths: PathsOut) {
        for_family!(self, group.family, |table| {
            if let Some(group) = table.group_mut(group) {
                group.facts.kind = kind;
                if (group.facts.paths == PathsOut::Best) == (paths == PathsOut::Best) {
                    group.facts.paths = paths;
                }
            }
        });
        self.reexport(group);
    }

    /// Closes a group; its members are told nothing more. Time is that of all prefixes.
    pub fn close_group(&mut self, group: GroupIndex) {
        for_family!(self, group.family, |table| {
            table.close_group(group.number, &mut self.shared.arena);
        });
    }

    /// Adds a peer to a group: it is told everything, then End-of-RIB, then what changes.
    pub fn join(&mut self, group: GroupIndex, peer: PeerSlot) {
        if self.shared.peers.peer(peer).is_none_or(|peer| peer.gone.is_some()) {
            return;
        }
        for_family!(self, group.family, |table| {
            let Some(group) = table.group_mut(group) else { return };
            if let Err(place) = group.member_place(peer) {
                group.members.insert(place, Member::new(peer, group.journal.end()));
            }
        });
    }

    /// Takes a peer out of a group.
    pub fn leave(&mut self, group: GroupIndex, peer: PeerSlot) {
        for_family!(self, group.family, |table| table.leave(group.number, peer));
    }

    /// The members of a group, ascending.
    #[must_use]
    pub fn members(&self, group: GroupIndex) -> Vec<PeerSlot> {
        view_family!(self, group.family, |table| {
            let groups = table.groups.get(usize::from(group.number)).and_then(Option::as_ref);
            groups.into_iter().flat_map(|group| &group.members).map(|member| member.peer).collect()
        })
    }

    /// Tells a member everything again (RFC 2918), from now on: its walk begins anew.
    pub fn refresh(&mut self, group: GroupIndex, peer: PeerSlot) {
        for_family!(self, group.family, |table| {
            let Some(group) = table.group_mut(group) else { return };
            if let Ok(place) = group.member_place(peer) {
                let walk = group.members[place].walk.map_or(Walk::Refresh, |(_, walk)| walk);
                group.members[place].walk = Some((0, walk));
            }
        });
    }

    /// Tells a member of a group what it is to be told next, at most
    /// [`SLICE_MAX`](super::SLICE_MAX) routes.
    pub fn drain(
        &mut self,
        group: GroupIndex,
        peer: PeerSlot,
        sink: &mut impl UpdateSink,
    ) -> Drained {
        self.drain_shared(group, peer, &mut Vec::new(), sink)
    }

    /// As [`drain`](Self::drain), for several members at once. `companions` are other members with
    /// as much room as the sink has; those that are left in it were told the same and get a copy of
    /// the bytes, the others are to be drained on their own.
    pub fn drain_shared(
        &mut self,
        group: GroupIndex,
        peer: PeerSlot,
        companions: &mut Vec<PeerSlot>,
        sink: &mut impl UpdateSink,
    ) -> Drained {
        for_family!(self, group.family, |table| {
            table.drain(&self.shared, group.number, peer, companions, sink)
        })
    }

    /// Everything about one prefix.
    #[must_use]
    pub fn explain(&self, prefix: Prefix) -> Explanation {
        view_family!(self, Family::of(prefix), |table| table.explain(&self.shared, prefix))
    }

    /// Of the prefixes that cover this one: itself if it has a route, else the longest that packets
    /// take a route to, else the longest with any route.
    #[must_use]
    pub fn longest_match(&self, prefix: Prefix) -> Option<Prefix> {
        view_family!(self, Family::of(prefix), |table| table.longest_match(prefix))
    }

    /// The routes of prefixes behind `after` that the filter lets through, in the order of prefixes:
    /// whole prefixes, until there are at least `limit` routes. Time is that of looking at every
    /// prefix of the family.
    #[must_use]
    pub fn routes(
        &self,
        family: Family,
        filter: RouteFilter,
        after: Option<Prefix>,
        limit: usize,
    ) -> Vec<RouteView> {
        view_family!(self, family, |table| table.routes(&self.shared, filter, after, limit))
    }

    /// How many prefixes have routes, of both families.
    #[must_use]
    pub const fn prefix_count(&self) -> usize {
        self.shared.populated
    }

    /// The bytes that attributes take, which [`TableLimits::attribute_bytes`] bounds for received
    /// ones.
    #[must_use]
    pub const fn attribute_bytes(&self) -> usize {
        self.shared.arena.bytes()
    }

    /// How many distinct sets of attributes there are.
    #[must_use]
    pub fn attribute_sets(&self) -> usize {
        self.shared.arena.len()
    }

    /// The bytes that the table has allocated.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.shared.arena.heap_bytes()
            + self.shared.next_hops.heap_bytes()
            + self.shared.peers.heap_bytes()
            + self.ipv4.heap_bytes()
            + self.ipv6.heap_bytes()
    }
}

/// Seconds since the gateway started, for 136 years.
fn seconds(now: Instant) -> u32 {
    u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX)
}
