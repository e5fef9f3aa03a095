//! PDUs as an initiator makes and takes them, written apart from the target's own.

use holdfast_pi::digest_of;

/// Which digests are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

/// A tag that names nothing.
pub(crate) const NO_TAG: u32 = 0xffff_ffff;

pub(crate) const NOP_OUT: u8 = 0x00;
pub(crate) const COMMAND: u8 = 0x01;
pub(crate) const MANAGE: u8 = 0x02;
pub(crate) const LOGIN: u8 = 0x03;
pub(crate) const TEXT: u8 = 0x04;
pub(crate) const DATA_OUT: u8 = 0x05;
pub(crate) const LOGOUT: u8 = 0x06;
pub(crate) const SNACK: u8 = 0x10;
pub(crate) const NOP_IN: u8 = 0x20;
pub(crate) const RESPONSE: u8 = 0x21;
pub(crate) const MANAGED: u8 = 0x22;
pub(crate) const LOGIN_RESPONSE: u8 = 0x23;
pub(crate) const TEXT_RESPONSE: u8 = 0x24;
pub(crate) const DATA_IN: u8 = 0x25;
pub(crate) const LOGOUT_RESPONSE: u8 = 0x26;
pub(crate) const R2T: u8 = 0x31;
pub(crate) const ASYNC: u8 = 0x32;
pub(crate) const REJECT: u8 = 0x3f;

/// Byte 1: the last one; and of commands that read and write.
pub(crate) const F: u8 = 0x80;
pub(crate) const R: u8 = 0x40;
pub(crate) const W: u8 = 0x20;

/// A PDU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pdu {
    pub(crate) bhs: [u8; 48],
    pub(crate) ahs: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Pdu {
    /// With the F bit and nothing else.
    pub(crate) fn new(opcode: u8) -> Pdu {
        let mut bhs = [0; 48];
        (bhs[0], bhs[1]) = (opcode, F);
        Pdu { bhs, ahs: vec![], data: vec![] }
    }

    pub(crate) fn byte(mut self, at: usize, value: u8) -> Pdu {
        self.bhs[at] = value;
        self
    }

    pub(crate) fn half(mut self, at: usize, value: u16) -> Pdu {
        self.bhs[at..at + 2].copy_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn word(mut self, at: usize, value: u32) -> Pdu {
        self.bhs[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn bytes(mut self, at: usize, bytes: &[u8]) -> Pdu {
        self.bhs[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn flags(self, flags: u8) -> Pdu {
        self.byte(1, flags)
    }

    pub(crate) fn lun(self, lun: u8) -> Pdu {
        self.byte(9, lun)
    }

    pub(crate) fn itt(self, itt: u32) -> Pdu {
        self.word(16, itt)
    }

    pub(crate) fn immediate(mut self) -> Pdu {
        self.bhs[0] |= 0x40;
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Pdu {
        self.data = data.to_vec();
        self
    }

    pub(crate) fn ahs(mut self, ahs: &[u8]) -> Pdu {
        self.ahs = ahs.to_vec();
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

    pub(crate) fn ttt(&self) -> u32 {
        self.word_at(20)
    }

    pub(crate) fn stat_sn(&self) -> u32 {
        self.word_at(24)
    }

    pub(crate) fn exp_cmd_sn(&self) -> u32 {
        self.word_at(28)
    }

    pub(crate) fn max_cmd_sn(&self) -> u32 {
        self.word_at(32)
    }

    /// On the wire.
    pub(crate) fn encode(&self, digests: Digests) -> Vec<u8> {
        assert!(self.ahs.len().is_multiple_of(4));
        let mut out = self.bhs.to_vec();
        let lengths = ((self.ahs.len() / 4) as u32) << 24 | self.data.len() as u32;
        out[4..8].copy_from_slice(&lengths.to_be_bytes());
        out.extend_from_slice(&self.ahs);
        if digests.header {
            out.extend(digest_of(&out));
        }
        let mut data = self.data.clone();
        data.resize(data.len().next_multiple_of(4), 0);
        out.extend_from_slice(&data);
        if digests.data && !data.is_empty() {
            out.extend(digest_of(&data));
        }
        out
    }

    /// The first PDU of `stream`, taken off it; `None` if it is not complete. Digests and padding have to be right.
    pub(crate) fn decode(stream: &mut Vec<u8>, digests: Digests) -> Option<Pdu> {
        let bhs: [u8; 48] = stream.get(..48)?.try_into().unwrap();
        let header_len = 48 + usize::from(bhs[4]) * 4;
        assert_eq!(header_len, 48, "targets have no additional headers to send");
        let header_digest = if digests.header { 4 } else { 0 };
        let len = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        let padded = len.next_multiple_of(4);
        let data_digest = if digests.data && len > 0 { 4 } else { 0 };
        let total = header_len + header_digest + padded + data_digest;
        if stream.len() < total {
            return None;
        }
        let bytes: Vec<u8> = stream.drain(..total).collect();
        if digests.header {
            assert_eq!(bytes[48..52], digest_of(&bytes[..48]), "header digest");
        }
        let at = header_len + header_digest;
        let data = &bytes[at..at + padded];
        if data_digest > 0 {
            assert_eq!(bytes[at + padded..], digest_of(data), "data digest");
        }
        assert!(data[len..].iter().all(|byte| *byte == 0), "padding");
        Some(Pdu { bhs, ahs: vec![], data: data[..len].to_vec() })
    }
}
