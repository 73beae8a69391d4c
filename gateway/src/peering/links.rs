//! Which of the endpoints' connections is which of a session's.

use std::collections::{BTreeMap, BTreeSet};

use nvgate_bgp::session::{Connection, Endpoints as Ends};
use nvgate_bgp::speaker::PeerIndex;

use crate::endpoint::ConnectionId;

/// A connection of a peer, as the speaker names it.
type Name = (PeerIndex, Connection);

/// The connections that sessions have.
#[derive(Debug, Default)]
pub(super) struct Links {
    names: BTreeMap<ConnectionId, (Name, Ends)>,
    connections: BTreeMap<Name, ConnectionId>,
    /// Connections with something to read.
    readable: BTreeSet<ConnectionId>,
}

impl Links {
    pub(super) fn insert(&mut self, id: ConnectionId, name: Name, ends: Ends) {
        self.names.insert(id, (name, ends));
        self.connections.insert(name, id);
    }

    /// Whose a connection is, and its ends.
    pub(super) fn of(&self, id: ConnectionId) -> Option<(Name, Ends)> {
        self.names.get(&id).copied()
    }

    pub(super) fn connection(&self, name: Name) -> Option<ConnectionId> {
        self.connections.get(&name).copied()
    }

    /// Forgets a connection; whose it was.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Name> {
        self.readable.remove(&id);
        let (name, _) = self.names.remove(&id)?;
        self.connections.remove(&name);
        Some(name)
    }

    pub(super) fn note_readable(&mut self, id: ConnectionId) {
        if self.names.contains_key(&id) {
            self.readable.insert(id);
        }
    }

    /// The connections with something to read; those that keep some are noted again.
    pub(super) fn take_readable(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.readable)
    }
}
