#![no_main]

use nvgate_tests::fuzz::tunnel;

libfuzzer_sys::fuzz_target!(init: nvgate_fuzz::plant(tunnel::seeds()), |data: &[u8]| tunnel::run(data));
