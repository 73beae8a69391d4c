//! From a peer's messages into the table: routes, ends and refreshes, within what the peer may.

use std::num::NonZeroU32;

use nvgate_model::Instant;

use super::event::PrefixCount;
use super::policies::Policies;
use crate::config::PeerConfig;
use crate::family::Family;
use crate::notification::{Notification, NotificationReason};
use crate::reaction::{Defect, Reaction};
use crate::rib::{Announced, PeerSlot, Refused, Table};
use crate::wire::Update;

/// What the peer sent, beyond what its session counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IntakeCounters {
    /// UPDATEs with an error that the session survived.
    pub defective_updates: u64,
    /// Those of them whose routes were withdrawn for it (RFC 7606 section 2).
    pub treated_as_withdraw: u64,
    /// The last error.
    pub last_defect: Option<Defect>,
    /// Routes that were not stored, because a bound was reached.
    pub refused_routes: u64,
    /// Why the last of them was not.
    pub last_refusal: Option<Refused>,
    /// UPDATEs of families that were not agreed on.
    pub foreign_updates: u64,
}

/// What a peer may send, and sent.
#[derive(Debug)]
pub(super) struct Intake {
    /// By family.
    bounds: [Option<Bound>; 2],
    /// Refused routes of the session under way.
    refused: u32,
    pub(super) counters: IntakeCounters,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    limit: u32,
    /// So many routes that a warning is due.
    warning: NonZeroU32,
    warned: bool,
}

/// What follows from an UPDATE.
#[derive(Default)]
pub(super) struct Taken {
    /// Routes announced and withdrawn, at least 1.
    pub(super) routes: i64,
    /// A family of which all routes were told.
    pub(super) end_of_rib: Option<Family>,
    /// The session ends for it.
    pub(super) end: Option<Notification>,
    pub(super) warnings: [Option<PrefixCount>; 2],
    /// Whether the table has now exactly what the UPDATE says.
    pub(super) as_it_came: bool,
}

impl Intake {
    pub(super) fn new(config: &PeerConfig) -> Self {
        let mut intake =
            Self { bounds: [None; 2], refused: 0, counters: IntakeCounters::default() };
        intake.configure(config);
        intake
    }

    pub(super) fn configure(&mut self, config: &PeerConfig) {
        for family in Family::ALL {
            let bound = config.family(family).and_then(|family| family.max_prefixes);
            let old = self.bounds[family.index()];
            self.bounds[family.index()] = bound.map(|bound| {
                let at = u64::from(bound.prefixes) * u64::from(bound.warning_percent) / 100;
                let warning = NonZeroU32::new(at as u32).unwrap_or(NonZeroU32::MIN);
                let same = old.filter(|old| (old.limit, old.warning) == (bound.prefixes, warning));
                same.unwrap_or(Bound { limit: bound.prefixes, warning, warned: false })
            });
        }
    }

    /// A session begins.
    pub(super) fn begin(&mut self) {
        self.refused = 0;
        for bound in self.bounds.iter_mut().flatten() {
            bound.warned = false;
        }
    }

    /// Puts an UPDATE of the peer into the table.
    pub(super) fn take(
        &mut self,
        now: Instant,
        slot: PeerSlot,
        update: &Update<'_>,
        table: &mut Table,
        policies: &Policies,
    ) -> Taken {
        let mut taken = Taken { end_of_rib: update.end_of_rib(), ..Taken::default() };
        taken.as_it_came = update.defects().is_empty() && update.foreign_family().is_none();
        self.note_defects(update);
        taken.routes += table.withdraw_all(slot, update.withdrawn()) as i64;
        for group in update.announced() {
            let announced = table.announce(slot, group.attributes, group.routes, now, policies);
            taken.routes += (announced.stored + announced.refused) as i64;
            if announced.refused > 0 {
                taken.as_it_came = false;
                let family = group.routes.family();
                taken.end = taken.end.or(self.refuse(&announced, family, table));
            }
        }
        taken.routes = taken.routes.max(1);
        taken.warnings = Family::ALL.map(|family| self.check_warning(family, slot, table));
        taken
    }

    fn note_defects(&mut self, update: &Update<'_>) {
        if let Some(defect) = update.defects().last() {
            self.counters.defective_updates += 1;
            self.counters.last_defect = Some(defect.clone());
            let withdrawn = update.reaction() == Some(Reaction::TreatAsWithdraw);
            self.counters.treated_as_withdraw += u64::from(withdrawn);
        }
        self.counters.foreign_updates += u64::from(update.foreign_family().is_some());
    }

    /// Counts refused routes; what the session ends with if they are the peer's own fault, or too
    /// many.
    fn refuse(
        &mut self,
        announced: &Announced,
        family: Family,
        table: &Table,
    ) -> Option<Notification> {
        self.counters.refused_routes += announced.refused as u64;
        self.counters.last_refusal = announced.cause;
        self.refused = self.refused.saturating_add(announced.refused as u32);
        let bound = self.bounds[family.index()];
        match announced.cause? {
            Refused::PeerPrefixes => Some(maximum_prefixes(family, bound.map_or(0, |b| b.limit))),
            Refused::Paths | Refused::TablePrefixes | Refused::TableBytes => (self.refused
                >= table.limits().prefixes)
                .then(|| Notification::new(NotificationReason::OutOfResources, &[])),
        }
    }

    /// What the session ends with if the peer has more routes than its bound allows now.
    pub(super) fn excess(&self, slot: PeerSlot, table: &Table) -> Option<Notification> {
        let over = |family: &Family| {
            let bound = self.bounds[family.index()]?;
            (table.route_count(slot, *family) > bound.limit).then_some(bound.limit)
        };
        let (family, limit) = Family::ALL.into_iter().find_map(|f| Some((f, over(&f)?)))?;
        Some(maximum_prefixes(family, limit))
    }

    fn check_warning(
        &mut self,
        family: Family,
        slot: PeerSlot,
        table: &Table,
    ) -> Option<PrefixCount> {
        let bound = self.bounds[family.index()].as_mut()?;
        let routes = table.route_count(slot, family);
        let is_due = routes >= bound.warning.get();
        let is_new = is_due && !std::mem::replace(&mut bound.warned, is_due);
        is_new.then_some(PrefixCount { routes, limit: bound.limit })
    }
}

/// The data is the family and the bound (RFC 4486 section 4).
fn maximum_prefixes(family: Family, limit: u32) -> Notification {
    let afi_safi = family.afi_safi();
    let [high, low] = afi_safi.afi.to_be_bytes();
    let [a, b, c, d] = limit.to_be_bytes();
    Notification::new(NotificationReason::MaximumPrefixes, &[high, low, afi_safi.safi, a, b, c, d])
}
