//! One request and how far it has come.

use libc::iovec;
use rustix::io::Errno;

use super::{FileError, FileId, FileRefusal};
use crate::backing::{Backing, VECTORS_MAX};
use crate::regions::{RegionId, RegionTable};

/// Interruptions in a row after which a transfer is given up: honest ones are single.
const PASSING_ERRORS_MAX: u32 = 16;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// From the file into memory.
    Read,
    /// From memory into the file.
    Write,
    /// fdatasync(2).
    Sync,
}

/// What the kernel is asked for at one time: all that is left of a request, as far as one call takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) work: Work,
    pub(crate) vectors: *const iovec,
    pub(crate) count: u32,
    pub(crate) offset: u64,
}

/// Memory and file range of a request, as far as it is still to be done.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    vectors: Vec<iovec>,
    /// Vectors before this one are done.
    first: usize,
    offset: u64,
}

// SAFETY: the vectors are plain numbers until somebody makes a system call with them, and the memory that they name is not
// tied to a thread.
unsafe impl Send for Transfer {}

impl Transfer {
    /// Begins anew at `offset`, with the memory that it has.
    pub(super) fn restart(&mut self, offset: u64) {
        self.vectors.clear();
        self.first = 0;
        self.offset = offset;
    }

    /// Notes where the parts of an acquired region lie. Neighbours become one vector.
    pub(super) fn gather(
        &mut self,
        backing: &Backing,
        regions: &RegionTable,
        region: RegionId,
        parts: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), FileRefusal> {
        let mut total = 0_usize;
        for (offset, len) in parts {
            let start = regions.pointer(region, offset, len).ok_or(FileRefusal::BadRegion)?;
            if !backing.is_aligned(u64::try_from(offset).unwrap_or(u64::MAX), len) {
                return Err(FileRefusal::Misaligned);
            }
            total = total.checked_add(len).ok_or(FileRefusal::Outside)?;
            let base = start.cast_mut().cast();
            match self.vectors.last_mut() {
                Some(last) if last.iov_base.wrapping_byte_add(last.iov_len) == base => last.iov_len += len,
                _ if len > 0 => self.vectors.push(iovec { iov_base: base, iov_len: len }),
                _ => {}
            }
        }
        if total == 0 {
            return Err(FileRefusal::Empty);
        }
        if !backing.is_aligned(self.offset, total) {
            return Err(FileRefusal::Misaligned);
        }
        if backing.has_range(self.offset, total) { Ok(()) } else { Err(FileRefusal::Outside) }
    }

    /// What is left, as far as one call takes it.
    pub(super) fn rest(&self) -> &[iovec] {
        let rest = self.vectors.get(self.first..).unwrap_or_default();
        rest.get(..VECTORS_MAX).unwrap_or(rest)
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Notes that `bytes` more are done. Whether all are.
    fn advance(&mut self, bytes: u32) -> bool {
        self.offset = self.offset.saturating_add(u64::from(bytes));
        let mut bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        while let Some(vector) = self.vectors.get_mut(self.first) {
            if bytes < vector.iov_len {
                vector.iov_base = vector.iov_base.wrapping_byte_add(bytes);
                vector.iov_len -= bytes;
                return false;
            }
            bytes -= vector.iov_len;
            self.first += 1;
        }
        true
    }
}

/// A request of the service.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) file: FileId,
    pub(super) user: u64,
    pub(super) work: Work,
    /// Acquired as long as the request lives.
    pub(super) region: Option<RegionId>,
    pub(super) transfer: Transfer,
    /// Interruptions since it last came further.
    passing_errors: u32,
}

impl Request {
    pub(super) fn new(
        file: FileId,
        user: u64,
        work: Work,
        region: Option<RegionId>,
        transfer: Transfer,
    ) -> Request {
        Request { file, user, work, region, transfer, passing_errors: 0 }
    }

