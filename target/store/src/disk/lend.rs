//! Frames that commands are lent: to be filled by a host, or filled with what a Read has found.

use holdfast_block::{BlockCount, BlockRecord, Geometry, Lba, SlotRef, StoreError, Usage};

use super::arena::place_of;
use super::format::{CellShape, SLOT_LEN};
use super::pool::DiskPool;
use super::write::cells_of;
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// The part of the arena that payloads on their way in leave to reads and to the pool itself: a quarter.
const LEFT_TO_READS: usize = 4;

impl<A: PoolMemory> DiskPool<A> {
    /// Geometry of a volume.
    pub(crate) fn geometry(&self, index: VolumeIndex) -> Option<Geometry> {
        let spec = self.volumes.present(index)?.spec;
        Some(Geometry { block_len: spec.block_len, block_count: spec.block_count, format: spec.format })
    }

    /// How much of a volume holds data.
    pub(crate) fn volume_usage(&self, index: VolumeIndex) -> Option<Usage> {
        let volume = self.volumes.present(index)?;
        let (cells, blocks_allocated) = volume.live(index, &self.tree);
        Some(Usage { blocks_allocated, bytes_allocated: cells * SLOT_LEN as u64 })
    }

    /// Lends frames for the blocks of a write; small blocks lie in theirs as in their cells.
    pub(crate) fn reserve(
        &mut self,
        index: VolumeIndex,
        lba: Lba,
        blocks: BlockCount,
        slots: &mut Vec<SlotRef>,
    ) -> Result<(), StoreError> {
        let shape = self.volumes.present(index).ok_or(StoreError::NoVolume)?.shape;
        let cells = cells_of(shape, lba.0, u64::from(blocks.get()));
        let needed = usize::try_from(cells.end - cells.start).unwrap_or(usize::MAX);
        if self.arena.free() < needed.saturating_add(self.arena.len() / LEFT_TO_READS) {
            return Err(StoreError::Busy);
        }
        let mut lba = lba.0;
        let mut frame = None;
        for _ in 0..blocks.get() {
            let (_, sector) = shape.cell_of(lba);
            if sector == 0 || shape == CellShape::Large {
                frame = None;
            }
            let Some(found) = frame.or_else(|| self.arena.take()) else {
                debug_assert!(false, "frames were counted");
                self.take_lent_back(index, slots);
                slots.clear();
                return Err(StoreError::Busy);
            };
            frame = Some(found);
            slots.push(self.arena.lend(found, usize::try_from(sector).unwrap_or(0)));
            lba = lba.saturating_add(1);
        }
        if let Some(volume) = self.volumes.get_mut(index) {
            volume.held += u64::from(blocks.get());
        }
        Ok(())
    }

    /// Takes blocks back that a volume's commands were lent.
    pub(crate) fn take_lent_back(&mut self, volume: VolumeIndex, slots: &[SlotRef]) {
        let mut count = 0;
        for slot in slots.iter().filter(|slot| !slot.is_hole()) {
            debug_assert!(place_of(*slot).is_some(), "{slot:?} is none of ours");
            self.arena.take_back(*slot);
            count += 1;
        }
        if let Some(found) = self.volumes.get_mut(volume) {
            found.held = found.held.saturating_sub(count);
        }
    }

    /// The data of a block that is lent.
    pub(crate) fn data(&self, index: VolumeIndex, slot: SlotRef) -> Option<&[u8]> {
        self.arena.block(slot, self.volumes.get(index)?.spec.block_len)
    }

    /// The same, to be filled.
    pub(crate) fn data_mut(&mut self, index: VolumeIndex, slot: SlotRef) -> Option<&mut [u8]> {
        let block_len = self.volumes.get(index)?.spec.block_len;
        self.arena.block_mut(slot, block_len)
    }

    /// Where that data lies in the arena.
    pub(crate) fn data_offset(&self, index: VolumeIndex, slot: SlotRef) -> Option<usize> {
        self.arena.block_offset(slot, self.volumes.get(index)?.spec.block_len)
    }

    /// What is kept beside a block.
    pub(crate) fn record(&self, slot: SlotRef) -> BlockRecord {
        self.arena.record(slot)
    }

    pub(crate) fn set_record(&mut self, slot: SlotRef, record: &BlockRecord) {
        self.arena.set_record(slot, *record);
    }
}
