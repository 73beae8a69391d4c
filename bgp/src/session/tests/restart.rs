//! Graceful restart: what keeps routes, what a peer that came back looks like, and collisions.

use std::time::Duration;

use super::rig::*;
use crate::config::tests::peer_config;
use crate::session::*;

use Connection::{First, Second};
use NotificationReason as Reason;

fn open(config: &PeerConfig) -> Vec<u8> {
    open_bytes(&peer_open(config))
}

#[test]
fn a_lost_connection_keeps_the_routes_of_families_that_the_peer_listed() {
    for (families, expected) in [([true, true], [true, true]), ([true, false], [true, false])] {
        let mut config = restarting_config(false);
        if !families[1] {
            config.families[1] = None;
        }
        let mut rig = Rig::established(config);
        rig.session.handle_closed(rig.now, First, Closed::TimedOut);
        assert_eq!(rig.events(), [down(DownReason::Closed(Closed::TimedOut), expected)]);
    }
    let mut rig = Rig::established(peer_config());
    rig.session.handle_closed(rig.now, First, Closed::TimedOut);
    assert_eq!(rig.events(), [down(DownReason::Closed(Closed::TimedOut), [false; 2])]);
}

#[test]
fn a_notification_keeps_routes_if_both_agreed_and_it_is_no_hard_reset() {
    let soft = owed(Reason::OtherConfigurationChange, &[]);
    let hard = owed(Reason::AdministrativeShutdown, &[]).hard_reset();
    for (agreed, told, keeps) in
        [(true, &soft, true), (true, &hard, false), (false, &soft, false), (false, &hard, false)]
    {
        let mut rig = Rig::established(restarting_config(agreed));
        rig.receive(First, &notification_bytes(told));
        assert_eq!(rig.events()[0], down(DownReason::Received(told.clone()), [keeps; 2]));
    }
}

#[test]
fn errors_of_ours_keep_routes_if_both_agreed() {
    for agreed in [true, false] {
        let mut rig = Rig::established(restarting_config(agreed));
        rig.receive(First, &message(9, &[]));
        let told = owed(Reason::BadMessageType, &[9]);
        assert_eq!(rig.events()[0], down(DownReason::Sent(told), [agreed; 2]));
    }
}

#[test]
fn reasons_to_give_up_routes_go_in_a_hard_reset_where_notifications_keep_them() {
    for (reason, is_hard) in [
        (Reason::AdministrativeShutdown, true),
        (Reason::AdministrativeReset, true),
        (Reason::PeerDeconfigured, true),
        (Reason::MaximumPrefixes, true),
        (Reason::OtherConfigurationChange, false),
        (Reason::OutOfResources, false),
    ] {
        for agreed in [true, false] {
            let mut rig = Rig::established(restarting_config(agreed));
            let plain = owed(reason, &[]);
            rig.session.stop(rig.now, &plain);
            let told = if is_hard && agreed { plain.hard_reset() } else { plain };
            assert_eq!(rig.sent(First), [Sent::Notification(told.clone())]);
            let keeps = [agreed && !is_hard; 2];
            assert_eq!(rig.events()[0], down(DownReason::Sent(told), keeps), "{reason}");
        }
    }
}

#[test]
fn bfd_down_keeps_no_routes() {
    let mut rig = Rig::established(restarting_config(true));
    rig.session.bfd_down(rig.now);
    let told = owed(Reason::BfdDown, &[]).hard_reset();
    assert_eq!(rig.events()[0], down(DownReason::Sent(told), [false; 2]));
}

#[test]
fn a_hard_reset_is_not_for_who_is_not_established() {
    let mut rig = Rig::at(State::OpenConfirm, restarting_config(true));
    let plain = owed(Reason::AdministrativeShutdown, &[]);
    rig.session.stop(rig.now, &plain);
    assert_eq!(rig.sent(First), [Sent::Notification(plain)]);
}

