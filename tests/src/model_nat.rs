//! The naive model's NAT: one list of mappings and one of sessions, for all tenants and workers.
//!
//! Endpoint-independent mapping, address-dependent filtering, budgets, TCP's three lifetimes.
//! After a reset a session's lifetime depends on what the gateway happened to look at, so it is
//! known only to lie between two bounds.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use nvgate_deploy::plan::{InboundRulePlan, NatTimeouts, Plan, TenantPlan};
use nvgate_model::{DropReason, RoutingDomainId};

use crate::frames::{Body, Packet, flags};
use crate::model::Shape;

/// Ticks in a second.
const SECOND: u64 = 10;
/// A session may live on for so many ticks behind its end.
const SLACK: u64 = 12;
/// How long later fragments may follow the first, in ticks.
const DATAGRAM: u64 = 150;

/// A customer's or a public socket.
pub type Socket = (Ipv4Addr, u16);

/// A tenant and an IANA protocol number.
pub type NatKey = (RoutingDomainId, u8);

#[derive(Clone, Debug)]
struct Mapping {
    key: NatKey,
    customer: Socket,
    /// Unknown until a packet left from it.
    public: Option<Socket>,
    by_rule: bool,
}

#[derive(Clone, Debug)]
struct Session {
    mapping: u64,
    remote: Socket,
    sent: bool,
    /// Alive until here,
    surely_until: u64,
    /// and perhaps until here.
    perhaps_until: u64,
    syn: [bool; 2],
    fin: [bool; 2],
    was_reset: bool,
}

/// Which fragments belong together: the way, both addresses, identification.
type DatagramKey = (RoutingDomainId, bool, IpAddr, IpAddr, u16);

/// NAT of all tenants.
#[derive(Clone, Debug)]
pub struct Nat {
    workers: u16,
    next: u64,
    mappings: BTreeMap<u64, Mapping>,
    sessions: Vec<Session>,
    /// What the first fragment was told: the mapping out, the customer socket in.
    outbound_datagrams: BTreeMap<DatagramKey, (u64, u64)>,
    inbound_datagrams: BTreeMap<DatagramKey, (u64, Socket)>,
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => panic!("{v6} has no NAT"),
    }
}

fn rules(tenant: &TenantPlan, protocol: u8) -> impl Iterator<Item = &InboundRulePlan> {
    let rules = tenant.nat.iter().flat_map(|nat| &nat.inbound);
    rules.filter(move |rule| rule.protocol.number() == protocol)
}

/// The customer socket that a rule gives a public one to.
fn rule_by_public(tenant: &TenantPlan, protocol: u8, public: Socket) -> Option<Socket> {
    rules(tenant, protocol).find_map(|rule| {
        let offset = public.1.checked_sub(rule.public_port)?;
        let fits = v4(rule.public_address.ip()) == public.0 && offset < rule.port_count;
        fits.then(|| (v4(rule.customer_address.ip()), rule.customer_port + offset))
    })
}

/// The public socket of the first rule for a customer socket.
fn rule_by_customer(tenant: &TenantPlan, protocol: u8, customer: Socket) -> Option<Socket> {
    rules(tenant, protocol).find_map(|rule| {
        let offset = customer.1.checked_sub(rule.customer_port)?;
        let fits = v4(rule.customer_address.ip()) == customer.0 && offset < rule.port_count;
        fits.then(|| (v4(rule.public_address.ip()), rule.public_port + offset))
    })
}

fn tcp_flags(packet: &Packet) -> u8 {
    match packet.body {
        Body::Tcp { flags, .. } => flags,
        _ => 0,
    }
}

fn begins(flags: u8) -> bool {
    flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN
}

impl Session {
    fn open(mapping: u64, remote: Socket) -> Self {
        Self {
            mapping,
            remote,
            sent: false,
            surely_until: 0,
            perhaps_until: 0,
            syn: [false; 2],
            fin: [false; 2],
            was_reset: false,
        }
    }

    fn until(&mut self, tick: u64) {
        (self.surely_until, self.perhaps_until) = (tick, tick + SLACK);
    }

