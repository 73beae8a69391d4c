//! The bytes of one packet: a view with headroom, its headers, and what may be done to them.
//!
//! Sans-IO. Nothing here knows a tenant, a table or a port; callers are `nvgre`, `nat` and the
//! gateway's dispatcher.

pub mod buf;
pub mod checksum;
pub mod flow_key;
pub mod fragment;
pub mod headers;
pub mod icmp;
pub mod renumber;
pub mod rewrite;
pub mod segment;
pub mod udp;

#[cfg(test)]
mod samples;
