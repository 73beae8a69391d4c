//! The routes of a domain: the configured ones, and those that its neighbours taught where the plan
//! leaves room. A change of learned routes costs its own size, whatever the domain has besides.

use std::net::IpAddr;
use std::sync::Arc;

use nvgate_model::{CustomerAddress, Prefix};
use nvgate_nvgre::lookup::{EndpointIndex, LookupTable};

use super::{Fib, LearnedRoute, MAX_NEXT_HOPS, SharedFib, SiteIndex};

/// What a route of a domain leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteEntry {
    /// The subnet with this position: the destination has a lookup record of its own, or none.
    Subnet(u16),
    /// The endpoint that forwards further.
    Via(EndpointIndex),
    /// Dropped.
    Blackhole,
    /// One of the gateway's own addresses.
    Gateway,
    /// A tunnel of the site.
    Site(SiteIndex),
    /// A site without a tunnel that is up, and no other way.
    SiteDown,
    /// One of several next hops, by the packet's addresses; at least two, sorted.
    Several(Arc<[RouteHop]>),
}

/// Where a next hop lies: what one packet of a route goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RouteHop {
    /// The endpoint with the address.
    Endpoint(EndpointIndex),
    /// A tunnel of the site that has it.
    Site(SiteIndex),
}

impl RouteHop {
    /// The one of `hops` for a flow with this hash: always the same while they are.
    #[must_use]
    pub fn choose(hops: &[Self], flow: u64) -> Option<Self> {
        let position = (u128::from(flow) * hops.len() as u128) >> u64::BITS;
        hops.get(position as usize).copied()
    }
}

/// The routes of a domain, cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes {
    configured: Arc<Fib<RouteEntry>>,
    /// The configured site routes, up or down, as what may come back from there.
    origins: Arc<Fib<Vec<SiteIndex>>>,
    /// None at a prefix that is configured.
    learned: SharedFib<RouteEntry>,
}

impl Routes {
    /// The configured ones, and which sites a source may come from by them.
    pub(super) fn new(configured: Fib<RouteEntry>, origins: Fib<Vec<SiteIndex>>) -> Self {
        let (configured, origins) = (Arc::new(configured), Arc::new(origins));
        Self { configured, origins, learned: SharedFib::default() }
    }

    /// What the longest prefix that contains `address` leads to.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<(Prefix, &RouteEntry)> {
        let configured = self.configured.lookup(address);
        let learned = self.learned.lookup(address);
        longer(configured, learned)
    }

    /// What stands at exactly this prefix.
    #[must_use]
    pub fn exact(&self, prefix: Prefix) -> Option<&RouteEntry> {
        self.configured.exact(prefix).or_else(|| self.learned.exact(prefix))
    }

    /// Whether a route that is no default route leads, or is configured to lead, to `address`.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        let specific = |prefix: Prefix| prefix.length() > 0;
        self.lookup(address).is_some_and(|(prefix, _)| specific(prefix))
            || self.origins.lookup(address).is_some_and(|(prefix, _)| specific(prefix))
    }

    /// Whether a packet out of the site's tunnels may have this source: those that the routes to it
    /// lead to, whether they are up or not.
    #[must_use]
    pub fn originates(&self, site: SiteIndex, source: IpAddr) -> bool {
        let configured = self.origins.lookup(source);
        match self.learned.lookup(source) {
            Some((prefix, entry))
                if configured.is_none_or(|(known, _)| known.length() < prefix.length()) =>
            {
                entry.leads_to(RouteHop::Site(site))
            }
            Some(_) | None => configured.is_some_and(|(_, sites)| sites.contains(&site)),
        }
    }

    /// Where `address` lies by the configured routes alone, so that no learned route depends on another
    /// one: none when it is the gateway's own, nobody's, or behind a site whose tunnels are down.
    pub(super) fn next_hop(&self, lookup: &LookupTable, address: IpAddr) -> Option<RouteHop> {
        match *self.configured.lookup(address)?.1 {
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

    /// Forgets everything that was learned.
    pub(super) fn forget(&mut self) {
        self.learned = SharedFib::default();
    }

    /// What was learned of prefixes now. It is nothing where the plan has a route of its own, or when no
    /// next hop leads anywhere.
    pub(super) fn learn<'r>(
        &mut self,
        lookup: &LookupTable,
        changes: impl Iterator<Item = (Prefix, Option<&'r LearnedRoute>)>,
    ) {
        let entries: Vec<_> = changes
            .map(|(prefix, route)| {
                let route = route.filter(|_| self.configured.exact(prefix).is_none());
                (prefix, route.and_then(|route| self.entry(lookup, route)))
            })
            .collect();
        self.learned.apply(entries, |_| {});
    }

    fn entry(&self, lookup: &LookupTable, route: &LearnedRoute) -> Option<RouteEntry> {
        let addresses = match route {
            LearnedRoute::Discard => return Some(RouteEntry::Blackhole),
            LearnedRoute::Via(addresses) => addresses,
        };
        let found = addresses.iter().filter_map(|&hop| self.next_hop(lookup, hop));
        let mut hops: Vec<_> = found.take(MAX_NEXT_HOPS).collect();
        hops.sort_unstable();
        hops.dedup();
        match hops[..] {
            [] => None,
            [RouteHop::Endpoint(endpoint)] => Some(RouteEntry::Via(endpoint)),
            [RouteHop::Site(site)] => Some(RouteEntry::Site(site)),
            [_, _, ..] => Some(RouteEntry::Several(hops.into())),
        }
    }
}

impl RouteEntry {
    /// Whether packets by this route may go to `hop`.
    pub(super) fn leads_to(&self, hop: RouteHop) -> bool {
        match self {
            Self::Via(endpoint) => hop == RouteHop::Endpoint(*endpoint),
            Self::Site(site) => hop == RouteHop::Site(*site),
            Self::Several(hops) => hops.contains(&hop),
            Self::Subnet(_) | Self::Blackhole | Self::Gateway | Self::SiteDown => false,
        }
    }
}

/// The entry with the longer prefix, the first of two alike.
fn longer<'a, T>(
    one: Option<(Prefix, &'a T)>,
    other: Option<(Prefix, &'a T)>,
) -> Option<(Prefix, &'a T)> {
    match (one, other) {
        (Some(one), Some(other)) if other.0.length() > one.0.length() => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_spread_evenly_and_each_keeps_its_hop() {
        let hops: Vec<_> = (0..3).map(|site| RouteHop::Site(SiteIndex(site))).collect();
        let mut seen = [0_u32; 3];
        for flow in (0..3000_u64).map(|flow| flow * (u64::MAX / 3000)) {
            let chosen = RouteHop::choose(&hops, flow);
            assert_eq!(chosen, RouteHop::choose(&hops, flow));
            let Some(RouteHop::Site(SiteIndex(site))) = chosen else { panic!("{chosen:?}") };
            seen[usize::from(site)] += 1;
        }
        assert!(seen.iter().all(|&count| (999..=1001).contains(&count)), "{seen:?}");
        assert_eq!(RouteHop::choose(&[], 7), None);
    }
}
