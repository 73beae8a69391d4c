//! What the faults of UPDATEs cost: every row of RFC 7606.

use super::*;

/// RFC 7606 section 7, and RFC 6793, 8092, 9234, 7607 and 9774 for what came later.
#[test]
fn each_malformed_attribute_costs_what_its_row_says() {
    use AttributeFault::{AsPath, AsSet, Flags, Length, Value};
    let withdrawn = |code, fault| (None, vec![(code, fault)]);
    let discarded = |code, fault| (Some(plain()), vec![(code, fault)]);
    for (bytes, expected) in [
        (&[0x80, 4, 3, 0, 0, 0][..], withdrawn(4, Length(3))),
        (&[0x80, 4, 0], withdrawn(4, Length(0))),
        (&[0x40, 5, 5, 0, 0, 0, 0, 0], withdrawn(5, Length(5))),
        (&[0x40, 6, 1, 0], discarded(6, Length(1))),
        (&[0xC0, 7, 6, 0, 1, 10, 0, 0, 1], discarded(7, Length(6))),
        (&[0xC0, 7, 8, 0, 0, 0, 0, 10, 0, 0, 1], discarded(7, Value)),
        (&[0xC0, 8, 0], withdrawn(8, Length(0))),
        (&[0xC0, 8, 5, 0, 0, 0, 0, 0], withdrawn(8, Length(5))),
        (&[0x80, 9, 3, 0, 0, 0], withdrawn(9, Length(3))),
        (&[0x80, 10, 0], withdrawn(10, Length(0))),
        (&[0x80, 10, 6, 0, 0, 0, 0, 0, 0], withdrawn(10, Length(6))),
        (&[0xC0, 16, 0], withdrawn(16, Length(0))),
        (&[0xC0, 16, 7, 0, 0, 0, 0, 0, 0, 0], withdrawn(16, Length(7))),
        (&[0xC0, 32, 0], withdrawn(32, Length(0))),
        (&[0xC0, 32, 4, 0, 0, 0, 0], withdrawn(32, Length(4))),
        (&[0xC0, 35, 2, 0, 0], withdrawn(35, Length(2))),
        (&[0xC0, 4, 4, 0, 0, 0, 0], withdrawn(4, Flags(0xC0))),
        (&[0xC0, 5, 4, 0, 0, 0, 0], withdrawn(5, Flags(0xC0))),
        (&[0x80, 6, 0], withdrawn(6, Flags(0x80))),
        (&[0x80, 8, 4, 0, 0, 0, 0], withdrawn(8, Flags(0x80))),
        (&[0x40, 9, 4, 0, 0, 0, 0], withdrawn(9, Flags(0x40))),
        (&[0x80, 35, 4, 0, 0, 0, 1], withdrawn(35, Flags(0x80))),
    ] {
        assert_eq!(beside(bytes, &internal()), expected, "{bytes:?}");
    }
    let path = |value: &[u8]| [&[0x40, 2, value.len() as u8], value].concat();
    for (attributes, code, fault) in [
        ([&[0x40, 1, 1, 3], AS_PATH, NEXT_HOP], 1, Value),
        ([&[0x40, 1, 0], AS_PATH, NEXT_HOP], 1, Length(0)),
        ([&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP], 1, Length(2)),
        ([&[0xC0, 1, 1, 0], AS_PATH, NEXT_HOP], 1, Flags(0xC0)),
        ([ORIGIN, &path(&[2]), NEXT_HOP], 2, AsPath(InvalidAsPath::Underrun(0))),
        ([ORIGIN, &path(&[2, 0]), NEXT_HOP], 2, AsPath(InvalidAsPath::EmptySegment(0))),
        (
            [ORIGIN, &path(&[2, 2, 0, 0, 0, 1]), NEXT_HOP],
            2,
            AsPath(InvalidAsPath::Overrun { offset: 0, count: 2 }),
        ),
        (
            [ORIGIN, &path(&[9, 1, 0, 0, 0, 1]), NEXT_HOP],
            2,
            AsPath(InvalidAsPath::Kind { offset: 0, kind: 9 }),
        ),
        (
            [ORIGIN, &path(&[3, 1, 0, 0, 0, 1]), NEXT_HOP],
            2,
            AsPath(InvalidAsPath::Confederation(0)),
        ),
        ([ORIGIN, &path(&[2, 1, 0, 0, 0, 0]), NEXT_HOP], 2, AsPath(InvalidAsPath::Zero(0))),
        ([ORIGIN, &path(&[1, 1, 0, 0, 0, 1]), NEXT_HOP], 2, AsSet),
        ([ORIGIN, AS_PATH, &[0x40, 3, 3, 1, 2, 3]], 3, Length(3)),
        ([ORIGIN, AS_PATH, &[0x40, 3, 16]], 3, AttributeFault::Overrun),
        ([ORIGIN, AS_PATH, &[0xC0, 3, 4, 192, 0, 2, 1]], 3, Flags(0xC0)),
    ] {
        let missing = matches!(fault, AttributeFault::Overrun);
        let mut defects = vec![(code, fault)];
        if missing {
            defects.push((3, AttributeFault::Missing));
        }
        let expected = Said {
            withdrawn: vec!["198.51.100.0/24".to_owned()],
            defects,
            reaction: Some(Reaction::TreatAsWithdraw),
            ..Said::default()
        };
        let bytes = body(&[], &attributes, NLRI);
        assert_eq!(said(&bytes, &external()), Ok(expected), "{attributes:?}");
    }
}

