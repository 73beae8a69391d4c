mod faults;

use std::net::Ipv4Addr;

use nvgate_model::Asn;
use proptest::prelude::*;

use super::*;
use crate::as_path::{AsnWidth, InvalidAsPath};
use crate::attributes::{Aggregator, UnknownAttribute};
use crate::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::notification::Notification;
use crate::origin::Origin;
use crate::wire::{MessageLimit, NeighborKind, exercise};

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xFB, 0xF0];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const NLRI: &[u8] = &[24, 198, 51, 100];
/// 2001:db8::/32 via 2001:db8::1.
const REACH: &[u8] = &[
    0x80, 14, 26, 0, 2, 1, 16, 0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20,
    1, 0xD, 0xB8,
];
/// 2001:db8::/32.
const UNREACH: &[u8] = &[0x80, 15, 8, 0, 2, 1, 32, 0x20, 1, 0xD, 0xB8];

fn codec(neighbor: NeighborKind) -> Codec {
    Codec {
        asn_width: AsnWidth::Four,
        families: [true; 2],
        ipv6_next_hop: true,
        ..Codec::initial(neighbor)
    }
}

fn external() -> Codec {
    codec(NeighborKind::External)
}

fn internal() -> Codec {
    codec(NeighborKind::Internal)
}

fn body(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let lengths = [withdrawn.len(), attributes.len()].map(|length| (length as u16).to_be_bytes());
    [&lengths[0][..], withdrawn, &lengths[1], &attributes, nlri].concat()
}

/// What an UPDATE says, to be compared as a whole.
#[derive(PartialEq, Debug, Default)]
struct Said {
    withdrawn: Vec<String>,
    announced: Vec<(String, Vec<String>)>,
    defects: Vec<(u8, AttributeFault)>,
    reaction: Option<Reaction>,
    end_of_rib: Option<Family>,
    foreign: Option<AfiSafi>,
}

fn said(body: &[u8], codec: &Codec) -> Result<Said, Notification> {
    let update = decode(body, codec).map_err(|reset| reset.notification)?;
    assert_eq!(update.defect_count() as usize, update.defects().len());
    Ok(Said {
        withdrawn: update.withdrawn().map(|nlri| nlri.to_string()).collect(),
        announced: update
            .announced()
            .map(|group| {
                let routes = group.routes.map(|nlri| nlri.to_string()).collect();
                (group.attributes.next_hop.to_string(), routes)
            })
            .collect(),
        defects: update
            .defects()
            .iter()
            .map(|defect| (defect.code.0, defect.fault.clone()))
            .collect(),
        reaction: update.reaction(),
        end_of_rib: update.end_of_rib(),
        foreign: update.foreign_family(),
    })
}

/// The attributes of one IPv4 route that came with these beside the mandatory ones, and what was
/// wrong.
fn beside(attributes: &[u8], codec: &Codec) -> (Option<Attributes>, Vec<(u8, AttributeFault)>) {
    let body = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, attributes], NLRI);
    let update = decode(&body, codec).expect("the session stays");
    let attributes = update.announced().next().map(|group| group.attributes.clone());
    let withdrawn: Vec<String> = update.withdrawn().map(|nlri| nlri.to_string()).collect();
    match attributes {
        Some(_) => assert_eq!(
            (withdrawn, update.reaction() <= Some(Reaction::DiscardAttribute)),
            (vec![], true)
        ),
        None => {
            assert_eq!(withdrawn, ["198.51.100.0/24"]);
            assert_eq!(update.reaction(), Some(Reaction::TreatAsWithdraw));
        }
    }
    let defects = update.defects().iter().map(|defect| (defect.code.0, defect.fault.clone()));
    (attributes, defects.collect())
}

fn plain() -> Attributes {
    let mut attributes = Attributes::originated("192.0.2.1".parse().unwrap(), Origin::Igp);
    attributes.as_path = "64496".parse().unwrap();
    attributes
}

fn changed(change: impl FnOnce(&mut Attributes)) -> Attributes {
    let mut attributes = plain();
    change(&mut attributes);
    attributes
}

#[test]
fn routes_are_withdrawn_and_announced_by_both_forms_in_one_message() {
    let bytes = body(&[8, 10], &[REACH, ORIGIN, AS_PATH, NEXT_HOP, UNREACH], NLRI);
    let expected = Said {
        withdrawn: vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()],
        announced: vec![
            ("192.0.2.1".to_owned(), vec!["198.51.100.0/24".to_owned()]),
            ("2001:db8::1".to_owned(), vec!["2001:db8::/32".to_owned()]),
        ],
        ..Said::default()
    };
    assert_eq!(said(&bytes, &external()), Ok(expected));
}

