//! Linux guests with all patches of `kernel-patches`, under each integrity policy, while `wac` changes what is being written: where the
//! target counts guard errors of the host, and where it must not. `tests/expected/policies.toml` says what each cell must be.
//!
//! A slice of the table is a test among others. `run` beside this file makes the whole table and goes on where it was interrupted; what it
//! found is noted in `kernel-patches/results`.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "tests may fail by panicking")]

mod cells;
mod cost;
mod expected;
mod host;
mod record;
mod table;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cells::{Boot, Cell, FileSystem, Load, Policy, System, Transport};
use crate::expected::{Colour, Expected};
use crate::host::{Goal, Host};
use crate::record::Record;

/// A cell that must be red is given up after this.
const RED_LIMIT: Duration = Duration::from_secs(300);
/// So many blocks must be written without an error in each cell of the slice that must be green: 100,000 in a boot over NVMe/TCP. Over
/// iSCSI, which differs only below all policies, fewer will do.
const SLICE_BLOCKS: [(Transport, u64); 2] = [(Transport::Nvme, 25_000), (Transport::Iscsi, 10_000)];
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

/// Of all cells that are noted; before that, those that are missing are filled in the boots that [`asked`] names.
#[test]
fn every_cell_of_the_table_is_as_expected() -> Result<()> {
    let expected = Expected::read()?;
    for boot in asked()? {
        fill_missing(boot, &expected)?;
    }
    let mut complaints = Vec::new();
    for boot in Boot::all() {
        for record in Record::read(&notes(boot, "jsonl"))? {
            let (colour, reason) = expected.of(boot, record.cell)?;
            complaints.extend(record.complaint(colour).map(|complaint| format!("{complaint} ({reason})")));
        }
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

#[test]
fn what_policies_cost_is_noted() -> Result<()> {
    for boot in asked()? {
        cost::measure(boot, &notes(boot, "cost.json"))?;
    }
    Ok(())
}

/// What is noted and what `kernel-patches/RESULTS.md` says are the same; where boots are asked for, that is written.
#[test]
fn what_was_found_is_written_down() -> Result<()> {
    let (written, found) = table::results()?;
    if !asked()?.is_empty() {
        return table::write(&found);
    }
    ensure!(
        written == found,
        "kernel-patches/RESULTS.md is not what is noted: tests/e2e/tests/policies/run writes it"
    );
    Ok(())
}

/// The file with what was found in a boot.
fn notes(boot: Boot, extension: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernel-patches/results");
    folder.join(boot.system.word()).join(format!("{}.{extension}", boot.transport))
}

/// The boots that `run` wants: `HOLDFAST_POLICIES_BOOTS`, such as `6.12/nvme 6.1/iscsi`. None where the tests run among others.
fn asked() -> Result<Vec<Boot>> {
    let words = env::var("HOLDFAST_POLICIES_BOOTS").unwrap_or_default();
    let boot = |word: &str| {
        let (system, transport) = word.split_once('/').with_context(|| word.to_owned())?;
        let system = System::of(system).with_context(|| word.to_owned())?;
        Ok(Boot { system, transport: Transport::of(transport).with_context(|| word.to_owned())? })
    };
    words.split_whitespace().map(boot).collect()
}

fn fill_missing(boot: Boot, expected: &Expected) -> Result<()> {
    let log = notes(boot, "jsonl");
    let noted = Record::read(&log)?;
    let missing: Vec<Cell> =
        Cell::all().filter(|cell| noted.iter().all(|record| record.cell != *cell)).collect();
    println!("{boot}: {} cells are noted, {} are missing", noted.len(), missing.len());
    if missing.is_empty() {
        return Ok(());
    }
    let mut host = Host::start(boot, &format!("policies_{}_{}", boot.system, boot.transport), GUEST_LIMIT)?;
    for cell in missing {
        let (goal, limit) = match expected.of(boot, cell)?.0 {
            Colour::Red => (Goal::Error, RED_LIMIT),
            _ => (Goal::Blocks(TABLE_BLOCKS), TABLE_LIMIT),
        };
        let record = host.fill(cell, goal, limit)?;
        println!("{}", table::line(&record));
        record.note(&log)?;
    }
    host.end()
}

/// Red cells and, from the same boot, their green twins: the same load on the same file system under a policy that helps.
fn slice(boot: Boot) -> Result<()> {
    let twins = [
        (FileSystem::Ext4, Load::A, Policy::NoWait, Policy::StablePages),
        (FileSystem::Xfs, Load::B, Policy::NoWait, Policy::StablePages),
        (FileSystem::Raw, Load::BufferChanged, Policy::StablePages, Policy::BounceDirect),
        (FileSystem::Ext4WithoutJournal, Load::Churn, Policy::NoWait, Policy::Bounce),
    ];
    let enough = SLICE_BLOCKS.into_iter().find(|(transport, _)| *transport == boot.transport);
    let enough = enough.context("how many blocks over this transport?")?.1;
    let expected = Expected::read()?;
    let mut host = Host::start(boot, &format!("policies_slice_{}", boot.transport), GUEST_LIMIT)?;
    for (file_system, load, red, green) in twins {
        let red = Cell { file_system, load, policy: red };
        let green = Cell { policy: green, ..red };
        for (cell, colour, goal, limit) in [
            (red, Colour::Red, Goal::Error, RED_LIMIT),
            (green, Colour::Green, Goal::Blocks(enough), SLICE_LIMIT),
        ] {
            ensure!(expected.of(boot, cell)?.0 == colour, "{cell}: the table says something else");
            let record = host.fill(cell, goal, limit)?;
            println!("{}", table::line(&record));
            let complaint = record.complaint(colour);
            ensure!(complaint.is_none(), "{}", complaint.unwrap_or_default());
            ensure!(colour == Colour::Red || record.blocks_checked >= enough, "too few blocks: {record:?}");
        }
    }
    host.end()
}
