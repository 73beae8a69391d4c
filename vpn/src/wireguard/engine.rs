//! The cryptography of WireGuard: the only file that names boringtun.
//!
//! boringtun's timers are never run (decision 010), so it reads a clock for the timestamps of
//! initiations and the rotation of cookie secrets only, and draws ephemeral keys from the system.
//! It panics on buffers that are too short and queues packets without a session; this file is what
//! keeps it from either, so nothing else may call it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use nvgate_model::DropReason;
use x25519_dalek::{PublicKey as Point, StaticSecret};

use crate::index::{COOKIE_REPLY_LENGTH, DATA_OVERHEAD, INITIATION_LENGTH};
use crate::keys::{PresharedKey, PrivateKey, PublicKey};

/// What a handshake message must pass before it costs a Diffie-Hellman: the MACs for one key of
/// the gateway's (whitepaper section 5.4.4), and the reading of who sent an initiation.
pub(crate) struct Gate {
    key: PrivateKey,
    secret: StaticSecret,
    public: Point,
    /// Looks at the first MAC only.
    calm: Arc<RateLimiter>,
    /// Counts itself as always under load: also demands the second MAC.
    strict: RateLimiter,
}

/// What [`Gate::check_cookie`] found.
pub(crate) enum Cookie {
    /// The sender has shown that it receives at its address.
    Proven,
    /// It has not: this cookie reply, of so many bytes, tells it how.
    Owed(usize),
}

impl Gate {
    pub(crate) fn new(key: &PrivateKey) -> Self {
        let secret = key.secret();
        let public = Point::from(&secret);
        let calm = Arc::new(RateLimiter::new(&public, u64::MAX));
        let strict = RateLimiter::new(&public, 0);
        Self { key: key.clone(), secret, public, calm, strict }
    }

    pub(crate) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Whether the first MAC of a handshake message was made for this key.
    pub(crate) fn fits(&self, message: &[u8]) -> bool {
        self.calm.verify_packet(None, message, &mut []).is_ok()
    }

    /// Checks the second MAC of a handshake message whose first one fits; writes the reply that is
    /// owed otherwise. `out` holds at least [`COOKIE_REPLY_LENGTH`] bytes.
    pub(crate) fn check_cookie(
        &self,
        from: SocketAddr,
        message: &[u8],
        out: &mut [u8],
    ) -> Result<Cookie, DropReason> {
        match self.strict.verify_packet(Some(source(from)), message, out) {
            Ok(_) => Ok(Cookie::Proven),
            Err(TunnResult::WriteToNetwork(reply)) => Ok(Cookie::Owed(reply.len())),
            Err(TunnResult::Err(error)) => Err(reason(&error)),
            Err(
                TunnResult::Done
                | TunnResult::WriteToTunnelV4(..)
                | TunnResult::WriteToTunnelV6(..),
            ) => Err(DropReason::TunnelMalformed),
        }
    }

    /// Who claims to have sent this initiation: one Diffie-Hellman. Not proven before the tunnel
    /// has accepted the timestamp.
    pub(crate) fn read_sender(&self, initiation: &[u8]) -> Result<PublicKey, DropReason> {
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(initiation) else {
            return Err(DropReason::TunnelMalformed);
        };
        let sender = parse_handshake_anon(&self.secret, &self.public, &initiation)
            .map_err(|error| reason(&error))?
            .peer_static_public;
        PublicKey::from_bytes(sender).map_err(|_| DropReason::TunnelAuth)
    }
}

/// A dual-stack socket shows IPv4 as mapped IPv6; the cookie is for the address itself.
fn source(from: SocketAddr) -> IpAddr {
    from.ip().to_canonical()
}

/// One handshake state and its ring of sessions.
pub(crate) struct Engine {
    tunn: Box<Tunn>,
}

/// What became of a message that was accepted.
pub(crate) enum Opened {
    /// An inner packet of so many bytes, with this source.
    Packet(usize, IpAddr),
    /// An answer of so many bytes.
    Reply(usize),
    /// A keepalive, or a cookie taken.
    Nothing,
    /// It was authentic but held no IP packet.
    NoPacket,
}

