//! Next hops that learned routes use: where they lie, followed from snapshot to snapshot.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_bgp::rib::{NextHopChange, Resolution};
use nvgate_bgp::speaker::{Place, Speaker};
use nvgate_model::DomainSlot;

use crate::snapshot::{Domain, RouteHop};

/// The next hops that are followed, and what the speaker was told of each.
#[derive(Debug, Default)]
pub(super) struct Hops {
    followed: BTreeMap<DomainSlot, BTreeMap<IpAddr, Resolution>>,
}

impl Hops {
    pub(super) fn change(
        &mut self,
        slot: DomainSlot,
        change: NextHopChange,
        domain: Option<&Domain>,
        speaker: &mut Speaker,
    ) {
        match change {
            NextHopChange::Wanted(address) => {
                let found = resolution(domain, address);
                self.followed.entry(slot).or_default().insert(address, found);
                speaker.handle_next_hop(Place::Domain(slot), address, found);
            }
            NextHopChange::Unwanted(address) => {
                if let Some(hops) = self.followed.get_mut(&slot) {
                    hops.remove(&address);
                }
            }
        }
    }

    /// Looks again where all of them lie, and says what changed.
    pub(super) fn follow(
        &mut self,
        domains: &BTreeMap<DomainSlot, Arc<Domain>>,
        speaker: &mut Speaker,
    ) {
        for (slot, hops) in &mut self.followed {
            let domain = domains.get(slot).map(|domain| &**domain);
            for (&address, known) in hops {
                let found = resolution(domain, address);
                if found != *known {
                    *known = found;
                    speaker.handle_next_hop(Place::Domain(*slot), address, found);
                }
            }
        }
    }

    pub(super) fn forget(&mut self, slot: DomainSlot) {
        self.followed.remove(&slot);
    }
}

fn resolution(domain: Option<&Domain>, address: IpAddr) -> Resolution {
    match domain.and_then(|domain| domain.next_hop(address)) {
        Some(RouteHop::Endpoint(_)) => Resolution::Reachable { metric: 0, connected: true },
        Some(RouteHop::Site(_)) => Resolution::Reachable { metric: 0, connected: false },
        None => Resolution::Unreachable,
    }
}
