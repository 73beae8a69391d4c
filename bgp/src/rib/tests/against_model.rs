//! Whatever happens in whatever order, a table at rest is what the model computes from scratch:
//! verdicts, Loc-RIB, changes told, Adj-RIBs-Out, what each member holds, and every count.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nvgate_model::{Instant, Prefix};
use proptest::prelude::*;

use super::lab::{NumberedPolicies, Replayed, Room, attributes, config, drain_all, facts, settle};
use super::model::{Held, Model};
use crate::attributes::Attributes;
use crate::family::Family;
use crate::nlri::{Nlri, PathId};
use crate::rib::{
    GroupFacts, GroupIndex, NextHopChange, Origination, PathsOut, PeerKind, PeerSlot, Reach,
    Resolution, Table,
};

#[derive(Clone, Debug)]
enum Op {
    AddPeer(u8),
    RemovePeer(u8),
    ChangePeer(u8, u8),
    Announce(u8, Vec<u8>, Option<u32>, u8),
    Withdraw(u8, u8, Option<u32>),
    Originate(u8, u8),
    Retract(u8),
    MarkStale(u8, bool),
    RemoveStale(u8, bool),
    Resolve(u8, u8),
    PollNextHops,
    PollChanges,
    Reimport(u8, u8),
    OpenGroup(u8),
    CloseGroup(u8),
    Reexport(u8, u8),
    Split(u8, u8, u8),
    Join(u8, u8),
    Leave(u8, u8),
    Refresh(u8, u8),
    Drain(u8, u8, usize),
    DrainTogether(u8, u8, usize),
    Sweep,
    Decide(usize),
    Check,
}

fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    let path = || proptest::option::of(0_u32..3);
    let attribute = || prop_oneof![3 => 0_u8..16, 1 => any::<u8>()];
    prop_oneof![
        2 => (0_u8..5).prop_map(AddPeer),
        1 => any::<u8>().prop_map(RemovePeer),
        1 => any::<(u8, u8)>().prop_map(|(peer, number)| ChangePeer(peer, number % 7)),
        16 => (any::<u8>(), proptest::collection::vec(0_u8..12, 1..4), path(), attribute())
            .prop_map(|(peer, prefixes, path, number)| Announce(peer, prefixes, path, number)),
        8 => (any::<u8>(), 0_u8..12, path()).prop_map(|(p, prefix, path)| Withdraw(p, prefix, path)),
        1 => (0_u8..12, attribute()).prop_map(|(prefix, number)| Originate(prefix, number)),
        1 => (0_u8..12).prop_map(Retract),
        1 => any::<(u8, bool)>().prop_map(|(peer, v4)| MarkStale(peer, v4)),
        1 => any::<(u8, bool)>().prop_map(|(peer, v4)| RemoveStale(peer, v4)),
        2 => (0_u8..4, 0_u8..4).prop_map(|(hop, how)| Resolve(hop, how)),
        2 => Just(PollNextHops),
        2 => Just(PollChanges),
        1 => (any::<u8>(), 0_u8..6).prop_map(|(peer, policy)| Reimport(peer, policy)),
        2 => (0_u8..18).prop_map(OpenGroup),
        1 => any::<u8>().prop_map(CloseGroup),
        1 => (any::<u8>(), 0_u8..6).prop_map(|(group, policy)| Reexport(group, policy)),
        1 => (any::<u8>(), any::<u8>(), 0_u8..6).prop_map(|(g, peers, policy)| Split(g, peers, policy)),
        4 => any::<(u8, u8)>().prop_map(|(group, peer)| Join(group, peer)),
        1 => any::<(u8, u8)>().prop_map(|(group, peer)| Leave(group, peer)),
        1 => any::<(u8, u8)>().prop_map(|(group, peer)| Refresh(group, peer)),
        16 => (any::<u8>(), any::<u8>(), 0_usize..6).prop_map(|(g, peer, room)| Drain(g, peer, room)),
        4 => (any::<u8>(), any::<u8>(), 0_usize..6).prop_map(|(g, p, room)| DrainTogether(g, p, room)),
        4 => Just(Sweep),
        12 => (0_usize..6).prop_map(Decide),
        1 => Just(Check),
    ]
}

