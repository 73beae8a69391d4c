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
