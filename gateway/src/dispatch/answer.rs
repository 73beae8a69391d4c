//! What the gateway itself says: ICMP errors towards senders, and answers of its own addresses.

use std::net::IpAddr;

use nvgate_model::DropReason;
use nvgate_packet::buf::{HEADROOM, Offload, PacketBuf};
use nvgate_packet::flow_key::flow_hash;
use nvgate_packet::headers::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family, Headers};
use nvgate_packet::icmp::{self, Problem};

use super::domain_state::Asker;
use super::egress::{Link, send};
use super::endpoint::punted_for;
use super::forward::link_of;
use super::tunnels::Way;
use super::{Dispatcher, Io, Verdict};
use crate::endpoint::Endpoint;
use crate::io::PortRole;
use crate::snapshot::{Domain, Snapshot, Speaker};

/// What a sender is told about a dropped packet; some reasons are kept from it.
#[expect(clippy::wildcard_enum_match_arm, reason = "silence is the rule, not the exception")]
const fn problem_of(reason: DropReason, mtu: u16) -> Option<Problem> {
    match reason {
        DropReason::UnknownCustomer => Some(Problem::HostUnreachable),
        DropReason::NoRoute
        | DropReason::NatAbsent
        | DropReason::FrontEndNoRoute
        | DropReason::TunnelDown => Some(Problem::NetworkUnreachable),
        DropReason::FrontEndSource | DropReason::TunnelInternet => Some(Problem::Prohibited),
        DropReason::TtlExpired => Some(Problem::TimeExceeded),
        DropReason::TooBig => Some(Problem::TooBig { mtu: mtu as u32 }),
        _ => None,
    }
}

impl Dispatcher {
    /// Tells `speaker` why the packet it sent was dropped, within the tenant's budget.
    /// The view begins at the IP header of the packet as it came in.
    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    pub(super) fn tell_sender(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        speaker: Speaker,
        packet: &PacketBuf<'_>,
        headers: &Headers,
        (reason, mtu): (DropReason, u16),
        io: &mut Io<'_>,
    ) {
        let Some(problem) = problem_of(reason, mtu) else { return };
        let bytes = packet.bytes();
        let Some(from) = domain.gateway_towards(headers::source(bytes, headers.family)) else {
            return;
        };
        if !icmp::may_answer(bytes, headers) || !self.may_answer(domain, Asker::Endpoint) {
            return;
        }
        let out = &mut self.answer[HEADROOM..];
        if let Some(length) = icmp::write_error(out, bytes, headers, from, problem) {
            // An answer that cannot be sent is an answer the sender does without.
            let _ = self.send_answer(snapshot, domain, speaker, length, io);
        }
    }

    /// Tells a remote sender on the front end why its packet to a leased address was dropped.
    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    pub(super) fn tell_remote(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &PacketBuf<'_>,
        headers: &Headers,
        reason: DropReason,
        mtu: u16,
        io: &mut Io<'_>,
    ) {
        let Some(problem) = problem_of(reason, mtu) else { return };
        let bytes = packet.bytes();
        let remote = headers::source(bytes, headers.family);
        let from = headers::destination(bytes, headers.family);
        if snapshot.by_front_end(remote).is_some() {
            if icmp::may_answer(bytes, headers) && self.may_answer(domain, Asker::Remote) {
                self.tell_insider(snapshot, bytes, headers, from, problem, io);
            }
            return;
        }
        let hash = flow_hash(bytes, headers, self.config.seed);
        let Ok(path) = snapshot.front_end.path(remote, hash) else { return };
        let hop = path.hop.and_then(|hop| snapshot.front_end.hop(hop));
        let Some(destination) = hop.and_then(|hop| hop.mac) else {
            // Nothing else asks when the gateway has only errors for this remote.
            self.request_resolution(domain, PortRole::FrontEnd, path.next);
            return;
        };
        if !icmp::may_answer(bytes, headers) || !self.may_answer(domain, Asker::Remote) {
            return;
        }
        let out = &mut self.answer[HEADROOM..];
        let Some(length) = icmp::write_error(out, bytes, headers, from, problem) else { return };
        let link = Link::FrontEnd { destination, source: snapshot.front_end.mac };
        let mut answer =
            PacketBuf::new(&mut self.answer[..], HEADROOM, HEADROOM + length, Offload::default());
        if let Ok(headers) = Headers::parse(answer.bytes()) {
            // An answer that cannot be sent is an answer the remote does without.
            let _ = send(&mut self.scratch, io.front_end, &link, &mut answer, &headers, length);
        }
    }

