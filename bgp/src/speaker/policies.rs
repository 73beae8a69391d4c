//! What a table's questions about policy are answered with: what decides about each peer's routes,
//! made from its configuration and what its session agreed on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_model::Prefix;

use super::config::{PeerKey, RouteConfig};
use super::origins::Origins;
use crate::attributes::Attributes;
use crate::config::{AddPathSend, PeerConfig, PrivateAsns, Reach};
use crate::family::Family;
use crate::neighbor_kind::NeighborKind;
use crate::policy::{
    Export, ExportTo, Import, NextHopCheck, NextHopRule, Outcome, OwnNextHops, PrivateAsRemoval,
    Route, RouteSource, RuleId, Teacher, Verdict,
};
use crate::rib::{
    self, ExportVerdict, Exported, GroupIndex, ImportVerdict, Imported, PathsOut, PeerFacts,
    PeerKind, PeerSlot, SawPrefix,
};
use crate::session::Negotiated;
use crate::wire::Codec;

/// Import of each peer, export of each group, and the place's own routes.
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub(super) imports: BTreeMap<PeerSlot, (Import, Teacher)>,
    pub(super) exports: BTreeMap<GroupIndex, Arc<Export>>,
    pub(super) origins: Origins,
}

/// Peers with equal keys are told the same by the same bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct GroupKey {
    pub(super) family: Family,
    pub(super) kind: PeerKind,
    pub(super) paths: PathsOut,
    pub(super) export: Arc<Export>,
    /// As far as it changes what is sent.
    pub(super) codec: Codec,
}

/// All that policy has to know of one session.
pub(super) struct Terms<'a> {
    pub(super) key: PeerKey,
    pub(super) config: &'a PeerConfig,
    pub(super) routes: &'a RouteConfig,
    pub(super) negotiated: &'a Negotiated,
    pub(super) draining: bool,
}

impl Terms<'_> {
    pub(super) fn kind(&self) -> PeerKind {
        match self.negotiated.codec.neighbor {
            NeighborKind::External => PeerKind::External,
            NeighborKind::Internal if self.config.reflector_client => PeerKind::Client,
            NeighborKind::Internal => PeerKind::Internal,
        }
    }

    fn is_external(&self) -> bool {
        self.negotiated.codec.neighbor == NeighborKind::External
    }

    pub(super) fn facts(&self) -> PeerFacts {
        let limit = |family: Family| {
            let bound = self.config.family(family).and_then(|family| family.max_prefixes);
            bound.map_or(u32::MAX, |bound| bound.prefixes)
        };
        PeerFacts {
            kind: self.kind(),
            router_id: self.negotiated.remote_identifier,
            address: self.key.remote,
            local: self.negotiated.endpoints.local.ip(),
            route_limits: Family::ALL.map(limit),
        }
    }

    pub(super) fn import(&self) -> (Import, Teacher) {
        let (config, routes) = (self.config, self.routes);
        let external = self.is_external();
        let near = matches!(config.reach, Reach::Connected | Reach::Security(1));
        let shared = routes.shared_subnets.as_ref().filter(|_| external && near);
        let import = Import {
            guard: routes.import_guard.clone(),
            policy: routes.import.clone(),
            kind: self.negotiated.codec.neighbor,
            own_asn: config.local_asn,
            local_as: config.local_as.filter(|_| external),
            remote_asn: self.negotiated.remote_asn,
            router_id: config.router_id,
            cluster_id: config.cluster_id,
            role: config.role.filter(|_| external),
            own_as_allowed: config.own_as_allowed,
            path_numbers_max: routes.path_numbers_max,
            enforce_first_as: routes.enforce_first_as,
            next_hops: NextHopCheck {
                own: routes.own_addresses.clone(),
                shared: shared.map(|subnets| (self.key.remote, subnets.clone())),
            },
            graceful_shutdown: routes.graceful_shutdown,
            blackhole: routes.blackhole,
        };
        (import, teacher(&self.facts()))
    }

    fn export(&self) -> Export {
        let (config, routes) = (self.config, self.routes);
        let external = self.is_external();
        let to = if external {
            let peer = self.negotiated.remote_asn;
            let private = config.private_asns;
            ExportTo::External {
                own_asn: config.local_asn,
                local_as: config.local_as,
                overridden: config.as_override.then_some(peer),
                private_as: (private != PrivateAsns::Keep)
                    .then_some(PrivateAsRemoval { asns: private, peer }),
                role: config.role,
            }
        } else {
            ExportTo::Internal {
                own_asn: config.local_asn,
                client: config.reflector_client,
                cluster_id: config.cluster_id,
            }
        };
        let own = if external { !routes.next_hop_unchanged } else { config.next_hop_self };
        Export {
            guard: routes.export_guard.clone(),
            policy: routes.export.clone(),
            to,
            next_hop: if own { NextHopRule::Own } else { NextHopRule::Held },
            own: self.own_next_hops(),
            draining: self.draining,
        }
    }

    fn own_next_hops(&self) -> OwnNextHops {
        let ipv6_for_ipv4 = self.negotiated.codec.ipv6_next_hop;
        let local = self.negotiated.endpoints.local.ip();
        let address = |family: Family| {
            let fits = match (family, local) {
                (Family::Ipv4Unicast, IpAddr::V4(_)) | (Family::Ipv6Unicast, IpAddr::V6(_)) => true,
                (Family::Ipv4Unicast, IpAddr::V6(_)) => ipv6_for_ipv4,
                (Family::Ipv6Unicast, IpAddr::V4(_)) => false,
            };
            self.routes.next_hops[family.index()].or(fits.then_some(local))
        };
        OwnNextHops {
            addresses: Family::ALL.map(address),
            link_local: self.routes.link_local,
            ipv6_for_ipv4,
        }
    }

    /// The group that the peer belongs to; none if the family is not spoken.
    pub(super) fn group_key(&self, family: Family) -> Option<GroupKey> {
        let codec = self.negotiated.codec;
        if !codec.families[family.index()] {
            return None;
        }
        let send = self.config.family(family).map(|family| family.add_path_send);
        let paths = match send.filter(|_| codec.add_path_out[family.index()]) {
            Some(AddPathSend::All) => PathsOut::All,
            Some(AddPathSend::Best(paths)) => PathsOut::Several(paths),
            Some(AddPathSend::Off) | None => PathsOut::Best,
        };
        let codec = Codec { add_path_in: [false; 2], accept_as_set: false, ..codec };
        Some(GroupKey { family, kind: self.kind(), paths, export: Arc::new(self.export()), codec })
    }
}

