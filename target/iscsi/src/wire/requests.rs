//! What initiators send.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::BHS_LEN;

/// §11.3 "SCSI Command".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ScsiCommand {
    opcode: u8,
    pub(crate) flags: u8,
    reserved: [u8; 2],
    lengths: [u8; 4],
    pub(crate) lun: [u8; 8],
    pub(crate) itt: U32,
    pub(crate) expected_len: U32,
    cmd_sn: U32,
    exp_stat_sn: U32,
    pub(crate) cdb: [u8; 16],
}

/// The last of the task attributes untagged, simple, ordered, head of queue and ACA. §11.3.1 "Flags and Task Attributes (Byte 1)".
pub(crate) const ATTRIBUTE_ACA: u8 = 4;

impl ScsiCommand {
    /// R: data is expected.
    pub(crate) fn reads(&self) -> bool {
        self.flags & 0x40 != 0
    }

    /// Task attribute.
    pub(crate) fn attribute(&self) -> u8 {
        self.flags & 0x07
    }

    /// W: data comes.
    pub(crate) fn writes(&self) -> bool {
        self.flags & 0x20 != 0
    }
}

/// §11.5 "Task Management Function Request".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct TaskRequest {
    opcode: u8,
    function: u8,
    reserved: [u8; 2],
    lengths: [u8; 4],
    pub(crate) lun: [u8; 8],
    pub(crate) itt: U32,
    pub(crate) referenced: U32,
    pub(crate) cmd_sn: U32,
    exp_stat_sn: U32,
    pub(crate) ref_cmd_sn: U32,
    exp_data_sn: U32,
    reserved_end: [u8; 8],
}

impl TaskRequest {
    /// Function, 7 bits.
    pub(crate) fn function(&self) -> u8 {
        self.function & 0x7f
    }
}

/// §11.7 "SCSI Data-Out and SCSI Data-In".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DataOut {
    opcode: u8,
    flags: u8,
    reserved: [u8; 2],
    lengths: [u8; 4],
    lun: [u8; 8],
    pub(crate) itt: U32,
    pub(crate) ttt: U32,
    reserved_a: [u8; 4],
    exp_stat_sn: U32,
    reserved_b: [u8; 4],
    pub(crate) data_sn: U32,
    pub(crate) offset: U32,
    reserved_c: [u8; 4],
}

/// §11.10 "Text Request".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct TextRequestHeader {
    opcode: u8,
    pub(crate) flags: u8,
    reserved: [u8; 2],
    lengths: [u8; 4],
    lun: [u8; 8],
    pub(crate) itt: U32,
    pub(crate) ttt: U32,
    cmd_sn: U32,
    exp_stat_sn: U32,
    reserved_end: [u8; 16],
}

/// §11.12 "Login Request".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct LoginRequest {
    opcode: u8,
    pub(crate) flags: u8,
    pub(crate) version_max: u8,
    pub(crate) version_min: u8,
    lengths: [u8; 4],
    pub(crate) isid: [u8; 6],
    pub(crate) tsih: U16,
    pub(crate) itt: U32,
    pub(crate) cid: U16,
    reserved: [u8; 2],
    pub(crate) cmd_sn: U32,
    pub(crate) exp_stat_sn: U32,
    reserved_end: [u8; 16],
}

/// §11.14 "Logout Request".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct LogoutRequest {
    opcode: u8,
    reason: u8,
    reserved: [u8; 2],
    lengths: [u8; 4],
    reserved_a: [u8; 8],
    pub(crate) itt: U32,
    pub(crate) cid: U16,
    reserved_b: [u8; 2],
    cmd_sn: U32,
    exp_stat_sn: U32,
    reserved_end: [u8; 16],
}

impl LogoutRequest {
    /// Reason, 7 bits.
    pub(crate) fn reason(&self) -> u8 {
        self.reason & 0x7f
    }
}

/// §11.18 "NOP-Out".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct NopOut {
    opcode: u8,
    flags: u8,
    reserved: [u8; 2],
    lengths: [u8; 4],
    pub(crate) lun: [u8; 8],
    pub(crate) itt: U32,
    pub(crate) ttt: U32,
    cmd_sn: U32,
    exp_stat_sn: U32,
    reserved_end: [u8; 16],
}

const _: () = {
    assert!(size_of::<ScsiCommand>() == BHS_LEN && size_of::<TaskRequest>() == BHS_LEN);
    assert!(size_of::<DataOut>() == BHS_LEN && size_of::<TextRequestHeader>() == BHS_LEN);
    assert!(size_of::<LoginRequest>() == BHS_LEN && size_of::<LogoutRequest>() == BHS_LEN);
    assert!(size_of::<NopOut>() == BHS_LEN);
};
