//! The power goes under whole appliances: hosts work on pools whose unflushed writes lie in the target's memory, the target is
//! killed, and a reader holds each block against what its host was told; and Linux guests look after their file systems.
//!
//! `HOLDFAST_POWER_SEED` repeats one run; a failure names it. `run` beside this file carries out as many cuts as it is told
//! and goes on where it was interrupted.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests may fail by panicking, and their numbers are small"
)]

mod content;
mod guests;
mod host;
mod model;
mod rounds;
mod tally;
mod visitor;

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::breakable_programs;

use crate::model::Lost;
use crate::rounds::{Plan, Wrong, run};
use crate::tally::Tally;

/// How many cuts there are in all, where they are in a test among others: in two runs, one that loses everything unflushed and
/// one that loses some of it.
const CUTS: u64 = 12;
/// Cuts of one run.
const CUTS_OF_A_RUN: u64 = 6;
/// The same in a long series.
const CUTS_OF_A_LONG_RUN: u64 = 20;
/// Cuts after which a mistake must have been noticed.
const CUTS_TO_NOTICE: u64 = 20;
/// Cuts of one run with guests, in a long series: one guest for each, and one for the last look.
const CUTS_OF_A_GUEST_RUN: u64 = 5;

#[test]
fn nothing_flushed_is_lost_and_no_tuple_leaves_its_block_when_the_power_goes() -> Result<()> {
    if let Some(seed) = number("HOLDFAST_POWER_SEED")? {
        println!("{}", run(Plan { seed, cuts: CUTS_OF_A_LONG_RUN, wrong: Wrong::Nothing })?.line());
        return Ok(());
    }
    let asked = number("HOLDFAST_POWER_CUTS")?;
    let (cuts, of_a_run) = asked.map_or((CUTS, CUTS_OF_A_RUN), |cuts| (cuts, CUTS_OF_A_LONG_RUN));
    let sum =
        series("HOLDFAST_POWER_LOG", cuts, |seed| run(Plan { seed, cuts: of_a_run, wrong: Wrong::Nothing }))?;
    ensure!(sum.flushed > 0 && sum.reverted > 0, "nothing was at stake");
    Ok(())
}

#[test]
fn ext4_finds_everything_synchronised_when_the_power_is_back() -> Result<()> {
    let asked = number("HOLDFAST_POWER_GUESTS")?;
    let (cuts, of_a_run) = asked.map_or((1, 1), |cuts| (cuts, CUTS_OF_A_GUEST_RUN));
    series("HOLDFAST_POWER_GUESTS_LOG", cuts, |seed| guests::run(seed, of_a_run))?;
    Ok(())
}

#[test]
fn flushes_that_do_nothing_are_noticed() -> Result<()> {
    is_noticed(Wrong::Flushes)
}

#[test]
fn flushes_that_skip_the_device_are_noticed() -> Result<()> {
    is_noticed(Wrong::Target { programs: &breakable_programs()?, mutant: "store-flush-skipped" })
}

#[test]
fn forced_writes_that_are_not_flushed_are_noticed() -> Result<()> {
    is_noticed(Wrong::Target { programs: &breakable_programs()?, mutant: "store-durable-write-not-flushed" })
}

/// Demands that the reader finds a loss, and nothing else fails.
fn is_noticed(wrong: Wrong) -> Result<()> {
    let outcome = run(Plan { seed: 2, cuts: CUTS_TO_NOTICE, wrong });
    let error = outcome.err().with_context(|| format!("{wrong:?} was not noticed"))?;
    ensure!(error.downcast_ref::<Lost>().is_some(), "noticed by something else: {error:#}");
    println!("{error:#}");
    Ok(())
}

/// Runs with one seed after the other until there were so many cuts, those included that the log notes which `variable` names.
fn series(variable: &str, cuts: u64, run: impl Fn(u64) -> Result<Tally>) -> Result<Tally> {
    let log = env::var_os(variable).map(PathBuf::from);
    let noted = log.as_deref().map_or(Ok(Vec::new()), tally::finished)?;
    let mut sum = Tally::default();
    noted.iter().for_each(|(_, tally)| sum += *tally);
    for seed in (1..).filter(|seed| noted.iter().all(|(noted, _)| noted != seed)) {
        if sum.cuts >= cuts {
            break;
        }
        let tally = run(seed)?;
        println!("seed {seed}: {}", tally.line());
        sum += tally;
        if let Some(log) = &log {
            tally::note(log, seed, tally)?;
        }
    }
    println!("in all: {}", sum.line());
    Ok(sum)
}

fn number(variable: &str) -> Result<Option<u64>> {
    let text = env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable}={text}"))).transpose()
}
