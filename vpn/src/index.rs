//! How a datagram names its tunnel, and which worker owns that.
//!
//! Every WireGuard message but the initiation names its receiver by 32 bits that the receiver
//! chose (whitepaper section 5.4). This gateway puts the tunnel's number into them, so that a
//! datagram finds its worker by arithmetic, without any table:
//!
//! ```text
//!  31                                10 9    8 7                    0
//! +------------------------------------+------+----------------------+
//! | tunnel, 22 bits                    | lane | session              |
//! +------------------------------------+------+----------------------+
//! ```

use nvgate_model::DropReason;

/// Bytes of an initiation (whitepaper section 5.4.2).
pub(crate) const INITIATION_LENGTH: usize = 148;
/// Bytes of a response (whitepaper section 5.4.3).
pub(crate) const RESPONSE_LENGTH: usize = 92;
/// Bytes of a cookie reply (whitepaper section 5.4.7).
pub(crate) const COOKIE_REPLY_LENGTH: usize = 64;
/// Bytes of a transport data message around its plaintext: header 16, tag 16 (section 5.4.6).
pub(crate) const DATA_OVERHEAD: usize = 32;

/// The number of a tunnel in this gateway, 1 to 4,194,303.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TunnelIndex(u32);

impl TunnelIndex {
    /// The largest number: 22 bits.
    pub const MAX: u32 = (1 << 22) - 1;

    /// The tunnel of this number; 0 is none.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > Self::MAX { None } else { Some(Self(number)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Which of `workers` owns the tunnel: the number modulo workers. No workers count as one.
    #[must_use]
    pub const fn owner(self, workers: u16) -> u16 {
        // A remainder is less than its 16-bit divisor.
        if workers == 0 { 0 } else { (self.0 % workers as u32) as u16 }
    }
}

/// Which of a tunnel's four engines a session belongs to: two for each of its own keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LaneId {
    /// 0 or 1: which of the own keys.
    pub(crate) identity: usize,
    /// 0 or 1: which of that key's engines.
    pub(crate) lane: usize,
}

/// A receiver index that is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Receiver {
    pub(crate) tunnel: TunnelIndex,
    pub(crate) lane: LaneId,
    pub(crate) session: u8,
}

impl Receiver {
    /// Reads what a datagram names as its receiver, `None` if no tunnel could have that.
    pub(crate) const fn read(index: u32) -> Option<Self> {
        let Some(tunnel) = TunnelIndex::new(index >> 10) else { return None };
        let lane = LaneId { identity: (index >> 9 & 1) as usize, lane: (index >> 8 & 1) as usize };
        Some(Self { tunnel, lane, session: index as u8 })
    }

    /// The upper 24 bits, as engines take them.
    pub(crate) const fn engine_number(tunnel: TunnelIndex, lane: LaneId) -> u32 {
        tunnel.0 << 2 | (lane.identity as u32) << 1 | lane.lane as u32
    }
}

/// The kinds of WireGuard messages (whitepaper section 5.4), as far as steering needs them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// The first message of a handshake; only the [`Listener`](crate::Listener) can tell whose.
    Initiation,
    /// The answer to an initiation of this tunnel.
    Response(TunnelIndex),
    /// A cookie for a handshake message of this tunnel.
    CookieReply(TunnelIndex),
    /// A packet, or a keepalive.
    Data(TunnelIndex),
}

