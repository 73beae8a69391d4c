//! Reading IP and transport headers: one pass that checks every length once and yields facts, so
//! that later stages index without checking again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::DropReason;

use crate::checksum;

/// EtherType of IPv4 (RFC 894).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6 (RFC 2464).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad service tag.
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
/// Bytes of an untagged Ethernet header.
pub const ETHERNET_LENGTH: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4_LENGTH: usize = 20;
/// Bytes of the fixed IPv6 header.
pub const IPV6_LENGTH: usize = 40;

/// IANA protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IANA protocol number of TCP.
pub const TCP: u8 = 6;
/// IANA protocol number of UDP.
pub const UDP: u8 = 17;
/// IANA protocol number of GRE.
pub const GRE: u8 = 47;
/// IANA protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers the gateway walks before it calls a packet malformed.
const MAX_EXTENSIONS: usize = 8;

/// TCP flag FIN.
pub const TCP_FIN: u8 = 0x01;
/// TCP flag SYN.
pub const TCP_SYN: u8 = 0x02;
/// TCP flag RST.
pub const TCP_RST: u8 = 0x04;
/// TCP flag ACK.
pub const TCP_ACK: u8 = 0x10;

/// The IP version of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whether a packet is a fragment of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// A whole datagram.
    Whole,
    /// The first fragment, with the transport header.
    First {
        /// The datagram's identification (16 bits for IPv4).
        identification: u32,
    },
    /// A later fragment, without a transport header.
    Later {
        /// The datagram's identification (16 bits for IPv4).
        identification: u32,
    },
}

/// What the transport header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP, with its flags (the low eight bits).
    Tcp {
        /// FIN, SYN, RST, PSH, ACK, URG, ECE, CWR from the lowest bit.
        flags: u8,
    },
    /// UDP.
    Udp,
    /// An ICMP or ICMPv6 echo request; the identifier is the source port.
    EchoRequest,
    /// An ICMP or ICMPv6 echo reply; the identifier is the destination port.
    EchoReply,
    /// An ICMP or ICMPv6 error, which quotes a packet from 8 bytes behind its header on.
    IcmpError,
    /// Any other ICMP or ICMPv6 message, with its type (neighbour discovery, timestamps).
    IcmpOther {
        /// The ICMP type.
        kind: u8,
    },
    /// Another protocol, or a later fragment.
    Opaque,
}

/// Facts about one IP packet; offsets count from the first byte of its IP header and lie within
/// the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers {
    /// The IP version.
    pub family: Family,
    /// The transport protocol, behind any extension headers.
    pub protocol: u8,
    /// Where the transport header begins, in bytes.
    pub transport_at: u16,
    /// The length of the IP packet in bytes, as its header says; the frame may be padded.
    pub length: u32,
    /// Whether this is a fragment.
    pub fragment: Fragment,
    /// What the transport header says.
    pub transport: Transport,
    /// The source port, or an echo request's identifier, or 0.
    pub source_port: u16,
    /// The destination port, or an echo reply's identifier, or 0.
    pub destination_port: u16,
}

/// Reads 16 bits in network order; 0 behind the end.
#[inline]
#[must_use]
pub fn read_u16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        Some(_) | None => 0,
    }
}

/// Reads 32 bits in network order; 0 behind the end.
#[inline]
#[must_use]
pub fn read_u32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        Some(_) | None => 0,
    }
}

/// Reads 128 bits in network order; 0 behind the end.
#[inline]
#[must_use]
pub fn read_u128(bytes: &[u8], at: usize) -> u128 {
    match bytes.get(at..at + 16).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => 0,
    }
}

/// The source address of an IP packet that [`Headers::parse`] accepted.
#[must_use]
pub fn source(packet: &[u8], family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(read_u32(packet, 12))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(read_u128(packet, 8))),
    }
}

/// The destination address of an IP packet that [`Headers::parse`] accepted.
#[must_use]
pub fn destination(packet: &[u8], family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(read_u32(packet, 16))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(read_u128(packet, 24))),
    }
}

/// The traffic class (DSCP and ECN) of an IP packet.
#[inline]
#[must_use]
pub fn traffic_class(packet: &[u8], family: Family) -> u8 {
    match family {
        Family::V4 => packet.get(1).copied().unwrap_or(0),
        Family::V6 => (read_u16(packet, 0) >> 4) as u8,
    }
}

