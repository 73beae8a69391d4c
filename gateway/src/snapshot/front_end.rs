//! The front-end side of a snapshot: the kernel's routes and neighbours as next hops, and the routes
//! that routers there taught.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use arrayvec::ArrayVec;
use nvgate_model::{DropReason, MacAddress, Prefix};

use super::Fib;
use super::learned::MAX_NEXT_HOPS;
use super::upstream::{UpstreamFib, UpstreamRoute};

/// The front-end port and how destinations behind it are reached.
#[derive(Clone, Debug)]
pub struct FrontEnd {
    /// The port's MAC address.
    pub mac: MacAddress,
    /// What the kernel has of the link.
    pub link: Arc<FrontEndLink>,
    pub(super) learned: UpstreamFib,
    pub(super) hops: Vec<NextHop>,
    pub(super) gateways: Vec<HopIndex>,
    pub(super) hop_index: HashMap<IpAddr, HopIndex>,
}

/// What the kernel has of the front-end link, but for its neighbours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FrontEndLink {
    /// Whether it is up and has a carrier.
    pub running: bool,
    /// The host's own addresses on it, with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    pub(super) routes: Fib<FrontEndRoute>,
}

/// The position of a next hop in [`FrontEnd`]; stable while the epoch is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HopIndex(pub u32);

/// A neighbour on the front end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address, when the kernel has resolved it.
    pub mac: Option<MacAddress>,
}

/// Where the kernel sends a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrontEndRoute {
    /// Out of the front-end port.
    Port {
        /// The next hop; absent when the destination is on the link.
        gateway: Option<IpAddr>,
        /// The path MTU in bytes.
        mtu: u16,
    },
    /// Out of another link: not reachable for tenants.
    Elsewhere,
}

/// How to reach a destination on the front end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// The address to resolve.
    pub next: IpAddr,
    /// The next hop, when it is known.
    pub hop: Option<HopIndex>,
    /// The path MTU in bytes.
    pub mtu: u16,
}

/// Where a neighbour that routes lead to is: the address to resolve, and the path MTU in bytes.
pub(super) type Neighbourhood = (IpAddr, u16);

impl FrontEndLink {
    /// How a neighbour that learned routes lead to is reached: by the kernel's routes out of this
    /// link, and not by a default route, which leads away from whoever it could be.
    pub(super) fn towards(&self, neighbour: IpAddr) -> Option<Neighbourhood> {
        match self.routes.lookup(neighbour)? {
            (prefix, &FrontEndRoute::Port { gateway, mtu }) if prefix.length() > 0 => {
                Some((gateway.unwrap_or(neighbour), mtu))
            }
            (_, FrontEndRoute::Port { .. } | FrontEndRoute::Elsewhere) => None,
        }
    }

    /// Whether a neighbour that routes could lead to is reached, and if so whether it is on the link.
    #[must_use]
    pub fn reaches(&self, neighbour: IpAddr) -> Option<bool> {
        self.towards(neighbour).map(|(next, _)| next == neighbour)
    }

    /// Whether a learned route to `prefix` goes before the kernel's `known` one. A default route by
    /// another link says nothing about the front end.
    fn yields(known: Option<(Prefix, &FrontEndRoute)>, prefix: Prefix) -> bool {
        match known {
            None => true,
            Some((known, FrontEndRoute::Elsewhere)) if known.length() == 0 => true,
            Some((known, FrontEndRoute::Port { .. } | FrontEndRoute::Elsewhere)) => {
                known.length() < prefix.length()
            }
        }
    }

    /// The host's own addresses of a family that others can route to.
    pub fn global(&self, ipv4: bool) -> impl Iterator<Item = IpAddr> {
        let all = self.addresses.iter().map(|&(address, _)| address);
        all.filter(move |address| address.is_ipv4() == ipv4 && !is_link_local(*address))
    }
}

impl FrontEndLink {
    /// The subnets that the host shares with its neighbours.
    pub fn subnets(&self) -> impl Iterator<Item = Prefix> {
        let all = self.addresses.iter().filter(|(address, _)| !is_link_local(*address));
        all.filter_map(|&(address, length)| Prefix::containing(address, length).ok())
    }