    fn handle(&mut self, now: u64, key: NatKey, inbound: bool, flags: u8, timeouts: &NatTimeouts) {
        let after = |secs: u32| now + u64::from(secs) * SECOND;
        let fresh = self.perhaps_until == 0;
        match key.1 {
            6 => self.handle_tcp(now, usize::from(inbound), flags, timeouts),
            // Inbound packets keep nothing alive.
            17 if fresh || !inbound => self.until(after(timeouts.udp_secs)),
            1 if fresh || !inbound => self.until(after(timeouts.icmp_secs)),
            _ => {}
        }
    }

    fn handle_tcp(&mut self, now: u64, way: usize, flags: u8, timeouts: &NatTimeouts) {
        let established = now + u64::from(timeouts.tcp_established_secs) * SECOND;
        let transitory = now + u64::from(timeouts.tcp_transitory_secs) * SECOND;
        let is_open = self.syn == [true; 2];
        let is_closed = self.fin == [true; 2];
        if self.was_reset || flags & flags::RST != 0 {
            if begins(flags) || (is_open && !is_closed && !self.was_reset) {
                self.surely_until = transitory;
            }
            self.was_reset = true;
            self.perhaps_until = self.perhaps_until.max(established + SLACK);
            return;
        }
        if is_closed && begins(flags) {
            (self.syn, self.fin) = ([false; 2], [false; 2]);
        } else if is_closed {
            return;
        }
        self.syn[way] |= flags & flags::SYN != 0;
        self.fin[way] |= flags & flags::FIN != 0;
        if self.fin == [true; 2] {
            self.until(transitory);
        } else if self.syn == [true; 2] {
            self.until(established);
        } else if flags & flags::SYN != 0 {
            self.until(transitory);
        }
    }
}

impl Nat {
    pub(crate) const fn new(workers: u16) -> Self {
        Self {
            workers,
            next: 0,
            mappings: BTreeMap::new(),
            sessions: Vec::new(),
            outbound_datagrams: BTreeMap::new(),
            inbound_datagrams: BTreeMap::new(),
        }
    }

    pub(crate) fn is_ambiguous(&self, now: u64) -> bool {
        self.sessions
            .iter()
            .any(|session| session.surely_until <= now + 1 && now < session.perhaps_until)
    }

    /// Forgets what is over.
    fn expire(&mut self, now: u64) {
        self.sessions.retain(|session| now < session.perhaps_until);
        self.sweep();
    }

    /// A mapping goes with its last session.
    fn sweep(&mut self) {
        let sessions = &self.sessions;
        self.mappings.retain(|id, _| sessions.iter().any(|session| session.mapping == *id));
    }

    pub(crate) fn reload(&mut self, plan: &Plan) {
        self.outbound_datagrams.clear();
        self.inbound_datagrams.clear();
        let stays = |mapping: &Mapping| {
            let (domain, protocol) = mapping.key;
            let tenant = plan.tenants.iter().find(|tenant| tenant.routing_domain == domain);
            let Some(tenant) = tenant else { return false };
            let Some(nat) = &tenant.nat else { return false };
            let Some(public) = mapping.public else { return true };
            let rule = rule_by_public(tenant, protocol, public);
            if mapping.by_rule {
                rule == Some(mapping.customer)
            } else {
                rule.is_none() && nat.addresses.iter().any(|lease| lease.ip() == public.0)
            }
        };
        self.mappings.retain(|_, mapping| stays(mapping));
        let mappings = &self.mappings;
        self.sessions.retain(|session| mappings.contains_key(&session.mapping));
        for session in &mut self.sessions {
            if mappings[&session.mapping].public.is_none() {
                // Whether its address is gone, nobody saw.
                session.surely_until = 0;
            }
        }
    }

    pub(crate) fn public(&self, mapping: u64) -> Option<Socket> {
        self.mappings.get(&mapping)?.public
    }

