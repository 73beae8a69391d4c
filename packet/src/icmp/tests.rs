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
    let packet = sealed(ipv4(ICMP, 0, &[], &[&[11, 1, 0, 0, 0, 0, 0, 0], &fragment[..]].concat()));
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

#[test]
fn an_echo_request_is_read_as_one_and_is_sound() {
    for (from, to, length) in [("10.1.0.1", "192.168.50.10", 28), ("fd00:1::1", "2001:db8::10", 48)]
    {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let mut out = [0xee; 60];
        assert_eq!(write_echo_request(&mut out, from, to, 0x1234, 7), Some(length));
        let packet = &out[..length];
        assert!(is_sound(packet));
        let headers = Headers::parse(packet).unwrap();
        assert_eq!((headers.transport, headers.source_port), (Transport::EchoRequest, 0x1234));
        assert_eq!(
            (source(packet, headers.family), destination(packet, headers.family)),
            (from, to)
        );
        assert_eq!(read_u16(packet, length - 2), 7);
        assert_eq!(write_echo_request(&mut out[..length - 1], from, to, 0, 0), None);
    }
    let (v4, v6) = ("10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
    assert_eq!(write_echo_request(&mut [0; 60], v4, v6, 0, 0), None);
}
