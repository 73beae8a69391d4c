//! What a tunnel tells the gateway: results, events, and its status.

use std::net::SocketAddr;
use std::ops::Range;

use nvgate_model::{DropReason, Instant};

/// What became of a packet for the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sealed {
    /// It is a datagram of so many bytes for the tunnel's [`endpoint`](crate::Tunnel::endpoint).
    Datagram(usize),
    /// It waits for a handshake; [`poll_transmit`](crate::Tunnel::poll_transmit) has it then.
    Queued,
}

/// What a datagram of the peer's was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    /// An inner packet, in this part of the output.
    Packet(Range<usize>),
    /// A handshake message that wants this many bytes of the output sent back to its source.
    Reply(usize),
    /// An empty packet.
    Keepalive,
    /// Nothing that leads to anything now.
    Nothing,
}

/// Whether packets can pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelState {
    /// There is a session.
    Up,
    /// There is none, or its peer does not answer.
    Down(DownReason),
}

/// Why a tunnel is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownReason {
    /// There has been no handshake with these keys.
    NeverHandshaken,
    /// A handshake was given up after 90 seconds without an answer.
    NoResponse,
    /// The last session ended and nothing asked for another one.
    Expired,
    /// There has been no handshake, and the peer's address is not known.
    NoEndpoint,
}

/// Something that happened to a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelEvent {
    /// Packets can pass.
    Up,
    /// They cannot any more.
    Down(DownReason),
    /// The peer is at another address than it was, or at its first one.
    EndpointMoved(SocketAddr),
    /// Packets that [`Sealed::Queued`] announced were dropped after all.
    Discarded {
        /// How many.
        packets: u32,
        /// Why.
        reason: DropReason,
    },
}

/// Which of the gateway's keys the peer speaks to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnKey {
    /// The current one.
    Current,
    /// The one before, which the peer has to replace before it is dropped.
    Previous,
}

/// Packets and bytes in one direction: inner IP packets, without padding or keepalives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) const fn count(&mut self, length: usize) {
        self.packets += 1;
        self.bytes += length as u64;
    }
}

/// Everything counted since the tunnel was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TunnelCounters {
    /// To the peer.
    pub outbound: Traffic,
    /// From the peer; those refused for their source are not in it.
    pub inbound: Traffic,
    /// Initiations sent.
    pub handshakes_tried: u64,
    /// Handshakes that gave a session both sides have.
    pub handshakes_completed: u64,
    /// Handshakes given up after 90 seconds.
    pub handshakes_failed: u64,
    /// Messages refused because they were received before.
    pub replays: u64,
    /// Messages refused because they did not decrypt.
    pub auth_failures: u64,
}

/// How a tunnel is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelStatus {
    /// Up, or down and why.
    pub state: TunnelState,
    /// A handshake of ours waits for its answer.
    pub handshaking: bool,
    /// When the last session was made.
    pub last_handshake: Option<Instant>,
    /// Where the peer is.
    pub endpoint: Option<SocketAddr>,
    /// The own key of the session in use.
    pub own_key: Option<OwnKey>,
    /// Packets that wait for a handshake.
    pub queued: usize,
    /// The counters.
    pub counters: TunnelCounters,
}
