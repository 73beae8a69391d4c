//! What peers announced, for monitoring (Adj-RIB-In before policy): what one has now of a prefix, a
//! walk over everything, and what sweeps took. Routes that outlive their session are none of it.

use super::family_table::{FamilyTable, Shared};
use super::peers::PeerSlot;
use super::prefixes::Network;
use super::routes::{Route, chain};
use super::table::Table;
use crate::attributes::Attributes;
use crate::family::Family;
use crate::nlri::Nlri;

/// The most places of a table that one step of a walk looks at. Few in tests, where other things
/// are to come between.
pub const WALK_PLACES: usize = if cfg!(test) { 3 } else { 4096 };
/// The routes at which a step ends, with the last prefix whole.
pub const WALK_ROUTES: usize = if cfg!(test) { 3 } else { 1024 };

impl Table {
    /// The peer's session under way begins: what was announced before is not of it.
    pub fn begin_session(&mut self, peer: PeerSlot) {
        if let Some(peer) = self.shared.peers.peer_mut(peer) {
            peer.since = peer.epochs;
        }
    }

    /// What the peer announced in its session under way, and has not withdrawn.
    #[must_use]
    pub fn received(&self, peer: PeerSlot, nlri: Nlri) -> Option<&Attributes> {
        match nlri.family() {
            Family::Ipv4Unicast => self.ipv4.received(&self.shared, peer, nlri),
            Family::Ipv6Unicast => self.ipv6.received(&self.shared, peer, nlri),
        }
    }

    /// One step of a walk over what peers announced in their sessions under way: tells routes of the
    /// peers in question at places from `from` on, those of a peer with the same attributes
    /// together. Returns where the next step begins; none at the end.
    ///
    /// A route that neither comes, changes nor goes during a walk is told once. The others are the
    /// caller's, who sees them change.
    pub fn walk_received(
        &self,
        family: Family,
        from: usize,
        wants: impl Fn(PeerSlot) -> bool,
        tell: impl FnMut(PeerSlot, &Attributes, &[Nlri]),
    ) -> Option<usize> {
        match family {
            Family::Ipv4Unicast => self.ipv4.walk_received(&self.shared, from, wants, tell),
            Family::Ipv6Unicast => self.ipv6.walk_received(&self.shared, from, wants, tell),
        }
    }

    /// From now on notes what sweeps take of peers that stay, or no longer.
    pub fn record_swept(&mut self, on: bool) {
        if on != self.shared.swept.is_some() {
            self.shared.swept = on.then(Vec::new);
        }
    }

    /// What sweeps took since this was last asked, in their order.
    pub fn take_swept(&mut self) -> Vec<(PeerSlot, Nlri)> {
        self.shared.swept.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Shared {
    fn is_of_session(&self, family: Family, route: &Route) -> bool {
        let peer = self.peers.peer(route.peer);
        peer.is_some_and(|peer| peer.gone.is_none() && peer.is_of_session(family, route.epoch))
    }
}

impl<N: Network> FamilyTable<N> {
    fn received<'a>(
        &self,
        shared: &'a Shared,
        peer: PeerSlot,
        nlri: Nlri,
    ) -> Option<&'a Attributes> {
        let prefix = self.prefixes.find(nlri.prefix)?;
        let route = &self.routes[self.route_of(prefix, peer, nlri.path_id).0?];
        shared.is_of_session(N::FAMILY, route).then(|| &shared.arena[route.received])
    }

    fn walk_received(
        &self,
        shared: &Shared,
        from: usize,
        wants: impl Fn(PeerSlot) -> bool,
        mut tell: impl FnMut(PeerSlot, &Attributes, &[Nlri]),
    ) -> Option<usize> {
        let end = self.prefixes.places().min(from + WALK_PLACES);
        let (mut found, mut place) = (Vec::new(), from);
        while place < end && found.len() < WALK_ROUTES {
            let at = self.prefixes.at(place);
            place += 1;
            let Some(prefix) = at else { continue };
            let of = self.prefixes[prefix].prefix();
            for index in chain(&self.routes, self.prefixes[prefix].first) {
                let route = &self.routes[index];
                if wants(route.peer) && shared.is_of_session(N::FAMILY, route) {
                    let nlri = Nlri { prefix: of, path_id: route.path_id() };
                    found.push(((route.peer, route.received.place()), route.received, nlri));
                }
            }
        }
        found.sort_by_key(|(key, ..)| *key);
        for run in found.chunk_by(|one, other| one.0 == other.0) {
            let routes: Vec<Nlri> = run.iter().map(|(.., nlri)| *nlri).collect();
            let ((peer, _), received, _) = run[0];
            tell(peer, &shared.arena[received], &routes);
        }
        (place < self.prefixes.places()).then_some(place)
    }
}
