//! What becomes of routes: stale ones, those of peers that went, next hops, changes, views.

use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::Instant;

use super::lab::{NumberedPolicies, attributes, config, facts, prefix, settle, table};
use crate::decision::{Barred, Verdict};
use crate::family::Family;
use crate::nlri::Nlri;
use crate::rib::{
    Explanation, GroupFacts, NextHopChange, Origination, PathsOut, PeerKind, PeerSlot, Reach,
    Resolution, RouteChange, RouteFilter, Table, TableConfig, Via,
};

const NOW: Instant = Instant(0);
const V4: Family = Family::Ipv4Unicast;

fn nlri(number: u8) -> Nlri {
    Nlri::from(prefix(&format!("10.0.{number}.0/24")))
}

fn next_hop(number: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, 100, number).into()
}

fn reachable(metric: u32) -> Resolution {
    Resolution::Reachable { metric, connected: false }
}

fn announce(table: &mut Table, peer: PeerSlot, number: u8, routes: &[Nlri]) {
    let policies = NumberedPolicies::default();
    let routes = routes.iter().copied();
    let announced = table.announce(peer, &attributes(number), routes.clone(), NOW, &policies);
    assert_eq!(announced.stored, routes.count());
}

fn verdicts(table: &Table, number: u8) -> Vec<(PeerSlot, Option<Verdict>, bool)> {
    let routes = table.explain(nlri(number).prefix).routes.into_iter();
    routes.map(|route| (route.peer, route.verdict, route.stale)).collect()
}

fn changes(table: &mut Table) -> Vec<RouteChange> {
    std::iter::from_fn(|| table.poll_change()).collect()
}

#[test]
fn an_empty_table_takes_no_memory_and_one_that_was_emptied_none_that_counts() {
    let mut table = table();
    assert_eq!(table.footprint(), 0);
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    let before = table.footprint();
    let policies = NumberedPolicies::default();
    for number in 0..200 {
        announce(&mut table, peer, number, &[nlri(number)]);
        settle(&mut table, &policies);
    }
    let full = table.footprint();
    assert!(full > table.attribute_bytes() && table.attribute_bytes() > 40 * 100, "{full}");
    for number in 0..200 {
        table.withdraw(peer, nlri(number));
    }
    settle(&mut table, &policies);
    while table.poll_change().is_some() || table.poll_next_hop().is_some() {}
    assert!(table.footprint() - before < 4096, "{} bytes", table.footprint());
    assert!(table.is_blank() && table.attribute_bytes() == 0);
}

#[test]
fn routes_wait_for_their_next_hop_and_follow_what_becomes_of_it() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    announce(&mut table, peer, 1, &[nlri(1), nlri(2)]);
    settle(&mut table, &policies);
    let unresolved = Some(Verdict::Barred(Barred::Unresolved));
    assert_eq!(verdicts(&table, 1), [(peer, unresolved, false)]);
    assert_eq!(table.poll_next_hop(), Some(NextHopChange::Wanted(next_hop(1))));
    assert_eq!((table.poll_next_hop(), changes(&mut table)), (None, Vec::new()));

    table.handle_next_hop(next_hop(1), reachable(7));
    settle(&mut table, &policies);
    let via = Via { peer, next_hop: next_hop(1), link_local: None };
    let now = Reach::Via(vec![via]);
    assert_eq!(verdicts(&table, 1), [(peer, Some(Verdict::Best), false)]);
    assert_eq!(
        changes(&mut table),
        [1, 2].map(|number| RouteChange { prefix: nlri(number).prefix, now: now.clone() })
    );

    table.handle_next_hop(next_hop(1), reachable(9));
    settle(&mut table, &policies);
    assert_eq!(changes(&mut table), []);
    table.handle_next_hop(next_hop(1), Resolution::Unreachable);
    settle(&mut table, &policies);
    assert_eq!(verdicts(&table, 2), [(peer, unresolved, false)]);
    assert_eq!(changes(&mut table).iter().filter(|change| change.now == Reach::Gone).count(), 2);

    table.withdraw(peer, nlri(1));
    assert_eq!(table.poll_next_hop(), None);
    table.withdraw(peer, nlri(2));
    assert_eq!(table.poll_next_hop(), Some(NextHopChange::Unwanted(next_hop(1))));
    announce(&mut table, peer, 1, &[nlri(1)]);
    table.withdraw(peer, nlri(1));
    assert_eq!(table.poll_next_hop(), None);
}

#[test]
fn a_nearer_next_hop_wins_when_it_becomes_so() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    let [one, other] = [1, 2].map(|number| {
        let peer = table.add_peer(facts(PeerKind::External, number)).unwrap();
        announce(&mut table, peer, number, &[nlri(1)]);
        table.handle_next_hop(next_hop(number), reachable(u32::from(number)));
        peer
    });
    settle(&mut table, &policies);
    let best = Some(Verdict::Best);
    let farther = Some(Verdict::Metric);
    assert_eq!(verdicts(&table, 1), [(one, best, false), (other, farther, false)]);
    table.handle_next_hop(next_hop(1), reachable(3));
    settle(&mut table, &policies);
    assert_eq!(verdicts(&table, 1), [(other, best, false), (one, farther, false)]);
}

