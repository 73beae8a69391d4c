//! What a collector that replays everything it is told knows at the end: exactly what the table has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::configs::*;
use super::pairs::{MINUTE, established, family, two};
use super::world::World;
use crate::config::{AddPathSend, GracefulRestart, RestartTime};
use crate::session::Negotiated;
use crate::speaker::{Clear, Monitored, PeerIndex, Speaker, Start};
use crate::wire::{
    AttributeBlock, Codec, Message, MessageLimit, MessageType, RefreshKind, RouteRefresh,
    UpdatePacker, decode, encode_refresh, frame,
};
use crate::{AsnWidth, Attributes, Family, NeighborKind, Nlri, Origin};

type Routes = BTreeMap<Nlri, Attributes>;

/// A collector: per session what was agreed, and the routes.
#[derive(Default)]
struct Collector {
    sessions: BTreeMap<PeerIndex, (Arc<Negotiated>, Routes)>,
    ends_of_rib: usize,
    overruns: usize,
    downs: usize,
}

impl Collector {
    /// Takes as many things as that, or all there are.
    fn take(&mut self, speaker: &mut Speaker, count: usize) {
        for _ in 0..count {
            if !speaker.has_monitored() {
                return;
            }
            match speaker.poll_monitored() {
                Some(monitored) => self.replay(monitored, speaker),
                None => continue,
            }
        }
    }

    fn replay(&mut self, monitored: Monitored, speaker: &mut Speaker) {
        match monitored {
            Monitored::Up(peer, agreed) => {
                let known = self.sessions.insert(peer, (agreed, Routes::new()));
                assert!(known.is_none(), "{peer:?} came twice");
            }
            Monitored::Held(peer, updates) | Monitored::Update(peer, updates) => {
                let (agreed, routes) = self.sessions.get_mut(&peer).expect("a session first");
                let mut rest = &*updates;
                assert!(!rest.is_empty());
                while let Some(message) = frame(rest, MessageLimit::Extended).unwrap() {
                    rest = &rest[message.bytes().len()..];
                    let Ok(Message::Update(update)) = decode(message, &agreed.codec) else {
                        panic!("no update: {message:?}");
                    };
                    assert_eq!(update.defects(), []);
                    self.ends_of_rib += usize::from(update.end_of_rib().is_some());
                    update.withdrawn().for_each(|nlri| drop(routes.remove(&nlri)));
                    for group in update.announced() {
                        routes.extend(group.routes.map(|nlri| (nlri, group.attributes.clone())));
                    }
                }
                assert_eq!(rest, b"");
            }
            Monitored::Down(peer, _) => {
                self.downs += 1;
                assert!(self.sessions.remove(&peer).is_some(), "{peer:?} went twice");
            }
            Monitored::Overrun => {
                assert!(!speaker.has_monitored());
                self.overruns += 1;
                self.sessions.clear();
                speaker.monitor(true);
            }
        }
    }

    fn take_all(&mut self, speaker: &mut Speaker) {
        self.take(speaker, usize::MAX);
    }

    fn known(&self) -> BTreeMap<PeerIndex, &Routes> {
        self.sessions.iter().map(|(peer, (_, routes))| (*peer, routes)).collect()
    }
}

/// What the table has of every peer with a session.
fn held(speaker: &Speaker) -> BTreeMap<PeerIndex, Routes> {
    let peers = speaker.peers(PLACE).into_iter();
    let up = peers.filter(|peer| speaker.peer(*peer).unwrap().established_at.is_some());
    let routes = |peer| {
        let views = Family::ALL.into_iter().flat_map(move |family| {
            speaker.routes(PLACE, family, Some(peer), false, None, usize::MAX)
        });
        views.map(|view| (view.route.nlri, view.route.received)).collect()
    };
    up.map(|peer| (peer, routes(peer))).collect()
}

fn assert_same(collector: &Collector, speaker: &Speaker) {
    let held = held(speaker);
    assert_eq!(collector.known(), held.iter().map(|(peer, routes)| (*peer, routes)).collect());
}

/// A hub with two neighbours, of which the first sends several paths.
fn star() -> World {
    let bare = [1, 2, 3].map(|number| Node::new(number, 64_500 + u32::from(number)));
    let [hub, left, right] = &bare;
    let several = |node: Node| {
        node.edited(|config, _| {
            family(config).add_path_receive = true;
            family(config).add_path_send = AddPathSend::All;
        })
    };
    let to_left = several(hub.clone().with(left)).config.peers.remove(0);
    let mut hub_node = hub.clone().with(right);
    hub_node.config.peers.push(to_left);
    established(&[&hub_node.passive(), &several(left.clone().with(hub)), &right.clone().with(hub)])
}

#[derive(Clone, Debug)]
enum Step {
    Originate { host: usize, prefix: u8, med: u32 },
    Retract { host: usize, prefix: u8 },
    Cut(u8),
    Mend(u8),
    Clear(usize, Clear),
    Run(u64),
    Take(usize),
    Begin,
}

