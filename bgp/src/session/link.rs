//! One connection, or an attempt at one, as a session sees it.

use std::sync::Arc;

use super::buffer::WriteBuffer;
use super::event::{Closed, Direction, Endpoints};
use super::fsm::State;
use super::negotiate::Negotiated;
use crate::neighbor_kind::NeighborKind;
use crate::wire::{Codec, MessageLimit, Open};

/// What a [`Connection`](super::Connection) is at the moment.
#[derive(Debug, Default)]
pub(super) enum Slot {
    #[default]
    Free,
    Open(Box<Link>),
    /// Over but for a NOTIFICATION that TCP has not taken.
    Lingering(WriteBuffer),
    /// Over; the event that says so is not taken yet, so the name is not free.
    Closing,
}

/// A connection, or an attempt.
#[derive(Debug)]
pub(super) struct Link {
    /// Connect or later.
    pub state: State,
    pub direction: Direction,
    pub endpoints: Option<Endpoints>,
    /// It came while another one was established.
    pub is_late: bool,
    /// TCP is over; whole messages from before still wait.
    pub closed: Option<Closed>,
    pub output: WriteBuffer,
    /// The OPEN that we sent, with its bytes, until it is agreed upon.
    pub open: Option<(Open, Box<[u8]>)>,
    pub negotiated: Option<Arc<Negotiated>>,
    /// What the peer may send after our OPEN: what that announced, whatever the peer's did (RFC 8654
    /// sections 4 and 5). What we send keeps to what both announced, see [`Codec::max_message`].
    pub receive_limit: MessageLimit,
}

impl Link {
    pub(super) fn new(
        state: State,
        direction: Direction,
        endpoints: Option<Endpoints>,
    ) -> Box<Self> {
        Box::new(Self {
            state,
            direction,
            endpoints,
            is_late: false,
            closed: None,
            output: WriteBuffer::default(),
            open: None,
            negotiated: None,
            receive_limit: MessageLimit::Standard,
        })
    }

    pub(super) fn codec(&self) -> Codec {
        self.negotiated
            .as_ref()
            .map_or(Codec::initial(NeighborKind::External), |negotiated| negotiated.codec)
    }
}
