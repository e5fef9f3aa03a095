//! Files and block devices of a reactor: what can be asked of them, and what may come of it.
//!
//! Requests leave with the turn's one system call, beside the sockets'. Each file has a bounded number with the kernel, the
//! others wait in order. A transfer that comes back short is continued where it stopped, and fails when it gets nowhere.
//! Memory under a request (a region) stays mapped until the request is over, whatever happens to region, file, service
//! or reactor meanwhile.

mod request;
mod table;
mod workers;

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::backend::{Completion, Token};
use crate::backing::Backing;
use crate::io::Io;
use crate::reactor::Service;
use crate::regions::RegionId;
use request::{Request, Transfer};
pub(crate) use request::{Step, Work};
pub(crate) use table::{FileTable, UnderWay};

/// Names a file of a reactor. It stays invalid for ever once the file is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    index: u32,
    generation: u32,
}

impl FileId {
    /// A small number, unique among the files open at one time: fit to index a table of the service's own.
    pub fn index(self) -> usize {
        usize::try_from(self.index).unwrap_or(usize::MAX)
    }
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The device or file system reports an error (an unreadable sector, say).
    #[error("{}", io::Error::from_raw_os_error(*errno))]
    Failed {
        /// The operating system's number.
        errno: i32,
    },
    /// There is no room: the file system, the thin device or a quota is full.
    #[error("there is no room left under the file")]
    NoSpace,
    /// The device is not there any more.
    #[error("the device is gone")]
    Gone,
    /// The file ends before the range does, or a transfer stopped without a reason.
    #[error("the transfer ended before all of it was done")]
    Short,
}

impl FileError {
    pub(crate) fn of(error: Errno) -> FileError {
        match error {
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => FileError::NoSpace,
            Errno::NODEV | Errno::NXIO | Errno::NOMEDIUM | Errno::STALE => FileError::Gone,
            error => FileError::Failed { errno: error.raw_os_error() },
        }
    }

    /// The number that [`FileError::of`] makes this of.
    #[cfg(any(debug_assertions, feature = "lossy"))]
    pub(crate) fn errno(self) -> Errno {
        match self {
            FileError::Failed { errno } => Errno::from_raw_os_error(errno),
            FileError::NoSpace => Errno::NOSPC,
            FileError::Gone => Errno::NODEV,
            FileError::Short => Errno::IO,
        }
    }
}

/// Why a request was refused; nothing came of it, and nothing will be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileRefusal {
    /// The file is closed or closing.
    #[error("the file is gone")]
    Gone,
    /// A part is not inside its region, or the region was unregistered.
    #[error("a part lies outside its region")]
    BadRegion,
    /// Offset or a part is no multiple of the logical block.
    #[error("the transfer is not aligned to logical blocks")]
    Misaligned,
    /// The range is not inside the file.
    #[error("the range lies outside the file")]
    Outside,
    /// There is nothing to transfer.
    #[error("the transfer is empty")]
    Empty,
    /// Too many requests are known already.
    #[error("too many requests at one time")]
    TooMany,
}

impl Io {
    /// Takes a file in, for requests. [`Io::close_file`] lets it go; the backing itself closes with its last owner.
    ///
    /// # Errors
    ///
    /// Too many files, or (where requests are carried out by threads: on epoll) no thread to be had.
    pub fn add_file(&mut self, backing: Arc<Backing>) -> io::Result<FileId> {
        let by_kernel = self.backend.ring().is_some() && backing.direct_fd().is_some();
        self.files.add(backing, by_kernel)
    }

    /// Closes a file: it takes no request any more, those that it has are carried out and reported, and then `file_closed`
    /// follows, never from within this call. Unknown and closing files are left alone.
    pub fn close_file(&mut self, file: FileId) {
        self.files.begin_close(file);
    }

    /// Reads into `parts` (offset and length in bytes) of a region, one after the other, what lies at `offset` of the file.
    /// `user` comes back with [`Service::file_done`], never from within this call. Requests of a file may be done in any
    /// order.
    ///
    /// Until then the parts are the kernel's: whoever looks at them meanwhile sees a mixture of old and new.
    pub fn file_read(
        &mut self,
        file: FileId,
        user: u64,
        offset: u64,
        region: RegionId,
        parts: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), FileRefusal> {
        self.transfer(Work::Read, file, user, offset, region, parts)
    }

