//! BGP on the front end: BIRD and FRR as upstream routers, which learn the tenants' public addresses
//! and teach where the Internet is, with the real gateway between them and the tenants' VMs.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nvgate::admin::bgp::PeersReport;
use nvgate::admin::health::HealthState;
use nvgate::demo::lab::probe::ask_tcp;
use nvgate::demo::lab::{Namespace, kernel_has_ipv6};
use nvgate::demo::site::INBOUND_PORT;
use nvgate_tests::bgp_lab::{
    BIRD, Daemon, FRR, INTERNET, Upstream, ask_internet, established, received, speak_on_front_end,
};
use nvgate_tests::run_lab::{PUBLIC, RunLab, binary};
use nvgate_tests::run_lab_host::{Change, Ended, change, run};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::exec;
use nvgate_tests::wg_pings::Pings;

/// Flows that are asked at once; all of them by one of two routers is less likely than 2^-23.
const FLOWS: usize = 24;

/// A lab whose gateway speaks with so many routers of the front end, each with `more` keys.
fn upstreams(test: &str, workers: usize, more: &[&str]) -> Result<Option<(RunLab, Vec<Upstream>)>> {
    let Some(mut lab) = RunLab::build(test, workers)? else { return Ok(None) };
    let routers: Vec<Upstream> =
        (1..).zip(more).map(|(number, _)| Upstream::build(&lab, number)).collect::<Result<_>>()?;
    let peers: Vec<_> = routers.iter().zip(more).map(|(router, more)| router.peer(more)).collect();
    speak_on_front_end(&lab, &peers, "")?;
    lab.start()?;
    Ok(Some((lab, routers)))
}

/// Whether a router's kernel sends a public address to the gateway.
fn learned(router: &Upstream, public: Ipv4Addr) -> Result<bool> {
    let routes = exec(&router.namespace, "ip -4 route show proto bird")?;
    Ok(routes.lines().any(|route| route.starts_with(&format!("{public} via 198.51.100.1 "))))
}

fn ensure_learned(router: &Upstream, public: &[Ipv4Addr]) -> Result<()> {
    for address in PUBLIC {
        let wanted = public.contains(&address);
        ensure!(learned(router, address)? == wanted, "{address} learned: {}", !wanted);
    }
    Ok(())
}

/// From behind a router one reaches a tenant's service by what the router learned.
fn reaches_inbound(router: &Namespace, public: Ipv4Addr) -> Result<String> {
    let target = SocketAddr::new(public.into(), INBOUND_PORT);
    Ok(router.run(|| ask_tcp(target, "hello", Duration::from_millis(700)))??.label)
}

/// What `nvgate` does with these words, in the gateway's namespace.
fn nvgate(lab: &RunLab, words: &str) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.args(words.split(' ')).arg("--config").arg(lab.config());
    run(&lab.site.gateway, command)
}

fn said(lab: &RunLab, words: &str) -> Result<String> {
    let ended = nvgate(lab, words)?;
    ensure!(ended.code == Some(0), "nvgate {words}: {ended:?}");
    Ok(ended.output)
}

fn peers(lab: &RunLab) -> Result<PeersReport> {
    Ok(serde_json::from_str(&said(lab, "bgp peers --json")?)?)
}

/// The health of a component, and its reason.
fn health(lab: &RunLab, name: &str) -> Result<(HealthState, String)> {
    let parts = lab.status()?.components;
    let part = parts.into_iter().find(|part| part.name == name);
    let part = part.with_context(|| format!("no component `{name}`"))?;
    Ok((part.status, part.reason.unwrap_or_default()))
}

