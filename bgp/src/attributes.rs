//! The path attributes of one route as a plain value.
//!
//! Equal sets of attributes are equal values: sets of communities are ordered, what is rare is
//! either boxed or absent. A table interns them; a session decodes into them; a policy changes a
//! copy. MP_REACH_NLRI and MP_UNREACH_NLRI are not among them: they carry routes, and their next
//! hop is [`next_hop`](Attributes::next_hop). Nor are AS4_PATH and AS4_AGGREGATOR, which the
//! decoder joins with what they complete (RFC 6793 section 4.2.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::Asn;

use crate::as_path::AsPath;
use crate::attribute_code::AttributeCode;
use crate::community::{Community, CommunitySet, ExtendedCommunity, LargeCommunity};
use crate::origin::Origin;

/// What a route is announced with. 96 bytes, and for most routes nothing on the heap but the
/// communities.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attributes {
    /// NEXT_HOP, or the global next hop of MP_REACH_NLRI; IPv6 for an IPv4 route too (RFC 8950).
    pub next_hop: IpAddr,
    /// ORIGIN.
    pub origin: Origin,
    /// ATOMIC_AGGREGATE (RFC 4271 section 5.1.6).
    pub atomic_aggregate: bool,
    /// Which attributes came with the partial flag.
    pub partial: Partial,
    /// MULTI_EXIT_DISC; none compares as 0 (RFC 4271 section 9.1.2.2 c).
    pub med: Option<u32>,
    /// LOCAL_PREF; what none means is policy.
    pub local_preference: Option<u32>,
    /// AS_PATH.
    pub as_path: AsPath,
    /// COMMUNITIES.
    pub communities: CommunitySet<Community>,
    /// None instead of an empty value, so that equal sets are equal.
    rare: Option<Box<RareAttributes>>,
}

/// Attributes that most routes do not have.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct RareAttributes {
    /// The link-local next hop beside the global one (RFC 2545 section 3).
    pub link_local_next_hop: Option<Ipv6Addr>,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// EXTENDED_COMMUNITIES.
    pub extended_communities: CommunitySet<ExtendedCommunity>,
    /// LARGE_COMMUNITIES.
    pub large_communities: CommunitySet<LargeCommunity>,
    /// ORIGINATOR_ID: the router that brought the route into the AS (RFC 4456 section 8).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST: the reflectors passed, nearest first (RFC 4456 section 8).
    pub cluster_list: Box<[Ipv4Addr]>,
    /// ONLY_TO_CUSTOMER (RFC 9234 section 5).
    pub only_to_customer: Option<Asn>,
    /// Optional transitive attributes that this speaker does not recognize, by ascending code, each
    /// code once. They are passed on with the partial flag (RFC 4271 section 5).
    pub unknown: Box<[UnknownAttribute]>,
}

/// Who aggregated a route (RFC 4271 section 5.1.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Aggregator {
    /// The AS of the router.
    pub asn: Asn,
    /// The BGP identifier of the router.
    pub router_id: Ipv4Addr,
}

/// An attribute whose value is not looked at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnknownAttribute {
    /// The type code.
    pub code: AttributeCode,
    /// The value as it came.
    pub value: Box<[u8]>,
}

/// The recognized attributes that someone on the way did not recognize: the partial flag, once set,
/// stays (RFC 4271 section 5). Those of unknown attributes need no note, they are always set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Partial(u8);

impl Attributes {
    /// The attributes of a route that begins here: an empty path and nothing optional.
    #[must_use]
    pub fn originated(next_hop: IpAddr, origin: Origin) -> Self {
        Self {
            next_hop,
            origin,
            atomic_aggregate: false,
            partial: Partial::default(),
            med: None,
            local_preference: None,
            as_path: AsPath::EMPTY,
            communities: CommunitySet::default(),
            rare: None,
        }
    }

    /// The rare attributes, if there is any.
    #[must_use]
    pub fn rare(&self) -> Option<&RareAttributes> {
        self.rare.as_deref()
    }

    /// Replaces the rare attributes.
    pub fn set_rare(&mut self, rare: RareAttributes) {
        self.rare = (rare != RareAttributes::default()).then(|| Box::new(rare));
    }

    /// Changes the rare attributes in place.
    pub fn edit_rare(&mut self, edit: impl FnOnce(&mut RareAttributes)) {
        let mut rare = self.rare.take().unwrap_or_default();
        edit(&mut rare);
        self.rare = (*rare != RareAttributes::default()).then_some(rare);
    }

    /// The extended communities, none if there is no such attribute.
    #[must_use]
    pub fn extended_communities(&self) -> &[ExtendedCommunity] {
        self.rare().map_or(&[], |rare| rare.extended_communities.as_slice())
    }

