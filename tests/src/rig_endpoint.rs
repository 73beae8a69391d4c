//! The gateway's own endpoints on the rig: an application that echoes, in every domain of the
//! snapshot, and peers with TCP of their own on the overlay and behind tunnels.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nvgate::endpoint::{
    Application, BFD_PORTS, BGP_PORT, ConnectionId, Datagram, Driver, Endpoints, Event, MAX_PACKET,
    PeerOptions,
};
use nvgate::io::PortRole;
use nvgate::snapshot::Snapshot;
use nvgate_deploy::plan::Plan;
use nvgate_model::{DomainSlot, Instant};
use nvgate_packet::buf::Offload;

use crate::frames::{Frame, IPV4, IPV6, Nvgre};
use crate::rig::{Rig, RigOptions, Station};
use crate::rig_plan::{GATEWAY_MAC, vsid};
use crate::rig_site::{SitePeer, carry as carry_sites};

/// Sends back what it reads, in every domain, and begins connections when it is told to.
#[derive(Debug)]
pub struct Echo {
    /// What holds for every peer.
    pub options: PeerOptions,
    /// What waits to be written back.
    pending: BTreeMap<ConnectionId, Vec<u8>>,
    /// Everything that happened.
    pub events: Vec<(ConnectionId, Event)>,
}

impl Echo {
    /// An application without connections.
    #[must_use]
    pub fn new(options: PeerOptions) -> Self {
        Self { options, pending: BTreeMap::new(), events: Vec::new() }
    }

    fn echo(&mut self, id: ConnectionId, endpoints: &mut Endpoints) {
        let pending = self.pending.entry(id).or_default();
        let mut bytes = [0; 4096];
        loop {
            let written = endpoints.write(id, pending);
            pending.drain(..written);
            if !pending.is_empty() {
                return;
            }
            let count = endpoints.read(id, &mut bytes);
            if count == 0 {
                return;
            }
            pending.extend(&bytes[..count]);
        }
    }
}

impl Application for Echo {
    fn stop(&mut self, _: Instant, _: &mut Endpoints) {}

    fn follow(&mut self, _: Instant, snapshot: &Snapshot, endpoints: &mut Endpoints) {
        for domain in snapshot.domains() {
            endpoints.register(domain.slot, domain.own_addresses());
            for own in domain.own_addresses() {
                let expected = "own addresses are registered";
                endpoints.listen(domain.slot, SocketAddr::new(own, BGP_PORT)).expect(expected);
                for port in BFD_PORTS {
                    endpoints.bind(domain.slot, SocketAddr::new(own, port)).expect(expected);
                }
            }
            for all in ["0.0.0.0/0", "::/0"] {
                let all = all.parse().expect("a prefix");
                endpoints.set_peer(domain.slot, all, self.options.clone()).expect("a few peers");
            }
        }
    }

    fn turn(&mut self, _: Instant, endpoints: &mut Endpoints) -> bool {
        while let Some((id, event)) = endpoints.poll_event() {
            self.events.push((id, event));
            if matches!(event, Event::Readable | Event::Writable) {
                self.echo(id, endpoints);
            }
        }
        while let Some((domain, datagram)) = endpoints.poll_datagram() {
            let Datagram { local, remote, .. } = datagram;
            let (remote, local) = (SocketAddr::new(remote.ip(), local.port()), local);
            // A full queue is an echo less.
            let _ = endpoints.send_datagram(domain, &Datagram { local, remote, ..datagram });
        }
        false
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Where a peer is.
#[derive(Debug)]
pub enum Seat {
    /// On the overlay.
    Overlay(Station),
    /// Behind the tunnel of the site peer with this position.
    Site(usize),
}

/// Who exchanges packets with the gateway's endpoints.
pub trait Neighbour {
    /// Where it is.
    fn seat(&self) -> &Seat;

    /// Takes a packet.
    fn handle(&mut self, now: Instant, packet: &[u8]);

    /// Does what is due, reads what came, and takes what it sends.
    fn poll(&mut self, now: Instant) -> Vec<Vec<u8>>;
}

/// A tenant's router with TCP of its own.
#[derive(Debug)]
pub struct Router {
    /// Where it is.
    pub seat: Seat,
    /// Its address.
    pub address: IpAddr,
    /// Its endpoints, of one domain.
    pub endpoints: Endpoints,
    /// What happened to its connections.
    pub events: Vec<Event>,
    /// What it read.
    pub received: Vec<u8>,
    /// Its packets that left, as they were.
    pub sent: Vec<Vec<u8>>,
    /// The packets that came to it, as they were.
    pub arrived: Vec<Vec<u8>>,
}

/// The only domain of a router.
pub const HERE: DomainSlot = DomainSlot(0);

impl Router {
    /// A router with one address, everybody its peer.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn new(seat: Seat, address: IpAddr, options: PeerOptions, seed: u64) -> Self {
        let mut endpoints = Endpoints::new(seed, Instant(1));
        endpoints.register(HERE, [address]);
        for all in ["0.0.0.0/0", "::/0"] {
            let all = all.parse().expect("a prefix");
            endpoints.set_peer(HERE, all, options.clone()).expect("a few peers");
        }
        let (events, received, sent, arrived) = Default::default();
        Self { seat, address, endpoints, events, received, sent, arrived }
    }
}

impl Neighbour for Router {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn handle(&mut self, now: Instant, packet: &[u8]) {
        let ttl = if packet[0] >> 4 == 4 { packet[8] } else { packet[7] };
        self.arrived.push(packet.to_vec());
        // What it refuses it counts.
        let _ = self.endpoints.handle_packet(now, HERE, packet, ttl);
    }

    fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.endpoints.poll_timeout().is_some_and(|due| due <= now) {
            self.endpoints.handle_timeout(now);
        }
        while let Some((id, event)) = self.endpoints.poll_event() {
            self.events.push(event);
            let mut bytes = [0; 4096];
            loop {
                let count = self.endpoints.read(id, &mut bytes);
                if count == 0 {
                    break;
                }
                self.received.extend(&bytes[..count]);
            }
        }
        let (mut packets, mut out) = (Vec::new(), vec![0; MAX_PACKET]);
        while let Some((_, length)) = self.endpoints.poll_transmit(now, |_| true, &mut out) {
            packets.push(out[..length].to_vec());
        }
        self.sent.extend(packets.clone());
        packets
    }
}

/// A gateway with an application on its endpoints, and routers.
#[derive(Debug)]
pub struct Neighbourhood<A = Echo, R = Router> {
    /// The gateway.
    pub rig: Rig,
    /// What runs its endpoints.
    pub driver: Driver<A>,
    /// The routers.
    pub routers: Vec<R>,
    /// The other ends of tunnels.
    pub sites: Vec<SitePeer>,
    /// Of so many inner packets one is lost, and another waits for the next round; 0 for none.
    pub one_lost_of: u64,
    random: u64,
    held: Vec<(usize, Vec<u8>)>,
}

impl Neighbourhood {
    /// A gateway for `plan` whose endpoints echo, and whose peers all have these options.
    #[must_use]
    pub fn new(plan: &Plan, workers: u16, options: PeerOptions) -> Self {
        Self::with(plan, workers, Echo::new(options))
    }
}

impl<A: Application, R: Neighbour> Neighbourhood<A, R> {
    /// A gateway for `plan` with this application.
    #[must_use]
    pub fn with(plan: &Plan, workers: u16, application: A) -> Self {
        let settings = RigOptions { workers, endpoints: true, ..RigOptions::default() };
        let mut rig = Rig::with(plan, &settings);
        rig.run();
        rig.advance(Duration::from_secs(3));
        rig.take(PortRole::FrontEnd);
        let driver = rig.drive(application);
        let (routers, sites, held) = Default::default();
        let mut this = Self { rig, driver, routers, sites, one_lost_of: 0, random: 1, held };
        this.carry();
        this
    }

    fn lost(&mut self) -> bool {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.one_lost_of > 0 && (self.random >> 33).is_multiple_of(self.one_lost_of)
    }

    /// Puts an inner packet of a router on its way to the gateway.
    ///
    /// # Panics
    ///
    /// The rig's queue is full.
    pub fn send(&mut self, from: usize, packet: &[u8]) {
        let worker = packet.iter().fold(0_usize, |sum, &byte| sum * 31 % 1009 + usize::from(byte));
        match self.routers[from].seat() {
            Seat::Overlay(station) => {
                let frame = overlay_frame(station, packet).bytes();
                self.rig.inject(PortRole::Fabric, worker, &frame, Offload::default());
            }
            Seat::Site(site) => {
                let peer = &mut self.sites[*site];
                let sealed = peer.seal_bytes(self.rig.now, packet, packet.len().max(1440));
                if let Ok(Some(datagram)) = sealed {
                    peer.inject(&mut self.rig, &datagram);
                }
            }
        }
    }

