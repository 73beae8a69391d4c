//! Sending an IP packet out of a port: link header, segmentation, fragmentation, checksums.
//!
//! One way for both ports; only the link header and what the port can still do differ.

use nvgate_model::{DropReason, FlowId, MacAddress, Vsid};
use nvgate_nvgre::ecn::{self, DscpMode};
use nvgate_nvgre::encap::{OuterTemplate, write_inner_ethernet};
use nvgate_packet::buf::{Checksum, Offload, PacketBuf};
use nvgate_packet::fragment::Fragments;
use nvgate_packet::headers::{
    ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family, Headers, read_u16, traffic_class,
};
use nvgate_packet::segment::Segments;

use super::longest_packet;
use crate::io::Tx;

/// The longest link header: IPv6 NVGRE with both Ethernet headers.
const MAX_LINK_HEADER: usize = 14 + 40 + 8 + 14;
/// Room for the IP and transport headers of a segment.
const MAX_SEGMENT_HEADER: usize = 512;

/// Memory of a worker that packets are built in.
#[derive(Debug)]
pub(super) struct Scratch {
    head: Box<[u8; MAX_LINK_HEADER + MAX_SEGMENT_HEADER]>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { head: Box::new([0; MAX_LINK_HEADER + MAX_SEGMENT_HEADER]) }
    }

    /// Sends a payload that is no routed packet (ARP, neighbour discovery) behind `link`.
    pub(super) fn send_frame(
        &mut self,
        tx: &mut Tx,
        link: &Link<'_>,
        ethertype: u16,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let head = &mut self.head[..link.header_length()];
        link.write_for(head, ethertype, 0, payload.len())?;
        tx.send(head, payload, Offload::default()).map_err(|_| DropReason::TransmitFull)
    }
}

/// The link header in front of an IP packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Link<'s> {
    /// NVGRE to a virtualization host.
    Overlay {
        /// The outer headers.
        template: &'s OuterTemplate,
        /// How DSCP is copied out.
        dscp: DscpMode,
        /// The virtual subnet of the destination.
        vsid: Vsid,
        /// The FlowID.
        flow: FlowId,
        /// The inner destination MAC.
        destination: MacAddress,
        /// The inner source MAC.
        source: MacAddress,
    },
    /// Ethernet on the front end.
    FrontEnd {
        /// The next hop's MAC.
        destination: MacAddress,
        /// The port's MAC.
        source: MacAddress,
    },
}

impl Link<'_> {
    const fn header_length(&self) -> usize {
        match self {
            Self::Overlay { template, .. } => template.header_length() + ETHERNET_LENGTH,
            Self::FrontEnd { .. } => ETHERNET_LENGTH,
        }
    }

    /// Writes the header in front of an IP packet of `length` bytes; `out` has
    /// [`header_length`](Self::header_length) bytes.
    #[inline]
    fn write(
        &self,
        out: &mut [u8],
        family: Family,
        class: u8,
        length: usize,
    ) -> Result<(), DropReason> {
        let ethertype = match family {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        };
        self.write_for(out, ethertype, ecn_class(self, class), length)
    }

    /// Writes the header in front of a payload of any EtherType.
    #[inline]
    fn write_for(
        &self,
        out: &mut [u8],
        ethertype: u16,
        class: u8,
        length: usize,
    ) -> Result<(), DropReason> {
        let (inner_at, destination, source) = match self {
            Self::Overlay { template, vsid, flow, destination, source, .. } => {
                template.write(out, *vsid, *flow, class, ETHERNET_LENGTH + length, 0)?;
                (template.header_length(), destination, source)
            }
            Self::FrontEnd { destination, source } => (0, destination, source),
        };
        if let Some(inner) = out.get_mut(inner_at..).and_then(|rest| rest.first_chunk_mut()) {
            write_inner_ethernet(inner, *destination, *source, ethertype);
        }
        Ok(())
    }

    fn capabilities(&self, tx: &Tx) -> (bool, bool) {
        match self {
            // Nothing behind a port can cut or complete what is inside NVGRE.
            Self::Overlay { .. } => (false, false),
            Self::FrontEnd { .. } => {
                let capabilities = tx.capabilities();
                (capabilities.checksum, capabilities.gso)
            }
        }
    }
}

const fn ecn_class(link: &Link<'_>, class: u8) -> u8 {
    match link {
        Link::Overlay { dscp, .. } => ecn::encapsulate(class, *dscp),
        Link::FrontEnd { .. } => 0,
    }
}

