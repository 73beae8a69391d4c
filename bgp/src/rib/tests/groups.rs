//! What members of update groups are told, and what not.

use std::net::Ipv4Addr;

use nvgate_model::Instant;

use super::lab::{
    CLUSTER_ID, NumberedPolicies, Replayed, Room, attributes, drain_all, facts, path, prefix,
    settle, table,
};
use crate::attributes::Attributes;
use crate::family::Family;
use crate::nlri::Nlri;
use crate::rib::{
    Drained, GroupFacts, GroupIndex, Origination, PathsOut, PeerKind, PeerSlot, Progress,
    Resolution, SLICE_MAX, Table, Walk,
};

const NOW: Instant = Instant(0);

fn nlri(number: u8) -> Nlri {
    Nlri::from(prefix(&format!("10.0.{number}.0/24")))
}

/// A table whose next hops are all reachable.
struct Place {
    table: Table,
    policies: NumberedPolicies,
}

impl Place {
    fn new() -> Self {
        Self { table: table(), policies: NumberedPolicies::default() }
    }

    fn peer(&mut self, kind: PeerKind, number: u8) -> PeerSlot {
        self.table.add_peer(facts(kind, number)).unwrap()
    }

    fn group(&mut self, kind: PeerKind, paths: PathsOut) -> GroupIndex {
        let family = Family::Ipv4Unicast;
        self.table.open_group(GroupFacts { family, kind, paths }).unwrap()
    }

    fn announce(&mut self, peer: PeerSlot, number: u8, routes: &[Nlri]) {
        let routes = routes.iter().copied();
        self.table.announce(peer, &attributes(number), routes, NOW, &self.policies);
        for hop in 0..4 {
            let reachable = Resolution::Reachable { metric: 1, connected: true };
            self.table.handle_next_hop(attributes(hop).next_hop, reachable);
        }
        settle(&mut self.table, &self.policies);
    }

    fn withdraw(&mut self, peer: PeerSlot, routes: &[Nlri]) {
        for route in routes {
            self.table.withdraw(peer, *route);
        }
        settle(&mut self.table, &self.policies);
    }

    fn joined(&mut self, group: GroupIndex, peer: PeerSlot) -> Replayed {
        self.table.join(group, peer);
        settle(&mut self.table, &self.policies);
        let mut replayed = Replayed::default();
        drain_all(&mut self.table, group, peer, &mut replayed);
        replayed
    }

    fn drain(&mut self, group: GroupIndex, peer: PeerSlot, replayed: &mut Replayed) {
        drain_all(&mut self.table, group, peer, replayed);
    }
}

#[test]
fn a_new_member_is_told_the_table_then_end_of_rib_then_changes() {
    let mut place = Place::new();
    let peer = place.peer(PeerKind::External, 1);
    let member = place.peer(PeerKind::External, 2);
    let routes: Vec<Nlri> = (0..7).map(nlri).collect();
    place.announce(peer, 0, &routes);
    let group = place.group(PeerKind::External, PathsOut::Best);
    place.table.join(group, member);
    let mut replayed = Replayed::default();
    let mut drain = |place: &mut Place, room| {
        let mut sink = Room::new(&mut replayed, room);
        place.table.drain(group, member, &mut sink)
    };
    let progress = |progress| Drained { progress, ..Drained::default() };
    assert_eq!(drain(&mut place, 99), progress(Progress::Building));
    settle(&mut place.table, &place.policies);
    let told = |announced, progress| Drained { announced, progress, ..Drained::default() };
    assert_eq!(drain(&mut place, 1), told(1, Progress::Full));
    assert_eq!(drain(&mut place, 99), told(SLICE_MAX - 1, Progress::More));
    // Told of before the walk's end, and again by the journal.
    place.announce(peer, 4, &routes[..1]);
    assert_eq!(drain(&mut place, 99), told(3, Progress::More));
    assert_eq!(drain(&mut place, 99), told(1, Progress::More));
    assert_eq!(drain(&mut place, 0), progress(Progress::Full));
    let walked = Some(Walk::Initial);
    assert_eq!(drain(&mut place, 99), Drained { walked, ..progress(Progress::More) });
    assert_eq!(drain(&mut place, 99), told(1, Progress::Idle));
    assert_eq!(drain(&mut place, 99), Drained::default());
    assert_eq!((replayed.routes.len(), replayed.end_of_rib), (7, 1));
}

