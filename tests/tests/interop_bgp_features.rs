//! What BGP has beside plain sessions, each with a router of others that has it, too: several paths
//! of a prefix, roles, bounds of prefixes, graceful restart.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nvgate::demo::lab::probe::ping;
use nvgate_tests::bgp_lab::{BIRD, Daemon, FRR, GOBGP, OPENBGPD, TAUGHT};
use nvgate_tests::bgp_routers::{
    APP, CHANNEL, DB, ROUTE, WEB, are_up, bird_with, frr_with, gateway, peer, routes, said, shows,
};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::give_vpn;
use nvgate_tests::wg_pings::{PATIENT, Pings};
use nvgate_tests::wg_twins::TENANTS;

/// What was [`TAUGHT`] is in it.
const PREFIX: &str = "172.30.0.0/16";
/// Taught at first only.
const OTHER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);

/// Both of the next take several paths over IPv6, beside another daemon in their VM.
const GOBGP_OF_PATHS: &str = "[global.config]
as = 65040
router-id = \"10.1.0.21\"
local-address-list = [\"fd00:1::14\"]
[[neighbors]]
[neighbors.config]
neighbor-address = \"fd00:1::1\"
peer-as = 64512
[neighbors.transport.config]
local-address = \"fd00:1::14\"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = \"ipv4-unicast\"
[neighbors.afi-safis.add-paths.config]
receive = true
";

const OPENBGPD_OF_PATHS: &str = "AS 65040
router-id 10.1.0.21
listen on fd00:1::14
fib-update no
nexthop qualify via default
neighbor fd00:1::1 {
  remote-as 64512
  local-address fd00:1::14
  announce IPv4 unicast
  announce add-path recv yes
}
allow from any
allow to any
";

#[test]
fn several_paths_of_a_prefix_go_in_and_out_with_four_daemons() -> Result<()> {
    const TEST: &str = "several_paths_of_a_prefix_go_in_and_out_with_four_daemons";
    if !has_peers(TEST, &[&BIRD[..], &FRR, &GOBGP, &OPENBGPD].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let peers = [
        "{name: web, address: 10.1.0.10, asn: 65010",
        "{name: app, address: 10.1.0.20, asn: 65020, add_path: {receive: true, send: all}",
        "{name: db, address: 10.2.0.10, asn: 65030, add_path: {receive: true, send: all}",
        "{name: app6, address: 'fd00:1::14', asn: 65040, families: [ipv4], add_path: {send: all}",
    ];
    for tenant in TENANTS {
        give_vpn(&lab, tenant, &gateway(&peers, ""))?;
    }
    lab.start()?;
    let paths = "add paths on;";
    let two = "ipv4 { import all; add paths on; export filter {
      if source != RTS_STATIC then reject;
      if proto = \"second\" then bgp_community.add((65020, 2));
      accept;
    }; };";
    let second = "protocol static second { ipv4; route 172.30.0.0/16 unreachable; }\n";
    let mut kept = Vec::new();
    for tenant in TENANTS {
        let [web, app, db] = ["web", "app", "db"].map(|vm| lab.vm(&format!("{tenant}-{vm}")));
        let one = bird_with(WEB[0], WEB[1], [65010, 64512], ROUTE, CHANNEL);
        let one = Daemon::bird(lab.config(), web, &one)?;
        let two = bird_with(APP[0], APP[1], [65020, 64512], ROUTE, two) + second;
        let two = Daemon::bird(lab.config(), app, &two)?;
        let three = if tenant == "red" {
            let channel = CHANNEL.replace("import all;", &format!("import all; {paths}"));
            Daemon::bird(lab.config(), db, &bird_with(DB[0], DB[1], [65030, 64512], "", &channel))?
        } else {
            let family = "  neighbor PEER addpath-tx-all-paths";
            let config = frr_with(DB[0], DB[1], [65030, 64512], &[], ["", family]);
            Daemon::frr(lab.config(), db, &config)?
        };
        let four = if tenant == "red" {
            Daemon::gobgp(lab.config(), app, GOBGP_OF_PATHS)?
        } else {
            Daemon::openbgpd(lab.config(), app, OPENBGPD_OF_PATHS)?
        };
        kept.push([one, two, three, four]);
    }
    let [red, blue] = &kept[..] else { anyhow::bail!("two tenants") };
    for tenant in TENANTS {
        are_up(&lab, tenant, &["web", "app", "db", "app6"])?;
        lab.wait("the gateway has three routes", || {
            let routes = routes(&lab, tenant, PREFIX)?;
            let named = routes.iter().filter(|route| route.path_id.is_some()).count();
            ensure!((routes.len(), named) == (3, 2), "{routes:?}");
            ensure!(routes.iter().all(|route| route.accepted), "{routes:?}");
            ensure!(routes.iter().filter(|route| route.best).count() == 1, "{routes:?}");
            Ok(())
        })?;
    }
    let (bird, frr) = ((&red[2], lab.vm("red-db")), (&blue[2], lab.vm("blue-db")));
    let words = ["show route all for 172.30.0.0/16", "show bgp ipv4 unicast 172.30.0.0/16"];
    let count = |answer: &str, what: &str| answer.matches(what).count();
    let seen = |left: usize| {
        lab.wait(&format!("{left} paths are seen"), || {
            let (one, two) = (bird.0.ask(bird.1, words[0])?, frr.0.ask(frr.1, words[1])?);
            let second = usize::from(left == 3);
            ensure!(count(&one, "BGP.as_path: 64512 65010") == 1, "{one}");
            ensure!(count(&one, "BGP.as_path: 64512 65020") == left - 1, "{one}");
            ensure!(count(&one, "(65020,2)") == second, "{one}");
            ensure!(count(&two, "64512 65010\n") == 1, "{two}");
            ensure!(count(&two, "64512 65020\n") == left - 1, "{two}");
            ensure!(count(&two, "Community: 65020:2\n") == second, "{two}");
            ensure!(count(&two, "AddPath ID: RX") == left, "{two}");
            let go = red[3].ask(lab.vm("red-app"), "neighbor fd00:1::1 adj-in -a ipv4")?;
            let open = blue[3].ask(lab.vm("blue-app"), "show rib in 172.30.0.0/16 all")?;
            for answer in [go, open] {
                ensure!(count(&answer, "64512 65010") == 1, "{answer}");
                ensure!(count(&answer, "64512 65020") == left - 1, "{answer}");
            }
            Ok(())
        })
    };
    seen(3)?;
    // Who teaches is told the others' paths and none of its own.
    let app = (&red[1], lab.vm("red-app"));
    shows(&lab, app, words[0], &["BGP.as_path: 64512 65010"], &["BGP.as_path: 64512 65020"])?;
    // One path less is one path less.
    for (tenant, routers) in TENANTS.iter().zip(&kept) {
        routers[1].ask(lab.vm(&format!("{tenant}-app")), "disable second")?;
    }
    seen(2)
}

