//! Proves what one tenant's file says by itself: subnets, endpoints, routes, limits.

use std::collections::HashMap;
use std::net::IpAddr;

use nvgate_model::{
    CustomerAddress, MacAddress, Prefix, ProviderAddress, RoutingDomainId, TenantName, Vsid,
};

use super::address::{overlaps, reserved_role, special_part, special_whole};
use super::bgp::{Ground, prove_tenant_bgp};
use super::gateway::{GatewayDraft, prove_remote_provider};
use super::nat::{NatDraft, prove_nat};
use super::reach::{prove_reach, prove_routed};
use super::vpn::{Keys, VpnDraft, prove_vpn};
use crate::plan::{
    BgpPlan, EndpointPlan, RoutePlan, RouteTarget, SubnetPlan, SubnetRole, TenantLimits,
};
use crate::schema::{
    At, Endpoint, Findings, Limits, Place, Route, RouteVia, Source, SubnetReference, Switch,
    TenantDocument, entries, hint,
};

/// The name of the gateway subnet.
const GATEWAY_SUBNET: &str = "gateway";
/// The longest IPv4 and IPv6 prefixes that leave room for an endpoint beside the gateway.
const LONGEST_V4: u8 = 30;
const LONGEST_V6: u8 = 126;
/// The metric of a route that names none.
const DEFAULT_METRIC: u32 = 100;

/// What is known of one tenant when the tenants are proven together.
pub(super) struct TenantDraft {
    /// The file's place, for what concerns all of it.
    pub(super) place: Place,
    pub(super) name: Option<At<TenantName>>,
    pub(super) routing_domain: Option<At<RoutingDomainId>>,
    pub(super) subnets: Vec<SubnetDraft>,
    pub(super) endpoints: Vec<EndpointPlan>,
    /// Every provider address the tenant names, with the first place.
    pub(super) providers: HashMap<ProviderAddress, Place>,
    pub(super) routes: Vec<RoutePlan>,
    /// Whether none of the routes had to be left out after an error.
    pub(super) routes_known: bool,
    pub(super) nat: Option<NatDraft>,
    /// Whether the file has NAT, proven or not.
    pub(super) has_nat: bool,
    pub(super) vpn: Option<VpnDraft>,
    pub(super) bgp: Option<BgpPlan>,
    pub(super) front_end_prefixes: Vec<At<Prefix>>,
    pub(super) limits: TenantLimits,
    /// Whether what is missing here is truly absent.
    pub(super) intact: bool,
}

/// A subnet, as far as it could be read.
pub(super) struct SubnetDraft {
    pub(super) name: String,
    pub(super) vsid: Option<At<Vsid>>,
    pub(super) prefixes: Vec<At<Prefix>>,
    pub(super) role: SubnetRole,
    pub(super) place: Place,
}

impl TenantDraft {
    /// What messages call the tenant.
    pub(super) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("tenant `{}`", name.value),
            None => "another tenant".to_owned(),
        }
    }

    /// The subnet's prefix that contains `address`.
    pub(super) fn prefix_of(&self, address: IpAddr) -> Option<(&SubnetDraft, Prefix)> {
        self.subnets.iter().find_map(|subnet| Some((subnet, subnet.prefix_of(address)?)))
    }
}

impl SubnetDraft {
    fn prefix_of(&self, address: IpAddr) -> Option<Prefix> {
        self.prefixes.iter().map(|prefix| prefix.value).find(|prefix| prefix.contains(address))
    }

    /// The subnet as planned, if it has a VSID.
    pub(super) fn plan(&self) -> Option<SubnetPlan> {
        Some(SubnetPlan {
            name: self.name.clone(),
            vsid: self.vsid?.value,
            prefixes: self.prefixes.iter().map(|prefix| prefix.value).collect(),
            role: self.role,
        })
    }
}

