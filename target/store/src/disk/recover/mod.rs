//! Making a pool, and finding one again.
//!
//! Both are blocking code over a [`Device`], for a thread that has nothing else to do. Recovery takes the newest superblock, the
//! map that it names, and the journal from where that map ends. Of the journal it believes what must be true: blocks that a later
//! one, or the superblock, calls durable as they are; of later ones each cell whose data is on the device as its checksum
//! says. What it has chosen is in a checkpoint of its own, flushed, before the pool serves: a second power cut finds the
//! same choice.

mod found;
mod replay;
#[cfg(test)]
mod tests;

use holdfast_block::PoolId;

use super::format::{
    JournalError, Layout, Name, PageKind, SECOND_SUPERBLOCK, SLOT_LEN, SLOTS_MIN, Superblock, SuperblockError,
};
use super::io::{Device, DiskError};
use super::pool::{DiskPool, Identity};
use crate::PoolMemory;
use found::Found;

/// What a new pool is to be.
#[derive(Debug, Clone)]
pub struct DiskConfig {
    /// Identifier, unique over all pools.
    pub id: PoolId,
    /// Made at random.
    pub uuid: [u8; 16],
    /// For people; at most 64 bytes.
    pub name: String,
    /// What was never written is more expensive to write: zeroes go ahead. So it is with files, and not with devices.
    pub zero_ahead: bool,
}

/// What this machine gives a pool.
#[derive(Debug, Clone, Copy)]
pub struct DiskLimits {
    /// Bytes of memory that its maps may take.
    pub map_bytes_max: u64,
}

/// How far an opening is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpeningProgress {
    /// Pages of the map have been read.
    Map {
        /// How many.
        pages: u64,
    },
    /// Journal blocks have been replayed.
    Journal {
        /// How many.
        blocks: u64,
    },
    /// The last checkpoint is being written.
    Checkpoint,
}

/// Why a pool cannot be made or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenPoolError {
    /// The device failed.
    #[error("{0}")]
    Device(#[from] DiskError),
    /// Nothing of a pool is on it.
    #[error("there is no pool on the device")]
    NotAPool,
    /// Neither copy of the superblock can be used.
    #[error("both copies of the superblock are unusable: {0}; {1}")]
    Superblocks(SuperblockError, SuperblockError),
    /// Both copies of the superblock are right, and of different pools.
    #[error("the copies of the superblock belong to two pools: one of them was written over the other")]
    TwoPools,
    /// The device is too small, too large, or shorter than the pool was made.
    #[error("the device has {len} bytes, the pool needs {needed}")]
    Length {
        /// Bytes needed, at least.
        needed: u64,
        /// Bytes there are.
        len: u64,
    },
    /// A name longer than 64 bytes, or with control characters.
    #[error("the pool's name cannot be kept")]
    Name,
    /// Both copies of a page of the tables are unusable.
    #[error("both copies of table page {index} ({kind:?}) are unusable: run `holdfast pool check`")]
    Table {
        /// Which table.
        kind: PageKind,
        /// Which page of it.
        index: u64,
    },
    /// A journal block that was durable is missing: what it changed is not known.
    #[error("journal block {number} was flushed and is not there: run `holdfast pool check`")]
    JournalLost {
        /// Its number.
        number: u64,
    },
    /// A journal block that cannot be what it is.
    #[error("{0}")]
    Journal(JournalError),
    /// The journal has gone on beyond what the newest superblock needs: a newer one is lost.
    #[error("journal block {number} belongs to a newer superblock than there is: run `holdfast pool check`")]
    SuperblockLost {
        /// The block's number.
        number: u64,
    },
    /// The maps do not fit into the memory that they may take.
    #[error("the pool's maps need more than the {0} bytes of memory that maps may take: raise --map-memory")]
    MapMemory(u64),
    /// A feature of a later version that forbids to write.
    #[error("the pool has features ({0:#x}) with which this program must not write")]
    ReadOnly(u64),
}

/// Blocks of the journal, or pages of the map, that are read at once.
const READ_SLOTS: u64 = 64;

