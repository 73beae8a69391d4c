//! Each timer: what arms it, what it does, and what keeps it from doing so.

use std::time::Duration;

use super::rig::*;
use crate::config::tests::peer_config;
use crate::config::{HoldTime, Opening};
use crate::session::*;

use Connection::{First, Second};
use NotificationReason as Reason;

const HOUR: Duration = Duration::from_secs(3600);

fn hold(seconds: u16) -> PeerConfig {
    PeerConfig { hold_time: HoldTime::new(seconds).unwrap(), ..peer_config() }
}

fn due(rig: &Rig) -> Option<(Duration, Timer)> {
    rig.session.poll_timeout().map(|(due, timer)| (due.since(rig.now), timer))
}

fn jittered(waited: Duration, whole: Duration) -> bool {
    (whole * 3 / 4..=whole).contains(&waited)
}

#[test]
fn an_active_session_connects_and_connects_anew_while_nobody_answers() {
    let mut rig = Rig::new(peer_config());
    assert_eq!(rig.events(), [SessionEvent::Connect(First)]);
    assert_eq!(rig.session.state(), State::Connect);
    assert!(jittered(rig.expire(Timer::ConnectRetry), seconds(30)));
    let anew = [SessionEvent::Close(First, Closing::Abort), SessionEvent::Connect(Second)];
    assert_eq!(rig.events(), anew);
    rig.session.handle_closed(rig.now, Second, Closed::Refused);
    assert_eq!((rig.session.state(), rig.events()), (State::Active, vec![]));
    assert_eq!(rig.session.last_closed(), Some((rig.now, Closed::Refused)));
    assert!(jittered(rig.expire(Timer::ConnectRetry), seconds(30)));
    assert_eq!(rig.events(), [SessionEvent::Connect(First)]);
    rig.session.handle_connected(rig.now, First, endpoints());
    assert_eq!(rig.sent(First), [Sent::Open]);
    assert_eq!(due(&rig), Some((seconds(240), Timer::Hold(First))));
}

#[test]
fn a_passive_session_waits_without_a_timer() {
    let rig = Rig::passive(peer_config());
    assert_eq!((rig.session.state(), due(&rig)), (State::Active, None));
}

#[test]
fn an_open_is_awaited_for_four_minutes() {
    let mut rig = Rig::at(State::OpenSent, peer_config());
    // Part of a message is no message.
    rig.receive(First, &open_bytes(&peer_open(&peer_config()))[..28]);
    assert_eq!(rig.expire(Timer::Hold(First)), seconds(240));
    assert_eq!(rig.sent(First), [Sent::Notification(owed(Reason::HoldTimerExpired, &[]))]);
}

#[test]
fn a_silent_peer_loses_the_session_after_the_negotiated_time() {
    let mut rig = Rig::established(hold(9));
    let expected = owed(Reason::HoldTimerExpired, &[]);
    for _ in 0..3 {
        let waited = rig.expire(Timer::Keepalive(First));
        assert!(jittered(waited, seconds(3)), "{waited:?}");
        if rig.session.poll_timeout().unwrap().1 == Timer::Hold(First) {
            break;
        }
        assert_eq!(rig.sent(First), [Sent::Keepalive]);
    }
    while rig.session.poll_timeout().unwrap().1 != Timer::Hold(First) {
        rig.expire(Timer::Keepalive(First));
    }
    rig.expire(Timer::Hold(First));
    assert_eq!(rig.now.since(Instant::default() + seconds(1000)), seconds(9));
    assert!(rig.sent(First).contains(&Sent::Notification(expected.clone())));
    assert_eq!(rig.events()[0], down(DownReason::Sent(expected), [false; 2]));
}

#[test]
fn keepalives_and_updates_hold_the_session_and_refreshes_do_not() {
    let mut rig = Rig::established(hold(90));
    let hold_due = |rig: &Rig| rig.session.core.timers.due(Timer::Hold(First)).unwrap();
    let before = hold_due(&rig);
    rig.now = rig.now + seconds(10);
    rig.receive(First, &message(5, &[0, 1, 0, 1]));
    assert_eq!(hold_due(&rig), before);
    rig.receive(First, &update());
    assert_eq!(hold_due(&rig), rig.now + seconds(90));
    rig.now = rig.now + seconds(10);
    rig.receive(First, &keepalive());
    assert_eq!(hold_due(&rig), rig.now + seconds(90));
}

