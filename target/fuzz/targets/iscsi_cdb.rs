//! SCSI commands of every kind. See `holdfast_fuzz::iscsi::cdb`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::iscsi::cdb::run(data));
