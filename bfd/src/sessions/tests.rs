//! Whose a packet is, who is isolated from whom, and what an absent owner costs.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use proptest::prelude::*;

use super::*;
use crate::status::DownReason;
use crate::wire::{Diagnostic, State};

const TTL: u8 = 255;
/// Tenants, who all have the same addresses.
const A: u32 = 1;
const B: u32 = 2;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn at(millis: u64) -> Instant {
    Instant(millis * 1_000_000)
}

fn key(place: u32) -> SessionKey<u32> {
    SessionKey { place, local: "10.0.0.1".parse().unwrap(), peer: "10.0.0.9".parse().unwrap() }
}

fn arrival(place: u32) -> Arrival<u32> {
    Arrival { key: key(place), hops: Hops::Single, ttl: TTL }
}

fn config() -> SessionConfig {
    SessionConfig::new(Path::SingleHop)
}

fn table(places: &[u32]) -> Sessions<u32> {
    let mut sessions = Sessions::new(MAX_SESSIONS, 7);
    for place in places {
        sessions.open(at(0), key(*place), config()).unwrap();
    }
    sessions
}

/// What the neighbour sends.
fn packet(state: State, your_discriminator: Option<NonZeroU32>) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: NonZeroU32::new(0x2222).unwrap(),
        your_discriminator,
        desired_min_tx_micros: 100_000,
        required_min_rx_micros: 100_000,
        required_min_echo_rx_micros: 0,
        authentication: None,
    }
}

fn number(sessions: &Sessions<u32>, place: u32) -> NonZeroU32 {
    sessions.status(&key(place)).unwrap().local_discriminator
}

/// The neighbour in `place` says `state` to the session there.
fn hear(sessions: &mut Sessions<u32>, now: Instant, place: u32, state: State) {
    let packet = packet(state, Some(number(sessions, place)));
    sessions.handle_packet(now, &arrival(place), &packet.encode()).unwrap();
}

fn bring_up(sessions: &mut Sessions<u32>, now: Instant, place: u32) {
    hear(sessions, now, place, State::Down);
    hear(sessions, now, place, State::Up);
    assert_eq!(sessions.poll_event(), Some((key(place), SessionEvent::Up)));
}

type Event = (SessionKey<u32>, SessionEvent);

/// The rest of a turn: what was sent, and what was told.
fn turn(sessions: &mut Sessions<u32>, now: Instant) -> (Vec<Transmit<u32>>, Vec<Event>) {
    sessions.handle_timeout(now);
    let bound = sessions.len() * 2 + 1;
    let sent: Vec<_> = std::iter::from_fn(|| sessions.poll_transmit(now)).take(bound).collect();
    assert!(sent.len() < bound, "poll_transmit has no end");
    let told = std::iter::from_fn(|| sessions.poll_event()).collect();
    assert!(sessions.poll_timeout().is_none_or(|due| due > now));
    (sent, told)
}

fn state(sessions: &Sessions<u32>, place: u32) -> State {
    sessions.status(&key(place)).unwrap().state
}

const EXPIRED: SessionEvent = SessionEvent::Down(DownReason::DetectionTimeExpired);

#[test]
fn a_packet_without_your_discriminator_is_for_the_session_of_its_place_and_addresses() {
    let mut sessions = table(&[A, B]);
    let first = packet(State::Down, None).encode();
    sessions.handle_packet(at(1), &arrival(A), &first).unwrap();
    assert_eq!((state(&sessions, A), state(&sessions, B)), (State::Init, State::Down));
    let stranger = SessionKey { peer: "10.0.0.8".parse().unwrap(), ..key(A) };
    let elsewhere = SessionKey { local: "10.0.0.2".parse().unwrap(), ..key(A) };
    for key in [stranger, elsewhere, key(3)] {
        let arrival = Arrival { key, ..arrival(A) };
        assert_eq!(sessions.handle_packet(at(1), &arrival, &first), Err(Discard::UnknownPeer));
    }
    assert_eq!(sessions.counters().discards.of(Discard::UnknownPeer), 3);
}

