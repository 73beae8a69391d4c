//! What has to be done to the host's links so that they are as the plan says: a pure function.
//!
//! It works on a copy of what was observed, on which every step that it decides takes effect at
//! once ([`Observed::follow`]), so that a later decision sees what an earlier step takes away: a bond
//! that goes down for another mode loses addresses, and gets them again. What cannot be done as
//! things are (a card that is missing, a name that somebody else's link has) is left out;
//! [`judge`](super::judge) says so.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::observed::{Observed, ObservedKind, ObservedLink, Rule, RuleKind, TableRoute};
use super::step::Step;
use crate::plan::{
    Addressing, BondMode, BondOptions, BondPlan, InterfaceAddress, LinkKind, LinkPlan, LinksPlan,
    Offloads,
};
use nvgate_model::Prefix;

/// The steps that lead from what was observed to what is desired, in order; none if it is there.
#[must_use]
pub fn reconcile(desired: &LinksPlan, observed: &Observed) -> Vec<Step> {
    let mut planner = Planner { state: observed.clone(), steps: Vec::new() };
    planner.name_cards(desired);
    planner.remove_changed_vlans(desired);
    planner.remove_former(desired);
    for link in &desired.links {
        match &link.kind {
            LinkKind::Uplink(_) => {}
            LinkKind::Bond(bond) => planner.bond(desired, &link.name, bond),
            LinkKind::Vlan { parent, id } => planner.vlan(desired, link, parent, *id),
        }
    }
    for link in &desired.links {
        planner.mtu(desired, link);
    }
    for link in &desired.links {
        planner.up(link);
    }
    for link in &desired.links {
        if !planner.state.has(link) {
            continue;
        }
        planner.offloads(link);
        if let Addressing::Static(addresses) = &link.addressing {
            planner.addresses(&link.name, addresses);
        }
    }
    planner.routing(desired);
    planner.steps
}

struct Planner {
    state: Observed,
    steps: Vec<Step>,
}

impl Planner {
    fn step(&mut self, step: Step) {
        self.state.follow(&step);
        self.steps.push(step);
    }

    fn link(&self, name: &str) -> Option<&ObservedLink> {
        self.state.links.get(name)
    }

    /// Gives selected cards the names of the plan. A name that another selected card still has is
    /// freed first.
    fn name_cards(&mut self, desired: &LinksPlan) {
        let wanted: Vec<(String, String)> = desired
            .links
            .iter()
            .filter_map(|link| {
                let LinkKind::Uplink(selection) = &link.kind else { return None };
                let found = self.state.selected(&link.name, selection);
                let [found] = found[..] else { return None };
                (found != link.name).then(|| (found.to_owned(), link.name.clone()))
            })
            .collect();
        let mut moving = Vec::new();
        for (from, to) in &wanted {
            let free = !self.state.links.contains_key(to);
            if free || wanted.iter().any(|(other, _)| other == to) {
                moving.push((from.clone(), to.clone()));
            }
        }
        // Who only waits for a name that stays taken does not free its own.
        while let Some(stuck) = moving.iter().position(|(_, to)| {
            self.state.links.contains_key(to) && !moving.iter().any(|(from, _)| from == to)
        }) {
            moving.remove(stuck);
        }
        for index in 0..moving.len() {
            let (from, to) = moving[index].clone();
            if self.state.links.contains_key(&to) {
                let aside = self.unused_name();
                self.rename(&to, &aside);
                for (waiting, _) in &mut moving[index..] {
                    if *waiting == to {
                        waiting.clone_from(&aside);
                    }
                }
            }
            self.rename(&from, &to);
        }
    }

    fn unused_name(&self) -> String {
        let names = (0..).map(|number: u32| format!("nvgate-{number}"));
        let mut free = names.filter(|name| !self.state.links.contains_key(name));
        free.next().unwrap_or_default()
    }

