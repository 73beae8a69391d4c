//! Any bytes as a packet for the parsers, and every change to what they accept: what comes out is
//! a packet again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::{Prefix, ProviderAddress};
use nvgate_nvgre::decap::{OwnAddresses, decap};
use nvgate_packet::buf::{Checksum, Gso, GsoKind, Offload, PacketBuf};
use nvgate_packet::flow_key::flow_hash;
use nvgate_packet::fragment::{self, Fragments};
use nvgate_packet::headers::{Family, Headers, destination, source};
use nvgate_packet::icmp::{self, MAX_ERROR, Problem};
use nvgate_packet::renumber::{Renumbering, renumber};
use nvgate_packet::rewrite::{RewriteV4, Socket, clamp_mss, decrement_ttl, sockets};
use nvgate_packet::segment::{self, Segments, segment_length};

use super::{Input, mend};
use crate::frames::{Body, Packet, checksum, flags};
use crate::rig_claims::web;
use crate::rig_plan::{GATEWAY_PROVIDER, GATEWAY_PROVIDER_V6};

/// Pieces of one packet that are looked at; the others are like them.
const PIECES: usize = 100;

/// Four bytes decide sizes, the others are the packet.
///
/// # Panics
///
/// A claim does not hold.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let (size, mtu) = (input.word(), usize::from(input.word()));
    let mut packet = input.0.to_vec();
    whole_frame(&packet);
    let _ = Headers::parse_quoted(&packet).map(|headers| flow_hash(&packet, &headers, 1));
    mend(&mut packet);
    let Ok(headers) = Headers::parse(&packet) else { return };
    assert!(usize::from(headers.transport_at) <= headers.length as usize);
    assert!(headers.length as usize <= packet.len());
    packet.truncate(headers.length as usize);

    error_about(&packet, &headers, size);
    renumbered(&packet, &headers);
    segments(&packet, &headers, size);
    fragments(&packet, &headers, mtu);
    rewritten(&packet, &headers, size);
}

fn whole_frame(frame: &[u8]) {
    let own = [GATEWAY_PROVIDER.into(), GATEWAY_PROVIDER_V6.into()].map(ProviderAddress);
    let own = OwnAddresses::new(own).expect("two unicast addresses");
    if let Ok(decap) = decap(frame, &own) {
        assert!(decap.inner_at <= decap.end && decap.end <= frame.len());
    }
}

/// An error is a packet with every checksum right, and none answers an error.
fn error_about(packet: &[u8], headers: &Headers, size: u16) {
    if !icmp::may_answer(packet, headers) {
        return;
    }
    let from: IpAddr = match headers.family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let problem = match size % 3 {
        0 => Problem::TimeExceeded,
        1 => Problem::NetworkUnreachable,
        _ => Problem::TooBig { mtu: u32::from(size) },
    };
    let mut out = [0; MAX_ERROR];
    let length = icmp::write_error(&mut out, packet, headers, from, problem).expect("room for it");
    let error = Packet::read(&out[..length]).expect("an error is a packet");
    assert!(matches!(error.body, Body::Icmp { .. }), "{error:?}");
    let headers = Headers::parse(&out[..length]).expect("an error is read");
    assert!(!icmp::may_answer(&out[..length], &headers));
}

/// Both addresses get their numbers, and what was right before is right after.
fn renumbered(packet: &[u8], headers: &Headers) {
    let pair = |one: &str, other: &str| -> (Prefix, Prefix) {
        (one.parse().expect("a prefix"), other.parse().expect("a prefix"))
    };
    let numbers =
        Renumbering::new([pair("10.0.0.0/8", "100.0.0.0/8"), pair("fd00::/16", "fd77::/16")]);
    let forward = |address| numbers.forward(address);
    let mut changed = packet.to_vec();
    renumber(&mut changed, headers, false, forward, forward);
    Headers::parse(&changed).expect("a renumbered packet is one");
    assert_eq!(source(&changed, headers.family), forward(source(packet, headers.family)));
    assert_eq!(destination(&changed, headers.family), forward(destination(packet, headers.family)));
    assert!(Packet::read(packet).is_err() || Packet::read(&changed).is_ok(), "{packet:02x?}");
}

