//! Abort. NVM Express Base 2.1 §5.1.1 "Abort command".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Completion, Copy, Io, Options, Placement, Session, SourceRange};

use super::admin_session;
use crate::check::{pattern, same, status, status_among};
use crate::fields::{bit, done};
use crate::{Case, Lab};

const CLAUSE: &str = "Base 2.1 §5.1.1 \"Abort command\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.abort.unknown-command", clause: CLAUSE, run: an_unknown_command_is_not_aborted },
    Case { id: "admin.abort.unknown-queue", clause: CLAUSE, run: an_unknown_queue_is_answered },
    Case { id: "admin.abort.finished", clause: CLAUSE, run: a_finished_command_is_not_aborted },
    Case { id: "admin.abort.itself", clause: CLAUSE, run: an_abort_does_not_abort_itself },
    Case { id: "admin.abort.event-request", clause: CLAUSE, run: an_event_request_is_aborted },
    Case { id: "admin.abort.event-request-room", clause: CLAUSE, run: an_aborted_request_makes_room },
    Case { id: "admin.abort.waiting-write", clause: CLAUSE, run: a_write_that_waits_for_data_is_aborted },
    Case { id: "admin.abort.waiting-compare", clause: CLAUSE, run: a_compare_that_waits_for_data_is_aborted },
    Case { id: "admin.abort.partial-write", clause: CLAUSE, run: a_partial_write_is_aborted_and_not_stored },
    Case { id: "admin.abort.fused-half", clause: CLAUSE, run: a_lone_first_half_is_aborted },
    Case { id: "admin.abort.waiting-pair", clause: CLAUSE, run: a_pair_that_waits_for_data_is_aborted },
    Case { id: "admin.abort.waiting-copy", clause: CLAUSE, run: a_copy_that_waits_for_its_list_is_aborted },
    Case { id: "admin.abort.waiting-deallocate", clause: CLAUSE, run: a_deallocation_that_waits_is_aborted },
    Case { id: "admin.abort.flood", clause: CLAUSE, run: many_aborts_are_all_answered },
    Case { id: "admin.abort.queue-works-on", clause: CLAUSE, run: the_queue_works_on },
    Case { id: "admin.abort.wrong-queue", clause: CLAUSE, run: the_same_cid_of_another_queue_stays },
    Case { id: "admin.abort.other-controller", clause: CLAUSE, run: other_controllers_are_out_of_reach },
];

/// DW0 bit 0: clear when the command was aborted.
fn aborted(completion: &Completion) -> Result<bool> {
    done(completion)?;
    same("DW0, reserved", completion.cqe.dw0 >> 1, 0)?;
    Ok(!bit(completion.cqe.dw0, 0))
}

fn not_aborted(completion: &Completion) -> Result<()> {
    ensure!(!aborted(completion)?, "a command that there is not was aborted");
    Ok(())
}

fn an_unknown_command_is_not_aborted(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for (sqid, cid) in [(0, 0x7777), (1, 0), (1, 0xffff)] {
        not_aborted(&session.admin().abort(sqid, cid)?)?;
    }
    Ok(())
}

fn an_unknown_queue_is_answered(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for sqid in [2, 64, 0xffff] {
        let completion = session.admin().abort(sqid, 0)?;
        status_among(&completion, &[code::SUCCESS, code::INVALID_FIELD])?;
        ensure!(!completion.status().is_success() || bit(completion.cqe.dw0, 0), "aborted on queue {sqid}");
    }
    Ok(())
}

fn a_finished_command_is_not_aborted(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let cid = session.io(1).run(Command::reading(Io::at(0, 1).sqe(opcode::READ, 1), 4096))?.cqe.cid;
    not_aborted(&session.admin().abort(1, cid)?)
}

fn an_abort_does_not_abort_itself(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    // The queue counts its CIDs up.
    let last = session.admin().keep_alive()?.cqe.cid;
    not_aborted(&session.admin().abort(0, last + 1)?)
}

fn an_event_request_is_aborted(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let admin = session.admin();
    let request = admin.submit_async_event()?;
    let abort = admin.submit(Command::bare(Sqe::new(opcode::ABORT).cdw(10, u32::from(request) << 16)))?;
    // What was aborted is completed before Abort says so.
    let (first, completion) = admin.wait_any()?;
    same("the first completion", first, request)?;
    status(&completion, code::ABORT_REQUESTED)?;
    ensure!(aborted(&admin.wait(abort)?)?, "aborted, and Abort says otherwise");
    Ok(())
}

fn an_aborted_request_makes_room(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let limit = u32::from(session.controller().aerl) + 1;
    let admin = session.admin();
    let mut requests = (0..limit).map(|_| admin.submit_async_event()).collect::<Result<Vec<_>, _>>()?;
    let last = requests.pop().unwrap_or_default();
    ensure!(aborted(&admin.abort(0, last)?)?, "an event request was not aborted");
    status(&admin.wait(last)?, code::ABORT_REQUESTED)?;
    admin.submit_async_event()?;
    done(&admin.keep_alive()?)?;
    ensure!(admin.poll()?.is_none(), "the request that took the room was answered");
    Ok(())
}

