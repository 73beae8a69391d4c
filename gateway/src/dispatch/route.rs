//! Where a routing domain sends a destination.

use std::net::IpAddr;

use nvgate_model::{CustomerAddress, DropReason, MacAddress};
use nvgate_nvgre::lookup::EndpointIndex;

use super::neighbour::link_local;
use super::sender::{is_link_local, is_unicast};
use crate::snapshot::{Domain, RouteEntry, RouteHop, SiteIndex};

/// What a domain does with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// To this endpoint, over the overlay.
    Overlay(EndpointIndex),
    /// Into a tunnel of this site.
    Site(SiteIndex),
    /// To the gateway's own address.
    Gateway,
    /// To the front end through NAT.
    Translate,
    /// To the front end as it is.
    Untranslated,
    /// Nowhere, and the sender is told.
    Unreachable(DropReason),
    /// Nowhere, in silence.
    Discard(DropReason),
}

/// Decides for a packet from inside the domain; `flow` is its flow's hash.
pub(super) fn decide(
    domain: &Domain,
    gateway_mac: MacAddress,
    source: IpAddr,
    destination: IpAddr,
    flow: u64,
) -> Decision {
    if destination == IpAddr::V6(link_local(gateway_mac)) {
        return Decision::Gateway;
    }
    if !is_unicast(destination) || is_link_local(destination) || is_link_local(source) {
        return Decision::Discard(DropReason::Martian);
    }
    match decide_inside(domain, destination, flow) {
        Some(decision) => decision,
        None => match destination {
            IpAddr::V4(_) if domain.nat.is_some() => Decision::Translate,
            IpAddr::V4(_) => Decision::Unreachable(DropReason::NatAbsent),
            IpAddr::V6(_) if owns_on_front_end(domain, source) => Decision::Untranslated,
            IpAddr::V6(_) if domain.front_end_prefixes.is_empty() => {
                Decision::Unreachable(DropReason::NoRoute)
            }
            IpAddr::V6(_) => Decision::Unreachable(DropReason::FrontEndSource),
        },
    }
}

/// Decides for a packet that came from the front end: it goes to an endpoint, a site, or nowhere.
pub(super) fn decide_inbound(domain: &Domain, destination: IpAddr, flow: u64) -> Decision {
    decide_inside(domain, destination, flow).unwrap_or(Decision::Unreachable(DropReason::NoRoute))
}

/// Decides for a packet of the gateway's own endpoint: it goes to an endpoint, a site, or nowhere. To
/// an own address it would come round.
pub(super) fn decide_own(domain: &Domain, destination: IpAddr, flow: u64) -> Decision {
    if !is_unicast(destination) || is_link_local(destination) {
        return Decision::Discard(DropReason::Martian);
    }
    match decide_inbound(domain, destination, flow) {
        Decision::Gateway => Decision::Discard(DropReason::NoRoute),
        decision @ (Decision::Overlay(_)
        | Decision::Site(_)
        | Decision::Translate
        | Decision::Untranslated
        | Decision::Unreachable(_)
        | Decision::Discard(_)) => decision,
    }
}

fn decide_inside(domain: &Domain, destination: IpAddr, flow: u64) -> Option<Decision> {
    let (prefix, entry) = domain.routes.lookup(destination)?;
    Some(match entry {
        RouteEntry::Gateway => Decision::Gateway,
        RouteEntry::Blackhole => Decision::Discard(DropReason::Blackhole),
        RouteEntry::Via(index) => Decision::Overlay(*index),
        RouteEntry::Site(index) => Decision::Site(*index),
        RouteEntry::Several(hops) => match RouteHop::choose(hops, flow)? {
            RouteHop::Endpoint(index) => Decision::Overlay(index),
            RouteHop::Site(index) => Decision::Site(index),
        },
        RouteEntry::SiteDown => Decision::Unreachable(DropReason::TunnelDown),
        RouteEntry::Subnet(_) if prefix.broadcast().map(IpAddr::V4) == Some(destination) => {
            Decision::Discard(DropReason::Martian)
        }
        RouteEntry::Subnet(_) => match domain.lookup.by_customer(CustomerAddress(destination)) {
            Some(index) => Decision::Overlay(index),
            None => Decision::Unreachable(DropReason::UnknownCustomer),
        },
    })
}

/// Whether a source may be seen on the front end untranslated.
pub(super) fn owns_on_front_end(domain: &Domain, source: IpAddr) -> bool {
    domain.front_end_prefixes.iter().any(|prefix| prefix.contains(source))
}
