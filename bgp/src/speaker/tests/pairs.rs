//! Two routers and three: routes out and back, and what sessions say.

use std::sync::Arc;
use std::time::Duration;

use super::configs::*;
use super::world::World;
use crate::config::{AddPathSend, FamilyConfig, MaxPrefixes, PeerConfig};
use crate::decision::{Barred, Verdict};
use crate::notification::NotificationReason;
use crate::policy::{
    Action, Condition, Direction, Policy, PrefixList, PrefixRange, Rule, RuleId, Then,
    Verdict as Judgement,
};
use crate::rib::Reach;
use crate::session::{DownReason, State};
use crate::speaker::{BfdState, Clear, Event, OwnRoute, PrefixCount, Start};
use crate::{Community, Family};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn two() -> (Node, Node) {
    let (one, two) = (Node::new(1, 64_501), Node::new(2, 64_502));
    (one.clone().with(&two), two.with(&one).passive())
}

/// Routers that are all established a minute after they began.
pub(super) fn established(nodes: &[&Node]) -> World {
    let mut world = World::of(nodes.iter().map(|node| node.speaker()));
    world.run(MINUTE);
    for host in 0..nodes.len() {
        assert!(world.is_up(host), "host {host}");
    }
    world
}

pub(super) fn pair() -> World {
    let (one, two) = two();
    established(&[&one, &two])
}

pub(super) fn family(config: &mut PeerConfig) -> &mut FamilyConfig {
    config.families[0].as_mut().unwrap()
}

#[test]
fn two_speakers_exchange_their_routes_and_withdraw_them() {
    let mut world = pair();
    world.originate(0, "10.1.0.0/16");
    world.originate(1, "10.2.0.0/16");
    world.originate(1, "10.3.0.0/16");
    world.run(MINUTE);
    assert_eq!(world.hosts[0].prefixes(), ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]);
    assert_eq!(world.hosts[0].fib, {
        let mut fib = world.hosts[0].fib.clone();
        fib.insert((PLACE, prefix("10.1.0.0/16")), Reach::Local);
        fib
    });
    assert_eq!(world.hosts[0].via(prefix("10.2.0.0/16")), [address(2)]);
    assert_eq!(world.hosts[1].via(prefix("10.1.0.0/16")), [address(1)]);
    assert_eq!(world.hosts[0].path(prefix("10.2.0.0/16")).unwrap(), "64502");
    world.retract(1, "10.2.0.0/16");
    world.run(MINUTE);
    assert_eq!(world.hosts[0].prefixes(), ["10.1.0.0/16", "10.3.0.0/16"]);
    assert_eq!((world.flaps(0), world.flaps(1)), ((1, 0), (1, 0)));
    let status = world.status(0, 0);
    assert_eq!((status.received, status.accepted, status.announced), ([1, 0], [1, 0], [2, 0]));
    assert_eq!((status.state, status.flaps, status.told), (State::Established, 0, [true; 2]));
}

#[test]
fn ipv6_routes_need_a_next_hop_of_their_own() {
    let (one, two) = two();
    let one = one.edited(|_, routes| {
        routes.next_hops[1] = Some("2001:db8::1".parse().unwrap());
    });
    let mut world = established(&[&one, &two]);
    world.originate(0, "2001:db8:1::/48");
    world.originate(1, "2001:db8:2::/48");
    world.run(MINUTE);
    assert_eq!(world.hosts[1].prefixes(), ["2001:db8:1::/48", "2001:db8:2::/48"]);
    let next_hop: std::net::IpAddr = "2001:db8::1".parse().unwrap();
    assert_eq!(world.hosts[1].via(prefix("2001:db8:1::/48")), [next_hop]);
    // The other has only an IPv4 address on the session.
    assert_eq!(world.hosts[0].prefixes(), ["2001:db8:1::/48"]);
    let advertised = &world.hosts[1].speaker.explain(PLACE, prefix("2001:db8:2::/48")).advertised;
    assert_eq!(advertised[0].export, Some((Judgement::Reject, RuleId::NEXT_HOP)));
}

