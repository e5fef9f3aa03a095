//! A pool of either kind, as [`Stores`](crate::Stores) asks it. What is carried out at once by a pool in memory is begun by one
//! on a device.

use holdfast_block::{
    BlockCount, BlockRecord, Geometry, Lba, PoolId, SlotRef, StoreDone, StoreError, StoreOp, Usage, VolumeId,
};

use crate::disk::DiskPool;
use crate::memory::VolumeIndex;
use crate::{MemoryPool, PoolError, PoolMemory, PoolUsage, VolumeSpec, VolumeState};

/// A pool.
#[derive(Debug)]
pub(crate) enum Kind<M> {
    /// In memory.
    Memory(Box<MemoryPool<M>>),
    /// In a file or on a device.
    Disk(Box<DiskPool<M>>),
}

impl<M: PoolMemory> Kind<M> {
    pub(crate) fn memory(&self) -> Option<&MemoryPool<M>> {
        match self {
            Kind::Memory(pool) => Some(pool),
            Kind::Disk(_) => None,
        }
    }

    pub(crate) fn memory_mut(&mut self) -> Option<&mut MemoryPool<M>> {
        match self {
            Kind::Memory(pool) => Some(pool),
            Kind::Disk(_) => None,
        }
    }

    pub(crate) fn disk(&self) -> Option<&DiskPool<M>> {
        match self {
            Kind::Memory(_) => None,
            Kind::Disk(pool) => Some(pool),
        }
    }

    pub(crate) fn disk_mut(&mut self) -> Option<&mut DiskPool<M>> {
        match self {
            Kind::Memory(_) => None,
            Kind::Disk(pool) => Some(pool),
        }
    }

    pub(crate) fn id(&self) -> PoolId {
        match self {
            Kind::Memory(pool) => pool.id(),
            Kind::Disk(pool) => pool.id(),
        }
    }

    pub(crate) fn usage(&self) -> PoolUsage {
        match self {
            Kind::Memory(pool) => pool.usage(),
            Kind::Disk(pool) => pool.usage(),
        }
    }

    pub(crate) fn volumes(&self) -> Vec<VolumeState> {
        match self {
            Kind::Memory(pool) => pool.volumes().collect(),
            Kind::Disk(pool) => pool.volumes().collect(),
        }
    }

    pub(crate) fn places(&self) -> Vec<(VolumeId, VolumeIndex)> {
        match self {
            Kind::Memory(pool) => pool.places().collect(),
            Kind::Disk(pool) => pool.places().collect(),
        }
    }

    pub(crate) fn is_at(&self, index: VolumeIndex, id: VolumeId) -> bool {
        match self {
            Kind::Memory(pool) => pool.is_at(index, id),
            Kind::Disk(pool) => pool.is_at(index, id),
        }
    }

    pub(crate) fn create_volume(&mut self, spec: &VolumeSpec, name: &str) -> Result<(), PoolError> {
        match self {
            Kind::Memory(pool) => pool.create_volume(spec),
            Kind::Disk(pool) => pool.create_volume(spec, name),
        }
    }

    pub(crate) fn grow_volume(&mut self, id: VolumeId, block_count: u64) -> Result<(), PoolError> {
        match self {
            Kind::Memory(pool) => pool.grow_volume(id, block_count),
            Kind::Disk(pool) => pool.grow_volume(id, block_count),
        }
    }

    pub(crate) fn delete_volume(&mut self, id: VolumeId) -> Result<(), PoolError> {
        match self {
            Kind::Memory(pool) => pool.delete_volume(id),
            Kind::Disk(pool) => pool.delete_volume(id),
        }
    }

    pub(crate) fn take_finished(&mut self) -> Option<StoreDone> {
        match self {
            Kind::Memory(pool) => pool.take_finished(),
            Kind::Disk(pool) => pool.take_finished(),
        }
    }

