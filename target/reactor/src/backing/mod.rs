//! Backings: regular files and block devices under pools. They are opened for direct I/O only (the page cache would
//! acknowledge what it cannot write, and hide a failed flush behind a later success), held under an exclusive lock, and
//! described as the store must know them.
//!
//! A backing is opened and, when a pool is made or recovered, read and written by a thread that may wait
//! ([`Backing::read_at`], [`Backing::write_at`], [`Backing::flush`]). Then a reactor takes it over, see
//! [`crate::Io::add_file`].

mod aligned;
mod holder;
mod open;

#[cfg(any(debug_assertions, feature = "lossy"))]
mod lossy;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use libc::iovec;
use rustix::io::Errno;

use crate::file::{FileError, Work};
use aligned::DirectFile;
pub use holder::Holder;

#[cfg(any(debug_assertions, feature = "lossy"))]
pub use lossy::Loss;

/// Blocks that a backing can be asked for: any device's logical blocks are at most this long.
pub const BACKING_BLOCK_BYTES_MAX: u32 = 4096;

/// Names a way of losing what was not flushed ([`Loss`]), for tests of whole processes: `all`, `some:SEED` or
/// `pretend`. A build that cannot lose anything refuses to open a backing while this is set, so that no such test passes
/// for the wrong reason.
pub const LOSSY_VARIABLE: &str = "HOLDFAST_LOSSY_BACKING";

/// Most vectors of one call (`IOV_MAX`).
pub(crate) const VECTORS_MAX: usize = 1024;

/// How to open a backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingMode {
    /// What is there, to look at. Refused while somebody serves it.
    ReadOnly,
    /// What is there, for this process alone.
    ReadWrite,
    /// A new regular file of zeros, for this process alone.
    Create {
        /// Its length.
        len_bytes: u64,
        /// Whether the file system sets the space aside now, or finds it (or not) when it is written.
        space: Space,
    },
}

/// When a new file gets its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Now: there is room for all of it, or it is not made.
    Reserved,
    /// As it is written. Writes can then fail for want of room.
    Sparse,
}

/// What lies under a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingKind {
    /// A regular file.
    File,
    /// A block device.
    BlockDevice,
}

/// What is known of a backing since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackingInfo {
    /// File or device.
    pub kind: BackingKind,
    /// Its length in bytes, a multiple of `logical_block_bytes`; what a device has beyond that is not used.
    pub len_bytes: u64,
    /// Offsets, lengths and addresses of all I/O are multiples of this: a power of two from 512 to 4096.
    pub logical_block_bytes: u32,
    /// What the medium writes as one: at least `logical_block_bytes`. Larger for 512e devices.
    pub physical_block_bytes: u32,
    /// A completed write is on the medium: a block device says that it has no volatile write cache. Never said of files,
    /// whose file system may hold back what leads to the data.
    pub write_through: bool,
}

/// Why there is no backing.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// The system's word, on doing `what`.
    #[error("{} cannot be {what}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("{} is in use by {holder}", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
        /// Who has it, as far as can be seen.
        holder: Holder,
    },
    /// To be made, and there is one.
    #[error("{} exists already", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// A folder, a pipe, a terminal.
    #[error("{} is neither a regular file nor a block device", path.display())]
    Unsuitable {
        /// Which file.
        path: PathBuf,
    },
    /// The file system cannot bypass the page cache.
    #[error("{}: its file system does no direct I/O, which pools need", path.display())]
    NoDirectIo {
        /// Which file.
        path: PathBuf,
    },
    /// Logical blocks of a length that pools do not know.
    #[error("{}: logical blocks of {bytes} bytes; pools need 512 to 4096", path.display())]
    BlockLength {
        /// Which file.
        path: PathBuf,
        /// What direct I/O must be aligned to.
        bytes: u32,
    },
    /// The environment asks for a lossy backing in a way that this build does not know.
    #[error("{LOSSY_VARIABLE} is set to {value:?}, which this build cannot do: nothing is opened")]
    Lossy {
        /// Its value.
        value: String,
    },
}

/// An open file or device of a pool. Its lock goes with it.
#[derive(Debug)]
pub struct Backing {
    path: PathBuf,
    info: BackingInfo,
    file: DirectFile,
    #[cfg(any(debug_assertions, feature = "lossy"))]
    lossy: Option<lossy::Lossy>,
}

impl Backing {
    /// Opens or makes `path`, locks it, and finds out what it is. May wait for the disk.
    ///
    /// While [`LOSSY_VARIABLE`] is set, debug builds and builds with the feature `lossy` open a backing that loses what
    /// was not flushed; others refuse.
    pub fn open(path: &Path, mode: BackingMode) -> Result<Backing, BackingError> {
        let Some(value) = std::env::var_os(LOSSY_VARIABLE) else {
            return Backing::open_plain(path, mode);
        };
        let value = value.to_string_lossy().into_owned();
        #[cfg(any(debug_assertions, feature = "lossy"))]
        if let Some(loss) = Loss::parse(&value) {
            return Backing::open_lossy(path, mode, loss);
        }
        Err(BackingError::Lossy { value })
    }

