//! Volumes: thin, with or without protection information.

use holdfast_contract::{GuardSetting, PiSettings};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::events::{Event, EventKind};
use super::page::{Page, PageQuery};
use super::words::Guard;
use super::{App, INTEGER_MAX, fresh_volume_id};
use crate::db::pools::PoolRow;
use crate::db::volumes::VolumeRow;
use crate::db::{Conn, meta, pools, stored, volumes};
use crate::error::{Error, Result};
use crate::names::Name;

/// Block size of a volume that is given none.
pub const BLOCK_SIZE_DEFAULT: u32 = 4096;

/// A volume to make.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVolume {
    /// Its name.
    pub name: Name,
    /// Name of the pool it lives in.
    #[schema(value_type = Name)]
    pub pool: String,
    /// A multiple of `block_size`, at least one block.
    #[schema(minimum = 512, maximum = 9007199254740991_u64)]
    pub size_bytes: u64,
    /// 512 or 4096.
    #[schema(required = false, default = 4096, minimum = 512, maximum = 4096)]
    pub block_size: u32,
    /// Protection information; type 1 with the `crc16` guard if left out.
    #[schema(required = false)]
    pub pi: NewPi,
}

/// The protection information wanted of a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPi {
    /// 1, 2 or 3; 0 for none. Default 1.
    #[serde(rename = "type")]
    #[schema(nullable = false, default = 1, minimum = 0, maximum = 3)]
    pub pi_type: Option<u8>,
    /// Default `crc16`. `crc32c` and `crc64` need 4096-byte blocks.
    #[schema(nullable = false, default = "crc16")]
    pub guard: Option<Guard>,
    /// crc16: 0; crc32c: 16 to 64, default 16; crc64: 0 to 48, default 0.
    #[schema(nullable = false, minimum = 0, maximum = 64)]
    pub storage_tag_bits: Option<u8>,
}

/// What may change of a volume. The other fields may be sent along as they are.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumePatch {
    /// Not less than now.
    #[schema(nullable = false, minimum = 512, maximum = 9007199254740991_u64)]
    pub size_bytes: Option<u64>,
}

/// A volume.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Volume {
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// Name of its pool.
    #[schema(value_type = Name)]
    pub pool: String,
    /// Size.
    pub size_bytes: u64,
    /// 512 or 4096.
    pub block_size: u32,
    /// Protection information.
    pub pi: Pi,
    /// Published identifier; a new one when the contents were lost with the pool's memory.
    #[schema(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    pub uuid: String,
    /// Published identifier, 32 hex digits, as `uuid`.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    pub nguid: String,
    /// Blocks in use.
    pub allocated_bytes: u64,
}

/// The protection information of a volume.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Pi {
    /// 0 for none, 1, 2 or 3.
    #[serde(rename = "type")]
    #[schema(minimum = 0, maximum = 3)]
    pub pi_type: u8,
    /// Null without protection information.
    pub guard: Option<Guard>,
    /// Width of the storage tag.
    #[schema(minimum = 0, maximum = 64)]
    pub storage_tag_bits: u8,
}

impl NewVolume {
    fn check(&self) -> Result<Option<PiSettings>> {
        if !matches!(self.block_size, 512 | 4096) {
            return Err(Error::value("/block_size", "must be 512 or 4096"));
        }
        check_size(self.size_bytes, self.block_size)?;
        self.pi.settings(self.block_size)
    }
}

impl NewPi {
    /// Fills in the defaults and checks what goes together.
    fn settings(self, block_size: u32) -> Result<Option<PiSettings>> {
        let pi_type = self.pi_type.unwrap_or(1);
        let guard = self.guard.unwrap_or(Guard::Crc16);
        if pi_type > 3 {
            return Err(Error::value("/pi/type", "must be 0, 1, 2 or 3"));
        }
        if pi_type == 0 && guard != Guard::Crc16 {
            return Err(Error::value("/pi/guard", "type 0 has no guard"));
        }
        if guard != Guard::Crc16 && block_size != 4096 {
            return Err(Error::value("/pi/guard", "32- and 64-bit guards need 4096-byte blocks"));
        }
        let (allowed, default) = match guard {
            Guard::Crc16 => (0..=0, 0),
            Guard::Crc32c => (16..=64, 16),
            Guard::Crc64 => (0..=48, 0),
        };
        let storage_tag_bits = self.storage_tag_bits.unwrap_or(default);
        if !allowed.contains(&storage_tag_bits) {
            let detail = format!("must be {} to {} with {}", allowed.start(), allowed.end(), guard.as_str());
            return Err(Error::value("/pi/storage_tag_bits", detail));
        }
        let guard = match guard {
            Guard::Crc16 => GuardSetting::Crc16,
            Guard::Crc32c => GuardSetting::Crc32c,
            Guard::Crc64 => GuardSetting::Crc64,
        };
        Ok((pi_type > 0).then_some(PiSettings { pi_type, guard, storage_tag_bits }))
    }
}

