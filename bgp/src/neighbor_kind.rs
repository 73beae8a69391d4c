//! Whether a neighbour is of our own AS.

/// What a neighbour is to this speaker (RFC 4271 section 1.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NeighborKind {
    /// Of another AS: eBGP.
    External,
    /// Of the same AS: iBGP.
    Internal,
}
