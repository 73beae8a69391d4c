//! The plan as the speaker has it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_bgp::decision::{self, MedComparison};
use nvgate_bgp::policy::{ExportGuard, ImportGuard, TenantFacts, TenantPeer};
use nvgate_bgp::rib::{TableConfig, TableLimits};
use nvgate_bgp::speaker::{DynamicRange, Neighbor, PlaceConfig, RouteConfig, SpeakerConfig};
use nvgate_deploy::plan::{BgpPeerPlan, BgpPlan, MultipathPath, Plan};
use nvgate_model::DomainSlot;

use super::tenants::tenants;
use crate::snapshot::Domain;

/// The peers of all tenants whose domains are there.
pub(super) fn of(plan: &Plan, domains: &BTreeMap<DomainSlot, Arc<Domain>>) -> SpeakerConfig {
    let places = tenants(plan, domains).map(|tenant| {
        let facts = tenant.plan.bgp_facts(&plan.gateway);
        let own = tenant.domain.own_addresses().collect();
        (tenant.place(), Arc::new(place(tenant.bgp, &facts, own)))
    });
    SpeakerConfig { places: places.collect() }
}

fn place(bgp: &BgpPlan, facts: &TenantFacts, own: Vec<IpAddr>) -> PlaceConfig {
    let neighbor = |peer: &BgpPeerPlan| Neighbor {
        config: Arc::clone(&peer.config),
        routes: Arc::new(routes(peer, bgp, facts, &own)),
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

fn routes(peer: &BgpPeerPlan, bgp: &BgpPlan, facts: &TenantFacts, own: &[IpAddr]) -> RouteConfig {
    // A plan has it for every peer of a tenant.
    let strictest = TenantPeer { site: None, accept_default: false, announce_learned: false };
    let tenant = peer.tenant.unwrap_or(strictest);
    RouteConfig {
        import_guard: ImportGuard::Tenant(Arc::new(facts.import(tenant))),
        import: peer.import.clone(),
        export_guard: ExportGuard::Tenant(Arc::new(facts.export(tenant))),
        export: peer.export.clone(),
        path_numbers_max: bgp.limits.path_length.into(),
        enforce_first_as: peer.treatment.enforce_first_as,
        graceful_shutdown: peer.treatment.graceful_shutdown,
        blackhole: peer.treatment.blackhole,
        own_addresses: own.to_vec(),
        // Where a next hop lies decides the domain; routers name others behind them.
        shared_subnets: None,
        next_hops: next_hops(peer, own),
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
