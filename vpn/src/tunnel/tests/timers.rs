//! The timers of the whitepaper's section 6, in virtual time.

use super::*;

#[test]
fn an_initiator_that_sends_replaces_its_session_after_120_s_without_losing_a_packet() {
    for both_ways in [false, true] {
        let mut net = Net::connected();
        let mut count = 0;
        // Every 10 ms, so that many packets are on the way while sessions change.
        while count < 59_000 {
            count += 1;
            net.send(A, &packet(A, count, 100));
            if both_ways {
                net.send(B, &packet(B, count, 100));
            }
            net.run_for(Duration::from_millis(10));
        }
        net.run_secs(1);
        assert_eq!(net.sides[B].received.len(), count as usize);
        assert_eq!(net.sides[A].received.len(), if both_ways { count as usize } else { 0 });
        assert_eq!((net.sides[A].drops.len(), net.sides[B].drops.len()), (0, 0));
        assert_eq!((net.sent(A, INITIATION), net.sent(B, INITIATION)), (4, 0), "in 590 s");
    }
}

#[test]
fn an_initiator_that_only_receives_replaces_its_session_before_it_ends() {
    let mut net = Net::connected();
    for number in 0..400 {
        net.send(B, &packet(B, number, 100));
        net.run_secs(1);
    }
    assert_eq!(net.sides[A].received.len(), 400);
    assert_eq!(net.sent(B, INITIATION), 0);
    // Its keepalives count as sending, so it is at 120 s and not at 165 s.
    assert_eq!(net.sent(A, INITIATION), 3);
}

#[test]
fn an_initiator_that_may_not_send_replaces_its_session_165_s_after_it_was_made() {
    let mut net = Net::connected();
    let late = |net: &mut Net, secs| {
        net.run_secs(secs);
        net.clear();
        let datagram = net.seal(B, &packet(B, 1, 100));
        net.inject(A, address(B), &datagram).unwrap();
        net.sent(A, INITIATION)
    };
    assert_eq!(late(&mut net, 163), 0);
    assert_eq!(late(&mut net, 2), 1);
}

#[test]
fn a_session_of_180_s_neither_sends_nor_receives() {
    let mut net = Net::connected();
    net.run_for(Duration::from_millis(178_900));
    net.fault = Box::new(|_, _| Fault::Lose);
    let [in_time, late] = [1, 2].map(|number| net.seal(B, &packet(B, number, 100)));
    assert!(net.inject(A, address(B), &in_time).is_ok());
    assert!(net.up(A) && net.up(B));
    net.run_for(Duration::from_millis(200));
    assert_eq!(net.inject(A, address(B), &late), Err(DropReason::TunnelExpired));
    assert_eq!(net.sides[A].tunnel.status(net.now).state, TunnelState::Down(DownReason::Expired));
    net.clear();
    net.send(A, &packet(A, 3, 100));
    let status = net.sides[A].tunnel.status(net.now);
    assert_eq!((net.sent(A, DATA), status.queued, status.handshaking), (0, 1, true));
}

#[test]
fn an_initiation_is_repeated_every_5_s_and_given_up_after_90_s_with_what_waited() {
    let mut net = Net::new();
    net.fault = Box::new(|_, _| Fault::Lose);
    let start = net.now;
    for number in 0..3 {
        net.send(A, &packet(A, number, 100));
    }
    net.run_secs(200);
    let at: Vec<_> = net.sides[A].sent.iter().map(|(at, _)| at.since(start)).collect();
    assert_eq!(at.len(), 18);
    for (first, second) in at.iter().zip(&at[1..]) {
        let millis = (*second - *first).as_millis();
        assert!((5000..=5333).contains(&millis), "{millis}");
    }
    let (given_up, events) = (net.sides[A].events[0].0, &net.sides[A].events);
    assert!((90..=96).contains(&given_up.since(start).as_secs()));
    assert_eq!(
        events.iter().map(|(_, event)| *event).collect::<Vec<_>>(),
        [
            TunnelEvent::Down(DownReason::NoResponse),
            TunnelEvent::Discarded { packets: 3, reason: DropReason::TunnelDown },
        ]
    );
    let status = net.sides[A].tunnel.status(net.now);
    assert_eq!((status.counters.handshakes_failed, status.queued), (1, 0));
    assert!(!status.handshaking);

    net.clear();
    net.fault = Box::new(|_, _| Fault::None);
    net.send(A, &packet(A, 4, 100));
    net.run_secs(1);
    assert_eq!(net.sides[B].received, [packet(A, 4, 100)]);
    assert_eq!(net.sides[A].events.last().unwrap().1, TunnelEvent::Up);
}

