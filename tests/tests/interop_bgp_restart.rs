//! Graceful restart as the gateway's own (RFC 4724 section 4.1, RFC 8538): sessions that end while it
//! forwards, with BIRD and FRR as helpers; and the process that ends, whose forwarding ends with it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nvgate::admin::bgp::{PeerReport, PeersReport};
use nvgate::demo::lab::Namespace;
use nvgate::demo::site::GATEWAY_FRONT_END;
use nvgate_tests::bgp_lab::{
    BIRD, Daemon, FRR, INTERNET, TAUGHT, Upstream, ask_internet, established,
    reaches_what_was_taught, speak_on_front_end,
};
use nvgate_tests::bgp_routers::{CHANNEL, WEB, bird_with, frr_with, gateway, said, shows};
use nvgate_tests::run_lab::{PATIENCE, PUBLIC, RunLab};
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::run_lab_traffic::Stream;
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{exec, give_vpn};
use nvgate_tests::wg_pings::{PATIENT, Pings};

/// The gateway's keys: peers keep its routes for so long.
const FULL: &str = ", graceful_restart: {mode: full, restart_secs: 60}";
/// Of a BIRD that keeps them. The timer of its own stale routes is the gateway's restart time.
const HELPER: &str = "  graceful restart aware;\n";
const PREFIX: &str = "172.30.0.0/16";
/// The way there without BGP.
const STATIC: &str = "routes: [{prefix: 172.30.0.0/16, via: 10.1.0.10}]\n";
/// What the gateway teaches routers of either tenant.
const OWN: &str = "10.2.0.0/24";
/// An FRR that takes part in graceful restart, does not ask for its end when its session is reset by
/// hand, and keeps routes over NOTIFICATIONs.
const FRR_HELPER: &str = " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n \
                          bgp graceful-restart restart-time 60\n \
                          bgp graceful-restart notification\n no bgp hard-administrative-reset";

/// A gateway with the peer `up1` on the front end, and `web` in a domain that has these `routes`.
fn in_both_places(test: &str, routes: &str) -> Result<Option<(RunLab, Upstream)>> {
    let Some(mut lab) = RunLab::build(test, 2)? else { return Ok(None) };
    let upstream = Upstream::build(&lab, 1)?;
    speak_on_front_end(&lab, &[upstream.peer(FULL)], "")?;
    let web = format!("{{name: web, address: 10.1.0.10, asn: 65010, hold_secs: 9{FULL}");
    let routes = format!("{routes}{}", gateway(&[&web], ""));
    give_vpn(&lab, "red", &routes)?;
    change(lab.vm("red-web"), "lo", &[Change::Add(TAUGHT.into(), 32)])?;
    lab.start()?;
    Ok(Some((lab, upstream)))
}

fn peer(lab: &RunLab, name: &str) -> Result<PeerReport> {
    let report: PeersReport = serde_json::from_str(&said(lab, "peers --json")?)?;
    let found = report.peers.into_iter().find(|peer| peer.name == name);
    found.with_context(|| format!("no peer {name}"))
}

/// Has the kernel of a router end its BGP connection: its daemon is told, the gateway gets a reset.
fn reset(router: &Namespace) -> Result<()> {
    exec(router, "ss -K ( dport = 179 or sport = 179 )").map(drop)
}

/// Keeps what a router sends to the gateway's BGP from it, or lets it go again.
fn silence(router: &Namespace, change: &str) -> Result<()> {
    for port in ["sport", "dport"] {
        exec(router, &format!("ip rule {change} priority 1 ipproto tcp {port} 179 blackhole"))?;
    }
    Ok(())
}

/// Waits until the session of `name` has ended so many times and is up again, and nothing is stale.
fn is_back(lab: &RunLab, name: &str, flaps: u64) -> Result<PeerReport> {
    lab.wait(&format!("{name} is back"), || {
        let peer = peer(lab, name)?;
        ensure!(peer.up && peer.flaps == flaps && !peer.ipv4.stale, "{peer:?}");
        Ok(peer)
    })
}

/// For which families the gateway's last OPEN said that forwarding was kept, as BIRD shows it.
fn preserved(state: &str) -> Result<&str> {
    let (_, theirs) = state.split_once("Neighbor capabilities").context("capabilities")?;
    theirs.lines().find(|line| line.contains("AF preserved:")).context("graceful restart")
}

