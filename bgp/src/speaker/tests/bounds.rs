//! Peers that send too much, read too little, or are wrong: what each costs, and whom.

use std::num::NonZeroU32;
use std::time::Duration;

use nvgate_model::DomainSlot;

use super::configs::*;
use super::pairs::{MINUTE, established, two};
use super::world::World;
use crate::session::{Malformed, Wrong};
use crate::speaker::{Event, OwnRoute, Place, SpeakerConfig, Start};
use crate::wire::{AttributeBlock, Codec, MessageType, UpdatePacker};
use crate::{AsnWidth, Attributes, Family, NeighborKind, Nlri, Origin};

/// UPDATEs that announce and withdraw one prefix again and again.
fn storm(updates: u32) -> Vec<u8> {
    let codec = Codec { asn_width: AsnWidth::Four, ..Codec::initial(NeighborKind::External) };
    let mut attributes = Attributes::originated(address(2), Origin::Igp);
    attributes.as_path = "64502".parse().unwrap();
    let block = AttributeBlock::new(&attributes, Family::Ipv4Unicast, &codec).unwrap();
    let mut bytes = Vec::new();
    let mut packer = UpdatePacker::new(&mut bytes, &codec);
    let flapping = Nlri::from(prefix("10.99.0.0/16"));
    for number in 0..updates {
        if number % 2 == 0 {
            packer.announce(&block, [flapping]);
        } else {
            packer.withdraw(Family::Ipv4Unicast, [flapping]);
        }
    }
    bytes
}

#[test]
fn a_storm_of_one_tenant_is_read_at_its_rate_and_delays_nobody() {
    let (hub, spoke) = (Node::new(1, 64_501), Node::new(2, 64_502));
    let mut hub_node = hub.clone().with(&spoke).passive();
    hub_node.config.updates_per_second = NonZeroU32::new(100);
    let places = [1, 2].map(|slot| Place::Domain(DomainSlot(slot)));
    let config = hub_node.config;
    let config = SpeakerConfig {
        places: places.iter().map(|place| (*place, config.clone().into())).collect(),
    };
    let mut world = World::new();
    world.add(config, 1, &[(places[0], 1), (places[1], 2)], Start::Cold);
    for network in [1, 2] {
        world.add(spoke.clone().with(&hub).speaker(), 2, &[(PLACE, network)], Start::Cold);
    }
    world.run(MINUTE);
    let stormy = world.hosts[0].speaker.peers(places[0])[0];
    let bytes = storm(100_000);
    world.inject(0, stormy, &bytes);
    let received = |world: &World| {
        let status = world.hosts[0].speaker.peer(stormy).unwrap();
        status.counters.received.of(MessageType::Update)
    };
    let before = received(&world);
    world.settle();
    world.originate(2, "10.7.0.0/16");
    let turns = world.hosts[0].turns;
    world.settle();
    // The quiet tenant has its route at once, for a few turns.
    assert!(world.hosts[0].fib.contains_key(&(places[1], prefix("10.7.0.0/16"))));
    assert!(world.hosts[0].turns - turns < 20, "{}", world.hosts[0].turns - turns);
    world.run(Duration::from_secs(200));
    let taken = received(&world) - before;
    // A second's worth at once, and what a message may take beyond it.
    assert!((20_000..=20_100 + 10).contains(&taken), "{taken}");
    // Longer than the hold time: what waits here is no silence.
    assert!(world.is_up(0));
    assert!(world.waiting(0, stormy) > 0);
}

