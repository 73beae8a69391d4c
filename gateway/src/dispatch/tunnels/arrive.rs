//! Out of a tunnel: datagrams from the front end to the tunnels' sockets, opened, checked, and
//! numbered as the tenant's network sees them.

use std::net::SocketAddr;

use nvgate_model::DropReason;
use nvgate_nvgre::ecn;
use nvgate_packet::buf::{HEADROOM, Offload, PacketBuf};
use nvgate_packet::flow_key::Place;
use nvgate_packet::headers::{self, ETHERNET_LENGTH, Fragment, Headers, Transport, traffic_class};
use nvgate_packet::icmp;
use nvgate_packet::renumber::renumber;
use nvgate_packet::rewrite;
use nvgate_packet::udp::UDP_LENGTH;
use nvgate_vpn::{Identified, Message, Received, TunnelIndex};

use super::Tunnels;
use super::enter::{Wire, note};
use crate::dispatch::domain_state::Asker;
use crate::dispatch::forward::hand_over;
use crate::dispatch::sender::{is_link_local, is_unicast};
use crate::dispatch::{Dispatcher, Ended, Io, Verdict};
use crate::snapshot::Snapshot;
use crate::worker::handoff::{Owner, Stage};

/// A datagram to a socket that tunnels end at.
#[derive(Clone, Copy, Debug)]
pub(in crate::dispatch) struct TunnelArrival {
    from: SocketAddr,
    local: SocketAddr,
    /// The outer traffic class.
    class: u8,
    /// Where the payload begins and ends in the frame.
    payload: (usize, usize),
}

impl TunnelArrival {
    /// Reads a frame from the front end with these IP headers; `None` when it is not a whole UDP
    /// datagram.
    pub(in crate::dispatch) fn read(frame: &[u8], headers: &Headers) -> Option<Self> {
        if headers.transport != Transport::Udp || headers.fragment != Fragment::Whole {
            return None;
        }
        let ip = frame.get(ETHERNET_LENGTH..)?;
        let begin = ETHERNET_LENGTH + usize::from(headers.transport_at) + UDP_LENGTH;
        let end = ETHERNET_LENGTH + headers.length as usize;
        (begin <= end && end <= frame.len()).then(|| Self {
            from: SocketAddr::new(headers::source(ip, headers.family), headers.source_port),
            local: SocketAddr::new(
                headers::destination(ip, headers.family),
                headers.destination_port,
            ),
            class: traffic_class(ip, headers.family),
            payload: (begin, end),
        })
    }

    /// The socket it is for.
    pub(in crate::dispatch) const fn local(&self) -> SocketAddr {
        self.local
    }
}

/// What came out of a tunnel.
struct Opened {
    domain: nvgate_model::DomainSlot,
    place: Place,
    /// Bytes of the IP packet behind the headroom of [`Tunnels::plain`].
    length: usize,
}

