//! What errors in messages cost. A wire error is the reaction that the standards ask for (RFC 7606
//! section 2): an attribute discarded, routes treated as withdrawn, or a session reset together
//! with the NOTIFICATION that it owes. What was wrong is kept beside it for counters and logs.

use crate::as_path::InvalidAsPath;
use crate::attribute_code::AttributeCode;
use crate::notification::{Notification, NotificationReason};

/// What an error in an UPDATE costs, the least first; of several errors in one message the greatest
/// counts (RFC 7606 section 3 h). "AFI/SAFI disable" is not used: it is a reset here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reaction {
    /// The attribute is as if it had not been there.
    DiscardAttribute,
    /// Every route that the message announces is withdrawn instead.
    TreatAsWithdraw,
    /// The session ends with a NOTIFICATION.
    ResetSession,
}

/// A message after which the session cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("session reset: {notification}")]
pub struct SessionReset {
    /// What the other end is told.
    pub notification: Notification,
}

/// One error in the attributes of an UPDATE that the session survives.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {fault}")]
pub struct Defect {
    /// The attribute.
    pub code: AttributeCode,
    /// What is wrong with it.
    pub fault: AttributeFault,
    /// What it costs: never [`Reaction::ResetSession`], which is a [`SessionReset`].
    pub reaction: Reaction,
}

/// What can be wrong with an attribute (RFC 4271 section 6.3, RFC 7606 sections 3, 4 and 7).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttributeFault {
    /// The optional and transitive flags contradict the attribute's definition (section 3 c).
    #[error("flags {0:#04x} contradict the definition")]
    Flags(u8),
    /// The length is none that the attribute can have (section 7).
    #[error("{0} bytes are no possible length")]
    Length(u16),
    /// The value is none that the attribute can have, such as an ORIGIN of 3 or a next hop that
    /// cannot be a host's (section 7).
    #[error("the value is impossible")]
    Value,
    /// The AS path is malformed (section 7.2).
    #[error(transparent)]
    AsPath(#[from] InvalidAsPath),
    /// The attribute ends behind the attributes, or there is no room for its head (section 4).
    #[error("it ends behind the path attributes")]
    Overrun,
    /// It is mandatory and not there (section 3 d).
    #[error("it is mandatory and missing")]
    Missing,
    /// It came a second time; the first counts (section 3 g).
    #[error("it came before in this message")]
    Repeated,
    /// It is none that this neighbour may send, such as LOCAL_PREF of an external one (sections
    /// 7.5, 7.9, 7.10).
    #[error("a neighbour of this kind must not send it")]
    Unexpected,
    /// It is well-known by its flags and not recognized (RFC 4271 section 6.3).
    #[error("it is well-known and not recognized")]
    Unrecognized,
}

impl AttributeFault {
    /// What this fault costs with this attribute.
    #[must_use]
    pub fn reaction(&self, code: AttributeCode) -> Reaction {
        let multiprotocol =
            matches!(code, AttributeCode::MP_REACH_NLRI | AttributeCode::MP_UNREACH_NLRI);
        match self {
            Self::Length(_) | Self::Value | Self::AsPath(_) => {
                code.on_malformed().unwrap_or(Reaction::TreatAsWithdraw)
            }
            Self::Overrun if multiprotocol => Reaction::ResetSession,
            Self::Flags(_) | Self::Overrun | Self::Missing => Reaction::TreatAsWithdraw,
            Self::Repeated if multiprotocol => Reaction::ResetSession,
            Self::Repeated | Self::Unexpected => Reaction::DiscardAttribute,
            Self::Unrecognized => Reaction::ResetSession,
        }
    }

    /// The reason of the NOTIFICATION if this fault resets the session (RFC 4271 section 6.3).
    #[must_use]
    pub const fn notification_reason(&self) -> NotificationReason {
        match self {
            Self::Flags(_) => NotificationReason::AttributeFlags,
            Self::Length(_) => NotificationReason::AttributeLength,
            Self::AsPath(_) => NotificationReason::MalformedAsPath,
            Self::Missing => NotificationReason::MissingWellKnownAttribute,
            Self::Value => NotificationReason::OptionalAttribute,
            Self::Overrun | Self::Repeated | Self::Unexpected => {
                NotificationReason::MalformedAttributeList
            }
            Self::Unrecognized => NotificationReason::UnrecognizedWellKnownAttribute,
        }
    }
}

