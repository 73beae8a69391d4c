//! What neighbours taught, on its way to control: changes wait for a moment so that a storm of them
//! is one, and what control has not fetched yet is replaced by what holds later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
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
/// Prefixes of the front end taken from the speaker in one turn; more follow in the next ones.
const UPSTREAM_TURN: usize = 16_384;
/// Prefixes of the front end handed on at once.
const UPSTREAM_BATCH: usize = 1 << 18;

/// What changed of the learned routes of one domain.
pub type Learnt = (RoutingDomainId, LearnedChanges);

/// Where learned routes wait for control. However long it does not take them, they are no more than
/// a few times the prefixes that changed.
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
    /// Changes of the front end that are not handed on yet: all of a moment go together.
    upstream: LearnedChanges,
    /// Whether the front end has neighbours.
    has_upstream: bool,
    hops: SameHops,
    out: Arc<LearntBox>,
}

impl Learned {
    pub(super) fn new(out: Arc<LearntBox>) -> Self {
        Self {
            taught: BTreeSet::new(),
            changed: BTreeSet::new(),
            due: None,
            upstream_due: None,
            upstream_rests: Instant(0),
            upstream: LearnedChanges::default(),
            has_upstream: false,
            hops: SameHops::default(),
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
                changes.routes.push((change.prefix, self.hops.learned(change.now)));
            }
            if let Some(domain) = domains.get(&slot) {
                self.taught.insert(slot);
                self.out.put((domain.id, changes));
            }
        }
    }

    fn flush_upstream(&mut self, now: Instant, speaker: &mut Speaker) {
        self.upstream_due = None;
        let mut turn = 0..UPSTREAM_TURN;
        let all = loop {
            let Some(change) = speaker.poll_change(Place::FrontEnd) else { break true };
            self.upstream.routes.push((change.prefix, self.hops.learned(change.now)));
            turn.next();
            if turn.is_empty() {
                break false;
            }
        };
        if !all && self.upstream.routes.len() < UPSTREAM_BATCH {
            self.upstream_due = Some(now);
            return;
        }
        self.upstream_rests = now + UPSTREAM_REST;
        if !all {
            self.upstream_due = Some(self.upstream_rests);
        }
        let changes = std::mem::take(&mut self.upstream);
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
            self.upstream = LearnedChanges::default();
            self.out.put_upstream(LearnedChanges::nothing());
        }
        self.has_upstream = has;
    }
}

/// The next hops of the route before: of a table most routes have the same.
#[derive(Debug, Default)]
struct SameHops(Option<Arc<[IpAddr]>>);

impl SameHops {
    /// What is forwarded by; none: nothing. What the place itself has it need not be taught.
    fn learned(&mut self, reach: Reach) -> Option<LearnedRoute> {
        let hops = match reach {
            Reach::Gone | Reach::Local => return None,
            Reach::Discard => return Some(LearnedRoute::Discard),
            Reach::Via(hops) => hops,
        };
        let hops = hops.iter().map(|via| via.next_hop);
        let known = self.0.take().filter(|known| known.iter().copied().eq(hops.clone()));
        let same = known.unwrap_or_else(|| hops.collect());
        Some(LearnedRoute::Via(Arc::clone(self.0.insert(same))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(routes: &[(&str, bool)]) -> LearnedChanges {
        let route = |there: &bool| there.then_some(LearnedRoute::Discard);
        let routes = routes.iter().map(|(prefix, there)| (prefix.parse().unwrap(), route(there)));
        LearnedChanges { anew: false, routes: routes.collect() }
    }

    #[test]
    fn what_control_has_not_fetched_is_replaced_by_what_holds_later() {
        let waiting = LearntBox::default();
        waiting.put_upstream(changes(&[("192.0.2.0/24", true), ("0.0.0.0/0", true)]));
        waiting.put_upstream(changes(&[("192.0.2.0/24", false)]));
        let (_, upstream) = waiting.take();
        let outcome: BTreeMap<_, _> = upstream.routes.into_iter().collect();
        let expected = changes(&[("192.0.2.0/24", false), ("0.0.0.0/0", true)]);
        assert_eq!(outcome, expected.routes.into_iter().collect());
        assert!(waiting.take().1.is_empty());
    }

    #[test]
    fn what_comes_after_all_was_forgotten_is_all_there_is() {
        let out = Arc::<LearntBox>::default();
        let mut learned = Learned::new(Arc::clone(&out));
        learned.follow_upstream(false);
        assert!(out.take().1.is_empty(), "there was nothing");
        learned.follow_upstream(true);
        out.put_upstream(changes(&[("192.0.2.0/24", true)]));
        learned.follow_upstream(false);
        learned.follow_upstream(true);
        out.put_upstream(changes(&[("0.0.0.0/0", true)]));
        let (_, upstream) = out.take();
        let all = changes(&[("0.0.0.0/0", true)]);
        assert_eq!(upstream, LearnedChanges { anew: true, ..all });
    }

    #[test]
    fn changes_of_the_front_end_wait_for_others_and_for_the_last_ones() {
        let mut learned = Learned::new(Arc::default());
        let mut speaker = Speaker::new(
            nvgate_bgp::speaker::SpeakerConfig::default(),
            Instant(0),
            7,
            nvgate_bgp::speaker::Start::Cold,
        );
        let at = |millis: u64| Instant(millis * 1_000_000);
        learned.note(at(1000), Place::FrontEnd);
        assert_eq!(learned.due(), Some(at(1040)));
        learned.note(at(1030), Place::FrontEnd);
        learned.flush(at(1040), &BTreeMap::new(), &mut speaker);
        assert_eq!(learned.due(), None);
        learned.note(at(1041), Place::FrontEnd);
        assert_eq!(learned.due(), Some(at(1240)));
        learned.flush(at(1240), &BTreeMap::new(), &mut speaker);
        learned.note(at(2000), Place::FrontEnd);
        assert_eq!(learned.due(), Some(at(2040)));
    }
}
