//! Non-interference: what tenant B's packets become does not depend on tenant A, whatever A sends;
//! and no bytes make the gateway speak to a tenant that did not.

use std::net::Ipv4Addr;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{Plan, TenantLimits};
use nvgate_model::Instant;
use nvgate_packet::buf::{Checksum, Gso, GsoKind, Offload};
use nvgate_tests::frames::{ARP, Arp, Frame, Nvgre, Packet, checksum, flags};
use nvgate_tests::oracle::marked;
use nvgate_tests::rig::{Rig, RigOptions, Sent, Station};
use nvgate_tests::rig_plan::{
    APP, FRONT_END_MAC, GATEWAY_MAC, GATEWAY_PROVIDER, REMOTE, ROUTER_MAC, TRANSIT, WEB, customer,
    customer_v6, plan, provider, public, tenant, vsid,
};
use nvgate_tests::rig_site::{
    SitePeer, TUNNEL_PORT, carry, give_sites, on_premises, on_premises_v6, site,
};
use nvgate_tests::rig_site_claims::{ROUTES, both_connected, open_tunnel};
use proptest::collection::vec;
use proptest::prelude::*;

/// The tenant that does what it likes.
const A: u8 = 0;
/// The tenant that must not notice.
const B: u8 = 1;

/// A frame, the port it arrives at, and its offload facts.
type Arrival = (PortRole, Vec<u8>, Offload);

fn station(tenant: u8) -> Station {
    Station::new(tenant, WEB, 10, &[provider(11).into()])
}

fn neighbour(tenant: u8) -> Station {
    Station::new(tenant, APP, 20, &[provider(13).into(), provider(14).into()])
}

fn crowded() -> Plan {
    let mut tenants = vec![tenant(A), tenant(B)];
    // Small enough to be used up by either.
    for (number, tenant) in (A..).zip(&mut tenants) {
        tenant.limits = TenantLimits {
            sessions: 60,
            sessions_per_customer: 40,
            punts_per_sec: 20,
            replications_per_sec: 20,
        };
        let mut site = site("hq", vec![open_tunnel(number, 1)]);
        site.internet = true;
        give_sites(tenant, number, vec![site], &ROUTES);
    }
    plan(tenants)
}

/// One thing a tenant can cause to arrive at the gateway.
#[derive(Clone, Debug)]
enum Act {
    Out { protocol: u8, port: u16, remote: u8, flags: u8 },
    Flood { count: u16 },
    In { protocol: u8, port: u16, flags: u8 },
    Inside { v6: bool, last: u8 },
    Ask { last: u8 },
    Shout,
    Fragment { identification: u16, index: usize },
    IntoSite { v6: bool, port: u16 },
    FromSite { v6: bool, port: u16, away: bool },
    Knock,
    Datagram { payload: Vec<u8> },
    AtTheOther { session: u8, payload: Vec<u8> },
    Mutated { of: Box<Self>, at: usize, value: u8 },
    Bytes { payload: Vec<u8> },
    Offloaded { of: Box<Self>, start: u32, field: u16, gso: u16 },
}

