//! Write Uncorrectable. NVM Command Set 1.1 §3.3.7 "Write Uncorrectable command".

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::{code, opcode};
use holdfast_testkit::{Command, Copy, DeallocateRange, Io, Options, Queue, SourceRange};

use super::{BLOCK, holds, session, small_session};
use crate::check::{pattern, status};
use crate::fields::{done, part};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.7 \"Write Uncorrectable command\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.uncorrectable.read", clause: CLAUSE, run: marked_blocks_cannot_be_read },
    Case { id: "nvm.uncorrectable.neighbours", clause: CLAUSE, run: neighbours_can },
    Case { id: "nvm.uncorrectable.part", clause: CLAUSE, run: one_marked_block_fails_the_command },
    Case { id: "nvm.uncorrectable.verify", clause: CLAUSE, run: marked_blocks_do_not_verify },
    Case { id: "nvm.uncorrectable.compare", clause: CLAUSE, run: marked_blocks_do_not_compare },
    Case { id: "nvm.uncorrectable.copy", clause: CLAUSE, run: marked_blocks_are_not_copied },
    Case { id: "nvm.uncorrectable.written", clause: CLAUSE, run: a_write_clears_the_mark },
    Case { id: "nvm.uncorrectable.zeroed", clause: CLAUSE, run: zeroes_clear_the_mark },
    Case { id: "nvm.uncorrectable.deallocated", clause: CLAUSE, run: deallocation_clears_the_mark },
    Case { id: "nvm.uncorrectable.some-written", clause: CLAUSE, run: only_written_blocks_are_cleared },
    Case { id: "nvm.uncorrectable.unwritten", clause: CLAUSE, run: unwritten_blocks_can_be_marked },
    Case { id: "nvm.uncorrectable.small", clause: CLAUSE, run: small_blocks_can_be_marked },
    Case { id: "nvm.uncorrectable.other-view", clause: CLAUSE, run: a_mark_counts_in_both_views },
    Case { id: "nvm.uncorrectable.pract", clause: CLAUSE, run: a_mark_counts_without_checks },
    Case { id: "nvm.uncorrectable.after-session", clause: CLAUSE, run: a_mark_outlives_the_session },
];

const LBA: u64 = 3500;

/// Writes 8 blocks and marks the third and fourth.
fn marked(io: &mut Queue) -> Result<Vec<u8>> {
    let data = pattern(1, 8 * BLOCK);
    done(&io.write(1, &Io::at(LBA, 8), &data)?)?;
    done(&io.write_uncorrectable(1, &Io::at(LBA + 2, 2))?).context("Write Uncorrectable")?;
    Ok(data)
}

fn fails(io: &mut Queue, slba: u64, blocks: u32) -> Result<()> {
    let len = usize::try_from(blocks)? * BLOCK;
    let completion = io.read(1, &Io::at(slba, blocks), len)?;
    status(&completion, code::UNRECOVERED_READ).with_context(|| format!("{blocks} blocks at {slba}"))
}

fn marked_blocks_cannot_be_read(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    marked(io)?;
    fails(io, LBA + 2, 1)?;
    fails(io, LBA + 3, 1)?;
    fails(io, LBA + 2, 2)?;
    // As often as one tries.
    fails(io, LBA + 2, 2)
}

fn neighbours_can(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = marked(io)?;
    holds(io, LBA, part(&data, 0, 2 * BLOCK)?)?;
    holds(io, LBA + 4, part(&data, 4 * BLOCK, 4 * BLOCK)?)
}

fn one_marked_block_fails_the_command(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    marked(io)?;
    fails(io, LBA, 3)?;
    fails(io, LBA + 3, 5)?;
    fails(io, LBA, 8)
}

fn marked_blocks_do_not_verify(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    marked(io)?;
    status(&io.verify(1, &Io::at(LBA, 8))?, code::UNRECOVERED_READ)?;
    done(&io.verify(1, &Io::at(LBA, 2))?)
}

fn marked_blocks_do_not_compare(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = marked(io)?;
    status(&io.compare(1, &Io::at(LBA, 8), &data)?, code::UNRECOVERED_READ)
}

fn marked_blocks_are_not_copied(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    marked(io)?;
    let old = pattern(2, 8 * BLOCK);
    done(&io.write(1, &Io::at(LBA + 20, 8), &old)?)?;
    let copy = Copy::new(0, LBA + 20, &[SourceRange::at(LBA, 8)]);
    status(&io.copy(1, &copy)?, code::UNRECOVERED_READ)
}