#[test]
fn leases_are_announced_while_they_are_served_and_traffic_takes_what_was_learned() -> Result<()> {
    const TEST: &str =
        "leases_are_announced_while_they_are_served_and_traffic_takes_what_was_learned";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    for workers in [1, 2] {
        let Some((mut lab, routers)) = upstreams(TEST, workers, &[""])? else { return Ok(()) };
        let [router] = &routers[..] else { unreachable!("one was built") };
        let (red, blue) = (lab.vm("red-web"), lab.vm("blue-web"));
        ensure!(ask_internet(red).is_err(), "there is a way without BGP");
        let (state, reason) = health(&lab, "front_end bgp up1")?;
        ensure!(state == HealthState::Degraded, "{state:?}");
        ensure!(reason.starts_with("no session with 198.51.100.21"), "{reason}");

        let bird = router.bird(&lab, "")?;
        lab.wait("both leases are learned", || ensure_learned(router, &PUBLIC))?;
        for (vm, public, label) in [(red, PUBLIC[0], "red-web"), (blue, PUBLIC[1], "blue-web")] {
            let answer = lab.wait("the Internet is reached", || ask_internet(vm))?;
            ensure!(answer.label == "up1" && answer.seen_as.ip() == public, "{answer:?}");
            let reached = reaches_inbound(&router.namespace, public)?;
            ensure!(reached == label, "{public} leads to {reached}");
        }
        lab.wait("the session is well", || {
            let (state, reason) = health(&lab, "front_end bgp up1")?;
            ensure!(state == HealthState::Ok, "{reason}");
            Ok(())
        })?;
        let report = peers(&lab)?;
        let [peer] = &report.peers[..] else { anyhow::bail!("{report:?}") };
        ensure!(peer.tenant.is_none() && peer.up && peer.ipv4.accepted == 1, "{peer:?}");
        println!("{}", said(&lab, "bgp peers")?);
        let told = said(&lab, &format!("bgp explain --front-end {}/32", PUBLIC[0]))?;
        println!("{told}");
        ensure!(told.contains("up1 is told it"), "{told}");
        println!("{}", said(&lab, "bgp routes --front-end")?);

        bird.ask(&router.namespace, "disable taught")?;
        lab.wait("what was withdrawn is gone", || {
            ensure!(ask_internet(red).is_err(), "still reached");
            Ok(())
        })?;
        bird.ask(&router.namespace, "enable taught")?;
        lab.wait("what came back is used", || ask_internet(red))?;

        fs::remove_file(lab.file("blue"))?;
        lab.wait("a tenant that is gone is withdrawn", || ensure_learned(router, &PUBLIC[..1]))?;
        established(&bird, &router.namespace)?;
        ask_internet(red)?;
        lab.end(Signal::SIGTERM)?;
        lab.wait("an orderly end withdraws all", || ensure_learned(router, &[]))?;
    }
    Ok(())
}

#[test]
fn two_upstreams_share_flows_and_one_that_dies_leaves_them_to_the_other() -> Result<()> {
    const TEST: &str = "two_upstreams_share_flows_and_one_that_dies_leaves_them_to_the_other";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some((lab, routers)) = upstreams(TEST, 2, &["", ""])? else { return Ok(()) };
    let first = routers[0].bird(&lab, "")?;
    let mut second = Some(routers[1].bird(&lab, "")?);
    let vm = lab.vm("red-web");
    let labels = || -> Result<BTreeSet<String>> {
        (0..FLOWS).map(|_| Ok(ask_internet(vm)?.label)).collect()
    };
    let both = BTreeSet::from(["up1".to_owned(), "up2".to_owned()]);
    for router in &routers {
        lab.wait("the leases are learned", || ensure_learned(router, &PUBLIC))?;
    }
    let shared = |what: &str, wanted: &BTreeSet<String>| {
        lab.wait(what, || {
            let labels = labels()?;
            ensure!(labels == *wanted, "{labels:?}");
            Ok(())
        })
    };
    shared("flows are shared", &both)?;
    drop(second.take());
    shared("the other one takes them", &BTreeSet::from(["up1".to_owned()]))?;
    second = Some(routers[1].bird(&lab, "")?);
    shared("they are shared again", &both)?;
    // Now without a word: its sessions end by the hold timer.
    change(&routers[1].namespace, "eth0", &[Change::Down])?;
    std::thread::sleep(Duration::from_secs(9));
    shared("the hold timer leaves them to the other one", &BTreeSet::from(["up1".to_owned()]))?;
    drop((first, second));
    lab.wait("without a session there is no way", || {
        ensure!(ask_internet(vm).is_err(), "still reached");
        Ok(())
    })
}

