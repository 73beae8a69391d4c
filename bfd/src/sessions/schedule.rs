//! When which session is due: an ordered set, so that the next one of thousands is at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use nvgate_model::Instant;

/// Sessions by the instant that each is due.
#[derive(Clone, Debug, Default)]
pub(super) struct Schedule {
    queue: BTreeSet<(Instant, NonZeroU32)>,
    armed: BTreeMap<NonZeroU32, Instant>,
}

impl Schedule {
    /// Sets or clears when a session is due.
    pub(super) fn set(&mut self, session: NonZeroU32, due: Option<Instant>) {
        if self.armed.get(&session).copied() == due {
            return;
        }
        let before = match due {
            Some(due) => {
                self.queue.insert((due, session));
                self.armed.insert(session, due)
            }
            None => self.armed.remove(&session),
        };
        if let Some(before) = before {
            self.queue.remove(&(before, session));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The one that has been due for longest, no longer in the schedule.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<NonZeroU32> {
        let (_, session) = self.queue.first().copied().filter(|(due, _)| *due <= now)?;
        self.set(session, None);
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_is_due_once_at_the_instant_set_last() {
        let id = |number| NonZeroU32::new(number).unwrap();
        let mut schedule = Schedule::default();
        for (session, due) in [(1, 50), (2, 30), (1, 10), (3, 20), (3, 40)] {
            schedule.set(id(session), Some(Instant(due)));
        }
        schedule.set(id(2), None);
        assert_eq!(schedule.next(), Some(Instant(10)));
        assert_eq!(schedule.take_due(Instant(39)), Some(id(1)));
        assert_eq!(schedule.take_due(Instant(39)), None);
        assert_eq!(schedule.take_due(Instant(40)), Some(id(3)));
        assert_eq!(schedule.next(), None);
        assert!(schedule.queue.is_empty() && schedule.armed.is_empty());
    }
}
