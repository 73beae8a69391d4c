//! A mapping: one customer socket and its public socket, for all remotes.

use nvgate_model::Protocol;
use nvgate_packet::rewrite::Socket;

/// Where a mapping's public socket comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// A port lent by the pool; only remote addresses that were sent to may send.
    Pool,
    /// An inbound rule; any remote may send.
    Rule,
}

/// A mapping, which lives as long as it has sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(crate) protocol: Protocol,
    pub(crate) origin: Origin,
    pub(crate) customer: Socket,
    pub(crate) public: Socket,
    /// Live sessions; the mapping goes with the last.
    pub(crate) sessions: u32,
}