#[test]
fn an_update_of_ours_is_as_good_as_a_keepalive() {
    let mut rig = Rig::established(hold(90));
    rig.now = rig.now + seconds(20);
    rig.session.send_updates(rig.now, |_, out, _| out.extend(update()));
    rig.sent(First);
    assert!(jittered(rig.expire(Timer::Keepalive(First)), seconds(30)));
    rig.sent(First);
    let (at, _) = due(&rig).unwrap();
    rig.session.send_updates(rig.now, |_, _, _| ());
    assert_eq!(due(&rig).unwrap().0, at);
}

#[test]
fn without_a_hold_time_nothing_is_sent_or_expected() {
    let mut rig = Rig::established(hold(0));
    assert_eq!(due(&rig), None);
    rig.receive(First, &[keepalive(), update()].concat());
    rig.session.send_updates(rig.now, |_, out, _| out.extend(update()));
    assert_eq!(due(&rig), Some((seconds(480), Timer::SendHold(First))));
    rig.sent(First);
    assert_eq!(due(&rig), None);
}

#[test]
fn without_a_hold_time_the_first_keepalive_is_awaited_for_four_minutes() {
    let mut rig = Rig::at(State::OpenConfirm, hold(0));
    assert_eq!(rig.expire(Timer::Hold(First)), seconds(240));
    assert_eq!(rig.session.state(), State::Idle);
}

#[test]
fn a_peer_whose_messages_wait_here_was_not_silent() {
    let mut rig = Rig::established(hold(9));
    assert_eq!(rig.session.handle_bytes(First, &update()), 23);
    for _ in 0..20 {
        let (due, _) = rig.session.poll_timeout().unwrap();
        rig.now = due;
        rig.session.handle_timeout(rig.now);
        rig.sent(First);
    }
    assert_eq!(rig.session.state(), State::Established);
    assert_eq!(rig.messages(), ["update"]);
    while rig.session.state() == State::Established {
        let (due, _) = rig.session.poll_timeout().unwrap();
        rig.now = due;
        rig.session.handle_timeout(rig.now);
    }
    let last = &rig.session.last_sent().unwrap().notification;
    assert_eq!(last.reason, Reason::HoldTimerExpired);
}

#[test]
fn a_clock_that_jumps_serves_each_timer_once_and_gives_waiting_bytes_a_chance() {
    let mut rig = Rig::established(hold(9));
    rig.now = rig.now + HOUR;
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.session.state(), State::Established);
    assert_eq!(rig.sent(First), [Sent::Keepalive]);
    rig.receive(First, &keepalive());
    rig.now = rig.now + seconds(8);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.session.state(), State::Established);

    // Now a KEEPALIVE waits too: TCP may have room by now.
    rig.now = rig.now + HOUR;
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.session.state(), State::Established);
    rig.sent(First);
    rig.now = rig.now + seconds(2);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.session.state(), State::Idle, "nothing came");
    assert_eq!(rig.session.last_sent().unwrap().notification.reason, Reason::HoldTimerExpired);
}

#[test]
fn a_peer_that_takes_nothing_loses_the_session() {
    for (hold_secs, expected) in [(0, 480), (90, 480), (300, 600)] {
        let mut rig = Rig::established(hold(hold_secs));
        rig.session.send_updates(rig.now, |_, out, _| out.extend(update()));
        let began = rig.now;
        while rig.session.state() == State::Established {
            let (due, timer) = rig.session.poll_timeout().unwrap();
            rig.now = due;
            if let Timer::Hold(_) = timer {
                rig.receive(First, &keepalive());
            }
            rig.session.handle_timeout(rig.now);
        }
        assert_eq!(rig.now.since(began), seconds(expected), "hold time {hold_secs} s");
        let told = owed(Reason::SendHoldTimerExpired, &[]);
        assert_eq!(rig.events()[0], down(DownReason::Sent(told), [false; 2]));
        rig.expire(Timer::IdleHold);
        assert_eq!(rig.expire(Timer::Linger(First)).as_secs(), 4);
        assert_eq!(rig.events(), [SessionEvent::Close(First, Closing::Abort)]);
    }
}

#[test]
fn a_peer_that_takes_a_byte_at_a_time_keeps_the_session() {
    let mut rig = Rig::established(hold(0));
    rig.session.send_updates(rig.now, |_, out, _| out.extend(update()));
    for _ in 0..22 {
        rig.now = rig.now + seconds(479);
        rig.session.handle_transmitted(rig.now, First, 0);
        rig.session.handle_transmitted(rig.now, First, 1);
        assert_eq!(due(&rig), Some((seconds(480), Timer::SendHold(First))));
    }
    rig.session.handle_transmitted(rig.now, First, 1);
    assert_eq!(due(&rig), None);
}

