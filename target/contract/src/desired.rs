//! Intent: everything that the target is told. Always sent whole, so that a lost message, a restart
//! of either plane and the very first contact are all the same case.

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::ids::{HostId, PoolId, SubsystemId, VolumeId};

/// The whole configuration of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// Grows by at least one with every change of intent. A target refuses an older one.
    pub revision: u64,
    /// Every pool.
    pub pools: Vec<DesiredPool>,
    /// Every volume.
    pub volumes: Vec<DesiredVolume>,
    /// Every export.
    pub subsystems: Vec<DesiredSubsystem>,
    /// Every host on record, registered or recorded on its first connection.
    pub hosts: Vec<DesiredHost>,
    /// Pools in files and on devices that shall be destroyed. One that is merely missing from `pools` is closed and
    /// forgotten, and its contents stay where they are: nothing that lasts is destroyed by not being mentioned.
    #[serde(default)]
    pub destroyed: Vec<DesiredPool>,
}

/// A pool and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredPool {
    /// Immutable identifier.
    pub id: PoolId,
    /// Name, for messages.
    pub name: String,
    /// Identifier of a pool in a file or on a device, 8-4-4-4-12, as it is written there: another pool that lies in its
    /// place is never taken for it. Memory pools have none.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Where its bytes are.
    pub backing: Backing,
}

/// What a pool is made of. A desired state names files and devices that a [`PoolOrder`] has made or found: a target that
/// does not find its pool there reports it as failed and never makes a new one in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Backing {
    /// Anonymous memory of the appliance; lost with the appliance.
    Memory {
        /// Room for blocks.
        size_bytes: u64,
    },
    /// A file of a local file system.
    File {
        /// Absolute path.
        path: String,
        /// Length of the file. Zero in an order to import: as long as it is.
        size_bytes: u64,
        /// It was not made here: a pool that was found in it. Destroying such a pool leaves the file, without a pool in it.
        import: bool,
    },
    /// A block device.
    Block {
        /// Absolute path.
        path: String,
        /// As with a file.
        import: bool,
    },
}

impl Backing {
    /// Where a pool that lasts is; `None` for memory.
    pub fn path(&self) -> Option<&str> {
        match self {
            Backing::Memory { .. } => None,
            Backing::File { path, .. } | Backing::Block { path, .. } => Some(path),
        }
    }

    /// Whether the pool was found rather than made.
    pub fn is_import(&self) -> bool {
        match self {
            Backing::Memory { .. } => false,
            Backing::File { import, .. } | Backing::Block { import, .. } => *import,
        }
    }
}

/// A thin volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredVolume {
    /// Immutable identifier.
    pub id: VolumeId,
    /// Name, for messages.
    pub name: String,
    /// The pool it lives in.
    pub pool: PoolId,
    /// A multiple of `block_size`.
    pub size_bytes: u64,
    /// 512 or 4096.
    pub block_size: u32,
    /// Protection information, or none.
    pub pi: Option<PiSettings>,
    /// Published identifier, 8-4-4-4-12.
    pub uuid: String,
    /// Published identifier, 32 hex digits.
    pub nguid: String,
    /// The target has reported this volume before. One that is then missing from its pool was lost with the
    /// pool's memory: the target makes it anew, empty, under fresh published identifiers.
    pub provisioned: bool,
}

/// The protection information format of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PiSettings {
    /// 1, 2 or 3.
    #[serde(rename = "type")]
    pub pi_type: u8,
    /// Which guard.
    pub guard: GuardSetting,
    /// Width of the storage tag.
    pub storage_tag_bits: u8,
}

/// Guard algorithms by their API words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardSetting {
    /// CRC-16/T10-DIF, 8-byte tuples.
    Crc16,
    /// CRC-32C, 16-byte tuples.
    Crc32c,
    /// CRC-64/NVME, 16-byte tuples.
    Crc64,
}

/// An export under one NQN and one IQN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredSubsystem {
    /// Immutable identifier.
    pub id: SubsystemId,
    /// Name, for messages.
    pub name: String,
    /// NVMe qualified name.
    pub nqn: String,
    /// iSCSI qualified name.
    pub iqn: String,
    /// Whether hosts without a grant may connect.
    pub allow_any_host: bool,
    /// What is mapped.
    pub namespaces: Vec<DesiredNamespace>,
    /// Who is granted what.
    pub grants: Vec<DesiredGrant>,
}

/// One mapped volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredNamespace {
    /// 1 to 1024.
    pub nsid: u32,
    /// The volume.
    pub volume: VolumeId,
}

/// A host's grant to a subsystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredGrant {
    /// Who.
    pub host: HostId,
    /// How the volumes look over NVMe/TCP. `auto` is decided by the control plane before it gets here.
    pub nvme_view: ViewSetting,
    /// How the volumes look over iSCSI.
    pub iscsi_view: ViewSetting,
    /// What is demanded of commands.
    pub enforce: EnforceSetting,
}

/// How a volume looks to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViewSetting {
    /// Blocks without tuples; the target inserts and strips.
    Plain,
    /// Blocks with tuples on the wire.
    Pi,
}

/// What is demanded of a host's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnforceSetting {
    /// Nothing.
    Any,
    /// Tuples on the wire with every Read, Write, Compare and Verify.
    RequirePi,
}

/// A host on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredHost {
    /// Immutable identifier.
    pub id: HostId,
    /// Name, for messages.
    pub name: String,
    /// NVMe identity.
    pub nqn: Option<String>,
    /// iSCSI identity.
    pub iqn: Option<String>,
    /// What it has to prove itself with over iSCSI, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<DesiredChap>,
    /// Identifiers of records that were merged into this host: whatever still carries one of them is this host's.
    pub aliases: Vec<HostId>,
}

/// Names and secrets for CHAP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredChap {
    /// Name that the host gives.
    pub user: String,
    /// What it proves itself with.
    pub secret: Secret,
    /// What the target proves itself with, if it is to when asked.
    pub mutual: Option<DesiredMutual>,
}

/// What the target proves itself with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredMutual {
    /// Name that the target gives.
    pub user: String,
    /// What it proves itself with.
    pub secret: Secret,
}
