//! The submission queue's head. NVMe Base 2.1 §3.3.2.5 "Submission Queue Flow Control Negotiation", §3.3.2.6 "Submission
//! Queue Flow Control", §3.3.2.7 "Submission Queue Head Pointer Update Optimization".

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Pdu, Sqe, opcode};
use holdfast_testkit::{Command, ConnectCommand, Connection, Error, Io, Options, Placement, Queue, Session};

use crate::{Case, Lab, check};

const NEGOTIATION: &str = "NVMe Base 2.1 §3.3.2.5 \"Submission Queue Flow Control Negotiation\"";
const FLOW: &str = "NVMe Base 2.1 §3.3.2.6 \"Submission Queue Flow Control\"";
const OPTIMIZATION: &str = "NVMe Base 2.1 §3.3.2.7 \"Submission Queue Head Pointer Update Optimization\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.flow.enabled", NEGOTIATION, it_is_on_unless_the_host_asks),
    Case::new("transport.flow.sequence", FLOW, the_head_moves_by_one_for_each_command),
    Case::new("transport.flow.wrap", FLOW, the_head_wraps_at_the_queue_size),
    Case::new("transport.flow.admin-wrap", FLOW, the_admin_queues_head_wraps_too),
    Case::new("transport.flow.smallest-queue", FLOW, a_queue_of_two_entries_works),
    Case::new("transport.flow.full-depth", FLOW, a_queue_takes_one_command_less_than_its_size),
    Case::new("transport.flow.never-ahead", FLOW, the_head_never_is_ahead_of_what_was_sent),
    Case::new("transport.flow.updates", OPTIMIZATION, successful_reads_tell_the_head_often_enough),
    Case::new("transport.flow.disabled", NEGOTIATION, a_host_can_have_it_off),
    Case::new("transport.flow.disabled-zero", NEGOTIATION, without_it_the_head_is_zero),
    Case::new("transport.flow.disabled-admin", NEGOTIATION, the_admin_queue_can_have_it_off),
    Case::new(
        "transport.flow.disabled-overrun",
        NEGOTIATION,
        without_it_too_many_commands_end_the_association,
    ),
    Case::new("transport.flow.per-queue", NEGOTIATION, each_queue_negotiates_for_itself),
];

/// CATTR bit 2: the host asks for no flow control.
const NO_FLOW_CONTROL: u8 = 0x04;
/// What a controller answers that agrees.
const AGREED: u16 = 0xffff;

/// Connects one more queue of `entries` entries with these attributes; gives the queue and the SQHD of its Connect.
fn connected(lab: &Lab, session: &Session, qid: u16, entries: u16, cattr: u8) -> Result<(Queue, u16)> {
    let connect = session.connect_command().io(session.cntlid(), qid, entries - 1);
    let mut queue = Queue::new(lab.initialized(&holdfast_testkit::ConnectOptions::default())?, qid);
    let done = queue.connect(&ConnectCommand { cattr, ..connect })?.ok()?;
    queue.set_in_capsule_max(session.controller().in_capsule_max());
    Ok((queue, done.cqe.sqhd))
}

/// A session with room for more I/O queues.
fn session(lab: &mut Lab) -> Result<Session> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    session.admin().request_io_queues(8)?;
    Ok(session)
}

fn it_is_on_unless_the_host_asks(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    for qid in 1..=4 {
        let (_queue, sqhd) = connected(lab, &session, qid, 16, 0)?;
        ensure!(sqhd != AGREED, "the Connect of queue {qid} was answered as if flow control were off");
        ensure!(sqhd < 16, "SQHD {sqhd} in a queue of 16");
    }
    Ok(())
}

/// Demands that SQHD moves by one over `count` commands that run one by one.
fn steps(queue: &mut Queue, mut head: u16, entries: u16, count: usize, sqe: Sqe) -> Result<()> {
    for index in 0..count {
        let done = queue.run(Command::bare(sqe))?.ok()?;
        let expected = (head + 1) % entries;
        ensure!(done.cqe.sqhd == expected, "command {index}: SQHD {}, not {expected}", done.cqe.sqhd);
        head = done.cqe.sqhd;
    }
    Ok(())
}

fn flush() -> Sqe {
    Sqe::new(opcode::FLUSH).with_nsid(1)
}

fn the_head_moves_by_one_for_each_command(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    let (mut queue, head) = connected(lab, &session, 1, 128, 0)?;
    steps(&mut queue, head, 128, 50, flush())
}

fn the_head_wraps_at_the_queue_size(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    for (qid, entries) in [(1, 2), (2, 3), (3, 7), (4, 16), (5, 128)] {
        let (mut queue, head) = connected(lab, &session, qid, entries, 0)?;
        steps(&mut queue, head, entries, 300, flush()).with_context(|| format!("a queue of {entries}"))?;
    }
    Ok(())
}

fn the_admin_queues_head_wraps_too(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let first = session.admin().keep_alive()?.ok()?.cqe.sqhd;
    // The scripted host's Admin Queues have 32 entries.
    steps(session.admin(), first, 32, 100, Sqe::new(opcode::KEEP_ALIVE))
}

fn a_queue_of_two_entries_works(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    let (mut queue, _) = connected(lab, &session, 1, 2, 0)?;
    for round in 0..50 {
        queue.write(1, &Io::at(40, 16), &[round; 16 * 4096])?.ok()?;
        let back = queue.read(1, &Io::at(40, 16), 16 * 4096)?.ok()?.data;
        ensure!(back == [round; 16 * 4096], "round {round}");
    }
    Ok(())
}

