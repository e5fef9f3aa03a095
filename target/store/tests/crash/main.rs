//! Pools on a simulated device, through power cuts and faults.
//!
//! `HOLDFAST_CRASH_SEED` and `HOLDFAST_FAULT_SEED` repeat one run; a failure names it. `run` beside this file carries out
//! as many crashes as it is told, goes on where it was interrupted, and counts what they were.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their numbers are small"
)]

mod classes;
mod content;
mod disk;
mod faults;
mod model;
mod mutants;
mod rng;
mod runs;
mod scenario;
mod world;

use std::env;
use std::path::PathBuf;

use classes::Class;
use runs::{Series, run_one};

/// Crashes in every run of the tests.
const CRASHES: u64 = 2000;
/// Crashes with faults besides.
const CRASHES_WITH_FAULTS: u64 = 2000;
/// Crashes of each kind among those, at least: enough that none is there by accident.
const OF_EACH_CLASS: u64 = 10;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap())
}

#[test]
fn power_cuts_leave_what_was_promised() {
    if let Some(seed) = number("HOLDFAST_CRASH_SEED") {
        run_one(seed, false).unwrap_or_else(|error| panic!("{error}"));
        return;
    }
    let crashes = number("HOLDFAST_CRASHES").unwrap_or(CRASHES);
    let log = env::var_os("HOLDFAST_CRASH_LOG").map(PathBuf::from);
    let series = Series { first_seed: 1, crashes, troubled: false, log: log.as_deref() };
    let tally = series.run().unwrap_or_else(|error| panic!("{error}"));
    println!("{}", tally.table());
    for class in Class::ALL {
        assert!(tally.of(class) >= OF_EACH_CLASS, "{} crashes only: {}", tally.of(class), class.name());
    }
}

#[test]
fn faulty_device_never_makes_wrong_data_good() {
    if let Some(seed) = number("HOLDFAST_FAULT_SEED") {
        run_one(seed, true).unwrap_or_else(|error| panic!("{error}"));
        return;
    }
    let crashes = number("HOLDFAST_CRASHES").map_or(CRASHES_WITH_FAULTS, |crashes| crashes / 4);
    let series = Series { first_seed: 1, crashes, troubled: true, log: None };
    let tally = series.run().unwrap_or_else(|error| panic!("{error}"));
    println!("{}", tally.table());
}

#[test]
fn same_seed_gives_the_same_run() {
    for troubled in [false, true] {
        let once = || world::run(scenario::Scenario::new(7, troubled)).unwrap();
        assert_eq!(once(), once());
    }
}
