//! The door for handshakes: whose they are, and whether they may cost anything now.
//!
//! One listener stands for one gateway key (and the one before) on one worker. It keeps three
//! bounds: handshakes a second above which senders must prove their address by a cookie
//! (whitepaper section 5.3), handshakes a second of one proven source, and handshakes a second at
//! all. None of them keeps state for a source: sources share a fixed number of buckets.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nvgate_model::{DropReason, Instant};
use nvgate_packet::flow_key::hash_words;

use crate::bucket::Bucket;
use crate::config::OwnKeys;
use crate::index::{COOKIE_REPLY_LENGTH, Message, TunnelIndex};
use crate::keys::{PrivateKey, PublicKey};
use crate::wireguard::engine::{Cookie, Gate};

#[cfg(test)]
mod tests;

/// Buckets that sources under load share, a power of two.
const SOURCE_BUCKETS: usize = 1024;
/// Handshakes a second of one bucket, and at once (as in Linux).
const SOURCE_RATE: (u32, u32) = (20, 5);
/// How long the listener counts as under load after the last handshake above the limit.
const LOAD_HOLD: Duration = Duration::from_secs(2);

/// What a listener may spend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerLimits {
    /// Handshake messages a second from which on cookies are demanded.
    pub calm_per_second: u32,
    /// Handshake messages a second that are let through at most; the others are dropped.
    pub most_per_second: u32,
}

impl Default for ListenerLimits {
    /// 100 and 1000: at a third of a millisecond each, tunnel's part included, a worker spends a
    /// thirtieth and a third of its time on them.
    fn default() -> Self {
        Self { calm_per_second: 100, most_per_second: 1000 }
    }
}

/// What is to be done with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identified {
    /// Give it to this tunnel.
    Tunnel(TunnelIndex),
    /// Send so many bytes of the output back to its source.
    Reply(usize),
}

/// See the module.
pub struct Listener {
    /// One for each own key, the current one first.
    gates: Vec<Gate>,
    peers: BTreeMap<PublicKey, TunnelIndex>,
    load: Bucket,
    loaded_until: Instant,
    total: Bucket,
    sources: Box<[Bucket]>,
    seed: u64,
}

impl Listener {
    /// A listener for the peers of these tunnels. The seed decides which sources share a bucket.
    #[must_use]
    pub fn new(
        own: &OwnKeys,
        peers: BTreeMap<PublicKey, TunnelIndex>,
        limits: ListenerLimits,
        now: Instant,
        seed: u64,
    ) -> Self {
        let ListenerLimits { calm_per_second, most_per_second } = limits;
        let source = Bucket::of_units(SOURCE_RATE.0, SOURCE_RATE.1, now);
        Self {
            gates: keys(own).map(Gate::new).collect(),
            peers,
            load: Bucket::of_units(calm_per_second, calm_per_second, now),
            loaded_until: Instant(0),
            total: Bucket::of_units(most_per_second, most_per_second, now),
            sources: vec![source; SOURCE_BUCKETS].into_boxed_slice(),
            seed,
        }
    }

    /// Changes keys and peers; cookies of a key that stays go on being valid.
    pub fn reconfigure(&mut self, own: &OwnKeys, peers: BTreeMap<PublicKey, TunnelIndex>) {
        let mut before = std::mem::take(&mut self.gates);
        self.gates = keys(own)
            .map(|key| {
                let kept = before.iter().position(|gate| gate.key() == key);
                kept.map_or_else(|| Gate::new(key), |index| before.swap_remove(index))
            })
            .collect();
        self.peers = peers;
    }

    /// Whose a datagram is. Handshake messages are checked here, the others are named by their
    /// receiver alone and checked by the tunnel. `out` needs at least 64 bytes.
    ///
    /// # Errors
    ///
    /// Besides those of [`Message::classify`]: `TunnelMac` for a message that was not made for
    /// the gateway's key, `TunnelHandshakeBudget`, `TunnelAuth` for an initiation that does not
    /// decrypt, `TunnelUnknownPeer`, `TooBig` for too short an `out`.
    pub fn identify(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Identified, DropReason> {
        let message = Message::classify(datagram)?;
        match message {
            Message::CookieReply(tunnel) | Message::Data(tunnel) => {
                return Ok(Identified::Tunnel(tunnel));
            }
            Message::Initiation | Message::Response(_) => {}
        }
        if out.len() < COOKIE_REPLY_LENGTH {
            return Err(DropReason::TooBig);
        }
        let position = self.gates.iter().position(|gate| gate.fits(datagram));
        let gate = position.ok_or(DropReason::TunnelMac)?;
        if self.is_under_load(now) {
            match self.gates[gate].check_cookie(from, datagram, out)? {
                Cookie::Owed(length) => return Ok(Identified::Reply(length)),
                Cookie::Proven => {}
            }
            if !self.source(from.ip()).take_one(now) {
                return Err(DropReason::TunnelHandshakeBudget);
            }
        }
        if !self.total.take_one(now) {
            return Err(DropReason::TunnelHandshakeBudget);
        }
        match message {
            Message::Response(tunnel) | Message::CookieReply(tunnel) | Message::Data(tunnel) => {
                Ok(Identified::Tunnel(tunnel))
            }
            Message::Initiation => {
                let sender = self.gates[gate].read_sender(datagram)?;
                let tunnel = self.peers.get(&sender).ok_or(DropReason::TunnelUnknownPeer)?;
                Ok(Identified::Tunnel(*tunnel))
            }
        }
    }

    /// Counts a handshake message, and says whether there are too many to trust their addresses.
    fn is_under_load(&mut self, now: Instant) -> bool {
        if !self.load.take_one(now) {
            self.loaded_until = now + LOAD_HOLD;
        }
        now < self.loaded_until
    }

    /// The bucket of a source: an IPv4 address, or the first 64 bits of an IPv6 one, which one
    /// sender has all addresses of.
    fn source(&mut self, address: IpAddr) -> &mut Bucket {
        let word = match address.to_canonical() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        let place = hash_words(word, 0, self.seed) as usize % SOURCE_BUCKETS;
        &mut self.sources[place]
    }
}

/// The keys of a gateway, the current one first, each once.
fn keys(own: &OwnKeys) -> impl Iterator<Item = &PrivateKey> {
    let previous = own.previous.as_ref().filter(|previous| **previous != own.current);
    std::iter::once(&own.current).chain(previous)
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listener").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}
