//! TCP and UDP of the gateway's own addresses in every registered routing domain, sans-IO.
//!
//! Drain in this order: [`handle_packet`](Endpoints::handle_packet) for each packet that arrived;
//! [`handle_timeout`](Endpoints::handle_timeout) when [`poll_timeout`](Endpoints::poll_timeout) has
//! passed; [`poll_event`](Endpoints::poll_event) and [`poll_datagram`](Endpoints::poll_datagram) until
//! none, with what they lead to; [`poll_interest`](Endpoints::poll_interest) until none;
//! [`poll_transmit`](Endpoints::poll_transmit) while there is room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nvgate_model::{DomainSlot, Instant, Prefix};
use smoltcp::iface::{Interface, SocketSet};

use super::MAX_PACKET;
use super::connection::{CloseReason, Connection, ConnectionId, Event, Stage};
use super::datagram::Datagram;
use super::peer::{MAX_PEERS, PeerOptions};
use super::stack::{MAX_CONNECTIONS, Refusal, Refusals, Refused, Stack};
use super::wire::interface;
use crate::snapshot::Service;

/// Listeners and UDP sockets of one domain: a few for each default gateway.
const MAX_SOCKETS: usize = 4096;
/// The first ephemeral port, of 2^14 (RFC 6335 section 6).
const EPHEMERAL: u16 = 49_152;
/// Ports tried for a connection.
const PORT_TRIES: u32 = 64;
/// How long a socket that wants to send and does not is left alone.
const RETRY: Duration = Duration::from_millis(1);

/// Why a connection was not begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The own address does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The remote is no peer of the domain.
    #[error("{0} is no peer")]
    UnknownPeer(IpAddr),
    /// The addresses are of two families, or the port is 0.
    #[error("no connection is possible from {0} to {1}")]
    Impossible(IpAddr, SocketAddr),
    /// No port was free.
    #[error("no port is free for a connection to {0}")]
    NoPort(SocketAddr),
}

/// The gateway's own endpoints.
pub struct Endpoints {
    seed: u64,
    pub(super) now: Instant,
    pub(super) stacks: BTreeMap<DomainSlot, Stack>,
    /// When connections want to be looked at.
    schedule: BTreeSet<(Instant, ConnectionId)>,
    /// Domains that may have something to send, in turn.
    round: VecDeque<DomainSlot>,
    events: VecDeque<(ConnectionId, Event)>,
    pub(super) datagrams: VecDeque<(DomainSlot, Datagram)>,
    interest: BTreeSet<DomainSlot>,
    next_number: u64,
    draws: u64,
    /// Answers what fits no connection with a reset, for all domains: it has no state.
    pub(super) refuser: Interface,
    pub(super) no_sockets: SocketSet<'static>,
    pub(super) arrived: Vec<u8>,
    pub(super) answer: Box<[u8]>,
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Endpoints").field("stacks", &self.stacks).finish_non_exhaustive()
    }
}

