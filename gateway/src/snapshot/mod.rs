//! What workers forward by: an immutable picture of the plan and of the host's network.
//!
//! Control builds a snapshot and publishes it; a worker loads it once a batch, so that a packet
//! sees one configuration. A customer address is looked up only inside a [`Domain`], which is
//! selected first: by VSID, or by the leased front-end address.

mod build;
mod fabric;
mod fib;
mod front_end;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nvgate_model::{DomainSlot, Generation, MacAddress, Prefix, RoutingDomainId, TenantName, Vsid};
use nvgate_nat::{Budget, NatConfig};
use nvgate_nvgre::lookup::{EndpointIndex, LookupTable};
use nvgate_nvgre::replicate::ReplicationList;

pub use build::{BuildError, SnapshotBuilder};
pub use fabric::{Fabric, ProviderHost};
pub use fib::Fib;
pub use front_end::{FrontEnd, HopIndex, NextHop};

use crate::counters::DomainCounters;

/// Everything a worker needs to forward packets.
#[derive(Debug)]
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
    pub fabric: Fabric,
    /// The front-end port.
    pub front_end: FrontEnd,
    /// The pools that front-end addresses are leased from.
    pub pools: Vec<Prefix>,
    domains: Vec<Option<Arc<Domain>>>,
    vsids: HashMap<Vsid, (DomainSlot, u16)>,
    public_v4: HashMap<Ipv4Addr, DomainSlot>,
    public_prefixes: Fib<DomainSlot>,
}

/// A routing domain: a place in which customer addresses mean something.
#[derive(Debug)]
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
    pub subnets: Vec<Subnet>,
    /// Its lookup records.
    pub lookup: LookupTable,
    /// Its routes.
    pub fib: Fib<RouteEntry>,
    /// NAT, when the tenant has it.
    pub nat: Option<Arc<NatConfig>>,
    /// Prefixes routed to the front end untranslated.
    pub front_end_prefixes: Vec<Prefix>,
    /// The tenant's NAT sessions over all workers.
    pub sessions: Arc<Budget>,
    /// NAT sessions of each endpoint, by its index.
    endpoint_sessions: Vec<Arc<Budget>>,
    /// NAT sessions of each customer address with a lookup record.
    customer_sessions: HashMap<Ipv4Addr, Arc<Budget>>,
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

/// What a route of a domain leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteEntry {
    /// The subnet with this position: the destination has a lookup record of its own, or none.
    Subnet(u16),
    /// The endpoint that forwards further.
    Via(EndpointIndex),
    /// Dropped.
    Blackhole,
    /// One of the gateway's own addresses.
    Gateway,
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
        let &(slot, subnet) = self.vsids.get(&vsid)?;
        let domain = self.domain(slot)?;
        Some((domain, domain.subnets.get(usize::from(subnet))?))
    }

    /// The domain that a front-end address is leased to, or whose front-end prefix holds it.
    #[must_use]
    pub fn by_front_end(&self, address: IpAddr) -> Option<&Domain> {
        let slot = match address {
            IpAddr::V4(v4) => *self.public_v4.get(&v4)?,
            IpAddr::V6(_) => *self.public_prefixes.lookup(address)?.1,
        };
        self.domain(slot)
    }

    /// Whether an address belongs to a front-end pool, leased or not.
    #[must_use]
    pub fn is_pooled(&self, address: IpAddr) -> bool {
        self.pools.iter().any(|pool| pool.contains(address))
    }

    /// Every leased IPv4 address and its domain, in no order.
    pub fn leased_v4(&self) -> impl Iterator<Item = (Ipv4Addr, DomainSlot)> {
        self.public_v4.iter().map(|(&address, &slot)| (address, slot))
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
