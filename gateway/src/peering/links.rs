//! Which connection is which of a session's.

use std::collections::{BTreeMap, BTreeSet};

use nvgate_bgp::session::{Connection, Endpoints as Ends};
use nvgate_bgp::speaker::PeerIndex;

use crate::endpoint::ConnectionId;
use crate::kernel::SocketId;

/// A connection of a peer, as the speaker names it.
pub(super) type Name = (PeerIndex, Connection);

/// What carries a session's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Carrier {
    /// A connection of the gateway's own endpoint in a domain.
    Domain(ConnectionId),
    /// A connection of the host's kernel on the front end.
    FrontEnd(SocketId),
}

/// The connections that sessions have.
#[derive(Debug, Default)]
pub(super) struct Links {
    names: BTreeMap<Carrier, (Name, Ends)>,
    carriers: BTreeMap<Name, Carrier>,
    /// Connections with something to read.
    readable: BTreeSet<Carrier>,
}

impl Links {
    pub(super) fn insert(&mut self, carrier: Carrier, name: Name, ends: Ends) {
        self.names.insert(carrier, (name, ends));
        self.carriers.insert(name, carrier);
    }

    /// Whose a connection is, and its ends.
    pub(super) fn of(&self, carrier: Carrier) -> Option<(Name, Ends)> {
        self.names.get(&carrier).copied()
    }

    pub(super) fn carrier(&self, name: Name) -> Option<Carrier> {
        self.carriers.get(&name).copied()
    }

    /// Forgets a connection; whose it was.
    pub(super) fn remove(&mut self, carrier: Carrier) -> Option<Name> {
        self.readable.remove(&carrier);
        let (name, _) = self.names.remove(&carrier)?;
        self.carriers.remove(&name);
        Some(name)
    }

    pub(super) fn note_readable(&mut self, carrier: Carrier) {
        if self.names.contains_key(&carrier) {
            self.readable.insert(carrier);
        }
    }

    /// The connections with something to read; those that keep some are noted again.
    pub(super) fn take_readable(&mut self) -> BTreeSet<Carrier> {
        std::mem::take(&mut self.readable)
    }
}