fn step() -> impl Strategy<Value = Step> {
    let clear = prop_oneof![Just(Clear::SoftIn), Just(Clear::SoftOut), Just(Clear::Hard)];
    prop_oneof![
        6 => (1_usize..3, 0_u8..40, 0_u32..3)
            .prop_map(|(host, prefix, med)| Step::Originate { host, prefix, med }),
        3 => (1_usize..3, 0_u8..40).prop_map(|(host, prefix)| Step::Retract { host, prefix }),
        1 => (2_u8..4).prop_map(Step::Cut),
        1 => (2_u8..4).prop_map(Step::Mend),
        1 => (0_usize..2, clear).prop_map(|(peer, what)| Step::Clear(peer, what)),
        3 => (0_u64..40_000).prop_map(Step::Run),
        3 => (0_usize..12).prop_map(Step::Take),
        1 => Just(Step::Begin),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_collector_that_began_at_any_time_has_exactly_what_peers_announced(
        steps in vec(step(), 1..120),
    ) {
        let mut world = star();
        let mut collector = Collector::default();
        world.host(0).speaker.monitor(true);
        for step in steps {
            let now = world.now;
            match step {
                Step::Originate { host, prefix, med } => {
                    let mut attributes = own();
                    attributes.med = Some(med);
                    world.originate_with(host, &format!("10.{prefix}.0.0/16"), attributes);
                }
                Step::Retract { host, prefix: number } => {
                    let of = prefix(&format!("10.{number}.0.0/16"));
                    let reason = crate::speaker::OwnRoute::Local;
                    world.host(host).speaker.retract(now, PLACE, of, reason);
                }
                Step::Cut(number) => world.cut(1, number),
                Step::Mend(number) => world.mend(1, number),
                Step::Clear(peer, what) => {
                    let speaker = &mut world.host(0).speaker;
                    let peer = speaker.peers(PLACE)[peer];
                    speaker.clear(now, peer, what);
                }
                Step::Run(millis) => world.run(Duration::from_millis(millis)),
                Step::Take(count) => collector.take(&mut world.host(0).speaker, count),
                Step::Begin => {
                    collector.sessions.clear();
                    world.host(0).speaker.monitor(true);
                }
            }
        }
        collector.take_all(&mut world.host(0).speaker);
        assert_same(&collector, &world.hosts[0].speaker);
        world.mend(1, 2);
        world.mend(1, 3);
        world.run(10 * MINUTE);
        collector.take_all(&mut world.host(0).speaker);
        assert_same(&collector, &world.hosts[0].speaker);
        prop_assert_eq!(collector.sessions.len(), 2);
    }
}

#[test]
fn routes_of_before_are_told_with_an_end_of_rib_a_family_and_peer() {
    let mut world = star();
    for number in 0..20 {
        world.originate(1, &format!("10.{number}.0.0/16"));
        world.originate(2, &format!("10.{}.0.0/16", 10 + number));
    }
    world.run(MINUTE);
    let mut collector = Collector::default();
    world.host(0).speaker.monitor(true);
    collector.take_all(&mut world.host(0).speaker);
    assert_same(&collector, &world.hosts[0].speaker);
    let counts: Vec<_> = collector.known().values().map(|routes| routes.len()).collect();
    assert_eq!((counts, collector.ends_of_rib), (vec![20, 20], 4));
    assert!(!world.hosts[0].speaker.has_monitored());
}

#[test]
fn who_takes_nothing_is_told_of_an_overrun_once_and_may_begin_again() {
    let mut world = star();
    let mut collector = Collector::default();
    world.host(0).speaker.monitor(true);
    for round in 0..300 {
        let mut attributes = own();
        attributes.med = Some(round);
        world.originate_with(1, "10.1.0.0/16", attributes);
        world.run(MINUTE);
    }
    collector.take_all(&mut world.host(0).speaker);
    assert_eq!(collector.overruns, 1);
    assert_same(&collector, &world.hosts[0].speaker);
    assert_eq!(collector.known().values().map(|routes| routes.len()).sum::<usize>(), 1);
}

#[test]
fn what_is_switched_off_tells_nothing() {
    let mut world = star();
    world.host(0).speaker.monitor(true);
    world.originate(1, "10.1.0.0/16");
    world.run(MINUTE);
    world.host(0).speaker.monitor(false);
    assert!(!world.hosts[0].speaker.has_monitored());
    assert_eq!(world.host(0).speaker.poll_monitored(), None);
}

/// One UPDATE that announces the prefix, with this ORIGIN.
fn update(of: &str, origin: u8) -> Vec<u8> {
    let codec = Codec {
        asn_width: AsnWidth::Four,
        families: [true; 2],
        ..Codec::initial(NeighborKind::External)
    };
    let mut attributes = Attributes::originated(address(2), Origin::Igp);
    attributes.as_path = "64502".parse().unwrap();
    let block = AttributeBlock::new(&attributes, Family::Ipv4Unicast, &codec).unwrap();
    let mut bytes = Vec::new();
    UpdatePacker::new(&mut bytes, &codec).announce(&block, [Nlri::from(prefix(of))]);
    let at = bytes.windows(4).position(|four| four == [0x40, 1, 1, 0]).unwrap();
    bytes[at + 3] = origin;
    bytes
}

#[test]
fn an_update_that_is_treated_as_withdraw_is_told_as_a_withdrawal() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    let mut collector = Collector::default();
    world.host(0).speaker.monitor(true);
    let peer = world.peer(0);
    let good = update("10.9.0.0/16", 0);
    world.inject(0, peer, &good);
    world.settle();
    collector.take_all(&mut world.host(0).speaker);
    assert_eq!(collector.known()[&peer].len(), 1);
    world.inject(0, peer, &update("10.9.0.0/16", 7));
    world.settle();
    collector.take_all(&mut world.host(0).speaker);
    assert_eq!(world.status(0, 0).intake.treated_as_withdraw, 1);
    assert_eq!((collector.known()[&peer].len(), collector.downs), (0, 0));
    assert_same(&collector, &world.hosts[0].speaker);
}