/// Rules that reject one prefix and raise another's preference.
pub(super) fn rules() -> Arc<Policy> {
    let list = |text| {
        let range = PrefixRange::new(prefix(text), None, None).unwrap();
        Condition::Prefix(PrefixList::new(&[range]).unwrap())
    };
    let rule = |index, text, actions, then| Rule {
        id: RuleId::configured(index).unwrap(),
        conditions: vec![list(text)],
        actions,
        then: Then::Decide(then),
    };
    let prefer = vec![Action::LocalPreference(200)];
    let rules = vec![
        rule(0, "10.1.0.0/16", vec![], Judgement::Reject),
        rule(1, "10.2.0.0/16", prefer, Judgement::Accept),
    ];
    Arc::new(Policy::compile(Direction::Import, rules, Judgement::Accept).unwrap())
}

#[test]
fn transit_passes_on_what_policy_lets_in_with_its_own_as_before_the_path() {
    let [a, b, c] = [Node::new(1, 64_501), Node::new(2, 64_502), Node::new(3, 64_503)];
    let middle = b.clone().with(&a).edited(|_, routes| routes.import = Some(rules())).with(&c);
    let (a, c) = (a.with(&b).passive(), c.with(&b).passive());
    let mut world = established(&[&a, &middle, &c]);
    for text in ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"] {
        world.originate(0, text);
    }
    world.run(MINUTE);
    assert_eq!(world.hosts[2].prefixes(), ["10.2.0.0/16", "10.3.0.0/16"]);
    assert_eq!(world.hosts[2].path(prefix("10.2.0.0/16")).unwrap(), "64502 64501");
    assert_eq!(world.hosts[2].via(prefix("10.2.0.0/16")), [address(2)]);
    let refused = world.hosts[1].speaker.explain(PLACE, prefix("10.1.0.0/16"));
    let [route] = &refused.routes[..] else { panic!("one route") };
    assert_eq!(route.route.rule, RuleId::configured(0));
    assert_eq!(route.route.verdict, Some(Verdict::Barred(Barred::Rejected)));
    assert_eq!(route.peer, Some(world.hosts[1].speaker.peers(PLACE)[0]));
    assert!(refused.advertised.iter().all(|one| one.paths.is_empty()));
    let taken = world.hosts[1].speaker.explain(PLACE, prefix("10.2.0.0/16"));
    assert_eq!(taken.routes[0].route.imported.as_ref().unwrap().local_preference, Some(200));
    let paths: Vec<usize> = taken.advertised.iter().map(|one| one.paths.len()).collect();
    // Not to who taught it.
    assert_eq!(paths, [0, 1]);
    let middle = &world.hosts[1].speaker;
    assert_eq!((world.status(1, 0).received, world.status(1, 0).accepted), ([3, 0], [2, 0]));
    assert_eq!(middle.routes(PLACE, Family::Ipv4Unicast, None, true, None, 9).len(), 2);
    let peers = middle.peers(PLACE);
    assert_eq!(middle.routes(PLACE, Family::Ipv4Unicast, Some(peers[1]), false, None, 9), []);
    world.hosts[1].unreachable.insert(address(1));
    let resolution = crate::rib::Resolution::Unreachable;
    world.host(1).speaker.handle_next_hop(PLACE, address(1), resolution);
    world.run(MINUTE);
    assert_eq!(world.hosts[2].prefixes(), Vec::<String>::new());
}

#[test]
fn a_reflector_passes_routes_between_its_clients_and_back_to_none() {
    let asn = 64_500;
    let [one, rr, two] = [1, 2, 3].map(|number| Node::new(number, asn));
    let reflector =
        rr.clone().with(&one).with(&two).edited(|config, _| config.reflector_client = true);
    let (one, two) = (one.with(&rr).passive(), two.with(&rr).passive());
    let mut world = established(&[&one, &reflector, &two]);
    world.originate(0, "10.1.0.0/16");
    world.run(MINUTE);
    let status = world.hosts[2].speaker.explain(PLACE, prefix("10.1.0.0/16"));
    let received = &status.routes[0].route.received;
    assert_eq!(received.originator_id(), Some([10, 255, 0, 1].into()));
    assert_eq!(received.cluster_list(), [std::net::Ipv4Addr::new(10, 255, 0, 2)]);
    assert_eq!(received.local_preference, Some(100));
    assert_eq!(world.hosts[2].via(prefix("10.1.0.0/16")), [address(1)]);
    assert_eq!(world.status(0, 0).received, [0, 0]);
    // Both clients are told by one group.
    assert_eq!(world.hosts[1].speaker.place(PLACE).unwrap().groups, 2);
    // Clients no more: nothing passes between them.
    let plain = reflector.edited(|config, _| config.reflector_client = false);
    world.reconfigure(1, plain.speaker());
    world.run(MINUTE);
    assert_eq!(world.hosts[2].prefixes(), Vec::<String>::new());
    assert_eq!(world.flaps(2), (1, 0));
}

