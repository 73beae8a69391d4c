//! The public ports of a tenant on one worker: which address and block a new mapping gets.
//!
//! Blocks of 256 ports belong to workers by arithmetic, so that workers share no state. A block is
//! leased when it is needed and returned when its last port is. Ports below 1024 and ports claimed
//! by inbound rules of the same protocol are never lent.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nvgate_model::Protocol;
use nvgate_packet::flow_key::hash_words;
use nvgate_packet::rewrite::Socket;

use crate::bits::Bits;
use crate::block::{BLOCK_PORTS, Block, block_of};
use crate::config::NatConfig;

/// The first block whose ports are lent: ports below 1024 never are (RFC 4787 section 4.2.1).
const FIRST_BLOCK: u8 = block_of(1024);
const PROTOCOLS: [Protocol; 3] = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp];
/// The salt of address pairing. Fixed, so that all workers of a gateway pair alike.
const PAIRING: u64 = 0x6e76_6761_7465_2d70;

/// Which of the 256-port blocks belong to a worker: those with `(port / 256) % count == index`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerShare {
    /// The worker, below `count`.
    pub index: u16,
    /// All workers, at least 1.
    pub count: u16,
}

impl WorkerShare {
    /// The worker, of `count`, that dynamic mappings with this public port live on.
    #[must_use]
    pub const fn owner_of(port: u16, count: u16) -> u16 {
        port / BLOCK_PORTS % if count == 0 { 1 } else { count }
    }

    const fn owns_block(self, block: u8) -> bool {
        Self::owner_of(block as u16 * BLOCK_PORTS, self.count) == self.index
    }
}

/// How much of one protocol's ports is used, over all addresses of a tenant on one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortUsage {
    /// Blocks with at least one port lent.
    pub blocks_leased: u32,
    /// Blocks of which ports can be lent.
    pub blocks_total: u32,
    /// Ports lent to mappings.
    pub ports_in_use: u32,
    /// Ports that can be lent: those of the worker's share that no inbound rule claims.
    pub ports_total: u32,
}

/// The ports of one address and one protocol.
#[derive(Debug)]
struct Plane {
    address: Ipv4Addr,
    /// At most 252, by number.
    leased: BTreeMap<u8, Block>,
    /// Leased blocks with a free port.
    open: Bits,
    /// Blocks of the worker's share that are not leased and not claimed as a whole.
    returned: Bits,
    ports_in_use: u32,
    ports_total: u32,
}

impl Plane {
    fn new(address: Ipv4Addr) -> Self {
        Self {
            address,
            leased: BTreeMap::new(),
            open: Bits::EMPTY,
            returned: Bits::EMPTY,
            ports_in_use: 0,
            ports_total: 0,
        }
    }

    /// Takes over what the rules of `config` claim now; no port they claim is lent.
    fn configure(&mut self, config: &NatConfig, protocol: Protocol, share: WorkerShare) {
        self.open = Bits::EMPTY;
        self.returned = Bits::EMPTY;
        self.ports_total = 0;
        for number in (FIRST_BLOCK..=u8::MAX).filter(|&number| share.owns_block(number)) {
            let claimed = config.claimed(protocol, self.address, number);
            let lendable = u32::from(BLOCK_PORTS) - claimed.count();
            self.ports_total += lendable;
            if let Some(block) = self.leased.get_mut(&number) {
                block.set_claimed(claimed);
                if block.has_free() {
                    self.open.insert(number);
                }
            } else if lendable > 0 {
                self.returned.insert(number);
            }
        }
    }

    const fn is_exhausted(&self) -> bool {
        self.ports_in_use >= self.ports_total
    }

    fn take(&mut self, config: &NatConfig, protocol: Protocol, chance: u64) -> Option<u16> {
        let number = match self.open.choose(chance) {
            Some(number) => number,
            None => {
                let number = self.returned.choose(chance)?;
                self.returned.remove(number);
                self.open.insert(number);
                let claimed = config.claimed(protocol, self.address, number);
                self.leased.insert(number, Block::new(number, claimed));
                number
            }
        };
        let block = self.leased.get_mut(&number).expect("open blocks are leased");
        // The block was chosen by the high bits of `chance`.
        let port = block.take(chance.rotate_left(32))?;
        if !block.has_free() {
            self.open.remove(number);
        }
        self.ports_in_use += 1;
        Some(port)
    }

