//! Other configurations, peers that come and go, and the way to go oneself.

use std::sync::Arc;

use super::configs::*;
use super::pairs::{MINUTE, established, family, pair, rules, two};
use super::world::World;
use crate::Community;
use crate::config::{MaxPrefixes, Opening, PeerConfig, PolicyReference, PrivateAsns};
use crate::impact::Impact;
use crate::notification::NotificationReason;
use crate::speaker::{
    Change, DynamicRange, Event, Neighbor, NeighborChange, NeighborName, PeerKey, Refused,
    SpeakerConfig, Start,
};

#[test]
fn a_change_of_policy_is_followed_without_a_flap_and_of_no_other_peer() {
    let [a, b, c] = [1, 2, 3].map(|number| Node::new(number, 64_500 + u32::from(number)));
    let middle = b.clone().with(&a).with(&c);
    let (a, c) = (a.with(&b).passive(), c.with(&b).passive());
    let mut world = established(&[&a, &middle, &c]);
    for text in ["10.1.0.0/16", "10.2.0.0/16"] {
        world.originate(0, text);
    }
    world.run(MINUTE);
    assert_eq!(world.hosts[2].prefixes(), ["10.1.0.0/16", "10.2.0.0/16"]);
    let reject = |config: &mut PeerConfig, routes: &mut crate::speaker::RouteConfig| {
        if config.remote_address == address(1) {
            config.import = Some(PolicyReference { name: "from-a".into(), digest: 1 });
            routes.import = Some(rules());
        }
    };
    let changed = middle.clone().edited(reject);
    let name =
        NeighborName::Peer(PeerKey { place: PLACE, remote: address(1), local: Some(address(2)) });
    let impact = Impact { import_sweep: true, ..Impact::default() };
    let changes = world.reconfigure(1, changed.speaker());
    assert_eq!(changes, [NeighborChange { name, what: Change::Changed(impact) }]);
    world.run(MINUTE);
    assert_eq!(world.hosts[2].prefixes(), ["10.2.0.0/16"]);
    // Towards one of the two: they part, and each is told what is new for it.
    let private = changed.clone().edited(|config, _| {
        if config.remote_address == address(3) {
            config.private_asns = PrivateAsns::Remove;
        }
    });
    world.reconfigure(1, private.speaker());
    world.run(MINUTE);
    assert_eq!(world.hosts[2].path(prefix("10.2.0.0/16")).unwrap(), "64502 64501");
    world.reconfigure(1, middle.speaker());
    world.run(MINUTE);
    assert_eq!(world.hosts[2].prefixes(), ["10.1.0.0/16", "10.2.0.0/16"]);
    assert_eq!([0, 1, 2].map(|host| world.flaps(host)), [(1, 0), (2, 0), (1, 0)]);
    assert_eq!(world.reconfigure(1, middle.speaker()), []);
}

#[test]
fn a_change_of_one_peer_that_needs_a_reset_resets_that_one_only() {
    let [a, b, c] = [1, 2, 3].map(|number| Node::new(number, 64_500 + u32::from(number)));
    let middle = b.clone().with(&a).with(&c);
    let (a, c) = (a.with(&b).passive(), c.with(&b).passive());
    let mut world = established(&[&a, &middle, &c]);
    world.originate(0, "10.1.0.0/16");
    let slower = middle.edited(|config, _| {
        if config.remote_address == address(3) {
            config.hold_time = crate::config::HoldTime::new(30).unwrap();
        }
    });
    world.reconfigure(1, slower.speaker());
    world.run(MINUTE);
    assert_eq!([0, 2].map(|host| world.flaps(host)), [(1, 0), (2, 1)]);
    let told = world.status(2, 0).last_received.unwrap().notification;
    assert_eq!(told.reason, NotificationReason::OtherConfigurationChange);
    assert_eq!(world.hosts[2].prefixes(), ["10.1.0.0/16"]);
}

#[test]
fn a_peer_that_is_configured_no_more_is_told_and_forgotten() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    world.originate(1, "10.2.0.0/16");
    world.run(MINUTE);
    let gone = world.peer(0);
    world.reconfigure(0, Node::new(1, 64_501).speaker());
    world.run(MINUTE);
    let told = world.status(1, 0).last_received.unwrap().notification;
    assert_eq!(told.reason, NotificationReason::PeerDeconfigured);
    assert!(world.hosts[0].events.iter().any(|(_, event)| *event == Event::Forgotten(gone)));
    assert_eq!(world.hosts[0].prefixes(), Vec::<String>::new());
    assert_eq!(world.hosts[0].speaker.peers(PLACE), []);
    // The same peer again is another one.
    world.reconfigure(0, one.speaker());
    world.run(10 * MINUTE);
    assert_ne!(world.peer(0), gone);
    assert_eq!(world.hosts[0].prefixes(), ["10.2.0.0/16"]);
    // A place that goes and comes back does not use a number again either.
    let before = world.peer(0);
    world.reconfigure(0, SpeakerConfig::default());
    // With its routes and next hops, of which nothing more is said.
    world.host(0).fib.clear();
    world.host(0).wanted.clear();
    world.run(MINUTE);
    assert_eq!(world.hosts[0].speaker.place(PLACE), None);
    world.reconfigure(0, one.speaker());
    world.run(10 * MINUTE);
    assert!(world.peer(0).number > before.number);
    assert_eq!(world.hosts[0].prefixes(), ["10.2.0.0/16"]);
}

