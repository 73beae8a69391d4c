#![no_main]

use nvgate_tests::fuzz::bgp;

libfuzzer_sys::fuzz_target!(init: nvgate_fuzz::plant(bgp::seeds()), |data: &[u8]| bgp::run(data));
