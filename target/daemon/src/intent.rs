//! From the contract's words to the block layer's types. Whatever cannot be is refused here, before anything is changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use holdfast_block::{
    ChapSecrets, Enforce, Exports, Grant, HostId, HostRecord, Namespace, PoolId, Subsystem, SubsystemId,
    View, VolumeId, VolumeInfo,
};
use holdfast_contract::{
    Backing, DesiredChap, DesiredGrant, DesiredPool, DesiredState, DesiredSubsystem, DesiredVolume,
    EnforceSetting, GuardSetting, ObjectFault, ObjectKind, PiSettings, ViewSetting,
};
use holdfast_pi::{GuardKind, PiFormat, PiType};
use uuid::Uuid;

/// Highest NSID that can be mapped.
pub(crate) const NSID_MAX: u32 = 1024;

/// A memory pool as it shall be.
#[derive(Debug, Clone)]
pub(crate) struct WantedPool {
    /// Which.
    pub id: PoolId,
    /// Name, for messages.
    pub name: String,
    /// Room for blocks.
    pub size_bytes: u64,
}

/// A volume as it shall be.
#[derive(Debug, Clone)]
pub(crate) struct WantedVolume {
    /// Name, for messages.
    pub name: String,
    /// Where.
    pub pool: PoolId,
    /// Geometry and identifiers; a volume that exists keeps its own identifiers.
    pub info: VolumeInfo,
    /// It existed before: if it is not there, its contents were lost. In a pool that lasts it is never made anew.
    pub provisioned: bool,
}

/// A desired state that can be.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    /// Its revision.
    pub revision: u64,
    /// Memory pools in the order given.
    pub memory: Vec<WantedPool>,
    /// Pools in files and on devices.
    pub lasting: Vec<DesiredPool>,
    /// Those that shall be destroyed.
    pub destroyed: Vec<DesiredPool>,
    /// Volumes by identifier.
    pub volumes: BTreeMap<VolumeId, WantedVolume>,
    subsystems: Vec<DesiredSubsystem>,
    hosts: Vec<HostRecord>,
}