    fn give_back(&mut self, port: u16) {
        let number = block_of(port);
        let Some(block) = self.leased.get_mut(&number) else { return };
        block.give_back(port);
        self.ports_in_use -= 1;
        if block.is_unused() {
            self.leased.remove(&number);
            self.open.remove(number);
            self.returned.insert(number);
        } else {
            self.open.insert(number);
        }
    }

    fn usage(&self) -> PortUsage {
        let blocks_leased = self.leased.len() as u32;
        PortUsage {
            blocks_leased,
            blocks_total: blocks_leased + self.returned.count(),
            ports_in_use: self.ports_in_use,
            ports_total: self.ports_total,
        }
    }
}

/// The ports of all addresses and protocols.
#[derive(Debug)]
pub(crate) struct Pool {
    share: WorkerShare,
    seed: u64,
    draws: u64,
    /// An element a protocol, in the order of [`PROTOCOLS`]; a plane an address, in the
    /// configuration's order.
    planes: [Vec<Plane>; 3],
}

impl Pool {
    pub(crate) fn new(config: &NatConfig, share: WorkerShare, seed: u64) -> Self {
        let mut pool = Self { share, seed, draws: 0, planes: [const { Vec::new() }; 3] };
        pool.configure(config);
        pool
    }

    /// Takes over the addresses and claims of `config`. Nothing is lent of an address or port that
    /// it takes away.
    pub(crate) fn configure(&mut self, config: &NatConfig) {
        for (protocol, planes) in PROTOCOLS.into_iter().zip(&mut self.planes) {
            let mut old = std::mem::take(planes);
            for &address in config.addresses() {
                let kept = old.iter().position(|plane| plane.address == address);
                let mut plane =
                    kept.map_or_else(|| Plane::new(address), |index| old.swap_remove(index));
                plane.configure(config, protocol, self.share);
                planes.push(plane);
            }
            debug_assert!(old.iter().all(|plane| plane.leased.is_empty()));
        }
    }

    /// Lends a port to a mapping of `customer`: from the address that the customer address is
    /// paired with (RFC 4787 REQ-2), or from the next best when that has none left.
    ///
    /// Pairing is rendezvous hashing over the tenant's addresses: all workers agree without shared
    /// state, and a new address moves few customers.
    pub(crate) fn take(
        &mut self,
        config: &NatConfig,
        protocol: Protocol,
        customer: Ipv4Addr,
    ) -> Option<Socket> {
        self.draws = self.draws.wrapping_add(1);
        let chance = hash_words(self.draws, 0, self.seed);
        let plane = self.planes[position(protocol)]
            .iter_mut()
            .filter(|plane| !plane.is_exhausted())
            .max_by_key(|plane| affinity(customer, plane.address))?;
        let port = plane.take(config, protocol, chance)?;
        Some(Socket::new(plane.address, port))
    }

    /// Takes back a port lent by [`take`](Self::take).
    pub(crate) fn give_back(&mut self, protocol: Protocol, public: Socket) {
        let mut planes = self.planes[position(protocol)].iter_mut();
        if let Some(plane) = planes.find(|plane| plane.address == public.address) {
            plane.give_back(public.port);
        }
    }

    pub(crate) fn usage(&self, protocol: Protocol) -> PortUsage {
        let mut total = PortUsage::default();
        for plane in &self.planes[position(protocol)] {
            let usage = plane.usage();
            total.blocks_leased += usage.blocks_leased;
            total.blocks_total += usage.blocks_total;
            total.ports_in_use += usage.ports_in_use;
            total.ports_total += usage.ports_total;
        }
        total
    }
}

const fn position(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Icmp => 0,
        Protocol::Tcp => 1,
        Protocol::Udp => 2,
    }
}

fn affinity(customer: Ipv4Addr, address: Ipv4Addr) -> u64 {
    hash_words(u64::from(customer.to_bits()), u64::from(address.to_bits()), PAIRING)
}
