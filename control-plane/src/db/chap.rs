//! What hosts prove themselves with.

use std::collections::HashMap;

use holdfast_contract::{DesiredChap, DesiredMutual, HostId, Secret};
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, stored};
use crate::error::Result;

/// One host's, as kept.
struct ChapRow {
    host: HostId,
    chap: DesiredChap,
}

impl FromRow<'_, SqliteRow> for ChapRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let host = || -> Result<HostId> { stored(row.try_get("host_id")?) };
        let mutual_user: Option<String> = row.try_get("mutual_user")?;
        let mutual_secret: Option<String> = row.try_get("mutual_secret")?;
        let mutual = mutual_user.zip(mutual_secret);
        Ok(Self {
            host: host().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            chap: DesiredChap {
                user: row.try_get("user")?,
                secret: Secret::new(row.try_get("secret")?),
                mutual: mutual.map(|(user, secret)| DesiredMutual { user, secret: Secret::new(secret) }),
            },
        })
    }
}

/// Of all hosts that have any.
pub(crate) async fn all(conn: &mut Conn) -> Result<HashMap<HostId, DesiredChap>> {
    let rows: Vec<ChapRow> = sqlx::query_as("SELECT * FROM host_chap").fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.host, row.chap)).collect())
}

/// Of one host.
pub(crate) async fn of(conn: &mut Conn, host: HostId) -> Result<Option<DesiredChap>> {
    let row: Option<ChapRow> = sqlx::query_as("SELECT * FROM host_chap WHERE host_id = ?")
        .bind(host.to_string())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.chap))
}

/// Keeps, replaces or forgets those of one host.
pub(crate) async fn set(conn: &mut Conn, host: HostId, chap: Option<&DesiredChap>) -> Result<()> {
    sqlx::query("DELETE FROM host_chap WHERE host_id = ?").bind(host.to_string()).execute(&mut *conn).await?;
    let Some(chap) = chap else { return Ok(()) };
    let mutual = chap.mutual.as_ref();
    sqlx::query(
        "INSERT INTO host_chap (host_id, user, secret, mutual_user, mutual_secret) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(host.to_string())
    .bind(&chap.user)
    .bind(chap.secret.reveal())
    .bind(mutual.map(|mutual| &mutual.user))
    .bind(mutual.map(|mutual| mutual.secret.reveal()))
    .execute(conn)
    .await?;
    Ok(())
}
