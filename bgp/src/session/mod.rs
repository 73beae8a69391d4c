//! One peer: the state machine of RFC 4271 section 8 over at most two connections, their timers and
//! buffers, and what both ends agreed on. It refuses to know routes: decoded UPDATEs come out,
//! encoded ones go in. The speaker owns one a peer and calls it.
//!
//! A connection of the peer comes by [`Session::handle_incoming`], one of ours is asked for by
//! [`SessionEvent::Connect`]. Received bytes wait in a buffer until [`Session::poll_message`]; the
//! session's own messages are handled there too, so it is called until it gives nothing, in any
//! state. What it gives afterwards is drained in this order: [`poll_message`](Session::poll_message)
//! until none, [`poll_transmit`](Session::poll_transmit) of both connections, each answered by
//! [`handle_transmitted`](Session::handle_transmitted), [`poll_event`](Session::poll_event) until
//! none, [`poll_timeout`](Session::poll_timeout).

mod buffer;
mod collision;
mod core;
mod ending;
mod event;
pub mod fsm;
mod link;
mod negotiate;
mod opening;
mod receive;
mod sending;
#[cfg(test)]
mod tests;
mod timer;

use std::sync::Arc;
use std::time::Duration;

use nvgate_model::Instant;

pub use buffer::{READ_BUFFER, WRITE_BUFFER, WRITE_RESERVE};
pub use event::{
    Closed, Closing, Connection, Counters, Direction, Down, DownReason, Endpoints,
    LastNotification, Malformed, MessageCounts, Refused, SessionEvent, Wrong,
};
pub use fsm::State;
pub use negotiate::{Negotiated, PeerRestart, Restarting};
pub use timer::Timer;

use self::buffer::ReadBuffer;
use self::core::Core;
use self::ending::Fact;
use self::fsm::Event;
use self::receive::{handle_control, next_message, read_update};
use self::sending::count_messages;
use crate::config::PeerConfig;
use crate::family::Family;
use crate::impact::Impact;
use crate::notification::{Notification, NotificationReason};
use crate::wire::{self, Codec, MessageType, RefreshKind, RouteRefresh, Update, encode_refresh};

/// A hold timer that is served this late means that we did not run: the peer's bytes may wait
/// outside, and TCP may have room again.
const SERVED_LATE: Duration = Duration::from_secs(1);
/// What the bytes are then given to move.
const HOLD_GRACE: Duration = Duration::from_secs(2);

/// One peer's session.
#[derive(Debug)]
pub struct Session {
    /// Beside the rest, because messages borrow from here while the rest goes on.
    input: [ReadBuffer; 2],
    core: Core,
}

/// A message for the speaker, from an established session.
#[expect(clippy::large_enum_variant, reason = "nearly all messages are of the large one")]
#[derive(Debug)]
pub enum Received<'a> {
    /// Routes, or an End-of-RIB, with the whole message that they came in.
    Update(Update<'a>, &'a [u8]),
    /// Something about a refresh of a family that both speak.
    Refresh(Family, RefreshKind),
}

impl Session {
    /// A session in Idle. The seed makes its jitter.
    #[must_use]
    pub fn new(config: Arc<PeerConfig>, seed: u64) -> Self {
        Self { input: Default::default(), core: Core::new(config, seed) }
    }

    /// The peer opened a connection. The speaker has seen that it is this peer's.
    ///
    /// # Errors
    ///
    /// It is not taken, and nothing remembers it.
    pub fn handle_incoming(
        &mut self,
        now: Instant,
        endpoints: Endpoints,
    ) -> Result<Connection, Refused> {
        let connection = self.core.accept(now, endpoints)?;
        self.input[connection.index()].clear();
        Ok(connection)
    }

    /// The connection that [`SessionEvent::Connect`] asked for is there.
    pub fn handle_connected(&mut self, now: Instant, connection: Connection, endpoints: Endpoints) {
        self.input[connection.index()].clear();
        self.core.connected(now, connection, endpoints);
    }

    /// Bytes came. Takes as many as it has room for, and says how many; those of a connection that
    /// is over are taken and forgotten, so that TCP can end in order.
    pub fn handle_bytes(&mut self, connection: Connection, bytes: &[u8]) -> usize {
        match self.core.link(connection) {
            Some(link) if link.state >= State::OpenSent && link.closed.is_none() => {
                self.input[connection.index()].put(bytes)
            }
            Some(_) | None => bytes.len(),
        }
    }

    /// TCP took this many of the bytes of [`poll_transmit`](Self::poll_transmit).
    pub fn handle_transmitted(&mut self, now: Instant, connection: Connection, bytes: usize) {
        self.core.transmitted(now, connection, bytes);
    }

    /// The connection, or the attempt, is over; the endpoint keeps nothing of it, and is not told to
    /// close it. Messages that came whole before are still handled first. Not to be called after
    /// [`SessionEvent::Close`], when the name may be another connection's.
    pub fn handle_closed(&mut self, now: Instant, connection: Connection, closed: Closed) {
        if self.has_whole_message(connection)
            && let Some(link) = self.core.link_mut(connection)
        {
            link.closed = Some(closed);
        } else {
            self.core.closed(now, connection, closed);
        }
    }

