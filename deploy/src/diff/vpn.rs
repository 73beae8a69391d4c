//! What changes of a tenant's VPN: listeners, sites and tunnels by name. That a key changes is
//! said, never what it is.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::plan::{ListenerPlan, SitePlan, TenantPlan, TunnelPlan, VpnPlan};

/// A listener, site or tunnel that changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VpnChange {
    /// What it is, and its name: `tunnel hq/a`.
    pub what: String,
    /// `added`, `removed`, or its parts that change.
    pub change: String,
}

impl fmt::Display for VpnChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.what, self.change)
    }
}

/// What changes of the VPN when `new` follows `old`, ordered by kind and name.
pub(super) fn vpn_changes(old: &TenantPlan, new: &TenantPlan) -> Vec<VpnChange> {
    let mut before = parts_of(old.vpn.as_ref());
    let mut changes = Vec::new();
    for (what, new) in parts_of(new.vpn.as_ref()) {
        let change = match before.remove(&what) {
            None => "added".to_owned(),
            Some(old) => {
                let parts = Part::changed(&old, &new);
                if parts.is_empty() {
                    continue;
                }
                format!("({})", parts.join(", "))
            }
        };
        changes.push(VpnChange { what, change });
    }
    let removed = |what| VpnChange { what, change: "removed".to_owned() };
    changes.extend(before.into_keys().map(removed));
    changes.sort_by(|one, other| one.what.cmp(&other.what));
    changes
}

/// A listener, site or tunnel of a plan.
enum Part<'a> {
    Listener(&'a ListenerPlan),
    Site(&'a SitePlan),
    /// With the name of its listener, whose position may change.
    Tunnel(&'a TunnelPlan, &'a str),
}

/// Everything in a VPN by what it is called.
fn parts_of(vpn: Option<&VpnPlan>) -> BTreeMap<String, Part<'_>> {
    let mut parts = BTreeMap::new();
    let Some(vpn) = vpn else { return parts };
    for listener in &vpn.listeners {
        parts.insert(format!("listener {}", listener.name), Part::Listener(listener));
    }
    for site in &vpn.sites {
        parts.insert(format!("site {}", site.name), Part::Site(site));
        for tunnel in &site.tunnels {
            let listener = vpn.listeners.get(tunnel.listener);
            let listener = listener.map_or("", |listener| listener.name.as_str());
            let name = format!("tunnel {}/{}", site.name, tunnel.name);
            parts.insert(name, Part::Tunnel(tunnel, listener));
        }
    }
    parts
}

impl Part<'_> {
    /// What differs between two of one kind and name.
    fn changed(old: &Self, new: &Self) -> Vec<&'static str> {
        let differences = match (old, new) {
            (Self::Listener(old), Self::Listener(new)) => vec![
                (old.address != new.address, "address"),
                (old.port != new.port, "port"),
                (old.key != new.key, "key changed"),
                (old.previous != new.previous, "previous key changed"),
            ],
            (Self::Site(old), Self::Site(new)) => vec![
                (old.internet != new.internet, "internet"),
                (old.translate != new.translate, "translation"),
            ],
            (Self::Tunnel(old, old_listener), Self::Tunnel(new, new_listener)) => vec![
                (old_listener != new_listener, "listener"),
                (old.peer != new.peer, "key changed"),
                (old.preshared != new.preshared, "preshared key changed"),
                (old.endpoint != new.endpoint, "endpoint"),
                (old.allowed != new.allowed, "allowed prefixes"),
                (old.keepalive_secs != new.keepalive_secs, "keepalive"),
                (old.metric != new.metric, "metric"),
                (old.bandwidth != new.bandwidth, "bandwidth"),
                (old.probe != new.probe, "probe"),
            ],
            // Names of two kinds differ.
            (Self::Listener(_) | Self::Site(_) | Self::Tunnel(..), _) => Vec::new(),
        };
        differences.into_iter().filter_map(|(differs, part)| differs.then_some(part)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::diff;
    use crate::keys::Keyring;
    use crate::lease::Leases;
    use crate::plan::{Plan, prove};
    use crate::schema::documents_of;

    const GATEWAY: &str = "fabric: {link: a, provider_addresses: 192.0.2.1}\n\
                           front_end: {link: b, shared_addresses: [203.0.113.1, 203.0.113.2]}\n";

    const TENANT: &str = "\
tenant: a
routing_domain: 00000000-0000-0000-0000-000000000001
subnets: [{name: web, vsid: 5001, prefixes: 10.1.0.0/24}]
vpn:
  listen:
    - name: main
      address: 203.0.113.1
      private_key: cAdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LGo=
  sites:
    - name: hq
      tunnels:
        - name: a
          public_key: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
          allowed: 192.168.0.0/16
";

    fn plan(tenant: &str) -> Plan {
        let documents = documents_of(GATEWAY, &[("a.yaml", tenant)]);
        prove(&documents, &Leases::default(), &Keyring::default()).unwrap().plan
    }

    #[test]
    fn what_changes_is_named_and_keys_are_not_shown() {
        let changed = TENANT
            .replace("203.0.113.1\n", "203.0.113.2\n      port: 4500\n")
            .replace("cAdt", "FpCy")
            .replace("TrMv", "xTIB")
            .replace("      tunnels", "      internet: false\n      tunnels")
            .replace("192.168.0.0/16", "192.168.0.0/17");
        let impact = diff(&plan(TENANT), &plan(&changed));
        let text = impact.to_string();
        assert_eq!(
            text,
            "tenants changed: a (VPN: listener main (address, port, key changed), \
             tunnel hq/a (key changed, allowed prefixes))\ntenants unchanged: 0"
        );
        assert_eq!(
            serde_json::to_value(&impact).unwrap()["changed"][0]["vpn"][0]["what"],
            "listener main"
        );
    }

    #[test]
    fn what_comes_and_goes_is_named() {
        let other = TENANT.replace("hq", "branch");
        let impact = diff(&plan(TENANT), &plan(&other));
        let changes: Vec<_> = impact.changed[0].vpn.iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "site branch added",
                "site hq removed",
                "tunnel branch/a added",
                "tunnel hq/a removed"
            ]
        );
        let (without, _) = TENANT.split_once("vpn:").unwrap();
        let impact = diff(&plan(TENANT), &plan(without));
        assert_eq!(impact.changed[0].vpn.len(), 3);
        assert!(diff(&plan(TENANT), &plan(TENANT)).is_empty());
    }
}
