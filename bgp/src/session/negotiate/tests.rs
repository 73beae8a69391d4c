use super::*;
use crate::config::tests::peer_config;
use crate::config::{AddPathSend, RestartTime};
use crate::family::AfiSafi;
use crate::wire::MessageLimit;

fn endpoints() -> Endpoints {
    Endpoints {
        local: "192.0.2.1:179".parse().unwrap(),
        remote: "192.0.2.2:50000".parse().unwrap(),
    }
}

/// The peer of the plain configuration, seen from its own side.
fn mirrored() -> PeerConfig {
    PeerConfig {
        local_asn: Asn(64_497),
        remote_asns: AsnRange::single(Asn(64_496)),
        router_id: Ipv4Addr::new(192, 0, 2, 2),
        ..peer_config()
    }
}

fn remote() -> Open {
    local_open(&mirrored(), Restarting::default())
}

fn agree(config: &PeerConfig, remote: &Open) -> Result<Negotiated, Notification> {
    let local = local_open(config, Restarting::default());
    negotiate(config, endpoints(), (&local, b"ours"), (remote, b"theirs"))
        .map_err(|reset| reset.notification)
}

fn without(mut open: Open, code: u8) -> Open {
    open.capabilities.retain(|capability| capability.code() != code);
    open
}

fn owed(reason: NotificationReason) -> Result<Negotiated, Notification> {
    Err(Notification::new(reason, &[]))
}

#[test]
fn two_plain_speakers_agree_on_all_that_both_have() {
    let expected = Negotiated {
        codec: Codec {
            asn_width: AsnWidth::Four,
            max_message: MessageLimit::Standard,
            add_path_in: [false; 2],
            add_path_out: [false; 2],
            families: [true; 2],
            ipv6_next_hop: false,
            neighbor: NeighborKind::External,
            accept_as_set: false,
        },
        remote_asn: Asn(64_497),
        remote_identifier: Ipv4Addr::new(192, 0, 2, 2),
        hold_time: HoldTime::new(90).unwrap(),
        route_refresh: true,
        enhanced_refresh: true,
        restart: None,
        remote_role: None,
        ignored_capabilities: 0,
        endpoints: endpoints(),
        local_open: b"ours"[..].into(),
        remote_open: b"theirs"[..].into(),
    };
    assert_eq!(agree(&peer_config(), &remote()), Ok(expected));
}

#[test]
fn an_open_announces_what_is_configured() {
    let mut config = peer_config();
    config.families[1] = None;
    config.local_asn = Asn(4_200_000_000);
    config.ipv6_next_hop = true;
    config.extended_messages = true;
    config.role = Some(Role::Customer);
    config.families[0].as_mut().unwrap().add_path_receive = true;
    config.graceful_restart =
        GracefulRestart::Full { restart_time: RestartTime::new(120).unwrap(), notifications: true };
    let ipv4 = AfiSafi { afi: 1, safi: 1 };
    let restarting = Restarting { waiting: true, forwarding_kept: [true, true] };
    let expected = Open {
        asn: Asn(4_200_000_000),
        hold_time_secs: 90,
        identifier: Ipv4Addr::new(192, 0, 2, 1),
        capabilities: vec![
            Capability::Multiprotocol(ipv4),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::FourOctetAsn(Asn(4_200_000_000)),
            Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_VIA_IPV6]),
            Capability::ExtendedMessage,
            Capability::Role(3),
            Capability::AddPath(vec![(ipv4, AddPathMode::Receive)]),
            Capability::GracefulRestart(wire::GracefulRestart {
                restarting: true,
                notifications: true,
                restart_time_secs: 120,
                families: vec![RestartFamily { afi_safi: ipv4, forwarding_kept: true }],
            }),
        ],
        ignored_capabilities: 0,
    };
    assert_eq!(local_open(&config, restarting), expected);
}

