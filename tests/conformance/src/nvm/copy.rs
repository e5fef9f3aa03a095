//! Copy within a namespace. NVM Command Set 1.1 §3.3.2 "Copy command".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Command, Copy, Io, Placement, Queue, Session, SourceRange};

use super::{BLOCK, holds, session, size};
use crate::admin::identify;
use crate::check::{pattern, same, status_among};
use crate::fields::{byte, done, le16, le32, part, refused};
use crate::{Case, Lab};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.2 \"Copy command\"";
const LIMITS: &str = "NVM Command Set 1.1 §3.3.2 \"Copy command\", MSRC, MSSRL and MCL";
const COMPLETION: &str = "NVM Command Set 1.1 §3.3.2.5 \"Command Completion\"";
const ATOMIC: &str = "NVM Command Set 1.1 §3.3.2.2 \"Copy atomicity\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.copy.one", clause: CLAUSE, run: one_range_is_copied },
    Case { id: "nvm.copy.order", clause: CLAUSE, run: ranges_land_in_their_order },
    Case { id: "nvm.copy.lengths", clause: CLAUSE, run: ranges_of_any_length },
    Case { id: "nvm.copy.most-ranges", clause: LIMITS, run: as_many_ranges_as_msrc_says },
    Case { id: "nvm.copy.too-many-ranges", clause: LIMITS, run: more_ranges_are_refused },
    Case { id: "nvm.copy.longest-range", clause: LIMITS, run: a_range_as_long_as_mssrl },
    Case { id: "nvm.copy.too-long-range", clause: LIMITS, run: a_longer_range_is_refused },
    Case { id: "nvm.copy.too-long", clause: LIMITS, run: more_than_mcl_is_refused },
    Case { id: "nvm.copy.source-beyond", clause: COMPLETION, run: a_source_beyond_the_end_fails },
    Case { id: "nvm.copy.destination-beyond", clause: COMPLETION, run: a_destination_beyond_the_end_fails },
    Case { id: "nvm.copy.same-blocks", clause: CLAUSE, run: a_copy_onto_itself_changes_nothing },
    Case { id: "nvm.copy.repeated-source", clause: CLAUSE, run: a_source_may_be_named_twice },
    Case { id: "nvm.copy.unwritten", clause: CLAUSE, run: unwritten_blocks_are_copied_as_zeroes },
    Case { id: "nvm.copy.solicited", clause: CLAUSE, run: descriptors_may_come_on_an_r2t },
    Case { id: "nvm.copy.short-list", clause: CLAUSE, run: a_short_list_is_refused },
    Case { id: "nvm.copy.fua", clause: CLAUSE, run: forced_copies_are_there },
    Case { id: "nvm.copy.prinfo-ignored", clause: CLAUSE, run: prinfo_means_nothing_without_protection },
    Case { id: "nvm.copy.concurrent", clause: ATOMIC, run: copies_and_writes_do_not_mix },
];

const FROM: u64 = 100;
const TO: u64 = 600;

fn source(io: &mut Queue, seed: u64, blocks: u32) -> Result<Vec<u8>> {
    let data = pattern(seed, usize::try_from(blocks)? * BLOCK);
    done(&io.write(1, &Io::at(FROM, blocks), &data)?)?;
    Ok(data)
}

fn copied(io: &mut Queue, to: u64, ranges: &[SourceRange]) -> Result<()> {
    done(&io.copy(1, &Copy::new(0, to, ranges))?)
}

/// MSSRL, MCL and MSRC.
fn limits(session: &mut Session) -> Result<(u32, u32, usize)> {
    let data = identify(session, 0x00, 1, 0)?;
    Ok((le16(&data, 74)?.into(), le32(&data, 76)?, usize::from(byte(&data, 80)?) + 1))
}

fn one_range_is_copied(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = source(io, 1, 16)?;
    copied(io, TO, &[SourceRange::at(FROM, 16)])?;
    holds(io, TO, &data)?;
    holds(io, FROM, &data)
}

