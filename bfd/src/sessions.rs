//! All sessions of one thread, and whose a packet is (6.3, RFC 5881 section 3, RFC 5883 section 4).
//!
//! A session lives in a *place*: whatever tells routing domains and interfaces apart, chosen by the
//! gateway. A packet that names a session by discriminator must have arrived in that session's
//! place; its source address is not compared then, as 6.3 asks. A packet that names none is for the
//! session of its place and both its addresses.
//!
//! **A turn** of the owner: hand in *every* packet that has arrived
//! ([`handle_packet`](Sessions::handle_packet)); then
//! [`handle_timeout`](Sessions::handle_timeout); then [`poll_transmit`](Sessions::poll_transmit) and
//! [`poll_event`](Sessions::poll_event) until they have nothing; then wait for packets or until
//! [`poll_timeout`](Sessions::poll_timeout). Detection expires only in `handle_timeout`, so a packet
//! that waited while the thread did not run comes first however late it is.
//!
//! **Own lateness.** Packets can also be lost or still on their way because nobody took them. So
//! when the first call of a turn comes more than [`LATENESS_TOLERANCE`] after the timeout that was
//! promised, the time in between counts as nobody's silence, and every neighbour's detection is put
//! off by it. Many absences within one silence add up to at most one detection time. So a failure
//! is seen within the detection time by a punctual owner, within twice that and its lateness by one
//! that is never away for longer, and by any within the detection time after it came back.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use nvgate_model::Instant;

use crate::chance::Secrets;
use crate::config::{AdministrativeReason, Path, SessionConfig};
use crate::discard::{Discard, DiscardCounters};
use crate::session::Session;
use crate::status::{SessionEvent, SessionStatus};
use crate::wire::{ControlPacket, PACKET_LENGTH};

mod ports;
mod schedule;

#[cfg(test)]
mod tests;

use ports::Ports;
use schedule::Schedule;

/// The most sessions that a table can be given room for: four times the source ports there are.
pub const MAX_SESSIONS: usize = 65_536;
/// An owner that is late by no more than this is punctual: what a busy machine does to any thread,
/// and a tenth of the shortest usual interval.
pub const LATENESS_TOLERANCE: Duration = Duration::from_millis(10);

/// Names a session: a neighbour of ours in one place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionKey<P> {
    /// The routing domain and, over one hop, the interface.
    pub place: P,
    /// Our address.
    pub local: IpAddr,
    /// The neighbour's.
    pub peer: IpAddr,
}

/// Which of the two ports a packet goes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hops {
    /// UDP port 3784 (RFC 5881 section 4).
    Single,
    /// UDP port 4784 (RFC 5883 section 5).
    Multiple,
}

impl Hops {
    /// The UDP destination port, in both directions.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Single => 3784,
            Self::Multiple => 4784,
        }
    }

    /// What comes to this UDP destination port, if it is one of BFD's.
    #[must_use]
    pub const fn from_port(port: u16) -> Option<Self> {
        match port {
            3784 => Some(Self::Single),
            4784 => Some(Self::Multiple),
            _ => None,
        }
    }

    const fn of(path: Path) -> Self {
        match path {
            Path::SingleHop => Self::Single,
            Path::MultiHop { .. } => Self::Multiple,
        }
    }
}

/// How a packet arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival<P> {
    /// The place and both addresses: its destination is ours, its source the neighbour's.
    pub key: SessionKey<P>,
    /// The port that it came to.
    pub hops: Hops,
    /// Its TTL or hop limit.
    pub ttl: u8,
}

/// A packet to send, by the session's addresses, with a TTL or hop limit of 255.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit<P> {
    /// Where, from and to whom.
    pub key: SessionKey<P>,
    /// The UDP source port.
    pub source_port: u16,
    /// Which destination port.
    pub hops: Hops,
    /// The UDP payload.
    pub payload: [u8; PACKET_LENGTH],
}

/// Why a session could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// There is one of this key already.
    #[error("a session between these addresses exists in this place")]
    Exists,
    /// The table is full.
    #[error("{limit} sessions are the most there may be")]
    Full {
        /// The most sessions of this table.
        limit: usize,
    },
}

/// What a table has counted beside its sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionsCounters {
    /// Packets that were discarded before a session was found.
    pub discards: DiscardCounters,
    /// Times that the owner was late by more than [`LATENESS_TOLERANCE`].
    pub absences: u64,
    /// How late it was, together, in microseconds.
    pub absent_micros: u64,
}

#[derive(Clone, Debug)]
struct Entry<P> {
    key: SessionKey<P>,
    session: Session,
    source_port: u16,
    /// To be removed once its AdminDown has been announced.
    closing: bool,
    /// In the queue of events.
    queued: bool,
}

