//! How sessions with routers of others are secured and kept, how large their messages may be, which
//! of several routers traffic takes, and which way the routers' own does.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nvgate::demo::lab::probe::{Service, ask_tcp, ping};
use nvgate::demo::site::SERVICE_PORT;
use nvgate_tests::bgp_lab::{
    BIRD, Daemon, EXABGP, FRR, GOBGP, OPENBGPD, TAUGHT, reaches_what_was_taught,
};
use nvgate_tests::bgp_routers::{
    APP, CHANNEL, DB, ROUTE, WEB, are_up, bird_with, frr_with, gateway, peer, routes, shows,
};
use nvgate_tests::run_lab::{PATIENCE, RunLab};
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{exec, give_vpn, reaches};

const PREFIX: &str = "172.30.0.0/16";

#[test]
fn five_daemons_sign_keep_their_distance_and_need_no_keepalives() -> Result<()> {
    const TEST: &str = "five_daemons_sign_keep_their_distance_and_need_no_keepalives";
    if !has_peers(TEST, &[&BIRD[..], &FRR, &GOBGP, &OPENBGPD, &EXABGP].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let red = [
        "{name: go, address: 10.1.0.10, asn: 65010, password: one of GoBGP",
        "{name: open, address: 10.1.0.20, asn: 65020, password: one of OpenBGPD, ttl_security: 1, \
         hold_secs: 0",
        "{name: frr, address: 10.2.0.10, asn: 65030, password: FRR, ttl_security: 1, \
         hold_secs: 0",
    ];
    let blue = [
        "{name: bird, address: 10.1.0.10, asn: 65010, ttl_security: 1, hold_secs: 0",
        "{name: exa, address: 10.1.0.20, asn: 65020, password: one of ExaBGP",
        "{name: far, address: 10.2.0.10, asn: 65030, ttl_security: 1",
    ];
    for (tenant, peers) in [("red", &red), ("blue", &blue)] {
        give_vpn(&lab, tenant, &gateway(peers, ""))?;
    }
    lab.start()?;
    let root = lab.config();
    let _go = Daemon::gobgp(
        root,
        lab.vm("red-web"),
        "[global.config]\nas = 65010\nrouter-id = \"10.1.0.10\"\n[[neighbors]]\n\
         [neighbors.config]\nneighbor-address = \"10.1.0.1\"\npeer-as = 64512\n\
         auth-password = \"one of GoBGP\"\n",
    )?;
    let _open = Daemon::openbgpd(
        root,
        lab.vm("red-app"),
        "AS 65020\nrouter-id 10.1.0.20\nlisten on 10.1.0.20\nfib-update no\n\
         neighbor 10.1.0.1 {\n remote-as 64512\n local-address 10.1.0.20\n ttl-security yes\n \
         tcp md5sig password \"one of OpenBGPD\"\n announce IPv4 unicast\n}\n\
         allow from any\nallow to any\n",
    )?;
    let lines = " neighbor PEER password FRR\n neighbor PEER ttl-security hops 1";
    let frr = frr_with(DB[0], DB[1], [65030, 64512], &[], [lines, ""]);
    let _frr = Daemon::frr(root, lab.vm("red-db"), &frr)?;
    let more = format!("ttl security on;\n  direct;\n  {CHANNEL}");
    let bird = bird_with(WEB[0], WEB[1], [65010, 64512], ROUTE, &more);
    let _bird = Daemon::bird(root, lab.vm("blue-web"), &bird)?;
    let _exa = Daemon::exabgp(
        root,
        lab.vm("blue-app"),
        "neighbor 10.1.0.1 {\n router-id 10.1.0.20;\n local-address 10.1.0.20;\n \
         local-as 65020;\n peer-as 64512;\n md5-password \"one of ExaBGP\";\n}\n",
    )?;
    // It sends with the TTL of who has one hop to go, as anybody far away could.
    let far = bird_with(DB[0], DB[1], [65030, 64512], ROUTE, &format!("direct;\n  {CHANNEL}"));
    let _far = Daemon::bird(root, lab.vm("blue-db"), &far)?;
    are_up(&lab, "red", &["go", "open", "frr"])?;
    are_up(&lab, "blue", &["bird", "exa"])?;
    for (tenant, name, hold_secs) in
        [("red", "go", 90), ("red", "open", 0), ("red", "frr", 0), ("blue", "bird", 0)]
    {
        let peer = peer(&lab, tenant, name)?;
        ensure!(peer.hold_secs == Some(hold_secs), "{peer:?}");
    }
    std::thread::sleep(Duration::from_secs(2));
    let far = peer(&lab, "blue", "far")?;
    ensure!(!far.up && far.messages_received.open == 0, "{far:?}");
    Ok(())
}

#[test]
fn a_route_of_more_than_4096_bytes_goes_to_who_takes_it() -> Result<()> {
    const TEST: &str = "a_route_of_more_than_4096_bytes_goes_to_who_takes_it";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let peers = [
        "{name: web, address: 10.1.0.10, asn: 65010, extended_messages: true",
        "{name: app, address: 10.1.0.20, asn: 65020, extended_messages: true",
        "{name: db, address: 10.2.0.10, asn: 65030",
    ];
    give_vpn(&lab, "red", &gateway(&peers, ""))?;
    lab.start()?;
    let prepended = "bgp_path.prepend(65010); ".repeat(700);
    let communities: String =
        (0..400).map(|number| format!("bgp_community.add((65010, {number})); ")).collect();
    let extended = "enable extended messages on;";
    let long = format!(
        "{extended} ipv4 {{ import all; export filter {{ if source != RTS_STATIC then reject; \
         if net = {PREFIX} then {{ {prepended} {communities} }} accept; }}; }};"
    );
    let both = format!("{ROUTE} route 172.31.0.0/16 unreachable;");
    let start = |vm: &str, at: [&str; 2], asn: u32, taught: &str, more: &str| {
        let config = bird_with(at[0], at[1], [asn, 64512], taught, more);
        Daemon::bird(lab.config(), lab.vm(vm), &config)
    };
    let _web = start("red-web", WEB, 65010, &both, &long)?;
    let app = start("red-app", APP, 65020, "", &format!("{extended} {CHANNEL}"))?;
    let db = start("red-db", DB, 65030, "", CHANNEL)?;
    are_up(&lab, "red", &["web", "app", "db"])?;
    let there = "(65010,399)";
    let words = "show route all for 172.30.0.0/16";
    shows(&lab, (&app, lab.vm("red-app")), words, &[there, "64512 65010 65010"], &[])?;
    shows(&lab, (&db, lab.vm("red-db")), "show route", &["172.31.0.0/16"], &[PREFIX])?;
    lab.wait("what does not fit is counted", || {
        let [app, db] = [peer(&lab, "red", "app")?, peer(&lab, "red", "db")?];
        ensure!(app.errors.unsendable_routes == 0, "{app:?}");
        ensure!(db.up && db.errors.unsendable_routes > 0, "{db:?}");
        Ok(())
    })
}

/// Behind the routers of the next test: in a prefix that is a black hole, and in none.
const UNWANTED: Ipv4Addr = Ipv4Addr::new(172, 30, 66, 6);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 88, 1, 1);

