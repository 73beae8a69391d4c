//! The host's links in the plan: what `links` and `management` of gateway.yaml say, proven.

use std::fmt;
use std::net::IpAddr;

use nvgate_model::{MacAddress, Prefix};
use serde::{Deserialize, Serialize};

/// The links of the host that the gateway sets up, each with a name of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinksPlan {
    /// Uplinks first, then bonds, then VLANs: each after what it stands on.
    pub links: Vec<LinkPlan>,
    /// The management port, a link of these.
    pub management: Option<ManagementPlan>,
    /// The links of the gateway's ports, which are never removed, described here or not.
    pub ports: [String; 2],
}

impl LinksPlan {
    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&LinkPlan> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Of each port's link that is a described VLAN: what carries it, and its identifier.
    #[must_use]
    pub fn port_vlans(&self) -> Vec<(&str, &str, u16)> {
        let vlan = |port: &'_ String| match self.link(port).map(|link| (&link.name, &link.kind)) {
            Some((name, LinkKind::Vlan { parent, id })) => {
                Some((name.as_str(), parent.as_str(), *id))
            }
            Some((_, LinkKind::Uplink(_) | LinkKind::Bond(_))) | None => None,
        };
        self.ports.iter().filter_map(vlan).collect()
    }

    /// The bond that the link of this name is a member of.
    #[must_use]
    pub fn bond_of(&self, member: &str) -> Option<(&LinkPlan, &BondPlan)> {
        self.links.iter().find_map(|link| match &link.kind {
            LinkKind::Bond(bond) if bond.members.iter().any(|name| name == member) => {
                Some((link, bond))
            }
            LinkKind::Bond(_) | LinkKind::Uplink(_) | LinkKind::Vlan { .. } => None,
        })
    }
}

/// A link of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkPlan {
    /// The kernel's name, 1 to 15 bytes.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its MTU in bytes, at least 1280; that of a bond is its members' too, whose own is absent. A
    /// VLAN's is at most its parent's.
    pub mtu: Option<u32>,
    /// Who gives it addresses.
    pub addressing: Addressing,
    /// Offloads that are to be on or off; a member has its own.
    pub offloads: Offloads,
    /// Of the fabric's link: the MTU in bytes that tenants' packets in NVGRE need.
    pub needed_mtu: Option<u32>,
}

/// What a link is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkKind {
    /// A network card.
    Uplink(Selection),
    /// Several uplinks as one.
    Bond(BondPlan),
    /// An 802.1Q VLAN.
    Vlan {
        /// The uplink or bond that carries it.
        parent: String,
        /// Its identifier, 1 to 4094.
        id: u16,
    },
}

/// How an uplink is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// By the name it has already.
    Name,
    /// By its permanent MAC address.
    Mac(MacAddress),
    /// By a device on its path in /sys, such as a PCI address.
    Path(String),
}

/// A bond.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BondPlan {
    /// How it is set up.
    pub options: BondOptions,
    /// Its members, at least one, uplinks that are in no other bond.
    pub members: Vec<String>,
    /// The preferred member, of a mode in which one receives.
    pub primary: Option<String>,
}

/// How a bond works, apart from who is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BondOptions {
    /// How it uses its members.
    pub mode: BondMode,
    /// Milliseconds between two looks at a member's carrier.
    pub monitor_millis: u32,
}

/// How a bond uses its members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BondMode {
    /// One member carries everything.
    ActiveBackup,
    /// All members send, one receives.
    TransmitLoadBalancing,
    /// All members carry, chosen by a hash.
    Static(BondHash),
    /// The same with those members that a partner agrees to (IEEE 802.3ad).
    Lacp(BondHash, LacpRate),
}

impl BondMode {
    /// What chooses a member, where a hash does.
    #[must_use]
    pub const fn hash(self) -> Option<BondHash> {
        match self {
            Self::ActiveBackup | Self::TransmitLoadBalancing => None,
            Self::Static(hash) | Self::Lacp(hash, _) => Some(hash),
        }
    }
}

impl fmt::Display for BondMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActiveBackup => formatter.write_str("active-backup"),
            Self::TransmitLoadBalancing => formatter.write_str("transmit-load-balancing"),
            Self::Static(hash) => write!(formatter, "static by {hash}"),
            Self::Lacp(hash, LacpRate::Slow) => write!(formatter, "lacp by {hash}"),
            Self::Lacp(hash, LacpRate::Fast) => write!(formatter, "lacp by {hash}, fast"),
        }
    }
}

/// What chooses a bond's member for a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BondHash {
    /// MAC and IP addresses (the kernel's layer2+3).
    Address,
    /// IP addresses and ports (layer3+4).
    Port,
    /// MAC addresses (layer2).
    Mac,
    /// Addresses and ports of the innermost packet (encap3+4).
    Tunnel,
}

impl fmt::Display for BondHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Address => "address",
            Self::Port => "port",
            Self::Mac => "mac",
            Self::Tunnel => "tunnel",
        })
    }
}

/// How often the partner is to send LACP messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LacpRate {
    /// Every 30 seconds.
    Slow,
    /// Every second.
    Fast,
}

/// Who gives a link its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// The gateway, these.
    Static(Vec<InterfaceAddress>),
    /// Somebody else, such as a DHCP client; they are left alone.
    Foreign,
}

/// An address of a link with the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix in bits, at most 32 or 128.
    pub length: u8,
}

impl InterfaceAddress {
    /// The prefix that the address is in.
    #[must_use]
    pub fn prefix(self) -> Prefix {
        Prefix::containing(self.address, self.length).unwrap_or_else(|_| Prefix::host(self.address))
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

/// Offloads of a network card; those that are absent are left as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// On or off, by [`Offload::ALL`]'s order.
    states: [Option<bool>; Offload::ALL.len()],
}

impl Offloads {
    /// Whether `offload` is on, as far as it is known or asked for.
    #[must_use]
    pub const fn state(self, offload: Offload) -> Option<bool> {
        self.states[offload as usize]
    }

    /// The same with `offload` on or off.
    #[must_use]
    pub const fn with(mut self, offload: Offload, on: bool) -> Self {
        self.states[offload as usize] = Some(on);
        self
    }

    /// Those of `self` that `other` knows to be otherwise.
    #[must_use]
    pub fn unlike(self, other: Self) -> Self {
        Offload::ALL.into_iter().fold(Self::default(), |unlike, offload| {
            match (self.state(offload), other.state(offload)) {
                (Some(asked), Some(found)) if asked != found => unlike.with(offload, asked),
                _ => unlike,
            }
        })
    }

    /// Each that is known or asked for.
    pub fn iter(self) -> impl Iterator<Item = (Offload, bool)> {
        Offload::ALL.into_iter().filter_map(move |one| Some((one, self.state(one)?)))
    }
}

/// Something that a network card may do for the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Offload {
    /// Generic receive offload.
    Gro,
    /// Generic segmentation offload.
    Gso,
    /// TCP segmentation offload.
    Tso,
    /// Checksums of received packets.
    RxChecksums,
    /// Checksums of sent packets.
    TxChecksums,
}

impl Offload {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Gro, Self::Gso, Self::Tso, Self::RxChecksums, Self::TxChecksums];

    /// Its key in gateway.yaml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gro => "gro",
            Self::Gso => "gso",
            Self::Tso => "tso",
            Self::RxChecksums => "rx_checksums",
            Self::TxChecksums => "tx_checksums",
        }
    }
}

/// The management port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManagementPlan {
    /// A link of the plan that is neither port's.
    pub link: String,
    /// Where its default routes lead to: on the link, one a family at most.
    pub gateways: Vec<IpAddr>,
}
