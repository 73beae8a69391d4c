//! A tenant's BGP router on the rig, with TCP of its own and no more sense than to tell what it is
//! given and to keep what it hears.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use nvgate::endpoint::{BGP_PORT, ConnectionId, Endpoints, Event, MAX_PACKET, PeerOptions};
use nvgate_bgp::config::Opening;
use nvgate_bgp::wire::{
    AttributeBlock, Capability, Codec, Message, MessageLimit, Open, RefreshKind, RouteRefresh,
    UpdatePacker, decode, encode_keepalive, encode_open, encode_refresh, frame,
};
use nvgate_bgp::{AsnWidth, Attributes, Family, NeighborKind, Nlri};
use nvgate_model::{Asn, Instant, Prefix};

use crate::bgp_peers::End;
use crate::rig_endpoint::{HERE, Neighbour, Seat};

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_secs(5);
/// What it proposes, and after which silence it gives up.
const HOLD: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What it was told, or tells.
pub type Told = BTreeMap<Prefix, Attributes>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Debug)]
struct Session {
    id: ConnectionId,
    stage: Stage,
    input: Vec<u8>,
    output: Vec<u8>,
    heard_at: Instant,
    spoke_at: Instant,
}

/// A router.
#[derive(Debug)]
pub struct BgpRouter {
    /// Which of the scenario's tenants and which of its routers it is.
    pub name: (u8, usize),
    /// Whether nothing reaches it, and nothing of it arrives.
    pub cut: bool,
    /// What it was told in the session that stands.
    pub heard: Told,
    own: End,
    gateway: End,
    opening: Opening,
    seat: Seat,
    endpoints: Endpoints,
    session: Option<Session>,
    next_attempt: Instant,
    tells: Told,
}

