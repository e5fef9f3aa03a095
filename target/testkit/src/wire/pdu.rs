//! The nine PDUs of NVMe/TCP. NVMe over TCP Transport 1.1 §3.6.2 "PDU Definitions".

use std::fmt;

use super::frame::Frame;
use super::{Cqe, Digests, Sqe, WireError, le16, le32};

/// PDU types.
pub mod kind {
    /// Initialize Connection Request.
    pub const IC_REQ: u8 = 0x00;
    /// Initialize Connection Response.
    pub const IC_RESP: u8 = 0x01;
    /// Host to Controller Terminate Connection Request.
    pub const H2C_TERM_REQ: u8 = 0x02;
    /// Controller to Host Terminate Connection Request.
    pub const C2H_TERM_REQ: u8 = 0x03;
    /// Command Capsule.
    pub const CAPSULE_CMD: u8 = 0x04;
    /// Response Capsule.
    pub const CAPSULE_RESP: u8 = 0x05;
    /// Host to Controller Data Transfer.
    pub const H2C_DATA: u8 = 0x06;
    /// Controller to Host Data Transfer.
    pub const C2H_DATA: u8 = 0x07;
    /// Ready to Transfer.
    pub const R2T: u8 = 0x09;
}

/// Fatal Error Status values of the TermReqs.
pub mod fes {
    /// Invalid PDU Header Field; FEI is the field's offset.
    pub const INVALID_HEADER_FIELD: u16 = 0x01;
    /// PDU Sequence Error.
    pub const SEQUENCE_ERROR: u16 = 0x02;
    /// Header Digest Error; FEI is the digest that was received.
    pub const HEADER_DIGEST: u16 = 0x03;
    /// Data Transfer Out of Range.
    pub const OUT_OF_RANGE: u16 = 0x04;
    /// Data Transfer Limit Exceeded (R2T Limit Exceeded towards the controller).
    pub const LIMIT_EXCEEDED: u16 = 0x05;
    /// Unsupported Parameter; FEI is the parameter's offset.
    pub const UNSUPPORTED_PARAMETER: u16 = 0x06;
}

/// H2CData and C2HData FLAGS bit 2: the last PDU of this transfer.
const FLAG_LAST: u8 = 0x04;
/// C2HData FLAGS bit 3: the command succeeded, and no CapsuleResp follows.
const FLAG_SUCCESS: u8 = 0x08;

const IC_LEN: usize = 128;
const SHORT_LEN: usize = 24;
const CAPSULE_CMD_LEN: usize = 72;

/// Initialize Connection Request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IcReq {
    /// PDU Format Version, 0 today.
    pub pfv: u16,
    /// Host PDU Data Alignment: C2H data starts at multiples of `(hpda + 1) * 4` bytes.
    pub hpda: u8,
    /// Digests that the host asks for (raw DGST byte: bit 0 header, bit 1 data).
    pub dgst: u8,
    /// Maximum Number of Outstanding R2T, 0's based.
    pub maxr2t: u32,
}

/// Initialize Connection Response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IcResp {
    /// PDU Format Version.
    pub pfv: u16,
    /// Controller PDU Data Alignment: H2C data starts at multiples of `(cpda + 1) * 4` bytes.
    pub cpda: u8,
    /// Digests that are on (raw DGST byte).
    pub dgst: u8,
    /// The most bytes of data in one H2CData PDU.
    pub maxh2cdata: u32,
}

/// An H2CData or C2HData PDU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataPdu {
    /// Command Capsule CID: whose data this is.
    pub cccid: u16,
    /// Transfer Tag (H2CData only; reserved in C2HData).
    pub ttag: u16,
    /// Data Offset into the command's buffer, in bytes.
    pub datao: u32,
    /// Data Length as the field says; encoding takes it as it is, so that it may lie.
    pub datal: u32,
    /// LAST_PDU.
    pub last: bool,
    /// SUCCESS (C2HData only).
    pub success: bool,
    /// The data.
    pub data: Vec<u8>,
}

/// Ready to Transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct R2t {
    /// Command Capsule CID.
    pub cccid: u16,
    /// Transfer Tag, to be repeated in each H2CData PDU.
    pub ttag: u16,
    /// Offset into the command's buffer, in bytes.
    pub r2to: u32,
    /// Length in bytes.
    pub r2tl: u32,
}

/// A Terminate Connection Request of either direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TermReq {
    /// Fatal Error Status, see [`fes`].
    pub fes: u16,
    /// Fatal Error Information: an offset or a digest, by FES.
    pub fei: u32,
    /// The header of the PDU that was at fault, up to 128 bytes.
    pub header: Vec<u8>,
}