#[test]
fn a_last_word_is_waited_for_and_not_longer() {
    let mut rig = Rig::established(peer_config());
    rig.session.stop(rig.now, &owed(Reason::AdministrativeReset, &[]));
    rig.events();
    rig.session.handle_transmitted(rig.now, First, 20);
    assert_eq!(due(&rig), Some((seconds(5), Timer::Linger(First))));
    assert!(rig.session.handle_bytes(First, &update()) == 23 && rig.messages().is_empty());
    rig.session.handle_transmitted(rig.now, First, 1);
    assert_eq!(rig.events(), [SessionEvent::Close(First, Closing::Finish)]);
    assert_eq!(due(&rig), None);
}

#[test]
fn a_peer_that_fails_again_and_again_is_left_alone_for_longer() {
    let mut rig = Rig::passive(peer_config());
    let mut fail = || {
        rig.incoming();
        rig.receive(First, &keepalive());
        rig.sent(First);
        rig.events();
        rig.expire(Timer::IdleHold)
    };
    for expected in [1, 2, 4, 8, 16, 32, 64, 120, 120] {
        let waited = fail();
        assert!(jittered(waited, seconds(expected)), "{waited:?} of {expected} s");
    }
}

#[test]
fn a_session_that_stood_long_makes_up_for_failures() {
    let mut rig = Rig::passive(hold(0));
    for _ in 0..5 {
        rig.incoming();
        rig.receive(First, &keepalive());
        rig.sent(First);
        rig.events();
        rig.expire(Timer::IdleHold);
    }
    rig.incoming();
    rig.receive(First, &[open_bytes(&peer_open(&hold(0))), keepalive()].concat());
    rig.sent(First);
    rig.now = rig.now + seconds(300);
    rig.receive(First, &open_bytes(&peer_open(&hold(0))));
    assert!(jittered(rig.expire(Timer::IdleHold), seconds(1)));
}

#[test]
fn a_peer_that_lost_its_connection_once_may_come_back_at_once() {
    let mut rig = Rig::established(peer_config());
    rig.session.handle_closed(rig.now, First, Closed::Reset);
    assert_eq!(rig.events(), [down(DownReason::Closed(Closed::Reset), [false; 2])]);
    assert_eq!((rig.session.state(), due(&rig)), (State::Active, None));
    let open = open_bytes(&peer_open(&peer_config()));
    let again = rig.incoming();
    rig.receive(again, &[open, keepalive()].concat());
    rig.session.handle_closed(rig.now, again, Closed::Reset);
    assert_eq!(rig.session.state(), State::Idle);
    assert!(jittered(rig.expire(Timer::IdleHold), seconds(2)));
}

#[test]
fn an_active_session_goes_back_to_a_peer_it_lost_a_little_later() {
    let mut rig = Rig::new(peer_config());
    rig.events();
    rig.session.handle_connected(rig.now, First, endpoints());
    rig.receive(First, &[open_bytes(&peer_open(&peer_config())), keepalive()].concat());
    rig.session.handle_closed(rig.now, First, Closed::TimedOut);
    assert_eq!(rig.session.state(), State::Active);
    assert!(jittered(rig.expire(Timer::ConnectRetry), seconds(1)));
    assert_eq!(rig.events().last(), Some(&SessionEvent::Connect(First)));
}

#[test]
fn an_operators_start_does_not_wait() {
    let mut rig = Rig::passive(peer_config());
    rig.incoming();
    rig.receive(First, &keepalive());
    assert_eq!(rig.session.state(), State::Idle);
    rig.session.start(rig.now);
    assert_eq!(rig.session.state(), State::Active);
    assert!(!rig.session.core.timers.is_armed(Timer::IdleHold));
}

#[test]
fn a_dynamic_session_lives_as_long_as_its_connection() {
    let config = PeerConfig { opening: Opening::Dynamic, ..peer_config() };
    let mut rig = Rig::new(config.clone());
    assert_eq!((rig.session.state(), due(&rig)), (State::Active, None));
    rig.incoming();
    rig.receive(First, &[open_bytes(&peer_open(&config)), keepalive()].concat());
    assert_eq!(rig.session.state(), State::Established);
    rig.events();
    let told = owed(Reason::AdministrativeReset, &[]);
    rig.session.stop(rig.now, &told);
    assert_eq!(rig.events(), [down(DownReason::Sent(told), [false; 2])]);
    rig.session.handle_transmitted(rig.now, First, 500);
    assert_eq!(rig.events(), [SessionEvent::Close(First, Closing::Finish), SessionEvent::Ended]);
    assert_eq!(due(&rig), None);

    let mut lost = Rig::new(config);
    lost.incoming();
    lost.session.handle_closed(lost.now, First, Closed::Finished);
    assert_eq!((lost.session.state(), lost.events()), (State::Idle, vec![SessionEvent::Ended]));
    assert_eq!(due(&lost), None);
}