impl Endpoints {
    /// No domain is registered. Sequence numbers and ports come from `seed`, which nobody outside may
    /// know.
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        let mut refuser = interface(seed, now);
        refuser.set_any_ip(true);
        Self {
            seed,
            now,
            stacks: BTreeMap::new(),
            schedule: BTreeSet::new(),
            round: VecDeque::new(),
            events: VecDeque::new(),
            datagrams: VecDeque::new(),
            interest: BTreeSet::new(),
            next_number: 0,
            draws: 0,
            refuser,
            no_sockets: SocketSet::new(Vec::new()),
            arrived: Vec::with_capacity(MAX_PACKET),
            answer: vec![0; MAX_PACKET].into_boxed_slice(),
        }
    }

    /// Registers a domain with its own addresses, or follows their change: connections, listeners and
    /// sockets of those that are gone end.
    pub fn register(&mut self, domain: DomainSlot, own: impl IntoIterator<Item = IpAddr>) {
        let now = self.now;
        let stack = self.stacks.entry(domain).or_insert_with(|| Stack::new(now));
        stack.own = own.into_iter().collect();
        let own = &stack.own;
        stack.listeners.retain(|listener| own.contains(&listener.ip()));
        stack.sockets.retain(|socket| own.contains(&socket.ip()));
        let gone = stack.connections.iter().filter(|(_, it)| !own.contains(&it.local.ip()));
        for number in gone.map(|(&number, _)| number).collect::<Vec<_>>() {
            self.lose(ConnectionId { domain, number });
        }
        self.note_interest(domain);
    }

    /// Forgets a domain; its connections end without a packet.
    pub fn deregister(&mut self, domain: DomainSlot) {
        let numbers = self.stacks.get(&domain).map(|stack| stack.connections.keys().copied());
        for number in numbers.into_iter().flatten().collect::<Vec<_>>() {
            self.lose(ConnectionId { domain, number });
        }
        if self.stacks.remove(&domain).is_some() {
            self.datagrams.retain(|(of, _)| *of != domain);
            self.round.retain(|of| *of != domain);
            self.interest.insert(domain);
        }
    }

    /// The registered domains.
    pub fn domains(&self) -> impl Iterator<Item = DomainSlot> + '_ {
        self.stacks.keys().copied()
    }

    /// What a domain's endpoint refused so far.
    #[must_use]
    pub fn refusals(&self, domain: DomainSlot) -> Refusals {
        self.stacks.get(&domain).map(|stack| stack.refusals).unwrap_or_default()
    }

    /// How many connections a domain has, of any stage.
    #[must_use]
    pub fn connections(&self, domain: DomainSlot) -> usize {
        self.stacks.get(&domain).map_or(0, |stack| stack.connections.len())
    }

    fn own_stack(&mut self, domain: DomainSlot, address: IpAddr) -> Result<&mut Stack, Refused> {
        let stack = self.stacks.get_mut(&domain).ok_or(Refused::NotRegistered)?;
        if stack.own.contains(&address) { Ok(stack) } else { Err(Refused::NotOwn(address)) }
    }

    /// Takes connections that peers make to the own socket `local`.
    ///
    /// # Errors
    ///
    /// The domain is not registered, does not own the address, or listens at too many.
    pub fn listen(&mut self, domain: DomainSlot, local: SocketAddr) -> Result<(), Refused> {
        let stack = self.own_stack(domain, local.ip())?;
        if stack.listeners.len() >= MAX_SOCKETS {
            return Err(Refused::TooMany(MAX_SOCKETS));
        }
        stack.listeners.insert(local);
        self.note_interest(domain);
        Ok(())
    }

    /// Takes no new connections there; those that stand stay.
    pub fn unlisten(&mut self, domain: DomainSlot, local: SocketAddr) {
        if let Some(stack) = self.stacks.get_mut(&domain) {
            stack.listeners.remove(&local);
            self.note_interest(domain);
        }
    }

    /// Takes datagrams to the own socket `local`.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn bind(&mut self, domain: DomainSlot, local: SocketAddr) -> Result<(), Refused> {
        let stack = self.own_stack(domain, local.ip())?;
        if stack.sockets.len() >= MAX_SOCKETS {
            return Err(Refused::TooMany(MAX_SOCKETS));
        }
        stack.sockets.insert(local);
        self.note_interest(domain);
        Ok(())
    }

    /// Takes no more datagrams there.
    pub fn unbind(&mut self, domain: DomainSlot, local: SocketAddr) {
        if let Some(stack) = self.stacks.get_mut(&domain) {
            stack.sockets.remove(&local);
            self.note_interest(domain);
        }
    }

    /// Sets who may have connections from the addresses in `remote`, by the longest prefix, and what
    /// holds for them; connections that stand follow.
    ///
    /// # Errors
    ///
    /// The domain is not registered, or has too many peers.
    pub fn set_peer(
        &mut self,
        domain: DomainSlot,
        remote: Prefix,
        options: PeerOptions,
    ) -> Result<(), Refused> {
        let stack = self.stacks.get_mut(&domain).ok_or(Refused::NotRegistered)?;
        if !stack.peers.set(remote, options) {
            return Err(Refused::TooMany(MAX_PEERS));
        }
        for connection in stack.connections.values_mut() {
            if remote.contains(connection.remote.ip())
                && let Some(options) = stack.peers.find(connection.remote.ip())
            {
                connection.set_options(options);
            }
        }
        Ok(())
    }

    /// Takes no new connections with a peer; those that stand stay as they are.
    pub fn remove_peer(&mut self, domain: DomainSlot, remote: Prefix) {
        if let Some(stack) = self.stacks.get_mut(&domain) {
            stack.peers.remove(remote);
        }
    }

    /// Begins a connection from an own address to a peer.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn connect(
        &mut self,
        now: Instant,
        domain: DomainSlot,
        local: IpAddr,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        self.now = now;
        let stack = self.own_stack(domain, local)?;
        let peer = stack.peers.find(remote.ip());
        let options = peer.cloned().ok_or(ConnectError::UnknownPeer(remote.ip()))?;
        let way = stack.make_way(false);
        let way = way.map_err(|_| Refused::TooMany(MAX_CONNECTIONS))?;
        let local = self.free_port(domain, local, remote).ok_or(ConnectError::NoPort(remote))?;
        let seed = self.draw();
        let connection = Connection::connecting((local, remote), options, seed, now);
        let connection = connection.ok_or(ConnectError::Impossible(local.ip(), remote))?;
        if let Some(number) = way {
            self.forget(ConnectionId { domain, number });
        }
        Ok(self.insert(domain, connection))
    }

    fn free_port(
        &mut self,
        domain: DomainSlot,
        local: IpAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        (0..PORT_TRIES).find_map(|_| {
            let local = SocketAddr::new(local, EPHEMERAL | self.draw() as u16 & 0x3fff);
            let stack = self.stacks.get(&domain)?;
            (!stack.by_ends.contains_key(&(local, to))).then_some(local)
        })
    }

    /// A number that nobody can tell who does not know the seed (RFC 6528 section 3).
    pub(super) fn draw(&mut self) -> u64 {
        self.draws += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, self.draws, self.seed.rotate_left(32)).hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn insert(&mut self, domain: DomainSlot, connection: Connection) -> ConnectionId {
        let number = self.next_number;
        self.next_number += 1;
        let id = ConnectionId { domain, number };
        if let Some(stack) = self.stacks.get_mut(&domain) {
            stack.by_ends.insert((connection.local, connection.remote), number);
            stack.connections.insert(number, connection);
        }
        self.note_interest(domain);
        self.make_ready(id);
        id
    }

    pub(super) fn connection(
        &mut self,
        domain: DomainSlot,
        number: u64,
    ) -> Option<&mut Connection> {
        self.stacks.get_mut(&domain)?.connections.get_mut(&number)
    }

    /// Tells what changed of a connection, and sees when it wants to be looked at again.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        let now = self.now;
        let Self { stacks, events, .. } = self;
        let Some(stack) = stacks.get_mut(&id.domain) else { return };
        let Some(connection) = stack.connections.get_mut(&id.number) else { return };
        if !connection.settle(now, |event| events.push_back((id, event))) {
            self.forget(id);
            return;
        }
        let wanted = connection.wants(now);
        let due = [wanted, connection.deadline()].into_iter().flatten().min();
        self.reschedule(id, due.map(|due| due.max(now + RETRY)));
    }

    fn reschedule(&mut self, id: ConnectionId, due: Option<Instant>) {
        let Some(connection) = self.connection(id.domain, id.number) else { return };
        let before = std::mem::replace(&mut connection.due, due);
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.schedule.remove(&(before, id));
        }
        if let Some(due) = due {
            self.schedule.insert((due, id));
        }
    }

    /// Forgets a connection without a packet or an event.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.reschedule(id, None);
        let Some(stack) = self.stacks.get_mut(&id.domain) else { return };
        if let Some(connection) = stack.connections.remove(&id.number) {
            stack.by_ends.remove(&(connection.local, connection.remote));
            stack.ready.retain(|&number| number != id.number);
            self.note_interest(id.domain);
        }
    }

    /// As [`forget`](Self::forget), and tells the owner.
    fn lose(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id.domain, id.number)
            && matches!(connection.stage, Stage::Open | Stage::Connecting)
        {
            self.events.push_back((id, Event::Closed(CloseReason::AddressGone)));
        }
        self.forget(id);
    }

    pub(super) fn make_ready(&mut self, id: ConnectionId) {
        let Some(stack) = self.stacks.get_mut(&id.domain) else { return };
        if let Some(connection) = stack.connections.get_mut(&id.number)
            && !std::mem::replace(&mut connection.queued, true)
        {
            stack.ready.push_back(id.number);
        }
        self.join_round(id.domain);
    }

    pub(super) fn join_round(&mut self, domain: DomainSlot) {
        if let Some(stack) = self.stacks.get_mut(&domain)
            && !(stack.ready.is_empty() && stack.outgoing.is_empty())
            && !std::mem::replace(&mut stack.queued, true)
        {
            self.round.push_back(domain);
        }
    }

    fn note_interest(&mut self, domain: DomainSlot) {
        if let Some(stack) = self.stacks.get_mut(&domain) {
            let wants = stack.wants();
            if std::mem::replace(&mut stack.wanted, wants) != wants {
                self.interest.insert(domain);
            }
        }
    }

    /// A domain that wants packets of other services than before, and of which.
    pub fn poll_interest(&mut self) -> Option<(DomainSlot, Vec<Service>)> {
        let domain = self.interest.pop_first()?;
        Some((domain, self.stacks.get(&domain).map(Stack::services).unwrap_or_default()))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.first().map(|&(due, _)| due)
    }

    /// Whether something may be there to be sent.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        !self.round.is_empty()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(&(due, id)) = self.schedule.first() {
            if due > now {
                return;
            }
            self.reschedule(id, None);
            let Some(connection) = self.connection(id.domain, id.number) else { continue };
            let over = connection.deadline().is_some_and(|deadline| deadline <= now);
            if over && !self.give_up(id) {
                self.forget(id);
                continue;
            }
            self.make_ready(id);
        }
    }

    fn give_up(&mut self, id: ConnectionId) -> bool {
        let Self { stacks, events, .. } = self;
        let connection =
            stacks.get_mut(&id.domain).and_then(|it| it.connections.get_mut(&id.number));
        connection.is_some_and(|it| it.give_up(|event| events.push_back((id, event))))
    }

    /// The next packet to be sent, written to the front of `out` ([`MAX_PACKET`] bytes), of a domain
    /// that `admit` has room for: a packet a domain and connection in turn.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        mut admit: impl FnMut(DomainSlot) -> bool,
        out: &mut [u8],
    ) -> Option<(DomainSlot, usize)> {
        self.now = now;
        for _ in 0..self.round.len() {
            let domain = self.round.pop_front()?;
            if !admit(domain) {
                self.round.push_back(domain);
                continue;
            }
            if let Some(stack) = self.stacks.get_mut(&domain) {
                stack.queued = false;
            }
            let length = self.transmit_of(domain, out);
            self.join_round(domain);
            if let Some(length) = length {
                return Some((domain, length));
            }
        }
        None
    }

    fn transmit_of(&mut self, domain: DomainSlot, out: &mut [u8]) -> Option<usize> {
        let now = self.now;
        let stack = self.stacks.get_mut(&domain)?;
        if let Some(packet) = stack.outgoing.pop_front() {
            out.get_mut(..packet.len())?.copy_from_slice(&packet);
            return Some(packet.len());
        }
        for _ in 0..stack.ready.len() {
            let stack = self.stacks.get_mut(&domain)?;
            let number = stack.ready.pop_front()?;
            let Some(connection) = stack.connections.get_mut(&number) else { continue };
            connection.queued = false;
            let length = connection.transmit(now, out);
            let id = ConnectionId { domain, number };
            self.settle(id);
            if length.is_some() {
                self.make_ready(id);
                return length;
            }
        }
        None
    }

    /// What happened to a connection.
    pub fn poll_event(&mut self) -> Option<(ConnectionId, Event)> {
        self.events.pop_front()
    }

    /// Reads what waits of a connection into `out`; says how many bytes. 0 of one that is over.
    pub fn read(&mut self, id: ConnectionId, out: &mut [u8]) -> usize {
        let count = self.connection(id.domain, id.number).map_or(0, |it| it.read(out));
        if count > 0 {
            self.settle(id);
            self.make_ready(id);
        }
        count
    }

    /// Gives a connection bytes to send; says how many it took. When not all, [`Event::Writable`]
    /// says that there is room.
    pub fn write(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let count = self.connection(id.domain, id.number).map_or(0, |it| it.write(bytes));
        self.make_ready(id);
        count
    }

    /// Ends a connection: what was written is sent, then it finishes. There is no event any more.
    pub fn close(&mut self, id: ConnectionId) {
        let now = self.now;
        if let Some(connection) = self.connection(id.domain, id.number) {
            connection.close(now);
            self.make_ready(id);
            self.settle(id);
        }
    }

    /// Ends a connection with a reset. There is no event any more.
    pub fn abort(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id.domain, id.number) {
            connection.abort();
            self.make_ready(id);
        }
    }

    /// Sends a datagram from its own socket `local`, with its TTL.
    ///
    /// # Errors
    ///
    /// The domain does not own the address, the payload is too long, or too many wait.
    pub fn send_datagram(
        &mut self,
        domain: DomainSlot,
        datagram: &Datagram,
    ) -> Result<(), Refusal> {
        let stack = self.own_stack(domain, datagram.local.ip()).map_err(|_| Refusal::NotOwn)?;
        stack.send(datagram.packet().ok_or(Refusal::Malformed)?)?;
        self.join_round(domain);
        Ok(())
    }

    /// A datagram that arrived.
    pub fn poll_datagram(&mut self) -> Option<(DomainSlot, Datagram)> {
        let (domain, datagram) = self.datagrams.pop_front()?;
        if let Some(stack) = self.stacks.get_mut(&domain) {
            stack.datagrams = stack.datagrams.saturating_sub(1);
        }
        Some((domain, datagram))
    }
}
