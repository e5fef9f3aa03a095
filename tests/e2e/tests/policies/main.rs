//! Linux guests with all patches of `kernel-patches`, under each integrity policy, while `wac` changes what is being written: where the
//! target counts guard errors of the host, and where it must not. `tests/expected/policies.toml` says what each cell must be.
//!
//! A slice of the table is a test among others. `run` beside this file makes the whole table and goes on where it was interrupted.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "tests may fail by panicking")]

mod cells;
mod cost;
mod expected;
mod host;
mod record;
mod table;

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cells::{Boot, Cell, FileSystem, Load, Policy, System, Transport};
use crate::expected::{Colour, Expected};
use crate::host::{Goal, Host};
use crate::record::Record;

/// A cell that must be red is given up after this.
const RED_LIMIT: Duration = Duration::from_secs(300);
/// So many blocks must be written without an error in each cell of the slice that must be green: 100,000 in a boot.
const SLICE_BLOCKS: u64 = 25_000;
/// A bound for cells of the slice that have to write that much; they take a tenth of it.
const SLICE_LIMIT: Duration = Duration::from_secs(600);
/// The same for the whole table, where there are many more of them.
const TABLE_BLOCKS: u64 = 20_000;
const TABLE_LIMIT: Duration = Duration::from_secs(3);
/// A bound for a hung guest.
const GUEST_LIMIT: Duration = Duration::from_secs(4 * 3600);

#[test]
fn what_is_red_without_waiting_is_green_with_it_over_nvme() -> Result<()> {
    slice(Boot { system: System::V6_12, transport: Transport::Nvme })
}

#[test]
fn what_is_red_without_waiting_is_green_with_it_over_iscsi() -> Result<()> {
    slice(Boot { system: System::V6_12, transport: Transport::Iscsi })
}

#[test]
#[ignore = "takes hours: tests/e2e/tests/policies/run"]
fn every_cell_of_the_table_is_as_expected() -> Result<()> {
    let folder = folder()?;
    let expected = Expected::read()?;
    let mut complaints = Vec::new();
    for boot in asked()? {
        let log = folder.join(boot.system.word()).join(format!("{}.jsonl", boot.transport));
        let noted = Record::read(&log)?;
        let missing: Vec<Cell> =
            Cell::all().filter(|cell| noted.iter().all(|record| record.cell != *cell)).collect();
        println!("{boot}: {} cells are noted, {} are missing", noted.len(), missing.len());
        if !missing.is_empty() {
            let mut host =
                Host::start(boot, &format!("policies_{}_{}", boot.system, boot.transport), GUEST_LIMIT)?;
            for cell in missing {
                let (colour, _) = expected.of(boot, cell)?;
                let (goal, limit) = match colour {
                    Colour::Red => (Goal::Error, RED_LIMIT),
                    _ => (Goal::Blocks(TABLE_BLOCKS), TABLE_LIMIT),
                };
                let record = host.fill(cell, goal, limit)?;
                println!("{}", table::line(&record));
                record.note(&log)?;
            }
            host.end()?;
        }
        for record in Record::read(&log)? {
            let (colour, reason) = expected.of(boot, record.cell)?;
            complaints.extend(record.complaint(colour).map(|complaint| format!("{complaint} ({reason})")));
        }
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

#[test]
#[ignore = "measures for half an hour: tests/e2e/tests/policies/run"]
fn what_policies_cost_is_measured() -> Result<()> {
    let folder = folder()?;
    for boot in asked()? {
        cost::measure(boot, &folder.join(boot.system.word()).join(format!("{}.cost.json", boot.transport)))?;
    }
    Ok(())
}

#[test]
#[ignore = "writes into kernel-patches/RESULTS.md: tests/e2e/tests/policies/run"]
fn what_was_found_is_written_down() -> Result<()> {
    table::write_results(&folder()?)
}

/// Where `run` wants what is found.
fn folder() -> Result<PathBuf> {
    env::var_os("HOLDFAST_POLICIES").map(PathBuf::from).context("HOLDFAST_POLICIES is not set: use `run`")
}

/// The boots that `HOLDFAST_POLICIES_BOOTS` names (`6.12/nvme 6.1/iscsi`), or all of them.
fn asked() -> Result<Vec<Boot>> {
    let Ok(words) = env::var("HOLDFAST_POLICIES_BOOTS") else { return Ok(Boot::all().collect()) };
    let boot = |word: &str| {
        let (system, transport) = word.split_once('/').with_context(|| word.to_owned())?;
        let system = System::of(system).with_context(|| word.to_owned())?;
        Ok(Boot { system, transport: Transport::of(transport).with_context(|| word.to_owned())? })
    };
    words.split_whitespace().map(boot).collect()
}

/// Red cells and, from the same boot, their green twins: the same load on the same file system under a policy that helps.
fn slice(boot: Boot) -> Result<()> {
    let twins = [
        (FileSystem::Ext4, Load::A, Policy::NoWait, Policy::StablePages),
        (FileSystem::Xfs, Load::B, Policy::NoWait, Policy::StablePages),
        (FileSystem::Raw, Load::BufferChanged, Policy::StablePages, Policy::BounceDirect),
        (FileSystem::Ext4WithoutJournal, Load::Churn, Policy::NoWait, Policy::Bounce),
    ];
    let expected = Expected::read()?;
    let mut host = Host::start(boot, &format!("policies_slice_{}", boot.transport), GUEST_LIMIT)?;
    for (file_system, load, red, green) in twins {
        let red = Cell { file_system, load, policy: red };
        let green = Cell { policy: green, ..red };
        for (cell, colour, goal, limit) in [
            (red, Colour::Red, Goal::Error, RED_LIMIT),
            (green, Colour::Green, Goal::Blocks(SLICE_BLOCKS), SLICE_LIMIT),
        ] {
            ensure!(expected.of(boot, cell)?.0 == colour, "{cell}: the table says something else");
            let record = host.fill(cell, goal, limit)?;
            println!("{}", table::line(&record));
            let complaint = record.complaint(colour);
            ensure!(complaint.is_none(), "{}", complaint.unwrap_or_default());
            ensure!(
                colour == Colour::Red || record.blocks_checked >= SLICE_BLOCKS,
                "too few blocks: {record:?}"
            );
        }
    }
    host.end()
}
