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

#[cfg(test)]
mod tests {
    use super::Direction::{Inbound, Outbound};
    use super::*;

    const SYN_ACK: u8 = TCP_SYN | TCP_ACK;
    const FIN_ACK: u8 = TCP_FIN | TCP_ACK;

    fn after(packets: &[(Direction, u8)]) -> TcpState {
        let mut state = TcpState::opened(packets[0].0);
        for &(direction, flags) in &packets[1..] {
            state.handle(direction, flags);
        }
        state
    }

    fn phase(packets: &[(Direction, u8)]) -> Phase {
        after(packets).phase()
    }

    #[test]
    fn a_connection_is_established_by_a_syn_from_each_side() {
        let syn = (Outbound, TCP_SYN);
        assert_eq!(phase(&[syn]), Phase::Opening);
        assert_eq!(phase(&[syn, (Outbound, TCP_SYN), (Inbound, TCP_ACK)]), Phase::Opening);
        assert_eq!(phase(&[syn, (Inbound, SYN_ACK)]), Phase::Established);
        assert_eq!(phase(&[syn, (Inbound, TCP_SYN)]), Phase::Established, "simultaneous open");
        assert_eq!(phase(&[(Inbound, TCP_SYN), (Outbound, SYN_ACK)]), Phase::Established);
    }

    #[test]
    fn one_fin_leaves_a_connection_established_and_two_close_it() {
        let open = [(Outbound, TCP_SYN), (Inbound, SYN_ACK)];
        let one = [&open[..], &[(Inbound, FIN_ACK), (Inbound, FIN_ACK)]].concat();
        assert_eq!(phase(&one), Phase::Established);
        let mut state = after(&one);
        assert_eq!(state.handle(Outbound, FIN_ACK), Timer::Restarts);
        assert_eq!(state.phase(), Phase::Closed);
        assert_eq!(state.handle(Inbound, TCP_ACK), Timer::Continues);
        assert_eq!(state.handle(Outbound, TCP_RST), Timer::Continues);
        assert_eq!(state.handle_forwarded(), Timer::Continues);
        assert_eq!(state.phase(), Phase::Closed);
    }

    #[test]
    fn a_reset_is_undone_by_data_and_kept_by_another_reset() {
        let open = [(Outbound, TCP_SYN), (Inbound, SYN_ACK)];
        let mut state = after(&open);
        assert_eq!(state.handle(Inbound, TCP_RST), Timer::Restarts);
        assert_eq!(state.handle(Inbound, TCP_RST), Timer::Continues);
        assert_eq!(state.phase(), Phase::Reset);
        let mut forwarded = state;
        assert_eq!(state.handle(Outbound, TCP_ACK), Timer::Restarts);
        assert_eq!(state.phase(), Phase::Established);
        assert_eq!(forwarded.handle_forwarded(), Timer::Restarts);
        assert_eq!(forwarded, state);
    }

    #[test]
    fn a_refused_connection_is_not_established_by_what_follows() {
        let refused = [(Outbound, TCP_SYN), (Inbound, TCP_RST | TCP_ACK)];
        assert_eq!(phase(&refused), Phase::Reset);
        let mut state = after(&refused);
        assert_eq!(state.handle(Inbound, TCP_ACK), Timer::Continues);
        assert_eq!(state.phase(), Phase::Opening);
    }

    #[test]
    fn a_syn_reopens_what_was_closed_or_reset_and_nothing_else() {
        let closed =
            [(Outbound, TCP_SYN), (Inbound, SYN_ACK), (Outbound, FIN_ACK), (Inbound, FIN_ACK)];
        for flags in [SYN_ACK, TCP_SYN | TCP_RST, TCP_SYN | TCP_FIN] {
            assert_eq!(phase(&[&closed[..], &[(Inbound, flags)]].concat()), Phase::Closed);
        }
        let reopened = [&closed[..], &[(Inbound, TCP_SYN)]].concat();
        assert_eq!(after(&reopened), TcpState::opened(Inbound));
        let reset = [(Outbound, TCP_SYN), (Inbound, TCP_RST), (Outbound, TCP_SYN)];
        assert_eq!(after(&reset), TcpState::opened(Outbound));
        let open = [(Outbound, TCP_SYN), (Inbound, SYN_ACK), (Outbound, TCP_SYN)];
        assert_eq!(phase(&open), Phase::Established);
    }
}
