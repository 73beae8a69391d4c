//! Where peers can be: in a tenant's routing domain, by its subnets and routes, or on the front end,
//! by the kernel's. What is the gateway's own cannot be a peer, and what it speaks from must be.

use std::collections::HashMap;
use std::net::IpAddr;

use nvgate_bgp::policy::Site;
use nvgate_model::{CustomerAddress, FrontEndAddress, Prefix};

use super::super::address::{reserved_role, special_address, special_whole};
use super::super::gateway::PoolDraft;
use super::super::tenant::TenantDraft;
use crate::plan::{RouteTarget, SubnetRole};
use crate::schema::{At, Findings, Place};

/// What peers are reached over.
pub(in crate::plan::prove) enum Ground<'a> {
    /// A routing domain.
    Tenant {
        /// The tenant, whose routes are proven.
        tenant: &'a TenantDraft,
        /// The addresses of its endpoints.
        customers: &'a HashMap<CustomerAddress, Place>,
        /// The gateway's own addresses: the gateway subnet's first, then ascending.
        own: Vec<IpAddr>,
    },
    /// The front end.
    FrontEnd { pools: &'a [PoolDraft], shared: &'a [At<FrontEndAddress>] },
}

/// Where a peer is.
#[derive(Clone, Copy)]
pub(super) struct Located {
    /// The gateway's address towards it; none on the front end, where the kernel chooses.
    pub(super) local: Option<IpAddr>,
    /// The site that it is behind.
    pub(super) site: Option<Site>,
    /// Whether it is one hop away.
    pub(super) connected: bool,
}

impl<'a> Ground<'a> {
    /// The routing domain of a tenant whose routes are proven.
    pub(in crate::plan::prove) fn of_tenant(
        tenant: &'a TenantDraft,
        customers: &'a HashMap<CustomerAddress, Place>,
    ) -> Self {
        let of_role = |role: SubnetRole| {
            let subnets = tenant.subnets.iter().filter(move |subnet| subnet.role == role);
            let prefixes = subnets.flat_map(|subnet| &subnet.prefixes);
            let mut own: Vec<IpAddr> = prefixes.map(|prefix| prefix.value.lowest_host()).collect();
            own.sort_unstable();
            own
        };
        let own = [of_role(SubnetRole::Gateway), of_role(SubnetRole::Virtual)].concat();
        Self::Tenant { tenant, customers, own }
    }

    pub(super) const fn is_front_end(&self) -> bool {
        matches!(self, Self::FrontEnd { .. })
    }

    /// Where the router with this address is.
    pub(super) fn locate(&self, at: At<IpAddr>, findings: &mut Findings) -> Option<Located> {
        let At { value: address, place } = at;
        if let Some(what) = special_address(address) {
            let message =
                format!("peer address {address} is {what}; name one that can be routed to");
            findings.error(place, message);
            return None;
        }
        match self {
            Self::Tenant { tenant, customers, own } => {
                let Some((subnet, prefix)) = tenant.prefix_of(address) else {
                    return behind_route(tenant, own, Prefix::host(address), place, findings);
                };
                if let Some(role) = reserved_role(prefix, address) {
                    let message = format!(
                        "peer address {address} is {role} of {prefix} in subnet `{}`; name the \
                         router's",
                        subnet.name
                    );
                    findings.conflict(place, message, subnet.place, "the subnet");
                    return None;
                }
                if !customers.contains_key(&CustomerAddress(address)) && tenant.intact {
                    let message = format!(
                        "peer address {address} is in subnet `{}`, but no endpoint has it, so that \
                         nothing can be sent there; add it to `endpoints`",
                        subnet.name
                    );
                    findings.conflict(place, message, subnet.place, "the subnet");
                }
                let local = Some(prefix.lowest_host());
                Some(Located { local, site: None, connected: true })
            }
            Self::FrontEnd { .. } => {
                if let Some((what, other)) = self.taken(address) {
                    let message = format!("peer address {address} is {what}; name the router's");
                    findings.conflict(place, message, other, "named here");
                    return None;
                }
                Some(Located { local: None, site: None, connected: true })
            }
        }
    }