impl BgpRouter {
    /// A router at `seat` that speaks with `gateway`. `opening` is the gateway's: who of them opens
    /// connections.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn new(
        name: (u8, usize),
        (own, gateway): (End, End),
        opening: Opening,
        seat: Seat,
        now: Instant,
    ) -> Self {
        let seed = u64::from(name.0) << 8 | name.1 as u64;
        let mut endpoints = Endpoints::new(seed, now);
        endpoints.register(HERE, [own.address]);
        let all = "0.0.0.0/0".parse().expect("a prefix");
        endpoints.set_peer(HERE, all, PeerOptions::default()).expect("one peer");
        let socket = SocketAddr::new(own.address, BGP_PORT);
        endpoints.listen(HERE, socket).expect("an own address");
        Self {
            name,
            cut: false,
            heard: Told::new(),
            own,
            gateway,
            opening,
            seat,
            endpoints,
            session: None,
            next_attempt: now,
            tells: Told::new(),
        }
    }

    /// Whether its session stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.stage == Stage::Established)
    }

    /// Tells this instead of what it told before.
    pub fn tell(&mut self, tells: Told) {
        let old = std::mem::replace(&mut self.tells, tells);
        let gone: Vec<Prefix> =
            old.keys().filter(|prefix| !self.tells.contains_key(prefix)).copied().collect();
        let news = self.tells.iter().filter(|(prefix, now)| old.get(prefix) != Some(now));
        let news: Told = news.map(|(prefix, now)| (*prefix, now.clone())).collect();
        let codec = self.codec();
        if let Some(session) = &mut self.session
            && session.stage == Stage::Established
        {
            let mut packer = UpdatePacker::new(&mut session.output, &codec);
            for family in Family::ALL {
                let of = gone.iter().map(|prefix| Nlri::from(*prefix));
                packer.withdraw(family, of.filter(|nlri| nlri.family() == family));
            }
            announce(&news, &codec, &mut session.output);
        }
    }

    /// Asks for everything again (RFC 2918).
    pub fn ask_again(&mut self) {
        if self.is_up()
            && let Some(session) = &mut self.session
        {
            for family in Family::ALL {
                let refresh =
                    RouteRefresh { afi_safi: family.afi_safi(), kind: RefreshKind::Request };
                encode_refresh(refresh, &mut session.output);
            }
        }
    }

    /// Ends its connection without a word.
    pub fn flap(&mut self, now: Instant) {
        if let Some(session) = &self.session {
            self.endpoints.abort(session.id);
        }
        self.lose(now);
    }

    /// When it wants to be polled next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.session {
            Some(session) => (session.heard_at + HOLD).min(session.spoke_at + KEEPALIVE),
            None if self.opening == Opening::Passive => self.next_attempt,
            None => Instant(u64::MAX),
        };
        self.endpoints.poll_timeout().into_iter().chain([own]).min()
    }

    /// What both ends always agree on.
    fn codec(&self) -> Codec {
        let neighbor = if self.own.asn == self.gateway.asn {
            NeighborKind::Internal
        } else {
            NeighborKind::External
        };
        Codec { asn_width: AsnWidth::Four, families: [true; 2], ..Codec::initial(neighbor) }
    }

    fn lose(&mut self, now: Instant) {
        self.session = None;
        self.heard.clear();
        self.next_attempt = now + RETRY;
    }

    fn connect(&mut self, now: Instant) {
        self.next_attempt = now + RETRY;
        let to = SocketAddr::new(self.gateway.address, BGP_PORT);
        if let Ok(id) = self.endpoints.connect(now, HERE, self.own.address, to) {
            self.begin(now, id);
        }
    }

    fn begin(&mut self, now: Instant, id: ConnectionId) {
        let asn = Asn(self.own.asn);
        let open = Open {
            asn,
            hold_time_secs: HOLD.as_secs() as u16,
            identifier: self.own.router_id,
            capabilities: vec![
                Capability::family(Family::Ipv4Unicast),
                Capability::family(Family::Ipv6Unicast),
                Capability::RouteRefresh,
                Capability::FourOctetAsn(asn),
            ],
            ignored_capabilities: 0,
        };
        let mut output = Vec::new();
        encode_open(&open, &mut output).expect("it is short");
        self.heard.clear();
        self.session = Some(Session {
            id,
            stage: Stage::OpenSent,
            input: Vec::new(),
            output,
            heard_at: now,
            spoke_at: now,
        });
    }

    fn take_events(&mut self, now: Instant) {
        while let Some((id, event)) = self.endpoints.poll_event() {
            let current = self.session.as_ref().is_some_and(|session| session.id == id);
            match event {
                Event::Incoming { .. } if self.opening == Opening::Passive || self.cut => {
                    self.endpoints.abort(id);
                }
                Event::Incoming { .. } => {
                    if let Some(old) = self.session.take() {
                        self.endpoints.abort(old.id);
                    }
                    self.begin(now, id);
                }
                Event::Closed(_) if current => self.lose(now),
                Event::Connected | Event::Readable | Event::Writable | Event::Closed(_) => {}
            }
        }
    }

    fn read(&mut self, now: Instant) {
        let mut bytes = [0; 4096];
        while let Some(session) = &mut self.session {
            let count = self.endpoints.read(session.id, &mut bytes);
            if count == 0 {
                return;
            }
            session.heard_at = now;
            session.input.extend(&bytes[..count]);
            self.understand(now);
        }
    }

    fn understand(&mut self, now: Instant) {
        let codec = self.codec();
        let Some(mut session) = self.session.take() else { return };
        let mut start = 0;
        while let Some(whole) = frame(&session.input[start..], MessageLimit::Standard)
            .expect("the gateway sends well-formed messages")
        {
            let message = decode(whole, &codec).expect("the gateway sends well-formed messages");
            start += whole.bytes().len();
            match message {
                Message::Open(open) => {
                    assert_eq!((session.stage, open.asn.0), (Stage::OpenSent, self.gateway.asn));
                    encode_keepalive(&mut session.output);
                    session.stage = Stage::OpenConfirm;
                }
                Message::Keepalive if session.stage == Stage::OpenConfirm => {
                    session.stage = Stage::Established;
                    announce(&self.tells, &codec, &mut session.output);
                }
                Message::Keepalive => {}
                Message::Notification(_) => {
                    self.endpoints.close(session.id);
                    return self.lose(now);
                }
                Message::Refresh(_) => announce(&self.tells, &codec, &mut session.output),
                Message::Update(update) => {
                    assert_eq!((session.stage, update.defects()), (Stage::Established, &[][..]));
                    for nlri in update.withdrawn() {
                        self.heard.remove(&nlri.prefix);
                    }
                    for group in update.announced() {
                        let routes = group.routes.map(|nlri| nlri.prefix);
                        self.heard.extend(routes.map(|to| (to, group.attributes.clone())));
                    }
                }
            }
        }
        session.input.drain(..start);
        self.session = Some(session);
    }

    fn keep(&mut self, now: Instant) {
        let Some(session) = &mut self.session else {
            if self.opening == Opening::Passive && self.next_attempt <= now {
                self.connect(now);
            }
            return;
        };
        if session.heard_at + HOLD <= now {
            return self.flap(now);
        }
        if session.spoke_at + KEEPALIVE <= now {
            session.spoke_at = now;
            if session.stage != Stage::OpenSent {
                encode_keepalive(&mut session.output);
            }
        }
    }
}

fn announce(routes: &Told, codec: &Codec, out: &mut Vec<u8>) {
    for (prefix, attributes) in routes {
        let block = AttributeBlock::new(attributes, Family::of(*prefix), codec);
        let block = block.expect("what it is given to tell can be told");
        UpdatePacker::new(out, codec).announce(&block, [Nlri::from(*prefix)]);
    }
}

impl Neighbour for BgpRouter {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn handle(&mut self, now: Instant, packet: &[u8]) {
        if !self.cut {
            let ttl = if packet[0] >> 4 == 4 { packet[8] } else { packet[7] };
            // What it refuses it counts.
            let _ = self.endpoints.handle_packet(now, HERE, packet, ttl);
        }
    }

    fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.endpoints.poll_timeout().is_some_and(|due| due <= now) {
            self.endpoints.handle_timeout(now);
        }
        self.read(now);
        self.take_events(now);
        self.read(now);
        self.keep(now);
        if let Some(session) = &mut self.session {
            let written = self.endpoints.write(session.id, &session.output);
            session.output.drain(..written);
        }
        let mut packets = Vec::new();
        if !self.endpoints.has_transmit() {
            return packets;
        }
        let mut out = vec![0; MAX_PACKET];
        while let Some((_, length)) = self.endpoints.poll_transmit(now, |_| true, &mut out) {
            packets.push(out[..length].to_vec());
        }
        if self.cut {
            packets.clear();
        }
        packets
    }
}
