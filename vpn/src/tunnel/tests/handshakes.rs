//! Handshakes: who begins, what waits meanwhile, what goes on when messages are lost.

use proptest::prelude::*;

use super::*;

#[test]
fn the_first_packet_begins_a_handshake_and_arrives_with_it() {
    let mut net = Net::new();
    let (first, back) = (packet(A, 1, 500), packet_v6(B, 1420));
    net.send(A, &first);
    assert_eq!(net.sides[A].tunnel.status(net.now).queued, 1);
    net.run_secs(1);
    assert_eq!(net.sides[B].received, [first]);
    net.send(B, &back);
    net.run_secs(1);
    assert_eq!(net.sides[A].received, [back]);
    assert!(net.up(A) && net.up(B));
    let events = |side: usize| net.sides[side].events.iter().map(|it| it.1).collect::<Vec<_>>();
    assert_eq!(events(A), [TunnelEvent::Up]);
    assert!(events(B).contains(&TunnelEvent::EndpointMoved(address(A))));
    assert_eq!(events(B).last(), Some(&TunnelEvent::Up));
    let status = net.sides[B].tunnel.status(net.now);
    assert_eq!(status.counters.inbound, crate::Traffic { packets: 1, bytes: 500 });
    assert_eq!(status.counters.outbound, crate::Traffic { packets: 1, bytes: 1420 });
    assert_eq!((status.counters.handshakes_completed, status.counters.handshakes_tried), (1, 0));
}

#[test]
fn a_tunnel_without_an_endpoint_waits_for_its_peer_and_says_so() {
    let mut net = Net::new();
    let mut out = [0; 2048];
    let now = net.now;
    let tunnel = &mut net.sides[B].tunnel;
    assert_eq!(tunnel.status(now).state, TunnelState::Down(DownReason::NoEndpoint));
    let refused = tunnel.seal(now, &packet(B, 1, 100), &[], 1420, &mut out);
    assert_eq!(refused, Err(DropReason::TunnelNoEndpoint));
    assert_eq!((tunnel.poll_timeout(), tunnel.poll_transmit(now, &mut out)), (None, None));
    net.send(A, &packet(A, 1, 100));
    net.run_secs(1);
    assert_eq!(net.sides[B].tunnel.endpoint(), Some(address(A)));
    // After the session's end either side may begin.
    net.run_secs(300);
    net.clear();
    net.send(B, &packet(B, 2, 100));
    net.run_secs(1);
    assert_eq!((net.sent(B, INITIATION), net.sides[A].received.len()), (1, 1));
}

#[test]
fn sixteen_packets_wait_and_the_oldest_make_way() {
    let mut net = Net::new();
    for number in 0..20 {
        net.send(A, &packet(A, number, 100));
    }
    assert_eq!(net.sides[A].tunnel.status(net.now).queued, 16);
    net.run_secs(1);
    let expected: Vec<_> = (4..20).map(|number| packet(A, number, 100)).collect();
    assert_eq!(net.sides[B].received, expected);
    let discarded: u32 = net.sides[A]
        .events
        .iter()
        .map(|(_, event)| match event {
            TunnelEvent::Discarded { packets, reason: DropReason::TunnelQueueFull } => *packets,
            TunnelEvent::Discarded { .. }
            | TunnelEvent::Up
            | TunnelEvent::Down(_)
            | TunnelEvent::EndpointMoved(_) => 0,
        })
        .sum();
    assert_eq!(discarded, 4);
}

#[test]
fn a_packet_that_waited_and_does_not_fit_is_discarded_with_its_reason() {
    let mut net = Net::new();
    net.send(A, &packet(A, 1, 1000));
    let mut out = [0; 200];
    let now = net.now;
    let initiation = net.last(A, INITIATION);
    net.inject(B, address(A), &initiation).unwrap();
    let response = net.last(B, RESPONSE);
    let tunnel = &mut net.sides[A].tunnel;
    tunnel.handle_datagram(now, address(B), &response, &mut out).unwrap();
    assert_eq!(tunnel.poll_transmit(now, &mut out), None);
    net.drain(A);
    let discarded = TunnelEvent::Discarded { packets: 1, reason: DropReason::TooBig };
    assert_eq!(net.sides[A].events.last(), Some(&(now, discarded)));
}

#[test]
fn both_sides_may_begin_at_once() {
    let mut net =
        Net::with(|side, config| config.endpoint = Some(address(1 - side)), Limits::WHITEPAPER);
    for round in 0..3 {
        net.clear();
        net.send(A, &packet(A, 1, 100));
        net.send(B, &packet(B, 1, 100));
        for number in 2..50 {
            net.run_for(Duration::from_millis(7));
            net.send(A, &packet(A, number, 100));
            net.send(B, &packet(B, number, 100));
        }
        net.run_secs(1);
        let initiations = (net.sent(A, INITIATION), net.sent(B, INITIATION));
        assert_eq!(initiations, (1, 1), "{round}");
        assert_eq!((net.sides[A].received.len(), net.sides[B].received.len()), (49, 49));
        net.run_secs(200);
    }
}

