//! Cell images: where 4 KiB of a volume lie and what they must hold. The same bytes stand in leaves of the map and
//! in the journal.
//!
//! A volume with blocks of 4096 bytes has the *large* shape, one block a cell; one with blocks of 512 bytes the
//! *small* one, eight a cell, which share a slot and a checksum.

use thiserror::Error;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum_of;

/// The index of a writer that is not known: the table of writers was full, or the block has none.
pub const WRITER_UNKNOWN: u16 = 0xffff;

/// Bytes of the longer image.
pub const CELL_IMAGE_LEN_MAX: usize = 104;

/// Blocks of a cell at most.
pub const SECTORS_MAX: usize = 8;

/// What becomes of a volume's block size in its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellShape {
    /// One block of 4096 bytes.
    Large,
    /// Eight blocks of 512 bytes.
    Small,
}

impl CellShape {
    /// The shape for a block length of 4096 or 512 bytes.
    pub const fn of_block_len(block_len: u32) -> Option<CellShape> {
        match block_len {
            4096 => Some(CellShape::Large),
            512 => Some(CellShape::Small),
            _ => None,
        }
    }

    /// Bytes of a block.
    pub const fn block_len(self) -> u32 {
        match self {
            CellShape::Large => 4096,
            CellShape::Small => 512,
        }
    }

    /// Bytes of an image.
    #[inline]
    pub const fn image_len(self) -> usize {
        match self {
            CellShape::Large => 32,
            CellShape::Small => CELL_IMAGE_LEN_MAX,
        }
    }

    /// Images in a leaf.
    #[inline]
    pub const fn cells_per_leaf(self) -> u64 {
        match self {
            CellShape::Large => 127,
            CellShape::Small => 39,
        }
    }

    /// Blocks of a cell.
    #[inline]
    pub const fn blocks_per_cell(self) -> u64 {
        match self {
            CellShape::Large => 1,
            CellShape::Small => 8,
        }
    }

    /// Bytes kept of a block's tuple: a shorter one is followed by zeroes.
    pub const fn tuple_len(self) -> usize {
        match self {
            CellShape::Large => 16,
            CellShape::Small => 8,
        }
    }

    /// The cell of a block, and the block's place in it.
    #[inline]
    pub const fn cell_of(self, lba: u64) -> (u64, u64) {
        (lba / self.blocks_per_cell(), lba % self.blocks_per_cell())
    }

    /// Cells of a volume of `blocks` blocks; the last may be cut.
    pub const fn cells_of(self, blocks: u64) -> u64 {
        blocks.div_ceil(self.blocks_per_cell())
    }
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum BlockState {
    /// Never written, or deallocated. Without data.
    #[default]
    Hole = 0,
    /// The target made the tuple.
    Inserted = 1,
    /// The host made the tuple; its guard was right on arrival.
    HostGood = 2,
    /// The host made the tuple and had it stored unchecked; its guard was wrong on arrival.
    HostBadGuard = 3,
    /// A host marked the block as one that cannot be read. Without data.
    Uncorrectable = 4,
    /// Damage was found here and the block's content is gone: reads are media errors. Without data.
    Lost = 5,
}

impl BlockState {
    /// The state with this number.
    #[inline]
    pub const fn from_number(number: u8) -> Option<BlockState> {
        match number {
            0 => Some(BlockState::Hole),
            1 => Some(BlockState::Inserted),
            2 => Some(BlockState::HostGood),
            3 => Some(BlockState::HostBadGuard),
            4 => Some(BlockState::Uncorrectable),
            5 => Some(BlockState::Lost),
            _ => None,
        }
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether a block in this state has data in a slot.
    #[inline]
    pub const fn has_data(self) -> bool {
        matches!(self, BlockState::Inserted | BlockState::HostGood | BlockState::HostBadGuard)
    }
}

/// The rule that an image does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CellError {
    /// A state that does not exist.
    #[error("block {sector} of the cell has state {state}, which does not exist")]
    State {
        /// The block's place in the cell.
        sector: u8,
        /// Its state.
        state: u8,
    },
    /// Data without a slot.
    #[error("the cell holds data but names no slot")]
    NoSlot,
    /// A slot or a checksum without data.
    #[error("the cell holds no data but names a slot or a checksum")]
    IdleSlot,
    /// A hole with a tuple or a writer.
    #[error("block {sector} of the cell is a hole but has a tuple or a writer")]
    HoleNotEmpty {
        /// The block's place in the cell.
        sector: u8,
    },
    /// Not the length of an image.
    #[error("the image is cut")]
    Length,
}

/// The image of a large cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LargeImage {
    slot: [u8; 5],
    state: u8,
    writer: U16,
    checksum: U64,
    tuple: [u8; 16],
}
const _: () = assert!(size_of::<LargeImage>() == CellShape::Large.image_len());

