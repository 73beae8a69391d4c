//! One peer as its router sees it: the session, where its routes are, and what waits for what.

use std::collections::VecDeque;
use std::sync::Arc;

use nvgate_model::{Instant, Prefix};

use super::config::{Neighbor, PeerKey, RouteConfig};
use super::event::{Event, LastDown, PeerIndex, PrefixCount};
use super::intake::Intake;
use super::policies::Terms;
use crate::family::Family;
use crate::rib::{GroupIndex, PeerSlot};
use crate::session::{Connection, Malformed, Negotiated, Session};

/// The most events of a peer that wait; beyond it its session is not asked for more.
pub(super) const EVENTS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) index: PeerIndex,
    pub(super) key: PeerKey,
    /// The range that it came from.
    pub(super) range: Option<Prefix>,
    pub(super) session: Session,
    pub(super) routes: Arc<RouteConfig>,
    /// What an established session agreed on, once the table knows the peer.
    pub(super) up: Option<Arc<Negotiated>>,
    /// Where the table has its routes; also while they are kept without a session.
    pub(super) slot: Option<PeerSlot>,
    pub(super) intake: Intake,
    /// What it is told, by family.
    pub(super) telling: [Option<Telling>; 2],
    pub(super) restart: Restart,
    pub(super) events: VecDeque<Event>,
    pub(super) flaps: u64,
    /// Routes that no message of the session could carry.
    pub(super) unsendable: u64,
    pub(super) last_down: Option<LastDown>,
    pub(super) stay: Stay,
    /// Where it stands in queues.
    pub(super) queued: Queued,
}

/// Whether a peer stays. One that does not is forgotten once its session is over and its routes are
/// gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stay {
    /// It does.
    Configured,
    /// It was a dynamic neighbour, and its connection is gone; it may come back.
    Ended,
    /// The configuration has it no more.
    Removed,
}

/// What a peer is told of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    pub(super) group: GroupIndex,
    /// There may be something to tell.
    pub(super) pending: bool,
    pub(super) waits: Waits,
    /// BoRR was sent, and EoRR follows (RFC 7313 section 4).
    pub(super) refresh: Refresh,
}

/// What telling has to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waits {
    Nothing,
    Room,
    /// The group is being filled.
    Sweep,
}

/// Where an enhanced refresh that the peer asked for is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refresh {
    None,
    /// Its beginning is to be marked, which found no room.
    BeginOwed,
    Running,
    /// Its end is to be marked.
    EndOwed,
}

/// Stale routes, and what is waited for.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Restart {
    /// Families with routes of an earlier session.
    pub(super) stale: [bool; 2],
    /// When those go, whatever happens.
    pub(super) stale_until: Option<Instant>,
    /// When routes go that a refresh under way has not announced again.
    pub(super) refreshed_until: [Option<Instant>; 2],
    /// Families whose End-of-RIB this speaker waits for after a restart of its own.
    pub(super) awaited: [bool; 2],
    /// When a session that was ended for its routes is tried again.
    pub(super) start_at: Option<Instant>,
}

/// Whether the peer is in a queue already.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Queued {
    pub(super) inbox: bool,
    pub(super) outbox: bool,
    pub(super) touched: bool,
    pub(super) events: bool,
    /// By connection: bytes for TCP.
    pub(super) sending: [bool; 2],
    /// By connection: TCP takes nothing more for now.
    pub(super) blocked: [bool; 2],
    /// By when the agenda has it.
    pub(super) due: Option<Instant>,
}

impl Telling {
    pub(super) const fn new(group: GroupIndex) -> Self {
        Self { group, pending: true, waits: Waits::Nothing, refresh: Refresh::None }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.pending && self.waits == Waits::Nothing
    }
}

impl Peer {
    pub(super) fn new(
        index: PeerIndex,
        key: PeerKey,
        range: Option<Prefix>,
        neighbor: Neighbor,
        seed: u64,
    ) -> Self {
        let Neighbor { config, routes } = neighbor;
        Self {
            index,
            key,
            range,
            intake: Intake::new(&config),
            session: Session::new(config, seed),
            routes,
            up: None,
            slot: None,
            telling: [None; 2],
            restart: Restart::default(),
            events: VecDeque::new(),
            flaps: 0,
            unsendable: 0,
            last_down: None,
            stay: Stay::Configured,
            queued: Queued::default(),
        }
    }

    /// What policy has to know of the session under way.
    pub(super) fn terms(&self, draining: bool) -> Option<Terms<'_>> {
        let negotiated = self.up.as_deref()?;
        let (key, config, routes) = (self.key, self.session.config(), &*self.routes);
        Some(Terms { key, config, routes, negotiated, draining })
    }

    /// When something of it is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let session = self.session.poll_timeout().map(|(due, _)| due);
        let Restart { stale_until, refreshed_until, start_at, .. } = self.restart;
        let [ipv4, ipv6] = refreshed_until;
        [session, stale_until, ipv4, ipv6, start_at].into_iter().flatten().min()
    }

    /// Whether nothing is left of it but itself.
    pub(super) fn is_over(&self) -> bool {
        self.stay != Stay::Configured
            && self.slot.is_none()
            && self.up.is_none()
            && self.events.is_empty()
            && self.session.poll_timeout().is_none()
            && self.session.state() == crate::session::State::Idle
    }

    /// Tells of routes near their bound; a warning that was not taken yet is replaced.
    pub(super) fn warn(&mut self, family: Family, count: PrefixCount) {
        let warning = Event::PrefixWarning(self.index, family, count);
        let is_same =
            |event: &&mut Event| matches!(event, Event::PrefixWarning(_, of, _) if *of == family);
        match self.events.iter_mut().find(is_same) {
            Some(event) => *event = warning,
            None => self.events.push_back(warning),
        }
    }

    /// Tells of a message that is wrong, unless much else waits to be told.
    pub(super) fn report(&mut self, malformed: Malformed) {
        if self.events.len() < EVENTS_MAX / 2 {
            self.events.push_back(Event::Malformed(self.index, malformed));
        }
    }

    pub(super) fn has_bytes(&self, connection: Connection) -> bool {
        !self.session.poll_transmit(connection).is_empty()
    }

    pub(super) fn telling_mut(&mut self, family: Family) -> Option<&mut Telling> {
        self.telling[family.index()].as_mut()
    }

    pub(super) fn is_telling(&self) -> bool {
        self.telling.iter().flatten().any(Telling::is_ready)
    }
}
