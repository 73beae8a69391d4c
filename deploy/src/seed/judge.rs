//! Whether a seed holds: its files by the same proof as `nvgate check`, its roles against each
//! other and against the machine's NICs, its links against its roles.

use std::collections::BTreeMap;

use super::KEYS_DIRECTORY;
use super::SEED_FILE;
use super::files::{Seed, too_large_for_a_secret};
use super::nics::{HostNic, NamedNic, Role, Selector, ordered};
use crate::keys::Keyring;
use crate::lease::Leases;
use crate::plan::{Plan, prove};
use crate::schema::{
    At, Diagnostic, Documents, Findings, GATEWAY_FILE, MISTAKEN_ENDING, Place, SeedDocuments,
    SeedFile, Source, SshKey, TENANTS_DIRECTORY, entries, of_seed,
};

/// A NIC that seed.yaml gives a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// The role.
    pub role: Role,
    /// The name in that role.
    pub name: String,
    selector: Selector,
    place: Place,
}

/// What seed.yaml says, as far as it can be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Description {
    /// The machine's name.
    pub hostname: Option<String>,
    /// The NICs with roles.
    pub nics: Vec<Wish>,
    /// Lines of authorized_keys.
    pub ssh_keys: Vec<String>,
}

/// What a seed is found to be.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What seed.yaml says.
    pub description: Description,
    /// The NICs that were found, with their names.
    pub named: Vec<NamedNic>,
    /// Whether a NIC that has a role is not there, and may still come.
    pub missing_nic: bool,
    /// The gateway's plan, if the whole seed holds; else everything that is wrong.
    pub plan: Result<Plan, Vec<Diagnostic>>,
}

impl Seed {
    /// Judges the seed. With `nics` those of the machine have to be there; without, on a machine
    /// that is another one, only what the seed says by itself is judged.
    #[must_use]
    pub fn judge(&self, nics: Option<&[HostNic]>) -> Judgement {
        let SeedDocuments { mut documents, seed, seed_intact } = self.documents();
        let description = seed.map(describe).unwrap_or_default();
        let findings = &mut documents.findings;
        let (mut named, mut missing_nic) = (Vec::new(), false);
        repeated_wishes(&description.nics, findings);
        if let Some(nics) = nics {
            (named, missing_nic) = assign(&description.nics, nics, findings);
        }
        self.beside_yaml(&mut documents);
        // A role that could not be read names a NIC, too.
        if seed_intact {
            links_have_names(&mut documents, &description.nics);
        }
        let plan = prove(&documents, &Leases::default(), &Keyring::default());
        Judgement { description, named, missing_nic, plan: plan.map(|proof| proof.plan) }
    }

    fn documents(&self) -> SeedDocuments {
        let text = |name: &str| self.file(name).map(|bytes| bytes.to_vec());
        let tenants = format!("{TENANTS_DIRECTORY}/");
        let tenants = self.names().filter(|name| name.starts_with(&tenants) && !misnamed(name));
        let secrets = self.files.iter().filter_map(|(name, held)| {
            let bytes = held.as_ref().ok()?;
            is_key(name).then(|| (name.clone(), bytes.clone()))
        });
        of_seed(
            (SEED_FILE, text(SEED_FILE)),
            (GATEWAY_FILE, text(GATEWAY_FILE)),
            tenants.map(|name| (name, text(name))).collect(),
            secrets.collect::<BTreeMap<_, _>>(),
        )
    }

    /// Finds what is wrong with files that are not read as YAML.
    fn beside_yaml(&self, documents: &mut Documents) {
        let known: Vec<_> = documents.sources.iter().map(|source| source.name.clone()).collect();
        for (name, held) in self.files.iter().filter(|(name, _)| !known.contains(name)) {
            let message = match held {
                _ if misnamed(name) => "tenants' files end in .yaml; rename it".to_owned(),
                Ok(bytes) if too_large_for_a_secret(bytes) => {
                    "holds more than a secret; write the secret there and nothing else".to_owned()
                }
                Ok(_) => continue,
                Err(message) => message.clone(),
            };
            let index = u32::try_from(documents.sources.len()).unwrap_or(u32::MAX);
            documents.sources.push(Source { name: name.clone(), text: String::new() });
            documents.findings.error(Place::start_of(index), message);
        }
    }
}

fn is_key(name: &str) -> bool {
    name.strip_prefix(KEYS_DIRECTORY).is_some_and(|rest| rest.starts_with('/'))
}

fn misnamed(name: &str) -> bool {
    name.starts_with(TENANTS_DIRECTORY) && name.ends_with(&format!(".{MISTAKEN_ENDING}"))
}

