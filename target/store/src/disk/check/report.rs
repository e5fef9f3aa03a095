//! What a check finds, for people and programs.

use std::fmt;

use serde::Serialize;

use super::super::format::SuperblockError;
use super::super::io::DiskError;

/// Findings that are kept; the others are counted.
pub const FINDINGS_MAX: usize = 10_000;

/// Why there is nothing to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Neither copy of the superblock can be read.
    #[error("neither copy of the superblock can be read: {0}")]
    Device(DiskError),
    /// Nothing here says that it is a pool.
    #[error("there is no Holdfast pool here: neither copy of a superblock was found")]
    NotAPool,
    /// A pool of another program.
    #[error("{0}; use a newer version of it")]
    Unsupported(SuperblockError),
}

/// What a check saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The worst of all findings; `None` if there is none.
    pub worst: Option<Severity>,
    /// The pool; `None` if neither superblock is right.
    pub pool: Option<PoolSummary>,
    /// Its journal; `None` if neither superblock is right.
    pub journal: Option<JournalSummary>,
    /// Its volumes, as a recovery would leave them, by place in the table.
    pub volumes: Vec<VolumeSummary>,
    /// How much was looked at.
    pub looked_at: LookedAt,
    /// What is wrong or worth knowing, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`].
    pub findings_omitted: u64,
}

impl CheckReport {
    /// Whether something is wrong: a finding that is more than a note.
    pub fn is_damaged(&self) -> bool {
        self.worst.is_some_and(|worst| worst > Severity::Note)
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is wrong.
    Note,
    /// Something is wrong, nothing is lost: another copy serves.
    Warning,
    /// Blocks are lost.
    Damage,
    /// The pool cannot be opened.
    Fatal,
}

/// The pool as its superblock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolSummary {
    /// Its name when it was last told.
    pub name: String,
    /// Identifier, 16 hexadecimal digits.
    pub id: String,
    /// UUID.
    pub uuid: String,
    /// Bytes that it takes of its device.
    pub size_bytes: u64,
    /// The checkpoint that counts.
    pub generation: u64,
    /// Slots for data and pages of the map.
    pub data_slots: u64,
    /// Of these, in use as a recovery would leave them.
    pub data_slots_used: u64,
}

/// The journal, and what a recovery would make of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalSummary {
    /// The pool was closed well, and there is nothing to replay.
    pub closed: bool,
    /// The first block that the map does not hold.
    pub start: u64,
    /// The last block of the log; `start` − 1 if there is none.
    pub end: u64,
    /// Every block up to this one is known to have been flushed.
    pub durable_through: u64,
    /// Blocks that would be replayed.
    pub blocks: u64,
    /// Blocks that never became durable, between others that were written.
    pub holes: u64,
    /// Cells in these blocks.
    pub cells: u64,
    /// Of these, cells that would be left as they were, because their data was never written whole.
    pub cells_not_chosen: u64,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeSummary {
    /// Identifier, 16 hexadecimal digits.
    pub id: String,
    /// Its name when it was last told.
    pub name: String,
    /// Place in the table.
    pub place: u32,
    /// Bytes of a block.
    pub block_len: u32,
    /// Blocks.
    pub block_count: u64,
    /// Blocks that hold something, of those that could be looked at.
    pub blocks_live: u64,
    /// Blocks that a host marked as unreadable.
    pub blocks_uncorrectable: u64,
    /// Blocks that cannot be read any more, by what this check found.
    pub blocks_lost: u64,
}

/// How much a check looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LookedAt {
    /// Copies of the superblock.
    pub superblocks: u64,
    /// Places of the journal.
    pub journal_places: u64,
    /// Pages of the directory and the tables, each copy.
    pub table_pages: u64,
    /// Pages of maps.
    pub map_pages: u64,
    /// Cells that are no holes.
    pub cells: u64,
    /// Cells whose data was read and compared.
    pub cells_data: u64,
}

