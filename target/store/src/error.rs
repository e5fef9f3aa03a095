//! Why a pool cannot be made, opened or changed. Failures of I/O are the block layer's `StoreError`.

use holdfast_block::{PoolId, VolumeId};
use thiserror::Error;

/// What does not hold in a pool's structures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Damage {
    /// The fixed words of a volume's table entry do not give their checksum, or cannot be.
    #[error("its table entry is damaged")]
    TableEntry,
    /// Two volumes with one identifier.
    #[error("its identifier occurs twice")]
    Twice,
    /// A pointer leaves the map area, or two point to one page.
    #[error("its map has a bad pointer")]
    MapPointer,
    /// A block beyond the volume's end.
    #[error("a block lies beyond its end")]
    BeyondEnd,
    /// A slot beyond the data area, or used by two blocks.
    #[error("a block has a bad slot")]
    Slot,
    /// A slot's record belongs to another block.
    #[error("a block has another block's record")]
    Record,
}

/// Why a pool or a volume cannot be what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PoolError {
    /// The sizes of a pool are outside the limits.
    #[error("a pool of {0} bytes cannot be")]
    Size(u64),
    /// The memory does not hold what the sizes ask for.
    #[error("the memory has {len} bytes, the pool needs {needed}")]
    TooShort {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        len: usize,
    },
    /// No pool was ever completed in this memory.
    #[error("there is no pool in this memory")]
    NotAPool,
    /// A pool of another version of this program.
    #[error("the pool has layout version {0}, which this program does not know")]
    Version(u64),
    /// The header's checksum does not match, or its sizes cannot be.
    #[error("the pool's header is damaged")]
    HeaderDamaged,
    /// The structures contradict each other.
    #[error("volume table entry {entry}, block {lba}: {damage}")]
    Damaged {
        /// Place in the volume table.
        entry: usize,
        /// Where in the volume, as near as it is known.
        lba: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// There is a volume with this identifier, or one that is still being deleted.
    #[error("volume {0} exists")]
    VolumeExists(VolumeId),
    /// No such volume.
    #[error("no volume {0}")]
    NoVolume(VolumeId),
    /// The volume table is full.
    #[error("the pool's volume table is full")]
    TableFull,
    /// A block length other than 512 and 4096, or other than the format's.
    #[error("a volume with blocks of {0} bytes cannot be")]
    BlockLen(usize),
    /// No block, more than the limit, or fewer than before.
    #[error("a volume of {0} blocks cannot be")]
    BlockCount(u64),
    /// There is a pool with this identifier.
    #[error("pool {0} exists")]
    PoolExists(PoolId),
    /// No such pool.
    #[error("no pool {0}")]
    NoPool(PoolId),
    /// The pool's device has failed, and nothing is written to it any more.
    #[error("pool {0} has failed: its device could not write")]
    Failed(PoolId),
    /// A name of more than 64 bytes, or with control characters.
    #[error("the volume's name cannot be kept")]
    VolumeName,
    /// The pool holds volumes, or is still letting go of them.
    #[error("pool {0} is in use")]
    InUse(PoolId),
}
