//! Pools.

use holdfast_contract::PoolId;
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, storable, stored, stored_u64};
use crate::error::Result;

/// A pool as kept.
#[derive(Debug, Clone)]
pub(crate) struct PoolRow {
    pub(crate) id: PoolId,
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) overcommit: f64,
    /// By the target's latest word.
    pub(crate) allocated_bytes: u64,
    /// Sizes of its volumes together.
    pub(crate) promised_bytes: u64,
}

impl FromRow<'_, SqliteRow> for PoolRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            Ok(Self {
                id: stored(row.try_get("id")?)?,
                name: row.try_get("name")?,
                size_bytes: stored_u64(row.try_get("size_bytes")?)?,
                overcommit: row.try_get("overcommit")?,
                allocated_bytes: stored_u64(row.try_get("allocated_bytes")?)?,
                promised_bytes: stored_u64(row.try_get("promised_bytes")?)?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
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

/// Adds a memory pool.
pub(crate) async fn insert_memory(
    conn: &mut Conn,
    id: PoolId,
    name: &str,
    size_bytes: u64,
    overcommit: f64,
) -> Result<()> {
    sqlx::query("INSERT INTO pools (id, name, kind, size_bytes, overcommit) VALUES (?, ?, 'memory', ?, ?)")
        .bind(id.to_string())
        .bind(name)
        .bind(storable(size_bytes)?)
        .bind(overcommit)
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a pool.
pub(crate) async fn delete(conn: &mut Conn, id: PoolId) -> Result<()> {
    sqlx::query("DELETE FROM pools WHERE id = ?").bind(id.to_string()).execute(conn).await?;
    Ok(())
}

/// Keeps what the target says of its use.
pub(crate) async fn set_allocated(conn: &mut Conn, id: PoolId, allocated_bytes: u64) -> Result<()> {
    sqlx::query("UPDATE pools SET allocated_bytes = ? WHERE id = ?")
        .bind(storable(allocated_bytes)?)
        .bind(id.to_string())
        .execute(conn)
        .await?;
    Ok(())
}
