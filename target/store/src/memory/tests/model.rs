//! What a pool may hold at a point in time: for each volume what it may be, for each block which writes' contents
//! it may have. While an operation is under way there is more than one answer; once it is acknowledged, one.

use std::collections::BTreeMap;

use holdfast_block::{BlockCount, Lba, SlotRef, StoreError, VolumeId};

use super::super::map::PageMap;
use super::super::{MemoryPool, PoolMemory, VolumeSpec};
use super::{MARKED, audit, seed_in};

/// A block: the writes it may be of (`None`: a hole), and when the newest of them was submitted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Block {
    pub(super) allowed: Vec<Option<u64>>,
    written: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct VolumeModel {
    pub(super) specs: Vec<Option<VolumeSpec>>,
    pub(super) blocks: BTreeMap<u64, Block>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) volumes: BTreeMap<VolumeId, VolumeModel>,
    clock: u64,
}

impl Model {
    /// The volume may also be this.
    pub(super) fn may_become(&mut self, id: VolumeId, spec: Option<VolumeSpec>) {
        let volume =
            self.volumes.entry(id).or_insert_with(|| VolumeModel { specs: vec![None], ..Default::default() });
        volume.specs.push(spec);
    }

    /// The volume is as it was last said to become.
    pub(super) fn is_become(&mut self, id: VolumeId) {
        let volume = self.volumes.get_mut(&id).unwrap();
        volume.specs = vec![*volume.specs.last().unwrap()];
        if volume.specs == [None] {
            self.volumes.remove(&id);
        }
    }

    pub(super) fn spec(&self, id: VolumeId) -> Option<VolumeSpec> {
        self.volumes.get(&id).and_then(|volume| *volume.specs.last().unwrap())
    }

    /// A write is under way.
    pub(super) fn may_be_written(&mut self, id: VolumeId, lba: u64, blocks: u64, seed: u64) {
        self.clock += 1;
        let clock = self.clock;
        for (block, seed) in self.range(id, lba, blocks).zip(seed..) {
            block.allowed.push(Some(seed));
            block.written = clock;
        }
    }

    /// It is acknowledged.
    pub(super) fn is_written(&mut self, id: VolumeId, lba: u64, blocks: u64, seed: u64) {
        let clock = self.clock;
        for (block, seed) in self.range(id, lba, blocks).zip(seed..) {
            *block = Block { allowed: vec![Some(seed)], written: clock };
        }
    }

    /// A deallocation is under way. Returns its time, for [`Self::is_deallocated`].
    pub(super) fn may_be_deallocated(&mut self, id: VolumeId, lba: u64, blocks: u64) -> u64 {
        self.clock += 1;
        let volume = self.volumes.get_mut(&id).unwrap();
        for (_, block) in volume.blocks.range_mut(lba..lba + blocks) {
            block.allowed.push(None);
        }
        self.clock
    }

    /// It is acknowledged: blocks that have not been written since its submission are holes.
    pub(super) fn is_deallocated(&mut self, id: VolumeId, lba: u64, blocks: u64, submitted: u64) {
        let Some(volume) = self.volumes.get_mut(&id) else { return };
        for (_, block) in volume.blocks.range_mut(lba..lba + blocks) {
            if block.written < submitted {
                block.allowed = vec![None];
            }
        }
    }

    fn range(&mut self, id: VolumeId, lba: u64, blocks: u64) -> impl Iterator<Item = &mut Block> {
        let volume = self.volumes.get_mut(&id).unwrap();
        for lba in lba..lba + blocks {
            volume.blocks.entry(lba).or_insert_with(|| Block { allowed: vec![None], written: 0 });
        }
        volume.blocks.range_mut(lba..lba + blocks).map(|(_, block)| block)
    }

    /// A new process has opened the pool: asserts that it holds what it may, and what was found is what it holds.
    pub(super) fn settle<M: PoolMemory>(&mut self, pool: &mut MemoryPool<M>) {
        self.check(pool);
        let there: BTreeMap<VolumeId, VolumeSpec> =
            pool.volumes().map(|volume| (volume.spec.id, volume.spec)).collect();
        self.volumes.retain(|id, _| there.contains_key(id));
        for (id, volume) in &mut self.volumes {
            let spec = there[id];
            volume.specs = vec![Some(spec)];
            for (lba, block) in &mut volume.blocks {
                block.allowed = vec![VolumeModel::find(pool, &spec, *lba)];
            }
        }
    }

    /// Asserts that a pool, just opened, holds what it may.
    pub(super) fn check<M: PoolMemory>(&self, pool: &mut MemoryPool<M>) {
        let there: BTreeMap<VolumeId, VolumeSpec> =
            pool.volumes().map(|volume| (volume.spec.id, volume.spec)).collect();
        assert!(there.keys().all(|id| self.volumes.contains_key(id)), "a volume from nowhere");
        for (id, volume) in &self.volumes {
            let found = there.get(id).copied();
            assert!(volume.specs.contains(&found), "volume {id}: {found:?}, not one of {:?}", volume.specs);
            if let Some(spec) = found {
                volume.check(pool, &spec);
            }
        }
        audit(pool);
    }
}

impl VolumeModel {
    fn check<M: PoolMemory>(&self, pool: &mut MemoryPool<M>, spec: &VolumeSpec) {
        let mut allocated = 0;
        for (lba, block) in &self.blocks {
            let found = VolumeModel::find(pool, spec, *lba);
            let allowed = &block.allowed;
            assert!(
                allowed.contains(&found),
                "volume {} block {lba}: {found:?}, not of {allowed:?}",
                spec.id
            );
            allocated += u64::from(found.is_some());
        }
        let index = pool.volumes.find(spec.id).unwrap();
        assert_eq!(pool.volume_usage(index).unwrap().blocks_allocated, allocated, "blocks from nowhere");
    }

    /// The write whose contents a block has.
    fn find<M: PoolMemory>(pool: &mut MemoryPool<M>, spec: &VolumeSpec, lba: u64) -> Option<u64> {
        let index = pool.volumes.find(spec.id).unwrap();
        let tuple_len = spec.format.map_or(0, |format| format.tuple_len());
        let mut slots = Vec::new();
        let read = pool.read(index, Lba(lba), BlockCount::new(1), &mut slots);
        if let Err(error) = read {
            assert_eq!(error, StoreError::Uncorrectable(Lba(lba)));
            let leaf = pool.map.leaf(&pool.medium, &pool.volumes.get(index).unwrap().root, lba).unwrap();
            let slot = SlotRef::from_raw(PageMap::slot(&pool.medium, leaf, lba));
            let found = seed_in(pool.data(index, slot), pool.record(index, slot), tuple_len);
            assert!(slots.is_empty() && found.is_some_and(|seed| seed & MARKED != 0));
            return found;
        }
        let found = seed_in(pool.data(index, slots[0]), pool.record(index, slots[0]), tuple_len);
        assert!(found.is_none_or(|seed| seed & MARKED == 0), "a marked block was read");
        pool.unpin(index, &slots);
        found
    }
}
