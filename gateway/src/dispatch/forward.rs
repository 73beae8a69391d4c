//! Forwarding one packet by a compiled decision. The hit path and the slow path end here: the
//! slow path compiles first, then forwards by what it compiled.

use nvgate_model::{DropReason, FlowId, MacAddress};
use nvgate_nvgre::lookup::{Endpoint, EndpointIndex, HostIndex};
use nvgate_packet::buf::{Checksum, Offload, PacketBuf};
use nvgate_packet::flow_key::{FlowKey, FlowKeyV4, FlowKeyV6, Place};
use nvgate_packet::headers::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family, Fragment, Headers, TCP_FIN, TCP_RST, TCP_SYN,
    Transport, read_u16,
};
use nvgate_packet::rewrite;

use super::domain_state::Direction;
use super::egress::{Link, send};
use super::flow_table::{Compiled, Egress, FlowTable, NONE};
use super::site::site_mtu;
use super::{Dispatcher, Io, Verdict};
use crate::io::PortRole;
use crate::snapshot::{Domain, HopIndex, Snapshot};
use crate::worker::handoff::{Owner, Stage};

/// An arrived packet's key, when it has one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flow {
    /// Not an IP packet for the gateway to route.
    None,
    /// An IP packet whose headers do not hold.
    Bad(DropReason),
    /// An IPv4 packet.
    V4 { key: FlowKeyV4, hash: u64, headers: Headers },
    /// An IPv6 packet.
    V6 { key: FlowKeyV6, hash: u64, headers: Headers },
}

impl Flow {
    /// Reads the IP packet that begins at the front of `packet`, which entered at `place`.
    #[inline]
    pub(super) fn parse(place: Place, ethertype: u16, packet: &[u8], seed: u64) -> Self {
        if !matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
            return Self::None;
        }
        match Headers::parse(packet) {
            Err(reason) => Self::Bad(reason),
            Ok(headers) => match (headers.family, ethertype) {
                (Family::V4, ETHERTYPE_IPV4) => {
                    let key = FlowKeyV4::of(place, packet, &headers);
                    Self::V4 { key, hash: key.hash(seed), headers }
                }
                (Family::V6, ETHERTYPE_IPV6) => {
                    let key = FlowKeyV6::of(place, packet, &headers);
                    Self::V6 { key, hash: key.hash(seed), headers }
                }
                (Family::V4 | Family::V6, _) => Self::Bad(DropReason::IpMalformed),
            },
        }
    }

    /// The headers of an IP packet.
    #[inline]
    pub(super) const fn headers(&self) -> Option<&Headers> {
        match self {
            Self::V4 { headers, .. } | Self::V6 { headers, .. } => Some(headers),
            Self::None | Self::Bad(_) => None,
        }
    }

    /// The headers, or why there are none.
    pub(super) const fn parsed(&self) -> Result<&Headers, DropReason> {
        match self {
            Self::V4 { headers, .. } | Self::V6 { headers, .. } => Ok(headers),
            Self::Bad(reason) => Err(*reason),
            Self::None => Err(DropReason::InnerEtherType),
        }
    }
}

/// A hit: the entry, and where the IP packet begins in the frame.
pub(super) struct Forward<'f> {
    pub(super) position: usize,
    pub(super) compiled: &'f Compiled,
    pub(super) headers: &'f Headers,
    pub(super) ip_at: usize,
    /// The traffic class the packet goes on with, when a tunnel's end may change it.
    pub(super) class: Option<u8>,
}

/// What the slow path decided for a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// How to forward it.
    pub(super) compiled: Compiled,
    /// Whether packets behind it may be forwarded by the same entry.
    pub(super) keep: Option<Direction>,
}