fn act() -> impl Strategy<Value = Act> {
    let plain = prop_oneof![
        4 => (0_u8..3, 1_u16..5, 0_u8..3, 0_u8..32)
            .prop_map(|(protocol, port, remote, flags)| Act::Out { protocol, port, remote, flags }),
        1 => (10_u16..80).prop_map(|count| Act::Flood { count }),
        3 => (0_u8..3, any::<u16>(), 0_u8..32)
            .prop_map(|(protocol, port, flags)| Act::In { protocol, port, flags }),
        2 => (any::<bool>(), prop::sample::select(vec![1, 10, 20, 22, 99]))
            .prop_map(|(v6, last)| Act::Inside { v6, last }),
        1 => prop::sample::select(vec![1, 11, 99]).prop_map(|last| Act::Ask { last }),
        1 => Just(Act::Shout),
        2 => (0_u16..4, 0_usize..3)
            .prop_map(|(identification, index)| Act::Fragment { identification, index }),
        1 => vec(any::<u8>(), 0..120).prop_map(|payload| Act::Bytes { payload }),
        3 => (any::<bool>(), 1_u16..5).prop_map(|(v6, port)| Act::IntoSite { v6, port }),
        4 => (any::<bool>(), 1_u16..5, any::<bool>())
            .prop_map(|(v6, port, away)| Act::FromSite { v6, port, away }),
        1 => Just(Act::Knock),
        1 => vec(any::<u8>(), 0..200).prop_map(|payload| Act::Datagram { payload }),
        1 => (any::<u8>(), vec(any::<u8>(), 24..100))
            .prop_map(|(session, payload)| Act::AtTheOther { session, payload }),
    ];
    plain.prop_flat_map(|plain| {
        prop_oneof![
            3 => Just(plain.clone()),
            1 => (any::<usize>(), any::<u8>(), Just(plain.clone()))
                .prop_map(|(at, value, of)| Act::Mutated { of: Box::new(of), at, value }),
            1 => (0_u32..200, 0_u16..40, 0_u16..2000, Just(plain)).prop_map(
                |(start, field, gso, of)| Act::Offloaded { of: Box::new(of), start, field, gso }
            ),
        ]
    })
}

fn packet(
    tenant: u8,
    protocol: u8,
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    flags: u8,
) -> Packet {
    let data = marked(tenant, 1, 24);
    match protocol {
        0 => Packet::udp(from, to, &data),
        1 => Packet::tcp(from, to, flags, &data),
        _ => Packet::echo(from.0, to.0, from.1, &data),
    }
}

