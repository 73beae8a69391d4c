//! Where the fuzzer's corpora come from.

use std::path::PathBuf;

/// Writes seeds into the directory named by `NVGATE_FUZZ_SEEDS`, if it is, before the fuzzer reads
/// it.
pub fn plant(seeds: Vec<Vec<u8>>) {
    let Some(directory) = std::env::var_os("NVGATE_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (number, seed) in seeds.into_iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number}")), seed).expect("a seed is written");
    }
}
