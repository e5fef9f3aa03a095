//! The target as a whole, seen from its admin side: what was applied, where it lives, how it is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use holdfast_block::{Exports, PoolId, Usage, VolumeId, VolumeInfo};
use holdfast_contract::{
    Applied, DesiredState, FaultCause, ObjectFault, ObjectKind, ObservedPool, ObservedSession, ObservedState,
    ObservedVolume, PoolHealth, Response,
};
use holdfast_store::{PoolUsage, VolumeSpec, VolumeState};
use uuid::Uuid;

use crate::core::{CoreGone, CoreHandle};
use crate::files::FileError;
use crate::intent::{Intent, WantedPool, WantedVolume, fault};
use crate::large_pages::LargePages;
use crate::pools::KeptMemory;
use crate::record::{self, Records};
use crate::router::VolumeHome;
use crate::shard::Shared;
use crate::spool;

/// A pool that is in use.
#[derive(Debug, Clone, Copy)]
struct LivePool {
    core: usize,
}

/// A volume that exists.
#[derive(Debug, Clone)]
struct LiveVolume {
    pool: PoolId,
    info: VolumeInfo,
    allocated: Arc<AtomicU64>,
}

/// What the admin side knows and commands.
pub(crate) struct Target {
    records: Records,
    shared: Shared,
    cores: Vec<CoreHandle>,
    memory: KeptMemory,
    pages: LargePages,
    pools: HashMap<PoolId, LivePool>,
    volumes: HashMap<VolumeId, LiveVolume>,
    wanted_pools: BTreeSet<PoolId>,
    applied: Option<DesiredState>,
    portals: Vec<String>,
    boot_id: String,
    started: Instant,
}

/// Why a state was not applied.
enum Refusal {
    Faults(Vec<ObjectFault>),
    Core(CoreGone),
    Record(FileError),
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        if error.is_no_room() {
            let detail = format!("the state cannot be written down: {error}");
            return fault(ObjectKind::State, "state", detail).because(FaultCause::NoRoom).into();
        }
        Refusal::Record(error)
    }
}

impl From<CoreGone> for Refusal {
    fn from(gone: CoreGone) -> Self {
        Refusal::Core(gone)
    }
}

impl From<ObjectFault> for Refusal {
    fn from(fault: ObjectFault) -> Self {
        Refusal::Faults(vec![fault])
    }
}

/// How full pools and volumes are.
#[derive(Default)]
struct Usages {
    pools: HashMap<PoolId, PoolUsage>,
    volumes: HashMap<VolumeId, Usage>,
}

/// What an application has made so far, to be undone if the rest cannot be.
#[derive(Default)]
struct Made {
    pools: Vec<PoolId>,
    volumes: Vec<VolumeId>,
}

impl Target {
    /// A target that serves nothing yet.
    pub(crate) fn new(
        records: Records,
        shared: Shared,
        cores: Vec<CoreHandle>,
        memory: KeptMemory,
        pages: LargePages,
        portals: Vec<String>,
    ) -> Self {
        Target {
            records,
            shared,
            cores,
            memory,
            pages,
            pools: HashMap::new(),
            volumes: HashMap::new(),
            wanted_pools: BTreeSet::new(),
            applied: None,
            portals,
            boot_id: Uuid::new_v4().to_string(),
            started: Instant::now(),
        }
    }

    /// Applies what was applied last, before anybody asks. Contents whose memory is gone come back empty.
    pub(crate) fn restore(&mut self, mut desired: DesiredState) -> Response {
        for volume in &mut desired.volumes {
            volume.provisioned = true;
        }
        // It is written down already, and a full disk must not keep volumes away from their hosts.
        self.applied = Some(desired.clone());
        let response = self.apply(desired);
        if !matches!(response, Response::Applied(_)) {
            self.applied = None;
        }
        response
    }

    /// Makes it so, or changes nothing and says why.
    pub(crate) fn apply(&mut self, desired: DesiredState) -> Response {
        if let Some(current) = self.applied.as_ref().filter(|current| current.revision > desired.revision) {
            let detail = format!("revision {} is older than {}", desired.revision, current.revision);
            return Response::Refused(vec![fault(ObjectKind::State, "state", detail)]);
        }
        let intent = match Intent::read(&desired) {
            Ok(intent) => intent,
            Err(faults) => return Response::Refused(faults),
        };
        let mut made = Made::default();
        match self.apply_intent(&intent, desired, &mut made) {
            Ok(()) => Response::Applied(Applied { revision: intent.revision }),
            Err(refusal) => {
                self.undo(made);
                match refusal {
                    Refusal::Faults(faults) => Response::Refused(faults),
                    Refusal::Core(gone) => Response::Error { detail: gone.to_string() },
                    Refusal::Record(error) => {
                        Response::Error { detail: format!("the state cannot be written down: {error}") }
                    }
                }
            }
        }
    }

