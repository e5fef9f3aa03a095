//! What the target reports of itself.

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, PoolId, VolumeId};

/// The target as it is now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ObservedState {
    /// Differs for every start of the target process.
    pub boot_id: String,
    /// The revision last applied; zero before the first.
    pub revision: u64,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Resident memory of the process, pools included.
    pub resident_bytes: u64,
    /// Listening NVMe/TCP portals.
    pub nvme_portals: Vec<String>,
    /// Listening iSCSI portals.
    #[serde(default)]
    pub iscsi_portals: Vec<String>,
    /// Pools that are in use.
    pub pools: Vec<ObservedPool>,
    /// Volumes that exist.
    pub volumes: Vec<ObservedVolume>,
    /// Sessions that are open.
    pub sessions: Vec<ObservedSession>,
    /// Hosts that the target has recorded itself and the desired state does not name yet.
    pub discovered_hosts: Vec<DiscoveredHost>,
    /// Counters since the record began (kept over restarts of the target); never decrease.
    pub counters: Vec<CounterRow>,
    /// Digest errors by host, as `counters`.
    pub digests: Vec<DigestRow>,
    /// Incidents that found no room in the spool, since the record began.
    pub incidents_dropped: u64,
    /// How long commands took, since the start of the target process. Empty where nobody measures.
    #[serde(default)]
    pub durations: Vec<DurationRow>,
    /// Drills, oldest first; those of an earlier run of the target are forgotten.
    #[serde(default)]
    pub drills: Vec<ObservedDrill>,
}

/// How long the commands of one kind took, from their capsule's arrival to their completion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurationRow {
    /// `read`, `write`, `flush`, … in lower case.
    pub operation: String,
    /// Upper bounds of the buckets in microseconds, inclusive, rising. One more bucket without a bound follows.
    pub bounds_us: Vec<u64>,
    /// Commands in each bucket (not summed up): one more entry than `bounds_us`.
    pub counts: Vec<u64>,
    /// All durations together, in microseconds.
    pub sum_us: u64,
}

/// A pool that is wanted, or is still being closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedPool {
    /// Which.
    pub id: PoolId,
    /// Room for blocks; zero while that is not known.
    pub capacity_bytes: u64,
    /// Blocks in use.
    pub allocated_bytes: u64,
    /// Whether it serves.
    pub health: PoolHealth,
    /// Why it is not well, or what it is being opened or closed for; for people.
    pub reason: Option<String>,
    /// How far it is opened or closed, while it is.
    pub progress: Option<Progress>,
    /// What its map takes in memory; none of a pool that keeps its map with its blocks.
    pub map: Option<MapMemory>,
    /// Its journal; none of a memory pool.
    pub journal: Option<JournalState>,
}

impl ObservedPool {
    /// A pool that serves, of which nothing else is to be said.
    pub fn serving(id: PoolId, capacity_bytes: u64, allocated_bytes: u64) -> Self {
        let (health, reason) = (PoolHealth::Ok, None);
        Self { id, capacity_bytes, allocated_bytes, health, reason, progress: None, map: None, journal: None }
    }
}

/// How far something is that takes its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all, as far as known; zero while they have not been counted.
    pub total: u64,
}

/// Memory for the map of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapMemory {
    /// Resident.
    pub bytes: u64,
    /// Most that it may take.
    pub budget_bytes: u64,
}

/// A pool's journal: a ring of blocks, of which those since the last checkpoint are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalState {
    /// Blocks of the ring.
    pub blocks: u64,
    /// Blocks that a recovery would read.
    pub used: u64,
}

/// Whether a pool serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolHealth {
    /// All is well.
    Ok,
    /// Serves, but something is wrong.
    Degraded,
    /// Does not serve.
    Failed,
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedDrill {
    /// [`DrillOrder::id`](crate::DrillOrder::id).
    pub id: String,
    /// The bit has been flipped.
    pub done: bool,
    /// Why it never will be; for people.
    pub failure: Option<String>,
}

/// A volume that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedVolume {
    /// Which.
    pub id: VolumeId,
    /// Published identifier. The target's word counts: it changes when the contents were lost.
    pub uuid: String,
    /// Published identifier, as `uuid`.
    pub nguid: String,
    /// Size.
    pub size_bytes: u64,
    /// Blocks in use.
    pub allocated_bytes: u64,
}

/// Transports by their API words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// NVMe over TCP.
    NvmeTcp,
    /// iSCSI.
    Iscsi,
}

/// An open session: an NVMe controller or an iSCSI session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedSession {
    /// Number of the session in this run of the target.
    pub id: u64,
    /// Whose.
    pub host: HostId,
    /// Over what.
    pub transport: Transport,
    /// The initiator's address and port.
    pub peer: String,
    /// Subsystem's name.
    pub subsystem: String,
    /// Whether the host proved who it is.
    pub authenticated: bool,
    /// Seconds since 1970-01-01 UTC.
    pub since: u64,
}

/// A host that connected before anybody registered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveredHost {
    /// The identifier that the target gave it. The control plane adopts it.
    pub id: HostId,
    /// NVMe identity.
    pub nqn: Option<String>,
    /// iSCSI identity.
    pub iqn: Option<String>,
}

/// Counters of one host on one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// Whose commands.
    pub host: HostId,
    /// On which volume.
    pub volume: VolumeId,
    /// Write.
    pub write: PiTotals,
    /// Read, Compare, Verify.
    pub read: PiTotals,
    /// Operations and bytes.
    pub io: IoTotals,
}

/// Protection information totals of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's and are explained there")]
pub struct PiTotals {
    pub blocks_checked: u64,
    pub blocks_escaped: u64,
    pub blocks_unchecked: u64,
    pub blocks_inserted: u64,
    pub blocks_stripped: u64,
    pub guard_errors: u64,
    pub app_tag_errors: u64,
    pub ref_tag_errors: u64,
    pub storage_tag_errors: u64,
    pub media_errors: u64,
}

/// Commands completed with success, and their data bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's and are explained there")]
pub struct IoTotals {
    pub read_ops: u64,
    pub read_bytes: u64,
    pub write_ops: u64,
    pub write_bytes: u64,
}

/// Digest errors of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestRow {
    /// Whose connections.
    pub host: HostId,
    /// Header digests that did not match.
    pub header: u64,
    /// Data digests that did not match.
    pub data: u64,
}
