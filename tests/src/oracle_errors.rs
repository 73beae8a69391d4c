//! Counts what is logged at ERROR: in a simulation, that alone is a failure.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

static LOGGED: AtomicU64 = AtomicU64::new(0);

struct Watch;

impl Subscriber for Watch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        println!("logged as an error: {event:?}");
        LOGGED.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Watches this process's logs from now on.
///
/// # Panics
///
/// Somebody else does already.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(Watch).expect("nobody else watches");
    });
}

/// How many errors were logged since [`watch`].
#[must_use]
pub fn logged() -> u64 {
    LOGGED.load(Ordering::Relaxed)
}
