//! The outer headers towards one provider address, serialized once: a packet copies them and
//! fills in what differs from packet to packet.
//!
//! NVGRE is never fragmented on its way (RFC 7637 section 4.4): over IPv4 Don't Fragment is set,
//! and what would not fit is the dispatcher's to refuse before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::{DropReason, FlowId, MacAddress, ProviderAddress, Vsid};
use nvgate_packet::checksum;
use nvgate_packet::headers::{
    ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family, GRE, IPV4_LENGTH, IPV6_LENGTH,
};

use crate::wire::{GRE_LENGTH, GreHeader};

/// Bytes in front of the inner Ethernet frame over IPv4.
pub const HEADER_LENGTH_V4: usize = ETHERNET_LENGTH + IPV4_LENGTH + GRE_LENGTH;
/// Bytes in front of the inner Ethernet frame over IPv6.
pub const HEADER_LENGTH_V6: usize = ETHERNET_LENGTH + IPV6_LENGTH + GRE_LENGTH;

const HOP_LIMIT: u8 = 64;
/// An odd multiplier without structure (the golden ratio's fraction), which spreads the key over
/// the flow label.
const SPREAD: u32 = 0x9e37_79b9;

/// The two ends of a template are addresses of different families.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{own} and {remote} are not of the same address family")]
pub struct MixedFamilies {
    /// The gateway's address.
    pub own: ProviderAddress,
    /// The host's address.
    pub remote: ProviderAddress,
}

/// The outer Ethernet, IP and GRE header from the gateway to one provider address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OuterTemplate {
    header: [u8; HEADER_LENGTH_V6],
    family: Family,
    /// The sum of the IPv4 header's words that no packet changes.
    header_sum: u16,
}

impl OuterTemplate {
    /// The template for frames from `source_mac` to the next hop's `destination_mac`, from the
    /// gateway's address `own` to the host's `remote`.
    ///
    /// # Errors
    ///
    /// The two addresses are of different families.
    pub fn new(
        source_mac: MacAddress,
        destination_mac: MacAddress,
        own: ProviderAddress,
        remote: ProviderAddress,
    ) -> Result<Self, MixedFamilies> {
        match (own.ip(), remote.ip()) {
            (IpAddr::V4(own), IpAddr::V4(remote)) => {
                Ok(Self::new_v4(source_mac, destination_mac, own, remote))
            }
            (IpAddr::V6(own), IpAddr::V6(remote)) => {
                Ok(Self::new_v6(source_mac, destination_mac, own, remote))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                Err(MixedFamilies { own, remote })
            }
        }
    }

    fn new_v4(from: MacAddress, to: MacAddress, own: Ipv4Addr, remote: Ipv4Addr) -> Self {
        let mut header = [0; HEADER_LENGTH_V6];
        write_ethernet(&mut header, to, from, ETHERTYPE_IPV4);
        header[14] = 0x45;
        header[20] = 0x40; // Don't Fragment
        header[22] = HOP_LIMIT;
        header[23] = GRE;
        header[26..30].copy_from_slice(&own.octets());
        header[30..34].copy_from_slice(&remote.octets());
        let header_sum = checksum::sum(&header[ETHERNET_LENGTH..ETHERNET_LENGTH + IPV4_LENGTH]);
        Self { header, family: Family::V4, header_sum }
    }

    fn new_v6(from: MacAddress, to: MacAddress, own: Ipv6Addr, remote: Ipv6Addr) -> Self {
        let mut header = [0; HEADER_LENGTH_V6];
        write_ethernet(&mut header, to, from, ETHERTYPE_IPV6);
        header[14] = 0x60;
        header[20] = GRE;
        header[21] = HOP_LIMIT;
        header[22..38].copy_from_slice(&own.octets());
        header[38..54].copy_from_slice(&remote.octets());
        Self { header, family: Family::V6, header_sum: 0 }
    }

    /// The family of the outer addresses.
    #[inline]
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Bytes in front of the inner Ethernet frame: 42 over IPv4, 62 over IPv6.
    #[inline]
    #[must_use]
    pub const fn header_length(&self) -> usize {
        match self.family {
            Family::V4 => HEADER_LENGTH_V4,
            Family::V6 => HEADER_LENGTH_V6,
        }
    }