#[test]
fn every_attribute_is_read() {
    for (bytes, expected) in [
        (&[][..], plain()),
        (&[0x80, 4, 4, 0, 0, 1, 0], changed(|it| it.med = Some(256))),
        (&[0x40, 5, 4, 0, 0, 0, 200], changed(|it| it.local_preference = Some(200))),
        (&[0x40, 6, 0], changed(|it| it.atomic_aggregate = true)),
        (
            &[0xC0, 7, 8, 0, 1, 0, 0, 10, 0, 0, 1],
            changed(|it| {
                let router_id = Ipv4Addr::new(10, 0, 0, 1);
                let aggregator = Aggregator { asn: Asn(65_536), router_id };
                it.edit_rare(|rare| rare.aggregator = Some(aggregator));
            }),
        ),
        (
            &[0xC0, 8, 8, 0, 2, 0, 1, 0, 1, 0, 2],
            changed(|it| {
                it.communities = [Community::new(1, 2), Community::new(2, 1)].into_iter().collect();
            }),
        ),
        (
            &[0x80, 9, 4, 10, 0, 0, 1],
            changed(|it| {
                it.edit_rare(|rare| rare.originator_id = Some(Ipv4Addr::new(10, 0, 0, 1)))
            }),
        ),
        (
            &[0x80, 10, 8, 9, 9, 9, 9, 8, 8, 8, 8],
            changed(|it| {
                let clusters = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(8, 8, 8, 8)];
                it.edit_rare(|rare| rare.cluster_list = clusters.into());
            }),
        ),
        (
            &[0xC0, 16, 8, 0, 2, 0xFB, 0xF0, 0, 0, 0, 1],
            changed(|it| {
                let community = ExtendedCommunity([0, 2, 0xFB, 0xF0, 0, 0, 0, 1]);
                it.edit_rare(|rare| rare.extended_communities = [community].into_iter().collect());
            }),
        ),
        (
            &[0xC0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
            changed(|it| {
                let community = LargeCommunity { global: Asn(1), local_1: 2, local_2: 3 };
                it.edit_rare(|rare| rare.large_communities = [community].into_iter().collect());
            }),
        ),
        (
            &[0xC0, 35, 4, 0, 0, 0xFB, 0xF1],
            changed(|it| it.edit_rare(|rare| rare.only_to_customer = Some(Asn(64_497)))),
        ),
    ] {
        assert_eq!(beside(bytes, &internal()), (Some(expected), vec![]), "{bytes:?}");
    }
}

#[test]
fn a_set_in_the_path_is_accepted_if_the_codec_says_so() {
    let codec = Codec { accept_as_set: true, ..external() };
    let path = [0x40, 2, 6, 1, 1, 0, 0, 0xFB, 0xF0];
    let bytes = body(&[], &[ORIGIN, &path, NEXT_HOP], NLRI);
    let update = decode(&bytes, &codec).unwrap();
    let paths: Vec<String> =
        update.announced().map(|group| group.attributes.as_path.to_string()).collect();
    assert_eq!((paths, update.reaction()), (vec!["{64496}".to_owned()], None));
}

#[test]
fn next_hop_is_not_looked_at_without_routes_of_its_own() {
    let bytes = body(&[], &[REACH, ORIGIN, AS_PATH, &[0x40, 3, 4, 0, 0, 0, 0]], &[]);
    let expected = Said {
        announced: vec![("2001:db8::1".to_owned(), vec!["2001:db8::/32".to_owned()])],
        ..Said::default()
    };
    assert_eq!(said(&bytes, &external()), Ok(expected));
}

#[test]
fn unknown_attributes_are_kept_dropped_or_fatal_by_their_flags() {
    let unknown = |code: u8, value: &[u8]| UnknownAttribute {
        code: AttributeCode(code),
        value: value.into(),
    };
    // 99 before 26 (AIGP, non-transitive) before 36, of no length, with the partial flag.
    let bytes = [0xC0, 99, 2, 7, 8, 0x80, 26, 1, 0, 0xF0, 36, 0, 0];
    let expected = changed(|it| {
        it.edit_rare(|rare| rare.unknown = [unknown(36, &[]), unknown(99, &[7, 8])].into());
    });
    assert_eq!(beside(&bytes, &external()), (Some(expected), vec![]));

    for flags in [0x40, 0x00, 0x60] {
        let attribute = [flags, 99, 1, 7];
        let bytes = body(&[], &[ORIGIN, &attribute, AS_PATH, NEXT_HOP], NLRI);
        let reason = NotificationReason::UnrecognizedWellKnownAttribute;
        assert_eq!(said(&bytes, &external()), Err(Notification::new(reason, &attribute)));
    }
}

