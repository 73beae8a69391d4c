//! Where BGP is spoken: the tenants with it, each with what the plan says of it and its domain in the
//! snapshot, and the front end.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvgate_bgp::speaker::Place;
use nvgate_deploy::plan::{BgpPlan, Plan, TenantPlan};
use nvgate_model::DomainSlot;

use crate::snapshot::Domain;

/// A tenant with BGP.
#[derive(Clone, Copy)]
pub(super) struct Tenant<'a> {
    pub(super) plan: &'a TenantPlan,
    pub(super) bgp: &'a BgpPlan,
    pub(super) domain: &'a Domain,
}

/// A place with BGP.
#[derive(Clone, Copy)]
pub(super) struct Spoken<'a> {
    pub(super) place: Place,
    pub(super) bgp: &'a BgpPlan,
    /// None: the front end.
    pub(super) tenant: Option<&'a TenantPlan>,
}

impl Tenant<'_> {
    pub(super) const fn slot(&self) -> DomainSlot {
        self.domain.slot
    }

    pub(super) const fn place(&self) -> Place {
        Place::Domain(self.domain.slot)
    }
}

impl Spoken<'_> {
    /// The tenant's name.
    pub(super) fn name(&self) -> Option<String> {
        self.tenant.map(|tenant| tenant.name.to_string())
    }
}

/// The tenants of `plan` with BGP whose domains are among these, in the plan's order.
pub(super) fn tenants<'a>(
    plan: &'a Plan,
    domains: &'a BTreeMap<DomainSlot, Arc<Domain>>,
) -> impl Iterator<Item = Tenant<'a>> {
    let by_id: BTreeMap<_, _> = domains.values().map(|domain| (domain.id, &**domain)).collect();
    plan.tenants.iter().filter_map(move |plan| {
        let domain = *by_id.get(&plan.routing_domain)?;
        Some(Tenant { plan, bgp: plan.bgp.as_ref()?, domain })
    })
}

/// Every place with BGP, the front end first.
pub(super) fn spoken<'a>(
    plan: &'a Plan,
    domains: &'a BTreeMap<DomainSlot, Arc<Domain>>,
) -> impl Iterator<Item = Spoken<'a>> {
    let front_end = plan.gateway.front_end.bgp.iter();
    let front_end =
        front_end.map(|plan| Spoken { place: Place::FrontEnd, bgp: &plan.bgp, tenant: None });
    front_end.chain(tenants(plan, domains).map(|one| Spoken {
        place: one.place(),
        bgp: one.bgp,
        tenant: Some(one.plan),
    }))
}
