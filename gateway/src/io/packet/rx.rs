//! The receiving end: a ring of slots shared with the kernel (`PACKET_RX_RING`, `TPACKET_V2`).
//!
//! The kernel fills slots in order and hands each over by a status word; the gateway rewrites the
//! frame where it lies and hands the slot back. Version 2 has fixed slots, which costs memory but
//! gives every frame at once; version 3 would hold frames back until a block fills or a timer runs.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use libc::{TP_STATUS_KERNEL, TP_STATUS_USER, tpacket2_hdr};
use nvgate_packet::buf::{HEADROOM, MAX_FRAME, PacketBuf};

use super::sys::{self, Mapping};
use super::{Admit, BATCH, OpenError, PortOptions, virtio};

/// Where a slot's storage begins: behind the ring's header and the link-layer address, both of
/// which the gateway leaves alone.
const STORAGE_AT: usize = size_of::<tpacket2_hdr>() + size_of::<libc::sockaddr_ll>();

/// Extra bytes the kernel leaves in front of a frame. It puts the IP header at 90 bytes plus this:
/// 118 make the headroom sufficient and the IP header 16-byte aligned.
const RESERVE: u32 = 118;

/// Where the kernel puts the Ethernet header in a slot: the ring's headers, 16 bytes for the link
/// layer, rounded to 16, the reserve and the virtio header, less the Ethernet header.
const FRAME_AT: usize = 80 + RESERVE as usize + virtio::LENGTH - 14;

const _: () = assert!(FRAME_AT - STORAGE_AT >= HEADROOM);

/// Bytes of a slot. An odd number of cache lines, so that the headers of different slots do not
/// all fall into the same cache sets.
const SLOT: usize = 1031 * 64;

const _: () = assert!(FRAME_AT + MAX_FRAME <= SLOT);

/// Bytes of a block, contiguous memory of the kernel; slots do not cross blocks.
const BLOCK: usize = 1 << 20;
const SLOTS_PER_BLOCK: usize = BLOCK / SLOT;

/// What a receiving end has seen, since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxCounters {
    /// Frames handed out.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Frames that were longer than a slot and were left out.
    pub truncated: u64,
    /// Frames whose offload facts are unknown or contradict them and were left out.
    pub offload_invalid: u64,
    /// Frames the kernel dropped because the ring was full.
    pub ring_full: u64,
}

/// The receiving end of a port for one worker.
#[derive(Debug)]
pub struct Rx {
    socket: OwnedFd,
    memory: Mapping,
    slots: usize,
    /// The slot the kernel fills next, or has filled.
    next: usize,
    /// Slots before `next` that have not been handed back.
    held: usize,
    counters: RxCounters,
}

impl Rx {
    pub(super) fn open(options: &PortOptions<'_>, index: u32) -> Result<Self, OpenError> {
        let link = || options.link.to_owned();
        let system = |operation: &'static str| {
            move |source: io::Error| OpenError::System { link: link(), operation, source }
        };
        let socket = sys::socket().map_err(|source| match source.raw_os_error() {
            Some(libc::EPERM) => OpenError::MissingCapability { link: link() },
            _ => system("open a packet socket")(source),
        })?;
        let state = sys::link_state(&socket, options.link).map_err(system("read the state"))?;
        if state.hardware_type != libc::ARPHRD_ETHER {
            return Err(OpenError::NotEthernet {
                link: link(),
                hardware_type: state.hardware_type,
            });
        }
        if !state.up {
            return Err(OpenError::LinkDown { link: link() });
        }
        configure(&socket, options.admit).map_err(system("configure a packet socket"))?;

