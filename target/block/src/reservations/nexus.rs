//! Who reservations tell apart. SPC-4 5.13.1 "Persistent Reservations overview": a pair of an initiator port and a target
//! port; NVMe Base 2.1 8.1.22 "Reservations": a host, through whatever controllers.

use std::fmt;
use std::sync::Arc;

use crate::SubsystemId;

/// Longest iSCSI name in bytes. RFC 7143 4.2.7.2 "iSCSI Name Encoding".
pub const INITIATOR_NAME_LEN_MAX: usize = 223;

/// One who can register and hold a reservation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nexus {
    /// An initiator port at a target port: SCSI's I_T nexus.
    Scsi {
        /// The initiator's side.
        initiator: InitiatorPort,
        /// The target's side.
        target: TargetPort,
    },
    /// An NVMe host by its Host Identifier.
    Nvme {
        /// As in Connect.
        host: [u8; 16],
    },
}

/// An iSCSI initiator port: SPC-4 7.6.4.6 "TransportID for initiator ports using SCSI over iSCSI".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InitiatorPort {
    name: Arc<str>,
    isid: [u8; 6],
}

impl InitiatorPort {
    /// A port by the initiator's normalised name, 1 to [`INITIATOR_NAME_LEN_MAX`] bytes, and the session's ISID.
    pub fn new(name: &str, isid: [u8; 6]) -> Option<Self> {
        let fits = (1..=INITIATOR_NAME_LEN_MAX).contains(&name.len());
        fits.then(|| InitiatorPort { name: Arc::from(name), isid })
    }

    /// The initiator's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Initiator Session ID.
    pub fn isid(&self) -> [u8; 6] {
        self.isid
    }
}

impl fmt::Debug for InitiatorPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},i,0x", self.name)?;
        self.isid.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A SCSI target port, over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetPort {
    /// Whose.
    pub subsystem: SubsystemId,
    /// Relative target port identifier within it.
    pub relative: u16,
}