#[test]
fn next_hops_that_cannot_be_hosts_withdraw() {
    for first in [0, 127, 224, 239, 240, 255] {
        let next_hop = [0x40, 3, 4, first, 0, 2, 1];
        let expected = Said {
            withdrawn: vec!["198.51.100.0/24".to_owned()],
            defects: vec![(3, AttributeFault::Value)],
            reaction: Some(Reaction::TreatAsWithdraw),
            ..Said::default()
        };
        let bytes = body(&[], &[ORIGIN, AS_PATH, &next_hop], NLRI);
        assert_eq!(said(&bytes, &external()), Ok(expected), "{first}");
    }
    for address in ["::", "::1", "ff02::1"] {
        let address: std::net::Ipv6Addr = address.parse().unwrap();
        let mut reach = REACH.to_vec();
        reach[7..23].copy_from_slice(&address.octets());
        let expected = Said {
            withdrawn: vec!["2001:db8::/32".to_owned()],
            defects: vec![(3, AttributeFault::Value)],
            reaction: Some(Reaction::TreatAsWithdraw),
            ..Said::default()
        };
        let bytes = body(&[], &[&reach, ORIGIN, AS_PATH], &[]);
        assert_eq!(said(&bytes, &external()), Ok(expected), "{address}");
    }
}

#[test]
fn what_is_mandatory_and_missing_withdraws() {
    for (attributes, nlri, missing) in [
        (&[AS_PATH, NEXT_HOP][..], NLRI, &[1][..]),
        (&[ORIGIN, NEXT_HOP], NLRI, &[2]),
        (&[ORIGIN, AS_PATH], NLRI, &[3]),
        (&[], NLRI, &[1, 2, 3]),
        (&[REACH], &[], &[1, 2]),
        (&[REACH, AS_PATH], &[], &[1]),
    ] {
        let said = said(&body(&[], attributes, nlri), &external()).unwrap();
        let expected = missing.iter().map(|code| (*code, AttributeFault::Missing));
        assert_eq!(said.defects, expected.collect::<Vec<_>>(), "{attributes:?}");
        assert_eq!((said.withdrawn.len(), said.announced.len()), (1, 0));
        assert_eq!(said.reaction, Some(Reaction::TreatAsWithdraw));
    }
}

#[test]
fn an_external_neighbor_has_no_say_in_what_is_internal() {
    for bytes in [
        &[0x40, 5, 4, 0, 0, 0, 200][..],
        &[0x40, 5, 1, 0],
        &[0x80, 9, 4, 10, 0, 0, 1],
        &[0x80, 9, 0],
        &[0x80, 10, 4, 10, 0, 0, 1],
        &[0x80, 10, 0],
    ] {
        let expected = (Some(plain()), vec![(bytes[1], AttributeFault::Unexpected)]);
        assert_eq!(beside(bytes, &external()), expected, "{bytes:?}");
    }
}

#[test]
fn of_repeated_attributes_the_first_counts() {
    let med = [0x80, 4, 4, 0, 0, 0, 1, 0x80, 4, 4, 0, 0, 0, 2, 0x80, 4, 1, 0];
    let expected = changed(|it| it.med = Some(1));
    let repeated = (4, AttributeFault::Repeated);
    assert_eq!(beside(&med, &external()), (Some(expected), vec![repeated.clone(), repeated]));

    let malformed_first = [0x80, 4, 1, 0, 0x80, 4, 4, 0, 0, 0, 1];
    let defects = vec![(4, AttributeFault::Length(1)), (4, AttributeFault::Repeated)];
    assert_eq!(beside(&malformed_first, &external()), (None, defects));
}

/// RFC 7606 section 4.
#[test]
fn an_attribute_that_overruns_ends_the_list_and_withdraws() {
    for (tail, code) in [
        (&[0x80][..], 0),
        (&[0x80, 4], 4),
        (&[0x90, 4, 0], 4),
        (&[0x80, 4, 4, 0, 0, 0], 4),
        (&[0xD0, 8, 1, 0, 0], 8),
    ] {
        let (attributes, defects) = beside(tail, &external());
        assert_eq!(
            (attributes, defects),
            (None, vec![(code, AttributeFault::Overrun)]),
            "{tail:?}"
        );
    }
    for code in [14, 15] {
        let bytes = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, code, 200, 0]], NLRI);
        let expected = Notification::new(NotificationReason::MalformedAttributeList, &[]);
        assert_eq!(said(&bytes, &external()), Err(expected));
    }
}

