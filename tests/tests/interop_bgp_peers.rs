//! BGP with GoBGP, OpenBGPD and ExaBGP as routers of two tenants with the same addresses and AS
//! numbers: in VMs, each in its own way of exchanging both families, and behind a tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::Service;
use nvgate::demo::site::SERVICE_PORT;
use nvgate_tests::bgp_lab::{Daemon, EXABGP, FRR, GOBGP, OPENBGPD};
use nvgate_tests::bgp_routers::{are_up, frr_with, peer, said};
use nvgate_tests::bgp_tunnels::{BEHIND, BEHIND_PREFIX, Routed, TUNNEL_ENDS, tunnelled};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{answers, build, give_vpn};
use nvgate_tests::wg_twins::{TENANTS, WEB};

/// Both families over IPv4, a session for each family, both over IPv6.
const GATEWAY: &str = "bgp:
  asn: 64512
  peers:
    - {name: go, address: 10.1.0.10, asn: 65010, families: [ipv4, ipv6], connect_retry_secs: 2}
    - {name: open, address: 10.1.0.20, asn: 65020, connect_retry_secs: 2}
    - {name: open6, address: 'fd00:1::14', asn: 65020, connect_retry_secs: 2}
    - {name: exa, address: 'fd00:2::a', asn: 65030, families: [ipv4, ipv6], connect_retry_secs: 2}
";

const GOBGP_CONFIG: &str = "[global.config]
as = 65010
router-id = \"10.1.0.10\"
[[neighbors]]
[neighbors.config]
neighbor-address = \"10.1.0.1\"
peer-as = 64512
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = \"ipv4-unicast\"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = \"ipv6-unicast\"
";

const OPENBGPD_CONFIG: &str = "AS 65020
router-id 10.1.0.20
listen on 10.1.0.20
listen on fd00:1::14
fib-update no
nexthop qualify via default
network 172.30.2.0/24 set nexthop 10.1.0.20
network fd00:30:2::/64 set nexthop fd00:1::14
neighbor 10.1.0.1 {
  remote-as 64512
  local-address 10.1.0.20
  announce IPv4 unicast
}
neighbor fd00:1::1 {
  remote-as 64512
  local-address fd00:1::14
  announce IPv6 unicast
}
allow from any
allow to any
";

const EXABGP_CONFIG: &str = "neighbor fd00:2::1 {
  router-id 10.2.0.10;
  local-address fd00:2::a;
  local-as 65030;
  peer-as 64512;
  family { ipv4 unicast; ipv6 unicast; }
  capability { route-refresh enable; }
  api { processes [ api ]; receive { parsed; update; notification; } }
  static {
    route 172.30.3.0/24 next-hop 10.2.0.10;
    route fd00:30:3::/64 next-hop fd00:2::a;
  }
}
";

/// The VMs that the routers are in.
const ROUTERS: [&str; 3] = ["web", "app", "db"];

/// What the router with this number teaches, and an address in it.
fn taught(number: u8) -> [(String, IpAddr); 2] {
    let ipv4 = Ipv4Addr::new(172, 30, number, 1);
    let ipv6 = [0xfd00, 0x30, number.into(), 0, 0, 0, 0, 1];
    [
        (format!("172.30.{number}.0/24"), ipv4.into()),
        (format!("fd00:30:{number}::/64"), ipv6.into()),
    ]
}

/// The routers of one tenant, in the order of [`ROUTERS`].
fn start(lab: &RunLab, tenant: &str) -> Result<[Daemon; 3]> {
    let [web, app, db] = ROUTERS.map(|vm| lab.vm(&format!("{tenant}-{vm}")));
    let go = Daemon::gobgp(lab.config(), web, GOBGP_CONFIG)?;
    for words in [
        "global rib add 172.30.1.0/24 nexthop 10.1.0.10 -a ipv4",
        "global rib add fd00:30:1::/64 nexthop fd00:1::a -a ipv6",
    ] {
        lab.wait("GoBGP takes a route", || go.ask(web, words))?;
    }
    let open = Daemon::openbgpd(lab.config(), app, OPENBGPD_CONFIG)?;
    let exa = Daemon::exabgp(lab.config(), db, EXABGP_CONFIG)?;
    Ok([go, open, exa])
}

