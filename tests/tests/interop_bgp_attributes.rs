//! What becomes of routes' attributes on their way through the gateway, as routers of others see it:
//! reflection, communities, AS numbers; and what is told again, or for the last time.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nvgate_tests::bgp_lab::{BIRD, Daemon, FRR};
use nvgate_tests::bgp_routers::{
    APP, CHANNEL, DB, ROUTE, WEB, are_up, bird_with, frr_with, gateway, peer, routes, said, shows,
};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::give_vpn;

const PREFIX: &str = "172.30.0.0/16";
const OF_BIRD: &str = "show route all for 172.30.0.0/16";
const OF_FRR: &str = "show bgp ipv4 unicast 172.30.0.0/16";

#[test]
fn routes_are_reflected_between_clients_with_their_originator_and_the_cluster() -> Result<()> {
    const TEST: &str = "routes_are_reflected_between_clients_with_their_originator_and_the_cluster";
    if !has_peers(TEST, &[&BIRD[..], &FRR].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let peers = [
        "{name: web, address: 10.1.0.10, asn: 64512, reflector_client: true",
        "{name: app, address: 10.1.0.20, asn: 64512, reflector_client: true",
        "{name: db, address: 10.2.0.10, asn: 64512",
    ];
    give_vpn(&lab, "red", &gateway(&peers, "  cluster_id: 10.9.9.9\n"))?;
    // Without clients nothing that one router of the AS taught goes to another.
    let none = peers.map(|peer| peer.replace(", reflector_client: true", ""));
    give_vpn(&lab, "blue", &gateway(&none.each_ref().map(String::as_str), ""))?;
    lab.start()?;
    let internal = [64512, 64512];
    let mut kept = Vec::new();
    for tenant in ["red", "blue"] {
        let [web, app, db] = ["web", "app", "db"].map(|vm| lab.vm(&format!("{tenant}-{vm}")));
        let teacher = bird_with(WEB[0], WEB[1], internal, ROUTE, CHANNEL);
        let teacher = Daemon::bird(lab.config(), web, &teacher)?;
        let client = frr_with(APP[0], APP[1], internal, &[], ["", ""]);
        let client = Daemon::frr(lab.config(), app, &client)?;
        let other = "route 172.31.0.0/16 unreachable;";
        let other = bird_with(DB[0], DB[1], internal, other, CHANNEL);
        let other = Daemon::bird(lab.config(), db, &other)?;
        kept.push([teacher, client, other]);
        are_up(&lab, tenant, &["web", "app", "db"])?;
    }
    let [[teacher, client, other], alone] = &kept[..] else { anyhow::bail!("two tenants") };
    let [web, app, db] = ["web", "app", "db"].map(|vm| lab.vm(&format!("red-{vm}")));
    let parts = ["Originator: 10.1.0.10", "Cluster list: 10.9.9.9", "10.1.0.10", "internal"];
    println!("{}", shows(&lab, (client, app), OF_FRR, &parts, &[])?);
    let parts = ["BGP.originator_id: 10.1.0.10", "BGP.cluster_list: 10.9.9.9"];
    println!("{}", shows(&lab, (other, db), OF_BIRD, &parts, &["64512"])?);
    let words = "show route all for 172.31.0.0/16";
    let parts = ["BGP.originator_id: 10.2.0.10", "BGP.next_hop: 10.2.0.10"];
    shows(&lab, (teacher, web), words, &parts, &[])?;
    // Its own does not come back to it.
    shows(&lab, (teacher, web), "show route for 172.30.0.0/16", &["taught"], &["upstream"])?;
    lab.wait("blue's gateway has both routes", || {
        for prefix in [PREFIX, "172.31.0.0/16"] {
            ensure!(routes(&lab, "blue", prefix)?.len() == 1, "no {prefix}");
        }
        Ok(())
    })?;
    let blue = (&alone[2], lab.vm("blue-db"));
    shows(&lab, blue, "show route", &["10.1.0.0/24"], &[PREFIX])?;
    Ok(())
}

#[test]
fn communities_cross_both_ways_and_the_text_of_a_shutdown_is_read() -> Result<()> {
    const TEST: &str = "communities_cross_both_ways_and_the_text_of_a_shutdown_is_read";
    if !has_peers(TEST, &[&BIRD[..], &FRR].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let peers = [
        "{name: web, address: 10.1.0.10, asn: 65010, export: marks",
        "{name: app, address: 10.1.0.20, asn: 65020, export: marks",
    ];
    let policy = "  policies:\n    - name: marks\n      rules:\n        - set:\n            \
                  add_communities: ['64512:1', 'rt:64512:5', '64512:1:2']\n          then: accept\n";
    give_vpn(&lab, "red", &gateway(&peers, policy))?;
    lab.start()?;
    let [web, app] = ["web", "app"].map(|vm| lab.vm(&format!("red-{vm}")));
    let channel = "ipv4 { import all; export filter {
      if source != RTS_STATIC then reject;
      bgp_community.add((65010, 7));
      bgp_ext_community.add((ro, 65010, 8));
      bgp_large_community.add((65010, 9, 10));
      if net = 172.31.0.0/16 then bgp_community.add((65535, 65281));
      accept;
    }; };";
    let taught = format!("{ROUTE} route 172.31.0.0/16 unreachable;");
    let bird = bird_with(WEB[0], WEB[1], [65010, 64512], &taught, channel);
    let bird = (&Daemon::bird(lab.config(), web, &bird)?, web);
    let family = "  neighbor PEER send-community all";
    let frr = frr_with(APP[0], APP[1], [65020, 64512], &[], ["", family]);
    let frr = (&Daemon::frr(lab.config(), app, &frr)?, app);
    are_up(&lab, "red", &["web", "app"])?;
    let parts = ["(64512,1)", "(rt, 64512, 5)", "(64512, 1, 2)"];
    shows(&lab, bird, "show route all for 10.2.0.0/24", &parts, &[])?;
    lab.wait("the gateway has the router's communities", || {
        let routes = routes(&lab, "red", PREFIX)?;
        let received = &routes.first().context("a route")?.received.communities;
        ensure!(received.join(" ") == "65010:7 soo:65010:8 65010:9:10", "{received:?}");
        Ok(())
    })?;
    let parts = [
        "Community: 64512:1 65010:7",
        "Extended Community: RT:64512:5 SoO:65010:8",
        "Large Community: 64512:1:2 65010:9:10",
    ];
    println!("{}", shows(&lab, frr, OF_FRR, &parts, &[])?);
    // NO_EXPORT ends here.
    shows(&lab, frr, "show bgp ipv4 unicast", &[PREFIX], &["172.31.0.0"])?;
    refreshes_are_marked(&lab, bird, frr)?;

    let before = lab.generation()?;
    let text = "moved to the gateway next door";
    for asn in ["65010", "65020"] {
        let from = format!("asn: {asn}, export");
        lab.edit("red", &from, &format!("asn: {asn}, shutdown: {text}, export"))?;
    }
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)?;
    let message = format!("Message:        {text}");
    shows(&lab, bird, "show protocols all upstream", &[&message], &[])?;
    // FRR and the gateway agreed on NOTIFICATIONs that keep routes: this one must not (RFC 8538).
    let part = "Notification received (Cease/Administrative Shutdown/Hard Reset)";
    shows(&lab, frr, "show bgp neighbors 10.1.0.1", &[part], &[])?;
    let peer = peer(&lab, "red", "web")?;
    ensure!(peer.shutdown && !peer.up, "{peer:?}");
    ensure!(said(&lab, "peers")?.contains("shut down"), "{}", said(&lab, "peers")?);
    Ok(())
}

