//! The NAT itself: packets in, what they should carry out, and the life of sessions.
//!
//! Every session belongs to one mapping and is found by (protocol, customer socket, remote socket),
//! whichever way a packet goes. A remote socket that talks to one customer socket through one
//! public socket cannot talk to it through another at the same time: the customer's replies could
//! not be told apart. Such packets are filtered.

use std::borrow::Borrow;
use std::net::Ipv4Addr;
use std::sync::Arc;

use nvgate_model::{DropReason, Protocol, Tick};
use nvgate_packet::flow_key::hash_words;
use nvgate_packet::rewrite::Socket;

use crate::config::NatConfig;
use crate::expiry::{Allowance, Links, Ring};
use crate::filter::Filter;
use crate::limits::{Budget, Reservation};
use crate::mapping::{Mapping, Origin};
use crate::pool::{Pool, PortUsage, WorkerShare};
use crate::publish::socket_key;
use crate::session::{Seen, Sent, Session, SessionIndex, SessionView, State, flow_key};
use crate::slab::Slab;
use crate::table::Table;
use crate::tcp_state::{self, Direction, Phase};

/// The salt of the pool's seed.
const PORTS: u64 = 0x706f_7274;

/// What a packet says about its flow, as it carries it. Of an ICMP echo request the source port is
/// the identifier, of a reply the destination port; the other port is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// The protocol.
    pub protocol: Protocol,
    /// The sender's socket.
    pub source: Socket,
    /// The receiver's socket.
    pub destination: Socket,
    /// The low eight flags of a TCP header; 0 for other protocols.
    pub tcp_flags: u8,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The session it belongs to.
    pub session: SessionIndex,
    /// The source socket it should carry.
    pub source: Socket,
    /// The destination socket it should carry.
    pub destination: Socket,
    /// Whether later packets of the session, either way, without SYN, FIN and RST may be forwarded
    /// by a compiled entry without asking again.
    pub compile: bool,
}

/// How much of a `Nat` is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Live sessions.
    pub sessions: usize,
    /// Mappings with a port of the pool: as many as ports in use.
    pub mappings: usize,
    /// Public sockets of inbound rules that have sessions.
    pub published: usize,
    /// Echo identifiers.
    pub icmp: PortUsage,
    /// TCP ports.
    pub tcp: PortUsage,
    /// UDP ports.
    pub udp: PortUsage,
}

/// NAT44 of one tenant on one worker.
#[derive(Debug)]
pub struct Nat {
    config: Arc<NatConfig>,
    pool: Pool,
    max_sessions: usize,
    sessions: Slab<Session>,
    by_flow: Table<(u64, u64), u32>,
    mappings: Slab<Mapping>,
    /// Mappings of the pool by customer socket; inbound rules are found in the configuration.
    by_customer: Table<u64, u32>,
    /// All mappings by public socket.
    by_public: Table<u64, u32>,
    filter: Filter,
    ring: Ring,
    published: usize,
}