/// What arrives when `tenant` acts, or its site, whose peer this is.
fn arrivals(tenant: u8, act: &Act, peer: &mut SitePeer, now: Instant) -> Vec<Arrival> {
    let web = station(tenant);
    let datagram = |from: &SitePeer, payload: &[u8]| {
        (PortRole::FrontEnd, from.frame(payload, 0), Offload::default())
    };
    let out = |packet: &Packet| (PortRole::Fabric, web.sends(packet).bytes(), Offload::default());
    let remote = |last: u8| Ipv4Addr::new(198, 51, 100, last);
    match act {
        Act::Out { protocol, port, remote: last, flags } => {
            let from = (customer(WEB, 10), *port);
            vec![out(&packet(tenant, *protocol, from, (remote(*last), 443), *flags))]
        }
        Act::Flood { count } => (0..*count)
            .map(|port| {
                let from = (customer(WEB, 10), 20_000 + port);
                out(&packet(tenant, 0, from, (REMOTE, 443), 0))
            })
            .collect(),
        Act::In { protocol, port, flags } => {
            let port = if port % 3 == 0 { 80 } else { *port };
            let to = (public(tenant, 0), port);
            let packet = packet(tenant, *protocol, (remote(1), 443), to, *flags);
            let frame = Frame::of(FRONT_END_MAC, ROUTER_MAC, &packet);
            vec![(PortRole::FrontEnd, frame.bytes(), Offload::default())]
        }
        Act::Inside { v6, last } => {
            let data = marked(tenant, 2, 24);
            let packet = if *v6 {
                Packet::echo(customer_v6(WEB, 10), customer_v6(APP, *last), 5, &data)
            } else {
                Packet::echo(customer(WEB, 10), customer(APP, *last), 5, &data)
            };
            vec![out(&packet)]
        }
        Act::Ask { last } => {
            let ask = Arp::request((web.mac(), customer(WEB, 10)), customer(WEB, *last));
            let destination = nvgate_model::MacAddress::BROADCAST;
            let payload = ask.bytes();
            let frame = Frame { destination, source: web.mac(), ethertype: ARP, payload };
            vec![(PortRole::Fabric, web.sends_frame(frame).bytes(), Offload::default())]
        }
        Act::Shout => {
            let from = (customer(WEB, 10), 68);
            let packet = packet(tenant, 0, from, (Ipv4Addr::BROADCAST, 67), 0);
            let frame = Frame::of(nvgate_model::MacAddress::BROADCAST, web.mac(), &packet);
            vec![(PortRole::Fabric, web.sends_frame(frame).bytes(), Offload::default())]
        }
        Act::Fragment { identification, index } => {
            let data = marked(tenant, 3, 400);
            let whole = Packet::udp((customer(WEB, 10), 77), (REMOTE, 443), &data);
            vec![out(&whole.fragmentable(*identification).fragments(160)[*index])]
        }
        Act::IntoSite { v6, port } => {
            let data = marked(tenant, 4, 24);
            let packet = if *v6 {
                Packet::udp((customer_v6(WEB, 10), *port), (on_premises_v6(1, 5), 53), &data)
            } else {
                Packet::udp((customer(WEB, 10), *port), (on_premises(1, 5), 53), &data)
            };
            vec![out(&packet)]
        }
        Act::FromSite { v6, port, away } => {
            let data = marked(tenant, 5, 24);
            let packet = if *v6 {
                Packet::udp((on_premises_v6(1, 5), *port), (customer_v6(WEB, 10), 53), &data)
            } else {
                let to = if *away { REMOTE } else { customer(WEB, 10) };
                Packet::udp((on_premises(1, 5), *port), (to, 53), &data)
            };
            let sealed = peer.seal(now, &packet);
            sealed.into_iter().map(|payload| datagram(peer, &payload)).collect()
        }
        Act::Knock => {
            let mut knocking = SitePeer::new(tenant, 1, peer.address, now);
            let packet = Packet::udp((on_premises(1, 5), 1), (customer(WEB, 10), 1), b"knock");
            assert_eq!(knocking.seal(now, &packet), None, "there is no session yet");
            let initiations = knocking.poll(now);
            initiations.iter().map(|payload| datagram(&knocking, payload)).collect()
        }
        Act::Datagram { payload } => vec![datagram(peer, payload)],
        Act::AtTheOther { session, payload } => {
            // Tunnels have the numbers 1 and 2, tenant by tenant.
            let mut bytes = vec![4, 0, 0, 0, *session, (2 - tenant) << 2, 0, 0];
            bytes.extend(payload);
            let other = SitePeer::new(1 - tenant, 1, peer.address, now);
            vec![datagram(&other, &bytes)]
        }
        Act::Bytes { payload } => {
            let frame = Frame {
                destination: GATEWAY_MAC,
                source: web.mac(),
                ethertype: 0x0800,
                payload: payload.clone(),
            };
            vec![(PortRole::Fabric, web.sends_frame(frame).bytes(), Offload::default())]
        }
        Act::Mutated { of, at, value } => {
            let mutate = |(role, mut bytes, offload): Arrival| {
                // The outer headers are the host's, which does not lie about whose packet it is.
                let from = if role == PortRole::Fabric { 42 } else { 34 };
                if bytes.len() > from {
                    let at = from + at % (bytes.len() - from);
                    // Never the byte it was: what is encrypted is another one each time.
                    bytes[at] ^= value | 1;
                }
                (role, bytes, offload)
            };
            arrivals(tenant, of, peer, now).into_iter().map(mutate).collect()
        }
        Act::Offloaded { of, start, field, gso } => {
            let kind = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp][usize::from(gso % 3)];
            let offload = Offload {
                checksum: Checksum::Partial { start: *start, field: *field },
                gso: (*gso > 0).then_some(Gso { kind, size: *gso }),
            };
            let change = |(role, bytes, _): Arrival| (role, bytes, offload);
            arrivals(tenant, of, peer, now).into_iter().map(change).collect()
        }
    }
}

