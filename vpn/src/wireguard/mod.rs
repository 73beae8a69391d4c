//! One WireGuard peer: which of its sessions is used, when a handshake begins, what is kept
//! meanwhile. Timers are those of the whitepaper's section 6, on the caller's time.
//!
//! Inbound: [`receive`] finds the engine by the receiver index and decrypts; outbound: [`transmit`]
//! pads and encrypts, or queues and begins a handshake.

pub(crate) mod engine;
mod identity;
mod lane;
pub(crate) mod limits;
mod queue;
pub(crate) mod receive;
mod timers;
mod transmit;

use std::net::SocketAddr;
use std::time::Duration;

use nvgate_model::{DropReason, Instant};
use nvgate_packet::flow_key::hash_words;

use self::identity::Identity;
use self::lane::{Role, Session};
use self::limits::{
    FORGET_AFTER, HANDSHAKE_BURST, HANDSHAKES_PER_SECOND, JITTER_MILLIS, KEEPALIVE_TIMEOUT, Limits,
    REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_ON_RECEIVE, REKEY_TIMEOUT,
    SILENCE,
};
use self::queue::Queue;
use self::timers::{Timer, Timers};
use crate::bucket::Bucket;
use crate::config::WireGuardConfig;
use crate::index::TunnelIndex;
use crate::status::{DownReason, OwnKey, TunnelCounters, TunnelEvent, TunnelState, TunnelStatus};

pub(crate) struct WireGuard {
    index: TunnelIndex,
    config: WireGuardConfig,
    limits: Limits,
    /// One for each own key, in slots that are part of receiver indices.
    identities: [Option<Identity>; 2],
    /// The slot of the key that the peer last made a session with.
    speaking: usize,
    endpoint: Option<SocketAddr>,
    attempt: Option<Attempt>,
    last_initiation: Option<Instant>,
    last_handshake: Option<Instant>,
    timers: Timers,
    keepalive_due: bool,
    queue: Queue,
    budget: Bucket,
    seed: u64,
    draws: u64,
    /// Where the two pieces of a packet are joined; grows to the largest packet.
    joined: Vec<u8>,
    state: TunnelState,
    reported: TunnelState,
    moved: bool,
    pub(crate) counters: TunnelCounters,
}

/// A handshake that we began.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    began: Instant,
    /// Initiations sent.
    sent: u32,
}

impl WireGuard {
    pub(crate) fn new(
        index: TunnelIndex,
        config: WireGuardConfig,
        limits: Limits,
        now: Instant,
        seed: u64,
    ) -> Self {
        let down = TunnelState::Down(DownReason::NeverHandshaken);
        let mut tunnel = Self {
            index,
            limits,
            identities: [None, None],
            speaking: 0,
            endpoint: config.endpoint,
            attempt: None,
            last_initiation: None,
            last_handshake: None,
            timers: Timers::default(),
            keepalive_due: false,
            queue: Queue::default(),
            budget: Bucket::of_units(HANDSHAKES_PER_SECOND, HANDSHAKE_BURST, now),
            seed,
            draws: 0,
            joined: Vec::new(),
            state: down,
            reported: down,
            moved: false,
            counters: TunnelCounters::default(),
            config,
        };
        tunnel.reported = tunnel.state();
        tunnel.place_identities(None);
        tunnel.arm_persistent(now, Duration::ZERO);
        tunnel
    }

    pub(crate) fn reconfigure(&mut self, config: WireGuardConfig, now: Instant) {
        let before = std::mem::replace(&mut self.config, config);
        if self.config.endpoint != before.endpoint && self.config.endpoint.is_some() {
            self.endpoint = self.config.endpoint;
        }
        if self.config.persistent_keepalive_secs != before.persistent_keepalive_secs {
            self.timers.disarm(Timer::Persistent);
            self.arm_persistent(now, Duration::ZERO);
        }
        let keys =
            |config: &WireGuardConfig| (config.own.clone(), config.peer, config.preshared.clone());
        if keys(&self.config) == keys(&before) {
            return;
        }
        if self.config.peer != before.peer {
            self.endpoint = self.config.endpoint;
        }
        self.place_identities(Some(&before));
        if self.usable(now).is_none() {
            let was_up = self.state == TunnelState::Up;
            self.end_attempt();
            self.timers.disarm(Timer::Silence);
            self.timers.disarm(Timer::Keepalive);
            self.last_handshake = None;
            self.state = TunnelState::Down(DownReason::NeverHandshaken);
            if was_up {
                self.begin_handshake(now);
            }
        }
    }

