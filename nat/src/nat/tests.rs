//! What NAT promises, one claim a test.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use nvgate_model::{DropReason, Protocol, Tick};
use nvgate_packet::headers::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use nvgate_packet::rewrite::Socket;

use super::{Flow, Nat, Translation};
use crate::{Budget, InboundRule, NatConfig, Seen, SessionView, Timeouts, WorkerShare};

mod lifetimes;

const WHOLE: WorkerShare = WorkerShare { index: 0, count: 1 };
const SYN_ACK: u8 = TCP_SYN | TCP_ACK;
const FIN_ACK: u8 = TCP_FIN | TCP_ACK;
const TIMEOUTS: Timeouts =
    Timeouts { tcp_established_secs: 7440, tcp_transitory_secs: 240, udp_secs: 120, icmp_secs: 60 };
const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

fn vm(port: u16) -> Socket {
    Socket::new(Ipv4Addr::new(10, 0, 0, 5), port)
}

fn server(port: u16) -> Socket {
    Socket::new(Ipv4Addr::new(198, 51, 100, 1), port)
}

fn stranger(port: u16) -> Socket {
    Socket::new(Ipv4Addr::new(192, 0, 2, 66), port)
}

fn rule(protocol: Protocol, public: Socket, count: u16, customer: Socket) -> InboundRule {
    InboundRule { protocol, public, count, customer }
}

fn config(addresses: &[Ipv4Addr], rules: &[InboundRule]) -> Arc<NatConfig> {
    Arc::new(NatConfig::new(addresses, rules, TIMEOUTS))
}

/// A NAT with budgets and a clock.
struct Bench {
    nat: Nat,
    now: Tick,
    tenant: Arc<Budget>,
    customer: Arc<Budget>,
}

impl Bench {
    fn new(addresses: &[Ipv4Addr], rules: &[InboundRule]) -> Self {
        Self::with(config(addresses, rules), WHOLE, 7)
    }

    fn with(config: Arc<NatConfig>, share: WorkerShare, seed: u64) -> Self {
        let budget = || Arc::new(Budget::new(1_000_000));
        Self {
            nat: Nat::new(config, share, seed, 1_000_000),
            now: Tick(0),
            tenant: budget(),
            customer: budget(),
        }
    }

    fn outbound(
        &mut self,
        protocol: Protocol,
        source: Socket,
        destination: Socket,
        tcp_flags: u8,
    ) -> Result<Translation, DropReason> {
        let flow = Flow { protocol, source, destination, tcp_flags };
        self.nat.outbound(self.now, &flow, &self.tenant, &self.customer)
    }

    fn inbound(
        &mut self,
        protocol: Protocol,
        source: Socket,
        destination: Socket,
        tcp_flags: u8,
    ) -> Result<Translation, DropReason> {
        let flow = Flow { protocol, source, destination, tcp_flags };
        let customer = Arc::clone(&self.customer);
        self.nat.inbound(self.now, &flow, &self.tenant, |_| Some(customer))
    }

    /// The public socket of a UDP packet from `source`.
    fn udp(&mut self, source: Socket, destination: Socket) -> Socket {
        self.outbound(Protocol::Udp, source, destination, 0).unwrap().source
    }

    /// An established TCP connection to `server(80)`; its public socket.
    fn connect(&mut self, source: Socket) -> Socket {
        let public = self.outbound(Protocol::Tcp, source, server(80), TCP_SYN).unwrap().source;
        self.inbound(Protocol::Tcp, server(80), public, SYN_ACK).unwrap();
        public
    }

    fn advance(&mut self, secs: u32, seen: Seen) -> Vec<SessionView> {
        let mut closed = Vec::new();
        // One second at a time, as a worker does.
        for _ in 0..secs {
            self.now = self.now.plus_secs(1);
            self.nat.expire(self.now, usize::MAX, |_| seen, |view| closed.push(*view));
        }
        closed
    }

    /// Whether exactly `secs` from now, and not a second earlier, all sessions close.
    fn closes_after(&mut self, secs: u32) -> bool {
        self.advance(secs - 1, Seen::default()).is_empty()
            && !self.advance(1, Seen::default()).is_empty()
            && self.nat.usage().sessions == 0
    }
}

