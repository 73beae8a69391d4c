use proptest::prelude::*;

use super::*;
use crate::origin::Origin;

/// A route of everything that candidates borrow or say.
#[derive(Clone, Debug)]
struct Route {
    attributes: Attributes,
    barred: Option<Barred>,
    weight: u16,
    source: Source,
    metric: u32,
    router_id: u8,
    peer: u8,
    local: u8,
    path_id: Option<u32>,
}

impl Route {
    fn new(as_path: &str) -> Self {
        let mut attributes = Attributes::originated(address(1), Origin::Igp);
        attributes.as_path = as_path.parse().unwrap();
        Self {
            attributes,
            barred: None,
            weight: 0,
            source: Source::External,
            metric: 10,
            router_id: 5,
            peer: 5,
            local: 5,
            path_id: None,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            attributes: &self.attributes,
            barred: self.barred,
            weight: self.weight,
            source: self.source,
            metric: self.metric,
            router_id: Ipv4Addr::new(10, 0, 0, self.router_id),
            peer: address(self.peer),
            local: address(self.local),
            path_id: self.path_id.map(PathId),
        }
    }
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn decide(routes: &[Route], options: &Options) -> (Option<usize>, Vec<Standing>) {
    let candidates: Vec<Candidate<'_>> = routes.iter().map(Route::candidate).collect();
    let mut standings = vec![Standing::UNDECIDED; routes.len()];
    let best = select(&candidates, options, &mut standings);
    (best, standings)
}

fn verdicts(routes: &[Route]) -> Vec<Verdict> {
    let (_, standings) = decide(routes, &Options::default());
    standings.into_iter().map(|standing| standing.verdict).collect()
}

fn multipath(path: MultipathPath) -> Options {
    Options { multipath: 3, multipath_path: path, ..Options::default() }
}

#[test]
fn each_step_decides_before_all_later_ones() {
    let base = || Route::new("64500 64501");
    let edit = |change: fn(&mut Attributes)| base().with(|route| change(&mut route.attributes));
    let cluster: fn(&mut Attributes) = |attributes| {
        attributes.edit_rare(|rare| rare.cluster_list = Box::new([Ipv4Addr::UNSPECIFIED]));
    };
    // Each loses at its step although it is ahead at all later ones.
    let ahead_later = |route: Route| {
        route.with(|route| {
            route.metric = 1;
            route.router_id = 1;
            route.peer = 1;
            route.path_id = None;
        })
    };
    for (loser, verdict) in [
        (
            edit(|attributes| {
                attributes.communities = [Community::LLGR_STALE].into_iter().collect();
                attributes.local_preference = Some(900);
            })
            .with(|route| route.weight = 9),
            Verdict::LlgrStale,
        ),
        (edit(|attributes| attributes.local_preference = Some(900)), Verdict::Weight),
    ] {
        let winner = base().with(|route| route.weight = 1);
        assert_eq!(verdicts(&[winner, ahead_later(loser)]), [Verdict::Best, verdict]);
    }
    for (loser, verdict) in [
        (edit(|attributes| attributes.local_preference = Some(99)), Verdict::LocalPreference),
        (Route::new("64500 64501 64502"), Verdict::PathLength),
        (edit(|attributes| attributes.origin = Origin::Egp), Verdict::Origin),
        (edit(|attributes| attributes.med = Some(1)), Verdict::Med),
        (base().with(|route| route.source = Source::Internal), Verdict::Internal),
    ] {
        assert_eq!(verdicts(&[base(), ahead_later(loser)]), [Verdict::Best, verdict]);
    }
    let local = Route::new("").with(|route| route.source = Source::Local);
    assert_eq!(verdicts(&[local, Route::new("")]), [Verdict::Best, Verdict::LocallyOriginated]);
    for (loser, verdict) in [
        (base().with(|route| route.metric = 11), Verdict::Metric),
        (base().with(|route| route.router_id = 6), Verdict::RouterId),
        (edit(cluster), Verdict::ClusterLength),
        (base().with(|route| route.peer = 6), Verdict::PeerAddress),
        (base().with(|route| route.local = 6), Verdict::PeerAddress),
        (base().with(|route| route.path_id = Some(0)), Verdict::PathId),
    ] {
        assert_eq!(verdicts(&[base(), loser]), [Verdict::Best, verdict]);
    }
}

#[test]
fn an_originator_stands_for_the_peer_that_reflected_it() {
    let reflected = Route::new("64500").with(|route| {
        route.router_id = 9;
        route.attributes.edit_rare(|rare| rare.originator_id = Some(Ipv4Addr::new(10, 0, 0, 1)));
    });
    assert_eq!(verdicts(&[Route::new("64500"), reflected]), [Verdict::RouterId, Verdict::Best]);
}

#[test]
fn meds_compare_within_a_neighbour_as_and_make_no_circle() {
    // Compared in pairs, a beats b by identifier, b beats c by metric, c beats a by MED.
    let a = Route::new("64500").with(|route| {
        route.attributes.med = Some(10);
        route.router_id = 1;
    });
    let b = Route::new("64501").with(|route| route.router_id = 2);
    let c = Route::new("64500").with(|route| {
        route.metric = 20;
        route.router_id = 3;
    });
    let routes = [a, b, c];
    assert_eq!(verdicts(&routes), [Verdict::Med, Verdict::Best, Verdict::Metric]);
    let always = Options { med: MedComparison::Always, ..Options::default() };
    let (best, standings) = decide(&routes, &always);
    assert_eq!((best, standings[0].verdict), (Some(1), Verdict::Med));
    // Paths that begin with a set, and empty ones, are of the local AS.
    let set = |med| Route::new("{64500,64501}").with(|route| route.attributes.med = Some(med));
    assert_eq!(verdicts(&[set(2), set(1)]), [Verdict::Med, Verdict::Best]);
}

#[test]
fn nothing_is_best_if_nothing_is_eligible() {
    let all = [Barred::Rejected, Barred::Loop, Barred::Leak, Barred::Unresolved, Barred::PeerGone];
    let routes = all.map(|why| Route::new("64500").with(|route| route.barred = Some(why)));
    let (best, standings) = decide(&routes, &multipath(MultipathPath::Length));
    assert_eq!(best, None);
    let expected = all.map(|why| Standing { verdict: Verdict::Barred(why), used: false });
    assert_eq!(standings, expected);
    assert_eq!(decide(&[], &Options::default()), (None, Vec::new()));
}

#[test]
fn equals_are_used_side_by_side_as_alike_as_asked_for() {
    let route = |path: &str, id| Route::new(path).with(|route| route.router_id = id);
    let routes = [
        route("64500 64510", 4),
        route("64500 64511", 1),
        route("64501 64511", 2),
        route("64500 64511", 3),
        route("64500 64511", 5).with(|route| route.metric = 11),
    ];
    for (path, used) in [
        (MultipathPath::Exact, [false, true, false, true, false]),
        (MultipathPath::Neighbor, [true, true, false, true, false]),
        // Three at most: the first by router identifier.
        (MultipathPath::Length, [false, true, true, true, false]),
    ] {
        let (best, standings) = decide(&routes, &multipath(path));
        assert_eq!(best, Some(1));
        assert_eq!(standings.iter().map(|standing| standing.used).collect::<Vec<_>>(), used);
        let verdict = |place: usize| standings[place].verdict;
        assert_eq!(
            [verdict(0), verdict(2), verdict(4)],
            [Verdict::RouterId, Verdict::RouterId, Verdict::Metric]
        );
    }
    let (_, standings) = decide(&routes, &Options::default());
    assert_eq!(standings.iter().filter(|standing| standing.used).count(), 1);
}

fn route() -> impl Strategy<Value = Route> {
    let paths = prop_oneof![Just("64500"), Just("64501"), Just("64500 64501"), Just("")];
    let small = 0_u8..3;
    let attributes = (paths, 0_u8..4, proptest::option::of(0_u32..3), 0_u8..12);
    let rest = (small.clone(), 0_u8..8, small.clone(), small.clone(), 0_u8..6);
    (attributes, rest).prop_map(
        |((path, preference, med, kind), (weight, source, metric, id, barred))| {
            Route::new(path).with(|route| {
                route.attributes.local_preference = (preference == 0).then_some(101);
                route.attributes.med = med;
                if kind == 0 {
                    route.attributes.origin = Origin::Incomplete;
                }
                if kind == 1 {
                    route.attributes.communities = [Community::LLGR_STALE].into_iter().collect();
                }
                route.weight = u16::from(weight == 2);
                route.source = [Source::External, Source::Internal, Source::Local]
                    [usize::from(source.saturating_sub(5))];
                route.metric = u32::from(metric);
                route.router_id = id;
                route.barred = (barred == 0).then_some(Barred::Unresolved);
            })
        },
    )
}

/// Every order of `0..count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let insert = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, count - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..count).map(move |at| insert(order, at))).collect()
}