/// A table of sessions.
#[derive(Clone, Debug)]
pub struct Sessions<P> {
    limit: usize,
    secrets: Secrets,
    sessions: BTreeMap<NonZeroU32, Entry<P>>,
    by_key: BTreeMap<SessionKey<P>, NonZeroU32>,
    ports: Ports,
    transmits: Schedule,
    timeouts: Schedule,
    events: VecDeque<NonZeroU32>,
    /// Up to when the owner is known to have been there.
    seen: Instant,
    counters: SessionsCounters,
}

impl<P: Copy + Ord> Sessions<P> {
    /// An empty table for `limit` sessions, at most [`MAX_SESSIONS`]. The seed decides
    /// discriminators, ports and jitter; who knows it can guess them.
    #[must_use]
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            limit: limit.min(MAX_SESSIONS),
            secrets: Secrets::new(seed),
            sessions: BTreeMap::new(),
            by_key: BTreeMap::new(),
            ports: Ports::new(),
            transmits: Schedule::default(),
            timeouts: Schedule::default(),
            events: VecDeque::new(),
            seen: Instant(0),
            counters: SessionsCounters::default(),
        }
    }

    /// Opens a session. One that is being closed goes on with the new configuration.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing has changed then.
    pub fn open(
        &mut self,
        now: Instant,
        key: SessionKey<P>,
        config: SessionConfig,
    ) -> Result<(), OpenError> {
        self.notice(now);
        if let Some((number, entry)) = self.entry(&key) {
            if !entry.closing {
                return Err(OpenError::Exists);
            }
            entry.closing = false;
            entry.session.reconfigure(config);
            entry.session.enable(now);
            self.follow(number);
            return Ok(());
        }
        if self.sessions.len() >= self.limit {
            let closing = self.sessions.values().find(|entry| entry.closing);
            let closing = closing.map(|entry| entry.key);
            if !closing.is_some_and(|closing| self.remove(&closing)) {
                return Err(OpenError::Full { limit: self.limit });
            }
        }
        let number = self.free_discriminator();
        let session = Session::new(config, number, now, self.secrets.draw());
        let source_port = self.ports.lend(&mut self.secrets);
        let entry = Entry { key, session, source_port, closing: false, queued: false };
        self.sessions.insert(number, entry);
        self.by_key.insert(key, number);
        self.follow(number);
        Ok(())
    }

    /// A discriminator that no session has. As sessions are far fewer than numbers, stepping on
    /// from one that is taken ends after as many steps as there are sessions.
    fn free_discriminator(&mut self) -> NonZeroU32 {
        let mut candidate = self.secrets.draw() as u32;
        loop {
            match NonZeroU32::new(candidate) {
                Some(number) if !self.sessions.contains_key(&number) => return number,
                Some(_) | None => candidate = candidate.wrapping_add(1),
            }
        }
    }

    /// Changes a session's configuration without touching its state. Whether there is one.
    pub fn reconfigure(
        &mut self,
        now: Instant,
        key: &SessionKey<P>,
        config: SessionConfig,
    ) -> bool {
        self.command(now, key, |entry| entry.session.reconfigure(config))
    }

    /// Takes a session down by command, announced for the neighbour's detection time. Whether
    /// there is one.
    pub fn disable(
        &mut self,
        now: Instant,
        key: &SessionKey<P>,
        reason: AdministrativeReason,
    ) -> bool {
        self.command(now, key, |entry| entry.session.disable(now, reason))
    }

    /// Ends what [`disable`](Self::disable) began. Whether there is such a session; one that is
    /// being closed stays so.
    pub fn enable(&mut self, now: Instant, key: &SessionKey<P>) -> bool {
        self.command(now, key, |entry| {
            if !entry.closing {
                entry.session.enable(now);
            }
        })
    }

    /// Takes a session down by command and removes it once that has been announced. Whether there
    /// is one.
    pub fn close(&mut self, now: Instant, key: &SessionKey<P>) -> bool {
        self.command(now, key, |entry| {
            entry.closing = true;
            entry.session.disable(now, AdministrativeReason::Operator);
        })
    }

    /// Removes a session at once and without a word. Whether there was one.
    pub fn remove(&mut self, key: &SessionKey<P>) -> bool {
        let Some(number) = self.by_key.remove(key) else { return false };
        self.transmits.set(number, None);
        self.timeouts.set(number, None);
        if let Some(entry) = self.sessions.remove(&number) {
            self.ports.give_back(entry.source_port);
            if entry.queued {
                self.events.retain(|queued| *queued != number);
            }
        }
        true
    }

    fn command(
        &mut self,
        now: Instant,
        key: &SessionKey<P>,
        command: impl FnOnce(&mut Entry<P>),
    ) -> bool {
        self.notice(now);
        let Some((number, entry)) = self.entry(key) else { return false };
        command(entry);
        self.follow(number);
        true
    }

    /// Takes a UDP payload that arrived at one of BFD's ports.
    ///
    /// # Errors
    ///
    /// Why it was discarded; already counted, with the session if one was found.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        arrival: &Arrival<P>,
        payload: &[u8],
    ) -> Result<(), Discard> {
        self.notice(now);
        let found = ControlPacket::decode(payload)
            .and_then(|packet| Ok((packet, self.select(arrival, &packet)?)));
        let (packet, number) = match found {
            Ok(found) => found,
            Err(reason) => {
                self.counters.discards.count(reason);
                return Err(reason);
            }
        };
        let Some(entry) = self.sessions.get_mut(&number) else {
            return Err(Discard::UnknownDiscriminator);
        };
        let result = if Hops::of(entry.session.config().path) == arrival.hops {
            entry.session.handle_decoded(now, &packet, arrival.ttl)
        } else {
            entry.session.count_discard(Discard::WrongPort);
            Err(Discard::WrongPort)
        };
        self.follow(number);
        result
    }

    /// Whose a packet is. What a packet of another place carries makes no difference to anybody.
    fn select(&self, arrival: &Arrival<P>, packet: &ControlPacket) -> Result<NonZeroU32, Discard> {
        let Some(yours) = packet.your_discriminator else {
            return self.by_key.get(&arrival.key).copied().ok_or(Discard::UnknownPeer);
        };
        match self.sessions.get(&yours) {
            None => Err(Discard::UnknownDiscriminator),
            Some(entry) if entry.key.place != arrival.key.place => Err(Discard::ForeignPlace),
            Some(_) => Ok(yours),
        }
    }

    /// Does what time has made due. Every packet that had arrived by `now` must have been handed in
    /// before.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice(now);
        while let Some(number) = self.timeouts.take_due(now) {
            let Some(entry) = self.sessions.get_mut(&number) else { continue };
            entry.session.handle_timeout(now);
            let (key, ended) = (entry.key, entry.closing && entry.session.is_silent());
            if ended {
                self.remove(&key);
            } else {
                self.follow(number);
            }
        }
    }

    /// The next packet that is due.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit<P>> {
        self.notice(now);
        loop {
            let number = self.transmits.take_due(now)?;
            let Some(entry) = self.sessions.get_mut(&number) else { continue };
            let payload = entry.session.poll_transmit(now);
            let (key, source_port) = (entry.key, entry.source_port);
            let hops = Hops::of(entry.session.config().path);
            self.follow(number);
            if let Some(payload) = payload {
                return Some(Transmit { key, source_port, hops, payload });
            }
        }
    }

    /// What has happened since it was last asked.
    pub fn poll_event(&mut self) -> Option<(SessionKey<P>, SessionEvent)> {
        loop {
            let number = *self.events.front()?;
            if let Some(entry) = self.sessions.get_mut(&number) {
                if let Some(event) = entry.session.poll_event() {
                    return Some((entry.key, event));
                }
                entry.queued = false;
            }
            self.events.pop_front();
        }
    }

    /// When the owner is needed next, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.transmits.next(), self.timeouts.next()].into_iter().flatten().min()
    }

    /// A session's state and counters.
    #[must_use]
    pub fn status(&self, key: &SessionKey<P>) -> Option<SessionStatus> {
        let number = self.by_key.get(key)?;
        self.sessions.get(number).map(|entry| entry.session.status())
    }

    /// Every session, by place and addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&SessionKey<P>, &Session)> {
        self.by_key.iter().filter_map(|(key, number)| {
            self.sessions.get(number).map(|entry| (key, &entry.session))
        })
    }

    /// How many sessions there are, those being closed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What was counted beside the sessions.
    #[must_use]
    pub const fn counters(&self) -> &SessionsCounters {
        &self.counters
    }

    fn entry(&mut self, key: &SessionKey<P>) -> Option<(NonZeroU32, &mut Entry<P>)> {
        let number = *self.by_key.get(key)?;
        self.sessions.get_mut(&number).map(|entry| (number, entry))
    }

    /// Brings schedules and the queue of events up to date after a session was touched.
    fn follow(&mut self, number: NonZeroU32) {
        let Some(entry) = self.sessions.get_mut(&number) else { return };
        self.transmits.set(number, entry.session.transmit_at());
        self.timeouts.set(number, entry.session.timeout_at());
        if entry.session.has_event() && !entry.queued {
            entry.queued = true;
            self.events.push_back(number);
        }
    }

    /// Notices that the owner is there, and whether it comes late.
    fn notice(&mut self, now: Instant) {
        let promised = self.poll_timeout().map(|due| due.max(self.seen));
        self.seen = self.seen.max(now);
        let Some(absence) = promised.map(|due| now.since(due)) else { return };
        if absence <= LATENESS_TOLERANCE {
            return;
        }
        self.counters.absences = self.counters.absences.saturating_add(1);
        let micros = u64::try_from(absence.as_micros()).unwrap_or(u64::MAX);
        self.counters.absent_micros = self.counters.absent_micros.saturating_add(micros);
        // Schedules follow when they come up: what is in them is only ever too early.
        for entry in self.sessions.values_mut() {
            entry.session.excuse(absence);
        }
    }
}
