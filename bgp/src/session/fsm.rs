//! The state machine of RFC 4271 section 8.2.2 as a pure function: a state and an event give the
//! next state and what is to be done. Nothing is done here, so no arm can forget a timer's owner.
//!
//! One machine belongs to each connection (section 8.2.1); a peer without one is Idle or Active. The
//! optional DelayOpen timer is not implemented. One departure: an attempt to connect that fails
//! leads to Active rather than to Idle, because an Idle peer would refuse the other's attempt.

use std::fmt;
use std::ops::BitOr;

/// A state of section 8.2.2, the least advanced first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Connections are refused and none is attempted.
    Idle,
    /// A connection of the peer is awaited.
    Active,
    /// A connection is attempted.
    Connect,
    /// Our OPEN is sent, the peer's is awaited.
    OpenSent,
    /// The peer's OPEN is accepted, its KEEPALIVE is awaited.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

/// What happens to a state machine; the numbers are those of section 8.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// An operator, or the end of the idle hold time, starts an active peer (1, 3, 13).
    Start,
    /// The same for a passive peer (4, 5).
    StartPassive,
    /// An operator, a changed configuration or BFD stops it (2, 8).
    Stop,
    /// The connect retry timer expires (9).
    ConnectRetryExpires,
    /// The hold timer expires (10).
    HoldExpires,
    /// The keepalive timer expires (11).
    KeepaliveExpires,
    /// The send hold timer expires (29, RFC 9687).
    SendHoldExpires,
    /// A TCP connection is there (16, 17).
    Connected,
    /// A TCP connection ended or was not had (18).
    ConnectionFailed,
    /// A valid OPEN came (19).
    Open,
    /// A message came that costs the session a NOTIFICATION: header, OPEN or UPDATE (21, 22, 28).
    Fault,
    /// This connection lost against another one (23).
    CollisionDump,
    /// The peer came back without this connection's end having been seen (RFC 4724 section 5).
    PeerRestarted,
    /// A NOTIFICATION came (24, 25).
    Notification,
    /// A KEEPALIVE came (26).
    Keepalive,
    /// An UPDATE without a fatal error came (27).
    Update,
    /// A ROUTE-REFRESH came (RFC 2918).
    Refresh,
}

/// What a transition asks for: a set, done in the order of the constants.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions(u16);

impl State {
    /// The name in status and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Active => "Active",
            Self::Connect => "Connect",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Actions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Send the NOTIFICATION that the event owes.
    pub const NOTIFY: Self = Self(1);
    /// Send Finite State Machine Error with the state's subcode and the message's type (RFC 6608).
    pub const NOTIFY_UNEXPECTED: Self = Self(1 << 1);
    /// Close the connection, once a NOTIFICATION is out.
    pub const DROP: Self = Self(1 << 2);
    /// Initiate a TCP connection.
    pub const CONNECT: Self = Self(1 << 3);
    /// Start the connect retry timer anew.
    pub const ARM_CONNECT_RETRY: Self = Self(1 << 4);
    /// Stop the connect retry timer.
    pub const STOP_CONNECT_RETRY: Self = Self(1 << 5);
    /// Send our OPEN.
    pub const SEND_OPEN: Self = Self(1 << 6);
    /// Start the hold timer with the large value for an OPEN.
    pub const ARM_OPEN_HOLD: Self = Self(1 << 7);
    /// Send a KEEPALIVE, and start the keepalive timer anew.
    pub const SEND_KEEPALIVE: Self = Self(1 << 8);
    /// Start the hold timer anew with the negotiated value.
    pub const ARM_HOLD: Self = Self(1 << 9);
    /// The session is established.
    pub const ESTABLISH: Self = Self(1 << 10);
    /// Hand the message on.
    pub const DELIVER: Self = Self(1 << 11);

    const NAMES: [&str; 12] = [
        "NOTIFY",
        "NOTIFY_UNEXPECTED",
        "DROP",
        "CONNECT",
        "ARM_CONNECT_RETRY",
        "STOP_CONNECT_RETRY",
        "SEND_OPEN",
        "ARM_OPEN_HOLD",
        "SEND_KEEPALIVE",
        "ARM_HOLD",
        "ESTABLISH",
        "DELIVER",
    ];

    /// Whether all of `actions` are asked for.
    #[must_use]
    pub const fn contains(self, actions: Self) -> bool {
        self.0 & actions.0 == actions.0
    }

