//! One own key towards the peer, with its two lanes: one in use, one for the next handshake.

use nvgate_model::{DropReason, Instant};

use super::engine::{Engine, Gate};
use super::lane::{Lane, OpenedData, Session};
use super::limits::Limits;
use crate::index::{INITIATION_LENGTH, LaneId, Receiver, TunnelIndex};
use crate::keys::{PresharedKey, PrivateKey, PublicKey};

pub(crate) struct Identity {
    gate: Gate,
    lanes: [Lane; 2],
    /// The lane that seals.
    active: usize,
    /// The newest initiation accepted by either lane.
    newest_initiation: Option<[u8; INITIATION_LENGTH]>,
    /// Which lanes' engines have seen it.
    seen: [bool; 2],
}

impl Identity {
    /// `slot` is 0 or 1, and part of the receiver indices.
    pub(crate) fn new(
        tunnel: TunnelIndex,
        slot: usize,
        own: &PrivateKey,
        peer: PublicKey,
        preshared: Option<&PresharedKey>,
    ) -> Self {
        let gate = Gate::new(own);
        let lanes = [0, 1].map(|lane| {
            let number = Receiver::engine_number(tunnel, LaneId { identity: slot, lane });
            Lane::new(Engine::new(&gate, peer, preshared, number))
        });
        Self { gate, lanes, active: 0, newest_initiation: None, seen: [true; 2] }
    }

    /// Another preshared key: nothing of the sessions stays, but initiations that were received
    /// stay refused, since they do not depend on it.
    pub(crate) fn with_preshared(
        &self,
        tunnel: TunnelIndex,
        slot: usize,
        peer: PublicKey,
        preshared: Option<&PresharedKey>,
    ) -> Self {
        let mut next = Self::new(tunnel, slot, self.gate.key(), peer, preshared);
        next.newest_initiation = self.newest_initiation;
        next.seen = [self.newest_initiation.is_none(); 2];
        next
    }

    pub(crate) const fn key(&self) -> &PrivateKey {
        self.gate.key()
    }

    /// Whether a handshake message was made for this key.
    pub(crate) fn fits(&self, message: &[u8]) -> bool {
        self.gate.fits(message)
    }

    pub(crate) fn usable(&self, now: Instant, limits: &Limits) -> Option<&Session> {
        self.lanes[self.active].usable(now, limits)
    }

    pub(crate) fn seal(
        &mut self,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, Session), DropReason> {
        self.lanes[self.active].seal(plaintext, out)
    }

    pub(crate) fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        self.standby(out).initiate(out)
    }

    /// The lane for the next handshake, which has then seen every initiation that was accepted.
    /// Before ours rather than after: a lane that learns of another initiation forgets its own.
    fn standby(&mut self, scratch: &mut [u8]) -> &mut Lane {
        let standby = 1 - self.active;
        let was_seen = std::mem::replace(&mut self.seen[standby], true);
        if let Some(newest) = self.newest_initiation.filter(|_| !was_seen) {
            self.lanes[standby].catch_up(&newest, scratch);
        }
        &mut self.lanes[standby]
    }

    pub(crate) fn open_initiation(
        &mut self,
        now: Instant,
        message: &[u8],
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let length = self.standby(out).open_initiation(now, message, out)?;
        self.newest_initiation = message.first_chunk().copied();
        self.seen[self.active] = false;
        Ok(length)
    }

    pub(crate) fn open_response(
        &mut self,
        now: Instant,
        receiver: Receiver,
        message: &[u8],
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let lane = receiver.lane.lane;
        let length = self.lanes[lane].open_response(now, receiver, message, out)?;
        self.activate(lane);
        Ok(length)
    }

    pub(crate) fn open_data(
        &mut self,
        now: Instant,
        receiver: Receiver,
        message: &[u8],
        out: &mut [u8],
        limits: &Limits,
    ) -> Result<OpenedData, DropReason> {
        let lane = receiver.lane.lane;
        let opened = self.lanes[lane].open_data(now, receiver.session, message, out, limits)?;
        if opened.confirmed_now {
            self.activate(lane);
        }
        Ok(opened)
    }

    pub(crate) fn open_cookie(
        &mut self,
        receiver: Receiver,
        message: &[u8],
        out: &mut [u8],
    ) -> Result<(), DropReason> {
        self.lanes[receiver.lane.lane].open_cookie(message, out)
    }

    fn activate(&mut self, lane: usize) {
        if lane != self.active {
            self.lanes[self.active].drain();
            self.active = lane;
        }
    }

    /// Overwrites every key but the static ones.
    pub(crate) fn forget(&mut self) {
        for lane in &mut self.lanes {
            lane.forget(&self.gate);
        }
    }
}
