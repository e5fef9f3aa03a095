//! I/O on a memory pool: reserve, publish, read, pins.
//!
//! A publish that finds no room has changed nothing: everything that can fail (map pages, capacity) is
//! settled before the first word is stored. Blocks count against the capacity from when they stop being
//! holes; slots that are reserved, or superseded and pinned, are on top, within the layout's bound.

use holdfast_block::{BlockCount, BlockRecord, Lba, SlotRef, StoreError};

use super::alloc::{Phase, SlotIndex, SlotState};
use super::layout::{BlockClass, Layout};
use super::map::{FANOUT, PageMap};
use super::medium::PoolMemory;
use super::pool::MemoryPool;
use super::volume::VolumeIndex;

impl<M: PoolMemory> MemoryPool<M> {
    pub(crate) fn reserve(
        &mut self,
        index: VolumeIndex,
        blocks: BlockCount,
        slots: &mut Vec<SlotRef>,
    ) -> Result<(), StoreError> {
        let found = self.volumes.get(index).filter(|volume| !volume.deleted);
        let class = found.ok_or(StoreError::NoVolume)?.class;
        if blocks.as_usize() > self.slots.of(class).free_slots() {
            self.finish_jobs();
        }
        let volume = self.volumes.get_mut(index).ok_or(StoreError::NoVolume)?;
        let allocator = self.slots.of_mut(class);
        let touched = allocator.touched();
        if !allocator.take(&mut volume.cursor, index, blocks.as_usize(), slots) {
            return Err(StoreError::Busy);
        }
        volume.held += u64::from(blocks.get());
        if allocator.touched() > touched {
            self.medium.publish(Layout::touched_offset(class), allocator.touched() as u64);
        }
        self.prefetch_next_slots(index, blocks.as_usize());
        Ok(())
    }

    pub(crate) fn unreserve(&mut self, index: VolumeIndex, slots: &[SlotRef]) {
        let Some(volume) = self.volumes.get_mut(index) else { return };
        let allocator = self.slots.of_mut(volume.class);
        for slot in slots.iter().filter_map(|slot| SlotIndex::from_raw(slot.raw())) {
            let reserved = |state: &SlotState| {
                state.owner == index && matches!(state.phase, Phase::Reserved | Phase::Claimed)
            };
            let given_back = allocator.state(slot).filter(reserved).is_some();
            debug_assert!(given_back, "{slot:?} is not reserved");
            if given_back {
                allocator.release(slot);
                volume.held -= 1;
            }
        }
        self.forget_if_gone(index);
    }

    pub(crate) fn data_mut(&mut self, index: VolumeIndex, slot: SlotRef) -> Option<&mut [u8]> {
        let (class, slot) = self.reserved(index, slot)?;
        self.medium.data_mut(class, slot)
    }

    pub(crate) fn set_record(&mut self, index: VolumeIndex, slot: SlotRef, record: &BlockRecord) {
        if let Some((class, slot)) = self.reserved(index, slot) {
            self.medium.set_record(class, slot, record);
        }
    }

    pub(crate) fn data(&self, index: VolumeIndex, slot: SlotRef) -> Option<&[u8]> {
        let (class, slot, _) = self.owned(index, slot)?;
        self.medium.data(class, slot)
    }

    pub(crate) fn record(&self, index: VolumeIndex, slot: SlotRef) -> BlockRecord {
        let record = self.owned(index, slot).and_then(|(class, slot, _)| self.medium.record(class, slot));
        record.unwrap_or_else(BlockRecord::hole)
    }

    /// Offset of a slot's data in the memory.
    pub(crate) fn data_offset(&self, index: VolumeIndex, slot: SlotRef) -> Option<usize> {
        let (class, slot, _) = self.owned(index, slot)?;
        Some(self.medium.area(class).data_offset(slot))
    }

    /// Makes filled slots the contents of `lba..`. On any error they are given back.
    pub(crate) fn publish(
        &mut self,
        index: VolumeIndex,
        lba: Lba,
        slots: &[SlotRef],
    ) -> Result<(), StoreError> {
        let checked = self.check_range(index, lba.0, slots.len() as u64);
        let mut ready = checked.and_then(|()| self.claim(index, slots));
        if ready.is_ok() {
            ready = self.prepare(index, lba.0, slots.len());
            if ready == Err(StoreError::NoRoom) && !self.jobs.is_empty() {
                self.finish_jobs();
                ready = self.prepare(index, lba.0, slots.len());
            }
        }
        match ready {
            Ok(()) => self.commit(index, lba.0, slots),
            Err(_) => {
                self.prune_range(index, lba.0, slots.len());
                self.unreserve(index, slots);
            }
        }
        ready
    }

