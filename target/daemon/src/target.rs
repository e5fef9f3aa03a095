//! The target as a whole, seen from its admin side: what was applied, where it lives, how it is.

mod drills;
mod lasting;
mod observe;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use holdfast_block::{Exports, PoolId, VolumeId, VolumeInfo};
use holdfast_contract::{Applied, DesiredState, FaultCause, ObjectFault, ObjectKind, Response};
use holdfast_store::{VolumeSpec, VolumeState};
use uuid::Uuid;

use crate::core::{CoreGone, CoreHandle};
use crate::files::FileError;
use crate::intent::{Intent, WantedPool, WantedVolume, fault, pool_id};
use crate::large_pages::LargePages;
use crate::lasting::Lasting;
use crate::lasting::disk::DiskOpener;
use crate::pools::KeptMemory;
use crate::record::Records;
use crate::router::VolumeHome;
use crate::shard::Shared;
use drills::Drills;

/// A pool that is in use.
#[derive(Debug, Clone, Copy)]
struct LivePool {
    core: usize,
    /// It lies in a file or on a device.
    lasts: bool,
}

/// A volume that exists.
#[derive(Debug, Clone)]
struct LiveVolume {
    pool: PoolId,
    info: VolumeInfo,
    allocated: Arc<AtomicU64>,
}

