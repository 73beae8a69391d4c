//! A worker: run to completion, owning its ports' rings and its dispatcher, sharing nothing it
//! writes but single-writer counters.
//!
//! [`Worker::turn`] is one turn of the loop, driven by a thread in production and by the
//! simulation in tests; both hand in the time.

mod announce;
pub mod endpoint_ring;
pub mod handoff;

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use nvgate_model::{DropReason, Generation, Instant, Tick};

use crate::counters::WorkerCounters;
use crate::dispatch::{Dispatcher, DispatcherConfig, Io, ResolveRequest, wire_packets};
use crate::io::{BATCH, Batch, PortRole, Rx, Tx};
use crate::snapshot::Snapshot;

use announce::Announcer;
use endpoint_ring::WorkerEnd;
use handoff::{Inbox, Outbox};

/// Where control publishes snapshots and workers find them.
pub type Published = Arc<ArcSwap<Snapshot>>;

/// The rings of one port.
#[derive(Debug)]
pub struct Port {
    /// Where frames come from.
    pub rx: Rx,
    /// Where frames go.
    pub tx: Tx,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerSetup {
    /// Its dispatcher's.
    pub dispatcher: DispatcherConfig,
    /// The snapshots.
    pub published: Published,
    /// The fabric port.
    pub fabric: Port,
    /// The front-end port.
    pub front_end: Port,
    /// Rings to the other workers.
    pub outbox: Outbox,
    /// Rings from the other workers.
    pub inbox: Inbox,
    /// Rings from and to the gateway's own endpoints, when they run.
    pub endpoints: Option<WorkerEnd>,
}

/// One packet worker.
#[derive(Debug)]
pub struct Worker {
    dispatcher: Dispatcher,
    counters: Arc<WorkerCounters>,
    snapshot: Cache<Published, Arc<Snapshot>>,
    adopted: Option<Generation>,
    fabric: Port,
    front_end: Port,
    outbox: Outbox,
    inbox: Inbox,
    endpoints: Option<WorkerEnd>,
    announcer: Option<Announcer>,
    /// The tick in which the ports were last asked what they lost.
    losses_read: Tick,
}

impl Worker {
    /// A worker that has not turned yet. Worker 0 announces leased addresses.
    #[must_use]
    pub fn new(setup: WorkerSetup) -> Self {
        let announcer = (setup.dispatcher.worker == 0).then(Announcer::default);
        Self {
            counters: Arc::clone(&setup.dispatcher.counters),
            dispatcher: Dispatcher::new(setup.dispatcher),
            snapshot: Cache::new(setup.published),
            adopted: None,
            fabric: setup.fabric,
            front_end: setup.front_end,
            outbox: setup.outbox,
            inbox: setup.inbox,
            endpoints: setup.endpoints,
            announcer,
            losses_read: Tick::default(),
        }
    }

    /// One turn of the loop at `now`: at most one batch from every ring. Returns how many packets
    /// it processed; with 0 the caller may wait.
    pub fn turn(&mut self, now: Instant) -> usize {
        self.counters.heartbeat.set(now.0);
        let snapshot = self.snapshot.load();
        if self.adopted != Some(snapshot.generation) {
            self.dispatcher.adopt(snapshot, now);
            if let Some(announcer) = &mut self.announcer {
                announcer.follow(snapshot, now);
            }
            self.adopted = Some(snapshot.generation);
            self.counters.adopted.set(snapshot.generation.0.into());
        }
        let (punts, injected) = match &mut self.endpoints {
            Some(WorkerEnd { punts, injected }) => (Some(punts), Some(injected)),
            None => (None, None),
        };
        let mut io = Io {
            fabric: &mut self.fabric.tx,
            front_end: &mut self.front_end.tx,
            handoff: &mut self.outbox,
            punts,
        };
        let dispatcher = &mut self.dispatcher;
        let mut taken = 0;
        let mut processed = self.inbox.drain(BATCH, |stage, packet| {
            taken += wire_packets(packet);
            dispatcher.process_handoff(snapshot, now, stage, packet, &mut io);
        });
        self.counters.handoffs_received.add(taken);
        if let Some(injected) = injected {
            let count = injected.drain(BATCH, |domain, packet| {
                dispatcher.process_injected(snapshot, now, domain, packet, &mut io);
            });
            self.counters.injected.add(count as u64);
            processed += count;
        }
        for (role, rx, counters) in [
            (PortRole::Fabric, &mut self.fabric.rx, &self.counters.fabric),
            (PortRole::FrontEnd, &mut self.front_end.rx, &self.counters.front_end),
        ] {
            let mut batch = Batch::new();
            rx.receive(&mut batch);
            if !batch.is_empty() {
                let bytes: usize = batch.iter().map(|packet| packet.len()).sum();
                let packets = batch.iter().map(wire_packets).sum();
                counters.received.count(batch.len() as u64, bytes as u64);
                self.counters.batches.add(1);
                self.counters.packets.add(packets);
                processed += batch.len();
                dispatcher.process(snapshot, now, role, &mut batch, &mut io);
            }
            drop(batch);
            rx.release();
        }
        if let Some(announcer) = &mut self.announcer {
            announcer.announce(dispatcher, snapshot, now, &mut io);
        }
        dispatcher.maintain(snapshot, now);
        dispatcher.maintain_tunnels(snapshot, now, &mut io);
        if self.losses_read != now.tick() {
            self.losses_read = now.tick();
            for (rx, port) in [
                (&mut self.fabric.rx, &self.counters.fabric),
                (&mut self.front_end.rx, &self.counters.front_end),
            ] {
                let losses = rx.take_losses();
                port.kernel_drops.add(losses.kernel_drops);
                self.counters.drops.count(DropReason::Truncated, losses.truncated);
                self.counters.drops.count(DropReason::OffloadInvalid, losses.offload_invalid);
            }
        }
        for (tx, counters) in [
            (&mut self.fabric.tx, &self.counters.fabric),
            (&mut self.front_end.tx, &self.counters.front_end),
        ] {
            let flushed = tx.flush();
            counters.transmitted.count(flushed.frames, flushed.bytes);
            self.counters.drops.count(DropReason::TransmitFull, flushed.lost);
        }
        processed
    }

    /// Workers that were handed packets since the last call, a bit each: they may have to be woken.
    pub const fn take_touched(&mut self) -> u64 {
        self.outbox.take_touched()
    }

    /// Whether packets were punted to the gateway's own endpoints since the last call: their thread
    /// may have to be woken.
    pub fn take_punted(&mut self) -> bool {
        self.endpoints.as_mut().is_some_and(|ends| ends.punts.take_touched())
    }

    /// Whether packets from other workers or from the gateway's own endpoints wait.
    #[must_use]
    pub fn has_handoffs(&self) -> bool {
        !self.inbox.is_empty()
            || self.endpoints.as_ref().is_some_and(|ends| !ends.injected.is_empty())
    }

    /// Neighbours that the kernel should resolve, emptied by the call.
    pub fn drain_resolve_requests(&mut self) -> impl Iterator<Item = ResolveRequest> + '_ {
        self.dispatcher.drain_resolve_requests()
    }

    /// Both ports, fabric first: to wait on.
    pub const fn ports(&mut self) -> (&mut Port, &mut Port) {
        (&mut self.fabric, &mut self.front_end)
    }

    /// The rings of a port: for the simulation's queues.
    pub const fn port(&mut self, role: PortRole) -> &mut Port {
        match role {
            PortRole::Fabric => &mut self.fabric,
            PortRole::FrontEnd => &mut self.front_end,
        }
    }
}
