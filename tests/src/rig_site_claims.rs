//! What claims about tunnels begin with: tenants with the same sites behind the same remote address,
//! peers with a session each, and every placing of tunnels and arrivals on one worker and on two.

use nvgate::io::PortRole;
use nvgate_deploy::plan::{SitePlan, TenantPlan, TunnelPlan};
use nvgate_model::DropReason;
use nvgate_packet::buf::Offload;

use crate::frames::{Frame, Packet};
use crate::rig::{Output, Rig, Sent, Station};
use crate::rig_plan::{FRONT_END_MAC, ROUTER_MAC, WEB, customer, plan, tenant};
use crate::rig_site::{SitePeer, carry, give_sites, on_premises, peer_socket, site, tunnel};

/// What every tunnel of these tenants allows.
pub const ON_PREMISES: [&str; 2] = ["192.168.0.0/16", "fd19::/16"];
/// The routes to a tenant's only site.
pub const ROUTES: [(&str, u16); 2] = [("192.168.0.0/16", 0), ("fd19::/16", 0)];

/// The tunnel of a tenant's peer with this number, with what it allows by default.
#[must_use]
pub fn open_tunnel(tenant: u8, number: u8) -> TunnelPlan {
    tunnel(tenant, number, &format!("t{number}"), &ON_PREMISES)
}

/// Two tenants with the same site behind one tunnel; each site is changed by `change`.
#[must_use]
pub fn tenants(change: impl Fn(u8, &mut SitePlan)) -> Vec<TenantPlan> {
    (0..2).map(|number| with_site(number, 1, &change)).collect()
}

/// A tenant with one site behind so many tunnels, which is changed by `change`.
#[must_use]
pub fn with_site(number: u8, tunnels: u8, change: impl Fn(u8, &mut SitePlan)) -> TenantPlan {
    let mut tenant = tenant(number);
    let tunnels = (1..=tunnels).map(|tunnel| open_tunnel(number, tunnel)).collect();
    let mut site = site("hq", tunnels);
    change(number, &mut site);
    give_sites(&mut tenant, number, vec![site], &ROUTES);
    tenant
}

/// Runs a claim with one worker and with two, arrivals of a peer on either of them. The claim gets
/// the first port of its peers: even and odd ones arrive on different workers.
pub fn each_place(tenants: &[TenantPlan], claim: impl Fn(&mut Rig, u16)) {
    each_place_of(|_| tenants.to_vec(), claim);
}

/// As [`each_place`], of tenants that know the first port.
pub fn each_place_of(tenants: impl Fn(u16) -> Vec<TenantPlan>, claim: impl Fn(&mut Rig, u16)) {
    for (workers, port) in [(1, 7000), (2, 7000), (2, 7001)] {
        claim(&mut Rig::new(&plan(tenants(port)), workers), port);
    }
}

/// The peer `number` of a tenant, behind the address that all sites share, with a session.
#[must_use]
pub fn connected(rig: &mut Rig, tenant: u8, number: u8, port: u16) -> SitePeer {
    let mut peer = SitePeer::new(tenant, number, peer_socket(9, port), rig.now);
    connect(rig, &mut peer);
    peer
}

/// Has a peer make a session.
///
/// # Panics
///
/// There is none then.
pub fn connect(rig: &mut Rig, peer: &mut SitePeer) {
    peer.send(rig, &knock());
    assert!(peer.status(rig.now).own_key.is_some(), "no session");
    rig.take(PortRole::Fabric);
    peer.take();
}

/// The first peers of both tenants, with a session each.
#[must_use]
pub fn both_connected(rig: &mut Rig, port: u16) -> Vec<SitePeer> {
    (0..2).map(|tenant| connected(rig, tenant, 1, port + u16::from(tenant))).collect()
}

/// A packet that has the site begin a session.
#[must_use]
pub fn knock() -> Packet {
    Packet::udp((on_premises(1, 5), 1), (customer(WEB, 10), 1), b"knock")
}

/// Sends a packet of a station, and carries what that leads to; returns what else left by the front
/// end.
pub fn from_vm(
    rig: &mut Rig,
    peers: &mut [SitePeer],
    from: &Station,
    packet: &Packet,
) -> Vec<Sent> {
    let frame = from.sends(packet).bytes();
    rig.inject(PortRole::Fabric, usize::from(packet.ports().0), &frame, Offload::default());
    carry(rig, peers)
}

/// Sends a packet of a site; returns what left by the two ports, but for datagrams to these peers.
pub fn from_site(rig: &mut Rig, peers: &mut [SitePeer], from: usize, packet: &Packet) -> Output {
    peers[from].dispatch(rig, packet);
    let front_end = carry(rig, peers);
    Output { fabric: rig.take(PortRole::Fabric), front_end }
}

/// Only these reasons were counted since the gateway began.
///
/// # Panics
///
/// That is not so.
pub fn counted(rig: &Rig, drops: &[(DropReason, u64)]) {
    assert_eq!(rig.all_drops(), drops);
}

/// Sends a packet from the front end's router and carries what that leads to.
pub fn to_gateway(rig: &mut Rig, peers: &mut [SitePeer], packet: &Packet) -> Output {
    let frame = Frame::of(FRONT_END_MAC, ROUTER_MAC, packet).bytes();
    rig.inject(PortRole::FrontEnd, usize::from(packet.ports().1), &frame, Offload::default());
    let front_end = carry(rig, peers);
    Output { fabric: rig.take(PortRole::Fabric), front_end }
}

/// What left by the fabric.
pub fn taken(rig: &mut Rig) -> Output {
    Output { fabric: rig.take(PortRole::Fabric), front_end: Vec::new() }
}
