#![no_main]

use nvgate_tests::fuzz::speaker;

libfuzzer_sys::fuzz_target!(init: nvgate_fuzz::plant(speaker::seeds()), |data: &[u8]| speaker::run(data));
