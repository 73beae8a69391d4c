//! Building snapshots from the plan and the host's network, so that indices and unchanged domains
//! stay what they were.

mod front_end;
mod routes;
mod sites;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use nvgate_deploy::host::{HostView, LinkFacts};
use nvgate_deploy::plan::{DscpMode as PlanDscp, FabricPlan, Plan, TenantPlan};
use nvgate_model::{
    DomainSlot, DropReason, FlowId, Generation, Prefix, Protocol, ProviderAddress, RoutingDomainId,
    Vsid,
};
use nvgate_nat::{Budget, InboundRule, NatConfig, Timeouts};
use nvgate_nvgre::decap::OwnAddresses;
use nvgate_nvgre::ecn::DscpMode;
use nvgate_nvgre::encap::OuterTemplate;
use nvgate_nvgre::lookup::{Endpoint, HostIndex, LookupTable};
use nvgate_nvgre::mtu::tenant_mtu;
use nvgate_nvgre::replicate::ReplicationList;
use nvgate_packet::headers::Family;
use nvgate_packet::rewrite::Socket;

use routes::build_routes;
use sites::{SiteNumbers, routes_up, tunnel_sockets};

use super::upstream::Upstream;
use super::{
    Domain, Fabric, Fib, FrontEnd, FrontEndLink, HopIndex, LearnedChanges, LearnedRoute, Owners,
    ProviderHost, Site, SiteIndex, Snapshot, Speaker, Subnet, TunnelPlace, TunnelSocket,
};
use crate::counters::DomainCounters;

/// Provider addresses that a process remembers.
pub const MAX_HOSTS: usize = 1 << 16;
/// Front-end neighbours that a process remembers; when there are more, those that are gone are
/// forgotten.
pub const MAX_HOPS: usize = 1 << 16;

/// Why there is no snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BuildError {
    /// A link that the plan names does not exist.
    #[error("the {role} link `{link}` does not exist: create it, or name another in gateway.yaml")]
    LinkMissing {
        /// `fabric` or `front_end`.
        role: &'static str,
        /// The link's name.
        link: String,
    },
    /// A record of the plan cannot be looked up by.
    #[error("tenant `{tenant}`: {text}")]
    Tenant {
        /// The tenant.
        tenant: String,
        /// What is wrong.
        text: String,
    },
    /// The gateway's provider addresses cannot be its own.
    #[error("fabric: {0}")]
    Fabric(String),
}

/// A domain as it was last built, and what outlives its rebuilding.
#[derive(Debug)]
struct Known {
    plan: TenantPlan,
    domain: Arc<Domain>,
    /// Which customer routes led somewhere, by their position in the plan.
    routes_up: Vec<bool>,
    budgets: BTreeMap<IpAddr, Arc<Budget>>,
}

/// What compiled entries of all domains depend on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct EpochFacts {
    /// MTU and constant FlowID of each host.
    hosts: Vec<(u16, Option<FlowId>)>,
    front_end: Option<Arc<FrontEndLink>>,
    /// The version of what routers of the front end taught.
    upstream: u64,
    leased: BTreeSet<Ipv4Addr>,
    prefixes: BTreeSet<Prefix>,
}

/// Builds one snapshot after another; each knows what the one before looked like.
#[derive(Debug)]
pub struct SnapshotBuilder {
    workers: u16,
    seed: u64,
    generation: Generation,
    epoch: Generation,
    facts: EpochFacts,
    next_slot: u32,
    known: HashMap<RoutingDomainId, Known>,
    hosts: Vec<ProviderAddress>,
    host_index: HashMap<ProviderAddress, HostIndex>,
    hops: Vec<IpAddr>,
    hop_index: HashMap<IpAddr, HopIndex>,
    sites: SiteNumbers,
    /// What neighbours taught, for domains that have such routes.
    learned: HashMap<RoutingDomainId, BTreeMap<Prefix, LearnedRoute>>,
    /// The domains of which routes changed since the last snapshot.
    touched: BTreeSet<RoutingDomainId>,
    upstream: Upstream,
}

