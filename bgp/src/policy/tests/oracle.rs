//! A policy against a naive evaluator, and `explain` against `evaluate`.

use proptest::prelude::*;

use super::*;

/// A rule as its meaning, without anything compiled.
#[derive(Clone, Debug)]
struct Plain {
    prefixes: Option<Vec<(Prefix, u8, u8)>>,
    contains: Option<u32>,
    community: Option<(u16, Option<u16>)>,
    least_med: Option<u32>,
    external: Option<bool>,
    med: Option<u32>,
    add: Option<(u16, u16)>,
    remove: Option<u16>,
    prepend: u8,
    then: Then,
}

/// The rules that match, in order, what decided, and the attributes then.
type Decision = (Vec<usize>, Verdict, RuleId, Attributes);

fn naive(rules: &[Plain], route: &Route, held: &Attributes, default: Verdict) -> Decision {
    let mut now = held.clone();
    let mut matched = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let within = |(listed, shortest, longest): &(Prefix, u8, u8)| {
            listed.covers(route.prefix)
                && *shortest <= route.prefix.length()
                && route.prefix.length() <= *longest
        };
        let tagged = |(asn, number): (u16, Option<u16>)| {
            now.communities
                .as_slice()
                .iter()
                .any(|one| one.asn() == asn && number.is_none_or(|number| one.0 as u16 == number))
        };
        let meets = rule.prefixes.as_ref().is_none_or(|list| list.iter().any(within))
            && rule.contains.is_none_or(|asn| now.as_path.numbers().any(|one| one.0 == asn))
            && rule.community.is_none_or(tagged)
            && rule.least_med.is_none_or(|least| now.med.unwrap_or(0) >= least)
            && rule
                .external
                .is_none_or(|external| external == (route.source.kind() == SourceKind::External));
        if !meets {
            continue;
        }
        matched.push(index);
        now.med = rule.med.or(now.med);
        if let Some((asn, number)) = rule.add {
            now.communities = now.communities.with([crate::Community::new(asn, number)]);
        }
        if let Some(asn) = rule.remove {
            now.communities = now.communities.retained(|one| one.asn() != asn);
        }
        for _ in 0..rule.prepend {
            now.as_path = now.as_path.prepended(OWN, 1);
        }
        if let Then::Decide(verdict) = rule.then {
            return (matched, verdict, rule_id(index), now);
        }
    }
    (matched, default, RuleId::DEFAULT, now)
}

fn compiled(index: usize, plain: &Plain) -> Rule {
    let mut conditions = Vec::new();
    if let Some(list) = &plain.prefixes {
        let range = |&(prefix, ge, le)| PrefixRange::new(prefix, Some(ge), Some(le)).unwrap();
        let ranges: Vec<PrefixRange> = list.iter().map(range).collect();
        conditions.push(Condition::Prefix(PrefixList::new(&ranges).unwrap()));
    }
    if let Some(asn) = plain.contains {
        conditions.push(Condition::AsPath(AsPathTest::Contains(asns(&[(asn, asn)]))));
    }
    if let Some((asn, number)) = plain.community {
        let number = number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let pattern = format!("{asn}:{number}").parse().unwrap();
        let test = CommunityTest::new(Quantifier::All, vec![pattern]).unwrap();
        conditions.push(Condition::Communities(test));
    }
    if let Some(least) = plain.least_med {
        conditions.push(Condition::Med(Comparison::AtLeast(least)));
    }
    if let Some(external) = plain.external {
        let kinds: &[SourceKind] = match external {
            true => &[SourceKind::External],
            false => &[SourceKind::Internal, SourceKind::Local],
        };
        conditions.push(Condition::Source(SourceSet::new(kinds).unwrap()));
    }
    rule(index, conditions, actions(plain), plain.then)
}

fn actions(plain: &Plain) -> Vec<Action> {
    let mut actions = Vec::new();
    if let Some(med) = plain.med {
        actions.push(Action::Med(MedChange::Set(med)));
    }
    if let Some((asn, number)) = plain.add {
        let added = vec![crate::Community::new(asn, number).into()];
        actions.push(Action::Communities(CommunityChange::add(added).unwrap()));
    }
    if let Some(asn) = plain.remove {
        let removed = vec![format!("{asn}:*").parse().unwrap()];
        actions.push(Action::Communities(CommunityChange::remove(removed).unwrap()));
    }
    if plain.prepend > 0 {
        actions.push(Action::Prepend(Prepend::own(plain.prepend).unwrap()));
    }
    actions
}

fn small_prefix() -> impl Strategy<Value = Prefix> {
    (0_u8..8, 5_u8..=9)
        .prop_map(|(bits, length)| Prefix::containing([bits << 5, 0, 0, 0].into(), length).unwrap())
}

