//! PDUs as an initiator makes and judges them, written apart from the target's own.

use holdfast_pi::digest_of;

pub(crate) use crate::wire::Digests;

pub(crate) const NO_TAG: u32 = 0xffff_ffff;
pub(crate) const BHS_LEN: usize = 48;

pub(crate) const NOP_OUT: u8 = 0x00;
pub(crate) const COMMAND: u8 = 0x01;
pub(crate) const MANAGE: u8 = 0x02;
pub(crate) const LOGIN: u8 = 0x03;
pub(crate) const TEXT: u8 = 0x04;
pub(crate) const DATA_OUT: u8 = 0x05;
pub(crate) const LOGOUT: u8 = 0x06;
pub(crate) const NOP_IN: u8 = 0x20;
pub(crate) const RESPONSE: u8 = 0x21;
pub(crate) const LOGIN_RESPONSE: u8 = 0x23;
pub(crate) const DATA_IN: u8 = 0x25;
pub(crate) const R2T: u8 = 0x31;

/// Byte 1: final; a read; a write.
pub(crate) const F: u8 = 0x80;
pub(crate) const R: u8 = 0x40;
pub(crate) const W: u8 = 0x20;

/// A PDU without its digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pdu {
    pub(crate) bhs: [u8; BHS_LEN],
    /// Additional headers.
    ahs: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Pdu {
    /// With the F bit.
    pub(crate) fn new(opcode: u8) -> Pdu {
        let mut bhs = [0; BHS_LEN];
        (bhs[0], bhs[1]) = (opcode, F);
        Pdu { bhs, ahs: Vec::new(), data: Vec::new() }
    }

    pub(crate) fn bytes(mut self, at: usize, bytes: &[u8]) -> Pdu {
        self.bhs[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn word(self, at: usize, value: u32) -> Pdu {
        self.bytes(at, &value.to_be_bytes())
    }

    pub(crate) fn flags(self, flags: u8) -> Pdu {
        self.bytes(1, &[flags])
    }

    pub(crate) fn immediate(mut self) -> Pdu {
        self.bhs[0] |= 0x40;
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Pdu {
        self.data = data.to_vec();
        self
    }

    /// With the rest of a long CDB, of whole words.
    pub(crate) fn extended(mut self, rest: &[u8]) -> Pdu {
        self.ahs.extend(((rest.len() + 1) as u16).to_be_bytes());
        self.ahs.extend([1, 0]);
        self.ahs.extend_from_slice(rest);
        self
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    pub(crate) fn word_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bhs[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn tag(&self) -> u32 {
        self.word_at(16)
    }

    pub(crate) fn encode(&self, digests: Digests) -> Vec<u8> {
        let mut out = self.bhs.to_vec();
        out[4] = (self.ahs.len() / 4) as u8;
        out[5..8].copy_from_slice(&(self.data.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&self.ahs);
        if digests.header {
            out.extend(digest_of(&out));
        }
        let at = out.len();
        out.extend_from_slice(&self.data);
        out.resize(out.len().next_multiple_of(4), 0);
        if digests.data && !self.data.is_empty() {
            out.extend(digest_of(&out[at..]));
        }
        out
    }

    /// The first PDU of what a target has sent, taken off it; nothing of it may be ill formed.
    pub(crate) fn judge(stream: &mut Vec<u8>, digests: Digests) -> Option<Pdu> {
        if stream.is_empty() {
            return None;
        }
        let bhs: [u8; BHS_LEN] = stream[..BHS_LEN].try_into().expect("a header comes whole");
        assert_eq!(bhs[4], 0, "TotalAHSLength of a target's PDU");
        let header_len = BHS_LEN + if digests.header { 4 } else { 0 };
        let len = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        let padded = len.next_multiple_of(4);
        let total = header_len + padded + if digests.data && len > 0 { 4 } else { 0 };
        assert!(stream.len() >= total, "a PDU comes whole");
        let bytes: Vec<u8> = stream.drain(..total).collect();
        if digests.header {
            assert_eq!(bytes[BHS_LEN..header_len], digest_of(&bytes[..BHS_LEN]), "header digest");
        }
        let data = &bytes[header_len..header_len + padded];
        if digests.data && len > 0 {
            assert_eq!(bytes[header_len + padded..], digest_of(data), "data digest");
        }
        assert!(data[len..].iter().all(|byte| *byte == 0), "padding");
        Some(Pdu { bhs, ahs: Vec::new(), data: data[..len].to_vec() })
    }
}

/// Makes the digests of a PDU with its data fit again, as far as its lengths still say where they are.
pub(crate) fn seal(pdu: &mut [u8], digests: Digests) {
    let Some([words, a, b, c]) =
        pdu.get(4..8).map(|lengths| [lengths[0], lengths[1], lengths[2], lengths[3]])
    else {
        return;
    };
    let mut at = BHS_LEN + usize::from(words) * 4;
    if digests.header && at + 4 <= pdu.len() {
        let digest = digest_of(&pdu[..at]);
        pdu[at..at + 4].copy_from_slice(&digest);
        at += 4;
    }
    let end = at + (u32::from_be_bytes([0, a, b, c]) as usize).next_multiple_of(4);
    if digests.data && end > at && end + 4 <= pdu.len() {
        let digest = digest_of(&pdu[at..end]);
        pdu[end..end + 4].copy_from_slice(&digest);
    }
}
