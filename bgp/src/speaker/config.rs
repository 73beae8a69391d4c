//! What a speaker is configured with: places, the peers of each, and how their routes are treated.
//! Plain values that `deploy` proves; two of them compare to what a reload costs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use nvgate_model::{DomainSlot, Prefix};

use crate::config::{Opening, PeerConfig};
use crate::impact::Impact;
use crate::policy::{ExportGuard, ImportGuard, Policy};
use crate::rib::TableConfig;

/// Where a routing table is: addresses and AS numbers mean something only within one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// The provider's side, of which there is one.
    FrontEnd,
    /// A tenant's routing domain.
    Domain(DomainSlot),
}

/// Everything that a speaker speaks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SpeakerConfig {
    /// The places with peers.
    pub places: BTreeMap<Place, Arc<PlaceConfig>>,
}

/// One place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlaceConfig {
    /// Its table: bounds, identifiers, what is chosen about the decision.
    pub table: TableConfig,
    /// Routes a second that are taken from all peers together; none: as they come.
    pub updates_per_second: Option<NonZeroU32>,
    /// The most peers, dynamic ones included.
    pub peers_max: usize,
    /// Peers with an address of their own. No two have one pair of addresses.
    pub peers: Vec<Neighbor>,
    /// Ranges of addresses that peers come from. No two overlap.
    pub ranges: Vec<DynamicRange>,
}

/// A peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbor {
    /// Its session.
    pub config: Arc<PeerConfig>,
    /// Its routes.
    pub routes: Arc<RouteConfig>,
}

/// A range of addresses that peers come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DynamicRange {
    /// The addresses.
    pub range: Prefix,
    /// Neighbours at a time, at least 1.
    pub neighbors_max: usize,
    /// What holds for each of them. Remote address and opening are set for each, and the local
    /// address if none is configured.
    pub neighbor: Neighbor,
}

/// How the routes of a peer are treated, beyond what [`PeerConfig`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteConfig {
    /// The built-in policy for what it sends.
    pub import_guard: ImportGuard,
    /// The rules for what it sends, those that [`PeerConfig::import`] names.
    pub import: Option<Arc<Policy>>,
    /// The built-in policy for what it is sent.
    pub export_guard: ExportGuard,
    /// The rules for what it is sent.
    pub export: Option<Arc<Policy>>,
    /// The most AS numbers in a path.
    pub path_numbers_max: usize,
    /// Whether paths must begin with the peer's AS.
    pub enforce_first_as: bool,
    /// Whether GRACEFUL_SHUTDOWN is honoured (RFC 8326).
    pub graceful_shutdown: bool,
    /// Whether BLACKHOLE is honoured (RFC 7999).
    pub blackhole: bool,
    /// Our own addresses in the place: nobody can send us to ourselves.
    pub own_addresses: Vec<IpAddr>,
    /// The subnets that we share with a peer one hop away: where its next hops must be (RFC 4271
    /// section 6.3). None: not checked.
    pub shared_subnets: Option<Vec<Prefix>>,
    /// Our next hop of each family, by [`Family::index`](crate::Family::index); none: our address
    /// of the session, if it is of the family or [`PeerConfig::ipv6_next_hop`] allows it.
    pub next_hops: [Option<IpAddr>; 2],
    /// Our link-local address, if we share the link with the peer (RFC 2545 section 3).
    pub link_local: Option<Ipv6Addr>,
    /// Whether an external peer is sent the next hops that routes have.
    pub next_hop_unchanged: bool,
}

/// Whom a configured peer or range is: what stays the same while the rest of its configuration
/// changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NeighborName {
    /// A peer of its own.
    Peer(PeerKey),
    /// A range of the place.
    Range(Place, Prefix),
}

/// Which peer of which place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerKey {
    /// The place.
    pub place: Place,
    /// The peer's address.
    pub remote: IpAddr,
    /// Our address; none: whichever the endpoint has.
    pub local: Option<IpAddr>,
}

