//! What the management plane does, whoever asks: one file per resource, and here what they share.
//!
//! Every change goes the same way. One writer at a time opens a [`Change`], checks and writes within its
//! transaction, and commits: the whole desired state goes to the target first, and only what the target has applied
//! is kept. A crash between the two leaves the database as the truth; it is applied again, under a higher revision,
//! as soon as either side is back.

pub mod auth;
pub mod counters;
pub mod drills;
pub mod events;
pub mod grants;
pub mod hosts;
pub mod incidents;
pub mod metrics;
pub mod namespaces;
pub mod page;
pub mod pools;
pub mod reports;
pub mod subsystems;
pub mod telemetry;
pub mod tokens;
pub mod volumes;
pub(crate) mod witness;
pub mod words;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast_contract::{
    DesiredState, FaultCause, HostId, ObjectFault, ObjectKind, PoolId, Request, Response, SubsystemId,
    VolumeId,
};
use tokio::sync::{Mutex, MutexGuard, Notify, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::db::{Conn, Db, Tx, meta};
use crate::error::{Error, Fault, Result};
use crate::reconcile;
use crate::target::{CallError, TargetHandle};
use events::{Event, Events};
use telemetry::Telemetry;

/// How long a change waits for its turn and for a target that is being restarted.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// Event streams served at once. Each holds a connection and a place in the event buffer.
pub const EVENT_STREAMS_MAX: usize = 64;
/// Largest integer of the API: beyond it JavaScript's numbers have gaps.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Whether the target runs what is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sync {
    /// It does.
    InSync,
    /// It does not, or nobody knows.
    Waiting {
        /// Why, for people.
        reason: String,
    },
}

/// The application behind the API.
#[derive(Debug)]
pub struct App {
    pub(crate) db: Db,
    pub(crate) target: TargetHandle,
    pub(crate) events: Events,
    pub(crate) telemetry: Telemetry,
    pub(crate) streams: Arc<Semaphore>,
    /// Whether stored bits may be damaged on purpose.
    drills: bool,
    writer: Mutex<Writer>,
    sync: watch::Sender<Sync>,
    /// Calls the reconciler before its time.
    pub(crate) wake: Notify,
}

/// What the one who writes at the moment knows.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Highest revision that was sent or kept so far.
    revision: u64,
    /// What is kept, as the target should have it (revision zero).
    committed: DesiredState,
    /// Conversation in which the target has applied `committed`.
    pub(crate) synced: Option<u64>,
}

impl Writer {
    /// What is kept, as the target should have it.
    pub(crate) fn committed(&self) -> &DesiredState {
        &self.committed
    }
}

impl App {
    /// Opens the database in `state` and, on the first start ever, makes the memory pool `ram` of `ram_pool_bytes`. With
    /// `drills`, stored bits may be damaged on purpose.
    pub async fn open(
        state: &Path,
        target: TargetHandle,
        ram_pool_bytes: u64,
        drills: bool,
    ) -> Result<Arc<Self>> {
        let db = Db::open(state).await?;
        let mut tx = db.write().await?;
        pools::make_first_pool(&mut tx, ram_pool_bytes).await?;
        crate::db::pools::give_orders_up(&mut tx).await?;
        volumes::finish_deletion(&mut tx).await?;
        let revision = meta::get_u64(&mut tx, meta::Key::Revision).await?;
        let committed = reconcile::desired_state(&mut tx).await?;
        let telemetry = Telemetry::load(&mut tx).await?;
        tx.commit().await?;
        Ok(Arc::new(Self {
            db,
            target,
            events: Events::new(),
            telemetry,
            streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            drills,
            writer: Mutex::new(Writer { revision, committed, synced: None }),
            sync: watch::Sender::new(Sync::Waiting { reason: "not reached yet".to_owned() }),
            wake: Notify::new(),
        }))
    }

    /// Whether the target runs what is kept here; to read or to wait on.
    pub fn sync(&self) -> watch::Receiver<Sync> {
        self.sync.subscribe()
    }

    /// Notes whether the target runs what is kept, and tells listeners when that changed.
    pub(crate) fn set_sync(&self, now: Sync) {
        let changed = self.sync.send_if_modified(|sync| {
            let changed = *sync != now;
            *sync = now.clone();
            changed
        });
        if changed {
            self.events.send(match now {
                Sync::InSync => Event::target("up", "the target runs what is wanted"),
                Sync::Waiting { reason } => Event::target("away", &reason),
            });
        }
    }

    /// Keeps the counters and closes the database.
    pub async fn close(&self) {
        let _writer = self.writer.lock().await;
        if let Err(error) = self.telemetry.save(&self.db).await {
            tracing::error!(%error, "the last counters could not be kept");
        }
        self.db.close().await;
    }

