//! Type codes of path attributes, and what is known of each: its flags and what it costs when it is
//! malformed.

use std::fmt;

use crate::reaction::Reaction;

/// The type code of a path attribute (RFC 4271 section 4.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeCode(pub u8);

/// What the flags of an attribute must say (RFC 4271 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttributeClass {
    /// Everyone recognizes it and passes it on: transitive, not optional.
    WellKnown,
    /// Passed on even by those who do not recognize it.
    OptionalTransitive,
    /// Ignored and not passed on by those who do not recognize it.
    OptionalNonTransitive,
}

impl AttributeClass {
    /// The flag of an attribute that need not be recognized.
    pub const OPTIONAL: u8 = 0x80;
    /// The flag of an attribute that is passed on.
    pub const TRANSITIVE: u8 = 0x40;
    /// The flag of an optional transitive attribute that someone passed on unrecognized.
    pub const PARTIAL: u8 = 0x20;
    /// The flag of a length in two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;

    /// The class that flags say; none has neither flag (RFC 4271 section 4.3).
    #[must_use]
    pub const fn from_flags(flags: u8) -> Option<Self> {
        match (flags & Self::OPTIONAL != 0, flags & Self::TRANSITIVE != 0) {
            (false, true) => Some(Self::WellKnown),
            (true, true) => Some(Self::OptionalTransitive),
            (true, false) => Some(Self::OptionalNonTransitive),
            (false, false) => None,
        }
    }

    /// The flags of an attribute of this class, neither partial nor of extended length.
    #[must_use]
    pub const fn flags(self) -> u8 {
        match self {
            Self::WellKnown => Self::TRANSITIVE,
            Self::OptionalTransitive => Self::OPTIONAL | Self::TRANSITIVE,
            Self::OptionalNonTransitive => Self::OPTIONAL,
        }
    }
}

/// One row for each attribute that this speaker recognizes: its code, its name, what its flags must
/// be, and what it costs when it is malformed.
struct Known {
    code: AttributeCode,
    name: &'static str,
    class: AttributeClass,
    malformed: Reaction,
}

const fn known(
    code: AttributeCode,
    name: &'static str,
    class: AttributeClass,
    malformed: Reaction,
) -> Known {
    Known { code, name, class, malformed }
}

impl AttributeCode {
    /// RFC 4271 section 5.1.1.
    pub const ORIGIN: Self = Self(1);
    /// RFC 4271 section 5.1.2.
    pub const AS_PATH: Self = Self(2);
    /// RFC 4271 section 5.1.3.
    pub const NEXT_HOP: Self = Self(3);
    /// RFC 4271 section 5.1.4.
    pub const MULTI_EXIT_DISC: Self = Self(4);
    /// RFC 4271 section 5.1.5.
    pub const LOCAL_PREF: Self = Self(5);
    /// RFC 4271 section 5.1.6.
    pub const ATOMIC_AGGREGATE: Self = Self(6);
    /// RFC 4271 section 5.1.7.
    pub const AGGREGATOR: Self = Self(7);
    /// RFC 1997.
    pub const COMMUNITIES: Self = Self(8);
    /// RFC 4456 section 8.
    pub const ORIGINATOR_ID: Self = Self(9);
    /// RFC 4456 section 8.
    pub const CLUSTER_LIST: Self = Self(10);
    /// RFC 4760 section 3.
    pub const MP_REACH_NLRI: Self = Self(14);
    /// RFC 4760 section 4.
    pub const MP_UNREACH_NLRI: Self = Self(15);
    /// RFC 4360.
    pub const EXTENDED_COMMUNITIES: Self = Self(16);
    /// RFC 6793 section 3.
    pub const AS4_PATH: Self = Self(17);
    /// RFC 6793 section 3.
    pub const AS4_AGGREGATOR: Self = Self(18);
    /// RFC 8092.
    pub const LARGE_COMMUNITIES: Self = Self(32);
    /// RFC 9234 section 5.
    pub const ONLY_TO_CUSTOMER: Self = Self(35);

