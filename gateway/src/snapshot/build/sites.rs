//! Sites and tunnels of a snapshot: numbers that stay over rebuilds, and routes that follow which
//! sites are up.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use nvgate_deploy::plan::{
    ListenerPlan, Plan, RoutePlan, RouteTarget, SitePlan, TenantPlan, TranslatePlan, TranslateSide,
    TunnelPlan, VpnPlan,
};
use nvgate_model::{DomainSlot, RoutingDomainId};
use nvgate_nat::Budget;
use nvgate_packet::flow_key::Place;
use nvgate_packet::renumber::Renumbering;
use nvgate_vpn::{OwnKeys, TunnelIndex};

use super::Known;
use crate::snapshot::{Fib, RouteEntry, Site, SiteIndex, SiteTunnel, TunnelShared, TunnelSocket};

/// Names a tunnel over all rebuilds: its domain, site and name.
type TunnelName = (RoutingDomainId, String, String);

/// The numbers of sites and tunnels, and what workers say of tunnels.
#[derive(Debug)]
pub(super) struct SiteNumbers {
    places: HashMap<(RoutingDomainId, String), u32>,
    place_numbers: Numbers,
    tunnels: HashMap<TunnelName, (u32, Arc<TunnelShared>)>,
    tunnel_numbers: Numbers,
}

impl Default for SiteNumbers {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            place_numbers: Numbers::up_to(Place::MAX_SITES.into()),
            tunnels: HashMap::new(),
            tunnel_numbers: Numbers::up_to(TunnelIndex::MAX),
        }
    }
}

impl SiteNumbers {
    /// Forgets what `plan` no longer has. A number may then be another's: workers compare domains.
    pub(super) fn follow(&mut self, plan: &Plan) {
        let sites = || {
            plan.tenants.iter().flat_map(|tenant| {
                let sites = tenant.vpn.iter().flat_map(|vpn| &vpn.sites);
                sites.map(|site| (tenant.routing_domain, site))
            })
        };
        let places: HashSet<_> = sites().map(|(id, site)| (id, site.name.clone())).collect();
        for (_, number) in self.places.extract_if(|name, _| !places.contains(name)) {
            self.place_numbers.give_back(number);
        }
        let tunnels: HashSet<TunnelName> = sites()
            .flat_map(|(id, site)| {
                site.tunnels.iter().map(move |tunnel| (id, site.name.clone(), tunnel.name.clone()))
            })
            .collect();
        for (_, (number, _)) in self.tunnels.extract_if(|name, _| !tunnels.contains(name)) {
            self.tunnel_numbers.give_back(number);
        }
    }

    fn place(&mut self, id: RoutingDomainId, site: &str) -> Option<Place> {
        let number = match self.places.entry((id, site.to_owned())) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(self.place_numbers.take()?),
        };
        Place::site(u16::try_from(number).ok()?)
    }

    fn tunnel(&mut self, name: TunnelName) -> Option<(TunnelIndex, Arc<TunnelShared>)> {
        let (number, shared) = match self.tunnels.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert((self.tunnel_numbers.take()?, Arc::default())),
        };
        Some((TunnelIndex::new(*number)?, Arc::clone(shared)))
    }

    /// The sites of a tenant; a plan has no more than there are places for.
    pub(super) fn build(&mut self, plan: &TenantPlan, before: Option<&Known>) -> Vec<Site> {
        let Some(vpn) = &plan.vpn else { return Vec::new() };
        let sites = vpn.sites.iter().filter_map(|site| {
            let known = before.and_then(|before| {
                before.domain.sites.iter().find(|known| known.name == site.name)
            });
            let sessions = known.map_or_else(
                || Arc::new(Budget::new(plan.limits.sessions)),
                |known| Arc::clone(&known.sessions),
            );
            sessions.set_limit(plan.limits.sessions);
            Some(Site {
                name: site.name.clone(),
                place: self.place(plan.routing_domain, &site.name)?,
                internet: site.internet,
                local: renumbering(&site.translate, TranslateSide::Local),
                remote: renumbering(&site.translate, TranslateSide::Remote),
                sessions,
                tunnels: site
                    .tunnels
                    .iter()
                    .filter_map(|tunnel| self.build_tunnel(plan, vpn, site, tunnel))
                    .collect(),
            })
        });
        sites.collect()
    }

    fn build_tunnel(
        &mut self,
        tenant: &TenantPlan,
        vpn: &VpnPlan,
        site: &SitePlan,
        tunnel: &TunnelPlan,
    ) -> Option<SiteTunnel> {
        let listener = vpn.listeners.get(tunnel.listener)?;
        let name = (tenant.routing_domain, site.name.clone(), tunnel.name.clone());
        let (index, shared) = self.tunnel(name)?;
        Some(SiteTunnel {
            index,
            plan: tunnel.clone(),
            local: SocketAddr::new(listener.address.ip(), listener.port),
            own: own_keys(listener),
            shared,
        })
    }
}

