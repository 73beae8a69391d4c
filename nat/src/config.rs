//! What a tenant's NAT is configured to do: immutable, indexed once, shared by all workers.

use std::net::Ipv4Addr;

use nvgate_model::Protocol;
use nvgate_packet::rewrite::Socket;

use crate::bits::Bits;
use crate::publish::{InboundRule, RuleIndex};

/// Idle timeouts of sessions, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Established TCP (RFC 5382 REQ-5: at least 7440 unless configured).
    pub tcp_established_secs: u32,
    /// TCP that is opening, closing or was reset (RFC 5382 REQ-5: at least 240 unless configured).
    pub tcp_transitory_secs: u32,
    /// UDP (RFC 4787 REQ-5: at least 120).
    pub udp_secs: u32,
    /// ICMP echo (RFC 5508 REQ-2: at least 60).
    pub icmp_secs: u32,
}

/// The NAT configuration of one tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NatConfig {
    addresses: Vec<Ipv4Addr>,
    rules: RuleIndex,
    timeouts: Timeouts,
}

impl NatConfig {
    /// The configuration with these public addresses and inbound rules. An address given twice
    /// counts once; of a rule that contradicts an earlier one only the rest has effect.
    #[must_use]
    pub fn new(addresses: &[Ipv4Addr], inbound: &[InboundRule], timeouts: Timeouts) -> Self {
        let mut unique = Vec::with_capacity(addresses.len());
        for address in addresses {
            if !unique.contains(address) {
                unique.push(*address);
            }
        }
        let rules = RuleIndex::new(inbound, &unique);
        Self { addresses: unique, rules, timeouts }
    }

    /// The same configuration, in which these public sockets are somebody else's: they are never
    /// lent.
    #[must_use]
    pub fn reserving(mut self, sockets: impl IntoIterator<Item = (Protocol, Socket)>) -> Self {
        for (protocol, socket) in sockets {
            self.rules.reserve(protocol, socket);
        }
        self
    }

    /// Whether this public socket is somebody else's.
    #[must_use]
    pub fn is_reserved(&self, protocol: Protocol, public: Socket) -> bool {
        self.rules.is_reserved(protocol, public)
    }

    /// The public addresses, each once.
    #[must_use]
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    /// The idle timeouts.
    #[must_use]
    pub const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Whether this is one of the tenant's public addresses.
    #[must_use]
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
    }

    /// The customer socket that an inbound rule gives this public socket to.
    #[must_use]
    pub fn inbound_rule(&self, protocol: Protocol, public: Socket) -> Option<Socket> {
        self.rules.customer_of(protocol, public)
    }

    /// The public socket of the first inbound rule that leads to this customer socket; what the
    /// customer socket sends to new remotes leaves from it.
    #[must_use]
    pub fn public_of(&self, protocol: Protocol, customer: Socket) -> Option<Socket> {
        self.rules.public_of(protocol, customer)
    }

    /// Whether an inbound rule claims this public port, so that its sessions live on the worker
    /// that owns the customer socket, and not on the one that owns the port's block.
    #[must_use]
    pub fn is_rule_port(&self, address: Ipv4Addr, port: u16, protocol: Protocol) -> bool {
        self.inbound_rule(protocol, Socket::new(address, port)).is_some()
    }

    /// The ports of a block that inbound rules claim.
    pub(crate) fn claimed(&self, protocol: Protocol, address: Ipv4Addr, block: u8) -> Bits {
        self.rules.claimed(protocol, address, block)
    }

    /// Whether every mapping that is right under `self` is right under `next`.
    pub(crate) fn keeps_mappings(&self, next: &Self) -> bool {
        self.rules == next.rules && self.addresses.iter().all(|&address| next.owns(address))
    }
}
