//! The superblock: where everything begins. Two copies that say the same but for a torn moment.

use holdfast_block::PoolId;
use thiserror::Error;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::page::WirePointer;
use super::volume_entry::Name;
use super::{Layout, LayoutError, NUMBERS_MAX, Page, PagePointer, SECOND_SUPERBLOCK, SLOT_LEN, checksum_of};

/// The first bytes of every pool.
pub const POOL_MAGIC: [u8; 8] = *b"HOLDFSTP";

/// The format's version.
pub const VERSION: u32 = 1;

/// What the pool's structures hold beyond the first version's, by bits. None is defined yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Who does not know one of these may read and write the pool, and loses what the bit stands for.
    pub compatible: u64,
    /// Who does not know one of these may read the pool and must not write it.
    pub read_only_compatible: u64,
    /// Who does not know one of these must not open the pool.
    pub incompatible: u64,
}

impl Features {
    /// Incompatible features that this program does not know.
    pub fn unknown_incompatible(&self) -> u64 {
        self.incompatible
    }

    /// Features that this program does not know and that forbid it to write.
    pub fn unknown_read_only(&self) -> u64 {
        self.read_only_compatible
    }
}

/// Why a superblock is none, or cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SuperblockError {
    /// Nothing of a pool is here.
    #[error("there is no superblock of a pool")]
    Magic,
    /// Torn, or rotten.
    #[error("the superblock does not have its checksum")]
    Checksum,
    /// Of a format that this program does not know.
    #[error("the pool has format version {0}, which this program does not know")]
    Version(u32),
    /// With features that this program does not know.
    #[error("the pool has features that this program does not know: {0:#x}")]
    Features(u64),
    /// The other copy, here, or none.
    #[error("the superblock is copy {found}, here is the place of copy {expected}")]
    Copy {
        /// The place's.
        expected: u32,
        /// What it says.
        found: u32,
    },
    /// Identifier zero.
    #[error("the pool has no identifier")]
    PoolId,
    /// No text.
    #[error("the pool's name is no text")]
    Name,
    /// Sizes that cannot be.
    #[error("{0}")]
    Layout(#[from] LayoutError),
    /// Numbers of journal blocks that contradict each other.
    #[error("replay from block {start}, next block {next}, durable through {durable}: this cannot be")]
    Numbers {
        /// First to replay.
        start: u64,
        /// Next to be given out.
        next: u64,
        /// Known durable.
        durable: u64,
    },
    /// Neither closed nor not.
    #[error("the mark of a closed pool is {0}")]
    Clean(u32),
    /// A pointer to where no page can be.
    #[error("slot {0} cannot hold a page")]
    Pointer(u64),
}

/// A pool, as of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Features.
    pub features: Features,
    /// Made at random when the pool was made.
    pub uuid: [u8; 16],
    /// The pool's identifier.
    pub id: PoolId,
    /// Its name when it was last told.
    pub name: Name,
    /// Which slots hold what.
    pub layout: Layout,
    /// The checkpoint's number, rising by one.
    pub generation: u64,
    /// The first journal block that the map does not hold.
    pub journal_start: u64,
    /// Every journal block up to this one was flushed, with its data.
    pub durable_through: u64,
    /// The next journal block's number when this was written; later blocks may exist unless the pool was closed.
    pub next_number: u64,
    /// Closed well: there is nothing to replay.
    pub clean: bool,
    /// Both copies of the directory; none in a pool that never had a volume.
    pub directory: [PagePointer; 2],
    /// Kept for a stored allocation: none. What no structure uses is free.
    pub allocation: PagePointer,
    /// Slots below were written at least once.
    pub zeroed_through: u64,
}

impl Superblock {
    /// The slot of copy 0 and of copy 1.
    pub const SLOTS: [u64; 2] = [0, SECOND_SUPERBLOCK];

    /// What the pool's journal blocks begin with.
    pub fn journal_tag(&self) -> u64 {
        journal_tag(&self.uuid)
    }