#[test]
fn a_peer_that_comes_back_unseen_takes_over_with_its_open() {
    let config = restarting_config(false);
    let mut rig = Rig::established(config.clone());
    rig.now = rig.now + seconds(5);
    let new = rig.incoming();
    assert_eq!((new, rig.session.state()), (Second, State::Established));
    assert_eq!(rig.sent(Second), [Sent::Open]);
    assert_eq!(rig.receive(First, &update()), ["update"], "until then the old one counts");
    assert!(rig.events().is_empty());
    rig.receive(Second, &open(&config));
    assert_eq!(
        rig.events(),
        [down(DownReason::PeerRestarted, [true; 2]), SessionEvent::Close(First, Closing::Finish)]
    );
    assert!(rig.sent(First).is_empty(), "no NOTIFICATION (RFC 4724 section 5)");
    assert_eq!(rig.session.state(), State::OpenConfirm);
    rig.receive(Second, &keepalive());
    assert_eq!(rig.session.state(), State::Established);
    assert_eq!(rig.session.counters().established, 2);
}

#[test]
fn a_connection_that_crossed_the_established_one_is_a_collision_and_no_restart() {
    let config = restarting_config(false);
    let mut rig = Rig::established(config.clone());
    rig.incoming();
    rig.sent(Second);
    rig.now = rig.now + Duration::from_millis(4999);
    rig.receive(Second, &open(&config));
    let told = owed(Reason::ConnectionCollision, &[]);
    assert_eq!(rig.sent(Second), [Sent::Notification(told)]);
    assert_eq!(rig.events(), [SessionEvent::Close(Second, Closing::Finish)]);
    assert_eq!(rig.session.state(), State::Established);
    assert_eq!(rig.receive(First, &update()), ["update"]);
    assert_eq!(rig.session.counters().established, 1);
}

#[test]
fn a_stranger_who_only_connects_takes_over_nothing() {
    let mut rig = Rig::established(restarting_config(false));
    rig.incoming();
    let third = rig.session.handle_incoming(rig.now, endpoints());
    assert_eq!(third, Err(Refused::Busy));
    rig.receive(Second, &keepalive());
    assert_eq!(rig.session.state(), State::Established);
    rig.incoming_after(Second);
    let mut open = peer_open(&restarting_config(false));
    open.identifier = std::net::Ipv4Addr::new(192, 0, 2, 2);
    open.asn = nvgate_model::Asn(64_511);
    open.capabilities.retain(|capability| capability.code() != 65);
    rig.receive(Second, &open_bytes(&open));
    assert_eq!(rig.session.state(), State::Established);
    assert!(!rig.events().iter().any(|event| matches!(event, SessionEvent::Down(_))));
}

#[test]
fn without_graceful_restart_the_established_connection_wins() {
    let config = peer_config();
    let mut rig = Rig::established(config.clone());
    rig.incoming();
    rig.sent(Second);
    rig.receive(Second, &open(&config));
    let told = owed(Reason::ConnectionCollision, &[]);
    assert_eq!(rig.sent(Second), [Sent::Notification(told)]);
    assert_eq!(rig.session.state(), State::Established);
    assert_eq!(rig.events(), [SessionEvent::Close(Second, Closing::Finish)]);
    assert_eq!(rig.incoming(), Second, "the name is free again");
}

#[test]
fn a_collision_that_began_before_is_no_restart() {
    let config = restarting_config(false);
    let mut rig = Rig::at(State::OpenConfirm, config.clone());
    rig.incoming();
    rig.receive(First, &keepalive());
    assert_eq!(rig.session.state(), State::Established);
    rig.events();
    rig.receive(Second, &open(&config));
    let closed = [SessionEvent::Close(Second, Closing::Finish)];
    rig.sent(Second);
    assert_eq!((rig.session.state(), rig.events()), (State::Established, closed.to_vec()));
}

