//! Tenants' routers as BIRD and FRR are configured for them, what they show, and what the gateway says
//! of its peers and routes.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nvgate::admin::bgp::{PeerReport, PeersReport, RouteReport, RoutesReport};
use nvgate::demo::lab::Namespace;

use crate::bgp_lab::Daemon;
use crate::run_lab::{RunLab, binary};
use crate::run_lab_host::{Ended, run};

/// The address of each tenant's VM `web`, and of the gateway in its subnet.
pub const WEB: [&str; 2] = ["10.1.0.10", "10.1.0.1"];
/// The same of the VM `app`.
pub const APP: [&str; 2] = ["10.1.0.20", "10.1.0.1"];
/// The same of the VM `db`.
pub const DB: [&str; 2] = ["10.2.0.10", "10.2.0.1"];
/// A static route that a [`bird_with`] teaches.
pub const ROUTE: &str = "route 172.30.0.0/16 unreachable;";
/// The channel of a [`bird_with`] that learns everything and teaches its static routes.
pub const CHANNEL: &str = "ipv4 { import all; export where source = RTS_STATIC; };";

/// What `nvgate bgp` does with these words, in the gateway's namespace.
///
/// # Errors
///
/// When it cannot be started.
pub fn nvgate_bgp(lab: &RunLab, words: &str) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.arg("bgp").args(words.split(' ')).arg("--config").arg(lab.config());
    run(&lab.site.gateway, command)
}

/// What it prints.
///
/// # Errors
///
/// When it fails.
pub fn said(lab: &RunLab, words: &str) -> Result<String> {
    let ended = nvgate_bgp(lab, words)?;
    ensure!(ended.code == Some(0), "nvgate bgp {words}: {ended:?}");
    Ok(ended.output)
}

/// A peer of a tenant as the gateway has it.
///
/// # Errors
///
/// When it cannot be had.
pub fn peer(lab: &RunLab, tenant: &str, name: &str) -> Result<PeerReport> {
    let (code, body) = lab.ask(&format!("/v1/bgp/peers?tenant={tenant}"))?;
    ensure!(code == 200, "{body}");
    let report: PeersReport = serde_json::from_str(&body)?;
    let found = report.peers.into_iter().find(|peer| peer.name == name);
    found.with_context(|| format!("no peer {tenant}/{name}"))
}

/// Waits until these peers of a tenant are up.
///
/// # Errors
///
/// They are not.
pub fn are_up(lab: &RunLab, tenant: &str, names: &[&str]) -> Result<()> {
    lab.wait(&format!("{tenant}'s peers are up"), || {
        for name in names {
            let peer = peer(lab, tenant, name)?;
            ensure!(peer.up, "{peer:?}");
        }
        Ok(())
    })
}

/// The routes to a prefix that a tenant has, the best first.
///
/// # Errors
///
/// When they cannot be had.
pub fn routes(lab: &RunLab, tenant: &str, prefix: &str) -> Result<Vec<RouteReport>> {
    let (code, body) = lab.ask(&format!("/v1/bgp/routes?tenant={tenant}&prefix={prefix}"))?;
    ensure!(code == 200, "{body}");
    let report: RoutesReport = serde_json::from_str(&body)?;
    Ok(report.routes)
}

/// A BIRD of one session at `local` to `gateway`: `[local AS, the gateway's]`, static routes that it
/// teaches (`route ...;`), and what else stands in its protocol, its channels among it.
#[must_use]
pub fn bird_with(
    local: &str,
    gateway: &str,
    [own, theirs]: [u32; 2],
    taught: &str,
    more: &str,
) -> String {
    format!(
        "router id {local};
protocol device {{}}
protocol static taught {{ ipv4; {taught} }}
protocol bgp upstream {{
  local {local} as {own};
  neighbor {gateway} as {theirs};
  hold time 90;
  connect delay time 1;
  connect retry time 2;
  {more}
}}
"
    )
}

/// An FRR of one session to `gateway`: `[its own AS, the gateway's]`, its identifier, prefixes that it
/// teaches, and more lines of the router and of its IPv4 family, in which `PEER` is the gateway.
#[must_use]
pub fn frr_with(
    identifier: &str,
    gateway: &str,
    [own, theirs]: [u32; 2],
    taught: &[&str],
    [router, family]: [&str; 2],
) -> String {
    let networks: String = taught.iter().map(|prefix| format!("  network {prefix}\n")).collect();
    format!(
        "log file /dev/stdout
router bgp {own}
 bgp router-id {identifier}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor PEER remote-as {theirs}
 neighbor PEER timers 30 90
 neighbor PEER timers connect 2
{router}
 address-family ipv4 unicast
{networks}{family}
 exit-address-family
"
    )
    .replace("PEER", gateway)
}

/// `bgp` of a tenant with these peers, each as `{name: ..., ...` without the end that all have.
#[must_use]
pub fn gateway(peers: &[&str], more: &str) -> String {
    let peers: String =
        peers.iter().map(|peer| format!("    - {peer}, connect_retry_secs: 2}}\n")).collect();
    format!("bgp:\n  asn: 64512\n{more}  peers:\n{peers}")
}

/// Waits until a router's answer to `words` holds each of `parts`, and none of `absent`.
///
/// # Errors
///
/// It does not.
pub fn shows(
    lab: &RunLab,
    (router, vm): (&Daemon, &Namespace),
    words: &str,
    parts: &[&str],
    absent: &[&str],
) -> Result<String> {
    lab.wait(&format!("{}: {words}", vm.name()), || {
        let answer = router.ask(vm, words)?;
        for part in parts {
            ensure!(answer.contains(part), "no {part} in {answer}");
        }
        for part in absent {
            ensure!(!answer.contains(part), "{part} in {answer}");
        }
        Ok(answer)
    })
}
