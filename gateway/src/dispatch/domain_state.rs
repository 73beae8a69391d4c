//! What one worker keeps for one routing domain between packets: NAT, budgets, and the gateway's
//! own endpoint.

use std::sync::Arc;

use nvgate_model::{Instant, Tick};
use nvgate_nat::fragment::FragmentTable;
use nvgate_nat::{Nat, NatConfig, Seen, SessionIndex, WorkerShare};
use nvgate_packet::flow_key::{FlowKeyV4, hash_words};

use super::DispatcherConfig;
use super::flow_table::{Compiled, FlowTable, NONE};
use super::limiter::TokenBucket;
use crate::endpoint::Endpoint;
use crate::snapshot::{Domain, Service};

/// A worker's state of one routing domain.
#[derive(Debug)]
pub(super) struct DomainState {
    /// NAT, when the tenant has it.
    pub(super) nat: Option<NatState>,
    /// Answers by the gateway itself, by who is answered.
    answers: [TokenBucket; 3],
    /// Neighbours that the kernel is asked to resolve.
    pub(super) resolutions: TokenBucket,
    /// Broadcast and multicast frames.
    pub(super) replications: TokenBucket,
    /// What the first fragments of datagrams under translation were told, by direction: remotes
    /// must not use up the tenant's own.
    pub(super) datagrams: [FragmentTable<Compiled>; 2],
    /// Which workers own the sockets of datagrams that this worker coordinates, by direction.
    pub(super) datagram_owners: [FragmentTable<u16>; 2],
    /// Packets for the gateway's own endpoint, TCP and UDP.
    punts: [TokenBucket; 2],
    /// The gateway's own addresses; made at the first packet for them.
    pub(super) endpoint: Option<Box<Endpoint>>,
}

/// Who is answered by the gateway itself. Each has a budget of its own, so that none can silence the
/// gateway for the others: a leased address whose ARP is not answered is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// The tenant's endpoints.
    Endpoint = 0,
    /// Anybody who can send to the tenant's leased addresses.
    Remote = 1,
    /// The front end's neighbours, by ARP and neighbour discovery.
    Neighbour = 2,
}

/// A direction of a session, seen from the tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the tenant to the front end.
    Outbound = 0,
    /// From the front end to the tenant.
    Inbound = 1,
}

/// NAT of one domain on one worker, with the way back from sessions to compiled entries.
#[derive(Debug)]
pub(super) struct NatState {
    /// The sessions.
    pub(super) nat: Nat,
    config: Arc<NatConfig>,
    links: Vec<[FlowLink; 2]>,
}

/// Where a session's compiled entry of one direction stands, and when an entry that had to give
/// way was last used.
#[derive(Clone, Copy, Debug)]
struct FlowLink {
    position: u32,
    evicted: Option<Tick>,
}

const NO_LINK: FlowLink = FlowLink { position: NONE, evicted: None };

/// Neighbours that one domain may have the kernel resolve a second: the kernel's table of neighbours
/// is small, and all tenants' (RFC 6583).
const RESOLUTIONS_PER_SEC: u32 = 16;
/// Packets a second of one domain for the gateway's own TCP endpoint: 5 MB of full segments.
const TCP_PUNTS_PER_SEC: u32 = 4000;
/// Packets a second of one domain for the gateway's own UDP endpoint: BFD every 100 ms of 200 peers.
const UDP_PUNTS_PER_SEC: u32 = 2000;
/// Datagrams in fragments that one domain may have under way in one direction on one worker.
const MAX_DATAGRAMS: usize = 1024;
/// Sessions examined for expiry in one call.
const EXPIRY_BUDGET: usize = 256;

impl DomainState {
    pub(super) fn new(domain: &Domain, config: &DispatcherConfig, now: Instant) -> Self {
        Self {
            nat: domain.nat.as_ref().map(|nat| NatState::new(domain, nat, config)),
            answers: [TokenBucket::new(share(domain.punts_per_sec, config), now); 3],
            resolutions: TokenBucket::new(share(RESOLUTIONS_PER_SEC, config), now),
            replications: TokenBucket::new(share(domain.replications_per_sec, config), now),
            datagrams: [(); 2].map(|()| FragmentTable::new(MAX_DATAGRAMS, config.seed)),
            datagram_owners: [(); 2].map(|()| FragmentTable::new(MAX_DATAGRAMS, config.seed)),
            punts: [TCP_PUNTS_PER_SEC, UDP_PUNTS_PER_SEC]
                .map(|per_sec| TokenBucket::new(share(per_sec, config), now)),
            endpoint: None,
        }
    }

