//! What operators see: peers, routes by pages, and everything about one prefix.

use std::sync::Arc;

use nvgate_model::{Instant, Prefix};

use super::Speaker;
use super::config::{PeerKey, Place, SpeakerConfig};
use super::event::{LastDown, PeerIndex};
use super::intake::IntakeCounters;
use super::origins::OwnRoute;
use super::router::Router;
use crate::attributes::Attributes;
use crate::config::PeerConfig;
use crate::family::Family;
use crate::nlri::PathId;
use crate::policy::{RuleId, Verdict};
use crate::rib::{PeerSlot, RouteFilter, RouteSource, RouteView};
use crate::session::{Closed, Counters, LastNotification, Negotiated, State, Timer};

/// A peer as it is.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its index.
    pub index: PeerIndex,
    /// Its place and addresses.
    pub key: PeerKey,
    /// The range that it came from.
    pub range: Option<Prefix>,
    /// The configuration that holds.
    pub config: Arc<PeerConfig>,
    /// The session's state.
    pub state: State,
    /// Since when it is established.
    pub established_at: Option<Instant>,
    /// What an established session agreed on.
    pub negotiated: Option<Arc<Negotiated>>,
    /// The session's next timer.
    pub timer: Option<(Instant, Timer)>,
    /// Routes that the table holds of it, by [`Family::index`].
    pub received: [u32; 2],
    /// Those of them that import let in.
    pub accepted: [u32; 2],
    /// Routes that its update group announces, its own included, which it is not told.
    pub announced: [usize; 2],
    /// Whether it was told all of them.
    pub told: [bool; 2],
    /// Families whose routes are kept from an earlier session.
    pub stale: [bool; 2],
    /// When they go.
    pub stale_until: Option<Instant>,
    /// When a session that was ended for its routes is tried again.
    pub start_at: Option<Instant>,
    /// Messages by type and direction.
    pub counters: Counters,
    /// Errors in what it sent, and what was not stored.
    pub intake: IntakeCounters,
    /// Routes that no message to it could carry.
    pub unsendable: u64,
    /// How often an established session ended.
    pub flaps: u64,
    /// The last such end.
    pub last_down: Option<LastDown>,
    /// The last NOTIFICATION sent.
    pub last_sent: Option<LastNotification>,
    /// The last one received.
    pub last_received: Option<LastNotification>,
    /// The last connection or attempt that was lost.
    pub last_closed: Option<(Instant, Closed)>,
}

/// A place as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaceStatus {
    /// Peers, configured and dynamic.
    pub peers: usize,
    /// Those with an established session.
    pub established: usize,
    /// Prefixes of both families that have routes.
    pub prefixes: usize,
    /// Bytes of their attributes.
    pub attribute_bytes: usize,
    /// Bytes that the table has allocated.
    pub footprint: usize,
    /// Update groups.
    pub groups: usize,
    /// Whether nothing is chosen yet, because peers tell their routes after a restart of ours.
    pub deferring: bool,
    /// Whether peers are told that we are about to go.
    pub draining: bool,
}

/// A route, with whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteStatus {
    /// Who taught it; none: it is the place's own, or of a peer that is gone.
    pub peer: Option<PeerIndex>,
    /// Why the place announces it, if it is its own.
    pub reasons: Box<[OwnRoute]>,
    /// The route: received, imported, and what became of it.
    pub route: RouteView,
}

/// What a peer is told of a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advertised {
    /// The peer.
    pub peer: PeerIndex,
    /// What it is told: nothing, or each path.
    pub paths: Vec<(Option<PathId>, Attributes)>,
    /// What export says of the best route, by which rule; none if there is no best route, or the
    /// peer taught it.
    pub export: Option<(Verdict, RuleId)>,
    /// Whether that was sent; otherwise it is on the way.
    pub told: bool,
}

/// Everything about one prefix.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PrefixStatus {
    /// Its routes, the best first.
    pub routes: Vec<RouteStatus>,
    /// What each peer with an established session is told.
    pub advertised: Vec<Advertised>,
}

impl Speaker {
    /// The configuration that holds.
    #[must_use]
    pub const fn config(&self) -> &SpeakerConfig {
        &self.config
    }

    /// A peer.
    #[must_use]
    pub fn peer(&self, peer: PeerIndex) -> Option<PeerStatus> {
        self.routers.get(&peer.place)?.peer_status(peer.number)
    }

    /// The peers of a place, in the order they came.
    #[must_use]
    pub fn peers(&self, place: Place) -> Vec<PeerIndex> {
        let router = self.routers.get(&place);
        router.into_iter().flat_map(|router| router.peers.values().map(|peer| peer.index)).collect()
    }

    /// The peer with these addresses, if it is configured or was admitted by a range.
    #[must_use]
    pub fn find_peer(&self, key: PeerKey) -> Option<PeerIndex> {
        let number = *self.routers.get(&key.place)?.keys.get(&key)?;
        Some(PeerIndex { place: key.place, number })
    }

    /// The peer that a slot of a place's table stands for, as in
    /// [`Via::peer`](crate::rib::Via::peer).
    #[must_use]
    pub fn peer_at(&self, place: Place, slot: PeerSlot) -> Option<PeerIndex> {
        self.routers.get(&place)?.peer_at(slot)
    }

