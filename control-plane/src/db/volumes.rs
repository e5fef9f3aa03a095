//! Volumes.

use holdfast_contract::{GuardSetting, ObservedVolume, PiSettings, PoolId, VolumeId};
use sqlx::{FromRow, Row, sqlite::SqliteRow};

use super::{Conn, storable, stored, stored_u64};
use crate::error::{Error, Result};

/// A volume as kept.
#[derive(Debug, Clone)]
pub(crate) struct VolumeRow {
    pub(crate) id: VolumeId,
    pub(crate) name: String,
    pub(crate) pool_id: PoolId,
    pub(crate) pool: String,
    pub(crate) size_bytes: u64,
    pub(crate) block_size: u32,
    pub(crate) pi: Option<PiSettings>,
    pub(crate) uuid: String,
    pub(crate) nguid: String,
    /// The target has reported it at least once.
    pub(crate) provisioned: bool,
    /// By the target's latest word.
    pub(crate) allocated_bytes: u64,
}

impl FromRow<'_, SqliteRow> for VolumeRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let read = || -> Result<Self> {
            let pi_type: i64 = row.try_get("pi_type")?;
            let guard: Option<String> = row.try_get("pi_guard")?;
            let bits: i64 = row.try_get("storage_tag_bits")?;
            Ok(Self {
                id: stored(row.try_get("id")?)?,
                name: row.try_get("name")?,
                pool_id: stored(row.try_get("pool_id")?)?,
                pool: row.try_get("pool")?,
                size_bytes: stored_u64(row.try_get("size_bytes")?)?,
                block_size: small(row.try_get("block_size")?)?,
                pi: match guard {
                    None => None,
                    Some(word) => Some(PiSettings {
                        pi_type: small(pi_type)?,
                        guard: guard_of(&word)?,
                        storage_tag_bits: small(bits)?,
                    }),
                },
                uuid: row.try_get("uuid")?,
                nguid: row.try_get("nguid")?,
                provisioned: row.try_get("provisioned")?,
                allocated_bytes: stored_u64(row.try_get("allocated_bytes")?)?,
            })
        };
        read().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

const SELECT: &str = "SELECT v.*, p.name AS pool FROM volumes v JOIN pools p ON p.id = v.pool_id";

/// All volumes by name.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<VolumeRow>> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} ORDER BY v.name"))).fetch_all(conn).await?)
}

/// Up to `limit` volumes whose names follow `after`.
pub(crate) async fn page(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<VolumeRow>> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} WHERE v.name > ? ORDER BY v.name LIMIT ?")))
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?)
}

/// One volume by name.
pub(crate) async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<VolumeRow>> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} WHERE v.name = ?")))
        .bind(name)
        .fetch_optional(conn)
        .await?)
}

/// The name of a volume that has this identifier or one of these published ones.
pub(crate) async fn clash(conn: &mut Conn, id: VolumeId, uuid: &str, nguid: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("SELECT name FROM volumes WHERE id = ?1 OR uuid = ?2 OR nguid = ?3 LIMIT 1")
        .bind(id.to_string())
        .bind(uuid)
        .bind(nguid)
        .fetch_optional(conn)
        .await?)
}

/// Names of a pool's volumes, each with the subsystems that map it.
pub(crate) async fn of_pool(conn: &mut Conn, pool: PoolId) -> Result<Vec<(String, Option<String>)>> {
    Ok(sqlx::query_as(
        "SELECT v.name, (SELECT group_concat(s.name, ', ') FROM namespaces n JOIN subsystems s ON s.id = n.subsystem_id \
         WHERE n.volume_id = v.id) FROM volumes v WHERE v.pool_id = ? ORDER BY v.name",
    )
    .bind(pool.to_string())
    .fetch_all(conn)
    .await?)
}

/// Removes all volumes of a pool.
pub(crate) async fn delete_of_pool(conn: &mut Conn, pool: PoolId) -> Result<()> {
    sqlx::query("DELETE FROM volumes WHERE pool_id = ?").bind(pool.to_string()).execute(conn).await?;
    Ok(())
}

/// Adds a volume; `pool` of the row is not looked at.
pub(crate) async fn insert(conn: &mut Conn, volume: &VolumeRow) -> Result<()> {
    sqlx::query(
        "INSERT INTO volumes (id, name, pool_id, size_bytes, block_size, pi_type, pi_guard, storage_tag_bits, uuid, nguid, \
         provisioned, allocated_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(volume.id.to_string())
    .bind(&volume.name)
    .bind(volume.pool_id.to_string())
    .bind(storable(volume.size_bytes)?)
    .bind(volume.block_size)
    .bind(volume.pi.map_or(0, |pi| pi.pi_type))
    .bind(volume.pi.map(|pi| guard_word(pi.guard)))
    .bind(volume.pi.map_or(0, |pi| pi.storage_tag_bits))
    .bind(&volume.uuid)
    .bind(&volume.nguid)
    .bind(volume.provisioned)
    .bind(storable(volume.allocated_bytes)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives a volume a new size.
pub(crate) async fn set_size(conn: &mut Conn, id: VolumeId, size_bytes: u64) -> Result<()> {
    sqlx::query("UPDATE volumes SET size_bytes = ? WHERE id = ?")
        .bind(storable(size_bytes)?)
        .bind(id.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes over the target's word on a volume that exists.
pub(crate) async fn set_provisioned(conn: &mut Conn, observed: &ObservedVolume) -> Result<()> {
    sqlx::query(
        "UPDATE volumes SET provisioned = 1, uuid = ?, nguid = ?, size_bytes = max(size_bytes, ?) WHERE id = ?",
    )
        .bind(&observed.uuid)
        .bind(&observed.nguid)
        .bind(storable(observed.size_bytes)?)
        .bind(observed.id.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps what the target says of its use.
pub(crate) async fn set_allocated(conn: &mut Conn, id: VolumeId, allocated_bytes: u64) -> Result<()> {
    sqlx::query("UPDATE volumes SET allocated_bytes = ? WHERE id = ?")
        .bind(storable(allocated_bytes)?)
        .bind(id.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a volume.
pub(crate) async fn delete(conn: &mut Conn, id: VolumeId) -> Result<()> {
    sqlx::query("DELETE FROM volumes WHERE id = ?").bind(id.to_string()).execute(conn).await?;
    Ok(())
}

/// Names of the subsystems that map a volume.
pub(crate) async fn mapped_in(conn: &mut Conn, id: VolumeId) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "SELECT s.name FROM namespaces n JOIN subsystems s ON s.id = n.subsystem_id WHERE n.volume_id = ? ORDER BY s.name",
    )
    .bind(id.to_string())
    .fetch_all(conn)
    .await?)
}

/// The API's word for a guard.
pub(crate) fn guard_word(guard: GuardSetting) -> &'static str {
    match guard {
        GuardSetting::Crc16 => "crc16",
        GuardSetting::Crc32c => "crc32c",
        GuardSetting::Crc64 => "crc64",
    }
}

fn guard_of(word: &str) -> Result<GuardSetting> {
    match word {
        "crc16" => Ok(GuardSetting::Crc16),
        "crc32c" => Ok(GuardSetting::Crc32c),
        "crc64" => Ok(GuardSetting::Crc64),
        other => Err(Error::Stored(format!("unknown guard {other:?}"))),
    }
}

fn small<T: TryFrom<i64>>(value: i64) -> Result<T> {
    T::try_from(value).map_err(|_| Error::Stored(format!("number {value} out of range")))
}
