//! Every count of a table, counted anew.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::family::Family;
use crate::rib::family_table::FamilyTable;
use crate::rib::group::{Group, GroupIndex};
use crate::rib::journal::COMPACTION_MIN;
use crate::rib::peers::PeerSlot;
use crate::rib::prefixes::{Flag, Network};
use crate::rib::routes::chain;
use crate::rib::slab::Index;
use crate::rib::table::Table;

/// References, and those of imported routes of peers, by place.
#[derive(Default)]
struct Counted {
    references: BTreeMap<usize, (u32, u32)>,
    routes: BTreeMap<(PeerSlot, Family), u32>,
    accepted: BTreeMap<(PeerSlot, Family), u32>,
    populated: usize,
}

impl Table {
    /// Compares every count with what holds what it counts. For a table at rest.
    pub(super) fn recount(&self) {
        let mut counted = Counted::default();
        self.ipv4.recount(&mut counted);
        self.ipv6.recount(&mut counted);
        assert_eq!(self.shared.populated, counted.populated);
        let held = self.shared.arena.references().into_iter();
        let held: BTreeMap<usize, (u32, u32)> =
            held.map(|(id, references, imports)| (id.place(), (references, imports))).collect();
        assert_eq!(held, counted.references);
        for (slot, peer) in self.shared.peers.iter() {
            for family in Family::ALL {
                let routes = counted.routes.get(&(slot, family)).copied().unwrap_or(0);
                assert_eq!(peer.routes[family.index()], routes);
                let accepted = counted.accepted.get(&(slot, family)).copied().unwrap_or(0);
                assert_eq!(peer.accepted[family.index()], accepted);
            }
        }
        let mut uses: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for (place, (_, imports)) in &counted.references {
            if *imports > 0 {
                *uses.entry(self.shared.arena[Index::new(*place)].next_hop).or_default() += 1;
            }
        }
        let held: BTreeMap<IpAddr, u32> =
            self.shared.next_hops.uses().into_iter().filter(|(_, uses)| *uses > 0).collect();
        assert_eq!(held, uses);
    }

    /// The journal keeps its bound, and nothing of it once every member is at its end.
    pub(super) fn check_journal(&mut self, index: GroupIndex) {
        let group = match index.family {
            Family::Ipv4Unicast => self.ipv4.group_mut(index),
            Family::Ipv6Unicast => self.ipv6.group_mut(index),
        };
        let group = group.unwrap();
        assert_eq!(group.journal.len(), 0);
        assert_eq!(group.held, group.recount_held());
    }

    /// The length of a group's journal, and what bounds it.
    pub(super) fn journal_bound(&mut self, index: GroupIndex) -> (usize, usize) {
        let group = self.ipv4.group_mut(index).unwrap();
        (group.journal.len(), 2 * group.held + COMPACTION_MIN)
    }

    /// Whether no prefix and no route is held.
    pub(super) fn is_blank(&self) -> bool {
        let (ipv4, ipv6) = (&self.ipv4, &self.ipv6);
        (ipv4.prefixes.len(), ipv4.routes.len()) == (0, 0)
            && (ipv6.prefixes.len(), ipv6.routes.len()) == (0, 0)
    }
}

impl Group {
    fn recount_held(&self) -> usize {
        let slots = self.outs.iter().zip(0..);
        let held = slots.filter(|(out, slot)| {
            out.attributes.is_some() || self.journal.pending(*slot, out.changed).is_some()
        });
        held.count()
    }
}

impl<N: Network> FamilyTable<N> {
    fn recount(&self, counted: &mut Counted) {
        for prefix in self.prefixes.live() {
            let entry = &self.prefixes[prefix];
            counted.populated += usize::from(entry.first.is_some());
            let waits = entry.has(Flag::Dirty) || entry.has(Flag::Changed);
            assert!(entry.first.is_some() || entry.holders > 0 || waits, "an idle prefix is kept");
            let groups = self.groups.iter().flatten();
            let holders = groups.filter(|group| group.holds(prefix.place())).count();
            assert_eq!(usize::from(entry.holders), holders);
            for index in chain(&self.routes, entry.first) {
                let route = &self.routes[index];
                counted.references.entry(route.received.place()).or_default().0 += 1;
                if let Some(id) = route.imported {
                    let count = counted.references.entry(id.place()).or_default();
                    count.0 += 1;
                    count.1 += u32::from(route.peer != PeerSlot::LOCAL);
                    *counted.accepted.entry((route.peer, N::FAMILY)).or_default() += 1;
                }
                *counted.routes.entry((route.peer, N::FAMILY)).or_default() += 1;
            }
        }
        for group in self.groups.iter().flatten() {
            let announced = group.outs.iter().filter(|out| out.attributes.is_some()).count();
            assert_eq!(group.announced, announced);
        }
        for out in self.groups.iter().flatten().flat_map(|group| group.outs.iter()) {
            if let Some(id) = out.attributes {
                counted.references.entry(id.place()).or_default().0 += 1;
            }
        }
    }
}

impl Group {
    fn holds(&self, place: usize) -> bool {
        match &self.paths {
            Some(paths) => paths.holds(place),
            None => {
                let out = self.out(place as u32);
                out.attributes.is_some()
                    || self.journal.pending(place as u32, out.changed).is_some()
            }
        }
    }
}
