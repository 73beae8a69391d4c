//! From a frame on the fabric to a tenant's frame: checks the outer headers in one pass and says
//! where the inner Ethernet frame lies.
//!
//! Whatever is not GRE towards one of the gateway's provider addresses belongs to the host's
//! kernel and is declined as such; what is, but cannot be NVGRE, is dropped with its reason. Frames
//! that the kernel coalesced (GRO) are one large packet here and parse alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use nvgate_model::{DropReason, FlowId, ProviderAddress, Vsid};
use nvgate_packet::checksum;
use nvgate_packet::headers::{
    ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, GRE, IPV4_LENGTH, IPV6_LENGTH, read_u16,
    read_u32, read_u128,
};

use crate::wire::{GRE_LENGTH, GreHeader};

/// The most provider addresses of each family that one gateway has.
pub const MAX_OWN_ADDRESSES: usize = 16;
/// IPv6 extension headers walked in search of GRE.
const MAX_EXTENSIONS: usize = 4;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The gateway's own provider addresses: all unicast.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnAddresses {
    v4: ArrayVec<u32, MAX_OWN_ADDRESSES>,
    v6: ArrayVec<u128, MAX_OWN_ADDRESSES>,
}

/// Addresses that cannot be a gateway's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidOwnAddresses {
    /// The address is no unicast address.
    #[error("{0} is not a unicast address")]
    NotUnicast(ProviderAddress),
    /// There are too many addresses of one family.
    #[error(
        "a gateway has at most {MAX_OWN_ADDRESSES} provider addresses a family; {0} is one more"
    )]
    TooMany(ProviderAddress),
}

impl OwnAddresses {
    /// These addresses; an address given twice counts once.
    ///
    /// # Errors
    ///
    /// Names the first address that is not unicast or exceeds [`MAX_OWN_ADDRESSES`].
    pub fn new(
        addresses: impl IntoIterator<Item = ProviderAddress>,
    ) -> Result<Self, InvalidOwnAddresses> {
        let mut own = Self::default();
        for address in addresses {
            let ip = address.ip();
            let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
            if ip.is_unspecified() || ip.is_multicast() || broadcast {
                return Err(InvalidOwnAddresses::NotUnicast(address));
            }
            if own.contains(address) {
                continue;
            }
            let full = match ip {
                IpAddr::V4(v4) => own.v4.try_push(v4.to_bits()).is_err(),
                IpAddr::V6(v6) => own.v6.try_push(v6.to_bits()).is_err(),
            };
            if full {
                return Err(InvalidOwnAddresses::TooMany(address));
            }
        }
        Ok(own)
    }

    /// Whether `address` is one of the gateway's own.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: ProviderAddress) -> bool {
        match address.ip() {
            IpAddr::V4(v4) => self.v4.contains(&v4.to_bits()),
            IpAddr::V6(v6) => self.v6.contains(&v6.to_bits()),
        }
    }
}

/// What the outer headers of a tenant's frame say. Positions count from the first byte of the
/// outer Ethernet frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decap {
    /// The outer source: the host that sent it, if it may be believed.
    pub provider: ProviderAddress,
    /// The virtual subnet.
    pub vsid: Vsid,
    /// The sender's FlowID, which means nothing here.
    pub flow: FlowId,
    /// Where the inner Ethernet frame begins; at most `end`.
    pub inner_at: usize,
    /// Where the outer IP packet ends; the frame may be padded behind it.
    pub end: usize,
    /// The outer traffic class (DSCP and ECN).
    pub class: u8,
}

/// Why a frame was not decapsulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decline {
    /// It is not GRE towards the gateway: the host's kernel should have it.
    NotOurs,
    /// It is, but is no acceptable NVGRE.
    Drop(DropReason),
}

