//! What the target last said of itself: counters and sizes are kept in the database too, so that they can be shown
//! while it is away; sessions only live as long as it can be asked.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use holdfast_contract::{
    CounterRow, DigestRow, ObservedPool, ObservedSession, ObservedState, ObservedVolume, PoolId, VolumeId,
};

use crate::db::{Conn, Db, counters, meta, pools, volumes};
use crate::error::Result;

/// Pause between two savings: the target keeps the same numbers, so that a crash costs nothing.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// The latest word of the target.
#[derive(Debug)]
pub struct Telemetry {
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    observed: Option<Arc<ObservedState>>,
    numbers: Arc<Numbers>,
    saved: Arc<Numbers>,
    saved_at: Instant,
    /// The threshold of its use that was told of each pool, in percent.
    told: HashMap<PoolId, u8>,
}

/// The part that outlives the conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// By host and volume.
    pub counters: Vec<CounterRow>,
    /// By host.
    pub digests: Vec<DigestRow>,
    /// Since the record began.
    pub incidents_dropped: u64,
    /// Capacity and use of the pools that could be looked at, in bytes.
    pools: HashMap<PoolId, (u64, u64)>,
    volumes: HashMap<VolumeId, u64>,
}

impl Telemetry {
    /// What was saved last.
    pub(crate) async fn load(conn: &mut Conn) -> Result<Self> {
        let (counters, digests) = counters::load(conn).await?;
        let rows = pools::all(conn).await?;
        let told = rows.iter().map(|row| (row.id, row.threshold)).collect();
        let pools = rows.into_iter().map(|row| (row.id, (row.capacity_bytes, row.allocated_bytes))).collect();
        let volumes =
            volumes::all(conn).await?.into_iter().map(|row| (row.id, row.allocated_bytes)).collect();
        let incidents_dropped = meta::get_u64(conn, meta::Key::IncidentsDropped).await?;
        let numbers = Arc::new(Numbers { counters, digests, incidents_dropped, pools, volumes });
        let (saved, saved_at) = (Arc::clone(&numbers), Instant::now());
        let inner = Inner { observed: None, saved, numbers, saved_at, told };
        Ok(Self { inner: RwLock::new(inner) })
    }

    /// Takes over a new observation and gives back the one before.
    pub(crate) fn observe(&self, now: Arc<ObservedState>) -> Option<Arc<ObservedState>> {
        let mut inner = self.write();
        // A pool that is being opened, or that failed, does not tell; what it was stays.
        let usage = |pool: &ObservedPool| match pool.capacity_bytes {
            0 => inner.numbers.pools.get(&pool.id).copied(),
            capacity_bytes => Some((capacity_bytes, pool.allocated_bytes)),
        };
        let numbers = Numbers {
            counters: now.counters.clone(),
            digests: now.digests.clone(),
            incidents_dropped: now.incidents_dropped,
            pools: now.pools.iter().filter_map(|pool| Some((pool.id, usage(pool)?))).collect(),
            volumes: now.volumes.iter().map(|volume| (volume.id, volume.allocated_bytes)).collect(),
        };
        if *inner.numbers != numbers {
            inner.numbers = Arc::new(numbers);
        }
        inner.observed.replace(now)
    }

    /// The target cannot be asked any more.
    pub(crate) fn forget_observed(&self) {
        self.write().observed = None;
    }

    /// The latest observation, while the target can be asked.
    pub fn observed(&self) -> Option<Arc<ObservedState>> {
        self.read().observed.clone()
    }

    /// The latest numbers, whether it can be asked or not.
    pub fn numbers(&self) -> Arc<Numbers> {
        Arc::clone(&self.read().numbers)
    }

    /// Sessions that are open, as far as known.
    pub fn sessions(&self) -> Vec<ObservedSession> {
        self.read().observed.as_ref().map(|state| state.sessions.clone()).unwrap_or_default()
    }

    /// A pool as it is, while the target can be asked.
    pub fn pool(&self, id: PoolId) -> Option<ObservedPool> {
        self.read().observed.as_ref()?.pools.iter().find(|pool| pool.id == id).cloned()
    }

    /// Capacity and use of a pool when it was seen last, in bytes.
    pub(crate) fn pool_use(&self, id: PoolId) -> Option<(u64, u64)> {
        self.read().numbers.pools.get(&id).copied()
    }

    /// The threshold that was told of a pool; 0 for none.
    pub(crate) fn told(&self, id: PoolId) -> u8 {
        self.read().told.get(&id).copied().unwrap_or(0)
    }

    /// Notes a threshold that is being told.
    pub(crate) fn set_told(&self, id: PoolId, threshold: u8) {
        self.write().told.insert(id, threshold);
    }

    /// A volume as it is, while the target can be asked.
    pub fn volume(&self, id: VolumeId) -> Option<ObservedVolume> {
        self.read().observed.as_ref()?.volumes.iter().find(|volume| volume.id == id).cloned()
    }

    /// Saves if something changed and the last time is long enough ago.
    pub(crate) async fn save_if_due(&self, db: &Db) -> Result<()> {
        if self.read().saved_at.elapsed() < SAVE_EVERY {
            return Ok(());
        }
        self.save(db).await
    }

    /// Saves what changed. The caller is the writer, or nobody else writes.
    pub(crate) async fn save(&self, db: &Db) -> Result<()> {
        let (now, before) = {
            let inner = self.read();
            (Arc::clone(&inner.numbers), Arc::clone(&inner.saved))
        };
        if Arc::ptr_eq(&now, &before) {
            return Ok(());
        }
        let mut tx = db.write().await?;
        counters::save_rows(&mut tx, &before.counters, &now.counters).await?;
        counters::save_digests(&mut tx, &before.digests, &now.digests).await?;
        for (id, (capacity_bytes, allocated_bytes)) in &now.pools {
            if before.pools.get(id) != Some(&(*capacity_bytes, *allocated_bytes)) {
                pools::set_use(&mut tx, *id, *capacity_bytes, *allocated_bytes).await?;
            }
        }
        for (id, allocated_bytes) in &now.volumes {
            if before.volumes.get(id) != Some(allocated_bytes) {
                volumes::set_allocated(&mut tx, *id, *allocated_bytes).await?;
            }
        }
        if now.incidents_dropped != before.incidents_dropped {
            meta::set(&mut tx, meta::Key::IncidentsDropped, &now.incidents_dropped.to_string()).await?;
        }
        tx.commit().await?;
        let mut inner = self.write();
        inner.saved = now;
        inner.saved_at = Instant::now();
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
