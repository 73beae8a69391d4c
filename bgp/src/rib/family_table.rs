//! The routes of one family: stored, replaced and removed, with what has to be decided anew.

use nvgate_model::Prefix;

use super::attributes::Arena;
use super::export::Memo;
use super::group::Group;
use super::hash::Seed;
use super::next_hops::NextHops;
use super::peers::{PeerSlot, Peers};
use super::prefixes::{Flag, Network, PrefixIndex, Prefixes};
use super::queue::Queue;
use super::routes::{Import, Offer, Route, RouteIndex, chain};
use super::slab::Slab;
use super::table::{Refused, TableConfig};
use crate::decision::Verdict;
use crate::family::Family;
use crate::nlri::{Nlri, PathId};

/// Routes whose prefixes are looked up before the first of them is dealt with: memory is slow, and
/// fetched for several at once.
pub(super) const TOGETHER: usize = 16;

/// The most paths that a peer may announce for one prefix (RFC 7911 sets no bound).
pub const PATHS_MAX: usize = 32;

/// What both families of a table use.
pub(super) struct Shared {
    pub(super) config: TableConfig,
    pub(super) arena: Arena,
    pub(super) next_hops: NextHops,
    pub(super) peers: Peers,
    /// Prefixes of both families that have routes.
    pub(super) populated: usize,
    /// What sweeps took of peers that stay, while somebody wants to know.
    pub(super) swept: Option<Vec<(PeerSlot, Nlri)>>,
}

/// One family of a table.
pub(super) struct FamilyTable<N> {
    pub(super) prefixes: Prefixes<N>,
    pub(super) routes: Slab<Route>,
    /// Prefixes to decide, each with [`Flag::Dirty`].
    pub(super) dirty: Queue<PrefixIndex<N>>,
    /// Prefixes to tell, each with [`Flag::Changed`].
    pub(super) changes: Queue<PrefixIndex<N>>,
    /// How many of the next ones are fetched already.
    pub(super) warm_changes: usize,
    pub(super) groups: Vec<Option<Group>>,
    /// What the groups' export said last, until the batch ends.
    pub(super) memos: Vec<Option<Memo>>,
}

impl Shared {
    /// Takes the references of an imported route of a family, and counts it for its peer.
    fn hold(&mut self, peer: PeerSlot, family: Family, import: Import) {
        if import.imported.is_ok()
            && let Some(peer) = self.peers.peer_mut(peer)
        {
            peer.accepted[family.index()] += 1;
        }
        match import.imported {
            Ok(id) if peer == PeerSlot::LOCAL => drop(self.arena.retain(id)),
            Ok(id) => self.arena.retain_import(id, &mut self.next_hops),
            Err(_) => {}
        }
    }

    fn drop_import(&mut self, peer: PeerSlot, family: Family, import: Import) {
        if import.imported.is_ok()
            && let Some(peer) = self.peers.peer_mut(peer)
        {
            peer.accepted[family.index()] -= 1;
        }
        match import.imported {
            Ok(id) if peer == PeerSlot::LOCAL => self.arena.release(id),
            Ok(id) => self.arena.release_import(id, &mut self.next_hops),
            Err(_) => {}
        }
    }
}

impl<N: Network> FamilyTable<N> {
    pub(super) const fn new(seed: Seed) -> Self {
        Self {
            prefixes: Prefixes::new(seed),
            routes: Slab::new(),
            dirty: Queue::new(),
            changes: Queue::new(),
            warm_changes: 0,
            groups: Vec::new(),
            memos: Vec::new(),
        }
    }

    /// The prefixes of at most [`TOGETHER`] routes, of those that are known.
    pub(super) fn find_all(&self, routes: &[Nlri]) -> [Option<PrefixIndex<N>>; TOGETHER] {
        let mut found = [None; TOGETHER];
        for (found, nlri) in found.iter_mut().zip(routes) {
            *found = self.prefixes.find(nlri.prefix);
        }
        found
    }

