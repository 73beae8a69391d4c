//! The connections of a session, its timers, and what transitions ask for. Everything that happens
//! goes through [`Core::happen`]: the state machine answers, its actions are done in their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nvgate_model::Instant;

use super::ending::{Fact, is_final, keeps_routes, reason};
use super::event::{
    Closed, Closing, Connection, Counters, Direction, Down, DownReason, Endpoints,
    LastNotification, Malformed, Refused, SessionEvent,
};
use super::fsm::{Actions, Event, State, step};
use super::link::{Link, Slot};
use super::negotiate::Restarting;
use super::timer::{Backoff, Jitter, Timer, Timers};
use crate::config::{Opening, PeerConfig};
use crate::notification::Notification;

/// How long an OPEN is waited for (RFC 4271 section 8.2.2: "a large value").
const OPEN_HOLD: Duration = Duration::from_secs(240);
/// How long a last NOTIFICATION may wait for TCP.
const LINGER: Duration = Duration::from_secs(5);
/// The most events that wait; beyond it no connection begins.
pub(super) const EVENTS_MAX: usize = 16;

/// The session but for what it received.
#[derive(Debug)]
pub(super) struct Core {
    pub config: Arc<PeerConfig>,
    pub restarting: Restarting,
    /// Idle, or Active: connections of the peer are taken.
    pub rest: State,
    pub slots: [Slot; 2],
    pub timers: Timers,
    pub jitter: Jitter,
    backoff: Backoff,
    established_at: Option<Instant>,
    events: VecDeque<SessionEvent>,
    has_ended: bool,
    pub counters: Counters,
    pub last_sent: Option<LastNotification>,
    pub last_received: Option<LastNotification>,
    pub last_closed: Option<(Instant, Closed)>,
    pub malformed: Option<Malformed>,
}

impl Core {
    pub(super) fn new(config: Arc<PeerConfig>, seed: u64) -> Self {
        Self {
            config,
            restarting: Restarting::default(),
            rest: State::Idle,
            slots: [Slot::Free, Slot::Free],
            timers: Timers::default(),
            jitter: Jitter::new(seed),
            backoff: Backoff::default(),
            established_at: None,
            events: VecDeque::new(),
            has_ended: false,
            counters: Counters::default(),
            last_sent: None,
            last_received: None,
            last_closed: None,
            malformed: None,
        }
    }

    pub(super) fn link(&self, connection: Connection) -> Option<&Link> {
        match &self.slots[connection.index()] {
            Slot::Open(link) => Some(link),
            Slot::Free | Slot::Lingering(_) | Slot::Closing => None,
        }
    }

    pub(super) fn link_mut(&mut self, connection: Connection) -> Option<&mut Link> {
        match &mut self.slots[connection.index()] {
            Slot::Open(link) => Some(link),
            Slot::Free | Slot::Lingering(_) | Slot::Closing => None,
        }
    }

    /// The first connection with a link of which `is` holds.
    fn find(&self, is: impl Fn(&Link) -> bool) -> Option<Connection> {
        Connection::ALL.into_iter().find(|connection| self.link(*connection).is_some_and(&is))
    }

    /// A connection that may begin. Who takes no events gets none.
    fn free(&self) -> Option<Connection> {
        Connection::ALL.into_iter().find(|connection| {
            matches!(self.slots[connection.index()], Slot::Free) && self.events.len() < EVENTS_MAX
        })
    }

    /// The most advanced state of all connections.
    pub(super) fn state(&self) -> State {
        let links = Connection::ALL.into_iter().filter_map(|connection| self.link(connection));
        links.map(|link| link.state).fold(self.rest, State::max)
    }

    pub(super) fn established(&self) -> Option<Connection> {
        self.find(|link| link.state == State::Established)
    }

    pub(super) const fn established_at(&self) -> Option<Instant> {
        self.established_at
    }

    pub(super) fn output(&self, connection: Connection) -> &[u8] {
        match &self.slots[connection.index()] {
            Slot::Open(link) if link.closed.is_none() => link.output.waiting(),
            Slot::Lingering(output) => output.waiting(),
            Slot::Open(_) | Slot::Free | Slot::Closing => &[],
        }
    }

