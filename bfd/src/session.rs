//! One session: the state variables and procedures of section 6.8.
//!
//! Drain it in this order: [`handle_packet`](Session::handle_packet) for every packet that has
//! arrived; then [`handle_timeout`](Session::handle_timeout), when
//! [`poll_timeout`](Session::poll_timeout) has passed; then
//! [`poll_transmit`](Session::poll_transmit) and [`poll_event`](Session::poll_event) until they
//! have nothing. [`Sessions`](crate::Sessions) does so for many, and is what the gateway uses.

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use nvgate_model::Instant;

use crate::chance::Chance;
use crate::config::{AdministrativeReason, MIN_INTERVAL_MICROS, Role, SessionConfig};
use crate::discard::Discard;
use crate::status::{DownReason, PendingEvents, SessionCounters, SessionEvent, SessionStatus};
use crate::wire::{ControlPacket, Diagnostic, PACKET_LENGTH, State};

mod timing;
mod transition;

#[cfg(test)]
mod tests;

use timing::{Intervals, Timing};
use transition::next_state;

/// Between two packets that are sent out of schedule: answers to Poll, and changes. No more than
/// any interval that is advertised, as 6.8.7 asks of such a limit.
pub const UNSCHEDULED_SPACING: Duration = Duration::from_micros(MIN_INTERVAL_MICROS as u64);
/// A session that begins sends its first packet within this time, at random, so that thousands
/// that are opened together do not send together.
pub const START_SPREAD: Duration = Duration::from_millis(100);
/// The longest that a session goes on to announce that it was taken down. The detection time that
/// the neighbour could ask for has no bound.
pub const MAX_HOLD: Duration = Duration::from_secs(60);

/// Desired Min TX Interval while not Up, at least (6.8.3), in microseconds.
const SLOW_MICROS: u32 = 1_000_000;
/// Required Min RX Interval of a neighbour that has not been heard (6.8.1), in microseconds.
const UNHEARD_MIN_RX_MICROS: u32 = 1;

/// Jitter: thousandths of the interval (6.8.7).
const JITTER_LOW: u32 = 750;
const JITTER_HIGH: u32 = 1000;
/// With a multiplier of 1 the neighbour must not expire before the next packet.
const JITTER_HIGH_SINGLE: u32 = 900;

/// What the neighbour said last.
#[derive(Clone, Copy, Debug)]
struct Remote {
    discriminator: Option<NonZeroU32>,
    state: State,
    diagnostic: Diagnostic,
    demand: bool,
    multiplier: NonZeroU8,
    desired_min_tx_micros: u32,
    required_min_rx_micros: u32,
}

impl Remote {
    const UNKNOWN: Self = Self {
        discriminator: None,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        demand: false,
        multiplier: NonZeroU8::MIN,
        desired_min_tx_micros: SLOW_MICROS,
        required_min_rx_micros: UNHEARD_MIN_RX_MICROS,
    };

    const fn of(packet: &ControlPacket) -> Self {
        Self {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            demand: packet.demand,
            multiplier: packet.detect_multiplier,
            desired_min_tx_micros: packet.desired_min_tx_micros,
            required_min_rx_micros: packet.required_min_rx_micros,
        }
    }
}

/// Our own absences during one silence of the neighbour.
#[derive(Clone, Copy, Debug)]
struct Absence {
    together: Duration,
    longest: Duration,
}

impl Absence {
    const NONE: Self = Self { together: Duration::ZERO, longest: Duration::ZERO };

    /// How far they put detection off. Many add up to no more than one detection time, so that who
    /// is always late sees a failure too; one that was longer is excused whole.
    fn excused(self, detection_time: Duration) -> Duration {
        self.together.min(detection_time.max(self.longest))
    }
}

/// A session with one neighbour. Belongs to one thread at a time.
#[derive(Clone, Debug)]
pub struct Session {
    config: SessionConfig,
    discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    timing: Timing,
    /// When the neighbour was last heard, if it has not been forgotten since.
    heard: Option<Instant>,
    /// How much of the silence since then was our own absence.
    absence: Absence,
    /// When the last periodic packet left, or a change that took its place.
    sent: Option<Instant>,
    /// When the first packet may leave.
    start: Instant,
    /// The part of the interval after which the next periodic packet leaves, in thousandths.
    jitter: u32,
    /// A Poll waits for its answer.
    final_due: bool,
    /// What packets say has changed since the last one.
    changed_due: bool,
    /// Before then no packet leaves out of schedule.
    unscheduled_from: Instant,
    /// In AdminDown: until when that is announced, if it still is.
    hold: Option<Instant>,
    chance: Chance,
    events: PendingEvents,
    up_since: Option<Instant>,
    changed: Instant,
    last_down: Option<DownReason>,
    counters: SessionCounters,
}

