//! Tenants by name.

use std::fmt;
use std::str::FromStr;

/// A tenant's name: 1 to 63 of `a-z`, `0-9` and `-`, starting and ending with a letter or digit
/// (an RFC 1123 label), so that it can stand in file names, metrics and logs as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(Box<str>);

impl TenantName {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 63;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is not a tenant name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is not a tenant name: 1 to 63 of a-z, 0-9 and `-`, with a letter or digit at both ends"
)]
pub struct InvalidTenantName(pub String);

impl FromStr for TenantName {
    type Err = InvalidTenantName;

    fn from_str(text: &str) -> Result<Self, InvalidTenantName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let legal = (1..=Self::MAX_LENGTH).contains(&bytes.len())
            && bytes.iter().all(|&byte| allowed(byte) || byte == b'-')
            && bytes.first().copied().is_some_and(allowed)
            && bytes.last().copied().is_some_and(allowed);
        if legal { Ok(Self(text.into())) } else { Err(InvalidTenantName(text.to_owned())) }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_rfc_1123_labels() {
        for text in ["a", "contoso", "blue-yonder-2", "0"] {
            assert_eq!(text.parse::<TenantName>().unwrap().as_str(), text);
        }
        for text in ["", "-a", "a-", "A", "a_b", "a b", "ä", &"x".repeat(64)] {
            assert!(text.parse::<TenantName>().is_err(), "{text}");
        }
    }
}
