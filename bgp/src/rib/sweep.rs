//! Walks through a whole table, a batch of prefixes at a time, for everything that touches many
//! routes at once: peers that went, stale routes, changed policy, changed next hops, new groups.
//!
//! A lap goes over all places from the first to the last. A cause that comes while a lap is under
//! way is served until the end of the next one. All causes are served by the same lap.

use super::family_table::{FamilyTable, Shared};
use super::import::ImportMemo;
use super::policies::Policies;
use super::prefixes::{Flag, Network, PrefixIndex};
use super::routes::chain;
use crate::family::Family;
use crate::nlri::Nlri;

/// The number of a lap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Lap(pub(super) u64);

/// Places that a sweep looks at in one turn. Few in tests, where other things are to come between.
pub const SWEEP_BATCH: usize = if cfg!(test) { 3 } else { 4096 };

/// Where the lap is.
pub(super) struct Sweep {
    lap: Lap,
    /// The lap at whose end nothing is left to do; an earlier one than `lap` if nothing is now.
    last: Lap,
    family: Family,
    place: usize,
}

impl Sweep {
    pub(super) const fn new() -> Self {
        Self { lap: Lap(1), last: Lap(0), family: Family::Ipv4Unicast, place: 0 }
    }

    /// Asks for a lap over everything and returns the one at whose end that is done.
    pub(super) fn until(&mut self) -> Lap {
        let until = self.next_whole_lap();
        self.last = self.last.max(until);
        until
    }

    /// The lap that [`until`](Self::until) would return.
    pub(super) fn next_whole_lap(&self) -> Lap {
        let begun = (self.family, self.place) != (Family::Ipv4Unicast, 0);
        Lap(self.lap.0 + u64::from(begun))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.last < self.lap
    }

    pub(super) const fn family(&self) -> Family {
        self.family
    }

    /// The next places of the family under way, of which there are `places`. At the end of a lap its
    /// number is returned too.
    pub(super) fn advance(&mut self, places: usize) -> (std::ops::Range<usize>, Option<Lap>) {
        let end = places.min(self.place + SWEEP_BATCH);
        let batch = self.place.min(end)..end;
        if end < places {
            self.place = end;
            return (batch, None);
        }
        self.place = 0;
        match self.family {
            Family::Ipv4Unicast => {
                self.family = Family::Ipv6Unicast;
                (batch, None)
            }
            Family::Ipv6Unicast => {
                self.family = Family::Ipv4Unicast;
                let ended = self.lap;
                self.lap.0 += 1;
                (batch, Some(ended))
            }
        }
    }
}

/// Which kinds of causes there are, so that prefixes need not be looked at for those there are not.
#[derive(Clone, Copy)]
struct Causes {
    routes: bool,
    groups: bool,
}

impl<N: Network> FamilyTable<N> {
    /// Serves all causes at these places.
    pub(super) fn sweep(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        places: std::ops::Range<usize>,
        next_hops_changed: bool,
    ) {
        let peers = shared.peers.iter().any(|(_, peer)| peer.has_cause(N::FAMILY));
        let causes = Causes {
            routes: peers || next_hops_changed,
            groups: self.groups.iter().flatten().any(|group| group.has_cause()),
        };
        let mut memo = ImportMemo::default();
        for place in places {
            // Removing the last of a slab's values takes the places away too.
            let Some(prefix) = self.prefixes.at(place) else { continue };
            if causes.routes {
                self.sweep_routes(shared, policies, prefix, &mut memo);
            }
            if causes.groups {
                self.sweep_groups(shared, policies, prefix);
            }
        }
        memo.forget(shared);
        self.forget_exports(shared);
    }

    fn sweep_routes(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        prefix: PrefixIndex<N>,
        memo: &mut ImportMemo,
    ) {
        let (mut gone, mut decide, mut import) = (false, false, Vec::new());
        for index in chain(&self.routes, self.prefixes[prefix].first) {
            let route = &self.routes[index];
            let Some(peer) = shared.peers.peer(route.peer) else { continue };
            if peer.is_swept(N::FAMILY, route.epoch) {
                gone = true;
                continue;
            }
            if peer.reimport.is_some() {
                import.push((index, route.peer, route.received));
            }
            let next_hop = route.imported.and_then(|id| shared.arena.next_hop(id));
            if peer.redecide.is_some() {
                // What reflection adds to its routes may be otherwise.
                self.prefixes[prefix].set(Flag::NewBest);
                decide = true;
            }
            decide |= next_hop.is_some_and(|next_hop| shared.next_hops.has_changed(next_hop));
        }
        let of = self.prefixes[prefix].prefix();
        for (index, peer, received) in import {
            let import = memo.import(shared, policies, peer, of, received);
            self.set_import(shared, prefix, index, import);
        }
        if gone {
            let mut swept = Vec::new();
            self.remove_routes(shared, prefix, |shared, _, route| {
                let peer = shared.peers.peer(route.peer);
                let goes = peer.filter(|peer| peer.is_swept(N::FAMILY, route.epoch));
                if shared.swept.is_some() && goes.is_some_and(|peer| peer.gone.is_none()) {
                    swept.push((route.peer, Nlri { prefix: of, path_id: route.path_id() }));
                }
                goes.is_some()
            });
            shared.swept.iter_mut().for_each(|all| all.append(&mut swept));
        }
        if decide {
            self.mark_dirty(prefix);
        }
    }

    fn sweep_groups(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        prefix: PrefixIndex<N>,
    ) {
        if self.prefixes[prefix].has(Flag::Dirty) {
            self.prefixes[prefix].set(Flag::NewBest);
            return;
        }
        let source = self.prefixes[prefix].source;
        self.export(shared, policies, prefix, source, |group| group.has_cause());
    }
}