    /// Finds and pins the slots of a range; pins none if one of them is marked.
    pub(crate) fn read(
        &mut self,
        index: VolumeIndex,
        lba: Lba,
        blocks: BlockCount,
        slots: &mut Vec<SlotRef>,
    ) -> Result<(), StoreError> {
        self.check_range(index, lba.0, u64::from(blocks.get()))?;
        let volume = self.volumes.get_mut(index).ok_or(StoreError::NoVolume)?;
        let allocator = self.slots.of_mut(volume.class);
        let mut marked = None;
        for (first, end) in leaf_spans(lba.0, blocks.as_usize()) {
            let leaf = self.map.leaf(&self.medium, &volume.root, first);
            for lba in first..end {
                let raw = leaf.map_or(0, |leaf| PageMap::slot(&self.medium, leaf, lba));
                slots.push(SlotRef::from_raw(raw));
                if let Some(state) = SlotIndex::from_raw(raw).and_then(|slot| allocator.state_mut(slot)) {
                    state.pins += 1;
                    volume.held += 1;
                    if state.marked && marked.is_none() {
                        marked = Some(Lba(lba));
                    }
                }
            }
        }
        if let Some(lba) = marked.filter(|_| !holdfast_mutant::active("uncorrectable")) {
            self.unpin(index, slots);
            slots.clear();
            return Err(StoreError::Uncorrectable(lba));
        }
        Ok(())
    }

    pub(crate) fn unpin(&mut self, index: VolumeIndex, slots: &[SlotRef]) {
        let Some(volume) = self.volumes.get_mut(index) else { return };
        let allocator = self.slots.of_mut(volume.class);
        for slot in slots.iter().filter_map(|slot| SlotIndex::from_raw(slot.raw())) {
            let pinned = |state: &&mut SlotState| state.owner == index && state.pins > 0;
            let Some(state) = allocator.state_mut(slot).filter(pinned) else {
                debug_assert!(false, "{slot:?} is not pinned");
                continue;
            };
            state.pins -= 1;
            volume.held -= 1;
            if state.pins == 0 && state.phase == Phase::Superseded {
                allocator.release(slot);
            }
        }
        self.forget_if_gone(index);
    }

    /// The volume is there and holds the range.
    pub(super) fn check_range(&self, index: VolumeIndex, lba: u64, blocks: u64) -> Result<(), StoreError> {
        match self.volumes.get(index) {
            None => Err(StoreError::NoVolume),
            Some(volume) if volume.deleted => Err(StoreError::NoVolume),
            Some(volume) if !volume.covers(lba, blocks) => Err(StoreError::OutOfRange),
            Some(_) => Ok(()),
        }
    }

    /// Turns the blocks `from..to` under one leaf into holes. The leaf may be empty afterwards.
    pub(super) fn clear(&mut self, index: VolumeIndex, leaf: u32, from: u64, to: u64) {
        let Some(volume) = self.volumes.get_mut(index) else { return };
        let block_len = volume.spec.block_len as u64;
        let allocator = self.slots.of_mut(volume.class);
        for lba in from..to {
            if self.map.live(leaf) == 0 {
                return;
            }
            let Some(old) = SlotIndex::from_raw(PageMap::slot(&self.medium, leaf, lba)) else { continue };
            self.map.set_slot(&mut self.medium, leaf, lba, 0);
            volume.blocks_live -= 1;
            self.bytes_live -= block_len;
            supersede(allocator, old);
        }
    }

    /// Marks slots as being published, so that one that is given twice is refused.
    fn claim(&mut self, index: VolumeIndex, slots: &[SlotRef]) -> Result<(), StoreError> {
        let class = self.volumes.get(index).ok_or(StoreError::NoVolume)?.class;
        let allocator = self.slots.of_mut(class);
        for slot in slots {
            let state = SlotIndex::from_raw(slot.raw()).and_then(|slot| allocator.state_mut(slot));
            match state.filter(|state| state.owner == index && state.phase == Phase::Reserved) {
                Some(state) => state.phase = Phase::Claimed,
                None => {
                    debug_assert!(false, "{slot:?} is not reserved");
                    return Err(StoreError::NoVolume);
                }
            }
        }
        Ok(())
    }

