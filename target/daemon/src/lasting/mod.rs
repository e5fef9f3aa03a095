//! Pools in files and on devices on their way in and out: ordered, opened, failed, closed, destroyed.
//!
//! Opening may take as long as a recovery takes, and nothing waits for it: each pool is opened on a thread of its own, and the
//! table here says how far it is. What a pool *is* lies behind [`Opener`]; where it serves is the target's business.

pub(crate) mod disk;
mod job;
mod orders;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use holdfast_contract::{DesiredPool, FoundPool, ObjectFault, ObservedPool, PoolHealth, PoolId, PoolOrder};

pub(crate) use job::Meter;
use job::{Job, Poll};
use orders::Orders;

/// What opens, makes and destroys pools, on threads that may wait.
pub(crate) trait Opener: Send + Sync + 'static {
    /// A pool that is open, and held against everybody else.
    type Open: Send + 'static;

    /// Makes a pool where nothing is. Whatever it has made is gone again if it fails.
    fn make(&self, order: &PoolOrder, meter: &Meter) -> Result<Self::Open, ObjectFault>;

    /// Opens what lies there, whatever its identifiers.
    fn find(&self, order: &PoolOrder, meter: &Meter) -> Result<Self::Open, ObjectFault>;

    /// Opens this pool and no other. The text says why not.
    fn open(&self, pool: &DesiredPool, meter: &Meter) -> Result<Self::Open, String>;

    /// What an open pool is and holds.
    fn describe(&self, open: &Self::Open) -> FoundPool;

    /// Destroys this pool, unless something else lies there by now. Nothing holds it open.
    fn destroy(&self, pool: &DesiredPool) -> Result<(), String>;
}

/// Where a pool is on its way.
#[derive(Debug)]
enum Stage<T> {
    /// A thread opens it.
    Opening(Job<Result<T, String>>),
    /// It is on a core.
    Serving,
    /// It does not serve, for this reason, until the target is started again or the pool is not wanted any more.
    Failed(String),
    /// Its core writes what is left to write.
    Closing(Fate),
    /// A thread destroys it.
    Destroying(Job<Result<(), String>>),
}

/// What becomes of a pool once it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays where it lies.
    Keep,
    /// It is destroyed.
    Destroy,
}

#[derive(Debug)]
struct Entry<T> {
    pool: DesiredPool,
    stage: Stage<T>,
    /// It was made for a state that is not in force yet.
    made: bool,
}

/// All pools that last.
pub(crate) struct Lasting<O: Opener> {
    opener: Arc<O>,
    wake: Sender<()>,
    entries: BTreeMap<PoolId, Entry<O::Open>>,
    orders: Orders<O>,
}

impl<O: Opener> Lasting<O> {
    /// No pools yet. `wake` hears when [`Self::settle`] has something to do.
    pub(crate) fn new(opener: O, wake: Sender<()>) -> Self {
        let opener = Arc::new(opener);
        let orders = Orders::new(Arc::clone(&opener), wake.clone());
        Lasting { opener, wake, entries: BTreeMap::new(), orders }
    }

    /// What opens them.
    pub(crate) fn opener(&self) -> &O {
        &self.opener
    }

    /// Orders to come.
    pub(crate) fn orders(&mut self) -> &mut Orders<O> {
        &mut self.orders
    }

    /// A pool is wanted. One that was prepared is given back, to be put on a core ([`Self::serve`]); any other begins to be
    /// opened, if it is not known already.
    pub(crate) fn want(&mut self, pool: &DesiredPool) -> Option<O::Open> {
        if let Some(known) = self.entries.get_mut(&pool.id) {
            known.pool.name.clone_from(&pool.name);
            return None;
        }
        if let Some((open, made)) = self.orders.take(pool.id) {
            let (pool, stage) = (pool.clone(), Stage::Serving);
            self.entries.insert(pool.id, Entry { pool, stage, made });
            return Some(open);
        }
        let (opener, wanted) = (Arc::clone(&self.opener), pool.clone());
        let job = Job::start(&self.wake, move |meter| opener.open(&wanted, meter));
        self.entries.insert(pool.id, Entry { pool: pool.clone(), stage: Stage::Opening(job), made: false });
        None
    }

    /// Pools that were opened since the last call; they count as serving from now on.
    pub(crate) fn settle(&mut self) -> Vec<(DesiredPool, O::Open)> {
        self.orders.expire();
        let mut opened = Vec::new();
        let mut gone = Vec::new();
        for (id, entry) in &mut self.entries {
            match &entry.stage {
                Stage::Opening(job) => match job.poll() {
                    Poll::Pending => {}
                    Poll::Done(Ok(open)) => {
                        entry.stage = Stage::Serving;
                        opened.push((entry.pool.clone(), open));
                    }
                    Poll::Done(Err(reason)) => {
                        tracing::error!(pool = entry.pool.name, reason, "the pool does not serve");
                        entry.stage = Stage::Failed(reason);
                    }
                    Poll::Lost => entry.stage = Stage::Failed("there was no thread to open it".to_owned()),
                },
                Stage::Destroying(job) => match job.poll() {
                    Poll::Pending => {}
                    Poll::Done(result) => {
                        if let Err(reason) = result {
                            tracing::error!(
                                pool = entry.pool.name,
                                reason,
                                "the pool could not be destroyed"
                            );
                        }
                        gone.push(*id);
                    }
                    Poll::Lost => gone.push(*id),
                },
                Stage::Serving | Stage::Failed(_) | Stage::Closing(_) => {}
            }
        }
        for id in gone {
            self.entries.remove(&id);
        }
        opened
    }

