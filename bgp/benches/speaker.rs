//! What a speaker costs on one core: a million IPv4 routes in by one peer's bytes and out by
//! another's; and a thousand tenants' sessions at rest.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its own memory")]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use nvgate_bgp::config::{
    AddPathSend, AsnRange, FamilyConfig, GracefulRestart, HoldTime, Opening, PeerConfig,
    PrivateAsns, Reach,
};
use nvgate_bgp::decision::Options;
use nvgate_bgp::policy::{
    Direction, ExportGuard, FrontEndImport, ImportGuard, Martians, Policy, Verdict,
};
use nvgate_bgp::rib::{NextHopChange, Resolution, TableConfig, TableLimits};
use nvgate_bgp::session::{Closing, Connection, Endpoints};
use nvgate_bgp::speaker::{
    Event, Neighbor, PeerIndex, Place, PlaceConfig, RouteConfig, Speaker, SpeakerConfig, Start,
    Turn,
};
use nvgate_bgp::wire::{
    AttributeBlock, Codec, Frame, MessageLimit, MessageType, UpdatePacker, frame,
};
use nvgate_bgp::{AsPath, Attributes, Community, Family, NeighborKind, Nlri, Origin};
use nvgate_model::{Asn, DomainSlot, Instant, Prefix};

const ROUTES: usize = 1_000_000;
const A_SET: usize = 6;
const ROUNDS: usize = 3;
/// What a read of a socket brings.
const READ: usize = 64 << 10;
const SESSIONS: u32 = 1000;

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

fn peer(own: (u8, u32), other: (u8, u32), opening: Opening) -> Neighbor {
    let family = FamilyConfig {
        add_path_receive: false,
        add_path_send: AddPathSend::Off,
        max_prefixes: None,
    };
    let router_id = Ipv4Addr::new(10, 255, 0, own.0);
    let config = PeerConfig {
        description: "".into(),
        shutdown: None,
        local_address: Some(address(own.0)),
        remote_address: address(other.0),
        remote_port: PeerConfig::PORT,
        opening,
        local_asn: Asn(own.1),
        local_as: None,
        remote_asns: AsnRange::single(Asn(other.1)),
        router_id,
        hold_time: HoldTime::new(90).expect("90 s is a hold time"),
        connect_retry_secs: NonZeroU16::new(30).expect("30 is not zero"),
        families: [Some(family), None],
        ipv6_next_hop: false,
        extended_messages: false,
        accept_as_set: false,
        role: None,
        role_strict: false,
        graceful_restart: GracefulRestart::Off,
        reach: Reach::Connected,
        md5_key: None,
        bfd: false,
        own_as_allowed: 0,
        as_override: false,
        private_asns: PrivateAsns::Keep,
        next_hop_self: false,
        reflector_client: false,
        cluster_id: router_id,
        import: None,
        export: None,
    };
    let accept = |direction| {
        let policy = Policy::compile(direction, Vec::new(), Verdict::Accept);
        Some(Arc::new(policy.expect("no rules are a policy")))
    };
    let routes = RouteConfig {
        import_guard: ImportGuard::FrontEnd(Arc::new(FrontEndImport::new(
            &[],
            Martians::Unforwardable,
        ))),
        import: accept(Direction::Import),
        export_guard: ExportGuard::FrontEnd,
        export: accept(Direction::Export),
        path_numbers_max: 1000,
        enforce_first_as: true,
        graceful_shutdown: true,
        blackhole: false,
        own_addresses: vec![address(own.0)],
        shared_subnets: None,
        next_hops: [None; 2],
        link_local: None,
        next_hop_unchanged: false,
    };
    Neighbor { config: Arc::new(config), routes: Arc::new(routes) }
}

fn place(own: (u8, u32), others: &[(u8, u32)], opening: Opening) -> PlaceConfig {
    let router_id = Ipv4Addr::new(10, 255, 0, own.0);
    PlaceConfig {
        table: TableConfig {
            limits: TableLimits { prefixes: 2_000_000, attribute_bytes: 1 << 30 },
            router_id,
            cluster_id: router_id,
            options: Options::default(),
        },
        updates_per_second: None,
        peers_max: 64,
        peers: others.iter().map(|other| peer(own, *other, opening)).collect(),
        ranges: Vec::new(),
    }
}

fn front_end(own: (u8, u32), others: &[(u8, u32)], opening: Opening) -> SpeakerConfig {
    let place = Arc::new(place(own, others, opening));
    SpeakerConfig { places: [(Place::FrontEnd, place)].into() }
}