/// Addresses that are listened on.
#[derive(Debug, Default)]
pub(crate) struct Portals {
    pub nvme: Vec<String>,
    pub iscsi: Vec<String>,
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
    lasting: Lasting<DiskOpener>,
    drills: Drills,
    wanted_memory: BTreeSet<PoolId>,
    applied: Option<DesiredState>,
    /// What was applied, as it was understood.
    intent: Option<Intent>,
    portals: Portals,
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
        lasting: Lasting<DiskOpener>,
        pages: LargePages,
        portals: Portals,
    ) -> Self {
        Target {
            records,
            shared,
            cores,
            memory,
            pages,
            pools: HashMap::new(),
            volumes: HashMap::new(),
            lasting,
            drills: Drills::default(),
            wanted_memory: BTreeSet::new(),
            applied: None,
            intent: None,
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
        for pool in &intent.memory {
            if !self.pools.contains_key(&pool.id) {
                self.add_pool(pool)?;
                made.pools.push(pool.id);
            }
        }
        self.want_lasting(intent, made)?;
        if self.intent.is_none() {
            self.await_openings();
        }
        for wanted in intent.volumes.values() {
            if !self.volumes.contains_key(&wanted.info.id) && !self.waits_for_pool(wanted)? {
                self.create_volume(wanted)?;
                made.volumes.push(wanted.info.id);
            }
        }
        for wanted in intent.volumes.values() {
            if self.is_to_grow(wanted) {
                self.takes_changes(wanted)?;
            }
        }
        if self.applied.as_ref() != Some(&desired) {
            self.records.write_applied(&desired)?;
        }
        // From here on it is so: a crash now comes back with this state, and grows what is not grown yet.
        self.applied = Some(desired);
        self.intent = Some(intent.clone());
        self.lasting.confirm();
        for wanted in intent.volumes.values() {
            self.grow_volume(wanted)?;
        }
        self.publish(intent)?;
        self.remove_leftovers(intent);
        self.destroy_remains(intent);
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
        self.take_up_reservations(core, &found)?;
        let added = self.core(core)?.call(move |shard, io| shard.add_pool(io, id, open))?;
        added.map_err(|error| fault(ObjectKind::Pool, &wanted.name, error.to_string()))?;
        self.pools.insert(id, LivePool { core, lasts: false });
        for state in found {
            self.volumes.insert(state.spec.id, live_volume(id, &state.spec));
        }
        Ok(())
    }

    fn create_volume(&mut self, wanted: &WantedVolume) -> Result<(), Refusal> {
        let lasts = self.pools.get(&wanted.pool).is_some_and(|live| live.lasts);
        if lasts && wanted.provisioned {
            // Its pool is there and it is not: nothing is put in its place.
            return Ok(());
        }
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
            // It is another one.
            self.shared.keeper.forget(spec.id);
        }
        let (pool, name) = (wanted.pool, wanted.name.clone());
        self.takes_changes(wanted)?;
        let core = self.home(pool)?;
        let made =
            self.core(core)?.call(move |shard, _| shard.stores().create_named_volume(pool, &spec, &name))?;
        made.map_err(|error| fault(ObjectKind::Volume, &wanted.name, error.to_string()))?;
        self.await_synced(pool, &wanted.name)?;
        let info = VolumeInfo { uuid: spec.uuid, nguid: spec.nguid, ..wanted.info };
        self.volumes.insert(info.id, LiveVolume { pool, info, allocated: Arc::default() });
        Ok(())
    }

    /// Whether a volume is smaller than wanted. It never shrinks: one that was grown under a state that its owner has lost keeps
    /// its size, and says so.
    fn is_to_grow(&self, wanted: &WantedVolume) -> bool {
        let live = self.volumes.get(&wanted.info.id);
        live.is_some_and(|live| live.info.block_count < wanted.info.block_count)
    }

    fn grow_volume(&mut self, wanted: &WantedVolume) -> Result<(), Refusal> {
        if !self.is_to_grow(wanted) {
            return Ok(());
        }
        let (pool, id, block_count) = (wanted.pool, wanted.info.id, wanted.info.block_count);
        let core = self.home(pool)?;
        let grown = self.core(core)?.call(move |shard, _| shard.stores().grow_volume(id, block_count))?;
        grown.map_err(|error| fault(ObjectKind::Volume, &wanted.name, error.to_string()))?;
        self.await_synced(pool, &wanted.name)?;
        if let Some(live) = self.volumes.get_mut(&id) {
            live.info.block_count = block_count;
        }
        Ok(())
    }

    /// Shows all cores the new picture.
    fn publish(&mut self, intent: &Intent) -> Result<(), CoreGone> {
        let wanted = |id: &VolumeId| intent.volumes.contains_key(id);
        // A volume whose pool does not serve stays in the picture: hosts are told that it is not ready, and keep it.
        let info = |volume: &WantedVolume| match self.volumes.get(&volume.info.id) {
            Some(live) => live.info,
            None => volume.info,
        };
        let infos: HashMap<VolumeId, VolumeInfo> =
            intent.volumes.iter().map(|(id, volume)| (*id, info(volume))).collect();
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

    /// Deletes what nobody wants any more. A failure leaves it for the next time. Volumes of a pool that lasts and is not wanted
    /// itself go with their pool.
    fn remove_leftovers(&mut self, intent: &Intent) {
        let lasting: BTreeSet<PoolId> = intent.lasting.iter().map(|pool| pool_id(pool.id)).collect();
        let is_leftover = |id: &VolumeId, live: &LiveVolume| {
            let goes_with_pool =
                self.pools.get(&live.pool).is_some_and(|pool| pool.lasts) && !lasting.contains(&live.pool);
            !intent.volumes.contains_key(id) && !goes_with_pool
        };
        let leftovers: Vec<_> =
            self.volumes.iter().filter(|(id, live)| is_leftover(id, live)).map(|(id, _)| *id).collect();
        for id in leftovers {
            self.delete_volume(id);
        }
        self.wanted_memory = intent.memory.iter().map(|pool| pool.id).collect();
        self.remove_unwanted_pools();
        self.let_lasting_go();
        let live: BTreeSet<VolumeId> = self.volumes.keys().chain(intent.volumes.keys()).copied().collect();
        self.shared.counters.retain_volumes(|volume| live.contains(&volume));
        self.shared.keeper.retain(live);
    }

    /// A memory pool that still frees a deleted volume's blocks stays until it is done; so this is tried again with each look.
    fn remove_unwanted_pools(&mut self) {
        let unwanted = |(id, live): (&PoolId, &LivePool)| !live.lasts && !self.wanted_memory.contains(id);
        let pools: Vec<_> =
            self.pools.iter().filter(|(id, live)| unwanted((id, live))).map(|(id, _)| *id).collect();
        for id in pools {
            self.remove_pool(id);
        }
    }

    fn undo(&mut self, made: Made) {
        for id in made.volumes {
            self.delete_volume(id);
        }
        for id in made.pools {
            match self.pools.get(&id) {
                Some(LivePool { lasts: false, .. }) => self.remove_pool(id),
                _ => self.undo_lasting(id),
            }
        }
    }

    fn delete_volume(&mut self, id: VolumeId) {
        let Some(live) = self.volumes.remove(&id) else { return };
        let deleted = self.on_home(live.pool, move |shard| {
            shard.service().forget_reservations(id);
            shard.stores().delete_volume(id)
        });
        self.shared.keeper.forget(id);
        if let Some(Err(error)) = deleted {
            tracing::error!(volume = %id, %error, "cannot delete the volume");
        }
        if self.await_synced(live.pool, "").is_err() {
            tracing::error!(volume = %id, "the volume may be there again after a power cut; it is deleted then");
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

    /// Has a core take up what is kept of the reservations of volumes that come to it: before anybody can reach them there.
    fn take_up_reservations(&mut self, core: usize, volumes: &[VolumeState]) -> Result<(), CoreGone> {
        let kept = volumes.iter().map(|state| state.spec.id);
        let kept: Vec<_> = kept.filter_map(|id| Some((id, self.shared.keeper.load(id)?))).collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.core(core)?.call(move |shard, _| {
            kept.into_iter().for_each(|(id, state)| shard.service().set_reservations(id, state));
        })
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
