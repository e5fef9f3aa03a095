//! The volumes of a pool. A change takes effect at once and goes into the log; it counts once its journal block is durable,
//! and nothing is written to a volume before that.

use std::collections::VecDeque;

use holdfast_block::{StoreError, VolumeId};

use super::format::{CellShape, JournalBuilder, Name, Page, PagePointer, VolumeEntry};
use super::log::End;
use super::pool::DiskPool;
use super::tree::Tree;
use super::write::{Pending, Step};
use crate::memory::VolumeIndex;
use crate::{PoolError, PoolMemory, VOLUMES_PER_POOL_MAX, VolumeSpec, VolumeState};

/// A volume.
#[derive(Debug)]
pub(super) struct DiskVolume {
    pub(super) spec: VolumeSpec,
    pub(super) name: Name,
    pub(super) shape: CellShape,
    /// Blocks lent to commands.
    pub(super) held: u64,
    /// Changes of it that are not durable.
    unsettled: u32,
    /// A journal block that is in the map, or a checkpoint, tells of it.
    pub(super) on_record: bool,
    /// It is being deleted: nobody sees it any more.
    deleted: bool,
    /// The journal block that has deleted it.
    pub(super) gone: Option<u64>,
}

/// All volumes by place, and what becomes of changes.
#[derive(Debug)]
pub(super) struct DiskVolumes {
    places: Vec<Option<DiskVolume>>,
    /// Places of deleted volumes, with the journal block that has deleted them. Records name a volume by its place alone, so
    /// nobody gets one of these before a recovery would begin behind that block.
    resting: Vec<(VolumeIndex, u64)>,
    /// Places of volumes that are being deleted.
    leaving: Vec<VolumeIndex>,
    /// Number of the last change so far.
    asked: u64,
    /// Changes that are in the log, with the number of their block.
    logged: VecDeque<(u64, u64, VolumeIndex)>,
    /// The last change that is durable, with all before it.
    pub(super) synced: u64,
}

impl DiskVolumes {
    pub(super) fn new() -> DiskVolumes {
        let mut places = Vec::new();
        places.resize_with(VOLUMES_PER_POOL_MAX, || None);
        DiskVolumes {
            places,
            resting: Vec::new(),
            leaving: Vec::new(),
            asked: 0,
            logged: VecDeque::new(),
            synced: 0,
        }
    }

    /// A volume that is there, or one that is being deleted.
    pub(super) fn get(&self, index: VolumeIndex) -> Option<&DiskVolume> {
        self.places.get(index.as_usize())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: VolumeIndex) -> Option<&mut DiskVolume> {
        self.places.get_mut(index.as_usize())?.as_mut()
    }

    /// A volume that is there.
    pub(super) fn present(&self, index: VolumeIndex) -> Option<&DiskVolume> {
        self.get(index).filter(|volume| !volume.deleted)
    }

