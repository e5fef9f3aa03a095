//! Namespaces: volumes mapped into subsystems. Namespace `nsid` is iSCSI LUN `nsid - 1`.

use std::collections::HashSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::events::{Event, EventKind};
use super::page::{Page, PageQuery, bad_token};
use super::subsystems::find;
use crate::db::namespaces::NamespaceRow;
use crate::db::{namespaces, volumes};
use crate::error::{Error, Result};
use crate::names::Name;

/// Highest namespace, and how many a subsystem can have.
pub const NSID_MAX: u32 = 1024;

/// A mapping to make.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNamespace {
    /// Name of the volume. It may be mapped in several subsystems, once in each.
    #[schema(value_type = Name)]
    pub volume: String,
    /// 1 to 1024; default the lowest free.
    #[schema(nullable = false, minimum = 1, maximum = 1024)]
    pub nsid: Option<u32>,
}

/// A mapped volume.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Namespace {
    /// NVMe namespace; the iSCSI LUN is one less.
    #[schema(minimum = 1, maximum = 1024)]
    pub nsid: u32,
    /// Name of the volume.
    #[schema(value_type = Name)]
    pub volume: String,
}

impl From<NamespaceRow> for Namespace {
    fn from(row: NamespaceRow) -> Self {
        Self { nsid: row.nsid, volume: row.volume }
    }
}

impl App {
    /// Maps a volume; connected hosts hear of it.
    pub async fn create_namespace(&self, subsystem: &str, new: NewNamespace) -> Result<Namespace> {
        if new.nsid.is_some_and(|nsid| !(1..=NSID_MAX).contains(&nsid)) {
            return Err(Error::value("/nsid", format!("must be 1 to {NSID_MAX}")));
        }
        let mut change = self.change().await?;
        let subsystem_row = find(change.db(), subsystem).await?;
        let volume = volumes::by_name(change.db(), &new.volume)
            .await?
            .ok_or_else(|| Error::value("/volume", format!("there is no volume {}", new.volume)))?;
        let mapped = namespaces::page(change.db(), subsystem_row.id, 0, i64::from(NSID_MAX)).await?;
        if let Some(other) = mapped.iter().find(|row| row.volume_id == volume.id) {
            let detail = format!("{subsystem} maps {} already, as namespace {}", volume.name, other.nsid);
            return Err(Error::conflict("/volume", detail));
        }
        let taken: HashSet<u32> = mapped.iter().map(|row| row.nsid).collect();
        let nsid = match new.nsid {
            Some(nsid) if taken.contains(&nsid) => {
                return Err(Error::conflict("/nsid", format!("{subsystem} has a namespace {nsid} already")));
            }
            Some(nsid) => nsid,
            None => (1..=NSID_MAX)
                .find(|nsid| !taken.contains(nsid))
                .ok_or_else(|| Error::conflict("/nsid", format!("{subsystem} has {NSID_MAX} namespaces")))?,
        };
        namespaces::insert(change.db(), subsystem_row.id, nsid, volume.id).await?;
        change.announce(Event::object(EventKind::Volume, &volume.name, "mapped"));
        change.commit().await?;
        Ok(Namespace { nsid, volume: volume.name })
    }

    /// What a subsystem maps, by number.
    pub async fn namespaces(&self, subsystem: &str, query: &PageQuery) -> Result<Page<Namespace>> {
        let mut tx = self.db.read().await?;
        let subsystem = find(&mut tx, subsystem).await?;
        let after = match query.after() {
            "" => 0,
            text => text.parse().map_err(|_| bad_token())?,
        };
        let mut rows = namespaces::page(&mut tx, subsystem.id, after, query.fetch()).await?;
        let next = query.cut(&mut rows, |row| row.nsid.to_string());
        Ok(Page { items: rows.into_iter().map(Namespace::from).collect(), next })
    }

    /// Takes a mapping away, under I/O or not.
    pub async fn delete_namespace(&self, subsystem: &str, nsid: u32) -> Result<()> {
        let mut change = self.change().await?;
        let row = find(change.db(), subsystem).await?;
        let mapped = namespaces::page(change.db(), row.id, nsid.saturating_sub(1), 1).await?;
        let namespace = mapped
            .into_iter()
            .find(|namespace| namespace.nsid == nsid)
            .ok_or_else(|| Error::missing("namespace", format!("{nsid} in {subsystem}")))?;
        namespaces::delete(change.db(), row.id, nsid).await?;
        change.announce(Event::object(EventKind::Volume, &namespace.volume, "unmapped"));
        change.commit().await
    }
}