    const fn and(self, actions: Self) -> Self {
        Self(self.0 | actions.0)
    }
}

impl BitOr for Actions {
    type Output = Self;

    fn bitor(self, actions: Self) -> Self {
        self.and(actions)
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = (0..Self::NAMES.len()).filter(|bit| self.0 & (1 << bit) != 0);
        formatter.debug_set().entries(asked.map(|bit| Self::NAMES[bit])).finish()
    }
}

/// The transition of `event` in `state`.
#[must_use]
pub const fn step(state: State, event: Event) -> (State, Actions) {
    match state {
        State::Idle => idle(event),
        State::Active => active(event),
        State::Connect => connect(event),
        State::OpenSent => open_sent(event),
        State::OpenConfirm => open_confirm(event),
        State::Established => established(event),
    }
}

const fn idle(event: Event) -> (State, Actions) {
    match event {
        Event::Start => (State::Connect, Actions::CONNECT.and(Actions::ARM_CONNECT_RETRY)),
        Event::StartPassive => (State::Active, Actions::NONE),
        Event::Stop
        | Event::ConnectRetryExpires
        | Event::HoldExpires
        | Event::KeepaliveExpires
        | Event::SendHoldExpires
        | Event::Connected
        | Event::ConnectionFailed
        | Event::Open
        | Event::Fault
        | Event::CollisionDump
        | Event::PeerRestarted
        | Event::Notification
        | Event::Keepalive
        | Event::Update
        | Event::Refresh => (State::Idle, Actions::NONE),
    }
}

const OPENING: Actions =
    Actions::STOP_CONNECT_RETRY.and(Actions::SEND_OPEN).and(Actions::ARM_OPEN_HOLD);

const fn active(event: Event) -> (State, Actions) {
    match event {
        Event::Start | Event::StartPassive => (State::Active, Actions::NONE),
        Event::ConnectRetryExpires => {
            (State::Connect, Actions::CONNECT.and(Actions::ARM_CONNECT_RETRY))
        }
        // The peer may connect while an attempt of our own is due: the timer runs on.
        Event::Connected => (State::OpenSent, Actions::SEND_OPEN.and(Actions::ARM_OPEN_HOLD)),
        Event::ConnectionFailed => (State::Active, Actions::ARM_CONNECT_RETRY),
        Event::Stop
        | Event::HoldExpires
        | Event::KeepaliveExpires
        | Event::SendHoldExpires
        | Event::Open
        | Event::Fault
        | Event::CollisionDump
        | Event::PeerRestarted
        | Event::Notification
        | Event::Keepalive
        | Event::Update
        | Event::Refresh => (State::Idle, Actions::DROP.and(Actions::STOP_CONNECT_RETRY)),
    }
}

const fn connect(event: Event) -> (State, Actions) {
    match event {
        Event::Start | Event::StartPassive => (State::Connect, Actions::NONE),
        Event::ConnectRetryExpires => {
            (State::Connect, Actions::DROP.and(Actions::CONNECT).and(Actions::ARM_CONNECT_RETRY))
        }
        Event::Connected => (State::OpenSent, OPENING),
        Event::ConnectionFailed => (State::Active, Actions::DROP.and(Actions::ARM_CONNECT_RETRY)),
        Event::Stop
        | Event::HoldExpires
        | Event::KeepaliveExpires
        | Event::SendHoldExpires
        | Event::Open
        | Event::Fault
        | Event::CollisionDump
        | Event::PeerRestarted
        | Event::Notification
        | Event::Keepalive
        | Event::Update
        | Event::Refresh => (State::Idle, Actions::DROP.and(Actions::STOP_CONNECT_RETRY)),
    }
}

const GIVE_UP: (State, Actions) = (State::Idle, Actions::DROP);
const NOTIFY_AND_GIVE_UP: (State, Actions) = (State::Idle, Actions::NOTIFY.and(Actions::DROP));
const UNEXPECTED: (State, Actions) = (State::Idle, Actions::NOTIFY_UNEXPECTED.and(Actions::DROP));

