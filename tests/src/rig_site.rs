//! A site of a tenant for the rig: the other end of a tunnel, by the same engine but with nothing
//! of the gateway around it, and the plan's side of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{
    Bandwidth, ListenerPlan, RoutePlan, RouteTarget, SitePlan, TenantPlan, TunnelPlan, VpnPlan,
};
use nvgate_model::{DropReason, FrontEndAddress, Instant, Prefix};
use nvgate_packet::buf::Offload;
use nvgate_vpn::{
    AllowedPrefixes, KindConfig, OwnKeys, PrivateKey, Received, Sealed, Tunnel, TunnelConfig,
    TunnelIndex, TunnelStatus, WireGuardConfig,
};

use crate::frames::{Body, Frame, Packet};
use crate::rig::{Rig, Sent};
use crate::rig_plan::{FRONT_END_MAC, ROUTER_MAC, public};

/// The port that tunnels end at.
pub const TUNNEL_PORT: u16 = 51_820;
/// The longest inner packet over IPv4 on a link of 1500 bytes.
pub const TUNNEL_MTU: u16 = 1440;

/// A private key made of a tenant's number and another one.
#[must_use]
pub fn key(tenant: u8, number: u8) -> PrivateKey {
    let mut bytes = [tenant.wrapping_add(1); 32];
    bytes[7] = number;
    PrivateKey::from_bytes(bytes)
}

/// The key of a tenant's listener.
#[must_use]
pub fn gateway_key(tenant: u8) -> PrivateKey {
    key(tenant, 0)
}

/// A tunnel named `name` of the peer with key `number`, with these allowed prefixes.
///
/// # Panics
///
/// A prefix is none.
#[must_use]
pub fn tunnel(tenant: u8, number: u8, name: &str, allowed: &[&str]) -> TunnelPlan {
    TunnelPlan {
        name: name.to_owned(),
        listener: 0,
        peer: key(tenant, number).public(),
        preshared: None,
        endpoint: None,
        allowed: allowed.iter().map(|text| text.parse().expect("a prefix")).collect(),
        keepalive_secs: None,
        metric: 100,
        bandwidth: Bandwidth::default(),
        probe: None,
    }
}

/// A site with these tunnels, no translation and no way to the internet.
#[must_use]
pub fn site(name: &str, tunnels: Vec<TunnelPlan>) -> SitePlan {
    SitePlan { name: name.to_owned(), internet: false, translate: Vec::new(), tunnels }
}

/// The socket that a tenant's tunnels end at.
#[must_use]
pub fn gateway_socket(tenant: u8) -> SocketAddr {
    SocketAddr::new(public(tenant, 0).into(), TUNNEL_PORT)
}

/// The same over IPv6: one address for all tenants, and a port for each.
#[must_use]
pub const fn gateway_socket_v6(tenant: u8) -> SocketAddr {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1);
    SocketAddr::new(IpAddr::V6(address), TUNNEL_PORT + tenant as u16)
}

/// Gives a tenant these sites behind one listener on its first public address, and a route to each
/// prefix of `routes` by the site with that position.
///
/// # Panics
///
/// The tenant has no NAT, or a prefix is none.
pub fn give_sites(plan: &mut TenantPlan, tenant: u8, sites: Vec<SitePlan>, routes: &[(&str, u16)]) {
    give_sites_at(plan, tenant, gateway_socket(tenant), sites, routes);
}

/// As [`give_sites`], behind a listener on this socket.
///
/// # Panics
///
/// The tenant has no NAT, or a prefix is none.
pub fn give_sites_at(
    plan: &mut TenantPlan,
    tenant: u8,
    socket: SocketAddr,
    sites: Vec<SitePlan>,
    routes: &[(&str, u16)],
) {
    let address = FrontEndAddress(socket.ip());
    let nat = plan.nat.as_mut().expect("tenants of tests have NAT");
    nat.reserved_udp = vec![(address, socket.port())];
    plan.vpn = Some(VpnPlan {
        listeners: vec![ListenerPlan {
            name: "main".to_owned(),
            address,
            port: socket.port(),
            key: gateway_key(tenant),
            previous: None,
        }],
        sites,
    });
    plan.routes.extend(routes.iter().map(|&(prefix, site)| route_to(prefix, site)));
}

/// A route to a site.
///
/// # Panics
///
/// The prefix is none.
#[must_use]
pub fn route_to(prefix: &str, site: u16) -> RoutePlan {
    let prefix = prefix.parse().expect("a prefix");
    RoutePlan { prefix, metric: 100, target: RouteTarget::Site(site), announce: false }
}

/// What the peer with key `number` of a tenant is configured with: its half of [`tunnel`].
#[must_use]
pub fn peer_config(tenant: u8, number: u8) -> WireGuardConfig {
    WireGuardConfig {
        own: OwnKeys { current: key(tenant, number), previous: None },
        peer: gateway_key(tenant).public(),
        preshared: None,
        endpoint: Some(gateway_socket(tenant)),
        persistent_keepalive_secs: None,
    }
}

