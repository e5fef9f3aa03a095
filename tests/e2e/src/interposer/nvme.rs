//! NVMe/TCP PDUs on their way. NVMe over TCP Transport 1.1 §3.6.1 "Common Header": PLEN counts everything up to the data digest.

use std::collections::HashMap;

use holdfast_testkit::wire::{COMMON_HEADER_LEN, Digests, Frame, Pdu, Sqe, le32, opcode};

use super::{Side, Wire};

/// FLAGS bits 0 and 1 of every PDU: which digests it has.
const FLAG_HDGST: u8 = 0x01;
const FLAG_DDGST: u8 = 0x02;
/// Data behind a header begins at a multiple of four bytes: nobody here asks for more.
const ALIGN: usize = 4;

/// One connection.
#[derive(Debug, Default)]
pub struct Nvme {
    queue: u16,
    commands: HashMap<u16, Sqe>,
}

/// A PDU on its way.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who sent it.
    pub from: Side,
    /// The queue that the connection is, known once Connect has passed; 0 is the Admin Queue.
    pub queue: u16,
    /// The PDU.
    pub pdu: Pdu,
    /// The command that it belongs to, as the host sent it.
    pub command: Option<Sqe>,
    digests: Digests,
}

impl Seen {
    /// The opcode of the command that it belongs to, on an I/O queue.
    #[must_use]
    pub fn io(&self) -> Option<u8> {
        self.command.filter(|_| self.queue > 0).map(|command| command.opcode())
    }

    /// The opcode of the command that it belongs to, on the Admin Queue.
    #[must_use]
    pub fn admin(&self) -> Option<u8> {
        self.command.filter(|_| self.queue == 0).map(|command| command.opcode())
    }

    /// Another PDU as it would travel on this connection.
    #[must_use]
    pub fn frame(&self, pdu: &Pdu) -> Frame {
        // A data digest belongs to data, whichever PDU this one was.
        pdu.encode(self.digests, ALIGN)
    }

    /// The bytes of another PDU.
    #[must_use]
    pub fn bytes(&self, pdu: &Pdu) -> Vec<u8> {
        self.frame(pdu).as_bytes().to_vec()
    }
}

impl Wire for Nvme {
    type Seen = Seen;

    fn len(&self, bytes: &[u8]) -> Option<usize> {
        // A length that cannot be would never be reached, and less than a header never ends.
        let len = usize::try_from(le32(bytes, 4)?).ok()?;
        Some(len.max(COMMON_HEADER_LEN))
    }

    fn see(&mut self, from: Side, bytes: &[u8]) -> Option<Seen> {
        let flags = *bytes.get(1)?;
        let digests = Digests { header: flags & FLAG_HDGST != 0, data: flags & FLAG_DDGST != 0 };
        let pdu = Pdu::decode(&Frame::from_bytes(bytes.to_vec()), digests).ok()?;
        let command = match &pdu {
            Pdu::CapsuleCmd { sqe, .. } => {
                self.commands.insert(sqe.cid(), *sqe);
                if sqe.opcode() == opcode::FABRICS && sqe.fctype() == opcode::CONNECT {
                    // Connect: QID is the high half of dword 10 (NVM Express Base 2.1 §6.3 "Connect Command").
                    self.queue = u16::try_from(sqe.dword(10) >> 16).unwrap_or_default();
                }
                Some(*sqe)
            }
            Pdu::H2cData(data) | Pdu::C2hData(data) => self.commands.get(&data.cccid).copied(),
            Pdu::R2t(r2t) => self.commands.get(&r2t.cccid).copied(),
            Pdu::CapsuleResp(cqe) => self.commands.remove(&cqe.cid),
            Pdu::IcReq(_) | Pdu::IcResp(_) | Pdu::H2cTermReq(_) | Pdu::C2hTermReq(_) => None,
        };
        Some(Seen { from, queue: self.queue, pdu, command, digests })
    }
}

#[cfg(test)]
mod tests {
    use holdfast_testkit::wire::{Cqe, DataPdu};

    use super::*;

    const BOTH: Digests = Digests { header: true, data: true };

    fn connect(queue: u32) -> Pdu {
        let sqe = Sqe::fabrics(opcode::CONNECT).with_cid(1).cdw(10, queue << 16);
        Pdu::CapsuleCmd { sqe, data: vec![0; 1024] }
    }

    #[test]
    fn the_length_is_known_with_the_common_header() {
        let frame = connect(1).encode(BOTH, 4);
        let bytes = frame.as_bytes();
        assert_eq!(Nvme::default().len(&bytes[..7]), None);
        assert_eq!(Nvme::default().len(&bytes[..8]), Some(bytes.len()));
    }

    #[test]
    fn a_length_below_that_of_a_header_does_not_stand_still() {
        assert_eq!(Nvme::default().len(&[0; 8]), Some(8));
    }

    #[test]
    fn data_is_known_by_the_command_and_the_queue_that_it_belongs_to() {
        let mut wire = Nvme::default();
        wire.see(Side::Host, connect(2).encode(Digests::default(), 4).as_bytes()).unwrap();
        let read = Pdu::CapsuleCmd { sqe: Sqe::new(opcode::READ).with_cid(7), data: Vec::new() };
        wire.see(Side::Host, read.encode(BOTH, 4).as_bytes()).unwrap();
        let data = Pdu::C2hData(DataPdu { cccid: 7, datal: 4, data: vec![1; 4], ..DataPdu::default() });
        let seen = wire.see(Side::Target, data.encode(BOTH, 4).as_bytes()).unwrap();
        assert_eq!((seen.io(), seen.admin(), seen.pdu.clone()), (Some(opcode::READ), None, data));
        let done = Pdu::CapsuleResp(Cqe { cid: 7, ..Cqe::default() });
        let seen = wire.see(Side::Target, done.encode(BOTH, 4).as_bytes()).unwrap();
        assert_eq!(seen.io(), Some(opcode::READ));
        assert!(wire.commands.keys().eq([&1]));
    }

    #[test]
    fn another_pdu_gets_the_digests_of_the_connection() {
        let data = Pdu::C2hData(DataPdu { datal: 4, data: vec![1; 4], ..DataPdu::default() });
        let seen = Nvme::default().see(Side::Target, data.encode(BOTH, 4).as_bytes()).unwrap();
        assert_eq!(seen.bytes(&data), data.encode(BOTH, 4).as_bytes());
    }

    #[test]
    fn bytes_that_are_no_pdu_go_unseen() {
        assert!(Nvme::default().see(Side::Host, &[0xff; 72]).is_none());
    }
}
