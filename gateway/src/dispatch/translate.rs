//! Deciding for a packet of the slow path: where it goes, what NAT makes of it, and which worker
//! owns it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nvgate_model::{DropReason, Protocol};
use nvgate_nat::fragment::FragmentKey;
use nvgate_nat::{Flow as NatFlow, NatConfig, SessionIndex, Translation};
use nvgate_packet::buf::PacketBuf;
use nvgate_packet::flow_key::flow_hash;
use nvgate_packet::headers::{self, Fragment, Headers, Transport};
use nvgate_packet::icmp;
use nvgate_packet::rewrite::{RewriteV4, Socket, sockets};

use super::Dispatcher;
use super::domain_state::Direction;
use super::flow_table::{Compiled, Egress, NONE};
use super::forward::Planned;
use super::route::{Decision, decide_inbound};
use crate::io::PortRole;
use crate::snapshot::{Domain, Snapshot, Speaker};
use crate::worker::handoff::Owner;

/// A worker, and what it will know about its ownership.
pub(super) type Destination = (u16, Owner);

impl Dispatcher {
    /// Plans a packet from inside the domain that `decision` sends on; the view begins at the IP header.
    pub(super) fn plan_outbound(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        (decision, speaker): (Decision, Speaker),
    ) -> Result<Planned, DropReason> {
        let destination = headers::destination(packet.bytes(), headers.family);
        let mut planned = match decision {
            Decision::Overlay(index) => {
                let hash = flow_hash(packet.bytes(), headers, self.config.seed);
                let compiled = self.towards_endpoint(snapshot, domain, index, hash)?;
                Planned { compiled, keep: Some(Direction::Outbound) }
            }
            Decision::Site(site) => {
                let compiled = self.towards_site(snapshot, domain, site, destination)?;
                Planned { compiled, keep: Some(Direction::Outbound) }
            }
            Decision::Untranslated => {
                let hash = flow_hash(packet.bytes(), headers, self.config.seed);
                let compiled = self.towards_front_end(snapshot, domain, destination, hash)?;
                Planned { compiled, keep: Some(Direction::Outbound) }
            }
            Decision::Translate => {
                self.translate_outbound(snapshot, domain, packet, headers, speaker)?
            }
            Decision::Gateway => return Err(DropReason::NotServed),
            Decision::Unreachable(reason) | Decision::Discard(reason) => return Err(reason),
        };
        if planned.compiled.egress == Egress::Hairpin {
            planned.keep = None;
        }
        planned.compiled.source = match speaker {
            Speaker::Endpoint(endpoint) => endpoint.0,
            Speaker::Site(_) => NONE,
        };
        Ok(planned)
    }

    fn towards_front_end(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        destination: IpAddr,
        hash: u64,
    ) -> Result<Compiled, DropReason> {
        let vacant = Compiled::vacant(snapshot.proof(domain), domain.slot, self.now.tick());
        if snapshot.by_front_end(destination).is_some() {
            return Ok(Compiled { mtu: u16::MAX, egress: Egress::Hairpin, ..vacant });
        }
        let path = snapshot.front_end.path(destination, hash)?;
        let Some(hop) = path.hop else {
            self.request_resolution(domain, PortRole::FrontEnd, path.next);
            return Err(DropReason::FrontEndUnresolved);
        };
        Ok(Compiled { target: hop.0, mtu: path.mtu, egress: Egress::FrontEnd, ..vacant })
    }