fn a_write_clears_the_mark(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    marked(io)?;
    let new = pattern(3, 8 * BLOCK);
    done(&io.write(1, &Io::at(LBA, 8), &new)?)?;
    holds(io, LBA, &new)?;
    done(&io.verify(1, &Io::at(LBA, 8))?)
}

fn zeroes_clear_the_mark(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    marked(io)?;
    done(&io.write_zeroes(1, &Io::at(LBA + 2, 2))?)?;
    holds(io, LBA + 2, &vec![0; 2 * BLOCK])
}

fn deallocation_clears_the_mark(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    marked(io)?;
    done(&io.deallocate(1, &[DeallocateRange { slba: LBA + 2, blocks: 2 }])?)?;
    holds(io, LBA + 2, &vec![0; 2 * BLOCK])
}

fn only_written_blocks_are_cleared(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    marked(io)?;
    let new = pattern(4, BLOCK);
    done(&io.write(1, &Io::at(LBA + 2, 1), &new)?)?;
    holds(io, LBA + 2, &new)?;
    fails(io, LBA + 3, 1)?;
    done(&io.write(1, &Io::at(LBA + 3, 1), &new)?)
}

fn unwritten_blocks_can_be_marked(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.write_zeroes(1, &Io::at(LBA + 40, 4).deallocate())?)?;
    done(&io.write_uncorrectable(1, &Io::at(LBA + 41, 1))?)?;
    fails(io, LBA + 41, 1)?;
    holds(io, LBA + 40, &vec![0; BLOCK])?;
    holds(io, LBA + 42, &vec![0; BLOCK])?;
    done(&io.write_zeroes(1, &Io::at(LBA + 40, 4))?)
}

fn small_blocks_can_be_marked(lab: &mut Lab) -> Result<()> {
    let mut session = small_session(lab)?;
    let io = session.io(1);
    let data = pattern(5, 16 * 512);
    done(&io.write(1, &Io::at(5000, 16), &data)?)?;
    done(&io.write_uncorrectable(1, &Io::at(5003, 1))?)?;
    status(&io.read(1, &Io::at(5000, 16), data.len())?, code::UNRECOVERED_READ)?;
    status(&io.read(1, &Io::at(5003, 1), 512)?, code::UNRECOVERED_READ)?;
    for (slba, blocks) in [(5000_u64, 3_usize), (5004, 12)] {
        let at = Io::at(slba, u32::try_from(blocks)?);
        let found = io.read(1, &at, blocks * 512)?.ok()?.data;
        let from = usize::try_from(slba - 5000)? * 512;
        crate::check::same("neighbours", found.as_slice() == part(&data, from, blocks * 512)?, true)?;
    }
    done(&io.write(1, &Io::at(5000, 16), &data)?)
}

fn a_mark_counts_in_both_views(lab: &mut Lab) -> Result<()> {
    let mut plain = session(lab)?;
    let mut pi = lab.open(Format::STANDARD, View::Pi, Options::default())?;
    marked(plain.io(1))?;
    let io = pi.io(1);
    status(&io.read(1, &Io::at(LBA + 2, 1), BLOCK + 8)?, code::UNRECOVERED_READ)?;
    status(&io.verify(1, &Io::at(LBA + 2, 1).check_guard())?, code::UNRECOVERED_READ)?;
    done(&io.write(1, &Io::at(LBA + 2, 2).pract().ref_tag(u32::try_from(LBA + 2)?), &vec![6; 2 * BLOCK])?)?;
    holds(plain.io(1), LBA + 2, &vec![6; 2 * BLOCK])
}

fn a_mark_counts_without_checks(lab: &mut Lab) -> Result<()> {
    let mut session = lab.open(Format::STANDARD, View::Pi, Options::default())?;
    let io = session.io(1);
    done(&io.run(Command::bare(Io::at(LBA + 60, 1).sqe(opcode::WRITE_UNCORRECTABLE, 1)))?)?;
    status(&io.read(1, &Io::at(LBA + 60, 1), BLOCK + 8)?, code::UNRECOVERED_READ)?;
    status(&io.read(1, &Io::at(LBA + 60, 1).pract(), BLOCK)?, code::UNRECOVERED_READ)?;
    done(&io.write_zeroes(1, &Io::at(LBA + 60, 1).pract().ref_tag(u32::try_from(LBA + 60)?))?)?;
    done(&io.read(1, &Io::at(LBA + 60, 1).pract(), BLOCK)?)
}

fn a_mark_outlives_the_session(lab: &mut Lab) -> Result<()> {
    let mut first = session(lab)?;
    marked(first.io(1))?;
    first.close()?;
    let mut second = session(lab)?;
    fails(second.io(1), LBA + 2, 1)?;
    done(&second.io(1).write_zeroes(1, &Io::at(LBA, 8))?)
}
