//! Placeholder.

pub mod admin;
pub mod counters;