    /// Stores a route in place of what the peer announced before for the same prefix and path. The
    /// table takes references of its own. With the route comes its prefix, if it is known already.
    pub(super) fn store(
        &mut self,
        shared: &mut Shared,
        peer: PeerSlot,
        (nlri, found): (Nlri, Option<PrefixIndex<N>>),
        offer: Offer,
        now_secs: u32,
    ) -> Result<(), Refused> {
        let found = found.or_else(|| self.prefixes.find(nlri.prefix));
        if let Some(prefix) = found {
            let (known, paths) = self.route_of(prefix, peer, nlri.path_id);
            if let Some(route) = known {
                self.replace(shared, prefix, route, offer, now_secs);
                return Ok(());
            }
            if paths >= PATHS_MAX {
                return Err(Refused::Paths);
            }
        }
        let epoch = count_route::<N>(shared, peer)?;
        let Some(prefix) = self.populate(shared, found, nlri.prefix) else {
            uncount_route::<N>(shared, peer);
            return Err(Refused::TablePrefixes);
        };
        shared.arena.retain(offer.received);
        shared.hold(peer, N::FAMILY, offer.import);
        let mut route = Route::new(peer, nlri.path_id, offer);
        route.epoch = epoch;
        route.learned_secs = now_secs;
        self.link(prefix, route);
        Ok(())
    }

    /// Removes the peer's route; true if there was one.
    pub(super) fn withdraw(
        &mut self,
        shared: &mut Shared,
        peer: PeerSlot,
        (nlri, found): (Nlri, Option<PrefixIndex<N>>),
    ) -> bool {
        let found = found.or_else(|| self.prefixes.find(nlri.prefix));
        let Some(prefix) = found else { return false };
        let (Some(gone), _) = self.route_of(prefix, peer, nlri.path_id) else { return false };
        self.remove_routes(shared, prefix, |_, index, _| index == gone);
        true
    }

    /// Removes those routes of the prefix that `goes` names.
    pub(super) fn remove_routes(
        &mut self,
        shared: &mut Shared,
        prefix: PrefixIndex<N>,
        mut goes: impl FnMut(&Shared, RouteIndex, &Route) -> bool,
    ) {
        let mut before: Option<RouteIndex> = None;
        let mut next = self.prefixes[prefix].first;
        if next.is_none() {
            return;
        }
        while let Some(index) = next {
            next = self.routes[index].next;
            if !goes(shared, index, &self.routes[index]) {
                before = Some(index);
                continue;
            }
            match before {
                Some(before) => self.routes[before].next = next,
                None => self.prefixes[prefix].first = next,
            }
            self.drop_route(shared, prefix, index);
        }
        if self.prefixes[prefix].first.is_none() {
            shared.populated -= 1;
            // What was announced of it is withdrawn by its last decision.
            self.mark_dirty(prefix);
        }
    }

    /// Notes what import says now. True if the prefix is to be decided anew.
    pub(super) fn set_import(
        &mut self,
        shared: &mut Shared,
        prefix: PrefixIndex<N>,
        index: RouteIndex,
        import: Import,
    ) {
        let old = self.routes[index].import();
        if old == import {
            return;
        }
        let peer = self.routes[index].peer;
        shared.hold(peer, N::FAMILY, import);
        self.note_change(shared, prefix, index, Some(import));
        shared.drop_import(peer, N::FAMILY, old);
        let route = &mut self.routes[index];
        route.set_import(import);
        match (old.imported, import.imported) {
            (Err(_), Err(barred)) => route.verdict = Some(Verdict::Barred(barred)),
            (Ok(_), _) | (_, Ok(_)) => self.mark_dirty(prefix),
        }
    }

    pub(super) fn mark_dirty(&mut self, prefix: PrefixIndex<N>) {
        if self.prefixes[prefix].set(Flag::Dirty) {
            self.dirty.push(prefix);
        }
    }

    /// The route that the peer announced with this path identifier, and how many it announced.
    pub(super) fn route_of(
        &self,
        prefix: PrefixIndex<N>,
        peer: PeerSlot,
        path_id: Option<PathId>,
    ) -> (Option<RouteIndex>, usize) {
        let (mut found, mut count) = (None, 0);
        for index in chain(&self.routes, self.prefixes[prefix].first) {
            let route = &self.routes[index];
            if route.peer == peer {
                count += 1;
                if route.path_id() == path_id {
                    found = Some(index);
                }
            }
        }
        (found, count)
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.prefixes.heap_bytes()
            + self.routes.heap_bytes()
            + self.dirty.heap_bytes()
            + self.changes.heap_bytes()
            + self.groups.capacity() * size_of::<Option<Group>>()
            + self.groups.iter().flatten().map(Group::heap_bytes).sum::<usize>()
            + self.memos.capacity() * size_of::<Option<Memo>>()
    }

    fn replace(
        &mut self,
        shared: &mut Shared,
        prefix: PrefixIndex<N>,
        index: RouteIndex,
        offer: Offer,
        now_secs: u32,
    ) {
        let route = &mut self.routes[index];
        route.epoch = epoch::<N>(shared, route.peer);
        if route.received != offer.received {
            route.learned_secs = now_secs;
            shared.arena.retain(offer.received);
            shared.arena.release(std::mem::replace(&mut route.received, offer.received));
        }
        self.set_import(shared, prefix, index, offer.import);
    }