    fn apply_intent(
        &mut self,
        intent: &Intent,
        desired: DesiredState,
        made: &mut Made,
    ) -> Result<(), Refusal> {
        self.check_unchanged(intent)?;
        for pool in &intent.pools {
            if !self.pools.contains_key(&pool.id) {
                self.add_pool(pool)?;
                made.pools.push(pool.id);
            }
        }
        for wanted in intent.volumes.values() {
            if !self.volumes.contains_key(&wanted.info.id) {
                self.create_volume(wanted)?;
                made.volumes.push(wanted.info.id);
            }
        }
        if self.applied.as_ref() != Some(&desired) {
            self.records.write_applied(&desired)?;
        }
        // From here on it is so: a crash now comes back with this state, and grows what is not grown yet.
        self.applied = Some(desired);
        for wanted in intent.volumes.values() {
            self.grow_volume(wanted)?;
        }
        self.publish(intent)?;
        self.remove_leftovers(intent);
        Ok(())
    }

    /// What a live object can never change.
    fn check_unchanged(&self, intent: &Intent) -> Result<(), ObjectFault> {
        for wanted in intent.volumes.values() {
            let Some(live) = self.volumes.get(&wanted.info.id) else { continue };
            let same = live.pool == wanted.pool
                && live.info.block_len == wanted.info.block_len
                && live.info.format == wanted.info.format;
            if !same {
                let detail = "pool, block size and protection information cannot change";
                return Err(fault(ObjectKind::Volume, &wanted.name, detail));
            }
        }
        Ok(())
    }

    fn add_pool(&mut self, wanted: &WantedPool) -> Result<(), Refusal> {
        let open = self.memory.open(wanted).map_err(|error| {
            let cause = if error.is_no_room() { FaultCause::NoRoom } else { FaultCause::Invalid };
            fault(ObjectKind::Pool, &wanted.name, error.to_string()).because(cause)
        })?;
        let found: Vec<VolumeState> = open.pool.volumes().collect();
        self.pages.watch(&open.region);
        let core = self.emptiest_core();
        let id = wanted.id;
        let added = self.core(core)?.call(move |shard, io| shard.add_pool(io, id, open))?;
        added.map_err(|error| fault(ObjectKind::Pool, &wanted.name, error.to_string()))?;
        self.pools.insert(id, LivePool { core });
        for state in found {
            self.volumes.insert(state.spec.id, live_volume(id, &state.spec));
        }
        Ok(())
    }

    fn create_volume(&mut self, wanted: &WantedVolume) -> Result<(), Refusal> {
        let mut spec = VolumeSpec {
            id: wanted.info.id,
            uuid: wanted.info.uuid,
            nguid: wanted.info.nguid,
            block_len: wanted.info.block_len,
            block_count: wanted.info.block_count,
            format: wanted.info.format,
        };
        if wanted.provisioned {
            tracing::warn!(volume = %wanted.name, "the volume's contents were lost with its pool's memory; it is empty under new identifiers");
            spec.uuid = Uuid::new_v4().into_bytes();
            spec.nguid = Uuid::new_v4().into_bytes();
        }
        let pool = wanted.pool;
        let core = self.home(pool)?;
        let made = self.core(core)?.call(move |shard, _| shard.stores().create_volume(pool, &spec))?;
        made.map_err(|error| fault(ObjectKind::Volume, &wanted.name, error.to_string()))?;
        let info = VolumeInfo { uuid: spec.uuid, nguid: spec.nguid, ..wanted.info };
        self.volumes.insert(info.id, LiveVolume { pool, info, allocated: Arc::default() });
        Ok(())
    }

    fn grow_volume(&mut self, wanted: &WantedVolume) -> Result<(), Refusal> {
        let Some(live) = self.volumes.get(&wanted.info.id) else { return Ok(()) };
        let (pool, id, block_count) = (live.pool, wanted.info.id, wanted.info.block_count);
        if live.info.block_count >= block_count {
            // A volume never shrinks: one that was grown under a state that its owner has lost keeps its size, and says so.
            return Ok(());
        }
        let core = self.home(pool)?;
        let grown = self.core(core)?.call(move |shard, _| shard.stores().grow_volume(id, block_count))?;
        grown.map_err(|error| fault(ObjectKind::Volume, &wanted.name, error.to_string()))?;
        if let Some(live) = self.volumes.get_mut(&id) {
            live.info.block_count = block_count;
        }
        Ok(())
    }

