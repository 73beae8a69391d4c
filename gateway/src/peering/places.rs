//! What a domain with peers has of the endpoints, and what it announces of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nvgate_bgp::config::{PeerConfig, Reach};
use nvgate_bgp::policy::Site;
use nvgate_bgp::speaker::{OwnRoute, Place, Speaker};
use nvgate_bgp::{Attributes, Origin};
use nvgate_deploy::plan::{BgpPeerPlan, BgpPlan, GatewayPlan, Plan, SubnetRole, TenantPlan};
use nvgate_model::{DomainSlot, Instant, Prefix};

use super::tenants::tenants;
use crate::endpoint::{BGP_PORT, Endpoints, Md5Key, PeerOptions};
use crate::kernel::{Neighbour, Neighbours};
use crate::snapshot::Domain;

/// TTL of packets that may be forwarded on their way.
const FAR_TTL: u8 = 64;

/// How long connections of a domain that has no peers any more may take for their last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the endpoints and the speaker were told of each domain.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: BTreeMap<DomainSlot, Known>,
    /// Domains without peers whose connections are not over yet, and when they are ended.
    leaving: BTreeMap<DomainSlot, Instant>,
}

#[derive(Debug, Default)]
struct Known {
    listening: BTreeSet<IpAddr>,
    peers: BTreeSet<Prefix>,
    announced: BTreeSet<(Prefix, OwnRoute)>,
}

impl Places {
    /// Makes it as the plan says.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        plan: &Plan,
        domains: &BTreeMap<DomainSlot, Arc<Domain>>,
        (speaker, endpoints): (&mut Speaker, &mut Endpoints),
    ) {
        for (slot, known) in self.known.extract_if(.., |slot, _| !domains.contains_key(slot)) {
            for local in &known.listening {
                endpoints.unlisten(slot, SocketAddr::new(*local, BGP_PORT));
            }
            self.leaving.insert(slot, now + LAST_WORDS);
        }
        for tenant in tenants(plan, domains) {
            let (slot, bgp) = (tenant.slot(), tenant.bgp);
            let own: Vec<IpAddr> = tenant.domain.own_addresses().collect();
            self.leaving.remove(&slot);
            let known = self.known.entry(slot).or_default();
            endpoints.register(slot, own.iter().copied());
            known.listen(slot, bgp, &own, endpoints);
            known.admit(slot, bgp, endpoints);
            known.announce(now, slot, &own_routes(tenant.plan, &plan.gateway), speaker);
        }
    }

    /// Gives up domains that have said their last words.
    pub(super) fn turn(&mut self, now: Instant, endpoints: &mut Endpoints) {
        let over =
            |slot: &DomainSlot, due: &mut Instant| *due <= now || endpoints.connections(*slot) == 0;
        for slot in self.leaving.extract_if(.., over).map(|(slot, _)| slot).collect::<Vec<_>>() {
            endpoints.deregister(slot);
        }
    }

    /// When [`turn`](Self::turn) has something to do at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        self.leaving.values().min().copied()
    }
}

impl Known {
    fn listen(
        &mut self,
        slot: DomainSlot,
        bgp: &BgpPlan,
        own: &[IpAddr],
        endpoints: &mut Endpoints,
    ) {
        let wanted: BTreeSet<IpAddr> = bgp
            .peers
            .iter()
            .flat_map(|peer| match peer.config.local_address {
                Some(local) => vec![local],
                None => own.to_vec(),
            })
            .collect();
        let socket = |local: &IpAddr| SocketAddr::new(*local, BGP_PORT);
        for gone in self.listening.difference(&wanted) {
            endpoints.unlisten(slot, socket(gone));
        }
        // Again for those that are there: an own address may have gone and come back.
        self.listening = wanted
            .into_iter()
            .filter(|local| {
                let listening = endpoints.listen(slot, socket(local));
                if let Err(error) = &listening {
                    tracing::error!(%local, %error, "cannot wait for BGP peers");
                }
                listening.is_ok()
            })
            .collect();
    }

