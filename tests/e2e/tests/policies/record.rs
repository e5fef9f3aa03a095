//! What was found in a cell, noted as one line of JSON, so that a table that was interrupted can be gone on with.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cells::{Boot, Cell, FileSystem, Load, Policy, System, Transport};
use crate::expected::Colour;

/// What guest and target said of one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) boot: Boot,
    pub(crate) cell: Cell,
    /// What `uname -r` answered.
    pub(crate) release: String,
    /// Of the day.
    pub(crate) date: String,
    /// How long `wac` ran, its start included.
    pub(crate) milliseconds: u64,
    /// What `wac` did without an error.
    pub(crate) operations: u64,
    /// What the guest's kernel answered with an error.
    pub(crate) io_errors: u64,
    /// The same by `errno`, as `wac` prints it.
    pub(crate) errors: String,
    /// Failed guard checks of writes, as the target counts them for this host.
    pub(crate) guard_errors: u64,
    /// All other failed checks of writes.
    pub(crate) other_errors: u64,
    /// Guard errors, as the guest's kernel counts them.
    pub(crate) guest_guard_errors: u64,
    /// Blocks that came with a tuple, those of making the file system among them.
    pub(crate) blocks_checked: u64,
    /// Blocks that came without.
    pub(crate) blocks_inserted: u64,
    /// Blocks that the guest wrote while `wac` ran, and after it.
    pub(crate) blocks_written: u64,
}

impl Record {
    /// What is wrong with it, where it must be of this colour.
    pub(crate) fn complaint(&self, colour: Colour) -> Option<String> {
        let said = || {
            format!(
                "{}, {}: {} guard errors ({} in the guest), {} other errors, {} I/O errors ({}), {} operations",
                self.cell,
                self.boot,
                self.guard_errors,
                self.guest_guard_errors,
                self.other_errors,
                self.io_errors,
                self.errors,
                self.operations
            )
        };
        let good = match colour {
            Colour::Red => self.guard_errors > 0 && self.operations > 0,
            Colour::Green => self.is_green() && self.io_errors == 0,
            Colour::GreenWithErrors => self.is_green(),
            Colour::Either => true,
        };
        let tuples = match self.cell.policy {
            Policy::None | Policy::DirectIoOnly => true,
            _ => self.blocks_inserted == 0,
        };
        match (good && self.other_errors == 0, tuples) {
            (true, true) => None,
            (false, _) => Some(format!("must be {colour:?}: {}", said())),
            (true, false) => Some(format!("{} blocks without tuples: {}", self.blocks_inserted, said())),
        }
    }

    fn is_green(&self) -> bool {
        self.guard_errors == 0 && self.guest_guard_errors == 0 && self.operations > 0
    }

    /// All that are noted in `log`, which need not exist.
    pub(crate) fn read(log: &Path) -> Result<Vec<Record>> {
        let text = if log.exists() { fs::read_to_string(log)? } else { String::new() };
        // What an interruption cut off is not noted.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| Record::parse(line).with_context(|| line.to_owned())).collect()
    }

    /// Notes it in `log`.
    pub(crate) fn note(&self, log: &Path) -> Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(log)?;
        let text = json!({
            "kernel": self.boot.system.word(),
            "transport": self.boot.transport.word(),
            "policy": self.cell.policy.word(),
            "file_system": self.cell.file_system.word(),
            "load": self.cell.load.word(),
            "release": self.release,
            "date": self.date,
            "milliseconds": self.milliseconds,
            "operations": self.operations,
            "io_errors": self.io_errors,
            "errors": self.errors,
            "guard_errors": self.guard_errors,
            "other_errors": self.other_errors,
            "guest_guard_errors": self.guest_guard_errors,
            "blocks_checked": self.blocks_checked,
            "blocks_inserted": self.blocks_inserted,
            "blocks_written": self.blocks_written,
        });
        Ok(writeln!(file, "{text}")?)
    }

    fn parse(line: &str) -> Result<Record> {
        let noted: Value = serde_json::from_str(line)?;
        let text = |name: &str| noted.get(name).and_then(Value::as_str).with_context(|| format!("no {name}"));
        let number =
            |name: &str| noted.get(name).and_then(Value::as_u64).with_context(|| format!("no {name}"));
        Ok(Record {
            boot: Boot {
                system: System::of(text("kernel")?).context("kernel")?,
                transport: Transport::of(text("transport")?).context("transport")?,
            },
            cell: Cell {
                file_system: FileSystem::of(text("file_system")?).context("file_system")?,
                load: Load::of(text("load")?).context("load")?,
                policy: Policy::of(text("policy")?).context("policy")?,
            },
            release: text("release")?.to_owned(),
            date: text("date")?.to_owned(),
            milliseconds: number("milliseconds")?,
            operations: number("operations")?,
            io_errors: number("io_errors")?,
            errors: text("errors")?.to_owned(),
            guard_errors: number("guard_errors")?,
            other_errors: number("other_errors")?,
            guest_guard_errors: number("guest_guard_errors")?,
            blocks_checked: number("blocks_checked")?,
            blocks_inserted: number("blocks_inserted")?,
            blocks_written: number("blocks_written")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn green() -> Record {
        Record {
            boot: Boot { system: System::V6_12, transport: Transport::Iscsi },
            cell: Cell { file_system: FileSystem::Xfs, load: Load::BufferChanged, policy: Policy::Bounce },
            release: "6.12.1".to_owned(),
            date: "2026-11-23".to_owned(),
            milliseconds: 10,
            operations: 11,
            io_errors: 0,
            errors: String::new(),
            guard_errors: 0,
            other_errors: 0,
            guest_guard_errors: 0,
            blocks_checked: 12,
            blocks_inserted: 0,
            blocks_written: 13,
        }
    }

    #[test]
    fn what_is_noted_is_found_again_and_what_was_cut_off_is_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        assert_eq!(Record::read(&log)?, []);
        let red = Record { guard_errors: 3, io_errors: 4, errors: "\"EIO\":4".to_owned(), ..green() };
        green().note(&log)?;
        red.note(&log)?;
        write!(OpenOptions::new().append(true).open(&log)?, "{{\"kernel\":")?;
        assert_eq!(Record::read(&log)?, [green(), red]);
        Ok(())
    }

    #[test]
    fn each_colour_refuses_what_it_is_not() {
        let red = Record { guard_errors: 3, guest_guard_errors: 3, io_errors: 4, ..green() };
        let errors = Record { io_errors: 4, ..green() };
        let silent = Record { operations: 0, ..green() };
        let unprotected = Record { blocks_inserted: 1, ..green() };
        let tags = Record { other_errors: 1, ..green() };
        for (record, fits) in [
            (green(), vec![Colour::Green, Colour::GreenWithErrors]),
            (red, vec![Colour::Red]),
            (errors, vec![Colour::GreenWithErrors]),
            (silent, vec![]),
            (unprotected, vec![]),
            (tags, vec![]),
        ] {
            for colour in [Colour::Red, Colour::Green, Colour::GreenWithErrors] {
                assert_eq!(
                    record.complaint(colour).is_none(),
                    fits.contains(&colour),
                    "{record:?} {colour:?}"
                );
            }
        }
    }
}
