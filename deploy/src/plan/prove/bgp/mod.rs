//! Proves BGP of one place: a tenant's routing domain, or the front end. Lists first, then the
//! policies that refer to them, then the peers that refer to both, and last what peers are beside
//! each other.

mod ground;
mod lists;
mod peer;
mod rules;
mod session;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use nvgate_bgp::policy::{Martians, Verdict};
use nvgate_model::Asn;

use super::address::overlaps;
use super::gateway::PoolDraft;
use crate::plan::bgp::{
    AggregatePlan, AnnouncePlan, BgpLimits, BgpPlan, DecisionPlan, FrontEndBgpPlan, MultipathPath,
    RulePlaces,
};
use crate::schema::bgp::{
    self as schema, FrontEndBgp, LearnedMartians, MultipathAlike, Peer, TenantBgp,
};
use crate::schema::{At, Findings, Place, Source, entries, hint};
pub(super) use ground::Ground;
use lists::Lists;
use peer::{PeerDraft, PeerProof, Who};
use rules::{PeerAddresses, RuleProof};
use session::{is_not_off, is_on};

/// What a tenant's and the front end's BGP have in common.
struct Given<'a> {
    place: Place,
    asn: Option<Asn>,
    router_id: Option<Ipv4Addr>,
    cluster_id: Option<Ipv4Addr>,
    peers: &'a [At<Peer>],
    policies: &'a [At<schema::Policy>],
    prefix_lists: &'a [At<schema::PrefixList>],
    community_lists: &'a [At<schema::CommunityList>],
    as_lists: &'a [At<schema::AsList>],
    decision: Option<&'a schema::Decision>,
    limits: Option<&'a schema::BgpLimits>,
}

macro_rules! given {
    ($bgp:expr) => {{
        let At { value: bgp, place } = $bgp;
        Given {
            place: *place,
            asn: bgp.asn.map(|asn| asn.value),
            router_id: bgp.router_id.map(|id| id.value),
            cluster_id: bgp.cluster_id.map(|id| id.value),
            peers: entries(&bgp.peers),
            policies: entries(&bgp.policies),
            prefix_lists: entries(&bgp.prefix_lists),
            community_lists: entries(&bgp.community_lists),
            as_lists: entries(&bgp.as_lists),
            decision: bgp.decision.as_ref().map(|decision| &decision.value),
            limits: bgp.limits.as_ref().map(|limits| &limits.value),
        }
    }};
}

/// What a place is to its peers.
struct PlaceProof<'a> {
    ground: Ground<'a>,
    /// The identifier of a gateway that is given none, and what it lacks if there is none.
    router_id: Result<Ipv4Addr, &'static str>,
    accept_default: bool,
    /// What becomes of routes that no rule decides about.
    default: Verdict,
    limits: BgpLimits,
    intact: bool,
    sources: &'a [Source],
}

/// Proves BGP of a tenant whose routes are proven, as far as it could be read.
pub(super) fn prove_tenant_bgp(
    bgp: &At<TenantBgp>,
    ground: Ground<'_>,
    sources: &[Source],
    findings: &mut Findings,
) -> Option<BgpPlan> {
    let Ground::Tenant { tenant, own, .. } = &ground else { return None };
    let own = own.iter().find_map(|own| match own {
        IpAddr::V4(own) => Some(*own),
        IpAddr::V6(_) => None,
    });
    let place = PlaceProof {
        intact: tenant.intact,
        ground,
        router_id: own.ok_or("the gateway has no IPv4 address in this domain to take it from"),
        accept_default: is_on(bgp.value.accept_default),
        default: Verdict::Accept,
        limits: BgpLimits::TENANT,
        sources,
    };
    place.prove(&given!(bgp), findings)
}

