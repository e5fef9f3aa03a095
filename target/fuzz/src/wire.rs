//! PDUs of both directions. NVMe/TCP 1.1 §3.6.2. Written apart from the product's, so that a mistake is not made twice; what the
//! target sends is judged while it is taken apart.

use holdfast_pi::{GuardKind, guard_of};

/// Digests that a connection has agreed upon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

/// A PDU from the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pdu {
    IcResp(Digests),
    Term { fes: u16, fei: u32 },
    Response { cid: u16, status: u16, result: u64, sqhd: u16 },
    Data { cid: u16, offset: usize, data: Vec<u8>, last: bool, success: bool },
    R2t { cid: u16, ttag: u16, offset: u32, length: u32 },
}

pub(crate) const CAPSULE: u8 = 0x04;
pub(crate) const HOST_DATA: u8 = 0x06;

/// In-capsule data.
pub(crate) const SGL_IN_CAPSULE: u8 = 0x01;
/// Data in data PDUs.
pub(crate) const SGL_TRANSPORT: u8 = 0x5a;

fn digest(bytes: &[u8]) -> [u8; 4] {
    (guard_of(GuardKind::Crc32c, bytes) as u32).to_le_bytes()
}

/// ICReq.
pub(crate) fn initialize(digests: Digests, alignment: u8) -> Vec<u8> {
    let mut pdu = vec![0; 128];
    (pdu[2], pdu[4], pdu[10]) = (128, 128, alignment);
    pdu[11] = u8::from(digests.header) | (u8::from(digests.data) << 1);
    pdu
}

/// A PDU with everything in its place: `fields` is the header behind its common part.
pub(crate) fn pdu(kind: u8, last: bool, fields: &[u8], data: &[u8], digests: Digests) -> Vec<u8> {
    let hlen = 8 + fields.len();
    let pdo = if digests.header { hlen + 4 } else { hlen };
    let trailer = digests.data && !data.is_empty();
    let plen = pdo + data.len() + if trailer { 4 } else { 0 };
    let flags = u8::from(digests.header) | (u8::from(trailer) << 1) | (u8::from(last) << 2);
    let mut pdu = vec![kind, flags, hlen as u8, if data.is_empty() { 0 } else { pdo as u8 }];
    pdu.extend_from_slice(&(plen as u32).to_le_bytes());
    pdu.extend_from_slice(fields);
    if digests.header {
        pdu.extend_from_slice(&digest(&pdu.clone()));
    }
    pdu.extend_from_slice(data);
    if trailer {
        pdu.extend_from_slice(&digest(data));
    }
    pdu
}

