//! What the tests configure speakers with.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nvgate_model::{Asn, DomainSlot, Prefix};

use crate::config::tests::peer_config;
use crate::config::{AsnRange, Opening, PeerConfig};
use crate::decision::Options;
use crate::policy::{ExportGuard, ImportGuard, TenantFacts, TenantPeer};
use crate::rib::{TableConfig, TableLimits};
use crate::speaker::{Neighbor, Place, PlaceConfig, RouteConfig, SpeakerConfig};
use crate::{Attributes, Origin};

/// Every tenant of every test is here, unless it is about several.
pub(super) const PLACE: Place = Place::Domain(DomainSlot(1));

/// The address of router `number` in every place.
pub(super) fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// What a place announces of its own.
pub(super) fn own() -> Attributes {
    Attributes::originated(Ipv4Addr::UNSPECIFIED.into(), Origin::Igp)
}

pub(super) fn routes() -> RouteConfig {
    let tenant = TenantPeer { site: None, accept_default: true, announce_learned: true };
    let facts = TenantFacts::default();
    RouteConfig {
        import_guard: ImportGuard::Tenant(Arc::new(facts.import(tenant))),
        import: None,
        export_guard: ExportGuard::Tenant(Arc::new(facts.export(tenant))),
        export: None,
        path_numbers_max: 1000,
        enforce_first_as: true,
        graceful_shutdown: true,
        blackhole: false,
        own_addresses: Vec::new(),
        shared_subnets: None,
        next_hops: [None; 2],
        link_local: None,
        next_hop_unchanged: false,
    }
}

/// A router of an AS, as a place's configuration.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) number: u8,
    pub(super) asn: u32,
    pub(super) config: PlaceConfig,
}

impl Node {
    pub(super) fn new(number: u8, asn: u32) -> Self {
        let router_id = Ipv4Addr::new(10, 255, 0, number);
        let config = PlaceConfig {
            table: TableConfig {
                limits: TableLimits { prefixes: 10_000, attribute_bytes: 64 << 20 },
                router_id,
                cluster_id: router_id,
                options: Options::default(),
            },
            updates_per_second: None,
            peers_max: 64,
            peers: Vec::new(),
            ranges: Vec::new(),
        };
        Self { number, asn, config }
    }

    /// The session with another router, from this one's side.
    pub(super) fn peer(&self, number: u8, asn: u32) -> PeerConfig {
        let router_id = Ipv4Addr::new(10, 255, 0, self.number);
        PeerConfig {
            local_address: Some(address(self.number)),
            remote_address: address(number),
            local_asn: Asn(self.asn),
            remote_asns: AsnRange::single(Asn(asn)),
            router_id,
            cluster_id: router_id,
            ..peer_config()
        }
    }

    pub(super) fn with(self, other: &Self) -> Self {
        let config = self.peer(other.number, other.asn);
        self.with_config(config, routes())
    }

    pub(super) fn with_config(mut self, config: PeerConfig, routes: RouteConfig) -> Self {
        self.config.peers.push(Neighbor { config: Arc::new(config), routes: Arc::new(routes) });
        self
    }

    /// Changes the configuration of every peer.
    pub(super) fn edited(mut self, edit: impl Fn(&mut PeerConfig, &mut RouteConfig)) -> Self {
        for peer in &mut self.config.peers {
            edit(Arc::make_mut(&mut peer.config), Arc::make_mut(&mut peer.routes));
        }
        self
    }

    pub(super) fn passive(self) -> Self {
        self.edited(|config, _| config.opening = Opening::Passive)
    }

    pub(super) fn speaker(&self) -> SpeakerConfig {
        self.in_place(PLACE)
    }

    pub(super) fn in_place(&self, place: Place) -> SpeakerConfig {
        SpeakerConfig { places: [(place, Arc::new(self.config.clone()))].into() }
    }
}
