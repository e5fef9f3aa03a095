//! What came of runs, added up and noted, so that a long series can be gone on with after an interruption.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::ops::AddAssign;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::model::Found;

/// Counts of one run or of many.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How often the power went.
    pub(crate) cuts: u64,
    /// Of those: with the whole appliance.
    pub(crate) whole: u64,
    /// During the recovery from the one before.
    pub(crate) recovering: u64,
    /// With nothing written since the one before.
    pub(crate) idle: u64,
    /// Commands that completed.
    pub(crate) commands: u64,
    /// Blocks that were read and compared after a loss of power.
    pub(crate) blocks: u64,
    /// Those of them that had been flushed since the loss before.
    pub(crate) flushed: u64,
    /// Those whose latest version was gone, as it may.
    pub(crate) reverted: u64,
    /// Orders to make, grow and delete volumes.
    pub(crate) orders: u64,
    /// Files that a guest had synchronised, and found.
    pub(crate) files: u64,
    /// Time taken.
    pub(crate) milliseconds: u64,
}

impl Tally {
    fn counts(&mut self) -> [(&'static str, &mut u64); 11] {
        [
            ("cuts", &mut self.cuts),
            ("whole", &mut self.whole),
            ("recovering", &mut self.recovering),
            ("idle", &mut self.idle),
            ("commands", &mut self.commands),
            ("blocks", &mut self.blocks),
            ("flushed", &mut self.flushed),
            ("reverted", &mut self.reverted),
            ("orders", &mut self.orders),
            ("files", &mut self.files),
            ("milliseconds", &mut self.milliseconds),
        ]
    }

    /// In one line.
    pub(crate) fn line(mut self) -> String {
        let counts = self.counts().into_iter().filter(|(_, count)| **count > 0);
        counts.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, mut other: Tally) {
        for ((_, count), (_, more)) in self.counts().into_iter().zip(other.counts()) {
            *count += *more;
        }
    }
}

impl AddAssign<Found> for Tally {
    fn add_assign(&mut self, found: Found) {
        self.blocks += found.blocks;
        self.flushed += found.flushed;
        self.reverted += found.reverted;
    }
}

/// Runs that are noted in `log` as finished, by their seeds.
///
/// # Errors
/// When the log is none.
pub(crate) fn finished(log: &Path) -> Result<Vec<(u64, Tally)>> {
    let text = if log.exists() { fs::read_to_string(log)? } else { String::new() };
    let lines = text.lines().map(|line| {
        let noted: Value = serde_json::from_str(line)?;
        let number = |name: &str| noted.get(name).and_then(Value::as_u64).with_context(|| line.to_owned());
        let mut tally = Tally::default();
        for (name, count) in tally.counts() {
            *count = number(name)?;
        }
        Ok((number("seed")?, tally))
    });
    lines.collect()
}

/// Notes a finished run.
///
/// # Errors
/// When that cannot be written.
pub(crate) fn note(log: &Path, seed: u64, mut tally: Tally) -> Result<()> {
    let mut noted: Map<String, Value> =
        tally.counts().into_iter().map(|(name, count)| (name.to_owned(), (*count).into())).collect();
    noted.insert("seed".to_owned(), seed.into());
    let mut file = OpenOptions::new().create(true).append(true).open(log)?;
    Ok(writeln!(file, "{}", Value::Object(noted))?)
}

#[test]
fn what_is_noted_is_found_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let tally = Tally { cuts: 3, blocks: 17, milliseconds: 5, ..Tally::default() };
    assert_eq!(finished(&log)?, []);
    note(&log, 9, tally)?;
    note(&log, 10, Tally::default())?;
    assert_eq!(finished(&log)?, [(9, tally), (10, Tally::default())]);
    Ok(())
}