impl Nat {
    /// A NAT without sessions. `max_sessions` bounds its tables, and `seed` decides which ports it
    /// lends and how it hashes: whoever does not know it can predict neither.
    #[must_use]
    pub fn new(config: Arc<NatConfig>, share: WorkerShare, seed: u64, max_sessions: usize) -> Self {
        Self {
            // Ports are seen by everyone: they must say nothing about how tables hash.
            pool: Pool::new(&config, share, hash_words(seed, PORTS, seed)),
            config,
            max_sessions,
            sessions: Slab::new(),
            by_flow: Table::new(seed),
            mappings: Slab::new(),
            by_customer: Table::new(seed),
            by_public: Table::new(seed),
            filter: Filter::new(seed),
            ring: Ring::new(),
            published: 0,
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Arc<NatConfig> {
        &self.config
    }

    /// Takes over a new configuration and returns how many sessions that closed: those whose
    /// public address or inbound rule is gone, and those whose public port is claimed now. All
    /// others go on, with the new timeouts. Costs a look at every session when rules changed,
    /// addresses went or timeouts changed, and nothing a session otherwise.
    pub fn reconfigure(&mut self, config: Arc<NatConfig>) -> usize {
        let old = std::mem::replace(&mut self.config, config);
        let recheck = !old.keeps_mappings(&self.config);
        let before = self.sessions.len();
        if recheck || old.timeouts() != self.config.timeouts() {
            for index in 0..self.sessions.end() {
                if !self.sessions.contains(index) {
                    continue;
                }
                if recheck && !self.is_configured(self.sessions[index].mapping) {
                    self.ring.disarm(&mut self.sessions, index);
                    self.close(index);
                } else {
                    let deadline = self.sessions[index].deadline(&self.config.timeouts());
                    self.ring.hasten(&mut self.sessions, index, deadline);
                }
            }
        }
        self.pool.configure(&self.config);
        before - self.sessions.len()
    }

    fn is_configured(&self, mapping: u32) -> bool {
        let mapping = &self.mappings[mapping];
        let rule = self.config.inbound_rule(mapping.protocol, mapping.public);
        match mapping.origin {
            Origin::Rule => rule == Some(mapping.customer),
            Origin::Pool => {
                rule.is_none()
                    && self.config.owns(mapping.public.address)
                    && !self.config.is_reserved(mapping.protocol, mapping.public)
            }
        }
    }

    /// Translates a packet from the tenant to the front end. `customer` is the budget of the
    /// packet's source address.
    ///
    /// A packet without a session opens one: of UDP any, of TCP a SYN, of ICMP an echo request.
    ///
    /// # Errors
    ///
    /// `NatNoSession` for a packet that neither has nor opens a session; `NatTableFull`,
    /// `NatTenantSessions`, `NatCustomerSessions` and `NatNoPort` when one of these is exhausted.
    pub fn outbound(
        &mut self,
        now: Tick,
        flow: &Flow,
        tenant: &Arc<Budget>,
        customer: &Arc<Budget>,
    ) -> Result<Translation, DropReason> {
        let Flow { protocol, source, destination: remote, tcp_flags } = *flow;
        if protocol == Protocol::Icmp && remote.port != 0 {
            // A reply: requests are not let in, so none was asked for.
            return Err(DropReason::NatNoSession);
        }
        let index = match self.by_flow.lookup(flow_key(protocol, source, remote)) {
            Some(index) => {
                self.handle(now, index, Direction::Outbound, tcp_flags);
                index
            }
            None => {
                may_open(flow)?;
                let reservations = self.reserve(tenant, || Ok(customer))?;
                let mapping = self.mapping_of(protocol, source)?;
                let state = State::opened(protocol, Direction::Outbound);
                self.open(now, mapping, remote, state, reservations)
            }
        };
        self.note_sent(index);
        let public = self.mappings[self.sessions[index].mapping].public;
        Ok(self.translation(index, public, remote))
    }

    /// Translates a packet from the front end to the tenant. `customer` finds the budget of a
    /// customer address when the packet opens a session.
    ///
    /// # Errors
    ///
    /// `NatNoMapping` when nothing has this public socket (echo requests always);
    /// `NatFiltered` when the mapping has not sent to this remote address, or when the remote
    /// socket already talks to the customer socket through another public socket; `NatNoSession`
    /// for a TCP packet that neither has nor opens a session; `UnknownCustomer` when `customer`
    /// knows no budget; `NatTableFull`, `NatTenantSessions` and `NatCustomerSessions` when one of
    /// these is exhausted.
    pub fn inbound(
        &mut self,
        now: Tick,
        flow: &Flow,
        tenant: &Arc<Budget>,
        customer: impl FnOnce(Ipv4Addr) -> Option<Arc<Budget>>,
    ) -> Result<Translation, DropReason> {
        let Flow { protocol, source: remote, destination: public, tcp_flags } = *flow;
        if protocol == Protocol::Icmp && remote.port != 0 {
            // A request: no rule publishes echo.
            return Err(DropReason::NatNoMapping);
        }
        let target = self.target_of(protocol, public).ok_or(DropReason::NatNoMapping)?;
        let receiver = match target {
            Target::Rule(receiver) => receiver,
            Target::Mapping(mapping) => self.mappings[mapping].customer,
        };
        let index = match self.by_flow.lookup(flow_key(protocol, receiver, remote)) {
            Some(index) if self.mappings[self.sessions[index].mapping].public != public => {
                return Err(DropReason::NatFiltered);
            }
            Some(index) => {
                self.handle(now, index, Direction::Inbound, tcp_flags);
                index
            }
            None => {
                self.may_enter(target, remote)?;
                may_open(flow)?;
                let reservations = self.reserve(tenant, || {
                    customer(receiver.address).ok_or(DropReason::UnknownCustomer)
                })?;
                let mapping = match target {
                    Target::Rule(receiver) => self.rule_mapping(protocol, receiver, public),
                    Target::Mapping(mapping) => mapping,
                };
                let state = State::opened(protocol, Direction::Inbound);
                self.open(now, mapping, remote, state, reservations)
            }
        };
        Ok(self.translation(index, remote, receiver))
    }

    /// The customer socket that an ICMP error from the front end is for, by the packet it quotes:
    /// one that left from `quoted_source` (public) to `quoted_destination` (remote). Refreshes
    /// nothing (RFC 5508 REQ-6).
    ///
    /// # Errors
    ///
    /// `NatIcmpUnrelated` when the quoted packet belongs to no session.
    pub fn icmp_error_inbound(
        &self,
        protocol: Protocol,
        quoted_source: Socket,
        quoted_destination: Socket,
    ) -> Result<Socket, DropReason> {
        let customer = self.target_of(protocol, quoted_source).map(|target| match target {
            Target::Rule(customer) => customer,
            Target::Mapping(mapping) => self.mappings[mapping].customer,
        });
        customer
            .filter(|&customer| {
                self.public_of(protocol, customer, quoted_destination) == Some(quoted_source)
            })
            .ok_or(DropReason::NatIcmpUnrelated)
    }

    /// The public socket that an ICMP error from the tenant speaks of, by the packet it quotes: one
    /// that came from `quoted_source` (remote) to `quoted_destination` (customer). Refreshes
    /// nothing (RFC 5508 REQ-6).
    ///
    /// # Errors
    ///
    /// `NatIcmpUnrelated` when the quoted packet belongs to no session.
    pub fn icmp_error_outbound(
        &self,
        protocol: Protocol,
        quoted_source: Socket,
        quoted_destination: Socket,
    ) -> Result<Socket, DropReason> {
        self.public_of(protocol, quoted_destination, quoted_source)
            .ok_or(DropReason::NatIcmpUnrelated)
    }

    /// Closes idle sessions, after looking at no more than `budget` whose time may have come.
    ///
    /// `last_seen` says when compiled entries last forwarded packets of a session: they refresh it
    /// without asking. `closed` is told every session that is closed, so that what was compiled
    /// for it can be removed. A session is closed up to a second after its timeout, later when
    /// `budget` is too small for what is due.
    pub fn expire(
        &mut self,
        now: Tick,
        budget: usize,
        mut last_seen: impl FnMut(&SessionView) -> Seen,
        mut closed: impl FnMut(&SessionView),
    ) {
        let mut allowance = Allowance::new(budget);
        while let Some(index) = self.ring.poll(&mut self.sessions, now, &mut allowance) {
            let view = self.view(index);
            let session = &mut self.sessions[index];
            session.handle_seen(last_seen(&view));
            let deadline = session.deadline(&self.config.timeouts());
            if deadline <= now {
                self.close(index);
                closed(&view);
            } else {
                self.ring.arm(&mut self.sessions, index, now, deadline);
            }
        }
    }

    /// How much is used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            sessions: self.sessions.len(),
            mappings: self.mappings.len() - self.published,
            published: self.published,
            icmp: self.pool.usage(Protocol::Icmp),
            tcp: self.pool.usage(Protocol::Tcp),
            udp: self.pool.usage(Protocol::Udp),
        }
    }

