//! BFD with BGP peers that want it, in domains and on the front end: one session a BGP session, which
//! ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nvgate_bfd::{
    Arrival, DownReason, Hops, MAX_SESSIONS, SessionConfig, SessionEvent, SessionKey, Sessions,
};
use nvgate_bgp::session::Endpoints as Ends;
use nvgate_bgp::speaker::{BfdState, PeerIndex, Place};
use nvgate_deploy::plan::{BgpPeerPlan, Plan};
use nvgate_model::{DomainSlot, Instant};

use super::tenants::spoken;
use crate::endpoint::{BFD_PORTS, Datagram, Endpoints};
use crate::kernel::Sockets;
use crate::snapshot::Domain;

/// Packets of the front end taken in one turn.
const BATCH: usize = 1024;
/// TTL of every packet (RFC 5881 section 5).
const TTL: u8 = 255;

/// The BFD sessions of all places.
#[derive(Debug)]
pub(super) struct Watch {
    sessions: Sessions<Place>,
    peers: BTreeMap<PeerIndex, SessionKey<Place>>,
    watched: BTreeMap<SessionKey<Place>, PeerIndex>,
    /// The peers with BFD of each place.
    configured: BTreeMap<Place, Vec<BgpPeerPlan>>,
    bound: BTreeSet<(DomainSlot, IpAddr)>,
}

impl Watch {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sessions: Sessions::new(MAX_SESSIONS, seed.rotate_left(17)),
            peers: BTreeMap::new(),
            watched: BTreeMap::new(),
            configured: BTreeMap::new(),
            bound: BTreeSet::new(),
        }
    }

    /// Waits for packets where the plan has peers with BFD, and lets sessions follow it.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        plan: &Plan,
        domains: &BTreeMap<DomainSlot, Arc<Domain>>,
        endpoints: &mut Endpoints,
    ) {
        self.configured = spoken(plan, domains)
            .map(|of| {
                let peers = of.bgp.peers.iter().filter(|peer| peer.bfd.is_some());
                (of.place, peers.cloned().collect())
            })
            .collect();
        let watched = |slot: &DomainSlot| {
            self.configured.get(&Place::Domain(*slot)).is_some_and(|peers| !peers.is_empty())
        };
        let wanted: BTreeSet<_> = domains
            .iter()
            .filter(|(slot, _)| watched(slot))
            .flat_map(|(&slot, domain)| domain.own_addresses().map(move |own| (slot, own)))
            .collect();
        for &(slot, own) in self.bound.difference(&wanted) {
            for port in BFD_PORTS {
                endpoints.unbind(slot, SocketAddr::new(own, port));
            }
        }
        for &(slot, own) in &wanted {
            for port in BFD_PORTS {
                if let Err(error) = endpoints.bind(slot, SocketAddr::new(own, port)) {
                    tracing::error!(%own, %error, "cannot wait for BFD");
                }
            }
        }
        self.bound = wanted;
        for key in self.watched.keys() {
            if let Some(config) = self.config(key) {
                self.sessions.reconfigure(now, key, config);
            }
        }
    }

    fn config(&self, key: &SessionKey<Place>) -> Option<SessionConfig> {
        let peers = self.configured.get(&key.place)?;
        let own = peers.iter().find(|peer| {
            peer.dynamic.is_none()
                && peer.config.remote_address == key.peer
                && peer.config.local_address.is_none_or(|local| local == key.local)
        });
        let range = || {
            peers
                .iter()
                .find(|peer| peer.dynamic.is_some_and(|dynamic| dynamic.range.contains(key.peer)))
        };
        own.or_else(range)?.bfd
    }

    /// Watches a peer's session between these ends, or no longer.
    pub(super) fn want(&mut self, now: Instant, peer: PeerIndex, ends: Option<Ends>) {
        if let Some(key) = self.peers.remove(&peer) {
            self.watched.remove(&key);
            self.sessions.close(now, &key);
        }
        let Some(ends) = ends else { return };
        let key = SessionKey { place: peer.place, local: ends.local.ip(), peer: ends.remote.ip() };
        let Some(config) = self.config(&key) else { return };
        if let Err(error) = self.sessions.open(now, key, config) {
            tracing::error!(peer = %key.peer, %error, "no BFD session");
            return;
        }
        self.peers.insert(peer, key);
        self.watched.insert(key, peer);
    }

    /// Takes packets, sends what is due; what it found out about peers.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        endpoints: &mut Endpoints,
        sockets: &mut Sockets,
    ) -> Vec<(PeerIndex, BfdState)> {
        while let Some((slot, datagram)) = endpoints.poll_datagram() {
            self.hear(now, Place::Domain(slot), &datagram);
        }
        for datagram in std::iter::from_fn(|| sockets.poll_datagram()).take(BATCH) {
            self.hear(now, Place::FrontEnd, &datagram);
        }
        self.sessions.handle_timeout(now);
        while let Some(packet) = self.sessions.poll_transmit(now) {
            let datagram = Datagram {
                local: SocketAddr::new(packet.key.local, packet.source_port),
                remote: SocketAddr::new(packet.key.peer, packet.hops.port()),
                ttl: TTL,
                payload: packet.payload.to_vec(),
            };
            // A lost packet is what BFD is there to notice.
            match packet.key.place {
                Place::Domain(slot) => drop(endpoints.send_datagram(slot, &datagram)),
                Place::FrontEnd => drop(sockets.send_datagram(now, &datagram)),
            }
        }
        let mut found = Vec::new();
        while let Some((key, event)) = self.sessions.poll_event() {
            let Some(&peer) = self.watched.get(&key) else { continue };
            let state = match event {
                SessionEvent::Up => BfdState::Up,
                // The neighbour's operator took BFD down, not the path (RFC 5882 section 4.2).
                SessionEvent::Down(DownReason::NeighborAdminDown(_)) => continue,
                SessionEvent::Down(_) => BfdState::Down,
            };
            tracing::info!(peer = %key.peer, ?event, "BFD");
            found.push((peer, state));
        }
        found
    }

    fn hear(&mut self, now: Instant, place: Place, datagram: &Datagram) {
        let Some(hops) = Hops::from_port(datagram.local.port()) else { return };
        let (local, peer) = (datagram.local.ip(), datagram.remote.ip());
        let key = SessionKey { place, local, peer };
        let arrival = Arrival { key, hops, ttl: datagram.ttl };
        // What is discarded was counted.
        let _ = self.sessions.handle_packet(now, &arrival, &datagram.payload);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.sessions.poll_timeout()
    }
}
