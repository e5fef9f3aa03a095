//! PDUs, commands and completions as bytes, in both directions.
//!
//! NVMe over TCP Transport 1.1 §3.6 "PDU formats"; NVM Express Base 2.1 §4.1 "Submission Queue Entry" and
//! §4.2 "Completion Queue Entry". A well-formed [`Pdu`] becomes a [`Frame`], which is only bytes: a test may
//! change any of them before it is sent, with or without making the digests right again.

mod cqe;
mod frame;
mod pdu;
mod sqe;
mod status;

pub use cqe::Cqe;
pub use frame::Frame;
pub use pdu::{DataPdu, IcReq, IcResp, Pdu, R2t, TermReq, fes, kind};
pub use sqe::{Sqe, opcode};
pub use status::{Status, code};

/// Bytes of the PDU Common Header (CH).
pub const COMMON_HEADER_LEN: usize = 8;
/// Bytes of a header or data digest.
pub const DIGEST_LEN: usize = 4;
/// The longest PDU that the scripted host takes in: the largest transfer of the product (1 MiB of data with
/// 16 bytes of metadata for each 512-byte block), with room to spare. A longer PLEN is a lie or a mistake.
pub const PDU_LEN_MAX: usize = 4 << 20;

/// Which digests a connection uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    /// HDGST: a CRC-32C after each header (not in ICReq, ICResp and the TermReqs).
    pub header: bool,
    /// DDGST: a CRC-32C after each PDU's data.
    pub data: bool,
}

/// Why bytes are not a PDU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The type is none that this version of the transport defines.
    #[error("PDU type {0:#04x} is not defined")]
    UnknownType(u8),
    /// A length or offset field has another value than the PDU's type and digests ask for.
    #[error("{pdu} PDU: expected {field} {expected}, got {got}")]
    Field {
        /// The PDU's name.
        pdu: &'static str,
        /// The field's name.
        field: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        got: u64,
    },
    /// There are fewer bytes than the PDU needs.
    #[error("PDU is cut short: expected {expected} bytes, got {got}")]
    Short {
        /// Bytes that the PDU needs.
        expected: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// The header digest does not match.
    #[error("header digest: expected {expected:#010x}, got {got:#010x}")]
    HeaderDigest {
        /// Computed here.
        expected: u32,
        /// Found in the PDU.
        got: u32,
    },
    /// The data digest does not match.
    #[error("data digest: expected {expected:#010x}, got {got:#010x}")]
    DataDigest {
        /// Computed here.
        expected: u32,
        /// Found in the PDU.
        got: u32,
    },
}

/// CRC-32C as digests use it.
#[must_use]
pub fn digest(bytes: &[u8]) -> u32 {
    crate::crc::crc32c(bytes)
}

/// Reads a little-endian 16-bit field; `None` beyond the end.
#[must_use]
pub fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// Reads a little-endian 32-bit field; `None` beyond the end.
#[must_use]
pub fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// Reads a little-endian 64-bit field; `None` beyond the end.
#[must_use]
pub fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}
