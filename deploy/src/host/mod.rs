//! The host's kernel as the gateway sees it: links, addresses, routes and neighbours, followed by
//! netlink; and the few things the gateway asks of it.

mod view;

pub use view::{HostView, LinkFacts, Neighbour, Route};