/// Submits `opcode` on blocks 40 to 47 and lets its R2T wait.
fn waiting(session: &mut Session, opcode: u8) -> Result<u16> {
    let io = session.io(1);
    io.hold_r2ts(true);
    let sqe = Io::at(40, 8).sqe(opcode, 1);
    let cid = io.submit(Command::with_data(sqe, pattern(41, 8 * 4096)).placed(Placement::Solicited))?;
    same("the command of the R2T", io.next_r2t()?.cccid, cid)?;
    Ok(cid)
}

fn abort_waiting(lab: &mut Lab, opcode: u8) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let old = pattern(40, 8 * 4096);
    done(&session.io(1).write(1, &Io::at(40, 8), &old)?)?;
    let cid = waiting(&mut session, opcode)?;
    ensure!(aborted(&session.admin().abort(1, cid)?)?, "a command that waits for its data was not aborted");
    let io = session.io(1);
    status(&io.wait(cid)?, code::ABORT_REQUESTED)?;
    io.hold_r2ts(false);
    let back = io.read(1, &Io::at(40, 8), old.len())?.ok()?.data;
    ensure!(back == old, "an aborted command changed blocks");
    Ok(())
}

fn a_write_that_waits_for_data_is_aborted(lab: &mut Lab) -> Result<()> {
    abort_waiting(lab, opcode::WRITE)
}

fn a_compare_that_waits_for_data_is_aborted(lab: &mut Lab) -> Result<()> {
    abort_waiting(lab, opcode::COMPARE)
}

fn a_partial_write_is_aborted_and_not_stored(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let old = pattern(42, 8 * 4096);
    done(&session.io(1).write(1, &Io::at(40, 8), &old)?)?;
    let io = session.io(1);
    io.hold_r2ts(true);
    let write = Command::with_data(Io::at(40, 8).sqe(opcode::WRITE, 1), pattern(43, 8 * 4096));
    let cid = io.submit(write.placed(Placement::Solicited))?;
    let r2t = io.next_r2t()?;
    let begin = usize::try_from(r2t.r2to)?;
    let pdu = io.h2c_data(&r2t, begin, begin + 4096, false)?;
    io.connection().send(&holdfast_testkit::wire::Pdu::H2cData(pdu))?;
    let abort = session.admin().abort(1, cid)?;
    ensure!(aborted(&abort)?, "a write with part of its data was not aborted");
    let io = session.io(1);
    status(&io.wait(cid)?, code::ABORT_REQUESTED)?;
    io.hold_r2ts(false);
    let back = io.read(1, &Io::at(40, 8), old.len())?.ok()?.data;
    ensure!(back == old, "part of an aborted write was stored");
    Ok(())
}

fn pair_on(slba: u64, expected: &[u8], new: &[u8]) -> (Command, Command) {
    let at = Io::at(slba, 1);
    let compare = Command::with_data(at.sqe(opcode::COMPARE, 1), expected.to_vec());
    let write = Command::with_data(at.sqe(opcode::WRITE, 1), new.to_vec());
    (compare.fused(1), write.fused(2))
}

/// A first half that waits for its second is a command like others.
fn a_lone_first_half_is_aborted(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let old = pattern(44, 4096);
    done(&session.io(1).write(1, &Io::at(60, 1), &old)?)?;
    let (compare, write) = pair_on(60, &old, &pattern(45, 4096));
    let lone = session.io(1).submit(compare)?;
    ensure!(aborted(&session.admin().abort(1, lone)?)?, "a waiting first half was not aborted");
    status(&session.io(1).wait(lone)?, code::ABORT_REQUESTED)?;
    // Its second half has lost its first.
    let completion = session.io(1).run(write)?;
    status_among(&completion, &[code::FUSED_ABORTED, code::FUSED_MISSING])?;
    let back = session.io(1).read(1, &Io::at(60, 1), 4096)?.ok()?.data;
    ensure!(back == old, "half a pair wrote");
    Ok(())
}

