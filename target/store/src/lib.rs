//! Pools and volumes behind the block layer's [`Store`](holdfast_block::Store) interface.
//!
//! [`Stores`] is what one core owns: all its pools, and the way from a volume's identifier to the pool that
//! holds it. A [`MemoryPool`] keeps blocks, records and maps in memory that belongs to somebody else and
//! outlives this process, so that a killed target finds every volume again, each block with its own tuple.
//!
//! | module | what it decides |
//! |---|---|
//! | [`stores`](Stores) | which pool an operation goes to; completions, one each |
//! | [`memory`](MemoryPool) | layout of a memory pool, slots, maps, publishing, recovery |
//! | [`disk`] | pools in files and on devices |
//!
//! Pools in files and on devices go behind the same [`Stores`]; nothing outside this crate tells kinds of
//! pools apart. Nothing here does I/O, reads a clock or knows a transport.

pub mod disk;
mod error;
mod kind;
mod memory;
mod stores;

pub use disk::{
    DiskConfig, DiskLimits, DiskPool, Failure, Health, OpenPoolError, OpeningProgress, find_pool,
};
pub use error::{Damage, PoolError};
pub use memory::{
    IN_FLIGHT_BYTES_DEFAULT, MemoryPool, POOL_BYTES_MAX, POOL_BYTES_MIN, PoolConfig, PoolMemory, PoolUsage,
    VOLUME_BLOCKS_MAX, VOLUMES_PER_POOL_MAX, VolumeSpec, VolumeState,
};
pub use stores::Stores;
