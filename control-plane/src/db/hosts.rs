//! Hosts, their merged records and their policies over time.

use std::collections::HashMap;

use holdfast_contract::HostId;
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, stored};
use crate::error::Result;

/// A host as kept.
#[derive(Debug, Clone)]
pub(crate) struct HostRow {
    pub(crate) id: HostId,
    pub(crate) name: String,
    pub(crate) nqn: Option<String>,
    pub(crate) iqn: Option<String>,
    /// Somebody has spoken for it; `false` for one recorded on its first connection.
    pub(crate) registered: bool,
    /// Declared policy, the API's word.
    pub(crate) policy: String,
}

impl FromRow<'_, SqliteRow> for HostRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            Ok(Self {
                id: stored(row.try_get("id")?)?,
                name: row.try_get("name")?,
                nqn: row.try_get("nqn")?,
                iqn: row.try_get("iqn")?,
                registered: row.try_get("registered")?,
                policy: row.try_get("policy")?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// One entry of a host's policy history.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct PolicyRow {
    pub(crate) time_ms: i64,
    pub(crate) kind: String,
    pub(crate) policy: String,
}

/// All hosts by name.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<HostRow>> {
    Ok(sqlx::query_as("SELECT * FROM hosts ORDER BY name").fetch_all(conn).await?)
}

