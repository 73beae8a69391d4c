//! What a session tells: events, state and counters.

use std::num::NonZeroU32;
use std::time::Duration;

use nvgate_model::Instant;

use crate::discard::DiscardCounters;
use crate::wire::{Diagnostic, State};

/// Something that whoever relies on a session has to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// Packets pass both ways.
    Up,
    /// They did, and do so no more or are no longer watched.
    Down(DownReason),
}

/// Why a session left Up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownReason {
    /// Nothing arrived for the detection time.
    DetectionTimeExpired,
    /// The neighbour reports Down, with its diagnostic: it does not hear us, or has restarted.
    NeighborDown(Diagnostic),
    /// The neighbour has taken BFD down by command: no sign of a failure (RFC 5882 section 3.2).
    NeighborAdminDown(Diagnostic),
    /// We have.
    Administrative,
}

impl DownReason {
    /// The name, as metrics and status show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DetectionTimeExpired => "detection_time_expired",
            Self::NeighborDown(_) => "neighbor_down",
            Self::NeighborAdminDown(_) => "neighbor_admin_down",
            Self::Administrative => "administrative",
        }
    }
}

/// Events not told yet. A session that went Down and came back tells both, in this order; of
/// several rounds only the last is told, so nothing piles up and no Down is lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PendingEvents {
    down: Option<DownReason>,
    up: bool,
}

impl PendingEvents {
    pub(crate) const fn push(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Up => self.up = true,
            SessionEvent::Down(reason) => *self = Self { down: Some(reason), up: false },
        }
    }

    pub(crate) fn pop(&mut self) -> Option<SessionEvent> {
        match self.down.take() {
            Some(reason) => Some(SessionEvent::Down(reason)),
            None => std::mem::take(&mut self.up).then_some(SessionEvent::Up),
        }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.down.is_none() && !self.up
    }
}

/// What a session has counted since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionCounters {
    /// Packets that were accepted.
    pub packets_in: u64,
    /// Packets that were sent.
    pub packets_out: u64,
    /// Packets that were discarded.
    pub discards: DiscardCounters,
    /// Changes of the local state.
    pub state_changes: u64,
    /// Times that the session left Up.
    pub downs: u64,
    /// Times that silence was excused by our own absence (see [`Sessions`](crate::Sessions)).
    pub excused: u64,
}

/// A session as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionStatus {
    /// Our state.
    pub state: State,
    /// The state that the neighbour reported last, Down once it is forgotten.
    pub remote_state: State,
    /// Why our state changed last, as the neighbour is told.
    pub diagnostic: Diagnostic,
    /// What the neighbour said last about its own.
    pub remote_diagnostic: Diagnostic,
    /// Why the session last left Up.
    pub last_down: Option<DownReason>,
    /// Our discriminator.
    pub local_discriminator: NonZeroU32,
    /// The neighbour's, if it is known.
    pub remote_discriminator: Option<NonZeroU32>,
    /// Between two packets of ours, before jitter; none while none are sent periodically.
    pub transmit_interval: Option<Duration>,
    /// How long the neighbour may be silent; none while it is unknown.
    pub detection_time: Option<Duration>,
    /// Since when the session is Up.
    pub up_since: Option<Instant>,
    /// When the state changed last, or the session was opened.
    pub changed: Instant,
    /// What was counted.
    pub counters: SessionCounters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_down_is_lost_and_nothing_piles_up() {
        let (up, down) = (SessionEvent::Up, SessionEvent::Down(DownReason::Administrative));
        let told = |happened: &[SessionEvent]| {
            let mut pending = PendingEvents::default();
            happened.iter().for_each(|event| pending.push(*event));
            let told: Vec<SessionEvent> = std::iter::from_fn(|| pending.pop()).collect();
            assert!(pending.is_empty());
            told
        };
        assert_eq!(told(&[up]), [up]);
        assert_eq!(told(&[up, down]), [down]);
        assert_eq!(told(&[down, up]), [down, up]);
        assert_eq!(told(&[down, up, down, up, down, up]), [down, up]);
    }
}