#[test]
fn who_teaches_a_route_is_told_neither_of_it_nor_of_its_end() {
    let mut place = Place::new();
    let peers = [1, 2, 3].map(|number| place.peer(PeerKind::External, number));
    let group = place.group(PeerKind::External, PathsOut::Best);
    let mut replayed = peers.map(|peer| place.joined(group, peer));
    let routes: Vec<Nlri> = (0..20).map(nlri).collect();
    let mut drain = |place: &mut Place| {
        for (peer, replayed) in peers.iter().zip(&mut replayed) {
            place.drain(group, *peer, replayed);
        }
        let idle: usize = replayed.iter().map(|member| member.idle_withdrawals).sum();
        (replayed.each_ref().map(|member| member.routes.len()), idle)
    };
    place.announce(peers[0], 0, &routes);
    assert_eq!(drain(&mut place), ([0, 20, 20], 0));
    // Another peer's are better: who taught them until now learns of them, and the other way round.
    place.policies.import.insert(peers[1], 5);
    place.announce(peers[1], 0, &routes);
    assert_eq!(drain(&mut place), ([20, 0, 20], 0));
    place.withdraw(peers[1], &routes);
    assert_eq!(drain(&mut place), ([0, 20, 20], 0));
    place.withdraw(peers[0], &routes);
    assert_eq!(drain(&mut place), ([0, 0, 0], 0));
    // What came and went unread is not told at all.
    place.announce(peers[0], 0, &routes);
    place.withdraw(peers[0], &routes);
    assert_eq!(drain(&mut place), ([0, 0, 0], 0));
    place.table.recount();
}

#[test]
fn members_at_the_same_place_share_the_bytes_but_for_their_own_routes() {
    let mut place = Place::new();
    let peers = [1, 2, 3, 4].map(|number| place.peer(PeerKind::External, number));
    let group = place.group(PeerKind::External, PathsOut::Best);
    for peer in peers {
        place.joined(group, peer);
    }
    place.announce(peers[0], 0, &[nlri(0)]);
    let mut replayed = Replayed::default();
    let mut drain = |place: &mut Place, peer: PeerSlot| {
        let mut companions = peers.to_vec();
        let mut sink = Room::new(&mut replayed, 99);
        let drained = place.table.drain_shared(group, peer, &mut companions, &mut sink);
        (drained.announced, companions)
    };
    assert_eq!(drain(&mut place, peers[0]), (0, vec![]));
    assert_eq!(drain(&mut place, peers[1]), (1, vec![peers[2], peers[3]]));
    for peer in peers {
        assert_eq!(drain(&mut place, peer).0, 0);
    }
    place.table.check_journal(group);
}

#[test]
fn each_set_of_attributes_is_announced_once_a_slice() {
    let mut place = Place::new();
    let peer = place.peer(PeerKind::External, 1);
    let member = place.peer(PeerKind::External, 2);
    let group = place.group(PeerKind::External, PathsOut::Best);
    let mut replayed = place.joined(group, member);
    place.announce(peer, 0, &[nlri(0)]);
    place.announce(peer, 1, &[nlri(1)]);
    place.announce(peer, 0, &[nlri(2)]);
    place.drain(group, member, &mut replayed);
    assert_eq!((replayed.routes.len(), replayed.announcements), (3, 2));
}

#[test]
fn a_refresh_tells_everything_again_and_no_end_of_rib() {
    let mut place = Place::new();
    let peer = place.peer(PeerKind::External, 1);
    let member = place.peer(PeerKind::External, 2);
    let group = place.group(PeerKind::External, PathsOut::Best);
    let mut replayed = place.joined(group, member);
    place.announce(peer, 0, &[nlri(0), nlri(1)]);
    place.drain(group, member, &mut replayed);
    place.table.refresh(group, member);
    let mut again = Replayed::default();
    let mut walked = Vec::new();
    loop {
        let drained = place.table.drain(group, member, &mut Room::new(&mut again, 99));
        walked.extend(drained.walked);
        if drained.progress == Progress::Idle {
            break;
        }
    }
    assert_eq!((walked, again.end_of_rib), (vec![Walk::Refresh], 0));
    assert_eq!(again.routes, replayed.routes);
}

/// What members of a group of `kind` get of a route that a peer of `teacher` teaches.
fn reflected(teacher: Option<PeerKind>, kind: PeerKind, number: u8) -> Option<Attributes> {
    let mut place = Place::new();
    let member = place.peer(kind, 2);
    let group = place.group(kind, PathsOut::Best);
    match teacher {
        Some(teacher) => {
            let peer = place.peer(teacher, 7);
            place.announce(peer, number, &[nlri(0)]);
        }
        None => {
            place
                .table
                .originate(nlri(0).prefix, &attributes(number), Origination(0), NOW)
                .unwrap();
            settle(&mut place.table, &place.policies);
        }
    }
    place.joined(group, member).routes.remove(&nlri(0))
}

