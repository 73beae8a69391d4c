//! Compiled changes to a packet: what was decided once a flow, applied once a packet.

use std::net::Ipv4Addr;

use nvgate_model::DropReason;

use crate::buf::{Checksum, PacketBuf};
use crate::checksum;
use crate::headers::{Family, Fragment, Headers, TCP_SYN, Transport, read_u16, read_u32};

/// New addresses and ports for an IPv4 flow in one direction, with what the checksums change by.
/// Plain data: it can be copied to a standby or written to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct RewriteV4 {
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
    /// What the new addresses add to a one's complement sum.
    address_delta: u16,
    /// What the new ports add to a one's complement sum.
    port_delta: u16,
}

/// One side of an IPv4 transport flow: address and port (or echo identifier).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Socket {
    /// The address.
    pub address: Ipv4Addr,
    /// The port, or the echo identifier.
    pub port: u16,
}

impl Socket {
    /// The socket of this address and port.
    #[must_use]
    pub const fn new(address: Ipv4Addr, port: u16) -> Self {
        Self { address, port }
    }
}

impl RewriteV4 {
    /// The address that packets then go to.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.destination)
    }

    /// A change that is never applied.
    pub const NOTHING: Self = Self {
        source: 0,
        destination: 0,
        source_port: 0,
        destination_port: 0,
        address_delta: 0,
        port_delta: 0,
    };

    /// The change from the sockets a packet carries to those it should carry.
    #[must_use]
    pub const fn new(old: (Socket, Socket), new: (Socket, Socket)) -> Self {
        let address_delta = checksum::add(
            checksum::delta_u32(old.0.address.to_bits(), new.0.address.to_bits()),
            checksum::delta_u32(old.1.address.to_bits(), new.1.address.to_bits()),
        );
        let port_delta = checksum::add(
            checksum::delta(old.0.port, new.0.port),
            checksum::delta(old.1.port, new.1.port),
        );
        Self {
            source: new.0.address.to_bits(),
            destination: new.1.address.to_bits(),
            source_port: new.0.port,
            destination_port: new.1.port,
            address_delta,
            port_delta,
        }
    }

    /// Applies the change to the IPv4 packet `bytes`, whose facts are `headers`. `partial` says
    /// that the transport checksum holds the pseudo-header sum only.
    #[inline]
    pub fn apply(&self, bytes: &mut [u8], headers: &Headers, partial: bool) {
        let Some(fixed) = bytes.first_chunk_mut::<20>() else { return };
        let header_sum = checksum::update(read_u16(fixed, 10), self.address_delta);
        fixed[10..12].copy_from_slice(&header_sum.to_be_bytes());
        fixed[12..16].copy_from_slice(&self.source.to_be_bytes());
        fixed[16..20].copy_from_slice(&self.destination.to_be_bytes());
        let at = usize::from(headers.transport_at);
        let Some(transport) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<8>())
        else {
            return;
        };
        match headers.transport {
            Transport::Tcp { .. } => {
                self.write_ports(transport);
                let Some(field) = bytes.get_mut(at + 16..at + 18) else { return };
                let old = read_u16(field, 0);
                let new = self.transport_sum(old, partial);
                field.copy_from_slice(&new.to_be_bytes());
            }
            Transport::Udp => {
                self.write_ports(transport);
                let old = read_u16(transport, 6);
                if partial {
                    transport[6..8].copy_from_slice(&self.transport_sum(old, true).to_be_bytes());
                } else if old != 0 {
                    let new = match self.transport_sum(old, false) {
                        0 => 0xffff,
                        new => new,
                    };
                    transport[6..8].copy_from_slice(&new.to_be_bytes());
                }
            }
            Transport::EchoRequest => self.write_identifier(transport, self.source_port),
            Transport::EchoReply => {
                self.write_identifier(transport, self.destination_port);
                // Of nothing but zeros the sum is a zero that an update cannot tell from the other
                // one (RFC 1624 section 3). No other message that is changed can be all zero.
                if *transport == [0; 8]
                    && headers.fragment == Fragment::Whole
                    && bytes[at..].iter().all(|&byte| byte == 0)
                {
                    bytes[at + 2..at + 4].fill(0xff);
                }
            }
            Transport::IcmpError | Transport::IcmpOther { .. } | Transport::Opaque => {}
        }
    }

    /// Applies only the addresses: for later fragments, which have no transport header.
    pub fn apply_addresses(&self, bytes: &mut [u8]) {
        let Some(fixed) = bytes.first_chunk_mut::<20>() else { return };
        let header_sum = checksum::update(read_u16(fixed, 10), self.address_delta);
        fixed[10..12].copy_from_slice(&header_sum.to_be_bytes());
        fixed[12..16].copy_from_slice(&self.source.to_be_bytes());
        fixed[16..20].copy_from_slice(&self.destination.to_be_bytes());
    }

    #[inline]
    const fn transport_sum(&self, old: u16, partial: bool) -> u16 {
        if partial {
            // The field is a sum, not its complement, and does not cover the ports yet.
            checksum::add(old, self.address_delta)
        } else {
            checksum::update(old, checksum::add(self.address_delta, self.port_delta))
        }
    }

    #[inline]
    fn write_ports(&self, transport: &mut [u8; 8]) {
        transport[0..2].copy_from_slice(&self.source_port.to_be_bytes());
        transport[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
    }

    #[inline]
    fn write_identifier(&self, transport: &mut [u8; 8], identifier: u16) {
        let delta = checksum::delta(read_u16(transport, 4), identifier);
        let sum = checksum::update(read_u16(transport, 2), delta);
        transport[2..4].copy_from_slice(&sum.to_be_bytes());
        transport[4..6].copy_from_slice(&identifier.to_be_bytes());
    }
}

