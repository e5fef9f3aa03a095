//! Pools in files and on devices come into use: made, or found and imported.
//!
//! The target makes or finds the pool first, which may take long and holds nobody up, and tells what it has: identifiers, room,
//! volumes. The change that names all that comes after. So that nothing half-done stays behind, whatever ends on the way, an
//! order to make a pool is noted before it is given: what is left of it without the change is destroyed.

use std::time::Duration;

use holdfast_contract::{Backing, DesiredPool, FoundPool, FoundVolume, PoolId, PoolOrder, Request, Response};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{NewBacking, NewPool, Pool, refuse_taken_name};
use crate::app::events::{Event, EventKind};
use crate::app::{App, CHANGE_PATIENCE, Change, fresh_pool_id, refusal};
use crate::db::pools::NewRow;
use crate::db::volumes::VolumeRow;
use crate::db::{Conn, pools, volumes};
use crate::error::{Error, Fault, Result};
use crate::names::Name;
use crate::target::CallError;

/// Pause between two questions whether a pool is there: a new one takes some milliseconds.
const ASK_EVERY: Duration = Duration::from_millis(25);
/// Longest preparation: a full journal over a large map on a slow disk takes minutes.
const PREPARE_LIMIT: Duration = Duration::from_secs(3600);

impl App {
    /// Makes or imports a pool that lasts.
    pub(super) async fn order_pool(&self, new: NewPool) -> Result<Pool> {
        let order = PoolOrder {
            ticket: fresh_pool_id()?,
            name: new.name.as_str().to_owned(),
            uuid: Uuid::new_v4().to_string(),
            backing: wanted(&new.backing),
        };
        self.note_order(&order).await?;
        let taken_up = match self.prepare(&order).await {
            Ok(found) => self.take_up(&new, &order, found).await,
            Err(error) => Err(error),
        };
        if let Err(error) = taken_up {
            if let Err(later) = self.give_up(&order, &error).await {
                tracing::error!(pool = order.name, %later, "what is left of the pool is destroyed at the next start");
            }
            return Err(error);
        }
        self.pool(new.name.as_str()).await
    }

    /// Refuses what can be refused before anything is touched, and notes what will be touched.
    async fn note_order(&self, order: &PoolOrder) -> Result<()> {
        let mut change = self.change().await?;
        refuse_taken_name(change.db(), &order.name).await?;
        refuse_clash(change.db(), None, None, order.backing.path()).await?;
        if !order.backing.is_import() {
            pools::note_to_destroy(change.db(), &ordered(order), true).await?;
        }
        change.commit().await
    }

    /// Has the target make or find the pool.
    async fn prepare(&self, order: &PoolOrder) -> Result<FoundPool> {
        let limit = Instant::now() + PREPARE_LIMIT;
        while Instant::now() < limit {
            let patience = Instant::now() + CHANGE_PATIENCE;
            self.target.up(patience).await.map_err(Error::TargetAway)?;
            match self.target.call(Request::Prepare(Box::new(order.clone()))).await {
                Ok(Response::Prepared(found)) => return Ok(*found),
                Ok(Response::Preparing(_)) => sleep(ASK_EVERY).await,
                Ok(Response::Refused(faults)) => return Err(refusal(faults)),
                Ok(Response::Error { detail }) => return Err(Error::Target(detail)),
                Ok(_) => return Err(Error::Target("not an answer to Prepare".to_owned())),
                // A target that was started again begins anew.
                Err(CallError::Lost(_)) => sleep(ASK_EVERY).await,
            }
        }
        Err(Error::TargetAway("the pool was not ready within an hour".to_owned()))
    }

    /// Takes the pool on, with everything that is in it.
    async fn take_up(&self, new: &NewPool, order: &PoolOrder, found: FoundPool) -> Result<()> {
        let mut change = self.change().await?;
        let name = new.name.as_str();
        refuse_taken_name(change.db(), name).await?;
        refuse_clash(change.db(), Some(found.id), Some(&found.uuid), order.backing.path()).await?;
        let backing = match &order.backing {
            Backing::File { path, import, .. } => {
                Backing::File { path: path.clone(), size_bytes: found.size_bytes, import: *import }
            }
            other => other.clone(),
        };
        let row = NewRow {
            id: found.id,
            name,
            uuid: Some(&found.uuid),
            backing: &backing,
            size_bytes: found.size_bytes,
            capacity_bytes: found.capacity_bytes,
            overcommit: new.overcommit,
        };
        pools::insert(change.db(), &row).await?;
        check_promises(&found, new.overcommit)?;
        for volume in &found.volumes {
            take_volume(&mut change, &found, volume, name).await?;
        }
        pools::forget_to_destroy(change.db(), order.ticket).await?;
        let what = if order.backing.is_import() { "imported" } else { "created" };
        change.announce(Event::object(EventKind::Pool, name, what));
        change.commit().await
    }

