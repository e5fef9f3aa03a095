//! Every page of every map and every cell, as a recovery would leave them.

use super::super::format::{
    BlockState, CHILDREN_PER_PAGE, CellRef, PageHeader, PagePointer, VolumeEntry, WRITER_UNKNOWN, image,
    pointer, verify_page,
};
use super::data::DataBatch;
use super::log::Log;
use super::report::{Extent, Problem, Structure, VolumeSummary};
use super::tables::Tables;
use super::{Check, CheckProgress, CheckStep};

/// Looks at all volumes. The counts of those of a pool that was closed must be those of their maps.
pub(super) fn walk(check: &mut Check<'_>, tables: &Tables, log: &Log, closed: bool) -> Vec<VolumeSummary> {
    let cells_total = tables.volumes.iter().flatten().map(|volume| volume.cells_live).sum();
    let mut data = DataBatch::new();
    let mut summaries = Vec::new();
    for (volume, place) in tables.volumes.iter().zip(0..) {
        let Some(volume) = volume else { continue };
        let mut walk = Walk {
            check,
            tables,
            log,
            volume,
            place,
            data: &mut data,
            cells_total,
            cells_live: 0,
            blocks_of_cells: 0,
            uncounted: false,
            summary: VolumeSummary {
                id: volume.id.to_string(),
                name: volume.name.to_string(),
                place,
                block_len: volume.shape.block_len(),
                block_count: volume.block_count,
                blocks_live: 0,
                blocks_uncorrectable: 0,
                blocks_lost: 0,
            },
        };
        walk.all();
        if closed {
            walk.compare_counts();
        }
        summaries.push(walk.summary);
    }
    summaries
}

/// The blocks of `cells` cells, as far as they are within the volume.
pub(super) fn extent_of(volume: &VolumeEntry, first_cell: u64, cells: u64) -> Extent {
    let per_cell = volume.shape.blocks_per_cell();
    let first_lba = first_cell.saturating_mul(per_cell).min(volume.block_count);
    let end = first_cell.saturating_add(cells).saturating_mul(per_cell).min(volume.block_count);
    Extent { volume: volume.id, first_lba, blocks: end - first_lba }
}

/// One volume under way.
struct Walk<'w, 'c> {
    check: &'w mut Check<'c>,
    tables: &'w Tables,
    log: &'w Log,
    volume: &'w VolumeEntry,
    place: u32,
    data: &'w mut DataBatch,
    cells_total: u64,
    cells_live: u64,
    /// Blocks of these cells, holes among them included.
    blocks_of_cells: u64,
    /// Some cells could not be looked at.
    uncounted: bool,
    summary: VolumeSummary,
}

impl Walk<'_, '_> {
    fn all(&mut self) {
        if let Some(level) = self.volume.height.checked_sub(1) {
            self.page(self.volume.root, level, 0);
        }
        let log = self.log;
        for (cell, image) in log.cells(self.place, self.volume.shape) {
            self.cell(cell, image);
        }
        self.summary.blocks_lost += self.data.finish(self.check, self.volume);
        self.progress();
    }

    /// A page and all below it.
    fn page(&mut self, pointer_to: PagePointer, level: u8, index: u64) {
        let span = self.volume.shape.span(level).unwrap_or(u64::MAX);
        let first_cell = index.saturating_mul(span);
        let slot = pointer_to.slot;
        if pointer_to.is_lost() {
            return self.lost(Problem::MarkedLost, slot, first_cell, span, "damage was found here before");
        }
        if !self.check.layout.is_data(slot) {
            let what = format!("the pointer leads to slot {slot}, which cannot hold a page");
            return self.lost(Problem::PointerImpossible, slot, first_cell, span, &what);
        }
        if first_cell >= self.volume.cells() {
            return self.lost(
                Problem::PointerImpossible,
                slot,
                first_cell,
                span,
                "it is for cells beyond the end",
            );
        }
        if self.check.claim(slot).is_err() {
            return self.lost(
                Problem::SlotTwice,
                slot,
                first_cell,
                span,
                "another structure has this slot, too",
            );
        }
        let page = match self.check.slot(slot) {
            Ok(page) => Box::new(page),
            Err(error) => {
                return self.lost(Problem::PageUnreadable, slot, first_cell, span, &error.to_string());
            }
        };
        self.check.looked_at.map_pages += 1;
        let expected = PageHeader::of_map(self.place, level, index, 0);
        if let Err(error) = verify_page(&page, pointer_to.checksum, &expected) {
            return self.lost(Problem::PageDamaged, slot, first_cell, span, &error.to_string());
        }
        match level.checked_sub(1) {
            None => {
                for (at, cell) in (0..).zip(first_cell..first_cell.saturating_add(span)) {
                    let image = CellRef::new(self.volume.shape, image(&page, self.volume.shape, at));
                    if let Some(image) = image.filter(|_| !self.log.covers(self.place, cell)) {
                        self.cell(cell, image);
                    }
                }
                self.progress();
            }
            Some(below) => {
                for (at, child) in (0..CHILDREN_PER_PAGE).zip(0..) {
                    let down = pointer(&page, at);
                    if !down.is_none() {
                        self.page(down, below, index * CHILDREN_PER_PAGE as u64 + child);
                    }
                }
            }
        }
    }

