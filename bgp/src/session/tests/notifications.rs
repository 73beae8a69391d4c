//! Every NOTIFICATION is the one that the RFC asks for, goes out before the connection ends, and
//! is remembered.

use nvgate_model::Asn;

use super::rig::*;
use crate::AfiSafi;
use crate::config::ShutdownText;
use crate::config::tests::peer_config;
use crate::session::*;
use crate::wire::{Capability, Open};

use Connection::First;
use NotificationReason as Reason;

/// The bytes cost the session in this state this NOTIFICATION, and nothing else is sent.
#[track_caller]
fn costs(state: State, bytes: &[u8], expected: Notification) {
    let mut rig = Rig::at(state, peer_config());
    assert!(rig.receive(First, bytes).is_empty());
    assert_eq!(rig.session.state(), State::Idle);
    let remembered = rig.session.last_sent().map(|last| (last.at, last.notification.clone()));
    assert_eq!(remembered, Some((rig.now, expected.clone())));
    let up = state == State::Established;
    let ended = down(DownReason::Sent(expected.clone()), [false; 2]);
    assert_eq!(rig.events(), if up { vec![ended] } else { vec![] });
    assert_eq!(rig.sent(First), [Sent::Notification(expected)]);
    assert_eq!(rig.events(), [SessionEvent::Close(First, Closing::Finish)]);
    assert_eq!(rig.session.poll_timeout().map(|(_, timer)| timer), Some(Timer::IdleHold));
}

fn open_with(change: impl FnOnce(&mut Open)) -> Vec<u8> {
    let mut open = peer_open(&peer_config());
    change(&mut open);
    open_bytes(&open)
}

#[test]
fn headers_that_are_wrong_cost_the_session_in_every_state() {
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        let mut unsynchronized = keepalive();
        unsynchronized[3] = 0;
        costs(state, &unsynchronized, owed(Reason::ConnectionNotSynchronized, &[]));
        costs(state, &message(4, &[1]), owed(Reason::BadMessageLength, &[0, 20]));
        costs(state, &message(9, &[]), owed(Reason::BadMessageType, &[9]));
        let mut long = update();
        long[16..18].copy_from_slice(&4097_u16.to_be_bytes());
        costs(state, &long, owed(Reason::BadMessageLength, &4097_u16.to_be_bytes()));
    }
}

#[test]
fn opens_that_are_wrong_cost_what_is_wrong_with_them() {
    let mut version = open_with(|_| ());
    version[19] = 5;
    costs(State::OpenSent, &version, owed(Reason::UnsupportedVersion, &[0, 4]));
    let foreign = open_with(|open| {
        open.asn = Asn(64_500);
        open.capabilities.retain(|capability| capability.code() != 65);
    });
    costs(State::OpenSent, &foreign, owed(Reason::BadPeerAs, &[]));
    let zero = open_with(|open| open.identifier = std::net::Ipv4Addr::UNSPECIFIED);
    costs(State::OpenSent, &zero, owed(Reason::BadIdentifier, &[]));
    for seconds in [1, 2] {
        let hasty = open_with(|open| open.hold_time_secs = seconds);
        costs(State::OpenSent, &hasty, owed(Reason::UnacceptableHoldTime, &[]));
    }
    let parameter = message(1, &[4, 0xFB, 0xF1, 0, 90, 192, 0, 2, 2, 3, 9, 1, 0]);
    costs(State::OpenSent, &parameter, owed(Reason::UnsupportedParameter, &[]));
    let foreign_families = open_with(|open| {
        open.capabilities.retain(|capability| capability.code() != 1);
        for (afi, safi) in [(25, 70), (1, 2)] {
            open.capabilities.push(Capability::Multiprotocol(AfiSafi { afi, safi }));
        }
    });
    let wanted = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1];
    costs(State::OpenSent, &foreign_families, owed(Reason::UnsupportedCapability, &wanted));
}

#[test]
fn roles_that_do_not_match_cost_the_session() {
    let mut config = peer_config();
    config.role = Some(crate::Role::Provider);
    let mut rig = Rig::at(State::OpenSent, config.clone());
    let mut open = peer_open(&config);
    open.capabilities.retain(|capability| capability.code() != 9);
    open.capabilities.push(Capability::Role(4));
    rig.receive(First, &open_bytes(&open));
    assert_eq!(rig.sent(First), [Sent::Notification(owed(Reason::RoleMismatch, &[]))]);
}

