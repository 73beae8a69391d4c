//! ARP and neighbour discovery inside a subnet: asked for a default gateway, the gateway answers
//! with its own MAC; asked for an endpoint with a lookup record, with the endpoint's. Nothing is
//! learned from what it hears, and nothing is flooded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::{CustomerAddress, DropReason, FlowId, MacAddress};
use nvgate_nvgre::lookup::EndpointIndex;
use nvgate_packet::checksum;
use nvgate_packet::headers::{
    ETHERTYPE_ARP, ETHERTYPE_IPV6, Family, Headers, ICMPV6, IPV6_LENGTH, Transport, read_u16,
    read_u32, read_u128,
};

use super::domain_state::Asker;
use super::forward::overlay_link;
use super::sender::Sender;
use super::{Dispatcher, Io, Verdict};
use crate::snapshot::{Domain, Snapshot, Subnet};

/// Bytes of an ARP message for IPv4 over Ethernet (RFC 826).
pub(super) const ARP_LENGTH: usize = 28;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const REDIRECT: u8 = 137;
/// Router, solicited, override (RFC 4861 section 4.4).
const FLAG_ROUTER: u32 = 0x8000_0000;
const FLAG_SOLICITED: u32 = 0x4000_0000;
const FLAG_OVERRIDE: u32 = 0x2000_0000;
/// Seconds that hosts keep the gateway as their default router (RFC 4861 section 6.2.1).
const ROUTER_LIFETIME_SECS: u16 = 1800;
const PREFIX_VALID_SECS: u32 = 86_400;
const PREFIX_PREFERRED_SECS: u32 = 14_400;
/// Room for an advertisement with its prefixes.
pub(super) const MAX_ADVERTISEMENT: usize = 512;
/// Prefixes named in one router advertisement.
const MAX_PREFIXES: usize = 8;

/// An ARP request (RFC 826).
#[derive(Clone, Copy, Debug)]
pub(super) struct ArpRequest {
    pub(super) sender_mac: MacAddress,
    pub(super) sender: Ipv4Addr,
    pub(super) target: Ipv4Addr,
}

impl ArpRequest {
    /// Reads a request; replies and other hardware are none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<ARP_LENGTH>()?;
        if bytes[..6] != [0, 1, 0x08, 0x00, 6, 4] || read_u16(bytes, 6) != ARP_REQUEST {
            return None;
        }
        let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, ..] = *bytes;
        Some(Self {
            sender_mac: MacAddress([a, b, c, d, e, f]),
            sender: Ipv4Addr::from_bits(read_u32(bytes, 14)),
            target: Ipv4Addr::from_bits(read_u32(bytes, 24)),
        })
    }

    /// The reply that says `mac` has the target.
    pub(super) fn reply(&self, mac: MacAddress) -> [u8; ARP_LENGTH] {
        arp(ARP_REPLY, (mac, self.target), (self.sender_mac, self.sender))
    }
}

/// A gratuitous ARP request: `mac` has `address` (RFC 5227 section 3).
pub(super) fn gratuitous_arp(mac: MacAddress, address: Ipv4Addr) -> [u8; ARP_LENGTH] {
    arp(ARP_REQUEST, (mac, address), (MacAddress::default(), address))
}

fn arp(
    operation: u16,
    sender: (MacAddress, Ipv4Addr),
    target: (MacAddress, Ipv4Addr),
) -> [u8; ARP_LENGTH] {
    let mut bytes = [0; ARP_LENGTH];
    bytes[..6].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4]);
    bytes[6..8].copy_from_slice(&operation.to_be_bytes());
    bytes[8..14].copy_from_slice(&sender.0.0);
    bytes[14..18].copy_from_slice(&sender.1.octets());
    bytes[18..24].copy_from_slice(&target.0.0);
    bytes[24..28].copy_from_slice(&target.1.octets());
    bytes
}