/// Whether a packet may be forwarded by `compiled`; `packet` begins at the IP header.
///
/// # Errors
///
/// `TtlExpired`, `TooBig`.
#[inline]
pub(super) fn check(
    packet: &[u8],
    offload: Offload,
    headers: &Headers,
    compiled: &Compiled,
) -> Result<(), DropReason> {
    let ttl_at = match headers.family {
        Family::V4 => 8,
        Family::V6 => 7,
    };
    if packet.get(ttl_at).is_none_or(|&ttl| ttl <= 1) {
        return Err(DropReason::TtlExpired);
    }
    let longest = match offload.gso {
        None => headers.length as usize,
        Some(gso) => {
            let head = usize::from(headers.transport_at) + headers.transport_length(packet);
            (head + usize::from(gso.size)).min(headers.length as usize)
        }
    };
    if longest > usize::from(compiled.mtu) {
        let fragmentable = headers.family == Family::V4
            && offload.gso.is_none()
            && read_u16(packet, 6) & 0x4000 == 0;
        if !fragmentable {
            return Err(DropReason::TooBig);
        }
    }
    Ok(())
}

/// Whether the offload facts fit an IP packet at `ip_at` with these headers.
#[inline]
fn offload_fits(offload: Offload, ip_at: usize, headers: &Headers) -> bool {
    match offload.checksum {
        Checksum::Complete => true,
        Checksum::Partial { start, .. } => {
            start as usize == ip_at + usize::from(headers.transport_at)
        }
    }
}

/// Makes the view begin at the IP header and end with the IP packet. A partial checksum of
/// anything but the transport header is completed first.
///
/// # Errors
///
/// `OffloadInvalid` when the checksum's region lies outside the packet.
pub(super) fn expose_ip(
    packet: &mut PacketBuf<'_>,
    ip_at: usize,
    headers: &Headers,
) -> Result<(), DropReason> {
    packet.truncate(ip_at + headers.length as usize);
    if !offload_fits(packet.offload(), ip_at, headers) && !packet.complete_checksum() {
        return Err(DropReason::OffloadInvalid);
    }
    packet.strip(ip_at);
    Ok(())
}

/// Whether an entry was proven under another configuration than its domain's.
fn is_stale(snapshot: &Snapshot, entry: &Compiled) -> bool {
    snapshot
        .domain(nvgate_model::DomainSlot(entry.domain))
        .is_none_or(|domain| snapshot.proof(domain) != entry.proof)
}

/// The largest TCP segment that a path of this MTU carries (RFC 9293 section 3.7.1).
pub(super) const fn largest_segment(mtu: u16, family: Family) -> u16 {
    let headers = match family {
        Family::V4 => 40,
        Family::V6 => 60,
    };
    mtu.saturating_sub(headers)
}

/// Whether a packet's key is its own: of ICMP only echo has one, the others would share that of an
/// echo with the identifier 0.
#[inline]
const fn has_key(headers: &Headers) -> bool {
    match headers.transport {
        Transport::Tcp { .. }
        | Transport::Udp
        | Transport::EchoRequest
        | Transport::EchoReply
        | Transport::Opaque => true,
        Transport::IcmpError | Transport::IcmpOther { .. } => false,
    }
}

/// Hands a frame that arrived at `port` to another worker.
pub(super) fn hand_on(
    io: &mut Io<'_>,
    (to, owner): (u16, Owner),
    port: PortRole,
    packet: &PacketBuf<'_>,
) -> Verdict {
    hand_over(io, to, Stage::Arrived { port, owner }, packet)
}

/// Hands a packet to another worker.
pub(super) fn hand_over(io: &mut Io<'_>, to: u16, stage: Stage, packet: &PacketBuf<'_>) -> Verdict {
    match io.handoff.send(to, stage, packet) {
        Ok(()) => Verdict::Handoff,
        Err(_) => Verdict::Drop(DropReason::HandoffFull),
    }
}