#[test]
fn a_packet_of_one_place_never_reaches_a_session_of_another_even_with_its_discriminator() {
    let mut sessions = table(&[A, B]);
    bring_up(&mut sessions, at(0), B);
    turn(&mut sessions, at(100));
    let before = sessions.status(&key(B));
    let mut packet = packet(State::Down, Some(number(&sessions, B)));
    for state in State::ALL {
        for (poll, is_final) in [(false, false), (true, false), (false, true)] {
            packet = ControlPacket { state, poll, is_final, ..packet };
            let result = sessions.handle_packet(at(110), &arrival(A), &packet.encode());
            assert_eq!(result, Err(Discard::ForeignPlace));
        }
    }
    assert_eq!(sessions.status(&key(B)), before);
    assert_eq!(state(&sessions, A), State::Down);
    assert_eq!(sessions.counters().discards.of(Discard::ForeignPlace), 12);
    assert!(turn(&mut sessions, at(110)).1.is_empty());
}

#[test]
fn within_its_place_a_discriminator_finds_its_session_whatever_the_source() {
    let mut sessions = table(&[A]);
    let moved = SessionKey { peer: "10.0.0.77".parse().unwrap(), ..key(A) };
    let down = packet(State::Down, Some(number(&sessions, A))).encode();
    let arrival = Arrival { key: moved, ..arrival(A) };
    assert_eq!(sessions.handle_packet(at(1), &arrival, &down), Ok(()));
    let (sent, _) = turn(&mut sessions, at(1));
    assert_eq!(sent[0].key, key(A), "answers go where they are configured to");
}

#[test]
fn unknown_discriminators_ports_and_bytes_are_counted() {
    let mut sessions = table(&[A]);
    let unknown = packet(State::Up, NonZeroU32::new(number(&sessions, A).get() ^ 1)).encode();
    let result = sessions.handle_packet(at(1), &arrival(A), &unknown);
    assert_eq!(result, Err(Discard::UnknownDiscriminator));
    let result = sessions.handle_packet(at(1), &arrival(A), &[0x20; 9]);
    assert_eq!(result, Err(Discard::Truncated));
    assert_eq!(sessions.counters().discards.total(), 2);
    let down = packet(State::Down, None).encode();
    let other_port = Arrival { hops: Hops::Multiple, ..arrival(A) };
    assert_eq!(sessions.handle_packet(at(1), &other_port, &down), Err(Discard::WrongPort));
    let routed = Arrival { ttl: 254, ..arrival(A) };
    assert_eq!(sessions.handle_packet(at(1), &routed, &down), Err(Discard::Ttl));
    let discards = sessions.status(&key(A)).unwrap().counters.discards;
    assert_eq!((discards.of(Discard::WrongPort), discards.of(Discard::Ttl)), (1, 1));
    assert_eq!((discards.total(), state(&sessions, A)), (2, State::Down));
}

#[test]
fn ports_are_those_of_the_rfcs() {
    assert_eq!((Hops::Single.port(), Hops::Multiple.port()), (3784, 4784));
    for port in 0..=u16::MAX {
        assert!(Hops::from_port(port).is_none_or(|hops| hops.port() == port));
    }
    let mut sessions = Sessions::new(1, 7);
    let multihop = SessionConfig::new(Path::MultiHop { minimum_ttl: 64 });
    sessions.open(at(0), key(A), multihop).unwrap();
    let mut ports = BTreeSet::new();
    for second in 1..20 {
        for sent in turn(&mut sessions, at(second * 1000)).0 {
            assert_eq!(sent.hops, Hops::Multiple);
            ports.insert(sent.source_port);
        }
    }
    assert!(ports.len() == 1 && ports.first().is_some_and(|port| *port >= 49_152));
}

#[test]
fn discriminators_are_unique_not_zero_and_repeat_with_their_seed_only() {
    let numbers = |seed| {
        let mut sessions = Sessions::new(3000, seed);
        for place in 0..3000 {
            sessions.open(at(0), key(place), config()).unwrap();
        }
        (0..3000).map(|place| number(&sessions, place)).collect::<Vec<_>>()
    };
    assert_eq!(numbers(1), numbers(1));
    assert_ne!(numbers(1), numbers(2));
    assert_eq!(numbers(1).into_iter().collect::<BTreeSet<_>>().len(), 3000);
}

