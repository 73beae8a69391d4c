//! BGP and BFD in tenants' routing domains and on the front end: the [`Application`] on top of the
//! gateway's own endpoints and of the host kernel's sockets.
//!
//! It carries bytes between their connections and the [`Speaker`]'s sessions, follows the plan (peers,
//! what is announced) and the snapshot (own addresses, where next hops lie, who is served), and hands
//! what neighbours teach to control, coalesced, which builds it into the routes.
//! It refuses to know policies and protocols: those are the crates' `bgp` and `bfd`.

mod announce;
mod bfd;
mod bmp;
mod carry;
mod config;
mod drain;
mod hops;
mod learned;
mod links;
mod places;
mod questions;
mod tenants;
mod view;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nvgate_bgp::session::Closed;
use nvgate_bgp::speaker::{Clear, Event, PeerIndex, Place, Speaker, SpeakerConfig, Start, Turn};
use nvgate_deploy::plan::Plan;
use nvgate_model::{DomainSlot, Instant};

pub use self::learned::{Learnt, LearntBox};
pub use self::questions::{
    Asked, ClearCommand, DrainCommand, PATIENCE, PeersQuestion, PrefixQuestion, PublishedBgp,
    Questions, RoutesQuestion, Shown, Unanswered,
};

use self::announce::{Announcer, Served};
use self::bfd::Watch;
use self::bmp::Bmp;
use self::drain::Drain;
use self::hops::{Ground, Hops};
use self::learned::Learned;
use self::links::Links;
use self::places::Places;
use self::questions::{Command, Request};
use self::view::View;
use crate::admin::bgp::ClearReport;
use crate::counters::WorkerCounters;
use crate::endpoint::{Application, Endpoints};
use crate::io::packet::Waker;
use crate::kernel::Sockets;
use crate::snapshot::{Domain, Snapshot};

/// Rounds of the speaker in one turn of the thread, so that packets are not kept waiting.
const ROUNDS: usize = 8;
/// Bytes read from a connection at once.
const CHUNK: usize = 16 * 1024;
/// Questions answered and commands done in one turn of the thread.
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
    /// Where BGP is shown.
    pub shown: PublishedBgp,
    /// What is asked.
    pub asked: Asked,
    /// What each worker forwards by.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// What wakes the thread that this runs on.
    pub waker: Waker,
}

/// What peers were configured on.
type OwnAddresses = (Vec<(DomainSlot, Vec<IpAddr>)>, Vec<(IpAddr, u8)>);

