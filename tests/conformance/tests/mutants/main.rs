//! The checks fail on a target that is broken on purpose.
//!
//! `holdfast-target` is built once more, with the feature `mutants`, into a folder of its own. Each mutant gets an
//! appliance whose target makes that one mistake; the cases that are named for it must fail there, and all of them must
//! pass on the same program without a mistake.

mod commands;
mod front;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_conformance::{Case, Lab, Start, cases, run};
use holdfast_e2e::breakable_programs;

/// A mistake that the target can be told to make.
struct Mutant {
    /// What `holdfast_mutant::active` is asked for.
    name: &'static str,
    /// The cases that notice.
    caught_by: &'static [&'static str],
}

/// How long a broken target may leave a host without an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Appliances at once; most of the time they wait for something.
const WORKERS: usize = 3;

fn mutants() -> impl Iterator<Item = &'static Mutant> {
    front::MUTANTS.iter().chain(commands::MUTANTS)
}

#[test]
fn every_mutant_is_caught() -> Result<()> {
    let programs = breakable_programs()?;
    let all: BTreeSet<&str> = mutants().flat_map(|mutant| mutant.caught_by.iter().copied()).collect();
    let catching = cases_named(all)?;
    let mut lab = Lab::start("mutants_none", Start { programs: Some(&programs), ..Start::default() })?;
    run(&mut lab, catching, |_| ()).verdict().context("without a mutant")?;
    drop(lab);
    let queue = Mutex::new(mutants());
    let missed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let next = || queue.lock().ok().and_then(|mut queue| queue.next());
                while let Some(mutant) = next() {
                    if let Err(error) = catch(mutant, &programs)
                        && let Ok(mut missed) = missed.lock()
                    {
                        missed.push(format!("{}: {error:#}", mutant.name));
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    ensure!(missed.is_empty(), "{} mutants were missed:\n{}", missed.len(), missed.join("\n"));
    Ok(())
}

/// Every place where the target asks for a mutant is on the lists, and the other way round.
#[test]
fn the_lists_name_the_mutants_that_there_are() -> Result<()> {
    let mut there = BTreeSet::new();
    for room in ["pi", "block", "store", "nvme", "daemon"] {
        ask_for_mutants(&root().join("target").join(room).join("src"), &mut there)?;
    }
    let listed: BTreeSet<String> = mutants().map(|mutant| mutant.name.to_owned()).collect();
    ensure!(listed.len() == mutants().count(), "a mutant is listed twice");
    ensure!(there == listed, "in the target or on the lists only: {:?}", &there ^ &listed);
    Ok(())
}

fn catch(mutant: &Mutant, programs: &Path) -> Result<()> {
    let start = Start {
        programs: Some(programs),
        environment: &[("HOLDFAST_MUTANT", mutant.name)],
        patience: Some(PATIENCE),
        ..Start::default()
    };
    let mut lab = Lab::start(&format!("mutant_{}", mutant.name), start)?;
    let report = run(&mut lab, cases_named(mutant.caught_by.iter().copied())?, |_| ());
    let passed: Vec<&str> = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_none())
        .map(|outcome| outcome.id)
        .collect();
    ensure!(passed.is_empty(), "passed: {}", passed.join(", "));
    Ok(())
}

fn cases_named(names: impl IntoIterator<Item = &'static str>) -> Result<Vec<&'static Case>> {
    let find =
        |name| cases().find(|case| case.id == name).with_context(|| format!("no case is called {name}"));
    let found = names.into_iter().map(find).collect::<Result<Vec<_>>>()?;
    ensure!(!found.is_empty(), "no case is named");
    Ok(found)
}

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Mistakes with such names are for others: the fuzzers (`target/fuzz/planted` says which of them finds each) and the
/// simulated power cuts (`target/store/tests/crash/mutants.rs`).
const FOR_OTHERS: [&str; 2] = ["planted-", "store-"];

/// The names in `holdfast_mutant::active("…")` in all sources below `folder`, but for those of others.
fn ask_for_mutants(folder: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            ask_for_mutants(&path, names)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path)?;
            for rest in text.split("holdfast_mutant::active(").skip(1) {
                let Some((name, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
                    bail!("{}: a mutant without a literal name", path.display());
                };
                if !FOR_OTHERS.iter().any(|prefix| name.starts_with(prefix)) {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    Ok(())
}
