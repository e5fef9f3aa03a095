//! Log pages. Base 2.1 §5.1.12 "Get Log Page command".

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sqe::Sqe;

/// Log page identifiers.
pub(crate) mod lid {
    pub(crate) const SUPPORTED: u8 = 0x00;
    pub(crate) const ERROR: u8 = 0x01;
    pub(crate) const SMART: u8 = 0x02;
    pub(crate) const FIRMWARE_SLOT: u8 = 0x03;
    pub(crate) const CHANGED_NAMESPACES: u8 = 0x04;
    pub(crate) const EFFECTS: u8 = 0x05;
    pub(crate) const PERSISTENT_EVENTS: u8 = 0x0d;
    pub(crate) const FEATURES: u8 = 0x12;
    pub(crate) const MANAGEMENT_COMMANDS: u8 = 0x13;
    pub(crate) const DISCOVERY: u8 = 0x70;
}

/// A Get Log Page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogFields {
    pub(crate) lid: u8,
    /// LSP: what it means is the page's.
    pub(crate) specific: u8,
    /// RAE: the event that led here stays masked.
    pub(crate) retain_event: bool,
    /// Bytes wanted, from the zeroes based number of dwords.
    pub(crate) length: u64,
    pub(crate) offset: u64,
    /// OT: the offset is an index of structures, which none of our pages has.
    pub(crate) index_offset: bool,
    pub(crate) command_set: u8,
}

impl LogFields {
    pub(crate) fn of(sqe: &Sqe) -> LogFields {
        let [lid, specific, low_a, low_b] = sqe.cdw10.to_bytes();
        let [high_a, high_b, ..] = sqe.cdw11.to_bytes();
        let dwords = u64::from(u32::from_le_bytes([low_a, low_b, high_a, high_b])) + 1;
        let [.., command_set] = sqe.cdw14.to_bytes();
        LogFields {
            lid,
            specific: specific & 0x7f,
            retain_event: sqe.cdw10.get() & (1 << 15) != 0,
            length: dwords * 4,
            offset: u64::from(sqe.cdw12.get()) | (u64::from(sqe.cdw13.get()) << 32),
            index_offset: sqe.cdw14.get() & (1 << 23) != 0,
            command_set,
        }
    }
}

/// An entry of the error log. Base 2.1 §5.1.12.1.2 "Error Information (Log Page Identifier 01h)"; NVM Command Set 1.1 §4.1.4.1 for
/// the LBA.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ErrorEntry {
    pub(crate) count: U64,
    pub(crate) sqid: U16,
    pub(crate) cid: U16,
    /// As in the completion, whose phase tag is bit 0.
    pub(crate) status: U16,
    /// Byte in bits 7:0, bit in bits 10:8; all ones where no part of the command is wrong.
    pub(crate) location: U16,
    /// The lowest block with the error, where blocks have one.
    pub(crate) lba: U64,
    pub(crate) nsid: U32,
    zero_28: u8,
    pub(crate) transport: u8,
    pub(crate) command_set: u8,
    pub(crate) opcode: u8,
    zero_32: [u8; 31],
    pub(crate) version: u8,
}
const _: () = assert!(size_of::<ErrorEntry>() == 64);
const _: () = assert!(std::mem::offset_of!(ErrorEntry, transport) == 29);

/// Log Page Version of an [`ErrorEntry`] that names command set and opcode.
pub(crate) const ERROR_ENTRY_VERSION: u8 = 1;

/// SMART / Health Information. Base 2.1 §5.1.12.1.3. Counts have 128 bits; ours have half of that.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SmartLog {
    pub(crate) critical_warning: u8,
    pub(crate) temperature_kelvin: U16,
    pub(crate) available_spare_percent: u8,
    pub(crate) spare_threshold_percent: u8,
    zero_5: [u8; 27],
    /// In thousands of 512 bytes, rounded up.
    pub(crate) data_units_read: U64,
    zero_40: [u8; 8],
    pub(crate) data_units_written: U64,
    zero_56: [u8; 8],
    pub(crate) host_read_commands: U64,
    zero_72: [u8; 8],
    pub(crate) host_write_commands: U64,
    zero_88: [u8; 24],
    pub(crate) power_cycles: U64,
    zero_120: [u8; 8],
    pub(crate) power_on_hours: U64,
    zero_136: [u8; 24],
    pub(crate) media_errors: U64,
    zero_168: [u8; 8],
    pub(crate) error_log_entries: U64,
    zero_184: [u8; 328],
}
const _: () = assert!(size_of::<SmartLog>() == 512);
const _: () = assert!(std::mem::offset_of!(SmartLog, data_units_written) == 48);
const _: () = assert!(std::mem::offset_of!(SmartLog, power_cycles) == 112);
const _: () = assert!(std::mem::offset_of!(SmartLog, media_errors) == 160);

/// Critical Warning: a temperature threshold is reached.
pub(crate) const WARNING_TEMPERATURE: u8 = 1 << 1;

/// Firmware Slot Information. Base 2.1 §5.1.12.1.4.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct FirmwareLog {
    pub(crate) active_slot: u8,
    zero_1: [u8; 7],
    pub(crate) slot_1: [u8; 8],
    zero_16: [u8; 496],
}
const _: () = assert!(size_of::<FirmwareLog>() == 512);

/// Commands Supported and Effects. Base 2.1 §5.1.12.1.6: a dword for each opcode, admin commands first.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct EffectsLog {
    pub(crate) admin: [U32; 256],
    pub(crate) io: [U32; 256],
    zero_2048: [u8; 2048],
}
const _: () = assert!(size_of::<EffectsLog>() == 4096);

/// CSUPP: supported.
pub(crate) const EFFECT_SUPPORTED: u32 = 1;
/// LBCC: logical block content may change.
pub(crate) const EFFECT_CONTENT_CHANGES: u32 = 1 << 1;
/// CSP: a command's scope is the namespace.
pub(crate) const EFFECT_SCOPE_NAMESPACE: u32 = 1 << 20;
/// As above: the controller.
pub(crate) const EFFECT_SCOPE_CONTROLLER: u32 = 1 << 21;

/// Feature Identifiers Supported and Effects. Base 2.1 §5.1.12.1.18 "Feature Identifiers Supported and Effects (Log Page Identifier
/// 12h)", and its like for management commands: a dword for each identifier. The bits are those of commands.
pub(crate) const IDENTIFIER_EFFECTS_LEN: usize = 1024;
/// Bytes of the page of management commands. Base 2.1 §5.1.12.1.19 "NVMe-MI Commands Supported and Effects (Log Page Identifier 13h)".
pub(crate) const MANAGEMENT_EFFECTS_LEN: usize = 4096;

/// LSUPP of the Supported Log Pages log page. Base 2.1 §5.1.12.1.1.
pub(crate) const LOG_SUPPORTED: u32 = 1;
/// Its LID Specific Parameter for the persistent event log: a context can be established while the header is read.
pub(crate) const LOG_CONTEXT_WITH_HEADER: u32 = 1 << 16;