    /// A prefix with room for its first route, if it has none. None at the table's bound.
    fn populate(
        &mut self,
        shared: &mut Shared,
        found: Option<PrefixIndex<N>>,
        prefix: Prefix,
    ) -> Option<PrefixIndex<N>> {
        if let Some(index) = found
            && self.prefixes[index].first.is_some()
        {
            return Some(index);
        }
        let limit = shared.config.limits.prefixes as usize;
        // Prefixes without routes that slow members still have to hear of count on their own.
        if shared.populated >= limit || (found.is_none() && self.prefixes.len() >= 2 * limit) {
            return None;
        }
        let index = found.or_else(|| self.prefixes.insert(prefix))?;
        shared.populated += 1;
        Some(index)
    }

    /// Puts the route behind the first one, which stays the best until it is decided otherwise.
    fn link(&mut self, prefix: PrefixIndex<N>, mut route: Route) {
        let first = self.prefixes[prefix].first;
        route.next = first.and_then(|first| self.routes[first].next);
        route.verdict = route.import().imported.err().map(Verdict::Barred);
        let eligible = route.verdict.is_none();
        let index = self.routes.insert(route);
        match first {
            Some(first) => self.routes[first].next = Some(index),
            None => self.prefixes[prefix].first = Some(index),
        }
        if eligible {
            self.mark_dirty(prefix);
        }
    }

    /// Frees a route that is out of its chain.
    fn drop_route(&mut self, shared: &mut Shared, prefix: PrefixIndex<N>, index: RouteIndex) {
        self.note_change(shared, prefix, index, None);
        let blank = self.routes[index].clone();
        let route = self.routes.remove(index, blank);
        if route.imported.is_some() {
            self.mark_dirty(prefix);
        }
        shared.drop_import(route.peer, N::FAMILY, route.import());
        shared.arena.release(route.received);
        uncount_route::<N>(shared, route.peer);
    }

    /// Notes at the prefix that import says this of a route in use, or that it goes.
    fn note_change(
        &mut self,
        shared: &Shared,
        prefix: PrefixIndex<N>,
        index: RouteIndex,
        new: Option<Import>,
    ) {
        let route = &self.routes[index];
        let entry = &mut self.prefixes[prefix];
        if route.verdict == Some(Verdict::Best) {
            entry.set(Flag::NewBest);
        }
        let way = |import: Import| {
            let attributes = &shared.arena[import.imported.ok()?];
            let link_local = attributes.rare().and_then(|rare| rare.link_local_next_hop);
            Some((attributes.next_hop, link_local, import.discard))
        };
        if route.is_used() && way(route.import()) != new.and_then(way) {
            entry.set(Flag::NewNextHops);
        }
    }
}

/// The epoch of the peer's routes; this speaker's own are never stale.
fn epoch<N: Network>(shared: &Shared, peer: PeerSlot) -> u16 {
    shared.peers.peer(peer).map_or(0, |peer| peer.epochs[N::FAMILY.index()])
}

/// Counts one more route of the peer and returns its epoch.
fn count_route<N: Network>(shared: &mut Shared, peer: PeerSlot) -> Result<u16, Refused> {
    let family = N::FAMILY.index();
    let Some(peer) = shared.peers.peer_mut(peer) else { return Ok(0) };
    if peer.routes[family] >= peer.facts.route_limits[family] {
        return Err(Refused::PeerPrefixes);
    }
    peer.routes[family] += 1;
    Ok(peer.epochs[family])
}

fn uncount_route<N: Network>(shared: &mut Shared, peer: PeerSlot) {
    if let Some(peer) = shared.peers.peer_mut(peer) {
        peer.routes[N::FAMILY.index()] -= 1;
    }
}

/// Gives routes in batches of one family, of at most [`TOGETHER`], in their order.
pub(super) fn in_batches(routes: impl IntoIterator<Item = Nlri>, mut each: impl FnMut(&[Nlri])) {
    let mut batch = [Nlri::from(Prefix::DEFAULT_V4); TOGETHER];
    let mut count = 0;
    for nlri in routes {
        if count == TOGETHER || count > 0 && batch[0].family() != nlri.family() {
            each(&batch[..count]);
            count = 0;
        }
        batch[count] = nlri;
        count += 1;
    }
    if count > 0 {
        each(&batch[..count]);
    }
}
