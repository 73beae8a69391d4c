//! What the administrator of a virtualization host needs to run the image: a libvirt domain or a
//! PowerShell script for Hyper-V. Only text is made here; nothing is asked of the host, and what is
//! read was checked when it was parsed, so that nothing needs quoting.

mod hyperv;
mod libvirt;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

pub use hyperv::script;
pub use libvirt::domain;
use nvgate_model::MacAddress;
use thiserror::Error;

/// Characters of a machine's name: its disks' names and its host name are made of it.
const LONGEST_NAME: usize = 32;
/// Characters of a switch's or a folder's name.
const LONGEST_TEXT: usize = 200;
/// What no comment of XML may have.
const NO_COMMENT: &str = "--";
/// Entries of a trunk's list.
const MOST_RANGES: usize = 64;
/// The last VLAN identifier (IEEE 802.1Q).
const LAST_VLAN: u16 = 4094;

/// Why a word of the command line is refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum HostAdminError {
    /// The name of a machine.
    #[error(
        "`{0}` is not a name: a letter, then up to {more} letters and digits, single `-` between them",
        more = LONGEST_NAME - 1
    )]
    Name(String),
    /// The name of a switch, or a folder.
    #[error(
        "`{0}` is not 1 to {LONGEST_TEXT} letters, digits, spaces and `-_./\\()`, in a folder also `:`, \
         without `--`"
    )]
    Text(String),
    /// A VLAN.
    #[error("`{0}` is not a VLAN from 1 to {LAST_VLAN}")]
    Vlan(String),
    /// A trunk's VLANs.
    #[error("`{0}` is not up to {MOST_RANGES} VLANs and ranges such as 100,200-210")]
    Trunk(String),
}

/// A machine's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineName(String);

impl FromStr for MachineName {
    type Err = HostAdminError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins = text.starts_with(|first: char| first.is_ascii_alphabetic());
        let ends = text.ends_with(|last: char| last.is_ascii_alphanumeric());
        let fits = text.chars().all(|each| each.is_ascii_alphanumeric() || each == '-');
        if begins && ends && fits && !text.contains(NO_COMMENT) && text.len() <= LONGEST_NAME {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostAdminError::Name(text.to_owned()))
        }
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn plain(text: &str, more: &str) -> Result<String, HostAdminError> {
    let allowed = |each: char| {
        each.is_ascii_alphanumeric() || " -_./\\()".contains(each) || more.contains(each)
    };
    let fits = text.chars().all(allowed) && !text.contains(NO_COMMENT);
    if text.trim().is_empty() || text.len() > LONGEST_TEXT || !fits {
        return Err(HostAdminError::Text(text.to_owned()));
    }
    Ok(text.to_owned())
}

/// A folder of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder(String);

impl FromStr for Folder {
    type Err = HostAdminError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        plain(text, ":").map(Self)
    }
}

/// VLANs from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl fmt::Display for VlanRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(out, "{}", self.first)
        } else {
            write!(out, "{}-{}", self.first, self.last)
        }
    }
}

/// How a port of the host's switch tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tagging {
    /// Not at all.
    Untagged,
    /// The guest sends without a tag; the port is in this VLAN.
    Access(NonZeroU16),
    /// The guest tags by itself, with one of these.
    Trunk(Vec<VlanRange>),
}

/// A switch or bridge of the host and how the guest's port tags there: `SWITCH`, `SWITCH:VLAN` or
/// `SWITCH:trunk=VLANS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    switch: String,
    tagging: Tagging,
}

impl FromStr for Attachment {
    type Err = HostAdminError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (switch, tagging) = match text.split_once(':') {
            None => (text, Tagging::Untagged),
            Some((switch, tagging)) => (
                switch,
                match tagging.strip_prefix("trunk=") {
                    None => Tagging::Access(vlan(tagging)?),
                    Some(list) => Tagging::Trunk(trunk(list)?),
                },
            ),
        };
        Ok(Self { switch: plain(switch, "")?, tagging })
    }
}

fn vlan(text: &str) -> Result<NonZeroU16, HostAdminError> {
    let number = text.parse::<NonZeroU16>().ok().filter(|number| number.get() <= LAST_VLAN);
    number.ok_or_else(|| HostAdminError::Vlan(text.to_owned()))
}

fn trunk(text: &str) -> Result<Vec<VlanRange>, HostAdminError> {
    let refused = || HostAdminError::Trunk(text.to_owned());
    let ranges = text
        .split(',')
        .take(MOST_RANGES + 1)
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (vlan(first)?, vlan(last)?);
            if first <= last { Ok(VlanRange { first, last }) } else { Err(refused()) }
        })
        .collect::<Result<Vec<_>, _>>()?;
    if ranges.len() > MOST_RANGES { Err(refused()) } else { Ok(ranges) }
}

/// What a NIC of the guest is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Management,
    Fabric,
    FrontEnd,
}

impl Role {
    const ALL: [Self; 3] = [Self::Management, Self::Fabric, Self::FrontEnd];

    /// The key of seed.yaml's `nics`.
    const fn key(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::Fabric => "fabric",
            Self::FrontEnd => "front_end",
        }
    }
}

/// Where the guest's NICs go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachments {
    /// SSH, health and metrics.
    pub management: Attachment,
    /// The provider network.
    pub fabric: Attachment,
    /// The network of public addresses.
    pub front_end: Attachment,
}

impl Attachments {
    const fn of(&self, role: Role) -> &Attachment {
        match role {
            Role::Management => &self.management,
            Role::Fabric => &self.fabric,
            Role::FrontEnd => &self.front_end,
        }
    }
}

/// One of the gateways that stand for each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Its name.
    pub name: MachineName,
    /// The one that must not share its host.
    pub other: Option<MachineName>,
    /// Where the disk and the seed's disk are, on the host.
    pub folder: Folder,
    /// Virtual CPUs; the fabric's and the front end's NICs have a queue for each.
    pub cpus: u16,
    /// Memory in MiB, all of it from the start.
    pub memory_mib: u32,
    /// Where its NICs go.
    pub attachments: Attachments,
}

impl Machine {
    /// The two machines of a pair: the same, but for their names.
    #[must_use]
    pub fn pair(&self) -> [Self; 2] {
        let [first, second] = [1, 2].map(|number| MachineName(format!("{}-{number}", self.name)));
        [(&first, &second), (&second, &first)].map(|(own, other)| Self {
            name: own.clone(),
            other: Some(other.clone()),
            ..self.clone()
        })
    }

    /// The MAC address of a NIC. It follows from the machine's name, so that a seed written today is
    /// right for the machine made from the same command tomorrow.
    fn mac(&self, oui: [u8; 3], role: Role) -> MacAddress {
        // FNV-1a (draft-eastlake-fnv).
        let hash =
            self.name.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
        let [_, high, low, rest] = hash.to_be_bytes();
        let [first, second, third] = oui;
        // The lowest bits are the role's, so that one machine's never collide.
        MacAddress([first, second, third, high, low, (rest & 0xfc) | role as u8])
    }

    /// What seed.yaml has to say of the NICs.
    fn seed(&self, oui: [u8; 3]) -> String {
        let nics =
            Role::ALL.map(|role| format!("  {}:\n    mac: {}\n", role.key(), self.mac(oui, role)));
        format!("hostname: {}\nnics:\n{}", self.name, nics.concat())
    }
}
