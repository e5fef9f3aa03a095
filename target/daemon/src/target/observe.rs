//! The target as it reports itself.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use holdfast_block::{PoolId, Usage, VolumeId};
use holdfast_contract::{
    JournalState, MapMemory, ObservedPool, ObservedSession, ObservedState, ObservedVolume, PoolHealth,
};
use holdfast_daemon::device::PoolMap;
use holdfast_store::PoolUsage;
use holdfast_store::disk::{DiskPool, Health};
use uuid::Uuid;

use super::Target;
use crate::record;
use crate::spool;

/// How pools and volumes are.
#[derive(Default)]
struct Survey {
    pools: HashMap<PoolId, Seen>,
    volumes: HashMap<VolumeId, Usage>,
}

/// A pool on its core.
struct Seen {
    usage: PoolUsage,
    health: Health,
    map_bytes: Option<u64>,
    journal: Option<JournalState>,
}

impl Seen {
    fn memory(usage: PoolUsage) -> Self {
        Seen { usage, health: Health::Ok, map_bytes: None, journal: None }
    }

    fn disk(pool: &DiskPool<PoolMap>) -> Self {
        let (blocks, used) = pool.journal_blocks();
        Seen {
            usage: pool.usage(),
            health: pool.health(),
            map_bytes: Some(pool.map_bytes()),
            journal: Some(JournalState { blocks, used }),
        }
    }
}

impl Target {
    /// The whole target as it is now.
    pub(crate) fn observe(&mut self, incidents_dropped: u64) -> ObservedState {
        self.remove_unwanted_pools();
        self.settle();
        let survey = self.survey();
        self.share_map_memory(&survey);
        let counters = record::counter_record(&self.shared.counters);
        ObservedState {
            boot_id: self.boot_id.clone(),
            revision: self.applied.as_ref().map_or(0, |applied| applied.revision),
            uptime_seconds: self.started.elapsed().as_secs(),
            resident_bytes: resident_bytes().unwrap_or(0),
            nvme_portals: self.portals.nvme.clone(),
            iscsi_portals: self.portals.iscsi.clone(),
            pools: self.observe_pools(&survey),
            volumes: self.observe_volumes(&survey),
            sessions: self.observe_sessions(),
            discovered_hosts: self.shared.hosts.discovered().iter().map(record::discovered_host).collect(),
            counters: counters.io,
            digests: counters.digests,
            incidents_dropped,
            durations: record::duration_rows(&self.shared.counters),
            drills: self.drills.observe(),
        }
    }

    /// How full everything is: one question per core, however many pools and volumes it has.
    fn survey(&mut self) -> Survey {
        let mut survey = Survey::default();
        for core in &mut self.cores {
            let found = core.call(|shard, _| {
                let stores = shard.stores();
                let memory = stores.pools().map(|pool| (pool.id(), Seen::memory(pool.usage())));
                let disks = stores.disk_pools().map(|pool| (pool.id(), Seen::disk(pool)));
                let pools: Vec<_> = memory.chain(disks).collect();
                let volumes: Vec<_> =
                    stores.volumes().map(|(_, volume)| (volume.spec.id, volume.usage)).collect();
                (pools, volumes, shard.service().take_sprung())
            });
            match found {
                Ok((pools, volumes, sprung)) => {
                    self.drills.sprung(&sprung);
                    survey.pools.extend(pools);
                    survey.volumes.extend(volumes);
                }
                Err(error) => tracing::error!(%error, "the admin side gave up on a core"),
            }
        }
        survey
    }

    /// Lets each pool's maps grow by what all of them leave of the memory for maps.
    fn share_map_memory(&mut self, survey: &Survey) {
        let maps: Vec<(PoolId, u64)> =
            survey.pools.iter().filter_map(|(id, seen)| Some((*id, seen.map_bytes?))).collect();
        let left = self.lasting.opener().note_map_bytes(maps.iter().map(|(_, bytes)| bytes).sum());
        for (pool, bytes) in maps {
            let most = bytes.saturating_add(left);
            self.on_home(pool, move |shard| {
                if let Some(pool) = shard.stores().disk_pool_mut(pool) {
                    pool.set_map_bytes_max(most);
                }
            });
        }
    }

    fn observe_pools(&self, survey: &Survey) -> Vec<ObservedPool> {
        let mut pools = self.lasting.observe();
        let elsewhere: Vec<_> = pools.iter().map(|pool| pool.id).collect();
        for id in self.pools.keys().map(|id| (*id, spool::pool_id(*id))) {
            let (id, there) = id;
            if elsewhere.contains(&there) {
                continue;
            }
            pools.push(match survey.pools.get(&id) {
                Some(seen) => self.serving_pool(id, seen),
                None => ObservedPool {
                    health: PoolHealth::Failed,
                    reason: Some("its core does not answer".to_owned()),
                    ..ObservedPool::serving(there, 0, 0)
                },
            });
        }
        pools.sort_unstable_by_key(|pool| pool.id);
        pools
    }

    fn serving_pool(&self, id: PoolId, seen: &Seen) -> ObservedPool {
        let (capacity_bytes, allocated_bytes) = (seen.usage.capacity_bytes, seen.usage.allocated_bytes);
        let base = ObservedPool::serving(spool::pool_id(id), capacity_bytes, allocated_bytes);
        let missing = self.missing_volumes(id);
        let (health, reason) = match seen.health {
            Health::Failed(failure) => {
                (PoolHealth::Failed, Some(format!("{failure}: nothing is written any more, reads go on")))
            }
            Health::Degraded => (
                PoolHealth::Degraded,
                Some(
                    "parts of the map are damaged, and the blocks there are lost; everything else is served"
                        .to_owned(),
                ),
            ),
            Health::Ok if !missing.is_empty() => {
                let reason = format!("volumes that should be in it are not: {}", missing.join(", "));
                (PoolHealth::Degraded, Some(reason))
            }
            Health::Ok => (PoolHealth::Ok, None),
        };
        let budget_bytes = self.lasting.opener().map_bytes_max();
        let map = seen.map_bytes.map(|bytes| MapMemory { bytes, budget_bytes });
        ObservedPool { health, reason, map, journal: seen.journal, ..base }
    }

    /// Volumes that a pool that lasts should hold and does not: it lies in an older state than the one that is wanted.
    fn missing_volumes(&self, pool: PoolId) -> Vec<&str> {
        if !self.pools.get(&pool).is_some_and(|live| live.lasts) {
            return Vec::new();
        }
        let wanted = self.intent.iter().flat_map(|intent| intent.volumes.values());
        let missing = wanted
            .filter(|volume| volume.pool == pool && !self.volumes.contains_key(&volume.info.id))
            .map(|volume| volume.name.as_str());
        missing.collect()
    }

    fn observe_volumes(&self, survey: &Survey) -> Vec<ObservedVolume> {
        let volumes = self.volumes.values().map(|volume| {
            let usage = survey.volumes.get(&volume.info.id).copied().unwrap_or_default();
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
}

/// Resident memory of this process, proc(5) `VmRSS`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