impl SnapshotBuilder {
    /// A builder for a gateway with this many workers.
    #[must_use]
    pub fn new(workers: u16, seed: u64) -> Self {
        Self {
            workers,
            seed,
            generation: Generation(0),
            epoch: Generation(0),
            facts: EpochFacts::default(),
            next_slot: 0,
            known: HashMap::new(),
            hosts: Vec::new(),
            host_index: HashMap::new(),
            hops: Vec::new(),
            hop_index: HashMap::new(),
            sites: SiteNumbers::default(),
            learned: HashMap::new(),
            touched: BTreeSet::new(),
            upstream: Upstream::default(),
        }
    }

    /// What neighbours in a domain teach; the next snapshot has it.
    pub fn learn(&mut self, domain: RoutingDomainId, changes: LearnedChanges) {
        if let Some(known) = self.known.get_mut(&domain) {
            known.domain = Arc::new(learn(&known.domain, &changes));
            self.touched.insert(domain);
        }
        let routes = self.learned.entry(domain).or_default();
        if changes.anew {
            routes.clear();
        }
        for (prefix, route) in changes.routes {
            match route {
                Some(route) => drop(routes.insert(prefix, route)),
                None => drop(routes.remove(&prefix)),
            }
        }
        if routes.is_empty() {
            self.learned.remove(&domain);
        }
    }

    /// The snapshot after `previous`, the last one built, if nothing but what domains learned changed
    /// since.
    pub fn relearned(&mut self, previous: &Snapshot) -> Snapshot {
        let mut next = previous.clone();
        self.generation = self.generation.next();
        next.generation = self.generation;
        for domain in std::mem::take(&mut self.touched) {
            if let Some(known) = self.known.get(&domain)
                && let Some(place) = next.domains.get_mut(known.domain.slot.0 as usize)
            {
                *place = Some(Arc::clone(&known.domain));
            }
        }
        next
    }

    /// What routers of the front end teach; the next snapshot has it.
    pub fn learn_upstream(&mut self, changes: LearnedChanges) {
        self.upstream.learn(changes);
    }

    /// Whether any domain has sites.
    #[must_use]
    pub fn has_sites(&self) -> bool {
        self.known.values().any(|known| !known.domain.sites.is_empty())
    }

    /// Whether the tunnels that a route leads to came up or went down since routes were built.
    #[must_use]
    pub fn sites_changed(&self) -> bool {
        let changed =
            |known: &Known| known.routes_up != routes_up(&known.plan, &known.domain.sites);
        self.known.values().any(changed)
    }

    /// The snapshot of `plan` on a host that looks like `host`.
    ///
    /// # Errors
    ///
    /// A link is missing, or the plan does not hold; domains are then as before.
    pub fn build(&mut self, plan: &Plan, host: &HostView) -> Result<Snapshot, BuildError> {
        let fabric_link = link(host, "fabric", &plan.gateway.fabric.link)?;
        let front_link = link(host, "front_end", &plan.gateway.front_end.link)?;
        self.intern_hosts(plan);
        let fabric = self.build_fabric(&plan.gateway.fabric, fabric_link, host)?;
        let front_end = self.build_front_end(front_link, host);
        self.sites.follow(plan);
        let rebuilt = self.build_domains(plan)?;
        self.advance_epoch(plan, &fabric, &front_end);
        let kept: HashSet<_> = plan.tenants.iter().map(|tenant| tenant.routing_domain).collect();
        self.known.retain(|id, _| kept.contains(id));
        self.learned.retain(|id, _| kept.contains(id));
        self.known.extend(rebuilt);
        self.touched.clear();
        self.generation = self.generation.next();
        Ok(self.assemble(plan, fabric, front_end))
    }

    fn intern_hosts(&mut self, plan: &Plan) {
        let endpoints = plan.tenants.iter().flat_map(|tenant| &tenant.endpoints);
        for &address in endpoints.flat_map(|endpoint| &endpoint.provider_addresses) {
            if self.hosts.len() < MAX_HOSTS && !self.host_index.contains_key(&address) {
                self.host_index.insert(address, HostIndex(self.hosts.len() as u16));
                self.hosts.push(address);
            }
        }
    }

