//! Any number of BGP peers in any number of places: sessions, tables and policies, composed.
//!
//! A [`Speaker`] has a router for each place: one table, its peers, its policies. Places know nothing
//! of each other; they share turns of a processor, no more. The way of a route: bytes come by
//! [`Speaker::handle_bytes`] into a session's buffer; [`Speaker::turn`] reads messages from there
//! into the table, decides, and tells members of update groups what changed, into their sessions'
//! buffers; [`Speaker::poll_transmit`] has the bytes. What the place forwards by comes out of
//! [`Speaker::poll_change`].
//!
//! It refuses sockets, clocks and threads: one speaker belongs to one thread, and several share
//! places out between them.
//!
//! **Drain in this order**: [`handle_timeout`](Speaker::handle_timeout) if
//! [`poll_timeout`](Speaker::poll_timeout) has passed; every `handle_*`;
//! [`turn`](Speaker::turn) until [`Turn::Idle`], or as often as there is time;
//! [`poll_transmit`](Speaker::poll_transmit) until none, each answered by
//! [`handle_transmitted`](Speaker::handle_transmitted); [`poll_event`](Speaker::poll_event) until
//! none; [`poll_monitored`](Speaker::poll_monitored) if somebody monitors it;
//! [`poll_timeout`](Speaker::poll_timeout). After turns a session may have room again for bytes
//! that [`handle_bytes`](Speaker::handle_bytes) did not take: offer them anew.

mod agenda;
mod bucket;
mod commands;
mod config;
mod event;
mod intake;
mod monitor;
mod origins;
mod peer;
mod policies;
mod reload;
mod restart;
mod router;
mod status;
mod tell;
mod turn;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use nvgate_model::Instant;

pub use config::{
    Change, DynamicRange, Neighbor, NeighborChange, NeighborName, PeerKey, Place, PlaceConfig,
    RouteConfig, SpeakerConfig,
};
pub use event::{BfdState, Clear, Event, LastDown, PeerIndex, PrefixCount, Refused, Start, Turn};
pub use intake::IntakeCounters;
pub use monitor::{Monitored, QUEUE_BYTES};
pub use origins::OwnRoute;
pub use restart::{DEFERRAL_MAX, RESTART_MAX, STALE_MAX};
pub use status::{Advertised, PeerStatus, PlaceStatus, PrefixStatus, RouteStatus};
pub use turn::TURN_QUANTUM;

use self::agenda::{Agenda, Due, Teller};
use self::monitor::Monitor;
use self::router::{Router, mix};
use crate::rib::{Resolution, RouteChange};
use crate::session::{Closed, Connection, Endpoints};

/// Places that have a turn in one call of [`Speaker::turn`].
const PLACES_A_TURN: usize = 16;

/// Peers and tables of any number of places.
pub struct Speaker {
    config: SpeakerConfig,
    start: Start,
    seed: u64,
    draining: bool,
    routers: BTreeMap<Place, Router>,
    /// The next peer's number in places that are gone, so that none is used twice.
    retired: BTreeMap<Place, u64>,
    agenda: Agenda,
    monitor: Option<Monitor>,
}

impl Speaker {
    /// A speaker whose peers start. The seed makes jitter and the hashes of tables.
    #[must_use]
    pub fn new(config: SpeakerConfig, now: Instant, seed: u64, start: Start) -> Self {
        let mut speaker = Self {
            config: SpeakerConfig::default(),
            start,
            seed,
            draining: false,
            routers: BTreeMap::new(),
            retired: BTreeMap::new(),
            agenda: Agenda::default(),
            monitor: None,
        };
        let _ = speaker.reconfigure(now, config);
        // A place that comes later has nothing from before.
        speaker.start = Start::Cold;
        speaker
    }

    /// Does something to a peer's place, and notes what waits then.
    fn with<T>(&mut self, place: Place, act: impl FnOnce(&mut Router) -> Option<T>) -> Option<T> {
        let router = self.routers.get_mut(&place)?;
        let done = act(router);
        self.agenda.settle(router);
        if let Some(monitor) = &mut self.monitor {
            monitor.take(router);
        }
        done
    }

