//! iSCSI PDUs on their way. RFC 7143 §11.2 "PDU Template, Header, and Opcodes": TotalAHSLength and DataSegmentLength give the
//! length; digests come with the full feature phase, as the log-in has agreed.

use std::collections::HashMap;

use holdfast_testkit::iscsi::{BHS_LEN, Pdu, opcode};
use holdfast_testkit::wire::{DIGEST_LEN, Digests};

use super::{Side, Wire};

/// Login Response, byte 1: the T bit, and NSG 3 (full feature phase). RFC 7143 §11.13.
const TRANSIT_TO_FULL_FEATURE: u8 = 0x83;
/// Login Response, Status-Class and Status-Detail.
const LOGIN_STATUS_AT: usize = 36;
const CDB_AT: usize = 32;
const CDB_LEN: usize = 16;

/// One connection.
#[derive(Debug, Default)]
pub struct Iscsi {
    digests: Digests,
    agreed: Digests,
    commands: HashMap<u32, [u8; CDB_LEN]>,
}

/// A PDU on its way.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who sent it.
    pub from: Side,
    /// The PDU.
    pub pdu: Pdu,
    /// The CDB of the command that it belongs to, as the initiator sent it.
    pub cdb: Option<[u8; CDB_LEN]>,
    digests: Digests,
}

impl Seen {
    /// The operation code of the SCSI command that it belongs to.
    #[must_use]
    pub fn operation(&self) -> Option<u8> {
        self.cdb.map(|[code, ..]| code)
    }

    /// The bytes of another PDU, as it would travel on this connection.
    #[must_use]
    pub fn bytes(&self, pdu: &Pdu) -> Vec<u8> {
        pdu.encode(self.digests)
    }
}

impl Wire for Iscsi {
    type Seen = Seen;

    fn len(&self, bytes: &[u8]) -> Option<usize> {
        Some(Layout::of(bytes, self.digests)?.end)
    }

    fn see(&mut self, from: Side, bytes: &[u8]) -> Option<Seen> {
        let digests = self.digests;
        let layout = Layout::of(bytes, digests)?;
        let pdu = Pdu {
            bhs: bytes.first_chunk().copied()?,
            ahs: bytes.get(BHS_LEN..layout.ahs_end)?.to_vec(),
            data: bytes.get(layout.data..layout.data_end)?.to_vec(),
        };
        let tag = pdu.task_tag();
        let cdb = match (from, pdu.opcode()) {
            (Side::Host, opcode::SCSI_COMMAND) => {
                let cdb = pdu.bhs.get(CDB_AT..)?.first_chunk().copied()?;
                self.commands.insert(tag, cdb);
                Some(cdb)
            }
            (Side::Target, opcode::SCSI_RESPONSE) => self.commands.remove(&tag),
            (Side::Target, opcode::LOGIN_RESPONSE) => {
                self.log_in(&pdu);
                None
            }
            _ => self.commands.get(&tag).copied(),
        };
        Some(Seen { from, pdu, cdb, digests })
    }
}

impl Iscsi {
    fn log_in(&mut self, pdu: &Pdu) {
        let says = |wanted: &[u8]| pdu.data.split(|byte| *byte == 0).any(|pair| pair == wanted);
        self.agreed.header |= says(b"HeaderDigest=CRC32C");
        self.agreed.data |= says(b"DataDigest=CRC32C");
        let granted = pdu.byte_at(LOGIN_STATUS_AT) == 0;
        if granted && pdu.byte_at(1) & TRANSIT_TO_FULL_FEATURE == TRANSIT_TO_FULL_FEATURE {
            self.digests = self.agreed;
        }
    }
}

/// Where the parts of a PDU lie.
struct Layout {
    ahs_end: usize,
    data: usize,
    data_end: usize,
    end: usize,
}

impl Layout {
    fn of(bytes: &[u8], digests: Digests) -> Option<Layout> {
        let [.., words, high, middle, low] = *bytes.first_chunk::<8>()?;
        let ahs_end = BHS_LEN + usize::from(words) * 4;
        let data = ahs_end + if digests.header { DIGEST_LEN } else { 0 };
        let len = usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?;
        let digest = if digests.data && len > 0 { DIGEST_LEN } else { 0 };
        Some(Layout { ahs_end, data, data_end: data + len, end: data + len.next_multiple_of(4) + digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Digests = Digests { header: true, data: true };

    fn logged_in() -> Iscsi {
        let mut wire = Iscsi::default();
        let login = Pdu::new(opcode::LOGIN_RESPONSE)
            .flags(0x87)
            .data(b"HeaderDigest=CRC32C\0DataDigest=CRC32C\0".as_slice());
        wire.see(Side::Target, &login.encode(Digests::default())).unwrap();
        wire
    }

    #[test]
    fn the_length_counts_headers_data_padding_and_the_digests_that_were_agreed() {
        let pdu = Pdu::new(opcode::SCSI_COMMAND).cdb(&[0x7f; 32]).data([1; 5]);
        for (wire, digests) in [(Iscsi::default(), Digests::default()), (logged_in(), BOTH)] {
            let bytes = pdu.encode(digests);
            assert_eq!(wire.len(&bytes[..7]), None);
            assert_eq!(wire.len(&bytes[..8]), Some(bytes.len()));
        }
    }

    #[test]
    fn a_pdu_is_what_was_sent() {
        let pdu = Pdu::new(opcode::DATA_IN).itt(3).data([1; 5]);
        let bytes = pdu.encode(BOTH);
        let seen = logged_in().see(Side::Target, &bytes).unwrap();
        assert_eq!(seen.pdu.data, pdu.data);
        assert_eq!(seen.bytes(&seen.pdu), bytes);
    }

    #[test]
    fn data_is_known_by_the_command_that_it_belongs_to() {
        let mut wire = Iscsi::default();
        let read = Pdu::new(opcode::SCSI_COMMAND).itt(3).cdb(&[0x28; 10]);
        wire.see(Side::Host, &read.encode(Digests::default())).unwrap();
        let data = Pdu::new(opcode::DATA_IN).itt(3).data([1; 8]).encode(Digests::default());
        assert_eq!(wire.see(Side::Target, &data).unwrap().operation(), Some(0x28));
        let other = Pdu::new(opcode::DATA_IN).itt(4).encode(Digests::default());
        assert_eq!(wire.see(Side::Target, &other).unwrap().operation(), None);
    }

    #[test]
    fn a_login_that_is_refused_or_goes_on_changes_nothing() {
        let mut wire = Iscsi::default();
        let text = b"HeaderDigest=CRC32C\0".as_slice();
        for login in [
            Pdu::new(opcode::LOGIN_RESPONSE).flags(0x87).byte(LOGIN_STATUS_AT, 2).data(text),
            Pdu::new(opcode::LOGIN_RESPONSE).flags(0x81).data(text),
        ] {
            wire.see(Side::Target, &login.encode(Digests::default())).unwrap();
            assert!(!wire.digests.header);
        }
    }
}
