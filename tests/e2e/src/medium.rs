//! A medium that fails when it is told to: one file of a file system (FUSE) that this process serves, and on request a block
//! device over it. Whatever the kernel asks of the file comes here and is done, refused, held up, or done in part.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::device::demand_root;

/// The name of the one file.
const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
/// What the kernel may remember of attributes: they never change.
const TTL: Duration = Duration::from_secs(3600);
/// What a transfer that is done in part is cut to a multiple of.
const BLOCK: usize = 4096;

/// What is asked of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Bytes are read.
    Read,
    /// Bytes are written.
    Write,
    /// What was written is made durable.
    Flush,
}

/// What it does then instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this number of errno(3) wherever a byte of the range is concerned; a flush concerns all.
    Fails(i32, Range<u64>),
    /// It does not answer until all is well again.
    Hangs,
    /// It does half of what is asked, in whole blocks, if that is more than one.
    Half,
}

impl Fault {
    /// An I/O error, wherever.
    pub const IO_ERROR: Fault = Fault::Fails(5, 0..u64::MAX);
    /// The device is gone.
    pub const GONE: Fault = Fault::Fails(19, 0..u64::MAX);
    /// There is no room.
    pub const NO_SPACE: Fault = Fault::Fails(28, 0..u64::MAX);
}

/// The file system, mounted for as long as this lives.
pub struct Medium {
    place: PathBuf,
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
}

#[derive(Default)]
struct State {
    faults: BTreeMap<Deed, Fault>,
    /// What hangs, to be done later.
    held: Vec<Box<dyn FnOnce() + Send>>,
}

impl Medium {
    /// A medium over the file `image`, mounted in `folder`, without faults.
    ///
    /// # Errors
    /// Also without root's rights or FUSE.
    pub fn over(image: &Path, folder: &Path) -> Result<Medium> {
        demand_root()?;
        let place = folder.join("medium");
        fs::create_dir(&place)?;
        let image = File::options().read(true).write(true).open(image).context("the medium's contents")?;
        let bytes = image.metadata()?.len();
        let state = Arc::new(Mutex::new(State::default()));
        let disk = Disk { image: Arc::new(image), bytes, state: Arc::clone(&state) };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("holdfast-test".to_owned())];
        let session = fuser::spawn_mount(disk, &place, &config).context("mounting a file system of FUSE")?;
        Ok(Medium { place, state, session: Some(session) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.join(NAME)
    }

    /// From now on this happens instead.
    pub fn fault(&self, deed: Deed, fault: Fault) {
        lock(&self.state).faults.insert(deed, fault);
    }

    /// From now on this happens whatever is asked.
    pub fn fault_in_all(&self, fault: &Fault) {
        for deed in [Deed::Read, Deed::Write, Deed::Flush] {
            self.fault(deed, fault.clone());
        }
    }

    /// All is well again; what was held up is done.
    pub fn heal(&self) {
        let held = {
            let mut state = lock(&self.state);
            state.faults.clear();
            std::mem::take(&mut state.held)
        };
        held.into_iter().for_each(|deed| deed());
    }

    /// How many requests are held up.
    #[must_use]
    pub fn held(&self) -> usize {
        lock(&self.state).held.len()
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        self.heal();
        if let Some(Err(error)) = self.session.take().map(BackgroundSession::umount_and_join) {
            eprintln!("{}: {error}", self.place.display());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel talks to.
struct Disk {
    image: Arc<File>,
    bytes: u64,
    state: Arc<Mutex<State>>,
}

impl Disk {
    fn attributes(&self, file: INodeNo) -> FileAttr {
        let is_file = file == FILE;
        FileAttr {
            ino: file,
            size: if is_file { self.bytes } else { 0 },
            blocks: self.bytes / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }

    /// Does a deed as the faults have it: `done` is told how many bytes to do, or why it does none.
    fn meet(
        &self,
        deed: Deed,
        range: &Range<u64>,
        len: usize,
        done: impl FnOnce(Result<usize, Errno>) + Send + 'static,
    ) {
        let mut state = lock(&self.state);
        let outcome = match state.faults.get(&deed) {
            Some(Fault::Fails(errno, place)) if range.start < place.end && place.start < range.end => {
                Err(Errno::from_i32(*errno))
            }
            Some(Fault::Hangs) => {
                state.held.push(Box::new(move || done(Ok(len))));
                return;
            }
            Some(Fault::Half) if len > BLOCK => Ok(len.div_ceil(2).next_multiple_of(BLOCK).min(len)),
            _ => Ok(len),
        };
        drop(state);
        done(outcome);
    }
}

impl Filesystem for Disk {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Without this a request of io_uring would be waited for where it is submitted, as on no other medium.
        let refused = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        refused.map_err(|flags| std::io::Error::other(format!("the kernel's FUSE lacks {flags:?}")))
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == NAME {
            true => reply.entry(&TTL, &self.attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, file: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(file));
    }

    fn open(&self, _request: &Request, _file: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Nothing is kept in between: what is asked for comes here.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);
    }

    fn read(
        &self,
        _request: &Request,
        _file: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let image = Arc::clone(&self.image);
        let range = offset..self.bytes.min(offset.saturating_add(size.into()));
        let len = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(0);
        self.meet(Deed::Read, &range, len, move |outcome| {
            let read = outcome.and_then(|len| {
                let mut bytes = vec![0; len];
                image.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            });
            match read {
                Ok(bytes) => reply.data(&bytes),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _request: &Request,
        _file: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let image = Arc::clone(&self.image);
        let range = offset..offset.saturating_add(u64::try_from(data.len()).unwrap_or(0));
        let data = data.to_vec();
        self.meet(Deed::Write, &range, data.len(), move |outcome| {
            let written = outcome.and_then(|len| {
                image.write_all_at(data.get(..len).unwrap_or_default(), offset)?;
                Ok(u32::try_from(len).unwrap_or(0))
            });
            match written {
                Ok(len) => reply.written(len),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn fsync(
        &self,
        _request: &Request,
        _file: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.meet(Deed::Flush, &(0..self.bytes), 0, move |outcome| match outcome {
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(errno),
        });
    }
}
