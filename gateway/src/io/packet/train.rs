//! Datagrams of one size between two sockets that leave as one super-packet: every frame costs a way
//! through the kernel, a datagram in a train only its bytes.

use nix::sys::utsname::uname;
use nvgate_packet::buf::{Checksum, Gso, GsoKind, Offload};
use nvgate_packet::checksum;
use nvgate_packet::headers::{ETHERNET_LENGTH, IPV4_LENGTH, IPV6_LENGTH, read_u16};
use nvgate_packet::udp::UDP_LENGTH;

/// Datagrams in one train: as many as kernels take from any socket (`UDP_MAX_SEGMENTS`).
const MOST: usize = 64;
/// The longest IP packet, in bytes.
const LONGEST: usize = 65_535;
/// Ethernet, IPv6 and UDP headers.
const HEADERS: usize = ETHERNET_LENGTH + IPV6_LENGTH + UDP_LENGTH;

/// The first kernel that takes such a train from a packet socket (`VIRTIO_NET_HDR_GSO_UDP_L4`).
const SINCE: (u32, u32) = (6, 2);

/// What a frame and the datagrams that may follow it have in common.
#[derive(Debug)]
pub(super) struct Train {
    /// The headers, without lengths and checksums.
    headers: [u8; HEADERS],
    transport_at: usize,
    /// Payload bytes of every datagram but the last.
    size: usize,
    datagrams: usize,
    /// Bytes of the frame.
    length: usize,
    /// A datagram shorter than the others was the last.
    closed: bool,
}

/// Whether this kernel takes trains.
pub(super) fn kernel_takes() -> bool {
    uname().is_ok_and(|kernel| since(&kernel.release().to_string_lossy()))
}

fn since(release: &str) -> bool {
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= SINCE)
}

/// Where the payload of an untunnelled UDP frame with a partial checksum begins.
fn payload_at(frame: &[u8], offload: Offload) -> Option<usize> {
    match offload {
        Offload { checksum: Checksum::Partial { start, field: 6 }, gso: None } => {
            let at = start as usize + UDP_LENGTH;
            (at <= HEADERS && at < frame.len()).then_some(at)
        }
        Offload { .. } => None,
    }
}

/// The headers without what differs from one datagram to the next.
fn common(frame: &[u8], payload_at: usize) -> Option<[u8; HEADERS]> {
    let mut headers = [0; HEADERS];
    headers.get_mut(..payload_at)?.copy_from_slice(frame.get(..payload_at)?);
    let transport_at = payload_at - UDP_LENGTH;
    match transport_at - ETHERNET_LENGTH {
        IPV4_LENGTH => {
            headers[ETHERNET_LENGTH + 2..][..2].fill(0);
            headers[ETHERNET_LENGTH + 10..][..2].fill(0);
        }
        IPV6_LENGTH => headers[ETHERNET_LENGTH + 4..][..2].fill(0),
        _ => return None,
    }
    headers[transport_at + 4..][..4].fill(0);
    Some(headers)
}

impl Train {
    /// The train that may follow `frame`; `None` for what is no UDP datagram.
    pub(super) fn after(frame: &[u8], offload: Offload) -> Option<Self> {
        let payload_at = payload_at(frame, offload)?;
        Some(Self {
            headers: common(frame, payload_at)?,
            transport_at: payload_at - UDP_LENGTH,
            size: frame.len() - payload_at,
            datagrams: 1,
            length: frame.len(),
            closed: false,
        })
    }

