//! `nvgate vpn`: the public keys of listeners, new private keys, and what the other side of a
//! tunnel needs. Works on the files of the configuration and the state directory, there as its owner
//! if root asks; a running gateway takes new keys over by itself.

mod peer;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use nvgate_deploy::keys::{KeyName, KeyStore, Keyring, NewKey};
use nvgate_deploy::lease::{LeaseStore, LeaseStoreError, Leases};
use nvgate_deploy::plan::{self, ListenerPlan, Plan, TenantPlan, VpnPlan};
use nvgate_deploy::schema;
use serde::Serialize;

use super::client::fetch;
use super::owner::become_owner_of;
use super::table::{Side, Table, span};
use super::{DEFAULT_CONFIG, Exit, complain};
use crate::admin::Status;
use peer::Peer;

#[derive(Subcommand, Debug)]
pub(super) enum Vpn {
    /// Print the public key of each listener, which the sites need
    ///
    /// A listener without `private_key` in the tenant's file has a generated key in the state
    /// directory. `run` makes missing ones; so does this command with --generate.
    Keys(Keys),
    /// Give a listener a new generated key, and accept the old one for some time
    ///
    /// The gateway begins with the new key when it reloads, which it does by itself within about
    /// two seconds, and goes on to answer sites that still use the old one until the time is over.
    /// Meanwhile give every site the new public key. Rotating again ends the older key at once.
    Rotate(Rotate),
    /// Print what the other side of a tunnel needs, ready for use
    ///
    /// The gateway's public key and endpoint, the tenant's networks as the site sees them (after
    /// `translate`; everything, if the site may use the tenant's NAT), and an MTU that fits. The
    /// site's own private key is a placeholder: it never leaves the site.
    ///
    ///   nvgate vpn config --tenant contoso --site hq --format wg-quick > wg0.conf
    #[command(verbatim_doc_comment)]
    Config(Config),
}

#[derive(Args, Debug)]
pub(super) struct Keys {
    /// The directory with gateway.yaml and tenants.d/
    #[arg(long, value_name = "DIR", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Only this tenant's
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Make the generated keys that are missing
    #[arg(long)]
    generate: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Rotate {
    /// The directory with gateway.yaml and tenants.d/
    #[arg(long, value_name = "DIR", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The tenant
    #[arg(long, value_name = "NAME")]
    tenant: String,
    /// The listener [default: the only one]
    #[arg(long, value_name = "NAME")]
    listen: Option<String>,
    /// Hours for which the old key is accepted, 0 to 8760
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=8760))]
    overlap: u32,
}

#[derive(Args, Debug)]
pub(super) struct Config {
    /// The directory with gateway.yaml and tenants.d/
    #[arg(long, value_name = "DIR", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The tenant
    #[arg(long, value_name = "NAME")]
    tenant: String,
    /// The site
    #[arg(long, value_name = "NAME")]
    site: String,
    /// The tunnel [default: the only one]
    #[arg(long, value_name = "NAME")]
    tunnel: Option<String>,
    /// For which program
    #[arg(long, value_enum)]
    format: PeerFormat,
    /// Print the preshared key too
    #[arg(long)]
    show_secrets: bool,
}

/// The programs that `vpn config` writes for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum PeerFormat {
    /// A file of /etc/wireguard for wg-quick
    WgQuick,
    /// The .netdev and .network files of systemd-networkd
    Networkd,
    /// Commands of MikroTik RouterOS 7
    Routeros,
}

/// Why a command ends early: its exit code and one sentence.
#[derive(Debug)]
struct Failure(Exit, String);

impl Failure {
    fn cannot(error: &impl std::fmt::Display) -> Self {
        Self(Exit::CannotRun, error.to_string())
    }
}

/// Does what the command line says and prints to `output`.
pub(super) fn vpn(command: &Vpn, output: &mut dyn Write) -> io::Result<Exit> {
    let done = match command {
        Vpn::Keys(arguments) => keys(arguments),
        Vpn::Rotate(arguments) => rotate(arguments, SystemTime::now()),
        Vpn::Config(arguments) => config(arguments),
    };
    match done {
        Ok(text) => {
            output.write_all(text.as_bytes())?;
            Ok(Exit::Done)
        }
        Err(Failure(exit, sentence)) => Ok(complain(exit, &sentence)),
    }
}

