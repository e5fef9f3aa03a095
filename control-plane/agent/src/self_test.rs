//! Writes one block with a good tuple, with a bad guard and with a bad reference tag, by NVMe pass-through and thus past the
//! kernel's own tuples, and says where each was caught. NVM Command Set 1.1 §5.3 "End-to-end Data Protection".

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::Format;
use crate::ioctl::{self, Command, Queue};

/// Identify, and the answer's length.
const IDENTIFY: u8 = 0x06;
const IDENTIFY_BYTES: usize = 4096;
/// Write and Read.
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
/// CDW12: PRCHK asks for the guard, and for the reference tag.
const CHECK_GUARD: u32 = 1 << 28;
const CHECK_REF: u32 = 1 << 26;
/// Bytes of a tuple with a 16-bit guard.
const TUPLE_BYTES: usize = 8;
/// End-to-end Guard Check Error and End-to-end Reference Tag Check Error.
const GUARD_ERROR: u16 = 0x282;
const REF_ERROR: u16 = 0x284;

/// What to write to.
#[derive(Debug, Args)]
pub(crate) struct SelfTestArgs {
    /// An NVMe namespace in the PI view, /dev/nvme0n1 or /dev/ng0n1 say
    device: PathBuf,
    /// The block that is written, and put back as it was afterwards; nobody else may use it meanwhile
    #[arg(long, value_name = "LBA")]
    scratch: u64,
    /// Confirms that the scratch block may be lost
    #[arg(long, required = true)]
    may_be_lost: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfTestError {
    /// The device cannot be opened, or is none.
    #[error("{device}: {error}")]
    Device {
        /// Which.
        device: String,
        /// Why not.
        error: io::Error,
    },
    /// The device is not as the test needs it.
    #[error("{device}: {reason}")]
    Unfit {
        /// Which.
        device: String,
        /// What is missing.
        reason: String,
    },
    /// A command that has to succeed did not.
    #[error("{device}: {what} failed with status {status:03x}h")]
    Status {
        /// Which device.
        device: String,
        /// Which command.
        what: &'static str,
        /// Type and code.
        status: u16,
    },
    /// A fault got through, or a good tuple did not.
    #[error("not everything was caught as it has to be")]
    Slipped,
}

/// How the namespace's blocks look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    blocks: u64,
    block_bytes: usize,
    pi_type: u8,
}

/// One write and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    sent: &'static str,
    good: bool,
    text: String,
}

/// Runs the test; the text to print, and whether everything was as it has to be.
pub(crate) fn run(args: &SelfTestArgs) -> Result<(String, bool), SelfTestError> {
    let name = args.device.display().to_string();
    let failed = |error| SelfTestError::Device { device: name.clone(), error };
    let file = open(&args.device).map_err(failed)?;
    let nsid = ioctl::nsid(&file).map_err(|error| {
        let reason = format!("no NVMe namespace ({error}); only those can be tested in this version");
        SelfTestError::Unfit { device: name.clone(), reason }
    })?;
    let must = |what, status: io::Result<u16>| match status.map_err(failed)? {
        0 => Ok(()),
        status => Err(SelfTestError::Status { device: name.clone(), what, status }),
    };
    let mut identify = vec![0; IDENTIFY_BYTES];
    let command = Command { opcode: IDENTIFY, nsid, ..Command::default() };
    must("Identify", ioctl::send(&file, Queue::Admin, &command, &mut identify))?;
    let layout = layout(&identify).map_err(|reason| SelfTestError::Unfit { device: name.clone(), reason })?;
    if args.scratch >= layout.blocks {
        let reason = format!("it has {} blocks", layout.blocks);
        return Err(SelfTestError::Unfit { device: name.clone(), reason });
    }
    let mut before = vec![0; layout.block_bytes + TUPLE_BYTES];
    let unchecked = |opcode| io_command(opcode, nsid, args.scratch, 0);
    must("Read of the scratch block", ioctl::send(&file, Queue::Io, &unchecked(READ), &mut before))?;
    let outcomes = faults(args.scratch, layout).map(|(sent, mut block, expected)| {
        let checks = CHECK_GUARD | if layout.pi_type == 3 { 0 } else { CHECK_REF };
        let command = io_command(WRITE, nsid, args.scratch, checks);
        judge(sent, expected, ioctl::send(&file, Queue::Io, &command, &mut block))
    });
    must(
        "Write that puts the scratch block back",
        ioctl::send(&file, Queue::Io, &unchecked(WRITE), &mut before),
    )?;
    let good = outcomes.iter().all(|outcome| outcome.good);
    Ok((render(&name, layout, &outcomes, args.output), good))
}

