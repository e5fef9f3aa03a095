//! Verify. NVM Command Set 1.1 §3.3.5 "Verify command".

use anyhow::Result;
use holdfast_testkit::Io;

use super::{BLOCK, holds, session, size};
use crate::check::{pattern, same};
use crate::fields::done;
use crate::{Case, Lab};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.5 \"Verify command\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.verify.written", clause: CLAUSE, run: written_blocks_verify },
    Case { id: "nvm.verify.unwritten", clause: CLAUSE, run: unwritten_blocks_verify },
    Case { id: "nvm.verify.whole", clause: CLAUSE, run: a_whole_namespace_verifies },
    Case { id: "nvm.verify.flags", clause: CLAUSE, run: fua_and_limited_retry_are_taken },
];

fn written_blocks_verify(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(1, 32 * BLOCK);
    done(&io.write(1, &Io::at(3400, 32), &data)?)?;
    for (slba, blocks) in [(3400, 1), (3400, 32), (3431, 1)] {
        let completion = io.verify(1, &Io::at(slba, blocks))?;
        done(&completion)?;
        same("bytes of data", completion.data.len(), 0)?;
        same("R2Ts", completion.trace.r2ts, 0)?;
    }
    holds(io, 3400, &data)
}

fn unwritten_blocks_verify(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.write_zeroes(1, &Io::at(3440, 16).deallocate())?)?;
    done(&io.verify(1, &Io::at(3440, 16))?)
}

/// VSL is a recommendation where ONCS has the command, and MDTS bounds only what moves data.
fn a_whole_namespace_verifies(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let all = u32::try_from(size(&mut session)?.min(0x1_0000))?;
    done(&session.io(1).verify(1, &Io::at(0, all))?)
}

fn fua_and_limited_retry_are_taken(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.verify(1, &Io::at(0, 8).fua())?)?;
    done(&io.verify(1, &Io::at(0, 8).limited_retry())?)?;
    done(&io.verify(1, &Io::at(0, 8).fua().limited_retry())?)
}
