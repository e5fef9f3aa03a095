//! Discovery. Base 2.1 §3.1.3.3 "Discovery Controller" and §5.1.12.3.1 "Discovery Log Page".
//!
//! The page depends on who asks, and through which address: it lists the subsystems that the host may use. Asking
//! records nobody.

use std::net::{IpAddr, SocketAddr};

use holdfast_block::{Exports, Subsystem};
use zerocopy::{FromZeros, IntoBytes};

use crate::directory::DirectoryConfig;
use crate::limits::QUEUE_ENTRIES_MAX;
use crate::wire::connect::CNTLID_DYNAMIC;
use crate::wire::discovery::{
    ADDRESS_IPV4, ADDRESS_IPV6, DISCOVERY_NQN, DiscoveryEntry, DiscoveryHeader, EFLAGS_CURRENT,
    SUBTYPE_CURRENT, SUBTYPE_NVM, TRANSPORT_TCP, TREQ_FLOW_CONTROL_OPTIONAL,
};
use crate::wire::put_text;

/// Who asks, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) hostnqn: &'a str,
    /// The address that the host has connected to.
    pub(crate) local: SocketAddr,
    /// The portal of the connection.
    pub(crate) portal: u16,
}

/// The subsystems that a host may use.
pub(crate) fn visible_to<'a>(exports: &'a Exports, hostnqn: &str) -> impl Iterator<Item = &'a Subsystem> {
    let host = exports.host_by_nqn(hostnqn).map(|host| host.id);
    let visible = move |subsystem: &&Subsystem| {
        exports.access(subsystem, host).is_some() || holdfast_mutant::active("discovery-all")
    };
    exports.subsystems().iter().filter(visible)
}

/// The whole log page.
pub(crate) fn log_page(config: &DirectoryConfig, exports: &Exports, asker: Asker<'_>) -> Vec<u8> {
    let mut page = DiscoveryHeader::new_zeroed().as_bytes().to_vec();
    let mut records: u64 = 0;
    let mut put = |portal: u16, address: SocketAddr, nqn: &str, subsystem_type: u8| {
        let entry = entry(portal, address, nqn, subsystem_type);
        page.extend_from_slice(entry.as_bytes());
        records += 1;
    };
    for (number, portal) in (0_u16..).zip(&config.portals) {
        let address = portal.address_for(asker.local, number == asker.portal);
        put(number, address, DISCOVERY_NQN, SUBTYPE_CURRENT);
        for subsystem in visible_to(exports, asker.hostnqn) {
            put(number, address, &subsystem.nqn, SUBTYPE_NVM);
        }
    }
    let mut header = DiscoveryHeader::new_zeroed();
    header.generation.set(exports.revision());
    header.records.set(records);
    if let Some(room) = page.get_mut(..header.as_bytes().len()) {
        room.copy_from_slice(header.as_bytes());
    }
    page
}

fn entry(portal: u16, address: SocketAddr, nqn: &str, subsystem_type: u8) -> DiscoveryEntry {
    let ip = address.ip().to_canonical();
    let mut entry = DiscoveryEntry::new_zeroed();
    entry.transport = TRANSPORT_TCP;
    entry.address_family = match ip {
        IpAddr::V4(_) => ADDRESS_IPV4,
        IpAddr::V6(_) => ADDRESS_IPV6,
    };
    entry.subsystem_type = subsystem_type;
    entry.requirements = TREQ_FLOW_CONTROL_OPTIONAL;
    entry.port.set(portal.saturating_add(1));
    entry.cntlid.set(CNTLID_DYNAMIC);
    entry.admin_queue_entries.set(QUEUE_ENTRIES_MAX);
    if subsystem_type == SUBTYPE_CURRENT {
        entry.flags.set(EFLAGS_CURRENT);
    }
    put_text(&mut entry.service, &address.port().to_string(), b' ');
    put_text(&mut entry.subnqn, nqn, 0);
    put_text(&mut entry.address, &ip.to_string(), b' ');
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::H2cDataMax;
    use std::collections::{BTreeMap, HashMap};

    use holdfast_block::{Portal, SubsystemId};
    use zerocopy::FromBytes;

    fn subsystem(id: u64, nqn: &str, allow_any_host: bool) -> Subsystem {
        Subsystem {
            id: SubsystemId::new(id).unwrap(),
            name: nqn.into(),
            nqn: nqn.into(),
            iqn: String::new(),
            allow_any_host,
            namespaces: BTreeMap::new(),
            grants: HashMap::new(),
        }
    }

    fn config(advertised: Option<&str>) -> DirectoryConfig {
        let portal = |listening: &str| Portal {
            advertised: advertised.map(|address| address.parse().unwrap()),
            listening: listening.parse().unwrap(),
        };
        DirectoryConfig {
            serial_prefix: "HF".into(),
            model: String::new(),
            firmware: String::new(),
            portals: vec![portal("0.0.0.0:4420"), portal("[::]:4421")],
            started_unix_seconds: 0,
            h2c_data_max: H2cDataMax::default(),
        }
    }

    fn records(config: &DirectoryConfig, exports: &Exports) -> Vec<(String, String, String)> {
        let local = "192.0.2.9:4420".parse().unwrap();
        let page = log_page(config, exports, Asker { hostnqn: "nqn.host", local, portal: 0 });
        let (header, rest) = DiscoveryHeader::read_from_prefix(&page).unwrap();
        assert_eq!(header.records.get() * 1024, rest.len() as u64);
        let text = |field: &[u8]| String::from_utf8_lossy(field).trim_end_matches(['\0', ' ']).to_owned();
        rest.chunks(1024)
            .map(|chunk| DiscoveryEntry::read_from_bytes(chunk).unwrap())
            .map(|entry| (text(&entry.subnqn), text(&entry.address), text(&entry.service)))
            .collect()
    }

    #[test]
    fn only_subsystems_that_the_host_may_use_are_listed() {
        let exports =
            Exports::new(5, vec![subsystem(1, "nqn.open", true), subsystem(2, "nqn.closed", false)], vec![]);
        let names: Vec<_> = records(&config(None), &exports).into_iter().map(|record| record.0).collect();
        assert_eq!(names, [DISCOVERY_NQN, "nqn.open", DISCOVERY_NQN, "nqn.open"]);
    }

    #[test]
    fn addresses_are_those_that_the_host_can_reach() {
        let exports = Exports::default();
        let found = records(&config(None), &exports);
        assert_eq!(found[0], (DISCOVERY_NQN.into(), "192.0.2.9".into(), "4420".into()));
        assert_eq!(found[1], (DISCOVERY_NQN.into(), "192.0.2.9".into(), "4421".into()));
    }

    #[test]
    fn an_advertised_address_wins() {
        let found = records(&config(Some("198.51.100.1:1234")), &Exports::default());
        assert_eq!(found[0], (DISCOVERY_NQN.into(), "198.51.100.1".into(), "1234".into()));
    }
}