fn ranges_land_in_their_order(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = source(io, 2, 16)?;
    let around = pattern(3, 24 * BLOCK);
    done(&io.write(1, &Io::at(TO - 4, 24), &around)?)?;
    let picked = [(9, 2), (0, 1), (4, 5), (15, 1)];
    let ranges: Vec<_> = picked.iter().map(|(at, blocks)| SourceRange::at(FROM + at, *blocks)).collect();
    copied(io, TO, &ranges)?;
    let mut at = TO;
    for (from, blocks) in picked {
        let len = usize::try_from(blocks)? * BLOCK;
        holds(io, at, part(&data, usize::try_from(from)? * BLOCK, len)?)?;
        at += u64::from(blocks);
    }
    holds(io, TO - 4, part(&around, 0, 4 * BLOCK)?)?;
    holds(io, at, part(&around, 13 * BLOCK, 11 * BLOCK)?)
}

fn ranges_of_any_length(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for blocks in [1, 2, 3, 31, 32, 33, 100] {
        let data = source(io, u64::from(blocks) + 10, blocks)?;
        copied(io, TO, &[SourceRange::at(FROM, blocks)])?;
        holds(io, TO, &data).with_context(|| format!("{blocks} blocks"))?;
    }
    Ok(())
}

fn as_many_ranges_as_msrc_says(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let (_, most, ranges) = limits(&mut session)?;
    let io = session.io(1);
    let count = u32::try_from(ranges)?.min(most);
    let data = source(io, 20, count)?;
    // Backwards, so that every range counts.
    let list: Vec<_> = (0..count).rev().map(|at| SourceRange::at(FROM + u64::from(at), 1)).collect();
    copied(io, TO, &list)?;
    let expected: Vec<u8> = data.chunks(BLOCK).rev().flatten().copied().collect();
    holds(io, TO, &expected)
}

fn more_ranges_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let (_, _, ranges) = limits(&mut session)?;
    if ranges >= 256 {
        return Ok(());
    }
    let io = session.io(1);
    let old = pattern(21, BLOCK);
    done(&io.write(1, &Io::at(TO, 1), &old)?)?;
    let list = vec![SourceRange::at(FROM, 1); ranges + 1];
    let completion = io.copy(1, &Copy::new(0, TO, &list))?;
    refused(&completion, code::COMMAND_SIZE_LIMIT)?;
    same("DW0", completion.cqe.dw0, 0)?;
    holds(io, TO, &old)
}

fn a_range_as_long_as_mssrl(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let (longest, most, _) = limits(&mut session)?;
    let blocks = longest.min(most).min(1024);
    let io = session.io(1);
    let data = pattern(22, 256 * BLOCK);
    for at in (0..blocks).step_by(256) {
        let len = usize::try_from(256.min(blocks - at))? * BLOCK;
        done(&io.write(1, &Io::at(u64::from(at), 256.min(blocks - at)), part(&data, 0, len)?)?)?;
    }
    copied(io, 2048, &[SourceRange::at(0, blocks)])?;
    for at in (0..blocks).step_by(256) {
        let len = usize::try_from(256.min(blocks - at))? * BLOCK;
        holds(io, 2048 + u64::from(at), part(&data, 0, len)?)?;
    }
    Ok(())
}

fn a_longer_range_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let (longest, _, _) = limits(&mut session)?;
    if longest >= 2048 {
        return Ok(());
    }
    let copy = Copy::new(0, 2048, &[SourceRange::at(0, longest + 1)]);
    refused(&session.io(1).copy(1, &copy)?, code::COMMAND_SIZE_LIMIT)
}

fn more_than_mcl_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let (longest, most, ranges) = limits(&mut session)?;
    let needed = usize::try_from(most / longest.max(1) + 1)?;
    if needed > ranges || most >= 2048 {
        return Ok(());
    }
    let list = vec![SourceRange::at(0, longest); needed];
    refused(&session.io(1).copy(1, &Copy::new(0, 2048, &list))?, code::COMMAND_SIZE_LIMIT)
}

/// DW0 is the lowest range that was not copied, or 0 when nothing was written at all.
fn a_source_beyond_the_end_fails(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let end = size(&mut session)?;
    let io = session.io(1);
    source(io, 23, 4)?;
    let old = pattern(24, 8 * BLOCK);
    let good = SourceRange::at(FROM, 1);
    for bad in [SourceRange::at(end, 1), SourceRange::at(end - 1, 2), SourceRange::at(u64::MAX, 1)] {
        for (ranges, failing) in [(vec![bad], 0), (vec![good, bad], 1), (vec![good, good, bad, good], 2)] {
            done(&io.write(1, &Io::at(TO, 8), &old)?)?;
            let completion = io.copy(1, &Copy::new(0, TO, &ranges))?;
            refused(&completion, code::LBA_OUT_OF_RANGE)?;
            let said = completion.cqe.dw0;
            let now = io.read(1, &Io::at(TO, 8), old.len())?.ok()?.data;
            if now == old {
                ensure!(said == 0 || said == failing, "DW0 {said}, range {failing} failed");
            } else {
                same("DW0", said, failing)?;
            }
        }
    }
    Ok(())
}

