//! The tenants with BGP: what the plan says of each, and its domain in the snapshot.

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

impl Tenant<'_> {
    pub(super) const fn slot(&self) -> DomainSlot {
        self.domain.slot
    }

    pub(super) const fn place(&self) -> Place {
        Place::Domain(self.domain.slot)
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
