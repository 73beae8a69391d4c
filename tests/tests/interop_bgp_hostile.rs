//! Neighbours of one tenant that do what no honest one does, all at once with a tenant beside it
//! whose session and traffic must not notice.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nvgate::admin::bgp::ExplainReport;
use nvgate_tests::bgp_lab::{BIRD, Daemon, TAUGHT, reaches_what_was_taught};
use nvgate_tests::bgp_raw::{
    KEEPALIVE, RawPeer, UPDATE, Window, attribute, mandatory, message, update, withdrawal,
};
use nvgate_tests::bgp_routers::{
    CHANNEL, DB, ROUTE, WEB, are_up, bird_with, gateway, peer, routes, said,
};
use nvgate_tests::process_costs::{MOST_MEMORY, memory, speaking};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::give_vpn;
use nvgate_tests::wg_pings::{PATIENT, Pings};

/// The hostile tenant's own bounds: prefixes, and routes a second.
const PREFIXES: u64 = 6000;
const UPDATES_PER_SEC: u64 = 2000;
/// Routes that the flood leaves: more bytes than wait anywhere for who does not read them.
const LEFT: usize = 3000;
/// More than the process may grow by, whatever they do.
const GROWTH: u64 = 48 << 20;
/// What of a core the thread that speaks BGP may use while it is flooded.
const SHARE: f64 = 0.6;

