//! iSCSI sessions: any bytes in any cut. See `holdfast_fuzz::iscsi::framer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::iscsi::framer::run(data));
