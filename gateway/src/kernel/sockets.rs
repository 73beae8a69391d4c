//! Listeners and connections in one epoll set.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nvgate_model::Instant;
use socket2::Socket;

use super::connection::{Connection, Stage, local, reset};
use super::datagrams::Datagrams;
use super::listener::{self, Fault};
use super::neighbours::Neighbours;
use crate::endpoint::{CloseReason, Datagram, Event};

/// Connections whose owner is done with them and that send their last words.
pub const MAX_CLOSING: usize = 64;
/// How long those may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a listener that could not be is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// Events of the kernel taken in one turn.
const BATCH: usize = 64;
/// Connections taken in one turn.
const ACCEPTS: usize = 16;
/// The names of the listeners in the epoll set, IPv4 first; connections have numbers above.
const LISTENERS: [u64; 2] = [0, 1];
/// That of all that hear BFD.
const BFD: u64 = 2;
const FIRST_CONNECTION: u64 = 3;

/// A connection. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(u64);

/// All connections with neighbours of the front end, and who waits for them.
#[derive(Debug)]
pub struct Sockets {
    epoll: Epoll,
    link: String,
    neighbours: Neighbours,
    listeners: [Option<Socket>; 2],
    datagrams: Datagrams,
    /// What keeps listeners from being there.
    faults: Vec<Fault>,
    retry_at: Option<Instant>,
    connections: BTreeMap<SocketId, Connection>,
    closing: VecDeque<SocketId>,
    events: VecDeque<(SocketId, Event)>,
    next: u64,
}