    fn rename(&mut self, from: &str, to: &str) {
        let up = self.link(from).is_some_and(|link| link.up);
        if up {
            self.step(Step::Down { link: from.to_owned() });
        }
        self.step(Step::Rename { from: from.to_owned(), to: to.to_owned() });
        if up {
            self.step(Step::Up { link: to.to_owned() });
        }
    }

    /// Removes what the gateway made and the plan no longer has, but for what a port is on.
    fn remove_former(&mut self, desired: &LinksPlan) {
        let kept = self.carrying_ports(desired);
        let former = |name: &str, link: &ObservedLink, vlans: bool| {
            let kind = match link.kind {
                ObservedKind::Card => false,
                ObservedKind::Bond(_) => !vlans,
                ObservedKind::Vlan { .. } => vlans,
            };
            kind && link.ours && !kept.contains(name) && desired.link(name).is_none()
        };
        for vlans in [true, false] {
            let links = self.state.links.iter();
            let gone = links.filter(|(name, link)| former(name, link, vlans));
            let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
            for link in gone {
                self.step(Step::Remove { link });
            }
        }
    }

    /// The links of the ports, and what they are on.
    fn carrying_ports(&self, desired: &LinksPlan) -> BTreeSet<String> {
        let mut kept: BTreeSet<String> = desired.ports.iter().cloned().collect();
        for port in &desired.ports {
            if let Some(ObservedKind::Vlan { parent: Some(parent), .. }) =
                self.link(port).map(|link| &link.kind)
            {
                kept.insert(parent.clone());
            }
        }
        kept
    }

    fn bond(&mut self, desired: &LinksPlan, name: &str, bond: &BondPlan) {
        let link = name.to_owned();
        match self.link(name).map(|link| link.kind.clone()) {
            None => self.step(Step::CreateBond { link, options: bond.options }),
            Some(ObservedKind::Bond(facts)) => {
                if facts.options != Some(bond.options) {
                    self.change_bond(name, facts.options, bond.options);
                }
            }
            Some(ObservedKind::Card | ObservedKind::Vlan { .. }) => return,
        }
        let strangers: Vec<String> = self
            .state
            .members(name)
            .filter(|(member, _)| !bond.members.iter().any(|wanted| wanted == member))
            .map(|(member, _)| member.to_owned())
            .collect();
        for member in strangers {
            self.step(Step::Release { member, bond: name.to_owned() });
        }
        for member in &bond.members {
            if desired.link(member).is_some_and(|member| self.state.has(member)) {
                self.join(member, name);
            }
        }
        let Some(ObservedKind::Bond(facts)) = self.link(name).map(|link| &link.kind) else {
            return;
        };
        let primary = bond.primary.clone().filter(|primary| {
            self.link(primary).is_some_and(|link| link.controller.as_deref() == Some(name))
        });
        // Where none is preferred here, one that is set is somebody's slip too.
        if facts.primary != primary && prefers(bond.options.mode) {
            self.step(Step::SetPrimary { link: name.to_owned(), primary });
        }
    }

    /// Another mode or LACP rate is taken only by a bond that is down and without members.
    fn change_bond(&mut self, name: &str, found: Option<BondOptions>, wanted: BondOptions) {
        let rebuilt = |found: BondOptions| match (found.mode, wanted.mode) {
            (BondMode::ActiveBackup, BondMode::ActiveBackup)
            | (BondMode::TransmitLoadBalancing, BondMode::TransmitLoadBalancing)
            | (BondMode::Static(_), BondMode::Static(_)) => false,
            (BondMode::Lacp(_, found), BondMode::Lacp(_, wanted)) => found != wanted,
            (
                BondMode::ActiveBackup
                | BondMode::TransmitLoadBalancing
                | BondMode::Static(_)
                | BondMode::Lacp(..),
                _,
            ) => true,
        };
        let rebuilt = found.is_none_or(rebuilt);
        if rebuilt {
            let members: Vec<String> =
                self.state.members(name).map(|(name, _)| name.to_owned()).collect();
            for member in members {
                self.step(Step::Release { member, bond: name.to_owned() });
            }
            if self.link(name).is_some_and(|link| link.up) {
                self.step(Step::Down { link: name.to_owned() });
            }
        }
        self.step(Step::SetBond { link: name.to_owned(), options: wanted, rebuilt });
    }