    /// Tells a sender behind a leased address, which sees itself as a remote of the other.
    fn tell_insider(
        &mut self,
        snapshot: &Snapshot,
        bytes: &[u8],
        headers: &Headers,
        from: IpAddr,
        problem: Problem,
        io: &mut Io<'_>,
    ) {
        let ethertype = match headers.family {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        };
        // Errors are never answered, so that nothing else is written while the buffer is away.
        let mut buffer = std::mem::take(&mut self.answer);
        if let Some(length) =
            icmp::write_error(&mut buffer[HEADROOM..], bytes, headers, from, problem)
        {
            let end = HEADROOM + length;
            let mut answer = PacketBuf::new(&mut buffer, HEADROOM, end, Offload::default());
            // An answer that cannot be sent is an answer the sender does without.
            let _ = self.turn_back(snapshot, &mut answer, ethertype, io);
        }
        self.answer = buffer;
    }

    /// Gives a packet that `speaker` sent to the gateway's own address to the endpoint that
    /// registered for it, or to the domain's stack and sends back what that answers. The view begins at the IP header.
    pub(super) fn punt(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        speaker: Speaker,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        if let Some(service) = punted_for(domain, packet.bytes(), headers) {
            return self.punt_to_endpoint(snapshot, domain, speaker, service, packet, headers, io);
        }
        if !packet.complete_checksum() || packet.offload().gso.is_some() {
            return Err(DropReason::OffloadInvalid);
        }
        if !self.may_answer(domain, Asker::Endpoint) {
            return Err(DropReason::PuntLimited);
        }
        let now = self.now;
        let destination = headers::destination(packet.bytes(), headers.family);
        let seed = self.config.seed;
        let state = self
            .domains
            .get_mut(domain.slot.0 as usize)
            .and_then(Option::as_mut)
            .ok_or(DropReason::NotServed)?;
        let endpoint =
            state.endpoint.get_or_insert_with(|| Box::new(Endpoint::new(domain, seed, now)));
        let length = endpoint
            .answer(now, destination, packet.bytes(), &mut self.answer[HEADROOM..])
            .ok_or(DropReason::NotServed)?;
        self.send_answer(snapshot, domain, speaker, length, io)?;
        Ok(Verdict::Punt)
    }

    /// Sends the IP packet in the answer buffer back to who is answered: it was proven to speak for
    /// the address, which may mean something on its link only.
    fn send_answer(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        speaker: Speaker,
        length: usize,
        io: &mut Io<'_>,
    ) -> Result<(), DropReason> {
        let bytes = &self.answer[HEADROOM..HEADROOM + length];
        let headers = Headers::parse(bytes)?;
        let hash = flow_hash(bytes, &headers, self.config.seed);
        let end = HEADROOM + length;
        let endpoint = match speaker {
            Speaker::Endpoint(endpoint) => endpoint,
            Speaker::Site(site) => {
                let mut packet =
                    PacketBuf::new(&mut self.answer[..], HEADROOM, end, Offload::default());
                let way = Way { snapshot, domain, site, flow: hash, now: self.now };
                // Wherever the tunnel is, the packet is on its way.
                return self
                    .tunnels
                    .send(&way, &mut self.scratch, &mut packet, &headers, io)
                    .map(|_| ());
            }
        };
        let compiled = self.towards_endpoint(snapshot, domain, endpoint, hash)?;
        let link = link_of(snapshot, domain, &compiled)?;
        let mut packet = PacketBuf::new(&mut self.answer[..], HEADROOM, end, Offload::default());
        let mtu = usize::from(compiled.mtu);
        send(&mut self.scratch, io.fabric, &link, &mut packet, &headers, mtu)?;
        self.counters_of(domain).inbound.count(1, length as u64);
        Ok(())
    }
}
