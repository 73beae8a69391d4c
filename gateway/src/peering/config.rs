//! The plan as the speaker has it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_bgp::decision::{self, MedComparison};
use nvgate_bgp::policy::{ExportGuard, FrontEndImport, ImportGuard, TenantFacts, TenantPeer};
use nvgate_bgp::rib::{TableConfig, TableLimits};
use nvgate_bgp::speaker::{DynamicRange, Neighbor, Place, PlaceConfig, RouteConfig, SpeakerConfig};
use nvgate_deploy::plan::{BgpPeerPlan, BgpPlan, MultipathPath, Plan};
use nvgate_model::DomainSlot;

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
        let own: Vec<IpAddr> = tenant.domain.own_addresses().collect();
        let guards = |peer: &BgpPeerPlan| tenant_routes(peer, tenant.bgp, &facts, &own);
        (tenant.place(), Arc::new(place(tenant.bgp, guards)))
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
    own: &[IpAddr],
) -> RouteConfig {
    // A plan has it for every peer of a tenant.
    let strictest = TenantPeer { site: None, accept_default: false, announce_learned: false };
    let tenant = peer.tenant.unwrap_or(strictest);
    let guards = (
        ImportGuard::Tenant(Arc::new(facts.import(tenant))),
        ExportGuard::Tenant(Arc::new(facts.export(tenant))),
    );
    // Where a next hop lies decides the domain; routers name others behind them: nothing is shared.
    routes(peer, bgp, guards, own.to_vec())
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
    RouteConfig {
        shared_subnets: Some(subnets),
        link_local: link.link_local().filter(|_| near),
        ..routes(peer, bgp, (guard.clone(), ExportGuard::FrontEnd), own)
    }
}

fn routes(
    peer: &BgpPeerPlan,
    bgp: &BgpPlan,
    (import_guard, export_guard): (ImportGuard, ExportGuard),
    own: Vec<IpAddr>,
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
        next_hops: next_hops(peer, &own),
        own_addresses: own,
        shared_subnets: None,
        link_local: None,
        next_hop_unchanged: peer.treatment.next_hop_unchanged,
    }
}

/// Of the family that the session is not of, the gateway's first own address.
fn next_hops(peer: &BgpPeerPlan, own: &[IpAddr]) -> [Option<IpAddr>; 2] {
    let ipv4 = peer.config.remote_address.is_ipv4();
    [true, false].map(|family| {
        let other = family != ipv4;
        own.iter().copied().find(|address| other && address.is_ipv4() == family)
    })
}
