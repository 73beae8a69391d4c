//! What a reload costs each BGP peer: the answer of [`nvgate_bgp::impact`], which the speaker asks
//! as well, joined with what stands beside a peer's `PeerConfig` in the plan.

use std::collections::BTreeMap;
use std::fmt;

use nvgate_bgp::impact::{self, Impact};
use serde::Serialize;

use crate::plan::{BgpPeerPlan, BgpPlan, FrontEndBgpPlan, Treatment};

/// A peer or another part of BGP that changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BgpChange {
    /// What it is, and its name: `peer hq`.
    pub what: String,
    /// `added`, `removed`, or what the change costs.
    pub change: String,
    /// Whether sessions end for it. Those of a range do, as many as there are.
    pub ends_session: bool,
}

impl fmt::Display for BgpChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.what, self.change)
    }
}

/// What changes of the front end's BGP when `new` follows `old`.
pub(super) fn front_end_bgp_changes(
    old: Option<&FrontEndBgpPlan>,
    new: Option<&FrontEndBgpPlan>,
) -> Vec<BgpChange> {
    let plan = |front_end: Option<&'_ FrontEndBgpPlan>| front_end.map(|one| one.bgp.clone());
    let (old_plan, new_plan) = (plan(old), plan(new));
    let mut changes = bgp_changes(old_plan.as_ref(), new_plan.as_ref());
    if let (Some(old), Some(new)) = (old, new) {
        let parts = [
            (old.announce != new.announce, "announcements", "(made anew)"),
            (old.martians != new.martians, "martians", "(what peers send is judged anew)"),
        ];
        changes.extend(named(parts));
    }
    changes
}

/// What changes of a place's BGP when `new` follows `old`: peers by name, then the rest.
pub(super) fn bgp_changes(old: Option<&BgpPlan>, new: Option<&BgpPlan>) -> Vec<BgpChange> {
    let mut before = peers_of(old);
    let mut changes: Vec<BgpChange> = Vec::new();
    for (name, new) in peers_of(new) {
        let (change, ends_session) = match before.remove(name) {
            None => ("added".to_owned(), false),
            Some(old) if old == new => continue,
            Some(old) => cost(old, new),
        };
        changes.push(BgpChange { what: format!("peer {name}"), change, ends_session });
    }
    changes.extend(before.into_iter().map(|(name, old)| BgpChange {
        what: format!("peer {name}"),
        change: "removed".to_owned(),
        ends_session: old.config.shutdown.is_none(),
    }));
    changes.sort_by(|one, other| one.what.cmp(&other.what));
    if let (Some(old), Some(new)) = (old, new) {
        let parts = [
            (old.decision != new.decision, "decision", "(every route is chosen anew)"),
            (old.limits != new.limits, "limits", "changed"),
        ];
        changes.extend(named(parts));
    }
    changes
}

fn peers_of(plan: Option<&BgpPlan>) -> BTreeMap<&str, &BgpPeerPlan> {
    let peers = plan.into_iter().flat_map(|plan| &plan.peers);
    peers.map(|peer| (peer.name.as_str(), peer)).collect()
}

fn named<const N: usize>(
    parts: [(bool, &'static str, &'static str); N],
) -> impl Iterator<Item = BgpChange> {
    let change = |(_, what, change): (bool, &str, &str)| BgpChange {
        what: what.to_owned(),
        change: change.to_owned(),
        ends_session: false,
    };
    parts.into_iter().filter(|(differs, ..)| *differs).map(change)
}

/// What it costs to go from one plan of a peer to another, and whether its session ends.
fn cost(old: &BgpPeerPlan, new: &BgpPeerPlan) -> (String, bool) {
    let impact = impact_of(old, new);
    // A range of other addresses has other neighbours; what is down already has no session to end.
    let moved = old.dynamic.map(|old| old.range) != new.dynamic.map(|new| new.range);
    let ends = (impact.reset.is_some() || moved) && old.config.shutdown.is_none();
    if ends {
        let text = match (new.config.shutdown.is_some(), new.dynamic.is_some()) {
            (true, _) => "(shuts the session down)",
            (false, false) => "(resets the session)",
            (false, true) => "(resets its sessions)",
        };
        return (text.to_owned(), true);
    }
    let Impact { reset: _, endpoint, import_sweep, export_sweep, refresh } = impact;
    let costs = [
        (endpoint, "connection settings"),
        (import_sweep, "what it sends is judged anew"),
        (export_sweep, "what it is sent is made anew"),
        (refresh, "it is asked for its routes again"),
    ];
    let costs: Vec<_> =
        costs.into_iter().filter_map(|(costs, text)| costs.then_some(text)).collect();
    let text = if costs.is_empty() { "no session notices".to_owned() } else { costs.join(", ") };
    (format!("({text})"), false)
}

/// What changes of the peer ask for.
fn impact_of(old: &BgpPeerPlan, new: &BgpPeerPlan) -> Impact {
    // Without `..`: a field that is new does not compile without an answer here.
    let BgpPeerPlan { name: _, config, dynamic: _, bfd, import: _, export: _, treatment, tenant } =
        old;
    let Treatment { enforce_first_as, graceful_shutdown, blackhole, next_hop_unchanged } =
        *treatment;
    let beside = Impact {
        reset: None,
        endpoint: *bfd != new.bfd,
        import_sweep: enforce_first_as != new.treatment.enforce_first_as
            || graceful_shutdown != new.treatment.graceful_shutdown
            || blackhole != new.treatment.blackhole
            || *tenant != new.tenant,
        export_sweep: next_hop_unchanged != new.treatment.next_hop_unchanged
            || *tenant != new.tenant,
        refresh: false,
    };
    impact::of(config, &new.config).and(beside)
}

