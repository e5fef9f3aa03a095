//! A SCSI disk with protection information. SBC-4 §4.21 "Protection information model", §5 "Commands for direct access block devices".

use std::fs::File;
use std::io;

use super::SelfTestError;
use super::device::{Answer, Checks, Layout, Tag};
use crate::ioctl::scsi::{self, Direction, Ended};

const INQUIRY: u8 = 0x12;
const INQUIRY_BYTES: u8 = 36;
/// SERVICE ACTION IN (16) with READ CAPACITY (16).
const SERVICE_ACTION_IN: u8 = 0x9e;
const READ_CAPACITY: u8 = 0x10;
const CAPACITY_BYTES: u8 = 32;
/// Of 16 bytes, and of 32 with their service actions.
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;
const VARIABLE_LENGTH: u8 = 0x7f;
const READ_32: u8 = 0x09;
const WRITE_32: u8 = 0x0b;
/// RDPROTECT and WRPROTECT: 001b moves tuples and checks them, 011b moves them alone.
const CHECKED: u8 = 0b001 << 5;
const UNCHECKED: u8 = 0b011 << 5;
/// ABORTED COMMAND; LOGICAL BLOCK GUARD CHECK FAILED; LOGICAL BLOCK REFERENCE TAG CHECK FAILED.
const ABORTED_COMMAND: u8 = 0xb;
const GUARD_FAILED: (u8, u8) = (0x10, 0x01);
const REF_FAILED: (u8, u8) = (0x10, 0x03);
const CHECK_CONDITION: u8 = 2;
const UNIT_ATTENTION: u8 = 6;
/// Unit attentions that may wait for the first command.
const ATTENTIONS_MAX: usize = 16;

/// An open disk.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    pi_type: u8,
}

impl Disk {
    /// Whether it is a SCSI device.
    pub(super) fn find(file: &File) -> bool {
        let mut data = [0; INQUIRY_BYTES as usize];
        let cdb = [INQUIRY, 0, 0, 0, INQUIRY_BYTES, 0];
        scsi::send(file, &cdb, Direction::In, &mut data).is_ok_and(|ended| ended.status == 0)
    }

    pub(super) fn identify(file: File, name: &str) -> Result<(Self, Layout), SelfTestError> {
        let mut data = [0; CAPACITY_BYTES as usize];
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (SERVICE_ACTION_IN, READ_CAPACITY, CAPACITY_BYTES);
        // What waits to be told is told first, and only once.
        let mut ended = scsi::send(&file, &cdb, Direction::In, &mut data);
        for _ in 0..ATTENTIONS_MAX {
            match &ended {
                Ok(answer) if sense(answer).0 == UNIT_ATTENTION => {
                    ended = scsi::send(&file, &cdb, Direction::In, &mut data);
                }
                _ => break,
            }
        }
        SelfTestError::unless_done(name, "READ CAPACITY (16)", ended.map(|ended| answer(&ended)))?;
        let layout =
            layout(&data).map_err(|reason| SelfTestError::Unfit { device: name.to_owned(), reason })?;
        Ok((Self { file, pi_type: layout.pi_type }, layout))
    }

    pub(super) fn read(&self, lba: u64, block: &mut [u8]) -> io::Result<Answer> {
        self.send([READ_16, READ_32], lba, UNCHECKED, Direction::In, block)
    }

    pub(super) fn write(&self, lba: u64, checks: Checks, block: &mut [u8]) -> io::Result<Answer> {
        let protect = if checks == Checks::All { CHECKED } else { UNCHECKED };
        self.send([WRITE_16, WRITE_32], lba, protect, Direction::Out, block)
    }

    fn send(
        &self,
        codes: [u8; 2],
        lba: u64,
        protect: u8,
        direction: Direction,
        block: &mut [u8],
    ) -> io::Result<Answer> {
        let [short, long] = codes;
        let ended = if self.pi_type == 2 {
            scsi::send(&self.file, &cdb32(long, lba, protect), direction, block)
        } else {
            scsi::send(&self.file, &cdb16(short, lba, protect), direction, block)
        }?;
        let answer = answer(&ended);
        if answer == Answer::Done && ended.residual != 0 {
            return Ok(Answer::Refused(format!("{} bytes less than a block and its tuple", ended.residual)));
        }
        Ok(answer)
    }
}

/// One block. SBC-4 §5.15 "READ (16) command".
fn cdb16(code: u8, lba: u64, protect: u8) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (code, protect, 1);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb
}

/// One block, with the reference tag that the volume's first write would give it: type 2 takes no shorter CDB with tuples.
/// SBC-4 §5.16 "READ (32) command".
fn cdb32(action: u8, lba: u64, protect: u8) -> [u8; 32] {
    let mut cdb = [0; 32];
    (cdb[0], cdb[7], cdb[9], cdb[10], cdb[31]) = (VARIABLE_LENGTH, 24, action, protect, 1);
    let lba = lba.to_be_bytes();
    cdb[12..20].copy_from_slice(&lba);
    cdb[20..24].copy_from_slice(&lba[4..]);
    cdb
}

