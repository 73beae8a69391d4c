//! What IP packets travel in: Ethernet frames and NVGRE, and ARP beside them. See `frames`.

use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::MacAddress;

use crate::frames::{Body, Packet, long, word};

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
