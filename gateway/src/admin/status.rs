//! What the gateway says about itself: one document from which `/v1/status`, `/metrics`, the health
//! endpoints and `nvgate status` are all printed.
//!
//! Control assembles a [`Status`] from the published snapshot and the workers' counters; nothing
//! here reads either. Every number is a fact of the moment the document was made, counters count
//! since the process started, and a secret has no field to be in.

use std::collections::BTreeMap;

use nvgate_deploy::host::LinkFacts;
use nvgate_deploy::host::links::LinkReport;
use nvgate_deploy::plan::{SubnetPlan, TenantPlan};
use nvgate_model::Instant;
use serde::{Deserialize, Serialize};

use super::bgp::PeerReport;
use super::health::Component;
use super::sites::SiteStatus;
use crate::counters::{
    DomainTotals, DropTotals, NatTotals, PortTotals, TrafficTotal, WorkerCounters,
};
use crate::endpoint::Refusals;

/// The whole gateway at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's version.
    pub version: String,
    /// Whole seconds since the process started.
    pub uptime_secs: u64,
    /// The configuration that is in effect.
    pub config: ConfigStatus,
    /// What health is made of; [`assess`](super::health::assess) makes most of it from the rest.
    pub components: Vec<Component>,
    /// The ports.
    pub ports: Vec<PortStatus>,
    /// The packet workers, in order.
    pub workers: Vec<WorkerStatus>,
    /// The links that gateway.yaml describes, as they were at most some seconds ago.
    #[serde(default)]
    pub links: Vec<LinkReport>,
    /// The tenants, ordered by name.
    pub tenants: Vec<TenantStatus>,
    /// The BGP peers of the front end, as they were at most a second or so ago.
    pub bgp: Vec<PeerReport>,
    /// Packets dropped before a tenant was known.
    pub drops: Drops,
}

/// The configuration in effect and what became of the newest one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The generation of the snapshot that workers use; absent until the first plan is applied.
    pub generation: Option<u32>,
    /// When it was applied: seconds since 1970-01-01 00:00 UTC.
    pub loaded_at: Option<u64>,
    /// The diagnostics of the newest configuration when it is invalid and therefore not in effect.
    pub last_error: Option<Vec<String>>,
}

/// One port.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PortStatus {
    /// `fabric` or `front_end`.
    pub role: String,
    /// The kernel's name of the link.
    pub link: String,
    /// Whether the link is there, up, and has a carrier.
    pub running: bool,
    /// The link's MTU in bytes; absent when there is no such link.
    pub mtu: Option<u32>,
    /// The link's MAC address; absent when there is no such link.
    pub mac: Option<String>,
    /// Frames received.
    pub received: TrafficTotal,
    /// Frames transmitted.
    pub transmitted: TrafficTotal,
    /// Frames that the kernel dropped because a receive ring was full.
    pub kernel_drops: u64,
}

impl PortStatus {
    /// The port `role` on the link called `link`, of which the kernel says `facts`.
    #[must_use]
    pub fn new(role: &str, link: &str, facts: Option<&LinkFacts>, totals: PortTotals) -> Self {
        Self {
            role: role.to_owned(),
            link: link.to_owned(),
            running: facts.is_some_and(|facts| facts.running),
            mtu: facts.map(|facts| facts.mtu),
            mac: facts.map(|facts| facts.mac.to_string()),
            received: totals.received,
            transmitted: totals.transmitted,
            kernel_drops: totals.kernel_drops,
        }
    }
}

/// One packet worker; the counters of [`WorkerCounters`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The worker, counted from 0.
    pub index: u16,
    /// Milliseconds since its loop last turned; absent before the first turn.
    pub heartbeat_age_ms: Option<u64>,
    /// Batches with at least one packet.
    pub batches: u64,
    /// Packets in those batches.
    pub packets: u64,
    /// Packets sent from a port.
    pub transmitted: u64,
    /// Packets that the gateway answered itself.
    pub punted: u64,
    /// Packets left to the host's kernel.
    pub ignored: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets handed to another worker.
    pub handoffs_sent: u64,
    /// Packets taken from other workers.
    pub handoffs_received: u64,
    /// Packets taken from the gateway's own endpoints.
    pub injected: u64,
    /// Packets whose flow was compiled and current.
    pub flow_hits: u64,
    /// Packets that took the slow path.
    pub flow_misses: u64,
    /// Flows that another flow pushed out of the table.
    pub flow_evictions: u64,
}

