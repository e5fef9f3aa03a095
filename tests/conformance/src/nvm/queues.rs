//! Many commands in flight on several queues. NVM Express Base 2.1 §3.3 "NVM Queue Models".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, opcode};
use holdfast_testkit::{Command, Io, Options, Placement, Session};

use super::BLOCK;
use crate::check::pattern;
use crate::fields::done;
use crate::{Case, Lab};

const CLAUSE: &str = "Base 2.1 §3.3 \"NVM Queue Models\"";
const CQES: &str = "Base 2.1 §4.2.1 \"Common Completion Queue Entry\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.queues.depth-reads", clause: CLAUSE, run: |lab| depth(lab, 1, opcode::READ) },
    Case { id: "nvm.queues.depth-writes", clause: CLAUSE, run: |lab| depth(lab, 1, opcode::WRITE) },
    Case { id: "nvm.queues.depth-four-queues", clause: CLAUSE, run: depth_on_four_queues },
    Case { id: "nvm.queues.depth-solicited", clause: CLAUSE, run: many_writes_wait_for_their_data },
    Case { id: "nvm.queues.mixed", clause: CLAUSE, run: all_kinds_at_once },
    Case { id: "nvm.queues.fields", clause: CQES, run: completions_name_their_queue },
];

/// Commands in flight on a queue; a queue holds one entry less than its size.
const DEPTH: u64 = 128;

fn options(queues: u16) -> Options {
    Options::default().io_queues(queues).queue_size(129)
}

fn open(lab: &mut Lab, queues: u16) -> Result<Session> {
    let session = lab.session(options(queues))?;
    ensure!(session.queue_depth_max() >= 128, "CAP.MQES is {}", session.queue_depth_max());
    Ok(session)
}

fn command(opcode: u8, lba: u64, seed: u64) -> Command {
    let sqe = Io::at(lba, 1).sqe(opcode, 1);
    if opcode == opcode::READ {
        Command::reading(sqe, BLOCK)
    } else {
        Command::with_data(sqe, pattern(seed, BLOCK))
    }
}

/// 128 commands in flight, each on its own block.
fn depth(lab: &mut Lab, queues: u16, opcode: u8) -> Result<()> {
    let mut session = open(lab, queues)?;
    let rounds =
        if opcode == opcode::READ { [opcode::WRITE, opcode::READ] } else { [opcode::READ, opcode::WRITE] };
    for (round, opcode) in rounds.into_iter().chain([opcode::READ]).enumerate() {
        let seed = 1000 * u64::try_from(round)?;
        for qid in 1..=queues {
            let io = session.io(qid);
            let first = u64::from(qid) * 200;
            let cids = (0..DEPTH)
                .map(|at| io.submit(command(opcode, first + at, seed + at)))
                .collect::<Result<Vec<_>, _>>()?;
            for cid in cids {
                done(&io.wait(cid)?)?;
            }
        }
    }
    Ok(())
}

fn depth_on_four_queues(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab, 4)?;
    for opcode in [opcode::WRITE, opcode::READ] {
        let mut running = Vec::new();
        for at in 0..DEPTH {
            for qid in 1..=4_u16 {
                let lba = u64::from(qid) * 200 + at;
                running.push((qid, lba, session.io(qid).submit(command(opcode, lba, lba))?));
            }
        }
        for (qid, lba, cid) in running {
            let completion = session.io(qid).wait(cid)?;
            done(&completion)?;
            let right = opcode == opcode::WRITE || completion.data == pattern(lba, BLOCK);
            ensure!(right, "queue {qid}: other data at {lba}");
        }
    }
    Ok(())
}

fn many_writes_wait_for_their_data(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab, 1)?;
    let io = session.io(1);
    let mut cids = Vec::new();
    for at in 0..DEPTH {
        let sqe = Io::at(1000 + at * 8, 8).sqe(opcode::WRITE, 1);
        cids.push(io.submit(Command::with_data(sqe, pattern(at, 8 * BLOCK)).placed(Placement::Solicited))?);
    }
    for cid in cids {
        done(&io.wait(cid)?)?;
    }
    for at in 0..DEPTH {
        super::holds(io, 1000 + at * 8, &pattern(at, 8 * BLOCK)).with_context(|| format!("write {at}"))?;
    }
    Ok(())
}

fn all_kinds_at_once(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab, 2)?;
    let mut running = Vec::new();
    for at in 0..24_u64 {
        for qid in 1..=2_u16 {
            let lba = 2200 + u64::from(qid) * 100 + at;
            let here = Io::at(lba, 1);
            let io = session.io(qid);
            let kinds = [
                command(opcode::WRITE, lba, lba),
                Command::bare(Sqe::new(opcode::FLUSH).with_nsid(1)),
                Command::bare(here.sqe(opcode::VERIFY, 1)),
                command(opcode::READ, lba, lba),
                Command::bare(Io::at(lba + 500, 1).sqe(opcode::WRITE_ZEROES, 1)),
            ];
            for kind in kinds {
                running.push((qid, io.submit(kind)?));
            }
        }
    }
    for (qid, cid) in running {
        done(&session.io(qid).wait(cid)?)?;
    }
    Ok(())
}

/// SQHD moves with the queue; SQID is reserved over fabrics; nothing is left in DW0 and DW1 of a Read or Write.
fn completions_name_their_queue(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab, 1)?;
    let io = session.io(1);
    for at in 0..300_u64 {
        let completion = io.run(command(opcode::WRITE, 2300, at))?;
        done(&completion)?;
        ensure!(completion.cqe.dw0 == 0 && completion.cqe.dw1 == 0, "{:?}", completion.cqe);
        ensure!(completion.cqe.sqhd < 129, "SQHD {} in a queue of 129", completion.cqe.sqhd);
    }
    Ok(())
}
