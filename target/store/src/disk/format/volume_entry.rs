//! One volume: 256 bytes, the same in the volume table and in the journal.

use std::fmt;

use holdfast_block::VolumeId;
use holdfast_pi::{GuardKind, PiFormat, PiType};
use thiserror::Error;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::page::WirePointer;
use super::{CellShape, HEIGHT_MAX, PagePointer};

/// Bytes of an entry.
pub const VOLUME_ENTRY_LEN: usize = 256;

/// Blocks of the largest volume.
pub const BLOCKS_MAX: u64 = 1 << 44;

/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 64;

/// A pool's or volume's name: UTF-8 without control characters, at most 64 bytes, and zeroes behind it. May be empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; NAME_BYTES_MAX]);

impl Name {
    /// No name.
    pub const EMPTY: Name = Name([0; NAME_BYTES_MAX]);

    /// The name `text`; `None` if it is too long or has control characters.
    pub fn new(text: &str) -> Option<Name> {
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        (!text.chars().any(char::is_control)).then_some(Name(bytes))
    }

    pub(super) fn from_bytes(bytes: [u8; NAME_BYTES_MAX]) -> Option<Name> {
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES_MAX);
        let name = std::str::from_utf8(bytes.get(..len)?).ok().and_then(Name::new)?;
        (name.0 == bytes).then_some(name)
    }

    pub(super) fn to_bytes(self) -> [u8; NAME_BYTES_MAX] {
        self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES_MAX);
        // Made from text, cut at zeroes only.
        self.0.get(..len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Default for Name {
    fn default() -> Self {
        Name::EMPTY
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// The rule that a volume's entry does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EntryError {
    /// Neither 512 nor 4096.
    #[error("a volume with blocks of {0} bytes cannot be")]
    BlockLen(u32),
    /// No block, or too many.
    #[error("a volume of {0} blocks cannot be")]
    BlockCount(u64),
    /// Type, guard and tag widths that do not go together.
    #[error(
        "protection type {pi_type} with guard {guard} and a storage tag of {storage_tag_bits} bits cannot be"
    )]
    Protection {
        /// The type's number.
        pi_type: u8,
        /// The guard's number.
        guard: u8,
        /// Width of the storage tag.
        storage_tag_bits: u8,
    },
    /// No text.
    #[error("the volume's name is no text")]
    Name,
    /// The map's height and root contradict each other.
    #[error("a map of height {height} with its root in slot {root} cannot be")]
    Root {
        /// The height.
        height: u8,
        /// The root's slot.
        root: u64,
    },
    /// More cells or blocks than the volume has, or one kind without the other.
    #[error("{cells} cells and {blocks} blocks in use cannot be")]
    Live {
        /// Cells in use.
        cells: u64,
        /// Blocks in use.
        blocks: u64,
    },
    /// Not the length of an entry, or no identifier.
    #[error("there is no volume in the entry")]
    Empty,
}

/// A volume, and where its map begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeEntry {
    /// Identifier, unique over all pools.
    pub id: VolumeId,
    /// Namespace UUID.
    pub uuid: [u8; 16],
    /// Namespace Globally Unique Identifier.
    pub nguid: [u8; 16],
    /// Its name when it was last told.
    pub name: Name,
    /// Its blocks' length and its map's shape.
    pub shape: CellShape,
    /// Number of blocks, 1 to [`BLOCKS_MAX`].
    pub block_count: u64,
    /// Protection information kept with each block, of the same block length.
    pub format: Option<PiFormat>,
    /// Height of the map: 0 without a cell, 1 if the root is a leaf.
    pub height: u8,
    /// The map's root; none exactly with height 0.
    pub root: PagePointer,
    /// Cells that are no holes.
    pub cells_live: u64,
    /// Blocks of these cells, holes among them included, as far as they are within the volume.
    pub blocks_live: u64,
}

impl VolumeEntry {
    /// The entry's bytes.
    pub fn encode(&self) -> [u8; VOLUME_ENTRY_LEN] {
        let mut bytes = [0; VOLUME_ENTRY_LEN];
        if let Ok(wire) = WireEntry::mut_from_bytes(&mut bytes) {
            *wire = self.wire();
        }
        bytes
    }