    /// The host's link-local address of IPv6.
    #[must_use]
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|&(address, _)| match address {
            IpAddr::V6(v6) => Some(v6).filter(Ipv6Addr::is_unicast_link_local),
            IpAddr::V4(_) => None,
        })
    }
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

impl FrontEnd {
    /// How to reach `destination` for a flow with this hash: by the longest prefix of the kernel's
    /// routes and the learned ones, the kernel's of two alike.
    ///
    /// # Errors
    ///
    /// `FrontEndNoRoute` when no route there leaves by the front-end port, `Blackhole` when a router
    /// asked for that.
    pub fn path(&self, destination: IpAddr, flow: u64) -> Result<Path, DropReason> {
        let known = self.link.routes.lookup(destination);
        let learned = self.learned.lookup(destination);
        let learned = learned.filter(|(prefix, _)| FrontEndLink::yields(known, *prefix));
        let by_learned = match learned {
            Some((_, UpstreamRoute::Discard)) => return Err(DropReason::Blackhole),
            Some((_, UpstreamRoute::Via(hops))) => self.choose(hops, flow),
            None => None,
        };
        let (next, mtu) = match (by_learned, known) {
            (Some(found), _) => found,
            (None, Some((_, &FrontEndRoute::Port { gateway, mtu }))) => {
                (gateway.unwrap_or(destination), mtu)
            }
            (None, Some((_, FrontEndRoute::Elsewhere)) | None) => {
                return Err(DropReason::FrontEndNoRoute);
            }
        };
        Ok(Path { next, hop: self.hop_index.get(&next).copied(), mtu })
    }

    /// One of the neighbours that can be reached: always the same for a flow while they are.
    fn choose(&self, hops: &[IpAddr], flow: u64) -> Option<Neighbourhood> {
        let reached: ArrayVec<_, MAX_NEXT_HOPS> =
            hops.iter().filter_map(|&hop| self.link.towards(hop)).take(MAX_NEXT_HOPS).collect();
        let position = (u128::from(flow) * reached.len() as u128) >> u64::BITS;
        reached.get(position as usize).copied()
    }

    /// The next hops that are routers, not destinations on the link.
    pub fn gateways(&self) -> impl Iterator<Item = &NextHop> {
        self.gateways.iter().filter_map(|&index| self.hop(index))
    }

    /// The next hop with this index.
    #[inline]
    #[must_use]
    pub fn hop(&self, index: HopIndex) -> Option<&NextHop> {
        self.hops.get(index.0 as usize)
    }

