//! The path attributes of a set of routes as bytes, made once and sent with any number of UPDATEs.

use std::net::IpAddr;

use nvgate_model::Asn;

use super::nlri::NLRI_MAX;
use super::{Codec, NeighborKind, header};
use crate::as_path::{AsPath, AsnWidth};
use crate::attribute_code::{AttributeClass, AttributeCode};
use crate::attributes::{Attributes, RareAttributes, UnknownAttribute};
use crate::family::Family;

/// Path attributes in ascending order of their codes, but for MP_REACH_NLRI, which goes before them
/// with the routes of each message (RFC 7606 section 5.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttributeBlock {
    family: Family,
    /// Empty if it is the attribute NEXT_HOP.
    reach_next_hop: Vec<u8>,
    bytes: Vec<u8>,
}

/// Attributes that a session cannot carry: the routes that have them are withdrawn from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unsendable {
    /// No UPDATE has room for them and a route.
    #[error("with attributes an update has {length} bytes, more than {limit}")]
    TooLong {
        /// The bytes of an UPDATE with one route.
        length: usize,
        /// The longest message.
        limit: usize,
    },
    /// The next hop is of a family that these routes cannot have (RFC 8950 section 4).
    #[error("{family} cannot be sent with the next hop {next_hop}")]
    NextHop {
        /// The family of the routes.
        family: Family,
        /// The next hop.
        next_hop: IpAddr,
    },
}

impl AttributeBlock {
    /// The attributes as routes of `family` are sent with them. What is for internal neighbours is
    /// left out for external ones (RFC 4271 section 5.1.5, RFC 4456 section 8). IPv4 routes with an
    /// IPv4 next hop go in the UPDATE's own field, all others in MP_REACH_NLRI.
    ///
    /// # Errors
    ///
    /// The routes cannot be sent with these attributes.
    pub fn new(attributes: &Attributes, family: Family, codec: &Codec) -> Result<Self, Unsendable> {
        let refuse = || Unsendable::NextHop { family, next_hop: attributes.next_hop };
        let mut reach_next_hop = Vec::new();
        match (family, attributes.next_hop) {
            (Family::Ipv4Unicast, IpAddr::V4(_)) => {}
            (Family::Ipv4Unicast, IpAddr::V6(_)) if !codec.ipv6_next_hop => return Err(refuse()),
            (Family::Ipv6Unicast, IpAddr::V4(_)) => return Err(refuse()),
            (Family::Ipv4Unicast | Family::Ipv6Unicast, IpAddr::V6(global)) => {
                reach_next_hop.extend_from_slice(&global.octets());
                let link_local = attributes.rare().and_then(|rare| rare.link_local_next_hop);
                reach_next_hop.extend(link_local.into_iter().flat_map(|second| second.octets()));
            }
        }
        let mut block = Self { family, reach_next_hop, bytes: Vec::with_capacity(64) };
        put_all(attributes, codec, &mut block.bytes);
        let length = block.update_length();
        let limit = codec.max_message.bytes();
        if length > limit { Err(Unsendable::TooLong { length, limit }) } else { Ok(block) }
    }

    /// The family of the routes that have these attributes.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The next hop for MP_REACH_NLRI, if the routes go there.
    pub(super) fn reach_next_hop(&self) -> Option<&[u8]> {
        (!self.reach_next_hop.is_empty()).then_some(&self.reach_next_hop)
    }

    /// The bytes of an UPDATE with the longest route.
    fn update_length(&self) -> usize {
        let reach = self.reach_next_hop().map_or(0, |next_hop| REACH_HEAD + next_hop.len() + 1);
        header::HEADER + 2 + 2 + reach + self.bytes.len() + NLRI_MAX
    }
}

/// Flags, code and two octets of length; then AFI, SAFI, and the length of the next hop.
const REACH_HEAD: usize = 4 + 2 + 1 + 1;

/// Appends attributes by ascending codes; the unknown ones are woven in.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    unknown: &'a [UnknownAttribute],
}

fn put_all(attributes: &Attributes, codec: &Codec, out: &mut Vec<u8>) {
    let none = RareAttributes::default();
    let rare = attributes.rare().unwrap_or(&none);
    let mut writer = Writer { out, unknown: &rare.unknown };
    put_well_known(attributes, rare, codec, &mut writer);
    put_optional(attributes, rare, codec, &mut writer);
    writer.put_unknown(None);
}