fn a_queue_takes_one_command_less_than_its_size(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    for (qid, entries) in [(1, 4), (2, 32), (3, 128)] {
        let (mut queue, _) = connected(lab, &session, qid, entries, 0)?;
        for _ in 0..3 {
            let reads = (1..entries).map(|_| Command::reading(Io::at(40, 8).sqe(opcode::READ, 1), 8 * 4096));
            let cids = reads.map(|read| queue.submit(read)).collect::<Result<Vec<u16>, Error>>()?;
            for cid in cids {
                queue.wait(cid)?.ok()?;
            }
        }
    }
    Ok(())
}

fn the_head_never_is_ahead_of_what_was_sent(lab: &mut Lab) -> Result<()> {
    const ENTRIES: u16 = 32;
    let session = session(lab)?;
    let (queue, head) = connected(lab, &session, 1, ENTRIES, 0)?;
    let mut connection = queue.into_connection();
    let mut tail = head;
    for round in 0..20_u16 {
        for index in 0..ENTRIES - 1 {
            let sqe = flush().with_cid(round * ENTRIES + index).sgl_transport(0);
            connection.send(&Pdu::CapsuleCmd { sqe, data: Vec::new() })?;
        }
        let old = tail;
        tail = (tail + ENTRIES - 1) % ENTRIES;
        let mut last = old;
        for _ in 0..ENTRIES - 1 {
            let Pdu::CapsuleResp(cqe) = connection.recv()? else { bail!("no response") };
            let moved = (cqe.sqhd + ENTRIES - old) % ENTRIES;
            ensure!(moved < ENTRIES, "SQHD {} between {old} and {tail}", cqe.sqhd);
            let before = (last + ENTRIES - old) % ENTRIES;
            ensure!(moved >= before, "SQHD went back from {last} to {}", cqe.sqhd);
            last = cqe.sqhd;
        }
        ensure!(last == tail, "all {} commands ended, and SQHD is {last}, not {tail}", ENTRIES - 1);
    }
    Ok(())
}

/// A host that only reads must get to know the head before its queue is full.
fn successful_reads_tell_the_head_often_enough(lab: &mut Lab) -> Result<()> {
    const ENTRIES: u16 = 32;
    let session = session(lab)?;
    let (mut queue, _) = connected(lab, &session, 1, ENTRIES, 0)?;
    let mut silent = 0;
    for index in 0..200 {
        let done = queue.read(1, &Io::at(40, 1), 4096)?.ok()?;
        silent = if done.trace.success_flag { silent + 1 } else { 0 };
        ensure!(silent < ENTRIES - 1, "{silent} reads in a row told no SQHD (read {index})");
    }
    Ok(())
}

fn a_host_can_have_it_off(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    let (mut queue, sqhd) = connected(lab, &session, 1, 16, NO_FLOW_CONTROL)?;
    check::same("SQHD of the Connect", sqhd, AGREED)?;
    for round in 0..100 {
        queue.write(1, &Io::at(41, 1), &[round; 4096])?.ok()?;
        ensure!(queue.read(1, &Io::at(41, 1), 4096)?.ok()?.data == [round; 4096], "round {round}");
    }
    Ok(())
}

fn without_it_the_head_is_zero(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    let (mut queue, _) = connected(lab, &session, 1, 16, NO_FLOW_CONTROL)?;
    for _ in 0..20 {
        check::same("SQHD", queue.flush(1)?.ok()?.cqe.sqhd, 0)?;
        check::same("SQHD", queue.write(1, &Io::at(40, 1), &[1; 4096])?.ok()?.cqe.sqhd, 0)?;
    }
    Ok(())
}

fn the_admin_queue_can_have_it_off(lab: &mut Lab) -> Result<()> {
    let share = lab.share(crate::Format::STANDARD)?;
    let nqn = lab.admit("plain", &share, crate::View::Plain)?;
    let connect = ConnectCommand::admin(&nqn, holdfast_testkit::host_id_of(&nqn), &share.nqn);
    let mut admin = Queue::new(lab.initialized(&holdfast_testkit::ConnectOptions::default())?, 0);
    let done = admin.connect(&ConnectCommand { cattr: NO_FLOW_CONTROL, ..connect })?.ok()?;
    check::same("SQHD of the Connect", done.cqe.sqhd, AGREED)?;
    admin.enable()?;
    check::same("SQHD", admin.keep_alive()?.ok()?.cqe.sqhd, 0)
}

/// Writes that wait for data are outstanding for as long as the host likes. Linux is known to have one command more than
/// the rule allows, so the queue is overrun by far.
fn without_it_too_many_commands_end_the_association(lab: &mut Lab) -> Result<()> {
    const ENTRIES: u16 = 4;
    let mut session = session(lab)?;
    let (mut queue, _) = connected(lab, &session, 1, ENTRIES, NO_FLOW_CONTROL)?;
    queue.hold_r2ts(true);
    for index in 0..ENTRIES * 3 {
        let sqe = Io::at(3500 + u64::from(index) * 8, 8).sqe(opcode::WRITE, 1);
        queue.submit(Command::with_data(sqe, vec![1; 8 * 4096]).placed(Placement::Solicited))?;
    }
    ends(queue.connection()).context("the I/O queue")?;
    ends(session.admin().connection()).context("the Admin Queue")
}

fn ends(connection: &mut Connection) -> Result<()> {
    Ok(connection.expect_close()?)
}

fn each_queue_negotiates_for_itself(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    let (mut with, head) = connected(lab, &session, 1, 8, 0)?;
    let (mut without, sqhd) = connected(lab, &session, 2, 8, NO_FLOW_CONTROL)?;
    check::same("SQHD of the Connect", sqhd, AGREED)?;
    for _ in 0..10 {
        check::same("SQHD without", without.flush(1)?.ok()?.cqe.sqhd, 0)?;
    }
    steps(&mut with, head, 8, 20, flush())
}