#[test]
fn clients_of_one_group_are_told_everything_but_their_own() {
    let asn = 64_500;
    let hub = Node::new(1, asn);
    let clients: Vec<Node> =
        (2..=12).map(|number| Node::new(number, asn).with(&hub).passive()).collect();
    let reflector = clients
        .iter()
        .fold(hub, |hub, client| {
            let config = hub.peer(client.number, asn);
            hub.with_config(config, routes())
        })
        .edited(|config, _| config.reflector_client = true);
    let nodes: Vec<&Node> = std::iter::once(&reflector).chain(&clients).collect();
    let mut world = established(&nodes);
    for (client, number) in clients.iter().zip(0..) {
        for route in 0..7 {
            world.originate(1 + number, &format!("10.{}.{route}.0/24", client.number));
        }
    }
    world.run(MINUTE);
    for host in 1..=clients.len() {
        assert_eq!(world.hosts[host].prefixes().len(), 7 * clients.len());
        let status = world.status(host, 0);
        assert_eq!((status.received, status.accepted), ([70, 0], [70, 0]));
    }
    assert_eq!(world.hosts[0].speaker.place(PLACE).unwrap().groups, 2);
    world.cut(1, 5);
    world.run(Duration::from_secs(1));
    assert_eq!(world.hosts[1].prefixes().len(), 7 * clients.len() - 7);
}

#[test]
fn several_paths_of_a_prefix_go_out_where_that_was_agreed() {
    let [a, b, c] = [1, 2, 3].map(|number| Node::new(number, 64_500 + u32::from(number)));
    let d = Node::new(4, 64_504);
    let middle = c.clone().with(&a).with(&b).with(&d).edited(|config, _| {
        if config.remote_address == address(4) {
            family(config).add_path_send = AddPathSend::All;
        }
    });
    let far = d.with(&c).passive().edited(|config, _| family(config).add_path_receive = true);
    let (a, b) = (a.with(&c).passive(), b.with(&c).passive());
    let mut world = established(&[&a, &b, &middle, &far]);
    world.originate(0, "10.9.0.0/16");
    world.originate(1, "10.9.0.0/16");
    world.run(MINUTE);
    let paths = |world: &World| -> Vec<String> {
        let status = world.hosts[3].speaker.explain(PLACE, prefix("10.9.0.0/16"));
        let mut paths: Vec<_> =
            status.routes.iter().map(|one| one.route.received.as_path.to_string()).collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(&world), ["64503 64501", "64503 64502"]);
    world.retract(0, "10.9.0.0/16");
    world.run(MINUTE);
    assert_eq!(paths(&world), ["64503 64502"]);
}

#[test]
fn more_prefixes_than_allowed_end_the_session_until_it_is_time_to_try_again() {
    let (one, two) = two();
    let bound = MaxPrefixes { prefixes: 3, warning_percent: 67, restart_secs: Some(600) };
    let one = one.edited(|config, _| family(config).max_prefixes = Some(bound));
    let mut world = established(&[&one, &two]);
    for text in ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"] {
        world.originate(1, text);
        world.run(MINUTE);
    }
    let peer = world.peer(0);
    let warnings = |world: &World| -> Vec<Event> {
        let events = world.hosts[0].events.iter().map(|(_, event)| event.clone());
        events.filter(|event| matches!(event, Event::PrefixWarning(..))).collect()
    };
    let count = PrefixCount { routes: 2, limit: 3 };
    assert_eq!(warnings(&world), [Event::PrefixWarning(peer, Family::Ipv4Unicast, count)]);
    assert_eq!(world.flaps(0), (1, 0));
    world.originate(1, "10.4.0.0/16");
    let ended = world.now;
    world.run(MINUTE);
    let told = world.status(1, 0).last_received.unwrap().notification;
    assert_eq!(told.reason, NotificationReason::MaximumPrefixes);
    assert_eq!(*told.data, [0, 1, 1, 0, 0, 0, 3]);
    assert_eq!(world.hosts[0].prefixes(), Vec::<String>::new());
    assert_eq!(world.status(0, 0).start_at, Some(ended + Duration::from_secs(600)));
    world.retract(1, "10.4.0.0/16");
    world.run(Duration::from_secs(539));
    assert_eq!((world.status(0, 0).state, world.flaps(0)), (State::Idle, (1, 1)));
    world.run(2 * MINUTE);
    assert_eq!((world.flaps(0), world.hosts[0].prefixes().len()), ((2, 1), 3));
    assert_eq!(world.status(0, 0).start_at, None);
}