    /// Where the routers of this range are.
    pub(super) fn locate_range(&self, at: At<Prefix>, findings: &mut Findings) -> Option<Located> {
        let At { value: range, place } = at;
        if let Some(what) = special_whole(range) {
            findings.error(place, format!("{range} is {what}"));
            return None;
        }
        match self {
            Self::Tenant { tenant, own, .. } => {
                let mut subnets = tenant.subnets.iter().flat_map(|subnet| &subnet.prefixes);
                match subnets.find(|prefix| prefix.value.covers(range)) {
                    Some(prefix) => {
                        let local = Some(prefix.value.lowest_host());
                        Some(Located { local, site: None, connected: true })
                    }
                    None => behind_route(tenant, own, range, place, findings),
                }
            }
            Self::FrontEnd { .. } => Some(Located { local: None, site: None, connected: true }),
        }
    }

    /// Proves that the gateway can speak from an address.
    pub(super) fn prove_local(&self, at: At<IpAddr>, findings: &mut Findings) {
        let At { value: address, place } = at;
        match self {
            Self::Tenant { tenant, own, .. } => {
                if own.contains(&address) || !tenant.intact {
                    return;
                }
                let own: Vec<_> = own.iter().map(ToString::to_string).collect();
                let message = format!(
                    "local address {address} is not the gateway's in this domain, which has {}",
                    own.join(", ")
                );
                findings.error(place, message);
            }
            Self::FrontEnd { .. } => {
                if let Some(what) = special_address(address) {
                    findings.error(place, format!("local address {address} is {what}"));
                } else if let Some((what, other)) = self.taken(address) {
                    let message = format!(
                        "local address {address} is {what}, which the kernel must not have; name \
                         one of the link's own"
                    );
                    findings.conflict(place, message, other, "named here");
                }
            }
        }
    }

    /// Whether the gateway has an address of the family to give as next hop. The front end's are the
    /// kernel's, and not known here.
    pub(super) fn has_own(&self, ipv4: bool) -> bool {
        match self {
            Self::Tenant { tenant, own, .. } => {
                !tenant.intact || own.iter().any(|own| own.is_ipv4() == ipv4)
            }
            Self::FrontEnd { .. } => true,
        }
    }

    /// Which of the gateway's own front-end addresses this is.
    fn taken(&self, address: IpAddr) -> Option<(String, Place)> {
        let Self::FrontEnd { pools, shared } = self else { return None };
        if let Some(own) = shared.iter().find(|own| own.value.ip() == address) {
            return Some(("one of the gateway's `shared_addresses`".to_owned(), own.place));
        }
        let holds = |prefixes: &[Prefix]| prefixes.iter().any(|prefix| prefix.contains(address));
        let leases = |pool: &&PoolDraft| holds(&pool.pool.prefixes) && !holds(&pool.pool.excepted);
        let pool = pools.iter().find(leases)?;
        Some((format!("one that pool `{}` leases (`except` it there)", pool.pool.name), pool.place))
    }
}

/// Where something is that is in no subnet.
fn behind_route(
    tenant: &TenantDraft,
    own: &[IpAddr],
    wanted: Prefix,
    place: Place,
    findings: &mut Findings,
) -> Option<Located> {
    let around = tenant.routes.iter().filter(|route| route.prefix.covers(wanted));
    let best = around.min_by_key(|route| (u8::MAX - route.prefix.length(), route.metric));
    let what = if wanted == Prefix::host(wanted.network()) {
        format!("peer address {}", wanted.network())
    } else {
        format!("{wanted}")
    };
    let site = match best.map(|route| (route.target, route.prefix)) {
        Some((RouteTarget::Via(_), _)) => None,
        Some((RouteTarget::Site(site), _)) => Some(Site(u32::from(site))),
        Some((RouteTarget::Blackhole, prefix)) => {
            let message = format!("{what} is dropped by the route to {prefix}; route it elsewhere");
            findings.error(place, message);
            return None;
        }
        None => {
            if tenant.intact && tenant.routes_known {
                let message = format!(
                    "{what} is in no subnet of this tenant and behind no route; add a route `via` \
                     the site or router VM that leads there"
                );
                findings.error(place, message);
            }
            return None;
        }
    };
    let ipv4 = wanted.is_ipv4();
    let local = own.iter().copied().find(|own| own.is_ipv4() == ipv4);
    if local.is_none() && tenant.intact {
        let family = if ipv4 { "IPv4" } else { "IPv6" };
        let message = format!(
            "{what} cannot be spoken with: the gateway has no {family} address in this domain; give \
             a subnet or `gateway_subnet` a prefix of {family}"
        );
        findings.error(place, message);
    }
    Some(Located { local, site, connected: false })
}