/// A configuration with the generated keys that are there.
struct Configured {
    plan: Plan,
    store: KeyStore,
    keyring: Keyring,
    /// Keys that were drawn for the plan and are in no store.
    new_keys: Vec<NewKey>,
    /// The listeners with generated keys.
    generated: Vec<KeyName>,
    /// Whether the plan's leases are the gateway's own, and not such as it might have.
    leased: bool,
}

impl Configured {
    /// Reads the configuration in `directory`, and from the state directory that it names the
    /// generated keys, and the leases by `leases`.
    fn read(
        directory: &Path,
        leases: impl FnOnce(&Path) -> Result<Option<Leases>, Failure>,
    ) -> Result<Self, Failure> {
        let documents = schema::load(directory);
        let invalid = |_| {
            let directory = directory.display();
            let sentence = format!("the configuration is invalid; see `nvgate check {directory}`");
            Failure(Exit::Invalid, sentence)
        };
        let proof = plan::prove(&documents, &Leases::default(), &Keyring::default());
        let state = proof.map_err(invalid)?.plan.gateway.state_directory;
        // Keys that root left there would be none of the gateway's.
        become_owner_of(&state).map_err(|error| {
            let state = state.display();
            Failure(Exit::CannotRun, format!("cannot go on as the owner of {state}: {error}"))
        })?;
        let store = KeyStore::new(&state);
        let generated = documents.generated_keys();
        let keyring =
            store.load(&generated, SystemTime::now()).map_err(|error| Failure::cannot(&error))?;
        let leases = leases(&state)?;
        let leased = leases.is_some();
        let proof = plan::prove(&documents, &leases.unwrap_or_default(), &keyring);
        let plan::Proof { plan, new_keys, .. } = proof.map_err(invalid)?;
        Ok(Self { plan, store, keyring, new_keys, generated, leased })
    }

    fn tenant(&self, name: &str) -> Result<(&TenantPlan, &VpnPlan), Failure> {
        let tenants = &self.plan.tenants;
        let tenant = tenants.iter().find(|tenant| tenant.name.as_str() == name);
        let names = || tenants.iter().map(|tenant| tenant.name.as_str());
        let tenant = tenant.ok_or_else(|| unknown("tenant", name, names()))?;
        let vpn = tenant.vpn.as_ref();
        let none = || Failure(Exit::Usage, format!("tenant `{name}` has no `vpn`"));
        Ok((tenant, vpn.ok_or_else(none)?))
    }

    fn is_missing(&self, name: &KeyName) -> bool {
        self.new_keys.iter().any(|new| new.name == *name)
    }
}

/// The leases that the gateway holds, unless it is running and keeps them to itself.
fn leases_in(state: &Path) -> Result<Option<Leases>, Failure> {
    if !state.is_dir() {
        return Ok(Some(Leases::default()));
    }
    match LeaseStore::open(state).and_then(|store| store.load()) {
        Ok(leases) => Ok(Some(leases)),
        Err(LeaseStoreError::Locked { .. }) => Ok(None),
        Err(error) => Err(Failure::cannot(&error)),
    }
}

fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str>) -> Failure {
    let names: Vec<_> = names.collect();
    Failure(Exit::Usage, format!("no {what} is named `{name}`; there are: {}", names.join(", ")))
}

/// The one of `all` that is named, or the only one.
fn named<'a, T>(
    [what, option]: [&str; 2],
    name: Option<&str>,
    all: &'a [T],
    name_of: impl Fn(&T) -> &str,
) -> Result<&'a T, Failure> {
    let names = || all.iter().map(&name_of);
    match (name, all) {
        (Some(name), _) => {
            all.iter().find(|one| name_of(one) == name).ok_or_else(|| unknown(what, name, names()))
        }
        (None, [only]) => Ok(only),
        (None, _) => {
            let names: Vec<_> = names().collect();
            let sentence =
                format!("say which {what} (--{option} NAME); there are: {}", names.join(", "));
            Err(Failure(Exit::Usage, sentence))
        }
    }
}

