//! What a place forwards by: prefixes whose used routes changed, each once however often it did.

use std::net::{IpAddr, Ipv6Addr};

use nvgate_model::Prefix;

use super::family_table::{FamilyTable, Shared, TOGETHER};
use super::peers::PeerSlot;
use super::prefixes::{Flag, Network};
use super::routes::chain;
use crate::attributes::Attributes;

/// A prefix whose used routes changed, and what holds now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteChange {
    /// The prefix.
    pub prefix: Prefix,
    /// How packets reach it.
    pub now: Reach,
}

/// How packets reach a prefix by what the table knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Not at all.
    Gone,
    /// This speaker originates it: the place knows how.
    Local,
    /// Packets to it are discarded (RFC 7999).
    Discard,
    /// By these next hops, ascending: which of the routes is the best makes no difference here.
    Via(Vec<Via>),
}

/// A next hop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Via {
    /// The peer whose route it is.
    pub peer: PeerSlot,
    /// The global address.
    pub next_hop: IpAddr,
    /// The link-local address beside it (RFC 2545 section 3).
    pub link_local: Option<Ipv6Addr>,
}

impl<N: Network> FamilyTable<N> {
    /// The next prefix of the family whose used routes changed.
    pub(super) fn poll_change(&mut self, shared: &Shared) -> Option<RouteChange> {
        if self.warm_changes == 0 {
            self.prefixes.warm(self.changes.next().take(TOGETHER).copied());
            self.warm_changes = TOGETHER;
        }
        self.warm_changes -= 1;
        let index = self.changes.pop()?;
        let entry = &mut self.prefixes[index];
        entry.clear(Flag::Changed);
        let prefix = entry.prefix();
        let chain = chain(&self.routes, entry.first).map(|route| &self.routes[route]);
        let used = chain.filter(|route| route.is_used());
        let via = |id, peer| {
            let attributes: &Attributes = &shared.arena[id];
            let link_local = attributes.rare().and_then(|rare| rare.link_local_next_hop);
            Via { peer, next_hop: attributes.next_hop, link_local }
        };
        let mut hops: Vec<Via> =
            used.clone().filter_map(|route| Some(via(route.imported?, route.peer))).collect();
        hops.sort_unstable();
        let now = match hops.first() {
            None => Reach::Gone,
            Some(_) if used.clone().any(|route| route.peer == PeerSlot::LOCAL) => Reach::Local,
            Some(_) if used.clone().any(|route| route.is_discarded()) => Reach::Discard,
            Some(_) => Reach::Via(hops),
        };
        self.prefixes.remove_idle(index);
        Some(RouteChange { prefix, now })
    }
}
