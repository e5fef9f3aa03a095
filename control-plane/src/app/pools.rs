//! Pools: where volumes' bytes are: in memory, in a file or on a block device.
//!
//! A pool that lasts is made, or found, by the target before the change that names it ([`order`]), and it leaves in one of two
//! ways ([`leave`]): deleted, and nothing of it stays; or exported, and whoever gets its file or device imports it.

mod fill;
mod leave;
mod order;

use std::path::{Component, Path};

use holdfast_contract::{Backing, ObservedPool, PoolHealth};
use serde::Serialize;
use utoipa::ToSchema;

use super::events::{Event, EventKind};
use super::page::{Page, PageQuery};
use super::words::Health;
use super::{App, fresh_pool_id};
use crate::db::pools::{NewRow, PoolRow};
use crate::db::{Conn, meta, pools};
use crate::error::{Error, Result};
use crate::names::Name;

pub(crate) use fill::{Crossing, crossing};
pub use leave::Exported;

/// Smallest memory pool: below it not even a map page and a handful of blocks are worth having.
pub const POOL_BYTES_MIN: u64 = 1 << 20;
/// Largest memory pool: what the target's layout can hold.
pub const POOL_BYTES_MAX: u64 = 1 << 44;
/// Smallest file of a pool: room for superblocks, journal and a reserve, and for blocks worth the name.
pub const FILE_BYTES_MIN: u64 = 8 << 20;
/// Largest file of a pool: what its layout can hold.
pub const FILE_BYTES_MAX: u64 = ((1 << 40) - 2) * POOL_BYTES_STEP;
/// Pools are whole 4096-byte slots.
pub const POOL_BYTES_STEP: u64 = 4096;
/// Most that may be promised, as a multiple of the capacity.
pub const OVERCOMMIT_MAX: f64 = 1000.0;
/// Longest path: Linux's PATH_MAX without the final zero.
const PATH_BYTES_MAX: usize = 4095;
/// Name of the pool that the first start makes.
const FIRST_POOL: &str = "ram";

/// A pool to make, or to import.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPool {
    /// Its name here. An imported pool may have been called otherwise; its volumes keep their names.
    pub name: Name,
    /// Where its bytes are.
    pub backing: NewBacking,
    /// Sizes of its volumes together, at most, as a multiple of its capacity: 1 to 1000.
    #[schema(required = false, default = 1.0, minimum = 1, maximum = 1000)]
    pub overcommit: f64,
}

/// Where a pool's bytes shall be. Paths are absolute, of the machine that runs the target, and the target, which runs without
/// privileges over other users' files, has to be able to write there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum NewBacking {
    /// Anonymous memory of the appliance; lost with the appliance.
    Memory {
        /// Room for blocks: at least 1 MiB, a multiple of 4096.
        #[schema(minimum = 1048576, maximum = 9007199254740991_u64, multiple_of = 4096)]
        size_bytes: u64,
    },
    /// A file, best on ext4 or XFS.
    File {
        /// Absolute path. There must be nothing there yet, or, to import, a pool's file.
        #[schema(pattern = "^/", max_length = 4095)]
        path: String,
        /// Length of the file: at least 8 MiB, a multiple of 4096; all of it is reserved at once. An import may leave it out, or
        /// give the length that the file has.
        #[schema(nullable = false, minimum = 8388608, maximum = 9007199254740991_u64, multiple_of = 4096)]
        size_bytes: Option<u64>,
        /// Take a pool on that lies there already, with its volumes and all identifiers.
        #[schema(required = false, default = false)]
        import: bool,
    },
    /// A block device, which nobody else uses.
    Block {
        /// Absolute path of the device. There must be no pool on it, or, to import, there must be one.
        #[schema(pattern = "^/", max_length = 4095)]
        path: String,
        /// Take a pool on that lies there already, with its volumes and all identifiers.
        #[schema(required = false, default = false)]
        import: bool,
    },
}

/// Where a pool's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum PoolBacking {
    /// Anonymous memory of the appliance; lost with the appliance.
    Memory {
        /// Room for blocks.
        size_bytes: u64,
    },
    /// A file.
    File {
        /// Absolute path.
        path: String,
        /// Length of the file.
        size_bytes: u64,
        /// Whether the pool was imported. Its file then stays when it is deleted, without a pool in it.
        import: bool,
    },
    /// A block device.
    Block {
        /// Absolute path of the device.
        path: String,
        /// Whether the pool was imported.
        import: bool,
    },
}

