//! Two tenants with everything the same, and one site each whose peers share one public address.

use std::net::{Ipv4Addr, SocketAddr};

use nvgate::demo::lab::Namespace;

use crate::run_lab::{PUBLIC, RunLab};
use crate::run_lab_traffic::Stream;
use crate::wg_lab::{
    Peer, PeerPlan, Premises, Program, TUNNEL_PORT, build, gateway_key, give_vpn, peer_key, place,
    reaches,
};
use anyhow::{Context, Result};

/// Of every tenant: the web VM.
pub const WEB: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
/// Of every tenant: the network of its premises.
pub const HQ: [u8; 3] = [192, 168, 10];
/// What the premises send into their tunnels.
pub const TENANT: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];
/// The tenants' names.
pub const TENANTS: [&str; 2] = ["red", "blue"];
/// The port of a stream's server.
pub const STREAM_PORT: u16 = 9000;

/// A tenant's VPN: one site `hq` with these lines of tunnels, routed as 192.168.0.0/16 and
/// fd00:10a::/64.
#[must_use]
pub fn hq(tunnels: &str) -> String {
    format!(
        "vpn:\n  listen: [{{address: 1}}]\n  sites:\n    - name: hq\n      tunnels:\n{tunnels}\
         routes:\n  - {{prefix: 192.168.0.0/16, via: hq}}\n  - {{prefix: 'fd00:10a::/64', via: hq}}\n"
    )
}

/// A line for a tunnel by the peer with key `number`, which `more` goes on.
#[must_use]
pub fn tunnel(name: &str, number: u8, more: &str) -> String {
    format!(
        "        - {{name: {name}, public_key: '{}', allowed: [192.168.0.0/16, 'fd00:10a::/64']{more}}}\n",
        peer_key(number).public()
    )
}

/// A peer of a tenant's only listener at the tenant's public address.
#[must_use]
pub fn plan<'a>(tenant: usize, key: &'a str, number: u8) -> PeerPlan<'a> {
    PeerPlan {
        program: Program::WireGuardGo,
        key: number,
        port: 40_000 + u16::from(number),
        gateway_key: key,
        gateway: SocketAddr::new(PUBLIC[tenant].into(), TUNNEL_PORT),
        addresses: &[],
        networks: &TENANT,
        metric: 100,
        keepalive_secs: 1,
    }
}

/// Both tenants with the same premises behind the same public address, and their peers.
pub struct Twins {
    /// Their peers.
    pub peers: Vec<Peer>,
    /// What is behind them, in the order of [`TENANTS`].
    pub premises: Vec<Premises>,
    /// Where both speak from.
    pub place: Namespace,
    /// The data centre.
    pub lab: RunLab,
}

/// The twins, with a peer of `program` each; `None`, recorded as skipped, where they cannot be.
///
/// # Errors
///
/// When they do not come up.
pub fn twins(test: &str, workers: usize, program: Program) -> Result<Option<Twins>> {
    let Some(mut lab) = build(test, workers)? else { return Ok(None) };
    for (tenant, number) in TENANTS.into_iter().zip(1..) {
        give_vpn(&lab, tenant, &hq(&tunnel("a", number, "")))?;
    }
    lab.start()?;
    let place = place(&lab, 1)?;
    let mut premises = Vec::new();
    let mut peers = Vec::new();
    for (index, tenant) in TENANTS.into_iter().enumerate() {
        let key = gateway_key(&lab, tenant)?;
        let own = Premises::build(&format!("{tenant}-hq"), HQ)?;
        let plan = PeerPlan { program, ..plan(index, &key, index as u8 + 1) };
        peers.push(Peer::start(lab.config(), &place, &own.router, &plan)?);
        premises.push(own);
    }
    Ok(Some(Twins { peers, premises, place, lab }))
}

/// Echo, TCP and UDP between the web VM of each tenant and its own premises, from either side.
///
/// # Errors
///
/// What did not pass.
pub fn each_reaches_its_own(twins: &Twins) -> Result<()> {
    for (tenant, premises) in TENANTS.into_iter().zip(&twins.premises) {
        let vm = twins.lab.site.vm(&format!("{tenant}-web"));
        let pairs =
            [(premises.ipv4.into(), vm.ipv4.into()), (premises.ipv6, vm.ipv6.context("IPv6")?)];
        for (client, web) in pairs {
            reaches(&vm.namespace, client, &format!("{tenant}-hq"), web)?;
            reaches(&premises.client, web, &format!("{tenant}-web"), client)?;
        }
    }
    Ok(())
}

/// Full-size TCP with its content compared, from either side; the segments fit the tunnel.
///
/// # Errors
///
/// When a stream breaks.
pub fn streams(lab: &RunLab, tenant: &str, premises: &Premises, rounds: u64) -> Result<()> {
    let vm = lab.vm(&format!("{tenant}-web"));
    let at = |address: Ipv4Addr| SocketAddr::new(address.into(), STREAM_PORT);
    for (from, to, server) in [(vm, premises.ipv4, &premises.client), (&premises.client, WEB, vm)] {
        let stream = Stream::start(from, at(to), server, at(to))?;
        let carried = stream.end_after(rounds).with_context(|| format!("{tenant} to {to}"))?;
        println!("{tenant}: {carried:?}");
    }
    Ok(())
}
