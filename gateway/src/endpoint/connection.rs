//! One TCP connection: a smoltcp socket in an interface of its own, and what its owner is told.

use std::net::SocketAddr;
use std::time::Duration;

use nvgate_model::{DomainSlot, Instant};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::IpCidr;

use super::peer::PeerOptions;
use super::segment::{Segment, acknowledged, finish};
use super::stack::{HALF_OPEN_TIME, LINGER, Refusal};
use super::wire::{OnePacket, interface, stack_time};

/// Bytes that wait to be read of one connection at most.
pub const RECEIVE_BUFFER: usize = 32 * 1024;
/// Bytes that wait to be acknowledged of one connection at most.
pub const TRANSMIT_BUFFER: usize = 32 * 1024;
/// How long a peer may leave data or a SYN unacknowledged (RFC 9293 section 3.8.3 asks for 100 s at
/// least).
const USER_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection, by a number that is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    /// Its routing domain.
    pub domain: DomainSlot,
    pub(super) number: u64,
}

/// What happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A peer has made it.
    Incoming {
        /// The own socket.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// The peer has accepted it.
    Connected,
    /// There is something to read; said again only after a read that left nothing.
    Readable,
    /// There is room again after a write that was not taken whole.
    Writable,
    /// It is over. What was not read is gone; after `Finished` everything was read.
    Closed(CloseReason),
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The peer refused it.
    Refused,
    /// The peer reset it.
    Reset,
    /// The peer finished, and everything it sent was read. What was written is still sent.
    Finished,
    /// The peer acknowledged nothing for two minutes.
    TimedOut,
    /// The own address or the domain is gone.
    AddressGone,
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// A SYN arrived and was answered.
    HalfOpen,
    /// A SYN was sent.
    Connecting,
    /// Data goes both ways.
    Open,
    /// Its owner is done with it.
    Closing,
}

pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) options: PeerOptions,
    pub(super) stage: Stage,
    /// When it has to be open, or closed.
    deadline: Option<Instant>,
    /// Since when the peer left unacknowledged what was written. smoltcp's own timeout would end idle
    /// connections too.
    unheard: Option<Instant>,
    /// When it stands in the schedule.
    pub(super) due: Option<Instant>,
    /// Whether it stands in the queue of those that may have something to send.
    pub(super) queued: bool,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// The peer's initial sequence number.
    initial: Option<u32>,
    /// Bytes that its owner read, modulo 2^32.
    read: u32,
    /// The last acknowledgement number sent.
    acknowledged: Option<u32>,
    /// Whether `Readable` may be said, and `Writable`.
    tell_readable: bool,
    tell_writable: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { local, remote, stage, .. } = self;
        write!(formatter, "{local} {remote} {stage:?}")
    }
}