#[test]
fn only_the_right_password_and_the_right_distance_make_a_session() -> Result<()> {
    const TEST: &str = "only_the_right_password_and_the_right_distance_make_a_session";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let signed = ", password: between us";
    let near = ", ttl_security: 1";
    // Who connects: the router to the listener in one half, the gateway in the other.
    let ours = ", passive: true";
    let more = [signed, signed, near, near].map(str::to_owned);
    let more: Vec<String> =
        more.iter().cloned().chain(more.iter().map(|one| format!("{one}{ours}"))).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let Some((lab, routers)) = upstreams(TEST, 1, &more)? else { return Ok(()) };
    let sessions = [
        "  password \"between us\";\n",
        "  password \"among us\";\n",
        "  ttl security on;\n",
        "  ttl security off;\n",
    ];
    let daemons: Vec<Daemon> = routers
        .iter()
        .zip(sessions.iter().cycle())
        .map(|(router, session)| {
            let passive = if router.address.octets()[3] <= 24 { "  passive;\n" } else { "" };
            router.bird(&lab, &format!("{session}{passive}"))
        })
        .collect::<Result<_>>()?;
    let all = || routers.iter().zip(&daemons);
    lab.wait("the right ones are up", || {
        all().step_by(2).try_for_each(|(router, bird)| established(bird, &router.namespace))
    })?;
    std::thread::sleep(Duration::from_secs(5));
    for (router, bird) in all().skip(1).step_by(2) {
        let name = router.namespace.name();
        ensure!(established(bird, &router.namespace).is_err(), "{name} has a session");
    }
    all().step_by(2).try_for_each(|(router, bird)| established(bird, &router.namespace))?;
    let up = peers(&lab)?.peers.iter().filter(|peer| peer.up).count();
    ensure!(up == 4, "{up} sessions");

    // A new password is taken over by connections that stand: the hold timer ends those that are not
    // of it any more.
    lab.edit("gateway", "password: between us", "password: among us")?;
    std::thread::sleep(Duration::from_secs(8));
    lab.wait("the other password is right now", || {
        for (index, (router, bird)) in all().enumerate() {
            let right = !matches!(index % 4, 0 | 3);
            let up = established(bird, &router.namespace).is_ok();
            ensure!(up == right, "{} is up: {up}", router.namespace.name());
        }
        Ok(())
    })
}

#[test]
fn a_drained_gateway_warns_its_peers_then_withdraws_and_begins_anew_when_it_stays() -> Result<()> {
    const TEST: &str =
        "a_drained_gateway_warns_its_peers_then_withdraws_and_begins_anew_when_it_stays";
    if !has_peers(TEST, &BIRD) || !has_peers(TEST, &FRR) {
        return Ok(());
    }
    let Some((lab, routers)) = upstreams(TEST, 1, &["", ""])? else { return Ok(()) };
    let bird = routers[0].bird(&lab, "")?;
    let frr = routers[1].frr(&lab, "")?;
    let lease = format!("{}/32", PUBLIC[0]);
    let from_frr = || {
        let answer = frr.ask(&routers[1].namespace, &format!("show bgp ipv4 unicast {lease}"))?;
        ensure!(answer.contains("64512") && answer.contains("198.51.100.1"), "{answer}");
        Ok(answer)
    };
    let from_bird = || bird.ask(&routers[0].namespace, &format!("show route {lease} all"));
    lab.wait("both learn", || {
        ensure_learned(&routers[0], &PUBLIC)?;
        from_frr()
    })?;
    ensure!(ask_internet(lab.vm("red-web")).is_ok());
    ensure!(!from_bird()?.contains("(65535,0)"), "{}", from_bird()?);

    let output = said(&lab, "drain --after 3")?;
    ensure!(output.starts_with("BGP peers are told that the gateway goes"), "{output}");
    lab.wait("both are warned", || {
        let (bird, frr) = (from_bird()?, from_frr()?);
        ensure!(bird.contains("(65535,0)"), "{bird}");
        ensure!(frr.contains("graceful-shutdown"), "{frr}");
        Ok(())
    })?;
    lab.wait("then all is withdrawn", || {
        ensure_learned(&routers[0], &[])?;
        let (state, reason) = health(&lab, "drain")?;
        ensure!(state == HealthState::Degraded, "{state:?}");
        ensure!(reason.starts_with("all BGP sessions have ended"), "{reason}");
        Ok(())
    })?;
    // Routers that connect again are not let in.
    std::thread::sleep(Duration::from_secs(4));
    ensure_learned(&routers[0], &[])?;

    let output = said(&lab, "drain --cancel")?;
    ensure!(output == "the gateway stays\n", "{output}");
    lab.wait("both learn anew", || {
        ensure_learned(&routers[0], &PUBLIC)?;
        ensure!(!from_bird()?.contains("(65535,0)"), "still warned");
        ensure!(!from_frr()?.contains("graceful-shutdown"), "still warned");
        ensure!(health(&lab, "drain").is_err(), "still degraded");
        Ok(())
    })
}

