//! Exact-match keys of flows, and their seeded hash.
//!
//! A key begins with a *place*: the VSID a packet came in under, the site whose tunnel it left, or
//! [`FRONT_END`]. A customer address without its place has no key.

use std::net::{Ipv4Addr, Ipv6Addr};

use nvgate_model::Vsid;

use crate::headers::{Family, Headers, read_u32, read_u128};

/// Where a packet entered: under a VSID, out of a site's tunnel, or at the front end. 24 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place(u32);

/// The front end, which no tenant's VSID can equal: 0 is reserved (RFC 7637 section 3.2).
pub const FRONT_END: Place = Place(0);

impl Place {
    /// Sites that have a place.
    pub const MAX_SITES: u16 = 0xfff;

    /// The place of packets that leave the tunnels of a site, by its number from 1 to
    /// [`MAX_SITES`](Self::MAX_SITES). VSIDs below 0x1000 are reserved (RFC 7637 section 3.2), so
    /// that no tenant's equals it.
    #[must_use]
    pub const fn site(number: u16) -> Option<Self> {
        if number == 0 || number > Self::MAX_SITES { None } else { Some(Self(number as u32)) }
    }
}

impl From<Vsid> for Place {
    fn from(vsid: Vsid) -> Self {
        Self(vsid.number())
    }
}

/// The key of an IPv4 flow in one direction: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct FlowKeyV4 {
    place_and_protocol: u32,
    source: u32,
    destination: u32,
    ports: u32,
}

/// The key of an IPv6 flow in one direction: 40 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct FlowKeyV6 {
    place_and_protocol: u32,
    ports: u32,
    source: [u64; 2],
    destination: [u64; 2],
}

/// What a flow table needs of its keys.
pub trait FlowKey: Copy + Eq + Default {
    /// A hash that nobody who does not know `seed` can steer.
    fn hash(&self, seed: u64) -> u64;
}

const fn mix(left: u64, right: u64) -> u64 {
    let product = (left as u128).wrapping_mul(right as u128);
    (product >> 64) as u64 ^ product as u64
}

/// An odd constant with no structure: the fractional part of the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A seeded hash of two words, for steering and for FlowIDs.
#[inline]
#[must_use]
pub const fn hash_words(first: u64, second: u64, seed: u64) -> u64 {
    let state = mix(first ^ seed ^ GOLDEN, second ^ seed.rotate_left(32) ^ 0xa076_1d64_78bd_642f);
    mix(state ^ 0xe703_7ed1_a0b4_28db, seed ^ GOLDEN)
}

impl FlowKeyV4 {
    /// The key with these parts; `ports` are source and destination.
    #[inline]
    #[must_use]
    pub const fn new(
        place: Place,
        protocol: u8,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        ports: (u16, u16),
    ) -> Self {
        Self {
            place_and_protocol: place.0 | (protocol as u32) << 24,
            source: source.to_bits(),
            destination: destination.to_bits(),
            ports: (ports.0 as u32) << 16 | ports.1 as u32,
        }
    }

    /// The key of an IPv4 packet with these headers.
    #[inline]
    #[must_use]
    pub fn of(place: Place, packet: &[u8], headers: &Headers) -> Self {
        Self {
            place_and_protocol: place.0 | u32::from(headers.protocol) << 24,
            source: read_u32(packet, 12),
            destination: read_u32(packet, 16),
            ports: u32::from(headers.source_port) << 16 | u32::from(headers.destination_port),
        }
    }
}

impl FlowKey for FlowKeyV4 {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        hash_words(
            u64::from(self.place_and_protocol) << 32 | u64::from(self.ports),
            u64::from(self.source) << 32 | u64::from(self.destination),
            seed,
        )
    }
}

impl FlowKeyV6 {
    /// The key with these parts; `ports` are source and destination.
    #[must_use]
    pub const fn new(
        place: Place,
        protocol: u8,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        ports: (u16, u16),
    ) -> Self {
        Self {
            place_and_protocol: place.0 | (protocol as u32) << 24,
            ports: (ports.0 as u32) << 16 | ports.1 as u32,
            source: halves(source.to_bits()),
            destination: halves(destination.to_bits()),
        }
    }

    /// The key of an IPv6 packet with these headers.
    #[inline]
    #[must_use]
    pub fn of(place: Place, packet: &[u8], headers: &Headers) -> Self {
        Self {
            place_and_protocol: place.0 | u32::from(headers.protocol) << 24,
            ports: u32::from(headers.source_port) << 16 | u32::from(headers.destination_port),
            source: halves(read_u128(packet, 8)),
            destination: halves(read_u128(packet, 24)),
        }
    }
}

const fn halves(address: u128) -> [u64; 2] {
    [(address >> 64) as u64, address as u64]
}

impl FlowKey for FlowKeyV6 {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        let sources = hash_words(self.source[0], self.source[1], seed);
        let destinations = hash_words(self.destination[0], self.destination[1], sources);
        hash_words(
            u64::from(self.place_and_protocol) << 32 | u64::from(self.ports),
            destinations,
            seed,
        )
    }
}

/// The hash of a packet's addresses, protocol and ports, whatever its family: for FlowIDs and for
/// choosing among equal paths.
#[must_use]
pub fn flow_hash(packet: &[u8], headers: &Headers, seed: u64) -> u64 {
    match headers.family {
        Family::V4 => FlowKeyV4::of(FRONT_END, packet, headers).hash(seed),
        Family::V6 => FlowKeyV6::of(FRONT_END, packet, headers).hash(seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_part_of_the_key() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let key =
            |vsid| FlowKeyV4::new(Vsid::new(vsid).unwrap().into(), 6, address, address, (1, 2));
        assert_ne!(key(5001), key(5002));
        assert_ne!(key(5001).hash(7), key(5002).hash(7));
        assert_ne!(key(5001).hash(7), key(5001).hash(8));
        assert_eq!(size_of::<FlowKeyV4>(), 16);
        assert_eq!(size_of::<FlowKeyV6>(), 40);
    }

    #[test]
    fn neighbouring_ports_spread_over_the_low_bits() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let mut buckets = [0_u32; 256];
        for port in 0..65_535 {
            let key = FlowKeyV4::new(FRONT_END, 17, address, address, (port, 53));
            buckets[(key.hash(1) & 255) as usize] += 1;
        }
        assert!(buckets.iter().all(|&count| (150..370).contains(&count)), "{buckets:?}");
    }
}
