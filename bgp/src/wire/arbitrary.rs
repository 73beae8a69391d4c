//! Legal values for the tests of this module.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::{Asn, Prefix};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Codec, MessageLimit, NeighborKind};
use crate::as_path::{AsPath, AsnWidth};
use crate::attribute_code::AttributeCode;
use crate::attributes::{Aggregator, Attributes, Partial, RareAttributes, UnknownAttribute};
use crate::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::family::Family;
use crate::nlri::{Nlri, PathId};
use crate::origin::Origin;

pub(super) fn nlri(family: Family, path_ids: bool) -> impl Strategy<Value = Nlri> {
    (any::<u128>(), 0..=family.bits(), any::<u32>()).prop_map(move |(bits, length, path_id)| {
        let address = match family {
            Family::Ipv4Unicast => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            Family::Ipv6Unicast => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        let prefix = Prefix::containing(address, length).unwrap();
        Nlri { prefix, path_id: path_ids.then_some(PathId(path_id)) }
    })
}

pub(super) fn codec() -> impl Strategy<Value = Codec> {
    (any::<[bool; 8]>(), any::<[bool; 2]>()).prop_map(|(bits, families)| {
        let [four, extended, paths_4, paths_6, ipv6_next_hop, internal, out_4, out_6] = bits;
        Codec {
            asn_width: if four { AsnWidth::Four } else { AsnWidth::Two },
            max_message: if extended { MessageLimit::Extended } else { MessageLimit::Standard },
            add_path_in: [paths_4, paths_6],
            add_path_out: [out_4, out_6],
            families,
            ipv6_next_hop,
            neighbor: if internal { NeighborKind::Internal } else { NeighborKind::External },
            accept_as_set: true,
        }
    })
}

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1..=u32::from(u16::MAX), 1..=u32::MAX].prop_map(Asn)
}

fn as_path() -> impl Strategy<Value = AsPath> {
    let set = vec(asn(), 1..4).prop_map(|set| {
        let set: Vec<String> = set.iter().map(ToString::to_string).collect();
        format!("{{{}}}", set.join(",")).parse::<AsPath>().unwrap()
    });
    let sequence = vec(asn(), 0..600).prop_map(|numbers| AsPath::sequence(&numbers));
    let short = vec(asn(), 0..8).prop_map(|numbers| AsPath::sequence(&numbers));
    (prop_oneof![8 => short, 1 => sequence], option::weighted(0.2, set)).prop_map(
        |(sequence, set)| {
            let set = set.map_or(String::new(), |set| set.to_string());
            format!("{sequence} {set}").parse().unwrap()
        },
    )
}

pub(super) fn next_hop(family: Family, ipv6: bool) -> BoxedStrategy<IpAddr> {
    let v6 = any::<u64>()
        .prop_map(|low| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0DB8 << 96 | u128::from(low))));
    let v4 = (1_u8..224, any::<[u8; 3]>()).prop_map(|(first, [b, c, d])| {
        IpAddr::V4(Ipv4Addr::new(if first == 127 { 126 } else { first }, b, c, d))
    });
    match (family, ipv6) {
        (Family::Ipv6Unicast, _) => v6.boxed(),
        (Family::Ipv4Unicast, false) => v4.boxed(),
        (Family::Ipv4Unicast, true) => prop_oneof![v4, v6].boxed(),
    }
}

/// A value in some of the cases where there may be one.
fn sometimes<S: Strategy>(possible: bool, value: S) -> impl Strategy<Value = Option<S::Value>> {
    option::weighted(0.3, value).prop_map(move |value| value.filter(|_| possible))
}

fn rare(codec: Codec, ipv6_next_hop: bool) -> impl Strategy<Value = RareAttributes> {
    let internal = codec.neighbor == NeighborKind::Internal;
    let link_local =
        any::<u64>().prop_map(|low| Ipv6Addr::from_bits(0xFE80 << 112 | u128::from(low)));
    let aggregator =
        (asn(), any::<Ipv4Addr>()).prop_map(|(asn, router_id)| Aggregator { asn, router_id });
    let large = any::<[u8; 12]>().prop_map(LargeCommunity::from_wire);
    let unknown = (36_u8..=255, vec(any::<u8>(), 0..300)).prop_map(|(code, value)| {
        // Some of them between those that are known.
        let code = AttributeCode(if code % 5 == 0 { 20 + code % 12 } else { code });
        UnknownAttribute { code, value: value.into_boxed_slice() }
    });
    (
        sometimes(ipv6_next_hop, link_local),
        sometimes(true, aggregator),
        vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..4),
        vec(large, 0..4),
        sometimes(internal, any::<Ipv4Addr>()),
        vec(any::<Ipv4Addr>(), 0..if internal { 4 } else { 1 }),
        sometimes(true, any::<u32>().prop_map(Asn)),
        vec(unknown, 0..4),
    )
        .prop_map(
            |(link_local, aggregator, extended, large, originator, clusters, otc, unknown)| {
                let mut unknown = unknown;
                unknown.sort_unstable();
                unknown.dedup_by_key(|attribute| attribute.code);
                RareAttributes {
                    link_local_next_hop: link_local,
                    aggregator,
                    extended_communities: extended.into_iter().collect(),
                    large_communities: large.into_iter().collect(),
                    originator_id: originator,
                    cluster_list: clusters.into_boxed_slice(),
                    only_to_customer: otc,
                    unknown: unknown.into_boxed_slice(),
                }
            },
        )
}

/// Attributes that a peer with this codec may send with routes of this family.
pub(super) fn attributes(family: Family, codec: Codec) -> impl Strategy<Value = Attributes> {
    next_hop(family, codec.ipv6_next_hop).prop_flat_map(move |next_hop| {
        let internal = codec.neighbor == NeighborKind::Internal;
        (
            (0_u8..3).prop_map(|origin| Origin::from_wire(origin).unwrap()),
            as_path(),
            option::of(any::<u32>()),
            sometimes(internal, any::<u32>()),
            any::<bool>(),
            vec(any::<u32>().prop_map(Community), 0..80),
            option::of(rare(codec, next_hop.is_ipv6())),
            any::<[bool; 5]>(),
        )
            .prop_map(
                move |(origin, as_path, med, preference, atomic, communities, rare, partial)| {
                    let mut attributes = Attributes::originated(next_hop, origin);
                    attributes.as_path = as_path;
                    attributes.med = med;
                    attributes.local_preference = preference;
                    attributes.atomic_aggregate = atomic;
                    attributes.communities = communities.into_iter().collect();
                    attributes.set_rare(rare.unwrap_or_default());
                    attributes.partial = partial_of_present(&attributes, partial);
                    attributes
                },
            )
    })
}

fn partial_of_present(attributes: &Attributes, wanted: [bool; 5]) -> Partial {
    let present = [
        attributes.rare().is_some_and(|rare| rare.aggregator.is_some()),
        !attributes.communities.is_empty(),
        !attributes.extended_communities().is_empty(),
        !attributes.large_communities().is_empty(),
        attributes.only_to_customer().is_some(),
    ];
    let codes = [
        AttributeCode::AGGREGATOR,
        AttributeCode::COMMUNITIES,
        AttributeCode::EXTENDED_COMMUNITIES,
        AttributeCode::LARGE_COMMUNITIES,
        AttributeCode::ONLY_TO_CUSTOMER,
    ];
    let mut partial = Partial::default();
    for ((code, present), wanted) in codes.into_iter().zip(present).zip(wanted) {
        if present && wanted {
            partial.insert(code);
        }
    }
    partial
}
