//! One session against packets made by hand, and two against each other.

use proptest::prelude::*;

use super::*;
use crate::config::{Interval, Path};

mod pair;
mod timers;

const NOW: Instant = Instant(5_000_000_000);
const OURS: NonZeroU32 = NonZeroU32::new(0x1111).unwrap();
const THEIRS: NonZeroU32 = NonZeroU32::new(0x2222).unwrap();
const TTL: u8 = 255;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn interval(millis: u32) -> Interval {
    Interval::from_micros(millis * 1000).unwrap()
}

fn config() -> SessionConfig {
    SessionConfig::new(Path::SingleHop)
}

fn session() -> Session {
    Session::new(config(), OURS, NOW, 1)
}

/// What the neighbour sends: 3 times 100 ms once it is Up.
fn packet(state: State) -> ControlPacket {
    let desired_min_tx_micros = if state == State::Up { 100_000 } else { SLOW_MICROS };
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: THEIRS,
        your_discriminator: Some(OURS),
        desired_min_tx_micros,
        required_min_rx_micros: 100_000,
        required_min_echo_rx_micros: 0,
        authentication: None,
    }
}

/// A session that has come to `state` by packets and commands, with nothing left to send or tell.
fn session_in(state: State) -> Session {
    let mut session = session();
    let path: &[State] = match state {
        State::AdminDown | State::Down => &[],
        State::Init => &[State::Down],
        State::Up => &[State::Down, State::Up],
    };
    for reported in path {
        receive(&mut session, NOW, packet(*reported)).unwrap();
    }
    if state == State::AdminDown {
        session.disable(NOW, AdministrativeReason::Operator);
    }
    assert_eq!(session.state(), state);
    drain(&mut session, NOW + START_SPREAD);
    while session.poll_event().is_some() {}
    session
}

/// An Up session whose Poll Sequences have ended, as of `NOW + START_SPREAD`.
fn settled() -> Session {
    let mut session = session_in(State::Up);
    let now = NOW + START_SPREAD;
    for is_final in [true, false] {
        receive(&mut session, now, ControlPacket { is_final, ..packet(State::Up) }).unwrap();
    }
    session
}

fn receive(session: &mut Session, now: Instant, packet: ControlPacket) -> Result<(), Discard> {
    session.handle_packet(now, &packet.encode(), TTL)
}

/// Everything that is due, decoded.
fn drain(session: &mut Session, now: Instant) -> Vec<ControlPacket> {
    let sent: Vec<_> = std::iter::from_fn(|| session.poll_transmit(now))
        .take(4)
        .map(|bytes| ControlPacket::decode(&bytes).unwrap())
        .collect();
    assert!(sent.len() < 4, "a session has no more to say at one instant");
    sent
}

#[test]
fn the_state_table_is_that_of_section_6_8_6() {
    use State::{AdminDown, Down, Init, Up};
    // Rows: our state; columns: the neighbour reports AdminDown, Down, Init, Up.
    let table = [
        (AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown]),
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
    ];
    for (local, row) in table {
        for (reported, expected) in State::ALL.into_iter().zip(row) {
            let mut session = session_in(local);
            let before = session.status();
            let result = receive(&mut session, NOW + START_SPREAD, packet(reported));
            let after = session.status();
            let cell = format!("{local:?} on {reported:?}");
            assert_eq!(after.state, expected, "{cell}");
            assert_eq!(after.remote_state, reported, "{cell}");
            let changed = local != expected;
            assert_eq!(
                after.counters.state_changes,
                before.counters.state_changes + u64::from(changed),
                "{cell}"
            );
            let diagnostic = match (local, expected) {
                (Init | Up, Down) => Diagnostic::NEIGHBOR_SIGNALED_DOWN,
                (AdminDown, _) => Diagnostic::ADMINISTRATIVELY_DOWN,
                _ => Diagnostic::NONE,
            };
            assert_eq!(after.diagnostic, diagnostic, "{cell}");
            let event = match (local, expected, reported) {
                (Up, Down, AdminDown) => {
                    Some(SessionEvent::Down(DownReason::NeighborAdminDown(Diagnostic::NONE)))
                }
                (Up, Down, _) => {
                    Some(SessionEvent::Down(DownReason::NeighborDown(Diagnostic::NONE)))
                }
                (Down | Init, Up, _) => Some(SessionEvent::Up),
                _ => None,
            };
            assert_eq!(session.poll_event(), event, "{cell}");
            let refused = (local == AdminDown).then_some(Discard::AdministrativelyDown);
            assert_eq!(result.err(), refused, "{cell}");
            assert_eq!(after.up_since.is_some(), expected == Up, "{cell}");
            if local != AdminDown {
                let sent = drain(&mut session, NOW + START_SPREAD + UNSCHEDULED_SPACING);
                assert_eq!(sent.len(), usize::from(changed), "{cell}: a change is told at once");
                assert!(sent.iter().all(|sent| sent.state == expected), "{cell}");
            }
        }
    }
}

