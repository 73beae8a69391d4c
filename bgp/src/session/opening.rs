//! OPENs: ours, the peer's, and which of two connections goes on with them.

use std::sync::Arc;
use std::time::Duration;

use nvgate_model::Instant;

use super::collision::{Rank, survivor};
use super::core::Core;
use super::ending::Fact;
use super::event::{Connection, Direction};
use super::fsm::{Event, State};
use super::negotiate::{local_open, negotiate};
use crate::notification::{Notification, NotificationReason};
use crate::wire::{MessageType, Open, encode_open};

/// A connection whose OPEN comes so soon after another one was established is one that the peer began
/// before it knew of that; who really restarts as soon is refused and tries again.
const CROSSING: Duration = Duration::from_secs(5);

impl Core {
    /// The OPEN of the peer, with its bytes.
    pub(super) fn opened(
        &mut self,
        now: Instant,
        connection: Connection,
        open: &Open,
        bytes: &[u8],
    ) {
        let Some(link) = self.link(connection) else { return };
        // Only an awaited OPEN is looked at; any other is unexpected.
        let (Some((local, local_bytes)), Some(endpoints), State::OpenSent) =
            (&link.open, link.endpoints, link.state)
        else {
            let fact = Fact::Message(MessageType::Open);
            return self.happen(now, connection, Event::Open, fact);
        };
        let agreed = negotiate(&self.config, endpoints, (local, local_bytes), (open, bytes));
        let negotiated = match agreed {
            Ok(negotiated) => negotiated,
            Err(reset) => {
                let fact = Fact::Owed(reset.notification);
                return self.happen(now, connection, Event::Fault, fact);
            }
        };
        let local = Rank { identifier: local.identifier, asn: local.asn };
        let remote = Rank { identifier: open.identifier, asn: open.asn };
        if self.resolve_collision(now, connection, survivor(local, remote)) {
            if let Some(link) = self.link_mut(connection) {
                link.negotiated = Some(Arc::new(negotiated));
                link.open = None;
            }
            self.happen(now, connection, Event::Open, Fact::Message(MessageType::Open));
        }
    }

    /// Whether the connection goes on, now that its OPEN is there (RFC 4271 section 6.8, RFC 4724
    /// section 5).
    fn resolve_collision(
        &mut self,
        now: Instant,
        connection: Connection,
        stays: Direction,
    ) -> bool {
        let other = connection.other();
        let (Some(new), Some(old)) = (self.link(connection), self.link(other)) else { return true };
        let restart = old.negotiated.as_ref().is_some_and(|old| old.restart.is_some());
        let (goes, event, fact) = match old.state {
            State::Established
                if restart
                    && new.is_late
                    && new.direction == Direction::Incoming
                    && self.established_at().is_some_and(|since| now.since(since) >= CROSSING) =>
            {
                (other, Event::PeerRestarted, Fact::Nothing)
            }
            State::Established => (connection, Event::CollisionDump, collision()),
            // Of two that the peer opened, it means the later one.
            State::OpenConfirm if new.direction == old.direction || new.direction == stays => {
                (other, Event::CollisionDump, collision())
            }
            State::OpenConfirm => (connection, Event::CollisionDump, collision()),
            State::Idle | State::Active | State::Connect | State::OpenSent => return true,
        };
        self.happen(now, goes, event, fact);
        goes != connection
    }

    pub(super) fn send_open(&mut self, connection: Connection) {
        let mut restarting = self.restarting;
        if self.counters.established > 0 {
            // Forwarding by what this session once announced outlives it.
            restarting.forwarding_kept = [true; 2];
        }
        let open = local_open(&self.config, restarting);
        let Some(link) = self.link_mut(connection) else { return };
        let mut encoded = Ok(());
        let bytes = link.output.append(|out| encoded = encode_open(&open, out));
        let bytes = bytes.into();
        encoded.expect("the capabilities of two families fit an OPEN");
        link.receive_limit = open.longest_message();
        link.open = Some((open, bytes));
        self.counters.sent.count(MessageType::Open, 1);
    }
}

fn collision() -> Fact {
    Fact::Owed(Notification::new(NotificationReason::ConnectionCollision, &[]))
}