/// Whether something that left is B's.
fn is_of(tenant: u8, role: PortRole, sent: &Sent) -> bool {
    match role {
        PortRole::Fabric => Nvgre::read(&sent.bytes).is_ok_and(|frame| {
            [WEB, APP, TRANSIT].iter().any(|&subnet| frame.vsid == vsid(tenant, subnet))
        }),
        PortRole::FrontEnd => {
            let addresses = [public(tenant, 0), public(tenant, 1)];
            sent.bytes
                .get(26..30)
                .is_some_and(|source| addresses.iter().any(|address| address.octets() == source))
        }
    }
}

/// What left for B, in order, without which worker sent it; what left for its site as it came out
/// of the tunnel.
fn of_b(rig: &mut Rig, peers: &mut [SitePeer]) -> (Vec<Arrival>, Vec<Vec<u8>>) {
    let front_end = carry(rig, peers).into_iter().map(|sent| (PortRole::FrontEnd, sent));
    let fabric = rig.take(PortRole::Fabric).into_iter().map(|sent| (PortRole::Fabric, sent));
    let left = fabric
        .chain(front_end)
        .filter(|(role, sent)| is_of(B, *role, sent))
        .map(|(role, sent)| (role, comparable(sent.bytes), sent.offload))
        .collect();
    (left, std::mem::take(&mut peers[usize::from(B)].received))
}

/// A frame without what is encrypted, which is never the same twice. (A datagram of B's whose source
/// was changed on the way moved the tunnel's end to where no peer is.)
fn comparable(mut frame: Vec<u8>) -> Vec<u8> {
    if frame.get(34..36) == Some(&TUNNEL_PORT.to_be_bytes()) {
        // Ethernet, IP, and UDP up to its checksum.
        frame.truncate(40);
    }
    frame
}

fn rig(workers: u16) -> (Rig, Vec<SitePeer>) {
    let options = RigOptions { workers, flow_entries: 64, ..RigOptions::default() };
    let mut rig = Rig::with(&crowded(), &options);
    rig.advance(std::time::Duration::from_secs(3));
    rig.take(PortRole::FrontEnd);
    let peers = both_connected(&mut rig, 7000);
    (rig, peers)
}

/// Plays B's acts, with A's in between or without, and returns what B's became.
fn play(
    workers: u16,
    of_a: Option<&[(usize, Act)]>,
    acts_of_b: &[(u8, Act)],
) -> Vec<(Vec<Arrival>, Vec<Vec<u8>>)> {
    let (mut rig, mut peers) = rig(workers);
    let mut became = Vec::new();
    let mut remaining = of_a.unwrap_or(&[]).iter().peekable();
    for (step, (pause, act)) in acts_of_b.iter().enumerate() {
        while let Some((_, act_of_a)) = remaining.next_if(|(at, _)| at % acts_of_b.len() == step) {
            let now = rig.now;
            for (role, bytes, offload) in arrivals(A, act_of_a, &mut peers[0], now) {
                rig.inject(role, worker_of(&bytes), &bytes, offload);
                let of_b = of_b(&mut rig, &mut peers);
                assert_eq!(
                    of_b,
                    Default::default(),
                    "{act_of_a:?} of A made B hear or say something"
                );
            }
        }
        let now = rig.now;
        for (role, bytes, offload) in arrivals(B, act, &mut peers[1], now) {
            // By the act alone: the bytes of a tunnel's datagrams are never the same.
            rig.inject(role, step, &bytes, offload);
            became.push(of_b(&mut rig, &mut peers));
        }
        rig.now = rig.now + std::time::Duration::from_secs(u64::from(*pause));
        became.push(of_b(&mut rig, &mut peers));
    }
    became
}

