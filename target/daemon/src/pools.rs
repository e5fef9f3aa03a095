//! The memory of pools: memfds that the service manager keeps for us, so that they outlive this process.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use holdfast_block::PoolId;
use holdfast_daemon::device::PoolMap;
use holdfast_reactor::{Mapping, Region, handover};
use holdfast_store::{MemoryPool, PoolConfig, PoolError};

use crate::intent::WantedPool;

/// A pool with the handle that sends use to read from its memory.
pub(crate) struct OpenPool {
    /// The pool.
    pub pool: MemoryPool<PoolMap>,
    /// Its memory.
    pub region: Region,
}

/// Why a pool cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The system refused memory.
    #[error("no memory for the pool: {0}")]
    Memory(#[from] std::io::Error),
    /// The machine has less memory than that.
    #[error("{wanted} bytes are more than this machine's memory of {total} bytes; make the pool smaller")]
    TooLarge {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes there are.
        total: u64,
    },
    /// The pool's structures.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl OpenError {
    /// Whether room is what is missing.
    pub(crate) fn is_no_room(&self) -> bool {
        matches!(self, OpenError::Memory(_) | OpenError::TooLarge { .. })
    }
}

/// Descriptors that an earlier run of the target left with the service manager.
#[derive(Debug, Default)]
pub(crate) struct KeptMemory(HashMap<String, OwnedFd>);

impl KeptMemory {
    /// Those of the inherited descriptors that are pools.
    pub(crate) fn from_inherited(inherited: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        KeptMemory(inherited.into_iter().filter(|(name, _)| name.starts_with(NAME_PREFIX)).collect())
    }

    /// The pool as it was left, or a new and empty one. The memory of a new one is with the service manager before
    /// anything can be written to it.
    pub(crate) fn open(&mut self, wanted: &WantedPool) -> Result<OpenPool, OpenError> {
        let name = memory_name(wanted.id);
        if let Some(fd) = self.0.get(&name) {
            // It stays in the book: whatever goes wrong now, no empty pool may take the place of one that has contents.
            let mapping = Mapping::from_fd(fd.try_clone()?)?;
            let region = mapping.region();
            let pool = MemoryPool::open(PoolMap::new(mapping))?;
            tracing::info!(pool = %wanted.name, "found the pool's memory");
            return Ok(OpenPool { pool, region });
        }
        // The memory is taken as blocks are written, so the system would not refuse more than it has until it is too late.
        if let Some(total) = memory_total().filter(|total| *total < wanted.size_bytes) {
            return Err(OpenError::TooLarge { wanted: wanted.size_bytes, total });
        }
        let config = PoolConfig::new(wanted.id, wanted.size_bytes);
        let mapping = Mapping::create(&name, MemoryPool::<PoolMap>::layout_len(&config)?)?;
        let fd = mapping.fd().try_clone_to_owned()?;
        let region = mapping.region();
        let pool = MemoryPool::create(PoolMap::new(mapping), &config)?;
        let kept = handover::store_fd(&name, fd.as_fd())?;
        if !kept {
            tracing::warn!(pool = %wanted.name, "no service manager keeps this pool's memory: it ends with this process");
        }
        tracing::info!(pool = %wanted.name, bytes = wanted.size_bytes, "made the pool");
        Ok(OpenPool { pool, region })
    }

    /// Forgets a pool's memory, and has the service manager forget it.
    pub(crate) fn forget(&mut self, pool: PoolId) {
        let name = memory_name(pool);
        self.0.remove(&name);
        if let Err(error) = handover::remove_fd(&name) {
            tracing::warn!(%pool, %error, "the service manager still keeps the pool's memory");
        }
    }
}

/// Memory for maps where nobody says how much: a quarter of the machine's.
pub(crate) fn map_memory_default() -> u64 {
    memory_total().unwrap_or(MEMORY_UNKNOWN) / 4
}

/// What a machine is taken to have that does not say: little.
const MEMORY_UNKNOWN: u64 = 1 << 30;

/// The machine's memory in bytes, proc(5) `MemTotal`.
fn memory_total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

const NAME_PREFIX: &str = "pool-";

fn memory_name(pool: PoolId) -> String {
    format!("{NAME_PREFIX}{pool}")
}
