//! What a policy knows of a route beside its attributes, and what it makes of it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::{Asn, Prefix};

use crate::attributes::Attributes;
use crate::neighbor_kind::NeighborKind;

use super::action::Action;
use super::condition::Condition;
use super::rule_id::RuleId;

/// A route beside its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The destination.
    pub prefix: Prefix,
    /// Where the route comes from.
    pub source: RouteSource,
}

/// Where a route comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RouteSource {
    /// The place's own: a domain's subnet, a leased address or pool of the front end.
    Local,
    /// A static route of the place.
    Static {
        /// Whether it is marked to be announced.
        announce: bool,
    },
    /// What the other side of one tunnel sees, see
    /// [`TenantFacts::seen_by`](super::TenantFacts::seen_by).
    Translated(Site),
    /// A neighbour's.
    Learned(Teacher),
}

/// A site behind tunnels, by its slot in the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Site(pub u32);

/// The neighbour that taught a route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Teacher {
    /// The address that the session is with.
    pub address: IpAddr,
    /// The identifier of its OPEN.
    pub router_id: Ipv4Addr,
    /// Of our AS or another.
    pub kind: NeighborKind,
    /// Whether it is a client of ours as route reflector (RFC 4456 section 6).
    pub client: bool,
}

/// The kinds of sources that a rule can tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SourceKind {
    /// [`RouteSource::Local`].
    Local,
    /// A static route that is not marked to be announced.
    Static,
    /// A static route that is.
    AnnouncedStatic,
    /// [`RouteSource::Translated`].
    Translated,
    /// Learned by eBGP.
    External,
    /// Learned by iBGP.
    Internal,
}

/// The attributes of a route on their way through rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change<'a> {
    /// The attributes now; borrowed until something changes.
    pub attributes: Cow<'a, Attributes>,
    /// The weight that a rule set.
    pub weight: Option<u16>,
    pub(super) next_hop: NextHopChange,
    /// Whether a rule decided about MULTI_EXIT_DISC, so that it goes to other ASes.
    pub(super) med_decided: bool,
    /// How many numbers rules have put before the path.
    pub(super) prepended: usize,
    /// Our AS, as the neighbour knows it.
    pub(super) own_asn: Asn,
}

/// What rules said about the next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NextHopChange {
    Held,
    Address(IpAddr),
    Own,
}

/// Whether a route is let through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// It is.
    Accept,
    /// It is not.
    Reject,
}

/// What a policy decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Outcome {
    /// Whether the route is let through.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: RuleId,
    /// The weight that a rule set; import only.
    pub weight: Option<u16>,
    /// Whether traffic is to be discarded (RFC 7999); import only.
    pub discard: bool,
    /// Whether the prefix was looked at, beyond its family: if not, another prefix of the same
    /// family, attributes and source has the same outcome.
    pub saw_prefix: bool,
    /// Whether the source was looked at: if not, the same attributes from another source have the
    /// same outcome.
    pub saw_source: bool,
}

/// What a rule did, for `explain`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// A built-in rule had nothing against the route.
    Passed,
    /// A built-in rule changed the route.
    Acted,
    /// The route does not meet this condition of the rule.
    Unmatched(&'a Condition),
    /// The route meets all conditions.
    Matched,
    /// The rule did this.
    Changed(&'a Action),
    /// The rule decided.
    Decided(Verdict),
}

/// What was looked at so far beside the attributes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Saw {
    pub prefix: bool,
    pub source: bool,
}

impl RouteSource {
    /// The neighbour that taught the route.
    #[must_use]
    pub const fn teacher(&self) -> Option<&Teacher> {
        match self {
            Self::Learned(teacher) => Some(teacher),
            Self::Local | Self::Static { .. } | Self::Translated(_) => None,
        }
    }

    /// Whether an internal neighbour taught the route.
    pub(super) fn is_internal(&self) -> bool {
        self.kind() == SourceKind::Internal
    }

    /// The kind that rules tell apart.
    #[must_use]
    pub const fn kind(&self) -> SourceKind {
        match self {
            Self::Local => SourceKind::Local,
            Self::Static { announce: false } => SourceKind::Static,
            Self::Static { announce: true } => SourceKind::AnnouncedStatic,
            Self::Translated(_) => SourceKind::Translated,
            Self::Learned(teacher) => match teacher.kind {
                NeighborKind::External => SourceKind::External,
                NeighborKind::Internal => SourceKind::Internal,
            },
        }
    }
}

impl<'a> Change<'a> {
    /// Nothing changed yet. `own_asn` is our AS as the session's neighbour knows it.
    #[must_use]
    pub const fn new(attributes: &'a Attributes, own_asn: Asn) -> Self {
        Self {
            attributes: Cow::Borrowed(attributes),
            weight: None,
            next_hop: NextHopChange::Held,
            med_decided: false,
            prepended: 0,
            own_asn,
        }
    }
}

impl Outcome {
    pub(super) const fn new(verdict: Verdict, rule: RuleId, saw: Saw) -> Self {
        let Saw { prefix: saw_prefix, source: saw_source } = saw;
        Self { verdict, rule, weight: None, discard: false, saw_prefix, saw_source }
    }
}
