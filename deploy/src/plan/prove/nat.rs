//! Proves one tenant's NAT: which addresses it asks for, and its inbound rules. What the rules
//! publish is proven after the leases are known, because a rule may name a leased address.

use std::collections::HashMap;
use std::net::IpAddr;

use nvgate_model::{CustomerAddress, FrontEndAddress, Protocol};

use super::address::{reserved_role, special_address};
use super::gateway::GatewayDraft;
use super::tenant::TenantDraft;
use crate::plan::{InboundRulePlan, NatTimeouts, RouteTarget};
use crate::schema::{
    At, Findings, InboundRule, Nat, NatAddresses, Place, PublicAddress, RuleProtocol, Timeouts,
    entries, hint,
};

/// A tenant's NAT before its leases are known.
pub(super) struct NatDraft {
    pub(super) demand: Demand,
    pub(super) rules: Vec<RuleDraft>,
    pub(super) timeouts: NatTimeouts,
}

/// Which front-end addresses a tenant asks for.
pub(super) enum Demand {
    /// Exactly these.
    Explicit(Vec<At<FrontEndAddress>>),
    /// So many from this pool.
    Leased { pool: String, count: u32, place: Place },
    /// What cannot be told after an error.
    Unknown,
}

/// An inbound rule that is whole but for its public address.
#[derive(Clone, Copy)]
pub(super) struct RuleDraft {
    place: Place,
    public_address: At<PublicAddress>,
    protocol: RuleProtocol,
    first: u16,
    last: u16,
    count: u16,
    customer_address: CustomerAddress,
    customer_port: u16,
}

impl RuleDraft {
    /// Where it is written that the rule publishes this UDP port of a tenant that has these
    /// addresses, if it does.
    pub(super) fn publishes_udp(
        &self,
        held: &[FrontEndAddress],
        address: FrontEndAddress,
        port: u16,
    ) -> Option<Place> {
        let own = match self.public_address.value {
            PublicAddress::Ordinal(ordinal) => held.get(ordinal as usize - 1).copied(),
            PublicAddress::Explicit(explicit) => Some(explicit),
        };
        let publishes = own == Some(address)
            && protocols(self.protocol).contains(&Protocol::Udp)
            && (self.first..=self.last).contains(&port);
        publishes.then_some(self.place)
    }
}

/// Proves the NAT of a tenant, as far as it could be read.
pub(super) fn prove_nat(
    nat: &At<Nat>,
    tenant: &TenantDraft,
    gateway: &GatewayDraft,
    findings: &mut Findings,
) -> Option<NatDraft> {
    let demand = prove_demand(nat, tenant, gateway, findings);
    let rules = entries(&nat.value.inbound)
        .iter()
        .filter_map(|rule| prove_rule(rule, tenant, findings))
        .collect();
    let timeouts = nat.value.timeouts.as_ref();
    let timeouts = timeouts.map_or_else(NatTimeouts::default, |given| timeouts_of(&given.value));
    Some(NatDraft { demand, rules, timeouts })
}

fn prove_demand(
    nat: &At<Nat>,
    tenant: &TenantDraft,
    gateway: &GatewayDraft,
    findings: &mut Findings,
) -> Demand {
    let pool = nat.value.pool.as_ref();
    let known = pool.and_then(|pool| gateway.pool(&pool.value.0));
    if let (Some(pool), None, true) = (pool, known, gateway.intact) {
        let names = gateway.pools.iter().map(|draft| draft.pool.name.as_str());
        let name = &pool.value.0;
        findings.error(pool.place, format!("no pool is named `{name}`{}", hint(name, names)));
    }
    let (count, place) = match &nat.value.addresses {
        Some(At { value: NatAddresses::Explicit(addresses), .. }) => {
            prove_explicit(&addresses.0, findings);
            for address in &addresses.0 {
                let whole = known.filter(|draft| draft.whole);
                if let (Some(draft), IpAddr::V4(v4)) = (whole, address.value.ip())
                    && !draft.pool.prefixes.iter().any(|prefix| prefix.contains(v4.into()))
                {
                    let message = format!("{v4} is not in pool `{}`", draft.pool.name);
                    findings.conflict(address.place, message, draft.place, "the pool");
                }
            }
            return Demand::Explicit(addresses.0.clone());
        }
        Some(At { value: NatAddresses::Leased(count), place }) => (*count, *place),
        None if tenant.intact => (1, nat.place),
        None => return Demand::Unknown,
    };
    match pool {
        Some(pool) => Demand::Leased { pool: pool.value.0.clone(), count, place },
        None => {
            if tenant.intact {
                let message = "missing key `pool` in `nat`, to lease addresses from, or \
                               `addresses` with a list";
                findings.error(nat.place, message);
            }
            Demand::Unknown
        }
    }
}

fn prove_explicit(addresses: &[At<FrontEndAddress>], findings: &mut Findings) {
    for address in addresses {
        if !address.value.ip().is_ipv4() {
            let message = format!("{} is not IPv4; NAT translates to IPv4 only", address.value);
            findings.error(address.place, message);
        } else if let Some(what) = special_address(address.value.ip()) {
            findings.error(address.place, format!("{} is {what}", address.value));
        }
    }
}

