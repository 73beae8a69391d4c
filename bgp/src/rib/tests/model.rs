//! A table computed from scratch: what is held in, everything else out, as plainly as can be said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::Prefix;

use super::lab::{CLUSTER_ID, NumberedPolicies, ROUTER_ID, config};
use crate::attributes::Attributes;
use crate::community::Community;
use crate::decision::{Barred, Verdict};
use crate::nlri::PathId;
use crate::policy::RuleId;
use crate::rib::{
    ExportVerdict, GroupFacts, GroupIndex, ImportVerdict, Origination, PathsOut, PeerFacts,
    PeerKind, PeerSlot, Policies, Reach, Resolution, RouteSource, Via,
};

/// What is held.
#[derive(Default)]
pub(super) struct Model {
    pub(super) peers: BTreeMap<PeerSlot, PeerFacts>,
    pub(super) routes: BTreeMap<(Prefix, PeerSlot, Option<PathId>), Held>,
    pub(super) resolutions: BTreeMap<IpAddr, Resolution>,
    pub(super) policies: NumberedPolicies,
    pub(super) groups: BTreeMap<GroupIndex, GroupFacts>,
}

pub(super) struct Held {
    pub(super) received: Attributes,
    pub(super) stale: bool,
}

/// A route with what follows for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chosen {
    pub(super) peer: PeerSlot,
    pub(super) path_id: Option<PathId>,
    pub(super) imported: Option<Attributes>,
    pub(super) rule: Option<RuleId>,
    pub(super) weight: u16,
    pub(super) stale: bool,
    pub(super) verdict: Verdict,
    pub(super) used: bool,
}

impl Model {
    pub(super) fn prefixes(&self) -> BTreeSet<Prefix> {
        self.routes.keys().map(|(prefix, _, _)| *prefix).collect()
    }

    /// The next hops that imported routes of peers use.
    pub(super) fn next_hops(&self) -> BTreeSet<IpAddr> {
        let prefixes = self.prefixes().into_iter();
        let routes = prefixes.flat_map(|prefix| self.chosen(prefix));
        let learned = routes.filter(|route| route.peer != PeerSlot::LOCAL);
        learned.filter_map(|route| Some(route.imported?.next_hop)).collect()
    }

    /// The prefix's routes by peer and path.
    pub(super) fn chosen(&self, prefix: Prefix) -> Vec<Chosen> {
        let mut routes: Vec<Chosen> = self
            .routes
            .iter()
            .filter(|((of, _, _), _)| *of == prefix)
            .map(|((_, peer, path_id), held)| self.imported(prefix, *peer, *path_id, held))
            .collect();
        self.choose(&mut routes);
        routes
    }

    /// Where packets to the prefix go.
    pub(super) fn reach(&self, prefix: Prefix) -> Reach {
        let used: Vec<Chosen> =
            self.chosen(prefix).into_iter().filter(|route| route.used).collect();
        if used.is_empty() {
            return Reach::Gone;
        }
        if used[0].peer == PeerSlot::LOCAL {
            return Reach::Local;
        }
        let via = |route: &Chosen| Via {
            peer: route.peer,
            next_hop: route.imported.as_ref().unwrap().next_hop,
            link_local: None,
        };
        let mut hops: Vec<Via> = used.iter().map(via).collect();
        hops.sort_unstable();
        Reach::Via(hops)
    }

    /// What the group announces of the prefix, and who taught it.
    pub(super) fn announced(
        &self,
        group: GroupIndex,
        prefix: Prefix,
    ) -> Vec<(PeerSlot, Attributes)> {
        let mut left = self.chosen(prefix);
        let facts = self.groups[&group];
        let most = match facts.paths {
            PathsOut::Best => 1,
            PathsOut::Several(most) => usize::from(most),
            PathsOut::All => usize::MAX,
        };
        let mut announced = Vec::new();
        for _ in 0..most {
            let Some(best) = left.iter().position(|route| route.verdict == Verdict::Best) else {
                break;
            };
            let best = left.remove(best);
            announced.extend(self.exported(group, facts.kind, prefix, &best));
            self.choose(&mut left);
        }
        announced
    }

    fn imported(
        &self,
        prefix: Prefix,
        peer: PeerSlot,
        path_id: Option<PathId>,
        held: &Held,
    ) -> Chosen {
        let received = &held.received;
        let internal = self.peers.get(&peer).is_some_and(|peer| peer.kind != PeerKind::External);
        let reflected = received.originator_id() == Some(ROUTER_ID)
            || received.cluster_list().contains(&CLUSTER_ID);
        let (imported, rule, weight) = if peer == PeerSlot::LOCAL {
            (Ok(received.clone()), None, 0)
        } else if internal && reflected {
            (Err(Barred::Loop), None, 0)
        } else {
            let answer = self.policies.import(peer, prefix, received);
            let imported = match answer.verdict {
                ImportVerdict::Unchanged => Ok(received.clone()),
                ImportVerdict::Changed(attributes) => Ok(attributes),
                ImportVerdict::Rejected => Err(Barred::Rejected),
                ImportVerdict::Loop => Err(Barred::Loop),
                ImportVerdict::Leak => Err(Barred::Leak),
            };
            (imported, Some(answer.rule), answer.weight)
        };
        let verdict = imported.as_ref().err().map_or(Verdict::Best, |b| Verdict::Barred(*b));
        let stale = held.stale;
        Chosen { peer, path_id, imported: imported.ok(), rule, weight, stale, verdict, used: false }
    }