const fn open_sent(event: Event) -> (State, Actions) {
    match event {
        Event::Start | Event::StartPassive => (State::OpenSent, Actions::NONE),
        Event::Open => (State::OpenConfirm, Actions::SEND_KEEPALIVE.and(Actions::ARM_HOLD)),
        Event::ConnectionFailed => (State::Active, Actions::DROP.and(Actions::ARM_CONNECT_RETRY)),
        // No NOTIFICATION answers a NOTIFICATION.
        Event::Notification | Event::PeerRestarted => GIVE_UP,
        Event::Stop | Event::HoldExpires | Event::Fault | Event::CollisionDump => {
            NOTIFY_AND_GIVE_UP
        }
        // Nothing of the machine's own arms these here.
        Event::ConnectRetryExpires
        | Event::KeepaliveExpires
        | Event::SendHoldExpires
        | Event::Connected => (State::OpenSent, Actions::NONE),
        Event::Keepalive | Event::Update | Event::Refresh => UNEXPECTED,
    }
}

const fn open_confirm(event: Event) -> (State, Actions) {
    match event {
        Event::Start | Event::StartPassive => (State::OpenConfirm, Actions::NONE),
        Event::KeepaliveExpires => (State::OpenConfirm, Actions::SEND_KEEPALIVE),
        Event::Keepalive => (
            State::Established,
            Actions::STOP_CONNECT_RETRY.and(Actions::ARM_HOLD).and(Actions::ESTABLISH),
        ),
        Event::ConnectionFailed | Event::Notification | Event::PeerRestarted => GIVE_UP,
        Event::Stop | Event::HoldExpires | Event::Fault | Event::CollisionDump => {
            NOTIFY_AND_GIVE_UP
        }
        Event::ConnectRetryExpires | Event::SendHoldExpires | Event::Connected => {
            (State::OpenConfirm, Actions::NONE)
        }
        Event::Open | Event::Update | Event::Refresh => UNEXPECTED,
    }
}

