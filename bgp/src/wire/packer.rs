//! Routes packed into as few UPDATEs as the longest message allows.

use super::block::AttributeBlock;
use super::header::{self, MessageType};
use super::{Codec, nlri};
use crate::attribute_code::{AttributeClass, AttributeCode};
use crate::family::Family;
use crate::nlri::Nlri;

/// Appends UPDATEs to a buffer. Each has one field with routes (RFC 7606 section 5.1).
#[derive(Debug)]
pub struct UpdatePacker<'a> {
    out: &'a mut Vec<u8>,
    codec: Codec,
    /// The length that `out` may grow to.
    end: usize,
    messages: usize,
}

/// Where the routes of a message stand.
#[derive(Clone, Copy)]
enum Field<'b> {
    Withdrawn,
    Unreach(Family),
    Own(&'b AttributeBlock),
    Reach(&'b AttributeBlock, &'b [u8]),
}

impl<'a> UpdatePacker<'a> {
    /// Appends to `out` what a session with this codec sends.
    pub fn new(out: &'a mut Vec<u8>, codec: &Codec) -> Self {
        Self::within(out, codec, usize::MAX)
    }

    /// The same, of at most `room` bytes.
    pub fn within(out: &'a mut Vec<u8>, codec: &Codec, room: usize) -> Self {
        let end = out.len().saturating_add(room);
        Self { out, codec: *codec, end, messages: 0 }
    }

    /// How many messages were appended.
    #[must_use]
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// Announces routes with the attributes of a block that was made for the same codec. Routes of
    /// another family than the block's are left out. Returns how many routes found room, from the
    /// front.
    pub fn announce(
        &mut self,
        block: &AttributeBlock,
        routes: impl IntoIterator<Item = Nlri>,
    ) -> usize {
        let field = match block.reach_next_hop() {
            Some(next_hop) => Field::Reach(block, next_hop),
            None => Field::Own(block),
        };
        self.pack(field, block.family(), routes)
    }

    /// Withdraws routes. Those of another family are left out. Returns how many found room.
    pub fn withdraw(&mut self, family: Family, routes: impl IntoIterator<Item = Nlri>) -> usize {
        let field = match family {
            Family::Ipv4Unicast => Field::Withdrawn,
            Family::Ipv6Unicast => Field::Unreach(family),
        };
        self.pack(field, family, routes)
    }

    /// Says that all routes of the family were told (RFC 4724 section 2); false without room.
    pub fn end_of_rib(&mut self, family: Family) -> bool {
        let field = match family {
            Family::Ipv4Unicast => Field::Withdrawn,
            Family::Ipv6Unicast => Field::Unreach(family),
        };
        let start = self.begin(field);
        let fits = self.out.len() + field.tail() <= self.end;
        if fits {
            self.end(field, start);
        } else {
            self.out.truncate(start);
        }
        fits
    }

    fn pack(
        &mut self,
        field: Field<'_>,
        family: Family,
        routes: impl IntoIterator<Item = Nlri>,
    ) -> usize {
        let path_ids = self.codec.add_path_out[family.index()];
        let room = self.codec.max_message.bytes().saturating_sub(field.tail());
        let end = self.end.saturating_sub(field.tail());
        let (mut open, mut packed) = (None, 0);
        for route in routes.into_iter().filter(|route| route.family() == family) {
            let length = if path_ids { 4 } else { 0 } + Nlri::from(route.prefix).wire_length();
            if let Some(start) = open.filter(|start| self.out.len() - start + length > room) {
                self.end(field, start);
                open = None;
            }
            let begun = open.is_none().then(|| self.begin(field));
            if self.out.len() + length > end {
                begun.into_iter().for_each(|start| self.out.truncate(start));
                break;
            }
            open = open.or(begun);
            nlri::put(route, path_ids, self.out);
            packed += 1;
        }
        if let Some(start) = open {
            self.end(field, start);
        }
        packed
    }

    /// Appends what stands before the routes; lengths are filled in by [`end`](Self::end).
    fn begin(&mut self, field: Field<'_>) -> usize {
        let start = header::begin(MessageType::Update, self.out);
        self.out.extend_from_slice(&[0, 0]);
        match field {
            Field::Withdrawn => {}
            Field::Unreach(family) => {
                self.out.extend_from_slice(&[0, 0]);
                self.begin_multiprotocol(AttributeCode::MP_UNREACH_NLRI, family);
            }
            Field::Own(block) => {
                self.out.extend_from_slice(&(block.bytes().len() as u16).to_be_bytes());
                self.out.extend_from_slice(block.bytes());
            }
            Field::Reach(block, next_hop) => {
                self.out.extend_from_slice(&[0, 0]);
                self.begin_multiprotocol(AttributeCode::MP_REACH_NLRI, block.family());
                self.out.push(next_hop.len() as u8);
                self.out.extend_from_slice(next_hop);
                self.out.push(0);
            }
        }
        start
    }

