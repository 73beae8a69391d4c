//! Two sessions and a network between them, in virtual time: it delays, cuts into segments of its
//! own, loses connections, is partitioned and healed; ends reboot, stop reading, see clocks jump. A
//! bound on steps makes a livelock fail. What must hold always is checked after every step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nvgate_model::Instant;

use super::rig::{endpoints, mirrored, seconds};
use crate::session::core::EVENTS_MAX;
use crate::session::*;

/// One of the two ends.
pub(super) type End = usize;

/// The most bytes of one direction that are under way or unread.
const WINDOW: usize = 40_000;
const RETRANSMIT: Duration = Duration::from_millis(200);
/// How often a lost SYN is sent again before its sender gives up.
const SYN_RETRIES: u32 = 100;

/// All that two sane ends may have to say to each other.
const LAST_WORDS: [NotificationReason; 6] = [
    NotificationReason::HoldTimerExpired,
    NotificationReason::SendHoldTimerExpired,
    NotificationReason::ConnectionCollision,
    NotificationReason::AdministrativeReset,
    NotificationReason::BfdDown,
    NotificationReason::HardReset,
];

pub(super) struct Network {
    pub now: Instant,
    pub ends: [Peer; 2],
    pub is_cut: bool,
    /// The time that a segment takes from each end.
    pub delays: [Duration; 2],
    pub segment: usize,
    tcps: BTreeMap<usize, Tcp>,
    under_way: BTreeMap<(Instant, usize), Packet>,
    sequence: usize,
    steps: usize,
}

pub(super) struct Peer {
    pub session: Session,
    config: Arc<PeerConfig>,
    seed: u64,
    pub reads: bool,
    /// Events but for Connect and Close.
    pub told: Vec<SessionEvent>,
    pub updates: usize,
}

/// A connection as each end has it.
struct Tcp {
    names: [Option<Connection>; 2],
    unread: [VecDeque<u8>; 2],
    closed: [Option<Closed>; 2],
    bytes_under_way: [usize; 2],
    /// When the last packet from each end arrives: none overtakes another.
    last: [Instant; 2],
}

/// What travels to an end.
enum Packet {
    Syn { tcp: usize, to: End, sent: u32 },
    Accepted { tcp: usize, to: End },
    Data { tcp: usize, to: End, bytes: Vec<u8> },
    Closed { tcp: usize, to: End, closed: Closed },
}

impl Peer {
    fn new(config: PeerConfig, seed: u64) -> Self {
        let config = Arc::new(config);
        let session = Session::new(config.clone(), seed);
        Self { session, config, seed, reads: true, told: Vec::new(), updates: 0 }
    }

    pub(super) fn is_established(&self) -> bool {
        self.session.state() == State::Established
    }
}

impl Network {
    pub(super) fn new(config: PeerConfig, seed: u64) -> Self {
        let theirs = mirrored(&config);
        Self::of(config, theirs, seed)
    }

    pub(super) fn of(ours: PeerConfig, theirs: PeerConfig, seed: u64) -> Self {
        Self {
            now: Instant::default() + seconds(1000),
            ends: [Peer::new(ours, seed), Peer::new(theirs, !seed)],
            is_cut: false,
            delays: [Duration::from_millis(10); 2],
            segment: 1460,
            tcps: BTreeMap::new(),
            under_way: BTreeMap::new(),
            sequence: 0,
            steps: 0,
        }
    }

    pub(super) fn start(&mut self, end: End) {
        self.ends[end].session.start(self.now);
    }

    pub(super) fn start_both(&mut self) {
        self.start(0);
        self.start(1);
    }

    pub(super) fn are_established(&self) -> bool {
        self.ends.iter().all(Peer::is_established)
    }

    /// Time goes on, and everything that happens within it.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.steps = 0;
        loop {
            self.drain();
            let Some(next) = self.next().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.deliver();
            for peer in &mut self.ends {
                peer.session.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    /// Time goes on until both are established; how long it took.
    pub(super) fn settle(&mut self, at_most: Duration) -> Duration {
        let start = self.now;
        while !self.are_established() {
            assert!(self.now.since(start) < at_most, "not established in {at_most:?}");
            self.run(Duration::from_millis(100));
        }
        self.now.since(start)
    }

    fn next(&self) -> Option<Instant> {
        let timers = self.ends.iter().filter_map(|peer| Some(peer.session.poll_timeout()?.0));
        let packet = self.next_packet().map(|(at, _)| at);
        timers.chain(packet).min()
    }

    fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < 1_000_000, "a livelock");
        for peer in &self.ends {
            let core = &peer.session.core;
            let states = Connection::ALL.map(|connection| core.link(connection).map(|l| l.state));
            assert_ne!(states, [Some(State::Established); 2]);
            for connection in Connection::ALL {
                assert!(peer.session.read_room(connection) <= READ_BUFFER);
                let waiting = peer.session.poll_transmit(connection).len();
                assert!(waiting <= WRITE_BUFFER + WRITE_RESERVE, "{waiting} bytes wait");
            }
            assert!(core.events_waiting() <= EVENTS_MAX);
            let told = peer.session.last_sent().map(|last| last.notification.reason);
            assert!(told.is_none_or(|told| LAST_WORDS.contains(&told)), "{told:?}");
        }
    }