#[test]
fn without_a_restart_time_only_a_clear_brings_the_session_back() {
    let (one, two) = two();
    let bound = MaxPrefixes { prefixes: 1, warning_percent: 100, restart_secs: None };
    let one = one.edited(|config, _| family(config).max_prefixes = Some(bound));
    let mut world = established(&[&one, &two]);
    world.originate(1, "10.1.0.0/16");
    world.originate(1, "10.2.0.0/16");
    world.run(60 * MINUTE);
    assert_eq!((world.flaps(0), world.status(0, 0).start_at), ((1, 1), None));
    world.retract(1, "10.2.0.0/16");
    let (now, peer) = (world.now, world.peer(0));
    assert!(world.host(0).speaker.clear(now, peer, Clear::Hard));
    world.run(10 * MINUTE);
    assert_eq!((world.flaps(0), world.hosts[0].prefixes().len()), ((2, 1), 1));
}

#[test]
fn a_place_that_is_full_refuses_prefixes_and_in_the_end_the_peer() {
    let (mut one, two) = two();
    one.config.table.limits.prefixes = 4;
    let mut world = established(&[&one, &two]);
    for number in 0..7 {
        world.originate(1, &format!("10.{number}.0.0/16"));
    }
    world.run(MINUTE);
    let status = world.status(0, 0);
    assert_eq!((status.received, status.intake.refused_routes), ([4, 0], 3));
    assert_eq!(status.intake.last_refusal, Some(crate::rib::Refused::TablePrefixes));
    assert_eq!(world.flaps(0), (1, 0));
    world.originate(1, "10.8.0.0/16");
    world.run(MINUTE);
    let told = world.status(1, 0).last_received.unwrap().notification;
    assert_eq!(told.reason, NotificationReason::OutOfResources);
    assert_eq!(world.flaps(0), (1, 1));
}

#[test]
fn a_refresh_is_marked_and_brings_what_was_there() {
    let mut world = pair();
    world.originate(1, "10.2.0.0/16");
    world.run(MINUTE);
    let (now, peer) = (world.now, world.peer(0));
    let before = world.status(1, 0).counters.sent;
    assert!(world.host(0).speaker.clear(now, peer, Clear::SoftIn));
    world.run(Duration::from_secs(1));
    let after = world.status(1, 0).counters.sent;
    use crate::wire::MessageType;
    let sent = |kind| after.of(kind) - before.of(kind);
    // Both families: BoRR and EoRR of each, and the one route.
    assert_eq!((sent(MessageType::RouteRefresh), sent(MessageType::Update)), (4, 1));
    assert_eq!((world.hosts[0].prefixes().len(), world.flaps(0)), (1, (1, 0)));
    let (now, peer) = (world.now, world.peer(1));
    assert!(world.host(1).speaker.clear(now, peer, Clear::SoftOut));
    world.run(Duration::from_secs(1));
    assert_eq!(world.status(1, 0).counters.sent.of(MessageType::RouteRefresh), 8);
    assert_eq!(world.hosts[0].prefixes(), ["10.2.0.0/16"]);
}

#[test]
fn bfd_follows_a_session_and_its_alarm_ends_it_at_once() {
    let (one, two) = two();
    let one = one.edited(|config, _| config.bfd = true);
    let mut world = established(&[&one, &two]);
    world.originate(1, "10.2.0.0/16");
    world.run(MINUTE);
    let (now, peer) = (world.now, world.peer(0));
    world.host(0).speaker.handle_bfd(now, peer, BfdState::Up);
    assert_eq!(world.flaps(0), (1, 0));
    world.host(0).speaker.handle_bfd(now, peer, BfdState::Down);
    world.settle();
    assert_eq!((world.now, world.hosts[0].prefixes()), (now, Vec::new()));
    let told: Vec<bool> = world.hosts[0]
        .events
        .iter()
        .filter_map(|(_, event)| {
            if let Event::Bfd(_, endpoints) = event { Some(endpoints.is_some()) } else { None }
        })
        .collect();
    assert_eq!(told, [true, false]);
    let down = world.status(0, 0).last_down.unwrap().down;
    let DownReason::Sent(sent) = down.reason else { panic!("{down:?}") };
    assert_eq!(sent.reason, NotificationReason::BfdDown);
}

