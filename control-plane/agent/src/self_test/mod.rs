//! Writes one block with a good tuple, with a bad guard and with a bad reference tag, by pass-through and thus past the kernel's
//! own tuples, and says where each was caught.

mod device;
mod nvme;
mod scsi;

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::Format;
use device::{Answer, Checks, Device, Layout, TUPLE_BYTES, Tag};

/// What to write to.
#[derive(Debug, Args)]
pub(crate) struct SelfTestArgs {
    /// An NVMe namespace or a SCSI disk in the PI view: /dev/nvme0n1, /dev/ng0n1, /dev/sdb, /dev/sg1
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
    #[error("{device}: {what} failed: {reason}")]
    Failed {
        /// Which device.
        device: String,
        /// Which command.
        what: &'static str,
        /// What was answered.
        reason: String,
    },
    /// A fault got through, or a good tuple did not.
    #[error("not everything was caught as it has to be")]
    Slipped,
}

impl SelfTestError {
    /// For a command without which there is nothing to test.
    fn unless_done(device: &str, what: &'static str, answer: io::Result<Answer>) -> Result<(), Self> {
        let failed = |reason| Self::Failed { device: device.to_owned(), what, reason };
        match answer.map_err(|error| failed(error.to_string()))? {
            Answer::Done => Ok(()),
            Answer::Caught(_, reason) | Answer::Refused(reason) => Err(failed(reason)),
        }
    }
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
    let file = OpenOptions::new().read(true).write(true).open(&args.device).map_err(failed)?;
    let (device, layout) = Device::identify(file, &name)?;
    if args.scratch >= layout.blocks {
        let reason = format!("it has {} blocks", layout.blocks);
        return Err(SelfTestError::Unfit { device: name, reason });
    }
    let mut before = vec![0; layout.block_bytes + TUPLE_BYTES];
    SelfTestError::unless_done(&name, "read of the scratch block", device.read(args.scratch, &mut before))?;
    let outcomes = faults(args.scratch, layout).map(|(sent, mut block, expected)| {
        judge(sent, expected, device.write(args.scratch, Checks::All, &mut block))
    });
    let restored = device.write(args.scratch, Checks::None, &mut before);
    SelfTestError::unless_done(&name, "write that puts the scratch block back", restored)?;
    let good = outcomes.iter().all(|outcome| outcome.good);
    Ok((render(&name, layout, &outcomes, args.output), good))
}

/// What is sent, block and tuple, and the tag that has to be found wrong. Type 3 has no reference tag to check.
fn faults(lba: u64, layout: Layout) -> [(&'static str, Vec<u8>, Option<Tag>); 3] {
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
    let wrong_ref = (layout.pi_type != 3).then_some(Tag::Reference);
    [
        ("a good tuple", block(guard, reference), None),
        ("a bad guard", block(guard ^ 1, reference), Some(Tag::Guard)),
        ("a bad reference tag", block(guard, reference ^ 1), wrong_ref),
    ]
}

fn judge(sent: &'static str, expected: Option<Tag>, answer: io::Result<Answer>) -> Outcome {
    let (good, text) = match answer {
        Ok(Answer::Done) if expected.is_none() => (true, "taken, as it has to be".to_owned()),
        Ok(Answer::Done) => (false, "NOT CAUGHT: the target took it".to_owned()),
        Ok(Answer::Caught(tag, text)) if expected == Some(tag) => {
            (true, format!("caught by the target, {text}"))
        }
        Ok(Answer::Caught(_, text) | Answer::Refused(text)) => {
            (false, format!("refused by the target for another reason, {text}"))
        }
        Err(error) => (expected.is_some(), format!("stopped in this host's kernel: {error}")),
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

    #[test]
    fn guard_is_the_known_one() {
        assert_eq!(crc16_t10dif(b"123456789"), 0xd0db);
    }

    #[test]
    fn faults_differ_from_the_good_block_in_their_tag_alone() {
        let layout = Layout { blocks: 16, block_bytes: 512, pi_type: 1 };
        let [(_, good, None), (_, guard, Some(Tag::Guard)), (_, reference, Some(Tag::Reference))] =
            faults(7, layout)
        else {
            panic!("three writes with the tags that are wrong");
        };
        let differs = |block: &[u8]| (0..520).filter(|at| block[*at] != good[*at]).collect::<Vec<_>>();
        assert_eq!((differs(&guard), differs(&reference)), (vec![513], vec![519]));
        assert_eq!(good[516..], [0, 0, 0, 7]);
        assert_eq!(faults(7, Layout { pi_type: 3, ..layout })[2].2, None, "type 3 has none to check");
    }

    #[test]
    fn where_it_was_caught_is_told_apart() {
        let good = |expected, answer| judge("", expected, Ok(answer)).good;
        let caught = |tag| Answer::Caught(tag, String::new());
        assert!(good(None, Answer::Done) && good(Some(Tag::Guard), caught(Tag::Guard)));
        assert!(!good(Some(Tag::Guard), Answer::Done) && !good(None, caught(Tag::Guard)));
        assert!(!good(Some(Tag::Reference), caught(Tag::Guard)));
        assert!(!good(Some(Tag::Guard), Answer::Refused(String::new())));
        let stopped = |expected| judge("", expected, Err(io::ErrorKind::InvalidInput.into()));
        assert!(stopped(Some(Tag::Guard)).good && !stopped(None).good);
        assert!(stopped(Some(Tag::Guard)).text.contains("this host's kernel"));
    }
}
