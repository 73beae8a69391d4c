//! Rings between a worker and the thread that runs the gateway's own endpoints.
//!
//! One pair each way, as between workers: full buffers go one way, empty ones come back the other. A
//! buffer remembers whose packet it carried, so that its sender knows how many of each domain are
//! under way and none takes the places of all.

use nvgate_model::DomainSlot;
use nvgate_packet::buf::{HEADROOM, Offload, PacketBuf};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::endpoint::MAX_PACKET;

/// Packets under way in one direction between a worker and the endpoint's thread.
pub const RING_LENGTH: usize = 512;
/// Those of them that may be one routing domain's.
pub const DOMAIN_SHARE: usize = 64;

#[derive(Debug)]
struct Parcel {
    storage: Box<[u8]>,
    length: usize,
    domain: DomainSlot,
}

/// The end of a ring that packets go into.
#[derive(Debug)]
pub struct RingSender {
    full: Producer<Parcel>,
    empty: Consumer<Parcel>,
    /// Buffers that came back.
    spare: Vec<Parcel>,
    /// Packets of each domain that are under way, by its slot.
    under_way: Vec<u16>,
    touched: bool,
}

/// The end of a ring that packets come out of.
#[derive(Debug)]
pub struct RingReceiver {
    full: Consumer<Parcel>,
    empty: Producer<Parcel>,
}

/// The ring is full, the domain's share of it is used up, or the packet is longer than
/// [`MAX_PACKET`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingFull;

/// A worker's ends of both rings.
#[derive(Debug)]
pub struct WorkerEnd {
    /// Packets for the endpoints.
    pub punts: RingSender,
    /// Packets that the endpoints send.
    pub injected: RingReceiver,
}

/// The endpoint thread's ends of a worker's rings.
#[derive(Debug)]
pub struct EndpointEnd {
    /// Packets for the endpoints.
    pub punted: RingReceiver,
    /// Packets that the endpoints send.
    pub injects: RingSender,
}

/// Both rings of one worker.
#[must_use]
pub fn pair() -> (WorkerEnd, EndpointEnd) {
    let (punts, punted) = ring();
    let (injects, injected) = ring();
    (WorkerEnd { punts, injected }, EndpointEnd { punted, injects })
}

fn ring() -> (RingSender, RingReceiver) {
    let (full_in, full_out) = RingBuffer::new(RING_LENGTH);
    let (empty_in, empty_out) = RingBuffer::new(RING_LENGTH);
    let parcel = || Parcel {
        storage: vec![0; HEADROOM + MAX_PACKET].into_boxed_slice(),
        length: 0,
        domain: DomainSlot(0),
    };
    let sender = RingSender {
        full: full_in,
        empty: empty_out,
        spare: std::iter::repeat_with(parcel).take(RING_LENGTH).collect(),
        under_way: Vec::new(),
        touched: false,
    };
    (sender, RingReceiver { full: full_out, empty: empty_in })
}

impl RingSender {
    /// How many packets of `domain` the ring takes now.
    pub fn room(&mut self, domain: DomainSlot) -> usize {
        while let Ok(parcel) = self.empty.pop() {
            if let Some(count) = self.under_way.get_mut(parcel.domain.0 as usize) {
                *count = count.saturating_sub(1);
            }
            self.spare.push(parcel);
        }
        let used = self.under_way.get(domain.0 as usize).map_or(0, |&count| usize::from(count));
        DOMAIN_SHARE.saturating_sub(used).min(self.spare.len())
    }

