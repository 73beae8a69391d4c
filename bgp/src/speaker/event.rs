//! What a speaker wants done or known.

use nvgate_model::Instant;

use super::config::{PeerKey, Place};
use crate::family::Family;
use crate::rib::NextHopChange;
use crate::session::{Closing, Connection, Down, Endpoints, Malformed};

/// A peer of a speaker. Never used twice, also when the peer or its place comes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerIndex {
    /// The place.
    pub place: Place,
    /// Which of all that the place ever had.
    pub number: u64,
}

/// What is to be done or known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Open a TCP connection to the peer with this key, at this port, and answer with
    /// [`handle_connected`](super::Speaker::handle_connected) or
    /// [`handle_closed`](super::Speaker::handle_closed).
    Connect(PeerIndex, Connection, PeerKey, u16),
    /// End the connection, or the attempt; nothing more is to be said of it.
    Close(PeerIndex, Connection, Closing),
    /// The session is established.
    Up(PeerIndex, Endpoints),
    /// The session ended.
    Down(PeerIndex, Down),
    /// The peer has so many of the routes of a family that it may have that a warning is due.
    PrefixWarning(PeerIndex, Family, PrefixCount),
    /// The peer sent a message that is wrong. Of many at once not all are told.
    Malformed(PeerIndex, Malformed),
    /// BFD is to watch the peer of the session (RFC 5882), or no longer.
    Bfd(PeerIndex, Option<Endpoints>),
    /// The peer is gone, and its index with it.
    Forgotten(PeerIndex),
    /// Next hops are to be followed, or no longer.
    NextHop(Place, NextHopChange),
    /// There are changes to take by [`poll_change`](super::Speaker::poll_change), until none is
    /// left.
    RoutesChanged(Place),
    /// All peers told their routes again after the speaker's restart, or took too long, and routes
    /// are chosen: what the place forwards by routes of before may go (RFC 4724 section 4.1).
    Restarted(Place),
}

/// How many routes a peer has, and may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixCount {
    /// Those it has.
    pub routes: u32,
    /// The bound.
    pub limit: u32,
}

/// Whether a speaker has more to do at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Turn {
    /// It has.
    More,
    /// Not before something happens.
    Idle,
}

/// How a speaker begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Nothing is forwarded yet.
    Cold,
    /// Forwarding by the routes of before goes on: peers are told so (RFC 4724 section 4.1).
    ForwardingKept,
}

/// What is asked of a peer again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clear {
    /// What it sent is judged anew, and asked for again if it can be (RFC 2918).
    SoftIn,
    /// It is told everything again.
    SoftOut,
    /// Its session ends and starts again.
    Hard,
}

/// What BFD says of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BfdState {
    /// It can be reached.
    Up,
    /// It cannot.
    Down,
}

/// Why a connection of a peer is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// No peer or range has the address.
    #[error("no peer is configured with this address")]
    Unknown,
    /// The range has as many neighbours as it may.
    #[error("the range has as many neighbors as it may")]
    RangeFull,
    /// The place has as many peers as it may.
    #[error("the place has as many peers as it may")]
    PlaceFull,
    /// The session of the peer does not take it.
    #[error(transparent)]
    Session(#[from] crate::session::Refused),
}

/// When something ended last, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastDown {
    /// When.
    pub at: Instant,
    /// Why, and whether routes stayed.
    pub down: Down,
}