    /// Puts a card into a bond, out of another one if need be; not out of somebody else's bridge.
    fn join(&mut self, member: &str, bond: &str) {
        let Some(link) = self.link(member) else { return };
        let controller = link.controller.clone();
        if controller.as_deref() == Some(bond) {
            return;
        }
        if let Some(other) = controller {
            let is_bond =
                self.link(&other).is_some_and(|link| matches!(link.kind, ObservedKind::Bond(_)));
            if !is_bond {
                return;
            }
            self.step(Step::Release { member: member.to_owned(), bond: other });
        }
        if self.link(member).is_some_and(|link| link.up) {
            self.step(Step::Down { link: member.to_owned() });
        }
        self.step(Step::Enslave { member: member.to_owned(), bond: bond.to_owned() });
    }

    /// Removes VLANs that are to be others, before one of them is in another's way.
    fn remove_changed_vlans(&mut self, desired: &LinksPlan) {
        let vlan = |link: &&LinkPlan| matches!(link.kind, LinkKind::Vlan { .. });
        for link in desired.links.iter().filter(vlan) {
            let changed = self
                .link(&link.name)
                .is_some_and(|found| found.ours && matches!(found.kind, ObservedKind::Vlan { .. }));
            if changed && !self.state.has(link) {
                self.step(Step::Remove { link: link.name.clone() });
            }
        }
    }

    fn vlan(&mut self, desired: &LinksPlan, link: &LinkPlan, parent: &str, id: u16) {
        let carried = desired.link(parent).is_some_and(|parent| self.state.has(parent));
        let taken = self.link(&link.name).is_some() || self.state.vlan(parent, id).is_some();
        if carried && !taken {
            let link = link.name.clone();
            self.step(Step::CreateVlan { link, parent: parent.to_owned(), id });
        }
    }

    fn mtu(&mut self, desired: &LinksPlan, link: &LinkPlan) {
        let name = &link.name;
        if !self.state.has(link) {
            return;
        }
        // A card that another one's bridge has, or a bond's member, has that one's.
        let bond = desired.bond_of(name).filter(|(bond, _)| {
            self.link(name).is_some_and(|link| link.controller.as_ref() == Some(&bond.name))
        });
        let wanted = match bond {
            Some((bond, _)) => bond.mtu,
            None => link.mtu,
        };
        let Some(wanted) = wanted else { return };
        let room = match &link.kind {
            LinkKind::Vlan { parent, .. } => self.link(parent).map_or(0, |parent| parent.mtu),
            LinkKind::Uplink(_) | LinkKind::Bond(_) => u32::MAX,
        };
        let found = self.link(name).map_or(wanted, |link| link.mtu);
        if found != wanted && wanted <= room {
            self.step(Step::SetMtu { link: name.clone(), mtu: wanted });
        }
    }

    fn up(&mut self, link: &LinkPlan) {
        let name = link.name.as_str();
        if !self.state.has(link) {
            return;
        }
        let carried = match self.link(name).map(|link| &link.kind) {
            Some(ObservedKind::Vlan { parent, .. }) => {
                parent.as_deref().and_then(|parent| self.link(parent)).is_some_and(|link| link.up)
            }
            Some(ObservedKind::Card | ObservedKind::Bond(_)) => true,
            None => false,
        };
        if carried && self.link(name).is_some_and(|link| !link.up) {
            self.step(Step::Up { link: name.to_owned() });
        }
    }

    fn offloads(&mut self, plan: &LinkPlan) {
        let Some(link) = self.link(&plan.name) else { return };
        let unlike = plan.offloads.unlike(link.offloads);
        let possible = unlike.iter().filter(|&(one, _)| link.changeable.state(one).is_some());
        let offloads = possible.fold(Offloads::default(), |all, (one, on)| all.with(one, on));
        if offloads.iter().next().is_some() {
            self.step(Step::SetOffloads { link: plan.name.clone(), offloads });
        }
    }

