//! wireguard-go and boringtun as tenants' on-premises routers, with kernel clients behind them, and
//! the real gateway between them and the tenants' VMs: what a tunnel carries, and what it outlives.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::ping;
use nvgate_tests::run_lab::{PUBLIC, RunLab};
use nvgate_tests::run_lab_traffic::Stream;
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_between::{Between, Faults};
use nvgate_tests::wg_lab::{
    Peer, PeerPlan, Premises, Program, TUNNEL_PORT, build, exec, gateway_key, give_vpn, place,
    reaches,
};
use nvgate_tests::wg_pings::Pings;
use nvgate_tests::wg_twins::{
    HQ, STREAM_PORT, TENANTS, WEB, each_reaches_its_own, hq, plan, streams, tunnel, twins,
};

#[test]
fn twins_reach_their_own_premises_and_nothing_crosses() -> Result<()> {
    const TEST: &str = "twins_reach_their_own_premises_and_nothing_crosses";
    for workers in [1, 2] {
        let Some(twins) = twins(TEST, workers, Program::WireGuardGo)? else { return Ok(()) };
        each_reaches_its_own(&twins)?;
        for (tenant, premises) in TENANTS.into_iter().zip(&twins.premises) {
            streams(&twins.lab, tenant, premises, 20)?;
        }
        for premises in &twins.premises {
            let seen = premises.service.seen();
            let own = premises.client.name();
            ensure!(seen.iter().all(|question| question.nonce == own), "{own}: {seen:?}");
        }
    }
    Ok(())
}

/// What `ping` says of one echo request of `length` bytes of IP that must not be fragmented.
fn unfragmented(from: &Namespace, target: Ipv4Addr, length: u16) -> Result<String> {
    let size = length - 28;
    // It fails when nothing comes back.
    let line = format!("sh -c ping\\t-n\\t-c1\\t-W1\\t-Mdo\\t-s{size}\\t{target}||true");
    exec(from, &line.replace("\\t", "${IFS}"))
}

#[test]
fn senders_learn_what_a_tunnel_carries() -> Result<()> {
    const TEST: &str = "senders_learn_what_a_tunnel_carries";
    let Some(twins) = twins(TEST, 2, Program::WireGuardGo)? else { return Ok(()) };
    let (vm, premises) = (twins.lab.vm("red-web"), &twins.premises[0]);
    let client = &premises.client;
    vm.run(|| ping(premises.ipv4.into(), Duration::from_secs(5)))??;
    // 1500 less IPv4 (20), UDP (8) and WireGuard (32); the peer's link has 1420.
    for (from, to, fits) in [(vm, premises.ipv4, 1440), (client, WEB, 1420)] {
        let too_big = unfragmented(from, to, fits + 1)?;
        ensure!(too_big.contains(&format!("mtu = {fits}")), "{}: {too_big}", from.name());
        let whole = unfragmented(from, to, fits)?;
        ensure!(whole.contains("1 received"), "{}: {whole}", from.name());
    }
    let listen = SocketAddr::new(premises.ipv4.into(), STREAM_PORT);
    let listener = client.run(|| std::net::TcpListener::bind(listen))??;
    let near = vm.run(|| std::net::TcpStream::connect(listen))??;
    let (far, _) = listener.accept()?;
    for (name, stream) in [("the VM", &near), ("the client", &far)] {
        let segment = getsockopt(stream, TcpMaxSeg)?;
        ensure!((1300..=1400).contains(&segment), "{name} sends segments of {segment}");
    }
    Ok(())
}

#[test]
fn a_peer_that_moves_is_followed() -> Result<()> {
    const TEST: &str = "a_peer_that_moves_is_followed";
    let Some(twins) = twins(TEST, 2, Program::WireGuardGo)? else { return Ok(()) };
    each_reaches_its_own(&twins)?;
    let pings = Pings::start(&twins.premises[0].client, WEB)?;
    std::thread::sleep(Duration::from_millis(500));
    twins.peers[0].set("listen-port 45000")?;
    std::thread::sleep(Duration::from_millis(1500));
    // Another prefix, or the new address would go with the old one.
    exec(&twins.place, "ip address add 198.18.1.3/25 dev eth0")?;
    exec(&twins.place, "ip address del 198.18.1.2/24 dev eth0")?;
    for (peer, port) in twins.peers.iter().zip(45001..) {
        // The program holds on to the address it had until its socket is another one.
        peer.set(&format!("listen-port {port}"))?;
    }
    std::thread::sleep(Duration::from_millis(1500));
    let (silence, answered) = pings.end()?;
    println!("moved twice: silent for {silence:?} at the most, {answered} answers");
    // One answer went to where the peer was before; the next request says where it is.
    ensure!(silence < Duration::from_millis(700), "silent for {silence:?}");
    each_reaches_its_own(&twins)
}