    fn translate_outbound(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        speaker: Speaker,
    ) -> Result<Planned, DropReason> {
        let destination = headers::destination(packet.bytes(), headers.family);
        if let Fragment::Later { .. } = headers.fragment {
            return self.later_fragment(
                snapshot,
                domain,
                packet.bytes(),
                headers,
                Direction::Outbound,
            );
        }
        let hash = flow_hash(packet.bytes(), headers, self.config.seed);
        let mut compiled = self.towards_front_end(snapshot, domain, destination, hash)?;
        let now = self.now.tick();
        if headers.transport == Transport::IcmpError {
            let nat = self.state(domain).and_then(|state| state.nat.as_ref());
            let nat = &nat.ok_or(DropReason::NatAbsent)?.nat;
            translate_error(packet, headers, |protocol, quoted| {
                let public = nat.icmp_error_outbound(protocol, quoted.0, quoted.1)?;
                Ok(ErrorTranslation {
                    source: Some(public),
                    destination: None,
                    quoted: (quoted.0, public),
                })
            })?;
            return Ok(Planned { compiled, keep: None });
        }
        let flow = nat_flow(packet.bytes(), headers)?;
        let budget = domain
            .customer_budget(flow.source.address, speaker)
            .ok_or(DropReason::UnknownCustomer)?;
        let state = self.state(domain).ok_or(DropReason::NatAbsent)?;
        let nat = state.nat.as_mut().ok_or(DropReason::NatAbsent)?;
        let translation = nat.nat.outbound(now, &flow, &domain.sessions, budget)?;
        apply_translation(&mut compiled, &flow, &translation);
        let kept = (Direction::Outbound, &compiled);
        self.remember_first_fragment(domain, packet.bytes(), headers, kept)?;
        Ok(Planned { compiled, keep: translation.compile.then_some(Direction::Outbound) })
    }

    /// Plans a packet from the front end; the view begins at the IP header.
    pub(super) fn plan_inbound(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
    ) -> Result<Planned, DropReason> {
        let hash = flow_hash(packet.bytes(), headers, self.config.seed);
        let destination = match headers::destination(packet.bytes(), headers.family) {
            IpAddr::V6(v6) => {
                let mut compiled = self.towards_customer(snapshot, domain, v6.into(), hash)?;
                compiled.source = NONE;
                return Ok(Planned { compiled, keep: Some(Direction::Inbound) });
            }
            IpAddr::V4(v4) => v4,
        };
        if let Fragment::Later { .. } = headers.fragment {
            return self.later_fragment(
                snapshot,
                domain,
                packet.bytes(),
                headers,
                Direction::Inbound,
            );
        }
        let now = self.now.tick();
        if headers.transport == Transport::IcmpError {
            let nat = self.state(domain).and_then(|state| state.nat.as_ref());
            let nat = &nat.ok_or(DropReason::NatAbsent)?.nat;
            let customer = translate_error(packet, headers, |protocol, quoted| {
                if quoted.0.address != destination {
                    return Err(DropReason::NatIcmpUnrelated);
                }
                let customer = nat.icmp_error_inbound(protocol, quoted.0, quoted.1)?;
                Ok(ErrorTranslation {
                    source: None,
                    destination: Some(customer),
                    quoted: (customer, quoted.1),
                })
            })?;
            let customer = customer.destination.ok_or(DropReason::NatIcmpUnrelated)?;
            let compiled =
                self.towards_customer(snapshot, domain, customer.address.into(), hash)?;
            return Ok(Planned { compiled, keep: None });
        }
        let flow = nat_flow(packet.bytes(), headers)?;
        let state = self.state(domain).ok_or(DropReason::NatAbsent)?;
        let nat = state.nat.as_mut().ok_or(DropReason::NatAbsent)?;
        let mut refusal = DropReason::UnknownCustomer;
        let budget = |customer: Ipv4Addr| {
            let speaker = match decide_inbound(domain, customer.into(), hash) {
                Decision::Overlay(index) => Speaker::Endpoint(index),
                Decision::Site(site) => Speaker::Site(site),
                Decision::Unreachable(reason) | Decision::Discard(reason) => {
                    refusal = reason;
                    return None;
                }
                Decision::Gateway | Decision::Translate | Decision::Untranslated => return None,
            };
            domain.customer_budget(customer, speaker).map(Arc::clone)
        };
        let translation = nat.nat.inbound(now, &flow, &domain.sessions, budget);
        let told = |reason| if reason == DropReason::UnknownCustomer { refusal } else { reason };
        let translation = translation.map_err(told)?;
        let customer = translation.destination.address;
        let mut compiled = self.towards_customer(snapshot, domain, customer.into(), hash)?;
        apply_translation(&mut compiled, &flow, &translation);
        let kept = (Direction::Inbound, &compiled);
        self.remember_first_fragment(domain, packet.bytes(), headers, kept)?;
        Ok(Planned { compiled, keep: translation.compile.then_some(Direction::Inbound) })
    }

