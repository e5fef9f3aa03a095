//! I/O commands, well framed, with any fields. See `holdfast_fuzz::io`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::io::run(data));
