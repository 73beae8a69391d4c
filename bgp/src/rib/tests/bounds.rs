//! Every bound of a table is met and told.

use nvgate_model::{Instant, Prefix};

use super::lab::{
    NumberedPolicies, Replayed, Room, attributes, config, facts, path, prefix, settle,
};
use crate::attributes::Attributes;
use crate::nlri::Nlri;
use crate::rib::{
    Announced, GroupFacts, Origination, PATHS_MAX, PathsOut, PeerKind, PeerSlot, Progress, Refused,
    Resolution, Table, TableConfig, TableLimits,
};

const NOW: Instant = Instant(0);

fn limited(prefixes: u32, attribute_bytes: usize) -> Table {
    let limits = TableLimits { prefixes, attribute_bytes };
    Table::new(TableConfig { limits, ..config() }, 1)
}

fn nlri(number: u8) -> Nlri {
    Nlri::from(prefix(&format!("10.0.{number}.0/24")))
}

fn refused(stored: usize, refused: usize, cause: Refused) -> Announced {
    Announced { stored, refused, cause: Some(cause) }
}

fn announce(table: &mut Table, peer: PeerSlot, number: u8, routes: &[Nlri]) -> Announced {
    let policies = NumberedPolicies::default();
    table.announce(peer, &attributes(number), routes.iter().copied(), NOW, &policies)
}

#[test]
fn a_peer_has_at_most_its_routes_and_may_still_change_them() {
    let mut table = limited(1000, 1 << 20);
    let mut few = facts(PeerKind::External, 1);
    few.route_limits = [2, 0];
    let peer = table.add_peer(few).unwrap();
    let routes = [1, 2, 3].map(nlri);
    assert_eq!(announce(&mut table, peer, 0, &routes), refused(2, 1, Refused::PeerPrefixes));
    assert_eq!(announce(&mut table, peer, 1, &routes[..2]).stored, 2);
    let ipv6 = Nlri::from(prefix("2001:db8::/32"));
    assert_eq!(announce(&mut table, peer, 0, &[ipv6]), refused(0, 1, Refused::PeerPrefixes));
    assert!(table.withdraw(peer, routes[0]));
    assert_eq!(announce(&mut table, peer, 0, &[routes[2]]).stored, 1);
    table.recount();
}

#[test]
fn a_peer_has_at_most_so_many_paths_of_a_prefix() {
    let mut table = limited(1000, 1 << 20);
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    let paths: Vec<Nlri> = (0..40).map(|id| path(prefix("10.0.0.0/24"), id)).collect();
    let expected = refused(PATHS_MAX, 40 - PATHS_MAX, Refused::Paths);
    assert_eq!(announce(&mut table, peer, 0, &paths), expected);
    assert_eq!(announce(&mut table, peer, 1, &paths[..1]).stored, 1);
    table.recount();
}

#[test]
fn a_table_has_at_most_its_prefixes_whoever_announces_them() {
    let mut table = limited(2, 1 << 20);
    let one = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    let other = table.add_peer(facts(PeerKind::External, 2)).unwrap();
    assert_eq!(announce(&mut table, one, 0, &[nlri(1)]).stored, 1);
    let ipv6 = Nlri::from(prefix("2001:db8::/32"));
    assert_eq!(announce(&mut table, other, 0, &[nlri(1), ipv6]).stored, 2);
    assert_eq!(announce(&mut table, one, 0, &[nlri(2)]), refused(0, 1, Refused::TablePrefixes));
    let originated = table.originate(nlri(2).prefix, &attributes(0), Origination(0), NOW);
    assert_eq!(originated, Err(Refused::TablePrefixes));
    assert_eq!(table.prefix_count(), 2);
    table.recount();
}

#[test]
fn attributes_beyond_the_bytes_are_refused_with_the_route_that_was_there() {
    let one_set = {
        let mut table = limited(1000, 1 << 20);
        let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
        announce(&mut table, peer, 0, &[nlri(1)]);
        table.attribute_bytes()
    };
    let mut table = limited(1000, one_set);
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    assert_eq!(announce(&mut table, peer, 0, &[nlri(1), nlri(2)]).stored, 2);
    assert_eq!(announce(&mut table, peer, 1, &[nlri(1)]), refused(0, 1, Refused::TableBytes));
    assert_eq!((table.prefix_count(), table.attribute_sets()), (1, 1));
    let policies = NumberedPolicies::default();
    settle(&mut table, &policies);
    assert_eq!(table.explain(nlri(1).prefix).routes, []);
    table.recount();
}