/// Codes 1 to 7.
fn put_well_known(
    attributes: &Attributes,
    rare: &RareAttributes,
    codec: &Codec,
    writer: &mut Writer<'_>,
) {
    writer.put(AttributeCode::ORIGIN, 0, |out| out.push(attributes.origin.to_wire()));
    writer
        .put(AttributeCode::AS_PATH, 0, |out| put_path(&attributes.as_path, codec.asn_width, out));
    if let IpAddr::V4(next_hop) = attributes.next_hop {
        writer.put(AttributeCode::NEXT_HOP, 0, |out| out.extend_from_slice(&next_hop.octets()));
    }
    if let Some(med) = attributes.med {
        writer.put_number(AttributeCode::MULTI_EXIT_DISC, 0, med);
    }
    if let (Some(preference), NeighborKind::Internal) =
        (attributes.local_preference, codec.neighbor)
    {
        writer.put_number(AttributeCode::LOCAL_PREF, 0, preference);
    }
    if attributes.atomic_aggregate {
        writer.put(AttributeCode::ATOMIC_AGGREGATE, 0, |_| {});
    }
    if let Some(aggregator) = rare.aggregator {
        let partial = partial(attributes, AttributeCode::AGGREGATOR);
        writer.put(AttributeCode::AGGREGATOR, partial, |out| {
            put_asn(aggregator.asn, codec.asn_width, out);
            out.extend_from_slice(&aggregator.router_id.octets());
        });
    }
}

/// Codes from 8 on.
fn put_optional(
    attributes: &Attributes,
    rare: &RareAttributes,
    codec: &Codec,
    writer: &mut Writer<'_>,
) {
    let partial = |code| partial(attributes, code);
    let communities = attributes.communities.as_slice().iter();
    writer.put_items(
        AttributeCode::COMMUNITIES,
        partial(AttributeCode::COMMUNITIES),
        communities.map(|community| community.0.to_be_bytes()),
    );
    if codec.neighbor == NeighborKind::Internal {
        let originator = rare.originator_id.iter().map(|originator| originator.octets());
        writer.put_items(AttributeCode::ORIGINATOR_ID, 0, originator);
        let clusters = rare.cluster_list.iter().map(|cluster| cluster.octets());
        writer.put_items(AttributeCode::CLUSTER_LIST, 0, clusters);
    }
    writer.put_items(
        AttributeCode::EXTENDED_COMMUNITIES,
        partial(AttributeCode::EXTENDED_COMMUNITIES),
        rare.extended_communities.as_slice().iter().map(|community| community.0),
    );
    if codec.asn_width == AsnWidth::Two {
        put_four_octets(attributes, rare, writer);
    }
    writer.put_items(
        AttributeCode::LARGE_COMMUNITIES,
        partial(AttributeCode::LARGE_COMMUNITIES),
        rare.large_communities.as_slice().iter().map(|community| community.to_wire()),
    );
    if let Some(Asn(otc)) = rare.only_to_customer {
        let code = AttributeCode::ONLY_TO_CUSTOMER;
        writer.put_number(code, partial(code), otc);
    }
}

/// What has no room in two octets, for those behind the peer that have four (RFC 6793 section
/// 4.2.2).
fn put_four_octets(attributes: &Attributes, rare: &RareAttributes, writer: &mut Writer<'_>) {
    let is_long = |asn: Asn| asn.0 > u32::from(u16::MAX);
    if attributes.as_path.numbers().any(is_long) {
        writer.put(AttributeCode::AS4_PATH, 0, |out| {
            out.extend_from_slice(attributes.as_path.as_wire());
        });
    }
    if let Some(aggregator) = rare.aggregator.filter(|aggregator| is_long(aggregator.asn)) {
        writer.put(AttributeCode::AS4_AGGREGATOR, 0, |out| {
            put_asn(aggregator.asn, AsnWidth::Four, out);
            out.extend_from_slice(&aggregator.router_id.octets());
        });
    }
}

fn put_path(path: &AsPath, width: AsnWidth, out: &mut Vec<u8>) {
    match width {
        AsnWidth::Four => out.extend_from_slice(path.as_wire()),
        AsnWidth::Two => {
            for segment in path.segments() {
                let start = out.len();
                out.extend_from_slice(&[segment.kind as u8, 0]);
                segment.numbers().for_each(|number| put_asn(number, width, out));
                out[start + 1] = ((out.len() - start - 2) / 2) as u8;
            }
        }
    }
}

fn put_asn(asn: Asn, width: AsnWidth, out: &mut Vec<u8>) {
    match width {
        AsnWidth::Two => out.extend_from_slice(&asn.in_two_octets().to_be_bytes()),
        AsnWidth::Four => out.extend_from_slice(&asn.0.to_be_bytes()),
    }
}

