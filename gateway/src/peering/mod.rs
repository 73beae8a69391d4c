//! BGP and BFD in tenants' routing domains: the [`Application`] on top of the gateway's own
//! endpoints.
//!
//! It carries bytes between the endpoints' connections and the [`Speaker`]'s sessions, follows the
//! plan (peers, what a domain announces) and the snapshot (own addresses, where next hops lie), and
//! hands what neighbours teach to control, coalesced, which builds it into the domain's routes.
//! It refuses to know policies and protocols: those are the crates' `bgp` and `bfd`.

mod bfd;
mod config;
mod hops;
mod learned;
mod links;
mod places;
mod questions;
mod tenants;
mod view;
mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nvgate_bgp::session::{Closed, Closing, Connection, Endpoints as Ends};
use nvgate_bgp::speaker::{Event, PeerIndex, PeerKey, Place, Speaker, SpeakerConfig, Start, Turn};
use nvgate_deploy::plan::Plan;
use nvgate_model::{DomainSlot, Instant};

pub use self::learned::{Learnt, LearntBox};
pub use self::questions::{
    Asked, PATIENCE, PeersQuestion, PrefixQuestion, PublishedPeers, Questions, RoutesQuestion,
    Unanswered,
};

use self::bfd::Watch;
use self::hops::Hops;
use self::learned::Learned;
use self::links::Links;
use self::places::Places;
use self::view::View;
use crate::endpoint::{Application, CloseReason, ConnectionId, Endpoints, Event as EndpointEvent};
use crate::snapshot::{Domain, Snapshot};

/// Rounds of the speaker in one turn of the thread, so that packets are not kept waiting.
const ROUNDS: usize = 8;
/// Bytes read from a connection at once.
const CHUNK: usize = 16 * 1024;
/// Questions answered in one turn of the thread.
const ANSWERS: usize = 4;
/// How often the peers are published.
const PUBLISHING: Duration = Duration::from_secs(1);

/// The plan in effect, shared with control.
pub type PublishedPlan = Arc<ArcSwap<Plan>>;

/// What [`Peering`] has in common with control.
#[derive(Debug)]
pub struct Ties {
    /// The plan in effect.
    pub plan: PublishedPlan,
    /// Where learned routes go.
    pub learnt: Arc<LearntBox>,
    /// Where the peers are shown.
    pub peers: PublishedPeers,
    /// What is asked.
    pub asked: Asked,
}

/// BGP and BFD of all routing domains.
pub struct Peering {
    plan: PublishedPlan,
    seen: Option<Arc<Plan>>,
    /// The domains with BGP.
    domains: BTreeMap<DomainSlot, Arc<Domain>>,
    /// All domains of the snapshot that was seen last.
    all: Vec<Arc<Domain>>,
    /// What peers were configured on: domains, and the gateway's own addresses there.
    ground: Vec<(DomainSlot, Vec<IpAddr>)>,
    speaker: Speaker,
    places: Places,
    links: Links,
    hops: Hops,
    learned: Learned,
    watch: Watch,
    chunk: Box<[u8]>,
    peers: PublishedPeers,
    publish_at: Instant,
    asked: Asked,
}

impl std::fmt::Debug for Peering {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Peering")
            .field("domains", &self.domains.len())
            .finish_non_exhaustive()
    }
}

impl Peering {
    /// No peers yet: they come with the first snapshot.
    #[must_use]
    pub fn new(ties: Ties, now: Instant, seed: u64) -> Self {
        let Ties { plan, learnt, peers, asked } = ties;
        Self {
            plan,
            seen: None,
            domains: BTreeMap::new(),
            all: Vec::new(),
            ground: Vec::new(),
            speaker: Speaker::new(SpeakerConfig::default(), now, seed, Start::Cold),
            places: Places::default(),
            links: Links::default(),
            hops: Hops::default(),
            learned: Learned::new(learnt),
            watch: Watch::new(seed),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            peers,
            publish_at: now,
            asked,
        }
    }

