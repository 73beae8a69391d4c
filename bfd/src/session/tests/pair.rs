//! Two sessions over a network that delays, loses and reorders, each with a clock of its own.

use std::collections::BTreeMap;

use super::*;

/// A run takes no more steps than this for a second of virtual time.
const STEPS_PER_SECOND: u64 = 500;

/// A clock that is wrong by an offset and a rate.
#[derive(Clone, Copy)]
struct Clock {
    offset: u64,
    parts_per_million: i64,
}

impl Clock {
    fn read(self, nanos: u64) -> Instant {
        let drift = nanos as i64 / 1_000_000 * self.parts_per_million;
        Instant(self.offset + nanos.saturating_add_signed(drift))
    }

    /// The first true time, from `from`, that this clock does not show as earlier than `local`.
    fn reaches(self, local: Instant, from: u64) -> u64 {
        let (mut low, mut high) = (from, from + 200_000_000_000);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.read(middle) < local { low = middle + 1 } else { high = middle }
        }
        low
    }
}

struct Side {
    session: Session,
    clock: Clock,
    /// With the true time in nanoseconds.
    events: Vec<(u64, SessionEvent)>,
}

struct Pair {
    nanos: u64,
    sides: [Side; 2],
    /// By arrival and number: to whom, what.
    flight: BTreeMap<(u64, u64), (usize, [u8; PACKET_LENGTH])>,
    sent: u64,
    chance: Chance,
    /// Delay of a packet in microseconds, at least and at most.
    delay: (u32, u32),
    /// Of a thousand packets so many are lost.
    lost: u32,
    /// Which direction is cut: to side 0, to side 1.
    cut: [bool; 2],
}

impl Pair {
    fn new(configs: [SessionConfig; 2], seed: u64) -> Self {
        let clocks = [(0, 0), (77_000_000_123, 0)];
        let side = |index: usize| {
            let clock = Clock { offset: clocks[index].0, parts_per_million: clocks[index].1 };
            let discriminator = [OURS, THEIRS][index];
            let seed = seed * 2 + index as u64;
            let session = Session::new(configs[index], discriminator, clock.read(0), seed);
            Side { session, clock, events: Vec::new() }
        };
        Self {
            nanos: 0,
            sides: [side(0), side(1)],
            flight: BTreeMap::new(),
            sent: 0,
            chance: Chance::new(seed),
            delay: (1_000, 1_000),
            lost: 0,
            cut: [false; 2],
        }
    }

    /// The example of the requirements: 3 times 100 ms.
    fn usual(seed: u64) -> Self {
        Self::new([config(), config()], seed)
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.nanos + time.as_nanos() as u64;
        let mut left = STEPS_PER_SECOND * (time.as_secs() + 1);
        while let Some(next) = self.next().filter(|next| *next <= end) {
            assert!(left > 0, "a livelock at {next} ns");
            left -= 1;
            self.nanos = next;
            self.step();
        }
        self.nanos = end;
    }

    fn next(&self) -> Option<u64> {
        let due = self
            .sides
            .iter()
            .filter_map(|side| Some(side.clock.reaches(side.session.poll_timeout()?, self.nanos)));
        due.chain(self.flight.keys().next().map(|(arrival, _)| *arrival)).min()
    }

    fn step(&mut self) {
        while let Some(entry) =
            self.flight.first_entry().filter(|entry| entry.key().0 <= self.nanos)
        {
            let (to, bytes) = entry.remove();
            let side = &mut self.sides[to];
            let result = side.session.handle_packet(side.clock.read(self.nanos), &bytes, TTL);
            assert!(matches!(result, Ok(()) | Err(Discard::AdministrativelyDown)), "{result:?}");
        }
        for index in 0..2 {
            let now = self.sides[index].clock.read(self.nanos);
            self.sides[index].session.handle_timeout(now);
            while let Some(bytes) = self.sides[index].session.poll_transmit(now) {
                self.send(1 - index, bytes);
            }
            let side = &mut self.sides[index];
            while let Some(event) = side.session.poll_event() {
                side.events.push((self.nanos, event));
            }
        }
    }