    /// All live sessions, by index.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> {
        (0..self.sessions.end())
            .filter(|&index| self.sessions.contains(index))
            .map(|index| self.view(index))
    }

    fn view(&self, index: u32) -> SessionView {
        let session = &self.sessions[index];
        SessionView {
            session: SessionIndex(index),
            protocol: session.state.protocol(),
            customer: session.customer,
            public: self.mappings[session.mapping].public,
            remote: session.remote,
        }
    }

    fn translation(&self, index: u32, source: Socket, destination: Socket) -> Translation {
        let session = &self.sessions[index];
        let compile = match session.state {
            State::Icmp => true,
            State::Tcp(state) => state.phase() == Phase::Established,
            // The first packet out of a session that a remote opened has to come here, because the
            // filter depends on it.
            State::Udp => match self.mappings[session.mapping].origin {
                Origin::Rule => true,
                Origin::Pool => session.sent == Sent::Something,
            },
        };
        Translation { session: SessionIndex(index), source, destination, compile }
    }

    /// What a public socket leads to.
    fn target_of(&self, protocol: Protocol, public: Socket) -> Option<Target> {
        match self.config.inbound_rule(protocol, public) {
            Some(receiver) => Some(Target::Rule(receiver)),
            None => self.by_public.lookup(socket_key(protocol, public)).map(Target::Mapping),
        }
    }

    /// The public socket of a live session.
    fn public_of(&self, protocol: Protocol, customer: Socket, remote: Socket) -> Option<Socket> {
        let index = self.by_flow.lookup(flow_key(protocol, customer, remote))?;
        Some(self.mappings[self.sessions[index].mapping].public)
    }

    fn may_enter(&self, target: Target, remote: Socket) -> Result<(), DropReason> {
        match target {
            Target::Rule(_) => Ok(()),
            Target::Mapping(mapping) if self.filter.admits(mapping, remote.address) => Ok(()),
            Target::Mapping(_) => Err(DropReason::NatFiltered),
        }
    }

    fn reserve<B: Borrow<Arc<Budget>>>(
        &self,
        tenant: &Arc<Budget>,
        customer: impl FnOnce() -> Result<B, DropReason>,
    ) -> Result<[Reservation; 2], DropReason> {
        if self.sessions.len() >= self.max_sessions {
            return Err(DropReason::NatTableFull);
        }
        let tenant = tenant.reserve().ok_or(DropReason::NatTenantSessions)?;
        let customer = customer()?.borrow().reserve().ok_or(DropReason::NatCustomerSessions)?;
        Ok([tenant, customer])
    }

    /// The mapping a customer socket sends to new remotes through: its first inbound rule's, the
    /// one it has, or a new one.
    fn mapping_of(&mut self, protocol: Protocol, customer: Socket) -> Result<u32, DropReason> {
        if let Some(public) = self.config.public_of(protocol, customer) {
            return Ok(self.rule_mapping(protocol, customer, public));
        }
        let key = socket_key(protocol, customer);
        if let Some(mapping) = self.by_customer.lookup(key) {
            return Ok(mapping);
        }
        let public = self
            .pool
            .take(&self.config, protocol, customer.address)
            .ok_or(DropReason::NatNoPort)?;
        let mapping = self.insert_mapping(protocol, Origin::Pool, customer, public);
        self.by_customer.insert(key, mapping);
        Ok(mapping)
    }

    fn rule_mapping(&mut self, protocol: Protocol, customer: Socket, public: Socket) -> u32 {
        if let Some(mapping) = self.by_public.lookup(socket_key(protocol, public)) {
            return mapping;
        }
        self.published += 1;
        self.insert_mapping(protocol, Origin::Rule, customer, public)
    }

    fn insert_mapping(
        &mut self,
        protocol: Protocol,
        origin: Origin,
        customer: Socket,
        public: Socket,
    ) -> u32 {
        let mapping = Mapping { protocol, origin, customer, public, sessions: 0 };
        let index = self.mappings.insert(mapping);
        self.by_public.insert(socket_key(protocol, public), index);
        index
    }

    fn open(
        &mut self,
        now: Tick,
        mapping: u32,
        remote: Socket,
        state: State,
        reservations: [Reservation; 2],
    ) -> u32 {
        self.mappings[mapping].sessions += 1;
        let customer = self.mappings[mapping].customer;
        let index = self.sessions.insert(Session {
            customer,
            remote,
            mapping,
            state,
            sent: Sent::Nothing,
            refreshed: now,
            links: Links::UNARMED,
            _reservations: reservations,
        });
        self.by_flow.insert(flow_key(state.protocol(), customer, remote), index);
        let deadline = self.sessions[index].deadline(&self.config.timeouts());
        self.ring.arm(&mut self.sessions, index, now, deadline);
        index
    }

    /// Takes a packet into its session's state.
    fn handle(&mut self, now: Tick, index: u32, direction: Direction, tcp_flags: u8) {
        let session = &mut self.sessions[index];
        session.handle(now, direction, tcp_flags);
        let deadline = session.deadline(&self.config.timeouts());
        self.ring.hasten(&mut self.sessions, index, deadline);
    }

    /// Opens the filter for the remote address at the first packet a customer sends in a session.
    fn note_sent(&mut self, index: u32) {
        let session = &mut self.sessions[index];
        if session.sent == Sent::Nothing {
            session.sent = Sent::Something;
            if self.mappings[session.mapping].origin == Origin::Pool {
                self.filter.open(session.mapping, session.remote.address);
            }
        }
    }

    /// Closes a disarmed session, and its mapping with the last.
    fn close(&mut self, index: u32) {
        let session = self.sessions.remove(index);
        let protocol = session.state.protocol();
        self.by_flow.remove(flow_key(protocol, session.customer, session.remote));
        let mapping = &mut self.mappings[session.mapping];
        if session.sent == Sent::Something && mapping.origin == Origin::Pool {
            self.filter.close(session.mapping, session.remote.address);
        }
        mapping.sessions -= 1;
        if mapping.sessions > 0 {
            return;
        }
        let mapping = self.mappings.remove(session.mapping);
        self.by_public.remove(socket_key(protocol, mapping.public));
        match mapping.origin {
            Origin::Rule => self.published -= 1,
            Origin::Pool => {
                self.by_customer.remove(socket_key(protocol, mapping.customer));
                self.pool.give_back(protocol, mapping.public);
            }
        }
    }
}

/// What a public socket leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// A customer socket, by an inbound rule.
    Rule(Socket),
    /// A mapping with a port of the pool.
    Mapping(u32),
}

/// Whether a packet without a session may open one.
fn may_open(flow: &Flow) -> Result<(), DropReason> {
    match flow.protocol {
        Protocol::Icmp | Protocol::Udp => Ok(()),
        Protocol::Tcp if tcp_state::begins(flow.tcp_flags) => Ok(()),
        Protocol::Tcp => Err(DropReason::NatNoSession),
    }
}

#[cfg(test)]
mod against_model;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