/// Proves one tenant, as far as its file could be read.
pub(super) fn prove_tenant(
    document: &TenantDocument,
    gateway: &GatewayDraft,
    keys: &mut Keys<'_>,
    sources: &[Source],
    findings: &mut Findings,
) -> TenantDraft {
    let file = &document.file;
    let mut draft = TenantDraft {
        place: document.place,
        name: file.tenant.clone(),
        routing_domain: file.routing_domain,
        subnets: subnets(document, findings),
        endpoints: Vec::new(),
        providers: HashMap::new(),
        routes: Vec::new(),
        routes_known: false,
        nat: None,
        has_nat: file.nat.is_some(),
        vpn: None,
        bgp: None,
        front_end_prefixes: entries(&file.front_end_prefixes).to_vec(),
        limits: file
            .limits
            .as_ref()
            .map_or_else(TenantLimits::default, |limits| prove_limits(&limits.value, findings)),
        intact: document.intact,
    };
    prove_subnets(&draft.subnets, findings);
    let customers =
        EndpointProof::new(gateway, &mut draft, findings).prove(entries(&file.endpoints));
    let vpn = file.vpn.as_ref().map(|vpn| prove_vpn(&vpn.value, &draft, keys, findings));
    draft.vpn = vpn;
    draft.routes = prove_routes(entries(&file.routes), &draft, &customers, findings);
    draft.routes_known = draft.routes.len() == entries(&file.routes).len();
    prove_reach(&draft, findings);
    prove_front_end_prefixes(&draft, findings);
    draft.nat = file.nat.as_ref().and_then(|nat| prove_nat(nat, &draft, gateway, findings));
    draft.bgp = file.bgp.as_ref().and_then(|bgp| {
        let ground = Ground::of_tenant(&draft, &customers);
        prove_tenant_bgp(bgp, ground, sources, findings)
    });
    prove_announced(entries(&file.routes), file.bgp.is_some(), &draft, findings);
    draft
}

fn subnets(document: &TenantDocument, findings: &mut Findings) -> Vec<SubnetDraft> {
    let mut drafts: Vec<SubnetDraft> = Vec::new();
    for subnet in entries(&document.file.subnets) {
        let Some(name) = &subnet.value.name else { continue };
        if name.value.0 == GATEWAY_SUBNET {
            let message = "`gateway` is the name of the gateway subnet; it has its own key";
            findings.error(name.place, message);
        } else if let Some(first) = drafts.iter().find(|first| first.name == name.value.0) {
            let message = format!("subnet `{}` is defined twice", name.value.0);
            findings.conflict(name.place, message, first.place, "defined here first");
        }
        drafts.push(SubnetDraft {
            name: name.value.0.clone(),
            vsid: subnet.value.vsid,
            prefixes: entries(&subnet.value.prefixes).to_vec(),
            role: SubnetRole::Virtual,
            place: name.place,
        });
    }
    drafts.extend(document.file.gateway_subnet.as_ref().map(|subnet| SubnetDraft {
        name: GATEWAY_SUBNET.to_owned(),
        vsid: subnet.value.vsid,
        prefixes: entries(&subnet.value.prefixes).to_vec(),
        role: SubnetRole::Gateway,
        place: subnet.place,
    }));
    drafts
}

fn prove_subnets(subnets: &[SubnetDraft], findings: &mut Findings) {
    let claims: Vec<(&str, At<Prefix>)> = subnets
        .iter()
        .flat_map(|subnet| subnet.prefixes.iter().map(|prefix| (subnet.name.as_str(), *prefix)))
        .collect();
    for (name, prefix) in &claims {
        let longest = if prefix.value.is_ipv4() { LONGEST_V4 } else { LONGEST_V6 };
        if let Some(what) = special_part(prefix.value) {
            let message = format!("{} of subnet `{name}` holds addresses of {what}", prefix.value);
            findings.error(prefix.place, message);
        } else if prefix.value.length() > longest {
            let message = format!(
                "{} of subnet `{name}` leaves no endpoint room beside the gateway; the longest \
                 prefix is /{longest}",
                prefix.value
            );
            findings.error(prefix.place, message);
        }
    }
    let places: Vec<_> = claims.iter().map(|(_, prefix)| (prefix.value, prefix.place)).collect();
    for (later, earlier) in overlaps(&places) {
        let ((name, prefix), (other_name, other)) = (claims[later], claims[earlier]);
        let message = format!(
            "{} of subnet `{name}` overlaps {} of subnet `{other_name}`",
            prefix.value, other.value
        );
        findings.conflict(prefix.place, message, other.place, "the other prefix");
    }
}

