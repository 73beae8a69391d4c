//! Between the dispatcher and the gateway's own endpoints: packets for their services leave for the
//! thread that runs them, and what they send is routed here as the gateway's own.

use nvgate_model::{DomainSlot, DropReason};
use nvgate_nvgre::lookup::EndpointIndex;
use nvgate_packet::buf::PacketBuf;
use nvgate_packet::flow_key::flow_hash;
use nvgate_packet::headers::{self, Fragment, Headers, Transport};
use nvgate_packet::rewrite::clamp_mss;

use super::egress::{cut, send};
use super::forward::{largest_segment, link_of};
use super::onward::mtu_towards;
use super::route::{Decision, decide_own};
use super::tunnels::Way;
use super::{Dispatcher, Ended, Io, Verdict, wire_packets};
use crate::endpoint::{BFD_PORTS, BGP_PORT, MAX_PACKET};
use crate::io::PortRole;
use crate::snapshot::{Domain, Service, SiteIndex, Snapshot, Speaker};

/// The service of the gateway's own endpoint that a packet is for by its ports.
fn service_of(headers: &Headers) -> Option<Service> {
    match headers.transport {
        Transport::Tcp { .. } => [headers.source_port, headers.destination_port]
            .contains(&BGP_PORT)
            .then_some(Service::Tcp),
        Transport::Udp => BFD_PORTS.contains(&headers.destination_port).then_some(Service::Udp),
        Transport::EchoRequest
        | Transport::EchoReply
        | Transport::IcmpError
        | Transport::IcmpOther { .. }
        | Transport::Opaque => None,
    }
}

/// The service that a packet for one of the domain's own addresses is punted for.
pub(super) fn punted_for(domain: &Domain, packet: &[u8], headers: &Headers) -> Option<Service> {
    let service = service_of(headers).filter(|&service| domain.interest.wants(service))?;
    domain.owns(headers::destination(packet, headers.family)).then_some(service)
}

impl Dispatcher {
    /// Copies a packet of `speaker`, which was proven to speak for its source, to the endpoint's
    /// thread. The view begins at the IP header.
    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    pub(super) fn punt_to_endpoint(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        speaker: Speaker,
        service: Service,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        if headers.fragment != Fragment::Whole {
            return Err(DropReason::EndpointFragment);
        }
        let (now, packets) = (self.now, wire_packets(packet));
        let state = self.state(domain).ok_or(DropReason::NotServed)?;
        if !state.may_punt(service, now, packets) {
            return Err(DropReason::EndpointLimited);
        }
        let punts = io.punts.as_deref_mut().ok_or(DropReason::NotServed)?;
        if punts.room(domain.slot) < packets as usize {
            return Err(DropReason::EndpointFull);
        }
        let source = headers::source(packet.bytes(), headers.family);
        if let Some(mtu) = mtu_towards(snapshot, domain, speaker, source) {
            clamp_mss(packet, headers, largest_segment(mtu, headers.family));
        }
        let mut put = |head: &[u8], rest: &[u8]| {
            punts.send(domain.slot, head, rest).map_err(|_| DropReason::EndpointFull)
        };
        if packet.offload().gso.is_some() {
            cut(&mut self.scratch, 0, packet, headers, MAX_PACKET, |head, rest| put(head, rest))?;
        } else if packet.len() > MAX_PACKET {
            return Err(DropReason::TooBig);
        } else if packet.complete_checksum() {
            put(packet.bytes(), &[])?;
        } else {
            return Err(DropReason::OffloadInvalid);
        }
        Ok(Verdict::Punt)
    }

    /// Routes an IP packet that the gateway's own endpoint in the domain `slot` sends.
    pub fn process_injected(
        &mut self,
        snapshot: &Snapshot,
        now: nvgate_model::Instant,
        slot: DomainSlot,
        packet: &mut PacketBuf<'_>,
        io: &mut Io<'_>,
    ) {
        self.now = now;
        let ended = match snapshot.domain(slot) {
            Some(domain) => Ended {
                verdict: self.route_own(snapshot, domain, packet, io).unwrap_or_else(Verdict::Drop),
                domain: Some(domain),
            },
            None => Ended { verdict: Verdict::Drop(DropReason::EndpointSource), domain: None },
        };
        self.account(&ended, 1);
    }

    fn route_own(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let headers = Headers::parse(packet.bytes())?;
        if !domain.owns(headers::source(packet.bytes(), headers.family)) {
            return Err(DropReason::EndpointSource);
        }
        let destination = headers::destination(packet.bytes(), headers.family);
        let flow = flow_hash(packet.bytes(), &headers, self.config.seed);
        match decide_own(domain, destination, flow) {
            Decision::Overlay(endpoint) => {
                self.own_to_endpoint(snapshot, domain, endpoint, packet, &headers, io)
            }
            Decision::Site(site) => self.own_to_site(snapshot, domain, site, packet, &headers, io),
            Decision::Unreachable(reason) | Decision::Discard(reason) => Err(reason),
            Decision::Gateway | Decision::Translate | Decision::Untranslated => {
                Err(DropReason::NoRoute)
            }
        }
    }

    fn own_to_endpoint(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        endpoint: EndpointIndex,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let hash = flow_hash(packet.bytes(), headers, self.config.seed);
        let compiled = self.towards_endpoint(snapshot, domain, endpoint, hash)?;
        let link = match link_of(snapshot, domain, &compiled) {
            Ok(link) => link,
            Err(reason) => {
                let host = nvgate_nvgre::lookup::HostIndex(compiled.host);
                if reason == DropReason::FabricUnresolved
                    && let Some(host) = snapshot.fabric.host(host)
                {
                    self.request_resolution(domain, PortRole::Fabric, host.next);
                }
                return Err(reason);
            }
        };
        clamp_mss(packet, headers, largest_segment(compiled.mtu, headers.family));
        let mtu = usize::from(compiled.mtu);
        send(&mut self.scratch, io.fabric, &link, packet, headers, mtu)?;
        self.counters_of(domain).inbound.count(1, u64::from(headers.length));
        Ok(Verdict::Transmit)
    }

    fn own_to_site(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        site: SiteIndex,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let destination = headers::destination(packet.bytes(), headers.family);
        let mtu = domain.site(site).and_then(|site| site.mtu(destination));
        let mtu = mtu.ok_or(DropReason::TunnelDown)?;
        clamp_mss(packet, headers, largest_segment(mtu, headers.family));
        let flow = flow_hash(packet.bytes(), headers, self.config.seed);
        let way = Way { snapshot, domain, site, flow, now: self.now };
        self.tunnels.send(&way, &mut self.scratch, packet, headers, io)
    }
}