/// With the Compare gone the Write is not done either.
fn a_pair_that_waits_for_data_is_aborted(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let old = pattern(46, 4096);
    done(&session.io(1).write(1, &Io::at(61, 1), &old)?)?;
    let (compare, write) = pair_on(61, &old, &pattern(47, 4096));
    let io = session.io(1);
    io.hold_r2ts(true);
    let first = io.submit(compare.placed(Placement::Solicited))?;
    let second = io.submit(write.placed(Placement::Solicited))?;
    // Both halves are asked for their data.
    let asked = [io.next_r2t()?, io.next_r2t()?];
    ensure!(aborted(&session.admin().abort(1, first)?)?, "a waiting Compare was not aborted");
    let io = session.io(1);
    status(&io.wait(first)?, code::ABORT_REQUESTED)?;
    // The Write may end when its data has come.
    for r2t in asked.iter().filter(|r2t| r2t.cccid == second) {
        if io.in_flight().any(|cid| cid == second) {
            io.answer_r2t(r2t)?;
        }
    }
    status_among(&io.wait(second)?, &[code::FUSED_ABORTED, code::ABORT_REQUESTED])?;
    io.hold_r2ts(false);
    let back = io.read(1, &Io::at(61, 1), 4096)?.ok()?.data;
    ensure!(back == old, "an aborted pair wrote");
    Ok(())
}

fn abort_command(lab: &mut Lab, command: Command) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let old = pattern(48, 8 * 4096);
    done(&session.io(1).write(1, &Io::at(70, 8), &old)?)?;
    let io = session.io(1);
    io.hold_r2ts(true);
    let cid = io.submit(command.placed(Placement::Solicited))?;
    io.next_r2t()?;
    ensure!(aborted(&session.admin().abort(1, cid)?)?, "a command that waits for its data was not aborted");
    let io = session.io(1);
    status(&io.wait(cid)?, code::ABORT_REQUESTED)?;
    io.hold_r2ts(false);
    let back = io.read(1, &Io::at(70, 8), old.len())?.ok()?.data;
    ensure!(back == old, "an aborted command changed blocks");
    Ok(())
}

fn a_copy_that_waits_for_its_list_is_aborted(lab: &mut Lab) -> Result<()> {
    let copy = Copy::new(0, 70, &[SourceRange::at(0, 8)]);
    abort_command(lab, Command::with_data(copy.sqe(1), copy.data()))
}

fn a_deallocation_that_waits_is_aborted(lab: &mut Lab) -> Result<()> {
    let mut range = vec![0; 16];
    if let Some([blocks, _, _, _, slba, ..]) = range.get_mut(4..) {
        (*blocks, *slba) = (8, 70);
    }
    let sqe = Sqe::new(opcode::DATASET_MANAGEMENT).with_nsid(1).cdw(11, 4);
    abort_command(lab, Command::with_data(sqe, range))
}

/// More than ACL at once may be refused for that; none is lost.
fn many_aborts_are_all_answered(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let cid = waiting(&mut session, opcode::WRITE)?;
    let abort = |cid: u16| Command::bare(Sqe::new(opcode::ABORT).cdw(10, u32::from(cid) << 16 | 1));
    let admin = session.admin();
    let aborts = (0..20_u16)
        .map(|other| admin.submit(abort(if other == 10 { cid } else { 0x4000 + other })))
        .collect::<Result<Vec<_>, _>>()?;
    for (number, sent) in aborts.into_iter().enumerate() {
        let completion = admin.wait(sent)?;
        status_among(&completion, &[code::SUCCESS, code::ABORT_LIMIT_EXCEEDED])?;
        let was = completion.status().is_success() && !bit(completion.cqe.dw0, 0);
        ensure!(!was || number == 10, "Abort {number} aborted something");
    }
    Ok(())
}

fn the_queue_works_on(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for round in 0..20 {
        let cid = waiting(&mut session, opcode::WRITE)?;
        ensure!(aborted(&session.admin().abort(1, cid)?)?, "round {round}: not aborted");
        let io = session.io(1);
        status(&io.wait(cid)?, code::ABORT_REQUESTED)?;
        io.hold_r2ts(false);
        let data = pattern(round, 16 * 4096);
        done(&io.write(1, &Io::at(0, 16), &data)?)?;
        let back = io.read(1, &Io::at(0, 16), data.len())?.ok()?.data;
        ensure!(back == data, "round {round}: other data after an abort");
    }
    Ok(())
}

fn the_same_cid_of_another_queue_stays(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    let cid = waiting(&mut session, opcode::WRITE)?;
    not_aborted(&session.admin().abort(2, cid)?)?;
    ensure!(session.io(1).poll()?.is_none(), "the command of queue 1 ended");
    ensure!(aborted(&session.admin().abort(1, cid)?)?, "not aborted on its own queue");
    status(&session.io(1).wait(cid)?, code::ABORT_REQUESTED)
}

fn other_controllers_are_out_of_reach(lab: &mut Lab) -> Result<()> {
    let mut victim = lab.session(Options::default())?;
    let cid = waiting(&mut victim, opcode::WRITE)?;
    let mut other = lab.session(Options::default())?;
    not_aborted(&other.admin().abort(1, cid)?)?;
    done(&victim.admin().keep_alive()?)?;
    ensure!(victim.io(1).poll()?.is_none(), "another controller's Abort ended the command");
    Ok(())
}