impl Message {
    /// Reads the kind and the receiver of a UDP payload. Reads no more than 16 bytes, and proves
    /// nothing about who sent them.
    ///
    /// # Errors
    ///
    /// `TunnelMalformed` for what is no message by type and length, `TunnelNoSession` for a
    /// receiver index that no tunnel has.
    pub fn classify(datagram: &[u8]) -> Result<Self, DropReason> {
        // The type is a byte and three zero bytes.
        let (receiver_at, kind): (usize, fn(TunnelIndex) -> Self) =
            match (word(datagram, 0), datagram.len()) {
                (Some(1), INITIATION_LENGTH) => return Ok(Self::Initiation),
                (Some(2), RESPONSE_LENGTH) => (8, Self::Response),
                (Some(3), COOKIE_REPLY_LENGTH) => (4, Self::CookieReply),
                (Some(4), DATA_OVERHEAD..) => (4, Self::Data),
                _ => return Err(DropReason::TunnelMalformed),
            };
        let receiver = word(datagram, receiver_at).and_then(Receiver::read);
        receiver.map(|receiver| kind(receiver.tunnel)).ok_or(DropReason::TunnelNoSession)
    }
}

/// The little-endian word at `at`.
pub(crate) fn word(datagram: &[u8], at: usize) -> Option<u32> {
    datagram.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The counter of a transport data message.
pub(crate) fn counter(datagram: &[u8]) -> Option<u64> {
    datagram.get(8..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, length: usize, receiver_at: usize, receiver: u32) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[0] = kind;
        bytes[receiver_at..receiver_at + 4].copy_from_slice(&receiver.to_le_bytes());
        bytes
    }

    #[test]
    fn the_receiver_names_the_tunnel_and_the_tunnel_its_worker() {
        let seven = TunnelIndex::new(7).unwrap();
        assert_eq!(Message::classify(&message(1, 148, 4, 0)), Ok(Message::Initiation));
        for below in [0, 0x3ff] {
            let receiver = 7 << 10 | below;
            assert_eq!(
                Message::classify(&message(2, 92, 8, receiver)),
                Ok(Message::Response(seven))
            );
            assert_eq!(
                Message::classify(&message(3, 64, 4, receiver)),
                Ok(Message::CookieReply(seven))
            );
            assert_eq!(Message::classify(&message(4, 32, 4, receiver)), Ok(Message::Data(seven)));
        }
        assert_eq!((seven.owner(4), seven.owner(1), seven.owner(0)), (3, 0, 0));
        let largest = TunnelIndex::new(TunnelIndex::MAX).unwrap();
        assert_eq!(Message::classify(&message(4, 99, 4, u32::MAX)), Ok(Message::Data(largest)));
        assert_eq!(TunnelIndex::new(0), None);
        assert_eq!(TunnelIndex::new(TunnelIndex::MAX + 1), None);
    }

    #[test]
    fn other_types_lengths_and_receivers_have_their_reason() {
        for (bytes, reason) in [
            (vec![], DropReason::TunnelMalformed),
            (vec![1, 0, 0, 0], DropReason::TunnelMalformed),
            (message(1, 147, 4, 0), DropReason::TunnelMalformed),
            (message(1, 149, 4, 0), DropReason::TunnelMalformed),
            (message(2, 148, 8, 7 << 10), DropReason::TunnelMalformed),
            (message(4, 31, 4, 7 << 10), DropReason::TunnelMalformed),
            (message(5, 148, 4, 7 << 10), DropReason::TunnelMalformed),
            (message(4, 32, 4, 0x3ff), DropReason::TunnelNoSession),
        ] {
            assert_eq!(Message::classify(&bytes), Err(reason), "{bytes:?}");
        }
        let mut reserved = message(4, 32, 4, 7 << 10);
        reserved[2] = 1;
        assert_eq!(Message::classify(&reserved), Err(DropReason::TunnelMalformed));
    }

    proptest! {
        #[test]
        fn what_an_engine_is_given_is_what_a_datagram_names(
            number in 1..=TunnelIndex::MAX, identity in 0..2_usize, lane in 0..2_usize, session: u8,
        ) {
            let tunnel = TunnelIndex::new(number).unwrap();
            let lane = LaneId { identity, lane };
            let index = Receiver::engine_number(tunnel, lane) << 8 | u32::from(session);
            prop_assert_eq!(Receiver::read(index), Some(Receiver { tunnel, lane, session }));
        }

        #[test]
        fn any_bytes_return(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::classify(&bytes);
        }
    }
}
