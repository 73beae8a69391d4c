//! The two file kinds as records: the one description from which the decoder and the JSON Schema
//! are made. Bounds stand in the types; what spans several keys is for `plan::prove`.

use std::net::SocketAddr;

use nvgate_model::{
    CustomerAddress, FrontEndAddress, MacAddress, Prefix, ProviderAddress, RoutingDomainId,
    TenantName, Vsid,
};

use super::bgp::{FrontEndBgp, TenantBgp};
use super::decode::{List, record};
use super::links::{Link, MAX_LINKS, Management};
use super::scalar::{
    AbsolutePath, Dscp, HostAddress, LinkName, Name, NatAddresses, Number, PortRange,
    PrefixOrAddress, PublicAddress, RouteVia, RuleProtocol, SubnetReference, Switch, Workers,
};
use super::vpn::Vpn;
use crate::plan::EndpointPlan;

/// Pools of a gateway.
pub(crate) const MAX_POOLS: usize = 64;
/// Prefixes of one pool.
pub(crate) const MAX_POOL_PREFIXES: usize = 256;
/// Front-end addresses that tenants share.
pub(crate) const MAX_SHARED_ADDRESSES: usize = 64;
/// Hosts that need a constant FlowID.
pub(crate) const MAX_CONSTANT_FLOWS: usize = 65_536;
/// Subnets of one tenant.
pub(crate) const MAX_SUBNETS: usize = 1024;
/// Prefixes of one subnet.
pub(crate) const MAX_SUBNET_PREFIXES: usize = 16;
/// Endpoints of one tenant.
pub(crate) const MAX_ENDPOINTS: usize = 65_536;
/// Customer addresses of one endpoint.
pub(crate) const MAX_CUSTOMER_ADDRESSES: usize = 64;
/// Customer routes of one tenant.
pub(crate) const MAX_ROUTES: usize = 16_384;
/// Inbound rules of one tenant.
pub(crate) const MAX_INBOUND_RULES: usize = 4096;
/// Front-end prefixes of one tenant.
pub(crate) const MAX_FRONT_END_PREFIXES: usize = 64;

record! {
    /// gateway.yaml: what belongs to the gateway itself.
    GatewayFile, "gateway.yaml" {
        /// The port on the provider network (the underlay), where NVGRE arrives.
        required fabric: Fabric,
        /// The port on the network of public addresses.
        required front_end: FrontEnd,
        /// The management port. Needs `links`.
        optional management: Management,
        /// Links of the host that the gateway sets up and watches; all others it leaves alone.
        /// Without this key it leaves every link as it is.
        optional links: List<Link, 0, MAX_LINKS>,
        /// Packet workers, one thread each: `auto` (cores minus one, at least one) or 1 to 64.
        /// Default: auto. A change needs a restart.
        optional workers: Workers,
        /// The health endpoint.
        optional admin: Admin,
        /// Whom all BGP sessions are told of, by BMP.
        optional bmp: Bmp,
        /// The directory that keeps leases over restarts; absolute. Default: /var/lib/nvgate.
        /// A change needs a restart.
        optional state_directory: AbsolutePath,
        /// The MAC address of every default gateway inside routing domains.
        /// Default: 02:6e:76:67:00:01.
        optional gateway_mac: MacAddress,
        /// Entries of each worker's flow table, a power of two, 1024 to 16777216.
        /// Default: 262144. A change needs a restart.
        optional flow_entries: Number<1024, 16_777_216>,
    }
}

record! {
    /// A collector of the BGP Monitoring Protocol (RFC 7854): it is told of the sessions of all
    /// tenants and of the front end, and of every route that peers announce, before policy.
    Bmp, "`bmp`" {
        /// Its address. The host's kernel connects to it, by the host's routes.
        required address: HostAddress,
        /// Its TCP port; BMP has none of its own.
        required port: Number<1, 65_535>,
    }
}