/// Both connections are up; the OPEN comes first on the outgoing one or on the incoming one. Which
/// of them stays.
fn survivor(ours: u8, theirs: u8, outgoing_first: bool) -> Direction {
    let mut config = peer_config();
    config.router_id = std::net::Ipv4Addr::new(10, 0, 0, ours);
    let mut rig = Rig::new(config.clone());
    assert_eq!(rig.events(), [SessionEvent::Connect(First)]);
    assert_eq!(rig.incoming(), Second);
    rig.session.handle_connected(rig.now, First, endpoints());
    let mut open = peer_open(&config);
    open.identifier = std::net::Ipv4Addr::new(10, 0, 0, theirs);
    let order = if outgoing_first { [First, Second] } else { [Second, First] };
    for connection in order {
        rig.sent(connection);
        rig.receive(connection, &open_bytes(&open));
    }
    let told = Sent::Notification(owed(Reason::ConnectionCollision, &[]));
    let (first, second) = (rig.sent(First), rig.sent(Second));
    assert_eq!(rig.session.state(), State::OpenConfirm);
    assert_ne!(first.contains(&told), second.contains(&told));
    if second.contains(&told) { Direction::Outgoing } else { Direction::Incoming }
}

#[test]
fn of_two_connections_that_of_the_greater_identifier_stays_in_either_order() {
    for outgoing_first in [true, false] {
        assert_eq!(survivor(2, 1, outgoing_first), Direction::Outgoing);
        assert_eq!(survivor(1, 2, outgoing_first), Direction::Incoming);
        // Equal ones: the greater AS, which is the peer's (RFC 6286 section 2.3).
        assert_eq!(survivor(1, 1, outgoing_first), Direction::Incoming);
    }
}

#[test]
fn an_established_connection_ends_the_attempt_that_is_under_way() {
    let config = peer_config();
    let mut rig = Rig::new(config.clone());
    rig.events();
    rig.incoming();
    rig.receive(Second, &[open(&config), keepalive()].concat());
    let events = rig.events();
    assert!(matches!(events[0], SessionEvent::Established(_)));
    assert_eq!(events[1..], [SessionEvent::Close(First, Closing::Abort)]);
    assert!(!rig.session.core.timers.is_armed(Timer::ConnectRetry));
}

#[test]
fn of_two_connections_that_the_peer_opened_the_later_one_counts() {
    let config = peer_config();
    let mut rig = Rig::at(State::OpenConfirm, config.clone());
    rig.incoming();
    rig.sent(Second);
    rig.receive(Second, &open(&config));
    assert_eq!(rig.sent(First), [Sent::Notification(owed(Reason::ConnectionCollision, &[]))]);
    assert_eq!(rig.sent(Second), [Sent::Keepalive]);
}

#[test]
fn a_restarting_speaker_says_so_and_afterwards_that_it_forwards() {
    let mut rig = Rig::passive(restarting_config(true));
    let restart = |rig: &Rig, connection: Connection| {
        let bytes = rig.session.poll_transmit(connection);
        let frame = wire::frame(bytes, wire::MessageLimit::Standard).unwrap().unwrap();
        let codec = Codec::initial(crate::NeighborKind::External);
        let Ok(wire::Message::Open(open)) = wire::decode(frame, &codec) else { panic!() };
        let restart = open.graceful_restart().unwrap().clone();
        let kept: Vec<bool> =
            restart.families.iter().map(|family| family.forwarding_kept).collect();
        (restart.restarting, kept)
    };
    rig.incoming();
    assert_eq!(restart(&rig, First), (false, vec![false, false]), "a cold start");
    rig.session.set_restarting(Restarting { waiting: true, forwarding_kept: [true, false] });
    rig.incoming();
    assert_eq!(restart(&rig, Second), (true, vec![true, false]));
    rig.session.set_restarting(Restarting::default());
    rig.receive(Second, &[open(&restarting_config(true)), keepalive()].concat());
    rig.session.handle_closed(rig.now, First, Closed::Reset);
    rig.session.handle_closed(rig.now, Second, Closed::Reset);
    rig.incoming();
    assert_eq!(restart(&rig, First), (false, vec![true, true]), "it forwards by what it told");
}

impl Rig {
    /// Another connection, once this one's end was told.
    fn incoming_after(&mut self, connection: Connection) {
        self.sent(connection);
        let events = self.events();
        assert_eq!(events, [SessionEvent::Close(connection, Closing::Finish)]);
        assert_eq!(self.incoming(), connection);
    }
}
