//! Why a connection ends, what the peer is told, and whether its routes stay.

use super::event::{Closed, DownReason};
use super::fsm::{Actions, State};
use super::negotiate::Negotiated;
use crate::notification::{Notification, NotificationReason};
use crate::wire::MessageType;

/// What comes with an event.
pub(super) enum Fact {
    Nothing,
    /// The NOTIFICATION that it owes.
    Owed(Notification),
    /// The NOTIFICATION that came.
    Told(Notification),
    Closed(Closed),
    /// The message that it is.
    Message(MessageType),
}

/// Why the connection ends, if it does.
pub(super) fn reason(from: State, actions: Actions, fact: Fact) -> Option<DownReason> {
    if !actions.contains(Actions::DROP) {
        return None;
    }
    match fact {
        Fact::Nothing => Some(DownReason::PeerRestarted),
        Fact::Owed(owed) => actions.contains(Actions::NOTIFY).then_some(DownReason::Sent(owed)),
        Fact::Told(told) => Some(DownReason::Received(told)),
        Fact::Closed(closed) => Some(DownReason::Closed(closed)),
        Fact::Message(kind) => actions
            .contains(Actions::NOTIFY_UNEXPECTED)
            .then(|| DownReason::Sent(unexpected(from, kind))),
    }
}

/// Finite State Machine Error: the data is the type of the message (RFC 6608 section 4).
fn unexpected(state: State, kind: MessageType) -> Notification {
    let reason = match state {
        State::OpenSent => NotificationReason::UnexpectedInOpenSent,
        State::OpenConfirm => NotificationReason::UnexpectedInOpenConfirm,
        State::Established => NotificationReason::UnexpectedInEstablished,
        State::Idle | State::Active | State::Connect => NotificationReason::FiniteStateMachine,
    };
    Notification::new(reason, &[kind as u8])
}

/// Whether this reason means that the peer's routes shall go too (RFC 8538 section 5, RFC 9384
/// section 3).
pub(super) const fn is_final(reason: NotificationReason) -> bool {
    matches!(
        reason,
        NotificationReason::MaximumPrefixes
            | NotificationReason::AdministrativeShutdown
            | NotificationReason::PeerDeconfigured
            | NotificationReason::AdministrativeReset
            | NotificationReason::BfdDown
    )
}

/// The families whose routes are kept: those that the peer listed, after a lost connection, or a
/// NOTIFICATION in either direction if both agreed on that and it is no hard reset.
pub(super) fn keeps_routes(negotiated: Option<&Negotiated>, reason: &DownReason) -> [bool; 2] {
    let Some(restart) = negotiated.and_then(|negotiated| negotiated.restart) else {
        return [false; 2];
    };
    let keeps = match reason {
        DownReason::Closed(_) | DownReason::PeerRestarted => true,
        DownReason::Sent(told) | DownReason::Received(told) => {
            restart.notifications && told.reason != NotificationReason::HardReset
        }
    };
    restart.forwarding_kept.map(|family| keeps && family.is_some())
}