/// Reads the outer headers of the Ethernet frame `frame`, received on the fabric. Tagged frames
/// are never ours: the kernel owns the fabric's VLANs.
///
/// # Errors
///
/// [`Decline::NotOurs`], or a drop for `OuterMalformed`, `OuterChecksum`, `OuterFragment`,
/// `GreUnsupported` or `VsidReserved`.
#[inline]
pub fn decap(frame: &[u8], own: &OwnAddresses) -> Result<Decap, Decline> {
    let Some((ethernet, packet)) = frame.split_first_chunk::<ETHERNET_LENGTH>() else {
        return Err(Decline::NotOurs);
    };
    match read_u16(ethernet, 12) {
        ETHERTYPE_IPV4 => decap_v4(packet, own),
        ETHERTYPE_IPV6 => decap_v6(packet, own),
        _ => Err(Decline::NotOurs),
    }
}

#[inline]
fn decap_v4(packet: &[u8], own: &OwnAddresses) -> Result<Decap, Decline> {
    let Some(fixed) = packet.first_chunk::<IPV4_LENGTH>() else { return Err(Decline::NotOurs) };
    if fixed[0] >> 4 != 4 || fixed[9] != GRE || !own.v4.contains(&read_u32(fixed, 16)) {
        return Err(Decline::NotOurs);
    }
    let header_length = usize::from(fixed[0] & 0x0f) * 4;
    let length = usize::from(read_u16(fixed, 2));
    if header_length < IPV4_LENGTH || length < header_length || packet.len() < length {
        return Err(Decline::Drop(DropReason::OuterMalformed));
    }
    if checksum::sum(&packet[..header_length]) != 0xffff {
        return Err(Decline::Drop(DropReason::OuterChecksum));
    }
    // More Fragments, or an offset.
    if read_u16(fixed, 6) & 0x3fff != 0 {
        return Err(Decline::Drop(DropReason::OuterFragment));
    }
    let provider = IpAddr::V4(Ipv4Addr::from_bits(read_u32(fixed, 12)));
    read_gre(&packet[..length], header_length, provider, fixed[1])
}

#[inline]
fn decap_v6(packet: &[u8], own: &OwnAddresses) -> Result<Decap, Decline> {
    let Some(fixed) = packet.first_chunk::<IPV6_LENGTH>() else { return Err(Decline::NotOurs) };
    if fixed[0] >> 4 != 6 || !own.v6.contains(&read_u128(fixed, 24)) {
        return Err(Decline::NotOurs);
    }
    let gre_at = if fixed[6] == GRE { IPV6_LENGTH } else { walk_extensions(packet, fixed[6])? };
    let length = IPV6_LENGTH + usize::from(read_u16(fixed, 4));
    if length < gre_at || packet.len() < length {
        return Err(Decline::Drop(DropReason::OuterMalformed));
    }
    let provider = IpAddr::V6(Ipv6Addr::from_bits(read_u128(fixed, 8)));
    read_gre(&packet[..length], gre_at, provider, (read_u16(fixed, 0) >> 4) as u8)
}

/// Where GRE begins behind extension headers that ask nothing of this node, the first of which
/// has the number `next`.
fn walk_extensions(packet: &[u8], mut next: u8) -> Result<usize, Decline> {
    let mut at = IPV6_LENGTH;
    for _ in 0..MAX_EXTENSIONS {
        let extension = packet.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let Some(&[following, size, _, segments_left, ..]) = extension else {
            return Err(Decline::NotOurs);
        };
        match next {
            HOP_BY_HOP | DESTINATION_OPTIONS => {}
            ROUTING if segments_left == 0 => {}
            FRAGMENT if following == GRE => {
                return Err(Decline::Drop(DropReason::OuterFragment));
            }
            _ => return Err(Decline::NotOurs),
        }
        at += (usize::from(size) + 1) * 8;
        next = following;
        if next == GRE {
            return Ok(at);
        }
    }
    Err(Decline::NotOurs)
}

