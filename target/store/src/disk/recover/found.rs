//! What a checkpoint says: tables and maps as they are on the device, and the pool that is made of them.

use std::collections::VecDeque;

use holdfast_block::HostId;

use super::{DiskLimits, OpenPoolError, OpeningProgress, READ_SLOTS};
use crate::disk::arena::{Arena, Frame};
use crate::disk::checkpoint::{Checkpoint, PAGE_FRAMES, Tables};
use crate::disk::dead::{DeadSlots, ReadNumbers};
use crate::disk::flush::Flushes;
use crate::disk::format::{
    self, CellShape, Layout, Page, PageHeader, PageKind, PagePointer, SLOT_LEN, Superblock, VOLUME_PAGES,
    VOLUMES_PER_PAGE, VolumeEntry, WINDOW, WRITER_PAGES, WRITERS_PER_PAGE, directory_entry, verify_page,
};
use crate::disk::io::Device;
use crate::disk::log::Log;
use crate::disk::partial::Partials;
use crate::disk::pool::{DiskPool, Health, Identity};
use crate::disk::read::Reads;
use crate::disk::restate::Restate;
use crate::disk::room::Room;
use crate::disk::space::Space;
use crate::disk::tree::{Tree, Wanted};
use crate::disk::volumes::{DiskVolume, DiskVolumes};
use crate::disk::writers::Writers;
use crate::disk::zero::ZeroAhead;
use crate::memory::VolumeIndex;
use crate::{PoolMemory, VolumeSpec};

/// What has been found so far.
pub(super) struct Found {
    pub(super) identity: Identity,
    pub(super) layout: Layout,
    pub(super) limits: DiskLimits,
    pub(super) generation: u64,
    pub(super) next_number: u64,
    pub(super) zeroed_through: u64,
    pub(super) tree: Tree,
    pub(super) volumes: DiskVolumes,
    pub(super) writers: Writers,
    pub(super) tables: Tables,
    /// Slots of the pages that the checkpoint needs.
    pub(super) pages: Vec<u64>,
}

impl Found {
    pub(super) fn nothing(identity: Identity, layout: Layout, limits: DiskLimits) -> Found {
        Found {
            identity,
            layout,
            limits,
            generation: 0,
            next_number: 1,
            zeroed_through: layout.slots(),
            tree: Tree::new(limits.map_bytes_max / SLOT_LEN as u64),
            volumes: DiskVolumes::new(),
            writers: Writers::default(),
            tables: Tables::default(),
            pages: Vec::new(),
        }
    }

    /// What a checkpoint says.
    pub(super) fn of(
        device: &impl Device,
        superblock: &Superblock,
        limits: DiskLimits,
        progress: &mut dyn FnMut(OpeningProgress),
    ) -> Result<Found, OpenPoolError> {
        let Superblock { id, uuid, name, layout, generation, next_number, directory, zeroed_through, .. } =
            *superblock;
        let mut found = Found::nothing(Identity { id, uuid, name }, layout, limits);
        found.generation = generation;
        found.next_number = next_number;
        found.zeroed_through = zeroed_through;
        let header = PageHeader::of_table(PageKind::Directory, 0, 0);
        let (page, copies) = found.table_page(device, directory, &header)?;
        found.tables.directory = copies;
        let Some(directory) = page else { return Ok(found) };
        for place in 0..VOLUME_PAGES + WRITER_PAGES {
            let copies = directory_entry(&directory, place);
            let (kind, index) = match place.checked_sub(VOLUME_PAGES) {
                None => (PageKind::Volumes, place),
                Some(index) => (PageKind::Writers, index),
            };
            let header = PageHeader::of_table(kind, index as u64, 0);
            let (page, copies) = found.table_page(device, copies, &header)?;
            match kind {
                PageKind::Volumes => found.tables.volumes.push(copies),
                _ => found.tables.writers.push(copies),
            }
            let Some(page) = page else { continue };
            if kind == PageKind::Volumes {
                found.load_volumes(device, &page, index, progress)?;
            } else {
                found.load_writers(&page, index);
            }
        }
        Ok(found)
    }