impl Dispatcher {
    /// Takes a frame for a tunnel's socket: to the worker that has the tunnel, or through it.
    pub(in crate::dispatch) fn tunnel_arrival<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        arrival: &TunnelArrival,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let spec = snapshot.tunnel_socket(arrival.local);
        let domain = spec.and_then(|spec| snapshot.domain(spec.domain));
        let tunnel = match self.tunnel_of(snapshot, packet.bytes(), arrival, io) {
            Ok(Some(tunnel)) => tunnel,
            Ok(None) => return Ended { verdict: Verdict::Punt, domain },
            Err(reason) => return Ended { verdict: Verdict::Drop(reason), domain },
        };
        // Whoever knows another tenant's numbers is of no concern to that tenant.
        if snapshot.tunnel(tunnel).is_none_or(|(_, _, spec)| spec.local != arrival.local) {
            return Ended { verdict: Verdict::Drop(DropReason::TunnelUnknownPeer), domain };
        }
        let owner = tunnel.owner(self.config.workers);
        if owner != self.config.worker {
            let verdict = hand_over(io, owner, Stage::Tunnel { tunnel }, packet);
            return Ended { verdict, domain };
        }
        self.through_tunnel(snapshot, packet, tunnel, arrival, io)
    }

    /// Takes a frame that another worker found to be for a tunnel of this worker, or about it.
    pub(in crate::dispatch) fn tunnel_packet<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &mut PacketBuf<'_>,
        tunnel: TunnelIndex,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let ip = packet.bytes().get(ETHERNET_LENGTH..).unwrap_or(&[]);
        let Ok(headers) = Headers::parse(ip) else {
            return Ended { verdict: Verdict::Drop(DropReason::TunnelMalformed), domain: None };
        };
        match TunnelArrival::read(packet.bytes(), &headers) {
            Some(arrival) => self.through_tunnel(snapshot, packet, tunnel, &arrival, io),
            // The tunnel may be gone meanwhile.
            None => self
                .tunnel_error(snapshot, packet, &headers, io)
                .unwrap_or(Ended { verdict: Verdict::Drop(DropReason::TunnelDown), domain: None }),
        }
    }

    /// The tunnel a datagram is for; `None` when the socket itself answered.
    fn tunnel_of(
        &mut self,
        snapshot: &Snapshot,
        frame: &[u8],
        arrival: &TunnelArrival,
        io: &mut Io<'_>,
    ) -> Result<Option<TunnelIndex>, DropReason> {
        let from = arrival.from.ip();
        if !is_unicast(from) || is_link_local(from) {
            return Err(DropReason::Martian);
        }
        let (begin, end) = arrival.payload;
        let datagram = frame.get(begin..end).unwrap_or(&[]);
        match Message::classify(datagram)? {
            Message::CookieReply(tunnel) | Message::Data(tunnel) => return Ok(Some(tunnel)),
            Message::Initiation | Message::Response(_) => {}
        }
        let Tunnels { sockets, wire, unresolved, .. } = &mut self.tunnels;
        let socket = sockets.get_mut(&arrival.local).ok_or(DropReason::TunnelUnknownPeer)?;
        let mut wire = Wire { snapshot, local: arrival.local, storage: wire };
        let room = wire.room(Some(arrival.from))?;
        match socket.listener.identify(self.now, arrival.from, datagram, room)? {
            Identified::Tunnel(tunnel) => Ok(Some(tunnel)),
            Identified::Reply(length) => {
                let path = super::path::path_to(snapshot, arrival.from)?;
                let hop = path.hop.and_then(|hop| snapshot.front_end.hop(hop)?.mac);
                let Some(destination) = hop else {
                    let no_way = super::path::NoWay::Unresolved(path.next);
                    return Err(note(no_way, unresolved, socket.spec.domain));
                };
                wire.send_to(arrival.from, destination, length, 0, io.front_end)?;
                Ok(None)
            }
        }
    }

    /// Opens the datagrams of a frame and sends what was in them on.
    fn through_tunnel<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &PacketBuf<'_>,
        tunnel: TunnelIndex,
        arrival: &TunnelArrival,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let (begin, end) = arrival.payload;
        let payload = packet.bytes().get(begin..end).unwrap_or(&[]);
        let size = packet.offload().gso.map_or(payload.len(), |gso| usize::from(gso.size)).max(1);
        let mut ended = Ended { verdict: Verdict::Drop(DropReason::TunnelMalformed), domain: None };
        let mut accounted = 0;
        for (position, datagram) in payload.chunks(size).enumerate() {
            if position > 0 {
                // Every datagram of a super-packet ends in its own way; the last is the caller's.
                self.account(&ended, 1);
                accounted += 1;
            }
            ended = self.open_datagram(snapshot, tunnel, datagram, arrival, io);
        }
        self.accounted = accounted;
        self.tunnels.after(snapshot, tunnel, self.now, io);
        self.resolve_for_tunnels(snapshot);
        ended
    }

    fn open_datagram<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        tunnel: TunnelIndex,
        datagram: &[u8],
        arrival: &TunnelArrival,
        io: &mut Io<'_>,
    ) -> Ended<'s> {
        let domain = snapshot.tunnel(tunnel).map(|(domain, _, _)| domain);
        let opened = match self.tunnels.open(snapshot, tunnel, datagram, arrival, (self.now, io)) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ended { verdict: Verdict::Punt, domain },
            Err(reason) => return Ended { verdict: Verdict::Drop(reason), domain },
        };
        // Nothing opens another datagram while this one is on its way.
        let mut plain = std::mem::take(&mut self.tunnels.plain);
        let mut inner =
            PacketBuf::new(&mut plain, HEADROOM, HEADROOM + opened.length, Offload::default());
        let place = (opened.domain, opened.place);
        let ended = self.site_packet(snapshot, &mut inner, place, Owner::Unknown, io);
        self.tunnels.plain = plain;
        ended
    }

    /// Takes note of an ICMP error about a tunnel's own packet, on the worker that has the tunnel;
    /// `None` when it is about something else.
    pub(in crate::dispatch) fn tunnel_error<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        packet: &PacketBuf<'_>,
        headers: &Headers,
        io: &mut Io<'_>,
    ) -> Option<Ended<'s>> {
        let bytes = packet.bytes().get(ETHERNET_LENGTH..)?;
        let (range, quoted) = icmp::quoted(bytes, headers)?;
        if quoted.transport != Transport::Udp {
            return None;
        }
        let inner = bytes.get(range)?;
        let local = SocketAddr::new(headers::source(inner, quoted.family), quoted.source_port);
        let spec = snapshot.tunnel_socket(local)?;
        let domain = snapshot.domain(spec.domain)?;
        let remote =
            SocketAddr::new(headers::destination(inner, quoted.family), quoted.destination_port);
        let ended = |verdict| Some(Ended { verdict, domain: Some(domain) });
        let Some(mtu) = icmp::next_hop_mtu(bytes, headers) else { return ended(Verdict::Punt) };
        if !self.may_answer(domain, Asker::Remote) {
            return ended(Verdict::Drop(DropReason::PuntLimited));
        }
        let mut peers = spec.peers.values();
        let tunnel = peers.find(|&&tunnel| last_heard(snapshot, tunnel) == Some(remote));
        let Some(&tunnel) = tunnel else { return ended(Verdict::Punt) };
        let owner = tunnel.owner(self.config.workers);
        if owner != self.config.worker {
            return ended(hand_over(io, owner, Stage::Tunnel { tunnel }, packet));
        }
        self.tunnels.report_mtu(tunnel, remote, mtu, self.now);
        ended(Verdict::Punt)
    }
}