    /// Public sockets in use, with tenant, protocol and customer.
    pub fn in_use(&self) -> impl Iterator<Item = (NatKey, Socket, Socket)> {
        let known = self.mappings.values();
        known.filter_map(|mapping| Some((mapping.key, mapping.customer, mapping.public?)))
    }

    fn session(&self, key: NatKey, customer: Socket, remote: Socket) -> Option<usize> {
        self.sessions.iter().position(|session| {
            let mapping = &self.mappings[&session.mapping];
            mapping.key == key && mapping.customer == customer && session.remote == remote
        })
    }

    /// Whether budgets allow one more session.
    fn may_open(&self, tenant: &TenantPlan, customer: Ipv4Addr) -> Result<(), DropReason> {
        let of_tenant =
            |session: &&Session| self.mappings[&session.mapping].key.0 == tenant.routing_domain;
        let all = self.sessions.iter().filter(of_tenant);
        if all.clone().count() >= tenant.limits.sessions as usize {
            return Err(DropReason::NatTenantSessions);
        }
        let own = all.filter(|session| self.mappings[&session.mapping].customer.0 == customer);
        if own.count() >= tenant.limits.sessions_per_customer as usize {
            return Err(DropReason::NatCustomerSessions);
        }
        Ok(())
    }

    fn insert(&mut self, mapping: Mapping) -> u64 {
        self.next += 1;
        self.mappings.insert(self.next, mapping);
        self.next
    }

    /// The mapping that a packet from the tenant leaves by.
    pub(crate) fn outbound(
        &mut self,
        now: u64,
        tenant: &TenantPlan,
        packet: &Packet,
        shape: Shape,
    ) -> Result<u64, DropReason> {
        self.expire(now);
        let key = (tenant.routing_domain, packet.protocol());
        let id = (key.0, true, packet.source, packet.destination, packet.identification);
        if let Shape::Fragment { index: 1.., .. } = shape {
            let told = self.outbound_datagrams.get(&id).filter(|told| now < told.0);
            return told.map(|told| told.1).ok_or(DropReason::FragmentOrphan);
        }
        let (from, to) = packet.ports();
        let customer = (v4(packet.source), from);
        let remote = (v4(packet.destination), to);
        let flags = tcp_flags(packet);
        if matches!(packet.body, Body::Echo { reply: true, .. }) {
            return Err(DropReason::NatNoSession);
        }
        let index = match self.session(key, customer, remote) {
            Some(index) => index,
            None => {
                if key.1 == 6 && !begins(flags) {
                    return Err(DropReason::NatNoSession);
                }
                self.may_open(tenant, customer.0)?;
                let mapping = self.mapping_of(tenant, key, customer);
                self.sessions.push(Session::open(mapping, remote));
                self.sessions.len() - 1
            }
        };
        let timeouts = tenant.nat.as_ref().expect("the caller asked").timeouts;
        let session = &mut self.sessions[index];
        session.sent = true;
        session.handle(now, key, false, flags, &timeouts);
        let mapping = session.mapping;
        if let Shape::Fragment { .. } = shape {
            self.outbound_datagrams.insert(id, (now + DATAGRAM, mapping));
        }
        Ok(mapping)
    }

    fn mapping_of(&mut self, tenant: &TenantPlan, key: NatKey, customer: Socket) -> u64 {
        let published = rule_by_customer(tenant, key.1, customer);
        let same = |mapping: &Mapping| match published {
            Some(public) => mapping.key == key && mapping.public == Some(public),
            None => mapping.key == key && mapping.customer == customer && !mapping.by_rule,
        };
        if let Some((&id, _)) = self.mappings.iter().find(|(_, mapping)| same(mapping)) {
            return id;
        }
        let by_rule = published.is_some();
        self.insert(Mapping { key, customer, public: published, by_rule })
    }

