//! What hosts may do with subsystems.

use holdfast_contract::{HostId, SubsystemId};
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, stored};
use crate::error::Result;

/// A grant as kept; `view` and `enforce` are the API's words.
#[derive(Debug, Clone)]
pub(crate) struct GrantRow {
    pub(crate) subsystem_id: SubsystemId,
    pub(crate) host_id: HostId,
    pub(crate) host: String,
    pub(crate) view: String,
    pub(crate) enforce: String,
}

impl FromRow<'_, SqliteRow> for GrantRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            Ok(Self {
                subsystem_id: stored(row.try_get("subsystem_id")?)?,
                host_id: stored(row.try_get("host_id")?)?,
                host: row.try_get("host")?,
                view: row.try_get("view")?,
                enforce: row.try_get("enforce")?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// All grants, by subsystem and host.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<GrantRow>> {
    Ok(sqlx::query_as(
        "SELECT g.*, h.name AS host FROM grants g JOIN hosts h ON h.id = g.host_id ORDER BY g.subsystem_id, g.host_id",
    )
    .fetch_all(conn)
    .await?)
}

/// Up to `limit` grants of one subsystem whose hosts' names follow `after`.
pub(crate) async fn page(
    conn: &mut Conn,
    subsystem: SubsystemId,
    after: &str,
    limit: i64,
) -> Result<Vec<GrantRow>> {
    Ok(sqlx::query_as(
        "SELECT g.*, h.name AS host FROM grants g JOIN hosts h ON h.id = g.host_id \
         WHERE g.subsystem_id = ? AND h.name > ? ORDER BY h.name LIMIT ?",
    )
    .bind(subsystem.to_string())
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?)
}

/// One host's grant to one subsystem.
pub(crate) async fn get(conn: &mut Conn, subsystem: SubsystemId, host: HostId) -> Result<Option<GrantRow>> {
    Ok(sqlx::query_as(
        "SELECT g.*, h.name AS host FROM grants g JOIN hosts h ON h.id = g.host_id \
         WHERE g.subsystem_id = ? AND g.host_id = ?",
    )
    .bind(subsystem.to_string())
    .bind(host.to_string())
    .fetch_optional(conn)
    .await?)
}

/// Names of the subsystems that a host is granted.
pub(crate) async fn subsystems_of(conn: &mut Conn, host: HostId) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "SELECT s.name FROM grants g JOIN subsystems s ON s.id = g.subsystem_id WHERE g.host_id = ? ORDER BY s.name",
    )
    .bind(host.to_string())
    .fetch_all(conn)
    .await?)
}

/// Sets a grant, new or not.
pub(crate) async fn put(
    conn: &mut Conn,
    subsystem: SubsystemId,
    host: HostId,
    view: &str,
    enforce: &str,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO grants (subsystem_id, host_id, view, enforce) VALUES (?, ?, ?, ?) \
         ON CONFLICT (subsystem_id, host_id) DO UPDATE SET view = excluded.view, enforce = excluded.enforce",
    )
    .bind(subsystem.to_string())
    .bind(host.to_string())
    .bind(view)
    .bind(enforce)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a grant.
pub(crate) async fn delete(conn: &mut Conn, subsystem: SubsystemId, host: HostId) -> Result<()> {
    sqlx::query("DELETE FROM grants WHERE subsystem_id = ? AND host_id = ?")
        .bind(subsystem.to_string())
        .bind(host.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Hands the grants of a merged record on; where the receiver has one of its own, that one stays.
pub(crate) async fn hand_over(conn: &mut Conn, from: HostId, to: HostId) -> Result<()> {
    sqlx::query("UPDATE OR IGNORE grants SET host_id = ? WHERE host_id = ?")
        .bind(to.to_string())
        .bind(from.to_string())
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM grants WHERE host_id = ?").bind(from.to_string()).execute(conn).await?;
    Ok(())
}
