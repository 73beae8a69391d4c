//! The constants of the whitepaper's section 6.1, and those of this gateway.

use std::time::Duration;

/// An initiator whose session is this old begins another one when it sends.
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// A session this old neither sends nor receives.
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// A handshake that nobody answers for this long is given up.
pub(crate) const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// An initiation that is not answered for this long is sent anew.
pub(crate) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Retransmissions are this much later at most, so that both sides do not collide again.
pub(crate) const JITTER_MILLIS: u64 = 333;
/// Who received data and sent nothing for this long sends an empty packet.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Who sent data and received nothing for this long begins a handshake (section 6.5).
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
/// An initiator whose session is this old begins another one when it receives (section 6.2).
pub(crate) const REKEY_ON_RECEIVE: Duration = Duration::from_secs(165);
/// Keys are overwritten when no session came for this long (section 6.3).
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(540);

/// Handshake messages a second that one tunnel may cost the gateway.
pub(crate) const HANDSHAKES_PER_SECOND: u32 = 20;
/// Handshake messages at once.
pub(crate) const HANDSHAKE_BURST: u32 = 20;

/// Limits that take too long to reach in a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// After so many messages a session is replaced.
    pub(crate) rekey_after_messages: u64,
    /// After so many messages a session neither sends nor receives.
    pub(crate) reject_after_messages: u64,
}

impl Limits {
    pub(crate) const WHITEPAPER: Self =
        Self { rekey_after_messages: 1 << 60, reject_after_messages: u64::MAX - (1 << 13) };
}
