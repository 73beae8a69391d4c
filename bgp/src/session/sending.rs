//! What goes to the peer beside OPENs, and the timers that watch over it.

use std::time::Duration;

use nvgate_model::Instant;

use super::buffer::message_length;
use super::core::Core;
use super::event::{Closing, Connection, LastNotification};
use super::fsm::State;
use super::link::Slot;
use super::timer::Timer;
use crate::family::Family;
use crate::notification::Notification;
use crate::wire::{
    MessageLimit, MessageType, RefreshKind, RouteRefresh, encode_keepalive, encode_notification,
};

/// The shortest send hold time (RFC 9687 section 4).
const SEND_HOLD_MIN: Duration = Duration::from_secs(480);

impl Core {
    /// TCP took bytes.
    pub(super) fn transmitted(&mut self, now: Instant, connection: Connection, bytes: usize) {
        match &mut self.slots[connection.index()] {
            Slot::Open(link) if bytes > 0 => {
                link.output.sent(bytes);
                self.watch_sending(now, connection, true);
            }
            Slot::Lingering(output) => {
                output.sent(bytes);
                if output.is_empty() {
                    self.close(connection, Closing::Finish);
                }
            }
            Slot::Open(_) | Slot::Free | Slot::Closing => {}
        }
    }

    /// A third of the hold time from now, less the jitter.
    pub(super) fn arm_keepalive(&mut self, now: Instant, connection: Connection) {
        let negotiated = self.link(connection).and_then(|link| link.negotiated.as_ref());
        if let Some(third) = negotiated.and_then(|negotiated| negotiated.hold_time.keepalive()) {
            let third = self.jitter.spread(third);
            self.timers.arm(Timer::Keepalive(connection), now + third);
        }
    }

    /// The send hold timer runs while bytes wait; progress starts it anew (RFC 9687 section 3).
    pub(super) fn watch_sending(&mut self, now: Instant, connection: Connection, progress: bool) {
        let Some(link) = self.link(connection).filter(|link| link.state == State::Established)
        else {
            return;
        };
        let timer = Timer::SendHold(connection);
        if link.output.is_empty() {
            self.timers.stop(timer);
        } else if progress || !self.timers.is_armed(timer) {
            let hold =
                link.negotiated.as_ref().and_then(|negotiated| negotiated.hold_time.duration());
            self.timers
                .arm(timer, now + hold.map_or(SEND_HOLD_MIN, |hold| SEND_HOLD_MIN.max(hold * 2)));
        }
    }

    /// The family and kind of a ROUTE-REFRESH that was agreed on; another one is ignored (RFC 2918
    /// section 4, RFC 7313 section 4.2).
    pub(super) fn refreshed(
        &mut self,
        connection: Connection,
        refresh: RouteRefresh,
    ) -> Option<(Family, RefreshKind)> {
        let negotiated = self.link(connection)?.negotiated.as_ref()?;
        let family = refresh.afi_safi.family().filter(|family| {
            negotiated.codec.families[family.index()]
                && match refresh.kind {
                    RefreshKind::Request => true,
                    RefreshKind::Begin | RefreshKind::End => negotiated.enhanced_refresh,
                    RefreshKind::Unknown(_) => false,
                }
        });
        if family.is_none() {
            self.counters.ignored_refreshes += 1;
        }
        Some((family?, refresh.kind))
    }

    /// A KEEPALIVE, unless so much waits that the peer hears of us anyway once it reads.
    pub(super) fn send_keepalive(&mut self, connection: Connection) {
        self.send_control(connection, MessageType::Keepalive, encode_keepalive);
    }

    /// Whether there was room for the message.
    pub(super) fn send_control(
        &mut self,
        connection: Connection,
        kind: MessageType,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(link) = self.link_mut(connection) else { return false };
        let fits = link.output.has_reserve(23);
        if fits {
            link.output.append(encode);
            self.counters.sent.count(kind, 1);
        }
        fits
    }

    pub(super) fn send_last_word(
        &mut self,
        now: Instant,
        connection: Connection,
        owed: &Notification,
    ) {
        self.last_sent = Some(LastNotification::new(now, owed));
        let Some(link) = self.link_mut(connection) else { return };
        link.output.cut();
        link.output.append(|out| encode_notification(owed, MessageLimit::Standard, out));
        self.counters.sent.count(MessageType::Notification, 1);
    }
}

/// How many messages these bytes are.
pub(super) fn count_messages(mut bytes: &[u8]) -> u64 {
    let mut messages = 0;
    while let Some(length) = message_length(bytes) {
        messages += 1;
        bytes = bytes.get(length..).unwrap_or_default();
    }
    messages
}