#[test]
fn roles_agree_or_end_the_session_and_routes_leak_to_no_provider() -> Result<()> {
    const TEST: &str = "roles_agree_or_end_the_session_and_routes_leak_to_no_provider";
    if !has_peers(TEST, &[&BIRD[..], &FRR, &OPENBGPD].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let red = [
        "{name: above, address: 10.1.0.10, asn: 65010, role: customer",
        "{name: below, address: 10.1.0.20, asn: 65020, role: provider",
        "{name: beside, address: 10.2.0.10, asn: 65030, role: customer",
    ];
    let blue = [
        "{name: wrong, address: 10.1.0.10, asn: 65010, role: customer",
        "{name: strict, address: 10.1.0.20, asn: 65020, role: provider, role_strict: true",
        "{name: open, address: 10.2.0.10, asn: 65030, role: provider, role_strict: true",
    ];
    for (tenant, peers) in [("red", &red[..]), ("blue", &blue)] {
        give_vpn(&lab, tenant, &gateway(peers, ""))?;
    }
    lab.start()?;
    let role = |name: &str| format!("local role {name};\n  error wait time 1, 2;\n  {CHANNEL}");
    let provider = role("provider");
    let start = |vm: &str, [local, gateway]: [&str; 2], asn: u32, taught: &str, more: &str| {
        let config = bird_with(local, gateway, [asn, 64512], taught, more);
        Daemon::bird(lab.config(), lab.vm(vm), &config)
    };
    let _above = start("red-web", WEB, 65010, ROUTE, &provider)?;
    let beside = start("red-db", DB, 65030, "", &provider)?;
    let lines = [" neighbor PEER local-role customer", ""];
    let below = frr_with(APP[0], APP[1], [65020, 64512], &["172.31.0.0/16"], lines);
    let below = Daemon::frr(lab.config(), lab.vm("red-app"), &below)?;
    let _wrong = start("blue-web", WEB, 65010, ROUTE, &role("customer"))?;
    let _strict = start("blue-app", APP, 65020, ROUTE, CHANNEL)?;
    let open = "AS 65030\nrouter-id 10.2.0.10\nlisten on 10.2.0.10\nfib-update no\n\
                nexthop qualify via default\nneighbor 10.2.0.1 {\n remote-as 64512\n \
                local-address 10.2.0.10\n announce IPv4 unicast\n announce policy customer\n}\n\
                allow from any\nallow to any\n";
    let open = Daemon::openbgpd(lab.config(), lab.vm("blue-db"), open)?;
    are_up(&lab, "red", &["above", "below", "beside"])?;
    are_up(&lab, "blue", &["open"])?;
    // The provider's mark stays on what goes down, and keeps it from the other provider; the
    // customer's route goes up to both.
    lab.wait("the provider's route is marked", || {
        let routes = routes(&lab, "red", PREFIX)?;
        let others = &routes.first().context("a route")?.received.others;
        ensure!(others.contains(&"only to customers of AS 65010".to_owned()), "{routes:?}");
        Ok(())
    })?;
    let below = (&below, lab.vm("red-app"));
    shows(&lab, below, "show bgp ipv4 unicast 172.30.0.0/16 json", &["\"otc\":65010"], &[])?;
    let words = "show bgp ipv4 unicast 10.2.0.0/24 json";
    shows(&lab, below, words, &["\"otc\":64512"], &[])?;
    let open = (&open, lab.vm("blue-db"));
    shows(&lab, open, "show rib detail 10.1.0.0/24", &["OTC: 64512"], &[])?;
    let beside = (&beside, lab.vm("red-db"));
    shows(&lab, beside, "show route", &["172.31.0.0/16", "10.1.0.0/24"], &[PREFIX])?;
    let marked = |words, asn: &str, prefix: &str| {
        let (code, body) = lab.ask(&format!("/v1/bgp/explain?tenant=red&prefix={prefix}"))?;
        ensure!(code == 200, "{body}");
        let report: nvgate::admin::bgp::ExplainReport = serde_json::from_str(&body)?;
        let told = report.advertised.iter().find(|told| told.peer == words);
        let path = told.and_then(|told| told.paths.first()).context("a path")?;
        let mark = format!("only to customers of AS {asn}");
        ensure!(path.attributes.others.contains(&mark), "{report:?}");
        Ok(())
    };
    marked("below", "65010", PREFIX)?;
    marked("below", "64512", "10.2.0.0/24")?;
    // Who says it is what we are is refused, as is who says nothing where it must.
    for (name, sentence) in [("wrong", "role mismatch"), ("strict", "role mismatch")] {
        lab.wait(&format!("{name} is refused"), || {
            let peer = peer(&lab, "blue", name)?;
            let error = peer.last_error.as_deref().unwrap_or_default();
            ensure!(!peer.up && error.contains(sentence), "{peer:?}");
            let printed = said(&lab, "peers --tenant blue")?;
            ensure!(printed.contains(sentence), "{printed}");
            Ok(())
        })?;
    }
    let before = lab.generation()?;
    lab.edit("blue", "role: customer", "role: provider")?;
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)?;
    are_up(&lab, "blue", &["wrong"])
}

