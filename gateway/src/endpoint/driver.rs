//! The loop around [`Endpoints`]: rings of every worker on one side, an application on the other. A
//! thread turns it in production, the simulation in tests; both hand in the time.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Cache;
use nvgate_model::{DomainSlot, Generation, Instant};

use super::{Endpoints, MAX_PACKET};
use crate::io::BATCH;
use crate::snapshot::Snapshot;
use crate::worker::Published;
use crate::worker::endpoint_ring::EndpointEnd;

/// How long the loop waits for room in a ring: nobody tells it.
const ROOM_RETRY: Duration = Duration::from_millis(1);

/// Who uses the endpoints.
pub trait Application {
    /// Follows a new snapshot: registers domains, listens, sets peers. Domains that are gone are
    /// deregistered already, and own addresses have been followed.
    fn follow(&mut self, now: Instant, snapshot: &Snapshot, endpoints: &mut Endpoints);

    /// Takes events and datagrams, reads, writes, does what is due; with bounded work. Whether there
    /// is more to do at once.
    fn turn(&mut self, now: Instant, endpoints: &mut Endpoints) -> bool;

    /// Says goodbye: the thread is about to end, and gives what is written now some time to leave.
    fn stop(&mut self, now: Instant, endpoints: &mut Endpoints);

    /// When it wants its next turn if nothing happens.
    fn poll_timeout(&self) -> Option<Instant>;

    /// A descriptor that is readable when it wants its next turn.
    fn watched(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether something that is not the endpoints' is still to leave before the thread ends.
    fn has_last_words(&self) -> bool {
        false
    }
}

/// The endpoints, their rings and the application on top.
#[derive(Debug)]
pub struct Driver<A> {
    /// The application.
    pub application: A,
    /// The endpoints.
    pub endpoints: Endpoints,
    snapshot: Cache<Published, Arc<Snapshot>>,
    adopted: Option<Generation>,
    rings: Vec<EndpointEnd>,
    out: Box<[u8]>,
    /// Whether packets wait for room in a ring.
    blocked: bool,
    /// Whether there is more to do at once.
    busy: bool,
}

impl<A: Application> Driver<A> {
    /// A loop that has not turned yet; `rings` are the workers' in their order.
    #[must_use]
    pub fn new(
        application: A,
        published: Published,
        rings: Vec<EndpointEnd>,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            application,
            endpoints: Endpoints::new(seed, now),
            snapshot: Cache::new(published),
            adopted: None,
            rings,
            out: vec![0; MAX_PACKET].into_boxed_slice(),
            blocked: false,
            busy: false,
        }
    }

    /// One turn of the loop at `now`: at most one batch from every ring. Returns how many packets
    /// went either way; with 0 and nothing due the caller may wait.
    pub fn turn(&mut self, now: Instant) -> usize {
        let snapshot = Arc::clone(self.snapshot.load());
        if self.adopted != Some(snapshot.generation) {
            self.adopt(&snapshot, now);
        }
        let endpoints = &mut self.endpoints;
        let mut moved = 0;
        for ring in &mut self.rings {
            moved += ring.punted.drain(BATCH, |domain, packet| {
                let bytes = packet.bytes();
                let ttl_at = if bytes.first().is_some_and(|first| first >> 4 == 6) { 7 } else { 8 };
                let ttl = bytes.get(ttl_at).copied().unwrap_or(0);
                // What is refused was counted.
                let _ = endpoints.handle_packet(now, domain, bytes, ttl);
            });
        }
        if endpoints.poll_timeout().is_some_and(|due| due <= now) {
            endpoints.handle_timeout(now);
        }
        self.busy = self.application.turn(now, endpoints);
        while let Some((domain, services)) = endpoints.poll_interest() {
            if let Some(domain) = snapshot.domain(domain) {
                domain.interest.set(&services);
            }
        }
        moved + self.transmit(now)
    }

    fn adopt(&mut self, snapshot: &Snapshot, now: Instant) {
        self.adopted = Some(snapshot.generation);
        for slot in self.endpoints.domains().collect::<Vec<_>>() {
            match snapshot.domain(slot) {
                Some(domain) => self.endpoints.register(slot, domain.own_addresses()),
                None => self.endpoints.deregister(slot),
            }
        }
        self.application.follow(now, snapshot, &mut self.endpoints);
    }

    fn transmit(&mut self, now: Instant) -> usize {
        let Self { endpoints, rings, out, .. } = self;
        let workers = rings.len().max(1);
        let worker = |domain: DomainSlot| domain.0 as usize % workers;
        let mut sent = 0;
        let admitted = BATCH * workers;
        while sent < admitted {
            let packet = endpoints.poll_transmit(
                now,
                |domain| {
                    rings.get_mut(worker(domain)).is_some_and(|ring| ring.injects.room(domain) > 0)
                },
                out,
            );
            let Some((domain, length)) = packet else { break };
            if let Some(ring) = rings.get_mut(worker(domain)) {
                // There was room, and nobody else sends.
                let _ = ring.injects.send(domain, &out[..length], &[]);
            }
            sent += 1;
        }
        self.blocked = sent < admitted && endpoints.has_transmit();
        self.busy |= sent == admitted;
        sent
    }

    /// Has the application say goodbye.
    pub fn stop(&mut self, now: Instant) {
        self.application.stop(now, &mut self.endpoints);
    }

    /// Whether something may still be to leave.
    #[must_use]
    pub fn has_last_words(&self) -> bool {
        self.application.has_last_words() || self.endpoints.domains().next().is_some()
    }

    /// A descriptor that is readable when it wants its next turn.
    #[must_use]
    pub fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.application.watched()
    }

    /// When it wants its next turn if nothing arrives.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let retry = self.blocked.then(|| now + ROOM_RETRY);
        let busy = self.busy.then_some(now);
        let application = self.application.poll_timeout();
        [retry, busy, application, self.endpoints.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether packets of workers wait.
    #[must_use]
    pub fn has_punts(&self) -> bool {
        self.rings.iter().any(|ring| !ring.punted.is_empty())
    }

    /// Calls `wake` for each worker that was sent something since the last call.
    pub fn wake_touched(&mut self, mut wake: impl FnMut(usize)) {
        for (worker, ring) in self.rings.iter_mut().enumerate() {
            if ring.injects.take_touched() {
                wake(worker);
            }
        }
    }
}