    fn addresses(&mut self, name: &str, wanted: &[InterfaceAddress]) {
        let Some(link) = self.link(name) else { return };
        let former = link
            .addresses
            .iter()
            .filter(|(address, facts)| facts.ours && !wanted.contains(address));
        let former: Vec<InterfaceAddress> = former.map(|(address, _)| *address).collect();
        let missing: Vec<InterfaceAddress> =
            wanted.iter().filter(|one| !link.addresses.contains_key(one)).copied().collect();
        for address in former {
            self.step(Step::RemoveAddress { link: name.to_owned(), address });
        }
        for address in missing {
            self.step(Step::AddAddress { link: name.to_owned(), address });
        }
    }

    fn routing(&mut self, desired: &LinksPlan) {
        let (routes, rules) = management_routing(desired, &self.state);
        let former: Vec<TableRoute> = self.state.routes.difference(&routes).cloned().collect();
        for route in former {
            self.step(Step::RemoveRoute { route });
        }
        // Prefixes of the link before what is reached by them.
        let missing: Vec<TableRoute> = routes.difference(&self.state.routes).cloned().collect();
        let (by_gateway, on_link): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .partition(|route| matches!(route, TableRoute::Via { gateway: Some(_), .. }));
        for route in on_link.into_iter().chain(by_gateway) {
            self.step(Step::AddRoute { route });
        }
        let missing: Vec<Rule> = rules.difference(&self.state.rules).cloned().collect();
        for rule in missing {
            self.step(Step::AddRule { rule });
        }
        let former: Vec<Rule> = self.state.rules.difference(&rules).cloned().collect();
        for rule in former {
            self.step(Step::RemoveRule { rule });
        }
    }
}

const fn prefers(mode: BondMode) -> bool {
    match mode {
        BondMode::ActiveBackup | BondMode::TransmitLoadBalancing => true,
        BondMode::Static(_) | BondMode::Lacp(..) => false,
    }
}

/// The routes and rules that keep what is management's apart from what is tenants', given the
/// addresses that the links have.
fn management_routing(
    desired: &LinksPlan,
    state: &Observed,
) -> (BTreeSet<TableRoute>, BTreeSet<Rule>) {
    let (mut routes, mut rules) = (BTreeSet::new(), BTreeSet::new());
    let Some(management) = &desired.management else { return (routes, rules) };
    let name = &management.link;
    let Some(link) = state.links.get(name) else { return (routes, rules) };
    for ipv4 in [true, false] {
        let mut add = |kind| rules.insert(Rule { ipv4, kind });
        add(RuleKind::NotThrough(name.clone()));
        add(RuleKind::ByManagement(name.clone()));
        add(RuleKind::OwnSpecific);
        add(RuleKind::OwnDefault);
        for port in &desired.ports {
            add(RuleKind::ByPort(port.clone()));
            for address in addresses_of(state, port).filter(|one| one.is_ipv4() == ipv4) {
                add(RuleKind::FromPort(address));
                add(RuleKind::OnlyByPort(address));
            }
        }
        for address in addresses_of(state, name).filter(|one| one.is_ipv4() == ipv4) {
            add(RuleKind::FromManagement(address));
        }
        routes.insert(TableRoute::Unreachable { ipv4 });
    }
    if link.up {
        let via = |prefix, gateway| TableRoute::Via { prefix, link: name.clone(), gateway };
        routes.extend(link.addresses.keys().map(|address| via(address.prefix(), None)));
        routes.extend(management.gateways.iter().map(|gateway| {
            let prefix = if gateway.is_ipv4() { Prefix::DEFAULT_V4 } else { Prefix::DEFAULT_V6 };
            via(prefix, Some(*gateway))
        }));
    }
    (routes, rules)
}

fn addresses_of<'a>(state: &'a Observed, link: &str) -> impl Iterator<Item = IpAddr> + use<'a> {
    let link = state.links.get(link).into_iter();
    link.flat_map(|link| link.addresses.keys().map(|address| address.address))
}