    pub(super) fn step(&self) -> Step {
        let rest = self.transfer.rest();
        let count = u32::try_from(rest.len()).unwrap_or(0);
        Step { work: self.work, vectors: rest.as_ptr(), count, offset: self.transfer.offset() }
    }

    /// Takes what a step has come to; `None` if another one is due.
    pub(super) fn note(&mut self, result: Result<u32, Errno>) -> Option<Result<(), FileError>> {
        match (self.work, result) {
            (Work::Sync, result) => Some(result.map(drop).map_err(FileError::of)),
            (Work::Read | Work::Write, Ok(0)) => Some(Err(FileError::Short)),
            (Work::Read | Work::Write, Ok(bytes)) => {
                self.passing_errors = 0;
                self.transfer.advance(bytes).then_some(Ok(()))
            }
            (Work::Read | Work::Write, Err(Errno::INTR | Errno::AGAIN))
                if self.passing_errors < PASSING_ERRORS_MAX =>
            {
                self.passing_errors += 1;
                None
            }
            (Work::Read | Work::Write, Err(error)) => Some(Err(FileError::of(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(lens: &[usize]) -> Transfer {
        let vectors = lens.iter().scan(0x1000_usize, |at, len| {
            let base = std::ptr::without_provenance_mut(*at);
            *at += len + 0x1000;
            Some(iovec { iov_base: base, iov_len: *len })
        });
        Transfer { vectors: vectors.collect(), first: 0, offset: 8192 }
    }

    fn request(lens: &[usize]) -> Request {
        Request::new(FileId { index: 0, generation: 0 }, 7, Work::Write, None, transfer(lens))
    }

    #[test]
    fn a_short_transfer_goes_on_where_it_stopped() {
        let mut request = request(&[4096, 8192]);
        assert_eq!(request.note(Ok(4096 + 512)), None);
        let rest: Vec<(usize, usize)> =
            request.transfer.rest().iter().map(|vector| (vector.iov_base.addr(), vector.iov_len)).collect();
        assert_eq!(rest, [(0x1000 + 4096 + 0x1000 + 512, 8192 - 512)]);
        assert_eq!(request.step().offset, 8192 + 4096 + 512);
        assert_eq!(request.note(Ok(8192 - 512)), Some(Ok(())));
    }

    #[test]
    fn a_transfer_without_progress_fails() {
        assert_eq!(request(&[4096]).note(Ok(0)), Some(Err(FileError::Short)));
        let mut interrupted = request(&[4096]);
        for _ in 0..PASSING_ERRORS_MAX {
            assert_eq!(interrupted.note(Err(Errno::INTR)), None);
        }
        assert_eq!(interrupted.note(Err(Errno::INTR)), Some(Err(FileError::Failed { errno: libc::EINTR })));
    }

    #[test]
    fn progress_forgives_interruptions() {
        let mut request = request(&[1 << 20]);
        for _ in 0..1_000 {
            assert_eq!(request.note(Err(Errno::AGAIN)), None);
            assert_eq!(request.note(Ok(512)), None);
        }
    }

    #[test]
    fn a_sync_is_never_tried_again() {
        let mut sync =
            Request::new(FileId { index: 0, generation: 0 }, 7, Work::Sync, None, Transfer::default());
        assert_eq!(sync.note(Err(Errno::INTR)), Some(Err(FileError::Failed { errno: libc::EINTR })));
        assert_eq!(sync.note(Ok(0)), Some(Ok(())));
    }

    #[test]
    fn errors_are_told_apart() {
        for (errno, error) in [
            (Errno::NOSPC, FileError::NoSpace),
            (Errno::DQUOT, FileError::NoSpace),
            (Errno::NODEV, FileError::Gone),
            (Errno::NXIO, FileError::Gone),
            (Errno::IO, FileError::Failed { errno: libc::EIO }),
        ] {
            assert_eq!(request(&[512]).note(Err(errno)), Some(Err(error)));
        }
    }
}
