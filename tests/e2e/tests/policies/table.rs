//! What was found, for people: a section of `kernel-patches/RESULTS.md` that is written anew each time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use crate::cells::{Boot, Cell, FileSystem, Load, Policy};
use crate::cost;
use crate::expected::{Colour, Expected};
use crate::notes;
use crate::record::Record;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernel-patches/RESULTS.md");
const POLICIES: &str = "## Policies";
const COST: &str = "## What policies cost";

/// A cell in one line, as it is printed while the table is made.
pub(crate) fn line(record: &Record) -> String {
    format!(
        "{:44} {:>5} guard errors, {:>5} in the guest, {:>5} I/O errors, {:>7} operations, {:>6} blocks written, {:>6} checked, {} ms",
        record.cell.to_string(),
        record.guard_errors,
        record.guest_guard_errors,
        record.io_errors,
        record.operations,
        record.blocks_written,
        record.blocks_checked,
        record.milliseconds
    )
}

/// The results as they are, and as they should be by what is noted; sections of others stay as they are.
pub(crate) fn results() -> Result<(String, String)> {
    let written = fs::read_to_string(RESULTS).context(RESULTS)?;
    let found = replaced(&written, POLICIES, &policies()?);
    let found = replaced(&found, COST, &costs()?);
    Ok((written, found))
}

/// Writes the results.
pub(crate) fn write(text: &str) -> Result<()> {
    Ok(fs::write(RESULTS, text)?)
}

/// The section under `heading` replaced, or added at the end.
fn replaced(text: &str, heading: &str, section: &str) -> String {
    let line = format!("{heading}\n");
    let Some(begin) = text.find(&line) else { return format!("{}\n\n{line}\n{section}", text.trim_end()) };
    let rest = text.get(begin + line.len()..).unwrap_or_default();
    let end = rest.find("\n## ").map_or(text.len(), |end| begin + line.len() + end + 1);
    let (before, after) = (text.get(..begin).unwrap_or_default(), text.get(end..).unwrap_or_default());
    let gap = if after.is_empty() { "" } else { "\n" };
    format!("{before}{line}\n{section}{gap}{after}")
}

fn policies() -> Result<String> {
    let expected = Expected::read()?;
    let mut text = String::from(
        "`tests/e2e/tests/policies/run`. Each cell: guard errors that the target counted for this host / errors that the guest's programs \
         saw / operations of `wac`. **Bold** where there must be guard errors; a cell that is not as `tests/expected/policies.toml` says \
         is marked `!`. Cells that must be red end at the first guard error, the others run for some seconds.\n",
    );
    for boot in Boot::all() {
        let records = Record::read(&notes(boot, "jsonl"))?;
        let Some(newest) = records.iter().max_by_key(|record| &record.date) else { continue };
        let seconds = records.iter().map(|record| record.milliseconds).sum::<u64>() / 1000;
        let blocks: u64 = records.iter().map(|record| record.blocks_checked).sum();
        write!(
            text,
            "\n### Linux {} over {}\n\n{}; {} cells, {seconds} s of load, {blocks} blocks checked.\n\n",
            newest.release,
            boot.transport,
            newest.date,
            records.len()
        )?;
        let found: BTreeMap<Cell, &Record> = records.iter().map(|record| (record.cell, record)).collect();
        text.push_str(&table_of(boot, &found, &expected)?);
    }
    Ok(text)
}

fn table_of(boot: Boot, found: &BTreeMap<Cell, &Record>, expected: &Expected) -> Result<String> {
    let mut text = String::from("| file system | load |");
    for policy in Policy::ALL {
        write!(text, " {policy} |")?;
    }
    writeln!(text, "\n|---|---|{}", "---|".repeat(Policy::ALL.len()))?;
    for &file_system in FileSystem::ALL {
        for &load in Load::ALL.iter().filter(|&&load| (file_system, load) != (FileSystem::Raw, Load::Churn)) {
            write!(text, "| {file_system} | {load} |")?;
            for &policy in Policy::ALL {
                let cell = Cell { file_system, load, policy };
                let (colour, _) = expected.of(boot, cell)?;
                match found.get(&cell) {
                    None => text.push_str(" |"),
                    Some(record) => write!(text, " {} |", content(record, colour))?,
                }
            }
            text.push('\n');
        }
    }
    Ok(text)
}

fn content(record: &Record, colour: Colour) -> String {
    let Record { guard_errors, io_errors, operations, .. } = record;
    let numbers = format!("{guard_errors} / {io_errors} / {operations}");
    match (record.complaint(colour), colour) {
        (Some(_), _) => format!("{numbers} !"),
        (None, Colour::Red) => format!("**{numbers}**"),
        (None, _) => numbers,
    }
}

fn costs() -> Result<String> {
    let mut text = String::from(
        "Throughput relative to `none` in the same round of the same boot, on ext4: the middle of five rounds (lowest, highest). Guests run \
         under software emulation, where copying and computing cost more than on hardware.\n",
    );
    for boot in Boot::all() {
        let file = notes(boot, "cost.json");
        let Ok(noted) = fs::read_to_string(&file) else { continue };
        let noted = serde_json::from_str(&noted)?;
        let ratios = cost::ratios(&noted).with_context(|| file.display().to_string())?;
        let said = |name: &str| noted.get(name).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
        write!(
            text,
            "\n### Costs: Linux {} over {}\n\n{}.\n\n| load |",
            said("release"),
            boot.transport,
            said("date")
        )?;
        for policy in cost::POLICIES {
            write!(text, " {policy} |")?;
        }
        writeln!(text, "\n|---|{}", "---|".repeat(cost::POLICIES.len()))?;
        for (load, what) in cost::LOADS {
            write!(text, "| {what} |")?;
            for policy in cost::POLICIES {
                let [middle, lowest, highest] = ratios
                    .get(&(load.to_owned(), policy))
                    .copied()
                    .with_context(|| format!("no {load} under {policy}"))?;
                match policy {
                    Policy::None => text.push_str(" 1 |"),
                    _ => write!(text, " {middle:.2} ({lowest:.2}, {highest:.2}) |")?,
                }
            }
            text.push('\n');
        }
    }
    if !text.contains("###") {
        text.push_str("\nNot measured yet.\n");
    }
    Ok(text)
}

#[test]
fn a_section_is_replaced_and_others_are_not() {
    let first = replaced("# Results\n", "## A", "one\n");
    assert_eq!(first, "# Results\n\n## A\n\none\n");
    let second = replaced(&first, "## B", "two\n");
    assert_eq!(second, "# Results\n\n## A\n\none\n\n## B\n\ntwo\n");
    assert_eq!(replaced(&second, "## A", "three\n"), "# Results\n\n## A\n\nthree\n\n## B\n\ntwo\n");
    assert_eq!(replaced(&second, "## B", "four\n"), "# Results\n\n## A\n\none\n\n## B\n\nfour\n");
    assert_eq!(replaced(&second, "## A", "one\n"), second);
}
