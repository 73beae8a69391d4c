//! Communities of the three kinds as rules name them: one by one, and with wildcards in the parts.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::attribute_code::AttributeCode;
use crate::attributes::Attributes;
use crate::community::{Community, ExtendedCommunity, LargeCommunity, decimal};

use super::condition::EmptyList;

/// A community of any kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AnyCommunity {
    /// Of four bytes (RFC 1997).
    Standard(Community),
    /// Of eight bytes (RFC 4360).
    Extended(ExtendedCommunity),
    /// Of twelve bytes (RFC 8092).
    Large(LargeCommunity),
}

/// Communities of one kind, some of whose parts may be anything: `64496:*`, `*:*`, `rt:64496:*`,
/// `soo:*:7`, `64496:*:1`. In extended ones the name cannot be a wildcard, and `*` as administrator
/// stands for the AS and address forms alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommunityPattern(Pattern);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    Standard(Masked),
    /// One for each form of administrator that the text can mean.
    Extended(Box<[Masked]>),
    Large(Masked),
}

/// The values whose bits under the mask are these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Masked {
    value: u128,
    mask: u128,
    /// The bits of this kind of community.
    bits: u32,
}

/// A question about a route's communities.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommunityTest {
    quantifier: Quantifier,
    patterns: Box<[CommunityPattern]>,
}

/// How many of the patterns a route's communities must match.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Quantifier {
    /// At least one.
    Any,
    /// Each, not necessarily by the same community.
    All,
}

/// What a rule does to a route's communities.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommunityChange {
    removed: Box<[CommunityPattern]>,
    added: Box<[AnyCommunity]>,
    /// Whether `added` only comes if something was removed.
    replaces: bool,
}

/// A text that is no community, or no pattern of communities, of any kind.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is no community of any kind, such as 64496:100, no-export, rt:64496:100 or 64496:100:1, \
     nor, where that is allowed, one with `*` as a part"
)]
pub struct InvalidAnyCommunity(pub String);

impl CommunityTest {
    /// A test for these patterns.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn new(quantifier: Quantifier, patterns: Vec<CommunityPattern>) -> Result<Self, EmptyList> {
        if patterns.is_empty() {
            return Err(EmptyList("communities"));
        }
        Ok(Self { quantifier, patterns: patterns.into() })
    }

    pub(super) fn passes(&self, attributes: &Attributes) -> bool {
        let mut patterns = self.patterns.iter();
        match self.quantifier {
            Quantifier::Any => patterns.any(|pattern| pattern.is_on(attributes)),
            Quantifier::All => patterns.all(|pattern| pattern.is_on(attributes)),
        }
    }
}

impl CommunityPattern {
    /// Whether the route has a community that matches.
    fn is_on(&self, attributes: &Attributes) -> bool {
        match &self.0 {
            Pattern::Standard(masked) => masked.is_in(attributes.communities.as_slice(), standard),
            Pattern::Extended(forms) => {
                forms.iter().any(|form| form.is_in(attributes.extended_communities(), extended))
            }
            Pattern::Large(masked) => masked.is_in(attributes.large_communities(), large),
        }
    }

    /// Whether this community matches.
    #[must_use]
    pub fn matches(&self, community: AnyCommunity) -> bool {
        match (&self.0, community) {
            (Pattern::Standard(masked), AnyCommunity::Standard(one)) => masked.has(standard(one)),
            (Pattern::Extended(forms), AnyCommunity::Extended(one)) => {
                forms.iter().any(|form| form.has(extended(one)))
            }
            (Pattern::Large(masked), AnyCommunity::Large(one)) => masked.has(large(one)),
            (Pattern::Standard(_) | Pattern::Extended(_) | Pattern::Large(_), _) => false,
        }
    }
}

impl Masked {
    fn exactly(value: u128, bits: u32) -> Self {
        Self { value, mask: low_bits(bits), bits }
    }

    /// Parts from the highest to the lowest, each with its width in bits; none is a wildcard.
    fn of_parts(parts: &[(Option<u128>, u32)]) -> Self {
        let mut masked = Self { value: 0, mask: 0, bits: 0 };
        for (part, bits) in parts {
            masked.value = masked.value << bits | part.unwrap_or(0);
            masked.mask = masked.mask << bits | part.map_or(0, |_| low_bits(*bits));
            masked.bits += bits;
        }
        masked
    }

    const fn has(self, value: u128) -> bool {
        value & self.mask == self.value
    }

    /// Whether one of the ascending communities matches. With wildcards at the end only, those that
    /// match lie side by side, and a search finds them.
    fn is_in<T: Copy>(self, ascending: &[T], number: impl Fn(T) -> u128) -> bool {
        let free = low_bits(self.bits) & !self.mask;
        if free & (free + 1) == 0 {
            let first = ascending.partition_point(|one| number(*one) < self.value);
            return ascending.get(first).is_some_and(|one| self.has(number(*one)));
        }
        ascending.iter().any(|one| self.has(number(*one)))
    }
}