const fn established(event: Event) -> (State, Actions) {
    match event {
        Event::Start | Event::StartPassive => (State::Established, Actions::NONE),
        Event::KeepaliveExpires => (State::Established, Actions::SEND_KEEPALIVE),
        Event::Keepalive => (State::Established, Actions::ARM_HOLD),
        Event::Update => (State::Established, Actions::ARM_HOLD.and(Actions::DELIVER)),
        // Only KEEPALIVE and UPDATE start the hold timer anew (section 4.2).
        Event::Refresh => (State::Established, Actions::DELIVER),
        Event::ConnectionFailed | Event::Notification | Event::PeerRestarted => GIVE_UP,
        Event::Stop
        | Event::HoldExpires
        | Event::SendHoldExpires
        | Event::Fault
        | Event::CollisionDump => NOTIFY_AND_GIVE_UP,
        Event::ConnectRetryExpires | Event::Connected => (State::Established, Actions::NONE),
        Event::Open => UNEXPECTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] = [
        State::Idle,
        State::Active,
        State::Connect,
        State::OpenSent,
        State::OpenConfirm,
        State::Established,
    ];

    const EVENTS: [Event; 17] = [
        Event::Start,
        Event::StartPassive,
        Event::Stop,
        Event::ConnectRetryExpires,
        Event::HoldExpires,
        Event::KeepaliveExpires,
        Event::SendHoldExpires,
        Event::Connected,
        Event::ConnectionFailed,
        Event::Open,
        Event::Fault,
        Event::CollisionDump,
        Event::PeerRestarted,
        Event::Notification,
        Event::Keepalive,
        Event::Update,
        Event::Refresh,
    ];

    /// Next state by row (event) and column (state), each by its initial: Idle, Active, Connect,
    /// OpenSent (S), OpenConfirm (F), Established.
    const NEXT: &str = "
        Start               C A C S F E
        StartPassive        A A C S F E
        Stop                I I I I I I
        ConnectRetryExpires I C C S F E
        HoldExpires         I I I I I I
        KeepaliveExpires    I I I S F E
        SendHoldExpires     I I I S F I
        Connected           I S S S F E
        ConnectionFailed    I A A A I I
        Open                I I I F I I
        Fault               I I I I I I
        CollisionDump       I I I I I I
        PeerRestarted       I I I I I I
        Notification        I I I I I I
        Keepalive           I I I I E E
        Update              I I I I I E
        Refresh             I I I I I E";

    fn of(letter: &str) -> State {
        match letter {
            "I" => State::Idle,
            "A" => State::Active,
            "C" => State::Connect,
            "S" => State::OpenSent,
            "F" => State::OpenConfirm,
            "E" => State::Established,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_event_in_every_state_leads_where_the_rfc_says() {
        let rows: Vec<Vec<&str>> =
            NEXT.trim().lines().map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows.len(), EVENTS.len());
        for (event, row) in EVENTS.into_iter().zip(&rows) {
            assert_eq!(format!("{event:?}"), row[0]);
            for (state, letter) in STATES.into_iter().zip(&row[1..]) {
                assert_eq!(step(state, event).0, of(letter), "{event:?} in {state}");
            }
        }
    }

    #[test]
    fn every_transition_asks_for_what_the_rfc_says() {
        use Actions as A;
        let asked = [
            (State::Idle, Event::Start, A::CONNECT | A::ARM_CONNECT_RETRY),
            (State::Active, Event::ConnectRetryExpires, A::CONNECT | A::ARM_CONNECT_RETRY),
            (State::Active, Event::Connected, A::SEND_OPEN | A::ARM_OPEN_HOLD),
            (State::Active, Event::ConnectionFailed, A::ARM_CONNECT_RETRY),
            (
                State::Connect,
                Event::ConnectRetryExpires,
                A::DROP | A::CONNECT | A::ARM_CONNECT_RETRY,
            ),
            (
                State::Connect,
                Event::Connected,
                A::STOP_CONNECT_RETRY | A::SEND_OPEN | A::ARM_OPEN_HOLD,
            ),
            (State::Connect, Event::ConnectionFailed, A::DROP | A::ARM_CONNECT_RETRY),
            (State::OpenSent, Event::ConnectionFailed, A::DROP | A::ARM_CONNECT_RETRY),
            (State::OpenSent, Event::Open, A::SEND_KEEPALIVE | A::ARM_HOLD),
            (State::OpenConfirm, Event::KeepaliveExpires, A::SEND_KEEPALIVE),
            (
                State::OpenConfirm,
                Event::Keepalive,
                A::STOP_CONNECT_RETRY | A::ARM_HOLD | A::ESTABLISH,
            ),
            (State::Established, Event::KeepaliveExpires, A::SEND_KEEPALIVE),
            (State::Established, Event::Keepalive, A::ARM_HOLD),
            (State::Established, Event::Update, A::ARM_HOLD | A::DELIVER),
            (State::Established, Event::Refresh, A::DELIVER),
        ];
        for state in STATES {
            for event in EVENTS {
                let (next, actions) = step(state, event);
                let listed = asked.iter().find(|entry| (entry.0, entry.1) == (state, event));
                let expected = match listed {
                    Some(&(_, _, expected)) => expected,
                    None if next == state => A::NONE,
                    None if (state, event) == (State::Idle, Event::StartPassive) => A::NONE,
                    None if state < State::OpenSent => A::DROP | A::STOP_CONNECT_RETRY,
                    None => ending(event),
                };
                assert_eq!(actions, expected, "{event:?} in {state}");
            }
        }
    }

    /// How an open connection ends.
    fn ending(event: Event) -> Actions {
        use Actions as A;
        match event {
            Event::ConnectionFailed | Event::Notification | Event::PeerRestarted => A::DROP,
            Event::Open | Event::Keepalive | Event::Update | Event::Refresh => {
                A::NOTIFY_UNEXPECTED | A::DROP
            }
            Event::Stop
            | Event::HoldExpires
            | Event::SendHoldExpires
            | Event::Fault
            | Event::CollisionDump => A::NOTIFY | A::DROP,
            Event::Start
            | Event::StartPassive
            | Event::ConnectRetryExpires
            | Event::KeepaliveExpires
            | Event::Connected => unreachable!("{event:?} ends nothing"),
        }
    }

    #[test]
    fn a_notification_is_never_answered_by_one() {
        for state in STATES {
            let (_, actions) = step(state, Event::Notification);
            let answer = Actions::NOTIFY;
            assert!(!actions.contains(answer) && !actions.contains(Actions::NOTIFY_UNEXPECTED));
        }
    }

    #[test]
    fn nothing_but_a_keepalive_in_open_confirm_establishes() {
        for state in STATES {
            for event in EVENTS {
                let establishes = step(state, event).1.contains(Actions::ESTABLISH);
                let expected = (state, event) == (State::OpenConfirm, Event::Keepalive);
                assert_eq!(establishes, expected, "{event:?} in {state}");
            }
        }
    }

    #[test]
    fn actions_show_their_names() {
        let actions = Actions::NOTIFY | Actions::DROP;
        assert_eq!(format!("{actions:?}"), r#"{"NOTIFY", "DROP"}"#);
    }
}
