//! Tenants as the gateway is configured with them, and as the model has them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use nvgate_bgp::Community;
use nvgate_bgp::config::{HoldTime, Opening, PeerConfig, PolicyReference, ShutdownText};
use nvgate_bgp::policy::{
    Action, AnyCommunity, CommunityChange, CommunityPattern, CommunityTest, Condition, Direction,
    MedChange, Policy, PrefixList, PrefixRange, Prepend, Quantifier, Rule, RuleId, TenantPeer,
    Then, Verdict,
};
use nvgate_deploy::plan::{
    BgpLimits, BgpPeerPlan, BgpPlan, DecisionPlan, MultipathPath, RoutePlan, RouteTarget,
    RulePlaces, SubnetRole, TenantPlan, Treatment,
};
use nvgate_model::{Asn, CustomerAddress, Prefix, RoutingDomainId};

use super::draw::{SPARE, STATIC};
use crate::bgp_peers::{End, session};
use crate::model_bgp::{
    Alike, DomainModel, ExportRule, ImportRule, OWN_ASN, Outcome, Own, RouterModel, Telling,
};
use crate::rig::Station;
use crate::rig_endpoint::Seat;
use crate::rig_plan::{APP, WEB, customer, customer_v6, endpoint, plan, provider, tenant};

/// The places of a tenant's routers: subnet, address, and the provider addresses of their hosts.
const PLACES: [(u8, u8, &[u8]); ROUTERS] =
    [(WEB, 10, &[11]), (WEB, 11, &[12]), (APP, 20, &[13, 14]), (APP, 21, &[11])];
/// Routers of a tenant.
pub(super) const ROUTERS: usize = 4;

/// A router as it is configured, and what it tells.
#[derive(Clone, Debug)]
pub(super) struct RouterPlan {
    pub(super) asn: u32,
    pub(super) opening: Opening,
    pub(super) configured: bool,
    pub(super) shutdown: bool,
    pub(super) accept_default: bool,
    pub(super) announce_learned: bool,
    pub(super) import: ImportRule,
    pub(super) export: ExportRule,
    pub(super) tells: BTreeMap<Prefix, Telling>,
}

/// A tenant as it is configured.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) number: u8,
    /// Whether the plan has it.
    pub(super) present: bool,
    /// Whether the spare endpoint has a record.
    pub(super) spare: bool,
    pub(super) announce_static: bool,
    pub(super) always_med: bool,
    pub(super) multipath: u8,
    pub(super) alike: Alike,
    pub(super) routers: Vec<RouterPlan>,
}

/// A tenant's routing domain.
pub(super) const fn domain(number: u8) -> RoutingDomainId {
    RoutingDomainId::from_bytes([number + 1; 16])
}

/// A router's end of its session.
pub(super) fn router_end(number: usize, asn: u32) -> End {
    let (subnet, last, _) = PLACES[number];
    let router_id = customer(subnet, last);
    End { address: router_id.into(), asn, router_id }
}

/// The gateway's end of the session with a router.
pub(super) fn gateway(number: usize) -> End {
    let (subnet, ..) = PLACES[number];
    let router_id = customer(WEB, 1);
    End { address: customer(subnet, 1).into(), asn: OWN_ASN, router_id }
}

/// Where a tenant's router is.
pub(super) fn seat(tenant: u8, number: usize) -> Seat {
    let (subnet, last, providers) = PLACES[number];
    let providers: Vec<IpAddr> = providers.iter().map(|last| provider(*last).into()).collect();
    Seat::Overlay(Station::new(tenant, subnet, last, &providers))
}

/// The plans of the tenants that are there.
pub(super) fn of(tenants: &[Tenant]) -> Vec<TenantPlan> {
    tenants.iter().filter(|tenant| tenant.present).map(Tenant::plan).collect()
}

impl Tenant {
    /// Its configuration but for its routers'.
    pub(super) fn summary(&self) -> String {
        format!("{:?}", Self { routers: Vec::new(), ..self.clone() })
    }

