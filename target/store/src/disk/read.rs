//! Reads: where the blocks lie is looked up at once, what lies there is fetched, and nothing is handed out whose checksum is
//! not what the map says.

use std::collections::VecDeque;

use holdfast_block::{BlockRecord, Lba, Provenance, SlotRef, StoreError};

use super::arena::Frame;
use super::format::{BlockState, CellRef, CellShape};
use super::gather::Gathered;
use super::image::Image;
use super::io::{DiskError, Part};
use super::pool::DiskPool;
use super::tokens::Errand;
use super::write::cells_of;
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// Part of the arena that reads may take: the rest is for payloads on their way in and for the pool itself.
const READ_SHARE: usize = 2;

/// The reads under way, and those that wait for frames.
#[derive(Debug, Default)]
pub(super) struct Reads {
    table: Vec<Fetch>,
    free: Vec<usize>,
    waiting: VecDeque<Wanted>,
    /// Frames that reads hold, or what they have read.
    frames: usize,
}

impl Reads {
    /// Whether none is under way or waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.free.len() == self.table.len()
    }
}

/// A Read that has not begun.
#[derive(Debug)]
struct Wanted {
    token: u32,
    volume: VolumeIndex,
    lba: u64,
    blocks: usize,
    slots: Vec<SlotRef>,
}

/// A Read whose blocks are being fetched.
#[derive(Debug, Default)]
struct Fetch {
    number: u64,
    token: u32,
    volume: Option<VolumeIndex>,
    volume_id: u64,
    lba: u64,
    slots: Vec<SlotRef>,
    cells: Vec<Cell>,
    /// Operations that are not done.
    left: usize,
    error: Option<StoreError>,
}

/// A cell that is being fetched.
#[derive(Debug, Clone, Copy)]
struct Cell {
    cell: u64,
    frame: Frame,
    image: Image,
}

impl<A: PoolMemory> DiskPool<A> {
    /// Takes a Read in.
    pub(crate) fn read(
        &mut self,
        token: u32,
        volume: VolumeIndex,
        lba: u64,
        blocks: usize,
        slots: Vec<SlotRef>,
    ) {
        match self.check_range(volume, lba, blocks as u64) {
            Ok(()) => self.reads.waiting.push_back(Wanted { token, volume, lba, blocks, slots }),
            Err(error) => return self.finish(token, slots, Err(error)),
        }
        self.start_waiting_reads();
    }

    /// Begins reads in their order as far as there are frames.
    pub(super) fn start_waiting_reads(&mut self) {
        while let Some(wanted) = self.reads.waiting.pop_front() {
            let shape = self.volumes.get(wanted.volume).map_or(CellShape::Large, |found| found.shape);
            let cells = cells_of(shape, wanted.lba, wanted.blocks as u64);
            let cells = usize::try_from(cells.end - cells.start).unwrap_or(usize::MAX);
            let within = self.reads.frames.saturating_add(cells) <= self.arena.len() / READ_SHARE;
            if self.arena.free() < cells || (self.reads.frames > 0 && !within) {
                self.reads.waiting.push_front(wanted);
                return;
            }
            self.start_read(wanted);
        }
    }

    fn start_read(&mut self, wanted: Wanted) {
        let Wanted { token, volume, lba, blocks, slots } = wanted;
        let Some(found) = self.volumes.present(volume) else {
            return self.finish(token, slots, Err(StoreError::NoVolume));
        };
        let place = self.reads.free.pop().unwrap_or_else(|| {
            self.reads.table.push(Fetch::default());
            self.reads.table.len() - 1
        });
        let Some(fetch) = self.reads.table.get_mut(place) else { return };
        let mut fetch = std::mem::take(fetch);
        let (shape, volume_id) = (found.shape, found.spec.id.get());
        fetch = Fetch { token, volume: Some(volume), volume_id, lba, slots, left: 0, error: None, ..fetch };
        fetch.number = self.read_numbers.begin();
        match self.look_up(&mut fetch, shape, blocks) {
            Ok(()) => self.fetch(place, &mut fetch),
            Err(error) => {
                fetch.cells.clear();
                fetch.error = Some(error);
            }
        }
        if fetch.left == 0 {
            self.end_read(place, fetch);
        } else if let Some(slot) = self.reads.table.get_mut(place) {
            *slot = fetch;
        }
    }

    /// Finds each block's cell, and lends a frame for each that has data.
    fn look_up(&mut self, fetch: &mut Fetch, shape: CellShape, blocks: usize) -> Result<(), StoreError> {
        fetch.cells.clear();
        let Some(volume) = fetch.volume else { return Err(StoreError::NoVolume) };
        let mut at: Option<(u64, Image, Option<Frame>)> = None;
        for lba in (fetch.lba..).take(blocks) {
            let (cell, sector) = shape.cell_of(lba);
            let sector = usize::try_from(sector).unwrap_or(0);
            let (image, frame) = match at {
                Some((last, image, frame)) if last == cell => (image, frame),
                _ => (Image::of(shape, self.tree.get(volume, cell)), None),
            };
            let state = image.get().state(sector);
            let frame = match state {
                BlockState::Hole => frame,
                BlockState::Uncorrectable => return Err(StoreError::Uncorrectable(Lba(lba))),
                BlockState::Lost => return Err(StoreError::Media(Lba(lba))),
                BlockState::Inserted | BlockState::HostGood | BlockState::HostBadGuard => match frame {
                    Some(frame) => Some(frame),
                    None => {
                        let frame = self.arena.take().ok_or(StoreError::Busy)?;
                        self.reads.frames += 1;
                        fetch.cells.push(Cell { cell, frame, image });
                        Some(frame)
                    }
                },
            };
            at = Some((cell, image, frame));
            let slot = match frame.filter(|_| state.has_data()) {
                Some(frame) => self.lend_read(volume, frame, sector, image.get()),
                None => SlotRef::HOLE,
            };
            fetch.slots.push(slot);
        }
        Ok(())
    }

