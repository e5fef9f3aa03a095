//! All pools of one core, as the block layer sees them.

use std::cell::Cell;
use std::collections::VecDeque;

use holdfast_block::{
    BlockCount, BlockRecord, Geometry, Lba, Location, PoolId, SlotRef, Store, StoreDone, StoreError, StoreOp,
    Usage, VolumeId,
};

use crate::disk::DiskPool;
use crate::disk::io::{DiskDone, DiskOp};
use crate::kind::{Kind, begin, volume_of};
use crate::memory::VolumeIndex;
use crate::{MemoryPool, PoolError, PoolMemory, PoolUsage, VolumeSpec, VolumeState};

/// Bytes of blocks that are asked for before the operations on them are carried out: well within a second-level
/// cache, since more would push out what came first.
const BYTES_AHEAD_MAX: usize = 256 << 10;

/// The pools of one core. Operations on memory pools are carried out by [`Store::poll`], in the order in which they
/// were submitted, and complete there, but for deallocations of large ranges.
///
/// [`Store::poll`] works on what is left only when it has no completion to give, one slice a call. A caller that
/// is about to sleep asks [`Stores::has_work`] first.
///
/// A block costs some four cache misses, one after the other: its word in the map, then its slot's state, record
/// and data. So that the processor does not wait for each, an operation asks for the words of the map when
/// it is submitted, and for what they point to when the next one is submitted; when its turn comes, all of it
/// is near. Commands arrive many at a time, and what is done for each of them takes longer than its misses.
#[derive(Debug)]
pub struct Stores<M> {
    pools: Vec<Placed<M>>,
    /// Where each volume is, sorted by identifier. Deleted volumes stay in it until it is made anew.
    index: Vec<(VolumeId, Place)>,
    /// The volume that was asked for last: several questions are asked for each block of an I/O.
    last: Cell<Option<(VolumeId, Place)>>,
    /// Submitted, in order.
    waiting: VecDeque<StoreOp>,
    /// How many of those, from the first on, have been looked up in the map.
    looked_up: usize,
    /// Bytes of blocks that may still be asked for before all that waits has been carried out.
    bytes_ahead: usize,
    done: VecDeque<StoreDone>,
}

#[derive(Debug)]
struct Placed<M> {
    region: u16,
    pool: Kind<M>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    pool: usize,
    volume: VolumeIndex,
}

impl<M: PoolMemory> Default for Stores<M> {
    fn default() -> Self {
        Stores::new()
    }
}

impl<M: PoolMemory> Stores<M> {
    /// No pool yet.
    pub fn new() -> Self {
        Stores {
            pools: Vec::new(),
            index: Vec::new(),
            last: Cell::new(None),
            waiting: VecDeque::new(),
            looked_up: 0,
            bytes_ahead: BYTES_AHEAD_MAX,
            done: VecDeque::new(),
        }
    }

    /// Takes a pool in memory in. `region` is what [`Location`]s in it will say.
    ///
    /// # Errors
    ///
    /// [`PoolError::PoolExists`], [`PoolError::VolumeExists`]: the identifiers are in use here already.
    pub fn add_pool(&mut self, region: u16, pool: MemoryPool<M>) -> Result<(), PoolError> {
        self.add(region, Kind::Memory(Box::new(pool)))
    }

    /// Takes a pool on a device in; `region` is that of its arena. Errors as of [`Self::add_pool`].
    pub fn add_disk_pool(&mut self, region: u16, pool: DiskPool<M>) -> Result<(), PoolError> {
        self.add(region, Kind::Disk(Box::new(pool)))
    }

    fn add(&mut self, region: u16, pool: Kind<M>) -> Result<(), PoolError> {
        if self.pools.iter().any(|placed| placed.pool.id() == pool.id()) {
            return Err(PoolError::PoolExists(pool.id()));
        }
        if let Some((twice, _)) = pool.places().into_iter().find(|(id, _)| self.place(*id).is_some()) {
            return Err(PoolError::VolumeExists(twice));
        }
        self.pools.push(Placed { region, pool });
        self.reindex();
        Ok(())
    }