    /// Whether the gateway has a session with the router, if it can be reached.
    pub(super) fn speaks_with(&self, number: usize) -> bool {
        let router = &self.routers[number];
        self.present && router.configured && !router.shutdown
    }

    fn plan(&self) -> TenantPlan {
        let mut plan = tenant(self.number);
        assert_eq!(plan.routing_domain, domain(self.number));
        if self.spare {
            plan.endpoints.push(endpoint(self.number, WEB, SPARE, &[provider(12).into()]));
        }
        plan.routes.push(RoutePlan {
            prefix: STATIC.0.parse().expect("a prefix"),
            target: RouteTarget::Via(CustomerAddress(STATIC.1.into())),
            metric: 0,
            announce: self.announce_static,
        });
        let routers = self.routers.iter().enumerate().filter(|(_, router)| router.configured);
        let peers: Vec<_> = routers.map(|(number, router)| router.plan(number)).collect();
        plan.bgp = (!peers.is_empty()).then(|| BgpPlan {
            asn: Asn(OWN_ASN),
            router_id: customer(WEB, 1),
            cluster_id: customer(WEB, 1),
            peers,
            rules: RulePlaces::default(),
            decision: DecisionPlan {
                always_compare_med: self.always_med,
                multipath: self.multipath,
                multipath_path: match self.alike {
                    Alike::Path => MultipathPath::Exact,
                    Alike::Neighbour => MultipathPath::Neighbor,
                    Alike::Length => MultipathPath::Length,
                },
            },
            limits: BgpLimits::TENANT,
        });
        plan
    }

    /// The domain as the model has it, with those routers up.
    pub(super) fn model(&self, up: &[bool]) -> DomainModel {
        let here = self.plan();
        let gateway_plan = plan(Vec::new()).gateway;
        let host = |address: IpAddr| Prefix::host(address);
        let subnets = here.subnets.iter().flat_map(|subnet| subnet.prefixes.clone());
        let own = gateway_plan.fabric.provider_addresses.iter().map(|address| host(address.ip()));
        let hosts = here.endpoints.iter().flat_map(|endpoint| &endpoint.provider_addresses);
        let pools = gateway_plan.front_end.pools.iter().flat_map(|pool| pool.prefixes.clone());
        let loopback: Prefix = "127.0.0.0/8".parse().expect("a prefix");
        let kept = subnets.clone().chain(own).chain(pools).chain([loopback]);
        let kept = kept.chain(hosts.map(|address| host(address.ip()))).collect();
        let virtual_subnets =
            here.subnets.iter().filter(|subnet| subnet.role == SubnetRole::Virtual);
        let told = virtual_subnets.flat_map(|subnet| subnet.prefixes.clone());
        let fixed = (STATIC.0.parse().expect("a prefix"), Own::Static(self.announce_static));
        let records = here.endpoints.iter().flat_map(|endpoint| &endpoint.customer_addresses);
        let routers = (0..ROUTERS).map(|number| self.routers[number].model(number, up[number]));
        DomainModel {
            routers: routers.collect(),
            own: told.map(|prefix| (prefix, Own::Subnet)).chain([fixed]).collect(),
            kept,
            reachable: records.map(|address| address.0).collect(),
            gateways: subnets.map(Prefix::lowest_host).collect(),
            always_med: self.always_med,
            multipath: self.multipath.into(),
            alike: self.alike,
        }
    }

    /// Where packets go: by configured routes, and by learned ones that are not configured, too.
    pub(super) fn ways(&self, outcome: &Outcome) -> BTreeMap<Prefix, BTreeSet<IpAddr>> {
        let mut ways = outcome.fib.clone();
        let (prefix, via) = STATIC;
        ways.insert(prefix.parse().expect("a prefix"), [via.into()].into());
        ways
    }
}

