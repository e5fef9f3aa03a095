//! Blocking direct I/O with memory of any alignment: what is not aligned passes through a buffer that is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::file::FileError;

/// What memory is aligned to for direct I/O: enough for any logical block.
const ALIGNMENT: usize = 4096;

/// Bytes that pass through the buffer at a time: long enough for a disk's full speed.
const BUFFER_BYTES: usize = 1 << 20;

/// A descriptor opened for direct I/O.
#[derive(Debug)]
pub(crate) struct DirectFile {
    fd: OwnedFd,
    /// Made when it is first needed.
    buffer: Mutex<Vec<u8>>,
}

impl DirectFile {
    pub(crate) fn new(fd: OwnedFd) -> DirectFile {
        DirectFile { fd, buffer: Mutex::new(Vec::new()) }
    }

    /// Reads all of `into`; offset and length are aligned.
    pub(crate) fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), FileError> {
        if is_aligned(into) {
            return self.read_aligned(offset, into);
        }
        self.with_buffer(|buffer| {
            let mut at = offset;
            for part in into.chunks_mut(BUFFER_BYTES) {
                let through = buffer.get_mut(..part.len()).unwrap_or_default();
                self.read_aligned(at, through)?;
                part.copy_from_slice(through);
                at = advanced(at, part.len())?;
            }
            Ok(())
        })
    }

    /// Writes all of `bytes`; offset and length are aligned.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        if is_aligned(bytes) {
            return self.write_aligned(offset, bytes);
        }
        self.with_buffer(|buffer| {
            let mut at = offset;
            for part in bytes.chunks(BUFFER_BYTES) {
                let through = buffer.get_mut(..part.len()).unwrap_or_default();
                through.copy_from_slice(part);
                self.write_aligned(at, through)?;
                at = advanced(at, part.len())?;
            }
            Ok(())
        })
    }

    pub(crate) fn flush(&self) -> Result<(), FileError> {
        rustix::fs::fdatasync(&self.fd).map_err(FileError::of)
    }

    fn read_aligned(&self, mut offset: u64, mut into: &mut [u8]) -> Result<(), FileError> {
        while !into.is_empty() {
            match rustix::io::pread(&self.fd, &mut *into, offset) {
                Ok(0) => return Err(FileError::Short),
                Ok(read) => {
                    into = into.get_mut(read..).unwrap_or_default();
                    offset = advanced(offset, read)?;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(FileError::of(error)),
            }
        }
        Ok(())
    }

    fn write_aligned(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), FileError> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.fd, bytes, offset) {
                Ok(0) => return Err(FileError::Short),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset = advanced(offset, written)?;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(FileError::of(error)),
            }
        }
        Ok(())
    }

    /// Lends the buffer: [`BUFFER_BYTES`] at an aligned address.
    fn with_buffer<R>(&self, work: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut memory = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.is_empty() {
            memory.resize(BUFFER_BYTES + ALIGNMENT, 0);
        }
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        work(memory.get_mut(start..start + BUFFER_BYTES).unwrap_or_default())
    }
}

impl AsFd for DirectFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGNMENT) == 0
}

fn advanced(offset: u64, len: usize) -> Result<u64, FileError> {
    u64::try_from(len).ok().and_then(|len| offset.checked_add(len)).ok_or(FileError::Short)
}
