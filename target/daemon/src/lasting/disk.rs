//! Pools in files and on devices as they really are: a backing, and a pool in it.
//!
//! Whatever is refused is said with the field of the order that is at fault, and leaves nothing behind.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_contract::{
    Backing as Place, DesiredPool, FaultCause, FoundPool, FoundVolume, GuardSetting, ObjectFault, ObjectKind,
    PiSettings, PoolOrder,
};
use holdfast_daemon::device::{Blocking, PoolMap};
use holdfast_pi::{GuardKind, PiFormat};
use holdfast_reactor::{Backing, BackingError, BackingKind, BackingMode, FileError, Region, Space};
use holdfast_store::VolumeState;
use holdfast_store::disk::format::{SLOT_LEN, Superblock};
use holdfast_store::disk::io::DiskError;
use holdfast_store::disk::{DiskConfig, DiskLimits, DiskPool, OpenPoolError, OpeningProgress, find_pool};
use uuid::Uuid;

use super::{Meter, Opener};
use crate::intent::pool_id;
use crate::spool;

const PATH: &str = "/backing/path";
const SIZE: &str = "/backing/size_bytes";

/// A pool that is open, with what it lies in and what it sends from.
pub(crate) struct OpenDisk {
    /// The pool.
    pub pool: DiskPool<PoolMap>,
    /// Its arena.
    pub region: Region,
    /// Its file or device, held for this process alone.
    pub backing: Arc<Backing>,
}

impl OpenDisk {
    /// Its volumes.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = VolumeState> {
        self.pool.volumes()
    }
}

/// Opens pools in files and on devices.
pub(crate) struct DiskOpener {
    map_bytes_max: u64,
    /// What the maps of the pools that serve take, when it was looked at last.
    map_bytes: AtomicU64,
}

impl DiskOpener {
    /// One that gives all maps together so much memory.
    pub(crate) fn new(map_bytes_max: u64) -> Self {
        DiskOpener { map_bytes_max, map_bytes: AtomicU64::new(0) }
    }

    /// Most memory that the maps of all pools may take together.
    pub(crate) fn map_bytes_max(&self) -> u64 {
        self.map_bytes_max
    }

    /// Notes what they take, and tells what is left.
    pub(crate) fn note_map_bytes(&self, bytes: u64) -> u64 {
        self.map_bytes.store(bytes, Ordering::Relaxed);
        self.map_bytes_max.saturating_sub(bytes)
    }
}

impl Opener for DiskOpener {
    type Open = OpenDisk;

    fn make(&self, order: &PoolOrder, meter: &Meter) -> Result<OpenDisk, ObjectFault> {
        let path = path_of(&order.backing);
        if path.is_dir() {
            let detail = format!("{} is a folder", path.display());
            return Err(ObjectFault::new(ObjectKind::Pool, &order.name, detail).at(PATH));
        }
        match order.backing {
            Place::File { size_bytes, .. } => self.make_file(order, path, size_bytes, meter),
            Place::Memory { .. } | Place::Block { .. } => {
                let backing = Backing::open(path, BackingMode::ReadWrite)
                    .map_err(|error| backing_fault(order, &error))?;
                check_kind(order, &backing)?;
                self.format(order, backing)
            }
        }
    }

    fn find(&self, order: &PoolOrder, meter: &Meter) -> Result<OpenDisk, ObjectFault> {
        let path = path_of(&order.backing);
        let backing =
            Backing::open(path, BackingMode::ReadWrite).map_err(|error| backing_fault(order, &error))?;
        check_kind(order, &backing)?;
        let len_bytes = backing.info().len_bytes;
        if let Place::File { size_bytes, .. } = order.backing
            && size_bytes > 0
            && size_bytes != len_bytes
        {
            let detail =
                format!("{} has {len_bytes} bytes; leave the size out to take it as it is", path.display());
            return Err(ObjectFault::new(ObjectKind::Pool, &order.name, detail).at(SIZE));
        }
        self.open_in(backing, meter).map_err(|error| pool_fault(order, &error))
    }

