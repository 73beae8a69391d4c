//! What one registered routing domain has: own addresses, listeners, peers, connections, UDP
//! sockets, and packets that wait to leave; all of it bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nvgate_model::Instant;

use super::connection::{Connection, Stage};
use super::peer::{PeerOptions, Peers};
use crate::dispatch::limiter::TokenBucket;
use crate::snapshot::Service;

/// Connections of one domain, of any stage.
pub const MAX_CONNECTIONS: usize = 128;
/// Those of them whose SYN was answered and that are not made yet.
pub const MAX_HALF_OPEN: usize = 16;
/// How long a connection may be half open.
pub const HALF_OPEN_TIME: Duration = Duration::from_secs(30);
/// How long a connection that was closed may take to end.
pub const LINGER: Duration = Duration::from_secs(10);
/// Datagrams and answers without a connection of one domain that wait to leave.
pub const MAX_OUTGOING: usize = 64;
/// Answers without a connection a second of one domain: resets.
const ANSWERS_PER_SEC: u32 = 100;

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why an endpoint did not take a packet.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Refusal {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name, in metrics and status.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim(),)+
                }
            }
        }
    };
}

refusals! {
    /// The domain is not registered, or the destination is none of its own addresses.
    NotOwn = "not_own",
    /// It is a fragment, or its headers do not hold.
    Malformed = "malformed",
    /// The checksum of the segment or datagram is wrong.
    Checksum = "checksum",
    /// The TTL is less than the peer's has to be (RFC 5082).
    TtlTooLow = "ttl_too_low",
    /// The peer has a key and the segment no signature (RFC 2385).
    SignatureMissing = "signature_missing",
    /// The signature is wrong.
    SignatureWrong = "signature_wrong",
    /// The segment is signed, but the peer has no key.
    SignatureUnexpected = "signature_unexpected",
    /// A SYN of somebody who is no peer.
    UnknownPeer = "unknown_peer",
    /// No connection and no listener; answered with a reset, within a budget.
    NoConnection = "no_connection",
    /// There are too many connections.
    TooManyConnections = "too_many_connections",
    /// A RST at a sequence number that is not the next (RFC 5961).
    ResetIgnored = "reset_ignored",
    /// A half-open connection made way for a newer one.
    HalfOpenGaveWay = "half_open_gave_way",
    /// No UDP socket is bound there.
    NoSocket = "no_socket",
    /// Too many datagrams wait.
    DatagramsFull = "datagrams_full",
    /// Too many datagrams or answers wait to leave.
    OutgoingFull = "outgoing_full",
}

/// How often a domain's endpoint refused something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// How often for this reason.
    #[must_use]
    pub const fn of(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }

    /// Every reason with its count, of those above zero.
    pub fn nonzero(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        let all = Refusal::ALL.iter().map(|&refusal| (refusal, self.of(refusal)));
        all.filter(|&(_, count)| count > 0)
    }

    pub(super) const fn count(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }
}

/// A domain of that name is not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The domain is not registered.
    #[error("the routing domain is not registered")]
    NotRegistered,
    /// The address is none of the gateway's own in the domain.
    #[error("{0} is none of the gateway's own addresses in the routing domain")]
    NotOwn(IpAddr),
    /// The domain has as many as it may.
    #[error("the routing domain has {0} of them already")]
    TooMany(usize),
}

#[derive(Debug)]
pub(super) struct Stack {
    pub(super) own: BTreeSet<IpAddr>,
    pub(super) listeners: BTreeSet<SocketAddr>,
    pub(super) sockets: BTreeSet<SocketAddr>,
    pub(super) peers: Peers,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) by_ends: HashMap<(SocketAddr, SocketAddr), u64>,
    /// Connections that may have something to send, in turn.
    pub(super) ready: VecDeque<u64>,
    /// Datagrams and answers without a connection.
    pub(super) outgoing: VecDeque<Vec<u8>>,
    /// Whether it stands in the round of domains that may have something to send.
    pub(super) queued: bool,
    /// Datagrams of this domain that wait to be taken.
    pub(super) datagrams: usize,
    pub(super) refusals: Refusals,
    answers: TokenBucket,
    /// The services that were said to be wanted.
    pub(super) wanted: [bool; 2],
}

impl Stack {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            own: BTreeSet::new(),
            listeners: BTreeSet::new(),
            sockets: BTreeSet::new(),
            peers: Peers::default(),
            connections: BTreeMap::new(),
            by_ends: HashMap::new(),
            ready: VecDeque::new(),
            outgoing: VecDeque::new(),
            queued: false,
            datagrams: 0,
            refusals: Refusals::default(),
            answers: TokenBucket::new(ANSWERS_PER_SEC, now),
            wanted: [false; 2],
        }
    }

    /// The services that packets are wanted for.
    pub(super) fn wants(&self) -> [bool; 2] {
        [!self.listeners.is_empty() || !self.connections.is_empty(), !self.sockets.is_empty()]
    }

    /// The same as a list.
    pub(super) fn services(&self) -> Vec<Service> {
        let all = [Service::Tcp, Service::Udp].into_iter().zip(self.wants());
        all.filter(|&(_, wanted)| wanted).map(|(service, _)| service).collect()
    }

    /// Queues a packet without a connection.
    pub(super) fn send(&mut self, packet: Vec<u8>) -> Result<(), Refusal> {
        if self.outgoing.len() >= MAX_OUTGOING {
            self.refusals.count(Refusal::OutgoingFull);
            return Err(Refusal::OutgoingFull);
        }
        self.outgoing.push_back(packet);
        Ok(())
    }

    /// Whether the budget allows one more answer without a connection.
    pub(super) fn may_answer(&mut self, now: Instant) -> bool {
        self.answers.take(now)
    }

    /// The peer's options that count for segments between these sockets.
    pub(super) fn options(&self, ends: (SocketAddr, SocketAddr)) -> Option<&PeerOptions> {
        match self.by_ends.get(&ends).and_then(|number| self.connections.get(number)) {
            Some(connection) => Some(&connection.options),
            None => self.peers.find(ends.1.ip()),
        }
    }

    /// Who has to go so that one more connection, half open or not, has room; an error when nobody
    /// does.
    pub(super) fn make_way(&self, half_open: bool) -> Result<Option<u64>, Refusal> {
        let of = |stage: Stage| {
            self.connections.iter().filter(move |(_, connection)| connection.stage == stage)
        };
        if half_open && of(Stage::HalfOpen).count() >= MAX_HALF_OPEN {
            return Ok(of(Stage::HalfOpen).next().map(|(&number, _)| number));
        }
        if self.connections.len() < MAX_CONNECTIONS {
            return Ok(None);
        }
        let closing = of(Stage::Closing).next().map(|(&number, _)| number);
        closing.map(Some).ok_or(Refusal::TooManyConnections)
    }
}
