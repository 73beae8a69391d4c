//! Open vSwitch's userspace datapath as virtualization hosts: kernel clients of two tenants with the
//! same addresses send real traffic through the gateway, and tshark reads what was on the wire.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nvgate_tests::ovs_capture::{Capture, Frame, STRANGERS, count};
use nvgate_tests::ovs_http::{download, file, upload};
use nvgate_tests::ovs_lab::wait_until;
use nvgate_tests::ovs_topology::{
    DATABASE, FILE_BYTES, GATEWAY, HOST_A, HOST_B, HOST_B_FLOW, PROGRAMS, PUBLIC_PORT, RED_ONLY,
    SERVER, TENANTS, Tenant, Topology, WEB, at,
};
use nvgate_tests::skip::has_peers;
use serde_json::Value;

/// Bytes of an echo's payload that fill a tenant's MTU of 1458 (IPv4).
const FULL_ECHO: u16 = 1430;
/// Bytes of each iperf3 run, as iperf3 writes them. Not a time: Open vSwitch's sockets overflow under
/// load and may nearly silence one TCP flow for seconds, until the other is done.
const IPERF_BYTES: &str = "60M";
/// How long an iperf3 server may take to listen, and to leave after its run.
const IPERF_PATIENCE: Duration = Duration::from_secs(10);
/// A floor that only a broken path stays under, in bits a second from a tenant's first byte to its
/// last: each has half of a busy small machine, with an unoptimized gateway.
const FLOOR_BITS: f64 = 20e6;
/// Whole frames kept of the iperf3 runs.
const IPERF_FRAMES: u32 = 20_000;
/// What must never be on the front end: customer addresses and tunnels.
const LEAKS: &str = "net 10.0.0.0/8 or net fd00::/8 or ip proto 47";

/// Two labs at once would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn ovs_hosts_and_kernel_clients_work_through_one_worker() -> Result<()> {
    through("ovs_hosts_and_kernel_clients_work_through_one_worker", 1)
}

#[test]
fn ovs_hosts_and_kernel_clients_work_through_two_workers() -> Result<()> {
    through("ovs_hosts_and_kernel_clients_work_through_two_workers", 2)
}

fn through(test: &str, workers: u8) -> Result<()> {
    if !has_peers(test, &PROGRAMS) {
        return Ok(());
    }
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let result = with_gateway(workers);
    if let Err(error) = &result {
        // Last, where it is not lost among what was printed before.
        println!("{test}: {error:#}");
    }
    result
}

fn with_gateway(workers: u8) -> Result<()> {
    let topology = Topology::build()?;
    let gateway = topology.start_gateway(workers)?;
    let result = observed(&topology);
    if result.is_err() {
        println!("the gateway's log ends:\n{}", gateway.log_end());
        println!("its counters:\n{}", topology.counters().unwrap_or_default());
    }
    result?;
    gateway.stop()
}

/// All traffic, with captures around it.
fn observed(topology: &Topology) -> Result<()> {
    let Topology { lab, fabric, server, tenants, .. } = topology;
    for tenant in tenants {
        warm_up(tenant).with_context(|| format!("the first packets of {}", tenant.facts.name))?;
    }
    let strangers = Capture::start(lab, fabric, "gateway", "strangers", 1000, STRANGERS)?;
    let leaks = Capture::start(lab, server, "eth0", "leaks", 1000, LEAKS)?;

    let functional = Capture::start(lab, fabric, "gateway", "functional", 1_000_000, "")?;
    for tenant in tenants {
        echoes(tenant).with_context(|| format!("echoes of {}", tenant.facts.name))?;
        outbound(topology, tenant).with_context(|| format!("{} out", tenant.facts.name))?;
        inbound(topology, tenant).with_context(|| format!("{} in", tenant.facts.name))?;
        between_subnets(topology, tenant)
            .with_context(|| format!("{} between subnets", tenant.facts.name))?;
    }
    apart(topology)?;
    on_the_wire(&functional.end()?)?;

    let loaded = Capture::start(lab, fabric, "gateway", "loaded", IPERF_FRAMES, "")?;
    bulk(topology)?;
    count(&loaded.end()?)?;

    no_frames(&strangers.end()?).context("on the provider network")?;
    no_frames(&leaks.end()?).context("on the front end")
}