/// The proof of a tenant's endpoints, and what it has to remember.
struct EndpointProof<'a> {
    gateway: &'a GatewayDraft,
    tenant: &'a mut TenantDraft,
    findings: &'a mut Findings,
    by_name: HashMap<String, usize>,
    by_vsid: HashMap<Vsid, usize>,
    customers: HashMap<CustomerAddress, Place>,
    macs: HashMap<(usize, MacAddress), Place>,
}

impl<'a> EndpointProof<'a> {
    fn new(
        gateway: &'a GatewayDraft,
        tenant: &'a mut TenantDraft,
        findings: &'a mut Findings,
    ) -> Self {
        let subnets = || tenant.subnets.iter().enumerate();
        let by_name = subnets().map(|(index, subnet)| (subnet.name.clone(), index)).collect();
        let by_vsid =
            subnets().filter_map(|(index, subnet)| Some((subnet.vsid?.value, index))).collect();
        let (customers, macs) = (HashMap::new(), HashMap::new());
        Self { gateway, tenant, findings, by_name, by_vsid, customers, macs }
    }

    /// Adds the endpoints to the tenant and returns the customer addresses they have.
    fn prove(mut self, endpoints: &[At<Endpoint>]) -> HashMap<CustomerAddress, Place> {
        for endpoint in endpoints {
            let plan = self.endpoint(&endpoint.value);
            self.tenant.endpoints.extend(plan);
        }
        self.customers
    }

    fn endpoint(&mut self, endpoint: &Endpoint) -> Option<EndpointPlan> {
        let subnet = endpoint.subnet.as_ref().and_then(|reference| self.subnet(reference));
        let customers = entries(&endpoint.customer_addresses);
        for customer in customers {
            self.customer(customer, subnet);
        }
        if let Some(mac) = endpoint.mac {
            self.mac(&mac, subnet);
        }
        let providers = entries(&endpoint.provider_addresses);
        for (index, provider) in providers.iter().enumerate() {
            if let Some(first) = providers[..index].iter().find(|one| one.value == provider.value) {
                let message = format!("provider address {} is listed twice", provider.value);
                self.findings.conflict(provider.place, message, first.place, "listed here first");
            }
            if self.tenant.providers.insert(provider.value, provider.place).is_none() {
                prove_remote_provider(provider, &self.gateway.provider_addresses, self.findings);
            }
        }
        Some(EndpointPlan {
            customer_addresses: customers.iter().map(|customer| customer.value).collect(),
            mac: endpoint.mac?.value,
            vsid: self.tenant.subnets.get(subnet?)?.vsid?.value,
            provider_addresses: providers.iter().map(|provider| provider.value).collect(),
        })
    }

    fn subnet(&mut self, reference: &At<SubnetReference>) -> Option<usize> {
        let found = match &reference.value {
            SubnetReference::Name(name) => self.by_name.get(name),
            SubnetReference::Vsid(vsid) => self.by_vsid.get(vsid),
        };
        if found.is_none() && self.tenant.intact {
            let message = match &reference.value {
                SubnetReference::Name(name) => {
                    let names = self.tenant.subnets.iter().map(|subnet| subnet.name.as_str());
                    format!("no subnet is named `{name}`{}", hint(name, names))
                }
                SubnetReference::Vsid(vsid) => {
                    format!("no subnet of this tenant has VSID {vsid}")
                }
            };
            self.findings.error(reference.place, message);
        }
        found.copied()
    }