/// Where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Structure {
    /// A copy of the superblock, or both.
    Superblock,
    /// The directory of the tables.
    Directory,
    /// The table of volumes.
    VolumeTable,
    /// The table of writers.
    WriterTable,
    /// A page of a map.
    MapPage,
    /// A cell's image.
    Cell,
    /// A cell's data.
    Data,
    /// The journal.
    Journal,
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Structure::Superblock => "superblock",
            Structure::Directory => "directory",
            Structure::VolumeTable => "volume table",
            Structure::WriterTable => "writer table",
            Structure::MapPage => "map page",
            Structure::Cell => "cell",
            Structure::Data => "data",
            Structure::Journal => "journal",
        })
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The pool was not closed; there may be something to replay.
    NotClosed,
    /// A crash came between the two copies of a checkpoint.
    OlderCopy,
    /// Features that this program does not know, with which it may read.
    UnknownFeatures,
    /// One of two copies is damaged.
    CopyDamaged,
    /// One of two copies cannot be read.
    CopyUnreadable,
    /// Two copies that are both right in themselves contradict each other.
    CopiesContradict,
    /// Both copies are damaged.
    CopiesLost,
    /// The copies of the superblock are right, and of different pools.
    TwoPools,
    /// The device ends before the pool does.
    DeviceTooShort,
    /// A volume that cannot be, or one that is there twice.
    VolumeImpossible,
    /// The counts of a volume are not those of its map.
    CountsDiffer,
    /// A page is damaged.
    PageDamaged,
    /// A page cannot be read.
    PageUnreadable,
    /// A pointer to a place where no page can be, or to one for blocks beyond the volume's end.
    PointerImpossible,
    /// A cell's image breaks a rule.
    CellImpossible,
    /// Blocks beyond the end of their volume.
    BeyondEnd,
    /// Two structures claim one slot.
    SlotTwice,
    /// A writer that the table does not know.
    WriterUnknown,
    /// Blocks that were marked as lost when damage was found.
    MarkedLost,
    /// Data that is not what was written.
    DataDamaged,
    /// Data that cannot be read.
    DataUnreadable,
    /// A journal block that was durable is missing.
    JournalBlockMissing,
    /// A journal block says what cannot be.
    JournalBlockImpossible,
    /// There are journal blocks behind the end of the log, which were never flushed.
    JournalBehindEnd,
    /// A place of the journal cannot be read.
    JournalUnreadable,
    /// A journal block lies where another belongs.
    JournalMisplaced,
    /// A journal block was written after a checkpoint of which neither superblock knows.
    SuperblockLost,
}

impl Problem {
    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Problem::NotClosed
            | Problem::OlderCopy
            | Problem::UnknownFeatures
            | Problem::JournalBehindEnd => Severity::Note,
            Problem::CopyDamaged
            | Problem::CopyUnreadable
            | Problem::CopiesContradict
            | Problem::CountsDiffer
            | Problem::WriterUnknown
            | Problem::JournalUnreadable
            | Problem::JournalMisplaced => Severity::Warning,
            Problem::PageDamaged
            | Problem::PageUnreadable
            | Problem::PointerImpossible
            | Problem::CellImpossible
            | Problem::BeyondEnd
            | Problem::SlotTwice
            | Problem::MarkedLost
            | Problem::DataDamaged
            | Problem::DataUnreadable => Severity::Damage,
            Problem::CopiesLost
            | Problem::TwoPools
            | Problem::DeviceTooShort
            | Problem::VolumeImpossible
            | Problem::JournalBlockMissing
            | Problem::JournalBlockImpossible
            | Problem::SuperblockLost => Severity::Fatal,
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Problem::NotClosed | Problem::OlderCopy | Problem::JournalBehindEnd => {
                "Nothing: opening the pool takes care of it."
            }
            Problem::UnknownFeatures => "Use the newest version of Holdfast to write to this pool.",
            Problem::CopyDamaged | Problem::CopyUnreadable | Problem::CopiesContradict => {
                "The right copy serves (the first, if both are right). Open the pool: the next checkpoint writes both copies anew. Watch the device."
            }
            Problem::CountsDiffer => "No block is affected. Opening and closing the pool counts anew.",
            Problem::WriterUnknown => "The blocks are right; only who wrote them is not known.",
            Problem::JournalMisplaced => {
                "Nothing is lost if no other finding says so. Watch the device: it wrote elsewhere."
            }
            Problem::JournalUnreadable => "Nothing is lost if no other finding says so. Replace the device.",
            Problem::PageDamaged
            | Problem::PageUnreadable
            | Problem::PointerImpossible
            | Problem::CellImpossible
            | Problem::MarkedLost
            | Problem::DataDamaged
            | Problem::DataUnreadable => {
                "Reads of these blocks fail with a media error. Write them anew, from a backup or another copy."
            }
            Problem::BeyondEnd => "No host can see these blocks. Copy the volume to a new one and delete it.",
            Problem::SlotTwice => {
                "Check the data as well (--data): where it is wrong, write the blocks anew from a backup."
            }
            Problem::TwoPools => {
                "Copy the device as it is, and overwrite the copy of the pool that does not belong here."
            }
            Problem::CopiesLost | Problem::VolumeImpossible => {
                "Copy the device as it is, then restore the pool from a backup."
            }
            Problem::DeviceTooShort => {
                "Find the rest of the device: it was cut, or only a part of the file was copied."
            }
            Problem::JournalBlockMissing | Problem::JournalBlockImpossible | Problem::SuperblockLost => {
                "Writes that were acknowledged and flushed are gone. Copy the device as it is, then restore from a backup."
            }
        }
    }
}