/// A neighbour's name, its VM, its ends and its AS.
type Who = (&'static str, &'static str, [&'static str; 2], u16);

const SLOW: Who = ("slow", "red-web", WEB, 65001);
const DEAF: Who = ("deaf", "red-app", ["10.1.0.20", "10.1.0.1"], 65002);
const LOUD: Who = ("loud", "red-db", ["fd00:2::a", "fd00:2::1"], 65003);
const BIG: Who = ("big", "red-web", ["fd00:1::a", "fd00:1::1"], 65004);
const WILD: Who = ("wild", "red-app", ["fd00:1::14", "fd00:1::1"], 65005);

fn join(lab: &RunLab, (_, vm, ends, asn): Who, window: Window) -> Result<RawPeer> {
    let ends = [ends[0].parse()?, ends[1].parse::<IpAddr>()?];
    lab.wait("a session", || RawPeer::establish(lab.vm(vm), ends, (asn, 90), window))
}

#[test]
fn hostile_neighbours_cost_their_own_tenant_what_it_may_use_and_others_nothing() -> Result<()> {
    const TEST: &str =
        "hostile_neighbours_cost_their_own_tenant_what_it_may_use_and_others_nothing";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let line = |(name, _, ends, asn): Who, more: &str| {
        format!(
            "{{name: {name}, address: '{}', asn: {asn}, families: [ipv4], passive: true, \
             extended_messages: true{more}",
            ends[0]
        )
    };
    let honest = "{name: honest, address: 10.2.0.10, asn: 65009";
    let hostile = [SLOW, DEAF, LOUD, BIG, WILD].map(|who| {
        let hold = if who == SLOW { 3 } else { 90 };
        line(who, &format!(", hold_secs: {hold}"))
    });
    let lines: Vec<_> = hostile.iter().map(String::as_str).chain([honest]).collect();
    let limits = format!(
        "  limits: {{prefixes: {PREFIXES}, attributes_mib: 4, updates_per_sec: {UPDATES_PER_SEC}, \
         path_length: 255}}\n"
    );
    give_vpn(&lab, "red", &gateway(&lines, &limits))?;
    give_vpn(&lab, "blue", &gateway(&["{name: web, address: 10.1.0.10, asn: 65010"], ""))?;
    lab.spawn_with(Some("info,nvgate::peering=debug"))?;
    let vm = lab.vm("blue-web");
    change(vm, "lo", &[Change::Add(TAUGHT.into(), 32)])?;
    let blue = bird_with(WEB[0], WEB[1], [65010, 64512], ROUTE, CHANNEL);
    let _blue = Daemon::bird(lab.config(), vm, &blue)?;
    let honest = bird_with(DB[0], DB[1], [65009, 64512], "", CHANNEL);
    let honest = Daemon::bird(lab.config(), lab.vm("red-db"), &honest)?;
    are_up(&lab, "red", &["honest"])?;
    reaches_what_was_taught(&lab, lab.vm("blue-db"))?;
    let before = memory(lab.id()?, MOST_MEMORY)?;
    let pings = Pings::start_patient(lab.vm("blue-db"), TAUGHT)?;

    garbage_ends_the_session(&lab)?;
    bytes_one_by_one_are_no_message(&lab)?;
    who_says_nothing_has_two_connections_at_most(&lab)?;
    let mut deaf = join(&lab, DEAF, Window::Small)?;
    let loud = a_flood_waits_for_its_turn(&lab)?;
    the_honest_one_knows_the_end_of_it(&lab, &honest)?;
    let mut big = endless_paths_are_rejected(&lab)?;
    malformed_updates_withdraw_their_routes(&lab, &mut big)?;
    attribute_bombs_use_up_the_tenants_memory_only(&lab, big)?;

    wrong_bytes_are_in_the_log(&lab)?;
    let deafened = peer(&lab, "red", "deaf")?;
    ensure!(deafened.up && deafened.flaps == 0, "{deafened:?}");
    deaf.send(&message(KEEPALIVE, &[]))?;
    drop(loud);
    println!("{}", said(&lab, "peers")?);
    let grown = memory(lab.id()?, MOST_MEMORY)?.saturating_sub(before);
    println!("{} KiB before, {} KiB more", before >> 10, grown >> 10);
    ensure!(grown < GROWTH, "the gateway grew by {grown} bytes");
    let (silence, answered) = pings.end()?;
    println!("blue: silent for {silence:?} at most, {answered} answers");
    ensure!(silence < PATIENT, "blue lost a packet: silent for {silence:?}");
    let web = peer(&lab, "blue", "web")?;
    ensure!(web.up && web.flaps == 0, "{web:?}");
    let honest = peer(&lab, "red", "honest")?;
    ensure!(honest.up && honest.flaps == 0, "{honest:?}");
    Ok(())
}

/// At DEBUG the log has how wrong messages begin, and whose they are.
fn wrong_bytes_are_in_the_log(lab: &RunLab) -> Result<()> {
    let log = std::fs::read_to_string(lab.config().join("gateway-1.log"))?;
    let lines = || log.lines().filter(|line| line.contains("a BGP message is malformed"));
    // The garbage, and an UPDATE behind its marker.
    for (wrong, bytes) in [
        ("connection not synchronized", "[00, bb, 77, 33,"),
        ("ORIGIN: the value is impossible", "ff, ff, 00, "),
    ] {
        let found = lines().any(|line| line.contains(wrong) && line.contains(bytes));
        ensure!(found, "no line about `{wrong}` with {bytes}: {:?}", lines().next());
    }
    ensure!(lines().all(|line| line.contains("\"red\"")), "{:?}", lines().next());
    Ok(())
}

/// Bytes that are nothing end the session with a NOTIFICATION, and the gateway says so.
fn garbage_ends_the_session(lab: &RunLab) -> Result<()> {
    let mut wild = join(lab, WILD, Window::Open)?;
    let garbage: Vec<u8> =
        (0..65_536_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    // The gateway need not take all of it.
    let _ = wild.send(&garbage);
    let notification = wild.notification()?;
    ensure!(notification == [1, 1], "{notification:?}");
    lab.wait("the gateway says what it was", || {
        let peer = peer(lab, "red", "wild")?;
        ensure!(!peer.up && peer.messages_sent.notification == 1, "{peer:?}");
        let down = peer.last_down.context("a reason")?;
        ensure!(down.contains("connection not synchronized"), "{down}");
        Ok(())
    })
}

/// An OPEN may come a byte at a time; a message that never becomes whole keeps no session.
fn bytes_one_by_one_are_no_message(lab: &RunLab) -> Result<()> {
    let (_, vm, ends, asn) = SLOW;
    let ends = [ends[0].parse()?, ends[1].parse::<IpAddr>()?];
    let mut slow = RawPeer::connect(lab.vm(vm), ends, (asn, 90), Window::Open)?;
    for byte in slow.open() {
        slow.send(&[byte])?;
        std::thread::sleep(Duration::from_millis(5));
    }
    slow.agree()?;
    let began = Instant::now();
    for byte in message(UPDATE, &[0; 100]) {
        if slow.send(&[byte]).is_err() || began.elapsed() > Duration::from_secs(4) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let notification = slow.notification()?;
    ensure!(notification == [4, 0], "{notification:?}");
    lab.wait("the gateway says that nothing came", || {
        let peer = peer(lab, "red", "slow")?;
        let down = peer.last_down.as_deref().unwrap_or_default();
        ensure!(!peer.up && down.contains("hold timer expired"), "{peer:?}");
        Ok(())
    })
}

/// Connections without a word cost no more than two of them do.
fn who_says_nothing_has_two_connections_at_most(lab: &RunLab) -> Result<()> {
    let (_, vm, ends, asn) = SLOW;
    let ends = [ends[0].parse()?, ends[1].parse::<IpAddr>()?];
    let connect = || RawPeer::connect(lab.vm(vm), ends, (asn, 90), Window::Open);
    let mut silent: Vec<_> = (0..50).filter_map(|_| connect().ok()).collect();
    lab.wait("most of them are ended", || {
        let open = silent.iter_mut().map(RawPeer::is_open).collect::<Result<Vec<_>>>()?;
        let open = open.into_iter().filter(|open| *open).count();
        ensure!(open <= 2, "{open} of {} are open", silent.len());
        let peer = peer(lab, "red", SLOW.0)?;
        ensure!(peer.errors.refused_connections >= 48, "{peer:?}");
        Ok(())
    })
}

/// A storm of UPDATEs with an ORIGIN that there is not: each takes its routes away, is counted, and
/// leaves the session as it is (RFC 7606).
fn malformed_updates_withdraw_their_routes(lab: &RunLab, big: &mut RawPeer) -> Result<()> {
    const STORM: u64 = 1000;
    let mut attributes = mandatory(&[u32::from(BIG.3)], Ipv4Addr::new(10, 1, 0, 10));
    attributes[0] = attribute(0x40, 1, &[9]);
    // What was accepted before is among them.
    let malformed = update(&attributes, &[[172, 18, 0]]);
    for _ in 0..STORM {
        big.send(&malformed)?;
    }
    lab.wait("all of them are counted", || {
        let peer = peer(lab, "red", BIG.0)?;
        let errors = &peer.errors;
        ensure!(
            (errors.defective_updates, errors.treated_as_withdraw) == (STORM, STORM),
            "{peer:?}"
        );
        ensure!(peer.up && peer.flaps == 0 && errors.last_defect.is_some(), "{peer:?}");
        ensure!(routes(lab, "red", "172.18.0.0/24")?.is_empty(), "it is still there");
        Ok(())
    })
}

fn network(number: usize) -> [u8; 3] {
    [172, 20 + (number / 256) as u8, (number % 256) as u8]
}

/// What the flood leaves: a route that is packed with no other.
fn left_behind(number: usize) -> Vec<u8> {
    let communities = (0..20).flat_map(|at| ((65_003 << 16) + number as u32 + at).to_be_bytes());
    let communities = attribute(0xc0, 8, &communities.collect::<Vec<u8>>());
    let attributes = mandatory(&[u32::from(LOUD.3)], Ipv4Addr::new(10, 2, 0, 10));
    update(&[attributes, vec![communities]].concat(), &[network(number)])
}

/// As many updates as TCP takes for three seconds: the gateway takes the tenant's rate of them, and
/// the thread that all tenants share has time left.
fn a_flood_waits_for_its_turn(lab: &RunLab) -> Result<RawPeer> {
    let loud = join(lab, LOUD, Window::Open)?;
    let began = peer(lab, "red", LOUD.0)?.messages_received.update;
    let (since, used) = (Instant::now(), speaking(lab.id()?)?);
    let mut sender = loud.sender()?;
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| -> Result<()> {
            let next_hop = Ipv4Addr::new(10, 2, 0, 10);
            let path = [u32::from(LOUD.3)];
            for number in 0_usize.. {
                if number % 2 == 0 && since.elapsed() > Duration::from_secs(3) {
                    break;
                }
                let at = network(number / 2 % 2000);
                let med = attribute(0x80, 4, &(number as u32).to_be_bytes());
                let attributes = [mandatory(&path, next_hop), vec![med]].concat();
                let bytes =
                    if number % 2 == 0 { update(&attributes, &[at]) } else { withdrawal(&[at]) };
                sender.write_all(&bytes)?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            for number in 0..LEFT {
                sender.write_all(&left_behind(number))?;
            }
            Ok(())
        });
        flood.join().ok().context("the flood panicked")?
    })?;
    let elapsed = since.elapsed().as_secs_f64();
    let taken = peer(lab, "red", LOUD.0)?.messages_received.update - began;
    let share = (speaking(lab.id()?)? - used).as_secs_f64() / elapsed;
    let sent = sent.into_inner() + LEFT as u64;
    println!("flood: {sent} sent and {taken} taken in {elapsed:.1} s, {share:.2} of a core");
    // The bucket may begin full.
    let most = UPDATES_PER_SEC as f64 * (elapsed + 1.0) * 1.2;
    ensure!((taken as f64) < most, "{taken} updates in {elapsed:.1} s");
    ensure!(share < SHARE, "{share:.2} of a core");
    Ok(loud)
}

/// Beside one that reads nothing, another of the same tenant has what the flood left, and no more.
fn the_honest_one_knows_the_end_of_it(lab: &RunLab, honest: &Daemon) -> Result<()> {
    lab.wait("the honest one has all and nothing else", || {
        let answer = honest.ask(lab.vm("red-db"), "show route count")?;
        let deaf = peer(lab, "red", DEAF.0)?;
        ensure!(deaf.up, "{deaf:?}");
        // With the tenant's two subnets.
        let all = LEFT + 2;
        ensure!(answer.contains(&format!("{all} of {all} routes for {all} networks")), "{answer}");
        Ok(())
    })?;
    let [_, b, c] = network(LEFT - 1);
    let (_, body) = lab.ask(&format!("/v1/bgp/explain?tenant=red&prefix=172.{b}.{c}.0/24"))?;
    let report: ExplainReport = serde_json::from_str(&body)?;
    for (name, is_told) in [("honest", true), (DEAF.0, false)] {
        let told = report.advertised.iter().find(|told| told.peer == name);
        let told = told.with_context(|| format!("{report:?}"))?;
        ensure!(told.paths.len() == 1 && told.sent == is_told, "{told:?}");
    }
    Ok(())
}

/// Paths beyond the tenant's bound are held and rejected, up to the longest that fits a message.
fn endless_paths_are_rejected(lab: &RunLab) -> Result<RawPeer> {
    let mut big = join(lab, BIG, Window::Open)?;
    let next_hop = Ipv4Addr::new(10, 1, 0, 10);
    for (number, length, is_taken) in [(0, 255, true), (1, 256, false), (2, 16_000, false)] {
        let path = vec![u32::from(BIG.3); length];
        big.send(&update(&mandatory(&path, next_hop), &[[172, 18, number]]))?;
        lab.wait(&format!("a path of {length}"), || {
            let routes = routes(lab, "red", &format!("172.18.{number}.0/24"))?;
            let route = routes.first().context("a route")?;
            ensure!(route.accepted == is_taken, "{}: {:?}", route.why, route.rule);
            Ok(())
        })?;
    }
    Ok(big)
}

/// Attributes that nobody knows, each set another: what does not fit the tenant's memory is refused
/// and counted, and who goes on is sent away.
fn attribute_bombs_use_up_the_tenants_memory_only(lab: &RunLab, mut big: RawPeer) -> Result<()> {
    let next_hop = Ipv4Addr::new(10, 1, 0, 10);
    let path = [u32::from(BIG.3)];
    let bomb = |number: usize, bytes: usize| {
        let unknown = attribute(0xc0, 200, &vec![number as u8; bytes]);
        let mut attributes = mandatory(&path, next_hop);
        attributes.push(attribute(0x80, 4, &(number as u32).to_be_bytes()));
        attributes.push(unknown);
        update(&attributes, &[[172, 64 + (number / 256) as u8, (number % 256) as u8]])
    };
    for number in 0..100 {
        big.send(&bomb(number, 60_000))?;
    }
    lab.wait("what does not fit is refused", || {
        let peer = peer(lab, "red", BIG.0)?;
        ensure!(peer.up && peer.errors.refused_routes > 50, "{peer:?}");
        ensure!(peer.errors.last_refusal.is_some(), "{peer:?}");
        Ok(())
    })?;
    let mut sender = big.sender()?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Until the gateway ends it.
            (0..20_000).try_for_each(|number| sender.write_all(&bomb(number, 1000)))
        });
        let notification = big.notification();
        big.end()?;
        let notification = notification?;
        ensure!(notification == [6, 8], "{notification:?}");
        Ok(())
    })?;
    lab.wait("its routes are gone", || {
        let peer = peer(lab, "red", BIG.0)?;
        ensure!(!peer.up && peer.ipv4.received == 0, "{peer:?}");
        ensure!(routes(lab, "red", "172.64.0.0/24")?.is_empty(), "still there");
        Ok(())
    })
}
