//! What BGP has beside plain sessions, with routers of the front end that have it too: bounds of
//! prefixes, neighbours of a range, an upstream router of the gateway's own AS, and one that restarts
//! while its kernel forwards.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nvgate::admin::bgp::{PeerReport, PeersReport};
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::{Service, ask_tcp};
use nvgate::demo::site::{GATEWAY_FRONT_END, SERVICE_PORT};
use nvgate_tests::bgp_lab::{
    BIRD, Daemon, INTERNET, INTERNET_PREFIX, Upstream, ask_internet, established,
    speak_on_front_end,
};
use nvgate_tests::bgp_routers::{said, shows};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::run_lab_traffic::Stream;
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::exec;
use nvgate_tests::wg_pings::{PATIENT, Pings};

/// Flows that are asked at once; all of them by one of two routers is less likely than 2^-23.
const FLOWS: usize = 24;
/// Taught beside [`INTERNET_PREFIX`] by some of these routers.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 8, 1);
const ELSEWHERE_PREFIX: &str = "198.18.8.0/24";

fn peers(lab: &RunLab) -> Result<Vec<PeerReport>> {
    let report: PeersReport = serde_json::from_str(&said(lab, "peers --json")?)?;
    Ok(report.peers)
}

fn peer(lab: &RunLab, name: &str) -> Result<PeerReport> {
    peers(lab)?.into_iter().find(|peer| peer.name == name).with_context(|| format!("no {name}"))
}

/// Who answers to [`FLOWS`] flows.
fn labels(vm: &Namespace) -> Result<BTreeSet<String>> {
    (0..FLOWS).map(|_| Ok(ask_internet(vm)?.label)).collect()
}

#[test]
fn an_upstream_that_teaches_too_much_is_warned_of_ended_and_tried_again() -> Result<()> {
    const TEST: &str = "an_upstream_that_teaches_too_much_is_warned_of_ended_and_tried_again";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let router = Upstream::build(&lab, 1)?;
    let bounded = ", max_prefixes: {prefixes: 4, warning_percent: 75, restart_secs: 3}";
    speak_on_front_end(&lab, &[router.peer(bounded)], "")?;
    lab.start()?;
    let fill = |name: &str, numbers: std::ops::Range<u8>| {
        let routes: String =
            numbers.map(|number| format!(" route 198.18.{number}.0/24 unreachable;")).collect();
        format!("protocol static {name} {{ disabled; ipv4;{routes} }}\n")
    };
    let config = router.bird_config("") + &fill("some", 20..22) + &fill("more", 22..25);
    let bird = Daemon::bird(lab.config(), &router.namespace, &config)?;
    let vm = lab.vm("red-web");
    lab.wait("the Internet is reached", || ask_internet(vm))?;
    let warned = || -> Result<usize> {
        let log = fs::read_to_string(lab.config().join("gateway-1.log"))?;
        Ok(log.lines().filter(|line| line.contains("near its bound of prefixes")).count())
    };
    ensure!(warned()? == 0, "warned of one of four");
    bird.ask(&router.namespace, "enable some")?;
    lab.wait("a warning is logged", || {
        let peer = peer(&lab, "up1")?;
        ensure!(warned()? == 1 && peer.up && peer.ipv4.accepted == 3, "{peer:?}");
        Ok(())
    })?;
    bird.ask(&router.namespace, "enable more")?;
    let heard = "Received: Maximum number of prefixes reached";
    shows(&lab, (&bird, &router.namespace), "show protocols all upstream", &[heard], &[])?;
    bird.ask(&router.namespace, "disable more")?;
    let ended = Instant::now();
    lab.wait("all its routes are gone", || {
        let peer = peer(&lab, "up1")?;
        let down = peer.last_down.context("a reason")?;
        ensure!(down.contains("the gateway ended it: maximum number of prefixes"), "{down}");
        ensure!(ask_internet(vm).is_err(), "still reached");
        Ok(())
    })?;
    lab.wait("it is back, with what is within the bound", || {
        let peer = peer(&lab, "up1")?;
        ensure!(peer.up && peer.flaps == 1 && peer.ipv4.accepted == 3, "{peer:?}");
        ask_internet(vm)
    })?;
    let pause = ended.elapsed();
    println!("back after {pause:?}");
    ensure!(pause > Duration::from_secs(2), "back after {pause:?}");
    Ok(())
}

