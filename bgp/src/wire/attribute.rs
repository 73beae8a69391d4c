//! Path attributes of a received UPDATE: found one by one, each checked by its own rules, each
//! fault counted at what RFC 7606 says it costs.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::Asn;

use super::multiprotocol::{Reach, Unreach};
use super::{Codec, NeighborKind};
use crate::as_path::{AsPath, AsnWidth};
use crate::attribute_code::{AttributeClass, AttributeCode};
use crate::attributes::{Aggregator, Attributes, Partial, RareAttributes, UnknownAttribute};
use crate::community::{Community, CommunitySet, ExtendedCommunity, LargeCommunity};
use crate::origin::Origin;
use crate::reaction::{AttributeFault, Defect, Reaction, SessionReset};

/// What was found in the path attributes so far.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub(super) reach: Option<Reach<'a>>,
    pub(super) unreach: Option<Unreach<'a>>,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) faults: Faults<'a>,
    codes: CodeSet,
    origin: Option<Origin>,
    as_path: Option<AsPath>,
    med: Option<u32>,
    local_preference: Option<u32>,
    atomic_aggregate: bool,
    communities: CommunitySet<Community>,
    partial: Partial,
    rare: Option<RareAttributes>,
    unknown: Vec<UnknownAttribute>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
}

/// The faults of one UPDATE.
#[derive(Debug, Default)]
pub(super) struct Faults<'a> {
    /// The first [`DEFECTS_MAX`].
    pub(super) kept: Vec<Defect>,
    /// How many there were.
    pub(super) count: u32,
    /// The greatest of all reactions.
    pub(super) reaction: Option<Reaction>,
    /// The first that withdraws, and its attribute.
    withdrawing: Option<(Defect, &'a [u8])>,
}

/// The most defects that are kept of an UPDATE.
pub(super) const DEFECTS_MAX: usize = 8;

/// One attribute as it stands in the message.
#[derive(Clone, Copy)]
struct Raw<'a> {
    flags: u8,
    code: AttributeCode,
    value: &'a [u8],
    /// With flags, code and length: what a NOTIFICATION carries.
    whole: &'a [u8],
}

/// A set of codes, a bit each.
#[derive(Debug, Default)]
struct CodeSet([u64; 4]);

