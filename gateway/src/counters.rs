//! Counters that one worker writes and everybody reads.
//!
//! Each [`Counter`] has exactly one writer, so that counting is a plain load and store and never a
//! locked instruction; readers (health, metrics, status) sum what the workers wrote and may see a
//! packet counted in one counter and not yet in the next. Control allocates one [`DomainCounters`]
//! a worker and routing domain and one [`WorkerCounters`] a worker. Packets are counted as the
//! wire sees them: a GSO super-packet counts as its segments.

use std::sync::atomic::{AtomicU64, Ordering};

use nvgate_model::{DropReason, Protocol};
use serde::{Deserialize, Serialize};

use crate::io::PortRole;

/// A number that only grows. One thread adds, any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`; wraps at 2^64. Only the counter's one writer may call this: two writers would
    /// lose counts.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// What was counted so far.
    #[inline]
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. One thread sets, any thread reads.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value last set.
    #[inline]
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Packets and bytes that went one way.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Packets; a GSO super-packet counts as its segments.
    pub packets: Counter,
    /// Bytes of IP packets for a tenant, of Ethernet frames for a port.
    pub bytes: Counter,
}

impl Traffic {
    /// Counts `packets` that together have `bytes`.
    #[inline]
    pub fn count(&self, packets: u64, bytes: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> TrafficTotal {
        TrafficTotal { packets: self.packets.read(), bytes: self.bytes.read() }
    }
}

/// One counter for every [`DropReason`].
#[derive(Debug)]
pub struct DropCounters([Counter; DropReason::COUNT]);

impl Default for DropCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl DropCounters {
    /// Counts `packets` dropped for `reason`.
    #[inline]
    pub fn count(&self, reason: DropReason, packets: u64) {
        self.0[reason.index()].add(packets);
    }

    /// How many packets were dropped for `reason`.
    #[must_use]
    pub fn read(&self, reason: DropReason) -> u64 {
        self.0[reason.index()].read()
    }
}

/// Public ports one worker holds for one routing domain, a protocol each.
#[derive(Debug, Default)]
pub struct PortsInUse {
    /// TCP ports.
    pub tcp: Gauge,
    /// UDP ports.
    pub udp: Gauge,
    /// ICMP echo identifiers.
    pub icmp: Gauge,
}

impl PortsInUse {
    /// The gauge of `protocol`.
    #[must_use]
    pub const fn of(&self, protocol: Protocol) -> &Gauge {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
            Protocol::Icmp => &self.icmp,
        }
    }
}

/// The NAT of one routing domain as one worker sees it.
#[derive(Debug, Default)]
pub struct NatGauges {
    /// Sessions.
    pub sessions: Gauge,
    /// Mappings of a customer socket to a public one, inbound rules not counted.
    pub mappings: Gauge,
    /// 256-port blocks in use, over all protocols.
    pub blocks_leased: Gauge,
    /// 256-port blocks that this worker owns, over all protocols.
    pub blocks_total: Gauge,
    /// Public ports in use.
    pub ports_in_use: PortsInUse,
    /// Public ports that this worker owns, of each protocol.
    pub ports_total: Gauge,
}

/// What one worker counts for one routing domain. The counters of the hit path share the first
/// cache line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct DomainCounters {
    /// From the overlay to anywhere.
    pub outbound: Traffic,
    /// From anywhere to an overlay endpoint; a packet between two subnets counts both ways.
    pub inbound: Traffic,
    /// Packets for the gateway itself: ARP, ND, echo, its own TCP and UDP.
    pub punts: Counter,
    /// NAT as it stands.
    pub nat: NatGauges,
    /// Dropped packets.
    pub drops: DropCounters,
}

/// What one worker counts for one of its ports.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Received frames.
    pub received: Traffic,
    /// Transmitted frames.
    pub transmitted: Traffic,
    /// Frames that the kernel dropped because the receive ring was full.
    pub kernel_drops: Counter,
}

