//! Incidents, each once, in their newest form.

use holdfast_contract::Incident;
use sqlx::{FromRow, QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use super::Conn;
use crate::clock::signed;
use crate::error::{Error, Result};

/// Incidents kept at most, the newest: some 170 MB with the evidence of 4096-byte blocks.
pub(crate) const INCIDENTS_KEPT_MAX: i64 = 20_000;

/// An incident as kept.
#[derive(Debug, Clone)]
pub(crate) struct IncidentRow {
    /// Position in the order of arrival.
    pub(crate) entry: i64,
    /// What the host ran when it began: see [`crate::db::hosts::policy_at`].
    pub(crate) policy: String,
    /// The target's word.
    pub(crate) incident: Incident,
}

impl FromRow<'_, SqliteRow> for IncidentRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let body: String = row.try_get("body")?;
        let incident = serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self { entry: row.try_get("entry")?, policy: row.try_get("policy")?, incident })
    }
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Identifiers of the host, its own and merged ones, as text. `Some` and empty matches nothing.
    pub(crate) hosts: Option<Vec<String>>,
    /// Identifier of the volume, as text; as `hosts`.
    pub(crate) volumes: Option<Vec<String>>,
    /// The API's word.
    pub(crate) tag: Option<String>,
    /// The API's word.
    pub(crate) verdict: Option<String>,
    /// Last failure at or after this time.
    pub(crate) since_ms: Option<i64>,
    /// Begins below this position in the order of the list: (`first_ms`, `entry`).
    pub(crate) before: Option<(i64, i64)>,
}

/// What [`put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It was new.
    New,
    /// It was known and is newer now.
    Updated,
    /// What is kept is at least as new.
    Unchanged,
}

/// Keeps an incident, or its newer form.
pub(crate) async fn put(conn: &mut Conn, incident: &Incident, policy: &str) -> Result<Stored> {
    let kept: Option<IncidentRow> = by_id(conn, &incident.id).await?;
    if kept.as_ref().is_some_and(|row| !is_newer(incident, &row.incident)) {
        return Ok(Stored::Unchanged);
    }
    let body = serde_json::to_string(incident).map_err(|error| Error::Stored(error.to_string()))?;
    sqlx::query(
        "INSERT INTO incidents (id, first_ms, last_ms, host_id, volume_id, tag, verdict, policy, body) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET last_ms = excluded.last_ms, verdict = excluded.verdict, body = excluded.body",
    )
    .bind(&incident.id)
    .bind(signed(incident.first_time_ms))
    .bind(signed(incident.last_time_ms))
    .bind(incident.host.to_string())
    .bind(incident.volume.to_string())
    .bind(word(&incident.tag))
    .bind(word(&incident.verdict))
    .bind(policy)
    .bind(body)
    .execute(conn)
    .await?;
    Ok(if kept.is_some() { Stored::Updated } else { Stored::New })
}

/// Whether `a` says more than `b`, of the same incident: counts only grow, and between equal counts the later
/// position in the stream wins. A target that lost its stream begins it anew, so the position alone decides nothing.
fn is_newer(a: &Incident, b: &Incident) -> bool {
    (a.count, a.last_time_ms) > (b.count, b.last_time_ms)
        || ((a.count, a.last_time_ms) == (b.count, b.last_time_ms) && a.sequence > b.sequence)
}

/// Forgets the oldest beyond [`INCIDENTS_KEPT_MAX`].
pub(crate) async fn prune(conn: &mut Conn) -> Result<u64> {
    let done = sqlx::query(
        "DELETE FROM incidents WHERE entry IN \
         (SELECT entry FROM incidents ORDER BY first_ms DESC, entry DESC LIMIT -1 OFFSET ?)",
    )
    .bind(INCIDENTS_KEPT_MAX)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// One incident.
pub(crate) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<IncidentRow>> {
    Ok(sqlx::query_as("SELECT entry, policy, body FROM incidents WHERE id = ?")
        .bind(id)
        .fetch_optional(conn)
        .await?)
}

/// Up to `limit` incidents, newest beginning first.
pub(crate) async fn page(conn: &mut Conn, filter: &Filter, limit: i64) -> Result<Vec<IncidentRow>> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT entry, policy, body FROM incidents WHERE 1 = 1");
    for (column, ids) in [("host_id", &filter.hosts), ("volume_id", &filter.volumes)] {
        let Some(ids) = ids else { continue };
        sql.push(" AND ").push(column).push(" IN (");
        let mut list = sql.separated(", ");
        for id in ids {
            list.push_bind(id.clone());
        }
        sql.push(")");
    }
    if let Some(tag) = &filter.tag {
        sql.push(" AND tag = ").push_bind(tag.clone());
    }
    if let Some(verdict) = &filter.verdict {
        sql.push(" AND verdict = ").push_bind(verdict.clone());
    }
    if let Some(since_ms) = filter.since_ms {
        sql.push(" AND last_ms >= ").push_bind(since_ms);
    }
    if let Some((first_ms, entry)) = filter.before {
        sql.push(" AND (first_ms, entry) < (").push_bind(first_ms).push(", ").push_bind(entry).push(")");
    }
    sql.push(" ORDER BY first_ms DESC, entry DESC LIMIT ").push_bind(limit);
    Ok(sql.build_query_as().fetch_all(conn).await?)
}

/// The API's word for an enumeration of the contract.
fn word<T: serde::Serialize>(value: &T) -> Option<String> {
    serde_json::to_value(value).ok().and_then(|json| json.as_str().map(str::to_owned))
}
