//! When data could not be written: the journal has said already where it would be. Before anything later may be called
//! durable, the journal states again what those cells hold, so that a recovery does not choose what is not there.

use holdfast_block::{SlotRef, StoreError};

use super::format::{CellShape, Record, SECTORS_MAX};
use super::image::Image;
use super::log::{Batch, End};
use super::pool::DiskPool;
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// Cells whose last image in the journal speaks of data that could not be written.
#[derive(Debug, Default)]
pub(super) struct Restate {
    cells: Vec<(VolumeIndex, u64)>,
    /// Slots that were meant for them.
    slots: Vec<u64>,
    /// Commands that end with an error after that.
    ends: Vec<(u32, Vec<SlotRef>)>,
    /// The first journal block with such cells.
    first: Option<u64>,
    /// Some of it is in the log already.
    started: bool,
}

impl Restate {
    /// What the journal says of a cell is not so: its data was to be in `slot`, if that is not 0.
    pub(super) fn add(&mut self, volume: VolumeIndex, cell: u64, slot: u64) {
        self.cells.push((volume, cell));
        self.slots.extend(Some(slot).filter(|slot| *slot != 0));
    }

    /// A command waits for it.
    pub(super) fn end_later(&mut self, token: u32, slots: Vec<SlotRef>) {
        self.ends.push((token, slots));
    }
}

impl<A: PoolMemory> DiskPool<A> {
    /// Whether a batch has a cell of which the version before could not be written: blocks of that one are in it, though its
    /// command fails.
    pub(super) fn is_built_on_failed(&self, batch: &Batch) -> bool {
        let cells = &self.restate.cells;
        let is_one = |record: Record<'_>| {
            let volume = record.volume().and_then(VolumeIndex::from_u32);
            record.cells().any(|(cell, _)| volume.is_some_and(|volume| cells.contains(&(volume, cell))))
        };
        !cells.is_empty() && batch.builder.records(self.arena.frame(batch.frame)).any(is_one)
    }

    /// A journal block speaks of such cells: nothing from it on may be called durable until they are stated.
    pub(super) fn hold_back(&mut self, number: u64) {
        self.restate.first.get_or_insert(number);
        self.log.hold.get_or_insert(number - 1);
    }

    /// States what has to be stated again. `false` while that has to wait, and with it everything else.
    pub(super) fn state_again(&mut self) -> bool {
        if self.restate.first.is_none() || holdfast_mutant::active("store-failed-write-not-restated") {
            return true;
        }
        // What is on its way may change those cells once more: the map must have it before they are stated.
        if !self.restate.started && !self.log.is_quiet() {
            if self.log.open.is_some() {
                self.close_batch(false);
            }
            return false;
        }
        while let Some((volume, cell)) = self.restate.cells.last().copied() {
            if let Some(found) = self.volumes.get(volume).filter(|found| found.is_on_record()) {
                let shape = found.shape;
                let image = Image::of(shape, self.tree.get(volume, cell));
                let writers: [u16; SECTORS_MAX] = std::array::from_fn(|sector| image.get().writer(sector));
                let blocks = if shape == CellShape::Large { 1 } else { SECTORS_MAX };
                let writers = writers.get(..blocks).unwrap_or_default();
                if !self.open_for(volume, cell, shape, writers, self.restate.started) {
                    return false;
                }
                self.push_cell(volume, cell, &image);
                self.restate.started = true;
            }
            self.restate.cells.pop();
        }
        if !self.open_batch() {
            return false;
        }
        let slots = std::mem::take(&mut self.restate.slots);
        self.push_end(End::Restated { slots });
        for (token, slots) in std::mem::take(&mut self.restate.ends) {
            self.push_end(End::Failed { token, slots });
        }
        self.restate.first = None;
        self.restate.started = false;
        true
    }

    /// It is stated, and in the map as it was.
    pub(super) fn restated(&mut self, slots: Vec<u64>, number: u64) {
        let read = self.read_numbers.last();
        slots.into_iter().for_each(|slot| self.dead.push(slot, number, read));
        self.log.hold = self.restate.first.map(|first| first - 1);
    }

    /// The commands that wait for it end when nothing is written any more.
    pub(super) fn fail_restating(&mut self) {
        for (token, slots) in std::mem::take(&mut self.restate.ends) {
            self.finish(token, slots, Err(StoreError::WriteFault));
        }
    }
}
