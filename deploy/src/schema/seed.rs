//! `seed.yaml`: what a machine is before it is a gateway. And a seed's files read together, from
//! memory, because they come from where the gateway will not have them.

use std::collections::BTreeMap;

use nvgate_model::MacAddress;
use serde_json::{Value, json};
use ssh_key::authorized_keys::Entry;
use zeroize::Zeroizing;

use super::decode::{At, Decode, Decoder, List, Scalar, record};
use super::node::{Node, NodeValue};
use super::scalar::{Number, parsed_scalar};
use super::secret::SecretFiles;
use super::{Documents, Reader};
use crate::seed::Selector;

/// Keys that may log in.
pub(crate) const MAX_SSH_KEYS: usize = 64;
/// NICs of one role.
pub(crate) const MAX_ROLE_NICS: usize = 8;

record! {
    /// seed.yaml: what a machine is, apart from being a gateway.
    SeedFile, "seed.yaml" {
        /// The machine's name: 1 to 64 of letters, digits, `-` and `.`.
        required hostname: HostName,
        /// Which NIC is for what.
        required nics: NicRoles,
        /// Who may log in as root by SSH on the management port: lines as in authorized_keys.
        /// Default: nobody, and SSH does not listen.
        optional ssh_authorized_keys: List<SshKey, 0, MAX_SSH_KEYS>,
    }
}

record! {
    /// Which NIC is for what. A role with several NICs, for a bond, has a list of them.
    NicRoles, "`nics`" {
        /// The management port: mgmt0.
        required management: Nics,
        /// The port on the provider network: fabric0, fabric1, ...
        required fabric: Nics,
        /// The port on the network of public addresses: front0, front1, ... Default: none, when
        /// the front end is a VLAN of the fabric's links.
        optional front_end: Nics,
    }
}

record! {
    /// One NIC, by one of three.
    NicKeys, "a NIC" {
        /// Its MAC address, the one that the hypervisor or the card gives it.
        optional mac: MacAddress,
        /// Where it is: the address of its PCI device, such as 0000:00:03.0, udev's ID_PATH of it,
        /// or the identifier of its VMBus device.
        optional path: NicPath,
        /// Its place among all NICs, from 1: PCI devices by their addresses, then others as the
        /// kernel found them.
        optional order: Number<1, 64>,
    }
}

/// The NICs of one role.
#[derive(Clone, Debug)]
pub(crate) struct Nics(pub(crate) Vec<At<Selector>>);

impl Decode for Nics {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if matches!(node.value, NodeValue::Sequence(_)) {
            let list = List::<Selector, 1, MAX_ROLE_NICS>::decode(node, decoder);
            return list.map(|list| Self(list.0));
        }
        let nic = Selector::decode(node, decoder)?;
        Some(Self(vec![At { value: nic, place: node.place }]))
    }

    fn schema() -> Value {
        json!({ "anyOf": [Selector::schema(), List::<Selector, 1, MAX_ROLE_NICS>::schema()] })
    }
}

impl Decode for Selector {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let before = decoder.findings.count();
        let NicKeys { mac, path, order } = NicKeys::decode(node, decoder)?;
        let given = [
            mac.map(|mac| Self::Mac(mac.value)),
            path.map(|path| Self::Path(path.value.0)),
            order.map(|order| Self::Order(order.value.0)),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(one), None) => return Some(one),
            // A key that was refused says enough.
            (None, _) if decoder.findings.count() > before => {}
            (None, _) => decoder.refuse(node.place, "a NIC needs one of `mac`, `path` and `order`"),
            (Some(_), Some(_)) => {
                decoder
                    .refuse(node.place, "a NIC has one of `mac`, `path` and `order`, not several");
            }
        }
        None
    }

    fn schema() -> Value {
        NicKeys::schema()
    }
}

/// The name of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostName(pub(crate) String);

impl std::str::FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const LONGEST: usize = 64;
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= LONGEST && text.split('.').all(label) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{}` is not a host name: up to {LONGEST} letters, digits, `-` and `.` such as gw1.example",
            text.escape_debug()
        ))
    }
}

parsed_scalar!(HostName, "a host name", {
    "type": "string",
    "maxLength": 64,
    "pattern": "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$"
});

/// Where a NIC is, as the kernel names its device: lower case, without the bus that udev puts
/// before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NicPath(pub(crate) String);

impl std::str::FromStr for NicPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const LONGEST: usize = 64;
        let legal = (1..=LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":.-_".contains(&byte));
        if !legal {
            return Err(format!(
                "`{}` is not the path of a NIC such as 0000:00:03.0",
                text.escape_debug()
            ));
        }
        let lower = text.to_ascii_lowercase();
        let path = ["virtio-pci-", "pci-", "vmbus-"]
            .iter()
            .find_map(|bus| lower.strip_prefix(bus))
            .unwrap_or(&lower);
        // 00:03.0 is short for domain 0.
        let short = path.len() == 7 && path.matches(':').count() == 1 && path.contains('.');
        Ok(Self(if short { format!("0000:{path}") } else { path.to_owned() }))
    }
}

parsed_scalar!(NicPath, "the path of a NIC", {
    "type": "string",
    "pattern": "^[-A-Za-z0-9:._]{1,64}$"
});

/// A line of authorized_keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SshKey(pub(crate) String);

impl std::str::FromStr for SshKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "a public SSH key such as `ssh-ed25519 AAAA... name`, the text of \
                                a .pub file";
        if text.contains(char::is_control) {
            return Err(format!("the value is not {EXPECTED}: it has more than one line"));
        }
        text.trim()
            .parse::<Entry>()
            .map(|_| Self(text.trim().to_owned()))
            .map_err(|error| format!("the value is not {EXPECTED}: {error}"))
    }
}

parsed_scalar!(SshKey, "a public SSH key", { "type": "string", "minLength": 1 });

/// A seed's files as they were read: whatever is wrong with the form of any is in `documents`.
#[derive(Clone, Debug)]
pub(crate) struct SeedDocuments {
    /// gateway.yaml and the tenants' files, with the sources and findings of all.
    pub(crate) documents: Documents,
    /// seed.yaml, as far as it could be read.
    pub(crate) seed: Option<SeedFile>,
    /// Whether all of seed.yaml could be read.
    pub(crate) seed_intact: bool,
}

/// What a file of a seed holds, or why that cannot be read.
pub(crate) type Content = Result<Vec<u8>, String>;

/// Reads a seed's YAML files, each with its name; `secrets` are its other ones.
pub(crate) fn of_seed(
    seed: (&str, Content),
    gateway: (&str, Content),
    tenants: Vec<(&str, Content)>,
    secrets: BTreeMap<String, Zeroizing<Vec<u8>>>,
) -> SeedDocuments {
    let mut reader = Reader { secret_files: SecretFiles::Carried(secrets), ..Reader::default() };
    let (name, content) = seed;
    let index = reader.take(name.to_owned(), content);
    let seed = index.and_then(|index| reader.decode::<SeedFile>(index, "seed.yaml"));
    let seed_intact = reader.findings.is_empty();
    let gateway = reader.take(gateway.0.to_owned(), gateway.1);
    let tenants = tenants
        .into_iter()
        .filter_map(|(name, content)| reader.take(name.to_owned(), content))
        .collect();
    SeedDocuments { documents: reader.into_documents(gateway, tenants), seed, seed_intact }
}
