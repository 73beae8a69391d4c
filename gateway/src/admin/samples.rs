//! A gateway with two tenants, for the tests of this module and of the command line.

use nvgate_deploy::plan::{NatPlan, NatTimeouts, SubnetPlan, SubnetRole, TenantLimits, TenantPlan};
use nvgate_model::{FrontEndAddress, Prefix, Vsid};

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
        traffic: TenantTraffic {
            outbound: traffic(20_000, 25_000_000),
            inbound: traffic(19_000, 24_000_000),
            answered: 9,
        },
        drops: Drops([("nat_filtered".to_owned(), 4), ("ttl_expired".to_owned(), 1)].into()),
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
        tenants: vec![contoso, fabrikam],
        drops: Drops([("vsid_unknown".to_owned(), 2)].into()),
    };
    status.components = assess(&status);
    status
}
