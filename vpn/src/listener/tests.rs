//! What the door lets through, and what it may cost.

use nvgate_model::Prefix;
use proptest::prelude::*;

use super::*;
use crate::{
    AllowedPrefixes, KindConfig, Received, Tunnel, TunnelConfig, TunnelStatus, WireGuardConfig,
};

const START: Instant = Instant(5_000_000_000);

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn address(last: u8) -> SocketAddr {
    ([198, 51, 100, last], 51820).into()
}

fn number(tunnel: u32) -> TunnelIndex {
    TunnelIndex::new(tunnel).unwrap()
}

/// A gateway with the key 1, and before that 2, whose peers 11, 12 have tunnels 11, 12.
fn listener() -> Listener {
    let own = OwnKeys { current: key(1), previous: Some(key(2)) };
    let peers = [11, 12].map(|peer| (key(peer).public(), number(peer.into())));
    Listener::new(&own, peers.into(), ListenerLimits::default(), START, 3)
}

/// A site with the key `own` whose gateway has the key `gateway`, and its first initiation.
fn site(own: u8, gateway: u8) -> (Tunnel, Vec<u8>) {
    let allowed = AllowedPrefixes::new(&[Prefix::DEFAULT_V4]);
    let own = OwnKeys { current: key(own), previous: None };
    let kind = KindConfig::WireGuard(WireGuardConfig {
        own,
        peer: key(gateway).public(),
        preshared: None,
        endpoint: Some(address(1)),
        persistent_keepalive_secs: std::num::NonZeroU16::new(25),
    });
    let mut tunnel = Tunnel::new(number(500), TunnelConfig { allowed, kind }, START, 1);
    let initiation = transmit(&mut tunnel, START);
    (tunnel, initiation)
}

fn transmit(tunnel: &mut Tunnel, now: Instant) -> Vec<u8> {
    let mut out = [0; 200];
    tunnel.handle_timeout(now);
    let (length, _) = tunnel.poll_transmit(now, &mut out).unwrap();
    out[..length].to_vec()
}

fn identify(
    listener: &mut Listener,
    now: Instant,
    from: SocketAddr,
    datagram: &[u8],
) -> (Result<Identified, DropReason>, [u8; 64]) {
    let mut out = [0; 64];
    (listener.identify(now, from, datagram, &mut out), out)
}

/// Uses up what is let through without a cookie.
fn load(listener: &mut Listener, now: Instant) {
    let (_, initiation) = site(11, 1);
    for _ in 0..100 {
        identify(listener, now, address(66), &initiation).0.unwrap();
    }
}

#[test]
fn an_initiation_is_its_peers_whichever_own_key_it_was_made_for() {
    let mut listener = listener();
    for (own, gateway, expected) in [
        (11, 1, Ok(Identified::Tunnel(number(11)))),
        (12, 2, Ok(Identified::Tunnel(number(12)))),
        (13, 1, Err(DropReason::TunnelUnknownPeer)),
        (11, 3, Err(DropReason::TunnelMac)),
    ] {
        let (_, initiation) = site(own, gateway);
        assert_eq!(identify(&mut listener, START, address(7), &initiation).0, expected);
    }
    let current = OwnKeys { current: key(1), previous: None };
    listener.reconfigure(&current, [(key(13).public(), number(9))].into());
    for (own, gateway, expected) in [
        (11, 1, Err(DropReason::TunnelUnknownPeer)),
        (13, 1, Ok(Identified::Tunnel(number(9)))),
        (13, 2, Err(DropReason::TunnelMac)),
    ] {
        let (_, initiation) = site(own, gateway);
        assert_eq!(identify(&mut listener, START, address(7), &initiation).0, expected);
    }
}

#[test]
fn a_handshake_message_that_is_damaged_anywhere_before_the_second_mac_is_refused() {
    let (mut listener, (_, initiation)) = (listener(), site(11, 1));
    for place in 0..132 {
        let mut damaged = initiation.clone();
        damaged[place] ^= 0x80;
        let refused = identify(&mut listener, START, address(7), &damaged).0.unwrap_err();
        let expected = if place < 4 { DropReason::TunnelMalformed } else { DropReason::TunnelMac };
        assert_eq!(refused, expected, "{place}");
    }
    let mut out = [0; 63];
    let refused = listener.identify(START, address(7), &initiation, &mut out);
    assert_eq!(refused, Err(DropReason::TooBig));
}

#[test]
fn under_load_only_who_returns_the_cookie_of_its_address_gets_through() {
    let mut listener = listener();
    load(&mut listener, START);
    let (mut site, initiation) = site(12, 1);
    let (owed, cookie) = identify(&mut listener, START, address(7), &initiation);
    assert_eq!(owed, Ok(Identified::Reply(64)));

    let mut out = [0; 200];
    let received = site.handle_datagram(START, address(99), &cookie, &mut out);
    assert_eq!(received, Ok(Received::Nothing));
    assert_eq!(site.endpoint(), Some(address(1)), "a cookie reply moves no endpoint");

    let later = site.poll_timeout().unwrap();
    load(&mut listener, later);
    let proven = transmit(&mut site, later);
    let (elsewhere, _) = identify(&mut listener, later, address(8), &proven);
    assert_eq!(elsewhere, Ok(Identified::Reply(64)));
    let (own, _) = identify(&mut listener, later, address(7), &proven);
    assert_eq!(own, Ok(Identified::Tunnel(number(12))));
}

