//! IPv4 fragmentation (RFC 791 section 3.2) for the one way out that may need it: towards a
//! front end with a smaller MTU, of a packet that does not forbid it.
//!
//! The payload is never copied: each fragment is an IP header written into the caller's memory
//! and a range of the packet. The caller has completed the transport checksum before.

use std::ops::Range;

use nvgate_model::DropReason;

use crate::checksum;
use crate::headers::{Family, Headers, IPV4_LENGTH, read_u16};

/// The most fragments one packet becomes: 64 KiB in steps of 8 bytes.
pub const MAX_FRAGMENTS: usize = 8192;

/// The longest IPv4 header, in bytes.
pub const MAX_HEAD: usize = 60;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// The bit of an option's type that asks for a copy in every fragment (RFC 791 section 3.1).
const COPIED: u8 = 0x80;

/// One fragment of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Bytes of IPv4 header that were written.
    pub head_length: usize,
    /// Where the payload lies in the packet.
    pub payload: Range<usize>,
}

/// The fragments of one IPv4 packet, first to last.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    packet: &'a [u8],
    /// The header of all fragments but the first: only the options that ask to be copied.
    later_head: [u8; MAX_HEAD],
    later_length: usize,
    first_length: usize,
    end: usize,
    mtu: usize,
    /// The flags and offset of the packet as it came.
    word: u16,
    next_at: Option<usize>,
}

impl<'a> Fragments<'a> {
    /// The fragments of `packet`, which begins at its IPv4 header and whose headers are
    /// `headers`, for a link that carries IP packets of up to `mtu` bytes. A packet that fits
    /// comes out whole; one that is a fragment already is cut further.
    ///
    /// # Errors
    ///
    /// `TooBig` for IPv6, for packets that must not be fragmented, and when the MTU leaves no
    /// eight bytes behind the header; `IpMalformed` when the fragment would end past 64 KiB.
    pub fn new(packet: &'a [u8], headers: &Headers, mtu: usize) -> Result<Self, DropReason> {
        let first_length = usize::from(headers.transport_at);
        let end = headers.length as usize;
        if headers.family == Family::V6 {
            return Err(DropReason::TooBig);
        }
        let Some(head) = packet.get(..first_length).filter(|head| head.len() >= IPV4_LENGTH) else {
            return Err(DropReason::IpMalformed);
        };
        let word = read_u16(packet, 6);
        let offset = usize::from(word & OFFSET) * 8;
        if first_length > MAX_HEAD
            || end < first_length
            || end > packet.len()
            || offset + (end - first_length) > usize::from(u16::MAX)
        {
            return Err(DropReason::IpMalformed);
        }
        if end > mtu && (word & DONT_FRAGMENT != 0 || mtu < first_length + 8) {
            return Err(DropReason::TooBig);
        }
        let (later_head, later_length) = copied_options(head);
        let next_at = Some(first_length);
        Ok(Self { packet, later_head, later_length, first_length, end, mtu, word, next_at })
    }

    /// Writes the header of the next fragment to the front of `head` and names its payload.
    /// `None` behind the last one, or when `head` is shorter than [`MAX_HEAD`].
    pub fn next(&mut self, head: &mut [u8]) -> Option<Piece> {
        let head = head.first_chunk_mut::<MAX_HEAD>()?;
        let from = self.next_at?;
        let head_length = if from == self.first_length {
            head[..self.first_length].copy_from_slice(&self.packet[..self.first_length]);
            self.first_length
        } else {
            head.copy_from_slice(&self.later_head);
            self.later_length
        };
        let room = self.mtu - head_length.min(self.mtu);
        let left = self.end - from;
        let (length, last) = if left <= room { (left, true) } else { (room & !7, false) };
        let offset = (self.word & OFFSET) + ((from - self.first_length) / 8) as u16;
        let more = if last { self.word & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let word = self.word & DONT_FRAGMENT | more | offset;
        head[2..4].copy_from_slice(&((head_length + length) as u16).to_be_bytes());
        head[6..8].copy_from_slice(&word.to_be_bytes());
        head[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&head[..head_length]));
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        self.next_at = (!last).then_some(from + length);
        Some(Piece { head_length, payload: from..from + length })
    }
}

