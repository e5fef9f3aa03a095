//! The journal by the rules of recovery: which blocks are there, where the log ends, and what it changes.

use std::collections::{BTreeMap, HashMap};

use super::super::format::{
    CellRef, CellShape, JournalBlock, JournalError, PagePointer, Record, Superblock, VolumeEntry, WINDOW,
};
use super::report::{JournalSummary, Problem, Structure};
use super::tables::Tables;
use super::{Check, CheckProgress, CheckStep, data};

/// Places of the journal between two words on the progress.
const PLACES_PER_PROGRESS: u64 = 256;

/// What the journal changes in the maps of the last checkpoint.
#[derive(Default)]
pub(super) struct Log {
    /// Images one after the other.
    images: Vec<u8>,
    volumes: HashMap<u32, Changes>,
}

/// What it changes in one map.
#[derive(Default)]
struct Changes {
    /// Where the images of cells are.
    cells: BTreeMap<u64, usize>,
    /// Cells that became holes, before any of `cells`: from the key to the value, which is not among them.
    trims: BTreeMap<u64, u64>,
}

impl Log {
    /// Whether the journal says what a cell is, so that the map does not count.
    pub(super) fn covers(&self, volume: u32, cell: u64) -> bool {
        self.volumes.get(&volume).is_some_and(|changes| {
            let trim = changes.trims.range(..=cell).next_back();
            changes.cells.contains_key(&cell) || trim.is_some_and(|(_, end)| cell < *end)
        })
    }

    /// Cells of a volume that the journal says, in order.
    pub(super) fn cells(&self, volume: u32, shape: CellShape) -> impl Iterator<Item = (u64, CellRef<'_>)> {
        let changes = self.volumes.get(&volume).into_iter().flat_map(|changes| &changes.cells);
        changes.filter_map(move |(cell, at)| {
            let image = self.images.get(*at..)?.get(..shape.image_len())?;
            Some((*cell, CellRef::new(shape, image)?))
        })
    }

    fn put(&mut self, volume: u32, cell: u64, image: CellRef<'_>) {
        let at = self.images.len();
        self.images.extend_from_slice(image.bytes());
        self.volumes.entry(volume).or_default().cells.insert(cell, at);
    }

    fn trim(&mut self, volume: u32, first_cell: u64, cells: u64) {
        let changes = self.volumes.entry(volume).or_default();
        let (mut first, mut end) = (first_cell, first_cell.saturating_add(cells));
        changes.cells.extract_if(first..end, |_, _| true).for_each(drop);
        if let Some((before, until)) =
            changes.trims.range(..=first).next_back().filter(|(_, until)| **until >= first)
        {
            (first, end) = (*before, end.max(*until));
        }
        while let Some((next, until)) =
            changes.trims.range(first..=end).next().map(|(next, until)| (*next, *until))
        {
            changes.trims.remove(&next);
            end = end.max(until);
        }
        changes.trims.insert(first, end);
    }

    fn forget(&mut self, volume: u32) {
        self.volumes.remove(&volume);
    }
}

/// Replays the journal onto the tables, and collects what it changes in the maps.
pub(super) fn replay(
    check: &mut Check<'_>,
    superblock: &Superblock,
    tables: &mut Tables,
) -> (Log, JournalSummary) {
    let ring = Ring::read(check, superblock);
    let mut summary = JournalSummary {
        closed: false,
        start: superblock.journal_start,
        end: superblock.journal_start.saturating_sub(1),
        durable_through: ring.durable_through,
        blocks: 0,
        holes: 0,
        cells: 0,
        cells_not_chosen: 0,
    };
    ring.find_end(check, &mut summary);
    summary.closed = superblock.clean && summary.blocks == 0;
    if !summary.closed {
        let what = format!("{} blocks of the journal are to be replayed", summary.blocks);
        check.findings.add(Structure::Journal, Problem::NotClosed, None, what);
    }
    let mut replay = Replay { tables, log: Log::default(), orphans: HashMap::new(), summary };
    for number in replay.summary.start..=replay.summary.end {
        if ring.has(number) {
            replay.block(check, number, superblock.journal_tag());
        }
    }
    replay.complain_of_orphans(check);
    (replay.log, replay.summary)
}

/// Which blocks are at their places.
struct Ring {
    start: u64,
    /// The checkpoint's.
    generation: u64,
    /// By place; 0: none that counts.
    numbers: Vec<u64>,
    durable_through: u64,
}

