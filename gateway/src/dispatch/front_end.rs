//! Packets from the front end: replies and new connections to leased addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use nvgate_model::{DomainSlot, DropReason, MacAddress};
use nvgate_packet::buf::PacketBuf;
use nvgate_packet::flow_key::FRONT_END;
use nvgate_packet::headers::{
    self, ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family, Fragment,
    Headers, Transport, read_u32, read_u128,
};
use nvgate_packet::rewrite::clamp_mss;

use super::flow_table::{Compiled, Egress};
use super::forward::{Flow, Forward, alter, check, expose_ip, hand_on, largest_segment};
use super::neighbour::is_discovery;
use super::route::owns_on_front_end;
use super::sender::{is_link_local, is_unicast};
use super::tunnels::TunnelArrival;
use super::{Dispatcher, Ended, Io, Verdict};
use crate::io::{BATCH, Batch, PortRole};
use crate::snapshot::{Domain, Snapshot};
use crate::worker::handoff::Owner;

/// What one pass over a frame from the front end found.
pub(super) struct FrontEndArrival {
    destination: MacAddress,
    source: MacAddress,
    ethertype: u16,
    flow: Flow,
}

const IGNORED: Ended<'static> = Ended { verdict: Verdict::Ignore, domain: None };

#[inline(always)]
fn classify(snapshot: &Snapshot, frame: &[u8], seed: u64) -> Option<FrontEndArrival> {
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET_LENGTH>()?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, e0, e1] = *ethernet;
    let destination = MacAddress([d0, d1, d2, d3, d4, d5]);
    let ethertype = u16::from_be_bytes([e0, e1]);
    let flow = if destination == snapshot.front_end.mac {
        Flow::parse(FRONT_END, ethertype, packet, seed)
    } else {
        Flow::None
    };
    let source = MacAddress([s0, s1, s2, s3, s4, s5]);
    Some(FrontEndArrival { destination, source, ethertype, flow })
}

/// The destination of what claims to be an IP packet, before its headers are trusted.
fn claimed_destination(packet: &[u8], ethertype: u16) -> Option<IpAddr> {
    match ethertype {
        ETHERTYPE_IPV4 if packet.len() >= 20 => {
            Some(Ipv4Addr::from_bits(read_u32(packet, 16)).into())
        }
        ETHERTYPE_IPV6 if packet.len() >= 40 => {
            Some(Ipv6Addr::from_bits(read_u128(packet, 24)).into())
        }
        _ => None,
    }
}

impl Dispatcher {
    pub(super) fn process_front_end(
        &mut self,
        snapshot: &Snapshot,
        batch: &mut Batch<'_>,
        io: &mut Io<'_>,
    ) {
        let arrivals: ArrayVec<_, BATCH> = batch
            .iter()
            .map(|packet| classify(snapshot, packet.bytes(), self.config.seed))
            .collect();
        self.warm(arrivals.iter().flatten().map(|arrival| &arrival.flow));
        for (packet, arrival) in batch.iter_mut().zip(&arrivals) {
            let packets = super::wire_packets(packet);
            let ended = self.front_end_arrival(snapshot, packet, arrival, Owner::Unknown, io);
            self.account(&ended, packets);
        }
    }