    fn send(&mut self, to: usize, bytes: [u8; PACKET_LENGTH]) {
        self.sent += 1;
        if self.cut[to] || self.chance.between(0, 999) < self.lost {
            return;
        }
        let delay = self.chance.between(self.delay.0, self.delay.1);
        self.flight.insert((self.nanos + u64::from(delay) * 1000, self.sent), (to, bytes));
    }

    fn states(&self) -> [State; 2] {
        [self.sides[0].session.state(), self.sides[1].session.state()]
    }

    fn events(&mut self, index: usize) -> Vec<(u64, SessionEvent)> {
        std::mem::take(&mut self.sides[index].events)
    }
}

const UP: [State; 2] = [State::Up; 2];

#[test]
fn two_sides_come_up_and_agree_on_the_intervals() {
    for roles in
        [[Role::Active, Role::Active], [Role::Active, Role::Passive], [Role::Passive, Role::Active]]
    {
        let configs = roles.map(|role| SessionConfig { role, ..config() });
        let mut pair = Pair::new(configs, 3);
        pair.run_for(millis(400));
        assert_eq!(pair.states(), UP, "{roles:?}");
        pair.run_for(millis(2000));
        for side in &pair.sides {
            let status = side.session.status();
            assert_eq!(status.transmit_interval, Some(millis(100)));
            assert_eq!(status.detection_time, Some(millis(300)));
            assert_eq!(side.events.len(), 1);
        }
    }
}

#[test]
fn two_passive_sides_never_speak() {
    let passive = SessionConfig { role: Role::Passive, ..config() };
    let mut pair = Pair::new([passive; 2], 3);
    pair.run_for(millis(10_000));
    assert_eq!((pair.sent, pair.states()), (0, [State::Down; 2]));
}

#[test]
fn three_times_100_ms_sees_a_cut_within_300_ms_and_not_before_200() {
    for seed in 0..50 {
        let mut pair = Pair::usual(seed);
        pair.run_for(millis(3000 + seed * 7));
        assert_eq!(pair.states(), UP);
        for index in 0..2 {
            pair.events(index);
        }
        let cut = pair.nanos;
        pair.cut = [true; 2];
        pair.run_for(millis(301));
        assert_eq!(pair.states(), [State::Down; 2], "seed {seed}");
        for index in 0..2 {
            let [(at, event)] = pair.events(index)[..] else { panic!("down once") };
            assert_eq!(event, SessionEvent::Down(DownReason::DetectionTimeExpired));
            // The last packet left up to 100 ms before the cut, and takes 1 ms.
            let after = Duration::from_nanos(at - cut);
            assert!(after >= millis(200) && after <= millis(301), "seed {seed}: {after:?}");
        }
    }
}

#[test]
fn a_cut_in_one_direction_takes_both_sides_down() {
    let mut pair = Pair::usual(9);
    pair.run_for(millis(3000));
    let (_, _) = (pair.events(0), pair.events(1));
    pair.cut = [false, true];
    pair.run_for(millis(320));
    let down = |reason| SessionEvent::Down(reason);
    let unheard = DownReason::NeighborDown(Diagnostic::DETECTION_TIME_EXPIRED);
    assert_eq!(pair.events(0)[0].1, down(unheard));
    assert_eq!(pair.events(1)[0].1, down(DownReason::DetectionTimeExpired));
    pair.cut = [false; 2];
    pair.run_for(millis(2000));
    assert_eq!(pair.states(), UP);
}

#[test]
fn an_hour_without_loss_has_no_false_alarm_with_clocks_that_differ_by_200_ppm() {
    for rate in [-200, 200] {
        for multiplier in [1, 2, 3] {
            let detect_multiplier = NonZeroU8::new(multiplier).unwrap();
            let config = SessionConfig { detect_multiplier, ..config() };
            let mut pair = Pair::new([config; 2], 4);
            pair.sides[1].clock.parts_per_million = rate;
            // What a queue adds and takes away must fit into what jitter leaves with multiplier 1.
            pair.delay = (1_000, 5_000);
            pair.run_for(Duration::from_secs(600));
            assert_eq!(pair.states(), UP);
            assert_eq!((pair.events(0).len(), pair.events(1).len()), (1, 1), "{multiplier}");
        }
    }
}