    fn build_fabric(
        &self,
        plan: &FabricPlan,
        link: &LinkFacts,
        host: &HostView,
    ) -> Result<Fabric, BuildError> {
        let own = OwnAddresses::new(plan.provider_addresses.iter().copied())
            .map_err(|error| BuildError::Fabric(error.to_string()))?;
        let hosts = self.hosts.iter().map(|&address| provider_host(plan, link, host, address));
        Ok(Fabric {
            mac: link.mac,
            own,
            dscp: match plan.dscp {
                PlanDscp::Uniform => DscpMode::Uniform,
                PlanDscp::Pipe => DscpMode::Pipe,
            },
            hosts: hosts.collect(),
        })
    }

    /// The domains that are new or changed.
    fn build_domains(&mut self, plan: &Plan) -> Result<Vec<(RoutingDomainId, Known)>, BuildError> {
        let mut rebuilt = Vec::new();
        let mut next_slot = self.next_slot;
        for tenant in &plan.tenants {
            let before = self.known.get(&tenant.routing_domain);
            let unchanged = |before: &Known| {
                before.plan == *tenant
                    && before.routes_up == routes_up(tenant, &before.domain.sites)
            };
            if before.is_some_and(unchanged) {
                continue;
            }
            let slot = match before {
                Some(before) => before.domain.slot,
                None => {
                    next_slot += 1;
                    DomainSlot(next_slot - 1)
                }
            };
            let sites = self.sites.build(tenant, before);
            rebuilt.push((tenant.routing_domain, self.build_domain(tenant, slot, before, sites)?));
        }
        self.next_slot = next_slot;
        Ok(rebuilt)
    }

    fn build_domain(
        &self,
        plan: &TenantPlan,
        slot: DomainSlot,
        before: Option<&Known>,
        sites: Vec<Site>,
    ) -> Result<Known, BuildError> {
        let routes_up = routes_up(plan, &sites);
        let lookup = self.build_lookup(plan)?;
        let mut routes = build_routes(plan, &lookup, &routes_up)?;
        let learned = self.learned.get(&plan.routing_domain).into_iter().flatten();
        routes.learn(&lookup, learned.map(|(prefix, route)| (*prefix, Some(route))));
        let mut budgets = BTreeMap::new();
        for customer in plan.endpoints.iter().flat_map(|endpoint| &endpoint.customer_addresses) {
            let limit = plan.limits.sessions_per_customer;
            let budget = before
                .and_then(|before| before.budgets.get(&customer.ip()).cloned())
                .unwrap_or_else(|| Arc::new(Budget::new(limit)));
            budget.set_limit(limit);
            budgets.insert(customer.ip(), budget);
        }
        let sessions = match before {
            Some(before) => Arc::clone(&before.domain.sessions),
            None => Arc::new(Budget::new(plan.limits.sessions)),
        };
        sessions.set_limit(plan.limits.sessions);
        let endpoint_budgets = plan.endpoints.iter().filter_map(|endpoint| {
            let customers = &endpoint.customer_addresses;
            let customer = customers.iter().find(|customer| customer.ip().is_ipv4());
            budgets.get(&customer.or(customers.first())?.ip()).cloned()
        });
        let customer_sessions = budgets.iter().filter_map(|(address, budget)| match address {
            IpAddr::V4(v4) => Some((*v4, Arc::clone(budget))),
            IpAddr::V6(_) => None,
        });
        let domain = Domain {
            slot,
            generation: before.map_or(Generation::FIRST, |before| before.domain.generation.next()),
            tenant: plan.name.clone(),
            id: plan.routing_domain,
            subnets: build_subnets(plan, &lookup),
            routes,
            nat: build_nat(plan, before),
            front_end_prefixes: plan.front_end_prefixes.clone().into(),
            sessions,
            endpoint_sessions: endpoint_budgets.collect(),
            customer_sessions: Arc::new(customer_sessions.collect()),
            interest: before
                .map_or_else(Arc::default, |before| Arc::clone(&before.domain.interest)),
            punts_per_sec: plan.limits.punts_per_sec,
            replications_per_sec: plan.limits.replications_per_sec,
            counters: match before {
                Some(before) => Arc::clone(&before.domain.counters),
                None => (0..self.workers).map(|_| DomainCounters::default()).collect(),
            },
            lookup: Arc::new(lookup),
            sites: sites.into(),
        };
        let domain = Arc::new(domain);
        Ok(Known { plan: plan.clone(), domain, routes_up, budgets })
    }

