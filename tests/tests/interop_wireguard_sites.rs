//! Sites of a tenant behind real WireGuard peers: several tunnels to one, several sites that reach
//! each other, use the tenant's NAT or have its own prefix, and tunnels over IPv6.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nvgate::demo::site::{INBOUND_PORT, SERVER};
use nvgate_tests::run_lab::{PUBLIC, RunLab};
use nvgate_tests::run_lab_traffic::Stream;
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{
    Peer, PeerPlan, Premises, TUNNEL_PORT, answers, build, exec, front_end_ipv6, gateway_key,
    give_ipv6, give_vpn, peer_key, place, reaches,
};
use nvgate_tests::wg_pings::Pings;
use nvgate_tests::wg_twins::{
    HQ, STREAM_PORT, TENANTS, Twins, WEB, each_reaches_its_own, hq, plan, streams, tunnel,
};
use serde_json::Value;

/// How long an iperf3 run of some seconds from a VM to the premises brought nothing at a stretch.
fn longest_gap(lab: &RunLab, premises: &Premises) -> Result<Duration> {
    const INTERVAL: f64 = 0.25;
    let mut server = Command::new("iperf3");
    server.args(["--server", "--one-off", "--json", "--interval", &INTERVAL.to_string()]);
    server.stdout(Stdio::piped());
    let mut server = premises.client.command(server)?;
    let line = format!("iperf3 -J -c {} -t 9 -b 100M", premises.ipv4);
    let ran = lab.wait("the iperf3 server listens", || {
        let report: Value = serde_json::from_str(&exec(lab.vm("red-web"), &line)?)?;
        // With -J iperf3 before 3.14 exits with success whatever happened.
        ensure!(report["error"].is_null(), "{}", report["error"]);
        Ok(())
    });
    if ran.is_err() {
        server.kill()?;
    }
    let arrived: Value = serde_json::from_slice(&server.wait_with_output()?.stdout)?;
    ran?;
    let intervals = arrived["intervals"].as_array().context("intervals")?;
    ensure!(intervals.len() > 30, "{} intervals", intervals.len());
    let (mut longest, mut now) = (0, 0);
    for interval in intervals {
        now = if interval["sum"]["bytes"].as_u64() == Some(0) { now + 1 } else { 0 };
        longest = longest.max(now);
    }
    // The intervals around may have been silent but for a moment.
    Ok(Duration::from_secs_f64(INTERVAL * f64::from(longest + 2)))
}