    /// Serves the timers that are due, each once.
    pub fn handle_timeout(&mut self, now: Instant) {
        // What a timer arms anew is due later than now.
        while let Some((due, timer)) = self.core.timers.take_due(now) {
            match timer {
                Timer::IdleHold => self.core.start(now),
                Timer::ConnectRetry => self.core.retry_connecting(now),
                Timer::Hold(connection) => self.hold_expires(now, due, connection),
                Timer::Keepalive(connection) => {
                    self.core.happen(now, connection, Event::KeepaliveExpires, Fact::Nothing);
                    self.core.watch_sending(now, connection, false);
                }
                Timer::SendHold(connection) => self.send_hold_expires(now, due, connection),
                Timer::Linger(connection) => self.core.close(connection, Closing::Abort),
            }
        }
    }

    /// The peer was not silent as long as something of it waits here, or outside because we came
    /// late.
    fn hold_expires(&mut self, now: Instant, due: Instant, connection: Connection) {
        let waits = self.has_whole_message(connection);
        if waits || now.since(due) > SERVED_LATE {
            self.core.timers.arm(Timer::Hold(connection), now + HOLD_GRACE);
        } else {
            let owed = Notification::new(NotificationReason::HoldTimerExpired, &[]);
            self.core.happen(now, connection, Event::HoldExpires, Fact::Owed(owed));
        }
    }

    fn send_hold_expires(&mut self, now: Instant, due: Instant, connection: Connection) {
        if now.since(due) > SERVED_LATE {
            self.core.timers.arm(Timer::SendHold(connection), now + HOLD_GRACE);
        } else {
            let owed = Notification::new(NotificationReason::SendHoldTimerExpired, &[]);
            self.core.happen(now, connection, Event::SendHoldExpires, Fact::Owed(owed));
        }
    }

    /// Starts an idle session at once, also one that was to be left alone for longer.
    pub fn start(&mut self, now: Instant) {
        self.core.forget_failures();
        self.core.start(now);
    }

    /// Ends the session with this NOTIFICATION, and stays Idle until [`start`](Self::start). Reasons
    /// that shall cost the peer's routes are put in a hard reset where that is needed.
    pub fn stop(&mut self, now: Instant, notification: &Notification) {
        self.core.stop(now, notification);
    }

    /// BFD says that the peer cannot be reached: an established session ends, and keeps no routes
    /// (RFC 9384). It starts again like after any failure.
    pub fn bfd_down(&mut self, now: Instant) {
        let Some(connection) = self.core.established() else { return };
        let owed = Notification::new(NotificationReason::BfdDown, &[]);
        let owed = self.core.worded(connection, &owed);
        self.core.happen(now, connection, Event::Stop, Fact::Owed(owed));
    }

    /// Another configuration holds from now on; `impact` is what the change costs. A reset starts
    /// again soon, also a session that was stopped, unless the peer is shut down.
    pub fn reconfigure(&mut self, now: Instant, config: Arc<PeerConfig>, impact: Impact) {
        let shutdown = config.shutdown.clone();
        let was_down = self.core.config.shutdown.is_some();
        let text = shutdown.as_ref().map_or("", |text| text.as_str());
        if let Some(reason) = impact.reset {
            let told = Notification::with_text(reason, text);
            self.stop(now, &told.unwrap_or_else(|_| Notification::new(reason, &[])));
        }
        self.core.reconfigure(now, config);
        match shutdown {
            Some(_) => {}
            None if was_down => self.start(now),
            None if impact.reset.is_some() => self.core.restart_soon(now),
            None => {}
        }
    }

    /// Whether this speaker has restarted and waits: what OPENs say from now on.
    pub fn set_restarting(&mut self, restarting: Restarting) {
        self.core.restarting = restarting;
    }

    /// Lets `fill` append whole messages, of at most so many bytes together as it is given, if the
    /// session is established and has room.
    pub fn send_updates(&mut self, now: Instant, fill: impl FnOnce(&Codec, &mut Vec<u8>, usize)) {
        let room = self.write_room();
        let Some(connection) = self.core.established().filter(|_| room > 0) else { return };
        let Some(link) = self.core.link_mut(connection) else { return };
        let codec = link.codec();
        let appended = link.output.append(|out| fill(&codec, out, room));
        debug_assert!(appended.len() <= room, "{} bytes in room for {room}", appended.len());
        let messages = count_messages(appended);
        if messages > 0 {
            self.core.counters.sent.count(MessageType::Update, messages);
            self.core.arm_keepalive(now, connection);
            self.core.watch_sending(now, connection, false);
        }
    }

    /// Sends a ROUTE-REFRESH; whether it was: the session is established, the peer understands it,
    /// and there is room.
    pub fn send_refresh(&mut self, now: Instant, family: Family, kind: RefreshKind) -> bool {
        let understood = self.negotiated().is_some_and(|negotiated| {
            negotiated.codec.families[family.index()]
                && match kind {
                    RefreshKind::Request => negotiated.route_refresh,
                    RefreshKind::Begin | RefreshKind::End => negotiated.enhanced_refresh,
                    RefreshKind::Unknown(_) => false,
                }
        });
        let Some(connection) = self.core.established().filter(|_| understood) else { return false };
        let refresh = RouteRefresh { afi_safi: family.afi_safi(), kind };
        let put = |out: &mut Vec<u8>| encode_refresh(refresh, out);
        let sent = self.core.send_control(connection, MessageType::RouteRefresh, put);
        self.core.watch_sending(now, connection, false);
        sent
    }