    /// Reads an entry; `None` for one without a volume.
    ///
    /// # Errors
    /// It cannot be, or `bytes` is not of an entry's length.
    pub fn decode(bytes: &[u8]) -> Result<Option<VolumeEntry>, EntryError> {
        WireEntry::ref_from_bytes(bytes).map_err(|_| EntryError::Empty).and_then(VolumeEntry::from_wire)
    }

    /// Cells of the volume; the last may be cut.
    pub fn cells(&self) -> u64 {
        self.shape.cells_of(self.block_count)
    }

    pub(super) fn wire(&self) -> WireEntry {
        WireEntry {
            id: self.id.get().into(),
            uuid: self.uuid,
            nguid: self.nguid,
            name: self.name.to_bytes(),
            block_len: self.shape.block_len().into(),
            pi_type: self.format.map_or(0, |format| format.pi_type().number()),
            guard: self.format.map_or(0, |format| guard_number(format.guard())),
            storage_tag_bits: self.format.map_or(0, |format| format.storage_tag_bits()),
            height: self.height,
            block_count: self.block_count.into(),
            root: self.root.into(),
            cells_live: self.cells_live.into(),
            blocks_live: self.blocks_live.into(),
            reserved_flags: [0; 8],
            reserved_parent: [0; 4],
            reserved_end: [0; 92],
        }
    }

    pub(super) fn from_wire(wire: &WireEntry) -> Result<Option<VolumeEntry>, EntryError> {
        let Some(id) = VolumeId::new(wire.id.get()) else { return Ok(None) };
        let block_len = wire.block_len.get();
        let shape = CellShape::of_block_len(block_len).ok_or(EntryError::BlockLen(block_len))?;
        let entry = VolumeEntry {
            id,
            uuid: wire.uuid,
            nguid: wire.nguid,
            name: Name::from_bytes(wire.name).ok_or(EntryError::Name)?,
            shape,
            block_count: wire.block_count.get(),
            format: wire.protection()?,
            height: wire.height,
            root: wire.root.get(),
            cells_live: wire.cells_live.get(),
            blocks_live: wire.blocks_live.get(),
        };
        entry.check().map(|()| Some(entry))
    }

    fn check(&self) -> Result<(), EntryError> {
        if self.block_count == 0 || self.block_count > BLOCKS_MAX {
            return Err(EntryError::BlockCount(self.block_count));
        }
        if self.height > HEIGHT_MAX || (self.height == 0) != self.root.is_none() {
            return Err(EntryError::Root { height: self.height, root: self.root.slot });
        }
        let (cells, blocks) = (self.cells_live, self.blocks_live);
        let most = cells.checked_mul(self.shape.blocks_per_cell());
        if cells > self.cells()
            || blocks < cells
            || blocks > self.block_count
            || most.is_none_or(|most| blocks > most)
        {
            return Err(EntryError::Live { cells, blocks });
        }
        Ok(())
    }
}

fn guard_number(guard: GuardKind) -> u8 {
    match guard {
        GuardKind::Crc16 => 1,
        GuardKind::Crc32c => 2,
        GuardKind::Crc64 => 3,
    }
}

/// An entry's bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct WireEntry {
    id: U64,
    uuid: [u8; 16],
    nguid: [u8; 16],
    name: [u8; NAME_BYTES_MAX],
    block_len: U32,
    pi_type: u8,
    guard: u8,
    storage_tag_bits: u8,
    height: u8,
    block_count: U64,
    root: WirePointer,
    cells_live: U64,
    blocks_live: U64,
    reserved_flags: [u8; 8],
    reserved_parent: [u8; 4],
    reserved_end: [u8; 92],
}
const _: () = assert!(size_of::<WireEntry>() == VOLUME_ENTRY_LEN);

impl WireEntry {
    fn protection(&self) -> Result<Option<PiFormat>, EntryError> {
        let WireEntry { pi_type, guard, storage_tag_bits, .. } = *self;
        let error = EntryError::Protection { pi_type, guard, storage_tag_bits };
        if (pi_type, guard, storage_tag_bits) == (0, 0, 0) {
            return Ok(None);
        }
        let guard = match guard {
            1 => GuardKind::Crc16,
            2 => GuardKind::Crc32c,
            3 => GuardKind::Crc64,
            _ => return Err(error),
        };
        let pi_type = PiType::from_number(pi_type).ok_or(error)?;
        PiFormat::new(pi_type, guard, self.block_len.get(), storage_tag_bits).map(Some).map_err(|_| error)
    }
}
