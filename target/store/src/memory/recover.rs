//! Opening a pool that an earlier process left, at whatever instruction it ended.
//!
//! Volumes and maps are walked from the table down. What is reached is in use, everything else is free. What
//! a kill cannot have left behind (two blocks in one slot, a record of another block, a pointer out of the
//! areas) means that the memory was damaged: the pool is refused, with the place.

use super::alloc::SlotIndex;
use super::layout::{BlockClass, Header, Layout};
use super::map::{FANOUT, entry, parse_child, span};
use super::medium::{Medium, PoolMemory};
use super::pool::MemoryPool;
use super::volume::{Entry, Volume, VolumeIndex};
use crate::{Damage, PoolError};

impl<M: PoolMemory> MemoryPool<M> {
    /// Opens the pool in the memory: every volume with every block as published.
    ///
    /// # Errors
    ///
    /// [`PoolError::NotAPool`] if none was ever completed there, [`PoolError::Version`],
    /// [`PoolError::HeaderDamaged`], [`PoolError::TooShort`]; [`PoolError::Damaged`] if the structures
    /// contradict each other.
    pub fn open(memory: M) -> Result<Self, PoolError> {
        let config = Header::read(&memory)?;
        let layout = Layout::new(&config).map_err(|_| PoolError::HeaderDamaged)?;
        if memory.len() < layout.len {
            return Err(PoolError::TooShort { needed: layout.len, len: memory.len() });
        }
        let medium = Medium { memory, layout };
        let touched = [BlockClass::Small, BlockClass::Large].map(|class| {
            let chunks = usize::try_from(medium.word(Layout::touched_offset(class))).unwrap_or(usize::MAX);
            chunks.min(layout.area(class).chunks)
        });
        let mut pool = MemoryPool::empty(config.id, medium, touched);
        for index in VolumeIndex::all() {
            pool.recover_volume(index)?;
        }
        pool.map.finish_adopting();
        Ok(pool)
    }

    fn recover_volume(&mut self, index: VolumeIndex) -> Result<(), PoolError> {
        let damaged = |damage, lba| PoolError::Damaged { entry: index.as_usize(), lba, damage };
        let place = Entry(self.medium.layout.entry_offset(index));
        let read = place.read(&self.medium.memory).map_err(|damage| damaged(damage, 0))?;
        let Some(spec) = read else { return Ok(()) };
        if self.volumes.find(spec.id).is_some() {
            return Err(damaged(Damage::Twice, 0));
        }
        let class = spec.check()?;
        let mut root = place.root(&self.medium.memory).map_err(|damage| damaged(damage, 0))?;
        let mut walk = Walk { index, class, block_count: spec.block_count, blocks_live: 0 };
        if let Some(page) = root.page {
            let live = self.recover_page(&mut walk, page, root.height - 1, 0);
            if live.map_err(|(damage, lba)| damaged(damage, lba))? == 0 {
                self.map.drop_root(&mut self.medium, &mut root);
            }
        }
        let mut volume = Volume::new(spec, class, root);
        volume.blocks_live = walk.blocks_live;
        self.bytes_live = self.bytes_live.saturating_add(volume.usage().bytes_allocated);
        self.volumes.put(index, Some(volume));
        Ok(())
    }

    /// Takes a page and all below into use; returns how many of its words are set. Pages without any are
    /// what a kill between two stores leaves: they are unlinked. At most as deep as the highest tree.
    fn recover_page(
        &mut self,
        walk: &mut Walk,
        page: u32,
        level: u8,
        first_lba: u64,
    ) -> Result<u16, (Damage, u64)> {
        if !self.map.adopt(page) {
            return Err((Damage::MapPointer, first_lba));
        }
        let mut live = 0;
        let mut lba = first_lba;
        for at in 0..usize::try_from(FANOUT).unwrap_or(0) {
            let word = entry(&self.medium, page, at);
            if word != 0 && level == 0 {
                self.recover_block(walk, word, lba).map_err(|damage| (damage, lba))?;
                live += 1;
            } else if word != 0 {
                let child = parse_child(word).ok_or((Damage::MapPointer, lba))?;
                if self.recover_page(walk, child, level - 1, lba)? > 0 {
                    live += 1;
                } else {
                    self.map.unlink(&mut self.medium, page, at);
                }
            }
            lba += span(level);
        }
        self.map.settle(page, live);
        Ok(live)
    }

    fn recover_block(&mut self, walk: &mut Walk, raw: u64, lba: u64) -> Result<(), Damage> {
        if lba >= walk.block_count {
            return Err(Damage::BeyondEnd);
        }
        let slot = SlotIndex::from_raw(raw).ok_or(Damage::Slot)?;
        if !self.slots.of_mut(walk.class).occupy(slot, walk.index) {
            return Err(Damage::Slot);
        }
        if !self.medium.is_stamped(walk.class, slot, walk.index, lba) {
            return Err(Damage::Record);
        }
        if self.medium.is_marked(walk.class, slot)
            && let Some(state) = self.slots.of_mut(walk.class).state_mut(slot)
        {
            state.marked = true;
        }
        walk.blocks_live += 1;
        Ok(())
    }
}

/// The volume that is being walked.
struct Walk {
    index: VolumeIndex,
    class: BlockClass,
    block_count: u64,
    blocks_live: u64,
}