#[test]
fn a_session_begins_down_and_says_so_slowly() {
    let mut session = session();
    let status = session.status();
    assert_eq!((status.state, status.remote_state), (State::Down, State::Down));
    assert_eq!((status.remote_discriminator, status.detection_time), (None, None));
    let expected =
        ControlPacket { my_discriminator: OURS, your_discriminator: None, ..packet(State::Down) };
    assert_eq!(drain(&mut session, NOW + START_SPREAD), [expected]);
    assert_eq!(session.status().transmit_interval, Some(millis(1000)));
}

#[test]
fn a_refused_packet_changes_nothing_but_its_counter() {
    type Change = fn(&mut ControlPacket);
    let cases: [(Change, u8, Discard); 3] = [
        (|_| {}, 254, Discard::Ttl),
        (|packet| packet.your_discriminator = Some(THEIRS), TTL, Discard::UnknownDiscriminator),
        (|packet| packet.your_discriminator = None, TTL, Discard::YourDiscriminatorZero),
    ];
    for (change, ttl, reason) in cases {
        for state in [State::Down, State::Init, State::Up] {
            let mut session = session_in(state);
            let mut packet = packet(State::Init);
            change(&mut packet);
            let mut before = session.status();
            let refused = session.handle_packet(NOW + millis(50), &packet.encode(), ttl);
            assert_eq!(refused, Err(reason));
            before.counters.discards.count(reason);
            assert_eq!(session.status(), before);
            assert_eq!(session.poll_event(), None);
        }
    }
}

#[test]
fn an_authenticated_neighbour_is_refused_by_name() {
    let mut session = session();
    let mut bytes = [packet(State::Down).encode().as_slice(), &[1, 9, 1], b"secret"].concat();
    (bytes[1], bytes[3]) = (bytes[1] | 0b100, 33);
    assert_eq!(session.handle_packet(NOW, &bytes, TTL), Err(Discard::Authentication));
    let status = session.status();
    assert_eq!(status.counters.discards.of(Discard::Authentication), 1);
    assert_eq!((status.state, status.remote_discriminator), (State::Down, None));
}

#[test]
fn several_hops_admit_the_ttl_that_is_configured() {
    let path = Path::MultiHop { minimum_ttl: 250 };
    let mut session = Session::new(SessionConfig::new(path), OURS, NOW, 1);
    let bytes = packet(State::Down).encode();
    assert_eq!(session.handle_packet(NOW, &bytes, 249), Err(Discard::Ttl));
    assert_eq!(session.handle_packet(NOW, &bytes, 250), Ok(()));
}

#[test]
fn a_passive_session_is_silent_until_it_is_spoken_to_and_after_the_neighbour_went() {
    let config = SessionConfig { role: Role::Passive, ..config() };
    let mut session = Session::new(config, OURS, NOW, 1);
    assert_eq!(session.poll_timeout(), None);
    receive(&mut session, NOW, packet(State::Down)).unwrap();
    assert_eq!(drain(&mut session, NOW).len(), 1);
    receive(&mut session, NOW, ControlPacket { poll: true, ..packet(State::Down) }).unwrap();
    let gone = NOW + millis(3000);
    session.handle_timeout(gone);
    assert_eq!(session.state(), State::Down);
    assert_eq!((drain(&mut session, gone), session.poll_timeout()), (vec![], None));
}

