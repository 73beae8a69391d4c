//! When packets leave and when silence counts (6.8.2 to 6.8.4, 6.8.7).

use super::*;

/// Intervals between the periodic packets of a session that hears its neighbour all the time.
fn gaps(session: &mut Session, mut now: Instant, count: usize) -> Vec<Duration> {
    let mut gaps = Vec::new();
    let mut last = now;
    while gaps.len() < count {
        receive(session, now, packet(State::Up)).unwrap();
        session.handle_timeout(now);
        if !drain(session, now).is_empty() {
            gaps.push(now.since(last));
            last = now;
        }
        now = session.poll_timeout().expect("an active session has something to do");
    }
    gaps
}

#[test]
fn intervals_are_jittered_from_75_to_100_percent_and_to_90_with_a_multiplier_of_1() {
    for (multiplier, highest) in [(1, 90), (2, 100), (3, 100)] {
        let mut session = settled();
        let detect_multiplier = NonZeroU8::new(multiplier).unwrap();
        session.reconfigure(SessionConfig { detect_multiplier, ..config() });
        let gaps = &gaps(&mut session, NOW + START_SPREAD, 2000)[2..];
        let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(*least >= millis(75) && *least < millis(76), "{least:?}");
        assert!(*most <= millis(highest) && *most > millis(highest - 1), "{most:?}");
    }
}

#[test]
fn the_slower_of_our_wish_and_the_neighbours_readiness_is_the_interval() {
    for (required_micros, expected) in [(50_000, 100), (100_000, 100), (700_000, 700)] {
        let mut session = settled();
        let slow = ControlPacket { required_min_rx_micros: required_micros, ..packet(State::Up) };
        receive(&mut session, NOW + START_SPREAD, slow).unwrap();
        assert_eq!(session.status().transmit_interval, Some(millis(expected)));
    }
}

#[test]
fn nothing_periodic_is_sent_to_a_neighbour_that_wants_nothing_but_its_polls_are_answered() {
    let mut session = settled();
    let now = NOW + START_SPREAD;
    let silence = ControlPacket { required_min_rx_micros: 0, ..packet(State::Up) };
    receive(&mut session, now, silence).unwrap();
    assert_eq!(session.status().transmit_interval, None);
    assert_eq!(drain(&mut session, now + millis(200)), []);
    let later = now + millis(200);
    receive(&mut session, later, ControlPacket { poll: true, ..silence }).unwrap();
    let [answer] = drain(&mut session, later)[..] else { panic!("a poll is answered") };
    assert!(answer.is_final && !answer.poll);
    receive(&mut session, later, packet(State::Up)).unwrap();
    assert_eq!(drain(&mut session, later).len(), 1, "the interval has long passed");
}

#[test]
fn a_neighbour_in_demand_mode_gets_no_periodic_packets_while_both_are_up() {
    let mut session = settled();
    let now = NOW + START_SPREAD;
    let demand = ControlPacket { demand: true, ..packet(State::Up) };
    receive(&mut session, now, demand).unwrap();
    assert_eq!(session.transmit_at(), None);
    // A change is told by a Poll Sequence, and then it is quiet again.
    session.reconfigure(SessionConfig { desired_min_tx: interval(200), ..config() });
    let told = drain(&mut session, now + millis(100));
    assert!(told.len() == 1 && told[0].poll);
    assert!(session.transmit_at().is_some(), "repeated until it is answered");
    receive(&mut session, now + millis(110), ControlPacket { is_final: true, ..demand }).unwrap();
    receive(&mut session, now + millis(120), demand).unwrap();
    assert_eq!(session.transmit_at(), None);
    let detect_multiplier = NonZeroU8::new(5).unwrap();
    session.reconfigure(SessionConfig { detect_multiplier, ..*session.config() });
    let told = drain(&mut session, now + millis(200));
    assert!(told.len() == 1 && told[0].poll && told[0].detect_multiplier == detect_multiplier);
    receive(&mut session, now + millis(210), packet(State::Up)).unwrap();
    assert!(session.transmit_at().is_some());
}

#[test]
fn a_poll_is_answered_at_once_and_answers_are_limited() {
    let mut session = settled();
    let now = NOW + START_SPREAD + millis(20);
    let poll = ControlPacket { poll: true, ..packet(State::Up) };
    let mut answers = Vec::new();
    for micros in 0..100 {
        let now = now + Duration::from_micros(micros * 100);
        receive(&mut session, now, poll).unwrap();
        answers.extend(drain(&mut session, now).into_iter().map(|answer| (micros, answer)));
    }
    let [(0, answer)] = answers[..] else { panic!("one in 10 ms: {answers:?}") };
    assert!(answer.is_final && !answer.poll);
    assert_eq!(drain(&mut session, now + UNSCHEDULED_SPACING).len(), 1);
}

