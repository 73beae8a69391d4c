//! The Control packet (section 4.1) and the checks that need no session (6.8.6).
//!
//! A [`ControlPacket`] that was decoded has passed them, in the order of the RFC. Bytes behind the
//! Length field, diagnostics that nobody assigned and echo intervals are no reason to refuse.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

use crate::discard::Discard;

/// Bytes of a Control packet without an authentication section: all that is ever sent.
pub const PACKET_LENGTH: usize = 24;
/// The least Length of a packet with an authentication section: its type and length.
const AUTHENTICATED_LENGTH: usize = PACKET_LENGTH + 2;
const VERSION: u8 = 1;

const POLL: u8 = 0b10_0000;
const FINAL: u8 = 0b1_0000;
const CONTROL_PLANE_INDEPENDENT: u8 = 0b1000;
const AUTHENTICATION: u8 = 0b100;
const DEMAND: u8 = 0b10;
const MULTIPOINT: u8 = 0b1;

/// The state of a session as one side sees it (Sta).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Held down by command.
    AdminDown,
    /// The neighbour is not heard, or does not hear.
    Down,
    /// The neighbour is heard, and wants a session.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    /// Every state, in the order of its number.
    pub const ALL: [Self; 4] = [Self::AdminDown, Self::Down, Self::Init, Self::Up];

    const fn from_bits(bits: u8) -> Self {
        Self::ALL[(bits & 3) as usize]
    }

    /// The name, as metrics and status show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

/// Why a state changed last, as the side that sends it says (Diag): 0 to 31, of which 9 to 31
/// mean nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// No diagnostic.
    pub const NONE: Self = Self(0);
    /// No packet arrived for the detection time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// The neighbour reported Down or AdminDown.
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    /// What carries the path has failed.
    pub const PATH_DOWN: Self = Self(5);
    /// Taken down by command.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);

    /// The diagnostic with this number; only the lower five bits count.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x1f)
    }

    /// The number, 0 to 31.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The name in the registry (section 8).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            _ => "unassigned",
        }
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.0, self.name())
    }
}

/// The head of an authentication section; the rest is not read, as authentication is not spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authentication {
    /// Auth Type: 1 simple password, 2 and 3 keyed MD5, 4 and 5 keyed SHA1.
    pub kind: u8,
    /// Auth Len in bytes, as the packet says.
    pub length: u8,
}

/// A Control packet that passed the checks of 6.8.6 that need no session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlPacket {
    /// Why the sender's state changed last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P: the sender wants an answer.
    pub poll: bool,
    /// F: this is the answer.
    pub is_final: bool,
    /// C: the sender's BFD survives its control plane.
    pub control_plane_independent: bool,
    /// D: the sender wants no periodic packets once both sides are Up.
    pub demand: bool,
    /// Detect Mult: so many intervals of the sender without a packet and it is gone.
    pub detect_multiplier: NonZeroU8,
    /// My Discriminator: the session at the sender.
    pub my_discriminator: NonZeroU32,
    /// Your Discriminator: the session at the receiver, none while the sender does not know it.
    pub your_discriminator: Option<NonZeroU32>,
    /// Desired Min TX Interval in microseconds.
    pub desired_min_tx_micros: u32,
    /// Required Min RX Interval in microseconds; 0 asks for silence.
    pub required_min_rx_micros: u32,
    /// Required Min Echo RX Interval in microseconds; 0 refuses echo packets.
    pub required_min_echo_rx_micros: u32,
    /// The head of the authentication section (A).
    pub authentication: Option<Authentication>,
}

impl ControlPacket {
    /// Reads a UDP payload.
    ///
    /// # Errors
    ///
    /// The first rule of 6.8.6 that it breaks, of those that need no session.
    pub fn decode(payload: &[u8]) -> Result<Self, Discard> {
        let fixed: &[u8; PACKET_LENGTH] = payload.first_chunk().ok_or(Discard::Truncated)?;
        let [first, flags, multiplier, length, words @ ..] = fixed;
        if first >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let length = usize::from(*length);
        let authenticated = flags & AUTHENTICATION != 0;
        if length < if authenticated { AUTHENTICATED_LENGTH } else { PACKET_LENGTH } {
            return Err(Discard::LengthTooSmall);
        }
        let packet = payload.get(..length).ok_or(Discard::LengthBeyondPayload)?;
        let detect_multiplier = NonZeroU8::new(*multiplier).ok_or(Discard::MultiplierZero)?;
        if flags & MULTIPOINT != 0 {
            return Err(Discard::Multipoint);
        }
        let [mine, yours, desired_min_tx, required_min_rx, required_min_echo_rx] = read(words);
        let my_discriminator = NonZeroU32::new(mine).ok_or(Discard::MyDiscriminatorZero)?;
        let your_discriminator = NonZeroU32::new(yours);
        let state = State::from_bits(flags >> 6);
        if your_discriminator.is_none() && matches!(state, State::Init | State::Up) {
            return Err(Discard::YourDiscriminatorZero);
        }
        let authentication = match packet.get(PACKET_LENGTH..) {
            Some([kind, length, ..]) if authenticated => {
                Some(Authentication { kind: *kind, length: *length })
            }
            Some(_) | None => None,
        };
        Ok(Self {
            diagnostic: Diagnostic::from_bits(*first),
            state,
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            detect_multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx_micros: desired_min_tx,
            required_min_rx_micros: required_min_rx,
            required_min_echo_rx_micros: required_min_echo_rx,
            authentication,
        })
    }

    /// The packet's bytes, without an authentication section and without the bit that says that
    /// there is one.
    #[must_use]
    pub fn encode(&self) -> [u8; PACKET_LENGTH] {
        let mut packet = [0; PACKET_LENGTH];
        packet[0] = VERSION << 5 | self.diagnostic.bits();
        packet[1] = (self.state as u8) << 6
            | bit(self.poll, POLL)
            | bit(self.is_final, FINAL)
            | bit(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | bit(self.demand, DEMAND);
        packet[2] = self.detect_multiplier.get();
        packet[3] = PACKET_LENGTH as u8;
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator.map_or(0, NonZeroU32::get),
            self.desired_min_tx_micros,
            self.required_min_rx_micros,
            self.required_min_echo_rx_micros,
        ];
        for (place, word) in packet[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        packet
    }
}

const fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn read(words: &[u8; PACKET_LENGTH - 4]) -> [u32; 5] {
    let mut values = [0; 5];
    for (value, word) in values.iter_mut().zip(words.chunks_exact(4)) {
        *value = word.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
    }
    values
}

#[cfg(test)]
mod tests;
