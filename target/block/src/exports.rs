//! What is exported to whom: an immutable picture that every core holds by reference and that is
//! replaced whole when the administrator changes something.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use holdfast_pi::PiFormat;

use crate::{ChapSecrets, HostId, Session, SubsystemId, VolumeId};

/// How a volume looks to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// Blocks only; tuples are inserted and stripped here.
    Plain,
    /// Blocks with their tuples.
    Pi,
}

/// What is demanded of a host's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enforce {
    /// Nothing.
    Any,
    /// Tuples on the wire with every Read, Write, Compare, Verify.
    RequirePi,
}

/// A grant of a subsystem to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// View over NVMe/TCP.
    pub nvme_view: View,
    /// View over iSCSI.
    pub iscsi_view: View,
    /// Demands.
    pub enforce: Enforce,
}

impl Grant {
    /// What a host gets that nobody granted anything, where any host is allowed.
    pub const ANY_HOST: Grant =
        Grant { nvme_view: View::Plain, iscsi_view: View::Plain, enforce: Enforce::Any };
}

/// The same as [`Grant`], after looking at the subsystem's `allow_any_host` too.
pub type Access = Grant;

/// A host on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// Immutable identifier.
    pub id: HostId,
    /// Name, for logs.
    pub name: String,
    /// NVMe identity.
    pub nqn: Option<String>,
    /// iSCSI identity.
    pub iqn: Option<String>,
    /// If there is one, it has to prove itself with this before it gets an iSCSI session.
    pub chap: Option<Arc<ChapSecrets>>,
    /// Merged records whose identifiers now mean this host.
    pub aliases: Vec<HostId>,
}

/// A volume as initiators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Immutable identifier.
    pub id: VolumeId,
    /// 512 or 4096.
    pub block_len: usize,
    /// Number of blocks.
    pub block_count: u64,
    /// Protection information kept with each block.
    pub format: Option<PiFormat>,
    /// Namespace UUID.
    pub uuid: [u8; 16],
    /// Namespace Globally Unique Identifier.
    pub nguid: [u8; 16],
}

/// A mapped volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace {
    /// 1 to 1024.
    pub nsid: u32,
    /// What is behind it.
    pub volume: VolumeInfo,
}

/// An export under one NQN and one IQN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subsystem {
    /// Immutable identifier.
    pub id: SubsystemId,
    /// Name.
    pub name: String,
    /// NVMe qualified name.
    pub nqn: String,
    /// iSCSI qualified name.
    pub iqn: String,
    /// Whether hosts without a grant may use it.
    pub allow_any_host: bool,
    /// By NSID.
    pub namespaces: BTreeMap<u32, Namespace>,
    /// By host.
    pub grants: HashMap<HostId, Grant>,
}

/// The whole picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exports {
    revision: u64,
    subsystems: Vec<Subsystem>,
    hosts: Vec<HostRecord>,
    canonical: HashMap<HostId, HostId>,
}

impl Exports {
    /// A picture of these parts.
    pub fn new(revision: u64, subsystems: Vec<Subsystem>, hosts: Vec<HostRecord>) -> Self {
        let canonical =
            hosts.iter().flat_map(|host| host.aliases.iter().map(|alias| (*alias, host.id))).collect();
        Exports { revision, subsystems, hosts, canonical }
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All subsystems.
    pub fn subsystems(&self) -> &[Subsystem] {
        &self.subsystems
    }

    /// All hosts on record.
    pub fn hosts(&self) -> &[HostRecord] {
        &self.hosts
    }

    /// By identifier.
    pub fn subsystem(&self, id: SubsystemId) -> Option<&Subsystem> {
        self.subsystems.iter().find(|subsystem| subsystem.id == id)
    }

    /// By NVMe qualified name.
    pub fn subsystem_by_nqn(&self, nqn: &str) -> Option<&Subsystem> {
        self.subsystems.iter().find(|subsystem| subsystem.nqn == nqn)
    }

    /// The host that an identifier means today, after merges.
    pub fn canonical(&self, host: HostId) -> HostId {
        self.canonical.get(&host).copied().unwrap_or(host)
    }

    /// The host on record under an NVMe qualified name.
    pub fn host_by_nqn(&self, nqn: &str) -> Option<&HostRecord> {
        self.hosts.iter().find(|host| host.nqn.as_deref() == Some(nqn))
    }

    /// By iSCSI qualified name.
    pub fn subsystem_by_iqn(&self, iqn: &str) -> Option<&Subsystem> {
        self.subsystems.iter().find(|subsystem| subsystem.iqn == iqn)
    }

    /// The host on record under an iSCSI qualified name.
    pub fn host_by_iqn(&self, iqn: &str) -> Option<&HostRecord> {
        self.hosts.iter().find(|host| host.iqn.as_deref() == Some(iqn))
    }

    /// What a host may do with a subsystem; `None`: nothing. `host` is `None` for one that is not on record.
    pub fn access(&self, subsystem: &Subsystem, host: Option<HostId>) -> Option<Access> {
        let granted = host.and_then(|host| subsystem.grants.get(&self.canonical(host)).copied());
        let open = subsystem.allow_any_host || holdfast_mutant::active("access-for-all");
        granted.or_else(|| open.then_some(Grant::ANY_HOST))
    }

    /// The subsystem of a session and what its host may do there; `None` when either is gone.
    pub fn access_of(&self, session: &Session) -> Option<(&Subsystem, Access)> {
        let subsystem = self.subsystem(session.subsystem)?;
        Some((subsystem, self.access(subsystem, Some(session.host))?))
    }
}