    /// Carries packets until nothing moves.
    ///
    /// # Panics
    ///
    /// It never ends.
    pub fn carry(&mut self) {
        for _ in 0..1000 {
            let mut moved = self.driver.turn(self.rig.now);
            for (from, packet) in std::mem::take(&mut self.held) {
                self.send(from, &packet);
            }
            for from in 0..self.routers.len() {
                for packet in self.routers[from].poll(self.rig.now) {
                    moved += 1;
                    if self.lost() {
                        continue;
                    }
                    if self.lost() {
                        self.held.push((from, packet));
                    } else {
                        self.send(from, &packet);
                    }
                }
            }
            self.rig.run();
            if !self.sites.is_empty() {
                let others = carry_sites(&mut self.rig, &mut self.sites);
                assert!(others.is_empty(), "left by the front end: {others:?}");
            }
            moved += self.deliver();
            if moved == 0 && self.held.is_empty() && !self.driver.has_punts() {
                return;
            }
        }
        panic!("endpoints and routers never rest");
    }

    /// Delivers what left the gateway to the routers.
    fn deliver(&mut self) -> usize {
        let mut moved = 0;
        for sent in self.rig.take(PortRole::Fabric) {
            let nvgre = Nvgre::read(&sent.bytes).expect("NVGRE leaves whole and right");
            if self.lost() {
                continue;
            }
            let to = self.routers.iter_mut().find(|router| match router.seat() {
                Seat::Overlay(station) => {
                    nvgre.vsid == vsid(station.tenant, station.subnet)
                        && nvgre.inner.destination == station.mac()
                        && station.providers.contains(&nvgre.destination)
                }
                Seat::Site(_) => false,
            });
            if let Some(router) = to {
                assert_eq!(nvgre.inner.source, GATEWAY_MAC);
                router.handle(self.rig.now, &nvgre.inner.payload);
            }
            moved += 1;
        }
        for at in 0..self.sites.len() {
            for packet in std::mem::take(&mut self.sites[at].received) {
                moved += 1;
                if self.lost() {
                    continue;
                }
                let behind =
                    |router: &&mut R| matches!(router.seat(), Seat::Site(site) if *site == at);
                for router in self.routers.iter_mut().filter(behind) {
                    router.handle(self.rig.now, &packet);
                }
            }
        }
        moved
    }

    /// Lets time pass, a tenth of a second at a time.
    pub fn pass(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() / 100 {
            self.rig.advance(Duration::from_millis(100));
            self.carry();
        }
    }
}

impl<A: Application> Neighbourhood<A> {
    /// Connects a router to port 179 of an own address.
    ///
    /// # Panics
    ///
    /// The router cannot.
    pub fn connect(&mut self, from: usize, own: IpAddr) -> ConnectionId {
        let router = &mut self.routers[from];
        let to = SocketAddr::new(own, BGP_PORT);
        let now = self.rig.now;
        let id = router.endpoints.connect(now, HERE, router.address, to).expect("a connection");
        self.carry();
        id
    }

    /// Sends `data` from a router until all of it came back, or time is over; what came back.
    pub fn echoed(&mut self, from: usize, id: ConnectionId, data: &[u8]) -> Vec<u8> {
        let mut written = 0;
        self.routers[from].received.clear();
        for _ in 0..5000 {
            written += self.routers[from].endpoints.write(id, &data[written..]);
            self.carry();
            if self.routers[from].received.len() >= data.len() {
                break;
            }
            self.rig.advance(Duration::from_millis(20));
        }
        std::mem::take(&mut self.routers[from].received)
    }
}

/// The frame in which a station's host sends an inner packet to the gateway.
#[must_use]
pub fn overlay_frame(station: &Station, packet: &[u8]) -> Nvgre {
    let ethertype = if packet[0] >> 4 == 4 { IPV4 } else { IPV6 };
    let inner = Frame {
        destination: GATEWAY_MAC,
        source: station.mac(),
        ethertype,
        payload: packet.to_vec(),
    };
    let class = match ethertype {
        IPV4 => packet[1],
        _ => packet[0] << 4 | packet[1] >> 4,
    };
    Nvgre {
        class,
        ..Nvgre::sent(station.providers[0], vsid(station.tenant, station.subnet), inner)
    }
}
