//! What a tunnel is configured to be, as proven by the deployment plan.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use nvgate_packet::headers::Family;

use crate::allowed::AllowedPrefixes;
use crate::keys::{PresharedKey, PrivateKey, PublicKey};

/// One tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelConfig {
    /// What may come out of the tunnel by its source, and go into it by its destination.
    pub allowed: AllowedPrefixes,
    /// The protocol, with its own part of the configuration.
    pub kind: KindConfig,
}

/// The protocol of a tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KindConfig {
    /// WireGuard.
    WireGuard(WireGuardConfig),
}

/// One WireGuard peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WireGuardConfig {
    /// The gateway's side.
    pub own: OwnKeys,
    /// The peer's side.
    pub peer: PublicKey,
    /// A symmetric key of both sides.
    pub preshared: Option<PresharedKey>,
    /// Where the peer is to be reached; without one the tunnel waits for the peer. Whatever is
    /// configured, the tunnel follows its peer (whitepaper section 2.1).
    pub endpoint: Option<SocketAddr>,
    /// Seconds of silence after which an empty packet keeps the way open (section 6.5).
    pub persistent_keepalive_secs: Option<NonZeroU16>,
}

/// A gateway key, and the one before it while peers are still being told of the new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnKeys {
    /// The key.
    pub current: PrivateKey,
    /// The key before; handshakes by and for it still work.
    pub previous: Option<PrivateKey>,
}

/// Bytes of outer headers around an inner packet: IP (20 or 40), UDP 8, WireGuard 32.
#[must_use]
pub const fn overhead(outer: Family) -> usize {
    match outer {
        Family::V4 => 60,
        Family::V6 => 80,
    }
}

/// The largest inner packet that a path of `path_mtu` bytes carries in one datagram; padding never
/// makes it larger (section 5.4.6).
#[must_use]
pub const fn inner_mtu(path_mtu: usize, outer: Family) -> usize {
    path_mtu.saturating_sub(overhead(outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_1500_byte_path_leaves_1440_or_1420_bytes() {
        assert_eq!(inner_mtu(1500, Family::V4), 1440);
        assert_eq!(inner_mtu(1500, Family::V6), 1420);
        assert_eq!(inner_mtu(40, Family::V6), 0);
    }
}