impl RouterPlan {
    fn plan(&self, number: usize) -> BgpPeerPlan {
        let other = router_end(number, self.asn);
        let mut config = PeerConfig {
            opening: self.opening,
            hold_time: HoldTime::new(30).expect("30 s is a hold time"),
            connect_retry_secs: NonZeroU16::new(5).expect("5 is not zero"),
            ..session(gateway(number), other)
        };
        config.shutdown = self.shutdown.then(ShutdownText::default);
        let (import, export) = (import(&self.import), export(&self.export));
        config.import = import.as_ref().map(|_| reference(&self.import));
        config.export = export.as_ref().map(|_| reference(&self.export));
        BgpPeerPlan {
            name: format!("router-{number}"),
            config: Arc::new(config),
            dynamic: None,
            bfd: None,
            import: import.map(Arc::new),
            export: export.map(Arc::new),
            treatment: Treatment {
                enforce_first_as: true,
                graceful_shutdown: true,
                blackhole: false,
                next_hop_unchanged: false,
            },
            tenant: Some(TenantPeer {
                site: None,
                accept_default: self.accept_default,
                announce_learned: self.announce_learned,
            }),
        }
    }

    fn model(&self, number: usize, up: bool) -> RouterModel {
        let (subnet, last, _) = PLACES[number];
        RouterModel {
            address: customer(subnet, last),
            asn: self.asn,
            local: customer(subnet, 1),
            local_ipv6: customer_v6(subnet, 1),
            up,
            accept_default: self.accept_default,
            announce_learned: self.announce_learned,
            import: self.import.clone(),
            export: self.export.clone(),
            tells: self.tells.clone(),
        }
    }
}

fn reference(rule: &impl std::fmt::Debug) -> PolicyReference {
    let mut hasher = DefaultHasher::new();
    format!("{rule:?}").hash(&mut hasher);
    PolicyReference { name: "rules".into(), digest: hasher.finish() }
}

fn compile(direction: Direction, conditions: Vec<Condition>, actions: Vec<Action>) -> Policy {
    let verdict = if actions.is_empty() { Verdict::Reject } else { Verdict::Accept };
    let id = RuleId::configured(0).expect("the first number");
    let rule = Rule { id, conditions, actions, then: Then::Decide(verdict) };
    Policy::compile(direction, vec![rule], Verdict::Accept).expect("one rule is a policy")
}

fn tagged(tag: u32) -> Condition {
    let pattern: CommunityPattern = Community(tag).to_string().parse().expect("a community");
    let test = CommunityTest::new(Quantifier::Any, vec![pattern]);
    Condition::Communities(test.expect("there is one"))
}

fn import(rule: &ImportRule) -> Option<Policy> {
    let (conditions, actions) = match rule {
        ImportRule::None => return None,
        ImportRule::Prefer(preference) => (vec![], vec![Action::LocalPreference(*preference)]),
        ImportRule::PreferTagged(tag, preference) => {
            (vec![tagged(*tag)], vec![Action::LocalPreference(*preference)])
        }
        ImportRule::RejectWithin(within) => {
            let list = PrefixList::new(&[PrefixRange::or_longer(*within)]);
            (vec![Condition::Prefix(list.expect("there is one"))], vec![])
        }
        ImportRule::Weigh(weight) => (vec![], vec![Action::Weight(*weight)]),
    };
    Some(compile(Direction::Import, conditions, actions))
}

fn export(rule: &ExportRule) -> Option<Policy> {
    let (conditions, actions) = match rule {
        ExportRule::None => return None,
        ExportRule::RejectTagged(tag) => (vec![tagged(*tag)], vec![]),
        ExportRule::Tag(tag) => {
            let added = CommunityChange::add(vec![AnyCommunity::Standard(Community(*tag))]);
            (vec![], vec![Action::Communities(added.expect("there is one"))])
        }
        ExportRule::Prepend(times) => {
            (vec![], vec![Action::Prepend(Prepend::own(*times).expect("1 to 10 times"))])
        }
        ExportRule::Med(med) => (vec![], vec![Action::Med(MedChange::Set(*med))]),
    };
    Some(compile(Direction::Export, conditions, actions))
}
