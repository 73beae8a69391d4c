//! Into a tunnel: choosing it, numbering as the site sees it, cutting, sealing, sending.

use std::net::SocketAddr;

use nvgate_model::{DomainSlot, DropReason, Instant, MacAddress};
use nvgate_nvgre::ecn;
use nvgate_packet::buf::{Checksum, HEADROOM, PacketBuf};
use nvgate_packet::headers::{self, Headers, traffic_class};
use nvgate_packet::renumber::renumber;
use nvgate_packet::udp;
use nvgate_vpn::Sealed;

use super::path::{NoWay, family};
use super::{Held, MAX_TUNNELLED, Tunnels, Unresolved};
use crate::dispatch::egress::{Link, Scratch, cut, send_datagram};
use crate::dispatch::{Io, Verdict, longest_packet};
use crate::io::Tx;
use crate::snapshot::{Domain, Site, SiteIndex, SiteTunnel, Snapshot};
use crate::worker::handoff::Stage;

/// A packet's way into a site.
#[derive(Clone, Copy)]
pub(in crate::dispatch) struct Way<'s> {
    pub(in crate::dispatch) snapshot: &'s Snapshot,
    pub(in crate::dispatch) domain: &'s Domain,
    pub(in crate::dispatch) site: SiteIndex,
    /// What equal tunnels share by.
    pub(in crate::dispatch) flow: u64,
    pub(in crate::dispatch) now: Instant,
}

impl<'s> Way<'s> {
    fn site(&self) -> Result<&'s Site, DropReason> {
        self.domain.site(self.site).ok_or(DropReason::TunnelDown)
    }
}

impl Tunnels {
    /// Sends an IP packet into a tunnel of the site, or to the worker that has it. The view begins
    /// at the IP header.
    pub(in crate::dispatch) fn send(
        &mut self,
        way: &Way<'_>,
        scratch: &mut Scratch,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let destination = headers::destination(packet.bytes(), headers.family);
        let site = way.site()?;
        let tunnel = site.choose(destination, way.flow).ok_or(DropReason::TunnelDown)?;
        let owner = tunnel.index.owner(self.workers);
        if owner != self.worker {
            let stage =
                Stage::IntoSite { domain: way.domain.slot, site: site.place, flow: way.flow };
            return match io.handoff.send(owner, stage, packet) {
                Ok(()) => Ok(Verdict::Handoff),
                Err(_) => Err(DropReason::HandoffFull),
            };
        }
        self.seal(way, tunnel, scratch, packet, headers, io)
    }

    /// As [`send`](Self::send), but only into tunnels of this worker: the choice may have changed
    /// on the way here.
    pub(in crate::dispatch) fn send_by_own(
        &mut self,
        way: &Way<'_>,
        scratch: &mut Scratch,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let destination = headers::destination(packet.bytes(), headers.family);
        let (worker, workers) = (self.worker, self.workers);
        let mine = |tunnel: &SiteTunnel| tunnel.index.owner(workers) == worker;
        let tunnel =
            way.site()?.choose_among(destination, way.flow, mine).ok_or(DropReason::TunnelDown)?;
        self.seal(way, tunnel, scratch, packet, headers, io)
    }