fn low_bits(bits: u32) -> u128 {
    (1 << bits) - 1
}

fn standard(community: Community) -> u128 {
    u128::from(community.0)
}

fn extended(community: ExtendedCommunity) -> u128 {
    u128::from(u64::from_be_bytes(community.0))
}

fn large(community: LargeCommunity) -> u128 {
    u128::from(community.global.0) << 64
        | u128::from(community.local_1) << 32
        | u128::from(community.local_2)
}

impl CommunityChange {
    /// Puts these communities on a route.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn add(added: Vec<AnyCommunity>) -> Result<Self, EmptyList> {
        Self::of(Vec::new(), Some(added), false)
    }

    /// Takes those that match one of the patterns off a route, well-known ones too.
    ///
    /// # Errors
    ///
    /// There is no pattern.
    pub fn remove(removed: Vec<CommunityPattern>) -> Result<Self, EmptyList> {
        Self::of(removed, None, false)
    }

    /// Takes those that match off a route, and if there was one, puts the others on it.
    ///
    /// # Errors
    ///
    /// There is no pattern, or nothing in its place.
    pub fn replace(
        removed: Vec<CommunityPattern>,
        added: Vec<AnyCommunity>,
    ) -> Result<Self, EmptyList> {
        if removed.is_empty() {
            return Err(EmptyList("communities to replace"));
        }
        Self::of(removed, Some(added), true)
    }

    fn of(
        removed: Vec<CommunityPattern>,
        added: Option<Vec<AnyCommunity>>,
        replaces: bool,
    ) -> Result<Self, EmptyList> {
        let empty = match &added {
            Some(added) => added.is_empty(),
            None => removed.is_empty(),
        };
        if empty {
            return Err(EmptyList("communities"));
        }
        Ok(Self { removed: removed.into(), added: added.unwrap_or_default().into(), replaces })
    }

    /// Whether applying the change would make a difference.
    fn concerns(&self, attributes: &Attributes) -> bool {
        let matched = self.removed.iter().any(|pattern| pattern.is_on(attributes));
        matched || !self.replaces && self.added.iter().any(|one| !one.is_on(attributes))
    }

    /// Applies the change; attributes that it does not concern stay borrowed.
    pub(super) fn apply(&self, attributes: &mut Cow<'_, Attributes>) {
        if !self.concerns(attributes) {
            return;
        }
        let changed = attributes.to_mut();
        if !self.removed.is_empty() {
            retain(changed, |one| !self.removed.iter().any(|pattern| pattern.matches(one)));
        }
        add(changed, &self.added);
    }
}

impl AnyCommunity {
    fn is_on(self, attributes: &Attributes) -> bool {
        match self {
            Self::Standard(one) => attributes.communities.contains(one),
            Self::Extended(one) => attributes.extended_communities().binary_search(&one).is_ok(),
            Self::Large(one) => attributes.large_communities().binary_search(&one).is_ok(),
        }
    }

    const fn as_standard(self) -> Option<Community> {
        if let Self::Standard(one) = self { Some(one) } else { None }
    }

    const fn as_extended(self) -> Option<ExtendedCommunity> {
        if let Self::Extended(one) = self { Some(one) } else { None }
    }

    const fn as_large(self) -> Option<LargeCommunity> {
        if let Self::Large(one) = self { Some(one) } else { None }
    }
}

/// Takes away the communities that are not kept.
pub(super) fn retain(attributes: &mut Attributes, keep: impl Fn(AnyCommunity) -> bool) {
    let kept = attributes.communities.retained(|one| keep(AnyCommunity::Standard(one)));
    attributes.communities = kept;
    if attributes.rare().is_some() {
        attributes.edit_rare(|rare| {
            let extended = &mut rare.extended_communities;
            *extended = extended.retained(|one| keep(AnyCommunity::Extended(one)));
            let large = &mut rare.large_communities;
            *large = large.retained(|one| keep(AnyCommunity::Large(one)));
        });
    }
    forget_partial(attributes);
}

/// An attribute that is gone was not passed on by anybody.
fn forget_partial(attributes: &mut Attributes) {
    for (empty, code) in [
        (attributes.communities.is_empty(), AttributeCode::COMMUNITIES),
        (attributes.extended_communities().is_empty(), AttributeCode::EXTENDED_COMMUNITIES),
        (attributes.large_communities().is_empty(), AttributeCode::LARGE_COMMUNITIES),
    ] {
        if empty {
            attributes.partial.remove(code);
        }
    }
}

