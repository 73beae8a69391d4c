//! What the tests build with: policies by number, peers, attributes, and a peer's view of us.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::{Asn, Prefix};

use crate::attributes::Attributes;
use crate::community::Community;
use crate::decision::{MedComparison, MultipathPath, Options};
use crate::family::Family;
use crate::nlri::{Nlri, PathId};
use crate::origin::Origin;
use crate::policy::RuleId;
use crate::rib::{
    ExportVerdict, Exported, GroupIndex, ImportVerdict, Imported, Origination, PeerFacts, PeerKind,
    PeerSlot, Policies, RouteSource, SawPrefix, Table, TableConfig, TableLimits, Taken, UpdateSink,
};

pub(super) const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
pub(super) const CLUSTER_ID: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 2);

pub(super) fn config() -> TableConfig {
    TableConfig {
        limits: TableLimits { prefixes: 1000, attribute_bytes: 1 << 20 },
        router_id: ROUTER_ID,
        cluster_id: CLUSTER_ID,
        options: Options {
            med: MedComparison::SameNeighbor,
            multipath: 2,
            multipath_path: MultipathPath::Exact,
        },
    }
}

pub(super) fn table() -> Table {
    Table::new(config(), 7)
}

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Peer `number` with an address and identifier of its own.
pub(super) fn facts(kind: PeerKind, number: u8) -> PeerFacts {
    PeerFacts {
        kind,
        router_id: Ipv4Addr::new(10, 0, 0, number),
        address: Ipv4Addr::new(192, 0, 2, number).into(),
        local: Ipv4Addr::new(192, 0, 2, 250).into(),
        route_limits: [500; 2],
    }
}

/// Attributes that differ with every bit of `number`, mostly in what the decision compares.
pub(super) fn attributes(number: u8) -> Attributes {
    let next_hop = IpAddr::from(Ipv4Addr::new(198, 51, 100, number & 3));
    let mut attributes = Attributes::originated(next_hop, Origin::Igp);
    let paths = ["64500", "64500 64501", "64502 64501", "64502"];
    attributes.as_path = paths[usize::from(number >> 2 & 3)].parse().unwrap();
    attributes.med = (number & 16 != 0).then_some(u32::from(number >> 4 & 3));
    match number >> 5 {
        1 => attributes.origin = Origin::Incomplete,
        2 => attributes.local_preference = Some(90),
        3 => attributes.communities = [Community::LLGR_STALE].into_iter().collect(),
        4 => attributes.edit_rare(|rare| rare.originator_id = Some(Ipv4Addr::new(10, 0, 0, 9))),
        5 => attributes.edit_rare(|rare| rare.cluster_list = Box::new([CLUSTER_ID])),
        6 => attributes.edit_rare(|rare| rare.cluster_list = Box::new([ROUTER_ID])),
        _ => {}
    }
    attributes
}

/// Policies by number; 0 changes nothing.
#[derive(Default)]
pub(super) struct NumberedPolicies {
    pub(super) import: BTreeMap<PeerSlot, u8>,
    pub(super) export: BTreeMap<GroupIndex, u8>,
    pub(super) asked: Cell<usize>,
}

fn is_odd(prefix: Prefix) -> bool {
    match prefix.network() {
        IpAddr::V4(network) => network.octets()[2] & 1 == 1,
        IpAddr::V6(network) => network.segments()[1] & 1 == 1,
    }
}

impl Policies for NumberedPolicies {
    fn import(&self, peer: PeerSlot, prefix: Prefix, received: &Attributes) -> Imported {
        self.asked.set(self.asked.get() + 1);
        let number = self.import.get(&peer).copied().unwrap_or(0);
        let rule = RuleId::configured(usize::from(number)).unwrap();
        let (verdict, weight, saw_prefix) = match number {
            1 if is_odd(prefix) => (ImportVerdict::Rejected, 0, SawPrefix::Yes),
            1 => (ImportVerdict::Unchanged, 0, SawPrefix::Yes),
            2 => {
                let mut changed = received.clone();
                changed.local_preference = Some(150);
                (ImportVerdict::Changed(changed), 0, SawPrefix::No)
            }
            3 if received.med.is_some() => (ImportVerdict::Loop, 0, SawPrefix::No),
            4 if received.origin == Origin::Incomplete => (ImportVerdict::Leak, 0, SawPrefix::No),
            5 => (ImportVerdict::Unchanged, 5, SawPrefix::No),
            _ => (ImportVerdict::Unchanged, 0, SawPrefix::No),
        };
        Imported { verdict, rule, weight, discard: number == 6, saw_prefix }
    }