    /// Makes the identities of the own keys; those that were there stay, in their slots.
    fn place_identities(&mut self, before: Option<&WireGuardConfig>) {
        let WireGuardConfig { own, peer, preshared, .. } = &self.config;
        let wanted = [Some(&own.current), own.previous.as_ref()];
        let is_same_peer = before.is_some_and(|before| before.peer == *peer);
        let is_same_secret = before.is_some_and(|before| before.preshared == *preshared);
        for (slot, place) in self.identities.iter_mut().enumerate() {
            *place = place
                .take()
                .filter(|identity| is_same_peer && wanted.contains(&Some(identity.key())))
                .map(|identity| {
                    if is_same_secret {
                        identity
                    } else {
                        identity.with_preshared(self.index, slot, *peer, preshared.as_ref())
                    }
                });
        }
        for key in wanted.into_iter().flatten() {
            if self.identities.iter().flatten().any(|identity| identity.key() == key) {
                continue;
            }
            // Two keys at most, so a slot is free.
            if let Some(slot) = self.identities.iter().position(Option::is_none) {
                self.identities[slot] =
                    Some(Identity::new(self.index, slot, key, *peer, preshared.as_ref()));
            }
        }
        if self.identities[self.speaking].is_none() {
            self.speaking = 1 - self.speaking;
        }
    }

    /// The session that the next packet would be sealed with.
    fn usable(&self, now: Instant) -> Option<&Session> {
        self.identities[self.speaking].as_ref()?.usable(now, &self.limits)
    }

    /// Begins a handshake, unless one is under way or there is nowhere to send it.
    fn begin_handshake(&mut self, now: Instant) {
        if self.attempt.is_some() || self.endpoint.is_none() {
            return;
        }
        self.attempt = Some(Attempt { began: now, sent: 0 });
        let earliest = self.last_initiation.map_or(now, |last| last + REKEY_TIMEOUT);
        self.timers.arm(Timer::Retransmit, earliest.max(now));
    }

    /// Has a session at hand without waiting for a packet: begins a handshake when the session in
    /// use would soon end unused, and when there is none and the peer's place is configured.
    pub(crate) fn keep_up(&mut self, now: Instant) {
        let wants_one = match self.usable(now) {
            Some(session) => {
                let replaced_at = match session.role {
                    Role::Initiator => REKEY_AFTER_TIME,
                    Role::Responder => REKEY_ON_RECEIVE,
                };
                session.age(now) >= replaced_at
            }
            None => self.config.endpoint.is_some(),
        };
        if wants_one {
            self.begin_handshake(now);
        }
    }

    fn end_attempt(&mut self) {
        self.attempt = None;
        self.timers.disarm(Timer::Retransmit);
    }

    fn give_up(&mut self, now: Instant) {
        self.end_attempt();
        self.counters.handshakes_failed += 1;
        self.keepalive_due = false;
        self.queue.abandon();
        self.timers.disarm(Timer::Silence);
        self.timers.arm_if_idle(Timer::Forget, now + FORGET_AFTER);
        self.state = TunnelState::Down(DownReason::NoResponse);
    }

    /// The peer has shown that it has the keys of this session.
    fn session_made(&mut self, now: Instant, slot: usize, born: Instant) {
        self.end_attempt();
        self.speaking = slot;
        self.last_handshake = Some(now);
        self.counters.handshakes_completed += 1;
        self.timers.arm(Timer::Expiry, born + REJECT_AFTER_TIME);
        self.timers.arm(Timer::Forget, now + FORGET_AFTER);
        self.state = TunnelState::Up;
    }

    /// Called for every authentic message that arrived: only these move the endpoint (whitepaper
    /// section 2.1). A cookie reply is not one: who can read the path can make it.
    fn authentic_received(&mut self, now: Instant, from: SocketAddr) {
        self.timers.disarm(Timer::Silence);
        self.arm_persistent(now, self.persistent_interval());
        if self.endpoint != Some(from) {
            self.endpoint = Some(from);
            self.moved = true;
        }
    }

