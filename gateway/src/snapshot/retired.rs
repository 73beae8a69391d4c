//! Snapshots that others replaced.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Snapshot;

/// Replaced snapshots that somebody still has, no more than there are threads that load them. They are
/// freed here, on the publisher's side, and never by a worker between two packets.
#[derive(Debug, Default)]
pub struct Retired(Vec<Arc<Snapshot>>);

impl Retired {
    /// Publishes a snapshot and keeps the one before.
    pub fn replace(&mut self, published: &ArcSwap<Snapshot>, snapshot: Snapshot) {
        self.0.push(published.swap(Arc::new(snapshot)));
        self.free();
    }

    /// Frees those that nobody else has any more.
    pub fn free(&mut self) {
        self.0.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }
}