/// The segments have all of the payload, each a packet with every checksum right.
fn segments(packet: &[u8], headers: &Headers, size: u16) {
    for kind in [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp] {
        let gso = Gso { kind, size };
        let Ok(mut segments) = Segments::new(packet, headers, gso, Checksum::Complete) else {
            continue;
        };
        let longest = segment_length(packet, headers, gso);
        let mut head = [0; segment::MAX_HEAD];
        let mut at = segments.head_length();
        let count = segments.count();
        for _ in 0..count.min(PIECES) {
            let piece = segments.next(&mut head).expect("as many as were told");
            assert_eq!(piece.payload.start, at);
            at = piece.payload.end;
            let bytes = [&head[..piece.head_length], &packet[piece.payload]].concat();
            assert!(bytes.len() <= longest);
            let read = Headers::parse(&bytes).expect("a segment is a packet");
            assert_eq!(read.length as usize, bytes.len());
            if bytes[0] == 0x45 {
                Packet::read(&bytes).expect("a segment's checksums are right");
            }
        }
        if count <= PIECES {
            assert_eq!((at, segments.next(&mut head)), (packet.len(), None));
        }
    }
}

/// The fragments have all of the payload and fit.
fn fragments(packet: &[u8], headers: &Headers, mtu: usize) {
    let Ok(mut fragments) = Fragments::new(packet, headers, mtu) else { return };
    let mut head = [0; fragment::MAX_HEAD];
    let mut at = usize::from(headers.transport_at);
    for _ in 0..PIECES {
        let Some(piece) = fragments.next(&mut head) else {
            assert_eq!(at, packet.len());
            return;
        };
        assert_eq!(piece.payload.start, at);
        at = piece.payload.end;
        assert!(piece.head_length + piece.payload.len() <= mtu);
        assert_eq!(checksum(&[&head[..piece.head_length]]), 0);
    }
}

/// NAT's changes leave right what was right.
fn rewritten(packet: &[u8], headers: &Headers, size: u16) {
    let mut storage = packet.to_vec();
    let right = Packet::read(packet).is_ok();
    let length = storage.len();
    clamp_mss(&mut PacketBuf::new(&mut storage, 0, length, Offload::default()), headers, size);
    let _ = decrement_ttl(&mut storage, headers.family);
    if headers.family == Family::V4 {
        let old = sockets(&storage, headers);
        let new = Socket::new(Ipv4Addr::new(203, 0, 113, 9), size);
        if let Some((_, quoted)) = icmp::quoted(&storage, headers) {
            let outer = (new.address, old.1.address);
            let _ = icmp::rewrite_quoted(&mut storage, headers, &quoted, outer, (old.1, new));
        } else {
            RewriteV4::new(old, (new, old.1)).apply(&mut storage, headers, false);
        }
    }
    Headers::parse(&storage).expect("a rewritten packet is one");
    assert!(!right || Packet::read(&storage).is_ok(), "{packet:02x?}");
}

/// One packet of each kind, and an NVGRE frame.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let (one, other) = (Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(198, 51, 100, 7));
    let (one_v6, other_v6): (Ipv6Addr, Ipv6Addr) =
        ("fd00::1".parse().expect("an address"), "2001:db8::7".parse().expect("an address"));
    let udp = Packet::udp((one, 4000), (other, 53), &[7; 40]);
    let mut syn = Packet::tcp((one, 4000), (other, 443), flags::SYN, &[]);
    if let Body::Tcp { mss, .. } = &mut syn.body {
        *mss = Some(1460);
    }
    let packets = [
        Packet::tcp((one, 4000), (other, 443), flags::ACK | flags::PSH, &[9; 90]),
        Packet::tcp((one_v6, 4000), (other_v6, 443), flags::ACK, &[9; 90]),
        Packet::udp((one_v6, 4000), (other_v6, 53), &[7; 40]),
        Packet::echo(one, other, 5, b"ping"),
        Packet::echo(one_v6, other_v6, 5, b"ping"),
        Packet::error(other, one, (3, 4, 1400), &udp),
        Packet::error(other_v6, one_v6, (2, 0, 1400), &Packet::echo(one_v6, other_v6, 5, b"p")),
        udp.clone().fragmentable(7),
        syn,
    ];
    let frame = web(0).sends(&udp).bytes();
    let sized = |bytes: Vec<u8>| [&[0, 24, 0, 60][..], &bytes].concat();
    packets.iter().map(Packet::bytes).chain([frame]).map(sized).collect()
}
