//! Any bytes, in any pieces, from a peer whose session stands: either it ends, and with it every
//! route, or the table holds exactly what the messages say one after another, the gateway forwards
//! by that, and another peer's bytes say what the speaker claims to tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use nvgate_bgp::config::{AddPathSend, FamilyConfig, PeerConfig};
use nvgate_bgp::decision::Options;
use nvgate_bgp::policy::{ExportGuard, ImportGuard, TenantFacts, TenantPeer};
use nvgate_bgp::rib::{NextHopChange, Reach, Resolution, TableConfig, TableLimits};
use nvgate_bgp::session::{Connection, Endpoints, State};
use nvgate_bgp::speaker::{
    Event, Neighbor, PeerIndex, Place, PlaceConfig, RouteConfig, Speaker, SpeakerConfig, Start,
    Turn,
};
use nvgate_bgp::wire::{
    AttributeBlock, Codec, Message, RefreshKind, RouteRefresh, UpdatePacker, decode,
    encode_keepalive, encode_refresh, frame,
};
use nvgate_bgp::{AsPath, Attributes, Community, Family, Nlri, Origin};
use nvgate_model::{Asn, DomainSlot, Instant, Prefix};

use super::Input;
use crate::bgp_peers::{End, PLAIN, session};

const PLACE: Place = Place::Domain(DomainSlot(0));
/// Rounds in which everything that a piece brought is done.
const ROUNDS: usize = 20_000;
/// The most paths of a prefix that a peer may teach.
const PATHS: usize = nvgate_bgp::rib::PATHS_MAX;
/// What the tables may take: at rest, and for each byte that came.
const FOOTPRINT: usize = 64 << 10;
const FOOTPRINT_A_BYTE: usize = 512;

const fn end(last: u8, asn: u32) -> End {
    let router_id = Ipv4Addr::new(192, 0, 2, last);
    End { address: IpAddr::V4(router_id), asn, router_id }
}

const OWN: End = end(250, 64_496);
const PUPIL: End = end(2, 64_510);

fn neighbor(config: PeerConfig) -> Neighbor {
    let peer = TenantPeer { site: None, accept_default: true, announce_learned: true };
    let facts = TenantFacts::default();
    let routes = RouteConfig {
        import_guard: ImportGuard::Tenant(Arc::new(facts.import(peer))),
        import: None,
        export_guard: ExportGuard::Tenant(Arc::new(facts.export(peer))),
        export: None,
        path_numbers_max: 1000,
        enforce_first_as: true,
        graceful_shutdown: true,
        blackhole: true,
        own_addresses: vec![OWN.address],
        shared_subnets: None,
        next_hops: [None, "2001:db8::250".parse().ok()],
        link_local: None,
        next_hop_unchanged: false,
    };
    Neighbor { config: Arc::new(config), routes: Arc::new(routes) }
}

fn place(peers: Vec<Neighbor>) -> SpeakerConfig {
    let place = PlaceConfig {
        table: TableConfig {
            limits: TableLimits { prefixes: 1 << 20, attribute_bytes: 1 << 30 },
            router_id: OWN.router_id,
            cluster_id: OWN.router_id,
            options: Options::default(),
        },
        updates_per_second: None,
        peers_max: 2,
        peers,
        ranges: Vec::new(),
    };
    SpeakerConfig { places: [(PLACE, Arc::new(place))].into() }
}

/// What the first byte chooses, from either end's side.
fn agreed(choice: u8, mut config: PeerConfig) -> PeerConfig {
    let bit = |index: u8| choice >> index & 1 != 0;
    let paths = FamilyConfig {
        add_path_receive: bit(0),
        add_path_send: if bit(0) { AddPathSend::All } else { AddPathSend::Off },
        ..PLAIN
    };
    config.families = [Some(paths), (!bit(1)).then_some(paths)];
    config.ipv6_next_hop = bit(2);
    config.extended_messages = bit(3);
    config.accept_as_set = bit(4);
    config
}

