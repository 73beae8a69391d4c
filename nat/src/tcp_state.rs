//! The state of a TCP session as NAT sees it: RFC 6146 section 3.5.2 as amended by RFC 7857
//! section 2, with the customer's side where that has IPv6 and the remote where it has IPv4.
//!
//! The state is the set of what was seen; the phase follows from it. Sequence numbers are not
//! tracked.

use nvgate_packet::headers::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

/// Which way a packet goes, seen from the tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Outbound,
    Inbound,
}

/// What a session's timeout depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// A SYN from one side only (V4 INIT, V6 INIT).
    Opening,
    /// SYNs from both sides, at most one FIN (ESTABLISHED, V4 FIN RCV, V6 FIN RCV).
    Established,
    /// An RST was the last thing seen (TRANS).
    Reset,
    /// FINs from both sides (V4 FIN + V6 FIN RCV).
    Closed,
}

/// Whether a packet restarts the session's idle timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    Restarts,
    Continues,
}

const SYN_OUT: u8 = 1;
const SYN_IN: u8 = 2;
const FIN_OUT: u8 = 4;
const FIN_IN: u8 = 8;
const RESET: u8 = 16;

/// Whether a packet with these flags begins a connection.
pub(crate) const fn begins(flags: u8) -> bool {
    flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) == TCP_SYN
}

/// What was seen of a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TcpState(u8);

impl TcpState {
    /// The state after a first SYN in `direction`.
    pub(crate) const fn opened(direction: Direction) -> Self {
        match direction {
            Direction::Outbound => Self(SYN_OUT),
            Direction::Inbound => Self(SYN_IN),
        }
    }

    pub(crate) const fn phase(self) -> Phase {
        const FINS: u8 = FIN_OUT | FIN_IN;
        const SYNS: u8 = SYN_OUT | SYN_IN;
        if self.0 & FINS == FINS {
            Phase::Closed
        } else if self.0 & RESET != 0 {
            Phase::Reset
        } else if self.0 & SYNS == SYNS {
            Phase::Established
        } else {
            Phase::Opening
        }
    }

    /// Whether a SYN would begin a new connection on the same sockets.
    pub(crate) const fn may_reopen(self) -> bool {
        match self.phase() {
            Phase::Closed | Phase::Reset => true,
            Phase::Opening | Phase::Established => false,
        }
    }

    /// Takes in a packet with these flags.
    pub(crate) fn handle(&mut self, direction: Direction, flags: u8) -> Timer {
        let before = self.phase();
        if flags & TCP_RST != 0 {
            self.0 |= RESET;
            return if before == Phase::Established { Timer::Restarts } else { Timer::Continues };
        }
        if begins(flags) && self.may_reopen() {
            *self = Self::opened(direction);
            return Timer::Restarts;
        }
        if before == Phase::Closed {
            return Timer::Continues;
        }
        let (syn, fin) = match direction {
            Direction::Outbound => (SYN_OUT, FIN_OUT),
            Direction::Inbound => (SYN_IN, FIN_IN),
        };
        self.0 &= !RESET;
        if flags & TCP_SYN != 0 {
            self.0 |= syn;
        }
        if flags & TCP_FIN != 0 {
            self.0 |= fin;
        }
        match self.phase() {
            Phase::Opening if flags & TCP_SYN == 0 => Timer::Continues,
            Phase::Opening | Phase::Established | Phase::Reset | Phase::Closed => Timer::Restarts,
        }
    }

    /// Takes in that a compiled entry forwarded data after the last packet handled here; returns
    /// whether that restarts the timer.
    pub(crate) fn handle_forwarded(&mut self) -> Timer {
        match self.phase() {
            Phase::Established => Timer::Restarts,
            Phase::Reset => {
                self.0 &= !RESET;
                match self.phase() {
                    Phase::Established => Timer::Restarts,
                    Phase::Opening | Phase::Reset | Phase::Closed => Timer::Continues,
                }
            }
            Phase::Opening | Phase::Closed => Timer::Continues,
        }
    }
}
