//! Packets from the fabric: NVGRE from the virtualization hosts.

use arrayvec::ArrayVec;
use nvgate_model::{DomainSlot, DropReason, MacAddress};
use nvgate_nvgre::decap::{Decap, Decline, decap};
use nvgate_nvgre::ecn;
use nvgate_nvgre::lookup::EndpointIndex;
use nvgate_packet::buf::PacketBuf;
use nvgate_packet::flow_key::flow_hash;
use nvgate_packet::headers::{
    self, ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN, Fragment, Headers, traffic_class,
};
use nvgate_packet::rewrite;

use super::flow_table::Egress;
use super::forward::{Flow, Forward, expose_ip, hand_on};
use super::neighbour::is_discovery;
use super::route::{Decision, decide};
use super::sender::Sender;
use super::{Dispatcher, Ended, Io, Verdict};
use crate::io::{BATCH, Batch, PortRole};
use crate::snapshot::{Domain, Snapshot, Speaker, Subnet};
use crate::worker::handoff::Owner;

/// What one pass over a frame from the fabric found.
pub(super) struct OverlayArrival {
    decap: Decap,
    destination: MacAddress,
    source: MacAddress,
    ethertype: u16,
    flow: Flow,
}

impl OverlayArrival {
    fn sender(&self) -> Sender {
        Sender { provider: self.decap.provider, vsid: self.decap.vsid, mac: self.source }
    }
}

#[inline(always)]
fn classify(snapshot: &Snapshot, frame: &[u8], seed: u64) -> Result<OverlayArrival, Decline> {
    let decap = decap(frame, &snapshot.fabric.own)?;
    let inner = &frame[decap.inner_at..decap.end];
    let Some((ethernet, packet)) = inner.split_first_chunk::<ETHERNET_LENGTH>() else {
        return Err(Decline::Drop(DropReason::InnerMalformed));
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, e0, e1] = *ethernet;
    let destination = MacAddress([d0, d1, d2, d3, d4, d5]);
    let ethertype = u16::from_be_bytes([e0, e1]);
    let flow = if destination == snapshot.gateway_mac {
        Flow::parse(decap.vsid.into(), ethertype, packet, seed)
    } else {
        Flow::None
    };
    let source = MacAddress([s0, s1, s2, s3, s4, s5]);
    Ok(OverlayArrival { decap, destination, source, ethertype, flow })
}

