//! Frames as a host or a peer on the front end would make and read them: Ethernet, IP, TCP, UDP,
//! ICMP, ARP and NVGRE as plain values.
//!
//! Written from the RFCs and apart from the gateway's own packet code, so that the two check each
//! other. Reading refuses every wrong length and checksum.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::MacAddress;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// TCP flags by their names in RFC 9293.
pub mod flags {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 16;
}

/// The one's complement sum of RFC 1071, of all `parts` one behind another; each but the last has
/// an even length. The checksum of bytes that hold their checksum is 0.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend([0, protocol]);
            bytes.extend((length as u16).to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend((length as u32).to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{source} and {destination} are of two families")
        }
    }
    bytes
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// What is behind an IP header.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// A UDP datagram.
    Udp {
        /// Source and destination.
        ports: (u16, u16),
        /// The data.
        payload: Vec<u8>,
    },
    /// A TCP segment.
    Tcp {
        /// Source and destination.
        ports: (u16, u16),
        /// The sequence number.
        sequence: u32,
        /// See [`flags`].
        flags: u8,
        /// The maximum segment size option.
        mss: Option<u16>,
        /// The data.
        payload: Vec<u8>,
    },
    /// An ICMP or ICMPv6 echo.
    Echo {
        /// A reply, and no request.
        reply: bool,
        /// The identifier.
        identifier: u16,
        /// The sequence number.
        sequence: u16,
        /// The data.
        payload: Vec<u8>,
    },
    /// Any other ICMP or ICMPv6 message.
    Icmp {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
        /// The four bytes behind the checksum.
        word: u32,
        /// What follows: of an error, the packet it is about.
        rest: Vec<u8>,
    },
    /// Another protocol, or the payload of a fragment.
    Raw {
        /// The IANA protocol number.
        protocol: u8,
        /// All behind the IP header.
        payload: Vec<u8>,
    },
}

/// A payload by its length and beginning.
struct Glance<'a>(&'a [u8]);

impl fmt::Debug for Glance<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())?;
        self.0.iter().take(8).try_for_each(|byte| write!(formatter, " {byte:02x}"))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { ports: (from, to), payload } => {
                write!(formatter, "UDP {from} to {to}, {:?}", Glance(payload))
            }
            Self::Tcp { ports: (from, to), sequence, flags, mss, payload } => {
                write!(formatter, "TCP {from} to {to}, flags {flags:#04x}, sequence {sequence}, ")?;
                write!(formatter, "MSS {mss:?}, {:?}", Glance(payload))
            }
            Self::Echo { reply, identifier, sequence, payload } => {
                let what = if *reply { "echo reply" } else { "echo request" };
                write!(formatter, "{what} {identifier}/{sequence}, {:?}", Glance(payload))
            }
            Self::Icmp { kind, code, word, rest } => {
                write!(formatter, "ICMP {kind}/{code}, word {word}, about {:?}", Glance(rest))
            }
            Self::Raw { protocol, payload } => {
                write!(formatter, "protocol {protocol}, {:?}", Glance(payload))
            }
        }
    }
}

/// An IP packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The sender.
    pub source: IpAddr,
    /// The receiver.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub class: u8,
    /// The identification; IPv4 only.
    pub identification: u16,
    /// Don't Fragment; IPv4 only.
    pub dont_fragment: bool,
    /// More Fragments; IPv4 only.
    pub more_fragments: bool,
    /// Where a fragment's payload belongs, in bytes; IPv4 only.
    pub offset: u16,
    /// What is behind the IP header.
    pub body: Body,
}

impl Packet {
    /// A whole packet with TTL 64 and Don't Fragment (IPv4).
    #[must_use]
    pub fn new(source: impl Into<IpAddr>, destination: impl Into<IpAddr>, body: Body) -> Self {
        let source = source.into();
        Self {
            source,
            destination: destination.into(),
            ttl: 64,
            class: 0,
            identification: 0,
            dont_fragment: source.is_ipv4(),
            more_fragments: false,
            offset: 0,
            body,
        }
    }

