//! The host's links as gateway.yaml describes them: bonds, VLANs, MTUs, offloads, addresses, and
//! management's routing apart from tenants'.
//!
//! [`Links`] observes what the kernel has, has [`reconcile`] say what is to be done, does it, and
//! reports what is left. It touches no link that the plan does not name, and removes none that the
//! gateway did not make. What somebody else changes is put right at most [`MAX_REPAIRS`] times
//! within [`REPAIR_WINDOW`]; then the link rests, so that two who want different things do not fight for ever.

mod apply;
mod features;
mod judge;
mod observed;
mod read;
mod reconcile;
mod report;
mod step;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

pub use apply::{ALIAS, OWNER, TABLE};
pub use judge::judge;
pub use observed::{
    AddressFacts, BondFacts, Observed, ObservedKind, ObservedLink, Rule, RuleKind, TableRoute,
};
pub use reconcile::reconcile;
pub use report::LinkReport;
pub use step::Step;

use super::{Netlink, NetlinkError};
use crate::plan::{LinkPlan, LinksPlan, Offloads};
use features::Features;

/// Repairs of one link within [`REPAIR_WINDOW`] before it rests.
pub const MAX_REPAIRS: usize = 10;
/// The time that repairs are counted within.
pub const REPAIR_WINDOW: Duration = Duration::from_secs(60);
/// How long a link that was repaired too often is left as it is; a reload ends it.
pub const REST: Duration = Duration::from_secs(300);
/// Turns of observing and changing in one go: a step may have consequences that only the kernel
/// knows, such as a secondary address that goes with the first one of its prefix.
const MAX_TURNS: usize = 4;

/// Why links are changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    /// The configuration is new: whatever differs is changed.
    Configuration,
    /// Somebody else changed something: it is put right, within bounds.
    Repair,
}

/// What is known of a link over time.
#[derive(Clone, Debug, Default)]
struct History {
    /// When it was repaired within the window, the earliest first.
    repaired: VecDeque<Instant>,
    /// Until when it is left as it is.
    rests_until: Option<Instant>,
    /// Repairs since the process started.
    repairs: u64,
    /// What the last repair did, and when.
    last: Option<(String, Instant)>,
    /// What the kernel refused the last time.
    refused: Vec<String>,
}

impl History {
    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Takes note of a repair, after which the link may have to rest.
    fn note_repair(&mut self, done: String, now: Instant) {
        self.repairs += 1;
        self.last = Some((done, now));
        self.repaired.push_back(now);
        while self.repaired.front().is_some_and(|first| now - *first > REPAIR_WINDOW) {
            self.repaired.pop_front();
        }
        if self.repaired.len() >= MAX_REPAIRS {
            self.rests_until = Some(now + REST);
            self.repaired.clear();
        }
    }
}

/// Sets the host's links up and keeps them so.
#[derive(Debug)]
pub struct Links {
    netlink: Netlink,
    /// Absent when the kernel has no ethtool netlink: offloads are left alone then.
    features: Option<Features>,
    /// By link.
    histories: BTreeMap<String, History>,
    reports: Vec<LinkReport>,
}

impl Links {
    /// Opens what is needed to change links in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// No netlink socket can be had.
    pub async fn open() -> Result<Self, NetlinkError> {
        let netlink = Netlink::open()?;
        let features = match Features::open().await {
            Ok(features) => Some(features),
            Err(error) => {
                tracing::warn!(%error, "offloads of network cards are left alone");
                None
            }
        };
        Ok(Self { netlink, features, histories: BTreeMap::new(), reports: Vec::new() })
    }

