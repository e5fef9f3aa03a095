//! Orders: what is asked for beside the desired state, because it takes its time, tells something back, or happens once.

use serde::{Deserialize, Serialize};

use crate::desired::{Backing, PiSettings};
use crate::ids::{PoolId, VolumeId};

/// A pool to be made in a new file or on a device, or to be found there. What comes of it is a [`FoundPool`], which the next
/// desired state names; an order that no state takes up is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolOrder {
    /// Names the order. A pool that is made gets it as its identifier.
    pub ticket: PoolId,
    /// Name, for messages; a pool that is made is called so.
    pub name: String,
    /// Identifier, 8-4-4-4-12, of a pool that is made.
    pub uuid: String,
    /// Where, and whether a pool is to be found there.
    pub backing: Backing,
}

/// A pool as it lies on its file or device. One that was found keeps the identifiers that it had elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPool {
    /// Identifier.
    pub id: PoolId,
    /// What it was called when it was made.
    pub name: String,
    /// Identifier, 8-4-4-4-12.
    pub uuid: String,
    /// Length of the file or the device.
    pub size_bytes: u64,
    /// Room for blocks.
    pub capacity_bytes: u64,
    /// Blocks in use.
    pub allocated_bytes: u64,
    /// Its volumes.
    pub volumes: Vec<FoundVolume>,
}

/// A volume as it lies in its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundVolume {
    /// Identifier.
    pub id: VolumeId,
    /// Name.
    pub name: String,
    /// Size.
    pub size_bytes: u64,
    /// 512 or 4096.
    pub block_size: u32,
    /// Protection information, or none.
    pub pi: Option<PiSettings>,
    /// Published identifier, 8-4-4-4-12.
    pub uuid: String,
    /// Published identifier, 32 hex digits.
    pub nguid: String,
    /// Blocks in use.
    pub allocated_bytes: u64,
}

/// One bit to be damaged on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillOrder {
    /// Chosen by the asker; the same order twice is one drill.
    pub id: String,
    /// The volume.
    pub volume: VolumeId,
    /// The block.
    pub lba: u64,
    /// Where on its way.
    pub stage: DrillStage,
    /// Which bit: below 8 × block size one of the data, bit 0 being the lowest of the first byte; beyond, one of the tuple.
    pub bit: u32,
}

/// Where a bit is flipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillStage {
    /// In the target's memory, after the protection information of the block's next write was checked.
    TargetMemory,
    /// On the file or device, beneath the store's checksum, at once.
    Media,
}