/// A listener's keys, as `vpn keys` prints them.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct ListenerKeys {
    tenant: String,
    listener: String,
    /// `given`, `generated` or `missing`.
    origin: &'static str,
    /// The public key, if there is one.
    public_key: Option<String>,
    /// The public key before it, while it is accepted.
    previous_public_key: Option<String>,
    /// When it ends to be accepted, in seconds since 1970, if it ends by itself.
    previous_expires_at: Option<u64>,
}

fn keys(arguments: &Keys) -> Result<String, Failure> {
    let mut configured = Configured::read(&arguments.config, |_| Ok(None))?;
    if let Some(tenant) = &arguments.tenant {
        configured.tenant(tenant)?;
    }
    let wanted = |tenant: &TenantPlan| {
        arguments.tenant.as_deref().is_none_or(|name| tenant.name.as_str() == name)
    };
    if arguments.generate {
        let domains: Vec<_> = configured.plan.tenants.iter().filter(|one| wanted(one)).collect();
        let wanted =
            |new: &NewKey| domains.iter().any(|one| one.routing_domain == new.name.routing_domain);
        let (kept, left) = configured.new_keys.into_iter().partition(wanted);
        configured.new_keys = left;
        let kept: Vec<_> = kept;
        configured.store.keep(&kept).map_err(|error| Failure::cannot(&error))?;
    }
    let tenants = configured.plan.tenants.iter().filter(|tenant| wanted(tenant));
    let rows: Vec<ListenerKeys> = tenants
        .flat_map(|tenant| {
            let vpn = tenant.vpn.iter();
            let listeners = vpn.flat_map(|vpn| &vpn.listeners);
            listeners.map(|listener| listener_keys(&configured, tenant, listener))
        })
        .collect();
    if arguments.json {
        let text = serde_json::to_string_pretty(&rows).map_err(|error| Failure::cannot(&error))?;
        return Ok(text + "\n");
    }
    Ok(keys_table(&rows, seconds(SystemTime::now())))
}

fn listener_keys(
    configured: &Configured,
    tenant: &TenantPlan,
    listener: &ListenerPlan,
) -> ListenerKeys {
    let name = key_name(tenant, listener);
    let missing = configured.is_missing(&name);
    let held = configured.keyring.of(&name).and_then(|keys| keys.previous.as_ref());
    let expires = held.filter(|held| Some(&held.key) == listener.previous.as_ref());
    ListenerKeys {
        tenant: tenant.name.to_string(),
        listener: listener.name.clone(),
        origin: match configured.generated.contains(&name) {
            _ if missing => "missing",
            true => "generated",
            false => "given",
        },
        public_key: (!missing).then(|| listener.key.public().to_string()),
        previous_public_key: listener.previous.as_ref().map(|key| key.public().to_string()),
        previous_expires_at: expires.map(|held| seconds(held.expires)),
    }
}

fn keys_table(rows: &[ListenerKeys], now: u64) -> String {
    if rows.is_empty() {
        return "no tenant has a VPN listener\n".to_owned();
    }
    let columns = ["tenant", "listener", "key", "public key", "still accepted"];
    let mut table = Table::new(&columns.map(|title| (title, Side::Left)));
    for row in rows {
        let previous = match (&row.previous_public_key, row.previous_expires_at) {
            (Some(key), Some(at)) => format!("{key} for {}", span(at.saturating_sub(now))),
            (Some(key), None) => key.clone(),
            (None, _) => String::new(),
        };
        let public = row.public_key.as_deref().unwrap_or("none yet: --generate makes it");
        table.row([&row.tenant, &row.listener, row.origin, public, &previous]);
    }
    let mut text = String::new();
    table.write(&mut text);
    text
}

fn key_name(tenant: &TenantPlan, listener: &ListenerPlan) -> KeyName {
    KeyName { routing_domain: tenant.routing_domain, listener: listener.name.clone() }
}

