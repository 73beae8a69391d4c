//! The gateway: composes the crates and is the `nvgate` binary.

pub mod admin;
pub mod appliance;
pub mod cli;
pub mod control;
pub mod counters;
pub mod demo;
pub mod dispatch;
pub mod endpoint;
pub mod io;
pub mod kernel;
pub mod peering;
pub mod seed;
pub mod snapshot;
pub mod worker;