/// Proves BGP of the front end, as far as it could be read. `provider` is the gateway's IPv4 provider
/// address.
pub(super) fn prove_front_end_bgp(
    bgp: &At<FrontEndBgp>,
    ground: Ground<'_>,
    provider: Option<Ipv4Addr>,
    intact: bool,
    sources: &[Source],
    findings: &mut Findings,
) -> Option<FrontEndBgpPlan> {
    let Ground::FrontEnd { pools, .. } = &ground else { return None };
    let announce = bgp.value.announce.as_ref().map(|announce| &announce.value);
    let announce = prove_announce(announce, pools, intact, findings);
    let place = PlaceProof {
        ground,
        router_id: provider.ok_or("the gateway has no IPv4 provider address to take it from"),
        accept_default: true,
        default: Verdict::Reject,
        limits: BgpLimits::FRONT_END,
        intact,
        sources,
    };
    let plan = place.prove(&given!(bgp), findings)?;
    Some(FrontEndBgpPlan {
        bgp: plan,
        announce,
        martians: match bgp.value.martians.map(|martians| martians.value) {
            Some(LearnedMartians::NotGlobal) | None => Martians::NotGlobal,
            Some(LearnedMartians::Unforwardable) => Martians::Unforwardable,
        },
    })
}

fn prove_announce(
    announce: Option<&schema::Announce>,
    pools: &[PoolDraft],
    intact: bool,
    findings: &mut Findings,
) -> AnnouncePlan {
    let names = announce.map_or(&[][..], |announce| entries(&announce.aggregates));
    let mut seen: HashMap<&str, Place> = HashMap::new();
    let mut aggregates = Vec::new();
    for name in names {
        let text = name.value.0.as_str();
        if let Some(first) = seen.insert(text, name.place) {
            let message = format!("pool `{text}` is listed twice");
            findings.conflict(name.place, message, first, "listed here first");
            continue;
        }
        let Some(pool) = pools.iter().find(|pool| pool.pool.name == text) else {
            if intact {
                let hint = hint(text, pools.iter().map(|pool| pool.pool.name.as_str()));
                findings.error(name.place, format!("no pool is named `{text}`{hint}"));
            }
            continue;
        };
        let prefixes = pool.prefixes.iter().map(|prefix| prefix.value).collect();
        aggregates.push(AggregatePlan { pool: text.to_owned(), prefixes });
    }
    AnnouncePlan {
        addresses: is_not_off(announce.and_then(|announce| announce.addresses)),
        aggregates,
        shared_addresses: is_not_off(announce.and_then(|announce| announce.shared_addresses)),
        front_end_prefixes: is_not_off(announce.and_then(|announce| announce.front_end_prefixes)),
    }
}

impl PlaceProof<'_> {
    fn prove(&self, given: &Given<'_>, findings: &mut Findings) -> Option<BgpPlan> {
        let peers = self.names(given.peers, findings);
        let mut lists =
            Lists::prove(given.prefix_lists, given.community_lists, given.as_lists, findings);
        let rules = RuleProof {
            lists: &mut lists,
            peers: &peers,
            intact: self.intact,
            sources: self.sources,
            default: self.default,
            held: 0,
            findings,
        };
        let mut policies = rules.prove(given.policies);
        let router_id = self.router_id(given, findings);
        let stand_in = router_id.unwrap_or(Ipv4Addr::BROADCAST);
        let cluster_id = given.cluster_id.unwrap_or(stand_in);
        let limits = limits_of(given.limits, self.limits);
        let mut proof = PeerProof {
            ground: &self.ground,
            own: given.asn,
            router_id: stand_in,
            cluster_id,
            limits: &limits,
            accept_default: self.accept_default,
            intact: self.intact,
            bounds_told: HashSet::new(),
            policies: &mut policies,
            findings,
        };
        let drafts: Vec<PeerDraft> = given.peers.iter().map(|peer| proof.prove(peer)).collect();
        prove_distinct(&drafts, findings);
        prove_count(&drafts, limits.peers, findings);
        if self.intact {
            policies.prove_used(findings);
            lists.prove_used(findings);
        }
        Some(BgpPlan {
            asn: given.asn?,
            router_id: router_id?,
            cluster_id,
            peers: drafts.into_iter().map(|draft| draft.plan).collect::<Option<_>>()?,
            rules: RulePlaces(policies.places.into()),
            decision: decision_of(given.decision),
            limits,
        })
    }

    /// The peers' addresses by their names, of which each is one peer's.
    fn names(&self, peers: &[At<Peer>], findings: &mut Findings) -> PeerAddresses {
        let mut places: HashMap<&str, Place> = HashMap::new();
        let mut addresses = PeerAddresses::new();
        for peer in peers {
            let Some(name) = &peer.value.name else { continue };
            let text = name.value.0.as_str();
            if let Some(first) = places.get(text) {
                let message = format!("peer `{text}` is defined twice");
                findings.conflict(name.place, message, *first, "defined here first");
                continue;
            }
            places.insert(text, name.place);
            addresses.insert(text.to_owned(), peer.value.address.map(|address| address.value));
        }
        addresses
    }

    fn router_id(&self, given: &Given<'_>, findings: &mut Findings) -> Option<Ipv4Addr> {
        match (given.router_id, self.router_id) {
            (Some(router_id), _) => Some(router_id),
            (None, Ok(router_id)) => Some(router_id),
            (None, Err(lacks)) => {
                if self.intact {
                    let message = format!("missing key `router_id` in `bgp`: {lacks}");
                    findings.error(given.place, message);
                }
                None
            }
        }
    }
}

