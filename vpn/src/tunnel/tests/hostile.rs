//! What strangers, eavesdroppers and a misbehaving peer can not do.

use proptest::prelude::*;

use super::*;
use crate::{TunnelCounters, TunnelStatus};

const STRANGER: ([u8; 4], u16) = ([203, 0, 113, 66], 4444);

/// A tunnel's status without what counts refusals.
fn essence(net: &Net, side: usize) -> (TunnelStatus, Option<Instant>) {
    let tunnel = &net.sides[side].tunnel;
    let mut status = tunnel.status(net.now);
    status.counters = TunnelCounters { replays: 0, auth_failures: 0, ..status.counters };
    (status, tunnel.poll_timeout())
}

/// One message of each kind to B and one of each to A, all of them delivered already.
fn messages() -> (Net, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut net = Net::new();
    net.send(A, &packet(A, 1, 100));
    net.run_secs(1);
    net.send(B, &packet(B, 1, 100));
    net.run_secs(1);
    let to_b = vec![net.last(A, INITIATION), net.last(A, DATA)];
    let to_a = vec![net.last(B, RESPONSE), net.last(B, DATA)];
    (net, to_b, to_a)
}

#[test]
fn a_message_that_comes_again_is_refused_and_moves_nothing() {
    let (mut net, to_b, to_a) = messages();
    let before = [essence(&net, A), essence(&net, B)];
    for (side, datagrams) in [(B, to_b), (A, to_a)] {
        for datagram in datagrams {
            let refused = net.inject(side, STRANGER.into(), &datagram).unwrap_err();
            let expected = if datagram[0] == RESPONSE {
                DropReason::TunnelNoSession
            } else {
                DropReason::TunnelReplay
            };
            assert_eq!(refused, expected);
        }
    }
    assert_eq!([essence(&net, A), essence(&net, B)], before);
    assert_eq!(net.sides[B].tunnel.status(net.now).counters.replays, 2);
}

#[test]
fn every_initiation_ever_accepted_stays_refused_whichever_side_began_since() {
    let mut net =
        Net::with(|side, config| config.endpoint = Some(address(1 - side)), Limits::WHITEPAPER);
    let mut initiations = Vec::new();
    for round in 0..12 {
        let begin = [A, A, B, A, B, B][round % 6];
        net.clear();
        net.send(begin, &packet(begin, 1, 100));
        net.run_secs(1);
        initiations.push((1 - begin, net.last(begin, INITIATION)));
        net.run_secs(200);
        for (to, initiation) in &initiations {
            let refused = net.inject(*to, STRANGER.into(), initiation);
            assert_eq!(refused, Err(DropReason::TunnelReplay), "{round}");
        }
    }
}

#[test]
fn a_message_sent_back_to_its_sender_is_refused() {
    let (mut net, to_b, to_a) = messages();
    let before = [essence(&net, A), essence(&net, B)];
    for (side, datagrams) in [(A, to_b), (B, to_a)] {
        for datagram in datagrams {
            assert!(net.inject(side, STRANGER.into(), &datagram).is_err());
        }
    }
    assert_eq!([essence(&net, A), essence(&net, B)], before);
}

