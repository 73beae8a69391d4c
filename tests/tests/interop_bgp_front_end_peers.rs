//! GoBGP, OpenBGPD and ExaBGP as upstream routers of the front end: what the gateway announces is what
//! they show, and what they teach carries tenants' traffic as long as they are there.

use anyhow::{Context as _, Result, ensure};
use nvgate::demo::site::GATEWAY_FRONT_END;
use nvgate_tests::bgp_lab::{
    Daemon, EXABGP, GOBGP, INTERNET_PREFIX, OPENBGPD, Upstream, ask_internet, speak_on_front_end,
};
use nvgate_tests::run_lab::{PUBLIC, RunLab};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::exec;

/// Starts the daemon with this number in its router, which then teaches [`INTERNET_PREFIX`].
fn start(lab: &RunLab, router: &Upstream, number: usize) -> Result<Daemon> {
    let Upstream { namespace, address, asn, .. } = router;
    match number {
        0 => {
            let config = format!(
                "[global.config]
as = {asn}
router-id = \"{address}\"
[[neighbors]]
[neighbors.config]
neighbor-address = \"{GATEWAY_FRONT_END}\"
peer-as = 64512
"
            );
            let daemon = Daemon::gobgp(lab.config(), namespace, &config)?;
            let words = format!("global rib add {INTERNET_PREFIX} nexthop {address} -a ipv4");
            lab.wait("GoBGP takes a route", || daemon.ask(namespace, &words))?;
            Ok(daemon)
        }
        1 => {
            let config = format!(
                "AS {asn}
router-id {address}
listen on {address}
fib-update no
nexthop qualify via default
network {INTERNET_PREFIX} set nexthop {address}
neighbor {GATEWAY_FRONT_END} {{
  remote-as 64512
  local-address {address}
  announce IPv4 unicast
}}
allow from any
allow to any
"
            );
            Daemon::openbgpd(lab.config(), namespace, &config)
        }
        _ => {
            let config = format!(
                "neighbor {GATEWAY_FRONT_END} {{
  router-id {address};
  local-address {address};
  local-as {asn};
  peer-as 64512;
  family {{ ipv4 unicast; }}
  api {{ processes [ api ]; receive {{ parsed; update; }} }}
  static {{ route {INTERNET_PREFIX} next-hop {address}; }}
}}
"
            );
            Daemon::exabgp(lab.config(), namespace, &config)
        }
    }
}

/// What it says of the routes that it was told.
fn shown(daemon: &Daemon, router: &Upstream, number: usize) -> Result<String> {
    let gobgp = format!("neighbor {GATEWAY_FRONT_END} adj-in -a ipv4");
    let words = [gobgp.as_str(), "show rib in", ""][number];
    daemon.ask(&router.namespace, words)
}

#[test]
fn gobgp_openbgpd_and_exabgp_learn_leases_and_carry_traffic_as_upstream_routers() -> Result<()> {
    const TEST: &str =
        "gobgp_openbgpd_and_exabgp_learn_leases_and_carry_traffic_as_upstream_routers";
    if !has_peers(TEST, &[&GOBGP[..], &OPENBGPD, &EXABGP].concat()) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let routers: Vec<Upstream> =
        (1..=3).map(|number| Upstream::build(&lab, number)).collect::<Result<_>>()?;
    let peers: Vec<_> = routers.iter().map(|router| router.peer("")).collect();
    speak_on_front_end(&lab, &peers, "")?;
    lab.start()?;
    let (red, blue) = (lab.vm("red-web"), lab.vm("blue-web"));
    for (number, router) in routers.iter().enumerate() {
        // These daemons leave the kernel's routes alone.
        let way = format!("ip route add 203.0.113.0/24 via {GATEWAY_FRONT_END}");
        exec(&router.namespace, &way)?;
        ensure!(ask_internet(red).is_err(), "there is a way without BGP");
        let daemon = start(&lab, router, number)?;
        let label = router.namespace.name();
        lab.wait(&format!("{label} is told both leases"), || {
            let routes = shown(&daemon, router, number)?;
            for public in PUBLIC {
                ensure!(routes.contains(&format!("{public}/32")), "no {public} in {routes}");
            }
            let next_hop = GATEWAY_FRONT_END.to_string();
            ensure!(routes.contains(&next_hop), "no {next_hop} in {routes}");
            Ok(())
        })?;
        for (vm, public) in [(red, PUBLIC[0]), (blue, PUBLIC[1])] {
            let answer = lab
                .wait("the Internet is reached", || ask_internet(vm))
                .with_context(|| format!("by {label}"))?;
            ensure!(answer.label == label && answer.seen_as.ip() == public, "{answer:?}");
        }
        drop(daemon);
        lab.wait(&format!("what {label} taught goes with it"), || {
            ensure!(ask_internet(red).is_err(), "still reached");
            Ok(())
        })?;
    }
    Ok(())
}
