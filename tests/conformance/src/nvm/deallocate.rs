//! Dataset Management. NVM Command Set 1.1 §3.3.3 "Dataset Management command".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Completion, DeallocateRange, Io, Queue};

use super::{BLOCK, holds, session, size};
use crate::check::{pattern, status_among};
use crate::fields::{done, part, refused};
use crate::{Case, Lab};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.3 \"Dataset Management command\"";
const READS: &str = "NVM Command Set 1.1 §3.3.3.2.1 \"Deallocated or Unwritten Logical Blocks\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.deallocate.one", clause: CLAUSE, run: one_range_is_deallocated },
    Case { id: "nvm.deallocate.many", clause: CLAUSE, run: all_256_ranges_are_deallocated },
    Case { id: "nvm.deallocate.deterministic", clause: READS, run: reads_stay_the_same },
    Case { id: "nvm.deallocate.empty-range", clause: CLAUSE, run: a_range_of_nothing_is_nothing },
    Case { id: "nvm.deallocate.overlapping", clause: CLAUSE, run: ranges_may_overlap },
    Case { id: "nvm.deallocate.whole", clause: CLAUSE, run: a_range_may_be_the_namespace },
    Case { id: "nvm.deallocate.beyond", clause: CLAUSE, run: ranges_beyond_the_end_do_no_harm },
    Case { id: "nvm.deallocate.only-hints", clause: CLAUSE, run: without_the_attribute_nothing_changes },
    Case { id: "nvm.deallocate.attributes", clause: CLAUSE, run: attributes_may_be_combined },
    Case { id: "nvm.deallocate.context", clause: CLAUSE, run: context_attributes_change_nothing },
    Case { id: "nvm.deallocate.short-list", clause: CLAUSE, run: a_short_list_is_refused },
    Case { id: "nvm.deallocate.solicited", clause: CLAUSE, run: the_list_may_come_on_an_r2t },
    Case { id: "nvm.deallocate.rewritten", clause: READS, run: written_again_it_is_there },
];

fn deallocate(io: &mut Queue, ranges: &[(u64, u32)]) -> Result<Completion> {
    let ranges: Vec<_> =
        ranges.iter().map(|(slba, blocks)| DeallocateRange { slba: *slba, blocks: *blocks }).collect();
    Ok(io.deallocate(1, &ranges)?)
}

/// A list of ranges with these attributes in CDW11.
fn managed(attributes: u32, ranges: &[(u32, u32, u64)]) -> Command {
    let data = ranges.iter().flat_map(|(context, blocks, slba)| {
        context.to_le_bytes().into_iter().chain(blocks.to_le_bytes()).chain(slba.to_le_bytes())
    });
    let count = u32::try_from(ranges.len().saturating_sub(1)).unwrap_or(0);
    let sqe = Sqe::new(opcode::DATASET_MANAGEMENT).with_nsid(1).cdw(10, count).cdw(11, attributes);
    Command::with_data(sqe, data.collect())
}

fn one_range_is_deallocated(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = pattern(1, 32 * BLOCK);
    done(&io.write(1, &Io::at(1700, 32), &old)?)?;
    done(&deallocate(io, &[(1708, 8)])?)?;
    holds(io, 1700, part(&old, 0, 8 * BLOCK)?)?;
    // The standard format's DLFEAT says zeroes.
    holds(io, 1708, &vec![0; 8 * BLOCK])?;
    holds(io, 1716, part(&old, 16 * BLOCK, 16 * BLOCK)?)
}

fn all_256_ranges_are_deallocated(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = pattern(2, 256 * BLOCK);
    for half in 0..2 {
        done(&io.write(1, &Io::at(2000 + half * 256, 256), &old)?)?;
    }
    let every_other: Vec<_> = (0..256).map(|index| (2000 + index * 2, 1)).collect();
    done(&deallocate(io, &every_other)?)?;
    for index in 0..256_usize {
        let lba = 2000 + u64::try_from(index)? * 2;
        holds(io, lba, &vec![0; BLOCK])?;
        holds(io, lba + 1, part(&old, (index * 2 + 1) % 256 * BLOCK, BLOCK)?)?;
    }
    Ok(())
}

fn reads_stay_the_same(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.write(1, &Io::at(1740, 4), &pattern(3, 4 * BLOCK))?)?;
    done(&deallocate(io, &[(1740, 4)])?)?;
    let first = io.read(1, &Io::at(1740, 4), 4 * BLOCK)?.ok()?.data;
    for _ in 0..5 {
        holds(io, 1740, &first)?;
    }
    Ok(())
}