record! {
    /// The port on the provider network.
    Fabric, "`fabric`" {
        /// The kernel's name of the link. A change needs a restart.
        required link: LinkName,
        /// The gateway's own provider addresses, one of each family at most. The kernel has them
        /// on the link. A change needs a restart.
        required provider_addresses: List<ProviderAddress, 1, 2>,
        /// The MTU that tenants' VMs have, in bytes, 1280 to 65000: that the fabric carries such
        /// packets is proven where `links` says its MTU, and watched by health. Default: 1280.
        optional tenant_mtu: Number<1280, 65_000>,
        /// How inner and outer DSCP relate (RFC 2983): `uniform` copies it out and back in, `pipe`
        /// sends 0 outside. ECN follows RFC 6040 in both. Default: uniform.
        optional dscp: Dscp,
        /// Hosts that need a FlowID that never changes, because they match the whole GRE key
        /// (Linux gretap). All other hosts get a hash of the inner flow.
        optional constant_flow: List<ConstantFlow, 0, MAX_CONSTANT_FLOWS>,
    }
}

record! {
    /// A host that needs a FlowID that never changes.
    ConstantFlow, "an entry of `constant_flow`" {
        /// The host's provider address.
        required provider_address: ProviderAddress,
        /// The FlowID sent to it, 0 to 255.
        required flow_id: Number<0, 255>,
    }
}

record! {
    /// The port on the network of public addresses.
    FrontEnd, "`front_end`" {
        /// The kernel's name of the link; another than the fabric's. A change needs a restart.
        required link: LinkName,
        /// The pools that front-end addresses are leased from.
        optional pools: List<Pool, 0, MAX_POOLS>,
        /// Addresses of the gateway that tenants' VPN listeners may share, each on a port of its
        /// own. They may lie in a pool, which then never leases them.
        optional shared_addresses: List<FrontEndAddress, 0, MAX_SHARED_ADDRESSES>,
        /// BGP with the routers of the front end.
        optional bgp: FrontEndBgp,
    }
}

record! {
    /// A pool of front-end addresses.
    Pool, "a pool" {
        /// The name tenants ask by; leases are remembered under it.
        required name: Name,
        /// IPv4 prefixes; every address in them is leased, the first and last ones too. 65536
        /// addresses a pool at most.
        required prefixes: List<Prefix, 1, MAX_POOL_PREFIXES>,
        /// Addresses or prefixes within the pool that are never leased, such as the router's.
        optional except: List<PrefixOrAddress, 0, MAX_POOL_PREFIXES>,
    }
}

record! {
    /// The health endpoint.
    Admin, "`admin`" {
        /// Where it listens. Default: 127.0.0.1:9470. A change needs a restart.
        optional listen: SocketAddr,
    }
}

record! {
    /// A file of tenants.d: one tenant.
    TenantFile, "a tenant's file" {
        /// The tenant's name, unique: 1 to 63 of a-z, 0-9 and `-`.
        required tenant: TenantName,
        /// The GUID of the tenant's routing domain, unique. Leases are remembered under it.
        required routing_domain: RoutingDomainId,
        /// The virtual subnets. They route to each other; none overlaps another.
        required subnets: List<Subnet, 1, MAX_SUBNETS>,
        /// The transit subnet through which hosts send what they have no lookup record for.
        optional gateway_subnet: GatewaySubnet,
        /// The lookup records: which VM is where.
        optional endpoints: List<Endpoint, 0, MAX_ENDPOINTS>,
        /// Customer routes; the longest prefix wins, then the lowest metric.
        optional routes: List<Route, 0, MAX_ROUTES>,
        /// NAT to the front end. Without it the tenant has no IPv4 way out.
        optional nat: Nat,
        /// Site-to-site VPN (WireGuard) to the tenant's premises.
        optional vpn: Vpn,
        /// BGP between the tenant's network and the tenant's routers.
        optional bgp: TenantBgp,
        /// IPv6 prefixes the tenant owns on the front end, routed untranslated. Each lies within a
        /// subnet's prefix or covers one.
        optional front_end_prefixes: List<Prefix, 0, MAX_FRONT_END_PREFIXES>,
        /// What the tenant may use.
        optional limits: Limits,
    }
}

record! {
    /// A virtual subnet.
    Subnet, "a subnet" {
        /// Its name, unique within the tenant; `gateway` is the gateway subnet's.
        required name: Name,
        /// Its VSID, 4096 to 16777214, unique in the data centre.
        required vsid: Vsid,
        /// Its prefixes, of either family. The lowest host address of each is the default gateway.
        required prefixes: List<Prefix, 1, MAX_SUBNET_PREFIXES>,
    }
}

