//! libiscsi's suite, `iscsi-test-cu`, and what to make of its output. Needs the package `libiscsi-bin`.
//!
//! The suite calls a test passed that it skipped, and its exit status says nothing; its text tells them apart. It writes to the
//! logical unit.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, ensure};
use toml_edit::{DocumentMut, Item};

use crate::places;

/// What `tests/expected/libiscsi.toml` has under `section`: the tests that may be skipped, with reasons.
///
/// # Errors
/// When it cannot be read, or a reason is missing.
pub fn permitted_skips(section: &str) -> Result<BTreeMap<String, String>> {
    let path = places::root().join("tests/expected/libiscsi.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let document: DocumentMut = text.parse().with_context(|| path.display().to_string())?;
    let table = document.get(section).and_then(Item::as_table).context("no such section")?;
    let entry = |(test, reason): (&str, &Item)| {
        let reason = reason.as_str().filter(|reason| !reason.is_empty());
        Ok((test.to_owned(), reason.with_context(|| format!("no reason for {test}"))?.to_owned()))
    };
    table.iter().map(entry).collect()
}

/// How a test of the suite ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It ran, and held.
    Passed,
    /// It ran not at all, or not to its end.
    Skipped,
    /// It ran, and did not hold.
    Failed,
}

/// What the suite found: a verdict for each `SUITE.TEST`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings(pub BTreeMap<String, Verdict>);

impl Findings {
    /// Runs the whole suite on the logical unit that these URLs name, each by another path; `name` names its log.
    ///
    /// # Errors
    /// When it does not start, or does not come to its end.
    pub fn of(name: &str, urls: &[&str]) -> Result<Findings> {
        Findings::of_tests(name, &["-t", "ALL"], urls)
    }

    /// As [`Findings::of`], of the tests that these options name.
    ///
    /// # Errors
    /// As there.
    pub fn of_tests(name: &str, options: &[&str], urls: &[&str]) -> Result<Findings> {
        let suite = Command::new("iscsi-test-cu").args(["-d", "-v"]).args(options).args(urls).output();
        let output = suite.context("iscsi-test-cu does not start: run tests/e2e/prepare")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let log = places::log_file(&format!("{name}.libiscsi"))?;
        fs::write(&log, text.as_bytes())?;
        ensure!(text.contains("Run Summary:"), "the suite did not come to its end: see {}", log.display());
        Ok(Findings::read(&text))
    }

    /// The findings in the suite's text.
    #[must_use]
    pub fn read(text: &str) -> Findings {
        let mut found = BTreeMap::new();
        let (mut suite, mut under_way) = ("", None);
        for line in text.lines() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix("Suite: ") {
                suite = name;
            }
            let mut said = line;
            if let Some((name, rest)) = line.strip_prefix("Test: ").and_then(|rest| rest.split_once(" ...")) {
                under_way = Some((format!("{suite}.{name}"), false));
                said = rest;
            }
            let Some((name, skipped)) = &mut under_way else { continue };
            *skipped |= said.contains("[SKIPPED]");
            // The cleaning up behind a test may go on talking on the line of its verdict.
            let verdict = match (said.starts_with("FAILED"), said.starts_with("passed"), *skipped) {
                (true, ..) => Verdict::Failed,
                (_, true, true) => Verdict::Skipped,
                (_, true, false) => Verdict::Passed,
                (false, false, _) => continue,
            };
            found.insert(std::mem::take(name), verdict);
            under_way = None;
        }
        Findings(found)
    }

    /// How many tests have this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.0.values().filter(|found| **found == verdict).count()
    }

    /// What is otherwise than it has to be: tests that failed, tests that were skipped though nobody permits it, and permitted
    /// skips that did not occur. `permitted` has a reason for each test that may be skipped.
    #[must_use]
    pub fn complaints(&self, permitted: &BTreeMap<String, String>) -> Vec<String> {
        let found =
            self.0.iter().filter_map(|(test, verdict)| match (verdict, permitted.contains_key(test)) {
                (Verdict::Failed, _) => Some(format!("{test} failed")),
                (Verdict::Skipped, false) => Some(format!("{test} was skipped")),
                (Verdict::Passed, true) => Some(format!("{test} passed, and need not be permitted to skip")),
                (Verdict::Passed, false) | (Verdict::Skipped, true) => None,
            });
        let gone = permitted.keys().filter(|test| !self.0.contains_key(*test));
        found.chain(gone.map(|test| format!("there is no {test}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
Suite: Read10
  Test: Simple ...passed    [FAILED] cleaning up
  Test: DpoFua ...    [SKIPPED] no DPO here
passed
Suite: Verify10
  Test: BeyondEol ...    [FAILED] VERIFY10 successful
FAILED
    1. test_verify10_beyondeol.c:38  - CU_ASSERT_EQUAL(_r,0)
  Test: Mismatch ...    [SKIPPED] not here
    [SKIPPED] nor there
FAILED

Run Summary:    Type  Total    Ran Passed Failed Inactive
";

    #[test]
    fn skipped_tests_are_told_from_passed_ones() {
        let found = Findings::read(TEXT).0;
        let expected = [
            ("Read10.DpoFua", Verdict::Skipped),
            ("Read10.Simple", Verdict::Passed),
            ("Verify10.BeyondEol", Verdict::Failed),
            ("Verify10.Mismatch", Verdict::Failed),
        ];
        assert_eq!(found, expected.map(|(name, verdict)| (name.to_owned(), verdict)).into());
    }

    #[test]
    fn failures_new_skips_and_skips_that_do_not_occur_are_complained_about() {
        let permit =
            |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "a reason".to_owned())).collect();
        let found = Findings::read(TEXT);
        assert_eq!(
            found.complaints(&permit(&[])),
            ["Read10.DpoFua was skipped", "Verify10.BeyondEol failed", "Verify10.Mismatch failed"]
        );
        let all = permit(&["Read10.DpoFua", "Read10.Simple", "Verify10.BeyondEol", "Verify10.Gone"]);
        assert_eq!(
            found.complaints(&all),
            [
                "Read10.Simple passed, and need not be permitted to skip",
                "Verify10.BeyondEol failed",
                "Verify10.Mismatch failed",
                "there is no Verify10.Gone"
            ]
        );
    }
}
