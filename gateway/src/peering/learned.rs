//! What neighbours taught, on its way to control: changes wait for a moment so that a storm of them
//! is one, and what control has not fetched yet is replaced by what holds later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nvgate_bgp::rib::Reach;
use nvgate_bgp::speaker::{Place, Speaker};
use nvgate_model::{DomainSlot, Instant, RoutingDomainId};
use tokio::sync::Notify;

use crate::snapshot::{Domain, LearnedChanges, LearnedRoute};

/// How long a change waits for others.
const COALESCE: Duration = Duration::from_millis(40);
/// The least time between changes of the front end: each has every flow prove itself again.
const UPSTREAM_REST: Duration = Duration::from_millis(200);
/// Prefixes of the front end handed on at once; more follow in the next turns.
const UPSTREAM_BATCH: usize = 16_384;

/// What changed of the learned routes of one domain.
pub type Learnt = (RoutingDomainId, LearnedChanges);

/// Where learned routes wait for control: each changed prefix of a domain or the front end once.
#[derive(Debug, Default)]
pub struct LearntBox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    domains: BTreeMap<RoutingDomainId, LearnedChanges>,
    upstream: LearnedChanges,
}

impl LearntBox {
    fn put(&self, (domain, changes): Learnt) {
        self.fill(|waiting| waiting.domains.entry(domain).or_default().add(changes));
    }

    fn put_upstream(&self, changes: LearnedChanges) {
        self.fill(|waiting| waiting.upstream.add(changes));
    }

    fn fill(&self, with: impl FnOnce(&mut Waiting)) {
        with(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.filled.notify_one();
    }

    /// Waits until there is something to take.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes everything.
    #[must_use]
    pub fn take(&self) -> (Vec<Learnt>, LearnedChanges) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { domains, upstream } = std::mem::take(&mut *waiting);
        (domains.into_iter().collect(), upstream)
    }
}

/// The learned routes of all places, as the speaker last said.
#[derive(Debug)]
pub(super) struct Learned {
    /// The domains that learned something.
    taught: BTreeSet<DomainSlot>,
    changed: BTreeSet<DomainSlot>,
    due: Option<Instant>,
    upstream_due: Option<Instant>,
    /// Before this the front end has no further changes.
    upstream_rests: Instant,
    /// Whether the front end has neighbours.
    has_upstream: bool,
    out: Arc<LearntBox>,
}

impl Learned {
    pub(super) const fn new(out: Arc<LearntBox>) -> Self {
        Self {
            taught: BTreeSet::new(),
            changed: BTreeSet::new(),
            due: None,
            upstream_due: None,
            upstream_rests: Instant(0),
            has_upstream: false,
            out,
        }
    }

    /// The place's routes changed.
    pub(super) fn note(&mut self, now: Instant, place: Place) {
        match place {
            Place::Domain(slot) => {
                self.changed.insert(slot);
                self.due.get_or_insert(now + COALESCE);
            }
            Place::FrontEnd => {
                self.upstream_due.get_or_insert((now + COALESCE).max(self.upstream_rests));
            }
        }
    }

    /// When [`flush`](Self::flush) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.due, self.upstream_due].into_iter().flatten().min()
    }

    /// Hands on what changed, once its time has come.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        domains: &BTreeMap<DomainSlot, Arc<Domain>>,
        speaker: &mut Speaker,
    ) {
        if self.upstream_due.is_some_and(|due| due <= now) {
            self.flush_upstream(now, speaker);
        }
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        for slot in std::mem::take(&mut self.changed) {
            let mut changes = LearnedChanges::default();
            while let Some(change) = speaker.poll_change(Place::Domain(slot)) {
                changes.routes.insert(change.prefix, learned(change.now));
            }
            if let Some(domain) = domains.get(&slot) {
                self.taught.insert(slot);
                self.out.put((domain.id, changes));
            }
        }
    }

    fn flush_upstream(&mut self, now: Instant, speaker: &mut Speaker) {
        self.upstream_rests = now + UPSTREAM_REST;
        let mut changes = LearnedChanges::default();
        self.upstream_due = loop {
            let Some(change) = speaker.poll_change(Place::FrontEnd) else { break None };
            changes.routes.insert(change.prefix, learned(change.now));
            if changes.routes.len() >= UPSTREAM_BATCH {
                break Some(now);
            }
        };
        // What peers that leave with the configuration still change is nobody's.
        if self.has_upstream && !changes.is_empty() {
            self.out.put_upstream(changes);
        }
    }

    /// The domain has no neighbours any more.
    pub(super) fn forget(&mut self, slot: DomainSlot, domain: RoutingDomainId) {
        self.changed.remove(&slot);
        if self.taught.remove(&slot) {
            self.out.put((domain, LearnedChanges::nothing()));
        }
    }

    /// Whether the front end has neighbours.
    pub(super) fn follow_upstream(&mut self, has: bool) {
        if self.has_upstream && !has {
            self.out.put_upstream(LearnedChanges::nothing());
        }
        self.has_upstream = has;
    }
}

/// What is forwarded by; none: nothing. What the place itself has it need not be taught.
fn learned(reach: Reach) -> Option<LearnedRoute> {
    match reach {
        Reach::Gone | Reach::Local => None,
        Reach::Discard => Some(LearnedRoute::Discard),
        Reach::Via(hops) => Some(LearnedRoute::Via(hops.iter().map(|via| via.next_hop).collect())),
    }
}