    fn begin_multiprotocol(&mut self, code: AttributeCode, family: Family) {
        let flags = AttributeClass::OptionalNonTransitive.flags() | AttributeClass::EXTENDED_LENGTH;
        let afi_safi = family.afi_safi();
        self.out.extend_from_slice(&[flags, code.0, 0, 0]);
        self.out.extend_from_slice(&afi_safi.afi.to_be_bytes());
        self.out.push(afi_safi.safi);
    }

    fn end(&mut self, field: Field<'_>, start: usize) {
        let body = start + header::HEADER;
        match field {
            Field::Withdrawn => {
                self.fill(body);
                self.out.extend_from_slice(&[0, 0]);
            }
            Field::Unreach(_) => {
                self.fill(body + ATTRIBUTE + 2);
                self.fill(body + 2);
            }
            Field::Own(_) => {}
            Field::Reach(block, _) => {
                self.fill(body + ATTRIBUTE + 2);
                self.out.extend_from_slice(block.bytes());
                self.fill(body + 2);
            }
        }
        header::end(start, &mut self.out[..]);
        self.messages += 1;
    }

    /// Fills in at `at` the length, of two octets, of all that is behind it.
    fn fill(&mut self, at: usize) {
        let length = (self.out.len() - at - 2) as u16;
        self.out[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
}

/// Where in the body the first attribute stands: behind no withdrawn routes and the length of all.
const ATTRIBUTE: usize = 2 + 2;

impl Field<'_> {
    /// The bytes behind the routes.
    fn tail(self) -> usize {
        match self {
            Self::Withdrawn => 2,
            Self::Unreach(_) | Self::Own(_) => 0,
            Self::Reach(block, _) => block.bytes().len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::Attributes;
    use crate::nlri::PathId;
    use crate::origin::Origin;
    use crate::wire::exercise::received;
    use crate::wire::{MessageLimit, NeighborKind, arbitrary, frame};

    fn codec() -> Codec {
        Codec { families: [true; 2], ..Codec::initial(NeighborKind::External) }
    }

    fn nlri(text: &str) -> Nlri {
        Nlri::from(text.parse::<nvgate_model::Prefix>().unwrap())
    }

    fn packed<T>(codec: &Codec, pack: impl FnOnce(&mut UpdatePacker<'_>) -> T) -> Vec<Vec<u8>> {
        let mut out = vec![0xAA];
        let mut packer = UpdatePacker::new(&mut out, codec);
        pack(&mut packer);
        let count = packer.messages();
        let mut stream = &out[1..];
        let mut bodies = Vec::new();
        while let Some(whole) = frame(stream, codec.max_message).unwrap() {
            bodies.push(whole.body().to_vec());
            stream = &stream[whole.bytes().len()..];
        }
        assert_eq!((out[0], stream.len(), bodies.len()), (0xAA, 0, count));
        bodies
    }

    #[test]
    fn each_field_has_its_bytes() {
        let ipv4 = Attributes::originated("192.0.2.1".parse().unwrap(), Origin::Igp);
        let block = AttributeBlock::new(&ipv4, Family::Ipv4Unicast, &codec()).unwrap();
        let routes = [nlri("10.0.0.0/8"), nlri("2001:db8::/32"), nlri("0.0.0.0/0")];
        let bodies = packed(&codec(), |packer| packer.announce(&block, routes));
        let attributes = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1];
        assert_eq!(bodies, [[&[0, 0, 0, 14][..], &attributes, &[8, 10, 0]].concat()]);

        let ipv6 = Attributes::originated("2001:db8::1".parse().unwrap(), Origin::Igp);
        let block = AttributeBlock::new(&ipv6, Family::Ipv6Unicast, &codec()).unwrap();
        let bodies = packed(&codec(), |packer| packer.announce(&block, routes));
        let next_hop = [0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let expected = [
            &[0, 0, 0, 37, 0x90, 14, 0, 26, 0, 2, 1, 16][..],
            &next_hop,
            &[0, 32, 0x20, 1, 0xD, 0xB8, 0x40, 1, 1, 0, 0x40, 2, 0],
        ]
        .concat();
        assert_eq!(bodies, [expected]);

        let bodies = packed(&codec(), |packer| {
            packer.withdraw(Family::Ipv4Unicast, routes);
            packer.withdraw(Family::Ipv6Unicast, routes);
            packer.withdraw(Family::Ipv6Unicast, []);
            packer.end_of_rib(Family::Ipv4Unicast);
            packer.end_of_rib(Family::Ipv6Unicast);
        });
        let expected = [
            &[0, 3, 8, 10, 0, 0, 0][..],
            &[0, 0, 0, 12, 0x90, 15, 0, 8, 0, 2, 1, 32, 0x20, 1, 0xD, 0xB8],
            &[0, 0, 0, 0],
            &[0, 0, 0, 7, 0x90, 15, 0, 3, 0, 2, 1],
        ];
        assert_eq!(bodies, expected);
    }

    #[test]
    fn path_identifiers_are_sent_where_they_were_agreed() {
        let codec = Codec { add_path_out: [true, false], ..codec() };
        let path = |text| Nlri { path_id: Some(PathId(7)), ..nlri(text) };
        let bodies = packed(&codec, |packer| {
            packer.withdraw(Family::Ipv4Unicast, [path("10.0.0.0/8"), nlri("0.0.0.0/0")]);
            packer.withdraw(Family::Ipv6Unicast, [path("::/0")]);
        });
        let expected = [
            &[0, 11, 0, 0, 0, 7, 8, 10, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 0, 0, 8, 0x90, 15, 0, 4, 0, 2, 1, 0],
        ];
        assert_eq!(bodies, expected);
    }

    #[test]
    fn messages_are_filled_to_the_last_route_that_fits() {
        let routes = |count: u32| {
            (0..count).map(|number| {
                let address = std::net::Ipv4Addr::from_bits(number << 8);
                Nlri::from(nvgate_model::Prefix::new(address.into(), 24).unwrap())
            })
        };
        for (limit, count) in [(MessageLimit::Standard, 1018), (MessageLimit::Extended, 16_378)] {
            let codec = Codec { max_message: limit, ..codec() };
            // Four bytes each, with 23 of the message.
            let lengths = |count| {
                let bodies =
                    packed(&codec, |packer| packer.withdraw(Family::Ipv4Unicast, routes(count)));
                bodies.iter().map(|body| body.len() + 19).collect::<Vec<_>>()
            };
            assert_eq!(lengths(count), [23 + 4 * count as usize]);
            assert_eq!(lengths(count + 1), [23 + 4 * count as usize, 27]);
            assert!(23 + 4 * (count as usize + 1) > limit.bytes());
        }
    }

    fn family() -> impl Strategy<Value = Family> {
        prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)]
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_is_received(
            (codec, family, attributes, routes) in (arbitrary::codec(), family())
                .prop_flat_map(|(codec, family)| {
                    let paths = codec.add_path_out;
                    let codec = Codec { add_path_in: paths, families: [true; 2], ..codec };
                    let routes = arbitrary::nlri(family, paths[family.index()]);
                    let attributes = arbitrary::attributes(family, codec);
                    (Just(codec), Just(family), attributes, vec(routes, 0..400))
                }),
        ) {
            // Only paths of hundreds of hops are too long.
            let Ok(block) = AttributeBlock::new(&attributes, family, &codec) else {
                prop_assert!(attributes.as_path.hop_count() > 99);
                return Ok(());
            };
            let mut out = Vec::new();
            let mut packer = UpdatePacker::new(&mut out, &codec);
            packer.announce(&block, routes.iter().copied());
            packer.withdraw(family, routes.iter().copied());
            let announced: Vec<_> = routes.iter().map(|nlri| (attributes.clone(), *nlri)).collect();
            prop_assert_eq!(received(&out, &codec), (routes, announced));
        }

        #[test]
        fn what_found_no_room_follows_when_there_is_some(
            rooms in vec(0_usize..400, 1..40),
            count in 0_u32..300,
        ) {
            let routes = || (0..count).map(|number| {
                let network = std::net::Ipv4Addr::from_bits(number << 8);
                Nlri::from(nvgate_model::Prefix::containing(network.into(), 24).unwrap())
            });
            let attributes = Attributes::originated("192.0.2.1".parse().unwrap(), Origin::Igp);
            let block = AttributeBlock::new(&attributes, Family::Ipv4Unicast, &codec()).unwrap();
            let (mut out, mut told, mut gone) = (Vec::new(), 0, 0);
            for room in rooms {
                let before = out.len();
                let mut packer = UpdatePacker::within(&mut out, &codec(), room);
                let rest = told;
                told += packer.announce(&block, routes().skip(told));
                gone += packer.withdraw(Family::Ipv4Unicast, routes().skip(gone));
                prop_assert!(out.len() <= before + room);
                prop_assert!(told > rest || told == count as usize || room < 60);
            }
            let (withdrawn, announced) = received(&out, &codec());
            prop_assert_eq!(withdrawn, routes().take(gone).collect::<Vec<_>>());
            let announced: Vec<Nlri> = announced.into_iter().map(|(_, nlri)| nlri).collect();
            prop_assert_eq!(announced, routes().take(told).collect::<Vec<_>>());
        }
    }
}
