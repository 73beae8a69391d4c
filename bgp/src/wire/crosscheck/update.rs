//! UPDATE: every attribute, routes announced and withdrawn, in both families, with and without path
//! identifiers, with AS numbers of two and of four octets.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other codec knows more than is spoken here"
)]

use std::net::IpAddr;

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::nlri::{Ipv4Unicast, Ipv4UnicastAddress, Ipv6Unicast, Ipv6UnicastAddress};
use netgauze_bgp_pkt::path_attribute::{
    Aggregator as TheirAggregator, As4PathSegment, AsPath as TheirAsPath, AsPathSegmentType,
    MpReach, MpUnreach, PathAttribute, PathAttributeValue,
};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_parse_utils::WritablePdu;
use nvgate_model::{Asn, Prefix};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{theirs, written};
use crate::as_path::{AsPath, AsnWidth};
use crate::attribute_code::AttributeCode;
use crate::attributes::{Aggregator, Attributes, RareAttributes, UnknownAttribute};
use crate::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::family::Family;
use crate::nlri::{Nlri, PathId};
use crate::origin::Origin;
use crate::wire::exercise::received;
use crate::wire::{AttributeBlock, Codec, MessageLimit, UpdatePacker, arbitrary};

/// Attributes that are unknown here, and that the other codec looks into.
const LOOKED_INTO: [u8; 4] = [25, 26, 29, 40];

/// What the other codec found in an UPDATE.
struct Found {
    withdrawn: Vec<Nlri>,
    announced: Vec<Nlri>,
    attributes: Attributes,
    as4_path: Option<AsPath>,
}

impl Found {
    fn in_update(update: &BgpUpdateMessage) -> Self {
        let mut found = Self {
            withdrawn: update.withdraw_routes().iter().map(ipv4).collect(),
            announced: update.nlri().iter().map(ipv4).collect(),
            attributes: Attributes::originated(IpAddr::from([0; 4]), Origin::Incomplete),
            as4_path: None,
        };
        for attribute in update.path_attributes() {
            found.take(attribute);
        }
        found
    }

    fn take(&mut self, attribute: &PathAttribute) {
        let code =
            AttributeCode(attribute.path_attribute_type().map_or_else(|code| code, u8::from));
        let attributes = &mut self.attributes;
        if attribute.partial() {
            attributes.partial.insert(code);
        }
        match attribute.value() {
            PathAttributeValue::Origin(origin) => {
                attributes.origin = Origin::from_wire(u8::from(*origin)).unwrap();
            }
            PathAttributeValue::AsPath(path) => attributes.as_path = as_path(path),
            PathAttributeValue::As4Path(path) => self.as4_path = Some(segments(path.segments())),
            PathAttributeValue::NextHop(hop) => attributes.next_hop = hop.next_hop().into(),
            PathAttributeValue::MultiExitDiscriminator(med) => attributes.med = Some(med.metric()),
            PathAttributeValue::LocalPreference(preference) => {
                attributes.local_preference = Some(preference.metric());
            }
            PathAttributeValue::AtomicAggregate(_) => attributes.atomic_aggregate = true,
            PathAttributeValue::Communities(communities) => {
                let communities = communities.communities().iter();
                attributes.communities = communities.map(|one| Community(one.value())).collect();
            }
            PathAttributeValue::MpReach(reach) => self.reach(reach),
            PathAttributeValue::MpUnreach(unreach) => self.unreach(unreach),
            value => attributes.edit_rare(|rare| take_rare(value, code, rare)),
        }
    }

    fn reach(&mut self, reach: &MpReach) {
        let (next_hop, link_local) = match reach {
            MpReach::Ipv4Unicast { next_hop, next_hop_local, nlri } => {
                self.announced.extend(nlri.iter().map(ipv4));
                (*next_hop, *next_hop_local)
            }
            MpReach::Ipv6Unicast { next_hop_global, next_hop_local, nlri } => {
                self.announced.extend(nlri.iter().map(ipv6));
                ((*next_hop_global).into(), *next_hop_local)
            }
            other => panic!("{other:?} was not sent"),
        };
        self.attributes.next_hop = next_hop;
        self.attributes.edit_rare(|rare| rare.link_local_next_hop = link_local);
    }

    fn unreach(&mut self, unreach: &MpUnreach) {
        match unreach {
            MpUnreach::Ipv4Unicast { nlri } => self.withdrawn.extend(nlri.iter().map(ipv4)),
            MpUnreach::Ipv6Unicast { nlri } => self.withdrawn.extend(nlri.iter().map(ipv6)),
            other => panic!("{other:?} was not sent"),
        }
    }
}

