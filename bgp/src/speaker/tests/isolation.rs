//! Tenants with the same addresses and AS numbers in one speaker.

use std::time::Duration;

use nvgate_model::{DomainSlot, Instant};
use proptest::collection::vec;
use proptest::prelude::*;

use super::configs::*;
use super::pairs::MINUTE;
use super::world::World;
use crate::rib::Reach;
use crate::speaker::{Clear, Event, OwnRoute, PeerIndex, Place, Speaker, SpeakerConfig, Start};

fn place(slot: u32) -> Place {
    Place::Domain(DomainSlot(slot))
}

/// A speaker with so many places, and for each a peer of its own, host 1 and on, in a network of its
/// own. Everyone's addresses and AS numbers are the same.
fn tenants(count: u32) -> World {
    let (hub, spoke) = (Node::new(1, 64_501), Node::new(2, 64_502));
    let (hub, spoke) = (hub.clone().with(&spoke).passive(), spoke.with(&hub));
    let mut world = World::new();
    let places = (0..count).map(|slot| (place(slot), hub.config.clone().into()));
    let attached: Vec<(Place, u32)> = (0..count).map(|slot| (place(slot), slot)).collect();
    world.add(SpeakerConfig { places: places.collect() }, 1, &attached, Start::Cold);
    for slot in 0..count {
        world.add(spoke.speaker(), 2, &[(PLACE, slot)], Start::Cold);
    }
    world.run(MINUTE);
    assert!(world.is_up(0));
    world
}

#[test]
fn many_tenants_with_the_same_addresses_and_as_numbers_stay_apart() {
    let mut world = tenants(40);
    for slot in 0..40 {
        world.originate(1 + slot, "10.0.0.0/16");
        world.originate(1 + slot, &format!("10.{}.0.0/16", 1 + slot));
    }
    world.run(MINUTE);
    for slot in 0..40 {
        let fib = world.hosts[0].fib.keys().filter(|(of, _)| *of == place(slot));
        let prefixes: Vec<String> = fib.map(|(_, prefix)| prefix.to_string()).collect();
        assert_eq!(prefixes, ["10.0.0.0/16".to_owned(), format!("10.{}.0.0/16", 1 + slot)]);
    }
    world.cut_in(7, 1, 2);
    world.settle();
    let left = (0..40)
        .filter(|slot| world.hosts[0].fib.contains_key(&(place(*slot), prefix("10.0.0.0/16"))));
    assert_eq!(left.count(), 39);
    assert_eq!(world.hosts[0].speaker.place(place(7)).unwrap().established, 0);
}

/// What a tenant does.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Nothing,
    Announce(u8),
    Withdraw(u8),
    Cut,
    Mend,
    Garbage(u8),
    Refresh,
    Reset,
    Reload,
    Own(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        Just(Deed::Nothing),
        (0_u8..6).prop_map(Deed::Announce),
        (0_u8..6).prop_map(Deed::Withdraw),
        Just(Deed::Cut),
        Just(Deed::Mend),
        any::<u8>().prop_map(Deed::Garbage),
        Just(Deed::Refresh),
        Just(Deed::Reset),
        Just(Deed::Reload),
        (0_u8..6).prop_map(Deed::Own),
    ]
}

fn perform(world: &mut World, slot: u32, deed: Deed) {
    let now = world.now;
    let spoke = 1 + slot as usize;
    let number = |number: u8| prefix(&format!("10.{number}.0.0/16"));
    let hub_peer = world.hosts[0].speaker.peers(place(slot))[0];
    let speaker = |world: &mut World, host: usize, act: &mut dyn FnMut(&mut Speaker)| {
        act(&mut world.host(host).speaker);
    };
    match deed {
        Deed::Nothing => {}
        Deed::Announce(of) => speaker(world, spoke, &mut |speaker| {
            speaker.originate(now, PLACE, number(of), OwnRoute::Local, own()).unwrap();
        }),
        Deed::Withdraw(of) => speaker(world, spoke, &mut |speaker| {
            speaker.retract(now, PLACE, number(of), OwnRoute::Local);
        }),
        Deed::Cut => world.cut_in(slot, 1, 2),
        Deed::Mend => world.mend_in(slot, 1, 2),
        Deed::Garbage(byte) => world.inject(0, hub_peer, &[byte; 19]),
        Deed::Refresh => speaker(world, 0, &mut |speaker| {
            speaker.clear(now, hub_peer, Clear::SoftOut);
        }),
        Deed::Reset => speaker(world, 0, &mut |speaker| {
            speaker.clear(now, hub_peer, Clear::Hard);
        }),
        Deed::Reload => {
            let mut config = world.hosts[0].speaker.config().clone();
            let of = config.places.get_mut(&place(slot)).unwrap();
            let mut of = crate::speaker::PlaceConfig::clone(of);
            let peer = std::sync::Arc::make_mut(&mut of.peers[0].config);
            peer.own_as_allowed ^= 1;
            config.places.insert(place(slot), of.into());
            world.reconfigure(0, config);
        }
        Deed::Own(of) => speaker(world, 0, &mut |speaker| {
            speaker.originate(now, place(slot), number(of), OwnRoute::Local, own()).unwrap();
        }),
    }
}

/// All that can be seen of a tenant: its bytes with their times, events, and what it forwards by.
type Seen =
    (Vec<(PeerIndex, Vec<(Instant, Vec<u8>)>)>, Vec<(Instant, Event)>, Vec<(String, Reach)>);

fn seen(world: &World, slot: u32) -> Seen {
    let hub = &world.hosts[0];
    let of = |event: &Event| match event {
        Event::Connect(peer, ..)
        | Event::Close(peer, ..)
        | Event::Up(peer, ..)
        | Event::Down(peer, ..)
        | Event::PrefixWarning(peer, ..)
        | Event::Malformed(peer, ..)
        | Event::Bfd(peer, ..)
        | Event::Forgotten(peer) => peer.place,
        Event::NextHop(place, _) | Event::RoutesChanged(place) | Event::Restarted(place) => *place,
    };
    let sent = hub.sent.iter().filter(|(peer, _)| peer.place == place(slot));
    let events = hub.events.iter().filter(|(_, event)| of(event) == place(slot));
    let fib = hub.fib.iter().filter(|((of, _), _)| *of == place(slot));
    (
        sent.map(|(peer, sent)| (*peer, sent.clone())).collect(),
        events.cloned().collect(),
        fib.map(|((_, prefix), reach)| (prefix.to_string(), reach.clone())).collect(),
    )
}

fn run(deeds: [&[Deed]; 2]) -> [Seen; 2] {
    let mut world = tenants(2);
    let steps = deeds[0].len().max(deeds[1].len());
    for step in 0..steps {
        for (slot, deeds) in (0..).zip(deeds) {
            perform(&mut world, slot, deeds.get(step).copied().unwrap_or(Deed::Nothing));
        }
        world.run(Duration::from_millis(700));
    }
    world.run(MINUTE);
    [seen(&world, 0), seen(&world, 1)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_one_tenant_does_changes_no_byte_event_or_timer_of_another(
        one in vec(deed(), 1..25),
        other in vec(deed(), 1..25),
    ) {
        let idle = vec![Deed::Nothing; one.len().max(other.len())];
        let [seen_one, seen_other] = run([&one, &other]);
        prop_assert_eq!(&seen_other, &run([&idle, &other])[1]);
        prop_assert_eq!(&seen_one, &run([&one, &idle])[0]);
    }
}