/// Whether a packet is neighbour discovery (RFC 4861): types 133 to 137.
pub(super) const fn is_discovery(headers: &Headers) -> bool {
    matches!(
        (headers.family, headers.transport),
        (Family::V6, Transport::IcmpOther { kind: ROUTER_SOLICITATION..=REDIRECT })
    )
}

/// A neighbour or router solicitation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Solicitation {
    /// Who has `target`?
    Neighbour {
        /// The asker's address; unspecified while it checks for duplicates.
        source: Ipv6Addr,
        /// The address asked for.
        target: Ipv6Addr,
    },
    /// Who routes?
    Router {
        /// The asker's address; may be unspecified.
        source: Ipv6Addr,
    },
}

impl Solicitation {
    /// Reads a solicitation that passes RFC 4861 sections 6.1.1 and 7.1.1.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let headers = Headers::parse(packet).ok()?;
        let at = usize::from(headers.transport_at);
        let message = packet.get(at..headers.length as usize)?;
        let source = Ipv6Addr::from_bits(read_u128(packet, 8));
        let destination = Ipv6Addr::from_bits(read_u128(packet, 24));
        let pseudo = checksum::pseudo_v6(source, destination, ICMPV6, message.len());
        let sound = packet[7] == 255
            && *message.get(1)? == 0
            && checksum::add(pseudo, checksum::sum(message)) == 0xffff;
        if !sound {
            return None;
        }
        match *message.first()? {
            ROUTER_SOLICITATION if message.len() >= 8 => Some(Self::Router { source }),
            NEIGHBOUR_SOLICITATION if message.len() >= 24 => {
                let target = Ipv6Addr::from_bits(read_u128(message, 8));
                (!target.is_multicast()).then_some(Self::Neighbour { source, target })
            }
            _ => None,
        }
    }
}

/// The gateway's link-local address: its MAC in modified EUI-64 (RFC 4291 appendix A).
pub(super) const fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let high = 0xfe80_u128 << 112;
    let low = ((a ^ 2) as u128) << 56
        | (b as u128) << 48
        | (c as u128) << 40
        | 0xff_fe_u128 << 24
        | (d as u128) << 16
        | (e as u128) << 8
        | f as u128;
    Ipv6Addr::from_bits(high | low)
}

/// Writes a neighbour advertisement (RFC 4861 section 4.4) that says `mac` has `target`, as an
/// IPv6 packet, and returns its length. An asker without an address is answered at all nodes.
pub(super) fn neighbour_advertisement(
    out: &mut [u8; MAX_ADVERTISEMENT],
    target: Ipv6Addr,
    mac: MacAddress,
    asker: Option<Ipv6Addr>,
    is_router: bool,
) -> usize {
    let asker = asker.filter(|asker| !asker.is_unspecified());
    let mut flags = FLAG_OVERRIDE;
    flags |= if asker.is_some() { FLAG_SOLICITED } else { 0 };
    flags |= if is_router { FLAG_ROUTER } else { 0 };
    let body = &mut out[IPV6_LENGTH..];
    body[..4].copy_from_slice(&[136, 0, 0, 0]);
    body[4..8].copy_from_slice(&flags.to_be_bytes());
    body[8..24].copy_from_slice(&target.octets());
    body[24..26].copy_from_slice(&[2, 1]);
    body[26..32].copy_from_slice(&mac.0);
    finish_discovery(out, target, asker, 32)
}