/// The database in its subnet, over IPv6.
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x10);

/// Hosts and the gateway learn each other's link addresses, and Open vSwitch its tunnels: until it
/// has, its host's kernel refuses what arrives for them.
fn warm_up(tenant: &Tenant) -> Result<()> {
    let (web, database) = (&tenant.web.namespace, &tenant.database.namespace);
    for (vm, target) in
        [(web, IpAddr::V4(SERVER)), (database, IpAddr::V4(SERVER)), (web, IpAddr::V6(OTHER))]
    {
        wait_until(Duration::from_secs(15), || vm.pings(target, 1, 56).ok().filter(|&all| all))
            .with_context(|| format!("{target} never answers"))?;
    }
    Ok(())
}

/// The default gateways, the other subnet and the server answer echoes of all sizes a tenant has.
fn echoes(tenant: &Tenant) -> Result<()> {
    let web = &tenant.web.namespace;
    let v4 = |address: Ipv4Addr| IpAddr::V4(address);
    let v6 = |subnet| IpAddr::V6(Ipv6Addr::new(0xfd00, subnet, 0, 0, 0, 0, 0, 1));
    let other = IpAddr::V6(OTHER);
    for target in [v4(Ipv4Addr::new(10, 1, 0, 1)), v6(1), v4(DATABASE), other, v4(SERVER)] {
        ensure!(web.pings(target, 5, 56)?, "{target} does not answer every echo");
    }
    for target in [DATABASE, SERVER] {
        ensure!(web.pings(v4(target), 2, FULL_ECHO)?, "{target} does not answer full frames");
    }
    Ok(())
}

/// A file each way from a VM to the server, which sees the tenant's public address.
fn outbound(topology: &Topology, tenant: &Tenant) -> Result<()> {
    let Topology { lab, web, .. } = topology;
    for vm in [&tenant.web, &tenant.database] {
        let before = web.peers().len();
        let got = download(lab, &vm.namespace, at(SERVER, 80), 5)?;
        ensure!(got == topology.file, "another file arrived");
        let sent = file(u64::from(tenant.facts.web_vsid) + 7, FILE_BYTES);
        upload(lab, &vm.namespace, at(SERVER, 80), &sent)?;
        ensure!(web.upload() == sent, "another file was taken");
        let public = IpAddr::V4(tenant.facts.public);
        let peers = &web.peers()[before..];
        ensure!(
            peers.len() == 2 && peers.iter().all(|peer| peer.ip() == public),
            "the server saw {peers:?}"
        );
    }
    Ok(())
}

/// A file each way from the server to a VM by the inbound rule; the VM sees who asks.
fn inbound(topology: &Topology, tenant: &Tenant) -> Result<()> {
    let Topology { lab, server, .. } = topology;
    let public = at(tenant.facts.public, PUBLIC_PORT);
    let before = tenant.web.server.peers().len();
    ensure!(download(lab, server, public, 5)? == tenant.web.file, "another file arrived");
    let sent = file(u64::from(tenant.facts.web_vsid) + 9, FILE_BYTES);
    upload(lab, server, public, &sent)?;
    ensure!(tenant.web.server.upload() == sent, "another file was taken");
    let peers = &tenant.web.server.peers()[before..];
    ensure!(
        peers.len() == 2 && peers.iter().all(|peer| peer.ip() == IpAddr::V4(SERVER)),
        "the VM saw {peers:?}"
    );
    Ok(())
}

/// The VMs of one tenant reach each other, untranslated, and only their own.
fn between_subnets(topology: &Topology, tenant: &Tenant) -> Result<()> {
    let (web, database) = (&tenant.web, &tenant.database);
    for (client, target, server, from) in
        [(web, DATABASE, database, WEB), (database, WEB, web, DATABASE)]
    {
        let got = download(&topology.lab, &client.namespace, at(target, 80), 5)?;
        ensure!(got == server.file, "another file arrived");
        let seen = server.server.peers().last().map(|peer| peer.ip());
        ensure!(seen == Some(IpAddr::V4(from)), "the VM saw {seen:?}");
    }
    Ok(())
}