record! {
    /// The transit subnet through which hosts send what they have no lookup record for.
    GatewaySubnet, "`gateway_subnet`" {
        /// Its VSID, 4096 to 16777214, unique in the data centre.
        required vsid: Vsid,
        /// Its prefixes; every tenant may use the same ones (10.254.254.0/29 by convention).
        required prefixes: List<Prefix, 1, MAX_SUBNET_PREFIXES>,
    }
}

record! {
    /// An endpoint: one VM's network interface.
    Endpoint, "an endpoint" {
        /// The subnet it is in, by name or VSID.
        required subnet: SubnetReference,
        /// Its customer addresses, within the subnet, unique in the tenant.
        required customer_addresses: List<CustomerAddress, 1, MAX_CUSTOMER_ADDRESSES>,
        /// Its MAC address, unique in the subnet.
        required mac: MacAddress,
        /// The provider addresses of the host it lives on, the preferred one first.
        required provider_addresses: List<ProviderAddress, 1, { EndpointPlan::MAX_PROVIDERS }>,
    }
}

record! {
    /// A customer route: either `via` or `blackhole: true`.
    Route, "a route" {
        /// Where to. A default route overrides the way out through NAT.
        required prefix: Prefix,
        /// The customer address of the endpoint that forwards further, or the name of a site.
        optional via: RouteVia,
        /// `true`: packets are dropped.
        optional blackhole: Switch,
        /// The lower one wins among routes to one prefix, 0 to 65535. Default: 100.
        optional metric: Number<0, 65_535>,
        /// `true`: the tenant's BGP peers are told of it. Default: false.
        optional announce: Switch,
    }
}

record! {
    /// NAT of one tenant.
    Nat, "`nat`" {
        /// The pool that addresses are leased from. Needed when `addresses` is a number.
        optional pool: Name,
        /// How many addresses to lease, 1 to 256, or a list of IPv4 addresses that are the
        /// tenant's. Default: 1.
        optional addresses: NatAddresses,
        /// Published services. Outbound NAT shares the address.
        optional inbound: List<InboundRule, 0, MAX_INBOUND_RULES>,
        /// Idle timeouts of sessions.
        optional timeouts: Timeouts,
    }
}

record! {
    /// A published service.
    InboundRule, "an inbound rule" {
        /// `tcp`, `udp` or `both`.
        required protocol: RuleProtocol,
        /// One of the tenant's front-end addresses, or which one: 1 is the first. Default: 1.
        optional public_address: PublicAddress,
        /// The public port, or a range such as 8000-8099.
        required public_port: PortRange,
        /// The customer address (IPv4) it is given to, in a subnet or behind a route.
        required to: CustomerAddress,
        /// The (first) customer port; a range runs in step with the public one. Default: the
        /// public port.
        optional port: Number<1, 65_535>,
    }
}

record! {
    /// Idle timeouts of NAT sessions, in seconds.
    Timeouts, "`timeouts`" {
        /// Established TCP (RFC 5382), 300 to 604800. Default: 7440.
        optional tcp_established_secs: Number<300, 604_800>,
        /// TCP that opens, closes or was reset (RFC 5382), 240 to 7200. Default: 240.
        optional tcp_transitory_secs: Number<240, 7200>,
        /// UDP (RFC 4787), 120 to 86400. Default: 120.
        optional udp_secs: Number<120, 86_400>,
        /// ICMP echo (RFC 5508), 60 to 3600. Default: 60.
        optional icmp_secs: Number<60, 3600>,
    }
}

record! {
    /// What one tenant may use.
    Limits, "`limits`" {
        /// NAT sessions of the tenant, 1 to 16777216. Default: 65536.
        optional sessions: Number<1, 16_777_216>,
        /// NAT sessions of one customer address, at most `sessions`. Default: 16384, or
        /// `sessions` if that is less.
        optional sessions_per_customer: Number<1, 16_777_216>,
        /// Answers by the gateway itself a second (ARP, ND, echo, ICMP errors), 1 to 1000000.
        /// Default: 1000.
        optional punts_per_sec: Number<1, 1_000_000>,
        /// Broadcast and multicast frames replicated a second, 0 to 1000000. Default: 1000.
        optional replications_per_sec: Number<0, 1_000_000>,
    }
}