    /// Writes everything in front of the inner Ethernet frame to the first
    /// [`header_length`](Self::header_length) bytes of `out`. `class` is the outer traffic class,
    /// `inner_length` the bytes of the inner Ethernet frame, `identification` the IPv4
    /// identification; over IPv6 the flow label follows from VSID and FlowID (RFC 6438).
    ///
    /// # Errors
    ///
    /// `NoHeadroom` when `out` is shorter, `TooBig` when the outer IP packet would exceed 64 KiB.
    #[inline]
    pub fn write(
        &self,
        out: &mut [u8],
        vsid: Vsid,
        flow: FlowId,
        class: u8,
        inner_length: usize,
        identification: u16,
    ) -> Result<(), DropReason> {
        let gre = GreHeader { vsid, flow };
        match self.family {
            Family::V4 => self.write_v4(out, gre, class, inner_length, identification),
            Family::V6 => self.write_v6(out, gre, class, inner_length),
        }
    }

    #[inline]
    fn write_v4(
        &self,
        out: &mut [u8],
        gre: GreHeader,
        class: u8,
        inner_length: usize,
        identification: u16,
    ) -> Result<(), DropReason> {
        let Some(out) = out.first_chunk_mut::<HEADER_LENGTH_V4>() else {
            return Err(DropReason::NoHeadroom);
        };
        let Ok(length) = u16::try_from(inner_length.saturating_add(IPV4_LENGTH + GRE_LENGTH))
        else {
            return Err(DropReason::TooBig);
        };
        out.copy_from_slice(&self.header[..HEADER_LENGTH_V4]);
        out[15] = class;
        out[16..18].copy_from_slice(&length.to_be_bytes());
        out[18..20].copy_from_slice(&identification.to_be_bytes());
        let sum = checksum::fold(
            u64::from(self.header_sum)
                + u64::from(class)
                + u64::from(length)
                + u64::from(identification),
        );
        out[24..26].copy_from_slice(&checksum::finish(sum).to_be_bytes());
        if let Some(out) = out.last_chunk_mut() {
            gre.emit(out);
        }
        Ok(())
    }

    #[inline]
    fn write_v6(
        &self,
        out: &mut [u8],
        gre: GreHeader,
        class: u8,
        inner_length: usize,
    ) -> Result<(), DropReason> {
        let Some(out) = out.first_chunk_mut::<HEADER_LENGTH_V6>() else {
            return Err(DropReason::NoHeadroom);
        };
        let Ok(length) = u16::try_from(inner_length.saturating_add(GRE_LENGTH)) else {
            return Err(DropReason::TooBig);
        };
        out.copy_from_slice(&self.header);
        let label = gre.vsid.key(gre.flow).wrapping_mul(SPREAD) >> 12;
        let word = 6 << 28 | u32::from(class) << 20 | label;
        out[14..18].copy_from_slice(&word.to_be_bytes());
        out[18..20].copy_from_slice(&length.to_be_bytes());
        if let Some(out) = out.last_chunk_mut() {
            gre.emit(out);
        }
        Ok(())
    }
}

/// Writes an untagged Ethernet header.
#[inline]
pub fn write_inner_ethernet(
    out: &mut [u8; ETHERNET_LENGTH],
    destination: MacAddress,
    source: MacAddress,
    ethertype: u16,
) {
    write_ethernet(out, destination, source, ethertype);
}