/// Writes a router advertisement (RFC 4861 section 4.2) for a subnet's IPv6 prefixes, on-link but
/// without autoconfiguration: customer addresses come from lookup records.
fn router_advertisement(
    out: &mut [u8; MAX_ADVERTISEMENT],
    mac: MacAddress,
    asker: Ipv6Addr,
    subnet: &Subnet,
    mtu: u16,
) -> usize {
    let body = &mut out[IPV6_LENGTH..];
    body[..16].fill(0);
    body[0] = 134;
    body[4] = 64;
    body[6..8].copy_from_slice(&ROUTER_LIFETIME_SECS.to_be_bytes());
    body[16..18].copy_from_slice(&[1, 1]);
    body[18..24].copy_from_slice(&mac.0);
    body[24..28].copy_from_slice(&[5, 1, 0, 0]);
    body[28..32].copy_from_slice(&u32::from(mtu).to_be_bytes());
    let mut length = 32;
    let prefixes = subnet.prefixes.iter().filter_map(|prefix| match prefix.network() {
        IpAddr::V6(network) => Some((network, prefix.length())),
        IpAddr::V4(_) => None,
    });
    for (network, prefix_length) in prefixes.take(MAX_PREFIXES) {
        let option = &mut body[length..length + 32];
        option[..4].copy_from_slice(&[3, 4, prefix_length, 0x80]);
        option[4..8].copy_from_slice(&PREFIX_VALID_SECS.to_be_bytes());
        option[8..12].copy_from_slice(&PREFIX_PREFERRED_SECS.to_be_bytes());
        option[12..16].fill(0);
        option[16..32].copy_from_slice(&network.octets());
        length += 32;
    }
    let asker = Some(asker).filter(|asker| !asker.is_unspecified());
    finish_discovery(out, link_local(mac), asker, length)
}

/// Puts the IPv6 header in front of `length` bytes of ICMPv6 and fills in the checksum.
fn finish_discovery(
    out: &mut [u8; MAX_ADVERTISEMENT],
    source: Ipv6Addr,
    destination: Option<Ipv6Addr>,
    length: usize,
) -> usize {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let destination = destination.unwrap_or(ALL_NODES);
    out[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, ICMPV6, 255]);
    out[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    out[8..24].copy_from_slice(&source.octets());
    out[24..40].copy_from_slice(&destination.octets());
    let message = &mut out[IPV6_LENGTH..IPV6_LENGTH + length];
    message[2..4].fill(0);
    let pseudo = checksum::pseudo_v6(source, destination, ICMPV6, length);
    let sum = checksum::finish(checksum::add(pseudo, checksum::sum(message)));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    IPV6_LENGTH + length
}

impl Dispatcher {
    /// Answers the ARP message in `arp` that came from `sender`.
    pub(super) fn answer_arp(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        subnet: &Subnet,
        sender: &Sender,
        arp: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let asker = sender.prove_mac(&snapshot.fabric, domain)?;
        let request = ArpRequest::parse(arp).ok_or(DropReason::NeighbourUnanswered)?;
        let owns_sender =
            request.sender.is_unspecified() || domain.is_of(asker, request.sender.into());
        if request.sender_mac != sender.mac || !owns_sender {
            return Err(DropReason::SpoofedSource);
        }
        let target = request.target.into();
        let mac = known_mac(snapshot, domain, subnet, asker, target)
            .ok_or(DropReason::NeighbourUnanswered)?;
        let reply = request.reply(mac);
        self.send_neighbourly(snapshot, domain, sender, asker, (ETHERTYPE_ARP, &reply), io)
    }

    /// Answers the neighbour discovery message in the IPv6 packet `packet` from `sender`.
    pub(super) fn answer_discovery(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        subnet: &Subnet,
        sender: &Sender,
        packet: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let asker = sender.prove_mac(&snapshot.fabric, domain)?;
        let solicitation = Solicitation::parse(packet).ok_or(DropReason::NeighbourUnanswered)?;
        let (Solicitation::Neighbour { source, .. } | Solicitation::Router { source }) =
            solicitation;
        let owns_source = source.is_unspecified()
            || source.is_unicast_link_local()
            || domain.is_of(asker, source.into());
        if !owns_source {
            return Err(DropReason::SpoofedSource);
        }
        let mut out = [0; MAX_ADVERTISEMENT];
        let length = match solicitation {
            Solicitation::Neighbour { source, target } => {
                let mac = known_mac(snapshot, domain, subnet, asker, target.into())
                    .ok_or(DropReason::NeighbourUnanswered)?;
                let is_router = mac == snapshot.gateway_mac;
                neighbour_advertisement(&mut out, target, mac, Some(source), is_router)
            }
            Solicitation::Router { source } => {
                let mtu = domain
                    .lookup
                    .endpoint(asker)
                    .and_then(|endpoint| snapshot.fabric.host(endpoint.host()))
                    .map_or(0, |host| host.mtu);
                router_advertisement(&mut out, snapshot.gateway_mac, source, subnet, mtu)
            }
        };
        self.send_neighbourly(snapshot, domain, sender, asker, (ETHERTYPE_IPV6, &out[..length]), io)
    }