    const KNOWN: [Known; 17] = {
        use AttributeClass::{OptionalNonTransitive, OptionalTransitive, WellKnown};
        use Reaction::{DiscardAttribute, ResetSession, TreatAsWithdraw};
        [
            // RFC 7606 sections 7.1 to 7.10, 7.14.
            known(Self::ORIGIN, "ORIGIN", WellKnown, TreatAsWithdraw),
            known(Self::AS_PATH, "AS_PATH", WellKnown, TreatAsWithdraw),
            known(Self::NEXT_HOP, "NEXT_HOP", WellKnown, TreatAsWithdraw),
            known(Self::MULTI_EXIT_DISC, "MULTI_EXIT_DISC", OptionalNonTransitive, TreatAsWithdraw),
            known(Self::LOCAL_PREF, "LOCAL_PREF", WellKnown, TreatAsWithdraw),
            known(Self::ATOMIC_AGGREGATE, "ATOMIC_AGGREGATE", WellKnown, DiscardAttribute),
            known(Self::AGGREGATOR, "AGGREGATOR", OptionalTransitive, DiscardAttribute),
            known(Self::COMMUNITIES, "COMMUNITIES", OptionalTransitive, TreatAsWithdraw),
            known(Self::ORIGINATOR_ID, "ORIGINATOR_ID", OptionalNonTransitive, TreatAsWithdraw),
            known(Self::CLUSTER_LIST, "CLUSTER_LIST", OptionalNonTransitive, TreatAsWithdraw),
            // Without them it is unknown which routes the message is about: section 5.3.
            known(Self::MP_REACH_NLRI, "MP_REACH_NLRI", OptionalNonTransitive, ResetSession),
            known(Self::MP_UNREACH_NLRI, "MP_UNREACH_NLRI", OptionalNonTransitive, ResetSession),
            known(
                Self::EXTENDED_COMMUNITIES,
                "EXTENDED_COMMUNITIES",
                OptionalTransitive,
                TreatAsWithdraw,
            ),
            // RFC 6793 section 6.
            known(Self::AS4_PATH, "AS4_PATH", OptionalTransitive, DiscardAttribute),
            known(Self::AS4_AGGREGATOR, "AS4_AGGREGATOR", OptionalTransitive, DiscardAttribute),
            // RFC 8092 section 6, RFC 9234 section 5.
            known(
                Self::LARGE_COMMUNITIES,
                "LARGE_COMMUNITIES",
                OptionalTransitive,
                TreatAsWithdraw,
            ),
            known(Self::ONLY_TO_CUSTOMER, "ONLY_TO_CUSTOMER", OptionalTransitive, TreatAsWithdraw),
        ]
    };

    /// The class that the attribute's flags must say, if this speaker recognizes it.
    #[must_use]
    pub fn class(self) -> Option<AttributeClass> {
        self.known().map(|known| known.class)
    }

    /// What it costs when the value of the attribute is malformed (RFC 7606 section 7). Values of
    /// unrecognized attributes are never looked at.
    #[must_use]
    pub fn on_malformed(self) -> Option<Reaction> {
        self.known().map(|known| known.malformed)
    }

    /// The name in the standards, if this speaker recognizes it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|known| known.name)
    }

    fn known(self) -> Option<&'static Known> {
        const { &Self::KNOWN }.iter().find(|known| known.code == self)
    }
}

/// The name, or the number of an attribute that is not recognized.
impl fmt::Display for AttributeCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "attribute {}", self.0),
        }
    }
}

impl fmt::Debug for AttributeCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_ones_stand_in_ascending_order_each_once() {
        assert!(AttributeCode::KNOWN.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    #[test]
    fn flags_say_the_class_whatever_partial_and_length() {
        for class in [
            AttributeClass::WellKnown,
            AttributeClass::OptionalTransitive,
            AttributeClass::OptionalNonTransitive,
        ] {
            let others = AttributeClass::PARTIAL | AttributeClass::EXTENDED_LENGTH;
            assert_eq!(AttributeClass::from_flags(class.flags() | others), Some(class));
        }
        assert_eq!(AttributeClass::from_flags(AttributeClass::PARTIAL), None);
    }

    #[test]
    fn what_a_malformed_attribute_costs_is_what_rfc_7606_says() {
        let having = |reaction| {
            let codes = AttributeCode::KNOWN.iter().filter(|known| known.malformed == reaction);
            codes.map(|known| known.code.0).collect::<Vec<_>>()
        };
        assert_eq!(having(Reaction::DiscardAttribute), [6, 7, 17, 18]);
        assert_eq!(having(Reaction::TreatAsWithdraw), [1, 2, 3, 4, 5, 8, 9, 10, 16, 32, 35]);
        assert_eq!(having(Reaction::ResetSession), [14, 15]);
        assert_eq!(AttributeCode(99).on_malformed(), None);
        assert_eq!(AttributeCode(99).to_string(), "attribute 99");
    }
}