#[inline]
fn write_ethernet(out: &mut [u8], destination: MacAddress, source: MacAddress, ethertype: u16) {
    out[0..6].copy_from_slice(&destination.0);
    out[6..12].copy_from_slice(&source.0);
    out[12..14].copy_from_slice(&ethertype.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decap::{Decap, OwnAddresses, decap};

    const GATEWAY_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const HOST_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    fn provider(text: &str) -> ProviderAddress {
        ProviderAddress(text.parse().unwrap())
    }

    fn template(own: &str, remote: &str) -> OuterTemplate {
        OuterTemplate::new(GATEWAY_MAC, HOST_MAC, provider(own), provider(remote)).unwrap()
    }

    #[test]
    fn the_headers_over_ipv4_are_those_of_rfc_7637() {
        let template = template("192.0.2.1", "192.0.2.77");
        let vsid = Vsid::new(0x00_1389).unwrap();
        let mut out = [0xee; 50];
        assert_eq!(template.write(&mut out, vsid, FlowId(0x2a), 0xb8, 60, 0x1234), Ok(()));
        assert_eq!(
            out[..24],
            [
                0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
                0x45, 0xb8, 0x00, 0x58, 0x12, 0x34, 0x40, 0x00, 0x40, 0x2f, // IPv4
            ]
        );
        assert_eq!(checksum::sum(&out[14..34]), 0xffff);
        assert_eq!(
            out[26..42],
            [192, 0, 2, 1, 192, 0, 2, 77, 0x20, 0x00, 0x65, 0x58, 0x00, 0x13, 0x89, 0x2a]
        );
        assert_eq!(out[42..], [0xee; 8]);
    }

    #[test]
    fn the_headers_over_ipv6_are_those_of_rfc_7637() {
        let template = template("2001:db8::1", "2001:db8::77");
        let vsid = Vsid::new(0x00_1389).unwrap();
        let mut out = [0xee; 64];
        assert_eq!(template.write(&mut out, vsid, FlowId(0x2a), 0xb8, 60, 0), Ok(()));
        assert_eq!((&out[12..15], out[15] >> 4), (&[0x86, 0xdd, 0x6b][..], 0x8));
        assert_eq!(out[18..22], [0, 68, 47, 64]);
        assert_eq!((out[37], out[53]), (1, 0x77));
        assert_eq!(out[54..62], [0x20, 0x00, 0x65, 0x58, 0x00, 0x13, 0x89, 0x2a]);
        assert_eq!(out[62..], [0xee; 2]);
    }

    #[test]
    fn flows_of_a_subnet_get_different_flow_labels() {
        let template = template("2001:db8::1", "2001:db8::77");
        let vsid = Vsid::new(5001).unwrap();
        let labels: std::collections::BTreeSet<[u8; 3]> = (0..=255)
            .map(|flow| {
                let mut out = [0; HEADER_LENGTH_V6];
                template.write(&mut out, vsid, FlowId(flow), 0, 60, 0).unwrap();
                [out[15] & 15, out[16], out[17]]
            })
            .collect();
        assert_eq!(labels.len(), 256);
    }

    #[test]
    fn what_has_no_room_or_is_too_long_is_refused() {
        let vsid = Vsid::new(5001).unwrap();
        for (template, longest) in [
            (template("192.0.2.1", "192.0.2.77"), 65_535 - 28),
            (template("2001:db8::1", "2001:db8::77"), 65_535 - 8),
        ] {
            let write = |room: usize, inner: usize| {
                template.write(&mut vec![0; room], vsid, FlowId(0), 0, inner, 0)
            };
            let exact = template.header_length();
            assert_eq!(write(exact, longest), Ok(()));
            assert_eq!(write(exact - 1, longest), Err(DropReason::NoHeadroom));
            assert_eq!(write(exact, longest + 1), Err(DropReason::TooBig));
            assert_eq!(write(exact, usize::MAX), Err(DropReason::TooBig));
        }
        let (own, remote) = (provider("192.0.2.1"), provider("2001:db8::77"));
        let mixed = OuterTemplate::new(GATEWAY_MAC, HOST_MAC, own, remote);
        assert_eq!(mixed, Err(MixedFamilies { own, remote }));
    }

    #[test]
    fn an_inner_ethernet_header_is_untagged() {
        let mut out = [0; 14];
        write_inner_ethernet(&mut out, HOST_MAC, GATEWAY_MAC, ETHERTYPE_IPV4);
        assert_eq!(out, [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    }

    proptest! {
        #[test]
        fn what_one_gateway_writes_another_reads(
            v6 in any::<bool>(), number in Vsid::MIN..=Vsid::MAX, flow in any::<u8>(), class in any::<u8>(),
            inner in proptest::collection::vec(any::<u8>(), 0..100), identification in any::<u16>(), hosts in any::<(u8, u8)>(),
        ) {
            let text = |host: u8| if v6 { format!("2001:db8::{host:x}") } else { format!("192.0.2.{host}") };
            let (own, remote) = (text(hosts.0), text(hosts.1));
            prop_assume!(!v6 || hosts.1 != 0);
            let template = template(&own, &remote);
            let header_length = template.header_length();
            let mut frame = vec![0; header_length];
            let vsid = Vsid::new(number).unwrap();
            template.write(&mut frame, vsid, FlowId(flow), class, inner.len(), identification).unwrap();
            frame.extend(&inner);
            let peer = OwnAddresses::new([provider(&remote)]).unwrap();
            let expected = Decap {
                provider: provider(&own),
                vsid,
                flow: FlowId(flow),
                inner_at: header_length,
                end: frame.len(),
                class,
            };
            prop_assert_eq!(decap(&frame, &peer), Ok(expected));
        }
    }
}
