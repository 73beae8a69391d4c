//! Bytes between connections and sessions: what happens to a connection is told to the session, and
//! what a session wants is done to its connection, in a domain and on the front end alike.

use std::net::SocketAddr;

use nvgate_bgp::session::{Closed, Closing, Connection, Endpoints as Ends};
use nvgate_bgp::speaker::{PeerIndex, PeerKey, Place};
use nvgate_model::Instant;

use super::Peering;
use super::links::{Carrier, Name};
use crate::endpoint::{CloseReason, Endpoints, Event};

impl Peering {
    pub(super) fn take_events(&mut self, now: Instant, endpoints: &mut Endpoints) {
        while let Some((id, event)) = endpoints.poll_event() {
            let from = (Place::Domain(id.domain), Carrier::Domain(id));
            self.take(now, from, event, endpoints);
        }
        self.sockets.turn(now);
        while let Some((id, event)) = self.sockets.poll_event() {
            self.take(now, (Place::FrontEnd, Carrier::FrontEnd(id)), event, endpoints);
        }
    }

    fn take(
        &mut self,
        now: Instant,
        (place, carrier): (Place, Carrier),
        event: Event,
        endpoints: &mut Endpoints,
    ) {
        match event {
            Event::Incoming { local, remote } => {
                let ends = Ends { local, remote };
                let taken = match self.drain.is_over() {
                    true => Err("the gateway is drained".to_owned()),
                    false => self
                        .speaker
                        .handle_incoming(now, place, ends)
                        .map_err(|reason| reason.to_string()),
                };
                match taken {
                    Ok(name) => self.links.insert(carrier, name, ends),
                    Err(reason) => {
                        tracing::debug!(%remote, reason, "a BGP connection is not taken");
                        self.end(now, carrier, Closing::Abort, endpoints);
                    }
                }
            }
            Event::Connected => self.connected(now, carrier),
            Event::Readable => self.links.note_readable(carrier),
            Event::Writable => {
                if let Some(((peer, connection), _)) = self.links.of(carrier) {
                    self.speaker.handle_writable(peer, connection);
                }
            }
            Event::Closed(reason) => {
                // What came before the end is read first.
                self.read(now, carrier, endpoints);
                if let Some((peer, connection)) = self.links.remove(carrier) {
                    self.speaker.handle_closed(now, peer, connection, closed(reason));
                }
            }
        }
    }

    fn connected(&mut self, now: Instant, carrier: Carrier) {
        let Some((name, mut ends)) = self.links.of(carrier) else { return };
        if let Carrier::FrontEnd(id) = carrier
            && let Some((local, remote)) = self.sockets.ends(id)
        {
            ends = Ends { local, remote };
            self.links.insert(carrier, name, ends);
        }
        self.speaker.handle_connected(now, name.0, name.1, ends);
    }

    /// Hands the session what it has room for; whether something is left.
    fn read(&mut self, now: Instant, carrier: Carrier, endpoints: &mut Endpoints) -> bool {
        while let Some(((peer, connection), _)) = self.links.of(carrier) {
            let room = self.speaker.read_room(peer, connection).min(self.chunk.len());
            if room == 0 {
                return true;
            }
            let chunk = &mut self.chunk[..room];
            let count = match carrier {
                Carrier::Domain(id) => endpoints.read(id, chunk),
                Carrier::FrontEnd(id) => self.sockets.read(id, chunk),
            };
            if count == 0 {
                break;
            }
            self.speaker.handle_bytes(now, peer, connection, &self.chunk[..count]);
        }
        false
    }

    pub(super) fn read_all(&mut self, now: Instant, endpoints: &mut Endpoints) {
        for carrier in self.links.take_readable() {
            if self.read(now, carrier, endpoints) {
                self.links.note_readable(carrier);
            }
        }
    }

    pub(super) fn send(&mut self, now: Instant, endpoints: &mut Endpoints) {
        while let Some((peer, connection, bytes)) = self.speaker.poll_transmit() {
            let taken = match self.links.carrier((peer, connection)) {
                Some(Carrier::Domain(id)) => endpoints.write(id, bytes),
                Some(Carrier::FrontEnd(id)) => self.sockets.write(id, bytes),
                None => 0,
            };
            self.speaker.handle_transmitted(now, peer, connection, taken);
        }
    }

    /// Ends a session's connection, or the attempt.
    pub(super) fn hang_up(
        &mut self,
        now: Instant,
        name: Name,
        closing: Closing,
        endpoints: &mut Endpoints,
    ) {
        if let Some(carrier) = self.links.carrier(name) {
            self.links.remove(carrier);
            self.end(now, carrier, closing, endpoints);
        }
    }

    fn end(&mut self, now: Instant, carrier: Carrier, closing: Closing, endpoints: &mut Endpoints) {
        match (carrier, closing) {
            (Carrier::Domain(id), Closing::Finish) => endpoints.close(id),
            (Carrier::Domain(id), Closing::Abort) => endpoints.abort(id),
            (Carrier::FrontEnd(id), Closing::Finish) => self.sockets.close(now, id),
            (Carrier::FrontEnd(id), Closing::Abort) => self.sockets.abort(id),
        }
    }

    /// Connects to a peer; whether that has begun.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        name: (PeerIndex, Connection),
        (key, port): (PeerKey, u16),
        endpoints: &mut Endpoints,
    ) -> bool {
        let remote = SocketAddr::new(key.remote, port);
        let begun = match key.place {
            Place::Domain(slot) => {
                let towards = || self.domains.get(&slot)?.gateway_towards(key.remote);
                let Some(local) = key.local.or_else(towards) else { return false };
                let id = endpoints.connect(now, slot, local, remote);
                id.map(|id| (Carrier::Domain(id), Some(local))).map_err(|error| error.to_string())
            }
            Place::FrontEnd => {
                let id = self.sockets.connect(key.local, remote);
                id.map(|id| (Carrier::FrontEnd(id), key.local)).map_err(|error| error.to_string())
            }
        };
        match begun {
            Ok((carrier, local)) => {
                // Its address and port are the carrier's affair until it is connected.
                let unknown = match remote {
                    SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
                };
                let local = SocketAddr::new(local.unwrap_or(unknown), 0);
                self.links.insert(carrier, name, Ends { local, remote });
                true
            }
            Err(error) => {
                tracing::debug!(%remote, error, "cannot connect to a BGP peer");
                false
            }
        }
    }
}

/// The session's word for how a connection ended.
const fn closed(reason: CloseReason) -> Closed {
    match reason {
        CloseReason::Refused => Closed::Refused,
        CloseReason::Reset | CloseReason::AddressGone => Closed::Reset,
        CloseReason::Finished => Closed::Finished,
        CloseReason::TimedOut => Closed::TimedOut,
    }
}