    fn build_lookup(&self, plan: &TenantPlan) -> Result<LookupTable, BuildError> {
        let refuse = |text: String| BuildError::Tenant { tenant: plan.name.to_string(), text };
        let mut builder = LookupTable::builder(self.seed);
        for record in &plan.endpoints {
            let hosts: Vec<HostIndex> = record
                .provider_addresses
                .iter()
                .filter_map(|address| self.host_index.get(address).copied())
                .collect();
            let endpoint = Endpoint::new(record.mac, record.vsid, &hosts)
                .map_err(|error| refuse(error.to_string()))?;
            builder
                .add(endpoint, &record.customer_addresses)
                .map_err(|error| refuse(error.to_string()))?;
        }
        Ok(builder.build())
    }

    fn advance_epoch(&mut self, plan: &Plan, fabric: &Fabric, front_end: &FrontEnd) {
        let nats = plan.tenants.iter().filter_map(|tenant| tenant.nat.as_ref());
        let facts = EpochFacts {
            hosts: fabric.hosts.iter().map(|host| (host.mtu, host.constant_flow)).collect(),
            front_end: Some(Arc::clone(&front_end.link)),
            upstream: self.upstream.version,
            leased: nats
                .flat_map(|nat| &nat.addresses)
                .filter_map(|lease| v4(lease.ip()))
                .collect(),
            prefixes: plan
                .tenants
                .iter()
                .flat_map(|tenant| tenant.front_end_prefixes.iter().copied())
                .collect(),
        };
        if facts != self.facts {
            self.facts = facts;
            self.epoch = self.epoch.next();
        }
    }

    fn assemble(&self, plan: &Plan, fabric: Fabric, front_end: FrontEnd) -> Snapshot {
        let mut domains = vec![None; self.next_slot as usize];
        let mut vsids: HashMap<Vsid, (DomainSlot, u16)> = HashMap::new();
        let mut sockets: HashMap<SocketAddr, Arc<TunnelSocket>> = HashMap::new();
        let mut tunnels = HashMap::new();
        let mut public_v4 = HashMap::new();
        let mut public_prefixes = Fib::default();
        for known in self.known.values() {
            let slot = known.domain.slot;
            for (index, subnet) in known.domain.subnets.iter().enumerate() {
                vsids.insert(subnet.vsid, (slot, index as u16));
            }
            if let Some(nat) = &known.domain.nat {
                public_v4.extend(nat.addresses().iter().map(|&address| (address, slot)));
            }
            for &prefix in &*known.domain.front_end_prefixes {
                public_prefixes.insert(prefix, slot);
            }
            sockets.extend(tunnel_sockets(&known.plan, slot, &known.domain.sites));
            for (site, index) in known.domain.sites.iter().zip((0..).map(SiteIndex)) {
                tunnels.extend(site.tunnels.iter().enumerate().map(|(position, tunnel)| {
                    (tunnel.index, TunnelPlace { domain: slot, site: index, position })
                }));
            }
            domains[slot.0 as usize] = Some(Arc::clone(&known.domain));
        }
        let mut addresses: HashMap<IpAddr, DomainSlot> = HashMap::new();
        for (socket, spec) in &sockets {
            let first = addresses.entry(socket.ip()).or_insert(spec.domain);
            *first = (*first).min(spec.domain);
        }
        let pools = plan.gateway.front_end.pools.iter();
        Snapshot {
            generation: self.generation,
            epoch: self.epoch,
            workers: self.workers,
            gateway_mac: plan.gateway.gateway_mac,
            fabric: Arc::new(fabric),
            front_end: Arc::new(front_end),
            pools: pools.flat_map(|pool| pool.prefixes.iter().copied()).collect(),
            domains,
            owners: Arc::new(Owners {
                vsids,
                tunnel_addresses: addresses,
                tunnel_sockets: sockets,
                tunnels,
                public_v4,
                public_prefixes,
            }),
        }
    }
}

/// The domain with other routes.
fn learn(domain: &Domain, changes: &LearnedChanges) -> Domain {
    let mut routes = domain.routes.clone();
    if changes.anew {
        routes.forget();
    }
    let changes = changes.routes.iter().map(|(prefix, route)| (*prefix, route.as_ref()));
    routes.learn(&domain.lookup, changes);
    Domain { generation: domain.generation.next(), routes, ..domain.clone() }
}

