//! From documents to a plan. Every rule is checked on everything that could be read, so that one
//! run names all errors; what depends on a part that could not be read is left unsaid, so that no
//! error is only the echo of another.

mod across;
mod address;
mod bgp;
mod gateway;
mod links;
mod nat;
mod reach;
mod site;
mod tenant;
mod vpn;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::FrontEndAddress;

use super::{InboundRulePlan, NatPlan, Plan, TenantPlan, VpnPlan};
use crate::keys::{Keyring, NewKey};
use crate::lease::{LeasePool, LeaseRequest, Leases};
use crate::schema::{Diagnostic, Documents, Findings};
use across::{explicit, prove_across};
pub use gateway::ADMIN_LISTEN;
use gateway::{GatewayDraft, prove_gateway};
use nat::{Demand, NatDraft, prove_published};
use tenant::{TenantDraft, prove_tenant};
use vpn::{Keys, planned_vpn};

/// A plan, and the leases and new keys it stands on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// What the gateway is to do.
    pub plan: Plan,
    /// The leases after it; they belong into the store before the plan is put to work.
    pub leases: Leases,
    /// The keys drawn for listeners that had none; they belong into the store before the plan is
    /// put to work. A plan that is only looked at has them for nothing but its form.
    pub new_keys: Vec<NewKey>,
}

/// Proves what `documents` say against each other and against the `leases` and `keys` held so far.
///
/// The result depends on nothing but the three: the same ones give the same plan and the same new
/// leases, whatever the files are called. Only keys that are not there yet are drawn by chance.
///
/// # Errors
///
/// Every error of the documents, those of their form among them, ordered by place.
pub fn prove(
    documents: &Documents,
    leases: &Leases,
    keys: &Keyring,
) -> Result<Proof, Vec<Diagnostic>> {
    let mut keys = Keys { held: keys, new: Vec::new() };
    let mut findings = documents.findings.clone();
    let gateway = prove_gateway(documents, &mut findings);
    let mut tenants: Vec<TenantDraft> = documents
        .tenants
        .iter()
        .map(|document| {
            prove_tenant(document, &gateway, &mut keys, &documents.sources, &mut findings)
        })
        .collect();
    tenants.sort_by(|one, other| name_of(one).cmp(&name_of(other)));
    let requests = requests(&tenants);
    prove_across(&gateway, &tenants, &requests, leases, &mut findings);
    let reserved = reserved(&gateway, &tenants);
    prove_pools_suffice(&gateway, &tenants, &reserved, &mut findings);
    let pools: Vec<LeasePool> = gateway.pools.iter().map(|draft| draft.pool.clone()).collect();
    let leases = leases.renewed(&pools, &requests, &reserved);
    let mut sockets = HashMap::new();
    let plans: Option<Vec<TenantPlan>> = tenants
        .iter()
        .map(|tenant| {
            let nat =
                tenant.nat.as_ref().map(|nat| planned_nat(tenant, nat, &leases, &mut findings));
            let mut nat = nat.flatten();
            let vpn = planned_vpn(tenant, nat.as_mut(), &gateway, &mut sockets, &mut findings);
            planned_tenant(tenant, nat, vpn)
        })
        // Not short of the first that is missing: the rules of the others are proven too.
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    if !findings.is_empty() {
        return Err(findings.into_diagnostics(&documents.sources));
    }
    let plan = gateway.plan.zip(plans).map(|(gateway, tenants)| Plan { gateway, tenants });
    let plan = plan.expect("a part of the plan is missing only after an error was found");
    Ok(Proof { plan, leases, new_keys: keys.new })
}

fn name_of(tenant: &TenantDraft) -> Option<&nvgate_model::TenantName> {
    tenant.name.as_ref().map(|name| &name.value)
}

/// The leases the tenants ask for, in the order of their names.
fn requests(tenants: &[TenantDraft]) -> Vec<LeaseRequest> {
    let request = |tenant: &TenantDraft| match &tenant.nat.as_ref()?.demand {
        Demand::Leased { pool, count, .. } => Some(LeaseRequest {
            routing_domain: tenant.routing_domain?.value,
            pool: pool.clone(),
            count: *count,
        }),
        Demand::Explicit(_) | Demand::Unknown => None,
    };
    tenants.iter().filter_map(request).collect()
}