    /// A pool that counted as serving does not.
    pub(crate) fn fail(&mut self, id: PoolId, reason: String) {
        if let Some(entry) = self.entries.get_mut(&id) {
            tracing::error!(pool = entry.pool.name, reason, "the pool does not serve");
            entry.stage = Stage::Failed(reason);
        }
    }

    /// The state that was made for is in force: what was made stays.
    pub(crate) fn confirm(&mut self) {
        for entry in self.entries.values_mut() {
            entry.made = false;
        }
    }

    /// A pool is not wanted. True if it is on a core, which has to close it and then say so ([`Self::closed`]); anything else is
    /// let go of here.
    pub(crate) fn let_go(&mut self, id: PoolId, fate: Fate) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let fate = if entry.made { Fate::Destroy } else { fate };
        match entry.stage {
            Stage::Serving => {
                entry.stage = Stage::Closing(fate);
                true
            }
            Stage::Closing(ref mut earlier) => {
                if fate == Fate::Destroy {
                    *earlier = fate;
                }
                false
            }
            // What is being opened is held until its thread is done, so it can be neither kept nor destroyed before.
            Stage::Opening(_) | Stage::Destroying(_) => false,
            Stage::Failed(_) => {
                self.finish(id, fate);
                false
            }
        }
    }

    /// A pool was closed by its core.
    pub(crate) fn closed(&mut self, id: PoolId) {
        if let Some(Entry { stage: Stage::Closing(fate), .. }) = self.entries.get(&id) {
            let fate = *fate;
            self.finish(id, fate);
        }
    }

    /// Destroys a pool that is not in use; nothing happens if it is known, or if there is no such pool any more. An order for it
    /// is given up.
    pub(crate) fn destroy(&mut self, pool: &DesiredPool) {
        self.orders.abandon(pool.id);
        if !self.entries.contains_key(&pool.id) {
            let stage = self.destroying(pool);
            self.entries.insert(pool.id, Entry { pool: pool.clone(), stage, made: false });
        }
    }

    fn finish(&mut self, id: PoolId, fate: Fate) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if fate == Fate::Destroy {
            let stage = self.destroying(&entry.pool);
            self.entries.insert(id, Entry { stage, ..entry });
        }
    }

    fn destroying(&self, pool: &DesiredPool) -> Stage<O::Open> {
        let (opener, pool) = (Arc::clone(&self.opener), pool.clone());
        Stage::Destroying(Job::start(&self.wake, move |_| opener.destroy(&pool)))
    }

    /// Whether a core closes this pool.
    pub(crate) fn is_closing(&self, id: PoolId) -> bool {
        matches!(self.entries.get(&id), Some(Entry { stage: Stage::Closing(_), .. }))
    }

    /// Why a pool that is known does not serve; `None` if it does, or is not known.
    pub(crate) fn hindrance(&self, id: PoolId) -> Option<String> {
        match &self.entries.get(&id)?.stage {
            Stage::Serving => None,
            Stage::Opening(_) => Some("its pool is being opened".to_owned()),
            Stage::Failed(reason) => Some(format!("its pool has failed: {reason}")),
            Stage::Closing(_) | Stage::Destroying(_) => Some("its pool is being closed".to_owned()),
        }
    }

    /// Whether any pool is on its way in.
    pub(crate) fn is_opening(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.stage, Stage::Opening(_)))
    }

    /// Whether something has to be looked at again soon.
    pub(crate) fn is_busy(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.stage, Stage::Closing(_)))
    }

    /// All pools by identifier.
    pub(crate) fn ids(&self) -> Vec<PoolId> {
        self.entries.keys().copied().collect()
    }

    /// The pools that do not serve, as they are.
    pub(crate) fn observe(&self) -> Vec<ObservedPool> {
        let away = |(id, entry): (&PoolId, &Entry<O::Open>)| {
            let (health, reason, progress) = match &entry.stage {
                Stage::Serving => return None,
                Stage::Opening(job) => (PoolHealth::Degraded, "it is being opened", Some(job.progress())),
                Stage::Failed(reason) => (PoolHealth::Failed, reason.as_str(), None),
                Stage::Closing(_) => (PoolHealth::Degraded, "it is being closed", None),
                Stage::Destroying(job) => {
                    (PoolHealth::Degraded, "it is being destroyed", Some(job.progress()))
                }
            };
            let reason = Some(reason.to_owned());
            Some(ObservedPool { health, reason, progress, ..ObservedPool::serving(*id, 0, 0) })
        };
        self.entries.iter().filter_map(away).collect()
    }
}