/// READ CAPACITY (16) parameter data. SBC-4 §5.20.2.
fn layout(data: &[u8; CAPACITY_BYTES as usize]) -> Result<Layout, String> {
    let last = u64::from_be_bytes([data[0], data[1], data[2], data[3], data[4], data[5], data[6], data[7]]);
    let block_bytes = u32::from_be_bytes([data[8], data[9], data[10], data[11]]);
    if data[12] & 1 == 0 {
        return Err("it is in the plain view: tuples do not come from this host".to_owned());
    }
    let pi_type = (data[12] >> 1 & 7) + 1;
    if !(1..=3).contains(&pi_type) {
        return Err(format!("protection of type {pi_type}, which this version does not know"));
    }
    if data[13] >> 4 != 0 {
        return Err("several tuples in a block, which this version cannot test".to_owned());
    }
    match usize::try_from(block_bytes) {
        Ok(block_bytes @ (512 | 4096)) => Ok(Layout { blocks: last.saturating_add(1), block_bytes, pi_type }),
        _ => Err(format!("blocks of {block_bytes} bytes")),
    }
}

/// Sense key, additional sense code and its qualifier, of both formats. SPC-4 §4.5.
fn sense(ended: &Ended) -> (u8, (u8, u8)) {
    let byte = |at: usize| ended.sense.get(at).copied().unwrap_or(0);
    match byte(0) & 0x7f {
        0x70 | 0x71 => (byte(2) & 0xf, (byte(12), byte(13))),
        0x72 | 0x73 => (byte(1) & 0xf, (byte(2), byte(3))),
        _ => (0, (0, 0)),
    }
}

fn answer(ended: &Ended) -> Answer {
    if ended.status == 0 {
        return Answer::Done;
    }
    if ended.status != CHECK_CONDITION {
        return Answer::Refused(format!("status {:02x}h", ended.status));
    }
    let (key, (asc, ascq)) = sense(ended);
    let text = format!("sense {key:x}h {asc:02x}h/{ascq:02x}h");
    match (key, (asc, ascq)) {
        (ABORTED_COMMAND, GUARD_FAILED) => Answer::Caught(Tag::Guard, text),
        (ABORTED_COMMAND, REF_FAILED) => Answer::Caught(Tag::Reference, text),
        _ => Answer::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(block_bytes: u32, protection: u8, exponent: u8) -> [u8; CAPACITY_BYTES as usize] {
        let mut data = [0; CAPACITY_BYTES as usize];
        data[7] = 15;
        data[8..12].copy_from_slice(&block_bytes.to_be_bytes());
        (data[12], data[13]) = (protection, exponent);
        data
    }

    #[test]
    fn layout_is_read_or_said_to_be_unfit() {
        let good = |pi_type| Ok(Layout { blocks: 16, block_bytes: 512, pi_type });
        for (protection, pi_type) in [(0b001, 1), (0b011, 2), (0b101, 3)] {
            assert_eq!(layout(&capacity(512, protection, 0)), good(pi_type));
        }
        assert!(layout(&capacity(512, 0b000, 0)).is_err_and(|reason| reason.contains("plain view")));
        for unfit in [capacity(512, 0b111, 0), capacity(4096, 0b001, 0x30), capacity(520, 0b001, 0)] {
            assert!(layout(&unfit).is_err());
        }
    }

    #[test]
    fn sense_of_both_formats_names_the_tag() {
        let ended = |sense: &[u8]| Ended { status: CHECK_CONDITION, sense: sense.to_vec(), residual: 0 };
        let fixed = |asc, ascq| {
            let mut sense = [0; 18];
            (sense[0], sense[2], sense[12], sense[13]) = (0x70, ABORTED_COMMAND, asc, ascq);
            ended(&sense)
        };
        assert!(matches!(answer(&fixed(0x10, 1)), Answer::Caught(Tag::Guard, _)));
        assert!(matches!(answer(&fixed(0x10, 3)), Answer::Caught(Tag::Reference, _)));
        assert!(matches!(answer(&fixed(0x10, 2)), Answer::Refused(_)));
        assert!(matches!(answer(&ended(&[0x72, 0xb, 0x10, 1])), Answer::Caught(Tag::Guard, _)));
        assert!(matches!(answer(&ended(&[0x72, 0x3, 0x10, 1])), Answer::Refused(_)), "not a medium error");
        assert!(matches!(answer(&ended(&[])), Answer::Refused(_)));
        assert_eq!(answer(&Ended { status: 0x18, ..Ended::default() }), Answer::Refused("status 18h".into()));
    }

    #[test]
    fn commands_name_their_block() {
        let cdb = cdb16(WRITE_16, 0x0102, CHECKED);
        assert_eq!(cdb, [0x8a, 0x20, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0]);
        let cdb = cdb32(WRITE_32, 0x0102, UNCHECKED);
        assert_eq!(cdb[..12], [0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0b, 0x60, 0]);
        assert_eq!(cdb[12..], [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
