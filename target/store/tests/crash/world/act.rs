//! What hosts ask for.

use std::ops::Range;

use holdfast_block::{BlockCount, Lba, Store as _, StoreError, StoreOp, VolumeId};
use holdfast_store::VolumeSpec;

use super::{Ask, Change, ChangeKind, Pending, World, pool_id};
use crate::content::{Address, What};
use crate::scenario::{self, Kind, Trouble};

/// Volumes at once.
const VOLUMES_MAX: usize = 6;

impl World {
    /// A host asks for something.
    pub(super) fn act(&mut self) -> Result<(), String> {
        let volumes: Vec<VolumeSpec> = self.model.present().collect();
        let often = self.scenario.kind == Kind::Volumes || self.scenario.trouble == Trouble::DataWriteErrors;
        let changes = if often { 80 } else { 12 };
        if volumes.is_empty() || self.rng.chance(changes) {
            return self.change_volumes(&volumes);
        }
        let spec = *self.rng.pick(&volumes);
        let id = spec.id.get();
        if self.rng.chance(self.scenario.flushes) {
            self.flush(id);
            return Ok(());
        }
        match self.rng.below(100) {
            0..58 => {
                let range = self.range(&spec, self.scenario.blocks_max);
                self.last_op += 1;
                self.publish(&spec, range, What::Data(self.last_op))
            }
            58..66 => {
                let range = self.range(&spec, self.scenario.blocks_max);
                self.last_op += 1;
                self.publish(&spec, range, What::Zeroes(self.last_op))
            }
            66..69 => {
                let range = self.range(&spec, 4);
                self.publish(&spec, range, What::Marked)
            }
            69..80 => {
                let longest = if self.rng.chance(60) { spec.block_count } else { self.scenario.blocks_max };
                let range = self.range(&spec, longest);
                self.trim(id, range);
                Ok(())
            }
            80..82 => self.reserve_in_vain(&spec),
            _ => {
                let range = self.range(&spec, self.scenario.blocks_max.min(64));
                let floors = self.model.read_floors(id, &range);
                self.read(id, range, Ask::Read { floors });
                Ok(())
            }
        }
    }

    /// Writes where nothing is yet, in long pieces.
    pub(super) fn fill_some(&mut self) -> Result<(), String> {
        let volumes: Vec<VolumeSpec> = self.model.present().collect();
        let per_cell = |spec: &VolumeSpec| 4096 / spec.block_len as u64;
        let cells: u64 = volumes.iter().map(|spec| spec.block_count / per_cell(spec)).sum();
        if cells < self.scenario.slots {
            return self.create_volume();
        }
        let spec = *self.rng.pick(&volumes);
        let cells = (spec.block_count / per_cell(&spec)).max(1);
        let first = self.rng.below(cells);
        let end = (first + 48).min(cells);
        let range = first * per_cell(&spec)..end * per_cell(&spec);
        let range = range.start.min(spec.block_count - 1)..range.end.min(spec.block_count);
        self.last_op += 1;
        self.publish(&spec, range, What::Data(self.last_op))
    }

    /// A range of blocks, often in a busy corner.
    fn range(&mut self, spec: &VolumeSpec, longest: u64) -> Range<u64> {
        let blocks = self.rng.skewed(longest.min(spec.block_count));
        let last = spec.block_count - blocks;
        let hot = match self.scenario.kind {
            Kind::Hot => 900,
            Kind::Mixed | Kind::Volumes => 500,
            Kind::Full | Kind::Checkpoints | Kind::SlowCheckpoints | Kind::SlowReads => 100,
        };
        let start =
            if self.rng.chance(hot) { self.rng.below(last.min(40) + 1) } else { self.rng.below(last + 1) };
        start..start + blocks
    }

    fn token(&mut self, volume: u64, range: Range<u64>, order: u64, ask: Ask) -> u32 {
        self.last_token += 1;
        self.pending.insert(self.last_token, Pending { volume, range, order, ask });
        self.last_token
    }