#[test]
fn a_neighbour_that_restarts_takes_the_session_down_and_up_again() {
    let mut session = session_in(State::Up);
    let now = NOW + START_SPREAD;
    let restarted = NonZeroU32::new(0x3333).unwrap();
    let reborn = |state, your_discriminator| ControlPacket {
        my_discriminator: restarted,
        your_discriminator,
        ..packet(state)
    };
    receive(&mut session, now, reborn(State::Down, None)).unwrap();
    receive(&mut session, now, reborn(State::Down, Some(OURS))).unwrap();
    receive(&mut session, now, reborn(State::Init, Some(OURS))).unwrap();
    let status = session.status();
    assert_eq!(
        (status.remote_discriminator, status.diagnostic),
        (Some(restarted), Diagnostic::NONE)
    );
    let told: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
    let down = SessionEvent::Down(DownReason::NeighborDown(Diagnostic::NONE));
    assert_eq!(told, [down, SessionEvent::Up]);
}

#[test]
fn a_session_taken_down_by_command_announces_that_for_the_detection_time_and_ignores_packets() {
    let mut session = session_in(State::Up);
    let now = NOW + START_SPREAD;
    session.disable(now, AdministrativeReason::PathDown);
    assert_eq!(session.poll_event(), Some(SessionEvent::Down(DownReason::Administrative)));
    let sent = drain(&mut session, now + UNSCHEDULED_SPACING);
    let [told] = sent.as_slice() else { panic!("told once: {sent:?}") };
    assert_eq!((told.state, told.diagnostic), (State::AdminDown, Diagnostic::PATH_DOWN));
    let polled = ControlPacket { poll: true, ..packet(State::Up) };
    assert_eq!(receive(&mut session, now, polled), Err(Discard::AdministrativelyDown));
    let mut last = now;
    for step in 1..400 {
        let now = now + millis(step * 10);
        session.handle_timeout(now);
        if !drain(&mut session, now).is_empty() {
            last = now;
        }
        assert_eq!(session.is_silent(), step >= 300);
    }
    assert!(last >= now + millis(2000) && last < now + millis(3000));
    session.enable(now + millis(4000));
    assert_eq!(session.state(), State::Down);
    assert_eq!(drain(&mut session, now + millis(4000)).len(), 1);
}

