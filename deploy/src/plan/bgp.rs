//! The BGP part of a plan, of a tenant's routing domain or of the front end: every peer with all
//! that its session needs, every policy compiled, and where each rule stands in the files.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;

use nvgate_bfd::SessionConfig;
use nvgate_bgp::config::PeerConfig;
use nvgate_bgp::policy::{
    Martians, Policy, RuleId, Site, TenantFacts, TenantPeer, Translation, TranslationSide,
};
use nvgate_model::{Asn, Prefix};

use super::{GatewayPlan, TenantPlan, TranslateSide};

/// BGP of one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BgpPlan {
    /// The gateway's AS there.
    pub asn: Asn,
    /// Its BGP identifier, not zero.
    pub router_id: Ipv4Addr,
    /// The cluster that it reflects routes for.
    pub cluster_id: Ipv4Addr,
    /// The peers, at least one, as the file has them. No two have one pair of addresses, and no two
    /// dynamic ranges overlap; an address of its own goes before a range that holds it.
    pub peers: Vec<BgpPeerPlan>,
    /// Where the rules of all policies stand.
    pub rules: RulePlaces,
    /// Which of several routes is best.
    pub decision: DecisionPlan,
    /// What the peers may cost.
    pub limits: BgpLimits,
}

/// BGP of the front end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontEndBgpPlan {
    /// The peers, reached by the kernel's TCP.
    pub bgp: BgpPlan,
    /// What is announced.
    pub announce: AnnouncePlan,
    /// What is never learned, beside the pools' own prefixes.
    pub martians: Martians,
}

/// What the front end announces; each only while its tenant is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnnouncePlan {
    /// Whether tenants' NAT addresses are announced one by one, unless an aggregate covers them.
    pub addresses: bool,
    /// What is announced as long as one address of it is leased.
    pub aggregates: Vec<AggregatePlan>,
    /// Whether the shared addresses are announced one by one.
    pub shared_addresses: bool,
    /// Whether tenants' IPv6 prefixes on the front end are announced.
    pub front_end_prefixes: bool,
}

/// A pool that is announced as its prefixes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AggregatePlan {
    /// The pool's name.
    pub pool: String,
    /// Its prefixes with what is excepted from leases.
    pub prefixes: Vec<Prefix>,
}

/// A peer, or a range of addresses that peers come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BgpPeerPlan {
    /// Its name, unique in the place.
    pub name: String,
    /// Everything that its session needs. The remote address of a range is the range's network, and
    /// becomes that of each neighbour. In a tenant the local address is always there, except of a
    /// range, whose neighbours may come to any of the gateway's addresses.
    pub config: Arc<PeerConfig>,
    /// The range that it is.
    pub dynamic: Option<DynamicPlan>,
    /// BFD with it.
    pub bfd: Option<SessionConfig>,
    /// The rules for what it sends, those that `config.import` names.
    pub import: Option<Arc<Policy>>,
    /// The rules for what it is sent, those that `config.export` names.
    pub export: Option<Arc<Policy>>,
    /// How the session treats routes, beyond what `config` says.
    pub treatment: Treatment,
    /// What the tenant's built-in policy has to know of it; none on the front end.
    pub tenant: Option<TenantPeer>,
}

/// A range of addresses that peers come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DynamicPlan {
    /// The range.
    pub range: Prefix,
    /// Neighbours at a time, at least 1.
    pub limit: u32,
}

/// How routes of a peer are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Treatment {
    /// Paths must begin with the peer's AS.
    pub enforce_first_as: bool,
    /// GRACEFUL_SHUTDOWN is honoured (RFC 8326).
    pub graceful_shutdown: bool,
    /// BLACKHOLE is honoured (RFC 7999).
    pub blackhole: bool,
    /// An external peer is sent the next hops that routes have.
    pub next_hop_unchanged: bool,
}