impl Session {
    /// A session that is Down and has not spoken. The discriminator is unique among the sessions of
    /// the system (6.3) and better not guessable; the seed decides the jitter.
    #[must_use]
    pub fn new(config: SessionConfig, discriminator: NonZeroU32, now: Instant, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let delay = chance.between(0, START_SPREAD.as_micros() as u32);
        Self {
            config,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNKNOWN,
            timing: Timing::new(wanted_intervals(&config, State::Down)),
            heard: None,
            absence: Absence::NONE,
            sent: None,
            start: now + Duration::from_micros(u64::from(delay)),
            jitter: JITTER_LOW,
            final_due: false,
            changed_due: false,
            unscheduled_from: Instant(0),
            hold: None,
            chance,
            events: PendingEvents::default(),
            up_since: None,
            changed: now,
            last_down: None,
            counters: SessionCounters::default(),
        }
    }

    /// Takes a UDP payload that arrived with this TTL or hop limit, by the rules of 6.8.6.
    ///
    /// # Errors
    ///
    /// Why it was discarded; already counted.
    pub fn handle_packet(&mut self, now: Instant, payload: &[u8], ttl: u8) -> Result<(), Discard> {
        let packet = ControlPacket::decode(payload);
        let result = packet.and_then(|packet| self.receive(now, &packet, ttl));
        result.inspect_err(|reason| self.counters.discards.count(*reason))
    }

    /// Takes a packet that was decoded before; counted like any.
    pub(crate) fn handle_decoded(
        &mut self,
        now: Instant,
        packet: &ControlPacket,
        ttl: u8,
    ) -> Result<(), Discard> {
        let result = self.receive(now, packet, ttl);
        result.inspect_err(|reason| self.counters.discards.count(*reason))
    }

    fn receive(&mut self, now: Instant, packet: &ControlPacket, ttl: u8) -> Result<(), Discard> {
        if packet.your_discriminator.is_some_and(|yours| yours != self.discriminator) {
            return Err(Discard::UnknownDiscriminator);
        }
        if !self.config.path.admits(ttl) {
            return Err(Discard::Ttl);
        }
        if packet.authentication.is_some() {
            return Err(Discard::Authentication);
        }
        self.remote = Remote::of(packet);
        self.timing.handle_packet(now, packet.is_final);
        // Also in AdminDown, where it only means that the neighbour need not be forgotten yet.
        self.heard = Some(now);
        self.absence = Absence::NONE;
        if self.state == State::AdminDown {
            return Err(Discard::AdministrativelyDown);
        }
        self.counters.packets_in = self.counters.packets_in.saturating_add(1);
        match (self.state, next_state(self.state, packet.state)) {
            (before, after) if before == after => {}
            (_, State::Down) => self.fall(
                now,
                Diagnostic::NEIGHBOR_SIGNALED_DOWN,
                match packet.state {
                    State::AdminDown => DownReason::NeighborAdminDown(packet.diagnostic),
                    State::Down | State::Init | State::Up => {
                        DownReason::NeighborDown(packet.diagnostic)
                    }
                },
            ),
            (_, after @ (State::AdminDown | State::Init | State::Up)) => self.enter(now, after),
        }
        self.final_due |= packet.poll;
        Ok(())
    }

