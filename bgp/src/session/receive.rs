//! What becomes of received messages: from bytes that wait to events of the state machine. Free
//! functions over the two halves of a session, because an UPDATE borrows from one while the other
//! goes on.

use nvgate_model::Instant;

use super::Received;
use super::buffer::ReadBuffer;
use super::core::Core;
use super::ending::Fact;
use super::event::{Connection, Malformed, Wrong};
use super::fsm::{Event, State};
use crate::family::Family;
use crate::reaction::SessionReset;
use crate::wire::{self, Message, MessageType, RefreshKind};

type Range = std::ops::Range<usize>;

/// Takes the next whole message. What is wrong with a header ends the connection; so does TCP's end
/// once nothing whole waits.
pub(super) fn next_message(
    input: &mut ReadBuffer,
    core: &mut Core,
    now: Instant,
    connection: Connection,
) -> Option<(MessageType, Range)> {
    let link = core.link(connection)?;
    let closed = link.closed;
    match wire::frame(input.waiting(), link.receive_limit) {
        Ok(Some(frame)) => {
            let (kind, length) = (frame.kind(), frame.bytes().len());
            core.counters.received.count(kind, 1);
            return Some((kind, input.take(length)));
        }
        Ok(None) => {
            input.rest();
            if let Some(closed) = closed {
                core.closed(now, connection, closed);
            }
        }
        Err(reset) => {
            refuse(input.waiting(), core, now, connection, reset);
        }
    }
    if core.link(connection).is_none() {
        input.clear();
    }
    None
}

/// Ends the connection because of these bytes, which are kept for who asks what was wrong.
fn refuse(
    bytes: &[u8],
    core: &mut Core,
    now: Instant,
    connection: Connection,
    reset: SessionReset,
) {
    core.malformed = Some(Malformed::new(Wrong::Session(reset.notification.clone()), bytes));
    core.happen(now, connection, Event::Fault, Fact::Owed(reset.notification));
}

/// The message in these bytes, which were framed before; an error ends the connection.
fn decode<'a>(
    bytes: &'a [u8],
    core: &mut Core,
    now: Instant,
    connection: Connection,
) -> Option<Message<'a>> {
    let link = core.link(connection)?;
    let frame = wire::frame(bytes, link.receive_limit).ok().flatten()?;
    match wire::decode(frame, &link.codec()) {
        Ok(message) => Some(message),
        Err(reset) => {
            refuse(bytes, core, now, connection, reset);
            None
        }
    }
}

/// The UPDATE in these bytes, of an established session.
pub(super) fn read_update<'a>(
    bytes: &'a [u8],
    core: &mut Core,
    now: Instant,
    connection: Connection,
) -> Option<Received<'a>> {
    let Message::Update(update) = decode(bytes, core, now, connection)? else { return None };
    core.happen(now, connection, Event::Update, Fact::Message(MessageType::Update));
    Some(Received::Update(update, bytes))
}

/// Handles a message that is the session's own, or comes in a state in which it is unexpected. What
/// is for the speaker nevertheless: a refresh.
pub(super) fn handle_control(
    input: &mut ReadBuffer,
    core: &mut Core,
    now: Instant,
    connection: Connection,
    kind: MessageType,
    message: Range,
) -> Option<(Family, RefreshKind)> {
    let bytes = input.taken(message);
    let state = core.link(connection)?.state;
    let mut refreshed = None;
    match kind {
        MessageType::Open if state == State::OpenSent => {
            if let Some(Message::Open(open)) = decode(bytes, core, now, connection) {
                core.opened(now, connection, &open, bytes);
            }
        }
        MessageType::Notification => {
            if let Some(Message::Notification(told)) = decode(bytes, core, now, connection) {
                core.happen(now, connection, Event::Notification, Fact::Told(told));
            }
        }
        MessageType::RouteRefresh if state == State::Established => {
            if let Some(Message::Refresh(refresh)) = decode(bytes, core, now, connection) {
                refreshed = core.refreshed(connection, refresh);
            }
        }
        MessageType::Open => core.happen(now, connection, Event::Open, Fact::Message(kind)),
        MessageType::Keepalive => {
            core.happen(now, connection, Event::Keepalive, Fact::Message(kind))
        }
        MessageType::Update => core.happen(now, connection, Event::Update, Fact::Message(kind)),
        MessageType::RouteRefresh => {
            core.happen(now, connection, Event::Refresh, Fact::Message(kind))
        }
    }
    if core.link(connection).is_none() {
        input.clear();
    }
    refreshed
}