    fn lend_read(&mut self, volume: VolumeIndex, frame: Frame, sector: usize, image: CellRef<'_>) -> SlotRef {
        let slot = self.arena.lend(frame, sector);
        let mut tuple = [0; 16];
        tuple.iter_mut().zip(image.tuple(sector)).for_each(|(to, from)| *to = *from);
        let provenance = match image.state(sector) {
            BlockState::Inserted => Provenance::Inserted,
            BlockState::HostGood => Provenance::HostGood,
            BlockState::HostBadGuard => Provenance::HostBadGuard,
            BlockState::Uncorrectable | BlockState::Lost => Provenance::Uncorrectable,
            BlockState::Hole => Provenance::Hole,
        };
        let writer = self.writers.host(image.writer(sector));
        self.arena.set_record(slot, BlockRecord { tuple, provenance, writer });
        if let Some(found) = self.volumes.get_mut(volume) {
            found.held += 1;
        }
        slot
    }

    /// Issues the reads of all cells, those of slots in a row together.
    fn fetch(&mut self, place: usize, fetch: &mut Fetch) {
        let before = self.ops.len();
        let mut run: Option<Gathered> = None;
        for Cell { frame, image, .. } in &fetch.cells {
            let slot = image.get().slot();
            if !run.as_mut().is_some_and(|run| run.add(slot, *frame)) {
                let parts = self.log.spare_parts.pop().unwrap_or_default();
                let full = run.replace(Gathered::new(slot, *frame, parts));
                self.ops.extend(full.map(|run| run.read(Errand::Read(place as u64))));
            }
        }
        self.ops.extend(run.map(|run| run.read(Errand::Read(place as u64))));
        fetch.left += self.ops.len() - before;
    }

    /// A read of the device has ended.
    pub(super) fn read_done(&mut self, place: u64, parts: &[Part], result: Result<(), DiskError>) {
        let Ok(place) = usize::try_from(place) else { return };
        let Some(fetch) = self.reads.table.get_mut(place) else { return };
        fetch.left -= 1;
        if result.is_err() {
            let frame = parts.first().map(|part| Frame::at(part.offset));
            let cell = fetch.cells.iter().find(|cell| Some(cell.frame) == frame).map(|cell| cell.cell);
            let shape = fetch.cells.first().map(|cell| cell.image.get().shape());
            let lba = cell.zip(shape).map_or(fetch.lba, |(cell, shape)| cell * shape.blocks_per_cell());
            note_error(&mut fetch.error, StoreError::ReadFault(Lba(lba.max(fetch.lba))));
        }
        if fetch.left == 0 {
            let fetch = std::mem::take(fetch);
            self.end_read(place, fetch);
        }
    }

    /// All has come: it is good, or nothing of it is given out.
    fn end_read(&mut self, place: usize, mut fetch: Fetch) {
        for Cell { cell, frame, image } in &fetch.cells {
            let image = image.get();
            let good = image.holds(self.arena.frame(*frame), fetch.volume_id, *cell);
            if !good && !holdfast_mutant::active("store-checksum-not-compared") {
                let lba = (*cell * image.shape().blocks_per_cell()).max(fetch.lba);
                note_error(&mut fetch.error, StoreError::Media(Lba(lba)));
            }
        }
        self.read_numbers.end(fetch.number);
        let mut slots = std::mem::take(&mut fetch.slots);
        if let (Some(_), Some(volume)) = (fetch.error, fetch.volume) {
            self.unpin(volume, &slots);
            slots.clear();
        }
        self.finish(fetch.token, slots, fetch.error.map_or(Ok(()), Err));
        fetch.cells.clear();
        if let Some(slot) = self.reads.table.get_mut(place) {
            *slot = fetch;
        }
        self.reads.free.push(place);
    }

    /// Lets go of what a Read has lent.
    pub(crate) fn unpin(&mut self, volume: VolumeIndex, slots: &[SlotRef]) {
        let free = self.arena.free();
        self.take_lent_back(volume, slots);
        self.reads.frames = self.reads.frames.saturating_sub(self.arena.free() - free);
    }
}

/// Keeps the error at the lowest block.
fn note_error(kept: &mut Option<StoreError>, error: StoreError) {
    let lba = |error: &StoreError| match error {
        StoreError::Media(lba) | StoreError::ReadFault(lba) | StoreError::Uncorrectable(lba) => lba.0,
        _ => 0,
    };
    if kept.as_ref().is_none_or(|kept| lba(&error) < lba(kept)) {
        *kept = Some(error);
    }
}