    /// A page of the tables, the first copy or the second, and the pointers to them, without those to where no page can be.
    fn table_page(
        &mut self,
        device: &impl Device,
        copies: [PagePointer; 2],
        expected: &PageHeader,
    ) -> Result<(Option<Page>, [PagePointer; 2]), OpenPoolError> {
        if copies.iter().all(|pointer| pointer.is_none()) {
            return Ok((None, copies));
        }
        let copies = self.usable(copies);
        let there = copies.iter().filter(|pointer| !pointer.is_none());
        self.pages.extend(there.clone().map(|pointer| pointer.slot));
        for PagePointer { slot, checksum } in there.copied() {
            let mut page = [0; SLOT_LEN];
            let read = device.read_at(slot * SLOT_LEN as u64, &mut page);
            if read.is_ok() && verify_page(&page, checksum, expected).is_ok() {
                return Ok((Some(page), copies));
            }
        }
        let PageHeader { kind, index, .. } = *expected;
        Err(OpenPoolError::Table { kind, index })
    }

    fn usable(&self, [first, second]: [PagePointer; 2]) -> [PagePointer; 2] {
        let can_be = |pointer: PagePointer| {
            let vacant = self.tables.slots().all(|slot| slot != pointer.slot);
            if vacant && self.layout.is_data(pointer.slot) { pointer } else { PagePointer::NONE }
        };
        let second = if second.slot == first.slot { PagePointer::NONE } else { second };
        [can_be(first), can_be(second)]
    }

    fn load_writers(&mut self, page: &Page, index: usize) {
        for place in 0..WRITERS_PER_PAGE {
            let host = HostId::new(format::writer(page, place));
            let number = u16::try_from(index * WRITERS_PER_PAGE + place).ok();
            if let Some((host, number)) = host.zip(number) {
                self.writers.load(number, host);
            }
        }
    }

    fn load_volumes(
        &mut self,
        device: &impl Device,
        page: &Page,
        index: usize,
        progress: &mut dyn FnMut(OpeningProgress),
    ) -> Result<(), OpenPoolError> {
        for place in 0..VOLUMES_PER_PAGE {
            let table = OpenPoolError::Table { kind: PageKind::Volumes, index: index as u64 };
            let entry = format::volume(page, place).map_err(|_| table)?;
            let Some((entry, at)) = entry.zip(VolumeIndex::new(index * VOLUMES_PER_PAGE + place)) else {
                continue;
            };
            self.load_map(device, at, &entry, progress)?;
            self.volumes.load(at, Some(volume_of(&entry)));
        }
        Ok(())
    }

