//! The pool that is damaged, in the states in which it may be found, and what is known of each: where every structure lies,
//! and what every cell held before and after each journal block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_store::disk::find_pool;
use holdfast_store::disk::format::{
    CHILDREN_PER_PAGE, CellRef, JournalBlock, PageKind, PagePointer, Record, Superblock, VOLUME_PAGES,
    VOLUMES_PER_PAGE, VolumeEntry, WRITER_PAGES, directory_entry, image, pointer, volume,
};

use crate::disk::{Disk, page_of};
use crate::pool::{CellState, DELETED, DELETED_LATE, EMPTY, LARGE, Pool, SMALL, What, shape};

const POOL_BYTES: usize = 8 << 20;

/// A volume's identifier, and the number of a cell.
pub(crate) type At = (u64, u64);

/// Something on the device that can be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Superblock,
    /// A copy of page `index` of the directory or a table.
    Table {
        kind: PageKind,
        index: usize,
    },
    Map {
        volume: u64,
        first: u64,
        cells: u64,
    },
    Journal {
        number: u64,
    },
    Data,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Superblock => "superblock",
            Kind::Table { kind: PageKind::Directory, .. } => "directory",
            Kind::Table { .. } => "table page",
            Kind::Map { .. } => "map page",
            Kind::Journal { .. } => "journal block",
            Kind::Data => "data",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Structure {
    pub(crate) slot: u64,
    pub(crate) kind: Kind,
}

/// What a cell became.
#[derive(Debug, Clone)]
pub(crate) struct CellThen {
    pub(crate) state: CellState,
    /// Its image; empty for a hole.
    pub(crate) image: Vec<u8>,
}

/// One journal block and what it changed.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) cells: BTreeMap<At, CellThen>,
}

pub(crate) struct State {
    pub(crate) name: &'static str,
    pub(crate) image: Arc<Vec<u8>>,
    /// The same pool at an earlier checkpoint, and another pool.
    pub(crate) older: Arc<Vec<u8>>,
    pub(crate) other: Arc<Vec<u8>>,
    pub(crate) superblock: Superblock,
    pub(crate) base: BTreeMap<At, CellThen>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) structures: Vec<Structure>,
    /// Cells that are looked at: all that ever held something, and holes beside them.
    pub(crate) cells: BTreeSet<At>,
}

/// What hosts believe to be on the pool.
type Model = BTreeMap<At, CellState>;

/// An operation: of the second and third number, the range.
#[derive(Clone, Copy)]
enum Op {
    Write(u64, u64, u64),
    Mark(u64, u64),
    Trim(u64, u64, u64),
    Delete(u64),
    Flush,
}

const FIRST: &[Op] = &[
    Op::Write(LARGE, 0, 6),
    Op::Write(LARGE, 130, 3),
    Op::Write(LARGE, 5000, 2),
    Op::Write(LARGE, 33_000, 2),
    Op::Write(LARGE, 39_999, 1),
    Op::Write(SMALL, 0, 20),
    Op::Write(SMALL, 400, 11),
    Op::Write(SMALL, 10_000, 3),
    Op::Write(SMALL, 20_000, 3),
    Op::Write(DELETED, 0, 4),
    Op::Write(DELETED_LATE, 100, 4),
];

const SECOND: &[Op] = &[
    Op::Write(LARGE, 1, 2),
    Op::Mark(LARGE, 5),
    Op::Mark(SMALL, 402),
    Op::Trim(LARGE, 131, 1),
    Op::Trim(SMALL, 3, 2),
    Op::Delete(DELETED),
    Op::Write(LARGE, 33_001, 2),
];

const JOURNALLED: &[Op] = &[
    Op::Write(LARGE, 0, 2),
    Op::Write(SMALL, 4, 8),
    Op::Delete(DELETED_LATE),
    Op::Write(LARGE, 131, 2),
    Op::Mark(SMALL, 10_001),
    Op::Flush,
    Op::Write(LARGE, 0, 1),
    Op::Write(SMALL, 404, 3),
    Op::Trim(LARGE, 5000, 1),
    Op::Write(SMALL, 20_001, 2),
    Op::Write(LARGE, 20_000, 1),
    Op::Flush,
];

const UNFLUSHED: &[Op] = &[
    Op::Write(LARGE, 2, 2),
    Op::Write(LARGE, 0, 1),
    Op::Write(SMALL, 5, 2),
    Op::Write(SMALL, 6, 4),
    Op::Trim(LARGE, 33_000, 1),
    Op::Write(LARGE, 4, 1),
    Op::Write(SMALL, 408, 9),
    Op::Mark(LARGE, 130),
    Op::Write(LARGE, 39_999, 1),
];

