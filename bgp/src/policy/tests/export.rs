//! The whole way out.

use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::community::Community;
use crate::role::Role;

use super::*;

const OURS: &str = "192.0.2.1";

fn own() -> OwnNextHops {
    OwnNextHops {
        addresses: [Some(address(OURS)), Some(address("2001:db8::1"))],
        link_local: None,
        ipv6_for_ipv4: false,
    }
}

fn tenant() -> ExportGuard {
    let peer = TenantPeer { site: None, accept_default: false, announce_learned: true };
    ExportGuard::Tenant(Arc::new(TenantFacts::default().export(peer)))
}

fn plain_external() -> ExportTo {
    ExportTo::External {
        own_asn: OWN,
        local_as: None,
        overridden: None,
        private_as: None,
        role: None,
    }
}

fn external() -> Export {
    Export {
        guard: tenant(),
        policy: None,
        to: plain_external(),
        next_hop: NextHopRule::Own,
        own: own(),
        draining: false,
    }
}

fn internal(client: bool) -> Export {
    let cluster_id = Ipv4Addr::new(192, 0, 2, 101);
    Export {
        to: ExportTo::Internal { own_asn: OWN, client, cluster_id },
        next_hop: NextHopRule::Held,
        ..external()
    }
}

fn doing(actions: Vec<Action>) -> Option<Arc<Policy>> {
    let rules = vec![rule(0, vec![], actions, ACCEPT)];
    Some(Arc::new(Policy::compile(Direction::Export, rules, Verdict::Accept).unwrap()))
}

fn internally(client: bool) -> Route {
    let teacher = Teacher { client, ..teacher(NeighborKind::Internal) };
    Route { source: RouteSource::Learned(teacher), ..learned(ROUTE) }
}

const ROUTE: &str = "198.51.100.0/24";

fn judged(
    export: &Export,
    route: &Route,
    held: &Attributes,
) -> Result<(RuleId, Attributes), RuleId> {
    let (outcome, attributes) = export.evaluate(route, held);
    let mut last = None;
    let explained = export.explain(route, held, &mut |rule, step| {
        if let Step::Decided(verdict) = step {
            last = Some((verdict, rule));
        }
    });
    assert_eq!(explained, (outcome, attributes.clone()));
    assert_eq!((outcome.weight, outcome.discard), (None, false));
    match outcome.verdict {
        Verdict::Accept => Ok((outcome.rule, attributes.into_owned())),
        Verdict::Reject => {
            assert_eq!(last, Some((Verdict::Reject, outcome.rule)));
            Err(outcome.rule)
        }
    }
}

/// What goes out of a learned route that is let through.
fn sent(export: &Export, held: &Attributes) -> Attributes {
    judged(export, &learned(ROUTE), held).unwrap().1
}

fn path_sent(to: ExportTo, held: &str) -> String {
    sent(&Export { to, ..external() }, &attributes(held)).as_path.to_string()
}

/// A route with everything that ends at the border.
fn decorated() -> Attributes {
    edited(&attributes("64501 64502"), |to| {
        to.med = Some(5);
        to.local_preference = Some(300);
        to.edit_rare(|rare| {
            rare.originator_id = Some(Ipv4Addr::new(1, 1, 1, 1));
            rare.cluster_list = [Ipv4Addr::new(2, 2, 2, 2)].into();
            rare.link_local_next_hop = Some("fe80::2".parse().unwrap());
            rare.extended_communities = ["rt:64496:1", "0x4002000000000001"]
                .map(|text| text.parse().unwrap())
                .into_iter()
                .collect();
        });
    })
}

#[test]
fn what_ends_at_the_border_does_not_cross_it() {
    let expected = edited(&attributes("64500 64501 64502"), |to| {
        to.next_hop = address(OURS);
        to.edit_rare(|rare| {
            rare.extended_communities = ["rt:64496:1".parse().unwrap()].into_iter().collect();
        });
    });
    assert_eq!(
        judged(&external(), &learned(ROUTE), &decorated()),
        Ok((RuleId::TENANT_EXPORT_LEARNED, expected))
    );
}

#[test]
fn within_the_as_a_route_stays_as_it_is_but_for_local_preference() {
    let held = edited(&decorated(), |to| to.local_preference = None);
    let expected = edited(&held, |to| {
        to.local_preference = Some(DEFAULT_LOCAL_PREFERENCE);
        to.edit_rare(|rare| rare.link_local_next_hop = None);
    });
    assert_eq!(sent(&internal(false), &held), expected);
    let prepending = vec![Action::Prepend(Prepend::own(2).unwrap()), Action::LocalPreference(7)];
    let export = Export { policy: doing(prepending), ..internal(false) };
    let preferred = edited(&expected, |to| to.local_preference = Some(7));
    assert_eq!(sent(&export, &held), preferred);
}

