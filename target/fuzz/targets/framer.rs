//! The framer: any bytes, in any cut. See `holdfast_fuzz::framer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::framer::run(data));
