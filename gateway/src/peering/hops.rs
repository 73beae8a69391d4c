//! Next hops that learned routes use: where they lie, followed from snapshot to snapshot.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_bgp::rib::{NextHopChange, Resolution};
use nvgate_bgp::speaker::{Place, Speaker};
use nvgate_model::DomainSlot;

use crate::snapshot::{Domain, FrontEndLink, RouteHop};

/// Where next hops are looked for.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) domains: &'a BTreeMap<DomainSlot, Arc<Domain>>,
    pub(super) link: &'a FrontEndLink,
}

/// The next hops that are followed, and what the speaker was told of each.
#[derive(Debug, Default)]
pub(super) struct Hops {
    followed: BTreeMap<Place, BTreeMap<IpAddr, Resolution>>,
}

impl Hops {
    pub(super) fn change(
        &mut self,
        place: Place,
        change: NextHopChange,
        ground: Ground<'_>,
        speaker: &mut Speaker,
    ) {
        match change {
            NextHopChange::Wanted(address) => {
                let found = ground.resolution(place, address);
                self.followed.entry(place).or_default().insert(address, found);
                speaker.handle_next_hop(place, address, found);
            }
            NextHopChange::Unwanted(address) => {
                if let Some(hops) = self.followed.get_mut(&place) {
                    hops.remove(&address);
                }
            }
        }
    }

    /// Looks again where all of them lie, and says what changed.
    pub(super) fn follow(&mut self, ground: Ground<'_>, speaker: &mut Speaker) {
        for (&place, hops) in &mut self.followed {
            for (&address, known) in hops {
                let found = ground.resolution(place, address);
                if found != *known {
                    *known = found;
                    speaker.handle_next_hop(place, address, found);
                }
            }
        }
    }

    pub(super) fn forget(&mut self, place: Place) {
        self.followed.remove(&place);
    }
}

impl Ground<'_> {
    fn resolution(self, place: Place, address: IpAddr) -> Resolution {
        let reached = match place {
            Place::Domain(slot) => {
                let domain = self.domains.get(&slot);
                domain.and_then(|domain| domain.next_hop(address)).map(|hop| match hop {
                    RouteHop::Endpoint(_) => true,
                    RouteHop::Site(_) => false,
                })
            }
            Place::FrontEnd => self.link.reaches(address).filter(|_| self.link.running),
        };
        reached.map_or(Resolution::Unreachable, |connected| Resolution::Reachable {
            metric: 0,
            connected,
        })
    }
}