fn prove_rule(
    rule: &At<InboundRule>,
    tenant: &TenantDraft,
    findings: &mut Findings,
) -> Option<RuleDraft> {
    if let Some(to) = rule.value.to {
        prove_rule_target(&to, tenant, findings);
    }
    let public = rule.value.public_port?;
    let customer_port = match rule.value.port {
        Some(port) => u16::try_from(port.value.0).ok()?,
        None => public.value.first,
    };
    let count = public.value.count();
    let last = u32::from(customer_port) + u32::from(count) - 1;
    if last > u32::from(u16::MAX) {
        let place = rule.value.port.map_or(public.place, |port| port.place);
        let message =
            format!("{count} ports from {customer_port} end at {last}, which is beyond 65535");
        findings.error(place, message);
    }
    let first_address = At { value: PublicAddress::Ordinal(1), place: public.place };
    Some(RuleDraft {
        place: public.place,
        public_address: rule.value.public_address.unwrap_or(first_address),
        protocol: rule.value.protocol?.value,
        first: public.value.first,
        last: public.value.last,
        count,
        customer_address: rule.value.to?.value,
        customer_port,
    })
}

fn prove_rule_target(to: &At<CustomerAddress>, tenant: &TenantDraft, findings: &mut Findings) {
    let address = to.value.ip();
    if !address.is_ipv4() {
        findings.error(to.place, format!("{address} is not IPv4; NAT translates IPv4 only"));
        return;
    }
    if let Some((subnet, prefix)) = tenant.prefix_of(address) {
        if let Some(role) = reserved_role(prefix, address) {
            let message = format!("{address} is {role} of {prefix} in subnet `{}`", subnet.name);
            findings.error(to.place, message);
        }
        return;
    }
    let routed = tenant
        .routes
        .iter()
        .any(|route| route.target != RouteTarget::Blackhole && route.prefix.contains(address));
    if !routed && tenant.intact && tenant.routes_known {
        let message = format!("{address} is in no subnet and behind no route of this tenant");
        findings.error(to.place, message);
    }
}

/// Proves the rules of a tenant that has these addresses, in the order it counts them; `None` if
/// it is not known which.
pub(super) fn prove_published(
    rules: &[RuleDraft],
    addresses: Option<&[FrontEndAddress]>,
    asked: Option<usize>,
    findings: &mut Findings,
) -> Vec<InboundRulePlan> {
    let mut plans = Vec::new();
    let mut claims: HashMap<(PublicAddress, Protocol), Vec<&RuleDraft>> = HashMap::new();
    for rule in rules {
        let public = resolve(rule, addresses, asked, findings);
        for protocol in protocols(rule.protocol) {
            claims.entry((public, *protocol)).or_default().push(rule);
            if let PublicAddress::Explicit(public_address) = public {
                plans.push(InboundRulePlan {
                    protocol: *protocol,
                    public_address,
                    public_port: rule.first,
                    port_count: rule.count,
                    customer_address: rule.customer_address,
                    customer_port: rule.customer_port,
                });
            }
        }
    }
    let mut claims: Vec<_> = claims.into_iter().collect();
    claims.sort_by_key(|((_, protocol), _)| *protocol);
    for ((_, protocol), mut rules) in claims {
        rules.sort_by_key(|rule| (rule.first, rule.place));
        refuse_shared_ports(protocol, &rules, findings);
    }
    plans
}

/// The public address of a rule by its value, or as it was written if it is not known.
fn resolve(
    rule: &RuleDraft,
    addresses: Option<&[FrontEndAddress]>,
    asked: Option<usize>,
    findings: &mut Findings,
) -> PublicAddress {
    let At { value, place } = rule.public_address;
    match value {
        PublicAddress::Ordinal(ordinal) => {
            if let Some(asked) = asked.filter(|&asked| ordinal as usize > asked) {
                let message =
                    format!("public address {ordinal} is none of the tenant's, which are {asked}");
                findings.error(place, message);
            }
            let index = (ordinal as usize).saturating_sub(1);
            addresses
                .and_then(|addresses| addresses.get(index))
                .map_or(value, |&address| PublicAddress::Explicit(address))
        }
        PublicAddress::Explicit(address) => {
            if let Some(addresses) = addresses.filter(|addresses| !addresses.contains(&address)) {
                let held: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                let message = format!(
                    "public address {address} is none of the tenant's, which are {}",
                    held.join(", ")
                );
                findings.error(place, message);
            }
            value
        }
    }
}

const fn protocols(protocol: RuleProtocol) -> &'static [Protocol] {
    match protocol {
        RuleProtocol::Tcp => &[Protocol::Tcp],
        RuleProtocol::Udp => &[Protocol::Udp],
        RuleProtocol::Both => &[Protocol::Tcp, Protocol::Udp],
    }
}

/// Refuses ports that two rules publish; the rules are ordered by their first port.
fn refuse_shared_ports(protocol: Protocol, rules: &[&RuleDraft], findings: &mut Findings) {
    let Some((mut furthest, rest)) = rules.split_first() else { return };
    for rule in rest {
        if rule.first <= furthest.last {
            let (later, earlier) =
                if rule.place > furthest.place { (rule, furthest) } else { (furthest, rule) };
            let message =
                format!("{protocol} port {} is published twice on one address", rule.first);
            findings.conflict(later.place, message, earlier.place, "published here too");
        }
        if rule.last > furthest.last {
            furthest = rule;
        }
    }
}

fn timeouts_of(given: &Timeouts) -> NatTimeouts {
    let default = NatTimeouts::default();
    NatTimeouts {
        tcp_established_secs: given
            .tcp_established_secs
            .map_or(default.tcp_established_secs, |secs| secs.value.0),
        tcp_transitory_secs: given
            .tcp_transitory_secs
            .map_or(default.tcp_transitory_secs, |secs| secs.value.0),
        udp_secs: given.udp_secs.map_or(default.udp_secs, |secs| secs.value.0),
        icmp_secs: given.icmp_secs.map_or(default.icmp_secs, |secs| secs.value.0),
    }
}
