//! Pools in files and on devices, from the target's side: onto a core when they are open, off it when they are not wanted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use holdfast_block::PoolId;
use holdfast_contract::{DesiredPool, ObjectFault, ObjectKind, PoolOrder, Response};
use holdfast_store::VolumeState;

use super::{LivePool, Made, Refusal, Target, live_volume};
use crate::intent::{Intent, WantedVolume, fault, pool_id};
use crate::lasting::Fate;
use crate::lasting::disk::OpenDisk;
use crate::spool;

/// How long the start of the target holds hosts back for pools that are being opened: most are there by then, and hosts
/// find their namespaces ready. What takes longer is shown, and served later.
const OPENING_PATIENCE: Duration = Duration::from_secs(3);

/// Longest wait for a change of a pool's volumes to be durable: far more than a flush takes.
const SYNC_LIMIT: Duration = Duration::from_secs(30);

/// How long hosts may take to log out once they are asked to: as long as iSCSI's request tells them that they have
/// (RFC 7143 §11.9.1 "AsyncEvent", Parameter3).
const LOGOUT_LIMIT: Duration = Duration::from_secs(3);

/// Longest wait for pools to be closed when the target stops.
const CLOSING_LIMIT: Duration = Duration::from_secs(45);

/// Pause between two looks at what a core or a thread does.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Target {
    /// Begins with an order, or tells how far it is.
    pub(crate) fn prepare(&mut self, order: &PoolOrder) -> Response {
        self.lasting.orders().prepare(order)
    }

    /// Gives an order up.
    pub(crate) fn abandon(&mut self, ticket: holdfast_contract::PoolId) -> Response {
        self.lasting.orders().abandon(ticket);
        Response::Abandoned
    }

    /// Goes on with pools on their way in and out; `true` if there is something to look at again soon.
    pub(crate) fn settle(&mut self) -> bool {
        let opened = self.take_opened();
        self.let_lasting_go();
        self.finish_closing();
        if opened && let Some(intent) = self.intent.clone() {
            self.take_in_opened(&intent);
        }
        self.lasting.is_busy()
    }

    /// Has all wanted pools opened, and those that were prepared put on a core.
    pub(super) fn want_lasting(&mut self, intent: &Intent, made: &mut Made) -> Result<(), Refusal> {
        for pool in &intent.lasting {
            if let Some(open) = self.lasting.want(pool) {
                made.pools.push(pool_id(pool.id));
                self.put_on_core(pool, open)?;
            }
        }
        Ok(())
    }

    /// Waits for pools that are being opened, but not for long.
    pub(super) fn await_openings(&mut self) {
        let until = Instant::now() + OPENING_PATIENCE;
        while self.lasting.is_opening() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
            self.take_opened();
        }
        self.take_opened();
    }

    /// Why a volume cannot be made, if its pool does not serve. One that was there before waits for its pool.
    pub(super) fn waits_for_pool(&self, wanted: &WantedVolume) -> Result<bool, ObjectFault> {
        let Some(reason) = self.lasting.hindrance(spool::pool_id(wanted.pool)) else { return Ok(false) };
        let id = spool::volume_id(wanted.info.id);
        let was_applied = self.applied.iter().flat_map(|state| &state.volumes).any(|volume| volume.id == id);
        if wanted.provisioned || was_applied {
            return Ok(true);
        }
        Err(fault(ObjectKind::Volume, &wanted.name, reason).at("/pool"))
    }

    fn take_opened(&mut self) -> bool {
        let opened = self.lasting.settle();
        let any = !opened.is_empty();
        for (pool, open) in opened {
            if let Err(fault) = self.put_on_core(&pool, open) {
                self.lasting.fail(pool.id, fault.detail);
            }
        }
        any
    }

    fn put_on_core(&mut self, pool: &DesiredPool, open: OpenDisk) -> Result<(), ObjectFault> {
        let failed = |detail: String| fault(ObjectKind::Pool, &pool.name, detail);
        let found: Vec<VolumeState> = open.volumes().collect();
        if let Some(twice) = found.iter().find(|state| self.volumes.contains_key(&state.spec.id)) {
            return Err(failed(format!(
                "it holds volume {}, which is in another pool already",
                twice.spec.id
            )));
        }
        self.pages.watch(&open.region);
        let id = pool_id(pool.id);
        let index = self.emptiest_core();
        self.take_up_reservations(index, &found).map_err(|gone| failed(gone.to_string()))?;
        let core = self.core(index).map_err(|gone| failed(gone.to_string()))?;
        let added = core.call(move |shard, io| shard.add_disk_pool(io, id, open));
        match added {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(gone) => return Err(failed(gone.to_string())),
        }
        tracing::info!(pool = pool.name, volumes = found.len(), "the pool serves");
        self.pools.insert(id, LivePool { core: index, lasts: true });
        for state in found {
            self.volumes.insert(state.spec.id, live_volume(id, &state.spec));
        }
        Ok(())
    }

    /// Brings the volumes of pools that were opened just now up to what is wanted, and shows them.
    fn take_in_opened(&mut self, intent: &Intent) {
        for wanted in intent.volumes.values() {
            let missing = !self.volumes.contains_key(&wanted.info.id);
            let outcome = match missing && !wanted.provisioned && self.pools.contains_key(&wanted.pool) {
                true => self.create_volume(wanted),
                false => self.grow_volume(wanted),
            };
            if outcome.is_err() {
                tracing::error!(volume = %wanted.name, "the volume could not be brought to what is wanted");
            }
        }
        if let Err(gone) = self.publish(intent) {
            tracing::error!(error = %gone, "a pool was opened and cannot be shown");
        }
        self.remove_leftovers(intent);
    }

    /// Demands that a volume's pool can write down what becomes of the volume.
    pub(super) fn takes_changes(&mut self, wanted: &WantedVolume) -> Result<(), Refusal> {
        let pool = wanted.pool;
        if !self.pools.get(&pool).is_some_and(|live| live.lasts) {
            return Ok(());
        }
        let core = self.home(pool)?;
        let (_, failure) = self.core(core)?.call(move |shard, _| shard.disk_state(pool, 0))?;
        failure.map_or(Ok(()), |reason| Err(pool_failed(&wanted.name, &reason).into()))
    }

    /// Waits until changes of the volumes of a pool that lasts are durable. They count as made only then.
    pub(super) fn await_synced(&mut self, pool: PoolId, name: &str) -> Result<(), Refusal> {
        if !self.pools.get(&pool).is_some_and(|live| live.lasts) {
            return Ok(());
        }
        let core = self.home(pool)?;
        let ticket = self.core(core)?.call(move |shard, _| shard.volumes_asked(pool))?;
        let until = Instant::now() + SYNC_LIMIT;
        loop {
            let (synced, failure) = self.core(core)?.call(move |shard, _| shard.disk_state(pool, ticket))?;
            if synced {
                return Ok(());
            }
            if failure.is_some() || Instant::now() >= until {
                let reason = failure.unwrap_or_else(|| "the device does not answer".to_owned());
                return Err(pool_failed(name, &reason).into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Lets go of what is not wanted; what lies on a core begins to be closed.
    pub(super) fn let_lasting_go(&mut self) {
        let Some(intent) = &self.intent else { return };
        let wanted: BTreeSet<_> = intent.lasting.iter().map(|pool| pool.id).collect();
        let doomed: BTreeSet<_> = intent.destroyed.iter().map(|pool| pool.id).collect();
        for id in self.lasting.ids() {
            if !wanted.contains(&id) {
                let fate = if doomed.contains(&id) { Fate::Destroy } else { Fate::Keep };
                self.let_one_go(id, fate);
            }
        }
    }

    /// Lets go of a pool that was taken up for a state that is not to be.
    pub(super) fn undo_lasting(&mut self, id: PoolId) {
        self.let_one_go(spool::pool_id(id), Fate::Keep);
    }

    fn let_one_go(&mut self, id: holdfast_contract::PoolId, fate: Fate) {
        if !self.lasting.let_go(id, fate) {
            return;
        }
        let pool = pool_id(id);
        let volumes = self.volumes.iter().filter(|(_, volume)| volume.pool == pool);
        let volumes: Vec<_> = volumes.map(|(id, _)| *id).collect();
        let closed = self.on_home(pool, move |shard| {
            volumes.into_iter().for_each(|id| shard.service().forget_reservations(id));
            shard.close_disk(pool);
        });
        if closed.is_none() {
            // It never came onto a core.
            self.lasting.closed(id);
        }
        self.volumes.retain(|_, volume| volume.pool != pool);
    }

    /// Takes closed pools off their cores.
    fn finish_closing(&mut self) {
        for id in self.lasting.ids() {
            if self.lasting.is_closing(id) {
                self.finish_one(id);
            }
        }
    }

    fn finish_one(&mut self, id: holdfast_contract::PoolId) {
        let pool = pool_id(id);
        let Some(live) = self.pools.get(&pool).copied() else { return self.lasting.closed(id) };
        let Ok(core) = self.core(live.core) else { return };
        match core.call(move |shard, io| shard.remove_closed_disk(io, pool)) {
            Ok(true) => {
                tracing::info!(%pool, "closed the pool");
                self.pools.remove(&pool);
                self.lasting.closed(id);
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%pool, %error, "cannot close the pool"),
        }
    }

    /// Destroys what is to be destroyed and is not in use.
    pub(super) fn destroy_remains(&mut self, intent: &Intent) {
        for pool in &intent.destroyed {
            self.lasting.destroy(pool);
        }
    }

    /// Asks all hosts to go, and gives those that can a moment for it.
    pub(crate) fn announce_end(&mut self) {
        for core in &mut self.cores {
            if let Err(error) = core.call(|shard, io| shard.announce_end(io)) {
                tracing::error!(%error, "hosts were not asked to log out");
            }
        }
        let until = Instant::now() + LOGOUT_LIMIT;
        while self.shared.iscsi.sessions() > 0 && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Closes all pools that last, so that the next start has nothing to recover.
    pub(crate) fn close_all(&mut self) {
        for id in self.lasting.ids() {
            self.let_one_go(id, Fate::Keep);
        }
        let until = Instant::now() + CLOSING_LIMIT;
        while self.lasting.is_busy() && Instant::now() < until {
            self.finish_closing();
            std::thread::sleep(LOOK_EVERY);
        }
        if self.lasting.is_busy() {
            tracing::error!("a pool could not be closed in time; its next opening recovers it");
        }
    }
}

fn pool_failed(volume: &str, reason: &str) -> ObjectFault {
    fault(ObjectKind::Volume, volume, format!("its pool has failed: {reason}"))
}