    /// Follows a changed domain; what did not change keeps its state.
    pub(super) fn follow(&mut self, domain: &Domain, config: &DispatcherConfig) {
        for answers in &mut self.answers {
            answers.set_rate(share(domain.punts_per_sec, config));
        }
        self.replications.set_rate(share(domain.replications_per_sec, config));
        match (&mut self.nat, &domain.nat) {
            (Some(state), Some(nat)) => {
                if !Arc::ptr_eq(&state.config, nat) {
                    state.nat.reconfigure(Arc::clone(nat));
                    state.config = Arc::clone(nat);
                }
            }
            (None, Some(nat)) => self.nat = Some(NatState::new(domain, nat, config)),
            (_, None) => self.nat = None,
        }
    }
}

impl DomainState {
    /// Takes from the budget of answers to `asker`; `false` when it is used up.
    pub(super) fn may_answer(&mut self, asker: Asker, now: Instant) -> bool {
        self.answers[asker as usize].take(now)
    }

    /// Takes `packets` from the budget of the gateway's own endpoint for `service`; `false`, and
    /// nothing is taken, when it has less.
    pub(super) fn may_punt(&mut self, service: Service, now: Instant, packets: u64) -> bool {
        let bucket = match service {
            Service::Tcp => 0,
            Service::Udp => 1,
        };
        self.punts[bucket].take_many(now, packets)
    }
}

/// A worker's share of a budget that all workers together must not exceed; at least 1.
const fn share(per_sec: u32, config: &DispatcherConfig) -> u32 {
    let workers = if config.workers == 0 { 1 } else { config.workers as u32 };
    let share = per_sec / workers;
    if share == 0 && per_sec > 0 { 1 } else { share }
}

impl NatState {
    fn new(domain: &Domain, nat: &Arc<NatConfig>, config: &DispatcherConfig) -> Self {
        let seed = hash_words(u64::from(domain.slot.0), u64::from(config.worker), config.seed);
        let share = WorkerShare { index: config.worker, count: config.workers };
        Self {
            nat: Nat::new(Arc::clone(nat), share, seed, config.max_sessions),
            config: Arc::clone(nat),
            links: Vec::new(),
        }
    }

    /// Remembers where the entry of a session's direction stands, and returns where the one before
    /// stood if that was elsewhere. That one has to go: a host may send a flow under two VSIDs, but
    /// what is not linked would outlive its session.
    pub(super) fn link(
        &mut self,
        session: u32,
        direction: Direction,
        position: usize,
    ) -> Option<usize> {
        let index = session as usize;
        if self.links.len() <= index {
            self.links.resize(index + 1, [NO_LINK; 2]);
        }
        let link = &mut self.links[index][direction as usize];
        let before = link.position;
        *link = FlowLink { position: position as u32, evicted: None };
        (before != NONE && before != position as u32).then_some(before as usize)
    }

    /// Remembers when an entry that gave way to another was last used.
    pub(super) fn evicted(&mut self, session: u32, position: usize, tick: Tick) {
        let Some(links) = self.links.get_mut(session as usize) else { return };
        for link in links {
            if link.position == position as u32 {
                *link = FlowLink { position: NONE, evicted: Some(tick) };
            }
        }
    }

    /// Closes idle sessions, with bounded work; `true` when more may be due.
    pub(super) fn expire(
        &mut self,
        slot: u32,
        now: Tick,
        flows: &mut FlowTable<FlowKeyV4>,
    ) -> bool {
        let links = &mut self.links;
        let mut examined = 0;
        let mut closed_entries = Vec::new();
        self.nat.expire(
            now,
            EXPIRY_BUDGET,
            |session| {
                examined += 1;
                let of = |direction: Direction| {
                    let link = links.get(session.session.0 as usize)?[direction as usize];
                    let live = flows.at(link.position as usize).filter(|entry: &&Compiled| {
                        entry.domain == slot && entry.session == session.session.0
                    });
                    live.map(|entry| entry.tick).or(link.evicted)
                };
                Seen { outbound: of(Direction::Outbound), inbound: of(Direction::Inbound) }
            },
            |session| closed_entries.push(session.session),
        );
        for session in closed_entries {
            self.unlink(slot, session, flows);
        }
        examined == EXPIRY_BUDGET
    }

    /// Removes the compiled entries of a session that was closed.
    fn unlink(&mut self, slot: u32, session: SessionIndex, flows: &mut FlowTable<FlowKeyV4>) {
        let Some(links) = self.links.get_mut(session.0 as usize) else { return };
        for link in std::mem::replace(links, [NO_LINK; 2]) {
            flows.remove(link.position as usize, slot, session.0);
        }
    }
}
