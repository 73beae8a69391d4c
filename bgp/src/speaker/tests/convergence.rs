//! Networks of routers whose links come and go: what is left is what a naive model says.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::configs::*;
use super::pairs::MINUTE;
use super::world::World;

const ROUTERS: u8 = 5;

type Link = (u8, u8);

fn links() -> Vec<Link> {
    let pairs = (1..=ROUTERS).flat_map(|one| (one + 1..=ROUTERS).map(move |other| (one, other)));
    pairs.collect()
}

/// Every router has an AS and a prefix of its own and knows every other one.
fn network() -> World {
    let bare: Vec<Node> =
        (1..=ROUTERS).map(|number| Node::new(number, 64_500 + u32::from(number))).collect();
    let nodes = bare.iter().map(|node| {
        bare.iter().filter(|other| other.number != node.number).fold(node.clone(), |of, other| {
            let mut config = of.peer(other.number, other.asn);
            if of.number > other.number {
                config.opening = crate::config::Opening::Passive;
            }
            of.with_config(config, routes())
        })
    });
    let mut world = World::of(nodes.map(|node| node.speaker()));
    for number in 1..=ROUTERS {
        world.originate(usize::from(number) - 1, &format!("10.{number}.0.0/16"));
    }
    world
}

/// By how many links each router is from one, by number.
fn distances(from: u8, up: &BTreeSet<Link>) -> Vec<Option<usize>> {
    let mut distances = vec![None; usize::from(ROUTERS) + 1];
    distances[usize::from(from)] = Some(0);
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for next in 1..=ROUTERS {
            if up.contains(&(at.min(next), at.max(next))) && distances[usize::from(next)].is_none()
            {
                distances[usize::from(next)] = distances[usize::from(at)].map(|far| far + 1);
                queue.push_back(next);
            }
        }
    }
    distances
}

/// The shortest path wins, of several that of the neighbour with the lowest identifier.
fn expected(router: u8, origin: u8, up: &BTreeSet<Link>) -> Option<u8> {
    let distances = distances(origin, up);
    let far = distances[usize::from(router)]?;
    (1..=ROUTERS).find(|next| {
        up.contains(&(router.min(*next), router.max(*next)))
            && distances[usize::from(*next)].is_some_and(|nearer| nearer + 1 == far)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn after_links_came_and_went_every_router_has_the_shortest_paths(
        flaps in vec((0_usize..10, any::<bool>(), 0_u64..4000), 1..40),
    ) {
        let links = links();
        let mut up: BTreeSet<Link> = links.iter().copied().collect();
        let mut world = network();
        for (link, is_up, millis) in flaps {
            let (one, other) = links[link];
            if is_up {
                up.insert((one, other));
                world.mend(one, other);
            } else {
                up.remove(&(one, other));
                world.cut(one, other);
            }
            world.run(Duration::from_millis(millis));
        }
        world.run(10 * MINUTE);
        for router in 1..=ROUTERS {
            for origin in (1..=ROUTERS).filter(|origin| *origin != router) {
                let of = &world.hosts[usize::from(router) - 1];
                let via = of.via(prefix(&format!("10.{origin}.0.0/16")));
                let next = expected(router, origin, &up).map(address);
                prop_assert_eq!(via, next.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