    fn seal(
        &mut self,
        way: &Way<'_>,
        spec: &SiteTunnel,
        scratch: &mut Scratch,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let site = way.site()?;
        let Self { tunnels, wire, unresolved, schedule, .. } = self;
        let held = tunnels.get_mut(&spec.index).ok_or(DropReason::TunnelDown)?;
        let mtu = usize::from(spec.shared.mtu());
        if let Some(policer) = &mut held.outbound
            && !policer.admit(way.now, headers.length as usize)
        {
            return Err(DropReason::TunnelPolicedOutbound);
        }
        let partial = matches!(packet.offload().checksum, Checksum::Partial { .. });
        renumber(
            packet.bytes_mut(),
            headers,
            partial,
            |source| site.local.forward(source),
            |destination| site.remote.back(destination),
        );
        let class = traffic_class(packet.bytes(), headers.family);
        let class = ecn::encapsulate(class, way.snapshot.fabric.dscp);
        let longest = longest_packet(packet, headers);
        if longest > MAX_TUNNELLED {
            return Err(DropReason::TooBig);
        }
        let mut wire = Wire { snapshot: way.snapshot, local: spec.local, storage: wire };
        let mut put = |head: &[u8], payload: &[u8]| {
            let room = wire.room(held.tunnel.endpoint())?;
            match held.tunnel.seal(way.now, head, payload, mtu, room)? {
                Sealed::Datagram(length) => {
                    let outcome = wire.send(held, length, class, io.front_end);
                    outcome.map_err(|no_way| note(no_way, unresolved, way.domain.slot))
                }
                // The session it waits for is on its way.
                Sealed::Queued => Ok(()),
            }
        };
        if packet.offload().gso.is_some() || longest > mtu {
            cut(scratch, 0, packet, headers, mtu, |head, payload| put(head, payload))?;
        } else if packet.complete_checksum() {
            put(packet.bytes(), &[])?;
        } else {
            return Err(DropReason::OffloadInvalid);
        }
        held.reschedule(spec.index, schedule);
        Ok(Verdict::Transmit)
    }
}

/// Remembers a next hop that has to be resolved, and says what the packet is dropped for.
pub(super) fn note(no_way: NoWay, unresolved: &mut Unresolved, domain: DomainSlot) -> DropReason {
    match no_way {
        NoWay::Drop(reason) => reason,
        NoWay::Unresolved(address) => {
            // A full list loses nothing: the next packet asks again.
            let _ = unresolved.try_push((domain, address));
            DropReason::FrontEndUnresolved
        }
    }
}

/// Where a datagram is made, and where it leaves from.
pub(super) struct Wire<'w> {
    pub(super) snapshot: &'w Snapshot,
    pub(super) local: SocketAddr,
    pub(super) storage: &'w mut [u8],
}

impl Wire<'_> {
    /// The room for the payload of a datagram to `endpoint`.
    pub(super) fn room(&mut self, endpoint: Option<SocketAddr>) -> Result<&mut [u8], DropReason> {
        let endpoint = endpoint.ok_or(DropReason::TunnelNoEndpoint)?;
        let at = HEADROOM + udp::header_length(family(endpoint));
        self.storage.get_mut(at..).ok_or(DropReason::NoHeadroom)
    }

    /// Sends the payload of `length` bytes that stands in the [`room`](Self::room) to the tunnel's
    /// endpoint.
    pub(super) fn send(
        &mut self,
        held: &mut Held,
        length: usize,
        class: u8,
        tx: &mut Tx,
    ) -> Result<(), NoWay> {
        let no_endpoint = NoWay::Drop(DropReason::TunnelNoEndpoint);
        let endpoint = held.tunnel.endpoint().ok_or(no_endpoint)?;
        let destination = held.path.next(self.snapshot, endpoint)?;
        self.send_to(endpoint, destination, length, class, tx).map_err(NoWay::Drop)
    }

    /// Sends the payload that stands in the room to `remote` by the next hop `destination`.
    pub(super) fn send_to(
        &mut self,
        remote: SocketAddr,
        destination: MacAddress,
        length: usize,
        class: u8,
        tx: &mut Tx,
    ) -> Result<(), DropReason> {
        let family = family(remote);
        let end = HEADROOM + udp::header_length(family) + length;
        let packet = self.storage.get_mut(HEADROOM..end).ok_or(DropReason::NoHeadroom)?;
        let offload = udp::write_headers(packet, self.local, remote, class)
            .ok_or(DropReason::TunnelNoEndpoint)?;
        let mut packet = PacketBuf::new(self.storage, HEADROOM, end, offload);
        let link = Link::FrontEnd { destination, source: self.snapshot.front_end.mac };
        send_datagram(tx, &link, &mut packet, family)
    }
}
