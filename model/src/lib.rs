//! The vocabulary of nvgate: what the other crates talk about, without behaviour.
//!
//! Every type here proves something by existing: a [`Vsid`] is legal, a [`Prefix`] has no host
//! bits, a [`CustomerAddress`] never turns into a [`FrontEndAddress`]. The crate is sans-IO and
//! depends on nothing of the project.

mod address;
mod asn;
mod drop_reason;
mod generation;
mod instant;
mod prefix;
mod protocol;
mod routing_domain;
mod tenant;
mod vsid;

pub use address::{
    CustomerAddress, FrontEndAddress, InvalidMacAddress, MacAddress, ProviderAddress,
};
pub use asn::{Asn, InvalidAsn};
pub use drop_reason::DropReason;
pub use generation::Generation;
pub use instant::{Instant, Tick};
pub use prefix::{InvalidPrefix, Prefix};
pub use protocol::Protocol;
pub use routing_domain::{DomainSlot, InvalidRoutingDomainId, RoutingDomainId};
pub use tenant::{InvalidTenantName, TenantName};
pub use vsid::{FlowId, InvalidVsid, Vsid};