fn take_rare(value: &PathAttributeValue, code: AttributeCode, rare: &mut RareAttributes) {
    match value {
        PathAttributeValue::Aggregator(TheirAggregator::As2Aggregator(two)) => {
            let asn = Asn(u32::from(*two.asn()));
            rare.aggregator = Some(Aggregator { asn, router_id: two.origin() });
        }
        PathAttributeValue::Aggregator(TheirAggregator::As4Aggregator(four)) => {
            rare.aggregator = Some(Aggregator { asn: Asn(*four.asn()), router_id: four.origin() });
        }
        PathAttributeValue::ExtendedCommunities(communities) => {
            let bytes = |one: &netgauze_bgp_pkt::community::ExtendedCommunity| {
                let mut bytes = Vec::new();
                one.write(&mut bytes).unwrap();
                ExtendedCommunity(bytes.try_into().unwrap())
            };
            rare.extended_communities = communities.communities().iter().map(bytes).collect();
        }
        PathAttributeValue::LargeCommunities(communities) => {
            let parts = |one: &netgauze_bgp_pkt::community::LargeCommunity| LargeCommunity {
                global: Asn(one.global_admin()),
                local_1: one.local_data1(),
                local_2: one.local_data2(),
            };
            rare.large_communities = communities.communities().iter().map(parts).collect();
        }
        PathAttributeValue::Originator(originator) => rare.originator_id = Some(originator.id()),
        PathAttributeValue::ClusterList(clusters) => {
            rare.cluster_list = clusters.cluster_list().iter().map(|one| one.id()).collect();
        }
        PathAttributeValue::OnlyToCustomer(otc) => rare.only_to_customer = Some(Asn(otc.asn())),
        PathAttributeValue::UnknownAttribute(unknown) => {
            let value = unknown.value().into();
            let mut all = std::mem::take(&mut rare.unknown).into_vec();
            all.push(UnknownAttribute { code, value });
            rare.unknown = all.into();
        }
        other => panic!("{other:?} was not sent"),
    }
}

fn as_path(path: &TheirAsPath) -> AsPath {
    match path {
        TheirAsPath::As4PathSegments(four) => segments(four),
        TheirAsPath::As2PathSegments(two) => {
            let wide: Vec<As4PathSegment> = two
                .iter()
                .map(|segment| {
                    let numbers = segment.as_numbers().iter().copied().map(u32::from);
                    As4PathSegment::new(segment.segment_type(), numbers.collect::<Vec<_>>())
                })
                .collect();
            segments(&wide)
        }
    }
}

/// By way of the text, so that no bytes of ours are in between.
fn segments(segments: &[As4PathSegment]) -> AsPath {
    let text = segments.iter().map(|segment| {
        let numbers: Vec<String> = segment.as_numbers().iter().map(u32::to_string).collect();
        match segment.segment_type() {
            AsPathSegmentType::AsSequence => numbers.join(" "),
            AsPathSegmentType::AsSet => format!("{{{}}}", numbers.join(",")),
        }
    });
    text.collect::<Vec<_>>().join(" ").parse().unwrap()
}

fn ipv4(route: &Ipv4UnicastAddress) -> Nlri {
    let net = route.network().address();
    nlri(net.addr().into(), net.prefix_len(), route.path_id())
}

fn ipv6(route: &Ipv6UnicastAddress) -> Nlri {
    let net = route.network().address();
    nlri(net.addr().into(), net.prefix_len(), route.path_id())
}

fn nlri(address: IpAddr, length: u8, path_id: Option<u32>) -> Nlri {
    let prefix = Prefix::new(address, length).unwrap();
    Nlri { prefix, path_id: path_id.map(PathId) }
}

/// Whether the other codec takes the prefix for one of unicast.
fn is_unicast(nlri: &Nlri) -> bool {
    let text = nlri.prefix.to_string();
    match nlri.family() {
        Family::Ipv4Unicast => Ipv4Unicast::from_net(text.parse().unwrap()).is_ok(),
        Family::Ipv6Unicast => Ipv6Unicast::from_net(text.parse().unwrap()).is_ok(),
    }
}

/// What both ends agree on, in reach of the other codec.
fn codec() -> impl Strategy<Value = Codec> {
    arbitrary::codec().prop_map(|codec| Codec {
        max_message: MessageLimit::Standard,
        families: [true; 2],
        add_path_out: codec.add_path_in,
        ..codec
    })
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)]
}

type Case = (Codec, Family, Attributes, Vec<Nlri>);