/// The partial flag of an attribute that came with it.
fn partial(attributes: &Attributes, code: AttributeCode) -> u8 {
    if attributes.partial.contains(code) { AttributeClass::PARTIAL } else { 0 }
}

impl Writer<'_> {
    /// Appends the unknown attributes of codes below this one, or all that are left.
    fn put_unknown(&mut self, before: Option<AttributeCode>) {
        while let Some((first, rest)) = self.unknown.split_first() {
            if before.is_some_and(|before| first.code >= before) {
                return;
            }
            self.unknown = rest;
            // Not recognized here either (RFC 4271 section 5).
            let flags = AttributeClass::OptionalTransitive.flags() | AttributeClass::PARTIAL;
            put_attribute(flags, first.code, self.out, |out| out.extend_from_slice(&first.value));
        }
    }

    fn put(&mut self, code: AttributeCode, partial: u8, value: impl FnOnce(&mut Vec<u8>)) {
        self.put_unknown(Some(code));
        let flags = code.class().map_or(0, AttributeClass::flags);
        put_attribute(flags | partial, code, self.out, value);
    }

    fn put_number(&mut self, code: AttributeCode, partial: u8, number: u32) {
        self.put(code, partial, |out| out.extend_from_slice(&number.to_be_bytes()));
    }

    /// Appends an attribute of items; none is no attribute.
    fn put_items<const N: usize>(
        &mut self,
        code: AttributeCode,
        partial: u8,
        items: impl ExactSizeIterator<Item = [u8; N]>,
    ) {
        if items.len() > 0 {
            self.put(code, partial, |out| out.extend(items.flatten()));
        }
    }
}