impl<'a> Found<'a> {
    /// Takes the attributes in `bytes` apart. One that ends behind them ends the list (RFC 7606
    /// section 4).
    pub(super) fn take_all(&mut self, bytes: &'a [u8], codec: &Codec) -> Result<(), SessionReset> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((raw, behind)) = Raw::first(rest) else {
                let code = AttributeCode(rest.get(1).copied().unwrap_or_default());
                return self.faults.add(code, AttributeFault::Overrun, rest);
            };
            if let Err(fault) = self.take(raw, codec) {
                self.faults.add(raw.code, fault, raw.whole)?;
            }
            rest = behind;
        }
        Ok(())
    }

    /// Counts the mandatory attributes that are missing (RFC 7606 section 3 d).
    pub(super) fn require(&mut self, codes: &[AttributeCode]) -> Result<(), SessionReset> {
        for code in codes {
            if !self.codes.contains(*code) {
                self.faults.add(*code, AttributeFault::Missing, &[])?;
            }
        }
        Ok(())
    }

    /// Whether MP_UNREACH_NLRI is there and no other attribute.
    pub(super) fn is_only_unreach(&self) -> bool {
        self.unreach.is_some() && self.codes.count() == 1
    }

    /// The attributes of routes with this next hop. None if a mandatory one is not known.
    pub(super) fn into_attributes(mut self, next_hop: IpAddr) -> Option<Attributes> {
        self.join_four_octets();
        let mut attributes = Attributes::originated(next_hop, self.origin?);
        attributes.as_path = self.as_path?;
        attributes.atomic_aggregate = self.atomic_aggregate;
        attributes.partial = self.partial;
        attributes.med = self.med;
        attributes.local_preference = self.local_preference;
        attributes.communities = self.communities;
        if !self.unknown.is_empty() {
            self.unknown.sort_unstable();
            self.rare.get_or_insert_default().unknown = self.unknown.into_boxed_slice();
        }
        if let Some(rare) = self.rare {
            attributes.set_rare(rare);
        }
        Some(attributes)
    }

    fn take(&mut self, raw: Raw<'a>, codec: &Codec) -> Result<(), AttributeFault> {
        if !self.codes.insert(raw.code) {
            return Err(AttributeFault::Repeated);
        }
        if is_unexpected(raw.code, codec) {
            return Err(AttributeFault::Unexpected);
        }
        let class = AttributeClass::from_flags(raw.flags);
        match raw.code.class() {
            None => self.take_unknown(raw, class),
            known if known != class => Err(AttributeFault::Flags(raw.flags)),
            Some(_) => {
                self.take_known(raw, codec)?;
                if raw.flags & AttributeClass::PARTIAL != 0 {
                    self.partial.insert(raw.code);
                }
                Ok(())
            }
        }
    }

    fn take_unknown(
        &mut self,
        raw: Raw<'a>,
        class: Option<AttributeClass>,
    ) -> Result<(), AttributeFault> {
        match class {
            Some(AttributeClass::OptionalTransitive) => {
                let value = raw.value.into();
                self.unknown.push(UnknownAttribute { code: raw.code, value });
                Ok(())
            }
            Some(AttributeClass::OptionalNonTransitive) => Ok(()),
            Some(AttributeClass::WellKnown) | None => Err(AttributeFault::Unrecognized),
        }
    }

    fn take_known(&mut self, raw: Raw<'a>, codec: &Codec) -> Result<(), AttributeFault> {
        match raw.code {
            AttributeCode::ORIGIN => {
                let [origin] = raw.octets()?;
                self.origin = Some(Origin::from_wire(origin).ok_or(AttributeFault::Value)?);
            }
            AttributeCode::AS_PATH => {
                self.as_path = Some(as_path(raw.value, codec.asn_width, codec)?);
            }
            AttributeCode::NEXT_HOP => self.next_hop = Some(Ipv4Addr::from(raw.octets::<4>()?)),
            AttributeCode::MULTI_EXIT_DISC => self.med = Some(raw.number()?),
            AttributeCode::LOCAL_PREF => self.local_preference = Some(raw.number()?),
            AttributeCode::ATOMIC_AGGREGATE => {
                let [] = raw.octets()?;
                self.atomic_aggregate = true;
            }
            AttributeCode::COMMUNITIES => {
                self.communities = raw.set(|octets| Community(u32::from_be_bytes(octets)))?;
            }
            AttributeCode::MP_REACH_NLRI => self.take_reach(raw, codec)?,
            AttributeCode::MP_UNREACH_NLRI => {
                self.unreach = Some(Unreach::from_wire(raw.value, codec)?);
            }
            AttributeCode::AS4_PATH => {
                let value = without_confederations(raw.value, codec)?;
                self.as4_path = Some(as_path(&value, AsnWidth::Four, codec)?);
            }
            AttributeCode::AS4_AGGREGATOR => {
                self.as4_aggregator = Some(raw.aggregator(AsnWidth::Four)?);
            }
            _ => self.rare.get_or_insert_default().take(raw, codec)?,
        }
        Ok(())
    }

    /// A next hop that cannot be a host's leaves the routes known: they are withdrawn.
    fn take_reach(&mut self, raw: Raw<'a>, codec: &Codec) -> Result<(), AttributeFault> {
        let reach = Reach::from_wire(raw.value, codec)?;
        let usable = match &reach {
            Reach::Routes { next_hop, .. } => is_host(next_hop.global),
            Reach::Foreign { .. } => true,
        };
        self.reach = Some(reach);
        if !usable {
            self.faults.withdraw(AttributeCode::NEXT_HOP, AttributeFault::Value, raw.whole);
        }
        Ok(())
    }

    /// What a speaker of two-octet AS numbers passed on beside its own (RFC 6793 section 4.2.3).
    fn join_four_octets(&mut self) {
        let aggregator = self.rare.as_mut().and_then(|rare| rare.aggregator.as_mut());
        if let (Some(aggregator), Some(four)) = (aggregator, self.as4_aggregator.take()) {
            if aggregator.asn != Asn::TRANS {
                return;
            }
            *aggregator = four;
        }
        if let (Some(two), Some(four)) = (&mut self.as_path, self.as4_path.take()) {
            *two = two.joined(&four);
        }
    }
}

