//! From the Adj-RIB-In into the Loc-RIB: what a received route counts as.

use nvgate_model::Prefix;

use super::attributes::AttributesId;
use super::family_table::Shared;
use super::peers::{PeerKind, PeerSlot};
use super::policies::{ImportVerdict, Origination, Policies, SawPrefix};
use super::routes::Import;
use super::table::TableConfig;
use crate::attributes::Attributes;
use crate::decision::Barred;

/// What import said of a route, for the next one of the same peer with the same attributes. It holds
/// a reference of each set.
#[derive(Default)]
pub(super) struct ImportMemo(Option<(PeerSlot, AttributesId, Import)>);

impl ImportMemo {
    /// What import says of the route. The attributes stay valid until the next call.
    pub(super) fn import(
        &mut self,
        shared: &mut Shared,
        policies: &impl Policies,
        peer: PeerSlot,
        prefix: Prefix,
        received: AttributesId,
    ) -> Import {
        if let Some((for_peer, of, import)) = self.0
            && (for_peer, of) == (peer, received)
        {
            return import;
        }
        self.forget(shared);
        let (import, saw_prefix) = import(shared, policies, peer, prefix, received);
        // A set that is none is never asked about: the memo then only keeps the reference.
        let asked_by = if saw_prefix == SawPrefix::No { peer } else { PeerSlot::LOCAL };
        self.0 = Some((asked_by, shared.arena.retain(received), import));
        import
    }

    /// Gives the references back.
    pub(super) fn forget(&mut self, shared: &mut Shared) {
        if let Some((_, received, import)) = self.0.take() {
            shared.arena.release(received);
            if let Ok(id) = import.imported {
                shared.arena.release(id);
            }
        }
    }
}

/// What import says, with a reference of the attributes that is the caller's.
fn import(
    shared: &mut Shared,
    policies: &impl Policies,
    peer: PeerSlot,
    prefix: Prefix,
    received: AttributesId,
) -> (Import, SawPrefix) {
    let attributes = &shared.arena[received];
    let kind = shared.peers.peer(peer).map(|peer| peer.facts.kind);
    if kind.is_some_and(|kind| kind != PeerKind::External)
        && was_reflected_here(&shared.config, attributes)
    {
        let barred = Import {
            imported: Err(Barred::Loop),
            rule: None,
            weight: 0,
            discard: false,
            origination: Origination(0),
        };
        return (barred, SawPrefix::No);
    }
    let answer = policies.import(peer, prefix, attributes);
    let imported = match answer.verdict {
        ImportVerdict::Unchanged => Ok(shared.arena.retain(received)),
        ImportVerdict::Changed(attributes) => Ok(shared.arena.intern(attributes)),
        ImportVerdict::Rejected => Err(Barred::Rejected),
        ImportVerdict::Loop => Err(Barred::Loop),
        ImportVerdict::Leak => Err(Barred::Leak),
    };
    let import = Import {
        imported,
        rule: Some(answer.rule),
        weight: answer.weight,
        discard: answer.discard,
        origination: Origination(0),
    };
    (import, answer.saw_prefix)
}

/// Whether the route has been here: we brought it into the AS, or our cluster reflected it (RFC 4456
/// section 8).
fn was_reflected_here(config: &TableConfig, attributes: &Attributes) -> bool {
    attributes.originator_id() == Some(config.router_id)
        || attributes.cluster_list().contains(&config.cluster_id)
}