    /// Writes something.
    fn publish(&mut self, spec: &VolumeSpec, range: Range<u64>, what: What) -> Result<(), String> {
        let (volume, id) = (spec.id, spec.id.get());
        let count = BlockCount::new((range.end - range.start) as u32);
        let mut slots = Vec::new();
        let surely_there = self.model.is_surely_there(id, &range);
        match self.stores.reserve(volume, Lba(range.start), count, &mut slots) {
            Ok(()) => {}
            Err(StoreError::Busy) => return Ok(()),
            Err(StoreError::WriteFault) if self.scenario.trouble.fails_writes() => return Ok(()),
            Err(error) => return Err(format!("reserve for {range:?} of volume {id}: {error}")),
        }
        let tuple_len = spec.format.map_or(0, |format| format.tuple_len());
        for (lba, slot) in range.clone().zip(&slots) {
            let at = Address { volume: id, lba };
            let data = self.stores.data_mut(volume, *slot).ok_or("a reserved block has no data")?;
            what.fill(at, data);
            self.stores.set_record(volume, *slot, &what.record(at, tuple_len));
        }
        let durable = self.rng.chance(self.scenario.durable);
        let order = self.model.begin(id, &range, what);
        let lba = Lba(range.start);
        let token = self.token(id, range, order, Ask::Publish { what, durable, surely_there });
        self.stores.submit(StoreOp::Publish { token, volume, lba, slots, durable });
        Ok(())
    }

    /// A write that is given up before it is carried out.
    fn reserve_in_vain(&mut self, spec: &VolumeSpec) -> Result<(), String> {
        let range = self.range(spec, self.scenario.blocks_max);
        let count = BlockCount::new((range.end - range.start) as u32);
        let mut slots = Vec::new();
        if self.stores.reserve(spec.id, Lba(range.start), count, &mut slots).is_err() {
            return Ok(());
        }
        if let Some(data) = slots.first().and_then(|slot| self.stores.data_mut(spec.id, *slot)) {
            data.fill(0xee);
        }
        self.stores.unreserve(spec.id, &slots);
        Ok(())
    }

    fn trim(&mut self, id: u64, range: Range<u64>) {
        let order = self.model.begin(id, &range, What::Hole);
        let (lba, blocks) = (Lba(range.start), range.end - range.start);
        let token = self.token(id, range, order, Ask::Trim);
        self.stores.submit(StoreOp::Deallocate { token, volume: volume(id), lba, blocks, slots: Vec::new() });
    }

    fn flush(&mut self, id: u64) {
        let order = self.model.now();
        let token = self.token(id, 0..0, order, Ask::Flush);
        self.stores.submit(StoreOp::Flush { token, volume: volume(id), slots: Vec::new() });
    }

    pub(super) fn read(&mut self, id: u64, range: Range<u64>, ask: Ask) {
        let order = self.model.now();
        let (lba, blocks) = (Lba(range.start), BlockCount::new((range.end - range.start) as u32));
        let token = self.token(id, range, order, ask);
        self.stores.submit(StoreOp::Read { token, volume: volume(id), lba, blocks, slots: Vec::new() });
    }

    fn change_volumes(&mut self, volumes: &[VolumeSpec]) -> Result<(), String> {
        if volumes.is_empty() || (volumes.len() < VOLUMES_MAX && self.rng.chance(400)) {
            return self.create_volume();
        }
        let spec = *self.rng.pick(volumes);
        if self.rng.chance(500) && spec.block_count < 4000 {
            let longer = VolumeSpec { block_count: spec.block_count + self.rng.skewed(700), ..spec };
            let grown = self.stores.grow_volume(spec.id, longer.block_count);
            return self.changed(spec.id.get(), Some(longer), ChangeKind::Grow, grown.is_ok());
        }
        let deleted = self.stores.delete_volume(spec.id);
        self.changed(spec.id.get(), None, ChangeKind::Delete, deleted.is_ok())
    }

    pub(super) fn create_volume(&mut self) -> Result<(), String> {
        self.last_volume += 1;
        let id = self.last_volume;
        let longest = if self.scenario.kind.is_full() { 1200 } else { 700 };
        let blocks = self.rng.between(16, longest);
        let spec = scenario::volume(&mut self.rng, id, blocks);
        let created = self.stores.create_volume(pool_id(), &spec);
        self.changed(id, Some(spec), ChangeKind::Create, created.is_ok())
    }

    fn changed(
        &mut self,
        id: u64,
        spec: Option<VolumeSpec>,
        kind: ChangeKind,
        accepted: bool,
    ) -> Result<(), String> {
        if !accepted {
            self.note_health();
            return if self.stopped { Ok(()) } else { Err(format!("{kind:?} of volume {id} was refused")) };
        }
        let since = self.model.change(id, spec);
        let ticket = self.stores.disk_pool(pool_id()).map_or(0, |pool| pool.volumes_asked());
        self.changes.push(Change { volume: id, since, ticket, kind });
        Ok(())
    }
}

fn volume(id: u64) -> VolumeId {
    VolumeId::new(id).unwrap()
}
