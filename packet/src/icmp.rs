//! ICMP and ICMPv6 errors: building them about a packet, knowing when not to, and translating
//! the packet that a received one quotes.
//!
//! Nothing here decides that an error is owed; the dispatcher and NAT do, and limit how many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use nvgate_model::DropReason;

use crate::checksum;
use crate::headers::{
    Family, Fragment, Headers, ICMP, ICMPV6, IPV4_LENGTH, IPV6_LENGTH, Transport, destination,
    read_u16, read_u32, source,
};
use crate::rewrite::Socket;

/// The longest error about an IPv4 packet, in bytes (RFC 1812 section 4.3.2.3).
pub const MAX_ERROR_V4: usize = 576;
/// The longest error about an IPv6 packet, in bytes (RFC 4443 section 2.4).
pub const MAX_ERROR_V6: usize = 1280;
/// Room for any error, in bytes.
pub const MAX_ERROR: usize = MAX_ERROR_V6;

/// Bytes of an ICMP error in front of the quoted packet.
const ICMP_LENGTH: usize = 8;
/// Internetwork control: what RFC 1812 section 4.3.2.5 asks of errors.
const ERROR_CLASS: u8 = 0xc0;
const HOP_LIMIT: u8 = 64;
const UNREACHABLE_V4: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const TOO_BIG_V6: u8 = 2;
const REDIRECT_V6: u8 = 137;

/// What is wrong with a packet, for its sender to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// No route to the destination.
    NetworkUnreachable,
    /// There is a route, but the destination does not answer.
    HostUnreachable,
    /// Nobody listens on the port.
    PortUnreachable,
    /// Policy forbids it.
    Prohibited,
    /// The next link carries IP packets of at most `mtu` bytes (RFC 1191 section 4, RFC 4443
    /// section 3.2).
    TooBig {
        /// Bytes of an IP packet.
        mtu: u32,
    },
    /// TTL or hop limit ran out on the way.
    TimeExceeded,
}

impl Problem {
    /// Type, code and the second word of the ICMP header.
    const fn words(self, family: Family) -> (u8, u8, u32) {
        match (family, self) {
            (Family::V4, Self::NetworkUnreachable) => (UNREACHABLE_V4, 0, 0),
            (Family::V4, Self::HostUnreachable) => (UNREACHABLE_V4, 1, 0),
            (Family::V4, Self::PortUnreachable) => (UNREACHABLE_V4, 3, 0),
            (Family::V4, Self::Prohibited) => (UNREACHABLE_V4, 13, 0),
            (Family::V4, Self::TooBig { mtu }) => {
                let mtu = if mtu > 0xffff { 0xffff } else { mtu };
                (UNREACHABLE_V4, FRAGMENTATION_NEEDED, mtu)
            }
            (Family::V4, Self::TimeExceeded) => (11, 0, 0),
            (Family::V6, Self::NetworkUnreachable) => (1, 0, 0),
            (Family::V6, Self::Prohibited) => (1, 1, 0),
            (Family::V6, Self::HostUnreachable) => (1, 3, 0),
            (Family::V6, Self::PortUnreachable) => (1, 4, 0),
            (Family::V6, Self::TooBig { mtu }) => (TOO_BIG_V6, 0, mtu),
            (Family::V6, Self::TimeExceeded) => (3, 0, 0),
        }
    }
}

/// Whether an error may be sent about this packet (RFC 1812 section 4.3.2.7, RFC 4443 section
/// 2.4 (e)): never about an ICMP error or redirect, a later fragment, or a packet whose source or
/// destination is not one host. Subnet broadcasts are the caller's to know.
#[must_use]
pub fn may_answer(packet: &[u8], headers: &Headers) -> bool {
    if matches!(headers.fragment, Fragment::Later { .. }) {
        return false;
    }
    let error = match headers.transport {
        Transport::IcmpError => true,
        // ICMPv6 types below 128 are errors, known or not (RFC 4443 section 2.1).
        Transport::IcmpOther { kind } => {
            headers.family == Family::V6 && (kind < 128 || kind == REDIRECT_V6)
        }
        Transport::Tcp { .. }
        | Transport::Udp
        | Transport::EchoRequest
        | Transport::EchoReply
        | Transport::Opaque => false,
    };
    !error
        && is_one_host(source(packet, headers.family))
        && is_one_host(destination(packet, headers.family))
}

fn is_one_host(address: IpAddr) -> bool {
    match address {
        // 0/8, 127/8, and 224/4 with 240/4 up to the limited broadcast.
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast(),
    }
}