/// A session that ends takes no route from BIRD, and the gateway tells it that forwarding was kept.
fn bird_keeps(
    lab: &RunLab,
    (bird, router): (&Daemon, &Namespace),
    prefix: &str,
    name: &str,
    flaps: u64,
) -> Result<()> {
    let words = format!("show route for {prefix}");
    let has = || -> Result<()> {
        let answer = bird.ask(router, &words)?;
        ensure!(answer.contains("via"), "{prefix} is gone: {answer}");
        Ok(())
    };
    has()?;
    reset(router)?;
    let deadline = Instant::now() + PATIENCE;
    // The first time that it is not there ends the test: this waits for the session alone.
    while peer(lab, name)?.flaps < flaps || established(bird, router).is_err() {
        has()?;
        ensure!(Instant::now() < deadline, "{name} is not back");
    }
    is_back(lab, name, flaps)?;
    has()?;
    let state = bird.ask(router, "show protocols all upstream")?;
    ensure!(preserved(&state)?.contains("ipv4"), "{state}");
    Ok(())
}

#[test]
fn a_gateway_whose_sessions_end_forwards_and_its_routes_are_kept_by_bird() -> Result<()> {
    const TEST: &str = "a_gateway_whose_sessions_end_forwards_and_its_routes_are_kept_by_bird";
    if !has_peers(TEST, &[&BIRD[..], &["ss"]].concat()) {
        return Ok(());
    }
    let Some((lab, upstream)) = in_both_places(TEST, STATIC)? else { return Ok(()) };
    let router = lab.vm("red-web");
    // Routes to the routers that nobody teaches: traffic needs what they are taught, alone.
    exec(&lab.site.gateway, &format!("ip route add {INTERNET} via {}", upstream.address))?;
    exec(router, "ip route del default")?;
    let kernel = "protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }\n";
    let above = upstream.bird(&lab, HELPER)?;
    let more = format!("graceful restart aware;\n  {CHANNEL}");
    let below = kernel.to_owned() + &bird_with(WEB[0], WEB[1], [65010, 64512], "", &more);
    let below = Daemon::bird(lab.config(), router, &below)?;
    let (vm, client) = (lab.vm("red-app"), lab.vm("red-db"));
    lab.wait("the Internet is reached", || ask_internet(vm))?;
    reaches_what_was_taught(&lab, client)?;
    std::thread::sleep(Duration::from_secs(1));
    let pings = [Pings::start_patient(vm, INTERNET)?, Pings::start_patient(client, TAUGHT)?];
    let echo = SocketAddr::new(INTERNET.into(), 9000);
    let stream = Stream::start(vm, echo, &upstream.namespace, echo)?;
    let lease = format!("{}/32", PUBLIC[0]);
    for flaps in 1..=2 {
        bird_keeps(&lab, (&above, &upstream.namespace), &lease, "up1", flaps)?;
        bird_keeps(&lab, (&below, router), OWN, "web", flaps)?;
    }
    let carried = stream.end_after(20)?;
    for pings in pings {
        let (silence, answered) = pings.end()?;
        println!("silent for {silence:?} at most, {answered} answers");
        ensure!(silence < PATIENT, "a packet was lost: silent for {silence:?}");
    }
    ensure!(carried.longest < PATIENT, "{carried:?}");
    Ok(())
}