#[test]
fn a_customer_socket_has_one_public_socket_for_all_remotes() {
    let mut bench = Bench::new(&[FIRST, SECOND], &[]);
    let public = bench.udp(vm(5000), server(53));
    assert_eq!(bench.udp(vm(5000), server(54)), public);
    assert_eq!(bench.udp(vm(5000), stranger(1)), public);
    assert_ne!(bench.udp(vm(5001), server(53)), public);
    let usage = bench.nat.usage();
    assert_eq!((usage.sessions, usage.mappings, usage.udp.ports_in_use), (4, 2, 2));
    assert_eq!((bench.tenant.used(), bench.customer.used()), (4, 4));
}

#[test]
fn only_remote_addresses_that_were_sent_to_may_send() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let public = bench.udp(vm(5000), server(53));
    let reply = bench.inbound(Protocol::Udp, server(53), public, 0).unwrap();
    assert_eq!((reply.source, reply.destination, reply.compile), (server(53), vm(5000), true));
    assert_eq!(bench.inbound(Protocol::Udp, stranger(53), public, 0), Err(DropReason::NatFiltered));
    let other_port = bench.inbound(Protocol::Udp, server(99), public, 0).unwrap();
    assert_eq!(other_port.destination, vm(5000));
    assert_ne!(other_port.session, reply.session);
    let unused = Socket::new(FIRST, public.port ^ 1);
    assert_eq!(bench.inbound(Protocol::Udp, server(53), unused, 0), Err(DropReason::NatNoMapping));
    assert_eq!(bench.tenant.used(), 2);
}

#[test]
fn a_remote_cannot_keep_a_mapping_open_by_sending() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let public = bench.udp(vm(5000), server(53));
    bench.advance(100, Seen::default());
    let opened = bench.inbound(Protocol::Udp, server(99), public, 0).unwrap();
    assert!(!opened.compile, "the first packet out has to be seen");
    bench.advance(20, Seen { inbound: Some(Tick(1_150)), outbound: None });
    assert_eq!(bench.inbound(Protocol::Udp, server(98), public, 0), Err(DropReason::NatFiltered));
    assert_eq!(bench.udp(vm(5000), server(99)), public);
    assert!(bench.inbound(Protocol::Udp, server(99), public, 0).unwrap().compile);
    assert!(bench.inbound(Protocol::Udp, server(98), public, 0).is_ok());
}

#[test]
fn tcp_needs_a_syn_to_open_a_session_either_way() {
    let published = Socket::new(FIRST, 80);
    let mut bench = Bench::new(&[FIRST], &[rule(Protocol::Tcp, published, 1, vm(8080))]);
    for flags in [0, TCP_ACK, SYN_ACK, FIN_ACK, TCP_RST, TCP_SYN | TCP_RST, TCP_SYN | TCP_FIN] {
        let out = bench.outbound(Protocol::Tcp, vm(5000), server(80), flags);
        assert_eq!(out, Err(DropReason::NatNoSession), "{flags:#x}");
        let into = bench.inbound(Protocol::Tcp, server(5), published, flags);
        assert_eq!(into, Err(DropReason::NatNoSession), "{flags:#x}");
    }
    assert_eq!((bench.nat.usage().sessions, bench.tenant.used()), (0, 0));
}

#[test]
fn tcp_is_compiled_only_while_established() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let syn = bench.outbound(Protocol::Tcp, vm(5000), server(80), TCP_SYN).unwrap();
    let public = syn.source;
    let mut steps = Vec::from([syn.compile]);
    for (outbound, flags) in [
        (false, SYN_ACK),
        (true, TCP_ACK),
        (true, FIN_ACK),
        (false, TCP_ACK),
        (false, TCP_RST),
        (false, TCP_ACK),
        (false, FIN_ACK),
        (true, TCP_ACK),
        (true, TCP_SYN),
    ] {
        let result = if outbound {
            bench.outbound(Protocol::Tcp, vm(5000), server(80), flags)
        } else {
            bench.inbound(Protocol::Tcp, server(80), public, flags)
        };
        steps.push(result.unwrap().compile);
    }
    assert_eq!(steps, [false, true, true, true, true, false, true, false, false, false]);
    assert_eq!(bench.nat.usage().sessions, 1);
}

