//! The admin side: controllers that come, are configured, and go. See `holdfast_fuzz::admin`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::admin::run(data));
