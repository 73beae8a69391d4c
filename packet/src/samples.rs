//! Packets for tests: built field by field, with checksums counted the slow way.

use crate::checksum;
use crate::headers::{Family, Headers, TCP, Transport, UDP, read_u16, read_u32, read_u128};

/// An IPv4 packet from 10.0.0.1 to 10.0.0.2 with `word` as flags and fragment offset.
pub(crate) fn ipv4(protocol: u8, word: u16, options: &[u8], body: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let header_length = 20 + options.len();
    let mut packet = vec![0x40 | (header_length / 4) as u8, 0, 0, 0, 0xab, 0xcd, 0, 0];
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    packet[6..8].copy_from_slice(&word.to_be_bytes());
    packet[2..4].copy_from_slice(&((header_length + body.len()) as u16).to_be_bytes());
    let value = checksum::finish(checksum::sum(&packet));
    packet[10..12].copy_from_slice(&value.to_be_bytes());
    packet.extend(body);
    packet
}

/// An IPv6 packet from fd00::1 to fd00::2.
pub(crate) fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    packet[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(body);
    packet
}

/// A TCP segment from port 4000 to port 443 with sequence number 0xffff_fff0 and no checksum.
pub(crate) fn tcp(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let words = (20 + options.len()) / 4;
    let mut segment = vec![0x0f, 0xa0, 0x01, 0xbb, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 9];
    segment.extend([(words as u8) << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// A UDP datagram from port 5000 to port 53 without a checksum.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x13, 0x88, 0, 53, 0, 0, 0, 0];
    datagram[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend(payload);
    datagram
}

/// The folded pseudo-header sum of a whole packet.
pub(crate) fn pseudo(packet: &[u8]) -> u16 {
    let headers = Headers::parse(packet).unwrap();
    let length = headers.length as usize - usize::from(headers.transport_at);
    match headers.family {
        Family::V4 => checksum::pseudo_v4(
            read_u32(packet, 12).into(),
            read_u32(packet, 16).into(),
            headers.protocol,
            length,
        ),
        Family::V6 => checksum::pseudo_v6(
            read_u128(packet, 8).into(),
            read_u128(packet, 24).into(),
            headers.protocol,
            length,
        ),
    }
}

fn checksum_at(packet: &[u8]) -> usize {
    let headers = Headers::parse(packet).unwrap();
    let field = match headers.protocol {
        TCP => 16,
        UDP => 6,
        _ => 2,
    };
    usize::from(headers.transport_at) + field
}

/// `packet` with its TCP, UDP or ICMP checksum written.
pub(crate) fn sealed(mut packet: Vec<u8>) -> Vec<u8> {
    let at = checksum_at(&packet);
    packet[at..at + 2].fill(0);
    let sum = covered_sum(&packet);
    packet[at..at + 2].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    packet
}

/// `packet` with the pseudo-header sum in its checksum field, as an offloading sender leaves it.
pub(crate) fn half_sealed(mut packet: Vec<u8>) -> Vec<u8> {
    let at = checksum_at(&packet);
    let sum = pseudo(&packet);
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Whether the header checksum (by parsing) and the transport checksum are right.
pub(crate) fn is_sound(packet: &[u8]) -> bool {
    Headers::parse(packet).is_ok() && covered_sum(packet) == 0xffff
}

fn covered_sum(packet: &[u8]) -> u16 {
    let headers = Headers::parse(packet).unwrap();
    let transport = &packet[usize::from(headers.transport_at)..headers.length as usize];
    let icmp_v4 = headers.family == Family::V4
        && !matches!(headers.transport, Transport::Tcp { .. } | Transport::Udp);
    let start = if icmp_v4 { 0 } else { pseudo(packet) };
    checksum::add(start, checksum::sum(transport))
}

/// The transport checksum field of a packet.
pub(crate) fn checksum_field(packet: &[u8]) -> u16 {
    read_u16(packet, checksum_at(packet))
}
