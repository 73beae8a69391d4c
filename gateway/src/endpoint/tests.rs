//! Two sets of endpoints, in virtual time, over a wire that the tests hold in their hands.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nvgate_model::{DomainSlot, Instant, Prefix};
use nvgate_packet::headers::{Headers, TCP_ACK, TCP_RST, TCP_SYN, Transport, read_u32};

use super::*;

const HERE: &str = "10.1.0.1";
const THERE: &str = "10.1.0.10";
const SLOT: DomainSlot = DomainSlot(3);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn socket(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(text), port)
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn ttl(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[8] } else { packet[7] }
}

fn flags(packet: &[u8]) -> u8 {
    let transport = Headers::parse(packet).unwrap().transport;
    let Transport::Tcp { flags } = transport else { panic!("{transport:?} is no TCP") };
    flags
}

/// One side: endpoints with one domain and one own address.
struct Side {
    endpoints: Endpoints,
    events: Vec<(ConnectionId, Event)>,
    /// Everything that left, as it was.
    sent: Vec<Vec<u8>>,
}

impl Side {
    fn new(own: &str, peer: &str, options: PeerOptions, seed: u64) -> Self {
        let mut endpoints = Endpoints::new(seed, Instant(1));
        endpoints.register(SLOT, [ip(own)]);
        endpoints.set_peer(SLOT, prefix(peer), options).unwrap();
        Self { endpoints, events: Vec::new(), sent: Vec::new() }
    }

    fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.endpoints.poll_timeout().is_some_and(|due| due <= now) {
            self.endpoints.handle_timeout(now);
        }
        let mut out = vec![0; MAX_PACKET];
        let mut packets = Vec::new();
        while let Some((slot, length)) = self.endpoints.poll_transmit(now, |_| true, &mut out) {
            assert_eq!(slot, SLOT);
            packets.push(out[..length].to_vec());
            assert!(packets.len() < 1000, "it never stops sending");
        }
        while let Some(event) = self.endpoints.poll_event() {
            self.events.push(event);
        }
        self.sent.extend(packets.clone());
        packets
    }

    fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).map(|(_, event)| event).collect()
    }

    fn refusals(&self) -> Vec<(Refusal, u64)> {
        self.endpoints.refusals(SLOT).nonzero().collect()
    }
}

struct Pair {
    now: Instant,
    here: Side,
    there: Side,
}

impl Pair {
    fn new(here: PeerOptions, there: PeerOptions) -> Self {
        let mut here = Side::new(HERE, "10.1.0.0/24", here, 1);
        here.endpoints.listen(SLOT, socket(HERE, BGP_PORT)).unwrap();
        Self { now: Instant(1), here, there: Side::new(THERE, "10.1.0.1/32", there, 2) }
    }

    fn connect(&mut self) -> ConnectionId {
        let to = socket(HERE, BGP_PORT);
        self.there.endpoints.connect(self.now, SLOT, ip(THERE), to).unwrap()
    }