/// Two speakers with pipes between them.
struct Pair {
    speakers: [Speaker; 2],
    pipes: Vec<[(PeerIndex, Connection, VecDeque<u8>); 2]>,
    now: Instant,
}

impl Pair {
    fn new(configs: [SpeakerConfig; 2]) -> Self {
        let now = Instant(1_000_000_000);
        let mut seed = 0;
        let speakers = configs.map(|config| {
            seed += 1;
            Speaker::new(config, now, seed, Start::Cold)
        });
        Self { speakers, pipes: Vec::new(), now }
    }

    /// Serves both until neither has anything to do at this time.
    fn settle(&mut self) {
        while self.serve(0) | self.serve(1) | self.carry() {}
    }

    fn serve(&mut self, number: usize) -> bool {
        let now = self.now;
        let speaker = &mut self.speakers[number];
        if speaker.poll_timeout().is_some_and(|due| due <= now) {
            speaker.handle_timeout(now);
        }
        while speaker.turn(now) == Turn::More {}
        let mut busy = false;
        while let Some((peer, connection, bytes)) = speaker.poll_transmit() {
            let is =
                |end: &(PeerIndex, Connection, VecDeque<u8>)| (end.0, end.1) == (peer, connection);
            let pipe = self.pipes.iter_mut().find(|pipe| is(&pipe[number]));
            let length = bytes.len();
            pipe.into_iter().for_each(|pipe| pipe[1 - number].2.extend(bytes));
            speaker.handle_transmitted(now, peer, connection, length);
            busy = true;
        }
        while let Some(event) = self.speakers[number].poll_event() {
            busy = true;
            match event {
                Event::Up(..) => {}
                Event::Connect(peer, connection, key, port) => {
                    let local = SocketAddr::new(key.local.expect("it is configured"), 50_000);
                    let remote = SocketAddr::new(key.remote, port);
                    let theirs = Endpoints { local: remote, remote: local };
                    let other = &mut self.speakers[1 - number];
                    let accepted = other.handle_incoming(now, peer.place, theirs);
                    let (their_peer, their_connection) = accepted.expect("the peer is passive");
                    let ours = (peer, connection, VecDeque::new());
                    let theirs = (their_peer, their_connection, VecDeque::new());
                    self.pipes.push(if number == 0 { [ours, theirs] } else { [theirs, ours] });
                    let endpoints = Endpoints { local, remote };
                    self.speakers[number].handle_connected(now, peer, connection, endpoints);
                }
                Event::Close(..)
                | Event::Down(..)
                | Event::PrefixWarning(..)
                | Event::Bfd(..)
                | Event::Forgotten(_)
                | Event::NextHop(..)
                | Event::RoutesChanged(_)
                | Event::Malformed(..)
                | Event::Restarted(_) => panic!("{event:?}"),
            }
        }
        busy
    }

    fn carry(&mut self) -> bool {
        let mut busy = false;
        for pipe in &mut self.pipes {
            for (number, (peer, connection, input)) in pipe.iter_mut().enumerate() {
                if !input.is_empty() {
                    let bytes = input.make_contiguous();
                    let taken =
                        self.speakers[number].handle_bytes(self.now, *peer, *connection, bytes);
                    input.drain(..taken);
                    busy = true;
                }
            }
        }
        busy
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let due = self.speakers.iter().filter_map(Speaker::poll_timeout).min();
            match due.filter(|due| *due <= end) {
                Some(due) => self.now = due,
                None => break,
            }
        }
        self.now = end;
    }
}

/// A speaker with two peers, whose ends the benchmark plays itself.
struct Transit {
    speaker: Speaker,
    from: (PeerIndex, Connection),
    to: (PeerIndex, Connection),
    now: Instant,
    /// Bytes of whole messages that went out, not yet counted.
    out: Vec<u8>,
    routes: usize,
    updates: usize,
    bytes: usize,
}

const OURS: (u8, u32) = (250, 64_496);
const FROM: (u8, u32) = (1, 64_500);
const TO: (u8, u32) = (2, 64_510);

impl Transit {
    fn new() -> Self {
        let now = Instant(1_000_000_000);
        let config = front_end(OURS, &[FROM, TO], Opening::Passive);
        let mut speaker = Speaker::new(config, now, 7, Start::Cold);
        let [from, to] = [FROM, TO].map(|other| {
            let endpoints = Endpoints {
                local: SocketAddr::new(address(OURS.0), 179),
                remote: SocketAddr::new(address(other.0), 50_000),
            };
            speaker.handle_incoming(now, Place::FrontEnd, endpoints).expect("it is configured")
        });
        let (out, routes, updates, bytes) = (Vec::new(), 0, 0, 0);
        let mut transit = Self { speaker, from, to, now, out, routes, updates, bytes };
        for (end, other) in [(from, FROM), (to, TO)] {
            let opening = other_side(other);
            assert_eq!(transit.speaker.handle_bytes(now, end.0, end.1, &opening), opening.len());
        }
        transit.drain(&mut |_| ());
        transit
    }