    /// The next message for the speaker. All others that wait are handled on the way. None as long
    /// as the event waits that says of which session it is.
    pub fn poll_message(&mut self, now: Instant) -> Option<Received<'_>> {
        for connection in Connection::ALL {
            self.open_up(now, connection);
        }
        if self.core.has_news() {
            return None;
        }
        let connection = self.core.established()?;
        let input = &mut self.input[connection.index()];
        let message = loop {
            match next_message(input, &mut self.core, now, connection)? {
                (MessageType::Update, message) => break message,
                (kind, message) => {
                    let (core, input) = (&mut self.core, &mut *input);
                    let refresh = handle_control(input, core, now, connection, kind, message);
                    if let Some((family, kind)) = refresh {
                        return Some(Received::Refresh(family, kind));
                    }
                }
            }
        };
        read_update(input.taken(message), &mut self.core, now, connection)
    }

    /// Handles the messages of a connection that is on the way to be established. What one left
    /// behind that is over is not for the next of its name.
    fn open_up(&mut self, now: Instant, connection: Connection) {
        let input = &mut self.input[connection.index()];
        if self.core.link(connection).is_none_or(|link| link.state < State::OpenSent) {
            return input.clear();
        }
        while self.core.link(connection).is_some_and(|link| link.state != State::Established)
            && let Some((kind, message)) = next_message(input, &mut self.core, now, connection)
        {
            handle_control(input, &mut self.core, now, connection, kind, message);
        }
    }

    /// The bytes that TCP shall take next, until it has them.
    #[must_use]
    pub fn poll_transmit(&self, connection: Connection) -> &[u8] {
        self.core.output(connection)
    }

    /// What is to be done or known, in order. The name of a connection is free for another one once
    /// its [`SessionEvent::Close`] was taken.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        let event = self.take_event()?;
        if let SessionEvent::Close(connection, _) = event {
            self.release(connection);
        }
        Some(event)
    }

    /// As [`poll_event`](Self::poll_event), for who passes events on: the name of a connection that
    /// is to be closed is not free before [`release`](Self::release).
    pub fn take_event(&mut self) -> Option<SessionEvent> {
        self.core.take_event()
    }

    /// The last message that ended a connection by what it was, once.
    pub fn take_malformed(&mut self) -> Option<Malformed> {
        self.core.malformed.take()
    }

    /// The endpoint was told that the connection is to be closed.
    pub fn release(&mut self, connection: Connection) {
        self.core.release(connection);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.core.timers.next()
    }

    /// The bytes that [`handle_bytes`](Self::handle_bytes) would take.
    #[must_use]
    pub fn read_room(&self, connection: Connection) -> usize {
        self.input[connection.index()].room()
    }

    /// The bytes of UPDATEs that there is room for, 0 unless established.
    #[must_use]
    pub fn write_room(&self) -> usize {
        let link = self.core.established().and_then(|connection| self.core.link(connection));
        link.filter(|link| link.closed.is_none()).map_or(0, |link| link.output.room())
    }

    /// Whether [`poll_message`](Self::poll_message) has something to do.
    #[must_use]
    pub fn has_message(&self) -> bool {
        Connection::ALL.into_iter().any(|connection| self.has_whole_message(connection))
    }

    /// A message whose header is wrong is one.
    fn has_whole_message(&self, connection: Connection) -> bool {
        let input = self.input[connection.index()].waiting();
        self.core
            .link(connection)
            .filter(|link| link.state >= State::OpenSent)
            .is_some_and(|link| !matches!(wire::frame(input, link.receive_limit), Ok(None)))
    }

    /// The most advanced state of the peer's connections.
    #[must_use]
    pub fn state(&self) -> State {
        self.core.state()
    }

    /// What the established session agreed on.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Arc<Negotiated>> {
        self.core.link(self.core.established()?)?.negotiated.as_ref()
    }

    /// Since when the session is established.
    #[must_use]
    pub fn established_at(&self) -> Option<Instant> {
        self.core.established_at()
    }

    /// The configuration that holds.
    #[must_use]
    pub fn config(&self) -> &Arc<PeerConfig> {
        &self.core.config
    }

    /// The numbers.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// The last NOTIFICATION that we sent.
    #[must_use]
    pub fn last_sent(&self) -> Option<&LastNotification> {
        self.core.last_sent.as_ref()
    }

    /// The last NOTIFICATION that the peer sent.
    #[must_use]
    pub fn last_received(&self) -> Option<&LastNotification> {
        self.core.last_received.as_ref()
    }

    /// The last connection or attempt that was lost.
    #[must_use]
    pub fn last_closed(&self) -> Option<(Instant, Closed)> {
        self.core.last_closed
    }
}