#[test]
fn the_partial_flag_stays_with_the_attribute() {
    let (attributes, defects) = beside(&[0xE0, 8, 4, 0, 1, 0, 1], &external());
    let partial = attributes.unwrap().partial;
    assert!(partial.contains(AttributeCode::COMMUNITIES) && defects.is_empty());
    let (attributes, _) = beside(&[0xC0, 8, 4, 0, 1, 0, 1], &external());
    assert!(!attributes.unwrap().partial.contains(AttributeCode::COMMUNITIES));
}

#[test]
fn end_of_rib_is_the_message_without_routes() {
    let said = |bytes: &[u8], codec: &Codec| said(bytes, codec).unwrap();
    let end = |family| Said { end_of_rib: Some(family), ..Said::default() };
    let unreach = |afi: u8, safi: u8| body(&[], &[&[0x80, 15, 3, 0, afi, safi]], &[]);
    let none = body(&[], &[], &[]);
    assert_eq!(said(&none, &external()), end(Family::Ipv4Unicast));
    assert_eq!(said(&unreach(2, 1), &external()), end(Family::Ipv6Unicast));
    assert_eq!(said(&unreach(1, 1), &external()), end(Family::Ipv4Unicast));

    let foreign = AfiSafi { afi: 2, safi: 128 };
    let expected = Said { foreign: Some(foreign), ..Said::default() };
    assert_eq!(said(&unreach(2, 128), &external()), expected);
    let only_ipv6 = Codec { families: [false, true], ..external() };
    assert_eq!(said(&none, &only_ipv6), Said::default());
    for other in [
        body(&[8, 10], &[], &[]),
        body(&[], &[UNREACH], &[]),
        body(&[], &[&[0x80, 15, 3, 0, 2, 1], ORIGIN], &[]),
        body(&[8, 10], &[&[0x80, 15, 3, 0, 2, 1]], &[]),
    ] {
        assert_eq!(said(&other, &external()).end_of_rib, None, "{other:?}");
    }
}

#[test]
fn families_that_were_not_negotiated_are_ignored() {
    let only_ipv4 = Codec { families: [true, false], ..external() };
    let bytes = body(&[], &[REACH, ORIGIN, AS_PATH, NEXT_HOP], NLRI);
    let expected = Said {
        announced: vec![("192.0.2.1".to_owned(), vec!["198.51.100.0/24".to_owned()])],
        foreign: Some(Family::Ipv6Unicast.afi_safi()),
        ..Said::default()
    };
    assert_eq!(said(&bytes, &only_ipv4), Ok(expected));
    let only_ipv6 = Codec { families: [false, true], ..external() };
    let expected = Said {
        announced: vec![("2001:db8::1".to_owned(), vec!["2001:db8::/32".to_owned()])],
        foreign: Some(Family::Ipv4Unicast.afi_safi()),
        ..Said::default()
    };
    assert_eq!(said(&bytes, &only_ipv6), Ok(expected));
    // Nothing is known of a next hop or NLRI of VPN routes, and nothing is missing for them.
    let vpn = body(&[], &[&[0x80, 14, 7, 0, 1, 128, 1, 9, 0, 200]], &[]);
    let foreign = Some(AfiSafi { afi: 1, safi: 128 });
    assert_eq!(said(&vpn, &external()), Ok(Said { foreign, ..Said::default() }));
}

