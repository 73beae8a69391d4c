//! Anti-spoof: may this host speak for that customer address?

use std::net::IpAddr;

use nvgate_model::{CustomerAddress, DropReason, MacAddress, ProviderAddress, Vsid};
use nvgate_nvgre::lookup::{Endpoint, EndpointIndex};

use crate::snapshot::{Domain, Fabric, RouteEntry, RouteHop};

/// Who sent a frame on the overlay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// The outer source address.
    pub(super) provider: ProviderAddress,
    /// The VSID it came under.
    pub(super) vsid: Vsid,
    /// The inner source MAC.
    pub(super) mac: MacAddress,
}

impl Sender {
    /// Whether the sender is a host of `endpoint`, and uses the endpoint's MAC within its own
    /// subnet. (A host that routes for its VMs sends under another VSID with a MAC of its own.)
    #[inline]
    pub(super) fn speaks_for(
        &self,
        fabric: &Fabric,
        endpoint: &Endpoint,
    ) -> Result<(), DropReason> {
        let hosted = endpoint
            .hosts()
            .iter()
            .any(|&host| fabric.host(host).is_some_and(|host| host.address == self.provider));
        if !hosted {
            return Err(DropReason::SpoofedProvider);
        }
        if endpoint.vsid() == self.vsid && endpoint.mac() != self.mac {
            return Err(DropReason::InnerSourceMac);
        }
        Ok(())
    }

    /// The endpoint that stands behind the customer address `source`: its own record, or the
    /// router VM that the domain's routes to it lead to.
    pub(super) fn prove(
        &self,
        fabric: &Fabric,
        domain: &Domain,
        source: IpAddr,
    ) -> Result<EndpointIndex, DropReason> {
        if !is_unicast(source) {
            return Err(DropReason::Martian);
        }
        let index = match domain.lookup.by_customer(CustomerAddress(source)) {
            Some(index) => index,
            None if is_link_local(source) => {
                domain.lookup.by_mac(self.vsid, self.mac).ok_or(DropReason::SpoofedSource)?
            }
            None => match domain.routes.lookup(source) {
                Some((_, &RouteEntry::Via(index))) => index,
                Some((_, RouteEntry::Several(hops))) => self.one_of(fabric, domain, hops)?,
                Some((
                    _,
                    RouteEntry::Subnet(_)
                    | RouteEntry::Blackhole
                    | RouteEntry::Gateway
                    | RouteEntry::Site(_)
                    | RouteEntry::SiteDown,
                ))
                | None => return Err(DropReason::SpoofedSource),
            },
        };
        let endpoint = domain.lookup.endpoint(index).ok_or(DropReason::SpoofedSource)?;
        self.speaks_for(fabric, endpoint)?;
        Ok(index)
    }

    /// The first of the endpoints among `hops` that the sender speaks for.
    fn one_of(
        &self,
        fabric: &Fabric,
        domain: &Domain,
        hops: &[RouteHop],
    ) -> Result<EndpointIndex, DropReason> {
        let mut refused = DropReason::SpoofedSource;
        for hop in hops {
            let RouteHop::Endpoint(index) = *hop else { continue };
            let Some(endpoint) = domain.lookup.endpoint(index) else { continue };
            match self.speaks_for(fabric, endpoint) {
                Ok(()) => return Ok(index),
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    /// The endpoint whose MAC this is in the subnet the frame came under.
    pub(super) fn prove_mac(
        &self,
        fabric: &Fabric,
        domain: &Domain,
    ) -> Result<EndpointIndex, DropReason> {
        let index = domain.lookup.by_mac(self.vsid, self.mac).ok_or(DropReason::InnerSourceMac)?;
        let endpoint = domain.lookup.endpoint(index).ok_or(DropReason::InnerSourceMac)?;
        self.speaks_for(fabric, endpoint)?;
        Ok(index)
    }
}

/// Whether an address can be the source or destination of a routed packet: not unspecified, not
/// loopback, not multicast, not broadcast, not reserved (RFC 1812 section 5.3.7).
pub(super) const fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast()),
    }
}

/// Whether an address means something on its link only.
pub(super) const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_unicast_is_not_routed() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
        ] {
            assert!(!is_unicast(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "223.255.255.254", "2001:db8::1", "fe80::1"] {
            assert!(is_unicast(text.parse().unwrap()), "{text}");
        }
    }
}