    /// A UDP datagram between two sockets.
    #[must_use]
    pub fn udp(from: (impl Into<IpAddr>, u16), to: (impl Into<IpAddr>, u16), data: &[u8]) -> Self {
        let body = Body::Udp { ports: (from.1, to.1), payload: data.to_vec() };
        Self::new(from.0, to.0, body)
    }

    /// A TCP segment between two sockets.
    #[must_use]
    pub fn tcp(
        from: (impl Into<IpAddr>, u16),
        to: (impl Into<IpAddr>, u16),
        flags: u8,
        data: &[u8],
    ) -> Self {
        let ports = (from.1, to.1);
        let body = Body::Tcp { ports, sequence: 1000, flags, mss: None, payload: data.to_vec() };
        Self::new(from.0, to.0, body)
    }

    /// An echo request.
    #[must_use]
    pub fn echo(
        from: impl Into<IpAddr>,
        to: impl Into<IpAddr>,
        identifier: u16,
        data: &[u8],
    ) -> Self {
        let body = Body::Echo { reply: false, identifier, sequence: 1, payload: data.to_vec() };
        Self::new(from, to, body)
    }

    /// An ICMP error about `about`.
    #[must_use]
    pub fn error(
        from: impl Into<IpAddr>,
        to: impl Into<IpAddr>,
        (kind, code, word): (u8, u8, u32),
        about: &Self,
    ) -> Self {
        Self::new(from, to, Body::Icmp { kind, code, word, rest: about.bytes() })
    }

    /// What answers this packet: an echo reply, or the same with both sides swapped.
    #[must_use]
    pub fn reply(&self) -> Self {
        let mut reply = Self { source: self.destination, destination: self.source, ..self.clone() };
        reply.ttl = 64;
        match &mut reply.body {
            Body::Udp { ports, .. } | Body::Tcp { ports, .. } => *ports = (ports.1, ports.0),
            Body::Echo { reply, .. } => *reply = true,
            Body::Icmp { .. } | Body::Raw { .. } => {}
        }
        reply
    }

    /// Source and destination port; of echo the identifier is on the requester's side.
    #[must_use]
    pub const fn ports(&self) -> (u16, u16) {
        match &self.body {
            Body::Udp { ports, .. } | Body::Tcp { ports, .. } => *ports,
            Body::Echo { reply: false, identifier, .. } => (*identifier, 0),
            Body::Echo { reply: true, identifier, .. } => (0, *identifier),
            Body::Icmp { .. } | Body::Raw { .. } => (0, 0),
        }
    }

    /// This packet one router further.
    #[must_use]
    pub fn hop(mut self) -> Self {
        self.ttl -= 1;
        self
    }

    /// This packet from another socket.
    #[must_use]
    pub fn with_source(mut self, address: impl Into<IpAddr>, port: u16) -> Self {
        self.source = address.into();
        match &mut self.body {
            Body::Udp { ports, .. } | Body::Tcp { ports, .. } => ports.0 = port,
            Body::Echo { reply: false, identifier, .. } => *identifier = port,
            Body::Echo { .. } | Body::Icmp { .. } | Body::Raw { .. } => {}
        }
        self
    }

    /// This packet to another socket.
    #[must_use]
    pub fn with_destination(mut self, address: impl Into<IpAddr>, port: u16) -> Self {
        self.destination = address.into();
        match &mut self.body {
            Body::Udp { ports, .. } | Body::Tcp { ports, .. } => ports.1 = port,
            Body::Echo { reply: true, identifier, .. } => *identifier = port,
            Body::Echo { .. } | Body::Icmp { .. } | Body::Raw { .. } => {}
        }
        self
    }

    /// This packet with Don't Fragment cleared and this identification.
    #[must_use]
    pub const fn fragmentable(mut self, identification: u16) -> Self {
        self.dont_fragment = false;
        self.identification = identification;
        self
    }

