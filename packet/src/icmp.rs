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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::headers::{TCP, TCP_ACK, UDP};
    use crate::samples::{ipv4, ipv6, is_sound, sealed, tcp, udp};

    const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254));
    const PROBLEMS: [Problem; 6] = [
        Problem::NetworkUnreachable,
        Problem::HostUnreachable,
        Problem::PortUnreachable,
        Problem::Prohibited,
        Problem::TooBig { mtu: 1400 },
        Problem::TimeExceeded,
    ];

    fn error_about(packet: &[u8], from: IpAddr, problem: Problem) -> Vec<u8> {
        let headers = Headers::parse(packet).unwrap();
        let mut out = vec![0xee; MAX_ERROR];
        let length = write_error(&mut out, packet, &headers, from, problem).unwrap();
        out.truncate(length);
        out
    }

    #[test]
    fn an_ipv4_error_goes_to_the_source_and_quotes_up_to_576_bytes() {
        let packet = ipv4(UDP, 0x4000, &[], &udp(&[7; 1000]));
        let error = error_about(&packet, GATEWAY, Problem::TooBig { mtu: 1400 });
        assert!(is_sound(&error));
        assert_eq!((error.len(), error[1], error[8]), (576, 0xc0, 64));
        assert_eq!(&error[12..20], &[10, 0, 0, 254, 10, 0, 0, 1]);
        assert_eq!(&error[20..22], &[3, 4]);
        assert_eq!(&error[28..], &packet[..548]);
        let headers = Headers::parse(&error).unwrap();
        assert_eq!(next_hop_mtu(&error, &headers), Some(1400));
        assert!(!may_answer(&error, &headers));
        let (range, inner) = quoted(&error, &headers).unwrap();
        assert_eq!((range, inner.source_port, inner.destination_port), (28..576, 5000, 53));
    }

    #[test]
    fn an_ipv6_error_goes_to_the_source_and_quotes_up_to_1280_bytes() {
        let packet = ipv6(UDP, &udp(&[7; 1400]));
        let gateway = "fd00::ff".parse().unwrap();
        let error = error_about(&packet, gateway, Problem::TooBig { mtu: 1438 });
        assert!(is_sound(&error));
        assert_eq!((error.len(), error[40], error[41]), (1280, 2, 0));
        assert_eq!(&error[24..40], &packet[8..24]);
        assert_eq!(&error[48..], &packet[..1232]);
        let headers = Headers::parse(&error).unwrap();
        assert_eq!(next_hop_mtu(&error, &headers), Some(1438));
        assert!(quoted(&error, &headers).is_some());
    }

    #[test]
    fn types_and_codes_are_those_of_the_rfcs() {
        let v4 = ipv4(UDP, 0, &[], &udp(&[1]));
        let v6 = ipv6(UDP, &udp(&[1]));
        let codes: Vec<_> = PROBLEMS
            .iter()
            .map(|&problem| {
                let four = error_about(&v4, GATEWAY, problem);
                let six = error_about(&v6, "fd00::ff".parse().unwrap(), problem);
                assert!(is_sound(&four) && is_sound(&six));
                ((four[20], four[21]), (six[40], six[41]))
            })
            .collect();
        assert_eq!(
            codes,
            [
                ((3, 0), (1, 0)),
                ((3, 1), (1, 3)),
                ((3, 3), (1, 4)),
                ((3, 13), (1, 1)),
                ((3, 4), (2, 0)),
                ((11, 0), (3, 0)),
            ]
        );
    }

    #[test]
    fn an_error_that_does_not_fit_or_is_of_the_other_family_is_not_written() {
        let packet = ipv4(UDP, 0, &[], &udp(&[1]));
        let headers = Headers::parse(&packet).unwrap();
        let problem = Problem::TimeExceeded;
        assert_eq!(write_error(&mut [0; 56], &packet, &headers, GATEWAY, problem), None);
        assert_eq!(write_error(&mut [0; 57], &packet, &headers, GATEWAY, problem), Some(57));
        let other = "fd00::ff".parse().unwrap();
        assert_eq!(write_error(&mut [0; 600], &packet, &headers, other, problem), None);
    }

    #[test]
    fn errors_fragments_and_groups_are_never_answered() {
        let answers = |packet: &[u8]| may_answer(packet, &Headers::parse(packet).unwrap());
        let with = |at: usize, address: [u8; 4]| {
            let mut packet = ipv4(UDP, 0, &[], &udp(&[1]));
            packet[at..at + 4].copy_from_slice(&address);
            packet[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(&packet[..20]));
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet
        };
        assert!(answers(&ipv4(UDP, 0, &[], &udp(&[1]))));
        assert!(answers(&ipv4(ICMP, 0, &[], &[8, 0, 0, 0, 0, 1, 0, 1])));
        assert!(answers(&ipv4(UDP, 0x2000, &[], &udp(&[1]))));
        assert!(!answers(&ipv4(UDP, 0x0001, &[], &udp(&[1]))));
        assert!(!answers(&ipv4(ICMP, 0, &[], &[11, 0, 0, 0, 0, 0, 0, 0])));
        assert!(!answers(&ipv4(ICMP, 0, &[], &[5, 0, 0, 0, 0, 0, 0, 0])));
        for address in [[0; 4], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
            assert!(!answers(&with(12, address)) && !answers(&with(16, address)));
        }
        assert!(answers(&ipv6(UDP, &udp(&[1]))));
        assert!(!answers(&ipv6(ICMPV6, &[1, 0, 0, 0, 0, 0, 0, 0])));
        assert!(!answers(&ipv6(ICMPV6, &[100, 0, 0, 0, 0, 0, 0, 0])));
        assert!(!answers(&ipv6(ICMPV6, &[137, 0, 0, 0, 0, 0, 0, 0])));
        let mut multicast = ipv6(UDP, &udp(&[1]));
        multicast[24] = 0xff;
        assert!(!answers(&multicast));
        let mut unspecified = ipv6(UDP, &udp(&[1]));
        unspecified[8..24].fill(0);
        assert!(!answers(&unspecified));
    }

    fn echo(kind: u8) -> Vec<u8> {
        sealed(ipv4(ICMP, 0, &[], &[kind, 0, 0, 0, 0x12, 0x34, 0, 1, 9, 9]))
    }

    /// Translates the error about `packet` and expects the error about the translated packet.
    fn translate(packet: &[u8], expected_ports: Option<(u16, u16)>) {
        let mut error = error_about(packet, GATEWAY, Problem::HostUnreachable);
        let headers = Headers::parse(&error).unwrap();
        let (range, inner) = quoted(&error, &headers).unwrap();
        let new = (
            Socket::new(Ipv4Addr::new(203, 0, 113, 7), 40_001),
            Socket::new(Ipv4Addr::new(198, 51, 100, 9), 40_002),
        );
        let outer = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(203, 0, 113, 7));
        rewrite_quoted(&mut error, &headers, &inner, outer, new).unwrap();
        assert!(is_sound(&error));
        assert_eq!(&error[12..20], &[192, 0, 2, 1, 203, 0, 113, 7]);
        let quote = &error[range];
        assert_eq!(&quote[12..20], &[203, 0, 113, 7, 198, 51, 100, 9]);
        assert!(quote.len() < packet.len() || is_sound(quote) || read_u16(quote, 26) == 0);
        let after = Headers::parse_quoted(quote).unwrap();
        let ports = (after.source_port, after.destination_port);
        assert_eq!(ports, expected_ports.unwrap_or((0, 0)));
    }

    #[test]
    fn the_quoted_packet_is_translated_with_every_checksum() {
        translate(&sealed(ipv4(UDP, 0, &[], &udp(&[1, 2, 3]))), Some((40_001, 40_002)));
        translate(&ipv4(UDP, 0, &[], &udp(&[1, 2, 3])), Some((40_001, 40_002)));
        translate(&sealed(ipv4(TCP, 0, &[], &tcp(TCP_ACK, &[], &[1]))), Some((40_001, 40_002)));
        translate(
            &sealed(ipv4(TCP, 0, &[1; 4], &tcp(TCP_ACK, &[], &[1; 900]))),
            Some((40_001, 40_002)),
        );
        translate(&echo(8), Some((40_001, 0)));
        translate(&echo(0), Some((0, 40_002)));
    }

    #[test]
    fn a_quote_of_eight_transport_bytes_is_enough_and_less_is_refused() {
        let packet = sealed(ipv4(TCP, 0, &[], &tcp(TCP_ACK, &[], &[1])));
        let mut error = error_about(&packet, GATEWAY, Problem::TimeExceeded);
        let short = sealed(ipv4(ICMP, 0, &[], &error[20..56]));
        let headers = Headers::parse(&short).unwrap();
        let (_, inner) = quoted(&short, &headers).unwrap();
        let socket = Socket::new(Ipv4Addr::new(203, 0, 113, 7), 1);
        let outer = (socket.address, socket.address);
        let mut changed = short.clone();
        changed.extend([0xaa; 20]);
        rewrite_quoted(&mut changed, &headers, &inner, outer, (socket, socket)).unwrap();
        assert!(is_sound(&changed[..short.len()]));
        assert_eq!(changed[short.len()..], [0xaa; 20]);

        error.truncate(55);
        let before = error.clone();
        let result = rewrite_quoted(&mut error, &headers, &inner, outer, (socket, socket));
        assert_eq!((result, error), (Err(DropReason::TransportMalformed), before));
        let shorter = sealed(ipv4(ICMP, 0, &[], &short[20..55]));
        assert_eq!(quoted(&shorter, &Headers::parse(&shorter).unwrap()), None);
    }

    #[test]
    fn a_quoted_later_fragment_changes_its_addresses_only() {
        let fragment = ipv4(UDP, 0x0010, &[], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let packet =
            sealed(ipv4(ICMP, 0, &[], &[&[11, 1, 0, 0, 0, 0, 0, 0], &fragment[..]].concat()));
        let headers = Headers::parse(&packet).unwrap();
        let (range, inner) = quoted(&packet, &headers).unwrap();
        let socket = Socket::new(Ipv4Addr::new(203, 0, 113, 7), 77);
        let mut changed = packet.clone();
        rewrite_quoted(
            &mut changed,
            &headers,
            &inner,
            (socket.address, socket.address),
            (socket, socket),
        )
        .unwrap();
        assert!(is_sound(&changed));
        assert!(Headers::parse(&changed[range]).is_ok());
        assert_eq!(changed[48..], packet[48..]);
    }

    proptest! {
        #[test]
        fn any_quote_returns_and_keeps_the_error_sound(
            quote in proptest::collection::vec(any::<u8>(), 0..120),
            kind in prop::sample::select(vec![3_u8, 4, 5, 11, 12]),
            protocol in prop::sample::select(vec![1_u8, 6, 17, 47]),
            options in 5_u8..16,
            sockets in any::<[u8; 12]>(),
        ) {
            let mut body = vec![kind, 4, 0, 0, 0, 0, 0, 0];
            body.extend(&quote);
            if let Some(first) = body.get_mut(8) {
                *first = 0x40 | options;
            }
            if let Some(slot) = body.get_mut(17) {
                *slot = protocol;
            }
            let mut packet = sealed(ipv4(ICMP, 0, &[], &body));
            let headers = Headers::parse(&packet).unwrap();
            let _ = next_hop_mtu(&packet, &headers);
            if let Some((_, inner)) = quoted(&packet, &headers) {
                let one = Socket::new(read_u32(&sockets, 0).into(), read_u16(&sockets, 4));
                let two = Socket::new(read_u32(&sockets, 6).into(), read_u16(&sockets, 10));
                if rewrite_quoted(&mut packet, &headers, &inner, (one.address, two.address), (one, two)).is_ok() {
                    prop_assert!(is_sound(&packet));
                }
            }
        }

        #[test]
        fn any_bytes_return(bytes in proptest::collection::vec(any::<u8>(), 1..200), version in prop::sample::select(vec![0x45_u8, 0x60])) {
            let mut bytes = bytes;
            bytes[0] = version;
            if let Ok(headers) = Headers::parse(&bytes) {
                let _ = (may_answer(&bytes, &headers), quoted(&bytes, &headers), next_hop_mtu(&bytes, &headers));
                let mut out = [0; MAX_ERROR];
                let _ = write_error(&mut out, &bytes, &headers, GATEWAY, Problem::TimeExceeded);
            }
        }
    }
}
