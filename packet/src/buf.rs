//! A mutable view of one packet with headroom in front, and the offload facts that came with it.
//!
//! The memory belongs to whoever filled the batch (a receive ring, a simulation queue, a handoff
//! buffer); the view only moves its two ends.

use crate::checksum;

/// Headroom every packet has when it enters the dispatcher, in bytes: enough for an IPv6 NVGRE
/// header (14 + 40 + 8 + 14) and a tunnel's.
pub const HEADROOM: usize = 128;

/// The longest packet a view holds behind its headroom, in bytes: a 64 KiB super-packet with its
/// outer and inner headers.
pub const MAX_FRAME: usize = 65_536 + 128;

/// Whether the transport checksum of the innermost packet is on the wire yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// The bytes are as they should be on the wire.
    #[default]
    Complete,
    /// The checksum field holds the pseudo-header sum only (as `VIRTIO_NET_HDR_F_NEEDS_CSUM`):
    /// the sum of everything from `start` to the end is still to be added. Both positions count
    /// from the front of the view.
    Partial {
        /// Where the checksummed bytes begin: the transport header.
        start: u32,
        /// Where the checksum field is, from `start`.
        field: u16,
    },
}

/// What kind of super-packet a view holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoKind {
    /// TCP over IPv4, to be cut into segments.
    TcpV4,
    /// TCP over IPv6, to be cut into segments.
    TcpV6,
    /// UDP datagrams of one flow, to be cut into datagrams (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// A super-packet's kind and the payload bytes of each packet it stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// The transport and address family.
    pub kind: GsoKind,
    /// Transport payload bytes a segment, at least 1; the last segment may have fewer.
    pub size: u16,
}

/// Offload facts of a packet: what is still to be done before it is a packet on a wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// The state of the innermost transport checksum.
    pub checksum: Checksum,
    /// Set when the packet stands for several.
    pub gso: Option<Gso>,
}

/// There is not enough room in front of the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{needed} bytes are needed in front of the packet, {available} are there")]
pub struct NoHeadroom {
    /// Bytes asked for.
    pub needed: usize,
    /// Bytes in front of the view.
    pub available: usize,
}

/// A mutable view of one packet.
#[derive(Debug)]
pub struct PacketBuf<'a> {
    storage: &'a mut [u8],
    front: u32,
    back: u32,
    offload: Offload,
}

impl<'a> PacketBuf<'a> {
    /// A view of `storage[front..back]`; bytes before `front` are headroom. The ends are brought
    /// into the storage when they lie outside.
    #[must_use]
    pub fn new(storage: &'a mut [u8], front: usize, back: usize, offload: Offload) -> Self {
        let limit = storage.len().min(u32::MAX as usize);
        let back = back.min(limit);
        let front = front.min(back);
        Self { storage, front: front as u32, back: back as u32, offload }
    }

