//! Both tenants with a router at their premises, which speaks BGP through the tunnel.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::Service;
use nvgate::demo::site::SERVICE_PORT;

use crate::bgp_lab::{Daemon, THROUGH};
use crate::run_lab::RunLab;
use crate::run_lab_host::{Change, change};
use crate::wg_lab::{Peer, PeerPlan, Premises, gateway_key, give_vpn, place};
use crate::wg_twins::{HQ, TENANTS, hq, plan, tunnel};

/// The gateway's address in the gateway subnet, and the router's at the premises.
pub const TUNNEL_ENDS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 254, 254, 1), Ipv4Addr::new(192, 168, 10, 1)];
/// What the routers teach.
pub const BEHIND_PREFIX: &str = "192.168.77.0/24";
/// An address in it, with a service `behind-TENANT`.
pub const BEHIND: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// A tenant's premises with a router.
pub struct Routed {
    /// The router's daemon.
    pub daemon: Daemon,
    _service: Service,
    _peer: Peer,
    /// The premises.
    pub premises: Premises,
}

/// Both tenants' premises with routers, in the order of [`TENANTS`].
pub struct Tunnelled {
    /// The premises.
    pub routed: [Routed; 2],
    _place: Namespace,
}

/// Starts the gateway with a tunnel and a BGP peer behind it for both tenants, and in the premises of
/// each the router that `start` starts for the tenant in a namespace.
///
/// # Errors
///
/// When something does not start.
pub fn tunnelled(
    lab: &mut RunLab,
    start: impl Fn(&RunLab, &str, &Namespace) -> Result<Daemon>,
) -> Result<Tunnelled> {
    let [_, own] = TUNNEL_ENDS;
    for (tenant, number) in TENANTS.into_iter().zip(1_u8..) {
        let vpn =
            hq(&tunnel("a", number, "")).replace("192.168.0.0/16, via", "192.168.10.0/24, via");
        let router = format!(
            "bgp:\n  asn: 64512\n  peers:\n    \
             - {{name: hq, address: {own}, asn: 65010, connect_retry_secs: 2}}\n"
        );
        give_vpn(lab, tenant, &format!("{vpn}{router}"))?;
    }
    lab.start()?;
    let place = place(lab, 1)?;
    let build = |index: usize| -> Result<Routed> {
        let tenant = TENANTS[index];
        let key = gateway_key(lab, tenant)?;
        let premises = Premises::build(&format!("{tenant}-hq"), HQ)?;
        let router = &premises.router;
        change(router, "lo", &[Change::Up, Change::Add(BEHIND.into(), 32)])?;
        let plan = PeerPlan { networks: &THROUGH, ..plan(index, &key, index as u8 + 1) };
        let peer = Peer::start(lab.config(), &place, router, &plan)?;
        let socket = SocketAddr::new(BEHIND.into(), SERVICE_PORT);
        let service = Service::start(router, &format!("behind-{tenant}"), &[socket])?;
        let daemon = start(lab, tenant, router)?;
        Ok(Routed { daemon, _service: service, _peer: peer, premises })
    };
    let routed = [build(0)?, build(1)?];
    Ok(Tunnelled { routed, _place: place })
}
