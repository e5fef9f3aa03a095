//! Cells of which a part is written: eight blocks of 512 bytes share a slot, and what a write leaves alone goes with it to
//! its new slot.
//!
//! What is left alone comes from the newest version of the cell: from the frame of one that is on its way into the map, else
//! from the device. Changes are placed in their order, so no version comes between. Old contents that turn out to
//! be damaged are marked as lost: they must not come out again under a good checksum.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use holdfast_block::{SlotRef, StoreError};

use super::arena::{Frame, place_of};
use super::format::{BlockState, CellShape, SECTORS_MAX, SLOT_LEN};
use super::gather::Gathered;
use super::image::Image;
use super::io::DiskError;
use super::pool::DiskPool;
use super::tokens::Errand;
use super::write::{Step, state_of, tuple_of};
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// Bytes of a small block.
const SECTOR_LEN: usize = SLOT_LEN / SECTORS_MAX;

/// Small cells that are on their way, and old contents that changes wait for.
#[derive(Debug, Default)]
pub(super) struct Partials {
    /// The newest version of each cell that is in the log and not in the map.
    newest: HashMap<(VolumeIndex, u64), Version>,
    /// Old contents, by cell, fetched for the first change in the queue.
    bases: HashMap<(VolumeIndex, u64), Base>,
    /// Deallocations that are in the log and not in the map.
    trims: VecDeque<Trimmed>,
    /// Cells by the number of their fetch.
    fetches: HashMap<u64, (VolumeIndex, u64)>,
    last_fetch: u64,
}

#[derive(Debug)]
struct Trimmed {
    number: u64,
    volume: VolumeIndex,
    cells: Range<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Version {
    number: u64,
    frame: Option<Frame>,
    image: Image,
}

#[derive(Debug)]
struct Base {
    /// As the map has it.
    image: Image,
    frame: Frame,
    state: BaseState,
    read: u64,
    /// Somebody waits for it.
    wanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BaseState {
    OnItsWay,
    Good,
    /// It is not what was written.
    Damaged,
    /// The device could not read it.
    Failed,
}

/// Which blocks of a cell a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sectors {
    pub(super) cell: u64,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Sectors {
    /// The part of a range of small blocks that lies in the first block's cell.
    pub(super) fn first_of(lba: u64, blocks: usize) -> Sectors {
        let (cell, first) = CellShape::Small.cell_of(lba);
        let first = usize::try_from(first).unwrap_or(0);
        Sectors { cell, first, count: blocks.min(SECTORS_MAX - first) }
    }

    fn is_whole(&self) -> bool {
        self.count == SECTORS_MAX
    }

    fn contains(&self, sector: usize) -> bool {
        (self.first..self.first + self.count).contains(&sector)
    }
}

impl Partials {
    /// A version is in the map, or will never be.
    pub(super) fn applied(&mut self, volume: VolumeIndex, cell: u64, number: u64) {
        if self.newest.get(&(volume, cell)).is_some_and(|version| version.number == number) {
            self.newest.remove(&(volume, cell));
        }
    }

    /// Whole cells become holes.
    pub(super) fn trim(&mut self, volume: VolumeIndex, cells: Range<u64>, number: u64) {
        let within = |key: &(VolumeIndex, u64)| key.0 == volume && cells.contains(&key.1);
        self.newest.retain(|key, _| !within(key));
        self.trims.push_back(Trimmed { number, volume, cells });
    }

    /// Deallocations up to this number are in the map.
    pub(super) fn trims_applied(&mut self, number: u64) {
        while self.trims.pop_front_if(|trim| trim.number <= number).is_some() {}
    }

