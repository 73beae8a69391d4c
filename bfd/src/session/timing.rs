//! Intervals and Poll Sequences (6.5, 6.8.2, 6.8.3): what is advertised, and what holds already.
//!
//! New values are advertised at once. What could make a side expire falsely while Up, sending more
//! slowly or waiting more briefly, holds only when a Poll Sequence that began after the change has
//! ended; everything else holds at once. A change during a Poll Sequence asks for another one, which
//! begins after a packet without Final, or some time, so that its Final is told from the last.

use std::time::Duration;

use nvgate_model::Instant;

use crate::wire::State;

/// What 6.8.3 asks for as "at least a round trip" between two Poll Sequences, when no packet
/// without Final comes earlier.
const SETTLING: Duration = Duration::from_secs(1);

/// The two intervals that we choose, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Intervals {
    /// Desired Min TX Interval.
    pub(super) transmit: u32,
    /// Required Min RX Interval.
    pub(super) receive: u32,
}

/// Where the Poll Sequence is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Poll {
    Idle,
    /// The next periodic packet begins it.
    Wanted,
    /// Packets carry Poll; `changed` if the values are not those of the first any more.
    Running {
        changed: bool,
    },
    /// The Final was there; another sequence has to wait.
    Settling {
        until: Instant,
        wanted: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    advertised: Intervals,
    in_force: Intervals,
    poll: Poll,
}

impl Timing {
    pub(super) const fn new(intervals: Intervals) -> Self {
        Self { advertised: intervals, in_force: intervals, poll: Poll::Idle }
    }

    pub(super) const fn advertised(&self) -> Intervals {
        self.advertised
    }

    pub(super) const fn in_force(&self) -> Intervals {
        self.in_force
    }

    /// Whether periodic packets carry Poll.
    pub(super) const fn is_polling(&self) -> bool {
        matches!(self.poll, Poll::Wanted | Poll::Running { .. })
    }

    /// Takes new values, or the same ones in a new state.
    pub(super) fn change(&mut self, wanted: Intervals, state: State) {
        if wanted != self.advertised {
            self.advertised = wanted;
            self.request_poll();
        }
        self.in_force = match state {
            State::Up => Intervals {
                transmit: self.in_force.transmit.min(wanted.transmit),
                receive: self.in_force.receive.max(wanted.receive),
            },
            State::AdminDown | State::Down | State::Init => wanted,
        };
    }

    pub(super) const fn request_poll(&mut self) {
        self.poll = match self.poll {
            Poll::Idle | Poll::Wanted => Poll::Wanted,
            Poll::Running { .. } => Poll::Running { changed: true },
            Poll::Settling { until, .. } => Poll::Settling { until, wanted: true },
        };
    }

    /// A periodic packet leaves; returns whether it carries Poll.
    pub(super) const fn handle_periodic(&mut self) -> bool {
        if matches!(self.poll, Poll::Wanted) {
            self.poll = Poll::Running { changed: false };
        }
        matches!(self.poll, Poll::Running { .. })
    }

    /// A packet has arrived, with Final or without.
    pub(super) fn handle_packet(&mut self, now: Instant, is_final: bool) {
        self.poll = match self.poll {
            Poll::Running { changed } if is_final => {
                if !changed {
                    self.in_force = self.advertised;
                }
                Poll::Settling { until: now + SETTLING, wanted: changed }
            }
            Poll::Settling { wanted, .. } if !is_final => Self::settled(wanted),
            poll @ (Poll::Idle | Poll::Wanted | Poll::Running { .. } | Poll::Settling { .. }) => {
                poll
            }
        };
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Poll::Settling { until, wanted } = self.poll
            && until <= now
        {
            self.poll = Self::settled(wanted);
        }
    }

