//! Many runs, on all processors, each with its seed; what they counted; and a log of the finished ones, so that a long
//! series can be gone on with after an interruption.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use crate::classes::{Class, Tally};
use crate::scenario::Scenario;
use crate::world;

/// Failed runs after which no more are started.
const FAILURES_MAX: usize = 3;

/// A series of runs.
pub(crate) struct Series<'a> {
    pub(crate) first_seed: u64,
    /// Crashes after which no run is started.
    pub(crate) crashes: u64,
    /// Whether something goes wrong besides power cuts.
    pub(crate) troubled: bool,
    /// Where finished runs are noted, a line of JSON each.
    pub(crate) log: Option<&'a Path>,
}

struct Progress {
    next_seed: u64,
    finished: BTreeSet<u64>,
    tally: Tally,
    failures: Vec<String>,
    log: Option<File>,
}

impl Progress {
    fn next(&mut self, crashes: u64) -> Option<u64> {
        while self.finished.contains(&self.next_seed) {
            self.next_seed += 1;
        }
        let seed = self.next_seed;
        self.next_seed += 1;
        (self.tally.crashes < crashes && self.failures.len() < FAILURES_MAX).then_some(seed)
    }
}

impl Series<'_> {
    /// Carries it out.
    ///
    /// # Errors
    ///
    /// The failures, each with its seed.
    pub(crate) fn run(&self) -> Result<Tally, String> {
        let mut progress = Progress {
            next_seed: self.first_seed,
            finished: BTreeSet::new(),
            tally: Tally::default(),
            failures: Vec::new(),
            log: None,
        };
        if let Some(path) = self.log {
            self.take_up(path, &mut progress)?;
        }
        let progress = Mutex::new(progress);
        let workers = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.work(&progress));
            }
        });
        let progress = progress.into_inner().map_err(|error| error.to_string())?;
        if progress.failures.is_empty() { Ok(progress.tally) } else { Err(progress.failures.join("\n\n")) }
    }

    fn work(&self, progress: &Mutex<Progress>) {
        loop {
            let Some(seed) = progress.lock().unwrap().next(self.crashes) else { return };
            let outcome = run_one(seed, self.troubled);
            let mut progress = progress.lock().unwrap();
            match outcome {
                Ok(tally) => {
                    progress.tally.add(&tally);
                    if let Some(log) = &mut progress.log {
                        let line = serde_json::json!({
                            "seed": seed, "crashes": tally.crashes, "classes": tally.by_class
                        });
                        writeln!(log, "{line}").unwrap();
                    }
                }
                Err(failure) => progress.failures.push(failure),
            }
        }
    }

    /// Takes up what earlier series have finished.
    fn take_up(&self, path: &Path, progress: &mut Progress) -> Result<(), String> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        for line in BufReader::new(&file).lines() {
            let line = line.map_err(|error| error.to_string())?;
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            let Some(seed) = value["seed"].as_u64() else { continue };
            let mut tally = Tally { crashes: value["crashes"].as_u64().unwrap_or(0), ..Tally::default() };
            for class in Class::ALL {
                let count = value["classes"][class.name()].as_u64().unwrap_or(0);
                tally.by_class.insert(class.name(), count);
            }
            progress.finished.insert(seed);
            progress.tally.add(&tally);
        }
        progress.log = Some(file);
        Ok(())
    }
}

/// One run.
///
/// # Errors
///
/// What should not be, with the seed.
pub(crate) fn run_one(seed: u64, troubled: bool) -> Result<Tally, String> {
    let scenario = Scenario::new(seed, troubled);
    let about = format!("{:?}, {:?}", scenario.kind, scenario.trouble);
    let outcome = catch_unwind(AssertUnwindSafe(|| world::run(scenario)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(format!("panic: {}", words.unwrap_or_default()))
    });
    let variable = if troubled { "HOLDFAST_FAULT_SEED" } else { "HOLDFAST_CRASH_SEED" };
    outcome.map(|outcome| outcome.tally).map_err(|error| format!("{variable}={seed} ({about}): {error}"))
}
