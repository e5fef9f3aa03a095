//! Volumes mapped into subsystems.

use holdfast_contract::{SubsystemId, VolumeId};
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, stored};
use crate::error::Result;

/// A mapping as kept.
#[derive(Debug, Clone)]
pub(crate) struct NamespaceRow {
    pub(crate) subsystem_id: SubsystemId,
    pub(crate) nsid: u32,
    pub(crate) volume_id: VolumeId,
    pub(crate) volume: String,
}

impl FromRow<'_, SqliteRow> for NamespaceRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            Ok(Self {
                subsystem_id: stored(row.try_get("subsystem_id")?)?,
                nsid: row.try_get("nsid")?,
                volume_id: stored(row.try_get("volume_id")?)?,
                volume: row.try_get("volume")?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// All mappings, by subsystem and namespace.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<NamespaceRow>> {
    Ok(sqlx::query_as(
        "SELECT n.*, v.name AS volume FROM namespaces n JOIN volumes v ON v.id = n.volume_id ORDER BY n.subsystem_id, n.nsid",
    )
    .fetch_all(conn)
    .await?)
}

/// Up to `limit` mappings of one subsystem above `after`.
pub(crate) async fn page(
    conn: &mut Conn,
    subsystem: SubsystemId,
    after: u32,
    limit: i64,
) -> Result<Vec<NamespaceRow>> {
    Ok(sqlx::query_as(
        "SELECT n.*, v.name AS volume FROM namespaces n JOIN volumes v ON v.id = n.volume_id \
         WHERE n.subsystem_id = ? AND n.nsid > ? ORDER BY n.nsid LIMIT ?",
    )
    .bind(subsystem.to_string())
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?)
}

/// Adds a mapping.
pub(crate) async fn insert(
    conn: &mut Conn,
    subsystem: SubsystemId,
    nsid: u32,
    volume: VolumeId,
) -> Result<()> {
    sqlx::query("INSERT INTO namespaces (subsystem_id, nsid, volume_id) VALUES (?, ?, ?)")
        .bind(subsystem.to_string())
        .bind(nsid)
        .bind(volume.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a mapping.
pub(crate) async fn delete(conn: &mut Conn, subsystem: SubsystemId, nsid: u32) -> Result<()> {
    sqlx::query("DELETE FROM namespaces WHERE subsystem_id = ? AND nsid = ?")
        .bind(subsystem.to_string())
        .bind(nsid)
        .execute(conn)
        .await?;
    Ok(())
}
