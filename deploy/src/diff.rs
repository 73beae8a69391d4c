//! What a new plan changes: which parts of the gateway and of which tenants, and which of it a
//! running gateway cannot take over. Tenants are told apart by their routing domain, because that
//! is what sessions and leases hang on; a tenant that is renamed stays the same tenant.

mod bgp;
mod vpn;

use std::collections::BTreeMap;
use std::fmt;

use nvgate_model::RoutingDomainId;
use serde::Serialize;

use crate::plan::{GatewayPlan, LinksPlan, Plan, TenantPlan};
pub use bgp::BgpChange;
use bgp::{bgp_changes, front_end_bgp_changes};
pub use vpn::VpnChange;
use vpn::vpn_changes;

/// Names that [`Impact`] writes out of each list before it says how many more there are.
const SHOWN_NAMES: usize = 16;

/// What a new plan changes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Impact {
    /// Parts of the gateway that only a restart changes.
    pub restart: Vec<RestartPart>,
    /// Parts of the gateway that change while it runs.
    pub gateway: Vec<GatewayPart>,
    /// What changes of the front end's BGP; all of it is taken over without a restart.
    pub front_end_bgp: Vec<BgpChange>,
    /// The names of tenants that are new.
    pub added: Vec<String>,
    /// The names of tenants that are gone; their sessions end.
    pub removed: Vec<String>,
    /// Tenants that change, by name.
    pub changed: Vec<TenantChange>,
    /// How many tenants stay as they are.
    pub unchanged: usize,
}

/// A tenant that changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TenantChange {
    /// The tenant's name in the new plan.
    pub tenant: String,
    /// What changes of it, at least one part.
    pub parts: Vec<TenantPart>,
    /// What changes of its VPN; all of it is taken over without a restart.
    pub vpn: Vec<VpnChange>,
    /// What changes of its BGP; all of it is taken over without a restart.
    pub bgp: Vec<BgpChange>,
}

