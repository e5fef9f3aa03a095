//! Subsystems: what is exported, under one NQN and one IQN.

use std::collections::HashMap;

use holdfast_contract::SubsystemId;
use serde::Serialize;
use utoipa::ToSchema;

use super::namespaces::Namespace;
use super::page::{Page, PageQuery};
use super::{App, fresh_subsystem_id};
use crate::db::subsystems::SubsystemRow;
use crate::db::{Conn, namespaces, subsystems};
use crate::error::{Error, Result};
use crate::names::{Iqn, Nqn, SubsystemName};

/// A subsystem to make.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSubsystem {
    /// Its name.
    pub name: SubsystemName,
    /// Default `nqn.2026-11.io.holdfast:NAME`.
    #[schema(nullable = false)]
    pub nqn: Option<Nqn>,
    /// Default `iqn.2026-11.io.holdfast:NAME`.
    #[schema(nullable = false)]
    pub iqn: Option<Iqn>,
    /// Whether hosts without a grant may connect, with the plain view.
    #[schema(required = false, default = false)]
    pub allow_any_host: bool,
}

/// What may change of a subsystem. The other fields may be sent along as they are.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubsystemPatch {
    /// Whether hosts without a grant may connect. Null returns to the default, false. Taking it away ends the sessions
    /// that lost access.
    pub allow_any_host: Option<bool>,
}

/// A subsystem.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Subsystem {
    /// Its name.
    #[schema(value_type = SubsystemName)]
    pub name: String,
    /// NVMe qualified name.
    #[schema(value_type = Nqn)]
    pub nqn: String,
    /// iSCSI name.
    #[schema(value_type = Iqn)]
    pub iqn: String,
    /// Whether hosts without a grant may connect.
    pub allow_any_host: bool,
    /// What is mapped, by number.
    pub namespaces: Vec<Namespace>,
}

impl App {
    /// Makes a subsystem.
    pub async fn create_subsystem(&self, new: NewSubsystem) -> Result<Subsystem> {
        let mut change = self.change().await?;
        let name = new.name.as_str();
        let nqn = new.nqn.unwrap_or_else(|| new.name.default_nqn());
        let iqn = new.iqn.unwrap_or_else(|| new.name.default_iqn());
        let conn = change.db();
        if subsystems::by_name(conn, name).await?.is_some() {
            return Err(Error::conflict("/name", format!("there is a subsystem {name} already")));
        }
        if let Some(other) = subsystems::name_by_nqn(conn, nqn.as_str()).await? {
            return Err(Error::conflict("/nqn", format!("subsystem {other} has the NQN {nqn}")));
        }
        if let Some(other) = subsystems::name_by_iqn(conn, iqn.as_str()).await? {
            return Err(Error::conflict("/iqn", format!("subsystem {other} has the IQN {iqn}")));
        }
        let row = SubsystemRow {
            id: fresh_subsystem_id()?,
            name: name.to_owned(),
            nqn: nqn.to_string(),
            iqn: iqn.to_string(),
            allow_any_host: new.allow_any_host,
        };
        subsystems::insert(conn, &row).await?;
        change.commit().await?;
        self.subsystem(name).await
    }

    /// Subsystems by name.
    pub async fn subsystems(&self, query: &PageQuery) -> Result<Page<Subsystem>> {
        let mut tx = self.db.read().await?;
        let mut rows = subsystems::page(&mut tx, query.after(), query.fetch()).await?;
        let next = query.cut(&mut rows, |row| row.name.clone());
        let mut mapped: HashMap<SubsystemId, Vec<Namespace>> = HashMap::new();
        for row in namespaces::all(&mut tx).await? {
            mapped.entry(row.subsystem_id).or_default().push(Namespace::from(row));
        }
        let render = |row: SubsystemRow| {
            let namespaces = mapped.remove(&row.id).unwrap_or_default();
            render(row, namespaces)
        };
        Ok(Page { items: rows.into_iter().map(render).collect(), next })
    }

    /// One subsystem.
    pub async fn subsystem(&self, name: &str) -> Result<Subsystem> {
        let mut tx = self.db.read().await?;
        let row = find(&mut tx, name).await?;
        let mapped = namespaces::page(&mut tx, row.id, 0, i64::from(super::namespaces::NSID_MAX)).await?;
        Ok(render(row, mapped.into_iter().map(Namespace::from).collect()))
    }

    /// Opens or closes a subsystem to hosts without a grant.
    pub async fn patch_subsystem(&self, name: &str, patch: SubsystemPatch) -> Result<Subsystem> {
        let mut change = self.change().await?;
        let row = find(change.db(), name).await?;
        if let Some(allow) = patch.allow_any_host {
            subsystems::set_allow_any_host(change.db(), row.id, allow).await?;
            change.commit().await?;
        }
        self.subsystem(name).await
    }

    /// Removes a subsystem without namespaces. Its grants go with it.
    pub async fn delete_subsystem(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        let row = find(change.db(), name).await?;
        let mapped = namespaces::page(change.db(), row.id, 0, 1).await?;
        if let Some(namespace) = mapped.first() {
            let detail =
                format!("the subsystem {name} maps the volume {} and perhaps more", namespace.volume);
            return Err(Error::conflict("", detail));
        }
        subsystems::delete(change.db(), row.id).await?;
        change.commit().await
    }
}

/// The row of a subsystem that the path names.
pub(super) async fn find(conn: &mut Conn, name: &str) -> Result<SubsystemRow> {
    subsystems::by_name(conn, name).await?.ok_or_else(|| Error::missing("subsystem", name))
}

fn render(row: SubsystemRow, namespaces: Vec<Namespace>) -> Subsystem {
    Subsystem { name: row.name, nqn: row.nqn, iqn: row.iqn, allow_any_host: row.allow_any_host, namespaces }
}