    /// Writes copy 0 or 1.
    pub fn encode(&self, copy: u32, page: &mut Page) {
        let [first, second] = self.directory;
        let mut wire = WireSuperblock::new_zeroed();
        wire.magic = POOL_MAGIC;
        wire.version.set(VERSION);
        wire.copy.set(copy);
        wire.compatible.set(self.features.compatible);
        wire.read_only_compatible.set(self.features.read_only_compatible);
        wire.incompatible.set(self.features.incompatible);
        wire.uuid = self.uuid;
        wire.id.set(self.id.get());
        wire.name = self.name.to_bytes();
        wire.slots.set(self.layout.slots());
        wire.journal_first.set(self.layout.journal_first());
        wire.journal_slots.set(self.layout.journal_slots());
        wire.generation.set(self.generation);
        wire.journal_start.set(self.journal_start);
        wire.durable_through.set(self.durable_through);
        wire.next_number.set(self.next_number);
        wire.clean.set(self.clean.into());
        wire.directory = [first.into(), second.into()];
        wire.allocation = self.allocation.into();
        wire.zeroed_through.set(self.zeroed_through);
        wire.checksum.set(checksum_of(wire.as_bytes()));
        page.copy_from_slice(wire.as_bytes());
    }

    /// Reads what should be copy 0 or 1.
    ///
    /// # Errors
    /// See [`SuperblockError`]. Bits of [`Features::unknown_read_only`] are none: the caller must not write then.
    pub fn decode(copy: u32, page: &Page) -> Result<Superblock, SuperblockError> {
        let mut wire = WireSuperblock::read_from_bytes(page).map_err(|_| SuperblockError::Magic)?;
        if wire.magic != POOL_MAGIC {
            return Err(SuperblockError::Magic);
        }
        let checksum = wire.checksum.get();
        wire.checksum.set(0);
        if checksum_of(wire.as_bytes()) != checksum {
            return Err(SuperblockError::Checksum);
        }
        if wire.version != VERSION {
            return Err(SuperblockError::Version(wire.version.get()));
        }
        let features = Features {
            compatible: wire.compatible.get(),
            read_only_compatible: wire.read_only_compatible.get(),
            incompatible: wire.incompatible.get(),
        };
        if features.unknown_incompatible() != 0 {
            return Err(SuperblockError::Features(features.unknown_incompatible()));
        }
        if wire.copy != copy {
            return Err(SuperblockError::Copy { expected: copy, found: wire.copy.get() });
        }
        wire.parse(features)
    }
}

/// What journal blocks carry of their pool's UUID: its first 8 bytes.
pub fn journal_tag(uuid: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *uuid;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireSuperblock {
    magic: [u8; 8],
    version: U32,
    copy: U32,
    compatible: U64,
    read_only_compatible: U64,
    incompatible: U64,
    uuid: [u8; 16],
    id: U64,
    name: [u8; 64],
    slots: U64,
    journal_first: U64,
    journal_slots: U64,
    generation: U64,
    journal_start: U64,
    durable_through: U64,
    next_number: U64,
    clean: U32,
    reserved_188: [u8; 4],
    directory: [WirePointer; 2],
    allocation: WirePointer,
    zeroed_through: U64,
    reserved_248: [u8; 8],
    reserved_encryption: [u8; 256],
    reserved_512: [u8; 3576],
    checksum: U64,
}
const _: () = assert!(size_of::<WireSuperblock>() == SLOT_LEN);
const _: () = assert!(std::mem::offset_of!(WireSuperblock, reserved_encryption) == 256);
const _: () = assert!(std::mem::offset_of!(WireSuperblock, checksum) == 4088);

impl WireSuperblock {
    fn parse(&self, features: Features) -> Result<Superblock, SuperblockError> {
        let layout =
            Layout::from_superblock(self.slots.get(), self.journal_first.get(), self.journal_slots.get())?;
        let (start, next, durable) =
            (self.journal_start.get(), self.next_number.get(), self.durable_through.get());
        let possible = (1..=next).contains(&start) && durable < next && next < NUMBERS_MAX;
        if !possible || self.generation.get() >= NUMBERS_MAX {
            return Err(SuperblockError::Numbers { start, next, durable });
        }
        let clean = match self.clean.get() {
            0 => false,
            1 => true,
            other => return Err(SuperblockError::Clean(other)),
        };
        let [first, second] = &self.directory;
        let pointers = [first.get(), second.get(), self.allocation.get()];
        if let Some(bad) = pointers.iter().find(|pointer| !pointer.is_none() && !layout.is_data(pointer.slot))
        {
            return Err(SuperblockError::Pointer(bad.slot));
        }
        Ok(Superblock {
            features,
            uuid: self.uuid,
            id: PoolId::new(self.id.get()).ok_or(SuperblockError::PoolId)?,
            name: Name::from_bytes(self.name).ok_or(SuperblockError::Name)?,
            layout,
            generation: self.generation.get(),
            journal_start: start,
            durable_through: durable,
            next_number: next,
            clean,
            directory: [first.get(), second.get()],
            allocation: self.allocation.get(),
            zeroed_through: self.zeroed_through.get(),
        })
    }
}
