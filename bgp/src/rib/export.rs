//! From the Loc-RIB into the Adj-RIBs-Out: which routes a group gets, and in what form.

use std::borrow::Cow;

use super::attributes::AttributesId;
use super::family_table::{FamilyTable, PATHS_MAX, Shared};
use super::group::{Group, GroupIndex, Held, PathsOut, Update};
use super::peers::{PeerKind, PeerSlot};
use super::policies::{ExportVerdict, Origination, Policies, RouteSource, SawPrefix};
use super::prefixes::{Network, PrefixIndex};
use super::routes::{RouteIndex, chain};
use super::table::TableConfig;
use crate::attributes::Attributes;
use crate::decision::{Standing, select};

/// What a group's export said of a route, for the next one with the same attributes and source. Both
/// sets of attributes are referenced.
pub(super) struct Memo {
    held: AttributesId,
    source: PeerSlot,
    origination: Origination,
    sent: Option<AttributesId>,
}

impl<N: Network> FamilyTable<N> {
    /// Brings every group that `wants` it up to date with what was decided about the prefix.
    /// `old_source` taught what the groups without ADD-PATH announce until now.
    pub(super) fn export(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        prefix: PrefixIndex<N>,
        old_source: PeerSlot,
        wants: impl Fn(&Group) -> bool,
    ) {
        for number in 0..self.groups.len() {
            let Some(group) = &self.groups[number] else { continue };
            if !wants(group) {
                continue;
            }
            if group.paths.is_some() {
                self.export_paths(shared, policies, prefix, number);
            } else {
                self.export_best(shared, policies, prefix, number, old_source);
            }
        }
    }

    /// Forgets what exports said: it may be otherwise in the next batch.
    pub(super) fn forget_exports(&mut self, shared: &mut Shared) {
        for memo in self.memos.iter_mut().filter_map(Option::take) {
            shared.arena.release(memo.held);
            memo.sent.into_iter().for_each(|id| shared.arena.release(id));
        }
    }

    fn export_best(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        prefix: PrefixIndex<N>,
        number: usize,
        old_source: PeerSlot,
    ) {
        let best = self.prefixes[prefix].first.filter(|first| self.routes[*first].is_used());
        let attributes = best.and_then(|best| self.sent(shared, policies, prefix, number, best));
        let new_source = self.prefixes[prefix].source;
        let Some(group) = &mut self.groups[number] else { return };
        let update = Update { old_source, new_source, attributes };
        match group.update(prefix.place() as u32, update, &mut shared.arena) {
            Held::Begins => self.prefixes[prefix].holders += 1,
            Held::Ends => self.prefixes[prefix].holders -= 1,
            Held::Same => {}
        }
    }

    fn export_paths(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        prefix: PrefixIndex<N>,
        number: usize,
    ) {
        let Some(group) = &self.groups[number] else { return };
        let Some(paths) = &group.paths else { return };
        // Sorted, so that many paths of a prefix do not cost the square of their number.
        let mut known: Vec<(u32, u32)> =
            paths.of(prefix.place()).map(|slot| (paths.path(slot).path_id, slot)).collect();
        known.sort_unstable();
        let mut wanted: Vec<(u32, RouteIndex)> = self
            .paths_out(shared, prefix, group.facts.paths)
            .into_iter()
            .map(|route| (route.place() as u32, route))
            .collect();
        wanted.sort_unstable_by_key(|(path_id, _)| *path_id);
        for (path_id, route) in &wanted {
            let source = self.routes[*route].peer;
            let attributes = self.sent(shared, policies, prefix, number, *route);
            let slot = known.binary_search_by_key(path_id, |(id, _)| *id).map(|at| known[at].1);
            if slot.is_ok() || attributes.is_some() {
                let slot = slot.map_err(|_| *path_id);
                self.update_path(shared, prefix, number, slot, source, attributes);
            }
        }
        for (path_id, slot) in known {
            if wanted.binary_search_by_key(&path_id, |(id, _)| *id).is_err() {
                self.update_path(shared, prefix, number, Ok(slot), PeerSlot::LOCAL, None);
            }
        }
    }

    /// Updates a slot, or a new one for the path with this identifier.
    fn update_path(
        &mut self,
        shared: &mut Shared,
        prefix: PrefixIndex<N>,
        number: usize,
        slot: Result<u32, u32>,
        new_source: PeerSlot,
        attributes: Option<AttributesId>,
    ) {
        let place = prefix.place();
        let Some(group) = &mut self.groups[number] else { return };
        let Some(paths) = &mut group.paths else { return };
        let was_held = paths.holds(place);
        let slot = slot.unwrap_or_else(|path_id| paths.insert(place, path_id, new_source));
        let old_source = paths.path(slot).source;
        paths.set_source(slot, new_source);
        let update = Update { old_source, new_source, attributes };
        let held = group.update(slot, update, &mut shared.arena);
        let Some(paths) = &mut group.paths else { return };
        if held == Held::Ends {
            paths.remove(slot);
        }
        match (was_held, paths.holds(place)) {
            (false, true) => self.prefixes[prefix].holders += 1,
            (true, false) => self.prefixes[prefix].holders -= 1,
            (true, true) | (false, false) => {}
        }
    }

