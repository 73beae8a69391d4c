//! The host's links as the kernel has them, as far as setting them up needs to know; and what a
//! [`Step`] makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nvgate_model::{MacAddress, Prefix};

use super::step::Step;
use crate::plan::{BondOptions, InterfaceAddress, LinkKind, LinkPlan, Offloads, Selection};

/// An MTU that is not known before the kernel was asked again.
const UNKNOWN_MTU: u32 = 0;
/// The MTU of a bond that was just made.
const NEW_MTU: u32 = 1500;

/// The host's links, and of its routing what the gateway made for management.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observed {
    /// Ethernet links by name.
    pub links: BTreeMap<String, ObservedLink>,
    /// Routes of the management table that the gateway made.
    pub routes: BTreeSet<TableRoute>,
    /// Routing rules that the gateway made.
    pub rules: BTreeSet<Rule>,
}

/// A link as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObservedLink {
    /// Its permanent MAC address, else the present one.
    pub mac: MacAddress,
    /// The devices on its path in /sys.
    pub path: Vec<String>,
    /// What it is.
    pub kind: ObservedKind,
    /// Whether the gateway made it.
    pub ours: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The bond, bridge or other link that it is a member of.
    pub controller: Option<String>,
    /// Of a bond's member: the aggregator that LACP put it into.
    pub aggregator: Option<u16>,
    /// Its addresses but link-local ones.
    pub addresses: BTreeMap<InterfaceAddress, AddressFacts>,
    /// Offloads that are on or off.
    pub offloads: Offloads,
    /// Those of them that can be changed.
    pub changeable: Offloads,
}

/// What a link is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObservedKind {
    /// A network card or any link that is neither of the others.
    Card,
    /// A bond.
    Bond(BondFacts),
    /// An 802.1Q VLAN.
    Vlan {
        /// The link that carries it; absent when it is in another network namespace.
        parent: Option<String>,
        /// Its identifier.
        id: u16,
    },
}

/// A bond as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BondFacts {
    /// How it is set up; absent in a mode that the gateway does not know.
    pub options: Option<BondOptions>,
    /// The preferred member.
    pub primary: Option<String>,
    /// The active aggregator and the MAC address of the LACP partner, in that mode.
    pub partner: Option<(u16, MacAddress)>,
}

/// What is known of an address beside itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AddressFacts {
    /// Whether the gateway added it.
    pub ours: bool,
    /// Whether another machine has it (RFC 4862 section 5.4).
    pub duplicate: bool,
}

/// A route of the management table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TableRoute {
    /// By the management link, by a gateway or without one.
    Via {
        /// Where to.
        prefix: Prefix,
        /// The link.
        link: String,
        /// The next hop.
        gateway: Option<IpAddr>,
    },
    /// What no other route leads anywhere else: refused, so that it does not leave by a port.
    Unreachable {
        /// Whether of IPv4.
        ipv4: bool,
    },
}

impl TableRoute {
    /// Whether it is of IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        match self {
            Self::Via { prefix, .. } => prefix.is_ipv4(),
            Self::Unreachable { ipv4 } => *ipv4,
        }
    }
}

/// A routing rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rule {
    /// Whether of IPv4.
    pub ipv4: bool,
    /// Which packets, and what becomes of them.
    pub kind: RuleKind,
}

/// Which packets a rule is for, and what becomes of them. The order is that of their priorities.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RuleKind {
    /// What came by this link is for the host itself or refused.
    NotThrough(String),
    /// What has this source address goes by the management table.
    FromManagement(IpAddr),
    /// What has this source address goes by the main table.
    FromPort(IpAddr),
    /// What is sent by this link goes by the management table.
    ByManagement(String),
    /// What is sent by this link goes by the main table.
    ByPort(String),
    /// What has this source address and no route there is refused: it never leaves by management.
    OnlyByPort(IpAddr),
    /// What the host sends goes by the main table's routes but its default route.
    OwnSpecific,
    /// What else the host sends goes by the management table.
    OwnDefault,
}

impl Observed {
    /// The names of the network cards that a link of the plan can mean.
    #[must_use]
    pub fn selected(&self, name: &str, selection: &Selection) -> Vec<&str> {
        let links = self.links.iter();
        let cards = links.filter(|(_, link)| link.kind == ObservedKind::Card);
        let fits = |(found, link): &(&String, &ObservedLink)| match selection {
            Selection::Name => *found == name,
            Selection::Mac(mac) => link.mac == *mac,
            Selection::Path(device) => link.path.iter().any(|one| one == device),
        };
        let mut found: Vec<(&String, &ObservedLink)> = cards.filter(fits).collect();
        match selection {
            Selection::Name => {}
            Selection::Mac(_) | Selection::Path(_) => {
                // Bridges and the like have a card's address and no device.
                if found.iter().any(|(_, link)| !link.path.is_empty()) {
                    found.retain(|(_, link)| !link.path.is_empty());
                }
                found.retain(|(_, link)| !self.is_twin(link));
            }
        }
        found.into_iter().map(|(found, _)| found.as_str()).collect()
    }

