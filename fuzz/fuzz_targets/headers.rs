#![no_main]

use nvgate_tests::fuzz::headers;

libfuzzer_sys::fuzz_target!(init: nvgate_fuzz::plant(headers::seeds()), |data: &[u8]| headers::run(data));
