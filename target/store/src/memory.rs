//! Memory pools: blocks, records and maps in memory that outlives this process.
//!
//! **Kill safety.** The process may end at any instruction, without a word. What it leaves is the sequence of
//! its stores, cut somewhere. Every change is therefore prepared where nothing points to, and made by one
//! store of a word, [`PoolMemory::publish_u64`]:
//!
//! | change | prepared | the one word |
//! |---|---|---|
//! | block written | data and record in a fresh slot | the block's map entry |
//! | block deallocated | – | the block's map entry, to zero |
//! | map page added | a page of zeroes | its parent's entry, or the volume's root |
//! | volume created | the table entry's other words | the table entry's seal |
//! | volume grown | – | its block count |
//! | volume deleted | – | the table entry's seal, to zero |
//!
//! What is free is not written down anywhere: [`MemoryPool::open`] finds out by walking the maps, so nothing
//! can leak and nothing can be free and in use. A slot or page is used again only after the word that
//! pointed to it has changed.
//!
//! **Space.** Both block sizes have an area of slots of their own, each large enough for the whole capacity
//! plus what is in flight; the areas are sparse and cost nothing until they are touched. So a pool is full
//! when its *blocks* fill its capacity, to the byte, whatever volumes and block sizes they belong to: no
//! space is lost between volumes, and an overwrite in a full pool finds a fresh slot. The price is memory
//! beyond the capacity, bounded by the layout, for free slots between slots in use: see `alloc`.

mod ahead;
mod alloc;
mod jobs;
mod layout;
mod lists;
mod map;
mod medium;
mod ops;
mod pool;
mod recover;
#[cfg(test)]
mod tests;
mod volume;

pub use layout::{IN_FLIGHT_BYTES_DEFAULT, POOL_BYTES_MAX, POOL_BYTES_MIN, PoolConfig};
pub use medium::PoolMemory;
pub use pool::{MemoryPool, PoolUsage};
pub use volume::{VOLUME_BLOCKS_MAX, VOLUMES_PER_POOL_MAX, VolumeSpec, VolumeState};

pub(crate) use volume::VolumeIndex;
