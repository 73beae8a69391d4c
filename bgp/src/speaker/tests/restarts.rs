//! Sessions that are lost, peers that restart, and speakers that do.

use std::time::Duration;

use super::configs::*;
use super::pairs::{MINUTE, established, two};
use super::world::World;
use crate::config::{GracefulRestart, HoldTime, RestartTime};
use crate::session::DownReason;
use crate::speaker::{Event, Start};

fn full(secs: u16) -> GracefulRestart {
    let restart_time = RestartTime::new(secs).unwrap();
    GracefulRestart::Full { restart_time, notifications: true }
}

/// A pair in which both restart gracefully within two minutes, with a route each.
fn restarting() -> (Node, Node, World) {
    let (one, two) = two();
    let edit = |node: Node| node.edited(|config, _| config.graceful_restart = full(120));
    let (one, two) = (edit(one), edit(two));
    let mut world = established(&[&one, &two]);
    world.originate(0, "10.1.0.0/16");
    world.originate(1, "10.2.0.0/16");
    world.run(MINUTE);
    assert_eq!(world.hosts[0].prefixes(), ["10.1.0.0/16", "10.2.0.0/16"]);
    (one, two, world)
}

fn stale(world: &World, host: usize) -> [bool; 2] {
    world.status(host, 0).stale
}

#[test]
fn a_lost_session_takes_its_routes_unless_both_agreed_otherwise() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    world.originate(1, "10.2.0.0/16");
    world.run(MINUTE);
    world.cut(1, 2);
    world.settle();
    assert_eq!(world.hosts[0].prefixes(), Vec::<String>::new());
    world.mend(1, 2);
    world.run(10 * MINUTE);
    assert_eq!(world.hosts[0].prefixes(), ["10.2.0.0/16"]);
    assert_eq!(world.flaps(0), (2, 1));
}

#[test]
fn routes_of_a_peer_that_restarts_stay_until_it_told_them_again() {
    let (_, two, mut world) = restarting();
    world.originate(1, "10.3.0.0/16");
    world.run(MINUTE);
    world.replace(1, two.speaker(), Start::ForwardingKept);
    world.settle();
    assert_eq!((world.flaps(0).1, stale(&world, 0)), (1, [true; 2]));
    assert_eq!(world.hosts[0].prefixes().len(), 3);
    // Only one of its routes comes back.
    world.originate(1, "10.2.0.0/16");
    world.run(Duration::from_secs(100));
    assert_eq!((world.flaps(0).0, stale(&world, 0)), (2, [false; 2]));
    assert_eq!(world.hosts[0].prefixes(), ["10.1.0.0/16", "10.2.0.0/16"]);
    let gone =
        world.hosts[0].events.iter().filter(|(_, event)| matches!(event, Event::NextHop(..)));
    assert_eq!(gone.count(), 1, "the next hop was wanted all the time");
}

#[test]
fn routes_of_a_peer_that_does_not_come_back_go_after_its_restart_time() {
    let (_, _, mut world) = restarting();
    world.cut(1, 2);
    world.run(Duration::from_secs(119));
    assert_eq!(world.hosts[0].prefixes(), ["10.1.0.0/16", "10.2.0.0/16"]);
    world.run(Duration::from_secs(2));
    assert_eq!(
        (world.hosts[0].prefixes(), stale(&world, 0)),
        (vec!["10.1.0.0/16".to_owned()], [false; 2])
    );
    world.mend(1, 2);
    world.run(10 * MINUTE);
    assert_eq!(world.hosts[0].prefixes(), ["10.1.0.0/16", "10.2.0.0/16"]);
}

#[test]
fn a_peer_that_forgot_how_to_forward_loses_its_routes_when_it_is_back() {
    let (_, two, mut world) = restarting();
    world.replace(1, two.speaker(), Start::Cold);
    world.settle();
    assert_eq!(world.hosts[0].prefixes().len(), 2);
    world.run(MINUTE);
    assert_eq!((world.flaps(0).0, world.hosts[0].prefixes().len()), (2, 1));
}

