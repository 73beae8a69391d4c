//! The plan as the speaker has it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_bgp::decision::{self, MedComparison};
use nvgate_bgp::policy::{ExportGuard, ImportGuard, TenantFacts, TenantPeer};
use nvgate_bgp::rib::{TableConfig, TableLimits};
use nvgate_bgp::speaker::{DynamicRange, Neighbor, PlaceConfig, RouteConfig, SpeakerConfig};
use nvgate_deploy::plan::{BgpPeerPlan, BgpPlan, MultipathPath, Plan};
use nvgate_model::{DomainSlot, Prefix};

use super::places::remote;
use super::tenants::tenants;
use crate::snapshot::Domain;

/// The peers of all tenants whose domains are there.
pub(super) fn of(plan: &Plan, domains: &BTreeMap<DomainSlot, Arc<Domain>>) -> SpeakerConfig {
    let places = tenants(plan, domains).map(|tenant| {
        let facts = tenant.plan.bgp_facts(&plan.gateway);
        (tenant.place(), Arc::new(place(tenant.bgp, &facts, tenant.domain)))
    });
    SpeakerConfig { places: places.collect() }
}

fn place(bgp: &BgpPlan, facts: &TenantFacts, domain: &Domain) -> PlaceConfig {
    let neighbor = |peer: &BgpPeerPlan| Neighbor {
        config: Arc::clone(&peer.config),
        routes: Arc::new(routes(peer, bgp, facts, domain)),
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

fn routes(peer: &BgpPeerPlan, bgp: &BgpPlan, facts: &TenantFacts, domain: &Domain) -> RouteConfig {
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
        own_addresses: domain.own_addresses().collect(),
        // Where a next hop lies decides the domain; routers name others behind them.
        shared_subnets: None,
        next_hops: next_hops(peer, domain),
        link_local: None,
        next_hop_unchanged: peer.treatment.next_hop_unchanged,
    }
}

/// Of the family that the session is not of, the gateway's address near the peer.
fn next_hops(peer: &BgpPeerPlan, domain: &Domain) -> [Option<IpAddr>; 2] {
    let ipv4 = peer.config.remote_address.is_ipv4();
    let subnets: Vec<&[Prefix]> =
        domain.subnets.iter().map(|subnet| &subnet.prefixes[..]).collect();
    let address = other_address(remote(peer), peer.config.local_address, &subnets);
    [true, false].map(|family| address.filter(|_| family != ipv4))
}

/// The gateway's address of the family that `remote` is not of: in the subnet that `remote` is in,
/// or else the session begins in, or else the first.
fn other_address(remote: Prefix, local: Option<IpAddr>, subnets: &[&[Prefix]]) -> Option<IpAddr> {
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
            let address = other_address(remote.parse().unwrap(), local, &subnets);
            assert_eq!(address, Some(expected.parse().unwrap()), "{remote} {local:?}");
        }
        let ipv4 = [&web[..1], &data[..1]];
        assert_eq!(other_address("10.2.0.10/32".parse().unwrap(), None, &ipv4), None);
        let mixed = [&web[..], &data[..1]];
        let first = other_address("10.2.0.10/32".parse().unwrap(), None, &mixed);
        assert_eq!(first, Some("fd00:1::1".parse().unwrap()));
    }
}
