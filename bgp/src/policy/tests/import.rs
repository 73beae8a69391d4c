//! The whole way in.

use std::borrow::Cow;
use std::sync::Arc;

use crate::community::Community;
use crate::role::Role;

use super::*;

fn tenant() -> ImportGuard {
    let facts = TenantFacts { subnets: prefixes(&["10.1.0.0/24"]), ..TenantFacts::default() };
    let peer = TenantPeer { site: None, accept_default: false, announce_learned: true };
    ImportGuard::Tenant(Arc::new(facts.import(peer)))
}

fn front_end() -> ImportGuard {
    ImportGuard::FrontEnd(Arc::new(FrontEndImport::new(&[], Martians::Unforwardable)))
}

fn external() -> Import {
    Import {
        guard: tenant(),
        policy: None,
        kind: NeighborKind::External,
        own_asn: OWN,
        local_as: None,
        remote_asn: REMOTE,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        cluster_id: Ipv4Addr::new(192, 0, 2, 101),
        role: None,
        own_as_allowed: 0,
        path_numbers_max: 10,
        enforce_first_as: true,
        next_hops: NextHopCheck { own: vec![address("192.0.2.1")], shared: None },
        graceful_shutdown: true,
        blackhole: false,
    }
}

fn internal() -> Import {
    Import { kind: NeighborKind::Internal, remote_asn: OWN, ..external() }
}

fn policy(rules: Vec<Rule>) -> Option<Arc<Policy>> {
    Some(Arc::new(Policy::compile(Direction::Import, rules, Verdict::Accept).unwrap()))
}

fn doing(actions: Vec<Action>) -> Option<Arc<Policy>> {
    policy(vec![rule(0, vec![], actions, ACCEPT)])
}

const ROUTE: &str = "198.51.100.0/24";

/// The rule that decided, and the attributes of an accepted route.
fn judged(import: &Import, received: &Attributes) -> Result<(RuleId, Attributes), RuleId> {
    let (outcome, attributes) = import.evaluate(&learned(ROUTE), received);
    let mut last = None;
    let explained = import.explain(&learned(ROUTE), received, &mut |rule, step| {
        if let Step::Decided(verdict) = step {
            last = Some((verdict, rule));
        }
    });
    assert_eq!(explained, (outcome, attributes.clone()));
    match outcome.verdict {
        Verdict::Accept => Ok((outcome.rule, attributes.into_owned())),
        Verdict::Reject => {
            assert_eq!(last, Some((Verdict::Reject, outcome.rule)));
            Err(outcome.rule)
        }
    }
}

#[test]
fn what_is_right_comes_in_as_it_is() {
    for import in [external(), internal()] {
        let received = edited(&attributes("64501 64502"), |to| to.med = Some(1));
        let (outcome, kept) = import.evaluate(&learned(ROUTE), &received);
        assert_eq!((outcome.verdict, outcome.rule), (Verdict::Accept, RuleId::DEFAULT));
        assert!(matches!(kept, Cow::Borrowed(_)));
    }
}

#[test]
fn an_external_neighbour_of_the_front_end_needs_a_policy() {
    let received = attributes("64501");
    let none = Import { guard: front_end(), ..external() };
    assert_eq!(judged(&none, &received), Err(RuleId::NO_POLICY));
    let some = Import { policy: doing(vec![]), ..none };
    assert_eq!(judged(&some, &received), Ok((rule_id(0), received.clone())));
    let inside = Import { guard: front_end(), ..internal() };
    assert_eq!(judged(&inside, &received), Ok((RuleId::DEFAULT, received)));
}