/// BIRD and FRR ask to be told again; what they are told stands between two marks (RFC 7313).
fn refreshes_are_marked(
    lab: &RunLab,
    bird: (&Daemon, &nvgate::demo::lab::Namespace),
    frr: (&Daemon, &nvgate::demo::lab::Namespace),
) -> Result<()> {
    for (name, (router, vm), words) in
        [("web", bird, "reload in upstream"), ("app", frr, "clear bgp 10.1.0.1 soft in")]
    {
        let before = peer(lab, "red", name)?;
        router.ask(vm, words)?;
        lab.wait(&format!("{name} is told again"), || {
            let after = peer(lab, "red", name)?;
            let [asked, was] = [&after, &before].map(|peer| peer.messages_received.route_refresh);
            ensure!(asked > was, "{after:?}");
            let [told, was] = [&after, &before].map(|peer| peer.messages_sent.route_refresh);
            ensure!(told == was + 2, "{was} {after:?}");
            ensure!(after.messages_sent.update > before.messages_sent.update, "{after:?}");
            ensure!(after.up && after.flaps == 0, "{after:?}");
            Ok(())
        })?;
    }
    shows(lab, bird, "show route", &["10.1.0.0/24", "10.2.0.0/24"], &[])?;
    shows(lab, frr, "show bgp ipv4 unicast", &["10.1.0.0/24", "10.2.0.0/24", PREFIX], &[])?;
    Ok(())
}

