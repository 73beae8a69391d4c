use std::net::Ipv4Addr;

use nvgate_model::Asn;

use super::*;
use crate::config::tests::peer_config;
use crate::config::{
    AddPathSend, AsnRange, GracefulRestart, HoldTime, LocalAs, MaxPrefixes, Md5Key, Opening,
    PolicyReference, PrivateAsns, Reach, ShutdownText,
};
use crate::family::Family;
use crate::role::Role;

type Change = fn(&mut PeerConfig);

/// What a change of the plain peer costs, and what the change back.
fn cost(change: impl FnOnce(&mut PeerConfig)) -> (Impact, Impact) {
    let old = peer_config();
    let mut new = old.clone();
    change(&mut new);
    assert_ne!(old, new);
    (of(&old, &new), of(&new, &old))
}

fn family(config: &mut PeerConfig, family: Family) -> &mut FamilyConfig {
    config.families[family.index()].as_mut().unwrap()
}

#[test]
fn no_change_costs_nothing() {
    assert_eq!(of(&peer_config(), &peer_config()), Impact::default());
}

#[test]
fn what_is_said_in_an_open_or_names_the_connection_costs_the_session() {
    let changes: [Change; 15] = [
        |config| config.local_address = Some("192.0.2.1".parse().unwrap()),
        |config| config.remote_address = "192.0.2.3".parse().unwrap(),
        |config| config.local_asn = Asn(64_499),
        |config| config.remote_asns = AsnRange::single(Asn(64_499)),
        |config| config.router_id = Ipv4Addr::new(192, 0, 2, 9),
        |config| config.hold_time = HoldTime::NONE,
        |config| config.families[1] = None,
        |config| family(config, Family::Ipv4Unicast).add_path_receive = true,
        |config| config.ipv6_next_hop = true,
        |config| config.extended_messages = true,
        |config| config.role = Some(Role::Peer),
        |config| config.graceful_restart = GracefulRestart::Helper { notifications: true },
        |config| config.families[0] = None,
        |config| family(config, Family::Ipv6Unicast).add_path_receive = true,
        |config| config.graceful_restart = GracefulRestart::Helper { notifications: false },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_eq!(cost(change), (Impact::RESET, Impact::RESET), "change {index}");
    }
}

#[test]
fn what_changes_routes_only_costs_a_sweep_of_them() {
    let policy = || Some(PolicyReference { name: "customer".into(), digest: 7 });
    let both = Impact::IMPORT.and(Impact::EXPORT);
    let changes: [(Change, Impact); 6] = [
        (|config| config.own_as_allowed = 1, Impact::IMPORT),
        (|config| config.as_override = true, Impact::EXPORT),
        (|config| config.private_asns = PrivateAsns::Remove, Impact::EXPORT),
        (|config| config.next_hop_self = true, Impact::EXPORT),
        (|config| config.reflector_client = true, Impact::EXPORT),
        (|config| config.cluster_id = Ipv4Addr::new(192, 0, 2, 9), both),
    ];
    for (index, (change, expected)) in changes.into_iter().enumerate() {
        assert_eq!(cost(change), (expected, expected), "change {index}");
    }
    assert_eq!(cost(|config| config.import = policy()).0, Impact::IMPORT);
    assert_eq!(cost(|config| config.export = policy()).0, Impact::EXPORT);
}

#[test]
fn a_policy_that_says_something_else_under_its_old_name_is_a_change() {
    let with = |digest| {
        let import = Some(PolicyReference { name: "customer".into(), digest });
        PeerConfig { import, ..peer_config() }
    };
    assert_eq!(of(&with(7), &with(8)), Impact::IMPORT);
    assert_eq!(of(&with(7), &with(7)), Impact::default());
}

#[test]
fn what_the_endpoint_does_costs_nobody_else_anything() {
    let changes: [Change; 3] = [
        |config| config.reach = Reach::Security(1),
        |config| config.md5_key = Some(Md5Key::new(b"key").unwrap()),
        |config| config.bfd = true,
    ];
    for change in changes {
        assert_eq!(cost(change), (Impact::ENDPOINT, Impact::ENDPOINT));
    }
}

#[test]
fn what_concerns_the_next_connection_only_costs_nothing() {
    let bound = MaxPrefixes { prefixes: 10, warning_percent: 80, restart_secs: None };
    let free: [Change; 4] = [
        |config| config.description = "uplink".into(),
        |config| config.remote_port = 1179,
        |config| config.opening = Opening::Passive,
        |config| config.connect_retry_secs = 5,
    ];
    for change in free {
        assert_eq!(cost(change), (Impact::default(), Impact::default()));
    }
    let bounded = |config: &mut PeerConfig| {
        family(config, Family::Ipv4Unicast).max_prefixes = Some(bound);
    };
    assert_eq!(cost(bounded), (Impact::default(), Impact::default()));
}

#[test]
fn a_shutdown_costs_the_session_and_its_end_nothing() {
    let text = ShutdownText::new("maintenance").unwrap();
    let (down, up) = cost(|config| config.shutdown = Some(text));
    let reason = NotificationReason::AdministrativeShutdown;
    assert_eq!((down.reset, up), (Some(reason), Impact::default()));
    let mut both = peer_config();
    both.shutdown = Some(ShutdownText::default());
    let mut told = both.clone();
    told.shutdown = Some(ShutdownText::new("longer").unwrap());
    assert_eq!(of(&both, &told), Impact::default());
}

#[test]
fn another_shutdown_reason_wins_over_a_changed_field() {
    let (impact, _) = cost(|config| {
        config.shutdown = Some(ShutdownText::default());
        config.hold_time = HoldTime::NONE;
    });
    assert_eq!(impact.reset, Some(NotificationReason::AdministrativeShutdown));
}

#[test]
fn the_as_that_a_peer_is_shown_costs_the_session_and_what_it_does_to_paths_sweeps() {
    let local = LocalAs { asn: Asn(64_500), no_prepend: false, replace_as: false };
    let (impact, _) = cost(|config| config.local_as = Some(local));
    assert_eq!(impact.reset, Impact::RESET.reset);
    let old = PeerConfig { local_as: Some(local), ..peer_config() };
    let new = PeerConfig { local_as: Some(LocalAs { no_prepend: true, ..local }), ..peer_config() };
    assert_eq!(of(&old, &new), Impact::IMPORT.and(Impact::EXPORT));
}

#[test]
fn how_many_paths_are_sent_is_ours_and_whether_there_are_several_is_agreed() {
    let sends = |send| {
        let mut config = peer_config();
        family(&mut config, Family::Ipv4Unicast).add_path_send = send;
        config
    };
    let (off, best, all) =
        (sends(AddPathSend::Off), sends(AddPathSend::Best(2)), sends(AddPathSend::All));
    assert_eq!(of(&best, &all), Impact::EXPORT);
    assert_eq!(of(&off, &all), Impact::RESET.and(Impact::EXPORT));
}

#[test]
fn strictness_costs_the_session_when_it_begins() {
    assert_eq!(cost(|config| config.role_strict = true), (Impact::RESET, Impact::default()));
}

#[test]
fn routes_that_were_not_kept_are_asked_for_again() {
    assert_eq!(cost(|config| config.accept_as_set = true), (Impact::REFRESH, Impact::REFRESH));
}
