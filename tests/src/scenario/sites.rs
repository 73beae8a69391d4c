//! One seeded scenario of tunnels: tenants with the same inner addresses, sites with one and two
//! tunnels, some renumbered, over a network that loses, repeats and reorders; peers that roam and
//! go away, a clock that jumps, reloads. Only what is encrypted depends on more than the seed.
//!
//! The oracle knows every inner packet by its mark: wherever one arrives, it was sent by the same
//! tenant, is unchanged but for its hop and its translation, and arrives once at most.

mod judge;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{TenantPlan, TranslatePlan, TranslateSide};
use nvgate_packet::buf::Offload;

use super::Random;
use crate::frames::{ARP, Frame, Nvgre, Packet, flags};
use crate::oracle::{Books, marked};
use crate::rig::{Rig, RigOptions, Station};
use crate::rig_claims::{app, web};
use crate::rig_plan::{REMOTE, customer, plan, public, tenant, vsid};
use crate::rig_site::{SitePeer, give_sites, on_premises, peer_socket, site, tunnel};

/// Steps of a scenario.
const STEPS: usize = 120;
/// Datagrams and frames under way at most; more are lost.
const MAX_PENDING: usize = 40;
/// Seconds in which every tunnel recovers once the network has.
const HEALING_SECS: u64 = 240;

/// Something on its way.
#[derive(Clone, Debug)]
enum Flight {
    /// To a port of the gateway.
    Gateway(PortRole, Vec<u8>),
    /// To a peer, by its position.
    Peer(usize, Packet),
}

/// The other end of a tunnel.
#[derive(Debug)]
struct Far {
    tenant: u8,
    site: u8,
    peer: SitePeer,
}

/// A packet as it was sent, in the tenant's own numbers, and whether it has arrived.
#[derive(Clone, Debug)]
struct Sent {
    tenant: u8,
    packet: Packet,
    arrived: bool,
}

/// Where a packet came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Vm,
    Site(u8),
    Internet,
}

/// A gateway with tunnels, and the world around it.
#[derive(Debug)]
pub struct SiteScenario {
    random: Random,
    rig: Rig,
    books: Books,
    plans: Vec<TenantPlan>,
    present: Vec<bool>,
    far: Vec<Far>,
    pending: Vec<Flight>,
    sent: BTreeMap<u32, Sent>,
    serial: u32,
    next_port: u16,
    steps: String,
    /// Inner packets that arrived.
    pub arrived: usize,
}

/// A tenant with one or two sites: 192.168.1.0/24 and 192.168.2.0/24, some of which are seen as
/// 172.20.1.0/24 and 172.20.2.0/24.
fn tenant_with_sites(random: &mut Random, number: u8) -> TenantPlan {
    let (mut sites, mut routes, mut key) = (Vec::new(), Vec::new(), 0);
    for index in 0..=random.below(2) as u8 {
        let own = format!("192.168.{}.0/24", index + 1);
        let tunnels = (0..=random.below(2)).map(|at| {
            key += 1;
            let mut tunnel = tunnel(number, key, &format!("t{at}"), &[&own]);
            tunnel.metric = random.pick(&[10, 10, 20]);
            tunnel
        });
        let mut site = site(&format!("site-{index}"), tunnels.collect());
        site.internet = random.chance(60);
        let mut seen = own.clone();
        if random.chance(40) {
            seen = format!("172.20.{}.0/24", index + 1);
            site.translate.push(TranslatePlan {
                side: TranslateSide::Remote,
                from: own.parse().expect("a prefix"),
                to: seen.parse().expect("a prefix"),
            });
        }
        sites.push(site);
        routes.push((seen, u16::from(index)));
    }
    let mut tenant = tenant(number);
    let routes: Vec<_> = routes.iter().map(|(prefix, site)| (prefix.as_str(), *site)).collect();
    give_sites(&mut tenant, number, sites, &routes);
    tenant
}