/// A pool.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Pool {
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// Identifier that stays with it when it is exported; a memory pool has none.
    #[schema(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    pub uuid: Option<String>,
    /// Where its bytes are.
    pub backing: PoolBacking,
    /// Sizes of its volumes together, at most, as a multiple of its capacity.
    pub overcommit: f64,
    /// Room for blocks. Of a file or device a part is kept back for the journal, the map, and as a reserve.
    pub capacity_bytes: u64,
    /// Blocks in use.
    pub allocated_bytes: u64,
    /// Sizes of its volumes together.
    pub promised_bytes: u64,
    /// The highest of 80, 90 and 95 percent of the capacity that is in use. Each has its event and its alarm, once, until use has
    /// fallen 2 percentage points below it.
    pub threshold_percent: Option<u8>,
    /// Whether it serves.
    pub health: Health,
    /// Why it is not well, or what it is being opened for.
    pub reason: Option<String>,
    /// How far it is opened or closed, while it is.
    pub progress: Option<PoolProgress>,
    /// What its map takes in memory; null for a memory pool, which keeps its map with its blocks.
    pub map: Option<PoolMap>,
    /// Its journal; null for a memory pool.
    pub journal: Option<PoolJournal>,
}

/// How far a pool is opened or closed.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct PoolProgress {
    /// Steps done.
    pub done: u64,
    /// Steps in all, as far as known.
    pub total: u64,
}

/// Memory for a pool's map.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct PoolMap {
    /// Resident.
    pub bytes: u64,
    /// Most that it may take: see `--map-memory`.
    pub budget_bytes: u64,
}

/// A pool's journal.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct PoolJournal {
    /// Blocks of the ring.
    pub blocks: u64,
    /// Blocks that a recovery would read.
    pub used: u64,
}

impl NewPool {
    fn check(&self) -> Result<()> {
        match &self.backing {
            NewBacking::Memory { size_bytes } => check_size(*size_bytes, POOL_BYTES_MIN, POOL_BYTES_MAX)?,
            NewBacking::File { path, size_bytes, .. } => {
                check_path(path)?;
                if let Some(size_bytes) = size_bytes {
                    check_size(*size_bytes, FILE_BYTES_MIN, FILE_BYTES_MAX)?;
                }
            }
            NewBacking::Block { path, .. } => check_path(path)?,
        }
        if !(1.0..=OVERCOMMIT_MAX).contains(&self.overcommit) {
            return Err(Error::value("/overcommit", format!("must be from 1 to {OVERCOMMIT_MAX}")));
        }
        Ok(())
    }
}

fn check_size(size_bytes: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&size_bytes) && size_bytes.is_multiple_of(POOL_BYTES_STEP) {
        return Ok(());
    }
    let detail = format!("must be a multiple of {POOL_BYTES_STEP} from {min} to {max}");
    Err(Error::value("/backing/size_bytes", detail))
}

/// Two spellings of one path must not make two pools; what links lead to one file, the target notices.
fn check_path(path: &str) -> Result<()> {
    let fault = |detail: &str| Err(Error::value("/backing/path", detail));
    if !path.starts_with('/') {
        return fault("must be absolute: from / on");
    }
    if path.contains('\0') {
        return fault("must not hold a zero byte");
    }
    if path.len() > PATH_BYTES_MAX {
        return fault("is longer than paths can be");
    }
    let plain: Vec<_> = Path::new(path).components().skip(1).map(Component::as_os_str).collect();
    let respelled = plain.iter().fold(String::new(), |text, part| text + "/" + &part.to_string_lossy());
    if plain.is_empty() || respelled != path || plain.iter().any(|part| *part == "..") {
        return fault("must be the plain path of a file, without `.`, `..`, doubled or trailing slashes");
    }
    Ok(())
}

impl App {
    /// Makes or imports a pool; it can be used when this answers.
    pub async fn create_pool(&self, new: NewPool) -> Result<Pool> {
        new.check()?;
        let NewBacking::Memory { size_bytes } = new.backing else {
            return self.order_pool(new).await;
        };
        let mut change = self.change().await?;
        let name = new.name.as_str();
        refuse_taken_name(change.db(), name).await?;
        let backing = Backing::Memory { size_bytes };
        insert_memory(change.db(), name, &backing, size_bytes, new.overcommit).await?;
        change.announce(Event::object(EventKind::Pool, name, "created"));
        change.commit().await?;
        self.pool(name).await
    }

