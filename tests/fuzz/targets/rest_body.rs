#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| semblance::api::fuzzing::rest_body(bytes));