/// BGP and BFD of all routing domains and of the front end.
pub struct Peering {
    plan: PublishedPlan,
    seen: Option<Arc<Plan>>,
    /// The domains with BGP.
    domains: BTreeMap<DomainSlot, Arc<Domain>>,
    /// All domains of the snapshot that was seen last.
    all: Vec<Arc<Domain>>,
    /// The gateway's own addresses in each domain with BGP, and on the front end.
    own: OwnAddresses,
    served: Served,
    announcer: Announcer,
    speaker: Speaker,
    sockets: Sockets,
    places: Places,
    links: Links,
    hops: Hops,
    learned: Learned,
    watch: Watch,
    chunk: Box<[u8]>,
    drain: Drain,
    bmp: Bmp,
    shown: PublishedBgp,
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
    ///
    /// # Errors
    ///
    /// The kernel has no descriptor for the sockets of the front end.
    pub fn new(ties: Ties, now: Instant, seed: u64) -> io::Result<Self> {
        let Ties { plan, learnt, shown, asked, workers, waker } = ties;
        Ok(Self {
            plan,
            seen: None,
            domains: BTreeMap::new(),
            all: Vec::new(),
            own: OwnAddresses::default(),
            served: Served::default(),
            announcer: Announcer::new(workers),
            speaker: Speaker::new(SpeakerConfig::default(), now, seed, Start::Cold),
            sockets: Sockets::new()?,
            places: Places::default(),
            links: Links::default(),
            hops: Hops::default(),
            learned: Learned::new(learnt),
            watch: Watch::new(seed),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            drain: Drain::default(),
            bmp: Bmp::new(waker),
            shown,
            publish_at: now,
            asked,
        })
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
                self.hops.forget(Place::Domain(*slot));
            }
        }
        self.domains = domains;
        let own = |domain: &Domain| domain.own_addresses().collect();
        let own: Vec<_> = self.domains.iter().map(|(slot, domain)| (*slot, own(domain))).collect();
        let own = (own, self.served.link.addresses.clone());
        let same_plan = self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &plan));
        if !same_plan || own != self.own {
            self.own = own;
            let config = config::of(&plan, &self.domains, &self.served.link);
            self.speaker.reconfigure(now, config);
            self.drain.follow(now, &mut self.speaker);
            self.places.follow(now, &plan, &self.domains, (&mut self.speaker, endpoints));
            self.watch.follow(now, &plan, &self.domains, endpoints);
            self.sockets.follow(now, &plan.gateway.front_end.link, places::neighbours(&plan));
            self.bmp.follow(plan.gateway.bmp, &mut self.speaker);
            self.seen = Some(Arc::clone(&plan));
        }
        self.follow_front_end(now, &plan);
    }

    /// Announces for whom the snapshot serves.
    fn follow_front_end(&mut self, now: Instant, plan: &Plan) {
        let spoken = plan.gateway.front_end.bgp.is_some();
        self.learned.follow_upstream(spoken);
        let wanted = self.served.announced(plan, &self.all);
        self.announcer.follow(now, &self.served, &wanted, &mut self.speaker);
        if !spoken {
            self.hops.forget(Place::FrontEnd);
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
                    self.hang_up(now, (peer, connection), closing, endpoints);
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
                Event::Malformed(peer, message) => {
                    tracing::debug!(tenant = self.tenant(peer), remote = self.remote(peer),
                        wrong = %message.wrong, bytes = %format_args!("{:02x?}", message.bytes),
                        "a BGP message is malformed");
                }
                Event::Bfd(peer, ends) => self.watch.want(now, peer, ends),
                Event::Forgotten(peer) => self.watch.want(now, peer, None),
                Event::NextHop(place, change) => {
                    let ground = Ground { domains: &self.domains, link: &self.served.link };
                    self.hops.change(place, change, ground, &mut self.speaker);
                }
                Event::RoutesChanged(place) => self.learned.note(now, place),
                // No forwarding is kept over a restart.
                Event::Restarted(_) => {}
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

    /// Shows the peers, answers questions and does what was commanded; whether more of those wait.
    fn serve(&mut self, now: Instant, endpoints: &Endpoints) -> bool {
        let Some(plan) = self.seen.clone() else { return false };
        if now >= self.publish_at {
            self.publish_at = now + PUBLISHING;
            let peers = self.view(now, &plan).all_peers();
            let fault = self.sockets.fault().or_else(|| self.served.clash(&plan));
            let (bmp, drain) = (self.bmp.health(), self.drain.report(now));
            let refused = self.domains.iter().filter_map(|(slot, domain)| {
                let refused = endpoints.refusals(*slot);
                refused.nonzero().next().map(|_| (domain.tenant.to_string(), refused))
            });
            let shown = Shown { peers, fault, bmp, drain, refused: refused.collect() };
            if shown != **self.shown.load() {
                self.shown.store(Arc::new(shown));
            }
        }
        for _ in 0..ANSWERS {
            let Ok(request) = self.asked.0.try_recv() else { return false };
            match request {
                Request::Ask(question) => self.view(now, &plan).answer(question),
                Request::Do(command) => self.obey(now, &plan, command),
            }
        }
        !self.asked.0.is_empty()
    }

    fn view<'a>(&'a self, now: Instant, plan: &'a Plan) -> View<'a> {
        View { now, plan, domains: &self.domains, speaker: &self.speaker }
    }

    fn obey(&mut self, now: Instant, plan: &Plan, command: Command) {
        // It is done even if nobody waits for the answer any more.
        match command {
            Command::Clear(command, reply) => {
                let ClearCommand { tenant, peer, hard } = command;
                let found = self.view(now, plan).find(tenant.as_deref(), &peer);
                let done = found.map(|index| {
                    let what: &[Clear] =
                        if hard { &[Clear::Hard] } else { &[Clear::SoftIn, Clear::SoftOut] };
                    for &what in what {
                        self.speaker.clear(now, index, what);
                    }
                    tracing::info!(tenant, peer, hard, "a BGP peer is cleared");
                    ClearReport { tenant, peer, hard }
                });
                let _ = reply.send(done);
            }
            Command::Drain(command, reply) => {
                let domains = self.domains.keys().copied();
                self.drain.command(now, command, domains, &mut self.speaker);
                tracing::info!(?command, "BGP drains");
                self.publish_at = now;
                let _ = reply.send(Ok(self.drain.report(now)));
            }
        }
    }
}

impl Application for Peering {
    fn follow(&mut self, now: Instant, snapshot: &Snapshot, endpoints: &mut Endpoints) {
        self.all = snapshot.domains().cloned().collect();
        self.served = Served::of(snapshot);
        let plan = self.plan.load_full();
        self.configure(now, plan, endpoints);
        let ground = Ground { domains: &self.domains, link: &self.served.link };
        self.hops.follow(ground, &mut self.speaker);
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
        for (peer, state) in self.watch.turn(now, endpoints, &mut self.sockets) {
            self.speaker.handle_bfd(now, peer, state);
        }
        self.send(now, endpoints);
        self.tell(now, endpoints);
        self.places.turn(now, endpoints);
        self.announcer.turn(now, &mut self.speaker);
        self.drain.turn(now, &mut self.speaker);
        self.learned.flush(now, &self.domains, &mut self.speaker);
        let untold = self.bmp.turn(now, &mut self.speaker);
        self.serve(now, endpoints) || untold || more == Turn::More
    }

    fn stop(&mut self, now: Instant, endpoints: &mut Endpoints) {
        if let Err(error) = self.speaker.stop_all(now, "the gateway stops") {
            tracing::error!(%error, "peers are told nothing");
        }
        self.send(now, endpoints);
        self.tell(now, endpoints);
        self.bmp.end(&mut self.speaker);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let spoken = self.seen.as_ref().is_some_and(|plan| plan.gateway.front_end.bgp.is_some());
        let shows = spoken || !self.domains.is_empty() || self.bmp.health().is_some();
        let publish = shows.then_some(self.publish_at);
        let due = [
            self.speaker.poll_timeout(),
            self.sockets.due(),
            self.announcer.due(),
            self.drain.due(),
            self.learned.due(),
            self.watch.poll_timeout(),
            self.places.due(),
            self.bmp.due(),
            publish,
        ];
        due.into_iter().flatten().min()
    }

    fn watched(&self) -> Option<BorrowedFd<'_>> {
        Some(self.sockets.watched())
    }

    fn has_last_words(&self) -> bool {
        self.sockets.has_last_words() || self.bmp.has_last_words()
    }
}
