//! The pool's file, and the volumes in it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use holdfast_block::{PoolId, VolumeId};
use holdfast_daemon::device::{Blocking, PoolMap};
use holdfast_pi::{GuardKind, PiFormat, PiType};
use holdfast_reactor::{Backing, BackingMode, LARGE_PAGE_LEN, Region, Space};
use holdfast_store::{DiskConfig, DiskLimits, DiskPool, PoolMemory, Stores, VolumeSpec};

/// Bytes of a block of every volume.
pub(crate) const BLOCK_LEN: u64 = 4096;
const LIMITS: DiskLimits = DiskLimits { map_bytes_max: 1 << 30 };

fn pool_id() -> Result<PoolId> {
    PoolId::new(1).context("the pool has a number")
}

/// The volumes, by how they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volume {
    /// Written at random.
    Random,
    /// Written in a row.
    Sequential,
    /// So that every slot was in use once.
    First,
}

impl Volume {
    pub(crate) fn id(self) -> Result<VolumeId> {
        let number = match self {
            Volume::Random => 1,
            Volume::Sequential => 2,
            Volume::First => 3,
        };
        VolumeId::new(number).context("volumes have numbers")
    }
}

/// An open pool with what a reactor needs to serve it.
pub(crate) struct Open {
    pub stores: Stores<PoolMap>,
    pub region: Region,
    pub backing: Arc<Backing>,
}

/// A pool in a file.
pub(crate) struct Place {
    open: Option<Open>,
    capacity_bytes: u64,
}

impl Place {
    /// Makes a pool in a new file.
    pub(crate) fn make(path: &Path, len_bytes: u64) -> Result<Place> {
        let backing = Backing::open(path, BackingMode::Create { len_bytes, space: Space::Reserved })?;
        let config = DiskConfig { id: pool_id()?, uuid: [1; 16], name: "load".to_owned(), zero_ahead: true };
        let (arena, region) = arena()?;
        let pool = DiskPool::create(&Blocking(&backing), arena, &config, LIMITS)?;
        Place::of(pool, region, backing)
    }

    /// Opens the pool in a file.
    pub(crate) fn open(path: &Path) -> Result<Place> {
        let backing = Backing::open(path, BackingMode::ReadWrite)?;
        let (arena, region) = arena()?;
        let pool = DiskPool::open(&Blocking(&backing), arena, LIMITS, &mut |_| {})?;
        Place::of(pool, region, backing)
    }

    fn of(pool: DiskPool<PoolMap>, region: Region, backing: Backing) -> Result<Place> {
        let capacity_bytes = pool.usage().capacity_bytes;
        let mut stores = Stores::new();
        stores.add_disk_pool(0, pool)?;
        Ok(Place { open: Some(Open { stores, region, backing: Arc::new(backing) }), capacity_bytes })
    }

    /// Bytes of blocks that the pool has room for.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Hands the pool over to who serves it.
    pub(crate) fn take(&mut self) -> Result<Open> {
        self.open.take().context("the pool is served already")
    }

    /// Makes a volume of protection type 1.
    pub(crate) fn add_volume(&mut self, volume: Volume, bytes: u64) -> Result<()> {
        let format = PiFormat::new(PiType::Type1, GuardKind::Crc16, 4096, 0)?;
        let id = volume.id()?;
        let spec = VolumeSpec {
            id,
            uuid: [2; 16],
            nguid: [3; 16],
            block_len: 4096,
            block_count: bytes / BLOCK_LEN,
            format: Some(format),
        };
        let pool = pool_id()?;
        self.stores()?.create_volume(pool, &spec)?;
        self.settle()
    }

    /// Deletes a volume.
    pub(crate) fn remove_volume(&mut self, volume: Volume) -> Result<()> {
        self.stores()?.delete_volume(volume.id()?)?;
        self.settle()
    }

    /// Writes down that the pool was closed well.
    pub(crate) fn close(mut self) -> Result<()> {
        let pool = pool_id()?;
        self.stores()?.disk_pool_mut(pool).context("the pool is there")?.close();
        self.settle()
    }

    fn stores(&mut self) -> Result<&mut Stores<PoolMap>> {
        self.open.as_mut().map(|open| &mut open.stores).context("the pool is served already")
    }

    /// Carries out, one after the other, what the pool asks of its file.
    fn settle(&mut self) -> Result<()> {
        use holdfast_block::Store;
        let Some(Open { stores, backing, .. }) = &mut self.open else { bail!("the pool is served already") };
        loop {
            while stores.poll().is_some() {}
            let Some((pool, op)) = stores.next_disk_op() else { return Ok(()) };
            let done = {
                let pool = stores.disk_pool_mut(pool).context("the pool is there")?;
                op.carry_out(&Blocking(backing), pool.arena_mut())
            };
            stores.disk_done(pool, done);
        }
    }
}

fn arena() -> Result<(PoolMap, Region)> {
    let (mut arena, region) = PoolMap::arena()?;
    // As in the target, which does so as the arena comes into use.
    for at in 0..arena.len() / LARGE_PAGE_LEN {
        arena.slice_mut(at * LARGE_PAGE_LEN, LARGE_PAGE_LEN).context("within the arena")?.fill(0);
        // Where there are none, it is slower.
        let _small = region.make_large(at);
    }
    Ok((arena, region))
}