/// Waits until an echo request from `from` is answered; says how long after `since` that was.
fn back_after(from: &Namespace, target: Ipv4Addr, since: Instant) -> Result<Duration> {
    from.run(|| ping(target.into(), Duration::from_secs(30)))??;
    Ok(since.elapsed())
}

/// Both sides notice after 15 s without an answer (whitepaper section 6.2: keepalive and rekey
/// timeout) that the other one has lost its session, and then begin anew.
const NOTICED: Duration = Duration::from_secs(18);

#[test]
fn a_peer_or_a_gateway_that_was_killed_comes_back_by_itself() -> Result<()> {
    const TEST: &str = "a_peer_or_a_gateway_that_was_killed_comes_back_by_itself";
    let Some(mut lab) = build(TEST, 2)? else { return Ok(()) };
    give_vpn(&lab, "red", &hq(&tunnel("a", 1, "")))?;
    lab.start()?;
    let key = gateway_key(&lab, "red")?;
    let place = place(&lab, 1)?;
    let premises = Premises::build("red-hq", HQ)?;
    // Without keepalives: traffic alone has to bring it back.
    let plan = PeerPlan { keepalive_secs: 0, ..plan(0, &key, 1) };
    let peer = Peer::start(lab.config(), &place, &premises.router, &plan)?;
    premises.client.run(|| ping(WEB.into(), Duration::from_secs(5)))??;

    drop(peer);
    let _peer = Peer::start(lab.config(), &place, &premises.router, &plan)?;
    let took = back_after(lab.vm("red-web"), premises.ipv4, Instant::now())?;
    println!("from the VM after the peer's restart: {took:?}");
    ensure!(took < NOTICED, "{took:?}");

    lab.end(Signal::SIGKILL)?;
    lab.start()?;
    let took = back_after(&premises.client, WEB, Instant::now())?;
    println!("from the client after the gateway's restart: {took:?}");
    ensure!(took < NOTICED, "{took:?}");
    ensure!(gateway_key(&lab, "red")? == key, "the gateway's key is another one");
    reaches(lab.vm("red-web"), premises.ipv4.into(), "red-hq", WEB.into())
}

/// A tunnel of red's on a bad path, and what is around it.
struct Bad {
    between: Between,
    _peer: Peer,
    premises: Premises,
    place: Namespace,
    lab: RunLab,
}

fn bad_path(test: &str, faults: Faults) -> Result<Option<Bad>> {
    let Some(mut lab) = build(test, 2)? else { return Ok(None) };
    give_vpn(&lab, "red", &hq(&tunnel("a", 1, "")))?;
    lab.start()?;
    let key = gateway_key(&lab, "red")?;
    let place = place(&lab, 1)?;
    let premises = Premises::build("red-hq", HQ)?;
    let direct = plan(0, &key, 1);
    let near = "198.18.1.2:30000".parse()?;
    let between = Between::start(&place, near, direct.gateway, faults)?;
    let peer =
        Peer::start(lab.config(), &place, &premises.router, &PeerPlan { gateway: near, ..direct })?;
    premises.client.run(|| ping(WEB.into(), Duration::from_secs(8)))??;
    Ok(Some(Bad { between, _peer: peer, premises, place, lab }))
}

const FAULTS: Faults = Faults { lost: 50, doubled: 20, late: 30 };

#[test]
fn tcp_survives_loss_and_reordering_outside() -> Result<()> {
    const TEST: &str = "tcp_survives_loss_and_reordering_outside";
    let Some(bad) = bad_path(TEST, FAULTS)? else { return Ok(()) };
    streams(&bad.lab, "red", &bad.premises, 10)?;
    let carried = bad.between.carried();
    println!("{carried:?}");
    ensure!(carried.lost > 20 && carried.doubled > 5 && carried.late > 10, "{carried:?}");
    Ok(())
}