#[test]
fn routers_share_traffic_until_one_says_that_it_goes_and_discard_what_they_ask_for() -> Result<()> {
    const TEST: &str =
        "routers_share_traffic_until_one_says_that_it_goes_and_discard_what_they_ask_for";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let peers = [
        "{name: web, address: 10.1.0.10, asn: 65010, blackhole: true, accept_default: true",
        "{name: app, address: 10.1.0.20, asn: 65010",
    ];
    give_vpn(&lab, "red", &gateway(&peers, "  decision: {multipath: 2}\n"))?;
    lab.start()?;
    let mut behind = Vec::new();
    for name in ["web", "app"] {
        let vm = lab.vm(&format!("red-{name}"));
        let addresses = [TAUGHT, UNWANTED, ELSEWHERE];
        change(vm, "lo", &addresses.map(|address| Change::Add(address.into(), 32)))?;
        let socket = SocketAddr::new(TAUGHT.into(), SERVICE_PORT);
        behind.push(Service::start(vm, name, &[socket])?);
    }
    let channel = "ipv4 { import all; export filter {
      if source != RTS_STATIC then reject;
      if proto = \"leaving\" then bgp_community.add((65535, 0));
      if proto = \"unwanted\" then bgp_community.add((65535, 666));
      accept;
    }; };";
    let more = |name: &str, route: &str| {
        format!("protocol static {name} {{ disabled; ipv4; route {route} unreachable; }}\n")
    };
    let web = bird_with(WEB[0], WEB[1], [65010, 64512], ROUTE, channel)
        + &more("unwanted", "172.30.66.6/32")
        + &more("anywhere", "0.0.0.0/0");
    let app = bird_with(APP[0], APP[1], [65010, 64512], ROUTE, channel) + &more("leaving", PREFIX);
    let web = Daemon::bird(lab.config(), lab.vm("red-web"), &web)?;
    let app = Daemon::bird(lab.config(), lab.vm("red-app"), &app)?;
    are_up(&lab, "red", &["web", "app"])?;
    let client = lab.vm("red-db");
    reaches_what_was_taught(&lab, client)?;
    let answering = || -> Result<BTreeSet<String>> {
        let target = SocketAddr::new(TAUGHT.into(), SERVICE_PORT);
        let ask = || client.run(|| ask_tcp(target, "who", PATIENCE));
        (0..24).map(|_| Ok(ask()??.label)).collect()
    };
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    lab.wait("both carry traffic", || {
        let (labels, both): (_, BTreeSet<String>) = (answering()?, named(&["web", "app"]));
        ensure!(labels == both, "{labels:?}");
        Ok(())
    })?;
    // RFC 8326: who is about to go carries nothing more.
    app.ask(lab.vm("red-app"), "enable leaving")?;
    app.ask(lab.vm("red-app"), "disable taught")?;
    lab.wait("one carries traffic", || {
        let (labels, one): (_, BTreeSet<String>) = (answering()?, named(&["web"]));
        ensure!(labels == one, "{labels:?}");
        let routes = routes(&lab, "red", PREFIX)?;
        let leaving = routes.iter().find(|route| route.peer.as_deref() == Some("app"));
        let imported = leaving.and_then(|route| route.imported.as_ref());
        ensure!(imported.is_some_and(|made| made.local_preference == Some(0)), "{routes:?}");
        Ok(())
    })?;
    // RFC 7999: what is asked to be discarded is, and nothing beside it.
    let reached = |address: Ipv4Addr| {
        client.run(|| ping(address.into(), Duration::from_millis(300))).is_ok_and(|r| r.is_ok())
    };
    ensure!(reached(UNWANTED) && !reached(ELSEWHERE), "before they are taught");
    for words in ["enable unwanted", "enable anywhere"] {
        web.ask(lab.vm("red-web"), words)?;
    }
    lab.wait("one is discarded, all else goes to the router", || {
        ensure!(!reached(UNWANTED), "it is still reached");
        ensure!(reached(TAUGHT) && reached(ELSEWHERE), "others are not reached");
        let routes = routes(&lab, "red", "172.30.66.6/32")?;
        ensure!(routes.iter().all(|route| route.best && route.discard), "{routes:?}");
        Ok(())
    })
}

