#![no_main]

use nvgate_tests::fuzz::bfd;

libfuzzer_sys::fuzz_target!(init: nvgate_fuzz::plant(bfd::seeds()), |data: &[u8]| bfd::run(data));
