//! What workers forward by: an immutable picture of the plan and of the host's network.
//!
//! Control builds a snapshot and publishes it; a worker loads it once a batch, so that a packet
//! sees one configuration. A customer address is looked up only inside a [`Domain`], which is
//! selected first: by VSID, or by the leased front-end address.

mod build;
mod fabric;
mod fib;
mod front_end;
mod interest;
mod learned;
mod retired;
mod routes;
mod shared_fib;
mod site;
mod upstream;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use nvgate_model::{
    CustomerAddress, DomainSlot, Generation, MacAddress, Prefix, RoutingDomainId, TenantName, Vsid,
};
use nvgate_nat::{Budget, NatConfig};
use nvgate_nvgre::lookup::{EndpointIndex, LookupTable};
use nvgate_nvgre::replicate::ReplicationList;
use nvgate_packet::flow_key::Place;
use nvgate_vpn::TunnelIndex;

pub use build::{BuildError, SnapshotBuilder};
pub use fabric::{Fabric, ProviderHost};
pub use fib::Fib;
pub use front_end::{FrontEnd, FrontEndLink, HopIndex, NextHop, Path};
pub use interest::{Interest, Service};
pub use learned::{LearnedChanges, LearnedRoute, MAX_NEXT_HOPS};
pub use retired::Retired;
pub use routes::{RouteEntry, RouteHop, Routes};
pub use shared_fib::SharedFib;
pub use site::{Site, SiteIndex, SiteTunnel, TunnelShared, TunnelSocket};
pub use upstream::UpstreamRoute;

use crate::counters::DomainCounters;

/// Everything a worker needs to forward packets.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows with every snapshot published.
    pub generation: Generation,
    /// Grows when links, addresses, routes or path MTUs of the host change: whatever compiled
    /// entries of every domain depend on.
    pub epoch: Generation,
    /// Packet workers.
    pub workers: u16,
    /// The MAC address of every default gateway.
    pub gateway_mac: MacAddress,
    /// The fabric port.
    pub fabric: Arc<Fabric>,
    /// The front-end port.
    pub front_end: Arc<FrontEnd>,
    /// The pools that front-end addresses are leased from.
    pub pools: Arc<[Prefix]>,
    domains: Vec<Option<Arc<Domain>>>,
    owners: Arc<Owners>,
}

/// Whose what is that packets carry.
#[derive(Debug)]
struct Owners {
    vsids: HashMap<Vsid, (DomainSlot, u16)>,
    tunnel_sockets: HashMap<SocketAddr, Arc<TunnelSocket>>,
    tunnel_addresses: HashMap<IpAddr, DomainSlot>,
    tunnels: HashMap<TunnelIndex, TunnelPlace>,
    public_v4: HashMap<Ipv4Addr, DomainSlot>,
    public_prefixes: Fib<DomainSlot>,
}

/// Where a tunnel is: its domain, its site, and its position there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelPlace {
    /// The domain.
    pub domain: DomainSlot,
    /// The site.
    pub site: SiteIndex,
    /// The position among the site's tunnels.
    pub position: usize,
}

/// A routing domain: a place in which customer addresses mean something.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Where it lives in this process.
    pub slot: DomainSlot,
    /// Grows when the tenant's part of the plan changes.
    pub generation: Generation,
    /// The tenant.
    pub tenant: TenantName,
    /// The routing domain's GUID.
    pub id: RoutingDomainId,
    /// Its subnets, the gateway subnet among them.
    pub subnets: Arc<[Subnet]>,
    /// Its lookup records.
    pub lookup: Arc<LookupTable>,
    /// Its routes.
    pub routes: Routes,
    /// Its sites.
    pub sites: Arc<[Site]>,
    /// NAT, when the tenant has it.
    pub nat: Option<Arc<NatConfig>>,
    /// Prefixes routed to the front end untranslated.
    pub front_end_prefixes: Arc<[Prefix]>,
    /// The tenant's NAT sessions over all workers.
    pub sessions: Arc<Budget>,
    /// NAT sessions of each endpoint, by its index.
    endpoint_sessions: Arc<[Arc<Budget>]>,
    /// NAT sessions of each customer address with a lookup record.
    customer_sessions: Arc<HashMap<Ipv4Addr, Arc<Budget>>>,
    /// What the gateway's own endpoint listens for.
    pub interest: Arc<Interest>,
    /// Answers by the gateway itself a second.
    pub punts_per_sec: u32,
    /// Replicated frames a second.
    pub replications_per_sec: u32,
    /// One set of counters a worker.
    pub counters: Arc<[DomainCounters]>,
}

/// A virtual subnet of a domain.
#[derive(Debug)]
pub struct Subnet {
    /// What the tenant calls it.
    pub name: String,
    /// Its VSID.
    pub vsid: Vsid,
    /// Its prefixes; the lowest host address of each is the default gateway.
    pub prefixes: Vec<Prefix>,
    /// The hosts that broadcast and multicast go to.
    pub replicas: ReplicationList,
}

/// Who stands behind a packet from inside a routing domain, and is told what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaker {
    /// An endpoint.
    Endpoint(EndpointIndex),
    /// A site, by one of its tunnels.
    Site(SiteIndex),
}

impl Snapshot {
    /// The domain in this slot, if it is still there.
    #[inline]
    #[must_use]
    pub fn domain(&self, slot: DomainSlot) -> Option<&Domain> {
        self.domains.get(slot.0 as usize)?.as_deref()
    }

    /// Every domain.
    pub fn domains(&self) -> impl Iterator<Item = &Arc<Domain>> {
        self.domains.iter().flatten()
    }

