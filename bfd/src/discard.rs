//! Why a packet was discarded: one counter each, with names that stay stable.

macro_rules! discards {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a packet was discarded (6.8.6, RFC 5881 section 5). A discarded packet changes
        /// nothing but the counter of its reason; only one for a session that is administratively
        /// down is remembered, as 6.8.6 asks.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Discard {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Discard {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable name, as metrics and status show it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

discards! {
    /// The payload is shorter than the 24 bytes of the mandatory section.
    Truncated => "truncated",
    /// The version is not 1.
    Version => "version",
    /// The Length field is below 24, or below 26 with an authentication section.
    LengthTooSmall => "length_too_small",
    /// The Length field is greater than the payload.
    LengthBeyondPayload => "length_beyond_payload",
    /// The detection multiplier is zero.
    MultiplierZero => "multiplier_zero",
    /// The multipoint bit is set.
    Multipoint => "multipoint",
    /// My Discriminator is zero.
    MyDiscriminatorZero => "my_discriminator_zero",
    /// Your Discriminator is zero although the state is neither Down nor AdminDown.
    YourDiscriminatorZero => "your_discriminator_zero",
    /// Your Discriminator names no session.
    UnknownDiscriminator => "unknown_discriminator",
    /// Your Discriminator is zero, and there is no session of these addresses in this place.
    UnknownPeer => "unknown_peer",
    /// Your Discriminator names a session of another place.
    ForeignPlace => "foreign_place",
    /// The packet came to the multihop port for a single-hop session or the other way around.
    WrongPort => "wrong_port",
    /// The TTL or hop limit is not 255, or below the minimum of a multihop session.
    Ttl => "ttl",
    /// The packet is authenticated, and authentication is not in use.
    Authentication => "authentication",
    /// The session is administratively down.
    AdministrativelyDown => "administratively_down",
}

/// Discarded packets by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiscardCounters([u64; Discard::COUNT]);

impl DiscardCounters {
    pub(crate) const fn count(&mut self, reason: Discard) {
        let counter = &mut self.0[reason as usize];
        *counter = counter.saturating_add(1);
    }

    /// Packets discarded for `reason`.
    #[must_use]
    pub const fn of(&self, reason: Discard) -> u64 {
        self.0[reason as usize]
    }

    /// All discarded packets.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_name_and_a_counter_of_its_own() {
        let names: BTreeSet<&str> = Discard::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Discard::COUNT);
        let mut counters = DiscardCounters::default();
        for reason in Discard::ALL {
            counters.count(*reason);
            assert_eq!(counters.of(*reason), 1, "{}", reason.name());
        }
        assert_eq!(counters.total(), Discard::COUNT as u64);
    }
}
