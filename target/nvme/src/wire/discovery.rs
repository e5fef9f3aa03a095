//! The Discovery log page. Base 2.1 §5.1.12.3.1 "Discovery Log Page (Log Page Identifier 70h)".

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The name of every discovery subsystem that has no unique one.
pub(crate) const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// The head of the page.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DiscoveryHeader {
    /// Changes whenever the records change.
    pub(crate) generation: U64,
    pub(crate) records: U64,
    zero_16: [u8; 1008],
}
const _: () = assert!(size_of::<DiscoveryHeader>() == 1024);

/// One record.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DiscoveryEntry {
    pub(crate) transport: u8,
    pub(crate) address_family: u8,
    pub(crate) subsystem_type: u8,
    pub(crate) requirements: u8,
    pub(crate) port: U16,
    pub(crate) cntlid: U16,
    pub(crate) admin_queue_entries: U16,
    pub(crate) flags: U16,
    zero_12: [u8; 20],
    pub(crate) service: [u8; 32],
    zero_64: [u8; 192],
    pub(crate) subnqn: [u8; 256],
    pub(crate) address: [u8; 256],
    /// For TCP byte 0 is SECTYPE; 0: no security.
    zero_768: [u8; 256],
}
const _: () = assert!(size_of::<DiscoveryEntry>() == 1024);

/// TRTYPE of TCP.
pub(crate) const TRANSPORT_TCP: u8 = 3;
/// ADRFAM of IPv4.
pub(crate) const ADDRESS_IPV4: u8 = 1;
/// ADRFAM of IPv6.
pub(crate) const ADDRESS_IPV6: u8 = 2;
/// SUBTYPE of a subsystem with namespaces.
pub(crate) const SUBTYPE_NVM: u8 = 2;
/// SUBTYPE of the discovery subsystem that is being asked.
pub(crate) const SUBTYPE_CURRENT: u8 = 3;
/// TREQ: flow control of submission queues may be disabled.
pub(crate) const TREQ_FLOW_CONTROL_OPTIONAL: u8 = 1 << 2;
/// EFLAGS of the discovery subsystem's record: every portal gives the same answers (DUPRETINFO), and connections may stay for
/// notices (EPCSD).
pub(crate) const EFLAGS_CURRENT: u16 = 0b11;