    /// As [`Backing::open`], but unflushed writes stay in this process's memory and go with it. For tests.
    #[cfg(any(debug_assertions, feature = "lossy"))]
    pub fn open_lossy(path: &Path, mode: BackingMode, loss: Loss) -> Result<Backing, BackingError> {
        let mut backing = Backing::open_plain(path, mode)?;
        backing.lossy = Some(lossy::Lossy::new(loss, backing.info.logical_block_bytes));
        Ok(backing)
    }

    fn open_plain(path: &Path, mode: BackingMode) -> Result<Backing, BackingError> {
        let (fd, info) = open::open(path, mode)?;
        Ok(Backing {
            path: path.to_owned(),
            info,
            file: DirectFile::new(fd),
            #[cfg(any(debug_assertions, feature = "lossy"))]
            lossy: None,
        })
    }

    /// What it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn info(&self) -> BackingInfo {
        self.info
    }

    /// Reads all of `into` from `offset`, waiting for it. Offset and length are multiples of the logical block's;
    /// the address need not be.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), FileError> {
        self.check_range(offset, into.len())?;
        #[cfg(any(debug_assertions, feature = "lossy"))]
        if let Some(lossy) = &self.lossy {
            return lossy.read_at(&self.file, offset, into);
        }
        self.file.read_at(offset, into)
    }

    /// Writes all of `bytes` to `offset`, waiting for it; as to alignment as [`Backing::read_at`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        self.check_range(offset, bytes.len())?;
        #[cfg(any(debug_assertions, feature = "lossy"))]
        if let Some(lossy) = &self.lossy {
            return lossy.write_at(&self.file, offset, bytes);
        }
        self.file.write_at(offset, bytes)
    }

    /// Makes every write that has completed outlast a loss of power. After an error, what of them is on the medium is
    /// unknown, and a later success says nothing about them.
    pub fn flush(&self) -> Result<(), FileError> {
        #[cfg(any(debug_assertions, feature = "lossy"))]
        if let Some(lossy) = &self.lossy {
            return lossy.flush(&self.file);
        }
        self.file.flush()
    }

    /// Whether `len` bytes at `offset` are aligned.
    pub(crate) fn is_aligned(&self, offset: u64, len: usize) -> bool {
        let block = u64::from(self.info.logical_block_bytes);
        offset.is_multiple_of(block) && u64::try_from(len).is_ok_and(|len| len.is_multiple_of(block))
    }

    /// Whether `len` bytes at `offset` are inside.
    pub(crate) fn has_range(&self, offset: u64, len: usize) -> bool {
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        end.is_some_and(|end| end <= self.info.len_bytes)
    }

    /// The descriptor for I/O that the kernel carries out by itself; `None` if it has to go through this value.
    pub(crate) fn direct_fd(&self) -> Option<BorrowedFd<'_>> {
        #[cfg(any(debug_assertions, feature = "lossy"))]
        if self.lossy.is_some() {
            return None;
        }
        Some(self.file.as_fd())
    }

    /// Carries out one step of a request and waits for it: bytes moved, perhaps fewer than asked for.
    ///
    /// # Safety
    ///
    /// The vectors name memory that stays mapped during the call, and that no reference refers to if it is read into.
    pub(crate) unsafe fn step(&self, work: Work, vectors: &[iovec], offset: u64) -> Result<u32, Errno> {
        #[cfg(any(debug_assertions, feature = "lossy"))]
        if let Some(lossy) = &self.lossy {
            // SAFETY: the caller's promise.
            return unsafe { lossy.step(&self.file, work, vectors, offset) };
        }
        let fd = self.file.as_fd().as_raw_fd();
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
        let count = i32::try_from(vectors.len().min(VECTORS_MAX)).map_err(|_| Errno::INVAL)?;
        let moved = match work {
            // SAFETY: the vectors are `count` initialised ones; what they name is the caller's promise.
            Work::Read => unsafe { libc::preadv(fd, vectors.as_ptr(), count, offset) },
            // SAFETY: as for reads.
            Work::Write => unsafe { libc::pwritev(fd, vectors.as_ptr(), count, offset) },
            Work::Sync => return rustix::fs::fdatasync(&self.file).map(|()| 0),
        };
        u32::try_from(moved)
            .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }

    fn check_range(&self, offset: u64, len: usize) -> Result<(), FileError> {
        if !self.has_range(offset, len) {
            return Err(FileError::Short);
        }
        if self.is_aligned(offset, len) { Ok(()) } else { Err(FileError::Failed { errno: libc::EINVAL }) }
    }
}
