//! The tunnels that live on one worker, between the front end and the routing domains' sites.
//!
//! A tunnel lives on one worker, which its number names; packets for it that are elsewhere are
//! handed on. `enter` seals what goes to a site, `arrive` opens what comes from one, `schedule`
//! does what is due without a packet: handshakes, keepalives, probes. The engine behind each
//! tunnel is `nvgate_vpn`'s; what workers say of tunnels to each other and to control is
//! [`TunnelShared`](crate::snapshot::TunnelShared).

mod arrive;
mod enter;
mod path;
mod schedule;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use nvgate_deploy::plan::ProbePlan;
use nvgate_model::{DomainSlot, DropReason, Instant, Tick};
use nvgate_packet::buf::HEADROOM;
use nvgate_packet::flow_key::hash_words;
use nvgate_vpn::{
    AllowedPrefixes, KindConfig, Listener, ListenerLimits, Liveness, Policer, ProbeConfig, Tunnel,
    TunnelConfig, TunnelIndex, WireGuardConfig,
};

use super::{Dispatcher, MAX_RESOLVE_REQUESTS};
use crate::io::PortRole;
use crate::snapshot::{SiteTunnel, Snapshot, TunnelPlace, TunnelSocket};

pub(super) use arrive::TunnelArrival;
pub(super) use enter::Way;

/// The longest packet a tunnel lets in or out, in bytes: what a link of 9216 bytes carries.
const MAX_TUNNELLED: usize = 9216;

/// Next hops that the kernel should resolve, and for whom.
type Unresolved = ArrayVec<(DomainSlot, IpAddr), MAX_RESOLVE_REQUESTS>;

/// The tunnels of one worker.
#[derive(Debug)]
pub(super) struct Tunnels {
    worker: u16,
    workers: u16,
    seed: u64,
    /// Who may begin at each socket. Every worker has all of them: handshakes come to any.
    sockets: HashMap<SocketAddr, Socket>,
    tunnels: HashMap<TunnelIndex, Held>,
    /// When each tunnel wants to be looked at.
    schedule: BTreeSet<(Instant, TunnelIndex)>,
    /// The tick in which the details were published.
    published: Tick,
    /// What was opened, behind its headroom.
    plain: Box<[u8]>,
    /// What was sealed, behind the room for its headers.
    wire: Box<[u8]>,
    /// Next hops that the kernel should resolve, and for whom.
    unresolved: Unresolved,
}

#[derive(Debug)]
struct Socket {
    spec: Arc<TunnelSocket>,
    listener: Listener,
}

/// A tunnel and what this worker does around it.
#[derive(Debug)]
struct Held {
    place: TunnelPlace,
    tunnel: Tunnel,
    inbound: Option<Policer>,
    outbound: Option<Policer>,
    liveness: Option<Liveness>,
    /// Tells the answers to this tunnel's probes from those to earlier ones.
    identifier: u16,
    /// How it is probed.
    probe: Option<ProbePlan>,
    path: path::OuterPath,
    /// When it stands in the schedule.
    due: Instant,
}

impl Tunnels {
    pub(super) fn new(worker: u16, workers: u16, seed: u64) -> Self {
        Self {
            worker,
            workers,
            seed,
            sockets: HashMap::new(),
            tunnels: HashMap::new(),
            schedule: BTreeSet::new(),
            published: Tick::default(),
            plain: vec![0; HEADROOM + MAX_TUNNELLED].into_boxed_slice(),
            wire: vec![0; HEADROOM + MAX_TUNNELLED].into_boxed_slice(),
            unresolved: ArrayVec::new(),
        }
    }