fn describe(seed: SeedFile) -> Description {
    let ssh_keys = entries(&seed.ssh_authorized_keys).iter();
    let ssh_keys = ssh_keys.map(|At { value: SshKey(line), .. }| line.clone()).collect();
    let hostname = seed.hostname.map(|name| name.value.0);
    let mut nics = Vec::new();
    if let Some(roles) = seed.nics {
        let roles = roles.value;
        let all = [
            (Role::Management, roles.management),
            (Role::Fabric, roles.fabric),
            (Role::FrontEnd, roles.front_end),
        ];
        for (role, list) in all {
            let list = list.map(|list| list.value.0).unwrap_or_default();
            let wishes = list.into_iter().enumerate().map(|(ordinal, nic)| Wish {
                role,
                name: role.link_name(ordinal),
                selector: nic.value,
                place: nic.place,
            });
            nics.extend(wishes);
        }
    }
    Description { hostname, nics, ssh_keys }
}

/// Two wishes for the same NIC in the same words.
fn repeated_wishes(wishes: &[Wish], findings: &mut Findings) {
    let mut seen: BTreeMap<&Selector, &Wish> = BTreeMap::new();
    for wish in wishes {
        if let Some(first) = seen.get(&wish.selector) {
            given_twice(wish, first, &wish.selector.to_string(), findings);
        } else {
            seen.insert(&wish.selector, wish);
        }
    }
}

fn given_twice(wish: &Wish, first: &Wish, nic: &str, findings: &mut Findings) {
    let message = format!("the NIC {nic} is given to `{}` and to `{}`", first.name, wish.name);
    let note = format!("`{}` has it here; one NIC has one role", first.name);
    findings.conflict(wish.place, message, first.place, note);
}

/// The NICs that the wishes mean, and whether one is not there.
fn assign(wishes: &[Wish], nics: &[HostNic], findings: &mut Findings) -> (Vec<NamedNic>, bool) {
    let ordered = ordered(nics);
    let mut taken: BTreeMap<u32, &Wish> = BTreeMap::new();
    let (mut named, mut missing) = (Vec::new(), false);
    for wish in wishes {
        let Some(nic) = wish.selector.find(&ordered) else {
            missing = true;
            let there: Vec<_> = ordered.iter().map(|nic| nic.describe()).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let message = format!(
                "this machine has no NIC with {} for `{}`; it has, in order: {there}",
                wish.selector, wish.name
            );
            findings.error(wish.place, message);
            continue;
        };
        match taken.get(&nic.index) {
            // Already said where the words are the same.
            Some(first) if first.selector == wish.selector => {}
            Some(first) => given_twice(wish, first, &nic.describe(), findings),
            None => {
                taken.insert(nic.index, wish);
                named.push(NamedNic::new(wish.role, wish.name.clone(), nic));
            }
        }
    }
    (named, missing)
}

/// Ports, and links that stand on a NIC by its name, are on links that there will be: NICs have the
/// names of their roles, and gateway.yaml may make others of them.
fn links_have_names(documents: &mut Documents, wishes: &[Wish]) {
    let Some(gateway) = &documents.gateway else { return };
    let links = || entries(&gateway.links).iter().map(|link| &link.value);
    let nics =
        links().filter(|link| link.select.is_none() && link.bond.is_none() && link.vlan.is_none());
    let made =
        links().filter(|link| link.select.is_some() || link.bond.is_some() || link.vlan.is_some());
    let made: Vec<_> = made.filter_map(|link| Some(&link.name.as_ref()?.value.0)).collect();
    let ports = [
        gateway.fabric.as_ref().and_then(|fabric| fabric.value.link.as_ref()),
        gateway.front_end.as_ref().and_then(|front_end| front_end.value.link.as_ref()),
    ];
    let described: Vec<_> = nics.filter_map(|link| link.name.as_ref()).collect();
    // A port on a described NIC is said where the NIC is described.
    let ports = ports
        .into_iter()
        .flatten()
        .filter(|port| described.iter().all(|link| link.value != port.value));
    let wanted: Vec<_> = ports.chain(described.iter().copied()).collect();
    for link in wanted {
        let name = &link.value.0;
        if made.contains(&name) || wishes.iter().any(|wish| wish.name == *name) {
            continue;
        }
        let names: Vec<_> = wishes.iter().map(|wish| format!("`{}`", wish.name)).collect();
        let message = format!(
            "this machine will have no link `{name}`: by the roles in {SEED_FILE} its NICs are called {}",
            names.join(", ")
        );
        documents.findings.error(link.place, message);
    }
}
