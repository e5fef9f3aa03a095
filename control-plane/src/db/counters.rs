//! The target's latest counters, so that they can be shown while it is away.

use std::collections::{HashMap, HashSet};

use holdfast_contract::{CounterRow, DigestRow, HostId, VolumeId};
use serde::{Serialize, de::DeserializeOwned};

use super::{Conn, storable, stored, stored_u64};
use crate::error::{Error, Result};

/// Everything that is kept.
pub(crate) async fn load(conn: &mut Conn) -> Result<(Vec<CounterRow>, Vec<DigestRow>)> {
    let rows: Vec<(String, String, String, String, String)> = sqlx::query_as(
        "SELECT host_id, volume_id, writes, reads, io FROM counters ORDER BY host_id, volume_id",
    )
    .fetch_all(&mut *conn)
    .await?;
    let counters = rows
        .iter()
        .map(|(host, volume, writes, reads, io)| {
            Ok(CounterRow {
                host: stored(host)?,
                volume: stored(volume)?,
                write: from_json(writes)?,
                read: from_json(reads)?,
                io: from_json(io)?,
            })
        })
        .collect::<Result<_>>()?;
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT host_id, header, data FROM digests ORDER BY host_id").fetch_all(conn).await?;
    let digests = rows
        .iter()
        .map(|(host, header, data)| {
            Ok(DigestRow { host: stored(host)?, header: stored_u64(*header)?, data: stored_u64(*data)? })
        })
        .collect::<Result<_>>()?;
    Ok((counters, digests))
}

/// Makes what is kept equal to `now`, writing only what differs from `before`.
pub(crate) async fn save_rows(conn: &mut Conn, before: &[CounterRow], now: &[CounterRow]) -> Result<()> {
    let known: HashMap<(HostId, VolumeId), &CounterRow> =
        before.iter().map(|row| ((row.host, row.volume), row)).collect();
    for row in now.iter().filter(|row| known.get(&(row.host, row.volume)) != Some(row)) {
        sqlx::query(
            "INSERT INTO counters (host_id, volume_id, writes, reads, io) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (host_id, volume_id) DO UPDATE SET writes = excluded.writes, reads = excluded.reads, io = excluded.io",
        )
        .bind(row.host.to_string())
        .bind(row.volume.to_string())
        .bind(to_json(&row.write)?)
        .bind(to_json(&row.read)?)
        .bind(to_json(&row.io)?)
        .execute(&mut *conn)
        .await?;
    }
    let present: HashSet<(HostId, VolumeId)> = now.iter().map(|row| (row.host, row.volume)).collect();
    for row in before.iter().filter(|row| !present.contains(&(row.host, row.volume))) {
        sqlx::query("DELETE FROM counters WHERE host_id = ? AND volume_id = ?")
            .bind(row.host.to_string())
            .bind(row.volume.to_string())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// As [`save_rows`], for digest errors.
pub(crate) async fn save_digests(conn: &mut Conn, before: &[DigestRow], now: &[DigestRow]) -> Result<()> {
    for row in now.iter().filter(|row| !before.contains(row)) {
        sqlx::query(
            "INSERT INTO digests (host_id, header, data) VALUES (?, ?, ?) \
             ON CONFLICT (host_id) DO UPDATE SET header = excluded.header, data = excluded.data",
        )
        .bind(row.host.to_string())
        .bind(storable(row.header)?)
        .bind(storable(row.data)?)
        .execute(&mut *conn)
        .await?;
    }
    for row in before.iter().filter(|row| !now.iter().any(|other| other.host == row.host)) {
        sqlx::query("DELETE FROM digests WHERE host_id = ?")
            .bind(row.host.to_string())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

fn to_json<T: Serialize>(totals: &T) -> Result<String> {
    serde_json::to_string(totals).map_err(|error| Error::Stored(error.to_string()))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Stored(error.to_string()))
}