    /// The EtherType that goes with the family.
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        if self.source.is_ipv4() { IPV4 } else { IPV6 }
    }

    /// The IANA number of the body's protocol.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        match (&self.body, self.source) {
            (Body::Udp { .. }, _) => 17,
            (Body::Tcp { .. }, _) => 6,
            (Body::Echo { .. } | Body::Icmp { .. }, IpAddr::V4(_)) => 1,
            (Body::Echo { .. } | Body::Icmp { .. }, IpAddr::V6(_)) => 58,
            (Body::Raw { protocol, .. }, _) => *protocol,
        }
    }

    fn body_bytes(&self) -> Vec<u8> {
        let (mut bytes, field) = match &self.body {
            Body::Raw { payload, .. } => return payload.clone(),
            Body::Udp { ports, payload } => {
                let mut bytes = Vec::new();
                bytes.extend(ports.0.to_be_bytes());
                bytes.extend(ports.1.to_be_bytes());
                bytes.extend((payload.len() as u16 + 8).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(payload);
                (bytes, 6)
            }
            Body::Tcp { ports, sequence, flags, mss, payload } => {
                let mut bytes = Vec::new();
                bytes.extend(ports.0.to_be_bytes());
                bytes.extend(ports.1.to_be_bytes());
                bytes.extend(sequence.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend([
                    if mss.is_some() { 0x60 } else { 0x50 },
                    *flags,
                    0x20,
                    0,
                    0,
                    0,
                    0,
                    0,
                ]);
                if let Some(mss) = mss {
                    bytes.extend([2, 4]);
                    bytes.extend(mss.to_be_bytes());
                }
                bytes.extend(payload);
                (bytes, 16)
            }
            Body::Echo { reply, identifier, sequence, payload } => {
                let kind = match (self.source.is_ipv4(), reply) {
                    (true, false) => 8,
                    (true, true) => 0,
                    (false, false) => 128,
                    (false, true) => 129,
                };
                let mut bytes = vec![kind, 0, 0, 0];
                bytes.extend(identifier.to_be_bytes());
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(payload);
                (bytes, 2)
            }
            Body::Icmp { kind, code, word, rest } => {
                let mut bytes = vec![*kind, *code, 0, 0];
                bytes.extend(word.to_be_bytes());
                bytes.extend(rest);
                (bytes, 2)
            }
        };
        let pseudo = if self.protocol() == 1 {
            Vec::new()
        } else {
            pseudo_header(self.source, self.destination, self.protocol(), bytes.len())
        };
        let mut sum = checksum(&[&pseudo, &bytes]);
        if sum == 0 && self.protocol() == 17 {
            sum = 0xffff;
        }
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The packet as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let body = self.body_bytes();
        let mut bytes = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend([0x45, self.class]);
                bytes.extend((body.len() as u16 + 20).to_be_bytes());
                bytes.extend(self.identification.to_be_bytes());
                let flags =
                    u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
                bytes.extend((flags | self.offset / 8).to_be_bytes());
                bytes.extend([self.ttl, self.protocol(), 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                let sum = checksum(&[&bytes]);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes.extend((0x6000_0000 | u32::from(self.class) << 20).to_be_bytes());
                bytes.extend((body.len() as u16).to_be_bytes());
                bytes.extend([self.protocol(), self.ttl]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("{self:?} mixes families")
            }
        }
        bytes.extend(body);
        bytes
    }

    /// Reads a packet that ends with `bytes`, every checksum verified.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let (mut packet, protocol, body) = match bytes.first().map(|first| first >> 4) {
            Some(4) if bytes.len() >= 20 => Self::read_v4(bytes)?,
            Some(6) if bytes.len() >= 40 => Self::read_v6(bytes)?,
            Some(_) | None => return Err(format!("no IP packet: {bytes:02x?}")),
        };
        if !packet.more_fragments && packet.offset == 0 {
            packet.body = read_body(packet.source, packet.destination, protocol, body)?;
        }
        Ok(packet)
    }

    fn read_v4(bytes: &[u8]) -> Result<(Self, u8, &[u8]), String> {
        if bytes[0] != 0x45 || usize::from(word(bytes, 2)) != bytes.len() {
            return Err(format!("IPv4 length {} in {} bytes", word(bytes, 2), bytes.len()));
        }
        if checksum(&[&bytes[..20]]) != 0 {
            return Err("IPv4 header checksum".to_owned());
        }
        let flags = word(bytes, 6);
        let address = |at: usize| IpAddr::V4(Ipv4Addr::from_bits(long(bytes, at)));
        let packet = Self {
            source: address(12),
            destination: address(16),
            ttl: bytes[8],
            class: bytes[1],
            identification: word(bytes, 4),
            dont_fragment: flags & 0x4000 != 0,
            more_fragments: flags & 0x2000 != 0,
            offset: (flags & 0x1fff) * 8,
            body: Body::Raw { protocol: bytes[9], payload: bytes[20..].to_vec() },
        };
        Ok((packet, bytes[9], &bytes[20..]))
    }

    fn read_v6(bytes: &[u8]) -> Result<(Self, u8, &[u8]), String> {
        if usize::from(word(bytes, 4)) + 40 != bytes.len() {
            return Err(format!("IPv6 payload {} in {} bytes", word(bytes, 4), bytes.len()));
        }
        let address = |at: usize| {
            let octets: [u8; 16] = bytes[at..at + 16].try_into().expect("sixteen bytes");
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        let packet = Self {
            source: address(8),
            destination: address(24),
            ttl: bytes[7],
            class: (word(bytes, 0) >> 4) as u8,
            identification: 0,
            dont_fragment: false,
            more_fragments: false,
            offset: 0,
            body: Body::Raw { protocol: bytes[6], payload: bytes[40..].to_vec() },
        };
        Ok((packet, bytes[6], &bytes[40..]))
    }

    /// Cuts an IPv4 packet into fragments whose payloads are at most `size` bytes, a multiple of 8.
    #[must_use]
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        let body = self.body_bytes();
        let count = body.len().div_ceil(size);
        body.chunks(size)
            .enumerate()
            .map(|(index, chunk)| Self {
                dont_fragment: false,
                more_fragments: index + 1 < count,
                offset: self.offset + (index * size) as u16,
                body: Body::Raw { protocol: self.protocol(), payload: chunk.to_vec() },
                ..self.clone()
            })
            .collect()
    }

    /// Joins fragments, in any order, to the packet they were.
    ///
    /// # Errors
    ///
    /// Says what is missing or wrong.
    pub fn reassemble(fragments: &[Self]) -> Result<Self, String> {
        let mut ordered: Vec<_> = fragments.iter().collect();
        ordered.sort_by_key(|fragment| fragment.offset);
        let mut joined = Vec::new();
        let last = ordered.len().checked_sub(1).ok_or("no fragments")?;
        for (index, fragment) in ordered.iter().enumerate() {
            let Body::Raw { payload, .. } = &fragment.body else {
                return Err(format!("{fragment:?} is no fragment"));
            };
            if usize::from(fragment.offset) != joined.len()
                || fragment.more_fragments == (index == last)
                || fragment.identification != ordered[0].identification
            {
                return Err(format!("fragment {index} of {} does not fit: {fragment:?}", last + 1));
            }
            joined.extend(payload);
        }
        let first = ordered[0];
        let body = read_body(first.source, first.destination, first.protocol(), &joined)?;
        Ok(Self { more_fragments: false, body, ..first.clone() })
    }
}