#[test]
fn a_bound_below_what_a_peer_has_ends_its_session_at_the_reload() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    for number in 0..3 {
        world.originate(1, &format!("10.{number}.0.0/16"));
    }
    world.run(MINUTE);
    let bound = |prefixes| MaxPrefixes { prefixes, warning_percent: 80, restart_secs: None };
    let bounded = |prefixes| {
        let edit = |node: Node| {
            node.edited(|config, _| family(config).max_prefixes = Some(bound(prefixes)))
        };
        edit(one.clone()).speaker()
    };
    world.reconfigure(0, bounded(3));
    world.run(MINUTE);
    assert_eq!(world.flaps(0), (1, 0));
    world.reconfigure(0, bounded(2));
    world.run(MINUTE);
    assert_eq!((world.flaps(0), world.hosts[0].prefixes().len()), ((1, 1), 0));
}

#[test]
fn who_is_about_to_go_says_so_and_then_withdraws() {
    let mut world = pair();
    world.originate(0, "10.1.0.0/16");
    world.run(MINUTE);
    let preference = |world: &World| {
        let status = world.hosts[1].speaker.explain(PLACE, prefix("10.1.0.0/16"));
        let route = status.routes.first().map(|one| one.route.clone())?;
        let shuts_down = route.received.communities.contains(Community::GRACEFUL_SHUTDOWN);
        Some((shuts_down, route.imported?.local_preference))
    };
    assert_eq!(preference(&world), Some((false, None)));
    world.host(0).speaker.drain_out(true);
    world.run(MINUTE);
    assert_eq!(preference(&world), Some((true, Some(0))));
    assert!(world.hosts[0].speaker.place(PLACE).unwrap().draining);
    world.host(0).speaker.drain_out(false);
    world.run(MINUTE);
    assert_eq!(preference(&world), Some((false, None)));
    let now = world.now;
    world.host(0).speaker.stop_all(now, "maintenance").unwrap();
    world.run(10 * MINUTE);
    assert_eq!((preference(&world), world.flaps(0)), (None, (1, 1)));
    let told = world.status(1, 0).last_received.unwrap().notification;
    assert_eq!(told.text().as_deref(), Some("maintenance"));
}

#[test]
fn dynamic_neighbours_come_from_their_range_within_its_bound_and_are_forgotten() {
    let hub = Node::new(9, 64_509);
    let template = PeerConfig {
        opening: Opening::Dynamic,
        local_address: None,
        remote_address: "192.0.2.0".parse().unwrap(),
        remote_asns: crate::config::AsnRange::new(
            nvgate_model::Asn(64_501),
            nvgate_model::Asn(64_599),
        )
        .unwrap(),
        ..hub.peer(0, 0)
    };
    let neighbor = Neighbor { config: Arc::new(template), routes: Arc::new(routes()) };
    let mut with_range = hub.clone();
    with_range.config.ranges =
        vec![DynamicRange { range: prefix("192.0.2.0/30"), neighbors_max: 2, neighbor }];
    let [one, two, three, four] =
        [1, 2, 3, 4].map(|number| Node::new(number, 64_500 + u32::from(number)).with(&hub));
    let mut world = World::new();
    world.add(with_range.speaker(), 9, &[(PLACE, 0)], Start::Cold);
    for node in [&one, &two] {
        world.add(node.speaker(), node.number, &[(PLACE, 0)], Start::Cold);
        world.run(MINUTE);
    }
    world.originate(1, "10.1.0.0/16");
    world.run(MINUTE);
    assert_eq!(world.hosts[0].speaker.place(PLACE).unwrap().established, 2);
    assert_eq!(world.hosts[2].prefixes(), ["10.1.0.0/16"]);
    let endpoints = |number: u8| crate::session::Endpoints {
        local: std::net::SocketAddr::new(address(9), 179),
        remote: std::net::SocketAddr::new(address(number), 4000),
    };
    let now = world.now;
    let come = |world: &mut World, number| {
        world.host(0).speaker.handle_incoming(now, PLACE, endpoints(number)).map(|_| ())
    };
    assert_eq!(come(&mut world, 3), Err(Refused::RangeFull));
    assert_eq!(come(&mut world, 4), Err(Refused::Unknown));
    let _ = (three, four);
    world.cut(1, 9);
    world.run(MINUTE);
    let forgotten = |world: &World| {
        let events = world.hosts[0].events.iter();
        events.filter(|(_, event)| matches!(event, Event::Forgotten(_))).count()
    };
    assert_eq!((forgotten(&world), world.hosts[2].prefixes()), (1, Vec::new()));
    assert_eq!(world.hosts[0].speaker.peers(PLACE).len(), 1);
    world.mend(1, 9);
    world.run(10 * MINUTE);
    assert_eq!(world.hosts[2].prefixes(), ["10.1.0.0/16"]);
    // The range goes, and its neighbours with it.
    world.reconfigure(0, hub.speaker());
    world.run(MINUTE);
    assert_eq!((forgotten(&world), world.hosts[0].speaker.peers(PLACE)), (3, Vec::new()));
}
