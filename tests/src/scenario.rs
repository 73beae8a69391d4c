//! One seeded scenario: random tenants with the same inner addresses, random traffic over a
//! network that loses, repeats and reorders, a clock that jumps, reloads; the model beside it and
//! the oracles after every step. The same seed does the same, always.

pub mod bgp;
pub mod sites;
mod traffic;

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{EndpointPlan, TenantLimits, TenantPlan};
use nvgate_model::{FrontEndAddress, Protocol, ProviderAddress};
use nvgate_packet::buf::Offload;

use crate::frames::{Body, Frame, Nvgre, Packet, flags};
use crate::model::{End, FromFrontEnd, FromOverlay, Model, Prediction, Shape};
use crate::oracle::{Books, Left, compare, marked, read};
use crate::rig::{Output, Rig, RigOptions, outer, partial, tcp_super_packet};
use crate::rig_plan::{
    FRONT_END_MAC, GATEWAY_MAC, ROUTER_MAC, WEB, customer, plan, provider, public, rule, tenant,
};

/// Steps of a scenario.
const STEPS: usize = 150;
/// Packets under way at most; more are lost.
const MAX_PENDING: usize = 24;
/// Remotes on the front end.
const REMOTES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(198, 51, 100, 8), Ipv4Addr::new(8, 8, 8, 8)];

/// Numbers that depend on the seed alone (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Whether an event of `percent` happens.
    pub const fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    pub const fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A packet under way to the gateway.
#[derive(Clone, Debug)]
enum Flight {
    Overlay(FromOverlay),
    FrontEnd(FromFrontEnd),
    Garbage(PortRole, Vec<u8>),
}

impl Flight {
    const fn role(&self) -> PortRole {
        match self {
            Self::Overlay(_) => PortRole::Fabric,
            Self::FrontEnd(_) => PortRole::FrontEnd,
            Self::Garbage(role, _) => *role,
        }
    }

    const fn shape(&self) -> Shape {
        match self {
            Self::Overlay(from) => from.shape,
            Self::FrontEnd(from) => from.shape,
            Self::Garbage(..) => Shape::Whole,
        }
    }

    fn frame(&self) -> (Vec<u8>, Offload) {
        match self {
            Self::Overlay(from) => {
                let (payload, offload) = payload(&from.packet, from.shape, outer(from.provider));
                let inner = Frame {
                    destination: from.to,
                    source: from.mac,
                    ethertype: from.packet.ethertype(),
                    payload,
                };
                (Nvgre::sent(from.provider, from.vsid, inner).bytes(), offload)
            }
            Self::FrontEnd(from) => {
                let (payload, offload) = payload(&from.packet, from.shape, 14);
                let frame = Frame {
                    destination: FRONT_END_MAC,
                    source: ROUTER_MAC,
                    ethertype: from.packet.ethertype(),
                    payload,
                };
                (frame.bytes(), offload)
            }
            Self::Garbage(_, bytes) => (bytes.clone(), Offload::default()),
        }
    }
}

fn payload(packet: &Packet, shape: Shape, ip_at: u32) -> (Vec<u8>, Offload) {
    match shape {
        Shape::Whole => (packet.bytes(), Offload::default()),
        Shape::Fragment { size, index } => {
            (packet.fragments(size)[index].bytes(), Offload::default())
        }
        Shape::Super { size } => {
            (partial(packet), tcp_super_packet(ip_at, packet.source.is_ipv4(), size))
        }
    }
}

/// A tenant that may be in the plan.
#[derive(Clone, Debug)]
struct Candidate {
    present: bool,
    number: u8,
    plan: TenantPlan,
}

/// A gateway, its model, and the world around both.
#[derive(Debug)]
pub struct Scenario {
    random: Random,
    rig: Rig,
    model: Model,
    books: Books,
    candidates: Vec<Candidate>,
    pending: Vec<Flight>,
    serial: u32,
    tight: bool,
    port_cuts: bool,
    steps: String,
    /// Packets that reached the gateway.
    pub delivered: usize,
}

