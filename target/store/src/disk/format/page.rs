//! Pages: a header of 32 bytes, then what their kind holds. A page is never rewritten; its checksum stands with the
//! pointer to it, so a write that was lost or went elsewhere is noticed.

use thiserror::Error;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::volume_entry::{EntryError, VolumeEntry, WireEntry};
use super::{CellShape, Page, SLOT_LEN, checksum_of};

/// Pointers of an inner page.
pub const CHILDREN_PER_PAGE: usize = 254;

/// Pairs of pointers in the directory.
pub const DIRECTORY_ENTRIES: usize = 127;

/// Volumes of a table page.
pub const VOLUMES_PER_PAGE: usize = 15;

/// Places of the volume table: as many volumes can be in a pool.
pub const VOLUME_PLACES: usize = 1024;

/// Pages of the volume table: the directory's first entries.
pub const VOLUME_PAGES: usize = VOLUME_PLACES.div_ceil(VOLUMES_PER_PAGE);

/// Writers of a table page.
pub const WRITERS_PER_PAGE: usize = 508;

/// Places of the writer table. Whoever finds it full is [`super::WRITER_UNKNOWN`].
pub const WRITER_PLACES: usize = 16_384;

/// Pages of the writer table: the directory's entries behind those of the volumes.
pub const WRITER_PAGES: usize = WRITER_PLACES.div_ceil(WRITERS_PER_PAGE);

const _: () = assert!(VOLUME_PAGES + WRITER_PAGES <= DIRECTORY_ENTRIES);

/// The highest level of a page of a map: a root there covers every volume that can be.
pub const MAP_LEVEL_MAX: u8 = 5;

/// The largest height of a volume's map: its root's level and one. 0: no root.
pub const HEIGHT_MAX: u8 = MAP_LEVEL_MAX + 1;

const PAGE_MAGIC: [u8; 4] = *b"HFPG";
const PAGE_VERSION: u8 = 1;

/// Where a page is, and the checksum of its 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PagePointer {
    /// Its slot; 0: there is no page.
    pub slot: u64,
    /// Its checksum; 0 without a page.
    pub checksum: u64,
}

impl PagePointer {
    /// No page.
    pub const NONE: PagePointer = PagePointer { slot: 0, checksum: 0 };

    /// In inner pages: what was there was damaged, and every cell under it is lost. No page is ever in this slot.
    pub const LOST: PagePointer = PagePointer { slot: 1, checksum: 0 };

    /// Whether there is no page.
    #[inline]
    pub fn is_none(self) -> bool {
        self.slot == 0
    }

    /// Whether what was there is lost.
    #[inline]
    pub fn is_lost(self) -> bool {
        self == PagePointer::LOST
    }
}

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PageKind {
    /// Where the pages of the tables are.
    Directory = 1,
    /// Volumes.
    Volumes = 2,
    /// Writers.
    Writers = 3,
    /// Pointers to pages of a map.
    Inner = 4,
    /// Cell images.
    Leaf = 5,
}

impl PageKind {
    fn from_number(number: u8) -> Option<PageKind> {
        match number {
            1 => Some(PageKind::Directory),
            2 => Some(PageKind::Volumes),
            3 => Some(PageKind::Writers),
            4 => Some(PageKind::Inner),
            5 => Some(PageKind::Leaf),
            _ => None,
        }
    }
}

/// The rule that a page does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PageError {
    /// Rotten, lost, or another page.
    #[error("the page does not have the checksum that its pointer tells")]
    Checksum,
    /// Not a page.
    #[error("the page has no magic")]
    Magic,
    /// Of a format that this program does not know.
    #[error("the page has version {0}")]
    Version(u8),
    /// Of no kind that exists.
    #[error("the page has kind {0}, which does not exist")]
    UnknownKind(u8),
    /// A page, but for something else.
    #[error("the page is another one: {found:?} instead of {expected:?}")]
    Other {
        /// What the pointer leads to.
        expected: PageHeader,
        /// What is there.
        found: PageHeader,
    },
}

/// What a page says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// What it holds.
    pub kind: PageKind,
    /// Of pages of a map: 0 for leaves. Else 0.
    pub level: u8,
    /// Of pages of a map: the volume's place in the table. Else 0.
    pub volume: u32,
    /// Of pages of a map: the first cell divided by the cells that a page of this level covers. Of tables: the page's
    /// place in its table. Of the directory: 0.
    pub index: u64,
    /// The checkpoint that wrote it. Does not count when a page is compared with what it should be.
    pub generation: u64,
}