/// Writes the error about `offending` (an IP packet with these headers, as it came in; its
/// checksum may be partial) from `from` to its source to the front of `out`, an IP packet, and
/// returns its length, at most [`MAX_ERROR`]. It quotes as much as the RFCs let it.
///
/// `None` when `from` is of the other family or `out` is too short.
pub fn write_error(
    out: &mut [u8],
    offending: &[u8],
    headers: &Headers,
    from: IpAddr,
    problem: Problem,
) -> Option<usize> {
    let (fixed, limit) = match headers.family {
        Family::V4 => (IPV4_LENGTH + ICMP_LENGTH, MAX_ERROR_V4),
        Family::V6 => (IPV6_LENGTH + ICMP_LENGTH, MAX_ERROR_V6),
    };
    let quoted = offending.len().min(headers.length as usize).min(limit - fixed);
    let length = fixed + quoted;
    let out = out.get_mut(..length)?;
    let (head, quote) = out.split_at_mut(fixed);
    quote.copy_from_slice(&offending[..quoted]);
    let (kind, code, word) = problem.words(headers.family);
    let (network, icmp) = head.split_at_mut(fixed - ICMP_LENGTH);
    icmp.fill(0);
    icmp[0] = kind;
    icmp[1] = code;
    icmp[4..8].copy_from_slice(&word.to_be_bytes());
    let icmp_length = ICMP_LENGTH + quoted;
    let mut sum = checksum::add(checksum::sum(icmp), checksum::sum(quote));
    match (from, source(offending, headers.family)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => write_network_v4(network, from, to, length as u16),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            write_network_v6(network, from, to, icmp_length as u16);
            sum = checksum::add(sum, checksum::pseudo_v6(from, to, ICMPV6, icmp_length));
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    }
    icmp[2..4].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    Some(length)
}

/// Writes an echo request without a payload to the front of `out`, an IP packet, and returns its
/// length.
///
/// `None` when the addresses are of two families or `out` is too short.
pub fn write_echo_request(
    out: &mut [u8],
    from: IpAddr,
    to: IpAddr,
    identifier: u16,
    sequence: u16,
) -> Option<usize> {
    let (fixed, kind) = match from {
        IpAddr::V4(_) => (IPV4_LENGTH, 8),
        IpAddr::V6(_) => (IPV6_LENGTH, 128),
    };
    let length = fixed + ICMP_LENGTH;
    let (network, icmp) = out.get_mut(..length)?.split_at_mut(fixed);
    icmp.fill(0);
    icmp[0] = kind;
    icmp[4..6].copy_from_slice(&identifier.to_be_bytes());
    icmp[6..8].copy_from_slice(&sequence.to_be_bytes());
    let mut sum = checksum::sum(icmp);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => write_network_v4(network, from, to, length as u16),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            write_network_v6(network, from, to, ICMP_LENGTH as u16);
            sum = checksum::add(sum, checksum::pseudo_v6(from, to, ICMPV6, ICMP_LENGTH));
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    }
    icmp[2..4].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    Some(length)
}

