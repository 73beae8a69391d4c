//! The whole gateway in simulation against a naive model, many seeded scenarios: see
//! `nvgate_tests::scenario`. `NVGATE_SCENARIOS` says how many, `NVGATE_SEED` replays one.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use nvgate_tests::oracle_errors as errors;
use nvgate_tests::scenario::Scenario;

/// Scenarios unless `NVGATE_SCENARIOS` says otherwise; odd seeds have two workers.
const SCENARIOS: u64 = 3000;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn play(seed: u64) -> Result<usize, String> {
    let errors_before = errors::logged();
    let mut scenario = Scenario::new(seed);
    let played = catch_unwind(AssertUnwindSafe(|| scenario.play()));
    let played = played.unwrap_or_else(|_| Err("it panicked".to_owned()));
    played.map_err(|error| format!("{}{error}", scenario.steps()))?;
    if errors::logged() > errors_before {
        return Err("it logged an error".to_owned());
    }
    Ok(scenario.delivered)
}

#[test]
fn every_scenario_goes_as_the_model_says_with_one_worker_and_with_two() {
    errors::watch();
    let began = Instant::now();
    let seeds = match number("NVGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("NVGATE_SCENARIOS").unwrap_or(SCENARIOS),
    };
    let next = AtomicU64::new(seeds.start);
    let delivered = AtomicUsize::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let run = || {
        while failed.load(Ordering::Relaxed) == u64::MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match play(seed) {
                Ok(packets) => {
                    delivered.fetch_add(packets, Ordering::Relaxed);
                }
                Err(error) => {
                    println!("seed {seed}: {error}");
                    failed.fetch_min(seed, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(run);
        scope.spawn(run);
    });
    let failed = failed.into_inner();
    assert!(
        failed == u64::MAX,
        "replay with: NVGATE_SEED={failed} cargo test -p nvgate-tests --test simulation"
    );
    let packets = delivered.into_inner();
    let scenarios = seeds.end - seeds.start;
    println!("{scenarios} scenarios, {packets} packets, {:?}", began.elapsed());
    assert!(packets as u64 >= 10 * scenarios, "scenarios that send nothing prove nothing");
}
