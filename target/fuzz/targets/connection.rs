//! A connection: any bytes beside a host at work. See `holdfast_fuzz::connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::connection::run(data));