impl Ring {
    fn read(check: &mut Check<'_>, superblock: &Superblock) -> Ring {
        let (start, places) = (superblock.journal_start, check.layout.journal_slots());
        let Superblock { generation, durable_through, .. } = *superblock;
        let mut ring = Ring { start, generation, numbers: Vec::new(), durable_through };
        for place in 0..places {
            if place % PLACES_PER_PROGRESS == 0 {
                (check.progress)(CheckProgress { step: CheckStep::Journal, done: place, total: places });
            }
            let number = ring.place(check, place, superblock.journal_tag());
            ring.numbers.push(number.unwrap_or(0));
        }
        check.looked_at.journal_places = places;
        ring
    }

    /// The number of the block at a place if it is one to be replayed.
    fn place(&mut self, check: &mut Check<'_>, place: u64, tag: u64) -> Option<u64> {
        let slot = check.layout.journal_first() + place;
        let page = match check.slot(slot) {
            Ok(page) => page,
            Err(error) => {
                check.findings.add(Structure::Journal, Problem::JournalUnreadable, Some(slot), error);
                return None;
            }
        };
        let stamp = match JournalBlock::decode(&page, tag) {
            Ok(block) => *block.stamp(),
            Err(error) if error.is_missing() => return None,
            Err(JournalError::Record { number, .. } | JournalError::Number { number, .. })
                if number < self.start =>
            {
                return None;
            }
            Err(error) => {
                check.findings.add(Structure::Journal, Problem::JournalBlockImpossible, Some(slot), error);
                return None;
            }
        };
        if stamp.number < self.start {
            return None;
        }
        if check.layout.journal_slot(stamp.number) != slot {
            let what = format!("block {} lies at the place of others", stamp.number);
            check.findings.add(Structure::Journal, Problem::JournalMisplaced, Some(slot), what);
            return None;
        }
        if stamp.number - self.start >= check.layout.journal_slots() {
            let what = format!("block {} is where a block was that this checkpoint needs", stamp.number);
            check.findings.add(Structure::Journal, Problem::SuperblockLost, Some(slot), what);
            return None;
        }
        if stamp.generation > self.generation {
            let what = format!("block {} was written after checkpoint {}", stamp.number, stamp.generation);
            check.findings.add(Structure::Journal, Problem::SuperblockLost, Some(slot), what);
        }
        self.durable_through = self.durable_through.max(stamp.durable_through);
        Some(stamp.number)
    }

    fn has(&self, number: u64) -> bool {
        let places = self.numbers.len() as u64;
        let place = number.checked_rem(places).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.numbers.get(place)) == Some(&number)
    }

    /// The log goes on until as many blocks in a row are missing as can be in flight; a missing one that was durable is
    /// damage.
    fn find_end(&self, check: &mut Check<'_>, summary: &mut JournalSummary) {
        let last_place = self.start.saturating_add(self.numbers.len() as u64);
        let mut missing = 0;
        let mut number = self.start;
        while number < last_place && (missing < WINDOW || number <= self.durable_through) {
            if self.has(number) {
                self.complain_of_missing(check, number - missing, missing);
                summary.blocks += 1;
                summary.holes += missing;
                summary.end = number;
                missing = 0;
            } else {
                missing += 1;
            }
            number += 1;
        }
        self.complain_of_missing(check, number - missing, missing);
        let behind = self.numbers.iter().filter(|number| **number > summary.end).min();
        if let Some(behind) = behind {
            let what = format!("the log ends with block {}, but block {behind} is there", summary.end);
            check.findings.add(Structure::Journal, Problem::JournalBehindEnd, None, what);
        }
    }

    fn complain_of_missing(&self, check: &mut Check<'_>, first: u64, count: u64) {
        let damaged = self.durable_through.saturating_add(1).saturating_sub(first).min(count);
        if damaged > 0 {
            let what = format!(
                "{damaged} blocks from block {first} on are missing, but block {} is known to be durable",
                self.durable_through
            );
            let slot = check.layout.journal_slot(first);
            check.findings.add(Structure::Journal, Problem::JournalBlockMissing, Some(slot), what);
        }
    }
}

struct Replay<'t> {
    tables: &'t mut Tables,
    log: Log,
    /// Blocks that speak of a place without a volume: right if the volume's end follows, which a map that is newer than
    /// the start of the log may know already.
    orphans: HashMap<u32, u64>,
    summary: JournalSummary,
}

