//! What a BMP collector is told (RFC 7854 section 5): sessions as they come and go, what peers send as
//! it comes, and before that what they had sent.
//!
//! There is one stream for all places. What happens goes into a queue of [`QUEUE_BYTES`]; what was
//! there before is read by a walk, a step at a time, and only when the queue is empty. So a step
//! tells what holds at that moment, everything that happened before was told before, and everything
//! that happens after it follows: replaying the stream always ends at what the table holds. A queue
//! that is full is given up with the walk, which [`Monitored::Overrun`] says once; nothing here waits
//! for who reads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Speaker;
use super::config::Place;
use super::event::PeerIndex;
use super::router::Router;
use crate::attributes::Attributes;
use crate::family::Family;
use crate::nlri::Nlri;
use crate::rib::{PeerSlot, Table};
use crate::session::{Down, Negotiated};
use crate::wire::{AttributeBlock, Codec, MessageLimit, Update, UpdatePacker};

/// Bytes of what happened and was not taken.
pub const QUEUE_BYTES: usize = if cfg!(test) { 16 << 10 } else { 8 << 20 };

/// One thing to tell. Of each peer [`Up`](Self::Up) comes first and [`Down`](Self::Down) last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Monitored {
    /// The session is established, or was when monitoring began.
    Up(PeerIndex, Arc<Negotiated>),
    /// Routes that the peer had announced before monitoring began, or End-of-RIB behind the last of
    /// a family: UPDATEs, whole messages one behind the other, as the peer would send them.
    Held(PeerIndex, Box<[u8]>),
    /// What the peer sent: mostly the UPDATE as it came; UPDATEs that say what was made of it where
    /// that is something else (RFC 7606, bounds), or that routes went which the peer did not tell
    /// again in a refresh (RFC 7313).
    Update(PeerIndex, Box<[u8]>),
    /// The session ended.
    Down(PeerIndex, Down),
    /// More happened than was taken: what was told so far is void, and monitoring is off.
    Overrun,
}

/// What happened, in order, until it is taken.
#[derive(Default)]
pub(super) struct Pending {
    entries: VecDeque<Monitored>,
    bytes: usize,
    overrun: bool,
}

/// Monitoring that is on.
#[derive(Default)]
pub(super) struct Monitor {
    queue: Pending,
    /// What the walk's last step told: older than all that is in the queue.
    held: VecDeque<Monitored>,
    walks: VecDeque<Walk>,
}

/// Where the walk is in one place.
struct Walk {
    place: Place,
    /// Those that were up when monitoring began, and have been since.
    peers: BTreeSet<u64>,
    family: Family,
    from: usize,
}

impl Monitored {
    fn size(&self) -> usize {
        let own = match self {
            Self::Held(_, updates) | Self::Update(_, updates) => updates.len(),
            Self::Up(..) | Self::Down(..) | Self::Overrun => 0,
        };
        size_of::<Self>() + own
    }
}

impl Pending {
    pub(super) fn push(&mut self, monitored: Monitored) {
        // An UPDATE of nothing but families not agreed on says nothing.
        let says_nothing =
            matches!(&monitored, Monitored::Update(_, updates) if updates.is_empty());
        if self.overrun || says_nothing {
            return;
        }
        self.bytes += monitored.size();
        if self.bytes > QUEUE_BYTES {
            *self = Self { overrun: true, ..Self::default() };
        } else {
            self.entries.push_back(monitored);
        }
    }

    fn pop(&mut self) -> Option<Monitored> {
        let first = self.entries.pop_front()?;
        self.bytes -= first.size();
        Some(first)
    }
}

impl Speaker {
    /// Begins to tell by [`poll_monitored`](Self::poll_monitored) what goes on, from the beginning
    /// also if that is told already; or ends it. Off, it costs nothing but a question whether it is.
    pub fn monitor(&mut self, on: bool) {
        self.monitor = on.then(Monitor::default);
        for router in self.routers.values_mut() {
            router.monitored = on.then(Pending::default);
            if let Some(monitor) = &mut self.monitor {
                monitor.begin(router);
            }
        }
    }

    /// Whether [`poll_monitored`](Self::poll_monitored) is to be called again.
    #[must_use]
    pub fn has_monitored(&self) -> bool {
        self.monitor.as_ref().is_some_and(|monitor| {
            let Monitor { queue, held, walks } = monitor;
            queue.overrun || !(queue.entries.is_empty() && held.is_empty() && walks.is_empty())
        })
    }

    /// The next thing to tell. None does not mean that there is no more: a call does one bounded
    /// step, which may have found nothing.
    pub fn poll_monitored(&mut self) -> Option<Monitored> {
        let monitor = self.monitor.as_mut()?;
        if monitor.queue.overrun {
            self.monitor(false);
            return Some(Monitored::Overrun);
        }
        if monitor.held.is_empty() && monitor.queue.entries.is_empty() {
            monitor.walk(&self.routers);
        }
        monitor.held.pop_front().or_else(|| monitor.queue.pop())
    }
}

impl Monitor {
    /// Tells who is up in the place, and puts its routes where they are walked over.
    fn begin(&mut self, router: &Router) {
        let mut peers = BTreeSet::new();
        for (number, peer) in &router.peers {
            if let Some(negotiated) = &peer.up {
                peers.insert(*number);
                self.held.push_back(Monitored::Up(peer.index, negotiated.clone()));
            }
        }
        if !peers.is_empty() {
            let (place, family) = (router.place, Family::Ipv4Unicast);
            self.walks.push_back(Walk { place, peers, family, from: 0 });
        }
    }