    /// Takes a pool in memory out.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoPool`]; [`PoolError::InUse`] while it holds volumes, or is still freeing a deleted one.
    pub fn remove_pool(&mut self, id: PoolId) -> Result<MemoryPool<M>, PoolError> {
        let unused = self.pool(id).ok_or(PoolError::NoPool(id))?.is_unused();
        if !unused {
            return Err(PoolError::InUse(id));
        }
        match self.remove(id) {
            Some(Kind::Memory(pool)) => Ok(*pool),
            Some(Kind::Disk(_)) | None => Err(PoolError::NoPool(id)),
        }
    }

    /// Takes a pool on a device out, with the volumes that it holds. It should be closed before ([`DiskPool::close`]).
    ///
    /// # Errors
    ///
    /// [`PoolError::NoPool`]; [`PoolError::InUse`] while something is under way.
    pub fn remove_disk_pool(&mut self, id: PoolId) -> Result<DiskPool<M>, PoolError> {
        let idle = self.disk_pool(id).ok_or(PoolError::NoPool(id))?.is_idle();
        if !idle {
            return Err(PoolError::InUse(id));
        }
        match self.remove(id) {
            Some(Kind::Disk(pool)) => Ok(*pool),
            Some(Kind::Memory(_)) | None => Err(PoolError::NoPool(id)),
        }
    }

    fn remove(&mut self, id: PoolId) -> Option<Kind<M>> {
        let position = self.pools.iter().position(|placed| placed.pool.id() == id)?;
        let mut placed = self.pools.remove(position);
        while let Some(done) = placed.pool.take_finished() {
            self.done.push_back(done);
        }
        self.reindex();
        Some(placed.pool)
    }

    /// One of the pools in memory.
    pub fn pool(&self, id: PoolId) -> Option<&MemoryPool<M>> {
        self.kinds().filter_map(Kind::memory).find(|pool| pool.id() == id)
    }

    /// All pools in memory.
    pub fn pools(&self) -> impl Iterator<Item = &MemoryPool<M>> {
        self.kinds().filter_map(Kind::memory)
    }

    /// One of the pools on devices.
    pub fn disk_pool(&self, id: PoolId) -> Option<&DiskPool<M>> {
        self.kinds().filter_map(Kind::disk).find(|pool| pool.id() == id)
    }

    /// The same, to be closed.
    pub fn disk_pool_mut(&mut self, id: PoolId) -> Option<&mut DiskPool<M>> {
        let mut pools = self.pools.iter_mut().filter_map(|placed| placed.pool.disk_mut());
        pools.find(|pool| pool.id() == id)
    }

    /// All pools on devices.
    pub fn disk_pools(&self) -> impl Iterator<Item = &DiskPool<M>> {
        self.kinds().filter_map(Kind::disk)
    }

    /// How full each pool is.
    pub fn usages(&self) -> impl Iterator<Item = (PoolId, PoolUsage)> {
        self.kinds().map(|pool| (pool.id(), pool.usage()))
    }

    fn kinds(&self) -> impl Iterator<Item = &Kind<M>> {
        self.pools.iter().map(|placed| &placed.pool)
    }

    /// The next operation that a pool asks of its device. To be asked for until there is none after each [`Store::poll`].
    pub fn next_disk_op(&mut self) -> Option<(PoolId, DiskOp)> {
        let mut pools = self.pools.iter_mut().filter_map(|placed| placed.pool.disk_mut());
        pools.find_map(|pool| Some((pool.id(), pool.next_op()?)))
    }

    /// An operation on a device has ended.
    pub fn disk_done(&mut self, pool: PoolId, done: DiskDone) {
        if let Some(pool) = self.disk_pool_mut(pool) {
            pool.op_done(done);
        }
    }

