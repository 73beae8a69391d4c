//! A gateway with two tenants, for the tests of this module and of the command line.

use nvgate_deploy::host::links::LinkReport;
use nvgate_deploy::plan::{NatPlan, NatTimeouts, SubnetPlan, SubnetRole, TenantLimits, TenantPlan};
use nvgate_model::{FrontEndAddress, Prefix, Vsid};

use super::bgp::*;
use super::health::assess;
use super::sites::{Handshakes, SiteStatus, TunnelReport};
use super::status::*;
use crate::counters::TrafficTotal;

/// A tenant with one subnet of both families, and NAT.
pub fn plan() -> TenantPlan {
    let prefix = |network: &str, length| Prefix::new(network.parse().unwrap(), length).unwrap();
    TenantPlan {
        name: "contoso".parse().unwrap(),
        routing_domain: "6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11".parse().unwrap(),
        subnets: vec![SubnetPlan {
            name: "web".to_owned(),
            vsid: Vsid::new(5001).unwrap(),
            prefixes: vec![prefix("10.0.1.0", 24), prefix("fd00:1::", 64)],
            role: SubnetRole::Virtual,
        }],
        endpoints: vec![],
        routes: vec![],
        nat: Some(NatPlan {
            addresses: vec![FrontEndAddress("203.0.113.10".parse().unwrap())],
            inbound: vec![],
            reserved_udp: Vec::new(),
            timeouts: NatTimeouts::default(),
        }),
        vpn: None,
        bgp: None,
        front_end_prefixes: vec![],
        limits: TenantLimits::default(),
    }
}

fn traffic(packets: u64, bytes: u64) -> TrafficTotal {
    TrafficTotal { packets, bytes }
}

fn port(role: &str, link: &str, mac: &str) -> PortStatus {
    PortStatus {
        role: role.to_owned(),
        link: link.to_owned(),
        running: true,
        mtu: Some(1500),
        mac: Some(mac.to_owned()),
        received: traffic(41_000, 52_000_000),
        transmitted: traffic(40_000, 51_000_000),
        kernel_drops: 2,
    }
}

fn worker(index: u16) -> WorkerStatus {
    WorkerStatus {
        index,
        heartbeat_age_ms: Some(2),
        batches: 900,
        packets: 41_000,
        transmitted: 40_000,
        punted: 12,
        ignored: 1,
        dropped: 7,
        handoffs_sent: 500,
        handoffs_received: 480,
        injected: 5,
        flow_hits: 39_000,
        flow_misses: 1500,
        flow_evictions: 3,
    }
}

fn subnet(name: &str, vsid: u32, prefix: &str, gateway: &str) -> SubnetStatus {
    SubnetStatus {
        name: name.to_owned(),
        vsid,
        prefixes: vec![prefix.to_owned()],
        gateways: vec![gateway.to_owned()],
    }
}

fn tunnel(name: &str, last: u8) -> TunnelReport {
    TunnelReport {
        name: name.to_owned(),
        up: true,
        reason: None,
        peer: "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=".to_owned(),
        local: "203.0.113.10:51820".to_owned(),
        endpoint: Some(format!("198.51.100.{last}:51820")),
        worker: 1,
        mtu: 1440,
        metric: 100,
        previous_key: false,
        handshake_age_secs: Some(75),
        inbound: traffic(5000, 6_000_000),
        outbound: traffic(4000, 400_000),
        handshakes: Handshakes { tried: 3, completed: 1, failed: 1 },
        replays: 2,
        authentication_failures: 1,
    }
}

fn peer(name: &str, address: &str) -> PeerReport {
    PeerReport {
        tenant: Some("contoso".to_owned()),
        name: name.to_owned(),
        description: "router of the head office".to_owned(),
        address: address.to_owned(),
        local_address: Some("10.0.1.1".to_owned()),
        asn: "65010".to_owned(),
        local_asn: "64512".to_owned(),
        router_id: Some("10.0.1.9".to_owned()),
        state: "Established".to_owned(),
        up: true,
        since_secs: Some(3661),
        hold_secs: Some(90),
        flaps: 1,
        ipv4: RouteCounts { received: 12, accepted: 11, announced: 3, stale: false },
        ipv6: RouteCounts { received: 2, accepted: 2, announced: 1, stale: false },
        messages_received: MessageTotals {
            open: 2,
            update: 9,
            keepalive: 140,
            ..Default::default()
        },
        messages_sent: MessageTotals { open: 2, update: 4, keepalive: 139, ..Default::default() },
        errors: PeerErrors { defective_updates: 1, treated_as_withdraw: 1, ..Default::default() },
        last_down: Some("the gateway ended it: hold timer expired".to_owned()),
        last_error: Some("the gateway ended it: hold timer expired".to_owned()),
        last_error_age_secs: Some(3700),
        ..PeerReport::default()
    }
}

/// A router of the front end.
pub fn transit() -> PeerReport {
    PeerReport {
        tenant: None,
        description: "upstream".to_owned(),
        local_address: Some("203.0.113.2".to_owned()),
        ..peer("transit", "203.0.113.1")
    }
}

/// A peer, and a neighbour of a range.
pub fn peers() -> Vec<PeerReport> {
    let spoke =
        PeerReport { range: Some("spokes".to_owned()), ..peer("spokes@10.0.1.77", "10.0.1.77") };
    vec![peer("router", "10.0.1.9"), spoke]
}

fn attributes(path: &str) -> AttributesReport {
    AttributesReport {
        next_hop: "10.0.1.9".to_owned(),
        origin: "igp".to_owned(),
        as_path: path.to_owned(),
        med: Some(5),
        communities: vec!["65010:1".to_owned()],
        ..AttributesReport::default()
    }
}

