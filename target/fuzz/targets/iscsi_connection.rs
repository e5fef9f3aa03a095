//! iSCSI sessions: requests of any kind. See `holdfast_fuzz::iscsi::connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::iscsi::connection::run(data));