#[test]
fn a_site_fails_over_and_comes_back() -> Result<()> {
    const TEST: &str = "a_site_fails_over_and_comes_back";
    const HOLD: Duration = Duration::from_secs(3);
    if !has_peers(TEST, &["iperf3"]) {
        return Ok(());
    }
    let Some(mut lab) = build(TEST, 2)? else { return Ok(()) };
    let probe = format!(
        "probe: {{address: 192.168.10.1, interval_millis: 400, failures: 3, hold_secs: {}}}",
        HOLD.as_secs()
    );
    let tunnels = [("a", 1, 10), ("b", 2, 20)].map(|(name, number, metric)| {
        tunnel(name, number, &format!(", metric: {metric}, {probe}"))
    });
    give_vpn(&lab, "red", &hq(&tunnels.concat()))?;
    lab.start()?;
    let key = gateway_key(&lab, "red")?;
    let places = [place(&lab, 1)?, place(&lab, 2)?];
    let premises = Premises::build("red-hq", HQ)?;
    let start = |number: u8| {
        let plan = PeerPlan { metric: u32::from(number), ..plan(0, &key, number) };
        Peer::start(lab.config(), &places[usize::from(number) - 1], &premises.router, &plan)
    };
    let [first, second] = [start(1)?, start(2)?];
    let vm = lab.vm("red-web");
    reaches(vm, premises.ipv4.into(), "red-hq", WEB.into())?;
    let listen = SocketAddr::new(premises.ipv4.into(), STREAM_PORT);
    let stream = Stream::start(vm, listen, &premises.client, listen)?;
    let pings = Pings::start(vm, premises.ipv4)?;
    // The second carries probes only.
    std::thread::sleep(Duration::from_secs(1));
    ensure!(first.received()? > 10 * second.received()?, "the first carries the traffic");

    let gap = std::thread::scope(|scope| -> Result<Duration> {
        let bulk = scope.spawn(|| longest_gap(&lab, &premises));
        std::thread::sleep(Duration::from_secs(2));
        drop(first);
        bulk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let (silence, _) = pings.end()?;
    println!("failover: silent for {silence:?}, iperf3 for {gap:?}");
    ensure!(gap < Duration::from_secs(5), "iperf3 stood still for {gap:?}");
    ensure!(silence < Duration::from_secs(5), "silent for {silence:?}");

    let again = start(1)?;
    let restarted = Instant::now();
    lab.wait("probes come by the first tunnel", || {
        ensure!(again.received()? > 1000);
        Ok(())
    })?;
    let pings = Pings::start(vm, premises.ipv4)?;
    lab.wait("traffic is back on the first tunnel", || {
        let before = again.received()?;
        std::thread::sleep(Duration::from_millis(100));
        let more = again.received()? - before;
        ensure!(more > 50_000, "{more} bytes in 100 ms");
        Ok(())
    })?;
    let back = restarted.elapsed();
    println!("failback: after {back:?}");
    ensure!(back >= HOLD, "back after {back:?} already");
    let (silence, _) = pings.end()?;
    ensure!(silence < Duration::from_millis(300), "silent for {silence:?} at the way back");
    let carried = stream.end_after(20)?;
    println!("{carried:?}");
    ensure!(carried.longest < Duration::from_secs(5), "the stream stood still: {carried:?}");
    Ok(())
}

/// The IPv4 networks of a tenant, its other site, and the front end.
const EVERYWHERE: [&str; 4] =
    ["10.1.0.0/24", "192.168.0.0/19", "198.51.100.0/24", "203.0.113.0/24"];

#[test]
fn sites_reach_each_other_and_the_front_end() -> Result<()> {
    const TEST: &str = "sites_reach_each_other_and_the_front_end";
    let Some(mut lab) = build(TEST, 2)? else { return Ok(()) };
    let sites = [("hq", 1, "192.168.10.0/24"), ("branch", 2, "192.168.20.0/24")];
    let [listed, routes] = [0, 1].map(|part| {
        let lines = sites.map(|(name, number, prefix)| match part {
            0 => format!(
                "    - name: {name}\n      internet: true\n      tunnels: [{{name: a, public_key: '{}', \
                 allowed: {prefix}}}]\n",
                peer_key(number).public()
            ),
            _ => format!("  - {{prefix: {prefix}, via: {name}}}\n"),
        });
        lines.concat()
    });
    let vpn = format!("vpn:\n  listen: [{{address: 1}}]\n  sites:\n{listed}routes:\n{routes}");
    give_vpn(&lab, "red", &vpn)?;
    let rule = "  inbound:\n";
    let more = "    - {protocol: both, public_port: 9001, to: 192.168.10.2, port: 7}\n";
    lab.edit("red", rule, &format!("{rule}{more}"))?;
    lab.start()?;
    let key = gateway_key(&lab, "red")?;
    let place = place(&lab, 1)?;
    let [hq, branch] = [("red-hq", HQ), ("red-branch", [192, 168, 20])]
        .map(|(label, network)| Premises::build(label, network));
    let (hq, branch) = (hq?, branch?);
    let plans = [1, 2].map(|number| PeerPlan { networks: &EVERYWHERE, ..plan(0, &key, number) });
    let _first = Peer::start(lab.config(), &place, &hq.router, &plans[0])?;
    let _second = Peer::start(lab.config(), &place, &branch.router, &plans[1])?;
    reaches(&hq.client, branch.ipv4.into(), "red-branch", hq.ipv4.into())?;
    reaches(&branch.client, hq.ipv4.into(), "red-hq", branch.ipv4.into())?;
    reaches(&branch.client, WEB.into(), "red-web", branch.ipv4.into())?;
    let public = IpAddr::from(PUBLIC[0]);
    for premises in [&hq, &branch] {
        reaches(&premises.client, SERVER.into(), "server", public)?;
    }
    let published = SocketAddr::new(public, 9001);
    answers(&lab.site.server, published, "red-hq", SERVER.into())?;
    // From a site through the tenant's own published port: hairpinning.
    let web = SocketAddr::new(public, INBOUND_PORT);
    answers(&branch.client, web, "red-web", public)
}

#[test]
fn sites_with_the_tenants_own_prefix_are_told_apart_by_translation() -> Result<()> {
    const TEST: &str = "sites_with_the_tenants_own_prefix_are_told_apart_by_translation";
    let Some(mut lab) = build(TEST, 2)? else { return Ok(()) };
    let sites = [("east", 1, 2), ("west", 2, 3)];
    let listed = sites.map(|(name, number, net)| {
        format!(
            "    - name: {name}\n      translate:\n        \
             - {{local: 10.1.0.0/24, seen_as: 172.20.1.0/24}}\n        \
             - {{remote: 10.1.0.0/24, seen_as: 172.20.{net}.0/24}}\n      \
             tunnels: [{{name: a, public_key: '{}', allowed: 10.1.0.0/24}}]\n",
            peer_key(number).public()
        )
    });
    let routes =
        sites.map(|(name, _, net)| format!("  - {{prefix: 172.20.{net}.0/24, via: {name}}}\n"));
    let vpn = format!(
        "vpn:\n  listen: [{{address: 1}}]\n  sites:\n{}routes:\n{}",
        listed.concat(),
        routes.concat()
    );
    give_vpn(&lab, "red", &vpn)?;
    lab.start()?;
    let key = gateway_key(&lab, "red")?;
    let place = place(&lab, 1)?;
    let seen_as = Ipv4Addr::new(172, 20, 1, 10);
    for (name, number, net) in sites {
        let premises = Premises::build(name, [10, 1, 0])?;
        let plan = PeerPlan { networks: &["172.20.1.0/24"], ..plan(0, &key, number) };
        let _peer = Peer::start(lab.config(), &place, &premises.router, &plan)?;
        let remote = Ipv4Addr::new(172, 20, net, 2);
        let vm = lab.vm("red-web");
        reaches(vm, remote.into(), name, seen_as.into())?;
        reaches(&premises.client, seen_as.into(), "red-web", remote.into())?;
        let listen = SocketAddr::new(premises.ipv4.into(), STREAM_PORT);
        let target = SocketAddr::new(remote.into(), STREAM_PORT);
        Stream::start(vm, target, &premises.client, listen)?.end_after(10)?;
    }
    Ok(())
}

#[test]
fn tunnels_over_ipv6_carry_both_families() -> Result<()> {
    const TEST: &str = "tunnels_over_ipv6_carry_both_families";
    let Some(mut lab) = build(TEST, 2)? else { return Ok(()) };
    give_ipv6(&lab)?;
    let shared = front_end_ipv6(0x20);
    lab.edit(
        "gateway",
        "link: front0",
        &format!("link: front0\n  shared_addresses: ['{shared}']"),
    )?;
    for (tenant, number) in TENANTS.into_iter().zip(1_u8..) {
        let port = TUNNEL_PORT + u16::from(number);
        let vpn = hq(&tunnel("a", number, ""));
        let listen = format!("listen: [{{address: '{shared}', port: {port}}}]");
        give_vpn(&lab, tenant, &vpn.replace("listen: [{address: 1}]", &listen))?;
    }
    lab.start()?;
    let place = place(&lab, 1)?;
    let mut twins = Twins { peers: Vec::new(), premises: Vec::new(), place, lab };
    for (index, tenant) in TENANTS.into_iter().enumerate() {
        let number = index as u8 + 1;
        let key = gateway_key(&twins.lab, tenant)?;
        let premises = Premises::build(&format!("{tenant}-hq"), HQ)?;
        let gateway = SocketAddr::new(shared, TUNNEL_PORT + u16::from(number));
        let plan = PeerPlan { gateway, ..plan(index, &key, number) };
        twins.peers.push(Peer::start(twins.lab.config(), &twins.place, &premises.router, &plan)?);
        twins.premises.push(premises);
    }
    each_reaches_its_own(&twins)?;
    streams(&twins.lab, "red", &twins.premises[0], 10)
}
