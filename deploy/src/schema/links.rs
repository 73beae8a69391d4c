//! The links of the host as gateway.yaml describes them.

use ipnetwork::IpNetwork;
use nvgate_model::MacAddress;
use serde_json::{Value, json};

use super::decode::{List, Scalar, hint, quoted, record};
use super::scalar::{HostAddress, LinkName, Number, Switch, words};
use crate::plan::InterfaceAddress;

/// Links of a gateway's host that are described.
pub(crate) const MAX_LINKS: usize = 64;
/// Members of one bond.
pub(crate) const MAX_MEMBERS: usize = 16;
/// Addresses of one link.
pub(crate) const MAX_ADDRESSES: usize = 64;

record! {
    /// A link of the host: an uplink (a network card), or with `bond` or `vlan` one of those.
    Link, "a link" {
        /// The kernel's name, up to 15 characters. An uplink that is selected otherwise gets it.
        required name: LinkName,
        /// Which network card it is, if not the one of that name already.
        optional select: Select,
        /// Several uplinks as one (teaming).
        optional bond: Bond,
        /// An 802.1Q VLAN of another link, which is a trunk then.
        optional vlan: Vlan,
        /// Its MTU in bytes, 1280 to 65535. Members of a bond have the bond's. Default: left as
        /// it is.
        optional mtu: Number<1280, 65_535>,
        /// Its addresses, each with the length of its prefix.
        optional addresses: List<InterfaceAddress, 0, MAX_ADDRESSES>,
        /// `true`: its addresses and routes are somebody else's, such as systemd-networkd's, and
        /// left alone. Default: false.
        optional dhcp: Switch,
        /// What the network card does for the kernel. Default: each left as it is.
        optional offloads: Offloads,
    }
}

record! {
    /// Which network card an uplink is: `mac` or `path`.
    Select, "`select`" {
        /// Its permanent MAC address.
        optional mac: MacAddress,
        /// Where it is attached, as a PCI address such as 0000:00:03.0, or udev's
        /// pci-0000:00:03.0, or the name of any device on its path in /sys.
        optional path: DevicePath,
    }
}

record! {
    /// Several uplinks as one.
    Bond, "`bond`" {
        /// Switch independent are `active-backup` (one member carries everything) and
        /// `transmit-load-balancing` (all send, one receives). The switch has to be set up for
        /// `static` (all carry, by hash) and `lacp` (the same, agreed on by IEEE 802.3ad).
        required mode: BondMode,
        /// The members, uplinks of this list, each in one bond.
        required members: List<LinkName, 1, MAX_MEMBERS>,
        /// How `static` and `lacp` choose a member for a frame: by MAC and IP addresses (`address`),
        /// also by ports (`port`), by MAC addresses alone (`mac`), or by what is inside of NVGRE
        /// and other tunnels (`tunnel`). Default: address.
        optional hash: BondHash,
        /// How often `lacp` has the partner send: every 30 s (`slow`) or every second (`fast`).
        /// Default: slow.
        optional lacp_rate: LacpRate,
        /// How often a member's carrier is looked at, in milliseconds, 10 to 10000. Default: 100.
        optional monitor_millis: Number<10, 10_000>,
        /// The member preferred by `active-backup` and `transmit-load-balancing` while it is up.
        /// Default: none.
        optional primary: LinkName,
    }
}

record! {
    /// An 802.1Q VLAN of another link.
    Vlan, "`vlan`" {
        /// The uplink or bond of this list that carries it.
        required parent: LinkName,
        /// Its VLAN identifier, 1 to 4094.
        required id: Number<1, 4094>,
    }
}

record! {
    /// What a network card does for the kernel; each `true` or `false`.
    Offloads, "`offloads`" {
        /// Merge received packets of a flow (generic receive offload).
        optional gro: Switch,
        /// Cut super-packets late (generic segmentation offload).
        optional gso: Switch,
        /// Cut TCP super-packets in the card (TCP segmentation offload).
        optional tso: Switch,
        /// Check checksums of received packets in the card.
        optional rx_checksums: Switch,
        /// Compute checksums of sent packets in the card.
        optional tx_checksums: Switch,
    }
}

record! {
    /// The management port: SSH, health, metrics. Its routes are in a table of their own.
    Management, "`management`" {
        /// A link of `links`, another than the fabric's and the front end's.
        required link: LinkName,
        /// Where its default routes lead to, one address a family at most, on the link. With `dhcp`
        /// none. Default: none.
        optional gateways: List<HostAddress, 0, 2>,
    }
}

words! {
    /// How a bond uses its members.
    BondMode {
        /// One member carries everything.
        ActiveBackup = "active-backup",
        /// All members send, one receives.
        TransmitLoadBalancing = "transmit-load-balancing",
        /// All carry, by hash.
        Static = "static",
        /// All carry that a partner agrees to (IEEE 802.3ad).
        Lacp = "lacp",
    }
}

words! {
    /// What chooses a member for a frame.
    BondHash {
        /// MAC and IP addresses.
        Address = "address",
        /// Addresses and ports.
        Port = "port",
        /// MAC addresses.
        Mac = "mac",
        /// What is inside of a tunnel.
        Tunnel = "tunnel",
    }
}

words! {
    /// How often LACP messages are asked for.
    LacpRate {
        /// Every 30 seconds.
        Slow = "slow",
        /// Every second.
        Fast = "fast",
    }
}

/// The name of a device on a network card's path in /sys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DevicePath(pub(crate) String);

impl Scalar for DevicePath {
    const EXPECTED: &'static str = "a device such as pci-0000:00:03.0";

    fn read(text: &str) -> Result<Self, String> {
        const LONGEST: usize = 64;
        let device = text.strip_prefix("pci-").unwrap_or(text);
        let legal = (1..=LONGEST).contains(&device.len())
            && device.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
            && !matches!(device, "." | "..");
        if legal {
            Ok(Self(device.to_owned()))
        } else {
            Err(format!("`{}` is not {}", text.escape_debug(), Self::EXPECTED))
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[-A-Za-z0-9_.:]{1,68}$" })
    }
}

impl Scalar for InterfaceAddress {
    const EXPECTED: &'static str = "an address with a length such as 192.0.2.1/24";

    fn read(text: &str) -> Result<Self, String> {
        let refused = || format!("`{}` is not {}", text.escape_debug(), Self::EXPECTED);
        if !text.contains('/') {
            return Err(refused());
        }
        let network: IpNetwork = text.parse().map_err(|_| refused())?;
        Ok(Self { address: network.ip(), length: network.prefix() })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9A-Fa-f.:]+/[0-9]{1,3}$" })
    }
}
