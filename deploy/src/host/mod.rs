//! The host's kernel as the gateway sees it: links, addresses, routes and neighbours, followed by
//! netlink; and the few things the gateway asks of it.
//!
//! [`Observer`] publishes a [`HostView`] whenever the kernel's picture changes, [`Netlink::resolve`]
//! has the kernel find a neighbour, a [`Guard`] keeps the kernel's own stack away from the
//! traffic that the gateway handles, and [`links`] sets up what gateway.yaml describes. Sockets
//! belong to the network namespace of the thread that
//! opens them.

mod guard;
pub mod links;
mod netlink;
mod nics;
mod observe;
mod view;

#[cfg(test)]
mod lab;

pub use guard::{Guard, GuardError};
pub use netlink::{Netlink, NetlinkError};
pub use observe::{MAX_NEIGHBOURS, MAX_ROUTES, Observer};
pub use view::{Discard, HostView, LinkFacts, Neighbour, Route};
