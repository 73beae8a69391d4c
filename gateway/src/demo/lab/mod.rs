//! A small laboratory of network namespaces: make them, wire them, run code inside them.
//!
//! Everything goes through netlink and the standard library, so that it works on a machine without
//! iproute2. Nothing is bound to a name in the file system: a namespace lives as long as its
//! [`Namespace`], its sockets and its processes, and vanishes with them however the program ends.
//! The demo and the interoperation tests build on it.

mod link;
mod namespace;
pub mod probe;

pub use link::{LinkSetup, SuperPackets, kernel_has_ipv6};
pub use namespace::{LabError, Namespace};