#[test]
fn a_med_crosses_the_border_if_it_is_ours_or_a_rule_decided() {
    let with_med = |path| edited(&attributes(path), |to| to.med = Some(5));
    assert_eq!(sent(&external(), &with_med("64501")).med, None);
    assert_eq!(sent(&external(), &with_med("")).med, Some(5));
    for (change, expected) in [
        (MedChange::Set(9), Some(9)),
        (MedChange::Set(5), Some(5)),
        (MedChange::Add(1), Some(6)),
        (MedChange::Remove, None),
    ] {
        let export = Export { policy: doing(vec![Action::Med(change)]), ..external() };
        assert_eq!(sent(&export, &with_med("64501")).med, expected, "{change:?}");
    }
    assert_eq!(sent(&internal(false), &with_med("64501")).med, Some(5));
}

#[test]
fn the_path_gets_our_as_and_before_it_the_one_we_are_to_the_neighbour() {
    let local = |show_own| {
        let local = LocalAs { asn: Asn(64_600), prepend_inbound: false, show_own };
        ExportTo::External {
            own_asn: OWN,
            local_as: Some(local),
            overridden: None,
            private_as: None,
            role: None,
        }
    };
    assert_eq!(path_sent(plain_external(), "64501"), "64500 64501");
    assert_eq!(path_sent(plain_external(), ""), "64500");
    assert_eq!(path_sent(plain_external(), "{1,2} 3"), "64500 {1,2} 3");
    assert_eq!(path_sent(local(true), "64501"), "64600 64500 64501");
    assert_eq!(path_sent(local(false), "64501"), "64600 64501");
}

fn removing(scope: PrivateAsScope, overridden: Option<Asn>) -> ExportTo {
    let private_as = Some(PrivateAsRemoval { scope, peer: Asn(64_999) });
    ExportTo::External { own_asn: OWN, local_as: None, overridden, private_as, role: None }
}

#[test]
fn private_numbers_are_removed_before_the_first_public_one_or_everywhere() {
    for (held, leading, all) in [
        ("64512 65534 1 64513", "64500 1 64513", "64500 1"),
        ("64512 4200000000", "64500", "64500"),
        ("1 64512", "64500 1 64512", "64500 1"),
        ("64512 64999 64513 1", "64500 64999 64513 1", "64500 64999 1"),
        ("64512 {64513,2} 64514", "64500 {2} 64514", "64500 {2}"),
        ("1 2", "64500 1 2", "64500 1 2"),
        ("", "64500", "64500"),
    ] {
        assert_eq!(path_sent(removing(PrivateAsScope::Leading, None), held), leading, "{held}");
        assert_eq!(path_sent(removing(PrivateAsScope::All, None), held), all, "{held}");
    }
}

#[test]
fn the_neighbours_as_is_overridden_after_private_numbers_went() {
    let overriding = ExportTo::External {
        own_asn: OWN,
        local_as: None,
        overridden: Some(Asn(64_999)),
        private_as: None,
        role: None,
    };
    assert_eq!(path_sent(overriding, "64999 1 {64999,2}"), "64500 64500 1 {64500,2}");
    let both = removing(PrivateAsScope::All, Some(Asn(64_999)));
    assert_eq!(path_sent(both, "64512 64999 1"), "64500 64500 1");
}

#[test]
fn what_rules_prepend_survives_the_removal_of_private_numbers() {
    let prepending = vec![
        Action::Prepend(Prepend::of(Asn(64_700), 2).unwrap()),
        Action::Prepend(Prepend::own(1).unwrap()),
        Action::Prepend(Prepend::of(Asn(64_999), 1).unwrap()),
    ];
    let to = removing(PrivateAsScope::All, Some(Asn(64_999)));
    let export = Export { policy: doing(prepending), to, ..external() };
    let path = sent(&export, &attributes("64512 1")).as_path.to_string();
    assert_eq!(path, "64500 64999 64500 64700 64700 1");
}

#[test]
fn rules_see_the_path_as_the_table_has_it() {
    let private = Condition::AsPath(AsPathTest::Contains(asns(&[(64_512, 65_534)])));
    let rules = vec![rule(0, vec![private], vec![], REJECT)];
    let policy = Policy::compile(Direction::Export, rules, Verdict::Accept).unwrap();
    let to = removing(PrivateAsScope::All, None);
    let export = Export { policy: Some(Arc::new(policy)), to, ..external() };
    assert_eq!(judged(&export, &learned(ROUTE), &attributes("64512")), Err(rule_id(0)));
    let (rule, _) = judged(&export, &learned(ROUTE), &attributes("1")).unwrap();
    assert_eq!(rule, RuleId::TENANT_EXPORT_LEARNED);
}