#[test]
fn paths_are_checked_for_length_first_and_own_as() {
    let count = |numbers: usize| attributes(&"64501 ".repeat(numbers));
    assert!(judged(&external(), &count(10)).is_ok());
    assert_eq!(judged(&external(), &count(11)), Err(RuleId::PATH_TOO_LONG));
    let set = attributes("64501 {1,2,3,4,5,6,7,8,9,10}");
    assert_eq!(judged(&external(), &set), Err(RuleId::PATH_TOO_LONG));

    for path in ["", "64502 64501", "{64501}"] {
        assert_eq!(judged(&external(), &attributes(path)), Err(RuleId::FIRST_AS), "{path}");
        assert!(judged(&internal(), &attributes(path)).is_ok(), "{path}");
        let route_server = Import { enforce_first_as: false, ..external() };
        assert!(judged(&route_server, &attributes(path)).is_ok(), "{path}");
    }

    let once = attributes("64501 64500");
    let twice = attributes("64501 64500 {64500}");
    let allowing = Import { own_as_allowed: 1, ..external() };
    assert_eq!(judged(&external(), &once), Err(RuleId::OWN_AS));
    assert_eq!(judged(&internal(), &once), Err(RuleId::OWN_AS));
    assert!(judged(&allowing, &once).is_ok());
    assert_eq!(judged(&allowing, &twice), Err(RuleId::OWN_AS));
}

#[test]
fn the_local_as_counts_as_our_own_and_comes_before_the_path_if_it_shall() {
    let local = |prepend_inbound| Import {
        local_as: Some(LocalAs { asn: Asn(64_600), prepend_inbound, show_own: true }),
        ..external()
    };
    assert_eq!(judged(&local(false), &attributes("64501 64600")), Err(RuleId::OWN_AS));
    assert_eq!(judged(&local(false), &attributes("64501 64500")), Err(RuleId::OWN_AS));
    let received = attributes("64501");
    assert_eq!(judged(&local(false), &received), Ok((RuleId::DEFAULT, received.clone())));
    let expected = attributes("64600 64501");
    assert_eq!(judged(&local(true), &received), Ok((RuleId::DEFAULT, expected)));
}

#[test]
fn what_we_originated_or_reflected_is_not_taken_back() {
    let originator = |id: [u8; 4]| {
        edited(&attributes("64501"), |to| {
            to.edit_rare(|rare| rare.originator_id = Some(id.into()));
        })
    };
    let cluster = |id: [u8; 4]| {
        edited(&attributes("64501"), |to| {
            to.edit_rare(|rare| rare.cluster_list = [[1, 1, 1, 1].into(), id.into()].into());
        })
    };
    assert_eq!(judged(&internal(), &originator([192, 0, 2, 1])), Err(RuleId::OWN_ROUTER));
    assert_eq!(judged(&internal(), &cluster([192, 0, 2, 101])), Err(RuleId::OWN_ROUTER));
    assert!(judged(&internal(), &originator([192, 0, 2, 101])).is_ok());
    assert!(judged(&internal(), &cluster([192, 0, 2, 1])).is_ok());
}

#[test]
fn next_hops_are_hosts_other_than_us_and_on_the_shared_link() {
    let via = |text| edited(&attributes("64501"), |to| to.next_hop = address(text));
    for text in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "192.0.2.1"] {
        assert_eq!(judged(&external(), &via(text)), Err(RuleId::NEXT_HOP), "{text}");
        assert_eq!(judged(&internal(), &via(text)), Err(RuleId::NEXT_HOP), "{text}");
    }
    let shared = Some((address("10.255.0.2"), prefixes(&["192.0.2.0/24"])));
    let own = vec![address("192.0.2.1")];
    let near = Import { next_hops: NextHopCheck { own, shared }, ..external() };
    for (text, believed) in [
        ("10.255.0.2", true),
        ("192.0.2.77", true),
        ("192.0.2.1", false),
        ("10.255.0.3", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(judged(&near, &via(text)).is_ok(), believed, "{text}");
        assert_eq!(judged(&external(), &via(text)).is_ok(), text != "192.0.2.1", "{text}");
    }
}

