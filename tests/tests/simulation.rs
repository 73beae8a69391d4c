//! The whole gateway in simulation against a naive model, many seeded scenarios: see
//! `nvgate_tests::scenario`. `NVGATE_SCENARIOS` says how many, `NVGATE_SEED` replays one.

use nvgate_tests::scenario::Scenario;
use nvgate_tests::seeds::play_all;

/// Scenarios unless `NVGATE_SCENARIOS` says otherwise; odd seeds have two workers.
const SCENARIOS: u64 = 3000;

#[test]
fn every_scenario_goes_as_the_model_says_with_one_worker_and_with_two() {
    let play = |scenario: &mut Scenario| scenario.play().map(|()| scenario.delivered);
    play_all("simulation", SCENARIOS, Scenario::new, play, |it| it.steps().to_owned());
}