/// What one worker counts for itself.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct WorkerCounters {
    /// Nanoseconds of the worker's clock at its last turn of the loop; 0 before the first.
    pub heartbeat: Gauge,
    /// The generation of the snapshot that it forwards by; 0 before the first.
    pub adopted: Gauge,
    /// Batches with at least one packet.
    pub batches: Counter,
    /// Packets in those batches.
    pub packets: Counter,
    /// Packets sent from a port.
    pub transmitted: Counter,
    /// Packets for the gateway itself: answered, or given to its own endpoints.
    pub punted: Counter,
    /// Packets left to the host's kernel.
    pub ignored: Counter,
    /// Packets dropped, with or without a tenant.
    pub dropped: Counter,
    /// Packets handed to another worker.
    pub handoffs_sent: Counter,
    /// Packets taken from other workers.
    pub handoffs_received: Counter,
    /// Packets taken from the gateway's own endpoints.
    pub injected: Counter,
    /// Packets whose flow was compiled and current.
    pub flow_hits: Counter,
    /// Packets that took the slow path.
    pub flow_misses: Counter,
    /// Flows that another flow pushed out of the table.
    pub flow_evictions: Counter,
    /// The fabric port.
    pub fabric: PortCounters,
    /// The front-end port.
    pub front_end: PortCounters,
    /// Packets dropped before a tenant was known.
    pub drops: DropCounters,
}

impl WorkerCounters {
    /// The counters of the port `role`.
    #[must_use]
    pub const fn port(&self, role: PortRole) -> &PortCounters {
        match role {
            PortRole::Fabric => &self.fabric,
            PortRole::FrontEnd => &self.front_end,
        }
    }
}

/// Packets and bytes that went one way, read or summed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TrafficTotal {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl TrafficTotal {
    fn include(&mut self, traffic: &Traffic) {
        self.packets = self.packets.wrapping_add(traffic.packets.read());
        self.bytes = self.bytes.wrapping_add(traffic.bytes.read());
    }
}

/// Dropped packets a reason, read or summed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropTotals([u64; DropReason::COUNT]);

impl Default for DropTotals {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl DropTotals {
    /// How many packets were dropped for `reason`.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// The reasons for which at least one packet was dropped, with their numbers.
    pub fn nonzero(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.of(reason)))
            .filter(|&(_, packets)| packets > 0)
    }

    fn include(&mut self, drops: &DropCounters) {
        for (total, counter) in self.0.iter_mut().zip(&drops.0) {
            *total = total.wrapping_add(counter.read());
        }
    }
}

impl<'a> FromIterator<&'a DropCounters> for DropTotals {
    fn from_iter<I: IntoIterator<Item = &'a DropCounters>>(counters: I) -> Self {
        let mut total = Self::default();
        for drops in counters {
            total.include(drops);
        }
        total
    }
}

/// One routing domain over all its workers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DomainTotals {
    /// From the overlay to anywhere.
    pub outbound: TrafficTotal,
    /// From anywhere to an overlay endpoint.
    pub inbound: TrafficTotal,
    /// Packets that the gateway answered itself.
    pub punts: u64,
    /// NAT as it stands.
    pub nat: NatTotals,
    /// Dropped packets.
    pub drops: DropTotals,
}

/// NAT of one routing domain over all its workers; the fields of [`NatGauges`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NatTotals {
    /// Sessions.
    pub sessions: u64,
    /// Mappings of a customer socket to a public one.
    pub mappings: u64,
    /// 256-port blocks in use.
    pub blocks_leased: u64,
    /// 256-port blocks of the domain's public addresses.
    pub blocks_total: u64,
    /// TCP ports in use.
    pub tcp_ports_in_use: u64,
    /// UDP ports in use.
    pub udp_ports_in_use: u64,
    /// ICMP echo identifiers in use.
    pub icmp_ports_in_use: u64,
    /// Public ports of each protocol.
    pub ports_total: u64,
}

impl NatTotals {
    fn include(&mut self, nat: &NatGauges) {
        self.sessions += nat.sessions.read();
        self.mappings += nat.mappings.read();
        self.blocks_leased += nat.blocks_leased.read();
        self.blocks_total += nat.blocks_total.read();
        self.tcp_ports_in_use += nat.ports_in_use.tcp.read();
        self.udp_ports_in_use += nat.ports_in_use.udp.read();
        self.icmp_ports_in_use += nat.ports_in_use.icmp.read();
        self.ports_total += nat.ports_total.read();
    }
}

