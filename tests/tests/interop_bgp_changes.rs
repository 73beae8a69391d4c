//! BGP sessions while things change: a router that goes silent, a policy, neighbours that come and
//! go, the gateway's end.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nvgate::demo::lab::probe::ping;
use nvgate_tests::bgp_lab::{
    BIRD, Daemon, GATEWAY, TAUGHT, THROUGH, bird, established, reaches_what_was_taught, received,
};
use nvgate_tests::run_lab::{RunLab, binary};
use nvgate_tests::run_lab_host::{Change, change, run};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{Peer, PeerPlan, Premises, build, gateway_key, give_vpn, place};
use nvgate_tests::wg_pings::Pings;
use nvgate_tests::wg_twins::{HQ, WEB, hq, plan, tunnel};

#[test]
fn bfd_moves_traffic_to_the_other_router_within_half_a_second() -> Result<()> {
    const TEST: &str = "bfd_moves_traffic_to_the_other_router_within_half_a_second";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = build(TEST, 2)? else { return Ok(()) };
    let vpn = hq(&tunnel("a", 1, "")).replace("192.168.0.0/16, via", "192.168.10.0/24, via");
    let peer = |name: &str, address: &str, policy: &str| {
        format!(
            "    - {{name: {name}, address: {address}, asn: 65010, hold_secs: 90, \
             connect_retry_secs: 2{policy}, bfd: {{interval_millis: 100, multiplier: 3}}}}\n"
        )
    };
    let peers = peer("first", "10.1.0.10", ", import: better") + &peer("second", "10.2.0.10", "");
    let policies = "  policies:\n    - name: better\n      rules:\n        \
                    - {set: {local_preference: 200}, then: accept}\n";
    let bgp = format!("bgp:\n  asn: 64512\n  peers:\n{peers}{policies}");
    give_vpn(&lab, "red", &format!("{vpn}{bgp}"))?;
    lab.start()?;
    let place = place(&lab, 1)?;
    let key = gateway_key(&lab, "red")?;
    let premises = Premises::build("red-hq", HQ)?;
    let plan = PeerPlan { networks: &THROUGH, ..plan(0, &key, 1) };
    let _peer = Peer::start(lab.config(), &place, &premises.router, &plan)?;
    let mut routers = Vec::new();
    for (name, third) in [("red-web", 1), ("red-db", 2)] {
        let vm = lab.vm(name);
        change(vm, "lo", &[Change::Up, Change::Add(TAUGHT.into(), 32)])?;
        let [local, gateway] = [10, 1].map(|last| Ipv4Addr::new(10, third, 0, last));
        let config = bird(local, gateway, "172.30.0.0/16", "  direct;\n  bfd on;\n");
        routers.push(Daemon::bird(lab.config(), vm, &config)?);
    }
    let [first, second] = ["red-web", "red-db"].map(|name| lab.vm(name));
    lab.wait("both sessions are up, with BFD", || {
        for (router, vm) in routers.iter().zip([first, second]) {
            established(router, vm)?;
            let answer = router.ask(vm, "show bfd sessions")?;
            ensure!(answer.contains(" Up "), "{answer}");
        }
        Ok(())
    })?;
    reaches_what_was_taught(&lab, &premises.client)?;
    let before = received(first)?;
    let pings = Pings::start(&premises.client, TAUGHT)?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(received(first)? > before + 20, "the better router carries the traffic");
    change(first, "eth0", &[Change::Down])?;
    std::thread::sleep(Duration::from_secs(2));
    let (silence, answered) = pings.end()?;
    println!("failover: silent for {silence:?}, {answered} answers");
    ensure!(silence < Duration::from_millis(500), "silent for {silence:?}");
    Ok(())
}

/// What `nvgate check --against-running` says of a copy of red's configuration with this change.
fn against_running(lab: &RunLab, from: &str, to: &str) -> Result<String> {
    let copy = tempfile::tempdir()?;
    fs::create_dir(copy.path().join("tenants.d"))?;
    for file in ["gateway.yaml", "tenants.d/red.yaml", "tenants.d/blue.yaml"] {
        let text = fs::read_to_string(lab.config().join(file))?;
        let text = if file.ends_with("red.yaml") { text.replace(from, to) } else { text };
        fs::write(copy.path().join(file), text)?;
    }
    let mut command = Command::new(binary()?);
    command.arg("check").arg(copy.path()).arg("--against-running");
    let ended = run(&lab.site.gateway, command)?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(ended.output)
}

