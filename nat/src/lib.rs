//! NAT44 of one tenant on one worker: mappings, sessions, port blocks, inbound rules, budgets.
//!
//! Sans-IO: time comes in as a tick, chance as a seed, packets as [`Flow`]s, and what a packet
//! should carry goes out as a [`Translation`]. Everything is deterministic given the seed and the
//! calls. The gateway's dispatcher owns one [`Nat`] a worker and routing domain; it asks for every
//! packet it has no compiled entry for, and for every TCP packet with SYN, FIN or RST.
//!
//! Mapping is endpoint-independent and filtering address-dependent (RFC 4787 sections 4.1 and 5);
//! inbound rules are static mappings open to any remote. Mappings live as long as they have
//! sessions.

mod bits;
mod block;
mod config;
mod expiry;
mod filter;
pub mod fragment;
mod limits;
mod mapping;
mod nat;
mod pool;
mod publish;
mod session;
mod slab;
mod table;
mod tcp_state;

pub use config::{NatConfig, Timeouts};
pub use limits::{Budget, Reservation};
pub use nat::{Flow, Nat, Translation, Usage};
pub use pool::{PortUsage, WorkerShare};
pub use publish::InboundRule;
pub use session::{Seen, SessionIndex, SessionView};
