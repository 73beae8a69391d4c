//! One place: its table, its peers, what waits. Nothing here knows another place, so that what a
//! tenant's peers do is felt by nobody else but as turns of the processor.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_model::{Instant, Prefix};

use super::bucket::Bucket;
use super::config::{Neighbor, PeerKey, Place, PlaceConfig};
use super::event::{Event, LastDown, PeerIndex, Refused, Start};
use super::monitor::{Monitored, Pending};
use super::peer::{EVENTS_MAX, Peer, Stay};
use super::policies::Policies;
use super::restart::Deferral;
use super::tell::UpdateGroup;
use crate::impact::Impact;
use crate::notification::{Notification, NotificationReason};
use crate::rib::{GroupIndex, PeerSlot, Table};
use crate::session::{self, Connection, Down, Endpoints, Negotiated, SessionEvent};

/// One place's table and peers.
pub(super) struct Router {
    pub(super) place: Place,
    pub(super) config: Arc<PlaceConfig>,
    pub(super) start: Start,
    pub(super) table: Table,
    pub(super) policies: Policies,
    pub(super) peers: BTreeMap<u64, Peer>,
    pub(super) keys: BTreeMap<PeerKey, u64>,
    pub(super) slots: BTreeMap<PeerSlot, u64>,
    pub(super) groups: BTreeMap<GroupIndex, UpdateGroup>,
    /// Peers whose messages wait.
    pub(super) inbox: VecDeque<u64>,
    /// Peers that can be told something.
    pub(super) outbox: VecDeque<u64>,
    /// Peers that the speaker has to look at: their timers, bytes and events.
    pub(super) touched: Vec<u64>,
    pub(super) bucket: Option<Bucket>,
    pub(super) deferral: Deferral,
    pub(super) draining: bool,
    /// The table may have something to decide, or to sweep.
    pub(super) undecided: bool,
    pub(super) sweeping: bool,
    /// The place's own events; few.
    pub(super) events: VecDeque<Event>,
    /// Changes were announced and not all taken.
    pub(super) changes_told: bool,
    /// What the turn before left over, negative if it took more than its share.
    pub(super) deficit: i64,
    pub(super) queued: Queued,
    /// The configuration has the place no more; it goes with its last peer.
    pub(super) leaving: bool,
    pub(super) next_number: u64,
    pub(super) seed: u64,
    /// What monitoring is to be told.
    pub(super) monitored: Option<Pending>,
}

/// Whether the place is in a queue of the speaker already.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Queued {
    pub(super) ready: bool,
    pub(super) events: bool,
    pub(super) due: Option<Instant>,
}

impl Router {
    pub(super) fn new(
        place: Place,
        config: Arc<PlaceConfig>,
        now: Instant,
        start: Start,
        seed: u64,
    ) -> Self {
        Self {
            place,
            start,
            table: Table::new(config.table, seed),
            bucket: config.updates_per_second.map(|rate| Bucket::new(rate, now)),
            config,
            policies: Policies::default(),
            peers: BTreeMap::new(),
            keys: BTreeMap::new(),
            slots: BTreeMap::new(),
            groups: BTreeMap::new(),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            touched: Vec::new(),
            deferral: Deferral::new(start, now),
            draining: false,
            undecided: false,
            sweeping: false,
            events: VecDeque::new(),
            changes_told: false,
            deficit: 0,
            queued: Queued::default(),
            leaving: false,
            next_number: 0,
            seed,
            monitored: None,
        }
    }

    /// Has the speaker look at the peer after this.
    pub(super) fn touch(&mut self, number: u64) {
        if let Some(peer) = self.peers.get_mut(&number)
            && !std::mem::replace(&mut peer.queued.touched, true)
        {
            self.touched.push(number);
        }
    }

    /// The table changed: there may be something to decide and to sweep.
    pub(super) const fn stir(&mut self) {
        self.undecided = true;
        self.sweeping = true;
    }