impl<'a> FromIterator<&'a DomainCounters> for DomainTotals {
    /// Sums one routing domain's counters over its workers.
    fn from_iter<I: IntoIterator<Item = &'a DomainCounters>>(workers: I) -> Self {
        let mut total = Self::default();
        for worker in workers {
            total.outbound.include(&worker.outbound);
            total.inbound.include(&worker.inbound);
            total.punts = total.punts.wrapping_add(worker.punts.read());
            total.nat.include(&worker.nat);
            total.drops.include(&worker.drops);
        }
        total
    }
}

/// One port over all its workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortTotals {
    /// Received frames.
    pub received: TrafficTotal,
    /// Transmitted frames.
    pub transmitted: TrafficTotal,
    /// Frames that the kernel dropped because a receive ring was full.
    pub kernel_drops: u64,
}

impl<'a> FromIterator<&'a PortCounters> for PortTotals {
    /// Sums one port's counters over its workers.
    fn from_iter<I: IntoIterator<Item = &'a PortCounters>>(workers: I) -> Self {
        let mut total = Self::default();
        for worker in workers {
            total.received.include(&worker.received);
            total.transmitted.include(&worker.transmitted);
            total.kernel_drops = total.kernel_drops.wrapping_add(worker.kernel_drops.read());
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_the_sum_of_its_workers() {
        let workers = [DomainCounters::default(), DomainCounters::default()];
        workers[0].outbound.count(44, 64_000);
        workers[1].outbound.count(1, 60);
        workers[1].inbound.count(2, 120);
        workers[0].punts.add(3);
        workers[0].drops.count(DropReason::NatNoPort, 5);
        workers[1].drops.count(DropReason::NatNoPort, 6);
        workers[1].drops.count(DropReason::NoRoute, 1);
        for (index, worker) in (1..).zip(&workers) {
            worker.nat.sessions.set(10 * index);
            worker.nat.ports_in_use.of(Protocol::Udp).set(index);
            worker.nat.ports_total.set(32_256);
        }

        let total: DomainTotals = workers.iter().collect();

        let expected_nat = NatTotals {
            sessions: 30,
            udp_ports_in_use: 3,
            ports_total: 64_512,
            ..NatTotals::default()
        };
        assert_eq!(total.outbound, TrafficTotal { packets: 45, bytes: 64_060 });
        assert_eq!(total.inbound, TrafficTotal { packets: 2, bytes: 120 });
        assert_eq!(total.punts, 3);
        assert_eq!(total.nat, expected_nat);
        let drops: Vec<_> = total.drops.nonzero().collect();
        assert_eq!(drops, [(DropReason::NoRoute, 1), (DropReason::NatNoPort, 11)]);
    }

    #[test]
    fn a_port_is_the_sum_of_its_workers() {
        let workers = [WorkerCounters::default(), WorkerCounters::default()];
        workers[0].fabric.received.count(1, 100);
        workers[1].fabric.received.count(2, 200);
        workers[1].fabric.kernel_drops.add(4);
        workers[1].front_end.transmitted.count(9, 900);

        let fabric: PortTotals = workers.iter().map(|worker| &worker.fabric).collect();

        let received = TrafficTotal { packets: 3, bytes: 300 };
        assert_eq!(fabric, PortTotals { received, kernel_drops: 4, ..PortTotals::default() });
    }

    #[test]
    fn what_the_hit_path_counts_shares_one_cache_line() {
        let counters = DomainCounters::default();
        let start = std::ptr::from_ref(&counters).addr();
        let end = std::ptr::from_ref(&counters.inbound.bytes).addr() + size_of::<Counter>();
        assert_eq!(start % 64, 0);
        assert!(end - start <= 64);
    }

    #[test]
    fn a_reader_sees_every_count_once_the_writer_is_done() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..10_000).for_each(|_| counter.add(1)));
            let mut seen = 0;
            while seen < 10_000 {
                let now = counter.read();
                assert!(now >= seen);
                seen = now;
            }
        });
        assert_eq!(counter.read(), 10_000);
    }
}
