//! What an attacker on the front end, or another tenant, must not reach through tunnels: one claim
//! at a time, with one worker and with two.

use std::net::SocketAddr;

use nvgate::counters::DomainTotals;
use nvgate::io::PortRole;
use nvgate_model::DropReason;
use nvgate_packet::buf::{Checksum, Gso, GsoKind, Offload};
use nvgate_tests::frames::{Body, Frame, Packet};
use nvgate_tests::rig::{Output, Rig};
use nvgate_tests::rig_claims::web;
use nvgate_tests::rig_plan::{FRONT_END_MAC, ROUTER_MAC, WEB, customer, public};
use nvgate_tests::rig_site::{
    SitePeer, TUNNEL_PORT, carry, gateway_key, key, on_premises, pass, peer_config, peer_socket,
};
use nvgate_tests::rig_site_claims::{
    both_connected, connected, counted, each_place, from_site, from_vm, knock, tenants,
};
use nvgate_tests::scenario::Random;

/// A packet of a site to the VM 10.1.0.10.
fn question(data: &[u8]) -> Packet {
    Packet::udp((on_premises(1, 5), 4000), (customer(WEB, 10), 53), data)
}

/// The frame in which this payload comes from an address of the front end to a tenant's tunnels.
fn datagram(from: SocketAddr, tenant: u8, payload: &[u8]) -> Vec<u8> {
    let body = Body::Udp { ports: (from.port(), TUNNEL_PORT), payload: payload.to_vec() };
    let packet = Packet::new(from.ip(), public(tenant, 0), body);
    Frame::of(FRONT_END_MAC, ROUTER_MAC, &packet).bytes()
}

fn totals(rig: &Rig, tenant: u8) -> DomainTotals {
    let name = format!("tenant-{tenant}");
    let snapshot = rig.snapshot();
    let domain = snapshot.domains().find(|domain| domain.tenant.to_string() == name);
    domain.expect("the tenant is there").counters.iter().collect()
}

/// Both directions of a tenant's tunnel work.
fn talks(rig: &mut Rig, peers: &mut [SitePeer], at: usize, tenant: u8) {
    let question = question(b"still there?");
    let output = from_site(rig, peers, at, &question);
    assert_eq!(output.to_station(&web(tenant)), question.clone().hop());
    assert_eq!(from_vm(rig, peers, &web(tenant), &question.reply()), []);
    assert_eq!(peers[at].take(), [question.reply().hop()]);
}

#[test]
fn a_datagram_of_one_tenants_tunnel_at_anothers_socket_is_refused() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        let sealed = peers[0].seal(rig.now, &question(b"astray")).expect("a session");
        let frame = datagram(peers[0].address, 1, &sealed);
        assert!(rig.exchange(PortRole::FrontEnd, &frame).is_empty());
        counted(rig, &[(DropReason::TunnelUnknownPeer, 1)]);
        assert_eq!(totals(rig, 0).drops.nonzero().count(), 0);
        assert_eq!(totals(rig, 1).drops.of(DropReason::TunnelUnknownPeer), 1);
        // It was not spent: at its own socket it passes.
        peers[0].inject(rig, &sealed);
        rig.run();
        let output = Output { fabric: rig.take(PortRole::Fabric), front_end: Vec::new() };
        assert_eq!(output.to_station(&web(0)), question(b"astray").hop());
        talks(rig, &mut peers, 1, 1);
    });
}

#[test]
fn a_peer_of_one_tenant_is_nobody_to_another() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        // The key of tenant 0's peer, used against tenant 1's listener.
        let mut config = peer_config(1, 1);
        config.own.current = key(0, 1);
        let mut stranger = SitePeer::with(config, 1, peer_socket(9, port), rig.now);
        stranger.send(rig, &knock());
        assert!(stranger.datagrams.is_empty(), "nothing was answered");
        // The gateway's public key of the other tenant.
        let mut config = peer_config(1, 1);
        config.peer = gateway_key(0).public();
        let mut mistaken = SitePeer::with(config, 1, peer_socket(9, port + 1), rig.now);
        mistaken.send(rig, &knock());
        assert!(mistaken.datagrams.is_empty(), "nothing was answered");
        counted(rig, &[(DropReason::TunnelUnknownPeer, 1), (DropReason::TunnelMac, 1)]);
    });
}

