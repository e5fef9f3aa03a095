//! What the block layer asks of a store: ticketed and asynchronous, so that memory, files and devices
//! look the same from here.
//!
//! Blocks live in *slots*. A write never changes a slot in use: it fills fresh ones and publishes
//! them, block by block, data and record together, by one store of a word. A reader's slots are pinned
//! and are not reused before they are unpinned.
//!
//! Operations on one volume take effect one after the other, each of them whole: a Read finds all of a Publish or
//! nothing of it, and of two Publish operations that overlap one comes last in every block. The exception is a
//! Deallocate of a long range, whose blocks vanish one by one. Only a kill can cut a Publish, between two blocks.

use holdfast_pi::PiFormat;

use crate::{BlockCount, HostId, Lba, VolumeId};

/// A place for one block, data and record. Only the store that gave it knows what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotRef(u64);

impl SlotRef {
    /// No slot: a block that was never written or has been deallocated. Zeroes under an all-ones tuple.
    pub const HOLE: SlotRef = SlotRef(0);

    /// Wraps a store's own number; zero is the hole.
    pub fn from_raw(raw: u64) -> Self {
        SlotRef(raw)
    }

    /// The store's own number.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// Whether there is nothing.
    pub fn is_hole(self) -> bool {
        self.0 == 0
    }
}

/// How a block's tuple came to be, and what was found on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// Never written.
    Hole,
    /// The target made the tuple.
    Inserted,
    /// The host made the tuple; its guard was right on arrival.
    HostGood,
    /// The host made the tuple and had it stored unchecked; its guard was wrong on arrival.
    HostBadGuard,
    /// A host marked the block as one that cannot be read. There is no data.
    Uncorrectable,
}

/// What is kept beside a block's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRecord {
    /// The tuple as on the wire; the first [`PiFormat::tuple_len`] bytes count, the rest is zero.
    pub tuple: [u8; 16],
    /// How the tuple came to be.
    pub provenance: Provenance,
    /// Who wrote the block; `None` for a hole.
    pub writer: Option<HostId>,
}

impl BlockRecord {
    /// What a hole reads as: an all-ones tuple, which no check looks at.
    pub fn hole() -> Self {
        BlockRecord { tuple: [0xff; 16], provenance: Provenance::Hole, writer: None }
    }
}

/// Where bytes of a slot lie in a region that a socket can send from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The region, as the caller registered it.
    pub region: u16,
    /// Offset in it, in bytes.
    pub offset: usize,
}

/// An operation that takes its time. Each one ends in exactly one [`StoreDone`] with the same `token`;
/// its `slots` travel along and come back, so that nothing is allocated per I/O. `lba` is the first block, `blocks`
/// the length of the range.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields mean the same in every variant and are explained above")]
pub enum StoreOp {
    /// Makes reserved and filled slots the contents of `lba..`, each block atomically with its record; with `durable`
    /// not before they would survive a power cut.
    Publish { token: u32, volume: VolumeId, lba: Lba, slots: Vec<SlotRef>, durable: bool },
    /// Finds and pins the slots of a range, one per block, into `slots` (given empty). Fails if one of them is marked as
    /// [`Provenance::Uncorrectable`].
    Read { token: u32, volume: VolumeId, lba: Lba, blocks: BlockCount, slots: Vec<SlotRef> },
    /// Turns a range into holes. Ranges may be as large as the volume.
    Deallocate { token: u32, volume: VolumeId, lba: Lba, blocks: u64, slots: Vec<SlotRef> },
    /// Makes durable what was acknowledged before.
    Flush { token: u32, volume: VolumeId, slots: Vec<SlotRef> },
}

/// The end of a [`StoreOp`].
#[derive(Debug)]
pub struct StoreDone {
    /// Which.
    pub token: u32,
    /// As given, or filled by a Read.
    pub slots: Vec<SlotRef>,
    /// How it went. A failed Publish has changed nothing and given its slots back to the pool; a failed Read pins nothing.
    pub result: Result<(), StoreError>,
}

/// Why a store refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No such volume here.
    #[error("no such volume")]
    NoVolume,
    /// Not within the volume.
    #[error("not within the volume")]
    OutOfRange,
    /// The pool is full: it stays so until something in it is deleted.
    #[error("the pool is full")]
    NoRoom,
    /// What payloads under way take comes back: another time it may do.
    #[error("too many payloads are under way")]
    Busy,
    /// What came back of this block, the lowest such, is not what was stored.
    #[error("the medium lost block {}", .0.0)]
    Media(Lba),
    /// The medium could not read this block, the lowest such.
    #[error("the medium cannot read block {}", .0.0)]
    ReadFault(Lba),
    /// This block, the lowest such, is marked as one that cannot be read.
    #[error("block {} is marked as uncorrectable", .0.0)]
    Uncorrectable(Lba),
    /// The medium could not write, or is not trusted to write any more.
    #[error("the medium cannot write")]
    WriteFault,
}

/// How much of a volume holds data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks that are not holes.
    pub blocks_allocated: u64,
    /// The same in bytes of the pool.
    pub bytes_allocated: u64,
}

/// Geometry of a volume as its store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// 512 or 4096.
    pub block_len: usize,
    /// Number of blocks.
    pub block_count: u64,
    /// Protection information kept with each block.
    pub format: Option<PiFormat>,
}

/// A store: all pools of one core. See the module for the rules of slots.
pub trait Store {
    /// Geometry of a volume; `None` if it is not here.
    fn geometry(&self, volume: VolumeId) -> Option<Geometry>;

    /// How much of a volume holds data; `None` if it is not here.
    fn usage(&self, volume: VolumeId) -> Option<Usage>;

    /// Reserves one fresh slot per block from `lba` on into `slots` (given empty). All or nothing: [`StoreError::Busy`] while too
    /// many are taken. Whether the pool is full shows when they are published.
    fn reserve(
        &mut self,
        volume: VolumeId,
        lba: Lba,
        blocks: BlockCount,
        slots: &mut Vec<SlotRef>,
    ) -> Result<(), StoreError>;

    /// Gives reserved slots back that were never published.
    fn unreserve(&mut self, volume: VolumeId, slots: &[SlotRef]);

    /// The data of a reserved slot, to be filled: one block. `None` for a slot that is not of this volume.
    fn data_mut(&mut self, volume: VolumeId, slot: SlotRef) -> Option<&mut [u8]>;

    /// Sets the record of a reserved slot.
    fn set_record(&mut self, volume: VolumeId, slot: SlotRef, record: &BlockRecord);

    /// The data of a pinned slot: one block. `None` for a hole.
    fn data(&self, volume: VolumeId, slot: SlotRef) -> Option<&[u8]>;

    /// The record of a pinned slot, or of a hole.
    fn record(&self, volume: VolumeId, slot: SlotRef) -> BlockRecord;

    /// Where a pinned slot's data can be sent from; `None` for a hole.
    fn location(&self, volume: VolumeId, slot: SlotRef) -> Option<Location>;

    /// Starts an operation.
    fn submit(&mut self, op: StoreOp);

    /// Goes on with what is under way, for a bounded time, and takes one finished operation.
    fn poll(&mut self) -> Option<StoreDone>;

    /// Lets go of slots that a Read pinned.
    fn unpin(&mut self, volume: VolumeId, slots: &[SlotRef]);
}