/// An address that only red has is there for red and nobody for blue.
fn apart(topology: &Topology) -> Result<()> {
    let [red, blue] = &topology.tenants;
    let target = at(RED_ONLY, 80);
    let got = download(&topology.lab, &red.web.namespace, target, 5)?;
    ensure!(got == red.database.file, "red got another file");
    let before = red.database.server.peers();
    ensure!(
        download(&topology.lab, &blue.web.namespace, target, 2).is_err(),
        "blue reaches an address that only red has"
    );
    ensure!(!blue.web.namespace.pings(IpAddr::V4(RED_ONLY), 2, 56)?, "red answers blue's echo");
    ensure!(red.database.server.peers() == before, "red's VM saw blue");
    Ok(())
}

/// Every frame was NVGRE between the right hosts under the right VSIDs, with FlowIDs as configured.
fn on_the_wire(frames: &[Frame]) -> Result<()> {
    let packets = count(frames)?;
    let seen: BTreeSet<_> = packets.keys().copied().collect();
    let expected = TENANTS
        .iter()
        .flat_map(|tenant| [(tenant.web_vsid, HOST_A), (tenant.database_vsid, HOST_B)])
        .flat_map(|(vsid, host)| [(vsid, host, GATEWAY), (vsid, GATEWAY, host)])
        .collect();
    ensure!(seen == expected, "on the wire were {seen:?}, expected {expected:?}");
    let flows = |from, to| -> BTreeSet<u8> {
        let mine = packets.iter().filter(|((_, a, b), _)| (*a, *b) == (from, to));
        mine.flat_map(|(_, flows)| flows.iter().copied()).collect()
    };
    ensure!(flows(GATEWAY, HOST_A) == BTreeSet::from([0]), "host A needs FlowID 0");
    ensure!(flows(HOST_B, GATEWAY) == BTreeSet::from([HOST_B_FLOW]), "host B sends its own");
    ensure!(flows(GATEWAY, HOST_B).len() > 1, "the FlowID to host B does not tell flows apart");
    println!("{} frames on the provider network, all NVGRE or ARP", frames.len());
    Ok(())
}

/// iperf3 both ways, both tenants at once.
fn bulk(topology: &Topology) -> Result<()> {
    let [red, blue] = &topology.tenants;
    for (direction, flag) in [("out", ""), ("in", "--reverse")] {
        let results = std::thread::scope(|scope| {
            [(red, 5201), (blue, 5202)]
                .map(|(tenant, port)| {
                    (tenant, scope.spawn(move || iperf(topology, tenant, port, flag)))
                })
                .map(|(tenant, run)| (tenant, run.join()))
        });
        for (tenant, result) in results {
            let name = tenant.facts.name;
            let bits = result
                .map_err(|_| anyhow!("its thread panicked"))
                .flatten()
                .with_context(|| format!("iperf3 {name} {direction}"))?;
            println!("iperf3 {name} {direction}: {:.0} Mbit/s", bits / 1e6);
            ensure!(bits > FLOOR_BITS, "iperf3 {name} {direction}: {bits} bit/s");
        }
    }
    Ok(())
}

/// Bits a second that arrived in one run, against a server of its own: one that goes on may still
/// be busy with the end of the run before.
fn iperf(topology: &Topology, tenant: &Tenant, port: u16, flag: &str) -> Result<f64> {
    let Topology { server, .. } = topology;
    let mut iperf_server =
        server.spawn(&format!("iperf3 --server --one-off --port {port}"), &[])?;
    wait_until(IPERF_PATIENCE, || match iperf_server.must_run() {
        Err(error) => Some(Err(error)),
        Ok(()) => server.listens(port).then_some(Ok(())),
    })
    .context("waiting for the server")??;
    let report = tenant.web.namespace.run(&format!(
        "iperf3 -J -n {IPERF_BYTES} --connect-timeout 10000 -p {port} {flag} -c {SERVER}"
    ))?;
    // With -J iperf3 before 3.14 exits with success whatever happened.
    let report: Value = serde_json::from_str(&report).context("the report")?;
    ensure!(report["error"].is_null(), "{}", report["error"]);
    iperf_server.finish(IPERF_PATIENCE)?;
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .with_context(|| format!("no rate in {}", report["end"]))
}

fn no_frames(frames: &[Frame]) -> Result<()> {
    ensure!(frames.is_empty(), "{} foreign frames, first {:?}", frames.len(), frames[0]);
    Ok(())
}
