#![no_main]

use nvgate_tests::fuzz::yaml;

libfuzzer_sys::fuzz_target!(init: nvgate_fuzz::plant(yaml::seeds()), |data: &[u8]| yaml::run(data));