fn check_size(size_bytes: u64, block_size: u32) -> Result<()> {
    let block_size = u64::from(block_size);
    if !(block_size..=INTEGER_MAX).contains(&size_bytes) || !size_bytes.is_multiple_of(block_size) {
        let detail = format!("must be a multiple of {block_size} from {block_size} to {INTEGER_MAX}");
        return Err(Error::value("/size_bytes", detail));
    }
    Ok(())
}

/// The pool's promise: sizes together stay within capacity × overcommit. Both sides are below 2^63, where the
/// rounding of a double is far below one block in a million.
#[expect(clippy::cast_precision_loss, reason = "compared, never turned back into an integer")]
fn check_promise(pool: &PoolRow, more_bytes: u64) -> Result<()> {
    let promised = pool.promised_bytes.saturating_add(more_bytes);
    if promised as f64 <= pool.capacity_bytes as f64 * pool.overcommit {
        return Ok(());
    }
    let detail = format!(
        "no room: pool {} has {} bytes, overcommit {}, and {} bytes are promised",
        pool.name, pool.capacity_bytes, pool.overcommit, pool.promised_bytes
    );
    Err(Error::NoRoom(crate::error::Fault::new("/size_bytes", detail)))
}

impl App {
    /// Makes a volume; it can be mapped when this answers.
    pub async fn create_volume(&self, new: NewVolume) -> Result<Volume> {
        let pi = new.check()?;
        let mut change = self.change().await?;
        let name = new.name.as_str();
        if volumes::by_name(change.db(), name).await?.is_some() {
            return Err(Error::conflict("/name", format!("there is a volume {name} already")));
        }
        let pool = pools::by_name(change.db(), &new.pool)
            .await?
            .ok_or_else(|| Error::value("/pool", format!("there is no pool {}", new.pool)))?;
        check_promise(&pool, new.size_bytes)?;
        let row = VolumeRow {
            id: fresh_volume_id()?,
            name: name.to_owned(),
            pool_id: pool.id,
            pool: pool.name,
            size_bytes: new.size_bytes,
            block_size: new.block_size,
            pi,
            uuid: Uuid::new_v4().to_string(),
            nguid: Uuid::new_v4().simple().to_string(),
            provisioned: false,
            allocated_bytes: 0,
        };
        volumes::insert(change.db(), &row).await?;
        change.announce(Event::object(EventKind::Volume, name, "created"));
        change.commit().await?;
        self.volume(name).await
    }

    /// Volumes by name.
    pub async fn volumes(&self, query: &PageQuery) -> Result<Page<Volume>> {
        let mut tx = self.db.read().await?;
        let mut rows = volumes::page(&mut tx, query.after(), query.fetch()).await?;
        let next = query.cut(&mut rows, |row| row.name.clone());
        Ok(Page { items: rows.into_iter().map(|row| self.render_volume(row)).collect(), next })
    }

    /// One volume.
    pub async fn volume(&self, name: &str) -> Result<Volume> {
        let mut tx = self.db.read().await?;
        let row = volumes::by_name(&mut tx, name).await?.ok_or_else(|| Error::missing("volume", name))?;
        Ok(self.render_volume(row))
    }

    /// Grows a volume.
    pub async fn patch_volume(&self, name: &str, patch: VolumePatch) -> Result<Volume> {
        let mut change = self.change().await?;
        let row = volumes::by_name(change.db(), name).await?.ok_or_else(|| Error::missing("volume", name))?;
        let size_bytes = patch.size_bytes.unwrap_or(row.size_bytes);
        check_size(size_bytes, row.block_size)?;
        let Some(more_bytes) = size_bytes.checked_sub(row.size_bytes) else {
            return Err(Error::value(
                "/size_bytes",
                format!("a volume cannot shrink; it has {}", row.size_bytes),
            ));
        };
        if more_bytes > 0 {
            let pool = pools::by_name(change.db(), &row.pool)
                .await?
                .ok_or_else(|| Error::Stored(format!("volume {name} has no pool")))?;
            check_promise(&pool, more_bytes)?;
            volumes::set_size(change.db(), row.id, size_bytes).await?;
            change.announce(Event::object(EventKind::Volume, name, "updated"));
            change.commit().await?;
        }
        self.volume(name).await
    }

