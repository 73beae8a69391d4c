//! The plan as the speaker has it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_bgp::decision::{self, MedComparison};
use nvgate_bgp::policy::{ExportGuard, FrontEndImport, ImportGuard, TenantFacts, TenantPeer};
use nvgate_bgp::rib::{TableConfig, TableLimits};
use nvgate_bgp::speaker::{DynamicRange, Neighbor, Place, PlaceConfig, RouteConfig, SpeakerConfig};
use nvgate_deploy::plan::{BgpPeerPlan, BgpPlan, MultipathPath, Plan};
use nvgate_model::{DomainSlot, Prefix};

use super::places::remote;
use super::tenants::tenants;
use crate::snapshot::{Domain, FrontEndLink};

/// The peers of all tenants whose domains are there, and those of the front end.
pub(super) fn of(
    plan: &Plan,
    domains: &BTreeMap<DomainSlot, Arc<Domain>>,
    link: &FrontEndLink,
) -> SpeakerConfig {
    let tenants = tenants(plan, domains).map(|tenant| {
        let facts = tenant.plan.bgp_facts(&plan.gateway);
        let routes = |peer: &BgpPeerPlan| tenant_routes(peer, tenant.bgp, &facts, tenant.domain);
        (tenant.place(), Arc::new(place(tenant.bgp, routes)))
    });
    let front_end = plan.gateway.front_end.bgp.iter().map(|front_end| {
        let import = FrontEndImport::new(&plan.front_end_space(), front_end.martians);
        let guard = ImportGuard::FrontEnd(Arc::new(import));
        let routes = |peer: &BgpPeerPlan| front_end_routes(peer, &front_end.bgp, &guard, link);
        (Place::FrontEnd, Arc::new(place(&front_end.bgp, routes)))
    });
    SpeakerConfig { places: front_end.chain(tenants).collect() }
}

fn place(bgp: &BgpPlan, routes: impl Fn(&BgpPeerPlan) -> RouteConfig) -> PlaceConfig {
    let neighbor = |peer: &BgpPeerPlan| Neighbor {
        config: Arc::clone(&peer.config),
        routes: Arc::new(routes(peer)),
    };
    let peers = bgp.peers.iter().filter(|peer| peer.dynamic.is_none()).map(neighbor);
    let ranges = bgp.peers.iter().filter_map(|peer| {
        let dynamic = peer.dynamic?;
        Some(DynamicRange {
            range: dynamic.range,
            neighbors_max: dynamic.limit as usize,
            neighbor: neighbor(peer),
        })
    });
    PlaceConfig {
        table: TableConfig {
            limits: TableLimits {
                prefixes: bgp.limits.prefixes,
                attribute_bytes: usize::try_from(bgp.limits.attribute_bytes).unwrap_or(usize::MAX),
            },
            router_id: bgp.router_id,
            cluster_id: bgp.cluster_id,
            options: decision::Options {
                med: if bgp.decision.always_compare_med {
                    MedComparison::Always
                } else {
                    MedComparison::SameNeighbor
                },
                multipath: bgp.decision.multipath,
                multipath_path: match bgp.decision.multipath_path {
                    MultipathPath::Exact => decision::MultipathPath::Exact,
                    MultipathPath::Neighbor => decision::MultipathPath::Neighbor,
                    MultipathPath::Length => decision::MultipathPath::Length,
                },
            },
        },
        updates_per_second: bgp.limits.updates_per_sec,
        peers_max: bgp.limits.peers as usize,
        peers: peers.collect(),
        ranges: ranges.collect(),
    }
}

fn tenant_routes(
    peer: &BgpPeerPlan,
    bgp: &BgpPlan,
    facts: &TenantFacts,
    domain: &Domain,
) -> RouteConfig {
    // A plan has it for every peer of a tenant.
    let strictest = TenantPeer { site: None, accept_default: false, announce_learned: false };
    let tenant = peer.tenant.unwrap_or(strictest);
    let guards = (
        ImportGuard::Tenant(Arc::new(facts.import(tenant))),
        ExportGuard::Tenant(Arc::new(facts.export(tenant))),
    );
    // Where a next hop lies decides the domain; routers name others behind them: nothing is shared.
    let subnets: Vec<&[Prefix]> =
        domain.subnets.iter().map(|subnet| &subnet.prefixes[..]).collect();
    let other = near_other(remote(peer), peer.config.local_address, &subnets);
    routes(peer, bgp, guards, (domain.own_addresses().collect(), other))
}

