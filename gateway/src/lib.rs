//! Placeholder.

pub mod counters;