impl Headers {
    /// Reads the headers of the IPv4 or IPv6 packet at the front of `packet`, whose version is
    /// taken from its first byte.
    ///
    /// # Errors
    ///
    /// `IpMalformed`, `IpChecksum`, `SourceRoute` or `TransportMalformed`.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        match packet.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(packet),
            Some(6) => Self::parse_v6(packet),
            Some(_) | None => Err(DropReason::IpMalformed),
        }
    }

    /// Reads the headers of an IP packet quoted in an ICMP error: only its IP header and the
    /// first eight bytes behind it need to be there, and its checksums are not verified (RFC 792,
    /// RFC 4443 section 2.4).
    ///
    /// # Errors
    ///
    /// `IpMalformed` or `TransportMalformed`.
    pub fn parse_quoted(packet: &[u8]) -> Result<Self, DropReason> {
        let (mut headers, available) = match packet.first().map(|first| first >> 4) {
            Some(4) => {
                let transport_at = usize::from(packet[0] & 0x0f) * 4;
                if transport_at < IPV4_LENGTH || packet.len() < transport_at {
                    return Err(DropReason::IpMalformed);
                }
                let word = read_u16(packet, 6);
                let identification = u32::from(read_u16(packet, 4));
                let headers = Self {
                    family: Family::V4,
                    protocol: packet[9],
                    transport_at: transport_at as u16,
                    length: u32::from(read_u16(packet, 2)),
                    fragment: fragment_of(word & 0x1fff, word & 0x2000 != 0, identification),
                    transport: Transport::Opaque,
                    source_port: 0,
                    destination_port: 0,
                };
                (headers, packet)
            }
            Some(6) => (Self::walk_v6(packet, packet.len())?, packet),
            Some(_) | None => return Err(DropReason::IpMalformed),
        };
        if matches!(headers.fragment, Fragment::Later { .. }) {
            return Ok(headers);
        }
        let transport = available.get(usize::from(headers.transport_at)..).unwrap_or(&[]);
        if transport.len() < 8 {
            return Err(DropReason::TransportMalformed);
        }
        headers.source_port = read_u16(transport, 0);
        headers.destination_port = read_u16(transport, 2);
        match headers.protocol {
            TCP => {
                headers.transport =
                    Transport::Tcp { flags: transport.get(13).copied().unwrap_or(0) };
            }
            UDP => headers.transport = Transport::Udp,
            ICMP | ICMPV6 => headers.read_icmp(transport),
            _ => (headers.source_port, headers.destination_port) = (0, 0),
        }
        Ok(headers)
    }

    #[inline]
    fn parse_v4(packet: &[u8]) -> Result<Self, DropReason> {
        let Some(fixed) = packet.first_chunk::<IPV4_LENGTH>() else {
            return Err(DropReason::IpMalformed);
        };
        let header_length = usize::from(fixed[0] & 0x0f) * 4;
        let length = usize::from(read_u16(fixed, 2));
        if header_length < IPV4_LENGTH || length < header_length || packet.len() < length {
            return Err(DropReason::IpMalformed);
        }
        if checksum::sum(&packet[..header_length]) != 0xffff {
            return Err(DropReason::IpChecksum);
        }
        if header_length > IPV4_LENGTH {
            check_options(&packet[IPV4_LENGTH..header_length])?;
        }
        let word = read_u16(fixed, 6);
        let mut headers = Self {
            family: Family::V4,
            protocol: fixed[9],
            transport_at: header_length as u16,
            length: length as u32,
            fragment: fragment_of(word & 0x1fff, word & 0x2000 != 0, u32::from(read_u16(fixed, 4))),
            transport: Transport::Opaque,
            source_port: 0,
            destination_port: 0,
        };
        headers.read_transport(&packet[..length])?;
        Ok(headers)
    }

    fn parse_v6(packet: &[u8]) -> Result<Self, DropReason> {
        let length = IPV6_LENGTH + usize::from(read_u16(packet, 4));
        if packet.len() < length {
            return Err(DropReason::IpMalformed);
        }
        let mut headers = Self::walk_v6(packet, length)?;
        headers.read_transport(&packet[..length])?;
        Ok(headers)
    }

    /// Walks the extension headers of an IPv6 packet whose bytes up to `length` are there.
    fn walk_v6(packet: &[u8], length: usize) -> Result<Self, DropReason> {
        let Some(fixed) = packet.first_chunk::<IPV6_LENGTH>() else {
            return Err(DropReason::IpMalformed);
        };
        let mut protocol = fixed[6];
        let mut at = IPV6_LENGTH;
        let mut fragment = Fragment::Whole;
        for _ in 0..MAX_EXTENSIONS {
            if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
                || matches!(fragment, Fragment::Later { .. })
            {
                let transport_at = u16::try_from(at).map_err(|_| DropReason::IpMalformed)?;
                return Ok(Self {
                    family: Family::V6,
                    protocol,
                    transport_at,
                    length: (IPV6_LENGTH + usize::from(read_u16(packet, 4))) as u32,
                    fragment,
                    transport: Transport::Opaque,
                    source_port: 0,
                    destination_port: 0,
                });
            }
            let extension = packet.get(at..length).unwrap_or(&[]);
            let [next, size, third, ..] = *extension else { return Err(DropReason::IpMalformed) };
            if extension.len() < 8 {
                return Err(DropReason::IpMalformed);
            }
            match protocol {
                // Type 0 routing headers are deprecated (RFC 5095).
                ROUTING if third == 0 && extension[3] != 0 => return Err(DropReason::SourceRoute),
                FRAGMENT => {
                    let word = read_u16(extension, 2);
                    fragment = fragment_of(word >> 3, word & 1 != 0, read_u32(extension, 4));
                    at += 8;
                }
                _ => {}
            }
            if protocol != FRAGMENT {
                at += (usize::from(size) + 1) * 8;
            }
            if at > length {
                return Err(DropReason::IpMalformed);
            }
            protocol = next;
        }
        Err(DropReason::IpMalformed)
    }

    #[inline]
    fn read_transport(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        if matches!(self.fragment, Fragment::Later { .. }) {
            return Ok(());
        }
        let transport = &packet[usize::from(self.transport_at)..];
        match self.protocol {
            TCP => {
                if transport.len() < 20 || usize::from(transport[12] >> 4) * 4 < 20 {
                    return Err(DropReason::TransportMalformed);
                }
                if usize::from(transport[12] >> 4) * 4 > transport.len()
                    && self.fragment == Fragment::Whole
                {
                    return Err(DropReason::TransportMalformed);
                }
                self.transport = Transport::Tcp { flags: transport[13] };
            }
            UDP => {
                if transport.len() < 8 || read_u16(transport, 4) < 8 {
                    return Err(DropReason::TransportMalformed);
                }
                self.transport = Transport::Udp;
            }
            ICMP | ICMPV6 => {
                if transport.len() < 8 {
                    return Err(DropReason::TransportMalformed);
                }
                self.read_icmp(transport);
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.source_port = read_u16(transport, 0);
        self.destination_port = read_u16(transport, 2);
        Ok(())
    }

    fn read_icmp(&mut self, transport: &[u8]) {
        let kind = transport[0];
        let identifier = read_u16(transport, 4);
        (self.source_port, self.destination_port) = (0, 0);
        self.transport = match (self.family, self.protocol, kind) {
            (Family::V4, ICMP, 8) | (Family::V6, ICMPV6, 128) => {
                self.source_port = identifier;
                Transport::EchoRequest
            }
            (Family::V4, ICMP, 0) | (Family::V6, ICMPV6, 129) => {
                self.destination_port = identifier;
                Transport::EchoReply
            }
            (Family::V4, ICMP, 3 | 4 | 5 | 11 | 12) | (Family::V6, ICMPV6, 1..=4) => {
                Transport::IcmpError
            }
            (Family::V4, ICMP, kind) | (Family::V6, ICMPV6, kind) => Transport::IcmpOther { kind },
            // ICMP inside IPv6 or ICMPv6 inside IPv4 is just another protocol.
            (Family::V4 | Family::V6, _, _) => Transport::Opaque,
        };
    }

    /// Bytes of the TCP or UDP header of `packet`, whose headers these are; 0 for others.
    #[must_use]
    pub fn transport_length(&self, packet: &[u8]) -> usize {
        match self.transport {
            Transport::Tcp { .. } => packet
                .get(usize::from(self.transport_at) + 12)
                .map_or(0, |byte| usize::from(byte >> 4) * 4),
            Transport::Udp => 8,
            Transport::EchoRequest
            | Transport::EchoReply
            | Transport::IcmpError
            | Transport::IcmpOther { .. }
            | Transport::Opaque => 0,
        }
    }
}

const fn fragment_of(offset: u16, more: bool, identification: u32) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First { identification },
        (_, _) => Fragment::Later { identification },
    }
}

