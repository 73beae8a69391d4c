//! The gateway's own addresses inside a routing domain: IP stacks apart for each domain, so that
//! every domain can use the same ones.
//!
//! `answer` is what a worker asks at once: it answers echo requests and refuses everything else
//! the way a host does. [`Endpoints`] has connections and datagrams of the services that registered
//! (BGP, BFD), all domains' in one place; [`Driver`] turns it with an [`Application`] on top, and
//! `control::speaker` is its thread. ARP and neighbour discovery are the dispatcher's.

mod answer;
mod arrive;
mod connection;
mod datagram;
mod driver;
mod endpoints;
mod key;
mod peer;
mod segment;
mod stack;
#[cfg(test)]
mod tests;
mod wire;

pub use answer::Endpoint;
pub use connection::{CloseReason, ConnectionId, Event, RECEIVE_BUFFER, TRANSMIT_BUFFER};
pub use datagram::{Datagram, MAX_DATAGRAMS, MAX_PAYLOAD};
pub use driver::{Application, Driver};
pub use endpoints::{ConnectError, Endpoints};
pub use key::{InvalidKey, MAX_KEY, Md5Key};
pub use peer::{MAX_PEERS, PeerOptions};
pub use stack::{
    HALF_OPEN_TIME, LINGER, MAX_CONNECTIONS, MAX_HALF_OPEN, MAX_OUTGOING, Refusal, Refusals,
    Refused,
};

/// The longest packet the endpoint takes or makes, in bytes.
pub const MAX_PACKET: usize = 9216;
/// TCP port of BGP (RFC 4271 section 8).
pub const BGP_PORT: u16 = 179;
/// UDP ports of BFD over one hop and over several (RFC 5881 section 4, RFC 5883 section 5).
pub const BFD_PORTS: [u16; 2] = [3784, 4784];