impl SiteScenario {
    /// The scenario of a seed; odd seeds have two workers.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x0073_6974_6573);
        let workers = 1 + (seed % 2) as u16;
        let count = 2 + random.below(2) as u8;
        let plans: Vec<_> =
            (0..count).map(|number| tenant_with_sites(&mut random, number)).collect();
        let flow_entries = random.pick(&[8, 64, 1024]);
        let options =
            RigOptions { workers, seed: random.next(), flow_entries, ..RigOptions::default() };
        let rig = Rig::with(&plan(plans.clone()), &options);
        let mut books = Books::default();
        books.follow(&rig);
        let mut scenario = Self {
            random,
            rig,
            books,
            present: vec![true; plans.len()],
            plans,
            far: Vec::new(),
            pending: Vec::new(),
            sent: BTreeMap::new(),
            serial: 0,
            next_port: 7000,
            steps: String::new(),
            arrived: 0,
        };
        for number in 0..count {
            let sites = scenario.plans[usize::from(number)].vpn.clone().expect("sites").sites;
            let mut key = 0;
            for (index, site) in (0..).zip(&sites) {
                for _ in &site.tunnels {
                    key += 1;
                    let address = scenario.fresh_address();
                    let peer = SitePeer::new(number, key, address, scenario.rig.now);
                    scenario.far.push(Far { tenant: number, site: index, peer });
                }
            }
        }
        scenario
    }

    /// Plays the whole scenario.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub fn play(&mut self) -> Result<(), String> {
        (0..STEPS).try_for_each(|_| self.step())?;
        self.heal()
    }

    /// What happened so far, a line each.
    #[must_use]
    pub fn steps(&self) -> &str {
        &self.steps
    }

    /// An address that no peer had before, all behind a few hosts.
    fn fresh_address(&mut self) -> std::net::SocketAddr {
        self.next_port += 1;
        peer_socket(9 + self.random.below(3) as u8, self.next_port)
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..40 => self.send(),
            40..82 => return self.deliver(),
            82..91 => return self.pass_time(),
            91..94 => {
                let at = self.random.below(self.far.len());
                self.far[at].peer.address = self.fresh_address();
                let _ = writeln!(self.steps, "peer {at} roams");
            }
            94..97 => return self.reload(),
            97..99 => {
                let at = self.random.below(self.far.len());
                self.far[at].peer.reachable ^= true;
                let _ = writeln!(self.steps, "peer {at} goes or comes");
            }
            _ => {
                let at = self.random.below(self.far.len());
                let bytes: Vec<u8> =
                    (0..self.random.below(200)).map(|_| self.random.next() as u8).collect();
                let frame = self.far[at].peer.frame(&bytes, 0);
                self.enqueue(Flight::Gateway(PortRole::FrontEnd, frame));
            }
        }
        Ok(())
    }

    /// Remembers a packet of a tenant's; returns its payload's mark.
    fn mark(&mut self, tenant: u8, make: impl FnOnce(&[u8]) -> Packet) -> Packet {
        self.serial += 1;
        let length = 16 + 8 * self.random.below(60);
        let packet = make(&marked(tenant, self.serial, length));
        let sent = Sent { tenant, packet: own_numbers(packet.clone()), arrived: false };
        self.sent.insert(self.serial, sent);
        packet
    }

    fn station(&mut self, tenant: u8) -> (Station, Ipv4Addr) {
        let station = if self.random.chance(50) { web(tenant) } else { app(tenant) };
        let address = customer(station.subnet, station.last);
        (station, address)
    }

    /// A VM, or a machine of a site, sends something new.
    fn send(&mut self) {
        let at = self.random.below(self.far.len());
        let (tenant, site) = (self.far[at].tenant, self.far[at].site);
        let (station, vm) = self.station(tenant);
        let port = self.random.pick(&[1000, 1001, 1002]);
        let kind = self.random.below(3);
        let make = |from: IpAddr, to: IpAddr, data: &[u8]| match kind {
            0 => Packet::udp((from, port), (to, 53), data),
            1 => Packet::tcp((from, port), (to, 443), flags::ACK, data),
            _ => Packet::echo(from, to, port, data),
        };
        let machine = on_premises(site + 1, 5);
        if self.random.chance(45) {
            let to = self.as_seen(tenant, machine);
            let packet = self.mark(tenant, |data| make(vm.into(), to, data));
            let frame = station.sends(&packet).bytes();
            self.enqueue(Flight::Gateway(PortRole::Fabric, frame));
            return;
        }
        let to = match self.random.below(10) {
            0..6 => vm.into(),
            6..8 => self.as_seen(tenant, on_premises(2 - site, 5)),
            _ => IpAddr::V4(REMOTE),
        };
        let packet = self.mark(tenant, |data| make(machine.into(), to, data));
        let far = &mut self.far[at];
        if let Some(sealed) = far.peer.seal(self.rig.now, &packet) {
            let frame = far.peer.frame(&sealed, 0);
            if far.peer.reachable {
                self.enqueue(Flight::Gateway(PortRole::FrontEnd, frame));
            }
        }
        self.poll_peers();
    }

    /// An address of a site as its tenant sees it.
    fn as_seen(&self, tenant: u8, address: Ipv4Addr) -> IpAddr {
        let sites = &self.plans[usize::from(tenant)].vpn.as_ref().expect("sites").sites;
        let pairs = sites.iter().flat_map(|site| &site.translate);
        let renumbered = pairs.into_iter().any(|pair| pair.from.contains(address.into()));
        let [_, _, net, last] = address.octets();
        if renumbered { Ipv4Addr::new(172, 20, net, last).into() } else { address.into() }
    }

    fn enqueue(&mut self, flight: Flight) {
        if self.pending.len() < MAX_PENDING {
            self.pending.push(flight);
        }
    }

    fn poll_peers(&mut self) {
        for at in 0..self.far.len() {
            for datagram in self.far[at].peer.poll(self.rig.now) {
                let far = &self.far[at].peer;
                if far.reachable {
                    let frame = far.frame(&datagram, 0);
                    self.enqueue(Flight::Gateway(PortRole::FrontEnd, frame));
                }
            }
        }
    }

    fn deliver(&mut self) -> Result<(), String> {
        for _ in 0..=self.random.below(6) {
            if self.pending.is_empty() {
                break;
            }
            let at = if self.random.chance(75) { 0 } else { self.random.below(self.pending.len()) };
            let flight = self.pending.remove(at);
            if self.random.chance(5) {
                continue;
            }
            if self.random.chance(5) && !is_of_vm(&flight) {
                self.enqueue(flight.clone());
            }
            self.arrive(flight)?;
        }
        self.settle()
    }

    fn arrive(&mut self, flight: Flight) -> Result<(), String> {
        match flight {
            Flight::Gateway(role, frame) => {
                let worker = self.random.below(self.rig.workers());
                let _ =
                    writeln!(self.steps, "worker {worker} gets {} bytes, {role:?}", frame.len());
                self.rig.inject(role, worker, &frame, Offload::default());
            }
            Flight::Peer(at, packet) => {
                let far = &mut self.far[at];
                if !far.peer.reachable || !far.peer.is_addressed(&packet) {
                    return Ok(());
                }
                let answer = far.peer.deliver(self.rig.now, packet);
                if let Some(answer) = answer {
                    let frame = self.far[at].peer.frame(&answer, 0);
                    self.enqueue(Flight::Gateway(PortRole::FrontEnd, frame));
                }
                let (tenant, site) = (self.far[at].tenant, self.far[at].site);
                for packet in self.far[at].peer.take() {
                    let _ = writeln!(self.steps, "peer {at} takes {packet:?}");
                    self.judge(tenant, Place::Site(site), packet)?;
                }
            }
        }
        Ok(())
    }

    fn pass_time(&mut self) -> Result<(), String> {
        let millis = self.random.pick(&[10, 300, 1_000, 1_000, 5_500, 20_000, 125_000, 200_000]);
        self.rig.now = self.rig.now + Duration::from_millis(millis);
        let _ = writeln!(self.steps, "{millis} ms pass");
        self.poll_peers();
        self.settle()
    }

    fn reload(&mut self) -> Result<(), String> {
        let at = self.random.below(self.plans.len());
        let choice = self.random.below(6);
        let fars: Vec<_> = self.far.iter().filter(|far| usize::from(far.tenant) == at).collect();
        let endpoint = self.random.pick(&[Some(fars[0].peer.address), None]);
        let kbps = self.random.pick(&[None, NonZeroU32::new(64), NonZeroU32::new(10_000)]);
        let site = &mut self.plans[at].vpn.as_mut().expect("sites").sites[0];
        match choice {
            0 => self.present[at] = !self.present[at],
            1 => site.tunnels[0].endpoint = endpoint,
            2 => site.tunnels[0].bandwidth.inbound_kbps = kbps,
            3 => site.tunnels[0].bandwidth.outbound_kbps = kbps,
            4 => site.internet = !site.internet,
            _ => site.tunnels[0].metric = 30 - site.tunnels[0].metric,
        }
        let _ = writeln!(self.steps, "reload {choice} of tenant {at}");
        self.publish();
        self.settle()
    }

    fn publish(&mut self) {
        let present = self.plans.iter().zip(&self.present).filter(|(_, present)| **present);
        let next = plan(present.map(|(tenant, _)| tenant.clone()).collect());
        self.rig.reload(&next);
        self.books.follow(&self.rig);
    }

    /// Runs the gateway until it rests, and judges all that left.
    fn settle(&mut self) -> Result<(), String> {
        self.rig.run();
        for sent in self.rig.take(PortRole::Fabric) {
            let nvgre = Nvgre::read(&sent.bytes)?;
            let of = (0..self.plans.len() as u8)
                .find(|&number| (0..4).any(|subnet| vsid(number, subnet) == nvgre.vsid));
            let tenant = of.ok_or_else(|| format!("nobody's VSID: {nvgre:?}"))?;
            let packet = nvgre.inner.packet()?;
            let _ = writeln!(self.steps, "tenant {tenant} takes {packet:?}");
            self.judge(tenant, Place::Vm, packet)?;
        }
        for sent in self.rig.take(PortRole::FrontEnd) {
            let frame = Frame::read(&sent.bytes)?;
            if frame.ethertype == ARP {
                continue;
            }
            let packet = frame.packet()?;
            let addressed = |far: &Far| far.peer.addressed(&sent.bytes).is_some();
            if let Some(at) = self.far.iter().position(addressed) {
                self.enqueue(Flight::Peer(at, packet));
                continue;
            }
            if packet.ports().0 == crate::rig_site::TUNNEL_PORT {
                // To where a peer was before.
                continue;
            }
            let leased = |&tenant: &u8| (0..4).any(|at| packet.source == public(tenant, at));
            let of = (0..self.plans.len() as u8).find(leased);
            let tenant = of.ok_or_else(|| format!("nobody's address: {packet:?}"))?;
            let _ = writeln!(self.steps, "the internet takes {packet:?}");
            self.judge(tenant, Place::Internet, packet)?;
        }
        self.audit()
    }
}

/// What a VM sends is not repeated: nothing inside a tunnel would tell it from another packet.
const fn is_of_vm(flight: &Flight) -> bool {
    matches!(flight, Flight::Gateway(PortRole::Fabric, _))
}

/// A packet with the numbers that sites have themselves.
fn own_numbers(mut packet: Packet) -> Packet {
    for address in [&mut packet.source, &mut packet.destination] {
        if let IpAddr::V4(v4) = address
            && let [172, 20, net, last] = v4.octets()
        {
            *address = on_premises(net, last).into();
        }
    }
    packet
}