/// Appends an attribute. A value of more than 65535 bytes has a wrong length here, but no message
/// has room for it.
fn put_attribute(
    flags: u8,
    AttributeCode(code): AttributeCode,
    out: &mut Vec<u8>,
    value: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[flags, code, 0]);
    value(out);
    let length = out.len() - start - 3;
    let [high, low] = (length as u16).to_be_bytes();
    out[start + 2] = low;
    if length > usize::from(u8::MAX) {
        out[start] |= AttributeClass::EXTENDED_LENGTH;
        out.insert(start + 2, high);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::attributes::Aggregator;
    use crate::community::{Community, ExtendedCommunity, LargeCommunity};
    use crate::origin::Origin;
    use crate::wire::MessageLimit;

    fn codec(neighbor: NeighborKind, asn_width: AsnWidth) -> Codec {
        Codec { asn_width, families: [true; 2], ..Codec::initial(neighbor) }
    }

    fn everything() -> Attributes {
        let mut attributes = Attributes::originated("192.0.2.1".parse().unwrap(), Origin::Egp);
        attributes.as_path = "64496 65536".parse().unwrap();
        attributes.med = Some(1);
        attributes.local_preference = Some(2);
        attributes.atomic_aggregate = true;
        attributes.communities = [Community::new(1, 2)].into_iter().collect();
        attributes.partial.insert(AttributeCode::COMMUNITIES);
        attributes.set_rare(RareAttributes {
            link_local_next_hop: None,
            aggregator: Some(Aggregator { asn: Asn(65_537), router_id: Ipv4Addr::new(9, 9, 9, 9) }),
            extended_communities: [ExtendedCommunity([7; 8])].into_iter().collect(),
            large_communities: [LargeCommunity::from_wire([8; 12])].into_iter().collect(),
            originator_id: Some(Ipv4Addr::new(1, 1, 1, 1)),
            cluster_list: [Ipv4Addr::new(2, 2, 2, 2)].into(),
            only_to_customer: Some(Asn(3)),
            unknown: [(20, 2), (33, 0), (200, 300)]
                .map(|(code, length)| UnknownAttribute {
                    code: AttributeCode(code),
                    value: vec![5; length].into_boxed_slice(),
                })
                .into(),
        });
        attributes
    }

    #[test]
    fn an_internal_neighbor_of_four_octets_gets_these_bytes() {
        let codec = codec(NeighborKind::Internal, AsnWidth::Four);
        let block = AttributeBlock::new(&everything(), Family::Ipv4Unicast, &codec).unwrap();
        let expected = [
            &[0x40, 1, 1, 1][..],
            &[0x40, 2, 10, 2, 2, 0, 0, 0xFB, 0xF0, 0, 1, 0, 0],
            &[0x40, 3, 4, 192, 0, 2, 1],
            &[0x80, 4, 4, 0, 0, 0, 1],
            &[0x40, 5, 4, 0, 0, 0, 2],
            &[0x40, 6, 0],
            &[0xC0, 7, 8, 0, 1, 0, 1, 9, 9, 9, 9],
            &[0xE0, 8, 4, 0, 1, 0, 2],
            &[0x80, 9, 4, 1, 1, 1, 1],
            &[0x80, 10, 4, 2, 2, 2, 2],
            &[0xC0, 16, 8, 7, 7, 7, 7, 7, 7, 7, 7],
            &[0xE0, 20, 2, 5, 5],
            &[0xC0, 32, 12, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8],
            &[0xE0, 33, 0],
            &[0xC0, 35, 4, 0, 0, 0, 3],
            &[0xF0, 200, 1, 44],
            &[5; 300],
        ]
        .concat();
        assert_eq!((block.bytes(), block.reach_next_hop()), (&expected[..], None));
    }

    #[test]
    fn an_external_neighbor_of_two_octets_gets_what_has_no_room_beside() {
        let codec = codec(NeighborKind::External, AsnWidth::Two);
        let mut attributes = everything();
        attributes.edit_rare(|rare| {
            rare.unknown = [].into();
            rare.extended_communities = [].into_iter().collect();
        });
        let block = AttributeBlock::new(&attributes, Family::Ipv4Unicast, &codec).unwrap();
        let expected = [
            &[0x40, 1, 1, 1][..],
            &[0x40, 2, 6, 2, 2, 0xFB, 0xF0, 0x5B, 0xA0],
            &[0x40, 3, 4, 192, 0, 2, 1],
            &[0x80, 4, 4, 0, 0, 0, 1],
            &[0x40, 6, 0],
            &[0xC0, 7, 6, 0x5B, 0xA0, 9, 9, 9, 9],
            &[0xE0, 8, 4, 0, 1, 0, 2],
            &[0xC0, 17, 10, 2, 2, 0, 0, 0xFB, 0xF0, 0, 1, 0, 0],
            &[0xC0, 18, 8, 0, 1, 0, 1, 9, 9, 9, 9],
            &[0xC0, 32, 12, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8],
            &[0xC0, 35, 4, 0, 0, 0, 3],
        ]
        .concat();
        assert_eq!(block.bytes(), expected);
    }

    #[test]
    fn a_next_hop_that_the_family_cannot_have_is_refused() {
        let plain = codec(NeighborKind::External, AsnWidth::Four);
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let attributes = |next_hop| Attributes::originated(next_hop, Origin::Igp);
        for (family, next_hop) in [(Family::Ipv4Unicast, v6), (Family::Ipv6Unicast, v4)] {
            let refused = AttributeBlock::new(&attributes(next_hop), family, &plain);
            assert_eq!(refused, Err(Unsendable::NextHop { family, next_hop }));
        }
        let codec = Codec { ipv6_next_hop: true, ..plain };
        let block = AttributeBlock::new(&attributes(v6), Family::Ipv4Unicast, &codec).unwrap();
        assert_eq!(block.reach_next_hop().map(<[u8]>::len), Some(16));
        assert_eq!(block.bytes(), [0x40, 1, 1, 0, 0x40, 2, 0]);
    }

    #[test]
    fn attributes_that_leave_no_room_for_a_route_are_refused() {
        let with = |length: usize, max_message| {
            let mut attributes = Attributes::originated("192.0.2.1".parse().unwrap(), Origin::Igp);
            let unknown = UnknownAttribute {
                code: AttributeCode(99),
                value: vec![0; length].into_boxed_slice(),
            };
            attributes.edit_rare(|rare| rare.unknown = [unknown].into());
            let codec = Codec { max_message, ..codec(NeighborKind::External, AsnWidth::Four) };
            AttributeBlock::new(&attributes, Family::Ipv4Unicast, &codec).map(|_| ())
        };
        // Header 19, lengths 4, ORIGIN 4, AS_PATH 3, NEXT_HOP 7, head 4, route 21.
        for limit in [MessageLimit::Standard, MessageLimit::Extended] {
            let room = limit.bytes() - 19 - 4 - 4 - 3 - 7 - 4 - 21;
            assert_eq!(with(room, limit), Ok(()));
            let (length, limit_bytes) = (limit.bytes() + 1, limit.bytes());
            let refused = Err(Unsendable::TooLong { length, limit: limit_bytes });
            assert_eq!(with(room + 1, limit), refused);
        }
        assert!(with(100_000, MessageLimit::Extended).is_err());
    }
}
