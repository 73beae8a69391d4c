//! What comes from the peer: from the receiver index to the engine, and what follows of it.

use std::net::{IpAddr, SocketAddr};

use nvgate_model::{DropReason, Instant};

use super::WireGuard;
use super::engine::Opened;
use super::lane::Role;
use super::limits::{FORGET_AFTER, REKEY_ON_RECEIVE};
use super::timers::Timer;
use crate::index::{Message, Receiver, word};
use crate::status::{DownReason, TunnelState};

/// What a datagram was, before the inner source is checked.
pub(crate) enum Inner {
    Packet(usize, IpAddr),
    Reply(usize),
    Keepalive,
    Nothing,
}

impl WireGuard {
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Inner, DropReason> {
        let result = match Message::classify(datagram)? {
            Message::Initiation => self.handle_initiation(now, from, datagram, out),
            Message::Response(_) => self.handle_response(now, from, datagram, out),
            Message::CookieReply(_) => self.handle_cookie_reply(datagram, out),
            Message::Data(_) => self.handle_data(now, from, datagram, out),
        };
        match result {
            Err(DropReason::TunnelReplay) => self.counters.replays += 1,
            Err(DropReason::TunnelAuth) => self.counters.auth_failures += 1,
            Ok(_) | Err(_) => {}
        }
        result
    }

    fn handle_initiation(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Inner, DropReason> {
        let addressed =
            self.identities.iter_mut().flatten().find(|identity| identity.fits(datagram));
        let identity = addressed.ok_or(DropReason::TunnelMac)?;
        if !self.budget.take_one(now) {
            return Err(DropReason::TunnelHandshakeBudget);
        }
        let length = identity.open_initiation(now, datagram, out)?;
        self.timers.arm(Timer::Forget, now + FORGET_AFTER);
        self.authentic_received(now, from);
        self.authentic_sent(now);
        Ok(Inner::Reply(length))
    }

    fn handle_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Inner, DropReason> {
        let receiver = self.receiver(datagram, 8)?;
        let slot = receiver.lane.identity;
        let identity = self.identities[slot].as_mut().ok_or(DropReason::TunnelNoSession)?;
        if !identity.fits(datagram) {
            return Err(DropReason::TunnelMac);
        }
        if !self.budget.take_one(now) {
            return Err(DropReason::TunnelHandshakeBudget);
        }
        let length = identity.open_response(now, receiver, datagram, out)?;
        self.session_made(now, slot, now);
        self.authentic_received(now, from);
        self.authentic_sent(now);
        Ok(Inner::Reply(length))
    }

    fn handle_cookie_reply(
        &mut self,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Inner, DropReason> {
        let receiver = self.receiver(datagram, 4)?;
        let identity =
            self.identities[receiver.lane.identity].as_mut().ok_or(DropReason::TunnelNoSession)?;
        identity.open_cookie(receiver, datagram, out)?;
        Ok(Inner::Nothing)
    }

    fn handle_data(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Inner, DropReason> {
        let receiver = self.receiver(datagram, 4)?;
        let slot = receiver.lane.identity;
        let identity = self.identities[slot].as_mut().ok_or(DropReason::TunnelNoSession)?;
        let data = identity.open_data(now, receiver, datagram, out, &self.limits)?;
        if data.confirmed_now {
            self.session_made(now, slot, data.session.born);
        }
        self.authentic_received(now, from);
        if self.state == TunnelState::Down(DownReason::NoResponse) && self.usable(now).is_some() {
            self.state = TunnelState::Up;
        }
        if data.session.role == Role::Initiator && data.session.age(now) >= REKEY_ON_RECEIVE {
            self.begin_handshake(now);
        }
        match data.opened {
            Opened::Packet(length, source) => {
                self.data_received(now);
                Ok(Inner::Packet(length, source))
            }
            Opened::Nothing => Ok(Inner::Keepalive),
            Opened::NoPacket | Opened::Reply(_) => Err(DropReason::TunnelInnerMalformed),
        }
    }

    /// The receiver named at `at`, if it is this tunnel.
    fn receiver(&self, datagram: &[u8], at: usize) -> Result<Receiver, DropReason> {
        word(datagram, at)
            .and_then(Receiver::read)
            .filter(|receiver| receiver.tunnel == self.index)
            .ok_or(DropReason::TunnelNoSession)
    }
}
