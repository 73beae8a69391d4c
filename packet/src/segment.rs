//! Cutting a super-packet (TCP or UDP with segmentation left undone) into packets for a wire.
//!
//! The payload is never copied: each segment is a header written into the caller's memory and a
//! range of the super-packet, for a gathering send. Whatever state the super-packet's checksum
//! was in, every segment's is complete. Super-packets whose offload facts contradict their
//! headers are refused.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use nvgate_model::DropReason;

use crate::buf::{Checksum, Gso, GsoKind};
use crate::checksum;
use crate::headers::{
    Family, Fragment, Headers, TCP_FIN, TCP_RST, TCP_SYN, Transport, read_u16, read_u32, read_u128,
};

/// The most segments one super-packet is cut into: 64 KiB in steps of 8 bytes, the least that a
/// TCP sender's smallest segment size leaves beside full options.
pub const MAX_SEGMENTS: usize = 8192;

/// The longest header in front of a segment's payload, in bytes: IPv4 and TCP with all their
/// options (IPv6 with short extension headers fits).
pub const MAX_HEAD: usize = 120;

const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// One packet of a super-packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Bytes of IP and transport header that were written.
    pub head_length: usize,
    /// Where the payload lies in the super-packet.
    pub payload: Range<usize>,
}

/// The segments of one super-packet, first to last.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    family: Family,
    udp: bool,
    protocol: u8,
    transport_at: usize,
    head_length: usize,
    end: usize,
    size: usize,
    count: usize,
    next: usize,
}

/// The length of the longest IP packet, in bytes, that this super-packet stands for: what an MTU
/// is compared with.
#[must_use]
pub fn segment_length(packet: &[u8], headers: &Headers, gso: Gso) -> usize {
    let head = usize::from(headers.transport_at) + headers.transport_length(packet);
    (headers.length as usize).min(head + usize::from(gso.size))
}

impl<'a> Segments<'a> {
    /// The segments of `packet`, which begins at its IP header and whose headers are `headers`.
    /// Bytes behind the IP packet's end are ignored.
    ///
    /// # Errors
    ///
    /// `OffloadInvalid` when `gso` or `checksum` name another transport than the headers do, the
    /// packet is a fragment, opens or resets a connection, has headers longer than [`MAX_HEAD`],
    /// or would be more than [`MAX_SEGMENTS`] segments.
    pub fn new(
        packet: &'a [u8],
        headers: &Headers,
        gso: Gso,
        checksum: Checksum,
    ) -> Result<Self, DropReason> {
        let (family_fits, udp, checksum_field) = match (gso.kind, headers.transport) {
            (GsoKind::TcpV4, Transport::Tcp { .. }) => (headers.family == Family::V4, false, 16),
            (GsoKind::TcpV6, Transport::Tcp { .. }) => (headers.family == Family::V6, false, 16),
            (GsoKind::Udp, Transport::Udp) => (true, true, 6),
            (GsoKind::TcpV4 | GsoKind::TcpV6 | GsoKind::Udp, _) => (false, false, 0),
        };
        let checksum_fits = match checksum {
            Checksum::Complete => true,
            Checksum::Partial { start, field } => {
                start == u32::from(headers.transport_at) && field == checksum_field
            }
        };
        let transport_at = usize::from(headers.transport_at);
        let head_length = transport_at + headers.transport_length(packet);
        let end = headers.length as usize;
        let size = usize::from(gso.size);
        if !family_fits
            || !checksum_fits
            || headers.fragment != Fragment::Whole
            || head_length > MAX_HEAD
            || head_length > end
            || end > packet.len()
            || size == 0
        {
            return Err(DropReason::OffloadInvalid);
        }
        let count = (end - head_length).div_ceil(size).max(1);
        let lone = matches!(headers.transport, Transport::Tcp { flags } if flags & (TCP_SYN | TCP_RST) != 0);
        if count > MAX_SEGMENTS || lone && count > 1 {
            return Err(DropReason::OffloadInvalid);
        }
        Ok(Self {
            packet,
            family: headers.family,
            udp,
            protocol: headers.protocol,
            transport_at,
            head_length,
            end,
            size,
            count,
            next: 0,
        })
    }

    /// How many segments there are in all, 1 to [`MAX_SEGMENTS`].
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of IP and transport header in front of each segment's payload, at most [`MAX_HEAD`].
    #[must_use]
    pub const fn head_length(&self) -> usize {
        self.head_length
    }