    /// Has the target forget the order and what it has made of it. Where it is not known how far the target came, what is left is
    /// destroyed as soon as it is reached.
    async fn give_up(&self, order: &PoolOrder, error: &Error) -> Result<()> {
        let abandoned = self.target.call(Request::Abandon { ticket: order.ticket }).await;
        if order.backing.is_import() {
            return Ok(());
        }
        let undone = matches!(abandoned, Ok(Response::Abandoned))
            && matches!(error, Error::Conflict(_) | Error::NoRoom(_) | Error::Refused(_) | Error::Value(_));
        let mut change = self.change().await?;
        if undone {
            pools::forget_to_destroy(change.db(), order.ticket).await?;
        } else {
            pools::note_to_destroy(change.db(), &ordered(order), false).await?;
        }
        change.commit().await
    }
}

/// What is asked of the target.
fn wanted(backing: &NewBacking) -> Backing {
    match backing.clone() {
        NewBacking::Memory { size_bytes } => Backing::Memory { size_bytes },
        NewBacking::File { path, size_bytes, import } => {
            Backing::File { path, size_bytes: size_bytes.unwrap_or(0), import }
        }
        NewBacking::Block { path, import } => Backing::Block { path, import },
    }
}

/// What an order makes.
fn ordered(order: &PoolOrder) -> DesiredPool {
    DesiredPool {
        id: order.ticket,
        name: order.name.clone(),
        uuid: Some(order.uuid.clone()),
        backing: order.backing.clone(),
    }
}

async fn refuse_clash(
    conn: &mut Conn,
    id: Option<PoolId>,
    uuid: Option<&str>,
    path: Option<&str>,
) -> Result<()> {
    let Some(name) = pools::clash(conn, id, uuid, path).await? else { return Ok(()) };
    let detail = match id {
        None => format!("pool {name} is there"),
        Some(id) => format!("pool {name} is the same pool (identifier {id}), or is at the same place"),
    };
    Err(Error::conflict("/backing/path", detail))
}

/// An imported pool keeps the rule for promises as any other.
#[expect(clippy::cast_precision_loss, reason = "compared, never turned back into an integer")]
fn check_promises(found: &FoundPool, overcommit: f64) -> Result<()> {
    let promised = found.volumes.iter().fold(0_u64, |sum, volume| sum.saturating_add(volume.size_bytes));
    if promised as f64 <= found.capacity_bytes as f64 * overcommit {
        return Ok(());
    }
    let needed = (promised as f64 / found.capacity_bytes.max(1) as f64 * 100.0).ceil() / 100.0;
    let detail = format!(
        "its volumes promise {promised} bytes and it has {} bytes: import it with an overcommit of {needed} or more",
        found.capacity_bytes
    );
    Err(Error::NoRoom(Fault::new("/overcommit", detail)))
}

async fn take_volume(
    change: &mut Change<'_>,
    pool: &FoundPool,
    volume: &FoundVolume,
    pool_name: &str,
) -> Result<()> {
    if Name::parse(&volume.name).is_err() {
        let detail = format!("a volume in it is called {:?}, which is no name here", volume.name);
        return Err(Error::value("/backing/path", detail));
    }
    if volumes::by_name(change.db(), &volume.name).await?.is_some() {
        let detail = format!("it holds a volume {}, and there is one of that name already", volume.name);
        return Err(Error::conflict("/backing/path", detail));
    }
    if let Some(other) = volumes::clash(change.db(), volume.id, &volume.uuid, &volume.nguid).await? {
        let detail = format!("its volume {} has an identifier of the volume {other}", volume.name);
        return Err(Error::conflict("/backing/path", detail));
    }
    let row = VolumeRow {
        id: volume.id,
        name: volume.name.clone(),
        pool_id: pool.id,
        pool: pool_name.to_owned(),
        size_bytes: volume.size_bytes,
        block_size: volume.block_size,
        pi: volume.pi,
        uuid: volume.uuid.clone(),
        nguid: volume.nguid.clone(),
        provisioned: true,
        allocated_bytes: volume.allocated_bytes,
    };
    volumes::insert(change.db(), &row).await?;
    change.announce(Event::object(EventKind::Volume, &volume.name, "imported"));
    Ok(())
}