#[test]
fn routes_are_marked_only_to_customer_or_found_to_leak() {
    let marked = |asn: Option<u32>| {
        edited(&attributes("64501"), |to| {
            to.edit_rare(|rare| rare.only_to_customer = asn.map(Asn));
        })
    };
    let role = |role| Import { role: Some(role), ..external() };
    let came = |asn| Ok((RuleId::DEFAULT, marked(asn)));
    assert_eq!(judged(&role(Role::Customer), &marked(None)), came(Some(64_501)));
    assert_eq!(judged(&role(Role::Customer), &marked(Some(9))), came(Some(9)));
    assert_eq!(judged(&role(Role::Peer), &marked(Some(9))), Err(RuleId::LEAK));
    assert_eq!(judged(&role(Role::Provider), &marked(Some(9))), Err(RuleId::LEAK));
    assert_eq!(judged(&role(Role::Provider), &marked(None)), came(None));
    let inside = Import { role: Some(Role::Provider), ..internal() };
    assert_eq!(judged(&inside, &marked(Some(9))), came(Some(9)));
}

#[test]
fn local_preference_comes_from_inside_only() {
    let received = edited(&attributes("64501"), |to| to.local_preference = Some(300));
    assert_eq!(judged(&external(), &received), Ok((RuleId::DEFAULT, attributes("64501"))));
    assert_eq!(judged(&internal(), &received), Ok((RuleId::DEFAULT, received)));
}

#[test]
fn no_rule_lets_in_what_the_guard_forbids() {
    let import = Import { policy: doing(vec![]), ..external() };
    let received = attributes("64501");
    let (outcome, _) = import.evaluate(&learned("10.1.0.7/32"), &received);
    let expected = (Verdict::Reject, RuleId::TENANT_IMPORT_SUBNET);
    assert_eq!((outcome.verdict, outcome.rule), expected);
    let refusing = Import { policy: policy(vec![rule(7, vec![], vec![], REJECT)]), ..external() };
    assert_eq!(judged(&refusing, &received), Err(rule_id(7)));
}

#[test]
fn graceful_shutdown_is_the_least_preferred_whatever_the_rules_say() {
    let mut received = attributes("64501");
    received.communities = [Community::GRACEFUL_SHUTDOWN].into_iter().collect();
    let rules = || {
        let all = CommunityChange::remove(patterns(&["*:*"])).unwrap();
        doing(vec![Action::LocalPreference(500), Action::Weight(9), Action::Communities(all)])
    };
    let import = Import { policy: rules(), ..external() };
    let (outcome, kept) = import.evaluate(&learned(ROUTE), &received);
    assert_eq!((outcome.verdict, outcome.weight), (Verdict::Accept, None));
    assert_eq!(*kept, edited(&attributes("64501"), |to| to.local_preference = Some(0)));

    for import in [
        Import { graceful_shutdown: false, policy: rules(), ..external() },
        Import { policy: rules(), ..internal() },
    ] {
        let (outcome, kept) = import.evaluate(&learned(ROUTE), &received);
        assert_eq!((outcome.weight, kept.local_preference), (Some(9), Some(500)));
    }
}

#[test]
fn a_blackhole_discards_and_stays_in_the_as_where_it_is_honoured() {
    let mut received = attributes("64501");
    received.communities = [Community::BLACKHOLE].into_iter().collect();
    let (outcome, kept) = external().evaluate(&learned(ROUTE), &received);
    assert_eq!((outcome.discard, &*kept), (false, &received));

    let honouring = Import { blackhole: true, ..external() };
    let (outcome, kept) = honouring.evaluate(&learned(ROUTE), &received);
    let expected = edited(&received, |to| {
        to.communities = to.communities.with([Community::NO_EXPORT]);
    });
    assert_eq!((outcome.verdict, outcome.discard), (Verdict::Accept, true));
    assert_eq!(*kept, expected);
    let (outcome, _) = honouring.evaluate(&learned("10.1.0.7/32"), &received);
    assert_eq!((outcome.verdict, outcome.discard), (Verdict::Reject, false));
}