    /// Writes the IP and transport header of the next segment to the front of `head` and names
    /// its payload. `None` behind the last one, or when `head` is shorter than
    /// [`head_length`](Self::head_length).
    ///
    /// As a sending TCP would have done it: the sequence number advances by the payload, FIN and
    /// PSH stay on the last segment only, CWR on the first only (RFC 3168 section 6.1.2); the
    /// IPv4 identification counts up (RFC 6864 section 4).
    pub fn next(&mut self, head: &mut [u8]) -> Option<Segment> {
        let head = head.get_mut(..self.head_length)?;
        if self.next == self.count {
            return None;
        }
        let from = self.head_length + self.next * self.size;
        let payload = from..(from + self.size).min(self.end);
        head.copy_from_slice(&self.packet[..self.head_length]);
        self.write_network(head, payload.len());
        let transport_length = self.head_length - self.transport_at + payload.len();
        let at = self.transport_at;
        if self.udp {
            put(head, at + 4, transport_length as u16);
        } else {
            self.advance_tcp(head);
        }
        let field = at + if self.udp { 6 } else { 16 };
        put(head, field, 0);
        let sum = checksum::add(
            self.pseudo(transport_length),
            checksum::add(checksum::sum(&head[at..]), checksum::sum(&self.packet[payload.clone()])),
        );
        let value = match checksum::finish(sum) {
            0 if self.udp => 0xffff,
            value => value,
        };
        put(head, field, value);
        self.next += 1;
        Some(Segment { head_length: self.head_length, payload })
    }

    fn write_network(&self, head: &mut [u8], payload: usize) {
        match self.family {
            Family::V4 => {
                put(head, 2, (self.head_length + payload) as u16);
                let identification = read_u16(head, 4).wrapping_add(self.next as u16);
                put(head, 4, identification);
                put(head, 10, 0);
                let sum = checksum::sum(&head[..self.transport_at]);
                put(head, 10, checksum::finish(sum));
            }
            Family::V6 => {
                let fixed = crate::headers::IPV6_LENGTH;
                put(head, 4, (self.head_length - fixed + payload) as u16);
            }
        }
    }

