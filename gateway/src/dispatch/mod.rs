//! The routing-domain dispatcher of one worker: decides, per packet, which tenant it belongs to
//! and where that tenant's routing sends it.
//!
//! [`Dispatcher::process`] takes a batch from one port. Each packet is classified, looked up in
//! the flow table, and on a hit changed and sent (`overlay`, `front_end`); on a miss the slow path
//! proves who speaks (`sender`), decides (`route`), asks NAT (`translate`), answers for the
//! gateway (`neighbour`, `answer`), replicates (`replicate`), and compiles what it decided for the
//! packets behind it. Every packet ends in one [`Verdict`].

mod answer;
mod domain_state;
mod egress;
mod endpoint;
mod flow_table;
mod forward;
mod front_end;
mod front_end_neighbour;
pub(crate) mod limiter;
mod neighbour;
mod onward;
mod overlay;
mod replicate;
mod route;
mod sender;
mod site;
mod steer;
mod translate;
mod tunnels;

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use nvgate_model::{DomainSlot, DropReason, Instant, Tick};
use nvgate_nat::{PortUsage, Usage};
use nvgate_packet::buf::{HEADROOM, PacketBuf};
use nvgate_packet::flow_key::{FlowKeyV4, FlowKeyV6};
use nvgate_packet::headers::Headers;

use crate::counters::{NatGauges, WorkerCounters};
use crate::endpoint::MAX_PACKET;
use crate::io::{Batch, PortRole, Tx};
use crate::snapshot::{Domain, Snapshot};
use crate::worker::endpoint_ring::RingSender;
use crate::worker::handoff::{Outbox, Stage};

use domain_state::{Asker, DomainState};
use egress::Scratch;
use flow_table::FlowTable;
pub use steer::Steering;
use tunnels::Tunnels;

/// How a packet ended.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It left by a port, once or replicated.
    Transmit,
    /// It went to the worker that owns it.
    Handoff,
    /// It was for the gateway itself: answered, or given to its own endpoint.
    Punt,
    /// It belongs to the host's kernel, which has its own copy.
    Ignore,
    /// It was dropped.
    Drop(DropReason),
}

/// A verdict and the routing domain it is counted for, once that is known.
struct Ended<'s> {
    verdict: Verdict,
    domain: Option<&'s Domain>,
}

/// What a worker lends the dispatcher for a batch.
#[derive(Debug)]
pub struct Io<'a> {
    /// The fabric port.
    pub fabric: &'a mut Tx,
    /// The front-end port.
    pub front_end: &'a mut Tx,
    /// Rings to the other workers.
    pub handoff: &'a mut Outbox,
    /// The ring to the gateway's own endpoints, when they run.
    pub punts: Option<&'a mut RingSender>,
}

/// Asks control to have the kernel resolve a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResolveRequest {
    /// The port it is on.
    pub port: PortRole,
    /// The neighbour's address.
    pub address: IpAddr,
}

/// Neighbours a worker asks for between two turns of its loop; more wait for the next packet.
const MAX_RESOLVE_REQUESTS: usize = 16;

/// Domains looked after in one turn of the worker's loop.
const SWEEP_DOMAINS: usize = 32;

/// What a dispatcher is made with.
#[derive(Clone, Debug)]
pub struct DispatcherConfig {
    /// This worker, below `workers`.
    pub worker: u16,
    /// All workers.
    pub workers: u16,
    /// Entries of the flow table of each address family.
    pub flow_entries: usize,
    /// NAT sessions of one routing domain on this worker.
    pub max_sessions: usize,
    /// Seeds hashes and port choice; the same for all workers.
    pub seed: u64,
    /// This worker's counters.
    pub counters: Arc<WorkerCounters>,
}

/// The dispatcher of one worker. It owns its state alone; a snapshot is lent for each batch.
#[derive(Debug)]
pub struct Dispatcher {
    config: DispatcherConfig,
    steering: Steering,
    flows_v4: FlowTable<FlowKeyV4>,
    flows_v6: FlowTable<FlowKeyV6>,
    domains: Vec<Option<DomainState>>,
    scratch: Scratch,
    /// Where answers by the gateway are built, behind their headroom.
    answer: Box<[u8]>,
    resolve: ArrayVec<ResolveRequest, MAX_RESOLVE_REQUESTS>,
    now: Instant,
    /// The tick in which `sweep` began.
    swept: Tick,
    /// The next domain to look after within that tick.
    sweep: usize,
    /// Domains with more idle sessions than one look closes.
    behind: ArrayVec<usize, SWEEP_DOMAINS>,
    /// The tunnels that live on this worker.
    tunnels: Tunnels,
    /// The domain that dropped a packet which another sent to a leased address.
    dropped_by: Option<DomainSlot>,
    /// Packets of the super-packet at hand whose end is accounted for already.
    accounted: u64,
}