    /// Takes what happened in a place. A session that ended is walked over no more: if it comes
    /// back, all it sends is in the queue.
    pub(super) fn take(&mut self, router: &mut Router) {
        let Some(pending) = &mut router.monitored else { return };
        if pending.entries.is_empty() && !pending.overrun {
            return;
        }
        let pending = std::mem::take(pending);
        for monitored in pending.entries {
            if let Monitored::Down(peer, _) = &monitored {
                let walks = self.walks.iter_mut().filter(|walk| walk.place == peer.place);
                walks.for_each(|walk| walk.peers.retain(|number| *number != peer.number));
            }
            self.queue.push(monitored);
        }
        if pending.overrun {
            self.queue = Pending { overrun: true, ..Pending::default() };
        }
        if self.queue.overrun {
            self.held.clear();
            self.walks.clear();
        }
    }

    /// One step of the walk.
    fn walk(&mut self, routers: &BTreeMap<Place, Router>) {
        let Some(walk) = self.walks.front_mut() else { return };
        let router = routers.get(&walk.place).filter(|_| !walk.peers.is_empty());
        let Some(router) = router else {
            self.walks.pop_front();
            return;
        };
        let peers = walk.peers.iter().filter_map(|number| router.peers.get(number));
        let slots: BTreeMap<PeerSlot, (PeerIndex, Codec)> = peers
            .filter_map(|peer| Some((peer.slot?, (peer.index, outward(&peer.up.as_ref()?.codec)))))
            .collect();
        let mut told: BTreeMap<PeerSlot, Vec<u8>> = BTreeMap::new();
        let wants = |slot| slots.contains_key(&slot);
        let next =
            router.table.walk_received(walk.family, walk.from, wants, |slot, with, routes| {
                if let Some((_, codec)) = slots.get(&slot) {
                    announce(with, routes, codec, told.entry(slot).or_default());
                }
            });
        let mut tell = |peer, updates: Vec<u8>| {
            self.held.push_back(Monitored::Held(peer, updates.into()));
        };
        for (slot, updates) in told {
            if let Some((peer, _)) = slots.get(&slot) {
                tell(*peer, updates);
            }
        }
        if let Some(next) = next {
            walk.from = next;
            return;
        }
        for (peer, codec) in slots.values().filter(|(_, codec)| codec.families[walk.family.index()])
        {
            let mut updates = Vec::new();
            UpdatePacker::new(&mut updates, codec).end_of_rib(walk.family);
            tell(*peer, updates);
        }
        walk.from = 0;
        match walk.family {
            Family::Ipv4Unicast => walk.family = Family::Ipv6Unicast,
            Family::Ipv6Unicast => drop(self.walks.pop_front()),
        }
    }
}

impl Router {
    /// Notes what the sweep took as if the peers had withdrawn it.
    pub(super) fn note_swept(&mut self) {
        let mut gone: BTreeMap<PeerSlot, Vec<Nlri>> = BTreeMap::new();
        for (slot, nlri) in self.table.take_swept() {
            gone.entry(slot).or_default().push(nlri);
        }
        let Some(pending) = &mut self.monitored else { return };
        for (slot, routes) in gone {
            let peer = self.slots.get(&slot).and_then(|number| self.peers.get(number));
            let Some((peer, up)) = peer.and_then(|peer| Some((peer, peer.up.as_ref()?))) else {
                continue;
            };
            let codec = outward(&up.codec);
            let mut updates = Vec::new();
            for family in Family::ALL {
                let routes = routes.iter().copied();
                UpdatePacker::new(&mut updates, &codec).withdraw(family, routes);
            }
            pending.push(Monitored::Update(peer.index, updates.into()));
        }
    }
}

/// UPDATEs that say what the table has now of the routes that an UPDATE of the peer names.
pub(super) fn made_of(
    update: &Update<'_>,
    table: &Table,
    slot: PeerSlot,
    codec: &Codec,
) -> Box<[u8]> {
    let codec = outward(codec);
    let mut updates = Vec::new();
    let announced = update.announced().flat_map(|group| group.routes);
    for nlri in update.withdrawn().chain(announced) {
        match table.received(slot, nlri) {
            Some(attributes) => announce(attributes, &[nlri], &codec, &mut updates),
            None => withdraw(&[nlri], &codec, &mut updates),
        }
    }
    updates.into()
}

/// What the session receives, sent.
fn outward(codec: &Codec) -> Codec {
    Codec { add_path_out: codec.add_path_in, ..*codec }
}

/// What fits no message of the session as it is encoded here goes into a longer one: BMP bears it.
fn announce(attributes: &Attributes, routes: &[Nlri], codec: &Codec, out: &mut Vec<u8>) {
    let Some(family) = routes.first().map(|first| first.family()) else { return };
    let longer = Codec { max_message: MessageLimit::Extended, ..*codec };
    for codec in [codec, &longer] {
        if let Ok(block) = AttributeBlock::new(attributes, family, codec) {
            UpdatePacker::new(out, codec).announce(&block, routes.iter().copied());
            return;
        }
    }
    withdraw(routes, codec, out);
}

fn withdraw(routes: &[Nlri], codec: &Codec, out: &mut Vec<u8>) {
    for family in Family::ALL {
        UpdatePacker::new(out, codec).withdraw(family, routes.iter().copied());
    }
}