    fn drain(&mut self) {
        while [0, 1].map(|end| self.drain_end(end)).contains(&true) {
            self.step();
        }
    }

    /// Whether something moved.
    fn drain_end(&mut self, end: End) -> bool {
        let mut moved = false;
        if self.ends[end].reads {
            moved |= self.read(end);
        }
        while let Some(received) = self.ends[end].session.poll_message(self.now) {
            let is_update = matches!(received, Received::Update(..));
            self.ends[end].updates += usize::from(is_update);
            moved = true;
        }
        moved |= self.write(end);
        while let Some(event) = self.ends[end].session.poll_event() {
            moved = true;
            match event {
                SessionEvent::Connect(connection) => self.connect(end, connection),
                SessionEvent::Close(connection, closing) => self.close(end, connection, closing),
                SessionEvent::Established(_) | SessionEvent::Down(_) | SessionEvent::Ended => {
                    self.ends[end].told.push(event);
                }
            }
        }
        moved
    }

    fn read(&mut self, end: End) -> bool {
        let mut moved = false;
        for tcp in self.tcps.values_mut() {
            let Some(name) = tcp.names[end] else { continue };
            let bytes = tcp.unread[end].make_contiguous();
            let session = &mut self.ends[end].session;
            let taken = session.handle_bytes(name, bytes);
            tcp.unread[end].drain(..taken);
            moved |= taken > 0;
            if tcp.unread[end].is_empty()
                && let Some(closed) = tcp.closed[end]
            {
                tcp.names[end] = None;
                session.handle_closed(self.now, name, closed);
                moved = true;
            }
        }
        moved
    }

    fn write(&mut self, end: End) -> bool {
        let mut packets = Vec::new();
        for (index, tcp) in &mut self.tcps {
            let Some(name) = tcp.names[end] else { continue };
            let session = &mut self.ends[end].session;
            let used = tcp.bytes_under_way[1 - end] + tcp.unread[1 - end].len();
            let waiting = session.poll_transmit(name);
            let bytes = waiting[..waiting.len().min(WINDOW.saturating_sub(used))].to_vec();
            if bytes.is_empty() {
                continue;
            }
            session.handle_transmitted(self.now, name, bytes.len());
            tcp.bytes_under_way[1 - end] += bytes.len();
            for bytes in bytes.chunks(self.segment) {
                packets.push(Packet::Data { tcp: *index, to: 1 - end, bytes: bytes.to_vec() });
            }
        }
        let moved = !packets.is_empty();
        packets.into_iter().for_each(|packet| self.send(packet));
        moved
    }

    fn connect(&mut self, end: End, connection: Connection) {
        self.sequence += 1;
        let mut names = [None; 2];
        names[end] = Some(connection);
        let tcp = Tcp {
            names,
            unread: Default::default(),
            closed: [None; 2],
            bytes_under_way: [0; 2],
            last: [self.now; 2],
        };
        self.tcps.insert(self.sequence, tcp);
        self.send(Packet::Syn { tcp: self.sequence, to: 1 - end, sent: 0 });
    }

    fn close(&mut self, end: End, connection: Connection, closing: Closing) {
        let found = self.tcps.iter_mut().find(|(_, tcp)| tcp.names[end] == Some(connection));
        let Some((&index, tcp)) = found else { return };
        tcp.names[end] = None;
        let closed = match closing {
            Closing::Finish => Closed::Finished,
            Closing::Abort => Closed::Reset,
        };
        self.send(Packet::Closed { tcp: index, to: 1 - end, closed });
    }

    fn send(&mut self, packet: Packet) {
        let (index, to) = packet.way();
        self.sequence += 1;
        let tcp = self.tcps.get_mut(&index).expect("packets are of connections");
        let at = (self.now + self.delays[1 - to]).max(tcp.last[1 - to]);
        tcp.last[1 - to] = at;
        self.under_way.insert((at, self.sequence), packet);
    }