    /// A place.
    #[must_use]
    pub fn place(&self, place: Place) -> Option<PlaceStatus> {
        let router = self.routers.get(&place)?;
        Some(PlaceStatus {
            peers: router.peers.len(),
            established: router.peers.values().filter(|peer| peer.up.is_some()).count(),
            prefixes: router.table.prefix_count(),
            attribute_bytes: router.table.attribute_bytes(),
            footprint: router.table.footprint(),
            groups: router.groups.len(),
            deferring: router.deferral.waits(),
            draining: router.draining,
        })
    }

    /// The routes of a family of a place behind the prefix `after`, in the order of prefixes: whole
    /// prefixes, until there are at least `limit` routes. Only those of one peer, or only those that
    /// packets take, if so asked. Time is that of looking at every prefix.
    #[must_use]
    pub fn routes(
        &self,
        place: Place,
        family: Family,
        peer: Option<PeerIndex>,
        used_only: bool,
        after: Option<Prefix>,
        limit: usize,
    ) -> Vec<RouteStatus> {
        let Some(router) = self.routers.get(&place) else { return Vec::new() };
        let slot = peer.map(|peer| router.peers.get(&peer.number).and_then(|peer| peer.slot));
        if slot == Some(None) {
            return Vec::new();
        }
        let filter = RouteFilter { peer: slot.flatten(), used_only };
        let routes = router.table.routes(family, filter, after, limit).into_iter();
        routes.map(|route| router.route_status(route)).collect()
    }

    /// Everything about one prefix of a place.
    #[must_use]
    pub fn explain(&self, place: Place, prefix: Prefix) -> PrefixStatus {
        self.routers.get(&place).map_or_else(PrefixStatus::default, |router| router.explain(prefix))
    }

    /// Of the prefixes of a place that cover this one: itself if it has a route, else the longest
    /// that packets take a route to, else the longest with any route.
    #[must_use]
    pub fn longest_match(&self, place: Place, prefix: Prefix) -> Option<Prefix> {
        self.routers.get(&place)?.table.longest_match(prefix)
    }
}

impl Router {
    fn peer_at(&self, slot: PeerSlot) -> Option<PeerIndex> {
        let number = *self.slots.get(&slot)?;
        Some(PeerIndex { place: self.place, number })
    }

    fn peer_status(&self, number: u64) -> Option<PeerStatus> {
        let peer = self.peers.get(&number)?;
        let session = &peer.session;
        let count = |of: &dyn Fn(PeerSlot, Family) -> u32| {
            Family::ALL.map(|family| peer.slot.map_or(0, |slot| of(slot, family)))
        };
        Some(PeerStatus {
            index: peer.index,
            key: peer.key,
            range: peer.range,
            config: session.config().clone(),
            state: session.state(),
            established_at: session.established_at(),
            negotiated: session.negotiated().cloned(),
            timer: session.poll_timeout(),
            received: count(&|slot, family| self.table.route_count(slot, family)),
            accepted: count(&|slot, family| self.table.accepted_count(slot, family)),
            announced: peer.telling.map(|telling| {
                telling.map_or(0, |telling| self.table.announced_count(telling.group))
            }),
            told: peer.telling.map(|telling| telling.is_some_and(|telling| !telling.pending)),
            stale: peer.restart.stale,
            stale_until: peer.restart.stale_until,
            start_at: peer.restart.start_at,
            counters: *session.counters(),
            intake: peer.intake.counters.clone(),
            unsendable: peer.unsendable,
            flaps: peer.flaps,
            last_down: peer.last_down.clone(),
            last_sent: session.last_sent().cloned(),
            last_received: session.last_received().cloned(),
            last_closed: session.last_closed(),
        })
    }

    fn route_status(&self, route: RouteView) -> RouteStatus {
        let own = route.peer == PeerSlot::LOCAL;
        let reasons = if own { self.policies.origins.reasons(route.origination) } else { &[] };
        RouteStatus { peer: self.peer_at(route.peer), reasons: reasons.into(), route }
    }

    fn explain(&self, prefix: Prefix) -> PrefixStatus {
        let explanation = self.table.explain(prefix);
        let best = explanation.routes.first().filter(|route| route.used);
        let family = Family::of(prefix);
        let mut advertised = Vec::new();
        for peer in self.peers.values() {
            let (Some(telling), Some(slot)) = (peer.telling[family.index()], peer.slot) else {
                continue;
            };
            let of_group = explanation.announced.iter().filter(|one| one.group == telling.group);
            let paths = of_group
                .filter(|one| one.source != slot)
                .map(|one| (one.path_id, one.attributes.clone()))
                .collect();
            let export = best.filter(|best| best.peer != slot).and_then(|best| {
                let export = self.policies.exports.get(&telling.group)?;
                let facts = self.table.peer(best.peer);
                let source = facts.map_or(RouteSource::Local(best.origination), |facts| {
                    RouteSource::Peer(best.peer, facts)
                });
                let held = best.imported.as_ref()?;
                let (outcome, _) = self.policies.ask_export(export, source, prefix, held);
                Some((outcome.verdict, outcome.rule))
            });
            let told = !telling.pending;
            advertised.push(Advertised { peer: peer.index, paths, export, told });
        }
        let routes = explanation.routes.into_iter().map(|route| self.route_status(route)).collect();
        PrefixStatus { routes, advertised }
    }
}
