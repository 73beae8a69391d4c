//! Messages as bytes and back (RFC 4271 section 4).
//!
//! What is decoded is well-formed: bytes are checked once, here, and an error is the reaction that
//! the standards ask for. This keeps no state; what both ends agreed on comes in as a [`Codec`].
//! Sessions call it, and BMP.

#[cfg(test)]
mod arbitrary;
mod attribute;
mod block;
mod capability;
#[cfg(test)]
mod crosscheck;
mod exercise;
mod header;
mod multiprotocol;
mod nlri;
mod open;
mod packer;
mod refresh;
mod update;

pub use block::{AttributeBlock, Unsendable};
pub use capability::{AddPathMode, Capability, ExtendedNextHop, GracefulRestart, RestartFamily};
pub use exercise::exercise;
pub use header::{Frame, MessageType, encode_keepalive, encode_notification, frame};
pub use nlri::Nlris;
pub use open::{Open, OpenTooLong, encode_open};
pub use packer::UpdatePacker;
pub use refresh::{RefreshKind, RouteRefresh, encode_refresh};
pub use update::{Announced, Update};

use crate::as_path::AsnWidth;
use crate::neighbor_kind::NeighborKind;
use crate::notification::{Notification, NotificationReason};
use crate::reaction::SessionReset;

/// What both OPENs agreed on, as far as it changes bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Codec {
    /// The octets of an AS number in AS_PATH and AGGREGATOR (RFC 6793).
    pub asn_width: AsnWidth,
    /// The longest message that is sent. What is received may be longer: who announced extended
    /// messages takes them whatever the peer announced (RFC 8654 section 4), so [`frame`] is told.
    pub max_message: MessageLimit,
    /// Whether received NLRI have path identifiers, by [`Family::index`](crate::Family::index)
    /// (RFC 7911).
    pub add_path_in: [bool; 2],
    /// Whether sent NLRI have path identifiers, likewise.
    pub add_path_out: [bool; 2],
    /// The families that routes may be exchanged of, by index; routes of others are ignored.
    pub families: [bool; 2],
    /// Whether IPv4 routes may have IPv6 next hops (RFC 8950).
    pub ipv6_next_hop: bool,
    /// Which attributes the peer may send (RFC 7606 sections 7.5, 7.9 and 7.10).
    pub neighbor: NeighborKind,
    /// Whether paths with an AS_SET are accepted, which RFC 9774 section 3 forbids.
    pub accept_as_set: bool,
}

/// The longest message that a session may carry, in bytes with the header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MessageLimit {
    /// 4096 (RFC 4271 section 4.1).
    Standard = 4096,
    /// 65535, except for OPEN and KEEPALIVE (RFC 8654 section 4).
    Extended = 65_535,
}

/// A message, checked.
#[expect(clippy::large_enum_variant, reason = "nearly all messages are of the large one")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// The first message of each end.
    Open(Open),
    /// Routes.
    Update(Update<'a>),
    /// The end of the session.
    Notification(Notification),
    /// The other end is alive.
    Keepalive,
    /// Routes are wanted again, or a refresh begins or ends.
    Refresh(RouteRefresh),
}

impl Codec {
    /// What holds before both OPENs are known: four thousand bytes, nothing optional.
    #[must_use]
    pub const fn initial(neighbor: NeighborKind) -> Self {
        Self {
            asn_width: AsnWidth::Two,
            max_message: MessageLimit::Standard,
            add_path_in: [false; 2],
            add_path_out: [false; 2],
            families: [true, false],
            ipv6_next_hop: false,
            neighbor,
            accept_as_set: false,
        }
    }
}

impl MessageLimit {
    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self as usize
    }
}

/// The message in a frame. What it says of routes borrows from the frame.
///
/// # Errors
///
/// The session cannot go on after this message; what the peer is told is in the error. Errors of
/// an UPDATE that the session survives are [`Update::defects`].
pub fn decode<'a>(frame: Frame<'a>, codec: &Codec) -> Result<Message<'a>, SessionReset> {
    match frame.kind() {
        MessageType::Open => open::decode(frame.body()).map(Message::Open),
        MessageType::Update => update::decode(frame.body(), codec).map(Message::Update),
        MessageType::Notification => header::notification(frame.body()).map(Message::Notification),
        MessageType::Keepalive => Ok(Message::Keepalive),
        MessageType::RouteRefresh => refresh::decode(frame).map(Message::Refresh),
    }
}

/// The reset with this reason and data.
fn reset(reason: NotificationReason, data: &[u8]) -> SessionReset {
    SessionReset { notification: Notification::new(reason, data) }
}