#[test]
fn who_received_and_has_nothing_to_say_sends_an_empty_packet_after_10_s() {
    let mut net = Net::connected();
    net.run_secs(30);
    net.clear();
    net.send(A, &packet(A, 1, 100));
    net.run_for(Duration::from_millis(9_900));
    assert_eq!(net.sides[B].sent, []);
    net.run_for(Duration::from_millis(200));
    assert_eq!(net.last(B, DATA).len(), 32);
    net.run_secs(60);
    assert_eq!((net.sides[A].sent.len(), net.sides[B].sent.len()), (1, 1), "and no echo of it");
}

#[test]
fn who_sent_data_and_hears_nothing_begins_a_handshake_after_15_s() {
    let mut net = Net::connected();
    net.run_secs(30);
    net.clear();
    net.fault = Box::new(|_, _| Fault::Lose);
    net.send(B, &packet(B, 1, 100));
    net.run_for(Duration::from_millis(14_900));
    assert_eq!(net.sent(B, INITIATION), 0);
    net.run_for(Duration::from_millis(500));
    assert_eq!(net.sent(B, INITIATION), 1, "although it was the responder");
}

#[test]
fn a_persistent_keepalive_begins_by_itself_and_keeps_the_tunnel_up() {
    let mut net = Net::with(
        |side, config| {
            config.persistent_keepalive_secs = if side == A { keepalive(25) } else { None };
        },
        Limits::WHITEPAPER,
    );
    net.run_secs(3600);
    assert!(net.up(A) && net.up(B));
    let events = |side: usize| net.sides[side].events.iter().map(|it| it.1).collect::<Vec<_>>();
    assert_eq!(events(A), [TunnelEvent::Up]);
    assert_eq!(events(B).last(), Some(&TunnelEvent::Up));
    net.clear();
    net.run_secs(100);
    let gaps: Vec<_> = net.sides[A].sent.iter().map(|(at, _)| *at).collect();
    assert!((3..=8).contains(&gaps.len()), "{gaps:?}");
}

#[test]
fn keys_are_overwritten_after_540_s_and_old_initiations_stay_refused() {
    let mut old = Net::new();
    old.send(A, &packet(A, 1, 100));
    let initiation = old.last(A, INITIATION);
    old.run_secs(1);
    let data = old.last(A, DATA);
    old.run_secs(600);
    assert_eq!(old.sides[B].tunnel.poll_timeout(), None);
    assert_eq!(old.inject(B, address(A), &data), Err(DropReason::TunnelNoSession));
    assert_eq!(old.inject(B, address(A), &initiation), Err(DropReason::TunnelReplay));
    old.clear();
    old.send(A, &packet(A, 2, 100));
    old.run_secs(1);
    assert_eq!(old.sides[B].received.len(), 1);
}

#[test]
fn a_session_is_replaced_and_refused_by_its_number_of_messages() {
    let limits = Limits { rekey_after_messages: 50, reject_after_messages: 60 };
    let mut net = Net::with(|_, _| {}, limits);
    for number in 0..500 {
        net.send(A, &packet(A, number, 100));
        net.run_for(Duration::from_millis(300));
    }
    assert_eq!(net.sides[B].received.len(), 500);
    assert!(net.sent(A, INITIATION) >= 8);

    net.fault =
        Box::new(|_, datagram| if datagram[0] == INITIATION { Fault::Lose } else { Fault::None });
    net.clear();
    for number in 0..70 {
        net.send(A, &packet(A, number, 100));
    }
    net.run_secs(1);
    let counters: Vec<u64> = net.sides[A]
        .sent
        .iter()
        .filter(|(_, datagram)| datagram[0] == DATA)
        .map(|(_, datagram)| crate::index::counter(datagram).unwrap())
        .collect();
    assert_eq!(counters.last(), Some(&59));
    assert_eq!(net.sides[A].tunnel.status(net.now).queued, 16);
    assert!(net.sides[B].drops.is_empty());
}

#[test]
fn a_counter_beyond_the_limit_is_refused_whoever_sends_it() {
    let mut generous =
        Net::with(|_, _| {}, Limits { rekey_after_messages: 1000, reject_after_messages: 1000 });
    generous.send(A, &packet(A, 0, 100));
    generous.run_secs(1);
    let mut forged = generous.seal(A, &packet(A, 1, 100));
    forged[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(generous.inject(B, address(A), &forged), Err(DropReason::TunnelExpired));
}