    /// Takes over the plan and what the snapshot has of its domains. Snapshots are many, as routes
    /// come and go; peers are looked at only if something changed for them.
    fn configure(&mut self, now: Instant, plan: Arc<Plan>, endpoints: &mut Endpoints) {
        let slots: BTreeMap<_, _> = self.all.iter().map(|domain| (domain.id, domain)).collect();
        let domains: BTreeMap<DomainSlot, Arc<Domain>> = plan
            .tenants
            .iter()
            .filter(|tenant| tenant.bgp.is_some())
            .filter_map(|tenant| slots.get(&tenant.routing_domain).copied())
            .map(|domain| (domain.slot, Arc::clone(domain)))
            .collect();
        for (slot, domain) in &self.domains {
            if !domains.contains_key(slot) {
                self.learned.forget(*slot, domain.id);
                self.hops.forget(*slot);
            }
        }
        self.domains = domains;
        let own = |domain: &Domain| domain.own_addresses().collect();
        let ground: Vec<_> =
            self.domains.iter().map(|(slot, domain)| (*slot, own(domain))).collect();
        let same_plan = self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &plan));
        if same_plan && ground == self.ground {
            return;
        }
        self.ground = ground;
        let config = config::of(&plan, &self.domains);
        self.speaker.reconfigure(now, config);
        self.places.follow(now, &plan, &self.domains, (&mut self.speaker, endpoints));
        self.watch.follow(now, &plan, &self.domains, endpoints);
        self.seen = Some(plan);
    }

    fn take_events(&mut self, now: Instant, endpoints: &mut Endpoints) {
        while let Some((id, event)) = endpoints.poll_event() {
            match event {
                EndpointEvent::Incoming { local, remote } => {
                    let ends = Ends { local, remote };
                    match self.speaker.handle_incoming(now, Place::Domain(id.domain), ends) {
                        Ok((peer, connection)) => self.links.insert(id, (peer, connection), ends),
                        Err(reason) => {
                            tracing::debug!(%remote, %reason, "a BGP connection is not taken");
                            endpoints.abort(id);
                        }
                    }
                }
                EndpointEvent::Connected => {
                    if let Some(((peer, connection), ends)) = self.links.of(id) {
                        self.speaker.handle_connected(now, peer, connection, ends);
                    }
                }
                EndpointEvent::Readable => self.links.note_readable(id),
                EndpointEvent::Writable => {
                    if let Some(((peer, connection), _)) = self.links.of(id) {
                        self.speaker.handle_writable(peer, connection);
                    }
                }
                EndpointEvent::Closed(reason) => {
                    // What came before the end is read first.
                    self.read(now, id, endpoints);
                    if let Some((peer, connection)) = self.links.remove(id) {
                        self.speaker.handle_closed(now, peer, connection, closed(reason));
                    }
                }
            }
        }
    }

    /// Hands the session what it has room for; whether something is left.
    fn read(&mut self, now: Instant, id: ConnectionId, endpoints: &mut Endpoints) -> bool {
        while let Some(((peer, connection), _)) = self.links.of(id) {
            let room = self.speaker.read_room(peer, connection).min(self.chunk.len());
            if room == 0 {
                return true;
            }
            let count = endpoints.read(id, &mut self.chunk[..room]);
            if count == 0 {
                break;
            }
            self.speaker.handle_bytes(now, peer, connection, &self.chunk[..count]);
        }
        false
    }

    fn read_all(&mut self, now: Instant, endpoints: &mut Endpoints) {
        for id in self.links.take_readable() {
            if self.read(now, id, endpoints) {
                self.links.note_readable(id);
            }
        }
    }

    fn send(&mut self, now: Instant, endpoints: &mut Endpoints) {
        while let Some((peer, connection, bytes)) = self.speaker.poll_transmit() {
            let taken = match self.links.connection((peer, connection)) {
                Some(id) => endpoints.write(id, bytes),
                None => 0,
            };
            self.speaker.handle_transmitted(now, peer, connection, taken);
        }
    }

    fn tell(&mut self, now: Instant, endpoints: &mut Endpoints) {
        while let Some(event) = self.speaker.poll_event() {
            match event {
                Event::Connect(peer, connection, key, port) => {
                    if !self.connect(now, (peer, connection), (key, port), endpoints) {
                        self.speaker.handle_closed(now, peer, connection, Closed::Refused);
                    }
                }
                Event::Close(peer, connection, closing) => {
                    // Its last words first.
                    self.send(now, endpoints);
                    if let Some(id) = self.links.connection((peer, connection)) {
                        self.links.remove(id);
                        match closing {
                            Closing::Finish => endpoints.close(id),
                            Closing::Abort => endpoints.abort(id),
                        }
                    }
                }
                Event::Up(peer, ends) => {
                    let (tenant, remote) = (self.tenant(peer), ends.remote.ip());
                    tracing::info!(tenant, %remote, "BGP session up");
                }
                Event::Down(peer, down) => {
                    let (tenant, remote) = (self.tenant(peer), self.remote(peer));
                    tracing::info!(tenant, remote, reason = ?down.reason, "BGP session down");
                }
                Event::PrefixWarning(peer, family, count) => {
                    let (tenant, remote) = (self.tenant(peer), self.remote(peer));
                    tracing::warn!(tenant, remote, %family, routes = count.routes,
                        limit = count.limit, "a BGP peer is near its bound of prefixes");
                }
                Event::Bfd(peer, ends) => self.watch.want(now, peer, ends),
                Event::Forgotten(peer) => self.watch.want(now, peer, None),
                Event::NextHop(Place::Domain(slot), change) => {
                    let domain = self.domains.get(&slot).map(|domain| &**domain);
                    self.hops.change(slot, change, domain, &mut self.speaker);
                }
                Event::RoutesChanged(Place::Domain(slot)) => self.learned.note(now, slot),
                // The front end is not spoken on here, and no forwarding is kept over a restart.
                Event::NextHop(Place::FrontEnd, _)
                | Event::RoutesChanged(Place::FrontEnd)
                | Event::Restarted(_) => {}
            }
        }
    }

    /// The tenant of a peer, for logs.
    fn tenant(&self, peer: PeerIndex) -> Option<&str> {
        match peer.place {
            Place::Domain(slot) => self.domains.get(&slot).map(|domain| domain.tenant.as_str()),
            Place::FrontEnd => None,
        }
    }

    /// The address of a peer, for logs.
    fn remote(&self, peer: PeerIndex) -> Option<String> {
        self.speaker.peer(peer).map(|status| status.key.remote.to_string())
    }

    /// Shows the peers, and answers questions; whether more of those wait.
    fn show(&mut self, now: Instant) -> bool {
        let Some(plan) = &self.seen else { return false };
        let view = View { now, plan, domains: &self.domains, speaker: &self.speaker };
        if now >= self.publish_at {
            self.publish_at = now + PUBLISHING;
            let peers = view.all_peers();
            if !peers.is_empty() || !self.peers.load().is_empty() {
                self.peers.store(Arc::new(peers));
            }
        }
        for _ in 0..ANSWERS {
            let Ok(question) = self.asked.0.try_recv() else { return false };
            view.answer(question);
        }
        !self.asked.0.is_empty()
    }

    fn connect(
        &mut self,
        now: Instant,
        whose: (PeerIndex, Connection),
        (key, port): (PeerKey, u16),
        endpoints: &mut Endpoints,
    ) -> bool {
        let Place::Domain(slot) = key.place else { return false };
        let local = key.local.or_else(|| self.domains.get(&slot)?.gateway_towards(key.remote));
        let Some(local) = local else { return false };
        let remote = SocketAddr::new(key.remote, port);
        match endpoints.connect(now, slot, local, remote) {
            Ok(id) => {
                // Its port is the endpoint's affair.
                self.links.insert(id, whose, Ends { local: SocketAddr::new(local, 0), remote });
                true
            }
            Err(error) => {
                tracing::debug!(%remote, %error, "cannot connect to a BGP peer");
                false
            }
        }
    }
}