#[test]
fn a_connections_name_is_given_again_only_after_its_end_was_told() {
    use crate::session::{Closed, Endpoints};
    let (_, two) = two();
    let now = nvgate_model::Instant(1_000_000_000);
    let mut speaker = crate::speaker::Speaker::new(two.speaker(), now, 1, Start::Cold);
    let endpoints = |port| Endpoints {
        local: std::net::SocketAddr::new(address(2), 179),
        remote: std::net::SocketAddr::new(address(1), port),
    };
    let (peer, first) = speaker.handle_incoming(now, PLACE, endpoints(1)).unwrap();
    // What is no message ends the connection, once its NOTIFICATION went.
    speaker.handle_bytes(now, peer, first, &[0; 19]);
    while let Some((peer, connection, bytes)) = speaker.poll_transmit() {
        let length = bytes.len();
        speaker.handle_transmitted(now, peer, connection, length);
    }
    speaker.handle_timeout(now + MINUTE);
    let (_, second) = speaker.handle_incoming(now, PLACE, endpoints(2)).unwrap();
    assert_ne!(first, second);
    let wrong = speaker.poll_event().unwrap();
    assert!(matches!(wrong, Event::Malformed(of, _) if of == peer));
    let close = speaker.poll_event().unwrap();
    assert!(matches!(close, Event::Close(of, connection, _) if (of, connection) == (peer, first)));
    speaker.handle_closed(now, peer, second, Closed::Reset);
    assert_eq!(speaker.poll_event(), None);
}

#[test]
fn one_prefix_for_two_sites_is_told_to_the_neighbours_of_both() {
    use crate::policy::{ExportGuard, Site, TenantFacts, TenantPeer};
    let [one, two, three] = [1, 2, 3].map(|number| Node::new(number, 64_500 + u32::from(number)));
    let hub = one.clone().with(&two).with(&three).edited(|config, routes| {
        let site = if config.remote_address == address(2) { Site(2) } else { Site(3) };
        let peer = TenantPeer { site: Some(site), accept_default: false, announce_learned: false };
        let guard = TenantFacts::default().export(peer);
        routes.export_guard = ExportGuard::Tenant(Arc::new(guard));
    });
    let mut world = established(&[&hub, &two.with(&one).passive(), &three.with(&one).passive()]);
    let now = world.now;
    let seen = prefix("10.50.0.0/24");
    let reasons = [2, 3].map(|site| OwnRoute::Translated(Site(site)));
    for reason in reasons {
        world.host(0).speaker.originate(now, PLACE, seen, reason, own()).unwrap();
    }
    world.run(MINUTE);
    let told = |world: &World| [1, 2].map(|host| world.hosts[host].prefixes().len());
    assert_eq!(told(&world), [1, 1]);
    let status = world.hosts[0].speaker.explain(PLACE, seen);
    assert_eq!(*status.routes[0].reasons, reasons);
    assert!(world.host(0).speaker.retract(now, PLACE, seen, reasons[0]));
    world.run(MINUTE);
    assert_eq!(told(&world), [0, 1]);
    assert_eq!(world.hosts[0].prefixes(), ["10.50.0.0/24"]);
}

#[test]
fn a_blackhole_of_a_trusted_peer_discards() {
    let (one, two) = two();
    let one = one.edited(|_, routes| routes.blackhole = true);
    let mut world = established(&[&one, &two]);
    let mut attributes = own();
    attributes.communities = [Community::BLACKHOLE].into_iter().collect();
    world.originate_with(1, "10.2.0.1/32", attributes);
    world.run(MINUTE);
    assert_eq!(world.hosts[0].fib.get(&(PLACE, prefix("10.2.0.1/32"))), Some(&Reach::Discard));
}
