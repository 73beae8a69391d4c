//! `Nat` against a model that is too simple to be wrong: one list of sessions, searched from end to
//! end, with TCP's phase read off the whole history of each connection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use nvgate_model::{DropReason, Protocol, Tick};
use nvgate_packet::headers::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use nvgate_packet::rewrite::Socket;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{Flow, Nat, Translation};
use crate::{Budget, InboundRule, NatConfig, Seen, SessionView, Timeouts, WorkerShare};

/// One block an address: block 251, ports 64256 to 64511.
const SHARE: WorkerShare = WorkerShare { index: 251, count: 252 };
const MAX_SESSIONS: usize = 16;
const CUSTOMER_LIMIT: u32 = 7;
const FLAGS: [u8; 6] =
    [TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK, TCP_FIN | TCP_ACK, TCP_RST, TCP_SYN | TCP_FIN];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

fn public(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

fn customer(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

/// What a configuration was made of.
struct Source {
    addresses: Vec<Ipv4Addr>,
    rules: Vec<InboundRule>,
    timeouts: Timeouts,
    /// Ports that can be lent, by protocol and address.
    lendable: BTreeMap<(Protocol, Ipv4Addr), usize>,
}

impl Source {
    fn new(addresses: &[Ipv4Addr], rules: &[InboundRule], tcp_secs: u32) -> Self {
        let timeouts = Timeouts {
            tcp_established_secs: tcp_secs,
            tcp_transitory_secs: 40,
            udp_secs: 30,
            icmp_secs: 20,
        };
        let mut source = Self {
            addresses: addresses.to_vec(),
            rules: rules.to_vec(),
            timeouts,
            lendable: BTreeMap::new(),
        };
        for &address in addresses {
            for protocol in PROTOCOLS {
                let lendable = (1024..=u16::MAX)
                    .filter(|port| port / 256 % SHARE.count == SHARE.index)
                    .filter(|&port| source.rule(protocol, Socket::new(address, port)).is_none())
                    .count();
                source.lendable.insert((protocol, address), lendable);
            }
        }
        source
    }

    fn rule(&self, protocol: Protocol, public: Socket) -> Option<Socket> {
        self.rules.iter().filter(|rule| self.addresses.contains(&rule.public.address)).find_map(
            |rule| {
                let offset = public.port.checked_sub(rule.public.port)?;
                (rule.protocol == protocol
                    && rule.public.address == public.address
                    && offset < rule.count)
                    .then(|| Socket::new(rule.customer.address, rule.customer.port + offset))
            },
        )
    }

    fn rule_public(&self, protocol: Protocol, customer: Socket) -> Option<Socket> {
        self.rules.iter().find_map(|rule| {
            let offset = customer.port.checked_sub(rule.customer.port)?;
            if rule.protocol != protocol || offset >= rule.count {
                return None;
            }
            let public = Socket::new(rule.public.address, rule.public.port + offset);
            (self.rule(protocol, public) == Some(customer)).then_some(public)
        })
    }

    fn config(&self) -> Arc<NatConfig> {
        Arc::new(NatConfig::new(&self.addresses, &self.rules, self.timeouts))
    }
}

/// Configurations to change between. All claim most of the one block an address has.
fn sources() -> &'static [Source; 4] {
    static SOURCES: OnceLock<[Source; 4]> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let rule = |protocol, host, port, count, to| InboundRule {
            protocol,
            public: Socket::new(public(host), port),
            count,
            customer: to,
        };
        let far = |port| Socket::new(customer(9), port);
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let near = Socket::new(customer(1), 5000);
        let claims = [
            rule(tcp, 1, 64_256, 251, far(1)),
            rule(udp, 1, 64_256, 251, far(1)),
            rule(tcp, 2, 64_256, 253, far(1001)),
            rule(udp, 2, 64_256, 253, far(1001)),
        ];
        let with = |more: &[InboundRule]| [&claims[..], more].concat();
        let both = [public(1), public(2)];
        let published = with(&[
            rule(tcp, 1, 80, 2, near),
            rule(udp, 1, 80, 2, near),
            rule(tcp, 2, 80, 1, near),
        ]);
        let shadowed = with(&[
            rule(tcp, 1, 80, 1, far(7)),
            rule(tcp, 1, 80, 2, near),
            rule(udp, 2, 81, 1, near),
        ]);
        let greedy = with(&[rule(tcp, 1, 64_256, 256, near), rule(udp, 1, 64_506, 4, near)]);
        [
            Source::new(&both, &published, 100),
            Source::new(&both, &shadowed, 60),
            Source::new(&both[..1], &published, 100),
            Source::new(&both, &greedy, 100),
        ]
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Out,
    In,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Opening,
    Established,
    Reset,
    Closed,
}

#[derive(Clone, Debug)]
struct Session {
    protocol: Protocol,
    customer: Socket,
    public: Socket,
    remote: Socket,
    by_rule: bool,
    sent: bool,
    refreshed: Tick,
    /// TCP packets since the connection began; what came after both FINs is left out.
    history: Vec<(Way, u8)>,
    seen: Seen,
}

impl Session {
    fn phase(&self) -> Phase {
        let has = |way, flag| {
            self.history
                .iter()
                .any(|&(each, flags)| each == way && flags & flag != 0 && flags & TCP_RST == 0)
        };
        if has(Way::Out, TCP_FIN) && has(Way::In, TCP_FIN) {
            Phase::Closed
        } else if self.history.last().is_some_and(|&(_, flags)| flags & TCP_RST != 0) {
            Phase::Reset
        } else if has(Way::Out, TCP_SYN) && has(Way::In, TCP_SYN) {
            Phase::Established
        } else {
            Phase::Opening
        }
    }

    fn packet(&mut self, now: Tick, way: Way, flags: u8) {
        let restarts = match self.protocol {
            Protocol::Udp | Protocol::Icmp => way == Way::Out,
            Protocol::Tcp => {
                let before = self.phase();
                if flags == TCP_SYN && matches!(before, Phase::Reset | Phase::Closed) {
                    self.history = vec![(way, flags)];
                    true
                } else if before == Phase::Closed {
                    false
                } else {
                    self.history.push((way, flags));
                    match self.phase() {
                        Phase::Reset => before == Phase::Established,
                        Phase::Opening => flags & TCP_SYN != 0,
                        Phase::Established | Phase::Closed => true,
                    }
                }
            }
        };
        if restarts {
            self.refreshed = now;
        }
    }

    fn take_seen(&mut self) {
        if self.protocol != Protocol::Tcp {
            self.refreshed = self.refreshed.max(self.seen.outbound.unwrap_or_default());
            return;
        }
        let latest = self.seen.outbound.max(self.seen.inbound).unwrap_or_default();
        if latest > self.refreshed && matches!(self.phase(), Phase::Established | Phase::Reset) {
            self.history.push((Way::Out, TCP_ACK));
            if self.phase() == Phase::Established {
                self.refreshed = latest;
            }
        }
    }

    fn deadline(&self, timeouts: &Timeouts) -> Tick {
        self.refreshed.plus_secs(match self.protocol {
            Protocol::Udp => timeouts.udp_secs,
            Protocol::Icmp => timeouts.icmp_secs,
            Protocol::Tcp if self.phase() == Phase::Established => timeouts.tcp_established_secs,
            Protocol::Tcp => timeouts.tcp_transitory_secs,
        })
    }

    fn compile(&self) -> bool {
        match self.protocol {
            Protocol::Icmp => true,
            Protocol::Tcp => self.phase() == Phase::Established,
            Protocol::Udp => self.by_rule || self.sent,
        }
    }

    fn matches(&self, protocol: Protocol, customer: Socket, remote: Socket) -> bool {
        (self.protocol, self.customer, self.remote) == (protocol, customer, remote)
    }
}

struct Model {
    source: &'static Source,
    sessions: Vec<Session>,
    tenant_limit: u32,
}

/// What the model expects of a packet that passes.
struct Passes {
    /// The session's public socket; `None` when any free one will do.
    public: Option<Socket>,
    customer: Socket,
    remote: Socket,
}

impl Model {
    fn find(&self, protocol: Protocol, customer: Socket, remote: Socket) -> Option<usize> {
        self.sessions.iter().position(|session| session.matches(protocol, customer, remote))
    }

    fn budgets(&self, customer: Ipv4Addr) -> Result<(), DropReason> {
        let of = |session: &&Session| session.customer.address == customer;
        if self.sessions.len() >= MAX_SESSIONS {
            Err(DropReason::NatTableFull)
        } else if self.sessions.len() >= self.tenant_limit as usize {
            Err(DropReason::NatTenantSessions)
        } else if self.sessions.iter().filter(of).count() >= CUSTOMER_LIMIT as usize {
            Err(DropReason::NatCustomerSessions)
        } else {
            Ok(())
        }
    }

    fn lent(&self) -> BTreeSet<(Protocol, Socket)> {
        let lent = self.sessions.iter().filter(|session| !session.by_rule);
        lent.map(|session| (session.protocol, session.public)).collect()
    }

    fn outbound(&mut self, now: Tick, flow: &Flow) -> Result<Passes, DropReason> {
        let &Flow { protocol, source: customer, destination: remote, tcp_flags } = flow;
        if let Some(index) = self.find(protocol, customer, remote) {
            let session = &mut self.sessions[index];
            session.packet(now, Way::Out, tcp_flags);
            session.sent = true;
            return Ok(Passes { public: Some(session.public), customer, remote });
        }
        if protocol == Protocol::Tcp && tcp_flags != TCP_SYN
            || protocol == Protocol::Icmp && remote.port != 0
        {
            return Err(DropReason::NatNoSession);
        }
        self.budgets(customer.address)?;
        let by_rule = self.source.rule_public(protocol, customer);
        let lent = self.sessions.iter().find(|session| {
            session.protocol == protocol && session.customer == customer && !session.by_rule
        });
        let public = by_rule.or(lent.map(|session| session.public));
        let lendable = self.source.lendable.iter().filter(|((each, _), _)| *each == protocol);
        let lendable: usize = lendable.map(|(_, count)| count).sum();
        let in_use = self.lent().iter().filter(|(each, _)| *each == protocol).count();
        if public.is_none() && in_use >= lendable {
            return Err(DropReason::NatNoPort);
        }
        self.sessions.push(Session {
            protocol,
            customer,
            public: public.unwrap_or(customer),
            remote,
            by_rule: by_rule.is_some(),
            sent: true,
            refreshed: now,
            history: vec![(Way::Out, tcp_flags)],
            seen: Seen::default(),
        });
        Ok(Passes { public, customer, remote })
    }

    fn inbound(&mut self, now: Tick, flow: &Flow) -> Result<Passes, DropReason> {
        let &Flow { protocol, source: remote, destination: public, tcp_flags } = flow;
        if protocol == Protocol::Icmp && remote.port != 0 {
            return Err(DropReason::NatNoMapping);
        }
        let rule = self.source.rule(protocol, public);
        let owner = self
            .sessions
            .iter()
            .find(|session| session.protocol == protocol && session.public == public)
            .map(|session| session.customer);
        let customer = rule.or(owner).ok_or(DropReason::NatNoMapping)?;
        if let Some(index) = self.find(protocol, customer, remote) {
            let session = &mut self.sessions[index];
            if session.public != public {
                return Err(DropReason::NatFiltered);
            }
            session.packet(now, Way::In, tcp_flags);
            return Ok(Passes { public: Some(public), customer, remote });
        }
        let sent_to = |session: &Session| {
            (session.protocol, session.public, session.remote.address)
                == (protocol, public, remote.address)
                && session.sent
        };
        if rule.is_none() && !self.sessions.iter().any(sent_to) {
            return Err(DropReason::NatFiltered);
        }
        if protocol == Protocol::Tcp && tcp_flags != TCP_SYN {
            return Err(DropReason::NatNoSession);
        }
        self.budgets(customer.address)?;
        self.sessions.push(Session {
            protocol,
            customer,
            public,
            remote,
            by_rule: rule.is_some(),
            sent: false,
            refreshed: now,
            history: vec![(Way::In, tcp_flags)],
            seen: Seen::default(),
        });
        Ok(Passes { public: Some(public), customer, remote })
    }

    fn reconfigure(&mut self, source: &'static Source) -> usize {
        self.source = source;
        let before = self.sessions.len();
        self.sessions.retain(|session| {
            let rule = source.rule(session.protocol, session.public);
            if session.by_rule {
                rule == Some(session.customer)
            } else {
                rule.is_none() && source.addresses.contains(&session.public.address)
            }
        });
        before - self.sessions.len()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Outbound {
        protocol: usize,
        host: u8,
        port: u16,
        remote: u8,
        remote_port: u16,
        flags: usize,
    },
    /// To the public socket of a live session, or to a fixed one.
    Inbound {
        live: Option<usize>,
        protocol: usize,
        remote: u8,
        remote_port: u16,
        flags: usize,
    },
    /// Another packet of a live session.
    Continue {
        live: usize,
        outbound: bool,
        flags: usize,
    },
    /// A compiled entry of a live session forwards.
    Forward {
        live: usize,
        outbound: bool,
    },
    Advance {
        secs: u32,
    },
    Reconfigure {
        source: usize,
    },
    Limit {
        sessions: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let outbound = (0..3_usize, 1..4_u8, 5000..5006_u16, 1..4_u8, 0..3_u16, 0..10_usize).prop_map(
        |(protocol, host, port, remote, remote_port, flags)| Step::Outbound {
            protocol,
            host,
            port,
            remote,
            remote_port,
            flags,
        },
    );
    let inbound = (any::<Option<usize>>(), 0..3_usize, 1..4_u8, 0..4_u16, 0..10_usize).prop_map(
        |(live, protocol, remote, remote_port, flags)| Step::Inbound {
            live,
            protocol,
            remote,
            remote_port,
            flags,
        },
    );
    prop_oneof![
        12 => outbound,
        6 => inbound,
        12 => (any::<usize>(), any::<bool>(), 0..FLAGS.len())
            .prop_map(|(live, outbound, flags)| Step::Continue { live, outbound, flags }),
        4 => (any::<usize>(), any::<bool>())
            .prop_map(|(live, outbound)| Step::Forward { live, outbound }),
        4 => (0..35_u32).prop_map(|secs| Step::Advance { secs }),
        1 => (0..4_usize).prop_map(|source| Step::Reconfigure { source }),
        1 => (5..40_u32).prop_map(|sessions| Step::Limit { sessions }),
    ]
}

/// The two side by side.
struct Pair {
    nat: Nat,
    model: Model,
    now: Tick,
    tenant: Arc<Budget>,
    customers: BTreeMap<Ipv4Addr, Arc<Budget>>,
    refusals: BTreeSet<DropReason>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let source = &sources()[0];
        let limit = || Arc::new(Budget::new(CUSTOMER_LIMIT));
        Self {
            nat: Nat::new(source.config(), SHARE, seed, MAX_SESSIONS),
            model: Model { source, sessions: Vec::new(), tenant_limit: 40 },
            now: Tick(0),
            tenant: Arc::new(Budget::new(40)),
            customers: (1..=9).map(|host| (customer(host), limit())).collect(),
            refusals: BTreeSet::new(),
        }
    }

    fn outbound(&mut self, flow: &Flow) {
        let budget = &self.customers[&flow.source.address];
        let got = self.nat.outbound(self.now, flow, &self.tenant, budget);
        let expected = self.model.outbound(self.now, flow);
        match (got, expected) {
            (Ok(got), Ok(passes)) => {
                let free = !self.model.lent().contains(&(flow.protocol, got.source));
                let index = self.model.find(flow.protocol, passes.customer, passes.remote).unwrap();
                match passes.public {
                    Some(public) => assert_eq!(got.source, public, "{flow:?}"),
                    None => {
                        assert!(free && got.source.port >= 1024, "{flow:?} {got:?}");
                        assert_eq!(got.source.port / 256 % SHARE.count, SHARE.index);
                        assert!(self.model.source.addresses.contains(&got.source.address));
                        assert_eq!(self.model.source.rule(flow.protocol, got.source), None);
                        self.model.sessions[index].public = got.source;
                    }
                }
                assert_eq!(got.destination, flow.destination);
                self.check_session(&got, index);
            }
            (got, expected) => {
                assert_eq!(got.err(), expected.err(), "{flow:?}");
                self.refusals.extend(got.err());
            }
        }
    }

    fn inbound(&mut self, flow: &Flow) {
        let customers = &self.customers;
        let got = self.nat.inbound(self.now, flow, &self.tenant, |address| {
            customers.get(&address).map(Arc::clone)
        });
        match (got, self.model.inbound(self.now, flow)) {
            (Ok(got), Ok(passes)) => {
                let index = self.model.find(flow.protocol, passes.customer, passes.remote).unwrap();
                assert_eq!((got.source, got.destination), (passes.remote, passes.customer));
                self.check_session(&got, index);
            }
            (got, expected) => {
                assert_eq!(got.err(), expected.err(), "{flow:?}");
                self.refusals.extend(got.err());
            }
        }
    }

    fn check_session(&self, got: &Translation, index: usize) {
        let session = &self.model.sessions[index];
        assert_eq!(got.compile, session.compile(), "{session:?}");
        let view = self.nat.sessions().find(|view| view.session == got.session).unwrap();
        let &Session { protocol, customer, public, remote, .. } = session;
        let expected = SessionView { session: got.session, protocol, customer, public, remote };
        assert_eq!(view, expected);
        assert_eq!(self.nat.icmp_error_inbound(protocol, public, remote), Ok(customer));
        assert_eq!(self.nat.icmp_error_outbound(protocol, remote, customer), Ok(public));
    }

    fn advance(&mut self, secs: u32) {
        self.now = self.now.plus_secs(secs);
        let (now, timeouts) = (self.now, self.model.source.timeouts);
        let mut closed = Vec::new();
        let sessions = &mut self.model.sessions;
        self.nat.expire(
            now,
            usize::MAX,
            |view| {
                let session = sessions
                    .iter_mut()
                    .find(|each| each.matches(view.protocol, view.customer, view.remote))
                    .unwrap();
                session.take_seen();
                session.seen
            },
            |view| closed.push(*view),
        );
        for view in closed {
            let index = self.model.find(view.protocol, view.customer, view.remote).unwrap();
            let session = self.model.sessions.remove(index);
            assert!(session.deadline(&timeouts) <= now, "closed too early: {session:?}");
        }
        for session in &self.model.sessions {
            assert!(session.deadline(&timeouts) > now, "kept too long: {session:?}");
        }
    }

    fn live(&self, choice: usize) -> Option<&Session> {
        self.model.sessions.get(choice.checked_rem(self.model.sessions.len())?)
    }

    fn apply(&mut self, step: Step) {
        // A SYN is likelier than each other flag.
        let flags_of = |protocol, flags: usize| match protocol {
            Protocol::Tcp => FLAGS.get(flags).copied().unwrap_or(TCP_SYN),
            Protocol::Udp | Protocol::Icmp => 0,
        };
        let remote_socket = |host, port| Socket::new(Ipv4Addr::new(198, 51, 100, host), port);
        match step {
            Step::Outbound { protocol, host, port, remote, remote_port, flags } => {
                let protocol = PROTOCOLS[protocol];
                self.outbound(&Flow {
                    protocol,
                    source: Socket::new(customer(host), port),
                    destination: remote_socket(remote, remote_port),
                    tcp_flags: flags_of(protocol, flags),
                });
            }
            Step::Inbound { live, protocol, remote, remote_port, flags } => {
                let (protocol, destination) = live
                    .and_then(|choice| self.live(choice))
                    .map(|session| (session.protocol, session.public))
                    .unwrap_or((PROTOCOLS[protocol], Socket::new(public(1 + remote % 2), 80)));
                self.inbound(&Flow {
                    protocol,
                    source: remote_socket(remote, remote_port),
                    destination,
                    tcp_flags: flags_of(protocol, flags),
                });
            }
            Step::Continue { live, outbound, flags } => {
                let Some(session) = self.live(live).cloned() else { return };
                let flow = |source, destination| Flow {
                    protocol: session.protocol,
                    source,
                    destination,
                    tcp_flags: flags_of(session.protocol, flags),
                };
                if outbound {
                    self.outbound(&flow(session.customer, session.remote));
                } else {
                    self.inbound(&flow(session.remote, session.public));
                }
            }
            Step::Forward { live, outbound } => {
                let Some(choice) = live.checked_rem(self.model.sessions.len()) else { return };
                let session = &mut self.model.sessions[choice];
                if outbound && (session.sent || session.by_rule) {
                    session.seen.outbound = Some(self.now);
                } else {
                    session.seen.inbound = Some(self.now);
                }
            }
            Step::Advance { secs } => self.advance(secs),
            Step::Reconfigure { source } => {
                let source = &sources()[source];
                assert_eq!(self.nat.reconfigure(source.config()), self.model.reconfigure(source));
            }
            Step::Limit { sessions } => {
                self.tenant.set_limit(sessions);
                self.model.tenant_limit = sessions;
            }
        }
        self.check();
    }

    /// Everything that must hold between packets.
    fn check(&self) {
        let sessions = &self.model.sessions;
        let count = sessions.len();
        let lent = self.model.lent();
        let usage = self.nat.usage();
        assert_eq!((usage.sessions, usage.mappings), (count, lent.len()));
        assert_eq!(self.nat.by_flow.len(), count);
        assert_eq!(self.nat.by_customer.len(), lent.len());
        assert_eq!(self.nat.by_public.len(), usage.mappings + usage.published);

        let mut owners = BTreeMap::new();
        let mut filter = BTreeSet::new();
        for session in sessions {
            let tuple = (session.protocol, session.public);
            assert_eq!(*owners.entry(tuple).or_insert(session.customer), session.customer);
            if session.sent && !session.by_rule {
                filter.insert((session.protocol, session.public, session.remote.address));
            }
        }
        assert_eq!(self.nat.filter.len(), filter.len());
        assert_eq!(usage.published, owners.len() - lent.len());

        for (protocol, ports) in
            [(Protocol::Tcp, usage.tcp), (Protocol::Udp, usage.udp), (Protocol::Icmp, usage.icmp)]
        {
            let lent = lent.iter().filter(|(each, _)| *each == protocol);
            let blocks: BTreeSet<_> =
                lent.clone().map(|(_, socket)| (socket.address, socket.port / 256)).collect();
            let lendable =
                self.model.source.lendable.iter().filter(|((each, _), _)| *each == protocol);
            assert_eq!(ports.ports_in_use as usize, lent.count());
            assert_eq!(ports.blocks_leased as usize, blocks.len());
            assert_eq!(
                ports.ports_total as usize,
                lendable.map(|(_, &count)| count).sum::<usize>()
            );
        }
        assert_eq!(self.tenant.used() as usize, count);
        for (address, budget) in &self.customers {
            let of = sessions.iter().filter(|session| session.customer.address == *address);
            assert_eq!(budget.used() as usize, of.count());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nat_does_what_the_model_does(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut pair = Pair::new(seed);
        for step in steps {
            pair.apply(step);
        }
        // The ring steps over 512 seconds a call.
        for _ in 0..4 {
            pair.advance(200);
        }
        pair.check();
        prop_assert!(pair.model.sessions.is_empty());
        let usage = pair.nat.usage();
        prop_assert_eq!((usage.sessions, usage.mappings, usage.published), (0, 0, 0));
        prop_assert_eq!(usage.tcp.blocks_leased + usage.udp.blocks_leased + usage.icmp.blocks_leased, 0);
        prop_assert_eq!(pair.tenant.used(), 0);
    }
}

#[test]
fn random_steps_meet_every_refusal() {
    let steps = prop::collection::vec(step(), 250);
    let mut runner = TestRunner::deterministic();
    let mut refusals = BTreeSet::new();
    for seed in 0..100 {
        let mut pair = Pair::new(seed);
        for step in steps.new_tree(&mut runner).unwrap().current() {
            pair.apply(step);
        }
        refusals.append(&mut pair.refusals);
    }
    let all = [
        DropReason::NatNoPort,
        DropReason::NatTenantSessions,
        DropReason::NatCustomerSessions,
        DropReason::NatTableFull,
        DropReason::NatNoMapping,
        DropReason::NatFiltered,
        DropReason::NatNoSession,
    ];
    assert_eq!(refusals, BTreeSet::from(all));
}