    /// Whether a link is the fast half of a card that the hypervisor gives twice with one address
    /// (SR-IOV under hv_netvsc, failover under virtio_net): the kernel puts it under the other half,
    /// which is the one to use.
    fn is_twin(&self, link: &ObservedLink) -> bool {
        let above = link.controller.as_ref().and_then(|above| self.links.get(above));
        above.is_some_and(|above| {
            above.kind == ObservedKind::Card && above.mac == link.mac && !above.path.is_empty()
        })
    }

    /// The members of a bond.
    pub fn members(&self, bond: &str) -> impl Iterator<Item = (&str, &ObservedLink)> {
        let links = self.links.iter();
        let member = move |link: &ObservedLink| link.controller.as_deref() == Some(bond);
        links.filter(move |(_, link)| member(link)).map(|(name, link)| (name.as_str(), link))
    }

    /// The VLANs that a link carries.
    pub(super) fn vlans(&self, parent: &str) -> Vec<String> {
        let carried = |link: &ObservedLink| match &link.kind {
            ObservedKind::Vlan { parent: found, .. } => found.as_deref() == Some(parent),
            ObservedKind::Card | ObservedKind::Bond(_) => false,
        };
        let links = self.links.iter().filter(|(_, link)| carried(link));
        links.map(|(name, _)| name.clone()).collect()
    }

    /// The link that is this VLAN.
    pub(super) fn vlan(&self, parent: &str, id: u16) -> Option<&str> {
        let is_it = |link: &ObservedLink| match &link.kind {
            ObservedKind::Vlan { parent: Some(found), id: number } => {
                found == parent && *number == id
            }
            ObservedKind::Vlan { parent: None, .. }
            | ObservedKind::Card
            | ObservedKind::Bond(_) => false,
        };
        self.links.iter().find(|(_, link)| is_it(link)).map(|(name, _)| name.as_str())
    }

    /// Whether the link is there and of the kind that the plan says.
    pub(super) fn has(&self, link: &LinkPlan) -> bool {
        let Some(found) = self.links.get(&link.name) else { return false };
        match (&link.kind, &found.kind) {
            (LinkKind::Uplink(selection), ObservedKind::Card) => {
                self.selected(&link.name, selection) == [&link.name]
            }
            (LinkKind::Bond(_), ObservedKind::Bond(_)) => true,
            (LinkKind::Vlan { parent, id }, ObservedKind::Vlan { parent: carrier, id: found }) => {
                carrier.as_ref() == Some(parent) && id == found
            }
            (LinkKind::Uplink(_) | LinkKind::Bond(_) | LinkKind::Vlan { .. }, _) => false,
        }
    }