#[test]
fn gobgp_openbgpd_and_exabgp_teach_each_other_both_families_through_the_gateway() -> Result<()> {
    const TEST: &str =
        "gobgp_openbgpd_and_exabgp_teach_each_other_both_families_through_the_gateway";
    if !has_peers(TEST, &[&GOBGP[..], &OPENBGPD, &EXABGP].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let mut behind = Vec::new();
    for tenant in TENANTS {
        give_vpn(&lab, tenant, GATEWAY)?;
        for (vm, number) in ROUTERS.iter().zip(1..) {
            let vm = lab.vm(&format!("{tenant}-{vm}"));
            // Without a link-local address a kernel solicits no neighbours for what lies behind it.
            let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number.into());
            change(vm, "eth0", &[Change::Add(link_local.into(), 64)])?;
            let sockets = taught(number).map(|(_, at)| SocketAddr::new(at, SERVICE_PORT));
            let lengths = [32, 128];
            let addresses = sockets.map(|socket| socket.ip());
            for (address, length) in addresses.into_iter().zip(lengths) {
                change(vm, "lo", &[Change::Add(address, length)])?;
            }
            // An IPv6 address is there a moment after it was added.
            let service = lab.wait("a service behind the router", || {
                Ok(Service::start(vm, &format!("behind-{tenant}-{number}"), &sockets)?)
            });
            behind.push(service?);
        }
    }
    lab.start()?;
    let routers = TENANTS.map(|tenant| start(&lab, tenant));
    let mut kept = Vec::new();
    for (tenant, routers) in TENANTS.into_iter().zip(routers) {
        let routers = routers?;
        are_up(&lab, tenant, &["go", "open", "open6", "exa"])?;
        each_has_the_routes_of_the_others(&lab, tenant, &routers)?;
        each_reaches_what_the_others_taught(&lab, tenant)?;
        kept.push(routers);
    }
    println!("{}", said(&lab, "peers")?);
    for (tenant, routers) in TENANTS.into_iter().zip(&kept) {
        refreshes_are_answered(&lab, tenant, routers)?;
    }
    what_is_withdrawn_is_gone(&lab, TENANTS[0], &kept[0])
}

/// What a router says of all its routes.
fn shown(lab: &RunLab, tenant: &str, routers: &[Daemon; 3], number: usize) -> Result<String> {
    let vm = lab.vm(&format!("{tenant}-{}", ROUTERS[number]));
    let router = &routers[number];
    match number {
        0 => {
            let [ipv4, ipv6] = ["ipv4", "ipv6"]
                .map(|family| router.ask(vm, &format!("neighbor 10.1.0.1 adj-in -a {family}")));
            Ok(ipv4? + &ipv6?)
        }
        1 => router.ask(vm, "show rib in"),
        _ => router.ask(vm, ""),
    }
}

