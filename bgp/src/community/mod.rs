//! Communities: marks that operators put on routes, of four, eight and twelve bytes.

mod extended;
mod large;
mod set;
mod standard;

pub use extended::{ExtendedCommunity, InvalidExtendedCommunity};
pub use large::{InvalidLargeCommunity, LargeCommunity};
pub use set::CommunitySet;
pub use standard::{Community, InvalidCommunity};

/// The number that decimal digits, and nothing else, spell.
pub(crate) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok())?
}