    fn towards_customer(
        &self,
        snapshot: &Snapshot,
        domain: &Domain,
        customer: IpAddr,
        hash: u64,
    ) -> Result<Compiled, DropReason> {
        match decide_inbound(domain, customer, hash) {
            Decision::Overlay(index) => self.towards_endpoint(snapshot, domain, index, hash),
            Decision::Site(site) => self.towards_site(snapshot, domain, site, customer),
            Decision::Unreachable(reason) | Decision::Discard(reason) => Err(reason),
            Decision::Gateway | Decision::Translate | Decision::Untranslated => {
                Err(DropReason::NotServed)
            }
        }
    }

    fn later_fragment(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &[u8],
        headers: &Headers,
        direction: Direction,
    ) -> Result<Planned, DropReason> {
        let now = self.now.tick();
        let key = fragment_key(packet, headers).ok_or(DropReason::FragmentOrphan)?;
        let state = self.state(domain).ok_or(DropReason::FragmentOrphan)?;
        let compiled = state.datagrams[direction as usize].lookup(now, key)?;
        if compiled.proof != snapshot.proof(domain) {
            return Err(DropReason::FragmentOrphan);
        }
        Ok(Planned { compiled, keep: None })
    }

    fn remember_first_fragment(
        &mut self,
        domain: &Domain,
        packet: &[u8],
        headers: &Headers,
        (direction, compiled): (Direction, &Compiled),
    ) -> Result<(), DropReason> {
        let (Fragment::First { .. }, Some(key)) = (headers.fragment, fragment_key(packet, headers))
        else {
            return Ok(());
        };
        let now = self.now.tick();
        let state = self.state(domain).ok_or(DropReason::FragmentTableFull)?;
        state.datagrams[direction as usize].insert(now, key, *compiled)
    }

    /// The worker that owns a packet's customer socket, when it is another one.
    pub(super) fn owner_outbound(
        &mut self,
        domain: &Domain,
        packet: &[u8],
        headers: &Headers,
        owner: Owner,
    ) -> Result<Option<Destination>, DropReason> {
        let steering = self.steering;
        self.owner(domain, packet, headers, (Direction::Outbound, owner), |protocol, source, _| {
            steering.customer(protocol, source)
        })
    }

    /// The worker that owns a packet's public socket, when it is another one.
    pub(super) fn owner_inbound(
        &mut self,
        domain: &Domain,
        nat: &NatConfig,
        packet: &[u8],
        headers: &Headers,
        owner: Owner,
    ) -> Result<Option<Destination>, DropReason> {
        let steering = self.steering;
        self.owner(
            domain,
            packet,
            headers,
            (Direction::Inbound, owner),
            |protocol, _, destination| steering.public(nat, protocol, destination),
        )
    }