    fn customer(&mut self, customer: &At<CustomerAddress>, subnet: Option<usize>) {
        let address = customer.value;
        if let Some(&first) = self.customers.get(&address) {
            let message = format!("customer address {address} is used twice in this tenant");
            self.findings.conflict(customer.place, message, first, "used here first");
        } else {
            self.customers.insert(address, customer.place);
        }
        let Some(subnet) = subnet.and_then(|index| self.tenant.subnets.get(index)) else { return };
        let Some(prefix) = subnet.prefix_of(address.ip()) else {
            if self.tenant.intact {
                let prefixes: Vec<_> =
                    subnet.prefixes.iter().map(|prefix| prefix.value.to_string()).collect();
                let message = format!(
                    "customer address {address} is not in subnet `{}` ({})",
                    subnet.name,
                    prefixes.join(", ")
                );
                self.findings.conflict(customer.place, message, subnet.place, "the subnet");
            }
            return;
        };
        if let Some(role) = reserved_role(prefix, address.ip()) {
            let message = format!(
                "customer address {address} is {role} of {prefix} in subnet `{}`",
                subnet.name
            );
            self.findings.error(customer.place, message);
        }
    }

    fn mac(&mut self, mac: &At<MacAddress>, subnet: Option<usize>) {
        let address = mac.value;
        if !address.is_station() {
            self.findings
                .error(mac.place, format!("MAC {address} is not the address of a station"));
        } else if address == self.gateway.gateway_mac {
            let message = format!("MAC {address} is the gateway's own (`gateway_mac`)");
            self.findings.error(mac.place, message);
        }
        let Some(subnet) = subnet else { return };
        if let Some(&first) = self.macs.get(&(subnet, address)) {
            let name = &self.tenant.subnets[subnet].name;
            let message = format!("MAC {address} is used twice in subnet `{name}`");
            self.findings.conflict(mac.place, message, first, "used here first");
        } else {
            self.macs.insert((subnet, address), mac.place);
        }
    }
}

fn prove_routes(
    routes: &[At<Route>],
    tenant: &TenantDraft,
    customers: &HashMap<CustomerAddress, Place>,
    findings: &mut Findings,
) -> Vec<RoutePlan> {
    let subnet_prefixes: HashMap<Prefix, &SubnetDraft> = tenant
        .subnets
        .iter()
        .flat_map(|subnet| subnet.prefixes.iter().map(move |prefix| (prefix.value, subnet)))
        .collect();
    let mut seen: HashMap<(Prefix, u32), Place> = HashMap::new();
    let mut plans = Vec::new();
    for route in routes {
        let target = prove_target(route, tenant, customers, findings);
        let Some(prefix) = route.value.prefix else { continue };
        if let Some(what) = special_whole(prefix.value) {
            findings.error(prefix.place, format!("{} is {what}", prefix.value));
        }
        if let Some(subnet) = subnet_prefixes.get(&prefix.value) {
            let message =
                format!("{} is subnet `{}` itself and needs no route", prefix.value, subnet.name);
            findings.conflict(prefix.place, message, subnet.place, "the subnet");
        }
        let metric = route.value.metric.map_or(DEFAULT_METRIC, |metric| metric.value.0);
        if let Some(&first) = seen.get(&(prefix.value, metric)) {
            let message = format!(
                "{} has two routes of metric {metric}; give one of them another",
                prefix.value
            );
            findings.conflict(prefix.place, message, first, "the first one");
        } else {
            seen.insert((prefix.value, metric), prefix.place);
        }
        if let Some(RouteTarget::Via(via)) = target
            && via.ip().is_ipv4() != prefix.value.is_ipv4()
        {
            let message = format!("{} and {via} are not of one family", prefix.value);
            let place = route.value.via.as_ref().map_or(prefix.place, |via| via.place);
            findings.error(place, message);
        }
        if let (Some(RouteTarget::Site(site)), Some(vpn)) = (target, &tenant.vpn)
            && let Some(site) =
                vpn.sites.get(usize::from(site)).filter(|site| tenant.intact && site.whole)
        {
            prove_routed(prefix, site, findings);
        }
        let announce = is_announced(&route.value);
        let plan = |target| RoutePlan { prefix: prefix.value, metric, target, announce };
        plans.extend(target.map(plan));
    }
    plans
}

fn is_announced(route: &Route) -> bool {
    route.announce.is_some_and(|announce| announce.value == Switch::On)
}