/// Refuses loose and strict source routes (RFC 7126 sections 4.3 and 4.4) and option lists that
/// do not add up.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    while let [kind, rest @ ..] = options {
        match kind {
            0 => return Ok(()),
            1 => options = rest,
            131 | 137 => return Err(DropReason::SourceRoute),
            _ => {
                let length = rest.first().map_or(0, |&length| usize::from(length));
                if length < 2 || length > options.len() {
                    return Err(DropReason::IpMalformed);
                }
                options = &options[length..];
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ipv4(protocol: u8, word: u16, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0xab, 0xcd, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet[6..8].copy_from_slice(&word.to_be_bytes());
        packet[2..4].copy_from_slice(&((20 + body.len()) as u16).to_be_bytes());
        let value = checksum::finish(checksum::sum(&packet));
        packet[10..12].copy_from_slice(&value.to_be_bytes());
        packet.extend(body);
        packet
    }

    #[test]
    fn udp_ports_and_length_come_out() {
        let mut packet = ipv4(UDP, 0, &[0x13, 0x88, 0, 53, 0, 8, 0, 0]);
        packet.extend([0; 18]);
        let headers = Headers::parse(&packet).unwrap();
        assert_eq!((headers.source_port, headers.destination_port), (5000, 53));
        assert_eq!((headers.length, headers.transport), (28, Transport::Udp));
    }

    #[test]
    fn echo_identifiers_stand_where_the_side_that_chose_them_has_its_port() {
        let request = Headers::parse(&ipv4(ICMP, 0, &[8, 0, 0, 0, 0x12, 0x34, 0, 1])).unwrap();
        assert_eq!((request.source_port, request.destination_port), (0x1234, 0));
        let reply = Headers::parse(&ipv4(ICMP, 0, &[0, 0, 0, 0, 0x12, 0x34, 0, 1])).unwrap();
        assert_eq!((reply.source_port, reply.destination_port), (0, 0x1234));
    }

    #[test]
    fn fragments_are_told_apart() {
        let first = Headers::parse(&ipv4(UDP, 0x2000, &[0, 1, 0, 2, 0xff, 0, 0, 0])).unwrap();
        assert_eq!(first.fragment, Fragment::First { identification: 0xabcd });
        assert_eq!(first.source_port, 1);
        let later = Headers::parse(&ipv4(UDP, 0x00b9, &[1, 2, 3])).unwrap();
        assert_eq!(later.fragment, Fragment::Later { identification: 0xabcd });
        assert_eq!(later.transport, Transport::Opaque);
    }

    #[test]
    fn what_does_not_add_up_is_malformed() {
        let mut wrong = ipv4(UDP, 0, &[0, 1, 0, 2, 0, 8, 0, 0]);
        wrong[8] = 63;
        assert_eq!(Headers::parse(&wrong), Err(DropReason::IpChecksum));
        let whole = ipv4(UDP, 0, &[0, 1, 0, 2, 0, 8, 0, 0]);
        assert_eq!(Headers::parse(&whole[..27]), Err(DropReason::IpMalformed));
        assert_eq!(Headers::parse(&[]), Err(DropReason::IpMalformed));
        assert_eq!(Headers::parse(&ipv4(TCP, 0, &[0; 19])), Err(DropReason::TransportMalformed));
        assert_eq!(Headers::parse(&ipv4(UDP, 0, &[0; 7])), Err(DropReason::TransportMalformed));
    }

    #[test]
    fn source_routes_are_refused() {
        assert_eq!(check_options(&[131, 4, 4, 0]), Err(DropReason::SourceRoute));
        assert_eq!(check_options(&[1, 137, 3, 4]), Err(DropReason::SourceRoute));
        assert_eq!(check_options(&[7, 1, 0, 0]), Err(DropReason::IpMalformed));
        assert_eq!(check_options(&[1, 7, 3, 4]), Ok(()));
    }

    #[test]
    fn extension_headers_are_walked_and_bounded() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, HOP_BY_HOP, 64];
        packet.extend([0; 32]);
        packet.extend([FRAGMENT, 0, 1, 4, 0, 0, 0, 0]);
        packet.extend([UDP, 0, 0, 1, 0, 0, 0, 9]);
        packet.extend([0x13, 0x88, 0, 53, 0, 200, 0, 0]);
        let headers = Headers::parse(&packet).unwrap();
        assert_eq!(headers.transport_at, 56);
        assert_eq!(headers.fragment, Fragment::First { identification: 9 });
        assert_eq!(headers.destination_port, 53);

        let mut endless = vec![0x60, 0, 0, 0, 0, 80, DESTINATION_OPTIONS, 64];
        endless.extend([0; 32]);
        for _ in 0..10 {
            endless.extend([DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0]);
        }
        assert_eq!(Headers::parse(&endless), Err(DropReason::IpMalformed));
    }

    proptest! {
        #[test]
        fn any_bytes_return(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0_u8..16) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | (*first & 0x0f);
            }
            if let Ok(headers) = Headers::parse(&bytes) {
                prop_assert!(usize::from(headers.transport_at) <= bytes.len());
                prop_assert!(headers.length as usize <= bytes.len());
            }
            let _ = Headers::parse_quoted(&bytes);
        }
    }
}