    /// Carries packets until nothing moves, those that `passes` lets through.
    fn carry_with(&mut self, mut passes: impl FnMut(&[u8]) -> bool) {
        for _ in 0..1000 {
            let forth = self.here.poll(self.now);
            let back = self.there.poll(self.now);
            let moved = !forth.is_empty() || !back.is_empty();
            for (side, packets) in [(&mut self.there, forth), (&mut self.here, back)] {
                for packet in packets.iter().filter(|packet| passes(packet)) {
                    let _ = side.endpoints.handle_packet(self.now, SLOT, packet, ttl(packet));
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the two never rest");
    }

    fn carry(&mut self) {
        self.carry_with(|_| true);
    }

    fn pass(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() / 100 {
            self.now = self.now + Duration::from_millis(100);
            self.carry();
        }
    }

    /// A connection that stands: its number here and there.
    fn connected() -> (Self, ConnectionId, ConnectionId) {
        Self::connected_with(PeerOptions::default(), PeerOptions::default())
    }

    fn connected_with(here: PeerOptions, there: PeerOptions) -> (Self, ConnectionId, ConnectionId) {
        let mut pair = Self::new(here, there);
        let id = pair.connect();
        pair.carry();
        let incoming = pair.here.events[0].0;
        assert_eq!(pair.there.take_events(), [Event::Connected]);
        let [Event::Incoming { local, remote }] = pair.here.take_events()[..] else {
            panic!("not one connection")
        };
        assert_eq!((local, remote.ip()), (socket(HERE, BGP_PORT), ip(THERE)));
        (pair, incoming, id)
    }
}

fn keyed(key: &[u8]) -> PeerOptions {
    PeerOptions { key: Some(Md5Key::new(key).unwrap()), ..PeerOptions::default() }
}

fn read_all(side: &mut Side, id: ConnectionId) -> Vec<u8> {
    let (mut all, mut out) = (Vec::new(), [0; 4096]);
    loop {
        let count = side.endpoints.read(id, &mut out);
        if count == 0 {
            return all;
        }
        all.extend(&out[..count]);
    }
}

/// Writes `data` there and reads it here, with everything carried between.
fn transfer(pair: &mut Pair, from: ConnectionId, to: ConnectionId, data: &[u8]) -> Vec<u8> {
    let (mut written, mut received) = (0, Vec::new());
    for _ in 0..10_000 {
        written += pair.there.endpoints.write(from, &data[written..]);
        pair.carry();
        received.extend(read_all(&mut pair.here, to));
        if received.len() >= data.len() {
            break;
        }
        pair.now = pair.now + Duration::from_millis(10);
    }
    received
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[test]
fn a_connection_is_made_carries_data_and_ends() {
    let (mut pair, here, there) = Pair::connected();
    let data = pattern(200_000);
    assert!(transfer(&mut pair, there, here, &data) == data);
    pair.here.take_events();
    pair.there.take_events();
    pair.pass(Duration::from_secs(2));
    let timeouts = [&pair.here, &pair.there].map(|side| side.endpoints.poll_timeout());
    assert_eq!(timeouts, [None, None], "an idle connection waits for nothing");

    pair.there.endpoints.close(there);
    pair.carry();
    assert_eq!(pair.here.take_events(), [Event::Closed(CloseReason::Finished)]);
    pair.pass(LINGER + Duration::from_secs(2));
    assert_eq!((pair.here.take_events(), pair.there.take_events()), (vec![], vec![]));
    for side in [&pair.here, &pair.there] {
        assert_eq!((side.endpoints.connections(SLOT), side.endpoints.poll_timeout()), (0, None));
    }
    assert_eq!(pair.here.refusals(), []);
}

#[test]
fn what_was_written_before_the_peer_finished_still_arrives() {
    let (mut pair, here, there) = Pair::connected();
    pair.there.endpoints.write(there, b"question");
    pair.carry();
    assert_eq!(read_all(&mut pair.here, here), b"question");
    pair.here.endpoints.write(here, b"answer");
    pair.here.endpoints.close(here);
    pair.carry();
    assert_eq!(pair.there.take_events(), [Event::Readable]);
    assert_eq!(read_all(&mut pair.there, there), b"answer");
    pair.carry();
    assert_eq!(pair.there.take_events(), [Event::Closed(CloseReason::Finished)]);
}

#[test]
fn readable_is_said_once_until_everything_was_read() {
    let (mut pair, here, there) = Pair::connected();
    for part in [&b"one"[..], b"two", b"three"] {
        pair.there.endpoints.write(there, part);
        pair.carry();
    }
    assert_eq!(pair.here.take_events(), [Event::Readable]);
    assert_eq!(pair.here.endpoints.read(here, &mut [0; 4]), 4);
    pair.carry();
    assert_eq!(pair.here.take_events(), []);
    assert_eq!(read_all(&mut pair.here, here).len(), 7);
    pair.there.endpoints.write(there, b"four");
    pair.carry();
    assert_eq!(pair.here.take_events(), [Event::Readable]);
}

#[test]
fn a_peer_that_reads_nothing_is_bounded_and_writable_is_said_when_there_is_room() {
    let (mut pair, here, there) = Pair::connected();
    let data = pattern(4 * (RECEIVE_BUFFER + TRANSMIT_BUFFER));
    let mut written = 0;
    for _ in 0..20 {
        written += pair.there.endpoints.write(there, &data[written..]);
        pair.pass(Duration::from_millis(500));
    }
    assert_eq!(written, RECEIVE_BUFFER + TRANSMIT_BUFFER);
    pair.there.take_events();
    pair.pass(Duration::from_secs(300));
    assert_eq!(pair.there.take_events(), [], "a zero window is no reason to give up");
    assert!(read_all(&mut pair.here, here) == data[..RECEIVE_BUFFER]);
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.there.take_events(), [Event::Writable]);
}

#[test]
fn loss_reordering_and_duplication_change_no_byte() {
    let (mut pair, here, there) = Pair::connected();
    let data = pattern(150_000);
    let (mut written, mut received) = (0, Vec::new());
    let mut random = 12345_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let mut held: Vec<(bool, Vec<u8>)> = Vec::new();
    for _ in 0..200_000 {
        written += pair.there.endpoints.write(there, &data[written..]);
        let packets = pair.here.poll(pair.now).into_iter().map(|packet| (true, packet));
        held.extend(packets);
        held.extend(pair.there.poll(pair.now).into_iter().map(|packet| (false, packet)));
        for _ in 0..held.len().min(8) {
            let at = draw(held.len() as u64) as usize;
            let (forth, packet) =
                if draw(10) == 0 { held[at].clone() } else { held.swap_remove(at) };
            if draw(10) == 0 {
                continue;
            }
            let side = if forth { &mut pair.there } else { &mut pair.here };
            let _ = side.endpoints.handle_packet(pair.now, SLOT, &packet, ttl(&packet));
            if held.is_empty() {
                break;
            }
        }
        received.extend(read_all(&mut pair.here, here));
        if received.len() == data.len() {
            break;
        }
        pair.now = pair.now + Duration::from_millis(5);
    }
    assert!(received == data, "{} bytes of {}", received.len(), data.len());
}

#[test]
fn nobody_answers_and_a_refusal_have_their_reasons() {
    let mut pair = Pair::new(PeerOptions::default(), PeerOptions::default());
    let id = pair.connect();
    for _ in 0..1500 {
        pair.carry_with(|_| false);
        pair.now = pair.now + Duration::from_millis(100);
    }
    assert_eq!(pair.there.events, [(id, Event::Closed(CloseReason::TimedOut))]);
    pair.there.events.clear();

    pair.here.endpoints.unlisten(SLOT, socket(HERE, BGP_PORT));
    let id = pair.connect();
    pair.carry();
    assert_eq!(pair.there.events, [(id, Event::Closed(CloseReason::Refused))]);
    assert_eq!(pair.here.refusals(), [(Refusal::NoConnection, 1)]);
    assert_eq!(pair.there.endpoints.connections(SLOT), 0);
}

#[test]
fn who_is_no_peer_is_refused_and_nothing_is_kept_of_it() {
    let mut pair = Pair::new(PeerOptions::default(), PeerOptions::default());
    pair.here.endpoints.remove_peer(SLOT, prefix("10.1.0.0/24"));
    let id = pair.connect();
    pair.carry();
    assert_eq!(pair.there.events, [(id, Event::Closed(CloseReason::Refused))]);
    assert_eq!(pair.here.refusals(), [(Refusal::UnknownPeer, 1)]);
    let impossible = pair.here.endpoints.connect(pair.now, SLOT, ip(HERE), socket(THERE, 179));
    assert_eq!(impossible, Err(ConnectError::UnknownPeer(ip(THERE))));
}

#[test]
fn a_flood_of_syns_keeps_16_and_leaves_who_is_connected_alone() {
    let (mut pair, here, there) = Pair::connected();
    let mut stranger = Side::new("10.1.0.66", "10.1.0.1/32", PeerOptions::default(), 9);
    for _ in 0..100 {
        let to = socket(HERE, BGP_PORT);
        stranger.endpoints.connect(pair.now, SLOT, ip("10.1.0.66"), to).unwrap();
        for syn in stranger.poll(pair.now) {
            pair.here.endpoints.handle_packet(pair.now, SLOT, &syn, 64).unwrap();
        }
    }
    assert_eq!(pair.here.endpoints.connections(SLOT), 1 + MAX_HALF_OPEN);
    assert_eq!(pair.here.refusals(), [(Refusal::HalfOpenGaveWay, 100 - 16)]);
    assert_eq!(transfer(&mut pair, there, here, b"still here"), b"still here");
    pair.now = pair.now + HALF_OPEN_TIME;
    pair.carry();
    assert_eq!(pair.here.endpoints.connections(SLOT), 1);
}

#[test]
fn connections_are_bounded() {
    let mut side = Side::new(HERE, "10.1.0.0/24", PeerOptions::default(), 1);
    let to = socket(THERE, BGP_PORT);
    for _ in 0..MAX_CONNECTIONS {
        side.endpoints.connect(Instant(1), SLOT, ip(HERE), to).unwrap();
    }
    let one_more = side.endpoints.connect(Instant(1), SLOT, ip(HERE), to);
    assert_eq!(one_more, Err(Refused::TooMany(MAX_CONNECTIONS).into()));
}

#[test]
fn a_reset_counts_at_the_next_sequence_number_only() {
    let (mut pair, here, there) = Pair::connected();
    assert_eq!(transfer(&mut pair, there, here, b"data"), b"data");
    pair.here.take_events();
    pair.there.sent.clear();
    pair.there.endpoints.abort(there);
    let [reset] = &pair.there.poll(pair.now)[..] else { panic!("not one segment") };
    assert_eq!(flags(reset) & TCP_RST, TCP_RST);
    let right = read_u32(reset, 24);
    for wrong in [1, 2, 1000, RECEIVE_BUFFER as u32 - 1] {
        let packet = with_sequence(reset, right.wrapping_add(wrong));
        let refused = pair.here.endpoints.handle_packet(pair.now, SLOT, &packet, 64);
        assert_eq!(refused, Err(Refusal::ResetIgnored));
    }
    pair.here.poll(pair.now);
    assert_eq!(pair.here.take_events(), []);
    pair.here.endpoints.handle_packet(pair.now, SLOT, reset, 64).unwrap();
    pair.here.poll(pair.now);
    assert_eq!(pair.here.take_events(), [Event::Closed(CloseReason::Reset)]);
    assert_eq!(pair.here.endpoints.connections(SLOT), 0);
}

/// A TCP packet over IPv4 with another sequence number.
fn with_sequence(packet: &[u8], sequence: u32) -> Vec<u8> {
    use nvgate_packet::checksum;
    let mut packet = packet.to_vec();
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[36..38].fill(0);
    let pseudo = checksum::pseudo_v4(
        HERE.parse().unwrap(),
        THERE.parse().unwrap(),
        nvgate_packet::headers::TCP,
        packet.len() - 20,
    );
    let sum = checksum::finish(checksum::add(pseudo, checksum::sum(&packet[20..])));
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn signed_connections_carry_data_and_every_segment_is_signed() {
    let (mut pair, here, there) = Pair::connected_with(keyed(b"secret"), keyed(b"secret"));
    let data = pattern(100_000);
    assert!(transfer(&mut pair, there, here, &data) == data);
    for packet in pair.here.sent.iter().chain(&pair.there.sent) {
        assert!(packet[40..].windows(2).take(40).any(|pair| pair == [19, 18]), "{packet:02x?}");
        assert!(packet.len() <= MAX_PACKET);
    }
    assert_eq!((pair.here.refusals(), pair.there.refusals()), (vec![], vec![]));
}

#[test]
fn signed_segments_are_no_longer_than_the_mss_and_their_header_allow() {
    let (mut pair, here, there) = Pair::connected_with(keyed(b"secret"), keyed(b"secret"));
    let longest = |sent: &[Vec<u8>]| sent.iter().map(Vec::len).max().unwrap();
    let data = pattern(100_000);
    transfer(&mut pair, there, here, &data);
    assert_eq!(longest(&pair.there.sent), MAX_PACKET);
}

#[test]
fn wrong_missing_and_unexpected_signatures_are_dropped_in_silence() {
    for (here, there, refusal) in [
        (keyed(b"secret"), keyed(b"other"), Refusal::SignatureWrong),
        (keyed(b"secret"), PeerOptions::default(), Refusal::SignatureMissing),
        (PeerOptions::default(), keyed(b"secret"), Refusal::SignatureUnexpected),
    ] {
        let mut pair = Pair::new(here, there);
        pair.connect();
        pair.carry();
        assert_eq!(pair.here.refusals(), [(refusal, 1)]);
        assert_eq!((pair.here.sent.len(), pair.there.take_events()), (0, vec![]));
        assert_eq!(pair.here.endpoints.connections(SLOT), 0);
    }
}

#[test]
fn a_changed_key_counts_for_connections_that_stand() {
    let (mut pair, here, there) = Pair::connected_with(keyed(b"old"), keyed(b"old"));
    pair.here.endpoints.set_peer(SLOT, prefix("10.1.0.0/24"), keyed(b"new")).unwrap();
    pair.there.endpoints.write(there, b"data");
    pair.carry();
    assert_eq!(read_all(&mut pair.here, here), b"");
    pair.there.endpoints.set_peer(SLOT, prefix("10.1.0.1/32"), keyed(b"new")).unwrap();
    pair.pass(Duration::from_secs(5));
    assert_eq!(read_all(&mut pair.here, here), b"data");
}

#[test]
fn a_peer_under_gtsm_needs_its_ttl_and_gets_ours() {
    let gtsm = |ttl| PeerOptions { ttl, minimum_ttl: 255, key: None };
    let (pair, _, _) = Pair::connected_with(gtsm(255), gtsm(255));
    assert!(pair.here.sent.iter().all(|packet| ttl(packet) == 255));
    let mut pair = Pair::new(gtsm(255), gtsm(254));
    pair.connect();
    pair.carry();
    assert_eq!(pair.here.refusals(), [(Refusal::TtlTooLow, 1)]);
    assert_eq!(pair.here.sent.len(), 0);
}

#[test]
fn an_address_that_goes_takes_its_connections_along() {
    let (mut pair, here, _) = Pair::connected();
    pair.here.endpoints.register(SLOT, [ip(HERE), ip("10.2.0.1")]);
    pair.carry();
    assert_eq!(pair.here.take_events(), []);
    pair.here.sent.clear();
    pair.here.endpoints.register(SLOT, [ip("10.2.0.1")]);
    pair.here.poll(pair.now);
    assert_eq!(pair.here.events, [(here, Event::Closed(CloseReason::AddressGone))]);
    assert_eq!(pair.here.sent.len(), 0);
    let stranger = pair.here.endpoints.listen(SLOT, socket(HERE, 179));
    assert_eq!(stranger, Err(Refused::NotOwn(ip(HERE))));
}

#[test]
fn interest_is_told_when_it_changes() {
    use crate::snapshot::Service;
    let (mut pair, here, there) = Pair::connected();
    let endpoints = &mut pair.here.endpoints;
    assert_eq!(endpoints.poll_interest(), Some((SLOT, vec![Service::Tcp])));
    assert_eq!(endpoints.poll_interest(), None);
    endpoints.bind(SLOT, socket(HERE, 3784)).unwrap();
    assert_eq!(endpoints.poll_interest(), Some((SLOT, vec![Service::Tcp, Service::Udp])));
    endpoints.unlisten(SLOT, socket(HERE, BGP_PORT));
    assert_eq!(endpoints.poll_interest(), None, "a connection stands");
    endpoints.abort(here);
    pair.there.endpoints.abort(there);
    pair.carry();
    assert_eq!(pair.here.endpoints.poll_interest(), Some((SLOT, vec![Service::Udp])));
    pair.here.endpoints.deregister(SLOT);
    assert_eq!(pair.here.endpoints.poll_interest(), Some((SLOT, vec![])));
}

#[test]
fn datagrams_go_both_ways_with_their_ttl_and_are_bounded() {
    let mut pair = Pair::new(PeerOptions::default(), PeerOptions::default());
    pair.here.endpoints.bind(SLOT, socket(HERE, 3784)).unwrap();
    let datagram = Datagram {
        local: socket(THERE, 49_152),
        remote: socket(HERE, 3784),
        ttl: 255,
        payload: b"bfd".to_vec(),
    };
    pair.there.endpoints.send_datagram(SLOT, &datagram).unwrap();
    pair.carry();
    let (local, remote) = (datagram.remote, datagram.local);
    let arrived = Datagram { local, remote, ..datagram.clone() };
    assert_eq!(pair.here.endpoints.poll_datagram(), Some((SLOT, arrived)));
    for _ in 0..2 * MAX_DATAGRAMS {
        pair.there.endpoints.send_datagram(SLOT, &datagram).unwrap();
        pair.carry();
    }
    assert_eq!(pair.here.refusals(), [(Refusal::DatagramsFull, MAX_DATAGRAMS as u64)]);
    let elsewhere = Datagram { remote: socket(HERE, 4784), ..datagram };
    pair.there.endpoints.send_datagram(SLOT, &elsewhere).unwrap();
    pair.carry();
    assert_eq!(pair.here.endpoints.refusals(SLOT).of(Refusal::NoSocket), 1);
}

#[test]
fn sequence_numbers_and_ports_repeat_with_the_seed_and_not_without() {
    let begin = |seed| {
        let mut side = Side::new(THERE, "10.1.0.1/32", PeerOptions::default(), seed);
        (0..3).for_each(|_| {
            let to = socket(HERE, BGP_PORT);
            side.endpoints.connect(Instant(1), SLOT, ip(THERE), to).unwrap();
        });
        let syns = side.poll(Instant(1));
        assert!(syns.iter().all(|syn| flags(syn) & (TCP_SYN | TCP_ACK) == TCP_SYN));
        let read = |syn: &Vec<u8>| (read_u32(syn, 24), Headers::parse(syn).unwrap().source_port);
        syns.iter().map(read).collect::<Vec<_>>()
    };
    let [once, again, other] = [begin(5), begin(5), begin(6)];
    assert_eq!(once, again);
    assert!(once.iter().all(|drawn| !other.contains(drawn)));
    assert_ne!(once[0].0, once[1].0);
}

#[test]
fn the_same_works_over_ipv6_signed() {
    let (own, peer) = ("fd00:1::1", "fd00:1::10");
    let mut here = Side::new(own, "fd00:1::/64", keyed(b"six"), 1);
    here.endpoints.listen(SLOT, socket(own, BGP_PORT)).unwrap();
    let there = Side::new(peer, "fd00:1::/64", keyed(b"six"), 2);
    let mut pair = Pair { now: Instant(1), here, there };
    let to = socket(own, BGP_PORT);
    let there = pair.there.endpoints.connect(pair.now, SLOT, ip(peer), to).unwrap();
    pair.carry();
    let here = pair.here.events[0].0;
    let data = pattern(50_000);
    assert!(transfer(&mut pair, there, here, &data) == data);
}

proptest::proptest! {
    #[test]
    fn any_bytes_return(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0_usize..200, with: u8) {
        let mut pair = Pair::new(keyed(b"x"), keyed(b"x"));
        let _ = pair.here.endpoints.handle_packet(pair.now, SLOT, &bytes, 64);
        pair.connect();
        for mut packet in pair.there.poll(pair.now) {
            let at = at % packet.len();
            packet[at] = with;
            let _ = pair.here.endpoints.handle_packet(pair.now, SLOT, &packet, 64);
            packet.truncate(at);
            let _ = pair.here.endpoints.handle_packet(pair.now, SLOT, &packet, 64);
        }
        pair.here.poll(pair.now);
    }
}