#[test]
fn well_known_communities_keep_a_route_where_they_say() {
    for (community, rule, crosses, stays) in [
        (Community::NO_ADVERTISE, RuleId::NO_ADVERTISE, false, false),
        (Community::NO_EXPORT, RuleId::NO_EXPORT, false, true),
        (Community::NO_EXPORT_SUBCONFED, RuleId::NO_EXPORT_SUBCONFED, false, true),
        (Community::BLACKHOLE, RuleId::BLACKHOLE, true, true),
    ] {
        let mut held = attributes("64501");
        held.communities = [community].into_iter().collect();
        for (export, goes) in [(external(), crosses), (internal(false), stays)] {
            match judged(&export, &learned(ROUTE), &held) {
                Ok((_, attributes)) => assert!(goes && attributes.communities == held.communities),
                Err(refused) => assert!(!goes && refused == rule, "{refused}"),
            }
        }
    }
    let added = CommunityChange::add(vec![Community::NO_EXPORT.into()]).unwrap();
    let export = Export { policy: doing(vec![Action::Communities(added)]), ..external() };
    assert!(sent(&export, &attributes("1")).communities.contains(Community::NO_EXPORT));
}

#[test]
fn an_external_neighbour_of_the_front_end_needs_a_policy() {
    let front_end = |export: Export| Export { guard: ExportGuard::FrontEnd, ..export };
    let route = learned(ROUTE);
    let held = attributes("64501");
    assert_eq!(judged(&front_end(external()), &route, &held), Err(RuleId::NO_POLICY));
    let open = Export { policy: doing(vec![]), ..front_end(external()) };
    assert_eq!(judged(&open, &route, &held).unwrap().0, rule_id(0));
    assert_eq!(judged(&front_end(internal(false)), &route, &held).unwrap().0, RuleId::DEFAULT);
}

#[test]
fn no_rule_lets_out_what_the_guard_forbids() {
    let unmarked = Route { source: RouteSource::Static { announce: false }, ..learned(ROUTE) };
    let export = Export { policy: doing(vec![]), ..external() };
    let refused = judged(&export, &unmarked, &attributes(""));
    assert_eq!(refused, Err(RuleId::TENANT_EXPORT_STATIC));
}

#[test]
fn next_hops_are_ours_the_routes_or_what_a_rule_says() {
    let shared = |neighbor: &str| NextHopRule::HeldIfShared {
        neighbor: address(neighbor),
        subnets: prefixes(&["192.0.2.0/24"]),
    };
    let via = |text| edited(&attributes("64501"), |to| to.next_hop = address(text));
    let none = || via("0.0.0.0");
    for (rule, held, expected) in [
        (NextHopRule::Own, via("192.0.2.7"), OURS),
        (NextHopRule::Held, via("192.0.2.7"), "192.0.2.7"),
        (NextHopRule::Held, none(), OURS),
        (shared("192.0.2.9"), via("192.0.2.7"), "192.0.2.7"),
        (shared("192.0.2.7"), via("192.0.2.7"), OURS),
        (shared("192.0.2.9"), via("10.0.0.7"), OURS),
        (shared("192.0.2.9"), none(), OURS),
    ] {
        let export = Export { next_hop: rule.clone(), ..external() };
        assert_eq!(sent(&export, &held).next_hop, address(expected), "{rule:?}");
    }
    let set = Action::NextHop(NextHopAddress::new(address("192.0.2.66")).unwrap());
    let export = Export { policy: doing(vec![set]), ..external() };
    assert_eq!(sent(&export, &attributes("1")).next_hop, address("192.0.2.66"));
    let export = Export { policy: doing(vec![Action::NextHopSelf]), ..internal(false) };
    assert_eq!(sent(&export, &attributes("1")).next_hop, address(OURS));
}

#[test]
fn a_route_without_a_next_hop_of_its_family_is_not_sent() {
    let via_ipv6 = edited(&attributes("1"), |to| to.next_hop = address("2001:db8::7"));
    let held = Export { next_hop: NextHopRule::Held, ..external() };
    assert_eq!(judged(&held, &learned(ROUTE), &via_ipv6), Err(RuleId::NEXT_HOP));
    assert!(judged(&held, &learned("2001:db8:9::/48"), &via_ipv6).is_ok());
    assert_eq!(judged(&held, &learned("2001:db8:9::/48"), &attributes("1")), Err(RuleId::NEXT_HOP));
    let rfc_8950 = Export { own: OwnNextHops { ipv6_for_ipv4: true, ..own() }, ..held };
    assert!(judged(&rfc_8950, &learned(ROUTE), &via_ipv6).is_ok());
    let nothing = OwnNextHops { addresses: [None, Some(address("2001:db8::1"))], ..own() };
    let export = Export { own: nothing, ..external() };
    assert_eq!(judged(&export, &learned(ROUTE), &attributes("1")), Err(RuleId::NEXT_HOP));
}

