//! When the host's links are looked after: at the start, at a reload, soon after the kernel says that
//! something changed, and now and then. Without `links` in gateway.yaml never.

use std::future::pending;
use std::time::{Duration, Instant};

use nvgate_deploy::host::NetlinkError;
use nvgate_deploy::host::links::{LinkReport, Links, Occasion};
use nvgate_deploy::plan::LinksPlan;

use super::Control;
use crate::admin::health::Component;

/// How long changes are collected before the links are looked at.
const COLLECT: Duration = Duration::from_millis(100);

/// The host's links while gateway.yaml describes some.
#[derive(Debug, Default)]
pub(super) struct HostLinks {
    links: Option<Links>,
    /// When they are to be looked at.
    due: Option<Instant>,
}

impl HostLinks {
    /// Sets up what is described.
    pub(super) async fn set_up(desired: Option<&LinksPlan>) -> Result<Self, NetlinkError> {
        let mut host = Self::default();
        host.follow(desired).await?;
        Ok(host)
    }

    /// Changes from what was described to `desired`. When nothing is described any more all links
    /// stay as they are.
    pub(super) async fn follow(&mut self, desired: Option<&LinksPlan>) -> Result<(), NetlinkError> {
        let Some(desired) = desired else {
            *self = Self::default();
            return Ok(());
        };
        let links = match &mut self.links {
            Some(links) => links,
            none => none.insert(Links::open().await?),
        };
        links.reconcile(desired, Occasion::Configuration, Instant::now()).await
    }

    /// Puts right what somebody else changed.
    pub(super) async fn repair(&mut self, desired: Option<&LinksPlan>) -> Result<(), NetlinkError> {
        self.due = None;
        match (&mut self.links, desired) {
            (Some(links), Some(desired)) => {
                links.reconcile(desired, Occasion::Repair, Instant::now()).await
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// Notes that the kernel said something about its network.
    pub(super) fn note_event(&mut self) {
        if self.links.is_some() {
            self.due.get_or_insert_with(|| Instant::now() + COLLECT);
        }
    }

    /// Done when the links are to be looked at.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due.into()).await,
            None => pending().await,
        }
    }

    /// Whether there are links to look after.
    pub(super) const fn described(&self) -> bool {
        self.links.is_some()
    }

    /// How each link is.
    pub(super) fn reports(&self) -> &[LinkReport] {
        self.links.as_ref().map_or(&[], Links::reports)
    }
}

impl Control {
    /// Puts right what somebody else changed of the host's links.
    pub(super) async fn look_after_links(&mut self) {
        let plan = self.shared.plan.load_full();
        let looked = self.host_links.repair(plan.gateway.links.as_ref()).await;
        self.note_links(looked);
    }

    pub(super) fn note_links(&self, outcome: Result<(), NetlinkError>) {
        const NAME: &str = "links";
        self.shared.note_links(self.host_links.reports());
        self.shared.note(match outcome {
            Ok(()) => Component::ok(NAME),
            Err(error) => Component::degraded(NAME, format!("cannot be watched: {error}")),
        });
    }
}
