//! The routes of a domain that its plan has.

use std::cmp::Reverse;

use nvgate_deploy::plan::{RouteTarget, TenantPlan};
use nvgate_model::Prefix;
use nvgate_nvgre::lookup::LookupTable;

use super::BuildError;
use super::sites::{build_origins, insert_down_routes};
use crate::snapshot::{Fib, RouteEntry, Routes, SiteIndex};

/// The configured routes, and which sites a source may come from by them.
pub(super) fn build_routes(
    plan: &TenantPlan,
    lookup: &LookupTable,
    routes_up: &[bool],
) -> Result<Routes, BuildError> {
    let mut fib = Fib::default();
    let alive = plan.routes.iter().zip(routes_up).filter(|&(_, &up)| up);
    let mut routes: Vec<_> = alive.map(|(route, _)| route).collect();
    routes.sort_by_key(|route| Reverse(route.metric));
    for route in routes {
        let entry = match route.target {
            RouteTarget::Blackhole => RouteEntry::Blackhole,
            RouteTarget::Via(customer) => {
                RouteEntry::Via(lookup.by_customer(customer).ok_or_else(|| BuildError::Tenant {
                    tenant: plan.name.to_string(),
                    text: format!("route {} leads to {customer}, no endpoint", route.prefix),
                })?)
            }
            RouteTarget::Site(site) => RouteEntry::Site(SiteIndex(site)),
        };
        fib.insert(route.prefix, entry);
    }
    insert_down_routes(&mut fib, plan, routes_up);
    for (index, subnet) in plan.subnets.iter().enumerate() {
        for &prefix in &subnet.prefixes {
            fib.insert(prefix, RouteEntry::Subnet(index as u16));
            fib.insert(Prefix::host(prefix.lowest_host()), RouteEntry::Gateway);
        }
    }
    Ok(Routes::new(fib, build_origins(plan)))
}
