//! Site-to-site tunnels of one routing domain.
//!
//! Sans-IO: time comes in as an instant, chance as a seed, bytes in, bytes and events out. The
//! worker that owns a tunnel owns a [`Tunnel`]; a [`Listener`] says whose a handshake is, and
//! [`Message::classify`] whose everything else is, by arithmetic. WireGuard is the one protocol so
//! far; sections named without a document are those of its whitepaper (Donenfeld, 2020). Its
//! cryptography is boringtun's, its timers are this crate's.

mod allowed;
mod bucket;
mod config;
mod index;
mod keys;
mod listener;
mod liveness;
mod policer;
mod status;
mod tunnel;
mod wireguard;

pub use allowed::AllowedPrefixes;
pub use config::{KindConfig, OwnKeys, TunnelConfig, WireGuardConfig, inner_mtu, overhead};
pub use index::{Message, TunnelIndex};
pub use keys::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
pub use listener::{Identified, Listener, ListenerLimits};
pub use liveness::{Liveness, ProbeConfig, Reachability};
pub use policer::Policer;
pub use status::{
    DownReason, OwnKey, Received, Sealed, Traffic, TunnelCounters, TunnelEvent, TunnelState,
    TunnelStatus,
};
pub use tunnel::Tunnel;
