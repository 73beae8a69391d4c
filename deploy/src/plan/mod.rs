//! The proven configuration: what a gateway is to do, with every claim already checked.
//!
//! [`prove`] is the only maker of a [`Plan`] outside tests: whoever holds one need not ask again.

mod bgp;
mod links;
mod prove;
mod vpn;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use nvgate_model::{
    CustomerAddress, FlowId, FrontEndAddress, MacAddress, Prefix, Protocol, ProviderAddress,
    RoutingDomainId, TenantName, Vsid,
};

pub use bgp::{
    AggregatePlan, AnnouncePlan, BgpLimits, BgpPeerPlan, BgpPlan, DecisionPlan, DynamicPlan,
    FrontEndBgpPlan, MultipathPath, RulePlace, RulePlaces, Treatment,
};
pub use links::{
    Addressing, BondHash, BondMode, BondOptions, BondPlan, InterfaceAddress, LacpRate, LinkKind,
    LinkPlan, LinksPlan, ManagementPlan, Offload, Offloads, Selection,
};
pub use prove::{ADMIN_LISTEN, Proof, prove};
pub use vpn::{
    Bandwidth, ListenerPlan, ProbePlan, SitePlan, TranslatePlan, TranslateSide, TunnelPlan, VpnPlan,
};

/// Everything a gateway does. A plan that exists is valid across all its tenants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What belongs to the gateway itself.
    pub gateway: GatewayPlan,
    /// The tenants, ordered by name.
    pub tenants: Vec<TenantPlan>,
}

impl Plan {
    /// What is the gateway's on the front end: pools as a whole, leased and shared addresses outside
    /// them, and tenants' own prefixes.
    #[must_use]
    pub fn front_end_space(&self) -> Vec<Prefix> {
        let FrontEndPlan { pools, shared_addresses, .. } = &self.gateway.front_end;
        let pools: Vec<Prefix> =
            pools.iter().flat_map(|pool| pool.prefixes.iter().copied()).collect();
        let leases = self.tenants.iter().filter_map(|tenant| tenant.nat.as_ref());
        let outside = leases
            .flat_map(|nat| &nat.addresses)
            .chain(shared_addresses)
            .map(|address| Prefix::host(address.ip()))
            .filter(|address| !pools.iter().any(|pool| pool.covers(*address)));
        let routed = self.tenants.iter().flat_map(|tenant| tenant.front_end_prefixes.clone());
        pools.iter().copied().chain(outside).chain(routed).collect()
    }
}

/// The gateway's own part of the plan (`gateway.yaml`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayPlan {
    /// Packet workers.
    pub workers: NonZeroUsize,
    /// The port on the underlay.
    pub fabric: FabricPlan,
    /// The port on the public network.
    pub front_end: FrontEndPlan,
    /// The host's links that the gateway sets up; absent when it leaves all alone.
    pub links: Option<LinksPlan>,
    /// Where the health endpoint listens.
    pub admin_listen: SocketAddr,
    /// The BMP collector.
    pub bmp: Option<SocketAddr>,
    /// Where leases are kept.
    pub state_directory: PathBuf,
    /// The MAC address of every default gateway inside routing domains.
    pub gateway_mac: MacAddress,
    /// Entries of each worker's flow table, a power of two.
    pub flow_entries: usize,
}

/// The fabric port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FabricPlan {
    /// The kernel's name of the link.
    pub link: String,
    /// The gateway's own provider addresses, at least one, at most one a family.
    pub provider_addresses: Vec<ProviderAddress>,
    /// The MTU in bytes that tenants' VMs have, at least 1280.
    pub tenant_mtu: u32,
    /// How the inner DSCP and the outer DSCP relate.
    pub dscp: DscpMode,
    /// Provider addresses of hosts that need a FlowID that never changes.
    pub constant_flow: Vec<(ProviderAddress, FlowId)>,
}

/// How DSCP crosses the tunnel's ends (RFC 2983). ECN follows RFC 6040 in both modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DscpMode {
    /// One DSCP inside and outside: copied out at the entry and back in at the exit.
    Uniform,
    /// The outer DSCP is 0 and says nothing about the inner one.
    Pipe,
}

/// The front-end port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontEndPlan {
    /// The kernel's name of the link.
    pub link: String,
    /// The pools that front-end addresses are leased from.
    pub pools: Vec<PoolPlan>,
    /// The gateway's own addresses, of either family, that tenants' VPN listeners share; no pool
    /// leases them.
    pub shared_addresses: Vec<FrontEndAddress>,
    /// BGP with the routers there, when the gateway has it.
    pub bgp: Option<FrontEndBgpPlan>,
}

/// A pool of front-end addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolPlan {
    /// The pool's name.
    pub name: String,
    /// The prefixes it leases from, without what is excepted; none overlaps another pool's.
    pub prefixes: Vec<Prefix>,
}

