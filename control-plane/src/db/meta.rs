//! Single values of the installation.

use super::{Conn, stored};
use crate::error::Result;

/// Single values that are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    /// Revision of the last desired state that was kept here.
    Revision,
    /// Set once the first start has made its memory pool.
    FirstPoolMade,
    /// The volume that is being deleted: once the target has been told, there is no way back.
    LeavingVolume,
    /// `boot_id` of the target whose incident stream is being read.
    IncidentBoot,
    /// Highest incident sequence stored from that stream.
    IncidentSequence,
    /// Incidents that the target had to drop, by its latest word.
    IncidentsDropped,
}

impl Key {
    fn as_str(self) -> &'static str {
        match self {
            Self::Revision => "revision",
            Self::FirstPoolMade => "first_pool_made",
            Self::LeavingVolume => "leaving_volume",
            Self::IncidentBoot => "incident_boot",
            Self::IncidentSequence => "incident_sequence",
            Self::IncidentsDropped => "incidents_dropped",
        }
    }
}

/// Reads one value.
pub(crate) async fn get(conn: &mut Conn, key: Key) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
        .bind(key.as_str())
        .fetch_optional(conn)
        .await?)
}

/// Reads one number; zero when it was never set.
pub(crate) async fn get_u64(conn: &mut Conn, key: Key) -> Result<u64> {
    get(conn, key).await?.map_or(Ok(0), |text| stored(&text))
}

/// Forgets a value, unless it has become another one.
pub(crate) async fn forget(conn: &mut Conn, key: Key, value: &str) -> Result<()> {
    sqlx::query("DELETE FROM meta WHERE key = ? AND value = ?")
        .bind(key.as_str())
        .bind(value)
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets one value.
pub(crate) async fn set(conn: &mut Conn, key: Key, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(key.as_str())
    .bind(value)
    .execute(conn)
    .await?;
    Ok(())
}