    /// A page is gone, and with it its cells.
    fn lost(&mut self, problem: Problem, slot: u64, first_cell: u64, cells: u64, what: &str) {
        let extent = extent_of(self.volume, first_cell, cells);
        self.uncounted = true;
        self.summary.blocks_lost += extent.blocks;
        self.check.findings.add_blocks(Structure::MapPage, problem, Some(slot), extent, what);
    }

    fn cell(&mut self, cell: u64, image: CellRef<'_>) {
        let slot = Some(image.slot()).filter(|slot| *slot != 0);
        let extent = extent_of(self.volume, cell, 1);
        if let Err(error) = image.check() {
            self.uncounted = true;
            self.summary.blocks_lost += extent.blocks;
            self.check.findings.add_blocks(Structure::Cell, Problem::CellImpossible, slot, extent, error);
            return;
        }
        if image.is_hole() {
            return;
        }
        self.check.looked_at.cells += 1;
        self.cells_live += 1;
        self.blocks_of_cells += extent.blocks;
        self.blocks(cell, image);
        let Some(slot) = slot else { return };
        if !self.check.layout.is_data(slot) {
            let what = format!("slot {slot} cannot hold data");
            self.summary.blocks_lost += extent.blocks;
            self.check.findings.add_blocks(
                Structure::Cell,
                Problem::CellImpossible,
                Some(slot),
                extent,
                what,
            );
            return;
        }
        if self.check.claim(slot).is_err() {
            let what = "another structure has this slot, too";
            self.check.findings.add_blocks(Structure::Cell, Problem::SlotTwice, Some(slot), extent, what);
        }
        if self.check.options.data {
            self.summary.blocks_lost += self.data.add(self.check, self.volume, cell, image);
        }
    }

    /// What a cell says of its blocks.
    fn blocks(&mut self, cell: u64, image: CellRef<'_>) {
        let first = cell.saturating_mul(self.volume.shape.blocks_per_cell());
        for (sector, lba) in (0..image.sectors()).zip(first..) {
            let state = image.state(sector);
            if state == BlockState::Hole {
                continue;
            }
            let extent = Extent { volume: self.volume.id, first_lba: lba, blocks: 1 };
            if lba >= self.volume.block_count {
                let what = format!("block {lba} is beyond the end");
                self.check.findings.add_blocks(Structure::Cell, Problem::BeyondEnd, None, extent, what);
                continue;
            }
            self.summary.blocks_live += 1;
            self.summary.blocks_uncorrectable += u64::from(state == BlockState::Uncorrectable);
            if state == BlockState::Lost {
                self.summary.blocks_lost += 1;
                let what = "damage was found here before";
                self.check.findings.add_blocks(Structure::Cell, Problem::MarkedLost, None, extent, what);
            }
            let writer = image.writer(sector);
            if writer != WRITER_UNKNOWN && state.has_data() && !self.tables.knows_writer(writer) {
                let what = format!("its writer has index {writer}, which is nobody's");
                self.check.findings.add_blocks(Structure::Cell, Problem::WriterUnknown, None, extent, what);
            }
        }
    }

    fn compare_counts(&mut self) {
        let told = (self.volume.cells_live, self.volume.blocks_live);
        let found = (self.cells_live, self.blocks_of_cells);
        if told != found && !self.uncounted {
            let what = format!(
                "{} cells of {} blocks are in use, the table says {} of {}",
                found.0, found.1, told.0, told.1
            );
            let extent = extent_of(self.volume, 0, self.volume.cells());
            self.check.findings.add_blocks(Structure::VolumeTable, Problem::CountsDiffer, None, extent, what);
        }
    }

    fn progress(&mut self) {
        let done = self.check.looked_at.cells;
        let total = self.cells_total.max(done);
        (self.check.progress)(CheckProgress { step: CheckStep::Cells, done, total });
    }
}