/// One tenant: a routing domain and what it is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantPlan {
    /// The tenant's name, unique.
    pub name: TenantName,
    /// The routing domain's GUID, unique.
    pub routing_domain: RoutingDomainId,
    /// The virtual subnets, with the gateway subnet among them.
    pub subnets: Vec<SubnetPlan>,
    /// The lookup records.
    pub endpoints: Vec<EndpointPlan>,
    /// The customer routes.
    pub routes: Vec<RoutePlan>,
    /// NAT to the front end, when the tenant has it.
    pub nat: Option<NatPlan>,
    /// Site-to-site VPN, when the tenant has it.
    pub vpn: Option<VpnPlan>,
    /// BGP in the routing domain, when the tenant has it.
    pub bgp: Option<BgpPlan>,
    /// IPv6 prefixes the tenant owns on the front end and that are routed untranslated. Each lies
    /// within a subnet's prefix or covers one.
    pub front_end_prefixes: Vec<Prefix>,
    /// The tenant's limits.
    pub limits: TenantLimits,
}

/// A virtual subnet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubnetPlan {
    /// What the tenant calls it.
    pub name: String,
    /// Its VSID, unique in the plan.
    pub vsid: Vsid,
    /// Its prefixes, at least one, of either family; the lowest host address of each is its
    /// default gateway.
    pub prefixes: Vec<Prefix>,
    /// Whether this is the transit subnet through which hosts send what they have no record for.
    pub role: SubnetRole,
}

/// What a subnet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubnetRole {
    /// A subnet with the tenant's VMs.
    Virtual,
    /// The gateway subnet of the routing domain.
    Gateway,
}

/// An endpoint: the lookup records of one VM's network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointPlan {
    /// Its customer addresses, at least one, within the prefixes of its subnet.
    pub customer_addresses: Vec<CustomerAddress>,
    /// Its MAC, unique within its subnet.
    pub mac: MacAddress,
    /// The VSID of its subnet.
    pub vsid: Vsid,
    /// The provider addresses of the host it lives on: 1 to [`EndpointPlan::MAX_PROVIDERS`].
    pub provider_addresses: Vec<ProviderAddress>,
}

impl EndpointPlan {
    /// Provider addresses of one host.
    pub const MAX_PROVIDERS: usize = 8;
}

/// A customer route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutePlan {
    /// Where to.
    pub prefix: Prefix,
    /// Lower wins among routes to one prefix.
    pub metric: u32,
    /// What happens to packets.
    pub target: RouteTarget,
    /// Whether the tenant's BGP peers, which it then has, are told of it.
    pub announce: bool,
}

/// What a customer route leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteTarget {
    /// The endpoint with this customer address forwards further (a router VM).
    Via(CustomerAddress),
    /// The site at this position of [`VpnPlan::sites`], whose tunnels allow the prefix.
    Site(u16),
    /// Packets are dropped.
    Blackhole,
}

/// NAT of one tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NatPlan {
    /// The tenant's front-end addresses (IPv4), at least one, owned by no other tenant.
    pub addresses: Vec<FrontEndAddress>,
    /// Published services.
    pub inbound: Vec<InboundRulePlan>,
    /// UDP ports of the tenant's addresses that its VPN listeners have: never lent, and in no
    /// inbound rule.
    pub reserved_udp: Vec<(FrontEndAddress, u16)>,
    /// Idle timeouts.
    pub timeouts: NatTimeouts,
}

/// An inbound rule: a public address and port range given to a customer address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InboundRulePlan {
    /// TCP or UDP, never ICMP; a rule for both is two rules here.
    pub protocol: Protocol,
    /// The public address, one of the tenant's.
    pub public_address: FrontEndAddress,
    /// The first public port.
    pub public_port: u16,
    /// How many ports, at least 1; public and customer ports run in step.
    pub port_count: u16,
    /// The customer address (IPv4).
    pub customer_address: CustomerAddress,
    /// The first customer port.
    pub customer_port: u16,
}

/// Idle timeouts of NAT sessions, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NatTimeouts {
    /// Established TCP (RFC 5382 REQ-5: 7440 unless configured).
    pub tcp_established_secs: u32,
    /// TCP that is opening, closing or was reset (RFC 5382 REQ-5: 240).
    pub tcp_transitory_secs: u32,
    /// UDP (RFC 4787 REQ-5: at least 120).
    pub udp_secs: u32,
    /// ICMP echo (RFC 5508 REQ-2: at least 60).
    pub icmp_secs: u32,
}

impl Default for NatTimeouts {
    fn default() -> Self {
        Self { tcp_established_secs: 7440, tcp_transitory_secs: 240, udp_secs: 120, icmp_secs: 60 }
    }
}

/// What one tenant may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TenantLimits {
    /// NAT sessions of the tenant.
    pub sessions: u32,
    /// NAT sessions of one customer address.
    pub sessions_per_customer: u32,
    /// Answers by the gateway itself a second: ARP, ND, echo, ICMP errors.
    pub punts_per_sec: u32,
    /// Broadcast and multicast frames replicated a second.
    pub replications_per_sec: u32,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            sessions: 65_536,
            sessions_per_customer: 16_384,
            punts_per_sec: 1000,
            replications_per_sec: 1000,
        }
    }
}