#[test]
fn a_slow_reader_is_told_what_holds_in_the_end_once() {
    let [a, b, c] = [1, 2, 3].map(|number| Node::new(number, 64_500 + u32::from(number)));
    let middle = b.clone().with(&a).with(&c);
    let (a, c) = (a.with(&b).passive(), c.with(&b).passive());
    let mut world = established(&[&a, &middle, &c]);
    let text = |number: u32| format!("10.{}.{}.0/24", number / 200, number % 200);
    for number in 0..2000 {
        world.originate(0, &text(number));
    }
    world.run(MINUTE);
    world.hosts[2].reads = false;
    let sent = |world: &World| world.status(1, 1).counters.sent.of(MessageType::Update);
    let before = sent(&world);
    let now = world.now;
    for round in 0..60 {
        for number in 0..2000 {
            let mut attributes = own();
            attributes.communities = [crate::Community::new(64_501, round)].into_iter().collect();
            let speaker = &mut world.host(0).speaker;
            let of = prefix(&text(number));
            speaker.originate(now, PLACE, of, OwnRoute::Local, attributes).unwrap();
        }
        world.settle();
    }
    let footprint = world.hosts[1].speaker.place(PLACE).unwrap().footprint;
    assert!(footprint < 2000 * 1000, "{footprint} bytes");
    world.hosts[2].reads = true;
    world.run(Duration::from_secs(5));
    let status = world.hosts[2].speaker.explain(PLACE, prefix(&text(1999)));
    let last = [crate::Community::new(64_501, 59)].into_iter().collect();
    assert_eq!(status.routes[0].route.received.communities, last);
    // What buffers held, and the last round: 667 messages are one.
    let told = sent(&world) - before;
    assert!(told < 6 * 667, "{told} updates");
    assert_eq!(world.flaps(2), (1, 0));
}

#[test]
fn a_peer_that_never_reads_loses_its_session_and_is_back_when_it_does() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    world.hosts[1].reads = false;
    for number in 0..250 {
        world.originate(0, &format!("10.{number}.0.0/16"));
    }
    world.run(20 * MINUTE);
    assert!(world.flaps(0).1 > 0);
    world.hosts[1].reads = true;
    world.run(20 * MINUTE);
    assert_eq!(world.hosts[1].prefixes().len(), 250);
}

#[test]
fn attributes_that_are_malformed_withdraw_and_are_counted() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    world.originate(1, "10.99.0.0/16");
    world.run(MINUTE);
    assert_eq!(world.hosts[0].prefixes(), ["10.99.0.0/16"]);
    let mut bytes = storm(1);
    // ORIGIN is the first attribute: flags, code, length, value.
    let origin = bytes.windows(3).position(|window| window == [0x40, 1, 1]).unwrap();
    bytes[origin + 3] = 9;
    let peer = world.peer(0);
    world.inject(0, peer, &bytes);
    world.settle();
    let intake = world.status(0, 0).intake;
    assert_eq!((intake.defective_updates, intake.treated_as_withdraw), (1, 1));
    assert!(intake.last_defect.unwrap().to_string().starts_with("ORIGIN"));
    assert_eq!((world.hosts[0].prefixes(), world.flaps(0)), (Vec::new(), (1, 0)));
    let [message] = &malformed(&world)[..] else { panic!("{:?}", malformed(&world)) };
    assert!(matches!(&message.wrong, Wrong::Update(_)), "{message:?}");
    assert_eq!(*message.bytes, bytes[..message.bytes.len()]);
    assert_eq!(message.bytes.len(), bytes.len().min(Malformed::BYTES_KEPT));
}

/// What host 0 told of messages that are wrong.
fn malformed(world: &World) -> Vec<Malformed> {
    let told = world.hosts[0].events.iter().filter_map(|(_, event)| {
        let Event::Malformed(peer, message) = event else { return None };
        assert_eq!(*peer, world.peer(0));
        Some(message.clone())
    });
    told.collect()
}

#[test]
fn a_message_that_ends_its_session_is_told_with_its_first_bytes() {
    let (one, two) = two();
    let mut world = established(&[&one, &two]);
    let peer = world.peer(0);
    let garbage: Vec<u8> = (0..700_u32).map(|at| at as u8).collect();
    world.inject(0, peer, &garbage);
    world.settle();
    let [message] = &malformed(&world)[..] else { panic!("{:?}", malformed(&world)) };
    assert_eq!(message.wrong.to_string(), "connection not synchronized");
    assert_eq!(*message.bytes, garbage[..Malformed::BYTES_KEPT]);
}