#[test]
fn a_peer_that_is_lost_again_while_it_tells_its_routes_leaves_only_those_of_the_last_session() {
    let (_, _, mut world) = restarting();
    for _ in 0..3 {
        world.cut(1, 2);
        world.settle();
        assert_eq!((world.hosts[0].prefixes().len(), stale(&world, 0)), (2, [true; 2]));
        world.mend(1, 2);
        world.run(MINUTE);
        assert_eq!((world.hosts[0].prefixes().len(), stale(&world, 0)), (2, [false; 2]));
    }
}

#[test]
fn a_restarted_speaker_chooses_nothing_before_its_peers_told_their_routes() {
    let (one, _, mut world) = restarting();
    world.hosts[0].fib.clear();
    world.replace(0, one.speaker(), Start::ForwardingKept);
    assert!(world.hosts[0].speaker.place(PLACE).unwrap().deferring);
    world.run(MINUTE);
    assert!(world.is_up(0));
    assert!(!world.hosts[0].speaker.place(PLACE).unwrap().deferring);
    let told: Vec<&Event> = world.hosts[0]
        .events
        .iter()
        .map(|(_, event)| event)
        .filter(|event| {
            matches!(event, Event::Restarted(_) | Event::Up(..) | Event::RoutesChanged(_))
        })
        .collect();
    let [Event::Up(..), .., Event::Restarted(PLACE) | Event::RoutesChanged(PLACE)] = told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(told.iter().filter(|event| ***event == Event::Restarted(PLACE)).count(), 1);
    assert_eq!(world.hosts[0].prefixes(), ["10.2.0.0/16"]);
    // The helper kept the route of before until the first End-of-RIB.
    assert_eq!(world.hosts[1].prefixes(), ["10.2.0.0/16"]);
}

#[test]
fn a_restarted_speaker_waits_no_longer_than_two_minutes_for_a_peer_that_is_gone() {
    let (one, _, mut world) = restarting();
    world.cut(1, 2);
    world.replace(0, one.speaker(), Start::ForwardingKept);
    world.originate(0, "10.5.0.0/16");
    world.run(Duration::from_secs(119));
    let waits = |world: &World| world.hosts[0].speaker.place(PLACE).unwrap().deferring;
    let restarted = |world: &World| {
        world.hosts[0].events.iter().any(|(_, event)| *event == Event::Restarted(PLACE))
    };
    assert!(waits(&world) && !restarted(&world));
    world.run(Duration::from_secs(2));
    assert!(!waits(&world) && restarted(&world));
}

#[test]
fn a_notification_keeps_routes_where_both_agreed_and_a_hard_reset_does_not() {
    let (_, _, mut world) = restarting();
    let (now, peer) = (world.now, world.peer(0));
    assert!(world.host(0).speaker.clear(now, peer, crate::speaker::Clear::Hard));
    world.settle();
    let down = world.status(1, 0).last_down.unwrap().down;
    assert!(matches!(down.reason, DownReason::Received(_)));
    assert_eq!((down.keeps_routes, world.hosts[1].prefixes().len()), ([false; 2], 1));
}

#[test]
fn stale_routes_wait_six_minutes_for_an_end_of_rib_that_does_not_come() {
    let (one, two) = two();
    let edit = |node: Node| {
        node.edited(|config, _| {
            config.graceful_restart = full(120);
            config.hold_time = HoldTime::NONE;
        })
    };
    let absent = two.peer(9, 64_509);
    let (one, lonely) = (edit(one), edit(two.clone().with_config(absent, routes())));
    let mut world = established(&[&one, &edit(two)]);
    world.originate(1, "10.2.0.0/16");
    world.run(MINUTE);
    // Back with a peer that it waits for, it tells nothing; later nobody reads what it tells.
    world.replace(1, lonely.speaker(), Start::ForwardingKept);
    world.run(MINUTE);
    assert_eq!((world.flaps(0), stale(&world, 0)), ((2, 1), [true; 2]));
    let back = world.status(0, 0).established_at.unwrap();
    world.hosts[0].reads = false;
    let until = back + Duration::from_secs(360);
    assert_eq!(world.status(0, 0).stale_until, Some(until));
    world.run(until.since(world.now + Duration::from_secs(1)));
    assert_eq!(world.hosts[0].prefixes(), ["10.2.0.0/16"]);
    world.run(Duration::from_secs(2));
    assert_eq!((world.hosts[0].prefixes(), world.flaps(0)), (Vec::new(), (2, 1)));
}