impl Engine {
    /// An engine whose sessions are `number` and eight more bits.
    pub(crate) fn new(
        gate: &Gate,
        peer: PublicKey,
        preshared: Option<&PresharedKey>,
        number: u32,
    ) -> Self {
        let tunn = Tunn::new(
            gate.key.secret(),
            Point::from(*peer.as_bytes()),
            preshared.map(PresharedKey::bytes),
            None,
            number,
            Some(Arc::clone(&gate.calm)),
        );
        Self { tunn: Box::new(tunn) }
    }

    /// Writes a fresh initiation; `None` if `out` is shorter than one.
    pub(crate) fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        match self.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        }
    }

    /// Encrypts with the session that the engine holds for current. The caller knows that there is
    /// one; `None` if `out` is shorter than the message.
    pub(crate) fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        if out.len() < plaintext.len() + DATA_OVERHEAD {
            return None;
        }
        match self.tunn.encapsulate(plaintext, out) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        }
    }

    /// Takes any message for this engine. `out` must be as long as `message` at least, and hold an
    /// initiation; shorter is refused.
    pub(crate) fn open(&mut self, message: &[u8], out: &mut [u8]) -> Result<Opened, DropReason> {
        if out.len() < message.len().max(INITIATION_LENGTH) {
            return Err(DropReason::TooBig);
        }
        // An empty datagram would ask for boringtun's own queue.
        if message.len() < DATA_OVERHEAD {
            return Err(DropReason::TunnelMalformed);
        }
        match self.tunn.decapsulate(None, message, out) {
            TunnResult::WriteToTunnelV4(packet, from) => {
                Ok(Opened::Packet(packet.len(), IpAddr::V4(from)))
            }
            TunnResult::WriteToTunnelV6(packet, from) => {
                Ok(Opened::Packet(packet.len(), IpAddr::V6(from)))
            }
            TunnResult::WriteToNetwork(reply) => Ok(Opened::Reply(reply.len())),
            TunnResult::Done => Ok(Opened::Nothing),
            // By its length and type it was a message, so this is about what was inside.
            TunnResult::Err(WireGuardError::InvalidPacket) => Ok(Opened::NoPacket),
            TunnResult::Err(error) => Err(reason(&error)),
        }
    }

    /// Overwrites all keys of sessions and handshakes, but keeps the greatest timestamp received,
    /// so that initiations stay refused that were before.
    pub(crate) fn forget(&mut self, gate: &Gate) {
        let calm = Some(Arc::clone(&gate.calm));
        self.tunn.set_static_private(gate.key.secret(), gate.public, calm);
        // The ephemeral keys of the last two initiations stay until two others take their place;
        // these are never sent.
        let mut unsent = [0; INITIATION_LENGTH];
        self.initiate(&mut unsent);
        self.initiate(&mut unsent);
    }
}

const fn reason(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::InvalidMac => DropReason::TunnelMac,
        WireGuardError::UnderLoad => DropReason::TunnelHandshakeBudget,
        WireGuardError::WrongTai64nTimestamp
        | WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter => DropReason::TunnelReplay,
        WireGuardError::WrongKey | WireGuardError::InvalidAeadTag => DropReason::TunnelAuth,
        WireGuardError::WrongIndex
        | WireGuardError::UnexpectedPacket
        | WireGuardError::NoCurrentSession => DropReason::TunnelNoSession,
        WireGuardError::ConnectionExpired => DropReason::TunnelExpired,
        WireGuardError::DestinationBufferTooSmall => DropReason::TooBig,
        WireGuardError::IncorrectPacketLength
        | WireGuardError::WrongPacketType
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::InvalidPacket
        | WireGuardError::LockFailed => DropReason::TunnelMalformed,
    }
}

/// A cookie reply always fits where a whole datagram does.
const _: () = assert!(COOKIE_REPLY_LENGTH < INITIATION_LENGTH);