#[test]
fn sessions_come_up_over_a_network_that_loses_a_third_and_reorders() {
    for seed in 0..20 {
        let mut pair = Pair::usual(seed);
        (pair.lost, pair.delay) = (330, (1_000, 150_000));
        pair.run_for(Duration::from_secs(60));
        // Every alarm is told, and both are told in turns.
        for index in 0..2 {
            let events = pair.events(index);
            assert!(!events.is_empty(), "seed {seed}");
            let ups = events
                .iter()
                .enumerate()
                .all(|(number, (_, event))| (number % 2 == 0) == (*event == SessionEvent::Up));
            assert!(ups, "seed {seed}: {events:?}");
        }
        pair.lost = 0;
        pair.run_for(Duration::from_secs(10));
        assert_eq!(pair.states(), UP, "seed {seed}");
    }
}

#[test]
fn five_percent_loss_is_borne_by_a_multiplier_of_5() {
    let config = SessionConfig { detect_multiplier: NonZeroU8::new(5).unwrap(), ..config() };
    let mut pair = Pair::new([config; 2], 8);
    pair.lost = 50;
    pair.run_for(Duration::from_secs(120));
    assert_eq!((pair.events(0).len(), pair.events(1).len()), (1, 1));
}

#[test]
fn intervals_change_while_up_without_an_alarm_also_when_packets_are_lost() {
    for seed in 0..20 {
        let lossy = SessionConfig { detect_multiplier: NonZeroU8::new(8).unwrap(), ..config() };
        let mut pair = Pair::new([lossy; 2], seed);
        (pair.lost, pair.delay) = (100, (1_000, 60_000));
        pair.run_for(millis(5000));
        let (_, _) = (pair.events(0), pair.events(1));
        let mut random = Chance::new(seed);
        for _ in 0..40 {
            for index in 0..2 {
                let [tx, rx] = [20, 20].map(|least| interval(random.between(least, 900)));
                let session = &mut pair.sides[index].session;
                session.reconfigure(SessionConfig {
                    desired_min_tx: tx,
                    required_min_rx: rx,
                    ..lossy
                });
            }
            pair.run_for(millis(u64::from(random.between(0, 3000))));
        }
        assert_eq!((pair.events(0), pair.events(1)), (vec![], vec![]), "seed {seed}");
        pair.run_for(Duration::from_secs(20));
        for index in 0..2 {
            let (mine, other) = (&pair.sides[index].session, &pair.sides[1 - index].session);
            let wished = mine.config().desired_min_tx.max(other.config().required_min_rx);
            let interval = Duration::from_micros(wished.micros().into());
            assert_eq!(mine.status().transmit_interval, Some(interval), "seed {seed}");
            assert_eq!(other.status().detection_time, Some(interval * 8), "seed {seed}");
        }
    }
}

#[test]
fn a_side_taken_down_by_command_is_followed_at_once_and_comes_back_when_allowed() {
    let mut pair = Pair::usual(2);
    pair.run_for(millis(2000));
    let (_, _) = (pair.events(0), pair.events(1));
    let now = pair.sides[0].clock.read(pair.nanos);
    pair.sides[0].session.disable(now, AdministrativeReason::Operator);
    pair.run_for(millis(15));
    let told = DownReason::NeighborAdminDown(Diagnostic::ADMINISTRATIVELY_DOWN);
    assert_eq!(pair.events(1)[0].1, SessionEvent::Down(told));
    pair.run_for(millis(8000));
    assert_eq!(pair.states(), [State::AdminDown, State::Down]);
    let now = pair.sides[0].clock.read(pair.nanos);
    pair.sides[0].session.enable(now);
    pair.run_for(millis(2000));
    assert_eq!(pair.states(), UP);
}