fn everything(config: WireGuardConfig) -> TunnelConfig {
    let all: [Prefix; 2] = ["0.0.0.0/0", "::/0"].map(|text| text.parse().expect("a prefix"));
    TunnelConfig { allowed: AllowedPrefixes::new(&all), kind: KindConfig::WireGuard(config) }
}

/// The other end of one tunnel.
#[derive(Debug)]
pub struct SitePeer {
    tunnel: Tunnel,
    /// Where it is on the front end.
    pub address: SocketAddr,
    gateway: SocketAddr,
    /// Whether datagrams reach it, and leave it.
    pub reachable: bool,
    /// The address behind it that answers echo requests.
    pub answers: Option<IpAddr>,
    /// Inner packets that came out, as they came.
    pub received: Vec<Vec<u8>>,
    /// The datagrams they came in, and all others, with their outer headers.
    pub datagrams: Vec<Packet>,
}

impl SitePeer {
    /// The peer with key `number` of a tenant's tunnel, at this address of the front end.
    #[must_use]
    pub fn new(tenant: u8, number: u8, address: SocketAddr, now: Instant) -> Self {
        Self::with(peer_config(tenant, number), number, address, now)
    }

    /// A peer with this configuration, whose endpoint is the gateway.
    ///
    /// # Panics
    ///
    /// The configuration has no endpoint.
    #[must_use]
    pub fn with(config: WireGuardConfig, number: u8, address: SocketAddr, now: Instant) -> Self {
        let gateway = config.endpoint.expect("sites know where the gateway is");
        let index = TunnelIndex::new(u32::from(number) + 1).expect("a small number");
        let tunnel = Tunnel::new(index, everything(config), now, u64::from(number));
        Self {
            tunnel,
            address,
            gateway,
            reachable: true,
            answers: None,
            received: Vec::new(),
            datagrams: Vec::new(),
        }
    }

    /// Changes its configuration.
    pub fn reconfigure(&mut self, config: WireGuardConfig, now: Instant) {
        self.tunnel.reconfigure(everything(config), now);
    }

    /// State and counters of its end.
    #[must_use]
    pub fn status(&self, now: Instant) -> TunnelStatus {
        self.tunnel.status(now)
    }

    /// Sends an inner packet towards the gateway, and carries what that leads to.
    pub fn send(&mut self, rig: &mut Rig, packet: &Packet) {
        self.dispatch(rig, packet);
        self.carry(rig);
    }

    /// Puts an inner packet on its way to the gateway.
    pub fn dispatch(&mut self, rig: &mut Rig, packet: &Packet) {
        if let Some(datagram) = self.seal(rig.now, packet) {
            self.inject(rig, &datagram);
        }
    }

    /// The datagram that carries an inner packet, if there is a session for it.
    ///
    /// # Panics
    ///
    /// The tunnel refuses the packet.
    pub fn seal(&mut self, now: Instant, packet: &Packet) -> Option<Vec<u8>> {
        let sealed = self.seal_bytes(now, &packet.bytes(), usize::from(TUNNEL_MTU));
        sealed.unwrap_or_else(|reason| panic!("the site cannot send: {reason:?}"))
    }

    /// As [`seal`](Self::seal), of any bytes that fit `mtu`.
    ///
    /// # Errors
    ///
    /// The tunnel refuses them.
    pub fn seal_bytes(
        &mut self,
        now: Instant,
        packet: &[u8],
        mtu: usize,
    ) -> Result<Option<Vec<u8>>, DropReason> {
        let mut out = vec![0; packet.len().max(4096) + 64];
        Ok(match self.tunnel.seal(now, packet, &[], mtu, &mut out)? {
            Sealed::Datagram(length) => {
                out.truncate(length);
                Some(out)
            }
            Sealed::Queued => None,
        })
    }

