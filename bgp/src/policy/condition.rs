//! What a rule may ask of a route.

use std::net::IpAddr;

use nvgate_model::Asn;

use crate::as_path::AsPath;
use crate::attributes::Attributes;
use crate::origin::Origin;

use super::community::CommunityTest;
use super::prefix_list::PrefixList;
use super::route::{Route, Saw, SourceKind};

/// The LOCAL_PREF of a route without one: what FRR, BIRD and Cisco IOS take as well.
pub const DEFAULT_LOCAL_PREFERENCE: u32 = 100;

/// One thing that a route is asked. A rule matches what meets all of its conditions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// The prefix is held by the list.
    Prefix(PrefixList),
    /// The path passes the test.
    AsPath(AsPathTest),
    /// The communities pass the test.
    Communities(CommunityTest),
    /// The next hop's address is held by the list.
    NextHop(PrefixList),
    /// The route was taught by one of these neighbours; a route of our own never is.
    Peer(AddressSet),
    /// ORIGIN is this.
    Origin(Origin),
    /// MULTI_EXIT_DISC, 0 if there is none, compares like this.
    Med(Comparison),
    /// LOCAL_PREF, [`DEFAULT_LOCAL_PREFERENCE`] if there is none, compares like this.
    LocalPreference(Comparison),
    /// The route comes from one of these.
    Source(SourceSet),
}

/// A question about an AS path. A set's members count like a sequence's, but nobody knows which of
/// them is first or last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AsPathTest {
    /// The path is empty.
    Empty,
    /// One of these numbers is in it.
    Contains(AsnSet),
    /// Nothing but these numbers is in it; an empty path passes.
    Only(AsnSet),
    /// The last number, who originated the route, is one of these.
    Originates(AsnSet),
    /// The first number, who taught the route, is one of these.
    Neighbor(AsnSet),
    /// The length that the decision compares lies within these bounds.
    Length(HopRange),
}

/// AS numbers from one to another, both included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AsnRange {
    first: Asn,
    last: Asn,
}

/// AS numbers as few ascending ranges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AsnSet(Box<[AsnRange]>);

/// Lengths of paths from one to another, both included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HopRange {
    least: u16,
    greatest: u16,
}

/// Addresses of neighbours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressSet(Box<[IpAddr]>);

/// Kinds of sources.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourceSet(u8);

/// How a number compares with a bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Comparison {
    /// Less than this.
    Below(u32),
    /// This or less.
    AtMost(u32),
    /// This.
    Exactly(u32),
    /// This or more.
    AtLeast(u32),
    /// More than this.
    Above(u32),
}

/// A list that has nothing in it, so that nothing could match.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the list of {0} is empty and matches nothing")]
pub struct EmptyList(pub &'static str);

/// A range that ends before it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the range of {what} from {first} to {last} ends before it begins")]
pub struct InvalidRange {
    /// What the numbers are.
    pub what: &'static str,
    /// The lower bound.
    pub first: u32,
    /// The upper bound.
    pub last: u32,
}

impl Condition {
    /// Whether the route, as it is now, meets the condition.
    pub(super) fn holds(&self, route: &Route, attributes: &Attributes, saw: &mut Saw) -> bool {
        match self {
            Self::Prefix(list) => {
                saw.prefix = true;
                list.holds(route.prefix)
            }
            Self::AsPath(test) => test.passes(&attributes.as_path),
            Self::Communities(test) => test.passes(attributes),
            Self::NextHop(list) => list.holds_address(attributes.next_hop),
            Self::Peer(peers) => {
                saw.source = true;
                route.source.teacher().is_some_and(|teacher| peers.contains(teacher.address))
            }
            Self::Origin(origin) => attributes.origin == *origin,
            Self::Med(comparison) => comparison.holds(attributes.med.unwrap_or(0)),
            Self::LocalPreference(comparison) => {
                comparison.holds(attributes.local_preference.unwrap_or(DEFAULT_LOCAL_PREFERENCE))
            }
            Self::Source(kinds) => {
                saw.source = true;
                kinds.contains(route.source.kind())
            }
        }
    }

    /// The name in configuration and `explain`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Prefix(_) => "prefix",
            Self::AsPath(_) => "as-path",
            Self::Communities(_) => "communities",
            Self::NextHop(_) => "next-hop",
            Self::Peer(_) => "peer",
            Self::Origin(_) => "origin",
            Self::Med(_) => "med",
            Self::LocalPreference(_) => "local-preference",
            Self::Source(_) => "source",
        }
    }
}