#[inline]
fn read_gre(packet: &[u8], gre_at: usize, provider: IpAddr, class: u8) -> Result<Decap, Decline> {
    let GreHeader { vsid, flow } = GreHeader::parse(&packet[gre_at..]).map_err(Decline::Drop)?;
    Ok(Decap {
        provider: ProviderAddress(provider),
        vsid,
        flow,
        inner_at: ETHERNET_LENGTH + gre_at + GRE_LENGTH,
        end: ETHERNET_LENGTH + packet.len(),
        class,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own() -> OwnAddresses {
        let addresses = ["192.0.2.1", "192.0.2.9", "2001:db8::1"];
        OwnAddresses::new(addresses.map(|text| ProviderAddress(text.parse().unwrap()))).unwrap()
    }

    /// An NVGRE frame over IPv4, byte by byte: VSID 0x001389, FlowID 0x2a, inner ARP header cut
    /// to its Ethernet part.
    fn frame_v4() -> Vec<u8> {
        let mut frame = vec![
            0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
            0x45, 0x0b, 0x00, 0x2a, 0x00, 0x07, 0x40, 0x00, 0x40, 0x2f, 0x00, 0x00, // IPv4
            192, 0, 2, 77, 192, 0, 2, 1, // from 192.0.2.77 to 192.0.2.1
            0x20, 0x00, 0x65, 0x58, 0x00, 0x13, 0x89, 0x2a, // GRE
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 3, 0x08, 0x06, // inner
        ];
        mend(&mut frame);
        frame
    }

    fn frame_v6(next: u8, extensions: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x86, 0xdd];
        frame.extend([0x62, 0xe0, 0, 0, 0, 22 + extensions.len() as u8, next, 64]);
        frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77]);
        frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01]);
        frame.extend(extensions);
        frame.extend([0x20, 0x00, 0x65, 0x58, 0x00, 0x13, 0x89, 0x2a]);
        frame.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 3, 0x08, 0x06]);
        frame
    }

    fn mend(frame: &mut [u8]) {
        let header_length = usize::from(frame[14] & 15) * 4;
        frame[24..26].fill(0);
        let sum = checksum::finish(checksum::sum(&frame[14..14 + header_length]));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    fn expected(provider: &str, inner_at: usize, class: u8) -> Decap {
        Decap {
            provider: ProviderAddress(provider.parse().unwrap()),
            vsid: Vsid::new(5001).unwrap(),
            flow: FlowId(42),
            inner_at,
            end: inner_at + 14,
            class,
        }
    }

    #[test]
    fn a_frame_over_ipv4_opens_and_its_padding_is_left_out() {
        let mut frame = frame_v4();
        assert_eq!(decap(&frame, &own()), Ok(expected("192.0.2.77", 42, 0x0b)));
        frame.extend([0; 6]);
        assert_eq!(decap(&frame, &own()), Ok(expected("192.0.2.77", 42, 0x0b)));
    }

    #[test]
    fn a_frame_over_ipv4_with_options_opens() {
        let mut frame = frame_v4();
        frame[14] = 0x46;
        frame[17] += 4;
        frame.splice(34..34, [1, 1, 1, 0]);
        mend(&mut frame);
        assert_eq!(decap(&frame, &own()), Ok(expected("192.0.2.77", 46, 0x0b)));
    }

    #[test]
    fn a_frame_over_ipv6_opens_also_behind_harmless_extensions() {
        let plain = frame_v6(GRE, &[]);
        assert_eq!(decap(&plain, &own()), Ok(expected("2001:db8::77", 62, 0x2e)));
        let options = [DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0, GRE, 1, 1, 12];
        let mut extensions = options.to_vec();
        extensions.extend([0; 12]);
        let behind = frame_v6(HOP_BY_HOP, &extensions);
        assert_eq!(decap(&behind, &own()), Ok(expected("2001:db8::77", 86, 0x2e)));
        let routed = frame_v6(ROUTING, &[GRE, 0, 4, 0, 0, 0, 0, 0]);
        assert!(decap(&routed, &own()).is_ok());
    }

    #[test]
    fn what_the_kernel_should_have_is_declined() {
        let change = |at: usize, value: u8| {
            let mut frame = frame_v4();
            frame[at] = value;
            mend(&mut frame);
            decap(&frame, &own())
        };
        assert_eq!(change(33, 2), Err(Decline::NotOurs), "another destination");
        assert_eq!(change(30, 224), Err(Decline::NotOurs), "a group");
        assert_eq!(change(23, 17), Err(Decline::NotOurs), "not GRE");
        assert_eq!(change(14, 0x55), Err(Decline::NotOurs), "version 5");
        assert_eq!(change(13, 0x06), Err(Decline::NotOurs), "ARP");
        let mut tagged = frame_v4();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(decap(&tagged, &own()), Err(Decline::NotOurs));
        for frame in [
            frame_v6(ROUTING, &[GRE, 0, 4, 1, 0, 0, 0, 0]),
            frame_v6(FRAGMENT, &[17, 0, 0, 1, 0, 0, 0, 0]),
            frame_v6(58, &[]),
            frame_v6(HOP_BY_HOP, &[HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0].repeat(20)),
        ] {
            assert_eq!(decap(&frame, &own()), Err(Decline::NotOurs));
        }
    }

    #[test]
    fn each_defect_of_the_outer_headers_has_its_reason() {
        let drops = |change: &dyn Fn(&mut Vec<u8>), reason| {
            let mut frame = frame_v4();
            change(&mut frame);
            assert_eq!(decap(&frame, &own()), Err(Decline::Drop(reason)));
        };
        drops(&|frame| frame[22] = 63, DropReason::OuterChecksum);
        drops(&|frame| frame.truncate(55), DropReason::OuterMalformed);
        drops(&|frame| frame[14] = 0x44, DropReason::OuterMalformed);
        drops(&|frame| frame[17] = 19, DropReason::OuterMalformed);
        let mended = |at: usize, value: u8| {
            move |frame: &mut Vec<u8>| {
                frame[at] = value;
                mend(frame);
            }
        };
        drops(&mended(20, 0x20), DropReason::OuterFragment);
        drops(&mended(21, 0x01), DropReason::OuterFragment);
        drops(&mended(17, 27), DropReason::GreUnsupported);
        drops(&|frame| frame[34] = 0x30, DropReason::GreUnsupported);
        drops(&|frame| frame[39] = 0x0f, DropReason::VsidReserved);

        let atomic = frame_v6(FRAGMENT, &[GRE, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(decap(&atomic, &own()), Err(Decline::Drop(DropReason::OuterFragment)));
        let mut short = frame_v6(GRE, &[]);
        short.pop();
        assert_eq!(decap(&short, &own()), Err(Decline::Drop(DropReason::OuterMalformed)));
        let mut beyond = frame_v6(HOP_BY_HOP, &[GRE, 0, 1, 4, 0, 0, 0, 0]);
        beyond[19] = 7;
        assert_eq!(decap(&beyond, &own()), Err(Decline::Drop(DropReason::OuterMalformed)));
    }

    #[test]
    fn own_addresses_are_unicast_few_and_distinct() {
        let address = |text: &str| ProviderAddress(text.parse().unwrap());
        for text in ["0.0.0.0", "255.255.255.255", "224.0.0.5", "::", "ff02::1"] {
            let error = InvalidOwnAddresses::NotUnicast(address(text));
            assert_eq!(OwnAddresses::new([address(text)]), Err(error));
        }
        let many = |count: u32| {
            OwnAddresses::new((1..=count).map(|host| ProviderAddress(IpAddr::V4(host.into()))))
        };
        assert!(many(MAX_OWN_ADDRESSES as u32).is_ok());
        let one_more = ProviderAddress(IpAddr::V4((MAX_OWN_ADDRESSES as u32 + 1).into()));
        assert_eq!(many(MAX_OWN_ADDRESSES as u32 + 1), Err(InvalidOwnAddresses::TooMany(one_more)));
        let twice = OwnAddresses::new([address("10.0.0.1"); 40]).unwrap();
        assert!(twice.contains(address("10.0.0.1")) && !twice.contains(address("10.0.0.2")));
    }

    fn returns(frame: &[u8]) {
        if let Ok(decap) = decap(frame, &own()) {
            assert!(decap.inner_at <= decap.end && decap.end <= frame.len());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_return(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            returns(&bytes);
        }

        #[test]
        fn any_damage_returns(
            v6 in any::<bool>(), at in 0_usize..120, value in any::<u8>(), cut in 0_usize..120,
            next in prop::sample::select(vec![0_u8, 43, 44, 47, 60]), extensions in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut frame = if v6 { frame_v6(next, &extensions) } else { frame_v4() };
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            if !v6 && frame[14] & 15 <= 10 {
                mend(&mut frame);
            }
            frame.truncate(cut);
            returns(&frame);
        }
    }
}
