//! Grants: which host may use which subsystem, and how its volumes look there.

use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::events::{Event, EventKind};
use super::page::{Page, PageQuery};
pub use super::words::{Enforce, View};
use crate::db::grants::GrantRow;
use crate::db::{Conn, grants, hosts, stored};
use crate::error::{Error, Result};
use crate::names::Name;

/// A grant to set.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// A change takes effect once the host has no session left with the subsystem.
    #[schema(required = false, default = "auto")]
    pub view: View,
    /// A change takes effect at once. `require-pi` does not go with the view `plain`.
    #[schema(required = false, default = "any")]
    pub enforce: Enforce,
}

/// A grant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Grant {
    /// Name of the host.
    #[schema(value_type = Name)]
    pub host: String,
    /// How the volumes look to it.
    pub view: View,
    /// What is demanded of its commands.
    pub enforce: Enforce,
}

impl Grant {
    fn from_row(row: GrantRow) -> Result<Self> {
        Ok(Self { host: row.host, view: stored(&row.view)?, enforce: stored(&row.enforce)? })
    }
}

impl App {
    /// Sets a grant; `true` with it if it is new.
    pub async fn put_grant(&self, subsystem: &str, host: &str, new: NewGrant) -> Result<(Grant, bool)> {
        if new.view == View::Plain && new.enforce == Enforce::RequirePi {
            return Err(Error::value("/enforce", "require-pi needs tuples on the wire: view auto or pi"));
        }
        let mut change = self.change().await?;
        let (subsystem, host) = find(change.db(), subsystem, host).await?;
        let is_new = grants::get(change.db(), subsystem.id, host.id).await?.is_none();
        grants::put(change.db(), subsystem.id, host.id, new.view.as_str(), new.enforce.as_str()).await?;
        change.announce(Event::object(EventKind::Host, &host.name, "granted"));
        change.commit().await?;
        Ok((Grant { host: host.name, view: new.view, enforce: new.enforce }, is_new))
    }

    /// One grant.
    pub async fn grant(&self, subsystem: &str, host: &str) -> Result<Grant> {
        let mut tx = self.db.read().await?;
        let (subsystem, host) = find(&mut tx, subsystem, host).await?;
        let row = grants::get(&mut tx, subsystem.id, host.id).await?;
        Grant::from_row(row.ok_or_else(|| no_grant(&subsystem.name, &host.name))?)
    }

    /// The grants of a subsystem, by host name.
    pub async fn grants(&self, subsystem: &str, query: &PageQuery) -> Result<Page<Grant>> {
        let mut tx = self.db.read().await?;
        let subsystem = super::subsystems::find(&mut tx, subsystem).await?;
        let mut rows = grants::page(&mut tx, subsystem.id, query.after(), query.fetch()).await?;
        let next = query.cut(&mut rows, |row| row.host.clone());
        Ok(Page { items: rows.into_iter().map(Grant::from_row).collect::<Result<_>>()?, next })
    }

    /// Takes a grant away. Sessions that lose access by it end.
    pub async fn delete_grant(&self, subsystem: &str, host: &str) -> Result<()> {
        let mut change = self.change().await?;
        let (subsystem, host) = find(change.db(), subsystem, host).await?;
        if grants::get(change.db(), subsystem.id, host.id).await?.is_none() {
            return Err(no_grant(&subsystem.name, &host.name));
        }
        grants::delete(change.db(), subsystem.id, host.id).await?;
        change.announce(Event::object(EventKind::Host, &host.name, "revoked"));
        change.commit().await
    }
}

async fn find(
    conn: &mut Conn,
    subsystem: &str,
    host: &str,
) -> Result<(crate::db::subsystems::SubsystemRow, hosts::HostRow)> {
    let subsystem = super::subsystems::find(conn, subsystem).await?;
    let host = hosts::by_name(conn, host).await?.ok_or_else(|| Error::missing("host", host))?;
    Ok((subsystem, host))
}

fn no_grant(subsystem: &str, host: &str) -> Error {
    Error::missing("grant", format!("of {subsystem} to {host}"))
}
