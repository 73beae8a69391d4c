//! `Nat` and its model side by side: random packets, time, reloads and limits give the same answers,
//! and between any two of them everything that must hold holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use nvgate_model::{DropReason, Protocol, Tick};
use nvgate_packet::headers::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use nvgate_packet::rewrite::Socket;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::model::{
    CUSTOMER_LIMIT, MAX_SESSIONS, Model, PROTOCOLS, SHARE, Session, customer, public, sources,
};
use super::{Flow, Nat, Translation};
use crate::{Budget, SessionView};

const FLAGS: [u8; 6] =
    [TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK, TCP_FIN | TCP_ACK, TCP_RST, TCP_SYN | TCP_FIN];

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
