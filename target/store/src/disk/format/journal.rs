//! Blocks of the journal: a header of 64 bytes, then records. Block `n` stands at place `n` modulo the journal's
//! length and is never rewritten before a checkpoint has made it superfluous.

mod read;

use holdfast_block::{HostId, VolumeId};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{CellMut, CellRef, CellShape, Page, SLOT_LEN, VolumeEntry, checksum_of};

pub use read::{JournalBlock, JournalError, Record, RecordError, Records};

/// Bytes of a block's records at most: room for 125 large cells in a row, or 38 small ones.
pub const JOURNAL_RECORDS_LEN: usize = SLOT_LEN - HEADER_LEN;

const JOURNAL_MAGIC: [u8; 4] = *b"HFJB";
const JOURNAL_VERSION: u16 = 1;
const HEADER_LEN: usize = 64;
/// Bytes of a record before its body.
pub const RECORD_HEAD_LEN: usize = 16;

/// Bytes of a record that states a writer.
pub const WRITER_RECORD_LEN: usize = RECORD_HEAD_LEN + 16;

/// What every block says beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalStamp {
    /// The pool's: blocks of a pool that was here before have another one. See [`super::Superblock::journal_tag`].
    pub pool_tag: u64,
    /// The block's number: 1 and up, each used once.
    pub number: u64,
    /// Every block up to this number, and the data that it speaks of, was flushed when this one was made.
    pub durable_through: u64,
    /// The last committed checkpoint when this block was made.
    pub generation: u64,
}

/// Appends records to a block that lies somewhere else, and seals it. Holds no more than where it is, so that the
/// block can be part of memory that is used for other things in between; it must be the same block each time. Every
/// `push` says whether the record fitted; one that did not has changed nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct JournalBuilder {
    /// Bytes of records.
    used: usize,
    records: u16,
    /// The last record, while it is one of cells: more of them can follow.
    open: Option<OpenCells>,
}

#[derive(Debug, Clone, Copy)]
struct OpenCells {
    /// Its head's offset in the block.
    head: usize,
    volume: u32,
    shape: CellShape,
    next_cell: u64,
    count: u16,
}