    /// Where on its pool's device the data of a block lies, in bytes; `None` if it holds none, or lives in memory. True until
    /// the block is written again. For drills.
    pub fn place_on_device(&self, volume: VolumeId, lba: Lba) -> Option<u64> {
        let (placed, index) = self.at(volume)?;
        placed.pool.disk()?.place_on_device(index, lba)
    }

    /// Flips a bit of the tuple of a block on a device beneath its checksum. `false` if there is none. For drills.
    pub fn damage_tuple(&mut self, volume: VolumeId, lba: Lba, bit: usize) -> bool {
        match self.at_mut(volume) {
            Some((Kind::Disk(pool), index)) => pool.damage_tuple(index, lba, bit),
            Some((Kind::Memory(_), _)) | None => false,
        }
    }

    /// All volumes with the pools they are in.
    pub fn volumes(&self) -> impl Iterator<Item = (PoolId, VolumeState)> {
        self.kinds().flat_map(|pool| {
            let id = pool.id();
            pool.volumes().into_iter().map(move |volume| (id, volume))
        })
    }

    /// Makes an empty volume without a name. Errors as of [`Self::create_named_volume`].
    pub fn create_volume(&mut self, pool: PoolId, spec: &VolumeSpec) -> Result<(), PoolError> {
        self.create_named_volume(pool, spec, "")
    }

    /// Makes an empty volume; `name` is what a pool on a device remembers. Errors as of [`MemoryPool::create_volume`] and
    /// [`DiskPool::create_volume`], and [`PoolError::NoPool`].
    pub fn create_named_volume(
        &mut self,
        pool: PoolId,
        spec: &VolumeSpec,
        name: &str,
    ) -> Result<(), PoolError> {
        if self.place(spec.id).is_some() {
            return Err(PoolError::VolumeExists(spec.id));
        }
        let placed = self.pools.iter_mut().find(|placed| placed.pool.id() == pool);
        placed.ok_or(PoolError::NoPool(pool))?.pool.create_volume(spec, name)?;
        self.reindex();
        Ok(())
    }

    /// Makes a volume longer. Errors as of [`MemoryPool::grow_volume`] and [`DiskPool::grow_volume`].
    pub fn grow_volume(&mut self, volume: VolumeId, block_count: u64) -> Result<(), PoolError> {
        let (pool, _) = self.at_mut(volume).ok_or(PoolError::NoVolume(volume))?;
        pool.grow_volume(volume, block_count)
    }

    /// Deletes a volume. Errors as of [`MemoryPool::delete_volume`] and [`DiskPool::delete_volume`].
    pub fn delete_volume(&mut self, volume: VolumeId) -> Result<(), PoolError> {
        let (pool, _) = self.at_mut(volume).ok_or(PoolError::NoVolume(volume))?;
        pool.delete_volume(volume)
    }

    /// Whether [`Store::poll`] has anything to give or to do.
    pub fn has_work(&self) -> bool {
        !self.done.is_empty() || !self.waiting.is_empty() || self.kinds().any(Kind::has_work)
    }

    fn reindex(&mut self) {
        self.last.set(None);
        self.index.clear();
        for (pool, placed) in self.pools.iter().enumerate() {
            let places = placed.pool.places().into_iter();
            self.index.extend(places.map(|(id, volume)| (id, Place { pool, volume })));
        }
        self.index.sort_unstable_by_key(|(id, _)| *id);
    }

    /// Where a volume is, or one that was deleted while somebody holds slots of it.
    fn place(&self, id: VolumeId) -> Option<Place> {
        let place = match self.last.get() {
            Some((last, place)) if last == id => place,
            _ => {
                let found = self.index.binary_search_by_key(&id, |(id, _)| *id).ok()?;
                let (_, place) = *self.index.get(found)?;
                self.last.set(Some((id, place)));
                place
            }
        };
        self.pools.get(place.pool)?.pool.is_at(place.volume, id).then_some(place)
    }