    /// The routes of the prefix that go out with ADD-PATH, the best first.
    fn paths_out(
        &self,
        shared: &Shared,
        prefix: PrefixIndex<N>,
        paths: PathsOut,
    ) -> Vec<RouteIndex> {
        let first = self.prefixes[prefix].first;
        let (mut routes, mut candidates): (Vec<_>, Vec<_>) = chain(&self.routes, first)
            .map(|index| (index, self.candidate(shared, index)))
            .filter(|(_, candidate)| candidate.barred.is_none())
            .unzip();
        let most = match paths {
            PathsOut::Best => 1,
            PathsOut::Several(most) => usize::from(most).min(PATHS_MAX),
            PathsOut::All => return routes,
        };
        if routes.len() <= most {
            return routes;
        }
        let mut chosen = Vec::with_capacity(most);
        let mut standings = vec![Standing::UNDECIDED; candidates.len()];
        while chosen.len() < most {
            standings.truncate(candidates.len());
            let Some(best) = select(&candidates, &shared.config.options, &mut standings) else {
                break;
            };
            candidates.swap_remove(best);
            chosen.push(routes.swap_remove(best));
        }
        chosen
    }

    /// The attributes that the group's members get for the route, with a reference; none if they do
    /// not get it.
    fn sent(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        prefix: PrefixIndex<N>,
        number: usize,
        route: RouteIndex,
    ) -> Option<AttributesId> {
        let route = &self.routes[route];
        let (held, source) = (route.imported?, route.peer);
        let origination = route.import().origination;
        if let Some(Some(memo)) = self.memos.get(number)
            && memo.held == held
            && memo.source == source
            && memo.origination == origination
        {
            return memo.sent.map(|id| shared.arena.retain(id));
        }
        let kind = self.groups[number].as_ref()?.facts.kind;
        let index = GroupIndex { family: N::FAMILY, number: number as u16 };
        let (taught_by, reflected) = {
            let taught_by = match shared.peers.peer(source) {
                Some(peer) => RouteSource::Peer(source, &peer.facts),
                None => RouteSource::Local(origination),
            };
            (taught_by, reflected(&shared.config, taught_by, kind, &shared.arena[held]))
        };
        let exported = reflected.as_ref().map(|attributes| {
            policies.export(index, taught_by, self.prefixes[prefix].prefix(), attributes)
        });
        let saw_prefix = exported.as_ref().map_or(SawPrefix::No, |exported| exported.saw_prefix);
        let attributes = match exported.map(|exported| exported.verdict) {
            None | Some(ExportVerdict::Rejected) => None,
            Some(ExportVerdict::Changed(attributes)) => Some(Some(attributes)),
            Some(ExportVerdict::Unchanged) => Some(match reflected {
                Some(Cow::Owned(attributes)) => Some(attributes),
                Some(Cow::Borrowed(_)) | None => None,
            }),
        };
        let sent = attributes.map(|attributes| match attributes {
            Some(attributes) => shared.arena.intern(attributes),
            None => shared.arena.retain(held),
        });
        if saw_prefix == SawPrefix::No {
            self.remember(shared, number, Memo { held, source, origination, sent });
        }
        sent
    }

    fn remember(&mut self, shared: &mut Shared, number: usize, memo: Memo) {
        if self.memos.len() <= number {
            self.memos.resize_with(number + 1, || None);
        }
        shared.arena.retain(memo.held);
        memo.sent.map(|id| shared.arena.retain(id));
        if let Some(old) = self.memos[number].replace(memo) {
            shared.arena.release(old.held);
            old.sent.into_iter().for_each(|id| shared.arena.release(id));
        }
    }
}

/// The attributes as peers of this kind may see them, by the rules of iBGP and reflection; none if
/// they may not get the route at all (RFC 4271 section 9.2, RFC 4456 sections 6 and 8).
fn reflected<'a>(
    config: &TableConfig,
    source: RouteSource<'_>,
    kind: PeerKind,
    held: &'a Attributes,
) -> Option<Cow<'a, Attributes>> {
    let teacher = match source {
        RouteSource::Local(_) => None,
        RouteSource::Peer(_, facts) => Some(facts).filter(|facts| facts.kind != PeerKind::External),
    };
    match (teacher, kind) {
        (None, PeerKind::Internal | PeerKind::Client) => Some(Cow::Borrowed(held)),
        // Neither attribute leaves the AS (RFC 4456 section 8: they are non-transitive).
        (_, PeerKind::External)
            if held.originator_id().is_some() || !held.cluster_list().is_empty() =>
        {
            let mut sent = held.clone();
            sent.edit_rare(|rare| {
                rare.originator_id = None;
                rare.cluster_list = Box::default();
            });
            Some(Cow::Owned(sent))
        }
        (_, PeerKind::External) => Some(Cow::Borrowed(held)),
        (Some(teacher), kind) if teacher.kind == PeerKind::Client || kind == PeerKind::Client => {
            let mut sent = held.clone();
            sent.edit_rare(|rare| {
                rare.originator_id.get_or_insert(teacher.router_id);
                let passed = rare.cluster_list.iter().copied();
                rare.cluster_list = std::iter::once(config.cluster_id).chain(passed).collect();
            });
            Some(Cow::Owned(sent))
        }
        (Some(_), PeerKind::Internal | PeerKind::Client) => None,
    }
}
