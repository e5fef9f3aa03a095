//! iSCSI sessions: valid sessions, bent. See `holdfast_fuzz::iscsi::stateful`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::iscsi::stateful::run(data));