impl<'a> Faults<'a> {
    /// Counts a fault of the attribute in `whole`.
    pub(super) fn add(
        &mut self,
        code: AttributeCode,
        fault: AttributeFault,
        whole: &'a [u8],
    ) -> Result<(), SessionReset> {
        self.count(Defect::new(code, fault, whole)?, whole);
        Ok(())
    }

    /// Counts a fault that withdraws the routes, whatever the attribute.
    pub(super) fn withdraw(&mut self, code: AttributeCode, fault: AttributeFault, whole: &'a [u8]) {
        self.count(Defect { code, fault, reaction: Reaction::TreatAsWithdraw }, whole);
    }

    fn count(&mut self, defect: Defect, whole: &'a [u8]) {
        self.count += 1;
        self.reaction = self.reaction.max(Some(defect.reaction));
        if defect.reaction == Reaction::TreatAsWithdraw && self.withdrawing.is_none() {
            self.withdrawing = Some((defect.clone(), whole));
        }
        if self.kept.len() < DEFECTS_MAX {
            self.kept.push(defect);
        }
    }

    /// The reset for the first fault that withdraws routes where there are none to withdraw.
    pub(super) fn reset(&self) -> Option<SessionReset> {
        let (defect, whole) = self.withdrawing.as_ref()?;
        Some(SessionReset::of_attribute(defect.code, &defect.fault, whole))
    }
}

impl<'a> Raw<'a> {
    /// The first attribute and what is behind it. None if it ends behind `bytes`.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[flags, code], rest) = bytes.split_first_chunk()?;
        let (length, rest) = if flags & AttributeClass::EXTENDED_LENGTH != 0 {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        } else {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        };
        let (value, behind) = rest.split_at_checked(length)?;
        let whole = &bytes[..bytes.len() - behind.len()];
        Some((Self { flags, code: AttributeCode(code), value, whole }, behind))
    }

    fn wrong_length(self) -> AttributeFault {
        AttributeFault::Length(self.value.len() as u16)
    }

    fn octets<const N: usize>(self) -> Result<[u8; N], AttributeFault> {
        self.value.try_into().map_err(|_| self.wrong_length())
    }

    fn number(self) -> Result<u32, AttributeFault> {
        self.octets().map(u32::from_be_bytes)
    }

    /// The value as items of `N` octets, of which there must be one at least (RFC 7606 section 4).
    fn items<const N: usize>(self) -> Result<&'a [[u8; N]], AttributeFault> {
        match self.value.as_chunks() {
            (items @ [_, ..], []) => Ok(items),
            (_, _) => Err(self.wrong_length()),
        }
    }

    fn set<T: Ord, const N: usize>(
        self,
        item: impl Fn([u8; N]) -> T,
    ) -> Result<CommunitySet<T>, AttributeFault> {
        Ok(self.items()?.iter().map(|octets| item(*octets)).collect())
    }

    /// AS 0 aggregates nothing (RFC 7607 section 2).
    fn aggregator(self, width: AsnWidth) -> Result<Aggregator, AttributeFault> {
        let (asn, [a, b, c, d]) = match width {
            AsnWidth::Two => {
                let [high, low, router_id @ ..] = self.octets::<6>()?;
                (u32::from(u16::from_be_bytes([high, low])), router_id)
            }
            AsnWidth::Four => {
                let [e, f, g, h, router_id @ ..] = self.octets::<8>()?;
                (u32::from_be_bytes([e, f, g, h]), router_id)
            }
        };
        let (asn, router_id) = (Asn(asn), Ipv4Addr::new(a, b, c, d));
        if asn == Asn::ZERO {
            return Err(AttributeFault::Value);
        }
        Ok(Aggregator { asn, router_id })
    }
}