    /// What the kernel makes of the links when `step` is done.
    pub(super) fn follow(&mut self, step: &Step) {
        match step {
            Step::Rename { from, to } => self.rename(from, to),
            Step::CreateBond { link, options } => {
                let facts = BondFacts { options: Some(*options), ..BondFacts::default() };
                self.create(link, ObservedKind::Bond(facts), NEW_MTU);
            }
            Step::CreateVlan { link, parent, id } => {
                let mtu = self.links.get(parent).map_or(UNKNOWN_MTU, |parent| parent.mtu);
                let kind = ObservedKind::Vlan { parent: Some(parent.clone()), id: *id };
                self.create(link, kind, mtu);
            }
            Step::Remove { link } => self.remove(link),
            Step::SetBond { link, options, rebuilt: _ } => self.change_bond(link, |facts| {
                facts.options = Some(*options);
            }),
            Step::SetPrimary { link, primary } => self.change_bond(link, |facts| {
                facts.primary.clone_from(primary);
            }),
            Step::Release { member, .. } => self.release(member),
            Step::Enslave { member, bond } => {
                let mtu = self.links.get(bond).map_or(UNKNOWN_MTU, |bond| bond.mtu);
                self.change(member, |link| {
                    link.controller = Some(bond.clone());
                    link.up = true;
                    link.mtu = mtu;
                });
            }
            Step::Up { link } => {
                for name in std::iter::once(link.clone()).chain(self.vlans(link)) {
                    self.change(&name, |link| link.up = true);
                }
            }
            Step::Down { link } => self.down(link),
            Step::SetMtu { link, mtu } => self.set_mtu(link, *mtu),
            Step::SetOffloads { link, offloads } => self.change(link, |link| {
                for (offload, on) in offloads.iter() {
                    link.offloads = link.offloads.with(offload, on);
                }
            }),
            Step::AddAddress { link, address } => self.change(link, |link| {
                let facts = AddressFacts { ours: true, duplicate: false };
                link.addresses.insert(*address, facts);
            }),
            Step::RemoveAddress { link, address } => {
                self.change(link, |link| {
                    link.addresses.remove(address);
                });
                self.lose_last_address(link);
            }
            Step::AddRoute { route } => {
                self.routes.insert(route.clone());
            }
            Step::RemoveRoute { route } => {
                self.routes.remove(route);
            }
            Step::AddRule { rule } => {
                self.rules.insert(rule.clone());
            }
            Step::RemoveRule { rule } => {
                self.rules.remove(rule);
            }
        }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut ObservedLink)) {
        if let Some(link) = self.links.get_mut(name) {
            change(link);
        }
    }

    fn change_bond(&mut self, name: &str, change: impl FnOnce(&mut BondFacts)) {
        self.change(name, |link| {
            if let ObservedKind::Bond(facts) = &mut link.kind {
                change(facts);
            }
        });
    }

    fn create(&mut self, name: &str, kind: ObservedKind, mtu: u32) {
        let link = ObservedLink {
            mac: MacAddress([0; 6]),
            path: Vec::new(),
            kind,
            ours: true,
            up: false,
            carrier: false,
            mtu,
            controller: None,
            aggregator: None,
            addresses: BTreeMap::new(),
            offloads: Offloads::default(),
            changeable: Offloads::default(),
        };
        self.links.insert(name.to_owned(), link);
    }

    fn rename(&mut self, from: &str, to: &str) {
        if let Some(link) = self.links.remove(from) {
            self.links.insert(to.to_owned(), link);
        }
        let follow = |name: &mut Option<String>| {
            if name.as_deref() == Some(from) {
                *name = Some(to.to_owned());
            }
        };
        for link in self.links.values_mut() {
            follow(&mut link.controller);
            match &mut link.kind {
                ObservedKind::Bond(facts) => follow(&mut facts.primary),
                ObservedKind::Vlan { parent, .. } => follow(parent),
                ObservedKind::Card => {}
            }
        }
    }

    /// A link that goes takes its VLANs and routes with it, and lets its members go.
    fn remove(&mut self, name: &str) {
        for vlan in self.vlans(name) {
            self.remove(&vlan);
        }
        let members: Vec<String> = self.members(name).map(|(name, _)| name.to_owned()).collect();
        for member in members {
            self.release(&member);
        }
        self.links.remove(name);
        self.lose_routes(name);
    }

    /// A member that leaves is down, with the MTU that it had before.
    fn release(&mut self, member: &str) {
        let bond = self.links.get(member).and_then(|link| link.controller.clone());
        self.change(member, |link| {
            link.controller = None;
            link.up = false;
            link.mtu = UNKNOWN_MTU;
        });
        if let Some(bond) = bond {
            self.change_bond(&bond, |facts| {
                if facts.primary.as_deref() == Some(member) {
                    facts.primary = None;
                }
            });
        }
    }

    /// A link that goes down takes its VLANs along, and loses its IPv6 addresses and its routes.
    fn down(&mut self, name: &str) {
        for name in std::iter::once(name.to_owned()).chain(self.vlans(name)) {
            self.change(&name, |link| {
                link.up = false;
                link.addresses.retain(|address, _| address.address.is_ipv4());
            });
            self.lose_routes(&name);
        }
    }

    /// With its last IPv4 address a link loses its IPv4 routes.
    fn lose_last_address(&mut self, name: &str) {
        let Some(link) = self.links.get(name) else { return };
        if !link.addresses.keys().any(|address| address.address.is_ipv4()) {
            self.routes.retain(|route| match route {
                TableRoute::Via { link, prefix, .. } => link != name || !prefix.is_ipv4(),
                TableRoute::Unreachable { .. } => true,
            });
        }
    }

    fn lose_routes(&mut self, name: &str) {
        self.routes.retain(|route| match route {
            TableRoute::Via { link, .. } => link != name,
            TableRoute::Unreachable { .. } => true,
        });
    }

    /// A bond's MTU is its members', and no VLAN has a larger one than what carries it.
    fn set_mtu(&mut self, name: &str, mtu: u32) {
        let members: Vec<String> = self.members(name).map(|(name, _)| name.to_owned()).collect();
        for name in members.iter().map(String::as_str).chain([name]) {
            self.change(name, |link| link.mtu = mtu);
        }
        for vlan in self.vlans(name) {
            self.change(&vlan, |link| link.mtu = link.mtu.min(mtu));
        }
    }
}
