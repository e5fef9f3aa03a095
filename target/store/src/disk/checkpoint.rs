//! Checkpoints: what has changed in the maps goes to the device, so that the journal before it is not needed any more.
//!
//! A checkpoint is taken while commands go on. It begins at a number of the log: everything before that is in the map. Pages are
//! written as they are when their turn comes, from the leaves up, so some of them hold more; what they hold more is made
//! durable by the flush before the superblock, and replaying it once more gives the same. Then both copies of the
//! superblock follow, one after the other. What the former checkpoint needed (pages that are replaced, places of
//! the journal) is used again only after that.

use holdfast_block::HostId;

use super::arena::Frame;
use super::format::{
    Features, Page, PageHeader, PageKind, PagePointer, SLOT_LEN, Superblock, VOLUME_PAGES, VOLUMES_PER_PAGE,
    WRITER_PAGES, WRITERS_PER_PAGE, page_checksum, set_directory_entry, set_volume, set_writer,
};
use super::gather::Gathered;
use super::io::{DiskError, DiskOp, Part};
use super::pool::{DiskPool, Failure};
use super::tokens::Errand;
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// Frames that pages are written from: some stay in the air while others are filled.
pub(super) const PAGE_FRAMES: usize = 64;

/// Longest single write of pages.
const PAGE_RUN_MAX: usize = 32;

/// Pages of the tables, one after the other, and then the directory.
const DIRECTORY_STEP: usize = VOLUME_PAGES + WRITER_PAGES;
const STEPS: usize = DIRECTORY_STEP + 1;

/// Where a checkpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Idle,
    /// Pages of the maps.
    Maps,
    /// Pages of the tables, and the directory.
    Tables,
    /// Pages are on the device, but not flushed.
    Flush,
    /// The copies of the superblock, each with a flush after it.
    Superblock(u32),
    SuperblockFlush(u32),
}

/// The checkpoint under way, and where the tables of the last one are.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    stage: Stage,
    /// Where a recovery would begin.
    start: u64,
    /// Everything up to here is durable once the pages are flushed.
    covers: u64,
    /// Somebody needs one.
    wanted: bool,
    /// The pool is being closed.
    closing: bool,
    closed: bool,
    frames: Vec<Frame>,
    /// Writes that are not done.
    left: usize,
    /// As both copies say.
    superblock: Option<Superblock>,
    /// Slots of pages that the next commit sets free.
    freed: Vec<u64>,
    /// Of the last checkpoint, and of the one under way.
    tables: Tables,
    fresh: Tables,
    /// The page of the tables whose turn it is.
    step: usize,
    /// Slots in a row that were taken for pages.
    run: super::space::Run,
    /// Pages gathered into one write.
    gathered: Option<Gathered>,
}

/// Both copies of each page of the tables, and of the directory.
#[derive(Debug, Default, Clone)]
pub(super) struct Tables {
    pub(super) volumes: Vec<[PagePointer; 2]>,
    pub(super) writers: Vec<[PagePointer; 2]>,
    pub(super) directory: [PagePointer; 2],
}

impl Checkpoint {
    /// As recovery has found things.
    pub(super) fn new(frames: Vec<Frame>, tables: Tables) -> Checkpoint {
        Checkpoint { frames, tables, ..Checkpoint::default() }
    }

    /// Has one taken as soon as none is under way.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle && !self.wanted
    }
}

impl Tables {
    pub(super) fn slots(&self) -> impl Iterator<Item = u64> {
        let pages = self.volumes.iter().chain(&self.writers).chain(std::iter::once(&self.directory));
        pages.flatten().map(|pointer| pointer.slot).filter(|slot| *slot != 0)
    }
}

impl<A: PoolMemory> DiskPool<A> {
    /// The log has no room: places of the ring come free by a checkpoint.
    pub(super) fn want_journal(&mut self) {
        if self.log.used() >= self.log.ring() {
            self.checkpoint.want();
        }
    }

    /// No slot is free: those that were superseded come free by a flush, those of old pages by a checkpoint.
    pub(super) fn want_slots(&mut self) {
        if self.dead.last_number().is_some_and(|number| number > self.log.durable) {
            self.want_flush();
        } else if self.tree.has_dirty() {
            self.checkpoint.want();
        }
    }

    /// Ends everything that is under way, writes the maps, and marks the pool as closed. Done when [`Self::is_closed`].
    pub fn close(&mut self) {
        self.checkpoint.closing = true;
    }

    /// Whether nothing is left to do, or nothing more can be done.
    pub fn is_closed(&self) -> bool {
        self.checkpoint.closed || self.has_failed()
    }

    /// Takes the next steps of a checkpoint, or begins one that is due.
    pub(super) fn go_on_with_checkpoint(&mut self) {
        if self.has_failed() {
            return;
        }
        match self.checkpoint.stage {
            Stage::Idle => self.begin_checkpoint_if_due(),
            Stage::Maps => self.write_maps(),
            Stage::Tables => self.write_tables(),
            Stage::Flush | Stage::Superblock(_) | Stage::SuperblockFlush(_) => {}
        }
    }