/// A BIRD that puts what it learns into its kernel, over one session for both families.
fn forwarding_bird(
    [local, gateway]: [&str; 2],
    identifier: &str,
    asn: u32,
    taught: &str,
) -> String {
    let kernel = |family: &str| {
        format!(
            "protocol kernel {{ {family} {{ import none; export where source = RTS_BGP; }}; }}\n"
        )
    };
    let channel =
        |family: &str| format!("  {family} {{ import all; export where source = RTS_STATIC; }};\n");
    format!(
        "router id {identifier};
protocol device {{}}
{}{}{taught}
protocol bgp upstream {{
  local {local} as {asn};
  neighbor {gateway} as 64512;
  direct;
  connect delay time 1;
  connect retry time 2;
{}{}}}
",
        kernel("ipv4"),
        kernel("ipv6"),
        channel("ipv4"),
        channel("ipv6")
    )
}

#[test]
fn kernels_of_routers_forward_by_what_the_gateway_tells_them_over_a_session_of_either_family()
-> Result<()> {
    const TEST: &str =
        "kernels_of_routers_forward_by_what_the_gateway_tells_them_over_a_session_of_either_family";
    if !has_peers(TEST, &[&BIRD[..], &["ip"]].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let peers = [
        "{name: web, address: 10.1.0.10, asn: 65010, families: [ipv4, ipv6]",
        "{name: db, address: 'fd00:2::a', asn: 65020, families: [ipv4, ipv6]",
    ];
    give_vpn(&lab, "red", &gateway(&peers, ""))?;
    lab.start()?;
    let taught: IpAddr = "fd00:30::1".parse()?;
    let web = lab.site.vm("red-web");
    let db = lab.site.vm("red-db");
    let lo = [Change::Add(TAUGHT.into(), 32), Change::Add(taught, 128)];
    change(&web.namespace, "lo", &lo)?;
    for (vm, link_local) in [(web, "fe80::a"), (db, "fe80::d")] {
        change(&vm.namespace, "eth0", &[Change::Add(link_local.parse()?, 64)])?;
        for line in ["ip route del default", "ip -6 route del default"] {
            exec(&vm.namespace, line)?;
        }
    }
    let of_web = "protocol static { ipv4; route 172.30.0.0/16 unreachable; }
protocol static { ipv6; route fd00:30::/64 unreachable; }";
    let config = forwarding_bird(WEB, "10.1.0.10", 65010, of_web);
    let first = Daemon::bird(lab.config(), &web.namespace, &config)?;
    let config = forwarding_bird(["fd00:2::a", "fd00:2::1"], "10.2.0.10", 65020, "");
    let second = Daemon::bird(lab.config(), &db.namespace, &config)?;
    are_up(&lab, "red", &["web", "db"])?;
    for address in [TAUGHT.into(), taught] {
        lab.wait(&format!("{address} is reached"), || {
            db.namespace.run(|| ping(address, Duration::from_millis(300)))??;
            Ok(())
        })?;
    }
    let own = [db.ipv4.into(), db.ipv6.context("IPv6")?];
    for (address, source) in [(IpAddr::from(web.ipv4), own[0]), (web.ipv6.context("IPv6")?, own[1])]
    {
        reaches(&db.namespace, address, "red-web", source)?;
    }
    // Told over IPv4 of IPv6 and the other way round: each next hop is on the router's own link.
    let answer = first.ask(&web.namespace, "show route for fd00:2::/64")?;
    ensure!(answer.contains("via fd00:1::1 on eth0"), "{answer}");
    let answer = second.ask(&db.namespace, "show route for 172.30.0.0/16")?;
    ensure!(answer.contains("via 10.2.0.1 on eth0"), "{answer}");
    Ok(())
}