impl fmt::Display for TermReq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.fes {
            fes::INVALID_HEADER_FIELD => "Invalid PDU Header Field",
            fes::SEQUENCE_ERROR => "PDU Sequence Error",
            fes::HEADER_DIGEST => "Header Digest Error",
            fes::OUT_OF_RANGE => "Data Transfer Out of Range",
            fes::LIMIT_EXCEEDED => "Data Transfer Limit Exceeded",
            fes::UNSUPPORTED_PARAMETER => "Unsupported Parameter",
            _ => "reserved status",
        };
        write!(f, "a terminate request: FES {:#04x} {name}, FEI {:#x}", self.fes, self.fei)
    }
}

/// One PDU, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pdu {
    /// Initialize Connection Request.
    IcReq(IcReq),
    /// Initialize Connection Response.
    IcResp(IcResp),
    /// Host to Controller Terminate Connection Request.
    H2cTermReq(TermReq),
    /// Controller to Host Terminate Connection Request.
    C2hTermReq(TermReq),
    /// Command Capsule with its in-capsule data (possibly none).
    CapsuleCmd {
        /// The command.
        sqe: Sqe,
        /// In-capsule data.
        data: Vec<u8>,
    },
    /// Response Capsule.
    CapsuleResp(Cqe),
    /// Data to the controller.
    H2cData(DataPdu),
    /// Data to the host.
    C2hData(DataPdu),
    /// Ready to Transfer.
    R2t(R2t),
}

impl Pdu {
    /// The specification's name of the PDU.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::IcReq(_) => "ICReq",
            Self::IcResp(_) => "ICResp",
            Self::H2cTermReq(_) => "H2CTermReq",
            Self::C2hTermReq(_) => "C2HTermReq",
            Self::CapsuleCmd { .. } => "CapsuleCmd",
            Self::CapsuleResp(_) => "CapsuleResp",
            Self::H2cData(_) => "H2CData",
            Self::C2hData(_) => "C2HData",
            Self::R2t(_) => "R2T",
        }
    }

    /// Lays the PDU out. `align` is the receiver's data alignment in bytes, `(PDA + 1) * 4`. Digests are left
    /// out where the PDU has none.
    #[must_use]
    pub fn encode(&self, digests: Digests, align: usize) -> Frame {
        match self {
            Self::IcReq(pdu) => ic_frame(kind::IC_REQ, pdu.pfv, pdu.hpda, pdu.dgst, pdu.maxr2t),
            Self::IcResp(pdu) => ic_frame(kind::IC_RESP, pdu.pfv, pdu.cpda, pdu.dgst, pdu.maxh2cdata),
            Self::H2cTermReq(pdu) => term_frame(kind::H2C_TERM_REQ, pdu),
            Self::C2hTermReq(pdu) => term_frame(kind::C2H_TERM_REQ, pdu),
            Self::CapsuleCmd { sqe, data } => {
                Frame::build(kind::CAPSULE_CMD, 0, sqe.as_bytes(), data, digests, align)
            }
            Self::CapsuleResp(cqe) => Frame::build(
                kind::CAPSULE_RESP,
                0,
                &cqe.to_bytes(),
                &[],
                Digests { data: false, ..digests },
                4,
            ),
            Self::H2cData(pdu) => data_frame(kind::H2C_DATA, pdu, digests, align),
            Self::C2hData(pdu) => data_frame(kind::C2H_DATA, pdu, digests, align),
            Self::R2t(pdu) => {
                let mut header = [0; 16];
                header[0..2].copy_from_slice(&pdu.cccid.to_le_bytes());
                header[2..4].copy_from_slice(&pdu.ttag.to_le_bytes());
                header[4..8].copy_from_slice(&pdu.r2to.to_le_bytes());
                header[8..12].copy_from_slice(&pdu.r2tl.to_le_bytes());
                Frame::build(kind::R2T, 0, &header, &[], Digests { data: false, ..digests }, 4)
            }
        }
    }

    /// Takes one complete PDU apart, checking lengths and digests.
    ///
    /// # Errors
    /// Says which field or digest is wrong.
    pub fn decode(frame: &Frame, digests: Digests) -> Result<Self, WireError> {
        let [kind, flags, ..] = *frame.as_bytes() else {
            return Err(WireError::Short { expected: super::COMMON_HEADER_LEN, got: frame.as_bytes().len() });
        };
        let none = Digests::default();
        match kind {
            kind::IC_REQ => {
                let (header, _) = frame.open("ICReq", IC_LEN, none)?;
                let (pfv, hpda, dgst, maxr2t) = ic_fields(header)?;
                Ok(Self::IcReq(IcReq { pfv, hpda, dgst, maxr2t }))
            }
            kind::IC_RESP => {
                let (header, _) = frame.open("ICResp", IC_LEN, none)?;
                let (pfv, cpda, dgst, maxh2cdata) = ic_fields(header)?;
                Ok(Self::IcResp(IcResp { pfv, cpda, dgst, maxh2cdata }))
            }
            kind::H2C_TERM_REQ => Ok(Self::H2cTermReq(term_fields("H2CTermReq", frame)?)),
            kind::C2H_TERM_REQ => Ok(Self::C2hTermReq(term_fields("C2HTermReq", frame)?)),
            kind::CAPSULE_CMD => {
                let (header, data) = frame.open("CapsuleCmd", CAPSULE_CMD_LEN, digests)?;
                Ok(Self::CapsuleCmd { sqe: Sqe::from_bytes(array(header)?), data: data.to_vec() })
            }
            kind::CAPSULE_RESP => {
                let (header, _) = frame.open("CapsuleResp", SHORT_LEN, digests)?;
                Ok(Self::CapsuleResp(Cqe::parse(&array(header)?)))
            }
            kind::H2C_DATA => Ok(Self::H2cData(data_fields("H2CData", frame, flags, digests)?)),
            kind::C2H_DATA => Ok(Self::C2hData(data_fields("C2HData", frame, flags, digests)?)),
            kind::R2T => {
                let (header, _) = frame.open("R2T", SHORT_LEN, digests)?;
                let short = WireError::Short { expected: SHORT_LEN, got: header.len() };
                let r2t = || {
                    Some(R2t {
                        cccid: le16(header, 0)?,
                        ttag: le16(header, 2)?,
                        r2to: le32(header, 4)?,
                        r2tl: le32(header, 8)?,
                    })
                };
                r2t().map(Self::R2t).ok_or(short)
            }
            other => Err(WireError::UnknownType(other)),
        }
    }
}

