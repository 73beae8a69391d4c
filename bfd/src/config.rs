//! What an operator decides about a session.

use std::num::NonZeroU8;

use crate::wire::Diagnostic;

/// The shortest interval that can be configured, in microseconds: 10 ms. Packets out of schedule
/// are limited to that rate, and the limit must not exceed what is advertised (6.8.7).
pub const MIN_INTERVAL_MICROS: u32 = 10_000;
/// The longest interval that can be configured, in microseconds: a minute.
pub const MAX_INTERVAL_MICROS: u32 = 60_000_000;

/// Microseconds between two packets, from [`MIN_INTERVAL_MICROS`] to [`MAX_INTERVAL_MICROS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Interval(u32);

/// Microseconds that are no interval of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("interval {0} us is not from 10000 to 60000000")]
pub struct InvalidInterval(pub u32);

impl Interval {
    /// 100 ms.
    pub const DEFAULT: Self = Self(100_000);

    /// An interval of so many microseconds.
    ///
    /// # Errors
    ///
    /// [`InvalidInterval`] outside the bounds.
    pub const fn from_micros(micros: u32) -> Result<Self, InvalidInterval> {
        if micros < MIN_INTERVAL_MICROS || micros > MAX_INTERVAL_MICROS {
            return Err(InvalidInterval(micros));
        }
        Ok(Self(micros))
    }

    /// The microseconds.
    #[must_use]
    pub const fn micros(self) -> u32 {
        self.0
    }
}

/// How far the neighbour is, which decides the port and the TTL that its packets must have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Path {
    /// One IP hop, or a tunnel that decrements no TTL: 255 and nothing else (RFC 5881 section 5).
    SingleHop,
    /// Several hops (RFC 5883): at least this TTL, as far as the operator knows the path.
    MultiHop {
        /// The least TTL or hop limit of a packet that is accepted; 0 accepts all.
        minimum_ttl: u8,
    },
}

impl Path {
    pub(crate) const fn admits(self, ttl: u8) -> bool {
        match self {
            Self::SingleHop => ttl == u8::MAX,
            Self::MultiHop { minimum_ttl } => ttl >= minimum_ttl,
        }
    }
}

/// Who speaks first (6.1). At least one side has to be active.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Sends whether or not the neighbour has been heard.
    Active,
    /// Sends nothing before the neighbour has.
    Passive,
}

/// The configuration of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// How often we would like to send while Up; a second at least otherwise (6.8.3).
    pub desired_min_tx: Interval,
    /// How often we are ready to receive.
    pub required_min_rx: Interval,
    /// After so many of our intervals without a packet the neighbour takes the session down.
    pub detect_multiplier: NonZeroU8,
    /// Who speaks first.
    pub role: Role,
    /// How far the neighbour is.
    pub path: Path,
}

impl SessionConfig {
    /// Three times 100 ms in both directions, active.
    #[must_use]
    pub const fn new(path: Path) -> Self {
        Self {
            desired_min_tx: Interval::DEFAULT,
            required_min_rx: Interval::DEFAULT,
            detect_multiplier: NonZeroU8::MIN.saturating_add(2),
            role: Role::Active,
            path,
        }
    }
}

/// Why a session is taken down by command (6.8.16); the neighbour is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AdministrativeReason {
    /// Somebody wants it so.
    Operator,
    /// What carries the path has failed, as was learned from outside BFD.
    PathDown,
}

impl AdministrativeReason {
    pub(crate) const fn diagnostic(self) -> Diagnostic {
        match self {
            Self::Operator => Diagnostic::ADMINISTRATIVELY_DOWN,
            Self::PathDown => Diagnostic::PATH_DOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_from_ten_milliseconds_to_a_minute() {
        for micros in [MIN_INTERVAL_MICROS, 100_000, MAX_INTERVAL_MICROS] {
            assert_eq!(Interval::from_micros(micros).map(Interval::micros), Ok(micros));
        }
        for micros in [0, MIN_INTERVAL_MICROS - 1, MAX_INTERVAL_MICROS + 1, u32::MAX] {
            assert_eq!(Interval::from_micros(micros), Err(InvalidInterval(micros)));
        }
        assert_eq!(
            InvalidInterval(9).to_string(),
            format!("interval 9 us is not from {MIN_INTERVAL_MICROS} to {MAX_INTERVAL_MICROS}")
        );
    }

    #[test]
    fn one_hop_admits_255_only_and_several_what_is_configured() {
        let admitted = |path: Path| (0..=u8::MAX).filter(|ttl| path.admits(*ttl)).count();
        assert_eq!(admitted(Path::SingleHop), 1);
        assert!(Path::SingleHop.admits(255));
        assert_eq!(admitted(Path::MultiHop { minimum_ttl: 250 }), 6);
        assert_eq!(admitted(Path::MultiHop { minimum_ttl: 0 }), 256);
    }
}