#[test]
fn what_is_sealed_is_padded_to_16_bytes_and_never_beyond_the_mtu() {
    let mut net = Net::connected();
    let mut out = [0; 2048];
    for (length, mtu, sealed) in
        [(20, 1420, 32), (64, 1420, 64), (1410, 1420, 1420), (1420, 1420, 1420), (33, 40, 40)]
    {
        let bytes = packet(A, 0, length);
        for split in [0, 20, length] {
            let (head, tail) = bytes.split_at(split);
            let tunnel = &mut net.sides[A].tunnel;
            let result = tunnel.seal(net.now, head, tail, mtu, &mut out);
            assert_eq!(result, Ok(Sealed::Datagram(sealed + 32)));
            let datagram = out[..sealed + 32].to_vec();
            assert!(net.inject(B, address(A), &datagram).is_ok());
            assert_eq!(net.sides[B].received.pop().as_ref(), Some(&bytes));
        }
    }
    let tunnel = &mut net.sides[A].tunnel;
    let bytes = packet(A, 0, 1421);
    assert_eq!(tunnel.seal(net.now, &bytes, &[], 1420, &mut out), Err(DropReason::TooBig));
    let bytes = packet(A, 0, 1000);
    for room in [0, 31, 32, 148, 1000, 1039] {
        let result = tunnel.seal(net.now, &bytes, &[], 1420, &mut out[..room]);
        assert_eq!(result, Err(DropReason::TooBig), "{room}");
    }
}

#[test]
fn a_delayed_packet_of_the_session_before_does_not_bring_that_back() {
    let mut net = Net::connected();
    let late = net.seal(B, &packet(B, 7, 100));
    net.run_secs(130);
    net.send(A, &packet(A, 1, 100));
    net.run_secs(1);
    let index = crate::index::word(&net.seal(A, &packet(A, 2, 100)), 4);
    net.inject(A, address(B), &late).unwrap();
    assert_eq!(crate::index::word(&net.seal(A, &packet(A, 3, 100)), 4), index);
    net.run_secs(60);
    assert_eq!(net.sent(A, INITIATION), 1);
}

#[test]
fn a_peer_that_lost_its_sessions_is_heard_at_once() {
    let mut net = Net::connected();
    for round in 0..30 {
        let mut fresh = Net::new();
        std::mem::swap(&mut fresh.sides[A], &mut net.sides[A]);
        net.send(A, &packet(A, round, 100));
        net.run_secs(1);
        assert_eq!(net.sides[B].received.pop(), Some(packet(A, round, 100)));
        net.send(B, &packet(B, round, 100));
        net.run_secs(1);
        assert_eq!(net.sides[A].received.len(), 1, "{round}");
        assert!(net.sides[B].drops.is_empty());
    }
}

#[test]
fn responses_that_are_lost_cost_the_session_in_use_nothing() {
    let mut net = Net::connected();
    net.run_secs(121);
    net.fault =
        Box::new(|_, datagram| if datagram[0] == RESPONSE { Fault::Lose } else { Fault::None });
    for number in 0..50 {
        net.send(A, &packet(A, number, 100));
        net.send(B, &packet(B, number, 100));
        net.run_secs(1);
    }
    assert!(net.sent(B, RESPONSE) >= 9, "more than the engine keeps sessions");
    assert_eq!((net.sides[A].received.len(), net.sides[B].received.len()), (50, 50));
    net.fault = Box::new(|_, _| Fault::None);
    net.run_secs(6);
    net.clear();
    net.run_secs(60);
    net.send(B, &packet(B, 1, 100));
    net.run_secs(1);
    assert_eq!((net.sent(A, INITIATION), net.sides[A].received.len()), (0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the wire does, tunnels come back as soon as it is whole, packets arrive unchanged
    /// and once, and nothing is refused but what was sent twice or too late.
    #[test]
    fn a_bad_wire_neither_wedges_tunnels_nor_changes_packets(
        faults in proptest::collection::vec(0_u8..10, 1..200),
        gaps in proptest::collection::vec(1_u64..40_000, 1..60),
    ) {
        let mut net = Net::with(
            |side, config| config.endpoint = Some(address(1 - side)),
            Limits::WHITEPAPER,
        );
        let mut next = 0;
        net.fault = Box::new(move |_, _| {
            next += 1;
            match faults[next % faults.len()] {
                0 | 1 => Fault::Lose,
                2 => Fault::Duplicate,
                3 => Fault::Delay(50),
                4 => Fault::Delay(7_000),
                5 => Fault::Delay(200_000),
                _ => Fault::None,
            }
        });
        for (number, gap) in gaps.iter().enumerate() {
            net.send(number % 2, &packet(number % 2, number as u32, 100));
            net.run_for(Duration::from_millis(*gap));
        }
        for side in [A, B] {
            let mut numbers: Vec<_> =
                net.sides[side].received.iter().map(|packet| packet[4..8].to_vec()).collect();
            for packet in &net.sides[side].received {
                let number = u32::from_be_bytes(*packet[4..].first_chunk().unwrap());
                prop_assert_eq!(packet, &super::packet(1 - side, number, 100));
            }
            numbers.sort_unstable();
            let count = numbers.len();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), count, "a packet arrived twice");
            for reason in &net.sides[side].drops {
                prop_assert!(
                    matches!(
                        reason,
                        DropReason::TunnelReplay
                            | DropReason::TunnelExpired
                            | DropReason::TunnelNoSession
                    ),
                    "{:?}",
                    reason
                );
            }
        }
        net.fault = Box::new(|_, _| Fault::None);
        net.run_secs(400);
        net.clear();
        net.send(A, &packet(A, 1, 100));
        net.send(B, &packet(B, 1, 100));
        net.run_secs(12);
        prop_assert_eq!((net.sides[A].received.len(), net.sides[B].received.len()), (1, 1));
        prop_assert!(net.up(A) && net.up(B));
    }
}
