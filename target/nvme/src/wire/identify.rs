//! Identify Controller. Base 2.1 §5.1.13.2.1 "Identify Controller Data Structure (CNS 01h)".

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sqe::Sqe;

/// Bytes of every Identify data structure.
pub(crate) const IDENTIFY_LEN: usize = 4096;

/// CSI of the NVM command set.
pub(crate) const CSI_NVM: u8 = 0;

/// An Identify.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdentifyFields {
    pub(crate) cns: u8,
    pub(crate) cntid: u16,
    /// CSI.
    pub(crate) command_set: u8,
}

impl IdentifyFields {
    pub(crate) fn of(sqe: &Sqe) -> IdentifyFields {
        let [cns, _, low, high] = sqe.cdw10.to_bytes();
        let [.., command_set] = sqe.cdw11.to_bytes();
        IdentifyFields { cns, cntid: u16::from_le_bytes([low, high]), command_set }
    }
}

/// CNS values. Base 2.1 §5.1.13.1 "Command Processing".
pub(crate) mod cns {
    pub(crate) const NAMESPACE: u8 = 0x00;
    pub(crate) const CONTROLLER: u8 = 0x01;
    pub(crate) const ACTIVE_NAMESPACES: u8 = 0x02;
    pub(crate) const DESCRIPTORS: u8 = 0x03;
    pub(crate) const NAMESPACE_OF_COMMAND_SET: u8 = 0x05;
    pub(crate) const CONTROLLER_OF_COMMAND_SET: u8 = 0x06;
    pub(crate) const ACTIVE_NAMESPACES_OF_COMMAND_SET: u8 = 0x07;
    pub(crate) const INDEPENDENT_NAMESPACE: u8 = 0x08;
    pub(crate) const ALLOCATED_NAMESPACES: u8 = 0x10;
    pub(crate) const ALLOCATED_NAMESPACE: u8 = 0x11;
    pub(crate) const ATTACHED_CONTROLLERS: u8 = 0x12;
    pub(crate) const CONTROLLERS: u8 = 0x13;
    pub(crate) const ALLOCATED_NAMESPACES_OF_COMMAND_SET: u8 = 0x1a;
    pub(crate) const ALLOCATED_NAMESPACE_OF_COMMAND_SET: u8 = 0x1b;
    pub(crate) const COMMAND_SETS: u8 = 0x1c;
    pub(crate) const ALLOCATED_INDEPENDENT_NAMESPACE: u8 = 0x1f;
}

/// The controller. Fields that are always zero here are left unnamed.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct IdentifyController {
    zero_0: [u8; 4],
    pub(crate) serial: [u8; 20],
    pub(crate) model: [u8; 40],
    pub(crate) firmware: [u8; 8],
    zero_72: [u8; 4],
    pub(crate) cmic: u8,
    pub(crate) mdts: u8,
    pub(crate) cntlid: U16,
    pub(crate) version: U32,
    zero_84: [u8; 8],
    pub(crate) oaes: U32,
    pub(crate) ctratt: U32,
    zero_100: [u8; 11],
    pub(crate) controller_type: u8,
    zero_112: [u8; 141],
    pub(crate) subsystem_report: u8,
    zero_254: [u8; 2],
    pub(crate) oacs: U16,
    pub(crate) abort_limit: u8,
    pub(crate) async_event_limit: u8,
    pub(crate) firmware_updates: u8,
    pub(crate) log_attributes: u8,
    pub(crate) error_log_entries: u8,
    zero_263: [u8; 57],
    pub(crate) keep_alive_support: U16,
    zero_322: [u8; 30],
    pub(crate) persistent_event_log_units: U32,
    zero_356: [u8; 156],
    pub(crate) sqes: u8,
    pub(crate) cqes: u8,
    pub(crate) maxcmd: U16,
    pub(crate) namespaces: U32,
    pub(crate) oncs: U16,
    pub(crate) fused: U16,
    zero_524: u8,
    pub(crate) volatile_write_cache: u8,
    /// AWUN, zeroes based, in blocks of every namespace.
    pub(crate) atomic_write: U16,
    /// AWUPF, zeroes based.
    pub(crate) atomic_write_power_fail: U16,
    zero_530: [u8; 2],
    /// ACWU, zeroes based.
    pub(crate) atomic_compare_write: U16,
    /// CDFS.
    pub(crate) copy_formats: U16,
    pub(crate) sgls: U32,
    pub(crate) namespaces_allowed: U32,
    zero_544: [u8; 224],
    pub(crate) subnqn: [u8; 256],
    zero_1024: [u8; 768],
    pub(crate) ioccsz: U32,
    pub(crate) iorcsz: U32,
    pub(crate) icdoff: U16,
    pub(crate) fcatt: u8,
    pub(crate) msdbd: u8,
    pub(crate) ofcs: U16,
    zero_1806: [u8; 2290],
}
const _: () = assert!(size_of::<IdentifyController>() == IDENTIFY_LEN);
const _: () = assert!(std::mem::offset_of!(IdentifyController, cmic) == 76);
const _: () = assert!(std::mem::offset_of!(IdentifyController, controller_type) == 111);
const _: () = assert!(std::mem::offset_of!(IdentifyController, subsystem_report) == 253);
const _: () = assert!(std::mem::offset_of!(IdentifyController, oacs) == 256);
const _: () = assert!(std::mem::offset_of!(IdentifyController, persistent_event_log_units) == 352);
const _: () = assert!(std::mem::offset_of!(IdentifyController, keep_alive_support) == 320);
const _: () = assert!(std::mem::offset_of!(IdentifyController, sqes) == 512);
const _: () = assert!(std::mem::offset_of!(IdentifyController, volatile_write_cache) == 525);
const _: () = assert!(std::mem::offset_of!(IdentifyController, copy_formats) == 534);
const _: () = assert!(std::mem::offset_of!(IdentifyController, sgls) == 536);
const _: () = assert!(std::mem::offset_of!(IdentifyController, subnqn) == 768);
const _: () = assert!(std::mem::offset_of!(IdentifyController, ioccsz) == 1792);

