//! What two sessions make of each other.

use std::time::Duration;

use super::network::Network;
use super::rig::{full_restart, mirrored, restarting_config, seconds};
use crate::config::tests::peer_config;
use crate::config::{GracefulRestart, HoldTime, Opening};
use crate::session::*;

const MINUTE: Duration = Duration::from_secs(60);

fn quick() -> PeerConfig {
    PeerConfig { hold_time: HoldTime::new(9).unwrap(), ..peer_config() }
}

fn established(config: PeerConfig) -> Network {
    let mut network = Network::new(config, 7);
    network.start_both();
    network.settle(MINUTE);
    for peer in &mut network.ends {
        peer.told.clear();
    }
    network
}

fn ups(network: &Network) -> [u64; 2] {
    [0, 1].map(|end| network.ends[end].session.counters().established)
}

#[test]
fn two_that_start_together_agree_on_one_connection() {
    for delays in [[10, 10], [1, 200], [200, 1], [0, 0]] {
        let mut network = Network::new(peer_config(), 7);
        network.delays = delays.map(Duration::from_millis);
        network.start_both();
        network.settle(MINUTE);
        network.run(seconds(600));
        assert!(network.are_established(), "{delays:?}");
        assert_eq!([network.connections(0), network.connections(1)], [1, 1], "{delays:?}");
    }
}

#[test]
fn simultaneous_opens_end_at_once_and_without_a_flap() {
    let mut network = Network::new(peer_config(), 7);
    network.start_both();
    assert!(network.settle(MINUTE) <= Duration::from_millis(200));
    assert_eq!(ups(&network), [1, 1]);
    assert_eq!(network.last_words()[0], NotificationReason::ConnectionCollision);
}

#[test]
fn one_passive_end_is_enough_of_a_listener() {
    for passive in [0, 1] {
        let mut configs = [quick(), mirrored(&quick())];
        configs[passive].opening = Opening::Passive;
        let [ours, theirs] = configs;
        let mut network = Network::of(ours, theirs, 7);
        network.start_both();
        network.settle(seconds(1));
        assert!(network.last_words().is_empty());
    }
}

#[test]
fn who_comes_later_is_connected_to_when_the_other_tries_again() {
    let mut configs = [quick(), mirrored(&quick())];
    configs[1].opening = Opening::Passive;
    let [ours, theirs] = configs;
    let mut network = Network::of(ours, theirs, 7);
    network.start(0);
    network.run(seconds(5));
    assert_eq!(network.ends[0].session.state(), State::Active);
    network.start(1);
    assert!(network.settle(MINUTE) > seconds(10));
}

#[test]
fn a_quiet_session_stands_for_a_day_on_keepalives() {
    let mut network = established(quick());
    network.run(seconds(86_400));
    assert_eq!((network.are_established(), ups(&network)), (true, [1, 1]));
    assert!(network.ends.iter().all(|peer| peer.told.is_empty()));
}

#[test]
fn a_session_over_one_byte_segments_is_like_any_other() {
    let mut network = Network::new(quick(), 7);
    network.segment = 1;
    network.start_both();
    network.settle(MINUTE);
    network.fill(0);
    network.run(seconds(30));
    assert_eq!(network.ends[1].updates, WRITE_BUFFER / 23);
    assert!(network.are_established());
}

#[test]
fn a_lost_connection_is_back_in_seconds() {
    let mut network = established(quick());
    network.drop_connections();
    network.run(Duration::from_millis(1));
    assert!(!network.are_established());
    assert!(network.settle(MINUTE) < seconds(3));
}

#[test]
fn a_partition_ends_the_session_by_hold_time_and_its_end_brings_it_back() {
    let mut network = established(quick());
    network.is_cut = true;
    network.run(seconds(8));
    assert!(network.are_established());
    network.run(seconds(2));
    assert!(network.ends.iter().all(|peer| !peer.is_established()));
    assert_eq!(network.last_words(), [NotificationReason::HoldTimerExpired; 2]);
    network.run(seconds(300));
    network.is_cut = false;
    network.settle(seconds(300));
}

