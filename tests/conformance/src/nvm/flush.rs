//! Flush. NVM Express Base 2.1 §7.2 "Flush command".

use anyhow::Result;
use holdfast_testkit::wire::{Sqe, opcode};
use holdfast_testkit::{Command, Io, Options};

use super::{BLOCK, holds, session};
use crate::check::{pattern, same};
use crate::fields::done;
use crate::{Case, Format, Guard, Lab, View};

const CLAUSE: &str = "Base 2.1 §7.2 \"Flush command\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.flush.written", clause: CLAUSE, run: what_was_written_is_there },
    Case { id: "nvm.flush.empty", clause: CLAUSE, run: nothing_to_flush_is_no_error },
    Case { id: "nvm.flush.unused-fields", clause: CLAUSE, run: other_fields_are_ignored },
    Case { id: "nvm.flush.concurrent", clause: CLAUSE, run: flushes_and_writes_at_once },
    Case { id: "nvm.flush.pi", clause: CLAUSE, run: a_volume_with_tuples_is_flushed },
];

fn what_was_written_is_there(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(1, 32 * BLOCK);
    done(&io.write(1, &Io::at(1000, 32), &data)?)?;
    let completion = io.flush(1)?;
    done(&completion)?;
    same("bytes of data", completion.data.len(), 0)?;
    holds(io, 1000, &data)
}

fn nothing_to_flush_is_no_error(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    for _ in 0..3 {
        done(&session.io(1).flush(1)?)?;
    }
    Ok(())
}

/// All command specific fields of Flush are reserved.
fn other_fields_are_ignored(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let sqe = (10..=15).fold(Sqe::new(opcode::FLUSH).with_nsid(1), |sqe, at| sqe.cdw(at, u32::MAX));
    done(&session.io(1).run(Command::bare(sqe))?)
}

fn flushes_and_writes_at_once(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let mut cids = Vec::new();
    for round in 0..32 {
        let write = Io::at(1040 + round, 1).sqe(opcode::WRITE, 1);
        cids.push(io.submit(Command::with_data(write, pattern(round, BLOCK)))?);
        cids.push(io.submit(Command::bare(Sqe::new(opcode::FLUSH).with_nsid(1)))?);
    }
    for cid in cids {
        done(&io.wait(cid)?)?;
    }
    for round in 0..32 {
        holds(io, 1040 + round, &pattern(round, BLOCK))?;
    }
    Ok(())
}

fn a_volume_with_tuples_is_flushed(lab: &mut Lab) -> Result<()> {
    let mut session = lab.open(Format::new(512, 2, Guard::Crc16), View::Pi, Options::default())?;
    done(&session.io(1).flush(1)?)
}