    /// Takes in `frame` if it fits: the payload to append.
    pub(super) fn join<'f>(&mut self, frame: &'f [u8], offload: Offload) -> Option<&'f [u8]> {
        let payload_at = payload_at(frame, offload)?;
        let payload = &frame[payload_at..];
        let fits = !self.closed
            && self.datagrams < MOST
            && payload_at == self.transport_at + UDP_LENGTH
            && payload.len() <= self.size
            && self.length + payload.len() <= LONGEST + ETHERNET_LENGTH
            && common(frame, payload_at)? == self.headers;
        if !fits {
            return None;
        }
        self.datagrams += 1;
        self.length += payload.len();
        self.closed = payload.len() < self.size;
        Some(payload)
    }

    /// Makes the frame with all payloads behind each other one super-packet; says how the kernel is
    /// to cut it. `None` for a datagram that stayed alone: the frame is as it was.
    pub(super) fn couple(&self, frame: &mut [u8]) -> Option<Offload> {
        if self.datagrams == 1 {
            return None;
        }
        let udp_length = (frame.len() - self.transport_at) as u16;
        let ip = &mut frame[ETHERNET_LENGTH..];
        if self.transport_at == ETHERNET_LENGTH + IPV4_LENGTH {
            let total = ip.len() as u16;
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            ip[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(&ip[..IPV4_LENGTH]));
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            ip[4..6].copy_from_slice(&udp_length.to_be_bytes());
        }
        let udp = &mut frame[self.transport_at..];
        // The pseudo-header has the length too.
        let without = checksum::add(read_u16(udp, 6), !read_u16(udp, 4));
        udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
        udp[6..8].copy_from_slice(&checksum::add(without, udp_length).to_be_bytes());
        Some(Offload {
            checksum: Checksum::Partial { start: self.transport_at as u32, field: 6 },
            gso: Some(Gso { kind: GsoKind::Udp, size: self.size as u16 }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use nvgate_packet::udp;

    use super::*;

    fn frame(port: u16, payload: &[u8]) -> (Vec<u8>, Offload) {
        let [from, to] = ["203.0.113.10:51820".to_owned(), format!("198.51.100.2:{port}")]
            .map(|text| text.parse::<SocketAddr>().unwrap());
        let mut packet = vec![0; 28];
        packet.extend(payload);
        let offload = udp::write_headers(&mut packet, from, to, 0).unwrap();
        let mut frame = vec![2; 12];
        frame.extend([8, 0]);
        frame.extend(packet);
        let Checksum::Partial { start, field } = offload.checksum else { panic!("it is partial") };
        let checksum = Checksum::Partial { start: start + 14, field };
        (frame, Offload { checksum, ..offload })
    }

    #[test]
    fn a_train_has_the_headers_of_one_long_datagram() {
        let (mut whole, offload) = frame(7, &[1; 100]);
        let mut train = Train::after(&whole, offload).unwrap();
        for payload in [&[2; 100][..], &[3; 40]] {
            let (next, offload) = frame(7, payload);
            assert_eq!(train.join(&next, offload), Some(payload));
            whole.extend(payload);
        }
        let coupled = train.couple(&mut whole).unwrap();
        let one = [&[1; 100][..], &[2; 100], &[3; 40]].concat();
        let (expected, partial) = frame(7, &one);
        assert_eq!(whole, expected);
        let gso = Some(Gso { kind: GsoKind::Udp, size: 100 });
        assert_eq!(coupled, Offload { checksum: partial.checksum, gso });
    }

    #[test]
    fn other_sockets_longer_datagrams_and_what_follows_a_shorter_one_stay_out() {
        let (first, offload) = frame(7, &[1; 100]);
        let mut train = Train::after(&first, offload).unwrap();
        for (port, length) in [(8, 100), (7, 101)] {
            let (other, offload) = frame(port, &vec![1; length]);
            assert_eq!(train.join(&other, offload), None);
        }
        assert_eq!(train.couple(&mut first.clone()), None);
        let (shorter, offload) = frame(7, &[1; 99]);
        assert!(train.join(&shorter, offload).is_some());
        assert_eq!(train.join(&shorter, offload), None);
    }

    #[test]
    fn a_train_ends_at_its_bounds() {
        for (length, most) in [(100, MOST), (9000, 7)] {
            let (first, offload) = frame(7, &vec![1; length]);
            let mut train = Train::after(&first, offload).unwrap();
            let joined = (0..MOST * 2).take_while(|_| train.join(&first, offload).is_some());
            assert_eq!(joined.count() + 1, most);
        }
    }

    #[test]
    fn kernels_are_told_apart() {
        for (release, takes) in [
            ("5.15.0-91-generic", false),
            ("6.1.0", false),
            ("6.2.0", true),
            ("10.0", true),
            ("x", false),
        ] {
            assert_eq!(since(release), takes, "{release}");
        }
    }
}
