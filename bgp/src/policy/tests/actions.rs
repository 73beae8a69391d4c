//! What rules do to routes.

use std::borrow::Cow;

use super::*;

/// The attributes after one action, and whether they are still borrowed.
fn after(action: Action, held: &Attributes) -> (Attributes, bool) {
    let rules = vec![rule(0, vec![], vec![action], ACCEPT)];
    let policy = Policy::compile(Direction::Import, rules, Verdict::Reject).unwrap();
    let mut change = Change::new(held, OWN);
    let outcome = policy.evaluate(&learned("198.51.100.0/24"), &mut change);
    assert_eq!((outcome.verdict, outcome.rule), (Verdict::Accept, rule_id(0)));
    let borrowed = matches!(change.attributes, Cow::Borrowed(_));
    (change.attributes.into_owned(), borrowed)
}

#[test]
fn each_number_is_set_and_nothing_else_changes() {
    let held = attributes("64501");
    let expected = edited(&held, |to| to.local_preference = Some(7));
    assert_eq!(after(Action::LocalPreference(7), &held), (expected.clone(), false));
    assert_eq!(after(Action::LocalPreference(7), &expected), (expected.clone(), true));

    let expected = edited(&held, |to| to.origin = Origin::Egp);
    assert_eq!(after(Action::Origin(Origin::Egp), &held), (expected.clone(), false));
    assert_eq!(after(Action::Origin(Origin::Egp), &expected), (expected, true));
}

#[test]
fn meds_are_set_moved_within_32_bits_and_removed() {
    use MedChange::*;
    for (held, change, expected) in [
        (None, Set(5), Some(5)),
        (None, Add(5), Some(5)),
        (Some(u32::MAX), Add(1), Some(u32::MAX)),
        (Some(3), Subtract(5), Some(0)),
        (Some(7), Subtract(5), Some(2)),
        (None, Subtract(1), Some(0)),
        (Some(7), Remove, None),
    ] {
        let held = edited(&attributes("64501"), |to| to.med = held);
        let changed = edited(&held, |to| to.med = expected);
        assert_eq!(after(Action::Med(change), &held).0, changed, "{change:?}");
    }
}

#[test]
fn own_and_given_numbers_come_before_the_path() {
    let held = attributes("64501 64502");
    let own = after(Action::Prepend(Prepend::own(2).unwrap()), &held).0;
    assert_eq!(own, attributes("64500 64500 64501 64502"));
    let held = attributes("{64501}");
    let given = after(Action::Prepend(Prepend::of(Asn(1), 1).unwrap()), &held).0;
    assert_eq!(given, attributes("1 {64501}"));
}

#[test]
fn a_next_hop_takes_the_link_local_one_of_the_other_away() {
    let mut held = attributes("64501");
    held.next_hop = address("2001:db8::2");
    held.edit_rare(|rare| rare.link_local_next_hop = Some("fe80::2".parse().unwrap()));
    let set = |text| Action::NextHop(NextHopAddress::new(address(text)).unwrap());
    let mut expected = attributes("64501");
    expected.next_hop = address("2001:db8::9");
    assert_eq!(after(set("2001:db8::9"), &held).0, expected);
    assert_eq!(after(set("2001:db8::2"), &held), (held, true));
}

#[test]
fn the_weight_is_part_of_the_outcome_and_of_no_attribute() {
    let rules = vec![
        rule(0, vec![], vec![Action::Weight(5)], Then::Next),
        rule(1, vec![], vec![Action::Weight(6)], Then::Next),
    ];
    let policy = Policy::compile(Direction::Import, rules, Verdict::Accept).unwrap();
    let held = attributes("64501");
    let mut change = Change::new(&held, OWN);
    let outcome = policy.evaluate(&learned("198.51.100.0/24"), &mut change);
    let expected = Outcome {
        verdict: Verdict::Accept,
        rule: RuleId::DEFAULT,
        weight: Some(6),
        discard: false,
        saw_prefix: false,
        saw_source: false,
    };
    assert_eq!(outcome, expected);
    assert!(matches!(change.attributes, Cow::Borrowed(_)));
}