fn teacher(choice: u8) -> End {
    end(1, if choice & 0x20 == 0 { 64_501 } else { OWN.asn })
}

/// The first words of the other end of a session.
fn opening(config: PeerConfig, now: Instant) -> Vec<u8> {
    let (local, remote) = (config.local_address, config.remote_address);
    let mut speaker = Speaker::new(place(vec![neighbor(config)]), now, 9, Start::Cold);
    let ends = Endpoints {
        local: SocketAddr::new(local.expect("it is configured"), PeerConfig::PORT),
        remote: SocketAddr::new(remote, 50_000),
    };
    speaker.handle_incoming(now, PLACE, ends).expect("it is configured");
    let mut bytes = Vec::new();
    while let Some((peer, connection, offered)) = speaker.poll_transmit() {
        bytes.extend_from_slice(offered);
        let length = offered.len();
        speaker.handle_transmitted(now, peer, connection, length);
    }
    encode_keepalive(&mut bytes);
    bytes
}

type Whose = (PeerIndex, Connection);

/// A speaker with a peer that teaches anything, and one that is taught.
struct School {
    now: Instant,
    speaker: Speaker,
    teacher: Whose,
    pupil: Whose,
    told: Vec<u8>,
    fib: BTreeSet<Prefix>,
}

impl School {
    fn new(choice: u8) -> Self {
        let now = Instant(1_000_000_000);
        let teacher = teacher(choice);
        let configs =
            [agreed(choice, session(OWN, teacher)), session(OWN, PUPIL)].map(neighbor).to_vec();
        let mut speaker = Speaker::new(place(configs), now, 7, Start::Cold);
        let [teacher_index, pupil] = [teacher, PUPIL].map(|other| {
            let ends = Endpoints {
                local: SocketAddr::new(OWN.address, PeerConfig::PORT),
                remote: SocketAddr::new(other.address, 50_000),
            };
            speaker.handle_incoming(now, PLACE, ends).expect("it is configured")
        });
        let (told, fib) = (Vec::new(), BTreeSet::new());
        let mut school = Self { now, speaker, teacher: teacher_index, pupil, told, fib };
        for (whose, config) in
            [(teacher_index, agreed(choice, session(teacher, OWN))), (pupil, session(PUPIL, OWN))]
        {
            school.say(whose, &opening(config, now));
            assert_eq!(school.state(whose), State::Established);
        }
        school.told.clear();
        school
    }

    fn state(&self, (peer, _): Whose) -> State {
        self.speaker.peer(peer).expect("it is configured").state
    }

    fn say(&mut self, (peer, connection): Whose, bytes: &[u8]) {
        let mut rest = bytes;
        for _ in 0..ROUNDS {
            let taken = self.speaker.handle_bytes(self.now, peer, connection, rest);
            rest = &rest[taken..];
            self.rest();
            if rest.is_empty() {
                return;
            }
        }
        panic!("bytes that nobody takes");
    }

    /// Does everything that can be done without the time moving.
    fn rest(&mut self) {
        for _ in 0..ROUNDS {
            let more = self.speaker.turn(self.now) == Turn::More;
            let sent = self.transmit();
            let heard = self.hear();
            if !more && !sent && !heard {
                return;
            }
        }
        panic!("the speaker does not come to rest");
    }

    fn transmit(&mut self) -> bool {
        let mut busy = false;
        while let Some((peer, connection, bytes)) = self.speaker.poll_transmit() {
            let length = bytes.len();
            if (peer, connection) == self.pupil {
                self.told.extend_from_slice(bytes);
            }
            self.speaker.handle_transmitted(self.now, peer, connection, length);
            busy = true;
        }
        busy
    }