fn read_body(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    bytes: &[u8],
) -> Result<Body, String> {
    let sealed = |name: &str| {
        let pseudo = if protocol == 1 {
            Vec::new()
        } else {
            pseudo_header(source, destination, protocol, bytes.len())
        };
        if checksum(&[&pseudo, bytes]) == 0 { Ok(()) } else { Err(format!("{name} checksum")) }
    };
    match protocol {
        17 => {
            if bytes.len() < 8 || usize::from(word(bytes, 4)) != bytes.len() {
                return Err(format!("UDP length in {} bytes", bytes.len()));
            }
            sealed("UDP")?;
            let ports = (word(bytes, 0), word(bytes, 2));
            Ok(Body::Udp { ports, payload: bytes[8..].to_vec() })
        }
        6 => {
            if bytes.len() < 20 || usize::from(bytes[12] >> 4) * 4 > bytes.len() {
                return Err(format!("TCP header in {} bytes", bytes.len()));
            }
            sealed("TCP")?;
            let end = usize::from(bytes[12] >> 4) * 4;
            let options = &bytes[20..end];
            Ok(Body::Tcp {
                ports: (word(bytes, 0), word(bytes, 2)),
                sequence: long(bytes, 4),
                flags: bytes[13],
                mss: options.starts_with(&[2, 4]).then(|| word(options, 2)),
                payload: bytes[end..].to_vec(),
            })
        }
        1 | 58 => {
            if bytes.len() < 8 {
                return Err(format!("ICMP in {} bytes", bytes.len()));
            }
            sealed("ICMP")?;
            let rest = bytes[8..].to_vec();
            let echo = |reply| Body::Echo {
                reply,
                identifier: word(bytes, 4),
                sequence: word(bytes, 6),
                payload: rest.clone(),
            };
            Ok(match (protocol, bytes[0]) {
                (1, 8) | (58, 128) => echo(false),
                (1, 0) | (58, 129) => echo(true),
                (_, kind) => Body::Icmp { kind, code: bytes[1], word: long(bytes, 4), rest },
            })
        }
        _ => Ok(Body::Raw { protocol, payload: bytes.to_vec() }),
    }
}