/// Adds communities of any kinds.
pub(super) fn add(attributes: &mut Attributes, added: &[AnyCommunity]) {
    let standard = added.iter().filter_map(|one| one.as_standard());
    attributes.communities = attributes.communities.with(standard);
    if added.iter().all(|one| one.as_standard().is_some()) {
        return;
    }
    attributes.edit_rare(|rare| {
        let extended = added.iter().filter_map(|one| one.as_extended());
        rare.extended_communities = rare.extended_communities.with(extended);
        let large = added.iter().filter_map(|one| one.as_large());
        rare.large_communities = rare.large_communities.with(large);
    });
}

impl From<Community> for AnyCommunity {
    fn from(one: Community) -> Self {
        Self::Standard(one)
    }
}

/// The pattern that only this community matches.
impl From<AnyCommunity> for CommunityPattern {
    fn from(community: AnyCommunity) -> Self {
        Self(match community {
            AnyCommunity::Standard(one) => Pattern::Standard(Masked::exactly(standard(one), 32)),
            AnyCommunity::Extended(one) => {
                Pattern::Extended([Masked::exactly(extended(one), 64)].into())
            }
            AnyCommunity::Large(one) => Pattern::Large(Masked::exactly(large(one), 96)),
        })
    }
}

impl fmt::Display for AnyCommunity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(one) => one.fmt(formatter),
            Self::Extended(one) => one.fmt(formatter),
            Self::Large(one) => one.fmt(formatter),
        }
    }
}

/// The text of any of the three kinds; no text is of two.
impl FromStr for AnyCommunity {
    type Err = InvalidAnyCommunity;

    fn from_str(text: &str) -> Result<Self, InvalidAnyCommunity> {
        let large = || text.parse().map(Self::Large).ok();
        let extended = || text.parse().map(Self::Extended).ok();
        let standard = text.parse().map(Self::Standard).ok();
        standard
            .or_else(large)
            .or_else(extended)
            .ok_or_else(|| InvalidAnyCommunity(text.to_owned()))
    }
}

impl FromStr for CommunityPattern {
    type Err = InvalidAnyCommunity;

    fn from_str(text: &str) -> Result<Self, InvalidAnyCommunity> {
        if !text.contains('*') {
            return text.parse::<AnyCommunity>().map(Self::from);
        }
        wildcard(text).map(Self).ok_or_else(|| InvalidAnyCommunity(text.to_owned()))
    }
}

fn wildcard(text: &str) -> Option<Pattern> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name, administrator, number] if matches!(*name, "rt" | "soo") => {
            let sub_type = match *name {
                "rt" => ExtendedCommunity::ROUTE_TARGET,
                _ => ExtendedCommunity::ROUTE_ORIGIN,
            };
            extended_forms(sub_type, administrator, number)
        }
        [asn, number] => {
            let parts = [(part(asn, 16)?, 16), (part(number, 16)?, 16)];
            Some(Pattern::Standard(Masked::of_parts(&parts)))
        }
        [global, one, two] => {
            let parts = [(part(global, 32)?, 32), (part(one, 32)?, 32), (part(two, 32)?, 32)];
            Some(Pattern::Large(Masked::of_parts(&parts)))
        }
        _ => None,
    }
}

/// Each form of administrator that `administrator` can be and whose number's width holds `number`
/// (RFC 4360 sections 3.1 and 3.2, RFC 5668 section 2).
fn extended_forms(sub_type: u8, administrator: &str, number: &str) -> Option<Pattern> {
    let long = administrator.strip_suffix('L').unwrap_or(administrator);
    let two_octet_as = (administrator == long).then(|| part(administrator, 16)).flatten();
    let address = match administrator.parse::<Ipv4Addr>() {
        Ok(address) => Some(Some(u128::from(address.to_bits()))),
        Err(_) => (administrator == "*").then_some(None),
    };
    // As everywhere, a number that fits two octets is of the short form unless marked with an L.
    let four_octet_as = part(long, 32).filter(|_| two_octet_as.is_none() || administrator == "*");
    let forms = [(0_u8, two_octet_as, 16, 32), (1, address, 32, 16), (2, four_octet_as, 32, 16)];
    let forms: Box<[Masked]> = forms
        .into_iter()
        .filter_map(|(kind, administrator, width, number_width)| {
            let head = u128::from(kind) << 8 | u128::from(sub_type);
            let number = part(number, number_width)?;
            Some(Masked::of_parts(&[
                (Some(head), 16),
                (administrator?, width),
                (number, number_width),
            ]))
        })
        .collect();
    (!forms.is_empty()).then_some(Pattern::Extended(forms))
}

/// A wildcard, or a number of at most so many bits.
fn part(text: &str, bits: u32) -> Option<Option<u128>> {
    if text == "*" {
        return Some(None);
    }
    let number: u128 = decimal(text)?;
    (number <= low_bits(bits)).then_some(Some(number))
}