/// Proves that there is someone whom routes are announced to.
fn prove_announced(
    routes: &[At<Route>],
    has_bgp: bool,
    tenant: &TenantDraft,
    findings: &mut Findings,
) {
    if has_bgp || !tenant.intact {
        return;
    }
    for route in routes.iter().filter(|route| is_announced(&route.value)) {
        let place = route.value.announce.map_or(route.place, |announce| announce.place);
        let message = "the route is to be announced, but the tenant has no BGP peers; add `bgp`, or \
                       leave `announce` out";
        findings.error(place, message);
    }
}

fn prove_target(
    route: &At<Route>,
    tenant: &TenantDraft,
    customers: &HashMap<CustomerAddress, Place>,
    findings: &mut Findings,
) -> Option<RouteTarget> {
    match (&route.value.via, route.value.blackhole) {
        (
            Some(At { value: RouteVia::Site(name), place }),
            None | Some(At { value: Switch::Off, .. }),
        ) => prove_site_named(name, *place, tenant, findings),
        (
            Some(At { value: RouteVia::Customer(via), place }),
            None | Some(At { value: Switch::Off, .. }),
        ) => {
            if !customers.contains_key(via) && tenant.intact {
                let message = format!("no endpoint of this tenant has customer address {via}");
                findings.error(*place, message);
            }
            Some(RouteTarget::Via(*via))
        }
        (None, Some(At { value: Switch::On, .. })) => Some(RouteTarget::Blackhole),
        (Some(via), Some(At { value: Switch::On, .. })) => {
            findings.error(via.place, "a route has either `via` or `blackhole: true`, not both");
            None
        }
        (None, None | Some(At { value: Switch::Off, .. })) => {
            if tenant.intact {
                let message = "missing key `via` or `blackhole: true` in a route";
                findings.error(route.place, message);
            }
            None
        }
    }
}

/// The site of this name.
fn prove_site_named(
    name: &str,
    place: Place,
    tenant: &TenantDraft,
    findings: &mut Findings,
) -> Option<RouteTarget> {
    let sites = tenant.vpn.as_ref().map_or(&[][..], |vpn| vpn.sites.as_slice());
    let found = sites.iter().position(|site| site.name == name);
    if found.is_none() && tenant.intact {
        let hint = hint(name, sites.iter().map(|site| site.name.as_str()));
        findings.error(place, format!("no site of this tenant is named `{name}`{hint}"));
    }
    found.and_then(|index| u16::try_from(index).ok()).map(RouteTarget::Site)
}

fn prove_front_end_prefixes(tenant: &TenantDraft, findings: &mut Findings) {
    for prefix in &tenant.front_end_prefixes {
        let subnets = || tenant.subnets.iter().flat_map(|subnet| &subnet.prefixes);
        if prefix.value.is_ipv4() {
            let message = format!(
                "{} is not IPv6; IPv4 reaches the front end through `nat` only",
                prefix.value
            );
            findings.error(prefix.place, message);
        } else if let Some(what) = special_part(prefix.value) {
            findings.error(prefix.place, format!("{} holds addresses of {what}", prefix.value));
        } else if tenant.intact && !subnets().any(|subnet| subnet.value.overlaps(prefix.value)) {
            let message = format!(
                "{} neither lies in a prefix of this tenant's subnets nor covers one",
                prefix.value
            );
            findings.error(prefix.place, message);
        }
    }
}

fn prove_limits(limits: &Limits, findings: &mut Findings) -> TenantLimits {
    let default = TenantLimits::default();
    let sessions = limits.sessions.map_or(default.sessions, |sessions| sessions.value.0);
    if let Some(customer) = limits.sessions_per_customer
        && customer.value.0 > sessions
    {
        let message = format!(
            "{} sessions of one customer address are more than the tenant's {sessions}",
            customer.value.0
        );
        findings.error(customer.place, message);
    }
    TenantLimits {
        sessions,
        sessions_per_customer: limits
            .sessions_per_customer
            .map_or(default.sessions_per_customer.min(sessions), |customer| customer.value.0),
        punts_per_sec: limits.punts_per_sec.map_or(default.punts_per_sec, |punts| punts.value.0),
        replications_per_sec: limits
            .replications_per_sec
            .map_or(default.replications_per_sec, |replications| replications.value.0),
    }
}
