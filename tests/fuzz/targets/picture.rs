#![no_main]

// A panic of a decoder is caught by our code, and must not end the fuzzer. Any other one ends it all the same.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))),
    |bytes: &[u8]| semblance_fuzz::readers::picture(bytes)
);