impl Connection {
    fn new(
        (local, remote): (SocketAddr, SocketAddr),
        options: PeerOptions,
        stage: Stage,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut interface = interface(seed, now);
        interface.update_ip_addrs(|addresses| {
            let bits = if local.is_ipv4() { 32 } else { 128 };
            // The table has at least one place.
            let _ = addresses.push(IpCidr::new(local.ip().into(), bits));
        });
        let buffer = |length| SocketBuffer::new(vec![0; length]);
        let mut socket = Socket::new(buffer(RECEIVE_BUFFER), buffer(TRANSMIT_BUFFER));
        socket.set_nagle_enabled(false);
        socket.set_hop_limit(Some(options.ttl.max(1)));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            local,
            remote,
            options,
            stage,
            deadline: None,
            unheard: None,
            due: None,
            queued: false,
            interface,
            sockets,
            handle,
            initial: None,
            read: 0,
            acknowledged: None,
            tell_readable: true,
            tell_writable: false,
        }
    }

    /// A connection that waits for the SYN which is about to be handed to it.
    pub(super) fn listening(
        segment: &Segment,
        options: PeerOptions,
        seed: u64,
        now: Instant,
    ) -> Self {
        let ends = (segment.local, segment.remote);
        let mut connection = Self::new(ends, options, Stage::HalfOpen, seed, now);
        connection.deadline = Some(now + HALF_OPEN_TIME);
        // A socket that is closed listens at any port but 0, which a SYN to a listener has not.
        let _ = connection.socket().listen((segment.local.ip(), segment.local.port()));
        connection
    }

    /// A connection that begins with a SYN of ours; `None` when the sockets do not fit together.
    pub(super) fn connecting(
        ends: (SocketAddr, SocketAddr),
        options: PeerOptions,
        seed: u64,
        now: Instant,
    ) -> Option<Self> {
        let mut connection = Self::new(ends, options, Stage::Connecting, seed, now);
        let Self { interface, sockets, handle, .. } = &mut connection;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        socket.connect(interface.context(), ends.1, ends.0).ok()?;
        connection.deadline = Some(now + USER_TIMEOUT);
        Some(connection)
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Follows changed options.
    pub(super) fn set_options(&mut self, options: &PeerOptions) {
        if self.options != *options {
            self.options = options.clone();
            let ttl = options.ttl.max(1);
            self.socket().set_hop_limit(Some(ttl));
        }
    }

    /// The peer's sequence number that is expected next.
    fn expected(&mut self) -> Option<u32> {
        let queued = self.socket().recv_queue() as u32;
        Some(self.initial?.wrapping_add(1).wrapping_add(self.read).wrapping_add(queued))
    }

    /// Whether a RST is the peer's own: at exactly the sequence number that is next, or that it was
    /// told last (RFC 5961 section 3.2). Before there is one, the acknowledgement number proves it.
    pub(super) fn believes_reset(&mut self, sequence: u32) -> bool {
        match self.expected() {
            Some(expected) => {
                // A FIN counts as a byte.
                let finished = !matches!(
                    self.socket().state(),
                    State::SynReceived | State::Established | State::FinWait1 | State::FinWait2
                );
                sequence == expected
                    || self.acknowledged == Some(sequence)
                    || finished && sequence == expected.wrapping_add(1)
            }
            None => true,
        }
    }

    /// Whether a new SYN of the same sockets takes this one's place.
    pub(super) fn gives_way_to(&mut self, syn: &Segment) -> bool {
        match self.stage {
            Stage::HalfOpen => self.initial != Some(syn.sequence),
            Stage::Closing => self.socket().state() == State::TimeWait,
            Stage::Connecting | Stage::Open => false,
        }
    }

    /// Gives a checked packet to the socket; what that answers at once stands in `out`.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        segment: &Segment,
        packet: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        self.unheard = None;
        let before = self.socket().state();
        let mut device = OnePacket::arriving(packet, out);
        let Self { interface, sockets, .. } = self;
        interface.poll_ingress_single(stack_time(now), &mut device, sockets);
        let length = device.length;
        let synchronized = !matches!(self.socket().state(), State::Closed | State::Listen);
        if matches!(before, State::Listen | State::SynSent)
            && self.socket().state() != before
            && synchronized
        {
            self.initial = Some(segment.sequence);
        }
        self.finish(out, length?)
    }

    /// The next packet, written to the front of `out`.
    pub(super) fn transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let mut device = OnePacket::leaving(out);
        let Self { interface, sockets, .. } = self;
        interface.poll_egress(stack_time(now), &mut device, sockets);
        let length = device.length?;
        self.finish(out, length)
    }

    fn finish(&mut self, out: &mut [u8], length: usize) -> Option<usize> {
        if let Some(number) = acknowledged(out.get(..length)?) {
            self.acknowledged = Some(number);
        }
        finish(out, length, self.options.key.as_ref())
    }

    /// When it has to be looked at whether it is over time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::HalfOpen | Stage::Connecting | Stage::Closing => self.deadline,
            Stage::Open => self.unheard.map(|since| since + USER_TIMEOUT),
        }
    }

    /// Ends what is over time; `false` when it can be forgotten without another packet.
    pub(super) fn give_up(&mut self, tell: impl FnOnce(Event)) -> bool {
        let waits = self.socket().state() == State::TimeWait;
        match self.stage {
            Stage::HalfOpen => return false,
            Stage::Connecting | Stage::Open => tell(Event::Closed(CloseReason::TimedOut)),
            Stage::Closing if waits => return false,
            Stage::Closing => {}
        }
        self.abort();
        true
    }

    /// When it wants to be asked for a packet.
    pub(super) fn wants(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(stack_time(now), &self.sockets)?;
        Some(Instant(u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000)))
    }

    /// Whether nothing is left to be sent or waited for.
    fn is_over(&mut self) -> bool {
        let socket = self.socket();
        socket.state() == State::Closed && socket.remote_endpoint().is_none()
    }

    /// Tells `tell` what changed since a segment arrived or something was sent; `false` when the connection can be forgotten.
    pub(super) fn settle(&mut self, now: Instant, mut tell: impl FnMut(Event)) -> bool {
        let state = self.socket().state();
        let made = matches!(state, State::Established | State::CloseWait);
        match self.stage {
            Stage::HalfOpen if made => {
                self.open();
                tell(Event::Incoming { local: self.local, remote: self.remote });
            }
            Stage::Connecting if made => {
                self.open();
                tell(Event::Connected);
            }
            Stage::HalfOpen if matches!(state, State::Listen | State::Closed) => return false,
            Stage::Connecting | Stage::Open if state == State::Closed => {
                let refused = self.stage == Stage::Connecting;
                let reason = if refused { CloseReason::Refused } else { CloseReason::Reset };
                tell(Event::Closed(reason));
                self.stage = Stage::Closing;
            }
            Stage::HalfOpen | Stage::Connecting | Stage::Open | Stage::Closing => {}
        }
        if self.stage == Stage::Open {
            self.settle_open(now, tell);
        }
        !(self.stage == Stage::Closing && self.is_over())
    }

    const fn open(&mut self) {
        self.stage = Stage::Open;
        self.deadline = None;
    }

    fn settle_open(&mut self, now: Instant, mut tell: impl FnMut(Event)) {
        let waits = self.socket().send_queue() > 0;
        self.unheard = if waits { self.unheard.or(Some(now)) } else { None };
        if self.tell_readable && self.socket().recv_queue() > 0 {
            self.tell_readable = false;
            tell(Event::Readable);
        }
        if self.tell_writable && self.socket().can_send() {
            self.tell_writable = false;
            tell(Event::Writable);
        }
        if !self.socket().may_recv() {
            tell(Event::Closed(CloseReason::Finished));
            self.close(now);
        }
    }

    /// Reads what waits; says how many bytes.
    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        if self.stage != Stage::Open {
            return 0;
        }
        let count = self.socket().recv_slice(out).unwrap_or(0);
        self.read = self.read.wrapping_add(count as u32);
        self.tell_readable |= self.socket().recv_queue() == 0;
        count
    }

    /// Takes bytes to be sent; says how many.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.stage != Stage::Open {
            return 0;
        }
        let count = self.socket().send_slice(bytes).unwrap_or(0);
        self.tell_writable |= count < bytes.len();
        count
    }

    /// Finishes: what was written is sent, then a FIN.
    pub(super) fn close(&mut self, now: Instant) {
        self.socket().close();
        if self.stage != Stage::Closing {
            self.deadline = Some(now + LINGER);
        }
        self.stage = Stage::Closing;
    }

    /// Ends it with a RST.
    pub(super) fn abort(&mut self) {
        self.socket().abort();
        self.stage = Stage::Closing;
        self.deadline = None;
    }

    /// Checks what every segment of the peer has to have: enough TTL, and the signature.
    pub(super) fn admits(
        options: &PeerOptions,
        segment: &Segment,
        packet: &[u8],
        ttl: u8,
    ) -> Result<(), Refusal> {
        if ttl < options.minimum_ttl {
            return Err(Refusal::TtlTooLow);
        }
        segment.verify(packet, options.key.as_ref())
    }
}