    /// Removes a volume that is mapped nowhere.
    pub async fn delete_volume(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        let row = volumes::by_name(change.db(), name).await?.ok_or_else(|| Error::missing("volume", name))?;
        let mapped_in = volumes::mapped_in(change.db(), row.id).await?;
        if !mapped_in.is_empty() {
            let detail = format!("the volume {name} is mapped in {}", mapped_in.join(", "));
            return Err(Error::conflict("", detail));
        }
        let id = row.id.to_string();
        meta::set(change.db(), meta::Key::LeavingVolume, &id).await?;
        let mut change = change.keep_first().await?;
        volumes::delete(change.db(), row.id).await?;
        meta::forget(change.db(), meta::Key::LeavingVolume, &id).await?;
        change.announce(Event::object(EventKind::Volume, name, "deleted"));
        let deleted = change.commit().await;
        if deleted.is_err() {
            // Another deletion may have begun since.
            let mut tx = self.db.write().await?;
            meta::forget(&mut tx, meta::Key::LeavingVolume, &id).await?;
            tx.commit().await?;
        }
        deleted
    }

    fn render_volume(&self, row: VolumeRow) -> Volume {
        let observed = self.telemetry.volume(row.id);
        let guard = row.pi.map(|pi| match pi.guard {
            GuardSetting::Crc16 => Guard::Crc16,
            GuardSetting::Crc32c => Guard::Crc32c,
            GuardSetting::Crc64 => Guard::Crc64,
        });
        Volume {
            name: row.name,
            pool: row.pool,
            size_bytes: row.size_bytes,
            block_size: row.block_size,
            pi: Pi {
                pi_type: row.pi.map_or(0, |pi| pi.pi_type),
                guard,
                storage_tag_bits: row.pi.map_or(0, |pi| pi.storage_tag_bits),
            },
            uuid: row.uuid,
            nguid: row.nguid,
            allocated_bytes: observed.map_or(row.allocated_bytes, |volume| volume.allocated_bytes),
        }
    }
}

/// Deletes the volume whose deletion a former run of this program was cut off in: the target may have deleted it already.
pub(super) async fn finish_deletion(conn: &mut Conn) -> Result<()> {
    if let Some(id) = meta::get(conn, meta::Key::LeavingVolume).await? {
        volumes::delete(conn, stored(&id)?).await?;
        meta::forget(conn, meta::Key::LeavingVolume, &id).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pi(pi_type: Option<u8>, guard: Option<Guard>, storage_tag_bits: Option<u8>) -> NewPi {
        NewPi { pi_type, guard, storage_tag_bits }
    }

    #[test]
    fn defaults_are_type_1_with_crc16() {
        let settings = NewPi::default().settings(512).unwrap().unwrap();
        assert_eq!(settings, PiSettings { pi_type: 1, guard: GuardSetting::Crc16, storage_tag_bits: 0 });
    }

    #[test]
    fn storage_tag_follows_the_guard() {
        let bits =
            |guard, bits| pi(None, Some(guard), bits).settings(4096).map(|s| s.unwrap().storage_tag_bits);
        assert_eq!(bits(Guard::Crc32c, None).unwrap(), 16);
        assert_eq!(bits(Guard::Crc64, None).unwrap(), 0);
        assert_eq!(bits(Guard::Crc32c, Some(64)).unwrap(), 64);
        assert_eq!(bits(Guard::Crc64, Some(48)).unwrap(), 48);
        for (guard, wrong) in
            [(Guard::Crc16, 1), (Guard::Crc32c, 15), (Guard::Crc32c, 65), (Guard::Crc64, 49)]
        {
            assert!(bits(guard, Some(wrong)).is_err(), "{guard:?} {wrong}");
        }
    }

    #[test]
    fn wide_guards_need_large_blocks() {
        assert!(pi(None, Some(Guard::Crc32c), None).settings(512).is_err());
        assert!(pi(None, Some(Guard::Crc64), None).settings(512).is_err());
    }

    #[test]
    fn type_0_is_none() {
        assert_eq!(pi(Some(0), None, None).settings(512).unwrap(), None);
        assert!(pi(Some(0), Some(Guard::Crc64), None).settings(4096).is_err());
        assert!(pi(Some(4), None, None).settings(4096).is_err());
    }
}