    fn hear(&mut self) -> bool {
        let mut busy = false;
        while let Some(event) = self.speaker.poll_event() {
            busy = true;
            match event {
                Event::NextHop(place, NextHopChange::Wanted(address)) => {
                    let known = Resolution::Reachable { metric: 0, connected: true };
                    self.speaker.handle_next_hop(place, address, known);
                }
                Event::RoutesChanged(place) => {
                    while let Some(change) = self.speaker.poll_change(place) {
                        match change.now {
                            Reach::Gone => self.fib.remove(&change.prefix),
                            Reach::Local | Reach::Discard | Reach::Via(_) => {
                                self.fib.insert(change.prefix)
                            }
                        };
                    }
                }
                Event::Connect(..)
                | Event::Close(..)
                | Event::Up(..)
                | Event::Down(..)
                | Event::PrefixWarning(..)
                | Event::Bfd(..)
                | Event::Forgotten(_)
                | Event::NextHop(..)
                | Event::Malformed(..)
                | Event::Restarted(_) => {}
            }
        }
        busy
    }

    fn codec(&self, (peer, _): Whose) -> Codec {
        let status = self.speaker.peer(peer).expect("it is configured");
        status.negotiated.expect("the session stands").codec
    }

    /// What the table holds of the teacher.
    fn held(&self) -> Routes {
        let of = |family| {
            let all = usize::MAX;
            self.speaker.routes(PLACE, family, Some(self.teacher.0), false, None, all)
        };
        let views = Family::ALL.into_iter().flat_map(of).map(|status| status.route);
        views.map(|view| (view.nlri, view.received)).collect()
    }
}

type Routes = BTreeMap<Nlri, Attributes>;

/// What a peer said, taken literally; none once it said what ends a session.
fn literally(mut stream: &[u8], codec: &Codec) -> Option<Routes> {
    let mut routes = Routes::new();
    let mut stale: [Option<BTreeSet<Nlri>>; 2] = [const { None }; 2];
    while let Some(whole) = frame(stream, codec.max_message).ok()? {
        stream = &stream[whole.bytes().len()..];
        match decode(whole, codec).ok()? {
            Message::Open(_) | Message::Notification(_) => return None,
            Message::Keepalive => {}
            Message::Refresh(RouteRefresh { afi_safi, kind }) => {
                let family = afi_safi.family().filter(|family| codec.families[family.index()]);
                let Some(family) = family else { continue };
                let stale = &mut stale[family.index()];
                match kind {
                    RefreshKind::Begin => {
                        let of = routes.keys().filter(|nlri| nlri.family() == family);
                        *stale = Some(of.copied().collect());
                    }
                    RefreshKind::End => {
                        stale.take().into_iter().flatten().for_each(|nlri| {
                            routes.remove(&nlri);
                        });
                    }
                    RefreshKind::Request | RefreshKind::Unknown(_) => {}
                }
            }
            Message::Update(update) => {
                for nlri in update.withdrawn() {
                    routes.remove(&nlri);
                }
                for group in update.announced() {
                    for nlri in group.routes {
                        let paths = || routes.keys().filter(|one| one.prefix == nlri.prefix);
                        if routes.contains_key(&nlri) || paths().count() < PATHS {
                            routes.insert(nlri, group.attributes.clone());
                        }
                        if let Some(stale) = &mut stale[nlri.family().index()] {
                            stale.remove(&nlri);
                        }
                    }
                }
            }
        }
    }
    Some(routes)
}

/// The first byte chooses what both ends agree on, the second the pieces in which the others come.
///
/// # Panics
///
/// A claim does not hold.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.byte();
    let mut pieces = u32::from(input.byte());
    let mut school = School::new(choice);
    let codec = school.codec(school.teacher);
    let stream = input.0;
    while !input.is_empty() && school.state(school.teacher) == State::Established {
        pieces = pieces.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let piece = input.take(1 + (pieces >> 16) as usize % 700);
        school.say(school.teacher, piece);
    }
    let stands = school.state(school.teacher) == State::Established;
    let expected = literally(stream, &codec);
    assert_eq!(stands, expected.is_some());
    assert_eq!(school.held(), expected.unwrap_or_default());
    check_bounds(&school, stream.len());
    check_pupil(&school);
}