impl AsPathTest {
    fn passes(&self, path: &AsPath) -> bool {
        match self {
            Self::Empty => path.is_empty(),
            Self::Contains(set) => path.numbers().any(|number| set.contains(number)),
            Self::Only(set) => path.numbers().all(|number| set.contains(number)),
            Self::Originates(set) => path.origin().is_some_and(|number| set.contains(number)),
            Self::Neighbor(set) => path.neighbor().is_some_and(|number| set.contains(number)),
            Self::Length(range) => {
                (usize::from(range.least)..=usize::from(range.greatest)).contains(&path.hop_count())
            }
        }
    }
}

impl AsnRange {
    /// The numbers from `first` to `last`.
    ///
    /// # Errors
    ///
    /// `last` is less than `first`.
    pub const fn new(first: Asn, last: Asn) -> Result<Self, InvalidRange> {
        if first.0 <= last.0 {
            return Ok(Self { first, last });
        }
        Err(InvalidRange { what: "AS numbers", first: first.0, last: last.0 })
    }
}

/// The range of one number.
impl From<Asn> for AsnRange {
    fn from(asn: Asn) -> Self {
        Self { first: asn, last: asn }
    }
}

impl AsnSet {
    /// The set of these ranges, in any order.
    ///
    /// # Errors
    ///
    /// There is no range.
    pub fn new(ranges: &[AsnRange]) -> Result<Self, EmptyList> {
        if ranges.is_empty() {
            return Err(EmptyList("AS numbers"));
        }
        let mut sorted = ranges.to_vec();
        sorted.sort_unstable_by_key(|range| range.first);
        let mut merged: Vec<AsnRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut().filter(|last| range.first <= last.last) {
                Some(last) => last.last = last.last.max(range.last),
                None => merged.push(range),
            }
        }
        Ok(Self(merged.into()))
    }

    /// Whether one of the ranges has `asn`.
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        let behind = self.0.partition_point(|range| range.first <= asn);
        behind.checked_sub(1).is_some_and(|index| asn <= self.0[index].last)
    }
}

impl HopRange {
    /// The lengths from `least` to `greatest`.
    ///
    /// # Errors
    ///
    /// `greatest` is less than `least`.
    pub const fn new(least: u16, greatest: u16) -> Result<Self, InvalidRange> {
        if least <= greatest {
            return Ok(Self { least, greatest });
        }
        Err(InvalidRange { what: "path lengths", first: least as u32, last: greatest as u32 })
    }
}

impl AddressSet {
    /// The set of these addresses.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn new(addresses: &[IpAddr]) -> Result<Self, EmptyList> {
        if addresses.is_empty() {
            return Err(EmptyList("peers"));
        }
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        Ok(Self(sorted.into()))
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.binary_search(&address).is_ok()
    }
}

impl SourceSet {
    /// The set of these kinds.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn new(kinds: &[SourceKind]) -> Result<Self, EmptyList> {
        let bits = kinds.iter().fold(0, |bits, kind| bits | 1 << *kind as u8);
        if bits == 0 { Err(EmptyList("sources")) } else { Ok(Self(bits)) }
    }

    const fn contains(self, kind: SourceKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

impl Comparison {
    const fn holds(self, value: u32) -> bool {
        match self {
            Self::Below(bound) => value < bound,
            Self::AtMost(bound) => value <= bound,
            Self::Exactly(bound) => value == bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Above(bound) => value > bound,
        }
    }
}