#[test]
fn echo_is_mapped_by_identifier_and_requests_are_not_let_in() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let sent = bench.outbound(Protocol::Icmp, vm(77), server(0), 0).unwrap();
    assert!(sent.source.address == FIRST && sent.source.port >= 1024 && sent.compile);
    assert_eq!(sent.destination, server(0));
    let reply = bench.inbound(Protocol::Icmp, server(0), sent.source, 0).unwrap();
    assert_eq!((reply.source, reply.destination), (server(0), vm(77)));
    let request = bench.inbound(Protocol::Icmp, server(9), Socket::new(FIRST, 0), 0);
    assert_eq!(request, Err(DropReason::NatNoMapping));
    let unasked = bench.outbound(Protocol::Icmp, vm(0), server(9), 0);
    assert_eq!(unasked, Err(DropReason::NatNoSession));
    let other = bench.inbound(Protocol::Icmp, stranger(0), sent.source, 0);
    assert_eq!(other, Err(DropReason::NatFiltered));
}

#[test]
fn an_inbound_rule_lets_any_remote_in_and_its_customer_out() {
    let published = Socket::new(FIRST, 80);
    let mut bench = Bench::new(&[FIRST], &[rule(Protocol::Tcp, published, 1, vm(8080))]);
    let syn = bench.inbound(Protocol::Tcp, stranger(5), published, TCP_SYN).unwrap();
    assert_eq!((syn.source, syn.destination), (stranger(5), vm(8080)));
    let reply = bench.outbound(Protocol::Tcp, vm(8080), stranger(5), SYN_ACK).unwrap();
    assert_eq!((reply.source, reply.session, reply.compile), (published, syn.session, true));
    let fresh = bench.outbound(Protocol::Tcp, vm(8080), server(9), TCP_SYN).unwrap();
    assert_eq!(fresh.source, published);
    let usage = bench.nat.usage();
    assert_eq!((usage.mappings, usage.published, usage.tcp.ports_in_use), (0, 1, 0));
    let udp = bench.inbound(Protocol::Udp, stranger(5), published, 0);
    assert_eq!(udp, Err(DropReason::NatNoMapping));
}

#[test]
fn a_rule_is_served_by_a_worker_that_does_not_own_its_port() {
    let share = WorkerShare { index: 1, count: 2 };
    let published = Socket::new(FIRST, 2048);
    assert_eq!(WorkerShare::owner_of(published.port, 2), 0);
    let rules = [rule(Protocol::Udp, published, 1, vm(53))];
    let mut bench = Bench::with(config(&[FIRST], &rules), share, 7);
    assert!(bench.inbound(Protocol::Udp, stranger(5), published, 0).unwrap().compile);
    assert_eq!(bench.udp(vm(53), stranger(5)), published);
}

#[test]
fn with_two_rules_for_one_socket_replies_keep_their_session_and_new_flows_use_the_first() {
    let (one, two) = (Socket::new(FIRST, 80), Socket::new(SECOND, 80));
    let rules = [rule(Protocol::Tcp, one, 1, vm(80)), rule(Protocol::Tcp, two, 1, vm(80))];
    let mut bench = Bench::new(&[FIRST, SECOND], &rules);
    bench.inbound(Protocol::Tcp, stranger(5), two, TCP_SYN).unwrap();
    let reply = bench.outbound(Protocol::Tcp, vm(80), stranger(5), SYN_ACK).unwrap();
    assert_eq!(reply.source, two);
    let fresh = bench.outbound(Protocol::Tcp, vm(80), server(9), TCP_SYN).unwrap();
    assert_eq!(fresh.source, one);
    let ambiguous = bench.inbound(Protocol::Tcp, stranger(5), one, TCP_SYN);
    assert_eq!(ambiguous, Err(DropReason::NatFiltered));
    assert_eq!(bench.nat.icmp_error_inbound(Protocol::Tcp, two, stranger(5)), Ok(vm(80)));
    assert_eq!(
        bench.nat.icmp_error_inbound(Protocol::Tcp, one, stranger(5)),
        Err(DropReason::NatIcmpUnrelated)
    );
}

#[test]
fn lent_ports_are_dynamic_of_the_share_and_claimed_by_no_rule() {
    let share = WorkerShare { index: 3, count: 4 };
    let rules = [rule(Protocol::Udp, Socket::new(FIRST, 1_700), 60_000, vm(1_000))];
    let mut bench = Bench::with(config(&[FIRST], &rules), share, 7);
    let total = bench.nat.usage().udp.ports_total;
    let mut lent = BTreeSet::new();
    for port in 0..total as u16 {
        let customer = Socket::new(Ipv4Addr::new(10, 9, 9, 9), port);
        lent.insert(bench.udp(customer, server(53)).port);
    }
    let free = |port: &u16| port / 256 % 4 == 3 && !(1_700..61_700).contains(port);
    let expected: BTreeSet<u16> = (1024..=u16::MAX).filter(free).collect();
    assert_eq!(lent, expected, "every free port once, and no other");
    let more = bench.outbound(Protocol::Udp, vm(1), server(53), 0);
    assert_eq!(more, Err(DropReason::NatNoPort));
    assert!(bench.outbound(Protocol::Tcp, vm(1), server(53), TCP_SYN).is_ok());
    assert_eq!(bench.tenant.used(), total + 1);
}

