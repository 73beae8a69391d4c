//! Placeholder.

pub mod admin;
pub mod cli;
pub mod counters;
pub mod demo;