#[test]
fn a_peer_is_cleared_softly_without_its_session_and_hard_with_it() -> Result<()> {
    const TEST: &str = "a_peer_is_cleared_softly_without_its_session_and_hard_with_it";
    if !has_peers(TEST, &FRR) {
        return Ok(());
    }
    let Some((lab, routers)) = upstreams(TEST, 1, &[""])? else { return Ok(()) };
    let _frr = routers[0].frr(&lab, "")?;
    let peer = || -> Result<_> {
        let report = peers(&lab)?;
        report.peers.into_iter().next().context("a peer")
    };
    let before = lab.wait("the session is up", || {
        let peer = peer()?;
        // FRR tells us our own, too.
        ensure!(peer.up && peer.ipv4.accepted == 1, "{peer:?}");
        Ok(peer)
    })?;
    said(&lab, "bgp clear --front-end up1")?;
    lab.wait("everything is asked for and told again", || {
        let peer = peer()?;
        ensure!(peer.up && peer.flaps == before.flaps, "{peer:?}");
        let refreshes = peer.messages_sent.route_refresh - before.messages_sent.route_refresh;
        ensure!(refreshes > 0, "{peer:?}");
        ensure!(peer.messages_received.update > before.messages_received.update, "{peer:?}");
        ensure!(peer.messages_sent.update > before.messages_sent.update, "{peer:?}");
        Ok(())
    })?;
    said(&lab, "bgp clear --front-end --hard 198.51.100.21")?;
    lab.wait("the session began again", || {
        let peer = peer()?;
        ensure!(peer.up && peer.flaps == before.flaps + 1, "{peer:?}");
        Ok(())
    })?;
    for (words, sentence) in [
        ("bgp clear --front-end nobody", "the front end has no BGP peer `nobody`"),
        ("bgp clear --tenant red router", "no tenant `red` with BGP"),
    ] {
        let ended = nvgate(&lab, words)?;
        ensure!(ended.code == Some(2) && ended.sentence().contains(sentence), "{ended:?}");
    }
    // The health endpoint, which anybody may reach, changes nothing.
    let (code, _) = lab.ask("/v1/bgp/clear?peer=up1")?;
    ensure!(code == 404, "{code}");
    Ok(())
}

