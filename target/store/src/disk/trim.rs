//! Deallocation: whole cells become holes by one record, however many they are; of cells in which something stays, a new
//! image is written.

use std::ops::Range;

use holdfast_block::{SlotRef, StoreError};

use super::arena::Frame;
use super::format::{CellShape, SECTORS_MAX};
use super::log::End;
use super::partial::Sectors;
use super::pool::DiskPool;
use super::write::{Pending, Step};
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// A deallocation on its way.
#[derive(Debug)]
pub(super) struct Trim {
    pub(super) token: u32,
    volume: VolumeIndex,
    /// What is not in the log yet.
    lba: u64,
    blocks: u64,
    pub(super) slots: Vec<SlotRef>,
    /// Frames with what stays of cells that are emptied in part.
    frames: Vec<Frame>,
    started: bool,
}

/// Cells that are to be emptied, from when that is asked for until the map has it.
#[derive(Debug)]
pub(super) struct Emptying {
    pub(super) token: u32,
    pub(super) volume: VolumeIndex,
    pub(super) cells: Range<u64>,
}

impl Emptying {
    pub(super) fn touches(&self, volume: VolumeIndex, cells: &Range<u64>) -> bool {
        self.volume == volume && self.cells.start < cells.end && cells.start < self.cells.end
    }
}

impl Trim {
    pub(super) fn is_placed_in_part(&self) -> bool {
        self.started
    }

    /// What is due when it has ended.
    pub(super) fn into_end(self) -> End {
        let Trim { token, slots, frames, .. } = self;
        End::Trim { token, slots, frames }
    }

    /// What it holds comes back when it is given up.
    pub(super) fn take_frames(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.frames)
    }
}

impl<A: PoolMemory> DiskPool<A> {
    /// Takes a Deallocate in.
    pub(crate) fn deallocate(
        &mut self,
        token: u32,
        volume: VolumeIndex,
        lba: u64,
        blocks: u64,
        slots: Vec<SlotRef>,
    ) {
        match self.admit_trim(volume, lba, blocks) {
            Ok(cells) => {
                self.emptying.push(Emptying { token, volume, cells });
                let trim = Trim { token, volume, lba, blocks, slots, frames: Vec::new(), started: false };
                self.queue.push_back(Pending::Trim(trim));
            }
            Err(error) => self.finish(token, slots, Err(error)),
        }
    }

    /// Puts a deallocation into the log.
    pub(super) fn place_trim(&mut self, trim: &mut Trim) -> Step {
        let Some(found) = self.volumes.get(trim.volume) else { return Step::Fail(StoreError::NoVolume) };
        let shape = found.shape;
        if !found.is_settled() {
            // A record must not speak of a volume that a power cut may take away again.
            self.want_flush();
            return Step::Wait;
        }
        if !trim.started && shape == CellShape::Small {
            let blocks = usize::try_from(trim.blocks).unwrap_or(usize::MAX);
            match self.edges_ready(trim.volume, trim.lba, blocks) {
                Step::Done => {}
                other => return other,
            }
        }
        while trim.blocks > 0 {
            let placed = match self.trim_part(trim, shape) {
                Ok(placed) => placed,
                Err(step) => return step,
            };
            trim.lba = trim.lba.saturating_add(placed);
            trim.blocks = trim.blocks.saturating_sub(placed);
        }
        if !self.open_batch() {
            return Step::Wait;
        }
        let (token, slots, frames) = (trim.token, std::mem::take(&mut trim.slots), trim.take_frames());
        self.push_end(End::Trim { token, slots, frames });
        Step::Done
    }

    /// The part of a cell at the front, or all whole cells. Gives the number of blocks.
    fn trim_part(&mut self, trim: &mut Trim, shape: CellShape) -> Result<u64, Step> {
        let per_cell = shape.blocks_per_cell();
        let (cell, sector) = shape.cell_of(trim.lba);
        let end = self.volumes.get(trim.volume).map_or(0, |found| found.spec.block_count);
        let last = trim.lba.saturating_add(trim.blocks);
        // The last cell of a volume may be cut: what lies beyond its end is nothing.
        let whole_end = if last >= end { last.div_ceil(per_cell) } else { last / per_cell };
        if sector == 0 && whole_end > cell {
            self.place_trim_record(trim, cell, whole_end - cell)?;
            return Ok((whole_end - cell).saturating_mul(per_cell).min(trim.blocks));
        }
        let blocks = usize::try_from(trim.blocks.min(SECTORS_MAX as u64)).unwrap_or(SECTORS_MAX);
        let sectors = Sectors::first_of(trim.lba, blocks);
        self.trim_sectors(trim, &sectors)?;
        Ok(sectors.count as u64)
    }

    fn place_trim_record(&mut self, trim: &mut Trim, cell: u64, cells: u64) -> Result<(), Step> {
        let volume = trim.volume.as_u32();
        self.push_record(trim.started, |builder, block| builder.push_trim(block, volume, cell, cells))?;
        let number = self.log.open.as_ref().map_or(0, |open| open.batch.number);
        self.partials.trim(trim.volume, cell..cell.saturating_add(cells), number);
        trim.started = true;
        Ok(())
    }

    /// Empties some blocks of a cell in which others may stay.
    fn trim_sectors(&mut self, trim: &mut Trim, sectors: &Sectors) -> Result<(), Step> {
        if self.is_hole_now(trim.volume, sectors.cell) {
            return Ok(());
        }
        let Some(frame) = self.arena.take() else { return Err(Step::Wait) };
        let placed = self
            .start_image(trim.volume, sectors, Some(frame))
            .and_then(|image| self.place_cell(trim.volume, sectors.cell, image, frame, trim.started));
        match placed {
            Ok(()) => {
                self.drop_base(trim.volume, sectors.cell);
                trim.frames.push(frame);
                trim.started = true;
                Ok(())
            }
            Err(step) => {
                self.arena.give_back(frame);
                Err(step)
            }
        }
    }
}