    #[cfg(test)]
    pub(super) fn events_waiting(&self) -> usize {
        self.events.len()
    }

    /// Whether the beginning or the end of a session waits to be told.
    pub(super) fn has_news(&self) -> bool {
        self.events.iter().any(|event| match event {
            SessionEvent::Established(_) | SessionEvent::Down(_) => true,
            SessionEvent::Connect(_) | SessionEvent::Close(..) | SessionEvent::Ended => false,
        })
    }

    /// The next event.
    pub(super) fn take_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// The name of a connection whose end was told is free.
    pub(super) fn release(&mut self, connection: Connection) {
        let slot = &mut self.slots[connection.index()];
        if matches!(slot, Slot::Closing) {
            *slot = Slot::Free;
            self.check_ended();
        }
    }

    /// Starts an idle session.
    pub(super) fn start(&mut self, now: Instant) {
        if self.rest != State::Idle {
            return;
        }
        self.timers.stop(Timer::IdleHold);
        let event = match self.config.opening {
            Opening::Active => Event::Start,
            Opening::Passive | Opening::Dynamic => Event::StartPassive,
        };
        let (_, actions) = step(State::Idle, event);
        self.rest = State::Active;
        self.has_ended = false;
        self.act_on_peer(now, actions);
    }

    /// Ends every connection with what each is owed, and stays Idle.
    pub(super) fn stop(&mut self, now: Instant, notification: &Notification) {
        self.rest = State::Idle;
        for connection in Connection::ALL {
            let owed = self.worded(connection, notification);
            self.happen(now, connection, Event::Stop, Fact::Owed(owed));
        }
        self.timers.stop(Timer::IdleHold);
        self.timers.stop(Timer::ConnectRetry);
        self.check_ended();
    }

    /// Starts again soon after a stop of our own: nobody failed.
    pub(super) fn restart_soon(&mut self, now: Instant) {
        self.backoff.forget();
        if self.config.opening == Opening::Dynamic {
            return;
        }
        let hold = self.jitter.spread(Backoff::SHORTEST);
        self.timers.arm(Timer::IdleHold, now + hold);
    }

    pub(super) const fn forget_failures(&mut self) {
        self.backoff.forget();
    }

    /// The NOTIFICATION as this connection must be told it: reasons to give up the peer's routes go
    /// in a hard reset where NOTIFICATIONs would keep them (RFC 8538 section 3.1, RFC 9384 section
    /// 3).
    pub(super) fn worded(&self, connection: Connection, owed: &Notification) -> Notification {
        let restart = self
            .link(connection)
            .filter(|link| link.state == State::Established)
            .and_then(|link| link.negotiated.as_ref()?.restart);
        match restart {
            Some(restart) if restart.notifications && is_final(owed.reason) => owed.hard_reset(),
            Some(_) | None => owed.clone(),
        }
    }