#[test]
fn a_peer_that_is_gone_announces_nothing() {
    let mut table = limited(1000, 1 << 20);
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    table.remove_peer(peer);
    assert_eq!(announce(&mut table, peer, 0, &[nlri(1)]), Announced::default());
    assert_eq!(announce(&mut table, PeerSlot::LOCAL, 0, &[nlri(1)]), Announced::default());
    assert_eq!(table.prefix_count(), 0);
}

/// A table with a peer that flaps and a member that reads nothing, and what it then holds.
fn behind_a_slow_member(prefixes: u32, flap: impl Fn(&mut Table, PeerSlot)) -> (Table, Replayed) {
    let mut table = limited(prefixes, 1 << 20);
    let policies = NumberedPolicies::default();
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    let slow = table.add_peer(facts(PeerKind::External, 2)).unwrap();
    let group = GroupFacts {
        family: crate::family::Family::Ipv4Unicast,
        kind: PeerKind::External,
        paths: PathsOut::Best,
    };
    let group = table.open_group(group).unwrap();
    table.join(group, slow);
    settle(&mut table, &policies);
    let mut replayed = Replayed::default();
    super::lab::drain_all(&mut table, group, slow, &mut replayed);
    announce(&mut table, peer, 0, &[nlri(0)]);
    while let Some(change) = table.poll_next_hop() {
        let crate::rib::NextHopChange::Wanted(address) = change else { panic!("{change:?}") };
        table.handle_next_hop(address, Resolution::Reachable { metric: 0, connected: true });
    }
    for _ in 0..50 {
        flap(&mut table, peer);
        settle(&mut table, &policies);
        while table.poll_change().is_some() {}
        let (length, bound) = table.journal_bound(group);
        assert!(length <= bound, "{length} entries, {bound} at most");
    }
    super::lab::drain_all(&mut table, group, slow, &mut replayed);
    table.recount();
    (table, replayed)
}

#[test]
fn fifty_changes_behind_a_slow_member_are_one_announcement() {
    let number = std::cell::Cell::new(0);
    let (_, replayed) = behind_a_slow_member(1000, |table, peer| {
        number.set(number.get() ^ 4);
        announce(table, peer, number.get(), &[nlri(0)]);
    });
    assert_eq!((replayed.announcements, replayed.routes.len()), (1, 1));
}

#[test]
fn prefixes_that_only_a_slow_member_still_knows_are_bounded_too() {
    let next = std::cell::Cell::new(1);
    let outcome = std::cell::Cell::new(None);
    let (table, replayed) = behind_a_slow_member(5, |table, peer| {
        table.withdraw(peer, nlri(next.get() - 1));
        outcome.set(announce(table, peer, 0, &[nlri(next.get())]).cause);
        next.set(next.get() + 1);
    });
    assert_eq!(outcome.get(), Some(Refused::TablePrefixes));
    assert_eq!((replayed.routes.len(), replayed.idle_withdrawals), (0, 0));
    assert!(table.is_blank());
}

#[test]
fn routes_whose_attributes_fit_no_message_are_withdrawn_and_counted() {
    let mut table = limited(1000, 1 << 20);
    let policies = NumberedPolicies::default();
    let member = table.add_peer(facts(PeerKind::External, 2)).unwrap();
    let group = GroupFacts {
        family: crate::family::Family::Ipv4Unicast,
        kind: PeerKind::External,
        paths: PathsOut::Best,
    };
    let group = table.open_group(group).unwrap();
    table.join(group, member);
    let originate = |table: &mut Table, attributes: &Attributes| {
        let prefixes: [Prefix; 2] = [nlri(1).prefix, nlri(2).prefix];
        for prefix in prefixes {
            table.originate(prefix, attributes, Origination(0), NOW).unwrap();
        }
        settle(table, &policies);
    };
    originate(&mut table, &attributes(0));
    let mut replayed = Replayed::default();
    super::lab::drain_all(&mut table, group, member, &mut replayed);
    assert_eq!(replayed.routes.len(), 2);
    originate(&mut table, &attributes(4));
    let mut sink = Room { hops_max: 1, ..Room::new(&mut replayed, 1) };
    let drained = table.drain(group, member, &mut sink);
    assert_eq!((drained.too_long, drained.announced), (1, 0));
    assert_eq!(drained.progress, Progress::Full);
    let mut sink = Room { hops_max: 1, ..Room::new(&mut replayed, 9) };
    let drained = table.drain(group, member, &mut sink);
    assert_eq!((drained.too_long, drained.progress), (1, Progress::Idle));
    assert_eq!((replayed.routes.len(), replayed.idle_withdrawals), (0, 0));
}