#[test]
fn a_full_table_refuses_and_sessions_being_closed_give_way() {
    let mut sessions = Sessions::new(2, 7);
    sessions.open(at(0), key(A), config()).unwrap();
    sessions.open(at(0), key(B), config()).unwrap();
    assert_eq!(sessions.open(at(0), key(A), config()), Err(OpenError::Exists));
    assert_eq!(sessions.open(at(0), key(3), config()), Err(OpenError::Full { limit: 2 }));
    assert!(sessions.close(at(1), &key(B)));
    assert_eq!(sessions.open(at(1), key(3), config()), Ok(()));
    assert_eq!((sessions.len(), sessions.status(&key(B))), (2, None));
}

#[test]
fn a_closed_session_says_goodbye_and_goes() {
    let mut sessions = table(&[A]);
    bring_up(&mut sessions, at(0), A);
    turn(&mut sessions, at(100));
    sessions.close(at(120), &key(A));
    let (sent, told) = turn(&mut sessions, at(120));
    assert_eq!(told, [(key(A), SessionEvent::Down(DownReason::Administrative))]);
    let goodbye = ControlPacket::decode(&sent[0].payload).unwrap();
    assert_eq!(goodbye.state, State::AdminDown);
    assert_eq!(goodbye.diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
    assert!(sessions.enable(at(130), &key(A)));
    assert_eq!(state(&sessions, A), State::AdminDown, "what is being closed stays so");
    let mut now = at(130);
    while let Some(due) = sessions.poll_timeout() {
        now = due;
        turn(&mut sessions, now);
    }
    assert!(now.since(at(120)) >= millis(3000) && sessions.is_empty());
}

#[test]
fn a_session_opened_again_while_it_is_being_closed_goes_on() {
    let mut sessions = table(&[A]);
    bring_up(&mut sessions, at(0), A);
    let before = number(&sessions, A);
    sessions.close(at(1), &key(A));
    sessions.open(at(2), key(A), config()).unwrap();
    assert_eq!((state(&sessions, A), number(&sessions, A)), (State::Down, before));
    turn(&mut sessions, at(10_000));
    assert_eq!(sessions.len(), 1);
}

#[test]
fn a_removed_session_leaves_nothing() {
    let mut sessions = table(&[A, B]);
    bring_up(&mut sessions, at(0), A);
    hear(&mut sessions, at(1), A, State::Down);
    assert!(sessions.remove(&key(A)) && sessions.remove(&key(B)));
    assert!(!sessions.remove(&key(A)));
    assert_eq!((sessions.poll_timeout(), sessions.poll_event()), (None, None));
    assert_eq!(turn(&mut sessions, at(500)), (vec![], vec![]));
}

#[test]
fn an_owner_that_was_away_hands_in_what_waited_and_no_session_falls() {
    let mut sessions = table(&[A, B]);
    for place in [A, B] {
        bring_up(&mut sessions, at(0), place);
    }
    turn(&mut sessions, at(100));
    // The thread does not run for 500 ms: more than the detection time of 300 ms. What arrived
    // meanwhile waited, and comes first.
    for place in [A, B] {
        hear(&mut sessions, at(600), place, State::Up);
    }
    assert_eq!(turn(&mut sessions, at(600)).1, []);
    assert_eq!((state(&sessions, A), state(&sessions, B)), (State::Up, State::Up));
    assert_eq!(sessions.poll_timeout().map(|due| due > at(600)), Some(true));
}

#[test]
fn packets_lost_while_the_owner_was_away_take_no_session_down() {
    let mut sessions = table(&[A]);
    bring_up(&mut sessions, at(0), A);
    turn(&mut sessions, at(100));
    let promised = sessions.poll_timeout().unwrap();
    assert!(promised <= at(200));
    let before = *sessions.counters();
    // Away for 500 ms, and nothing waited: it was lost, or is with a thread that was away too.
    assert_eq!(turn(&mut sessions, at(600)).1, []);
    assert_eq!(sessions.counters().absences, before.absences + 1);
    let away = sessions.counters().absent_micros - before.absent_micros;
    assert_eq!(u128::from(away), at(600).since(promised).as_micros());
    // The neighbour's next packet takes its interval to come.
    hear(&mut sessions, at(690), A, State::Up);
    assert_eq!(turn(&mut sessions, at(690)).1, []);
    assert_eq!(state(&sessions, A), State::Up);
}

#[test]
fn a_failure_is_seen_within_a_detection_time_of_coming_back() {
    for away_millis in [50, 250, 450, 10_000] {
        let mut sessions = table(&[A]);
        bring_up(&mut sessions, at(0), A);
        turn(&mut sessions, at(100));
        // Last heard at 0; the owner is away once, then punctual.
        let back = at(100 + away_millis);
        let mut now = back;
        let mut told = turn(&mut sessions, now).1;
        while told.is_empty() {
            now = sessions.poll_timeout().unwrap();
            told = turn(&mut sessions, now).1;
        }
        assert_eq!(told, [(key(A), EXPIRED)]);
        assert!(now <= back + millis(300), "{away_millis}: {now:?}");
        assert!(now >= at(300), "{away_millis}: {now:?}");
    }
}

#[test]
fn an_owner_that_is_always_late_still_sees_a_failure_within_twice_the_detection_time() {
    for late_millis in [11, 30, 90] {
        let mut sessions = table(&[A]);
        bring_up(&mut sessions, at(0), A);
        let mut now = at(100);
        let mut told = turn(&mut sessions, now).1;
        while told.is_empty() {
            now = sessions.poll_timeout().unwrap() + millis(late_millis);
            told = turn(&mut sessions, now).1;
        }
        assert_eq!(told, [(key(A), EXPIRED)]);
        assert!(now.since(at(0)) <= millis(600 + late_millis), "{late_millis}: {now:?}");
    }
}

#[test]
fn a_punctual_owner_sees_a_failure_after_exactly_the_detection_time() {
    let mut sessions = table(&[A]);
    bring_up(&mut sessions, at(0), A);
    let mut now = at(10);
    let mut told = turn(&mut sessions, now).1;
    while told.is_empty() {
        now = sessions.poll_timeout().unwrap();
        told = turn(&mut sessions, now).1;
    }
    assert_eq!((now, sessions.counters().absences), (at(300), 0));
}

#[test]
fn a_wait_that_nobody_promised_to_end_is_no_absence() {
    let mut sessions = Sessions::new(1, 7);
    assert_eq!(sessions.poll_timeout(), None);
    sessions.open(at(50_000), key(A), config()).unwrap();
    turn(&mut sessions, at(50_000));
    assert_eq!(sessions.counters().absences, 0);
}

#[test]
fn thousands_of_sessions_come_up_in_one_table_and_each_hears_its_own_neighbour() {
    const COUNT: u32 = 2000;
    let places: Vec<u32> = (0..COUNT).collect();
    let mut sides = [table(&places), Sessions::new(MAX_SESSIONS, 8)];
    for place in &places {
        let reversed =
            SessionKey { local: key(*place).peer, peer: key(*place).local, ..key(*place) };
        sides[1].open(at(0), reversed, config()).unwrap();
    }
    for step in 0..150 {
        let now = at(step * 10);
        for from in 0..2 {
            for sent in turn(&mut sides[from], now).0 {
                let key = SessionKey { local: sent.key.peer, peer: sent.key.local, ..sent.key };
                let arrival = Arrival { key, hops: sent.hops, ttl: TTL };
                sides[1 - from].handle_packet(now, &arrival, &sent.payload).unwrap();
            }
        }
    }
    for side in &sides {
        assert!(side.iter().all(|(_, session)| session.state() == State::Up));
        assert_eq!(side.counters(), &SessionsCounters::default());
    }
    // What starts together does not stay together: no turn of 10 ms sends all at once.
    let busiest = (150..170).map(|step| turn(&mut sides[0], at(step * 10)).0.len()).max().unwrap();
    assert!(busiest < COUNT as usize / 2, "{busiest}");
}

#[derive(Clone, Debug)]
enum Step {
    Open(u32),
    Close(u32),
    Remove(u32),
    Disable(u32),
    Enable(u32),
    /// From a place, with the discriminator of the session of another, if any.
    Packet {
        from: u32,
        named: Option<u32>,
        bits: [u8; 4],
    },
    Bytes(u32, Vec<u8>),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let place = || 0..4_u32;
    prop_oneof![
        2 => place().prop_map(Step::Open),
        1 => place().prop_map(Step::Close),
        1 => place().prop_map(Step::Remove),
        1 => place().prop_map(Step::Disable),
        1 => place().prop_map(Step::Enable),
        8 => (place(), prop::option::of(place()), any::<[u8; 4]>())
            .prop_map(|(from, named, bits)| Step::Packet { from, named, bits }),
        1 => (place(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(place, bytes)| Step::Bytes(place, bytes)),
        4 => (0..700_u64).prop_map(Step::Wait),
    ]
}

fn arbitrary(bits: [u8; 4], your_discriminator: Option<NonZeroU32>) -> Vec<u8> {
    let [state, flags, multiplier, scale] = bits;
    let mut bytes = packet(State::ALL[usize::from(state % 4)], your_discriminator).encode();
    bytes[1] |= flags & 0b11_1010;
    bytes[2] = multiplier;
    bytes[12..16].copy_from_slice(&(u32::from(scale) * 1000).to_be_bytes());
    bytes[16..20].copy_from_slice(&(u32::from(scale / 2) * 1000).to_be_bytes());
    bytes.to_vec()
}

proptest! {
    #[test]
    fn what_happens_to_one_tenants_session_does_not_depend_on_the_others(
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        // The same steps with and without those of the other places: place 0 must not differ.
        let alone = |place: u32| place == 0;
        let run = |all: bool| {
            let mut sessions = table(&[0, 1, 2]);
            let (mut now, mut seen) = (at(0), Vec::new());
            for step in &steps {
                match step {
                    Step::Wait(wait) => {
                        // In small steps: the owner is punctual.
                        for _ in 0..wait / 5 {
                            now = now + millis(5);
                            let (sent, told) = turn(&mut sessions, now);
                            let mine = sent.into_iter().filter(|sent| sent.key.place == 0);
                            seen.extend(mine.map(|sent| format!("{now:?} {sent:?}")));
                            let mine = told.into_iter().filter(|(key, _)| key.place == 0);
                            seen.extend(mine.map(|event| format!("{now:?} {event:?}")));
                        }
                    }
                    Step::Packet { from, named, bits } => {
                        let named = named.map(|place| sessions.status(&key(place)));
                        let your_discriminator = match named {
                            Some(Some(status)) => Some(status.local_discriminator),
                            Some(None) => continue,
                            None => None,
                        };
                        let bytes = arbitrary(*bits, your_discriminator);
                        if all || alone(*from) {
                            let result = sessions.handle_packet(now, &arrival(*from), &bytes);
                            if alone(*from) && your_discriminator.is_none() {
                                seen.push(format!("{now:?} {result:?}"));
                            }
                        }
                    }
                    Step::Bytes(place, bytes) if all || alone(*place) => {
                        let _ = sessions.handle_packet(now, &arrival(*place), bytes);
                    }
                    Step::Disable(place) if all || alone(*place) => {
                        sessions.disable(now, &key(*place), AdministrativeReason::PathDown);
                    }
                    Step::Enable(place) if all || alone(*place) => {
                        sessions.enable(now, &key(*place));
                    }
                    // Opening draws numbers, which other sessions' later ones follow from.
                    Step::Close(place) if all && !alone(*place) => {
                        sessions.close(now, &key(*place));
                    }
                    Step::Remove(place) if all && !alone(*place) => {
                        sessions.remove(&key(*place));
                    }
                    Step::Open(place) if all && !alone(*place) => {
                        let _ = sessions.open(now, key(*place), config());
                    }
                    Step::Bytes(..) | Step::Disable(_) | Step::Enable(_) | Step::Close(_)
                    | Step::Remove(_) | Step::Open(_) => {}
                }
            }
            (seen, sessions.status(&key(0)))
        };
        prop_assert_eq!(run(true), run(false));
    }
}