/// Each is told the tenant's subnets and what both others taught, with the gateway's address of the
/// subnet that it is in as the next hop.
fn each_has_the_routes_of_the_others(
    lab: &RunLab,
    tenant: &str,
    routers: &[Daemon; 3],
) -> Result<()> {
    let subnet = |number: usize| if number == 2 { 2 } else { 1 };
    for (number, name) in ROUTERS.iter().enumerate() {
        lab.wait(&format!("{tenant}'s {name} learns"), || {
            let routes = shown(lab, tenant, routers, number)?;
            let others = (0..ROUTERS.len()).filter(|other| *other != number);
            let others = others.flat_map(|other| taught(other as u8 + 1)).map(|(prefix, _)| prefix);
            let subnets = ["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64", "fd00:2::/64"];
            for prefix in others.chain(subnets.map(str::to_owned)) {
                ensure!(routes.contains(&prefix), "no {prefix} in {routes}");
            }
            let place = subnet(number);
            for next_hop in [format!("10.{place}.0.1"), format!("fd00:{place}::1")] {
                ensure!(routes.contains(&next_hop), "no {next_hop} in {routes}");
            }
            let elsewhere = 3 - place;
            for next_hop in [format!("10.{elsewhere}.0.1"), format!("fd00:{elsewhere}::1")] {
                let named = |line: &str| line.split([' ', '"', '\t']).any(|word| word == next_hop);
                ensure!(!routes.lines().any(named), "{next_hop} in {routes}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn each_reaches_what_the_others_taught(lab: &RunLab, tenant: &str) -> Result<()> {
    for (from, name) in ROUTERS.iter().enumerate() {
        let vm = lab.site.vm(&format!("{tenant}-{name}"));
        for to in (1..).take(ROUTERS.len()).filter(|to| usize::from(*to) != from + 1) {
            let sources = [vm.ipv4.into(), vm.ipv6.context("IPv6")?];
            for ((prefix, target), source) in taught(to).into_iter().zip(sources) {
                let label = format!("behind-{tenant}-{to}");
                let target = SocketAddr::new(target, SERVICE_PORT);
                lab.wait(&format!("{tenant}-{name} reaches {prefix}"), || {
                    answers(&vm.namespace, target, &label, source)
                })?;
            }
        }
    }
    Ok(())
}

/// OpenBGPD and ExaBGP ask to be told again, and are, with nothing lost. (GoBGP keeps what it was
/// told and asks nobody.)
fn refreshes_are_answered(lab: &RunLab, tenant: &str, routers: &[Daemon; 3]) -> Result<()> {
    for (number, name, words) in [
        (1, "open", "neighbor 10.1.0.1 refresh"),
        (2, "exa", "neighbor fd00:2::1 announce route-refresh ipv4 unicast"),
    ] {
        let before = peer(lab, tenant, name)?;
        let vm = lab.vm(&format!("{tenant}-{}", ROUTERS[number]));
        routers[number].ask(vm, words)?;
        lab.wait(&format!("{tenant}'s {name} is told again"), || {
            let after = peer(lab, tenant, name)?;
            let [asked, told] = [&before, &after].map(|peer| peer.messages_received.route_refresh);
            ensure!(told > asked, "{after:?}");
            ensure!(after.messages_sent.update > before.messages_sent.update, "{after:?}");
            ensure!(after.up && after.flaps == 0, "{after:?}");
            Ok(())
        })?;
    }
    each_has_the_routes_of_the_others(lab, tenant, routers)
}

/// A route that GoBGP takes back and one that ExaBGP does are gone from OpenBGPD; their other
/// family's are not.
fn what_is_withdrawn_is_gone(lab: &RunLab, tenant: &str, routers: &[Daemon; 3]) -> Result<()> {
    let [go, open, exa] = routers;
    let [web, app, db] = ROUTERS.map(|vm| lab.vm(&format!("{tenant}-{vm}")));
    go.ask(web, "global rib del 172.30.1.0/24 -a ipv4")?;
    exa.ask(db, "neighbor fd00:2::1 withdraw route fd00:30:3::/64 next-hop fd00:2::a")?;
    lab.wait("withdrawn routes are gone", || {
        let routes = open.ask(app, "show rib in")?;
        for (prefix, there) in [
            ("172.30.1.0/24", false),
            ("fd00:30:1::/64", true),
            ("172.30.3.0/24", true),
            ("fd00:30:3::/64", false),
        ] {
            ensure!(routes.contains(prefix) == there, "{prefix} in {routes}");
        }
        Ok(())
    })
}

/// A router behind a tunnel, by its tenant: GoBGP, and OpenBGPD.
fn start_behind_a_tunnel(lab: &RunLab, tenant: &str, router: &Namespace) -> Result<Daemon> {
    let [gateway, own] = TUNNEL_ENDS;
    if tenant == TENANTS[0] {
        let config = format!(
            "[global.config]\nas = 65010\nrouter-id = \"{own}\"\n[[neighbors]]\n\
             [neighbors.config]\nneighbor-address = \"{gateway}\"\npeer-as = 64512\n\
             [neighbors.transport.config]\nlocal-address = \"{own}\"\n\
             [neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 64\n"
        );
        let daemon = Daemon::gobgp(lab.config(), router, &config)?;
        let words = format!("global rib add {BEHIND_PREFIX} nexthop {own} -a ipv4");
        lab.wait("GoBGP takes a route", || daemon.ask(router, &words))?;
        return Ok(daemon);
    }
    let config = format!(
        "AS 65010\nrouter-id {own}\nlisten on {own}\nfib-update no\n\
         nexthop qualify via default\nnetwork {BEHIND_PREFIX} set nexthop {own}\n\
         neighbor {gateway} {{\n remote-as 64512\n local-address {own}\n multihop 64\n\
         announce IPv4 unicast\n}}\nallow from any\nallow to any\n"
    );
    Daemon::openbgpd(lab.config(), router, &config)
}

/// A router behind a tunnel, by its tenant: FRR, and ExaBGP.
fn start_others_behind_a_tunnel(lab: &RunLab, tenant: &str, router: &Namespace) -> Result<Daemon> {
    let [gateway, own] = TUNNEL_ENDS.map(|end| end.to_string());
    if tenant == TENANTS[0] {
        let far = format!(" neighbor PEER ebgp-multihop 64\n neighbor PEER update-source {own}");
        let config = frr_with(&own, &gateway, [65010, 64512], &[BEHIND_PREFIX], [&far, ""]);
        return Daemon::frr(lab.config(), router, &config);
    }
    let config = format!(
        "neighbor {gateway} {{\n router-id {own};\n local-address {own};\n local-as 65010;\n \
         peer-as 64512;\n family {{ ipv4 unicast; }}\n \
         api {{ processes [ api ]; receive {{ parsed; update; }} }}\n \
         static {{ route {BEHIND_PREFIX} next-hop {own}; }}\n}}\n"
    );
    Daemon::exabgp(lab.config(), router, &config)
}

/// The routers teach what lies behind them, traffic goes there, and they show by these words what the
/// gateway told them.
fn teach_through_tunnels(
    mut lab: RunLab,
    start: impl Fn(&RunLab, &str, &Namespace) -> Result<Daemon>,
    words: [&str; 2],
) -> Result<()> {
    let tunnelled = tunnelled(&mut lab, start)?;
    for ((tenant, words), routed) in TENANTS.into_iter().zip(words).zip(&tunnelled.routed) {
        let Routed { premises, daemon, .. } = routed;
        let vm = lab.vm(&format!("{tenant}-web"));
        let target = SocketAddr::new(BEHIND.into(), SERVICE_PORT);
        lab.wait(&format!("{tenant} reaches {BEHIND}"), || {
            answers(vm, target, &format!("behind-{tenant}"), WEB.into())
        })?;
        lab.wait("it learns the tenant's subnets", || {
            let routes = daemon.ask(&premises.router, words)?;
            ensure!(routes.contains("10.1.0.0/24") && routes.contains("10.2.0.0/24"), "{routes}");
            ensure!(routes.contains(&TUNNEL_ENDS[0].to_string()), "{routes}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn gobgp_and_openbgpd_behind_tunnels_teach_what_lies_behind_them() -> Result<()> {
    const TEST: &str = "gobgp_and_openbgpd_behind_tunnels_teach_what_lies_behind_them";
    if !has_peers(TEST, &[&GOBGP[..], &OPENBGPD].concat()) {
        return Ok(());
    }
    let Some(lab) = build(TEST, 2)? else { return Ok(()) };
    teach_through_tunnels(lab, start_behind_a_tunnel, ["global rib", "show rib"])
}

#[test]
fn frr_and_exabgp_behind_tunnels_teach_what_lies_behind_them() -> Result<()> {
    const TEST: &str = "frr_and_exabgp_behind_tunnels_teach_what_lies_behind_them";
    if !has_peers(TEST, &[&FRR[..], &EXABGP].concat()) {
        return Ok(());
    }
    let Some(lab) = build(TEST, 2)? else { return Ok(()) };
    teach_through_tunnels(lab, start_others_behind_a_tunnel, ["show bgp ipv4 unicast", ""])
}