/// The header `head` without the options that belong to the first fragment only, and its length.
fn copied_options(head: &[u8]) -> ([u8; MAX_HEAD], usize) {
    let mut later = [0; MAX_HEAD];
    later[..IPV4_LENGTH].copy_from_slice(&head[..IPV4_LENGTH]);
    let mut length = IPV4_LENGTH;
    let mut options = &head[IPV4_LENGTH..];
    while let [kind, rest @ ..] = options {
        let size = match kind {
            0 => break,
            1 => 1,
            _ => rest.first().map_or(0, |&size| usize::from(size)),
        };
        if size == 0 || size > options.len() {
            break;
        }
        if kind & COPIED != 0 {
            later[length..length + size].copy_from_slice(&options[..size]);
            length += size;
        }
        options = &options[size..];
    }
    let length = length.next_multiple_of(4);
    later[0] = 0x40 | (length / 4) as u8;
    (later, length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::headers::UDP;
    use crate::samples::{ipv4, udp};

    fn cut(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, DropReason> {
        let headers = Headers::parse(packet).unwrap();
        let mut fragments = Fragments::new(packet, &headers, mtu)?;
        let (mut head, mut packets) = ([0; MAX_HEAD], Vec::new());
        while let Some(piece) = fragments.next(&mut head) {
            let mut one = head[..piece.head_length].to_vec();
            one.extend(&packet[piece.payload]);
            packets.push(one);
        }
        Ok(packets)
    }

    fn shape(packet: &[u8]) -> (usize, u16, usize) {
        (usize::from(packet[0] & 15) * 4, read_u16(packet, 6), packet.len())
    }

    #[test]
    fn every_fragment_but_the_last_is_a_multiple_of_eight_bytes() {
        let packet = ipv4(UDP, 0, &[], &udp(&[5; 200]));
        let packets = cut(&packet, 100).unwrap();
        let shapes: Vec<_> = packets.iter().map(|packet| shape(packet)).collect();
        assert_eq!(shapes, [(20, 0x2000, 100), (20, 0x200a, 100), (20, 0x0014, 68)]);
        assert!(packets.iter().all(|packet| read_u16(packet, 4) == 0xabcd));
    }

    #[test]
    fn a_fragment_keeps_its_place_in_the_datagram() {
        let packet = ipv4(UDP, 0x2000 | 100, &[], &[5; 160]);
        let packets = cut(&packet, 120).unwrap();
        let shapes: Vec<_> = packets.iter().map(|packet| shape(packet)).collect();
        assert_eq!(shapes, [(20, 0x2000 | 100, 116), (20, 0x2000 | 112, 84)]);
    }

    #[test]
    fn only_options_that_ask_for_it_are_copied() {
        // Record route (7) stays behind, router alert (148) is copied.
        let options = [7, 3, 4, 1, 148, 4, 0, 9];
        let packets = cut(&ipv4(UDP, 0, &options, &udp(&[5; 100])), 84).unwrap();
        assert_eq!(&packets[0][20..28], &options);
        assert_eq!(&packets[1][20..24], &options[4..]);
        let shapes: Vec<_> = packets.iter().map(|packet| shape(packet)).collect();
        assert_eq!(shapes, [(28, 0x2000, 84), (24, 0x0007, 76)]);
    }

    #[test]
    fn what_fits_comes_out_whole_and_what_must_not_be_cut_is_refused() {
        let packet = ipv4(UDP, DONT_FRAGMENT, &[], &udp(&[5; 100]));
        assert_eq!(cut(&packet, 128), Ok(vec![packet.clone()]));
        assert_eq!(cut(&packet, 127), Err(DropReason::TooBig));
        assert_eq!(cut(&ipv4(UDP, 0, &[], &udp(&[5; 100])), 27), Err(DropReason::TooBig));
        let past_the_end = ipv4(UDP, 0x1fff, &[], &[5; 100]);
        assert_eq!(cut(&past_the_end, 60), Err(DropReason::IpMalformed));
    }

    proptest! {
        #[test]
        fn fragments_carry_the_payload_once_and_in_order(
            length in 0_usize..3000, mtu in 68_usize..1600, options in proptest::collection::vec(any::<u8>(), 0..10),
        ) {
            let options: Vec<u8> = options.iter().flat_map(|&kind| [kind | 0x20, 4, 0, 0]).collect();
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let packet = ipv4(UDP, 0, &options, &udp(&payload));
            let mut joined: Vec<u8> = Vec::new();
            let packets = cut(&packet, mtu).unwrap();
            prop_assert!(packets.len() <= MAX_FRAGMENTS);
            for one in &packets {
                let headers = Headers::parse(one).unwrap();
                prop_assert_eq!(usize::from(read_u16(one, 6) & OFFSET) * 8, joined.len());
                prop_assert!(one.len() <= mtu);
                joined.extend(&one[usize::from(headers.transport_at)..]);
            }
            prop_assert_eq!(&joined[8..], payload);
        }

        #[test]
        fn any_bytes_return(bytes in proptest::collection::vec(any::<u8>(), 0..200), mtu in 0_usize..300, options in 5_u8..16) {
            let mut bytes = bytes;
            let header_length = usize::from(options) * 4;
            if bytes.len() >= header_length {
                let length = bytes.len() as u16;
                bytes[0] = 0x40 | options;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                let headers = Headers {
                    family: Family::V4,
                    protocol: 200,
                    transport_at: header_length as u16,
                    length: u32::from(length),
                    fragment: crate::headers::Fragment::Whole,
                    transport: crate::headers::Transport::Opaque,
                    source_port: 0,
                    destination_port: 0,
                };
                if let Ok(mut fragments) = Fragments::new(&bytes, &headers, mtu) {
                    let mut head = [0; MAX_HEAD];
                    while fragments.next(&mut head).is_some() {}
                }
            }
        }
    }
}