impl Intent {
    /// Checks and translates. All faults are named, not only the first.
    pub(crate) fn read(desired: &DesiredState) -> Result<Intent, Vec<ObjectFault>> {
        let mut faults = Vec::new();
        let (mut memory, mut lasting) = (Vec::new(), Vec::new());
        for pool in &desired.pools {
            match pool.backing {
                Backing::Memory { size_bytes } => {
                    memory.push(WantedPool { id: pool_id(pool.id), name: pool.name.clone(), size_bytes });
                }
                Backing::File { .. } | Backing::Block { .. } => lasting.push(pool.clone()),
            }
        }
        let pool_ids: BTreeSet<PoolId> = desired.pools.iter().map(|pool| pool_id(pool.id)).collect();
        let mut volumes = BTreeMap::new();
        for volume in &desired.volumes {
            match read_volume(volume, &pool_ids) {
                Ok(wanted) => {
                    volumes.insert(wanted.info.id, wanted);
                }
                Err(detail) => faults.push(fault(ObjectKind::Volume, &volume.name, detail)),
            }
        }
        for subsystem in &desired.subsystems {
            if let Err(detail) = check_subsystem(subsystem, &volumes) {
                faults.push(fault(ObjectKind::Subsystem, &subsystem.name, detail));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let hosts = desired.hosts.iter().map(|host| HostRecord {
            id: host_id(host.id),
            name: host.name.clone(),
            nqn: host.nqn.clone(),
            iqn: host.iqn.clone(),
            chap: host.chap.as_ref().map(read_chap),
            aliases: host.aliases.iter().copied().map(host_id).collect(),
        });
        Ok(Intent {
            revision: desired.revision,
            memory,
            lasting,
            destroyed: desired.destroyed.clone(),
            volumes,
            subsystems: desired.subsystems.clone(),
            hosts: hosts.collect(),
        })
    }

    /// The picture that initiators get, given the volumes as they really are.
    pub(crate) fn exports(&self, volumes: &HashMap<VolumeId, VolumeInfo>) -> Exports {
        let subsystems = self.subsystems.iter().map(|subsystem| {
            let namespaces = subsystem.namespaces.iter().filter_map(|namespace| {
                let volume = *volumes.get(&volume_id(namespace.volume))?;
                Some((namespace.nsid, Namespace { nsid: namespace.nsid, volume }))
            });
            Subsystem {
                id: SubsystemId::from_nonzero(subsystem.id.nonzero()),
                name: subsystem.name.clone(),
                nqn: subsystem.nqn.clone(),
                iqn: subsystem.iqn.clone(),
                allow_any_host: subsystem.allow_any_host,
                namespaces: namespaces.collect(),
                grants: subsystem
                    .grants
                    .iter()
                    .map(|grant| (host_id(grant.host), read_grant(grant)))
                    .collect(),
            }
        });
        Exports::new(self.revision, subsystems.collect(), self.hosts.clone())
    }
}

/// A fault of one object.
pub(crate) fn fault(object: ObjectKind, name: &str, detail: impl Into<String>) -> ObjectFault {
    ObjectFault::new(object, name, detail)
}

/// The same identifier in the block layer's type.
pub(crate) fn host_id(id: holdfast_contract::HostId) -> HostId {
    HostId::from_nonzero(id.nonzero())
}

/// The same identifier in the block layer's type.
pub(crate) fn volume_id(id: holdfast_contract::VolumeId) -> VolumeId {
    VolumeId::from_nonzero(id.nonzero())
}

/// The same identifier in the block layer's type.
pub(crate) fn pool_id(id: holdfast_contract::PoolId) -> PoolId {
    PoolId::from_nonzero(id.nonzero())
}

fn read_volume(volume: &DesiredVolume, pools: &BTreeSet<PoolId>) -> Result<WantedVolume, String> {
    let pool = pool_id(volume.pool);
    if !pools.contains(&pool) {
        return Err(format!("its pool {pool} is not in the desired state"));
    }
    if !matches!(volume.block_size, 512 | 4096) {
        return Err(format!("block size {} is neither 512 nor 4096", volume.block_size));
    }
    let block_size = u64::from(volume.block_size);
    if volume.size_bytes == 0 || !volume.size_bytes.is_multiple_of(block_size) {
        return Err(format!("size {} is not a multiple of the block size", volume.size_bytes));
    }
    let format = volume.pi.map(|pi| read_format(pi, volume.block_size)).transpose()?;
    let uuid = Uuid::parse_str(&volume.uuid).map_err(|error| format!("uuid: {error}"))?;
    let nguid = Uuid::parse_str(&volume.nguid).map_err(|error| format!("nguid: {error}"))?;
    Ok(WantedVolume {
        name: volume.name.clone(),
        pool,
        info: VolumeInfo {
            id: volume_id(volume.id),
            block_len: usize::try_from(volume.block_size).unwrap_or(usize::MAX),
            block_count: volume.size_bytes / block_size,
            format,
            uuid: uuid.into_bytes(),
            nguid: nguid.into_bytes(),
        },
        provisioned: volume.provisioned,
    })
}

fn read_format(pi: PiSettings, block_size: u32) -> Result<PiFormat, String> {
    let pi_type =
        PiType::from_number(pi.pi_type).ok_or_else(|| format!("there is no PI type {}", pi.pi_type))?;
    let guard = match pi.guard {
        GuardSetting::Crc16 => GuardKind::Crc16,
        GuardSetting::Crc32c => GuardKind::Crc32c,
        GuardSetting::Crc64 => GuardKind::Crc64,
    };
    PiFormat::new(pi_type, guard, block_size, pi.storage_tag_bits).map_err(|error| error.to_string())
}

fn check_subsystem(
    subsystem: &DesiredSubsystem,
    volumes: &BTreeMap<VolumeId, WantedVolume>,
) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for namespace in &subsystem.namespaces {
        if !(1..=NSID_MAX).contains(&namespace.nsid) {
            return Err(format!("namespace {} is not within 1 to {NSID_MAX}", namespace.nsid));
        }
        if !seen.insert(namespace.nsid) {
            return Err(format!("namespace {} is mapped twice", namespace.nsid));
        }
        if !volumes.contains_key(&volume_id(namespace.volume)) {
            return Err(format!(
                "namespace {} names a volume that is not in the desired state",
                namespace.nsid
            ));
        }
    }
    Ok(())
}

fn read_chap(chap: &DesiredChap) -> Arc<ChapSecrets> {
    let mutual = chap.mutual.as_ref();
    let mutual = mutual.map(|mutual| (mutual.user.clone(), mutual.secret.reveal().to_owned()));
    Arc::new(ChapSecrets::new(chap.user.clone(), chap.secret.reveal().to_owned(), mutual))
}

fn read_grant(grant: &DesiredGrant) -> Grant {
    let view = |view| match view {
        ViewSetting::Plain => View::Plain,
        ViewSetting::Pi => View::Pi,
    };
    Grant {
        nvme_view: view(grant.nvme_view),
        iscsi_view: view(grant.iscsi_view),
        enforce: match grant.enforce {
            EnforceSetting::Any => Enforce::Any,
            EnforceSetting::RequirePi => Enforce::RequirePi,
        },
    }
}
