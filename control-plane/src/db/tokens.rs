//! Tokens of agents, by their SHA-256.

use holdfast_contract::HostId;
use sqlx::FromRow;

use super::Conn;
use crate::error::Result;

/// A token as kept.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct TokenRow {
    pub(crate) time_ms: i64,
    pub(crate) sha256: Vec<u8>,
}

/// A host's, if it has one.
pub(crate) async fn of(conn: &mut Conn, host: HostId) -> Result<Option<TokenRow>> {
    Ok(sqlx::query_as("SELECT time_ms, sha256 FROM host_tokens WHERE host_id = ?")
        .bind(host.to_string())
        .fetch_optional(conn)
        .await?)
}

/// Keeps a host's, in place of the one before.
pub(crate) async fn put(conn: &mut Conn, host: HostId, token: &TokenRow) -> Result<()> {
    sqlx::query("INSERT OR REPLACE INTO host_tokens (host_id, time_ms, sha256) VALUES (?, ?, ?)")
        .bind(host.to_string())
        .bind(token.time_ms)
        .bind(&token.sha256)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets a host's; `false` if there was none.
pub(crate) async fn delete(conn: &mut Conn, host: HostId) -> Result<bool> {
    let gone =
        sqlx::query("DELETE FROM host_tokens WHERE host_id = ?").bind(host.to_string()).execute(conn).await?;
    Ok(gone.rows_affected() > 0)
}

/// Hands the token of a merged record on, unless the other has one of its own.
pub(crate) async fn hand_over(conn: &mut Conn, from: HostId, to: HostId) -> Result<()> {
    sqlx::query("UPDATE OR IGNORE host_tokens SET host_id = ? WHERE host_id = ?")
        .bind(to.to_string())
        .bind(from.to_string())
        .execute(conn)
        .await?;
    Ok(())
}
