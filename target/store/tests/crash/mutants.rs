//! The crashes find a store that is broken on purpose.
//!
//! These tests are built once more with the feature `mutants`, into a folder of their own. Each mutant makes one mistake,
//! and the runs that are made in every test must find it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which runs notice.
#[derive(Debug, Clone, Copy)]
enum By {
    PowerCuts,
    Faults,
}

use By::{Faults, PowerCuts};

/// What `holdfast_mutant::active` is asked for in the store, and what notices.
const MUTANTS: [(&str, By); 23] = [
    ("store-acknowledged-before-journal", PowerCuts),
    ("store-checkpoint-covers-too-much", PowerCuts),
    ("store-checksum-not-compared", Faults),
    ("store-choice-not-kept", PowerCuts),
    ("store-durable-too-high", PowerCuts),
    ("store-durable-write-not-flushed", PowerCuts),
    ("store-failed-batch-forgets-records", Faults),
    ("store-failed-write-not-restated", Faults),
    ("store-flush-failure-ignored", Faults),
    ("store-flush-skipped", PowerCuts),
    ("store-growth-not-replayed", PowerCuts),
    ("store-hole-ends-log", PowerCuts),
    ("store-journal-freed-before-commit", PowerCuts),
    ("store-journal-place-reused-early", PowerCuts),
    ("store-page-slot-reused-early", PowerCuts),
    ("store-replay-without-checksum", PowerCuts),
    ("store-slot-reused-early", PowerCuts),
    ("store-slot-reused-under-a-read", PowerCuts),
    ("store-stale-cell", PowerCuts),
    ("store-superblock-before-flush", PowerCuts),
    ("store-trim-not-replayed", PowerCuts),
    ("store-tuple-of-the-neighbour", PowerCuts),
    ("store-writer-stated-once", PowerCuts),
];

/// All of the store's mutants have names that begin so; those of other rooms are listed elsewhere.
const OF_THE_STORE: &str = "store-";

#[test]
fn every_mutant_of_the_store_is_found() {
    let program = build();
    let missed: Vec<&str> =
        MUTANTS.iter().filter(|(name, by)| !is_found(&program, name, *by)).map(|(name, _)| *name).collect();
    assert!(missed.is_empty(), "missed: {}", missed.join(", "));
}

/// The list names the mutants that there are.
#[test]
fn list_of_the_stores_mutants_is_complete() {
    let mut there = BTreeSet::new();
    find_mutants(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut there);
    let listed: BTreeSet<String> = MUTANTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed.len(), MUTANTS.len(), "one is listed twice");
    assert_eq!(there, listed);
}

fn is_found(program: &Path, mutant: &str, by: By) -> bool {
    let (test, seed) = match by {
        PowerCuts => ("power_cuts_leave_what_was_promised", "HOLDFAST_CRASH_SEED="),
        Faults => ("faulty_device_never_makes_wrong_data_good", "HOLDFAST_FAULT_SEED="),
    };
    let mut command = Command::new(program);
    command.args(["--exact", test]).env("HOLDFAST_MUTANT", mutant);
    let variables = ["HOLDFAST_CRASHES", "HOLDFAST_CRASH_LOG", "HOLDFAST_CRASH_SEED", "HOLDFAST_FAULT_SEED"];
    variables.iter().for_each(|variable| {
        command.env_remove(variable);
    });
    let output = command.output().unwrap();
    let words =
        [output.stdout, output.stderr].map(|words| String::from_utf8_lossy(&words).into_owned()).concat();
    let found = words.lines().find(|line| line.starts_with(seed));
    println!("{mutant}: {}", found.unwrap_or("not found"));
    !output.status.success() && found.is_some()
}

/// These tests, with a store that can be broken.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args([
            "test",
            "--quiet",
            "-p",
            "holdfast-store",
            "--features",
            "mutants",
            "--test",
            "crash",
            "--no-run",
        ])
        .args(["--message-format", "json", "--target-dir"])
        .arg(root.join("build/mutants"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = built.filter(|message| message["target"]["name"] == "crash");
    let program = programs.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.expect("cargo names the program that it has built")
}

fn find_mutants(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_mutants(&path, names);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let asked =
                text.split("holdfast_mutant::active(\"").skip(1).filter_map(|rest| rest.split('"').next());
            names.extend(asked.filter(|name| name.starts_with(OF_THE_STORE)).map(str::to_owned));
        }
    }
}