#[test]
fn replayed_cut_and_changed_datagrams_are_counted_and_answered_by_nothing() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        let sealed = peers[0].seal(rig.now, &question(b"once")).expect("a session");
        peers[0].inject(rig, &sealed);
        rig.run();
        assert_eq!(rig.take(PortRole::Fabric).len(), 1);
        let (attacker, tenant) = (peer_socket(66, port), 0);
        let mut sent = 0;
        let mut attack = |rig: &mut Rig, payload: &[u8]| {
            sent += 1;
            let output = rig.exchange(PortRole::FrontEnd, &datagram(attacker, tenant, payload));
            assert!(output.is_empty(), "{output:?}");
            sent
        };
        attack(rig, &sealed);
        counted(rig, &[(DropReason::TunnelReplay, 1)]);
        for length in [0, 1, 4, 16, 31, 32, sealed.len() - 1] {
            attack(rig, &sealed[..length]);
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x40;
            attack(rig, &changed);
        }
        let mut random = Random(u64::from(port));
        for kind in 0..=5 {
            for length in [92, 148, 64, 32, 100, 1200] {
                let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
                bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
                attack(rig, &bytes);
            }
        }
        let total = attack(rig, b"hello");
        let drops: u64 = rig.all_drops().iter().map(|(_, count)| count).sum();
        assert_eq!(drops, total, "{:?}", rig.all_drops());
        assert_eq!(totals(rig, 1).drops.nonzero().count(), 0, "nothing of it is tenant 1's");
        // Nobody moved the tunnel's end, and no session was lost.
        talks(rig, &mut peers, 0, 0);
        talks(rig, &mut peers, 1, 1);
        assert_eq!(peers[0].status(rig.now).counters.handshakes_tried, 1);
    });
}

#[test]
fn a_datagram_from_an_address_that_is_nobodys_is_dropped() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peer = SitePeer::new(0, 1, peer_socket(9, port), rig.now);
        assert_eq!(peer.seal(rig.now, &knock()), None);
        let initiation = peer.poll(rig.now).remove(0);
        for (count, from) in
            ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"].iter().enumerate()
        {
            let from = SocketAddr::new(from.parse().expect("an address"), 7);
            let output = rig.exchange(PortRole::FrontEnd, &datagram(from, 0, &initiation));
            assert!(output.is_empty(), "{output:?}");
            counted(rig, &[(DropReason::Martian, count as u64 + 1)]);
        }
    });
}

#[test]
fn every_datagram_of_a_super_packet_is_opened_and_counted_once() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        let questions: Vec<_> = (0..5_u8).map(|number| question(&[number; 40])).collect();
        let mut sealed: Vec<_> = questions
            .iter()
            .map(|question| peers[0].seal(rig.now, question).expect("a session"))
            .collect();
        let size = sealed[0].len() as u16;
        // One of them was changed on the way.
        sealed[3][20] ^= 1;
        let frame = peers[0].frame(&sealed.concat(), 0);
        let checksum = Checksum::Partial { start: 34, field: 6 };
        let offload = Offload { checksum, gso: Some(Gso { kind: GsoKind::Udp, size }) };
        let before = ends(rig);
        rig.inject(PortRole::FrontEnd, usize::from(port), &frame, offload);
        let output =
            Output { front_end: carry(rig, &mut peers), fabric: rig.take(PortRole::Fabric) };
        let expected: Vec<_> = [0, 1, 2, 4].map(|at| questions[at].clone().hop()).into();
        assert_eq!(output.all_to_station(&web(0)), expected);
        counted(rig, &[(DropReason::TunnelAuth, 1)]);
        let (taken, ended) = ends(rig);
        assert_eq!((taken - ended, before.0 - before.1), (0, 0), "every packet has one end");
    });
}

