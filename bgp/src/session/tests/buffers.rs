//! What waits is bounded and comes out as it went in.

use super::rig::*;
use crate::config::tests::peer_config;
use crate::session::*;
use crate::wire::MessageLimit;

use Connection::First;

#[test]
fn no_update_comes_before_its_session_was_told_of() {
    let mut rig = Rig::at(State::OpenConfirm, peer_config());
    let bytes = [keepalive(), update()].concat();
    rig.session.handle_bytes(First, &bytes);
    assert!(rig.session.poll_message(rig.now).is_none() && rig.session.has_message());
    assert!(matches!(rig.session.poll_event(), Some(SessionEvent::Established(_))));
    assert!(matches!(rig.session.poll_message(rig.now), Some(Received::Update(..))));
}

#[test]
fn messages_may_come_a_byte_at_a_time() {
    let config = peer_config();
    let mut rig = Rig::passive(config.clone());
    rig.incoming();
    let refresh = message(5, &[0, 1, 0, 1]);
    let bytes = [open_bytes(&peer_open(&config)), keepalive(), update(), refresh].concat();
    let messages: Vec<String> =
        bytes.iter().flat_map(|byte| rig.receive(First, &[*byte])).collect();
    assert_eq!(messages, ["update", "Request ipv4-unicast"]);
    assert_eq!(rig.session.state(), State::Established);
}

#[test]
fn a_full_read_buffer_takes_no_more_until_messages_are_polled() {
    let mut rig = Rig::established(peer_config());
    let bytes = update().repeat(8000);
    let taken = rig.session.handle_bytes(First, &bytes);
    assert_eq!((taken, rig.session.read_room(First)), (READ_BUFFER, 0));
    assert_eq!(rig.session.handle_bytes(First, &bytes), 0);
    assert!(rig.session.has_message());
    assert_eq!(rig.messages().len(), READ_BUFFER / 23);
    assert_eq!(rig.session.read_room(First), READ_BUFFER - READ_BUFFER % 23);
    assert_eq!(rig.receive(First, &bytes[taken..]).len(), 8000 - READ_BUFFER / 23);
    assert_eq!((rig.session.read_room(First), rig.session.has_message()), (READ_BUFFER, false));
}

#[test]
fn updates_leave_the_reserve_to_control_messages() {
    let mut rig = Rig::established(peer_config());
    assert_eq!(rig.session.write_room(), WRITE_BUFFER);
    rig.session.send_updates(rig.now, |_, out, room| out.extend(update().repeat(room / 23)));
    let room = WRITE_BUFFER % 23;
    assert_eq!(rig.session.write_room(), room);
    rig.session.send_updates(rig.now, |_, _, given| assert_eq!(given, room));
    let mut refreshes = 0;
    while rig.session.send_refresh(rig.now, Family::Ipv4Unicast, RefreshKind::Request) {
        refreshes += 1;
    }
    assert_eq!(refreshes, (room + WRITE_RESERVE - 4096) / 23);
    for _ in 0..1000 {
        rig.session.core.send_keepalive(First);
    }
    rig.session.send_updates(rig.now, |_, _, _| panic!("there is no room"));
    let waiting = rig.session.poll_transmit(First).len();
    assert!(waiting <= WRITE_BUFFER + WRITE_RESERVE - 4096, "{waiting}");
    let sent = rig.sent(First);
    assert_eq!(sent.len(), WRITE_BUFFER / 23 + refreshes);
    assert_eq!(rig.session.write_room(), WRITE_BUFFER);
}

#[test]
fn a_last_word_goes_before_updates_that_were_not_begun() {
    let mut rig = Rig::established(peer_config());
    rig.session.send_updates(rig.now, |_, out, room| out.extend(update().repeat(room / 23)));
    rig.session.handle_transmitted(rig.now, First, 30);
    let told = owed(NotificationReason::AdministrativeReset, &[]);
    rig.session.stop(rig.now, &told);
    let waiting = rig.session.poll_transmit(First);
    assert_eq!(parse(&waiting[16..]), [Sent::Notification(told)]);
    assert_eq!(waiting[..16], update()[7..]);
}