    fn at(&self, id: VolumeId) -> Option<(&Placed<M>, VolumeIndex)> {
        let Place { pool, volume } = self.place(id)?;
        Some((self.pools.get(pool)?, volume))
    }

    fn at_mut(&mut self, id: VolumeId) -> Option<(&mut Kind<M>, VolumeIndex)> {
        let Place { pool, volume } = self.place(id)?;
        Some((&mut self.pools.get_mut(pool)?.pool, volume))
    }

    fn in_memory(&self, id: VolumeId) -> Option<(&MemoryPool<M>, VolumeIndex)> {
        let (placed, index) = self.at(id)?;
        Some((placed.pool.memory()?, index))
    }

    fn in_memory_mut(&mut self, id: VolumeId) -> Option<(&mut MemoryPool<M>, VolumeIndex)> {
        let (pool, index) = self.at_mut(id)?;
        Some((pool.memory_mut()?, index))
    }

    /// Asks for the words of the map that an operation will look at.
    fn prefetch_map(&self, op: &StoreOp) {
        let (volume, lba, blocks) = match op {
            StoreOp::Read { volume, lba, blocks, .. } => (*volume, *lba, blocks.as_usize()),
            StoreOp::Publish { volume, lba, slots, .. } => (*volume, *lba, slots.len()),
            StoreOp::Deallocate { .. } | StoreOp::Flush { .. } => return,
        };
        if let Some((pool, index)) = self.in_memory(volume) {
            pool.prefetch_map(index, lba, blocks);
        }
    }

    /// Asks for what the words of the map point to, for all operations that wait and for which that has not been done.
    fn look_up(&mut self) {
        let mut room = self.bytes_ahead;
        for op in self.waiting.iter().skip(self.looked_up) {
            match op {
                StoreOp::Read { volume, lba, blocks, .. } => {
                    if let Some((pool, index)) = self.in_memory(*volume) {
                        pool.prefetch_blocks(index, *lba, blocks.as_usize(), &mut room);
                    }
                }
                StoreOp::Publish { volume, lba, slots, .. } => {
                    if let Some((pool, index)) = self.in_memory(*volume) {
                        pool.prefetch_superseded(index, *lba, slots.len());
                    }
                }
                StoreOp::Deallocate { .. } | StoreOp::Flush { .. } => {}
            }
        }
        self.bytes_ahead = room;
        self.looked_up = self.waiting.len();
    }

    /// Carries out the operation that waits longest. `false` if there is none.
    fn carry_out_next(&mut self) -> bool {
        self.look_up();
        let Some(op) = self.waiting.pop_front() else { return false };
        self.looked_up -= 1;
        if self.waiting.is_empty() {
            self.bytes_ahead = BYTES_AHEAD_MAX;
        }
        match op {
            // Published words are as durable as this medium gets.
            StoreOp::Publish { token, volume, lba, slots, durable: _ } => {
                let result = match self.in_memory_mut(volume) {
                    Some((pool, index)) => pool.publish(index, lba, &slots),
                    None => Err(StoreError::NoVolume),
                };
                self.complete(token, slots, result);
            }
            StoreOp::Read { token, volume, lba, blocks, mut slots } => {
                let result = match self.in_memory_mut(volume) {
                    Some((pool, index)) => pool.read(index, lba, blocks, &mut slots),
                    None => Err(StoreError::NoVolume),
                };
                self.complete(token, slots, result);
            }
            StoreOp::Deallocate { token, volume, lba, blocks, slots } => match self.in_memory_mut(volume) {
                Some((pool, index)) => pool.deallocate(index, lba, blocks, token, slots),
                None => self.complete(token, slots, Err(StoreError::NoVolume)),
            },
            StoreOp::Flush { token, volume, slots } => {
                let there = self.geometry(volume).is_some();
                self.complete(token, slots, if there { Ok(()) } else { Err(StoreError::NoVolume) });
            }
        }
        true
    }