/// Which of several routes is best, where RFC 4271 leaves a choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecisionPlan {
    /// Whether MEDs of different neighbour ASes compare.
    pub always_compare_med: bool,
    /// Routes used side by side at most, at least 1.
    pub multipath: u8,
    /// How alike their paths are.
    pub multipath_path: MultipathPath,
}

/// How alike AS paths are that are used side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MultipathPath {
    /// The same.
    Exact,
    /// Of the same neighbour AS and length.
    Neighbor,
    /// Of the same length.
    Length,
}

/// What the peers of a place may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BgpLimits {
    /// Peers, with all that ranges admit: no plan has more.
    pub peers: u32,
    /// Prefixes of both families.
    pub prefixes: u32,
    /// Bytes of routes' attributes.
    pub attribute_bytes: u64,
    /// Routes a second that are taken from all peers; none: as they come.
    pub updates_per_sec: Option<NonZeroU32>,
    /// AS numbers in a path.
    pub path_length: u16,
}

impl BgpLimits {
    /// What a tenant may that says nothing.
    pub const TENANT: Self = Self {
        peers: 64,
        prefixes: 10_000,
        attribute_bytes: 64 << 20,
        updates_per_sec: NonZeroU32::new(10_000),
        path_length: 1000,
    };

    /// What the front end may that says nothing: twice the full tables of both families.
    pub const FRONT_END: Self = Self {
        peers: 64,
        prefixes: 4_000_000,
        attribute_bytes: 1024 << 20,
        updates_per_sec: None,
        path_length: 1000,
    };
}

/// Where the rules of a place's policies stand, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct RulePlaces(pub(super) Arc<[RulePlace]>);

/// Where a rule stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RulePlace {
    /// The policy that it is of.
    pub policy: Box<str>,
    /// Which of its rules, from 1.
    pub rule: u32,
    /// The file, as it was named when it was read.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl RulePlaces {
    /// The place of a rule; none of a built-in one.
    #[must_use]
    pub fn of(&self, rule: RuleId) -> Option<&RulePlace> {
        self.0.get(rule.index()?)
    }
}

/// Any two are equal: what a gateway does is the same wherever its rules are written, and a comment
/// above them must not count as a change of the tenant.
impl PartialEq for RulePlaces {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for RulePlaces {}

impl TenantPlan {
    /// What the built-in policy of the tenant's peers is made from.
    #[must_use]
    pub fn bgp_facts(&self, gateway: &GatewayPlan) -> TenantFacts {
        let hosts = self.endpoints.iter().flat_map(|endpoint| &endpoint.provider_addresses);
        let own = gateway.fabric.provider_addresses.iter();
        let mut provider_space: Vec<Prefix> =
            own.chain(hosts).map(|address| Prefix::host(address.ip())).collect();
        provider_space.sort_unstable();
        provider_space.dedup();
        let leased = self.nat.iter().flat_map(|nat| &nat.addresses);
        let shared = gateway.front_end.shared_addresses.iter();
        let pools = gateway.front_end.pools.iter().flat_map(|pool| pool.prefixes.iter().copied());
        let public = leased.chain(shared).map(|address| Prefix::host(address.ip()));
        TenantFacts {
            subnets: self.subnets.iter().flat_map(|subnet| subnet.prefixes.clone()).collect(),
            provider_space,
            front_end_space: pools.chain(public).collect(),
            translations: self.translations(),
        }
    }

    fn translations(&self) -> Vec<Translation> {
        let sites = self.vpn.iter().flat_map(|vpn| (0..).zip(&vpn.sites));
        let of_site = |(number, site): (u32, &super::SitePlan)| {
            let translation = move |one: &super::TranslatePlan| Translation {
                site: Site(number),
                side: match one.side {
                    TranslateSide::Local => TranslationSide::Local,
                    TranslateSide::Remote => TranslationSide::Remote,
                },
                from: one.from,
                seen_as: one.to,
            };
            site.translate.iter().map(translation).collect::<Vec<_>>()
        };
        sites.flat_map(of_site).collect()
    }
}
