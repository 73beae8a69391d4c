//! From the speaker's stream to BMP messages: no sockets, no waiting.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::utsname::uname;
use nvgate_bgp::bmp::{
    self, Peer, PeerDown, Rib, Stage, Statistic, Termination, Timestamp, Transport,
};
use nvgate_bgp::session::{Down, DownReason, Negotiated};
use nvgate_bgp::speaker::{Monitored, PeerIndex, Place, Speaker};
use nvgate_bgp::wire::{MessageLimit, encode_notification};
use nvgate_bgp::{AsnWidth, Family};

/// RFC 4271 section 8.1.4: the peer's new connection is confirmed.
const TCP_CONNECTION_CONFIRMED: u16 = 17;

/// What a connection was told.
#[derive(Default)]
pub(super) struct Feed {
    sessions: BTreeMap<PeerIndex, Session>,
}

/// A session whose Peer Up was told.
struct Session {
    peer: Peer,
    width: AsnWidth,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fed {
    /// Everything is told.
    All,
    /// There is more.
    More,
    /// Something was not told: what was is void.
    Overrun,
}

impl Feed {
    /// The beginning of a connection: who speaks (RFC 7854 section 4.3).
    pub(super) fn begin(out: &mut Vec<u8>) -> Self {
        let machine = uname();
        let name = machine.as_ref().map(|machine| machine.nodename().to_string_lossy());
        let name = name.unwrap_or_default();
        bmp::encode_initiation(concat!("nvgate ", env!("CARGO_PKG_VERSION")), &name, out);
        Self::default()
    }

    /// The end of a connection.
    pub(super) fn end(&mut self, reason: Termination, out: &mut Vec<u8>) {
        self.sessions.clear();
        bmp::encode_termination(reason, out);
    }

    /// One step of the speaker's stream.
    pub(super) fn step(&mut self, speaker: &mut Speaker, out: &mut Vec<u8>) -> Fed {
        if !speaker.has_monitored() {
            return Fed::All;
        }
        let monitored = speaker.poll_monitored();
        monitored.map_or(Fed::More, |monitored| self.tell(monitored, wall_clock(), out))
    }

    fn tell(&mut self, monitored: Monitored, time: Timestamp, out: &mut Vec<u8>) -> Fed {
        match monitored {
            Monitored::Up(index, agreed) => self.tell_up(index, &agreed, time, out),
            // When they came is not known (section 4.2).
            Monitored::Held(index, updates) => {
                self.tell_routes(index, &updates, Timestamp::default(), out);
            }
            Monitored::Update(index, updates) => self.tell_routes(index, &updates, time, out),
            Monitored::Down(index, down) => {
                if let Some(session) = self.sessions.remove(&index) {
                    tell_down(&session.peer, &down, time, out);
                }
            }
            Monitored::Overrun => return Fed::Overrun,
        }
        Fed::More
    }

    fn tell_up(
        &mut self,
        index: PeerIndex,
        agreed: &Negotiated,
        time: Timestamp,
        out: &mut Vec<u8>,
    ) {
        let ends = agreed.endpoints;
        let peer = Peer {
            distinguisher: distinguisher(index.place),
            address: ends.remote.ip(),
            asn: agreed.remote_asn,
            identifier: agreed.remote_identifier,
        };
        let transport = Transport {
            local: ends.local.ip(),
            local_port: ends.local.port(),
            remote_port: ends.remote.port(),
        };
        let opens: [&[u8]; 2] = [&agreed.local_open, &agreed.remote_open];
        bmp::encode_peer_up(&peer, time, &transport, opens, out);
        self.sessions.insert(index, Session { peer, width: agreed.codec.asn_width });
    }

    fn tell_routes(&self, index: PeerIndex, updates: &[u8], time: Timestamp, out: &mut Vec<u8>) {
        if let Some(session) = self.sessions.get(&index) {
            let rib = Rib::In(&session.peer, Stage::PrePolicy);
            bmp::encode_route_monitoring(rib, time, session.width, updates, out);
        }
    }

    /// Appends the numbers of all sessions that were told.
    pub(super) fn statistics(&self, speaker: &Speaker, out: &mut Vec<u8>) {
        let time = wall_clock();
        for (index, session) in &self.sessions {
            let Some(status) = speaker.peer(*index) else { continue };
            let of = |family: Family| u64::from(status.received[family.index()]);
            let withdrawn = status.intake.treated_as_withdraw as u32;
            let mut statistics = vec![
                Statistic::AdjRibIn(Family::ALL.into_iter().map(of).sum()),
                Statistic::WithdrawnUpdates(withdrawn),
            ];
            statistics.extend(Family::ALL.map(|family| Statistic::AdjRibInOf(family, of(family))));
            bmp::encode_statistics(&session.peer, time, &statistics, out);
        }
    }
}

/// Which place: no two have the same, whatever addresses are in them.
fn distinguisher(place: Place) -> u64 {
    match place {
        Place::FrontEnd => 0,
        Place::Domain(slot) => u64::from(slot.0) + 1,
    }
}

fn tell_down(peer: &Peer, down: &Down, time: Timestamp, out: &mut Vec<u8>) {
    let mut message = Vec::new();
    let mut whole = |notification| {
        encode_notification(notification, MessageLimit::Standard, &mut message);
    };
    let reason = match &down.reason {
        DownReason::Sent(notification) => {
            whole(notification);
            PeerDown::LocalNotification(&message)
        }
        DownReason::Received(notification) => {
            whole(notification);
            PeerDown::RemoteNotification(&message)
        }
        DownReason::Closed(_) => PeerDown::RemoteClosed,
        DownReason::PeerRestarted => PeerDown::LocalEvent(TCP_CONNECTION_CONFIRMED),
    };
    bmp::encode_peer_down(peer, time, reason, out);
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let secs = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
    Timestamp { secs, micros: since.subsec_micros() }
}

#[cfg(test)]
mod tests {
    use nvgate_bgp::NotificationReason;
    use nvgate_bgp::session::Closed;
    use nvgate_model::{Asn, DomainSlot};

    use super::*;

    #[test]
    fn every_place_has_a_distinguisher_of_its_own() {
        let places = [Place::FrontEnd, Place::Domain(DomainSlot(0)), Place::Domain(DomainSlot(7))];
        assert_eq!(places.map(distinguisher), [0, 1, 8]);
    }

    #[test]
    fn each_end_of_a_session_has_its_reason() {
        let peer = Peer {
            distinguisher: 1,
            address: [192, 0, 2, 1].into(),
            asn: Asn(64_500),
            identifier: [192, 0, 2, 1].into(),
        };
        let told = |reason| {
            let mut out = Vec::new();
            let down = Down { reason, keeps_routes: [false; 2] };
            tell_down(&peer, &down, Timestamp::default(), &mut out);
            (out[48], out[49..].to_vec())
        };
        let shutdown =
            nvgate_bgp::Notification::new(NotificationReason::AdministrativeShutdown, &[]);
        let (code, message) = told(DownReason::Sent(shutdown.clone()));
        assert_eq!((code, message.len(), &message[18..]), (1, 21, &[3, 6, 2][..]));
        assert_eq!(told(DownReason::Received(shutdown)).0, 3);
        assert_eq!(told(DownReason::Closed(Closed::Reset)), (4, vec![]));
        assert_eq!(told(DownReason::PeerRestarted), (2, vec![0, 17]));
    }
}
