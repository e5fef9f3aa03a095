//! Runs cases one after the other and keeps what came out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use crate::{Case, Lab};

/// What came out of one case.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The case.
    pub id: &'static str,
    /// Its clause.
    pub clause: &'static str,
    /// How long it took, in milliseconds.
    pub took_ms: u128,
    /// What was wrong; nothing when it passed.
    pub failure: Option<String>,
}

/// What came out of all of them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// In the order in which they ran.
    pub outcomes: Vec<Outcome>,
}

/// Runs cases on one Lab. `watch` is told each outcome as it comes.
pub fn run<'a>(
    lab: &mut Lab,
    cases: impl IntoIterator<Item = &'a Case>,
    mut watch: impl FnMut(&Outcome),
) -> Report {
    let mut report = Report::default();
    for case in cases {
        let start = Instant::now();
        let failure = one(lab, case).err().map(|error| format!("{error:#}"));
        let outcome =
            Outcome { id: case.id, clause: case.clause, took_ms: start.elapsed().as_millis(), failure };
        watch(&outcome);
        report.outcomes.push(outcome);
    }
    report
}

/// A case, and that it left the target as others need it.
fn one(lab: &mut Lab, case: &Case) -> Result<()> {
    let done = catch_unwind(AssertUnwindSafe(|| (case.run)(lab)));
    let done = done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(anyhow!("the case panicked: {text}"))
    });
    let settled = lab.settle().context("afterwards");
    done.and(settled)
}

impl Report {
    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.failure.is_some())
    }

    /// Nothing when all passed, otherwise every failing id with its clause and what was wrong.
    ///
    /// # Errors
    /// When a case failed.
    pub fn verdict(&self) -> Result<()> {
        let lines: Vec<String> = self.failures().map(Outcome::to_string).collect();
        if lines.is_empty() {
            return Ok(());
        }
        Err(anyhow!("{} of {} cases failed:\n{}", lines.len(), self.outcomes.len(), lines.join("\n")))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.failure {
            None => write!(f, "ok    {} ({} ms)", self.id, self.took_ms),
            Some(why) => {
                write!(f, "FAIL  {} ({} ms)\n      {}\n      {why}", self.id, self.took_ms, self.clause)
            }
        }
    }
}
