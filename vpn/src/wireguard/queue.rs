//! Packets that wait for a handshake: few, the oldest giving way.

use std::collections::VecDeque;

/// Packets a tunnel keeps; what a TCP sender's first flight has, and no more.
pub(crate) const QUEUE_PACKETS: usize = 16;

/// A packet as it will be encrypted.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// With padding.
    pub(crate) plaintext: Vec<u8>,
    /// Without padding.
    pub(crate) length: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    packets: VecDeque<Waiting>,
    /// Packets that made way and are not reported yet.
    pub(crate) displaced: u32,
    /// Packets given up with their handshake and not reported yet.
    pub(crate) abandoned: u32,
    /// Packets that could not be sealed when their turn came and are not reported yet.
    pub(crate) unfit: u32,
}

impl Queue {
    pub(crate) fn push(&mut self, packet: Waiting) {
        if self.packets.len() == QUEUE_PACKETS {
            self.packets.pop_front();
            self.displaced = self.displaced.saturating_add(1);
        }
        self.packets.push_back(packet);
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        self.packets.pop_front()
    }

    pub(crate) fn abandon(&mut self) {
        let count = u32::try_from(self.packets.len()).unwrap_or(u32::MAX);
        self.abandoned = self.abandoned.saturating_add(count);
        self.packets.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }
}