    fn open(&self, pool: &DesiredPool, meter: &Meter) -> Result<OpenDisk, String> {
        let path = path_of(&pool.backing);
        let backing = Backing::open(path, BackingMode::ReadWrite).map_err(|error| error.to_string())?;
        let found = find_pool(&Blocking(&backing)).map_err(|error| in_place(path, &error))?;
        let found = found.ok_or_else(|| in_place(path, &OpenPoolError::NotAPool))?;
        if !is_it(&found, pool) {
            let uuid = Uuid::from_bytes(found.uuid);
            return Err(format!("{} holds another pool, {} ({uuid})", path.display(), found.name));
        }
        self.open_in(backing, meter).map_err(|error| in_place(path, &error))
    }

    fn describe(&self, open: &OpenDisk) -> FoundPool {
        let usage = open.pool.usage();
        FoundPool {
            id: spool::pool_id(open.pool.id()),
            name: open.pool.name().to_owned(),
            uuid: Uuid::from_bytes(open.pool.uuid()).to_string(),
            size_bytes: open.backing.info().len_bytes,
            capacity_bytes: usage.capacity_bytes,
            allocated_bytes: usage.allocated_bytes,
            volumes: open.volumes().map(|state| found_volume(&open.pool, &state)).collect(),
        }
    }

