//! The routes of a domain: those of its plan, with room for those that its neighbours taught.

use std::cmp::Reverse;

use nvgate_deploy::plan::{RouteTarget, TenantPlan};
use nvgate_model::Prefix;
use nvgate_nvgre::lookup::LookupTable;

use super::BuildError;
use super::sites::{build_origins, insert_down_routes};
use crate::snapshot::learned::{self, Resolved};
use crate::snapshot::{Fib, HopSets, LearnedRoutes, RouteEntry, RouteHop, SiteIndex};

/// The configured routes.
pub(super) fn build_fib(
    plan: &TenantPlan,
    lookup: &LookupTable,
    routes_up: &[bool],
) -> Result<Fib<RouteEntry>, BuildError> {
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
    Ok(fib)
}

/// The configured routes with the learned ones that they leave room for, and what may come out of
/// sites.
pub(super) fn add_learned(
    plan: &TenantPlan,
    configured: &Fib<RouteEntry>,
    lookup: &LookupTable,
    learned: &LearnedRoutes,
) -> (Fib<RouteEntry>, Fib<Vec<SiteIndex>>, HopSets) {
    let mut fib = configured.clone();
    let mut origins = build_origins(plan);
    let Resolved { entries, sets } = learned::resolve(configured, lookup, learned);
    for (prefix, entry) in entries {
        let sites = match entry {
            RouteEntry::Site(site) => vec![site],
            RouteEntry::Several(set) => {
                let sites = sets.hops(set).iter().filter_map(|hop| match *hop {
                    RouteHop::Site(site) => Some(site),
                    RouteHop::Endpoint(_) => None,
                });
                sites.collect()
            }
            RouteEntry::Subnet(_)
            | RouteEntry::Via(_)
            | RouteEntry::Blackhole
            | RouteEntry::Gateway
            | RouteEntry::SiteDown => Vec::new(),
        };
        fib.insert(prefix, entry);
        if origins.exact(prefix).is_none() {
            origins.insert(prefix, sites);
        }
    }
    (fib, origins, sets)
}
