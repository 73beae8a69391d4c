//! The host kernel's TCP and UDP, for sessions with routers of the front end: there the addresses are
//! the host's own, so that packets for them are the kernel's and not the workers'.
//!
//! [`Sockets`] has the connections of BGP and speaks as the gateway's own endpoints do
//! ([`crate::endpoint`]): the same events, reads and writes that never wait. It belongs to the
//! speaker's thread, which waits for it by one descriptor. It refuses whoever is no neighbour, and
//! everything that does not come by the front-end link. Decision 015 says why.

mod connection;
mod datagrams;
mod listener;
mod neighbours;
mod sockets;

pub use neighbours::{Neighbour, Neighbours};
pub use sockets::{MAX_CLOSING, SocketId, Sockets};
