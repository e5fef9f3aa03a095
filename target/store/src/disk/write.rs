//! Changes on their way into the log, in the order of their coming.
//!
//! A Publish finds its frames filled. Here each cell gets a slot and an image; data and image go into one batch of the log, and
//! when that is complete, into the map. What it supersedes is kept until its successor is durable.

use std::ops::Range;

use holdfast_block::{BlockRecord, Provenance, SlotRef, StoreError};

use super::arena::{Frame, place_of};
use super::format::{
    BlockState, CellShape, JournalBuilder, Page, RECORD_HEAD_LEN, Record, WRITER_RECORD_LEN, WRITER_UNKNOWN,
    checksum_of,
};
use super::image::Image;
use super::io::DiskError;
use super::log::{Batch, End};
use super::pool::{DiskPool, Failure};
use super::room::Growth;
use super::space::Run;
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// A change that is not in the log yet, or only in part.
#[derive(Debug)]
pub(super) enum Pending {
    /// Blocks are written.
    Publish(Publish),
    /// Blocks become holes.
    Trim(super::trim::Trim),
    /// A volume is made or grows.
    Put { volume: VolumeIndex, change: u64 },
    /// A volume is deleted.
    Delete { volume: VolumeIndex, change: u64 },
}

/// Blocks on their way.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) token: u32,
    pub(super) volume: VolumeIndex,
    pub(super) lba: u64,
    pub(super) slots: Vec<SlotRef>,
    pub(super) durable: bool,
    /// Blocks that are in the log.
    pub(super) placed: usize,
    /// What it adds: counts against the pool's room until it is applied. `None` while it is open whether it fits.
    pub(super) growth: Option<Growth>,
}

impl Pending {
    /// What is due when it has ended, though not all of it is in the log.
    pub(super) fn into_end(self) -> End {
        match self {
            Pending::Publish(Publish { token, volume, slots, durable, growth, .. }) => {
                End::Publish { token, slots, durable, growth: growth.unwrap_or_default(), volume }
            }
            Pending::Trim(trim) => trim.into_end(),
            Pending::Put { volume, change } | Pending::Delete { volume, change } => {
                End::Change { change, volume }
            }
        }
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is in the log.
    Done,
    /// It has to wait: for slots, for room in the log, or for old contents.
    Wait,
    /// It cannot be done.
    Fail(StoreError),
}

impl<A: PoolMemory> DiskPool<A> {
    /// Takes a Publish in.
    pub(crate) fn publish(
        &mut self,
        token: u32,
        volume: VolumeIndex,
        lba: u64,
        slots: Vec<SlotRef>,
        durable: bool,
    ) {
        let admitted = self.admit_write(volume, lba, &slots);
        match admitted {
            Ok(growth) => {
                match growth {
                    Some(growth) => self.room.promise(growth),
                    None => self.room.decide_later(),
                }
                let publish = Publish { token, volume, lba, slots, durable, placed: 0, growth };
                self.queue.push_back(Pending::Publish(publish));
            }
            Err(error) => {
                self.take_lent_back(volume, &slots);
                self.finish(token, slots, Err(error));
            }
        }
    }

    /// Puts what waits into the log as far as possible, and issues it.
    pub(super) fn pump(&mut self) {
        if self.has_failed() || !self.state_again() {
            return;
        }
        while let Some(mut pending) = self.queue.pop_front() {
            let step = match &mut pending {
                Pending::Publish(publish) => self.place_publish(publish),
                Pending::Trim(trim) => self.place_trim(trim),
                Pending::Put { volume, change } => self.place_put(*volume, *change),
                Pending::Delete { volume, change } => self.place_delete(*volume, *change),
            };
            match step {
                Step::Done => {}
                Step::Wait => {
                    self.queue.push_front(pending);
                    break;
                }
                Step::Fail(error) => self.give_up(pending, error),
            }
        }
        if self.log.is_due() && !self.is_head_placed_in_part() {
            self.close_batch(false);
        }
    }