#[test]
fn an_aggregate_stands_for_its_addresses_as_long_as_one_is_served() -> Result<()> {
    const TEST: &str = "an_aggregate_stands_for_its_addresses_as_long_as_one_is_served";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let router = Upstream::build(&lab, 1)?;
    let more =
        "    announce: {aggregates: public}\n  pools: [{name: public, prefixes: 203.0.113.8/29}]\n";
    speak_on_front_end(&lab, &[router.peer("")], more)?;
    lab.start()?;
    let bird = router.bird(&lab, "")?;
    let routes = || exec(&router.namespace, "ip -4 route show proto bird");
    // Red's address is of the pool, blue's is not.
    lab.wait("the pool and the other address are learned", || {
        let routes = routes()?;
        ensure!(routes.contains("203.0.113.8/29 via"), "{routes}");
        ensure!(!routes.contains("203.0.113.10 via"), "{routes}");
        ensure!(routes.contains("203.0.113.20 via"), "{routes}");
        Ok(())
    })?;
    ensure!(reaches_inbound(&router.namespace, PUBLIC[0])? == "red-web");
    fs::remove_file(lab.file("red"))?;
    lab.wait("a pool that nobody uses is withdrawn", || {
        let routes = routes()?;
        ensure!(!routes.contains("203.0.113.8/29"), "{routes}");
        ensure!(routes.contains("203.0.113.20 via"), "{routes}");
        Ok(())
    })?;
    established(&bird, &router.namespace)
}

#[test]
fn who_has_the_port_already_is_said_and_the_gateways_own_connections_go_on() -> Result<()> {
    const TEST: &str = "who_has_the_port_already_is_said_and_the_gateways_own_connections_go_on";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let router = Upstream::build(&lab, 1)?;
    speak_on_front_end(&lab, &[router.peer("")], "")?;
    let other = lab.site.gateway.run(|| std::net::TcpListener::bind("0.0.0.0:179"))??;
    lab.start()?;
    let bird = router.bird(&lab, "  passive;\n")?;
    lab.wait("the session is up", || established(&bird, &router.namespace))?;
    let (state, reason) = health(&lab, "front_end bgp")?;
    ensure!(state == HealthState::Degraded, "{state:?}");
    ensure!(reason.starts_with("TCP port 179 is in use"), "{reason}");
    drop(other);
    lab.wait("the port is had once it is free", || {
        ensure!(health(&lab, "front_end bgp").is_err(), "still degraded");
        Ok(())
    })?;
    ensure!(exec(&router.namespace, "ip -4 route show proto bird")?.contains("203.0.113.10"));
    // Who is no neighbour is reset before it can say a word.
    let stranger = &lab.site.server;
    let refused = stranger.run(|| {
        use std::io::Read as _;
        let mut stream = std::net::TcpStream::connect("198.51.100.1:179")?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.read(&mut [0; 64])
    })?;
    let kind = refused.map_err(|error| error.kind());
    ensure!(kind == Err(std::io::ErrorKind::ConnectionReset), "{kind:?}");
    Ok(())
}

#[test]
fn bfd_moves_flows_to_the_other_upstream_within_half_a_second() -> Result<()> {
    const TEST: &str = "bfd_moves_flows_to_the_other_upstream_within_half_a_second";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let bfd = ", bfd: {interval_millis: 100, multiplier: 3}";
    let Some((lab, routers)) = upstreams(TEST, 2, &[bfd, bfd])? else { return Ok(()) };
    let daemons: Vec<Daemon> =
        routers.iter().map(|router| router.bird(&lab, "  bfd on;\n")).collect::<Result<_>>()?;
    let vm = lab.vm("red-web");
    for (router, bird) in routers.iter().zip(&daemons) {
        lab.wait("the session is up, with BFD", || {
            established(bird, &router.namespace)?;
            let answer = bird.ask(&router.namespace, "show bfd sessions")?;
            ensure!(answer.contains(" Up "), "{answer}");
            Ok(())
        })?;
    }
    let takes = |wanted: &str| -> Result<()> {
        let label = ask_internet(vm)?.label;
        ensure!(label == wanted, "{label}");
        Ok(())
    };
    for wanted in ["up1", "up2"] {
        lab.wait("both are used", || takes(wanted))?;
    }
    // A ping is one flow: it goes by one of the two, which is the one to fail.
    let pings = Pings::start(vm, INTERNET)?;
    std::thread::sleep(Duration::from_secs(1));
    let carrier = busiest(&routers)?;
    change(&routers[carrier].namespace, "eth0", &[Change::Down])?;
    std::thread::sleep(Duration::from_secs(2));
    let (silence, answered) = pings.end()?;
    println!("failover: silent for {silence:?}, {answered} answers");
    ensure!(silence < Duration::from_millis(500), "silent for {silence:?}");
    for _ in 0..FLOWS {
        takes(["up2", "up1"][carrier])?;
    }
    Ok(())
}

