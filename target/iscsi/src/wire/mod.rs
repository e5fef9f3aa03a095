//! Basic header segments, byte for byte. RFC 7143 §11 "iSCSI PDU Formats". All numbers are big-endian.

mod ahs;
mod requests;
mod responses;

pub(crate) use ahs::{Additional, CDB_LEN_MAX};
pub(crate) use requests::{
    ATTRIBUTE_ACA, DataOut, LoginRequest, LogoutRequest, NopOut, ScsiCommand, TaskRequest, TextRequestHeader,
};
pub(crate) use responses::{
    AsyncMessage, DataIn, LoginResponse, LogoutResponse, NopIn, R2t, Reject, ScsiResponse, TaskResponse,
    TextResponse,
};

use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a basic header segment.
pub(crate) const BHS_LEN: usize = 48;
/// Most bytes of additional header segments: TotalAHSLength counts words.
pub(crate) const AHS_LEN_MAX: usize = 255 * 4;
/// A tag that names nothing.
pub(crate) const NO_TAG: u32 = 0xffff_ffff;
/// F bit: the last, or only, PDU of its sequence.
pub(crate) const FINAL: u8 = 0x80;

/// Opcodes. §11.2.1.2 "Opcode".
pub(crate) mod opcode {
    pub(crate) const NOP_OUT: u8 = 0x00;
    pub(crate) const SCSI_COMMAND: u8 = 0x01;
    pub(crate) const TASK_MANAGEMENT: u8 = 0x02;
    pub(crate) const LOGIN: u8 = 0x03;
    pub(crate) const TEXT: u8 = 0x04;
    pub(crate) const DATA_OUT: u8 = 0x05;
    pub(crate) const LOGOUT: u8 = 0x06;
    pub(crate) const SNACK: u8 = 0x10;
    pub(crate) const NOP_IN: u8 = 0x20;
    pub(crate) const SCSI_RESPONSE: u8 = 0x21;
    pub(crate) const TASK_RESPONSE: u8 = 0x22;
    pub(crate) const LOGIN_RESPONSE: u8 = 0x23;
    pub(crate) const TEXT_RESPONSE: u8 = 0x24;
    pub(crate) const DATA_IN: u8 = 0x25;
    pub(crate) const LOGOUT_RESPONSE: u8 = 0x26;
    pub(crate) const R2T: u8 = 0x31;
    pub(crate) const ASYNC: u8 = 0x32;
    pub(crate) const REJECT: u8 = 0x3f;
}

/// Reasons of a Reject. §11.17.1 "Reason".
pub(crate) mod reason {
    pub(crate) const DATA_DIGEST: u8 = 0x02;
    pub(crate) const PROTOCOL: u8 = 0x04;
    pub(crate) const NOT_SUPPORTED: u8 = 0x05;
    pub(crate) const IMMEDIATE: u8 = 0x06;
    pub(crate) const IN_PROGRESS: u8 = 0x07;
    pub(crate) const INVALID_FIELD: u8 = 0x09;
}

/// What all headers have in common.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Bhs {
    first: u8,
    pub(crate) flags: u8,
    specific: [u8; 2],
    pub(crate) ahs_words: u8,
    data_len: [u8; 3],
    pub(crate) lun: [u8; 8],
    pub(crate) itt: U32,
    pub(crate) ttt: U32,
    /// Of requests that are numbered.
    pub(crate) cmd_sn: U32,
    pub(crate) exp_stat_sn: U32,
    rest: [u8; 16],
}

const _: () = assert!(size_of::<Bhs>() == BHS_LEN);

impl Bhs {
    /// Without the I bit.
    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x3f
    }

    /// I bit: the request stands outside the command window.
    pub(crate) fn is_immediate(&self) -> bool {
        self.first & 0x40 != 0
    }

    /// F bit.
    pub(crate) fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// Bytes of the data segment, without padding.
    pub(crate) fn data_len(&self) -> usize {
        let [a, b, c] = self.data_len;
        usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX)
    }

    /// Bytes of the additional header segments.
    pub(crate) fn ahs_len(&self) -> usize {
        usize::from(self.ahs_words) * 4
    }
}

/// DataSegmentLength. Lengths of our own making: none comes near 16 MiB.
pub(crate) fn wire_len(len: usize) -> [u8; 3] {
    let [_, a, b, c] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c]
}

/// Bytes that fill a segment up to a multiple of four.
pub(crate) fn padding(len: usize) -> usize {
    len.next_multiple_of(4) - len
}