#[test]
fn a_range_of_the_front_end_admits_so_many_routers_of_its_as_numbers() -> Result<()> {
    const TEST: &str = "a_range_of_the_front_end_admits_so_many_routers_of_its_as_numbers";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let routers: Vec<Upstream> =
        (1..=4).map(|number| Upstream::build(&lab, number)).collect::<Result<_>>()?;
    // All of them are of the prefix, the last one's AS is none of the range's.
    let range = "      - {name: edge, dynamic: 198.51.100.16/28, asn: 65021-65023, limit: 2, \
                 hold_secs: 9, import: all, export: ours}\n";
    speak_on_front_end(&lab, &[range.to_owned()], "")?;
    lab.start()?;
    let vm = lab.vm("red-web");
    let [first, second, third, stranger] = &routers[..] else { unreachable!("four were built") };
    let strange = stranger.bird(&lab, "")?;
    let words = "show protocols all upstream";
    shows(&lab, (&strange, &stranger.namespace), words, &["Received: Bad peer AS"], &[])?;
    drop(strange);
    ensure!(ask_internet(vm).is_err(), "there is a way without a router of the range");

    let mut one = Some(first.bird(&lab, "")?);
    let two = second.bird(&lab, "")?;
    lab.wait("two of the range share flows", || {
        let both = BTreeSet::from(["up1".to_owned(), "up2".to_owned()]);
        let labels = labels(vm)?;
        ensure!(labels == both, "{labels:?}");
        Ok(())
    })?;
    let three = third.bird(&lab, "")?;
    let mut admitted = lab.wait("the third one is refused", || {
        let state = three.ask(&third.namespace, words)?;
        ensure!(state.contains("Socket: Connection reset by peer"), "{state}");
        let report = peers(&lab)?;
        ensure!(report.len() == 2 && report.iter().all(|peer| peer.up), "{report:?}");
        Ok(report)
    })?;
    // They are told in the order in which they connected, which is theirs.
    admitted.sort_by(|one, other| one.name.cmp(&other.name));
    for (peer, router) in admitted.iter().zip([first, second]) {
        ensure!(peer.range.as_deref() == Some("edge"), "{peer:?}");
        ensure!(peer.name == format!("edge@{}", router.address), "{peer:?}");
        ensure!(peer.asn == router.asn.to_string(), "{peer:?}");
    }
    drop(one.take());
    lab.wait("it takes the place of one that is gone", || {
        let others = BTreeSet::from(["up2".to_owned(), "up3".to_owned()]);
        let labels = labels(vm)?;
        ensure!(labels == others, "{labels:?}");
        established(&two, &second.namespace)?;
        established(&three, &third.namespace)
    })
}

