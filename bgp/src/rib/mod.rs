//! One routing table of a place: what its peers announced, what was chosen, what is announced.
//!
//! All peers of a routing domain, or of the front end, share one [`Table`]. The way of a route:
//! [`Table::announce`] interns the attributes, asks import, and stores the route at its prefix
//! (Adj-RIB-In); [`Table::decide`] puts the best of the prefix's routes first (Loc-RIB), notes what
//! became of the others, and asks export for each update group; what a group announces now is in its
//! slots (Adj-RIB-Out), and which of them changed in its journal; [`Table::drain`] tells a member
//! what it has not been told. What concerns many routes at once waits for [`Table::sweep`].
//!
//! It refuses bytes, clocks and policies: messages come and go as values, policy is asked by the
//! trait [`Policies`]. A speaker calls it.

mod attributes;
mod change;
mod chunked;
mod decide;
mod drain;
mod export;
mod family_table;
mod group;
mod groups;
mod hash;
mod import;
mod journal;
mod member;
mod next_hops;
mod paths;
mod peers;
mod policies;
mod prefixes;
mod queue;
mod received;
mod routes;
mod slab;
mod sweep;
mod table;
mod view;

#[cfg(test)]
mod tests;

pub use change::{Reach, RouteChange, Via};
pub use drain::{Drained, Progress, SLICE_MAX, Taken, UpdateSink};
pub use family_table::PATHS_MAX;
pub use group::{GROUPS_MAX, GroupFacts, GroupIndex, PathsOut, TooManyGroups};
pub use member::Walk;
pub use next_hops::{NextHopChange, Resolution};
pub use peers::{PEERS_MAX, PeerFacts, PeerKind, PeerSlot, TooManyPeers};
pub use policies::{
    ExportVerdict, Exported, ImportVerdict, Imported, Origination, Policies, RouteSource, SawPrefix,
};
pub use received::{WALK_PLACES, WALK_ROUTES};
pub use sweep::SWEEP_BATCH;
pub use table::{Announced, Refused, Table, TableConfig, TableLimits};
pub use view::{Announcement, Explanation, RouteFilter, RouteView};
