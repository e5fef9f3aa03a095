//! PDU headers. NVMe/TCP 1.1 §3.6 "NVMe/TCP PDUs".

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sqe::{Cqe, Sqe};

/// PDU types. §3.6.1 "Common Header", Figure "PDU Types".
pub(crate) mod pdu_type {
    pub(crate) const IC_REQ: u8 = 0x00;
    pub(crate) const IC_RESP: u8 = 0x01;
    pub(crate) const H2C_TERM_REQ: u8 = 0x02;
    pub(crate) const C2H_TERM_REQ: u8 = 0x03;
    pub(crate) const CAPSULE_CMD: u8 = 0x04;
    pub(crate) const CAPSULE_RESP: u8 = 0x05;
    pub(crate) const H2C_DATA: u8 = 0x06;
    pub(crate) const C2H_DATA: u8 = 0x07;
    pub(crate) const R2T: u8 = 0x09;
}

/// FLAGS: a header digest follows the header.
pub(crate) const FLAG_HDGST: u8 = 0x01;
/// FLAGS: a data digest follows the data.
pub(crate) const FLAG_DDGST: u8 = 0x02;
/// FLAGS of H2CData and C2HData: the last PDU of the transfer.
pub(crate) const FLAG_LAST: u8 = 0x04;
/// FLAGS of C2HData: no response follows, the command succeeded.
pub(crate) const FLAG_SUCCESS: u8 = 0x08;

/// Bytes of the common header.
pub(crate) const COMMON_LEN: usize = 8;
/// Header length of ICReq and ICResp, which are all header.
pub(crate) const IC_LEN: usize = 128;
/// Header length of CapsuleCmd.
pub(crate) const COMMAND_LEN: usize = 72;
/// Header length of CapsuleResp, H2CData, C2HData, R2T and both TermReq.
pub(crate) const SHORT_LEN: usize = 24;

/// Offsets of fields that errors point at (FEI).
pub(crate) mod offset {
    pub(crate) const PDU_TYPE: u32 = 0;
    pub(crate) const FLAGS: u32 = 1;
    pub(crate) const HLEN: u32 = 2;
    pub(crate) const PDO: u32 = 3;
    pub(crate) const PLEN: u32 = 4;
    pub(crate) const PFV: u32 = 8;
    pub(crate) const HPDA: u32 = 10;
    pub(crate) const CCCID: u32 = 8;
    pub(crate) const TTAG: u32 = 10;
    pub(crate) const DATAO: u32 = 12;
    pub(crate) const DATAL: u32 = 16;
}

/// The start of every PDU. §3.6.1 "Common Header".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CommonHeader {
    pub(crate) pdu_type: u8,
    pub(crate) flags: u8,
    pub(crate) hlen: u8,
    pub(crate) pdo: u8,
    pub(crate) plen: U32,
}
const _: () = assert!(size_of::<CommonHeader>() == COMMON_LEN);

/// ICReq and ICResp. §3.6.2.2, §3.6.2.3 "Initialize Connection Request/Response PDU".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct InitializeConnection {
    pub(crate) common: CommonHeader,
    pub(crate) pfv: U16,
    /// HPDA or CPDA: alignment of data towards the sender, in dwords, zeroes based.
    pub(crate) pda: u8,
    pub(crate) dgst: u8,
    /// MAXR2T in a request, MAXH2CDATA in a response.
    pub(crate) limit: U32,
    reserved: [u8; 112],
}
const _: () = assert!(size_of::<InitializeConnection>() == IC_LEN);

/// DGST: header digests are enabled.
pub(crate) const DGST_HEADER: u8 = 0x01;
/// DGST: data digests are enabled.
pub(crate) const DGST_DATA: u8 = 0x02;
/// Largest HPDA: 128 bytes.
pub(crate) const HPDA_MAX: u8 = 31;

impl InitializeConnection {
    /// ICResp: PDU format version 0, no alignment wanted.
    pub(crate) fn response(dgst: u8, maxh2cdata: u32) -> Self {
        let length = 128;
        InitializeConnection {
            common: CommonHeader {
                pdu_type: pdu_type::IC_RESP,
                flags: 0,
                hlen: length,
                pdo: 0,
                plen: U32::new(length.into()),
            },
            pfv: U16::ZERO,
            pda: 0,
            dgst,
            limit: U32::new(maxh2cdata),
            reserved: [0; 112],
        }
    }
}

/// Header of a command capsule. §3.6.2.6 "Command Capsule PDU (CapsuleCmd)".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CommandCapsule {
    pub(crate) common: CommonHeader,
    pub(crate) sqe: Sqe,
}
const _: () = assert!(size_of::<CommandCapsule>() == COMMAND_LEN);

/// A response capsule. §3.6.2.7 "Response Capsule PDU (CapsuleResp)".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ResponseCapsule {
    pub(crate) common: CommonHeader,
    pub(crate) cqe: Cqe,
}
const _: () = assert!(size_of::<ResponseCapsule>() == SHORT_LEN);

/// Header of H2CData, C2HData and R2T. §3.6.2.8 to §3.6.2.10. In an R2T the offset is R2TO and the length R2TL; C2HData has
/// no transfer tag.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DataHeader {
    pub(crate) common: CommonHeader,
    pub(crate) cccid: U16,
    pub(crate) ttag: U16,
    pub(crate) offset: U32,
    pub(crate) length: U32,
    pub(crate) reserved: [u8; 4],
}
const _: () = assert!(size_of::<DataHeader>() == SHORT_LEN);

/// Header of a C2HTermReq. §3.6.2.5 "Controller to Host Terminate Connection Request PDU". The Fatal Error Information
/// starts at an odd place, so it is kept as bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct TermReqHeader {
    pub(crate) common: CommonHeader,
    pub(crate) fes: U16,
    pub(crate) fei: [u8; 4],
    pub(crate) reserved: [u8; 10],
}
const _: () = assert!(size_of::<TermReqHeader>() == SHORT_LEN);