#[test]
fn a_changed_policy_takes_routes_away_and_leaves_the_session_alone() -> Result<()> {
    const TEST: &str = "a_changed_policy_takes_routes_away_and_leaves_the_session_alone";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let policies = "  policies:\n    - name: known\n      rules:\n        \
                    - {match: {prefix: 172.30.0.0/16}, then: accept}\n      default: reject\n";
    let filtered = GATEWAY.replace("hold_secs: 9", "hold_secs: 90, import: known") + policies;
    give_vpn(&lab, "red", &filtered)?;
    lab.start()?;
    let vm = lab.vm("red-web");
    change(vm, "lo", &[Change::Up, Change::Add(TAUGHT.into(), 32)])?;
    let gateway = Ipv4Addr::new(10, 1, 0, 1);
    let router = Daemon::bird(lab.config(), vm, &bird(WEB, gateway, "172.30.0.0/16", ""))?;
    let database = lab.vm("red-db");
    reaches_what_was_taught(&lab, database)?;
    let since = router.ask(vm, "show protocols upstream")?;
    for (from, to, reached) in [
        ("{prefix: 172.30.0.0/16}", "{prefix: 172.31.0.0/16}", false),
        ("{prefix: 172.31.0.0/16}", "{prefix: 172.30.0.0/16}", true),
    ] {
        let foretold = against_running(&lab, from, to)?;
        let cost = "tenants changed: red (BGP: peer router (what it sends is judged anew))";
        ensure!(foretold.contains(cost) && !foretold.contains("sessions that end"), "{foretold}");
        let before = lab.generation()?;
        lab.edit("red", from, to)?;
        lab.signal(Signal::SIGHUP)?;
        lab.wait_loaded(before)?;
        lab.wait(&format!("reached: {reached}"), || {
            let answer = database.run(|| ping(TAUGHT.into(), Duration::from_millis(300)))?;
            ensure!(answer.is_ok() == reached, "{answer:?}");
            Ok(())
        })?;
    }
    ensure!(router.ask(vm, "show protocols upstream")? == since, "the session began anew");
    let foretold = against_running(&lab, "asn: 65010", "asn: 65011")?;
    ensure!(foretold.contains("BGP sessions that end: 1\n"), "{foretold}");

    // An orderly end is told.
    ensure!(lab.end(Signal::SIGTERM)?.code() == Some(0));
    let vm = lab.vm("red-web");
    lab.wait("BIRD hears of the end", || {
        let answer = router.ask(vm, "show protocols all upstream")?;
        ensure!(answer.contains("Received: Administrative shutdown"), "{answer}");
        let routes = router.ask(vm, "show route")?;
        ensure!(!routes.contains("10.2.0.0/24"), "{routes}");
        Ok(())
    })
}

#[test]
fn a_dynamic_neighbour_teaches_ipv6_too_until_bgp_is_taken_away() -> Result<()> {
    const TEST: &str = "a_dynamic_neighbour_teaches_ipv6_too_until_bgp_is_taken_away";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let taught: IpAddr = "fd00:30::1".parse()?;
    let range = "bgp:\n  asn: 64512\n  peers: [{name: routers, dynamic: 'fd00:1::/64', asn: 65000-65020, \
                 limit: 4, families: [ipv4, ipv6], ipv6_next_hop: true}]\n";
    give_vpn(&lab, "red", range)?;
    lab.start()?;
    let vm = lab.site.vm("red-web");
    let own = vm.ipv6.context("IPv6")?;
    let vm = &vm.namespace;
    change(vm, "lo", &[Change::Up, Change::Add(taught, 128), Change::Add(TAUGHT.into(), 32)])?;
    let config = format!(
        "router id 10.1.0.10;
protocol device {{}}
protocol static {{ ipv6; route fd00:30::/64 unreachable; }}
protocol static {{ ipv4; route 172.30.0.0/16 unreachable; }}
protocol bgp upstream {{
  local {own} as 65010;
  neighbor fd00:1::1 as 64512;
  connect delay time 1;
  connect retry time 2;
  ipv4 {{ import all; export where source = RTS_STATIC; extended next hop on; }};
  ipv6 {{ import all; export where source = RTS_STATIC; }};
}}
"
    );
    let router = Daemon::bird(lab.config(), vm, &config)?;
    let database = lab.vm("red-db");
    for address in [taught, TAUGHT.into()] {
        lab.wait(&format!("{address} is reached"), || {
            database.run(|| ping(address, Duration::from_millis(300)))??;
            Ok(())
        })?;
    }
    let routes = router.ask(vm, "show route")?;
    for prefix in ["fd00:2::/64", "10.2.0.0/24"] {
        ensure!(routes.contains(prefix), "no {prefix} in {routes}");
    }
    let before = lab.generation()?;
    lab.edit("red", range, "")?;
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)?;
    lab.wait("what was taught is gone", || {
        let answer = database.run(|| ping(taught, Duration::from_millis(300)))?;
        ensure!(answer.is_err(), "still reached");
        let state = router.ask(vm, "show protocols all upstream")?;
        ensure!(state.contains("Received: Peer de-configured"), "{state}");
        Ok(())
    })
}