    /// Does what time has made due; harmless when called early. Every packet that had arrived by
    /// `now` must have been handed in before, or its neighbour may be taken for silent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.detection_deadline().is_some_and(|deadline| deadline <= now) {
            self.handle_silence(now);
        }
        if self.hold.is_some_and(|until| until <= now) {
            self.hold = None;
        }
        self.timing.handle_timeout(now);
    }

    /// The neighbour is forgotten (6.8.1, 6.8.18), and the session Down if it was not (6.8.4).
    fn handle_silence(&mut self, now: Instant) {
        self.remote = Remote::UNKNOWN;
        self.heard = None;
        self.absence = Absence::NONE;
        self.final_due = false;
        match self.state {
            State::Init | State::Up => {
                let reason = DownReason::DetectionTimeExpired;
                self.fall(now, Diagnostic::DETECTION_TIME_EXPIRED, reason);
            }
            State::AdminDown | State::Down => {}
        }
    }

    /// Says that nobody was there to see packets for so long, up to now: that time is no silence of
    /// the neighbour.
    pub(crate) fn excuse(&mut self, absence: Duration) {
        if self.heard.is_some() {
            self.absence.together = self.absence.together.saturating_add(absence);
            self.absence.longest = self.absence.longest.max(absence);
            self.counters.excused = self.counters.excused.saturating_add(1);
        }
    }

    /// The next packet that is due, to be sent with a TTL or hop limit of 255.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<[u8; PACKET_LENGTH]> {
        self.transmit_at().filter(|at| *at <= now)?;
        let is_final = self.final_due && self.unscheduled_from <= now;
        let scheduled = self.periodic_at().is_some_and(|at| at <= now);
        let poll = if is_final {
            false
        } else {
            self.sent = Some(now);
            self.jitter = self.chance.between(JITTER_LOW, self.jitter_high());
            self.timing.handle_periodic()
        };
        if is_final || !scheduled {
            self.unscheduled_from = now + UNSCHEDULED_SPACING;
        }
        self.final_due &= !is_final;
        self.changed_due = false;
        self.counters.packets_out = self.counters.packets_out.saturating_add(1);
        Some(self.contents(poll, is_final).encode())
    }

    fn contents(&self, poll: bool, is_final: bool) -> ControlPacket {
        let advertised = self.timing.advertised();
        ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll,
            is_final,
            control_plane_independent: false,
            demand: false,
            detect_multiplier: self.config.detect_multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx_micros: advertised.transmit,
            required_min_rx_micros: advertised.receive,
            required_min_echo_rx_micros: 0,
            authentication: None,
        }
    }

    /// When [`poll_transmit`](Self::poll_transmit) has the next packet.
    pub(crate) fn transmit_at(&self) -> Option<Instant> {
        let answer = self.final_due.then_some(self.unscheduled_from);
        let tells_change = self.changed_due && self.may_send() && !self.is_silence_wanted();
        let change = tells_change.then_some(self.unscheduled_from);
        [answer, change, self.periodic_at()].into_iter().flatten().min()
    }

    /// When the next periodic packet leaves, if any does (6.8.7).
    fn periodic_at(&self) -> Option<Instant> {
        let demanded = self.is_demand_active() && !self.timing.is_polling();
        if !self.may_send() || self.is_silence_wanted() || demanded {
            return None;
        }
        let Some(sent) = self.sent else { return Some(self.start) };
        let thousandths = u64::from(self.jitter.min(self.jitter_high()));
        // Microseconds times thousandths are nanoseconds.
        let nanos = u64::from(self.transmit_interval_micros()) * thousandths;
        Some(sent + Duration::from_nanos(nanos))
    }

    const fn jitter_high(&self) -> u32 {
        match self.config.detect_multiplier.get() {
            1 => JITTER_HIGH_SINGLE,
            _ => JITTER_HIGH,
        }
    }

    /// Whether packets may leave at all: a passive side waits, an announced AdminDown ends.
    fn may_send(&self) -> bool {
        let waits = self.config.role == Role::Passive && self.remote.discriminator.is_none();
        let ended = self.state == State::AdminDown && self.hold.is_none();
        !waits && !ended
    }

    const fn is_silence_wanted(&self) -> bool {
        self.remote.required_min_rx_micros == 0
    }

    fn is_demand_active(&self) -> bool {
        self.remote.demand && self.state == State::Up && self.remote.state == State::Up
    }

    fn transmit_interval_micros(&self) -> u32 {
        self.timing.in_force().transmit.max(self.remote.required_min_rx_micros)
    }

    /// How long the neighbour may be silent (6.8.4).
    fn detection_time(&self) -> Duration {
        let interval = self.timing.in_force().receive.max(self.remote.desired_min_tx_micros);
        Duration::from_micros(u64::from(interval) * u64::from(self.remote.multiplier.get()))
    }

    /// When the neighbour has been silent for too long, if it is known.
    fn detection_deadline(&self) -> Option<Instant> {
        let time = self.detection_time();
        self.heard.map(|heard| heard + time + self.absence.excused(time))
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn timeout_at(&self) -> Option<Instant> {
        [self.detection_deadline(), self.hold, self.timing.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the next packet or timeout is due, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.transmit_at(), self.timeout_at()].into_iter().flatten().min()
    }

    /// What has happened since it was last asked.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop()
    }

    pub(crate) const fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Changes the configuration without touching the state (6.8.3, 6.8.10 to 6.8.12). Intervals
    /// take a Poll Sequence, and the neighbour is told at once.
    pub fn reconfigure(&mut self, config: SessionConfig) {
        let multiplier_changed = self.config.detect_multiplier != config.detect_multiplier;
        let before = self.timing.advertised();
        self.config = config;
        self.retime();
        if multiplier_changed && self.is_demand_active() {
            self.timing.request_poll();
        }
        self.changed_due |= multiplier_changed || before != self.timing.advertised();
    }

    /// Takes the session down by command (6.8.16). That is announced for the detection time that
    /// the neighbour has, at most [`MAX_HOLD`]; then nothing is sent until
    /// [`enable`](Self::enable).
    pub fn disable(&mut self, now: Instant, reason: AdministrativeReason) {
        let was_down = self.state == State::AdminDown;
        self.diagnostic = reason.diagnostic();
        if was_down {
            return;
        }
        let was_up = self.state == State::Up;
        self.enter(now, State::AdminDown);
        self.final_due = false;
        if was_up {
            self.tell_down(DownReason::Administrative);
        }
        let multiplier = u64::from(self.config.detect_multiplier.get());
        let announced = u64::from(self.transmit_interval_micros()) * multiplier;
        self.hold = Some(now + Duration::from_micros(announced).min(MAX_HOLD));
    }

    /// Ends what [`disable`](Self::disable) began: the session is Down and tries again.
    pub fn enable(&mut self, now: Instant) {
        if self.state == State::AdminDown {
            self.hold = None;
            self.enter(now, State::Down);
        }
    }

    /// Whether the session is administratively down and that has been announced long enough.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.state == State::AdminDown && self.hold.is_none()
    }

    fn fall(&mut self, now: Instant, diagnostic: Diagnostic, reason: DownReason) {
        let was_up = self.state == State::Up;
        self.diagnostic = diagnostic;
        self.enter(now, State::Down);
        if was_up {
            self.tell_down(reason);
        }
    }

    const fn tell_down(&mut self, reason: DownReason) {
        self.last_down = Some(reason);
        self.counters.downs = self.counters.downs.saturating_add(1);
        self.events.push(SessionEvent::Down(reason));
    }

    fn enter(&mut self, now: Instant, state: State) {
        self.state = state;
        self.changed = now;
        self.up_since = None;
        self.counters.state_changes = self.counters.state_changes.saturating_add(1);
        if state == State::Up {
            self.up_since = Some(now);
            self.diagnostic = Diagnostic::NONE;
            self.events.push(SessionEvent::Up);
        }
        self.retime();
        self.changed_due = true;
    }

    fn retime(&mut self) {
        self.timing.change(wanted_intervals(&self.config, self.state), self.state);
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Our state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// State and counters.
    #[must_use]
    pub fn status(&self) -> SessionStatus {
        let sends = self.periodic_at().is_some();
        let interval = Duration::from_micros(u64::from(self.transmit_interval_micros()));
        SessionStatus {
            state: self.state,
            remote_state: self.remote.state,
            diagnostic: self.diagnostic,
            remote_diagnostic: self.remote.diagnostic,
            last_down: self.last_down,
            local_discriminator: self.discriminator,
            remote_discriminator: self.remote.discriminator,
            transmit_interval: sends.then_some(interval),
            detection_time: self.heard.map(|_| self.detection_time()),
            up_since: self.up_since,
            changed: self.changed,
            counters: self.counters,
        }
    }

    pub(crate) const fn count_discard(&mut self, reason: Discard) {
        self.counters.discards.count(reason);
    }
}

/// What is advertised in a state: slow while not Up (6.8.3).
const fn wanted_intervals(config: &SessionConfig, state: State) -> Intervals {
    let desired = config.desired_min_tx.micros();
    let transmit = match state {
        State::Up => desired,
        State::AdminDown | State::Down | State::Init if desired < SLOW_MICROS => SLOW_MICROS,
        State::AdminDown | State::Down | State::Init => desired,
    };
    Intervals { transmit, receive: config.required_min_rx.micros() }
}
