//! Pools go: deleted, or exported for another appliance.

use std::time::Duration;

use holdfast_contract::{Backing, DesiredPool, PoolId};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::{PoolBacking, render_backing};
use crate::app::App;
use crate::app::events::{Event, EventKind};
use crate::db::pools::PoolRow;
use crate::db::{pools, volumes};
use crate::error::{Error, Result};
use crate::names::Name;

/// How long an answer waits for the target to let go of a pool. It goes on by itself after that.
const LEAVE_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A pool that was let go.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Exported {
    /// What it was called.
    #[schema(value_type = Name)]
    pub name: String,
    /// Its identifier.
    #[schema(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    pub uuid: String,
    /// Where it lies, untouched from now on.
    pub backing: PoolBacking,
    /// Names of the volumes that went with it.
    #[schema(value_type = Vec<Name>)]
    pub volumes: Vec<String>,
    /// The target has written everything and closed it. False if that takes longer than a minute: until it is done, nobody else
    /// can open it.
    pub closed: bool,
}

impl App {
    /// Removes a pool without volumes. What lay in a file or on a device is no pool any more, and a file that was made for the pool
    /// is removed.
    pub async fn delete_pool(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        let row = pools::by_name(change.db(), name).await?.ok_or_else(|| Error::missing("pool", name))?;
        if row.promised_bytes > 0 {
            return Err(Error::conflict("", format!("the pool {name} has volumes")));
        }
        pools::delete(change.db(), row.id).await?;
        let lasts = row.backing.path().is_some();
        if lasts {
            pools::note_to_destroy(change.db(), &desired(&row), false).await?;
        }
        change.announce(Event::object(EventKind::Pool, name, "deleted"));
        change.commit().await?;
        if lasts {
            self.gone(row.id).await;
        }
        Ok(())
    }

    /// Lets a pool go without destroying it: it can be imported, with its volumes, here or elsewhere.
    pub async fn export_pool(&self, name: &str) -> Result<Exported> {
        let mut change = self.change().await?;
        let row = pools::by_name(change.db(), name).await?.ok_or_else(|| Error::missing("pool", name))?;
        let (Backing::File { .. } | Backing::Block { .. }, Some(uuid)) = (&row.backing, row.uuid.clone())
        else {
            return Err(Error::value("", format!("{name} is a memory pool, which lives here alone")));
        };
        let held = volumes::of_pool(change.db(), row.id).await?;
        if let Some((volume, Some(subsystems))) = held.iter().find(|(_, mapped)| mapped.is_some()) {
            let detail = format!("the volume {volume} of the pool {name} is mapped in {subsystems}");
            return Err(Error::conflict("", detail));
        }
        volumes::delete_of_pool(change.db(), row.id).await?;
        pools::delete(change.db(), row.id).await?;
        for (volume, _) in &held {
            change.announce(Event::object(EventKind::Volume, volume, "exported"));
        }
        change.announce(Event::object(EventKind::Pool, name, "exported"));
        change.commit().await?;
        Ok(Exported {
            name: row.name,
            uuid,
            backing: render_backing(row.backing),
            volumes: held.into_iter().map(|(volume, _)| volume).collect(),
            closed: self.gone(row.id).await,
        })
    }

    /// Waits until the target has let go of a pool; `false` if it has not in time.
    async fn gone(&self, id: PoolId) -> bool {
        let until = Instant::now() + LEAVE_PATIENCE;
        loop {
            let observed = self.target.observe().await;
            if observed.is_ok_and(|state| state.pools.iter().all(|pool| pool.id != id)) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn desired(row: &PoolRow) -> DesiredPool {
    DesiredPool { id: row.id, name: row.name.clone(), uuid: row.uuid.clone(), backing: row.backing.clone() }
}
