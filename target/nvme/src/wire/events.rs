//! The Persistent Event log page. Base 2.1 §5.1.12.1.14 "Persistent Event (Log Page Identifier 0Dh)"; NVM Command Set 1.1 §4.1.4.4
//! for the Change Namespace event.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sqe::Cqe;

/// The head of the page.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct EventLogHeader {
    pub(crate) lid: u8,
    zero_1: [u8; 3],
    pub(crate) events: U32,
    pub(crate) log_len: U64,
    pub(crate) revision: u8,
    zero_17: u8,
    /// Bytes of the header behind the first 20.
    pub(crate) header_len: U16,
    pub(crate) timestamp: U64,
    pub(crate) power_on_hours: U64,
    zero_36: [u8; 8],
    pub(crate) power_cycles: U64,
    zero_52: [u8; 4],
    pub(crate) serial: [u8; 20],
    pub(crate) model: [u8; 40],
    pub(crate) subnqn: [u8; 256],
    pub(crate) generation: U16,
    pub(crate) context: U32,
    zero_378: [u8; 102],
    /// One bit per event type.
    pub(crate) supported: [u8; 32],
}
const _: () = assert!(size_of::<EventLogHeader>() == EVENT_LOG_HEADER_LEN);
const _: () = assert!(std::mem::offset_of!(EventLogHeader, generation) == 372);
const _: () = assert!(std::mem::offset_of!(EventLogHeader, supported) == 480);

/// Bytes of an [`EventLogHeader`].
pub(crate) const EVENT_LOG_HEADER_LEN: usize = 512;
/// Log Revision of Base 2.x.
pub(crate) const EVENT_LOG_REVISION: u8 = 3;
/// Reporting Context Information: a context existed before this command. The port that it came through is not told.
pub(crate) const CONTEXT_EXISTS: u32 = 1 << 18;
/// Timestamp in the header: counted from a time that was set, in bits 51:49.
pub(crate) const TIMESTAMP_ORIGIN_SET: u64 = 1 << 49;

/// Event types.
pub(crate) mod event_type {
    pub(crate) const SMART_SNAPSHOT: u8 = 0x01;
    pub(crate) const TIMESTAMP_CHANGE: u8 = 0x03;
    pub(crate) const POWER_ON_OR_RESET: u8 = 0x04;
    pub(crate) const HARDWARE_ERROR: u8 = 0x05;
    pub(crate) const CHANGE_NAMESPACE: u8 = 0x06;
    /// All of them.
    pub(crate) const ALL: [u8; 5] =
        [SMART_SNAPSHOT, TIMESTAMP_CHANGE, POWER_ON_OR_RESET, HARDWARE_ERROR, CHANGE_NAMESPACE];
}

/// In front of each event.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct EventHeader {
    pub(crate) event_type: u8,
    pub(crate) revision: u8,
    /// Bytes of the header behind the first 3.
    pub(crate) header_len: u8,
    pub(crate) port_type: u8,
    pub(crate) cntlid: U16,
    pub(crate) timestamp: U64,
    zero_14: [u8; 8],
    pub(crate) event_len: U16,
}
const _: () = assert!(size_of::<EventHeader>() == 24);

/// Event Header Length.
pub(crate) const EVENT_HEADER_EXTRA: u8 = 21;
/// Port Identifier Type: the event belongs to no port.
pub(crate) const PORT_NONE: u8 = 0b11;

/// Power-on or Reset, for one controller.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct PowerOnReset {
    pub(crate) firmware: [u8; 8],
    pub(crate) cntlid: U16,
    zero_10: [u8; 14],
    pub(crate) power_cycles: U32,
    pub(crate) up_ms: U64,
    pub(crate) timestamp: U64,
}
const _: () = assert!(size_of::<PowerOnReset>() == 44);

/// Timestamp Change.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct TimestampChange {
    pub(crate) previous: U64,
    pub(crate) since_reset_ms: U64,
}

/// NVM Subsystem Hardware Error, of a command that found damaged data.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct HardwareError {
    pub(crate) code: U16,
    zero_2: [u8; 2],
    pub(crate) completion: Cqe,
}
const _: () = assert!(size_of::<HardwareError>() == 20);

/// Code of [`HardwareError`]: Media and Data Integrity Status.
pub(crate) const HARDWARE_INTEGRITY: u16 = 0x0a;

/// Change Namespace.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct NamespaceChange {
    /// As in Namespace Management: create or delete.
    pub(crate) selection: U32,
    zero_4: [u8; 4],
    pub(crate) size: U64,
    zero_16: [u8; 8],
    pub(crate) capacity: U64,
    zero_32: u8,
    pub(crate) protection_type: u8,
    pub(crate) sharing: u8,
    zero_35: [u8; 9],
    pub(crate) nsid: U32,
}
const _: () = assert!(size_of::<NamespaceChange>() == 48);

/// Selection of a [`NamespaceChange`].
pub(crate) const CHANGE_CREATE: u32 = 0;
/// As above.
pub(crate) const CHANGE_DELETE: u32 = 1;
