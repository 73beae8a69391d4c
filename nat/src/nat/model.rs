//! A model of `Nat` that is too simple to be wrong: one list of sessions, searched from end to end,
//! with TCP's phase read off the whole history of each connection. It does not choose ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use nvgate_model::{DropReason, Protocol, Tick};
use nvgate_packet::headers::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use nvgate_packet::rewrite::Socket;

use super::Flow;
use crate::{InboundRule, NatConfig, Seen, Timeouts, WorkerShare};

/// One block an address: block 251, ports 64256 to 64511.
pub(super) const SHARE: WorkerShare = WorkerShare { index: 251, count: 252 };
pub(super) const MAX_SESSIONS: usize = 16;
pub(super) const CUSTOMER_LIMIT: u32 = 7;
pub(super) const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

pub(super) fn public(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

pub(super) fn customer(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

/// What a configuration was made of.
pub(super) struct Source {
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) rules: Vec<InboundRule>,
    pub(super) timeouts: Timeouts,
    /// Ports that can be lent, by protocol and address.
    pub(super) lendable: BTreeMap<(Protocol, Ipv4Addr), usize>,
}

impl Source {
    pub(super) fn new(addresses: &[Ipv4Addr], rules: &[InboundRule], tcp_secs: u32) -> Self {
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

    pub(super) fn rule(&self, protocol: Protocol, public: Socket) -> Option<Socket> {
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

    pub(super) fn config(&self) -> Arc<NatConfig> {
        Arc::new(NatConfig::new(&self.addresses, &self.rules, self.timeouts))
    }
}

/// Configurations to change between. All claim most of the one block an address has.
pub(super) fn sources() -> &'static [Source; 4] {
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
pub(super) enum Way {
    Out,
    In,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Opening,
    Established,
    Reset,
    Closed,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) protocol: Protocol,
    pub(super) customer: Socket,
    pub(super) public: Socket,
    pub(super) remote: Socket,
    pub(super) by_rule: bool,
    pub(super) sent: bool,
    pub(super) refreshed: Tick,
    /// TCP packets since the connection began; what came after both FINs is left out.
    pub(super) history: Vec<(Way, u8)>,
    pub(super) seen: Seen,
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

    pub(super) fn take_seen(&mut self) {
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

    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Tick {
        self.refreshed.plus_secs(match self.protocol {
            Protocol::Udp => timeouts.udp_secs,
            Protocol::Icmp => timeouts.icmp_secs,
            Protocol::Tcp if self.phase() == Phase::Established => timeouts.tcp_established_secs,
            Protocol::Tcp => timeouts.tcp_transitory_secs,
        })
    }

    pub(super) fn compile(&self) -> bool {
        match self.protocol {
            Protocol::Icmp => true,
            Protocol::Tcp => self.phase() == Phase::Established,
            Protocol::Udp => self.by_rule || self.sent,
        }
    }

    pub(super) fn matches(&self, protocol: Protocol, customer: Socket, remote: Socket) -> bool {
        (self.protocol, self.customer, self.remote) == (protocol, customer, remote)
    }
}

pub(super) struct Model {
    pub(super) source: &'static Source,
    pub(super) sessions: Vec<Session>,
    pub(super) tenant_limit: u32,
}

/// What the model expects of a packet that passes.
pub(super) struct Passes {
    /// The session's public socket; `None` when any free one will do.
    pub(super) public: Option<Socket>,
    pub(super) customer: Socket,
    pub(super) remote: Socket,
}

impl Model {
    pub(super) fn find(
        &self,
        protocol: Protocol,
        customer: Socket,
        remote: Socket,
    ) -> Option<usize> {
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

    pub(super) fn lent(&self) -> BTreeSet<(Protocol, Socket)> {
        let lent = self.sessions.iter().filter(|session| !session.by_rule);
        lent.map(|session| (session.protocol, session.public)).collect()
    }

    pub(super) fn outbound(&mut self, now: Tick, flow: &Flow) -> Result<Passes, DropReason> {
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

    pub(super) fn inbound(&mut self, now: Tick, flow: &Flow) -> Result<Passes, DropReason> {
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

    pub(super) fn reconfigure(&mut self, source: &'static Source) -> usize {
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