    pub(crate) fn work(&mut self) {
        match self {
            Kind::Memory(pool) => pool.work(),
            Kind::Disk(pool) => pool.work(),
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        match self {
            Kind::Memory(pool) => pool.has_work(),
            Kind::Disk(pool) => pool.has_work(),
        }
    }

    pub(crate) fn geometry(&self, index: VolumeIndex) -> Option<Geometry> {
        match self {
            Kind::Memory(pool) => pool.geometry(index),
            Kind::Disk(pool) => pool.geometry(index),
        }
    }

    pub(crate) fn volume_usage(&self, index: VolumeIndex) -> Option<Usage> {
        match self {
            Kind::Memory(pool) => pool.volume_usage(index),
            Kind::Disk(pool) => pool.volume_usage(index),
        }
    }

    pub(crate) fn reserve(
        &mut self,
        index: VolumeIndex,
        lba: Lba,
        blocks: BlockCount,
        slots: &mut Vec<SlotRef>,
    ) -> Result<(), StoreError> {
        match self {
            Kind::Memory(pool) => pool.reserve(index, blocks, slots),
            Kind::Disk(pool) => pool.reserve(index, lba, blocks, slots),
        }
    }

    pub(crate) fn unreserve(&mut self, index: VolumeIndex, slots: &[SlotRef]) {
        match self {
            Kind::Memory(pool) => pool.unreserve(index, slots),
            Kind::Disk(pool) => pool.take_lent_back(index, slots),
        }
    }

    pub(crate) fn unpin(&mut self, index: VolumeIndex, slots: &[SlotRef]) {
        match self {
            Kind::Memory(pool) => pool.unpin(index, slots),
            Kind::Disk(pool) => pool.unpin(index, slots),
        }
    }

    pub(crate) fn data(&self, index: VolumeIndex, slot: SlotRef) -> Option<&[u8]> {
        match self {
            Kind::Memory(pool) => pool.data(index, slot),
            Kind::Disk(pool) => pool.data(index, slot),
        }
    }

    pub(crate) fn data_mut(&mut self, index: VolumeIndex, slot: SlotRef) -> Option<&mut [u8]> {
        match self {
            Kind::Memory(pool) => pool.data_mut(index, slot),
            Kind::Disk(pool) => pool.data_mut(index, slot),
        }
    }

    pub(crate) fn data_offset(&self, index: VolumeIndex, slot: SlotRef) -> Option<usize> {
        match self {
            Kind::Memory(pool) => pool.data_offset(index, slot),
            Kind::Disk(pool) => pool.data_offset(index, slot),
        }
    }

    pub(crate) fn record(&self, index: VolumeIndex, slot: SlotRef) -> BlockRecord {
        match self {
            Kind::Memory(pool) => pool.record(index, slot),
            Kind::Disk(pool) => pool.record(slot),
        }
    }

    pub(crate) fn set_record(&mut self, index: VolumeIndex, slot: SlotRef, record: &BlockRecord) {
        match self {
            Kind::Memory(pool) => pool.set_record(index, slot, record),
            Kind::Disk(pool) => pool.set_record(slot, record),
        }
    }
}

/// The volume that an operation is for.
pub(crate) fn volume_of(op: &StoreOp) -> VolumeId {
    match op {
        StoreOp::Publish { volume, .. }
        | StoreOp::Read { volume, .. }
        | StoreOp::Deallocate { volume, .. }
        | StoreOp::Flush { volume, .. } => *volume,
    }
}

/// Begins an operation on a pool on a device.
pub(crate) fn begin<M: PoolMemory>(pool: &mut DiskPool<M>, index: VolumeIndex, op: StoreOp) {
    match op {
        StoreOp::Publish { token, lba, slots, durable, .. } => {
            pool.publish(token, index, lba.0, slots, durable)
        }
        StoreOp::Read { token, lba, blocks, slots, .. } => {
            pool.read(token, index, lba.0, blocks.as_usize(), slots)
        }
        StoreOp::Deallocate { token, lba, blocks, slots, .. } => {
            pool.deallocate(token, index, lba.0, blocks, slots);
        }
        StoreOp::Flush { token, slots, .. } => pool.flush(token, index, slots),
    }
}