    /// `of` names the owner by protocol, source and destination of the packet; for an ICMP error
    /// these are destination and source of the packet it quotes.
    fn owner(
        &mut self,
        domain: &Domain,
        packet: &[u8],
        headers: &Headers,
        (direction, owner): (Direction, Owner),
        of: impl Fn(Protocol, Socket, Socket) -> u16,
    ) -> Result<Option<Destination>, DropReason> {
        if self.config.workers == 1 || owner == Owner::Mine {
            return Ok(None);
        }
        let me = self.config.worker;
        let by_socket = || match headers.transport {
            Transport::IcmpError => {
                let (range, quoted) = icmp::quoted(packet, headers)?;
                let protocol = Protocol::from_number(quoted.protocol)?;
                let (source, destination) = sockets(packet.get(range)?, &quoted);
                Some(of(protocol, destination, source))
            }
            Transport::Tcp { .. }
            | Transport::Udp
            | Transport::EchoRequest
            | Transport::EchoReply => {
                let protocol = Protocol::from_number(headers.protocol)?;
                let (source, destination) = sockets(packet, headers);
                Some(of(protocol, source, destination))
            }
            Transport::IcmpOther { .. } | Transport::Opaque => None,
        };
        let Some(key) = fragment_key(packet, headers) else {
            // What has no socket is refused by NAT wherever it is.
            return Ok(by_socket().filter(|&worker| worker != me).map(|to| (to, Owner::Mine)));
        };
        let coordinator = self.steering.datagram(key.source, key.destination, key.identification);
        if coordinator != me {
            return Ok(Some((coordinator, Owner::Datagram)));
        }
        let now = self.now.tick();
        let state = self.state(domain).ok_or(DropReason::FragmentOrphan)?;
        let worker = match headers.fragment {
            Fragment::Later { .. } => state.datagram_owners[direction as usize].lookup(now, key)?,
            Fragment::Whole | Fragment::First { .. } => {
                let worker = by_socket().ok_or(DropReason::NatProtocol)?;
                state.datagram_owners[direction as usize].insert(now, key, worker)?;
                worker
            }
        };
        Ok((worker != me).then_some((worker, Owner::Mine)))
    }
}

/// The key of the datagram that an IPv4 fragment belongs to; `None` for whole datagrams.
fn fragment_key(packet: &[u8], headers: &Headers) -> Option<FragmentKey> {
    let identification = match headers.fragment {
        Fragment::Whole => return None,
        Fragment::First { identification } | Fragment::Later { identification } => identification,
    };
    let (source, destination) = sockets(packet, headers);
    Some(FragmentKey {
        place: 0,
        source: source.address,
        destination: destination.address,
        identification,
        protocol: headers.protocol,
    })
}

fn nat_flow(packet: &[u8], headers: &Headers) -> Result<NatFlow, DropReason> {
    let tcp_flags = match headers.transport {
        Transport::Tcp { flags } => flags,
        Transport::Udp | Transport::EchoRequest | Transport::EchoReply => 0,
        Transport::IcmpError | Transport::IcmpOther { .. } | Transport::Opaque => {
            return Err(DropReason::NatProtocol);
        }
    };
    let protocol = Protocol::from_number(headers.protocol).ok_or(DropReason::NatProtocol)?;
    let (source, destination) = sockets(packet, headers);
    Ok(NatFlow { protocol, source, destination, tcp_flags })
}

const fn apply_translation(compiled: &mut Compiled, flow: &NatFlow, translation: &Translation) {
    let SessionIndex(session) = translation.session;
    compiled.session = session;
    compiled.translate = true;
    compiled.rewrite = RewriteV4::new(
        (flow.source, flow.destination),
        (translation.source, translation.destination),
    );
}

/// What an ICMP error should carry.
#[derive(Clone, Copy)]
struct ErrorTranslation {
    /// The socket whose address the error comes from, when it changes.
    source: Option<Socket>,
    /// The socket whose address the error goes to, when it changes.
    destination: Option<Socket>,
    /// Source and destination of the quoted packet.
    quoted: (Socket, Socket),
}

/// Translates an ICMP error by what `find` says about the quoted packet's sockets.
fn translate_error(
    packet: &mut PacketBuf<'_>,
    headers: &Headers,
    find: impl FnOnce(Protocol, (Socket, Socket)) -> Result<ErrorTranslation, DropReason>,
) -> Result<ErrorTranslation, DropReason> {
    let bytes = packet.bytes_mut();
    let (range, quoted) = icmp::quoted(bytes, headers).ok_or(DropReason::TransportMalformed)?;
    let protocol = Protocol::from_number(quoted.protocol).ok_or(DropReason::NatIcmpUnrelated)?;
    let inner = sockets(bytes.get(range).unwrap_or(&[]), &quoted);
    let translation = find(protocol, inner)?;
    let (source, destination) = sockets(bytes, headers);
    let outer = (
        translation.source.unwrap_or(source).address,
        translation.destination.unwrap_or(destination).address,
    );
    icmp::rewrite_quoted(bytes, headers, &quoted, outer, translation.quoted)?;
    Ok(translation)
}
