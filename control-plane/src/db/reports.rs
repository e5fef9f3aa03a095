//! What agents report of their hosts, where counters stood when a host's claims began, and the alarms that hold.

use std::collections::HashMap;

use holdfast_contract::HostId;
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, storable, stored, stored_u64};
use crate::error::Result;

/// A report as kept.
#[derive(Debug, Clone)]
pub(crate) struct ReportRow {
    pub(crate) host_id: HostId,
    pub(crate) time_ms: i64,
    /// JSON as the API takes it.
    pub(crate) body: String,
}

impl FromRow<'_, SqliteRow> for ReportRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            Ok(Self {
                host_id: stored(row.try_get("host_id")?)?,
                time_ms: row.try_get("time_ms")?,
                body: row.try_get("body")?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// A host's claims and where its counters stood when they began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchRow {
    pub(crate) host_id: HostId,
    pub(crate) declared: String,
    pub(crate) reported: Option<String>,
    /// The word of the whole record that was noted last.
    pub(crate) observed: String,
    pub(crate) by_host: u64,
    pub(crate) by_target: u64,
    pub(crate) operations: u64,
    pub(crate) guard_errors: u64,
}

impl FromRow<'_, SqliteRow> for WatchRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            Ok(Self {
                host_id: stored(row.try_get("host_id")?)?,
                declared: row.try_get("declared")?,
                reported: row.try_get("reported")?,
                observed: row.try_get("observed")?,
                by_host: stored_u64(row.try_get("by_host")?)?,
                by_target: stored_u64(row.try_get("by_target")?)?,
                operations: stored_u64(row.try_get("operations")?)?,
                guard_errors: stored_u64(row.try_get("guard_errors")?)?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// An alarm that holds.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct AlarmRow {
    pub(crate) kind: String,
    pub(crate) since_ms: i64,
    pub(crate) hole: Option<String>,
    pub(crate) detail: String,
}

/// Every host's latest report.
pub(crate) async fn all(conn: &mut Conn) -> Result<HashMap<HostId, ReportRow>> {
    let rows: Vec<ReportRow> = sqlx::query_as("SELECT * FROM host_reports").fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.host_id, row)).collect())
}

/// A host's latest report.
pub(crate) async fn get(conn: &mut Conn, host: HostId) -> Result<Option<ReportRow>> {
    Ok(sqlx::query_as("SELECT * FROM host_reports WHERE host_id = ?")
        .bind(host.to_string())
        .fetch_optional(conn)
        .await?)
}

/// Keeps a host's latest report.
pub(crate) async fn put(conn: &mut Conn, report: &ReportRow) -> Result<()> {
    sqlx::query(
        "INSERT INTO host_reports (host_id, time_ms, body) VALUES (?, ?, ?) \
         ON CONFLICT (host_id) DO UPDATE SET time_ms = excluded.time_ms, body = excluded.body",
    )
    .bind(report.host_id.to_string())
    .bind(report.time_ms)
    .bind(&report.body)
    .execute(conn)
    .await?;
    Ok(())
}

/// Hands the report of a merged record on; of two the newer one stays.
pub(crate) async fn hand_over(conn: &mut Conn, from: HostId, to: HostId) -> Result<()> {
    for sql in [
        "DELETE FROM host_reports WHERE host_id = ?1 \
         AND time_ms < (SELECT time_ms FROM host_reports WHERE host_id = ?2)",
        "UPDATE OR IGNORE host_reports SET host_id = ?1 WHERE host_id = ?2",
    ] {
        sqlx::query(sql).bind(to.to_string()).bind(from.to_string()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Every host that is watched.
pub(crate) async fn watches(conn: &mut Conn) -> Result<HashMap<HostId, WatchRow>> {
    let rows: Vec<WatchRow> = sqlx::query_as("SELECT * FROM host_watch").fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.host_id, row)).collect())
}

/// Begins a watch, or begins it anew.
pub(crate) async fn set_watch(conn: &mut Conn, watch: &WatchRow) -> Result<()> {
    sqlx::query(
        "INSERT OR REPLACE INTO host_watch \
         (host_id, declared, reported, observed, by_host, by_target, operations, guard_errors) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(watch.host_id.to_string())
    .bind(&watch.declared)
    .bind(&watch.reported)
    .bind(&watch.observed)
    .bind(storable(watch.by_host)?)
    .bind(storable(watch.by_target)?)
    .bind(storable(watch.operations)?)
    .bind(storable(watch.guard_errors)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets the next look begin a host's watch anew.
pub(crate) async fn forget_watch(conn: &mut Conn, host: HostId) -> Result<()> {
    sqlx::query("DELETE FROM host_watch WHERE host_id = ?").bind(host.to_string()).execute(conn).await?;
    Ok(())
}

/// The alarms of a host, by kind.
pub(crate) async fn alarms(conn: &mut Conn, host: HostId) -> Result<Vec<AlarmRow>> {
    Ok(sqlx::query_as("SELECT kind, since_ms, hole, detail FROM host_alarms WHERE host_id = ? ORDER BY kind")
        .bind(host.to_string())
        .fetch_all(conn)
        .await?)
}

/// Every alarm, by host and kind.
pub(crate) async fn all_alarms(conn: &mut Conn) -> Result<HashMap<HostId, Vec<AlarmRow>>> {
    let rows = sqlx::query("SELECT * FROM host_alarms ORDER BY host_id, kind").fetch_all(conn).await?;
    let mut alarms: HashMap<HostId, Vec<AlarmRow>> = HashMap::new();
    for row in rows {
        let host: String = row.try_get("host_id")?;
        alarms.entry(stored(&host)?).or_default().push(AlarmRow::from_row(&row)?);
    }
    Ok(alarms)
}

/// Replaces the alarms of a host.
pub(crate) async fn set_alarms(conn: &mut Conn, host: HostId, alarms: &[AlarmRow]) -> Result<()> {
    sqlx::query("DELETE FROM host_alarms WHERE host_id = ?")
        .bind(host.to_string())
        .execute(&mut *conn)
        .await?;
    for alarm in alarms {
        sqlx::query("INSERT INTO host_alarms (host_id, kind, since_ms, hole, detail) VALUES (?, ?, ?, ?, ?)")
            .bind(host.to_string())
            .bind(&alarm.kind)
            .bind(alarm.since_ms)
            .bind(&alarm.hole)
            .bind(&alarm.detail)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
