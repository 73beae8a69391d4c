//! A whole gateway on simulated ports with virtual time: workers, rings, snapshots, everything but
//! threads and the kernel. Tests inject frames, let the workers run until idle, and take what left.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nvgate::counters::{DomainTotals, WorkerCounters};
use nvgate::dispatch::{DispatcherConfig, ResolveRequest};
use nvgate::endpoint::{Application, Driver};
use nvgate::io::sim::{SimRx, SimTx};
use nvgate::io::{Capabilities, PortRole, Rx, Tx};
use nvgate::peering::Learnt;
use nvgate::snapshot::{LearnedChanges, LearnedRoute, Retired, Snapshot, SnapshotBuilder};
use nvgate::worker::endpoint_ring::{EndpointEnd, pair};
use nvgate::worker::handoff::mesh;
use nvgate::worker::{Port, Published, Worker, WorkerSetup};
use nvgate_deploy::host::HostView;
use nvgate_deploy::plan::Plan;
use nvgate_model::{DropReason, Instant};
use nvgate_packet::buf::{Checksum, Gso, GsoKind, Offload};

use crate::frames::{Frame, Nvgre, Packet, checksum};
use crate::rig_plan::{
    FABRIC_MAC, FRONT_END_MAC, GATEWAY_MAC, GATEWAY_PROVIDER, GATEWAY_PROVIDER_V6, ROUTER_MAC,
    endpoint_mac, host, underlay_mac, vsid,
};

/// Turns after which workers that are not idle yet never will be.
const MAX_TURNS: usize = 10_000;

/// How a [`Rig`] is made.
#[derive(Clone, Debug)]
pub struct RigOptions {
    /// Packet workers.
    pub workers: u16,
    /// Seeds hashes and port choice.
    pub seed: u64,
    /// Entries of each worker's flow table.
    pub flow_entries: usize,
    /// NAT sessions of one routing domain on one worker.
    pub max_sessions: usize,
    /// What the front-end port can still do to a frame.
    pub front_end: Capabilities,
    /// Frames each queue holds.
    pub queue: usize,
    /// Whether there are rings to the gateway's own endpoints.
    pub endpoints: bool,
}

impl Default for RigOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            seed: 7,
            flow_entries: 1 << 10,
            max_sessions: 1 << 16,
            front_end: Capabilities { checksum: false, gso: false },
            queue: 4096,
            endpoints: false,
        }
    }
}

/// A frame that left by a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Which worker sent it.
    pub worker: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the port has still to do.
    pub offload: Offload,
}

/// A whole gateway.
#[derive(Debug)]
pub struct Rig {
    /// The clock.
    pub now: Instant,
    /// The host's network; takes effect with the next [`reload`](Self::reload).
    pub host: HostView,
    /// Each worker's counters.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// Neighbours the workers asked for.
    pub resolve: Vec<ResolveRequest>,
    workers: Vec<Worker>,
    builder: SnapshotBuilder,
    plan: Plan,
    published: Published,
    retired: Retired,
    endpoint_ends: Vec<EndpointEnd>,
}

impl Rig {
    /// A gateway for `plan` with `workers` workers, its announcements at start sent and forgotten.
    ///
    /// # Panics
    ///
    /// The plan does not build.
    #[must_use]
    pub fn new(plan: &Plan, workers: u16) -> Self {
        let mut rig = Self::with(plan, &RigOptions { workers, ..RigOptions::default() });
        rig.run();
        rig.advance(Duration::from_secs(3));
        rig.take(PortRole::FrontEnd);
        rig
    }

    /// A gateway that has not run yet.
    ///
    /// # Panics
    ///
    /// The plan does not build.
    #[must_use]
    pub fn with(plan: &Plan, options: &RigOptions) -> Self {
        let host = host();
        let mut builder = SnapshotBuilder::new(options.workers, options.seed);
        let snapshot = builder.build(plan, &host).expect("plans of tests build");
        let published: Published = Arc::new(ArcSwap::from_pointee(snapshot));
        let counters: Vec<Arc<WorkerCounters>> =
            (0..options.workers).map(|_| Arc::default()).collect();
        let port = |capabilities| Port {
            rx: Rx::Sim(SimRx::new(options.queue)),
            tx: Tx::Sim(SimTx::new(options.queue, capabilities)),
        };
        let mut endpoint_ends = Vec::new();
        let workers = mesh(options.workers).into_iter().enumerate().map(|(index, ends)| {
            Worker::new(WorkerSetup {
                dispatcher: DispatcherConfig {
                    worker: index as u16,
                    workers: options.workers,
                    flow_entries: options.flow_entries,
                    max_sessions: options.max_sessions,
                    seed: options.seed,
                    counters: Arc::clone(&counters[index]),
                },
                published: Arc::clone(&published),
                fabric: port(Capabilities { checksum: false, gso: false }),
                front_end: port(options.front_end),
                outbox: ends.0,
                inbox: ends.1,
                endpoints: options.endpoints.then(|| {
                    let (worker, endpoint) = pair();
                    endpoint_ends.push(endpoint);
                    worker
                }),
            })
        });
        let workers = workers.collect();
        Self {
            now: Instant(1_000_000_000),
            host,
            workers,
            endpoint_ends,
            counters,
            resolve: Vec::new(),
            builder,
            plan: plan.clone(),
            published,
            retired: Retired::default(),
        }
    }

