//! Proves what no tenant's file can say alone: that identifiers and public addresses have one
//! owner, and that no public address is one of the underlay.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::{FrontEndAddress, Prefix, ProviderAddress};

use super::address::overlaps;
use super::gateway::GatewayDraft;
use super::nat::Demand;
use super::tenant::TenantDraft;
use crate::lease::{LeaseRequest, Leases};
use crate::plan::VpnPlan;
use crate::schema::{At, Findings, Place};

/// Proves the tenants together. `requests` are the leases asked for, `leases` those held so far.
pub(super) fn prove_across(
    gateway: &GatewayDraft,
    tenants: &[TenantDraft],
    requests: &[LeaseRequest],
    leases: &Leases,
    findings: &mut Findings,
) {
    prove_identifiers(tenants, findings);
    prove_front_end_prefixes(tenants, findings);
    let providers = prove_providers(gateway, tenants, findings);
    prove_explicit(tenants, &providers, findings);
    prove_shared(gateway, tenants, &providers, findings);
    prove_unleased(gateway, tenants, requests, leases, findings);
    prove_sites_fit(tenants, findings);
}

/// Who claimed a value first.
struct Owners<'a, T>(HashMap<T, (&'a TenantDraft, Place)>);

impl<'a, T: Hash + Eq + Display + Clone> Owners<'a, T> {
    fn claim(
        &mut self,
        what: &str,
        value: &T,
        place: Place,
        tenant: &'a TenantDraft,
        findings: &mut Findings,
    ) {
        let Some(&(owner, first)) = self.0.get(value) else {
            self.0.insert(value.clone(), (tenant, place));
            return;
        };
        if std::ptr::eq(owner, tenant) {
            let message = format!("{what} {value} is used twice in this tenant");
            findings.conflict(place, message, first, "used here first");
        } else {
            let label = owner.label();
            let message = format!("{what} {value} is already used by {label}");
            findings.conflict(place, message, first, format!("{label} uses it here"));
        }
    }
}

fn prove_identifiers(tenants: &[TenantDraft], findings: &mut Findings) {
    let mut names = HashMap::new();
    let mut domains = Owners(HashMap::new());
    let mut vsids = Owners(HashMap::new());
    for tenant in tenants {
        if let Some(name) = &tenant.name {
            if let Some(&first) = names.get(&name.value) {
                let message = format!("tenant `{}` is defined twice", name.value);
                findings.conflict(name.place, message, first, "defined here first");
            } else {
                names.insert(name.value.clone(), name.place);
            }
        }
        if let Some(domain) = &tenant.routing_domain {
            domains.claim("routing domain", &domain.value, domain.place, tenant, findings);
        }
        for vsid in tenant.subnets.iter().filter_map(|subnet| subnet.vsid) {
            vsids.claim("VSID", &vsid.value, vsid.place, tenant, findings);
        }
    }
}

fn prove_front_end_prefixes(tenants: &[TenantDraft], findings: &mut Findings) {
    let claims: Vec<(&TenantDraft, At<Prefix>)> = tenants
        .iter()
        .flat_map(|tenant| tenant.front_end_prefixes.iter().map(move |prefix| (tenant, *prefix)))
        .collect();
    let places: Vec<_> = claims.iter().map(|(_, prefix)| (prefix.value, prefix.place)).collect();
    for (later, earlier) in overlaps(&places) {
        let ((_, prefix), (owner, other)) = (claims[later], claims[earlier]);
        let message = format!(
            "front-end prefix {} overlaps {} of {}",
            prefix.value,
            other.value,
            owner.label()
        );
        findings.conflict(prefix.place, message, other.place, "the other prefix");
    }
}

/// Proves that no provider address lies in a pool; returns all of them.
fn prove_providers(
    gateway: &GatewayDraft,
    tenants: &[TenantDraft],
    findings: &mut Findings,
) -> HashMap<ProviderAddress, Place> {
    let mut providers: HashMap<ProviderAddress, Place> = HashMap::new();
    let named = gateway.named_providers.iter().map(|address| (address.value, address.place));
    let hosts = tenants.iter().flat_map(|tenant| tenant.providers.iter());
    for (address, place) in named.chain(hosts.map(|(&address, &place)| (address, place))) {
        let first = providers.entry(address).or_insert(place);
        *first = (*first).min(place);
    }
    for (address, &place) in &providers {
        let pools = gateway.pools.iter();
        let mut prefixes =
            pools.flat_map(|pool| pool.prefixes.iter().map(move |prefix| (pool, prefix)));
        if let Some((pool, prefix)) =
            prefixes.find(|(_, prefix)| prefix.value.contains(address.ip()))
        {
            let name = &pool.pool.name;
            let message =
                format!("provider address {address} lies in {} of pool `{name}`", prefix.value);
            findings.conflict(place, message, prefix.place, "the pool's prefix");
        }
    }
    providers
}

