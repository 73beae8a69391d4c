//! One connection: its socket with the options of its neighbour, and how far it is.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nvgate_model::{Instant, Prefix};
use socket2::{SockAddr, Socket};

use super::listener::{set_ttl, socket};
use crate::endpoint::{CloseReason, PeerOptions};
use crate::io::packet::tcp;

/// How long the kernel repeats what the peer does not acknowledge.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);
/// Bytes of a peer that are thrown away at once while its connection closes.
const SCRAP: usize = 64 << 10;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The peer has not answered.
    Connecting,
    /// Data goes both ways.
    Open,
    /// It is over, and its owner was told.
    Over,
    /// Its owner is done with it; what is left is sent until then.
    Closing(Instant),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) stage: Stage,
    pub(super) remote: SocketAddr,
    /// Whether a write was not taken whole.
    pub(super) blocked: bool,
    options: PeerOptions,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(
        link: &str,
        local: Option<IpAddr>,
        remote: SocketAddr,
        options: PeerOptions,
    ) -> io::Result<Self> {
        let socket = socket(remote.is_ipv4(), link)?;
        let mut connection =
            Self { socket, stage: Stage::Connecting, remote, blocked: false, options };
        connection.configure()?;
        connection.sign(None)?;
        if let Some(local) = local {
            connection.socket.bind(&SockAddr::from(SocketAddr::new(local, 0)))?;
        }
        match connection.socket.connect(&SockAddr::from(remote)) {
            // EINPROGRESS has no kind.
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            Ok(()) | Err(_) => Ok(connection),
        }
    }

    /// Takes over what a listener accepted. None: it came from farther away than the neighbour may.
    pub(super) fn accepted(
        socket: Socket,
        remote: SocketAddr,
        options: PeerOptions,
    ) -> io::Result<Option<Self>> {
        socket.set_nonblocking(true)?;
        let least = options.minimum_ttl;
        if least > 0 && tcp::syn_ttl(&socket).is_none_or(|ttl| ttl < least) {
            return Ok(None);
        }
        let mut connection = Self { socket, stage: Stage::Open, remote, blocked: false, options };
        connection.configure()?;
        Ok(Some(connection))
    }

    fn configure(&mut self) -> io::Result<()> {
        let ipv4 = self.remote.is_ipv4();
        self.socket.set_tcp_nodelay(true)?;
        self.socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        set_ttl(&self.socket, ipv4, self.options.ttl)?;
        tcp::set_least_ttl(&self.socket, ipv4, self.options.minimum_ttl)
    }

    /// Signs with the neighbour's key, in place of one of `before`.
    fn sign(&mut self, before: Option<&PeerOptions>) -> io::Result<()> {
        let peer = Prefix::host(self.remote.ip());
        match &self.options.key {
            Some(key) => tcp::sign(&self.socket, peer, Some(key.bytes())),
            None if before.is_some_and(|before| before.key.is_some()) => {
                tcp::sign(&self.socket, peer, None)
            }
            None => Ok(()),
        }
    }

    /// Follows a change of its neighbour's options.
    pub(super) fn follow(&mut self, options: &PeerOptions) -> io::Result<()> {
        if self.options == *options {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.options, options.clone());
        self.sign(Some(&before))?;
        self.configure()
    }

    /// What the peer said to a connection attempt: our address, if it has accepted.
    pub(super) fn established(&self) -> Result<SocketAddr, CloseReason> {
        match self.socket.take_error() {
            Ok(None) => local(&self.socket).ok_or(CloseReason::Refused),
            Ok(Some(error)) | Err(error) => Err(refused(&error)),
        }
    }

    /// Reads what is there; none: it is over, with the reason.
    pub(super) fn read(&mut self, to: &mut [u8]) -> Result<usize, CloseReason> {
        match self.socket.read(to) {
            Ok(0) => Err(CloseReason::Finished),
            Ok(count) => Ok(count),
            Err(error) if is_later(&error) => Ok(0),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Writes as much as the kernel takes.
    pub(super) fn write(&mut self, from: &[u8]) -> Result<usize, CloseReason> {
        let mut written = 0;
        while written < from.len() {
            match self.socket.write(&from[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_later(&error) => {
                    self.blocked = true;
                    break;
                }
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(written)
    }

    /// Sends what is left, then the end.
    pub(super) fn finish(&mut self, until: Instant) {
        self.stage = Stage::Closing(until);
        // A peer that is gone already needs no end.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Throws away what the peer still sends; whether it has finished too. What is unread at the
    /// close would have the kernel reset the connection, and the last words with it.
    pub(super) fn is_finished(&mut self) -> bool {
        let mut scrap = [0; 4096];
        for _ in 0..SCRAP / scrap.len() {
            match self.read(&mut scrap) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(_) => return true,
            }
        }
        false
    }

    /// Has the peer told by a reset once this is dropped.
    pub(super) fn reset(&self) {
        reset(&self.socket);
    }
}

/// Has the close of a socket reset its connection.
pub(super) fn reset(socket: &Socket) {
    // Without it the peer gets an ordinary end.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// The own address of a socket, as it is meant: without IPv4 in IPv6.
pub(super) fn local(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn refused(error: &io::Error) -> CloseReason {
    match error.kind() == ErrorKind::TimedOut {
        true => CloseReason::TimedOut,
        false => CloseReason::Refused,
    }
}

fn broken(error: &io::Error) -> CloseReason {
    match error.kind() == ErrorKind::TimedOut {
        true => CloseReason::TimedOut,
        false => CloseReason::Reset,
    }
}
