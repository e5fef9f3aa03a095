//! An NVMe namespace with tuples. NVM Command Set 1.1 §5.3 "End-to-end Data Protection".

use std::fs::File;
use std::io;

use super::SelfTestError;
use super::device::{Answer, Checks, Layout, TUPLE_BYTES, Tag};
use crate::ioctl::nvme::{self, Command, Queue};

/// Identify, and the answer's length.
const IDENTIFY: u8 = 0x06;
const IDENTIFY_BYTES: usize = 4096;
/// Write and Read.
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
/// CDW12: PRCHK asks for the guard, and for the reference tag.
const CHECK_GUARD: u32 = 1 << 28;
const CHECK_REF: u32 = 1 << 26;
/// End-to-end Guard Check Error and End-to-end Reference Tag Check Error.
const GUARD_ERROR: u16 = 0x282;
const REF_ERROR: u16 = 0x284;

/// An open namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    file: File,
    nsid: u32,
    /// What a write that is to be checked asks for. Type 3 has no reference tag to check.
    checks: u32,
}

impl Namespace {
    /// The namespace identifier, if it is one.
    pub(super) fn find(file: &File) -> io::Result<u32> {
        nvme::nsid(file)
    }

    pub(super) fn identify(file: File, nsid: u32, name: &str) -> Result<(Self, Layout), SelfTestError> {
        let mut page = vec![0; IDENTIFY_BYTES];
        let command = Command { opcode: IDENTIFY, nsid, ..Command::default() };
        let answer = nvme::send(&file, Queue::Admin, &command, &mut page).map(answer);
        SelfTestError::unless_done(name, "Identify", answer)?;
        let layout =
            layout(&page).map_err(|reason| SelfTestError::Unfit { device: name.to_owned(), reason })?;
        let checks = CHECK_GUARD | if layout.pi_type == 3 { 0 } else { CHECK_REF };
        Ok((Self { file, nsid, checks }, layout))
    }

    pub(super) fn read(&self, lba: u64, block: &mut [u8]) -> io::Result<Answer> {
        self.send(READ, lba, 0, block)
    }

    pub(super) fn write(&self, lba: u64, checks: Checks, block: &mut [u8]) -> io::Result<Answer> {
        self.send(WRITE, lba, if checks == Checks::All { self.checks } else { 0 }, block)
    }

    fn send(&self, opcode: u8, lba: u64, checks: u32, block: &mut [u8]) -> io::Result<Answer> {
        nvme::send(&self.file, Queue::Io, &io_command(opcode, self.nsid, lba, checks), block).map(answer)
    }
}

fn answer(status: u16) -> Answer {
    let text = format!("status {status:03x}h");
    match status {
        0 => Answer::Done,
        GUARD_ERROR => Answer::Caught(Tag::Guard, text),
        REF_ERROR => Answer::Caught(Tag::Reference, text),
        _ => Answer::Refused(text),
    }
}

/// Reads Identify Namespace: NVM Command Set 1.1 §4.1.5.1 "NVM Command Set Identify Namespace Data Structure".
fn layout(identify: &[u8]) -> Result<Layout, String> {
    let byte = |at: usize| identify.get(at).copied().unwrap_or(0);
    let blocks = (0..8).rev().fold(0_u64, |sum, at| sum << 8 | u64::from(byte(at)));
    let flbas = byte(26);
    let format = 128 + 4 * usize::from(flbas & 0xf);
    let metadata = u16::from_le_bytes([byte(format), byte(format + 1)]);
    let pi_type = byte(29) & 0x7;
    if metadata == 0 || pi_type == 0 {
        return Err("it is in the plain view: tuples do not come from this host".to_owned());
    }
    if usize::from(metadata) != TUPLE_BYTES {
        return Err(format!(
            "{metadata} bytes of metadata: only 16-bit guards can be tested in this version"
        ));
    }
    if flbas & 0x10 == 0 {
        return Err("its metadata is not behind the blocks".to_owned());
    }
    match byte(format + 2) {
        shift @ 9..=12 => Ok(Layout { blocks, block_bytes: 1 << shift, pi_type }),
        shift => Err(format!("blocks of 2^{shift} bytes")),
    }
}

/// One block from `lba` on: NLB is 0 for one.
fn io_command(opcode: u8, nsid: u32, lba: u64, checks: u32) -> Command {
    let [a, b, c, d, e, f, g, h] = lba.to_le_bytes();
    let (low, high) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    Command { opcode, nsid, cdw10_to_15: [low, high, checks, 0, low, 0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify(metadata: u8, flbas: u8, dps: u8, shift: u8) -> Vec<u8> {
        let mut page = vec![0; IDENTIFY_BYTES];
        page[0] = 16;
        page[26] = flbas;
        page[29] = dps;
        page[128 + 4] = metadata;
        page[128 + 6] = shift;
        page
    }

    #[test]
    fn layout_is_read_or_said_to_be_unfit() {
        let good = layout(&identify(8, 0x11, 1, 12));
        assert_eq!(good, Ok(Layout { blocks: 16, block_bytes: 4096, pi_type: 1 }));
        for unfit in [
            identify(0, 0x11, 0, 12),
            identify(16, 0x11, 1, 12),
            identify(8, 0x01, 1, 12),
            identify(8, 0x11, 1, 13),
            vec![0; 4],
        ] {
            assert!(layout(&unfit).is_err());
        }
    }

    #[test]
    fn statuses_name_the_tag() {
        assert_eq!(answer(0), Answer::Done);
        assert!(matches!(answer(0x282), Answer::Caught(Tag::Guard, _)));
        assert!(matches!(answer(0x284), Answer::Caught(Tag::Reference, _)));
        assert!(matches!(answer(0x283), Answer::Refused(_)));
    }

    #[test]
    fn a_command_names_its_block() {
        let command = io_command(WRITE, 3, 0x1_0000_0002, CHECK_GUARD);
        assert_eq!(command.cdw10_to_15, [2, 1, CHECK_GUARD, 0, 2, 0]);
    }
}
