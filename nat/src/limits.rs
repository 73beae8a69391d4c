//! Budgets that hold exactly although several workers draw on them.
//!
//! A budget is one atomic counter that is touched only when a session opens or closes, never for a
//! packet in between. What is reserved is released by dropping the [`Reservation`], so a session
//! cannot end without giving back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A number of sessions that may exist at once: a tenant's, or a customer address's.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU32,
    limit: AtomicU32,
}

impl Budget {
    /// A budget of `limit` sessions.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { used: AtomicU32::new(0), limit: AtomicU32::new(limit) }
    }

    /// Changes the limit. Sessions above a lowered limit stay; new ones wait until enough closed.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sessions that hold a reservation.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Reserves one session, if the limit allows it. However many workers ask at once, never more
    /// than the limit are held.
    #[must_use]
    pub fn reserve(self: &Arc<Self>) -> Option<Reservation> {
        let limit = self.limit();
        // Relaxed: the counter publishes no other memory.
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < limit).then(|| used + 1)
            })
            .ok()
            .map(|_| Reservation(Arc::clone(self)))
    }
}

/// One session's share of a [`Budget`], released on drop.
#[derive(Debug)]
pub struct Reservation(Arc<Budget>);

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_however_many_ask_at_once() {
        const LIMIT: u32 = 50;
        const THREADS: u32 = 8;
        const ROUNDS: u32 = 2_000;
        let budget = Arc::new(Budget::new(LIMIT));
        let (held, granted) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    for round in 0..ROUNDS {
                        if let Some(reservation) = budget.reserve() {
                            granted.fetch_add(1, Ordering::Relaxed);
                            assert!(held.fetch_add(1, Ordering::SeqCst) < LIMIT);
                            mine.push(reservation);
                        }
                        if round % 3 == 0 || mine.len() > 10 {
                            held.fetch_sub(mine.len() as u32, Ordering::SeqCst);
                            mine.clear();
                        }
                    }
                    held.fetch_sub(mine.len() as u32, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(budget.used(), 0);
        assert!(granted.into_inner() >= LIMIT);
    }

    #[test]
    fn all_of_a_budget_can_be_reserved_at_once_and_not_one_more() {
        let budget = Arc::new(Budget::new(1_000));
        let granted = AtomicU32::new(0);
        let kept = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(reservation) = budget.reserve() {
                        granted.fetch_add(1, Ordering::Relaxed);
                        kept.lock().unwrap().push(reservation);
                    }
                });
            }
        });
        assert_eq!((granted.into_inner(), budget.used()), (1_000, 1_000));
        kept.lock().unwrap().clear();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_lowered_limit_keeps_what_is_held_and_refuses_more() {
        let budget = Arc::new(Budget::new(3));
        let mut held: Vec<_> = std::iter::repeat_with(|| budget.reserve()).take(3).collect();
        budget.set_limit(2);
        held.pop();
        assert!(budget.reserve().is_none());
        assert_eq!((budget.used(), budget.limit()), (2, 2));
        held.pop();
        assert!(budget.reserve().is_some());
    }
}
