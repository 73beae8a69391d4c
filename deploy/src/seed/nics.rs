//! A machine's NICs and the roles that a seed gives them: which NIC a wish means, what it is called
//! in that role, and in which order names are changed so that no two links ever want the same one.

use std::collections::BTreeMap;

use nvgate_model::MacAddress;
use serde::{Deserialize, Serialize};

/// What a NIC is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// SSH, health and metrics.
    Management,
    /// The provider network.
    Fabric,
    /// The network of public addresses.
    FrontEnd,
}

impl Role {
    /// All of them, in the order in which NICs have them when nothing says which.
    pub const ALL: [Self; 3] = [Self::Management, Self::Fabric, Self::FrontEnd];

    /// The name of the role's NIC number `ordinal`, from 0.
    #[must_use]
    pub fn link_name(self, ordinal: usize) -> String {
        let stem = match self {
            Self::Management => "mgmt",
            Self::Fabric => "fabric",
            Self::FrontEnd => "front",
        };
        format!("{stem}{ordinal}")
    }

    /// The role as it is written in seed.yaml.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::Fabric => "fabric",
            Self::FrontEnd => "front_end",
        }
    }
}

/// A NIC of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostNic {
    /// The kernel's index of the link.
    pub index: u32,
    /// What the kernel calls it now.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// The permanent MAC address.
    pub mac: MacAddress,
    /// The last part of its device's path that names a slot: a PCI address or a VMBus identifier,
    /// lower case.
    pub path: String,
}

impl HostNic {
    /// Whether its path is a PCI address, as in 0000:00:03.0.
    fn is_pci(&self) -> bool {
        let mut parts = self.path.split([':', '.']);
        let lengths = [4, 2, 2, 1];
        lengths.iter().all(|&length| {
            parts.next().is_some_and(|part| {
                part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        }) && parts.next().is_none()
    }

    /// The NIC for messages.
    pub(super) fn describe(&self) -> String {
        format!("{} ({})", self.mac, self.path)
    }
}

/// The NICs in their order: PCI devices by their addresses, then others as the kernel found them.
/// A virtual function that speeds up a NIC of Hyper-V has that one's MAC address and is none of its
/// own.
pub(super) fn ordered(nics: &[HostNic]) -> Vec<&HostNic> {
    let speeds_up = |one: &HostNic| {
        one.is_pci() && nics.iter().any(|other| !other.is_pci() && other.mac == one.mac)
    };
    let mut ordered: Vec<_> = nics.iter().filter(|one| !speeds_up(one)).collect();
    ordered.sort_by_key(|nic| {
        let pci = nic.is_pci();
        (!pci, if pci { nic.path.clone() } else { String::new() }, nic.index)
    });
    ordered
}

/// How a wish says which NIC it means.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Selector {
    /// By MAC address.
    Mac(MacAddress),
    /// By its device's path.
    Path(String),
    /// By its place in the order, from 1.
    Order(u32),
}

impl Selector {
    /// The NIC that is meant.
    pub(super) fn find<'a>(&self, ordered: &[&'a HostNic]) -> Option<&'a HostNic> {
        let found = |is: &dyn Fn(&HostNic) -> bool| ordered.iter().copied().find(|nic| is(nic));
        match self {
            Self::Mac(mac) => found(&|nic| nic.mac == *mac),
            Self::Path(path) => found(&|nic| nic.path == *path),
            Self::Order(order) => {
                let place = usize::try_from(*order).ok()?.checked_sub(1)?;
                ordered.get(place).copied()
            }
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mac(mac) => write!(formatter, "mac {mac}"),
            Self::Path(path) => write!(formatter, "path {path}"),
            Self::Order(order) => write!(formatter, "order {order}"),
        }
    }
}

/// A NIC with the name of its role.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamedNic {
    /// Its role.
    pub role: Role,
    /// Its name in that role.
    pub name: String,
    /// The kernel's index of the link.
    pub index: u32,
    /// Its permanent MAC address.
    pub mac: String,
    /// The path of its device.
    pub path: String,
}

impl NamedNic {
    pub(super) fn new(role: Role, name: String, nic: &HostNic) -> Self {
        let HostNic { index, mac, path, name: _, up: _ } = nic;
        Self { role, name, index: *index, mac: mac.to_string(), path: path.clone() }
    }
}

/// Gives the management role to a NIC when none of `named` has it: the first that has no role.
pub(super) fn name_management(named: &mut Vec<NamedNic>, nics: &[HostNic]) {
    if named.iter().any(|nic| nic.role == Role::Management) {
        return;
    }
    let taken: Vec<_> = named.iter().map(|nic| nic.index).collect();
    let free = ordered(nics).into_iter().find(|nic| !taken.contains(&nic.index));
    let role = Role::Management;
    named.extend(free.map(|nic| NamedNic::new(role, role.link_name(0), nic)));
}

/// The NICs with roles in their order, when nobody says which is for what.
pub(super) fn named_by_order(nics: &[HostNic]) -> Vec<NamedNic> {
    let named = Role::ALL.iter().zip(ordered(nics));
    named.map(|(&role, nic)| NamedNic::new(role, role.link_name(0), nic)).collect()
}

/// One change of a link's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rename {
    /// The kernel's index of the link.
    pub index: u32,
    /// Its name until now.
    pub from: String,
    /// Its name then.
    pub to: String,
    /// Whether it is up, and somebody uses it by its name.
    pub up: bool,
}

/// The changes, in order, after which every link in `named` has its name. Links that have a name
/// which is another's step aside first.
#[must_use]
pub fn renames(nics: &[HostNic], named: &[NamedNic]) -> Vec<Rename> {
    let wanted: BTreeMap<&str, u32> =
        named.iter().map(|nic| (nic.name.as_str(), nic.index)).collect();
    let aside = nics.iter().filter_map(|nic| {
        let owner = *wanted.get(nic.name.as_str())?;
        let to = format!("nic{}", nic.index);
        (owner != nic.index).then(|| rename(nic, nic.name.clone(), to))
    });
    let mut changes: Vec<_> = aside.collect();
    for target in named {
        let Some(nic) = nics.iter().find(|nic| nic.index == target.index) else { continue };
        let stepped_aside = changes.iter().find(|change| change.index == nic.index);
        let from = stepped_aside.map_or_else(|| nic.name.clone(), |change| change.to.clone());
        if from != target.name {
            changes.push(rename(nic, from, target.name.clone()));
        }
    }
    changes
}

fn rename(nic: &HostNic, from: String, to: String) -> Rename {
    Rename { index: nic.index, from, to, up: nic.up }
}