fn check_bounds(school: &School, bytes: usize) {
    let place = school.speaker.place(PLACE).expect("it is configured");
    let bound = FOOTPRINT + FOOTPRINT_A_BYTE * bytes;
    assert!(place.footprint <= bound, "{bytes} bytes came, {} are held", place.footprint);
}

/// What the pupil heard is what the speaker says it is told, and no more than is forwarded.
fn check_pupil(school: &School) {
    assert_eq!(school.state(school.pupil), State::Established);
    let heard = literally(&school.told, &school.codec(school.pupil));
    let heard = heard.expect("what the speaker sends is well-formed");
    assert!(heard.keys().all(|nlri| school.fib.contains(&nlri.prefix)));
    let status = school.speaker.peer(school.pupil.0).expect("it is configured");
    if status.unsendable > 0 {
        return;
    }
    let mut said = Routes::new();
    for prefix in &school.fib {
        for one in school.speaker.explain(PLACE, *prefix).advertised {
            let paths = one.paths.into_iter().filter(|_| one.peer == school.pupil.0);
            said.extend(paths.map(|(_, attributes)| (Nlri::from(*prefix), attributes)));
        }
    }
    assert_eq!(heard, said);
}

/// A table with what becomes of it, in messages of this speaker.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let prefix = |text: &str| -> Nlri { text.parse::<Prefix>().expect("a prefix").into() };
    let mut seeds = Vec::new();
    for choice in [0, 0x01, 0x0c, 0x20, 0x2d] {
        let codec = {
            let school = School::new(choice);
            school.codec(school.teacher)
        };
        let mut attributes = Attributes::originated([192, 0, 2, 1].into(), Origin::Igp);
        attributes.as_path = AsPath::sequence(&[Asn(teacher(choice).asn), Asn(65_536)]);
        if choice & 0x20 != 0 {
            attributes.as_path = AsPath::sequence(&[Asn(65_536)]);
            attributes.local_preference = Some(200);
        }
        attributes.communities = [Community::new(64_501, 7)].into_iter().collect();
        let paths = codec.add_path_out;
        let given = |nlri: Nlri, number: u32| Nlri {
            path_id: paths[nlri.family().index()].then_some(nvgate_bgp::PathId(number)),
            ..nlri
        };
        let mut bytes = vec![choice, 1];
        let block = AttributeBlock::new(&attributes, Family::Ipv4Unicast, &codec).expect("fits");
        let routes = ["10.1.0.0/16", "172.16.0.0/12", "198.51.100.0/24"].map(prefix);
        let mut packer = UpdatePacker::new(&mut bytes, &codec);
        packer.announce(&block, routes.map(|nlri| given(nlri, 1)));
        packer.announce(&block, routes.map(|nlri| given(nlri, 2)));
        packer.withdraw(Family::Ipv4Unicast, [given(routes[1], 1)]);
        let mut later = Vec::new();
        let afi_safi = Family::Ipv4Unicast.afi_safi();
        for kind in [RefreshKind::Begin, RefreshKind::End, RefreshKind::Request] {
            encode_refresh(RouteRefresh { afi_safi, kind }, &mut later);
            if kind == RefreshKind::Begin {
                attributes.med = Some(5);
                let block = AttributeBlock::new(&attributes, Family::Ipv4Unicast, &codec);
                let block = block.expect("a few attributes fit");
                UpdatePacker::new(&mut later, &codec).announce(&block, [given(routes[0], 1)]);
            }
        }
        bytes.extend(later);
        if codec.families[1] {
            attributes.next_hop = "2001:db8::1".parse().expect("an address");
            let block = AttributeBlock::new(&attributes, Family::Ipv6Unicast, &codec);
            let block = block.expect("a few attributes fit");
            let routes = ["2001:db8:1::/48", "fd00::/8"].map(prefix);
            let mut packer = UpdatePacker::new(&mut bytes, &codec);
            packer.announce(&block, routes.map(|nlri| given(nlri, 1)));
            packer.end_of_rib(Family::Ipv6Unicast);
        }
        encode_keepalive(&mut bytes);
        seeds.push(bytes);
    }
    seeds
}
