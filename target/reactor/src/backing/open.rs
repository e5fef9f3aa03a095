//! Opening a backing: exclusively, for direct I/O, and never what is neither file nor block device.
//!
//! Two targets on one pool would destroy it. A block device is claimed with `O_EXCL`, which mounts, RAID and volume
//! groups respect; a file by flock(2), which shows in `/proc/locks` who has it, and which all opened descriptors of a file share, whatever path
//! they came by. Both end with the descriptor, however the process ends.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, Stat, StatxFlags, major,
    minor,
};
use rustix::io::Errno;

use super::{BACKING_BLOCK_BYTES_MAX, BackingError, BackingInfo, BackingKind, BackingMode, Holder, Space};

/// The shortest logical block there is.
const BLOCK_BYTES_MIN: u32 = 512;

/// Where the kernel has the block layer's properties of a device.
const SYSFS_BLOCK: &str = "/sys/dev/block";

pub(super) fn open(path: &Path, mode: BackingMode) -> Result<(OwnedFd, BackingInfo), BackingError> {
    let BackingMode::Create { len_bytes, space } = mode else {
        return open_existing(path, mode);
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::DIRECT | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => fd,
        Err(Errno::EXIST) => return Err(BackingError::Exists { path: path.to_owned() }),
        Err(Errno::INVAL) => {
            // The file was made before its file system found that it cannot do what was asked for.
            let _ = rustix::fs::unlinkat(CWD, path, AtFlags::empty());
            return Err(BackingError::NoDirectIo { path: path.to_owned() });
        }
        Err(error) => return Err(failed(path, "made", error)),
    };
    let outcome = fill(path, &fd, len_bytes, space).and_then(|()| examine(path, &fd));
    match outcome {
        Ok(info) => Ok((fd, info)),
        Err(error) => {
            // Ours, made just now: nothing of it stays behind a refusal.
            let _ = rustix::fs::unlinkat(CWD, path, AtFlags::empty());
            Err(error)
        }
    }
}

fn open_existing(path: &Path, mode: BackingMode) -> Result<(OwnedFd, BackingInfo), BackingError> {
    // Looked at first: opening a pipe would wait, opening a tape would rewind it.
    let seen =
        rustix::fs::statat(CWD, path, AtFlags::empty()).map_err(|error| failed(path, "found", error))?;
    let kind = kind_of(path, &seen)?;
    let access = if mode == BackingMode::ReadOnly { OFlags::RDONLY } else { OFlags::RDWR };
    let claim = if kind == BackingKind::BlockDevice { OFlags::EXCL } else { OFlags::empty() };
    let flags = access | claim | OFlags::DIRECT | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
        Errno::BUSY => BackingError::InUse { path: path.to_owned(), holder: Holder::find(&seen) },
        Errno::INVAL => BackingError::NoDirectIo { path: path.to_owned() },
        error => failed(path, "opened", error),
    })?;
    lock(path, &fd, mode, kind)?;
    let info = examine(path, &fd)?;
    Ok((fd, info))
}

/// Locks the file, for reading beside other readers or for itself alone.
fn lock(path: &Path, fd: &OwnedFd, mode: BackingMode, kind: BackingKind) -> Result<(), BackingError> {
    let operation = match mode {
        BackingMode::ReadOnly => FlockOperation::NonBlockingLockShared,
        BackingMode::ReadWrite | BackingMode::Create { .. } => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(fd, operation) {
        Ok(()) => Ok(()),
        // A device is ours by `O_EXCL`; whoever locks its node meanwhile (udev, for a look at it) stands in nobody's way.
        Err(Errno::AGAIN) if kind == BackingKind::BlockDevice => Ok(()),
        Err(Errno::AGAIN) => {
            let holder = rustix::fs::fstat(fd).map_or(Holder::Unknown, |stat| Holder::find(&stat));
            Err(BackingError::InUse { path: path.to_owned(), holder })
        }
        Err(error) => Err(failed(path, "locked", error)),
    }
}

/// Locks a new file, gives it its length, and makes its existence outlast a loss of power.
fn fill(path: &Path, fd: &OwnedFd, len_bytes: u64, space: Space) -> Result<(), BackingError> {
    lock(path, fd, BackingMode::ReadWrite, BackingKind::File)?;
    match space {
        Space::Reserved => rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, len_bytes)
            .map_err(|error| failed(path, "given its space", error))?,
        Space::Sparse => {
            rustix::fs::ftruncate(fd, len_bytes).map_err(|error| failed(path, "given its length", error))?
        }
    }
    rustix::fs::fsync(fd).map_err(|error| failed(path, "made durable", error))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    rustix::fs::openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(|error| failed(path, "made durable in its folder", error))
}