#[test]
fn the_link_local_address_goes_with_our_own_ipv6_one_only() {
    let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
    let export =
        Export { own: OwnNextHops { link_local: Some(link_local), ..own() }, ..external() };
    let route = learned("2001:db8:9::/48");
    let (_, attributes_sent) = judged(&export, &route, &decorated()).unwrap();
    let rare = attributes_sent.rare().unwrap();
    assert_eq!(rare.link_local_next_hop, Some(link_local));
    assert_eq!(attributes_sent.next_hop, address("2001:db8::1"));
    let (_, attributes_sent) = judged(&export, &learned(ROUTE), &decorated()).unwrap();
    assert_eq!(attributes_sent.rare().unwrap().link_local_next_hop, None);
}

#[test]
fn internal_routes_are_reflected_between_clients_and_the_others() {
    let held = attributes("64501");
    for (from_client, to_client, reflected) in
        [(false, false, false), (true, false, true), (false, true, true), (true, true, true)]
    {
        let expected = edited(&held, |to| {
            to.local_preference = Some(DEFAULT_LOCAL_PREFERENCE);
            to.edit_rare(|rare| {
                rare.originator_id = Some(Ipv4Addr::new(192, 0, 2, 2));
                rare.cluster_list = [Ipv4Addr::new(192, 0, 2, 101)].into();
            });
        });
        let own = Export { next_hop: NextHopRule::Own, ..internal(to_client) };
        for export in [internal(to_client), own] {
            let judged = judged(&export, &internally(from_client), &held);
            let expected = match reflected {
                true => Ok((RuleId::TENANT_EXPORT_LEARNED, expected.clone())),
                false => Err(RuleId::NOT_REFLECTED),
            };
            assert_eq!(judged, expected, "{from_client} {to_client}");
        }
    }
    let own = Export { next_hop: NextHopRule::Own, ..internal(false) };
    assert_eq!(sent(&own, &held).next_hop, address(OURS));
}

#[test]
fn a_reflected_route_keeps_its_originator_and_gets_our_cluster_first() {
    let (_, sent) = judged(&internal(true), &internally(false), &decorated()).unwrap();
    assert_eq!(sent.originator_id(), Some(Ipv4Addr::new(1, 1, 1, 1)));
    assert_eq!(sent.cluster_list(), [Ipv4Addr::new(192, 0, 2, 101), Ipv4Addr::new(2, 2, 2, 2)]);
}

#[test]
fn a_route_that_was_reflected_already_is_not_reflected_again() {
    let (_, once) = judged(&internal(true), &internally(false), &decorated()).unwrap();
    assert_eq!(judged(&internal(true), &internally(false), &once).unwrap().1, once);
}

#[test]
fn only_to_customer_marks_what_goes_down_and_stops_what_would_go_up() {
    let to = |role| ExportTo::External {
        own_asn: OWN,
        local_as: None,
        overridden: None,
        private_as: None,
        role: Some(role),
    };
    let marked = edited(&attributes("1"), |to| {
        to.edit_rare(|rare| rare.only_to_customer = Some(Asn(9)));
    });
    let export = |role| Export { to: to(role), ..external() };
    assert_eq!(sent(&export(Role::Provider), &attributes("1")).only_to_customer(), Some(OWN));
    assert_eq!(sent(&export(Role::Provider), &marked).only_to_customer(), Some(Asn(9)));
    assert_eq!(sent(&export(Role::Customer), &attributes("1")).only_to_customer(), None);
    for role in [Role::Customer, Role::Peer, Role::RouteServerClient] {
        assert_eq!(judged(&export(role), &learned(ROUTE), &marked), Err(RuleId::LEAK), "{role}");
    }
    assert_eq!(sent(&external(), &marked).only_to_customer(), Some(Asn(9)));
}

#[test]
fn before_we_go_routes_say_so() {
    let drained = |export: Export| {
        let sent = sent(&Export { draining: true, ..export }, &attributes("1"));
        (sent.communities.contains(Community::GRACEFUL_SHUTDOWN), sent.local_preference)
    };
    assert_eq!(drained(external()), (true, None));
    assert_eq!(drained(internal(false)), (true, Some(0)));
}

#[test]
fn the_source_is_looked_at_only_where_it_matters() {
    let front_end = Export { guard: ExportGuard::FrontEnd, policy: doing(vec![]), ..external() };
    let (outcome, _) = front_end.evaluate(&learned(ROUTE), &attributes("1"));
    assert_eq!((outcome.saw_prefix, outcome.saw_source), (false, false));
    let inside = Export { guard: ExportGuard::FrontEnd, ..internal(false) };
    let (outcome, _) = inside.evaluate(&learned(ROUTE), &attributes("1"));
    assert_eq!((outcome.saw_prefix, outcome.saw_source), (false, true));
}