#[test]
fn workers_share_a_tenants_budget_and_never_lend_the_same_port() {
    let config = config(&[FIRST], &[]);
    let shares = [0, 1, 2].map(|index| WorkerShare { index, count: 3 });
    let mut benches = shares.map(|share| Bench::with(Arc::clone(&config), share, 7));
    let tenant = Arc::new(Budget::new(900));
    let mut lent = BTreeSet::new();
    let mut refused = 0;
    for number in 0..1_000_u16 {
        let bench = &mut benches[usize::from(number) % 3];
        bench.tenant = Arc::clone(&tenant);
        match bench.outbound(Protocol::Udp, vm(number), server(53), 0) {
            Ok(sent) => {
                assert_eq!(WorkerShare::owner_of(sent.source.port, 3), number % 3);
                assert!(lent.insert(sent.source));
            }
            Err(reason) => {
                assert_eq!(reason, DropReason::NatTenantSessions);
                refused += 1;
            }
        }
    }
    assert_eq!((lent.len(), refused, tenant.used()), (900, 100, 900));
}

#[test]
fn ports_are_not_predictable_without_the_seed_and_repeat_with_it() {
    let ports = |seed| {
        let mut bench = Bench::with(config(&[FIRST], &[]), WHOLE, seed);
        (0..50).map(|port| bench.udp(vm(port), server(53)).port).collect::<Vec<_>>()
    };
    assert_eq!(ports(1), ports(1));
    assert_ne!(ports(1), ports(2));
    let steps: BTreeSet<_> =
        ports(1).windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(steps.len() > 30, "neighbouring ports tell nothing: {steps:?}");
}

#[test]
fn a_customer_address_keeps_to_one_public_address_until_that_is_used_up() {
    let rules = [rule(Protocol::Udp, Socket::new(FIRST, 1_034), 64_502, vm(1_034))];
    let mut bench = Bench::new(&[FIRST, SECOND], &[]);
    let mut used = BTreeSet::new();
    for host in 1..=20 {
        let customer = |port| Socket::new(Ipv4Addr::new(10, 0, 0, host), port);
        let addresses: BTreeSet<_> =
            (0..20).map(|port| bench.udp(customer(port), server(53)).address).collect();
        assert_eq!(addresses.len(), 1);
        used.extend(addresses);
    }
    assert_eq!(used.len(), 2, "customers spread over the addresses");

    let mut scarce = Bench::new(&[FIRST, SECOND], &rules);
    for host in 1..=20 {
        scarce.udp(Socket::new(Ipv4Addr::new(10, 0, 0, host), 9), server(53));
    }
    let on_first = scarce.nat.sessions().filter(|view| view.public.address == FIRST).count();
    assert!((1..=10).contains(&on_first), "{on_first} of the 10 ports of the first address");
    assert_eq!(scarce.nat.usage().udp.ports_in_use, 20);
}

#[test]
fn each_exhausted_budget_has_its_own_reason_and_harms_no_open_session() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let public = bench.udp(vm(5000), server(53));
    bench.customer.set_limit(1);
    let refused = bench.outbound(Protocol::Udp, vm(5001), server(53), 0);
    assert_eq!(refused, Err(DropReason::NatCustomerSessions));
    bench.tenant.set_limit(1);
    let refused = bench.inbound(Protocol::Udp, server(54), public, 0);
    assert_eq!(refused, Err(DropReason::NatTenantSessions));
    bench.nat.max_sessions = 1;
    let refused = bench.outbound(Protocol::Udp, vm(5001), server(53), 0);
    assert_eq!(refused, Err(DropReason::NatTableFull));
    assert!(bench.outbound(Protocol::Udp, vm(5000), server(53), 0).is_ok());
    assert!(bench.inbound(Protocol::Udp, server(53), public, 0).is_ok());
    assert_eq!((bench.tenant.used(), bench.customer.used()), (1, 1));
    assert_eq!(bench.nat.usage().mappings, 1, "a refused packet leaves no mapping");
    drop(bench.nat);
    assert_eq!((bench.tenant.used(), bench.customer.used()), (0, 0));
}