/// Where the peer of a tunnel is, as the tunnel's worker last said.
fn last_heard(snapshot: &Snapshot, tunnel: TunnelIndex) -> Option<SocketAddr> {
    let (_, _, spec) = snapshot.tunnel(tunnel)?;
    // Routers repeat themselves.
    spec.shared.status.try_lock().ok()?.as_ref()?.endpoint
}

impl Tunnels {
    /// Opens a datagram; `None` when it held no packet. What has to be said to the peer is sent.
    fn open(
        &mut self,
        snapshot: &Snapshot,
        tunnel: TunnelIndex,
        datagram: &[u8],
        arrival: &TunnelArrival,
        (now, io): (nvgate_model::Instant, &mut Io<'_>),
    ) -> Result<Option<Opened>, DropReason> {
        let (domain, index, spec) = snapshot.tunnel(tunnel).ok_or(DropReason::TunnelUnknownPeer)?;
        if spec.local != arrival.local {
            return Err(DropReason::TunnelUnknownPeer);
        }
        let site = domain.site(index).ok_or(DropReason::TunnelDown)?;
        let held = self.tunnels.get_mut(&tunnel).ok_or(DropReason::TunnelDown)?;
        let plain = self.plain.get_mut(HEADROOM..).ok_or(DropReason::NoHeadroom)?;
        let length = match held.tunnel.handle_datagram(now, arrival.from, datagram, plain)? {
            // It begins where the room does.
            Received::Packet(range) => range.end,
            Received::Reply(length) => {
                let mut wire = Wire { snapshot, local: spec.local, storage: &mut self.wire };
                let room = wire.room(held.tunnel.endpoint())?;
                let reply = plain.get(..length).unwrap_or(&[]);
                room.get_mut(..length).ok_or(DropReason::NoHeadroom)?.copy_from_slice(reply);
                wire.send(held, length, 0, io.front_end)
                    .map_err(|no_way| note(no_way, &mut self.unresolved, domain.slot))?;
                return Ok(None);
            }
            Received::Keepalive | Received::Nothing => return Ok(None),
        };
        let bytes = plain.get_mut(..length).ok_or(DropReason::TunnelInnerMalformed)?;
        let headers = Headers::parse(bytes).map_err(|_| DropReason::TunnelInnerMalformed)?;
        if held.is_probe_reply(domain, site, (bytes, &headers), now) {
            return Ok(None);
        }
        if let Some(policer) = &mut held.inbound
            && !policer.admit(now, headers.length as usize)
        {
            return Err(DropReason::TunnelPolicedInbound);
        }
        renumber(
            bytes,
            &headers,
            false,
            |source| site.remote.forward(source),
            |destination| site.local.back(destination),
        );
        let class = traffic_class(bytes, headers.family);
        let class = ecn::decapsulate(class, arrival.class, snapshot.fabric.dscp)?;
        rewrite::set_traffic_class(bytes, headers.family, class);
        Ok(Some(Opened { domain: domain.slot, place: site.place, length }))
    }

    /// Believes a router about the path of a tunnel to `remote`.
    fn report_mtu(
        &mut self,
        tunnel: TunnelIndex,
        remote: SocketAddr,
        mtu: u32,
        now: nvgate_model::Instant,
    ) {
        let Some(held) = self.tunnels.get_mut(&tunnel) else { return };
        if held.tunnel.endpoint() == Some(remote) {
            held.path.report(remote, mtu, now);
            // The schedule publishes the new MTU.
            self.schedule.remove(&(held.due, tunnel));
            held.due = now;
            self.schedule.insert((now, tunnel));
        }
    }
}