    /// What the tunnel's timers want sent now.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let (mut datagrams, mut out) = (Vec::new(), vec![0; 4096]);
        self.tunnel.handle_timeout(now);
        while let Some((length, _)) = self.tunnel.poll_transmit(now, &mut out) {
            datagrams.push(out[..length].to_vec());
        }
        datagrams
    }

    /// Carries datagrams both ways until nothing moves; other frames that left by the front end
    /// are returned.
    pub fn carry(&mut self, rig: &mut Rig) -> Vec<Sent> {
        carry(rig, std::slice::from_mut(self))
    }

    /// Lets time pass on both sides, a second at a time.
    pub fn pass(&mut self, rig: &mut Rig, secs: u64) {
        pass(rig, std::slice::from_mut(self), secs);
    }

    /// Puts a datagram from this peer into the gateway's front end.
    pub fn inject(&self, rig: &mut Rig, datagram: &[u8]) {
        self.inject_with(rig, datagram, 0);
    }

    /// As [`inject`](Self::inject), with this outer traffic class.
    pub fn inject_with(&self, rig: &mut Rig, datagram: &[u8], class: u8) {
        if !self.reachable {
            return;
        }
        let worker = usize::from(self.address.port());
        rig.inject(PortRole::FrontEnd, worker, &self.frame(datagram, class), Offload::default());
    }

    /// The frame in which a datagram of this peer's reaches the gateway.
    #[must_use]
    pub fn frame(&self, datagram: &[u8], class: u8) -> Vec<u8> {
        let body = Body::Udp {
            ports: (self.address.port(), self.gateway.port()),
            payload: datagram.to_vec(),
        };
        let packet = Packet { class, ..Packet::new(self.address.ip(), self.gateway.ip(), body) };
        Frame::of(FRONT_END_MAC, ROUTER_MAC, &packet).bytes()
    }

    /// The packet in a frame that is for this peer.
    #[must_use]
    pub fn addressed(&self, frame: &[u8]) -> Option<Packet> {
        let packet = Frame::read(frame).ok()?.packet().ok()?;
        self.is_addressed(&packet).then_some(packet)
    }

    /// Whether a packet is a datagram of the gateway's for this peer.
    #[must_use]
    pub fn is_addressed(&self, packet: &Packet) -> bool {
        let Body::Udp { ports, .. } = packet.body else { return false };
        let from = SocketAddr::new(packet.source, ports.0);
        let to = SocketAddr::new(packet.destination, ports.1);
        (from, to) == (self.gateway, self.address)
    }

    /// Takes a datagram from the gateway; returns what it answers at once.
    ///
    /// # Panics
    ///
    /// It is no datagram.
    pub fn deliver(&mut self, now: Instant, packet: Packet) -> Option<Vec<u8>> {
        let mut out = vec![0; 4096];
        let Body::Udp { payload, .. } = &packet.body else { panic!("no datagram: {packet:?}") };
        let taken = self.tunnel.handle_datagram(now, self.gateway, payload, &mut out);
        self.datagrams.push(packet);
        match taken {
            Ok(Received::Packet(range)) => {
                let echo = Packet::read(&out[range.clone()]).ok().filter(|packet| {
                    matches!(packet.body, Body::Echo { reply: false, .. })
                        && self.answers == Some(packet.destination)
                });
                match echo {
                    Some(echo) => return self.seal(now, &echo.reply()),
                    None => self.received.push(out[range].to_vec()),
                }
            }
            Ok(Received::Reply(length)) => {
                out.truncate(length);
                return Some(out);
            }
            Ok(Received::Keepalive | Received::Nothing) | Err(_) => {}
        }
        None
    }

    /// The inner packets that came since it was last asked.
    ///
    /// # Panics
    ///
    /// One of them is wrong.
    pub fn take(&mut self) -> Vec<Packet> {
        self.datagrams.clear();
        let read = |bytes: Vec<u8>| {
            Packet::read(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"))
        };
        self.received.drain(..).map(read).collect()
    }
}

/// Carries datagrams between the gateway and these peers until nothing moves; other frames that
/// left by the front end are returned.
///
/// # Panics
///
/// It never ends.
pub fn carry(rig: &mut Rig, peers: &mut [SitePeer]) -> Vec<Sent> {
    let mut others = Vec::new();
    for _ in 0..100 {
        let mut moved = false;
        for peer in peers.iter_mut() {
            for datagram in peer.poll(rig.now) {
                peer.inject(rig, &datagram);
                moved = true;
            }
        }
        rig.run();
        for sent in rig.take(PortRole::FrontEnd) {
            let to = peers.iter_mut().find_map(|peer| Some((peer.addressed(&sent.bytes)?, peer)));
            let Some((packet, peer)) = to else {
                others.push(sent);
                continue;
            };
            moved = true;
            if peer.reachable
                && let Some(answer) = peer.deliver(rig.now, packet)
            {
                peer.inject(rig, &answer);
            }
        }
        if !moved {
            return others;
        }
    }
    panic!("the tunnels never rest");
}

/// Lets time pass on all sides, a second at a time.
pub fn pass(rig: &mut Rig, peers: &mut [SitePeer], secs: u64) {
    for _ in 0..secs {
        rig.advance(Duration::from_secs(1));
        carry(rig, peers);
    }
}

/// An address of a site: 192.168.`net`.`last`; the same for every tenant.
#[must_use]
pub const fn on_premises(net: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, net, last)
}

/// Where a tunnel's other end is on the front end.
#[must_use]
pub const fn peer_socket(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, last)), port)
}

/// An IPv6 address of a site: fd19:`net`::`last`.
#[must_use]
pub const fn on_premises_v6(net: u8, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd19, net as u16, 0, 0, 0, 0, 0, last as u16)
}
