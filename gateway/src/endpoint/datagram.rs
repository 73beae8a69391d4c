//! UDP of the gateway's own addresses: read, checked, queued; and made.

use std::net::SocketAddr;

use nvgate_packet::buf::PacketBuf;
use nvgate_packet::checksum;
use nvgate_packet::headers::{self, Family, Fragment, Headers, IPV4_LENGTH, Transport, read_u16};
use nvgate_packet::udp;

use super::segment::{finish, is_sound};
use super::stack::Refusal;

/// Datagrams of one domain that wait to be taken.
pub const MAX_DATAGRAMS: usize = 64;
/// The longest payload, in bytes: what a packet of 1280 bytes carries over IPv6.
pub const MAX_PAYLOAD: usize = 1232;

/// A UDP datagram to one of the gateway's own addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// The own address and port.
    pub local: SocketAddr,
    /// The sender.
    pub remote: SocketAddr,
    /// TTL or hop limit as it arrived.
    pub ttl: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// Reads a whole UDP packet and checks its checksum, which over IPv4 may be absent.
    pub(super) fn read(packet: &[u8], headers: &Headers, ttl: u8) -> Result<Self, Refusal> {
        let at = usize::from(headers.transport_at);
        let end = headers.length as usize;
        let whole = headers.fragment == Fragment::Whole && headers.transport == Transport::Udp;
        let length = usize::from(read_u16(packet, at + 4));
        if !whole || length < udp::UDP_LENGTH || at + length > end || end > packet.len() {
            return Err(Refusal::Malformed);
        }
        let absent = headers.family == Family::V4 && read_u16(packet, at + 6) == 0;
        if !absent && !is_sound(packet, headers) {
            return Err(Refusal::Checksum);
        }
        let payload = &packet[at + udp::UDP_LENGTH..at + length];
        if payload.len() > MAX_PAYLOAD {
            return Err(Refusal::Malformed);
        }
        let local = headers::destination(packet, headers.family);
        let remote = headers::source(packet, headers.family);
        Ok(Self {
            local: SocketAddr::new(local, headers.destination_port),
            remote: SocketAddr::new(remote, headers.source_port),
            ttl,
            payload: payload.to_vec(),
        })
    }

    /// The IP packet that carries it from `local` to `remote`; `None` when the addresses are of two
    /// families or the payload is too long.
    pub(super) fn packet(&self) -> Option<Vec<u8>> {
        if self.payload.len() > MAX_PAYLOAD {
            return None;
        }
        let family = if self.local.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut bytes = vec![0; udp::header_length(family)];
        bytes.extend(&self.payload);
        let offload = udp::write_headers(&mut bytes, self.local, self.remote, 0)?;
        let length = bytes.len();
        PacketBuf::new(&mut bytes, 0, length, offload).complete_checksum();
        match family {
            Family::V4 => {
                bytes[8] = self.ttl;
                bytes[10..12].fill(0);
                let sum = checksum::finish(checksum::sum(&bytes[..IPV4_LENGTH]));
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => bytes[7] = self.ttl,
        }
        finish(&mut bytes, length, None)?;
        Some(bytes)
    }
}
