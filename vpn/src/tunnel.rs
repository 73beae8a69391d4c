//! A tunnel of whatever kind, as the worker that owns it sees it.
//!
//! Drain it in this order: when [`poll_timeout`](Tunnel::poll_timeout) has passed,
//! [`handle_timeout`](Tunnel::handle_timeout); after that, and after every
//! [`handle_datagram`](Tunnel::handle_datagram) and [`seal`](Tunnel::seal) that queued,
//! [`poll_transmit`](Tunnel::poll_transmit) until it has nothing; then
//! [`poll_event`](Tunnel::poll_event) until it has nothing; then `poll_timeout` again.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nvgate_model::{DropReason, Instant};

use crate::allowed::AllowedPrefixes;
use crate::config::{KindConfig, TunnelConfig};
use crate::index::TunnelIndex;
use crate::status::{Received, Sealed, TunnelEvent, TunnelStatus};
use crate::wireguard::WireGuard;
use crate::wireguard::limits::Limits;
use crate::wireguard::receive::Inner;

#[cfg(test)]
mod tests;

/// One tunnel to one site. Belongs to one thread at a time.
pub struct Tunnel {
    index: TunnelIndex,
    allowed: AllowedPrefixes,
    kind: Kind,
}

/// The protocols a tunnel can speak.
enum Kind {
    WireGuard(Box<WireGuard>),
}

impl Tunnel {
    /// A tunnel that has not spoken yet. It begins a handshake by itself if it has an endpoint and
    /// a persistent keepalive; otherwise when a packet is to be sent. The seed decides the jitter.
    #[must_use]
    pub fn new(index: TunnelIndex, config: TunnelConfig, now: Instant, seed: u64) -> Self {
        Self::with_limits(index, config, Limits::WHITEPAPER, now, seed)
    }

    pub(crate) fn with_limits(
        index: TunnelIndex,
        config: TunnelConfig,
        limits: Limits,
        now: Instant,
        seed: u64,
    ) -> Self {
        let TunnelConfig { allowed, kind } = config;
        let KindConfig::WireGuard(config) = kind;
        let kind = Kind::WireGuard(Box::new(WireGuard::new(index, config, limits, now, seed)));
        Self { index, allowed, kind }
    }

    /// Changes the configuration. Prefixes, keepalive and endpoint leave the session as it is, and
    /// so does an own key that becomes the previous one. Another peer or preshared key ends it, and
    /// so does the loss of the own key that it was made with; a tunnel that was up then begins
    /// anew at once.
    pub fn reconfigure(&mut self, config: TunnelConfig, now: Instant) {
        self.allowed = config.allowed;
        match (&mut self.kind, config.kind) {
            (Kind::WireGuard(tunnel), KindConfig::WireGuard(config)) => {
                tunnel.reconfigure(config, now);
            }
        }
    }

    /// The number of this tunnel.
    #[must_use]
    pub const fn index(&self) -> TunnelIndex {
        self.index
    }

    /// Encrypts an IP packet, given in two pieces, into a UDP payload for
    /// [`endpoint`](Self::endpoint). The IP header is whole in `head`, or in `tail` if `head` is
    /// empty. `mtu` is the most bytes of an inner packet the path carries; zeros that pad the
    /// packet never exceed it. `out` needs 32 bytes more than the packet, plus up to 15 for
    /// padding.
    ///
    /// # Errors
    ///
    /// `TunnelInnerMalformed` for what has no IP header, `TunnelAllowed` for a destination outside
    /// the prefixes, `TooBig` for a packet beyond `mtu` or `out`, `TunnelNoEndpoint`.
    pub fn seal(
        &mut self,
        now: Instant,
        head: &[u8],
        tail: &[u8],
        mtu: usize,
        out: &mut [u8],
    ) -> Result<Sealed, DropReason> {
        let header = if head.is_empty() { tail } else { head };
        let destination = destination(header).ok_or(DropReason::TunnelInnerMalformed)?;
        if !self.allowed.contains(destination) {
            return Err(DropReason::TunnelAllowed);
        }
        match &mut self.kind {
            Kind::WireGuard(tunnel) => tunnel.seal(now, head, tail, mtu, out),
        }
    }

    /// Takes a datagram that [`Message::classify`](crate::Message::classify) or the
    /// [`Listener`](crate::Listener) found to be for this tunnel. `out` needs as many bytes as the
    /// datagram, and at least 148. A reply goes to `from`.
    ///
    /// # Errors
    ///
    /// The reason to count. With one of `TunnelSource` and `TunnelInnerMalformed` the message was
    /// authentic and has moved endpoint and timers; with any other nothing has changed but counters
    /// and the budget of handshakes.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Received, DropReason> {
        match &mut self.kind {
            Kind::WireGuard(tunnel) => match tunnel.handle_datagram(now, from, datagram, out)? {
                Inner::Packet(_, source) if !self.allowed.contains(source) => {
                    Err(DropReason::TunnelSource)
                }
                Inner::Packet(length, _) => {
                    tunnel.counters.inbound.count(length);
                    Ok(Received::Packet(0..length))
                }
                Inner::Reply(length) => Ok(Received::Reply(length)),
                Inner::Keepalive => Ok(Received::Keepalive),
                Inner::Nothing => Ok(Received::Nothing),
            },
        }
    }

    /// The next datagram that is due by itself: handshakes, queued packets, keepalives. `out`
    /// needs at least 148 bytes, and room for the largest packet that was queued and 32 bytes; a
    /// queued packet that does not fit is discarded.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        match &mut self.kind {
            Kind::WireGuard(tunnel) => tunnel.poll_transmit(now, out),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.kind {
            Kind::WireGuard(tunnel) => tunnel.poll_timeout(),
        }
    }

    /// Does what time has made due; harmless when called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.kind {
            Kind::WireGuard(tunnel) => tunnel.handle_timeout(now),
        }
    }

    /// Keeps a session at hand although nothing is to be sent: for a tunnel whose being up decides
    /// about routes. To be called every second or so; then
    /// [`poll_transmit`](Self::poll_transmit) has what it leads to.
    pub fn keep_up(&mut self, now: Instant) {
        match &mut self.kind {
            Kind::WireGuard(tunnel) => tunnel.keep_up(now),
        }
    }

    /// What has happened since it was last asked. Of several changes of one thing only the last is
    /// told, so nothing piles up.
    pub fn poll_event(&mut self) -> Option<TunnelEvent> {
        match &mut self.kind {
            Kind::WireGuard(tunnel) => tunnel.poll_event(),
        }
    }

    /// Where the peer was last heard, or is configured to be.
    #[must_use]
    pub const fn endpoint(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::WireGuard(tunnel) => tunnel.endpoint(),
        }
    }

    /// State and counters.
    #[must_use]
    pub fn status(&self, now: Instant) -> TunnelStatus {
        match &self.kind {
            Kind::WireGuard(tunnel) => tunnel.status(now),
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tunnel")
            .field("index", &self.index)
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

/// The destination address of an IP packet, if its fixed header is there.
fn destination(header: &[u8]) -> Option<IpAddr> {
    match header.first()? >> 4 {
        4 => header.get(16..20)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        6 => header.get(24..40)?.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}