proptest! {
    #[test]
    fn the_order_of_candidates_makes_no_difference(
        mut routes in proptest::collection::vec(route(), 1..6),
        options in (any::<bool>(), 1_u8..4, 0_usize..3),
    ) {
        // No two are alike: sessions differ in their addresses.
        for (place, route) in routes.iter_mut().enumerate() {
            route.peer = place as u8;
        }
        let paths = [MultipathPath::Exact, MultipathPath::Neighbor, MultipathPath::Length];
        let options = Options {
            med: if options.0 { MedComparison::Always } else { MedComparison::SameNeighbor },
            multipath: options.1,
            multipath_path: paths[options.2],
        };
        let (best, standings) = decide(&routes, &options);
        let used = standings.iter().filter(|standing| standing.used).count();
        prop_assert_eq!(best.is_some(), used > 0);
        prop_assert!(used <= usize::from(options.multipath));
        for order in orders(routes.len()) {
            let permuted: Vec<Route> = order.iter().map(|place| routes[*place].clone()).collect();
            let (permuted_best, permuted) = decide(&permuted, &options);
            prop_assert_eq!(permuted_best.map(|place| order[place]), best);
            for (standing, place) in permuted.iter().zip(&order) {
                prop_assert_eq!(*standing, standings[*place]);
            }
        }
    }
}