/// The router that most packets of the last half second came to.
fn busiest(routers: &[Upstream]) -> Result<usize> {
    let before: Vec<u64> =
        routers.iter().map(|router| received(&router.namespace)).collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_millis(500));
    let after: Vec<u64> =
        routers.iter().map(|router| received(&router.namespace)).collect::<Result<_>>()?;
    let came = before.iter().zip(&after).map(|(before, after)| after - before);
    came.enumerate().max_by_key(|(_, came)| *came).map(|(index, _)| index).context("a router")
}

/// The gateway's and the router's IPv6 addresses on the front end.
const OWN_V6: &str = "2001:db8:fe::1";
const ROUTER_V6: &str = "2001:db8:fe::21";

#[test]
fn a_session_over_ipv6_is_signed_near_and_watched_and_carries_both_families() -> Result<()> {
    const TEST: &str = "a_session_over_ipv6_is_signed_near_and_watched_and_carries_both_families";
    if !has_peers(TEST, &BIRD) || !kernel_has_ipv6() {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let router = Upstream::build(&lab, 1)?;
    for (namespace, link, address) in
        [(&lab.site.gateway, "front0", OWN_V6), (&router.namespace, "eth0", ROUTER_V6)]
    {
        exec(namespace, &format!("ip address add {address}/64 dev {link} nodad"))?;
    }
    let peer = router
        .peer(
            ", password: between us, ttl_security: 1, families: [ipv4, ipv6], \
             bfd: {interval_millis: 100, multiplier: 3}",
        )
        .replace(&router.address.to_string(), &format!("'{ROUTER_V6}'"));
    speak_on_front_end(&lab, &[peer], "")?;
    lab.edit("red", "tenant: red\n", "tenant: red\nfront_end_prefixes: ['fd00:1::/64']\n")?;
    lab.start()?;
    let config = format!(
        "router id 198.51.100.21;
protocol device {{}}
protocol bfd {{
  interface \"*\" {{ min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }};
}}
protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}
protocol kernel {{ ipv6 {{ export where source = RTS_BGP; }}; }}
protocol static {{ ipv4; route 198.18.7.0/24 unreachable; }}
protocol static {{ ipv6; route 2001:db8:77::/48 unreachable; }}
protocol bgp upstream {{
  local {ROUTER_V6} as 65021;
  neighbor {OWN_V6} as 64512;
  password \"between us\";
  ttl security on;
  bfd on;
  connect delay time 1;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop address 198.51.100.21; }};
  ipv6 {{ import all; export where source = RTS_STATIC; }};
}}
"
    );
    let bird = Daemon::bird(lab.config(), &router.namespace, &config)?;
    lab.wait("the session is up, with BFD", || {
        established(&bird, &router.namespace)?;
        let answer = bird.ask(&router.namespace, "show bfd sessions")?;
        ensure!(answer.contains(" Up "), "{answer}");
        ensure_learned(&router, &PUBLIC)?;
        let routes = exec(&router.namespace, "ip -6 route show proto bird")?;
        ensure!(routes.contains(&format!("fd00:1::/64 via {OWN_V6}")), "{routes}");
        Ok(())
    })?;
    lab.wait("both families are learned", || {
        let report = peers(&lab)?;
        let [peer] = &report.peers[..] else { anyhow::bail!("{report:?}") };
        ensure!((peer.ipv4.accepted, peer.ipv6.accepted) == (1, 1), "{peer:?}");
        ask_internet(lab.vm("red-web"))
    })?;
    // Silence ends the session long before its hold timer.
    change(&router.namespace, "eth0", &[Change::Down])?;
    lab.wait("BFD ends the session", || {
        let report = peers(&lab)?;
        let down = report.peers.first().and_then(|peer| peer.last_down.clone());
        ensure!(down.is_some_and(|down| down.contains("BFD")), "{report:?}");
        Ok(())
    })
}