    fn destroy(&self, pool: &DesiredPool) -> Result<(), String> {
        let path = path_of(&pool.backing);
        if matches!(pool.backing, Place::File { import: false, .. }) {
            // Of an order that a kill has cut short.
            let _not_there = std::fs::remove_file(unfinished(path, pool.id));
        }
        let backing = match Backing::open(path, BackingMode::ReadWrite) {
            Ok(backing) => backing,
            Err(BackingError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        // Whatever else lies there by now is none of ours.
        match find_pool(&Blocking(&backing)) {
            Ok(Some(found)) if is_it(&found, pool) => {}
            Ok(_) | Err(_) => return Ok(()),
        }
        wipe(&backing).map_err(|error| format!("{}: {error}", path.display()))?;
        if matches!(pool.backing, Place::File { import: false, .. }) {
            std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        tracing::info!(pool = pool.name, path = %path.display(), "destroyed the pool");
        Ok(())
    }
}

impl DiskOpener {
    /// Makes a pool's file under a name that only this order has, and gives it its own when there is a pool in it: a kill at any
    /// moment leaves nothing that could be taken for somebody else's.
    fn make_file(
        &self,
        order: &PoolOrder,
        path: &Path,
        len_bytes: u64,
        meter: &Meter,
    ) -> Result<OpenDisk, ObjectFault> {
        if path.symlink_metadata().is_ok() {
            let exists = BackingError::Exists { path: path.to_owned() };
            // A former run of the target may have come as far as this with the same order.
            return self.reopen(order, meter).ok_or_else(|| backing_fault(order, &exists));
        }
        let fresh = unfinished(path, order.ticket);
        let _not_there = std::fs::remove_file(&fresh);
        let mode = BackingMode::Create { len_bytes, space: Space::Reserved };
        let made = Backing::open(&fresh, mode).map_err(|error| {
            let mut fault = backing_fault(order, &error);
            // The name that it has for a moment says nothing to anybody.
            fault.detail = fault.detail.replace(&fresh.display().to_string(), &path.display().to_string());
            fault
        });
        let made = made.and_then(|backing| self.format(order, backing));
        let named = made.and_then(|open| match name_for_good(&fresh, path) {
            Ok(()) => Ok(open),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                Err(backing_fault(order, &BackingError::Exists { path: path.to_owned() }))
            }
            Err(source) => {
                let (path, what) = (path.to_owned(), "given its name");
                Err(backing_fault(order, &BackingError::Io { path, what, source }))
            }
        });
        if named.is_err() {
            // Made here a moment ago. If it cannot be removed, the reason is worth no more than the one that is told.
            let _stays = std::fs::remove_file(&fresh);
        }
        named
    }

    /// The pool that this order made before, if that is what lies there.
    fn reopen(&self, order: &PoolOrder, meter: &Meter) -> Option<OpenDisk> {
        let backing = Backing::open(path_of(&order.backing), BackingMode::ReadWrite).ok()?;
        let found = find_pool(&Blocking(&backing)).ok()??;
        let ours =
            found.id == pool_id(order.ticket) && Uuid::from_bytes(found.uuid).to_string() == order.uuid;
        if !ours {
            return None;
        }
        self.open_in(backing, meter).ok()
    }

    fn format(&self, order: &PoolOrder, backing: Backing) -> Result<OpenDisk, ObjectFault> {
        let fault = |detail: &str| ObjectFault::new(ObjectKind::Pool, &order.name, detail);
        let path = path_of(&order.backing).display();
        match find_pool(&Blocking(&backing)) {
            Ok(None) => {}
            Ok(Some(found)) => {
                let uuid = Uuid::from_bytes(found.uuid);
                let detail =
                    format!("{path} holds the pool {} ({uuid}); import it to take it on", found.name);
                return Err(fault(&detail).because(FaultCause::Conflict).at(PATH));
            }
            Err(OpenPoolError::Device(error)) => return Err(fault(&format!("{path}: {error}")).at(PATH)),
            Err(error) => {
                let detail = format!("{path} holds a pool that cannot be used: {error}");
                return Err(fault(&detail).because(FaultCause::Conflict).at(PATH));
            }
        }
        let uuid = Uuid::parse_str(&order.uuid).map_err(|_| fault("its UUID is none"))?.into_bytes();
        let zero_ahead = backing.info().kind == BackingKind::File;
        let config = DiskConfig { id: pool_id(order.ticket), uuid, name: order.name.clone(), zero_ahead };
        let (arena, region) =
            PoolMap::arena().map_err(|error| fault(&format!("no memory for it: {error}")))?;
        let pool = DiskPool::create(&Blocking(&backing), arena, &config, self.limits())
            .map_err(|error| pool_fault(order, &error))?;
        tracing::info!(pool = order.name, %path, bytes = backing.info().len_bytes, "made the pool");
        Ok(OpenDisk { pool, region, backing: Arc::new(backing) })
    }

    fn open_in(&self, backing: Backing, meter: &Meter) -> Result<OpenDisk, OpenPoolError> {
        let (arena, region) = PoolMap::arena().map_err(|error| {
            tracing::error!(%error, "no memory for a pool");
            OpenPoolError::Device(DiskError::NoSpace)
        })?;
        let journal_slots = find_pool(&Blocking(&backing))?.map_or(0, |found| found.layout.journal_slots());
        let mut progress = |progress| match progress {
            OpeningProgress::Map { pages } => meter.set(pages, 0),
            OpeningProgress::Journal { blocks } => meter.set(blocks, journal_slots),
            OpeningProgress::Checkpoint => {}
        };
        let pool = DiskPool::open(&Blocking(&backing), arena, self.limits(), &mut progress)?;
        Ok(OpenDisk { pool, region, backing: Arc::new(backing) })
    }

    fn limits(&self) -> DiskLimits {
        let taken = self.map_bytes.load(Ordering::Relaxed);
        DiskLimits { map_bytes_max: self.map_bytes_max.saturating_sub(taken) }
    }
}

fn path_of(place: &Place) -> &Path {
    Path::new(place.path().unwrap_or_default())
}

/// What the file of an order is called until there is a pool in it.
fn unfinished(path: &Path, ticket: holdfast_contract::PoolId) -> PathBuf {
    path.with_file_name(format!(".holdfast-{ticket}.new"))
}

/// Gives a file its name, which nothing else must have, and makes that outlast a loss of power.
fn name_for_good(fresh: &Path, path: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, fresh, CWD, path, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it.
        Err(rustix::io::Errno::INVAL) => std::fs::rename(fresh, path)?,
        renamed => renamed?,
    }
    std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn is_it(found: &Superblock, pool: &DesiredPool) -> bool {
    found.id == pool_id(pool.id) && pool.uuid.as_deref() == Some(&Uuid::from_bytes(found.uuid).to_string())
}

fn in_place(path: &Path, error: &OpenPoolError) -> String {
    format!("{}: {error}", path.display())
}

/// Wipes both superblocks, so that nobody takes what is left for a pool.
fn wipe(backing: &Backing) -> Result<(), FileError> {
    for slot in Superblock::SLOTS {
        backing.write_at(slot * SLOT_LEN as u64, &[0; SLOT_LEN])?;
    }
    backing.flush()
}

fn check_kind(order: &PoolOrder, backing: &Backing) -> Result<(), ObjectFault> {
    let (right, word) = match backing.info().kind {
        BackingKind::File => (matches!(order.backing, Place::File { .. }), "file"),
        BackingKind::BlockDevice => (matches!(order.backing, Place::Block { .. }), "block"),
    };
    if right {
        return Ok(());
    }
    let detail = format!("{} is of the kind {word}", backing.path().display());
    Err(ObjectFault::new(ObjectKind::Pool, &order.name, detail).at("/backing/kind"))
}

fn backing_fault(order: &PoolOrder, error: &BackingError) -> ObjectFault {
    let fault = ObjectFault::new(ObjectKind::Pool, &order.name, error.to_string()).at(PATH);
    match error {
        BackingError::Exists { .. } => ObjectFault {
            detail: format!("{error}; to take on a pool that lies there, import it"),
            ..fault.because(FaultCause::Conflict)
        },
        BackingError::InUse { .. } => fault.because(FaultCause::Conflict),
        BackingError::Io { source, .. } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => fault.because(FaultCause::NoRoom).at(SIZE),
            ErrorKind::FileTooLarge => fault.at(SIZE),
            ErrorKind::PermissionDenied => ObjectFault {
                detail: format!("{error} (the target has no power over the files of other users)"),
                ..fault
            },
            _ => fault,
        },
        BackingError::Unsuitable { .. }
        | BackingError::NoDirectIo { .. }
        | BackingError::BlockLength { .. }
        | BackingError::Lossy { .. } => fault,
    }
}

fn pool_fault(order: &PoolOrder, error: &OpenPoolError) -> ObjectFault {
    let detail = in_place(path_of(&order.backing), error);
    let fault = ObjectFault::new(ObjectKind::Pool, &order.name, detail).at(PATH);
    match error {
        OpenPoolError::Device(DiskError::NoSpace) => fault.because(FaultCause::NoRoom),
        OpenPoolError::MapMemory(_) => fault.because(FaultCause::NoRoom),
        _ => fault,
    }
}

fn found_volume(pool: &DiskPool<PoolMap>, state: &VolumeState) -> FoundVolume {
    let spec = &state.spec;
    let block_len = u64::try_from(spec.block_len).unwrap_or(0);
    FoundVolume {
        id: spool::volume_id(spec.id),
        name: pool.volume_name(spec.id).unwrap_or_default().to_owned(),
        size_bytes: spec.block_count.saturating_mul(block_len),
        block_size: u32::try_from(spec.block_len).unwrap_or(0),
        pi: spec.format.map(pi_settings),
        uuid: Uuid::from_bytes(spec.uuid).to_string(),
        nguid: Uuid::from_bytes(spec.nguid).simple().to_string(),
        allocated_bytes: state.usage.bytes_allocated,
    }
}

fn pi_settings(format: PiFormat) -> PiSettings {
    PiSettings {
        pi_type: format.pi_type().number(),
        guard: match format.guard() {
            GuardKind::Crc16 => GuardSetting::Crc16,
            GuardKind::Crc32c => GuardSetting::Crc32c,
            GuardKind::Crc64 => GuardSetting::Crc64,
        },
        storage_tag_bits: format.storage_tag_bits(),
    }
}
