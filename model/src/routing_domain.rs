//! Routing domains: the tenants' virtual networks.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The GUID of a routing domain (RDID), unique in the data centre.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingDomainId(Uuid);

impl RoutingDomainId {
    /// The identifier with these sixteen bytes, in the order the text shows them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The sixteen bytes, in the order the text shows them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RoutingDomainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(formatter)
    }
}

impl fmt::Debug for RoutingDomainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A text that is not a routing domain GUID.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a GUID such as 6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11")]
pub struct InvalidRoutingDomainId(pub String);

impl FromStr for RoutingDomainId {
    type Err = InvalidRoutingDomainId;

    /// Reads the hyphenated form, bare or in braces as Windows prints it.
    fn from_str(text: &str) -> Result<Self, InvalidRoutingDomainId> {
        let refuse = || InvalidRoutingDomainId(text.to_owned());
        let bare = match text.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or_else(refuse)?,
            None => text,
        };
        if bare.len() != 36 {
            return Err(refuse());
        }
        let uuid = Uuid::try_parse(bare).map_err(|_| refuse())?;
        if uuid.is_nil() {
            return Err(refuse());
        }
        Ok(Self(uuid))
    }
}

/// Where a routing domain lives in the tables of this process. A slot is given to one domain and
/// never to another while the process runs, so that what was compiled for a removed tenant can
/// never be found by a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomainSlot(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_reads_with_and_without_braces() {
        let bare: RoutingDomainId = "6C0F2B0E-8A2F-4E3C-9B55-0A8A4F0E7D11".parse().unwrap();
        let braces: RoutingDomainId = "{6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11}".parse().unwrap();
        assert_eq!(bare, braces);
        assert_eq!(bare.to_string(), "6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11");
    }

    #[test]
    fn other_spellings_and_the_nil_guid_are_refused() {
        for text in [
            "",
            "6c0f2b0e8a2f4e3c9b550a8a4f0e7d11",
            "{6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11",
            "00000000-0000-0000-0000-000000000000",
            "urn:uuid:6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11",
        ] {
            assert!(text.parse::<RoutingDomainId>().is_err(), "{text}");
        }
    }
}
