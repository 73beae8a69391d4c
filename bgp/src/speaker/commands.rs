//! What the gateway has a speaker do: announce routes of its own, say goodbye, begin anew.

use nvgate_model::{Instant, Prefix};

use super::Speaker;
use super::config::Place;
use super::event::{Clear, PeerIndex};
use super::origins::{Held, OwnRoute};
use super::router::Router;
use crate::attributes::Attributes;
use crate::family::Family;
use crate::notification::{Notification, NotificationReason};
use crate::rib;
use crate::wire::RefreshKind;

impl Speaker {
    /// Announces a route of the place's own for this reason, or replaces its attributes. With an
    /// unspecified next hop each peer gets ours.
    ///
    /// # Errors
    ///
    /// The place has as many prefixes, or as many bytes of attributes, as it may. It is announced
    /// for none of its reasons then.
    pub fn originate(
        &mut self,
        now: Instant,
        place: Place,
        prefix: Prefix,
        reason: OwnRoute,
        attributes: Attributes,
    ) -> Result<(), rib::Refused> {
        let done =
            self.with(place, |router| Some(router.originate(now, prefix, reason, attributes)));
        done.unwrap_or(Ok(()))
    }

    /// Announces a route no longer for this reason; true if it was.
    pub fn retract(
        &mut self,
        now: Instant,
        place: Place,
        prefix: Prefix,
        reason: OwnRoute,
    ) -> bool {
        self.with(place, |router| router.retract(now, prefix, reason)).is_some()
    }

    /// Says of every route that this speaker is about to go (RFC 8326 section 4), or no longer. To
    /// withdraw afterwards is [`stop_all`](Self::stop_all).
    pub fn drain_out(&mut self, draining: bool) {
        self.draining = draining;
        for place in self.places() {
            self.with(place, |router| {
                router.draining = draining;
                let numbers = router.peers.keys().copied().collect();
                router.regroup(&numbers);
                Some(())
            });
        }
    }

    /// Ends every session with this text for the peers' humans (RFC 9003), which takes all routes;
    /// they stay Idle until cleared. Neighbours of ranges would come back: the endpoint takes no
    /// more connections then.
    ///
    /// # Errors
    ///
    /// The text is longer than 255 bytes.
    pub fn stop_all(&mut self, now: Instant, text: &str) -> Result<(), crate::InvalidShutdownText> {
        let reason = NotificationReason::AdministrativeShutdown;
        let notification = Notification::with_text(reason, text)?;
        for place in self.places() {
            self.with(place, |router| {
                let numbers: Vec<u64> = router.peers.keys().copied().collect();
                for number in numbers {
                    router.end_session(now, number, &notification, None);
                }
                Some(())
            });
        }
        Ok(())
    }

    /// Begins a part of the exchange with a peer anew; false if there is no such peer.
    pub fn clear(&mut self, now: Instant, peer: PeerIndex, what: Clear) -> bool {
        self.with(peer.place, |router| router.clear(now, peer.number, what)).is_some()
    }

    pub(super) fn places(&self) -> Vec<Place> {
        self.routers.keys().copied().collect()
    }
}

impl Router {
    fn originate(
        &mut self,
        now: Instant,
        prefix: Prefix,
        reason: OwnRoute,
        attributes: Attributes,
    ) -> Result<(), rib::Refused> {
        self.undecided = true;
        let held = self.policies.origins.insert(prefix, reason, attributes);
        let Held::Route(attributes, number) = held else { return Ok(()) };
        let stored = self.table.originate(prefix, attributes, number, now);
        if stored.is_err() {
            self.table.retract(prefix);
            self.policies.origins.remove_all(prefix);
        }
        stored
    }

    fn retract(&mut self, now: Instant, prefix: Prefix, reason: OwnRoute) -> Option<()> {
        match self.policies.origins.remove(prefix, reason)? {
            Held::Nothing => drop(self.table.retract(prefix)),
            // It takes the place of one that was there; at the bound of attributes it goes.
            Held::Route(attributes, number) => {
                if self.table.originate(prefix, attributes, number, now).is_err() {
                    self.table.retract(prefix);
                    self.policies.origins.remove_all(prefix);
                }
            }
        }
        self.undecided = true;
        Some(())
    }

    fn clear(&mut self, now: Instant, number: u64, what: Clear) -> Option<()> {
        let peer = self.peers.get_mut(&number)?;
        match what {
            Clear::Hard => {
                self.reset_session(now, number, NotificationReason::AdministrativeReset);
            }
            Clear::SoftIn => {
                peer.slot.into_iter().for_each(|slot| self.table.reimport(slot));
                self.ask_for_routes(now, number);
                self.stir();
            }
            Clear::SoftOut => {
                for family in Family::ALL {
                    self.tell_again(now, number, family);
                }
                self.touch(number);
            }
        }
        Some(())
    }

    /// Asks the peer for its routes again, if it understands that (RFC 2918).
    pub(super) fn ask_for_routes(&mut self, now: Instant, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        for family in Family::ALL {
            peer.session.send_refresh(now, family, RefreshKind::Request);
        }
        self.touch(number);
    }
}
