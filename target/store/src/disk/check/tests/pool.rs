//! A small pool, made by hand from the format alone.

use std::collections::BTreeMap;

use holdfast_block::{HostId, PoolId, VolumeId};
use holdfast_pi::{GuardKind, PiFormat, PiType};

use super::super::super::format::*;
use super::super::super::io::{Device, DiskError};
use super::super::{CheckOptions, CheckReport, check};

/// Bytes of the pool: the smallest.
const POOL_BYTES: usize = 8 << 20;

/// What wrote every block.
const WRITER: u16 = 2;

/// A device in memory with slots that cannot be read.
pub(super) struct Medium {
    pub(super) bytes: Vec<u8>,
    pub(super) bad_slots: Vec<u64>,
}

impl Device for Medium {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let slots = offset / SLOT_LEN as u64..(offset + into.len() as u64) / SLOT_LEN as u64;
        let start = usize::try_from(offset).unwrap();
        let from = self.bytes.get(start..start + into.len()).ok_or(DiskError::Io)?;
        if slots.into_iter().any(|slot| self.bad_slots.contains(&slot)) {
            return Err(DiskError::Io);
        }
        into.copy_from_slice(from);
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), DiskError> {
        panic!("a check writes nothing");
    }

    fn flush(&self) -> Result<(), DiskError> {
        panic!("a check writes nothing");
    }
}