impl PageHeader {
    /// The header of a page of a map.
    pub fn of_map(volume: u32, level: u8, index: u64, generation: u64) -> PageHeader {
        let kind = if level == 0 { PageKind::Leaf } else { PageKind::Inner };
        PageHeader { kind, level, volume, index, generation }
    }

    /// The header of the directory or of page `index` of a table.
    pub fn of_table(kind: PageKind, index: u64, generation: u64) -> PageHeader {
        PageHeader { kind, level: 0, volume: 0, index, generation }
    }

    /// Writes it into a page, whose contents stay.
    pub fn encode(&self, page: &mut Page) {
        let wire = WireHeader {
            magic: PAGE_MAGIC,
            version: PAGE_VERSION,
            kind: self.kind as u8,
            level: self.level,
            reserved_7: 0,
            volume: self.volume.into(),
            reserved_12: [0; 4],
            index: self.index.into(),
            generation: self.generation.into(),
        };
        if let Ok((header, _)) = WireHeader::mut_from_prefix(page) {
            *header = wire;
        }
    }

    /// Reads it from a page.
    ///
    /// # Errors
    /// All but [`PageError::Checksum`] and [`PageError::Other`].
    pub fn decode(page: &Page) -> Result<PageHeader, PageError> {
        let (wire, _) = WireHeader::ref_from_prefix(page).map_err(|_| PageError::Magic)?;
        if wire.magic != PAGE_MAGIC {
            return Err(PageError::Magic);
        }
        if wire.version != PAGE_VERSION {
            return Err(PageError::Version(wire.version));
        }
        let kind = PageKind::from_number(wire.kind).ok_or(PageError::UnknownKind(wire.kind))?;
        let (volume, index, generation) = (wire.volume.get(), wire.index.get(), wire.generation.get());
        Ok(PageHeader { kind, level: wire.level, volume, index, generation })
    }
}

/// The checksum of a page, which stands with the pointer to it.
#[inline]
pub fn page_checksum(page: &Page) -> u64 {
    checksum_of(page)
}

/// The header of the page that `checksum`, from the pointer to it, belongs to, if it is the page that is expected
/// there (of whatever generation).
///
/// # Errors
/// See [`PageError`].
pub fn verify_page(page: &Page, checksum: u64, expected: &PageHeader) -> Result<PageHeader, PageError> {
    if page_checksum(page) != checksum {
        return Err(PageError::Checksum);
    }
    let found = PageHeader::decode(page)?;
    match (PageHeader { generation: expected.generation, ..found }) == *expected {
        true => Ok(found),
        false => Err(PageError::Other { expected: *expected, found }),
    }
}

impl CellShape {
    /// Cells that a page of `level` covers, `None` above [`MAP_LEVEL_MAX`].
    pub fn span(self, level: u8) -> Option<u64> {
        let within = level <= MAP_LEVEL_MAX;
        within.then(|| self.cells_per_leaf() * (CHILDREN_PER_PAGE as u64).pow(level.into()))
    }

    /// The height that the map of a volume of `cells` cells needs, `None` beyond every map.
    pub fn height_for(self, cells: u64) -> Option<u8> {
        (0..=MAP_LEVEL_MAX)
            .find(|level| self.span(*level).is_some_and(|span| span >= cells))
            .map(|level| level + 1)
    }
}

/// Pointer `place` of an inner page; [`PagePointer::NONE`] beyond the page.
#[inline]
pub fn pointer(page: &Page, place: usize) -> PagePointer {
    let pointers = PointerPage::ref_from_bytes(page).ok().and_then(|page| page.pointers.get(place));
    pointers.map_or(PagePointer::NONE, WirePointer::get)
}

/// Sets pointer `place` of an inner page; nothing beyond the page.
#[inline]
pub fn set_pointer(page: &mut Page, place: usize, pointer: PagePointer) {
    let pointers = PointerPage::mut_from_bytes(page).ok().and_then(|page| page.pointers.get_mut(place));
    if let Some(wire) = pointers {
        *wire = pointer.into();
    }
}

