//! `holdfast pool check`: looks at a pool in a file or on a device that nobody serves, without any API.
//!
//! Exit status: 0 nothing is wrong; 1 damage was found; 2 wrong usage, no pool there, or not readable. Nothing is ever
//! written.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use holdfast_store::disk::check::{
    CheckError, CheckOptions, CheckProgress, CheckReport, CheckStep, Finding, JournalSummary, Severity, check,
};
use holdfast_store::disk::io::{Device, DiskError};
use rustix::fs::OFlags;
use serde::Serialize;

use crate::client::ClientError;
use crate::output::{Format, printable};
use crate::size;

/// What to check, and how.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// The pool's file or block device; nobody may serve it meanwhile
    path: PathBuf,
    /// Read all data, too, and compare it with its checksums
    #[arg(long)]
    data: bool,
}

/// Why a pool could not be checked, or what came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolCheckError {
    /// No file, no device, or not ours to read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A folder, a socket or the like.
    #[error("{} is neither a file nor a block device", path.display())]
    NoStorage {
        /// What was asked for.
        path: PathBuf,
    },
    /// A target serves it.
    #[error(
        "{} is in use: what changes while it is read looks like damage. Export the pool (holdfast pool export NAME) or \
         stop the appliance first",
        path.display()
    )]
    InUse {
        /// What was asked for.
        path: PathBuf,
    },
    /// There is no pool that could be checked.
    #[error("{}: {error}", path.display())]
    NoPool {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        error: CheckError,
    },
    /// The check was done, and not all is well.
    #[error("{}: damage was found ({findings} findings); nothing was changed", path.display())]
    Damaged {
        /// What was asked for.
        path: PathBuf,
        /// How many are more than a note.
        findings: u64,
    },
}

impl PoolCheckError {
    /// 1 for damage, 2 if there was nothing to check.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Damaged { .. } => 1,
            Self::Unreadable { .. } | Self::NoStorage { .. } | Self::InUse { .. } | Self::NoPool { .. } => 2,
        }
    }
}

/// Checks a pool and prints what was found.
///
/// # Errors
/// [`PoolCheckError`], or standard output cannot be written.
pub(crate) fn run(args: CheckArgs, format: Format, out: &mut impl Write) -> Result<(), ClientError> {
    let CheckArgs { path, data } = args;
    let pool = Pool::open(&path)?;
    let mut progress = Progress::new();
    let report = check(&pool, CheckOptions { data }, &mut |now| progress.show(now));
    progress.clear();
    let report = report.map_err(|error| PoolCheckError::NoPool { path: path.clone(), error })?;
    match format {
        Format::Json => {
            let document =
                Document { path: &path, damaged: report.is_damaged(), data_checked: data, report: &report };
            let json = serde_json::to_string(&document).map_err(io::Error::from)?;
            writeln!(out, "{json}")?;
        }
        Format::Table => print(out, &path, data, &report)?,
    }
    match report.is_damaged() {
        false => Ok(()),
        true => Err(PoolCheckError::Damaged { path, findings: wrong(&report) }.into()),
    }
}

/// The report as JSON.
#[derive(Serialize)]
struct Document<'a> {
    path: &'a Path,
    damaged: bool,
    data_checked: bool,
    #[serde(flatten)]
    report: &'a CheckReport,
}

/// A pool's file or device, open for reading, and locked against being served meanwhile.
struct Pool {
    file: File,
    len: u64,
}

impl Pool {
    fn open(path: &Path) -> Result<Pool, PoolCheckError> {
        let unreadable = |error| PoolCheckError::Unreadable { path: path.to_owned(), error };
        // Looked at first: opening a pipe would wait for somebody to write.
        let kind = std::fs::metadata(path).map_err(unreadable)?.file_type();
        let mut options = OpenOptions::new();
        options.read(true);
        if kind.is_block_device() {
            // Refused while somebody else has the device for himself, as a target that serves it has.
            options.custom_flags(OFlags::EXCL.bits().cast_signed());
        } else if !kind.is_file() {
            return Err(PoolCheckError::NoStorage { path: path.to_owned() });
        }
        let mut file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => PoolCheckError::InUse { path: path.to_owned() },
            _ => unreadable(error),
        })?;
        if kind.is_file() {
            file.try_lock_shared().map_err(|error| match error {
                TryLockError::WouldBlock => PoolCheckError::InUse { path: path.to_owned() },
                TryLockError::Error(error) => unreadable(error),
            })?;
        }
        let len = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
        Ok(Pool { file, len })
    }
}