#[test]
fn notifications_and_a_hold_timer_keep_routes_with_frr_on_both_sides() -> Result<()> {
    const TEST: &str = "notifications_and_a_hold_timer_keep_routes_with_frr_on_both_sides";
    if !has_peers(TEST, &FRR) {
        return Ok(());
    }
    let Some((lab, upstream)) = in_both_places(TEST, "")? else { return Ok(()) };
    let router = lab.vm("red-web");
    let above = upstream.frr(&lab, &format!("{FRR_HELPER}\n"))?;
    // Its kernel learns nothing from it.
    exec(&upstream.namespace, &format!("ip route add 203.0.113.0/24 via {GATEWAY_FRONT_END}"))?;
    let below = frr_with(WEB[0], WEB[1], [65010, 64512], &[PREFIX], [FRR_HELPER, ""]);
    let below = Daemon::frr(lab.config(), router, &below)?;
    let (vm, client) = (lab.vm("red-app"), lab.vm("red-db"));
    lab.wait("the Internet is reached", || ask_internet(vm))?;
    reaches_what_was_taught(&lab, client)?;
    std::thread::sleep(Duration::from_secs(1));
    let pings = [Pings::start_patient(vm, INTERNET)?, Pings::start_patient(client, TAUGHT)?];
    let lease = format!("{}/32", PUBLIC[0]);
    let places = [
        (&above, &upstream.namespace, &*lease, "up1", "198.51.100.1"),
        (&below, router, OWN, "web", WEB[1]),
    ];
    for (frr, namespace, prefix, name, address) in places {
        let has = || -> Result<String> {
            let answer = frr.ask(namespace, &format!("show bgp ipv4 unicast {prefix}"))?;
            ensure!(answer.contains(address), "{prefix} is gone: {answer}");
            Ok(answer)
        };
        lab.wait("FRR learns", has)?;
        // The peer's NOTIFICATION, without a hard reset. This FRR forgets what it was told when it is
        // the one that clears; the gateway keeps what it was taught.
        frr.ask(namespace, &format!("clear bgp ipv4 {address}"))?;
        let peer_now = is_back(&lab, name, 1)?;
        let down = peer_now.last_down.context("a reason")?;
        ensure!(down.contains("the peer ended it: administrative reset"), "{down}");
        lab.wait("FRR learns again", has)?;
        let words = "show bgp neighbors graceful-restart";
        shows(&lab, (frr, namespace), words, &["N bit: True", "R bit: False", "F bit: True"], &[])?;

        // The gateway's own, since it hears nothing.
        silence(namespace, "add")?;
        std::thread::sleep(Duration::from_secs(4));
        let mut gone = None;
        let ended = lab.wait("the hold timer ends the session", || {
            gone = gone.take().or(has().err());
            let peer = peer(&lab, name)?;
            ensure!(peer.flaps == 2, "{peer:?}");
            peer.last_down.context("a reason")
        });
        silence(namespace, "del")?;
        let ended = ended?;
        ensure!(ended.contains("the gateway ended it: hold timer expired"), "{ended}");
        lab.wait("the session is back", || {
            gone = gone.take().or(has().err());
            let peer = peer(&lab, name)?;
            ensure!(peer.up && peer.flaps == 2 && !peer.ipv4.stale, "{peer:?}");
            Ok(())
        })?;
        ensure!(gone.is_none(), "{gone:?}");
        has()?;
    }
    for pings in pings {
        let (silence, answered) = pings.end()?;
        println!("silent for {silence:?} at most, {answered} answers");
        ensure!(silence < PATIENT, "a packet was lost: silent for {silence:?}");
    }
    Ok(())
}

/// What the routers' kernels send to the gateway.
fn leases(router: &Upstream) -> Result<Vec<Ipv4Addr>> {
    let routes = exec(&router.namespace, "ip -4 route show proto bird")?;
    let has =
        |address: &Ipv4Addr| routes.lines().any(|line| line.starts_with(&format!("{address} ")));
    Ok(PUBLIC.into_iter().filter(has).collect())
}

#[test]
fn a_process_that_starts_anew_says_so_and_peers_keep_nothing_of_before() -> Result<()> {
    const TEST: &str = "a_process_that_starts_anew_says_so_and_peers_keep_nothing_of_before";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let upstream = Upstream::build(&lab, 1)?;
    let full = ", graceful_restart: {mode: full, restart_secs: 6}";
    speak_on_front_end(&lab, &[upstream.peer(full)], "")?;
    lab.start()?;
    let bird = upstream.bird(&lab, HELPER)?;
    let router = (&bird, &upstream.namespace);
    let words = "show protocols all upstream";
    let all = |wanted: &[Ipv4Addr]| {
        let held = leases(&upstream)?;
        ensure!(held == wanted, "{held:?}");
        Ok(())
    };
    lab.wait("both leases are learned", || all(&PUBLIC))?;
    lab.wait("the Internet is reached", || ask_internet(lab.vm("red-web")))?;

    // A crash says nothing: the peer waits, but no longer than it was told.
    lab.end(Signal::SIGKILL)?;
    std::thread::sleep(Duration::from_secs(2));
    all(&PUBLIC)?;
    lab.wait("what nobody comes back for goes", || all(&[]))?;

    // What starts anew keeps nothing of before: not even for the time until it has told everything.
    lab.start()?;
    lab.wait("both leases are learned again", || all(&PUBLIC))?;
    lab.end(Signal::SIGKILL)?;
    fs::remove_file(lab.file("blue"))?;
    std::thread::sleep(Duration::from_secs(1));
    all(&PUBLIC)?;
    lab.start()?;
    lab.wait("only what is served now is learned", || {
        established(&bird, &upstream.namespace)?;
        all(&PUBLIC[..1])
    })?;
    let state = shows(&lab, router, words, &["Graceful restart", "AF supported: ipv4"], &[])?;
    ensure!(!preserved(&state)?.contains("ipv4"), "{state}");
    ensure!(!state.contains("Restart recovery"), "{state}");
    lab.wait("the Internet is reached", || ask_internet(lab.vm("red-web")))?;

    // An orderly end is a hard one: nobody waits.
    lab.end(Signal::SIGTERM)?;
    std::thread::sleep(Duration::from_millis(500));
    all(&[])
}