/// H2CData.
pub(crate) fn host_data(
    cid: u16,
    ttag: u16,
    offset: u32,
    data: &[u8],
    last: bool,
    digests: Digests,
) -> Vec<u8> {
    let mut fields = [0; 16];
    fields[..2].copy_from_slice(&cid.to_le_bytes());
    fields[2..4].copy_from_slice(&ttag.to_le_bytes());
    fields[4..8].copy_from_slice(&offset.to_le_bytes());
    fields[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
    pdu(HOST_DATA, last, &fields, data, digests)
}

/// A PDU's header digest made right again, after changes that it shall not give away.
pub(crate) fn seal(pdu: &mut [u8], digests: Digests) {
    let hlen = pdu.get(2).map_or(0, |hlen| usize::from(*hlen));
    if digests.header && hlen + 4 <= pdu.len() {
        let right = digest(&pdu[..hlen]);
        pdu[hlen..hlen + 4].copy_from_slice(&right);
    }
}

/// Takes the first PDU off the front of what the target has sent; panics if it is not one that a target may send.
pub(crate) fn take(stream: &mut Vec<u8>, digests: Digests) -> Option<Pdu> {
    if stream.is_empty() {
        return None;
    }
    assert!(stream.len() >= 8, "a PDU stops short");
    let plen = u32::from_le_bytes(stream[4..8].try_into().unwrap()) as usize;
    assert!((8..=stream.len()).contains(&plen), "PLEN {plen} of {}", stream.len());
    let rest = stream.split_off(plen);
    let pdu = std::mem::replace(stream, rest);
    Some(judge(&pdu, digests))
}

fn judge(pdu: &[u8], digests: Digests) -> Pdu {
    let half = |at: usize| u16::from_le_bytes(pdu[at..at + 2].try_into().unwrap());
    let word = |at: usize| u32::from_le_bytes(pdu[at..at + 4].try_into().unwrap());
    let (kind, flags, hlen, pdo) = (pdu[0], pdu[1], usize::from(pdu[2]), usize::from(pdu[3]));
    assert_eq!(hlen, if kind == 1 { 128 } else { 24 }, "HLEN of type {kind:#x}");
    let digested = matches!(kind, 5 | 7 | 9);
    assert_eq!(flags & 1 != 0, digested && digests.header, "HDGSTF of type {kind:#x}");
    let header_len = if flags & 1 != 0 { hlen + 4 } else { hlen };
    if flags & 1 != 0 {
        assert_eq!(pdu[hlen..hlen + 4], digest(&pdu[..hlen]), "header digest");
    }
    if matches!(kind, 1 | 5 | 9) {
        assert_eq!(pdu.len(), header_len, "PLEN of type {kind:#x}");
    }
    match kind {
        1 => Pdu::IcResp(Digests { header: pdu[11] & 1 != 0, data: pdu[11] & 2 != 0 }),
        3 => {
            assert!((1..=6).contains(&half(8)) && pdu.len() <= 152, "C2HTermReq");
            Pdu::Term { fes: half(8), fei: word(10) }
        }
        5 => {
            let result = u64::from_le_bytes(pdu[8..16].try_into().unwrap());
            Pdu::Response { result, sqhd: half(16), cid: half(20), status: half(22) }
        }
        7 => {
            let len = word(16) as usize;
            let trailer = if digests.data { 4 } else { 0 };
            assert_eq!(flags & 2 != 0, digests.data, "DDGSTF");
            assert!(pdo >= header_len && len > 0 && pdu.len() == pdo + len + trailer, "C2HData");
            let data = pdu[pdo..pdo + len].to_vec();
            if digests.data {
                assert_eq!(pdu[pdo + len..], digest(&data), "data digest");
            }
            let (last, success) = (flags & 4 != 0, flags & 8 != 0);
            assert!(last || !success, "SUCCESS before the last C2HData");
            Pdu::Data { cid: half(8), offset: word(12) as usize, data, last, success }
        }
        9 => Pdu::R2t { cid: half(8), ttag: half(10), offset: word(12), length: word(16) },
        other => panic!("PDU type {other:#x} from a target"),
    }
}

/// A submission queue entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sqe(pub(crate) [u8; 64]);

impl Sqe {
    pub(crate) fn new(opcode: u8, nsid: u32) -> Sqe {
        let mut sqe = [0; 64];
        (sqe[0], sqe[1]) = (opcode, 0x40);
        sqe[4..8].copy_from_slice(&nsid.to_le_bytes());
        Sqe(sqe)
    }

    pub(crate) fn fabrics(fctype: u8) -> Sqe {
        Sqe::new(0x7f, fctype.into())
    }

    pub(crate) fn dword(mut self, dword: usize, value: u32) -> Sqe {
        self.0[dword * 4..dword * 4 + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn cid(mut self, cid: u16) -> Sqe {
        self.0[2..4].copy_from_slice(&cid.to_le_bytes());
        self
    }

    pub(crate) fn sgl(mut self, identifier: u8, address: u64, length: usize) -> Sqe {
        self.0[24..32].copy_from_slice(&address.to_le_bytes());
        self.0[32..36].copy_from_slice(&(length as u32).to_le_bytes());
        self.0[39] = identifier;
        self
    }

    pub(crate) fn in_capsule(self, length: usize) -> Sqe {
        self.sgl(SGL_IN_CAPSULE, 0, length)
    }

    pub(crate) fn transport(self, length: usize) -> Sqe {
        self.sgl(SGL_TRANSPORT, 0, length)
    }

    /// A command with a range of blocks.
    pub(crate) fn ranged(opcode: u8, nsid: u32, lba: u32, blocks: u32) -> Sqe {
        Sqe::new(opcode, nsid).dword(10, lba).dword(12, blocks - 1).dword(14, lba)
    }

    pub(crate) fn capsule(&self, data: &[u8], digests: Digests) -> Vec<u8> {
        pdu(CAPSULE, false, &self.0, data, digests)
    }
}

/// Connect, and its data.
pub(crate) fn connect(qid: u16, entries: u16, cattr: u8) -> Sqe {
    let sqe = Sqe::fabrics(1).dword(10, u32::from(qid) << 16).in_capsule(1024);
    sqe.dword(11, u32::from(entries - 1) | (u32::from(cattr) << 16))
}

pub(crate) fn connect_data(cntlid: u16, subnqn: &str, hostnqn: &str) -> Vec<u8> {
    let mut data = vec![0; 1024];
    data[..16].fill(0x5a);
    data[16..18].copy_from_slice(&cntlid.to_le_bytes());
    data[256..256 + subnqn.len()].copy_from_slice(subnqn.as_bytes());
    data[512..512 + hostnqn.len()].copy_from_slice(hostnqn.as_bytes());
    data
}

/// Property Set of CC.
pub(crate) fn configure(cc: u32) -> Sqe {
    Sqe::fabrics(0).dword(11, 0x14).dword(12, cc)
}

/// CC of a controller that is at work.
pub(crate) const ENABLED: u32 = 0x0046_0001;