#[test]
fn too_many_prefixes_are_warned_of_end_the_session_and_are_tried_again() -> Result<()> {
    const TEST: &str = "too_many_prefixes_are_warned_of_end_the_session_and_are_tried_again";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let bounded = "{name: web, address: 10.1.0.10, asn: 65010, max_prefixes: \
                   {prefixes: 4, warning_percent: 75, restart_secs: 3}";
    give_vpn(&lab, "red", &gateway(&[bounded], ""))?;
    lab.start()?;
    let vm = lab.vm("red-web");
    let fill = |name: &str, numbers: std::ops::Range<u8>| {
        let routes: String =
            numbers.map(|n| format!(" route 172.30.{n}.0/24 unreachable;")).collect();
        format!("protocol static {name} {{ ipv4;{routes} }}\n")
    };
    let config = bird_with(WEB[0], WEB[1], [65010, 64512], "", CHANNEL)
        + &fill("two", 1..3)
        + &fill("third", 3..4).replace("ipv4;", "disabled; ipv4;")
        + &fill("more", 4..7).replace("ipv4;", "disabled; ipv4;");
    let router = Daemon::bird(lab.config(), vm, &config)?;
    let warned = || -> Result<usize> {
        let log = fs::read_to_string(lab.config().join("gateway-1.log"))?;
        Ok(log.lines().filter(|line| line.contains("near its bound of prefixes")).count())
    };
    are_up(&lab, "red", &["web"])?;
    lab.wait("two prefixes are there", || {
        let peer = peer(&lab, "red", "web")?;
        ensure!(peer.ipv4.accepted == 2, "{peer:?}");
        Ok(())
    })?;
    ensure!(warned()? == 0, "warned of two of four");
    router.ask(vm, "enable third")?;
    lab.wait("a warning is logged", || {
        ensure!(warned()? == 1 && peer(&lab, "red", "web")?.up, "{} warnings", warned()?);
        Ok(())
    })?;
    router.ask(vm, "enable more")?;
    let heard = "Received: Maximum number of prefixes reached";
    shows(&lab, (&router, vm), "show protocols all upstream", &[heard], &[])?;
    let down = lab.wait("the session is over", || {
        let peer = peer(&lab, "red", "web")?;
        ensure!(!peer.up && peer.ipv4.received == 0, "{peer:?}");
        peer.last_down.context("a reason")
    })?;
    ensure!(down.contains("the gateway ended it: maximum number of prefixes"), "{down}");
    let printed = said(&lab, "peers")?;
    ensure!(printed.contains("maximum number of prefixes"), "{printed}");
    router.ask(vm, "disable more")?;
    let began = std::time::Instant::now();
    are_up(&lab, "red", &["web"])?;
    println!("back after {:?}", began.elapsed());
    lab.wait("three prefixes are there", || {
        let peer = peer(&lab, "red", "web")?;
        ensure!(peer.ipv4.accepted == 3 && peer.flaps == 1, "{peer:?}");
        Ok(())
    })
}