fn a_destination_beyond_the_end_fails(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let end = size(&mut session)?;
    let io = session.io(1);
    source(io, 25, 4)?;
    for to in [end, end - 3, u64::MAX, u64::MAX - 3, 1 << 63] {
        let completion = io.copy(1, &Copy::new(0, to, &[SourceRange::at(FROM, 4)]))?;
        refused(&completion, code::LBA_OUT_OF_RANGE)?;
    }
    copied(io, end - 4, &[SourceRange::at(FROM, 4)])
}

fn a_copy_onto_itself_changes_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = source(io, 26, 8)?;
    copied(io, FROM, &[SourceRange::at(FROM, 8)])?;
    holds(io, FROM, &data)
}

fn a_source_may_be_named_twice(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = source(io, 27, 2)?;
    copied(io, TO, &[SourceRange::at(FROM, 2), SourceRange::at(FROM, 2), SourceRange::at(FROM, 2)])?;
    holds(io, TO, &[data.clone(), data.clone(), data].concat())
}

fn unwritten_blocks_are_copied_as_zeroes(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.write_zeroes(1, &Io::at(FROM, 8).deallocate())?)?;
    done(&io.write(1, &Io::at(TO, 8), &pattern(28, 8 * BLOCK))?)?;
    copied(io, TO, &[SourceRange::at(FROM, 8)])?;
    holds(io, TO, &vec![0; 8 * BLOCK])
}

fn descriptors_may_come_on_an_r2t(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = source(io, 29, 4)?;
    let copy = Copy::new(0, TO, &[SourceRange::at(FROM, 4)]);
    done(&io.run(Command::with_data(copy.sqe(1), copy.data()).placed(Placement::Solicited))?)?;
    holds(io, TO, &data)
}

fn a_short_list_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let copy = Copy::new(0, TO, &[SourceRange::at(FROM, 1), SourceRange::at(FROM, 1)]);
    let half = copy.data().get(..32).unwrap_or_default().to_vec();
    refused(&io.run(Command::with_data(copy.sqe(1), half))?, code::DATA_SGL_LENGTH_INVALID)
}

fn forced_copies_are_there(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = source(io, 30, 4)?;
    let copy = Copy { cdw12: 0b11 << 30, ..Copy::new(0, TO, &[SourceRange::at(FROM, 4)]) };
    done(&io.copy(1, &copy)?)?;
    holds(io, TO, &data)
}

fn prinfo_means_nothing_without_protection(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = source(io, 31, 4)?;
    for (prinfor, prinfow) in [(0b0111, 0b0111), (0b1000, 0b0000), (0b0000, 0b1000), (0b1111, 0b1111)] {
        let copy = Copy::new(0, TO, &[SourceRange::at(FROM, 4)]).prinfo(prinfor, prinfow).app_tag(3).tags(9);
        done(&io.copy(1, &copy)?)?;
        holds(io, TO, &data)?;
    }
    Ok(())
}

/// Copies and Writes of the same blocks in flight together leave one of them, whole.
fn copies_and_writes_do_not_mix(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let ones = vec![1; 8 * BLOCK];
    for round in 0..20 {
        done(&io.write(1, &Io::at(FROM, 8), &ones)?)?;
        let copy = Copy::new(0, TO, &[SourceRange::at(FROM, 3), SourceRange::at(FROM + 3, 5)]);
        let copying = io.submit(Command::with_data(copy.sqe(1), copy.data()))?;
        let write = Io::at(TO, 8).sqe(holdfast_testkit::wire::opcode::WRITE, 1);
        let writing = io.submit(Command::with_data(write, vec![2; 8 * BLOCK]))?;
        status_among(&io.wait(copying)?, &[code::SUCCESS])?;
        done(&io.wait(writing)?)?;
        let found = io.read(1, &Io::at(TO, 8), 8 * BLOCK)?.ok()?.data;
        let first = byte(&found, 0)?;
        ensure!(found.iter().all(|byte| *byte == first), "round {round}: a mixture");
    }
    Ok(())
}
