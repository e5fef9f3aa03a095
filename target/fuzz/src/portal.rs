//! What an iSCSI login meets: a target for everybody, one for hosts on record, and a host on record with a secret that no
//! script knows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use holdfast_block::{
    ChapSecrets, Exports, Grant, HostBook, HostId, HostRecord, Portal, SessionBook, Subsystem, SubsystemId,
};
use holdfast_iscsi::{Directory, LoginContext};

/// The host with the secret.
pub(crate) const PROVEN: &str = "iqn.2026-11.example:p";

/// The target for everybody.
pub(crate) const OPEN: &str = "iqn.2026-11.io.holdfast:o";

/// Texts that logins are made of.
pub(crate) const PIECES: [&str; 32] = [
    "InitiatorName=iqn.2026-11.example:p\0",
    "InitiatorName=iqn.2026-11.example:s\0",
    "InitiatorName=",
    "TargetName=iqn.2026-11.io.holdfast:o\0",
    "TargetName=iqn.2026-11.io.holdfast:c\0",
    "SessionType=Discovery\0",
    "SessionType=Normal\0",
    "AuthMethod=CHAP,None\0",
    "AuthMethod=None\0",
    "CHAP_A=5\0",
    "CHAP_A=9,8,7,6\0",
    "CHAP_N=joe\0",
    "CHAP_R=0x00112233445566778899aabbccddeeff\0",
    "CHAP_R=0bAAECAwQFBgcICQoLDA0ODw==\0",
    "CHAP_I=7\0",
    "CHAP_C=0x0001020304\0",
    "HeaderDigest=CRC32C,None\0",
    "DataDigest=None\0",
    "InitialR2T=No\0",
    "ImmediateData=No\0",
    "MaxBurstLength=512\0",
    "FirstBurstLength=65536\0",
    "MaxRecvDataSegmentLength=512\0",
    "MaxOutstandingR2T=0xffff\0",
    "ErrorRecoveryLevel=2\0",
    "MaxConnections=4\0",
    "IFMarker=No\0",
    "TaskReporting=FastAbort,RFC3720\0",
    "X-example.key=1\0",
    "SendTargets=All\0",
    "SendTargets=\0",
    "InitiatorAlias=x\0",
];

/// The surroundings of logins.
pub(crate) struct World {
    pub(crate) exports: Exports,
    pub(crate) directory: Directory,
    pub(crate) hosts: HostBook,
    pub(crate) sessions: SessionBook,
}

impl World {
    pub(crate) fn new() -> World {
        let host = HostId::new(1).unwrap();
        let subsystem = |id: u64, iqn: String, allow_any_host: bool| Subsystem {
            id: SubsystemId::new(id).unwrap(),
            name: iqn.clone(),
            nqn: String::new(),
            iqn,
            allow_any_host,
            namespaces: BTreeMap::new(),
            grants: HashMap::from([(host, Grant::ANY_HOST)]),
        };
        let mut subsystems =
            vec![subsystem(1, OPEN.into(), true), subsystem(2, "iqn.2026-11.io.holdfast:c".into(), false)];
        subsystems.extend((3..20).map(|id| subsystem(id, format!("iqn.2026-11.io.holdfast:{id}"), true)));
        let mutual = Some(("holdfast".to_owned(), "what-holdfast-knows".to_owned()));
        let record = HostRecord {
            id: host,
            name: "proven".into(),
            nqn: None,
            iqn: Some(PROVEN.into()),
            chap: Some(Arc::new(ChapSecrets::new("joe".into(), "what-joe-knows".into(), mutual))),
            aliases: vec![],
        };
        let portal = Portal { advertised: None, listening: "0.0.0.0:3260".parse().unwrap() };
        World {
            exports: Exports::new(1, subsystems, vec![record]),
            directory: Directory::new(vec![portal]),
            hosts: HostBook::new(vec![], || HostId::new(99).unwrap()),
            sessions: SessionBook::default(),
        }
    }

    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut LoginContext<'_>) -> R) -> R {
        call(&mut LoginContext {
            unix_seconds: 1,
            exports: &self.exports,
            directory: &self.directory,
            hosts: &self.hosts,
            sessions: &self.sessions,
            random: &mut |bytes| bytes.fill(0x5a),
        })
    }
}
