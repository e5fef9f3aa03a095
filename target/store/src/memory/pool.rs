//! A memory pool: its volumes and what they use.

use std::collections::VecDeque;

use holdfast_block::{Geometry, PoolId, StoreDone, Usage, VolumeId};

use super::alloc::SlotAllocator;
use super::jobs::Job;
use super::layout::{BlockClass, Header, Layout, PoolConfig};
use super::map::{PageMap, Root};
use super::medium::{Medium, PoolMemory};
use super::volume::{Entry, VOLUMES_PER_POOL_MAX, Volume, VolumeIndex, VolumeSpec, VolumeState};
use crate::PoolError;

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUsage {
    /// Bytes of blocks that it can hold.
    pub capacity_bytes: u64,
    /// Bytes of the blocks that it holds. A deleted volume's are counted until they have been freed.
    pub allocated_bytes: u64,
}

/// A pool in memory. I/O goes through [`Stores`](crate::Stores); here are its volumes.
#[derive(Debug)]
pub struct MemoryPool<M> {
    pub(super) id: PoolId,
    pub(super) medium: Medium<M>,
    pub(super) slots: Slots,
    pub(super) map: PageMap,
    pub(super) volumes: Volumes,
    pub(super) bytes_live: u64,
    /// Work that is done in slices.
    pub(super) jobs: VecDeque<Job>,
    /// Number of the newest job so far.
    pub(super) last_job: u64,
    pub(super) finished: VecDeque<StoreDone>,
}

/// The slots of both block sizes.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) small: SlotAllocator,
    pub(super) large: SlotAllocator,
}

impl Slots {
    pub(super) fn of(&self, class: BlockClass) -> &SlotAllocator {
        match class {
            BlockClass::Small => &self.small,
            BlockClass::Large => &self.large,
        }
    }

    pub(super) fn of_mut(&mut self, class: BlockClass) -> &mut SlotAllocator {
        match class {
            BlockClass::Small => &mut self.small,
            BlockClass::Large => &mut self.large,
        }
    }
}

/// The volumes by their place in the table, including deleted ones that somebody still holds slots of.
#[derive(Debug)]
pub(super) struct Volumes(Vec<Option<Volume>>);

impl Volumes {
    pub(super) fn get(&self, index: VolumeIndex) -> Option<&Volume> {
        self.0.get(index.as_usize())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: VolumeIndex) -> Option<&mut Volume> {
        self.0.get_mut(index.as_usize())?.as_mut()
    }

