//! UPDATE as received: routes withdrawn and announced (RFC 4271 section 4.3, RFC 7606).

use std::net::IpAddr;

use super::attribute::{Found, is_host};
use super::multiprotocol::{NextHop, Reach, Unreach};
use super::nlri::Nlris;
use super::{Codec, reset};
use crate::attribute_code::AttributeCode;
use crate::attributes::Attributes;
use crate::family::{AfiSafi, Family};
use crate::nlri::Nlri;
use crate::notification::NotificationReason;
use crate::reaction::{AttributeFault, Defect, Reaction, SessionReset};

/// An UPDATE, checked. What is [`withdrawn`](Self::withdrawn) goes before what is
/// [`announced`](Self::announced), which counts if both name a route (RFC 4271 section 4.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update<'a> {
    withdrawn: Withdrawn<'a>,
    own: Option<Group<'a>>,
    multiprotocol: Option<Group<'a>>,
    end_of_rib: Option<Family>,
    foreign: Option<AfiSafi>,
    defects: Vec<Defect>,
    defect_count: u32,
    reaction: Option<Reaction>,
}

/// Routes that an UPDATE announces with the same attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announced<'u, 'a> {
    /// The attributes, with the next hop of these routes.
    pub attributes: &'u Attributes,
    /// The routes, one at least.
    pub routes: Nlris<'a>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Group<'a> {
    attributes: Attributes,
    routes: Nlris<'a>,
}

/// By the UPDATE's own field, by MP_UNREACH_NLRI, and what would have been announced by each.
type Withdrawn<'a> = [Nlris<'a>; 4];

impl<'a> Update<'a> {
    /// The most defects that are kept of an UPDATE; further ones are counted.
    pub const DEFECTS_MAX: usize = super::attribute::DEFECTS_MAX;

    /// The routes that are withdrawn: with treat-as-withdraw those announced too.
    pub fn withdrawn(&self) -> impl Iterator<Item = Nlri> + use<'a> {
        self.withdrawn.into_iter().flatten()
    }

    /// The routes that are announced, in a group for each next hop: one at most of the UPDATE's own
    /// field, and one of MP_REACH_NLRI.
    pub fn announced(&self) -> impl Iterator<Item = Announced<'_, 'a>> {
        let groups = self.own.iter().chain(&self.multiprotocol);
        groups.map(|group| Announced { attributes: &group.attributes, routes: group.routes })
    }

    /// The family whose routes are now all told, if that is all that this message says (RFC 4724
    /// section 2).
    #[must_use]
    pub const fn end_of_rib(&self) -> Option<Family> {
        self.end_of_rib
    }

    /// A family that was not negotiated, and of which the message had something all the same. It
    /// was ignored.
    #[must_use]
    pub const fn foreign_family(&self) -> Option<AfiSafi> {
        self.foreign
    }

    /// What was wrong, in the order found: the first [`DEFECTS_MAX`](Self::DEFECTS_MAX).
    #[must_use]
    pub fn defects(&self) -> &[Defect] {
        &self.defects
    }

    /// How many defects there were, kept or not.
    #[must_use]
    pub const fn defect_count(&self) -> u32 {
        self.defect_count
    }

    /// What the defects cost together: the greatest reaction of all. Never
    /// [`Reaction::ResetSession`].
    #[must_use]
    pub const fn reaction(&self) -> Option<Reaction> {
        self.reaction
    }
}

/// The three fields of an UPDATE. Routes of IPv4 are none if that was not negotiated.
struct Fields<'a> {
    withdrawn: Nlris<'a>,
    attributes: &'a [u8],
    announced: Nlris<'a>,
    has_withdrawn: bool,
    has_announced: bool,
}

impl<'a> Fields<'a> {
    /// Lengths that go beyond the message leave the routes unknown (RFC 7606 section 3 b), as do
    /// prefixes that are incorrect (section 5.3).
    fn find(body: &'a [u8], codec: &Codec) -> Result<Self, SessionReset> {
        let malformed = || reset(NotificationReason::MalformedAttributeList, &[]);
        let (withdrawn, rest) = counted(body).ok_or_else(malformed)?;
        let (attributes, announced) = counted(rest).ok_or_else(malformed)?;
        let family = Family::Ipv4Unicast;
        let (has_withdrawn, has_announced) = (!withdrawn.is_empty(), !announced.is_empty());
        let checked = |bytes| {
            let routes = Nlris::checked(family, codec.add_path_in[family.index()], bytes)
                .ok_or_else(|| reset(NotificationReason::InvalidNetworkField, &[]))?;
            let wanted = codec.families[family.index()];
            Ok(if wanted { routes } else { Nlris::empty(family) })
        };
        Ok(Self {
            withdrawn: checked(withdrawn)?,
            attributes,
            announced: checked(announced)?,
            has_withdrawn,
            has_announced,
        })
    }

    /// A family of which something was ignored.
    fn foreign(&self) -> Option<AfiSafi> {
        let ignored = self.has_withdrawn && self.withdrawn.is_empty()
            || self.has_announced && self.announced.is_empty();
        ignored.then_some(Family::Ipv4Unicast.afi_safi())
    }
}

