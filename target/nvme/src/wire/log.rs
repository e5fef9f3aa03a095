//! Log pages. Base 2.1 §5.1.12 "Get Log Page command".

use zerocopy::little_endian::U32;
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
    pub(crate) const DISCOVERY: u8 = 0x70;
}

/// A Get Log Page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogFields {
    pub(crate) lid: u8,
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
        let [lid, _, low_a, low_b] = sqe.cdw10.to_bytes();
        let [high_a, high_b, ..] = sqe.cdw11.to_bytes();
        let dwords = u64::from(u32::from_le_bytes([low_a, low_b, high_a, high_b])) + 1;
        let [.., command_set] = sqe.cdw14.to_bytes();
        LogFields {
            lid,
            retain_event: sqe.cdw10.get() & (1 << 15) != 0,
            length: dwords * 4,
            offset: u64::from(sqe.cdw12.get()) | (u64::from(sqe.cdw13.get()) << 32),
            index_offset: sqe.cdw14.get() & (1 << 23) != 0,
            command_set,
        }
    }
}

/// SMART / Health Information. Base 2.1 §5.1.12.1.3. Nothing wears out and no temperature is known here.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SmartLog {
    zero_0: [u8; 3],
    pub(crate) available_spare_percent: u8,
    pub(crate) spare_threshold_percent: u8,
    zero_5: [u8; 507],
}
const _: () = assert!(size_of::<SmartLog>() == 512);

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

/// Bytes of an entry of the Error Information log page. Base 2.1 §5.1.12.1.2.
pub(crate) const ERROR_ENTRY_LEN: usize = 64;

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
