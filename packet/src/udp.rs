//! The IP and UDP headers in front of what a tunnel sends.

use std::net::SocketAddr;

use crate::buf::{Checksum, Offload};
use crate::checksum;
use crate::headers::{Family, IPV4_LENGTH, IPV6_LENGTH, UDP};

/// Bytes of a UDP header.
pub const UDP_LENGTH: usize = 8;
const TTL: u8 = 64;

/// Bytes of the IP and UDP headers together.
#[must_use]
pub const fn header_length(family: Family) -> usize {
    match family {
        Family::V4 => IPV4_LENGTH + UDP_LENGTH,
        Family::V6 => IPV6_LENGTH + UDP_LENGTH,
    }
}

/// Writes the headers at the front of `packet`, which ends with the payload, and says what is
/// left to do about its UDP checksum, which is only the pseudo-header's sum as yet. IPv4 packets
/// are not to be fragmented.
///
/// `None` when the addresses are of two families or the packet is too short or too long.
#[must_use]
pub fn write_headers(
    packet: &mut [u8],
    source: SocketAddr,
    destination: SocketAddr,
    class: u8,
) -> Option<Offload> {
    let whole = u16::try_from(packet.len()).ok()?;
    let (udp_at, pseudo) = match (source, destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let ip = packet.first_chunk_mut::<IPV4_LENGTH>()?;
            *ip = [0x45, class, 0, 0, 0, 0, 0x40, 0, TTL, UDP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            ip[2..4].copy_from_slice(&whole.to_be_bytes());
            ip[12..16].copy_from_slice(&from.ip().octets());
            ip[16..20].copy_from_slice(&to.ip().octets());
            let sum = checksum::finish(checksum::sum(ip));
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            let length = packet.len() - IPV4_LENGTH;
            (IPV4_LENGTH, checksum::pseudo_v4(*from.ip(), *to.ip(), UDP, length))
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let length = whole.checked_sub(IPV6_LENGTH as u16)?;
            let ip = packet.first_chunk_mut::<IPV6_LENGTH>()?;
            ip[..4].copy_from_slice(&(0x6000_0000 | u32::from(class) << 20).to_be_bytes());
            ip[4..6].copy_from_slice(&length.to_be_bytes());
            ip[6..8].copy_from_slice(&[UDP, TTL]);
            ip[8..24].copy_from_slice(&from.ip().octets());
            ip[24..40].copy_from_slice(&to.ip().octets());
            (IPV6_LENGTH, checksum::pseudo_v6(*from.ip(), *to.ip(), UDP, length.into()))
        }
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
            return None;
        }
    };
    let length = packet.len() - udp_at;
    let udp = packet.get_mut(udp_at..)?.first_chunk_mut::<UDP_LENGTH>()?;
    udp[..2].copy_from_slice(&source.port().to_be_bytes());
    udp[2..4].copy_from_slice(&destination.port().to_be_bytes());
    udp[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    udp[6..8].copy_from_slice(&pseudo.to_be_bytes());
    let checksum = Checksum::Partial { start: udp_at as u32, field: 6 };
    Some(Offload { checksum, gso: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::PacketBuf;
    use crate::headers::{Headers, traffic_class};
    use crate::samples::is_sound;

    fn written(from: &str, to: &str) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let family = if from.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut packet = vec![7; header_length(family) + 33];
        let offload = write_headers(&mut packet, from, to, 0xb9).unwrap();
        let end = packet.len();
        assert!(PacketBuf::new(&mut packet, 0, end, offload).complete_checksum());
        packet
    }

    #[test]
    fn both_families_are_read_back_as_written() {
        for (from, to) in
            [("192.0.2.1:51820", "198.51.100.9:7"), ("[2001:db8::1]:51820", "[2001:db8::2]:7")]
        {
            let packet = written(from, to);
            let headers = Headers::parse(&packet).unwrap();
            assert_eq!((headers.source_port, headers.destination_port), (51820, 7));
            assert_eq!(headers.length as usize, packet.len());
            assert_eq!(traffic_class(&packet, headers.family), 0xb9);
            assert!(is_sound(&packet));
            assert!(headers.family == Family::V6 || packet[6] == 0x40, "not to be fragmented");
        }
    }

    #[test]
    fn what_cannot_be_a_packet_is_refused() {
        let (v4, v6) = ("192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap());
        assert_eq!(write_headers(&mut [0; 100], v4, v6, 0), None);
        assert_eq!(write_headers(&mut [0; 27], v4, v4, 0), None);
        assert_eq!(write_headers(&mut [0; 47], v6, v6, 0), None);
        assert_eq!(write_headers(&mut vec![0; 65_536], v4, v4, 0), None);
    }
}