macro_rules! parts {
    (
        $(#[doc = $doc:literal])+
        $name:ident of $plan:ty { $($(#[doc = $help:literal])+ $variant:ident = $text:literal: |$of:ident| $part:expr,)+ }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
        pub enum $name {
            $($(#[doc = $help])+ #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            fn changed(old: &$plan, new: &$plan) -> Vec<Self> {
                let mut changed = Vec::new();
                $({
                    let before = { let $of = old; $part };
                    let after = { let $of = new; $part };
                    if before != after {
                        changed.push(Self::$variant);
                    }
                })+
                changed
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}

parts! {
    /// A part of the gateway that only a restart changes.
    RestartPart of GatewayPlan {
        /// The fabric's link.
        FabricLink = "fabric link": |plan| &plan.fabric.link,
        /// The gateway's provider addresses.
        ProviderAddresses = "provider addresses": |plan| &plan.fabric.provider_addresses,
        /// The VLANs that the ports' links are: one that is to be another is made anew.
        PortVlans = "VLANs of the ports": |plan| {
            plan.links.iter().flat_map(LinksPlan::port_vlans).collect::<Vec<_>>()
        },
        /// The front end's link.
        FrontEndLink = "front-end link": |plan| &plan.front_end.link,
        /// The number of workers.
        Workers = "workers": |plan| &plan.workers,
        /// The size of flow tables.
        FlowEntries = "flow entries": |plan| &plan.flow_entries,
        /// Where leases are kept.
        StateDirectory = "state directory": |plan| &plan.state_directory,
        /// Where the health endpoint listens.
        AdminListen = "admin listen address": |plan| &plan.admin_listen,
    }
}

parts! {
    /// A part of the gateway that changes while it runs.
    GatewayPart of GatewayPlan {
        /// The host's links, or management's.
        Links = "links": |plan| &plan.links,
        /// The MTU of tenants' VMs.
        TenantMtu = "tenant MTU": |plan| &plan.fabric.tenant_mtu,
        /// How DSCP crosses the tunnel's ends.
        Dscp = "dscp": |plan| &plan.fabric.dscp,
        /// Hosts with a constant FlowID.
        ConstantFlow = "constant flows": |plan| &plan.fabric.constant_flow,
        /// The pools of front-end addresses.
        Pools = "pools": |plan| &plan.front_end.pools,
        /// The addresses that tenants' VPN listeners share.
        SharedAddresses = "shared addresses": |plan| &plan.front_end.shared_addresses,
        /// BGP with the routers of the front end.
        FrontEndBgp = "front-end BGP": |plan| &plan.front_end.bgp,
        /// The collector that BGP is told to.
        Bmp = "BMP collector": |plan| &plan.bmp,
        /// The MAC address of default gateways.
        GatewayMac = "gateway MAC": |plan| &plan.gateway_mac,
    }
}

parts! {
    /// A part of a tenant.
    TenantPart of TenantPlan {
        /// Its name.
        Name = "name": |plan| &plan.name,
        /// Its virtual subnets and gateway subnet.
        Subnets = "subnets": |plan| &plan.subnets,
        /// Its lookup records.
        Endpoints = "endpoints": |plan| &plan.endpoints,
        /// Its customer routes.
        Routes = "routes": |plan| &plan.routes,
        /// Its front-end addresses, or whether it has NAT at all.
        NatAddresses = "NAT addresses": |plan| plan.nat.as_ref().map(|nat| &nat.addresses),
        /// Its published services.
        InboundRules = "inbound rules": |plan| plan.nat.as_ref().map(|nat| &nat.inbound),
        /// Its idle timeouts.
        Timeouts = "timeouts": |plan| plan.nat.as_ref().map(|nat| &nat.timeouts),
        /// Its VPN.
        Vpn = "VPN": |plan| &plan.vpn,
        /// Its BGP.
        Bgp = "BGP": |plan| &plan.bgp,
        /// Its IPv6 prefixes on the front end.
        FrontEndPrefixes = "front-end prefixes": |plan| &plan.front_end_prefixes,
        /// Its limits.
        Limits = "limits": |plan| &plan.limits,
    }
}

/// What changes when `new` follows `old`.
#[must_use]
pub fn diff(old: &Plan, new: &Plan) -> Impact {
    let mut impact = Impact {
        restart: RestartPart::changed(&old.gateway, &new.gateway),
        gateway: GatewayPart::changed(&old.gateway, &new.gateway),
        front_end_bgp: front_end_bgp_changes(
            old.gateway.front_end.bgp.as_ref(),
            new.gateway.front_end.bgp.as_ref(),
        ),
        ..Impact::default()
    };
    let mut before: BTreeMap<RoutingDomainId, &TenantPlan> =
        old.tenants.iter().map(|tenant| (tenant.routing_domain, tenant)).collect();
    for tenant in &new.tenants {
        let name = tenant.name.to_string();
        match before.remove(&tenant.routing_domain) {
            None => impact.added.push(name),
            Some(old) if old == tenant => impact.unchanged += 1,
            Some(old) => {
                let parts = TenantPart::changed(old, tenant);
                let vpn = vpn_changes(old, tenant);
                let bgp = bgp_changes(old.bgp.as_ref(), tenant.bgp.as_ref());
                impact.changed.push(TenantChange { tenant: name, parts, vpn, bgp });
            }
        }
    }
    let removed = old.tenants.iter().filter(|old| before.contains_key(&old.routing_domain));
    impact.removed = removed.map(|tenant| tenant.name.to_string()).collect();
    impact
}

impl Impact {
    /// Whether the new plan is the old one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { restart, gateway, front_end_bgp, added, removed, changed, unchanged: _ } = self;
        restart.is_empty()
            && gateway.is_empty()
            && front_end_bgp.is_empty()
            && added.is_empty()
            && removed.is_empty()
            && changed.is_empty()
    }

    /// Peers of which BGP sessions end, beside those of tenants that are removed; a range counts
    /// once.
    #[must_use]
    pub fn bgp_sessions_ended(&self) -> usize {
        let tenants = self.changed.iter().flat_map(|tenant| &tenant.bgp);
        self.front_end_bgp.iter().chain(tenants).filter(|change| change.ends_session).count()
    }
}

impl fmt::Display for Impact {
    /// Writes a line a kind of change, and last how many tenants stay as they are. No line break
    /// follows the last line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = self.changed.iter().map(|change| {
            let TenantChange { tenant, parts, vpn, bgp } = change;
            let part = |part: &TenantPart| {
                let details = if *part == TenantPart::Vpn {
                    names(vpn.iter())
                } else {
                    names(bgp.iter()).filter(|_| *part == TenantPart::Bgp)
                };
                detailed(part, details)
            };
            format!("{tenant} ({})", parts.iter().map(part).collect::<Vec<_>>().join(", "))
        });
        let gateway = self.gateway.iter().map(|part| {
            let details = names(self.front_end_bgp.iter());
            detailed(part, details.filter(|_| *part == GatewayPart::FrontEndBgp))
        });
        let ended = Some(self.bgp_sessions_ended()).filter(|ended| *ended > 0);
        let lines = [
            ("only after a restart", names(self.restart.iter())),
            ("gateway", names(gateway)),
            ("tenants added", names(self.added.iter())),
            ("tenants removed", names(self.removed.iter())),
            ("tenants changed", names(changed)),
            ("BGP sessions that end", ended.map(|ended| ended.to_string())),
        ];
        for (what, names) in lines {
            if let Some(names) = names {
                writeln!(formatter, "{what}: {names}")?;
            }
        }
        write!(formatter, "tenants unchanged: {}", self.unchanged)
    }
}

fn detailed(part: impl fmt::Display, details: Option<String>) -> String {
    match details {
        Some(details) => format!("{part}: {details}"),
        None => part.to_string(),
    }
}

fn names(names: impl Iterator<Item = impl fmt::Display>) -> Option<String> {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    let shown = names.iter().take(SHOWN_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => None,
        count if count > SHOWN_NAMES => {
            Some(format!("{count}: {shown} and {} more", count - SHOWN_NAMES))
        }
        _ => Some(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keyring;
    use crate::lease::Leases;
    use crate::plan::{DscpMode, prove};
    use crate::schema::documents_of;

    fn plan(gateway: &str, tenants: &[&str]) -> Plan {
        let tenants: Vec<_> = tenants.iter().map(|text| ("t.yaml", *text)).collect();
        let documents = documents_of(gateway, &tenants);
        prove(&documents, &Leases::default(), &Keyring::default()).unwrap().plan
    }

    fn tenant(name: &str, number: u32) -> String {
        format!(
            "tenant: {name}\nrouting_domain: 00000000-0000-0000-0000-0000000000{number:02}\n\
             subnets: [{{name: web, vsid: {}, prefixes: 10.1.0.0/24}}]\n",
            5000 + number
        )
    }

    const GATEWAY: &str = "fabric: {link: a, provider_addresses: 192.0.2.1}\n\
                           front_end: {link: b, pools: [{name: p, prefixes: 203.0.113.0/28}]}\n";

    #[test]
    fn a_plan_and_itself_differ_in_nothing() {
        let plan = plan(GATEWAY, &[&tenant("a", 1), &tenant("b", 2)]);
        let impact = diff(&plan, &plan);
        assert!(impact.is_empty());
        assert_eq!(impact, Impact { unchanged: 2, ..Impact::default() });
        assert_eq!(impact.to_string(), "tenants unchanged: 2");
    }

    #[test]
    fn tenants_are_told_apart_by_routing_domain_and_their_changes_named() {
        let old = plan(GATEWAY, &[&tenant("a", 1), &tenant("b", 2), &tenant("c", 3)]);
        let changed = format!(
            "{}nat: {{pool: p, timeouts: {{udp_secs: 300}}}}\nlimits: {{sessions: 5}}\n",
            tenant("beta", 2)
        );
        let new = plan(GATEWAY, &[&tenant("a", 4), &changed, &tenant("c", 3)]);
        let impact = diff(&old, &new);
        assert_eq!(
            (&impact.added, &impact.removed),
            (&vec!["a".to_owned()], &vec!["a".to_owned()])
        );
        assert_eq!(impact.unchanged, 1);
        assert_eq!(
            impact.to_string(),
            "tenants added: a\ntenants removed: a\n\
             tenants changed: beta (name, NAT addresses, inbound rules, timeouts, limits)\n\
             tenants unchanged: 1"
        );
    }

    #[test]
    fn every_part_of_the_gateway_is_named_once() {
        let old = plan(GATEWAY, &[]);
        let mut new = old.clone();
        new.gateway.fabric.link = "x".to_owned();
        new.gateway.fabric.provider_addresses.clear();
        new.gateway.fabric.dscp = DscpMode::Pipe;
        new.gateway.fabric.constant_flow =
            vec![(nvgate_model::ProviderAddress([192, 0, 2, 9].into()), nvgate_model::FlowId(0))];
        new.gateway.front_end.link = "y".to_owned();
        new.gateway.front_end.pools.clear();
        new.gateway.front_end.shared_addresses =
            vec![nvgate_model::FrontEndAddress([203, 0, 113, 1].into())];
        new.gateway.workers = new.gateway.workers.saturating_add(1);
        new.gateway.admin_listen.set_port(1);
        new.gateway.state_directory.push("x");
        new.gateway.bmp = Some(([192, 0, 2, 50], 11_019).into());
        let with_bgp = GATEWAY.replace(
            "]}\n",
            "], bgp: {asn: 1, peers: [{name: x, address: 203.0.113.99, asn: 1}]}}\n",
        );
        new.gateway.front_end.bgp = plan(&with_bgp, &[]).gateway.front_end.bgp;
        new.gateway.gateway_mac.0[5] = 9;
        new.gateway.flow_entries *= 2;
        new.gateway.fabric.tenant_mtu += 1;
        let with_links = GATEWAY.to_owned()
            + "links: [{name: u}, {name: a, vlan: {parent: u, id: 5}, addresses: 192.0.2.1/24}]";
        new.gateway.links = plan(&with_links, &[]).gateway.links;
        let impact = diff(&old, &new);
        assert_eq!((impact.restart.len(), impact.gateway.len()), (8, 9));
        let json = serde_json::to_value(&impact).unwrap();
        assert_eq!(json["restart"][0], "fabric link");
        assert_eq!(json["restart"][2], "VLANs of the ports");
        assert_eq!(json["gateway"][6], "front-end BGP");
    }
}