    /// Called for every message sent.
    fn authentic_sent(&mut self, now: Instant) {
        self.timers.disarm(Timer::Keepalive);
        self.arm_persistent(now, self.persistent_interval());
    }

    fn data_sent(&mut self, now: Instant) {
        let jitter = self.jitter();
        self.timers.arm_if_idle(Timer::Silence, now + SILENCE + jitter);
    }

    fn data_received(&mut self, now: Instant) {
        self.timers.arm_if_idle(Timer::Keepalive, now + KEEPALIVE_TIMEOUT);
    }

    fn persistent_interval(&self) -> Duration {
        let secs = self.config.persistent_keepalive_secs.map_or(0, std::num::NonZeroU16::get);
        Duration::from_secs(u64::from(secs))
    }

    fn arm_persistent(&mut self, now: Instant, after: Duration) {
        if self.config.persistent_keepalive_secs.is_some() {
            self.timers.arm(Timer::Persistent, now + after);
        }
    }

    fn jitter(&mut self) -> Duration {
        self.draws = self.draws.wrapping_add(1);
        let draw = hash_words(self.draws, u64::from(self.index.get()), self.seed);
        Duration::from_millis(draw % (JITTER_MILLIS + 1))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let tried_for = self.attempt.map_or(Duration::ZERO, |attempt| now.since(attempt.began));
        if self.timers.is_due(Timer::Retransmit, now) && tried_for >= REKEY_ATTEMPT_TIME {
            self.give_up(now);
        }
        if self.timers.take_due(Timer::Silence, now) {
            self.begin_handshake(now);
        }
        if self.timers.take_due(Timer::Keepalive, now) {
            self.keepalive_due = true;
        }
        if self.timers.take_due(Timer::Persistent, now) {
            self.arm_persistent(now, self.persistent_interval());
            self.keepalive_due = true;
        }
        if self.timers.take_due(Timer::Expiry, now) {
            match self.usable(now).map(|session| session.born) {
                Some(born) => self.timers.arm(Timer::Expiry, born + REJECT_AFTER_TIME),
                None if self.state == TunnelState::Up => {
                    self.state = TunnelState::Down(DownReason::Expired);
                }
                None => {}
            }
        }
        if self.timers.take_due(Timer::Forget, now) {
            self.identities.iter_mut().flatten().for_each(Identity::forget);
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<TunnelEvent> {
        if std::mem::take(&mut self.moved) {
            return self.endpoint.map(TunnelEvent::EndpointMoved);
        }
        let state = self.state();
        if std::mem::replace(&mut self.reported, state) != state {
            return Some(match state {
                TunnelState::Up => TunnelEvent::Up,
                TunnelState::Down(reason) => TunnelEvent::Down(reason),
            });
        }
        let discarded = |packets: u32, reason| {
            (packets > 0).then_some(TunnelEvent::Discarded { packets, reason })
        };
        let take = std::mem::take::<u32>;
        discarded(take(&mut self.queue.displaced), DropReason::TunnelQueueFull)
            .or_else(|| discarded(take(&mut self.queue.abandoned), DropReason::TunnelDown))
            .or_else(|| discarded(take(&mut self.queue.unfit), DropReason::TooBig))
    }

    pub(crate) const fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    fn state(&self) -> TunnelState {
        match self.state {
            TunnelState::Down(DownReason::NeverHandshaken) if self.endpoint.is_none() => {
                TunnelState::Down(DownReason::NoEndpoint)
            }
            TunnelState::Up | TunnelState::Down(_) => self.state,
        }
    }

    pub(crate) fn status(&self, now: Instant) -> TunnelStatus {
        let own_key = self.usable(now).and(self.identities[self.speaking].as_ref()).map(|it| {
            if *it.key() == self.config.own.current { OwnKey::Current } else { OwnKey::Previous }
        });
        TunnelStatus {
            state: self.state(),
            handshaking: self.attempt.is_some(),
            last_handshake: self.last_handshake,
            endpoint: self.endpoint,
            own_key,
            queued: self.queue.len(),
            counters: self.counters,
        }
    }
}