    pub(super) fn is_head_placed_in_part(&self) -> bool {
        match self.queue.front() {
            Some(Pending::Publish(publish)) => publish.placed > 0,
            Some(Pending::Trim(trim)) => trim.is_placed_in_part(),
            Some(Pending::Put { .. } | Pending::Delete { .. }) | None => false,
        }
    }

    fn place_publish(&mut self, publish: &mut Publish) -> Step {
        let Some(found) = self.volumes.get(publish.volume) else { return Step::Fail(StoreError::NoVolume) };
        let shape = found.shape;
        if !found.is_settled() {
            // A cell of a volume that a power cut may take away again would find another in its place.
            self.want_flush();
            return Step::Wait;
        }
        let cells = cells_of(shape, publish.lba, publish.slots.len() as u64);
        if publish.growth.is_none() {
            match self.decide(publish, cells.clone()) {
                Step::Done => {}
                other => return other,
            }
        }
        if publish.placed == 0 && shape == CellShape::Small {
            match self.edges_ready(publish.volume, publish.lba, publish.slots.len()) {
                Step::Done => {}
                other => return other,
            }
        }
        if publish.placed == 0 {
            // One that is placed in part keeps its batch open: there must be slots for the rest.
            let kept = self.room.kept_for_checkpoint(self.tree.pages());
            if self.space.free().saturating_sub(kept) < cells.end - cells.start {
                self.want_slots();
                return if self.may_get_slots() { Step::Wait } else { Step::Fail(StoreError::NoRoom) };
            }
            self.begin_afresh_for(shape, cells);
        }
        while publish.placed < publish.slots.len() {
            let lba = publish.lba + publish.placed as u64;
            let left = publish.slots.get(publish.placed..).unwrap_or_default();
            let step = match shape {
                CellShape::Large => self.place_large(publish.volume, lba, left, publish.placed > 0),
                CellShape::Small => self.place_small(publish.volume, lba, left, publish.placed > 0),
            };
            match step {
                Ok(placed) => publish.placed += placed,
                Err(step) => return step,
            }
        }
        let Publish { token, volume, durable, growth, .. } = *publish;
        let slots = std::mem::take(&mut publish.slots);
        let growth = growth.unwrap_or_default();
        self.push_end(End::Publish { token, slots, durable, growth, volume });
        Step::Done
    }

    /// Issues the open batch if an operation would not fit into what is left of it: else batches of long operations would
    /// hang together without end, and none could be applied before the last.
    fn begin_afresh_for(&mut self, shape: CellShape, cells: Range<u64>) {
        let needed = usize::try_from(cells.end - cells.start).unwrap_or(usize::MAX);
        let needed = needed.saturating_mul(shape.image_len()).saturating_add(RECORD_HEAD_LEN);
        if self
            .log
            .open
            .as_ref()
            .is_some_and(|open| !open.batch.builder.is_empty() && open.batch.builder.free() < needed)
        {
            self.close_batch(false);
        }
    }

    /// Places 4096-byte blocks, as many as slots in a row allow. `continues` tells whether the operation has a part in the
    /// log already.
    fn place_large(
        &mut self,
        volume: VolumeIndex,
        cell: u64,
        slots: &[SlotRef],
        continues: bool,
    ) -> Result<usize, Step> {
        let mut run = Run { first: 0, len: 0 };
        let mut placed = 0;
        for (slot, cell) in slots.iter().zip(cell..) {
            let Some((frame, _)) = place_of(*slot) else { break };
            let record = self.arena.record(*slot);
            let mut image = Image::hole(CellShape::Large);
            let state = state_of(record.provenance);
            let writer = self.writer_index(&record);
            image.set_block(0, state, writer, tuple_of(&record));
            if state.has_data() && run.len == 0 {
                if placed > 0 {
                    break;
                }
                let Some(taken) = self.take_slots(slots.len()) else { return Err(Step::Wait) };
                run = taken;
            }
            let opened = self.open_for(volume, cell, CellShape::Large, &[writer], continues || placed > 0);
            if !opened {
                break;
            }
            if state.has_data() {
                self.seal(&mut image, frame, run.first, volume, cell);
                self.log.write(frame, run.first);
                run = Run { first: run.first + 1, len: run.len - 1 };
            }
            self.push_cell(volume, cell, &image);
            placed += 1;
        }
        for slot in (run.first..).take(usize::try_from(run.len).unwrap_or(0)) {
            self.space.give_back(slot);
        }
        if placed == 0 { Err(Step::Wait) } else { Ok(placed) }
    }