    fn metric(&self, route: &Chosen) -> Option<u32> {
        if route.peer == PeerSlot::LOCAL {
            return Some(0);
        }
        match self.resolutions.get(&route.imported.as_ref()?.next_hop)? {
            Resolution::Reachable { metric, .. } => Some(*metric),
            Resolution::Unknown | Resolution::Unreachable => None,
        }
    }

    /// RFC 4271 section 9.1.2.2 as it reads: remove from consideration, step by step.
    fn choose(&self, routes: &mut [Chosen]) {
        for route in routes.iter_mut() {
            route.used = false;
            let barred = route.imported.is_none();
            if !barred {
                let reachable = self.metric(route).is_some();
                let unresolved = Verdict::Barred(Barred::Unresolved);
                route.verdict = if reachable { Verdict::Best } else { unresolved };
            }
        }
        let attributes = |route: &Chosen| route.imported.clone().unwrap();
        let internal = |route: &Chosen| {
            self.peers.get(&route.peer).is_some_and(|peer| peer.kind != PeerKind::External)
        };
        lowest(routes, Verdict::LlgrStale, |r| {
            attributes(r).communities.contains(Community::LLGR_STALE)
        });
        lowest(routes, Verdict::Weight, |r| u16::MAX - r.weight);
        lowest(routes, Verdict::LocalPreference, |r| {
            u32::MAX - attributes(r).local_preference.unwrap_or(100)
        });
        lowest(routes, Verdict::LocallyOriginated, |r| r.peer != PeerSlot::LOCAL);
        lowest(routes, Verdict::PathLength, |r| attributes(r).as_path.hop_count());
        lowest(routes, Verdict::Origin, |r| attributes(r).origin);
        let before: Vec<Chosen> = routes.to_vec();
        for route in routes.iter_mut().filter(|route| route.verdict == Verdict::Best) {
            let of =
                |r: &Chosen| (attributes(r).as_path.neighbor(), attributes(r).med.unwrap_or(0));
            let (neighbor, med) = of(route);
            let better =
                |r: &&Chosen| r.verdict == Verdict::Best && of(r).0 == neighbor && of(r).1 < med;
            if before.iter().any(|r| better(&r)) {
                route.verdict = Verdict::Med;
            }
        }
        lowest(routes, Verdict::Internal, internal);
        lowest(routes, Verdict::Metric, |r| self.metric(r));
        let equals: Vec<Chosen> =
            routes.iter().filter(|r| r.verdict == Verdict::Best).cloned().collect();
        let id = |r: &Chosen| {
            let peer = self.peers.get(&r.peer);
            let own = peer.map_or(Ipv4Addr::UNSPECIFIED, |peer| peer.router_id);
            attributes(r).originator_id().unwrap_or(own)
        };
        let cluster = |r: &Chosen| attributes(r).cluster_list().len();
        let address = |r: &Chosen| self.peers.get(&r.peer).map(|peer| peer.address);
        lowest(routes, Verdict::RouterId, id);
        lowest(routes, Verdict::ClusterLength, cluster);
        lowest(routes, Verdict::PeerAddress, address);
        lowest(routes, Verdict::PathId, |r| r.path_id);
        let Some(best) = routes.iter().find(|r| r.verdict == Verdict::Best).cloned() else {
            return;
        };
        let mut beside: Vec<&Chosen> =
            equals.iter().filter(|r| attributes(r).as_path == attributes(&best).as_path).collect();
        beside.sort_by_key(|r| (id(r), cluster(r), address(r), r.path_id));
        beside.truncate(usize::from(config().options.multipath));
        for route in routes.iter_mut() {
            route.used = beside.iter().any(|r| (r.peer, r.path_id) == (route.peer, route.path_id));
        }
    }

    fn exported(
        &self,
        group: GroupIndex,
        kind: PeerKind,
        prefix: Prefix,
        route: &Chosen,
    ) -> Option<(PeerSlot, Attributes)> {
        let mut attributes = route.imported.clone()?;
        let teacher = self.peers.get(&route.peer);
        let source = teacher.map_or(RouteSource::Local(Origination(0)), |facts| {
            RouteSource::Peer(route.peer, facts)
        });
        let teacher = teacher.filter(|teacher| teacher.kind != PeerKind::External);
        if kind == PeerKind::External {
            attributes.edit_rare(|rare| {
                rare.originator_id = None;
                rare.cluster_list = Box::default();
            });
        } else if let Some(teacher) = teacher {
            if teacher.kind == PeerKind::Internal && kind == PeerKind::Internal {
                return None;
            }
            attributes.edit_rare(|rare| {
                rare.originator_id = rare.originator_id.or(Some(teacher.router_id));
                rare.cluster_list = [&[CLUSTER_ID], &*rare.cluster_list].concat().into();
            });
        }
        match self.policies.export(group, source, prefix, &attributes).verdict {
            ExportVerdict::Unchanged => Some((route.peer, attributes)),
            ExportVerdict::Changed(attributes) => Some((route.peer, attributes)),
            ExportVerdict::Rejected => None,
        }
    }
}

fn lowest<K: Ord>(routes: &mut [Chosen], verdict: Verdict, key: impl Fn(&Chosen) -> K) {
    let best = routes.iter().filter(|r| r.verdict == Verdict::Best).map(&key).min();
    for route in routes.iter_mut().filter(|r| r.verdict == Verdict::Best) {
        if Some(key(route)) != best {
            route.verdict = verdict;
        }
    }
}
