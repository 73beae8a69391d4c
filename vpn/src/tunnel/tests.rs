//! What tunnels promise, one claim a test, on two tunnels against each other in virtual time.

use std::time::Duration;

use nvgate_model::Prefix;

use self::net::{A, B, Fault, Net, address, config, keepalive, own, packet, packet_v6, wireguard};
use super::*;
use crate::wireguard::limits::Limits;
use crate::{DownReason, OwnKey, OwnKeys, PresharedKey, PrivateKey, TunnelState, WireGuardConfig};

mod handshakes;
mod hostile;
mod keys;
mod net;
mod timers;

/// Message types (whitepaper section 5.4).
const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const DATA: u8 = 4;
