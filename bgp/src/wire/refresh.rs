//! ROUTE-REFRESH (RFC 2918), with its marks of beginning and end (RFC 7313).

use super::header::{Frame, MessageType, begin, end};
use super::reset;
use crate::family::AfiSafi;
use crate::notification::NotificationReason;
use crate::reaction::SessionReset;

/// A ROUTE-REFRESH message. One for a family that was not negotiated is ignored (RFC 2918
/// section 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RouteRefresh {
    /// The family, implemented or not.
    pub afi_safi: AfiSafi,
    /// What is said of it.
    pub kind: RefreshKind,
}

/// The subtypes (RFC 7313 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefreshKind {
    /// 0: all routes of the family are wanted again.
    Request,
    /// 1, BoRR: all routes of the family follow.
    Begin,
    /// 2, EoRR: what did not follow is gone.
    End,
    /// Another subtype, which is ignored (RFC 7313 section 5).
    Unknown(u8),
}

impl RefreshKind {
    const fn from_wire(subtype: u8) -> Self {
        match subtype {
            0 => Self::Request,
            1 => Self::Begin,
            2 => Self::End,
            subtype => Self::Unknown(subtype),
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Begin => 1,
            Self::End => 2,
            Self::Unknown(subtype) => subtype,
        }
    }
}

/// Appends a ROUTE-REFRESH.
pub fn encode_refresh(refresh: RouteRefresh, out: &mut Vec<u8>) {
    let start = begin(MessageType::RouteRefresh, out);
    out.extend_from_slice(&refresh.afi_safi.afi.to_be_bytes());
    out.extend_from_slice(&[refresh.kind.to_wire(), refresh.afi_safi.safi]);
    end(start, out);
}

pub(super) fn decode(frame: Frame<'_>) -> Result<RouteRefresh, SessionReset> {
    let wrong = || reset(NotificationReason::BadRefreshLength, frame.bytes());
    let Some((&[high, low, subtype, safi], filters)) = frame.body().split_first_chunk() else {
        return Err(wrong());
    };
    let kind = RefreshKind::from_wire(subtype);
    if matches!(kind, RefreshKind::Begin | RefreshKind::End) && !filters.is_empty() {
        return Err(wrong());
    }
    Ok(RouteRefresh { afi_safi: AfiSafi { afi: u16::from_be_bytes([high, low]), safi }, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notification::Notification;
    use crate::wire::{Codec, Message, MessageLimit, NeighborKind, frame};

    fn received(body: &[u8]) -> Result<RouteRefresh, Notification> {
        let mut bytes = Vec::new();
        let start = begin(MessageType::RouteRefresh, &mut bytes);
        bytes.extend_from_slice(body);
        end(start, &mut bytes);
        let whole = frame(&bytes, MessageLimit::Standard).unwrap().unwrap();
        match crate::wire::decode(whole, &Codec::initial(NeighborKind::External)) {
            Ok(Message::Refresh(refresh)) => Ok(refresh),
            Err(reset) => Err(reset.notification),
            Ok(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_subtype_has_its_bytes_and_is_read_again() {
        let afi_safi = AfiSafi { afi: 2, safi: 1 };
        for (subtype, kind) in [
            (0, RefreshKind::Request),
            (1, RefreshKind::Begin),
            (2, RefreshKind::End),
            (3, RefreshKind::Unknown(3)),
        ] {
            let refresh = RouteRefresh { afi_safi, kind };
            let mut bytes = Vec::new();
            encode_refresh(refresh, &mut bytes);
            assert_eq!(bytes[16..], [0, 23, 5, 0, 2, subtype, 1]);
            assert_eq!(received(&bytes[19..]), Ok(refresh));
        }
    }

    #[test]
    fn a_family_that_is_not_implemented_keeps_its_numbers() {
        let refresh = RouteRefresh {
            afi_safi: AfiSafi { afi: 0x4004, safi: 71 },
            kind: RefreshKind::Request,
        };
        assert_eq!(received(&[0x40, 4, 0, 71]), Ok(refresh));
    }

    #[test]
    fn marks_that_are_longer_are_refused_with_the_whole_message() {
        for subtype in [1, 2] {
            let notification = received(&[0, 1, subtype, 1, 0]).unwrap_err();
            assert_eq!(notification.reason, NotificationReason::BadRefreshLength);
            assert_eq!(notification.data[16..], [0, 24, 5, 0, 1, subtype, 1, 0]);
        }
    }
}
