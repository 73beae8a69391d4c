//! Proves one tenant's VPN: its listeners and keys, and that sites are told apart. Where listeners
//! stand is proven after the leases are known, because a listener may name a leased address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use nvgate_model::FrontEndAddress;
use nvgate_vpn::{PrivateKey, PublicKey};

use super::gateway::GatewayDraft;
use super::site::{SiteDraft, prove_site};
use super::tenant::TenantDraft;
use crate::keys::{KeyName, Keyring, NewKey, draw};
use crate::plan::{ListenerPlan, NatPlan, VpnPlan};
use crate::schema::{
    At, Findings, KeyFile, Listener, Place, PublicAddress, SecretKey, Vpn, entries,
};

/// The UDP port of a listener that names none: WireGuard's.
const DEFAULT_PORT: u16 = 51_820;

/// A tenant's VPN before its leases are known.
pub(super) struct VpnDraft {
    pub(super) listeners: Vec<ListenerDraft>,
    pub(super) sites: Vec<SiteDraft>,
}

/// A listener that is whole but for its address.
pub(super) struct ListenerDraft {
    pub(super) name: String,
    pub(super) place: Place,
    address: At<PublicAddress>,
    port: At<u16>,
    /// Its key, unless that could not be read.
    key: Option<PrivateKey>,
    previous: Option<PrivateKey>,
}

impl ListenerDraft {
    /// Whether it stands on an IPv4 address: a tenant's counted addresses are all of IPv4.
    pub(super) const fn is_ipv4(&self) -> bool {
        match self.address.value {
            PublicAddress::Ordinal(_) => true,
            PublicAddress::Explicit(address) => address.ip().is_ipv4(),
        }
    }

    /// The public keys by which sites know it.
    pub(super) fn public_keys(&self) -> impl Iterator<Item = PublicKey> {
        self.key.iter().chain(&self.previous).map(PrivateKey::public)
    }
}

/// The keys that proving has to do with: those that are, and those it draws.
pub(super) struct Keys<'a> {
    pub(super) held: &'a Keyring,
    pub(super) new: Vec<NewKey>,
}

/// Proves the VPN of a tenant, as far as it could be read.
pub(super) fn prove_vpn(
    vpn: &Vpn,
    tenant: &TenantDraft,
    keys: &mut Keys<'_>,
    findings: &mut Findings,
) -> VpnDraft {
    let mut listeners: Vec<ListenerDraft> = Vec::new();
    for listener in entries(&vpn.listen) {
        let draft = prove_listener(listener, tenant, keys, findings);
        if let Some(first) = listeners.iter().find(|first| first.name == draft.name) {
            let message = format!("listener `{}` is defined twice; give each a name", draft.name);
            findings.conflict(draft.place, message, first.place, "defined here first");
        }
        listeners.push(draft);
    }
    let mut sites: Vec<SiteDraft> = Vec::new();
    let mut peers = HashMap::new();
    for site in entries(&vpn.sites) {
        let Some(draft) = prove_site(&site.value, tenant, &listeners, &mut peers, findings) else {
            continue;
        };
        if let Some(first) = sites.iter().find(|first| first.name == draft.name) {
            let message = format!("site `{}` is defined twice", draft.name);
            findings.conflict(draft.place, message, first.place, "defined here first");
        }
        sites.push(draft);
    }
    VpnDraft { listeners, sites }
}

fn prove_listener(
    listener: &At<Listener>,
    tenant: &TenantDraft,
    keys: &mut Keys<'_>,
    findings: &mut Findings,
) -> ListenerDraft {
    let At { value: given, place } = listener;
    let name = given.name().to_owned();
    let names = ["private_key", "private_key_file"];
    let key = either(&given.private_key, &given.private_key_file, names, findings);
    let names = ["previous_private_key", "previous_private_key_file"];
    let previous =
        either(&given.previous_private_key, &given.previous_private_key_file, names, findings);
    if let (Some(key), Some(previous)) = (&key, &previous)
        && key.value == previous.value
    {
        let message = "the previous private key is the one in use; leave it out, or give the \
                       listener a new one";
        findings.conflict(previous.place, message, key.place, "the key in use");
    }
    let mut previous = previous.map(|previous| previous.value);
    let key = match key {
        Some(key) => Some(key.value),
        // A key that could not be read is no missing one.
        None if !given.is_generated() => None,
        None => tenant.routing_domain.and_then(|routing_domain| {
            let name = KeyName { routing_domain: routing_domain.value, listener: name.clone() };
            if let Some(held) = keys.held.of(&name) {
                previous = previous.take().or_else(|| Some(held.previous.as_ref()?.key.clone()));
                return Some(held.current.clone());
            }
            let key = draw().map_err(|error| {
                findings.error(*place, format!("no private key can be generated: {error}"));
            });
            let key = key.ok()?;
            keys.new.push(NewKey { name, key: key.clone() });
            Some(key)
        }),
    };
    let name_place = given.name.as_ref().map_or(*place, |name| name.place);
    let port = given.port.map(|port| At {
        value: u16::try_from(port.value.0).unwrap_or(DEFAULT_PORT),
        place: port.place,
    });
    ListenerDraft {
        name,
        place: name_place,
        address: given.address.unwrap_or(At { value: PublicAddress::Ordinal(1), place: *place }),
        port: port.unwrap_or(At { value: DEFAULT_PORT, place: *place }),
        key,
        previous,
    }
}

