//! What arrives at the gateway's own endpoints: checked, matched with a connection or a socket, and
//! answered where nothing matches.

use nvgate_model::{DomainSlot, Instant};
use nvgate_packet::headers::{self, Headers, TCP_ACK, TCP_RST, TCP_SYN, Transport};

use super::connection::{Connection, ConnectionId, Stage};
use super::datagram::{Datagram, MAX_DATAGRAMS};
use super::endpoints::Endpoints;
use super::segment::{Segment, finish};
use super::stack::Refusal;
use super::wire::{OnePacket, stack_time};

impl Endpoints {
    /// Takes an IP packet that was punted in a domain, with the TTL it arrived with.
    ///
    /// # Errors
    ///
    /// Why it was refused; that is counted, and answered where a host would.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        domain: DomainSlot,
        packet: &[u8],
        ttl: u8,
    ) -> Result<(), Refusal> {
        self.now = now;
        let taken = self.take(domain, packet, ttl);
        if let Err(refusal) = taken
            && let Some(stack) = self.stacks.get_mut(&domain)
        {
            stack.refusals.count(refusal);
        }
        taken
    }

    fn take(&mut self, domain: DomainSlot, packet: &[u8], ttl: u8) -> Result<(), Refusal> {
        let stack = self.stacks.get_mut(&domain).ok_or(Refusal::NotOwn)?;
        let headers = Headers::parse(packet).map_err(|_| Refusal::Malformed)?;
        if !stack.own.contains(&headers::destination(packet, headers.family)) {
            return Err(Refusal::NotOwn);
        }
        match headers.transport {
            Transport::Tcp { .. } => self.take_segment(domain, packet, &headers, ttl),
            Transport::Udp => self.take_datagram(domain, Datagram::read(packet, &headers, ttl)?),
            Transport::EchoRequest
            | Transport::EchoReply
            | Transport::IcmpError
            | Transport::IcmpOther { .. }
            | Transport::Opaque => Err(Refusal::Malformed),
        }
    }

    fn take_datagram(&mut self, domain: DomainSlot, datagram: Datagram) -> Result<(), Refusal> {
        let stack = self.stacks.get_mut(&domain).ok_or(Refusal::NotOwn)?;
        if !stack.sockets.contains(&datagram.local) {
            return Err(Refusal::NoSocket);
        }
        if stack.datagrams >= MAX_DATAGRAMS {
            return Err(Refusal::DatagramsFull);
        }
        stack.datagrams += 1;
        self.datagrams.push_back((domain, datagram));
        Ok(())
    }

    fn take_segment(
        &mut self,
        domain: DomainSlot,
        packet: &[u8],
        headers: &Headers,
        ttl: u8,
    ) -> Result<(), Refusal> {
        let segment = Segment::read(packet, headers)?;
        let stack = self.stacks.get(&domain).ok_or(Refusal::NotOwn)?;
        let ends = (segment.local, segment.remote);
        let options = stack.options(ends);
        if let Some(options) = options {
            Connection::admits(options, &segment, packet, ttl)?;
        }
        let has_key = options.is_some_and(|options| options.key.is_some());
        let opens = segment.has(TCP_SYN | TCP_ACK | TCP_RST, TCP_SYN);
        self.arrived.clear();
        self.arrived.extend_from_slice(packet);
        if has_key && segment.has(TCP_SYN, TCP_SYN) {
            segment.make_room(&mut self.arrived);
        }
        let mut known =
            self.stacks.get(&domain).and_then(|stack| stack.by_ends.get(&ends).copied());
        if opens
            && let Some(number) = known
            && self.connection(domain, number).is_some_and(|it| it.gives_way_to(&segment))
        {
            self.forget(ConnectionId { domain, number });
            known = None;
        }
        let id = match known {
            Some(number) => ConnectionId { domain, number },
            None if opens => self.open(domain, &segment)?,
            None => {
                if !has_key {
                    self.refuse(domain);
                }
                return Err(Refusal::NoConnection);
            }
        };
        self.give(id, &segment)
    }

    /// A connection for a SYN.
    fn open(&mut self, domain: DomainSlot, segment: &Segment) -> Result<ConnectionId, Refusal> {
        let stack = self.stacks.get_mut(&domain).ok_or(Refusal::NotOwn)?;
        let options = stack.peers.find(segment.remote.ip()).cloned();
        let signed = options.as_ref().is_some_and(|options| options.key.is_some());
        if !stack.listeners.contains(&segment.local) {
            if !signed {
                self.refuse(domain);
            }
            return Err(Refusal::NoConnection);
        }
        let Some(options) = options else {
            self.refuse(domain);
            return Err(Refusal::UnknownPeer);
        };
        if let Some(number) = stack.make_way(true)? {
            if stack.connections.get(&number).is_some_and(|it| it.stage == Stage::HalfOpen) {
                stack.refusals.count(Refusal::HalfOpenGaveWay);
            }
            self.forget(ConnectionId { domain, number });
        }
        let (seed, now) = (self.draw(), self.now);
        let connection = Connection::listening(segment, options, seed, now);
        Ok(self.insert(domain, connection))
    }

    /// Gives the packet in `arrived` to a connection.
    fn give(&mut self, id: ConnectionId, segment: &Segment) -> Result<(), Refusal> {
        let Self { stacks, arrived, answer, now, .. } = self;
        let stack = stacks.get_mut(&id.domain).ok_or(Refusal::NotOwn)?;
        let connection = stack.connections.get_mut(&id.number).ok_or(Refusal::NoConnection)?;
        if segment.has(TCP_RST, TCP_RST) && !connection.believes_reset(segment.sequence) {
            return Err(Refusal::ResetIgnored);
        }
        if let Some(length) = connection.handle(*now, segment, arrived, answer) {
            // A full queue loses an acknowledgement, which the next one makes up for.
            let _ = stack.send(answer[..length].to_vec());
        }
        self.settle(id);
        self.make_ready(id);
        Ok(())
    }

    /// Answers the packet in `arrived` with a reset, within the domain's budget.
    fn refuse(&mut self, domain: DomainSlot) {
        let Self { stacks, refuser, no_sockets, arrived, answer, now, .. } = self;
        let Some(stack) = stacks.get_mut(&domain) else { return };
        if !stack.may_answer(*now) {
            return;
        }
        let mut device = OnePacket::arriving(arrived, answer);
        refuser.poll_ingress_single(stack_time(*now), &mut device, no_sockets);
        let length = device.length;
        if let Some(length) = length.and_then(|length| finish(answer, length, None)) {
            // A full queue is an answer less.
            let _ = stack.send(answer[..length].to_vec());
        }
        self.join_round(domain);
    }
}