fn a_range_of_nothing_is_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = pattern(4, 4 * BLOCK);
    done(&io.write(1, &Io::at(1750, 4), &old)?)?;
    done(&deallocate(io, &[(1750, 0)])?)?;
    done(&deallocate(io, &[(1750, 0), (1752, 1), (1753, 0)])?)?;
    holds(io, 1750, part(&old, 0, 2 * BLOCK)?)?;
    holds(io, 1752, &vec![0; BLOCK])?;
    holds(io, 1753, part(&old, 3 * BLOCK, BLOCK)?)
}

fn ranges_may_overlap(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.write(1, &Io::at(1760, 16), &pattern(5, 16 * BLOCK))?)?;
    done(&deallocate(io, &[(1760, 10), (1765, 11), (1760, 16), (1763, 1)])?)?;
    holds(io, 1760, &vec![0; 16 * BLOCK])
}

fn a_range_may_be_the_namespace(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let all = u32::try_from(size(&mut session)?)?;
    let io = session.io(1);
    done(&io.write(1, &Io::at(0, 2), &pattern(6, 2 * BLOCK))?)?;
    done(&io.write(1, &Io::at(u64::from(all) - 2, 2), &pattern(7, 2 * BLOCK))?)?;
    done(&deallocate(io, &[(0, all)])?)?;
    holds(io, 0, &vec![0; 2 * BLOCK])?;
    holds(io, u64::from(all) - 2, &vec![0; 2 * BLOCK])
}

/// A controller may look at the ranges: then nothing of the command is done.
fn ranges_beyond_the_end_do_no_harm(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let end = size(&mut session)?;
    let io = session.io(1);
    let old = pattern(8, 2 * BLOCK);
    for beyond in
        [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 1, u32::MAX), (0, u32::MAX), (1 << 63, 8)]
    {
        done(&io.write(1, &Io::at(1780, 2), &old)?)?;
        let completion = deallocate(io, &[(1780, 1), beyond])?;
        status_among(&completion, &[code::SUCCESS, code::LBA_OUT_OF_RANGE])?;
        if !completion.status().is_success() {
            ensure!(completion.status().dnr, "{} without Do Not Retry", completion.status());
            holds(io, 1780, &old)?;
        }
    }
    Ok(())
}

fn without_the_attribute_nothing_changes(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = pattern(9, 8 * BLOCK);
    done(&io.write(1, &Io::at(1790, 8), &old)?)?;
    for attributes in [0, 1, 2, 3] {
        done(&io.run(managed(attributes, &[(0, 8, 1790)]))?)?;
        holds(io, 1790, &old)?;
    }
    Ok(())
}

fn attributes_may_be_combined(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for attributes in [4, 5, 6, 7] {
        done(&io.write(1, &Io::at(1800, 4), &pattern(10, 4 * BLOCK))?)?;
        done(&io.run(managed(attributes, &[(0, 4, 1800)]))?)?;
        holds(io, 1800, &vec![0; 4 * BLOCK])?;
    }
    Ok(())
}

fn context_attributes_change_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for context in [0x0000_0001, 0x0000_0735, 0xff00_0000, u32::MAX] {
        done(&io.write(1, &Io::at(1810, 4), &pattern(11, 4 * BLOCK))?)?;
        done(&io.run(managed(4, &[(context, 4, 1810)]))?)?;
        holds(io, 1810, &vec![0; 4 * BLOCK])?;
    }
    Ok(())
}

fn a_short_list_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = pattern(12, 4 * BLOCK);
    done(&io.write(1, &Io::at(1820, 4), &old)?)?;
    let mut command = managed(4, &[(0, 4, 1820)]);
    command.sqe = command.sqe.cdw(10, 1);
    refused(&io.run(command)?, code::DATA_SGL_LENGTH_INVALID)?;
    holds(io, 1820, &old)
}

fn the_list_may_come_on_an_r2t(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.write(1, &Io::at(1830, 4), &pattern(13, 4 * BLOCK))?)?;
    let command = managed(4, &[(0, 4, 1830)]).placed(holdfast_testkit::Placement::Solicited);
    done(&io.run(command)?)?;
    holds(io, 1830, &vec![0; 4 * BLOCK])
}

fn written_again_it_is_there(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for round in 0..10 {
        done(&deallocate(io, &[(1840, 8)])?)?;
        let data = pattern(round + 20, 2 * BLOCK);
        done(&io.write(1, &Io::at(1843, 2), &data)?)?;
        holds(io, 1843, &data)?;
        holds(io, 1840, &vec![0; 3 * BLOCK])?;
    }
    Ok(())
}
