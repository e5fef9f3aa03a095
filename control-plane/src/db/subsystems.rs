//! Subsystems.

use holdfast_contract::SubsystemId;
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, stored};
use crate::error::Result;

/// A subsystem as kept.
#[derive(Debug, Clone)]
pub(crate) struct SubsystemRow {
    pub(crate) id: SubsystemId,
    pub(crate) name: String,
    pub(crate) nqn: String,
    pub(crate) iqn: String,
    pub(crate) allow_any_host: bool,
}

impl FromRow<'_, SqliteRow> for SubsystemRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            Ok(Self {
                id: stored(row.try_get("id")?)?,
                name: row.try_get("name")?,
                nqn: row.try_get("nqn")?,
                iqn: row.try_get("iqn")?,
                allow_any_host: row.try_get("allow_any_host")?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// All subsystems by name.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<SubsystemRow>> {
    Ok(sqlx::query_as("SELECT * FROM subsystems ORDER BY name").fetch_all(conn).await?)
}

/// Up to `limit` subsystems whose names follow `after`.
pub(crate) async fn page(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<SubsystemRow>> {
    Ok(sqlx::query_as("SELECT * FROM subsystems WHERE name > ? ORDER BY name LIMIT ?")
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?)
}

/// One subsystem by name.
pub(crate) async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<SubsystemRow>> {
    Ok(sqlx::query_as("SELECT * FROM subsystems WHERE name = ?").bind(name).fetch_optional(conn).await?)
}

/// The name of the subsystem that has this NQN.
pub(crate) async fn name_by_nqn(conn: &mut Conn, nqn: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("SELECT name FROM subsystems WHERE nqn = ?").bind(nqn).fetch_optional(conn).await?)
}

/// The name of the subsystem that has this IQN.
pub(crate) async fn name_by_iqn(conn: &mut Conn, iqn: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("SELECT name FROM subsystems WHERE iqn = ?").bind(iqn).fetch_optional(conn).await?)
}

/// Adds a subsystem.
pub(crate) async fn insert(conn: &mut Conn, subsystem: &SubsystemRow) -> Result<()> {
    sqlx::query("INSERT INTO subsystems (id, name, nqn, iqn, allow_any_host) VALUES (?, ?, ?, ?, ?)")
        .bind(subsystem.id.to_string())
        .bind(&subsystem.name)
        .bind(&subsystem.nqn)
        .bind(&subsystem.iqn)
        .bind(subsystem.allow_any_host)
        .execute(conn)
        .await?;
    Ok(())
}

/// Opens or closes a subsystem to hosts without a grant.
pub(crate) async fn set_allow_any_host(conn: &mut Conn, id: SubsystemId, allow: bool) -> Result<()> {
    sqlx::query("UPDATE subsystems SET allow_any_host = ? WHERE id = ?")
        .bind(allow)
        .bind(id.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a subsystem with its grants.
pub(crate) async fn delete(conn: &mut Conn, id: SubsystemId) -> Result<()> {
    sqlx::query("DELETE FROM subsystems WHERE id = ?").bind(id.to_string()).execute(conn).await?;
    Ok(())
}
