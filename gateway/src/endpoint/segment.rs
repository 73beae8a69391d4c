//! A TCP segment around smoltcp: read and checked before, signed and marked after.

use std::net::SocketAddr;
use std::ops::Range;

use nvgate_packet::checksum;
use nvgate_packet::headers::{
    self, Family, Fragment, Headers, IPV4_LENGTH, IPV6_LENGTH, TCP, Transport, read_u16, read_u32,
};
use nvgate_packet::rewrite::set_traffic_class;

use super::key::Md5Key;
use super::stack::Refusal;

/// DSCP CS6 of network control (RFC 4594 section 3.1).
const NETWORK_CONTROL: u8 = 0xc0;
const TCP_HEADER: usize = 20;
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_SACK_PERMITTED: u8 = 4;
/// The signature option (RFC 2385 section 3.0): 18 bytes.
const OPTION_SIGNATURE: u8 = 19;
const SIGNATURE_LENGTH: usize = 18;
/// What a signature costs in the header: the option behind two bytes of padding.
const SIGNATURE_ROOM: usize = 20;

/// What is read of a segment to an own address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) flags: u8,
    pub(super) sequence: u32,
    tcp_at: usize,
    end: usize,
}

/// Whether the transport checksum of a whole packet is right.
pub(super) fn is_sound(packet: &[u8], headers: &Headers) -> bool {
    let at = usize::from(headers.transport_at);
    let Some(bytes) = packet.get(at..headers.length as usize) else { return false };
    checksum::add(pseudo(packet, headers, bytes.len()), checksum::sum(bytes)) == 0xffff
}

fn pseudo(packet: &[u8], headers: &Headers, length: usize) -> u16 {
    use std::net::IpAddr::{V4, V6};
    let family = headers.family;
    match (headers::source(packet, family), headers::destination(packet, family)) {
        (V4(from), V4(to)) => checksum::pseudo_v4(from, to, headers.protocol, length),
        (V6(from), V6(to)) => checksum::pseudo_v6(from, to, headers.protocol, length),
        (V4(_), V6(_)) | (V6(_), V4(_)) => 0,
    }
}

impl Segment {
    /// Reads a whole TCP packet and checks its checksum.
    pub(super) fn read(packet: &[u8], headers: &Headers) -> Result<Self, Refusal> {
        let Transport::Tcp { flags } = headers.transport else { return Err(Refusal::Malformed) };
        let (tcp_at, end) = (usize::from(headers.transport_at), headers.length as usize);
        let header_length = headers.transport_length(packet);
        let fixed = match headers.family {
            Family::V4 => true,
            Family::V6 => tcp_at == IPV6_LENGTH,
        };
        let whole = headers.fragment == Fragment::Whole && end <= packet.len();
        if !whole || !fixed || header_length < TCP_HEADER || tcp_at + header_length > end {
            return Err(Refusal::Malformed);
        }
        if !is_sound(packet, headers) {
            return Err(Refusal::Checksum);
        }
        let local = headers::destination(packet, headers.family);
        let remote = headers::source(packet, headers.family);
        Ok(Self {
            local: SocketAddr::new(local, headers.destination_port),
            remote: SocketAddr::new(remote, headers.source_port),
            flags,
            sequence: read_u32(packet, tcp_at + 4),
            tcp_at,
            end,
        })
    }

    /// Whether it has these flags of `mask`.
    pub(super) const fn has(&self, mask: u8, flags: u8) -> bool {
        self.flags & mask == flags
    }

    /// Checks the signature against the peer's key, or that there is none without a key.
    pub(super) fn verify(&self, packet: &[u8], key: Option<&Md5Key>) -> Result<(), Refusal> {
        let segment = packet.get(self.tcp_at..self.end).unwrap_or(&[]);
        let signature = option(segment, OPTION_SIGNATURE);
        match (key, signature) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(Refusal::SignatureUnexpected),
            (Some(_), None) => Err(Refusal::SignatureMissing),
            (Some(key), Some(range)) => {
                let (source, destination) = (self.remote.ip(), self.local.ip());
                let sound = range.len() == SIGNATURE_LENGTH
                    && key.verifies(source, destination, segment, &segment[range][2..]);
                if sound { Ok(()) } else { Err(Refusal::SignatureWrong) }
            }
        }
    }

    /// Makes room for our signatures in what a SYN offers: a smaller MSS, and no SACK.
    pub(super) fn make_room(&self, packet: &mut [u8]) {
        let Some(segment) = packet.get_mut(self.tcp_at..self.end) else { return };
        if let Some(at) = option(segment, OPTION_MSS).filter(|range| range.len() == 4) {
            let lower = read_u16(segment, at.start + 2).saturating_sub(SIGNATURE_ROOM as u16);
            segment[at.start + 2..at.end].copy_from_slice(&lower.to_be_bytes());
        }
        if let Some(at) = option(segment, OPTION_SACK_PERMITTED) {
            segment[at].fill(OPTION_NOTHING);
        }
        if let Ok(headers) = Headers::parse(packet) {
            seal_checksum(packet, &headers);
        }
    }
}

