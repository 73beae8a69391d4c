//! What neighbours taught, on its way to control: changes wait for a moment so that a storm of them
//! is one, and what control has not fetched yet is replaced by what holds later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nvgate_bgp::rib::Reach;
use nvgate_bgp::speaker::{Place, Speaker};
use nvgate_model::{DomainSlot, Instant, RoutingDomainId};
use tokio::sync::Notify;

use crate::snapshot::{Domain, LearnedRoute, LearnedRoutes};

/// How long a change waits for others.
const COALESCE: Duration = Duration::from_millis(40);

/// The learned routes of one domain, whole.
pub type Learnt = (RoutingDomainId, Arc<LearnedRoutes>);

/// Where learned routes wait for control: at most those of each domain once.
#[derive(Debug, Default)]
pub struct LearntBox {
    waiting: Mutex<BTreeMap<RoutingDomainId, Arc<LearnedRoutes>>>,
    filled: Notify,
}

impl LearntBox {
    fn put(&self, (domain, routes): Learnt) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(domain, routes);
        self.filled.notify_one();
    }

    /// Waits until there is something to take.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes everything.
    #[must_use]
    pub fn take(&self) -> Vec<Learnt> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting).into_iter().collect()
    }
}

/// The learned routes of all domains, as the speaker last said.
#[derive(Debug)]
pub(super) struct Learned {
    routes: BTreeMap<DomainSlot, LearnedRoutes>,
    changed: BTreeSet<DomainSlot>,
    due: Option<Instant>,
    out: Arc<LearntBox>,
}

impl Learned {
    pub(super) const fn new(out: Arc<LearntBox>) -> Self {
        Self { routes: BTreeMap::new(), changed: BTreeSet::new(), due: None, out }
    }

    /// The domain's routes changed.
    pub(super) fn note(&mut self, now: Instant, slot: DomainSlot) {
        self.changed.insert(slot);
        self.due.get_or_insert(now + COALESCE);
    }

    /// When [`flush`](Self::flush) has something to do.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Hands on what changed, once its time has come.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        domains: &BTreeMap<DomainSlot, Arc<Domain>>,
        speaker: &mut Speaker,
    ) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        for slot in std::mem::take(&mut self.changed) {
            let routes = self.routes.entry(slot).or_default();
            while let Some(change) = speaker.poll_change(Place::Domain(slot)) {
                let route = match change.now {
                    // What the domain itself has it need not be taught.
                    Reach::Gone | Reach::Local => None,
                    Reach::Discard => Some(LearnedRoute::Discard),
                    Reach::Via(hops) => {
                        Some(LearnedRoute::Via(hops.iter().map(|via| via.next_hop).collect()))
                    }
                };
                match route {
                    Some(route) => routes.insert(change.prefix, route),
                    None => routes.remove(&change.prefix),
                };
            }
            if let Some(domain) = domains.get(&slot) {
                self.out.put((domain.id, Arc::new(routes.clone())));
            }
        }
    }

    /// The domain has no neighbours any more.
    pub(super) fn forget(&mut self, slot: DomainSlot, domain: RoutingDomainId) {
        self.changed.remove(&slot);
        if self.routes.remove(&slot).is_some_and(|routes| !routes.is_empty()) {
            self.out.put((domain, Arc::default()));
        }
    }
}
