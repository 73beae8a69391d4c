//! What a message says something about: a prefix, and which of several paths to it.

use std::fmt;

use nvgate_model::Prefix;

use crate::family::Family;

/// A path identifier (RFC 7911 section 3): chosen by the sender, meaningful only on its session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PathId(pub u32);

/// Network layer reachability information of one route: what is announced or withdrawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Nlri {
    /// The destination.
    pub prefix: Prefix,
    /// Which path, where ADD-PATH was negotiated in this direction and family (RFC 7911).
    pub path_id: Option<PathId>,
}

impl Nlri {
    /// The address family.
    #[must_use]
    pub const fn family(self) -> Family {
        Family::of(self.prefix)
    }

    /// The bytes that this takes in a message: path identifier, length, and as many octets of the
    /// prefix as its length needs (RFC 4271 section 4.3, RFC 7911 section 3).
    #[must_use]
    pub const fn wire_length(self) -> usize {
        let path_id = if self.path_id.is_some() { 4 } else { 0 };
        path_id + 1 + self.prefix.length().div_ceil(8) as usize
    }
}

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Self {
        Self { prefix, path_id: None }
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for Nlri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(formatter)?;
        match self.path_id {
            Some(path_id) => write!(formatter, " path {path_id}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_holds_only_the_octets_that_the_length_needs() {
        for (prefix, bytes) in
            [("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.128.0.0/9", 3), ("2001:db8::/32", 5)]
        {
            let nlri = Nlri::from(prefix.parse::<Prefix>().unwrap());
            assert_eq!(nlri.wire_length(), bytes, "{nlri}");
            let path = Nlri { path_id: Some(PathId(7)), ..nlri };
            assert_eq!(path.wire_length(), bytes + 4, "{path}");
            assert_eq!(path.to_string(), format!("{prefix} path 7"));
        }
    }
}