/// Up to `limit` hosts whose names follow `after`; with an identity, only the host that has it.
pub(crate) async fn page(
    conn: &mut Conn,
    nqn: Option<&str>,
    iqn: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<HostRow>> {
    Ok(sqlx::query_as(
        "SELECT * FROM hosts WHERE name > ?1 AND (?2 IS NULL OR nqn = ?2) AND (?3 IS NULL OR iqn = ?3) \
         ORDER BY name LIMIT ?4",
    )
    .bind(after)
    .bind(nqn)
    .bind(iqn)
    .bind(limit)
    .fetch_all(conn)
    .await?)
}

/// One host by name.
pub(crate) async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<HostRow>> {
    Ok(sqlx::query_as("SELECT * FROM hosts WHERE name = ?").bind(name).fetch_optional(conn).await?)
}

/// The host with this NQN.
pub(crate) async fn by_nqn(conn: &mut Conn, nqn: &str) -> Result<Option<HostRow>> {
    Ok(sqlx::query_as("SELECT * FROM hosts WHERE nqn = ?").bind(nqn).fetch_optional(conn).await?)
}

/// The host with this iSCSI name.
pub(crate) async fn by_iqn(conn: &mut Conn, iqn: &str) -> Result<Option<HostRow>> {
    Ok(sqlx::query_as("SELECT * FROM hosts WHERE iqn = ?").bind(iqn).fetch_optional(conn).await?)
}

/// Adds a host.
pub(crate) async fn insert(conn: &mut Conn, host: &HostRow) -> Result<()> {
    sqlx::query("INSERT INTO hosts (id, name, nqn, iqn, registered, policy) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(host.id.to_string())
        .bind(&host.name)
        .bind(&host.nqn)
        .bind(&host.iqn)
        .bind(host.registered)
        .bind(&host.policy)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM host_tombstones WHERE id = ?").bind(host.id.to_string()).execute(conn).await?;
    Ok(())
}

/// Keeps a changed name, changed identities and a changed policy.
pub(crate) async fn update(conn: &mut Conn, host: &HostRow) -> Result<()> {
    sqlx::query("UPDATE hosts SET name = ?, nqn = ?, iqn = ?, policy = ? WHERE id = ?")
        .bind(&host.name)
        .bind(&host.nqn)
        .bind(&host.iqn)
        .bind(&host.policy)
        .bind(host.id.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a host, its aliases and its history, and remembers that its identifiers are done with.
pub(crate) async fn delete(conn: &mut Conn, id: HostId) -> Result<()> {
    sqlx::query(
        "INSERT OR IGNORE INTO host_tombstones (id) SELECT ?1 UNION SELECT alias_id FROM host_aliases WHERE host_id = ?1",
    )
    .bind(id.to_string())
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM hosts WHERE id = ?").bind(id.to_string()).execute(conn).await?;
    Ok(())
}

/// Whether a host of this identifier was deleted.
pub(crate) async fn is_tombstone(conn: &mut Conn, id: HostId) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM host_tombstones WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// Turns the record `from` into a part of `to`: its identifier, its aliases and its policy history. Its row is gone after.
pub(crate) async fn absorb(conn: &mut Conn, from: HostId, to: HostId) -> Result<()> {
    for sql in [
        "UPDATE policy_history SET host_id = ?1 WHERE host_id = ?2",
        "UPDATE host_aliases SET host_id = ?1 WHERE host_id = ?2",
        "INSERT INTO host_aliases (alias_id, host_id) VALUES (?2, ?1)",
        "DELETE FROM hosts WHERE id = ?2",
    ] {
        sqlx::query(sql).bind(to.to_string()).bind(from.to_string()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Lets the target's identifier `alias` stand for `host` from now on.
pub(crate) async fn add_alias(conn: &mut Conn, alias: HostId, host: HostId) -> Result<()> {
    sqlx::query("INSERT INTO host_aliases (alias_id, host_id) VALUES (?, ?)")
        .bind(alias.to_string())
        .bind(host.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Every merged identifier and the host it stands for.
pub(crate) async fn aliases(conn: &mut Conn) -> Result<HashMap<HostId, HostId>> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT alias_id, host_id FROM host_aliases ORDER BY alias_id")
            .fetch_all(conn)
            .await?;
    rows.iter().map(|(alias, host)| Ok((stored(alias)?, stored(host)?))).collect()
}

/// Adds to a host's history; `kind` is the API's word for the witness.
pub(crate) async fn add_policy(
    conn: &mut Conn,
    id: HostId,
    time_ms: i64,
    kind: &str,
    policy: &str,
) -> Result<()> {
    sqlx::query("INSERT INTO policy_history (host_id, time_ms, kind, policy) VALUES (?, ?, ?, ?)")
        .bind(id.to_string())
        .bind(time_ms)
        .bind(kind)
        .bind(policy)
        .execute(conn)
        .await?;
    Ok(())
}

/// A host's history, oldest first.
pub(crate) async fn policies(conn: &mut Conn, id: HostId) -> Result<Vec<PolicyRow>> {
    Ok(sqlx::query_as(
        "SELECT time_ms, kind, policy FROM policy_history WHERE host_id = ? ORDER BY time_ms, entry",
    )
    .bind(id.to_string())
    .fetch_all(conn)
    .await?)
}

/// What a witness said last of a host.
pub(crate) async fn last_policy(conn: &mut Conn, id: HostId, kind: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar(
        "SELECT policy FROM policy_history WHERE host_id = ? AND kind = ? ORDER BY time_ms DESC, entry DESC LIMIT 1",
    )
    .bind(id.to_string())
    .bind(kind)
    .fetch_optional(conn)
    .await?)
}

/// The policy of a host, under this or a merged identifier, at a time: its own word, or what somebody had declared when it had none.
pub(crate) async fn policy_at(conn: &mut Conn, id: HostId, time_ms: i64) -> Result<Option<String>> {
    Ok(sqlx::query_scalar(
        "SELECT policy FROM policy_history AS one \
         WHERE host_id = COALESCE((SELECT host_id FROM host_aliases WHERE alias_id = ?1), ?1) AND time_ms <= ?2 \
         AND kind IN ('reported', 'declared') AND policy <> 'unknown' AND NOT EXISTS \
         (SELECT 1 FROM policy_history AS later WHERE later.host_id = one.host_id AND later.kind = one.kind \
         AND later.time_ms <= ?2 AND (later.time_ms, later.entry) > (one.time_ms, one.entry)) \
         ORDER BY kind DESC LIMIT 1",
    )
    .bind(id.to_string())
    .bind(time_ms)
    .fetch_optional(conn)
    .await?)
}