    /// A connection of the peer.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        endpoints: Endpoints,
    ) -> Result<Connection, Refused> {
        let refused = match self.free() {
            Some(connection) if self.rest == State::Active => {
                let mut link = Link::new(State::Active, Direction::Incoming, Some(endpoints));
                link.is_late = self.established().is_some();
                self.slots[connection.index()] = Slot::Open(link);
                self.happen(now, connection, Event::Connected, Fact::Nothing);
                return Ok(connection);
            }
            Some(_) => Refused::Idle,
            None if self.rest == State::Idle => Refused::Idle,
            None => Refused::Busy,
        };
        self.counters.refused += 1;
        Err(refused)
    }

    /// The attempt succeeded.
    pub(super) fn connected(&mut self, now: Instant, connection: Connection, endpoints: Endpoints) {
        let Some(link) = self.link_mut(connection).filter(|link| link.state == State::Connect)
        else {
            return;
        };
        link.endpoints = Some(endpoints);
        self.happen(now, connection, Event::Connected, Fact::Nothing);
    }

    /// TCP is over, and all that came before was handled.
    pub(super) fn closed(&mut self, now: Instant, connection: Connection, closed: Closed) {
        match &mut self.slots[connection.index()] {
            Slot::Open(link) => {
                link.closed = Some(closed);
                self.last_closed = Some((now, closed));
                self.happen(now, connection, Event::ConnectionFailed, Fact::Closed(closed));
                self.check_ended();
            }
            Slot::Lingering(_) => {
                self.timers.stop_connection(connection);
                self.slots[connection.index()] = Slot::Free;
                self.check_ended();
            }
            Slot::Free | Slot::Closing => {}
        }
    }

    /// The one door of events to a connection's state machine. Nothing happens to one that is over.
    pub(super) fn happen(
        &mut self,
        now: Instant,
        connection: Connection,
        event: Event,
        fact: Fact,
    ) {
        let Some(link) = self.link_mut(connection) else { return };
        let from = link.state;
        let (to, actions) = step(from, event);
        let reason = reason(from, actions, fact);
        if let Some(DownReason::Sent(notification)) = &reason {
            self.send_last_word(now, connection, notification);
        }
        if let Some(DownReason::Received(notification)) = &reason {
            self.last_received = Some(LastNotification::new(now, notification));
        }
        if actions.contains(Actions::DROP) {
            self.drop_link(now, connection, reason.as_ref());
            self.act_on_peer(now, actions);
            self.settle(now, to, reason.as_ref());
            return;
        }
        if let Some(link) = self.link_mut(connection) {
            link.state = to;
        }
        self.act_on_peer(now, actions);
        self.act_on_link(now, connection, actions);
    }

    fn act_on_peer(&mut self, now: Instant, actions: Actions) {
        if actions.contains(Actions::STOP_CONNECT_RETRY) {
            self.timers.stop(Timer::ConnectRetry);
        }
        if self.rest == State::Idle || self.config.opening != Opening::Active {
            return;
        }
        if actions.contains(Actions::CONNECT)
            && let Some(connection) = self.free()
        {
            let link = Link::new(State::Connect, Direction::Outgoing, None);
            self.slots[connection.index()] = Slot::Open(link);
            self.events.push_back(SessionEvent::Connect(connection));
        }
        if actions.contains(Actions::ARM_CONNECT_RETRY) {
            let retry = Duration::from_secs(self.config.connect_retry_secs.get().into());
            self.timers.arm(Timer::ConnectRetry, now + self.jitter.spread(retry));
        }
    }

    fn act_on_link(&mut self, now: Instant, connection: Connection, actions: Actions) {
        if actions.contains(Actions::SEND_OPEN) {
            self.send_open(connection);
        }
        if actions.contains(Actions::ARM_OPEN_HOLD) {
            self.timers.arm(Timer::Hold(connection), now + OPEN_HOLD);
        }
        if actions.contains(Actions::SEND_KEEPALIVE) {
            self.send_keepalive(connection);
            self.arm_keepalive(now, connection);
        }
        if actions.contains(Actions::ARM_HOLD) {
            self.arm_hold(now, connection);
        }
        if actions.contains(Actions::ESTABLISH) {
            self.establish(now, connection);
        }
    }

    /// The hold timer of a session without one: while the KEEPALIVE is awaited, that of the OPEN
    /// runs on; afterwards none.
    fn arm_hold(&mut self, now: Instant, connection: Connection) {
        let Some(link) = self.link(connection) else { return };
        let hold = link.negotiated.as_ref().and_then(|negotiated| negotiated.hold_time.duration());
        match hold {
            Some(hold) => self.timers.arm(Timer::Hold(connection), now + hold),
            None if link.state == State::Established => self.timers.stop(Timer::Hold(connection)),
            None => {}
        }
    }

    fn establish(&mut self, now: Instant, connection: Connection) {
        self.established_at = Some(now);
        self.counters.established += 1;
        if let Some(negotiated) = self.link(connection).and_then(|link| link.negotiated.clone()) {
            self.events.push_back(SessionEvent::Established(negotiated));
        }
        self.watch_sending(now, connection, false);
        let other = connection.other();
        if self.link(other).is_some_and(|link| link.state == State::Connect) {
            self.drop_link(now, other, None);
        }
    }

    fn drop_link(&mut self, now: Instant, connection: Connection, reason: Option<&DownReason>) {
        let Slot::Open(link) = std::mem::take(&mut self.slots[connection.index()]) else { return };
        self.timers.stop_connection(connection);
        if link.state == State::Established
            && let Some(reason) = reason
        {
            let keeps_routes = keeps_routes(link.negotiated.as_deref(), reason);
            self.events
                .push_back(SessionEvent::Down(Down { reason: reason.clone(), keeps_routes }));
        }
        let told = matches!(reason, Some(DownReason::Sent(_)));
        if link.closed.is_some() {
            // The slot is free at once: the endpoint said so.
        } else if told && !link.output.is_empty() {
            self.timers.arm(Timer::Linger(connection), now + LINGER);
            self.slots[connection.index()] = Slot::Lingering(link.output);
        } else {
            let finished = link.state != State::Connect && link.output.is_empty();
            self.close(connection, if finished { Closing::Finish } else { Closing::Abort });
        }
    }

    pub(super) fn close(&mut self, connection: Connection, closing: Closing) {
        self.timers.stop_connection(connection);
        self.slots[connection.index()] = Slot::Closing;
        self.events.push_back(SessionEvent::Close(connection, closing));
    }

    /// What becomes of the peer when a connection is gone: nothing, as long as there is another.
    fn settle(&mut self, now: Instant, to: State, reason: Option<&DownReason>) {
        let stood = match self.established() {
            Some(_) => Duration::ZERO,
            None => self.established_at.take().map_or(Duration::ZERO, |since| now.since(since)),
        };
        if self.rest == State::Idle || self.find(|_| true).is_some() {
            return;
        }
        if self.config.opening == Opening::Dynamic {
            self.rest = State::Idle;
            self.check_ended();
        } else if to == State::Idle {
            self.leave_alone(now, stood, reason);
        }
    }

    /// After a failure the session is Idle for a while. But a peer that lost its connection once
    /// may come back at once, and we go to it a little later: what RFC 4271 section 8.1.2 calls
    /// automatic start with oscillation damping and passive TCP establishment.
    fn leave_alone(&mut self, now: Instant, stood: Duration, reason: Option<&DownReason>) {
        self.timers.stop(Timer::ConnectRetry);
        let hold = self.backoff.fail(stood);
        let due = now + self.jitter.spread(hold);
        let lost = matches!(reason, Some(DownReason::Closed(_)));
        if !lost || !self.backoff.is_first() {
            self.rest = State::Idle;
            self.timers.arm(Timer::IdleHold, due);
        } else if self.config.opening == Opening::Active {
            self.timers.arm(Timer::ConnectRetry, due);
        }
    }

    /// A dynamic neighbour ends with its last connection.
    fn check_ended(&mut self) {
        let gone = self.slots.iter().all(|slot| matches!(slot, Slot::Free));
        let ends = self.config.opening == Opening::Dynamic && self.rest == State::Idle;
        if gone && ends && !self.has_ended {
            self.has_ended = true;
            self.events.push_back(SessionEvent::Ended);
        }
    }

    /// The connect retry timer: an attempt that runs is given up for a new one; an outgoing
    /// connection that stands needs none.
    pub(super) fn retry_connecting(&mut self, now: Instant) {
        match self.find(|link| link.direction == Direction::Outgoing) {
            None => {
                let (_, actions) = step(State::Active, Event::ConnectRetryExpires);
                self.act_on_peer(now, actions);
            }
            Some(connection) => {
                let connects =
                    self.link(connection).is_some_and(|link| link.state == State::Connect);
                if connects {
                    self.drop_link(now, connection, None);
                    let (_, actions) = step(State::Connect, Event::ConnectRetryExpires);
                    self.act_on_peer(now, actions);
                }
            }
        }
    }

    /// What a change that resets nothing means for what is under way.
    pub(super) fn reconfigure(&mut self, now: Instant, config: Arc<PeerConfig>) {
        self.config = config;
        let accept_as_set = self.config.accept_as_set;
        for slot in &mut self.slots {
            if let Slot::Open(link) = slot
                && let Some(negotiated) = &mut link.negotiated
                && negotiated.codec.accept_as_set != accept_as_set
            {
                Arc::make_mut(negotiated).codec.accept_as_set = accept_as_set;
            }
        }
        let waits = self.rest == State::Active && self.find(|_| true).is_none();
        if waits && !self.timers.is_armed(Timer::ConnectRetry) {
            self.rest = State::Idle;
            self.start(now);
        }
    }
}