    /// One round of the gateway's loop; `read` gets the messages that go to the second peer.
    fn drain(&mut self, read: &mut dyn FnMut(Frame<'_>)) -> bool {
        let mut busy = false;
        while self.speaker.turn(self.now) == Turn::More {}
        while let Some((peer, connection, bytes)) = self.speaker.poll_transmit() {
            let length = bytes.len();
            if (peer, connection) == self.to {
                self.out.extend_from_slice(bytes);
            }
            self.bytes += length;
            self.speaker.handle_transmitted(self.now, peer, connection, length);
            busy = true;
        }
        let mut start = 0;
        while let Ok(Some(message)) = frame(&self.out[start..], MessageLimit::Standard) {
            read(message);
            self.updates += usize::from(message.kind() == MessageType::Update);
            start += message.bytes().len();
        }
        self.out.drain(..start);
        while let Some(event) = self.speaker.poll_event() {
            match event {
                Event::NextHop(place, NextHopChange::Wanted(address)) => {
                    let known = Resolution::Reachable { metric: 0, connected: true };
                    self.speaker.handle_next_hop(place, address, known);
                }
                Event::RoutesChanged(place) => {
                    while self.speaker.poll_change(place).is_some() {
                        self.routes += 1;
                    }
                }
                Event::Close(_, _, Closing::Abort | Closing::Finish) | Event::Down(..) => {
                    panic!("{event:?}")
                }
                Event::Connect(..)
                | Event::Up(..)
                | Event::PrefixWarning(..)
                | Event::Bfd(..)
                | Event::Forgotten(_)
                | Event::NextHop(..)
                | Event::Malformed(..)
                | Event::Restarted(_) => {}
            }
            busy = true;
        }
        busy
    }

    fn feed(&mut self, bytes: &[u8], read: &mut dyn FnMut(Frame<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(READ)];
            let taken = self.speaker.handle_bytes(self.now, self.from.0, self.from.1, part);
            rest = &rest[taken..];
            self.drain(read);
        }
        while self.drain(read) {}
    }
}

/// OPEN and KEEPALIVE of a peer, as another speaker sends them.
fn other_side(other: (u8, u32)) -> Vec<u8> {
    let now = Instant(1_000_000_000);
    let config = front_end(other, &[OURS], Opening::Passive);
    let mut speaker = Speaker::new(config, now, 9, Start::Cold);
    let endpoints = Endpoints {
        local: SocketAddr::new(address(other.0), 179),
        remote: SocketAddr::new(address(OURS.0), 50_000),
    };
    let accepted = speaker.handle_incoming(now, Place::FrontEnd, endpoints);
    accepted.expect("it is configured");
    let (_, _, open) = speaker.poll_transmit().expect("an OPEN is the first message");
    let mut bytes = open.to_vec();
    nvgate_bgp::wire::encode_keepalive(&mut bytes);
    bytes
}

/// Distinct public prefixes of 24 bits in no order.
fn nlris() -> Vec<Nlri> {
    let first = Ipv4Addr::new(11, 0, 0, 0).to_bits() >> 8;
    let numbers = (0..ROUTES as u64).map(|number| (number * 386_093 % ROUTES as u64) as u32);
    let network = |number| Ipv4Addr::from_bits((first + number) << 8);
    let prefix = |number| Prefix::containing(network(number).into(), 24);
    numbers.map(|number| prefix(number).expect("24 bits are a length").into()).collect()
}

/// The attributes of an UPDATE: paths of four hops, four communities.
fn attributes(number: usize) -> Attributes {
    let number = number as u32;
    let mut attributes = Attributes::originated(address(FROM.0), Origin::Igp);
    let hop = |shift: u32| Asn(100_000 + (number >> shift & 0xfff));
    attributes.as_path = AsPath::sequence(&[Asn(FROM.1), hop(12), hop(4), hop(0)]);
    let tag = |offset: u32| Community(FROM.1 << 16 | (number >> (4 * offset) & 0xffff));
    attributes.communities = (0..4).map(tag).collect();
    attributes
}

fn codec() -> Codec {
    Codec { asn_width: nvgate_bgp::AsnWidth::Four, ..Codec::initial(NeighborKind::External) }
}

