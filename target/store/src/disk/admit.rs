//! Whether there is room for a change, before anything of it is in the log.
//!
//! A write that does not fit is refused only if that stays so: one that would fit if others took less than they have promised,
//! or after a deallocation before it, waits until these are in the map, and the deallocation durable.

use std::ops::Range;

use holdfast_block::{SlotRef, StoreError};

use super::pool::DiskPool;
use super::room::Growth;
use super::write::{Pending, Publish, Step, cells_of};
use crate::PoolMemory;
use crate::memory::VolumeIndex;

impl<A: PoolMemory> DiskPool<A> {
    /// Looks whether a write can be carried out: what it adds. `None` if that is not known before others are applied.
    pub(super) fn admit_write(
        &self,
        volume: VolumeIndex,
        lba: u64,
        slots: &[SlotRef],
    ) -> Result<Option<Growth>, StoreError> {
        if self.has_failed() {
            return Err(StoreError::WriteFault);
        }
        self.check_range(volume, lba, slots.len() as u64)?;
        let found = self.volumes.get(volume).ok_or(StoreError::NoVolume)?;
        let cells = cells_of(found.shape, lba, slots.len() as u64);
        // What is about to be emptied before it counts as empty.
        let is_emptied = self.emptying.iter().any(|trimmed| trimmed.touches(volume, &cells));
        let live = if is_emptied { 0 } else { self.tree.live_in(volume, cells.clone()) };
        let new_cells = (cells.end - cells.start) - live;
        if new_cells > 0 && self.room.has_undecided() {
            return Ok(None);
        }
        match self.growth(volume, cells, new_cells) {
            // Writes on their way may have promised more than they will take, and deallocations give room.
            None if self.room.promised() != Growth::default() => Ok(None),
            None if !self.emptying.is_empty() || self.room.has_emptied() => Ok(None),
            None => Err(StoreError::NoRoom),
            growth => Ok(growth),
        }
    }

    /// What a write adds; `None` if there is no room for it.
    fn growth(&self, volume: VolumeIndex, cells: Range<u64>, new_cells: u64) -> Option<Growth> {
        if new_cells == 0 {
            return Some(Growth::default());
        }
        let pages = self.tree.missing(volume, cells, self.room.promised().pages)?;
        let growth = Growth { cells: new_cells, pages };
        self.room.admits(self.tree.cells_live(), self.tree.pages(), growth).then_some(growth)
    }

    /// Decides about a write that had to wait for that: everything before it is in the log.
    pub(super) fn decide(&mut self, publish: &mut Publish, cells: Range<u64>) -> Step {
        let behind = self.queue.iter().filter(|pending| matches!(pending, Pending::Trim(_))).count();
        if self.emptying.len() > behind {
            return Step::Wait;
        }
        let new_cells = (cells.end - cells.start) - self.tree.live_in(publish.volume, cells.clone());
        publish.growth = self.growth(publish.volume, cells, new_cells);
        match publish.growth {
            Some(growth) => {
                self.room.decided();
                self.room.promise(growth);
                Step::Done
            }
            None if self.room.promised() != Growth::default() => Step::Wait,
            None if self.room.has_emptied() => {
                self.want_flush();
                Step::Wait
            }
            None => Step::Fail(StoreError::NoRoom),
        }
    }

    /// Whether slots may come free by themselves. After losses a pool can hold more cells than were ever admitted at once: then
    /// there are too few for a long write until something is deleted.
    pub(super) fn may_get_slots(&self) -> bool {
        let superseded =
            self.dead.last_number().is_some() || self.tree.has_dirty() || self.tree.has_detached();
        let under_way = !self.log.is_quiet() || !self.checkpoint.is_idle() || !self.zeroes.is_idle();
        superseded || under_way
    }

    /// Looks whether blocks can be deallocated: the cells that they lie in.
    pub(super) fn admit_trim(
        &self,
        volume: VolumeIndex,
        lba: u64,
        blocks: u64,
    ) -> Result<Range<u64>, StoreError> {
        if self.has_failed() {
            return Err(StoreError::WriteFault);
        }
        self.check_range(volume, lba, blocks)?;
        let found = self.volumes.get(volume).ok_or(StoreError::NoVolume)?;
        let cells = cells_of(found.shape, lba, blocks);
        // Under a lost page, what stays lost needs pages of its own.
        let fits = |cell| {
            !self.tree.is_under_lost_page(volume, cell) || self.growth(volume, cell..cell + 1, 1).is_some()
        };
        let last = cells.end.saturating_sub(1);
        if fits(cells.start) && fits(last) { Ok(cells) } else { Err(StoreError::NoRoom) }
    }
}
