//! The whole gateway with many tenants' routers in simulation against a naive model of BGP, many
//! seeded scenarios: see `nvgate_tests::scenario::bgp`. `NVGATE_SCENARIOS` says how many,
//! `NVGATE_SEED` replays one.

use nvgate_tests::scenario::bgp::Scenario;
use nvgate_tests::seeds::play_all;

/// Scenarios unless `NVGATE_SCENARIOS` says otherwise; odd seeds have two workers.
const SCENARIOS: u64 = 150;

#[test]
fn domains_forward_and_tell_what_their_routers_tell_now_whatever_the_order() {
    let play = |scenario: &mut Scenario| scenario.play().map(|()| scenario.compared);
    play_all("simulation_bgp", SCENARIOS, Scenario::new, play, |it| it.steps().to_owned());
}
