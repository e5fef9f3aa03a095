//! Files and requests of one reactor, in numbered slots that are used again, each life under its own generation.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::request::{Request, Step, Transfer, Work};
use super::workers::{Job, Workers};
use super::{FileError, FileId, FileRefusal};
use crate::backend::{Operation, Token};
use crate::backing::Backing;
use crate::mailbox::Wake;
use crate::regions::{RegionId, RegionTable};

/// Files of one reactor: more pools than a machine has disks.
const FILES_MAX: usize = 1024;

/// Requests of one file with the kernel at one time: keeps the fastest disks busy, and is a small part of the ring's
/// completions, so that one slow disk leaves room for the others.
const IN_FLIGHT_PER_FILE_MAX: usize = 256;

/// Requests of a reactor that are known at one time, those that wait included. Who has so many out has lost count.
const REQUESTS_MAX: usize = 65_536;

/// Memory for vectors that is kept for later requests.
const SPARE_TRANSFERS_MAX: usize = 1024;

/// What follows a step.
pub(super) enum Next {
    /// Another one.
    Step,
    /// The request is over.
    Over { user: u64, file: FileId, region: Option<RegionId>, result: Result<(), FileError> },
}

/// Requests of a reactor's files that are not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnderWay {
    /// None.
    Nothing,
    /// Reads only.
    Reads,
    /// Writes, and perhaps reads.
    Writes,
    /// Syncs, and perhaps others.
    Syncs,
}

struct OpenFile {
    backing: Arc<Backing>,
    /// The kernel carries requests out by itself; otherwise threads do, one system call after the other.
    by_kernel: bool,
    in_flight: usize,
    /// Requests that wait for their turn.
    waiting: VecDeque<u32>,
    closing: bool,
    /// It is in the list of those that are closed.
    finished: bool,
}

struct FileSlot {
    generation: u32,
    file: Option<OpenFile>,
}

struct RequestSlot {
    generation: u32,
    request: Option<Request>,
}

/// All files and requests of one reactor.
pub(crate) struct FileTable {
    files: Vec<FileSlot>,
    requests: Vec<RequestSlot>,
    /// Free slots for requests.
    free: Vec<u32>,
    spare: Vec<Transfer>,
    /// Closing files that nothing is in flight of.
    finished: Vec<FileId>,
    open: usize,
    /// Writes that are not over.
    writes: usize,
    /// Syncs that are not over.
    syncs: usize,
    workers: Workers,
}

impl FileTable {
    pub(crate) fn new(wake: Arc<Wake>) -> FileTable {
        FileTable {
            files: Vec::new(),
            requests: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            finished: Vec::new(),
            open: 0,
            writes: 0,
            syncs: 0,
            workers: Workers::new(wake),
        }
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open
    }

    /// What requests of files are under way.
    pub(crate) fn under_way(&self) -> UnderWay {
        match (self.syncs, self.writes, self.requests.len() - self.free.len()) {
            (0, 0, 0) => UnderWay::Nothing,
            (0, 0, _) => UnderWay::Reads,
            (0, _, _) => UnderWay::Writes,
            _ => UnderWay::Syncs,
        }
    }

    /// Notes that a request begins, or is over.
    fn count(&mut self, work: Work, begins: bool) {
        let count = match work {
            Work::Read => return,
            Work::Write => &mut self.writes,
            Work::Sync => &mut self.syncs,
        };
        *count = if begins { *count + 1 } else { *count - 1 };
    }

    /// Whether threads have done something, or a file is closed, and the service does not know yet.
    pub(crate) fn has_news(&self) -> bool {
        !self.finished.is_empty() || self.workers.has_done()
    }

    /// Every open file.
    pub(crate) fn ids(&self) -> Vec<FileId> {
        let numbered = (0_u32..).zip(&self.files);
        numbered
            .filter(|(_, slot)| slot.file.is_some())
            .map(|(index, slot)| FileId { index, generation: slot.generation })
            .collect()
    }

    pub(super) fn add(&mut self, backing: Arc<Backing>, by_kernel: bool) -> io::Result<FileId> {
        if !by_kernel {
            self.workers.ensure_started()?;
        }
        if self.open >= FILES_MAX {
            return Err(io::Error::other("too many files in one reactor"));
        }
        let free = self.files.iter().position(|slot| slot.file.is_none());
        let at = free.unwrap_or_else(|| {
            self.files.push(FileSlot { generation: 0, file: None });
            self.files.len() - 1
        });
        let index = u32::try_from(at).map_err(io::Error::other)?;
        let slot = self.files.get_mut(at).ok_or(io::ErrorKind::OutOfMemory)?;
        let (in_flight, waiting) = (0, VecDeque::new());
        slot.file =
            Some(OpenFile { backing, by_kernel, in_flight, waiting, closing: false, finished: false });
        self.open += 1;
        Ok(FileId { index, generation: slot.generation })
    }

    pub(crate) fn begin_close(&mut self, id: FileId) {
        if let Some(file) = self.file(id) {
            file.closing = true;
        }
        self.finish_if_quiet(id);
    }