#[test]
fn a_message_that_is_damaged_or_cut_anywhere_is_refused_and_moves_nothing() {
    // A handshake of A's on the way, so that a response is awaited.
    let mut net = Net::connected();
    net.run_secs(200);
    net.clear();
    net.send(A, &packet(A, 1, 100));
    let initiation = net.last(A, INITIATION);
    let mut twin = Net::new();
    std::mem::swap(&mut twin.sides, &mut net.sides);
    twin.now = net.now;
    let before = [essence(&twin, A), essence(&twin, B)];
    let refuse = |twin: &mut Net, side: usize, datagram: &[u8]| {
        assert!(twin.inject(side, STRANGER.into(), datagram).is_err(), "{}", datagram.len());
    };
    for place in 0..initiation.len() {
        // The second MAC means something under load only.
        if place < 132 {
            let mut damaged = initiation.clone();
            damaged[place] ^= 1;
            refuse(&mut twin, B, &damaged);
        }
        refuse(&mut twin, B, &initiation[..place]);
    }
    assert_eq!([essence(&twin, A), essence(&twin, B)], before);
    twin.inject(B, address(A), &initiation).unwrap();
    let response = twin.last(B, RESPONSE);
    let before = essence(&twin, A);
    for place in 0..response.len() {
        if place < 76 {
            let mut damaged = response.clone();
            damaged[place] ^= 1;
            refuse(&mut twin, A, &damaged);
        }
        refuse(&mut twin, A, &response[..place]);
    }
    assert_eq!(essence(&twin, A), before);
    twin.inject(A, address(B), &response).unwrap();
    twin.run_secs(1);
    let data = twin.seal(A, &packet(A, 9, 64));
    let before = essence(&twin, B);
    for place in 0..data.len() {
        let mut damaged = data.clone();
        damaged[place] ^= 1;
        assert!(twin.inject(B, STRANGER.into(), &damaged).is_err());
        assert!(twin.inject(B, STRANGER.into(), &data[..place]).is_err());
    }
    assert_eq!(essence(&twin, B), before);
    assert!(twin.inject(B, address(A), &data).is_ok());
}

#[test]
fn another_key_is_refused() {
    let mut net = Net::connected();
    let mut other = Net::with(
        |side, config| {
            if side == A {
                config.own = own(66);
            }
        },
        Limits::WHITEPAPER,
    );
    other.send(A, &packet(A, 1, 100));
    let before = essence(&net, B);
    let initiation = other.last(A, INITIATION);
    assert_eq!(net.inject(B, STRANGER.into(), &initiation), Err(DropReason::TunnelAuth));
    let mut gateway = Net::with(
        |side, config| {
            if side == A {
                config.peer = own(66).current.public();
            }
        },
        Limits::WHITEPAPER,
    );
    gateway.send(A, &packet(A, 1, 100));
    let initiation = gateway.last(A, INITIATION);
    assert_eq!(net.inject(B, STRANGER.into(), &initiation), Err(DropReason::TunnelMac));
    assert_eq!(essence(&net, B), before);
}

#[test]
fn the_tunnel_follows_its_peer_to_another_address() {
    let mut net = Net::connected();
    net.sides[A].address = "[2001:db8::7]:1000".parse().unwrap();
    net.send(A, &packet(A, 1, 100));
    net.run_secs(1);
    assert_eq!(net.sides[B].tunnel.endpoint(), Some(net.sides[A].address));
    let moved = TunnelEvent::EndpointMoved(net.sides[A].address);
    assert_eq!(net.sides[B].events.iter().map(|it| it.1).collect::<Vec<_>>(), [moved]);
    net.send(B, &packet(B, 1, 100));
    net.run_secs(1);
    assert_eq!(net.sides[A].received.len(), 1);
    // A handshake moves it too.
    net.run_secs(200);
    net.sides[A].address = "192.0.2.99:5".parse().unwrap();
    net.fault = Box::new(|_, datagram| if datagram[0] == DATA { Fault::Lose } else { Fault::None });
    net.send(A, &packet(A, 1, 100));
    net.run_secs(1);
    assert_eq!(net.sides[B].tunnel.endpoint(), Some(net.sides[A].address));
}

#[test]
fn what_comes_out_belongs_to_the_site_and_what_goes_in_too() {
    let mut net = Net::connected();
    let mut out = [0; 2048];
    let mut foreign = packet(A, 1, 100);
    foreign[17] = 99;
    let now = net.now;
    let sealed = net.sides[A].tunnel.seal(now, &foreign, &[], 1420, &mut out);
    assert_eq!(sealed, Err(DropReason::TunnelAllowed));
    for head in [&[][..], &[0x45; 19], &[0x60; 39], &[0x50; 60]] {
        let sealed = net.sides[A].tunnel.seal(now, head, &[], 1420, &mut out);
        assert_eq!(sealed, Err(DropReason::TunnelInnerMalformed), "{head:?}");
    }
    let mut spoofed = packet(A, 1, 100);
    spoofed[13] = 99;
    let datagram = net.seal(A, &spoofed);
    assert_eq!(net.inject(B, address(A), &datagram), Err(DropReason::TunnelSource));
    let mut longer = packet(A, 1, 100);
    longer[3] = 200;
    let datagram = net.seal(A, &longer);
    assert_eq!(net.inject(B, address(A), &datagram), Err(DropReason::TunnelInnerMalformed));
    assert_eq!(net.sides[B].tunnel.status(net.now).counters.inbound.packets, 1);
}