impl JournalBuilder {
    /// Before the first record.
    pub fn new() -> JournalBuilder {
        JournalBuilder::default()
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of records that are still free.
    pub fn free(&self) -> usize {
        JOURNAL_RECORDS_LEN - self.used
    }

    /// How many cells in a row from `first_cell` on fit.
    pub fn cells_free(&self, volume: u32, first_cell: u64, shape: CellShape) -> usize {
        let head = if self.continues(volume, first_cell, shape) { 0 } else { RECORD_HEAD_LEN };
        self.free().saturating_sub(head) / shape.image_len()
    }

    /// Appends a cell and hands out its image, which is all zeroes, to be filled; `None` if it does not fit. A cell
    /// that follows the last one takes no new record.
    #[inline]
    pub fn add_cell<'b>(
        &mut self,
        block: &'b mut Page,
        volume: u32,
        cell: u64,
        shape: CellShape,
    ) -> Option<CellMut<'b>> {
        if self.cells_free(volume, cell, shape) == 0 {
            return None;
        }
        let open = match self.open.filter(|_| self.continues(volume, cell, shape)) {
            Some(open) => open,
            None => {
                let head = HEADER_LEN + self.used;
                self.head(block, RecordKind::Cells(shape), volume, cell)?;
                OpenCells { head, volume, shape, next_cell: cell, count: 0 }
            }
        };
        let open = OpenCells { next_cell: cell.saturating_add(1), count: open.count + 1, ..open };
        let (head, _) = WireRecord::mut_from_prefix(block.get_mut(open.head..)?).ok()?;
        head.count.set(open.count);
        self.open = Some(open);
        let image = self.body(block, shape.image_len())?;
        image.fill(0);
        CellMut::new(shape, image)
    }

    /// Appends a cell's image.
    #[inline]
    #[must_use]
    pub fn push_cell(&mut self, block: &mut Page, volume: u32, cell: u64, image: CellRef<'_>) -> bool {
        self.add_cell(block, volume, cell, image.shape()).is_some_and(|mut place| place.copy_from(image))
    }

    /// Appends that `cells` cells from `first_cell` on are holes.
    #[must_use]
    pub fn push_trim(&mut self, block: &mut Page, volume: u32, first_cell: u64, cells: u64) -> bool {
        self.push(block, RecordKind::Trim, (volume, first_cell), &cells.to_le_bytes())
    }

    /// Appends what the volume at `volume` of the table is from now on. Only a volume that is new there takes map and
    /// counts over, which are empty then.
    #[must_use]
    pub fn push_volume(&mut self, block: &mut Page, volume: u32, entry: &VolumeEntry) -> bool {
        self.push(block, RecordKind::PutVolume, (volume, 0), &entry.encode())
    }

    /// Appends that the volume at `volume` of the table is no more.
    #[must_use]
    pub fn push_delete(&mut self, block: &mut Page, volume: u32, id: VolumeId) -> bool {
        self.push(block, RecordKind::DeleteVolume, (volume, 0), &id.get().to_le_bytes())
    }

    /// Appends which host the index of a writer means.
    #[must_use]
    pub fn push_writer(&mut self, block: &mut Page, index: u16, host: HostId) -> bool {
        let body = [u64::from(index).to_le_bytes(), host.get().to_le_bytes()];
        self.push(block, RecordKind::Writer, (0, 0), body.as_flattened())
    }

    /// Seals the block: header, zeroes behind the records, checksum. Sealed anew with another stamp, the records stay.
    pub fn finish(&self, block: &mut Page, stamp: &JournalStamp) {
        if let Some(rest) = block.get_mut(HEADER_LEN + self.used..) {
            rest.fill(0);
        }
        let header = WireHeader {
            magic: JOURNAL_MAGIC,
            version: JOURNAL_VERSION.into(),
            records: self.records.into(),
            pool_tag: stamp.pool_tag.into(),
            number: stamp.number.into(),
            durable_through: stamp.durable_through.into(),
            generation: stamp.generation.into(),
            // At most JOURNAL_RECORDS_LEN, which has 12 bits.
            used: u16::try_from(self.used).unwrap_or(u16::MAX).into(),
            reserved_42: [0; 14],
            checksum: 0.into(),
        };
        set_header(block, header);
        let checksum = checksum_of(block);
        set_header(block, WireHeader { checksum: checksum.into(), ..header });
    }

    /// The records so far, of the block that they were put into.
    pub fn records<'b>(&self, block: &'b Page) -> Records<'b> {
        Records::new(self.records, block.get(HEADER_LEN..HEADER_LEN + self.used).unwrap_or_default())
    }

    fn continues(&self, volume: u32, cell: u64, shape: CellShape) -> bool {
        self.open.is_some_and(|open| open.volume == volume && open.next_cell == cell && open.shape == shape)
    }

    fn push(
        &mut self,
        block: &mut Page,
        kind: RecordKind,
        (volume, first_cell): (u32, u64),
        body: &[u8],
    ) -> bool {
        if self.free() < RECORD_HEAD_LEN + body.len() {
            return false;
        }
        self.open = None;
        let head = self.head(block, kind, volume, first_cell);
        head.and_then(|()| self.body(block, body.len())).map(|place| place.copy_from_slice(body)).is_some()
    }

    fn head(&mut self, block: &mut Page, kind: RecordKind, volume: u32, first_cell: u64) -> Option<()> {
        let (kind, block_shift) = kind.to_wire();
        let head = WireRecord {
            kind,
            block_shift,
            count: 1.into(),
            volume: volume.into(),
            first_cell: first_cell.into(),
        };
        self.body(block, RECORD_HEAD_LEN)?.copy_from_slice(head.as_bytes());
        self.records += 1;
        Some(())
    }

    /// The next `len` bytes, which are free.
    fn body<'b>(&mut self, block: &'b mut Page, len: usize) -> Option<&'b mut [u8]> {
        let start = HEADER_LEN + self.used;
        let bytes = block.get_mut(start..start + len)?;
        self.used += len;
        Some(bytes)
    }
}

/// Kinds of records. Cells say the shape of their images, so that a block can be read without the volumes.
#[derive(Debug, Clone, Copy)]
enum RecordKind {
    Cells(CellShape),
    Trim,
    PutVolume,
    DeleteVolume,
    Writer,
}

impl RecordKind {
    /// Kind, and block length as a power of two.
    fn to_wire(self) -> (u8, u8) {
        match self {
            RecordKind::Cells(CellShape::Small) => (1, 9),
            RecordKind::Cells(CellShape::Large) => (1, 12),
            RecordKind::Trim => (2, 0),
            RecordKind::PutVolume => (3, 0),
            RecordKind::DeleteVolume => (4, 0),
            RecordKind::Writer => (5, 0),
        }
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireRecord {
    kind: u8,
    block_shift: u8,
    count: U16,
    volume: U32,
    first_cell: U64,
}
const _: () = assert!(size_of::<WireRecord>() == RECORD_HEAD_LEN);

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireHeader {
    magic: [u8; 4],
    version: U16,
    records: U16,
    pool_tag: U64,
    number: U64,
    durable_through: U64,
    generation: U64,
    used: U16,
    reserved_42: [u8; 14],
    checksum: U64,
}
const _: () = assert!(size_of::<WireHeader>() == HEADER_LEN);

fn set_header(block: &mut Page, header: WireHeader) {
    if let Ok((place, _)) = WireHeader::mut_from_prefix(block) {
        *place = header;
    }
}