impl WorkerStatus {
    /// Worker `index` at `now`, which is of the same clock as its heartbeat.
    #[must_use]
    pub fn new(index: u16, counters: &WorkerCounters, now: Instant) -> Self {
        let heartbeat = Instant(counters.heartbeat.read());
        let age = || u64::try_from(now.since(heartbeat).as_millis()).unwrap_or(u64::MAX);
        Self {
            index,
            heartbeat_age_ms: (heartbeat != Instant::default()).then(age),
            batches: counters.batches.read(),
            packets: counters.packets.read(),
            transmitted: counters.transmitted.read(),
            punted: counters.punted.read(),
            ignored: counters.ignored.read(),
            dropped: counters.dropped.read(),
            handoffs_sent: counters.handoffs_sent.read(),
            handoffs_received: counters.handoffs_received.read(),
            injected: counters.injected.read(),
            flow_hits: counters.flow_hits.read(),
            flow_misses: counters.flow_misses.read(),
            flow_evictions: counters.flow_evictions.read(),
        }
    }
}

/// One tenant.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TenantStatus {
    /// The tenant's name.
    pub name: String,
    /// The GUID of its routing domain.
    pub routing_domain: String,
    /// Its virtual subnets, the gateway subnet among them.
    pub subnets: Vec<SubnetStatus>,
    /// How many endpoints it has.
    pub endpoints: u64,
    /// Its MTU in bytes: the longest inner IP packet that the fabric carries.
    pub mtu: u32,
    /// Its NAT, when it has one.
    pub nat: Option<NatStatus>,
    /// Its sites.
    pub sites: Vec<SiteStatus>,
    /// Its BGP peers, as they were at most a second or so ago.
    pub bgp: Vec<PeerReport>,
    /// What it sent and received.
    pub traffic: TenantTraffic,
    /// Its dropped packets.
    pub drops: Drops,
    /// What the gateway's own endpoint in its domain, which speaks BGP and BFD, refused, by the stable
    /// name of the reason; as it was at most a second or so ago.
    pub refused: Drops,
}

impl TenantStatus {
    /// The tenant of `plan`, whose workers together counted `totals`.
    #[must_use]
    pub fn new(plan: &TenantPlan, mtu: u32, totals: &DomainTotals, sites: Vec<SiteStatus>) -> Self {
        Self {
            name: plan.name.to_string(),
            routing_domain: plan.routing_domain.to_string(),
            subnets: plan.subnets.iter().map(SubnetStatus::new).collect(),
            endpoints: plan.endpoints.len() as u64,
            mtu,
            nat: plan.nat.as_ref().map(|nat| {
                let addresses = nat.addresses.iter().map(ToString::to_string).collect();
                NatStatus::new(addresses, u64::from(plan.limits.sessions), totals.nat)
            }),
            sites,
            bgp: Vec::new(),
            traffic: TenantTraffic {
                outbound: totals.outbound,
                inbound: totals.inbound,
                answered: totals.punts,
            },
            drops: Drops::from(&totals.drops),
            refused: Drops::default(),
        }
    }
}

/// One virtual subnet.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SubnetStatus {
    /// What the tenant calls it.
    pub name: String,
    /// Its VSID.
    pub vsid: u32,
    /// Its prefixes.
    pub prefixes: Vec<String>,
    /// The default gateway of each prefix, in the same order.
    pub gateways: Vec<String>,
}

impl SubnetStatus {
    fn new(plan: &SubnetPlan) -> Self {
        Self {
            name: plan.name.clone(),
            vsid: plan.vsid.number(),
            prefixes: plan.prefixes.iter().map(ToString::to_string).collect(),
            gateways: plan.prefixes.iter().map(|prefix| prefix.lowest_host().to_string()).collect(),
        }
    }
}

/// NAT of one tenant.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NatStatus {
    /// Its front-end addresses.
    pub addresses: Vec<String>,
    /// Sessions.
    pub sessions: u64,
    /// Sessions it may have.
    pub session_limit: u64,
    /// Mappings of a customer socket to a public one.
    pub mappings: u64,
    /// 256-port blocks, over all protocols.
    pub blocks: Headroom,
    /// Public ports.
    pub ports: PortsStatus,
}

