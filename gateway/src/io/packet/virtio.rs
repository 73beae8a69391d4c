//! The header in front of every frame on a packet socket with `PACKET_VNET_HDR`: `struct
//! virtio_net_hdr` (virtio 1.2, section 5.1.6) in the host's byte order.

use nvgate_packet::buf::{Checksum, Gso, GsoKind, Offload};

/// Bytes of the header.
pub const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;

const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;
/// Set beside a TCP kind when the first segment carries CWR (RFC 3168).
const GSO_ECN: u8 = 0x80;

/// Offset of the flags byte in a TCP header, and CWR in it.
const TCP_FLAGS_AT: usize = 13;
const TCP_DATA_OFFSET_AT: usize = 12;
const TCP_CWR: u8 = 0x80;
const UDP_HEADER: usize = 8;

/// A header that says something this gateway does not know, or that its frame contradicts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalid;

/// What a received header says of a frame of `length` bytes.
pub fn parse(header: &[u8; LENGTH], length: usize) -> Result<Offload, Invalid> {
    let [flags, kind, _, _, size_0, size_1, start_0, start_1, field_0, field_1] = *header;
    let size = u16::from_ne_bytes([size_0, size_1]);
    let start = u16::from_ne_bytes([start_0, start_1]);
    let field = u16::from_ne_bytes([field_0, field_1]);
    let checksum = if flags & NEEDS_CHECKSUM == 0 {
        Checksum::Complete
    } else if usize::from(start) + usize::from(field) + 2 > length {
        return Err(Invalid);
    } else {
        Checksum::Partial { start: u32::from(start), field }
    };
    let kind = match kind & !GSO_ECN {
        GSO_NONE => None,
        GSO_TCP_V4 => Some(GsoKind::TcpV4),
        GSO_TCP_V6 => Some(GsoKind::TcpV6),
        GSO_UDP => Some(GsoKind::Udp),
        _ => return Err(Invalid),
    };
    let gso = match kind {
        None => None,
        Some(_) if size == 0 => return Err(Invalid),
        Some(kind) => Some(Gso { kind, size }),
    };
    Ok(Offload { checksum, gso })
}

/// The header to send `frame` with. Positions that do not fit are written as they are cut off;
/// the kernel refuses such a frame.
pub fn emit(offload: Offload, frame: &[u8]) -> [u8; LENGTH] {
    let (flags, start, field) = match offload.checksum {
        Checksum::Complete => (0, 0, 0),
        Checksum::Partial { start, field } => {
            (NEEDS_CHECKSUM, u16::try_from(start).unwrap_or(u16::MAX), field)
        }
    };
    let transport = frame.get(usize::from(start)..).unwrap_or_default();
    let (kind, size, headers) = match offload.gso {
        None => (GSO_NONE, 0, 0),
        Some(Gso { kind, size }) => {
            let (kind, header) = match kind {
                GsoKind::TcpV4 => tcp(GSO_TCP_V4, transport),
                GsoKind::TcpV6 => tcp(GSO_TCP_V6, transport),
                GsoKind::Udp => (GSO_UDP, UDP_HEADER),
            };
            // Without a partial checksum the kernel finds the headers itself.
            let headers = if flags == 0 { 0 } else { usize::from(start) + header };
            (kind, size, headers.min(frame.len()) as u16)
        }
    };
    let mut header = [0; LENGTH];
    header[0] = flags;
    header[1] = kind;
    header[2..4].copy_from_slice(&headers.to_ne_bytes());
    header[4..6].copy_from_slice(&size.to_ne_bytes());
    header[6..8].copy_from_slice(&start.to_ne_bytes());
    header[8..10].copy_from_slice(&field.to_ne_bytes());
    header
}

/// The kind with its ECN bit, and the length of the TCP header.
fn tcp(kind: u8, transport: &[u8]) -> (u8, usize) {
    let reduced = transport.get(TCP_FLAGS_AT).is_some_and(|flags| flags & TCP_CWR != 0);
    let words = transport.get(TCP_DATA_OFFSET_AT).map_or(5, |byte| byte >> 4);
    (if reduced { kind | GSO_ECN } else { kind }, usize::from(words) * 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(flags: u8) -> Vec<u8> {
        let mut frame = vec![0; 3000];
        frame[34 + TCP_DATA_OFFSET_AT] = 8 << 4;
        frame[34 + TCP_FLAGS_AT] = flags;
        frame
    }

    #[test]
    fn a_super_packet_is_described_through_its_tcp_header() {
        let offload = Offload {
            checksum: Checksum::Partial { start: 34, field: 16 },
            gso: Some(Gso { kind: GsoKind::TcpV4, size: 1448 }),
        };
        let header = emit(offload, &segment(0x10));
        assert_eq!(header[..2], [NEEDS_CHECKSUM, GSO_TCP_V4]);
        assert_eq!(header[2..4], (34_u16 + 32).to_ne_bytes());
        assert_eq!(parse(&header, 3000), Ok(offload));
        assert_eq!(emit(offload, &segment(TCP_CWR))[1], GSO_TCP_V4 | GSO_ECN);
        assert_eq!(parse(&emit(offload, &segment(TCP_CWR)), 3000), Ok(offload));
    }

    #[test]
    fn what_contradicts_the_frame_or_is_unknown_is_invalid() {
        let mut header = [0; LENGTH];
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&34_u16.to_ne_bytes());
        header[8..10].copy_from_slice(&16_u16.to_ne_bytes());
        assert_eq!(parse(&header, 51), Err(Invalid));
        assert!(parse(&header, 52).is_ok());
        header[1] = GSO_TCP_V6;
        assert_eq!(parse(&header, 52), Err(Invalid));
        header[4] = 1;
        header[1] = 3;
        assert_eq!(parse(&header, 52), Err(Invalid));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(header: [u8; LENGTH], length in 0_usize..70_000) {
            if let Ok(offload) = parse(&header, length) {
                let frame = vec![0; length];
                prop_assert_eq!(parse(&emit(offload, &frame), length), Ok(offload));
            }
        }
    }
}