    /// Writes `parts` of a region, one after the other, to `offset` of the file; otherwise as [`Io::file_read`]. It is on
    /// the medium for certain only after a [`Io::file_sync`] that was asked for when this was done.
    ///
    /// Until it is done the parts must not be written to, or a mixture is.
    pub fn file_write(
        &mut self,
        file: FileId,
        user: u64,
        offset: u64,
        region: RegionId,
        parts: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), FileRefusal> {
        self.transfer(Work::Write, file, user, offset, region, parts)
    }

    /// Makes what was written, and reported as done before this call, outlast a loss of power. It waits for no other
    /// request. A failure is never tried again here: what it means for the data is for the service to judge.
    pub fn file_sync(&mut self, file: FileId, user: u64) -> Result<(), FileRefusal> {
        self.files.backing(file).ok_or(FileRefusal::Gone)?;
        let request = Request::new(file, user, Work::Sync, None, Transfer::default());
        self.take_request(request)
    }

    fn transfer(
        &mut self,
        work: Work,
        file: FileId,
        user: u64,
        offset: u64,
        region: RegionId,
        parts: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), FileRefusal> {
        let mut transfer = self.files.spare_transfer(offset);
        let backing = self.files.backing(file).ok_or(FileRefusal::Gone)?;
        // One use for the whole request, so that no part of the region goes.
        if !self.regions.acquire(region, 0, 0) {
            return Err(FileRefusal::BadRegion);
        }
        let outcome = match transfer.gather(backing, &self.regions, region, parts) {
            Ok(()) => self.take_request(Request::new(file, user, work, Some(region), transfer)),
            Err(refusal) => Err(refusal),
        };
        if outcome.is_err() {
            self.regions.release(region);
        }
        outcome
    }

    fn take_request(&mut self, request: Request) -> Result<(), FileRefusal> {
        if let Some(index) = self.files.take(request)? {
            self.start_step(index);
        }
        Ok(())
    }

    /// Hands the rest of a request to the kernel, or to a thread that waits in its place.
    fn start_step(&mut self, index: u32) {
        let Some(ring) = self.backend.ring() else {
            return self.files.start_on_thread(index, &self.regions);
        };
        let Some((token, fd, step)) = self.files.kernel_step(index) else {
            return self.files.start_on_thread(index, &self.regions);
        };
        // SAFETY: the vectors stay in the request's slot and are not touched before the step's completion; they name memory
        // of a region that the request has acquired, so it stays mapped. The file stays open until its last request is
        // over.
        unsafe { ring.file_step(token, fd, step) };
    }

    /// Takes the completion of a step: the request goes on, or is over.
    fn on_file_step(&mut self, token: Token, result: Result<u32, Errno>) -> Option<FileOver> {
        let (user, file, region, result) = match self.files.note_step(token, result)? {
            table::Next::Step => {
                self.start_step(token.index);
                return None;
            }
            table::Next::Over { user, file, region, result } => (user, file, region, result),
        };
        if let Some(region) = region {
            self.regions.release(region);
        }
        if let Some(next) = self.files.next_waiting(file) {
            self.start_step(next);
        }
        Some(FileOver { file, user, result })
    }

    /// Tells the service what became of requests that threads carried out. Whether there were any.
    pub(crate) fn deliver_from_threads<S: Service>(&mut self, service: &mut S) -> bool {
        let mut active = false;
        while let Some((token, result)) = self.files.take_from_thread() {
            active = true;
            self.deliver_file_step(service, token, result);
        }
        active
    }

    /// Tells the service what became of a request that the kernel carried out.
    pub(crate) fn on_file<S: Service>(&mut self, service: &mut S, completion: Completion) {
        self.deliver_file_step(service, completion.token, completion.result);
    }

    /// Tells the service of files that are closed.
    pub(crate) fn deliver_closed_files<S: Service>(&mut self, service: &mut S) {
        while let Some(file) = self.files.take_finished() {
            service.file_closed(self, file);
        }
    }

    fn deliver_file_step<S: Service>(&mut self, service: &mut S, token: Token, result: Result<u32, Errno>) {
        if let Some(FileOver { file, user, result }) = self.on_file_step(token, result) {
            service.file_done(self, file, user, result);
            self.files.finish_if_quiet(file);
        }
    }
}

/// A request that is over.
struct FileOver {
    file: FileId,
    user: u64,
    result: Result<(), FileError>,
}