    /// Reads a map from its root down, level by level, pages in the order in which they lie.
    fn load_map(
        &mut self,
        device: &impl Device,
        at: VolumeIndex,
        entry: &VolumeEntry,
        progress: &mut dyn FnMut(OpeningProgress),
    ) -> Result<(), OpenPoolError> {
        self.tree.add(at, entry.shape, entry.cells());
        let full = OpenPoolError::MapMemory(self.limits.map_bytes_max);
        let mut level: Vec<Wanted> = self.tree.want_root(at, entry.height, entry.root).into_iter().collect();
        let mut bytes = Vec::new();
        while !level.is_empty() {
            // A pointer may be that of a lost page, or of none that can be.
            for wanted in level.extract_if(.., |wanted| !self.layout.is_data(wanted.at.slot)) {
                self.tree.lose(&wanted).ok_or(full)?;
            }
            level.sort_unstable_by_key(|wanted| wanted.at.slot);
            let mut next = Vec::new();
            let mut rest = level.as_slice();
            while let Some(first) = rest.first() {
                let slots = (first.at.slot..).zip(rest).take_while(|(slot, wanted)| wanted.at.slot == *slot);
                let count = slots.take(usize::try_from(READ_SLOTS).unwrap_or(1)).count();
                let (run, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                rest = after;
                bytes.resize(run.len() * SLOT_LEN, 0);
                let together = device.read_at(first.at.slot * SLOT_LEN as u64, &mut bytes).is_ok();
                let (pages, _) = bytes.as_chunks_mut::<SLOT_LEN>();
                for (wanted, page) in run.iter().zip(pages) {
                    let read = together || device.read_at(wanted.at.slot * SLOT_LEN as u64, page).is_ok();
                    let expected = PageHeader::of_map(at.as_u32(), wanted.level, wanted.index, 0);
                    self.pages.push(wanted.at.slot);
                    let loaded = if read && verify_page(page, wanted.at.checksum, &expected).is_ok() {
                        self.tree.load(wanted, page, &mut next)
                    } else {
                        self.tree.lose(wanted)
                    };
                    loaded.ok_or(full)?;
                }
                progress(OpeningProgress::Map { pages: self.tree.pages() });
            }
            level = next;
        }
        Ok(())
    }

    /// The pool as it goes on from here.
    pub(super) fn into_pool<A: PoolMemory>(mut self, arena: A) -> DiskPool<A> {
        let Found { layout, next_number, .. } = self;
        let mut space = Space::with_watermark(layout.data_first(), layout.slots(), self.zeroed_through);
        for slot in &self.pages {
            // A second page in one slot is damaged, and stays damaged.
            let _ = space.occupy(*slot);
        }
        let mut twice = Vec::new();
        self.tree.for_each_image(&mut |volume, cell, image| {
            if image.slot() != 0 && !space.occupy(image.slot()) {
                twice.push((volume, cell));
            }
        });
        for (volume, cell) in twice {
            // Another cell, or the map, has it: whose it is cannot be told.
            self.tree.lose_cell(volume, cell);
        }
        let mut arena = Arena::new(arena);
        if self.volumes.iter().any(|(_, volume)| volume.shape == CellShape::Small) {
            arena.keep_small_records();
        }
        let mut take = |count: usize| -> Vec<Frame> { (0..count).filter_map(|_| arena.take()).collect() };
        let batches = take(usize::try_from(WINDOW).unwrap_or(0) + 1);
        let pages = take(PAGE_FRAMES);
        let zeroes = take(1).into_iter().next().unwrap_or_default();
        arena.zero(zeroes, 0, SLOT_LEN);
        let log = Log::new(layout, next_number, batches);
        let room = Room::new(layout.data_slots(), (VOLUME_PAGES + WRITER_PAGES) as u64);
        DiskPool {
            identity: self.identity,
            layout,
            arena,
            space,
            tree: self.tree,
            volumes: self.volumes,
            writers: self.writers,
            room,
            emptying: Vec::new(),
            log,
            generation: self.generation,
            queue: VecDeque::new(),
            partials: Partials::default(),
            restate: Restate::default(),
            reads: Reads::default(),
            read_numbers: ReadNumbers::default(),
            dead: DeadSlots::default(),
            flushes: Flushes::default(),
            checkpoint: Checkpoint::new(pages, self.tables),
            zeroes: ZeroAhead::new(self.zeroed_through, zeroes),
            health: Health::Ok,
            ops: VecDeque::new(),
            finished: VecDeque::new(),
            ends: Vec::new(),
        }
    }
}

/// A volume as its entry says, without its map.
pub(super) fn volume_of(entry: &VolumeEntry) -> DiskVolume {
    let VolumeEntry { id, uuid, nguid, name, shape, block_count, format, .. } = *entry;
    let block_len = usize::try_from(shape.block_len()).unwrap_or(0);
    let spec = VolumeSpec { id, uuid, nguid, block_len, block_count, format };
    let mut volume = DiskVolume::new(spec, name, shape);
    volume.on_record = true;
    volume
}