/// ICReq and ICResp have one layout: PFV, alignment, digests, one 32-bit parameter.
fn ic_frame(kind: u8, pfv: u16, pda: u8, dgst: u8, parameter: u32) -> Frame {
    let mut header = [0; IC_LEN - 8];
    header[0..2].copy_from_slice(&pfv.to_le_bytes());
    header[2] = pda;
    header[3] = dgst;
    header[4..8].copy_from_slice(&parameter.to_le_bytes());
    Frame::build(kind, 0, &header, &[], Digests::default(), 4)
}

fn ic_fields(header: &[u8]) -> Result<(u16, u8, u8, u32), WireError> {
    let header: [u8; IC_LEN - 8] = array(header)?;
    let parameter = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    Ok((u16::from_le_bytes([header[0], header[1]]), header[2], header[3], parameter))
}

/// A TermReq has PDO 0 although bytes follow its header, and never a digest.
fn term_frame(kind: u8, pdu: &TermReq) -> Frame {
    let mut header = [0; 16];
    header[0..2].copy_from_slice(&pdu.fes.to_le_bytes());
    header[2..6].copy_from_slice(&pdu.fei.to_le_bytes());
    Frame::build(kind, 0, &header, &pdu.header, Digests::default(), 4).pdo(0)
}

fn term_fields(pdu: &'static str, frame: &Frame) -> Result<TermReq, WireError> {
    // With PDO in place of its reserved zero, the rest reads like any other PDU with data.
    let pdo = u8::try_from(SHORT_LEN).unwrap_or(u8::MAX);
    let readable = frame.clone().pdo(pdo);
    let (header, data) = readable.open(pdu, SHORT_LEN, Digests::default())?;
    let fields = || Some(TermReq { fes: le16(header, 0)?, fei: le32(header, 2)?, header: data.to_vec() });
    fields().ok_or(WireError::Short { expected: SHORT_LEN, got: header.len() })
}

fn data_frame(kind: u8, pdu: &DataPdu, digests: Digests, align: usize) -> Frame {
    let mut header = [0; 16];
    header[0..2].copy_from_slice(&pdu.cccid.to_le_bytes());
    header[2..4].copy_from_slice(&pdu.ttag.to_le_bytes());
    header[4..8].copy_from_slice(&pdu.datao.to_le_bytes());
    header[8..12].copy_from_slice(&pdu.datal.to_le_bytes());
    let flags = if pdu.last { FLAG_LAST } else { 0 } | if pdu.success { FLAG_SUCCESS } else { 0 };
    Frame::build(kind, flags, &header, &pdu.data, digests, align)
}