/// Sends the IP packet `packet` by `tx`, whole or cut as the path's `mtu` and the port ask for.
///
/// # Errors
///
/// `TooBig` when it is longer than the path carries and must not be fragmented; `OffloadInvalid`,
/// `NoHeadroom`, `TransmitFull`.
#[inline]
pub(super) fn send(
    scratch: &mut Scratch,
    tx: &mut Tx,
    link: &Link<'_>,
    packet: &mut PacketBuf<'_>,
    headers: &Headers,
    mtu: usize,
) -> Result<(), DropReason> {
    let (_, cuts) = link.capabilities(tx);
    let offload = packet.offload();
    let whole = longest_packet(packet, headers) <= mtu
        && (offload.gso.is_none() || cuts && matches!(offload.checksum, Checksum::Partial { .. }));
    if !whole {
        let class = traffic_class(packet.bytes(), headers.family);
        let room = link.header_length();
        return cut(scratch, room, packet, headers, mtu, |head, payload| {
            let length = head.len() - room + payload.len();
            link.write(&mut head[..room], headers.family, class, length)?;
            tx.send(head, payload, Offload::default()).map_err(|_| DropReason::TransmitFull)
        });
    }
    send_whole(tx, link, packet, headers.family)
}

/// Sends an IP packet as it is, but for a checksum that the port cannot complete.
///
/// # Errors
///
/// `OffloadInvalid`, `NoHeadroom`, `TransmitFull`.
#[inline]
pub(super) fn send_whole(
    tx: &mut Tx,
    link: &Link<'_>,
    packet: &mut PacketBuf<'_>,
    family: Family,
) -> Result<(), DropReason> {
    frame(tx, link, packet, family)?;
    tx.send(packet.bytes(), &[], packet.offload()).map_err(|_| DropReason::TransmitFull)
}

/// As [`send_whole`], for a UDP datagram that may leave together with others between its sockets.
///
/// # Errors
///
/// As [`send_whole`].
pub(super) fn send_datagram(
    tx: &mut Tx,
    link: &Link<'_>,
    packet: &mut PacketBuf<'_>,
    family: Family,
) -> Result<(), DropReason> {
    frame(tx, link, packet, family)?;
    tx.send_datagram(packet.bytes(), packet.offload()).map_err(|_| DropReason::TransmitFull)
}

/// Puts the link's headers in front of an IP packet and completes what the port cannot.
#[inline]
fn frame(
    tx: &Tx,
    link: &Link<'_>,
    packet: &mut PacketBuf<'_>,
    family: Family,
) -> Result<(), DropReason> {
    let (finishes_checksum, _) = link.capabilities(tx);
    if !finishes_checksum && !packet.complete_checksum() {
        return Err(DropReason::OffloadInvalid);
    }
    let class = traffic_class(packet.bytes(), family);
    let length = packet.len();
    let head = packet.prepend_slice(link.header_length()).map_err(|_| DropReason::NoHeadroom)?;
    link.write(head, family, class, length)
}

/// Cuts an IP packet that is too long for the path, or a super-packet, into what the path carries,
/// with complete checksums. Each piece goes to `put` as its header, behind `room` bytes, and its
/// payload.
///
/// # Errors
///
/// `TooBig` when the packet must not be fragmented; `OffloadInvalid`; what `put` refuses.
pub(super) fn cut(
    scratch: &mut Scratch,
    room: usize,
    packet: &mut PacketBuf<'_>,
    headers: &Headers,
    mtu: usize,
    put: impl FnMut(&mut [u8], &[u8]) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    let offload = packet.offload();
    if let Some(gso) = offload.gso
        && longest_packet(packet, headers) <= mtu
    {
        let mut segments = Segments::new(packet.bytes(), headers, gso, offload.checksum)?;
        let next = |head: &mut [u8]| {
            segments.next(head).map(|segment| (segment.head_length, segment.payload))
        };
        return put_pieces(scratch, room, packet.bytes(), next, put);
    }
    let may_fragment = headers.family == Family::V4
        && offload.gso.is_none()
        && read_u16(packet.bytes(), 6) & 0x4000 == 0;
    if !may_fragment {
        return Err(DropReason::TooBig);
    }
    if !packet.complete_checksum() {
        return Err(DropReason::OffloadInvalid);
    }
    let mut fragments =
        Fragments::new(packet.bytes(), headers, mtu).map_err(|_| DropReason::TooBig)?;
    let next = |head: &mut [u8]| {
        fragments.next(head).map(|fragment| (fragment.head_length, fragment.payload))
    };
    put_pieces(scratch, room, packet.bytes(), next, put)
}

/// Gives `put` the pieces that `next` yields: the length of the header it wrote, and the payload's
/// place in `bytes`.
fn put_pieces(
    scratch: &mut Scratch,
    room: usize,
    bytes: &[u8],
    mut next: impl FnMut(&mut [u8]) -> Option<(usize, std::ops::Range<usize>)>,
    mut put: impl FnMut(&mut [u8], &[u8]) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    while let Some((head_length, payload)) = next(&mut scratch.head[room..]) {
        let end = room + head_length;
        put(&mut scratch.head[..end], bytes.get(payload).unwrap_or(&[]))?;
    }
    Ok(())
}