    /// Shows all cores the new picture.
    fn publish(&mut self, intent: &Intent) -> Result<(), CoreGone> {
        let wanted = |id: &VolumeId| intent.volumes.contains_key(id);
        let infos: HashMap<VolumeId, VolumeInfo> =
            self.volumes.iter().filter(|(id, _)| wanted(id)).map(|(id, live)| (*id, live.info)).collect();
        let homes: HashMap<VolumeId, VolumeHome> = self
            .volumes
            .iter()
            .filter(|(id, _)| wanted(id))
            .filter_map(|(id, live)| {
                let core = self.pools.get(&live.pool)?.core;
                let home = VolumeHome { core, info: live.info, allocated: Arc::clone(&live.allocated) };
                Some((*id, home))
            })
            .collect();
        let exports: Arc<Exports> = Arc::new(intent.exports(&infos));
        let adopted = Arc::clone(&exports);
        let homes = Arc::new(homes);
        for core in &mut self.cores {
            let (exports, homes) = (Arc::clone(&exports), Arc::clone(&homes));
            core.call(move |shard, io| shard.set_exports(io, exports, homes))?;
        }
        // Not before every core finds them in the picture: a host that connects meanwhile must not be met again.
        self.shared.hosts.adopted(&adopted);
        self.shared.directory.retain_subsystems(|id| adopted.subsystem(id).is_some());
        Ok(())
    }

    /// Deletes what nobody wants any more. A failure leaves it for the next time.
    fn remove_leftovers(&mut self, intent: &Intent) {
        let volumes: Vec<_> =
            self.volumes.keys().filter(|id| !intent.volumes.contains_key(id)).copied().collect();
        for id in volumes {
            self.delete_volume(id);
        }
        self.wanted_pools = intent.pools.iter().map(|pool| pool.id).collect();
        self.remove_unwanted_pools();
        let live: BTreeSet<VolumeId> = self.volumes.keys().copied().collect();
        self.shared.counters.retain_volumes(|volume| live.contains(&volume));
    }

    /// A pool that still frees a deleted volume's blocks stays until it is done; so this is tried again with each look.
    fn remove_unwanted_pools(&mut self) {
        let pools: Vec<_> = self.pools.keys().filter(|id| !self.wanted_pools.contains(id)).copied().collect();
        for id in pools {
            self.remove_pool(id);
        }
    }

    fn undo(&mut self, made: Made) {
        for id in made.volumes {
            self.delete_volume(id);
        }
        for id in made.pools {
            self.remove_pool(id);
        }
    }

    fn delete_volume(&mut self, id: VolumeId) {
        let Some(live) = self.volumes.remove(&id) else { return };
        let deleted = self.on_home(live.pool, move |shard| shard.stores().delete_volume(id));
        if let Some(Err(error)) = deleted {
            tracing::error!(volume = %id, %error, "cannot delete the volume");
        }
    }

    fn remove_pool(&mut self, id: PoolId) {
        let Some(live) = self.pools.get(&id).copied() else { return };
        let Ok(core) = self.core(live.core) else { return };
        match core.call(move |shard, io| shard.remove_pool(io, id)) {
            Ok(Ok(())) => {
                self.pools.remove(&id);
                self.volumes.retain(|_, volume| volume.pool != id);
                self.memory.forget(id);
            }
            Ok(Err(error)) => tracing::debug!(pool = %id, %error, "the pool stays for now"),
            Err(error) => tracing::error!(pool = %id, %error, "cannot remove the pool"),
        }
    }

    /// The whole target as it is now.
    pub(crate) fn observe(&mut self, incidents_dropped: u64) -> ObservedState {
        self.remove_unwanted_pools();
        let usages = self.survey();
        let counters = record::counter_record(&self.shared.counters);
        ObservedState {
            boot_id: self.boot_id.clone(),
            revision: self.applied.as_ref().map_or(0, |applied| applied.revision),
            uptime_seconds: self.started.elapsed().as_secs(),
            resident_bytes: resident_bytes().unwrap_or(0),
            nvme_portals: self.portals.clone(),
            pools: self.observe_pools(&usages),
            volumes: self.observe_volumes(&usages),
            sessions: self.observe_sessions(),
            discovered_hosts: self.shared.hosts.discovered().iter().map(record::discovered_host).collect(),
            counters: counters.io,
            digests: counters.digests,
            incidents_dropped,
            durations: record::duration_rows(&self.shared.counters),
            drills: Vec::new(),
        }
    }