/// The image of a small cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SmallImage {
    slot: [u8; 5],
    reserved_5: [u8; 3],
    checksum: U64,
    tuples: [[u8; 8]; SECTORS_MAX],
    writers: [U16; SECTORS_MAX],
    states: [u8; SECTORS_MAX],
}
const _: () = assert!(size_of::<SmallImage>() == CellShape::Small.image_len());

/// Places that both shapes have in common: slot and checksum.
const SLOT_BYTES: usize = 5;
const CHECKSUM_OFFSET: usize = 8;

/// An image, to be read where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellRef<'a> {
    /// Of a large cell.
    Large(&'a LargeImage),
    /// Of a small cell.
    Small(&'a SmallImage),
}

impl<'a> CellRef<'a> {
    /// The image in `bytes`; `None` unless they have its length. It may break every rule: see [`CellRef::check`].
    #[inline]
    pub fn new(shape: CellShape, bytes: &'a [u8]) -> Option<CellRef<'a>> {
        match shape {
            CellShape::Large => LargeImage::ref_from_bytes(bytes).ok().map(CellRef::Large),
            CellShape::Small => SmallImage::ref_from_bytes(bytes).ok().map(CellRef::Small),
        }
    }

    /// The image's bytes.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            CellRef::Large(image) => image.as_bytes(),
            CellRef::Small(image) => image.as_bytes(),
        }
    }

    /// The shape.
    pub fn shape(self) -> CellShape {
        match self {
            CellRef::Large(_) => CellShape::Large,
            CellRef::Small(_) => CellShape::Small,
        }
    }

    /// The slot of the data; 0: none.
    #[inline]
    pub fn slot(self) -> u64 {
        let (CellRef::Large(LargeImage { slot, .. }) | CellRef::Small(SmallImage { slot, .. })) = self;
        let [a, b, c, d, e] = *slot;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }

    /// The checksum that [`cell_checksum`] must give; 0 without data.
    #[inline]
    pub fn checksum(self) -> u64 {
        let (CellRef::Large(LargeImage { checksum, .. }) | CellRef::Small(SmallImage { checksum, .. })) =
            self;
        checksum.get()
    }

    /// The state of block `sector` of the cell, 0 for large cells. A number that is no state, or a place that is not
    /// in the cell, is [`BlockState::Lost`]: nothing can be read there.
    #[inline]
    pub fn state(self, sector: usize) -> BlockState {
        let number = match self {
            CellRef::Large(image) => (sector == 0).then_some(image.state),
            CellRef::Small(image) => image.states.get(sector).copied(),
        };
        number.and_then(BlockState::from_number).unwrap_or(BlockState::Lost)
    }

    /// The index of who wrote a block: in the pool's table of writers, or [`WRITER_UNKNOWN`].
    #[inline]
    pub fn writer(self, sector: usize) -> u16 {
        let writer = match self {
            CellRef::Large(image) => (sector == 0).then_some(image.writer),
            CellRef::Small(image) => image.writers.get(sector).copied(),
        };
        writer.map_or(WRITER_UNKNOWN, U16::get)
    }

    /// The tuple of a block: 16 bytes of large, 8 of small cells, as on the wire, a shorter one followed by zeroes.
    /// Empty for a place that is not in the cell.
    #[inline]
    pub fn tuple(self, sector: usize) -> &'a [u8] {
        match self {
            CellRef::Large(image) if sector == 0 => &image.tuple,
            CellRef::Large(_) => &[],
            CellRef::Small(image) => image.tuples.get(sector).map_or(&[], |tuple| tuple.as_slice()),
        }
    }

    /// Whether `data`, a slot's, is what this cell of the volume must hold.
    pub fn holds(self, data: &[u8], volume_id: u64, cell: u64) -> bool {
        cell_checksum(checksum_of(data), volume_id, cell, self) == self.checksum()
    }

    /// Whether every block is a hole: the states alone decide.
    #[inline]
    pub fn is_hole(self) -> bool {
        match self {
            CellRef::Large(image) => image.state == 0,
            CellRef::Small(image) => image.states == [0; SECTORS_MAX],
        }
    }

    /// Blocks that are no holes.
    pub fn blocks_live(self) -> u64 {
        (0..self.sectors()).map(|sector| u64::from(self.state(sector) != BlockState::Hole)).sum()
    }

    /// Whether a block has data in the slot.
    #[inline]
    pub fn has_data(self) -> bool {
        (0..self.sectors()).any(|sector| self.state(sector).has_data())
    }

    /// Blocks of the cell.
    #[inline]
    pub fn sectors(self) -> usize {
        match self {
            CellRef::Large(_) => 1,
            CellRef::Small(_) => SECTORS_MAX,
        }
    }

    /// Whether the image can be: its states exist, a slot is named exactly where a block has data, the checksum is
    /// zero where none has, and holes are zeroes. Not whether slot and writers are there.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(self) -> Result<(), CellError> {
        for (sector, index) in (0..self.sectors()).zip(0_u8..) {
            let number = match self {
                CellRef::Large(image) => image.state,
                CellRef::Small(image) => image.states.get(sector).copied().unwrap_or_default(),
            };
            let Some(state) = BlockState::from_number(number) else {
                return Err(CellError::State { sector: index, state: number });
            };
            let empty = self.writer(sector) == 0 && self.tuple(sector).iter().all(|byte| *byte == 0);
            if state == BlockState::Hole && !empty {
                return Err(CellError::HoleNotEmpty { sector: index });
            }
        }
        match self.has_data() {
            true if self.slot() == 0 => Err(CellError::NoSlot),
            false if self.slot() != 0 || self.checksum() != 0 => Err(CellError::IdleSlot),
            true | false => Ok(()),
        }
    }
}

