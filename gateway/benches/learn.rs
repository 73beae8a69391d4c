//! What it costs to take over a change of learned routes: from what the speaker hands on to a snapshot
//! that a worker has adopted, with many tenants beside the one that learns.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant as Clock;

use nvgate::counters::WorkerCounters;
use nvgate::dispatch::{Dispatcher, DispatcherConfig};
use nvgate::snapshot::{LearnedChanges, LearnedRoute, SnapshotBuilder};
use nvgate_deploy::host::{HostView, LinkFacts};
use nvgate_deploy::keys::Keyring;
use nvgate_deploy::lease::Leases;
use nvgate_deploy::plan::{Plan, prove};
use nvgate_deploy::schema;
use nvgate_model::{Instant, MacAddress, Prefix};

const ENDPOINTS: u32 = 50;
const ROUNDS: usize = 21;

fn main() {
    println!("{:>8} {:>10} {:>16}", "tenants", "routes", "a change, us");
    for (tenants, routes) in [(1, 100), (1, 10_000), (1000, 100), (1000, 10_000)] {
        println!("{tenants:>8} {routes:>10} {:>16.0}", measure(tenants, routes));
    }
}

/// The median of microseconds that one changed route takes.
fn measure(tenants: u32, routes: u32) -> f64 {
    let plan = plan(tenants);
    let host = host();
    let mut builder = SnapshotBuilder::new(1, 1);
    let domain = plan.tenants[0].routing_domain;
    let mut dispatcher = Dispatcher::new(DispatcherConfig {
        worker: 0,
        workers: 1,
        flow_entries: 1024,
        max_sessions: 1024,
        seed: 7,
        counters: Arc::new(WorkerCounters::default()),
    });
    let now = Instant(1_000_000_000);
    let route = |index: u32, last: u8| {
        let network = Ipv4Addr::from_bits(0xac10_0000 + index * 16);
        let prefix = Prefix::new(network.into(), 28).expect("a prefix");
        let hop: IpAddr = Ipv4Addr::new(10, 0, 0, last).into();
        (prefix, Some(LearnedRoute::Via([hop].into())))
    };
    let changes = |routes| LearnedChanges { anew: false, routes };
    builder.learn(domain, changes((0..routes).map(|index| route(index, 10)).collect()));
    let mut current = Arc::new(builder.build(&plan, &host).expect("the plan holds"));
    dispatcher.adopt(&current, now);
    let mut micros: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let changed = changes([route(routes / 2, 11 + (round % 2) as u8)].into());
            let started = Clock::now();
            builder.learn(domain, changed);
            let next = Arc::new(builder.relearned(&current));
            dispatcher.adopt(&next, now);
            current = next;
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    micros[ROUNDS / 2]
}

fn plan(tenants: u32) -> Plan {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("tenants.d")).expect("a directory");
    let gateway = "fabric: {link: fabric, provider_addresses: 192.0.2.1}\n\
                   front_end: {link: front, pools: [{name: p, prefixes: 203.0.0.0/20}]}\n";
    fs::write(directory.path().join("gateway.yaml"), gateway).expect("a file");
    for tenant in 0..tenants {
        let mut text = format!(
            "tenant: t{tenant}\nrouting_domain: 00000000-0000-0000-0001-{tenant:012x}\n\
             subnets: [{{name: web, vsid: {}, prefixes: 10.0.0.0/16}}]\nnat: {{pool: p}}\nendpoints:\n",
            5000 + tenant
        );
        for endpoint in 0..ENDPOINTS {
            let _ = writeln!(
                text,
                "  - {{subnet: web, customer_addresses: 10.0.0.{}, mac: '02:00:00:00:00:{endpoint:02x}', provider_addresses: 192.0.2.{}}}",
                10 + endpoint,
                11 + endpoint % 8,
            );
        }
        fs::write(directory.path().join(format!("tenants.d/t{tenant}.yaml")), text)
            .expect("a file");
    }
    let documents = schema::load(directory.path());
    match prove(&documents, &Leases::default(), &Keyring::default()) {
        Ok(proof) => proof.plan,
        Err(errors) => panic!("{}", errors[0]),
    }
}

fn host() -> HostView {
    let link = |index| LinkFacts {
        index,
        mac: MacAddress([2, 0, 0, 0, 1, index as u8]),
        mtu: 1500,
        running: true,
        addresses: Vec::new(),
    };
    HostView {
        links: [("fabric".to_owned(), link(1)), ("front".to_owned(), link(2))].into(),
        ..HostView::default()
    }
}
