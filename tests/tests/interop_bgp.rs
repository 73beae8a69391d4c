//! BGP with routers of tenants: BIRD and FRR in VMs, with the same addresses and AS numbers in every
//! tenant, and the real gateway between them and the tenants' other VMs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nvgate::admin::bgp::{ExplainReport, PeersReport, RouteReport, RoutesReport, RuleReport};
use nvgate::admin::health::HealthState;
use nvgate::demo::lab::probe::{Service, ping};
use nvgate::demo::site::SERVICE_PORT;
use nvgate_tests::bgp_lab::{BIRD, Daemon, FRR, GATEWAY, TAUGHT, bird, established};
use nvgate_tests::bgp_routers::{
    CHANNEL, ROUTE, WEB as ROUTER, bird_with, frr_with, nvgate_bgp, said,
};
use nvgate_tests::bgp_tunnels::{BEHIND, BEHIND_PREFIX, Routed, TUNNEL_ENDS, tunnelled};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{build, give_vpn, reaches};
use nvgate_tests::wg_twins::{TENANTS, WEB};

/// The other VM of each tenant.
const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);

/// The same, with a rule that rejects one of the router's prefixes.
const GATEWAY_WITH_POLICY: &str = "bgp:
  asn: 64512
  peers:
    - {name: router, address: 10.1.0.10, asn: 65010, hold_secs: 9, connect_retry_secs: 2, import: from-router}
  policies:
    - name: from-router
      rules:
        - {match: {prefix: 172.31.0.0/16}, then: reject}
        - {set: {local_preference: 200}, then: accept}
";

fn bird_of_one() -> String {
    bird_with(ROUTER[0], ROUTER[1], [65010, 64512], ROUTE, CHANNEL)
}

/// A router that teaches a second prefix, with a community on both.
fn bird_of_two() -> String {
    let taught = format!("{ROUTE} route 172.31.0.0/16 unreachable;");
    let export = "bgp_community.add((65010, 7)); accept;";
    let channel = format!("ipv4 {{ import all; export filter {{ {export} }}; }};");
    bird_with(ROUTER[0], ROUTER[1], [65010, 64512], &taught, &channel)
}

/// Twins with a router in the web VM of each, and what is behind it.
struct Twins {
    _behind: Vec<Service>,
    lab: RunLab,
}

fn routed(test: &str, workers: usize, gateway: &str) -> Result<Option<Twins>> {
    let Some(mut lab) = RunLab::build(test, workers)? else { return Ok(None) };
    let mut behind = Vec::new();
    for tenant in TENANTS {
        give_vpn(&lab, tenant, gateway)?;
        let vm = lab.vm(&format!("{tenant}-web"));
        change(vm, "lo", &[Change::Up, Change::Add(TAUGHT.into(), 32)])?;
        let socket = SocketAddr::new(TAUGHT.into(), SERVICE_PORT);
        behind.push(Service::start(vm, &format!("behind-{tenant}"), &[socket])?);
    }
    lab.start()?;
    Ok(Some(Twins { _behind: behind, lab }))
}

/// From each tenant's other VM one reaches what its own router taught, and nobody else's.
fn each_reaches_what_was_taught(lab: &RunLab) -> Result<()> {
    for tenant in TENANTS {
        let database = lab.vm(&format!("{tenant}-db"));
        let label = format!("behind-{tenant}");
        lab.wait(&format!("{tenant} reaches {TAUGHT}"), || {
            reaches(database, TAUGHT.into(), &label, DATABASE.into())
        })?;
    }
    Ok(())
}