#[test]
fn a_short_output_is_refused_and_the_message_still_good() {
    let mut net = Net::connected();
    let datagram = net.seal(A, &packet(A, 1, 1000));
    let now = net.now;
    for room in [0, 31, 148, datagram.len() - 1] {
        let mut out = vec![0; room];
        let tunnel = &mut net.sides[B].tunnel;
        let refused = tunnel.handle_datagram(now, address(A), &datagram, &mut out);
        assert_eq!(refused, Err(DropReason::TooBig));
        assert_eq!(tunnel.poll_transmit(now, &mut out), None);
    }
    assert!(net.inject(B, address(A), &datagram).is_ok());
}

#[test]
fn a_flood_of_genuine_initiations_costs_a_tunnel_20_handshakes_a_second() {
    let mut net = Net::connected();
    let mut accepted = 0;
    let mut peer = Net::new();
    peer.fault = Box::new(|_, _| Fault::Lose);
    let start = net.now;
    while net.now.since(start) < Duration::from_secs(3) {
        peer.clear();
        peer.send(A, &packet(A, 1, 100));
        peer.run_for(Duration::from_millis(5_400));
        if peer.sent(A, INITIATION) == 0 {
            continue;
        }
        let initiation = peer.last(A, INITIATION);
        net.now = net.now + Duration::from_millis(10);
        match net.inject(B, address(A), &initiation) {
            Ok(_) => accepted += 1,
            Err(reason) => assert_eq!(reason, DropReason::TunnelHandshakeBudget),
        }
    }
    // The burst, and what 2.99 seconds give.
    assert_eq!(accepted, 20 + 59);
}

proptest! {
    #[test]
    fn nothing_made_of_messages_that_were_delivered_is_accepted(
        changes in proptest::collection::vec((0_usize..4, 0_usize..200, any::<u8>(), 0_usize..200), 40),
    ) {
        let (mut net, to_b, to_a) = messages();
        let before = [essence(&net, A), essence(&net, B)];
        let delivered: Vec<_> = to_b.into_iter().chain(to_a).collect();
        for (message, place, mask, cut) in changes {
            let mut datagram = delivered[message].clone();
            if let Some(byte) = datagram.get_mut(place) {
                *byte ^= mask;
            }
            datagram.truncate(datagram.len().saturating_sub(cut / 10 * (cut % 2)));
            for side in [A, B] {
                prop_assert!(net.inject(side, STRANGER.into(), &datagram).is_err());
            }
        }
        prop_assert_eq!([essence(&net, A), essence(&net, B)], before);
    }

    #[test]
    fn any_bytes_return_and_leave_the_tunnel_as_it_is(
        kind in 0_u8..6,
        receiver in prop_oneof![any::<u32>(), (0_u32..1024).prop_map(|low| 70_001 << 10 | low)],
        length in prop_oneof![Just(148_usize), Just(92), Just(64), 0_usize..300],
        body: [u8; 300],
    ) {
        let mut net = Net::connected();
        let mut datagram = body[..length].to_vec();
        for (place, byte) in datagram.iter_mut().zip([kind, 0, 0, 0]) {
            *place = byte;
        }
        let at = if kind == RESPONSE { 8 } else { 4 };
        if let Some(place) = datagram.get_mut(at..at + 4) {
            place.copy_from_slice(&receiver.to_le_bytes());
        }
        let before = essence(&net, B);
        prop_assert!(net.inject(B, STRANGER.into(), &datagram).is_err());
        prop_assert_eq!(essence(&net, B), before);
        net.send(A, &packet(A, 1, 100));
        net.run_secs(1);
        prop_assert_eq!(net.sides[B].received.len(), 1);
    }
}