#[test]
fn tcp_survives_two_rekeys_on_a_bad_path() -> Result<()> {
    const TEST: &str = "tcp_survives_two_rekeys_on_a_bad_path";
    /// Rekeying is due 120 s after a session began, in every implementation.
    const TWO_REKEYS: Duration = Duration::from_secs(250);
    let Some(bad) = bad_path(TEST, FAULTS)? else { return Ok(()) };
    let sessions = || -> Result<u64> {
        let red = bad.lab.tenant("red")?.context("red")?;
        Ok(red.sites[0].tunnels[0].handshakes.completed)
    };
    let before = sessions()?;
    let listen = SocketAddr::new(bad.premises.ipv4.into(), STREAM_PORT);
    let stream = Stream::start(bad.lab.vm("red-web"), listen, &bad.premises.client, listen)?;
    std::thread::sleep(TWO_REKEYS);
    let more = sessions()? - before;
    println!("{:?}, {:?}, {more} more sessions", stream.end_after(3)?, bad.between.carried());
    ensure!(more >= 2, "{more} rekeys");
    Ok(())
}

/// How often the gateway dropped for `reason`, whoever's the packet was.
fn drops(lab: &RunLab, reason: &str) -> Result<u64> {
    let (_, metrics) = lab.ask("/metrics")?;
    let label = format!("reason=\"{reason}\"}} ");
    let counts = metrics.lines().filter_map(|line| line.split_once(&label));
    counts.map(|(_, count)| count.parse::<u64>().context("a count")).sum()
}

#[test]
fn noise_and_replays_are_counted_and_harm_nobody() -> Result<()> {
    const TEST: &str = "noise_and_replays_are_counted_and_harm_nobody";
    const NOISE: usize = 4000;
    let Some(bad) = bad_path(TEST, Faults::default())? else { return Ok(()) };
    reaches(&bad.premises.client, WEB.into(), "red-web", bad.premises.ipv4.into())?;
    let pings = Pings::start(bad.lab.vm("red-web"), bad.premises.ipv4)?;
    let target = SocketAddr::new(PUBLIC[0].into(), TUNNEL_PORT);
    let noise = nvgate_tests::ovs_http::file(7, 2048 + NOISE);
    bad.place.run(|| -> Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        for at in 0..NOISE {
            // A third of it begins as messages do, with the length of a handshake or any other.
            let length = [148, 92, 64, usize::from(noise[at]) * 5][at % 4];
            let mut datagram = noise[at..at + length].to_vec();
            if at % 3 == 0 && length >= 4 {
                datagram[..4].copy_from_slice(&[at as u8 % 5, 0, 0, 0]);
            }
            socket.send_to(&datagram, target)?;
            if at % 50 == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    })??;
    let replayed = bad.between.replay()?;
    std::thread::sleep(Duration::from_millis(300));
    let (silence, answered) = pings.end()?;
    println!("{NOISE} of noise, {replayed} again: silent for {silence:?}, {answered} answers");
    ensure!(silence < Duration::from_millis(500), "silent for {silence:?}");
    let mut counted = 0;
    for reason in ["malformed", "mac", "unknown_peer", "no_session", "handshake_budget", "auth"] {
        counted += drops(&bad.lab, &format!("tunnel_{reason}"))?;
    }
    ensure!(counted >= NOISE as u64, "{counted} drops of {NOISE}");
    let replays = drops(&bad.lab, "tunnel_replay")?;
    ensure!(replays as usize >= replayed / 2, "{replays} replays of {replayed}");
    reaches(&bad.premises.client, WEB.into(), "red-web", bad.premises.ipv4.into())
}

#[test]
fn boringtun_speaks_with_the_gateway() -> Result<()> {
    const TEST: &str = "boringtun_speaks_with_the_gateway";
    if !has_peers(TEST, &["boringtun-cli"]) {
        return Ok(());
    }
    let Some(twins) = twins(TEST, 2, Program::Boringtun)? else { return Ok(()) };
    each_reaches_its_own(&twins)?;
    for (tenant, premises) in TENANTS.into_iter().zip(&twins.premises) {
        streams(&twins.lab, tenant, premises, 10)?;
    }
    Ok(())
}