    fn admit(&mut self, slot: DomainSlot, bgp: &BgpPlan, endpoints: &mut Endpoints) {
        let mut peers = BTreeSet::new();
        for peer in &bgp.peers {
            let remote = remote(peer);
            if let Err(error) = endpoints.set_peer(slot, remote, options(&peer.config)) {
                tracing::error!(peer = peer.name, %error, "a BGP peer cannot connect");
                continue;
            }
            peers.insert(remote);
        }
        for gone in self.peers.difference(&peers) {
            endpoints.remove_peer(slot, *gone);
        }
        self.peers = peers;
    }

    fn announce(
        &mut self,
        now: Instant,
        slot: DomainSlot,
        wanted: &BTreeSet<(Prefix, OwnRoute)>,
        speaker: &mut Speaker,
    ) {
        let place = Place::Domain(slot);
        for &(prefix, reason) in self.announced.difference(wanted) {
            speaker.retract(now, place, prefix, reason);
        }
        for &(prefix, reason) in wanted.difference(&self.announced) {
            // Each peer gets our next hop instead.
            let attributes = Attributes::originated(Ipv4Addr::UNSPECIFIED.into(), Origin::Igp);
            if let Err(error) = speaker.originate(now, place, prefix, reason, attributes) {
                tracing::warn!(%prefix, %error, "a route is not announced");
            }
        }
        self.announced.clone_from(wanted);
    }
}

/// Whom the front end speaks with, as the kernel's sockets have it.
pub(super) fn neighbours(plan: &Plan) -> Neighbours {
    let peers = plan.gateway.front_end.bgp.iter().flat_map(|front_end| &front_end.bgp.peers);
    peers
        .map(|peer| Neighbour {
            remote: remote(peer),
            local: peer.config.local_address,
            options: options(&peer.config),
            bfd: peer.bfd.is_some(),
        })
        .collect()
}

/// Whom connections may come from.
pub(super) fn remote(peer: &BgpPeerPlan) -> Prefix {
    peer.dynamic.map_or_else(|| Prefix::host(peer.config.remote_address), |dynamic| dynamic.range)
}

fn options(config: &PeerConfig) -> PeerOptions {
    let external = !config.remote_asns.contains(config.shown_asn());
    let (ttl, minimum_ttl) = match config.reach {
        // An external neighbour is on the same link (RFC 4271 section 5.1.3); tunnels take no hop.
        Reach::Connected if external => (1, 0),
        Reach::Connected => (FAR_TTL, 0),
        Reach::Multihop(hops) => (hops, 0),
        Reach::Security(hops) => (u8::MAX, u8::MAX - hops.saturating_sub(1)),
    };
    let key = config.md5_key.as_ref().and_then(|key| Md5Key::new(key.bytes()).ok());
    PeerOptions { ttl, minimum_ttl, key }
}

/// What a tenant's peers are told of, each as far as the policy lets it.
fn own_routes(tenant: &TenantPlan, gateway: &GatewayPlan) -> BTreeSet<(Prefix, OwnRoute)> {
    let subnets = tenant.subnets.iter().filter(|subnet| subnet.role == SubnetRole::Virtual);
    let local =
        subnets.flat_map(|subnet| &subnet.prefixes).map(|&prefix| (prefix, OwnRoute::Local));
    let fixed = tenant
        .routes
        .iter()
        .map(|route| (route.prefix, OwnRoute::Static { announce: route.announce }));
    let facts = tenant.bgp_facts(gateway);
    let sites = tenant.vpn.iter().flat_map(|vpn| (0..).zip(&vpn.sites));
    let seen = sites.flat_map(|(number, _)| {
        let site = Site(number);
        facts.seen_by(site).into_iter().map(move |prefix| (prefix, OwnRoute::Translated(site)))
    });
    local.chain(fixed).chain(seen).collect()
}