    /// Sees to it that a batch is open. `false` while the log has no room, which is seen to.
    pub(super) fn open_batch(&mut self) -> bool {
        let open = self.log.open();
        if !open {
            self.want_journal();
        }
        open
    }

    /// Puts a record into the open batch, or into the next one. `continues` tells whether its operation has a part in the log
    /// already.
    pub(super) fn push_record(
        &mut self,
        continues: bool,
        push: impl Fn(&mut JournalBuilder, &mut Page) -> bool,
    ) -> Result<(), Step> {
        loop {
            if !self.open_batch() {
                return Err(Step::Wait);
            }
            let Some(open) = &mut self.log.open else { return Err(Step::Wait) };
            let Some(block) = self.arena.frame_mut(open.batch.frame) else { return Err(Step::Wait) };
            if push(&mut open.batch.builder, block) {
                return Ok(());
            }
            self.close_batch(continues);
        }
    }

    /// Sees to it that the open batch has room for a cell, and that it states the writers that the cell names.
    pub(super) fn open_for(
        &mut self,
        volume: VolumeIndex,
        cell: u64,
        shape: CellShape,
        writers: &[u16],
        continues: bool,
    ) -> bool {
        loop {
            if !self.open_batch() {
                return false;
            }
            let Some(open) = &mut self.log.open else { return false };
            let Some(block) = self.arena.frame_mut(open.batch.frame) else { return false };
            let durable = self.log.durable;
            let unstated =
                |index: &&u16| self.writers.needs_statement(**index, durable) && !open.stated.contains(index);
            let needed = writers.iter().filter(unstated).count() * WRITER_RECORD_LEN;
            let place = volume.as_u32();
            let room = open.batch.builder.cells_free(place, cell, shape) > 0 && needed == 0;
            if room || open.batch.builder.free() >= needed + RECORD_HEAD_LEN + shape.image_len() {
                for index in writers {
                    if self.writers.needs_statement(*index, durable)
                        && !open.stated.contains(index)
                        && let Some(host) = self.writers.host(*index)
                    {
                        let stated = open.batch.builder.push_writer(block, *index, host);
                        debug_assert!(stated, "room was seen to");
                        self.writers.stated(*index, open.batch.number);
                        open.stated.push(*index);
                    }
                }
                return true;
            }
            self.close_batch(continues);
        }
    }

    /// Sets slot and checksum of an image whose data is in a frame.
    pub(super) fn seal(&self, image: &mut Image, frame: Frame, slot: u64, volume: VolumeIndex, cell: u64) {
        let id = self.volumes.get(volume).map_or(0, |found| found.spec.id.get());
        image.seal(slot, checksum_of(self.arena.frame(frame)), id, cell);
    }

    /// Free slots in a row, at most `wanted`, leaving alone what the next checkpoint needs. Asks for more if there is none.
    pub(super) fn take_slots(&mut self, wanted: usize) -> Option<Run> {
        let kept = self.room.kept_for_checkpoint(self.tree.pages());
        let spare = self.space.free().saturating_sub(kept).min(wanted as u64);
        let run = if spare > 0 { self.space.take_run(spare) } else { None };
        if run.is_none() {
            self.want_slots();
        }
        run
    }

