//! Pools.

use holdfast_contract::{Backing, DesiredPool, PoolId};
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, storable, stored, stored_u64};
use crate::error::{Error, Result};

/// A pool as kept.
#[derive(Debug, Clone)]
pub(crate) struct PoolRow {
    pub(crate) id: PoolId,
    pub(crate) name: String,
    pub(crate) uuid: Option<String>,
    pub(crate) backing: Backing,
    pub(crate) overcommit: f64,
    /// By the target's latest word.
    pub(crate) capacity_bytes: u64,
    /// By the target's latest word.
    pub(crate) allocated_bytes: u64,
    /// The threshold that was told last: 0, 80, 90 or 95 percent.
    pub(crate) threshold: u8,
    /// Sizes of its volumes together.
    pub(crate) promised_bytes: u64,
}

impl FromRow<'_, SqliteRow> for PoolRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            Ok(Self {
                id: stored(row.try_get("id")?)?,
                name: row.try_get("name")?,
                uuid: row.try_get("uuid")?,
                backing: backing(row)?,
                overcommit: row.try_get("overcommit")?,
                capacity_bytes: stored_u64(row.try_get("capacity_bytes")?)?,
                allocated_bytes: stored_u64(row.try_get("allocated_bytes")?)?,
                threshold: row.try_get("threshold")?,
                promised_bytes: stored_u64(row.try_get("promised_bytes")?)?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

fn backing(row: &SqliteRow) -> Result<Backing> {
    let kind: String = row.try_get("kind")?;
    let size_bytes = stored_u64(row.try_get("size_bytes")?)?;
    let path: Option<String> = row.try_get("path")?;
    let import = row.try_get("import")?;
    match (kind.as_str(), path) {
        ("memory", None) => Ok(Backing::Memory { size_bytes }),
        ("file", Some(path)) => Ok(Backing::File { path, size_bytes, import }),
        ("block", Some(path)) => Ok(Backing::Block { path, import }),
        (other, _) => Err(Error::Stored(format!("unknown backing {other:?}"))),
    }
}

fn kind(backing: &Backing) -> &'static str {
    match backing {
        Backing::Memory { .. } => "memory",
        Backing::File { .. } => "file",
        Backing::Block { .. } => "block",
    }
}

const SELECT: &str = "SELECT p.*, (SELECT COALESCE(SUM(v.size_bytes), 0) FROM volumes v WHERE v.pool_id = p.id) AS promised_bytes FROM pools p";

/// All pools by name.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<PoolRow>> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} ORDER BY name"))).fetch_all(conn).await?)
}

/// Up to `limit` pools whose names follow `after`.
pub(crate) async fn page(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<PoolRow>> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} WHERE name > ? ORDER BY name LIMIT ?")))
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?)
}

/// One pool by name.
pub(crate) async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<PoolRow>> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} WHERE name = ?")))
        .bind(name)
        .fetch_optional(conn)
        .await?)
}

/// Names of the pools that have this identifier, UUID or path, for as much of that as is asked for.
pub(crate) async fn clash(
    conn: &mut Conn,
    id: Option<PoolId>,
    uuid: Option<&str>,
    path: Option<&str>,
) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("SELECT name FROM pools WHERE id = ?1 OR uuid = ?2 OR path = ?3 LIMIT 1")
        .bind(id.map(|id| id.to_string()))
        .bind(uuid)
        .bind(path)
        .fetch_optional(conn)
        .await?)
}

/// A pool to be kept.
#[derive(Debug)]
pub(crate) struct NewRow<'a> {
    pub(crate) id: PoolId,
    pub(crate) name: &'a str,
    pub(crate) uuid: Option<&'a str>,
    pub(crate) backing: &'a Backing,
    /// Length of its memory, file or device.
    pub(crate) size_bytes: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) overcommit: f64,
}

/// Adds a pool.
pub(crate) async fn insert(conn: &mut Conn, pool: &NewRow<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO pools (id, name, kind, path, import, uuid, size_bytes, overcommit, capacity_bytes) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(pool.id.to_string())
    .bind(pool.name)
    .bind(kind(pool.backing))
    .bind(pool.backing.path())
    .bind(pool.backing.is_import())
    .bind(pool.uuid)
    .bind(storable(pool.size_bytes)?)
    .bind(pool.overcommit)
    .bind(storable(pool.capacity_bytes)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a pool.
pub(crate) async fn delete(conn: &mut Conn, id: PoolId) -> Result<()> {
    sqlx::query("DELETE FROM pools WHERE id = ?").bind(id.to_string()).execute(conn).await?;
    Ok(())
}

/// Keeps what the target says of its room and use.
pub(crate) async fn set_use(
    conn: &mut Conn,
    id: PoolId,
    capacity_bytes: u64,
    allocated_bytes: u64,
) -> Result<()> {
    sqlx::query("UPDATE pools SET capacity_bytes = ?, allocated_bytes = ? WHERE id = ?")
        .bind(storable(capacity_bytes)?)
        .bind(storable(allocated_bytes)?)
        .bind(id.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps which threshold was told.
pub(crate) async fn set_threshold(conn: &mut Conn, id: PoolId, threshold: u8) -> Result<()> {
    sqlx::query("UPDATE pools SET threshold = ? WHERE id = ?")
        .bind(threshold)
        .bind(id.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes a pool that is ordered, or, with `ordered` false, one that is to be destroyed.
pub(crate) async fn note_to_destroy(conn: &mut Conn, pool: &DesiredPool, ordered: bool) -> Result<()> {
    let size_bytes = match pool.backing {
        Backing::Memory { size_bytes } | Backing::File { size_bytes, .. } => size_bytes,
        Backing::Block { .. } => 0,
    };
    sqlx::query(
        "INSERT INTO pools_to_destroy (id, name, kind, path, import, uuid, size_bytes, ordered) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET ordered = excluded.ordered",
    )
    .bind(pool.id.to_string())
    .bind(&pool.name)
    .bind(kind(&pool.backing))
    .bind(pool.backing.path())
    .bind(pool.backing.is_import())
    .bind(&pool.uuid)
    .bind(storable(size_bytes)?)
    .bind(ordered)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets one that is destroyed, or has come into use.
pub(crate) async fn forget_to_destroy(conn: &mut Conn, id: PoolId) -> Result<()> {
    sqlx::query("DELETE FROM pools_to_destroy WHERE id = ?").bind(id.to_string()).execute(conn).await?;
    Ok(())
}

/// Gives up all orders: a former run of this program has left them.
pub(crate) async fn give_orders_up(conn: &mut Conn) -> Result<()> {
    sqlx::query("UPDATE pools_to_destroy SET ordered = 0").execute(conn).await?;
    Ok(())
}

/// Pools that are to be destroyed.
pub(crate) async fn to_destroy(conn: &mut Conn) -> Result<Vec<DesiredPool>> {
    let rows: Vec<SqliteRow> =
        sqlx::query("SELECT * FROM pools_to_destroy WHERE ordered = 0 ORDER BY id").fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(DesiredPool {
                id: stored(row.try_get("id")?)?,
                name: row.try_get("name")?,
                uuid: row.try_get("uuid")?,
                backing: backing(row)?,
            })
        })
        .collect()
}