fn announcements(routes: &[Nlri]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, routes) in routes.chunks(A_SET).enumerate() {
        let block = AttributeBlock::new(&attributes(number), Family::Ipv4Unicast, &codec());
        let block = block.expect("few attributes fit a message");
        UpdatePacker::new(&mut bytes, &codec()).announce(&block, routes.iter().copied());
    }
    bytes
}

fn withdrawals(routes: &[Nlri]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut packer = UpdatePacker::new(&mut bytes, &codec());
    packer.withdraw(Family::Ipv4Unicast, routes.iter().copied());
    bytes
}

fn resident_bytes() -> usize {
    let text = std::fs::read("/proc/self/statm").unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// The time that this process ran on a processor so far, which other processes do not lengthen.
fn processor_seconds() -> f64 {
    let text = std::fs::read("/proc/self/schedstat").unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

fn timed(what: &str, run: impl FnOnce()) {
    let (start, before) = (Clock::now(), processor_seconds());
    run();
    let (wall, busy) = (start.elapsed().as_secs_f64(), processor_seconds() - before);
    let rate = ROUTES as f64 / busy / 1e6;
    println!(
        "  {what:<20} {rate:>6.2} million routes/s: {busy:.3} s of a core, {wall:.3} s in all"
    );
}

fn full_table() {
    let routes = nlris();
    let (announce, withdraw) = (announcements(&routes), withdrawals(&routes));
    println!(
        "{ROUTES} routes by bytes, {A_SET} an UPDATE and a set, in by one peer, out to another"
    );
    let before = resident_bytes();
    let mut transit = Transit::new();
    for round in 0..ROUNDS {
        timed("in to out", || transit.feed(&announce, &mut |_| ()));
        let place = transit.speaker.place(Place::FrontEnd).expect("it has the place");
        assert_eq!((place.prefixes, place.established), (ROUTES, 2));
        if round == 0 {
            let a_route = |bytes: usize| bytes as f64 / ROUTES as f64;
            println!("  {:.0} bytes a route counted", a_route(place.footprint));
            println!("  {:.0} bytes a route resident", a_route(resident_bytes() - before));
            println!(
                "  {} UPDATEs out, {:.1} bytes a route",
                transit.updates,
                a_route(transit.bytes)
            );
        }
        timed("withdrawn", || transit.feed(&withdraw, &mut |_| ()));
        let place = transit.speaker.place(Place::FrontEnd).expect("it has the place");
        assert_eq!(place.prefixes, 0);
    }
    assert_eq!(transit.routes, 2 * ROUNDS * ROUTES, "each is told and taken back once a round");
}

fn sessions_at_rest() {
    let before = resident_bytes();
    let config = |own, other, opening| {
        let of = Arc::new(place(own, &[other], opening));
        let places = (0..SESSIONS).map(|slot| (Place::Domain(DomainSlot(slot)), of.clone()));
        SpeakerConfig { places: places.collect() }
    };
    let mut pair =
        Pair::new([config(FROM, TO, Opening::Active), config(TO, FROM, Opening::Passive)]);
    let (start, busy) = (Clock::now(), processor_seconds());
    pair.run(Duration::from_secs(60));
    println!(
        "{SESSIONS} tenants with the same addresses, a session each, both ends in this process"
    );
    println!(
        "  established in {:.3} s of a core, {:.3} s in all",
        processor_seconds() - busy,
        start.elapsed().as_secs_f64()
    );
    let established = (0..SESSIONS)
        .filter_map(|slot| pair.speakers[0].place(Place::Domain(DomainSlot(slot))))
        .map(|place| place.established);
    assert_eq!(established.sum::<usize>(), SESSIONS as usize);
    let a_session = (resident_bytes() - before) as f64 / f64::from(2 * SESSIONS);
    println!("  {a_session:.0} bytes a session resident");
    let busy = processor_seconds();
    let hour = Duration::from_secs(3600);
    pair.run(hour);
    let busy = processor_seconds() - busy;
    println!(
        "  {busy:.3} s of a core in an hour of both ends: {:.4} % of one",
        100.0 * busy / hour.as_secs_f64()
    );
}

fn main() {
    let argument = |name: &str| std::env::args().skip_while(|text| text != name).nth(1);
    match argument("--case").as_deref() {
        Some("full-table") => return full_table(),
        Some("sessions") => return sessions_at_rest(),
        Some(_) | None => {}
    }
    let program = std::env::current_exe().expect("a running program has a path");
    for case in ["full-table", "sessions"] {
        let status = Command::new(&program).args(["--case", case]).status();
        assert!(status.is_ok_and(|status| status.success()), "the case failed");
    }
}
