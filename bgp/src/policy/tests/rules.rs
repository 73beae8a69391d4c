//! What rules match, and which rules there cannot be.

use super::*;

fn path_meets(test: AsPathTest, path: &str) -> bool {
    meets(Condition::AsPath(test), &learned("198.51.100.0/24"), &attributes(path))
}

#[test]
fn paths_are_asked_for_numbers_ends_and_length() {
    use AsPathTest::*;
    let private = || asns(&[(64_512, 65_534)]);
    for (test, path, expected) in [
        (Empty, "", true),
        (Empty, "1", false),
        (Contains(private()), "1 64512 2", true),
        (Contains(private()), "1 {2,65534}", true),
        (Contains(private()), "1 64511 65535", false),
        (Contains(private()), "", false),
        (Only(private()), "64512 65534", true),
        (Only(private()), "64512 1", false),
        (Only(private()), "", true),
        (Originates(asns(&[(3, 3)])), "1 3", true),
        (Originates(asns(&[(3, 3)])), "3 1", false),
        (Originates(asns(&[(3, 3)])), "1 {3}", false),
        (Neighbor(asns(&[(1, 2)])), "2 3", true),
        (Neighbor(asns(&[(1, 2)])), "3 2", false),
        (Neighbor(asns(&[(1, 2)])), "", false),
        (Length(HopRange::new(2, 3).unwrap()), "1", false),
        (Length(HopRange::new(2, 3).unwrap()), "1 {2,3,4,5}", true),
        (Length(HopRange::new(2, 3).unwrap()), "1 2 3", true),
        (Length(HopRange::new(2, 3).unwrap()), "1 2 3 4", false),
    ] {
        assert_eq!(path_meets(test.clone(), path), expected, "{test:?} {path}");
    }
}

#[test]
fn ranges_of_as_numbers_may_overlap_and_touch_the_ends() {
    let set = asns(&[(10, 20), (15, 30), (5, 5), (12, 13), (u32::MAX - 1, u32::MAX)]);
    for (number, expected) in [
        (0, false),
        (4, false),
        (5, true),
        (6, false),
        (10, true),
        (20, true),
        (25, true),
        (30, true),
        (31, false),
        (u32::MAX - 2, false),
        (u32::MAX, true),
    ] {
        assert_eq!(set.contains(Asn(number)), expected, "{number}");
    }
}

#[test]
fn communities_of_each_kind_match_one_by_one_and_with_wildcards() {
    let held = with_communities(&[
        "64496:100",
        "64497:7",
        "no-export",
        "rt:64496:100",
        "rt:192.0.2.1:7",
        "soo:4200000000:9",
        "64496:1:2",
        "4200000000:5:6",
    ]);
    for (pattern, expected) in [
        ("64496:100", true),
        ("64496:101", false),
        ("64496:*", true),
        ("64495:*", false),
        ("*:7", true),
        ("*:8", false),
        ("*:*", true),
        ("no-export", true),
        ("no-advertise", false),
        ("rt:64496:100", true),
        ("rt:64496:*", true),
        ("rt:64496L:*", false),
        ("rt:64497:*", false),
        ("rt:192.0.2.1:*", true),
        ("rt:192.0.2.2:*", false),
        ("rt:*:7", true),
        ("rt:*:100", true),
        ("rt:*:9", false),
        ("soo:*:9", true),
        ("soo:4200000000:*", true),
        ("soo:*:*", true),
        ("64496:1:2", true),
        ("64496:*:2", true),
        ("64496:*:3", false),
        ("*:5:6", true),
        ("4200000000:*:*", true),
        ("*:*:*", true),
        ("1:*:*", false),
    ] {
        let test = CommunityTest::new(Quantifier::Any, patterns(&[pattern])).unwrap();
        let condition = Condition::Communities(test);
        assert_eq!(meets(condition, &learned("198.51.100.0/24"), &held), expected, "{pattern}");
        let one_by_one = patterns(&[pattern]).remove(0);
        let any = ["64496:100", "64497:7", "no-export", "rt:64496:100", "rt:192.0.2.1:7"]
            .iter()
            .chain(&["soo:4200000000:9", "64496:1:2", "4200000000:5:6"])
            .any(|text| one_by_one.matches(text.parse().unwrap()));
        assert_eq!(any, expected, "{pattern}");
    }
}

#[test]
fn any_asks_for_one_and_all_for_each_of_the_patterns() {
    let held = with_communities(&["64496:1", "rt:64496:1"]);
    for (quantifier, texts, expected) in [
        (Quantifier::Any, &["64496:2", "rt:64496:*"][..], true),
        (Quantifier::Any, &["64496:2", "64496:1:1"], false),
        (Quantifier::All, &["64496:1", "rt:64496:*"], true),
        (Quantifier::All, &["64496:1", "64496:2"], false),
    ] {
        let test = CommunityTest::new(quantifier, patterns(texts)).unwrap();
        let route = learned("198.51.100.0/24");
        assert_eq!(meets(Condition::Communities(test), &route, &held), expected, "{texts:?}");
    }
}