/// Takes one from the TTL or hop limit and mends the IPv4 header checksum (RFC 1812 section
/// 5.3.1, RFC 8200 section 3).
///
/// # Errors
///
/// `TtlExpired` when the packet arrived with 0 or 1; the packet is then unchanged.
#[inline]
pub fn decrement_ttl(packet: &mut [u8], family: Family) -> Result<(), DropReason> {
    match family {
        Family::V4 => {
            let Some(fixed) = packet.first_chunk_mut::<20>() else {
                return Err(DropReason::IpMalformed);
            };
            if fixed[8] <= 1 {
                return Err(DropReason::TtlExpired);
            }
            let old = read_u16(fixed, 8);
            fixed[8] -= 1;
            let sum = checksum::update(
                read_u16(fixed, 10),
                checksum::delta(old, u16::from_be_bytes([fixed[8], fixed[9]])),
            );
            fixed[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Family::V6 => {
            let Some(limit) = packet.get_mut(7) else { return Err(DropReason::IpMalformed) };
            if *limit <= 1 {
                return Err(DropReason::TtlExpired);
            }
            *limit -= 1;
        }
    }
    Ok(())
}

/// Replaces the traffic class (DSCP and ECN) and mends the IPv4 header checksum.
#[inline]
pub fn set_traffic_class(packet: &mut [u8], family: Family, class: u8) {
    match family {
        Family::V4 => {
            let Some(fixed) = packet.first_chunk_mut::<20>() else { return };
            let old = read_u16(fixed, 0);
            fixed[1] = class;
            let sum = checksum::update(
                read_u16(fixed, 10),
                checksum::delta(old, u16::from_be_bytes([fixed[0], fixed[1]])),
            );
            fixed[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Family::V6 => {
            let Some(fixed) = packet.first_chunk_mut::<4>() else { return };
            let word = u32::from_be_bytes(*fixed) & 0xf00f_ffff | u32::from(class) << 20;
            *fixed = word.to_be_bytes();
        }
    }
}

/// Lowers the maximum segment size option of a SYN to `limit` bytes when it asks for more. An absent
/// option is not added: it means 536 or 1220 bytes (RFC 9293 section 3.7.1), which every path here
/// carries. The view begins at the IP header.
pub fn clamp_mss(packet: &mut PacketBuf<'_>, headers: &Headers, limit: u16) {
    let Transport::Tcp { flags } = headers.transport else { return };
    if flags & TCP_SYN == 0 || matches!(headers.fragment, Fragment::Later { .. }) {
        return;
    }
    let partial = matches!(packet.offload().checksum, Checksum::Partial { .. });
    let bytes = packet.bytes_mut();
    let at = usize::from(headers.transport_at);
    let end = (at + headers.transport_length(bytes)).min(bytes.len());
    let Some(mut option) = at.checked_add(20).filter(|&option| option <= end) else { return };
    while option < end {
        match (bytes[option], bytes.get(option + 1).copied()) {
            (0, _) => return,
            (1, _) => option += 1,
            (2, Some(4)) if option + 4 <= end => {
                let old = read_u16(bytes, option + 2);
                if old > limit {
                    bytes[option + 2..option + 4].copy_from_slice(&limit.to_be_bytes());
                    if !partial {
                        let mut delta = checksum::delta(old, limit);
                        if (option - at) % 2 == 1 {
                            delta = delta.swap_bytes();
                        }
                        let sum = checksum::update(read_u16(bytes, at + 16), delta);
                        bytes[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
                    }
                }
                return;
            }
            (_, Some(length)) if length >= 2 => option += usize::from(length),
            (_, _) => return,
        }
    }
}

/// The sockets an IPv4 packet carries, source and destination.
#[must_use]
pub fn sockets(packet: &[u8], headers: &Headers) -> (Socket, Socket) {
    (
        Socket::new(Ipv4Addr::from_bits(read_u32(packet, 12)), headers.source_port),
        Socket::new(Ipv4Addr::from_bits(read_u32(packet, 16)), headers.destination_port),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buf::Offload;
    use crate::headers::{ICMP, TCP, TCP_ACK, TCP_SYN, UDP, traffic_class};
    use crate::samples::{checksum_field, half_sealed, ipv4, ipv6, is_sound, sealed, tcp, udp};

    const NEW: (Socket, Socket) = (
        Socket::new(Ipv4Addr::new(203, 0, 113, 7), 40_001),
        Socket::new(Ipv4Addr::new(198, 51, 100, 9), 8443),
    );

    fn rewritten(mut packet: Vec<u8>, new: (Socket, Socket), partial: bool) -> Vec<u8> {
        let headers = Headers::parse(&packet).unwrap();
        RewriteV4::new(sockets(&packet, &headers), new).apply(&mut packet, &headers, partial);
        packet
    }

    fn carries(packet: &[u8]) -> (Socket, Socket) {
        sockets(packet, &Headers::parse(packet).unwrap())
    }

    fn echo(kind: u8) -> Vec<u8> {
        sealed(ipv4(ICMP, 0, &[], &[kind, 0, 0, 0, 0x12, 0x34, 0, 1, 9]))
    }

    #[test]
    fn an_echo_reply_that_becomes_all_zero_has_a_right_checksum() {
        let packet = sealed(ipv4(ICMP, 0, &[], &[0, 0, 0, 0, 0x9c, 0x41, 0, 0, 0, 0]));
        let remote = Socket::new(Ipv4Addr::new(198, 51, 100, 9), 0);
        let customer = Socket::new(Ipv4Addr::new(10, 1, 0, 10), 0);
        let changed = rewritten(packet, (remote, customer), false);
        assert_eq!(carries(&changed), (remote, customer));
        assert!(is_sound(&changed));
    }

    #[test]
    fn tcp_and_udp_get_new_sockets_and_right_checksums() {
        for packet in [
            ipv4(TCP, 0, &[1; 4], &tcp(TCP_ACK, &[], &[1, 2, 3])),
            ipv4(UDP, 0, &[], &udp(&[4, 5])),
        ] {
            let changed = rewritten(sealed(packet.clone()), NEW, false);
            assert!(is_sound(&changed));
            assert_eq!(carries(&changed), NEW);
            let changed = rewritten(half_sealed(packet), NEW, true);
            assert_eq!(carries(&changed), NEW);
            assert_eq!(half_sealed(changed.clone()), changed);
        }
    }

    #[test]
    fn an_absent_udp_checksum_stays_absent() {
        let changed = rewritten(ipv4(UDP, 0, &[], &udp(&[4, 5])), NEW, false);
        assert_eq!((carries(&changed), checksum_field(&changed)), (NEW, 0));
    }

    #[test]
    fn a_udp_checksum_never_becomes_absent() {
        let packet = sealed(ipv4(UDP, 0, &[], &udp(&[4, 5])));
        let zeros = (0..=u16::MAX).filter(|&port| {
            let new = (NEW.0, Socket::new(NEW.1.address, port));
            let changed = rewritten(packet.clone(), new, false);
            assert_ne!(checksum_field(&changed), 0);
            checksum_field(&changed) == 0xffff
        });
        assert!(zeros.count() >= 1);
    }

    #[test]
    fn an_echo_keeps_its_identifier_on_the_side_that_chose_it() {
        let request = rewritten(echo(8), NEW, false);
        assert!(is_sound(&request));
        assert_eq!(carries(&request), (NEW.0, Socket::new(NEW.1.address, 0)));
        let reply = rewritten(echo(0), NEW, false);
        assert!(is_sound(&reply));
        assert_eq!(carries(&reply), (Socket::new(NEW.0.address, 0), NEW.1));
    }

    #[test]
    fn a_later_fragment_changes_its_addresses_only() {
        let packet = ipv4(UDP, 0x0010, &[], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let headers = Headers::parse(&packet).unwrap();
        let rewrite = RewriteV4::new(sockets(&packet, &headers), (NEW.0, NEW.1));
        let zero = |socket: Socket| Socket::new(socket.address, 0);
        let rewrite_addresses =
            RewriteV4::new(sockets(&packet, &headers), (zero(NEW.0), zero(NEW.1)));
        let (mut one, mut two) = (packet.clone(), packet.clone());
        rewrite.apply_addresses(&mut one);
        rewrite_addresses.apply(&mut two, &headers, false);
        assert_eq!(one, two);
        assert_eq!(carries(&one), (zero(NEW.0), zero(NEW.1)));
        assert_eq!(one[20..], packet[20..]);
    }

    #[test]
    fn the_ttl_goes_down_to_one_and_no_further() {
        let mut v4 = sealed(ipv4(UDP, 0, &[], &udp(&[1])));
        let mut v6 = sealed(ipv6(UDP, &udp(&[1])));
        for left in (1..64).rev() {
            assert_eq!(decrement_ttl(&mut v4, Family::V4), Ok(()));
            assert_eq!(decrement_ttl(&mut v6, Family::V6), Ok(()));
            assert!(is_sound(&v4));
            assert_eq!((v4[8], v6[7]), (left, left));
        }
        let before = (v4.clone(), v6.clone());
        assert_eq!(decrement_ttl(&mut v4, Family::V4), Err(DropReason::TtlExpired));
        assert_eq!(decrement_ttl(&mut v6, Family::V6), Err(DropReason::TtlExpired));
        assert_eq!((v4, v6), before);
        assert_eq!(decrement_ttl(&mut [0x45; 19], Family::V4), Err(DropReason::IpMalformed));
        assert_eq!(decrement_ttl(&mut [0x60; 7], Family::V6), Err(DropReason::IpMalformed));
    }

    #[test]
    fn the_traffic_class_changes_nothing_beside_it() {
        let mut v4 = sealed(ipv4(UDP, 0, &[], &udp(&[1])));
        let mut v6 = sealed(ipv6(UDP, &udp(&[1])));
        v6[1..4].copy_from_slice(&[0x0a, 0xbc, 0xde]);
        for class in 0..=255 {
            set_traffic_class(&mut v4, Family::V4, class);
            set_traffic_class(&mut v6, Family::V6, class);
            assert!(is_sound(&v4));
            assert_eq!(traffic_class(&v4, Family::V4), class);
            assert_eq!(traffic_class(&v6, Family::V6), class);
            assert_eq!((v6[0] >> 4, v6[1] & 15, &v6[2..4]), (6, 0x0a, &[0xbc, 0xde][..]));
        }
    }

    fn clamped(options: &[u8], limit: u16, partial: bool) -> Vec<u8> {
        let packet = ipv4(TCP, 0, &[], &tcp(TCP_SYN, options, &[2, 4, 0xff, 0xff]));
        let (mut packet, checksum) = if partial {
            (half_sealed(packet), Checksum::Partial { start: 20, field: 16 })
        } else {
            (sealed(packet), Checksum::Complete)
        };
        let headers = Headers::parse(&packet).unwrap();
        let end = packet.len();
        let offload = Offload { checksum, gso: None };
        let mut view = PacketBuf::new(&mut packet, 0, end, offload);
        clamp_mss(&mut view, &headers, limit);
        assert!(view.complete_checksum());
        assert!(is_sound(&packet));
        packet[40..].to_vec()
    }

    #[test]
    fn the_segment_size_is_lowered_wherever_the_option_stands() {
        let payload = [2, 4, 0xff, 0xff];
        for partial in [false, true] {
            let even = clamped(&[2, 4, 0x05, 0xb4], 1418, partial);
            assert_eq!(even, [&[2, 4, 0x05, 0x8a], &payload[..]].concat());
            let odd = clamped(&[1, 2, 4, 0x05, 0xb4, 1, 1, 1], 1418, partial);
            assert_eq!(odd, [&[1, 2, 4, 0x05, 0x8a, 1, 1, 1], &payload[..]].concat());
        }
    }

    #[test]
    fn a_segment_size_that_fits_or_is_absent_or_is_payload_stays() {
        for options in [&[2, 4, 0x05, 0x8a][..], &[], &[1, 1, 1, 1], &[0, 2, 4, 5], &[1, 1, 2, 4]] {
            let after = clamped(options, 1418, false);
            assert_eq!(after, [options, &[2, 4, 0xff, 0xff]].concat());
        }
    }

    proptest! {
        #[test]
        fn rewriting_there_and_back_is_no_change(
            bytes in any::<[u8; 12]>(), payload in proptest::collection::vec(any::<u8>(), 0..50), is_tcp in any::<bool>(),
        ) {
            let packet = if is_tcp {
                ipv4(TCP, 0, &[], &tcp(TCP_ACK, &[], &payload))
            } else {
                ipv4(UDP, 0, &[], &udp(&payload))
            };
            let packet = sealed(packet);
            let old = carries(&packet);
            let new = (
                Socket::new(read_u32(&bytes, 0).into(), read_u16(&bytes, 4)),
                Socket::new(read_u32(&bytes, 6).into(), read_u16(&bytes, 10)),
            );
            let there = rewritten(packet.clone(), new, false);
            prop_assert!(is_sound(&there));
            prop_assert_eq!(carries(&there), new);
            let back = rewritten(there, old, false);
            prop_assert!(is_sound(&back));
            prop_assert_eq!(carries(&back), old);
        }

        #[test]
        fn any_options_return(options in proptest::collection::vec(any::<u8>(), 0..10), limit in any::<u16>()) {
            let options: Vec<u8> = options.iter().flat_map(|&byte| [byte, byte % 7, byte / 3, 2]).collect();
            clamped(&options, limit, false);
        }
    }
}