#[test]
fn an_update_is_told_byte_by_byte_as_it_came() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    world.host(0).speaker.monitor(true);
    let peer = world.peer(0);
    let mut collector = Collector::default();
    collector.take_all(&mut world.host(0).speaker);
    let bytes = update("10.9.0.0/16", 0);
    world.inject(0, peer, &bytes);
    world.settle();
    let told = world.host(0).speaker.poll_monitored();
    assert_eq!(told, Some(Monitored::Update(peer, bytes.clone().into())));
    let kind = frame(&bytes, MessageLimit::Standard).unwrap().unwrap().kind();
    assert_eq!(kind, MessageType::Update);
}

#[test]
fn routes_that_a_refresh_does_not_tell_again_are_told_as_withdrawn() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    let mut collector = Collector::default();
    world.host(0).speaker.monitor(true);
    let peer = world.peer(0);
    for number in 1..=8 {
        world.inject(0, peer, &update(&format!("10.{number}.0.0/16"), 0));
    }
    let mark = |kind| {
        let mut bytes = Vec::new();
        encode_refresh(RouteRefresh { afi_safi: Family::Ipv4Unicast.afi_safi(), kind }, &mut bytes);
        bytes
    };
    world.inject(0, peer, &mark(RefreshKind::Begin));
    world.inject(0, peer, &update("10.5.0.0/16", 0));
    world.settle();
    collector.take_all(&mut world.host(0).speaker);
    assert_eq!(collector.known()[&peer].len(), 8);
    world.inject(0, peer, &mark(RefreshKind::End));
    world.settle();
    collector.take_all(&mut world.host(0).speaker);
    assert_eq!((collector.known()[&peer].len(), collector.downs), (1, 0));
    assert_same(&collector, &world.hosts[0].speaker);
}

#[test]
fn routes_that_find_no_place_are_not_told() {
    let (mut one, two) = two();
    one.config.table.limits.prefixes = 2;
    let mut world = established(&[&one, &two]);
    let mut collector = Collector::default();
    world.host(0).speaker.monitor(true);
    let peer = world.peer(0);
    let all: Vec<u8> =
        (1..=3).flat_map(|number| update(&format!("10.{number}.0.0/16"), 0)).collect();
    world.inject(0, peer, &all);
    world.settle();
    collector.take_all(&mut world.host(0).speaker);
    assert_same(&collector, &world.hosts[0].speaker);
}

#[test]
fn routes_that_outlive_their_session_are_not_of_the_next_one() {
    let (one, two) = two();
    let restart_time = RestartTime::new(120).unwrap();
    let full = GracefulRestart::Full { restart_time, notifications: true };
    let edit = |node: Node| node.edited(|config, _| config.graceful_restart = full);
    let (one, two) = (edit(one), edit(two));
    let mut world = established(&[&one, &two]);
    world.originate(1, "10.2.0.0/16");
    world.originate(1, "10.3.0.0/16");
    world.run(MINUTE);
    world.replace(1, two.speaker(), Start::ForwardingKept);
    // The session is back, and nothing is told again before routes are chosen.
    for _ in 0..50 {
        world.run(Duration::from_millis(100));
        if world.is_up(0) {
            break;
        }
    }
    let mut collector = Collector::default();
    world.host(0).speaker.monitor(true);
    let peer = world.peer(0);
    collector.take(&mut world.host(0).speaker, 1);
    world.originate(1, "10.2.0.0/16");
    world.run(5 * MINUTE);
    collector.take_all(&mut world.host(0).speaker);
    assert_eq!(
        collector.known()[&peer].keys().copied().collect::<Vec<_>>(),
        [Nlri::from(prefix("10.2.0.0/16"))]
    );
    assert_same(&collector, &world.hosts[0].speaker);
}