#[test]
fn a_customer_without_a_budget_is_not_reached() {
    let published = Socket::new(FIRST, 53);
    let mut bench = Bench::new(&[FIRST], &[rule(Protocol::Udp, published, 1, vm(53))]);
    let flow =
        Flow { protocol: Protocol::Udp, source: server(1), destination: published, tcp_flags: 0 };
    let result = bench.nat.inbound(Tick(0), &flow, &bench.tenant, |address| {
        assert_eq!(address, vm(53).address);
        None
    });
    assert_eq!(result, Err(DropReason::UnknownCustomer));
    assert_eq!(bench.tenant.used(), 0);
}

#[test]
fn icmp_errors_find_their_session_and_refresh_nothing() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let public = bench.udp(vm(5000), server(53));
    bench.advance(119, Seen::default());
    let nat = &bench.nat;
    assert_eq!(nat.icmp_error_inbound(Protocol::Udp, public, server(53)), Ok(vm(5000)));
    assert_eq!(nat.icmp_error_outbound(Protocol::Udp, server(53), vm(5000)), Ok(public));
    for result in [
        nat.icmp_error_inbound(Protocol::Udp, public, server(54)),
        nat.icmp_error_inbound(Protocol::Udp, public, stranger(53)),
        nat.icmp_error_inbound(Protocol::Tcp, public, server(53)),
        nat.icmp_error_inbound(Protocol::Udp, Socket::new(FIRST, public.port ^ 1), server(53)),
        nat.icmp_error_outbound(Protocol::Udp, server(53), vm(5001)),
        nat.icmp_error_outbound(Protocol::Udp, stranger(53), vm(5000)),
    ] {
        assert_eq!(result, Err(DropReason::NatIcmpUnrelated));
    }
    assert_eq!(bench.advance(1, Seen::default()).len(), 1);
}

#[test]
fn two_customers_reach_each_other_through_their_public_sockets() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let here = bench.udp(vm(1), server(53));
    let there = bench.udp(vm(2), Socket::new(FIRST, 53));
    let sent = bench.outbound(Protocol::Udp, vm(2), here, 0).unwrap();
    assert_eq!(sent.source, there);
    let filtered = bench.inbound(Protocol::Udp, sent.source, sent.destination, 0);
    assert_eq!(filtered, Err(DropReason::NatFiltered));
    bench.udp(vm(1), there);
    let received = bench.inbound(Protocol::Udp, sent.source, sent.destination, 0).unwrap();
    assert_eq!((received.source, received.destination), (there, vm(1)));
}

#[test]
fn a_reload_closes_what_lost_its_address_or_rule_and_nothing_else() {
    let published = Socket::new(FIRST, 80);
    let web = rule(Protocol::Tcp, published, 1, vm(80));
    let mut bench = Bench::new(&[FIRST, SECOND], &[web]);
    bench.inbound(Protocol::Tcp, stranger(1), published, TCP_SYN).unwrap();
    for host in 1..=20 {
        bench.udp(Socket::new(Ipv4Addr::new(10, 0, 0, host), 9), server(53));
    }
    let on_second = bench.nat.sessions().filter(|view| view.public.address == SECOND).count();
    assert!(on_second > 0);

    assert_eq!(bench.nat.reconfigure(config(&[FIRST, SECOND], &[web])), 0);
    assert_eq!(bench.nat.reconfigure(config(&[FIRST], &[web])), on_second);
    assert!(bench.nat.sessions().all(|view| view.public.address == FIRST));
    let moved = rule(Protocol::Tcp, published, 1, vm(81));
    assert_eq!(bench.nat.reconfigure(config(&[FIRST], &[moved])), 1);
    let claimed = bench.nat.sessions().next().unwrap();
    let claim = rule(Protocol::Udp, claimed.public, 1, vm(7));
    assert_eq!(bench.nat.reconfigure(config(&[FIRST], &[moved, claim])), 1);
    assert_eq!(
        bench.inbound(Protocol::Udp, stranger(1), claimed.public, 0).unwrap().destination,
        vm(7)
    );
    assert_eq!(bench.tenant.used() as usize, bench.nat.usage().sessions);
    assert_eq!(bench.nat.usage().sessions, 20 - on_second);
    assert_eq!(bench.nat.reconfigure(config(&[], &[])), 20 - on_second);
    assert_eq!(bench.outbound(Protocol::Udp, vm(1), server(53), 0), Err(DropReason::NatNoPort));
}