/// A worker for a frame.
fn worker_of(frame: &[u8]) -> usize {
    frame.iter().fold(0_usize, |sum, &byte| sum.wrapping_mul(31) + usize::from(byte))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_becomes_of_bs_packets_does_not_depend_on_a(
        workers in 1_u16..3,
        mut acts_of_a in vec((0_usize..30, act()), 1..25),
        acts_of_b in vec((prop_oneof![3 => Just(0_u8), 1 => 1_u8..200], act()), 1..20),
    ) {
        acts_of_a.sort_by_key(|(at, _)| at % acts_of_b.len());
        let alone = play(workers, None, &acts_of_b);
        let beside = play(workers, Some(&acts_of_a), &acts_of_b);
        prop_assert_eq!(alone, beside);
    }

    #[test]
    fn any_bytes_on_any_port_neither_panic_nor_reach_a_tenant(
        frames in vec((any::<bool>(), vec(any::<u8>(), 0..300), any::<bool>(), any::<u16>()), 1..40),
    ) {
        let (mut rig, _) = rig(2);
        for (fabric, mut bytes, addressed, size) in frames {
            let role = if fabric { PortRole::Fabric } else { PortRole::FrontEnd };
            if addressed && bytes.len() > 14 {
                let mac = if fabric { nvgate_tests::rig_plan::FABRIC_MAC } else { FRONT_END_MAC };
                bytes[..6].copy_from_slice(&mac.0);
                let version = bytes[14] >> 4 & 1;
                bytes[12..14].copy_from_slice(if version == 0 { &[8, 0] } else { &[0x86, 0xdd] });
                bytes[14] = if version == 0 { 0x45 } else { 0x60 };
                if version == 0 && bytes.len() >= 34 {
                    // To a leased address, or to the gateway's provider address, and well sealed.
                    let to = if fabric { GATEWAY_PROVIDER } else { public(A, 0) };
                    let length = bytes.len() as u16 - 14;
                    bytes[16..18].copy_from_slice(&length.to_be_bytes());
                    bytes[23] = if fabric { 47 } else { [6, 17, 1][usize::from(size % 3)] };
                    bytes[30..34].copy_from_slice(&to.octets());
                    bytes[24..26].fill(0);
                    let sum = checksum(&[&bytes[14..34]]);
                    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
                }
            }
            let gso = (size > 30_000).then_some(Gso { kind: GsoKind::Udp, size });
            let start = u32::from(size % 500);
            let offload = Offload { checksum: Checksum::Partial { start, field: 6 }, gso };
            let offload = if size % 2 == 0 { Offload::default() } else { offload };
            let output = rig.exchange_offloaded(role, &bytes, offload);
            prop_assert!(output.fabric.is_empty(), "{:?}", output);
        }
    }
}

#[test]
fn a_flood_of_one_tenant_uses_up_nothing_of_the_others() {
    for workers in [1, 2] {
        let (mut rig, mut peers) = rig(workers);
        let now = rig.now;
        for (role, bytes, offload) in arrivals(A, &Act::Flood { count: 500 }, &mut peers[0], now) {
            rig.inject(role, 0, &bytes, offload);
            rig.run();
        }
        for _ in 0..60 {
            for (role, bytes, offload) in
                arrivals(A, &Act::Inside { v6: false, last: 1 }, &mut peers[0], now)
            {
                rig.inject(role, 0, &bytes, offload);
            }
        }
        rig.run();
        rig.take(PortRole::Fabric);
        rig.take(PortRole::FrontEnd);
        let drops = rig.all_drops();
        assert!(drops.iter().any(|drop| drop.0.name() == "nat_customer_sessions"), "{drops:?}");
        assert!(drops.iter().any(|drop| drop.0.name() == "punt_limited"), "{drops:?}");

        let before = rig.all_drops();
        for port in 0..30 {
            let syn = Packet::tcp((customer(WEB, 10), 3000 + port), (REMOTE, 1), flags::SYN, b"");
            let left = rig.from_tenant(&station(B), &syn).to_router();
            let _ = rig.from_front_end(&left.reply()).to_station(&station(B));
        }
        for _ in 0..10 {
            let echo = Packet::echo(customer(APP, 20), customer(APP, 1), 1, b"still there");
            let _ = rig.from_tenant(&neighbour(B), &echo).to_station(&neighbour(B));
        }
        assert_eq!(rig.all_drops(), before);
    }
}