#[test]
fn routes_of_the_as_go_to_others_of_it_by_the_rules_of_reflection() {
    use PeerKind::{Client, External, Internal};
    let plain = attributes(0);
    let mut passed = plain.clone();
    passed.edit_rare(|rare| {
        rare.originator_id = Some(Ipv4Addr::new(10, 0, 0, 7));
        rare.cluster_list = Box::new([CLUSTER_ID]);
    });
    for (teacher, kind, expected) in [
        (None, External, Some(&plain)),
        (None, Internal, Some(&plain)),
        (None, Client, Some(&plain)),
        (Some(External), External, Some(&plain)),
        (Some(External), Internal, Some(&plain)),
        (Some(External), Client, Some(&plain)),
        (Some(Internal), External, Some(&plain)),
        (Some(Internal), Internal, None),
        (Some(Internal), Client, Some(&passed)),
        (Some(Client), External, Some(&plain)),
        (Some(Client), Internal, Some(&passed)),
        (Some(Client), Client, Some(&passed)),
    ] {
        assert_eq!(reflected(teacher, kind, 0).as_ref(), expected, "{teacher:?} to {kind:?}");
    }
}

#[test]
fn an_originator_stays_and_leaves_the_as_with_nothing_of_reflection() {
    // Number 128 came with an ORIGINATOR_ID already.
    let sent = reflected(Some(PeerKind::Client), PeerKind::Internal, 128).unwrap();
    assert_eq!(sent.originator_id(), Some(Ipv4Addr::new(10, 0, 0, 9)));
    assert_eq!(sent.cluster_list(), [CLUSTER_ID]);
    let sent = reflected(Some(PeerKind::Client), PeerKind::External, 128).unwrap();
    assert_eq!(sent.rare(), None);
    // Number 160 passed our cluster: from inside that is a loop, from outside it means nothing.
    assert_eq!(reflected(Some(PeerKind::Internal), PeerKind::Client, 160), None);
    assert_eq!(reflected(Some(PeerKind::External), PeerKind::External, 160).unwrap().rare(), None);
}

#[test]
fn paths_keep_their_identifiers_and_end_one_by_one() {
    let mut place = Place::new();
    let peers = [1, 2, 3].map(|number| place.peer(PeerKind::External, number));
    let member = place.peer(PeerKind::External, 4);
    let all = place.group(PeerKind::External, PathsOut::All);
    let two = place.group(PeerKind::External, PathsOut::Several(2));
    let (mut of_all, mut of_two) = (place.joined(all, member), place.joined(two, member));
    for (peer, number) in peers.iter().zip([8, 0, 4]) {
        place.announce(*peer, number, &[nlri(0)]);
    }
    place.drain(all, member, &mut of_all);
    place.drain(two, member, &mut of_two);
    let hops = |replayed: &Replayed| -> Vec<(Nlri, usize)> {
        let routes = replayed.routes.iter();
        routes.map(|(nlri, attributes)| (*nlri, attributes.as_path.hop_count())).collect()
    };
    let id = |number| path(nlri(0).prefix, number);
    assert_eq!(hops(&of_all), [(id(0), 2), (id(1), 1), (id(2), 2)]);
    assert_eq!(hops(&of_two), [(id(0), 2), (id(1), 1)]);
    place.withdraw(peers[1], &[nlri(0)]);
    place.drain(all, member, &mut of_all);
    place.drain(two, member, &mut of_two);
    assert_eq!(hops(&of_all), [(id(0), 2), (id(2), 2)]);
    assert_eq!(hops(&of_two), hops(&of_all));
    // A teacher gets the others' paths.
    assert_eq!(hops(&place.joined(all, peers[0])), [(id(2), 2)]);
    assert_eq!((of_all.idle_withdrawals, of_two.idle_withdrawals), (0, 0));
}

#[test]
fn a_split_group_is_told_only_what_its_new_policy_changes() {
    let mut place = Place::new();
    let peer = place.peer(PeerKind::External, 1);
    let [stays, moves] = [2, 3].map(|number| place.peer(PeerKind::External, number));
    let group = place.group(PeerKind::External, PathsOut::Best);
    let mut of_stays = place.joined(group, stays);
    let mut of_moves = place.joined(group, moves);
    place.announce(peer, 0, &[nlri(0), nlri(1), nlri(2)]);
    place.drain(group, moves, &mut of_moves);
    place.announce(peer, 0, &[nlri(3)]);
    let split = place.table.split_group(group, &[moves]).unwrap();
    assert_eq!(
        (place.table.members(group), place.table.members(split)),
        (vec![stays], vec![moves])
    );
    // Policy 2 refuses odd prefixes.
    place.policies.export.insert(split, 2);
    place.table.reexport(split);
    settle(&mut place.table, &place.policies);
    of_moves.announcements = 0;
    place.drain(split, moves, &mut of_moves);
    place.drain(group, stays, &mut of_stays);
    assert_eq!(of_moves.routes.keys().copied().collect::<Vec<_>>(), [nlri(0), nlri(2)]);
    assert_eq!((of_moves.announcements, of_moves.end_of_rib), (0, 1));
    assert_eq!(of_stays.routes.len(), 4);
    place.table.recount();
    place.table.close_group(group);
    place.table.close_group(split);
    place.table.recount();
}
