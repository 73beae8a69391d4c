//! What a rule does to a route that it matches.

use std::net::IpAddr;

use nvgate_model::Asn;

use crate::origin::Origin;

use super::community::CommunityChange;
use super::condition::DEFAULT_LOCAL_PREFERENCE;
use super::route::{Change, NextHopChange};

/// One change of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Sets LOCAL_PREF. In export rules it goes to internal neighbours only.
    LocalPreference(u32),
    /// Changes MULTI_EXIT_DISC. In export rules the result goes to other ASes, too.
    Med(MedChange),
    /// Changes the communities.
    Communities(CommunityChange),
    /// Puts an AS before the path. In export rules it reaches external neighbours only, because
    /// within an AS paths stay as they are (RFC 4271 section 5.1.2).
    Prepend(Prepend),
    /// Sets the next hop.
    NextHop(NextHopAddress),
    /// Sets the next hop to our own address on the session; export only.
    NextHopSelf,
    /// Sets the weight, which decides before LOCAL_PREF and stays here; import only.
    Weight(u16),
    /// Sets ORIGIN.
    Origin(Origin),
}

/// A change of MULTI_EXIT_DISC; none counts as 0, sums stay within 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MedChange {
    /// To this.
    Set(u32),
    /// To this much more.
    Add(u32),
    /// To this much less.
    Subtract(u32),
    /// To none.
    Remove,
}

/// An AS to put before a path, 1 to 10 times.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prepend {
    asn: Option<Asn>,
    times: u8,
}

/// An AS that cannot be prepended, or not so often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidPrepend {
    /// Not 1 to 10 times.
    #[error("prepending {0} times is not 1 to 10 times")]
    Times(u8),
    /// Nobody's AS has this number.
    #[error("AS {0} is reserved and cannot be prepended")]
    Reserved(Asn),
}

/// An address that packets can be sent to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NextHopAddress(IpAddr);

/// An address that no packet can be sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is not a unicast address, and cannot be a next hop")]
pub struct InvalidNextHop(pub IpAddr);

impl Action {
    pub(super) fn apply(&self, change: &mut Change<'_>) {
        match self {
            Self::LocalPreference(value) => {
                if change.attributes.local_preference != Some(*value) {
                    change.attributes.to_mut().local_preference = Some(*value);
                }
            }
            Self::Med(med) => {
                change.med_decided = true;
                let changed = med.applied(change.attributes.med);
                if change.attributes.med != changed {
                    change.attributes.to_mut().med = changed;
                }
            }
            Self::Communities(communities) => communities.apply(&mut change.attributes),
            Self::Prepend(prepend) => {
                let asn = prepend.asn.unwrap_or(change.own_asn);
                let longer = change.attributes.as_path.prepended(asn, prepend.times);
                change.attributes.to_mut().as_path = longer;
                change.prepended += usize::from(prepend.times);
            }
            Self::NextHop(address) => change.set_next_hop(address.0),
            Self::NextHopSelf => change.next_hop = NextHopChange::Own,
            Self::Weight(weight) => change.weight = Some(*weight),
            Self::Origin(origin) => {
                if change.attributes.origin != *origin {
                    change.attributes.to_mut().origin = *origin;
                }
            }
        }
    }

    /// How many numbers this puts before the path.
    pub(super) const fn prepends(&self) -> u8 {
        if let Self::Prepend(prepend) = self { prepend.times } else { 0 }
    }

    /// The name in configuration and `explain`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LocalPreference(_) => "local-preference",
            Self::Med(_) => "med",
            Self::Communities(_) => "communities",
            Self::Prepend(_) => "prepend",
            Self::NextHop(_) => "next-hop",
            Self::NextHopSelf => "next-hop-self",
            Self::Weight(_) => "weight",
            Self::Origin(_) => "origin",
        }
    }
}

impl Change<'_> {
    fn set_next_hop(&mut self, address: IpAddr) {
        self.next_hop = NextHopChange::Address(address);
        if self.attributes.next_hop == address {
            return;
        }
        let attributes = self.attributes.to_mut();
        attributes.next_hop = address;
        // The link-local address beside it was the other next hop's.
        if attributes.rare().is_some() {
            attributes.edit_rare(|rare| rare.link_local_next_hop = None);
        }
    }

    /// Makes the route the least preferred one (RFC 8326 section 4): no weight that would outrank
    /// LOCAL_PREF, and the lowest of that.
    pub(super) fn set_least_preferred(&mut self) {
        self.weight = None;
        Action::LocalPreference(0).apply(self);
    }

    /// Gives a route without LOCAL_PREF the default.
    pub(super) fn default_local_preference(&mut self) {
        if self.attributes.local_preference.is_none() {
            Action::LocalPreference(DEFAULT_LOCAL_PREFERENCE).apply(self);
        }
    }
}

impl MedChange {
    fn applied(self, med: Option<u32>) -> Option<u32> {
        let value = med.unwrap_or(0);
        match self {
            Self::Set(value) => Some(value),
            Self::Add(more) => Some(value.saturating_add(more)),
            Self::Subtract(less) => Some(value.saturating_sub(less)),
            Self::Remove => None,
        }
    }
}

impl Prepend {
    const TIMES_MAX: u8 = 10;

    /// Our own AS, as the neighbour knows it, so many times.
    ///
    /// # Errors
    ///
    /// Not 1 to 10 times.
    pub const fn own(times: u8) -> Result<Self, InvalidPrepend> {
        if matches!(times, 1..=Self::TIMES_MAX) {
            return Ok(Self { asn: None, times });
        }
        Err(InvalidPrepend::Times(times))
    }

    /// This AS so many times.
    ///
    /// # Errors
    ///
    /// Not 1 to 10 times, or the AS is reserved (RFC 7607, RFC 7300).
    pub const fn of(asn: Asn, times: u8) -> Result<Self, InvalidPrepend> {
        if asn.is_reserved() {
            return Err(InvalidPrepend::Reserved(asn));
        }
        match Self::own(times) {
            Ok(own) => Ok(Self { asn: Some(asn), ..own }),
            Err(error) => Err(error),
        }
    }
}

impl NextHopAddress {
    /// The next hop `address`.
    ///
    /// # Errors
    ///
    /// It is unspecified, a loopback or multicast address, or of 0.0.0.0/8 or 240.0.0.0/4.
    pub fn new(address: IpAddr) -> Result<Self, InvalidNextHop> {
        if is_next_hop(address) { Ok(Self(address)) } else { Err(InvalidNextHop(address)) }
    }
}

/// Whether packets can be sent to `address`: RFC 4271 section 6.3 wants a valid host address.
pub(super) const fn is_next_hop(address: IpAddr) -> bool {
    let reserved = match address {
        IpAddr::V4(v4) => matches!(v4.octets(), [0 | 240..=255, ..]),
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    !reserved && !address.is_loopback() && !address.is_multicast()
}