/// What workers took, and what ended.
fn ends(rig: &Rig) -> (u64, u64) {
    let of = |worker: &nvgate::counters::WorkerCounters| {
        let taken =
            worker.packets.read() + worker.handoffs_received.read() + worker.injected.read();
        let ended = worker.transmitted.read()
            + worker.handoffs_sent.read()
            + worker.punted.read()
            + worker.ignored.read()
            + worker.dropped.read();
        (taken, ended)
    };
    let each = rig.counters.iter().map(|worker| of(worker));
    each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[test]
fn a_flood_of_initiations_costs_bounded_handshakes_and_disturbs_no_tunnel() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        pass(rig, &mut peers, 2);
        // The attacker knows the peer's private key: its initiations decrypt.
        let mut flooded = 0;
        let mut replies = Vec::new();
        for number in 0..3000_u16 {
            let from = peer_socket(number as u8, 1000 + number);
            let mut thief = SitePeer::new(0, 1, from, rig.now);
            assert_eq!(thief.seal(rig.now, &knock()), None);
            for initiation in thief.poll(rig.now) {
                rig.inject(
                    PortRole::FrontEnd,
                    usize::from(number),
                    &datagram(from, 0, &initiation),
                    Offload::default(),
                );
                flooded += 1;
            }
            if number % 64 == 63 {
                rig.run();
                replies.extend(rig.take(PortRole::FrontEnd));
            }
        }
        rig.run();
        replies.extend(rig.take(PortRole::FrontEnd));
        let payloads = |length: usize| {
            let is = |sent: &&nvgate_tests::rig::Sent| sent.bytes.len() == 14 + 20 + 8 + length;
            replies.iter().filter(is).count()
        };
        let (responses, cookies) = (payloads(92), payloads(64));
        // A tunnel spends 20 handshakes at once, a calm listener 100 on each worker.
        assert!((1..=40).contains(&responses), "{responses} handshakes");
        assert_eq!(cookies, flooded - 100 * rig.workers(), "cookies only under load");
        assert_eq!(replies.len(), responses + cookies);
        let refused = rig.drops(DropReason::TunnelHandshakeBudget);
        assert_eq!(refused as usize, flooded - cookies - responses);
        assert!(rig.take(PortRole::Fabric).is_empty());

        // The other tenant notices nothing: not even its handshakes.
        talks(rig, &mut peers, 1, 1);
        let mut fresh = connected(rig, 1, 1, port + 3);
        assert_eq!(fresh.datagrams, []);
        assert_eq!(totals(rig, 1).drops.nonzero().count(), 0);
        fresh.take();
    });
}

#[test]
fn a_flood_of_strangers_leaves_the_running_tunnel_alone() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        pass(rig, &mut peers, 2);
        for number in 0..500_u16 {
            let from = peer_socket(number as u8, 1000 + number);
            let mut config = peer_config(0, 1);
            config.own.current = key(9, number as u8);
            let mut stranger = SitePeer::with(config, 1, from, rig.now);
            assert_eq!(stranger.seal(rig.now, &knock()), None);
            for initiation in stranger.poll(rig.now) {
                rig.inject(
                    PortRole::FrontEnd,
                    usize::from(number),
                    &datagram(from, 0, &initiation),
                    Offload::default(),
                );
            }
        }
        rig.run();
        let cookies = rig.take(PortRole::FrontEnd);
        assert_eq!(cookies.len(), 500 - 100 * rig.workers());
        counted(rig, &[(DropReason::TunnelUnknownPeer, 100 * rig.workers() as u64)]);
        talks(rig, &mut peers, 0, 0);
        talks(rig, &mut peers, 1, 1);
        // A peer that is honest proves its address by the cookie and comes in.
        let mut moved = SitePeer::new(0, 1, peer_socket(10, port), rig.now);
        moved.send(rig, &knock());
        moved.pass(rig, 6);
        assert!(moved.status(rig.now).own_key.is_some(), "the cookie opens the door");
    });
}