impl Dispatcher {
    /// Brings what the flow table knows of arrived packets into the cache: all tags, then all
    /// entries, so that the memory's latencies overlap.
    #[inline]
    pub(super) fn warm<'f>(&self, flows: impl Iterator<Item = &'f Flow> + Clone) {
        for flow in flows.clone() {
            match flow {
                Flow::V4 { hash, .. } => self.flows_v4.warm_tags(*hash),
                Flow::V6 { hash, .. } => self.flows_v6.warm_tags(*hash),
                Flow::None | Flow::Bad(_) => {}
            }
        }
        for flow in flows {
            match flow {
                Flow::V4 { hash, .. } => self.flows_v4.warm_entry(*hash),
                Flow::V6 { hash, .. } => self.flows_v6.warm_entry(*hash),
                Flow::None | Flow::Bad(_) => {}
            }
        }
    }

    /// The compiled entry of an arrived packet, and where it stands.
    #[inline]
    pub(super) fn find(&self, flow: &Flow) -> Option<(usize, Compiled)> {
        fn find<K: FlowKey>(table: &FlowTable<K>, key: &K, hash: u64) -> Option<(usize, Compiled)> {
            let position = table.find(key, hash)?;
            Some((position, *table.at(position)?))
        }
        match flow {
            Flow::V4 { headers, .. } | Flow::V6 { headers, .. } if !has_key(headers) => None,
            Flow::V4 { key, hash, .. } => find(&self.flows_v4, key, *hash),
            Flow::V6 { key, hash, .. } => find(&self.flows_v6, key, *hash),
            Flow::None | Flow::Bad(_) => None,
        }
    }

    /// Forwards by a compiled entry that is current; `None` leaves the packet alone for the slow
    /// path, which knows what to answer.
    #[inline]
    pub(super) fn forward_hit(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        forward: &Forward<'_>,
        io: &mut Io<'_>,
    ) -> Option<Verdict> {
        let Forward { compiled, headers, ip_at, .. } = *forward;
        if headers.fragment != Fragment::Whole {
            return None;
        }
        if let Transport::Tcp { flags } = headers.transport
            && flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0
        {
            return None;
        }
        let offload = packet.offload();
        check(packet.bytes().get(ip_at..)?, offload, headers, compiled).ok()?;
        if !offload_fits(offload, ip_at, headers) {
            return None;
        }
        let link = match compiled.egress {
            Egress::Site => {
                // Tunnels come and go, and their paths change, without a new proof.
                let bytes = packet.bytes().get(ip_at..)?;
                if site_mtu(domain, bytes, headers, compiled)? < compiled.mtu {
                    return None;
                }
                None
            }
            Egress::Overlay | Egress::FrontEnd | Egress::Hairpin | Egress::Handoff => {
                Some(link_of(snapshot, domain, compiled).ok()?)
            }
        };
        packet.truncate(ip_at + headers.length as usize);
        packet.strip(ip_at);
        if let Some(class) = forward.class {
            rewrite::set_traffic_class(packet.bytes_mut(), headers.family, class);
        }
        let sent = match &link {
            Some(link) => self
                .transmit(domain, packet, headers, compiled, link, io)
                .map(|()| Verdict::Transmit),
            None => self.enter_site(snapshot, domain, packet, headers, compiled, io),
        };
        let tick = self.now.tick();
        let entry = match headers.family {
            Family::V4 => self.flows_v4.at_mut(forward.position),
            Family::V6 => self.flows_v6.at_mut(forward.position),
        };
        if let Some(entry) = entry {
            entry.tick = tick;
        }
        Some(sent.unwrap_or_else(Verdict::Drop))
    }

    /// Forwards the packet that a plan was made for, and compiles the plan when it may be kept.
    /// The view begins at the IP header, and [`check`] has passed.
    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    pub(super) fn execute(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        flow: &Flow,
        planned: &Planned,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        if let Some(direction) = planned.keep
            && headers.fragment == Fragment::Whole
            && has_key(headers)
        {
            self.keep(snapshot, domain, flow, planned.compiled, direction);
        }
        if planned.compiled.egress == Egress::Hairpin {
            return self.hairpin(snapshot, packet, headers, &planned.compiled, io);
        }
        if planned.compiled.egress == Egress::Site {
            return self.enter_site(snapshot, domain, packet, headers, &planned.compiled, io);
        }
        let link = match link_of(snapshot, domain, &planned.compiled) {
            Ok(link) => link,
            Err(reason) => {
                if reason == DropReason::FrontEndUnresolved
                    && let Some(hop) = snapshot.front_end.hop(HopIndex(planned.compiled.target))
                {
                    self.request_resolution(domain, PortRole::FrontEnd, hop.address);
                }
                if reason == DropReason::FabricUnresolved
                    && let Some(host) = snapshot.fabric.host(HostIndex(planned.compiled.host))
                {
                    self.request_resolution(domain, PortRole::Fabric, host.next);
                }
                return Err(reason);
            }
        };
        self.transmit(domain, packet, headers, &planned.compiled, &link, io)?;
        Ok(Verdict::Transmit)
    }

    /// Changes the packet as compiled and sends it.
    #[inline]
    fn transmit(
        &mut self,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        compiled: &Compiled,
        link: &Link<'_>,
        io: &mut Io<'_>,
    ) -> Result<(), DropReason> {
        let (packets, bytes) = (super::wire_packets(packet), u64::from(headers.length));
        alter(packet, headers, compiled)?;
        let mtu = usize::from(compiled.mtu);
        match link {
            Link::Overlay { .. } => {
                send(&mut self.scratch, io.fabric, link, packet, headers, mtu)?;
                self.counters_of(domain).inbound.count(packets, bytes);
            }
            Link::FrontEnd { .. } => {
                send(&mut self.scratch, io.front_end, link, packet, headers, mtu)?;
            }
        }
        Ok(())
    }

    /// Stores a compiled entry for an arrived packet's flow.
    fn keep(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        flow: &Flow,
        compiled: Compiled,
        direction: Direction,
    ) {
        let stale = |entry: &Compiled| is_stale(snapshot, entry);
        let (position, evicted) = match flow {
            Flow::V4 { key, hash, .. } => self.flows_v4.insert(*key, *hash, compiled, stale),
            Flow::V6 { key, hash, .. } => self.flows_v6.insert(*key, *hash, compiled, stale),
            Flow::None | Flow::Bad(_) => return,
        };
        if let Some(evicted) = evicted {
            self.config.counters.flow_evictions.add(1);
            if evicted.session != NONE
                && let Some(Some(state)) = self.domains.get_mut(evicted.domain as usize)
                && let Some(nat) = &mut state.nat
            {
                nat.evicted(evicted.session, position, evicted.tick);
            }
        }
        if compiled.session != NONE
            && let Some(state) = self.state(domain)
            && let Some(nat) = &mut state.nat
            && let Some(before) = nat.link(compiled.session, direction, position)
        {
            self.flows_v4.remove(before, domain.slot.0, compiled.session);
        }
    }

    /// Remembers that another worker owns an arrived packet's flow.
    pub(super) fn keep_handoff(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        flow: &Flow,
        worker: u16,
    ) {
        let Some(headers) = flow.headers() else { return };
        let settled = match headers.transport {
            Transport::Tcp { .. } | Transport::Udp | Transport::EchoRequest => true,
            Transport::EchoReply => true,
            Transport::IcmpError | Transport::IcmpOther { .. } | Transport::Opaque => false,
        };
        if !settled || headers.fragment != Fragment::Whole {
            return;
        }
        let compiled = Compiled {
            target: u32::from(worker),
            egress: Egress::Handoff,
            ..Compiled::vacant(snapshot.proof(domain), domain.slot, self.now.tick())
        };
        // Nobody has admitted the flow yet: it must not push out what was.
        let spare = |entry: &Compiled| entry.egress == Egress::Handoff || is_stale(snapshot, entry);
        match flow {
            Flow::V4 { key, hash, .. } => self.flows_v4.insert_spare(*key, *hash, compiled, spare),
            Flow::V6 { key, hash, .. } => self.flows_v6.insert_spare(*key, *hash, compiled, spare),
            Flow::None | Flow::Bad(_) => {}
        }
    }

    /// The part of a compiled entry that leads to `endpoint`, for a packet with this flow hash.
    ///
    /// # Errors
    ///
    /// `UnknownCustomer` when the endpoint is gone.
    pub(super) fn towards_endpoint(
        &self,
        snapshot: &Snapshot,
        domain: &Domain,
        index: EndpointIndex,
        flow_hash: u64,
    ) -> Result<Compiled, DropReason> {
        let endpoint = domain.lookup.endpoint(index).ok_or(DropReason::UnknownCustomer)?;
        let host = choose_host(snapshot, endpoint, flow_hash).ok_or(DropReason::UnknownCustomer)?;
        let provider = snapshot.fabric.host(host).ok_or(DropReason::UnknownCustomer)?;
        let flow_id = provider.constant_flow.unwrap_or(FlowId((flow_hash >> 16) as u8));
        Ok(Compiled {
            target: index.0,
            host: host.0,
            mtu: provider.mtu,
            flow_id: flow_id.0,
            egress: Egress::Overlay,
            ..Compiled::vacant(snapshot.proof(domain), domain.slot, self.now.tick())
        })
    }
}