    fn complete(&mut self, token: u32, slots: Vec<SlotRef>, result: Result<(), StoreError>) {
        self.done.push_back(StoreDone { token, slots, result });
    }
}

impl<M: PoolMemory> Store for Stores<M> {
    fn geometry(&self, volume: VolumeId) -> Option<Geometry> {
        let (placed, index) = self.at(volume)?;
        placed.pool.geometry(index)
    }

    fn usage(&self, volume: VolumeId) -> Option<Usage> {
        let (placed, index) = self.at(volume)?;
        placed.pool.volume_usage(index)
    }

    fn reserve(
        &mut self,
        volume: VolumeId,
        lba: Lba,
        blocks: BlockCount,
        slots: &mut Vec<SlotRef>,
    ) -> Result<(), StoreError> {
        let (pool, index) = self.at_mut(volume).ok_or(StoreError::NoVolume)?;
        let reserved = pool.reserve(index, lba, blocks, slots);
        if reserved != Err(StoreError::Busy) || self.waiting.is_empty() {
            return reserved;
        }
        // What waits may free slots: those of overwritten blocks.
        while self.carry_out_next() {}
        let (pool, index) = self.at_mut(volume).ok_or(StoreError::NoVolume)?;
        pool.reserve(index, lba, blocks, slots)
    }

    fn unreserve(&mut self, volume: VolumeId, slots: &[SlotRef]) {
        if let Some((pool, index)) = self.at_mut(volume) {
            pool.unreserve(index, slots);
        }
    }

    fn data_mut(&mut self, volume: VolumeId, slot: SlotRef) -> Option<&mut [u8]> {
        let (pool, index) = self.at_mut(volume)?;
        pool.data_mut(index, slot)
    }

    fn set_record(&mut self, volume: VolumeId, slot: SlotRef, record: &BlockRecord) {
        if let Some((pool, index)) = self.at_mut(volume) {
            pool.set_record(index, slot, record);
        }
    }

    fn data(&self, volume: VolumeId, slot: SlotRef) -> Option<&[u8]> {
        let (placed, index) = self.at(volume)?;
        placed.pool.data(index, slot)
    }

    fn record(&self, volume: VolumeId, slot: SlotRef) -> BlockRecord {
        match self.at(volume) {
            Some((placed, index)) => placed.pool.record(index, slot),
            None => BlockRecord::hole(),
        }
    }

    fn location(&self, volume: VolumeId, slot: SlotRef) -> Option<Location> {
        let (placed, index) = self.at(volume)?;
        Some(Location { region: placed.region, offset: placed.pool.data_offset(index, slot)? })
    }

    fn submit(&mut self, op: StoreOp) {
        if let Some((Kind::Disk(pool), index)) = self.at_mut(volume_of(&op)) {
            return begin(pool, index, op);
        }
        self.look_up();
        self.prefetch_map(&op);
        self.waiting.push_back(op);
    }

    fn poll(&mut self) -> Option<StoreDone> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Some(done);
            }
            if !self.carry_out_next() {
                break;
            }
        }
        for placed in &mut self.pools {
            if let Some(done) = placed.pool.take_finished() {
                return Some(done);
            }
        }
        for placed in &mut self.pools {
            placed.pool.work();
        }
        self.pools.iter_mut().find_map(|placed| placed.pool.take_finished())
    }

    fn unpin(&mut self, volume: VolumeId, slots: &[SlotRef]) {
        if let Some((pool, index)) = self.at_mut(volume) {
            pool.unpin(index, slots);
        }
    }
}

#[cfg(test)]
impl<M: PoolMemory> Stores<M> {
    /// The only pool, as it is: what another process would find.
    pub(crate) fn into_pool(mut self) -> MemoryPool<M> {
        assert_eq!(self.pools.len(), 1);
        let Kind::Memory(pool) = self.pools.remove(0).pool else { panic!("a pool in memory") };
        *pool
    }
}
