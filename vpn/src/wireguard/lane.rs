//! One engine with a table of its sessions: the engine has their keys, the table what the engine
//! does not keep: age, role, and whether the peer has shown that it has the keys too.
//!
//! Laws the table relies on, both read from boringtun: a new session takes the place of the one
//! eight numbers before, and a packet is sealed with the session of the last authentic packet or
//! response. The second is why there are two lanes: of two sessions in one engine, a delayed packet
//! of the older would bring it back for sealing. So every handshake goes to the lane that is not in
//! use, and what is there from before is given up once a new session is born in it, as in Linux
//! (current, previous, next). Two sessions share a lane only if both sides initiated at the same
//! time; they are of the same age, and either may seal.

use std::time::Duration;

use nvgate_model::{DropReason, Instant};

use super::engine::{Engine, Gate, Opened};
use super::limits::{Limits, REJECT_AFTER_TIME};
use crate::index::{self, Receiver};

/// Sessions an engine keeps.
const RING: usize = 8;

pub(crate) struct Lane {
    engine: Engine,
    sessions: [Option<Session>; RING],
    /// The number of the session that the engine seals with.
    sealing: u8,
    /// The other lane took over: the next session born here displaces those that are left.
    draining: bool,
}

/// Who began a session's handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    number: u8,
    /// What the peer calls it.
    peer_index: u32,
    pub(crate) born: Instant,
    pub(crate) role: Role,
    /// A responder may send only after the initiator did (whitepaper section 5.4.6).
    confirmed: bool,
    /// Messages sealed: the counter of the next one.
    pub(crate) sealed: u64,
}

impl Session {
    pub(crate) const fn age(&self, now: Instant) -> Duration {
        now.since(self.born)
    }
}

/// An authentic data message.
pub(crate) struct OpenedData {
    pub(crate) opened: Opened,
    pub(crate) session: Session,
    /// It is the first of a session that the peer began.
    pub(crate) confirmed_now: bool,
}

impl Lane {
    pub(crate) const fn new(engine: Engine) -> Self {
        Self { engine, sessions: [None; RING], sealing: 0, draining: false }
    }

    /// The session that [`seal`](Self::seal) would use, if it may.
    pub(crate) fn usable(&self, now: Instant, limits: &Limits) -> Option<&Session> {
        self.session(self.sealing).filter(|session| {
            session.confirmed
                && session.age(now) < REJECT_AFTER_TIME
                && session.sealed < limits.reject_after_messages
        })
    }

    fn session(&self, number: u8) -> Option<&Session> {
        self.sessions[usize::from(number) % RING]
            .as_ref()
            .filter(|session| session.number == number)
    }

    /// Encrypts `plaintext` with the session that [`usable`](Self::usable) gave.
    ///
    /// # Errors
    ///
    /// `TooBig` if `out` is too short, `TunnelNoSession` if there is none.
    pub(crate) fn seal(
        &mut self,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, Session), DropReason> {
        let session = self.sessions[usize::from(self.sealing) % RING]
            .as_mut()
            .ok_or(DropReason::TunnelNoSession)?;
        let length = self.engine.seal(plaintext, out).ok_or(DropReason::TooBig)?;
        // Never otherwise while the second law of the module holds.
        if index::word(out, 4) != Some(session.peer_index) {
            return Err(DropReason::TunnelNoSession);
        }
        session.sealed = index::counter(out).map_or(u64::MAX, |counter| counter.saturating_add(1));
        Ok((length, *session))
    }

    /// Decrypts a data message of `session`.
    pub(crate) fn open_data(
        &mut self,
        now: Instant,
        number: u8,
        message: &[u8],
        out: &mut [u8],
        limits: &Limits,
    ) -> Result<OpenedData, DropReason> {
        let slot = usize::from(number) % RING;
        let session = self.session(number).ok_or(DropReason::TunnelNoSession)?;
        // Beyond the limit the engine's own arithmetic on counters would overflow.
        let within = index::counter(message).is_some_and(|it| it < limits.reject_after_messages);
        if session.age(now) >= REJECT_AFTER_TIME || !within {
            return Err(DropReason::TunnelExpired);
        }
        let opened = self.engine.open(message, out)?;
        self.sealing = number;
        let session = self.sessions[slot].as_mut().ok_or(DropReason::TunnelNoSession)?;
        let confirmed_now = !std::mem::replace(&mut session.confirmed, true);
        Ok(OpenedData { opened, session: *session, confirmed_now })
    }

    /// Takes an initiation by the peer, and writes the response.
    pub(crate) fn open_initiation(
        &mut self,
        now: Instant,
        message: &[u8],
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let Opened::Reply(length) = self.engine.open(message, out)? else {
            return Err(DropReason::TunnelMalformed);
        };
        let (Some(own), Some(peer)) = (index::word(out, 4), index::word(message, 4)) else {
            return Err(DropReason::TunnelMalformed);
        };
        self.born(now, own as u8, peer, Role::Responder);
        Ok(length)
    }

    /// Takes a response to an initiation of ours, and writes the first message of the session.
    pub(crate) fn open_response(
        &mut self,
        now: Instant,
        receiver: Receiver,
        message: &[u8],
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let Opened::Reply(length) = self.engine.open(message, out)? else {
            return Err(DropReason::TunnelMalformed);
        };
        let peer = index::word(message, 4).ok_or(DropReason::TunnelMalformed)?;
        self.born(now, receiver.session, peer, Role::Initiator);
        self.sealing = receiver.session;
        Ok(length)
    }

    fn born(&mut self, now: Instant, number: u8, peer_index: u32, role: Role) {
        if std::mem::take(&mut self.draining) {
            self.sessions = [None; RING];
        }
        // The engine has sealed the initiator's first message already.
        let (confirmed, sealed) = match role {
            Role::Initiator => (true, 1),
            Role::Responder => (false, 0),
        };
        self.sessions[usize::from(number) % RING] =
            Some(Session { number, peer_index, born: now, role, confirmed, sealed });
    }

    /// Takes a cookie for the last handshake message.
    pub(crate) fn open_cookie(&mut self, message: &[u8], out: &mut [u8]) -> Result<(), DropReason> {
        self.engine.open(message, out).map(|_| ())
    }

    pub(crate) fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        self.engine.initiate(out)
    }

    /// Lets the engine see an initiation that the other lane accepted, so that it refuses it and
    /// all before it.
    pub(crate) fn catch_up(&mut self, message: &[u8], out: &mut [u8]) {
        // The session that comes of it is in no table, so it is never used. An error says that
        // the engine knew the message already.
        let _ = self.engine.open(message, out);
    }

    /// The other lane takes over.
    pub(crate) const fn drain(&mut self) {
        self.draining = true;
    }

    /// Overwrites every key but the static ones.
    pub(crate) fn forget(&mut self, gate: &Gate) {
        self.engine.forget(gate);
        self.sessions = [None; RING];
    }
}
