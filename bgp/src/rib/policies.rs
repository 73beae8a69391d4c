//! What a table asks of policy: may this route come in, and in what form does it go out?

use nvgate_model::Prefix;

use super::group::GroupIndex;
use super::peers::{PeerFacts, PeerSlot};
use crate::attributes::Attributes;
use crate::policy::RuleId;

/// Why this speaker originates a route, as a number whose meaning is the owner's: export is told it,
/// the table keeps it and shows it, no more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Origination(pub u32);

/// The policies of a place's peers. Both questions must have the same answer each time until the
/// table is told of a change by `reimport` or `reexport`.
pub trait Policies {
    /// What becomes of a route that `peer` announced.
    fn import(&self, peer: PeerSlot, prefix: Prefix, received: &Attributes) -> Imported;

    /// What becomes of an eligible route towards the members of `group`. `held` has ORIGINATOR_ID
    /// and CLUSTER_LIST already as a reflector sends them; all else that a session's kind demands
    /// (AS_PATH, next hop, LOCAL_PREF, MULTI_EXIT_DISC) is this function's.
    fn export(
        &self,
        group: GroupIndex,
        source: RouteSource<'_>,
        prefix: Prefix,
        held: &Attributes,
    ) -> Exported;
}

/// Who taught a route that goes out.
#[derive(Clone, Copy, Debug)]
pub enum RouteSource<'a> {
    /// This speaker, for this reason.
    Local(Origination),
    /// A peer.
    Peer(PeerSlot, &'a PeerFacts),
}

/// What import makes of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// Whether it may be chosen, and with which attributes.
    pub verdict: ImportVerdict,
    /// The rule that decided.
    pub rule: RuleId,
    /// Preference within this speaker, before everything else; higher wins.
    pub weight: u16,
    /// Whether packets that take the route are discarded (RFC 7999).
    pub discard: bool,
    /// Whether the answer depends on more than the attributes.
    pub saw_prefix: SawPrefix,
}

/// Whether a received route may be chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportVerdict {
    /// As it came.
    Unchanged,
    /// With these attributes.
    Changed(Attributes),
    /// A rule says no.
    Rejected,
    /// Our AS is in its path (RFC 4271 section 9.1.2).
    Loop,
    /// ONLY_TO_CUSTOMER says no (RFC 9234 section 5).
    Leak,
}

/// What export makes of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exported {
    /// Whether it is announced, and with which attributes.
    pub verdict: ExportVerdict,
    /// Whether the answer depends on more than the attributes and the source.
    pub saw_prefix: SawPrefix,
}

/// Whether a route is announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExportVerdict {
    /// As it is held.
    Unchanged,
    /// With these attributes.
    Changed(Attributes),
    /// Not.
    Rejected,
}

/// Whether a policy looked at the prefix: if not, its answer holds for others too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SawPrefix {
    /// The answer holds for this prefix.
    Yes,
    /// The answer holds for every prefix with the same attributes.
    No,
}