    /// How many workers there are.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The loop of the gateway's own endpoints under `application`; the caller turns it.
    #[must_use]
    pub fn drive<A: Application>(&mut self, application: A) -> Driver<A> {
        let ends = std::mem::take(&mut self.endpoint_ends);
        Driver::new(application, Arc::clone(&self.published), ends, 11, self.now)
    }

    /// Puts a frame into a port's queue of one worker, as the kernel's fanout might.
    ///
    /// # Panics
    ///
    /// The queue is full.
    pub fn inject(&mut self, role: PortRole, worker: usize, frame: &[u8], offload: Offload) {
        let count = self.workers.len();
        let Rx::Sim(rx) = &mut self.workers[worker % count].port(role).rx else {
            panic!("the rig's ports are simulated")
        };
        assert!(rx.inject(frame, offload), "the rig's queue is full");
    }

    /// One turn of every worker; returns how many packets they processed.
    pub fn turn(&mut self) -> usize {
        let mut processed = 0;
        for worker in &mut self.workers {
            processed += worker.turn(self.now);
            self.resolve.extend(worker.drain_resolve_requests());
        }
        processed
    }

    /// Turns all workers until they are idle.
    ///
    /// # Panics
    ///
    /// They never are.
    pub fn run(&mut self) {
        self.run_until_idle();
        if self.builder.sites_changed() {
            let plan = self.plan.clone();
            self.reload(&plan);
            self.run_until_idle();
        }
    }

    fn run_until_idle(&mut self) {
        let mut idle = 0;
        for _ in 0..MAX_TURNS {
            // A worker without packets may still have announcements and expired sessions to do.
            idle = if self.turn() == 0 { idle + 1 } else { 0 };
            if idle == 2 {
                return;
            }
        }
        panic!("workers are busy after {MAX_TURNS} turns: a packet goes round");
    }