impl Replay<'_> {
    fn block(&mut self, check: &mut Check<'_>, number: u64, tag: u64) {
        let Ok(page) = check.slot(check.layout.journal_slot(number)) else { return };
        let Ok(block) = JournalBlock::decode(&page, tag) else { return };
        for record in block.records() {
            let done = match record {
                Record::Cells { volume, first_cell, shape, images } => {
                    let cells = (images.len() / shape.image_len()) as u64;
                    self.in_volume(number, volume, first_cell, cells, Some(shape)).map(|found| {
                        found
                            .into_iter()
                            .for_each(|entry| self.cells(check, number, volume, &entry, &record));
                    })
                }
                Record::Trim { volume, first_cell, cells } => {
                    self.in_volume(number, volume, first_cell, cells, None).map(|found| {
                        found.into_iter().for_each(|_| self.log.trim(volume, first_cell, cells));
                    })
                }
                Record::PutVolume { volume, entry } => self.put(volume, entry),
                Record::DeleteVolume { volume, id } => {
                    self.orphans.remove(&volume);
                    match self.tables.volume(volume) {
                        Some(entry) if entry.id != id => {
                            Err(format!("deletes volume {id} at another's place"))
                        }
                        Some(_) | None => {
                            self.log.forget(volume);
                            self.tables.set_volume(volume, None);
                            Ok(())
                        }
                    }
                }
                Record::Writer { index, host } => {
                    self.tables.set_host(index, host);
                    Ok(())
                }
            };
            if let Err(what) = done {
                let slot = check.layout.journal_slot(number);
                let what = format!("block {number} {what}");
                check.findings.add(Structure::Journal, Problem::JournalBlockImpossible, Some(slot), what);
            }
        }
    }

    /// The volume that cells belong to; `None` if there is none and that may be.
    fn in_volume(
        &mut self,
        number: u64,
        volume: u32,
        first_cell: u64,
        cells: u64,
        shape: Option<CellShape>,
    ) -> Result<Option<VolumeEntry>, String> {
        let Some(entry) = self.tables.volume(volume).copied() else {
            if !self.tables.is_unknown(volume) {
                self.orphans.entry(volume).or_insert(number);
            }
            return Ok(None);
        };
        if shape.is_some_and(|shape| shape != entry.shape) {
            return Err(format!("has cells of another block length than volume {}", entry.id));
        }
        if first_cell.checked_add(cells).is_none_or(|end| end > entry.cells()) {
            return Err(format!("has cells beyond the end of volume {}", entry.id));
        }
        Ok(Some(entry))
    }

    /// A cell of a block that may not have been durable counts if its data is there.
    fn cells(
        &mut self,
        check: &mut Check<'_>,
        number: u64,
        volume: u32,
        entry: &VolumeEntry,
        record: &Record<'_>,
    ) {
        for (cell, image) in record.cells() {
            self.summary.cells += 1;
            let sure = number <= self.summary.durable_through || !image.has_data();
            if sure || data::counts(check, entry.id, cell, image) {
                self.log.put(volume, cell, image);
            } else {
                self.summary.cells_not_chosen += 1;
            }
        }
    }

    fn put(&mut self, volume: u32, entry: VolumeEntry) -> Result<(), String> {
        let known = self.tables.volume(volume).copied();
        let placed = match known {
            Some(known) if known.id != entry.id => {
                return Err(format!("puts volume {} at another's place", entry.id));
            }
            Some(known) if known.shape != entry.shape => {
                return Err(format!("gives volume {} another block length", entry.id));
            }
            Some(known) => {
                let VolumeEntry { height, root, cells_live, blocks_live, .. } = known;
                VolumeEntry { height, root, cells_live, blocks_live, ..entry }
            }
            None => {
                self.log.forget(volume);
                VolumeEntry { height: 0, root: PagePointer::NONE, cells_live: 0, blocks_live: 0, ..entry }
            }
        };
        self.tables.set_volume(volume, Some(placed));
        Ok(())
    }

    fn complain_of_orphans(&self, check: &mut Check<'_>) {
        for (volume, number) in &self.orphans {
            let what = format!("block {number} speaks of a volume at place {volume}, where there is none");
            check.findings.add(Structure::Journal, Problem::JournalBlockImpossible, None, what);
        }
    }
}