#[test]
fn coming_up_begins_a_poll_sequence_that_a_final_ends() {
    let mut session = session();
    receive(&mut session, NOW, packet(State::Down)).unwrap();
    assert!(!drain(&mut session, NOW)[0].poll);
    receive(&mut session, NOW, packet(State::Init)).unwrap();
    let told = drain(&mut session, NOW + UNSCHEDULED_SPACING);
    assert!(told.len() == 1 && told[0].poll && told[0].state == State::Up);
    assert_eq!(told[0].desired_min_tx_micros, 100_000);
    let now = NOW + millis(200);
    assert!(drain(&mut session, now)[0].poll, "until it is answered");
    receive(&mut session, now, ControlPacket { is_final: true, ..packet(State::Up) }).unwrap();
    assert!(!drain(&mut session, now + millis(100))[0].poll);
}

#[test]
fn changed_intervals_are_told_at_once_and_hold_when_they_may() {
    let mut session = settled();
    let now = NOW + START_SPREAD + millis(10);
    session.reconfigure(SessionConfig {
        desired_min_tx: interval(400),
        required_min_rx: interval(50),
        ..config()
    });
    let [told] = drain(&mut session, now)[..] else { panic!("told at once") };
    assert!(told.poll);
    assert_eq!((told.desired_min_tx_micros, told.required_min_rx_micros), (400_000, 50_000));
    // The neighbour sends every 40 ms once it knows.
    let fast = ControlPacket { desired_min_tx_micros: 40_000, ..packet(State::Up) };
    receive(&mut session, now, fast).unwrap();
    let times = |session: &Session| {
        let status = session.status();
        (status.transmit_interval.unwrap(), status.detection_time.unwrap())
    };
    assert_eq!(times(&session), (millis(100), millis(300)));
    receive(&mut session, now, ControlPacket { is_final: true, ..fast }).unwrap();
    assert_eq!(times(&session), (millis(400), millis(150)));
}

#[test]
fn a_multiplier_needs_no_poll_and_is_told_at_once() {
    let mut session = settled();
    let now = NOW + START_SPREAD + millis(10);
    let detect_multiplier = NonZeroU8::new(5).unwrap();
    session.reconfigure(SessionConfig { detect_multiplier, ..config() });
    let [told] = drain(&mut session, now)[..] else { panic!("told at once") };
    assert!(!told.poll && told.detect_multiplier == detect_multiplier);
}

#[test]
fn the_detection_time_is_the_neighbours_multiplier_times_the_slower_interval() {
    for (multiplier, desired_micros, expected) in
        [(3, 100_000, 300), (5, 100_000, 500), (3, 20_000, 300), (2, 400_000, 800), (1, 0, 100)]
    {
        let mut session = settled();
        let now = NOW + START_SPREAD;
        let packet = ControlPacket {
            detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
            desired_min_tx_micros: desired_micros,
            ..packet(State::Up)
        };
        receive(&mut session, now, packet).unwrap();
        let expiry = now + millis(expected);
        session.handle_timeout(Instant(expiry.0 - 1));
        assert_eq!(session.state(), State::Up);
        session.handle_timeout(expiry);
        assert_eq!(session.state(), State::Down);
        let event = SessionEvent::Down(DownReason::DetectionTimeExpired);
        assert_eq!(session.poll_event(), Some(event));
    }
}

#[test]
fn a_neighbour_that_is_silent_is_told_why_and_forgotten() {
    for state in [State::Down, State::Init, State::Up] {
        let mut session = session_in(state);
        // Heard in every state, also where a packet changes nothing.
        let slow = ControlPacket { required_min_rx_micros: 5_000_000, ..packet(State::Up) };
        let reported = if state == State::Init { State::Down } else { State::Up };
        let now = NOW + START_SPREAD;
        receive(&mut session, now, ControlPacket { state: reported, ..slow }).unwrap();
        let expiry = session.timeout_at().unwrap();
        session.handle_timeout(expiry);
        let status = session.status();
        assert_eq!((status.state, status.remote_state), (State::Down, State::Down));
        assert_eq!((status.remote_discriminator, status.detection_time), (None, None));
        assert_eq!(status.transmit_interval, Some(millis(1000)), "no longer held to 5 s");
        if state != State::Down {
            assert_eq!(status.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
        }
    }
}

#[test]
fn our_absences_are_not_the_neighbours_silence_and_add_up_to_a_detection_time_or_the_longest() {
    let cases: [(&[u64], u64); 6] = [
        (&[], 300),
        (&[50], 350),
        (&[100, 100], 500),
        (&[100; 9], 600),
        (&[5000], 5300),
        (&[5000, 5000], 5300),
    ];
    for (absences, expected) in cases {
        let mut session = settled();
        let now = NOW + START_SPREAD;
        absences.iter().for_each(|absence| session.excuse(millis(*absence)));
        let expiry = now + millis(expected);
        assert_eq!(session.timeout_at(), Some(expiry), "{absences:?}");
        // A packet ends the silence, and what was excused with it.
        receive(&mut session, expiry, packet(State::Up)).unwrap();
        assert_eq!(session.timeout_at(), Some(expiry + millis(300)));
    }
}
