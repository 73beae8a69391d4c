//! AF_PACKET ports: frames of a link of the host, with their offload facts.
//!
//! A port has one [`Rx`] and one [`Tx`] a worker. Receiving is a ring shared with the kernel, whose
//! slots the gateway rewrites in place; sending is one system call a batch. Super-packets of up to
//! 64 KiB and partial checksums pass both ways (`PACKET_VNET_HDR`). The kernel goes on seeing every
//! frame too; what it must not see is kept from it by `nvgate_deploy::host::Guard`.

#![expect(
    unsafe_code,
    reason = "packet sockets are configured, mapped and written to by system calls on raw memory"
)]

mod filter;
mod rx;
mod sys;
pub mod tcp;
mod train;
mod tx;
mod virtio;
mod wait;

#[cfg(test)]
mod lab;
#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::io;
use std::num::NonZeroUsize;

pub use filter::Admit;
pub use rx::{Rx, RxCounters};
pub use tx::{FrameTooLong, Tx, TxCounters};
pub use wait::{MAX_WAIT_PORTS, Waker, wait, wait_beside};

use super::BATCH;

/// What a port is opened with.
#[derive(Clone, Debug)]
pub struct PortOptions<'a> {
    /// The kernel's name of the link.
    pub link: &'a str,
    /// Which frames the port receives.
    pub admit: Admit,
    /// How many workers share the port: the kernel spreads flows over their rings by the hash of
    /// the outermost addresses and ports.
    pub workers: NonZeroUsize,
    /// Frames each ring holds, rounded up to whole blocks of the mapping; each takes about 65 KiB
    /// of memory that stays allocated.
    pub ring_slots: usize,
}

impl PortOptions<'_> {
    /// Ring slots that take up 2 ms of 64-byte frames at 250,000 a second, in 34 MiB.
    pub const RING_SLOTS: usize = 510;
    /// The most slots of one ring (1 GiB).
    pub const MAX_RING_SLOTS: usize = 15_360;
}

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process may not open packet sockets.
    #[error(
        "not permitted to open a packet socket on link {link}: run as root or with the capability CAP_NET_RAW in the network namespace"
    )]
    MissingCapability {
        /// The link.
        link: String,
    },
    /// There is no such link in this network namespace.
    #[error("link {link} does not exist in this network namespace")]
    NoSuchLink {
        /// The name asked for.
        link: String,
    },
    /// The link is administratively down.
    #[error("link {link} is down: bring it up with `ip link set {link} up`")]
    LinkDown {
        /// The link.
        link: String,
    },
    /// The link does not carry Ethernet frames.
    #[error("link {link} is not an Ethernet link (its hardware type is {hardware_type})")]
    NotEthernet {
        /// The link.
        link: String,
        /// `ARPHRD_*`.
        hardware_type: u16,
    },
    /// There is not enough memory for the ring.
    #[error("cannot get {bytes} bytes of kernel memory for a ring on link {link}")]
    RingMemory {
        /// The link.
        link: String,
        /// What the ring takes.
        bytes: usize,
    },
    /// The kernel refused a step that works on every kernel since 5.15.
    #[error("cannot {operation} for link {link}: {source}")]
    System {
        /// The link.
        link: String,
        /// The step.
        operation: &'static str,
        /// The kernel's errno.
        source: io::Error,
    },
}

/// Opens a port for all its workers: one pair of ends a worker, in the network namespace of the
/// calling thread. The link must exist and be up; when it goes down and comes back, the port goes
/// on, when it is removed, the port stays silent and has to be opened anew.
pub fn open(options: &PortOptions<'_>) -> Result<Vec<(Rx, Tx)>, OpenError> {
    let link = options.link.to_owned();
    let name =
        CString::new(options.link).map_err(|_| OpenError::NoSuchLink { link: link.clone() })?;
    let index =
        sys::link_index(&name).ok_or_else(|| OpenError::NoSuchLink { link: link.clone() })?;
    let mut group = None;
    let mut ends = Vec::with_capacity(options.workers.get());
    for _ in 0..options.workers.get() {
        let rx = Rx::open(options, index)?;
        if options.workers.get() > 1 {
            let joined = sys::join_fanout(&rx, group).map_err(|source| OpenError::System {
                link: link.clone(),
                operation: "spread frames over workers",
                source,
            })?;
            group = Some(joined);
        }
        ends.push((rx, Tx::open(options.link, index)?));
    }
    Ok(ends)
}
