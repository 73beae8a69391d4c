//! Prefixes that changed, decided: the chain's order, the routes' verdicts, what is told of it.

use std::net::{IpAddr, Ipv4Addr};

use super::family_table::{FamilyTable, Shared};
use super::next_hops::Resolution;
use super::peers::PeerSlot;
use super::policies::Policies;
use super::prefixes::{Flag, Network, PrefixIndex};
use super::routes::{RouteIndex, chain};
use crate::decision::{Barred, Candidate, Source, Standing, Verdict, select};

const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl<N: Network> FamilyTable<N> {
    /// Decides dirty prefixes until none is left or the budget of prefixes is spent.
    pub(super) fn decide(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        budget: &mut usize,
    ) {
        while *budget > 0 {
            let Some(prefix) = self.dirty.pop() else { break };
            *budget -= 1;
            self.prefixes[prefix].clear(Flag::Dirty);
            self.decide_prefix(shared, policies, prefix);
            self.prefixes.remove_idle(prefix);
        }
        self.forget_exports(shared);
    }

    fn decide_prefix(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        prefix: PrefixIndex<N>,
    ) {
        let first = self.prefixes[prefix].first;
        let old_best = first.filter(|first| self.routes[*first].verdict == Some(Verdict::Best));
        let (best, used_changed) = self.select_best(shared, first);
        if let Some(best) = best {
            self.move_to_front(prefix, best);
        }
        let entry = &mut self.prefixes[prefix];
        let new_next_hops = entry.clear(Flag::NewNextHops) || used_changed;
        if new_next_hops && entry.set(Flag::Changed) {
            self.changes.push(prefix);
        }
        let new_best = entry.clear(Flag::NewBest) || best != old_best;
        let old_source = entry.source;
        entry.source = best.map_or(PeerSlot::LOCAL, |best| self.routes[best].peer);
        self.export(shared, policies, prefix, old_source, |group| {
            new_best || group.paths.is_some()
        });
    }

    /// Writes the verdicts. Returns the best route, and whether other routes are used than before.
    fn select_best(
        &mut self,
        shared: &Shared,
        first: Option<RouteIndex>,
    ) -> (Option<RouteIndex>, bool) {
        let Some(first) = first else { return (None, false) };
        let options = &shared.config.options;
        if self.routes[first].next.is_none() {
            let mut standing = [Standing::UNDECIDED];
            select(&[self.candidate(shared, first)], options, &mut standing);
            let best = standing[0].used.then_some(first);
            return (best, self.note_standing(first, standing[0]));
        }
        let (routes, candidates): (Vec<RouteIndex>, Vec<Candidate<'_>>) =
            chain(&self.routes, Some(first))
                .map(|index| (index, self.candidate(shared, index)))
                .unzip();
        let mut standings = vec![Standing::UNDECIDED; routes.len()];
        let best = select(&candidates, options, &mut standings);
        let mut used_changed = false;
        for (index, standing) in routes.iter().zip(standings) {
            used_changed |= self.note_standing(*index, standing);
        }
        (best.map(|place| routes[place]), used_changed)
    }

    /// The route as the decision sees it.
    pub(super) fn candidate<'a>(&self, shared: &'a Shared, index: RouteIndex) -> Candidate<'a> {
        let route = &self.routes[index];
        let peer = shared.peers.peer(route.peer);
        let resolution = match route.imported {
            Some(_) if peer.is_none() => Resolution::Reachable { metric: 0, connected: true },
            Some(id) => shared
                .arena
                .next_hop(id)
                .map_or(Resolution::Unknown, |next_hop| shared.next_hops.resolution(next_hop)),
            None => Resolution::Unknown,
        };
        let (reachable, metric) = match resolution {
            Resolution::Reachable { metric, connected: _ } => (true, metric),
            Resolution::Unknown | Resolution::Unreachable => (false, 0),
        };
        let barred = match route.import().imported {
            Err(barred) => Some(barred),
            Ok(_) if !reachable => Some(Barred::Unresolved),
            Ok(_) => peer.and_then(|peer| peer.gone).map(|_| Barred::PeerGone),
        };
        Candidate {
            attributes: &shared.arena[route.imported.unwrap_or(route.received)],
            barred,
            weight: route.weight,
            source: peer.map_or(Source::Local, |peer| peer.facts.source()),
            metric,
            router_id: peer.map_or(Ipv4Addr::UNSPECIFIED, |peer| peer.facts.router_id),
            peer: peer.map_or(NOBODY, |peer| peer.facts.address),
            local: peer.map_or(NOBODY, |peer| peer.facts.local),
            path_id: route.path_id(),
        }
    }

    /// Writes what became of the route; true if packets take it now and did not, or the other way.
    fn note_standing(&mut self, index: RouteIndex, standing: Standing) -> bool {
        let route = &mut self.routes[index];
        route.verdict = Some(standing.verdict);
        let changed = route.is_used() != standing.used;
        route.set_used(standing.used);
        changed
    }

    fn move_to_front(&mut self, prefix: PrefixIndex<N>, best: RouteIndex) {
        let first = self.prefixes[prefix].first;
        if first == Some(best) {
            return;
        }
        let before =
            chain(&self.routes, first).find(|index| self.routes[*index].next == Some(best));
        if let Some(before) = before {
            self.routes[before].next = self.routes[best].next;
        }
        self.routes[best].next = first;
        self.prefixes[prefix].first = Some(best);
    }
}