/// Proves that explicit public addresses have one owner and are none of the underlay.
fn prove_explicit(
    tenants: &[TenantDraft],
    providers: &HashMap<ProviderAddress, Place>,
    findings: &mut Findings,
) {
    let mut owners = Owners(HashMap::new());
    for (tenant, address) in explicit(tenants) {
        owners.claim("public address", &address.value, address.place, tenant, findings);
        if let Some(&provider) = providers.get(&ProviderAddress(address.value.ip())) {
            let message = format!("public address {} is a provider address", address.value);
            findings.conflict(address.place, message, provider, "the provider address");
        }
    }
}

/// Proves that shared addresses are nobody else's.
fn prove_shared(
    gateway: &GatewayDraft,
    tenants: &[TenantDraft],
    providers: &HashMap<ProviderAddress, Place>,
    findings: &mut Findings,
) {
    for shared in &gateway.shared_addresses {
        let address = shared.value.ip();
        if let Some(&provider) = providers.get(&ProviderAddress(address)) {
            let message = format!("shared address {address} is a provider address");
            findings.conflict(shared.place, message, provider, "the provider address");
        }
        let mut prefixes =
            tenants.iter().flat_map(|one| one.front_end_prefixes.iter().map(move |at| (one, at)));
        if let Some((owner, prefix)) = prefixes.find(|(_, prefix)| prefix.value.contains(address)) {
            let message = format!(
                "shared address {address} lies in front-end prefix {} of {}",
                prefix.value,
                owner.label()
            );
            findings.conflict(shared.place, message, prefix.place, "the prefix");
        }
        if let Some((_, own)) = explicit(tenants).find(|(_, own)| own.value == shared.value) {
            let message = format!(
                "public address {address} is one of the gateway's `shared_addresses`, which are no \
                 tenant's"
            );
            findings.conflict(own.place, message, shared.place, "shared here");
        }
    }
}

/// Proves that the tenants have no more sites than the gateway has room for.
fn prove_sites_fit(tenants: &[TenantDraft], findings: &mut Findings) {
    let sites =
        || tenants.iter().filter_map(|tenant| tenant.vpn.as_ref()).flat_map(|vpn| &vpn.sites);
    if let Some(beyond) = sites().nth(VpnPlan::MAX_SITES) {
        let message = format!(
            "{} sites of all tenants are more than {}; move tenants to another gateway",
            sites().count(),
            VpnPlan::MAX_SITES
        );
        findings.error(beyond.place, message);
    }
}

/// Proves that no address that is explicit or shared is leased to a tenant that still asks for it.
fn prove_unleased(
    gateway: &GatewayDraft,
    tenants: &[TenantDraft],
    requests: &[LeaseRequest],
    leases: &Leases,
    findings: &mut Findings,
) {
    let asked: HashMap<_, u32> = requests
        .iter()
        .map(|request| ((request.routing_domain, request.pool.as_str()), request.count))
        .collect();
    let held: HashMap<Ipv4Addr, _> = leases
        .held()
        .filter(|(key, _)| {
            asked
                .get(&(key.routing_domain, key.pool.as_str()))
                .is_some_and(|&count| key.ordinal < count)
        })
        .map(|(key, address)| (address, key))
        .collect();
    let shared = gateway.shared_addresses.iter().map(|address| (None, *address));
    let explicit = explicit(tenants).map(|(tenant, address)| (Some(tenant), address));
    for (tenant, address) in explicit.chain(shared) {
        let IpAddr::V4(v4) = address.value.ip() else { continue };
        let Some(key) = held.get(&v4) else { continue };
        let domain = tenant.and_then(|tenant| tenant.routing_domain);
        if domain.is_some_and(|domain| domain.value == key.routing_domain) {
            continue;
        }
        let holder = tenants.iter().find(|other| {
            other.routing_domain.is_some_and(|domain| domain.value == key.routing_domain)
        });
        let Some(holder) = holder else { continue };
        let label = holder.label();
        let message = format!(
            "public address {v4} is leased to {label} from pool `{}`; choose another, or give \
             that tenant explicit addresses first",
            key.pool
        );
        let place = holder.nat.as_ref().map_or(holder.place, |nat| match &nat.demand {
            Demand::Leased { place, .. } => *place,
            Demand::Explicit(_) | Demand::Unknown => holder.place,
        });
        findings.conflict(address.place, message, place, format!("{label} leases here"));
    }
}

/// Explicit public addresses and who asks for them.
pub(super) fn explicit(
    tenants: &[TenantDraft],
) -> impl Iterator<Item = (&TenantDraft, At<FrontEndAddress>)> {
    tenants.iter().flat_map(|tenant| {
        let addresses = match tenant.nat.as_ref().map(|nat| &nat.demand) {
            Some(Demand::Explicit(addresses)) => addresses.as_slice(),
            Some(Demand::Leased { .. } | Demand::Unknown) | None => &[],
        };
        addresses.iter().map(move |address| (tenant, *address))
    })
}
