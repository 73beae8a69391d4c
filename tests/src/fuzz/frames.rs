//! Any frames into a whole gateway: whatever comes, every packet is accounted for, what leaves to
//! hosts is finished NVGRE, and nothing moves for a tenant that a frame does not name.

use std::time::Duration;

use nvgate::counters::{DomainTotals, NatTotals};
use nvgate::io::PortRole;
use nvgate_deploy::plan::{Plan, SitePlan, TenantPlan};
use nvgate_packet::buf::{Checksum, Gso, GsoKind, MAX_FRAME, Offload};

use super::{Input, block, mend};
use crate::frames::{ARP, Arp, Frame, Nvgre, Packet, flags};
use crate::rig::{Rig, RigOptions};
use crate::rig_claims::{accounted, udp_out, web};
use crate::rig_plan::{
    APP, FRONT_END_MAC, GATEWAY_MAC, REMOTE, ROUTER, ROUTER_MAC, WEB, customer, customer_v6, plan,
    provider, public, tenant, vsid,
};
use crate::rig_site::{SitePeer, give_sites, on_premises, peer_socket, site, tunnel};

/// Frames of one input.
const FRAMES: usize = 32;

/// Two tenants with a tunnel each.
fn two_sites() -> Plan {
    let tenants = (0..2).map(|number| -> TenantPlan {
        let mut tenant = tenant(number);
        let sites: Vec<SitePlan> =
            vec![site("hq", vec![tunnel(number, 1, "a", &["192.168.0.0/16"])])];
        give_sites(&mut tenant, number, sites, &[("192.168.0.0/16", 0)]);
        tenant
    });
    plan(tenants.collect())
}

/// What an input makes of its bytes.
enum Step {
    Frame(PortRole, Vec<u8>),
    /// An inner packet from the first tenant's site.
    Inner(Vec<u8>),
    Time(Duration),
}

fn step(input: &mut Input<'_>) -> Step {
    let kind = input.byte();
    // The places of the first tenant: two subnets, and one that it does not have.
    let vsid = vsid(0, 1 + (kind >> 4 & 3));
    let nvgre = |inner: &[u8]| {
        let empty =
            Frame { destination: GATEWAY_MAC, source: web(0).mac(), ethertype: 0, payload: vec![] };
        let outer = Nvgre::sent(provider(11).into(), vsid, empty).bytes();
        let mut frame = [&outer[..outer.len() - 14], inner].concat();
        let length = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        mend(&mut frame[14..]);
        Step::Frame(PortRole::Fabric, frame)
    };
    let ethernet = |destination: [u8; 6], source: [u8; 6], packet: &[u8]| {
        let mut packet = packet.to_vec();
        mend(&mut packet);
        let ethertype =
            if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
        [&destination[..], &source, &ethertype, &packet].concat()
    };
    match kind & 7 {
        0 => Step::Frame(PortRole::Fabric, input.block().to_vec()),
        1 => Step::Frame(PortRole::FrontEnd, input.block().to_vec()),
        2 => nvgre(input.block()),
        3 | 4 => nvgre(&ethernet(GATEWAY_MAC.0, web(0).mac().0, input.block())),
        5 => {
            let frame = ethernet(FRONT_END_MAC.0, ROUTER_MAC.0, input.block());
            Step::Frame(PortRole::FrontEnd, frame)
        }
        6 => {
            let mut packet = input.block().to_vec();
            mend(&mut packet);
            Step::Inner(packet)
        }
        _ => Step::Time(Duration::from_millis(u64::from(input.word()) * 10)),
    }
}

/// Facts as a receive ring lets them pass: positions within the frame and no segments of nothing.
fn offload(input: &mut Input<'_>, length: usize) -> Offload {
    let facts = input.byte();
    let (start, field, size) = (input.byte(), input.byte(), input.word().max(1));
    let inside = usize::from(start) + usize::from(field) + 2 <= length;
    let checksum = if facts & 1 == 1 && inside {
        Checksum::Partial { start: u32::from(start), field: u16::from(field) }
    } else {
        Checksum::Complete
    };
    let kind = match facts >> 1 & 3 {
        0 => None,
        1 => Some(GsoKind::TcpV4),
        2 => Some(GsoKind::TcpV6),
        _ => Some(GsoKind::Udp),
    };
    Offload { checksum, gso: kind.map(|kind| Gso { kind, size }) }
}

/// Whether the bytes could mean the second tenant: a VSID or a public address of its.
fn names_other(bytes: &[u8]) -> bool {
    let vsids = (1..=3).map(|subnet| vsid(1, subnet).to_be_bytes()[1..].to_vec());
    let addresses = (0..4).map(|index| public(1, index).octets().to_vec());
    let prefix = vec![0x20, 0x01, 0x0d, 0xb8, 0, 1];
    let mut names = vsids.chain(addresses).chain([prefix]);
    names.any(|name| bytes.windows(name.len()).any(|part| part == name))
}