    /// The customer socket that a packet from the front end goes to.
    pub(crate) fn inbound(
        &mut self,
        now: u64,
        tenant: &TenantPlan,
        packet: &Packet,
        shape: Shape,
    ) -> Result<Socket, DropReason> {
        self.expire(now);
        let key = (tenant.routing_domain, packet.protocol());
        let id = (key.0, false, packet.source, packet.destination, packet.identification);
        if let Shape::Fragment { index: 1.., .. } = shape {
            let told = self.inbound_datagrams.get(&id).filter(|told| now < told.0);
            return told.map(|told| told.1).ok_or(DropReason::FragmentOrphan);
        }
        let (from, to) = packet.ports();
        let (remote, public) = ((v4(packet.source), from), (v4(packet.destination), to));
        let flags = tcp_flags(packet);
        if matches!(packet.body, Body::Echo { reply: false, .. }) {
            return Err(DropReason::NatNoMapping);
        }
        let ruled = rule_by_public(tenant, key.1, public);
        let is_target = |mapping: &Mapping| mapping.key == key && mapping.public == Some(public);
        let target = self.mappings.iter().find(|(_, one)| is_target(one)).map(|(&id, _)| id);
        let customer = match (ruled, target) {
            (Some(customer), _) => customer,
            (None, Some(target)) => self.mappings[&target].customer,
            (None, None) => return Err(DropReason::NatNoMapping),
        };
        let index = match self.session(key, customer, remote) {
            Some(index) if self.public(self.sessions[index].mapping) != Some(public) => {
                return Err(DropReason::NatFiltered);
            }
            Some(index) => index,
            None => {
                let spoken_to = |session: &Session| {
                    Some(session.mapping) == target && session.sent && session.remote.0 == remote.0
                };
                if ruled.is_none() && !self.sessions.iter().any(spoken_to) {
                    return Err(DropReason::NatFiltered);
                }
                if key.1 == 6 && !begins(flags) {
                    return Err(DropReason::NatNoSession);
                }
                self.may_open(tenant, customer.0)?;
                let has_record = tenant.endpoints.iter().any(|endpoint| {
                    endpoint.customer_addresses.iter().any(|one| one.ip() == customer.0)
                });
                if !has_record {
                    return Err(DropReason::UnknownCustomer);
                }
                let mapping = target.unwrap_or_else(|| {
                    self.insert(Mapping { key, customer, public: Some(public), by_rule: true })
                });
                self.sessions.push(Session::open(mapping, remote));
                self.sessions.len() - 1
            }
        };
        let timeouts = tenant.nat.as_ref().expect("the address is leased").timeouts;
        self.sessions[index].handle(now, key, true, flags, &timeouts);
        if let Shape::Fragment { .. } = shape {
            self.inbound_datagrams.insert(id, (now + DATAGRAM, customer));
        }
        Ok(customer)
    }

    pub(crate) fn learn(
        &mut self,
        plan: &Plan,
        mapping: u64,
        public: Socket,
        worker: usize,
    ) -> Result<(), String> {
        let Some(known) = self.mappings.get(&mapping) else {
            return Err(format!("mapping {mapping} is over"));
        };
        if let Some(expected) = known.public {
            let same = expected == public;
            return same.then_some(()).ok_or(format!("{public:?} and not {expected:?}"));
        }
        let (domain, protocol) = known.key;
        let tenant = plan.tenants.iter().find(|tenant| tenant.routing_domain == domain);
        let tenant = tenant.ok_or("the tenant is gone")?;
        let addresses = tenant.nat.iter().flat_map(|nat| &nat.addresses);
        let other = self
            .mappings
            .values()
            .find(|other| other.key.1 == protocol && other.public == Some(public));
        if let Some(other) = other {
            return Err(format!("{public:?} has two owners: {known:?} and {other:?}"));
        }
        if !addresses.into_iter().any(|lease| lease.ip() == public.0)
            || public.1 < 1024
            || rule_by_public(tenant, protocol, public).is_some()
        {
            return Err(format!("{public:?} may not be lent"));
        }
        let owner = usize::from(public.1 / 256 % self.workers);
        if owner != worker {
            return Err(format!("port {} is worker {owner}'s, not {worker}'s", public.1));
        }
        self.mappings.get_mut(&mapping).expect("just found").public = Some(public);
        Ok(())
    }
}
