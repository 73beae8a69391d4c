//! Rings that hand packets to the worker that owns them.
//!
//! One pair of rings for every ordered pair of workers: full buffers go one way, empty ones come
//! back the other, so that handing on neither allocates nor shares a buffer. No empty buffer left
//! means that the ring is full.

use nvgate_model::DomainSlot;
use nvgate_packet::buf::{HEADROOM, MAX_FRAME, Offload, PacketBuf};
use nvgate_packet::flow_key::Place;
use nvgate_vpn::TunnelIndex;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::io::PortRole;

/// Packets under way between two workers, in one direction.
pub const RING_LENGTH: usize = 512;

/// What is already known about who owns a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Nothing: it came from a port.
    Unknown,
    /// It is a fragment, and this worker coordinates its datagram.
    Datagram,
    /// The worker that has it now.
    Mine,
}

/// Where a packet that was handed on goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// A frame as it arrived at a port.
    Arrived {
        /// The port.
        port: PortRole,
        /// What is known about its owner.
        owner: Owner,
    },
    /// A frame from the front end for this tunnel of the worker.
    Tunnel {
        /// The tunnel.
        tunnel: TunnelIndex,
    },
    /// An IP packet that a tunnel of the site let out.
    FromSite {
        /// The routing domain.
        domain: DomainSlot,
        /// The site, by what a reload does not change.
        site: Place,
        /// What is known about its owner.
        owner: Owner,
    },
    /// An IP packet that is to go into a tunnel of the site, ready but for the tunnel.
    IntoSite {
        /// The routing domain.
        domain: DomainSlot,
        /// The site, by what a reload does not change.
        site: Place,
        /// What the choice of the tunnel is made by.
        flow: u64,
    },
}

#[derive(Debug)]
struct Parcel {
    storage: Box<[u8]>,
    length: usize,
    offload: Offload,
    stage: Stage,
}

impl Parcel {
    fn empty() -> Self {
        Self {
            storage: vec![0; HEADROOM + MAX_FRAME].into_boxed_slice(),
            length: 0,
            offload: Offload::default(),
            stage: Stage::Arrived { port: PortRole::Fabric, owner: Owner::Unknown },
        }
    }
}

#[derive(Debug)]
struct Sending {
    full: Producer<Parcel>,
    empty: Consumer<Parcel>,
}

#[derive(Debug)]
struct Receiving {
    full: Consumer<Parcel>,
    empty: Producer<Parcel>,
}

/// The rings to the other workers, by their index.
#[derive(Debug, Default)]
pub struct Outbox {
    rings: Vec<Option<Sending>>,
    /// Workers that were sent something since the last [`take_touched`](Self::take_touched).
    touched: u64,
}

/// The rings from the other workers.
#[derive(Debug, Default)]
pub struct Inbox {
    rings: Vec<Receiving>,
}

/// The ring to the owner is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandoffFull;

/// The rings among `workers` workers: one outbox and inbox each.
#[must_use]
pub fn mesh(workers: u16) -> Vec<(Outbox, Inbox)> {
    let count = usize::from(workers);
    let mut ends: Vec<(Outbox, Inbox)> = (0..count).map(|_| Default::default()).collect();
    for from in 0..count {
        for to in 0..count {
            if from == to {
                ends[from].0.rings.push(None);
                continue;
            }
            let (full_in, full_out) = RingBuffer::new(RING_LENGTH);
            let (mut empty_in, empty_out) = RingBuffer::new(RING_LENGTH);
            for _ in 0..RING_LENGTH {
                // The ring has exactly this many places.
                let _ = empty_in.push(Parcel::empty());
            }
            ends[from].0.rings.push(Some(Sending { full: full_in, empty: empty_out }));
            ends[to].1.rings.push(Receiving { full: full_out, empty: empty_in });
        }
    }
    ends
}

impl Outbox {
    /// Copies `packet` into the ring to worker `to`.
    ///
    /// # Errors
    ///
    /// [`HandoffFull`] when the owner lags behind, or when the packet is longer than
    /// [`MAX_FRAME`].
    pub fn send(
        &mut self,
        to: u16,
        stage: Stage,
        packet: &PacketBuf<'_>,
    ) -> Result<(), HandoffFull> {
        let Some(Some(ring)) = self.rings.get_mut(usize::from(to)) else {
            return Err(HandoffFull);
        };
        let bytes = packet.bytes();
        if bytes.len() > MAX_FRAME {
            return Err(HandoffFull);
        }
        let mut parcel = ring.empty.pop().map_err(|_| HandoffFull)?;
        parcel.storage[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        parcel.length = bytes.len();
        parcel.offload = packet.offload();
        parcel.stage = stage;
        ring.full.push(parcel).map_err(|_| HandoffFull)?;
        self.touched |= 1 << (to % 64);
        Ok(())
    }

    /// The workers that were sent something since the last call, as a bit each (modulo 64).
    pub const fn take_touched(&mut self) -> u64 {
        let touched = self.touched;
        self.touched = 0;
        touched
    }
}

impl Inbox {
    /// Shows at most `limit` waiting packets of every ring to `process`; says how many.
    pub fn drain(
        &mut self,
        limit: usize,
        mut process: impl FnMut(Stage, &mut PacketBuf<'_>),
    ) -> usize {
        let mut drained = 0;
        for ring in &mut self.rings {
            for _ in 0..limit {
                let Ok(mut parcel) = ring.full.pop() else { break };
                let back = HEADROOM + parcel.length;
                let mut packet =
                    PacketBuf::new(&mut parcel.storage, HEADROOM, back, parcel.offload);
                process(parcel.stage, &mut packet);
                // As many places as buffers: the push cannot fail.
                let _ = ring.empty.push(parcel);
                drained += 1;
            }
        }
        drained
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rings.iter().all(|ring| ring.full.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(storage: &mut [u8]) -> PacketBuf<'_> {
        let back = storage.len();
        PacketBuf::new(storage, 0, back, Offload::default())
    }

    #[test]
    fn packets_arrive_in_order_and_buffers_come_back() {
        let mut ends = mesh(2);
        let stage = Stage::Arrived { port: PortRole::FrontEnd, owner: Owner::Mine };
        for round in 0..3 * RING_LENGTH {
            let mut bytes = (round as u32).to_be_bytes();
            assert_eq!(ends[0].0.send(1, stage, &packet(&mut bytes)), Ok(()));
            assert_eq!(ends[0].0.take_touched(), 0b10);
            let mut seen = Vec::new();
            ends[1].1.drain(8, |stage, packet| seen.push((stage, packet.bytes().to_vec())));
            assert_eq!(seen, [(stage, bytes.to_vec())]);
        }
    }

    #[test]
    fn a_full_ring_refuses_and_loses_nothing() {
        let mut ends = mesh(3);
        let stage = Stage::Arrived { port: PortRole::Fabric, owner: Owner::Unknown };
        let mut bytes = [1, 2, 3];
        for _ in 0..RING_LENGTH {
            assert_eq!(ends[0].0.send(2, stage, &packet(&mut bytes)), Ok(()));
        }
        assert_eq!(ends[0].0.send(2, stage, &packet(&mut bytes)), Err(HandoffFull));
        assert_eq!(ends[0].0.send(1, stage, &packet(&mut bytes)), Ok(()));
        assert_eq!(ends[0].0.send(0, stage, &packet(&mut bytes)), Err(HandoffFull));
        assert_eq!(ends[2].1.drain(usize::MAX, |_, _| ()), RING_LENGTH);
        assert!(ends[2].1.is_empty());
    }
}