/// The second tenant's counters; NAT's gauges follow the clock.
fn other(rig: &Rig) -> DomainTotals {
    let snapshot = rig.snapshot();
    let mut domains = snapshot.domains().filter(|domain| domain.tenant.as_str() == "tenant-1");
    let counters = &domains.next().expect("the second tenant").counters;
    DomainTotals { nat: NatTotals::default(), ..counters.iter().collect() }
}

/// A sequence of frames, a worker or two.
///
/// # Panics
///
/// A claim does not hold.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let workers = 1 + u16::from(input.byte() & 1);
    let options = RigOptions { workers, flow_entries: 64, queue: 256, ..RigOptions::default() };
    let mut rig = Rig::with(&two_sites(), &options);
    rig.run();
    let mut peer = SitePeer::new(0, 1, peer_socket(9, 7000), rig.now);
    peer.send(&mut rig, &Packet::udp((on_premises(1, 5), 1), (customer(WEB, 10), 1), b"knock"));
    for _ in 0..FRAMES {
        if input.is_empty() {
            return;
        }
        let before = other(&rig);
        let (named, role, frame) = match step(&mut input) {
            Step::Frame(role, frame) => (names_other(&frame), role, frame),
            Step::Inner(packet) => {
                let sealed = peer.seal_bytes(rig.now, &packet, packet.len());
                let Ok(Some(datagram)) = sealed else { continue };
                (names_other(&packet), PortRole::FrontEnd, peer.frame(&datagram, 0))
            }
            Step::Time(duration) => {
                rig.advance(duration);
                peer.carry(&mut rig);
                continue;
            }
        };
        // A long frame need not be in the input.
        let padding = usize::from(input.byte()).pow(2).min(MAX_FRAME - frame.len().min(MAX_FRAME));
        let frame = [frame, vec![0; padding]].concat();
        let offload = offload(&mut input, frame.len());
        rig.inject(role, usize::from(input.byte()), &frame, offload);
        rig.run();
        accounted(&rig);
        if !named {
            assert_eq!(other(&rig), before);
        }
        for sent in rig.take(PortRole::Fabric) {
            assert_eq!(sent.offload, Offload::default(), "NVGRE leaves finished");
            let read = Nvgre::read(&sent.bytes).unwrap_or_else(|error| panic!("{error}: {sent:?}"));
            assert!(named || !names_other(&read.vsid.to_be_bytes()[1..]), "{read:?}");
        }
        peer.carry(&mut rig);
    }
}

/// Each kind of frame, as it is and with facts of its own.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let plain = [0; 6];
    let frame = |kind: u8, bytes: &[u8]| [&[kind][..], &block(bytes), &plain].concat();
    let out = udp_out(4000);
    let answer = Packet::udp((REMOTE, 4000), (public(0, 0), 53), b"in");
    let tcp = Packet::tcp((customer(WEB, 10), 4000), (REMOTE, 443), flags::ACK, &[0; 64]);
    let syn = Packet::tcp((REMOTE, 4000), (public(0, 0), 80), flags::SYN, &[]);
    let between = Packet::udp((customer(WEB, 10), 1), (customer(APP, 20), 2), b"between");
    let v6 = Packet::udp((customer_v6(WEB, 10), 1), (customer_v6(APP, 20), 2), b"between");
    let ping = Packet::echo(customer(WEB, 10), customer(WEB, 1), 5, b"ping");
    let to_site = Packet::udp((customer(WEB, 10), 1), (on_premises(1, 5), 2), b"to the site");
    let from_site = Packet::udp((on_premises(1, 5), 2), (customer(WEB, 10), 1), b"from the site");
    let error = Packet::error(REMOTE, public(0, 0), (3, 4, 600), &answer.reply());
    let arp = |target| Frame {
        destination: nvgate_model::MacAddress::BROADCAST,
        source: ROUTER_MAC,
        ethertype: ARP,
        payload: Arp::request((ROUTER_MAC, ROUTER), target).bytes(),
    };
    let large = [&[3][..], &block(&tcp.bytes()), &[0, 0b10, 0, 0, 0, 8, 1]].concat();
    let inner = Frame::of(GATEWAY_MAC, web(0).mac(), &out).bytes();
    let bodies = [
        [frame(3, &out.bytes()), frame(5, &out.bytes())].concat(),
        [frame(5, &answer.bytes()), frame(5, &error.bytes())].concat(),
        [frame(3, &tcp.bytes()), large, vec![7, 100, 0]].concat(),
        [frame(5, &syn.bytes()), frame(3, &between.bytes()), frame(3, &v6.bytes())].concat(),
        [frame(3, &ping.bytes()), frame(2, &inner)].concat(),
        [frame(3, &to_site.bytes()), frame(6, &from_site.bytes())].concat(),
        [frame(1, &arp(public(0, 0)).bytes()), frame(0, &web(0).sends(&out).bytes())].concat(),
        out.fragmentable(7).fragments(8).iter().flat_map(|one| frame(3, &one.bytes())).collect(),
    ];
    bodies.iter().zip(0..).map(|(body, number)| [&[number], &body[..]].concat()).collect()
}