    /// Sends an answer back to the host and endpoint that asked.
    fn send_neighbourly(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        sender: &Sender,
        asker: EndpointIndex,
        (ethertype, payload): (u16, &[u8]),
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        if !self.may_answer(domain, Asker::Endpoint) {
            return Err(DropReason::PuntLimited);
        }
        let endpoint = domain.lookup.endpoint(asker).ok_or(DropReason::UnknownCustomer)?;
        let host = *endpoint
            .hosts()
            .iter()
            .find(|&&host| {
                snapshot.fabric.host(host).is_some_and(|host| host.address == sender.provider)
            })
            .ok_or(DropReason::SpoofedProvider)?;
        let constant = snapshot.fabric.host(host).and_then(|host| host.constant_flow);
        let macs = (sender.mac, snapshot.gateway_mac);
        let flow = constant.unwrap_or(FlowId(0));
        let link = overlay_link(snapshot, host, sender.vsid, flow, macs)?;
        self.scratch.send_frame(io.fabric, &link, ethertype, payload)?;
        Ok(Verdict::Punt)
    }
}

/// The MAC that answers for `target` in `subnet`, unless it is the asker itself.
fn known_mac(
    snapshot: &Snapshot,
    domain: &Domain,
    subnet: &Subnet,
    asker: EndpointIndex,
    target: IpAddr,
) -> Option<MacAddress> {
    if subnet.is_gateway(target) || target == IpAddr::V6(link_local(snapshot.gateway_mac)) {
        return Some(snapshot.gateway_mac);
    }
    let index = domain.lookup.by_customer(CustomerAddress(target))?;
    let endpoint = domain.lookup.endpoint(index)?;
    (index != asker && endpoint.vsid() == subnet.vsid).then(|| endpoint.mac())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddress = MacAddress([0x02, 0x6e, 0x76, 0x67, 0x00, 0x01]);

    #[test]
    fn the_link_local_address_is_modified_eui_64() {
        assert_eq!(link_local(MAC).to_string(), "fe80::6e:76ff:fe67:1");
    }

    #[test]
    fn a_reply_swaps_the_sides_of_the_request() {
        let asker = (MacAddress([2; 6]), Ipv4Addr::new(10, 1, 0, 10));
        let target = Ipv4Addr::new(10, 1, 0, 1);
        let bytes = arp(ARP_REQUEST, asker, (MacAddress::default(), target));
        let request = ArpRequest::parse(&bytes).unwrap();
        assert_eq!(request.reply(MAC), arp(ARP_REPLY, (MAC, target), asker));
        assert!(ArpRequest::parse(&request.reply(MAC)).is_none());
    }

    #[test]
    fn an_advertisement_carries_a_right_checksum() {
        let mut out = [0; MAX_ADVERTISEMENT];
        let target: Ipv6Addr = "fd00:1::1".parse().unwrap();
        let asker = "fd00:1::10".parse().unwrap();
        let length = neighbour_advertisement(&mut out, target, MAC, Some(asker), true);
        let headers = Headers::parse(&out[..length]).unwrap();
        assert!(is_discovery(&headers));
        let message = &out[40..length];
        let pseudo = checksum::pseudo_v6(target, asker, ICMPV6, message.len());
        assert_eq!(checksum::add(pseudo, checksum::sum(message)), 0xffff);
        assert_eq!(read_u32(message, 4), FLAG_ROUTER | FLAG_SOLICITED | FLAG_OVERRIDE);
    }

    proptest! {
        #[test]
        fn any_bytes_return(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ArpRequest::parse(&bytes);
            let _ = Solicitation::parse(&bytes);
        }
    }
}