    /// Lets time pass, with a turn of the workers at its end.
    pub fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.run();
    }

    /// Publishes the snapshot of a new plan, or of the same one on a changed host; the workers
    /// find it at their next turn.
    ///
    /// # Panics
    ///
    /// The plan does not build.
    pub fn reload(&mut self, plan: &Plan) {
        self.plan.clone_from(plan);
        let snapshot = self.builder.build(plan, &self.host).expect("plans of tests build");
        self.publish(snapshot);
    }

    fn publish(&mut self, snapshot: Snapshot) {
        self.retired.replace(&self.published, snapshot);
    }

    /// Publishes a snapshot in which neighbours of the tenant with this number teach `routes`, in
    /// place of what they taught before: prefixes and their next hops.
    ///
    /// # Panics
    ///
    /// There is no such tenant.
    pub fn learn(&mut self, tenant: usize, routes: &[(&str, &[IpAddr])]) {
        let routes = routes.iter().map(|(text, hops)| {
            (text.parse().expect("a prefix"), Some(LearnedRoute::Via((*hops).into())))
        });
        let domain = self.plan.tenants[tenant].routing_domain;
        let changes = LearnedChanges { anew: true, routes: routes.collect() };
        self.learn_all([(domain, changes)]);
    }

    /// Publishes a snapshot with what neighbours of these domains taught and took back, as control
    /// does.
    pub fn learn_all(&mut self, learnt: impl IntoIterator<Item = Learnt>) {
        for (domain, changes) in learnt {
            self.builder.learn(domain, changes);
        }
        let snapshot = self.builder.relearned(&self.published.load());
        self.publish(snapshot);
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// Takes everything that left by a port, worker by worker.
    ///
    /// # Panics
    ///
    /// Never: the rig's ports are simulated.
    pub fn take(&mut self, role: PortRole) -> Vec<Sent> {
        let mut sent = Vec::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let Tx::Sim(tx) = &mut worker.port(role).tx else {
                panic!("the rig's ports are simulated")
            };
            while let Some(frame) =
                tx.take(|bytes, offload| Sent { worker: index, bytes: bytes.to_vec(), offload })
            {
                sent.push(frame);
            }
        }
        sent
    }

    /// Forgets everything that left by a port, without allocating.
    pub fn discard(&mut self, role: PortRole) -> usize {
        let mut discarded = 0;
        for worker in &mut self.workers {
            if let Tx::Sim(tx) = &mut worker.port(role).tx {
                discarded += tx.clear();
            }
        }
        discarded
    }

    /// How many packets were dropped for `reason`, with and without a tenant, by tenants that the
    /// snapshot in force knows.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        let early: u64 = self.counters.iter().map(|counters| counters.drops.read(reason)).sum();
        let snapshot = self.published.load();
        let tenants = snapshot
            .domains()
            .map(|domain| domain.counters.iter().collect::<DomainTotals>().drops.of(reason));
        early + tenants.sum::<u64>()
    }

    /// Every reason with its count, of those above zero.
    #[must_use]
    pub fn all_drops(&self) -> Vec<(DropReason, u64)> {
        let counts = DropReason::ALL.iter().map(|&reason| (reason, self.drops(reason)));
        counts.filter(|&(_, count)| count > 0).collect()
    }

    /// Sends a tenant's packet to its default gateway through the NVGRE tunnel and takes what
    /// comes of it.
    pub fn from_tenant(&mut self, from: &Station, packet: &Packet) -> Output {
        let frame = from.sends(packet);
        self.exchange(PortRole::Fabric, &frame.bytes())
    }

    /// Sends a packet from the front end's router and takes what comes of it.
    pub fn from_front_end(&mut self, packet: &Packet) -> Output {
        let frame = Frame::of(FRONT_END_MAC, ROUTER_MAC, packet);
        self.exchange(PortRole::FrontEnd, &frame.bytes())
    }

    /// Injects one frame, at a worker chosen by its bytes, runs, and takes everything that left.
    pub fn exchange(&mut self, role: PortRole, frame: &[u8]) -> Output {
        self.exchange_offloaded(role, frame, Offload::default())
    }

    /// As [`exchange`](Self::exchange), with offload facts.
    pub fn exchange_offloaded(&mut self, role: PortRole, frame: &[u8], offload: Offload) -> Output {
        let worker =
            frame.iter().fold(0_usize, |sum, &byte| sum.wrapping_mul(31) + usize::from(byte));
        self.inject(role, worker, frame, offload);
        self.run();
        Output { fabric: self.take(PortRole::Fabric), front_end: self.take(PortRole::FrontEnd) }
    }
}

/// What left by the two ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// By the fabric port.
    pub fabric: Vec<Sent>,
    /// By the front-end port.
    pub front_end: Vec<Sent>,
}

impl Output {
    /// The NVGRE frames, each read with every check.
    ///
    /// # Panics
    ///
    /// One is wrong.
    #[must_use]
    pub fn overlay(&self) -> Vec<Nvgre> {
        let read = |sent: &Sent| {
            assert_eq!(sent.offload, Offload::default(), "NVGRE leaves finished");
            Nvgre::read(&sent.bytes).unwrap_or_else(|error| panic!("{error}: {:02x?}", sent.bytes))
        };
        self.fabric.iter().map(read).collect()
    }