    /// How many prefixes the routers there taught.
    #[must_use]
    pub const fn learned(&self) -> usize {
        self.learned.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::upstream::Upstream;
    use crate::snapshot::{LearnedChanges, LearnedRoute};

    const PORT: &str = "198.51.100.254";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn port(gateway: Option<&str>) -> FrontEndRoute {
        FrontEndRoute::Port { gateway: gateway.map(ip), mtu: 1500 }
    }

    /// A front end with 198.51.100.0/24 on its link.
    fn front_end(
        kernel: &[(&str, FrontEndRoute)],
        learned: &[(&str, Option<&[&str]>)],
    ) -> FrontEnd {
        let mut routes = Fib::default();
        routes.insert("198.51.100.0/24".parse().unwrap(), port(None));
        for (prefix, route) in kernel {
            routes.insert(prefix.parse().unwrap(), *route);
        }
        let learned = learned.iter().map(|(prefix, hops)| {
            let route = match hops {
                Some(hops) => LearnedRoute::Via(hops.iter().map(|hop| ip(hop)).collect()),
                None => LearnedRoute::Discard,
            };
            (prefix.parse().unwrap(), Some(route))
        });
        let mut upstream = Upstream::default();
        upstream.learn(LearnedChanges { anew: false, routes: learned.collect() });
        FrontEnd {
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            link: Arc::new(FrontEndLink { running: true, addresses: Vec::new(), routes }),
            learned: upstream.shared(),
            hops: Vec::new(),
            gateways: Vec::new(),
            hop_index: HashMap::new(),
        }
    }

    fn next(front_end: &FrontEnd, to: &str) -> Result<String, DropReason> {
        front_end.path(ip(to), 0).map(|path| path.next.to_string())
    }

    #[test]
    fn the_longest_prefix_counts_and_the_kernels_of_two_alike() {
        let front_end = front_end(
            &[("0.0.0.0/0", port(Some(PORT))), ("192.0.2.0/24", FrontEndRoute::Elsewhere)],
            &[
                ("0.0.0.0/0", Some(&["198.51.100.2"])),
                ("203.0.112.0/20", Some(&["198.51.100.3"])),
                ("192.0.2.0/24", Some(&["198.51.100.3"])),
                ("192.0.2.128/25", Some(&["198.51.100.3"])),
                ("203.0.113.0/24", None),
            ],
        );
        let next = |to| next(&front_end, to);
        assert_eq!(next("8.8.8.8"), Ok(PORT.to_owned()));
        assert_eq!(next("203.0.112.1"), Ok("198.51.100.3".to_owned()));
        assert_eq!(next("198.51.100.9"), Ok("198.51.100.9".to_owned()));
        assert_eq!(next("192.0.2.1"), Err(DropReason::FrontEndNoRoute));
        assert_eq!(next("192.0.2.129"), Ok("198.51.100.3".to_owned()));
        assert_eq!(next("203.0.113.1"), Err(DropReason::Blackhole));
    }

    #[test]
    fn a_learned_default_route_goes_before_one_by_another_link() {
        let learned: &[(&str, Option<&[&str]>)] = &[("0.0.0.0/0", Some(&["198.51.100.2"]))];
        let by_management = front_end(&[("0.0.0.0/0", FrontEndRoute::Elsewhere)], learned);
        assert_eq!(next(&by_management, "8.8.8.8"), Ok("198.51.100.2".to_owned()));
        assert_eq!(next(&front_end(&[], learned), "8.8.8.8"), Ok("198.51.100.2".to_owned()));
        assert_eq!(next(&front_end(&[], &[]), "8.8.8.8"), Err(DropReason::FrontEndNoRoute));
    }

    #[test]
    fn a_next_hop_is_found_by_the_kernels_routes_and_never_by_a_default_route() {
        let kernel = [("0.0.0.0/0", port(Some(PORT))), ("10.9.0.0/16", port(Some("198.51.100.7")))];
        let learned: &[(&str, Option<&[&str]>)] = &[
            ("192.0.2.0/24", Some(&["10.9.0.1"])),
            ("203.0.113.0/24", Some(&["10.8.0.1", "198.51.100.5"])),
            ("203.0.114.0/24", Some(&["10.8.0.1"])),
        ];
        let front_end = front_end(&kernel, learned);
        let next = |to| next(&front_end, to).unwrap();
        assert_eq!(next("192.0.2.1"), "198.51.100.7");
        assert_eq!(next("203.0.113.1"), "198.51.100.5", "the only one that is reached");
        assert_eq!(next("203.0.114.1"), PORT, "as if it were not there");
        assert_eq!(front_end.link.reaches(ip("198.51.100.5")), Some(true));
        assert_eq!(front_end.link.reaches(ip("10.9.0.1")), Some(false));
        assert_eq!(front_end.link.reaches(ip("10.8.0.1")), None);
    }

    #[test]
    fn flows_spread_evenly_and_each_keeps_its_router() {
        let hops: &[&str] = &["198.51.100.2", "198.51.100.3", "198.51.100.4"];
        let front_end = front_end(&[], &[("0.0.0.0/0", Some(hops))]);
        let mut seen = HashMap::new();
        for flow in (0..3000_u64).map(|flow| flow * (u64::MAX / 3000)) {
            let path = front_end.path(ip("8.8.8.8"), flow).unwrap();
            assert_eq!(front_end.path(ip("8.8.8.8"), flow), Ok(path));
            *seen.entry(path.next).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 3);
        assert!(seen.values().all(|count| (999..=1001).contains(count)), "{seen:?}");
    }
}