/// A pool whose maps are kept beside until they are committed.
pub(super) struct Pool {
    pub(super) medium: Medium,
    pub(super) superblock: Superblock,
    pub(super) volumes: BTreeMap<u32, VolumeEntry>,
    images: BTreeMap<(u32, u64), Vec<u8>>,
    next_slot: u64,
    /// Slots of all pages of the last commit, by what they are.
    pub(super) pages: Vec<(&'static str, u64)>,
    /// What is done to pages whose description begins so, before their checksum is made.
    pub(super) tamper: Option<(&'static str, Tamper)>,
}

type Tamper = Box<dyn Fn(&mut Page)>;

impl Pool {
    /// A closed pool without volumes.
    pub(super) fn empty() -> Pool {
        let layout = Layout::of(POOL_BYTES as u64).unwrap();
        let superblock = Superblock {
            features: Features::default(),
            uuid: *b"a pool for tests",
            id: PoolId::new(0xabc).unwrap(),
            name: Name::new("tank").unwrap(),
            layout,
            generation: 0,
            journal_start: 1,
            durable_through: 0,
            next_number: 1,
            clean: true,
            directory: [PagePointer::NONE; 2],
            allocation: PagePointer::NONE,
            zeroed_through: layout.slots(),
        };
        let mut pool = Pool {
            medium: Medium { bytes: vec![0; POOL_BYTES], bad_slots: Vec::new() },
            superblock,
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            next_slot: layout.data_first(),
            pages: Vec::new(),
            tamper: None,
        };
        pool.commit();
        pool
    }

    /// A closed pool with a volume of either shape, both with a map of two levels.
    pub(super) fn with_volumes() -> Pool {
        let mut pool = Pool::empty();
        pool.add_volume(0, CellShape::Large, 1000);
        pool.add_volume(17, CellShape::Small, 1003);
        for cell in [0, 1, 2, 126, 127, 999] {
            pool.set_cell(0, cell);
        }
        for cell in [0, 39, 40, 125] {
            pool.set_cell(17, cell);
        }
        pool.commit();
        pool
    }

    pub(super) fn add_volume(&mut self, place: u32, shape: CellShape, block_count: u64) -> VolumeEntry {
        let entry = volume_entry(place, shape, block_count);
        self.volumes.insert(place, entry);
        entry
    }

    /// Stores data in a new slot, and its image in the map to be committed.
    pub(super) fn set_cell(&mut self, place: u32, cell: u64) -> Vec<u8> {
        let bytes = self.new_cell(place, cell);
        self.images.insert((place, cell), bytes.clone());
        bytes
    }

    /// Stores data in a new slot and gives its image.
    pub(super) fn new_cell(&mut self, place: u32, cell: u64) -> Vec<u8> {
        let volume = self.volumes[&place];
        let slot = self.take_slot();
        let data = [slot.to_le_bytes()[0]; SLOT_LEN];
        self.page_mut(slot).copy_from_slice(&data);
        let mut bytes = vec![0; volume.shape.image_len()];
        let mut image = CellMut::new(volume.shape, &mut bytes).unwrap();
        let per_cell = volume.shape.blocks_per_cell();
        let sectors = per_cell.min(volume.block_count - cell * per_cell);
        for sector in 0..usize::try_from(sectors).unwrap() {
            image.set_block(sector, BlockState::HostGood, WRITER, &[9; 16]);
        }
        image.set_slot(slot);
        let sum = cell_checksum(checksum_of(&data), volume.id.get(), cell, image.as_ref());
        image.set_checksum(sum);
        bytes
    }

    /// Sets an image as it is.
    pub(super) fn set_image(&mut self, place: u32, cell: u64, bytes: Vec<u8>) {
        self.images.insert((place, cell), bytes);
    }

    /// The image of a cell in the map.
    pub(super) fn image(&self, place: u32, cell: u64) -> CellRef<'_> {
        CellRef::new(self.volumes[&place].shape, &self.images[&(place, cell)]).unwrap()
    }

    pub(super) fn page_mut(&mut self, slot: u64) -> &mut Page {
        let start = usize::try_from(slot).unwrap() * SLOT_LEN;
        (&mut self.medium.bytes[start..start + SLOT_LEN]).try_into().unwrap()
    }

    /// The slot of the page with this description.
    pub(super) fn page_slot(&self, what: &str) -> u64 {
        self.pages.iter().find(|(name, _)| *name == what).unwrap().1
    }

    pub(super) fn take_slot(&mut self) -> u64 {
        self.next_slot += 1;
        self.next_slot - 1
    }

    /// Writes all maps and tables to new slots, and both superblocks.
    pub(super) fn commit(&mut self) {
        self.superblock.generation += 1;
        self.pages = vec![("superblock", 0), ("superblock copy", SECOND_SUPERBLOCK)];
        let places: Vec<u32> = self.volumes.keys().copied().collect();
        places.into_iter().for_each(|place| self.write_map(place));
        self.write_tables();
        self.write_superblocks();
    }

    pub(super) fn write_superblocks(&mut self) {
        let superblock = self.superblock;
        for (copy, slot) in [(0, 0), (1, SECOND_SUPERBLOCK)] {
            superblock.encode(copy, self.page_mut(slot));
        }
    }

    fn write_page(&mut self, what: &'static str, page: &Page) -> PagePointer {
        let (slot, mut page) = (self.take_slot(), *page);
        if let Some((_, tamper)) = self.tamper.as_ref().filter(|(name, _)| what.starts_with(name)) {
            tamper(&mut page);
        }
        *self.page_mut(slot) = page;
        self.pages.push((what, slot));
        PagePointer { slot, checksum: page_checksum(&page) }
    }

    fn write_map(&mut self, place: u32) {
        let generation = self.superblock.generation;
        let volume = self.volumes[&place];
        let shape = volume.shape;
        let mut leaves: BTreeMap<u64, Page> = BTreeMap::new();
        let (mut cells_live, mut blocks_live) = (0, 0);
        for (cell, bytes) in
            self.images.iter().filter(|((of, _), _)| *of == place).map(|(key, image)| (key.1, image))
        {
            let image = CellRef::new(shape, bytes).unwrap();
            cells_live += u64::from(!image.is_hole());
            blocks_live += image.blocks_live();
            let leaf = leaves.entry(cell / shape.cells_per_leaf()).or_insert([0; SLOT_LEN]);
            let at = usize::try_from(cell % shape.cells_per_leaf()).unwrap();
            image_mut(leaf, shape, at).copy_from_slice(bytes);
        }
        if leaves.is_empty() {
            return;
        }
        let mut root = [0; SLOT_LEN];
        PageHeader::of_map(place, 1, 0, generation).encode(&mut root);
        for (index, mut leaf) in leaves {
            PageHeader::of_map(place, 0, index, generation).encode(&mut leaf);
            let name = if shape == CellShape::Large { "large leaf" } else { "small leaf" };
            let down = self.write_page(name, &leaf);
            set_pointer(&mut root, usize::try_from(index).unwrap(), down);
        }
        let root =
            self.write_page(if shape == CellShape::Large { "large root" } else { "small root" }, &root);
        self.volumes.insert(place, VolumeEntry { height: 2, root, cells_live, blocks_live, ..volume });
    }

    fn write_tables(&mut self) {
        let generation = self.superblock.generation;
        let mut directory = [0; SLOT_LEN];
        PageHeader::of_table(PageKind::Directory, 0, generation).encode(&mut directory);
        let mut pages: BTreeMap<usize, Page> = BTreeMap::new();
        for (place, volume) in &self.volumes {
            let place = usize::try_from(*place).unwrap();
            let page = pages.entry(place / VOLUMES_PER_PAGE).or_insert([0; SLOT_LEN]);
            set_volume(page, place % VOLUMES_PER_PAGE, Some(volume));
        }
        for (index, mut page) in pages {
            PageHeader::of_table(PageKind::Volumes, index as u64, generation).encode(&mut page);
            let copies = [self.write_page("volumes", &page), self.write_page("volumes copy", &page)];
            set_directory_entry(&mut directory, index, copies);
        }
        let mut writers = [0; SLOT_LEN];
        PageHeader::of_table(PageKind::Writers, 0, generation).encode(&mut writers);
        set_writer(&mut writers, usize::from(WRITER), 0x77);
        let copies = [self.write_page("writers", &writers), self.write_page("writers copy", &writers)];
        set_directory_entry(&mut directory, VOLUME_PAGES, copies);
        let first = self.write_page("directory", &directory);
        self.superblock.directory = [first, self.write_page("directory copy", &directory)];
    }

    /// Says that the pool was not closed.
    pub(super) fn leave_open(&mut self) {
        self.superblock.clean = false;
        self.write_superblocks();
    }

    /// Writes a block of the journal.
    pub(super) fn journal(
        &mut self,
        number: u64,
        durable_through: u64,
        records: impl FnOnce(&mut JournalBuilder, &mut Page),
    ) -> u64 {
        let (mut block, mut builder) = ([0; SLOT_LEN], JournalBuilder::new());
        records(&mut builder, &mut block);
        let pool_tag = self.superblock.journal_tag();
        let generation = self.superblock.generation;
        builder.finish(&mut block, &JournalStamp { pool_tag, number, durable_through, generation });
        let slot = self.superblock.layout.journal_slot(number);
        *self.page_mut(slot) = block;
        slot
    }

    /// A block that overwrites one cell; its image.
    pub(super) fn journal_cell(
        &mut self,
        number: u64,
        durable_through: u64,
        place: u32,
        cell: u64,
    ) -> Vec<u8> {
        let bytes = self.new_cell(place, cell);
        let image = CellRef::new(self.volumes[&place].shape, &bytes).unwrap();
        self.journal(number, durable_through, |builder, block| {
            assert!(builder.push_cell(block, place, cell, image));
        });
        bytes
    }

    pub(super) fn check(&self) -> CheckReport {
        check(&self.medium, CheckOptions { data: false }, &mut |_| ()).unwrap()
    }

    pub(super) fn check_data(&self) -> CheckReport {
        check(&self.medium, CheckOptions { data: true }, &mut |_| ()).unwrap()
    }
}

/// A volume without a map.
pub(super) fn volume_entry(place: u32, shape: CellShape, block_count: u64) -> VolumeEntry {
    VolumeEntry {
        id: VolumeId::new(u64::from(place) + 0x100).unwrap(),
        uuid: [1; 16],
        nguid: [2; 16],
        name: Name::new("v").unwrap(),
        shape,
        block_count,
        format: Some(PiFormat::new(PiType::Type1, GuardKind::Crc16, shape.block_len(), 0).unwrap()),
        height: 0,
        root: PagePointer::NONE,
        cells_live: 0,
        blocks_live: 0,
    }
}

/// The host that the table of writers knows as [`WRITER`].
pub(super) fn other_host() -> HostId {
    HostId::new(0x88).unwrap()
}