fn data_fields(pdu: &'static str, frame: &Frame, flags: u8, digests: Digests) -> Result<DataPdu, WireError> {
    let (header, data) = frame.open(pdu, SHORT_LEN, digests)?;
    let fields = || {
        Some(DataPdu {
            cccid: le16(header, 0)?,
            ttag: le16(header, 2)?,
            datao: le32(header, 4)?,
            datal: le32(header, 8)?,
            last: flags & FLAG_LAST != 0,
            success: flags & FLAG_SUCCESS != 0,
            data: data.to_vec(),
        })
    };
    let parsed = fields().ok_or(WireError::Short { expected: SHORT_LEN, got: header.len() })?;
    let carried = u64::try_from(data.len()).unwrap_or(u64::MAX);
    if u64::from(parsed.datal) == carried {
        Ok(parsed)
    } else {
        Err(WireError::Field { pdu, field: "DATAL", expected: carried, got: parsed.datal.into() })
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes.first_chunk().copied().ok_or(WireError::Short { expected: N, got: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Status;
    use proptest::prelude::*;

    fn digests() -> impl Strategy<Value = Digests> {
        any::<(bool, bool)>().prop_map(|(header, data)| Digests { header, data })
    }

    fn data_pdu() -> impl Strategy<Value = DataPdu> {
        (any::<(u16, u16, u32, bool, bool)>(), prop::collection::vec(any::<u8>(), 1..5000)).prop_map(
            |((cccid, ttag, datao, last, success), data)| {
                let datal = u32::try_from(data.len()).unwrap();
                DataPdu { cccid, ttag, datao, datal, last, success, data }
            },
        )
    }

    fn term_req() -> impl Strategy<Value = TermReq> {
        (any::<(u16, u32)>(), prop::collection::vec(any::<u8>(), 0..=128))
            .prop_map(|((fes, fei), header)| TermReq { fes, fei, header })
    }

    fn any_pdu() -> impl Strategy<Value = Pdu> {
        prop_oneof![
            any::<(u16, u8, u8, u32)>().prop_map(|(pfv, hpda, dgst, maxr2t)| Pdu::IcReq(IcReq {
                pfv,
                hpda,
                dgst,
                maxr2t
            })),
            any::<(u16, u8, u8, u32)>().prop_map(|(pfv, cpda, dgst, maxh2cdata)| Pdu::IcResp(IcResp {
                pfv,
                cpda,
                dgst,
                maxh2cdata
            })),
            term_req().prop_map(Pdu::H2cTermReq),
            term_req().prop_map(Pdu::C2hTermReq),
            (any::<[u8; 32]>(), any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), 0..5000)).prop_map(
                |(low, high, data)| {
                    let bytes: Vec<u8> = low.into_iter().chain(high).collect();
                    Pdu::CapsuleCmd { sqe: Sqe::from_bytes(bytes.try_into().unwrap()), data }
                }
            ),
            any::<(u32, u32, u16, u16, u16)>().prop_map(|(dw0, dw1, sqhd, cid, status)| {
                Pdu::CapsuleResp(Cqe { dw0, dw1, sqhd, sqid: 0, cid, status: Status::from_bits(status) })
            }),
            data_pdu().prop_map(Pdu::H2cData),
            data_pdu().prop_map(Pdu::C2hData),
            any::<(u16, u16, u32, u32)>().prop_map(|(cccid, ttag, r2to, r2tl)| Pdu::R2t(R2t {
                cccid,
                ttag,
                r2to,
                r2tl
            })),
        ]
    }

    proptest! {
        #[test]
        fn every_pdu_survives_the_round_trip(pdu in any_pdu(), digests in digests(), pda in 0_usize..32) {
            let frame = pdu.encode(digests, (pda + 1) * 4);
            prop_assert_eq!(le32(frame.as_bytes(), 4).unwrap() as usize, frame.as_bytes().len());
            prop_assert_eq!(Pdu::decode(&frame, digests), Ok(pdu));
        }

        #[test]
        fn with_digests_no_flipped_bit_behind_the_common_header_goes_unnoticed(
            pdu in data_pdu().prop_map(Pdu::C2hData), bit: prop::sample::Index,
        ) {
            let digests = Digests { header: true, data: true };
            let frame = pdu.encode(digests, 4);
            let bit = bit.index(frame.as_bytes().len() * 8 - 64) + 64;
            prop_assert!(Pdu::decode(&frame.flip_bit(bit), digests).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), digests in digests()) {
            let _ = Pdu::decode(&Frame::from_bytes(bytes), digests);
        }
    }

    #[test]
    fn data_pdus_carry_their_flags_in_bits_two_and_three() {
        let pdu = DataPdu { datal: 4, last: true, success: true, data: vec![0; 4], ..DataPdu::default() };
        assert_eq!(Pdu::C2hData(pdu).encode(Digests::default(), 4).as_bytes()[..4], [0x07, 0x0c, 24, 24]);
    }

    #[test]
    fn icreq_is_128_bytes_with_maxr2t_at_byte_12() {
        let frame = Pdu::IcReq(IcReq { pfv: 0, hpda: 1, dgst: 3, maxr2t: 5 }).encode(Digests::default(), 4);
        assert_eq!(frame.as_bytes().len(), 128);
        assert_eq!(frame.as_bytes()[..16], [0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 1, 3, 5, 0, 0, 0]);
    }
}
