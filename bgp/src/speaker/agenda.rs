//! What waits for a speaker, over all places: who is due when, who has work, bytes or events. A peer
//! or place is in each queue once at most.

use std::collections::{BTreeSet, VecDeque};

use nvgate_model::Instant;

use super::config::Place;
use super::event::PeerIndex;
use super::router::Router;
use crate::session::Connection;

/// Whose timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Due {
    Place(Place),
    Peer(PeerIndex),
}

/// Whose events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Teller {
    Place(Place),
    Peer(PeerIndex),
}

#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: BTreeSet<(Instant, Due)>,
    pub(super) ready: VecDeque<Place>,
    pub(super) sending: VecDeque<(PeerIndex, Connection)>,
    pub(super) telling: VecDeque<Teller>,
}

impl Agenda {
    /// Notes what waits of a place, and of those of its peers that something happened to.
    pub(super) fn settle(&mut self, router: &mut Router) {
        for number in std::mem::take(&mut router.touched) {
            self.settle_peer(router, number);
        }
        let place = router.place;
        let due = router.next_due();
        let known = std::mem::replace(&mut router.queued.due, due);
        self.set_due(Due::Place(place), known, due);
        if router.has_work() && !std::mem::replace(&mut router.queued.ready, true) {
            self.ready.push_back(place);
        }
        let tells = router.has_events();
        if tells && !std::mem::replace(&mut router.queued.events, true) {
            self.telling.push_back(Teller::Place(place));
        }
    }

    fn settle_peer(&mut self, router: &mut Router, number: u64) {
        let Some(peer) = router.peers.get_mut(&number) else { return };
        peer.queued.touched = false;
        let due = peer.next_due();
        let known = std::mem::replace(&mut peer.queued.due, due);
        self.set_due(Due::Peer(peer.index), known, due);
        for connection in Connection::ALL {
            let place = connection.index();
            if peer.has_bytes(connection)
                && !peer.queued.blocked[place]
                && !std::mem::replace(&mut peer.queued.sending[place], true)
            {
                self.sending.push_back((peer.index, connection));
            }
        }
        let tells = !peer.events.is_empty() || peer.is_over();
        if tells && !std::mem::replace(&mut peer.queued.events, true) {
            self.telling.push_back(Teller::Peer(peer.index));
        }
    }

    pub(super) fn set_due(&mut self, whose: Due, known: Option<Instant>, due: Option<Instant>) {
        if known == due {
            return;
        }
        if let Some(known) = known {
            self.due.remove(&(known, whose));
        }
        self.due.extend(due.map(|due| (due, whose)));
    }

    /// Takes the first that is due by `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let first = self.due.first().filter(|(due, _)| *due <= now)?;
        let (_, whose) = *first;
        self.due.pop_first();
        Some(whose)
    }

    pub(super) fn due_count(&self) -> usize {
        self.due.len()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }
}