    /// The large communities, none if there is no such attribute.
    #[must_use]
    pub fn large_communities(&self) -> &[LargeCommunity] {
        self.rare().map_or(&[], |rare| rare.large_communities.as_slice())
    }

    /// ORIGINATOR_ID.
    #[must_use]
    pub fn originator_id(&self) -> Option<Ipv4Addr> {
        self.rare()?.originator_id
    }

    /// CLUSTER_LIST, none if there is no such attribute.
    #[must_use]
    pub fn cluster_list(&self) -> &[Ipv4Addr] {
        self.rare().map_or(&[], |rare| &rare.cluster_list)
    }

    /// ONLY_TO_CUSTOMER.
    #[must_use]
    pub fn only_to_customer(&self) -> Option<Asn> {
        self.rare()?.only_to_customer
    }

    /// The bytes that the value and everything it owns take: what budgets of memory count.
    #[must_use]
    pub fn footprint(&self) -> usize {
        size_of::<Self>()
            + self.as_path.heap_bytes()
            + self.communities.heap_bytes()
            + self.rare().map_or(0, RareAttributes::footprint)
    }
}

impl RareAttributes {
    fn footprint(&self) -> usize {
        let unknown: usize = self.unknown.iter().map(|attribute| attribute.value.len()).sum();
        size_of::<Self>()
            + self.extended_communities.heap_bytes()
            + self.large_communities.heap_bytes()
            + size_of_val(&*self.cluster_list)
            + size_of_val(&*self.unknown)
            + unknown
    }
}

impl Partial {
    /// The recognized attributes that are optional and transitive, a bit each.
    const CODES: [AttributeCode; 5] = [
        AttributeCode::AGGREGATOR,
        AttributeCode::COMMUNITIES,
        AttributeCode::EXTENDED_COMMUNITIES,
        AttributeCode::LARGE_COMMUNITIES,
        AttributeCode::ONLY_TO_CUSTOMER,
    ];

    /// Notes that the attribute came with the partial flag. Of others than recognized optional
    /// transitive ones nothing is noted.
    pub fn insert(&mut self, code: AttributeCode) {
        self.0 |= Self::bit(code);
    }

    /// Whether the attribute came with the partial flag.
    #[must_use]
    pub fn contains(self, code: AttributeCode) -> bool {
        self.0 & Self::bit(code) != 0
    }

    /// Forgets the flag of an attribute that is taken away or made anew.
    pub fn remove(&mut self, code: AttributeCode) {
        self.0 &= !Self::bit(code);
    }

    fn bit(code: AttributeCode) -> u8 {
        Self::CODES.iter().position(|known| *known == code).map_or(0, |index| 1 << index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute_code::AttributeClass;

    fn originated() -> Attributes {
        Attributes::originated("192.0.2.1".parse().unwrap(), Origin::Igp)
    }

    #[test]
    fn a_million_distinct_sets_stay_small() {
        assert!(size_of::<Attributes>() <= 96, "{}", size_of::<Attributes>());
        let mut attributes = originated();
        attributes.as_path = "64496 64497 64498 64499".parse().unwrap();
        attributes.communities = (0..4).map(|number| Community::new(64_496, number)).collect();
        assert_eq!(attributes.footprint(), size_of::<Attributes>() + 16);
    }

    #[test]
    fn what_was_rare_and_is_gone_leaves_no_trace() {
        let plain = originated();
        let mut changed = originated();
        changed.edit_rare(|rare| rare.only_to_customer = Some(Asn(64_496)));
        assert_eq!(changed.only_to_customer(), Some(Asn(64_496)));
        assert_ne!(changed, plain);
        assert!(changed.footprint() > plain.footprint());
        changed.edit_rare(|rare| rare.only_to_customer = None);
        assert_eq!((&changed, changed.rare()), (&plain, None));
        changed.set_rare(RareAttributes::default());
        assert_eq!(changed, plain);
    }

    #[test]
    fn absent_lists_are_empty() {
        let plain = originated();
        assert!(plain.extended_communities().is_empty() && plain.large_communities().is_empty());
        assert!(plain.cluster_list().is_empty() && plain.originator_id().is_none());
    }

    #[test]
    fn partial_is_noted_of_recognized_optional_transitive_attributes() {
        for code in (0..=u8::MAX).map(AttributeCode) {
            let mut partial = Partial::default();
            partial.insert(code);
            let joined = [AttributeCode::AS4_PATH, AttributeCode::AS4_AGGREGATOR].contains(&code);
            let noted = code.class() == Some(AttributeClass::OptionalTransitive) && !joined;
            assert_eq!(partial.contains(code), noted, "{code}");
            partial.remove(code);
            assert_eq!(partial, Partial::default());
        }
    }
}