    /// When another Poll Sequence may begin, if one has to wait.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        match self.poll {
            Poll::Settling { until, wanted: true } => Some(until),
            Poll::Settling { wanted: false, .. }
            | Poll::Idle
            | Poll::Wanted
            | Poll::Running { .. } => None,
        }
    }

    const fn settled(wanted: bool) -> Poll {
        if wanted { Poll::Wanted } else { Poll::Idle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000_000_000);

    const fn intervals(transmit: u32, receive: u32) -> Intervals {
        Intervals { transmit, receive }
    }

    /// Up with 100 ms both ways.
    fn up() -> Timing {
        Timing::new(intervals(100_000, 100_000))
    }

    #[test]
    fn sending_slower_and_waiting_shorter_hold_after_the_poll_sequence_while_up() {
        let mut timing = up();
        timing.change(intervals(300_000, 50_000), State::Up);
        assert_eq!(timing.advertised(), intervals(300_000, 50_000));
        assert_eq!(timing.in_force(), intervals(100_000, 100_000));
        assert!(timing.handle_periodic());
        timing.handle_packet(NOW, false);
        assert_eq!(timing.in_force(), intervals(100_000, 100_000));
        timing.handle_packet(NOW, true);
        assert_eq!(timing.in_force(), intervals(300_000, 50_000));
        assert!(!timing.handle_periodic());
    }

    #[test]
    fn sending_faster_and_waiting_longer_hold_at_once() {
        let mut timing = up();
        timing.change(intervals(50_000, 300_000), State::Up);
        assert_eq!(timing.in_force(), intervals(50_000, 300_000));
        assert!(timing.is_polling());
    }

    #[test]
    fn everything_holds_at_once_while_not_up() {
        for state in [State::AdminDown, State::Down, State::Init] {
            let mut timing = up();
            timing.change(intervals(300_000, 50_000), state);
            assert_eq!(timing.in_force(), intervals(300_000, 50_000));
            assert!(timing.is_polling());
        }
    }

    #[test]
    fn a_final_that_nobody_asked_for_confirms_nothing() {
        let mut timing = up();
        timing.change(intervals(300_000, 100_000), State::Up);
        timing.handle_packet(NOW, true);
        assert_eq!(timing.in_force(), intervals(100_000, 100_000));
        assert!(timing.is_polling());
    }

    #[test]
    fn changes_before_the_first_poll_leaves_share_one_sequence() {
        let mut timing = up();
        timing.change(intervals(300_000, 100_000), State::Up);
        timing.change(intervals(300_000, 50_000), State::Up);
        assert!(timing.handle_periodic());
        timing.handle_packet(NOW, true);
        assert_eq!(timing.in_force(), intervals(300_000, 50_000));
        timing.handle_packet(NOW, false);
        assert!(!timing.is_polling());
    }

    #[test]
    fn a_change_during_a_sequence_needs_one_of_its_own_after_a_packet_without_final() {
        let mut timing = up();
        timing.change(intervals(300_000, 100_000), State::Up);
        assert!(timing.handle_periodic());
        timing.change(intervals(500_000, 100_000), State::Up);
        timing.handle_packet(NOW, true);
        assert_eq!(timing.in_force(), intervals(100_000, 100_000));
        assert!(!timing.handle_periodic(), "the two sequences could not be told apart");
        timing.handle_packet(NOW, true);
        assert!(!timing.handle_periodic());
        timing.handle_packet(NOW, false);
        assert!(timing.handle_periodic());
        timing.handle_packet(NOW, true);
        assert_eq!(timing.in_force(), intervals(500_000, 100_000));
    }

    #[test]
    fn another_sequence_waits_a_second_at_most() {
        let mut timing = up();
        timing.change(intervals(300_000, 100_000), State::Up);
        assert!(timing.handle_periodic());
        timing.handle_packet(NOW, true);
        assert_eq!(timing.poll_timeout(), None);
        timing.request_poll();
        assert_eq!(timing.poll_timeout(), Some(NOW + SETTLING));
        timing.handle_timeout(Instant((NOW + SETTLING).0 - 1));
        assert!(!timing.is_polling());
        timing.handle_timeout(NOW + SETTLING);
        assert!(timing.is_polling());
    }
}