    fn is_trimmed(&self, volume: VolumeIndex, cell: u64) -> bool {
        self.trims.iter().any(|trim| trim.volume == volume && trim.cells.contains(&cell))
    }
}

impl<A: PoolMemory> DiskPool<A> {
    /// Places the first cell of some 512-byte blocks.
    pub(super) fn place_small(
        &mut self,
        volume: VolumeIndex,
        lba: u64,
        slots: &[SlotRef],
        continues: bool,
    ) -> Result<usize, Step> {
        let sectors = Sectors::first_of(lba, slots.len());
        let slots = slots.get(..sectors.count).unwrap_or_default();
        let Some((frame, _)) = slots.first().and_then(|slot| place_of(*slot)) else { return Err(Step::Wait) };
        let mut image = self.start_image(volume, &sectors, Some(frame))?;
        for (slot, sector) in slots.iter().zip(sectors.first..) {
            let record = self.arena.record(*slot);
            let writer = self.writer_index(&record);
            image.set_block(sector, state_of(record.provenance), writer, tuple_of(&record));
        }
        self.place_cell(volume, sectors.cell, image, frame, continues)?;
        self.drop_base(volume, sectors.cell);
        Ok(slots.len())
    }

    /// Puts a small cell into the log, with the frame that has all its data.
    pub(super) fn place_cell(
        &mut self,
        volume: VolumeIndex,
        cell: u64,
        mut image: Image,
        frame: Frame,
        continues: bool,
    ) -> Result<(), Step> {
        let has_data = image.get().has_data();
        let slot = if has_data { self.take_slots(1).map(|run| run.first).ok_or(Step::Wait)? } else { 0 };
        let writers: [u16; SECTORS_MAX] = std::array::from_fn(|sector| image.get().writer(sector));
        if !self.open_for(volume, cell, CellShape::Small, &writers, continues) {
            if has_data {
                self.space.give_back(slot);
            }
            return Err(Step::Wait);
        }
        if has_data {
            self.seal(&mut image, frame, slot, volume, cell);
            self.log.write(frame, slot);
        } else {
            image.unseal();
        }
        self.push_cell(volume, cell, &image);
        let number = self.log.open.as_ref().map_or(0, |open| open.batch.number);
        let version = Version { number, frame: Some(frame).filter(|_| has_data), image };
        self.partials.newest.insert((volume, cell), version);
        Ok(())
    }

    /// The image of a cell with what a change leaves alone; the rest is holes. The data of what is left goes into `frame`.
    pub(super) fn start_image(
        &mut self,
        volume: VolumeIndex,
        sectors: &Sectors,
        frame: Option<Frame>,
    ) -> Result<Image, Step> {
        let mut fresh = Image::hole(CellShape::Small);
        if sectors.is_whole() {
            return Ok(fresh);
        }
        let (base, from, damaged) = self.base_of(volume, sectors.cell)?;
        let left = (0..SECTORS_MAX).filter(|sector| !sectors.contains(*sector));
        for sector in left {
            let (old, state) = (base.get(), base.get().state(sector));
            if state.has_data() && damaged {
                fresh.set_block(sector, BlockState::Lost, 0, &[]);
            } else if state != BlockState::Hole {
                let neighbour = holdfast_mutant::active("store-tuple-of-the-neighbour");
                let tuple = old.tuple(if neighbour { sector ^ 1 } else { sector });
                fresh.set_block(sector, state, old.writer(sector), tuple);
            }
            let Some(frame) = frame else { continue };
            match from.filter(|_| state.has_data() && !damaged) {
                Some(from) => self.arena.copy(from, frame, sector * SECTOR_LEN, SECTOR_LEN),
                None => self.arena.zero(frame, sector * SECTOR_LEN, SECTOR_LEN),
            }
        }
        Ok(fresh)
    }

    /// The newest version of a cell: its image, the frame with its data if it has any, and whether that is damaged.
    fn base_of(&mut self, volume: VolumeIndex, cell: u64) -> Result<(Image, Option<Frame>, bool), Step> {
        let stale = holdfast_mutant::active("store-stale-cell");
        if let Some(Version { image, frame, .. }) =
            self.partials.newest.get(&(volume, cell)).filter(|_| !stale)
        {
            return Ok((*image, *frame, false));
        }
        if self.partials.is_trimmed(volume, cell) {
            return Ok((Image::hole(CellShape::Small), None, false));
        }
        let image = Image::of(CellShape::Small, self.tree.get(volume, cell));
        let slot = image.get().slot();
        if slot == 0 {
            return Ok((image, None, false));
        }
        match self.partials.bases.get(&(volume, cell)) {
            Some(base) if base.image.bytes() == image.bytes() => match base.state {
                BaseState::OnItsWay => Err(Step::Wait),
                BaseState::Good => Ok((image, Some(base.frame), false)),
                BaseState::Damaged => Ok((image, None, true)),
                BaseState::Failed => Err(Step::Fail(StoreError::WriteFault)),
            },
            Some(Base { state: BaseState::OnItsWay, .. }) => Err(Step::Wait),
            Some(_) => {
                self.drop_base(volume, cell);
                self.fetch_base(volume, cell, image);
                Err(Step::Wait)
            }
            None => {
                self.fetch_base(volume, cell, image);
                Err(Step::Wait)
            }
        }
    }

