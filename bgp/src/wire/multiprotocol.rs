//! MP_REACH_NLRI and MP_UNREACH_NLRI: routes of any family in an attribute (RFC 4760).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Codec;
use super::nlri::Nlris;
use crate::family::{AfiSafi, Family};
use crate::reaction::AttributeFault;

/// The value of MP_REACH_NLRI.
#[derive(Debug)]
pub(super) enum Reach<'a> {
    /// Routes of a family that was negotiated.
    Routes { next_hop: NextHop, routes: Nlris<'a> },
    /// Something of another family, which is ignored.
    Foreign { afi_safi: AfiSafi, is_empty: bool },
}

/// The value of MP_UNREACH_NLRI.
#[derive(Debug)]
pub(super) enum Unreach<'a> {
    /// Routes of a family that was negotiated.
    Routes(Nlris<'a>),
    /// Something of another family, which is ignored.
    Foreign(AfiSafi),
}

/// A next hop as the attribute may hold it (RFC 2545 section 3, RFC 8950 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NextHop {
    pub(super) global: IpAddr,
    pub(super) link_local: Option<Ipv6Addr>,
}

impl<'a> Reach<'a> {
    pub(super) fn from_wire(value: &'a [u8], codec: &Codec) -> Result<Self, AttributeFault> {
        let parts = || {
            let (&[high, low, safi, length], rest) = value.split_first_chunk()?;
            let (next_hop, rest) = rest.split_at_checked(usize::from(length))?;
            let (_reserved, nlri) = rest.split_first()?;
            Some((AfiSafi { afi: u16::from_be_bytes([high, low]), safi }, next_hop, nlri))
        };
        let (afi_safi, next_hop, nlri) =
            parts().ok_or(AttributeFault::Length(value.len() as u16))?;
        let Some(family) = negotiated(afi_safi, codec) else {
            return Ok(Self::Foreign { afi_safi, is_empty: nlri.is_empty() });
        };
        let next_hop = NextHop::from_wire(next_hop, family, codec).ok_or(AttributeFault::Value)?;
        let routes = Nlris::checked(family, codec.add_path_in[family.index()], nlri)
            .ok_or(AttributeFault::Value)?;
        Ok(Self::Routes { next_hop, routes })
    }

    /// Whether it announces nothing, of whatever family.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Routes { routes, .. } => routes.is_empty(),
            Self::Foreign { is_empty, .. } => *is_empty,
        }
    }
}

impl<'a> Unreach<'a> {
    pub(super) fn from_wire(value: &'a [u8], codec: &Codec) -> Result<Self, AttributeFault> {
        let (&[high, low, safi], nlri) =
            value.split_first_chunk().ok_or(AttributeFault::Length(value.len() as u16))?;
        let afi_safi = AfiSafi { afi: u16::from_be_bytes([high, low]), safi };
        let Some(family) = negotiated(afi_safi, codec) else {
            return Ok(Self::Foreign(afi_safi));
        };
        Nlris::checked(family, codec.add_path_in[family.index()], nlri)
            .map(Self::Routes)
            .ok_or(AttributeFault::Value)
    }
}

impl NextHop {
    /// None if its length is not one that the family may have: then nothing behind it can be
    /// found (RFC 7606 section 7.11).
    fn from_wire(bytes: &[u8], family: Family, codec: &Codec) -> Option<Self> {
        let ipv6 = match family {
            Family::Ipv4Unicast => codec.ipv6_next_hop,
            Family::Ipv6Unicast => true,
        };
        if let Ok(octets) = <[u8; 4]>::try_from(bytes)
            && family == Family::Ipv4Unicast
        {
            return Some(Self { global: IpAddr::V4(Ipv4Addr::from(octets)), link_local: None });
        }
        match bytes.as_chunks::<16>() {
            ([global], []) if ipv6 => Some(Self::of_ipv6((*global).into(), None)),
            ([global, second], []) if ipv6 => {
                Some(Self::of_ipv6((*global).into(), Some((*second).into())))
            }
            (_, _) => None,
        }
    }

    /// What is second counts only if it is link-local. Where the first is unspecified, as on links
    /// without global addresses, it stands for it.
    fn of_ipv6(first: Ipv6Addr, second: Option<Ipv6Addr>) -> Self {
        let link_local = second.filter(|second| second.is_unicast_link_local());
        match link_local {
            Some(only) if first.is_unspecified() => {
                Self { global: IpAddr::V6(only), link_local: None }
            }
            link_local => Self { global: IpAddr::V6(first), link_local },
        }
    }
}

fn negotiated(afi_safi: AfiSafi, codec: &Codec) -> Option<Family> {
    afi_safi.family().filter(|family| codec.families[family.index()])
}