/// The addresses that are no pool's to lease, because a tenant names them or tenants share them.
fn reserved(gateway: &GatewayDraft, tenants: &[TenantDraft]) -> HashSet<Ipv4Addr> {
    let shared = gateway.shared_addresses.iter().map(|address| address.value);
    explicit(tenants)
        .map(|(_, address)| address.value)
        .chain(shared)
        .filter_map(|address| match address.ip() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
        .collect()
}

fn prove_pools_suffice(
    gateway: &GatewayDraft,
    tenants: &[TenantDraft],
    reserved: &HashSet<Ipv4Addr>,
    findings: &mut Findings,
) {
    if !gateway.intact {
        return;
    }
    for draft in gateway.pools.iter().filter(|draft| draft.whole) {
        let demands = tenants.iter().filter_map(|tenant| match &tenant.nat.as_ref()?.demand {
            Demand::Leased { pool, count, place } if *pool == draft.pool.name => {
                Some((tenant.label(), *count, *place))
            }
            Demand::Leased { .. } | Demand::Explicit(_) | Demand::Unknown => None,
        });
        let demands: Vec<_> = demands.collect();
        let asked: usize = demands.iter().map(|&(_, count, _)| count as usize).sum();
        let free = |address: &Ipv4Addr| !reserved.contains(address);
        let size = draft.pool.addresses().filter(free).count();
        if asked > size {
            let asking: Vec<_> = demands
                .iter()
                .take(Findings::MAX_NOTES)
                .map(|(label, count, _)| format!("{label} ({count})"))
                .collect();
            let others = match demands.len() - asking.len() {
                0 => String::new(),
                count => format!(" and {count} others"),
            };
            let message = format!(
                "pool `{}` has {size} addresses to lease, but {asked} are asked for: {}{others}",
                draft.pool.name,
                asking.join(", ")
            );
            let notes = demands
                .into_iter()
                .map(|(label, count, place)| (place, format!("{label} asks for {count}")))
                .collect();
            findings.error_with_notes(draft.place, message, notes);
        }
    }
}

fn planned_nat(
    tenant: &TenantDraft,
    nat: &NatDraft,
    leases: &Leases,
    findings: &mut Findings,
) -> Option<NatPlan> {
    let (addresses, asked) = match &nat.demand {
        Demand::Explicit(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(|address| address.value).collect();
            let asked = addresses.len();
            (Some(addresses), Some(asked))
        }
        Demand::Leased { pool, count, .. } => {
            (leased(tenant, pool, *count, leases), Some(*count as usize))
        }
        Demand::Unknown => (None, None),
    };
    let inbound: Vec<InboundRulePlan> =
        prove_published(&nat.rules, addresses.as_deref(), asked, findings);
    let reserved_udp = Vec::new();
    Some(NatPlan { addresses: addresses?, inbound, reserved_udp, timeouts: nat.timeouts })
}

/// The addresses a tenant holds, unless one of them is missing.
fn leased(
    tenant: &TenantDraft,
    pool: &str,
    count: u32,
    leases: &Leases,
) -> Option<Vec<FrontEndAddress>> {
    let routing_domain = tenant.routing_domain?.value;
    let request = LeaseRequest { routing_domain, pool: pool.to_owned(), count };
    request.keys().map(|key| Some(FrontEndAddress(leases.address(&key)?.into()))).collect()
}

fn planned_tenant(
    tenant: &TenantDraft,
    nat: Option<NatPlan>,
    vpn: Option<VpnPlan>,
) -> Option<TenantPlan> {
    Some(TenantPlan {
        name: tenant.name.as_ref()?.value.clone(),
        routing_domain: tenant.routing_domain?.value,
        subnets: tenant.subnets.iter().filter_map(tenant::SubnetDraft::plan).collect(),
        endpoints: tenant.endpoints.clone(),
        routes: tenant.routes.clone(),
        nat,
        vpn,
        // Of BGP that is there no draft is left only after an error.
        bgp: tenant.bgp.clone(),
        front_end_prefixes: tenant.front_end_prefixes.iter().map(|prefix| prefix.value).collect(),
        limits: tenant.limits,
    })
}