    /// The domain and subnet that a VSID belongs to.
    #[must_use]
    pub fn by_vsid(&self, vsid: Vsid) -> Option<(&Domain, &Subnet)> {
        let &(slot, subnet) = self.owners.vsids.get(&vsid)?;
        let domain = self.domain(slot)?;
        Some((domain, domain.subnets.get(usize::from(subnet))?))
    }

    /// The domain that a front-end address is leased to, or whose front-end prefix holds it.
    #[must_use]
    pub fn by_front_end(&self, address: IpAddr) -> Option<&Domain> {
        let slot = match address {
            IpAddr::V4(v4) => *self.owners.public_v4.get(&v4)?,
            IpAddr::V6(_) => *self.owners.public_prefixes.lookup(address)?.1,
        };
        self.domain(slot)
    }

    /// What tunnels end at this socket of the front end.
    #[must_use]
    pub fn tunnel_socket(&self, socket: SocketAddr) -> Option<&Arc<TunnelSocket>> {
        self.owners.tunnel_sockets.get(&socket)
    }

    /// Every socket that tunnels end at, in no order.
    pub fn tunnel_sockets(&self) -> impl Iterator<Item = (&SocketAddr, &Arc<TunnelSocket>)> {
        self.owners.tunnel_sockets.iter()
    }

    /// Every tunnel, in no order.
    pub fn tunnels(&self) -> impl Iterator<Item = (TunnelIndex, TunnelPlace)> {
        self.owners.tunnels.iter().map(|(&index, &place)| (index, place))
    }

    /// A tunnel with its domain and site.
    #[must_use]
    pub fn tunnel(&self, index: TunnelIndex) -> Option<(&Domain, SiteIndex, &SiteTunnel)> {
        let place = self.owners.tunnels.get(&index)?;
        let domain = self.domain(place.domain)?;
        Some((domain, place.site, domain.site(place.site)?.tunnels.get(place.position)?))
    }

    /// Whether an address belongs to a front-end pool, leased or not.
    #[must_use]
    pub fn is_pooled(&self, address: IpAddr) -> bool {
        self.pools.iter().any(|pool| pool.contains(address))
    }

    /// The domain for which the gateway answers ARP or neighbour solicitations for `address` on the
    /// front end: it is leased to it, or tunnels of its tenant end there. An address that several
    /// tenants' tunnels share is the first one's.
    #[must_use]
    pub fn answers_for(&self, address: IpAddr) -> Option<&Domain> {
        self.by_front_end(address)
            .or_else(|| self.domain(*self.owners.tunnel_addresses.get(&address)?))
    }

    /// Every IPv4 address that the gateway announces on the front end and its domain, in no order.
    pub fn announced_v4(&self) -> impl Iterator<Item = (Ipv4Addr, DomainSlot)> {
        let shared =
            self.owners.tunnel_addresses.iter().filter_map(|(&address, &slot)| match address {
                IpAddr::V4(v4) if !self.owners.public_v4.contains_key(&v4) => Some((v4, slot)),
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            });
        self.owners.public_v4.iter().map(|(&address, &slot)| (address, slot)).chain(shared)
    }

    /// What a compiled entry of `domain` was proven under: it is current while this is unchanged.
    #[inline]
    #[must_use]
    pub const fn proof(&self, domain: &Domain) -> u32 {
        // Both only grow, so that the sum changes when either does.
        self.epoch.0.wrapping_add(domain.generation.0)
    }
}

impl Domain {
    /// The site with this index.
    #[inline]
    #[must_use]
    pub fn site(&self, index: SiteIndex) -> Option<&Site> {
        self.sites.get(usize::from(index.0))
    }

    /// The site with this place.
    #[must_use]
    pub fn site_at(&self, place: Place) -> Option<SiteIndex> {
        let position = self.sites.iter().position(|site| site.place == place)?;
        Some(SiteIndex(position as u16))
    }

    /// Where a customer address lies by the configured routes: there packets go that a learned route
    /// sends to it. None when it is the gateway's own, nobody's, or behind a site that is down.
    #[must_use]
    pub fn next_hop(&self, address: IpAddr) -> Option<RouteHop> {
        self.routes.next_hop(&self.lookup, address)
    }

    /// Whether a customer address is the endpoint's: by its record, or because the domain's routes
    /// to it lead to the endpoint. A router VM asks for neighbours from what lies behind it, too.
    #[must_use]
    pub fn is_of(&self, endpoint: EndpointIndex, address: IpAddr) -> bool {
        if let Some(owner) = self.lookup.by_customer(CustomerAddress(address)) {
            return owner == endpoint;
        }
        let hop = RouteHop::Endpoint(endpoint);
        self.routes.lookup(address).is_some_and(|(_, entry)| entry.leads_to(hop))
    }

    /// Whether `address` is one of the gateway's own in this domain: a default gateway.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        matches!(self.routes.exact(Prefix::host(address)), Some(RouteEntry::Gateway))
    }

    /// The gateway's own addresses in this domain.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let prefixes = self.subnets.iter().flat_map(|subnet| &subnet.prefixes);
        prefixes.map(|prefix| prefix.lowest_host())
    }

    /// The default gateway's address in the subnet that holds `customer`, or the first of that
    /// family: where answers to a tenant come from.
    #[must_use]
    pub fn gateway_towards(&self, customer: IpAddr) -> Option<IpAddr> {
        let prefixes = || self.subnets.iter().flat_map(|subnet| &subnet.prefixes);
        prefixes()
            .find(|prefix| prefix.contains(customer))
            .or_else(|| prefixes().find(|prefix| prefix.is_ipv4() == customer.is_ipv4()))
            .map(|prefix| prefix.lowest_host())
    }
}

impl Subnet {
    /// Whether `address` is a default gateway of this subnet.
    #[must_use]
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.lowest_host() == address)
    }
}