impl Application for Peering {
    fn follow(&mut self, now: Instant, snapshot: &Snapshot, endpoints: &mut Endpoints) {
        self.all = snapshot.domains().cloned().collect();
        let plan = self.plan.load_full();
        self.configure(now, plan, endpoints);
        self.hops.follow(&self.domains, &mut self.speaker);
    }

    fn turn(&mut self, now: Instant, endpoints: &mut Endpoints) -> bool {
        let plan = self.plan.load();
        if self.seen.as_ref().is_some_and(|seen| !Arc::ptr_eq(seen, &plan)) {
            let plan = Arc::clone(&plan);
            self.configure(now, plan, endpoints);
        }
        if self.speaker.poll_timeout().is_some_and(|due| due <= now) {
            self.speaker.handle_timeout(now);
        }
        self.take_events(now, endpoints);
        self.read_all(now, endpoints);
        let mut more = Turn::Idle;
        for _ in 0..ROUNDS {
            more = self.speaker.turn(now);
            self.read_all(now, endpoints);
            if more == Turn::Idle {
                break;
            }
        }
        for (peer, state) in self.watch.turn(now, endpoints) {
            self.speaker.handle_bfd(now, peer, state);
        }
        self.send(now, endpoints);
        self.tell(now, endpoints);
        self.places.turn(now, endpoints);
        self.learned.flush(now, &self.domains, &mut self.speaker);
        self.show(now) || more == Turn::More
    }

    fn stop(&mut self, now: Instant, endpoints: &mut Endpoints) {
        if let Err(error) = self.speaker.stop_all(now, "the gateway stops") {
            tracing::error!(%error, "peers are told nothing");
        }
        self.send(now, endpoints);
        self.tell(now, endpoints);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let publish = (!self.domains.is_empty()).then_some(self.publish_at);
        let due = [
            self.speaker.poll_timeout(),
            self.learned.due(),
            self.watch.poll_timeout(),
            self.places.due(),
            publish,
        ];
        due.into_iter().flatten().min()
    }
}

/// The session's word for how a connection ended.
const fn closed(reason: CloseReason) -> Closed {
    match reason {
        CloseReason::Refused => Closed::Refused,
        CloseReason::Reset | CloseReason::AddressGone => Closed::Reset,
        CloseReason::Finished => Closed::Finished,
        CloseReason::TimedOut => Closed::TimedOut,
    }
}