#[test]
fn a_cookie_reply_that_is_damaged_or_for_another_message_changes_nothing() {
    let mut listener = listener();
    load(&mut listener, START);
    let (mut site_a, initiation) = site(11, 1);
    let (mut site_b, _) = site(12, 1);
    let (_, cookie) = identify(&mut listener, START, address(7), &initiation);
    let mut out = [0; 200];
    assert!(site_b.handle_datagram(START, address(1), &cookie, &mut out).is_err());
    for place in 0..64 {
        let mut damaged = cookie;
        damaged[place] ^= 1;
        assert!(site_a.handle_datagram(START, address(99), &damaged, &mut out).is_err());
    }
    let TunnelStatus { endpoint, counters, .. } = site_a.status(START);
    assert_eq!((endpoint, counters.handshakes_completed), (Some(address(1)), 0));
    assert!(site_a.handle_datagram(START, address(1), &cookie, &mut out).is_ok());
}

#[test]
fn load_ends_two_seconds_after_the_last_handshake_too_many() {
    let mut listener = listener();
    load(&mut listener, START);
    let (_, initiation) = site(12, 1);
    let mut at = |millis| {
        let now = START + Duration::from_millis(millis);
        identify(&mut listener, now, address(7), &initiation).0
    };
    assert_eq!(at(0), Ok(Identified::Reply(64)));
    assert_eq!(at(1_999), Ok(Identified::Reply(64)));
    assert_eq!(at(2_000), Ok(Identified::Tunnel(number(12))));
}

#[test]
fn a_source_that_returns_cookies_has_20_handshakes_a_second_and_the_others_theirs() {
    let mut listener = listener();
    let (mut site, initiation) = site(12, 1);
    load(&mut listener, START);
    let (_, cookie) = identify(&mut listener, START, address(7), &initiation);
    site.handle_datagram(START, address(1), &cookie, &mut [0; 200]).unwrap();
    let later = site.poll_timeout().unwrap();
    load(&mut listener, later);
    let proven = transmit(&mut site, later);
    let results: Vec<_> = (0..1_000)
        .map(|step| {
            let now = later + Duration::from_millis(step);
            identify(&mut listener, now, address(7), &proven).0
        })
        .collect();
    let through = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(through, 5 + 19);
    assert!(results.iter().flatten().all(|it| *it == Identified::Tunnel(number(12))));
    let refused = results.iter().filter_map(|result| result.err());
    assert!(refused.into_iter().all(|reason| reason == DropReason::TunnelHandshakeBudget));
    assert!(listener.source(address(8).ip()).take_one(later));
}

#[test]
fn a_flood_costs_a_bounded_number_of_handshakes() {
    let own = OwnKeys { current: key(1), previous: None };
    let limits = ListenerLimits { calm_per_second: 1_000_000, most_per_second: 50 };
    let peers = [(key(11).public(), number(11))].into();
    let mut listener = Listener::new(&own, peers, limits, START, 3);
    let (_, initiation) = site(11, 1);
    let (mut through, mut refused) = (0, 0);
    for step in 0..4_000 {
        let now = START + Duration::from_millis(step);
        match identify(&mut listener, now, address(step as u8), &initiation).0 {
            Ok(identified) => {
                assert_eq!(identified, Identified::Tunnel(number(11)));
                through += 1;
            }
            Err(reason) => {
                assert_eq!(reason, DropReason::TunnelHandshakeBudget);
                refused += 1;
            }
        }
    }
    assert_eq!((through, refused), (50 + 199, 4_000 - 249));
}

#[test]
fn what_names_its_receiver_is_that_tunnels_without_a_check() {
    let mut listener = listener();
    let mut data = [0; 32];
    data[0] = 4;
    data[4..8].copy_from_slice(&(77_u32 << 10 | 5).to_le_bytes());
    let (identified, _) = identify(&mut listener, START, address(7), &data);
    assert_eq!(identified, Ok(Identified::Tunnel(number(77))));
}

#[test]
fn sources_of_one_ipv6_network_share_a_bucket() {
    let mut listener = listener();
    let first = "2001:db8:1:2::1".parse().unwrap();
    let second = "2001:db8:1:2:ffff::9".parse().unwrap();
    while listener.source(first).take_one(START) {}
    assert!(!listener.source(second).take_one(START));
    assert!(listener.source("2001:db8:1:3::1".parse().unwrap()).take_one(START));
}

proptest! {
    #[test]
    fn any_bytes_return_and_get_no_further_than_their_index(
        kind in 0_u8..6,
        length in prop_oneof![Just(148_usize), Just(92), Just(64), 0_usize..300],
        body: [u8; 300],
        is_loaded: bool,
    ) {
        let mut listener = listener();
        if is_loaded {
            load(&mut listener, START);
        }
        let mut datagram = body[..length].to_vec();
        for (place, byte) in datagram.iter_mut().zip([kind, 0, 0, 0]) {
            *place = byte;
        }
        let (identified, _) = identify(&mut listener, START, address(7), &datagram);
        if let Ok(identified) = identified {
            prop_assert!(kind == 3 || kind == 4);
            prop_assert!(matches!(identified, Identified::Tunnel(_)));
        }
    }
}