fn open(device: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(device)
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

/// What is sent, block and tuple, and the status that it has to be answered with. Type 3 has no reference tag to check.
fn faults(lba: u64, layout: Layout) -> [(&'static str, Vec<u8>, u16); 3] {
    let data: Vec<u8> = (0_u8..=250).cycle().take(layout.block_bytes).collect();
    let [a, b, c, d, ..] = lba.to_le_bytes();
    let reference = u32::from_le_bytes([a, b, c, d]);
    let guard = crc16_t10dif(&data);
    let block = |guard: u16, reference: u32| {
        let mut block = data.clone();
        block.extend(guard.to_be_bytes());
        block.extend([0, 0]);
        block.extend(reference.to_be_bytes());
        block
    };
    let wrong_ref = if layout.pi_type == 3 { 0 } else { REF_ERROR };
    [
        ("a good tuple", block(guard, reference), 0),
        ("a bad guard", block(guard ^ 1, reference), GUARD_ERROR),
        ("a bad reference tag", block(guard, reference ^ 1), wrong_ref),
    ]
}

fn judge(sent: &'static str, expected: u16, status: io::Result<u16>) -> Outcome {
    let (good, text) = match status {
        Ok(0) if expected == 0 => (true, "taken, as it has to be".to_owned()),
        Ok(0) => (false, "NOT CAUGHT: the target took it".to_owned()),
        Ok(status) if status == expected => (true, format!("caught by the target, status {status:03x}h")),
        Ok(status) => (false, format!("refused by the target with another status, {status:03x}h")),
        Err(error) => (expected != 0, format!("stopped in this host's kernel: {error}")),
    };
    Outcome { sent, good, text }
}

fn render(device: &str, layout: Layout, outcomes: &[Outcome], format: Format) -> String {
    match format {
        Format::Text => {
            let head = format!("{device}: type {}, blocks of {} bytes\n", layout.pi_type, layout.block_bytes);
            outcomes.iter().fold(head, |text, one| format!("{text}  {:<20}{}\n", one.sent, one.text))
        }
        Format::Json => {
            let outcomes: Vec<Value> = outcomes
                .iter()
                .map(|one| json!({ "sent": one.sent, "good": one.good, "result": one.text }))
                .collect();
            let (kind, bytes) = (layout.pi_type, layout.block_bytes);
            format!(
                "{:#}\n",
                json!({ "device": device, "type": kind, "block_size": bytes, "writes": outcomes })
            )
        }
    }
}

/// CRC-16/T10-DIF, bit by bit: polynomial 8BB7h, begins with 0.
fn crc16_t10dif(data: &[u8]) -> u16 {
    data.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            let carry = crc & 0x8000 != 0;
            crc << 1 ^ if carry { 0x8bb7 } else { 0 }
        })
    })
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
    fn guard_is_the_known_one() {
        assert_eq!(crc16_t10dif(b"123456789"), 0xd0db);
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
    fn faults_differ_from_the_good_block_in_their_tag_alone() {
        let layout = Layout { blocks: 16, block_bytes: 512, pi_type: 1 };
        let [(_, good, 0), (_, guard, GUARD_ERROR), (_, reference, REF_ERROR)] = faults(7, layout) else {
            panic!("three writes with their statuses");
        };
        let differs = |block: &[u8]| (0..520).filter(|at| block[*at] != good[*at]).collect::<Vec<_>>();
        assert_eq!((differs(&guard), differs(&reference)), (vec![513], vec![519]));
        assert_eq!(good[516..], [0, 0, 0, 7]);
        assert_eq!(faults(7, Layout { pi_type: 3, ..layout })[2].2, 0, "type 3 has none to check");
    }

    #[test]
    fn where_it_was_caught_is_told_apart() {
        let good = |expected, status| judge("", expected, status).good;
        assert!(good(0, Ok(0)) && good(GUARD_ERROR, Ok(GUARD_ERROR)));
        assert!(!good(GUARD_ERROR, Ok(0)) && !good(0, Ok(GUARD_ERROR)) && !good(REF_ERROR, Ok(GUARD_ERROR)));
        let refused = || Err(io::Error::from(io::ErrorKind::InvalidInput));
        assert!(good(GUARD_ERROR, refused()) && !good(0, refused()));
        assert!(judge("", GUARD_ERROR, refused()).text.contains("this host's kernel"));
    }

    #[test]
    fn a_command_names_its_block() {
        let command = io_command(WRITE, 3, 0x1_0000_0002, CHECK_GUARD);
        assert_eq!(command.cdw10_to_15, [2, 1, CHECK_GUARD, 0, 2, 0]);
    }
}