#[test]
fn ipv6_next_hops_have_16_or_32_bytes_and_ipv4_routes_only_where_negotiated() {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let reach = |afi: u8, next_hop: &[u8], nlri: &[u8]| {
        let value = [&[0, afi, 1, next_hop.len() as u8], next_hop, &[0], nlri].concat();
        [&[0x80, 14, value.len() as u8][..], &value].concat()
    };
    let global = address("2001:db8::1");
    let local = address("fe80::1");
    let found = |reach: &[u8], codec: &Codec| {
        let bytes = body(&[], &[reach, ORIGIN, AS_PATH], &[]);
        let update = decode(&bytes, codec).map_err(|reset| reset.notification.reason)?;
        let group = update.announced().next().expect("a route");
        let link_local = group.attributes.rare().and_then(|rare| rare.link_local_next_hop);
        let link_local = link_local.map(|address| address.to_string());
        Ok((group.attributes.next_hop.to_string(), link_local))
    };
    let both = [global, local].concat();
    for (afi, next_hop, expected, link_local) in [
        (2, &global[..], "2001:db8::1", None),
        (2, &both, "2001:db8::1", Some("fe80::1")),
        (2, &local, "fe80::1", None),
        (2, &[global, [0; 16]].concat(), "2001:db8::1", None),
        (2, &[[0; 16], local].concat(), "fe80::1", None),
        (1, &[192, 0, 2, 1], "192.0.2.1", None),
        (1, &global, "2001:db8::1", None),
        (1, &both, "2001:db8::1", Some("fe80::1")),
    ] {
        let expected = (expected.to_owned(), link_local.map(str::to_owned));
        assert_eq!(found(&reach(afi, next_hop, &[8, 10]), &external()), Ok(expected));
    }
    let without = Codec { ipv6_next_hop: false, ..external() };
    for (afi, next_hop, codec) in [
        (1, &global[..], &without),
        (1, &both, &without),
        (2, &[192, 0, 2, 1], &external()),
        (2, &global[..15], &external()),
        (2, &[0; 48], &external()),
    ] {
        let expected = Err(NotificationReason::OptionalAttribute);
        assert_eq!(found(&reach(afi, next_hop, &[8, 10]), codec), expected);
    }
}

#[test]
fn path_identifiers_are_read_where_they_were_agreed_by_family() {
    let codec = Codec { add_path_in: [true, false], ..external() };
    let bytes = body(&[0, 0, 0, 1, 8, 10], &[REACH, ORIGIN, AS_PATH, NEXT_HOP], &[0, 0, 0, 2, 0]);
    let expected = Said {
        withdrawn: vec!["10.0.0.0/8 path 1".to_owned()],
        announced: vec![
            ("192.0.2.1".to_owned(), vec!["0.0.0.0/0 path 2".to_owned()]),
            ("2001:db8::1".to_owned(), vec!["2001:db8::/32".to_owned()]),
        ],
        ..Said::default()
    };
    assert_eq!(said(&bytes, &codec), Ok(expected));
    let expected = Notification::new(NotificationReason::InvalidNetworkField, &[]);
    let short = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &[24, 198, 51, 100]);
    assert_eq!(said(&short, &codec), Err(expected));
}