    /// Makes the host's links what `desired` says, as far as the kernel does it. What it does not
    /// is in the reports.
    ///
    /// # Errors
    ///
    /// The links cannot be read.
    pub async fn reconcile(
        &mut self,
        desired: &LinksPlan,
        occasion: Occasion,
        now: Instant,
    ) -> Result<(), NetlinkError> {
        if occasion == Occasion::Configuration {
            for history in self.histories.values_mut() {
                history.rests_until = None;
                history.repaired.clear();
            }
            self.histories.retain(|name, _| desired.link(name).is_some());
        }
        let mut observed = self.observe(desired).await?;
        let mut repaired: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for _ in 0..MAX_TURNS {
            for history in self.histories.values_mut() {
                history.refused.clear();
            }
            let steps = self.steps(desired, &observed, now);
            if steps.is_empty() {
                break;
            }
            let before = observed;
            for (key, step) in steps {
                match apply::apply(&self.netlink, self.features.as_ref(), &step).await {
                    Ok(()) => {
                        tracing::info!(?occasion, "links: {step}");
                        repaired.entry(key).or_default().push(step.to_string());
                    }
                    Err(error) => {
                        tracing::debug!(%error, "links: cannot {step}");
                        let refused = format!("cannot {step}: {error}");
                        self.histories.entry(key).or_default().refused.push(refused);
                    }
                }
            }
            observed = self.observe(desired).await?;
            if observed == before {
                break;
            }
        }
        if occasion == Occasion::Repair {
            for (key, steps) in repaired {
                tracing::warn!(
                    link = key,
                    "a link was changed by somebody else; {}",
                    steps.join(", ")
                );
                self.histories.entry(key).or_default().note_repair(steps.join(", "), now);
            }
        }
        self.report(desired, &observed, now);
        Ok(())
    }

    /// How each link is, in the plan's order, as it was when it was reconciled last.
    #[must_use]
    pub fn reports(&self) -> &[LinkReport] {
        &self.reports
    }

    async fn observe(&self, desired: &LinksPlan) -> Result<Observed, NetlinkError> {
        read::observe(&self.netlink, self.features.as_ref(), desired).await
    }

    /// The steps to be done, each with the link whose they are; those of links that rest are not.
    fn steps(&self, desired: &LinksPlan, observed: &Observed, now: Instant) -> Vec<(String, Step)> {
        let management = desired.management.as_ref().map(|management| management.link.as_str());
        let keyed = reconcile(desired, observed).into_iter().map(|step| {
            let key = step.link().or(management).unwrap_or_default().to_owned();
            (key, step)
        });
        let rests = |key: &str| self.histories.get(key).is_some_and(|history| history.rests(now));
        keyed.filter(|(key, _)| !rests(key)).collect()
    }

    fn report(&mut self, desired: &LinksPlan, observed: &Observed, now: Instant) {
        let left = self.left(desired, observed);
        let report = |link: &LinkPlan| {
            let history = self.histories.get(&link.name).cloned().unwrap_or_default();
            let mut problems = history.refused.clone();
            if let Some(until) = history.rests_until.filter(|until| now < *until) {
                problems.push(format!(
                    "it was repaired {MAX_REPAIRS} times within {} s, since somebody else changes it: \
                     it is left as it is for {} s, or until the next reload; see who does (`ip monitor`)",
                    REPAIR_WINDOW.as_secs(),
                    (until - now).as_secs()
                ));
                problems.extend(left.get(&link.name).into_iter().flatten().cloned());
            }
            problems.extend(judge(desired, link, observed));
            if self.features.is_none() && link.offloads != Offloads::default() {
                problems.push("this kernel does not let offloads be changed by netlink".to_owned());
            }
            let last_repair = history.last.map(|(done, at)| (done, (now - at).as_secs()));
            LinkReport::new(desired, link, observed, problems, history.repairs, last_repair)
        };
        self.reports = desired.links.iter().map(report).collect();
    }

    /// What would have to be done yet, by link.
    fn left(&self, desired: &LinksPlan, observed: &Observed) -> BTreeMap<String, Vec<String>> {
        let management = desired.management.as_ref().map(|management| management.link.as_str());
        let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for step in reconcile(desired, observed) {
            let key = step.link().or(management).unwrap_or_default().to_owned();
            left.entry(key).or_default().push(format!("not done: {step}"));
        }
        left
    }
}
