//! Write Zeroes. NVM Command Set 1.1 §3.3.8 "Write Zeroes command".

use anyhow::Result;
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options};

use super::{BLOCK, holds, session, size};
use crate::check::{pattern, same};
use crate::fields::{bit, done, part, refused};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.8 \"Write Zeroes command\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.zeroes.range", clause: CLAUSE, run: |lab| a_range_reads_as_zeroes(lab, false) },
    Case { id: "nvm.zeroes.deallocate", clause: CLAUSE, run: |lab| a_range_reads_as_zeroes(lab, true) },
    Case { id: "nvm.zeroes.fua", clause: CLAUSE, run: forced_zeroes_are_zeroes },
    Case { id: "nvm.zeroes.large", clause: CLAUSE, run: no_data_moves_so_mdts_does_not_count },
    Case { id: "nvm.zeroes.unwritten", clause: CLAUSE, run: zeroes_over_nothing },
    Case { id: "nvm.zeroes.written-again", clause: CLAUSE, run: a_later_write_counts },
    Case { id: "nvm.zeroes.namespace", clause: CLAUSE, run: a_namespace_is_cleared_at_once },
    Case { id: "nvm.zeroes.no-data", clause: CLAUSE, run: no_data_is_asked_for },
];

fn a_range_reads_as_zeroes(lab: &mut Lab, deallocate: bool) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = pattern(1, 32 * BLOCK);
    done(&io.write(1, &Io::at(1100, 32), &old)?)?;
    let at = Io::at(1104, 8);
    done(&io.write_zeroes(1, &if deallocate { at.deallocate() } else { at })?)?;
    holds(io, 1100, part(&old, 0, 4 * BLOCK)?)?;
    holds(io, 1104, &vec![0; 8 * BLOCK])?;
    holds(io, 1112, part(&old, 12 * BLOCK, 20 * BLOCK)?)
}

fn forced_zeroes_are_zeroes(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.write(1, &Io::at(1140, 4), &pattern(2, 4 * BLOCK))?)?;
    done(&io.write_zeroes(1, &Io::at(1140, 4).fua().limited_retry())?)?;
    holds(io, 1140, &vec![0; 4 * BLOCK])
}

fn no_data_moves_so_mdts_does_not_count(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let all = u32::try_from(size(&mut session)?.min(0x1_0000))?;
    let io = session.io(1);
    let places = [0, 255, 256, 257, 1000, u64::from(all) - 1];
    for lba in places {
        done(&io.write(1, &Io::at(lba, 1), &pattern(lba, BLOCK))?)?;
    }
    done(&io.write_zeroes(1, &Io::at(0, all))?)?;
    for lba in places {
        holds(io, lba, &vec![0; BLOCK])?;
    }
    Ok(())
}

fn zeroes_over_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for _ in 0..2 {
        done(&io.write_zeroes(1, &Io::at(1200, 256).deallocate())?)?;
        done(&io.write_zeroes(1, &Io::at(1200, 256))?)?;
    }
    holds(io, 1200, &vec![0; 256 * BLOCK])
}

fn a_later_write_counts(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for round in 0..10 {
        done(&io.write_zeroes(1, &Io::at(1500, 4).deallocate())?)?;
        let data = pattern(round, 2 * BLOCK);
        done(&io.write(1, &Io::at(1501, 2), &data)?)?;
        holds(io, 1501, &data)?;
        holds(io, 1500, &vec![0; BLOCK])?;
        holds(io, 1503, &vec![0; BLOCK])?;
    }
    Ok(())
}

/// NSZ (CDW12 bit 23), where ONCS bit 12 has it: every block is cleared, whatever SLBA and NLB say, and DW0 bit 0 tells so.
/// It goes only with DEAC.
fn a_namespace_is_cleared_at_once(lab: &mut Lab) -> Result<()> {
    const NSZ: u32 = 1 << 23;
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    if !bit(session.controller().oncs, 12) {
        return Ok(());
    }
    let last = size(&mut session)? - 1;
    let io = session.io(1);
    for slba in [0, u64::MAX] {
        for lba in [0, 700, last] {
            done(&io.write(1, &Io::at(lba, 1), &pattern(lba, BLOCK))?)?;
        }
        refused(&io.write_zeroes(1, &Io::at(slba, 1).cdw12(NSZ))?, code::INVALID_FIELD)?;
        holds(io, 700, &pattern(700, BLOCK))?;
        let completion = io.write_zeroes(1, &Io::at(slba, 1).cdw12(NSZ).deallocate())?;
        done(&completion)?;
        same("LBAs Cleared to Zero", completion.cqe.dw0 & 1, 1)?;
        for lba in [0, 700, last] {
            holds(io, lba, &vec![0; BLOCK])?;
        }
    }
    Ok(())
}

fn no_data_is_asked_for(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let completion = session.io(1).write_zeroes(1, &Io::at(1600, 8))?;
    done(&completion)?;
    same("R2Ts", completion.trace.r2ts, 0)?;
    same("C2HData PDUs", completion.trace.c2h_pdus, 0)
}