#[test]
fn text_that_is_no_pattern_is_refused() {
    for text in [
        "",
        "*",
        "64496",
        "65536:*",
        "*:65536",
        "no-*",
        "rt:*",
        "rt:x:*",
        "rt:65536:*:1",
        "xx:1:2:*",
        "1:2:3:*",
        "4294967296:*:1",
        "soo:192.0.2.256:*",
        "rt:1:4294967296*",
        "64496:1*",
    ] {
        let error = text.parse::<CommunityPattern>().unwrap_err();
        assert_eq!(error, InvalidAnyCommunity(text.to_owned()));
    }
}

#[test]
fn numbers_compare_and_absent_ones_have_their_defaults() {
    use Comparison::*;
    let route = learned("198.51.100.0/24");
    let mut held = attributes("64501");
    for (med, comparison, expected) in [
        (None, Exactly(0), true),
        (None, Above(0), false),
        (Some(5), Below(5), false),
        (Some(5), AtMost(5), true),
        (Some(5), Exactly(5), true),
        (Some(5), AtLeast(6), false),
        (Some(5), Above(4), true),
    ] {
        held.med = med;
        let holds = meets(Condition::Med(comparison), &route, &held);
        assert_eq!(holds, expected, "{med:?} {comparison:?}");
    }
    assert!(meets(Condition::LocalPreference(Exactly(100)), &route, &held));
    held.local_preference = Some(200);
    assert!(meets(Condition::LocalPreference(AtLeast(150)), &route, &held));
    assert!(!meets(Condition::LocalPreference(Exactly(100)), &route, &held));
}

#[test]
fn next_hops_peers_origins_and_sources_are_told_apart() {
    let route = learned("198.51.100.0/24");
    let held = attributes("64501");
    let inside = |text| {
        let ranges = [PrefixRange::or_longer(prefix(text))];
        Condition::NextHop(PrefixList::new(&ranges).unwrap())
    };
    assert!(meets(inside("192.0.2.0/24"), &route, &held));
    assert!(!meets(inside("192.0.2.4/30"), &route, &held));
    assert!(!meets(inside("::/0"), &route, &held));

    let peer = |text| Condition::Peer(AddressSet::new(&[address(text)]).unwrap());
    let local = Route { source: RouteSource::Local, ..route };
    assert!(meets(peer(PEER), &route, &held));
    assert!(!meets(peer("192.0.2.3"), &route, &held));
    assert!(!meets(peer(PEER), &local, &held));

    assert!(meets(Condition::Origin(Origin::Igp), &route, &held));
    assert!(!meets(Condition::Origin(Origin::Egp), &route, &held));

    let sources = [
        (RouteSource::Local, SourceKind::Local),
        (RouteSource::Static { announce: false }, SourceKind::Static),
        (RouteSource::Static { announce: true }, SourceKind::AnnouncedStatic),
        (RouteSource::Translated(Site(1)), SourceKind::Translated),
        (RouteSource::Learned(teacher(NeighborKind::External)), SourceKind::External),
        (RouteSource::Learned(teacher(NeighborKind::Internal)), SourceKind::Internal),
    ];
    for (source, kind) in sources {
        for (_, asked) in sources {
            let condition = Condition::Source(SourceSet::new(&[asked]).unwrap());
            assert_eq!(meets(condition, &Route { source, ..route }, &held), asked == kind);
        }
    }
}

#[test]
fn what_was_looked_at_is_told() {
    let list = PrefixList::new(&[PrefixRange::or_longer(prefix("10.0.0.0/8"))]).unwrap();
    let peers = AddressSet::new(&[address(PEER)]).unwrap();
    let rules = vec![
        rule(0, vec![Condition::Origin(Origin::Egp), Condition::Prefix(list)], vec![], ACCEPT),
        rule(1, vec![Condition::Med(Comparison::Above(0)), Condition::Peer(peers)], vec![], ACCEPT),
    ];
    let policy = Policy::compile(Direction::Import, rules, Verdict::Reject).unwrap();
    for (origin, med, saw_prefix, saw_source) in [
        (Origin::Igp, None, false, false),
        (Origin::Egp, None, true, false),
        (Origin::Igp, Some(1), false, true),
        (Origin::Egp, Some(1), true, true),
    ] {
        let mut held = attributes("64501");
        (held.origin, held.med) = (origin, med);
        let outcome = policy.evaluate(&learned("198.51.100.0/24"), &mut Change::new(&held, OWN));
        assert_eq!((outcome.saw_prefix, outcome.saw_source), (saw_prefix, saw_source));
    }
}

