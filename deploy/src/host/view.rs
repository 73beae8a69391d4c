//! A picture of the host's links, addresses, routes and neighbours at one moment.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use nvgate_model::{MacAddress, Prefix};

/// The host's network at one moment. Plain data: the simulation makes its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostView {
    /// Links by name.
    pub links: BTreeMap<String, LinkFacts>,
    /// Routes of the main table, in any order. A route with several next hops is several routes.
    pub routes: Vec<Route>,
    /// Prefixes of the main table that the kernel refuses to forward to, in any order.
    pub discards: Vec<Discard>,
    /// Resolved neighbours by link index and address.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

/// A link of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkFacts {
    /// The kernel's index of the link.
    pub index: u32,
    /// The link's MAC address.
    pub mac: MacAddress,
    /// The link's MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up and has a carrier.
    pub running: bool,
    /// The link's own addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A route of the host's main table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Where to.
    pub prefix: Prefix,
    /// Lower wins among routes to one prefix.
    pub metric: u32,
    /// The index of the link it leaves by.
    pub link: u32,
    /// The next hop; absent when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The path MTU the route names, when it names one.
    pub mtu: Option<u32>,
}

/// A prefix the kernel refuses to forward to: a blackhole, unreachable, prohibit or throw route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Discard {
    /// Where to.
    pub prefix: Prefix,
    /// Lower wins among routes to one prefix.
    pub metric: u32,
}

/// A resolved neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its MAC address.
    pub mac: MacAddress,
    /// Set by hand, or needs no resolution: the kernel must not be asked for it, since asking makes
    /// such an entry one that it resolves, and loses when nobody answers.
    pub permanent: bool,
}

impl HostView {
    /// The best route to `address` that leaves by the link with index `link`: the longest prefix,
    /// then the lowest metric, then the lowest next hop. There is none when a discard is better.
    #[must_use]
    pub fn route(&self, link: u32, address: IpAddr) -> Option<&Route> {
        let rank = |prefix: Prefix, metric: u32| (prefix.length(), Reverse(metric));
        let route = self
            .routes
            .iter()
            .filter(|route| route.link == link && route.prefix.contains(address))
            .max_by_key(|route| (rank(route.prefix, route.metric), Reverse(route.gateway)))?;
        let discarded =
            self.discards.iter().filter(|discard| discard.prefix.contains(address)).any(
                |discard| rank(discard.prefix, discard.metric) > rank(route.prefix, route.metric),
            );
        (!discarded).then_some(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, metric: u32, gateway: &str) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            metric,
            link: 2,
            gateway: Some(gateway.parse().unwrap()),
            mtu: None,
        }
    }

    #[test]
    fn the_longest_prefix_wins_then_the_metric_then_the_lowest_next_hop() {
        let view = HostView {
            routes: vec![
                route("0.0.0.0/0", 0, "192.0.2.1"),
                route("198.51.100.0/24", 20, "192.0.2.2"),
                route("198.51.100.0/24", 10, "192.0.2.4"),
                route("198.51.100.0/24", 10, "192.0.2.3"),
            ],
            ..HostView::default()
        };
        let gateway = |address: &str| view.route(2, address.parse().unwrap()).unwrap().gateway;
        assert_eq!(gateway("203.0.113.1"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(gateway("198.51.100.7"), Some("192.0.2.3".parse().unwrap()));
        assert_eq!(view.route(3, "203.0.113.1".parse().unwrap()), None);
    }

    #[test]
    fn a_better_discard_hides_a_route_and_a_worse_one_does_not() {
        let mut view = HostView {
            routes: vec![route("198.51.100.0/24", 10, "192.0.2.1")],
            ..HostView::default()
        };
        let address = "198.51.100.9".parse().unwrap();
        for (prefix, metric, hidden) in [
            ("0.0.0.0/0", 0, false),
            ("198.51.100.0/24", 20, false),
            ("198.51.100.0/24", 5, true),
            ("198.51.100.8/30", 99, true),
            ("198.51.100.16/30", 0, false),
        ] {
            view.discards = vec![Discard { prefix: prefix.parse().unwrap(), metric }];
            assert_eq!(view.route(2, address).is_none(), hidden, "{prefix} metric {metric}");
        }
    }
}