/// Whole seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn rotate(arguments: &Rotate, now: SystemTime) -> Result<String, Failure> {
    let configured = Configured::read(&arguments.config, |_| Ok(None))?;
    let (tenant, vpn) = configured.tenant(&arguments.tenant)?;
    let listen = arguments.listen.as_deref();
    let listener = named(["listener", "listen"], listen, &vpn.listeners, |one| &one.name)?;
    let name = key_name(tenant, listener);
    let label = format!("{}/{}", tenant.name, listener.name);
    if !configured.generated.contains(&name) {
        let sentence = format!(
            "the key of {label} is given in the configuration: write a new one under `private_key` \
             there, and the old one under `previous_private_key`"
        );
        return Err(Failure(Exit::Usage, sentence));
    }
    let older = configured.keyring.of(&name).and_then(|keys| keys.previous.clone());
    let expires = now + Duration::from_secs(u64::from(arguments.overlap) * 3600);
    let rotated =
        configured.store.rotate(&name, expires).map_err(|error| Failure::cannot(&error))?;
    let mut text = format!("{label} has a new public key: {}\n", rotated.current.public());
    if let Some(previous) = &rotated.previous {
        let key = previous.key.public();
        text += &match arguments.overlap {
            0 => format!("{key}, the one before it, is no longer accepted\n"),
            hours => format!("{key}, the one before it, is accepted for {hours} more hours\n"),
        };
    }
    if let Some(older) = older {
        let key = older.key.public();
        text += &format!("{key}, which was accepted until now, is no longer\n");
    }
    text += "A running gateway takes it over by itself within about two seconds. Give the new key to \
             every site: `nvgate vpn config`.\n";
    Ok(text)
}

fn config(arguments: &Config) -> Result<String, Failure> {
    let configured = Configured::read(&arguments.config, leases_in)?;
    let (tenant, vpn) = configured.tenant(&arguments.tenant)?;
    let site = named(["site", "site"], Some(&arguments.site), &vpn.sites, |site| &site.name)?;
    let tunnel = arguments.tunnel.as_deref();
    let tunnel = named(["tunnel", "tunnel"], tunnel, &site.tunnels, |tunnel| &tunnel.name)?;
    let listener = vpn.listeners.get(tunnel.listener);
    let listener = listener.ok_or_else(|| Failure::cannot(&"the tunnel has no listener"))?;
    if configured.is_missing(&key_name(tenant, listener)) {
        let sentence = format!(
            "listener `{}` of tenant `{}` has no key yet: `nvgate vpn keys --generate` or a start of \
             the gateway makes it",
            listener.name, tenant.name
        );
        return Err(Failure(Exit::CannotRun, sentence));
    }
    let address = if configured.leased {
        listener.address.ip()
    } else {
        served_address(&configured.plan, tenant, listener)?
    };
    let peer = Peer::new(tenant, site, tunnel, listener, address, arguments.show_secrets);
    Ok(peer.text(arguments.format))
}

/// The listener's address as the running gateway has it: the plan here was proven without leases,
/// so of a tenant's own addresses only the position is right.
fn served_address(
    plan: &Plan,
    tenant: &TenantPlan,
    listener: &ListenerPlan,
) -> Result<std::net::IpAddr, Failure> {
    let own = tenant.nat.as_ref().map_or(&[][..], |nat| nat.addresses.as_slice());
    let Some(position) = own.iter().position(|address| *address == listener.address) else {
        return Ok(listener.address.ip());
    };
    let authority = plan.gateway.admin_listen.to_string();
    let body = fetch(&authority, "/v1/status").map_err(|error| Failure::cannot(&error))?;
    let status: Status = serde_json::from_slice(&body).map_err(|error| Failure::cannot(&error))?;
    let name = tenant.name.as_str();
    let served = status.tenants.iter().find(|served| served.name == name);
    let address = served.and_then(|served| served.nat.as_ref()?.addresses.get(position));
    address.and_then(|address| address.parse().ok()).ok_or_else(|| {
        let sentence = format!("the gateway at {authority} does not serve tenant `{name}` yet");
        Failure(Exit::CannotRun, sentence)
    })
}
