//! Inbound rules: public ports given to customer sockets, found from either side.
//!
//! Rules are ranges, so they are indexed as ranges, in step on both sides. Where two rules claim
//! one public port, or lead to one customer socket, the first rule wins.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nvgate_model::Protocol;
use nvgate_packet::rewrite::Socket;

use crate::bits::Bits;
use crate::block::BLOCK_PORTS;

/// An inbound rule: `count` public ports given to as many customer ports, in step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboundRule {
    /// TCP or UDP. A rule for ICMP has no effect.
    pub protocol: Protocol,
    /// The first public socket; its address is one of the tenant's.
    pub public: Socket,
    /// How many ports; ports past 65535 on either side have no effect.
    pub count: u16,
    /// The first customer socket.
    pub customer: Socket,
}

/// A protocol and socket as one number that orders like them.
pub(crate) fn socket_key(protocol: Protocol, socket: Socket) -> u64 {
    u64::from(protocol.number()) << 48
        | u64::from(socket.address.to_bits()) << 16
        | u64::from(socket.port)
}

/// Sockets that one side of a rule leads to, from a first key on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    last: u64,
    target: Socket,
}

/// Ranges of keys that do not overlap, each leading to as many sockets of the other side.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Ranges(BTreeMap<u64, Range>);

impl Ranges {
    fn lookup(&self, key: u64) -> Option<Socket> {
        let (&first, range) = self.0.range(..=key).next_back()?;
        let offset = u16::try_from(key - first).ok()?;
        (key <= range.last).then(|| shifted(range.target, offset))
    }

    /// Adds `first..=last` leading to `target` and on, except where keys already lead somewhere;
    /// returns the parts that were added as (offset from `first`, length - 1).
    fn insert(&mut self, first: u64, last: u64, target: Socket) -> Vec<(u16, u16)> {
        let mut added = Vec::new();
        let mut from = first;
        while from <= last {
            let covered = self.0.range(..=from).next_back().filter(|(_, range)| range.last >= from);
            if let Some((_, range)) = covered {
                from = range.last + 1;
                continue;
            }
            let next = self.0.range(from..).next().map_or(last, |(&next, _)| last.min(next - 1));
            let offset = (from - first) as u16;
            added.push((offset, (next - from) as u16));
            self.0.insert(from, Range { last: next, target: shifted(target, offset) });
            from = next + 1;
        }
        added
    }
}

const fn shifted(socket: Socket, offset: u16) -> Socket {
    Socket::new(socket.address, socket.port.saturating_add(offset))
}

/// The inbound rules of a tenant, found by public and by customer socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RuleIndex {
    by_public: Ranges,
    by_customer: Ranges,
    reserved: BTreeSet<u64>,
}

impl RuleIndex {
    /// The index of `rules` whose public address is one of `addresses`.
    pub(crate) fn new(rules: &[InboundRule], addresses: &[Ipv4Addr]) -> Self {
        let mut index = Self::default();
        for rule in rules {
            let room = u16::MAX - rule.public.port.max(rule.customer.port);
            let effective = rule.protocol != Protocol::Icmp
                && rule.count > 0
                && addresses.contains(&rule.public.address);
            if !effective {
                continue;
            }
            let length = u64::from((rule.count - 1).min(room));
            let public = socket_key(rule.protocol, rule.public);
            for (offset, length) in index.by_public.insert(public, public + length, rule.customer) {
                let customer = socket_key(rule.protocol, shifted(rule.customer, offset));
                index.by_customer.insert(
                    customer,
                    customer + u64::from(length),
                    shifted(rule.public, offset),
                );
            }
        }
        index
    }

    /// Keeps a public socket from being lent.
    pub(crate) fn reserve(&mut self, protocol: Protocol, public: Socket) {
        self.reserved.insert(socket_key(protocol, public));
    }

    pub(crate) fn is_reserved(&self, protocol: Protocol, public: Socket) -> bool {
        self.reserved.contains(&socket_key(protocol, public))
    }

    pub(crate) fn customer_of(&self, protocol: Protocol, public: Socket) -> Option<Socket> {
        self.by_public.lookup(socket_key(protocol, public))
    }

    pub(crate) fn public_of(&self, protocol: Protocol, customer: Socket) -> Option<Socket> {
        self.by_customer.lookup(socket_key(protocol, customer))
    }