impl Sockets {
    /// No neighbours yet.
    ///
    /// # Errors
    ///
    /// The kernel refused an epoll set.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            link: String::new(),
            neighbours: Neighbours::default(),
            listeners: [None, None],
            datagrams: Datagrams::new(),
            faults: Vec::new(),
            retry_at: None,
            connections: BTreeMap::new(),
            closing: VecDeque::new(),
            events: VecDeque::new(),
            next: FIRST_CONNECTION,
        })
    }

    /// Speaks with these neighbours, on this link. Connections of neighbours that stay go on, with
    /// their new keys and TTLs; those of others are their owner's to end.
    pub fn follow(&mut self, now: Instant, link: &str, neighbours: Neighbours) {
        if (link, &neighbours) == (&self.link, &self.neighbours) {
            return;
        }
        link.clone_into(&mut self.link);
        self.neighbours = neighbours;
        let mut broken = Vec::new();
        for (&id, connection) in &mut self.connections {
            let Some(local) = local(&connection.socket) else { continue };
            let found = self.neighbours.find(local.ip(), connection.remote.ip());
            let Some(neighbour) = found else { continue };
            if let Err(error) = connection.follow(&neighbour.options) {
                tracing::warn!(remote = %connection.remote, %error, "a BGP connection cannot change");
                broken.push(id);
            }
        }
        for id in broken {
            self.over(id, CloseReason::Reset);
        }
        // Ports must be free before the next ones bind to them.
        self.listeners = [None, None];
        self.datagrams.forget();
        self.listen(now);
    }

    /// Opens the listeners that there should be and that are not there.
    fn listen(&mut self, now: Instant) {
        self.retry_at = None;
        self.faults.clear();
        for (index, ipv4) in [true, false].into_iter().enumerate() {
            if self.listeners[index].is_some() || !self.neighbours.any(ipv4) {
                continue;
            }
            let opened = listener::open(ipv4, &self.link, &self.neighbours).and_then(|listener| {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENERS[index]);
                let added = self.epoll.add(&listener, event);
                added.map_err(|error| Fault::new(&error.into(), &self.link))?;
                Ok(listener)
            });
            match opened {
                Ok(listener) => self.listeners[index] = Some(listener),
                Err(fault) => self.faults.push(fault),
            }
        }
        let families = [true, false].map(|ipv4| self.neighbours.any_bfd(ipv4));
        let heard = self.datagrams.follow(&self.link, families, (&self.epoll, BFD));
        self.faults.extend(heard.err());
        for fault in &self.faults {
            tracing::warn!("{fault}");
            self.retry_at = Some(now + RETRY);
        }
    }

    /// What keeps neighbours from connecting, with what to do.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.faults.first().map(ToString::to_string)
    }

    /// What is readable when there is something to take by [`turn`](Self::turn).
    #[must_use]
    pub fn watched(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// When [`turn`](Self::turn) has something to do at the latest.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let closing = self.closing.front().and_then(|id| match self.connections.get(id)?.stage {
            Stage::Closing(until) => Some(until),
            Stage::Connecting | Stage::Open | Stage::Over => None,
        });
        [self.retry_at, closing].into_iter().flatten().min()
    }

    /// Takes what the kernel has to say, a bounded part of it at once.
    pub fn turn(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.listen(now);
        }
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => {
                tracing::error!(%error, "the kernel does not say what connections do");
                0
            }
        };
        for event in &events[..count] {
            match LISTENERS.iter().position(|name| *name == event.data()) {
                Some(index) => self.accept(index),
                // What was heard waits for `poll_datagram`.
                None if event.data() == BFD => {}
                None => self.note(SocketId(event.data()), event.events()),
            }
        }
        while let Some(&id) = self.closing.front() {
            match self.connections.get(&id).map(|connection| connection.stage) {
                Some(Stage::Closing(until)) if until > now => break,
                Some(_) | None => self.forget(id),
            }
        }
    }

    fn note(&mut self, id: SocketId, flags: EpollFlags) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.stage {
            Stage::Connecting => match connection.established() {
                Ok(_) => {
                    connection.stage = Stage::Open;
                    self.events.push_back((id, Event::Connected));
                    self.events.push_back((id, Event::Readable));
                }
                Err(reason) => self.over(id, reason),
            },
            Stage::Open => {
                if connection.blocked && flags.contains(EpollFlags::EPOLLOUT) {
                    connection.blocked = false;
                    self.events.push_back((id, Event::Writable));
                }
                // The end of a connection is what reading finds.
                if flags.intersects(!EpollFlags::EPOLLOUT) {
                    self.events.push_back((id, Event::Readable));
                }
            }
            Stage::Over => {}
            Stage::Closing(_) => {
                if connection.is_finished() {
                    self.forget(id);
                }
            }
        }
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some(listener) = &self.listeners[index] else { return };
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(%error, "a BGP connection is lost before it is taken");
                    return;
                }
            };
            self.take(socket);
        }
    }

    fn take(&mut self, socket: Socket) {
        let remote = socket.peer_addr().ok().and_then(|address| address.as_socket());
        let Some((local, remote)) = local(&socket).zip(remote) else { return };
        let Some(neighbour) = self.neighbours.find(local.ip(), remote.ip()) else {
            tracing::debug!(%remote, "no neighbour of the front end connects from there");
            return reset(&socket);
        };
        match Connection::accepted(socket, remote, neighbour.options.clone()) {
            Ok(Some(connection)) => match self.insert(connection) {
                Ok(id) => self.events.push_back((id, Event::Incoming { local, remote })),
                Err(error) => tracing::warn!(%remote, %error, "a BGP connection is not watched"),
            },
            Ok(None) => tracing::debug!(%remote, "a BGP connection from too far away is refused"),
            Err(error) => tracing::warn!(%remote, %error, "a BGP connection cannot be used"),
        }
    }

    /// Connects to a neighbour, from `local` if that matters.
    ///
    /// # Errors
    ///
    /// It is no neighbour, or the kernel knows no way or has no socket.
    pub fn connect(&mut self, local: Option<IpAddr>, remote: SocketAddr) -> io::Result<SocketId> {
        let neighbour = self.neighbours.towards(local, remote.ip());
        let options = neighbour.ok_or(io::ErrorKind::PermissionDenied)?.options.clone();
        let connection = Connection::open(&self.link, local, remote, options)?;
        self.insert(connection)
    }

    fn insert(&mut self, connection: Connection) -> io::Result<SocketId> {
        let id = SocketId(self.next);
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll.add(&connection.socket, EpollEvent::new(flags, id.0))?;
        self.next += 1;
        self.connections.insert(id, connection);
        Ok(id)
    }

    /// What happened. A connection that is over is gone with its event.
    pub fn poll_event(&mut self) -> Option<(SocketId, Event)> {
        let (id, event) = self.events.pop_front()?;
        if let Event::Closed(_) = event {
            self.forget(id);
        }
        Some((id, event))
    }

    /// The own and the peer's address of a connection that the peer has accepted.
    #[must_use]
    pub fn ends(&self, id: SocketId) -> Option<(SocketAddr, SocketAddr)> {
        let connection = self.connections.get(&id)?;
        Some((local(&connection.socket)?, connection.remote))
    }

    /// Reads into `to`; 0 when nothing is there.
    pub fn read(&mut self, id: SocketId, to: &mut [u8]) -> usize {
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        if connection.stage != Stage::Open {
            return 0;
        }
        connection.read(to).unwrap_or_else(|reason| {
            self.over(id, reason);
            0
        })
    }

    /// Writes as much as the kernel takes; [`Event::Writable`] says when it takes more.
    pub fn write(&mut self, id: SocketId, from: &[u8]) -> usize {
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        if connection.stage != Stage::Open {
            return 0;
        }
        connection.write(from).unwrap_or_else(|reason| {
            self.over(id, reason);
            0
        })
    }

    /// Ends a connection after what was written. Nothing more is said of it.
    pub fn close(&mut self, now: Instant, id: SocketId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.stage != Stage::Open {
            return self.forget(id);
        }
        connection.finish(now + LAST_WORDS);
        if connection.is_finished() {
            return self.forget(id);
        }
        if self.closing.len() >= MAX_CLOSING
            && let Some(&oldest) = self.closing.front()
        {
            self.forget(oldest);
        }
        self.closing.push_back(id);
    }

    /// Ends a connection, or the attempt, at once. Nothing more is said of it.
    pub fn abort(&mut self, id: SocketId) {
        if let Some(connection) = self.connections.get(&id) {
            connection.reset();
        }
        self.forget(id);
    }

    /// The next packet of BFD that arrived.
    pub fn poll_datagram(&mut self) -> Option<Datagram> {
        self.datagrams.poll()
    }

    /// Sends a packet of BFD from its own address and port.
    ///
    /// # Errors
    ///
    /// The kernel did not take it.
    pub fn send_datagram(&mut self, now: Instant, datagram: &Datagram) -> io::Result<()> {
        self.datagrams.send(now, datagram)
    }

    /// Connections with something left to send.
    #[must_use]
    pub fn has_last_words(&self) -> bool {
        !self.closing.is_empty()
    }

    fn over(&mut self, id: SocketId, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.stage = Stage::Over;
        self.events.push_back((id, Event::Closed(reason)));
    }

    fn forget(&mut self, id: SocketId) {
        // Its descriptor leaves the epoll set with it.
        self.connections.remove(&id);
        self.closing.retain(|closing| *closing != id);
        self.events.retain(|(of, _)| *of != id);
    }
}