impl Dispatcher {
    /// A dispatcher without state.
    #[must_use]
    pub fn new(config: DispatcherConfig) -> Self {
        Self {
            steering: Steering::new(config.workers, config.seed),
            flows_v4: FlowTable::new(config.flow_entries),
            flows_v6: FlowTable::new(config.flow_entries / 4),
            domains: Vec::new(),
            scratch: Scratch::new(),
            answer: vec![0; HEADROOM + MAX_PACKET].into_boxed_slice(),
            resolve: ArrayVec::new(),
            now: Instant::default(),
            swept: Tick::default(),
            sweep: 0,
            behind: ArrayVec::new(),
            tunnels: Tunnels::new(config.worker, config.workers, config.seed),
            dropped_by: None,
            accounted: 0,
            config,
        }
    }

    /// Takes over a newly published snapshot: state of domains that are gone is freed, NAT follows
    /// its configuration.
    pub fn adopt(&mut self, snapshot: &Snapshot, now: Instant) {
        self.now = now;
        let slots = snapshot.domains().map(|domain| domain.slot.0 as usize + 1).max().unwrap_or(0);
        self.domains.resize_with(slots.max(self.domains.len()), || None);
        for slot in 0..self.domains.len() {
            match snapshot.domain(DomainSlot(slot as u32)) {
                Some(domain) => match &mut self.domains[slot] {
                    Some(state) => state.follow(domain, &self.config),
                    vacant @ None => {
                        *vacant = Some(DomainState::new(domain, &self.config, self.now));
                    }
                },
                None => self.domains[slot] = None,
            }
        }
        self.tunnels.follow(snapshot, self.now);
    }

    /// Processes a batch that arrived at the port `role`.
    pub fn process(
        &mut self,
        snapshot: &Snapshot,
        now: Instant,
        role: PortRole,
        batch: &mut Batch<'_>,
        io: &mut Io<'_>,
    ) {
        self.now = now;
        match role {
            PortRole::Fabric => self.process_overlay(snapshot, batch, io),
            PortRole::FrontEnd => self.process_front_end(snapshot, batch, io),
        }
    }

    /// Processes one packet that another worker handed on.
    pub fn process_handoff(
        &mut self,
        snapshot: &Snapshot,
        now: Instant,
        stage: Stage,
        packet: &mut PacketBuf<'_>,
        io: &mut Io<'_>,
    ) {
        self.now = now;
        let packets = wire_packets(packet);
        let ended = match stage {
            Stage::Arrived { port: PortRole::Fabric, owner } => {
                self.overlay_packet(snapshot, packet, owner, io)
            }
            Stage::Arrived { port: PortRole::FrontEnd, owner } => {
                self.front_end_packet(snapshot, packet, owner, io)
            }
            Stage::Tunnel { tunnel } => self.tunnel_packet(snapshot, packet, tunnel, io),
            Stage::FromSite { domain, site, owner } => {
                self.site_packet(snapshot, packet, (domain, site), owner, io)
            }
            Stage::IntoSite { domain, site, flow } => {
                self.enter_own_tunnel(snapshot, packet, (domain, site), flow, io)
            }
        };
        self.account(&ended, packets);
    }

    /// Closes idle NAT sessions and publishes what NAT uses, a few domains a call, each domain once a
    /// tick and one of those with more to close every call.
    pub fn maintain(&mut self, snapshot: &Snapshot, now: Instant) {
        let tick = now.tick();
        if self.swept != tick {
            (self.swept, self.sweep) = (tick, 0);
        }
        if let Some(slot) = self.behind.pop_at(0) {
            self.look_after(snapshot, slot, tick);
        }
        let end = (self.sweep + SWEEP_DOMAINS).min(self.domains.len());
        for slot in self.sweep..end {
            if !self.behind.contains(&slot) {
                self.look_after(snapshot, slot, tick);
            }
        }
        self.sweep = end;
    }