pub(super) fn decode<'a>(body: &'a [u8], codec: &Codec) -> Result<Update<'a>, SessionReset> {
    let fields = Fields::find(body, codec)?;
    let mut found = Found::default();
    found.take_all(fields.attributes, codec)?;
    check_together(&fields, &mut found)?;
    let end_of_rib = end_of_rib(&fields, &found, codec);
    let mut foreign = fields.foreign();
    let (mut withdrawn, mut reach) = ([fields.withdrawn, EMPTY, EMPTY, EMPTY], None);
    match found.unreach.take() {
        Some(Unreach::Routes(routes)) => withdrawn[1] = routes,
        Some(Unreach::Foreign(afi_safi)) => foreign = Some(afi_safi),
        None => {}
    }
    match found.reach.take() {
        Some(Reach::Routes { next_hop, routes }) => reach = Some((next_hop, routes)),
        Some(Reach::Foreign { afi_safi, .. }) => foreign = Some(afi_safi),
        None => {}
    }
    let faults = std::mem::take(&mut found.faults);
    let (mut own, mut multiprotocol) = (None, None);
    if faults.reaction == Some(Reaction::TreatAsWithdraw) {
        withdrawn[2] = fields.announced;
        withdrawn[3] = reach.map_or(EMPTY, |(_, routes)| routes);
    } else {
        (own, multiprotocol) = groups(fields.announced, reach, found);
    }
    Ok(Update {
        withdrawn,
        own,
        multiprotocol,
        end_of_rib,
        foreign,
        defects: faults.kept,
        defect_count: faults.count,
        reaction: faults.reaction,
    })
}

const EMPTY: Nlris<'static> = Nlris::empty(Family::Ipv4Unicast);

/// What only the whole message shows: attributes that are missing, and faults without routes to
/// withdraw for them, of which there may have been some all the same (RFC 7606 section 5.2).
fn check_together(fields: &Fields<'_>, found: &mut Found<'_>) -> Result<(), SessionReset> {
    let by_reach = matches!(&found.reach, Some(Reach::Routes { routes, .. }) if !routes.is_empty());
    if !fields.announced.is_empty() {
        if found.next_hop.is_some_and(|next_hop| !is_host(IpAddr::V4(next_hop))) {
            found.faults.withdraw(AttributeCode::NEXT_HOP, AttributeFault::Value, &[]);
        }
        found.require(&[AttributeCode::ORIGIN, AttributeCode::AS_PATH, AttributeCode::NEXT_HOP])?;
    } else if by_reach {
        found.require(&[AttributeCode::ORIGIN, AttributeCode::AS_PATH])?;
    }
    let announces =
        fields.has_announced || found.reach.as_ref().is_some_and(|reach| !reach.is_empty());
    match found.faults.reset() {
        Some(reset) if !announces => Err(reset),
        Some(_) | None => Ok(()),
    }
}

fn end_of_rib(fields: &Fields<'_>, found: &Found<'_>, codec: &Codec) -> Option<Family> {
    if fields.has_withdrawn || fields.has_announced {
        return None;
    }
    if fields.attributes.is_empty() {
        let family = Family::Ipv4Unicast;
        return codec.families[family.index()].then_some(family);
    }
    match &found.unreach {
        Some(Unreach::Routes(routes)) if routes.is_empty() && found.is_only_unreach() => {
            Some(routes.family())
        }
        Some(Unreach::Routes(_) | Unreach::Foreign(_)) | None => None,
    }
}

/// The routes of the UPDATE's own field and of MP_REACH_NLRI, where there are some, each with the
/// attributes and its next hop.
fn groups<'a>(
    own: Nlris<'a>,
    reach: Option<(NextHop, Nlris<'a>)>,
    found: Found<'a>,
) -> (Option<Group<'a>>, Option<Group<'a>>) {
    let own_next_hop = found.next_hop.filter(|_| !own.is_empty()).map(IpAddr::V4);
    let reach = reach.filter(|(_, routes)| !routes.is_empty());
    let of_own = |attributes| Some(Group { attributes, routes: own });
    let of_reach = |attributes, next_hop, routes| {
        Some(Group { attributes: with_next_hop(attributes, next_hop), routes })
    };
    match (own_next_hop, reach) {
        (None, None) => (None, None),
        (Some(own), None) => (found.into_attributes(own).and_then(of_own), None),
        (None, Some((hop, routes))) => {
            let attributes = found.into_attributes(hop.global);
            (None, attributes.and_then(|attributes| of_reach(attributes, hop, routes)))
        }
        (Some(own), Some((hop, routes))) => match found.into_attributes(own) {
            Some(attributes) => (of_own(attributes.clone()), of_reach(attributes, hop, routes)),
            None => (None, None),
        },
    }
}

fn with_next_hop(mut attributes: Attributes, next_hop: NextHop) -> Attributes {
    attributes.next_hop = next_hop.global;
    if next_hop.link_local.is_some() {
        attributes.edit_rare(|rare| rare.link_local_next_hop = next_hop.link_local);
    }
    attributes
}

/// The field behind a length of two octets, and what is behind it.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, behind) = bytes.split_first_chunk()?;
    behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests;
