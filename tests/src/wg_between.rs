//! A bad path between a peer and the gateway: loses, doubles and reorders datagrams both ways, and
//! remembers what it carried to the gateway so that a test can send it again.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nvgate::demo::lab::Namespace;

/// How often it looks whether it is to stop; what it holds back leaves by then.
const LOOK_MS: u16 = 5;
/// Datagrams that are remembered.
const REMEMBERED: usize = 64;

/// What becomes of datagrams, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Lost.
    pub lost: u64,
    /// Sent twice.
    pub doubled: u64,
    /// Sent after the next one.
    pub late: u64,
}

/// What it did, in datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// Sent on, copies not counted.
    pub sent: u64,
    /// Lost.
    pub lost: u64,
    /// Sent twice.
    pub doubled: u64,
    /// Sent after the next one.
    pub late: u64,
}

/// The path. Ends when dropped.
pub struct Between {
    stop: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
    towards_gateway: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    carried: Carried,
    remembered: Vec<Vec<u8>>,
}

impl Between {
    /// A path from the socket `near`, where the peer sends to, to `gateway`.
    ///
    /// # Errors
    ///
    /// When the sockets cannot be had.
    pub fn start(
        place: &Namespace,
        near: SocketAddr,
        gateway: SocketAddr,
        faults: Faults,
    ) -> Result<Self> {
        let (near, far) = place.run(|| -> io::Result<_> {
            let far = UdpSocket::bind(SocketAddr::new(near.ip(), 0))?;
            far.connect(gateway)?;
            Ok((UdpSocket::bind(near)?, far))
        })??;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let towards_gateway = far.try_clone()?;
        let stop = Arc::new(AtomicBool::new(false));
        let state = Arc::new(Mutex::new(State::default()));
        let mut path = Path {
            sockets: [near, far],
            peer: None,
            faults,
            chance: 0x2545_f491_4f6c_dd1d,
            late: [None, None],
            state: Arc::clone(&state),
        };
        let ended = Arc::clone(&stop);
        let thread = place.spawn("between", move || path.carry(&ended))?;
        Ok(Self { stop, state, towards_gateway, thread: Some(thread) })
    }

    /// What it has done so far.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).carried
    }

    /// Sends all that is remembered to the gateway once more, and says how many datagrams it was.
    ///
    /// # Errors
    ///
    /// When the socket refuses.
    pub fn replay(&self) -> Result<usize> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for datagram in &state.remembered {
            self.towards_gateway.send(datagram).context("a datagram again")?;
        }
        Ok(state.remembered.len())
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has already said why it panicked.
            drop(thread.join());
        }
    }
}

struct Path {
    /// The peer's side and the gateway's.
    sockets: [UdpSocket; 2],
    peer: Option<SocketAddr>,
    faults: Faults,
    chance: u64,
    /// A datagram a direction that the next one overtakes.
    late: [Option<Vec<u8>>; 2],
    state: Arc<Mutex<State>>,
}

impl Path {
    fn carry(&mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let mut polled = self
                .sockets
                .each_ref()
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            // An interrupted or failed poll only costs one more round.
            let silent = poll(&mut polled, PollTimeout::from(LOOK_MS)) == Ok(0);
            for side in 0..2 {
                while let Ok((length, from)) = self.sockets[side].recv_from(&mut buffer) {
                    if side == 0 {
                        self.peer = Some(from);
                        self.remember(&buffer[..length]);
                    }
                    self.pass(side, &buffer[..length]);
                }
                if silent && let Some(late) = self.late[side].take() {
                    self.send(side, &late);
                }
            }
        }
    }

    fn remember(&self, datagram: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.remembered.len() < REMEMBERED {
            state.remembered.push(datagram.to_vec());
        }
    }

    /// Lets a datagram from `side` suffer its fate.
    fn pass(&mut self, side: usize, datagram: &[u8]) {
        let Faults { lost, doubled, late } = self.faults;
        let fate = self.thousandth();
        if fate < lost {
            return self.count(|carried| carried.lost += 1);
        }
        if fate < lost + late && self.late[side].is_none() {
            self.count(|carried| carried.late += 1);
            self.late[side] = Some(datagram.to_vec());
            return;
        }
        self.send(side, datagram);
        if (lost + late..lost + late + doubled).contains(&fate) {
            self.count(|carried| carried.doubled += 1);
            self.send(side, datagram);
        }
        if let Some(late) = self.late[side].take() {
            self.send(side, &late);
        }
    }

    fn send(&self, side: usize, datagram: &[u8]) {
        // A full socket is one more loss.
        let sent = match (side, self.peer) {
            (0, _) => self.sockets[1].send(datagram),
            (_, Some(peer)) => self.sockets[0].send_to(datagram, peer),
            (_, None) => return,
        };
        if sent.is_ok() {
            self.count(|carried| carried.sent += 1);
        }
    }

    fn count(&self, change: impl FnOnce(&mut Carried)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).carried);
    }

    fn thousandth(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % 1000
    }
}