/// All states.
pub(crate) fn states() -> Vec<State> {
    let (older, image, base) = closed(1);
    let (_, other, _) = closed(9);
    let state = |name, image: &Arc<Vec<u8>>, blocks: Vec<Block>| {
        State::new(name, image, (&older, &other), &base, blocks)
    };
    let disk = Disk::new(image.clone());
    let mut model = base.clone();
    let mut writes = 1000;
    let mut run = |pool: &mut Pool<'_>, ops: &[Op], each: &mut dyn FnMut(usize)| -> Vec<Block> {
        let mut blocks = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let before = model.clone();
            writes += 1;
            carry_out(pool, &mut model, *op, writes);
            blocks.extend(block_of(&disk, &before, &model));
            each(index);
        }
        blocks
    };
    let mut pool = Pool::open(&disk).unwrap();
    let first = run(&mut pool, JOURNALLED, &mut |_| drop(disk.take_before()));
    let flushed = disk.image();
    // Of what was never flushed, some data and some blocks never reached the medium.
    let mut lost = Vec::new();
    let tail = run(&mut pool, UNFLUSHED, &mut |index| {
        let before = disk.take_before();
        let journal = |slot: u64| (256..256 + 64).contains(&slot);
        lost.extend(before.into_iter().filter(|(slot, _)| match index % 4 {
            1 => !journal(*slot),
            3 => journal(*slot),
            _ => false,
        }));
    });
    drop(pool);
    lost.iter().for_each(|(slot, page)| disk.put(*slot, page));
    let torn = disk.image();
    let again = || first.iter().map(|block| Block { number: block.number, cells: block.cells.clone() });
    let all = again().chain(tail).collect();
    vec![
        state("closed", &image, Vec::new()),
        state("flushed, then lost", &flushed, again().collect()),
        state("lost under way", &torn, all),
    ]
}

/// A pool that was closed, twice: as it was the first and the second time, and what is in it.
fn closed(id: u64) -> (Arc<Vec<u8>>, Arc<Vec<u8>>, Model) {
    let disk = Disk::new(Arc::new(vec![0; POOL_BYTES]));
    let mut model = Model::new();
    let mut pool = Pool::create(&disk, id);
    [LARGE, SMALL, DELETED, DELETED_LATE].into_iter().for_each(|volume| pool.make(volume));
    let mut writes = id * 100;
    let mut run = |pool: &mut Pool<'_>, ops: &[Op]| {
        for op in ops {
            writes += 1;
            carry_out(pool, &mut model, *op, writes);
        }
    };
    run(&mut pool, FIRST);
    pool.close();
    let older = disk.image();
    let mut pool = Pool::open(&disk).unwrap();
    run(&mut pool, SECOND);
    pool.close();
    (older, disk.image(), model)
}

fn carry_out(pool: &mut Pool<'_>, model: &mut Model, op: Op, version: u64) {
    match op {
        Op::Write(volume, lba, blocks) => {
            put(pool, model, volume, lba, &vec![What::Data(version); blocks as usize])
        }
        Op::Mark(volume, lba) => put(pool, model, volume, lba, &[What::Marked]),
        Op::Trim(volume, lba, blocks) => {
            pool.deallocate(volume, lba, blocks);
            (lba..lba + blocks).for_each(|lba| *block_in(model, volume, lba) = What::Hole);
        }
        Op::Delete(volume) => {
            pool.delete(volume);
            model.retain(|(of, _), _| *of != volume);
        }
        Op::Flush => pool.flush(),
    }
}

fn put(pool: &mut Pool<'_>, model: &mut Model, volume: u64, lba: u64, whats: &[What]) {
    pool.write(volume, lba, whats).unwrap();
    (lba..).zip(whats).for_each(|(lba, what)| *block_in(model, volume, lba) = *what);
}

fn block_in(model: &mut Model, volume: u64, lba: u64) -> &mut What {
    let (cell, sector) = shape(volume).cell_of(lba);
    &mut model.entry((volume, cell)).or_insert(EMPTY)[sector as usize]
}

/// The newest block of the journal, if the last operation wrote it.
fn block_of(disk: &Disk, before: &Model, after: &Model) -> Option<Block> {
    let superblock = find_pool(disk).unwrap().unwrap();
    let (tag, layout) = (superblock.journal_tag(), superblock.layout);
    let pages: Vec<_> =
        (0..layout.journal_slots()).map(|place| disk.slot(layout.journal_first() + place)).collect();
    let blocks = pages.iter().filter_map(|page| JournalBlock::decode(page, tag).ok());
    let newest = blocks.max_by_key(JournalBlock::number)?;
    if newest.number() < superblock.journal_start {
        return None;
    }
    let image = disk.image();
    let tables = volumes_of(&image, &superblock);
    let mut images = BTreeMap::new();
    for record in newest.records() {
        let place = record.volume();
        let Some((_, entry)) = tables.iter().find(|(at, _)| Some(*at) == place) else { continue };
        if matches!(record, Record::Cells { .. }) {
            images
                .extend(record.cells().map(|(cell, image)| ((entry.id.get(), cell), image.bytes().to_vec())));
        }
    }
    let changed =
        after.iter().filter(|(at, state)| before.get(*at) != Some(*state) || images.contains_key(*at));
    let cells: BTreeMap<At, CellThen> = changed
        .map(|(at, state)| {
            (*at, CellThen { state: *state, image: images.get(at).cloned().unwrap_or_default() })
        })
        .collect();
    let is_new = !cells.is_empty() || before.len() != after.len();
    is_new.then(|| Block { number: newest.number(), cells })
}