#[test]
fn stale_routes_stay_in_use_until_they_are_announced_again_or_removed() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    announce(&mut table, peer, 1, &[nlri(1), nlri(2)]);
    table.handle_next_hop(next_hop(1), reachable(1));
    settle(&mut table, &policies);
    changes(&mut table);
    table.mark_stale(peer, V4);
    let best = Some(Verdict::Best);
    assert_eq!(verdicts(&table, 1), [(peer, best, true)]);
    announce(&mut table, peer, 1, &[nlri(1)]);
    assert_eq!(verdicts(&table, 1), [(peer, best, false)]);
    table.remove_stale(peer, Family::Ipv6Unicast);
    settle(&mut table, &policies);
    assert_eq!(verdicts(&table, 2), [(peer, best, true)]);
    // A second restart begins while the first's stale routes are being removed.
    table.remove_stale(peer, V4);
    table.mark_stale(peer, V4);
    settle(&mut table, &policies);
    assert_eq!((verdicts(&table, 1), verdicts(&table, 2)), (vec![(peer, best, true)], vec![]));
    let gone = RouteChange { prefix: nlri(2).prefix, now: Reach::Gone };
    assert_eq!(changes(&mut table), [gone]);
    assert_eq!(table.route_count(peer, V4), 1);
}

#[test]
fn routes_of_a_peer_that_went_are_not_chosen_even_before_they_are_removed() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    let [gone, stays] = [1, 2].map(|number| {
        let peer = table.add_peer(facts(PeerKind::External, number)).unwrap();
        announce(&mut table, peer, 1, &[nlri(1)]);
        peer
    });
    table.handle_next_hop(next_hop(1), reachable(1));
    settle(&mut table, &policies);
    assert_eq!(verdicts(&table, 1)[0].0, gone);
    table.remove_peer(gone);
    announce(&mut table, stays, 5, &[nlri(1)]);
    table.handle_next_hop(next_hop(1), reachable(2));
    table.decide(usize::MAX, &policies);
    let went = Some(Verdict::Barred(Barred::PeerGone));
    assert_eq!(verdicts(&table, 1), [(stays, Some(Verdict::Best), false), (gone, went, false)]);
    settle(&mut table, &policies);
    assert_eq!(verdicts(&table, 1), [(stays, Some(Verdict::Best), false)]);
    assert_eq!(table.peer(gone), None);
    assert_eq!(table.add_peer(facts(PeerKind::Internal, 3)), Ok(gone));
}

#[test]
fn what_is_announced_unchanged_changes_nothing() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    announce(&mut table, peer, 1, &[nlri(1)]);
    table.handle_next_hop(next_hop(1), reachable(1));
    settle(&mut table, &policies);
    changes(&mut table);
    let before = table.explain(nlri(1).prefix);
    let later = Instant(9_000_000_000);
    table.announce(peer, &attributes(1), [nlri(1)], later, &policies);
    assert!(!table.decide(0, &policies));
    assert_eq!((table.explain(nlri(1).prefix), changes(&mut table)), (before, Vec::new()));
    table.announce(peer, &attributes(5), [nlri(1)], later, &policies);
    assert!(table.decide(0, &policies));
    settle(&mut table, &policies);
    // Other attributes, but the way is the same.
    let routes = table.explain(nlri(1).prefix).routes;
    assert_eq!((routes[0].learned_secs, changes(&mut table)), (9, Vec::new()));
}

#[test]
fn changes_of_a_prefix_are_told_once_as_what_holds_now() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    table.originate(nlri(1).prefix, &attributes(0), Origination(0), NOW).unwrap();
    settle(&mut table, &policies);
    assert!(table.retract(nlri(1).prefix) && !table.retract(nlri(1).prefix));
    settle(&mut table, &policies);
    table.originate(nlri(1).prefix, &attributes(4), Origination(0), NOW).unwrap();
    settle(&mut table, &policies);
    let local = RouteChange { prefix: nlri(1).prefix, now: Reach::Local };
    assert_eq!(changes(&mut table), [local]);
    assert_eq!(table.explain(nlri(2).prefix), Explanation::default());
}

#[test]
fn a_route_that_discards_is_told_as_such_also_when_only_that_changed() {
    let mut table = table();
    let mut policies = NumberedPolicies::default();
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    announce(&mut table, peer, 1, &[nlri(1)]);
    table.handle_next_hop(next_hop(1), reachable(1));
    settle(&mut table, &policies);
    let prefix = nlri(1).prefix;
    let via = vec![Via { peer, next_hop: next_hop(1), link_local: None }];
    for (number, now) in [(0, Reach::Via(via.clone())), (6, Reach::Discard), (0, Reach::Via(via))] {
        policies.import.insert(peer, number);
        table.reimport(peer);
        settle(&mut table, &policies);
        assert_eq!(table.explain(prefix).routes[0].discard, number == 6);
        assert_eq!(changes(&mut table), [RouteChange { prefix, now }]);
    }
}