    /// Has `write` make a packet of `domain` in the ring: it says how long the packet became, or
    /// that there is none after all. Says whether there was one.
    ///
    /// # Errors
    ///
    /// [`RingFull`]; nothing was asked of `write` then.
    pub fn send_with(
        &mut self,
        domain: DomainSlot,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<bool, RingFull> {
        if self.room(domain) == 0 {
            return Err(RingFull);
        }
        let mut parcel = self.spare.pop().ok_or(RingFull)?;
        let Some(length) = write(&mut parcel.storage[HEADROOM..]) else {
            self.spare.push(parcel);
            return Ok(false);
        };
        parcel.length = length.min(MAX_PACKET);
        parcel.domain = domain;
        let slot = domain.0 as usize;
        if self.under_way.len() <= slot {
            self.under_way.resize(slot + 1, 0);
        }
        self.under_way[slot] += 1;
        // As many places as buffers: the push cannot fail.
        let _ = self.full.push(parcel);
        self.touched = true;
        Ok(true)
    }

    /// Copies a packet of `domain` into the ring, as a header and what follows it.
    ///
    /// # Errors
    ///
    /// [`RingFull`].
    pub fn send(&mut self, domain: DomainSlot, head: &[u8], rest: &[u8]) -> Result<(), RingFull> {
        let length = head.len() + rest.len();
        if length > MAX_PACKET {
            return Err(RingFull);
        }
        let copied = self.send_with(domain, |out| {
            out[..head.len()].copy_from_slice(head);
            out[head.len()..length].copy_from_slice(rest);
            Some(length)
        });
        copied.map(|_| ())
    }

    /// Whether something was sent since the last call: the other thread may have to be woken.
    pub const fn take_touched(&mut self) -> bool {
        std::mem::replace(&mut self.touched, false)
    }
}

impl RingReceiver {
    /// Shows at most `limit` waiting packets to `process`; says how many.
    pub fn drain(
        &mut self,
        limit: usize,
        mut process: impl FnMut(DomainSlot, &mut PacketBuf<'_>),
    ) -> usize {
        for drained in 0..limit {
            let Ok(mut parcel) = self.full.pop() else { return drained };
            let back = HEADROOM + parcel.length;
            let mut packet =
                PacketBuf::new(&mut parcel.storage, HEADROOM, back, Offload::default());
            process(parcel.domain, &mut packet);
            // As many places as buffers: the push cannot fail.
            let _ = self.empty.push(parcel);
        }
        limit
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: DomainSlot = DomainSlot(0);
    const B: DomainSlot = DomainSlot(7);

    #[test]
    fn packets_arrive_in_order_with_their_domain_and_buffers_come_back() {
        let (mut sender, mut receiver) = ring();
        for round in 0..3 * RING_LENGTH as u32 {
            assert_eq!(sender.send(B, &round.to_be_bytes(), b"rest"), Ok(()));
            assert!(sender.take_touched() && !sender.take_touched());
            let mut seen = Vec::new();
            receiver.drain(8, |domain, packet| seen.push((domain, packet.bytes().to_vec())));
            assert_eq!(seen, [(B, [&round.to_be_bytes()[..], b"rest"].concat())]);
        }
    }

    #[test]
    fn a_domain_fills_its_share_and_leaves_the_others_theirs() {
        let (mut sender, mut receiver) = ring();
        let sent = (0..RING_LENGTH).filter(|_| sender.send(A, b"a", b"").is_ok()).count();
        assert_eq!(sent, DOMAIN_SHARE);
        assert_eq!(sender.room(B), DOMAIN_SHARE);
        assert_eq!(sender.send(B, b"b", b""), Ok(()));
        assert_eq!(receiver.drain(10, |_, _| ()), 10);
        assert_eq!((sender.room(A), sender.room(B)), (10, DOMAIN_SHARE - 1));
    }

    #[test]
    fn many_domains_together_fill_the_ring_and_no_more() {
        let (mut sender, mut receiver) = ring();
        let domains = (0..100).map(DomainSlot);
        let sent = domains.flat_map(|domain| [domain; 10]);
        assert_eq!(sent.filter(|&domain| sender.send(domain, b"x", b"").is_ok()).count(), 512);
        assert_eq!(receiver.drain(usize::MAX, |_, _| ()), RING_LENGTH);
        assert!(receiver.is_empty());
    }

    #[test]
    fn what_is_too_long_or_not_made_takes_no_place() {
        let (mut sender, _receiver) = ring();
        assert_eq!(sender.send(A, &[0; MAX_PACKET], &[0]), Err(RingFull));
        assert_eq!(sender.send_with(A, |_| None), Ok(false));
        assert_eq!(sender.room(A), DOMAIN_SHARE);
    }
}
