//! A picture of the host's links, addresses, routes and neighbours at one moment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nvgate_model::{MacAddress, Prefix};

/// The host's network at one moment. Plain data: the simulation makes its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostView {
    /// Links by name.
    pub links: BTreeMap<String, LinkFacts>,
    /// Routes of the main table, in any order.
    pub routes: Vec<Route>,
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

/// A resolved neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its MAC address.
    pub mac: MacAddress,
}

impl HostView {
    /// The best route to `address` that leaves by the link with index `link`: the longest prefix,
    /// then the lowest metric.
    #[must_use]
    pub fn route(&self, link: u32, address: IpAddr) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|route| route.link == link && route.prefix.contains(address))
            .max_by_key(|route| (route.prefix.length(), std::cmp::Reverse(route.metric)))
    }
}