#[test]
fn traffic_goes_on_while_bird_and_frr_are_killed_and_come_back() -> Result<()> {
    const TEST: &str = "traffic_goes_on_while_bird_and_frr_are_killed_and_come_back";
    if !has_peers(TEST, &[&BIRD[..], &FRR].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    for tenant in TENANTS {
        give_vpn(&lab, tenant, &gateway(&["{name: web, address: 10.1.0.10, asn: 65010"], ""))?;
        let addresses = [TAUGHT, OTHER];
        let vm = lab.vm(&format!("{tenant}-web"));
        change(vm, "lo", &addresses.map(|address| Change::Add(address.into(), 32)))?;
    }
    lab.start()?;
    // Both teach a second prefix until they are killed.
    let bird = |taught: &str| {
        let more = format!("graceful restart on;\n  graceful restart time 60;\n  {CHANNEL}");
        bird_with(WEB[0], WEB[1], [65010, 64512], taught, &more)
    };
    let frr = |networks: &[&str]| {
        let lines = " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n \
                     bgp graceful-restart restart-time 60";
        frr_with(WEB[0], WEB[1], [65010, 64512], networks, [lines, ""])
    };
    let [red, blue] = TENANTS.map(|tenant| lab.vm(&format!("{tenant}-web")));
    let both = format!("{ROUTE} route 172.31.0.0/16 unreachable;");
    let one = Daemon::bird(lab.config(), red, &bird(&both))?;
    let two = Daemon::frr(lab.config(), blue, &frr(&[PREFIX, "172.31.0.0/16"]))?;
    let clients = TENANTS.map(|tenant| lab.vm(&format!("{tenant}-db")));
    for (tenant, client) in TENANTS.into_iter().zip(clients) {
        are_up(&lab, tenant, &["web"])?;
        for last in [TAUGHT, OTHER] {
            lab.wait(&format!("{tenant} reaches {last}"), || {
                client.run(|| ping(last.into(), Duration::from_millis(300)))??;
                Ok(())
            })?;
        }
    }
    // Both have told everything.
    std::thread::sleep(Duration::from_secs(1));
    let pings = clients.map(|client| Pings::start_patient(client, TAUGHT));
    std::thread::sleep(Duration::from_millis(300));
    drop((one, two));
    for tenant in TENANTS {
        lab.wait(&format!("{tenant}'s routes are stale"), || {
            let peer = peer(&lab, tenant, "web")?;
            ensure!(!peer.up && peer.ipv4.stale && peer.ipv4.accepted == 2, "{peer:?}");
            Ok(())
        })?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let _one = Daemon::bird_again(lab.config(), red, &bird(ROUTE))?;
    let _two = Daemon::frr(lab.config(), blue, &frr(&[PREFIX]))?;
    for tenant in TENANTS {
        are_up(&lab, tenant, &["web"])?;
        lab.wait(&format!("what {tenant}'s router tells no more is gone"), || {
            let peer = peer(&lab, tenant, "web")?;
            ensure!(!peer.ipv4.stale && peer.ipv4.accepted == 1, "{peer:?}");
            ensure!(routes(&lab, tenant, "172.31.0.0/16")?.is_empty(), "still there");
            Ok(())
        })?;
    }
    for (tenant, pings) in TENANTS.into_iter().zip(pings) {
        let (silence, answered) = pings?.end()?;
        println!("{tenant}: silent for {silence:?} at most, {answered} answers");
        ensure!(silence < PATIENT, "{tenant} lost a packet: silent for {silence:?}");
    }
    lab.wait("what is taught no more is not reached", || {
        for client in clients {
            let gone = client.run(|| ping(OTHER.into(), Duration::from_millis(300)))?;
            ensure!(gone.is_err(), "{} still reaches it", client.name());
        }
        Ok(())
    })
}