    /// The packet's bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.front as usize..self.back as usize]
    }

    /// The packet's bytes, to change in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.front as usize..self.back as usize]
    }

    /// The packet's length in bytes.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        (self.back - self.front) as usize
    }

    /// Whether the packet has no bytes.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.back == self.front
    }

    /// Bytes free in front of the packet.
    #[inline]
    #[must_use]
    pub const fn headroom(&self) -> usize {
        self.front as usize
    }

    /// The offload facts.
    #[inline]
    #[must_use]
    pub const fn offload(&self) -> Offload {
        self.offload
    }

    /// Replaces the offload facts.
    #[inline]
    pub const fn replace_offload(&mut self, offload: Offload) {
        self.offload = offload;
    }

    /// Removes `count` bytes (at most the whole packet) from the front. A partial checksum whose
    /// region began in the removed bytes is completed by the caller before, or is lost.
    #[inline]
    pub fn strip(&mut self, count: usize) {
        let count = count.min(self.len()) as u32;
        self.front += count;
        if let Checksum::Partial { start, field } = self.offload.checksum {
            self.offload.checksum = match start.checked_sub(count) {
                Some(start) => Checksum::Partial { start, field },
                None => Checksum::Complete,
            };
        }
    }

    /// Cuts the packet to `length` bytes when it is longer (Ethernet padding, trailers).
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        if length < self.len() {
            self.back = self.front + length as u32;
        }
    }

    /// Puts `N` bytes in front of the packet and returns them, to be overwritten.
    #[inline]
    pub fn prepend<const N: usize>(&mut self) -> Result<&mut [u8; N], NoHeadroom> {
        let refuse = NoHeadroom { needed: N, available: self.headroom() };
        self.prepend_slice(N)?.first_chunk_mut().ok_or(refuse)
    }

    /// Puts `count` bytes in front of the packet and returns them, to be overwritten.
    #[inline]
    pub fn prepend_slice(&mut self, count: usize) -> Result<&mut [u8], NoHeadroom> {
        let front = self.headroom();
        if count > front {
            return Err(NoHeadroom { needed: count, available: front });
        }
        self.front -= count as u32;
        if let Checksum::Partial { start, field } = self.offload.checksum {
            self.offload.checksum = Checksum::Partial { start: start + count as u32, field };
        }
        Ok(&mut self.storage[front - count..front])
    }

    /// Adds up a partial checksum, so that the bytes are as on the wire. Returns `false`, and
    /// leaves the packet alone, when the checksum region lies outside the packet.
    pub fn complete_checksum(&mut self) -> bool {
        let Checksum::Partial { start, field } = self.offload.checksum else { return true };
        let start = start as usize;
        let at = start + usize::from(field);
        let bytes = self.bytes_mut();
        if at + 2 > bytes.len() {
            return false;
        }
        let value = match checksum::finish(checksum::sum(&bytes[start..])) {
            // A UDP checksum of zero means "none" (RFC 768); TCP accepts either zero.
            0 => 0xffff,
            value => value,
        };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        self.offload.checksum = Checksum::Complete;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_region_follows_the_front() {
        let mut storage = [0_u8; 256];
        let offload =
            Offload { checksum: Checksum::Partial { start: 34, field: 16 }, ..Offload::default() };
        let mut packet = PacketBuf::new(&mut storage, 128, 200, offload);
        packet.strip(14);
        assert_eq!(packet.offload().checksum, Checksum::Partial { start: 20, field: 16 });
        assert_eq!(packet.prepend::<56>().map(|bytes| bytes.len()), Ok(56));
        assert_eq!(packet.offload().checksum, Checksum::Partial { start: 76, field: 16 });
        packet.strip(80);
        assert_eq!(packet.offload().checksum, Checksum::Complete);
    }

    #[test]
    fn headroom_is_never_overdrawn() {
        let mut storage = [0_u8; 64];
        let mut packet = PacketBuf::new(&mut storage, 10, 20, Offload::default());
        assert_eq!(packet.prepend_slice(11).err(), Some(NoHeadroom { needed: 11, available: 10 }));
        assert_eq!(packet.len(), 10);
        assert!(packet.prepend_slice(10).is_ok());
        assert_eq!(packet.len(), 20);
    }

    #[test]
    fn a_partial_checksum_outside_the_packet_is_refused() {
        let mut storage = [0_u8; 64];
        let offload =
            Offload { checksum: Checksum::Partial { start: 8, field: 1 }, ..Offload::default() };
        let mut packet = PacketBuf::new(&mut storage, 0, 10, offload);
        assert!(!packet.complete_checksum());
        assert_eq!(packet.offload(), offload);
    }

    #[test]
    fn completing_a_checksum_makes_the_region_sum_to_all_ones() {
        let mut storage: Vec<u8> = (0..64).collect();
        let offload =
            Offload { checksum: Checksum::Partial { start: 20, field: 16 }, ..Offload::default() };
        let pseudo = 0x1234_u32;
        storage[36..38].copy_from_slice(&(pseudo as u16).to_be_bytes());
        let mut packet = PacketBuf::new(&mut storage, 0, 64, offload);
        assert!(packet.complete_checksum());
        let total = checksum::fold(u64::from(pseudo) + u64::from(checksum::sum(&storage[20..])));
        assert_eq!(total, 0xffff);
    }
}
