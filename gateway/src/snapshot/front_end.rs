//! The front-end side of a snapshot: the kernel's routes and neighbours as next hops.

use std::collections::HashMap;
use std::net::IpAddr;

use nvgate_model::{DropReason, MacAddress};

use super::Fib;

/// The front-end port and how destinations behind it are reached.
#[derive(Clone, Debug)]
pub struct FrontEnd {
    /// The port's MAC address.
    pub mac: MacAddress,
    pub(super) routes: Fib<FrontEndRoute>,
    pub(super) hops: Vec<NextHop>,
    pub(super) gateways: Vec<HopIndex>,
    pub(super) hop_index: HashMap<IpAddr, HopIndex>,
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

impl FrontEnd {
    /// How to reach `destination`.
    ///
    /// # Errors
    ///
    /// `FrontEndNoRoute` when the kernel has no route there that leaves by the front-end port.
    pub fn path(&self, destination: IpAddr) -> Result<Path, DropReason> {
        match self.routes.lookup(destination) {
            Some((_, &FrontEndRoute::Port { gateway, mtu })) => {
                let next = gateway.unwrap_or(destination);
                Ok(Path { next, hop: self.hop_index.get(&next).copied(), mtu })
            }
            Some((_, FrontEndRoute::Elsewhere)) | None => Err(DropReason::FrontEndNoRoute),
        }
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
}
