//! A backing that forgets, for tests of whole processes. The page cache survives the kill of a process, and direct I/O goes
//! past it; either way a missing flush does not show. Here what was written and not flushed lies in the memory of
//! this process, as it would in the volatile cache of a disk, and a kill takes it away as a loss of power would.
//!
//! It stands behind [`super::Backing`], so that nobody above can tell. It is part of debug builds, and of release builds
//! with the feature `lossy` only.

use std::collections::BTreeMap;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::iovec;
use rustix::io::Errno;

use super::aligned::DirectFile;
use crate::file::{FileError, Work};

/// Unflushed bytes that are kept at most; then all of them are written, as a disk does whose cache is full.
const KEPT_BYTES_MAX: usize = 256 << 20;

/// One in so many logical blocks goes to the file at once where some do.
const AT_ONCE_ONE_IN: u64 = 4;

/// What a lossy backing does with what was not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it stays in memory until a flush.
    All,
    /// Logical blocks are picked, by the seed, to reach the file at once, before others that were written earlier: so
    /// that a kill leaves any subset of them, and tears what was written as one.
    Some {
        /// Of the picking.
        seed: u64,
    },
    /// A flush says that it was done and does nothing: the mistake that a test has to find.
    PretendFlush,
}

impl Loss {
    /// Reads `all`, `some:SEED` or `pretend`.
    pub fn parse(text: &str) -> Option<Loss> {
        match text {
            "all" => Some(Loss::All),
            "pretend" => Some(Loss::PretendFlush),
            _ => Some(Loss::Some { seed: text.strip_prefix("some:")?.parse().ok()? }),
        }
    }
}

/// What was written to a file and is not in it.
#[derive(Debug)]
pub(super) struct Lossy {
    loss: Loss,
    block_bytes: usize,
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Cache {
    /// Blocks that were not flushed, by their number.
    blocks: BTreeMap<u64, Box<[u8]>>,
    random: u64,
}

impl Lossy {
    pub(super) fn new(loss: Loss, block_bytes: u32) -> Lossy {
        let seed = if let Loss::Some { seed } = loss { seed } else { 0 };
        Lossy {
            loss,
            block_bytes: usize::try_from(block_bytes).unwrap_or(usize::MAX).max(1),
            // A generator of this kind never leaves zero.
            cache: Mutex::new(Cache { blocks: BTreeMap::new(), random: seed.wrapping_add(1).max(1) }),
        }
    }

    pub(super) fn read_at(&self, file: &DirectFile, offset: u64, into: &mut [u8]) -> Result<(), FileError> {
        self.read(&self.cache(), file, offset, into)
    }

    pub(super) fn write_at(&self, file: &DirectFile, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let mut cache = self.cache();
        self.write(&mut cache, file, offset, bytes)?;
        self.make_room(&mut cache, file)
    }

    pub(super) fn flush(&self, file: &DirectFile) -> Result<(), FileError> {
        if self.loss == Loss::PretendFlush {
            return Ok(());
        }
        self.write_out(&mut self.cache(), file)?;
        file.flush()
    }

    /// # Safety
    ///
    /// That of [`super::Backing::step`].
    pub(super) unsafe fn step(
        &self,
        file: &DirectFile,
        work: Work,
        vectors: &[iovec],
        offset: u64,
    ) -> Result<u32, Errno> {
        let mut moved = 0_usize;
        for vector in vectors {
            let at = u64::try_from(moved).ok().and_then(|moved| offset.checked_add(moved));
            let at = at.ok_or(Errno::INVAL)?;
            let outcome = match work {
                Work::Read => {
                    // SAFETY: mapped, and referred to by nobody else during the call: the caller's promise.
                    let into = unsafe { slice::from_raw_parts_mut(vector.iov_base.cast(), vector.iov_len) };
                    self.read_at(file, at, into)
                }
                Work::Write => {
                    // SAFETY: as for reads.
                    let bytes = unsafe { slice::from_raw_parts(vector.iov_base.cast(), vector.iov_len) };
                    self.write_at(file, at, bytes)
                }
                Work::Sync => Ok(()),
            };
            outcome.map_err(FileError::errno)?;
            moved = moved.saturating_add(vector.iov_len);
        }
        if work == Work::Sync {
            self.flush(file).map_err(FileError::errno)?;
        }
        u32::try_from(moved).map_err(|_| Errno::INVAL)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, cache: &Cache, file: &DirectFile, offset: u64, into: &mut [u8]) -> Result<(), FileError> {
        file.read_at(offset, into)?;
        for (number, block) in self.numbered(offset).zip(into.chunks_mut(self.block_bytes)) {
            if let Some(kept) = cache.blocks.get(&number) {
                block.copy_from_slice(kept.get(..block.len()).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn write(
        &self,
        cache: &mut Cache,
        file: &DirectFile,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), FileError> {
        for (number, block) in self.numbered(offset).zip(bytes.chunks(self.block_bytes)) {
            if matches!(self.loss, Loss::Some { .. }) && cache.picks() {
                file.write_at(self.place(number)?, block)?;
                cache.blocks.remove(&number);
            } else {
                cache.blocks.insert(number, block.into());
            }
        }
        Ok(())
    }

    fn make_room(&self, cache: &mut Cache, file: &DirectFile) -> Result<(), FileError> {
        if cache.blocks.len().saturating_mul(self.block_bytes) > KEPT_BYTES_MAX {
            self.write_out(cache, file)?;
        }
        Ok(())
    }

    /// Writes all blocks, neighbours together. Those that could not be written stay.
    fn write_out(&self, cache: &mut Cache, file: &DirectFile) -> Result<(), FileError> {
        let mut run = Vec::new();
        let mut run_start = 0;
        let mut next = None;
        for (&number, block) in &cache.blocks {
            if next != Some(number) {
                file.write_at(self.place(run_start)?, &run)?;
                run.clear();
                run_start = number;
            }
            run.extend_from_slice(block);
            next = number.checked_add(1);
        }
        file.write_at(self.place(run_start)?, &run)?;
        cache.blocks.clear();
        Ok(())
    }

    /// Numbers of the blocks from `offset` on.
    fn numbered(&self, offset: u64) -> std::ops::RangeFrom<u64> {
        offset / self.block_len()..
    }

    fn place(&self, number: u64) -> Result<u64, FileError> {
        number.checked_mul(self.block_len()).ok_or(FileError::Short)
    }

    fn block_len(&self) -> u64 {
        u64::try_from(self.block_bytes).unwrap_or(u64::MAX)
    }
}

impl Cache {
    /// Whether the next block goes to the file at once. Xorshift.
    fn picks(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.is_multiple_of(AT_ONCE_ONE_IN)
    }
}