    /// Adds a peer and starts its session, unless it is shut down.
    pub(super) fn add_peer(
        &mut self,
        now: Instant,
        key: PeerKey,
        range: Option<Prefix>,
        neighbor: Neighbor,
    ) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let index = PeerIndex { place: self.place, number };
        let mut peer = Peer::new(index, key, range, neighbor, mix(self.seed, number));
        peer.session.set_restarting(self.restarting());
        if self.deferral.waits() && range.is_none() {
            peer.restart.await_peer(&peer.session.config().clone());
        }
        if peer.session.config().shutdown.is_none() {
            peer.session.start(now);
        }
        self.keys.insert(key, number);
        self.peers.insert(number, peer);
        self.absorb(now, number);
        number
    }

    /// The peer is configured no more: its session ends, its routes go, then it is forgotten.
    pub(super) fn remove_peer(&mut self, now: Instant, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.stay = Stay::Removed;
        peer.restart.start_at = None;
        let reason = NotificationReason::PeerDeconfigured;
        peer.session.stop(now, &Notification::new(reason, &[]));
        if self.keys.get(&peer.key) == Some(&number) {
            self.keys.remove(&peer.key);
        }
        self.absorb(now, number);
        self.drop_routes(number);
        self.check_deferral(now);
    }

    /// Who a connection from `remote` to `local` is: a peer, or one that a range makes.
    pub(super) fn peer_of(
        &mut self,
        now: Instant,
        remote: IpAddr,
        local: IpAddr,
    ) -> Result<u64, Refused> {
        let key = |local| PeerKey { place: self.place, remote, local };
        let known = [key(Some(local)), key(None)].into_iter().find_map(|key| self.keys.get(&key));
        if let Some(number) = known {
            return Ok(*number);
        }
        if self.leaving {
            return Err(Refused::Unknown);
        }
        let config = self.config.clone();
        let range = config.ranges.iter().find(|range| range.range.contains(remote));
        let range = range.filter(|range| range.admits(local)).ok_or(Refused::Unknown)?;
        let of_range = self.peers.values().filter(|peer| peer.range == Some(range.range)).count();
        if range.neighbor.config.shutdown.is_some() {
            return Err(Refused::Session(session::Refused::Idle));
        }
        if of_range >= range.neighbors_max {
            return Err(Refused::RangeFull);
        }
        if self.peers.len() >= self.config.peers_max {
            return Err(Refused::PlaceFull);
        }
        let neighbor = range.neighbor(remote, local);
        Ok(self.add_peer(now, key(Some(local)), Some(range.range), neighbor))
    }

    pub(super) fn accept(
        &mut self,
        now: Instant,
        number: u64,
        endpoints: Endpoints,
    ) -> Result<Connection, Refused> {
        let peer = self.peers.get_mut(&number).ok_or(Refused::Unknown)?;
        if peer.stay == Stay::Ended {
            // A dynamic neighbour's session begins with its connection.
            peer.stay = Stay::Configured;
            peer.session.start(now);
        }
        let accepted = peer.session.handle_incoming(now, endpoints);
        match accepted {
            Ok(connection) => peer.queued.blocked[connection.index()] = false,
            Err(session::Refused::Idle)
                if peer.range.is_some() && peer.stay == Stay::Configured =>
            {
                peer.stay = Stay::Ended;
            }
            Err(session::Refused::Idle | session::Refused::Busy) => {}
        }
        self.absorb(now, number);
        accepted.map_err(Refused::Session)
    }

    /// Takes what the session tells. False if it told nothing, or nobody takes what it told before.
    pub(super) fn absorb(&mut self, now: Instant, number: u64) -> bool {
        self.touch(number);
        let mut told = false;
        loop {
            let Some(peer) = self.peers.get_mut(&number) else { return told };
            if peer.events.len() >= EVENTS_MAX {
                return told;
            }
            let Some(event) = peer.session.take_event() else { break };
            told = true;
            let index = peer.index;
            match event {
                SessionEvent::Connect(connection) => {
                    peer.queued.blocked[connection.index()] = false;
                    let port = peer.session.config().remote_port;
                    peer.events.push_back(Event::Connect(index, connection, peer.key, port));
                }
                SessionEvent::Close(connection, closing) => {
                    peer.events.push_back(Event::Close(index, connection, closing));
                }
                SessionEvent::Established(negotiated) => self.rise(now, number, negotiated),
                SessionEvent::Down(down) => self.fall(now, number, down),
                SessionEvent::Ended if peer.stay == Stay::Configured => peer.stay = Stay::Ended,
                SessionEvent::Ended => {}
            }
        }
        if let Some(peer) = self.peers.get_mut(&number)
            && let Some(malformed) = peer.session.take_malformed()
        {
            peer.report(malformed);
        }
        self.note_messages(number);
        told
    }

    /// The session is established.
    fn rise(&mut self, now: Instant, number: u64, negotiated: Arc<Negotiated>) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.up = Some(negotiated.clone());
        if let Some(pending) = &mut self.monitored {
            pending.push(Monitored::Up(peer.index, negotiated.clone()));
        }
        peer.intake.begin();
        peer.events.push_back(Event::Up(peer.index, negotiated.endpoints));
        if peer.session.config().bfd {
            peer.events.push_back(Event::Bfd(peer.index, Some(negotiated.endpoints)));
        }
        let Some(terms) = peer.terms(self.draining) else { return };
        let (facts, import) = (terms.facts(), terms.import());
        let slot = match peer.slot {
            Some(slot) => {
                self.table.change_peer(slot, facts);
                Ok(slot)
            }
            None => self.table.add_peer(facts),
        };
        let Ok(slot) = slot else {
            let full = Notification::new(NotificationReason::OutOfResources, &[]);
            return peer.session.stop(now, &full);
        };
        let again = peer.slot.replace(slot).is_some();
        self.slots.insert(slot, number);
        self.table.begin_session(slot);
        let changed = self.policies.imports.insert(slot, import.clone()) != Some(import);
        if again && changed {
            self.table.reimport(slot);
        }
        peer.await_end_of_rib(now, &mut self.table, &negotiated);
        peer.restart.await_agreed(&negotiated);
        self.join_groups(number);
        self.stir();
        self.check_deferral(now);
    }

    /// The session ended.
    fn fall(&mut self, now: Instant, number: u64, down: Down) {
        self.leave_groups(number);
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.flaps += 1;
        let keeps = down.keeps_routes != [false; 2] && peer.stay != Stay::Removed;
        if keeps {
            peer.keep_routes(now, &mut self.table, &down);
        }
        if peer.session.config().bfd {
            peer.events.push_back(Event::Bfd(peer.index, None));
        }
        peer.up = None;
        if let Some(pending) = &mut self.monitored {
            pending.push(Monitored::Down(peer.index, down.clone()));
        }
        peer.last_down = Some(LastDown { at: now, down: down.clone() });
        peer.events.push_back(Event::Down(peer.index, down));
        if !keeps {
            self.drop_routes(number);
        }
        self.stir();
    }

    /// The peer's routes are not to be used any more.
    pub(super) fn drop_routes(&mut self, number: u64) {
        self.leave_groups(number);
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.restart.stale = [false; 2];
        peer.restart.stale_until = None;
        peer.restart.refreshed_until = [None; 2];
        if let Some(slot) = peer.slot.take() {
            self.table.remove_peer(slot);
            self.policies.imports.remove(&slot);
            self.slots.remove(&slot);
            self.stir();
        }
        self.touch(number);
    }

    /// Serves what is due of a peer.
    pub(super) fn handle_peer_timeout(&mut self, now: Instant, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_due(peer.session.poll_timeout().map(|(due, _)| due)) {
            peer.session.handle_timeout(now);
        }
        if is_due(peer.restart.start_at) {
            peer.restart.start_at = None;
            peer.session.start(now);
        }
        for family in crate::family::Family::ALL {
            if is_due(peer.restart.refreshed_until[family.index()]) {
                peer.end_refresh(&mut self.table, family);
                self.undecided = true;
                self.sweeping = true;
            }
        }
        if is_due(peer.restart.stale_until) {
            if peer.up.is_some() {
                for family in crate::family::Family::ALL {
                    peer.end_stale(&mut self.table, family);
                }
                self.stir();
            } else {
                self.drop_routes(number);
            }
        }
        self.open_up(now, number);
        self.absorb(now, number);
        self.check_deferral(now);
    }

    /// Ends the session, and starts it again when this long went by; with none, by hand only.
    pub(super) fn end_session(
        &mut self,
        now: Instant,
        number: u64,
        notification: &Notification,
        again: Option<std::time::Duration>,
    ) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.session.stop(now, notification);
        if peer.range.is_none() && peer.stay == Stay::Configured {
            peer.restart.start_at = again.map(|again| now + again);
        }
        self.absorb(now, number);
    }

    /// Ends the session with this reason; it starts again soon.
    pub(super) fn reset_session(&mut self, now: Instant, number: u64, reason: NotificationReason) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.restart.start_at = None;
        let impact = Impact { reset: Some(reason), ..Impact::default() };
        peer.session.reconfigure(now, peer.session.config().clone(), impact);
        self.absorb(now, number);
    }

    /// When something of the place itself is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let bucket = self.bucket.as_ref().filter(|_| !self.inbox.is_empty());
        let until = match self.deferral {
            Deferral::Until(until) => Some(until),
            Deferral::None | Deferral::Deciding => None,
        };
        bucket.and_then(Bucket::next).into_iter().chain(until).min()
    }

    /// Whether a turn has something to do now.
    pub(super) fn has_work(&self) -> bool {
        let reads = self.bucket.as_ref().is_none_or(|bucket| bucket.next().is_none());
        (reads && !self.inbox.is_empty())
            || self.sweeping
            || (!self.deferral.waits() && (self.undecided || !self.outbox.is_empty()))
    }

    /// Serves what is due of the place itself.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(bucket) = &mut self.bucket {
            bucket.fill(now);
        }
        self.check_deferral(now);
    }

    /// Forgets a peer that is over.
    pub(super) fn forget_peer(&mut self, number: u64) {
        if let Some(peer) = self.peers.remove(&number)
            && self.keys.get(&peer.key) == Some(&number)
        {
            self.keys.remove(&peer.key);
        }
    }

    /// Whether [`poll_event`](Self::poll_event) may have something to tell.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
            || self.table.has_next_hop_changes()
            || (self.table.has_changes() && !self.changes_told)
    }

    /// The next event of the place itself.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if let Some(change) = self.table.poll_next_hop() {
            return Some(Event::NextHop(self.place, change));
        }
        let news = self.table.has_changes() && !self.changes_told;
        self.changes_told |= news;
        news.then_some(Event::RoutesChanged(self.place))
    }
}

/// SplitMix64's finalizer: seeds that differ give numbers that have nothing in common.
pub(super) const fn mix(seed: u64, number: u64) -> u64 {
    let mut mixed = seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