    /// Processes one frame outside a batch.
    pub(super) fn front_end_packet<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let arrival = classify(snapshot, packet.bytes(), self.config.seed);
        self.front_end_arrival(snapshot, packet, &arrival, owner, io)
    }

    #[inline]
    fn front_end_arrival<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        arrival: &Option<FrontEndArrival>,
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let Some(arrival) = arrival else { return IGNORED };
        if let Some(ended) = self.front_end_hit(snapshot, packet, arrival, io) {
            self.config.counters.flow_hits.add(1);
            return ended;
        }
        self.front_end_slow(snapshot, packet, arrival, owner, io)
    }

    /// Forwards by the compiled entry, or says `None` and leaves the packet alone.
    #[inline]
    fn front_end_hit<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        arrival: &FrontEndArrival,
        io: &mut Io<'_>,
    ) -> Option<Ended<'s>> {
        let (position, compiled) = self.find(&arrival.flow)?;
        let domain = snapshot.domain(DomainSlot(compiled.domain))?;
        if compiled.proof != snapshot.proof(domain) {
            return None;
        }
        let headers = arrival.flow.headers()?;
        if compiled.egress == Egress::Handoff {
            // Fragments go by way of their datagram's coordinator.
            if headers.fragment != Fragment::Whole {
                return None;
            }
            let to = (compiled.target as u16, Owner::Mine);
            let verdict = hand_on(io, to, PortRole::FrontEnd, packet);
            return Some(Ended { verdict, domain: Some(domain) });
        }
        let forward =
            Forward { position, compiled: &compiled, headers, ip_at: ETHERNET_LENGTH, class: None };
        let verdict = self.forward_hit(snapshot, domain, packet, &forward, io)?;
        Some(Ended { verdict, domain: Some(domain) })
    }

    fn front_end_slow<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        arrival: &FrontEndArrival,
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let body = packet.bytes().get(ETHERNET_LENGTH..).unwrap_or(&[]);
        let neighbourly =
            arrival.destination == snapshot.front_end.mac || arrival.destination.is_group();
        if !neighbourly {
            return IGNORED;
        }
        if arrival.ethertype == ETHERTYPE_ARP {
            return self.answer_front_end_arp(snapshot, body, io);
        }
        if arrival.ethertype == ETHERTYPE_IPV6
            && let Ok(headers) = Headers::parse(body)
            && is_discovery(&headers)
        {
            let from = arrival.source;
            return self.answer_front_end_discovery(snapshot, body, (from, io));
        }
        if arrival.destination != snapshot.front_end.mac {
            return IGNORED;
        }
        let Some(destination) = claimed_destination(body, arrival.ethertype) else {
            return IGNORED;
        };
        if let Some(headers) = arrival.flow.headers() {
            if let Some(datagram) = TunnelArrival::read(packet.bytes(), headers)
                && snapshot.tunnel_socket(datagram.local()).is_some()
            {
                return self.tunnel_arrival(snapshot, packet, &datagram, io);
            }
            if headers.transport == Transport::IcmpError
                && let Some(ended) = self.tunnel_error(snapshot, packet, headers, io)
            {
                return ended;
            }
        }
        let Some(domain) = snapshot.by_front_end(destination) else {
            let verdict = if snapshot.is_pooled(destination) {
                Verdict::Drop(DropReason::FrontEndUnleased)
            } else {
                Verdict::Ignore
            };
            return Ended { verdict, domain: None };
        };
        self.config.counters.flow_misses.add(1);
        let verdict = self.route_from_front_end(snapshot, domain, packet, arrival, owner, io);
        Ended { verdict: verdict.unwrap_or_else(Verdict::Drop), domain: Some(domain) }
    }

    fn route_from_front_end(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        arrival: &FrontEndArrival,
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let headers = arrival.flow.parsed()?;
        let ip = packet.bytes().get(ETHERNET_LENGTH..).unwrap_or(&[]);
        let source = headers::source(ip, headers.family);
        // What the domain itself has cannot come from outside (RFC 2827, RFC 3704 section 2.2); a
        // default route claims nothing. Leased addresses come from inside only, turned back.
        let turned_back = arrival.source == snapshot.front_end.mac;
        let inside = domain.routes.reaches(source)
            || owns_on_front_end(domain, source)
            || !turned_back && snapshot.by_front_end(source).is_some();
        if !is_unicast(source) || is_link_local(source) || inside {
            return Err(DropReason::Martian);
        }
        if headers.family == Family::V4 {
            let nat = domain.nat.as_deref().ok_or(DropReason::NatAbsent)?;
            if let Some(worker) = self.owner_inbound(domain, nat, ip, headers, owner)? {
                if worker.1 == Owner::Mine {
                    self.keep_handoff(snapshot, domain, &arrival.flow, worker.0);
                }
                return Ok(hand_on(io, worker, PortRole::FrontEnd, packet));
            }
        }
        expose_ip(packet, ETHERNET_LENGTH, headers)?;
        let planned = match self.plan_inbound(snapshot, domain, packet, headers) {
            Ok(planned) => planned,
            Err(reason) => {
                self.tell_remote(snapshot, domain, packet, headers, reason, 0, io);
                return Err(reason);
            }
        };
        if let Err(reason) = check(packet.bytes(), packet.offload(), headers, &planned.compiled) {
            let mtu = planned.compiled.mtu;
            self.tell_remote(snapshot, domain, packet, headers, reason, mtu, io);
            return Err(reason);
        }
        clamp_mss(packet, headers, largest_segment(planned.compiled.mtu, headers.family));
        self.execute(snapshot, domain, packet, headers, &arrival.flow, &planned, io)
    }

    /// Sends a translated packet that is for a leased address back in, as if it had come from the
    /// front end (RFC 4787 REQ-9). The view begins at the IP header.
    pub(super) fn hairpin(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        compiled: &Compiled,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        alter(packet, headers, compiled)?;
        let ethertype = match headers.family {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        };
        let ended = self.turn_back(snapshot, packet, ethertype, io)?;
        if let Verdict::Drop(_) = ended.verdict {
            self.dropped_by = ended.domain.map(|domain| domain.slot);
        }
        Ok(ended.verdict)
    }

    /// Takes the IP packet of a view as if it had come from the front end.
    pub(super) fn turn_back<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        ethertype: u16,
        io: &mut Io<'_>,
    ) -> Result<Ended<'s>, DropReason> {
        let ethernet = packet.prepend::<ETHERNET_LENGTH>().map_err(|_| DropReason::NoHeadroom)?;
        let mac = snapshot.front_end.mac;
        nvgate_nvgre::encap::write_inner_ethernet(ethernet, mac, mac, ethertype);
        Ok(self.front_end_packet(snapshot, packet, Owner::Unknown, io))
    }
}
