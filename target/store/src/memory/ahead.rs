//! Asking for memory before an operation needs it. Nothing here changes anything, and all of it may be left out: what
//! was asked for in vain (a block that is overwritten in the meantime) costs a little bandwidth.

use holdfast_block::Lba;
use holdfast_pi::{prefetch, prefetch_to_write};

use super::alloc::SlotIndex;
use super::map::PageMap;
use super::medium::PoolMemory;
use super::ops::leaf_spans;
use super::pool::MemoryPool;
use super::volume::{Volume, VolumeIndex};

/// Blocks of one operation that are looked up ahead: long ranges lie in runs, which the processor's own prefetching
/// follows.
const BLOCKS_AHEAD_MAX: usize = 64;

/// Bytes of the next slots that are asked for when some are reserved: a large block. Longer writes fill runs of slots.
const WRITE_BYTES_AHEAD: usize = 4096;

impl<M: PoolMemory> MemoryPool<M> {
    /// Asks for the words of the map over a range.
    pub(crate) fn prefetch_map(&self, index: VolumeIndex, lba: Lba, blocks: usize) {
        let Some(volume) = self.covering(index, lba, blocks) else { return };
        for (first, end) in leaf_spans(lba.0, blocks) {
            if let Some(leaf) = self.map.leaf(&self.medium, &volume.root, first) {
                prefetch(PageMap::words(&self.medium, leaf, first, end));
            }
        }
    }

    /// Asks for states, records and data of the blocks of a range. Data only as long as there is `room`, in bytes, which
    /// gets less by what was asked for.
    pub(crate) fn prefetch_blocks(&self, index: VolumeIndex, lba: Lba, blocks: usize, room: &mut usize) {
        let Some(volume) = self.covering(index, lba, blocks) else { return };
        let block_len = volume.spec.block_len;
        for slot in self.slots_ahead(volume, lba, blocks) {
            prefetch(self.slots.of(volume.class).state_place(slot));
            if volume.spec.format.is_some() {
                prefetch(self.medium.record_place(volume.class, slot));
            }
            if let Some(left) = room.checked_sub(block_len) {
                *room = left;
                prefetch(self.medium.data(volume.class, slot).unwrap_or_default());
            }
        }
    }

    /// Asks for the states of the slots that a write will take out of the map.
    pub(crate) fn prefetch_superseded(&self, index: VolumeIndex, lba: Lba, blocks: usize) {
        let Some(volume) = self.covering(index, lba, blocks) else { return };
        for slot in self.slots_ahead(volume, lba, blocks) {
            prefetch(self.slots.of(volume.class).state_place(slot));
        }
    }

    /// Asks for the slots that will be reserved next, to be written: as many as just now, since writes come in rows
    /// of the same length.
    pub(super) fn prefetch_next_slots(&self, index: VolumeIndex, blocks: usize) {
        let Some(volume) = self.volumes.get(index) else { return };
        let Some(next) = self.slots.of(volume.class).next(&volume.cursor) else { return };
        let slots = blocks.min(WRITE_BYTES_AHEAD / volume.spec.block_len);
        prefetch_to_write(self.medium.record_place(volume.class, next));
        for slot in (next.0..).take(slots).map(SlotIndex) {
            prefetch_to_write(self.medium.data(volume.class, slot).unwrap_or_default());
        }
    }

    fn covering(&self, index: VolumeIndex, lba: Lba, blocks: usize) -> Option<&Volume> {
        self.volumes.get(index).filter(|volume| volume.covers(lba.0, blocks as u64))
    }

    /// The slots of the first blocks of a range, but for holes.
    fn slots_ahead(&self, volume: &Volume, lba: Lba, blocks: usize) -> impl Iterator<Item = SlotIndex> {
        leaf_spans(lba.0, blocks.min(BLOCKS_AHEAD_MAX)).flat_map(move |(first, end)| {
            let leaf = self.map.leaf(&self.medium, &volume.root, first);
            let raws = (first..end).filter_map(move |lba| Some(PageMap::slot(&self.medium, leaf?, lba)));
            raws.filter_map(SlotIndex::from_raw)
        })
    }
}
