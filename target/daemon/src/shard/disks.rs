//! Pools in files and on devices: what they ask of their backings goes to the reactor, and what becomes of it comes back.

use std::sync::{Arc, Weak};

use holdfast_block::{Lba, PoolId, VolumeId};
use holdfast_daemon::device::{Request, Requests, disk_error};
use holdfast_reactor::{Backing, FileError, FileId, FileRefusal, Io, RegionId};
use holdfast_store::PoolError;
use holdfast_store::disk::io::{DiskDone, DiskError, DiskOp};
use holdfast_store::disk::{DiskPool, Health};

use super::Shard;
use crate::lasting::disk::OpenDisk;

/// The backings of a core's pools, and what is under way on them.
#[derive(Default)]
pub(super) struct Disks {
    files: Vec<DiskFile>,
    requests: Requests,
}

struct DiskFile {
    pool: PoolId,
    file: FileId,
    backing: Weak<Backing>,
    region: RegionId,
    /// Its pool is gone; the reactor lets go of it.
    leaving: bool,
    /// Operations that failed since it was said last, and when that was.
    failures: u64,
    told_ms: Option<u64>,
}

/// A device that fails does so many thousand times a second; it is said this often.
const TELL_EVERY_MS: u64 = 1000;

impl Disks {
    fn of(&self, pool: PoolId) -> Option<&DiskFile> {
        self.files.iter().find(|disk| disk.pool == pool)
    }
}

impl Shard {
    /// Takes a pool in that lies in a file or on a device.
    pub(crate) fn add_disk_pool(&mut self, io: &mut Io, id: PoolId, open: OpenDisk) -> Result<(), PoolError> {
        let OpenDisk { pool, region, backing } = open;
        let held = Arc::downgrade(&backing);
        let Ok(file) = io.add_file(backing) else { return Err(PoolError::TableFull) };
        let region = io.register_region(region);
        let added = self.region_place().and_then(|(place, number)| {
            self.router.local().store_mut().add_disk_pool(number, pool)?;
            Ok(place)
        });
        match added {
            Ok(place) => {
                self.take_region_place(place, (id, region));
                self.disks.files.push(DiskFile {
                    pool: id,
                    file,
                    backing: held,
                    region,
                    leaving: false,
                    failures: 0,
                    told_ms: None,
                });
                Ok(())
            }
            Err(error) => {
                io.close_file(file);
                io.unregister_region(region);
                Err(error)
            }
        }
    }

    /// Goes on with taking a closed pool out; `true` once nothing here holds its file any more.
    pub(crate) fn remove_closed_disk(&mut self, io: &mut Io, id: PoolId) -> bool {
        let Some(disk) = self.disks.files.iter_mut().find(|disk| disk.pool == id) else { return true };
        let closed = self.router.local().store_mut().disk_pool(id).is_none_or(DiskPool::is_closed);
        if disk.leaving || !closed {
            return false;
        }
        let (file, region) = (disk.file, disk.region);
        if self.router.local().store_mut().remove_disk_pool(id).is_err() {
            // Something of it is still under way.
            return false;
        }
        disk.leaving = true;
        io.close_file(file);
        io.unregister_region(region);
        for entry in &mut self.regions {
            entry.take_if(|(pool, _)| *pool == id);
        }
        false
    }

    /// Has a pool end what is under way, and write down that it was closed well.
    pub(crate) fn close_disk(&mut self, id: PoolId) {
        if let Some(pool) = self.stores().disk_pool_mut(id) {
            pool.close();
        }
    }

    /// The number of the last change of a volume that was asked for in a pool.
    pub(crate) fn volumes_asked(&mut self, id: PoolId) -> u64 {
        self.stores().disk_pool(id).map_or(0, DiskPool::volumes_asked)
    }

    /// Whether changes of volumes up to this ticket are durable; and why a pool writes nothing any more.
    pub(crate) fn disk_state(&mut self, id: PoolId, ticket: u64) -> (bool, Option<String>) {
        let Some(pool) = self.stores().disk_pool(id) else { return (false, Some("it is gone".to_owned())) };
        let failure = match pool.health() {
            Health::Failed(failure) => Some(failure.to_string()),
            Health::Ok | Health::Degraded => None,
        };
        (pool.volumes_synced() >= ticket, failure)
    }

    /// Where a block's data lies on its pool's backing; `None` if it holds none.
    pub(crate) fn place_on_backing(
        &mut self,
        id: PoolId,
        volume: VolumeId,
        lba: Lba,
    ) -> Option<(Arc<Backing>, u64)> {
        let backing = self.disks.of(id)?.backing.upgrade()?;
        Some((backing, self.router.local().store_mut().place_on_device(volume, lba)?))
    }

    /// Hands to the reactor what pools ask of their backings.
    pub(super) fn drive_disks(&mut self, io: &mut Io) {
        while let Some((pool, op)) = self.router.local().store_mut().next_disk_op() {
            self.drive(io, pool, op);
        }
    }

    fn drive(&mut self, io: &mut Io, pool: PoolId, op: DiskOp) {
        let Some(DiskFile { file, region, .. }) = self.disks.of(pool) else {
            return self.disk_ended(Request::refused(pool, op), Err(DiskError::Gone));
        };
        let (file, region) = (*file, *region);
        if let Err((request, refusal)) = self.disks.requests.begin(io, file, region, pool, op) {
            tracing::error!(%pool, %refusal, "a pool asked for what cannot be");
            let error = match refusal {
                FileRefusal::Gone => DiskError::Gone,
                FileRefusal::BadRegion
                | FileRefusal::Misaligned
                | FileRefusal::Outside
                | FileRefusal::Empty
                | FileRefusal::TooMany => DiskError::Io,
            };
            self.disk_ended(request, Err(error));
        }
    }

    /// A request of a file is over.
    pub(super) fn disk_done(&mut self, user: u64, result: Result<(), FileError>) {
        let Some(request) = self.disks.requests.end(user) else {
            debug_assert!(false, "each request ends once");
            return;
        };
        if let Err(error) = result {
            self.tell_failure(request.pool, error);
        }
        self.disk_ended(request, result.map_err(disk_error));
    }

    fn tell_failure(&mut self, pool: PoolId, error: FileError) {
        let now_ms = self.clock.now_ms;
        let Some(disk) = self.disks.files.iter_mut().find(|disk| disk.pool == pool) else { return };
        disk.failures += 1;
        if disk.told_ms.is_some_and(|told_ms| now_ms < told_ms.saturating_add(TELL_EVERY_MS)) {
            return;
        }
        tracing::warn!(%pool, %error, failures = disk.failures, "a pool's file or device failed at something");
        (disk.failures, disk.told_ms) = (0, Some(now_ms));
    }

    fn disk_ended(&mut self, Request { pool, token, parts }: Request, result: Result<(), DiskError>) {
        self.router.local().store_mut().disk_done(pool, DiskDone { token, parts, result });
    }

    /// The reactor has let go of a file.
    pub(super) fn disk_closed(&mut self, file: FileId) {
        self.disks.files.retain(|disk| disk.file != file);
    }
}