impl Defect {
    /// The error, if the session survives it, or else the reset that it costs. `attribute` is the
    /// whole attribute with its flags, code and length, which the NOTIFICATION carries.
    ///
    /// # Errors
    ///
    /// The fault costs the session.
    pub fn new(
        code: AttributeCode,
        fault: AttributeFault,
        attribute: &[u8],
    ) -> Result<Self, SessionReset> {
        match fault.reaction(code) {
            Reaction::ResetSession => {
                let reason = fault.notification_reason();
                // A malformed list has no data (RFC 4271 section 6.3).
                let list = reason == NotificationReason::MalformedAttributeList;
                let data = if list { &[] } else { attribute };
                Err(SessionReset { notification: Notification::new(reason, data) })
            }
            reaction @ (Reaction::DiscardAttribute | Reaction::TreatAsWithdraw) => {
                Ok(Self { code, fault, reaction })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_reactions_the_greatest_counts() {
        assert!(Reaction::DiscardAttribute < Reaction::TreatAsWithdraw);
        assert!(Reaction::TreatAsWithdraw < Reaction::ResetSession);
    }

    #[test]
    fn a_fault_costs_what_its_attribute_says() {
        use AttributeFault::*;
        use Reaction::*;
        for (code, fault, reaction) in [
            (AttributeCode::ORIGIN, Value, TreatAsWithdraw),
            (AttributeCode::ORIGIN, Missing, TreatAsWithdraw),
            (AttributeCode::ORIGIN, Flags(0xC0), TreatAsWithdraw),
            (AttributeCode::ORIGIN, Repeated, DiscardAttribute),
            (AttributeCode::AS_PATH, AsPath(InvalidAsPath::EmptySegment(0)), TreatAsWithdraw),
            (AttributeCode::AS4_PATH, AsPath(InvalidAsPath::EmptySegment(0)), DiscardAttribute),
            (AttributeCode::AGGREGATOR, Length(5), DiscardAttribute),
            (AttributeCode::LOCAL_PREF, Length(3), TreatAsWithdraw),
            (AttributeCode::LOCAL_PREF, Unexpected, DiscardAttribute),
            (AttributeCode::COMMUNITIES, Overrun, TreatAsWithdraw),
            (AttributeCode::MP_REACH_NLRI, Overrun, ResetSession),
            (AttributeCode::MP_REACH_NLRI, Repeated, ResetSession),
            (AttributeCode::MP_REACH_NLRI, Length(3), ResetSession),
            (AttributeCode(99), Unrecognized, ResetSession),
        ] {
            assert_eq!(fault.reaction(code), reaction, "{code}: {fault}");
        }
    }

    #[test]
    fn a_reset_carries_the_attribute_that_caused_it() {
        let attribute = [0x40, 99, 1, 7];
        let reset = Defect::new(AttributeCode(99), AttributeFault::Unrecognized, &attribute);
        let reason = NotificationReason::UnrecognizedWellKnownAttribute;
        let notification = Notification::new(reason, &attribute);
        assert_eq!(reset, Err(SessionReset { notification }));

        let twice = Defect::new(AttributeCode::MP_REACH_NLRI, AttributeFault::Repeated, &attribute);
        let notification = Notification::new(NotificationReason::MalformedAttributeList, &[]);
        assert_eq!(twice, Err(SessionReset { notification }));
    }

    #[test]
    fn a_defect_says_what_it_is() {
        let defect = Defect::new(AttributeCode::ORIGIN, AttributeFault::Length(2), &[]).unwrap();
        assert_eq!(defect.to_string(), "ORIGIN: 2 bytes are no possible length");
        assert_eq!(defect.reaction, Reaction::TreatAsWithdraw);
    }
}