#[cfg(test)]
mod tests {
    use super::super::diff;
    use crate::keys::Keyring;
    use crate::lease::Leases;
    use crate::plan::{Plan, prove};
    use crate::schema::documents_of;

    const GATEWAY: &str = "\
fabric: {link: a, provider_addresses: 192.0.2.1}
front_end:
  link: b
  bgp:
    asn: 64496
    peers:
      - {name: transit, address: 203.0.113.1, asn: 64500, import: all, export: all}
    policies:
      - {name: all, default: accept}
";

    const TENANT: &str = "\
tenant: a
routing_domain: 00000000-0000-0000-0000-000000000001
subnets: [{name: web, vsid: 5001, prefixes: 10.1.0.0/24}]
endpoints:
  - subnet: web
    customer_addresses: [10.1.0.10, 10.1.0.11]
    mac: 02:00:00:00:00:0a
    provider_addresses: 192.0.2.11
bgp:
  asn: 64512
  peers:
    - name: one
      address: 10.1.0.10
      asn: 65010
      import: in
    - name: range
      dynamic: 10.1.0.128/25
      asn: 65020
  policies:
    - name: in
      rules:
        - {match: {prefix: 10.9.0.0/16}, then: accept}
";

    fn plan(gateway: &str, tenant: &str) -> Plan {
        let documents = documents_of(gateway, &[("a.yaml", tenant)]);
        prove(&documents, &Leases::default(), &Keyring::default()).unwrap().plan
    }

    /// What changes of the tenant's BGP, and how many sessions end.
    fn changes(old: &str, new: &str) -> (Vec<String>, usize) {
        let impact = diff(&plan(GATEWAY, old), &plan(GATEWAY, new));
        let changes = impact.changed.iter().flat_map(|tenant| &tenant.bgp);
        (changes.map(ToString::to_string).collect(), impact.bgp_sessions_ended())
    }

    #[test]
    fn each_peer_pays_for_what_changes_of_it_and_no_more() {
        for (from, to, expected, ended) in [
            ("65010\n", "65010\n      description: x\n", "peer one (no session notices)", 0),
            ("65010\n", "65011\n", "peer one (resets the session)", 1),
            ("65010\n", "65010\n      shutdown: x\n", "peer one (shuts the session down)", 1),
            ("65010\n", "65010\n      bfd: true\n", "peer one (connection settings)", 0),
            ("10.9.0.0/16", "10.8.0.0/16", "peer one (what it sends is judged anew)", 0),
            (
                "65010\n",
                "65010\n      next_hop: self\n",
                "peer one (what it is sent is made anew)",
                0,
            ),
            (
                "65010\n",
                "65010\n      accept_as_set: true\n",
                "peer one (it is asked for its routes again)",
                0,
            ),
            (
                "65010\n",
                "65010\n      blackhole: true\n",
                "peer one (what it sends is judged anew)",
                0,
            ),
            ("10.1.0.10\n      asn", "10.1.0.11\n      asn", "peer one (resets the session)", 1),
            ("10.1.0.128/25", "10.1.0.64/26", "peer range (resets its sessions)", 1),
            ("65020\n", "65020\n      limit: 8\n", "peer range (no session notices)", 0),
            ("  policies", "  limits: {prefixes: 9}\n  policies", "limits changed", 0),
            (
                "  policies",
                "  decision: {multipath: 2}\n  policies",
                "decision (every route is chosen anew)",
                0,
            ),
        ] {
            assert!(TENANT.contains(from), "{from}");
            let found = changes(TENANT, &TENANT.replacen(from, to, 1));
            assert_eq!(found, (vec![expected.to_owned()], ended), "{to}");
        }
    }

    #[test]
    fn what_comes_and_goes_is_named_and_a_peer_that_was_down_loses_no_session() {
        let renamed = TENANT.replace("name: one", "name: two");
        let (found, ended) = changes(TENANT, &renamed);
        assert_eq!((found, ended), (vec!["peer one removed".into(), "peer two added".into()], 1));
        let down = TENANT.replace("asn: 65010", "asn: 65010\n      shutdown: true");
        let (_, ended) = changes(&down, &TENANT.replace("name: one", "name: two"));
        assert_eq!(ended, 0);
        let (without, _) = TENANT.split_once("bgp:").unwrap();
        let (found, ended) = changes(TENANT, without);
        assert_eq!((found.len(), ended), (2, 2));
        assert_eq!(changes(TENANT, &TENANT.replace("bgp:", "# moved\nbgp:")), (Vec::new(), 0));
    }

    #[test]
    fn the_whole_cost_is_one_line_and_the_front_ends_is_beside_the_tenants() {
        let gateway = GATEWAY.replace("64500", "64501").replace("accept}", "reject}");
        let gateway = gateway.replace("    peers:", "    announce: {addresses: false}\n    peers:");
        let tenant = TENANT.replace("65010", "65011");
        let impact = diff(&plan(GATEWAY, TENANT), &plan(&gateway, &tenant));
        assert_eq!(
            impact.to_string(),
            "gateway: front-end BGP: peer transit (resets the session), announcements (made anew)\n\
             tenants changed: a (BGP: peer one (resets the session))\n\
             BGP sessions that end: 2\n\
             tenants unchanged: 0"
        );
        let json = serde_json::to_value(&impact).unwrap();
        assert_eq!(json["front_end_bgp"][0]["ends_session"], true);
        assert_eq!(json["changed"][0]["bgp"][0]["what"], "peer one");
    }
}
