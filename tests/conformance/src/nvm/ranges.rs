//! Where a namespace begins and ends. NVM Command Set 1.1 §3.3 "NVM Command Set Commands", LBA Out of Range.

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Copy, Io, Options, SourceRange};

use super::{BLOCK, holds, session, size};
use crate::check::{pattern, same};
use crate::fields::{done, refused};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "NVM Command Set 1.1 §3.1 \"Completion Queue Entry\", LBA Out of Range (80h)";
const GROWN: &str = "NVM Command Set 1.1 §2.1.1 \"Namespaces\"";

/// The edges.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.ranges.edges", clause: CLAUSE, run: the_first_and_the_last_block_are_there },
    Case { id: "nvm.ranges.whole-end", clause: CLAUSE, run: a_range_may_end_with_the_namespace },
    Case { id: "nvm.ranges.nothing-written", clause: CLAUSE, run: a_range_across_the_end_writes_nothing },
    Case { id: "nvm.ranges.grown", clause: GROWN, run: a_grown_namespace_has_more_blocks },
];

/// Each command beyond the end.
pub(crate) const BEYOND: &[Case] = &[
    Case { id: "nvm.ranges.beyond.read", clause: CLAUSE, run: |lab| beyond(lab, opcode::READ) },
    Case { id: "nvm.ranges.beyond.write", clause: CLAUSE, run: |lab| beyond(lab, opcode::WRITE) },
    Case { id: "nvm.ranges.beyond.compare", clause: CLAUSE, run: |lab| beyond(lab, opcode::COMPARE) },
    Case { id: "nvm.ranges.beyond.verify", clause: CLAUSE, run: |lab| beyond(lab, opcode::VERIFY) },
    Case {
        id: "nvm.ranges.beyond.write-zeroes",
        clause: CLAUSE,
        run: |lab| beyond(lab, opcode::WRITE_ZEROES),
    },
    Case {
        id: "nvm.ranges.beyond.write-uncorrectable",
        clause: CLAUSE,
        run: |lab| beyond(lab, opcode::WRITE_UNCORRECTABLE),
    },
    Case { id: "nvm.ranges.beyond.copy", clause: CLAUSE, run: |lab| beyond(lab, opcode::COPY) },
];

fn the_first_and_the_last_block_are_there(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let last = size(&mut session)? - 1;
    let io = session.io(1);
    for (slba, seed) in [(0, 1), (last, 2)] {
        let data = pattern(seed, BLOCK);
        done(&io.write(1, &Io::at(slba, 1), &data)?)?;
        holds(io, slba, &data)?;
        done(&io.compare(1, &Io::at(slba, 1), &data)?)?;
        done(&io.verify(1, &Io::at(slba, 1))?)?;
        done(&io.write_zeroes(1, &Io::at(slba, 1))?)?;
        holds(io, slba, &vec![0; BLOCK])?;
    }
    Ok(())
}

fn a_range_may_end_with_the_namespace(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let end = size(&mut session)?;
    let io = session.io(1);
    let data = pattern(3, 64 * BLOCK);
    done(&io.write(1, &Io::at(end - 64, 64), &data)?)?;
    holds(io, end - 64, &data)
}

fn a_range_across_the_end_writes_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let end = size(&mut session)?;
    let io = session.io(1);
    let old = pattern(4, 8 * BLOCK);
    done(&io.write(1, &Io::at(end - 8, 8), &old)?)?;
    for blocks in [9, 10, 256] {
        let data = pattern(5, usize::try_from(blocks)? * BLOCK);
        refused(&io.write(1, &Io::at(end - 8, blocks), &data)?, code::LBA_OUT_OF_RANGE)?;
        refused(&io.write_zeroes(1, &Io::at(end - 8, blocks))?, code::LBA_OUT_OF_RANGE)?;
    }
    holds(io, end - 8, &old)
}

/// A command on blocks that need not be there.
fn command(opcode: u8, slba: u64, blocks: u32) -> Result<Command> {
    let at = Io::at(slba, blocks);
    let len = usize::try_from(blocks)? * BLOCK;
    Ok(match opcode {
        opcode::READ => Command::reading(at.sqe(opcode, 1), len),
        opcode::WRITE | opcode::COMPARE => Command::with_data(at.sqe(opcode, 1), vec![7; len]),
        opcode::COPY => {
            let copy = Copy::new(0, slba, &[SourceRange::at(0, blocks)]);
            Command::with_data(copy.sqe(1), copy.data())
        }
        _ => Command::bare(at.sqe(opcode, 1)),
    })
}

fn beyond(lab: &mut Lab, opcode: u8) -> Result<()> {
    let mut session = session(lab)?;
    let end = size(&mut session)?;
    let ranges = [
        (end, 1),
        (end - 1, 2),
        (end + 1, 1),
        (1 << 32, 1),
        (end | 1 << 32, 1),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (u64::MAX - 7, 8),
        (1 << 63, 8),
    ];
    for (slba, blocks) in ranges {
        let completion = session.io(1).run(command(opcode, slba, blocks)?)?;
        refused(&completion, code::LBA_OUT_OF_RANGE)
            .with_context(|| format!("{blocks} blocks at {slba:#x}"))?;
        same("bytes of data", completion.data.len(), 0)?;
    }
    done(&session.io(1).run(Command::bare(Sqe::new(opcode::FLUSH).with_nsid(1)))?)
}

fn a_grown_namespace_has_more_blocks(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    let before = size(&mut session)?;
    let grown = serde_json::json!({"size_bytes": (before + 256) * 4096});
    refused(&session.io(1).read(1, &Io::at(before, 1), BLOCK)?, code::LBA_OUT_OF_RANGE)?;
    lab.rest().patch(&format!("/volumes/{}", share.name), &grown)?;
    let look = || Ok(session.io(1).read(1, &Io::at(before, 1), BLOCK)?.ok().ok());
    holdfast_e2e::eventually(std::time::Duration::from_secs(20), "the grown namespace", look)?;
    same("NSZE", size(&mut session)?, before + 256)?;
    let data = pattern(6, 8 * BLOCK);
    let io = session.io(1);
    done(&io.write(1, &Io::at(before + 248, 8), &data)?)?;
    holds(io, before + 248, &data)?;
    refused(&io.read(1, &Io::at(before + 256, 1), BLOCK)?, code::LBA_OUT_OF_RANGE)
}
