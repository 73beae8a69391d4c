//! A place's turn: messages in, decisions, sweeps, changes out, each bounded.

use std::time::Duration;

use nvgate_model::Instant;

use super::monitor::{Monitored, made_of};
use super::peer::{EVENTS_MAX, Peer};
use super::router::Router;
use crate::family::Family;
use crate::notification::{Notification, NotificationReason};
use crate::session::{Malformed, Received, Wrong};
use crate::wire::RefreshKind;

/// Routes that a place takes in a turn: its share before other places have theirs.
pub const TURN_QUANTUM: usize = 1024;
/// Routes that a peer may hand in before other peers of its place.
const PEER_QUANTUM: i64 = 256;
/// Prefixes decided in a turn: more than come in, so that what sweeps find is decided too.
const DECISIONS: usize = 2 * TURN_QUANTUM;
/// How long a peer that used up what its place may hold is left alone.
const RESOURCES_PAUSE: Duration = Duration::from_secs(300);

/// What a message asks for beyond the table.
enum Asked {
    Nothing,
    /// The session's own messages: its state may have changed.
    Absorb,
    /// The session ends with this.
    End(Notification),
    Refresh(Family, RefreshKind),
    EndOfRib(Family),
}

impl Router {
    /// One turn. Places that have more to do say so by [`has_work`](Self::has_work).
    pub(super) fn turn(&mut self, now: Instant) {
        self.read_all(now);
        if !self.deferral.waits() && self.undecided {
            self.undecided = self.table.decide(DECISIONS, &self.policies);
        }
        if self.sweeping {
            self.table.record_swept(self.monitored.is_some());
            self.sweeping = self.table.sweep(&self.policies);
            self.note_swept();
            self.undecided = true;
            if !self.sweeping {
                self.wake_tellings();
            }
        }
        if self.deferral.waits() {
            return;
        }
        self.note_changes();
        self.tell(now);
        if !self.undecided && !self.sweeping {
            self.end_deferral();
        }
    }

    /// Reads from peers, one after another, until the place's share is used up.
    fn read_all(&mut self, now: Instant) {
        self.deficit = (self.deficit + TURN_QUANTUM as i64).min(TURN_QUANTUM as i64);
        while self.deficit > 0 {
            let tokens = self.bucket.as_mut().map_or(i64::MAX, |bucket| bucket.fill(now));
            if tokens <= 0 {
                return;
            }
            let Some(number) = self.inbox.pop_front() else { return };
            if let Some(peer) = self.peers.get_mut(&number) {
                peer.queued.inbox = false;
            }
            let spent = self.read(now, number, PEER_QUANTUM.min(tokens));
            self.deficit -= spent.max(1);
            if let Some(bucket) = &mut self.bucket {
                bucket.spend(spent);
            }
            self.note_messages(number);
            self.touch(number);
        }
    }

    /// Reads from a peer until it handed in so many routes; how many it did.
    fn read(&mut self, now: Instant, number: u64, budget: i64) -> i64 {
        let mut spent = 0;
        while spent < budget {
            let Some(peer) = self.peers.get_mut(&number) else { break };
            let mut asked = Asked::Absorb;
            let mut warnings = [None; 2];
            let mut malformed = None;
            let Peer { index, session, intake, slot, up, .. } = peer;
            match session.poll_message(now) {
                Some(Received::Update(update, message)) => {
                    asked = Asked::Nothing;
                    if let Some(slot) = *slot {
                        let (table, policies) = (&mut self.table, &self.policies);
                        let taken = intake.take(now, slot, &update, table, policies);
                        spent += taken.routes;
                        warnings = taken.warnings;
                        asked = match (taken.end, taken.end_of_rib) {
                            (Some(end), _) => Asked::End(end),
                            (None, Some(family)) => Asked::EndOfRib(family),
                            (None, None) => Asked::Nothing,
                        };
                        self.undecided = true;
                        malformed = update
                            .defects()
                            .last()
                            .map(|defect| Malformed::new(Wrong::Update(defect.clone()), message));
                        if let (Some(pending), Some(up)) = (&mut self.monitored, up) {
                            let updates = match taken.as_it_came {
                                true => message.into(),
                                false => made_of(&update, &self.table, slot, &up.codec),
                            };
                            pending.push(Monitored::Update(*index, updates));
                        }
                    } else {
                        spent += 1;
                    }
                }
                Some(Received::Refresh(family, kind)) => {
                    spent += 1;
                    asked = Asked::Refresh(family, kind);
                }
                None => {}
            }
            for (family, count) in Family::ALL.into_iter().zip(warnings) {
                count.into_iter().for_each(|count| peer.warn(family, count));
            }
            malformed.into_iter().for_each(|malformed| peer.report(malformed));
            match asked {
                Asked::Nothing => {}
                Asked::Absorb => {
                    let waits = self.peers.get(&number).is_some_and(|p| p.session.has_message());
                    if !self.absorb(now, number) || !waits {
                        break;
                    }
                }
                Asked::End(notification) => self.end_for_routes(now, number, &notification),
                Asked::Refresh(family, kind) => self.refresh(now, number, family, kind),
                Asked::EndOfRib(family) => self.end_of_rib(now, number, family),
            }
        }
        spent
    }

    /// Handles messages of a session that is on the way to be established; routes are for turns.
    pub(super) fn open_up(&mut self, now: Instant, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if peer.up.is_none() && peer.session.has_message() {
            // None of a session that is not established, or just now.
            let message = peer.session.poll_message(now);
            debug_assert!(message.is_none(), "a message before its session: {message:?}");
        }
        self.absorb(now, number);
    }

    /// The peer's session has something to tell that found no place before.
    pub(super) fn ask_again(&mut self, number: u64) {
        if let Some(peer) = self.peers.get_mut(&number)
            && !std::mem::replace(&mut peer.queued.inbox, true)
        {
            self.inbox.push_back(number);
        }
    }

    /// Puts the peer where those stand whose messages wait.
    pub(super) fn note_messages(&mut self, number: u64) {
        // With its events full, the session gives nothing before they are taken.
        let waits = |peer: &Peer| peer.session.has_message() && peer.events.len() < EVENTS_MAX;
        if self.peers.get(&number).is_some_and(waits) {
            self.ask_again(number);
        }
    }

    /// The session ends because of its routes. It is tried again as configured, or after a pause.
    pub(super) fn end_for_routes(
        &mut self,
        now: Instant,
        number: u64,
        notification: &Notification,
    ) {
        let Some(peer) = self.peers.get(&number) else { return };
        let again = if notification.reason == NotificationReason::MaximumPrefixes {
            let config = peer.session.config();
            let bounds = Family::ALL.into_iter().filter_map(|family| config.family(family));
            let secs = bounds.filter_map(|family| family.max_prefixes?.restart_secs).max();
            secs.map(|secs| Duration::from_secs(secs.into()))
        } else {
            Some(RESOURCES_PAUSE)
        };
        self.end_session(now, number, notification, again);
    }

    fn end_of_rib(&mut self, now: Instant, number: u64, family: Family) {
        if let Some(peer) = self.peers.get_mut(&number) {
            peer.end_stale(&mut self.table, family);
            self.stir();
            self.check_deferral(now);
        }
    }

    fn refresh(&mut self, now: Instant, number: u64, family: Family, kind: RefreshKind) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        match kind {
            RefreshKind::Request => self.tell_again(now, number, family),
            RefreshKind::Begin => peer.begin_refresh(now, &mut self.table, family),
            RefreshKind::End => {
                peer.end_refresh(&mut self.table, family);
                self.stir();
            }
            RefreshKind::Unknown(_) => {}
        }
    }
}
