//! What is around a connection: exports, directory, books.

use std::collections::{BTreeMap, HashMap, HashSet};

use holdfast_block::{
    CounterBook, Enforce, Exports, Grant, HostBook, HostId, HostRecord, Namespace, Portal, SessionBook,
    Subsystem, SubsystemId, View, VolumeId, VolumeInfo,
};
use holdfast_nvme::{Context, Directory, DirectoryConfig, H2cDataMax};
use holdfast_pi::{GuardKind, PiFormat, PiType};

use crate::memory::{MemoryPort, Volume};

/// The subsystem of the tests.
pub(crate) const SUBNQN: &str = "nqn.2026-11.io.holdfast:test";
/// A registered host that sees tuples.
pub(crate) const PI_HOST: &str = "nqn.2026-11.io.holdfast:pi-host";
/// A host that nobody registered: it sees blocks only.
pub(crate) const PLAIN_HOST: &str = "nqn.2026-11.io.holdfast:stranger";
/// Identifier of [`PI_HOST`].
pub(crate) const PI_HOST_ID: u64 = 10;

/// 4096-byte blocks without tuples on NSID 1.
pub(crate) const PLAIN_NSID: u32 = 1;
/// 512-byte blocks with tuples of type 1 on NSID 2.
pub(crate) const PI_NSID: u32 = 2;
/// 4096-byte blocks with 32-bit guards, where a test exports [`wide_volume`].
pub(crate) const WIDE_NSID: u32 = 3;
/// Blocks of each.
pub(crate) const BLOCKS: u64 = 4096;

pub(crate) struct World {
    pub(crate) exports: Exports,
    pub(crate) directory: Directory,
    pub(crate) hosts: HostBook,
    pub(crate) sessions: SessionBook,
    pub(crate) counters: CounterBook,
    pub(crate) port: MemoryPort,
    pub(crate) now_ms: u64,
}

impl World {
    pub(crate) fn new() -> World {
        World::with_h2c_data_max(H2cDataMax::default())
    }

    pub(crate) fn with_h2c_data_max(h2c_data_max: H2cDataMax) -> World {
        let mut port = MemoryPort::new();
        for info in [plain_volume(BLOCKS), pi_volume(), wide_volume()] {
            let VolumeInfo { block_len, format, .. } = info;
            port.volumes.insert(
                info.id,
                Volume { block_len, format, blocks: HashMap::new(), marked: HashSet::new() },
            );
        }
        let portal = Portal { advertised: None, listening: "127.0.0.1:4420".parse().unwrap() };
        World {
            exports: exports(1, true, &[(PLAIN_NSID, plain_volume(BLOCKS)), (PI_NSID, pi_volume())]),
            directory: Directory::new(DirectoryConfig {
                serial_prefix: "HF".into(),
                model: "Holdfast".into(),
                firmware: "0.1".into(),
                portals: vec![portal],
                started_unix_seconds: 0,
                h2c_data_max,
            }),
            hosts: HostBook::new(vec![], || HostId::new(77).unwrap()),
            sessions: SessionBook::default(),
            counters: CounterBook::default(),
            port,
            now_ms: 1_000,
        }
    }

    pub(crate) fn context(&mut self) -> Context<'_, MemoryPort> {
        Context {
            now_ms: self.now_ms,
            unix_seconds: 0,
            exports: &self.exports,
            directory: &self.directory,
            hosts: &self.hosts,
            sessions: &self.sessions,
            counters: &self.counters,
            port: &mut self.port,
        }
    }
}

pub(crate) fn plain_volume(block_count: u64) -> VolumeInfo {
    volume(1, 4096, block_count, None)
}

pub(crate) fn pi_volume() -> VolumeInfo {
    volume(2, 512, BLOCKS, Some(PiFormat::new(PiType::Type1, GuardKind::Crc16, 512, 0).unwrap()))
}

/// A volume in an extended protection information format; exported by tests that want it.
pub(crate) fn wide_volume() -> VolumeInfo {
    volume(3, 4096, BLOCKS, Some(PiFormat::new(PiType::Type1, GuardKind::Crc32c, 4096, 16).unwrap()))
}

fn volume(id: u64, block_len: usize, block_count: u64, format: Option<PiFormat>) -> VolumeInfo {
    let id = VolumeId::new(id).unwrap();
    VolumeInfo { id, block_len, block_count, format, uuid: [0x11; 16], nguid: [0x22; 16] }
}

/// A picture with these namespaces; [`PI_HOST`] is granted, others as `allow_any_host` says.
pub(crate) fn exports(revision: u64, allow_any_host: bool, namespaces: &[(u32, VolumeInfo)]) -> Exports {
    exports_with(revision, allow_any_host, Enforce::Any, namespaces)
}

pub(crate) fn exports_with(
    revision: u64,
    allow_any_host: bool,
    enforce: Enforce,
    namespaces: &[(u32, VolumeInfo)],
) -> Exports {
    let host = HostId::new(PI_HOST_ID).unwrap();
    let grant = Grant { nvme_view: View::Pi, iscsi_view: View::Plain, enforce };
    let subsystem = Subsystem {
        id: SubsystemId::new(5).unwrap(),
        name: "test".into(),
        nqn: SUBNQN.into(),
        iqn: "iqn.2026-11.io.holdfast:test".into(),
        allow_any_host,
        namespaces: namespaces
            .iter()
            .map(|(nsid, volume)| (*nsid, Namespace { nsid: *nsid, volume: *volume }))
            .collect::<BTreeMap<_, _>>(),
        grants: HashMap::from([(host, grant)]),
    };
    let record = HostRecord {
        id: host,
        name: "pi".into(),
        nqn: Some(PI_HOST.into()),
        iqn: None,
        chap: None,
        aliases: vec![],
    };
    Exports::new(revision, vec![subsystem], vec![record])
}