        let blocks =
            options.ring_slots.clamp(BATCH, PortOptions::MAX_RING_SLOTS).div_ceil(SLOTS_PER_BLOCK);
        let bytes = blocks * BLOCK;
        let ring = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: (blocks * SLOTS_PER_BLOCK) as u32,
        };
        let memory = sys::set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &ring)
            .and_then(|()| Mapping::new(&socket, bytes))
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ENOMEM) => OpenError::RingMemory { link: link(), bytes },
                _ => system("map a receive ring")(source),
            })?;

        sys::bind(&socket, index, libc::ETH_P_ALL).map_err(system("bind a packet socket"))?;
        if options.admit == Admit::Ip {
            sys::receive_multicast(&socket, index).map_err(system("receive multicast"))?;
        }
        let slots = blocks * SLOTS_PER_BLOCK;
        Ok(Self { socket, memory, slots, next: 0, held: 0, counters: RxCounters::default() })
    }

    /// Slots of the ring.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// Moves what has arrived into `batch`, as far as it has room, without waiting; first hands
    /// back the slots of the batch before. Returns how many slots were taken: frames that cannot
    /// be used take one but do not get into the batch.
    ///
    /// Every packet has at least 128 bytes of headroom. Packets may be rewritten and extended at
    /// will; they are valid until the next call of this or of [`release`](Self::release).
    pub fn receive<'a>(&'a mut self, batch: &mut ArrayVec<PacketBuf<'a>, BATCH>) -> usize {
        self.release();
        let room = batch.remaining_capacity().min(self.slots);
        while self.held < room {
            let Some(filled) = self.filled(self.next) else { break };
            // SAFETY: the slot is the process's until `release` hands it back, which needs the
            // whole of `self` for itself and so cannot happen while 'a lasts; no other slice of it
            // exists, because each slot is visited once between two calls of `release`: `held`
            // stays at or below the number of slots.
            let storage = unsafe { self.storage(self.next) };
            self.next = if self.next + 1 == self.slots { 0 } else { self.next + 1 };
            self.held += 1;
            if let Some(packet) = filled.packet(storage, &mut self.counters) {
                batch.push(packet);
            }
        }
        self.held
    }

    /// Hands the slots of the last batch back to the kernel; receiving and waiting do it too.
    pub fn release(&mut self) {
        let mut slot = (self.next + self.slots - self.held) % self.slots;
        for _ in 0..self.held {
            // What was written to the slot must be done before the kernel may write to it.
            self.status(slot).store(TP_STATUS_KERNEL, Ordering::Release);
            slot = if slot + 1 == self.slots { 0 } else { slot + 1 };
        }
        self.held = 0;
    }

    /// The counters, with the kernel's brought up to date.
    pub fn counters(&mut self) -> RxCounters {
        // The kernel counts from zero after each reading.
        if let Ok(new) =
            sys::get::<libc::tpacket_stats>(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)
        {
            self.counters.ring_full += u64::from(new.tp_drops);
        }
        self.counters
    }

    /// What the kernel has put into a slot, when it has.
    fn filled(&self, index: usize) -> Option<Filled> {
        // What the kernel wrote to the slot is read only after the status says that it is there.
        if self.status(index).load(Ordering::Acquire) & TP_STATUS_USER == 0 {
            return None;
        }
        let header = self.slot(index).cast::<tpacket2_hdr>().as_ptr();
        // SAFETY: the header lies at the front of the slot, which is aligned for it, and the kernel
        // does not write to a slot whose status says user.
        unsafe {
            Some(Filled {
                length: (*header).tp_len as usize,
                captured: (*header).tp_snaplen as usize,
                at: usize::from((*header).tp_mac),
            })
        }
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the status is the first word of the slot's header, aligned, inside the mapping
        // that `self` owns, and accessed by nothing but this reference's atomic operations here.
        unsafe { AtomicU32::from_ptr(self.slot(index).cast().as_ptr()) }
    }

    /// # Safety
    ///
    /// The slot must be the process's for all of 'a, and no other reference to it may live.
    unsafe fn storage<'a>(&self, index: usize) -> &'a mut [u8] {
        let front = self.slot(index).as_ptr();
        // SAFETY: the range lies inside the slot, behind the header; the kernel zeroed the memory
        // when it made the ring. The rest is the caller's obligation.
        unsafe { std::slice::from_raw_parts_mut(front.add(STORAGE_AT), SLOT - STORAGE_AT) }
    }

    fn slot(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.slots, "slot indexes are kept below the number of slots");
        let offset = index / SLOTS_PER_BLOCK * BLOCK + index % SLOTS_PER_BLOCK * SLOT;
        // SAFETY: the index is in the ring, so the offset is in the mapping.
        unsafe { self.memory.base().add(offset) }
    }
}

impl AsFd for Rx {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a slot's header says.
#[derive(Clone, Copy)]
struct Filled {
    /// The frame's length on the link.
    length: usize,
    /// How much of it is in the slot.
    captured: usize,
    /// Where it begins in the slot.
    at: usize,
}

impl Filled {
    /// The packet in a slot's storage, or nothing when it cannot be used.
    fn packet<'a>(self, storage: &'a mut [u8], counters: &mut RxCounters) -> Option<PacketBuf<'a>> {
        if self.captured < self.length {
            counters.truncated += 1;
            return None;
        }
        let front = self.at.saturating_sub(STORAGE_AT);
        let offload = storage
            .get(..front)
            .and_then(|before| before.last_chunk())
            .ok_or(virtio::Invalid)
            .and_then(|header| virtio::parse(header, self.length));
        match offload {
            Ok(offload) => {
                counters.frames += 1;
                counters.bytes += self.length as u64;
                Some(PacketBuf::new(storage, front, front + self.length, offload))
            }
            Err(virtio::Invalid) => {
                counters.offload_invalid += 1;
                None
            }
        }
    }
}

/// Everything that has to be set before the ring exists and frames arrive.
fn configure(socket: &OwnedFd, admit: Admit) -> io::Result<()> {
    let packet = |name, value: u32| sys::set(socket, libc::SOL_PACKET, name, &value);
    packet(libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as u32)?;
    packet(libc::PACKET_VNET_HDR, 1)?;
    packet(libc::PACKET_RESERVE, RESERVE)?;
    packet(libc::PACKET_IGNORE_OUTGOING, 1)?;
    sys::attach(socket, &admit.program())
}