/// An image, to be changed where it lies. What is set at a place that is not in the cell is dropped.
#[derive(Debug, PartialEq, Eq)]
pub enum CellMut<'a> {
    /// Of a large cell.
    Large(&'a mut LargeImage),
    /// Of a small cell.
    Small(&'a mut SmallImage),
}

impl<'a> CellMut<'a> {
    /// The image in `bytes`; `None` unless they have its length.
    #[inline]
    pub fn new(shape: CellShape, bytes: &'a mut [u8]) -> Option<CellMut<'a>> {
        match shape {
            CellShape::Large => LargeImage::mut_from_bytes(bytes).ok().map(CellMut::Large),
            CellShape::Small => SmallImage::mut_from_bytes(bytes).ok().map(CellMut::Small),
        }
    }

    /// The same, to be read.
    #[inline]
    pub fn as_ref(&self) -> CellRef<'_> {
        match self {
            CellMut::Large(image) => CellRef::Large(image),
            CellMut::Small(image) => CellRef::Small(image),
        }
    }

    /// Sets the slot, of which 40 bits are kept; 0: none.
    #[inline]
    pub fn set_slot(&mut self, number: u64) {
        let (CellMut::Large(LargeImage { slot, .. }) | CellMut::Small(SmallImage { slot, .. })) = self;
        let [a, b, c, d, e, ..] = number.to_le_bytes();
        *slot = [a, b, c, d, e];
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u64) {
        let (CellMut::Large(LargeImage { checksum, .. }) | CellMut::Small(SmallImage { checksum, .. })) =
            self;
        checksum.set(value);
    }

    /// Sets all that is kept of one block. Of `tuple` as many bytes count as the shape keeps; zeroes follow a shorter
    /// one. For a hole see [`CellMut::clear_block`].
    #[inline]
    pub fn set_block(&mut self, sector: usize, state: BlockState, writer: u16, tuple: &[u8]) {
        match self {
            CellMut::Large(image) if sector == 0 => {
                image.state = state.number();
                image.writer.set(writer);
                copy_padded(tuple, &mut image.tuple);
            }
            CellMut::Large(_) => {}
            CellMut::Small(image) => {
                let places = (
                    image.states.get_mut(sector),
                    image.writers.get_mut(sector),
                    image.tuples.get_mut(sector),
                );
                if let (Some(state_place), Some(writer_place), Some(tuple_place)) = places {
                    *state_place = state.number();
                    writer_place.set(writer);
                    copy_padded(tuple, tuple_place);
                }
            }
        }
    }

    /// Makes one block a hole. Slot and checksum stay: they are the whole cell's.
    #[inline]
    pub fn clear_block(&mut self, sector: usize) {
        self.set_block(sector, BlockState::Hole, 0, &[]);
    }

    /// Makes the whole cell a hole: zeroes.
    #[inline]
    pub fn clear(&mut self) {
        match self {
            CellMut::Large(image) => image.zero(),
            CellMut::Small(image) => image.zero(),
        }
    }

    /// Takes another image over. `false`, and nothing done, if it has another shape.
    #[inline]
    #[must_use]
    pub fn copy_from(&mut self, image: CellRef<'_>) -> bool {
        match (self, image) {
            (CellMut::Large(to), CellRef::Large(from)) => **to = *from,
            (CellMut::Small(to), CellRef::Small(from)) => **to = *from,
            (CellMut::Large(_), CellRef::Small(_)) | (CellMut::Small(_), CellRef::Large(_)) => return false,
        }
        true
    }
}

/// Copies as much as fits and fills the rest with zeroes.
#[inline]
fn copy_padded<const N: usize>(from: &[u8], to: &mut [u8; N]) {
    *to = [0; N];
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

/// Bytes in front of the image under a cell's checksum: data CRC, volume, cell.
const ADDRESS_LEN: usize = 24;

/// The checksum of a cell: over the CRC-64 of the slot's 4096 bytes, the volume's identifier, the cell's number, and
/// the image with zeroes for its slot and its checksum. So data, tuples, provenance, writers and address belong
/// together, and a cell can be moved to another slot as it is.
#[inline]
pub fn cell_checksum(data_crc: u64, volume_id: u64, cell: u64, image: CellRef<'_>) -> u64 {
    match image {
        CellRef::Large(image) => {
            checksum_with::<{ ADDRESS_LEN + 32 }>(data_crc, volume_id, cell, image.as_bytes())
        }
        CellRef::Small(image) => {
            checksum_with::<{ ADDRESS_LEN + CELL_IMAGE_LEN_MAX }>(data_crc, volume_id, cell, image.as_bytes())
        }
    }
}

#[inline]
fn checksum_with<const N: usize>(data_crc: u64, volume_id: u64, cell: u64, image: &[u8]) -> u64 {
    let mut summed = [0; N];
    let words = [data_crc, volume_id, cell].map(u64::to_le_bytes);
    let (address, rest) = summed.split_at_mut(ADDRESS_LEN);
    address.copy_from_slice(words.as_flattened());
    rest.copy_from_slice(image);
    let cleared = rest.iter_mut().take(CHECKSUM_OFFSET + size_of::<u64>()).enumerate();
    for (_, byte) in cleared.filter(|(at, _)| *at < SLOT_BYTES || *at >= CHECKSUM_OFFSET) {
        *byte = 0;
    }
    checksum_of(&summed)
}
