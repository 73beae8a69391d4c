//! What goes to the peer: packets, sealed or queued, and what the timers owe.

use std::net::SocketAddr;

use nvgate_model::{DropReason, Instant};

use super::WireGuard;
use super::lane::{Role, Session};
use super::limits::{REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT};
use super::queue::Waiting;
use super::timers::Timer;
use crate::index::INITIATION_LENGTH;
use crate::status::Sealed;

/// What is encrypted is a multiple of this (whitepaper section 5.4.6).
const PADDING: usize = 16;

impl WireGuard {
    pub(crate) fn seal(
        &mut self,
        now: Instant,
        head: &[u8],
        tail: &[u8],
        mtu: usize,
        out: &mut [u8],
    ) -> Result<Sealed, DropReason> {
        let length = head.len() + tail.len();
        if length > mtu {
            return Err(DropReason::TooBig);
        }
        let padded = length.next_multiple_of(PADDING).min(mtu);
        if self.usable(now).is_none() {
            if self.endpoint.is_none() {
                return Err(DropReason::TunnelNoEndpoint);
            }
            self.begin_handshake(now);
            let mut plaintext = Vec::with_capacity(padded);
            join(&mut plaintext, head, tail, padded);
            self.queue.push(Waiting { plaintext, length });
            return Ok(Sealed::Queued);
        }
        let mut joined = std::mem::take(&mut self.joined);
        let plaintext = match (head, tail) {
            (whole, []) | ([], whole) if whole.len() == padded => whole,
            (head, tail) => {
                join(&mut joined, head, tail, padded);
                &joined
            }
        };
        let result = self.seal_plaintext(now, plaintext, length, out);
        self.joined = joined;
        result.map(Sealed::Datagram)
    }

    /// Seals with the session in use. A `length` of 0 is a keepalive.
    fn seal_plaintext(
        &mut self,
        now: Instant,
        plaintext: &[u8],
        length: usize,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let identity =
            self.identities[self.speaking].as_mut().ok_or(DropReason::TunnelNoSession)?;
        let (written, session) = identity.seal(plaintext, out)?;
        self.authentic_sent(now);
        if length > 0 {
            self.counters.outbound.count(length);
            self.data_sent(now);
        }
        if self.is_worn(&session, now) {
            self.begin_handshake(now);
        }
        Ok(written)
    }

    /// Whether a session that just sealed should be replaced (whitepaper section 6.2).
    fn is_worn(&self, session: &Session, now: Instant) -> bool {
        session.sealed >= self.limits.rekey_after_messages
            || session.role == Role::Initiator && session.age(now) >= REKEY_AFTER_TIME
    }

    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut [u8],
    ) -> Option<(usize, SocketAddr)> {
        let endpoint = self.endpoint?;
        let length = self
            .transmit_initiation(now, out)
            .or_else(|| self.transmit_queued(now, out))
            .or_else(|| self.transmit_keepalive(now, out))?;
        Some((length, endpoint))
    }

    fn transmit_initiation(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if !self.timers.is_due(Timer::Retransmit, now) || out.len() < INITIATION_LENGTH {
            return None;
        }
        let attempt = self.attempt.as_mut()?;
        if now.since(attempt.began) >= REKEY_ATTEMPT_TIME {
            self.give_up(now);
            return None;
        }
        // The peer may know one own key only. The one that worked last comes first, then by turns.
        let other = 1 - self.speaking;
        let is_others_turn = attempt.sent % 2 == 1 && self.identities[other].is_some();
        let slot = if is_others_turn { other } else { self.speaking };
        attempt.sent = attempt.sent.saturating_add(1);
        let jitter = self.jitter();
        self.timers.arm(Timer::Retransmit, now + REKEY_TIMEOUT + jitter);
        self.last_initiation = Some(now);
        let length = self.identities[slot].as_mut()?.initiate(out)?;
        self.counters.handshakes_tried += 1;
        self.authentic_sent(now);
        Some(length)
    }

    fn transmit_queued(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        while self.usable(now).is_some() {
            let waiting = self.queue.pop()?;
            let sealed = self.seal_plaintext(now, &waiting.plaintext, waiting.length, out);
            if let Ok(length) = sealed {
                return Some(length);
            }
            self.queue.unfit = self.queue.unfit.saturating_add(1);
        }
        None
    }

    /// An empty packet; without a session, the handshake that gives one says as much.
    fn transmit_keepalive(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if !std::mem::take(&mut self.keepalive_due) {
            return None;
        }
        if self.usable(now).is_none() {
            self.begin_handshake(now);
            return self.transmit_initiation(now, out);
        }
        self.seal_plaintext(now, &[], 0, out).ok()
    }
}

/// `head` and `tail` in one piece, with zeros up to `padded` bytes.
fn join(joined: &mut Vec<u8>, head: &[u8], tail: &[u8], padded: usize) {
    joined.clear();
    joined.extend_from_slice(head);
    joined.extend_from_slice(tail);
    joined.resize(padded, 0);
}
