//! Packets of a site: what a tunnel let out enters its routing domain here, and what is routed to
//! a site leaves for a tunnel.

use std::net::IpAddr;

use nvgate_model::{DomainSlot, DropReason};
use nvgate_packet::buf::PacketBuf;
use nvgate_packet::flow_key::{Place, flow_hash};
use nvgate_packet::headers::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Fragment, Headers};

use super::flow_table::{Compiled, Egress};
use super::forward::{Flow, Forward, alter, hand_over};
use super::neighbour::is_discovery;
use super::route::{Decision, decide};
use super::sender::{is_link_local, is_unicast};
use super::tunnels::Way;
use super::{Dispatcher, Ended, Io, Verdict};
use crate::snapshot::{Domain, SiteIndex, Snapshot, Speaker};
use crate::worker::handoff::{Owner, Stage};

impl Dispatcher {
    /// Takes an IP packet that a tunnel of the site let out, in the tenant's numbers. The view
    /// begins at the IP header.
    pub(super) fn site_packet<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        (slot, place): (DomainSlot, Place),
        owner: Owner,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let domain = snapshot.domain(slot);
        let Some((domain, index)) =
            domain.and_then(|domain| Some((domain, domain.site_at(place)?)))
        else {
            return Ended { verdict: Verdict::Drop(DropReason::TunnelDown), domain };
        };
        let ethertype = match packet.bytes().first().map(|first| first >> 4) {
            Some(6) => ETHERTYPE_IPV6,
            Some(_) | None => ETHERTYPE_IPV4,
        };
        let flow = Flow::parse(place, ethertype, packet.bytes(), self.config.seed);
        if let Some(verdict) = self.site_hit(snapshot, domain, place, packet, &flow, io) {
            self.config.counters.flow_hits.add(1);
            return Ended { verdict, domain: Some(domain) };
        }
        self.config.counters.flow_misses.add(1);
        let verdict = self.site_slow(snapshot, domain, (place, index), packet, (&flow, owner), io);
        let domain =
            self.dropped_by.take().and_then(|slot| snapshot.domain(slot)).unwrap_or(domain);
        Ended { verdict: verdict.unwrap_or_else(Verdict::Drop), domain: Some(domain) }
    }

    /// Forwards by the compiled entry, or says `None` and leaves the packet alone.
    fn site_hit(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        site: Place,
        packet: &mut PacketBuf<'_>,
        flow: &Flow,
        io: &mut Io<'_>,
    ) -> Option<Verdict> {
        let (position, compiled) = self.find(flow)?;
        // A site's place may have been another domain's before.
        if compiled.domain != domain.slot.0 || compiled.proof != snapshot.proof(domain) {
            return None;
        }
        let headers = flow.headers()?;
        if compiled.egress == Egress::Handoff {
            if headers.fragment != Fragment::Whole {
                return None;
            }
            let stage = Stage::FromSite { domain: domain.slot, site, owner: Owner::Mine };
            return Some(hand_over(io, compiled.target as u16, stage, packet));
        }
        let forward = Forward { position, compiled: &compiled, headers, ip_at: 0, class: None };
        self.forward_hit(snapshot, domain, packet, &forward, io)
    }

    fn site_slow(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        (place, index): (Place, SiteIndex),
        packet: &mut PacketBuf<'_>,
        (flow, owner): (&Flow, Owner),
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let headers = flow.parsed()?;
        let bytes = packet.bytes();
        let source = headers::source(bytes, headers.family);
        let destination = headers::destination(bytes, headers.family);
        if !is_unicast(source) || is_link_local(source) || !domain.routes.originates(index, source)
        {
            return Err(DropReason::TunnelSource);
        }
        if is_discovery(headers) {
            return Err(DropReason::Martian);
        }
        let may_leave = domain.site(index).is_some_and(|site| site.internet);
        let hash = flow_hash(bytes, headers, self.config.seed);
        let decision = match decide(domain, snapshot.gateway_mac, source, destination, hash) {
            Decision::Translate | Decision::Untranslated if !may_leave => {
                Decision::Unreachable(DropReason::TunnelInternet)
            }
            // It would come back.
            Decision::Site(same) if same == index => Decision::Discard(DropReason::NoRoute),
            decision @ (Decision::Overlay(_)
            | Decision::Site(_)
            | Decision::Gateway
            | Decision::Translate
            | Decision::Untranslated
            | Decision::Unreachable(_)
            | Decision::Discard(_)) => decision,
        };
        if decision == Decision::Translate
            && let Some((worker, owner)) = self.owner_outbound(domain, bytes, headers, owner)?
        {
            if owner == Owner::Mine {
                self.keep_handoff(snapshot, domain, flow, worker);
            }
            let stage = Stage::FromSite { domain: domain.slot, site: place, owner };
            return Ok(hand_over(io, worker, stage, packet));
        }
        packet.truncate(headers.length as usize);
        let way = (decision, Speaker::Site(index));
        self.send_onward(snapshot, domain, packet, (headers, flow), way, io)
    }

    /// The part of a compiled entry that leads into a tunnel of the site to `destination`.
    ///
    /// # Errors
    ///
    /// `TunnelDown` when no tunnel that allows it is up.
    pub(super) fn towards_site(
        &self,
        snapshot: &Snapshot,
        domain: &Domain,
        index: SiteIndex,
        destination: IpAddr,
    ) -> Result<Compiled, DropReason> {
        let site = domain.site(index);
        let mtu = site.and_then(|site| site.mtu(destination)).ok_or(DropReason::TunnelDown)?;
        Ok(Compiled {
            target: u32::from(index.0),
            mtu,
            egress: Egress::Site,
            ..Compiled::vacant(snapshot.proof(domain), domain.slot, self.now.tick())
        })
    }

    /// Changes a packet as compiled and sends it into a tunnel of its site, here or on the worker
    /// that has the tunnel.
    pub(super) fn enter_site(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        compiled: &Compiled,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        alter(packet, headers, compiled)?;
        let flow = flow_hash(packet.bytes(), headers, self.config.seed);
        let site = SiteIndex(compiled.target as u16);
        let way = Way { snapshot, domain, site, flow, now: self.now };
        self.tunnels.send(&way, &mut self.scratch, packet, headers, io)
    }

    /// Sends a packet that another worker made ready into a tunnel of this worker.
    pub(super) fn enter_own_tunnel<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        (slot, place): (DomainSlot, Place),
        flow: u64,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let domain = snapshot.domain(slot);
        let Some((domain, site)) = domain.and_then(|domain| Some((domain, domain.site_at(place)?)))
        else {
            return Ended { verdict: Verdict::Drop(DropReason::TunnelDown), domain };
        };
        let way = Way { snapshot, domain, site, flow, now: self.now };
        let sent = Headers::parse(packet.bytes()).and_then(|headers| {
            self.tunnels.send_by_own(&way, &mut self.scratch, packet, &headers, io)
        });
        Ended { verdict: sent.unwrap_or_else(Verdict::Drop), domain: Some(domain) }
    }
}

/// The longest packet that the tunnels which a compiled entry leads to carry now, in bytes. `packet`
/// begins at the IP header.
pub(super) fn site_mtu(
    domain: &Domain,
    packet: &[u8],
    headers: &Headers,
    compiled: &Compiled,
) -> Option<u16> {
    let destination = if compiled.translate {
        compiled.rewrite.destination().into()
    } else {
        headers::destination(packet, headers.family)
    };
    domain.site(SiteIndex(compiled.target as u16))?.mtu(destination)
}
