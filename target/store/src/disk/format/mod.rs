//! The bytes of a pool on its device: encoding, decoding, and which bytes cannot be. `FORMAT.md` is the same in
//! words.
//!
//! | module | structure |
//! |---|---|
//! | [`layout`](Layout) | which slots hold what, and how much fits |
//! | [`superblock`](Superblock) | where everything begins, in two copies |
//! | [`page`](PageHeader) | headers of pages, pointers to them, and the contents of each kind |
//! | [`volume_entry`](VolumeEntry) | one volume, in its table and in the journal |
//! | [`cell`](CellRef) | where 4 KiB of a volume lie and what they must hold |
//! | [`journal`](JournalBuilder) | blocks of the journal and their records |
//!
//! Nothing here knows more than bytes. Integers are little endian, checksums are CRC-64/NVME. Decoding never
//! panics, whatever the bytes are, and says by its error which rule does not hold. Reserved bytes are written as
//! zeroes and not looked at: a feature that gives them a meaning says so by a bit of the superblock.

mod cell;
mod journal;
mod layout;
mod page;
mod superblock;
mod volume_entry;

#[cfg(test)]
mod tests;

pub use cell::{
    BlockState, CELL_IMAGE_LEN_MAX, CellError, CellMut, CellRef, CellShape, LargeImage, SECTORS_MAX,
    SmallImage, WRITER_UNKNOWN, cell_checksum,
};
pub use journal::{
    JOURNAL_RECORDS_LEN, JournalBlock, JournalBuilder, JournalError, JournalStamp, RECORD_HEAD_LEN, Record,
    RecordError, Records, WRITER_RECORD_LEN,
};
pub use layout::{
    JOURNAL_FIRST, JOURNAL_SLOTS_MAX, JOURNAL_SLOTS_MIN, Layout, LayoutError, NUMBERS_MAX, SECOND_SUPERBLOCK,
    SLOTS_MAX, SLOTS_MIN, WINDOW,
};
pub use page::{
    CHILDREN_PER_PAGE, DIRECTORY_ENTRIES, HEIGHT_MAX, MAP_LEVEL_MAX, PageError, PageHeader, PageKind,
    PagePointer, VOLUME_PAGES, VOLUME_PLACES, VOLUMES_PER_PAGE, WRITER_PAGES, WRITER_PLACES,
    WRITERS_PER_PAGE, directory_entry, image, image_mut, page_checksum, pointer, set_directory_entry,
    set_pointer, set_volume, set_writer, verify_page, volume, writer,
};
pub use superblock::{Features, POOL_MAGIC, Superblock, SuperblockError, VERSION, journal_tag};
pub use volume_entry::{BLOCKS_MAX, EntryError, Name, VOLUME_ENTRY_LEN, VolumeEntry};

use holdfast_pi::{GuardKind, guard_of};

/// Bytes of a slot: the unit of everything on the device.
pub const SLOT_LEN: usize = 4096;

/// The bytes of one slot.
pub type Page = [u8; SLOT_LEN];

/// The checksum of `bytes`: CRC-64/NVME.
#[inline]
pub fn checksum_of(bytes: &[u8]) -> u64 {
    guard_of(GuardKind::Crc64, bytes)
}