    fn look_after(&mut self, snapshot: &Snapshot, slot: usize, tick: Tick) {
        let Some(Some(state)) = self.domains.get_mut(slot) else { return };
        let Some(domain) = snapshot.domain(DomainSlot(slot as u32)) else { return };
        let gauges = &domain.counters[usize::from(self.config.worker)].nat;
        match &mut state.nat {
            Some(nat) => {
                if nat.expire(slot as u32, tick, &mut self.flows_v4) {
                    // A full list loses nothing: the next tick looks again.
                    let _ = self.behind.try_push(slot);
                }
                publish_usage(gauges, &nat.nat.usage());
            }
            None => publish_usage(gauges, &Usage::default()),
        }
    }

    /// Neighbours to be resolved, emptied by the call.
    pub fn drain_resolve_requests(&mut self) -> impl Iterator<Item = ResolveRequest> + '_ {
        self.resolve.drain(..)
    }

    /// Has a neighbour resolved that a tenant's packet needs, within the tenant's budget.
    fn request_resolution(&mut self, domain: &Domain, port: PortRole, address: IpAddr) {
        let request = ResolveRequest { port, address };
        let now = self.now;
        if !self.resolve.contains(&request)
            && self.state(domain).is_some_and(|state| state.resolutions.take(now))
        {
            // A full list loses nothing: the next packet asks again.
            let _ = self.resolve.try_push(request);
        }
    }

    fn account(&mut self, ended: &Ended<'_>, packets: u64) {
        let packets = packets.saturating_sub(std::mem::take(&mut self.accounted));
        let counters = &self.config.counters;
        match ended.verdict {
            Verdict::Transmit => counters.transmitted.add(packets),
            Verdict::Handoff => counters.handoffs_sent.add(packets),
            Verdict::Ignore => counters.ignored.add(packets),
            Verdict::Punt => {
                counters.punted.add(packets);
                if let Some(domain) = ended.domain {
                    self.counters_of(domain).punts.add(packets);
                }
            }
            Verdict::Drop(reason) => {
                counters.dropped.add(packets);
                match ended.domain {
                    Some(domain) => self.counters_of(domain).drops.count(reason, packets),
                    None => counters.drops.count(reason, packets),
                }
            }
        }
    }

    fn counters_of<'s>(&self, domain: &'s Domain) -> &'s crate::counters::DomainCounters {
        &domain.counters[usize::from(self.config.worker)]
    }

    fn state(&mut self, domain: &Domain) -> Option<&mut DomainState> {
        self.domains.get_mut(domain.slot.0 as usize)?.as_mut()
    }

    /// Whether the tenant's budget allows one more answer by the gateway itself to `asker`.
    fn may_answer(&mut self, domain: &Domain, asker: Asker) -> bool {
        let now = self.now;
        self.state(domain).is_some_and(|state| state.may_answer(asker, now))
    }
}

fn publish_usage(gauges: &NatGauges, usage: &Usage) {
    let protocols = [usage.tcp, usage.udp, usage.icmp];
    let blocks =
        |of: fn(&PortUsage) -> u32| protocols.iter().map(|ports| u64::from(of(ports))).sum();
    gauges.sessions.set(usage.sessions as u64);
    gauges.mappings.set(usage.mappings as u64);
    gauges.blocks_leased.set(blocks(|ports| ports.blocks_leased));
    gauges.blocks_total.set(blocks(|ports| ports.blocks_total));
    gauges.ports_in_use.tcp.set(u64::from(usage.tcp.ports_in_use));
    gauges.ports_in_use.udp.set(u64::from(usage.udp.ports_in_use));
    gauges.ports_in_use.icmp.set(u64::from(usage.icmp.ports_in_use));
    gauges.ports_total.set(u64::from(usage.icmp.ports_total));
}

/// How many packets on a wire a view stands for.
pub(crate) fn wire_packets(packet: &PacketBuf<'_>) -> u64 {
    match packet.offload().gso {
        // Headers make the count at most one too high for the last segment; ports count frames.
        Some(gso) => (packet.len() as u64).div_ceil(u64::from(gso.size.max(1))).max(1),
        None => 1,
    }
}

/// The length of the longest IP packet that `packet` stands for.
fn longest_packet(packet: &PacketBuf<'_>, headers: &Headers) -> usize {
    match packet.offload().gso {
        Some(gso) => {
            let head = usize::from(headers.transport_at) + headers.transport_length(packet.bytes());
            (head + usize::from(gso.size)).min(headers.length as usize)
        }
        None => headers.length as usize,
    }
}