fn write_network_v4(network: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, length: u16) {
    network.fill(0);
    network[0] = 0x45;
    network[1] = ERROR_CLASS;
    network[2..4].copy_from_slice(&length.to_be_bytes());
    // Don't Fragment, so that the identification may be zero (RFC 6864 section 4.1).
    network[6] = 0x40;
    network[8] = HOP_LIMIT;
    network[9] = ICMP;
    network[12..16].copy_from_slice(&from.octets());
    network[16..20].copy_from_slice(&to.octets());
    let sum = checksum::finish(checksum::sum(network));
    network[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn write_network_v6(network: &mut [u8], from: Ipv6Addr, to: Ipv6Addr, payload: u16) {
    network.fill(0);
    network[0] = 0x60;
    network[4..6].copy_from_slice(&payload.to_be_bytes());
    network[6] = ICMPV6;
    network[7] = HOP_LIMIT;
    network[8..24].copy_from_slice(&from.octets());
    network[24..40].copy_from_slice(&to.octets());
}

/// The packet that an ICMP or ICMPv6 error quotes: where it lies in `packet`, and its headers.
/// `None` when `packet` is no error or the quote has no eight bytes behind its IP header.
#[must_use]
pub fn quoted(packet: &[u8], headers: &Headers) -> Option<(Range<usize>, Headers)> {
    if headers.transport != Transport::IcmpError {
        return None;
    }
    let range = usize::from(headers.transport_at) + ICMP_LENGTH..headers.length as usize;
    let quoted = Headers::parse_quoted(packet.get(range.clone())?).ok()?;
    (quoted.family == headers.family).then_some((range, quoted))
}

/// The next hop's MTU in bytes, when the error says "fragmentation needed" (0 from routers older
/// than RFC 1191) or "packet too big".
#[must_use]
pub fn next_hop_mtu(packet: &[u8], headers: &Headers) -> Option<u32> {
    if headers.transport != Transport::IcmpError {
        return None;
    }
    let at = usize::from(headers.transport_at);
    match (headers.family, packet.get(at..at + ICMP_LENGTH)?) {
        (Family::V4, [UNREACHABLE_V4, FRAGMENTATION_NEEDED, _, _, _, _, high, low]) => {
            Some(u32::from(u16::from_be_bytes([*high, *low])))
        }
        (Family::V6, [TOO_BIG_V6, ..]) => Some(read_u32(packet, at + 4)),
        (Family::V4 | Family::V6, _) => None,
    }
}

/// Translates an ICMPv4 error and the packet it quotes (RFC 5508 section 4.2, REQ-4 and REQ-5):
/// the error's addresses become `outer` (source, destination), the quoted packet's addresses and
/// ports or echo identifier become `inner` (source, destination, as the quoted packet has them).
/// All checksums that are there change with them: both IP headers', the quoted transport's, and
/// the error's own.
///
/// `packet` is the error, `headers` its headers and `quoted` those of the packet in it, as
/// [`quoted`] found them.
///
/// # Errors
///
/// `TransportMalformed`, with nothing changed, when `packet` is no ICMPv4 error about IPv4 or the
/// quote is not long enough.
pub fn rewrite_quoted(
    packet: &mut [u8],
    headers: &Headers,
    quoted: &Headers,
    outer: (Ipv4Addr, Ipv4Addr),
    inner: (Socket, Socket),
) -> Result<(), DropReason> {
    let icmp_at = usize::from(headers.transport_at);
    let quoted_at = icmp_at + ICMP_LENGTH;
    let transport_at = quoted_at + usize::from(quoted.transport_at);
    let end = packet.len().min(headers.length as usize);
    let needed = match quoted.fragment {
        Fragment::Whole | Fragment::First { .. } => transport_at + 8,
        Fragment::Later { .. } => transport_at,
    };
    if headers.transport != Transport::IcmpError
        || (headers.family, quoted.family) != (Family::V4, Family::V4)
        || usize::from(quoted.transport_at) < IPV4_LENGTH
        || icmp_at < IPV4_LENGTH
        || end < needed
    {
        return Err(DropReason::TransportMalformed);
    }
    let bytes = &mut packet[..end];

    let delta = replace_addresses(bytes, 0, outer.0, outer.1);
    replace(bytes, 10, checksum::update(read_u16(bytes, 10), delta));

    let addresses = replace_addresses(bytes, quoted_at, inner.0.address, inner.1.address);
    let header_sum = checksum::update(read_u16(bytes, quoted_at + 10), addresses);
    let mut delta = checksum::add(addresses, replace(bytes, quoted_at + 10, header_sum));
    let ports = (inner.0.port, inner.1.port);
    let transport = replace_transport(bytes, transport_at, quoted.transport, ports, addresses);
    delta = checksum::add(delta, transport);
    replace(bytes, icmp_at + 2, checksum::update(read_u16(bytes, icmp_at + 2), delta));
    Ok(())
}

/// Writes new ports or a new identifier at `at`, mends the checksum there, and returns what all of
/// it adds to a sum over these bytes. The ports and checksums are at even distances from the ICMP
/// header, so that their words are its words.
fn replace_transport(
    bytes: &mut [u8],
    at: usize,
    transport: Transport,
    (source_port, destination_port): (u16, u16),
    addresses: u16,
) -> u16 {
    let (field, identifier) = match transport {
        Transport::Tcp { .. } => (16, None),
        Transport::Udp => (6, None),
        Transport::EchoRequest => (2, Some(source_port)),
        Transport::EchoReply => (2, Some(destination_port)),
        Transport::IcmpError | Transport::IcmpOther { .. } | Transport::Opaque => {
            return 0;
        }
    };
    let covered = match identifier {
        // ICMP has no pseudo-header.
        Some(identifier) => replace(bytes, at + 4, identifier),
        None => {
            let ports = checksum::add(
                replace(bytes, at, source_port),
                replace(bytes, at + 2, destination_port),
            );
            return replace_checksum(bytes, at + field, transport, addresses, ports);
        }
    };
    replace_checksum(bytes, at + field, transport, 0, covered)
}

/// Mends the checksum at `at`, if it was quoted and is in use, for changed pseudo-header and
/// changed covered words; returns what the covered words and the checksum add to a sum.
fn replace_checksum(
    bytes: &mut [u8],
    at: usize,
    transport: Transport,
    addresses: u16,
    covered: u16,
) -> u16 {
    let udp = transport == Transport::Udp;
    let old = read_u16(bytes, at);
    if at + 2 > bytes.len() || udp && old == 0 {
        return covered;
    }
    let new = match checksum::update(old, checksum::add(addresses, covered)) {
        0 if udp => 0xffff,
        new => new,
    };
    checksum::add(covered, replace(bytes, at, new))
}

/// Replaces both addresses of the IPv4 header at `at` and returns what that adds to a sum.
fn replace_addresses(bytes: &mut [u8], at: usize, source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
    let mut delta = 0;
    for (at, address) in [(at + 12, source), (at + 16, destination)] {
        let address = address.to_bits();
        delta = checksum::add(delta, replace(bytes, at, (address >> 16) as u16));
        delta = checksum::add(delta, replace(bytes, at + 2, address as u16));
    }
    delta
}

/// Replaces the word at `at` and returns what that adds to a sum.
fn replace(bytes: &mut [u8], at: usize, new: u16) -> u16 {
    let old = read_u16(bytes, at);
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    checksum::delta(old, new)
}

#[cfg(test)]
mod tests;