fn communities_after(change: CommunityChange, held: &[&str]) -> (Attributes, bool) {
    after(Action::Communities(change), &with_communities(held))
}

fn any(texts: &[&str]) -> Vec<AnyCommunity> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn communities_of_all_kinds_are_added_removed_and_replaced() {
    let three = ["64496:1", "rt:64496:1", "64496:1:1"];
    let (added, _) = communities_after(CommunityChange::add(any(&three)).unwrap(), &["64496:9"]);
    assert_eq!(added, with_communities(&["64496:9", "64496:1", "rt:64496:1", "64496:1:1"]));
    let (same, borrowed) = communities_after(CommunityChange::add(any(&three)).unwrap(), &three);
    assert_eq!((same, borrowed), (with_communities(&three), true));

    let remove = |texts| CommunityChange::remove(patterns(texts)).unwrap();
    let (left, _) = communities_after(remove(&["64496:*", "rt:*:*", "*:*:1"]), &three);
    assert_eq!(left, attributes("64501"));
    let (left, borrowed) = communities_after(remove(&["64497:*", "soo:*:*"]), &three);
    assert_eq!((left, borrowed), (with_communities(&three), true));

    let replace =
        || CommunityChange::replace(patterns(&["64496:*"]), any(&["64497:7", "64496:8"])).unwrap();
    let (replaced, _) = communities_after(replace(), &["64496:1", "64496:2", "64499:1"]);
    assert_eq!(replaced, with_communities(&["64496:8", "64497:7", "64499:1"]));
    let (untouched, borrowed) = communities_after(replace(), &["64499:1"]);
    assert_eq!((untouched, borrowed), (with_communities(&["64499:1"]), true));
}

#[test]
fn the_partial_flag_goes_with_the_last_community() {
    use crate::attribute_code::AttributeCode;
    let mut held = with_communities(&["64496:1", "64496:1:1"]);
    held.partial.insert(AttributeCode::COMMUNITIES);
    held.partial.insert(AttributeCode::LARGE_COMMUNITIES);
    let change = CommunityChange::remove(patterns(&["*:*"])).unwrap();
    let (left, _) = after(Action::Communities(change), &held);
    let mut expected = with_communities(&["64496:1:1"]);
    expected.partial.insert(AttributeCode::LARGE_COMMUNITIES);
    assert_eq!(left, expected);
}

#[test]
fn a_rule_that_passes_on_shows_the_next_one_what_it_did() {
    let long = AsPathTest::Length(HopRange::new(4, 10).unwrap());
    let rules = vec![
        rule(0, vec![], vec![Action::Prepend(Prepend::own(3).unwrap())], Then::Next),
        rule(1, vec![Condition::AsPath(long)], vec![Action::LocalPreference(50)], Then::Next),
        rule(2, vec![Condition::LocalPreference(Comparison::Below(60))], vec![], REJECT),
    ];
    let policy = Policy::compile(Direction::Import, rules, Verdict::Accept).unwrap();
    let held = attributes("64501");
    let mut steps = Vec::new();
    let outcome = policy.explain(
        &learned("198.51.100.0/24"),
        &mut Change::new(&held, OWN),
        &mut |rule, step| steps.push(format!("{rule} {step:?}").replace('\n', "")),
    );
    assert_eq!((outcome.verdict, outcome.rule), (Verdict::Reject, rule_id(2)));
    let shown: Vec<&str> = steps.iter().map(|step| step.split('(').next().unwrap()).collect();
    assert_eq!(
        shown,
        ["#0 Matched", "#0 Changed", "#1 Matched", "#1 Changed", "#2 Matched", "#2 Decided",]
    );
}