#[test]
fn messages_that_a_state_does_not_expect_cost_the_session_with_their_type() {
    let open = open_with(|_| ());
    let refresh = message(5, &[0, 1, 0, 1]);
    for (state, bytes, expected) in [
        (State::OpenSent, &keepalive(), owed(Reason::UnexpectedInOpenSent, &[4])),
        (State::OpenSent, &update(), owed(Reason::UnexpectedInOpenSent, &[2])),
        (State::OpenSent, &refresh, owed(Reason::UnexpectedInOpenSent, &[5])),
        (State::OpenConfirm, &open, owed(Reason::UnexpectedInOpenConfirm, &[1])),
        (State::OpenConfirm, &update(), owed(Reason::UnexpectedInOpenConfirm, &[2])),
        (State::OpenConfirm, &refresh, owed(Reason::UnexpectedInOpenConfirm, &[5])),
        (State::Established, &open, owed(Reason::UnexpectedInEstablished, &[1])),
    ] {
        costs(state, bytes, expected);
    }
}

#[test]
fn an_update_or_refresh_that_cannot_be_read_costs_the_session() {
    let malformed = message(2, &[0, 9, 0, 0]);
    costs(State::Established, &malformed, owed(Reason::MalformedAttributeList, &[]));
    let long = message(5, &[0, 1, 1, 1, 0]);
    costs(State::Established, &long, owed(Reason::BadRefreshLength, &long));
}

#[test]
fn a_notification_ends_the_session_unanswered() {
    let text = "see you at ten";
    let told = Notification::with_text(Reason::AdministrativeShutdown, text).unwrap();
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        let mut rig = Rig::at(state, peer_config());
        rig.receive(First, &[notification_bytes(&told), keepalive()].concat());
        assert_eq!(rig.session.state(), State::Idle);
        assert!(rig.sent(First).is_empty());
        let mut expected = vec![SessionEvent::Close(First, Closing::Finish)];
        if state == State::Established {
            expected.insert(0, down(DownReason::Received(told.clone()), [false; 2]));
        }
        assert_eq!(rig.events(), expected);
        let last = rig.session.last_received().unwrap();
        assert_eq!(last.notification.text().as_deref(), Some(text));
        assert!(rig.session.last_sent().is_none());
    }
}

#[test]
fn a_long_notification_is_remembered_in_part() {
    let told = owed(Reason::Update, &[7; 4000]);
    let mut rig = Rig::established(peer_config());
    rig.receive(First, &notification_bytes(&told));
    let last = &rig.session.last_received().unwrap().notification;
    assert_eq!(*last, owed(Reason::Update, &[7; LastNotification::DATA_KEPT]));
}

#[test]
fn stopping_tells_the_peer_why_and_stays_idle() {
    let shutdown = Notification::with_text(Reason::AdministrativeShutdown, "bye").unwrap();
    let mut rig = Rig::established(peer_config());
    rig.session.stop(rig.now, &shutdown);
    assert_eq!(rig.sent(First), [Sent::Notification(shutdown.clone())]);
    let ended = down(DownReason::Sent(shutdown), [false; 2]);
    assert_eq!(rig.events(), [ended, SessionEvent::Close(First, Closing::Finish)]);
    assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Idle, None));
    let refused = rig.session.handle_incoming(rig.now, endpoints());
    assert_eq!((refused, rig.session.counters().refused), (Err(Refused::Idle), 1));
    rig.session.start(rig.now);
    assert_eq!(rig.session.state(), State::Active);
}

#[test]
fn a_change_that_needs_it_resets_and_starts_again() {
    let mut rig = Rig::established(peer_config());
    let mut config = PeerConfig::clone(rig.session.config());
    config.hold_time = crate::config::HoldTime::new(30).unwrap();
    rig.reconfigure(config);
    let told = owed(Reason::OtherConfigurationChange, &[]);
    assert_eq!(rig.sent(First), [Sent::Notification(told.clone())]);
    assert_eq!(rig.events()[0], down(DownReason::Sent(told), [false; 2]));
    assert_eq!(rig.session.state(), State::Idle);
    rig.expire(Timer::IdleHold);
    assert_eq!(rig.session.state(), State::Active);
}

#[test]
fn a_change_that_does_not_need_it_leaves_the_session_alone() {
    let mut rig = Rig::established(peer_config());
    let before = rig.session.poll_timeout();
    let mut config = PeerConfig::clone(rig.session.config());
    config.description = "uplink".into();
    config.accept_as_set = true;
    let impact = rig.reconfigure(config);
    assert!(impact.refresh && impact.reset.is_none());
    assert!(rig.session.negotiated().unwrap().codec.accept_as_set);
    assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Established, before));
    assert!(rig.events().is_empty() && rig.sent(First).is_empty());
}