/// The best route of a prefix, one that lost and one that a rule rejected; told to one of two peers.
pub fn explanation() -> ExplainReport {
    let rule = RuleReport::Configured {
        policy: "from-router".to_owned(),
        rule: 2,
        file: "tenants.d/contoso.yaml".to_owned(),
        line: 31,
    };
    let route = |peer: &str, path: &str| RouteReport {
        prefix: "172.30.0.0/16".to_owned(),
        peer: Some(peer.to_owned()),
        age_secs: 75,
        accepted: true,
        verdict: Some("path_length".to_owned()),
        why: "another has a shorter AS path".to_owned(),
        rule: Some(RuleReport::BuiltIn("default".to_owned())),
        received: attributes(path),
        imported: Some(attributes(path)),
        ..RouteReport::default()
    };
    let best = RouteReport {
        best: true,
        verdict: Some("best".to_owned()),
        why: "the best route".to_owned(),
        ..route("router", "65010")
    };
    let rejected = RouteReport {
        accepted: false,
        verdict: Some("rejected".to_owned()),
        why: format!("import rejected it by {rule}"),
        imported: None,
        rule: Some(rule.clone()),
        ..route("spokes@10.0.1.77", "65077 65010")
    };
    let told = AdvertisedReport {
        peer: "branch".to_owned(),
        paths: vec![PathReport { path_id: None, attributes: attributes("64512 65010") }],
        sent: true,
        export: Some(ExportReport {
            accepted: true,
            rule: RuleReport::BuiltIn("tenant-export-learned".to_owned()),
        }),
    };
    let kept_back = AdvertisedReport {
        peer: "partner".to_owned(),
        sent: true,
        export: Some(ExportReport { accepted: false, rule }),
        ..AdvertisedReport::default()
    };
    let teacher = AdvertisedReport { peer: "router".to_owned(), sent: true, ..Default::default() };
    ExplainReport {
        tenant: Some("contoso".to_owned()),
        asked: "172.30.0.0/16".to_owned(),
        prefix: "172.30.0.0/16".to_owned(),
        routes: vec![best, route("branch", "65020 65010"), rejected],
        omitted: 0,
        advertised: vec![told, kept_back, teacher],
    }
}

/// A bond in use, whose MTU somebody changed once, and a member of it.
fn links() -> Vec<LinkReport> {
    vec![
        LinkReport {
            name: "uplink0".to_owned(),
            desired: "member of eth1".to_owned(),
            observed: Some("member of eth1, MTU 1600, up".to_owned()),
            ..LinkReport::default()
        },
        LinkReport {
            name: "eth1".to_owned(),
            desired: "bond of uplink0 and uplink1, lacp by tunnel, MTU 1600".to_owned(),
            observed: Some("bond of uplink0 and uplink1, lacp by tunnel, MTU 1600, up".to_owned()),
            repairs: 3,
            last_repair: Some("set the MTU of eth1 to 1600".to_owned()),
            last_repair_secs: Some(75),
            ..LinkReport::default()
        },
    ]
}

/// A healthy gateway with two workers and two tenants, of which one has NAT.
pub fn busy() -> Status {
    let ports = |used| Headroom { used, total: 64_512 };
    let contoso = TenantStatus {
        name: "contoso".to_owned(),
        routing_domain: "6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11".to_owned(),
        subnets: vec![
            subnet("web", 5001, "10.0.1.0/24", "10.0.1.1"),
            subnet("transit", 5099, "10.254.254.0/29", "10.254.254.1"),
        ],
        endpoints: 12,
        mtu: 1458,
        nat: Some(NatStatus {
            addresses: vec!["203.0.113.10".to_owned()],
            sessions: 310,
            session_limit: 65_536,
            mappings: 290,
            blocks: Headroom { used: 4, total: 756 },
            ports: PortsStatus { tcp: ports(250), udp: ports(38), icmp: ports(2) },
        }),
        sites: vec![SiteStatus {
            name: "hq".to_owned(),
            up: true,
            internet: true,
            tunnels: vec![tunnel("a", 7), tunnel("b", 8)],
        }],
        bgp: peers(),
        traffic: TenantTraffic {
            outbound: traffic(20_000, 25_000_000),
            inbound: traffic(19_000, 24_000_000),
            answered: 9,
        },
        drops: Drops([("nat_filtered".to_owned(), 4), ("ttl_expired".to_owned(), 1)].into()),
        refused: Drops([("signature_wrong".to_owned(), 3)].into()),
    };
    let fabrikam = TenantStatus {
        name: "fabrikam".to_owned(),
        routing_domain: "0d5a4c3e-11b2-4a44-8f10-3b8b6e2f9a02".to_owned(),
        subnets: vec![subnet("web", 6001, "10.0.1.0/24", "10.0.1.1")],
        endpoints: 3,
        mtu: 1458,
        ..TenantStatus::default()
    };
    let mut status = Status {
        version: "0.1.0".to_owned(),
        uptime_secs: 93_784,
        config: ConfigStatus {
            generation: Some(3),
            loaded_at: Some(1_760_000_000),
            last_error: None,
        },
        components: vec![],
        ports: vec![
            port("fabric", "eth1", "02:00:00:00:00:01"),
            port("front_end", "eth2", "02:00:00:00:00:02"),
        ],
        workers: vec![worker(0), worker(1)],
        links: links(),
        tenants: vec![contoso, fabrikam],
        bgp: vec![transit()],
        drops: Drops([("vsid_unknown".to_owned(), 2)].into()),
    };
    status.components = assess(&status);
    status
}
