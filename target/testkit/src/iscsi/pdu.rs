//! One PDU as bytes: basic header, additional headers, data. RFC 7143 §11 "iSCSI PDU Formats".
//!
//! All numbers are big-endian, digests are CRC-32C in little-endian byte order of the register (§13.1 "HeaderDigest and
//! DataDigest"), and every part is padded with zeros to four bytes.

use crate::crc;
use crate::wire::Digests;

/// Bytes of a Basic Header Segment.
pub const BHS_LEN: usize = 48;
/// An Initiator Task Tag or Target Transfer Tag that names nothing.
pub const RESERVED_TAG: u32 = 0xffff_ffff;
/// Bytes of a digest.
pub(super) const DIGEST_LEN: usize = 4;

/// Opcodes. RFC 7143 §11.2.1.2 "Opcode".
#[expect(missing_docs, reason = "the names are the RFC's")]
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT: u8 = 0x02;
    pub const LOGIN: u8 = 0x03;
    pub const TEXT: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// Bit 6 of byte 0: the request stands outside the command window.
const IMMEDIATE: u8 = 0x40;
/// Bit 7 of byte 1.
const FINAL: u8 = 0x80;
/// AHSType 1: the bytes of a CDB beyond its first 16. RFC 7143 §11.2.2.3 "Extended CDB AHS".
const AHS_EXTENDED_CDB: u8 = 1;
/// Bytes of a CDB in the basic header.
const CDB_LEN: usize = 16;

/// A PDU. Lengths are filled in by [`Pdu::encode`] from what the parts hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdu {
    /// The Basic Header Segment.
    pub bhs: [u8; BHS_LEN],
    /// Additional headers, padding included.
    pub ahs: Vec<u8>,
    /// The data segment, without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// A PDU with this opcode, the F bit, and nothing else.
    #[must_use]
    pub fn new(opcode: u8) -> Self {
        Self { bhs: [0; BHS_LEN], ahs: Vec::new(), data: Vec::new() }.byte(0, opcode).byte(1, FINAL)
    }

    /// With byte `at` of the header set.
    #[must_use]
    pub fn byte(self, at: usize, value: u8) -> Self {
        self.bytes(at, &[value])
    }

    /// With bytes of the header set from `at` on; what lies beyond the header is left out.
    #[must_use]
    pub fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        for (place, byte) in self.bhs.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
        self
    }

    /// With a 32-bit field of the header set.
    #[must_use]
    pub fn word(self, at: usize, value: u32) -> Self {
        self.bytes(at, &value.to_be_bytes())
    }

    /// With these flags in byte 1, bit 7 included.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.byte(1, flags)
    }

    /// With the I bit.
    #[must_use]
    pub fn immediate(self) -> Self {
        let first = self.bhs.first().copied().unwrap_or(0);
        self.byte(0, first | IMMEDIATE)
    }

    /// To this logical unit: flat addressing above 255, peripheral addressing below (SAM-5 §4.7 "Logical unit numbers").
    #[must_use]
    pub fn lun(self, lun: u16) -> Self {
        self.bytes(8, &encode_lun(lun))
    }

    /// With this Initiator Task Tag.
    #[must_use]
    pub fn itt(self, itt: u32) -> Self {
        self.word(16, itt)
    }

    /// With this data segment.
    #[must_use]
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    /// With this CDB; what is beyond 16 bytes goes into an Extended CDB AHS.
    #[must_use]
    pub fn cdb(mut self, cdb: &[u8]) -> Self {
        if let Some((_, rest)) = cdb.split_at_checked(CDB_LEN).filter(|(_, rest)| !rest.is_empty()) {
            let len = u16::try_from(rest.len().saturating_add(1)).unwrap_or(u16::MAX);
            self.ahs.extend_from_slice(&len.to_be_bytes());
            self.ahs.extend_from_slice(&[AHS_EXTENDED_CDB, 0]);
            self.ahs.extend_from_slice(rest);
            pad(&mut self.ahs);
        }
        self.bytes(32, cdb)
    }

    /// The opcode, without the I bit.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.byte_at(0) & 0x3f
    }

    /// A byte of the header.
    #[must_use]
    pub fn byte_at(&self, at: usize) -> u8 {
        self.bhs.get(at).copied().unwrap_or(0)
    }

    /// A 32-bit field of the header.
    #[must_use]
    pub fn word_at(&self, at: usize) -> u32 {
        number(&self.bhs, at, 4).and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
    }

    /// Bit 7 of byte 1.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.byte_at(1) & FINAL != 0
    }

    /// The Initiator Task Tag.
    #[must_use]
    pub fn task_tag(&self) -> u32 {
        self.word_at(16)
    }

    /// StatSN, of what a target sends.
    #[must_use]
    pub fn stat_sn(&self) -> u32 {
        self.word_at(24)
    }

    /// ExpCmdSN, of what a target sends.
    #[must_use]
    pub fn exp_cmd_sn(&self) -> u32 {
        self.word_at(28)
    }

    /// MaxCmdSN, of what a target sends.
    #[must_use]
    pub fn max_cmd_sn(&self) -> u32 {
        self.word_at(32)
    }

    /// The bytes on the wire, with right lengths, padding and digests.
    #[must_use]
    pub fn encode(&self, digests: Digests) -> Vec<u8> {
        let mut ahs = self.ahs.clone();
        pad(&mut ahs);
        let words = u32::try_from(ahs.len() / 4).unwrap_or(u32::MAX);
        let len = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        let header = self.clone().word(4, words << 24 | len & 0xff_ffff);
        let mut out = [header.bhs.as_slice(), &ahs].concat();
        if digests.header {
            out.extend_from_slice(&crc::crc32c(&out).to_le_bytes());
        }
        let data_at = out.len();
        out.extend_from_slice(&self.data);
        pad(&mut out);
        if digests.data && !self.data.is_empty() {
            let digest = crc::crc32c(out.get(data_at..).unwrap_or_default());
            out.extend_from_slice(&digest.to_le_bytes());
        }
        out
    }
}