    /// All packets that are due. While the network is cut they wait, but for SYNs, whose senders
    /// give up after a while.
    fn deliver(&mut self) {
        while let Some(key) = self.next_packet().filter(|(at, _)| *at <= self.now) {
            let packet = self.under_way.remove(&key).expect("it was found there");
            self.step();
            match packet {
                Packet::Syn { tcp, to, sent } if self.is_cut && sent == SYN_RETRIES => {
                    let tcp = self.tcps.get_mut(&tcp).expect("packets are of connections");
                    tcp.closed[1 - to] = Some(Closed::TimedOut);
                }
                Packet::Syn { tcp, to, sent } if self.is_cut => {
                    let again = Packet::Syn { tcp, to, sent: sent + 1 };
                    self.under_way.insert((self.now + RETRANSMIT, key.1), again);
                }
                Packet::Syn { .. }
                | Packet::Accepted { .. }
                | Packet::Data { .. }
                | Packet::Closed { .. } => self.arrive(packet),
            }
        }
    }

    fn next_packet(&self) -> Option<(Instant, usize)> {
        let moves = |packet: &Packet| !self.is_cut || matches!(packet, Packet::Syn { .. });
        self.under_way.iter().find(|(_, packet)| moves(packet)).map(|(key, _)| *key)
    }

    fn arrive(&mut self, packet: Packet) {
        let (index, to) = packet.way();
        let peer = &mut self.ends[to];
        let tcp = self.tcps.get_mut(&index).expect("packets are of connections");
        match packet {
            Packet::Syn { .. } => match peer.session.handle_incoming(self.now, endpoints()) {
                Ok(name) => {
                    tcp.names[to] = Some(name);
                    self.send(Packet::Accepted { tcp: index, to: 1 - to });
                }
                Err(_) => {
                    let closed = Closed::Refused;
                    self.send(Packet::Closed { tcp: index, to: 1 - to, closed });
                }
            },
            Packet::Accepted { .. } => {
                if let Some(name) = tcp.names[to] {
                    peer.session.handle_connected(self.now, name, endpoints());
                }
            }
            Packet::Data { bytes, .. } => {
                tcp.bytes_under_way[to] -= bytes.len();
                if tcp.closed[to].is_some() {
                    // After a reset nothing more is read.
                } else if tcp.names[to].is_some() {
                    tcp.unread[to].extend(bytes);
                } else if tcp.names[1 - to].is_some() {
                    let closed = Closed::Reset;
                    self.send(Packet::Closed { tcp: index, to: 1 - to, closed });
                }
            }
            Packet::Closed { closed, .. } => {
                if closed == Closed::Reset {
                    tcp.unread[to].clear();
                }
                tcp.closed[to].get_or_insert(closed);
            }
        }
    }

    /// Every connection is reset at both ends.
    pub(super) fn drop_connections(&mut self) {
        for tcp in self.tcps.values_mut() {
            tcp.closed = [Some(Closed::Reset); 2];
            tcp.unread = Default::default();
        }
    }

    /// The end loses all it knew, and its connections with it; nobody tells the other end.
    pub(super) fn reboot(&mut self, end: End) {
        for tcp in self.tcps.values_mut() {
            tcp.names[end] = None;
        }
        let peer = &mut self.ends[end];
        peer.seed = peer.seed.wrapping_add(1);
        peer.session = Session::new(peer.config.clone(), peer.seed);
        self.start(end);
    }

    /// Nobody runs for so long, and then all at once; packets wait.
    pub(super) fn jump(&mut self, time: Duration) {
        self.drain();
        self.now = self.now + time;
        for peer in &mut self.ends {
            peer.session.handle_timeout(self.now);
        }
        self.deliver();
        self.drain();
    }

    /// The end has UPDATEs to send, as many as there is room for.
    pub(super) fn fill(&mut self, end: End) {
        let update = super::rig::update();
        let fill = |_: &Codec, out: &mut Vec<u8>, room: usize| {
            out.extend(update.repeat(room / update.len()));
        };
        self.ends[end].session.send_updates(self.now, fill);
    }

    /// How many connections an end still has.
    pub(super) fn connections(&self, end: End) -> usize {
        self.tcps.values().filter(|tcp| tcp.names[end].is_some()).count()
    }

    /// The NOTIFICATIONs that ended established sessions or were sent last, latest first.
    pub(super) fn last_words(&self) -> Vec<NotificationReason> {
        let mut words: Vec<&LastNotification> =
            self.ends.iter().filter_map(|peer| peer.session.last_sent()).collect();
        words.sort_by_key(|word| Reverse(word.at));
        words.iter().map(|word| word.notification.reason).collect()
    }
}

impl Packet {
    const fn way(&self) -> (usize, End) {
        match self {
            Self::Syn { tcp, to, .. }
            | Self::Accepted { tcp, to }
            | Self::Data { tcp, to, .. }
            | Self::Closed { tcp, to, .. } => (*tcp, *to),
        }
    }
}
