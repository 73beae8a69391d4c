//! The peers of one table: who taught a route, how many routes they may have, what is stale.

use std::net::{IpAddr, Ipv4Addr};

use super::sweep::Lap;
use crate::decision::Source;
use crate::family::Family;

/// The number of a peer in one table. It may be used again after the peer's routes were swept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerSlot(pub(super) u16);

impl PeerSlot {
    /// This speaker itself: who taught the routes that it originates.
    pub const LOCAL: Self = Self(0);
}

/// What a table must know of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerFacts {
    /// The peer's relation to us.
    pub kind: PeerKind,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// Our own address on the session.
    pub local: IpAddr,
    /// The most routes it may have of each family, by [`Family::index`].
    pub route_limits: [u32; 2],
}

/// A peer's relation to us.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PeerKind {
    /// In another AS.
    External,
    /// In our AS, expected to know everyone else of it.
    Internal,
    /// In our AS, and a client of ours as its route reflector (RFC 4456 section 4).
    Client,
}

/// A table has no slot left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the table has {PEERS_MAX} peers, the most it can")]
pub struct TooManyPeers;

/// The most peers of a table.
pub const PEERS_MAX: usize = u16::MAX as usize - 1;

/// A peer and its routes, as numbers.
pub(super) struct Peer {
    pub(super) facts: PeerFacts,
    /// Routes held of each family.
    pub(super) routes: [u32; 2],
    /// Those of them that import let in.
    pub(super) accepted: [u32; 2],
    /// A route announced in an earlier epoch of its family is stale.
    pub(super) epochs: [u16; 2],
    /// The epochs that the session under way began with.
    pub(super) since: [u16; 2],
    /// The session ended: routes are removed until the end of the lap.
    pub(super) gone: Option<Lap>,
    /// What is not of this epoch or a later one is removed until the end of the lap.
    pub(super) unstale: [Option<(u16, Lap)>; 2],
    /// Import anew until the end of the lap.
    pub(super) reimport: Option<Lap>,
    /// Decide anew until the end of the lap.
    pub(super) redecide: Option<Lap>,
}

/// The peers by slot; the place of slot 0 stays empty.
#[derive(Default)]
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<PeerSlot>,
}

impl PeerFacts {
    /// How the decision sees its routes.
    #[must_use]
    pub const fn source(&self) -> Source {
        match self.kind {
            PeerKind::External => Source::External,
            PeerKind::Internal | PeerKind::Client => Source::Internal,
        }
    }
}

impl Peer {
    /// Whether a route of this epoch was announced in the session under way.
    pub(super) const fn is_of_session(&self, family: Family, epoch: u16) -> bool {
        let (current, since) = (self.epochs[family.index()], self.since[family.index()]);
        current.wrapping_sub(epoch) <= current.wrapping_sub(since)
    }

    /// Whether a route of this epoch is stale.
    pub(super) const fn is_stale(&self, family: Family, epoch: u16) -> bool {
        self.epochs[family.index()] != epoch
    }

    /// Whether a sweep under way takes a route of this epoch.
    pub(super) fn is_swept(&self, family: Family, epoch: u16) -> bool {
        let current = self.epochs[family.index()];
        // Distances backwards from now, because epochs begin again after 65,536.
        let older =
            |(kept, _): (u16, Lap)| current.wrapping_sub(epoch) > current.wrapping_sub(kept);
        self.gone.is_some() || self.unstale[family.index()].is_some_and(older)
    }

    /// Whether the routes need to be looked at in the sweep under way.
    pub(super) fn has_cause(&self, family: Family) -> bool {
        self.gone.is_some()
            || self.unstale[family.index()].is_some()
            || self.reimport.is_some()
            || self.redecide.is_some()
    }

    fn settle(&mut self, lap: Lap) {
        let later = |until: &Lap| *until > lap;
        self.reimport = self.reimport.filter(later);
        self.redecide = self.redecide.filter(later);
        for unstale in &mut self.unstale {
            *unstale = unstale.filter(|(_, until)| later(until));
        }
    }