/// A LUN as eight bytes.
pub(super) fn encode_lun(lun: u16) -> [u8; 8] {
    let [high, low] = if lun < 256 { lun.to_be_bytes() } else { (lun | 0x4000).to_be_bytes() };
    [high, low, 0, 0, 0, 0, 0, 0]
}

/// The big-endian number of `len` bytes (at most 8) at `at`, if it lies within `bytes`.
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(field.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Pads with zeros to four bytes.
pub(super) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Digests = Digests { header: true, data: true };

    /// The example of RFC 7143 Appendix A.4 "CRC Examples": a READ (10) and its digest.
    #[test]
    fn a_command_and_its_digest_are_as_the_rfc_shows_them() {
        let read = Pdu::new(opcode::SCSI_COMMAND)
            .flags(0xc0)
            .itt(0x1400_0000)
            .word(20, 0x400)
            .word(24, 0x14)
            .word(28, 0x18)
            .cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        let mut expected = vec![0; BHS_LEN];
        expected[..2].copy_from_slice(&[0x01, 0xc0]);
        expected[16] = 0x14;
        expected[22] = 4;
        (expected[27], expected[31]) = (0x14, 0x18);
        (expected[32], expected[40]) = (0x28, 2);
        expected.extend_from_slice(&[0x56, 0x3a, 0x96, 0xd9]);
        assert_eq!(read.encode(BOTH), expected);
    }

    /// The same appendix: 32 bytes of zeros, and of ones.
    #[test]
    fn data_digests_are_as_the_rfc_shows_them() {
        let tail = |data: Vec<u8>| Pdu::new(opcode::DATA_OUT).data(data).encode(BOTH).split_off(52 + 32);
        assert_eq!(tail(vec![0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(tail(vec![0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
    }

    #[test]
    fn data_is_padded_and_its_length_is_not() {
        let bytes = Pdu::new(opcode::TEXT).data(*b"A=1\0B").encode(Digests::default());
        assert_eq!(bytes.len(), 48 + 8);
        assert_eq!(bytes[4..8], [0, 0, 0, 5]);
        assert_eq!(bytes[48..], *b"A=1\0B\0\0\0");
    }

    #[test]
    fn a_cdb_of_32_bytes_continues_in_an_additional_header() {
        let cdb: Vec<u8> = (0..32).collect();
        let bytes = Pdu::new(opcode::SCSI_COMMAND).cdb(&cdb).encode(Digests::default());
        assert_eq!(bytes.len(), 48 + 20);
        assert_eq!(bytes[4], 5);
        assert_eq!(bytes[32..48], cdb[..16]);
        assert_eq!(bytes[48..52], [0, 17, 1, 0]);
        assert_eq!(bytes[52..], cdb[16..]);
    }

    #[test]
    fn luns_above_255_are_flat() {
        assert_eq!(encode_lun(3), [0, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode_lun(0x123), [0x41, 0x23, 0, 0, 0, 0, 0, 0]);
    }
}
