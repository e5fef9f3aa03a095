//! iSCSI logins: see `holdfast_fuzz::login`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::login::run(data));