    /// Pools by name.
    pub async fn pools(&self, query: &PageQuery) -> Result<Page<Pool>> {
        let mut tx = self.db.read().await?;
        let mut rows = pools::page(&mut tx, query.after(), query.fetch()).await?;
        let next = query.cut(&mut rows, |row| row.name.clone());
        Ok(Page { items: rows.into_iter().map(|row| self.render_pool(row)).collect(), next })
    }

    /// One pool.
    pub async fn pool(&self, name: &str) -> Result<Pool> {
        let mut tx = self.db.read().await?;
        let row = pools::by_name(&mut tx, name).await?.ok_or_else(|| Error::missing("pool", name))?;
        Ok(self.render_pool(row))
    }

    fn render_pool(&self, row: PoolRow) -> Pool {
        let observed = self.telemetry.pool(row.id);
        let kept = (row.capacity_bytes, row.allocated_bytes);
        let (capacity_bytes, allocated_bytes) = self.telemetry.pool_use(row.id).unwrap_or(kept);
        let progress = observed.as_ref().and_then(|pool| pool.progress);
        Pool {
            name: row.name,
            uuid: row.uuid,
            backing: render_backing(row.backing),
            overcommit: row.overcommit,
            capacity_bytes,
            allocated_bytes,
            promised_bytes: row.promised_bytes,
            threshold_percent: (row.threshold > 0).then_some(row.threshold),
            health: health(observed.as_ref()),
            reason: observed
                .as_ref()
                .map_or_else(|| Some("the target cannot be asked".to_owned()), |pool| pool.reason.clone()),
            progress: progress.map(|progress| PoolProgress { done: progress.done, total: progress.total }),
            map: observed
                .as_ref()
                .and_then(|pool| pool.map)
                .map(|map| PoolMap { bytes: map.bytes, budget_bytes: map.budget_bytes }),
            journal: observed
                .as_ref()
                .and_then(|pool| pool.journal)
                .map(|journal| PoolJournal { blocks: journal.blocks, used: journal.used }),
        }
    }
}

fn health(observed: Option<&ObservedPool>) -> Health {
    match observed.map(|pool| pool.health) {
        Some(PoolHealth::Ok) => Health::Ok,
        Some(PoolHealth::Degraded) | None => Health::Degraded,
        Some(PoolHealth::Failed) => Health::Failed,
    }
}

fn render_backing(backing: Backing) -> PoolBacking {
    match backing {
        Backing::Memory { size_bytes } => PoolBacking::Memory { size_bytes },
        Backing::File { path, size_bytes, import } => PoolBacking::File { path, size_bytes, import },
        Backing::Block { path, import } => PoolBacking::Block { path, import },
    }
}

async fn refuse_taken_name(conn: &mut Conn, name: &str) -> Result<()> {
    match pools::by_name(conn, name).await? {
        None => Ok(()),
        Some(_) => Err(Error::conflict("/name", format!("there is a pool {name} already"))),
    }
}

async fn insert_memory(
    conn: &mut Conn,
    name: &str,
    backing: &Backing,
    size_bytes: u64,
    overcommit: f64,
) -> Result<()> {
    let (id, capacity_bytes) = (fresh_pool_id()?, size_bytes);
    pools::insert(conn, &NewRow { id, name, uuid: None, backing, size_bytes, capacity_bytes, overcommit })
        .await
}

/// Makes the pool of the first start, once in the life of the installation.
pub(super) async fn make_first_pool(conn: &mut Conn, size_bytes: u64) -> Result<()> {
    if meta::get(conn, meta::Key::FirstPoolMade).await?.is_some() {
        return Ok(());
    }
    check_size(size_bytes, POOL_BYTES_MIN, POOL_BYTES_MAX)?;
    insert_memory(conn, FIRST_POOL, &Backing::Memory { size_bytes }, size_bytes, 1.0).await?;
    meta::set(conn, meta::Key::FirstPoolMade, "yes").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling() {
        for good in ["/a", "/dev/disk/by-id/x", "/srv/..a/b.c", "/a b/\u{e4}"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "./a", "/", "//a", "/a//b", "/a/", "/a/./b", "/a/../b", "/a/..", "/a\0b"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        assert!(check_path(&format!("/{}", "a".repeat(PATH_BYTES_MAX))).is_err());
    }
}