    /// Opens a change, once it is this one's turn.
    pub(crate) async fn change(&self) -> Result<Change<'_>> {
        let deadline = Instant::now() + CHANGE_PATIENCE;
        let writer = timeout_at(deadline, self.writer.lock())
            .await
            .map_err(|_| Error::TargetAway("another change is waiting for it".to_owned()))?;
        let tx = self.db.write().await?;
        Ok(Change { app: self, writer, tx, deadline, events: Vec::new() })
    }

    /// The writer's place, for the reconciler.
    pub(crate) async fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().await
    }

    /// The writer's place, if nobody has it.
    pub(crate) fn try_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        self.writer.try_lock().ok()
    }

    /// Keeps what `tx` holds, after the target has applied it if it concerns the target.
    pub(crate) async fn store(&self, writer: &mut Writer, mut tx: Tx, deadline: Instant) -> Result<()> {
        let wanted = reconcile::desired_state(&mut tx).await?;
        if wanted == writer.committed {
            tx.commit().await?;
            return Ok(());
        }
        writer.synced = None;
        let outcome = match self.apply(writer, &wanted, deadline).await {
            Ok(generation) => self.keep(writer, tx, generation, wanted).await,
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            // The target may hold what was not kept, or may have kept serving what was before: apply that again.
            self.wake.notify_one();
        }
        outcome
    }

    async fn keep(
        &self,
        writer: &mut Writer,
        mut tx: Tx,
        generation: u64,
        wanted: DesiredState,
    ) -> Result<()> {
        meta::set(&mut tx, meta::Key::Revision, &writer.revision.to_string()).await?;
        tx.commit().await?;
        writer.committed = wanted;
        writer.synced = Some(generation);
        Ok(())
    }

    /// Applies what is kept, after a conversation began or a change failed half-way.
    pub(crate) async fn apply_committed(&self, writer: &mut Writer, deadline: Instant) -> Result<()> {
        let committed = writer.committed.clone();
        if writer.revision == 0 {
            self.refuse_another_ones_target(deadline).await?;
        }
        let generation = self.apply(writer, &committed, deadline).await?;
        let tx = self.db.write().await?;
        self.keep(writer, tx, generation, committed).await
    }

    /// A database that never kept anything must not make a target drop the volumes of another one: it may have been lost, and
    /// the volumes with their hosts are still there.
    async fn refuse_another_ones_target(&self, deadline: Instant) -> Result<()> {
        self.target.up(deadline).await.map_err(Error::TargetAway)?;
        let observed = self.target.observe().await.map_err(|error| Error::TargetAway(error.to_string()))?;
        match observed.volumes.len() {
            0 => Ok(()),
            volumes => Err(Error::LostDatabase { volumes }),
        }
    }

    /// Sends a state under a fresh revision until it is applied or refused. Answers the conversation's generation.
    async fn apply(&self, writer: &mut Writer, wanted: &DesiredState, deadline: Instant) -> Result<u64> {
        loop {
            let (generation, revision) = self.target.up(deadline).await.map_err(Error::TargetAway)?;
            writer.revision = writer.revision.max(revision) + 1;
            let state = DesiredState { revision: writer.revision, ..wanted.clone() };
            match self.target.call(Request::Apply(Box::new(state))).await {
                Ok(Response::Applied(_)) => return Ok(generation),
                Ok(Response::Refused(faults)) => {
                    // A former run of this program may have applied more after this conversation began.
                    let sent = writer.revision;
                    let of_state = faults.iter().any(|fault| fault.object == ObjectKind::State);
                    match self.target.observe().await {
                        Ok(observed)
                            if of_state && observed.revision >= sent && Instant::now() < deadline =>
                        {
                            writer.revision = observed.revision;
                        }
                        _ => return Err(refusal(faults)),
                    }
                }
                Ok(Response::Error { detail }) => return Err(Error::Target(detail)),
                Ok(_) => return Err(Error::Target("not an answer to Apply".to_owned())),
                Err(CallError::Lost(reason)) if Instant::now() >= deadline => {
                    return Err(Error::TargetAway(reason));
                }
                Err(CallError::Lost(_)) => {}
            }
        }
    }
}

/// What the target's refusal means to whoever asked.
fn refusal(faults: Vec<ObjectFault>) -> Error {
    let of = |cause| faults.iter().find(|fault| fault.cause == cause);
    match (of(FaultCause::NoRoom), of(FaultCause::Conflict)) {
        (Some(fault), _) => Error::NoRoom(Fault::from_target(fault)),
        (None, Some(fault)) => Error::Conflict(Fault::from_target(fault)),
        (None, None) => Error::Refused(faults),
    }
}

/// A change in the making. Dropped without [`Change::commit`], it never was.
pub(crate) struct Change<'a> {
    app: &'a App,
    writer: MutexGuard<'a, Writer>,
    tx: Tx,
    deadline: Instant,
    events: Vec<Event>,
}

impl Change<'_> {
    /// The open transaction.
    pub(crate) fn db(&mut self) -> &mut Conn {
        &mut self.tx
    }

    /// Tells listeners, once the change is kept.
    pub(crate) fn announce(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Keeps what was written so far, and goes on. For what must not be forgotten if the rest is cut off; it must not concern
    /// the target.
    pub(crate) async fn keep_first(self) -> Result<Self> {
        self.tx.commit().await?;
        Ok(Self { tx: self.app.db.write().await?, ..self })
    }

    /// Has the target apply it, keeps it, and takes in what the target says of itself afterwards.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.app.store(&mut self.writer, self.tx, self.deadline).await?;
        for event in self.events {
            self.app.events.send(event);
        }
        if self.writer.synced.is_some() {
            reconcile::look(self.app, &mut self.writer).await;
        }
        Ok(())
    }
}

macro_rules! fresh_id {
    ($name:ident, $id:ty) => {
        /// A fresh random identifier.
        pub(crate) fn $name() -> Result<$id> {
            loop {
                let raw =
                    getrandom::u64().map_err(|error| Error::Stored(format!("no randomness: {error}")))?;
                if let Some(id) = <$id>::new(raw) {
                    return Ok(id);
                }
            }
        }
    };
}
fresh_id!(fresh_pool_id, PoolId);
fresh_id!(fresh_volume_id, VolumeId);
fresh_id!(fresh_subsystem_id, SubsystemId);
fresh_id!(fresh_host_id, HostId);