/// Where the option of this kind stands in a segment, whole.
fn option(segment: &[u8], kind: u8) -> Option<Range<usize>> {
    let header_length = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    let header = segment.get(..header_length)?;
    let mut at = TCP_HEADER;
    while at < header.len() {
        match (header[at], header.get(at + 1)) {
            (OPTION_END, _) => return None,
            (OPTION_NOTHING, _) => at += 1,
            (found, Some(&length)) if length >= 2 => {
                let end = at + usize::from(length);
                if end > header.len() {
                    return None;
                }
                if found == kind {
                    return Some(at..end);
                }
                at = end;
            }
            (_, _) => return None,
        }
    }
    None
}

fn seal_checksum(packet: &mut [u8], headers: &Headers) {
    let (at, end) = (usize::from(headers.transport_at), headers.length as usize);
    let Some(segment) = packet.get_mut(at..end) else { return };
    let field = if headers.protocol == TCP { 16 } else { 6 };
    let Some(hole) = segment.get_mut(field..field + 2) else { return };
    hole.fill(0);
    let sum = checksum::sum(segment);
    let length = segment.len();
    let sum = checksum::finish(checksum::add(pseudo(packet, headers, length), sum));
    packet[at + field..at + field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Finishes the packet of `length` bytes that stands in `out`: marks it as network control, and
/// signs a segment. Says how long it is then; `None` when it does not fit.
pub(super) fn finish(out: &mut [u8], length: usize, key: Option<&Md5Key>) -> Option<usize> {
    let length = match key {
        Some(key) => sign(out, length, key)?,
        None => length,
    };
    let family = if out.first()? >> 4 == 4 { Family::V4 } else { Family::V6 };
    set_traffic_class(out.get_mut(..length)?, family, NETWORK_CONTROL);
    Some(length)
}

fn sign(out: &mut [u8], length: usize, key: &Md5Key) -> Option<usize> {
    let headers = Headers::parse(out.get(..length)?).ok()?;
    let at = usize::from(headers.transport_at);
    let header_length = headers.transport_length(out);
    let longer = length + SIGNATURE_ROOM;
    if header_length + SIGNATURE_ROOM > 60 || longer > out.len() {
        return None;
    }
    // In front of the other options, whose padding would end the list.
    let options = at + TCP_HEADER;
    out.copy_within(options..length, options + SIGNATURE_ROOM);
    let room = &mut out[options..options + SIGNATURE_ROOM];
    room.fill(0);
    room[..4].copy_from_slice(&[
        OPTION_NOTHING,
        OPTION_NOTHING,
        OPTION_SIGNATURE,
        SIGNATURE_LENGTH as u8,
    ]);
    out[at + 12] = out[at + 12] & 0x0f | (((header_length + SIGNATURE_ROOM) / 4) as u8) << 4;
    match headers.family {
        Family::V4 => {
            out[2..4].copy_from_slice(&(longer as u16).to_be_bytes());
            out[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(&out[..IPV4_LENGTH]));
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Family::V6 => {
            out[4..6].copy_from_slice(&((longer - IPV6_LENGTH) as u16).to_be_bytes());
        }
    }
    let source = headers::source(out, headers.family);
    let destination = headers::destination(out, headers.family);
    let signature = key.sign(source, destination, &out[at..longer]);
    out[options + 4..options + SIGNATURE_ROOM].copy_from_slice(&signature);
    seal_checksum(&mut out[..longer], &Headers { length: longer as u32, ..headers });
    Some(longer)
}

/// The acknowledgement number of a segment that goes out, if it acknowledges.
pub(super) fn acknowledged(packet: &[u8]) -> Option<u32> {
    let at = match packet.first()? >> 4 {
        4 => IPV4_LENGTH,
        _ => IPV6_LENGTH,
    };
    let flags = packet.get(at + 13)?;
    (flags & headers::TCP_ACK != 0).then(|| read_u32(packet, at + 8))
}