    fn export(
        &self,
        group: GroupIndex,
        source: RouteSource<'_>,
        prefix: Prefix,
        held: &Attributes,
    ) -> Exported {
        self.asked.set(self.asked.get() + 1);
        let from = match source {
            RouteSource::Local(_) => 0,
            RouteSource::Peer(_, facts) => facts.router_id.octets()[3],
        };
        let (verdict, saw_prefix) = match self.export.get(&group).copied().unwrap_or(0) {
            1 => {
                let mut changed = held.clone();
                changed.as_path = held.as_path.prepended(Asn(64_496), 1);
                changed.local_preference = None;
                (ExportVerdict::Changed(changed), SawPrefix::No)
            }
            2 if is_odd(prefix) => (ExportVerdict::Rejected, SawPrefix::Yes),
            2 => (ExportVerdict::Unchanged, SawPrefix::Yes),
            3 if from & 1 == 1 => (ExportVerdict::Rejected, SawPrefix::No),
            4 => {
                let next_hop = Ipv4Addr::new(192, 0, 2, 250).into();
                let changed = Attributes::originated(next_hop, Origin::Igp);
                (ExportVerdict::Changed(changed), SawPrefix::No)
            }
            5 => (ExportVerdict::Rejected, SawPrefix::No),
            6 if matches!(source, RouteSource::Local(Origination(1))) => {
                (ExportVerdict::Rejected, SawPrefix::No)
            }
            _ => (ExportVerdict::Unchanged, SawPrefix::No),
        };
        Exported { verdict, saw_prefix }
    }
}

/// What a peer holds of us after all that it was sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Replayed {
    pub(super) routes: BTreeMap<Nlri, Attributes>,
    pub(super) end_of_rib: usize,
    /// Withdrawals of what it did not hold.
    pub(super) idle_withdrawals: usize,
    /// Calls that announced something.
    pub(super) announcements: usize,
}

/// A sink with room for so many routes and marks.
pub(super) struct Room<'a> {
    pub(super) replayed: &'a mut Replayed,
    pub(super) room: usize,
    /// Attributes with a longer AS path fit no message.
    pub(super) hops_max: usize,
}

impl<'a> Room<'a> {
    pub(super) fn new(replayed: &'a mut Replayed, room: usize) -> Self {
        Self { replayed, room, hops_max: usize::MAX }
    }
}

impl UpdateSink for Room<'_> {
    fn announce(&mut self, attributes: &Attributes, routes: &[Nlri]) -> Taken {
        if attributes.as_path.hop_count() > self.hops_max {
            return Taken::TooLong;
        }
        let taken = self.room.min(routes.len());
        self.room -= taken;
        self.replayed.announcements += usize::from(taken > 0);
        for nlri in &routes[..taken] {
            self.replayed.routes.insert(*nlri, attributes.clone());
        }
        Taken::Routes(taken)
    }

    fn withdraw(&mut self, family: Family, routes: &[Nlri]) -> usize {
        let taken = self.room.min(routes.len());
        self.room -= taken;
        for nlri in &routes[..taken] {
            assert_eq!(nlri.family(), family);
            let held = self.replayed.routes.remove(nlri).is_some();
            self.replayed.idle_withdrawals += usize::from(!held);
        }
        taken
    }

    fn end_of_rib(&mut self, _family: Family) -> bool {
        let fits = self.room > 0;
        self.room -= usize::from(fits);
        self.replayed.end_of_rib += usize::from(fits);
        fits
    }
}

/// Sweeps and decides until nothing is left to do.
pub(super) fn settle(table: &mut Table, policies: &NumberedPolicies) {
    for _ in 0..100_000 {
        let sweeping = table.sweep(policies);
        if !table.decide(2, policies) && !sweeping {
            return;
        }
    }
    panic!("the table does not settle");
}

/// Tells a member everything.
pub(super) fn drain_all(
    table: &mut Table,
    group: GroupIndex,
    peer: PeerSlot,
    replayed: &mut Replayed,
) {
    use crate::rib::Progress;
    for _ in 0..100_000 {
        let mut sink = Room::new(replayed, usize::MAX);
        if table.drain(group, peer, &mut sink).progress == Progress::Idle {
            return;
        }
    }
    panic!("draining does not end");
}

pub(super) fn path(prefix: Prefix, path_id: u32) -> Nlri {
    Nlri { prefix, path_id: Some(PathId(path_id)) }
}