/// One of the provider addresses of an endpoint's host, by flow, among those that are resolved.
pub(super) fn choose_host(
    snapshot: &Snapshot,
    endpoint: &Endpoint,
    flow_hash: u64,
) -> Option<HostIndex> {
    let hosts = endpoint.hosts();
    let start = (flow_hash >> 32) as usize % hosts.len().max(1);
    let resolved =
        |host: &&HostIndex| snapshot.fabric.host(**host).is_some_and(|host| host.template.is_ok());
    let in_turn = || hosts[start..].iter().chain(&hosts[..start]);
    in_turn().find(resolved).or_else(|| in_turn().next()).copied()
}

/// Changes a packet as compiled: TTL, addresses and ports.
#[inline]
pub(super) fn alter(
    packet: &mut PacketBuf<'_>,
    headers: &Headers,
    compiled: &Compiled,
) -> Result<(), DropReason> {
    let partial = matches!(packet.offload().checksum, Checksum::Partial { .. });
    rewrite::decrement_ttl(packet.bytes_mut(), headers.family)?;
    if compiled.translate {
        compiled.rewrite.apply(packet.bytes_mut(), headers, partial);
    }
    Ok(())
}

/// The link header that a compiled entry's packets get.
///
/// # Errors
///
/// `FabricUnresolved`, `FabricNoRoute`, `FrontEndUnresolved`, or `UnknownCustomer` when the
/// endpoint is gone.
#[inline]
pub(super) fn link_of<'s>(
    snapshot: &'s Snapshot,
    domain: &Domain,
    compiled: &Compiled,
) -> Result<Link<'s>, DropReason> {
    match compiled.egress {
        Egress::Overlay => {
            let endpoint = domain
                .lookup
                .endpoint(EndpointIndex(compiled.target))
                .ok_or(DropReason::UnknownCustomer)?;
            let macs = (endpoint.mac(), snapshot.gateway_mac);
            overlay_link(
                snapshot,
                HostIndex(compiled.host),
                endpoint.vsid(),
                FlowId(compiled.flow_id),
                macs,
            )
        }
        Egress::FrontEnd => {
            let destination = snapshot
                .front_end
                .hop(HopIndex(compiled.target))
                .and_then(|hop| hop.mac)
                .ok_or(DropReason::FrontEndUnresolved)?;
            Ok(Link::FrontEnd { destination, source: snapshot.front_end.mac })
        }
        Egress::Hairpin | Egress::Handoff | Egress::Site => Err(DropReason::FrontEndNoRoute),
    }
}

/// The link header to a host, under a VSID, between two inner MACs (destination, source).
#[inline]
pub(super) fn overlay_link(
    snapshot: &Snapshot,
    host: HostIndex,
    vsid: nvgate_model::Vsid,
    flow: FlowId,
    (destination, source): (MacAddress, MacAddress),
) -> Result<Link<'_>, DropReason> {
    let host = snapshot.fabric.host(host).ok_or(DropReason::FabricNoRoute)?;
    let template = host.template.as_ref().map_err(|&reason| reason)?;
    Ok(Link::Overlay { template, dscp: snapshot.fabric.dscp, vsid, flow, destination, source })
}