impl Dispatcher {
    pub(super) fn process_overlay(
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
            let ended = self.overlay_arrival(snapshot, packet, arrival, Owner::Unknown, io);
            self.account(&ended, packets);
        }
    }

    /// Processes one frame outside a batch.
    pub(super) fn overlay_packet<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let arrival = classify(snapshot, packet.bytes(), self.config.seed);
        self.overlay_arrival(snapshot, packet, &arrival, owner, io)
    }

    #[inline]
    fn overlay_arrival<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        arrival: &Result<OverlayArrival, Decline>,
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let arrival = match arrival {
            Ok(arrival) => arrival,
            Err(Decline::NotOurs) => return Ended { verdict: Verdict::Ignore, domain: None },
            Err(Decline::Drop(reason)) => {
                return Ended { verdict: Verdict::Drop(*reason), domain: None };
            }
        };
        if let Some(ended) = self.overlay_hit(snapshot, packet, arrival, io) {
            self.config.counters.flow_hits.add(1);
            return ended;
        }
        self.config.counters.flow_misses.add(1);
        let Some((domain, subnet)) = snapshot.by_vsid(arrival.decap.vsid) else {
            return Ended { verdict: Verdict::Drop(DropReason::VsidUnknown), domain: None };
        };
        let verdict = self.overlay_slow(snapshot, domain, subnet, packet, arrival, owner, io);
        let domain =
            self.dropped_by.take().and_then(|slot| snapshot.domain(slot)).unwrap_or(domain);
        Ended { verdict: verdict.unwrap_or_else(Verdict::Drop), domain: Some(domain) }
    }

    /// Forwards by the compiled entry, or says `None` and leaves the packet alone.
    #[inline]
    fn overlay_hit<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        arrival: &OverlayArrival,
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
            let verdict = hand_on(io, to, PortRole::Fabric, packet);
            return Some(Ended { verdict, domain: Some(domain) });
        }
        let source = domain.lookup.endpoint(EndpointIndex(compiled.source))?;
        arrival.sender().speaks_for(&snapshot.fabric, source).ok()?;
        let ip_at = arrival.decap.inner_at + ETHERNET_LENGTH;
        let inner = traffic_class(packet.bytes().get(ip_at..)?, headers.family);
        let class = ecn::decapsulate(inner, arrival.decap.class, snapshot.fabric.dscp).ok()?;
        let packets = super::wire_packets(packet);
        let forward = Forward {
            position,
            compiled: &compiled,
            headers,
            ip_at,
            class: (class != inner).then_some(class),
        };
        let verdict = self.forward_hit(snapshot, domain, packet, &forward, io)?;
        self.counters_of(domain).outbound.count(packets, u64::from(headers.length));
        Some(Ended { verdict, domain: Some(domain) })
    }

    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    fn overlay_slow(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        subnet: &Subnet,
        packet: &mut PacketBuf<'_>,
        arrival: &OverlayArrival,
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        if matches!(arrival.ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) {
            return Err(DropReason::InnerTagged);
        }
        if !arrival.source.is_station() {
            return Err(DropReason::InnerSourceMac);
        }
        if !matches!(arrival.ethertype, ETHERTYPE_ARP | ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
            return Err(DropReason::InnerEtherType);
        }
        let sender = arrival.sender();
        if arrival.ethertype == ETHERTYPE_ARP {
            packet.truncate(arrival.decap.end);
            packet.strip(arrival.decap.inner_at + ETHERNET_LENGTH);
            return self.answer_arp(snapshot, domain, subnet, &sender, packet.bytes(), io);
        }
        if arrival.destination != snapshot.gateway_mac {
            return self.overlay_layer_two(snapshot, domain, subnet, packet, arrival, io);
        }
        let headers = arrival.flow.parsed()?;
        self.route_from_overlay(snapshot, domain, subnet, packet, arrival, headers, owner, io)
    }

    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    fn route_from_overlay(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        subnet: &Subnet,
        packet: &mut PacketBuf<'_>,
        arrival: &OverlayArrival,
        headers: &Headers,
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let sender = arrival.sender();
        let ip_at = arrival.decap.inner_at + ETHERNET_LENGTH;
        let ip = packet.bytes().get(ip_at..).unwrap_or(&[]);
        let source = headers::source(ip, headers.family);
        let destination = headers::destination(ip, headers.family);
        if is_discovery(headers) {
            packet.truncate(arrival.decap.end);
            packet.strip(ip_at);
            return self.answer_discovery(snapshot, domain, subnet, &sender, packet.bytes(), io);
        }
        let speaker = sender.prove(&snapshot.fabric, domain, source)?;
        let class = traffic_class(ip, headers.family);
        let class = ecn::decapsulate(class, arrival.decap.class, snapshot.fabric.dscp)?;
        let flow = flow_hash(ip, headers, self.config.seed);
        let decision = decide(domain, snapshot.gateway_mac, source, destination, flow);
        if decision == Decision::Translate
            && let Some(worker) = self.owner_outbound(domain, ip, headers, owner)?
        {
            if worker.1 == Owner::Mine {
                self.keep_handoff(snapshot, domain, &arrival.flow, worker.0);
            }
            return Ok(hand_on(io, worker, PortRole::Fabric, packet));
        }
        let packets = super::wire_packets(packet);
        self.counters_of(domain).outbound.count(packets, u64::from(headers.length));
        expose_ip(packet, ip_at, headers)?;
        rewrite::set_traffic_class(packet.bytes_mut(), headers.family, class);
        let way = (decision, Speaker::Endpoint(speaker));
        self.send_onward(snapshot, domain, packet, (headers, &arrival.flow), way, io)
    }

    /// A frame that is not for the gateway's MAC: relayed to a known endpoint of the subnet,
    /// answered (neighbour discovery), or replicated.
    fn overlay_layer_two(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        subnet: &Subnet,
        packet: &mut PacketBuf<'_>,
        arrival: &OverlayArrival,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let sender = arrival.sender();
        let ip_at = arrival.decap.inner_at + ETHERNET_LENGTH;
        let headers = Headers::parse(packet.bytes().get(ip_at..arrival.decap.end).unwrap_or(&[]))?;
        let ip = packet.bytes().get(ip_at..).unwrap_or(&[]);
        let source = headers::source(ip, headers.family);
        if is_discovery(&headers) {
            sender.prove_mac(&snapshot.fabric, domain)?;
            packet.truncate(arrival.decap.end);
            packet.strip(ip_at);
            return self.answer_discovery(snapshot, domain, subnet, &sender, packet.bytes(), io);
        }
        if source.is_unspecified() {
            sender.prove_mac(&snapshot.fabric, domain)?;
        } else {
            sender.prove(&snapshot.fabric, domain, source)?;
        }
        let class = traffic_class(ip, headers.family);
        let class = ecn::decapsulate(class, arrival.decap.class, snapshot.fabric.dscp)?;
        expose_ip(packet, ip_at, &headers)?;
        rewrite::set_traffic_class(packet.bytes_mut(), headers.family, class);
        self.counters_of(domain)
            .outbound
            .count(super::wire_packets(packet), u64::from(headers.length));
        let macs = (arrival.destination, arrival.source);
        if arrival.destination.is_group() {
            return self.replicate(snapshot, domain, subnet, &sender, packet, &headers, macs, io);
        }
        let index = domain
            .lookup
            .by_mac(arrival.decap.vsid, arrival.destination)
            .ok_or(DropReason::UnknownUnicast)?;
        self.relay(snapshot, domain, subnet, index, packet, &headers, macs, io)
    }
}