    /// The frames on the front end.
    ///
    /// # Panics
    ///
    /// One is wrong.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        self.front_end.iter().map(|sent| Frame::read(&sent.bytes).expect("a frame")).collect()
    }

    /// Whether nothing left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fabric.is_empty() && self.front_end.is_empty()
    }

    /// The one packet that left to the front end's router, and nothing else did.
    ///
    /// # Panics
    ///
    /// That is not so.
    #[must_use]
    pub fn to_router(&self) -> Packet {
        assert!(self.fabric.is_empty(), "to the fabric: {:?}", self.overlay());
        let frames = self.frames();
        let [frame] = &frames[..] else { panic!("not one frame: {frames:?}") };
        assert_eq!((frame.destination, frame.source), (ROUTER_MAC, FRONT_END_MAC));
        frame.packet().unwrap_or_else(|error| panic!("{error}: {frame:?}"))
    }

    /// The one packet that left to a station of a tenant, and nothing else did.
    ///
    /// # Panics
    ///
    /// That is not so.
    #[must_use]
    pub fn to_station(&self, station: &Station) -> Packet {
        let packets = self.all_to_station(station);
        let [packet] = &packets[..] else { panic!("not one packet: {packets:?}") };
        packet.clone()
    }

    /// The packets that left to a station of a tenant, and nothing else did.
    ///
    /// # Panics
    ///
    /// That is not so.
    #[must_use]
    pub fn all_to_station(&self, station: &Station) -> Vec<Packet> {
        assert!(self.front_end.is_empty(), "to the front end: {:?}", self.frames());
        let read = |nvgre: Nvgre| {
            assert_eq!(nvgre.vsid, vsid(station.tenant, station.subnet));
            assert_eq!(nvgre.inner.destination, station.mac());
            assert_eq!(nvgre.inner.source, GATEWAY_MAC);
            assert!(station.providers.contains(&nvgre.destination), "{nvgre:?}");
            assert_eq!(nvgre.macs, (underlay_mac(last_byte(nvgre.destination)), FABRIC_MAC));
            nvgre.inner.packet().unwrap_or_else(|error| panic!("{error}: {nvgre:?}"))
        };
        self.overlay().into_iter().map(read).collect()
    }
}

/// An endpoint as its host speaks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Station {
    /// The tenant's number.
    pub tenant: u8,
    /// Its subnet's number.
    pub subnet: u8,
    /// The last byte of its customer addresses.
    pub last: u8,
    /// The provider addresses of its host.
    pub providers: Vec<IpAddr>,
}

impl Station {
    /// The endpoint with this place.
    #[must_use]
    pub fn new(tenant: u8, subnet: u8, last: u8, providers: &[IpAddr]) -> Self {
        Self { tenant, subnet, last, providers: providers.to_vec() }
    }

    /// Its MAC.
    #[must_use]
    pub const fn mac(&self) -> nvgate_model::MacAddress {
        endpoint_mac(self.subnet, self.last)
    }

    /// The frame in which its host sends a packet to the default gateway.
    #[must_use]
    pub fn sends(&self, packet: &Packet) -> Nvgre {
        self.sends_frame(Frame::of(GATEWAY_MAC, self.mac(), packet))
    }

    /// The frame in which its host sends an inner frame to the gateway.
    #[must_use]
    pub fn sends_frame(&self, inner: Frame) -> Nvgre {
        let class = inner.packet().map_or(0, |packet| packet.class);
        Nvgre { class, ..Nvgre::sent(self.providers[0], vsid(self.tenant, self.subnet), inner) }
    }
}

impl Nvgre {
    /// The frame in which the host with this provider address sends an inner frame to the gateway.
    #[must_use]
    pub fn sent(source: IpAddr, vsid: u32, inner: Frame) -> Self {
        let destination: IpAddr = match source {
            IpAddr::V4(_) => GATEWAY_PROVIDER.into(),
            IpAddr::V6(_) => GATEWAY_PROVIDER_V6.into(),
        };
        let macs = (FABRIC_MAC, underlay_mac(last_byte(source)));
        Self { macs, source, destination, class: 0, vsid, flow: 0x2a, inner }
    }
}

/// Where the inner IP packet begins in a frame from this provider address.
#[must_use]
pub const fn outer(provider: IpAddr) -> u32 {
    if provider.is_ipv4() { 14 + 20 + 8 + 14 } else { 14 + 40 + 8 + 14 }
}

/// The packet with its transport checksum as a sending kernel leaves it to the port.
#[must_use]
pub fn partial(packet: &Packet) -> Vec<u8> {
    let mut bytes = packet.bytes();
    let (at, addresses) = if packet.source.is_ipv4() { (20, 12..20) } else { (40, 8..40) };
    let field = at + if packet.protocol() == 6 { 16 } else { 6 };
    let length = (bytes.len() - at) as u32;
    let mut pseudo = bytes[addresses].to_vec();
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, packet.protocol()]);
    let sum = !checksum(&[&pseudo]);
    bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

/// Offload facts of a TCP super-packet whose IP header begins at `ip_at` of the frame.
#[must_use]
pub const fn tcp_super_packet(ip_at: u32, is_ipv4: bool, size: u16) -> Offload {
    let (kind, header) = if is_ipv4 { (GsoKind::TcpV4, 20) } else { (GsoKind::TcpV6, 40) };
    Offload {
        checksum: Checksum::Partial { start: ip_at + header, field: 16 },
        gso: Some(Gso { kind, size }),
    }
}
