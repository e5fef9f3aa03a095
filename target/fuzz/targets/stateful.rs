//! Valid sessions, bent. See `holdfast_fuzz::stateful`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::stateful::run(data));
