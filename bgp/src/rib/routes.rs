//! The routes of one family: slots of 32 bytes, chained at their prefix.

use super::attributes::AttributesId;
use super::peers::PeerSlot;
use super::policies::Origination;
use super::slab::{Index, Slab};
use crate::decision::{Barred, Verdict};
use crate::nlri::PathId;
use crate::policy::RuleId;

pub(super) type RouteIndex = Index<Route>;

/// What a peer announced for a prefix, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Route {
    /// The next route of the prefix.
    pub(super) next: Option<RouteIndex>,
    /// When it was announced with these attributes: seconds since the gateway started.
    pub(super) learned_secs: u32,
    /// The path identifier, if `flags` say that there is one; else why it is originated.
    path_id: u32,
    pub(super) received: AttributesId,
    /// None if import did not let it in.
    pub(super) imported: Option<AttributesId>,
    pub(super) peer: PeerSlot,
    /// The epoch of the peer when it was last announced.
    pub(super) epoch: u16,
    /// The rule that decided, if `flags` say that one did.
    rule: RuleId,
    pub(super) weight: u16,
    /// None until it is decided.
    pub(super) verdict: Option<Verdict>,
    flags: u8,
}

const HAS_PATH_ID: u8 = 1;
const USED: u8 = 2;
const LOOP: u8 = 4;
const LEAK: u8 = 8;
const HAS_RULE: u8 = 16;
const DISCARD: u8 = 32;

/// A route as import made it, before a table holds it.
#[derive(Clone, Copy)]
pub(super) struct Offer {
    pub(super) received: AttributesId,
    pub(super) import: Import,
}

/// What import made of a route, with interned attributes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) imported: Result<AttributesId, Barred>,
    /// None if policy was not asked.
    pub(super) rule: Option<RuleId>,
    pub(super) weight: u16,
    /// Packets are discarded.
    pub(super) discard: bool,
    /// Why this speaker originates it; 0 if it does not.
    pub(super) origination: Origination,
}

impl Route {
    pub(super) fn new(peer: PeerSlot, path_id: Option<PathId>, offer: Offer) -> Self {
        let mut route = Self {
            next: None,
            learned_secs: 0,
            path_id: path_id.map_or(0, |path_id| path_id.0),
            received: offer.received,
            imported: None,
            peer,
            epoch: 0,
            rule: RuleId::DEFAULT,
            weight: 0,
            verdict: None,
            flags: if path_id.is_some() { HAS_PATH_ID } else { 0 },
        };
        route.set_import(offer.import);
        route
    }

    pub(super) fn path_id(&self) -> Option<PathId> {
        (self.flags & HAS_PATH_ID != 0).then_some(PathId(self.path_id))
    }

    /// What import said.
    pub(super) fn import(&self) -> Import {
        let barred = match self.flags & (LOOP | LEAK) {
            0 => Barred::Rejected,
            LOOP => Barred::Loop,
            _ => Barred::Leak,
        };
        let rule = (self.flags & HAS_RULE != 0).then_some(self.rule);
        let learned_path = self.flags & HAS_PATH_ID != 0;
        Import {
            imported: self.imported.ok_or(barred),
            rule,
            weight: self.weight,
            discard: self.is_discarded(),
            origination: Origination(if learned_path { 0 } else { self.path_id }),
        }
    }

    /// Notes what import said. References are the caller's.
    pub(super) fn set_import(&mut self, import: Import) {
        self.flags &= !(LOOP | LEAK | HAS_RULE | DISCARD);
        if import.discard {
            self.flags |= DISCARD;
        }
        if self.flags & HAS_PATH_ID == 0 {
            self.path_id = import.origination.0;
        }
        if let Some(rule) = import.rule {
            self.rule = rule;
            self.flags |= HAS_RULE;
        }
        match import.imported {
            Err(Barred::Loop) => self.flags |= LOOP,
            Err(Barred::Leak) => self.flags |= LEAK,
            Ok(_) | Err(Barred::Rejected | Barred::Unresolved | Barred::PeerGone) => {}
        }
        self.imported = import.imported.ok();
        self.weight = import.weight;
    }

    /// Whether packets take it, as last decided.
    pub(super) const fn is_used(&self) -> bool {
        self.flags & USED != 0
    }

    /// Whether packets that take it are discarded.
    pub(super) const fn is_discarded(&self) -> bool {
        self.flags & DISCARD != 0
    }

    pub(super) const fn set_used(&mut self, used: bool) {
        self.flags = if used { self.flags | USED } else { self.flags & !USED };
    }
}

/// The places of a chain from its first route.
pub(super) fn chain(
    routes: &Slab<Route>,
    first: Option<RouteIndex>,
) -> impl Iterator<Item = RouteIndex> + Clone {
    std::iter::successors(first, |index| routes[*index].next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_takes_32_bytes() {
        assert_eq!(size_of::<Route>(), 32);
    }

    #[test]
    fn why_a_route_is_originated_is_kept() {
        let received = Index::new(0);
        let import = |origination| Import {
            imported: Ok(received),
            rule: None,
            weight: 0,
            discard: false,
            origination: Origination(origination),
        };
        let offer = Offer { received, import: import(9) };
        let mut route = Route::new(PeerSlot::LOCAL, None, offer);
        assert!(route.import() == import(9) && route.path_id().is_none());
        route.set_import(import(0));
        assert!(route.import() == import(0));
    }

    #[test]
    fn what_import_said_is_kept() {
        let received = Index::new(0);
        for imported in
            [Ok(Index::new(1)), Err(Barred::Rejected), Err(Barred::Loop), Err(Barred::Leak)]
        {
            let rule = imported.is_ok().then_some(RuleId::OWN_AS);
            let discard = imported.is_ok();
            let import = Import { imported, rule, weight: 3, discard, origination: Origination(0) };
            let mut route = Route::new(PeerSlot(1), Some(PathId(0)), Offer { received, import });
            route.set_used(true);
            assert!(route.import() == import && route.is_used());
            assert_eq!(route.path_id(), Some(PathId(0)));
            route.set_used(false);
            assert!(route.import() == import && !route.is_used());
        }
    }
}
