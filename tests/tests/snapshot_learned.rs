//! Whatever is learned and withdrawn in whichever order, a domain's routes are those that a builder
//! makes which never knew anything else, and no other domain's change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate::snapshot::{LearnedChanges, LearnedRoute, Snapshot, SnapshotBuilder};
use nvgate_model::Prefix;
use nvgate_tests::rig_claims::two_tenants;
use nvgate_tests::rig_plan::{APP, WEB, customer, host, plan};
use proptest::prelude::*;

/// Prefixes around what the tenants configure, within it, and far away.
const PREFIXES: [&str; 8] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/24",
    "10.1.0.128/25",
    "172.30.0.0/16",
    "172.30.9.0/24",
    "192.168.0.0/16",
    "203.0.113.77/32",
];

type Step = (bool, Vec<(usize, Option<Vec<u8>>)>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let hops = proptest::collection::vec(prop_oneof![1_u8..4, 10_u8..13, 20_u8..22], 0..4);
    let change = (0..PREFIXES.len(), proptest::option::weighted(0.7, hops));
    let changes = proptest::collection::vec(change, 0..4);
    proptest::collection::vec((proptest::bool::weighted(0.1), changes), 1..12)
}

fn route(hops: &[u8]) -> LearnedRoute {
    let hop = |&hop: &u8| IpAddr::from(customer(if hop < 20 { WEB } else { APP }, hop));
    if hops.is_empty() {
        LearnedRoute::Discard
    } else {
        LearnedRoute::Via(hops.iter().map(hop).collect())
    }
}

/// What tenant `number` has for addresses in and beside every prefix.
fn routes(snapshot: &Snapshot, number: usize) -> Vec<String> {
    let tenants = plan(two_tenants());
    let id = tenants.tenants[number].routing_domain;
    let domain = snapshot.domains().find(|domain| domain.id == id).expect("the tenant is served");
    let mut found = Vec::new();
    for prefix in PREFIXES.map(|text| text.parse::<Prefix>().expect("a prefix")) {
        for address in [prefix.lowest_host(), prefix.network()] {
            found.push(format!("{address}: {:?}", domain.routes.lookup(address)));
        }
        found.push(format!("{prefix}: {:?}", domain.routes.exact(prefix)));
    }
    found
}

proptest! {
    #[test]
    fn changes_one_after_another_end_where_all_of_them_at_once_do(steps in steps()) {
        let plan = plan(two_tenants());
        let domain = plan.tenants[0].routing_domain;
        let mut builder = SnapshotBuilder::new(1, 7);
        let mut current = Arc::new(builder.build(&plan, &host()).unwrap());
        let other = routes(&current, 1);
        let mut whole: BTreeMap<Prefix, Option<LearnedRoute>> = BTreeMap::new();
        for (anew, changes) in steps {
            let changes: BTreeMap<_, _> = changes
                .iter()
                .map(|(index, hops)| (PREFIXES[*index].parse().unwrap(), hops.as_deref().map(route)))
                .collect();
            if anew {
                whole.clear();
            }
            whole.extend(changes.clone());
            builder.learn(domain, LearnedChanges { anew, routes: changes.into_iter().collect() });
            let next = builder.relearned(&current);
            prop_assert!(next.generation.0 > current.generation.0);
            current = Arc::new(next);
            let mut fresh = SnapshotBuilder::new(1, 7);
            fresh.learn(domain, LearnedChanges { anew: false, routes: whole.clone().into_iter().collect() });
            let fresh = fresh.build(&plan, &host()).unwrap();
            prop_assert_eq!(routes(&current, 0), routes(&fresh, 0));
            prop_assert_eq!(routes(&current, 1), other.clone());
        }
        // A reload that touches nothing keeps what was learned.
        let rebuilt = builder.build(&plan, &host()).unwrap();
        prop_assert_eq!(routes(&rebuilt, 0), routes(&current, 0));
    }
}

#[test]
fn the_probes_see_learned_routes_at_all() {
    let plan = plan(two_tenants());
    let domain = plan.tenants[0].routing_domain;
    let mut builder = SnapshotBuilder::new(1, 7);
    let before = builder.build(&plan, &host()).unwrap();
    let via = [("172.30.0.0/16".parse().unwrap(), Some(route(&[10])))].into();
    builder.learn(domain, LearnedChanges { anew: false, routes: via });
    let after = builder.relearned(&before);
    assert_ne!(routes(&before, 0), routes(&after, 0));
}