fn volumes_of(image: &[u8], superblock: &Superblock) -> Vec<(u32, VolumeEntry)> {
    let directory = page_of(image, superblock.directory[0].slot);
    let [copy, _] = directory_entry(&directory, 0);
    let page = page_of(image, copy.slot);
    let entries =
        (0..VOLUMES_PER_PAGE).filter_map(|place| Some((place as u32, volume(&page, place).unwrap()?)));
    entries.collect()
}

impl State {
    fn new(
        name: &'static str,
        image: &Arc<Vec<u8>>,
        (older, other): (&Arc<Vec<u8>>, &Arc<Vec<u8>>),
        model: &Model,
        blocks: Vec<Block>,
    ) -> State {
        let superblock = find_pool(&Disk::new(image.clone())).unwrap().unwrap();
        let mut state = State {
            name,
            image: image.clone(),
            older: older.clone(),
            other: other.clone(),
            superblock,
            base: BTreeMap::new(),
            blocks,
            structures: Vec::new(),
            cells: BTreeSet::new(),
        };
        state.find_structures();
        let told: Vec<At> = state.base.keys().copied().collect();
        for at in told {
            state.base.get_mut(&at).unwrap().state = model.get(&at).copied().unwrap_or(EMPTY);
        }
        let live = model.iter().filter(|(at, cell)| [LARGE, SMALL].contains(&at.0) && **cell != EMPTY);
        assert!(live.clone().all(|(at, _)| state.base.contains_key(at)), "the map holds what was written");
        state.base.retain(|(volume, _), _| [LARGE, SMALL].contains(volume));
        let written = state.base.keys().chain(state.blocks.iter().flat_map(|block| block.cells.keys()));
        state.cells = written.copied().filter(|(volume, _)| [LARGE, SMALL].contains(volume)).collect();
        let holes = [(LARGE, 60), (LARGE, 5060), (LARGE, 12_345), (SMALL, 20), (SMALL, 1000), (SMALL, 2400)];
        state.cells.extend(holes);
        state
    }

    fn find_structures(&mut self) {
        let image = self.image.clone();
        let superblock = self.superblock;
        self.structures.extend(Superblock::SLOTS.map(|slot| Structure { slot, kind: Kind::Superblock }));
        self.copies(superblock.directory, PageKind::Directory, 0);
        let directory = page_of(&image, superblock.directory[0].slot);
        for place in 0..VOLUME_PAGES + WRITER_PAGES {
            let kind = if place < VOLUME_PAGES { PageKind::Volumes } else { PageKind::Writers };
            self.copies(directory_entry(&directory, place), kind, place);
        }
        for (_, entry) in volumes_of(&image, &superblock) {
            // The map of a volume that the journal deletes is nobody's.
            let stays = self.blocks.is_empty() || [LARGE, SMALL].contains(&entry.id.get());
            if let Some(level) = entry.height.checked_sub(1).filter(|_| stays) {
                self.map(&entry, entry.root, level, 0);
            }
        }
        let blocks = self.blocks.iter().map(|block| block.number);
        // What is not there any more cannot be damaged.
        let there = blocks.filter(|number| self.has_block(&Disk::new(image.clone()), *number).is_some());
        let there: Vec<Structure> = there
            .map(|number| Structure {
                slot: superblock.layout.journal_slot(number),
                kind: Kind::Journal { number },
            })
            .collect();
        self.structures.extend(there);
    }

    fn copies(&mut self, copies: [PagePointer; 2], kind: PageKind, index: usize) {
        let there = copies.into_iter().filter(|copy| !copy.is_none());
        self.structures
            .extend(there.map(|copy| Structure { slot: copy.slot, kind: Kind::Table { kind, index } }));
    }

    fn map(&mut self, entry: &VolumeEntry, at: PagePointer, level: u8, index: u64) {
        let (volume, cells) = (entry.id.get(), entry.shape.span(level).unwrap());
        let page = page_of(&self.image, at.slot);
        let kind = Kind::Map { volume, first: index * cells, cells };
        self.structures.push(Structure { slot: at.slot, kind });
        if level > 0 {
            for (place, child) in (0..CHILDREN_PER_PAGE).zip(index * CHILDREN_PER_PAGE as u64..) {
                let below = pointer(&page, place);
                if !below.is_none() {
                    self.map(entry, below, level - 1, child);
                }
            }
            return;
        }
        for (place, cell) in (0..cells as usize).zip(index * cells..) {
            let bytes = image(&page, entry.shape, place);
            if CellRef::new(entry.shape, bytes).is_some_and(|image| !image.is_hole()) {
                self.base.insert((volume, cell), CellThen { state: EMPTY, image: bytes.to_vec() });
            }
        }
    }

    /// What a block says is durable, if it is at its place.
    pub(crate) fn has_block(&self, disk: &Disk, number: u64) -> Option<u64> {
        let page = disk.slot(self.superblock.layout.journal_slot(number));
        let block = JournalBlock::decode(&page, self.superblock.journal_tag()).ok()?;
        (block.number() == number).then(|| block.stamp().durable_through)
    }
}