/// An Ethernet frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The receiver.
    pub destination: MacAddress,
    /// The sender.
    pub source: MacAddress,
    /// What the payload is.
    pub ethertype: u16,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame that carries an IP packet.
    #[must_use]
    pub fn of(destination: MacAddress, source: MacAddress, packet: &Packet) -> Self {
        Self { destination, source, ethertype: packet.ethertype(), payload: packet.bytes() }
    }

    /// The frame as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.destination.0);
        bytes.extend(self.source.0);
        bytes.extend(self.ethertype.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// The bytes are too few.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < 14 {
            return Err(format!("{} bytes are no frame", bytes.len()));
        }
        let mac = |at: usize| MacAddress(bytes[at..at + 6].try_into().expect("six bytes"));
        Ok(Self {
            destination: mac(0),
            source: mac(6),
            ethertype: word(bytes, 12),
            payload: bytes[14..].to_vec(),
        })
    }

    /// The IP packet in the frame.
    ///
    /// # Errors
    ///
    /// There is none, or it is wrong.
    pub fn packet(&self) -> Result<Packet, String> {
        let packet = Packet::read(&self.payload)?;
        if packet.ethertype() == self.ethertype {
            Ok(packet)
        } else {
            Err(format!("EtherType {:04x} over {packet:?}", self.ethertype))
        }
    }
}

/// An ARP message for IPv4 over Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// Who sends it.
    pub sender: (MacAddress, Ipv4Addr),
    /// Who it is about.
    pub target: (MacAddress, Ipv4Addr),
}

impl Arp {
    /// The request for `target`.
    #[must_use]
    pub fn request(sender: (MacAddress, Ipv4Addr), target: Ipv4Addr) -> Self {
        Self { operation: 1, sender, target: (MacAddress::default(), target) }
    }