/// CMIC: more than one port.
pub(crate) const CMIC_MULTIPLE_PORTS: u8 = 1 << 0;
/// CMIC: more than one controller.
pub(crate) const CMIC_MULTIPLE_CONTROLLERS: u8 = 1 << 1;
/// OAES: Namespace Attribute Changed notices.
pub(crate) const OAES_NAMESPACE_ATTRIBUTE: u32 = 1 << 8;
/// OAES: Discovery Log Page Changed notices.
pub(crate) const OAES_DISCOVERY_LOG: u32 = 1 << 31;
/// CTRATT: 128-bit host identifiers.
pub(crate) const CTRATT_HIDS: u32 = 1 << 0;
/// CTRATT: extended LBA formats.
pub(crate) const CTRATT_ELBAS: u32 = 1 << 15;
/// CTRATT: MDTS does not count metadata.
pub(crate) const CTRATT_MEM: u32 = 1 << 16;
/// LPA: the Commands Supported and Effects log page.
pub(crate) const LPA_EFFECTS: u8 = 1 << 1;
/// LPA: offsets and long lengths.
pub(crate) const LPA_EXTENDED: u8 = 1 << 2;
/// LPA: the Persistent Event log page.
pub(crate) const LPA_PERSISTENT_EVENTS: u8 = 1 << 4;
/// LPA: the log pages that say what there is: of log pages, features and management commands.
pub(crate) const LPA_SUPPORTED_PAGES: u8 = 1 << 5;
/// NVMSR: part of a storage device.
pub(crate) const NVMSR_STORAGE_DEVICE: u8 = 1 << 0;
/// FRMW: one slot, read only.
pub(crate) const FRMW_ONE_SLOT: u8 = (1 << 1) | 1;
/// ONCS: Compare, Write Uncorrectable, Dataset Management, Write Zeroes, the select field of Get Features, Timestamp, Verify,
/// Copy, which is atomic and always a fast one, Write Zeroes of whole namespaces.
pub(crate) const ONCS: u16 = 0b1_0111_1101_1111;
/// FUSES: Compare and Write.
pub(crate) const FUSES_COMPARE_WRITE: u16 = 1;
/// CDFS: descriptor formats 0h to 3h.
pub(crate) const COPY_FORMATS: u16 = 0b1111;
/// VWC: present; Flush takes the broadcast NSID.
pub(crate) const VWC_PRESENT: u8 = 0b111;
/// SGLS: supported; lengths may exceed the transfer; offsets into the capsule; Transport SGL Data Blocks.
pub(crate) const SGLS: u32 = 1 | (1 << 18) | (1 << 20) | (1 << 21);
/// OFCS: Disconnect.
pub(crate) const OFCS_DISCONNECT: u16 = 1;

/// Identify Controller of the NVM command set. NVM Command Set 1.1 §4.1.5.2 "I/O Command Set Specific Identify Controller
/// data structure (CNS 06h, CSI 00h)".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct IdentifyControllerNvm {
    pub(crate) verify_size_limit: u8,
    pub(crate) write_zeroes_size_limit: u8,
    pub(crate) write_uncorrectable_size_limit: u8,
    zero_3: [u8; 4093],
}
const _: () = assert!(size_of::<IdentifyControllerNvm>() == IDENTIFY_LEN);