#[test]
fn an_upstream_of_the_gateways_own_as_teaches_and_is_told_what_others_teach() -> Result<()> {
    const TEST: &str = "an_upstream_of_the_gateways_own_as_teaches_and_is_told_what_others_teach";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let outside = Upstream::build(&lab, 1)?;
    let mut inside = Upstream::build(&lab, 2)?;
    inside.asn = 64_512;
    change(&inside.namespace, "lo", &[Change::Add(ELSEWHERE.into(), 32)])?;
    let socket = SocketAddr::new(ELSEWHERE.into(), SERVICE_PORT);
    let _service = Service::start(&inside.namespace, "elsewhere", &[socket])?;
    let of_inside = inside.peer(", next_hop: self").replace("export: ours", "export: all");
    speak_on_front_end(&lab, &[outside.peer(""), of_inside], "")?;
    lab.start()?;
    let _outside = outside.bird(&lab, "")?;
    // It prefers its own way to a prefix of both, and says so to its AS alone.
    let config = inside.bird_config("  direct;\n  default bgp_local_pref 50;\n").replace(
        "unreachable; }",
        &format!("unreachable; route {ELSEWHERE_PREFIX} unreachable; }}"),
    );
    let bird = Daemon::bird(lab.config(), &inside.namespace, &config)?;
    let vm = lab.vm("red-web");
    let elsewhere = || {
        let answer = vm.run(|| ask_tcp(socket, "hello", Duration::from_millis(700)))??;
        ensure!(answer.label == "elsewhere", "{answer:?}");
        Ok(())
    };
    lab.wait("what is taught within the AS is reached", elsewhere)?;
    lab.wait("the other's way is preferred by everybody", || {
        let labels = labels(vm)?;
        ensure!(labels == BTreeSet::from(["up1".to_owned()]), "{labels:?}");
        Ok(())
    })?;
    let words = format!("show route for {INTERNET_PREFIX} all");
    let routes = shows(
        &lab,
        (&bird, &inside.namespace),
        &words,
        &["BGP.as_path: 65021", &format!("BGP.next_hop: {GATEWAY_FRONT_END}")],
        &[],
    )?;
    println!("{routes}");
    // Without `next_hop: self` the router that taught it is the next hop (RFC 4271 section 5.1.3).
    let before = lab.generation()?;
    lab.edit("gateway", ", next_hop: self", "")?;
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)?;
    let next_hop = format!("BGP.next_hop: {}", outside.address);
    shows(&lab, (&bird, &inside.namespace), &words, &[&next_hop], &[])?;
    let peer = peer(&lab, "up2")?;
    ensure!(peer.up && peer.flaps == 0, "{peer:?}");
    // Leases are announced within the AS with an empty path.
    shows(
        &lab,
        (&bird, &inside.namespace),
        "show route for 203.0.113.10/32 all",
        &["BGP.as_path: \n"],
        &[],
    )?;
    elsewhere()
}

#[test]
fn traffic_goes_on_while_an_upstreams_daemon_is_killed_and_comes_back() -> Result<()> {
    const TEST: &str = "traffic_goes_on_while_an_upstreams_daemon_is_killed_and_comes_back";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let router = Upstream::build(&lab, 1)?;
    change(&router.namespace, "lo", &[Change::Add(ELSEWHERE.into(), 32)])?;
    speak_on_front_end(&lab, &[router.peer("")], "")?;
    lab.start()?;
    let config = router
        .bird_config("  graceful restart on;\n  graceful restart time 60;\n")
        // Its kernel's routes stay while it is away, and while it restarts.
        .replace("protocol kernel { ", "protocol kernel { persist; graceful restart; ");
    let both = config.replace(
        "unreachable; }",
        &format!("unreachable; route {ELSEWHERE_PREFIX} unreachable; }}"),
    );
    let vm = lab.vm("red-web");
    let bird = Daemon::bird(lab.config(), &router.namespace, &both)?;
    lab.wait("both prefixes are learned", || {
        let peer = peer(&lab, "up1")?;
        ensure!(peer.ipv4.accepted == 2, "{peer:?}");
        ask_internet(vm)
    })?;
    // It has told everything.
    std::thread::sleep(Duration::from_secs(1));
    let pings = Pings::start_patient(vm, INTERNET)?;
    let echo = SocketAddr::new(INTERNET.into(), 9000);
    let stream = Stream::start(vm, echo, &router.namespace, echo)?;
    drop(bird);
    lab.wait("its routes are stale and used", || {
        let peer = peer(&lab, "up1")?;
        ensure!(!peer.up && peer.ipv4.stale && peer.ipv4.accepted == 2, "{peer:?}");
        ask_internet(vm)
    })?;
    ensure!(exec(&router.namespace, "ip -4 route show proto bird")?.contains("203.0.113.10 via"));
    std::thread::sleep(Duration::from_secs(2));
    let _bird = Daemon::bird_again(lab.config(), &router.namespace, &config)?;
    lab.wait("what it teaches no more is gone", || {
        let peer = peer(&lab, "up1")?;
        ensure!(peer.up && !peer.ipv4.stale && peer.ipv4.accepted == 1, "{peer:?}");
        Ok(())
    })?;
    let carried = stream.end_after(20)?;
    let (silence, answered) = pings.end()?;
    println!("silent for {silence:?} at most, {answered} answers, {carried:?}");
    ensure!(silence < PATIENT, "a packet was lost: silent for {silence:?}");
    ensure!(carried.longest < PATIENT, "{carried:?}");
    Ok(())
}