#[test]
fn a_shutdown_is_told_and_its_end_starts_the_session() {
    let mut rig = Rig::established(peer_config());
    let mut config = PeerConfig::clone(rig.session.config());
    config.shutdown = Some(ShutdownText::new("until ten").unwrap());
    rig.reconfigure(config.clone());
    let told = Notification::with_text(Reason::AdministrativeShutdown, "until ten").unwrap();
    assert_eq!(rig.sent(First), [Sent::Notification(told)]);
    rig.events();
    assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Idle, None));
    config.shutdown = None;
    rig.reconfigure(config);
    assert_eq!(rig.session.state(), State::Active);
}

#[test]
fn a_shut_down_peer_stays_idle_through_other_changes() {
    let mut config = peer_config();
    config.shutdown = Some(ShutdownText::default());
    let session = Session::new(config.clone().into(), 7);
    let mut rig = Rig { session, now: Default::default(), told: Vec::new() };
    config.hold_time = crate::config::HoldTime::NONE;
    rig.reconfigure(config);
    assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Idle, None));
    assert!(rig.events().is_empty());
}

#[test]
fn bfd_down_ends_an_established_session_only() {
    let mut rig = Rig::at(State::OpenConfirm, peer_config());
    rig.session.bfd_down(rig.now);
    assert_eq!(rig.session.state(), State::OpenConfirm);
    let mut rig = Rig::established(peer_config());
    rig.session.bfd_down(rig.now);
    let told = owed(Reason::BfdDown, &[]);
    assert_eq!(rig.sent(First), [Sent::Notification(told.clone())]);
    assert_eq!(rig.events()[0], down(DownReason::Sent(told), [false; 2]));
    assert_eq!(rig.session.poll_timeout().map(|(_, timer)| timer), Some(Timer::IdleHold));
}

#[test]
fn messages_are_counted_by_type_both_ways() {
    use crate::wire::MessageType as Kind;
    let mut rig = Rig::established(peer_config());
    rig.receive(First, &[update(), update(), keepalive(), message(5, &[0, 1, 0, 1])].concat());
    rig.session.send_updates(rig.now, |_, out, _| out.extend(update().repeat(3)));
    rig.session.send_refresh(rig.now, Family::Ipv6Unicast, RefreshKind::Request);
    let counters = rig.session.counters();
    let of = |counts: &MessageCounts| {
        [Kind::Open, Kind::Update, Kind::Notification, Kind::Keepalive, Kind::RouteRefresh]
            .map(|kind| counts.of(kind))
    };
    assert_eq!(of(&counters.received), [1, 2, 0, 2, 1]);
    assert_eq!(of(&counters.sent), [1, 3, 0, 1, 1]);
    assert_eq!((counters.established, counters.ignored_refreshes), (1, 0));
}

#[test]
fn a_refresh_of_what_was_not_agreed_on_is_ignored_and_counted() {
    let mut config = peer_config();
    config.families[1] = None;
    let mut rig = Rig::established(config);
    let refresh = |afi: u8, kind: u8, safi: u8| message(5, &[0, afi, kind, safi]);
    let bytes = [refresh(1, 0, 1), refresh(2, 0, 1), refresh(1, 0, 2), refresh(1, 7, 1)].concat();
    assert_eq!(rig.receive(First, &bytes), ["Request ipv4-unicast"]);
    assert_eq!(rig.session.counters().ignored_refreshes, 3);
    let marks = [refresh(1, 1, 1), update(), refresh(1, 2, 1)].concat();
    let expected = ["Begin ipv4-unicast", "update", "End ipv4-unicast"];
    assert_eq!(rig.receive(First, &marks), expected);
    assert!(!rig.session.send_refresh(rig.now, Family::Ipv6Unicast, RefreshKind::Request));
}

#[test]
fn marks_of_a_refresh_are_for_those_who_agreed_on_them() {
    let config = peer_config();
    let mut rig = Rig::passive(config.clone());
    rig.incoming();
    let mut open = peer_open(&config);
    open.capabilities.retain(|capability| ![70, 2].contains(&capability.code()));
    rig.receive(First, &[open_bytes(&open), keepalive(), message(5, &[0, 1, 1, 1])].concat());
    assert_eq!(rig.session.state(), State::Established);
    assert_eq!(rig.session.counters().ignored_refreshes, 1);
    for kind in [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End] {
        assert!(!rig.session.send_refresh(rig.now, Family::Ipv4Unicast, kind));
    }
}
