//! Playing many seeded scenarios: `NVGATE_SCENARIOS` says how many, `NVGATE_SEED` replays one.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::oracle_errors as errors;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Plays the scenarios of all seeds below `scenarios`. `play` gives the steps of a seed, and how many
/// packets it was about or what went wrong; a panic and a logged error fail it too.
///
/// # Panics
///
/// One fails: the message says how to replay it as part of the test binary `test`.
pub fn play_all<S>(
    test: &str,
    scenarios: u64,
    make: impl Fn(u64) -> S + Sync,
    play: impl Fn(&mut S) -> Result<usize, String> + Sync,
    steps: impl Fn(&S) -> String + Sync,
) {
    errors::watch();
    let began = Instant::now();
    let seeds = match number("NVGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("NVGATE_SCENARIOS").unwrap_or(scenarios),
    };
    let play = |seed: u64| {
        let errors_before = errors::logged();
        let mut scenario = make(seed);
        let played = catch_unwind(AssertUnwindSafe(|| play(&mut scenario)));
        let played = played.unwrap_or_else(|_| Err("it panicked".to_owned()));
        let packets = played.map_err(|error| format!("{}{error}", steps(&scenario)))?;
        if errors::logged() > errors_before {
            return Err("it logged an error".to_owned());
        }
        Ok(packets)
    };
    let next = AtomicU64::new(seeds.start);
    let played = AtomicUsize::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let run = || {
        while failed.load(Ordering::Relaxed) == u64::MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match play(seed) {
                Ok(packets) => {
                    played.fetch_add(packets, Ordering::Relaxed);
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
        "replay with: NVGATE_SEED={failed} cargo test -p nvgate-tests --test {test}"
    );
    let packets = played.into_inner();
    let scenarios = seeds.end - seeds.start;
    println!("{scenarios} scenarios, {packets} packets, {:?}", began.elapsed());
    assert!(packets as u64 >= 10 * scenarios, "scenarios that send nothing prove nothing");
}
