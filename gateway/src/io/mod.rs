//! Ports: where frames come from and go to. Two kinds behind two enums; the dispatcher sees
//! only [`PacketBuf`] views and [`Tx::send`].
//!
//! [`PacketBuf`]: nvgate_packet::buf::PacketBuf

pub mod memory;
pub mod packet;
pub mod sim;

use arrayvec::ArrayVec;
use nvgate_packet::buf::{Offload, PacketBuf};

/// Packets a port yields at once.
pub const BATCH: usize = 64;

/// A batch of views into a port's memory.
pub type Batch<'a> = ArrayVec<PacketBuf<'a>, BATCH>;

/// Which network a port is on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PortRole {
    /// The underlay with the provider addresses.
    Fabric,
    /// The public network.
    FrontEnd,
}

impl PortRole {
    /// Both roles, in the order of [`index`](Self::index).
    pub const ALL: [Self; 2] = [Self::Fabric, Self::FrontEnd];

    /// 0 for the fabric, 1 for the front end.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in status, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fabric => "fabric",
            Self::FrontEnd => "front_end",
        }
    }
}

/// What a port can still do to a frame on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// It completes partial transport checksums of untunnelled packets.
    pub checksum: bool,
    /// It cuts super-packets of untunnelled packets.
    pub gso: bool,
}

/// The transmit queue has no room for the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the transmit queue is full")]
pub struct TransmitFull;

/// Frames that a port lost before the dispatcher saw them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// The ring was full.
    pub kernel_drops: u64,
    /// They were longer than a slot of the ring.
    pub truncated: u64,
    /// Their offload facts contradict them.
    pub offload_invalid: u64,
}

/// What became of queued frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flushed {
    /// Frames that left.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Frames that the link had no room for or refused.
    pub lost: u64,
}

/// The receiving half of a port.
#[derive(Debug)]
pub enum Rx {
    /// A ring of a link of the host, and what of its counters was reported.
    Packet(packet::Rx, packet::RxCounters),
    /// A queue in memory.
    Sim(sim::SimRx),
}

impl Rx {
    /// Fills `batch` with views of received frames, each with at least
    /// [`HEADROOM`](nvgate_packet::buf::HEADROOM) bytes in front.
    pub fn receive<'a>(&'a mut self, batch: &mut Batch<'a>) {
        match self {
            Self::Packet(rx, _) => {
                rx.receive(batch);
            }
            Self::Sim(rx) => rx.receive(batch),
        }
    }

    /// Gives the memory of the last batch back.
    pub fn release(&mut self) {
        match self {
            Self::Packet(rx, _) => rx.release(),
            Self::Sim(rx) => rx.release(),
        }
    }

    /// What was lost since the last call. Costs a system call: once in a while, not once a batch.
    pub fn take_losses(&mut self) -> Losses {
        match self {
            Self::Packet(rx, reported) => {
                let counters = rx.counters();
                let losses = Losses {
                    kernel_drops: counters.ring_full - reported.ring_full,
                    truncated: counters.truncated - reported.truncated,
                    offload_invalid: counters.offload_invalid - reported.offload_invalid,
                };
                *reported = counters;
                losses
            }
            Self::Sim(_) => Losses::default(),
        }
    }
}

/// The transmitting half of a port.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "two a worker; a box would cost an indirection a frame"
)]
pub enum Tx {
    /// A link of the host, and what of its counters was reported.
    Packet(packet::Tx, packet::TxCounters),
    /// A queue in memory.
    Sim(sim::SimTx),
}

impl Tx {
    /// What this port can still do to a frame.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        match self {
            Self::Packet(..) => Capabilities { checksum: true, gso: true },
            Self::Sim(tx) => tx.capabilities(),
        }
    }

    /// Queues the frame `head` followed by `tail`; both are copied.
    ///
    /// # Errors
    ///
    /// [`TransmitFull`]; the frame is then not queued.
    #[inline]
    pub fn send(&mut self, head: &[u8], tail: &[u8], offload: Offload) -> Result<(), TransmitFull> {
        match self {
            Self::Packet(tx, _) => tx.send(head, tail, offload).map_err(|_| TransmitFull),
            Self::Sim(tx) => tx.send(head, tail, offload),
        }
    }

    /// As [`send`](Self::send), for a UDP datagram with a partial checksum, which may leave together
    /// with others between the same sockets.
    ///
    /// # Errors
    ///
    /// [`TransmitFull`]; the frame is then not queued.
    #[inline]
    pub fn send_datagram(&mut self, frame: &[u8], offload: Offload) -> Result<(), TransmitFull> {
        match self {
            Self::Packet(tx, _) => tx.send_datagram(frame, offload).map_err(|_| TransmitFull),
            Self::Sim(tx) => tx.send(frame, &[], offload),
        }
    }

    /// Hands queued frames to the network; returns what became of them since the last call.
    pub fn flush(&mut self) -> Flushed {
        match self {
            Self::Packet(tx, reported) => {
                tx.flush();
                let counters = tx.counters();
                let lost = |counters: &packet::TxCounters| counters.congested + counters.refused;
                let flushed = Flushed {
                    frames: counters.frames - reported.frames,
                    bytes: counters.bytes - reported.bytes,
                    lost: lost(&counters) - lost(reported),
                };
                *reported = counters;
                flushed
            }
            Self::Sim(tx) => tx.flush(),
        }
    }
}
