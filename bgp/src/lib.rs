//! BGP-4 for any number of routing domains in one process (RFC 4271).
//!
//! Sans-IO: time comes in as an instant, chance as a seed, bytes in, bytes and events out. TCP, its
//! MD5 signatures and BFD are the gateway's. What follows is the vocabulary: what a route is made
//! of, and what an error costs. Decision 012 has the design of everything that uses it.

mod as_path;
mod attribute_code;
mod attributes;
pub mod bmp;
mod community;
pub mod config;
pub mod decision;
mod family;
pub mod impact;
mod inline_bytes;
mod neighbor_kind;
mod nlri;
mod notification;
mod origin;
pub mod policy;
mod reaction;
pub mod rib;
mod role;
pub mod session;
pub mod speaker;
pub mod wire;

pub use as_path::{AsPath, AsnWidth, InvalidAsPath, Segment, SegmentKind};
pub use attribute_code::{AttributeClass, AttributeCode};
pub use attributes::{Aggregator, Attributes, Partial, RareAttributes, UnknownAttribute};
pub use community::{
    Community, CommunitySet, ExtendedCommunity, InvalidCommunity, InvalidExtendedCommunity,
    InvalidLargeCommunity, LargeCommunity,
};
pub use family::{AfiSafi, Family, InvalidFamily};
pub use neighbor_kind::NeighborKind;
pub use nlri::{Nlri, PathId};
pub use notification::{InvalidShutdownText, Notification, NotificationReason};
pub use origin::{InvalidOrigin, Origin};
pub use reaction::{AttributeFault, Defect, Reaction, SessionReset};
pub use role::{InvalidRole, Role, RouteLeak};