    /// The message as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0, 1, 8, 0, 6, 4];
        bytes.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            bytes.extend(mac.0);
            bytes.extend(address.octets());
        }
        bytes
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// It is no ARP for IPv4 over Ethernet.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < 28 || bytes[..6] != [0, 1, 8, 0, 6, 4] {
            return Err(format!("no ARP: {bytes:02x?}"));
        }
        let side = |at: usize| {
            let mac = MacAddress(bytes[at..at + 6].try_into().expect("six bytes"));
            (mac, Ipv4Addr::from_bits(long(bytes, at + 6)))
        };
        Ok(Self { operation: word(bytes, 6), sender: side(8), target: side(18) })
    }
}

/// A frame of a virtual subnet between two provider addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nvgre {
    /// Outer Ethernet: destination and source.
    pub macs: (MacAddress, MacAddress),
    /// The provider address it comes from.
    pub source: IpAddr,
    /// The provider address it goes to.
    pub destination: IpAddr,
    /// The outer traffic class.
    pub class: u8,
    /// The VSID as a number.
    pub vsid: u32,
    /// The FlowID.
    pub flow: u8,
    /// The tenant's frame.
    pub inner: Frame,
}

impl Nvgre {
    /// The whole frame as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut gre = vec![0x20, 0x00, 0x65, 0x58];
        gre.extend((self.vsid << 8 | u32::from(self.flow)).to_be_bytes());
        gre.extend(self.inner.bytes());
        let body = Body::Raw { protocol: 47, payload: gre };
        let mut outer = Packet::new(self.source, self.destination, body);
        outer.class = self.class;
        Frame::of(self.macs.0, self.macs.1, &outer).bytes()
    }

    /// Reads a frame, refusing what RFC 7637 does not allow to be sent.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let frame = Frame::read(bytes)?;
        let outer = frame.packet()?;
        let Body::Raw { protocol: 47, payload } = &outer.body else {
            return Err(format!("no GRE: {outer:?}"));
        };
        if outer.ttl != 64 || outer.dont_fragment != outer.source.is_ipv4() {
            return Err(format!("TTL {} and DF {}", outer.ttl, outer.dont_fragment));
        }
        if payload.len() < 22 || payload[..4] != [0x20, 0x00, 0x65, 0x58] {
            return Err(format!("no NVGRE: {payload:02x?}"));
        }
        let key = long(payload, 4);
        Ok(Self {
            macs: (frame.destination, frame.source),
            source: outer.source,
            destination: outer.destination,
            class: outer.class,
            vsid: key >> 8,
            flow: key as u8,
            inner: Frame::read(&payload[8..])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (from, to) = (Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(198, 51, 100, 7));
        let (from_v6, to_v6) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let udp = Packet::udp((from, 1), (to, 2), b"odd");
        for packet in [
            udp.clone(),
            Packet::udp((from_v6, 1), (to_v6, 2), b"even"),
            Packet::tcp((from, 1), (to, 2), flags::SYN, b""),
            Packet::tcp((from_v6, 1), (to_v6, 2), flags::ACK, b"x"),
            Packet::echo(from, to, 7, b"ping"),
            Packet::echo(from_v6, to_v6, 7, b"ping"),
            Packet::error(to, from, (3, 4, 1400), &udp),
        ] {
            assert_eq!(Packet::read(&packet.bytes()), Ok(packet.clone()));
            let mut wrong = packet.bytes();
            *wrong.last_mut().unwrap() ^= 1;
            assert!(Packet::read(&wrong).is_err());
        }
    }

    #[test]
    fn the_checksum_is_rfc_1071s() {
        // The example of RFC 1071 section 3: the sum is ddf2.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn fragments_in_any_order_are_the_packet() {
        let from = Ipv4Addr::new(10, 1, 0, 10);
        let packet = Packet::udp((from, 1), (from, 2), &[7; 100]).fragmentable(9);
        let mut fragments = packet.fragments(40);
        assert_eq!(fragments.len(), 3);
        fragments.reverse();
        assert_eq!(Packet::reassemble(&fragments), Ok(packet));
        assert!(Packet::reassemble(&fragments[1..]).is_err());
    }
}