impl NatStatus {
    fn new(addresses: Vec<String>, session_limit: u64, totals: NatTotals) -> Self {
        let ports = |used| Headroom { used, total: totals.ports_total };
        Self {
            addresses,
            sessions: totals.sessions,
            session_limit,
            mappings: totals.mappings,
            blocks: Headroom { used: totals.blocks_leased, total: totals.blocks_total },
            ports: PortsStatus {
                tcp: ports(totals.tcp_ports_in_use),
                udp: ports(totals.udp_ports_in_use),
                icmp: ports(totals.icmp_ports_in_use),
            },
        }
    }
}

/// Public ports, a protocol each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PortsStatus {
    /// TCP ports.
    pub tcp: Headroom,
    /// UDP ports.
    pub udp: Headroom,
    /// ICMP echo identifiers.
    pub icmp: Headroom,
}

impl PortsStatus {
    /// Each protocol's name with its ports.
    #[must_use]
    pub const fn by_protocol(&self) -> [(&'static str, Headroom); 3] {
        [("tcp", self.tcp), ("udp", self.udp), ("icmp", self.icmp)]
    }
}

/// How much of something is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Headroom {
    /// In use.
    pub used: u64,
    /// In use and free.
    pub total: u64,
}

/// What a tenant sent and received, in packets and bytes of inner IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TenantTraffic {
    /// From its endpoints to anywhere.
    pub outbound: TrafficTotal,
    /// From anywhere to its endpoints.
    pub inbound: TrafficTotal,
    /// Packets that the gateway answered itself: ARP, ND, echo, ICMP errors.
    pub answered: u64,
}

/// Dropped packets by the stable name of their reason; reasons without a packet are left out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drops(pub BTreeMap<String, u64>);

impl From<&DropTotals> for Drops {
    fn from(totals: &DropTotals) -> Self {
        Self(
            totals.nonzero().map(|(reason, packets)| (reason.name().to_owned(), packets)).collect(),
        )
    }
}

impl From<&Refusals> for Drops {
    fn from(refusals: &Refusals) -> Self {
        let named =
            refusals.nonzero().map(|(refusal, packets)| (refusal.name().to_owned(), packets));
        Self(named.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::samples;
    use crate::counters::DomainCounters;
    use nvgate_model::DropReason;

    #[test]
    fn a_status_survives_its_json() {
        let status = samples::busy();
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn a_heartbeat_is_as_old_as_the_clock_says() {
        let counters = WorkerCounters::default();
        assert_eq!(WorkerStatus::new(0, &counters, Instant(5)).heartbeat_age_ms, None);
        counters.heartbeat.set(1_000_000_000);
        let age = |now| WorkerStatus::new(0, &counters, Instant(now)).heartbeat_age_ms;
        assert_eq!(age(3_500_000_000), Some(2500));
        assert_eq!(age(0), Some(0), "a turn between the two readings is no age");
    }

    #[test]
    fn a_tenant_shows_its_plan_and_what_its_workers_counted() {
        let workers = [DomainCounters::default(), DomainCounters::default()];
        for worker in &workers {
            worker.outbound.count(1, 100);
            worker.nat.sessions.set(7);
            worker.nat.ports_in_use.tcp.set(3);
            worker.nat.ports_total.set(32_256);
        }
        workers[1].drops.count(DropReason::NatFiltered, 2);

        let tenant = TenantStatus::new(&samples::plan(), 1458, &workers.iter().collect(), vec![]);

        let ports = |used| Headroom { used, total: 64_512 };
        let nat = NatStatus {
            addresses: vec!["203.0.113.10".to_owned()],
            sessions: 14,
            session_limit: 65_536,
            ports: PortsStatus { tcp: ports(6), udp: ports(0), icmp: ports(0) },
            ..NatStatus::default()
        };
        let subnet = SubnetStatus {
            name: "web".to_owned(),
            vsid: 5001,
            prefixes: vec!["10.0.1.0/24".to_owned(), "fd00:1::/64".to_owned()],
            gateways: vec!["10.0.1.1".to_owned(), "fd00:1::1".to_owned()],
        };
        let expected = TenantStatus {
            name: "contoso".to_owned(),
            routing_domain: "6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11".to_owned(),
            subnets: vec![subnet],
            endpoints: 0,
            mtu: 1458,
            nat: Some(nat),
            sites: vec![],
            bgp: vec![],
            traffic: TenantTraffic {
                outbound: TrafficTotal { packets: 2, bytes: 200 },
                ..TenantTraffic::default()
            },
            drops: Drops([("nat_filtered".to_owned(), 2)].into()),
            refused: Drops::default(),
        };
        assert_eq!(tenant, expected);
    }
}
