//! Routes that outlive their session: the peer's while it restarts, and while it tells them again;
//! and this speaker's own restart, after which a place chooses nothing until its peers have told
//! theirs (RFC 4724 sections 4.1 and 4.2, RFC 7313 section 4).

use std::time::Duration;

use nvgate_model::Instant;

use super::event::{Event, Start};
use super::peer::{Peer, Restart, Stay};
use super::router::Router;
use crate::config::GracefulRestart;
use crate::family::Family;
use crate::rib::Table;
use crate::session::{Down, Negotiated, Restarting};

/// The longest that routes are kept without a session, whatever the peer says.
pub const RESTART_MAX: Duration = Duration::from_secs(600);
/// The longest that stale routes wait for End-of-RIB, or for the end of a refresh.
pub const STALE_MAX: Duration = Duration::from_secs(360);
/// The longest that a restarted speaker waits for its peers.
pub const DEFERRAL_MAX: Duration = Duration::from_secs(120);

/// Where a restart of this speaker's own is, for one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deferral {
    /// There is none.
    None,
    /// Peers tell their routes; nothing is chosen before all did, or before this instant.
    Until(Instant),
    /// Routes are chosen for the first time.
    Deciding,
}

impl Deferral {
    pub(super) fn new(start: Start, now: Instant) -> Self {
        match start {
            Start::Cold => Self::None,
            Start::ForwardingKept => Self::Until(now + DEFERRAL_MAX),
        }
    }

    pub(super) const fn waits(self) -> bool {
        matches!(self, Self::Until(_))
    }
}

impl Peer {
    /// The session ended and leaves routes: those of the families it names are stale now, what was
    /// stale before goes (RFC 4724 section 4.2).
    pub(super) fn keep_routes(&mut self, now: Instant, table: &mut Table, down: &Down) {
        let Some(slot) = self.slot else { return };
        let restart = self.up.as_ref().and_then(|negotiated| negotiated.restart);
        let secs = restart.map_or(0, |restart| restart.restart_time_secs);
        for family in Family::ALL {
            table.remove_stale(slot, family);
            table.mark_stale(slot, family);
            if !down.keeps_routes[family.index()] {
                table.remove_stale(slot, family);
            }
        }
        self.restart.stale = down.keeps_routes;
        self.restart.stale_until = Some(now + RESTART_MAX.min(Duration::from_secs(secs.into())));
        self.restart.refreshed_until = [None; 2];
    }

    /// The session is back: stale routes wait for End-of-RIB where forwarding went on, and go
    /// where it did not.
    pub(super) fn await_end_of_rib(
        &mut self,
        now: Instant,
        table: &mut Table,
        negotiated: &Negotiated,
    ) {
        let Some(slot) = self.slot else { return };
        for family in Family::ALL {
            let place = family.index();
            let kept = negotiated.restart.and_then(|restart| restart.forwarding_kept[place]);
            let waits = negotiated.codec.families[place] && kept == Some(true);
            if self.restart.stale[place] && !waits {
                table.remove_stale(slot, family);
                self.restart.stale[place] = false;
            }
        }
        let any = self.restart.stale.contains(&true);
        self.restart.stale_until = any.then(|| now + STALE_MAX);
    }

    /// All routes of the family were told.
    pub(super) fn end_stale(&mut self, table: &mut Table, family: Family) {
        self.restart.awaited[family.index()] = false;
        let stale = std::mem::take(&mut self.restart.stale[family.index()]);
        if let Some(slot) = self.slot.filter(|_| stale) {
            table.remove_stale(slot, family);
        }
        if !self.restart.stale.contains(&true) {
            self.restart.stale_until = None;
        }
    }

    /// The peer tells all routes of the family again.
    pub(super) fn begin_refresh(&mut self, now: Instant, table: &mut Table, family: Family) {
        if let Some(slot) = self.slot {
            table.mark_stale(slot, family);
            self.restart.refreshed_until[family.index()] = Some(now + STALE_MAX);
        }
    }

    /// It has told them; what it did not tell is gone.
    pub(super) fn end_refresh(&mut self, table: &mut Table, family: Family) {
        let running = self.restart.refreshed_until[family.index()].take().is_some();
        if let Some(slot) = self.slot.filter(|_| running) {
            table.remove_stale(slot, family);
            self.restart.stale[family.index()] = false;
        }
    }

    /// Whether this speaker waits for the peer before it chooses: it is to come back, and has not
    /// told all its routes.
    fn is_awaited(&self) -> bool {
        self.stay == Stay::Configured && self.restart.awaited != [false; 2]
    }
}

impl Restart {
    /// A configured peer that may take part in graceful restart is awaited.
    pub(super) fn await_peer(&mut self, config: &crate::config::PeerConfig) {
        let takes_part = config.graceful_restart != GracefulRestart::Off;
        let awaited = takes_part && config.shutdown.is_none();
        self.awaited = Family::ALL.map(|family| awaited && config.family(family).is_some());
    }

    /// Of the families that were not agreed on nothing is awaited; nor of a peer that restarts
    /// itself, or does not take part.
    pub(super) fn await_agreed(&mut self, negotiated: &Negotiated) {
        let takes_part = negotiated.restart.is_some_and(|restart| !restart.restarting);
        for (awaited, agreed) in self.awaited.iter_mut().zip(negotiated.codec.families) {
            *awaited &= agreed && takes_part;
        }
    }
}

impl Router {
    /// What our OPENs say of a restart.
    pub(super) fn restarting(&self) -> Restarting {
        Restarting {
            waiting: self.deferral.waits(),
            forwarding_kept: [self.start == Start::ForwardingKept; 2],
        }
    }

    /// Begins to choose routes, if nobody is awaited any more or it took too long.
    pub(super) fn check_deferral(&mut self, now: Instant) {
        let Deferral::Until(until) = self.deferral else { return };
        if now < until && self.peers.values().any(Peer::is_awaited) {
            return;
        }
        self.deferral = Deferral::Deciding;
        let restarting = self.restarting();
        for peer in self.peers.values_mut() {
            peer.session.set_restarting(restarting);
        }
        self.wake_tellings();
    }

    /// Routes are chosen: says so, once.
    pub(super) fn end_deferral(&mut self) {
        if self.deferral == Deferral::Deciding {
            self.deferral = Deferral::None;
            self.events.push_back(Event::Restarted(self.place));
        }
    }
}
