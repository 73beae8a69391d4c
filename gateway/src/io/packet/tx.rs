//! The sending end: frames are staged and go out with one `sendmmsg` a batch.
//!
//! The kernel copies staged frames, so nothing of them is needed afterwards. (A transmit ring would
//! save that copy, but the kernel sends from the ring's pages and hands a slot back when the packet
//! loses its socket, which on veth is before the receiver has read it.) The link's queueing
//! discipline stays in the way, because the kernel drops super-packets that it has to segment when
//! it is bypassed.

use std::io;
use std::os::fd::OwnedFd;

use arrayvec::ArrayVec;
use nvgate_packet::buf::{MAX_FRAME, Offload};

use super::train::{self, Train};
use super::{BATCH, OpenError, sys, virtio};

/// Bytes that are staged before they are sent.
const STAGED: usize = 512 * 1024;

const _: () = assert!(STAGED >= 2 * (MAX_FRAME + virtio::LENGTH));

/// What the socket may have under way, in bytes, where the host permits it.
const SEND_BUFFER: u32 = 8 << 20;

/// How often a batch is tried again, with a yield in between, when the socket has too much under
/// way.
const RETRIES: usize = 16;

/// What a sending end has done, since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxCounters {
    /// Frames the kernel took.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Frames dropped because the link's queue or the socket's buffer was full.
    pub congested: u64,
    /// Frames the kernel refused: malformed, longer than the link's MTU, or the link is down.
    pub refused: u64,
}

/// A frame is longer than [`MAX_FRAME`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a frame of {length} bytes is longer than {MAX_FRAME} bytes")]
pub struct FrameTooLong {
    /// The frame's length in bytes.
    pub length: usize,
}

/// The sending end of a port for one worker. Staged frames that were not flushed are lost when it
/// is dropped.
#[derive(Debug)]
pub struct Tx {
    socket: OwnedFd,
    /// The staged frames one behind another, each behind its virtio header; never grows.
    staged: Vec<u8>,
    /// Where each staged frame ends in `staged`.
    ends: ArrayVec<usize, BATCH>,
    /// The last staged frame, when datagrams may join it, and where it begins.
    train: Option<(Train, usize)>,
    takes_trains: bool,
    counters: TxCounters,
}

impl Tx {
    pub(super) fn open(link: &str, index: u32) -> Result<Self, OpenError> {
        let system = |operation: &'static str| {
            move |source: io::Error| OpenError::System { link: link.to_owned(), operation, source }
        };
        let socket = sys::socket().map_err(system("open a packet socket"))?;
        sys::set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_u32)
            .map_err(system("configure a packet socket"))?;
        sys::set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)
            .or_else(|_| sys::set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER))
            .map_err(system("configure a packet socket"))?;
        sys::bind(&socket, index, 0).map_err(system("bind a packet socket"))?;
        Ok(Self {
            socket,
            staged: Vec::with_capacity(STAGED),
            ends: ArrayVec::new(),
            train: None,
            takes_trains: train::kernel_takes(),
            counters: TxCounters::default(),
        })
    }

    /// Stages the frame made of `head` and `tail`, and sends what is staged when it is a batch.
    /// Positions in `offload` count from the front of `head`; partial checksums and super-packets
    /// are handed on to the kernel, which finishes them where the link cannot.
    pub fn send(&mut self, head: &[u8], tail: &[u8], offload: Offload) -> Result<(), FrameTooLong> {
        let length = head.len() + tail.len();
        if length > MAX_FRAME {
            return Err(FrameTooLong { length });
        }
        self.couple();
        if self.ends.is_full() || self.staged.len() + virtio::LENGTH + length > STAGED {
            self.flush();
        }
        let header_at = self.staged.len();
        self.staged.extend_from_slice(&[0; virtio::LENGTH]);
        self.staged.extend_from_slice(head);
        self.staged.extend_from_slice(tail);
        let frame_at = header_at + virtio::LENGTH;
        let header = virtio::emit(offload, &self.staged[frame_at..]);
        self.staged[header_at..frame_at].copy_from_slice(&header);
        self.ends.push(self.staged.len());
        Ok(())
    }

    /// As [`send`](Self::send), for a UDP datagram that may leave together with others between the
    /// same sockets.
    pub fn send_datagram(&mut self, frame: &[u8], offload: Offload) -> Result<(), FrameTooLong> {
        if let Some((train, _)) = &mut self.train
            && self.staged.len() + frame.len() <= STAGED
            && let Some(payload) = train.join(frame, offload)
        {
            self.staged.extend_from_slice(payload);
            if let Some(end) = self.ends.last_mut() {
                *end = self.staged.len();
            }
            return Ok(());
        }
        self.send(frame, &[], offload)?;
        if self.takes_trains {
            let begin = self.staged.len() - frame.len();
            self.train = Train::after(frame, offload).map(|train| (train, begin));
        }
        Ok(())
    }

    /// Makes what has joined the last staged frame one with it.
    fn couple(&mut self) {
        let Some((train, begin)) = self.train.take() else { return };
        let frame = &mut self.staged[begin..];
        if let Some(offload) = train.couple(frame) {
            let header = virtio::emit(offload, frame);
            self.staged[begin - virtio::LENGTH..begin].copy_from_slice(&header);
        }
    }

    /// Sends everything staged, without waiting: afterwards nothing is staged, and every frame is
    /// counted as sent, congested or refused.
    pub fn flush(&mut self) {
        self.couple();
        let mut front = 0;
        let mut retries = 0;
        let mut ends = self.ends.as_slice();
        while !ends.is_empty() {
            // How many frames of the rest are dealt with.
            let done = match sys::send(&self.socket, &self.staged, front, ends) {
                Ok(sent) => {
                    let end = ends[sent - 1];
                    self.counters.frames += sent as u64;
                    self.counters.bytes += (end - front - sent * virtio::LENGTH) as u64;
                    sent
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EINTR) if retries < RETRIES => {
                        retries += 1;
                        std::thread::yield_now();
                        continue;
                    }
                    Some(libc::EAGAIN | libc::EINTR) => {
                        self.counters.congested += ends.len() as u64;
                        break;
                    }
                    // The link's queue was full; the kernel has dropped this frame.
                    Some(libc::ENOBUFS) => {
                        self.counters.congested += 1;
                        1
                    }
                    Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
                        self.counters.refused += ends.len() as u64;
                        break;
                    }
                    _ => {
                        self.counters.refused += 1;
                        1
                    }
                },
            };
            front = ends[done - 1];
            ends = &ends[done..];
        }
        self.ends.clear();
        self.staged.clear();
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> TxCounters {
        self.counters
    }
}
