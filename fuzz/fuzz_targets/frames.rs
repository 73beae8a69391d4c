#![no_main]

use nvgate_tests::fuzz::frames;

libfuzzer_sys::fuzz_target!(init: nvgate_fuzz::plant(frames::seeds()), |data: &[u8]| frames::run(data));