fn case() -> impl Strategy<Value = Case> {
    (codec(), family()).prop_flat_map(|(codec, family)| {
        let paths = codec.add_path_out[family.index()];
        let routes = vec(arbitrary::nlri(family, paths).prop_filter("unicast", is_unicast), 1..60);
        (Just(codec), Just(family), arbitrary::attributes(family, codec), routes)
    })
}

/// Each message in the bytes, as the other codec has it.
fn messages(mut bytes: &[u8], codec: &Codec) -> Vec<BgpMessage> {
    let mut messages = Vec::new();
    while let Ok(Some(whole)) = crate::wire::frame(bytes, codec.max_message) {
        messages.push(theirs(whole.bytes(), codec));
        bytes = &bytes[whole.bytes().len()..];
    }
    assert!(bytes.is_empty());
    messages
}

proptest! {
    #[test]
    fn announced_routes_mean_the_same_to_both((codec, family, mut attributes, routes) in case()) {
        attributes.edit_rare(|rare| {
            let kept = rare.unknown.iter().filter(|one| !LOOKED_INTO.contains(&one.code.0));
            rare.unknown = kept.cloned().collect();
        });
        attributes.partial.remove(AttributeCode::ONLY_TO_CUSTOMER);
        let Ok(block) = AttributeBlock::new(&attributes, family, &codec) else { return Ok(()) };
        let mut bytes = Vec::new();
        UpdatePacker::new(&mut bytes, &codec).announce(&block, routes.iter().copied());
        let (mut announced, mut again) = (Vec::new(), Vec::new());
        for message in messages(&bytes, &codec) {
            let BgpMessage::Update(update) = &message else { panic!("{message:?}") };
            let found = Found::in_update(update);
            prop_assert_eq!(found.withdrawn, []);
            announced.extend(found.announced);
            compare(found.attributes, found.as4_path, &attributes, &codec);
            again.extend(written(&message));
        }
        prop_assert_eq!(&announced, &routes);
        let expected: Vec<_> = routes.iter().map(|nlri| (attributes.clone(), *nlri)).collect();
        prop_assert_eq!(received(&again, &codec), (vec![], expected));
    }

    #[test]
    fn withdrawn_routes_and_ends_mean_the_same_to_both((codec, family, _, routes) in case()) {
        let mut bytes = Vec::new();
        let mut packer = UpdatePacker::new(&mut bytes, &codec);
        packer.withdraw(family, routes.iter().copied());
        let (mut withdrawn, mut again) = (Vec::new(), Vec::new());
        for message in messages(&bytes, &codec) {
            let BgpMessage::Update(update) = &message else { panic!("{message:?}") };
            let found = Found::in_update(update);
            prop_assert_eq!(found.announced, []);
            withdrawn.extend(found.withdrawn);
            again.extend(written(&message));
        }
        prop_assert_eq!(&withdrawn, &routes);
        prop_assert_eq!(received(&again, &codec), (routes, vec![]));

        let mut end = Vec::new();
        UpdatePacker::new(&mut end, &codec).end_of_rib(family);
        let message = theirs(&end, &codec);
        let BgpMessage::Update(update) = &message else { panic!("{message:?}") };
        prop_assert_eq!(update.end_of_rib(), Some(super::address_type(family.afi_safi())));
        prop_assert_eq!(written(&message), end);
    }
}

/// Compares what the other codec found with what was sent. With two octets it has both paths as
/// they came, and AS4_AGGREGATOR as bytes.
fn compare(mut found: Attributes, as4_path: Option<AsPath>, sent: &Attributes, codec: &Codec) {
    let mut expected = sent.clone();
    if codec.asn_width == AsnWidth::Two {
        let narrow = |asn: Asn| Asn(asn.in_two_octets().into());
        let is_wide = |asn: Asn| asn.0 > u32::from(u16::MAX);
        let wide = sent.as_path.numbers().any(is_wide);
        assert_eq!(as4_path, wide.then(|| sent.as_path.clone()));
        expected.as_path = sent.as_path.mapped(|asn| Some(narrow(asn)));
        expected.edit_rare(|rare| {
            if let Some(aggregator) = &mut rare.aggregator
                && is_wide(aggregator.asn)
            {
                let router_id = aggregator.router_id.octets();
                let value = [aggregator.asn.0.to_be_bytes(), router_id].concat().into();
                let mut all = std::mem::take(&mut rare.unknown).into_vec();
                all.push(UnknownAttribute { code: AttributeCode::AS4_AGGREGATOR, value });
                all.sort_unstable();
                rare.unknown = all.into();
                aggregator.asn = narrow(aggregator.asn);
            }
        });
    } else {
        assert_eq!(as4_path, None);
    }
    found.edit_rare(|rare| rare.unknown.sort_unstable());
    assert_eq!(found, expected);
}