#[test]
fn a_short_partition_costs_nothing() {
    let mut network = established(quick());
    network.is_cut = true;
    network.run(seconds(5));
    network.is_cut = false;
    network.run(MINUTE);
    assert_eq!((network.are_established(), ups(&network)), (true, [1, 1]));
}

#[test]
fn a_peer_that_reboots_unseen_takes_over_and_its_routes_are_kept() {
    let config = restarting_config(true);
    let mut network = established(config);
    network.reboot(1);
    network.run(seconds(10));
    assert!(network.are_established());
    let expected = Down { reason: DownReason::PeerRestarted, keeps_routes: [true; 2] };
    let told = &network.ends[0].told;
    assert_eq!(told[0], SessionEvent::Down(expected));
    assert!(matches!(told[1..], [SessionEvent::Established(_)]));
}

#[test]
fn a_peer_that_reboots_without_graceful_restart_is_back_too() {
    let mut network = established(quick());
    network.reboot(1);
    network.settle(MINUTE);
    assert_eq!(ups(&network)[0], 2);
}

#[test]
fn a_helper_keeps_routes_of_a_peer_that_restarts_in_full() {
    let ours = PeerConfig {
        graceful_restart: GracefulRestart::Helper { notifications: true },
        ..peer_config()
    };
    let mut theirs = mirrored(&ours);
    theirs.graceful_restart = full_restart(true);
    let mut network = Network::of(ours, theirs, 7);
    network.start_both();
    network.settle(MINUTE);
    network.drop_connections();
    network.run(seconds(1));
    let keeps = |end: usize| {
        let told = network.ends[end].told.iter();
        told.filter_map(
            |event| if let SessionEvent::Down(down) = event { Some(down) } else { None },
        )
        .map(|down| down.keeps_routes)
        .next()
    };
    assert_eq!([keeps(0), keeps(1)], [Some([true; 2]), Some([false; 2])]);
}

#[test]
fn a_peer_that_stops_reading_fills_a_bounded_buffer_and_loses_the_session() {
    let mut network = established(quick());
    network.ends[1].reads = false;
    for _ in 0..100 {
        network.fill(0);
        network.run(Duration::from_millis(50));
    }
    assert!(network.ends[0].session.write_room() < 23);
    // Who reads nothing hears nothing either, and says so.
    network.run(seconds(10));
    assert_eq!(network.last_words()[0], NotificationReason::HoldTimerExpired);
    network.ends[1].reads = true;
    network.settle(seconds(300));
}

#[test]
fn both_clocks_may_jump() {
    let mut network = established(quick());
    network.jump(seconds(3600));
    network.run(MINUTE);
    assert_eq!((network.are_established(), ups(&network)), (true, [1, 1]));
}

#[test]
fn a_dynamic_session_ends_with_its_connection() {
    let ours = PeerConfig { opening: Opening::Dynamic, ..quick() };
    let theirs = PeerConfig { opening: Opening::Active, ..mirrored(&ours) };
    let mut network = Network::of(ours, theirs, 7);
    network.start_both();
    network.settle(MINUTE);
    network.drop_connections();
    network.run(MINUTE);
    assert_eq!(network.ends[0].told.last(), Some(&SessionEvent::Ended));
    assert_eq!(network.ends[0].session.poll_timeout(), None);
    network.start(0);
    network.settle(seconds(300));
}

#[test]
fn as_numbers_of_four_octets_and_roles_and_extended_messages_are_agreed_on() {
    let mut ours = peer_config();
    ours.local_asn = nvgate_model::Asn(4_200_000_000);
    ours.extended_messages = true;
    ours.role = Some(crate::Role::Provider);
    let mut theirs = mirrored(&ours);
    theirs.role = Some(crate::Role::Customer);
    theirs.role_strict = true;
    let mut network = Network::of(ours, theirs, 7);
    network.start_both();
    network.settle(MINUTE);
    let agreed = network.ends[1].session.negotiated().unwrap();
    assert_eq!(agreed.remote_asn, nvgate_model::Asn(4_200_000_000));
    assert_eq!(agreed.remote_role, Some(crate::Role::Provider));
    assert_eq!(agreed.codec.max_message, wire::MessageLimit::Extended);
    assert_eq!(agreed.codec.asn_width, crate::AsnWidth::Four);
}