    /// The ports of a block that rules claim or that are reserved.
    pub(crate) fn claimed(&self, protocol: Protocol, address: Ipv4Addr, block: u8) -> Bits {
        let first = socket_key(protocol, Socket::new(address, u16::from(block) * BLOCK_PORTS));
        let last = first + u64::from(BLOCK_PORTS - 1);
        let mut claimed = Bits::EMPTY;
        for key in self.reserved.range(first..=last) {
            claimed.insert((key - first) as u8);
        }
        let before = self.by_public.0.range(..first).next_back();
        for (&from, range) in before.into_iter().chain(self.by_public.0.range(first..=last)) {
            for key in from.max(first)..=range.last.min(last) {
                claimed.insert((key - first) as u8);
            }
        }
        claimed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
    const CUSTOMER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn rule(public: u16, count: u16, customer: u16) -> InboundRule {
        InboundRule {
            protocol: Protocol::Tcp,
            public: Socket::new(PUBLIC, public),
            count,
            customer: Socket::new(CUSTOMER, customer),
        }
    }

    fn customer_port(index: &RuleIndex, port: u16) -> Option<u16> {
        index.customer_of(Protocol::Tcp, Socket::new(PUBLIC, port)).map(|socket| socket.port)
    }

    fn public_port(index: &RuleIndex, port: u16) -> Option<u16> {
        index.public_of(Protocol::Tcp, Socket::new(CUSTOMER, port)).map(|socket| socket.port)
    }

    #[test]
    fn ports_of_a_range_run_in_step_on_both_sides() {
        let index = RuleIndex::new(&[rule(8000, 10, 80)], &[PUBLIC]);
        assert_eq!(customer_port(&index, 8000), Some(80));
        assert_eq!(customer_port(&index, 8009), Some(89));
        assert_eq!(customer_port(&index, 8010), None);
        assert_eq!(customer_port(&index, 7999), None);
        assert_eq!(public_port(&index, 85), Some(8005));
        assert_eq!(public_port(&index, 90), None);
        assert_eq!(index.customer_of(Protocol::Udp, Socket::new(PUBLIC, 8000)), None);
    }

    #[test]
    fn the_first_rule_wins_on_both_sides() {
        let rules = [rule(100, 10, 100), rule(95, 20, 1095), rule(500, 5, 100)];
        let index = RuleIndex::new(&rules, &[PUBLIC]);
        assert_eq!(customer_port(&index, 95), Some(1095));
        assert_eq!(customer_port(&index, 100), Some(100));
        assert_eq!(customer_port(&index, 109), Some(109));
        assert_eq!(customer_port(&index, 110), Some(1110));
        assert_eq!(public_port(&index, 1105), None, "shadowed on the public side");
        assert_eq!(customer_port(&index, 500), Some(100));
        assert_eq!(public_port(&index, 100), Some(100));
    }

    #[test]
    fn rules_end_at_the_last_port_and_need_an_address_of_the_tenant() {
        let index = RuleIndex::new(&[rule(65_530, 100, 10)], &[PUBLIC]);
        assert_eq!(customer_port(&index, u16::MAX), Some(15));
        assert_eq!(public_port(&index, 16), None);
        let next = Ipv4Addr::from_bits(PUBLIC.to_bits() + 1);
        assert_eq!(index.customer_of(Protocol::Tcp, Socket::new(next, 0)), None);
        assert_eq!(RuleIndex::new(&[rule(80, 1, 80)], &[next]), RuleIndex::default());
        assert_eq!(RuleIndex::new(&[rule(80, 0, 80)], &[PUBLIC]), RuleIndex::default());
    }

    #[test]
    fn a_reserved_socket_is_claimed_and_leads_nowhere() {
        let mut index = RuleIndex::default();
        let socket = Socket::new(PUBLIC, 51_820);
        index.reserve(Protocol::Udp, socket);
        assert!(index.is_reserved(Protocol::Udp, socket));
        assert!(!index.is_reserved(Protocol::Tcp, socket));
        assert_eq!(index.customer_of(Protocol::Udp, socket), None);
        let claimed = index.claimed(Protocol::Udp, PUBLIC, (51_820 / BLOCK_PORTS) as u8);
        assert!(claimed.count() == 1 && claimed.contains((51_820 % BLOCK_PORTS) as u8));
        assert_eq!(index.claimed(Protocol::Tcp, PUBLIC, 202), Bits::EMPTY);
    }

    #[test]
    fn claimed_ports_are_found_where_a_range_crosses_blocks() {
        let index = RuleIndex::new(&[rule(2000, 300, 2000), rule(2400, 1, 1)], &[PUBLIC]);
        let claimed = |block| index.claimed(Protocol::Tcp, PUBLIC, block);
        assert_eq!(claimed(7).count(), 2048 - 2000);
        assert_eq!(claimed(8).count(), 300 - 48);
        assert!(claimed(8).contains(0) && claimed(8).contains(251) && !claimed(8).contains(252));
        assert_eq!(claimed(9).count(), 1);
        assert_eq!(claimed(6), Bits::EMPTY);
        assert_eq!(index.claimed(Protocol::Udp, PUBLIC, 8), Bits::EMPTY);
    }
}
