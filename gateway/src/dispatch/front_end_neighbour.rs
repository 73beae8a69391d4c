//! ARP and neighbour discovery on the front end: the gateway answers for leased addresses, tenants'
//! prefixes and the addresses that tunnels end at, and announces them.

use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::{DropReason, MacAddress};
use nvgate_packet::headers::{ETHERTYPE_ARP, ETHERTYPE_IPV6};

use super::domain_state::Asker;
use super::egress::Link;
use super::neighbour::{
    ArpRequest, MAX_ADVERTISEMENT, Solicitation, gratuitous_arp, neighbour_advertisement,
};
use super::{Dispatcher, Ended, Io, Verdict};
use crate::snapshot::Snapshot;

/// The Ethernet address of all IPv6 nodes (RFC 2464 section 7).
const ALL_NODES: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 1]);

const IGNORED: Ended<'static> = Ended { verdict: Verdict::Ignore, domain: None };

impl Dispatcher {
    /// Answers an ARP request for a leased address; everything else is the kernel's.
    pub(super) fn answer_front_end_arp<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        arp: &[u8],
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let Some(request) = ArpRequest::parse(arp) else { return IGNORED };
        let Some(domain) = snapshot.answers_for(request.target.into()) else { return IGNORED };
        if request.sender == request.target || !request.sender_mac.is_station() {
            return IGNORED;
        }
        if !self.may_answer(domain, Asker::Neighbour) {
            let verdict = Verdict::Drop(DropReason::PuntLimited);
            return Ended { verdict, domain: Some(domain) };
        }
        let reply = request.reply(snapshot.front_end.mac);
        let link =
            Link::FrontEnd { destination: request.sender_mac, source: snapshot.front_end.mac };
        let sent = self.scratch.send_frame(io.front_end, &link, ETHERTYPE_ARP, &reply);
        let verdict = sent.map_or_else(Verdict::Drop, |()| Verdict::Punt);
        Ended { verdict, domain: Some(domain) }
    }

    /// Answers a neighbour solicitation for an address within a tenant's front-end prefix;
    /// everything else is the kernel's.
    pub(super) fn answer_front_end_discovery<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &[u8],
        (from, io): (MacAddress, &mut Io<'_>),
    ) -> Ended<'s> {
        let Some(Solicitation::Neighbour { source, target }) = Solicitation::parse(packet) else {
            return IGNORED;
        };
        let Some(domain) = snapshot.answers_for(IpAddr::V6(target)) else { return IGNORED };
        if !from.is_station() {
            return IGNORED;
        }
        if !self.may_answer(domain, Asker::Neighbour) {
            let verdict = Verdict::Drop(DropReason::PuntLimited);
            return Ended { verdict, domain: Some(domain) };
        }
        let mut out = [0; MAX_ADVERTISEMENT];
        let mac = snapshot.front_end.mac;
        let length = neighbour_advertisement(&mut out, target, mac, Some(source), true);
        let destination = if source.is_unspecified() { ALL_NODES } else { from };
        let link = Link::FrontEnd { destination, source: mac };
        let sent = self.scratch.send_frame(io.front_end, &link, ETHERTYPE_IPV6, &out[..length]);
        let verdict = sent.map_or_else(Verdict::Drop, |()| Verdict::Punt);
        Ended { verdict, domain: Some(domain) }
    }

    /// Tells the front end that this gateway has `address` now: gratuitous ARP.
    ///
    /// # Errors
    ///
    /// `TransmitFull`; the address is then to be announced again.
    pub fn announce(
        &mut self,
        snapshot: &Snapshot,
        address: Ipv4Addr,
        io: &mut Io<'_>,
    ) -> Result<(), DropReason> {
        let mac = snapshot.front_end.mac;
        let link = Link::FrontEnd { destination: MacAddress::BROADCAST, source: mac };
        let message = gratuitous_arp(mac, address);
        self.scratch.send_frame(io.front_end, &link, ETHERTYPE_ARP, &message)
    }
}