impl Device for Pool {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_exact_at(into, offset).map_err(|error| match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::NXIO.raw_os_error() => DiskError::Gone,
            Some(_) | None => DiskError::Io,
        })
    }

    /// Not for this command: the file is open for reading only.
    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), DiskError> {
        Err(DiskError::Io)
    }

    /// Nothing was written.
    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// A line on the terminal that tells how far it is; nothing where nobody watches.
struct Progress {
    shown: Option<(CheckStep, u64)>,
    watched: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress { shown: None, watched: io::stderr().is_terminal() }
    }

    fn show(&mut self, now: CheckProgress) {
        let percent = now.done.saturating_mul(100).checked_div(now.total).unwrap_or(100);
        if !self.watched || self.shown == Some((now.step, percent)) {
            return;
        }
        self.shown = Some((now.step, percent));
        let step = match now.step {
            CheckStep::Journal => "journal",
            CheckStep::Cells => "volumes",
        };
        // Only for whoever watches: the check does not depend on it.
        let _ = write!(io::stderr(), "\r{step}: {percent:3} %");
    }

    fn clear(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r{:20}\r", "");
        }
    }
}

/// Findings that are more than a note.
fn wrong(report: &CheckReport) -> u64 {
    let kept = report.findings.iter().filter(|finding| finding.severity > Severity::Note).count();
    (kept as u64).saturating_add(report.findings_omitted)
}

fn print(out: &mut impl Write, path: &Path, data: bool, report: &CheckReport) -> io::Result<()> {
    if let Some(pool) = &report.pool {
        let (name, size) = (printable(&pool.name), size::human(pool.size_bytes));
        writeln!(out, "{}: pool `{name}`, identifier {}, UUID {}", path.display(), pool.id, pool.uuid)?;
        writeln!(
            out,
            "{size}; {} of {} slots of 4 KiB in use; checkpoint {}",
            pool.data_slots_used, pool.data_slots, pool.generation
        )?;
    }
    if let Some(journal) = &report.journal {
        print_journal(out, journal)?;
    }
    for volume in &report.volumes {
        let lost =
            if volume.blocks_lost > 0 { format!(", {} LOST", volume.blocks_lost) } else { String::new() };
        writeln!(
            out,
            "Volume {} `{}`: {} blocks of {} bytes, {} in use{lost}",
            volume.id,
            printable(&volume.name),
            volume.block_count,
            volume.block_len,
            volume.blocks_live
        )?;
    }
    let seen = &report.looked_at;
    let read =
        if data { format!("the data of {} of them", seen.cells_data) } else { "not their data".to_owned() };
    writeln!(
        out,
        "Looked at {} superblocks, {} places of the journal, {} pages of tables, {} pages of maps, {} cells and {read}",
        seen.superblocks, seen.journal_places, seen.table_pages, seen.map_pages, seen.cells
    )?;
    report.findings.iter().try_for_each(|finding| print_finding(out, finding))?;
    if report.findings_omitted > 0 {
        writeln!(out, "{} more findings", report.findings_omitted)?;
    }
    match wrong(report) {
        0 if data => writeln!(out, "Nothing is wrong"),
        0 => writeln!(out, "Nothing is wrong; the data was not looked at (--data)"),
        _ => Ok(()),
    }
}

fn print_journal(out: &mut impl Write, journal: &JournalSummary) -> io::Result<()> {
    if journal.blocks == 0 {
        let how = if journal.closed { "The pool was closed well" } else { "The pool was NOT closed" };
        return writeln!(out, "{how}; its journal holds nothing to be replayed");
    }
    writeln!(
        out,
        "The pool was NOT closed: opening it replays {} journal blocks, {} to {}, with {} cells",
        journal.blocks, journal.start, journal.end, journal.cells
    )?;
    writeln!(
        out,
        "  durable through {}; {} blocks between them were never flushed and are missing; {} cells keep what they held",
        journal.durable_through, journal.holes, journal.cells_not_chosen
    )
}

fn print_finding(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let severity = match finding.severity {
        Severity::Note => "note",
        Severity::Warning => "WARNING",
        Severity::Damage => "DAMAGE",
        Severity::Fatal => "FATAL",
    };
    let mut place = String::new();
    if let Some(slot) = finding.slot {
        place.push_str(&format!(", slot {slot}"));
    }
    if let (Some(volume), Some(first), Some(count)) =
        (&finding.volume, finding.first_lba, finding.block_count)
    {
        place.push_str(&format!(", volume {volume}, {count} blocks from {first} on"));
    }
    writeln!(out, "{severity}: {}{place}: {}", finding.structure, printable(&finding.what))?;
    writeln!(out, "  {}", finding.advice)
}
