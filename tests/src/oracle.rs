//! What must hold whatever happens: every packet that left was expected and every expected one
//! left; nothing crosses tenants; every packet is accounted for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate::counters::DomainTotals;
use nvgate::snapshot::Domain;
use nvgate_model::{DropReason, MacAddress};
use nvgate_packet::buf::Offload;

use crate::frames::{ARP, Arp, Body, Frame, Nvgre, Packet, flags};
use crate::model::{End, Leaving, Likeness, Model, Prediction, Shape, To};
use crate::rig::{Output, Rig, tcp_super_packet};
use crate::rig_plan::{FABRIC_MAC, FRONT_END_MAC, GATEWAY_MAC, ROUTER_MAC};

/// Of whom a payload speaks when any tenant may see it.
pub const EVERYONE: u8 = 0xff;

/// A payload of `length` bytes that says whose it is, every eight bytes.
#[must_use]
pub fn marked(tenant: u8, serial: u32, length: usize) -> Vec<u8> {
    let mut unit = vec![0x6e, 0x76, tenant, !tenant];
    unit.extend(serial.to_be_bytes());
    unit.into_iter().cycle().take(length).collect()
}

/// The first tenant that `bytes` speak of, other than `tenant`.
#[must_use]
pub fn foreign_mark(bytes: &[u8], tenant: u8) -> Option<u8> {
    bytes.windows(4).find_map(|window| {
        let [0x6e, 0x76, of, not] = *window else { return None };
        (not == !of && of != EVERYONE && of != tenant).then_some(of)
    })
}

/// A packet that left, read.
#[derive(Clone, Debug)]
pub struct Left {
    /// By which worker.
    pub worker: usize,
    /// Where to; `None` is the front end's router.
    pub overlay: Option<Nvgre>,
    /// The packet; of a super-packet the whole.
    pub packet: Packet,
    /// What the port has still to do.
    pub offload: Offload,
}

/// Reads everything that left, refusing what is malformed and what crosses tenants.
///
/// # Errors
///
/// Says what is wrong.
pub fn read(output: &Output, model: &Model) -> Result<Vec<Left>, String> {
    let mut left = Vec::new();
    for sent in &output.fabric {
        let nvgre = Nvgre::read(&sent.bytes)?;
        if nvgre.macs.1 != FABRIC_MAC || sent.offload != Offload::default() {
            return Err(format!("not finished, or not from the port: {sent:?}"));
        }
        let owner =
            model.plan.tenants.iter().find(|tenant| {
                tenant.subnets.iter().any(|subnet| subnet.vsid.number() == nvgre.vsid)
            });
        let owner = owner.ok_or_else(|| format!("nobody's VSID: {nvgre:?}"))?;
        let number = owner.routing_domain.as_bytes()[0] - 1;
        if let Some(other) = foreign_mark(&sent.bytes, number) {
            return Err(format!("tenant {number} got what is tenant {other}'s: {nvgre:?}"));
        }
        let packet = nvgre.inner.packet()?;
        left.push(Left {
            worker: sent.worker,
            overlay: Some(nvgre),
            packet,
            offload: sent.offload,
        });
    }
    for sent in &output.front_end {
        let frame = Frame::read(&sent.bytes)?;
        if frame.ethertype == ARP {
            check_announcement(&frame, model)?;
            continue;
        }
        if (frame.destination, frame.source) != (ROUTER_MAC, FRONT_END_MAC) {
            return Err(format!("not to the router: {frame:?}"));
        }
        let packet =
            if sent.offload == Offload::default() { frame.packet()? } else { read_super(&frame)? };
        let owner = model
            .tenant_by_public(packet.source)
            .ok_or_else(|| format!("from nobody's address: {packet:?}"))?;
        let number = owner.routing_domain.as_bytes()[0] - 1;
        if let Some(other) = foreign_mark(&sent.bytes, number) {
            return Err(format!("tenant {number} sent what is tenant {other}'s: {packet:?}"));
        }
        left.push(Left { worker: sent.worker, overlay: None, packet, offload: sent.offload });
    }
    Ok(left)
}