    fn is_busy(&self) -> bool {
        self.gone.is_some() || Family::ALL.into_iter().any(|family| self.has_cause(family))
    }
}

impl Peers {
    /// Has every peer's routes judged and decided anew until the end of the lap.
    pub(super) fn judge_anew(&mut self, until: Lap) {
        for peer in self.slots.iter_mut().flatten() {
            peer.reimport = Some(until);
            peer.redecide = Some(until);
        }
    }

    pub(super) fn insert(&mut self, facts: PeerFacts) -> Result<PeerSlot, TooManyPeers> {
        let peer = Peer {
            facts,
            routes: [0; 2],
            accepted: [0; 2],
            epochs: [0; 2],
            since: [0; 2],
            gone: None,
            unstale: [None; 2],
            reimport: None,
            redecide: None,
        };
        if let Some(slot) = self.free.pop() {
            self.slots[usize::from(slot.0)] = Some(peer);
            return Ok(slot);
        }
        if self.slots.is_empty() {
            self.slots.push(None);
        }
        let number = u16::try_from(self.slots.len()).map_err(|_| TooManyPeers)?;
        if usize::from(number) > PEERS_MAX {
            return Err(TooManyPeers);
        }
        self.slots.push(Some(peer));
        Ok(PeerSlot(number))
    }

    /// The peer; none for this speaker itself and for a slot that is free.
    pub(super) fn peer(&self, slot: PeerSlot) -> Option<&Peer> {
        self.slots.get(usize::from(slot.0))?.as_ref()
    }

    pub(super) fn peer_mut(&mut self, slot: PeerSlot) -> Option<&mut Peer> {
        self.slots.get_mut(usize::from(slot.0))?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerSlot, &Peer)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(number, peer)| Some((PeerSlot(number as u16), peer.as_ref()?)))
    }

    /// Ends what laps up to `lap` served and frees the slots of peers that are swept. True if
    /// something is left.
    pub(super) fn settle(&mut self, lap: Lap) -> bool {
        let mut left = false;
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let Some(peer) = slot else { continue };
            peer.settle(lap);
            if peer.gone.is_some_and(|until| until <= lap) {
                *slot = None;
                self.free.push(PeerSlot(number as u16));
            } else {
                left |= peer.is_busy();
            }
        }
        left
    }

    /// The bytes allocated.
    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Peer>>()
            + self.free.capacity() * size_of::<PeerSlot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> PeerFacts {
        PeerFacts {
            kind: PeerKind::External,
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            local: Ipv4Addr::new(192, 0, 2, 2).into(),
            route_limits: [10; 2],
        }
    }

    #[test]
    fn a_slot_is_used_again_only_after_its_sweep() {
        let mut peers = Peers::default();
        let first = peers.insert(facts()).unwrap();
        assert_ne!(first, PeerSlot::LOCAL);
        peers.peer_mut(first).unwrap().gone = Some(Lap(2));
        assert!(peers.settle(Lap(1)));
        assert_eq!(peers.insert(facts()), Ok(PeerSlot(2)));
        assert!(!peers.settle(Lap(2)));
        assert_eq!(peers.insert(facts()), Ok(first));
    }

    #[test]
    fn every_slot_but_that_of_this_speaker_can_be_a_peer() {
        let mut peers = Peers::default();
        for _ in 0..PEERS_MAX {
            peers.insert(facts()).unwrap();
        }
        assert_eq!(peers.insert(facts()), Err(TooManyPeers));
    }

    #[test]
    fn what_is_marked_after_a_removal_began_is_not_removed_by_it() {
        let mut peers = Peers::default();
        let slot = peers.insert(facts()).unwrap();
        let peer = peers.peer_mut(slot).unwrap();
        peer.epochs = [1, 0];
        peer.unstale[0] = Some((1, Lap(1)));
        let family = Family::Ipv4Unicast;
        assert!(peer.is_swept(family, 0) && !peer.is_swept(family, 1));
        peer.epochs[0] = 2;
        assert!(peer.is_stale(family, 1) && !peer.is_swept(family, 1) && peer.is_swept(family, 0));
        assert!(!peer.is_swept(Family::Ipv6Unicast, 5));
    }
}