/// Proves that no two peers have one pair of addresses, and that no ranges overlap.
fn prove_distinct(drafts: &[PeerDraft], findings: &mut Findings) {
    let mut seen: HashMap<IpAddr, Vec<(Option<IpAddr>, Place)>> = HashMap::new();
    let mut ranges = Vec::new();
    for draft in drafts {
        let address = match draft.who {
            Some(Who::Static(address)) => address,
            Some(Who::Dynamic(range)) => {
                ranges.push((range.value, range.place));
                continue;
            }
            None => continue,
        };
        let before = seen.entry(address.value).or_default();
        let same = |other: &&(Option<IpAddr>, Place)| match (other.0, draft.local) {
            (Some(other), Some(local)) => other == local,
            (None, _) | (_, None) => true,
        };
        if let Some((_, first)) = before.iter().find(same) {
            let message = format!(
                "peer address {} is used twice from one address of the gateway; give each another \
                 `local_address`",
                address.value
            );
            findings.conflict(address.place, message, *first, "used here first");
        }
        before.push((draft.local, address.place));
    }
    for (later, earlier) in overlaps(&ranges) {
        let ((range, place), (other, other_place)) = (ranges[later], ranges[earlier]);
        let message = format!(
            "range {range} overlaps {other}, and nobody could tell which of the two a router is of"
        );
        findings.conflict(place, message, other_place, "the other range");
    }
}

fn prove_count(drafts: &[PeerDraft], most: u32, findings: &mut Findings) {
    let mut total: u32 = 0;
    for draft in drafts {
        let before = total;
        total = total.saturating_add(draft.count);
        if total > most && before <= most {
            let all = drafts.iter().fold(0, |all: u32, one| all.saturating_add(one.count));
            let message = format!(
                "{all} peers, with all that ranges admit, are more than {most}; raise `peers` under \
                 `limits` of `bgp`, or lower `limit` of a range"
            );
            findings.error(draft.place, message);
        }
    }
}

fn limits_of(given: Option<&schema::BgpLimits>, default: BgpLimits) -> BgpLimits {
    let Some(given) = given else { return default };
    let mebibytes = given.attributes_mib.map(|mib| u64::from(mib.value.0) << 20);
    let updates = given.updates_per_sec.and_then(|updates| NonZeroU32::new(updates.value.0));
    let length = given.path_length.and_then(|length| u16::try_from(length.value.0).ok());
    BgpLimits {
        peers: given.peers.map_or(default.peers, |peers| peers.value.0),
        prefixes: given.prefixes.map_or(default.prefixes, |prefixes| prefixes.value.0),
        attribute_bytes: mebibytes.unwrap_or(default.attribute_bytes),
        updates_per_sec: updates.or(default.updates_per_sec),
        path_length: length.unwrap_or(default.path_length),
    }
}

fn decision_of(given: Option<&schema::Decision>) -> DecisionPlan {
    let multipath = given.and_then(|given| u8::try_from(given.multipath?.value.0).ok());
    DecisionPlan {
        always_compare_med: is_on(given.and_then(|given| given.always_compare_med)),
        multipath: multipath.unwrap_or(1),
        multipath_path: match given.and_then(|given| given.multipath_path).map(|one| one.value) {
            Some(MultipathAlike::Exact) | None => MultipathPath::Exact,
            Some(MultipathAlike::Neighbor) => MultipathPath::Neighbor,
            Some(MultipathAlike::Length) => MultipathPath::Length,
        },
    }
}