#[test]
fn as_numbers_are_removed_overridden_allowed_and_shown_as_configured() -> Result<()> {
    const TEST: &str = "as_numbers_are_removed_overridden_allowed_and_shown_as_configured";
    if !has_peers(TEST, &[&BIRD[..], &FRR].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let red = [
        "{name: web, address: 10.1.0.10, asn: 65010, allow_own_as: 1",
        "{name: app, address: 10.1.0.20, asn: 65010, as_override: true",
        "{name: db, address: 10.2.0.10, asn: 65030, private_as: remove",
    ];
    let blue = [
        "{name: web, address: 10.1.0.10, asn: 65010, \
         local_as: {asn: 64600, no_prepend: true, replace_as: true}",
        "{name: app, address: 10.1.0.20, asn: 65020",
        "{name: db, address: 10.2.0.10, asn: 65030, local_as: {asn: 64601}",
    ];
    for (tenant, peers) in [("red", &red[..]), ("blue", &blue)] {
        give_vpn(&lab, tenant, &gateway(peers, ""))?;
    }
    lab.start()?;
    let through = "ipv4 { import all; export filter {
      if source != RTS_STATIC then reject;
      if net = 172.29.0.0/16 then bgp_path.prepend(64512);
      accept;
    }; };";
    let start = |vm: &str, at: [&str; 2], asns: [u32; 2], taught: &str| {
        let config = bird_with(at[0], at[1], asns, taught, through);
        Daemon::bird(lab.config(), lab.vm(vm), &config)
    };
    let both = format!("{ROUTE} route 172.29.0.0/16 unreachable;");
    let _web = start("red-web", WEB, [65010, 64512], &both)?;
    let app = frr_with(APP[0], APP[1], [65010, 64512], &[], ["", ""]);
    let app = Daemon::frr(lab.config(), lab.vm("red-app"), &app)?;
    // The same prefix with the gateway's AS in its path, from one that may not send that.
    let db = start("red-db", DB, [65030, 64512], "route 172.29.0.0/16 unreachable;")?;
    are_up(&lab, "red", &["web", "app", "db"])?;
    let app = (&app, lab.vm("red-app"));
    println!("{}", shows(&lab, app, OF_FRR, &["64512 64512\n"], &["65010"])?);
    let db = (&db, lab.vm("red-db"));
    println!("{}", shows(&lab, db, OF_BIRD, &["BGP.as_path: 64512\n"], &["65010"])?);
    lab.wait("the own AS is allowed from one only", || {
        let routes = routes(&lab, "red", "172.29.0.0/16")?;
        let verdicts: Vec<_> =
            routes.iter().map(|route| (route.peer.as_deref(), route.verdict.as_deref())).collect();
        ensure!(
            verdicts == [(Some("web"), Some("best")), (Some("db"), Some("loop"))],
            "{verdicts:?}"
        );
        Ok(())
    })?;

    let web = start("blue-web", WEB, [65010, 64600], ROUTE)?;
    let app = frr_with(APP[0], APP[1], [65020, 64512], &[], ["", ""]);
    let app = Daemon::frr(lab.config(), lab.vm("blue-app"), &app)?;
    let db = start("blue-db", DB, [65030, 64601], "route 172.28.0.0/16 unreachable;")?;
    are_up(&lab, "blue", &["web", "app", "db"])?;
    let [web, app, db] = [(web, "web"), (app, "app"), (db, "db")];
    let [web_vm, app_vm, db_vm] =
        [&web, &app, &db].map(|(_, name)| lab.vm(&format!("blue-{name}")));
    let words = |prefix: &str| format!("show route all for {prefix}");
    for (prefix, path) in [("10.2.0.0/24", "64600\n"), ("172.28.0.0/16", "64600 64601 65030\n")] {
        let path = format!("BGP.as_path: {path}");
        shows(&lab, (&web.0, web_vm), &words(prefix), &[&path], &[])?;
    }
    for (prefix, path) in
        [("10.1.0.0/24", "64601 64512\n"), ("172.30.0.0/16", "64601 64512 65010\n")]
    {
        let path = format!("BGP.as_path: {path}");
        shows(&lab, (&db.0, db_vm), &words(prefix), &[&path], &[])?;
    }
    for (prefix, path) in [(PREFIX, "  64512 65010\n"), ("172.28.0.0/16", "  64512 64601 65030\n")]
    {
        let words = format!("show bgp ipv4 unicast {prefix}");
        shows(&lab, (&app.0, app_vm), &words, &[path], &[])?;
    }
    Ok(())
}