    pub(super) fn push_cell(&mut self, volume: VolumeIndex, cell: u64, image: &Image) {
        let Some(open) = &mut self.log.open else { return };
        let Some(block) = self.arena.frame_mut(open.batch.frame) else { return };
        let pushed = open.batch.builder.push_cell(block, volume.as_u32(), cell, image.get());
        debug_assert!(pushed, "room was seen to");
    }

    /// Issues the open batch.
    pub(super) fn close_batch(&mut self, continues: bool) {
        let head = self.log_head();
        self.log.close(&mut self.arena, head, continues, &mut self.ops);
    }

    pub(super) fn push_end(&mut self, end: End) {
        match &mut self.log.open {
            Some(open) => open.batch.ends.push(end),
            None => debug_assert!(false, "an operation ends in an open batch"),
        }
    }

    /// The index of whoever wrote a block.
    pub(super) fn writer_index(&mut self, record: &BlockRecord) -> u16 {
        if record.provenance == Provenance::Hole {
            // A Copy of a hole: nothing is kept of one.
            return 0;
        }
        record.writer.map_or(WRITER_UNKNOWN, |writer| self.writers.index_of(writer))
    }

    /// A write of a batch has ended.
    pub(super) fn write_done(&mut self, number: u64, journal: bool, result: Result<(), DiskError>) {
        let Some(batch) = self.log.flying(number) else { return };
        batch.left -= 1;
        if result.is_err() {
            batch.failed = true;
            if journal {
                self.fail(Failure::Journal);
            }
        }
        self.settle();
    }

    /// Applies what is complete, in order.
    pub(super) fn settle(&mut self) {
        while let Some(batches) = self.log.group_done() {
            let mut group = self.log.flying.iter().take(batches);
            let failed = group.any(|batch| batch.failed || self.is_built_on_failed(batch));
            let mut ends = std::mem::take(&mut self.ends);
            for _ in 0..batches {
                let Some(mut batch) = self.log.pop() else { break };
                if self.has_failed() {
                    // What of it is on the device is not known: the map stays as it was.
                } else {
                    self.apply(&batch, failed);
                }
                self.log.applied = batch.number;
                ends.append(&mut batch.ends);
                self.log.recycle(batch);
            }
            let applied = self.log.applied;
            for end in ends.drain(..) {
                self.end(end, applied, failed);
            }
            self.ends = ends;
        }
    }

    /// Takes over what a batch says. If data of its group could not be written, its cells stay as they were, to be stated
    /// again; everything else is as the journal has it.
    fn apply(&mut self, batch: &Batch, failed: bool) {
        let DiskPool { arena, tree, volumes, dead, read_numbers, partials, restate, .. } = self;
        let (number, read) = (batch.number, read_numbers.last());
        let is_forgetful = holdfast_mutant::active("store-failed-batch-forgets-records");
        for record in batch.builder.records(arena.frame(batch.frame)) {
            if failed && is_forgetful && !matches!(record, Record::Cells { .. }) {
                continue;
            }
            let place = record.volume().and_then(VolumeIndex::from_u32);
            let Some((index, found)) = place.and_then(|index| Some((index, volumes.get_mut(index)?))) else {
                continue;
            };
            match record {
                Record::Cells { .. } => {
                    for (cell, image) in record.cells() {
                        partials.applied(index, cell, number);
                        if failed {
                            // What is only stated again is so, and its slot is in use.
                            let now = tree.get(index, cell);
                            if now.map_or(!image.is_hole(), |now| now != image.bytes()) {
                                restate.add(index, cell, image.slot());
                            }
                            continue;
                        }
                        let old = tree.set(index, cell, image.bytes());
                        if let Some(old) = old.filter(|old| *old != image.slot()) {
                            dead.push(old, number, read);
                        }
                    }
                }
                Record::Trim { first_cell, cells, .. } => {
                    let end = first_cell.saturating_add(cells);
                    tree.trim(index, first_cell..end, number, &mut |slot| {
                        dead.push(slot, number, read);
                    });
                }
                Record::DeleteVolume { .. } => {
                    tree.detach(index, number);
                    found.gone = Some(number);
                }
                Record::PutVolume { .. } => found.on_record = true,
                Record::Writer { .. } => {}
            }
        }
        partials.trims_applied(number);
        self.note_emptied(number);
        if failed {
            self.hold_back(number);
        }
    }

