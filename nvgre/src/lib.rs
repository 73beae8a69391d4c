//! NVGRE termination (RFC 7637): what arrives between provider addresses becomes a tenant's
//! Ethernet frame under a VSID, and the other way round.
//!
//! Sans-IO. Nothing here knows a routing domain's routes or a tenant's limits: the dispatcher
//! chooses the domain by VSID and asks the [`lookup::LookupTable`] of that domain who lives where.

pub mod decap;
pub mod ecn;
pub mod encap;
pub mod lookup;
pub mod mtu;
pub mod replicate;
pub mod wire;