    /// A peer opened a connection.
    ///
    /// # Errors
    ///
    /// It is not taken, and nothing remembers it; the endpoint closes it.
    pub fn handle_incoming(
        &mut self,
        now: Instant,
        place: Place,
        endpoints: Endpoints,
    ) -> Result<(PeerIndex, Connection), Refused> {
        let (local, remote) = (endpoints.local.ip(), endpoints.remote.ip());
        let accepted = self.with(place, |router| {
            Some(router.peer_of(now, remote, local).and_then(|number| {
                let connection = router.accept(now, number, endpoints)?;
                Ok((PeerIndex { place, number }, connection))
            }))
        });
        accepted.unwrap_or(Err(Refused::Unknown))
    }

    /// The connection that [`Event::Connect`] asked for is there.
    pub fn handle_connected(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        connection: Connection,
        endpoints: Endpoints,
    ) {
        self.with(peer.place, |router| {
            let of = router.peers.get_mut(&peer.number)?;
            of.queued.blocked[connection.index()] = false;
            of.session.handle_connected(now, connection, endpoints);
            router.absorb(now, peer.number).then_some(())
        });
    }

    /// Bytes came. Takes as many as there is room for, and says how many; the rest is offered again
    /// after a turn. Those for nobody are taken and forgotten.
    pub fn handle_bytes(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        connection: Connection,
        bytes: &[u8],
    ) -> usize {
        let taken = self.with(peer.place, |router| {
            let of = router.peers.get_mut(&peer.number)?;
            let taken = of.session.handle_bytes(connection, bytes);
            router.open_up(now, peer.number);
            Some(taken)
        });
        taken.unwrap_or(bytes.len())
    }

    /// The bytes that [`handle_bytes`](Self::handle_bytes) would take.
    #[must_use]
    pub fn read_room(&self, peer: PeerIndex, connection: Connection) -> usize {
        let of = self.routers.get(&peer.place).and_then(|router| router.peers.get(&peer.number));
        of.map_or(0, |of| of.session.read_room(connection))
    }

    /// TCP took so many of the bytes that [`poll_transmit`](Self::poll_transmit) offered. If it did
    /// not take all, no more is offered until [`handle_writable`](Self::handle_writable).
    pub fn handle_transmitted(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        connection: Connection,
        bytes: usize,
    ) {
        self.with(peer.place, |router| {
            let of = router.peers.get_mut(&peer.number)?;
            let offered = of.session.poll_transmit(connection).len();
            of.queued.blocked[connection.index()] = bytes < offered;
            of.session.handle_transmitted(now, connection, bytes);
            router.note_room(peer.number);
            router.absorb(now, peer.number).then_some(())
        });
    }

    /// TCP takes bytes again.
    pub fn handle_writable(&mut self, peer: PeerIndex, connection: Connection) {
        self.with(peer.place, |router| {
            let of = router.peers.get_mut(&peer.number)?;
            of.queued.blocked[connection.index()] = false;
            router.touch(peer.number);
            Some(())
        });
    }

    /// The connection, or the attempt, is over. Not to be called after [`Event::Close`].
    pub fn handle_closed(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        connection: Connection,
        closed: Closed,
    ) {
        self.with(peer.place, |router| {
            let of = router.peers.get_mut(&peer.number)?;
            of.session.handle_closed(now, connection, closed);
            router.open_up(now, peer.number);
            Some(())
        });
    }

    /// What is known of a next hop that [`Event::NextHop`] asked for.
    pub fn handle_next_hop(&mut self, place: Place, address: IpAddr, resolution: Resolution) {
        self.with(place, |router| {
            router.table.handle_next_hop(address, resolution);
            router.stir();
            Some(())
        });
    }

    /// What BFD says of a peer that [`Event::Bfd`] had it watch. Down ends an established session.
    pub fn handle_bfd(&mut self, now: Instant, peer: PeerIndex, state: BfdState) {
        self.with(peer.place, |router| {
            let of = router.peers.get_mut(&peer.number)?;
            match state {
                BfdState::Down => of.session.bfd_down(now),
                BfdState::Up => {}
            }
            router.absorb(now, peer.number).then_some(())
        });
    }

