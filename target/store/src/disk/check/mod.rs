//! The offline check of a pool: reads everything, writes nothing, and says what is wrong, where, whom it affects and
//! what to do.
//!
//! It looks at a pool as a recovery would leave it: the map of the last checkpoint, overlaid with what the journal says
//! since. That needs memory for an index of the journal's cells, at most 256 MiB of blocks and as much again, and a bit
//! per slot in the parts of the device that are in use.
//!
//! | module | what it looks at |
//! |---|---|
//! | `superblocks` | both copies, and which of them counts |
//! | `tables` | directory, volumes, writers, in both copies |
//! | `log` | the journal from the first block to be replayed, by the rules of recovery |
//! | `walk` | every page of every map, every cell |
//! | `data` | what cells hold, against their checksums |
//! | `used` | which slots are spoken for |
//! | [`report`](CheckReport) | what was found |

mod data;
mod log;
mod report;
mod superblocks;
mod tables;
#[cfg(test)]
mod tests;
mod used;
mod walk;

pub use report::{
    CheckError, CheckReport, FINDINGS_MAX, Finding, JournalSummary, LookedAt, PoolSummary, Problem, Severity,
    Structure, VolumeSummary,
};

use super::format::{Layout, Page, SLOT_LEN};
use super::io::{Device, DiskError};
use report::Findings;
use tables::Tables;
use used::UsedSlots;

/// How thorough a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Whether the data of every cell is read and compared with its checksum.
    pub data: bool,
}

/// What a check is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStep {
    /// Reads the journal; counts its places.
    Journal,
    /// Looks at the maps, and at data if asked to; counts live cells, as many as the tables tell.
    Cells,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// What it is at.
    pub step: CheckStep,
    /// Done of it.
    pub done: u64,
    /// All of it, as far as it is known.
    pub total: u64,
}

/// Checks the pool on a device, which is only read.
///
/// # Errors
/// There is no pool, or none that this program knows. Everything else is a finding.
pub fn check(
    device: &dyn Device,
    options: CheckOptions,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<CheckReport, CheckError> {
    let mut findings = Findings::default();
    let mut looked_at = LookedAt::default();
    let Some(superblock) = superblocks::read(device, &mut findings, &mut looked_at)? else {
        return Ok(report(findings, looked_at, None));
    };
    let mut check = Check {
        device,
        options,
        progress,
        layout: superblock.layout,
        used: UsedSlots::new(superblock.layout),
        findings,
        looked_at,
    };
    let mut tables = Tables::read(&mut check, &superblock);
    let (log, journal) = log::replay(&mut check, &superblock, &mut tables);
    let volumes = walk::walk(&mut check, &tables, &log, journal.closed);
    let pool = PoolSummary {
        name: superblock.name.to_string(),
        id: superblock.id.to_string(),
        uuid: uuid_text(superblock.uuid),
        size_bytes: superblock.layout.slots() * SLOT_LEN as u64,
        generation: superblock.generation,
        data_slots: superblock.layout.data_slots(),
        data_slots_used: check.used.count(),
    };
    Ok(report(check.findings, check.looked_at, Some((pool, journal, volumes))))
}

fn report(
    findings: Findings,
    looked_at: LookedAt,
    seen: Option<(PoolSummary, JournalSummary, Vec<VolumeSummary>)>,
) -> CheckReport {
    let (worst, findings, findings_omitted) = findings.finish();
    let (pool, journal, volumes) = match seen {
        Some((pool, journal, volumes)) => (Some(pool), Some(journal), volumes),
        None => (None, None, Vec::new()),
    };
    CheckReport { worst, pool, journal, volumes, looked_at, findings, findings_omitted }
}

/// A check under way.
struct Check<'a> {
    device: &'a dyn Device,
    options: CheckOptions,
    progress: &'a mut dyn FnMut(CheckProgress),
    layout: Layout,
    used: UsedSlots,
    findings: Findings,
    looked_at: LookedAt,
}

impl Check<'_> {
    fn slot(&self, slot: u64) -> Result<Page, DiskError> {
        read_slot(self.device, slot)
    }

    /// Marks a slot as used by one structure; complains about a second.
    fn claim(&mut self, slot: u64) -> Result<(), SlotTwice> {
        match self.used.claim(slot) {
            true => Ok(()),
            false => Err(SlotTwice),
        }
    }
}

/// The slot is spoken for.
struct SlotTwice;

fn read_slot(device: &dyn Device, slot: u64) -> Result<Page, DiskError> {
    let mut page = [0; SLOT_LEN];
    device.read_at(slot * SLOT_LEN as u64, &mut page)?;
    Ok(page)
}

fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