/// One thing that is wrong or worth knowing. Neighbouring blocks with the same problem are one finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub structure: Structure,
    /// What.
    pub problem: Problem,
    /// The slot of 4096 bytes; for blocks in a row, that of the first.
    pub slot: Option<u64>,
    /// The volume's identifier, 16 hexadecimal digits.
    pub volume: Option<String>,
    /// The first affected block.
    pub first_lba: Option<u64>,
    /// Affected blocks from there on; all are within the volume.
    pub block_count: Option<u64>,
    /// The details, in words.
    pub what: String,
    /// What to do about it.
    pub advice: &'static str,
}

/// Blocks of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) volume: holdfast_block::VolumeId,
    pub(super) first_lba: u64,
    pub(super) blocks: u64,
}

/// All findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    omitted: u64,
    worst: Option<Severity>,
}

impl Findings {
    /// Of a structure of the pool.
    pub(super) fn add(
        &mut self,
        structure: Structure,
        problem: Problem,
        slot: Option<u64>,
        what: impl ToString,
    ) {
        self.push(structure, problem, slot, None, what.to_string());
    }

    /// Of blocks.
    pub(super) fn add_blocks(
        &mut self,
        structure: Structure,
        problem: Problem,
        slot: Option<u64>,
        extent: Extent,
        what: impl ToString,
    ) {
        let volume = extent.volume.to_string();
        if let Some(last) = self.kept.last_mut()
            && (last.structure, last.problem) == (structure, problem)
            && structure != Structure::MapPage
            && last.volume.as_deref() == Some(volume.as_str())
            && let (Some(first), Some(count)) = (last.first_lba, &mut last.block_count)
            && first.checked_add(*count) == Some(extent.first_lba)
        {
            *count += extent.blocks;
            return;
        }
        self.push(structure, problem, slot, Some(extent), what.to_string());
    }

    fn push(
        &mut self,
        structure: Structure,
        problem: Problem,
        slot: Option<u64>,
        extent: Option<Extent>,
        what: String,
    ) {
        let severity = problem.severity();
        self.worst = self.worst.max(Some(severity));
        if self.kept.len() >= FINDINGS_MAX {
            self.omitted += 1;
            return;
        }
        self.kept.push(Finding {
            severity,
            structure,
            problem,
            slot,
            volume: extent.map(|extent| extent.volume.to_string()),
            first_lba: extent.map(|extent| extent.first_lba),
            block_count: extent.map(|extent| extent.blocks),
            what,
            advice: problem.advice(),
        });
    }

    /// The worst, all that were kept, and the number of the others.
    pub(super) fn finish(self) -> (Option<Severity>, Vec<Finding>, u64) {
        (self.worst, self.kept, self.omitted)
    }
}