/// Numbers from 1 to a largest one, given in turn, so that one given back is not soon another's.
#[derive(Debug)]
struct Numbers {
    used: HashSet<u32>,
    last: u32,
    largest: u32,
}

impl Numbers {
    fn up_to(largest: u32) -> Self {
        Self { used: HashSet::new(), last: 0, largest }
    }

    fn take(&mut self) -> Option<u32> {
        let number = (0..self.largest)
            .map(|step| (self.last + step) % self.largest + 1)
            .find(|number| !self.used.contains(number))?;
        self.used.insert(number);
        self.last = number;
        Some(number)
    }

    fn give_back(&mut self, number: u32) {
        self.used.remove(&number);
    }
}

fn own_keys(listener: &ListenerPlan) -> OwnKeys {
    OwnKeys { current: listener.key.clone(), previous: listener.previous.clone() }
}

fn renumbering(pairs: &[TranslatePlan], side: TranslateSide) -> Renumbering {
    Renumbering::new(pairs.iter().filter(|pair| pair.side == side).map(|pair| (pair.from, pair.to)))
}

/// The sockets that a domain's tunnels end at, those without a tunnel too.
pub(super) fn tunnel_sockets(
    plan: &TenantPlan,
    domain: DomainSlot,
    sites: &[Site],
) -> Vec<(SocketAddr, Arc<TunnelSocket>)> {
    let listeners = plan.vpn.iter().flat_map(|vpn| &vpn.listeners);
    listeners
        .map(|listener| {
            let local = SocketAddr::new(listener.address.ip(), listener.port);
            let tunnels = sites.iter().flat_map(|site| &site.tunnels);
            let peers = tunnels
                .filter(|tunnel| tunnel.local == local)
                .map(|tunnel| (tunnel.plan.peer, tunnel.index))
                .collect();
            (local, Arc::new(TunnelSocket { domain, own: own_keys(listener), peers }))
        })
        .collect()
}

/// Which customer routes lead somewhere, by their position: those to a site need a tunnel that is up.
pub(super) fn routes_up(plan: &TenantPlan, sites: &[Site]) -> Vec<bool> {
    let is_up = |route: &RoutePlan| match route.target {
        RouteTarget::Site(site) => {
            sites.get(usize::from(site)).is_some_and(|site| site.carries(route.prefix))
        }
        RouteTarget::Via(_) | RouteTarget::Blackhole => true,
    };
    plan.routes.iter().map(is_up).collect()
}

/// What only leads to tunnels that are down, and is not covered by another customer route, leads
/// nowhere: it must not leave by the default route.
pub(super) fn insert_down_routes(fib: &mut Fib<RouteEntry>, plan: &TenantPlan, routes_up: &[bool]) {
    let routes = || plan.routes.iter().zip(routes_up);
    for (down, _) in routes().filter(|&(_, &up)| !up) {
        if !routes().any(|(route, &up)| up && route.prefix.covers(down.prefix)) {
            fib.insert(down.prefix, RouteEntry::SiteDown);
        }
    }
}

/// The site routes among the customer routes, as what may come back from there.
pub(super) fn build_origins(plan: &TenantPlan) -> Fib<Vec<SiteIndex>> {
    let mut origins: Fib<Vec<SiteIndex>> = Fib::default();
    for route in &plan.routes {
        let mut sites = origins.exact(route.prefix).cloned().unwrap_or_default();
        match route.target {
            RouteTarget::Site(site) => sites.push(SiteIndex(site)),
            RouteTarget::Via(_) | RouteTarget::Blackhole => {}
        }
        origins.insert(route.prefix, sites);
    }
    for prefix in plan.subnets.iter().flat_map(|subnet| &subnet.prefixes) {
        origins.insert(*prefix, Vec::new());
    }
    origins
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn a_number_is_given_once_until_it_comes_back_and_then_in_its_turn() {
        let mut numbers = Numbers::up_to(3);
        assert_eq!([numbers.take(), numbers.take()], [Some(1), Some(2)]);
        numbers.give_back(1);
        assert_eq!([numbers.take(), numbers.take()], [Some(3), Some(1)]);
        assert_eq!(numbers.take(), None);
        numbers.give_back(2);
        assert_eq!(numbers.take(), Some(2));
    }
}
