//! A session: one customer socket talking to one remote socket through one mapping.

use nvgate_model::{Protocol, Tick};
use nvgate_packet::rewrite::Socket;

use crate::config::Timeouts;
use crate::expiry::Links;
use crate::limits::Reservation;
use crate::publish::socket_key;
use crate::tcp_state::{Direction, Phase, TcpState, Timer};

/// Which session of its `Nat`. The index of a closed session is given to a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionIndex(pub u32);

/// A session as its owner shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// Which session.
    pub session: SessionIndex,
    /// Its protocol.
    pub protocol: Protocol,
    /// The tenant's side; of ICMP echo the port is the identifier.
    pub customer: Socket,
    /// What the front end sees of the tenant's side.
    pub public: Socket,
    /// The other side; of ICMP echo the port is 0.
    pub remote: Socket,
}

/// When compiled entries last forwarded packets of a session; `None` when they never did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// From the tenant.
    pub outbound: Option<Tick>,
    /// To the tenant.
    pub inbound: Option<Tick>,
}

/// What a session's lifetime depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Icmp,
    Tcp(TcpState),
    Udp,
}

/// Whether the customer has sent through a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    Nothing,
    Something,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) customer: Socket,
    pub(crate) remote: Socket,
    pub(crate) mapping: u32,
    pub(crate) state: State,
    pub(crate) sent: Sent,
    /// When the idle timer last restarted.
    pub(crate) refreshed: Tick,
    pub(crate) links: Links,
    /// What the session holds of the tenant's and the customer's budget, given back on drop.
    pub(crate) _reservations: [Reservation; 2],
}

impl State {
    pub(crate) const fn opened(protocol: Protocol, direction: Direction) -> Self {
        match protocol {
            Protocol::Icmp => Self::Icmp,
            Protocol::Tcp => Self::Tcp(TcpState::opened(direction)),
            Protocol::Udp => Self::Udp,
        }
    }

    pub(crate) const fn protocol(self) -> Protocol {
        match self {
            Self::Icmp => Protocol::Icmp,
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
        }
    }

    const fn timeout_secs(self, timeouts: &Timeouts) -> u32 {
        match self {
            Self::Icmp => timeouts.icmp_secs,
            Self::Udp => timeouts.udp_secs,
            Self::Tcp(state) => match state.phase() {
                Phase::Established => timeouts.tcp_established_secs,
                Phase::Opening | Phase::Reset | Phase::Closed => timeouts.tcp_transitory_secs,
            },
        }
    }
}

impl Session {
    /// Takes in a packet.
    pub(crate) fn handle(&mut self, now: Tick, direction: Direction, tcp_flags: u8) {
        let timer = match (&mut self.state, direction) {
            (State::Tcp(state), direction) => state.handle(direction, tcp_flags),
            (State::Icmp | State::Udp, Direction::Outbound) => Timer::Restarts,
            // RFC 4787 REQ-6: inbound refresh would let a remote keep a mapping open for ever.
            (State::Icmp | State::Udp, Direction::Inbound) => Timer::Continues,
        };
        match timer {
            Timer::Restarts => self.refreshed = self.refreshed.max(now),
            Timer::Continues => {}
        }
    }

    /// Takes in what compiled entries forwarded since.
    pub(crate) fn handle_seen(&mut self, seen: Seen) {
        let latest = match &self.state {
            State::Tcp(_) => seen.outbound.max(seen.inbound),
            State::Icmp | State::Udp => seen.outbound,
        };
        let Some(latest) = latest.filter(|&latest| latest > self.refreshed) else { return };
        let timer = match &mut self.state {
            State::Tcp(state) => state.handle_forwarded(),
            State::Icmp | State::Udp => Timer::Restarts,
        };
        match timer {
            Timer::Restarts => self.refreshed = latest,
            Timer::Continues => {}
        }
    }

    /// When the session is idle for too long.
    pub(crate) const fn deadline(&self, timeouts: &Timeouts) -> Tick {
        self.refreshed.plus_secs(self.state.timeout_secs(timeouts))
    }
}

/// A protocol, a customer socket and a remote socket as a key.
pub(crate) fn flow_key(protocol: Protocol, customer: Socket, remote: Socket) -> (u64, u64) {
    (socket_key(protocol, customer), socket_key(protocol, remote))
}
