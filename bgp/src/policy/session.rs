//! What both directions know of a session: which AS we are on it, and what becomes of the path.

use nvgate_model::Asn;

use crate::as_path::AsPath;

/// Another AS than our own that we are to one neighbour (RFC 7705 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LocalAs {
    /// The AS that the OPEN announces.
    pub asn: Asn,
    /// Whether it is put before the paths that the neighbour teaches; not to do so is "no prepend
    /// inbound".
    pub prepend_inbound: bool,
    /// Whether the neighbour sees our own AS behind it; not so is "replace old AS".
    pub show_own: bool,
}

/// Private AS numbers (RFC 6996) that are not shown to an external neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PrivateAsRemoval {
    /// Which of them.
    pub scope: PrivateAsScope,
    /// The neighbour's AS, which stays, so that it sees its own loops.
    pub peer: Asn,
}

/// Which private AS numbers are removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PrivateAsScope {
    /// Those before the first number that is public or the neighbour's, as Junos does.
    Leading,
    /// All of them, as Junos and Cisco IOS do with `all`.
    All,
}

impl PrivateAsRemoval {
    /// The path without the numbers; members of sets count one by one.
    pub(super) fn applied(self, path: &AsPath) -> AsPath {
        let mut leading = true;
        path.mapped(|asn| {
            let removable = asn.is_private() && asn != self.peer;
            leading &= removable;
            let removed = match self.scope {
                PrivateAsScope::Leading => leading,
                PrivateAsScope::All => removable,
            };
            (!removed).then_some(asn)
        })
    }
}