#[test]
fn an_as_that_is_not_configured_is_a_bad_peer_as() {
    let mut config = peer_config();
    let open = Open { asn: Asn(64_500), ..remote() };
    assert_eq!(agree(&config, &open), owed(NotificationReason::BadPeerAs));
    config.remote_asns = AsnRange::new(Asn(64_497), Asn(64_500)).unwrap();
    assert_eq!(agree(&config, &open).map(|agreed| agreed.remote_asn), Ok(Asn(64_500)));
}

#[test]
fn our_own_identifier_is_bad_within_our_as_and_borne_from_others() {
    let mut config = peer_config();
    let open = Open { identifier: config.router_id, ..remote() };
    assert!(agree(&config, &open).is_ok());
    config.remote_asns = AsnRange::single(config.local_asn);
    let open = Open { asn: config.local_asn, ..open };
    assert_eq!(agree(&config, &open), owed(NotificationReason::BadIdentifier));
    let open = Open { identifier: Ipv4Addr::new(192, 0, 2, 2), ..open };
    let kind = agree(&config, &open).map(|agreed| agreed.codec.neighbor);
    assert_eq!(kind, Ok(NeighborKind::Internal));
}

#[test]
fn the_lesser_hold_time_counts_and_zero_is_the_least() {
    for (theirs, expected) in [(180, 90), (90, 90), (3, 3), (0, 0)] {
        let open = Open { hold_time_secs: theirs, ..remote() };
        let agreed = agree(&peer_config(), &open).unwrap();
        assert_eq!(agreed.hold_time.seconds(), expected);
    }
    for seconds in [1, 2] {
        let open = Open { hold_time_secs: seconds, ..remote() };
        let expected = owed(NotificationReason::UnacceptableHoldTime);
        assert_eq!(agree(&peer_config(), &open), expected);
    }
}

#[test]
fn a_peer_without_capabilities_speaks_ipv4_with_two_octets() {
    let open = Open { capabilities: Vec::new(), ..remote() };
    let agreed = agree(&peer_config(), &open).unwrap();
    let initial = Codec::initial(NeighborKind::External);
    assert_eq!(agreed.codec, initial);
    assert!(!agreed.route_refresh && !agreed.enhanced_refresh);
}

#[test]
fn a_peer_without_a_common_family_is_told_what_it_lacks() {
    let mut config = peer_config();
    config.families[0] = None;
    let open = Open { capabilities: Vec::new(), ..remote() };
    let expected =
        Notification::new(NotificationReason::UnsupportedCapability, &[1, 4, 0, 2, 0, 1]);
    assert_eq!(agree(&config, &open), Err(expected));
}

#[test]
fn capabilities_that_only_one_end_has_are_not_used() {
    let mut config = peer_config();
    config.extended_messages = true;
    config.ipv6_next_hop = true;
    config.graceful_restart = GracefulRestart::Helper { notifications: true };
    let agreed = agree(&config, &remote()).unwrap();
    assert_eq!(agreed, agree(&peer_config(), &remote()).unwrap());
    let mut theirs = mirrored();
    theirs.extended_messages = true;
    theirs.ipv6_next_hop = true;
    let agreed = agree(&config, &local_open(&theirs, Restarting::default())).unwrap();
    assert_eq!(agreed.codec.max_message, MessageLimit::Extended);
    assert!(agreed.codec.ipv6_next_hop);
}

#[test]
fn several_paths_go_where_one_end_sends_and_the_other_receives() {
    for (ours_receive, ours_send, theirs_receive, theirs_send, inward, outward) in [
        (true, AddPathSend::Off, false, AddPathSend::All, true, false),
        (true, AddPathSend::All, true, AddPathSend::Best(2), true, true),
        (true, AddPathSend::Off, true, AddPathSend::Off, false, false),
        (false, AddPathSend::All, false, AddPathSend::All, false, false),
        (false, AddPathSend::Best(3), true, AddPathSend::Off, false, true),
    ] {
        let (mut config, mut theirs) = (peer_config(), mirrored());
        let family = config.families[1].as_mut().unwrap();
        (family.add_path_receive, family.add_path_send) = (ours_receive, ours_send);
        let family = theirs.families[1].as_mut().unwrap();
        (family.add_path_receive, family.add_path_send) = (theirs_receive, theirs_send);
        let agreed = agree(&config, &local_open(&theirs, Restarting::default())).unwrap();
        assert_eq!(agreed.codec.add_path_in, [false, inward]);
        assert_eq!(agreed.codec.add_path_out, [false, outward]);
    }
}