fn plain_rule() -> impl Strategy<Value = Plain> {
    let listed = (small_prefix(), 0_u8..3, 0_u8..3).prop_map(|(prefix, more, wider)| {
        let shortest = prefix.length() + more;
        (prefix, shortest, shortest + wider)
    });
    let prefixes = prop::option::weighted(0.3, prop::collection::vec(listed, 1..4));
    let meets = (
        prefixes,
        prop::option::weighted(0.3, 64_500_u32..64_504),
        prop::option::weighted(0.3, (1_u16..3, prop::option::of(1_u16..3))),
        prop::option::weighted(0.3, 0_u32..3),
        prop::option::weighted(0.3, any::<bool>()),
    );
    let does = (
        prop::option::weighted(0.3, 0_u32..3),
        prop::option::weighted(0.3, (1_u16..3, 1_u16..3)),
        prop::option::weighted(0.3, 1_u16..3),
        0_u8..3,
        prop_oneof![2 => Just(Then::Next), 1 => Just(ACCEPT), 1 => Just(REJECT)],
    );
    (meets, does).prop_map(|(meets, does)| {
        let (prefixes, contains, community, least_med, external) = meets;
        let (med, add, remove, prepend, then) = does;
        let idle = then == REJECT;
        Plain {
            prefixes,
            contains,
            community,
            least_med,
            external,
            med: med.filter(|_| !idle),
            add: add.filter(|_| !idle),
            remove: remove.filter(|_| !idle),
            prepend: if idle { 0 } else { prepend },
            then,
        }
    })
}

fn plain_route() -> impl Strategy<Value = (Route, Attributes)> {
    let source = prop_oneof![
        Just(RouteSource::Local),
        Just(RouteSource::Learned(teacher(NeighborKind::External))),
        Just(RouteSource::Learned(teacher(NeighborKind::Internal))),
    ];
    let path = prop::collection::vec(64_500_u32..64_504, 0..3);
    let communities = prop::collection::vec((1_u16..3, 1_u16..3), 0..3);
    let med = prop::option::of(0_u32..3);
    (small_prefix(), source, path, communities, med).prop_map(
        |(prefix, source, path, communities, med)| {
            let mut held = attributes("");
            held.as_path = crate::AsPath::sequence(&path.into_iter().map(Asn).collect::<Vec<_>>());
            held.communities = communities
                .into_iter()
                .map(|(asn, number)| crate::Community::new(asn, number))
                .collect();
            held.med = med;
            (Route { prefix, source }, held)
        },
    )
}

proptest! {
    #[test]
    fn rules_mean_what_a_naive_reading_says_and_explain_says_the_same(
        rules in prop::collection::vec(plain_rule(), 0..8),
        (route, held) in plain_route(),
        accept in any::<bool>(),
    ) {
        let default = if accept { Verdict::Accept } else { Verdict::Reject };
        let compiled = rules.iter().enumerate().map(|(index, plain)| compiled(index, plain));
        let policy = Policy::compile(Direction::Import, compiled.collect(), default).unwrap();
        let (matched, verdict, rule, expected) = naive(&rules, &route, &held, default);

        let mut change = Change::new(&held, OWN);
        let outcome = policy.evaluate(&route, &mut change);
        prop_assert_eq!((outcome.verdict, outcome.rule), (verdict, rule));
        prop_assert_eq!(&*change.attributes, &expected);

        let mut explained = Change::new(&held, OWN);
        let mut traced = Vec::new();
        let mut decided = None;
        let again = policy.explain(&route, &mut explained, &mut |rule, step| match step {
            Step::Matched => traced.extend(rule.index()),
            Step::Decided(verdict) => decided = Some((verdict, rule)),
            Step::Unmatched(_) | Step::Changed(_) | Step::Passed | Step::Acted => {}
        });
        prop_assert_eq!(again, outcome);
        prop_assert_eq!(explained, change);
        prop_assert_eq!((traced, decided), (matched, Some((verdict, rule))));
    }

    #[test]
    fn what_was_not_looked_at_makes_no_difference(
        rules in prop::collection::vec(plain_rule(), 0..8),
        (route, held) in plain_route(),
        (other, _) in plain_route(),
    ) {
        let compiled = rules.iter().enumerate().map(|(index, plain)| compiled(index, plain));
        let policy =
            Policy::compile(Direction::Import, compiled.collect(), Verdict::Accept).unwrap();
        let mut change = Change::new(&held, OWN);
        let outcome = policy.evaluate(&route, &mut change);
        let like = Route {
            prefix: if outcome.saw_prefix { route.prefix } else { other.prefix },
            source: if outcome.saw_source { route.source } else { other.source },
        };
        let mut changed = Change::new(&held, OWN);
        prop_assert_eq!(policy.evaluate(&like, &mut changed), outcome);
        prop_assert_eq!(changed, change);
    }
}