    /// Serves everything that is due, each once.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..self.agenda.due_count() {
            let Some(due) = self.agenda.take_due(now) else { break };
            let place = match due {
                Due::Place(place) => place,
                Due::Peer(peer) => peer.place,
            };
            self.with(place, |router| {
                match due {
                    Due::Place(_) => {
                        router.queued.due = None;
                        router.handle_timeout(now);
                    }
                    Due::Peer(peer) => {
                        router.peers.get_mut(&peer.number)?.queued.due = None;
                        router.handle_peer_timeout(now, peer.number);
                    }
                }
                Some(())
            });
        }
    }

    /// One bounded round of work: reading, deciding, sweeping and telling, for places one after
    /// another.
    pub fn turn(&mut self, now: Instant) -> Turn {
        for _ in 0..PLACES_A_TURN.min(self.agenda.ready.len()) {
            let Some(place) = self.agenda.ready.pop_front() else { break };
            self.with(place, |router| {
                router.queued.ready = false;
                router.turn(now);
                Some(())
            });
        }
        if self.agenda.ready.is_empty() { Turn::Idle } else { Turn::More }
    }

    /// Bytes that TCP shall take next. To be answered by
    /// [`handle_transmitted`](Self::handle_transmitted) before it is called again.
    pub fn poll_transmit(&mut self) -> Option<(PeerIndex, Connection, &[u8])> {
        let (peer, connection) = loop {
            let (peer, connection) = self.agenda.sending.pop_front()?;
            let router = self.routers.get_mut(&peer.place);
            let of = router.and_then(|router| router.peers.get_mut(&peer.number));
            let Some(of) = of else { continue };
            of.queued.sending[connection.index()] = false;
            if of.has_bytes(connection) {
                break (peer, connection);
            }
        };
        let of = self.routers.get(&peer.place)?.peers.get(&peer.number)?;
        Some((peer, connection, of.session.poll_transmit(connection)))
    }

    /// What is to be done or known. A peer's events come in their order.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(teller) = self.agenda.telling.front().copied() {
            let event = match teller {
                Teller::Place(place) => self.poll_place(place),
                Teller::Peer(peer) => self.poll_peer(peer),
            };
            if event.is_some() {
                return event;
            }
            self.agenda.telling.pop_front();
            match teller {
                Teller::Place(place) => self.with(place, |router| {
                    router.queued.events = false;
                    Some(())
                }),
                Teller::Peer(peer) => self.with(peer.place, |router| {
                    router.peers.get_mut(&peer.number)?.queued.events = false;
                    Some(())
                }),
            };
        }
        None
    }

    fn poll_place(&mut self, place: Place) -> Option<Event> {
        self.routers.get_mut(&place)?.poll_event()
    }

    fn poll_peer(&mut self, peer: PeerIndex) -> Option<Event> {
        let router = self.routers.get_mut(&peer.place)?;
        let of = router.peers.get_mut(&peer.number)?;
        let full = of.events.len() >= peer::EVENTS_MAX;
        if let Some(event) = of.events.pop_front() {
            let closes = if let Event::Close(_, connection, _) = event {
                of.session.release(connection);
                true
            } else {
                false
            };
            // There may be more that waited for this.
            if full || closes {
                router.ask_again(peer.number);
                self.agenda.settle(router);
            }
            return Some(event);
        }
        if !of.is_over() {
            return None;
        }
        let known = of.queued.due;
        self.agenda.set_due(Due::Peer(peer), known, None);
        router.forget_peer(peer.number);
        self.retire(peer.place);
        Some(Event::Forgotten(peer))
    }

    /// Lets a place go that the configuration has no more, with its last peer.
    fn retire(&mut self, place: Place) {
        let over = |router: &Router| router.leaving && router.peers.is_empty();
        if self.routers.get(&place).is_some_and(over)
            && let Some(router) = self.routers.remove(&place)
        {
            self.agenda.set_due(Due::Place(place), router.queued.due, None);
            self.retired.insert(place, router.next_number);
        }
    }

    /// When the speaker is to be asked again: at once if turns are left, else when
    /// [`handle_timeout`](Self::handle_timeout) has something to serve.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.agenda.ready.is_empty() { self.agenda.next_due() } else { Some(Instant::default()) }
    }

    /// The next prefix of a place that is to be forwarded otherwise, as it holds now, each once
    /// however often it changed. To be called until none is left after [`Event::RoutesChanged`]; not
    /// at once, so that changes of some milliseconds are one.
    pub fn poll_change(&mut self, place: Place) -> Option<RouteChange> {
        self.with(place, |router| {
            let change = router.table.poll_change();
            if change.is_none() {
                router.changes_told = false;
            }
            change
        })
    }

    fn seed_of(&self, place: Place) -> u64 {
        let number = match place {
            Place::FrontEnd => 0,
            Place::Domain(slot) => u64::from(slot.0) + 1,
        };
        mix(self.seed, number)
    }
}