#[test]
fn roles_must_be_counterparts() {
    let told = |role: Option<u8>| {
        let mut open = remote();
        open.capabilities.extend(role.map(Capability::Role));
        open
    };
    let ours = |role, role_strict| PeerConfig { role, role_strict, ..peer_config() };
    let role =
        |config: &PeerConfig, open: &Open| agree(config, open).map(|agreed| agreed.remote_role);
    let mismatch = || Err(Notification::new(NotificationReason::RoleMismatch, &[]));
    let provider = ours(Some(Role::Provider), false);
    assert_eq!(role(&provider, &told(Some(3))), Ok(Some(Role::Customer)));
    assert_eq!(role(&provider, &told(None)), Ok(None));
    for number in [0, 1, 2, 4, 5, 255] {
        assert_eq!(role(&provider, &told(Some(number))), mismatch(), "{number}");
    }
    assert_eq!(role(&ours(Some(Role::Provider), true), &told(None)), mismatch());
    assert_eq!(role(&ours(None, false), &told(Some(4))), Ok(Some(Role::Peer)));
    let mut two = told(Some(3));
    two.capabilities.push(Capability::Role(4));
    assert_eq!(role(&provider, &two), mismatch());
}

#[test]
fn roles_are_not_for_our_own_as() {
    let asn = peer_config().local_asn;
    let remote_asns = AsnRange::single(asn);
    let config =
        PeerConfig { role: Some(Role::Provider), role_strict: true, remote_asns, ..peer_config() };
    let open = local_open(&config, Restarting::default());
    assert!(!open.capabilities.iter().any(|capability| matches!(capability, Capability::Role(_))));
    let mut theirs = Open { asn, ..without(remote(), 65) };
    theirs.capabilities.push(Capability::Role(0));
    assert_eq!(agree(&config, &theirs).map(|agreed| agreed.remote_role), Ok(None));
}

#[test]
fn what_is_kept_over_a_restart_is_the_peers_to_say() {
    let full = |notifications| GracefulRestart::Full {
        restart_time: RestartTime::new(120).unwrap(),
        notifications,
    };
    let config = PeerConfig {
        graceful_restart: GracefulRestart::Helper { notifications: true },
        ..peer_config()
    };
    let mut theirs = PeerConfig { graceful_restart: full(true), ..mirrored() };
    let restarting = Restarting { waiting: true, forwarding_kept: [true, false] };
    let agreed = agree(&config, &local_open(&theirs, restarting)).unwrap();
    let mut expected = PeerRestart {
        restarting: true,
        restart_time_secs: 120,
        notifications: true,
        forwarding_kept: [Some(true), Some(false)],
    };
    assert_eq!(agreed.restart, Some(expected));

    theirs.graceful_restart = full(false);
    theirs.families[1] = None;
    let agreed = agree(&config, &local_open(&theirs, restarting)).unwrap();
    expected.notifications = false;
    expected.forwarding_kept = [Some(true), None];
    assert_eq!(agreed.restart, Some(expected));

    let off = PeerConfig { graceful_restart: GracefulRestart::Off, ..config.clone() };
    assert_eq!(agree(&off, &local_open(&theirs, restarting)).unwrap().restart, None);
}

#[test]
fn unknown_capabilities_are_borne() {
    let mut open = remote();
    for code in [71, 73, 75, 128] {
        open.capabilities.push(Capability::Unknown { code, value: b"\x04host"[..].into() });
    }
    assert_eq!(agree(&peer_config(), &open), agree(&peer_config(), &remote()));
}