impl<A: PoolMemory> DiskPool<A> {
    /// Makes an empty pool on a device, whatever that held before. `arena` is its memory for payloads.
    ///
    /// # Errors
    ///
    /// [`OpenPoolError::Device`], [`OpenPoolError::Length`], [`OpenPoolError::Name`].
    pub fn create(
        device: &impl Device,
        arena: A,
        config: &DiskConfig,
        limits: DiskLimits,
    ) -> Result<Self, OpenPoolError> {
        let length = OpenPoolError::Length { needed: SLOTS_MIN * SLOT_LEN as u64, len: device.len() };
        let layout = Layout::of(device.len()).map_err(|_| length)?;
        let name = Name::new(&config.name).ok_or(OpenPoolError::Name)?;
        let identity = Identity { id: config.id, uuid: config.uuid, name };
        let mut found = Found::nothing(identity, layout, limits);
        if config.zero_ahead {
            found.zeroed_through = layout.data_first();
        }
        let mut pool = found.into_pool(arena);
        pool.checkpoint.want();
        pool.drive(device)?;
        Ok(pool)
    }

    /// Finds a pool again.
    ///
    /// # Errors
    ///
    /// See [`OpenPoolError`]. Nothing has been written unless recovery had got as far as its own checkpoint.
    pub fn open(
        device: &impl Device,
        arena: A,
        limits: DiskLimits,
        progress: &mut dyn FnMut(OpeningProgress),
    ) -> Result<Self, OpenPoolError> {
        let (superblock, both) = newest_superblock(device)?;
        if superblock.features.unknown_read_only() != 0 {
            return Err(OpenPoolError::ReadOnly(superblock.features.unknown_read_only()));
        }
        let needed = superblock.layout.slots() * SLOT_LEN as u64;
        if device.len() < needed {
            return Err(OpenPoolError::Length { needed, len: device.len() });
        }
        let mut found = Found::of(device, &superblock, limits, progress)?;
        let replayed = found.replay(device, &superblock, progress)?;
        let mut pool = found.into_pool(arena);
        if (replayed || !both) && !holdfast_mutant::active("store-choice-not-kept") {
            progress(OpeningProgress::Checkpoint);
            pool.checkpoint.want();
            pool.drive(device)?;
        }
        Ok(pool)
    }

    /// Carries out on a device what the pool asks for, until it asks for nothing more.
    ///
    /// # Errors
    ///
    /// The device failed at something that cannot be made good.
    pub fn drive(&mut self, device: &impl Device) -> Result<(), OpenPoolError> {
        let mut failed = None;
        loop {
            self.work();
            let Some(op) = self.next_op() else { break };
            let done = op.carry_out(device, self.arena.memory_mut());
            failed = failed.or(done.result.err());
            self.op_done(done);
        }
        match failed.filter(|_| self.has_failed()) {
            Some(error) => Err(OpenPoolError::Device(error)),
            None => Ok(()),
        }
    }
}

/// Whether there is a pool on a device, and which.
///
/// # Errors
///
/// The device failed, or there is one that cannot be used.
pub fn find_pool(device: &impl Device) -> Result<Option<Superblock>, OpenPoolError> {
    match newest_superblock(device) {
        Ok((superblock, _)) => Ok(Some(superblock)),
        Err(OpenPoolError::NotAPool) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The newest usable copy of the superblock, and whether the other one says the same.
fn newest_superblock(device: &impl Device) -> Result<(Superblock, bool), OpenPoolError> {
    if device.len() < (SECOND_SUPERBLOCK + 1) * SLOT_LEN as u64 {
        return Err(OpenPoolError::NotAPool);
    }
    let [first, second] = Superblock::SLOTS;
    let mut copies = [(0, first), (1, second)].map(|(copy, slot)| {
        let mut page = [0; SLOT_LEN];
        match device.read_at(slot * SLOT_LEN as u64, &mut page) {
            Ok(()) => Superblock::decode(copy, &page).map_err(Ok),
            Err(error) => Err(Err(error)),
        }
    });
    copies.sort_by_key(|copy| {
        std::cmp::Reverse(copy.as_ref().map_or(0, |superblock| superblock.generation + 1))
    });
    match copies {
        [Ok(newest), Ok(other)] if (other.uuid, other.id) != (newest.uuid, newest.id) => {
            Err(OpenPoolError::TwoPools)
        }
        [Ok(newest), other] => {
            let same = other.is_ok_and(|other| other == newest);
            Ok((newest, same))
        }
        [Err(Ok(SuperblockError::Magic)), Err(Ok(SuperblockError::Magic))] => Err(OpenPoolError::NotAPool),
        [Err(Ok(first)), Err(Ok(second))] => Err(OpenPoolError::Superblocks(first, second)),
        [Err(Err(error)), Err(_)] | [Err(_), Err(Err(error))] => Err(OpenPoolError::Device(error)),
        [Err(_), Ok(_)] => Err(OpenPoolError::NotAPool),
    }
}
