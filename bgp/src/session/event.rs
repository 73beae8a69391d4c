//! What a session tells: events, why it ended, and numbers for status and metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use nvgate_model::Instant;

use super::negotiate::Negotiated;
use crate::notification::Notification;
use crate::reaction::Defect;
use crate::wire::MessageType;

/// One of the two connections that a session may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Connection {
    /// One.
    First,
    /// The other.
    Second,
}

/// Which end opened a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// We.
    Outgoing,
    /// The peer.
    Incoming,
}

/// The two ends of a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoints {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// What the endpoint saw of a connection's end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Closed {
    /// It never was: the peer refused it, or there is no way to it.
    Refused,
    /// The peer reset it.
    Reset,
    /// The peer closed it.
    Finished,
    /// The peer did not answer.
    TimedOut,
}

/// How the endpoint ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Closing {
    /// With what TCP has taken.
    Finish,
    /// At once: a reset, and an attempt is given up.
    Abort,
}

/// Why a connection of the peer is not taken: the endpoint closes it. To a
/// [`Busy`](Self::Busy) one it may send Cease / Connection Rejected first (RFC 4486 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The session is Idle (RFC 4271 section 8.2.2).
    #[error("the session is idle")]
    Idle,
    /// There are two connections already.
    #[error("the peer has two connections already")]
    Busy,
}

/// What the session wants done or known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// Open a TCP connection to the peer, and answer with `handle_connected` or `handle_closed`.
    Connect(Connection),
    /// End the connection, or the attempt; nothing more is to be said of it.
    Close(Connection, Closing),
    /// Routes may be exchanged.
    Established(Arc<Negotiated>),
    /// An established session ended.
    Down(Down),
    /// A dynamic neighbour's session has no connection left: forget it, once its routes are gone.
    Ended,
}

/// A message that is wrong: what with it, and how it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// What is wrong.
    pub wrong: Wrong,
    /// The first [`BYTES_KEPT`](Self::BYTES_KEPT) bytes of it, and with a wrong header of what came
    /// behind it.
    pub bytes: Box<[u8]>,
}

/// What is wrong with a message, by what it costs (RFC 7606 section 2).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    /// The session, which ends with this NOTIFICATION.
    #[error("{0}")]
    Session(Notification),
    /// Routes or an attribute of an UPDATE; the last of its defects.
    #[error(transparent)]
    Update(Defect),
}

impl Malformed {
    /// Bytes that are kept of a message.
    pub const BYTES_KEPT: usize = 512;

    pub(crate) fn new(wrong: Wrong, bytes: &[u8]) -> Self {
        Self { wrong, bytes: bytes[..bytes.len().min(Self::BYTES_KEPT)].into() }
    }
}

/// The end of an established session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Down {
    /// Why.
    pub reason: DownReason,
    /// Of which families the peer's routes are kept as stale, by
    /// [`Family::index`](crate::Family::index) (RFC 4724 section 4.2, RFC 8538 section 4).
    pub keeps_routes: [bool; 2],
}

/// Why a session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DownReason {
    /// We told the peer.
    Sent(Notification),
    /// The peer told us.
    Received(Notification),
    /// The connection was lost.
    Closed(Closed),
    /// The peer came back on a new connection (RFC 4724 section 5).
    PeerRestarted,
}

/// Messages by their type since the session was configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MessageCounts([u64; 5]);

/// Numbers since the session was configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Whole messages that came.
    pub received: MessageCounts,
    /// Messages queued for TCP.
    pub sent: MessageCounts,
    /// How often the session was established.
    pub established: u64,
    /// Connections of the peer that were not taken.
    pub refused: u64,
    /// ROUTE-REFRESHes for what was not agreed on, which are ignored.
    pub ignored_refreshes: u64,
}

/// A NOTIFICATION and when it went or came. Of its data at most
/// [`DATA_KEPT`](Self::DATA_KEPT) bytes are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastNotification {
    /// When.
    pub at: Instant,
    /// What.
    pub notification: Notification,
}

impl Connection {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// The place in tables with one entry a connection.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

impl MessageCounts {
    /// How many of this type.
    #[must_use]
    pub const fn of(&self, kind: MessageType) -> u64 {
        self.0[kind as usize - 1]
    }

    pub(super) const fn count(&mut self, kind: MessageType, messages: u64) {
        self.0[kind as usize - 1] += messages;
    }
}

impl LastNotification {
    /// The most bytes of data kept: a shutdown text inside a hard reset, or the head of a message.
    pub const DATA_KEPT: usize = 512;

    pub(super) fn new(at: Instant, notification: &Notification) -> Self {
        let data = &notification.data[..notification.data.len().min(Self::DATA_KEPT)];
        Self { at, notification: Notification::new(notification.reason, data) }
    }
}