    fn advance_tcp(&self, head: &mut [u8]) {
        let at = self.transport_at;
        let sequence = read_u32(head, at + 4).wrapping_add((self.next * self.size) as u32);
        head[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
        if self.next > 0 {
            head[at + 13] &= !TCP_CWR;
        }
        if self.next + 1 < self.count {
            head[at + 13] &= !(TCP_FIN | TCP_PSH);
        }
    }

    fn pseudo(&self, length: usize) -> u16 {
        let packet = self.packet;
        match self.family {
            Family::V4 => checksum::pseudo_v4(
                Ipv4Addr::from_bits(read_u32(packet, 12)),
                Ipv4Addr::from_bits(read_u32(packet, 16)),
                self.protocol,
                length,
            ),
            Family::V6 => checksum::pseudo_v6(
                Ipv6Addr::from_bits(read_u128(packet, 8)),
                Ipv6Addr::from_bits(read_u128(packet, 24)),
                self.protocol,
                length,
            ),
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::headers::{TCP, TCP_ACK, UDP};
    use crate::samples::{half_sealed, ipv4, ipv6, is_sound, sealed, tcp, udp};

    const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|index| (index * 7) as u8).collect()
    }

    fn cut(packet: &[u8], gso: Gso, checksum: Checksum) -> Vec<Vec<u8>> {
        let headers = Headers::parse(packet).unwrap();
        let mut segments = Segments::new(packet, &headers, gso, checksum).unwrap();
        let (count, mut head, mut packets) = (segments.count(), [0; MAX_HEAD], Vec::new());
        while let Some(segment) = segments.next(&mut head) {
            let mut one = head[..segment.head_length].to_vec();
            one.extend(&packet[segment.payload]);
            assert!(one.len() <= segment_length(packet, &headers, gso));
            packets.push(one);
        }
        assert_eq!(packets.len(), count);
        packets
    }

    #[test]
    fn tcp_over_ipv4_becomes_what_a_sender_would_have_sent() {
        let flags = TCP_ACK | TCP_FIN | TCP_PSH | TCP_CWR;
        let whole = half_sealed(ipv4(TCP, 0x4000, &[], &tcp(flags, &TIMESTAMPS, &bytes(2500))));
        let gso = Gso { kind: GsoKind::TcpV4, size: 1000 };
        let packets = cut(&whole, gso, Checksum::Partial { start: 20, field: 16 });
        let facts: Vec<_> = packets
            .iter()
            .map(|packet| {
                assert!(is_sound(packet));
                (read_u16(packet, 4), read_u32(packet, 24), packet[33], packet.len())
            })
            .collect();
        let start = 0xffff_fff0_u32;
        assert_eq!(
            facts,
            [
                (0xabcd, start, TCP_ACK | TCP_CWR, 1052),
                (0xabce, start.wrapping_add(1000), TCP_ACK, 1052),
                (0xabcf, start.wrapping_add(2000), TCP_ACK | TCP_FIN | TCP_PSH, 552),
            ]
        );
        assert!(packets.iter().all(|packet| packet[40..52] == TIMESTAMPS));
    }

    #[test]
    fn tcp_over_ipv6_and_udp_are_cut_alike_whatever_the_checksum_was() {
        let v6 = ipv6(TCP, &tcp(TCP_ACK, &[], &bytes(999)));
        let gso = Gso { kind: GsoKind::TcpV6, size: 500 };
        let complete = cut(&sealed(v6.clone()), gso, Checksum::Complete);
        let partial = cut(&half_sealed(v6), gso, Checksum::Partial { start: 40, field: 16 });
        assert_eq!(complete, partial);
        assert_eq!(complete.iter().map(Vec::len).collect::<Vec<_>>(), [560, 559]);
        assert!(complete.iter().all(|packet| is_sound(packet)));

        for packet in [ipv4(UDP, 0, &[], &udp(&bytes(25))), ipv6(UDP, &udp(&bytes(25)))] {
            let at = packet.len() - 33;
            let packets =
                cut(&sealed(packet), Gso { kind: GsoKind::Udp, size: 10 }, Checksum::Complete);
            let lengths: Vec<_> = packets.iter().map(|packet| read_u16(packet, at + 4)).collect();
            assert_eq!(lengths, [18, 18, 13]);
            assert!(packets.iter().all(|packet| is_sound(packet)));
        }
    }

    #[test]
    fn facts_that_contradict_the_headers_are_refused() {
        let packet = sealed(ipv4(TCP, 0, &[], &tcp(TCP_ACK, &[], &bytes(20_000))));
        let headers = Headers::parse(&packet).unwrap();
        let refuse = |headers: &Headers, kind, size, checksum| {
            Segments::new(&packet, headers, Gso { kind, size }, checksum).err()
        };
        let refused = Some(DropReason::OffloadInvalid);
        assert_eq!(refuse(&headers, GsoKind::TcpV4, 1000, Checksum::Complete), None);
        assert_eq!(refuse(&headers, GsoKind::TcpV6, 1000, Checksum::Complete), refused);
        assert_eq!(refuse(&headers, GsoKind::Udp, 1000, Checksum::Complete), refused);
        assert_eq!(refuse(&headers, GsoKind::TcpV4, 0, Checksum::Complete), refused);
        assert_eq!(refuse(&headers, GsoKind::TcpV4, 2, Checksum::Complete), refused);
        let elsewhere = Checksum::Partial { start: 20, field: 6 };
        assert_eq!(refuse(&headers, GsoKind::TcpV4, 1000, elsewhere), refused);
        let fragment = Headers { fragment: Fragment::First { identification: 1 }, ..headers };
        assert_eq!(refuse(&fragment, GsoKind::TcpV4, 1000, Checksum::Complete), refused);
        let opening = Headers { transport: Transport::Tcp { flags: TCP_SYN }, ..headers };
        assert_eq!(refuse(&opening, GsoKind::TcpV4, 1000, Checksum::Complete), refused);
        let longer = Headers { length: headers.length + 1, ..headers };
        assert_eq!(refuse(&longer, GsoKind::TcpV4, 1000, Checksum::Complete), refused);
    }

    #[test]
    fn a_short_head_gets_nothing_and_loses_nothing() {
        let packet = sealed(ipv4(UDP, 0, &[], &udp(&bytes(5))));
        let headers = Headers::parse(&packet).unwrap();
        let gso = Gso { kind: GsoKind::Udp, size: 1 };
        let mut segments = Segments::new(&packet, &headers, gso, Checksum::Complete).unwrap();
        assert_eq!(segments.next(&mut [0; 27]), None);
        assert_eq!(segments.next(&mut [0; 28]).unwrap().payload, 28..29);
    }

    proptest! {
        #[test]
        fn segments_carry_the_payload_once_and_in_order(
            length in 0_usize..5000, size in 8_u16..3000, options in 0_usize..10, v6 in any::<bool>(),
        ) {
            let body = tcp(TCP_ACK | TCP_PSH, &vec![1; options * 4], &bytes(length));
            let (packet, kind) = if v6 {
                (ipv6(TCP, &body), GsoKind::TcpV6)
            } else {
                (ipv4(TCP, 0, &[1, 1, 1, 1], &body), GsoKind::TcpV4)
            };
            let head = packet.len() - length;
            let packets = cut(&sealed(packet), Gso { kind, size }, Checksum::Complete);
            prop_assert!(packets.iter().all(|packet| is_sound(packet)));
            let joined: Vec<u8> = packets.iter().flat_map(|packet| packet[head..].to_vec()).collect();
            prop_assert_eq!(joined, bytes(length));
        }

        #[test]
        fn any_bytes_return(
            bytes in proptest::collection::vec(any::<u8>(), 20..300), size in any::<u16>(), kind in 0_usize..3,
        ) {
            let mut bytes = bytes;
            let length = bytes.len() as u16;
            bytes[0] = if kind == 1 { 0x60 } else { 0x45 };
            bytes[9] = if kind == 2 { UDP } else { TCP };
            bytes[6] &= if kind == 1 { 0xff } else { 0x40 };
            if kind != 1 {
                bytes[7] = 0;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                put(&mut bytes, 10, 0);
                let sum = checksum::finish(checksum::sum(&bytes[..20]));
                put(&mut bytes, 10, sum);
            }
            let kind = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp][kind];
            if let Ok(headers) = Headers::parse(&bytes)
                && let Ok(mut segments) = Segments::new(&bytes, &headers, Gso { kind, size }, Checksum::Complete)
            {
                let mut head = [0; MAX_HEAD];
                while segments.next(&mut head).is_some() {}
            }
        }
    }
}