    /// How full everything is: one question per core, however many pools and volumes it has.
    fn survey(&mut self) -> Usages {
        let mut usages = Usages::default();
        for core in &mut self.cores {
            let found = core.call(|shard, _| {
                let stores = shard.stores();
                let pools: Vec<_> = stores.pools().map(|pool| (pool.id(), pool.usage())).collect();
                let volumes: Vec<_> =
                    stores.volumes().map(|(_, volume)| (volume.spec.id, volume.usage)).collect();
                (pools, volumes)
            });
            match found {
                Ok((pools, volumes)) => {
                    usages.pools.extend(pools);
                    usages.volumes.extend(volumes);
                }
                Err(error) => tracing::error!(%error, "the admin side gave up on a core"),
            }
        }
        usages
    }

    fn observe_pools(&self, usages: &Usages) -> Vec<ObservedPool> {
        let pools = self.pools.keys().map(|id| {
            let id_there = holdfast_contract::PoolId::from_nonzero(id.nonzero());
            match usages.pools.get(id) {
                Some(usage) => ObservedPool::serving(id_there, usage.capacity_bytes, usage.allocated_bytes),
                None => ObservedPool {
                    health: PoolHealth::Failed,
                    reason: Some("its core does not answer".to_owned()),
                    ..ObservedPool::serving(id_there, 0, 0)
                },
            }
        });
        let mut pools: Vec<_> = pools.collect();
        pools.sort_unstable_by_key(|pool| pool.id);
        pools
    }

    fn observe_volumes(&self, usages: &Usages) -> Vec<ObservedVolume> {
        let volumes = self.volumes.values().map(|volume| {
            let usage = usages.volumes.get(&volume.info.id).copied().unwrap_or_default();
            volume.allocated.store(usage.blocks_allocated, Ordering::Relaxed);
            let block_len = u64::try_from(volume.info.block_len).unwrap_or(0);
            ObservedVolume {
                id: spool::volume_id(volume.info.id),
                uuid: Uuid::from_bytes(volume.info.uuid).to_string(),
                nguid: Uuid::from_bytes(volume.info.nguid).simple().to_string(),
                size_bytes: volume.info.block_count.saturating_mul(block_len),
                allocated_bytes: usage.bytes_allocated,
            }
        });
        let mut volumes: Vec<_> = volumes.collect();
        volumes.sort_unstable_by_key(|volume| volume.id);
        volumes
    }

    fn observe_sessions(&self) -> Vec<ObservedSession> {
        let names: HashMap<_, _> = self
            .applied
            .iter()
            .flat_map(|applied| &applied.subsystems)
            .map(|s| (s.id.nonzero(), &s.name))
            .collect();
        let sessions = self.shared.sessions.list().into_iter().map(|session| ObservedSession {
            id: session.id,
            host: spool::host(session.host),
            transport: spool::transport(session.transport),
            peer: session.peer.to_string(),
            subsystem: names
                .get(&session.subsystem.nonzero())
                .map(|name| (*name).clone())
                .unwrap_or_default(),
            authenticated: session.authenticated,
            since: session.since,
        });
        sessions.collect()
    }

    fn on_home<R: Send + 'static>(
        &mut self,
        pool: PoolId,
        work: impl FnOnce(&mut crate::shard::Shard) -> R + Send + 'static,
    ) -> Option<R> {
        let core = self.pools.get(&pool)?.core;
        match self.core(core).and_then(|core| core.call(move |shard, _| work(shard))) {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::error!(%error, "the admin side gave up on a core");
                None
            }
        }
    }

    fn home(&self, pool: PoolId) -> Result<usize, ObjectFault> {
        let live = self.pools.get(&pool);
        live.map(|pool| pool.core).ok_or_else(|| fault(ObjectKind::Pool, &pool.to_string(), "not there"))
    }

    fn core(&mut self, index: usize) -> Result<&mut CoreHandle, CoreGone> {
        self.cores.get_mut(index).ok_or(CoreGone(index))
    }

    fn emptiest_core(&self) -> usize {
        let load = |core: usize| self.pools.values().filter(|pool| pool.core == core).count();
        (0..self.cores.len()).min_by_key(|core| load(*core)).unwrap_or(0)
    }

    /// All cores, to be stopped.
    pub(crate) fn into_cores(self) -> Vec<CoreHandle> {
        self.cores
    }
}

fn live_volume(pool: PoolId, spec: &VolumeSpec) -> LiveVolume {
    let info = VolumeInfo {
        id: spec.id,
        block_len: spec.block_len,
        block_count: spec.block_count,
        format: spec.format,
        uuid: spec.uuid,
        nguid: spec.nguid,
    };
    LiveVolume { pool, info, allocated: Arc::default() }
}

/// Resident memory of this process, proc(5) `VmRSS`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