fn teacher(facts: &PeerFacts) -> Teacher {
    let (kind, client) = match facts.kind {
        PeerKind::External => (NeighborKind::External, false),
        PeerKind::Internal => (NeighborKind::Internal, false),
        PeerKind::Client => (NeighborKind::Internal, true),
    };
    Teacher { address: facts.address, router_id: facts.router_id, kind, client }
}

impl Policies {
    /// What export says of a route. One of our own that is originated for several reasons goes out
    /// if it may for one of them.
    pub(super) fn ask_export<'a>(
        &self,
        export: &Export,
        source: rib::RouteSource<'_>,
        prefix: Prefix,
        held: &'a Attributes,
    ) -> (Outcome, std::borrow::Cow<'a, Attributes>) {
        let ask = |source| export.evaluate(&Route { prefix, source }, held);
        let reasons = match source {
            rib::RouteSource::Peer(_, facts) => return ask(RouteSource::Learned(teacher(facts))),
            rib::RouteSource::Local(number) => self.origins.reasons(number),
        };
        let mut answers = reasons.iter().map(|reason| ask(reason.source()));
        let mut first = answers.next().unwrap_or_else(|| ask(RouteSource::Local));
        for answer in answers {
            let saw_prefix = first.0.saw_prefix || answer.0.saw_prefix;
            if first.0.verdict == Verdict::Reject {
                first = answer;
            }
            first.0.saw_prefix = saw_prefix;
        }
        first
    }
}

impl rib::Policies for Policies {
    fn import(&self, peer: PeerSlot, prefix: Prefix, received: &Attributes) -> Imported {
        let refused = |rule| Imported {
            verdict: ImportVerdict::Rejected,
            rule,
            weight: 0,
            discard: false,
            saw_prefix: SawPrefix::No,
        };
        let Some((import, teacher)) = self.imports.get(&peer) else {
            return refused(RuleId::NO_POLICY);
        };
        let route = Route { prefix, source: RouteSource::Learned(*teacher) };
        let (outcome, attributes) = import.evaluate(&route, received);
        let verdict = match (outcome.verdict, outcome.rule) {
            (Verdict::Accept, _) => match attributes {
                std::borrow::Cow::Borrowed(_) => ImportVerdict::Unchanged,
                std::borrow::Cow::Owned(changed) => ImportVerdict::Changed(changed),
            },
            (Verdict::Reject, RuleId::OWN_AS | RuleId::OWN_ROUTER) => ImportVerdict::Loop,
            (Verdict::Reject, RuleId::LEAK) => ImportVerdict::Leak,
            (Verdict::Reject, _) => ImportVerdict::Rejected,
        };
        Imported {
            verdict,
            rule: outcome.rule,
            weight: outcome.weight.unwrap_or(0),
            discard: outcome.discard,
            saw_prefix: saw(outcome),
        }
    }

    fn export(
        &self,
        group: GroupIndex,
        source: rib::RouteSource<'_>,
        prefix: Prefix,
        held: &Attributes,
    ) -> Exported {
        let Some(export) = self.exports.get(&group) else {
            return Exported { verdict: ExportVerdict::Rejected, saw_prefix: SawPrefix::No };
        };
        let (outcome, attributes) = self.ask_export(export, source, prefix, held);
        let verdict = match (outcome.verdict, attributes) {
            (Verdict::Reject, _) => ExportVerdict::Rejected,
            (Verdict::Accept, std::borrow::Cow::Borrowed(_)) => ExportVerdict::Unchanged,
            (Verdict::Accept, std::borrow::Cow::Owned(changed)) => ExportVerdict::Changed(changed),
        };
        Exported { verdict, saw_prefix: saw(outcome) }
    }
}

const fn saw(outcome: Outcome) -> SawPrefix {
    if outcome.saw_prefix { SawPrefix::Yes } else { SawPrefix::No }
}