struct Bench {
    table: Table,
    model: Model,
    /// What members hold.
    members: BTreeMap<(GroupIndex, PeerSlot), Replayed>,
    /// What changes told.
    told: BTreeMap<Prefix, Reach>,
    wanted: BTreeMap<IpAddr, ()>,
    /// What the gateway knows of next hops, wanted or not.
    known: BTreeMap<IpAddr, Resolution>,
}

fn pick<T: Clone>(number: u8, from: impl IntoIterator<Item = T>) -> Option<T> {
    let from: Vec<T> = from.into_iter().collect();
    (!from.is_empty()).then(|| from[usize::from(number) % from.len()].clone())
}

fn family(v4: bool) -> Family {
    if v4 { Family::Ipv4Unicast } else { Family::Ipv6Unicast }
}

fn prefix_of(number: u8) -> Prefix {
    match number {
        0..9 => format!("10.0.{number}.0/24").parse().unwrap(),
        _ => format!("2001:{number}::/32").parse().unwrap(),
    }
}

const KINDS: [PeerKind; 3] = [PeerKind::External, PeerKind::Internal, PeerKind::Client];

impl Bench {
    fn new() -> Self {
        Self {
            table: Table::new(config(), 3),
            model: Model::default(),
            members: BTreeMap::new(),
            told: BTreeMap::new(),
            wanted: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    /// With peers of every kind, next hops, and groups that they are in.
    fn furnished() -> Self {
        let mut bench = Self::new();
        for number in 0..4 {
            bench.apply(Op::AddPeer(number));
            bench.apply(Op::Resolve(number, 1 + number % 2));
            bench.apply(Op::OpenGroup([1, 5, 9, 2][usize::from(number)]));
        }
        for (group, peer) in (0..4).flat_map(|group| (0..4).map(move |peer| (group, peer))) {
            bench.apply(Op::Join(group, peer));
        }
        bench
    }

    fn peer(&self, number: u8) -> Option<PeerSlot> {
        pick(number, self.model.peers.keys().copied())
    }

    fn group(&self, number: u8) -> Option<GroupIndex> {
        pick(number, self.model.groups.keys().copied())
    }

    fn apply(&mut self, op: Op) -> Option<()> {
        match op {
            Op::AddPeer(number) if self.model.peers.len() < 5 => {
                // Each number once at a time: addresses tell peers apart.
                let facts = facts(KINDS[usize::from(number) % 3], number + 1);
                let taken = self.model.peers.values().any(|peer| peer.address == facts.address);
                if !taken {
                    let slot = self.table.add_peer(facts.clone()).unwrap();
                    self.model.policies.import.remove(&slot);
                    self.model.peers.insert(slot, facts);
                }
            }
            Op::AddPeer(_) => {}
            Op::RemovePeer(number) => {
                let peer = self.peer(number)?;
                self.table.remove_peer(peer);
                self.model.peers.remove(&peer);
                self.model.routes.retain(|(_, of, _), _| *of != peer);
                self.members.retain(|(_, of), _| *of != peer);
            }
            Op::ChangePeer(number, router_id) => {
                let peer = self.peer(number)?;
                let facts = self.model.peers.get_mut(&peer)?;
                facts.router_id = std::net::Ipv4Addr::new(10, 0, 0, router_id);
                self.table.change_peer(peer, facts.clone());
            }
            Op::Announce(number, prefixes, path_id, attributes_number) => {
                let peer = self.peer(number)?;
                let received = attributes(attributes_number);
                let path_id = path_id.map(PathId);
                let nlri = |number: &u8| Nlri { prefix: prefix_of(*number), path_id };
                let routes = prefixes.iter().map(nlri);
                let now = Instant(0);
                let policies = &self.model.policies;
                let announced = self.table.announce(peer, &received, routes, now, policies);
                assert_eq!(announced.stored, prefixes.len());
                for number in prefixes {
                    let held = Held { received: received.clone(), stale: false };
                    self.model.routes.insert((prefix_of(number), peer, path_id), held);
                }
            }
            Op::Withdraw(number, prefix, path_id) => {
                let peer = self.peer(number)?;
                let (prefix, path_id) = (prefix_of(prefix), path_id.map(PathId));
                let was = self.table.withdraw(peer, Nlri { prefix, path_id });
                let held = self.model.routes.remove(&(prefix, peer, path_id));
                assert_eq!(was, held.is_some());
            }
            Op::Originate(prefix, number) => {
                let (prefix, received) = (prefix_of(prefix), attributes(number));
                self.table.originate(prefix, &received, Origination(0), Instant(0)).unwrap();
                let held = Held { received, stale: false };
                self.model.routes.insert((prefix, PeerSlot::LOCAL, None), held);
            }
            Op::Retract(prefix) => {
                let prefix = prefix_of(prefix);
                let held = self.model.routes.remove(&(prefix, PeerSlot::LOCAL, None));
                assert_eq!(self.table.retract(prefix), held.is_some());
            }
            Op::MarkStale(number, v4) => {
                let peer = self.peer(number)?;
                self.table.mark_stale(peer, family(v4));
                for ((prefix, of, _), held) in &mut self.model.routes {
                    held.stale |= *of == peer && Family::of(*prefix) == family(v4);
                }
            }
            Op::RemoveStale(number, v4) => {
                let peer = self.peer(number)?;
                self.table.remove_stale(peer, family(v4));
                // The model removes at once: routes announced again until the sweep are not stale.
                self.model.routes.retain(|(prefix, of, _), held| {
                    !(held.stale && *of == peer && Family::of(*prefix) == family(v4))
                });
                settle(&mut self.table, &self.model.policies);
            }
            Op::Resolve(hop, how) => {
                let address = attributes(hop).next_hop;
                let resolution = match how {
                    0 => Resolution::Unreachable,
                    _ => Resolution::Reachable { metric: u32::from(how), connected: how == 1 },
                };
                self.known.insert(address, resolution);
                self.table.handle_next_hop(address, resolution);
            }
            Op::PollNextHops => self.poll_next_hops(),
            Op::PollChanges => self.poll_changes(),
            Op::Reimport(number, policy) => {
                let peer = self.peer(number)?;
                self.model.policies.import.insert(peer, policy);
                self.table.reimport(peer);
            }
            Op::OpenGroup(number) => {
                let paths = [PathsOut::Best, PathsOut::Several(2), PathsOut::All];
                let facts = GroupFacts {
                    family: family(number % 4 != 0),
                    kind: KINDS[usize::from(number) % 3],
                    paths: paths[usize::from(number) / 3 % 3],
                };
                if self.model.groups.len() < 5 {
                    let group = self.table.open_group(facts).unwrap();
                    self.model.policies.export.insert(group, 0);
                    self.model.groups.insert(group, facts);
                }
            }
            Op::CloseGroup(number) => {
                let group = self.group(number)?;
                self.table.close_group(group);
                self.model.groups.remove(&group);
                self.members.retain(|(of, _), _| *of != group);
            }
            Op::Reexport(number, policy) => {
                let group = self.group(number)?;
                self.model.policies.export.insert(group, policy);
                self.table.reexport(group);
            }
            Op::Split(number, members, policy) => self.split(number, members, policy)?,
            Op::Join(number, peer) => {
                let (group, peer) = (self.group(number)?, self.peer(peer)?);
                self.table.join(group, peer);
                self.members.entry((group, peer)).or_default();
            }
            Op::Leave(number, peer) => {
                let (group, peer) = (self.group(number)?, self.peer(peer)?);
                self.table.leave(group, peer);
                self.members.remove(&(group, peer));
            }
            Op::Refresh(number, member) => {
                let (group, peer) = self.member(number, member)?;
                self.table.refresh(group, peer);
            }
            Op::Drain(number, member, room) => {
                let (group, peer) = self.member(number, member)?;
                let replayed = self.members.get_mut(&(group, peer))?;
                self.table.drain(group, peer, &mut Room::new(replayed, room));
            }
            Op::DrainTogether(number, member, room) => {
                let (group, peer) = self.member(number, member)?;
                self.drain_together(group, peer, room);
            }
            Op::Sweep => drop(self.table.sweep(&self.model.policies)),
            Op::Decide(prefixes) => drop(self.table.decide(prefixes, &self.model.policies)),
            Op::Check => self.check(),
        }
        Some(())
    }

    fn member(&self, group: u8, member: u8) -> Option<(GroupIndex, PeerSlot)> {
        let group = self.group(group)?;
        pick(member, self.members.keys().copied().filter(|(of, _)| *of == group))
    }

    fn split(&mut self, number: u8, members: u8, policy: u8) -> Option<()> {
        let old = self.group(number)?;
        let peers = self.table.members(old).into_iter().enumerate();
        let moved: Vec<PeerSlot> =
            peers.filter(|(bit, _)| members >> bit & 1 == 1).map(|(_, peer)| peer).collect();
        if self.model.groups.len() >= 6 {
            return None;
        }
        let new = self.table.split_group(old, &moved).unwrap();
        self.model.groups.insert(new, self.model.groups[&old]);
        for peer in moved {
            let replayed = self.members.remove(&(old, peer))?;
            self.members.insert((new, peer), replayed);
        }
        self.model.policies.export.insert(new, policy);
        self.table.reexport(new);
        Some(())
    }

    /// One member's bytes go to whom they are for too.
    fn drain_together(&mut self, group: GroupIndex, peer: PeerSlot, room: usize) {
        #[derive(Default)]
        struct Recorded(Vec<(Nlri, Option<Attributes>)>, usize, usize);
        impl crate::rib::UpdateSink for Recorded {
            fn announce(&mut self, attributes: &Attributes, routes: &[Nlri]) -> crate::rib::Taken {
                let taken = self.1.min(routes.len());
                self.1 -= taken;
                self.0.extend(routes[..taken].iter().map(|nlri| (*nlri, Some(attributes.clone()))));
                crate::rib::Taken::Routes(taken)
            }
            fn withdraw(&mut self, _: Family, routes: &[Nlri]) -> usize {
                let taken = self.1.min(routes.len());
                self.1 -= taken;
                self.0.extend(routes[..taken].iter().map(|nlri| (*nlri, None)));
                taken
            }
            fn end_of_rib(&mut self, _: Family) -> bool {
                self.2 += 1;
                true
            }
        }
        let mut sink = Recorded(Vec::new(), room, 0);
        let mut companions = self.table.members(group);
        self.table.drain_shared(group, peer, &mut companions, &mut sink);
        for member in companions.into_iter().chain([peer]) {
            let replayed = self.members.get_mut(&(group, member)).unwrap();
            replayed.end_of_rib += if member == peer { sink.2 } else { 0 };
            for (nlri, attributes) in &sink.0 {
                match attributes {
                    Some(attributes) => drop(replayed.routes.insert(*nlri, attributes.clone())),
                    None => drop(replayed.routes.remove(nlri)),
                }
            }
        }
    }

    fn poll_next_hops(&mut self) {
        while let Some(change) = self.table.poll_next_hop() {
            match change {
                NextHopChange::Wanted(address) => {
                    assert_eq!(self.wanted.insert(address, ()), None);
                    let known = self.known.get(&address).copied().unwrap_or_default();
                    self.table.handle_next_hop(address, known);
                }
                NextHopChange::Unwanted(address) => {
                    assert_eq!(self.wanted.remove(&address), Some(()));
                }
            }
        }
    }

    fn poll_changes(&mut self) {
        while let Some(change) = self.table.poll_change() {
            match change.now {
                Reach::Gone => drop(self.told.remove(&change.prefix)),
                now @ (Reach::Local | Reach::Discard | Reach::Via(_)) => {
                    drop(self.told.insert(change.prefix, now))
                }
            }
        }
    }

    fn rest(&mut self) {
        for _ in 0..3 {
            self.poll_next_hops();
            settle(&mut self.table, &self.model.policies);
            self.poll_changes();
        }
        self.model.resolutions = self.known.clone();
    }

    fn check(&mut self) {
        self.rest();
        self.check_routes();
        self.check_groups();
        self.table.recount();
    }

    fn check_routes(&self) {
        let prefixes = self.model.prefixes();
        assert_eq!(self.table.prefix_count(), prefixes.len());
        let wanted: Vec<IpAddr> = self.wanted.keys().copied().collect();
        assert_eq!(wanted, self.model.next_hops().into_iter().collect::<Vec<_>>());
        for prefix in (0..12).map(prefix_of) {
            let explained = self.table.explain(prefix);
            let mut expected = self.model.chosen(prefix);
            assert_eq!(explained.routes.len(), expected.len(), "{prefix}");
            if let Some(best) = expected.iter().find(|route| route.used) {
                assert!(best.used && explained.routes[0].used, "the best of {prefix} is first");
            }
            for view in &explained.routes {
                let key = (view.peer, view.nlri.path_id);
                let at = expected.iter().position(|r| (r.peer, r.path_id) == key).unwrap();
                let route = expected.remove(at);
                assert_eq!(view.received, self.model.routes[&(prefix, key.0, key.1)].received);
                let seen =
                    (&view.imported, view.rule, view.weight, view.stale, view.verdict, view.used);
                let expected = (
                    &route.imported,
                    route.rule,
                    route.weight,
                    route.stale,
                    Some(route.verdict),
                    route.used,
                );
                assert_eq!(seen, expected, "{prefix} of {key:?}");
            }
            let told = self.told.get(&prefix).cloned().unwrap_or(Reach::Gone);
            assert_eq!(told, self.model.reach(prefix), "{prefix}");
        }
    }

    fn check_groups(&mut self) {
        for group in self.model.groups.keys().copied() {
            let mut announced = BTreeMap::new();
            for prefix in self.model.prefixes() {
                if Family::of(prefix) == self.model.groups[&group].family {
                    announced.insert(prefix, self.model.announced(group, prefix));
                }
            }
            for (prefix, expected) in &announced {
                let explained = self.table.explain(*prefix).announced.into_iter();
                let seen = explained.filter(|announcement| announcement.group == group);
                let seen = texts(seen.map(|seen| (seen.source, seen.attributes)));
                assert_eq!(seen, texts(expected.iter().cloned()), "{group:?} {prefix}");
            }
            for peer in self.table.members(group) {
                let replayed = self.members.get_mut(&(group, peer)).unwrap();
                drain_all(&mut self.table, group, peer, replayed);
                assert_eq!(replayed.end_of_rib, 1, "{group:?} {peer:?}");
                let mut held: BTreeMap<Prefix, Vec<(PeerSlot, Attributes)>> = BTreeMap::new();
                for (nlri, attributes) in &replayed.routes {
                    held.entry(nlri.prefix).or_default().push((peer, attributes.clone()));
                }
                let held: BTreeMap<Prefix, Vec<String>> =
                    held.into_iter().map(|(prefix, routes)| (prefix, texts(routes))).collect();
                let expected = announced.iter().map(|(prefix, routes)| {
                    let others = routes.iter().filter(|(source, _)| *source != peer);
                    (*prefix, texts(others.map(|(_, attributes)| (peer, attributes.clone()))))
                });
                let expected: BTreeMap<Prefix, Vec<String>> =
                    expected.filter(|(_, routes)| !routes.is_empty()).collect();
                assert_eq!(held, expected, "{group:?} {peer:?}");
            }
            self.table.check_journal(group);
        }
    }

    /// Nothing is left once nothing is held.
    fn empty(&mut self) {
        for peer in self.model.peers.keys().copied().collect::<Vec<_>>() {
            self.table.remove_peer(peer);
        }
        for prefix in (0..12).map(prefix_of) {
            self.table.retract(prefix);
        }
        self.model.peers.clear();
        self.model.routes.clear();
        self.members.clear();
        self.check();
        assert_eq!((self.table.attribute_sets(), self.table.attribute_bytes()), (0, 0));
        assert_eq!(self.told, BTreeMap::new());
        assert!(self.table.is_blank());
    }
}

fn texts(routes: impl IntoIterator<Item = (PeerSlot, Attributes)>) -> Vec<String> {
    let mut texts: Vec<String> =
        routes.into_iter().map(|(peer, attributes)| format!("{peer:?} {attributes:?}")).collect();
    texts.sort_unstable();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_table_at_rest_is_what_is_computed_from_scratch(ops in proptest::collection::vec(op(), 1..200)) {
        let mut bench = Bench::furnished();
        for op in ops {
            bench.apply(op);
        }
        bench.check();
        bench.empty();
    }
}

#[test]
fn policies_by_number_are_what_the_model_asks() {
    let policies = NumberedPolicies::default();
    let mut table = Table::new(config(), 1);
    let peer = table.add_peer(facts(PeerKind::External, 1)).unwrap();
    let routes = [prefix_of(1), prefix_of(2)].map(Nlri::from);
    table.announce(peer, &attributes(0), routes, Instant(0), &policies);
    assert_eq!(policies.asked.get(), 1, "once an UPDATE, unless the prefix matters");
}