    /// Whether the newest version of a cell has nothing in it.
    pub(super) fn is_hole_now(&self, volume: VolumeIndex, cell: u64) -> bool {
        if let Some(version) = self.partials.newest.get(&(volume, cell)) {
            return version.image.get().is_hole();
        }
        self.tree.get(volume, cell).is_none() || self.partials.is_trimmed(volume, cell)
    }

    /// Fetches the old contents of the cells at both ends of a range, if they are needed, so that nothing of it is placed before
    /// it is known that all of it can be.
    pub(super) fn edges_ready(&mut self, volume: VolumeIndex, lba: u64, blocks: usize) -> Step {
        let last = lba.saturating_add(blocks as u64).saturating_sub(1);
        let first = Sectors::first_of(lba, blocks);
        let (cell, sector) = CellShape::Small.cell_of(last);
        let mut step = Step::Done;
        let count = usize::try_from(sector).unwrap_or(0) + 1;
        let end = Sectors { cell, first: 0, count };
        let edges = [Some(first), Some(end).filter(|end| end.cell != first.cell)];
        for edge in edges.into_iter().flatten().filter(|edge| !edge.is_whole()) {
            if let Err(found) = self.base_of(volume, edge.cell)
                && !matches!(step, Step::Fail(_))
            {
                step = found;
            }
        }
        if matches!(step, Step::Fail(_)) {
            self.drop_base(volume, first.cell);
            self.drop_base(volume, end.cell);
        }
        step
    }

    fn fetch_base(&mut self, volume: VolumeIndex, cell: u64, image: Image) {
        let slot = image.get().slot();
        let Some(frame) = self.arena.take() else { return };
        self.partials.last_fetch += 1;
        let fetch = self.partials.last_fetch;
        self.partials.fetches.insert(fetch, (volume, cell));
        let read = self.read_numbers.begin();
        let base = Base { image, frame, state: BaseState::OnItsWay, read, wanted: true };
        self.partials.bases.insert((volume, cell), base);
        let parts = self.log.spare_parts.pop().unwrap_or_default();
        self.ops.push_back(Gathered::new(slot, frame, parts).read(Errand::Base(fetch)));
    }

    /// Old contents have come.
    pub(super) fn base_done(&mut self, fetch: u64, result: Result<(), DiskError>) {
        let Some(key) = self.partials.fetches.remove(&fetch) else { return };
        let (volume, cell) = key;
        let id = self.volumes.get(volume).map_or(0, |found| found.spec.id.get());
        let Some(base) = self.partials.bases.get_mut(&key) else { return };
        self.read_numbers.end(base.read);
        let good = base.image.get().holds(self.arena.frame(base.frame), id, cell);
        base.state = match result {
            Err(_) => BaseState::Failed,
            Ok(()) if good => BaseState::Good,
            Ok(()) => BaseState::Damaged,
        };
        if !base.wanted {
            self.drop_base(volume, cell);
        }
    }

    /// Lets go of old contents.
    pub(super) fn drop_base(&mut self, volume: VolumeIndex, cell: u64) {
        let Some(base) = self.partials.bases.get_mut(&(volume, cell)) else { return };
        base.wanted = false;
        if base.state != BaseState::OnItsWay {
            self.arena.give_back(base.frame);
            self.partials.bases.remove(&(volume, cell));
        }
    }
}