#[test]
fn export_is_told_why_a_route_is_originated_and_asked_again_when_that_changes() {
    let mut table = table();
    let mut policies = NumberedPolicies::default();
    let facts = GroupFacts { family: V4, kind: PeerKind::External, paths: PathsOut::Best };
    let group = table.open_group(facts).unwrap();
    policies.export.insert(group, 6);
    for (origination, announced) in [(0, 2), (1, 0), (2, 2)] {
        for number in [1, 2] {
            let origination = Origination(origination);
            table.originate(nlri(number).prefix, &attributes(0), origination, NOW).unwrap();
        }
        settle(&mut table, &policies);
        assert_eq!(table.announced_count(group), announced);
        let shown = table.explain(nlri(1).prefix).routes[0].origination;
        assert_eq!(shown, Origination(origination));
    }
}

#[test]
fn another_cluster_is_looked_for_in_what_is_held_already() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    let peer = table.add_peer(facts(PeerKind::Client, 1)).unwrap();
    table.handle_next_hop(next_hop(0), reachable(1));
    announce(&mut table, peer, 0xc0, &[nlri(1)]);
    table.handle_next_hop(next_hop(0), reachable(1));
    settle(&mut table, &policies);
    let verdict = |table: &Table| table.explain(nlri(1).prefix).routes[0].verdict;
    assert_eq!(verdict(&table), Some(Verdict::Best));
    table.reconfigure(TableConfig { cluster_id: super::lab::ROUTER_ID, ..config() });
    settle(&mut table, &policies);
    assert_eq!(verdict(&table), Some(Verdict::Barred(Barred::Loop)));
    table.reconfigure(config());
    settle(&mut table, &policies);
    assert_eq!(verdict(&table), Some(Verdict::Best));
    assert_eq!(table.accepted_count(peer, V4), 1);
}

#[test]
fn routes_are_shown_by_pages_in_the_order_of_prefixes() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    let [one, other] =
        [1, 2].map(|number| table.add_peer(facts(PeerKind::External, number)).unwrap());
    announce(&mut table, one, 1, &[nlri(9), nlri(3), nlri(5)]);
    announce(&mut table, other, 1, &[nlri(4), nlri(3)]);
    table.handle_next_hop(next_hop(1), reachable(1));
    settle(&mut table, &policies);
    let page = |filter, after: Option<u8>, limit| -> Vec<(Nlri, PeerSlot)> {
        let after = after.map(|number| nlri(number).prefix);
        let routes = table.routes(V4, filter, after, limit).into_iter();
        routes.map(|route| (route.nlri, route.peer)).collect()
    };
    let all = RouteFilter::default();
    assert_eq!(page(all, None, 2), [(nlri(3), one), (nlri(3), other)]);
    assert_eq!(page(all, Some(3), 2), [(nlri(4), other), (nlri(5), one)]);
    assert_eq!(page(all, Some(5), 2), [(nlri(9), one)]);
    assert_eq!(page(all, Some(9), 2), []);
    let of_other = RouteFilter { peer: Some(other), used_only: false };
    assert_eq!(page(of_other, None, 1), [(nlri(3), other)]);
    assert_eq!(page(of_other, Some(3), 9), [(nlri(4), other)]);
    assert_eq!(table.routes(Family::Ipv6Unicast, all, None, 9), []);
}

#[test]
fn used_only_shows_what_packets_take() {
    let mut config = config();
    config.options.multipath = 1;
    let mut table = Table::new(config, 1);
    let policies = NumberedPolicies::default();
    for number in 1..3 {
        let peer = table.add_peer(facts(PeerKind::External, number)).unwrap();
        announce(&mut table, peer, 1, &[nlri(1)]);
    }
    table.handle_next_hop(next_hop(1), reachable(1));
    settle(&mut table, &policies);
    let used = RouteFilter { peer: None, used_only: true };
    assert_eq!(table.routes(V4, used, None, 9).len(), 1);
}

#[test]
fn the_longest_match_is_a_route_that_packets_take_unless_a_prefix_is_named_or_there_is_none() {
    let mut table = table();
    let policies = NumberedPolicies::default();
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    let around = Nlri::from(prefix("10.0.0.0/16"));
    announce(&mut table, peer, 1, &[around, nlri(4)]);
    // Nothing is known of its next hop.
    announce(&mut table, peer, 2, &[nlri(3)]);
    table.handle_next_hop(next_hop(1), reachable(1));
    settle(&mut table, &policies);
    let found = |table: &Table, text| table.longest_match(prefix(text)).map(|it| it.to_string());
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(found(&table, "10.0.4.9/32"), some("10.0.4.0/24"));
    assert_eq!(found(&table, "10.0.4.0/25"), some("10.0.4.0/24"));
    assert_eq!(found(&table, "10.0.3.9/32"), some("10.0.0.0/16"));
    assert_eq!(found(&table, "10.0.3.0/24"), some("10.0.3.0/24"));
    assert_eq!(found(&table, "10.0.0.0/15"), None);
    assert_eq!(found(&table, "fd00::1/128"), None);
    assert!(table.withdraw(peer, around));
    settle(&mut table, &policies);
    assert_eq!(found(&table, "10.0.3.9/32"), some("10.0.3.0/24"));
}
