//! Which worker owns what.
//!
//! A NATed socket has one owner, so that an endpoint-independent mapping is decided in one place:
//! the customer socket's hash names it. Towards the front end, ports are leased in blocks that
//! belong to a worker by arithmetic, and inbound rules belong to the owner of the customer socket
//! they lead to. Routing without translation keeps no state and needs no owner.

use std::net::Ipv4Addr;

use nvgate_model::Protocol;
use nvgate_nat::NatConfig;
use nvgate_packet::flow_key::hash_words;
use nvgate_packet::rewrite::Socket;

/// Ports in a block that belongs to one worker.
const BLOCK: u16 = 256;

/// Finds owners among `workers` workers; all workers of a gateway share the seed.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    workers: u16,
    seed: u64,
}

impl Steering {
    /// Steering among `workers` workers, at least 1.
    #[must_use]
    pub const fn new(workers: u16, seed: u64) -> Self {
        Self { workers: if workers == 0 { 1 } else { workers }, seed }
    }

    /// The owner of a customer socket.
    #[must_use]
    pub const fn customer(&self, protocol: Protocol, socket: Socket) -> u16 {
        let hash = hash_words(
            socket.address.to_bits() as u64,
            (protocol.number() as u64) << 16 | socket.port as u64,
            self.seed,
        );
        (hash % self.workers as u64) as u16
    }

    /// The owner of a public socket of a tenant with this NAT.
    #[must_use]
    pub fn public(&self, nat: &NatConfig, protocol: Protocol, socket: Socket) -> u16 {
        match nat.inbound_rule(protocol, socket) {
            Some(customer) => self.customer(protocol, customer),
            None => (socket.port / BLOCK) % self.workers,
        }
    }

    /// The worker that learns from a datagram's first fragment who owns its socket.
    #[must_use]
    pub const fn datagram(
        &self,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        identification: u32,
    ) -> u16 {
        let addresses = (source.to_bits() as u64) << 32 | destination.to_bits() as u64;
        (hash_words(addresses, identification as u64, self.seed) % self.workers as u64) as u16
    }
}