impl RareAttributes {
    fn take(&mut self, raw: Raw<'_>, codec: &Codec) -> Result<(), AttributeFault> {
        match raw.code {
            AttributeCode::AGGREGATOR => self.aggregator = Some(raw.aggregator(codec.asn_width)?),
            AttributeCode::ORIGINATOR_ID => {
                self.originator_id = Some(Ipv4Addr::from(raw.octets::<4>()?));
            }
            AttributeCode::CLUSTER_LIST => {
                let clusters = raw.items::<4>()?;
                self.cluster_list = clusters.iter().copied().map(Ipv4Addr::from).collect();
            }
            AttributeCode::EXTENDED_COMMUNITIES => {
                self.extended_communities = raw.set(ExtendedCommunity)?;
            }
            AttributeCode::LARGE_COMMUNITIES => {
                self.large_communities = raw.set(LargeCommunity::from_wire)?;
            }
            AttributeCode::ONLY_TO_CUSTOMER => self.only_to_customer = Some(Asn(raw.number()?)),
            _ => {}
        }
        Ok(())
    }
}

impl CodeSet {
    /// Whether it was not in the set.
    fn insert(&mut self, AttributeCode(code): AttributeCode) -> bool {
        let word = &mut self.0[usize::from(code / 64)];
        let before = *word;
        *word |= 1 << (code % 64);
        *word != before
    }

    fn contains(&self, AttributeCode(code): AttributeCode) -> bool {
        self.0[usize::from(code / 64)] & 1 << (code % 64) != 0
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// Whether the peer must not send this attribute at all (RFC 7606 sections 7.5, 7.9 and 7.10;
/// RFC 6793 section 4.1).
fn is_unexpected(code: AttributeCode, codec: &Codec) -> bool {
    match code {
        AttributeCode::LOCAL_PREF | AttributeCode::ORIGINATOR_ID | AttributeCode::CLUSTER_LIST => {
            codec.neighbor == NeighborKind::External
        }
        AttributeCode::AS4_PATH | AttributeCode::AS4_AGGREGATOR => {
            codec.asn_width == AsnWidth::Four
        }
        _ => false,
    }
}

fn as_path(value: &[u8], width: AsnWidth, codec: &Codec) -> Result<AsPath, AttributeFault> {
    let path = AsPath::from_wire(value, width)?;
    if path.has_set() && !codec.accept_as_set {
        return Err(AttributeFault::AsSet);
    }
    Ok(path)
}

/// AS4_PATH without the segments of confederations that someone on the way left in it (RFC 6793
/// section 6); sets among them are no better than others (RFC 9774 section 3). What is malformed
/// stays so.
fn without_confederations<'a>(
    value: &'a [u8],
    codec: &Codec,
) -> Result<Cow<'a, [u8]>, AttributeFault> {
    const SEQUENCE: u8 = 3;
    const SET: u8 = 4;
    let mut kept = Vec::new();
    let mut rest = value;
    while let Some((&[kind, count], numbers)) = rest.split_first_chunk() {
        if kind == SET && !codec.accept_as_set {
            return Err(AttributeFault::AsSet);
        }
        let Some(behind) = numbers.get(4 * usize::from(count)..) else { break };
        if !matches!(kind, SEQUENCE | SET) {
            kept.extend_from_slice(&rest[..rest.len() - behind.len()]);
        }
        rest = behind;
    }
    kept.extend_from_slice(rest);
    Ok(if kept.len() == value.len() { Cow::Borrowed(value) } else { Cow::Owned(kept) })
}

/// Whether the address can be a next hop: a host's, not this host's (RFC 4271 section 6.3).
pub(super) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => {
            v6 != Ipv6Addr::UNSPECIFIED && v6 != Ipv6Addr::LOCALHOST && !v6.is_multicast()
        }
    }
}