/// A super-packet with the checksum that the port would write.
fn read_super(frame: &Frame) -> Result<Packet, String> {
    let mut payload = frame.payload.clone();
    let at = if frame.ethertype == crate::frames::IPV4 { 20 } else { 40 };
    let sum = crate::frames::checksum(&[&payload[at..]]);
    payload[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    Frame { payload, ..frame.clone() }.packet()
}

fn check_announcement(frame: &Frame, model: &Model) -> Result<(), String> {
    let arp = Arp::read(&frame.payload)?;
    let announced = arp.sender == (FRONT_END_MAC, arp.target.1)
        && frame.destination == MacAddress::BROADCAST
        && model.tenant_by_public(IpAddr::V4(arp.target.1)).is_some();
    announced.then_some(()).ok_or(format!("no announcement of a lease: {arp:?}"))
}

/// The packets that a TCP super-packet stands for.
fn segments(packet: &Packet, size: usize) -> Vec<Packet> {
    let Body::Tcp { payload, .. } = &packet.body else { panic!("{packet:?} is not TCP") };
    let count = payload.len().div_ceil(size).max(1);
    (0..count)
        .map(|index| {
            let mut segment = packet.clone();
            let Body::Tcp { sequence, flags, payload: data, .. } = &mut segment.body else {
                unreachable!("it was cloned")
            };
            *data = payload[index * size..((index + 1) * size).min(payload.len())].to_vec();
            *sequence = sequence.wrapping_add((index * size) as u32);
            if index + 1 < count {
                *flags &= !(flags::FIN | flags::PSH);
            }
            if packet.source.is_ipv4() {
                segment.identification = packet.identification.wrapping_add(index as u16);
            }
            segment
        })
        .collect()
}

/// Checks that exactly what was predicted left, and lets the model learn which ports were lent.
///
/// # Errors
///
/// Says what left and should not have, or the other way round.
pub fn compare(
    predictions: &[Prediction],
    mut left: Vec<Left>,
    model: &mut Model,
    port_cuts: bool,
) -> Result<(), String> {
    for leaving in predictions.iter().flat_map(|prediction| &prediction.leaving) {
        let pieces = match leaving.shape {
            Shape::Super { size } if leaving.to != To::Router || !port_cuts => {
                segments(&leaving.packet, usize::from(size))
            }
            Shape::Super { .. } | Shape::Whole | Shape::Fragment { .. } => {
                vec![leaving.packet.clone()]
            }
        };
        for piece in pieces {
            let found = left.iter().position(|one| fits(leaving, &piece, one, model));
            let Some(found) = found else {
                return Err(format!("{leaving:?} did not leave; {left:?} did"));
            };
            let one = left.swap_remove(found);
            if let Some(mapping) = leaving.mapping
                && let Some(port) = source_port(&one.packet, leaving)
            {
                model.learn(mapping, (one.packet.source, port), one.worker)?;
            }
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("unexpected: {left:?}")) }
}

/// The source port on the wire; later fragments have none.
fn source_port(packet: &Packet, leaving: &Leaving) -> Option<u16> {
    match (&packet.body, leaving.shape) {
        (Body::Raw { payload, .. }, Shape::Fragment { index: 0, .. }) => {
            Some(u16::from_be_bytes([payload[0], payload[1]]))
        }
        (Body::Raw { .. }, _) => None,
        (Body::Udp { .. } | Body::Tcp { .. } | Body::Echo { .. } | Body::Icmp { .. }, _) => {
            Some(packet.ports().0)
        }
    }
}

fn fits(leaving: &Leaving, piece: &Packet, left: &Left, model: &Model) -> bool {
    let placed = match (&leaving.to, &left.overlay) {
        (To::Router, None) => true,
        (To::Endpoint { vsid, mac, providers }, Some(nvgre)) => {
            (nvgre.vsid, nvgre.inner.destination, nvgre.inner.source) == (*vsid, *mac, GATEWAY_MAC)
                && providers.contains(&nvgre.destination)
        }
        (To::Copy { vsid, providers, inner }, Some(nvgre)) => {
            return nvgre.vsid == *vsid
                && providers.contains(&nvgre.destination)
                && nvgre.inner == *inner;
        }
        (To::Router, Some(_)) | (To::Endpoint { .. } | To::Copy { .. }, None) => false,
    };
    placed && alike(leaving, piece, left, model)
}

fn alike(leaving: &Leaving, piece: &Packet, left: &Left, model: &Model) -> bool {
    let seen = &left.packet;
    match &leaving.likeness {
        Likeness::Error(words, about) => {
            let Body::Icmp { kind, code, word, rest } = &seen.body else { return false };
            (*kind, *code, *word) == *words
                && (seen.source, seen.destination) == (piece.source, piece.destination)
                && rest.len() >= about.len().min(500)
                && rest.iter().zip(about).all(|(one, other)| one == other)
        }
        Likeness::Answer => {
            let answer = Packet {
                identification: seen.identification,
                dont_fragment: seen.dont_fragment,
                ..piece.clone()
            };
            answer == *seen
        }
        Likeness::Exact if seen.destination != piece.destination => false,
        Likeness::Exact => {
            let expected = match leaving.mapping {
                None => piece.clone(),
                Some(mapping) => {
                    let known =
                        model.nat.public(mapping).map(|known| (IpAddr::V4(known.0), known.1));
                    let port = source_port(seen, leaving).or(known.map(|known| known.1));
                    let Some(port) = port else { return false };
                    piece.clone().with_source(seen.source, port)
                }
            };
            match leaving.shape {
                Shape::Whole => expected == *seen,
                Shape::Fragment { size, index } => expected.fragments(size)[index] == *seen,
                Shape::Super { size } if left.offload != Offload::default() => {
                    left.offload == tcp_super_packet(14, expected.source.is_ipv4(), size)
                        && expected == *seen
                }
                Shape::Super { .. } => expected == *seen,
            }
        }
    }
}

/// The books: every packet in is one packet out, answered, left alone or dropped for a reason.
#[derive(Debug, Default)]
pub struct Books {
    domains: Vec<Arc<Domain>>,
    drops: BTreeMap<DropReason, u64>,
    punted: u64,
    ignored: u64,
}

impl Books {
    /// Takes note of the domains of the snapshot in force.
    pub fn follow(&mut self, rig: &Rig) {
        for domain in rig.snapshot().domains() {
            if !self.domains.iter().any(|known| Arc::ptr_eq(&known.counters, &domain.counters)) {
                self.domains.push(Arc::clone(domain));
            }
        }
    }

    /// Checks the counters after a run in which these packets were processed.
    ///
    /// # Errors
    ///
    /// Says what does not add up.
    pub fn check(&mut self, rig: &Rig, predictions: &[Prediction]) -> Result<(), String> {
        for prediction in predictions {
            match prediction.end {
                End::Transmitted => {}
                End::Punted => self.punted += prediction.packets,
                End::Ignored => self.ignored += prediction.packets,
                End::Dropped(reason) => {
                    *self.drops.entry(reason).or_default() += prediction.packets;
                }
            }
        }
        let dropped = ended(rig)?;
        let drops = self.drops_of(rig);
        if drops.values().sum::<u64>() != dropped {
            return Err(format!("{dropped} drops, but by reason {drops:?}"));
        }
        if drops != self.drops {
            return Err(format!("drops {drops:?}, expected {:?}", self.drops));
        }
        let sum = |of: fn(&nvgate::counters::WorkerCounters) -> u64| -> u64 {
            rig.counters.iter().map(|worker| of(worker)).sum()
        };
        let ended = (sum(|worker| worker.punted.read()), sum(|worker| worker.ignored.read()));
        if ended != (self.punted, self.ignored) {
            return Err(format!("punted, ignored {ended:?}: {} {}", self.punted, self.ignored));
        }
        Ok(())
    }

    /// Every drop of the tenants that were taken note of, and of packets without one, by reason.
    #[must_use]
    pub fn drops_of(&self, rig: &Rig) -> BTreeMap<DropReason, u64> {
        let of_domains = self.domains.iter().flat_map(|domain| {
            let totals: DomainTotals = domain.counters.iter().collect();
            totals.drops.nonzero().collect::<Vec<_>>()
        });
        let of_workers = rig.counters.iter().flat_map(|worker| {
            DropReason::ALL.iter().map(|&reason| (reason, worker.drops.read(reason)))
        });
        let mut drops = BTreeMap::new();
        for (reason, count) in of_domains.chain(of_workers).filter(|&(_, count)| count > 0) {
            *drops.entry(reason).or_default() += count;
        }
        drops
    }
}

/// Checks that every packet which a worker took has one end; returns how many were dropped.
///
/// # Errors
///
/// Says what does not add up.
pub fn ended(rig: &Rig) -> Result<u64, String> {
    let mut dropped = 0;
    for (index, worker) in rig.counters.iter().enumerate() {
        let taken =
            worker.packets.read() + worker.handoffs_received.read() + worker.injected.read();
        let ended = worker.transmitted.read()
            + worker.handoffs_sent.read()
            + worker.punted.read()
            + worker.ignored.read()
            + worker.dropped.read();
        if taken != ended {
            return Err(format!("worker {index} took {taken} packets and ended {ended}"));
        }
        dropped += worker.dropped.read();
    }
    Ok(dropped)
}