    /// Takes up a volume from a checkpoint or the journal.
    pub(super) fn load(&mut self, index: VolumeIndex, volume: Option<DiskVolume>) {
        if let Some(place) = self.places.get_mut(index.as_usize()) {
            *place = volume;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (VolumeIndex, &DiskVolume)> {
        VolumeIndex::all().zip(&self.places).filter_map(|(index, volume)| Some((index, volume.as_ref()?)))
    }

    fn find(&self, id: VolumeId) -> Option<VolumeIndex> {
        self.iter().find(|(_, volume)| volume.spec.id == id).map(|(index, _)| index)
    }

    /// A change is in the journal block with this number, which is complete.
    pub(super) fn changed(&mut self, change: u64, volume: VolumeIndex, number: u64) {
        self.logged.push_back((change, number, volume));
    }

    /// Journal blocks up to this number are durable.
    pub(super) fn durable_through(&mut self, durable: u64) {
        while let Some((change, _, index)) = self.logged.pop_front_if(|(_, number, _)| *number <= durable) {
            self.synced = change;
            if let Some(volume) = self.get_mut(index) {
                volume.unsettled = volume.unsettled.saturating_sub(1);
            }
        }
    }

    /// Whether changes wait for a flush.
    pub(super) fn has_unsettled(&self) -> bool {
        !self.logged.is_empty()
    }

    /// Forgets deleted volumes that nobody refers to any more.
    pub(super) fn forget_gone(&mut self, durable: u64) {
        let DiskVolumes { places, resting, leaving, .. } = self;
        leaving.retain(|index| {
            let over = |volume: &mut DiskVolume| {
                volume.gone.is_some_and(|number| number <= durable)
                    && volume.held == 0
                    && volume.unsettled == 0
            };
            let gone = places.get_mut(index.as_usize()).and_then(|place| place.take_if(over));
            let number = gone.and_then(|volume| volume.gone);
            resting.extend(number.map(|number| (*index, number)));
            number.is_none()
        });
    }

    /// A recovery would begin with this block of the journal.
    pub(super) fn checkpointed(&mut self, start: u64) {
        self.resting.retain(|(_, number)| *number >= start);
    }

    /// A place for a new volume.
    fn vacant(&self) -> Option<VolumeIndex> {
        let rests = |index: &VolumeIndex| self.resting.iter().any(|(resting, _)| resting == index);
        VolumeIndex::all().find(|index| self.get(*index).is_none() && !rests(index))
    }
}

impl DiskVolume {
    pub(super) fn new(spec: VolumeSpec, name: Name, shape: CellShape) -> DiskVolume {
        DiskVolume { spec, name, shape, held: 0, unsettled: 0, on_record: false, deleted: false, gone: None }
    }

    /// Whether all changes of it are durable.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// Whether it is in the log, and not gone again.
    pub(super) fn is_on_record(&self) -> bool {
        self.on_record && self.gone.is_none()
    }

    /// Its entry in the table.
    pub(super) fn entry(&self, index: VolumeIndex, tree: &Tree) -> VolumeEntry {
        let (height, root) = tree.written(index);
        let (cells_live, blocks_live) = if height == 0 { (0, 0) } else { self.live(index, tree) };
        VolumeEntry { height, root, cells_live, blocks_live, ..self.new_entry() }
    }

    /// Cells that are no holes, and the blocks of these cells: the last cell may be cut.
    pub(super) fn live(&self, index: VolumeIndex, tree: &Tree) -> (u64, u64) {
        let (cells, per_cell) = (tree.live(index), self.shape.blocks_per_cell());
        let end = self.shape.cells_of(self.spec.block_count);
        let is_there = end.checked_sub(1).is_some_and(|last| tree.get(index, last).is_some());
        let beyond = if is_there { end * per_cell - self.spec.block_count } else { 0 };
        (cells, (cells * per_cell).saturating_sub(beyond))
    }

    /// Its entry in the journal: what it is, without what is in it.
    fn new_entry(&self) -> VolumeEntry {
        let VolumeSpec { id, uuid, nguid, block_count, format, .. } = self.spec;
        let (name, shape, root) = (self.name, self.shape, PagePointer::NONE);
        VolumeEntry {
            id,
            uuid,
            nguid,
            name,
            shape,
            block_count,
            format,
            height: 0,
            root,
            cells_live: 0,
            blocks_live: 0,
        }
    }

    fn covers(&self, lba: u64, blocks: u64) -> bool {
        lba.checked_add(blocks).is_some_and(|end| end <= self.spec.block_count)
    }
}

impl<A: PoolMemory> DiskPool<A> {
    /// Its volumes, in no particular order.
    pub fn volumes(&self) -> impl Iterator<Item = VolumeState> {
        let there = self.volumes.iter().filter(|(_, volume)| !volume.deleted);
        there.map(|(index, volume)| VolumeState {
            spec: volume.spec,
            usage: self.volume_usage(index).unwrap_or_default(),
        })
    }

    /// What a volume was called when it was made; empty if it had no name.
    pub fn volume_name(&self, id: VolumeId) -> Option<&str> {
        let index = self.volumes.find(id)?;
        self.volumes.present(index).map(|volume| volume.name.as_str())
    }

    /// Where volumes are, for those who look them up.
    pub(crate) fn places(&self) -> impl Iterator<Item = (VolumeId, VolumeIndex)> {
        self.volumes.iter().map(|(index, volume)| (volume.spec.id, index))
    }

    /// Whether a place holds this volume, or held it while somebody holds blocks of it.
    pub(crate) fn is_at(&self, index: VolumeIndex, id: VolumeId) -> bool {
        self.volumes.get(index).is_some_and(|volume| volume.spec.id == id)
    }

    /// Makes an empty volume. It is durable when [`Self::volumes_synced`] says so.
    ///
    /// # Errors
    ///
    /// As of [`crate::MemoryPool::create_volume`], and [`PoolError::Failed`].
    pub fn create_volume(&mut self, spec: &VolumeSpec, name: &str) -> Result<(), PoolError> {
        self.may_change()?;
        spec.can_be()?;
        let block_len = u32::try_from(spec.block_len).unwrap_or(0);
        let shape = CellShape::of_block_len(block_len).ok_or(PoolError::BlockLen(spec.block_len))?;
        let name = Name::new(name).ok_or(PoolError::VolumeName)?;
        if self.volumes.find(spec.id).is_some() {
            return Err(PoolError::VolumeExists(spec.id));
        }
        let Some(index) = self.volumes.vacant() else {
            // Places of deleted volumes come back with it.
            self.checkpoint.want();
            return Err(PoolError::TableFull);
        };
        if shape == CellShape::Small {
            self.arena.keep_small_records();
        }
        self.volumes.load(index, Some(DiskVolume::new(*spec, name, shape)));
        self.tree.add(index, shape, shape.cells_of(spec.block_count));
        self.ask_for_put(index);
        Ok(())
    }

    /// Makes a volume longer; durable as of [`Self::create_volume`].
    ///
    /// # Errors
    ///
    /// As of [`crate::MemoryPool::grow_volume`], and [`PoolError::Failed`].
    pub fn grow_volume(&mut self, id: VolumeId, block_count: u64) -> Result<(), PoolError> {
        self.may_change()?;
        let index = self.volumes.find(id).ok_or(PoolError::NoVolume(id))?;
        let volume = self.volumes.get_mut(index).filter(|volume| !volume.deleted);
        let volume = volume.ok_or(PoolError::NoVolume(id))?;
        let longer = VolumeSpec { block_count, ..volume.spec };
        longer.can_be()?;
        if block_count < volume.spec.block_count {
            return Err(PoolError::BlockCount(block_count));
        }
        volume.spec = longer;
        self.tree.grow(index, volume.shape.cells_of(block_count));
        self.ask_for_put(index);
        Ok(())
    }

    /// Deletes a volume: gone at once for everybody who asks; its blocks come back bit by bit. Durable as of
    /// [`Self::create_volume`].
    ///
    /// # Errors
    ///
    /// [`PoolError::NoVolume`], [`PoolError::Failed`].
    pub fn delete_volume(&mut self, id: VolumeId) -> Result<(), PoolError> {
        self.may_change()?;
        let index = self.volumes.find(id).ok_or(PoolError::NoVolume(id))?;
        let volume = self.volumes.get_mut(index).filter(|volume| !volume.deleted);
        let volume = volume.ok_or(PoolError::NoVolume(id))?;
        volume.deleted = true;
        self.volumes.leaving.push(index);
        self.volumes.asked += 1;
        self.queue.push_back(Pending::Delete { volume: index, change: self.volumes.asked });
        Ok(())
    }

    fn ask_for_put(&mut self, index: VolumeIndex) {
        self.volumes.asked += 1;
        self.queue.push_back(Pending::Put { volume: index, change: self.volumes.asked });
    }

    /// The number of the last change of a volume that was asked for. A flush for it is seen to.
    pub fn volumes_asked(&self) -> u64 {
        self.volumes.asked
    }

    /// The last change that is durable, with all before it.
    pub fn volumes_synced(&self) -> u64 {
        self.volumes.synced
    }

    fn may_change(&self) -> Result<(), PoolError> {
        if self.has_failed() { Err(PoolError::Failed(self.identity.id)) } else { Ok(()) }
    }

    /// The volume is there and holds the range.
    pub(super) fn check_range(&self, index: VolumeIndex, lba: u64, blocks: u64) -> Result<(), StoreError> {
        match self.volumes.present(index) {
            None => Err(StoreError::NoVolume),
            Some(volume) if !volume.covers(lba, blocks) => Err(StoreError::OutOfRange),
            Some(_) => Ok(()),
        }
    }

    /// Puts a volume's entry into the log.
    pub(super) fn place_put(&mut self, volume: VolumeIndex, change: u64) -> Step {
        let Some(entry) = self.volumes.get(volume).map(DiskVolume::new_entry) else { return Step::Done };
        self.place_change(volume, change, |builder, block| {
            builder.push_volume(block, volume.as_u32(), &entry)
        })
    }

    /// Puts a volume's end into the log.
    pub(super) fn place_delete(&mut self, volume: VolumeIndex, change: u64) -> Step {
        let Some(id) = self.volumes.get(volume).map(|volume| volume.spec.id) else { return Step::Done };
        self.place_change(volume, change, |builder, block| builder.push_delete(block, volume.as_u32(), id))
    }

    fn place_change(
        &mut self,
        volume: VolumeIndex,
        change: u64,
        push: impl Fn(&mut JournalBuilder, &mut Page) -> bool,
    ) -> Step {
        if let Err(step) = self.push_record(false, push) {
            return step;
        }
        self.push_end(End::Change { change, volume });
        // From here on: what was asked for before is in the log before.
        if let Some(volume) = self.volumes.get_mut(volume) {
            volume.unsettled += 1;
        }
        Step::Done
    }
}
