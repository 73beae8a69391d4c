//! Another configuration: what is new starts, what is gone ends, and what changed notices no more of
//! it than it must. [`SpeakerConfig::changes`] says before what that will be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nvgate_model::{Instant, Prefix};

use super::Speaker;
use super::bucket::Bucket;
use super::config::{Neighbor, NeighborChange, PeerKey, Place, PlaceConfig, SpeakerConfig};
use super::monitor::Pending;
use super::peer::Stay;
use super::router::Router;
use crate::rib::{Table, TableLimits};

impl Speaker {
    /// Lets another configuration hold from now on. Returns what that does to each neighbour, as
    /// [`SpeakerConfig::changes`] does; a change of one resets no other. A place that is gone takes
    /// its routes and next hops with it, and no event says so of each.
    pub fn reconfigure(&mut self, now: Instant, config: SpeakerConfig) -> Vec<NeighborChange> {
        let changes = self.config.changes(&config);
        let gone: Vec<Place> = self
            .routers
            .keys()
            .filter(|place| !config.places.contains_key(place))
            .copied()
            .collect();
        for place in gone {
            self.with(place, |router| {
                router.close(now);
                Some(())
            });
            self.retire(place);
        }
        for (place, of) in &config.places {
            if self.config.places.get(place) == Some(of) {
                continue;
            }
            if !self.routers.contains_key(place) {
                self.open(now, *place, of);
            }
            self.with(*place, |router| {
                router.reconfigure(now, of);
                Some(())
            });
        }
        self.config = config;
        changes
    }

    fn open(&mut self, now: Instant, place: Place, config: &Arc<PlaceConfig>) {
        let mut router = Router::new(place, config.clone(), now, self.start, self.seed_of(place));
        router.draining = self.draining;
        router.next_number = self.retired.remove(&place).unwrap_or(0);
        router.monitored = self.monitor.as_ref().map(|_| Pending::default());
        self.routers.insert(place, router);
    }
}

impl Router {
    /// The place is configured no more.
    fn close(&mut self, now: Instant) {
        self.leaving = true;
        let numbers: Vec<u64> = self.peers.keys().copied().collect();
        for number in numbers {
            self.remove_peer(now, number);
        }
        // Nobody is told of its routes, and nothing is forwarded by them any more.
        self.clear_table();
    }

    fn clear_table(&mut self) {
        let limits = TableLimits { prefixes: 0, attribute_bytes: 0 };
        let config = crate::rib::TableConfig { limits, ..self.config.table };
        self.table = Table::new(config, self.seed);
        self.policies = super::policies::Policies::default();
        (self.undecided, self.sweeping, self.changes_told) = (false, false, false);
        self.events.clear();
    }

    fn reconfigure(&mut self, now: Instant, config: &Arc<PlaceConfig>) {
        if std::mem::take(&mut self.leaving) {
            self.table = Table::new(config.table, self.seed);
        }
        self.table.reconfigure(config.table);
        match (&mut self.bucket, config.updates_per_second) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
            (bucket, rate) => *bucket = rate.map(|rate| Bucket::new(rate, now)),
        }
        self.config = config.clone();
        self.reconfigure_peers(now, config);
        self.reconfigure_neighbors(now, config);
        self.stir();
        self.check_deferral(now);
    }

    /// Peers with an address of their own.
    fn reconfigure_peers(&mut self, now: Instant, config: &PlaceConfig) {
        let place = self.place;
        let wanted: BTreeMap<PeerKey, &Neighbor> =
            config.peers.iter().map(|peer| (PeerKey::of(place, &peer.config), peer)).collect();
        let held: Vec<(PeerKey, u64, bool)> = self
            .keys
            .iter()
            .map(|(key, number)| (*key, *number, self.is_of_range(*number)))
            .collect();
        for (key, number, of_range) in held {
            // A neighbour of a range that got a configuration of its own begins anew.
            if wanted.contains_key(&key) == of_range {
                self.remove_peer(now, number);
            }
        }
        let mut changed = BTreeSet::new();
        for (key, neighbor) in wanted {
            match self.keys.get(&key).copied() {
                None => drop(self.add_peer(now, key, None, neighbor.clone())),
                Some(number) => {
                    self.reconfigure_peer(now, number, neighbor);
                    changed.insert(number);
                }
            }
        }
        self.regroup(&changed);
    }

    fn is_of_range(&self, number: u64) -> bool {
        self.peers.get(&number).is_some_and(|peer| peer.range.is_some())
    }

    /// Neighbours that came from ranges.
    fn reconfigure_neighbors(&mut self, now: Instant, config: &PlaceConfig) {
        let of_ranges: Vec<(u64, Prefix)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.stay != Stay::Removed)
            .filter_map(|(number, peer)| Some((*number, peer.range?)))
            .collect();
        let mut changed = BTreeSet::new();
        for (number, range) in of_ranges {
            let Some(key) = self.peers.get(&number).map(|peer| peer.key) else { continue };
            let of = config.ranges.iter().find(|of| of.range == range);
            match (of, key.local) {
                (Some(of), Some(local)) if of.admits(local) => {
                    self.reconfigure_peer(now, number, &of.neighbor(key.remote, local));
                    changed.insert(number);
                }
                _ => self.remove_peer(now, number),
            }
        }
        self.regroup(&changed);
    }

    fn reconfigure_peer(&mut self, now: Instant, number: u64, neighbor: &Neighbor) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let old = Neighbor { config: peer.session.config().clone(), routes: peer.routes.clone() };
        if old == *neighbor {
            return;
        }
        let impact = crate::impact::of(&old.config, &neighbor.config);
        peer.routes = neighbor.routes.clone();
        peer.intake.configure(&neighbor.config);
        if impact.reset.is_some() {
            peer.restart.start_at = None;
        }
        peer.session.reconfigure(now, neighbor.config.clone(), impact);
        self.absorb(now, number);
        self.follow_import(number);
        self.check_bounds(now, number);
        if impact.refresh {
            self.ask_for_routes(now, number);
        }
        self.follow_bfd(number, &old);
    }

    /// What the peer sent is judged by the configuration that holds now.
    fn follow_import(&mut self, number: u64) {
        let Some(peer) = self.peers.get(&number) else { return };
        let (Some(slot), Some(terms)) = (peer.slot, peer.terms(self.draining)) else { return };
        self.table.change_peer(slot, terms.facts());
        let import = terms.import();
        if self.policies.imports.get(&slot) != Some(&import) {
            self.policies.imports.insert(slot, import);
            self.table.reimport(slot);
        }
    }

    /// A bound may be lower than what the peer has.
    fn check_bounds(&mut self, now: Instant, number: u64) {
        let Some(peer) = self.peers.get(&number).filter(|peer| peer.up.is_some()) else { return };
        let excess = peer.slot.and_then(|slot| peer.intake.excess(slot, &self.table));
        if let Some(notification) = excess {
            self.end_for_routes(now, number, &notification);
        }
    }

    fn follow_bfd(&mut self, number: u64, old: &Neighbor) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let wanted = peer.session.config().bfd;
        let Some(up) = peer.up.as_ref().filter(|_| wanted != old.config.bfd) else { return };
        let endpoints = wanted.then_some(up.endpoints);
        peer.events.push_back(super::Event::Bfd(peer.index, endpoints));
    }
}
