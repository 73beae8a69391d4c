//! Changes of keys and configuration, and that secrets stay secret.

use super::*;

fn reconfigure(net: &mut Net, side: usize, change: impl FnOnce(&mut WireGuardConfig)) {
    let mut wireguard = wireguard(side);
    change(&mut wireguard);
    let now = net.now;
    net.sides[side].tunnel.reconfigure(config(side, wireguard), now);
    net.drain(side);
}

/// Whether a packet passes each way within 12 seconds.
fn passes(net: &mut Net) -> (bool, bool) {
    net.clear();
    net.send(A, &packet(A, 1, 100));
    net.run_secs(12);
    net.send(B, &packet(B, 1, 100));
    net.run_secs(12);
    (net.sides[B].received.len() == 1, net.sides[A].received.len() == 1)
}

/// The gateway has a new key; the old one is still accepted.
fn rotated(config: &mut WireGuardConfig) {
    config.own = OwnKeys {
        current: own(9).current,
        previous: Some(std::mem::replace(&mut config.own.current, own(9).current)),
    };
}

#[test]
fn what_is_not_the_sessions_changes_without_losing_it() {
    let mut net = Net::connected();
    reconfigure(&mut net, A, |config| {
        config.persistent_keepalive_secs = keepalive(7);
        config.endpoint = Some(address(B));
    });
    net.run_secs(20);
    assert_eq!((net.sent(A, INITIATION), net.sent(A, DATA)), (0, 3));
    assert!(net.up(A) && net.sides[A].events.is_empty());
    let now = net.now;
    let mut narrow = config(A, wireguard(A));
    narrow.allowed = AllowedPrefixes::default();
    net.sides[A].tunnel.reconfigure(narrow, now);
    let sealed = net.sides[A].tunnel.seal(now, &packet(A, 1, 100), &[], 1420, &mut [0; 200]);
    assert_eq!(sealed, Err(DropReason::TunnelAllowed));
    let inbound = net.seal(B, &packet(B, 1, 100));
    assert_eq!(net.inject(A, address(B), &inbound), Err(DropReason::TunnelSource));
}

#[test]
fn a_peer_that_knows_only_the_previous_key_works_both_ways_until_that_is_dropped() {
    // The rotating side once as initiator, once as responder.
    for side in [A, B] {
        let mut net = Net::connected();
        reconfigure(&mut net, side, rotated);
        assert!(net.up(side), "the session stays");
        assert_eq!(passes(&mut net), (true, true));
        assert_eq!(net.sent(A, INITIATION) + net.sent(B, INITIATION), 0);
        // Past every session, so that handshakes are needed, begun by either side.
        for begin in [A, B] {
            net.run_secs(600);
            net.clear();
            net.send(begin, &packet(begin, 1, 100));
            net.run_secs(12);
            assert_eq!(net.sides[1 - begin].received.len(), 1, "{side} rotates, {begin} begins");
            let status = net.sides[side].tunnel.status(net.now);
            assert_eq!(status.own_key, Some(OwnKey::Previous));
        }
        reconfigure(&mut net, side, |config| config.own = own(9));
        assert!(!net.up(side));
        assert_eq!(passes(&mut net), (false, false));
    }
}

#[test]
fn a_peer_that_learns_the_new_key_uses_it_from_then_on() {
    for side in [A, B] {
        let mut net = Net::connected();
        reconfigure(&mut net, side, rotated);
        reconfigure(&mut net, 1 - side, |config| {
            config.peer = own(9).current.public();
            config.endpoint = Some(address(side));
        });
        net.run_secs(1);
        assert_eq!(passes(&mut net), (true, true));
        assert_eq!(net.sides[side].tunnel.status(net.now).own_key, Some(OwnKey::Current));
        reconfigure(&mut net, side, |config| config.own = own(9));
        assert!(net.up(side), "dropping the previous key costs nothing");
        assert_eq!(passes(&mut net), (true, true));
    }
}

#[test]
fn a_key_taken_back_is_the_current_one_with_its_session() {
    let mut net = Net::connected();
    reconfigure(&mut net, A, rotated);
    reconfigure(&mut net, A, |_| {});
    assert!(net.up(A));
    assert_eq!(passes(&mut net), (true, true));
    assert_eq!(net.sent(A, INITIATION), 0);
}

#[test]
fn different_preshared_keys_never_make_a_session() {
    for key in [None, Some(PresharedKey::from_bytes([7; 32]).unwrap())] {
        let mut net = Net::with(
            |side, config| {
                if side == B {
                    config.preshared = key.clone();
                }
            },
            Limits::WHITEPAPER,
        );
        net.send(A, &packet(A, 1, 100));
        net.run_secs(20);
        assert!(!net.up(A) && !net.up(B));
        assert!(net.sides[A].tunnel.status(net.now).counters.auth_failures >= 3);
        assert_eq!(net.sides[B].received.len(), 0);
    }
}

#[test]
fn a_new_preshared_key_begins_anew_and_keeps_replays_out() {
    let mut net = Net::new();
    net.send(A, &packet(A, 1, 100));
    net.run_secs(1);
    let initiation = net.last(A, INITIATION);
    let data = net.last(A, DATA);
    for side in [B, A] {
        reconfigure(&mut net, side, |config| {
            config.preshared = None;
            config.endpoint = Some(address(1 - side));
        });
    }
    assert_eq!(net.inject(B, address(A), &data), Err(DropReason::TunnelNoSession));
    assert_eq!(net.inject(B, address(A), &initiation), Err(DropReason::TunnelReplay));
    net.run_secs(7);
    assert!(net.up(A) && net.up(B), "begun by who was up, without waiting for a packet");
    assert_eq!(passes(&mut net), (true, true));
}

#[test]
fn another_peer_is_another_tunnel() {
    let mut net = Net::connected();
    let data = net.seal(B, &packet(B, 1, 100));
    reconfigure(&mut net, A, |config| config.peer = own(77).current.public());
    assert_eq!(net.inject(A, address(B), &data), Err(DropReason::TunnelNoSession));
    assert_eq!(passes(&mut net), (false, false));
}

#[test]
fn no_debug_output_shows_a_secret() {
    let mut net = Net::connected();
    let (private, secret) = (own(1).current, net::preshared());
    let mut shown = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        wireguard(A),
        config(A, wireguard(A)),
        net.sides[A].tunnel,
        net.sides[A].tunnel.status(net.now),
        crate::Listener::new(
            &own(1),
            std::iter::once((own(2).current.public(), net.sides[A].tunnel.index())).collect(),
            crate::ListenerLimits::default(),
            net.now,
            1,
        ),
    );
    net.send(A, &packet(A, 1, 100));
    net.run_secs(1);
    shown += &format!("{:?} {:?}", net.sides[A].events, net.sides[A].drops);
    shown = shown.to_lowercase();
    for (text, bytes) in [(private.to_base64(), own_bytes(1)), (secret.to_base64(), [0x5a; 32])] {
        assert!(!shown.contains(&text.to_lowercase()[..12]));
        let decimal = format!("{:?}", &bytes[4..8]);
        assert!(!shown.contains(decimal.trim_matches(['[', ']'])), "{decimal}");
        let hex: String = bytes[4..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!shown.contains(&hex));
    }
}

fn own_bytes(seed: u8) -> [u8; 32] {
    [seed; 32]
}