#[test]
fn impossible_values_are_refused_with_their_bound() {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let range = |text, ge, le| PrefixRange::new(prefix(text), ge, le).unwrap_err().to_string();
    for (message, expected) in [
        (range("10.0.0.0/8", Some(7), None), "`ge` 7 is less than 8, the length of 10.0.0.0/8"),
        (range("10.0.0.0/8", None, Some(7)), "`le` 7 is less than 8, the length of 10.0.0.0/8"),
        (
            range("10.0.0.0/8", Some(33), None),
            "`ge` 33 is more than 32, the bits of 10.0.0.0/8's family",
        ),
        (range("::/0", None, Some(129)), "`le` 129 is more than 128, the bits of ::/0's family"),
        (range("10.0.0.0/8", Some(25), Some(24)), "`ge` 25 is more than `le` 24"),
        (
            text(&AsnRange::new(Asn(2), Asn(1)).unwrap_err()),
            "the range of AS numbers from 2 to 1 ends before it begins",
        ),
        (
            text(&HopRange::new(2, 1).unwrap_err()),
            "the range of path lengths from 2 to 1 ends before it begins",
        ),
        (text(&Prepend::own(0).unwrap_err()), "prepending 0 times is not 1 to 10 times"),
        (text(&Prepend::of(OWN, 11).unwrap_err()), "prepending 11 times is not 1 to 10 times"),
        (text(&Prepend::of(Asn::ZERO, 1).unwrap_err()), "AS 0 is reserved and cannot be prepended"),
        (
            text(&NextHopAddress::new(address("224.0.0.5")).unwrap_err()),
            "224.0.0.5 is not a unicast address, and cannot be a next hop",
        ),
        (
            text(&PrefixList::new(&[]).unwrap_err()),
            "the list of prefixes is empty and matches nothing",
        ),
    ] {
        assert_eq!(message, expected);
    }
    assert!(AsnSet::new(&[]).is_err() && AddressSet::new(&[]).is_err());
    assert!(SourceSet::new(&[]).is_err() && CommunityTest::new(Quantifier::All, vec![]).is_err());
    assert!(CommunityChange::add(vec![]).is_err() && CommunityChange::remove(vec![]).is_err());
    let added = vec!["64496:1".parse().unwrap()];
    assert!(CommunityChange::replace(vec![], added).is_err());
    assert!(CommunityChange::replace(patterns(&["64496:*"]), vec![]).is_err());
    for text in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1"] {
        assert!(NextHopAddress::new(address(text)).is_err(), "{text}");
    }
}

#[test]
fn impossible_rules_are_refused_by_name() {
    use Direction::{Export, Import};
    let compile = |direction, rules| Policy::compile(direction, rules, Verdict::Reject);
    let doing = |index, action, then| rule(index, vec![], vec![action], then);
    let ten = || Action::Prepend(Prepend::own(10).unwrap());

    let built_in = Rule { id: RuleId::OWN_AS, ..rule(0, vec![], vec![], ACCEPT) };
    assert_eq!(compile(Import, vec![built_in]), Err(InvalidPolicy::BuiltIn(RuleId::OWN_AS)));
    let rejecting = doing(3, Action::Origin(Origin::Igp), REJECT);
    assert_eq!(compile(Import, vec![rejecting]), Err(InvalidPolicy::ChangesRejected(rule_id(3))));
    let weighing = doing(4, Action::Weight(1), ACCEPT);
    assert!(compile(Import, vec![weighing.clone()]).is_ok());
    assert_eq!(
        compile(Export, vec![weighing]),
        Err(InvalidPolicy::Direction { rule: rule_id(4), action: "weight" })
    );
    let pointing = doing(5, Action::NextHopSelf, Then::Next);
    assert!(compile(Export, vec![pointing.clone()]).is_ok());
    assert_eq!(
        compile(Import, vec![pointing]),
        Err(InvalidPolicy::Direction { rule: rule_id(5), action: "next-hop-self" })
    );

    let chained = |count| (0..count).map(|index| doing(index, ten(), Then::Next)).collect();
    assert!(compile(Export, chained(10)).is_ok());
    assert_eq!(
        compile(Export, chained(11)),
        Err(InvalidPolicy::Prepends { rule: rule_id(10), total: 110 })
    );
    let apart = (0..50).map(|index| doing(index, ten(), ACCEPT)).collect();
    assert!(compile(Export, apart).is_ok());

    let many = vec![rule(0, vec![], vec![], Then::Next); Policy::RULES_MAX + 1];
    assert_eq!(compile(Import, many).unwrap_err().to_string(), {
        "4097 rules are more than 4096, the most of a policy"
    });
}
