#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| semblance_fuzz::readers::gallery_snapshot(bytes));