    /// Adds missing map pages, applies deallocations that came before, and looks whether the new blocks fit.
    fn prepare(&mut self, index: VolumeIndex, lba: u64, blocks: usize) -> Result<(), StoreError> {
        let mut holes = 0u64;
        for (first, end) in leaf_spans(lba, blocks) {
            let volume = self.volumes.get_mut(index).ok_or(StoreError::NoVolume)?;
            let (has_jobs, root) = (volume.jobs > 0, &mut volume.root);
            let leaf = self.map.ensure_leaf(&mut self.medium, root, first, self.last_job);
            let leaf = leaf.ok_or(StoreError::NoRoom)?;
            if has_jobs {
                self.apply_jobs(index, leaf, first);
            }
            holes += match u64::from(self.map.live(leaf)) {
                0 => end - first,
                FANOUT => 0,
                _ => (first..end).map(|lba| u64::from(PageMap::slot(&self.medium, leaf, lba) == 0)).sum(),
            };
        }
        let block_len = self.volumes.get(index).ok_or(StoreError::NoVolume)?.spec.block_len as u64;
        let after = holes.checked_mul(block_len).and_then(|bytes| self.bytes_live.checked_add(bytes));
        match after {
            Some(after) if after <= self.medium.layout.capacity_bytes => Ok(()),
            _ => Err(StoreError::NoRoom),
        }
    }

    /// Publishes block after block. Nothing can fail any more.
    fn commit(&mut self, index: VolumeIndex, lba: u64, slots: &[SlotRef]) {
        let Some(volume) = self.volumes.get_mut(index) else { return };
        let (class, block_len) = (volume.class, volume.spec.block_len as u64);
        let allocator = self.slots.of_mut(class);
        let mut slots = slots.iter();
        for (first, end) in leaf_spans(lba, slots.len()) {
            let leaf = self.map.leaf(&self.medium, &volume.root, first);
            debug_assert!(leaf.is_some(), "a leaf that was prepared is gone");
            let Some(leaf) = leaf else { return };
            for (lba, slot) in (first..end).zip(slots.by_ref()) {
                let Some(fresh) = SlotIndex::from_raw(slot.raw()) else { continue };
                let marked = self.medium.stamp(class, fresh, index, lba);
                let old = self.map.set_slot(&mut self.medium, leaf, lba, fresh.raw());
                if let Some(state) = allocator.state_mut(fresh) {
                    state.phase = Phase::Live;
                    state.marked = marked;
                }
                volume.held -= 1;
                match SlotIndex::from_raw(old) {
                    Some(old) => supersede(allocator, old),
                    None => {
                        volume.blocks_live += 1;
                        self.bytes_live += block_len;
                    }
                }
            }
        }
    }

    /// Takes back what a failed [`Self::prepare`] has added.
    fn prune_range(&mut self, index: VolumeIndex, lba: u64, blocks: usize) {
        let Some(volume) = self.volumes.get_mut(index).filter(|volume| volume.covers(lba, blocks as u64))
        else {
            return;
        };
        for (first, _) in leaf_spans(lba, blocks) {
            self.map.prune(&mut self.medium, &mut volume.root, first);
        }
    }

    fn reserved(&self, index: VolumeIndex, slot: SlotRef) -> Option<(BlockClass, SlotIndex)> {
        let (class, slot, state) = self.owned(index, slot)?;
        (state.phase == Phase::Reserved).then_some((class, slot))
    }

    fn owned(&self, index: VolumeIndex, slot: SlotRef) -> Option<(BlockClass, SlotIndex, SlotState)> {
        let class = self.volumes.get(index)?.class;
        let slot = SlotIndex::from_raw(slot.raw())?;
        let state = self.slots.of(class).state(slot)?;
        (state.owner == index && state.phase != Phase::Free).then_some((class, slot, state))
    }
}

/// A slot is out of the map: free, unless somebody still reads it.
fn supersede(allocator: &mut super::alloc::SlotAllocator, slot: SlotIndex) {
    match allocator.state_mut(slot) {
        Some(state) if state.pins > 0 => state.phase = Phase::Superseded,
        _ => allocator.release(slot),
    }
}

/// Cuts a range into parts under one leaf each: first block and end.
pub(super) fn leaf_spans(lba: u64, blocks: usize) -> impl Iterator<Item = (u64, u64)> {
    let end = lba.saturating_add(blocks as u64);
    let mut next = lba;
    std::iter::from_fn(move || {
        let first = next;
        next = (first | (FANOUT - 1)).saturating_add(1).min(end);
        (first < end).then_some((first, next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_leaves() {
        assert_eq!(
            leaf_spans(510, 1030).collect::<Vec<_>>(),
            [(510, 512), (512, 1024), (1024, 1536), (1536, 1540)]
        );
        assert_eq!(leaf_spans(512, 512).collect::<Vec<_>>(), [(512, 1024)]);
        assert_eq!(leaf_spans(7, 0).count(), 0);
    }
}