#[test]
fn nothing_is_taken_from_or_sent_to_who_is_not_established() {
    let mut rig = Rig::at(State::OpenConfirm, peer_config());
    assert_eq!(rig.session.write_room(), 0);
    rig.session.send_updates(rig.now, |_, _, _| panic!("not established"));
    assert!(!rig.session.send_refresh(rig.now, Family::Ipv4Unicast, RefreshKind::Request));
    assert!(rig.sent(First).is_empty());
}

#[test]
fn messages_from_before_the_end_of_the_connection_are_handled_first() {
    let told = owed(NotificationReason::AdministrativeShutdown, &[]);
    let mut rig = Rig::established(peer_config());
    let bytes = [update(), notification_bytes(&told)].concat();
    assert_eq!(rig.session.handle_bytes(First, &bytes), bytes.len());
    rig.session.handle_closed(rig.now, First, Closed::Finished);
    assert_eq!(rig.session.state(), State::Established);
    assert_eq!(rig.messages(), ["update"]);
    assert_eq!(rig.events(), [down(DownReason::Received(told), [false; 2])]);

    let mut rig = Rig::established(peer_config());
    rig.session.handle_bytes(First, &[update(), update()[..20].to_vec()].concat());
    rig.session.handle_closed(rig.now, First, Closed::Reset);
    assert_eq!((rig.session.write_room(), rig.session.handle_bytes(First, &[7])), (0, 1));
    assert_eq!(rig.messages(), ["update"]);
    assert_eq!(rig.events(), [down(DownReason::Closed(Closed::Reset), [false; 2])]);
}

#[test]
fn what_a_connection_left_behind_is_not_for_the_next_of_its_name() {
    let mut rig = Rig::new(peer_config());
    rig.events();
    rig.session.handle_connected(rig.now, First, endpoints());
    rig.sent(First);
    let left = [keepalive(), keepalive()].concat();
    assert_eq!(rig.session.handle_bytes(First, &left), left.len());
    rig.session.stop(rig.now, &owed(NotificationReason::AdministrativeReset, &[]));
    rig.sent(First);
    rig.events();
    rig.session.start(rig.now);
    assert_eq!(rig.events(), [SessionEvent::Connect(First)]);
    assert!(!rig.session.has_message() && rig.messages().is_empty());
    assert_eq!(rig.session.state(), State::Connect);
    rig.session.handle_connected(rig.now, First, endpoints());
    assert!(rig.messages().is_empty());
    assert_eq!(rig.session.state(), State::OpenSent);
}

/// An UPDATE of the greatest length: an unknown optional attribute.
fn greatest_update() -> Vec<u8> {
    let length = 65_535_u16 - 19 - 4;
    let value = length - 4;
    let mut body = vec![0, 0];
    body.extend(length.to_be_bytes());
    body.extend([0xD0, 99]);
    body.extend(value.to_be_bytes());
    body.resize(body.len() + usize::from(value), 7);
    message(2, &body)
}

#[test]
fn what_may_come_is_what_our_open_announced_and_what_may_go_is_what_both_did() {
    for (ours, theirs) in [(true, true), (true, false), (false, true), (false, false)] {
        let config = PeerConfig { extended_messages: ours, ..peer_config() };
        let mut rig = Rig::at(State::OpenSent, config.clone());
        let config = PeerConfig { extended_messages: theirs, ..config };
        rig.receive(First, &open_bytes(&peer_open(&config)));
        rig.receive(First, &keepalive());
        rig.sent(First);
        let codec = rig.session.negotiated().unwrap().codec;
        assert_eq!(codec.max_message == MessageLimit::Extended, ours && theirs);
        let bytes = greatest_update();
        assert_eq!(bytes.len(), 65_535);
        if ours {
            assert_eq!(rig.receive(First, &bytes), ["update"], "theirs: {theirs}");
        } else {
            rig.receive(First, &bytes);
            let told = owed(NotificationReason::BadMessageLength, &[0xFF, 0xFF]);
            assert_eq!(rig.sent(First), [Sent::Notification(told)], "theirs: {theirs}");
        }
    }
}
