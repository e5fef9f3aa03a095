//! SendTargets. RFC 7143 Appendix C "SendTargets Operation".
//!
//! The answer depends on who asks, and through which address: it lists the targets that the initiator may use. Asking records
//! nobody.

use std::net::SocketAddr;

use holdfast_block::{Exports, Subsystem, SubsystemId};

use crate::directory::{Directory, PORTAL_GROUP_TAG};
use crate::text::put;

/// Who asks, and where.
#[derive(Debug, Clone)]
pub struct Asker {
    /// InitiatorName, normalised.
    pub initiator: String,
    /// The address that the initiator has connected to.
    pub local: SocketAddr,
    /// The number of the portal, as in [`Directory::portals`].
    pub portal: u16,
    /// The target of its session; `None`: discovery.
    pub subsystem: Option<SubsystemId>,
}

/// Answers SendTargets; `None`: the value is not for this kind of session.
pub(crate) fn send_targets(
    directory: &Directory,
    exports: &Exports,
    asker: &Asker,
    value: &str,
    out: &mut Vec<u8>,
) -> Option<()> {
    let host = exports.host_by_iqn(&asker.initiator).map(|host| host.id);
    let visible: Vec<&Subsystem> = exports
        .subsystems()
        .iter()
        .filter(|subsystem| exports.access(subsystem, host).is_some())
        .filter(|subsystem| asker.subsystem.is_none_or(|own| own == subsystem.id))
        .collect();
    let name = value.to_ascii_lowercase();
    match (value, asker.subsystem) {
        ("All", None) | ("", Some(_)) => {
            visible.iter().for_each(|subsystem| tell(directory, asker, subsystem, out))
        }
        ("All", Some(_)) | ("", None) => return None,
        _ => visible
            .iter()
            .filter(|subsystem| subsystem.iqn == name)
            .for_each(|subsystem| tell(directory, asker, subsystem, out)),
    }
    Some(())
}

fn tell(directory: &Directory, asker: &Asker, subsystem: &Subsystem, out: &mut Vec<u8>) {
    put(out, "TargetName", &subsystem.iqn);
    let mut told = Vec::new();
    for (number, portal) in (0_u16..).zip(directory.portals()) {
        let address = portal.address_for(asker.local, number == asker.portal);
        // Without scope and flow label, which mean nothing elsewhere.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if !told.contains(&address) {
            put(out, "TargetAddress", &format!("{address},{PORTAL_GROUP_TAG}"));
            told.push(address);
        }
    }
}