#[test]
fn counters_and_times_say_what_happened() {
    let mut session = session_in(State::Up);
    let now = NOW + START_SPREAD;
    let status = session.status();
    assert_eq!((status.up_since, status.changed), (Some(NOW), NOW));
    assert_eq!((status.counters.packets_in, status.counters.state_changes), (2, 2));
    let down =
        ControlPacket { diagnostic: Diagnostic::DETECTION_TIME_EXPIRED, ..packet(State::Down) };
    receive(&mut session, now, down).unwrap();
    let status = session.status();
    let reason = DownReason::NeighborDown(Diagnostic::DETECTION_TIME_EXPIRED);
    assert_eq!((status.last_down, status.counters.downs), (Some(reason), 1));
    assert_eq!((status.up_since, status.changed), (None, now));
    assert_eq!(status.remote_diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
}

/// Packets of every kind; those of a neighbour that hears us only if `hears`.
fn any_packet(hears: bool) -> impl Strategy<Value = ControlPacket> {
    let numbers = (any::<NonZeroU32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let yours = prop_oneof![Just(None), any::<NonZeroU32>().prop_map(Some), Just(Some(OURS))];
    (0..4_usize, any::<[bool; 4]>(), 0..32_u8, any::<NonZeroU8>(), numbers, yours).prop_map(
        move |(state, [poll, is_final, demand, slow], bits, detect_multiplier, numbers, yours)| {
            let (my_discriminator, desired, required, echo) = numbers;
            ControlPacket {
                diagnostic: Diagnostic::from_bits(bits),
                state: State::ALL[state],
                poll,
                is_final,
                control_plane_independent: slow,
                demand,
                detect_multiplier,
                my_discriminator,
                your_discriminator: yours.filter(|yours| hears || *yours != OURS),
                desired_min_tx_micros: if slow { desired } else { desired % 200_000 },
                required_min_rx_micros: if slow { required } else { required % 200_000 },
                required_min_echo_rx_micros: echo,
                authentication: None,
            }
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Packet(ControlPacket),
    Bytes(Vec<u8>),
    Wait(u32),
    Excuse(u32),
    Disable,
    Enable,
    Reconfigure(u32, u32, NonZeroU8),
}

fn any_step(hears: bool) -> impl Strategy<Value = Step> {
    let intervals = || MIN_INTERVAL_MICROS..400_000;
    prop_oneof![
        8 => any_packet(hears).prop_map(Step::Packet),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
        4 => (0..500_000_u32).prop_map(Step::Wait),
        1 => any::<u32>().prop_map(Step::Excuse),
        1 => Just(Step::Disable),
        1 => Just(Step::Enable),
        1 => (intervals(), intervals(), any::<NonZeroU8>())
            .prop_map(|(tx, rx, multiplier)| Step::Reconfigure(tx, rx, multiplier)),
    ]
}

fn take(session: &mut Session, now: &mut Instant, step: Step) {
    match step {
        Step::Packet(packet) => {
            let _ = receive(session, *now, packet);
        }
        Step::Bytes(bytes) => {
            let _ = session.handle_packet(*now, &bytes, TTL);
        }
        Step::Wait(micros) => *now = *now + Duration::from_micros(micros.into()),
        Step::Excuse(micros) => session.excuse(Duration::from_micros(micros.into())),
        Step::Disable => session.disable(*now, AdministrativeReason::Operator),
        Step::Enable => session.enable(*now),
        Step::Reconfigure(tx, rx, detect_multiplier) => session.reconfigure(SessionConfig {
            desired_min_tx: Interval::from_micros(tx).unwrap(),
            required_min_rx: Interval::from_micros(rx).unwrap(),
            detect_multiplier,
            ..config()
        }),
    }
}

proptest! {
    #[test]
    fn nobody_who_does_not_hear_us_brings_the_session_up(
        steps in prop::collection::vec(any_step(false), 1..60),
    ) {
        let (mut session, mut now) = (session(), NOW);
        for step in steps {
            take(&mut session, &mut now, step);
            session.handle_timeout(now);
            prop_assert_ne!(session.state(), State::Up);
            prop_assert_eq!(session.poll_event(), None);
        }
    }

    #[test]
    fn whatever_happens_a_drained_session_is_due_later_and_never_sends_too_often(
        steps in prop::collection::vec(any_step(true), 1..60),
    ) {
        let (mut session, mut now) = (session(), NOW);
        let mut unscheduled: Vec<Instant> = Vec::new();
        let mut up = false;
        for step in steps {
            take(&mut session, &mut now, step);
            session.handle_timeout(now);
            let scheduled = session.periodic_at().is_some_and(|at| at <= now);
            for sent in drain(&mut session, now) {
                prop_assert!(!(sent.poll && sent.is_final));
                let slow = sent.state == State::Up || sent.desired_min_tx_micros >= SLOW_MICROS;
                prop_assert!(slow, "{:?}", sent);
                if sent.is_final || !scheduled {
                    unscheduled.push(now);
                }
            }
            prop_assert!(session.poll_timeout().is_none_or(|due| due > now));
            while let Some(event) = session.poll_event() {
                up = event == SessionEvent::Up;
            }
            prop_assert_eq!(up, session.state() == State::Up, "events lead to the state");
            prop_assert_eq!(session.status().up_since.is_some(), up);
        }
        let spaced = unscheduled.windows(2).all(|pair| pair[1].since(pair[0]) >= UNSCHEDULED_SPACING);
        prop_assert!(spaced, "{:?}", unscheduled);
    }
}