    /// The backing of a file that takes requests.
    pub(super) fn backing(&mut self, id: FileId) -> Option<&Backing> {
        let file = self.file(id)?;
        if file.closing { None } else { Some(&*file.backing) }
    }

    /// An empty transfer, with memory of an earlier one if there is any.
    pub(super) fn spare_transfer(&mut self, offset: u64) -> Transfer {
        let mut transfer = self.spare.pop().unwrap_or_default();
        transfer.restart(offset);
        transfer
    }

    /// Takes a request in. Its index if it can be started now; otherwise it waits.
    pub(super) fn take(&mut self, request: Request) -> Result<Option<u32>, FileRefusal> {
        let (id, work) = (request.file, request.work);
        self.file(id).ok_or(FileRefusal::Gone)?;
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.requests.len() >= REQUESTS_MAX => return Err(FileRefusal::TooMany),
            None => {
                let index = u32::try_from(self.requests.len()).map_err(|_| FileRefusal::TooMany)?;
                self.requests.push(RequestSlot { generation: 0, request: None });
                index
            }
        };
        if let Some(slot) = place(&mut self.requests, index) {
            slot.request = Some(request);
        }
        self.count(work, true);
        let file = self.file(id).ok_or(FileRefusal::Gone)?;
        if file.in_flight < IN_FLIGHT_PER_FILE_MAX {
            file.in_flight += 1;
            return Ok(Some(index));
        }
        file.waiting.push_back(index);
        Ok(None)
    }

    /// The rest of a request that the kernel carries out; `None` if a thread does.
    pub(super) fn kernel_step(&mut self, index: u32) -> Option<(Token, BorrowedFd<'_>, Step)> {
        let token = self.token(index)?;
        let request = place(&mut self.requests, index)?.request.as_ref()?;
        let (id, step) = (request.file, request.step());
        let file = self.file(id)?;
        if file.by_kernel { Some((token, file.backing.direct_fd()?, step)) } else { None }
    }

    /// Hands the rest of a request to a thread, with all that it needs to outlive this table.
    pub(super) fn start_on_thread(&mut self, index: u32, regions: &RegionTable) {
        let Some(token) = self.token(index) else { return };
        let Some(RequestSlot { request: Some(request), .. }) = place(&mut self.requests, index) else {
            return;
        };
        let (id, work) = (request.file, request.work);
        let transfer = std::mem::take(&mut request.transfer);
        let region = request.region.and_then(|region| regions.handle(region));
        if let Some(file) = self.file(id) {
            let backing = Arc::clone(&file.backing);
            self.workers.start(Job { token, work, backing, region, transfer });
        }
    }

    /// The next step that a thread has finished.
    pub(super) fn take_from_thread(&mut self) -> Option<(Token, Result<u32, Errno>)> {
        let done = self.workers.take_done()?;
        if let Some(RequestSlot { request: Some(request), .. }) = place(&mut self.requests, done.token.index)
        {
            request.transfer = done.transfer;
        }
        Some((done.token, done.result))
    }

    /// Takes the outcome of a step in.
    pub(super) fn note_step(&mut self, token: Token, result: Result<u32, Errno>) -> Option<Next> {
        let slot = place(&mut self.requests, token.index)?;
        if slot.generation != token.generation {
            return None;
        }
        let Some(result) = slot.request.as_mut()?.note(result) else {
            return Some(Next::Step);
        };
        let Request { user, file, region, transfer, work, .. } = slot.request.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.index);
        self.count(work, false);
        if self.spare.len() < SPARE_TRANSFERS_MAX {
            self.spare.push(transfer);
        }
        Some(Next::Over { user, file, region, result })
    }

    /// A request of the file is over: the next one that waits takes its place.
    pub(super) fn next_waiting(&mut self, id: FileId) -> Option<u32> {
        let file = self.file(id)?;
        let next = file.waiting.pop_front();
        if next.is_none() {
            file.in_flight = file.in_flight.saturating_sub(1);
        }
        next
    }

    /// Notes a closing file for `file_closed` if nothing of it is in flight.
    pub(super) fn finish_if_quiet(&mut self, id: FileId) {
        if let Some(file) = self.file(id)
            && file.closing
            && file.in_flight == 0
            && !file.finished
        {
            file.finished = true;
            self.finished.push(id);
        }
    }

    /// Lets the next closed file go.
    pub(super) fn take_finished(&mut self) -> Option<FileId> {
        let id = self.finished.pop()?;
        if let Some(slot) = place(&mut self.files, id.index) {
            slot.file = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.open = self.open.saturating_sub(1);
        }
        Some(id)
    }

    fn token(&mut self, index: u32) -> Option<Token> {
        let generation = place(&mut self.requests, index)?.generation;
        Some(Token { operation: Operation::File, index, generation })
    }

    fn file(&mut self, id: FileId) -> Option<&mut OpenFile> {
        let slot = place(&mut self.files, id.index)?;
        if slot.generation == id.generation { slot.file.as_mut() } else { None }
    }
}

fn place<T>(table: &mut [T], index: u32) -> Option<&mut T> {
    table.get_mut(usize::try_from(index).ok()?)
}