fn front_end_routes(
    peer: &BgpPeerPlan,
    bgp: &BgpPlan,
    guard: &ImportGuard,
    link: &FrontEndLink,
) -> RouteConfig {
    let own = [true, false].map(|ipv4| link.global(ipv4).collect::<Vec<_>>()).concat();
    let remote = peer.config.remote_address;
    let subnets = link.subnets().collect::<Vec<_>>();
    // RFC 2545 section 3: it is told to those on the link alone.
    let near = remote.is_ipv6() && subnets.iter().any(|subnet| subnet.contains(remote));
    let other = own.iter().copied().find(|address| address.is_ipv4() != remote.is_ipv4());
    RouteConfig {
        shared_subnets: Some(subnets),
        link_local: link.link_local().filter(|_| near),
        ..routes(peer, bgp, (guard.clone(), ExportGuard::FrontEnd), (own, other))
    }
}

/// With the gateway's own addresses, and which of them is the next hop of the family that the session
/// is not of.
fn routes(
    peer: &BgpPeerPlan,
    bgp: &BgpPlan,
    (import_guard, export_guard): (ImportGuard, ExportGuard),
    (own, other): (Vec<IpAddr>, Option<IpAddr>),
) -> RouteConfig {
    RouteConfig {
        import_guard,
        import: peer.import.clone(),
        export_guard,
        export: peer.export.clone(),
        path_numbers_max: bgp.limits.path_length.into(),
        enforce_first_as: peer.treatment.enforce_first_as,
        graceful_shutdown: peer.treatment.graceful_shutdown,
        blackhole: peer.treatment.blackhole,
        next_hops: of_other_family(peer, other),
        own_addresses: own,
        shared_subnets: None,
        link_local: None,
        next_hop_unchanged: peer.treatment.next_hop_unchanged,
    }
}

fn of_other_family(peer: &BgpPeerPlan, other: Option<IpAddr>) -> [Option<IpAddr>; 2] {
    let ipv4 = peer.config.remote_address.is_ipv4();
    [true, false].map(|family| other.filter(|_| family != ipv4))
}

/// The gateway's address of the family that `remote` is not of: in the subnet that `remote` is in,
/// or else the session begins in, or else the first.
fn near_other(remote: Prefix, local: Option<IpAddr>, subnets: &[&[Prefix]]) -> Option<IpAddr> {
    let of_family = |prefixes: &&[Prefix]| {
        let other = prefixes.iter().find(|prefix| prefix.is_ipv4() != remote.is_ipv4());
        other.map(|prefix| prefix.lowest_host())
    };
    let subnet = |holds: &dyn Fn(&Prefix) -> bool| {
        subnets.iter().find(|prefixes| prefixes.iter().any(holds)).and_then(of_family)
    };
    subnet(&|prefix| prefix.covers(remote))
        .or_else(|| subnet(&|prefix| Some(prefix.lowest_host()) == local))
        .or_else(|| subnets.iter().find_map(of_family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_of_the_other_family_are_near_the_peer() {
        let prefixes = |texts: [&str; 2]| texts.map(|text| text.parse::<Prefix>().unwrap());
        let web = prefixes(["10.1.0.0/24", "fd00:1::/64"]);
        let data = prefixes(["10.2.0.0/24", "fd00:2::/64"]);
        let transit = prefixes(["10.254.0.0/29", "fd00:254::/64"]);
        let subnets = [&web[..], &data, &transit];
        for (remote, local, expected) in [
            ("10.2.0.10/32", None, "fd00:2::1"),
            ("fd00:2::a/128", None, "10.2.0.1"),
            ("fd00:2::/64", Some("fd00:1::1"), "10.2.0.1"),
            ("192.168.0.1/32", Some("10.254.0.1"), "fd00:254::1"),
            ("192.168.0.1/32", None, "fd00:1::1"),
        ] {
            let local = local.map(|text| text.parse().unwrap());
            let address = near_other(remote.parse().unwrap(), local, &subnets);
            assert_eq!(address, Some(expected.parse().unwrap()), "{remote} {local:?}");
        }
        let ipv4 = [&web[..1], &data[..1]];
        assert_eq!(near_other("10.2.0.10/32".parse().unwrap(), None, &ipv4), None);
        let mixed = [&web[..], &data[..1]];
        let first = near_other("10.2.0.10/32".parse().unwrap(), None, &mixed);
        assert_eq!(first, Some("fd00:1::1".parse().unwrap()));
    }
}