    /// Takes over a new snapshot: tunnels that are as they were keep everything.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, now: Instant) {
        self.sockets.retain(|address, _| snapshot.tunnel_socket(*address).is_some());
        for (&address, spec) in snapshot.tunnel_sockets() {
            match self.sockets.get_mut(&address) {
                Some(socket) if socket.spec == *spec => {}
                Some(socket) => {
                    socket.listener.reconfigure(&spec.own, spec.peers.clone());
                    socket.spec = Arc::clone(spec);
                }
                None => {
                    let seed = hash_words(u64::from(address.port()), self.worker.into(), self.seed);
                    let limits = ListenerLimits::default();
                    let peers = spec.peers.clone();
                    let listener = Listener::new(&spec.own, peers, limits, now, seed);
                    self.sockets.insert(address, Socket { spec: Arc::clone(spec), listener });
                }
            }
        }
        let (worker, workers) = (self.worker, self.workers);
        let gone = |index: &TunnelIndex| snapshot.tunnel(*index).is_none();
        for index in self.tunnels.keys().copied().filter(gone).collect::<Vec<_>>() {
            if let Some(held) = self.tunnels.remove(&index) {
                self.schedule.remove(&(held.due, index));
                if let Some(domain) = snapshot.domain(held.place.domain) {
                    let queued = held.tunnel.status(now).queued as u64;
                    let counters = &domain.counters[usize::from(worker)];
                    counters.drops.count(DropReason::TunnelDown, queued);
                }
            }
        }
        for (index, place) in snapshot.tunnels() {
            if index.owner(workers) != worker {
                continue;
            }
            let Some((_, _, spec)) = snapshot.tunnel(index) else { continue };
            match self.tunnels.get_mut(&index) {
                Some(held) => {
                    held.place = place;
                    held.follow(spec, now);
                    held.reschedule(index, &mut self.schedule);
                }
                None => {
                    let seed = hash_words(index.get().into(), now.0, self.seed);
                    self.tunnels.insert(index, Held::new(spec, place, now, seed));
                    self.schedule.insert((now, index));
                }
            }
        }
    }

    /// Next hops of tunnels that the kernel should resolve, emptied by the call.
    fn take_unresolved(&mut self) -> Unresolved {
        std::mem::take(&mut self.unresolved)
    }
}

impl Held {
    fn new(spec: &SiteTunnel, place: TunnelPlace, now: Instant, seed: u64) -> Self {
        let bandwidth = spec.plan.bandwidth;
        Self {
            place,
            tunnel: Tunnel::new(spec.index, tunnel_config(spec), now, seed),
            inbound: policer(bandwidth.inbound_kbps, now),
            outbound: policer(bandwidth.outbound_kbps, now),
            liveness: spec.plan.probe.map(|probe| Liveness::new(probe_config(&probe), now)),
            identifier: seed as u16,
            probe: spec.plan.probe,
            path: path::OuterPath::default(),
            due: now,
        }
    }

    fn follow(&mut self, spec: &SiteTunnel, now: Instant) {
        self.tunnel.reconfigure(tunnel_config(spec), now);
        let bandwidth = spec.plan.bandwidth;
        for (policer, kbps) in [
            (&mut self.inbound, bandwidth.inbound_kbps),
            (&mut self.outbound, bandwidth.outbound_kbps),
        ] {
            if policer.as_ref().map(Policer::kbps) != kbps.map(NonZeroU32::get) {
                *policer = self::policer(kbps, now);
            }
        }
        if self.probe != spec.plan.probe {
            self.probe = spec.plan.probe;
            self.liveness = self.probe.map(|probe| Liveness::new(probe_config(&probe), now));
        }
    }
}

fn policer(kbps: Option<NonZeroU32>, now: Instant) -> Option<Policer> {
    kbps.map(|kbps| Policer::new(kbps.get(), now))
}

fn tunnel_config(spec: &SiteTunnel) -> TunnelConfig {
    let plan = &spec.plan;
    TunnelConfig {
        allowed: AllowedPrefixes::new(&plan.allowed),
        kind: KindConfig::WireGuard(WireGuardConfig {
            own: spec.own.clone(),
            peer: plan.peer,
            preshared: plan.preshared.clone(),
            endpoint: plan.endpoint,
            persistent_keepalive_secs: plan.keepalive_secs,
        }),
    }
}

fn probe_config(probe: &ProbePlan) -> ProbeConfig {
    ProbeConfig {
        interval: Duration::from_millis(probe.interval_millis.into()),
        failures: NonZeroU16::new(probe.failures as u16).unwrap_or(NonZeroU16::MIN),
        hold: Duration::from_secs(probe.hold_secs.into()),
    }
}

impl Dispatcher {
    /// Has the next hops of tunnels resolved, within their tenants' budgets.
    fn resolve_for_tunnels(&mut self, snapshot: &Snapshot) {
        for (slot, address) in self.tunnels.take_unresolved() {
            if let Some(domain) = snapshot.domain(slot) {
                self.request_resolution(domain, PortRole::FrontEnd, address);
            }
        }
    }
}
