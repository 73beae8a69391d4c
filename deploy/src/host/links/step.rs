//! One change of the host's links or of management's routing.

use std::fmt;

use super::observed::{Rule, RuleKind, TableRoute};
use crate::plan::{BondOptions, InterfaceAddress, Offloads};

/// One change that the kernel is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are what the variants' sentences name")]
pub enum Step {
    /// A network card that is down gets another name.
    Rename { from: String, to: String },
    /// A bond without members, down.
    CreateBond { link: String, options: BondOptions },
    /// A VLAN, down.
    CreateVlan { link: String, parent: String, id: u16 },
    /// A bond or VLAN goes.
    Remove { link: String },
    /// A bond works otherwise: after `rebuilt`, which is while it is down and without members, in
    /// any way; else of the same mode and LACP rate.
    SetBond { link: String, options: BondOptions, rebuilt: bool },
    /// A bond prefers a member, or none.
    SetPrimary { link: String, primary: Option<String> },
    /// A member leaves its bond.
    Release { member: String, bond: String },
    /// A network card that is down joins a bond, which brings it up.
    Enslave { member: String, bond: String },
    /// A link is brought up.
    Up { link: String },
    /// A link is taken down.
    Down { link: String },
    /// A link gets another MTU, in bytes.
    SetMtu { link: String, mtu: u32 },
    /// Offloads of a network card are turned on or off.
    SetOffloads { link: String, offloads: Offloads },
    /// A link gets an address.
    AddAddress { link: String, address: InterfaceAddress },
    /// A link loses an address.
    RemoveAddress { link: String, address: InterfaceAddress },
    /// The management table gets a route.
    AddRoute { route: TableRoute },
    /// The management table loses a route.
    RemoveRoute { route: TableRoute },
    /// A routing rule more.
    AddRule { rule: Rule },
    /// A routing rule less.
    RemoveRule { rule: Rule },
}

impl Step {
    /// The link that the step is about, by the name of the plan; none of management's routing.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Rename { to: link, .. }
            | Self::CreateBond { link, .. }
            | Self::CreateVlan { link, .. }
            | Self::Remove { link }
            | Self::SetBond { link, .. }
            | Self::SetPrimary { link, .. }
            | Self::Release { bond: link, .. }
            | Self::Enslave { bond: link, .. }
            | Self::Up { link }
            | Self::Down { link }
            | Self::SetMtu { link, .. }
            | Self::SetOffloads { link, .. }
            | Self::AddAddress { link, .. }
            | Self::RemoveAddress { link, .. } => Some(link),
            Self::AddRoute { .. }
            | Self::RemoveRoute { .. }
            | Self::AddRule { .. }
            | Self::RemoveRule { .. } => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { from, to } => write!(formatter, "rename {from} to {to}"),
            Self::CreateBond { link, options } => {
                write!(formatter, "make bond {link} ({})", options.mode)
            }
            Self::CreateVlan { link, parent, id } => {
                write!(formatter, "make {link}, VLAN {id} of {parent}")
            }
            Self::Remove { link } => write!(formatter, "remove {link}"),
            Self::SetBond { link, options, rebuilt: _ } => write!(
                formatter,
                "set bond {link} to {}, monitored every {} ms",
                options.mode, options.monitor_millis
            ),
            Self::SetPrimary { link, primary: Some(primary) } => {
                write!(formatter, "have {link} prefer {primary}")
            }
            Self::SetPrimary { link, primary: None } => {
                write!(formatter, "have {link} prefer no member")
            }
            Self::Release { member, bond } => write!(formatter, "take {member} out of {bond}"),
            Self::Enslave { member, bond } => write!(formatter, "put {member} into {bond}"),
            Self::Up { link } => write!(formatter, "bring {link} up"),
            Self::Down { link } => write!(formatter, "take {link} down"),
            Self::SetMtu { link, mtu } => write!(formatter, "set the MTU of {link} to {mtu}"),
            Self::SetOffloads { link, offloads } => {
                let list = offloads.iter().map(|(offload, on)| {
                    format!("{} {}", offload.name(), if on { "on" } else { "off" })
                });
                write!(formatter, "turn {} at {link}", list.collect::<Vec<_>>().join(", "))
            }
            Self::AddAddress { link, address } => write!(formatter, "add {address} to {link}"),
            Self::RemoveAddress { link, address } => {
                write!(formatter, "remove {address} from {link}")
            }
            Self::AddRoute { route } => write!(formatter, "add the management route {route}"),
            Self::RemoveRoute { route } => write!(formatter, "remove the management route {route}"),
            Self::AddRule { rule } => write!(formatter, "add the routing rule {rule}"),
            Self::RemoveRule { rule } => write!(formatter, "remove the routing rule {rule}"),
        }
    }
}

impl fmt::Display for TableRoute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Via { prefix, link, gateway: Some(gateway) } => {
                write!(formatter, "{prefix} via {gateway} dev {link}")
            }
            Self::Via { prefix, link, gateway: None } => write!(formatter, "{prefix} dev {link}"),
            Self::Unreachable { ipv4: true } => formatter.write_str("unreachable 0.0.0.0/0"),
            Self::Unreachable { ipv4: false } => formatter.write_str("unreachable ::/0"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RuleKind::NotThrough(link) => write!(formatter, "iif {link} unreachable"),
            RuleKind::FromManagement(address) => {
                write!(formatter, "from {address} lookup management")
            }
            RuleKind::FromPort(address) => write!(formatter, "from {address} lookup main"),
            RuleKind::ByManagement(link) => write!(formatter, "oif {link} lookup management"),
            RuleKind::ByPort(link) => write!(formatter, "oif {link} lookup main"),
            RuleKind::OnlyByPort(address) => write!(formatter, "from {address} unreachable"),
            RuleKind::OwnSpecific => formatter.write_str("iif lo lookup main but its default"),
            RuleKind::OwnDefault => formatter.write_str("iif lo lookup management"),
        }?;
        formatter.write_str(if self.ipv4 { " (IPv4)" } else { " (IPv6)" })
    }
}
