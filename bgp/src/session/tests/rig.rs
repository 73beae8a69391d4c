//! One session and what its peer's endpoint would see of it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use nvgate_model::{Asn, Instant};

use crate::NeighborKind;
use crate::config::tests::peer_config;
use crate::config::{AsnRange, GracefulRestart, PeerConfig, RestartTime};
use crate::impact::{self, Impact};
use crate::session::negotiate::local_open;
use crate::session::*;
use crate::wire::{Message, MessageLimit, Open, encode_notification, encode_open};

pub(super) struct Rig {
    pub session: Session,
    pub now: Instant,
    /// Events that had to be taken for messages to come.
    pub told: Vec<SessionEvent>,
}

/// What was sent, without what routes are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    Open,
    Update,
    Notification(Notification),
    Keepalive,
    Refresh(RouteRefresh),
}

pub(super) fn endpoints() -> Endpoints {
    Endpoints {
        local: "192.0.2.1:179".parse().unwrap(),
        remote: "192.0.2.2:50000".parse().unwrap(),
    }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The peer of [`peer_config`], seen from its own side.
pub(super) fn mirrored(config: &PeerConfig) -> PeerConfig {
    PeerConfig {
        local_asn: Asn(64_497),
        remote_asns: AsnRange::single(config.shown_asn()),
        router_id: Ipv4Addr::new(192, 0, 2, 2),
        remote_address: "192.0.2.1".parse().unwrap(),
        ..config.clone()
    }
}

pub(super) fn full_restart(notifications: bool) -> GracefulRestart {
    GracefulRestart::Full { restart_time: RestartTime::new(120).unwrap(), notifications }
}

pub(super) fn restarting_config(notifications: bool) -> PeerConfig {
    PeerConfig { graceful_restart: full_restart(notifications), ..peer_config() }
}

/// The OPEN that the peer of this configuration sends.
pub(super) fn peer_open(config: &PeerConfig) -> Open {
    local_open(&mirrored(config), Restarting::default())
}

pub(super) fn open_bytes(open: &Open) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_open(open, &mut bytes).unwrap();
    bytes
}

pub(super) fn notification_bytes(notification: &Notification) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_notification(notification, MessageLimit::Standard, &mut bytes);
    bytes
}

/// A message with this type and body.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap();
    [&[0xFF; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

pub(super) fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// An UPDATE that says nothing: an End-of-RIB of IPv4.
pub(super) fn update() -> Vec<u8> {
    message(2, &[0; 4])
}

pub(super) fn owed(reason: NotificationReason, data: &[u8]) -> Notification {
    Notification::new(reason, data)
}

impl Rig {
    pub(super) fn new(config: PeerConfig) -> Self {
        let now = Instant::default() + seconds(1000);
        let mut session = Session::new(Arc::new(config), 7);
        session.start(now);
        Self { session, now, told: Vec::new() }
    }

    /// A session that waits for its peer, so that no attempts of its own are in the way.
    pub(super) fn passive(config: PeerConfig) -> Self {
        Self::new(PeerConfig { opening: crate::config::Opening::Passive, ..config })
    }

    /// A passive session in this state, over its first connection, with nothing left to take.
    pub(super) fn at(state: State, config: PeerConfig) -> Self {
        let open = peer_open(&config);
        let mut rig = Self::passive(config);
        rig.incoming();
        if state > State::OpenSent {
            rig.receive(Connection::First, &open_bytes(&open));
        }
        if state > State::OpenConfirm {
            rig.receive(Connection::First, &keepalive());
        }
        rig.sent(Connection::First);
        rig.events();
        assert_eq!(rig.session.state(), state);
        rig
    }

    pub(super) fn established(config: PeerConfig) -> Self {
        Self::at(State::Established, config)
    }

    pub(super) fn incoming(&mut self) -> Connection {
        self.session.handle_incoming(self.now, endpoints()).expect("it is taken")
    }

    /// All the bytes come and are handled; what is for the speaker.
    pub(super) fn receive(&mut self, connection: Connection, bytes: &[u8]) -> Vec<String> {
        assert_eq!(self.session.handle_bytes(connection, bytes), bytes.len());
        self.messages()
    }

    pub(super) fn messages(&mut self) -> Vec<String> {
        let mut messages = Vec::new();
        loop {
            while let Some(received) = self.session.poll_message(self.now) {
                messages.push(match received {
                    Received::Update(..) => "update".to_owned(),
                    Received::Refresh(family, kind) => format!("{kind:?} {family}"),
                });
            }
            let before = self.told.len();
            self.told.extend(std::iter::from_fn(|| self.session.poll_event()));
            if self.told.len() == before {
                return messages;
            }
        }
    }

    /// TCP takes everything.
    pub(super) fn sent(&mut self, connection: Connection) -> Vec<Sent> {
        let bytes = self.session.poll_transmit(connection).to_vec();
        self.session.handle_transmitted(self.now, connection, bytes.len());
        parse(&bytes)
    }

    pub(super) fn events(&mut self) -> Vec<SessionEvent> {
        let mut told = std::mem::take(&mut self.told);
        told.extend(std::iter::from_fn(|| self.session.poll_event()));
        told
    }

    /// Time goes on to the next timer, which is this one, and it is served.
    pub(super) fn expire(&mut self, timer: Timer) -> Duration {
        let (due, next) = self.session.poll_timeout().expect("a timer runs");
        assert_eq!(next, timer);
        let waited = due.since(self.now);
        self.now = due;
        self.session.handle_timeout(self.now);
        waited
    }

    pub(super) fn reconfigure(&mut self, config: PeerConfig) -> Impact {
        let impact = impact::of(self.session.config(), &config);
        self.session.reconfigure(self.now, Arc::new(config), impact);
        impact
    }
}

pub(super) fn parse(mut bytes: &[u8]) -> Vec<Sent> {
    let codec = Codec::initial(NeighborKind::External);
    let mut sent = Vec::new();
    while let Some(frame) = wire::frame(bytes, MessageLimit::Extended).unwrap() {
        bytes = &bytes[frame.bytes().len()..];
        sent.push(match wire::decode(frame, &codec).unwrap() {
            Message::Open(_) => Sent::Open,
            Message::Update(_) => Sent::Update,
            Message::Notification(notification) => Sent::Notification(notification),
            Message::Keepalive => Sent::Keepalive,
            Message::Refresh(refresh) => Sent::Refresh(refresh),
        });
    }
    assert!(bytes.is_empty(), "half a message: {bytes:02x?}");
    sent
}

pub(super) fn down(reason: DownReason, keeps_routes: [bool; 2]) -> SessionEvent {
    SessionEvent::Down(Down { reason, keeps_routes })
}