    fn begin_checkpoint_if_due(&mut self) {
        let Checkpoint { closing, closed, .. } = self.checkpoint;
        let quiet = self.queue.is_empty() && self.log.is_quiet() && !self.tree.has_detached();
        let due =
            self.checkpoint.wanted || self.log.used() > self.log.ring() / 2 || (closing && !closed && quiet);
        if !due {
            return;
        }
        self.checkpoint.wanted = false;
        self.checkpoint.start = self.log.flushable() + 1;
        if holdfast_mutant::active("store-checkpoint-covers-too-much") {
            self.checkpoint.start = self.log.next_number;
        }
        if holdfast_mutant::active("store-journal-freed-before-commit") {
            self.log.start = self.checkpoint.start;
        }
        self.checkpoint.stage = Stage::Maps;
        self.tree.begin_checkpoint();
        self.write_maps();
    }

    /// Writes dirty pages as long as there are frames.
    fn write_maps(&mut self) {
        let generation = self.generation + 1;
        while !self.checkpoint.frames.is_empty() {
            let Some(page) = self.tree.next_to_write() else {
                self.issue_pages();
                self.checkpoint.stage = Stage::Tables;
                return self.write_tables();
            };
            let Some(image) = self.tree.image_for_write(page, generation).copied() else { continue };
            let Some(pointer) = self.write_page(&image) else { return self.fail(Failure::Checkpoint) };
            if let Some(old) = self.tree.written_to(page, pointer) {
                if holdfast_mutant::active("store-page-slot-reused-early") {
                    self.space.give_back(old);
                    continue;
                }
                self.checkpoint.freed.push(old);
            }
        }
        self.issue_pages();
    }

    /// Has a page written to a fresh slot, together with those before it if it follows them.
    fn write_page(&mut self, image: &Page) -> Option<PagePointer> {
        if self.checkpoint.run.len == 0 {
            self.checkpoint.run = self.space.take_run(PAGE_RUN_MAX as u64)?;
        }
        let frame = self.checkpoint.frames.pop()?;
        *self.arena.frame_mut(frame)? = *image;
        let run = &mut self.checkpoint.run;
        let slot = run.first;
        (run.first, run.len) = (run.first + 1, run.len - 1);
        if !self.checkpoint.gathered.as_mut().is_some_and(|run| run.add(slot, frame)) {
            self.issue_pages();
            let parts = self.log.spare_parts.pop().unwrap_or_default();
            self.checkpoint.gathered = Some(Gathered::new(slot, frame, parts));
        }
        Some(PagePointer { slot, checksum: page_checksum(image) })
    }

    fn issue_pages(&mut self) {
        if let Some(run) = self.checkpoint.gathered.take() {
            self.ops.push_back(run.write(Errand::Page));
            self.checkpoint.left += 1;
        }
    }

    /// Writes both copies of every page of the tables, and of the directory. They are few.
    fn write_tables(&mut self) {
        let generation = self.generation + 1;
        while self.checkpoint.step < STEPS && self.checkpoint.frames.len() >= 2 {
            let copies = match self.table_page(generation) {
                Some(image) => {
                    let Some(copies) = self.write_page(&image).zip(self.write_page(&image)) else {
                        return self.fail(Failure::Checkpoint);
                    };
                    [copies.0, copies.1]
                }
                None => [PagePointer::NONE; 2],
            };
            let Checkpoint { step, fresh, .. } = &mut self.checkpoint;
            match *step {
                step if step < VOLUME_PAGES => fresh.volumes.push(copies),
                DIRECTORY_STEP => fresh.directory = copies,
                _ => fresh.writers.push(copies),
            }
            *step += 1;
        }
        self.issue_pages();
        if self.checkpoint.step == STEPS && self.checkpoint.left == 0 {
            self.checkpoint.stage = Stage::Flush;
            self.checkpoint.covers = self.log.flushable();
            self.checkpoint_flush();
        }
    }

    /// The page of the tables whose turn it is; `None` if there is nothing in it.
    fn table_page(&self, generation: u64) -> Option<Page> {
        let mut page = [0; SLOT_LEN];
        let step = self.checkpoint.step;
        if step == DIRECTORY_STEP {
            PageHeader::of_table(PageKind::Directory, 0, generation).encode(&mut page);
            let Tables { volumes, writers, .. } = &self.checkpoint.fresh;
            for (place, copies) in volumes.iter().chain(writers).enumerate() {
                set_directory_entry(&mut page, place, *copies);
            }
            return Some(page);
        }
        match step.checked_sub(VOLUME_PAGES) {
            None => {
                PageHeader::of_table(PageKind::Volumes, step as u64, generation).encode(&mut page);
                let places = (step * VOLUMES_PER_PAGE..).take(VOLUMES_PER_PAGE).filter_map(VolumeIndex::new);
                let mut any = false;
                for (place, index) in places.enumerate() {
                    let volume = self.volumes.get(index).filter(|volume| volume.is_on_record());
                    set_volume(
                        &mut page,
                        place,
                        volume.map(|volume| volume.entry(index, &self.tree)).as_ref(),
                    );
                    any |= volume.is_some();
                }
                any.then_some(page)
            }
            Some(number) => {
                PageHeader::of_table(PageKind::Writers, number as u64, generation).encode(&mut page);
                let hosts = self.writers.hosts().skip(number * WRITERS_PER_PAGE).take(WRITERS_PER_PAGE);
                let mut any = false;
                for (place, host) in hosts.enumerate() {
                    set_writer(&mut page, place, host.map_or(0, HostId::get));
                    any = true;
                }
                any.then_some(page)
            }
        }
    }

