//! Routes of a domain that its neighbours taught, and where a next hop lies.
//!
//! Control hands them over whole and already coalesced; the builder resolves their next hops
//! against the configured routes alone, so that no learned route depends on another one.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use nvgate_model::{CustomerAddress, Prefix};
use nvgate_nvgre::lookup::{EndpointIndex, LookupTable};

use super::{Fib, RouteEntry, SiteIndex};

/// Next hops of one route that packets are shared among; further ones are left out.
pub const MAX_NEXT_HOPS: usize = 16;

/// What a learned route leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LearnedRoute {
    /// Customer addresses that forward further, in order of preference for [`MAX_NEXT_HOPS`].
    Via(Box<[IpAddr]>),
    /// Dropped, as its teacher asked (RFC 7999).
    Discard,
}

/// The learned routes of one domain.
pub type LearnedRoutes = BTreeMap<Prefix, LearnedRoute>;

/// Where a next hop lies: what one packet of a route goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RouteHop {
    /// The endpoint with the address.
    Endpoint(EndpointIndex),
    /// A tunnel of the site that has it.
    Site(SiteIndex),
}

/// A set of next hops among a domain's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HopSet(u32);

/// The sets of next hops that routes of a domain share packets among, each once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HopSets {
    sets: Vec<Box<[RouteHop]>>,
}

impl HopSets {
    /// The next hops of a set, at least two.
    #[must_use]
    pub fn hops(&self, set: HopSet) -> &[RouteHop] {
        self.sets.get(set.0 as usize).map_or(&[], |hops| hops)
    }

    /// The next hop for a flow with this hash: always the same one while the set is.
    #[must_use]
    pub fn choose(&self, set: HopSet, flow: u64) -> Option<RouteHop> {
        let hops = self.hops(set);
        let position = (u128::from(flow) * hops.len() as u128) >> u64::BITS;
        hops.get(position as usize).copied()
    }
}

/// Where `address` lies by the configured routes alone: none when it is the gateway's own, nobody's, or
/// behind a site whose tunnels are down.
pub(super) fn next_hop(
    configured: &Fib<RouteEntry>,
    lookup: &LookupTable,
    address: IpAddr,
) -> Option<RouteHop> {
    match *configured.lookup(address)?.1 {
        RouteEntry::Subnet(_) => {
            lookup.by_customer(CustomerAddress(address)).map(RouteHop::Endpoint)
        }
        RouteEntry::Via(endpoint) => Some(RouteHop::Endpoint(endpoint)),
        RouteEntry::Site(site) => Some(RouteHop::Site(site)),
        RouteEntry::Several(_)
        | RouteEntry::Blackhole
        | RouteEntry::Gateway
        | RouteEntry::SiteDown => None,
    }
}

/// What is made of a domain's learned routes.
pub(super) struct Resolved {
    /// The routes that lead somewhere.
    pub(super) entries: Vec<(Prefix, RouteEntry)>,
    pub(super) sets: HopSets,
}

/// Resolves the next hops of `routes`; those that are configured too, or lead nowhere, are left out.
pub(super) fn resolve(
    configured: &Fib<RouteEntry>,
    lookup: &LookupTable,
    routes: &LearnedRoutes,
) -> Resolved {
    let mut resolved = Resolved { entries: Vec::new(), sets: HopSets::default() };
    let mut known: HashMap<Box<[RouteHop]>, HopSet> = HashMap::new();
    for (&prefix, route) in routes {
        if configured.exact(prefix).is_some() {
            continue;
        }
        let entry = match route {
            LearnedRoute::Discard => RouteEntry::Blackhole,
            LearnedRoute::Via(addresses) => {
                let found = addresses.iter().filter_map(|&hop| next_hop(configured, lookup, hop));
                let mut hops: Vec<_> = found.take(MAX_NEXT_HOPS).collect();
                hops.sort_unstable();
                hops.dedup();
                match hops[..] {
                    [] => continue,
                    [RouteHop::Endpoint(endpoint)] => RouteEntry::Via(endpoint),
                    [RouteHop::Site(site)] => RouteEntry::Site(site),
                    [_, _, ..] => {
                        let sets = &mut resolved.sets.sets;
                        let set = *known.entry(hops.into()).or_insert_with_key(|hops| {
                            sets.push(hops.clone());
                            HopSet(sets.len() as u32 - 1)
                        });
                        RouteEntry::Several(set)
                    }
                }
            }
        };
        resolved.entries.push((prefix, entry));
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(count: u16) -> HopSets {
        HopSets { sets: vec![(0..count).map(|site| RouteHop::Site(SiteIndex(site))).collect()] }
    }

    #[test]
    fn flows_spread_evenly_and_each_keeps_its_hop() {
        let sets = sets(3);
        let mut seen = [0_u32; 3];
        for flow in (0..3000_u64).map(|flow| flow * (u64::MAX / 3000)) {
            let chosen = sets.choose(HopSet(0), flow);
            assert_eq!(chosen, sets.choose(HopSet(0), flow));
            let Some(RouteHop::Site(SiteIndex(site))) = chosen else { panic!("{chosen:?}") };
            seen[usize::from(site)] += 1;
        }
        assert!(seen.iter().all(|&count| (999..=1001).contains(&count)), "{seen:?}");
    }

    #[test]
    fn an_unknown_set_has_no_hop() {
        assert_eq!(sets(2).choose(HopSet(1), 7), None);
    }
}