/// RFC 7606 sections 3 b, 3 g, 3 j, 5.3 and 7.11.
#[test]
fn where_routes_cannot_be_found_the_session_is_reset() {
    use NotificationReason::{InvalidNetworkField, MalformedAttributeList, OptionalAttribute};
    let list = Notification::new(MalformedAttributeList, &[]);
    for bytes in [&[][..], &[0], &[0, 1], &[0, 0], &[0, 0, 0], &[0, 1, 0, 0], &[0, 0, 0, 1]] {
        assert_eq!(said(bytes, &external()), Err(list.clone()), "{bytes:?}");
    }
    for attribute in [REACH, UNREACH] {
        let bytes = body(&[], &[attribute, attribute, ORIGIN, AS_PATH], &[]);
        assert_eq!(said(&bytes, &external()), Err(list.clone()));
    }
    let field = Notification::new(InvalidNetworkField, &[]);
    for routes in [&[33, 1, 2, 3, 4, 5][..], &[24, 1, 2], &[8]] {
        let withdrawn = body(routes, &[], &[]);
        let announced = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP], routes);
        assert_eq!(said(&withdrawn, &external()), Err(field.clone()), "{routes:?}");
        assert_eq!(said(&announced, &external()), Err(field.clone()), "{routes:?}");
    }
    let mut flags = [REACH.to_vec(), UNREACH.to_vec()];
    flags[0][0] = 0xC0;
    flags[1][0] = 0x40;
    let mut wrong = flags.to_vec();
    for value in [
        &[14, 4, 0, 2, 1, 0][..],
        &[14, 5, 0, 2, 1, 0, 0],
        &[14, 9, 0, 2, 1, 4, 192, 0, 2, 1, 0],
        &[14, 5, 0, 1, 1, 16, 0],
        &[14, 9, 0, 1, 1, 4, 192, 0, 2, 1],
        &[14, 11, 0, 1, 1, 4, 192, 0, 2, 1, 0, 33, 1],
        &[15, 2, 0, 2],
        &[15, 4, 0, 2, 1, 129],
        &[15, 5, 0, 2, 1, 16, 1],
    ] {
        let mut attribute = [&[0x80], value].concat();
        attribute[2] = attribute.len() as u8 - 3;
        wrong.push(attribute);
    }
    for attribute in wrong {
        let bytes = body(&[], &[&attribute, ORIGIN, AS_PATH, NEXT_HOP], NLRI);
        let expected = Notification::new(OptionalAttribute, &attribute);
        assert_eq!(said(&bytes, &external()), Err(expected), "{attribute:?}");
    }
}

/// RFC 7606 section 5.2.
#[test]
fn a_fault_without_routes_to_withdraw_resets() {
    let med: &[u8] = &[0x80, 4, 1, 0];
    let expected = Err(Notification::new(NotificationReason::AttributeLength, med));
    for (withdrawn, attributes) in
        [(&[][..], &[med][..]), (&[8, 10], &[ORIGIN, AS_PATH, med]), (&[], &[UNREACH, med])]
    {
        assert_eq!(said(&body(withdrawn, attributes, &[]), &external()), expected);
    }
    let origin: &[u8] = &[0x40, 1, 1, 9];
    let expected = Err(Notification::new(NotificationReason::InvalidOrigin, origin));
    assert_eq!(said(&body(&[], &[origin], &[]), &external()), expected);

    let discarded = said(&body(&[8, 10], &[&[0x40, 6, 1, 0]], &[]), &external()).unwrap();
    assert_eq!(discarded.reaction, Some(Reaction::DiscardAttribute));
    assert_eq!(discarded.withdrawn, ["10.0.0.0/8"]);
}

#[test]
fn the_greatest_reaction_counts_and_eight_defects_are_kept() {
    let discarded = [0x40, 6, 1, 0];
    let withdrawing = [0x80, 4, 1, 0];
    let repeated = [0x40, 1, 1, 0].repeat(20);
    for attributes in [[&discarded[..], &withdrawing], [&withdrawing[..], &discarded]] {
        let (kept, _) = beside(&attributes.concat(), &external());
        assert_eq!(kept, None);
    }
    let bytes = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &repeated, &withdrawing], NLRI);
    let update = decode(&bytes, &external()).unwrap();
    assert_eq!((update.defects().len(), update.defect_count()), (Update::DEFECTS_MAX, 21));
    assert_eq!(update.reaction(), Some(Reaction::TreatAsWithdraw));
    assert_eq!(update.withdrawn().count(), 1);
}

#[test]
fn a_speaker_of_four_octets_must_not_send_what_is_for_others() {
    for bytes in [&[0xC0, 17, 6, 2, 1, 0, 1, 0, 0][..], &[0xC0, 18, 1, 0]] {
        let expected = (Some(plain()), vec![(bytes[1], AttributeFault::Unexpected)]);
        assert_eq!(beside(bytes, &external()), expected);
    }
}
