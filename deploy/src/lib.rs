//! How a gateway comes to be: from YAML to a proven plan, and from the host's kernel to a view of
//! its links, routes and neighbours.
//!
//! Only this crate knows YAML, and only [`host`] knows netlink. A [`plan::Plan`] that exists is
//! valid; nothing validates after it.

pub mod diff;
pub mod host;
pub mod host_admin;
pub mod in_effect;
pub mod keys;
pub mod lease;
pub mod plan;
pub mod schema;
pub mod seed;
pub mod update;
