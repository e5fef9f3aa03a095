//! Ending a connection with a reason. NVMe/TCP 1.1 §3.6.2.5 "Controller to Host Terminate Connection Request PDU (C2HTermReq)".

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use crate::wire::pdu::{CommonHeader, SHORT_LEN, TermReqHeader, pdu_type};

/// Fatal Error Status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FatalStatus {
    /// 01h. The information is the offset of the lowest wrong field.
    InvalidHeaderField,
    /// 02h.
    PduSequence,
    /// 03h. The information is the digest as received.
    HeaderDigest,
    /// 04h.
    DataOutOfRange,
    /// 05h: more data in a PDU than MAXH2CDATA.
    DataLimitExceeded,
    /// 06h. The information is the offset of the parameter.
    UnsupportedParameter,
}

impl FatalStatus {
    fn to_wire(self) -> u16 {
        match self {
            FatalStatus::InvalidHeaderField => 0x01,
            FatalStatus::PduSequence => 0x02,
            FatalStatus::HeaderDigest => 0x03,
            FatalStatus::DataOutOfRange => 0x04,
            FatalStatus::DataLimitExceeded => 0x05,
            FatalStatus::UnsupportedParameter => 0x06,
        }
    }
}

/// A reason to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fatal {
    pub(crate) status: FatalStatus,
    /// Fatal Error Information.
    pub(crate) information: u32,
}

impl Fatal {
    pub(crate) fn new(status: FatalStatus) -> Fatal {
        Fatal { status, information: 0 }
    }

    /// A wrong field at this offset of the header.
    pub(crate) fn field(offset: u32) -> Fatal {
        Fatal { status: FatalStatus::InvalidHeaderField, information: offset }
    }

    /// Appends the C2HTermReq that quotes the header that it is about.
    pub(crate) fn write(self, quoted: &[u8], out: &mut Vec<u8>) {
        let quoted =
            if holdfast_mutant::active("term-quote") { quoted.get(..8).unwrap_or(quoted) } else { quoted };
        let plen = SHORT_LEN.saturating_add(quoted.len());
        let header = TermReqHeader {
            common: CommonHeader {
                pdu_type: pdu_type::C2H_TERM_REQ,
                flags: 0,
                hlen: 24,
                pdo: 0,
                plen: U32::new(u32::try_from(plen).unwrap_or(u32::MAX)),
            },
            fes: U16::new(self.status.to_wire()),
            fei: self.information.to_le_bytes(),
            reserved: [0; 10],
        };
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(quoted);
    }
}
