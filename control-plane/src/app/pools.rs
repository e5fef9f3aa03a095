//! Pools: where volumes' bytes are. This version has memory pools.

use holdfast_contract::PoolHealth;
use serde::Serialize;
use utoipa::ToSchema;

use super::events::{Event, EventKind};
use super::page::{Page, PageQuery};
use super::words::Health;
use super::{App, fresh_pool_id};
use crate::db::pools::PoolRow;
use crate::db::{Conn, meta, pools};
use crate::error::{Error, Result};
use crate::names::Name;

/// Smallest pool: below it not even a map page and a handful of blocks are worth having.
pub const POOL_BYTES_MIN: u64 = 1 << 20;
/// Largest pool: what the target's layout can hold.
pub const POOL_BYTES_MAX: u64 = 1 << 44;
/// Pools are whole 4096-byte slots.
pub const POOL_BYTES_STEP: u64 = 4096;
/// Most that may be promised, as a multiple of the capacity.
pub const OVERCOMMIT_MAX: f64 = 1000.0;
/// Name of the pool that the first start makes.
const FIRST_POOL: &str = "ram";

/// A pool to make.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPool {
    /// Its name.
    pub name: Name,
    /// Where its bytes are.
    pub backing: PoolBacking,
    /// Sizes of its volumes together, at most, as a multiple of its capacity: 1 to 1000.
    #[schema(required = false, default = 1.0, minimum = 1, maximum = 1000)]
    pub overcommit: f64,
}

/// Where a pool's bytes are. `file` and `block` backings are not in this version (422).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum PoolBacking {
    /// Anonymous memory of the appliance; lost with the appliance.
    Memory {
        /// Room for blocks: at least 1 MiB, a multiple of 4096.
        #[schema(minimum = 1048576, maximum = 9007199254740991_u64, multiple_of = 4096)]
        size_bytes: u64,
    },
}

/// A pool.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Pool {
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// Where its bytes are.
    pub backing: PoolBacking,
    /// Sizes of its volumes together, at most, as a multiple of its capacity.
    pub overcommit: f64,
    /// Room for blocks.
    pub capacity_bytes: u64,
    /// Blocks in use.
    pub allocated_bytes: u64,
    /// Sizes of its volumes together.
    pub promised_bytes: u64,
    /// Whether it serves.
    pub health: Health,
}

impl NewPool {
    fn size_bytes(&self) -> u64 {
        let PoolBacking::Memory { size_bytes } = self.backing;
        size_bytes
    }

    fn check(&self) -> Result<()> {
        let size_bytes = self.size_bytes();
        if !(POOL_BYTES_MIN..=POOL_BYTES_MAX).contains(&size_bytes)
            || !size_bytes.is_multiple_of(POOL_BYTES_STEP)
        {
            return Err(Error::value(
                "/backing/size_bytes",
                format!("must be a multiple of {POOL_BYTES_STEP} from {POOL_BYTES_MIN} to {POOL_BYTES_MAX}"),
            ));
        }
        if !(1.0..=OVERCOMMIT_MAX).contains(&self.overcommit) {
            return Err(Error::value("/overcommit", format!("must be from 1 to {OVERCOMMIT_MAX}")));
        }
        Ok(())
    }
}

impl App {
    /// Makes a pool; it can be used when this answers.
    pub async fn create_pool(&self, new: NewPool) -> Result<Pool> {
        new.check()?;
        let mut change = self.change().await?;
        let name = new.name.as_str();
        if pools::by_name(change.db(), name).await?.is_some() {
            return Err(Error::conflict("/name", format!("there is a pool {name} already")));
        }
        pools::insert_memory(change.db(), fresh_pool_id()?, name, new.size_bytes(), new.overcommit).await?;
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

    /// Removes a pool without volumes.
    pub async fn delete_pool(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        let row = pools::by_name(change.db(), name).await?.ok_or_else(|| Error::missing("pool", name))?;
        if row.promised_bytes > 0 {
            return Err(Error::conflict("", format!("the pool {name} has volumes")));
        }
        pools::delete(change.db(), row.id).await?;
        change.announce(Event::object(EventKind::Pool, name, "deleted"));
        change.commit().await
    }

    fn render_pool(&self, row: PoolRow) -> Pool {
        let observed = self.telemetry.pool(row.id);
        let health = match observed.as_ref().map(|pool| pool.health) {
            Some(PoolHealth::Ok) => Health::Ok,
            Some(PoolHealth::Degraded) | None => Health::Degraded,
            Some(PoolHealth::Failed) => Health::Failed,
        };
        Pool {
            name: row.name,
            backing: PoolBacking::Memory { size_bytes: row.size_bytes },
            overcommit: row.overcommit,
            capacity_bytes: row.size_bytes,
            allocated_bytes: observed.map_or(row.allocated_bytes, |pool| pool.allocated_bytes),
            promised_bytes: row.promised_bytes,
            health,
        }
    }
}

/// Makes the pool of the first start, once in the life of the installation.
pub(super) async fn make_first_pool(conn: &mut Conn, size_bytes: u64) -> Result<()> {
    if meta::get(conn, meta::Key::FirstPoolMade).await?.is_some() {
        return Ok(());
    }
    let name = Name::parse(FIRST_POOL).map_err(|error| Error::Stored(error.to_string()))?;
    let new = NewPool { name, backing: PoolBacking::Memory { size_bytes }, overcommit: 1.0 };
    new.check()?;
    pools::insert_memory(conn, fresh_pool_id()?, FIRST_POOL, size_bytes, new.overcommit).await?;
    meta::set(conn, meta::Key::FirstPoolMade, "yes").await
}