    fn checkpoint_flush(&mut self) {
        if holdfast_mutant::active("store-superblock-before-flush") && self.checkpoint.stage == Stage::Flush {
            return self.checkpoint_flushed(Ok(()));
        }
        self.ops.push_back(DiskOp::Flush { token: Errand::CheckpointFlush.token() });
    }

    /// A write of the checkpoint has ended.
    pub(super) fn checkpoint_written(&mut self, parts: &[Part], result: Result<(), DiskError>) {
        for part in parts {
            let frames = (part.offset..part.offset + part.len).step_by(SLOT_LEN);
            self.checkpoint.frames.extend(frames.map(Frame::at));
        }
        self.checkpoint.left = self.checkpoint.left.saturating_sub(1);
        if result.is_err() {
            return self.fail(Failure::Checkpoint);
        }
        match self.checkpoint.stage {
            Stage::Superblock(copy) => {
                self.checkpoint.stage = Stage::SuperblockFlush(copy);
                self.checkpoint_flush();
            }
            _ => self.go_on_with_checkpoint(),
        }
    }

    /// A flush of the checkpoint has ended.
    pub(super) fn checkpoint_flushed(&mut self, result: Result<(), DiskError>) {
        if result.is_err() {
            return self.fail(Failure::Checkpoint);
        }
        if self.has_failed() {
            return;
        }
        match self.checkpoint.stage {
            Stage::Flush => {
                self.durable_through(self.checkpoint.covers);
                self.write_superblock(0);
            }
            Stage::SuperblockFlush(0) => self.write_superblock(1),
            Stage::SuperblockFlush(_) => self.commit(),
            Stage::Idle | Stage::Maps | Stage::Tables | Stage::Superblock(_) => {
                debug_assert!(false, "no flush is under way");
            }
        }
    }

    /// Both copies say the same, whatever goes on between them.
    fn write_superblock(&mut self, copy: u32) {
        let superblock = match self.checkpoint.superblock.filter(|_| copy > 0) {
            Some(superblock) => superblock,
            None => self.superblock(),
        };
        self.checkpoint.superblock = Some(superblock);
        let Some(frame) = self.checkpoint.frames.pop() else { return self.fail(Failure::Checkpoint) };
        if let Some(page) = self.arena.frame_mut(frame) {
            superblock.encode(copy, page);
        }
        let [first, second] = Superblock::SLOTS;
        let slot = if copy == 0 { first } else { second };
        self.ops.push_back(Gathered::new(slot, frame, Vec::new()).write(Errand::Superblock));
        self.checkpoint.left += 1;
        self.checkpoint.stage = Stage::Superblock(copy);
    }

    fn superblock(&self) -> Superblock {
        let start = self.checkpoint.start;
        Superblock {
            features: Features::default(),
            uuid: self.identity.uuid,
            id: self.identity.id,
            name: self.identity.name,
            layout: self.layout,
            generation: self.generation + 1,
            journal_start: start,
            durable_through: self.log.durable,
            next_number: self.log.next_number,
            clean: self.checkpoint.closing && start == self.log.next_number && self.queue.is_empty(),
            directory: self.checkpoint.fresh.directory,
            allocation: PagePointer::NONE,
            zeroed_through: self.zeroes.through(),
        }
    }

    /// Both copies are on the device: what only the former checkpoint needed is free.
    fn commit(&mut self) {
        self.generation += 1;
        self.log.start = self.checkpoint.start;
        self.volumes.checkpointed(self.log.start);
        for slot in self.checkpoint.freed.drain(..).chain(self.checkpoint.tables.slots()) {
            self.space.give_back(slot);
        }
        let DiskPool { tree, space, .. } = self;
        tree.committed(&mut |slot| space.give_back(slot));
        self.checkpoint.tables = std::mem::take(&mut self.checkpoint.fresh);
        self.checkpoint.step = 0;
        self.checkpoint.stage = Stage::Idle;
        let clean = self.checkpoint.superblock.take().is_some_and(|superblock| superblock.clean);
        let quiet = self.checkpoint.start == self.log.next_number && self.queue.is_empty();
        self.checkpoint.closed = self.checkpoint.closing && clean && quiet;
    }
}