#[test]
fn routers_of_twins_teach_and_learn_with_bird() -> Result<()> {
    const TEST: &str = "routers_of_twins_teach_and_learn_with_bird";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    for workers in [1, 2] {
        let Some(Twins { lab, _behind }) = routed(TEST, workers, GATEWAY)? else { return Ok(()) };
        let config = bird_of_one();
        let routers: Vec<_> = TENANTS
            .iter()
            .map(|tenant| Daemon::bird(lab.config(), lab.vm(&format!("{tenant}-web")), &config))
            .collect::<Result<_>>()?;
        each_reaches_what_was_taught(&lab)?;
        for (tenant, router) in TENANTS.iter().zip(&routers) {
            let vm = lab.vm(&format!("{tenant}-web"));
            let routes = lab.wait("BIRD learns", || {
                let routes = router.ask(vm, "show route all")?;
                ensure!(routes.contains("10.2.0.0/24"), "{routes}");
                Ok(routes)
            })?;
            println!("{routes}");
            for part in ["via 10.1.0.1", "BGP.as_path: 64512", "BGP.origin: IGP"] {
                ensure!(routes.contains(part), "no {part} in {routes}");
            }
            router.ask(vm, "disable taught")?;
        }
        // What is withdrawn goes the way of everything else: out by NAT, where nobody has it.
        lab.wait("what was withdrawn is gone", || {
            for tenant in TENANTS {
                let database = lab.vm(&format!("{tenant}-db"));
                let still = database.run(|| ping(TAUGHT.into(), Duration::from_millis(300)))?;
                ensure!(still.is_err(), "{tenant} still reaches {TAUGHT}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn signed_sessions_come_up_with_the_right_password_only() -> Result<()> {
    const TEST: &str = "signed_sessions_come_up_with_the_right_password_only";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let signed = GATEWAY.replace("hold_secs: 9", "hold_secs: 90, password: between us");
    for tenant in TENANTS {
        give_vpn(&lab, tenant, &signed)?;
    }
    lab.start()?;
    let config = |password: &str| {
        let gateway = Ipv4Addr::new(10, 1, 0, 1);
        bird(WEB, gateway, "172.30.0.0/16", &format!("  password \"{password}\";\n"))
    };
    let [red, blue] = ["red-web", "blue-web"].map(|name| lab.vm(name));
    let right = Daemon::bird(lab.config(), red, &config("between us"))?;
    let wrong = Daemon::bird(lab.config(), blue, &config("among us"))?;
    lab.wait("the signed session is up", || established(&right, red))?;
    std::thread::sleep(Duration::from_secs(4));
    ensure!(established(&wrong, blue).is_err(), "a wrong password is as good as the right one");
    established(&right, red)?;
    let refused = |tenant| -> Result<_> {
        let refused = lab.tenant(tenant)?.context("it is served")?.refused.0;
        Ok(refused.get("signature_wrong").copied().unwrap_or_default())
    };
    ensure!(refused("blue")? > 0 && refused("red")? == 0, "{:?}", lab.status()?);
    let (_, metrics) = lab.ask("/metrics")?;
    let sample =
        "nvgate_tenant_endpoint_refusals_total{tenant=\"blue\",reason=\"signature_wrong\"}";
    ensure!(metrics.contains(sample), "{metrics}");
    Ok(())
}

#[test]
fn a_router_behind_a_tunnel_teaches_what_lies_behind_it() -> Result<()> {
    const TEST: &str = "a_router_behind_a_tunnel_teaches_what_lies_behind_it";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = build(TEST, 2)? else { return Ok(()) };
    let [gateway, own] = TUNNEL_ENDS;
    let config = bird(own, gateway, BEHIND_PREFIX, "  multihop;\n");
    let tunnelled =
        tunnelled(&mut lab, |lab, _, router| Daemon::bird(lab.config(), router, &config))?;
    for (tenant, Routed { premises, .. }) in TENANTS.iter().zip(&tunnelled.routed) {
        let vm = lab.vm(&format!("{tenant}-web"));
        lab.wait(&format!("{tenant} reaches {BEHIND}"), || {
            reaches(vm, BEHIND.into(), &format!("behind-{tenant}"), WEB.into())
        })?;
        reaches(&premises.client, WEB.into(), &format!("{tenant}-web"), premises.ipv4.into())?;
    }
    Ok(())
}

#[test]
fn routers_of_twins_teach_and_learn_with_frr() -> Result<()> {
    const TEST: &str = "routers_of_twins_teach_and_learn_with_frr";
    if !has_peers(TEST, &FRR) {
        return Ok(());
    }
    let Some(Twins { lab, _behind }) = routed(TEST, 2, GATEWAY)? else { return Ok(()) };
    let taught = ["172.30.0.0/16"];
    let config = frr_with(ROUTER[0], ROUTER[1], [65010, 64512], &taught, ["", ""]);
    let routers: Vec<_> = TENANTS
        .iter()
        .map(|tenant| Daemon::frr(lab.config(), lab.vm(&format!("{tenant}-web")), &config))
        .collect::<Result<_>>()?;
    each_reaches_what_was_taught(&lab)?;
    for (tenant, router) in TENANTS.iter().zip(&routers) {
        let vm = lab.vm(&format!("{tenant}-web"));
        lab.wait("FRR learns", || {
            let routes = router.ask(vm, "show bgp ipv4 unicast 10.2.0.0/24")?;
            ensure!(routes.contains("64512") && routes.contains("10.1.0.1"), "{routes}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn an_operator_sees_peers_and_why_a_route_is_used_with_bird() -> Result<()> {
    const TEST: &str = "an_operator_sees_peers_and_why_a_route_is_used_with_bird";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(Twins { lab, _behind }) = routed(TEST, 1, GATEWAY_WITH_POLICY)? else {
        return Ok(());
    };
    let [tenant, other] = TENANTS;
    lab.wait("what is not established is degraded", || {
        let name = format!("bgp {tenant}/router");
        let complaints = lab.complaints()?;
        let mine = complaints.iter().find(|part| part.name == name);
        let mine = mine.with_context(|| format!("{complaints:?}"))?;
        let reason = mine.reason.as_deref().unwrap_or_default();
        ensure!(reason.starts_with("no session with 10.1.0.10"), "{mine:?}");
        ensure!(mine.status == HealthState::Degraded, "{mine:?}");
        Ok(())
    })?;

    let vm = lab.vm(&format!("{tenant}-web"));
    let router = Daemon::bird(lab.config(), vm, &bird_of_two())?;
    let peers: PeersReport = lab.wait("the session is shown", || {
        let report: PeersReport = serde_json::from_str(&said(&lab, "peers --json")?)?;
        let mine = report.peers.iter().find(|peer| peer.tenant.as_deref() == Some(tenant));
        ensure!(mine.is_some_and(|peer| peer.up && peer.ipv4.received == 2), "{report:?}");
        Ok(report)
    })?;
    println!("{}", said(&lab, "peers")?);
    ensure!(peers.peers.len() == 2, "{peers:?}");
    let of = |tenant: &str| peers.peers.iter().find(|peer| peer.tenant.as_deref() == Some(tenant));
    let (mine, theirs) = of(tenant).zip(of(other)).with_context(|| format!("{peers:?}"))?;
    ensure!(
        (&*mine.name, &*mine.asn, &*mine.local_asn) == ("router", "65010", "64512"),
        "{mine:?}"
    );
    ensure!(mine.router_id.as_deref() == Some("10.1.0.10"), "{mine:?}");
    ensure!(mine.ipv4.accepted == 1 && mine.hold_secs == Some(9), "{mine:?}");
    ensure!(mine.messages_received.update > 0 && mine.messages_sent.open > 0, "{mine:?}");
    ensure!(!theirs.up && theirs.ipv4.received == 0, "{theirs:?}");
    lab.wait("routes are shown", || routes_are_shown(&lab, tenant))?;
    lab.wait("prefixes are explained", || prefixes_are_explained(&lab, tenant))?;

    lab.wait("metrics and health follow", || {
        let (_, metrics) = lab.ask("/metrics")?;
        let up = |tenant: &str, value: u8| {
            format!("nvgate_bgp_peer_up{{tenant=\"{tenant}\",peer=\"router\"}} {value}\n")
        };
        ensure!(metrics.contains(&up(tenant, 1)) && metrics.contains(&up(other, 0)), "{metrics}");
        let complaints = lab.complaints()?;
        ensure!(complaints.iter().all(|part| part.name != format!("bgp {tenant}/router")));
        Ok(())
    })?;
    for (words, sentence) in [
        ("routes --tenant nobody", "no tenant `nobody` with BGP"),
        (&*format!("routes --tenant {tenant} --peer x"), "has no BGP peer `x`"),
    ] {
        let ended = nvgate_bgp(&lab, words)?;
        ensure!(ended.code == Some(2) && ended.sentence().contains(sentence), "{ended:?}");
    }

    router.ask(vm, "disable upstream")?;
    lab.wait("the end of a session is shown with its reason", || {
        let report: PeersReport =
            serde_json::from_str(&said(&lab, &format!("peers --tenant {tenant} --json"))?)?;
        let [mine] = &report.peers[..] else { anyhow::bail!("{report:?}") };
        let down = mine.last_down.as_deref().unwrap_or_default();
        ensure!(!mine.up && mine.flaps == 1, "{mine:?}");
        ensure!(down.starts_with("the peer ended it: administrative shutdown"), "{mine:?}");
        let (_, body) = lab.ask("/healthz")?;
        ensure!(body.contains("the peer ended it: administrative shutdown"), "{body}");
        Ok(())
    })?;
    println!("{}", said(&lab, "peers")?);
    Ok(())
}

/// The two routes of the router, of which a rule rejects one; and the tenant's own.
fn routes_are_shown(lab: &RunLab, tenant: &str) -> Result<()> {
    println!("{}", said(lab, &format!("routes --tenant {tenant}"))?);
    let words = format!("routes --tenant {tenant} --json");
    let all: RoutesReport = serde_json::from_str(&said(lab, &words)?)?;
    let find = |prefix: &str| {
        let found = all.routes.iter().find(|route| route.prefix == prefix);
        found.with_context(|| format!("no {prefix} in {all:?}"))
    };
    let own = find("10.1.0.0/24")?;
    ensure!(own.peer.is_none() && own.own == ["a subnet of the tenant"] && own.best, "{own:?}");
    let used = find("172.30.0.0/16")?;
    ensure!(used.peer.as_deref() == Some("router") && used.accepted && used.best, "{used:?}");
    ensure!(used.received.as_path == "65010", "{used:?}");
    ensure!(used.received.communities == ["65010:7"], "{used:?}");
    let imported = used.imported.as_ref().context("imported")?;
    ensure!(imported.local_preference == Some(200), "{used:?}");
    rejected_by_the_first_rule(find("172.31.0.0/16")?, tenant)?;

    let words = format!("routes --tenant {tenant} --peer router --json");
    let taught: RoutesReport = serde_json::from_str(&said(lab, &words)?)?;
    ensure!(taught.routes.len() == 2 && taught.after.is_none(), "{taught:?}");
    // Page by page it is the same.
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let (code, body) = lab.ask(&format!("/v1/bgp/routes?tenant={tenant}&limit=1{after}"))?;
        ensure!(code == 200, "{body}");
        let page: RoutesReport = serde_json::from_str(&body)?;
        paged.extend(page.routes.into_iter().map(|route| route.prefix));
        let Some(last) = page.after else { break };
        after = format!("&after={last}");
    }
    let prefixes: Vec<_> = all.routes.iter().map(|route| route.prefix.clone()).collect();
    ensure!(paged == prefixes, "{paged:?} is not {prefixes:?}");
    Ok(())
}

fn rejected_by_the_first_rule(route: &RouteReport, tenant: &str) -> Result<()> {
    ensure!(!route.accepted && !route.best && route.imported.is_none(), "{route:?}");
    ensure!(route.verdict.as_deref() == Some("rejected"), "{route:?}");
    let Some(RuleReport::Configured { policy, rule, file, line }) = &route.rule else {
        anyhow::bail!("{route:?}")
    };
    ensure!((&**policy, *rule) == ("from-router", 1) && *line > 1, "{route:?}");
    ensure!(file.ends_with(&format!("{tenant}.yaml")), "{route:?}");
    Ok(())
}

fn prefixes_are_explained(lab: &RunLab, tenant: &str) -> Result<()> {
    let explain = |prefix: &str| -> Result<ExplainReport> {
        println!("{}", said(lab, &format!("explain --tenant {tenant} {prefix}"))?);
        let words = format!("explain --tenant {tenant} {prefix} --json");
        Ok(serde_json::from_str(&said(lab, &words)?)?)
    };
    let rejected = explain("172.31.0.0/16")?;
    let [route] = &rejected.routes[..] else { anyhow::bail!("{rejected:?}") };
    rejected_by_the_first_rule(route, tenant)?;
    let taught = explain("172.30.0.0/16")?;
    let [teacher] = &taught.advertised[..] else { anyhow::bail!("{taught:?}") };
    ensure!(teacher.paths.is_empty() && teacher.export.is_none(), "{taught:?}");
    let own = explain("10.2.0.0/24")?;
    let [told] = &own.advertised[..] else { anyhow::bail!("{own:?}") };
    let [path] = &told.paths[..] else { anyhow::bail!("{own:?}") };
    ensure!(told.peer == "router" && told.sent, "{own:?}");
    let attributes = &path.attributes;
    ensure!((&*attributes.next_hop, &*attributes.as_path) == ("10.1.0.1", "64512"), "{own:?}");
    let rule = told.export.as_ref().map(|export| (export.accepted, export.rule.to_string()));
    ensure!(rule == Some((true, "the built-in rule tenant-export-subnet".to_owned())), "{own:?}");
    let nothing = explain("192.0.2.0/24")?;
    ensure!(nothing.routes.is_empty() && nothing.prefix == nothing.asked, "{nothing:?}");
    let around = explain("172.30.1.1")?;
    ensure!((&*around.asked, &*around.prefix) == ("172.30.1.1/32", "172.30.0.0/16"), "{around:?}");
    ensure!(around.routes.len() == 1, "{around:?}");
    Ok(())
}
