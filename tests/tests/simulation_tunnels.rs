//! Tunnels between sites and their tenants in simulation, many seeded scenarios: see
//! `nvgate_tests::scenario::sites`. `NVGATE_SCENARIOS` says how many, `NVGATE_SEED` replays one.

use nvgate_tests::scenario::sites::SiteScenario;
use nvgate_tests::seeds::play_all;

/// Scenarios unless `NVGATE_SCENARIOS` says otherwise; odd seeds have two workers.
const SCENARIOS: u64 = 400;

#[test]
fn no_packet_goes_astray_and_every_tunnel_recovers_with_one_worker_and_with_two() {
    let play = |scenario: &mut SiteScenario| scenario.play().map(|()| scenario.arrived);
    play_all("simulation_tunnels", SCENARIOS, SiteScenario::new, play, |it| it.steps().to_owned());
}