fn examine(path: &Path, fd: &OwnedFd) -> Result<BackingInfo, BackingError> {
    let failed = |error| failed(path, "examined", error);
    let stat = rustix::fs::fstat(fd).map_err(failed)?;
    let kind = kind_of(path, &stat)?;
    let (len_bytes, device) = match kind {
        BackingKind::File => (u64::try_from(stat.st_size).unwrap_or(0), stat.st_dev),
        BackingKind::BlockDevice => (rustix::fs::seek(fd, SeekFrom::End(0)).map_err(failed)?, stat.st_rdev),
    };
    let (logical, physical) = match kind {
        BackingKind::File => (file_alignment(path, fd)?, property(device, "physical_block_size")),
        BackingKind::BlockDevice => {
            (rustix::fs::ioctl_blksszget(fd).map_err(failed)?, rustix::fs::ioctl_blkpbszget(fd).ok())
        }
    };
    if !logical.is_power_of_two() || !(BLOCK_BYTES_MIN..=BACKING_BLOCK_BYTES_MAX).contains(&logical) {
        return Err(BackingError::BlockLength { path: path.to_owned(), bytes: logical });
    }
    let write_cache = property::<String>(device, "write_cache");
    Ok(BackingInfo {
        kind,
        len_bytes: len_bytes - len_bytes % u64::from(logical),
        logical_block_bytes: logical,
        physical_block_bytes: physical.unwrap_or(logical).max(logical),
        write_through: kind == BackingKind::BlockDevice && write_cache.as_deref() == Some("write through"),
    })
}

/// What direct I/O on a regular file is aligned to. Where the file system does not say, the longest block is safe.
fn file_alignment(path: &Path, fd: &OwnedFd) -> Result<u32, BackingError> {
    let asked = StatxFlags::DIOALIGN;
    let Ok(answer) = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, asked) else {
        return Ok(BACKING_BLOCK_BYTES_MAX);
    };
    if answer.stx_mask & asked.bits() == 0 {
        return Ok(BACKING_BLOCK_BYTES_MAX);
    }
    match answer.stx_dio_offset_align.max(answer.stx_dio_mem_align) {
        0 => Err(BackingError::NoDirectIo { path: path.to_owned() }),
        bytes => Ok(bytes.max(BLOCK_BYTES_MIN)),
    }
}

/// A property of the queue of a block device, or of the disk that it is a partition of.
fn property<T: std::str::FromStr>(device: u64, name: &str) -> Option<T> {
    let device = PathBuf::from(SYSFS_BLOCK).join(format!("{}:{}", major(device), minor(device)));
    ["queue", "../queue"].iter().find_map(|queue| {
        let text = std::fs::read_to_string(device.join(queue).join(name)).ok()?;
        text.trim().parse().ok()
    })
}

fn kind_of(path: &Path, stat: &Stat) -> Result<BackingKind, BackingError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(BackingKind::File),
        FileType::BlockDevice => Ok(BackingKind::BlockDevice),
        _ => Err(BackingError::Unsuitable { path: path.to_owned() }),
    }
}

fn failed(path: &Path, what: &'static str, error: Errno) -> BackingError {
    BackingError::Io { path: path.to_owned(), what, source: io::Error::from(error) }
}
