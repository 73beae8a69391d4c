//! What becomes of private AS numbers in a path that goes out.

use nvgate_model::Asn;

use crate::as_path::AsPath;
use crate::config::PrivateAsns;

/// Private AS numbers (RFC 6996) that are not shown to an external neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PrivateAsRemoval {
    /// What becomes of them.
    pub asns: PrivateAsns,
    /// The neighbour's AS, which stays, so that it sees its own loops.
    pub peer: Asn,
}

impl PrivateAsRemoval {
    /// The path as the neighbour sees it, to which we are `own`; members of sets count one by one.
    pub(super) fn applied(self, path: &AsPath, own: Asn) -> AsPath {
        let is_removable = |asn: Asn| asn.is_private() && asn != self.peer;
        let replaced = match self.asns {
            PrivateAsns::Keep => return path.clone(),
            PrivateAsns::RemoveIfAll => {
                if path.numbers().any(|asn| !is_removable(asn) && asn != self.peer) {
                    return path.clone();
                }
                None
            }
            PrivateAsns::Remove => None,
            PrivateAsns::Replace => Some(own),
        };
        path.mapped(|asn| if is_removable(asn) { replaced } else { Some(asn) })
    }
}