fn link<'h>(
    host: &'h HostView,
    role: &'static str,
    name: &str,
) -> Result<&'h LinkFacts, BuildError> {
    host.links.get(name).ok_or_else(|| BuildError::LinkMissing { role, link: name.to_owned() })
}

const fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn clamp_mtu(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

fn provider_host(
    plan: &FabricPlan,
    link: &LinkFacts,
    host: &HostView,
    address: ProviderAddress,
) -> ProviderHost {
    let own =
        plan.provider_addresses.iter().find(|own| own.ip().is_ipv4() == address.ip().is_ipv4());
    let family = if address.ip().is_ipv4() { Family::V4 } else { Family::V6 };
    let route = host.route(link.index, address.ip());
    let next = route.and_then(|route| route.gateway).unwrap_or(address.ip());
    let neighbour = host.neighbours.get(&(link.index, next));
    let template = match (own, route, neighbour) {
        (Some(&own), Some(_), Some(neighbour)) => {
            OuterTemplate::new(link.mac, neighbour.mac, own, address)
                .map_err(|_| DropReason::FabricNoRoute)
        }
        (Some(_), Some(_), None) => Err(DropReason::FabricUnresolved),
        (_, None, _) | (None, _, _) => Err(DropReason::FabricNoRoute),
    };
    let mtu = route.and_then(|route| route.mtu).unwrap_or(link.mtu).min(link.mtu);
    ProviderHost {
        address,
        next,
        template,
        constant_flow: plan
            .constant_flow
            .iter()
            .find(|(constant, _)| *constant == address)
            .map(|&(_, flow)| flow),
        mtu: clamp_mtu(tenant_mtu(mtu, family)),
    }
}

fn build_subnets(plan: &TenantPlan, lookup: &LookupTable) -> Arc<[Subnet]> {
    let subnets = plan.subnets.iter().map(|subnet| Subnet {
        name: subnet.name.clone(),
        vsid: subnet.vsid,
        prefixes: subnet.prefixes.clone(),
        replicas: ReplicationList::new(
            lookup.endpoints().iter().filter(|endpoint| endpoint.vsid() == subnet.vsid),
        ),
    });
    subnets.collect()
}

/// The tenant's NAT; the same `Arc` as before when nothing of it changed.
fn build_nat(plan: &TenantPlan, before: Option<&Known>) -> Option<Arc<NatConfig>> {
    let nat = plan.nat.as_ref()?;
    let addresses: Vec<Ipv4Addr> =
        nat.addresses.iter().filter_map(|address| v4(address.ip())).collect();
    let inbound: Vec<InboundRule> = nat
        .inbound
        .iter()
        .filter_map(|rule| {
            Some(InboundRule {
                protocol: rule.protocol,
                public: Socket::new(v4(rule.public_address.ip())?, rule.public_port),
                count: rule.port_count,
                customer: Socket::new(v4(rule.customer_address.ip())?, rule.customer_port),
            })
        })
        .collect();
    let timeouts = Timeouts {
        tcp_established_secs: nat.timeouts.tcp_established_secs,
        tcp_transitory_secs: nat.timeouts.tcp_transitory_secs,
        udp_secs: nat.timeouts.udp_secs,
        icmp_secs: nat.timeouts.icmp_secs,
    };
    let reserved = nat
        .reserved_udp
        .iter()
        .filter_map(|&(address, port)| Some((Protocol::Udp, Socket::new(v4(address.ip())?, port))));
    let config = NatConfig::new(&addresses, &inbound, timeouts).reserving(reserved);
    match before.and_then(|before| before.domain.nat.as_ref()) {
        Some(unchanged) if **unchanged == config => Some(Arc::clone(unchanged)),
        Some(_) | None => Some(Arc::new(config)),
    }
}

impl Domain {
    /// The session budget of a customer address: its own, or that of the endpoint or site that
    /// forwards for it.
    #[must_use]
    pub fn customer_budget(&self, customer: Ipv4Addr, speaker: Speaker) -> Option<&Arc<Budget>> {
        match speaker {
            Speaker::Endpoint(endpoint) => self
                .customer_sessions
                .get(&customer)
                .or_else(|| self.endpoint_sessions.get(endpoint.0 as usize)),
            Speaker::Site(site) => self.site(site).map(|site| &site.sessions),
        }
    }
}