/// What a reload does to one neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborChange {
    /// Which neighbour.
    pub name: NeighborName,
    /// What becomes of it.
    pub what: Change,
}

/// What becomes of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is new.
    Added,
    /// It goes; its session ends with Cease / Peer De-configured.
    Removed,
    /// It stays, at this cost.
    Changed(Impact),
}

impl SpeakerConfig {
    /// What going from this configuration to `new` does to each neighbour, in the order of their
    /// names; those that do not notice are left out. It is what
    /// [`Speaker::reconfigure`](super::Speaker::reconfigure) does.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<NeighborChange> {
        let (old, new) = (self.neighbors(), new.neighbors());
        let removed = old.keys().filter(|name| !new.contains_key(name));
        let removed = removed.map(|name| NeighborChange { name: *name, what: Change::Removed });
        let stays = new.iter().filter_map(|(name, new)| {
            let what = match old.get(name) {
                None => Change::Added,
                Some(old) => Change::Changed(old.impact(new)?),
            };
            Some(NeighborChange { name: *name, what })
        });
        let mut changes: Vec<NeighborChange> = removed.chain(stays).collect();
        changes.sort_unstable_by_key(|change| change.name);
        changes
    }

    fn neighbors(&self) -> BTreeMap<NeighborName, &Neighbor> {
        let mut neighbors = BTreeMap::new();
        for (place, config) in &self.places {
            neighbors.extend(
                config
                    .peers
                    .iter()
                    .map(|peer| (NeighborName::Peer(PeerKey::of(*place, &peer.config)), peer)),
            );
            neighbors.extend(
                config
                    .ranges
                    .iter()
                    .map(|range| (NeighborName::Range(*place, range.range), &range.neighbor)),
            );
        }
        neighbors
    }
}

impl PeerKey {
    pub(super) fn of(place: Place, config: &PeerConfig) -> Self {
        Self { place, remote: config.remote_address, local: config.local_address }
    }
}

impl Neighbor {
    /// What going to `new` costs; none if nothing is noticed.
    #[must_use]
    pub fn impact(&self, new: &Self) -> Option<Impact> {
        let impact =
            crate::impact::of(&self.config, &new.config).and(self.routes.impact(&new.routes));
        (impact != Impact::default()).then_some(impact)
    }
}

impl RouteConfig {
    fn impact(&self, new: &Self) -> Impact {
        // Without `..`: a field that is new does not compile without an answer here.
        let Self {
            import_guard,
            import,
            export_guard,
            export,
            path_numbers_max,
            enforce_first_as,
            graceful_shutdown,
            blackhole,
            own_addresses,
            shared_subnets,
            next_hops,
            link_local,
            next_hop_unchanged,
        } = self;
        let import_sweep = *import_guard != new.import_guard
            || *import != new.import
            || *path_numbers_max != new.path_numbers_max
            || *enforce_first_as != new.enforce_first_as
            || *graceful_shutdown != new.graceful_shutdown
            || *blackhole != new.blackhole
            || *own_addresses != new.own_addresses
            || *shared_subnets != new.shared_subnets;
        let export_sweep = *export_guard != new.export_guard
            || *export != new.export
            || *next_hops != new.next_hops
            || *link_local != new.link_local
            || *next_hop_unchanged != new.next_hop_unchanged;
        Impact { import_sweep, export_sweep, ..Impact::default() }
    }
}

impl DynamicRange {
    /// Whether a neighbour may come to this address of ours.
    pub(super) fn admits(&self, local: IpAddr) -> bool {
        self.neighbor.config.local_address.is_none_or(|address| address == local)
    }

    /// What holds for the neighbour that came from `remote` to `local`.
    pub(super) fn neighbor(&self, remote: IpAddr, local: IpAddr) -> Neighbor {
        let mut config = PeerConfig::clone(&self.neighbor.config);
        config.remote_address = remote;
        config.local_address = Some(local);
        config.opening = Opening::Dynamic;
        Neighbor { config: Arc::new(config), routes: self.neighbor.routes.clone() }
    }
}