/// RFC 6793 section 4.2.3.
#[test]
fn what_has_four_octets_is_joined_with_what_has_two() {
    let codec = Codec { asn_width: AsnWidth::Two, ..external() };
    let two = [0x40, 2, 8, 2, 3, 0, 1, 0x5B, 0xA0, 0x5B, 0xA0];
    let four = [0xC0, 17, 10, 2, 2, 0, 1, 0, 0, 0, 1, 0, 1];
    let aggregator = |asn: u8| {
        [0xC0, 7, 6, if asn == 0 { 0x5B } else { 0 }, if asn == 0 { 0xA0 } else { asn }, 9, 9, 9, 9]
    };
    let four_aggregator = [0xC0, 18, 8, 0, 1, 0, 2, 8, 8, 8, 8];
    let joined = |attributes: &[&[u8]]| {
        let attributes = [&[ORIGIN, &two, NEXT_HOP], attributes].concat();
        let bytes = body(&[], &attributes, NLRI);
        let update = decode(&bytes, &codec).unwrap();
        let defects: Vec<u8> = update.defects().iter().map(|defect| defect.code.0).collect();
        let group = update.announced().next()?;
        let aggregator = group.attributes.rare().and_then(|rare| rare.aggregator);
        let aggregator = aggregator.map(|it| (it.asn.0, it.router_id.octets()[0]));
        Some((group.attributes.as_path.to_string(), aggregator, defects))
    };
    let path = |text: &str, aggregator, defects: &[u8]| {
        Some((text.to_owned(), aggregator, defects.to_vec()))
    };
    assert_eq!(joined(&[]), path("1 23456 23456", None, &[]));
    assert_eq!(joined(&[&four]), path("1 65536 65537", None, &[]));
    assert_eq!(joined(&[&four, &aggregator(7)]), path("1 65536 65537", Some((7, 9)), &[]));
    assert_eq!(
        joined(&[&four, &aggregator(0), &four_aggregator]),
        path("1 65536 65537", Some((65_538, 8)), &[])
    );
    // Someone on the way aggregated anew and knew nothing of four octets.
    assert_eq!(
        joined(&[&four, &aggregator(7), &four_aggregator]),
        path("1 23456 23456", Some((7, 9)), &[])
    );
    assert_eq!(joined(&[&four_aggregator]), path("1 23456 23456", None, &[]));
    // Malformed ones are discarded, longer ones too, confederations taken out, sets not accepted.
    assert_eq!(joined(&[&[0xC0, 17, 3, 2, 1, 0]]), path("1 23456 23456", None, &[17]));
    assert_eq!(joined(&[&[0xC0, 17, 6, 2, 1, 0, 0, 0, 0]]), path("1 23456 23456", None, &[17]));
    assert_eq!(joined(&[&[0xC0, 18, 6, 0, 1, 9, 9, 9, 9]]), path("1 23456 23456", None, &[18]));
    let longer = [0xC0, 17, 18, 2, 4, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0];
    assert_eq!(joined(&[&longer]), path("1 23456 23456", None, &[]));
    let confederation = [0xC0, 17, 16, 3, 1, 0, 0, 0, 9, 2, 2, 0, 1, 0, 0, 0, 1, 0, 1];
    assert_eq!(joined(&[&confederation]), path("1 65536 65537", None, &[]));
    assert_eq!(joined(&[&[0xC0, 17, 6, 1, 1, 0, 1, 0, 0]]), None);
    assert_eq!(joined(&[&[0xC0, 17, 6, 4, 1, 0, 1, 0, 0]]), None);
}

/// An UPDATE with every attribute and both families, framed.
fn everything() -> Vec<u8> {
    let attributes: &[&[u8]] = &[
        REACH,
        ORIGIN,
        AS_PATH,
        NEXT_HOP,
        &[0x80, 4, 4, 0, 0, 1, 0],
        &[0x40, 5, 4, 0, 0, 0, 200],
        &[0x40, 6, 0],
        &[0xC0, 7, 8, 0, 1, 0, 0, 10, 0, 0, 1],
        &[0xE0, 8, 8, 0, 2, 0, 1, 0, 1, 0, 2],
        &[0x80, 9, 4, 10, 0, 0, 1],
        &[0x80, 10, 8, 9, 9, 9, 9, 8, 8, 8, 8],
        UNREACH,
        &[0xC0, 16, 8, 0, 2, 0xFB, 0xF0, 0, 0, 0, 1],
        &[0xC0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
        &[0xC0, 35, 4, 0, 0, 0xFB, 0xF1],
        &[0xD0, 99, 0, 2, 7, 8],
    ];
    let body = body(&[8, 10, 9, 10, 0x80], attributes, &[24, 198, 51, 100, 0]);
    let mut bytes = Vec::new();
    let start = crate::wire::header::begin(crate::wire::MessageType::Update, &mut bytes);
    bytes.extend_from_slice(&body);
    crate::wire::header::end(start, &mut bytes);
    bytes
}

#[test]
fn every_change_of_one_byte_is_understood_or_answered() {
    let bytes = everything();
    for choice in [[0, 0], [0xFF, 0xFF], [0x80, 1], [0x84, 1], [3, 0]] {
        for at in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut changed = [&choice[..], &bytes].concat();
                changed[at + 2] = value;
                exercise(&changed);
            }
        }
    }
    let whole = crate::wire::frame(&bytes, MessageLimit::Standard).unwrap().unwrap();
    let update = decode(whole.body(), &internal()).unwrap();
    assert_eq!((update.defects(), update.announced().count()), (&[][..], 2));
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_answered(body: Vec<u8>, choice: [u8; 2], kind in 1_u8..6) {
        let length = (19 + body.len() as u16).to_be_bytes();
        let header = [&[0xFF; 16][..], &length, &[kind]].concat();
        exercise(&[&choice[..], &header, &body].concat());
    }

    #[test]
    fn several_changes_of_a_message_are_understood_or_answered(
        changes in proptest::collection::vec((19_usize..200, any::<u8>()), 1..6),
        choice: [u8; 2],
    ) {
        let mut bytes = everything();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        exercise(&[&choice[..], &bytes].concat());
    }
}
