//! Ports whose network is a queue in memory: for the simulation, tests and benchmarks.
//!
//! Slots are reused, so that a warm queue allocates nothing. Frames go in by [`SimRx::inject`]
//! and come out by [`SimTx::take`].

use nvgate_packet::buf::{HEADROOM, Offload, PacketBuf};

use super::{BATCH, Batch, Capabilities, Flushed, TransmitFull};

#[derive(Debug, Default, Clone)]
struct Slot {
    storage: Vec<u8>,
    length: usize,
    offload: Offload,
}

/// Frames that have arrived and wait for a worker.
#[derive(Debug)]
pub struct SimRx {
    slots: Vec<Slot>,
    first: usize,
    waiting: usize,
    lent: usize,
}

impl SimRx {
    /// An empty queue of at most `capacity` frames.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { slots: vec![Slot::default(); capacity.max(1)], first: 0, waiting: 0, lent: 0 }
    }

    /// Puts a frame into the queue; `false` when it is full.
    pub fn inject(&mut self, frame: &[u8], offload: Offload) -> bool {
        if self.waiting == self.slots.len() {
            return false;
        }
        let at = (self.first + self.waiting) % self.slots.len();
        let slot = &mut self.slots[at];
        slot.storage.clear();
        slot.storage.resize(HEADROOM, 0);
        slot.storage.extend_from_slice(frame);
        slot.length = frame.len();
        slot.offload = offload;
        self.waiting += 1;
        true
    }

    /// Frames waiting.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn receive<'a>(&'a mut self, batch: &mut Batch<'a>) {
        self.lent = self.waiting.min(BATCH);
        let (wrapped, front) = self.slots.split_at_mut(self.first);
        for slot in front.iter_mut().chain(wrapped).take(self.lent) {
            let back = HEADROOM + slot.length;
            batch.push(PacketBuf::new(&mut slot.storage, HEADROOM, back, slot.offload));
        }
    }

    pub(super) const fn release(&mut self) {
        self.first = (self.first + self.lent) % self.slots.len();
        self.waiting -= self.lent;
        self.lent = 0;
    }
}

/// Frames that were sent and wait to be taken.
#[derive(Debug)]
pub struct SimTx {
    slots: Vec<Slot>,
    first: usize,
    waiting: usize,
    capabilities: Capabilities,
    sent: Flushed,
}

impl SimTx {
    /// An empty queue of at most `capacity` frames for a port with these capabilities.
    #[must_use]
    pub fn new(capacity: usize, capabilities: Capabilities) -> Self {
        Self {
            slots: vec![Slot::default(); capacity.max(1)],
            first: 0,
            waiting: 0,
            capabilities,
            sent: Flushed::default(),
        }
    }

    /// Takes the oldest frame out and shows it; `None` when there is none.
    pub fn take<T>(&mut self, show: impl FnOnce(&[u8], Offload) -> T) -> Option<T> {
        if self.waiting == 0 {
            return None;
        }
        let slot = &self.slots[self.first];
        let shown = show(&slot.storage[..slot.length], slot.offload);
        self.first = (self.first + 1) % self.slots.len();
        self.waiting -= 1;
        Some(shown)
    }

    /// Forgets every waiting frame and says how many there were.
    pub const fn clear(&mut self) -> usize {
        let cleared = self.waiting;
        self.first = 0;
        self.waiting = 0;
        cleared
    }

    pub(super) const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub(super) fn flush(&mut self) -> Flushed {
        std::mem::take(&mut self.sent)
    }

    #[inline]
    pub(super) fn send(
        &mut self,
        head: &[u8],
        tail: &[u8],
        offload: Offload,
    ) -> Result<(), TransmitFull> {
        if self.waiting == self.slots.len() {
            return Err(TransmitFull);
        }
        let mut at = self.first + self.waiting;
        if at >= self.slots.len() {
            at -= self.slots.len();
        }
        let slot = &mut self.slots[at];
        slot.storage.clear();
        slot.storage.extend_from_slice(head);
        slot.storage.extend_from_slice(tail);
        slot.length = head.len() + tail.len();
        slot.offload = offload;
        self.waiting += 1;
        self.sent.frames += 1;
        self.sent.bytes += slot.length as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_in_the_order_they_went_in_across_the_wrap() {
        let mut rx = SimRx::new(3);
        let mut seen = Vec::new();
        for round in 0..5_u8 {
            assert!(rx.inject(&[round, 1], Offload::default()));
            assert!(rx.inject(&[round, 2], Offload::default()));
            while rx.waiting() > 0 {
                {
                    let mut batch = Batch::new();
                    rx.receive(&mut batch);
                    seen.extend(batch.iter().map(|packet| packet.bytes().to_vec()));
                    assert!(batch.iter().all(|packet| packet.headroom() == HEADROOM));
                }
                rx.release();
            }
        }
        let expected: Vec<_> = (0..5).flat_map(|round| [vec![round, 1], vec![round, 2]]).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_full_transmit_queue_refuses() {
        let mut tx = SimTx::new(1, Capabilities { checksum: false, gso: false });
        assert_eq!(tx.send(&[1], &[2], Offload::default()), Ok(()));
        assert_eq!(tx.send(&[3], &[], Offload::default()), Err(TransmitFull));
        assert_eq!(tx.take(|bytes, _| bytes.to_vec()), Some(vec![1, 2]));
        assert_eq!(tx.take(|_, _| ()), None);
    }
}