impl Scenario {
    /// The scenario of a seed; odd seeds have two workers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let workers = 1 + (seed % 2) as u16;
        let tight = random.chance(25);
        let mut candidates = Vec::new();
        for number in 0..2 + random.below(2) as u8 {
            let mut plan = tenant(number);
            if tight {
                plan.limits = TenantLimits {
                    sessions: 6,
                    sessions_per_customer: 4,
                    ..TenantLimits::default()
                };
            }
            if number > 0 && random.chance(10) {
                plan.nat = None;
            }
            candidates.push(Candidate { present: number < 2 || random.chance(50), number, plan });
        }
        let port_cuts = random.chance(30);
        let mut options = RigOptions {
            workers,
            seed: random.next(),
            flow_entries: random.pick(&[8, 64, 1024]),
            ..RigOptions::default()
        };
        options.front_end.checksum = port_cuts;
        options.front_end.gso = port_cuts;
        let plan = plan(present(&candidates));
        let mut books = Books::default();
        let rig = Rig::with(&plan, &options);
        books.follow(&rig);
        let model = Model::new(plan, workers);
        Self {
            random,
            rig,
            model,
            books,
            candidates,
            pending: Vec::new(),
            serial: 0,
            tight,
            port_cuts,
            steps: String::new(),
            delivered: 0,
        }
    }

    /// Plays the whole scenario.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub fn play(&mut self) -> Result<(), String> {
        (0..STEPS).try_for_each(|_| self.step())
    }

    /// What happened so far, a line each.
    #[must_use]
    pub fn steps(&self) -> &str {
        &self.steps
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..40 => self.send(),
            40..88 => self.deliver()?,
            88..96 => self.pass_time()?,
            _ => self.reload()?,
        }
        Ok(())
    }

    const fn now(&self) -> u64 {
        self.rig.now.0 / 100_000_000
    }

    /// Lets time pass, and more of it while the model cannot tell which sessions are over.
    fn pass_time(&mut self) -> Result<(), String> {
        let millis = self.random.pick(&[40, 150, 900, 3_000, 30_000, 130_000, 250_000, 8_000_000]);
        self.rig.now = self.rig.now + Duration::from_millis(millis);
        self.settle()
    }

    fn settle(&mut self) -> Result<(), String> {
        // A jump is swept in steps of 512 seconds, one a tick.
        for _ in 0..24 {
            self.rig.advance(Duration::from_millis(100));
        }
        let mut jump = 1;
        while self.model.is_ambiguous(self.now()) {
            self.rig.now = self.rig.now + Duration::from_secs(jump);
            jump *= 2;
            for _ in 0..24 {
                self.rig.advance(Duration::from_millis(100));
            }
        }
        let _ = writeln!(self.steps, "tick {}", self.now());
        self.check(&[])
    }

    fn reload(&mut self) -> Result<(), String> {
        // Whether a datagram outlives a reload is not promised.
        self.pending.retain(|flight| !matches!(flight.shape(), Shape::Fragment { .. }));
        let at = self.random.below(self.candidates.len());
        let choice = self.random.below(8);
        let host = self.random.pick(&[11, 19, 20]);
        let port = self.random.pick(&[22, 80, 1100, 9003]);
        let candidate = &mut self.candidates[at];
        let tenant_plan = &mut candidate.plan;
        match (choice, &mut tenant_plan.nat) {
            (0, _) => candidate.present = !candidate.present,
            (1 | 2, _) => {
                tenant_plan.endpoints[0].provider_addresses =
                    vec![ProviderAddress(provider(host).into())];
            }
            (3, nat @ None) => *nat = tenant(candidate.number).nat,
            (3, nat @ Some(_)) if port == 22 => *nat = None,
            (4, Some(nat)) if nat.addresses.len() == 2 => {
                nat.addresses.pop();
                let kept = nat.addresses[0];
                nat.inbound.retain(|rule| rule.public_address == kept);
            }
            (4, Some(nat)) => {
                let second = public(candidate.number, 1);
                nat.addresses.push(FrontEndAddress(second.into()));
            }
            (5, Some(nat)) if nat.inbound.len() > 1 => {
                nat.inbound.remove(0);
            }
            (5 | 6, Some(nat)) => {
                let address = public(candidate.number, 0);
                let taken = nat.inbound.iter().any(|rule| {
                    rule.public_address.ip() == IpAddr::V4(address)
                        && (rule.public_port..rule.public_port + rule.port_count).contains(&port)
                });
                if !taken {
                    let to = (customer(WEB, 10), 1000);
                    nat.inbound.push(rule(Protocol::Udp, (address, port), 1, to));
                }
            }
            (_, _) => tenant_plan.limits.punts_per_sec += 1,
        }
        let next = plan(present(&self.candidates));
        let _ = writeln!(self.steps, "reload {choice} of tenant {at}");
        self.rig.reload(&next);
        self.books.follow(&self.rig);
        self.rig.run();
        self.model.reload(next);
        self.check(&[])?;
        if self.model.is_ambiguous(self.now()) { self.settle() } else { Ok(()) }
    }

    /// Runs are over: takes what left, asks all oracles, lets receivers answer.
    fn check(&mut self, predictions: &[Prediction]) -> Result<(), String> {
        let output = Output {
            fabric: self.rig.take(PortRole::Fabric),
            front_end: self.rig.take(PortRole::FrontEnd),
        };
        let left = read(&output, &self.model)?;
        compare(predictions, left.clone(), &mut self.model, self.port_cuts)?;
        self.books.check(&self.rig, predictions)?;
        for one in left {
            if self.random.chance(60) {
                self.react(&one);
            }
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), String> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batched = (!self.tight || self.rig.workers() == 1) && self.random.chance(30);
        let limit = if batched { 2 + self.random.below(5) } else { 1 };
        let mut batch: Vec<Flight> = Vec::new();
        while batch.len() < limit && !self.pending.is_empty() {
            let at = if self.random.chance(70) { 0 } else { self.random.below(self.pending.len()) };
            if batch.first().is_some_and(|first| first.role() != self.pending[at].role()) {
                break;
            }
            // What turns back at the front end crosses workers twice: it travels alone.
            if self.turns_back(&self.pending[at]) && !batch.is_empty() {
                break;
            }
            let flight = self.pending.remove(at);
            if self.random.chance(4) {
                continue;
            }
            if self.random.chance(4) {
                self.enqueue(flight.clone());
            }
            let alone = self.turns_back(&flight);
            batch.push(flight);
            if alone {
                break;
            }
        }
        let worker = self.random.below(self.rig.workers());
        let mut predictions = Vec::new();
        for flight in &batch {
            let now = self.now();
            if let Flight::Overlay(from) = flight
                && self.model.is_blind_hairpin(now, from)
            {
                continue;
            }
            let _ = writeln!(self.steps, "worker {worker} gets {flight:?}");
            let mut prediction = match flight {
                Flight::Overlay(from) => self.model.overlay(now, from),
                Flight::FrontEnd(from) => self.model.front_end(now, from),
                Flight::Garbage(..) => Prediction::new(End::Ignored, Vec::new()),
            };
            let (frame, offload) = flight.frame();
            if let Shape::Super { size } = flight.shape() {
                prediction.packets = frame.len().div_ceil(usize::from(size)) as u64;
            }
            predictions.push(prediction);
            self.rig.inject(flight.role(), worker, &frame, offload);
            self.delivered += 1;
        }
        self.rig.run();
        self.check(&predictions)
    }

    fn turns_back(&self, flight: &Flight) -> bool {
        match flight {
            Flight::Overlay(from) => self.model.tenant_by_public(from.packet.destination).is_some(),
            Flight::FrontEnd(_) | Flight::Garbage(..) => false,
        }
    }

    fn enqueue(&mut self, flight: Flight) {
        if self.pending.len() < MAX_PENDING {
            self.pending.push(flight);
        }
    }

    fn mark(&mut self, tenant: u8, length: usize) -> Vec<u8> {
        self.serial += 1;
        marked(tenant, self.serial, length)
    }

    /// The receiver of a packet answers it.
    fn react(&mut self, left: &Left) {
        if left.packet.more_fragments || left.packet.offset > 0 {
            return;
        }
        let mut reply = left.packet.reply();
        match &mut reply.body {
            Body::Tcp { flags, mss, payload, .. } => {
                *mss = None;
                payload.truncate(40);
                *flags = match *flags & (flags::SYN | flags::ACK | flags::FIN | flags::RST) {
                    flags::SYN => self.random.pick(&[flags::SYN | flags::ACK; 4]),
                    flags::RST => return,
                    _ => self.random.pick(&[
                        flags::ACK,
                        flags::ACK | flags::PSH,
                        flags::ACK | flags::FIN,
                        flags::ACK,
                        flags::RST,
                    ]),
                };
            }
            Body::Udp { .. } | Body::Echo { reply: true, .. } => {}
            Body::Echo { .. } | Body::Icmp { .. } | Body::Raw { .. } => return,
        }
        if matches!(left.packet.body, Body::Echo { reply: true, .. }) {
            return;
        }
        match &left.overlay {
            None => {
                self.enqueue(Flight::FrontEnd(FromFrontEnd { packet: reply, shape: Shape::Whole }));
            }
            Some(nvgre) => {
                let receiver = (nvgre.vsid, nvgre.inner.destination);
                let endpoints = self.model.plan.tenants.iter().flat_map(|tenant| &tenant.endpoints);
                let endpoint = endpoints
                    .filter(|one| (one.vsid.number(), one.mac) == receiver)
                    .find(|one| one.customer_addresses.iter().any(|own| own.ip() == reply.source));
                if let Some(endpoint) = endpoint {
                    let from = speaks(endpoint, reply);
                    self.enqueue(Flight::Overlay(from));
                }
            }
        }
    }
}

fn present(candidates: &[Candidate]) -> Vec<TenantPlan> {
    let present = candidates.iter().filter(|candidate| candidate.present);
    present.map(|candidate| candidate.plan.clone()).collect()
}

/// The frame in which an endpoint's host sends its packet to the default gateway.
fn speaks(endpoint: &EndpointPlan, packet: Packet) -> FromOverlay {
    FromOverlay {
        provider: endpoint.provider_addresses[0].ip(),
        vsid: endpoint.vsid.number(),
        mac: endpoint.mac,
        to: GATEWAY_MAC,
        packet,
        shape: Shape::Whole,
    }
}