/// Entry `place` of a directory: both copies of a table's page. First [`VOLUME_PAGES`] of volumes, then
/// [`WRITER_PAGES`] of writers.
pub fn directory_entry(page: &Page, place: usize) -> [PagePointer; 2] {
    [pointer(page, 2 * place), pointer(page, 2 * place + 1)]
}

/// Sets entry `place` of a directory.
pub fn set_directory_entry(page: &mut Page, place: usize, copies: [PagePointer; 2]) {
    let [first, second] = copies;
    set_pointer(page, 2 * place, first);
    set_pointer(page, 2 * place + 1, second);
}

/// The bytes of image `place` of a leaf; empty beyond the leaf.
#[inline]
pub fn image(page: &Page, shape: CellShape, place: usize) -> &[u8] {
    image_range(shape, place).and_then(|range| page.get(range)).unwrap_or(&[])
}

/// The bytes of image `place` of a leaf, to be changed; empty beyond the leaf.
#[inline]
pub fn image_mut(page: &mut Page, shape: CellShape, place: usize) -> &mut [u8] {
    image_range(shape, place).and_then(|range| page.get_mut(range)).unwrap_or(&mut [])
}

#[inline]
fn image_range(shape: CellShape, place: usize) -> Option<std::ops::Range<usize>> {
    let within = (place as u64) < shape.cells_per_leaf();
    within.then(|| {
        let start = HEADER_LEN + place * shape.image_len();
        start..start + shape.image_len()
    })
}

/// The volume at `place` of a page of the volume table, 0 to [`VOLUMES_PER_PAGE`].
///
/// # Errors
/// The entry is one that cannot be.
pub fn volume(page: &Page, place: usize) -> Result<Option<VolumeEntry>, EntryError> {
    let entry = VolumePage::ref_from_bytes(page).ok().and_then(|page| page.entries.get(place));
    entry.map_or(Ok(None), VolumeEntry::from_wire)
}

/// Sets or clears the volume at `place` of a page of the volume table.
pub fn set_volume(page: &mut Page, place: usize, volume: Option<&VolumeEntry>) {
    let entry = VolumePage::mut_from_bytes(page).ok().and_then(|page| page.entries.get_mut(place));
    if let Some(entry) = entry {
        *entry = volume.map_or_else(WireEntry::new_zeroed, VolumeEntry::wire);
    }
}

/// The host at `place` of a page of the writer table, 0 to [`WRITERS_PER_PAGE`]; 0: none.
pub fn writer(page: &Page, place: usize) -> u64 {
    let host = WriterPage::ref_from_bytes(page).ok().and_then(|page| page.hosts.get(place));
    host.map_or(0, |host| host.get())
}

/// Sets the host at `place` of a page of the writer table.
pub fn set_writer(page: &mut Page, place: usize, host: u64) {
    let place = WriterPage::mut_from_bytes(page).ok().and_then(|page| page.hosts.get_mut(place));
    if let Some(place) = place {
        place.set(host);
    }
}

/// A pointer's bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct WirePointer {
    slot: U64,
    checksum: U64,
}
const _: () = assert!(size_of::<WirePointer>() == 16);

impl WirePointer {
    pub(super) fn get(&self) -> PagePointer {
        PagePointer { slot: self.slot.get(), checksum: self.checksum.get() }
    }
}

impl From<PagePointer> for WirePointer {
    fn from(pointer: PagePointer) -> Self {
        WirePointer { slot: pointer.slot.into(), checksum: pointer.checksum.into() }
    }
}

const HEADER_LEN: usize = 32;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireHeader {
    magic: [u8; 4],
    version: u8,
    kind: u8,
    level: u8,
    reserved_7: u8,
    volume: U32,
    reserved_12: [u8; 4],
    index: U64,
    generation: U64,
}
const _: () = assert!(size_of::<WireHeader>() == HEADER_LEN);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PointerPage {
    header: WireHeader,
    pointers: [WirePointer; CHILDREN_PER_PAGE],
}
const _: () = assert!(size_of::<PointerPage>() == SLOT_LEN);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct VolumePage {
    header: WireHeader,
    entries: [WireEntry; VOLUMES_PER_PAGE],
    reserved_end: [u8; 224],
}
const _: () = assert!(size_of::<VolumePage>() == SLOT_LEN);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WriterPage {
    header: WireHeader,
    hosts: [U64; WRITERS_PER_PAGE],
}
const _: () = assert!(size_of::<WriterPage>() == SLOT_LEN);
