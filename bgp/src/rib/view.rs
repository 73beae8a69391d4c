//! What operators see of a table: routes with what became of them, and who was told of them.

use std::collections::BTreeSet;

use nvgate_model::Prefix;

use super::family_table::{FamilyTable, Shared};
use super::group::GroupIndex;
use super::peers::PeerSlot;
use super::policies::Origination;
use super::prefixes::{Network, PrefixIndex};
use super::routes::{RouteIndex, chain};
use crate::attributes::Attributes;
use crate::decision::Verdict;
use crate::nlri::{Nlri, PathId};
use crate::policy::RuleId;

/// A route that is held, with what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteView {
    /// The prefix, and the path identifier it was announced with.
    pub nlri: Nlri,
    /// Who announced it; [`PeerSlot::LOCAL`] for this speaker.
    pub peer: PeerSlot,
    /// Why this speaker originates it, if it does.
    pub origination: Origination,
    /// When it was announced with these attributes: seconds since the gateway started.
    pub learned_secs: u32,
    /// What was received.
    pub received: Attributes,
    /// What import made of it; none if it was not let in.
    pub imported: Option<Attributes>,
    /// The rule of import that decided. None for what this speaker originates, and for a route that
    /// came back to its reflector: no policy is asked about those.
    pub rule: Option<RuleId>,
    /// The weight that import gave it.
    pub weight: u16,
    /// Packets that take it are discarded.
    pub discard: bool,
    /// Its peer restarts, or refreshes its routes, and has not announced it again (RFC 4724).
    pub stale: bool,
    /// The best, or the step at which it lost; none while that waits to be decided.
    pub verdict: Option<Verdict>,
    /// Whether packets take it.
    pub used: bool,
}

/// Everything about one prefix.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explanation {
    /// The routes, the best first.
    pub routes: Vec<RouteView>,
    /// What update groups announce. A member that taught a route is not told of it.
    pub announced: Vec<Announcement>,
}

/// What an update group announces of a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// The group.
    pub group: GroupIndex,
    /// The path identifier, with ADD-PATH.
    pub path_id: Option<PathId>,
    /// Who taught the route.
    pub source: PeerSlot,
    /// The attributes.
    pub attributes: Attributes,
}

/// Which routes to show: those of one peer, or all; used ones only, or all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteFilter {
    /// Only those that this peer announced.
    pub peer: Option<PeerSlot>,
    /// Only those that packets take.
    pub used_only: bool,
}

impl<N: Network> FamilyTable<N> {
    pub(super) fn explain(&self, shared: &Shared, prefix: Prefix) -> Explanation {
        let Some(index) = self.prefixes.find(prefix) else { return Explanation::default() };
        let routes = chain(&self.routes, self.prefixes[index].first)
            .map(|route| self.route_view(shared, prefix, route))
            .collect();
        let groups = 0..self.groups.len() as u16;
        let announced = groups.flat_map(|number| self.announced(shared, number, index)).collect();
        Explanation { routes, announced }
    }

    /// Of the prefixes that cover this one: itself if it has a route, else the longest that packets
    /// take a route to, else the longest with any route.
    pub(super) fn longest_match(&self, prefix: Prefix) -> Option<Prefix> {
        let routes = |prefix| {
            let first = self.prefixes.find(prefix).and_then(|index| self.prefixes[index].first);
            chain(&self.routes, first)
        };
        let covering = (0..=prefix.length()).rev();
        let covering = covering.flat_map(|length| Prefix::containing(prefix.network(), length));
        let mut held = covering.filter(|prefix| routes(*prefix).next().is_some());
        let longest = held.next()?;
        let is_taken = |prefix: &Prefix| routes(*prefix).any(|route| self.routes[route].is_used());
        if longest == prefix || is_taken(&longest) {
            return Some(longest);
        }
        held.find(is_taken).or(Some(longest))
    }

    /// The routes of prefixes behind `after` that the filter lets through, in the order of prefixes,
    /// until at least `limit` are found. Time is that of looking at every prefix.
    pub(super) fn routes(
        &self,
        shared: &Shared,
        filter: RouteFilter,
        after: Option<Prefix>,
        limit: usize,
    ) -> Vec<RouteView> {
        let shows = |route: &RouteIndex| {
            let route = &self.routes[*route];
            filter.peer.is_none_or(|peer| peer == route.peer)
                && (!filter.used_only || route.is_used())
        };
        let mut first = BTreeSet::new();
        for index in self.prefixes.live() {
            let prefix = self.prefixes[index].prefix();
            let within =
                first.len() < limit || first.last().is_some_and(|(last, _)| prefix < *last);
            let mut routes = chain(&self.routes, self.prefixes[index].first);
            if after.is_none_or(|after| prefix > after) && within && routes.any(|r| shows(&r)) {
                first.insert((prefix, index.place()));
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        let mut views = Vec::new();
        for (prefix, place) in first {
            if views.len() >= limit {
                break;
            }
            let Some(index) = self.prefixes.at(place) else { continue };
            let routes = chain(&self.routes, self.prefixes[index].first).filter(|r| shows(r));
            views.extend(routes.map(|route| self.route_view(shared, prefix, route)));
        }
        views
    }

    fn route_view(&self, shared: &Shared, prefix: Prefix, index: RouteIndex) -> RouteView {
        let route = &self.routes[index];
        let peer = shared.peers.peer(route.peer);
        RouteView {
            nlri: Nlri { prefix, path_id: route.path_id() },
            peer: route.peer,
            origination: route.import().origination,
            learned_secs: route.learned_secs,
            received: shared.arena[route.received].clone(),
            imported: route.imported.map(|id| shared.arena[id].clone()),
            rule: route.import().rule,
            weight: route.weight,
            discard: route.is_discarded(),
            stale: peer.is_some_and(|peer| peer.is_stale(N::FAMILY, route.epoch)),
            verdict: route.verdict,
            used: route.is_used(),
        }
    }

    fn announced(&self, shared: &Shared, number: u16, prefix: PrefixIndex<N>) -> Vec<Announcement> {
        let Some(Some(group)) = self.groups.get(usize::from(number)) else { return Vec::new() };
        let announcement = |slot: u32, path_id, source| {
            let attributes = shared.arena[group.out(slot).attributes?].clone();
            let group = GroupIndex { family: N::FAMILY, number };
            Some(Announcement { group, path_id, source, attributes })
        };
        match &group.paths {
            None => {
                let slot = prefix.place() as u32;
                announcement(slot, None, self.prefixes[prefix].source).into_iter().collect()
            }
            Some(paths) => paths
                .of(prefix.place())
                .filter_map(|slot| {
                    let path = paths.path(slot);
                    announcement(slot, Some(PathId(path.path_id)), path.source)
                })
                .collect(),
        }
    }
}