    pub(super) fn put(&mut self, index: VolumeIndex, volume: Option<Volume>) {
        if let Some(place) = self.0.get_mut(index.as_usize()) {
            *place = volume;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (VolumeIndex, &Volume)> {
        VolumeIndex::all().zip(&self.0).filter_map(|(index, volume)| Some((index, volume.as_ref()?)))
    }

    pub(super) fn find(&self, id: VolumeId) -> Option<VolumeIndex> {
        self.iter().find(|(_, volume)| volume.spec.id == id).map(|(index, _)| index)
    }

    fn vacant(&self) -> Option<VolumeIndex> {
        self.0.iter().position(Option::is_none).and_then(VolumeIndex::new)
    }
}

impl<M: PoolMemory> MemoryPool<M> {
    /// Bytes of memory that a pool needs. Most of them are never touched: the memory should be sparse.
    ///
    /// # Errors
    ///
    /// [`PoolError::Size`] if a size is outside the limits.
    pub fn layout_len(config: &PoolConfig) -> Result<usize, PoolError> {
        Layout::new(config).map(|layout| layout.len)
    }

    /// Makes an empty pool in the memory, whatever that held before.
    ///
    /// # Errors
    ///
    /// [`PoolError::Size`]; [`PoolError::TooShort`] if the memory is shorter than [`Self::layout_len`].
    pub fn create(mut memory: M, config: &PoolConfig) -> Result<Self, PoolError> {
        let layout = Layout::new(config)?;
        let too_short = PoolError::TooShort { needed: layout.len, len: memory.len() };
        if memory.len() < layout.len {
            return Err(too_short);
        }
        Header::write(&mut memory, config).ok_or(too_short)?;
        Ok(MemoryPool::empty(config.id, Medium { memory, layout }, [0, 0]))
    }

    /// A pool without volumes, with so many chunks of small and large slots touched.
    pub(super) fn empty(id: PoolId, medium: Medium<M>, touched: [usize; 2]) -> Self {
        let layout = &medium.layout;
        let allocator = |class, touched| SlotAllocator::new(layout.area(class).chunks, touched);
        let [small, large] = touched;
        let slots =
            Slots { small: allocator(BlockClass::Small, small), large: allocator(BlockClass::Large, large) };
        let mut volumes = Vec::new();
        volumes.resize_with(VOLUMES_PER_POOL_MAX, || None);
        MemoryPool {
            id,
            map: PageMap::new(layout.map_pages),
            slots,
            volumes: Volumes(volumes),
            bytes_live: 0,
            jobs: VecDeque::new(),
            last_job: 0,
            finished: VecDeque::new(),
            medium,
        }
    }

    /// The memory that it lies in.
    pub fn memory(&self) -> &M {
        &self.medium.memory
    }

    /// Its identifier.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// How full it is.
    pub fn usage(&self) -> PoolUsage {
        PoolUsage { capacity_bytes: self.medium.layout.capacity_bytes, allocated_bytes: self.bytes_live }
    }

    /// Its volumes, in no particular order.
    pub fn volumes(&self) -> impl Iterator<Item = VolumeState> {
        let there = self.volumes.iter().filter(|(_, volume)| !volume.deleted);
        there.map(|(_, volume)| VolumeState { spec: volume.spec, usage: volume.usage() })
    }

    /// Makes an empty volume. After a kill it is either there or not.
    ///
    /// # Errors
    ///
    /// [`PoolError::BlockLen`], [`PoolError::BlockCount`], [`PoolError::VolumeExists`], [`PoolError::TableFull`].
    pub fn create_volume(&mut self, spec: &VolumeSpec) -> Result<(), PoolError> {
        let class = spec.check()?;
        if self.volumes.find(spec.id).is_some() {
            return Err(PoolError::VolumeExists(spec.id));
        }
        let index = self.volumes.vacant().ok_or(PoolError::TableFull)?;
        let entry = Entry(self.medium.layout.entry_offset(index));
        let written = entry.write(&mut self.medium.memory, spec);
        debug_assert!(written.is_some(), "the table lies within the memory");
        let root = entry.root(&self.medium.memory).unwrap_or_else(|_| Root::empty(entry.0));
        self.volumes.put(index, Some(Volume::new(*spec, class, root)));
        Ok(())
    }

    /// Makes a volume longer. After a kill it has either the old or the new length.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoVolume`]; [`PoolError::BlockCount`] if it would shrink or get too long.
    pub fn grow_volume(&mut self, id: VolumeId, block_count: u64) -> Result<(), PoolError> {
        let (index, volume) = self.present(id)?;
        let longer = VolumeSpec { block_count, ..volume.spec };
        longer.check()?;
        if block_count < volume.spec.block_count {
            return Err(PoolError::BlockCount(block_count));
        }
        let entry = Entry(self.medium.layout.entry_offset(index));
        let written = entry.set_block_count(&mut self.medium.memory, block_count);
        debug_assert!(written.is_some(), "the table lies within the memory");
        if let Some(volume) = self.volumes.get_mut(index) {
            volume.spec = longer;
        }
        Ok(())
    }

    /// Deletes a volume. It is gone at once, after a kill too; what it used is freed in slices, and blocks
    /// that are pinned keep their bytes until they are unpinned.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoVolume`].
    pub fn delete_volume(&mut self, id: VolumeId) -> Result<(), PoolError> {
        let (index, _) = self.present(id)?;
        let written = Entry(self.medium.layout.entry_offset(index)).clear(&mut self.medium.memory);
        debug_assert!(written.is_some(), "the table lies within the memory");
        if let Some(volume) = self.volumes.get_mut(index) {
            volume.deleted = true;
            self.slots.of_mut(volume.class).close(&mut volume.cursor);
        }
        self.start_emptying(index);
        Ok(())
    }

    fn present(&self, id: VolumeId) -> Result<(VolumeIndex, &Volume), PoolError> {
        let found = self.volumes.iter().find(|(_, volume)| volume.spec.id == id && !volume.deleted);
        found.ok_or(PoolError::NoVolume(id))
    }

    /// Whether anything is left to do for [`Stores::poll`](holdfast_block::Store::poll).
    pub fn has_work(&self) -> bool {
        !self.jobs.is_empty() || !self.finished.is_empty() || self.surplus_chunk().is_some()
    }

    /// Whether it holds no volume, nor slots of a deleted one.
    pub(crate) fn is_unused(&self) -> bool {
        self.volumes.iter().next().is_none()
    }

    /// All volumes with their places, deleted ones too as long as somebody holds slots of them.
    pub(crate) fn places(&self) -> impl Iterator<Item = (VolumeId, VolumeIndex)> {
        self.volumes.iter().map(|(index, volume)| (volume.spec.id, index))
    }

    /// Whether this place is this volume's, deleted or not.
    pub(crate) fn is_at(&self, index: VolumeIndex, id: VolumeId) -> bool {
        self.volumes.get(index).is_some_and(|volume| volume.spec.id == id)
    }

    pub(crate) fn geometry(&self, index: VolumeIndex) -> Option<Geometry> {
        let VolumeSpec { block_len, block_count, format, .. } =
            self.volumes.get(index).filter(|volume| !volume.deleted)?.spec;
        Some(Geometry { block_len, block_count, format })
    }

    pub(crate) fn volume_usage(&self, index: VolumeIndex) -> Option<Usage> {
        self.volumes.get(index).filter(|volume| !volume.deleted).map(Volume::usage)
    }
}