/// A key that is given in one of two ways.
pub(super) fn either<K: Clone>(
    inline: &Option<At<SecretKey<K>>>,
    file: &Option<At<KeyFile<K>>>,
    [inline_name, file_name]: [&str; 2],
    findings: &mut Findings,
) -> Option<At<K>> {
    if let (Some(inline), Some(file)) = (inline, file) {
        let message = format!("either `{inline_name}` or `{file_name}` is given, not both");
        findings.conflict(file.place, message, inline.place, "the other one");
    }
    let inline = inline.as_ref().map(|key| At { value: key.value.0.clone(), place: key.place });
    inline.or_else(|| file.as_ref().map(|key| At { value: key.value.0.clone(), place: key.place }))
}

/// The sockets of the front end that listeners have, and where that is written.
pub(super) type Sockets<'a> = HashMap<SocketAddr, (&'a TenantDraft, Place)>;

/// The VPN of a tenant whose NAT is `nat`, with the ports that NAT must leave to it.
///
/// `sockets` are those of the tenants before it, to which this one's are added.
pub(super) fn planned_vpn<'a>(
    tenant: &'a TenantDraft,
    nat: Option<&mut NatPlan>,
    gateway: &GatewayDraft,
    sockets: &mut Sockets<'a>,
    findings: &mut Findings,
) -> Option<VpnPlan> {
    let draft = tenant.vpn.as_ref()?;
    // Without NAT the tenant has no address; with one that could not be proven it is unknown which.
    let held = match (&nat, &tenant.nat) {
        (Some(nat), _) => Some(nat.addresses.clone()),
        (None, None) if tenant.intact => Some(Vec::new()),
        (None, None | Some(_)) => None,
    };
    let mut listeners = Vec::new();
    let mut reserved = Vec::new();
    for listener in &draft.listeners {
        let address = prove_address(listener, held.as_deref(), gateway, findings);
        let Some(address) = address else { continue };
        let own = held.as_ref().is_some_and(|held| held.contains(&address));
        prove_socket(listener, address, tenant, sockets, findings);
        if own {
            prove_unpublished(listener, address, tenant, held.as_deref(), findings);
            reserved.push((address, listener.port.value));
        }
        listeners.extend(listener.key.clone().map(|key| ListenerPlan {
            name: listener.name.clone(),
            address,
            port: listener.port.value,
            key,
            previous: listener.previous.clone(),
        }));
    }
    if let Some(nat) = nat {
        nat.reserved_udp = reserved;
    }
    let sites = draft.sites.iter().filter_map(SiteDraft::plan).collect();
    Some(VpnPlan { listeners, sites })
}

/// The listener's address by its value, if it may have it; `held` are the tenant's, if known.
fn prove_address(
    listener: &ListenerDraft,
    held: Option<&[FrontEndAddress]>,
    gateway: &GatewayDraft,
    findings: &mut Findings,
) -> Option<FrontEndAddress> {
    let At { value, place } = listener.address;
    let shared = |address| gateway.shared_addresses.iter().any(|shared| shared.value == address);
    let address = match value {
        PublicAddress::Explicit(address) if shared(address) => return Some(address),
        PublicAddress::Explicit(address) => address,
        PublicAddress::Ordinal(ordinal) => {
            let held = held?;
            let address = held.get(ordinal as usize - 1).copied();
            if address.is_none() {
                let message = format!(
                    "listen address {ordinal} is none of this tenant's NAT addresses, of which it \
                     has {}; give it more in `nat`, or name one of the gateway's `shared_addresses`",
                    held.len()
                );
                findings.error(place, message);
            }
            return address;
        }
    };
    let held = held.filter(|_| gateway.intact)?;
    if held.contains(&address) {
        return Some(address);
    }
    let own: Vec<_> = held.iter().map(ToString::to_string).collect();
    let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
    let message = format!(
        "listen address {address} is neither one of this tenant's NAT addresses ({own}) nor one of \
         the gateway's; add it to `shared_addresses` in gateway.yaml, or name one of those"
    );
    findings.error(place, message);
    None
}

/// Proves that no listener before has the socket.
fn prove_socket<'a>(
    listener: &ListenerDraft,
    address: FrontEndAddress,
    tenant: &'a TenantDraft,
    sockets: &mut Sockets<'a>,
    findings: &mut Findings,
) {
    let place = listener.port.place;
    let socket = SocketAddr::new(address.ip(), listener.port.value);
    let Some(&(owner, first)) = sockets.get(&socket) else {
        sockets.insert(socket, (tenant, place));
        return;
    };
    let owner = if std::ptr::eq(owner, tenant) {
        "another listener of this tenant".to_owned()
    } else {
        owner.label()
    };
    let message = format!("{socket} is already listened on by {owner}; give each its own port");
    findings.conflict(place, message, first, "listened on here");
}

/// Proves that no inbound rule of the tenant gives the listener's port away.
fn prove_unpublished(
    listener: &ListenerDraft,
    address: FrontEndAddress,
    tenant: &TenantDraft,
    held: Option<&[FrontEndAddress]>,
    findings: &mut Findings,
) {
    let (Some(nat), Some(held), IpAddr::V4(_)) = (&tenant.nat, held, address.ip()) else { return };
    let port = listener.port.value;
    if let Some(place) = nat.rules.iter().find_map(|rule| rule.publishes_udp(held, address, port)) {
        let message = format!(
            "UDP port {port} of {address} is published by an inbound rule; give one of them another \
             port"
        );
        findings.conflict(listener.port.place, message, place, "published here");
    }
}
