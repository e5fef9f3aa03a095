//! Every byte of every structure of a small pool changed in turn, and whole structures zeroed, exchanged, or replaced by
//! others: never is anything returned as good that is not, and what is whole stays usable.
//!
//! `HOLDFAST_CORRUPTION_STRIDE=1` changes every byte, otherwise it is some of each structure. With
//! `HOLDFAST_CORRUPTION_LOG` structures that have passed are noted in a file, and passed over the next time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their numbers are small"
)]

mod case;
mod disk;
mod expect;
mod pool;
mod runs;
mod state;

use std::env;
use std::path::PathBuf;

/// Bytes from one that is changed to the next, in every run of the tests.
const STRIDE: usize = 149;

#[test]
fn damage_is_never_returned_as_good_and_what_is_whole_stays_usable() {
    let stride = env::var("HOLDFAST_CORRUPTION_STRIDE").map_or(STRIDE, |stride| stride.parse().unwrap());
    let log = env::var_os("HOLDFAST_CORRUPTION_LOG").map(PathBuf::from);
    for state in &state::states() {
        let tally = runs::Run { state, stride, log: log.as_deref() }.all();
        print!("{}", tally.unwrap_or_else(|error| panic!("{error}")));
    }
}

#[test]
fn whole_pool_is_what_it_should_be_in_every_state() {
    for state in &state::states() {
        let outcome = case::look(state, &disk::Disk::new(state.image.clone()), &[]);
        assert_eq!(outcome, Ok(case::Outcome::Whole), "{}", state.name);
    }
}

/// Spreads a number over all bits, one to one.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