    /// An operation whose batches are complete.
    pub(super) fn end(&mut self, end: End, number: u64, failed: bool) {
        let result = if self.has_failed() { Err(StoreError::WriteFault) } else { Ok(()) };
        match end {
            End::Publish { token, slots, durable, growth, volume } => {
                self.room.keep_promise(growth);
                self.take_lent_back(volume, &slots);
                match result {
                    Ok(()) if failed => self.restate.end_later(token, slots),
                    Ok(()) if durable && !holdfast_mutant::active("store-durable-write-not-flushed") => {
                        self.after_flush(number, token, slots);
                    }
                    _ => self.finish(token, slots, result),
                }
            }
            End::Trim { token, slots, frames } => {
                frames.into_iter().for_each(|frame| self.arena.give_back(frame));
                self.emptying.retain(|trimmed| trimmed.token != token);
                let failed = failed && !holdfast_mutant::active("store-failed-batch-forgets-records");
                match result {
                    Ok(()) if failed => self.restate.end_later(token, slots),
                    _ => self.finish(token, slots, result),
                }
            }
            End::Change { change, volume } => self.volumes.changed(change, volume, number),
            End::Restated { slots } => self.restated(slots, number),
            End::Failed { token, slots } => self.finish(token, slots, Err(StoreError::WriteFault)),
        }
    }

    /// A change cannot be carried out; what of it is in the log already stays.
    fn give_up(&mut self, pending: Pending, error: StoreError) {
        match pending {
            Pending::Publish(Publish { token, volume, slots, growth, .. }) => {
                match growth {
                    Some(growth) => self.room.keep_promise(growth),
                    None => self.room.decided(),
                }
                self.take_lent_back(volume, &slots);
                self.finish(token, slots, Err(error));
            }
            Pending::Trim(mut trim) => {
                trim.take_frames().into_iter().for_each(|frame| self.arena.give_back(frame));
                self.emptying.retain(|trimmed| trimmed.token != trim.token);
                self.finish(trim.token, trim.slots, Err(error));
            }
            Pending::Put { .. } | Pending::Delete { .. } => {}
        }
    }

    /// All that waits learns that nothing is written any more.
    pub(super) fn fail_queue(&mut self) {
        while let Some(pending) = self.queue.pop_front() {
            self.give_up(pending, StoreError::WriteFault);
        }
    }
}

/// The cells that some blocks lie in.
pub(super) fn cells_of(shape: CellShape, lba: u64, blocks: u64) -> Range<u64> {
    let per_cell = shape.blocks_per_cell();
    lba / per_cell..lba.saturating_add(blocks).div_ceil(per_cell)
}

pub(super) fn state_of(provenance: Provenance) -> BlockState {
    match provenance {
        Provenance::Hole => BlockState::Hole,
        Provenance::Inserted => BlockState::Inserted,
        Provenance::HostGood => BlockState::HostGood,
        Provenance::HostBadGuard => BlockState::HostBadGuard,
        Provenance::Uncorrectable => BlockState::Uncorrectable,
    }
}

/// What an image keeps of a block's tuple: nothing of one that cannot be read.
pub(super) fn tuple_of(record: &BlockRecord) -> &[u8] {
    if state_of(record.provenance).has_data() { &record.tuple } else { &[] }
}
